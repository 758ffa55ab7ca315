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

/// How often a domain is asked that has no job. Each call wakes five threads: of all that goes on between scrapes, this costs most.
const EVERY: Duration = Duration::from_secs(30);
/// How often one that has.
const MEANWHILE: Duration = Duration::from_secs(1);
/// Fifty calls a second, at most.
const PACE: Duration = Duration::from_millis(20);

pub(super) const PROBE: Probe = Probe {
    pace: |_| PACE,
    time_limit: |_| Duration::from_secs(2),
    meanwhile: |records| (!records.is_empty()).then_some(MEANWHILE),
    follows,
    fetch,
    ..Probe::of_group(Group::Job, Scope::RunningDomain, WaitsFor::Job, |_| Some(EVERY))
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
