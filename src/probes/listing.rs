//! Which domains there are, what they do, and what libvirt keeps about them.

use std::collections::HashSet;

use uuid::Uuid;

use super::Session;
use crate::domains::{Flags, Listing, PowerState};
use crate::libvirt::{Domain, DomainList, Identity, LibvirtError};

/// A call for each flag, however many domains there are. Each that ends is a sign that the daemon is `alive`.
pub(super) fn fetch(session: &Session, alive: &dyn Fn()) -> Result<Listing, LibvirtError> {
    let connection = &session.connection;
    let with = |list: DomainList| -> Result<HashSet<Uuid>, LibvirtError> {
        let domains = connection.list_domains(list)?;
        alive();
        Ok(domains.iter().map(Domain::uuid).collect())
    };
    let all: Vec<Identity> = connection.list_domains(DomainList::All)?.iter().map(Domain::identity).collect();
    alive();
    let (paused, other) = (with(DomainList::Paused)?, with(DomainList::Other)?);
    let (persistent, autostart) = (with(DomainList::Persistent)?, with(DomainList::Autostart)?);
    let managed_save = with(DomainList::ManagedSave)?;
    let (snapshots, checkpoints) = (with(DomainList::HasSnapshot)?, with(DomainList::HasCheckpoint)?);
    let describe = |identity: Identity| {
        let uuid = &identity.uuid;
        let state = match identity.id {
            _ if other.contains(uuid) => PowerState::Other,
            None => PowerState::ShutOff,
            Some(_) if paused.contains(uuid) => PowerState::Paused,
            Some(_) => PowerState::Running,
        };
        let flags = Flags {
            autostart: autostart.contains(uuid),
            persistent: persistent.contains(uuid),
            managed_save: managed_save.contains(uuid),
            has_snapshots: snapshots.contains(uuid),
            has_checkpoints: checkpoints.contains(uuid),
        };
        (identity, state, flags)
    };
    let host = connection.host();
    Ok(Listing { domains: all.into_iter().map(describe).collect(), host })
}
