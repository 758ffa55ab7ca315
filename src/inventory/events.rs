//! Families from events: what has happened on the host, and to each domain that is still there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Subject, each, words};
use crate::domains::{Definition, DomainCounts, HostCounts, Target, Times};
use crate::metrics::{Histogram, LabelSet, Unit, Value};
use crate::rows::{Filled, Filling, Labels, Row, rows};

#[rustfmt::skip]
rows! {
    LIFECYCLE = Counter of State, Unit::Of("event"), "libvirt_domain_lifecycle_events_total", "libvirt.domain.lifecycle.events", ["event", "detail"],
        "Lifecycle events of all domains, those that are gone by now included; a migration to this host that failed is stopped with arrival_failed";
    EVENTS = Counter of State, Unit::Of("event"), "libvirt_domain_events_total", "libvirt.domain.events", ["event"],
        "Events of all domains other than those of their lifecycle, by libvirt's name of the event";
    HOST_JOBS = Counter of State, Unit::Of("job"), "libvirt_host_jobs_total", "libvirt.host.jobs", ["operation", "success"],
        "Background jobs of all domains that ended, those of domains that are gone by now included";
    HOST_JOB_DURATION = Histogram of State, Unit::Seconds, "libvirt_host_job_duration_seconds", "libvirt.host.job.duration", ["operation", "success", "le"],
        "How long background jobs of all domains took, where libvirt says it";
    HOST_JOB_DOWNTIME = Histogram of State, Unit::Seconds, "libvirt_host_job_downtime_seconds", "libvirt.host.job.downtime", ["operation", "success", "le"],
        "How long guests stood still in background jobs such as migrations, where libvirt says it";
    REBOOTS = Counter of State, Unit::Of("reboot"), "libvirt_domain_reboots_total", "libvirt.domain.reboots", [],
        "Reboots and resets of the guest; those within a second of one another are one, as firmware may reset the guest again";
    CRASHES = Counter of State, Unit::Of("crash"), "libvirt_domain_crashes_total", "libvirt.domain.crashes", [],
        "Crashes of the guest and of its hypervisor; not migrations to this host that failed";
    WATCHDOGS = Counter of State, Unit::Of("event"), "libvirt_domain_watchdog_events_total", "libvirt.domain.watchdog.events", ["action"],
        "How often the guest's watchdog fired, by what was done about it";
    IO_ERRORS = Counter of Block, Unit::Of("error"), "libvirt_domain_io_errors_total", "libvirt.domain.disk.io_errors", ["device", "action", "reason"],
        "I/O errors of block devices, by what was done about them";
    CONTROL_ERRORS = Counter of State, Unit::Of("error"), "libvirt_domain_control_errors_total", "libvirt.domain.control_errors", [],
        "How often libvirt lost the hypervisor's monitor";
    BLOCK_JOBS = Counter of Block, Unit::Of("job"), "libvirt_domain_block_jobs_total", "libvirt.domain.disk.jobs", ["device", "operation", "status"],
        "Jobs on block devices that ended or became ready";
    JOBS = Counter of State, Unit::Of("job"), "libvirt_domain_jobs_total", "libvirt.domain.jobs", ["operation", "success"],
        "Background jobs that ended, such as migrations, saves and snapshots";
    LAST_JOB_DURATION = Gauge of State, Unit::Seconds, "libvirt_domain_last_job_duration_seconds", "libvirt.domain.last_job.duration", [],
        "How long the last background job took";
    LAST_JOB_DOWNTIME = Gauge of State, Unit::Seconds, "libvirt_domain_last_job_downtime_seconds", "libvirt.domain.last_job.downtime", [],
        "How long the guest stood still in the last background job";
    MIGRATION_ITERATION = Gauge of State, Unit::None, "libvirt_domain_migration_iteration", "libvirt.domain.migration.iteration", [],
        "The last pass over the guest's memory in a migration or a save";
    MEMORY_FAILURES = Counter of State, Unit::Of("failure"), "libvirt_domain_memory_failures_total", "libvirt.domain.memory.failures", ["recipient", "action"],
        "Failures of the host's memory under the guest, by who was told and what was done about them";
    BLOCK_THRESHOLDS = Counter of Block, Unit::Of("event"), "libvirt_domain_block_threshold_events_total", "libvirt.domain.disk.threshold.events", ["device"],
        "How often a block device grew beyond the threshold that was set for it";
    REMOVAL_FAILURES = Counter of State, Unit::Of("failure"), "libvirt_domain_device_removal_failures_total", "libvirt.domain.device.removal_failures", [],
        "Devices that the guest did not let go";
}

pub(super) fn fill(filling: &mut Filling<'_>, domains: &[Subject<'_>], host: &HostCounts) {
    let lifecycle = host.lifecycle.iter().map(|((event, detail), count)| {
        let (event, detail) = words::lifecycle(*event, *detail);
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
    let plain = |filling: &mut Filling<'_>, row: &Row, count: fn(&DomainCounts) -> u64| {
        filling.of_domains(row, each(domains, |target| Some(Value::Unsigned(count(&target.counts)))));
    };
    plain(filling, &REBOOTS, |counts| counts.reboots);
    plain(filling, &CRASHES, |counts| counts.crashes);
    let watchdogs =
        by_key(domains, |target| &target.counts.watchdogs, |action| vec![("action", words::watchdog_action(*action))]);
    filling.add(&WATCHDOGS, watchdogs);
    filling.add(&IO_ERRORS, domains.iter().flat_map(|(subject, target)| io_errors(*subject, target)));
    plain(filling, &CONTROL_ERRORS, |counts| counts.control_errors);
    let block_jobs = by_key(
        domains,
        |target| &target.counts.block_jobs,
        |(device, job, status)| {
            let (operation, status) = (words::block_job(*job), words::block_job_status(*status));
            vec![("device", Cow::Borrowed(device)), ("operation", operation), ("status", status)]
        },
    );
    filling.add(&BLOCK_JOBS, block_jobs);
    let jobs = by_key(domains, |target| &target.counts.jobs, |(operation, success)| job_labels(*operation, *success));
    filling.add(&JOBS, jobs);
    let seconds = |duration: std::time::Duration| Value::Float(duration.as_secs_f64());
    filling.of_domains(&LAST_JOB_DURATION, each(domains, |target| target.counts.last_job?.duration.map(seconds)));
    filling.of_domains(&LAST_JOB_DOWNTIME, each(domains, |target| target.counts.last_job?.downtime.map(seconds)));
    let iteration = |target: &Target| target.counts.migration_iteration.map(|pass| Value::Signed(i64::from(pass)));
    filling.of_domains(&MIGRATION_ITERATION, each(domains, iteration));
    let failures = by_key(
        domains,
        |target| &target.counts.memory_failures,
        |(recipient, action)| {
            let recipient = words::memory_failure_recipient(*recipient);
            vec![("recipient", recipient), ("action", words::memory_failure_action(*action))]
        },
    );
    filling.add(&MEMORY_FAILURES, failures);
    let thresholds = by_key(
        domains,
        |target| &target.counts.block_thresholds,
        |device| vec![("device", Cow::Borrowed(device.as_str()))],
    );
    filling.add(&BLOCK_THRESHOLDS, thresholds);
    plain(filling, &REMOVAL_FAILURES, |counts| counts.device_removal_failures);
}

fn of_host(labels: Labels<'_>, count: u64) -> Filled<'_> {
    (LabelSet::EMPTY, labels, Value::Unsigned(count))
}

/// What a background job was, and whether it succeeded, where libvirt says that.
fn job_labels(operation: i32, success: Option<bool>) -> Labels<'static> {
    let success = success.map_or("", |success| if success { "true" } else { "false" });
    vec![("operation", words::job_operation(operation)), ("success", Cow::Borrowed(success))]
}

/// `None` if there is no time.
fn histogram(times: &Times) -> Option<Histogram> {
    let histogram = Histogram { buckets: times.cumulative().collect(), sum: Some(times.sum.as_secs_f64()) };
    (histogram.count() > 0).then_some(histogram)
}

/// One sample for each key that a domain has counted.
fn by_key<'v, K: 'v>(
    domains: &'v [Subject<'v>],
    counts: impl Fn(&'v Target) -> &'v BTreeMap<K, u64>,
    labels: impl Fn(&'v K) -> Labels<'v>,
) -> impl Iterator<Item = Filled<'v>> {
    domains.iter().flat_map(move |(subject, target)| {
        let samples = counts(target).iter().map(|(key, count)| (*subject, labels(key), Value::Unsigned(*count)));
        samples.collect::<Vec<_>>()
    })
}

/// libvirt names the device by its alias; everything else calls it by its target. An alias that the definition does not know,
/// such as that of a disk which has been taken out, stays. Before the definition has been read nothing is shown, as it would
/// be under another name soon.
fn io_errors<'v>(subject: LabelSet, target: &'v Target) -> Vec<Filled<'v>> {
    if target.definition == Definition::Pending {
        return Vec::new();
    }
    let disks = target.metadata().map_or(&[][..], |metadata| &metadata.disks);
    let device_of = |alias: &'v str| {
        let disk = disks.iter().find(|disk| !alias.is_empty() && disk.alias == alias);
        disk.map_or(alias, |disk| disk.device.as_str())
    };
    // A disk that has no alias of its own may be counted under its target.
    let mut counts: BTreeMap<(&str, i32, &str), u64> = BTreeMap::new();
    for ((alias, action, reason), count) in &target.counts.io_errors {
        *counts.entry((device_of(alias), *action, reason)).or_default() += count;
    }
    let sample = |((device, action, reason), count)| {
        let action = words::io_error_action(action);
        let labels = vec![("device", Cow::Borrowed(device)), ("action", action), ("reason", Cow::Borrowed(reason))];
        (subject, labels, Value::Unsigned(count))
    };
    counts.into_iter().map(sample).collect()
}
