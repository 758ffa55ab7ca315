//! Expressions for what may be wrong with guests and pools: from the recording rules, or from the exporter's metrics.

use super::guests::latency;
use crate::rules::{self, GROWS, ON_DEVICE, READ_ONLY, told_apart};
use crate::thresholds as limit;

/// Where the numbers of all guests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The recording rules: for thousands of guests.
    Rules,
    /// The exporter's metrics: for a host, without any rule.
    Metrics,
}

/// The numbers of which some are bad, by labels that tell guests and their parts apart.
pub(super) struct Numbers {
    /// Shares of their time in which vCPUs had no CPU, by the host or by a quota.
    pub(super) delay: String,
    pub(super) steal: String,
    pub(super) quota: String,
    pub(super) throttle: String,
    /// Requests of disks, which a disk that is slow has.
    pub(super) requests: String,
    pub(super) slow: String,
    pub(super) image: String,
    pub(super) file_system: String,
    pub(super) memory: String,
}

impl Numbers {
    pub(super) fn of(selector: &str, source: Source) -> Self {
        let recorded = |name: &str| format!("{name}{{{selector}}}");
        match source {
            Source::Rules => Self {
                delay: recorded("domain:libvirt_domain_vcpu_delay:ratio_rate5m"),
                steal: steal(selector),
                quota: recorded("domain:libvirt_domain_cpu_quota:ratio_rate5m"),
                throttle: recorded("device:libvirt_domain_block_throttle:ratio_rate5m"),
                requests: recorded("device:libvirt_domain_block_requests:rate5m"),
                slow: format!(
                    "{} and {} > {}",
                    recorded("device:libvirt_domain_block_latency_seconds:mean5m"),
                    recorded("device:libvirt_domain_block_requests:rate5m"),
                    limit::BLOCK_LATENCY_MIN_REQUESTS
                ),
                image: recorded("device:libvirt_domain_block_thin_image:ratio"),
                file_system: recorded("mountpoint:libvirt_domain_guest_filesystem_used:ratio"),
                memory: format!("1 - {}", recorded("domain:libvirt_domain_memory_usable:ratio")),
            },
            Source::Metrics => Self {
                delay: delay("instance, domain", selector),
                steal: steal_of("instance, domain", selector),
                quota: quota_use(selector),
                throttle: throttle_use(selector),
                requests: format!("rate(libvirt_domain_block_read_requests_total{{{selector}}}[%rate])"),
                slow: format!(
                    "{} and sum by (instance, domain, device) (rate(libvirt_domain_block_read_requests_total{{%domain}}[%rate]) + \
                     rate(libvirt_domain_block_write_requests_total{{%domain}}[%rate])) > {}",
                    latency("instance, domain, device"),
                    limit::BLOCK_LATENCY_MIN_REQUESTS
                )
                .replace("%domain", selector),
                image: image_use(selector),
                file_system: file_system_use(selector),
                memory: format!(
                    "1 - libvirt_domain_memory_usable_bytes{{{selector}}} / \
                     libvirt_domain_memory_available_bytes{{{selector}}}"
                ),
            },
        }
    }
}

/// Steal of the guests that are not held back by a CPU quota, which takes the CPU away on purpose; from the recording rules.
pub(super) fn steal(selector: &str) -> String {
    format!(
        "(domain:libvirt_domain_vcpu_delay:ratio_rate5m{{{selector}}} unless on (instance, domain) ({}))",
        rules::at_quota(selector)
    )
}

/// The same by `by`, which has the domain, from the exporter's metrics.
pub(super) fn steal_of(by: &str, selector: &str) -> String {
    format!("{} unless {}", delay(by, selector), at_quota(by, selector))
}

/// Shares of their time in which the vCPUs had no CPU, be it by the host or by a quota.
pub(super) fn delay(by: &str, selector: &str) -> String {
    format!("avg by ({by}) (rate(libvirt_domain_vcpu_delay_seconds_total{{{selector}}}[%rate]))")
}

/// Which guests are held back by their CPU quotas, by `by`.
pub(super) fn at_quota(by: &str, selector: &str) -> String {
    let periods = |of: &str| format!("rate(libvirt_domain_cgroup_cpu_{of}periods_total{{{selector}}}[%rate])");
    format!(
        "(max by ({by}) ({}) > {} or max by ({by}) ({} / ({} > 0)) > {})",
        quota_use(selector),
        limit::QUOTA_STEALS,
        periods("throttled_"),
        periods(""),
        limit::THROTTLED
    )
}

/// Shares of their throttles that disks use, by instance, domain and device; more than 1 is a burst.
pub(super) fn throttle_use(selector: &str) -> String {
    let shares = ["bytes", "requests"].map(|unit| {
        let used = |kind: &str| format!("rate(libvirt_domain_block_{kind}_{unit}_total{{{selector}}}[%rate])");
        let [read, write] = ["read", "write"].map(used);
        let share = |used: &str, kind: &str| {
            format!(
                "max by (instance, domain, device) ({used} / \
                 libvirt_domain_block_throttle_{kind}_{unit}_per_second{{{selector}}})"
            )
        };
        [share(&read, "read"), share(&write, "write"), share(&format!("({read} + {write})"), "total")]
    });
    format!("max without (of) ({})", told_apart(&shares.concat()))
}

/// How many CPUs the quotas of guests allow them, by instance and domain: that of the whole guest, or those of its vCPUs together, if
/// that is less.
pub(super) fn cpus_allowed(selector: &str) -> String {
    let quota = |of: &str| {
        format!("libvirt_domain_{of}_quota_seconds{{{selector}}} / libvirt_domain_{of}_period_seconds{{{selector}}}")
    };
    let least = |allowed: &str| format!("min by (instance, domain) ({allowed})");
    let allowed =
        [least(&quota("cpu")), least(&format!("{} * libvirt_domain_vcpus_current{{{selector}}}", quota("vcpu")))];
    format!("min without (of) ({})", told_apart(&allowed))
}

/// Shares of their CPU quotas that guests use: of that of the whole guest, or of the busiest vCPU.
pub(super) fn quota_use(selector: &str) -> String {
    let share = |used: &str, quota: &str| {
        format!(
            "max by (instance, domain) ({used} / (libvirt_domain_{quota}_quota_seconds{{{selector}}} / \
             libvirt_domain_{quota}_period_seconds{{{selector}}}))"
        )
    };
    let vcpu = format!("max without (vcpu) (rate(libvirt_domain_vcpu_time_seconds_total{{{selector}}}[%rate]))");
    let shares = [
        share(&vcpu, "vcpu"),
        share(&format!("rate(libvirt_domain_cpu_time_seconds_total{{{selector}}}[%rate])"), "cpu"),
    ];
    format!("max without (of) ({})", told_apart(&shares))
}

/// How full thin images are, by instance, domain and device: a file grows with what is written into it, and only a device of the
/// host has a size of its own.
pub(super) fn image_use(selector: &str) -> String {
    format!(
        "max by (instance, domain, device) (libvirt_domain_block_allocation_bytes{{{selector}}} / \
         (libvirt_domain_block_physical_bytes{{{selector}}} < (libvirt_domain_block_capacity_bytes{{{selector}}} and on \
         (instance, domain, device) libvirt_domain_block_info{{{selector},{ON_DEVICE}}})))"
    )
}

/// How full the file systems of guests are, by instance, domain and mountpoint; those that cannot be written to are no trouble.
pub(super) fn file_system_use(selector: &str) -> String {
    format!(
        "max by (instance, domain, mountpoint) (libvirt_domain_guest_filesystem_used_bytes{{{selector}}} / \
         (libvirt_domain_guest_filesystem_size_bytes{{{selector}}} > 0)) unless on (instance, domain, mountpoint) \
         libvirt_domain_guest_filesystem_info{{{selector},{READ_ONLY}}}"
    )
}

/// How full the storage pools are that guests fill, by instance and pool.
pub(super) fn pool_use(source: Source) -> String {
    match source {
        Source::Rules => "max by (instance, pool) (pool:libvirt_pool_used:ratio{%host})".to_owned(),
        Source::Metrics => format!(
            "max by (instance, pool) (1 - libvirt_pool_available_bytes{{%host}} / (libvirt_pool_capacity_bytes{{%host}} > 0)) \
             and on (instance, pool) libvirt_pool_info{{%host,{GROWS}}}"
        ),
    }
}
