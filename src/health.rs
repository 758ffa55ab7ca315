//! The exporter's own families: what the stages count, turned into metrics here so that no stage has to know of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};

use crate::catalogue::{Families, Family, Kind, LabelSet, Meta, Sample, Unit, Value, states};
use crate::collect::{Collection, CollectorStats, DomainStatus};
use crate::libvirt::ErrorClass;

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
    /// Whether the configuration files as they are now are in effect, as far as they have been looked at.
    pub config_good: bool,
    /// When the configuration was last read with success.
    pub config_reloaded: SystemTime,
}

/// The description of one family, and its labels.
#[derive(Debug)]
pub struct HealthRow {
    /// Name, help, kind and unit.
    pub meta: Meta,
    /// The labels.
    pub labels: &'static [&'static str],
}

const fn row(
    kind: Kind,
    unit: Unit,
    name: &'static str,
    otel_name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> HealthRow {
    let meta = Meta {
        name: Cow::Borrowed(name),
        help: Cow::Borrowed(help),
        kind,
        unit,
        otel_name: Cow::Borrowed(otel_name),
        otel_attributes: &[],
    };
    HealthRow { meta, labels }
}

macro_rules! rows {
    ($($id:ident = $kind:ident, $unit:expr, $name:literal, $otel:literal, $labels:expr, $help:literal;)+) => {
        $(static $id: HealthRow = row(Kind::$kind, $unit, $name, $otel, &$labels, $help);)+

        /// All families of the exporter itself, in the order of the exposition.
        pub static ROWS: &[&HealthRow] = &[$(&$id),+];
    };
}

#[rustfmt::skip]
rows! {
    UP = Gauge, Unit::None, "libvirt_up", "libvirt.up", [],
        "Whether the last collection reached libvirt: 1 yes, 0 no";
    VERSIONS = Info, Unit::None, "libvirt_versions_info", "libvirt.versions", ["library", "libvirt", "hypervisor", "driver"],
        "Versions of libvirt's client library, the daemon and the hypervisor, and the driver's name";
    DOMAINS = Gauge, Unit::Of("domain"), "libvirt_domains", "libvirt.domain.count", ["state"],
        "Domains by state, as far as they are exported";
    COMPLETE = Gauge, Unit::None, "libvirt_domain_stats_complete", "libvirt.domain.stats_complete", [],
        "Whether the last collection has all that was asked for of a running domain: 1 yes, 0 if what its hypervisor would say is missing";
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
    PROCESS_CPU = Counter, Unit::Seconds, "process_cpu_seconds_total", "process.cpu.time", [],
        "Processor time of the exporter, user and system";
    PROCESS_MEMORY = Gauge, Unit::Bytes, "process_resident_memory_bytes", "process.memory.usage", [],
        "Resident memory of the exporter";
    PROCESS_FDS = Gauge, Unit::Of("file_descriptor"), "process_open_fds", "process.unix.file_descriptor.count", [],
        "Open file descriptors of the exporter";
    PROCESS_MAX_FDS = Gauge, Unit::Of("file_descriptor"), "process_max_fds", "process.unix.file_descriptor.limit", [],
        "File descriptors that the exporter may open at most";
    PROCESS_THREADS = Gauge, Unit::Of("thread"), "process_threads", "process.thread.count", [],
        "Threads of the exporter";
    PROCESS_START = Gauge, Unit::Seconds, "process_start_time_seconds", "process.start_time", [],
        "When the exporter started, as a Unix time";
}

/// Puts the exporter's own families in front of those of the domains.
pub fn prepend(families: &mut Families, facts: &Facts<'_>) {
    let series = families.series();
    let mut health = Health { families, built: Vec::new() };
    let collection = facts.collection;
    health.number(&UP, Value::Unsigned(u64::from(collection.error.is_none())));
    if let Some(versions) = &collection.versions {
        let values = [&versions.library, &versions.libvirt, &versions.hypervisor, &versions.driver];
        health.labelled(&VERSIONS, [(values.map(String::as_str).to_vec(), Value::Unsigned(1))]);
    }
    let domains = domains_by_state(collection);
    health.labelled(&DOMAINS, domains.iter().map(|(state, count)| (vec![*state], Value::Unsigned(*count))));
    let domains = facts.domains.iter();
    health.of_domains(&COMPLETE, domains.clone().map(|(subject, status)| (*subject, u64::from(status.complete))));
    let quarantined = domains.filter(|(_, status)| status.quarantined.is_some());
    health.of_domains(&QUARANTINED, quarantined.map(|(subject, _)| (*subject, 1)));
    let version = vec![env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION")];
    health.labelled(&BUILD, [(version, Value::Unsigned(1))]);
    health.number(&COLLECT_DURATION, Value::Float(collection.duration.as_secs_f64()));
    let failures = failures_by_reason(&facts.collector);
    health.labelled(&COLLECT_FAILURES, failures.iter().map(|(reason, count)| (vec![*reason], Value::Unsigned(*count))));
    if let Some(last) = facts.collector.last_success {
        health.number(&LAST_COLLECT, Value::Float(unix_seconds(last)));
    }
    health.number(&RECONNECTS, Value::Unsigned(facts.collector.reconnects));
    health.number(&BATCHES, count(facts.collector.calls));
    health.number(&STUCK_CALLS, count(facts.collector.stuck_calls));
    health.number(&UNMAPPED_KEYS, count(facts.unmapped_keys));
    health.number(&DUPLICATES, Value::Unsigned(facts.duplicate_samples));
    health.number(&SERIES, count(series));
    health.number(&CONFIG_GOOD, Value::Unsigned(u64::from(facts.config_good)));
    health.number(&CONFIG_RELOADED, Value::Float(unix_seconds(facts.config_reloaded)));
    let requests: Vec<_> =
        facts.http_requests.iter().map(|((path, code), count)| (*path, code.to_string(), *count)).collect();
    let requests = requests.iter().map(|(path, code, count)| (vec![*path, code.as_str()], Value::Unsigned(*count)));
    health.labelled(&HTTP_REQUESTS, requests);
    health.add_process();
    let built = health.built;
    families.families.splice(0..0, built);
}

struct Health<'a> {
    families: &'a mut Families,
    built: Vec<Family>,
}

impl Health<'_> {
    fn number(&mut self, row: &HealthRow, value: Value) {
        self.labelled(row, [(Vec::new(), value)]);
    }

    /// One sample for each list of label values, which stand in the order of the row's labels.
    fn labelled<'v>(&mut self, row: &HealthRow, values: impl IntoIterator<Item = (Vec<&'v str>, Value)>) {
        let labels = &mut self.families.labels;
        let samples: Vec<Sample> = values
            .into_iter()
            .map(|(values, value)| {
                let labels = if values.is_empty() {
                    LabelSet::EMPTY
                } else {
                    labels.push(row.labels.iter().copied().zip(values))
                };
                Sample { subject: LabelSet::EMPTY, labels, value }
            })
            .collect();
        if !samples.is_empty() {
            self.built.push(Family { meta: Arc::new(row.meta.clone()), samples });
        }
    }

    /// One sample for each domain.
    fn of_domains(&mut self, row: &HealthRow, values: impl Iterator<Item = (LabelSet, u64)>) {
        let sample = |(subject, value)| Sample { subject, labels: LabelSet::EMPTY, value: Value::Unsigned(value) };
        let samples: Vec<Sample> = values.map(sample).collect();
        if !samples.is_empty() {
            self.built.push(Family { meta: Arc::new(row.meta.clone()), samples });
        }
    }

    /// What the kernel says of this process; what it does not say has no sample.
    fn add_process(&mut self) {
        let Ok(process) = Process::myself() else {
            return;
        };
        if let Ok(stat) = process.stat() {
            let ticks = Value::Unsigned(stat.utime + stat.stime);
            let per_second = Value::Unsigned(procfs::ticks_per_second());
            let cpu = crate::catalogue::float(ticks) / crate::catalogue::float(per_second);
            self.number(&PROCESS_CPU, Value::Float(cpu));
            self.number(&PROCESS_MEMORY, Value::Unsigned(stat.rss_bytes().get()));
            let fds = process.fd_count().ok();
            fds.into_iter().for_each(|fds| self.number(&PROCESS_FDS, count(fds)));
            if let Ok(limits) = process.limits()
                && let LimitValue::Value(limit) = limits.max_open_files.soft_limit
            {
                self.number(&PROCESS_MAX_FDS, Value::Unsigned(limit));
            }
            self.number(&PROCESS_THREADS, Value::Unsigned(stat.num_threads.unsigned_abs()));
            if let Ok(boot) = procfs::boot_time_secs() {
                let since_boot =
                    crate::catalogue::float(Value::Unsigned(stat.starttime)) / crate::catalogue::float(per_second);
                let start = crate::catalogue::float(Value::Unsigned(boot)) + since_boot;
                self.number(&PROCESS_START, Value::Float(start));
            }
        }
    }
}

fn count(number: usize) -> Value {
    Value::Unsigned(u64::try_from(number).unwrap_or(u64::MAX))
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// Every state has a sample, so that a sum over them is the number of domains; without states there is none.
#[must_use]
pub fn domains_by_state(collection: &Collection) -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> = states().iter().map(|state| (*state, 0)).collect();
    for domain in collection.batches.iter().flat_map(|records| records.domains()) {
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
