//! The domains, as events and listings tell of them. Pure: no clock, no connection.
//!
//! Events are applied in the order in which they come. A listing replaces the picture; the events that came while it was
//! being fetched are applied to it again, because it may be older than they are. Whichever came last wins, and as every
//! change sends an event, the last event of each domain is the truth.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry as Place};
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

use super::counts::{ObjectCounts, count_object};
use super::selection::is_wanted;
use super::{Addresses, Definition, Domain, DomainCounts, Flags, HostCounts, PowerState, Snapshot, lifecycle};
use crate::config::Domains;
use crate::libvirt::{Event, EventKind, Host, Identity};

/// `VIR_DOMAIN_BLOCK_JOB_COMPLETED` and `VIR_DOMAIN_BLOCK_JOB_READY`: the disk's source is another one afterwards.
const BLOCK_JOB_CHANGES_SOURCE: [i32; 2] = [0, 3];

/// Most devices of a domain whose attachment is remembered; more than QEMU takes.
const MOST_ATTACHED: usize = 4096;

/// What a listing found.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// All domains.
    pub domains: Vec<(Identity, PowerState, Flags)>,
    /// What the machine below them has.
    pub host: Option<Host>,
}

/// What follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consequences {
    /// The domain's definition may be another one.
    pub redefined: bool,
    /// The domain may have other addresses.
    pub moved: bool,
    /// Only a listing can tell all that follows.
    pub resync: bool,
}

/// What the owner of a registry keeps with each domain. It is dropped with its domain.
pub trait Companion: Default {
    /// The domain has stopped or started: what was true of its last hypervisor process is void.
    fn begin_incarnation(&mut self);
}

impl Companion for () {
    fn begin_incarnation(&mut self) {}
}

/// The domains of one connection, by UUID, each with a companion.
#[derive(Debug, Default)]
pub struct Registry<C> {
    entries: BTreeMap<Uuid, Entry<C>>,
    counts: Arc<HostCounts>,
    wanted: Domains,
    /// What was handed out last, while nothing has changed since.
    current: Option<Arc<[Arc<Domain>]>>,
}

#[derive(Debug)]
struct Entry<C> {
    domain: Arc<Domain>,
    companion: C,
}

impl<C: Companion> Registry<C> {
    /// An empty one that selects what `wanted` says.
    #[must_use]
    pub fn new(wanted: Domains) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Selects the domains by other rules.
    pub fn select(&mut self, wanted: Domains) {
        self.wanted = wanted;
        let uuids: Vec<Uuid> = self.entries.keys().copied().collect();
        uuids.into_iter().for_each(|uuid| self.change(uuid, |_| {}));
    }

    /// Takes what a listing found as the truth, but for what has happened `since` it was asked for. Of a domain that runs on,
    /// everything else that is known stays. Gives the domains that are new or in another incarnation.
    pub fn replace(&mut self, listing: Listing, since: &[Event], now: SystemTime) -> Vec<Uuid> {
        let before: BTreeMap<Uuid, Option<u32>> =
            self.entries.iter().map(|(uuid, entry)| (*uuid, entry.domain.identity.id)).collect();
        self.replace_picture(listing, since, now);
        let mut changed = Vec::new();
        for (uuid, entry) in &mut self.entries {
            if before.get(uuid) != Some(&entry.domain.identity.id) {
                entry.companion.begin_incarnation();
                changed.push(*uuid);
            }
        }
        changed
    }

    fn replace_picture(&mut self, listing: Listing, since: &[Event], now: SystemTime) {
        let listed: BTreeSet<Uuid> = listing.domains.iter().map(|(identity, ..)| identity.uuid).collect();
        // What the listing is too old to know is not forgotten.
        let is_new = |event: &&Event| matches!(event.kind, EventKind::Lifecycle { .. });
        let newer: BTreeSet<Uuid> = since.iter().filter(is_new).map(|event| event.domain.uuid).collect();
        self.entries.retain(|uuid, _| listed.contains(uuid) || newer.contains(uuid));
        self.current = None;
        for (identity, state, flags) in listing.domains {
            self.insert(&identity, now);
            self.change(identity.uuid, |domain| {
                if domain.identity.id != identity.id {
                    domain.begin_incarnation(None, None);
                }
                domain.identity = identity;
                domain.state = state;
                domain.flags = Some(flags);
            });
        }
        for event in since {
            self.apply_again(event);
        }
    }

    /// Counts an event and applies it.
    pub fn apply(&mut self, event: &Event) -> Consequences {
        let uuid = event.domain.uuid;
        let arriving = self.get(uuid).is_some_and(|domain| domain.counts.is_arriving);
        Arc::make_mut(&mut self.counts).count(&event.kind, arriving);
        let before = self.id_of(uuid);
        let consequences = self.apply_again(event);
        if before != self.id_of(uuid)
            && let Some(companion) = self.companion_mut(uuid)
        {
            companion.begin_incarnation();
        }
        if let Some(domain) = self.get(uuid) {
            let mut counts = DomainCounts::clone(&domain.counts);
            counts.count(&event.kind, event.at);
            // Most kinds are counted for the host only.
            if counts != *domain.counts {
                self.change(uuid, |domain| domain.counts = Arc::new(counts));
            }
        }
        consequences
    }

    /// Counts events of storage pools and networks.
    pub fn count_objects(&mut self, events: ObjectCounts) {
        if !events.is_empty() {
            let counts = &mut Arc::make_mut(&mut self.counts).objects;
            events.into_iter().for_each(|((kind, event), number)| count_object(counts, kind, event, number));
        }
    }

    fn id_of(&self, uuid: Uuid) -> Option<Option<u32>> {
        self.get(uuid).map(|domain| domain.identity.id)
    }

    /// Applies an event that has been counted before.
    fn apply_again(&mut self, event: &Event) -> Consequences {
        let uuid = event.domain.uuid;
        let known = self.entries.contains_key(&uuid);
        let redefined = Consequences { redefined: true, ..Consequences::default() };
        match &event.kind {
            EventKind::Lifecycle { event: what, detail } => self.apply_lifecycle(event, *what, *detail),
            EventKind::AgentLifecycle { connected } => {
                self.change(uuid, |domain| domain.agent_connected = Some(*connected));
                // The definition says it too: one that is being read now may say what was before.
                Consequences { redefined: true, moved: *connected, resync: !known }
            }
            EventKind::DeviceAdded { .. } | EventKind::DeviceRemoved { .. } | EventKind::NicMacChange => {
                self.change(uuid, |domain| note_device(domain, event));
                Consequences { redefined: true, moved: true, resync: !known }
            }
            EventKind::DiskChange | EventKind::TrayChange | EventKind::MetadataChange | EventKind::Tunable => redefined,
            // A save, a snapshot or a backup may leave something that only a listing tells of.
            EventKind::JobCompleted(_) => Consequences { redefined: true, moved: false, resync: true },
            EventKind::BlockJob { status, .. } if BLOCK_JOB_CHANGES_SOURCE.contains(status) => redefined,
            _ => Consequences { resync: !known, ..Consequences::default() },
        }
    }

    fn apply_lifecycle(&mut self, event: &Event, what: i32, detail: i32) -> Consequences {
        let identity = &event.domain;
        let uuid = identity.uuid;
        let resync = Consequences { resync: true, ..Consequences::default() };
        match what {
            lifecycle::DEFINED => {
                self.insert(identity, event.at);
                self.change(uuid, |domain| {
                    domain.identity.name.clone_from(&identity.name);
                    if let Some(flags) = &mut domain.flags {
                        flags.persistent = true;
                    }
                });
                Consequences { redefined: true, ..resync }
            }
            // It is defined under its new name in the same moment.
            lifecycle::UNDEFINED if detail == lifecycle::UNDEFINED_RENAMED => resync,
            lifecycle::UNDEFINED => {
                if self.get(uuid).is_some_and(Domain::is_active) {
                    self.change(uuid, |domain| {
                        if let Some(flags) = &mut domain.flags {
                            *flags = Flags::default();
                        }
                    });
                } else {
                    self.remove(uuid);
                }
                resync
            }
            lifecycle::STARTED => {
                self.insert(identity, event.at);
                self.change(uuid, |domain| {
                    domain.state = PowerState::Running;
                    domain.identity.clone_from(identity);
                    // A guest that wakes up from its own sleep goes on in the process that it slept in.
                    if detail != lifecycle::STARTED_WAKEUP {
                        // A guest that migrated here or was restored has been counting since it booted.
                        let boots = [lifecycle::STARTED_BOOTED, lifecycle::STARTED_RECREATED].contains(&detail);
                        let booted = boots.then_some(event.at);
                        domain.begin_incarnation(Some(event.at), booted);
                    }
                });
                Consequences { redefined: true, moved: true, resync: true }
            }
            lifecycle::STOPPED => {
                let transient = |domain: &Domain| domain.flags.is_some_and(|flags| !flags.persistent);
                if self.get(uuid).is_some_and(transient) {
                    self.remove(uuid);
                } else {
                    self.change(uuid, |domain| {
                        domain.state = PowerState::ShutOff;
                        domain.identity.id = None;
                        domain.begin_incarnation(None, None);
                        domain.agent_connected = domain.agent_connected.map(|_| false);
                        domain.addresses = None;
                    });
                }
                // What was said of the incarnation alone, such as aliases and changes that were not to last, has ended with it.
                Consequences { redefined: true, ..resync }
            }
            lifecycle::SUSPENDED => self.stay_active(event, PowerState::Paused),
            lifecycle::RESUMED => self.stay_active(event, PowerState::Running),
            lifecycle::SHUTDOWN | lifecycle::PMSUSPENDED | lifecycle::CRASHED => {
                self.stay_active(event, PowerState::Other)
            }
            _ => resync,
        }
    }

    /// The domain is in another state, and active. Its first such event can come before that of its start.
    fn stay_active(&mut self, event: &Event, state: PowerState) -> Consequences {
        let known = self.id_of(event.domain.uuid);
        let Some(id) = event.domain.id else {
            // A domain that stops says so next.
            return Consequences { resync: known.is_none(), ..Consequences::default() };
        };
        self.insert(&event.domain, event.at);
        let begins = known != Some(Some(id));
        self.change(event.domain.uuid, |domain| {
            if begins {
                domain.begin_incarnation(None, None);
            }
            domain.identity.id = Some(id);
            domain.state = state;
        });
        // libvirt removes the managed save that a domain was started from once it runs, which has no event.
        let saved = self.get(event.domain.uuid).and_then(|domain| domain.flags).is_some_and(|flags| flags.managed_save);
        Consequences { redefined: begins, moved: begins, resync: begins || saved }
    }

    /// The parsed domain XML, or why it could not be read.
    pub fn define(&mut self, uuid: Uuid, definition: Definition) {
        self.change(uuid, |domain| {
            if let Definition::Known(metadata) = &definition {
                let connected = |agent: super::Agent| agent.connected.unwrap_or(false);
                domain.agent_connected = metadata.agent.map(connected);
            }
            // What could be read once is better than nothing.
            if !matches!((&definition, &domain.definition), (Definition::Failed(_), Definition::Known(_))) {
                domain.definition = definition;
            }
        });
    }

    /// Its definition was read again, and is the one that is known.
    pub fn confirm(&mut self, uuid: Uuid) {
        let Some(domain) = self.get(uuid) else { return };
        let connected =
            domain.metadata().and_then(|metadata| metadata.agent).map(|agent| agent.connected.unwrap_or(false));
        // An event may have told of the agent what is not true any more.
        if domain.agent_connected != connected {
            self.change(uuid, |domain| domain.agent_connected = connected);
        }
    }

    /// How many domains there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no domain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The addresses that a look-up found.
    pub fn locate(&mut self, uuid: Uuid, addresses: Option<Arc<Addresses>>) {
        self.change(uuid, |domain| domain.addresses = Some(addresses));
    }

    /// The domain with this UUID.
    #[must_use]
    pub fn get(&self, uuid: Uuid) -> Option<&Domain> {
        self.entries.get(&uuid).map(|entry| entry.domain.as_ref())
    }

    /// What is kept with the domain with this UUID.
    #[must_use]
    pub fn companion(&self, uuid: Uuid) -> Option<&C> {
        self.entries.get(&uuid).map(|entry| &entry.companion)
    }

    /// As [`Registry::companion`], to be changed.
    pub fn companion_mut(&mut self, uuid: Uuid) -> Option<&mut C> {
        self.entries.get_mut(&uuid).map(|entry| &mut entry.companion)
    }

    /// What is kept with all domains, by UUID, to be changed.
    pub fn companions_mut(&mut self) -> impl Iterator<Item = (Uuid, &mut C)> {
        self.entries.iter_mut().map(|(uuid, entry)| (*uuid, &mut entry.companion))
    }

    /// All domains, by UUID.
    pub fn iter(&self) -> impl Iterator<Item = &Domain> {
        self.entries.values().map(|entry| entry.domain.as_ref())
    }

    /// All domains, by UUID, with what is kept with them.
    pub fn with_companions(&self) -> impl Iterator<Item = (&Domain, &C)> {
        self.entries.values().map(|entry| (entry.domain.as_ref(), &entry.companion))
    }

    /// The domains as they are now, and the events that have been counted; the rest of the snapshot is for the caller.
    pub fn snapshot(&mut self) -> Snapshot {
        let domains =
            self.current.get_or_insert_with(|| self.entries.values().map(|entry| Arc::clone(&entry.domain)).collect());
        let pending = |domain: &&Arc<Domain>| domain.selected && domain.definition == Definition::Pending;
        Snapshot {
            metadata_pending: domains.iter().filter(pending).count(),
            domains: Arc::clone(domains),
            counts: Arc::clone(&self.counts),
            ..Snapshot::default()
        }
    }

    fn insert(&mut self, identity: &Identity, now: SystemTime) {
        if let Place::Vacant(place) = self.entries.entry(identity.uuid) {
            let domain = Arc::new(Domain::new(identity.clone(), now));
            place.insert(Entry { domain, companion: C::default() });
            self.change(identity.uuid, |_| {});
        }
    }

    fn remove(&mut self, uuid: Uuid) {
        self.entries.remove(&uuid);
        self.current = None;
    }

    /// Changes one domain, if it is known, and applies the rules to it again: what was changed may be what the selection looks at.
    fn change(&mut self, uuid: Uuid, change: impl FnOnce(&mut Domain)) {
        let Some(entry) = self.entries.get_mut(&uuid) else { return };
        let domain = Arc::make_mut(&mut entry.domain);
        change(domain);
        domain.selected = is_wanted(&self.wanted, domain);
        self.current = None;
    }
}

/// Remembers since when a device counts.
fn note_device(domain: &mut Domain, event: &Event) {
    match &event.kind {
        EventKind::DeviceAdded { alias } if domain.attached.len() < MOST_ATTACHED => {
            domain.attached.insert(alias.clone(), event.at);
        }
        EventKind::DeviceAdded { alias } | EventKind::DeviceRemoved { alias } => drop(domain.attached.remove(alias)),
        _ => {}
    }
}
