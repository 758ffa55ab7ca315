//! Statistics of all domains that are shut off, in one call.

use super::{DomainFilter, Probe, Scope, Session, WaitsFor};
use crate::libvirt::{LibvirtError, Records, StatsRequest};

pub(super) const PROBE: Probe = Probe::new("inactive_stats", Scope::Host, WaitsFor::Nothing);

/// The records of the domains that are `wanted`.
pub(super) fn fetch(session: &Session, request: StatsRequest, wanted: &DomainFilter) -> Result<Records, LibvirtError> {
    let mut records = Records::default();
    session.connection.fetch_stats(request, |name, uuid| wanted(name, uuid), &mut records)?;
    Ok(records)
}
