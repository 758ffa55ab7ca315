//! The background job of a domain that runs.
//!
//! libvirt has no event for the begin of a job, and takes the domain's job lock, if for a moment, to say that there is none. So
//! each domain is asked now and then, at a pace that ten thousand do not change; at once when an event shows that something goes
//! on; and every second while there is a job, so that each scrape sees how far it is. The collection does not wait for that: a
//! guest whose monitor hangs in a migration would delay it.

use std::time::Duration;

use super::{Probe, Scope, Session, Subject, WaitsFor};
use crate::config::Group;
use crate::libvirt::{EventKind, LibvirtError, ParamValue, Records, job_operation};
use crate::tables::{self, BYTES, BYTES_PER_SECOND, MILLIS, NONE, NUMBER, Origin, PERCENT, Row, Table, of};

/// How often a domain is asked that has no job. Each call wakes five threads: of all that goes on between scrapes, this costs most.
const EVERY: Duration = Duration::from_secs(30);
/// How often one that has.
const MEANWHILE: Duration = Duration::from_secs(1);
/// Fifty calls a second, at most.
const PACE: Duration = Duration::from_millis(20);

pub(super) const PROBE: Probe = Probe {
    table: Some(&TABLE),
    pace: |_| PACE,
    time_limit: |_| Duration::from_secs(2),
    meanwhile: |records| (!records.is_empty()).then_some(MEANWHILE),
    follows,
    fetch,
    ..Probe::of_group(Group::Job, Scope::RunningDomain, WaitsFor::Job, |_| Some(EVERY))
};

/// `job.*`, under libvirt's names (`VIR_DOMAIN_JOB_*`). Jobs that have ended are in the tables of events.
#[rustfmt::skip]
static TABLE: Table = Table {
    group: Some(Group::Job),
    subject: tables::Subject::Domain,
    origin: Origin::Process,
    // It is asked of those that run.
    active_only: false,
    scopes: &[],
    rows: &[
        Row::presence(&["job.operation"], &["operation"], "libvirt_domain_job_running", ("libvirt.domain.job.running", NONE),
            "Background job of the domain that runs now, by operation: always 1, no sample without a job; a migration is shown by its source host only"),
        Row::gauge(&["job.time_elapsed"], "libvirt_domain_job_elapsed_seconds", MILLIS, ("libvirt.domain.job.elapsed", NONE),
            "How long the job has been running"),
        Row::gauge(&["job.time_remaining"], "libvirt_domain_job_remaining_seconds", MILLIS, ("libvirt.domain.job.remaining", NONE),
            "Estimated time until the job ends, if libvirt knows it"),
        Row::gauge(&["job.downtime"], "libvirt_domain_job_expected_downtime_seconds", MILLIS, ("libvirt.domain.job.expected_downtime", NONE),
            "Expected downtime of the guest at the end of the migration"),
        Row::gauge(&["job.setup_time"], "libvirt_domain_job_setup_seconds", MILLIS, ("libvirt.domain.job.setup", NONE),
            "How long the migration took to set up"),
        Row::gauge(&["job.data_total"], "libvirt_domain_job_data_bytes", BYTES, ("libvirt.domain.job.data.size", NONE),
            "Data of the job, memory and disks together; it grows while the guest writes"),
        Row::gauge(&["job.data_processed"], "libvirt_domain_job_data_processed_bytes", BYTES, ("libvirt.domain.job.data.processed", NONE),
            "Data that has been transferred"),
        Row::gauge(&["job.data_remaining"], "libvirt_domain_job_data_remaining_bytes", BYTES, ("libvirt.domain.job.data.remaining", NONE),
            "Data that is yet to be transferred"),
        Row::gauge(&["job.memory_total"], "libvirt_domain_job_memory_bytes", BYTES, ("libvirt.domain.job.memory.size", NONE),
            "Memory of the guest that the job transfers"),
        Row::gauge(&["job.memory_processed"], "libvirt_domain_job_memory_processed_bytes", BYTES, ("libvirt.domain.job.memory.processed", NONE),
            "Memory that has been transferred, pages that were sent again included"),
        Row::gauge(&["job.memory_remaining"], "libvirt_domain_job_memory_remaining_bytes", BYTES, ("libvirt.domain.job.memory.remaining", NONE),
            "Memory that is yet to be transferred"),
        Row::gauge(&["job.memory_bps"], "libvirt_domain_job_memory_bytes_per_second", BYTES_PER_SECOND, ("libvirt.domain.job.memory.rate", NONE),
            "How fast memory is transferred"),
        Row::gauge(&["job.memory_dirty_bps"], "libvirt_domain_job_memory_dirty_bytes_per_second", BYTES_PER_SECOND, ("libvirt.domain.job.memory.dirty_rate", NONE),
            "Rate at which the guest writes to its memory (memory_dirty_rate in pages, times memory_page_size); while it is above the transfer rate, a migration does not end by itself"),
        Row::gauge(&["job.memory_iteration"], "libvirt_domain_job_memory_iteration", NUMBER, ("libvirt.domain.job.memory.iteration", NONE),
            "The pass over the guest's memory"),
        Row::gauge(&["job.memory_page_size"], "libvirt_domain_job_memory_page_size_bytes", BYTES, ("libvirt.domain.job.memory.page_size", NONE),
            "Size of a page of memory"),
        Row::gauge(&["job.memory_constant"], "libvirt_domain_job_memory_constant_pages", of("page"), ("libvirt.domain.job.memory.constant", NONE),
            "Pages filled with one byte value, of which only that byte was transferred"),
        Row::gauge(&["job.memory_normal"], "libvirt_domain_job_memory_normal_pages", of("page"), ("libvirt.domain.job.memory.normal", NONE),
            "Pages that were transferred whole"),
        Row::gauge(&["job.memory_normal_bytes"], "libvirt_domain_job_memory_normal_bytes", BYTES, ("libvirt.domain.job.memory.normal_size", NONE),
            "Memory that was transferred in whole pages"),
        Row::gauge(&["job.memory_postcopy_requests"], "libvirt_domain_job_memory_postcopy_requests", of("request"), ("libvirt.domain.job.memory.postcopy_requests", NONE),
            "Pages that the guest has asked for from the other host since it switched to post-copy"),
        Row::gauge(&["job.disk_total"], "libvirt_domain_job_disk_bytes", BYTES, ("libvirt.domain.job.disk.size", NONE),
            "Data of disks that the job transfers"),
        Row::gauge(&["job.disk_processed"], "libvirt_domain_job_disk_processed_bytes", BYTES, ("libvirt.domain.job.disk.processed", NONE),
            "Data of disks that has been transferred"),
        Row::gauge(&["job.disk_remaining"], "libvirt_domain_job_disk_remaining_bytes", BYTES, ("libvirt.domain.job.disk.remaining", NONE),
            "Data of disks that is yet to be transferred"),
        Row::gauge(&["job.disk_bps"], "libvirt_domain_job_disk_bytes_per_second", BYTES_PER_SECOND, ("libvirt.domain.job.disk.rate", NONE),
            "How fast data of disks is transferred"),
        Row::gauge(&["job.disk_temp_total"], "libvirt_domain_job_disk_scratch_bytes", BYTES, ("libvirt.domain.job.disk.scratch_size", NONE),
            "Scratch space of the backup, for blocks that the guest overwrites meanwhile"),
        Row::gauge(&["job.disk_temp_used"], "libvirt_domain_job_disk_scratch_used_bytes", BYTES, ("libvirt.domain.job.disk.scratch_used", NONE),
            "Scratch space of the backup that is used"),
        Row::gauge(&["job.compression_cache"], "libvirt_domain_job_compression_cache_bytes", BYTES, ("libvirt.domain.job.compression.cache_size", NONE),
            "Size of the cache for compressed pages"),
        Row::gauge(&["job.compression_bytes"], "libvirt_domain_job_compression_bytes", BYTES, ("libvirt.domain.job.compression.size", NONE),
            "Compressed data that was transferred"),
        Row::gauge(&["job.compression_pages"], "libvirt_domain_job_compression_pages", of("page"), ("libvirt.domain.job.compression.pages", NONE),
            "Pages that were transferred compressed"),
        Row::gauge(&["job.compression_cache_misses"], "libvirt_domain_job_compression_cache_misses", of("miss"), ("libvirt.domain.job.compression.cache_misses", NONE),
            "Changed pages that were not in the cache"),
        Row::gauge(&["job.compression_overflow"], "libvirt_domain_job_compression_overflows", of("page"), ("libvirt.domain.job.compression.overflows", NONE),
            "Pages that would have become larger by compression"),
        Row::gauge(&["job.auto_converge_throttle"], "libvirt_domain_job_auto_converge_throttle_ratio", PERCENT, ("libvirt.domain.job.auto_converge_throttle", NONE),
            "Share of time by which auto-converge slows the guest's vCPUs down, from 0 to 1"),
        Row::gauge(&["job.vfio_data_transferred"], "libvirt_domain_job_vfio_transferred_bytes", BYTES, ("libvirt.domain.job.vfio.transferred", NONE),
            "State of passed-through devices that was transferred"),
    ],
};

/// A migration or a save tells of each of its passes; saves and dumps stop the guest first, and much begins as it is started.
fn follows(event: &EventKind) -> bool {
    matches!(event, EventKind::MigrationIteration { .. } | EventKind::JobCompleted(_) | EventKind::Lifecycle { .. })
}

/// No record where the domain has no job.
fn fetch(session: &mut Session, subject: Subject) -> Result<Records, LibvirtError> {
    let mut records = Records::default();
    let Some(uuid) = subject.domain() else { return Ok(records) };
    let (domain, connection) = session.domain(uuid)?;
    let Some(job) = domain.job_stats(connection)? else { return Ok(records) };
    let identity = domain.identity();
    records.push_domain(&identity.name, uuid, identity.id);
    let number = |wanted: &str| {
        job.domain(0).params().find(|param| param.key == wanted).and_then(|param| match param.value {
            ParamValue::ULLong(value) => Some(value),
            _ => None,
        })
    };
    let dirty = number("memory_dirty_rate").zip(number("memory_page_size"));
    let dirty = dirty.and_then(|(pages, size)| pages.checked_mul(size));
    for param in job.domain(0).params() {
        match (param.key, param.value) {
            ("operation", ParamValue::Int(operation)) => {
                records.push("job.operation", ParamValue::String(&job_operation(operation)));
            }
            ("memory_dirty_rate", _) => {}
            (key, value) => records.push(&format!("job.{key}"), value),
        }
    }
    if let Some(dirty) = dirty {
        records.push("job.memory_dirty_bps", ParamValue::ULLong(dirty));
    }
    Ok(records)
}
