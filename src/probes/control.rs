//! Whether domains' hypervisors respond: not a separate probe, but what the scheduler asks before it quarantines one.

use uuid::Uuid;

use super::session::Part;
use super::{Session, had};
use crate::libvirt::{ControlState, LibvirtError};

/// Handles of more domains than this are let go first: most of them may be gone.
const MOST_HANDLES: usize = 1024;

/// A domain that has stopped has no control state, and is omitted. Each is `told` as it comes: the next one may wait for the lock
/// of its domain, which libvirt holds as long as a hook runs. So no other domain is looked at for it either.
pub(super) fn fetch(
    session: &mut Session,
    domains: &[Uuid],
    told: &dyn Fn(Part),
) -> Result<Vec<(Uuid, ControlState)>, LibvirtError> {
    if session.handles.len() > MOST_HANDLES {
        session.handles.clear();
    }
    let mut states = Vec::with_capacity(domains.len());
    for uuid in domains {
        session.look_up(*uuid)?;
        let state = session.handles.get(uuid).map(|domain| domain.control_state(&session.connection));
        let state = state.map_or(Ok(None), had)?;
        told(Part::State(*uuid, state));
        states.extend(state.map(|state| (*uuid, state)));
    }
    Ok(states)
}
