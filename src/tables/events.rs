//! From libvirt's events.

use super::Group;
use super::kind::Subject;
use super::row::{NUMBER, SECONDS, of, table};

#[rustfmt::skip]
table! {
    /// Counts over all domains.
    HOST: Some(Group::State), Subject::Host;
    LIFECYCLE = Counter, of("event"), "libvirt_host_lifecycle_events_total", "libvirt.host.lifecycle.events", ["event", "detail"],
        "Lifecycle events of all domains, including those that no longer exist; a failed migration to this host is stopped with arrival_failed";
    EVENTS = Counter, of("event"), "libvirt_host_events_total", "libvirt.host.events", ["event"],
        "Events of all domains other than those of their lifecycle, by libvirt's name of the event";
    HOST_JOBS = Counter, of("job"), "libvirt_host_jobs_total", "libvirt.host.jobs", ["operation", "success"],
        "Background jobs of all domains that ended, including domains that no longer exist";
    HOST_JOB_DURATION = Histogram, SECONDS, "libvirt_host_job_duration_seconds", "libvirt.host.job.duration", ["operation", "success", "le"],
        "How long background jobs of all domains took, if libvirt reports it";
    HOST_JOB_DOWNTIME = Histogram, SECONDS, "libvirt_host_job_downtime_seconds", "libvirt.host.job.downtime", ["operation", "success", "le"],
        "How long guests were paused by background jobs such as migrations, if libvirt reports it";
}

#[rustfmt::skip]
table! {
    /// Counts over all storage pools.
    POOLS: Some(Group::Pool), Subject::Host;
    POOL_EVENTS = Counter, of("event"), "libvirt_host_pool_events_total", "libvirt.host.pool.events", ["event"],
        "Events of all storage pools, including those that no longer exist: defined, started, refreshed, stopped and the like";
}

#[rustfmt::skip]
table! {
    /// Counts over all networks.
    NETWORKS: Some(Group::Network), Subject::Host;
    NETWORK_EVENTS = Counter, of("event"), "libvirt_host_network_events_total", "libvirt.host.network.events", ["event"],
        "Events of all networks of libvirt, including those that no longer exist: defined, started, stopped and the like";
}

#[rustfmt::skip]
table! {
    /// Counts of each domain that come and go with the group `state`.
    STATE: Some(Group::State), Subject::Domain;
    REBOOTS = Counter, of("reboot"), "libvirt_domain_reboots_total", "libvirt.domain.reboots", [],
        "Reboots and resets of the guest; those within a second of one another are one, as firmware may reset the guest again";
    CRASHES = Counter, of("crash"), "libvirt_domain_crashes_total", "libvirt.domain.crashes", [],
        "Crashes of the guest and of its hypervisor; not migrations to this host that failed";
    WATCHDOGS = Counter, of("event"), "libvirt_domain_watchdog_events_total", "libvirt.domain.watchdog.events", ["action"],
        "Times the guest's watchdog fired, by action taken";
    CONTROL_ERRORS = Counter, of("error"), "libvirt_domain_control_errors_total", "libvirt.domain.control_errors", [],
        "Times libvirt lost the hypervisor's monitor connection";
    JOBS = Counter, of("job"), "libvirt_domain_jobs_total", "libvirt.domain.jobs", ["operation", "success"],
        "Background jobs that ended, such as migrations, saves and snapshots";
    LAST_JOB_DURATION = Gauge, SECONDS, "libvirt_domain_last_job_duration_seconds", "libvirt.domain.last_job.duration", [],
        "How long the last background job took";
    LAST_JOB_DOWNTIME = Gauge, SECONDS, "libvirt_domain_last_job_downtime_seconds", "libvirt.domain.last_job.downtime", [],
        "How long the last background job paused the guest";
    MIGRATION_ITERATION = Gauge, NUMBER, "libvirt_domain_migration_iteration", "libvirt.domain.migration.iteration", [],
        "The last pass over the guest's memory in a migration or a save";
    MEMORY_FAILURES = Counter, of("failure"), "libvirt_domain_memory_failures_total", "libvirt.domain.memory.failures", ["recipient", "action"],
        "Failures of the host's memory under the guest, by recipient and action taken";
    REMOVAL_FAILURES = Counter, of("failure"), "libvirt_domain_device_removal_failures_total", "libvirt.domain.device.removal_failures", [],
        "Device removals the guest did not complete";
}

#[rustfmt::skip]
table! {
    /// Likewise with `block`.
    BLOCK: Some(Group::Block), Subject::Domain;
    IO_ERRORS = Counter, of("error"), "libvirt_domain_block_io_errors_total", "libvirt.domain.disk.io_errors", ["device", "action", "reason"],
        "I/O errors of block devices, by action taken and by reason, such as enospc, where libvirt knows it";
    BLOCK_JOBS = Counter, of("job"), "libvirt_domain_block_jobs_total", "libvirt.domain.disk.jobs", ["device", "operation", "status"],
        "Jobs on block devices that ended or became ready";
    BLOCK_THRESHOLDS = Counter, of("event"), "libvirt_domain_block_threshold_events_total", "libvirt.domain.disk.threshold.events", ["device"],
        "Times a block device grew beyond its threshold";
}
