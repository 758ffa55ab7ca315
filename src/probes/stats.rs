//! Statistics of running domains, several in one call.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Probe, Scope, Session, WaitsFor};
use crate::libvirt::{LibvirtError, Records, StatsRequest};

pub(super) const PROBE: Probe = Probe::new("stats", Scope::Batch, WaitsFor::Hypervisor);

/// The records of `domains`; those that have vanished have none.
pub(super) fn fetch(session: &mut Session, domains: &[Uuid], request: StatsRequest) -> Result<Records, LibvirtError> {
    session.find(domains)?;
    let mut records = Records::default();
    let handles = domains.iter().filter_map(|uuid| session.handles.get(uuid));
    session.connection.fetch_stats_of(handles, request, &mut records)?;
    if records.len() < domains.len() {
        let answered: HashSet<Uuid> = records.domains().map(|record| record.uuid).collect();
        let vanished = domains.iter().filter(|uuid| !answered.contains(uuid));
        vanished.for_each(|uuid| drop(session.handles.remove(uuid)));
    }
    Ok(records)
}
