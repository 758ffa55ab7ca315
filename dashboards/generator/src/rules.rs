//! Recording rules: what the fleet's dashboard and the alerts share.
//!
//! Names are `level:metric:operation`. The level is what a series stands for: a `device` or an `interface` of a domain, a
//! `domain` on a host, an `instance`, which is a host. No series has a label `job` (see `jobs`) but the one about jobs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::jobs::{across_jobs, once};
use crate::thresholds as limit;

/// For rates over five minutes and what is made of them: each sample is in two rounds at least.
pub(crate) const RATES: Option<&str> = Some("2m");

/// For what lasts, and for what most guests do not have. Below five minutes, after which Prometheus takes a series for gone.
pub(crate) const SLOW: Option<&str> = Some("4m");

/// Rules that are evaluated one after the other.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// How often they are evaluated, where that is not Prometheus' `evaluation_interval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<&'static str>,
    /// In this order.
    pub rules: Vec<Rule>,
}

/// A recording rule, or an alert.
#[derive(Debug, Serialize)]
pub struct Rule {
    /// The name of the series that it records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<&'static str>,
    /// The alert's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<&'static str>,
    /// What is recorded, or wrong.
    pub expr: String,
    /// How long it has to be so.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<&'static str>,
    /// `severity`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<&'static str, String>,
    /// `summary`, `description`, `runbook_url`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<&'static str, String>,
}

/// The recording rules.
#[must_use]
pub fn groups() -> Vec<Group> {
    vec![
        Group { name: "libvirt-domains", interval: RATES, rules: domains() },
        Group { name: "libvirt-limits", interval: SLOW, rules: limits() },
        Group { name: "libvirt-hosts", interval: RATES, rules: hosts() },
        Group { name: "libvirt-space", interval: RATES, rules: space() },
        Group { name: "libvirt-guests", interval: SLOW, rules: guests() },
    ]
}

/// A file of rules for Prometheus.
#[must_use]
pub fn to_yaml(groups: &[Group]) -> String {
    #[derive(Serialize)]
    struct Groups<'a> {
        groups: &'a [Group],
    }
    let yaml = serde_yaml::to_string(&Groups { groups }).unwrap_or_default();
    format!(
        "# Written by `cargo run -p dashboards`, with the numbers of dashboards/generator/src/thresholds.rs.\n{yaml}"
    )
}

fn record(name: &'static str, expression: &str) -> Rule {
    let expr = across_jobs(expression);
    Rule { record: Some(name), alert: None, expr, lasting: None, labels: BTreeMap::new(), annotations: BTreeMap::new() }
}

/// The labels that say which domain.
pub(crate) const DOMAIN: &str = "instance, domain, uuid";

/// Images on a device of the host.
pub(crate) const ON_DEVICE: &str = "path=~\"/dev/.+\"";
/// Pools that fill up: volumes of the other types have their size from the start, so that a pool may be full for years.
pub(crate) const GROWS: &str = "pool_type!~\"disk|iscsi|iscsi-direct|logical|mpath|scsi\"";
/// File systems that are full from the start.
pub(crate) const READ_ONLY: &str = "fstype=~\"(?i:iso9660|cdfs|udf|squashfs|erofs|cramfs)\"";

/// The rate of two counters of one group together.
fn both(kinds: [&str; 2]) -> String {
    let [one, other] = kinds.map(|kind| format!("rate(libvirt_domain_{kind}_total[5m])"));
    format!("{one} + {other}")
}

fn domains() -> Vec<Rule> {
    vec![
        // CPUs that the domain kept busy.
        record("domain:libvirt_domain_cpu_time:rate5m", "rate(libvirt_domain_cpu_time_seconds_total[5m])"),
        // Share of the vCPUs' time in which they waited for a CPU. Jobs that both have a vCPU have the same rate of it.
        record(
            "domain:libvirt_domain_vcpu_delay:ratio_rate5m",
            "avg without (job, vcpu) (rate(libvirt_domain_vcpu_delay_seconds_total[5m]))",
        ),
        record(
            "domain:libvirt_domain_memory_usable:ratio",
            &once("libvirt_domain_memory_usable_bytes / libvirt_domain_memory_available_bytes"),
        ),
        record(
            "device:libvirt_domain_block_requests:rate5m",
            &once(&both(["block_read_requests", "block_write_requests"])),
        ),
        record(
            "device:libvirt_domain_block_time:rate5m",
            &once(&both(["block_read_time_seconds", "block_write_time_seconds"])),
        ),
        // A device without requests has no latency.
        record(
            "device:libvirt_domain_block_latency_seconds:mean5m",
            "device:libvirt_domain_block_time:rate5m / (device:libvirt_domain_block_requests:rate5m > 0)",
        ),
        record(
            "domain:libvirt_domain_block_requests:rate5m",
            "sum without (device) (device:libvirt_domain_block_requests:rate5m)",
        ),
        record(
            "domain:libvirt_domain_block_latency_seconds:mean5m",
            "sum without (device) (device:libvirt_domain_block_time:rate5m) / \
                 (domain:libvirt_domain_block_requests:rate5m > 0)",
        ),
        record(
            "domain:libvirt_domain_interface_bytes:rate5m",
            &once(&format!(
                "sum without (interface) ({})",
                both(["interface_receive_bytes", "interface_transmit_bytes"])
            )),
        ),
    ]
}

/// A series with the matchers of `selector`, which may be empty.
fn matched(series: &str, selector: &str) -> String {
    if selector.is_empty() { series.to_owned() } else { format!("{series}{{{selector}}}") }
}

/// The domains whose steal is that of their CPU quota.
pub(crate) fn at_quota(selector: &str) -> String {
    format!(
        "{} > {} or {} > {}",
        matched("domain:libvirt_domain_cpu_quota:ratio_rate5m", selector),
        limit::QUOTA_STEALS,
        matched("domain:libvirt_domain_cpu_throttled_periods:ratio_rate5m", selector),
        limit::THROTTLED
    )
}

/// The jobs that scrape exporters. The rule remembers those of which none answers any more, as their series are gone; without the
/// rule they are those of which one answers. A job that has never had a `libvirt_up` scrapes something else.
const JOBS: &str = "group by (job) (libvirt_up) or on (job) job:libvirt_up:group";

/// Whether each exporter answers: 1 if each job that asks it gets an answer.
pub(crate) fn answers(selector: &str) -> String {
    format!("min without (job) ({} and on (job) ({JOBS}))", matched("up", selector))
}

fn hosts() -> Vec<Rule> {
    // Domains that are shut off have sizes with `inactive_domains: all`, but take nothing of the host.
    let given = |what: &str| {
        once(&format!(
            "sum without (domain, uuid) (libvirt_domain_{what} unless on ({DOMAIN}) \
                 max without (job) (libvirt_domain_state_reason_info{{state=\"shutoff\"}}))"
        ))
    };
    let all = |of: &str| format!("sum without (domain, uuid) ({of})");
    vec![
        record("instance:libvirt_domain_vcpus:sum", &given("vcpus_current")),
        record("instance:libvirt_domain_memory_current_bytes:sum", &given("memory_current_bytes")),
        record("instance:libvirt_domain_memory_rss_bytes:sum", &once(&all("libvirt_domain_memory_rss_bytes"))),
        record("instance:libvirt_domain_cpu_time:rate5m", &all("domain:libvirt_domain_cpu_time:rate5m")),
        // Over all vCPUs of the host, so that a large domain counts for more than a small one. From a domain at its quota it is
        // the quota that keeps the CPU, not the host: it counts as 0, so that a host of which all domains are at theirs has a number.
        record(
            "instance:libvirt_domain_vcpu_delay:ratio_rate5m",
            &format!(
                "{} / instance:libvirt_domain_vcpus:sum",
                once(&all(&format!(
                    "libvirt_domain_vcpus_current * on ({DOMAIN}) group_left () (domain:libvirt_domain_vcpu_delay:ratio_rate5m \
                         unless on ({DOMAIN}) ({}) or 0 * domain:libvirt_domain_vcpu_delay:ratio_rate5m)",
                    at_quota("")
                )))
            ),
        ),
        record("instance:libvirt_domain_block_requests:rate5m", &all("domain:libvirt_domain_block_requests:rate5m")),
        record(
            "instance:libvirt_domain_block_latency_seconds:mean5m",
            "sum without (device, domain, uuid) (device:libvirt_domain_block_time:rate5m) / \
                 (instance:libvirt_domain_block_requests:rate5m > 0)",
        ),
        record("instance:libvirt_domain_interface_bytes:rate5m", &all("domain:libvirt_domain_interface_bytes:rate5m")),
        record("instance:libvirt_cpu_overcommit:ratio", "instance:libvirt_domain_vcpus:sum / libvirt_host_cpus"),
        record(
            "instance:libvirt_memory_overcommit:ratio",
            "instance:libvirt_domain_memory_current_bytes:sum / libvirt_host_memory_bytes",
        ),
        // It remembers a job through an outage of Prometheus of up to a day.
        record(
            "job:libvirt_up:group",
            "group by (job) (libvirt_up) or on (job) last_over_time(job:libvirt_up:group[1d])",
        ),
    ]
}

/// How full what fills up is.
fn space() -> Vec<Rule> {
    vec![
        // A file grows with what is written into it; only a device of the host has a size of its own. These are picked
        // first: where all images are files, nothing is left to compare for the ten thousand disks of a fleet.
        record(
            "device:libvirt_domain_block_thin_image:ratio",
            &once(&format!(
                "libvirt_domain_block_allocation_bytes / (libvirt_domain_block_physical_bytes < \
                     (libvirt_domain_block_capacity_bytes and on (job, {DOMAIN}, device) \
                     libvirt_domain_block_info{{{ON_DEVICE}}}))"
            )),
        ),
        record(
            "pool:libvirt_pool_used:ratio",
            &once(&format!(
                "1 - libvirt_pool_available_bytes / (libvirt_pool_capacity_bytes > 0) and on (job, instance, pool) \
                     libvirt_pool_info{{{GROWS}}}"
            )),
        ),
    ]
}

/// How much guests use of what they may use. Most have no such limit: a rate meets the limits before it is merged.
fn limits() -> Vec<Rule> {
    let quota = |of: &str| once(&format!("libvirt_domain_{of}_quota_seconds / libvirt_domain_{of}_period_seconds"));
    let throttle = |limit: &str, unit: &str| once(&format!("libvirt_domain_block_throttle_{limit}_{unit}_per_second"));
    let share = |kind: &str, limit: &str, unit: &str| {
        once(&format!(
            "rate(libvirt_domain_block_{kind}_{unit}_total[5m]) / on ({DOMAIN}, device) group_left () {}",
            throttle(limit, unit)
        ))
    };
    let shares = [
        share("read", "read", "bytes"),
        share("write", "write", "bytes"),
        format!("{} + {}", share("read", "total", "bytes"), share("write", "total", "bytes")),
        share("read", "read", "requests"),
        share("write", "write", "requests"),
        format!("device:libvirt_domain_block_requests:rate5m / {}", throttle("total", "requests")),
    ];
    vec![
        // That of the busiest vCPU, or of the domain as a whole.
        record(
            "domain:libvirt_domain_cpu_quota:ratio_rate5m",
            &format!(
                "max without (job, vcpu) (rate(libvirt_domain_vcpu_time_seconds_total[5m]) / on ({DOMAIN}) \
                     group_left () {}) or domain:libvirt_domain_cpu_time:rate5m / {}",
                quota("vcpu"),
                quota("cpu")
            ),
        ),
        // In what share of the quota's periods QEMU was throttled; they are counted where there is a quota.
        record(
            "domain:libvirt_domain_cpu_throttled_periods:ratio_rate5m",
            &once(
                "rate(libvirt_domain_cgroup_cpu_throttled_periods_total[5m]) / \
                     (rate(libvirt_domain_cgroup_cpu_periods_total[5m]) > 0)",
            ),
        ),
        // That of the tightest throttle of a disk; more than 1 is a burst.
        record(
            "device:libvirt_domain_block_throttle:ratio_rate5m",
            &format!("max without (of) ({})", told_apart(&shares)),
        ),
    ]
}

/// Several numbers of the same thing, of which some may not be there: a label `of` tells them apart.
pub(crate) fn told_apart(numbers: &[String]) -> String {
    let told = numbers
        .iter()
        .enumerate()
        .map(|(index, number)| format!("label_replace({number}, \"of\", \"{index}\", \"\", \"\")"));
    told.collect::<Vec<_>>().join(" or ")
}

/// What guests suffer for long before anybody has to do something about it.
fn guests() -> Vec<Rule> {
    let p99 = |kind: &str| {
        once(&format!("histogram_quantile(0.99, rate(libvirt_domain_block_{kind}_latency_seconds_bucket[5m])) >= 0"))
    };
    let packets = |way: &str| {
        format!(
            "rate(libvirt_domain_interface_{way}_packets_total[5m]) / on ({DOMAIN}, interface) group_left () \
                 interface:libvirt_domain_interface_drops:rate5m"
        )
    };
    vec![
        record(
            "domain:libvirt_domain_memory_swap_bytes:rate5m",
            &once(&both(["memory_swap_in_bytes", "memory_swap_out_bytes"])),
        ),
        record("device:libvirt_domain_block_read_latency_seconds:p99_5m", &p99("read")),
        record("device:libvirt_domain_block_write_latency_seconds:p99_5m", &p99("write")),
        // An interface that drops nothing has neither.
        record(
            "interface:libvirt_domain_interface_drops:rate5m",
            &once(&format!("{} > 0", both(["interface_receive_drops", "interface_transmit_drops"]))),
        ),
        // A packet that was dropped has not been counted as received or sent.
        record(
            "interface:libvirt_domain_interface_drops:ratio_rate5m",
            &once(&format!("1 / (1 + {} + {})", packets("receive"), packets("transmit"))),
        ),
        record(
            "mountpoint:libvirt_domain_guest_filesystem_used:ratio",
            &once(&format!(
                "libvirt_domain_guest_filesystem_used_bytes / (libvirt_domain_guest_filesystem_size_bytes > 0) unless on \
                     (job, {DOMAIN}, mountpoint) \
                     libvirt_domain_guest_filesystem_info{{{READ_ONLY}}}"
            )),
        ),
    ]
}
