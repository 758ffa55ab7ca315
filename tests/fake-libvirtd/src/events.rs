//! Sending of events to the clients that registered for them.

use std::time::{Duration, Instant};

use crate::domains::UnknownDomain;
use crate::event::{Event, Identity, ObjectEvent};
use crate::shared::Shared;

impl Shared {
    /// Sends an event to every client that registered for it; returns how many messages these are.
    pub(crate) fn broadcast(&self, of: &Identity, event: &Event) -> usize {
        if self.state().faults.loses_event() {
            return 0;
        }
        let connections: Vec<_> = self.connections.lock().values().cloned().collect();
        let sent = connections.iter().map(|connection| connection.send_event(of, event)).sum();
        self.counters.events_sent_more(sent);
        sent
    }
}

/// Sends events of domains.
#[derive(Debug, Clone, Copy)]
pub struct Events<'a> {
    shared: &'a Shared,
}

impl<'a> Events<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared }
    }

    /// Sends an event of a domain; returns how many messages went to clients.
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn send(self, name: &str, event: Event) -> Result<usize, UnknownDomain> {
        Ok(self.send_of(&self.identity(name)?, event))
    }

    /// Sends an event of a domain that need not exist.
    pub fn send_of(self, of: &Identity, event: Event) -> usize {
        self.shared.broadcast(of, &event)
    }

    /// Sends a life cycle event (`virDomainEventType` and its detail).
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn lifecycle(self, name: &str, event: i32, detail: i32) -> Result<usize, UnknownDomain> {
        self.send(name, Event::lifecycle(event, detail))
    }

    /// Sends an event of a storage pool or a network; returns how many messages went to clients.
    pub fn object(self, name: &str, event: ObjectEvent) -> usize {
        let connections: Vec<_> = self.shared.connections.lock().values().cloned().collect();
        connections.iter().map(|connection| connection.send_object_event(name, event)).sum()
    }

    /// Sends an event right before the next reply to a bulk statistics call, on every connection.
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn before_next_stats(self, name: &str, event: Event) -> Result<(), UnknownDomain> {
        let identity = self.identity(name)?;
        self.shared.change(|state| state.before_stats.push((identity, event)));
        Ok(())
    }

    /// Sends an event right after the next reply to a bulk statistics call, on every connection.
    ///
    /// # Errors
    ///
    /// When there is no such domain.
    pub fn after_next_stats(self, name: &str, event: Event) -> Result<(), UnknownDomain> {
        let identity = self.identity(name)?;
        self.shared.change(|state| state.after_stats.push((identity, event)));
        Ok(())
    }

    /// Sends `count` events evenly over a time, of all domains in turn and, for each, of the events given in turn. Returns
    /// how many messages went to clients, when all are sent or the daemon has been killed.
    pub fn storm(self, count: usize, over: Duration, events: &[Event]) -> usize {
        let domains = self.shared.domains();
        let identities: Vec<Identity> = domains.iter().map(|entry| Identity::from(&entry.domain)).collect();
        if identities.is_empty() || events.is_empty() {
            return 0;
        }
        let generation = self.shared.state().generation;
        let began = Instant::now();
        let mut sent = 0;
        for number in 0..count {
            let due = share(over, number, count);
            let ahead = due.saturating_sub(began.elapsed());
            // Sleeping for each single event would be slower than the storm.
            if ahead > Duration::from_millis(1) && !self.shared.sleep(generation, ahead) {
                break;
            }
            let identity = &identities[number % identities.len()];
            let event = &events[number % events.len()];
            sent += self.shared.broadcast(identity, event);
        }
        sent
    }

    /// Tells the clients that asked for it that the daemon lost its hypervisor (0 error, 1 EOF, 2 keepalive, 3 client).
    pub fn connection_closed(self, reason: i32) {
        for connection in self.shared.connections.lock().values() {
            connection.send_connection_closed(reason);
        }
    }

    fn identity(self, name: &str) -> Result<Identity, UnknownDomain> {
        Ok(Identity::from(&self.shared.domains().named(name)?.domain))
    }
}

/// When event `number` of `count` is due in a storm over this time.
fn share(over: Duration, number: usize, count: usize) -> Duration {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    over.mul_f64(f64::from(number) / f64::from(count))
}
