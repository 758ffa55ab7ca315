//! Families of the exporter and of the host: the counts of all stages, which know nothing of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};

use crate::collect::{Collection, CollectorStats, DomainStatus, ProbeStatus};
use crate::config::Group;
use crate::domains::{DefinitionFailure, Snapshot};
use crate::libvirt::ErrorClass;
use crate::metrics::fill::{Filled, Filling, boolean, count, unix_seconds};
use crate::metrics::{Families, Started, SubjectId, Value, states};
use crate::tables::collection::{COMPLETE, MISSING, QUARANTINED};
use crate::tables::exporter::{
    BATCHES, BUILD, COLLECT_DURATION, COLLECT_FAILURES, CONFIG_GOOD, CONFIG_RELOADED, DUPLICATES, EVENTS_DROPPED,
    HTTP_REQUESTS, LAST_COLLECT, METADATA_FAILURES, METADATA_PENDING, OTLP_EXPORTS, OTLP_REJECTED, PROBE_DURATION,
    PROBE_HUNG_CALLS, PROBE_SUCCESS, PROBES_REFUSED, PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_MEMORY,
    PROCESS_START, PROCESS_THREADS, RECONNECTS, RESYNCS, SERIES, STUCK_CALLS, TARGET_CONNECTIONS, TARGETS,
    UNMAPPED_KEYS, UNREADABLE,
};
use crate::tables::host::{DOMAINS, HOST_CPUS, HOST_MEMORY, UP, VERSIONS};

/// Counts of pushes.
#[derive(Debug)]
pub struct PushCounts {
    /// Pushes by result, every result included.
    pub exports: Vec<(&'static str, u64)>,
    /// Data points that the receiver rejected.
    pub rejected_points: u64,
}

/// Everything that the families of this module are made from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The collection that is being exported.
    pub collection: &'a Collection,
    /// How many of its domains are in which state, as [`domains_by_state`] counts them.
    pub domains_by_state: &'a [(&'static str, u64)],
    /// How the running domains fared.
    pub domains: Vec<(SubjectId, &'a DomainStatus)>,
    /// What the collector has counted.
    pub collector: CollectorStats,
    /// How many different keys of this collection no metric stands for.
    pub unmapped_keys: usize,
    /// Samples dropped since the start because others had their labels.
    pub duplicate_samples: u64,
    /// Whether there is a daemon to collect from.
    pub has_daemon: bool,
    /// When the exporter started to collect from it.
    pub started: SystemTime,
    /// What belongs to the process, not to one of its daemons; `None` for a target.
    pub process: Option<ProcessFacts>,
}

/// What the process counts, whatever daemons it has.
#[derive(Debug)]
pub struct ProcessFacts {
    /// Answered HTTP requests by route and status code.
    pub http_requests: BTreeMap<(&'static str, u16), u64>,
    /// Counts of pushes; `None` if metrics are not pushed.
    pub push: Option<PushCounts>,
    /// The targets of `/probe`; `None` if there are none.
    pub targets: Option<TargetCounts>,
    /// Whether the configuration files, when they were last read, were valid and are in effect.
    pub config_good: bool,
    /// When the configuration was last read with success.
    pub config_reloaded: SystemTime,
}

/// Counts of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetCounts {
    /// Targets with connections.
    pub open: usize,
    /// Targets without.
    pub closed: usize,
    /// Connections, as they count against `probe.max_connections`.
    pub connections: usize,
    /// Probes that the limit refused.
    pub refused: u64,
}

/// A sample for each group that is not there of a domain.
fn missing(subject: SubjectId, status: &DomainStatus) -> Vec<Filled<'static>> {
    let Some(missing) = &status.missing else { return Vec::new() };
    let labels = |group: &Group| vec![("group", group.as_str().into()), ("reason", missing.reason.as_str().into())];
    missing.groups.iter().map(|group| (subject, labels(group), Value::Unsigned(1))).collect()
}

/// Puts the exporter's own families in front of those of the domains.
pub fn prepend(families: &mut Families, facts: &Facts<'_>) {
    let series = families.series();
    let mut filling = Filling::new(families, &|_| true);
    if facts.has_daemon {
        add_daemon(&mut filling, facts);
    }
    let version = vec![env!("CARGO_PKG_VERSION"), env!("BUILD_REVISION"), env!("BUILD_RUST_VERSION")];
    filling.labelled(&BUILD, [(version, Value::Unsigned(1))]);
    if facts.has_daemon {
        add_collector(&mut filling, facts);
        filling.number(&SERIES, count(series));
    }
    if let Some(process) = &facts.process {
        add_process(&mut filling, process);
        // Of its own clock: the kernel's needs /proc/stat, which a hardened service does not see.
        filling.number(&PROCESS_START, unix_seconds(facts.started));
    }
    let built = filling.finish();
    families.families.splice(0..0, built);
    // What happens on the host is counted by this process.
    for subject in [SubjectId::EXPORTER, SubjectId::HOST] {
        let started = Started { exporter: Some(facts.started), ..Started::default() };
        families.subjects.get_mut(subject).started = Some(started);
    }
}

/// The daemon, its host, and how its domains fared.
fn add_daemon(filling: &mut Filling<'_>, facts: &Facts<'_>) {
    let collection = facts.collection;
    filling.number(&UP, boolean(collection.error.is_none()));
    if let Some(versions) = &collection.versions {
        let values = [&versions.library, &versions.libvirt, &versions.hypervisor, &versions.driver];
        filling.labelled(&VERSIONS, [(values.map(String::as_str).to_vec(), Value::Unsigned(1))]);
        if let Some(host) = versions.host {
            filling.number(&HOST_CPUS, Value::Unsigned(host.cpus.into()));
            filling.number(&HOST_MEMORY, Value::Unsigned(host.memory_kib.saturating_mul(1024)));
        }
    }
    let states = facts.domains_by_state.iter();
    filling.labelled(&DOMAINS, states.map(|(state, count)| (vec![*state], Value::Unsigned(*count))));
    let domains = facts.domains.iter();
    filling.of_domains(&COMPLETE, domains.clone().map(|(subject, status)| (*subject, boolean(status.is_complete()))));
    filling.add(&MISSING, facts.domains.iter().flat_map(|(subject, status)| missing(*subject, status)));
    filling
        .of_domains(&QUARANTINED, domains.map(|(subject, status)| (*subject, boolean(status.quarantined.is_some()))));
}

/// How collections from the daemon went.
fn add_collector(filling: &mut Filling<'_>, facts: &Facts<'_>) {
    let (collection, collector) = (facts.collection, &facts.collector);
    filling.number(&COLLECT_DURATION, Value::Float(collection.duration.as_secs_f64()));
    let failures = failures_by_reason(collector);
    filling
        .labelled(&COLLECT_FAILURES, failures.iter().map(|(reason, count)| (vec![*reason], Value::Unsigned(*count))));
    if let Some(last) = collector.last_success {
        filling.number(&LAST_COLLECT, unix_seconds(last));
    }
    filling.number(&RECONNECTS, Value::Unsigned(collector.reconnects));
    filling.number(&BATCHES, count(collector.calls));
    filling.number(&STUCK_CALLS, count(collector.stuck_calls));
    let probes = &collector.probes;
    filling.labelled(&PROBE_SUCCESS, probes.iter().map(|(probe, status)| (vec![*probe], boolean(status.success))));
    let duration = |status: &ProbeStatus| Value::Float(status.duration.as_secs_f64());
    filling.labelled(&PROBE_DURATION, probes.iter().map(|(probe, status)| (vec![*probe], duration(status))));
    let hung = facts.collector.hung_calls.iter().filter(|(probe, _)| probes.contains_key(*probe));
    filling.labelled(&PROBE_HUNG_CALLS, hung.map(|(probe, calls)| (vec![*probe], count(*calls))));
    let targets = &collection.snapshot;
    filling.labelled(&RESYNCS, targets.resyncs.iter().map(|(cause, count)| (vec![*cause], Value::Unsigned(*count))));
    filling.number(&EVENTS_DROPPED, Value::Unsigned(targets.events_dropped));
    filling.number(&METADATA_PENDING, count(targets.metadata_pending));
    let failures = metadata_failures(targets);
    filling.labelled(&METADATA_FAILURES, failures.map(|(reason, count)| (vec![reason], Value::Unsigned(count))));
    filling.number(&UNREADABLE, count(targets.unreadable.len()));
    filling.number(&UNMAPPED_KEYS, count(facts.unmapped_keys));
    filling.number(&DUPLICATES, Value::Unsigned(facts.duplicate_samples));
}

/// What the process counts, and what the kernel says of it.
fn add_process(filling: &mut Filling<'_>, process: &ProcessFacts) {
    filling.number(&CONFIG_GOOD, boolean(process.config_good));
    filling.number(&CONFIG_RELOADED, unix_seconds(process.config_reloaded));
    let requests: Vec<_> =
        process.http_requests.iter().map(|((path, code), count)| (*path, code.to_string(), *count)).collect();
    let requests = requests.iter().map(|(path, code, count)| (vec![*path, code.as_str()], Value::Unsigned(*count)));
    filling.labelled(&HTTP_REQUESTS, requests);
    if let Some(targets) = &process.targets {
        let states = [("open", targets.open), ("closed", targets.closed)];
        filling.labelled(&TARGETS, states.map(|(state, number)| (vec![state], count(number))));
        filling.number(&TARGET_CONNECTIONS, count(targets.connections));
        filling.number(&PROBES_REFUSED, Value::Unsigned(targets.refused));
    }
    if let Some(push) = &process.push {
        let exports = push.exports.iter().map(|(result, count)| (vec![*result], Value::Unsigned(*count)));
        filling.labelled(&OTLP_EXPORTS, exports);
        filling.number(&OTLP_REJECTED, Value::Unsigned(push.rejected_points));
    }
    add_kernel(filling);
}

/// What the kernel says of this process; what it does not say has no sample.
fn add_kernel(filling: &mut Filling<'_>) {
    let Ok(process) = Process::myself() else {
        return;
    };
    if let Ok(stat) = process.stat() {
        let ticks = Value::Unsigned(stat.utime + stat.stime);
        let per_second = Value::Unsigned(procfs::ticks_per_second());
        let cpu = crate::metrics::float(ticks) / crate::metrics::float(per_second);
        filling.number(&PROCESS_CPU, Value::Float(cpu));
        filling.number(&PROCESS_MEMORY, Value::Unsigned(stat.rss_bytes().get()));
        let fds = process.fd_count().ok();
        fds.into_iter().for_each(|fds| filling.number(&PROCESS_FDS, count(fds)));
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(limit) = limits.max_open_files.soft_limit
        {
            filling.number(&PROCESS_MAX_FDS, Value::Unsigned(limit));
        }
        filling.number(&PROCESS_THREADS, Value::Unsigned(stat.num_threads.unsigned_abs()));
    }
}

/// Every state has a sample, so that a sum over them is the number of domains; without states there is none.
#[must_use]
pub fn domains_by_state(collection: &Collection) -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> = states().iter().map(|state| (*state, 0)).collect();
    let mut seen = BTreeSet::new();
    // A domain that was asked for twice, because it was busy or stopped, is in several records.
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
    use std::time::{Instant, UNIX_EPOCH};

    use uuid::Uuid;

    use super::*;
    use crate::collect::{Cause, Quarantined};
    use crate::encode::Format;
    use crate::libvirt::{Identity, ParamValue, Records};
    use crate::tables::Subject;

    #[test]
    fn what_the_target_set_counts_is_shown() {
        let snapshot = Snapshot {
            resyncs: BTreeMap::from([("overflow", 2)]),
            events_dropped: 7,
            metadata_pending: 3,
            metadata_failures: BTreeMap::from([(DefinitionFailure::Dtd, 1), (DefinitionFailure::TimedOut, 4)]),
            unreadable: vec![Uuid::nil()],
            ..Snapshot::default()
        };
        let collection = Collection { snapshot: Arc::new(snapshot), ..Collection::empty(UNIX_EPOCH, Instant::now()) };
        let status = |quarantined| DomainStatus {
            identity: Identity { name: "a".to_owned(), uuid: Uuid::nil(), id: Some(1) },
            missing: None,
            quarantined,
        };
        let frozen = status(Some(Quarantined { since: UNIX_EPOCH, cause: Cause::Frozen }));
        let runs = status(None);
        let mut families = Families::default();
        let [frozen, runs] = [("frozen", &frozen), ("runs", &runs)]
            .map(|(name, status)| (families.push_subject(Subject::Domain, [("domain", name)]), status));
        let facts = Facts {
            collection: &collection,
            domains_by_state: &[],
            domains: vec![frozen, runs],
            collector: CollectorStats::default(),
            unmapped_keys: 0,
            duplicate_samples: 0,
            has_daemon: true,
            started: UNIX_EPOCH,
            process: None,
        };
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
            "libvirt_domain_quarantined{domain=\"frozen\"} 1",
            "libvirt_domain_quarantined{domain=\"runs\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        let compiler = text.lines().find(|line| line.starts_with("libvirt_exporter_build_info{"));
        let compiler = compiler.and_then(|line| line.split_once("rustversion=\"")?.1.split_once('"'));
        let rustc = std::process::Command::new("rustc").arg("--version").output().expect("the compiler");
        let rustc = String::from_utf8_lossy(&rustc.stdout).into_owned();
        assert!(compiler.is_some_and(|(version, _)| rustc.contains(&format!(" {version} "))), "{rustc}: {compiler:?}");
        let reasons = text.matches("libvirt_exporter_metadata_failures_total{").count();
        assert_eq!(reasons, DefinitionFailure::ALL.len(), "each reason has a sample from the start: {text}");
        let reasons = text.matches("libvirt_exporter_collect_failures_total{").count();
        assert_eq!(reasons, ErrorClass::NAMED.len() + 1, "each reason has a sample from the start: {text}");
    }

    #[test]
    fn one_failure_has_one_name_in_all_metrics() {
        for class in ErrorClass::NAMED {
            let of_definition = DefinitionFailure::from(class);
            let same = of_definition.as_str() == class.as_str();
            assert!(same || of_definition == DefinitionFailure::Other, "{of_definition} is {}", class.as_str());
        }
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
        let batches = vec![batch(&[(1, 1), (2, 3)]), batch(&[(1, 5), (3, 1)])];
        let collection = Collection { batches, ..Collection::empty(UNIX_EPOCH, Instant::now()) };
        let counted: Vec<_> = domains_by_state(&collection).into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("running", 2), ("paused", 1)]);
    }
}
