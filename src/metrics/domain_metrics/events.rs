//! Families from events: what has happened on the host, and to each domain that is still there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Shown, each, enum_labels};
use crate::domains::{Definition, Domain, DomainCounts, HostCounts, Times};
use crate::libvirt::{ObjectKind, job_operation};
use crate::metrics::fill::{Filled, Filling, Labels};
use crate::metrics::{Histogram, SubjectId, Value};
use crate::tables::Metric;
use crate::tables::events::{
    BLOCK_JOBS, BLOCK_THRESHOLDS, CONTROL_ERRORS, CRASHES, EVENTS, HOST_JOB_DOWNTIME, HOST_JOB_DURATION, HOST_JOBS,
    IO_ERRORS, JOBS, LAST_JOB_DOWNTIME, LAST_JOB_DURATION, LIFECYCLE, MEMORY_FAILURES, MIGRATION_ITERATION,
    NETWORK_EVENTS, POOL_EVENTS, REBOOTS, REMOVAL_FAILURES, WATCHDOGS,
};

pub(super) fn fill(filling: &mut Filling<'_>, domains: &[Shown<'_>], host: &HostCounts) {
    let lifecycle = host.lifecycle.iter().map(|((event, detail), count)| {
        let (event, detail) = enum_labels::lifecycle(*event, *detail);
        of_host(vec![("event", event), ("detail", detail)], *count)
    });
    filling.add(&LIFECYCLE, lifecycle);
    let others = host.others.iter().map(|(event, count)| of_host(vec![("event", Cow::Borrowed(*event))], *count));
    filling.add(&EVENTS, others);
    let labelled = || host.jobs.iter().map(|((operation, success), jobs)| (job_labels(*operation, *success), jobs));
    filling.add(&HOST_JOBS, labelled().map(|(labels, jobs)| of_host(labels, jobs.count)));
    filling.histograms(
        &HOST_JOB_DURATION,
        labelled().filter_map(|(labels, jobs)| Some((labels, histogram(&jobs.durations)?))),
    );
    filling.histograms(
        &HOST_JOB_DOWNTIME,
        labelled().filter_map(|(labels, jobs)| Some((labels, histogram(&jobs.downtimes)?))),
    );
    for (row, kind) in [(&POOL_EVENTS, ObjectKind::Pool), (&NETWORK_EVENTS, ObjectKind::Network)] {
        let of_kind = host.objects.iter().filter(|((of, _), _)| *of == kind);
        let counts = of_kind.map(|((_, event), count)| of_host(vec![("event", enum_labels::object(*event))], *count));
        filling.add(row, counts);
    }
    let plain = |filling: &mut Filling<'_>, row: &'static Metric, count: fn(&DomainCounts) -> u64| {
        filling.of_domains(row, each(domains, |domain| Some(Value::Unsigned(count(&domain.counts)))));
    };
    plain(filling, &REBOOTS, |counts| counts.reboots);
    plain(filling, &CRASHES, |counts| counts.crashes);
    let watchdogs = by_key(
        domains,
        |domain| &domain.counts.watchdogs,
        |action| vec![("action", enum_labels::watchdog_action(*action))],
    );
    filling.add(&WATCHDOGS, watchdogs);
    filling.add(&IO_ERRORS, domains.iter().flat_map(|(subject, domain)| io_errors(*subject, domain)));
    plain(filling, &CONTROL_ERRORS, |counts| counts.control_errors);
    let block_jobs = by_key(
        domains,
        |domain| &domain.counts.block_jobs,
        |(device, job, status)| {
            let (operation, status) = (enum_labels::block_job(*job), enum_labels::block_job_status(*status));
            vec![("device", Cow::Borrowed(device)), ("operation", operation), ("status", status)]
        },
    );
    filling.add(&BLOCK_JOBS, block_jobs);
    let jobs = by_key(domains, |domain| &domain.counts.jobs, |(operation, success)| job_labels(*operation, *success));
    filling.add(&JOBS, jobs);
    let seconds = |duration: std::time::Duration| Value::Float(duration.as_secs_f64());
    filling.of_domains(&LAST_JOB_DURATION, each(domains, |domain| domain.counts.last_job?.duration.map(seconds)));
    filling.of_domains(&LAST_JOB_DOWNTIME, each(domains, |domain| domain.counts.last_job?.downtime.map(seconds)));
    let iteration = |domain: &Domain| domain.counts.migration_iteration.map(|pass| Value::Signed(i64::from(pass)));
    filling.of_domains(&MIGRATION_ITERATION, each(domains, iteration));
    let failures = by_key(
        domains,
        |domain| &domain.counts.memory_failures,
        |(recipient, action)| {
            let recipient = enum_labels::memory_failure_recipient(*recipient);
            vec![("recipient", recipient), ("action", enum_labels::memory_failure_action(*action))]
        },
    );
    filling.add(&MEMORY_FAILURES, failures);
    let thresholds = by_key(
        domains,
        |domain| &domain.counts.block_thresholds,
        |device| vec![("device", Cow::Borrowed(device.as_str()))],
    );
    filling.add(&BLOCK_THRESHOLDS, thresholds);
    plain(filling, &REMOVAL_FAILURES, |counts| counts.device_removal_failures);
}

fn of_host(labels: Labels<'_>, count: u64) -> Filled<'_> {
    (SubjectId::HOST, labels, Value::Unsigned(count))
}

/// What a background job was, and whether it succeeded, where libvirt says that.
fn job_labels(operation: i32, success: Option<bool>) -> Labels<'static> {
    let success = success.map_or("", |success| if success { "true" } else { "false" });
    vec![("operation", job_operation(operation)), ("success", Cow::Borrowed(success))]
}

/// `None` if there is no time.
fn histogram(times: &Times) -> Option<Histogram> {
    let histogram = Histogram { buckets: times.cumulative().collect(), sum: Some(times.sum.as_secs_f64()) };
    (histogram.count() > 0).then_some(histogram)
}

/// One sample for each key that a domain has counted.
fn by_key<'v, K: 'v>(
    domains: &'v [Shown<'v>],
    counts: impl Fn(&'v Domain) -> &'v BTreeMap<K, u64>,
    labels: impl Fn(&'v K) -> Labels<'v>,
) -> impl Iterator<Item = Filled<'v>> {
    domains.iter().flat_map(move |(subject, domain)| {
        let samples = counts(domain).iter().map(|(key, count)| (*subject, labels(key), Value::Unsigned(*count)));
        samples.collect::<Vec<_>>()
    })
}

/// libvirt names the device by its alias; everything else calls it by its domain. An alias that the definition does not know,
/// such as that of a disk which has been taken out, stays. Before the definition has been read nothing is shown, as it would
/// be under another name soon.
fn io_errors<'v>(subject: SubjectId, domain: &'v Domain) -> Vec<Filled<'v>> {
    if domain.definition == Definition::Pending {
        return Vec::new();
    }
    let disks = domain.metadata().map_or(&[][..], |metadata| &metadata.disks);
    let device_of = |alias: &'v str| {
        let disk = disks.iter().find(|disk| !alias.is_empty() && disk.alias == alias);
        disk.map_or(alias, |disk| disk.device.as_str())
    };
    // A disk without its own alias may be counted under its domain.
    let mut counts: BTreeMap<(&str, i32, &str), u64> = BTreeMap::new();
    for ((alias, action, reason), count) in &domain.counts.io_errors {
        *counts.entry((device_of(alias), *action, reason)).or_default() += count;
    }
    let sample = |((device, action, reason), count)| {
        let action = enum_labels::io_error_action(action);
        let labels = vec![("device", Cow::Borrowed(device)), ("action", action), ("reason", Cow::Borrowed(reason))];
        (subject, labels, Value::Unsigned(count))
    };
    counts.into_iter().map(sample).collect()
}
