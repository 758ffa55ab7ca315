//! What tests ask of the world, and see of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::script::uuid;
use super::world::World;
use crate::collect::message::{Message, WaiterId};
use crate::collect::pool::Role;
use crate::collect::{Collection, Missing, Selection, Standing};
use crate::config::{Group, NamePatterns};
use crate::domains::Snapshot;
use crate::libvirt::{ErrorClass, LibvirtError};
use crate::probes::Task;

/// An answer, and how long it took.
pub(super) struct Scrape {
    pub(super) collection: Arc<Collection>,
    pub(super) took: Duration,
}

pub(super) fn everything() -> Selection {
    Selection::default()
}

/// The selection of these groups.
pub(super) fn only(groups: &[Group]) -> Selection {
    Selection { groups: Some(groups.iter().copied().collect()), domains: NamePatterns::default() }
}

impl World {
    /// Asks for a collection with this timeout.
    pub(super) fn ask(&mut self, selection: Selection, timeout: Duration) -> WaiterId {
        self.number += 1;
        let (waiter, deadline) = (self.number, self.now + timeout);
        self.tell(Message::Collect { waiter, selection, deadline });
        waiter
    }

    pub(super) fn answer(&self, waiter: WaiterId) -> Option<&Arc<Collection>> {
        self.collections.get(&waiter).map(|(_, collection)| collection)
    }

    /// When a request was answered.
    pub(super) fn answered_at(&self, waiter: WaiterId) -> Option<Instant> {
        self.collections.get(&waiter).map(|(at, _)| *at)
    }

    /// One collection of everything, with a deadline of four seconds.
    pub(super) fn scrape(&mut self) -> Scrape {
        self.scrape_of(everything())
    }

    pub(super) fn scrape_of(&mut self, selection: Selection) -> Scrape {
        let (began, timeout) = (self.now, Duration::from_secs(4));
        let waiter = self.ask(selection, timeout);
        self.until(timeout, |world| world.answer(waiter).is_some());
        let collection = Arc::clone(self.answer(waiter).expect("an answer"));
        Scrape { collection, took: self.now - began }
    }

    /// Asks for the set of domains.
    pub(super) fn domains_within(&mut self, addresses: bool, timeout: Duration) -> Result<Arc<Snapshot>, LibvirtError> {
        self.number += 1;
        let (waiter, deadline) = (self.number, self.now + timeout);
        self.tell(Message::Domains { waiter, addresses, deadline });
        self.until(timeout, |world| world.domain_requests.contains_key(&waiter));
        self.domain_requests.remove(&waiter).expect("an answer")
    }

    /// Goes on with these sections of a configuration.
    pub(super) fn reconfigure(&mut self, sections: &str) {
        let config = crate::config::parse(sections, "test").expect("a valid configuration");
        self.tell(Message::Reconfigure(Box::new(config)));
    }

    /// The domains as they are known.
    pub(super) fn snapshot(&mut self) -> Arc<Snapshot> {
        self.scheduler.snapshot(true)
    }

    pub(super) fn standing(&mut self) -> Standing {
        self.tell(Message::Status { waiter: 0 });
        self.standing.take().expect("an answer")
    }

    pub(super) fn title(&mut self, number: usize) -> Option<String> {
        let domain = self.scheduler.domains.get(uuid(number))?;
        domain.metadata().map(|metadata| metadata.title.clone())
    }

    /// Connections that stand.
    pub(super) fn connections(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_open).count()
    }

    pub(super) fn connections_of(&self, role: Role) -> usize {
        self.workers.values().filter(|worker| worker.is_open && worker.role == role).count()
    }

    /// Calls under way for statistics.
    pub(super) fn under_way(&self) -> usize {
        let tasks = self.workers.values().filter_map(|worker| worker.job.as_ref().map(|(_, task, _)| task));
        tasks.filter(|task| matches!(task, Task::Stats { .. })).count()
    }

    /// How many calls of a probe there were.
    pub(super) fn calls_of(&self, probe: &str) -> usize {
        self.calls.iter().filter(|call| call.task.name() == probe).count()
    }

    pub(super) fn stuck_calls(&self) -> usize {
        self.scheduler.stats().stuck_calls
    }
}

impl Scrape {
    /// How many domains are complete.
    pub(super) fn complete(&self) -> usize {
        self.collection.domains.iter().filter(|domain| domain.is_complete()).count()
    }

    /// The names of those in quarantine.
    pub(super) fn quarantined(&self) -> Vec<&str> {
        let quarantined = self.collection.domains.iter().filter(|domain| domain.quarantined.is_some());
        quarantined.map(|domain| domain.identity.name.as_str()).collect()
    }

    pub(super) fn missing(&self, name: &str) -> Option<&Missing> {
        let domain = self.collection.domains.iter().find(|domain| domain.identity.name == name);
        domain.expect("a running domain").missing.as_ref()
    }

    pub(super) fn class(&self) -> Option<ErrorClass> {
        self.collection.error.as_ref().map(|error| error.class)
    }

    /// Keys of the first record of a domain.
    pub(super) fn keys(&self, name: &str) -> Vec<String> {
        let mut records = self.collection.batches.iter().flat_map(|records| records.domains());
        let record = records.find(|record| record.name == name);
        record.map(|record| record.params().map(|param| param.key.to_owned()).collect()).unwrap_or_default()
    }
}
