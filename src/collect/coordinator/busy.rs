//! Busy domains are asked again, until they are whole or a share of the deadline has passed.

use std::time::Instant;

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::busy::Again;
use crate::collect::flight::{Batch, Flight, FlightId, Kind, Running};
use crate::collect::link::Link;
use crate::collect::quarantine::Cause;
use crate::collect::shape::Shape;
use crate::collect::worker::Task;
use crate::libvirt::{ControlState, StatsGroups};

impl Coordinator {
    /// The groups of a batch that each of its records has no answer for. Only QEMU's driver leaves out what it could not
    /// ask for.
    pub(super) fn silent(&mut self, id: FlightId, batch: &Batch, records: &[Shape]) -> Vec<StatsGroups> {
        let is_qemu = self.versions.as_ref().is_some_and(|versions| versions.driver == "QEMU");
        let asks_monitor = matches!(batch.kind, Kind::Full | Kind::Wait | Kind::Held);
        let judged =
            self.flights.get(&id).filter(|_| is_qemu && asks_monitor).map(|flight| flight.judged(batch.groups));
        let judged = judged.unwrap_or_default();
        let silent = |record: &Shape| {
            let definition = self.registry.get(record.uuid).and_then(|target| target.metadata());
            self.answers.missing(record, judged, definition)
        };
        records.iter().map(silent).collect()
    }

    /// Asks for the control states of domains that have just turned out to be busy: one whose monitor does not answer the
    /// client that holds its job will not answer again.
    pub(super) fn check_busy(&mut self, id: FlightId, now: Instant) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let unchecked = flight.busy.take_unchecked();
        if !unchecked.is_empty() {
            self.control_queue.push_back((Errand::Busy(id), Task::Control(unchecked)));
            self.run_errand(now);
        }
    }

    /// The control states of busy domains have come.
    pub(super) fn busy_checked(&mut self, id: FlightId, states: &[(Uuid, ControlState)], now: Instant) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        for uuid in flight.busy.checked(states) {
            self.held_jobs.was_busy(uuid);
            // A call of ours that waited for its job has got it, and hangs in the monitor now.
            if let Some(job) = self.held_jobs.take(uuid) {
                self.quarantine.call_stuck(job, [uuid]);
                self.shut_in(uuid, Cause::Frozen, now);
            }
        }
        self.check_busy(id, now);
    }

    /// Queues what is due of the busy domains, and gives up those whose time is over.
    pub(super) fn ask_busy_again(&mut self, now: Instant) {
        if !matches!(self.keeper.link, Link::Up) {
            return;
        }
        let ids: Vec<FlightId> = self.flights.values().filter(|f| !f.busy.is_empty()).map(|flight| flight.id).collect();
        for id in ids {
            let room = self.held_jobs.room(self.waiting_calls());
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            if flight.busy_until().is_some_and(|until| until <= now) {
                self.leave_busy(id);
                continue;
            }
            for again in flight.busy.take_due(now, room, |uuid| self.held_jobs.may_wait(uuid)) {
                let batch = match again {
                    Again::Now(groups, domains) => Batch::new(Kind::Full, groups, domains),
                    Again::Wait(groups, uuid) => Batch::new(Kind::Wait, groups, vec![uuid]),
                };
                flight.queue.push_front(Batch { again: true, ..batch });
            }
        }
    }

    /// Ends a flight's wait for busy domains. Calls that wait for their jobs are left to it.
    fn leave_busy(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.busy.close().into_iter().for_each(|uuid| self.held_jobs.was_busy(uuid));
        flight.queue.retain(|batch| batch.kind != Kind::Wait);
        let waits = |_: &u64, running: &mut Running| running.batch.kind == Kind::Wait;
        for (job, running) in flight.running.extract_if(.., waits) {
            running.batch.domains.iter().for_each(|uuid| self.held_jobs.leave(job, *uuid));
        }
    }

    /// Calls of flights that wait for a job.
    pub(super) fn waiting_calls(&self) -> usize {
        let waits =
            |flight: &Flight| flight.running.values().filter(|running| running.batch.kind == Kind::Wait).count();
        self.flights.values().map(waits).sum()
    }
}
