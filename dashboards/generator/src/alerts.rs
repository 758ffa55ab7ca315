//! Alerts. alerts/RUNBOOKS.md says what each means and what to do about it, below its name.

use std::collections::BTreeMap;

use crate::jobs::{across_jobs, once};
use crate::rules::{DOMAIN, Group, RATES, Rule, SLOW, answers, at_quota};
use crate::thresholds as limit;

const RUNBOOKS: &str = "https://github.com/domstats-exporter/domstats-exporter/blob/main/alerts/RUNBOOKS.md";

/// All alerts. What is made of recorded series is evaluated as often as they are.
#[must_use]
pub fn groups() -> Vec<Group> {
    vec![
        Group { name: "libvirt-alerts-exporter", interval: None, rules: exporter() },
        Group { name: "libvirt-alerts-domains", interval: None, rules: domains() },
        Group { name: "libvirt-alerts-guests", interval: RATES, rules: guests() },
        Group { name: "libvirt-alerts-disks", interval: RATES, rules: disks() },
        Group { name: "libvirt-alerts-network", interval: SLOW, rules: network() },
        Group { name: "libvirt-alerts-hosts", interval: RATES, rules: hosts() },
        Group { name: "libvirt-alerts-objects", interval: RATES, rules: objects() },
        Group { name: "libvirt-alerts-limits", interval: SLOW, rules: limits() },
        Group { name: "libvirt-alerts-upkeep", interval: SLOW, rules: upkeep() },
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

/// Who has to do something about it, and when.
#[derive(Debug, Clone, Copy)]
enum Severity {
    /// The operator of the hosts, at once: guests are down or about to be, or nothing is known of a host.
    Critical,
    /// The operator of the hosts, in working hours.
    Warning,
    /// The owner of the guest, or who wants to know.
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
            format!("{} == 0", answers("")),
            [
                "The libvirt exporter on {host} does not answer.",
                "Prometheus cannot scrape {host}: the metrics of its domains are missing.",
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
            "LibvirtExporterProbeFailing",
            Warning,
            "5m",
            // Each call to libvirt counts by itself: one guest that does not answer is no reason.
            "max_over_time(libvirt_exporter_probe_success[15m]) == 0 and on (instance) libvirt_up == 1".into(),
            [
                "A probe of the libvirt exporter on {host} fails.",
                "No call of the probe {{ $labels.probe }} on {host} has succeeded for 15 minutes: its metrics are missing.",
            ],
        ),
        alert(
            "LibvirtExporterProbeHangs",
            Warning,
            "30m",
            "libvirt_exporter_probe_hung_calls > 0".into(),
            [
                "Calls of the libvirt exporter on {host} hang.",
                "{{ $value }} calls of the probe {{ $labels.probe }} on {host} have not returned for half an hour. Each \
                     occupies a worker of libvirt.",
            ],
        ),
        alert(
            "LibvirtStatsMissing",
            Warning,
            "15m",
            // A domain that is busy or quarantined has a reason of its own, and an alert if that lasts.
            "count without (domain, uuid) (max without (job, group, reason) \
                 (libvirt_domain_stats_missing{reason=~\"refused|deadline|stuck_calls\"})) > 0"
                .into(),
            [
                "Statistics of domains on {host} are missing.",
                "Statistics of {{ $value }} domains on {host} have been missing for 15 minutes: their panels and alerts say nothing.",
            ],
        ),
        alert(
            "LibvirtEventsLost",
            Info,
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
                "{domain} is paused by a fault ({{ $labels.reason }}); it does not resume by itself.",
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
        alert(
            "LibvirtBlockError",
            Warning,
            "1m",
            "libvirt_domain_block_error == 1".into(),
            [
                "The disk {{ $labels.device }} of {domain} has an error.",
                "{domain} is stopped by an error of {{ $labels.device }} ({{ $labels.reason }}).",
            ],
        ),
        alert(
            "LibvirtDomainQuarantined",
            Critical,
            "5m",
            once("libvirt_domain_quarantined == 1"),
            [
                "QEMU of the domain {domain} does not answer.",
                "{domain} does not answer libvirt; its guest is likely frozen. The exporter leaves it \
                 alone until it does.",
            ],
        ),
        alert(
            "LibvirtDomainMemoryFailure",
            Warning,
            "0m",
            recent("libvirt_domain_memory_failures_total"),
            [
                "Memory of the host under {domain} is faulty.",
                "{{ $value | humanize }} failures of the host's memory hit {domain} in the last 15 minutes ({{ \
                     $labels.recipient }}; {{ $labels.action }}).",
            ],
        ),
        alert(
            "LibvirtAutostartDomainNotRunning",
            Warning,
            "10m",
            once(&format!(
                "libvirt_domain_autostart == 1 and on (job, {DOMAIN}) \
                 libvirt_domain_state_reason_info{{state=~\"shutoff|crashed\"}}"
            )),
            [
                "The domain {domain} should run but does not.",
                "{domain} is to be started with its host (autostart), but is off.",
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
            // A vCPU that its quota keeps from running counts as one that has no CPU.
            format!("domain:libvirt_domain_vcpu_delay:ratio_rate5m > {value} unless ({})", at_quota("")),
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
        steal(Info, limit::STEAL.warning),
        steal(Warning, limit::STEAL.critical),
        memory(Info, limit::MEMORY_USABLE.warning),
        memory(Warning, limit::MEMORY_USABLE.critical),
        alert(
            "LibvirtDomainSwapping",
            Info,
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
            format!("device:libvirt_domain_block_thin_image:ratio > {value}"),
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
            Info,
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
    vec![
        latency(Info, limit::BLOCK_LATENCY.warning),
        latency(Warning, limit::BLOCK_LATENCY.critical),
        p99("LibvirtBlockReadLatencyP99High", "read"),
        p99("LibvirtBlockWriteLatencyP99High", "write"),
        thin("LibvirtThinImageNearlyFull", Warning, limit::THIN_IMAGE.warning, "10m", "nearly full"),
        thin("LibvirtThinImageFull", Critical, limit::THIN_IMAGE.critical, "1m", "full"),
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
        drops(Info, limit::DROPS.warning),
        drops(Warning, limit::DROPS.critical),
        alert(
            "LibvirtInterfaceErrors",
            Warning,
            "15m",
            once(&format!(
                "rate(libvirt_domain_interface_receive_errors_total[5m]) + \
                     rate(libvirt_domain_interface_transmit_errors_total[5m]) > {}",
                limit::INTERFACE_ERRORS
            )),
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
            // Where much is left in spite of it, that is what overcommitment is for.
            format!(
                "instance:libvirt_memory_overcommit:ratio > {:?} unless {} / libvirt_host_memory_bytes > {}",
                limit::MEMORY_OVERCOMMIT.warning,
                once(
                    "libvirt_host_memory_free_bytes + libvirt_host_memory_buffers_bytes + libvirt_host_memory_cached_bytes"
                ),
                limit::HOST_MEMORY_LEFT
            ),
            [
                "{host} gave its domains more memory than it has.",
                "The domains of {host} were given {{ $value | humanizePercentage }} of its memory, and little of \
                     it is left. If they use what they were given, the host swaps or kills one.",
            ],
        ),
        alert(
            "LibvirtHostBlockLatencyHigh",
            Warning,
            "15m",
            format!("instance:libvirt_domain_block_latency_seconds:mean5m > {}", limit::HOST_BLOCK_LATENCY),
            [
                "The disks of the guests on {host} are slow.",
                "A request to a disk of any guest on {host} takes {{ $value | humanizeDuration }} on average: \
                     its storage is overloaded or broken.",
            ],
        ),
    ]
}

/// Storage pools and networks.
fn objects() -> Vec<Rule> {
    let filled = |name, severity, value: f64, is: &str| {
        alert(
            name,
            severity,
            "10m",
            format!("pool:libvirt_pool_used:ratio > {value}"),
            [
                &format!("The storage pool {{{{ $labels.pool }}}} of {{host}} is {is}."),
                "{{ $value | humanizePercentage }} of the storage pool {{ $labels.pool }} of {host} are taken. When it \
                     is full, guests that write are paused.",
            ],
        )
    };
    vec![
        filled("LibvirtPoolNearlyFull", Warning, limit::POOL.warning, "nearly full"),
        filled("LibvirtPoolFull", Critical, limit::POOL.critical, "full"),
        alert(
            "LibvirtPoolFillsUp",
            Warning,
            "1h",
            format!(
                "predict_linear(pool:libvirt_pool_used:ratio[6h], {}) > 1 and pool:libvirt_pool_used:ratio > {}",
                limit::POOL_FULL_IN,
                limit::POOL_FILLING
            ),
            [
                "The storage pool {{ $labels.pool }} of {host} fills up.",
                "If the storage pool {{ $labels.pool }} of {host} goes on to fill as in the last six hours, it is full \
                     within a day.",
            ],
        ),
        alert(
            "LibvirtPoolInactive",
            Warning,
            "10m",
            format!(
                "libvirt_pool_state{{state=~\"degraded|inaccessible\"}} == 1 or {}",
                once(
                    "libvirt_pool_state{state=\"inactive\"} == 1 and on (job, instance, pool) \
                         libvirt_pool_autostart == 1"
                )
            ),
            [
                "The storage pool {{ $labels.pool }} of {host} is inactive or degraded.",
                "The storage pool {{ $labels.pool }} of {host} is {{ $labels.state }}: guests with volumes in it may \
                     not start, or lose their disks.",
            ],
        ),
        alert(
            "LibvirtNetworkInactive",
            Warning,
            "10m",
            once("libvirt_network_active == 0 and on (job, instance, network) libvirt_network_autostart == 1"),
            [
                "The network {{ $labels.network }} of {host} is not started.",
                "The network {{ $labels.network }} of {host} is to be started with its host (autostart), but is not \
                     active: guests of it do not start, or are cut off.",
            ],
        ),
    ]
}

/// Guests that are held back by what they may use. Every guest has to be looked at, and it lasts.
fn limits() -> Vec<Rule> {
    vec![
        alert(
            "LibvirtDomainAtCpuQuota",
            Info,
            "15m",
            format!("domain:libvirt_domain_cpu_quota:ratio_rate5m > {:?}", limit::AT_LIMIT),
            [
                "The guest {domain} is at its CPU quota.",
                "{domain} uses {{ $value | humanizePercentage }} of the CPU time that its quota allows: it \
                     is held back.",
            ],
        ),
        alert(
            "LibvirtDomainCpuThrottled",
            Info,
            "15m",
            format!("domain:libvirt_domain_cpu_throttled_periods:ratio_rate5m > {}", limit::THROTTLED),
            [
                "The guest {domain} is throttled by its CPU quota.",
                "The host stopped {domain} in {{ $value | humanizePercentage }} of the periods of its CPU quota, \
                     though it may need less than the quota on average.",
            ],
        ),
        alert(
            "LibvirtBlockAtThrottle",
            Info,
            "15m",
            format!("device:libvirt_domain_block_throttle:ratio_rate5m > {:?}", limit::AT_LIMIT),
            [
                "The disk {{ $labels.device }} of {domain} is at its throttle.",
                "The guest uses {{ $value | humanizePercentage }} of what {{ $labels.device }} of {domain} \
                     may do: its requests wait.",
            ],
        ),
        alert(
            "LibvirtDomainMemoryThrottled",
            Warning,
            "15m",
            format!("rate(libvirt_domain_pressure_memory_waiting_seconds_total[5m]) > {}", limit::MEMORY_WAITING),
            [
                "QEMU of {domain} waits for memory of the host.",
                "QEMU of {domain} waits for memory of the host in {{ $value | humanizePercentage }} of the time: the \
                     host is short of it, or the domain is at its limit.",
            ],
        ),
        alert(
            "LibvirtDomainAtMemoryLimit",
            Warning,
            "0m",
            // Control groups of version 1 count no such events, only kills; in those of version 2 the kills include those for want of
            // memory of the host.
            format!(
                "increase(libvirt_domain_cgroup_memory_oom_events_total[{RECENT}]) > 0 or \
                 increase(libvirt_domain_cgroup_memory_oom_kills_total[{RECENT}]) > 0 unless \
                 last_over_time(libvirt_domain_cgroup_memory_oom_events_total[{RECENT}])"
            ),
            [
                "The domain {domain} has used up its memory limit.",
                "{domain} needed more memory than its hard limit {{ $value | humanize }} times in the last 15 \
                     minutes, and nothing could be reclaimed: the OOM killer ends its QEMU or a helper of it.",
            ],
        ),
    ]
}

/// What is to be put in order some day.
fn upkeep() -> Vec<Rule> {
    let filesystem = |severity, value| {
        alert(
            "LibvirtGuestFilesystemNearlyFull",
            severity,
            "15m",
            format!("mountpoint:libvirt_domain_guest_filesystem_used:ratio > {value}"),
            [
                "A file system of the guest {domain} is nearly full.",
                "{{ $value | humanizePercentage }} of {{ $labels.mountpoint }} in the guest {domain} are used, as its \
                     agent reports.",
            ],
        )
    };
    vec![
        alert(
            "LibvirtAgentLost",
            Info,
            "15m",
            // One that never was is not lost. That it was is known for a while; then the alert itself says so.
            format!(
                "{} and on ({DOMAIN}) ({} or on ({DOMAIN}) ALERTS{{alertname=\"LibvirtAgentLost\"}})",
                once(&format!(
                    "libvirt_domain_agent_connected == 0 and on (job, {DOMAIN}) \
                         libvirt_domain_state_reason_info{{state=\"running\"}}"
                )),
                once(&format!("libvirt_domain_agent_connected offset {RECENT} == 1"))
            ),
            [
                "The guest agent of {domain} is gone.",
                "The guest agent of {domain} was connected and is not any more: no quiesced snapshots, no addresses.",
            ],
        ),
        alert(
            "LibvirtSnapshotOld",
            Info,
            "1h",
            format!("time() - libvirt_domain_snapshot_oldest_timestamp_seconds > {:?}", limit::SNAPSHOT_AGE),
            [
                "{domain} has an old snapshot.",
                "The oldest snapshot of {domain} is {{ $value | humanizeDuration }} old: it takes space, and an external \
                     one slows its disks down.",
            ],
        ),
        filesystem(Info, limit::GUEST_FILESYSTEM.warning),
        filesystem(Warning, limit::GUEST_FILESYSTEM.critical),
        alert(
            "LibvirtGuestClockOff",
            Warning,
            "15m",
            format!("abs(libvirt_domain_guest_clock_offset_seconds) > {:?}", limit::GUEST_CLOCK),
            [
                "The clock of the guest {domain} is wrong.",
                "The clock of the guest {domain} is {{ $value | humanizeDuration }} away from that of its host.",
            ],
        ),
    ]
}
