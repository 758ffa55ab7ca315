//! Answers to those who wait: at the end of a collection, or at their deadline.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::flight::{Flight, FlightId, Kind, Waiter};
use crate::collect::link::Link;
use crate::collect::worker::Task;
use crate::collect::{Collection, Quarantined};
use crate::libvirt::{ErrorClass, LibvirtError, StatsGroups};

impl Coordinator {
    /// Whoever cannot wait any longer gets what has arrived.
    pub(super) fn answer_deadlines(&mut self, now: Instant) {
        let late: Vec<FlightId> =
            self.flights.values().filter(|f| f.deadline().is_some_and(|at| at <= now)).map(|f| f.id).collect();
        for id in late {
            let Some(mut flight) = self.flights.remove(&id) else { continue };
            let error = self.error_of(&flight, now);
            let snapshot = self.snapshot_of(&flight, now, error);
            self.account(&snapshot);
            let (late, rest): (Vec<Waiter>, Vec<Waiter>) =
                std::mem::take(&mut flight.waiters).into_iter().partition(|waiter| waiter.deadline <= now);
            late.into_iter().for_each(|waiter| drop(waiter.reply.send(Arc::clone(&snapshot))));
            flight.waiters = rest;
            if flight.waiters.is_empty() {
                self.leave_behind(flight);
            } else {
                self.flights.insert(id, flight);
            }
        }
    }

    /// Nobody waits any more, but calls are under way: until they end, their domains are not asked for more.
    pub(super) fn leave_behind(&mut self, flight: Flight) {
        for (job, running) in flight.running {
            match running.batch.kind {
                // It is known what such a call waits for.
                Kind::Wait => continue,
                Kind::Inactive | Kind::Info { .. } => self.inactive_job = Some(job),
                Kind::Full | Kind::BehindStuckCall | Kind::WithoutMonitor => {}
            }
            // Of a daemon that is silent no hypervisor is to blame.
            let silent = matches!(self.keeper.link, Link::Silent { .. });
            let suspects = if silent { Vec::new() } else { running.batch.domains };
            self.quarantine.call_stuck(job, suspects);
        }
    }

    pub(super) fn error_of(&self, flight: &Flight, now: Instant) -> Option<LibvirtError> {
        if matches!(self.keeper.link, Link::Silent { .. }) {
            return self.keeper.refusal(now);
        }
        if flight.planned {
            return None;
        }
        let within = humantime::format_duration(Duration::from_millis(
            u64::try_from(now.saturating_duration_since(flight.started).as_millis()).unwrap_or(u64::MAX),
        ));
        let message = format!("libvirt did not answer within {within}");
        Some(LibvirtError::own("cannot collect statistics", ErrorClass::TimedOut, message))
    }

    pub(super) fn finish(&mut self, now: Instant) {
        // What has happened by now is in it.
        self.take_events(now);
        let done: Vec<FlightId> =
            self.flights.values().filter(|flight| flight.is_done()).map(|flight| flight.id).collect();
        for id in done {
            if !self.ask_for_late(id) && !self.recheck(id, now) {
                self.end_flight(id, now, None);
            }
        }
    }

    /// A domain that thawed while the collection lasted is to be complete in it: asked once, at the end, and only if there
    /// are domains in quarantine. Whether it was asked.
    fn recheck(&mut self, id: FlightId, now: Instant) -> bool {
        let Some(flight) = self.flights.get_mut(&id) else { return false };
        let needs_monitor = !flight.groups.without(StatsGroups::WITHOUT_MONITOR).is_empty();
        let first = !std::mem::replace(&mut flight.rechecked, true);
        let closed: Vec<Uuid> = flight.uuids().filter(|uuid| self.quarantine.domains().contains_key(uuid)).collect();
        if closed.is_empty() || !needs_monitor || !first {
            return false;
        }
        flight.rechecking = true;
        self.control_queue.push_back((Errand::Recheck(id), Task::Control(closed)));
        self.run_errand(now);
        true
    }

    pub(super) fn end_flight(&mut self, id: FlightId, now: Instant, error: Option<LibvirtError>) {
        let Some(mut flight) = self.flights.remove(&id) else { return };
        let whole = error.is_none() && flight.is_whole();
        let snapshot = self.snapshot_of(&flight, now, error);
        self.account(&snapshot);
        for waiter in std::mem::take(&mut flight.waiters) {
            let _gone = waiter.reply.send(Arc::clone(&snapshot));
        }
        if whole && !self.config.collection.min_interval.is_zero() {
            self.last = Some((flight.selection.clone(), now, snapshot));
        }
        self.leave_behind(flight);
    }

    /// Everyone who waits is told of an error that concerns all.
    pub(super) fn answer_all(&mut self, now: Instant, error: &LibvirtError) {
        let ids: Vec<FlightId> = self.flights.keys().copied().collect();
        for id in ids {
            self.end_flight(id, now, Some(error.clone()));
        }
    }

    /// What a flight has brought so far.
    pub(super) fn snapshot_of(
        &mut self,
        flight: &Flight,
        now: Instant,
        error: Option<LibvirtError>,
    ) -> Arc<Collection> {
        let targets = self.targets(error.is_none());
        flight.snapshot(now, self.versions.as_ref(), error, targets, |uuid| self.quarantined(uuid))
    }

    fn quarantined(&self, uuid: Uuid) -> Option<Quarantined> {
        self.quarantine.domains().get(&uuid).copied()
    }

    pub(super) fn account(&self, collection: &Collection) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.calls = collection.calls;
        if collection.error.is_none() {
            stats.last_success = Some(collection.at);
        }
    }
}
