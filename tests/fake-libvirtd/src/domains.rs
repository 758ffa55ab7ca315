//! The set of domains a running daemon has.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::domain::{Domain, DomainState, Entry};

/// No domain of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no domain is called {0:?}")]
pub struct UnknownDomain(pub String);

/// The domains in the order they joined, found by name and UUID. Entries are shared with the calls under way, which go on
/// with what they saw when they began.
#[derive(Debug, Clone, Default)]
pub(crate) struct DomainSet {
    entries: BTreeMap<u64, Arc<Entry>>,
    by_uuid: HashMap<Uuid, u64>,
    by_name: HashMap<String, u64>,
    joined: u64,
    last_id: u32,
    next_tap: u32,
}

impl DomainSet {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    pub(crate) fn by_uuid(&self, uuid: Uuid) -> Option<&Arc<Entry>> {
        self.entries.get(self.by_uuid.get(&uuid)?)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.get(self.by_name.get(name)?)
    }

    pub(crate) fn named(&self, name: &str) -> Result<&Arc<Entry>, UnknownDomain> {
        self.by_name(name).ok_or_else(|| UnknownDomain(name.to_owned()))
    }

    pub(crate) fn by_id(&self, id: i32) -> Option<&Arc<Entry>> {
        let id = u32::try_from(id).ok()?;
        self.iter().find(|entry| entry.domain.id == Some(id))
    }

    /// Gives no id up to this one to a domain that has none.
    pub(crate) fn reserve_ids(&mut self, last: u32) {
        self.last_id = self.last_id.max(last);
    }

    /// Adds a domain, or replaces the one of the same UUID; an active one without an id gets the next.
    pub(crate) fn insert(&mut self, mut domain: Domain) {
        self.complete(&mut domain);
        if let Some(template) = domain.template() {
            let nics = template.nics;
            domain.first_tap = self.next_tap;
            self.next_tap += nics;
        }
        if let Some(place) = self.by_uuid.get(&domain.uuid) {
            let place = *place;
            self.put(place, domain);
        } else {
            self.joined += 1;
            self.put(self.joined, domain);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<Domain, UnknownDomain> {
        let place = self.place(name)?;
        self.by_name.remove(name);
        match self.entries.remove(&place) {
            Some(entry) => {
                self.by_uuid.remove(&entry.domain.uuid);
                Ok(entry.domain.clone())
            }
            None => Err(UnknownDomain(name.to_owned())),
        }
    }

    /// Changes a domain in any way; what is encoded of it is forgotten.
    pub(crate) fn update(&mut self, name: &str, change: impl FnOnce(&mut Domain)) -> Result<Domain, UnknownDomain> {
        let place = self.place(name)?;
        let mut domain = self.named(name)?.domain.clone();
        change(&mut domain);
        self.complete(&mut domain);
        self.put(place, domain.clone());
        Ok(domain)
    }

    fn place(&self, name: &str) -> Result<u64, UnknownDomain> {
        self.by_name.get(name).copied().ok_or_else(|| UnknownDomain(name.to_owned()))
    }

    /// An active domain has an id, an inactive one has none.
    fn complete(&mut self, domain: &mut Domain) {
        if !domain.state.is_active() {
            domain.id = None;
        } else if let Some(id) = domain.id {
            // Ids beyond what libvirt gives stand for themselves; others do not follow them.
            if i32::try_from(id).is_ok() {
                self.last_id = self.last_id.max(id);
            }
        } else {
            self.last_id += 1;
            domain.id = Some(self.last_id);
        }
    }

    fn put(&mut self, place: u64, domain: Domain) {
        if let Some(old) = self.entries.get(&place) {
            self.by_name.remove(&old.domain.name);
            self.by_uuid.remove(&old.domain.uuid);
        }
        self.by_name.insert(domain.name.clone(), place);
        self.by_uuid.insert(domain.uuid, place);
        self.entries.insert(place, Arc::new(Entry::new(domain)));
    }
}

/// Whether a domain passes the flags of a listing, `VIR_CONNECT_LIST_DOMAINS_*`. The flags of the bulk statistics call are
/// the first eight of them.
pub(crate) fn passes(domain: &Domain, flags: u32) -> bool {
    let running = domain.state == DomainState::Running;
    let paused = domain.state == DomainState::Paused;
    let shutoff = domain.state == DomainState::Shutoff;
    let active = domain.is_active();
    let other = !running && !paused && !shutoff;
    // Each group is a set of alternatives; a group of which no flag is set does not filter.
    let groups: [&[(u32, bool)]; 7] = [
        &[(1, active), (1 << 1, !active)],
        &[(1 << 2, domain.persistent), (1 << 3, !domain.persistent)],
        &[(1 << 4, running), (1 << 5, paused), (1 << 6, shutoff), (1 << 7, other)],
        &[(1 << 8, domain.managed_save), (1 << 9, !domain.managed_save)],
        &[(1 << 10, domain.autostart), (1 << 11, !domain.autostart)],
        &[(1 << 12, !domain.snapshots.is_empty()), (1 << 13, domain.snapshots.is_empty())],
        &[(1 << 14, !domain.checkpoints.is_empty()), (1 << 15, domain.checkpoints.is_empty())],
    ];
    groups.iter().all(|group| {
        let mut asked = group.iter().filter(|(flag, _)| flags & flag != 0).peekable();
        asked.peek().is_none() || asked.any(|(_, holds)| *holds)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{DomainSet, UnknownDomain, passes};
    use crate::domain::{Domain, DomainState};
    use crate::template::Template;

    fn domain(name: &str) -> Domain {
        Domain::new(name, Template::small())
    }

    #[test]
    fn ids_and_taps_are_given_in_turn() {
        let mut set = DomainSet::default();
        set.insert(domain("a"));
        set.insert(domain("b").with_state(DomainState::Shutoff));
        set.insert(domain("c"));
        let ids: Vec<_> = set.iter().map(|entry| entry.domain.id).collect();
        assert_eq!(ids, [Some(1), None, Some(2)]);
        assert_eq!(set.by_id(2).unwrap().domain.first_tap, 2);
    }

    #[test]
    fn a_renamed_domain_is_found_by_its_new_name_and_old_uuid() {
        let mut set = DomainSet::default();
        set.insert(domain("a"));
        let uuid = set.by_name("a").unwrap().domain.uuid;
        set.update("a", |domain| domain.name = "b".to_owned()).unwrap();
        assert!(set.by_name("a").is_none());
        assert_eq!(set.by_uuid(uuid).unwrap().domain.name, "b");
        assert_eq!(set.remove("a").unwrap_err(), UnknownDomain("a".to_owned()));
        set.remove("b").unwrap();
        assert_eq!(set.len(), 0);
    }

    #[test]
    fn flags_of_a_group_are_alternatives_and_groups_add_up() {
        let mut running = domain("a");
        running.autostart = true;
        let off = domain("b").with_state(DomainState::Shutoff);
        assert!(passes(&running, 0) && passes(&off, 0));
        assert!(passes(&running, 3) && passes(&off, 3));
        assert!(passes(&running, 1 | 1 << 10) && !passes(&running, 2 | 1 << 10));
        assert!(passes(&off, 1 << 6) && !passes(&running, 1 << 6 | 1 << 7));
        assert!(!passes(&off, 1 << 14) && passes(&off, 1 << 15));
    }
}
