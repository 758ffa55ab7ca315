//! Whether domains' hypervisors respond: not a separate probe, but what the scheduler asks before it quarantines one.

use uuid::Uuid;

use super::{Session, had};
use crate::libvirt::{ControlState, LibvirtError};

/// A domain that has stopped has no control state, and is omitted. Each part of the answer is a sign that the daemon is
/// `alive`.
pub(super) fn fetch(
    session: &mut Session,
    domains: &[Uuid],
    alive: &dyn Fn(),
) -> Result<Vec<(Uuid, ControlState)>, LibvirtError> {
    const PART: usize = 64;
    session.find(domains)?;
    let mut states = Vec::with_capacity(domains.len());
    for (number, uuid) in domains.iter().enumerate() {
        if number % PART == PART - 1 {
            alive();
        }
        let Some(domain) = session.handles.get(uuid) else { continue };
        states.extend(had(domain.control_state(&session.connection))?.map(|state| (*uuid, state)));
    }
    Ok(states)
}
