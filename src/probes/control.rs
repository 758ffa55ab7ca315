//! Whether domains' hypervisors respond: not a separate probe, but what the scheduler asks before it quarantines one.

use uuid::Uuid;

use super::Session;
use crate::libvirt::{ControlState, ErrorClass, LibvirtError};

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
        match domain.control_state(&session.connection) {
            Ok(state) => states.push((*uuid, state)),
            Err(error) if error.class == ErrorClass::Disconnected => return Err(error),
            Err(_) => {}
        }
    }
    Ok(states)
}
