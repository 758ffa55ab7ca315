//! Statistics of all domains that are shut off, in one call.

use super::{DomainFilter, Session};
use crate::libvirt::{LibvirtError, Records, StatsRequest};

/// The records of the domains that are `wanted`.
pub(super) fn fetch(session: &Session, request: StatsRequest, wanted: &DomainFilter) -> Result<Records, LibvirtError> {
    let mut records = Records::default();
    session.connection.fetch_stats(request, |name, uuid| wanted(name, uuid), &mut records)?;
    Ok(records)
}
