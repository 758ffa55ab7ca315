//! The definition of a domain: its XML, parsed.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Asked, Outcome, Probe, Scope, Session, Task, WaitsFor};
use crate::config::{Config, MetadataLabels};
use crate::domains::{Metadata, fingerprint, parse_definition};
use crate::libvirt::LibvirtError;

/// From libvirt 11.0 on, the call waits for the domain's job.
pub(super) const PROBE: Probe = Probe {
    interval: |config| Some(config.metadata.refresh_interval),
    pace,
    time_limit: |config| config.metadata.timeout,
    task,
    failed: |class| Outcome::Undefined(class.into()),
    ..Probe::new("definitions", Scope::Domain, WaitsFor::Job)
};

fn pace(config: &Config) -> Duration {
    Duration::from_secs(1) / u32::try_from(config.metadata.rate.max(1)).unwrap_or(u32::MAX)
}

fn task(asked: &Asked<'_>) -> Task {
    let Some(domain) = asked.domain else { return Task::Ask(asked.probe, asked.subject) };
    let known = domain.metadata().map(|metadata| metadata.fingerprint);
    Task::Define { uuid: domain.identity.uuid, labels: Arc::new(asked.config.metadata.labels.clone()), known }
}

/// The definition, unless it is the one with the fingerprint that is `known`.
pub(super) fn fetch(
    session: &mut Session,
    uuid: Uuid,
    labels: &MetadataLabels,
    known: Option<u64>,
) -> Result<Outcome, LibvirtError> {
    let (domain, connection) = session.domain(uuid)?;
    let xml = domain.xml_description(connection)?;
    // Old daemons, and drivers other than QEMU's, have none.
    let messages = domain.messages(connection).ok();
    let fingerprint = fingerprint(&xml, labels, messages);
    if known == Some(fingerprint) {
        return Ok(Outcome::Unchanged);
    }
    let parsed = parse_definition(&xml, labels);
    Ok(Outcome::Defined(parsed.map(|metadata| Arc::new(Metadata { fingerprint, messages, ..metadata }))))
}
