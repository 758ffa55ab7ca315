//! Recording rules: what the fleet's dashboard and the alerts share.
//!
//! Names are `level:metric:operation`. The level is what a series stands for: a `device` or an `interface` of a domain, a
//! `domain` on a host, an `instance`, which is a host. No series has a label `job`: see `jobs`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::jobs::across_jobs;

/// Rules that are evaluated one after the other.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
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
    vec![Group { name: "libvirt-domains", rules: domains() }, Group { name: "libvirt-hosts", rules: hosts() }]
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
    vec![
        // CPUs that the domain kept busy.
        record("domain:libvirt_domain_cpu_time:rate5m", "rate(libvirt_domain_cpu_time_seconds_total[5m])"),
        // Shares of the vCPUs' time: computing, and waiting for a CPU.
        record(
            "domain:libvirt_domain_vcpu_time:ratio_rate5m",
            "avg without (vcpu) (rate(libvirt_domain_vcpu_time_seconds_total[5m]))",
        ),
        record(
            "domain:libvirt_domain_vcpu_delay:ratio_rate5m",
            "avg without (vcpu) (rate(libvirt_domain_vcpu_delay_seconds_total[5m]))",
        ),
        record(
            "domain:libvirt_domain_memory_usable:ratio",
            "libvirt_domain_memory_usable_bytes / libvirt_domain_memory_available_bytes",
        ),
        record(
            "domain:libvirt_domain_memory_swap_bytes:rate5m",
            "rate(libvirt_domain_memory_swap_in_bytes_total[5m]) + \
                 rate(libvirt_domain_memory_swap_out_bytes_total[5m])",
        ),
        record(
            "device:libvirt_domain_block_requests:rate5m",
            "rate(libvirt_domain_block_read_requests_total[5m]) + rate(libvirt_domain_block_write_requests_total[5m])",
        ),
        record(
            "device:libvirt_domain_block_time:rate5m",
            "rate(libvirt_domain_block_read_time_seconds_total[5m]) + \
                 rate(libvirt_domain_block_write_time_seconds_total[5m])",
        ),
        // A device without requests has no latency.
        record(
            "device:libvirt_domain_block_latency_seconds:mean5m",
            "device:libvirt_domain_block_time:rate5m / (device:libvirt_domain_block_requests:rate5m > 0)",
        ),
        record(
            "device:libvirt_domain_block_read_latency_seconds:p99_5m",
            "histogram_quantile(0.99, rate(libvirt_domain_block_read_latency_seconds_bucket[5m])) >= 0",
        ),
        record(
            "device:libvirt_domain_block_write_latency_seconds:p99_5m",
            "histogram_quantile(0.99, rate(libvirt_domain_block_write_latency_seconds_bucket[5m])) >= 0",
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
            "sum without (interface) (rate(libvirt_domain_interface_receive_bytes_total[5m]) + \
                 rate(libvirt_domain_interface_transmit_bytes_total[5m]))",
        ),
        record(
            "interface:libvirt_domain_interface_drops:rate5m",
            "rate(libvirt_domain_interface_receive_drops_total[5m]) + \
                 rate(libvirt_domain_interface_transmit_drops_total[5m])",
        ),
        // A packet that was dropped has not been counted as received or sent.
        record(
            "interface:libvirt_domain_interface_drops:ratio_rate5m",
            "interface:libvirt_domain_interface_drops:rate5m / \
                 (interface:libvirt_domain_interface_drops:rate5m + \
                 rate(libvirt_domain_interface_receive_packets_total[5m]) + \
                 rate(libvirt_domain_interface_transmit_packets_total[5m]) > 0)",
        ),
    ]
}

/// Domains that are shut off have sizes with `inactive_domains: all`, but take nothing of the host.
const NOT_OFF: &str = "unless on (instance, domain, uuid) libvirt_domain_state{state=\"shutoff\"} == 1";

fn hosts() -> Vec<Rule> {
    vec![
        record(
            "instance:libvirt_domain_vcpus:sum",
            &format!("sum without (domain, uuid) (libvirt_domain_vcpus_current {NOT_OFF})"),
        ),
        record(
            "instance:libvirt_domain_memory_current_bytes:sum",
            &format!("sum without (domain, uuid) (libvirt_domain_memory_current_bytes {NOT_OFF})"),
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
            "avg without (domain, uuid, vcpu) (rate(libvirt_domain_vcpu_delay_seconds_total[5m]))",
        ),
        record(
            "instance:libvirt_domain_block_requests:rate5m",
            "sum without (domain, uuid) (domain:libvirt_domain_block_requests:rate5m)",
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
