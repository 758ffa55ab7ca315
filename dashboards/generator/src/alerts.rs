//! Alerts. What each means and what to do about it stands in alerts/RUNBOOKS.md, below its name.

use std::collections::BTreeMap;

use crate::jobs::across_jobs;
use crate::rules::{Group, Rule};
use crate::thresholds as limit;

const RUNBOOKS: &str = "https://github.com/domstats-exporter/domstats-exporter/blob/main/alerts/RUNBOOKS.md";

/// All alerts.
#[must_use]
pub fn groups() -> Vec<Group> {
    vec![
        Group { name: "libvirt-alerts-exporter", rules: exporter() },
        Group { name: "libvirt-alerts-domains", rules: domains() },
        Group { name: "libvirt-alerts-guests", rules: guests() },
        Group { name: "libvirt-alerts-disks", rules: disks() },
        Group { name: "libvirt-alerts-network", rules: network() },
        Group { name: "libvirt-alerts-hosts", rules: hosts() },
    ]
}

/// An alert; `{domain}` in a text stands for the domain and its host.
fn alert(name: &'static str, severity: Severity, lasting: &'static str, expr: String, texts: [&str; 2]) -> Rule {
    let [summary, description] = texts.map(|text| {
        text.replace("{domain}", "{{ $labels.domain }} on {{ $labels.instance }}")
            .replace("{host}", "{{ $labels.instance }}")
    });
    Rule {
        record: None,
        alert: Some(name),
        expr: across_jobs(&expr),
        lasting: Some(lasting),
        labels: BTreeMap::from([("severity", severity.as_str().to_owned())]),
        annotations: BTreeMap::from([
            ("summary", summary),
            ("description", description),
            ("runbook_url", format!("{RUNBOOKS}#{}", name.to_lowercase())),
        ]),
    }
}

#[derive(Debug, Clone, Copy)]
enum Severity {
    Critical,
    Warning,
    Info,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

use Severity::{Critical, Info, Warning};

/// The labels that say which domain.
const DOMAIN: &str = "instance, domain, uuid";
/// The time in which an event counts as recent.
const RECENT: &str = "15m";

/// The recent growth of a counter that may be there only since the first event: then all of it is recent, unless the
/// exporter itself is new to Prometheus.
fn recent(counter: &str) -> String {
    format!(
        "increase({counter}[{RECENT}]) > 0 or ({counter} unless {counter} offset {RECENT} and on \
             (instance) libvirt_up offset {RECENT}) > 0"
    )
}

fn exporter() -> Vec<Rule> {
    vec![
        alert(
            "LibvirtExporterAbsent",
            Critical,
            "10m",
            "absent(libvirt_up)".into(),
            [
                "No libvirt exporter is scraped.",
                "Prometheus has no libvirt_up of any host. Its scrape job is gone, or none of its targets answers.",
            ],
        ),
        alert(
            "LibvirtExporterDown",
            Critical,
            "5m",
            // A job that has no libvirt_up at all scrapes something else.
            "min without (job) (up and on (job) group by (job) (libvirt_up)) == 0".into(),
            [
                "The libvirt exporter on {host} does not answer.",
                "Prometheus cannot scrape {host}: what its job asks for is not known of any domain.",
            ],
        ),
        alert(
            "LibvirtDown",
            Critical,
            "2m",
            "libvirt_up == 0".into(),
            [
                "libvirt on {host} cannot be reached.",
                "The exporter on {host} answers, but has no connection to libvirt. The domains may well be \
                 running.",
            ],
        ),
        alert(
            "LibvirtScrapeCloseToDeadline",
            Warning,
            "15m",
            format!(
                "avg_over_time(libvirt_exporter_collect_duration_seconds[5m]) > {}",
                limit::COLLECT_SECONDS.critical
            ),
            [
                "Collections on {host} take nearly as long as they may.",
                "A collection on {host} takes {{ $value | humanizeDuration }}; at collection.deadline or \
                     the scrape timeout, domains will be missing.",
            ],
        ),
        alert(
            "LibvirtEventsLost",
            Warning,
            "0m",
            format!("increase(libvirt_exporter_events_dropped_total[{RECENT}]) > 0"),
            [
                "Events of libvirt were lost on {host}.",
                "The exporter on {host} dropped {{ $value | humanize }} events of libvirt in the last 15 \
                     minutes; counts of events are too low.",
            ],
        ),
        alert(
            "LibvirtExporterConfigBad",
            Warning,
            "5m",
            "libvirt_exporter_config_last_reload_successful == 0".into(),
            [
                "The configuration of the exporter on {host} is wrong.",
                "The exporter on {host} could not reload its configuration and keeps the \
                     previous one; it will not start with this one.",
            ],
        ),
        alert(
            "LibvirtExporterOtlpFailing",
            Warning,
            "15m",
            "sum without (result) \
                 (rate(libvirt_exporter_otlp_exports_total{result!~\"success|partial\"}[10m])) > 0 unless sum \
                 without (result) (rate(libvirt_exporter_otlp_exports_total{result=~\"success|partial\"}[10m])) \
                 > 0"
            .into(),
            [
                "The exporter on {host} cannot push over OTLP.",
                "No export of {host} over OTLP succeeded in the last ten minutes.",
            ],
        ),
    ]
}

fn domains() -> Vec<Rule> {
    vec![
        alert(
            "LibvirtDomainCrashed",
            Critical,
            "0m",
            "libvirt_domain_state_reason_info{state=\"crashed\"} == 1 or \
                 libvirt_domain_state_reason_info{state=~\"shutoff|paused\",reason=\"crashed\"} == 1"
                .into(),
            [
                "The domain {domain} crashed.",
                "{domain} is {{ $labels.state }} because it crashed ({{ $labels.reason }}).",
            ],
        ),
        alert(
            "LibvirtDomainsCrashing",
            Warning,
            "0m",
            recent(
                "libvirt_host_lifecycle_events_total{event=~\"crashed|stopped\",detail=~\"panicked|crashloaded|crashed|failed\"}",
            ),
            [
                "Domains on {host} crash.",
                "libvirt on {host} reported {{ $value | humanize }} domains as {{ $labels.event }}: {{ \
                     $labels.detail }}, in the last 15 minutes; transient ones are gone by now.",
            ],
        ),
        alert(
            "LibvirtDomainPausedByIoError",
            Critical,
            "1m",
            "libvirt_domain_state_reason_info{state=\"paused\",reason=\"ioerror\"} == 1".into(),
            [
                "The domain {domain} is paused by an I/O error.",
                "A write of {domain} failed, and QEMU paused it. Most often the storage of an image is \
                 full.",
            ],
        ),
        alert(
            "LibvirtDomainPausedByFault",
            Critical,
            "1m",
            // KVM that gives up is an unknown reason to libvirt. Crashes and I/O errors have alerts of their own.
            "libvirt_domain_state_reason_info{state=\"paused\",reason=~\"unknown|watchdog|api_error|postcopy_failed\"} == 1"
                .into(),
            [
                "The domain {domain} is paused by a fault.",
                "{domain} is paused ({{ $labels.reason }}), which is not done on purpose, and does not go on by itself.",
            ],
        ),
        alert(
            "LibvirtDomainMigrationStalled",
            Warning,
            "5m",
            // What is left falls within each pass over the memory, and is more again at the next one: the most of it counts.
            format!(
                "libvirt_domain_job_running{{operation=\"migration_out\"}} == 1 and on ({DOMAIN}) \
                 max_over_time(libvirt_domain_job_memory_remaining_bytes[5m]) > {:?} * \
                 max_over_time(libvirt_domain_job_memory_remaining_bytes[5m] offset 5m)",
                limit::MIGRATION_STALLED
            ),
            [
                "The migration of {domain} makes no progress.",
                "The memory of {domain} that its migration has yet to transfer has not become less for ten minutes.",
            ],
        ),
        alert(
            "LibvirtDomainIoErrors",
            Warning,
            "0m",
            recent("libvirt_domain_block_io_errors_total"),
            [
                "The domain {domain} has I/O errors.",
                "{{ $labels.device }} of {domain} had {{ $value | humanize }} I/O errors in the last 15 \
                     minutes ({{ $labels.reason }}; {{ $labels.action }}).",
            ],
        ),
        alert(
            "LibvirtDomainQuarantined",
            Critical,
            "5m",
            "libvirt_domain_quarantined == 1".into(),
            [
                "QEMU of the domain {domain} does not answer.",
                "{domain} does not answer libvirt; its guest is likely frozen. The exporter leaves it \
                 alone until it does.",
            ],
        ),
        alert(
            "LibvirtAutostartDomainNotRunning",
            Warning,
            "10m",
            format!(
                "libvirt_domain_autostart == 1 and on ({DOMAIN}) \
                 libvirt_domain_state{{state=~\"shutoff|crashed\"}} == 1"
            ),
            [
                "The domain {domain} should run but does not.",
                "{domain} is to be started with its host (autostart), but is off.",
            ],
        ),
        alert(
            "LibvirtAgentLost",
            Info,
            "15m",
            // One that never was is not lost.
            format!(
                "libvirt_domain_agent_connected == 0 and \
                 max_over_time(libvirt_domain_agent_connected[6h:5m]) == 1 and on ({DOMAIN}) \
                 libvirt_domain_state{{state=\"running\"}} == 1"
            ),
            [
                "The guest agent of {domain} is gone.",
                "The guest agent of {domain} was connected within the last six hours and is not now: no \
                 quiesced snapshots, no addresses.",
            ],
        ),
    ]
}

fn guests() -> Vec<Rule> {
    let steal = |severity, value| {
        alert(
            "LibvirtDomainStealHigh",
            severity,
            "15m",
            format!("domain:libvirt_domain_vcpu_delay:ratio_rate5m > {value}"),
            [
                "The vCPUs of {domain} wait for a CPU.",
                "The vCPUs of {domain} are ready to run but have no CPU for {{ $value | \
                     humanizePercentage }} of the time.",
            ],
        )
    };
    let memory = |severity, value| {
        alert(
            "LibvirtDomainMemoryPressure",
            severity,
            "15m",
            format!("domain:libvirt_domain_memory_usable:ratio < {value}"),
            [
                "The guest {domain} is short of memory.",
                "The guest {domain} reports that it can use only {{ $value | humanizePercentage }} of its \
                     memory without swapping.",
            ],
        )
    };
    vec![
        steal(Warning, limit::STEAL.warning),
        steal(Critical, limit::STEAL.critical),
        memory(Warning, limit::MEMORY_USABLE.warning),
        memory(Critical, limit::MEMORY_USABLE.critical),
        alert(
            "LibvirtDomainAtCpuQuota",
            Info,
            "15m",
            format!(
                "max without (vcpu) (rate(libvirt_domain_vcpu_time_seconds_total[5m])) / \
                     (libvirt_domain_vcpu_quota_seconds / libvirt_domain_vcpu_period_seconds) > {limit:?} or \
                     rate(libvirt_domain_cpu_time_seconds_total[5m]) / \
                     (libvirt_domain_cpu_quota_seconds / libvirt_domain_cpu_period_seconds) > {limit:?}",
                limit = limit::AT_LIMIT
            ),
            [
                "The guest {domain} is at its CPU quota.",
                "{domain} uses {{ $value | humanizePercentage }} of the CPU time that its quota allows: it \
                     is held back.",
            ],
        ),
        alert(
            "LibvirtDomainSwapping",
            Warning,
            "15m",
            format!("domain:libvirt_domain_memory_swap_bytes:rate5m > {}", limit::SWAP.warning),
            ["The guest {domain} swaps.", "The guest {domain} swaps {{ $value | humanize1024 }}B/s in and out."],
        ),
    ]
}

fn disks() -> Vec<Rule> {
    let latency = |severity, value| {
        alert(
            "LibvirtBlockLatencyHigh",
            severity,
            "15m",
            format!(
                "device:libvirt_domain_block_latency_seconds:mean5m > {value} and \
                     device:libvirt_domain_block_requests:rate5m > {:?}",
                limit::BLOCK_LATENCY_MIN_REQUESTS
            ),
            [
                "The disk {{ $labels.device }} of {domain} is slow.",
                "A request to {{ $labels.device }} of {domain} takes {{ $value | humanizeDuration }} on average.",
            ],
        )
    };
    let thin = |name, severity, value, lasting, is: &str| {
        alert(
            name,
            severity,
            lasting,
            // A file grows with what is written into it; only a device of the host has a size of its own. These are picked
            // first: where all images are files, nothing is left to compare for the ten thousand disks of a fleet.
            format!(
                "libvirt_domain_block_allocation_bytes / (libvirt_domain_block_physical_bytes < \
                 (libvirt_domain_block_capacity_bytes and on ({DOMAIN}, device) \
                 libvirt_domain_block_info{{path=~\"/dev/.+\"}})) > {value}"
            ),
            [
                &format!("The device behind {{{{ $labels.device }}}} of {{domain}} is {is}."),
                "{{ $value | humanizePercentage }} of the host's device behind {{ $labels.device }} of \
                     {domain} are written, and the guest may write more than it holds. When it is full, the domain \
                     is paused.",
            ],
        )
    };
    let p99 = |kind: &str| {
        format!("device:libvirt_domain_block_{kind}_latency_seconds:p99_5m > {}", limit::BLOCK_LATENCY_P99.warning)
    };
    let p99 = |name, kind: &str| {
        alert(
            name,
            Warning,
            "15m",
            p99(kind),
            [
                &format!("Some {kind}s of {{{{ $labels.device }}}} of {{domain}} are slow."),
                &format!(
                    "One in a hundred {kind}s of {{{{ $labels.device }}}} of {{domain}} takes {{{{ $value | \
                         humanizeDuration }}}} or longer."
                ),
            ],
        )
    };
    let rate = |what: &str| format!("rate(libvirt_domain_block_{what}_total[5m])");
    let throttled = |used: &str, what: &str| {
        format!("{used} / libvirt_domain_block_throttle_{what}_per_second > {:?}", limit::AT_LIMIT)
    };
    let throttles = ["bytes", "requests"].map(|unit| {
        let [read, write] = ["read", "write"].map(|kind| rate(&format!("{kind}_{unit}")));
        [
            throttled(&read, &format!("read_{unit}")),
            throttled(&write, &format!("write_{unit}")),
            throttled(&format!("({read} + {write})"), &format!("total_{unit}")),
        ]
        .join(" or ")
    });
    vec![
        alert(
            "LibvirtBlockAtThrottle",
            Info,
            "15m",
            throttles.join(" or "),
            [
                "The disk {{ $labels.device }} of {domain} is at its throttle.",
                "The guest uses {{ $value | humanizePercentage }} of what {{ $labels.device }} of {domain} \
                     may do: its requests wait.",
            ],
        ),
        latency(Warning, limit::BLOCK_LATENCY.warning),
        latency(Critical, limit::BLOCK_LATENCY.critical),
        p99("LibvirtBlockReadLatencyP99High", "read"),
        p99("LibvirtBlockWriteLatencyP99High", "write"),
        thin("LibvirtThinImageNearlyFull", Warning, limit::THIN_IMAGE.warning, "10m", "nearly full"),
        thin("LibvirtThinImageFull", Critical, limit::THIN_IMAGE.critical, "1m", "full"),
        alert(
            "LibvirtBlockThresholdReached",
            Info,
            "0m",
            recent("libvirt_domain_block_threshold_events_total"),
            [
                "{{ $labels.device }} of {domain} reached its write threshold.",
                "The guest wrote beyond the threshold that was set on {{ $labels.device }} of {domain}: \
                     its image should grow.",
            ],
        ),
    ]
}

fn network() -> Vec<Rule> {
    let drops = |severity, value| {
        alert(
            "LibvirtInterfaceDrops",
            severity,
            "15m",
            format!(
                "interface:libvirt_domain_interface_drops:ratio_rate5m > {value} and \
                     interface:libvirt_domain_interface_drops:rate5m > {:?}",
                limit::DROPS_MIN_PACKETS
            ),
            [
                "Packets of {domain} are dropped.",
                "{{ $value | humanizePercentage }} of the packets of {{ $labels.interface }} ({domain}) are dropped.",
            ],
        )
    };
    vec![
        drops(Warning, limit::DROPS.warning),
        drops(Critical, limit::DROPS.critical),
        alert(
            "LibvirtInterfaceErrors",
            Warning,
            "15m",
            format!(
                "rate(libvirt_domain_interface_receive_errors_total[5m]) + \
                     rate(libvirt_domain_interface_transmit_errors_total[5m]) > {}",
                limit::INTERFACE_ERRORS
            ),
            [
                "Packets of {domain} have errors.",
                "{{ $labels.interface }} of {domain} has {{ $value | humanize }} packets with errors per second.",
            ],
        ),
    ]
}

fn hosts() -> Vec<Rule> {
    vec![
        alert(
            "LibvirtHostCpuOvercommitted",
            Warning,
            "30m",
            format!(
                "instance:libvirt_cpu_overcommit:ratio > {:?} and instance:libvirt_domain_vcpu_delay:ratio_rate5m > {}",
                limit::CPU_OVERCOMMIT.warning,
                limit::HOST_STEAL
            ),
            [
                "{host} has more vCPUs than its CPUs can serve.",
                "{host} runs {{ $value | humanize }} vCPUs per CPU, and they wait for CPU time.",
            ],
        ),
        alert(
            "LibvirtHostMemoryOvercommitted",
            Warning,
            "30m",
            format!("instance:libvirt_memory_overcommit:ratio > {:?}", limit::MEMORY_OVERCOMMIT.warning),
            [
                "{host} gave its domains more memory than it has.",
                "The domains of {host} were given {{ $value | humanizePercentage }} of its memory. If they \
                     use it, the host swaps or kills one.",
            ],
        ),
    ]
}
