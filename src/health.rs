//! The exporter's own families: what the stages count, turned into metrics here so that no stage has to know of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};

use crate::collect::{Collection, CollectorStats, DomainStatus};
use crate::config::Group;
use crate::domains::{DefinitionFailure, Snapshot};
use crate::libvirt::ErrorClass;
use crate::metrics::{Families, LabelSet, Unit, Value, states};
use crate::push::PushStats;
use crate::rows::{Filled, Filling, boolean, count, rows, unix_seconds};

/// Everything that the families of this module are made from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The collection that is being exported.
    pub collection: &'a Collection,
    /// How the running domains fared, each with its labels.
    pub domains: Vec<(LabelSet, &'a DomainStatus)>,
    /// What the collector has counted.
    pub collector: CollectorStats,
    /// How many different keys of this collection no metric stands for.
    pub unmapped_keys: usize,
    /// Samples dropped since the start because others had their labels.
    pub duplicate_samples: u64,
    /// Answered HTTP requests by route and status code.
    pub http_requests: BTreeMap<(&'static str, u16), u64>,
    /// How pushes went, if there are any.
    pub push: Option<PushStats>,
    /// Whether the configuration files as they are now are in effect, as far as they have been looked at.
    pub config_good: bool,
    /// When the configuration was last read with success.
    pub config_reloaded: SystemTime,
    /// When the exporter started.
    pub started: SystemTime,
}

#[rustfmt::skip]
rows! {
    UP = Gauge, Unit::None, "libvirt_up", "libvirt.up", [],
        "Whether the last collection reached libvirt: 1 yes, 0 no";
    VERSIONS = Info, Unit::None, "libvirt_versions_info", "libvirt.versions", ["library", "libvirt", "hypervisor", "driver"],
        "Versions of libvirt's client library, the daemon and the hypervisor, and the driver's name";
    HOST_CPUS = Gauge, Unit::Of("cpu"), "libvirt_host_cpus", "libvirt.host.cpu.count", [],
        "Logical CPUs of the host that are online, as of the last listing of the domains";
    HOST_MEMORY = Gauge, Unit::Bytes, "libvirt_host_memory_bytes", "libvirt.host.memory", [],
        "Memory of the host, as of the last listing of the domains";
    DOMAINS = Gauge, Unit::Of("domain"), "libvirt_domains", "libvirt.domain.count", ["state"],
        "Domains by state, as far as they are exported";
    COMPLETE = Gauge, Unit::None, "libvirt_domain_stats_complete", "libvirt.domain.stats_complete", [],
        "Whether the last collection has all that was asked for of a running domain: 1 yes, 0 if what its hypervisor would say is missing";
    MISSING = Gauge, Unit::None, "libvirt_domain_stats_missing", "libvirt.domain.stats_missing", ["group", "reason"],
        "A statistics group that the last collection lacks of a running domain, or has in part: always 1, no sample where all is there. Reasons: busy (another client or a job of libvirt held the domain), quarantined, deadline, refused (libvirt answered with an error, or without the group), stuck_calls (too many calls wait for domains that do not answer)";
    QUARANTINED = Gauge, Unit::None, "libvirt_domain_quarantined", "libvirt.domain.quarantined", [],
        "Whether the domain's hypervisor is left alone because it did not answer: 1, or no sample";
    BUILD = Info, Unit::None, "libvirt_exporter_build_info", "libvirt.exporter.build", ["version", "rustversion"],
        "Version of domstats-exporter";
    COLLECT_DURATION = Gauge, Unit::Seconds, "libvirt_exporter_collect_duration_seconds", "libvirt.exporter.collect.duration", [],
        "How long the last collection took";
    COLLECT_FAILURES = Counter, Unit::Of("collection"), "libvirt_exporter_collect_failures_total", "libvirt.exporter.collect.failures", ["reason"],
        "Collections that failed, by reason";
    LAST_COLLECT = Gauge, Unit::Seconds, "libvirt_exporter_last_collect_timestamp_seconds", "libvirt.exporter.last_collect", [],
        "When a collection last succeeded, as a Unix time";
    RECONNECTS = Counter, Unit::Of("connection"), "libvirt_exporter_reconnects_total", "libvirt.exporter.reconnects", [],
        "Connections to libvirt opened after the first";
    BATCHES = Gauge, Unit::Of("call"), "libvirt_exporter_batches", "libvirt.exporter.batches", [],
        "Calls for statistics that the last collection took";
    STUCK_CALLS = Gauge, Unit::Of("call"), "libvirt_exporter_stuck_calls", "libvirt.exporter.stuck_calls", [],
        "Calls that are waiting for a hypervisor that does not answer";
    RESYNCS = Counter, Unit::Of("listing"), "libvirt_exporter_resyncs_total", "libvirt.exporter.resyncs", ["cause"],
        "Listings of all domains, by what caused them";
    EVENTS_DROPPED = Counter, Unit::Of("event"), "libvirt_exporter_events_dropped_total", "libvirt.exporter.events_dropped", [],
        "Events of libvirt that were lost because more came than could be held; a listing makes up for them";
    METADATA_PENDING = Gauge, Unit::Of("definition"), "libvirt_exporter_metadata_pending", "libvirt.exporter.metadata.pending", [],
        "Domains whose definition has not been read yet";
    METADATA_FAILURES = Counter, Unit::Of("definition"), "libvirt_exporter_metadata_failures_total", "libvirt.exporter.metadata.failures", ["reason"],
        "Definitions of domains that could not be read, by reason";
    UNREADABLE = Gauge, Unit::Of("domain"), "libvirt_exporter_unreadable_domains", "libvirt.exporter.unreadable_domains", [],
        "Domains that libvirt lists but does not let the exporter's user read: they have no samples";
    UNMAPPED_KEYS = Gauge, Unit::Of("key"), "libvirt_exporter_unmapped_keys", "libvirt.exporter.unmapped_keys", [],
        "Different keys of the last collection that this version has no metric for";
    DUPLICATES = Counter, Unit::Of("sample"), "libvirt_exporter_duplicate_samples_total", "libvirt.exporter.duplicate_samples", [],
        "Samples dropped because another one of the same collection had their labels";
    SERIES = Gauge, Unit::Of("series"), "libvirt_exporter_series", "libvirt.exporter.series", [],
        "Series of the domains in this exposition";
    CONFIG_GOOD = Gauge, Unit::None, "libvirt_exporter_config_last_reload_successful", "libvirt.exporter.config.last_reload_successful", [],
        "Whether the configuration files were good when they were last read: 1 yes, 0 no, and the settings before stay in effect";
    CONFIG_RELOADED = Gauge, Unit::Seconds, "libvirt_exporter_config_last_reload_success_timestamp_seconds", "libvirt.exporter.config.last_reload_success", [],
        "When the configuration was last read with success, as a Unix time";
    HTTP_REQUESTS = Counter, Unit::Of("request"), "libvirt_exporter_http_requests_total", "libvirt.exporter.http.requests", ["path", "code"],
        "Answered HTTP requests by path and status code";
    OTLP_EXPORTS = Counter, Unit::Of("export"), "libvirt_exporter_otlp_exports_total", "libvirt.exporter.otlp.exports", ["result"],
        "Pushes over OTLP by result: success, partial (the receiver rejected some points), refused or dropped (nobody took it in time)";
    OTLP_REJECTED = Counter, Unit::Of("point"), "libvirt_exporter_otlp_rejected_points_total", "libvirt.exporter.otlp.rejected_points", [],
        "Data points that the OTLP receiver rejected out of pushes that it took";
    PROCESS_CPU = Counter, Unit::Seconds, "process_cpu_seconds_total", "process.cpu.time", [],
        "Processor time of the exporter, user and system";
    PROCESS_MEMORY = Gauge, Unit::Bytes, "process_resident_memory_bytes", "process.memory.usage", [],
        "Resident memory of the exporter";
    PROCESS_FDS = Gauge, Unit::Of("file_descriptor"), "process_open_fds", "process.unix.file_descriptor.count", [],
        "Open file descriptors of the exporter";
    PROCESS_MAX_FDS = Gauge, Unit::Of("file_descriptor"), "process_max_fds", "libvirt.exporter.file_descriptor.limit", [],
        "File descriptors that the exporter may open at most";
    PROCESS_THREADS = Gauge, Unit::Of("thread"), "process_threads", "process.thread.count", [],
        "Threads of the exporter";
    PROCESS_START = Gauge, Unit::Seconds, "process_start_time_seconds", "libvirt.exporter.start_time", [],
        "When the exporter started, as a Unix time";
}

/// A sample for each group that is not there of a domain.
fn missing(subject: LabelSet, status: &DomainStatus) -> Vec<Filled<'static>> {
    let Some(missing) = &status.missing else { return Vec::new() };
    let labels = |group: &Group| vec![("group", group.as_str().into()), ("reason", missing.reason.as_str().into())];
    missing.groups.iter().map(|group| (subject, labels(group), Value::Unsigned(1))).collect()
}

/// Puts the exporter's own families in front of those of the domains.
pub fn prepend(families: &mut Families, facts: &Facts<'_>) {
    let series = families.series();
    let mut health = Filling::new(families, &|_| true);
    let collection = facts.collection;
    health.number(&UP, boolean(collection.error.is_none()));
    if let Some(versions) = &collection.versions {
        let values = [&versions.library, &versions.libvirt, &versions.hypervisor, &versions.driver];
        health.labelled(&VERSIONS, [(values.map(String::as_str).to_vec(), Value::Unsigned(1))]);
        if let Some(host) = versions.host {
            health.number(&HOST_CPUS, Value::Unsigned(host.cpus.into()));
            health.number(&HOST_MEMORY, Value::Unsigned(host.memory_kib.saturating_mul(1024)));
        }
    }
    let domains = domains_by_state(collection);
    health.labelled(&DOMAINS, domains.iter().map(|(state, count)| (vec![*state], Value::Unsigned(*count))));
    let domains = facts.domains.iter();
    health.of_domains(&COMPLETE, domains.clone().map(|(subject, status)| (*subject, boolean(status.is_complete()))));
    health.add(&MISSING, facts.domains.iter().flat_map(|(subject, status)| missing(*subject, status)));
    let quarantined = domains.filter(|(_, status)| status.quarantined.is_some());
    health.of_domains(&QUARANTINED, quarantined.map(|(subject, _)| (*subject, Value::Unsigned(1))));
    let version = vec![env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION")];
    health.labelled(&BUILD, [(version, Value::Unsigned(1))]);
    health.number(&COLLECT_DURATION, Value::Float(collection.duration.as_secs_f64()));
    let failures = failures_by_reason(&facts.collector);
    health.labelled(&COLLECT_FAILURES, failures.iter().map(|(reason, count)| (vec![*reason], Value::Unsigned(*count))));
    if let Some(last) = facts.collector.last_success {
        health.number(&LAST_COLLECT, unix_seconds(last));
    }
    health.number(&RECONNECTS, Value::Unsigned(facts.collector.reconnects));
    health.number(&BATCHES, count(facts.collector.calls));
    health.number(&STUCK_CALLS, count(facts.collector.stuck_calls));
    let targets = &collection.targets;
    health.labelled(&RESYNCS, targets.resyncs.iter().map(|(cause, count)| (vec![*cause], Value::Unsigned(*count))));
    health.number(&EVENTS_DROPPED, Value::Unsigned(targets.events_dropped));
    health.number(&METADATA_PENDING, count(targets.metadata_pending));
    let failures = metadata_failures(targets);
    health.labelled(&METADATA_FAILURES, failures.map(|(reason, count)| (vec![reason], Value::Unsigned(count))));
    health.number(&UNREADABLE, count(targets.unreadable.len()));
    health.number(&UNMAPPED_KEYS, count(facts.unmapped_keys));
    health.number(&DUPLICATES, Value::Unsigned(facts.duplicate_samples));
    health.number(&SERIES, count(series));
    health.number(&CONFIG_GOOD, boolean(facts.config_good));
    health.number(&CONFIG_RELOADED, unix_seconds(facts.config_reloaded));
    let requests: Vec<_> =
        facts.http_requests.iter().map(|((path, code), count)| (*path, code.to_string(), *count)).collect();
    let requests = requests.iter().map(|(path, code, count)| (vec![*path, code.as_str()], Value::Unsigned(*count)));
    health.labelled(&HTTP_REQUESTS, requests);
    if let Some(push) = &facts.push {
        let exports = push.exports.iter().map(|(result, count)| (vec![*result], Value::Unsigned(*count)));
        health.labelled(&OTLP_EXPORTS, exports);
        health.number(&OTLP_REJECTED, Value::Unsigned(push.rejected_points));
    }
    add_process(&mut health);
    // Of its own clock: the kernel's needs /proc/stat, which a hardened service does not see.
    health.number(&PROCESS_START, unix_seconds(facts.started));
    let built = health.finish();
    families.families.splice(0..0, built);
}

/// What the kernel says of this process; what it does not say has no sample.
fn add_process(health: &mut Filling<'_>) {
    let Ok(process) = Process::myself() else {
        return;
    };
    if let Ok(stat) = process.stat() {
        let ticks = Value::Unsigned(stat.utime + stat.stime);
        let per_second = Value::Unsigned(procfs::ticks_per_second());
        let cpu = crate::metrics::float(ticks) / crate::metrics::float(per_second);
        health.number(&PROCESS_CPU, Value::Float(cpu));
        health.number(&PROCESS_MEMORY, Value::Unsigned(stat.rss_bytes().get()));
        let fds = process.fd_count().ok();
        fds.into_iter().for_each(|fds| health.number(&PROCESS_FDS, count(fds)));
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(limit) = limits.max_open_files.soft_limit
        {
            health.number(&PROCESS_MAX_FDS, Value::Unsigned(limit));
        }
        health.number(&PROCESS_THREADS, Value::Unsigned(stat.num_threads.unsigned_abs()));
    }
}

/// Every state has a sample, so that a sum over them is the number of domains; without states there is none.
#[must_use]
pub fn domains_by_state(collection: &Collection) -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> = states().iter().map(|state| (*state, 0)).collect();
    let mut seen = BTreeSet::new();
    // A domain that was asked for twice, because it was busy or stopped meanwhile, is in several records.
    let records = collection.batches.iter().flat_map(|records| records.domains());
    for domain in records.filter(|domain| seen.insert(domain.uuid)) {
        let state = domain.params().find(|param| param.key == "state.state");
        if let Some(state) = state
            && let crate::libvirt::ParamValue::Int(state) = state.value
            && let Some(entry) = usize::try_from(state).ok().and_then(|state| counts.get_mut(state))
        {
            entry.1 += 1;
        }
    }
    // A collection of other groups says nothing of states.
    let silent = !collection.domains.is_empty() && counts.iter().all(|(_, count)| *count == 0);
    if silent || collection.error.is_some() { Vec::new() } else { counts }
}

/// Every reason has a sample from the start, so that a rate over it sees the first failure.
fn failures_by_reason(stats: &CollectorStats) -> Vec<(&'static str, u64)> {
    let classes = ErrorClass::NAMED.into_iter().chain([ErrorClass::Other(0)]);
    classes
        .map(|class| {
            let same = |known: &&(ErrorClass, u64)| known.0.as_str() == class.as_str();
            (class.as_str(), stats.failures.iter().find(same).map_or(0, |known| known.1))
        })
        .collect()
}

/// Likewise.
fn metadata_failures(targets: &Snapshot) -> impl Iterator<Item = (&'static str, u64)> {
    let count = |reason| targets.metadata_failures.get(&reason).copied().unwrap_or(0);
    DefinitionFailure::ALL.into_iter().map(move |reason| (reason.as_str(), count(reason)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use uuid::Uuid;

    use super::*;
    use crate::encode::Format;
    use crate::libvirt::{ParamValue, Records};

    #[test]
    fn what_the_target_set_counts_is_shown() {
        let targets = Snapshot {
            resyncs: BTreeMap::from([("overflow", 2)]),
            events_dropped: 7,
            metadata_pending: 3,
            metadata_failures: BTreeMap::from([(DefinitionFailure::Dtd, 1), (DefinitionFailure::TimedOut, 4)]),
            unreadable: vec![Uuid::nil()],
            ..Snapshot::default()
        };
        let collection = Collection {
            batches: Vec::new(),
            parameters: BTreeMap::new(),
            domains: Vec::new(),
            versions: None,
            at: UNIX_EPOCH,
            ended: std::time::Instant::now(),
            duration: Duration::ZERO,
            calls: 0,
            error: None,
            targets: Arc::new(targets),
        };
        let facts = Facts {
            collection: &collection,
            domains: Vec::new(),
            collector: CollectorStats::default(),
            unmapped_keys: 0,
            duplicate_samples: 0,
            http_requests: BTreeMap::new(),
            config_good: true,
            config_reloaded: UNIX_EPOCH,
            started: UNIX_EPOCH,
            push: None,
        };
        let mut families = Families::default();
        prepend(&mut families, &facts);
        let text = String::from_utf8(Format::Text.encode(&families)).expect("UTF-8");
        for line in [
            "libvirt_exporter_resyncs_total{cause=\"overflow\"} 2",
            "libvirt_exporter_events_dropped_total 7",
            "libvirt_exporter_metadata_pending 3",
            "libvirt_exporter_metadata_failures_total{reason=\"dtd\"} 1",
            "libvirt_exporter_metadata_failures_total{reason=\"timed_out\"} 4",
            "libvirt_exporter_metadata_failures_total{reason=\"too_deep\"} 0",
            "libvirt_exporter_unreadable_domains 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        let reasons = text.matches("libvirt_exporter_metadata_failures_total{").count();
        assert_eq!(reasons, DefinitionFailure::ALL.len(), "each reason has a sample from the start: {text}");
    }

    #[test]
    fn a_domain_in_two_records_counts_once() {
        let batch = |domains: &[(u128, i32)]| {
            let mut records = Records::default();
            for (uuid, state) in domains {
                records.push_domain("x", Uuid::from_u128(*uuid), Some(1));
                records.push("state.state", ParamValue::Int(*state));
            }
            Arc::new(records)
        };
        let collection = Collection {
            batches: vec![batch(&[(1, 1), (2, 3)]), batch(&[(1, 5), (3, 1)])],
            parameters: BTreeMap::new(),
            domains: Vec::new(),
            versions: None,
            at: SystemTime::now(),
            ended: std::time::Instant::now(),
            duration: Duration::ZERO,
            calls: 2,
            error: None,
            targets: Arc::default(),
        };
        let counted: Vec<_> = domains_by_state(&collection).into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("running", 2), ("paused", 1)]);
    }
}
