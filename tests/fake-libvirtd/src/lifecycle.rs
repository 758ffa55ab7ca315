//! What happens to domains while the daemon runs: changes of state with the events libvirt sends for them, in its order.

use crate::domain::{Domain, DomainState};
use crate::domains::UnknownDomain;
use crate::event::{Event, Identity};
use crate::shared::Shared;

/// A change in the life of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is started and gets a new id.
    Start,
    /// It is destroyed; a transient domain is gone with it.
    Destroy,
    /// Its guest shuts down.
    Shutdown,
    /// It is paused.
    Suspend,
    /// It runs again.
    Resume,
    /// Its guest reboots.
    Reboot,
    /// Its QEMU dies.
    Die,
}

impl Change {
    /// The new state with its reason; `None` where it stays.
    fn state(self) -> Option<(DomainState, i32)> {
        match self {
            Self::Start => Some((DomainState::Running, 1)),
            Self::Destroy => Some((DomainState::Shutoff, 2)),
            Self::Shutdown => Some((DomainState::Shutoff, 1)),
            Self::Suspend => Some((DomainState::Paused, 1)),
            Self::Resume => Some((DomainState::Running, 5)),
            Self::Reboot => None,
            Self::Die => Some((DomainState::Shutoff, 3)),
        }
    }

    /// The life cycle events, each with its detail, that tell of it.
    fn events(self) -> &'static [(i32, i32)] {
        match self {
            Self::Start => &[(4, 0), (2, 0)],
            Self::Destroy => &[(6, 2), (5, 1)],
            Self::Shutdown => &[(6, 1), (5, 0)],
            Self::Suspend => &[(3, 0)],
            Self::Resume => &[(4, 0)],
            Self::Reboot => &[],
            Self::Die => &[(5, 5)],
        }
    }
}

impl Shared {
    /// Changes a domain and sends the events; the domain as it is now.
    pub(crate) fn change_lifecycle(&self, name: &str, change: Change) -> Result<Domain, UnknownDomain> {
        let before = Identity::from(&self.domains().named(name)?.domain);
        let domain = self.change_domains(|domains| {
            let domain = domains.update(name, |domain| {
                if let Some((state, reason)) = change.state() {
                    domain.set_state(state, reason);
                }
            })?;
            if !domain.is_active() && !domain.persistent {
                domains.remove(name)?;
            }
            Ok(domain)
        })?;
        if !domain.is_active() {
            // Without a QEMU nothing hangs, and the calls that waited for it go on.
            self.change(|state| {
                if let Some(faults) = state.faults.domains.get_mut(name) {
                    faults.hung = false;
                }
            });
        }
        let now = Identity::from(&domain);
        let has_agent = domain.template().is_some_and(|template| template.agent);
        if change == Change::Start && has_agent {
            self.broadcast(&now, &Event::AgentLifecycle { state: 2, reason: 1 });
        }
        if change == Change::Reboot {
            self.broadcast(&now, &Event::Reboot);
        }
        for (event, detail) in change.events() {
            // A QEMU that is shutting down still has its id; a stopped one has none.
            let who = if *event == 6 { &before } else { &now };
            self.broadcast(who, &Event::lifecycle(*event, *detail));
        }
        Ok(domain)
    }
}

/// The domains of a running daemon. The plain verbs change what clients see without a word; those that say so send the
/// events that libvirt sends.
#[derive(Debug, Clone, Copy)]
pub struct Domains<'a> {
    shared: &'a Shared,
}

impl<'a> Domains<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared }
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> usize {
        self.shared.domains().len()
    }

    /// Their names, in the order they joined.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let domains = self.shared.domains();
        domains.iter().map(|entry| entry.domain.name.clone()).collect()
    }

    /// A domain as it is now.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Domain> {
        let domains = self.shared.domains();
        domains.by_name(name).map(|entry| entry.domain.clone())
    }

    /// Adds a domain without an event, or replaces the one of the same UUID.
    pub fn add(self, domain: Domain) {
        self.shared.change_domains(|domains| domains.insert(domain));
    }

    /// Removes a domain without an event.
    ///
    /// # Errors
    ///
    /// When there is no such domain, as for every other verb.
    pub fn remove(self, name: &str) -> Result<Domain, UnknownDomain> {
        self.shared.change_domains(|domains| domains.remove(name))
    }

    /// Changes anything about a domain without an event: its name, id, state, parameters, XML, flags.
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn update(self, name: &str, change: impl FnOnce(&mut Domain)) -> Result<Domain, UnknownDomain> {
        self.shared.change_domains(|domains| domains.update(name, change))
    }

    /// Renames a domain, and sends `Undefined Renamed` of the old name and `Defined Renamed` of the new one.
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn rename(self, name: &str, new_name: &str) -> Result<(), UnknownDomain> {
        let before = Identity::from(&self.shared.domains().named(name)?.domain);
        let domain = self.update(name, |domain| new_name.clone_into(&mut domain.name))?;
        self.shared.broadcast(&before, &Event::lifecycle(1, 1));
        self.shared.broadcast(&Identity::from(&domain), &Event::lifecycle(0, 2));
        Ok(())
    }

    /// Adds a domain and sends what libvirt sends: `Defined Added` where it is persistent, `Started Booted` where it runs.
    pub fn define(self, domain: Domain) {
        let uuid = domain.uuid;
        self.add(domain);
        let domains = self.shared.domains();
        let Some(entry) = domains.by_uuid(uuid) else {
            return;
        };
        let identity = Identity::from(&entry.domain);
        if entry.domain.persistent {
            self.shared.broadcast(&identity, &Event::lifecycle(0, 0));
        }
        if entry.domain.is_active() {
            self.shared.broadcast(&identity, &Event::lifecycle(4, 0));
            self.shared.broadcast(&identity, &Event::lifecycle(2, 0));
        }
    }

    /// Removes a domain and sends `Undefined Removed`.
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn undefine(self, name: &str) -> Result<(), UnknownDomain> {
        let domain = self.remove(name)?;
        self.shared.broadcast(&Identity::from(&domain), &Event::lifecycle(1, 0));
        Ok(())
    }

    /// Changes the state of a domain and sends the events of that change.
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn change(self, name: &str, change: Change) -> Result<Domain, UnknownDomain> {
        self.shared.change_lifecycle(name, change)
    }
}
