//! Recording rules: what the fleet's dashboard and the alerts share.
//!
//! Names are `level:metric:operation`. The level is what a series stands for: a `device` or an `interface` of a domain, a
//! `domain` on a host, an `instance`, which is a host. No series has a label `job`: see `jobs`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::jobs::{across_jobs, once};

/// For what costs much and need not be known within a minute; below five minutes, after which Prometheus takes a series for gone.
pub(crate) const SLOW: Option<&str> = Some("3m");

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
        Group { name: "libvirt-domains", interval: None, rules: domains() },
        Group { name: "libvirt-hosts", interval: None, rules: hosts() },
        Group { name: "libvirt-limits", interval: SLOW, rules: limits() },
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

fn domains() -> Vec<Rule> {
    let both = |kinds: [&str; 2]| {
        let [one, other] = kinds.map(|kind| format!("rate(libvirt_domain_{kind}_total[5m])"));
        once(&format!("{one} + {other}"))
    };
    // Jobs that both have a vCPU have the same rate of it, and as many vCPUs.
    let of_vcpus = |what: &str| format!("avg without (job, vcpu) (rate(libvirt_domain_vcpu_{what}_seconds_total[5m]))");
    let p99 = |kind: &str| {
        once(&format!("histogram_quantile(0.99, rate(libvirt_domain_block_{kind}_latency_seconds_bucket[5m])) >= 0"))
    };
    vec![
        // CPUs that the domain kept busy.
        record("domain:libvirt_domain_cpu_time:rate5m", "rate(libvirt_domain_cpu_time_seconds_total[5m])"),
        // Shares of the vCPUs' time: computing, and waiting for a CPU.
        record("domain:libvirt_domain_vcpu_time:ratio_rate5m", &of_vcpus("time")),
        record("domain:libvirt_domain_vcpu_delay:ratio_rate5m", &of_vcpus("delay")),
        record(
            "domain:libvirt_domain_memory_usable:ratio",
            &once("libvirt_domain_memory_usable_bytes / libvirt_domain_memory_available_bytes"),
        ),
        record(
            "domain:libvirt_domain_memory_swap_bytes:rate5m",
            &both(["memory_swap_in_bytes", "memory_swap_out_bytes"]),
        ),
        record("device:libvirt_domain_block_requests:rate5m", &both(["block_read_requests", "block_write_requests"])),
        record(
            "device:libvirt_domain_block_time:rate5m",
            &both(["block_read_time_seconds", "block_write_time_seconds"]),
        ),
        // A device without requests has no latency.
        record(
            "device:libvirt_domain_block_latency_seconds:mean5m",
            "device:libvirt_domain_block_time:rate5m / (device:libvirt_domain_block_requests:rate5m > 0)",
        ),
        record("device:libvirt_domain_block_read_latency_seconds:p99_5m", &p99("read")),
        record("device:libvirt_domain_block_write_latency_seconds:p99_5m", &p99("write")),
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
            &format!("sum without (interface) ({})", both(["interface_receive_bytes", "interface_transmit_bytes"])),
        ),
        record(
            "interface:libvirt_domain_interface_drops:rate5m",
            &both(["interface_receive_drops", "interface_transmit_drops"]),
        ),
        // A packet that was dropped has not been counted as received or sent.
        record(
            "interface:libvirt_domain_interface_drops:ratio_rate5m",
            &format!(
                "interface:libvirt_domain_interface_drops:rate5m / \
                 (interface:libvirt_domain_interface_drops:rate5m + {} > 0)",
                both(["interface_receive_packets", "interface_transmit_packets"])
            ),
        ),
    ]
}

/// Domains that are shut off have sizes with `inactive_domains: all`, but take nothing of the host.
fn not_off() -> String {
    format!("unless on (instance, domain, uuid) {}", once("libvirt_domain_state{state=\"shutoff\"} == 1"))
}

fn hosts() -> Vec<Rule> {
    vec![
        record(
            "instance:libvirt_domain_vcpus:sum",
            &format!("sum without (domain, uuid) (libvirt_domain_vcpus_current {})", not_off()),
        ),
        record(
            "instance:libvirt_domain_memory_current_bytes:sum",
            &format!("sum without (domain, uuid) (libvirt_domain_memory_current_bytes {})", not_off()),
        ),
        record(
            "instance:libvirt_domain_memory_rss_bytes:sum",
            "sum without (domain, uuid) (libvirt_domain_memory_rss_bytes)",
        ),
        record(
            "instance:libvirt_domain_cpu_time:rate5m",
            "sum without (domain, uuid) (domain:libvirt_domain_cpu_time:rate5m)",
        ),
        // Over all vCPUs of the host, so that a large domain counts for more than a small one.
        record(
            "instance:libvirt_domain_vcpu_delay:ratio_rate5m",
            "avg without (job, domain, uuid, vcpu) (rate(libvirt_domain_vcpu_delay_seconds_total[5m]))",
        ),
        record(
            "instance:libvirt_domain_block_requests:rate5m",
            "sum without (domain, uuid) (domain:libvirt_domain_block_requests:rate5m)",
        ),
        record(
            "instance:libvirt_domain_block_latency_seconds:mean5m",
            "sum without (device, domain, uuid) (device:libvirt_domain_block_time:rate5m) / \
                 (instance:libvirt_domain_block_requests:rate5m > 0)",
        ),
        record(
            "instance:libvirt_domain_interface_bytes:rate5m",
            "sum without (domain, uuid) (domain:libvirt_domain_interface_bytes:rate5m)",
        ),
        record("instance:libvirt_cpu_overcommit:ratio", "instance:libvirt_domain_vcpus:sum / libvirt_host_cpus"),
        record(
            "instance:libvirt_memory_overcommit:ratio",
            "instance:libvirt_domain_memory_current_bytes:sum / libvirt_host_memory_bytes",
        ),
    ]
}

fn limits() -> Vec<Rule> {
    let quota = |of: &str| once(&format!("libvirt_domain_{of}_quota_seconds / libvirt_domain_{of}_period_seconds"));
    vec![
        // How much of its quota the busiest vCPU uses, or the domain of its own; no series without a quota.
        record(
            "domain:libvirt_domain_cpu_quota:ratio_rate5m",
            &format!(
                "max without (job, vcpu) (rate(libvirt_domain_vcpu_time_seconds_total[5m])) / {} or \
                     domain:libvirt_domain_cpu_time:rate5m / {}",
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
    ]
}
