//! Busy domains are asked again, until they are whole or a share of the deadline has passed.

use std::time::Instant;

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::busy::Again;
use crate::collect::complete::Lack;
use crate::collect::flight::{Batch, FlightId, Kind, Running};
use crate::collect::link::Link;
use crate::collect::pool::JobId;
use crate::collect::quarantine::Cause;
use crate::collect::shape::Shape;
use crate::collect::worker::Task;
use crate::libvirt::{ControlState, StatsGroups};

impl Coordinator {
    /// What each record of a batch lacks. Only QEMU's driver leaves out what it could not ask for.
    pub(super) fn lacks(&mut self, id: FlightId, batch: &Batch, records: &[Shape]) -> Vec<Lack> {
        let is_qemu = self.versions.as_ref().is_some_and(|versions| versions.driver == "QEMU");
        let judged = match (batch.kind, self.flights.get(&id)) {
            (Kind::Full | Kind::Wait | Kind::BehindStuckCall, Some(flight)) if is_qemu => flight.judged(batch.groups),
            _ => StatsGroups::default(),
        };
        let waited = batch.kind == Kind::Wait;
        let lack = |record: &Shape| {
            let definition = self.registry.get(record.uuid).and_then(|target| target.metadata());
            self.answers.judge(record, judged, definition, waited)
        };
        records.iter().map(lack).collect()
    }

    /// Asks for the control states of busy domains, to tell them from domains whose monitor does not answer.
    pub(super) fn check_busy(&mut self, id: FlightId, now: Instant) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let unchecked = flight.busy.take_unchecked(now);
        if !unchecked.is_empty() {
            self.control_queue.push_back((Errand::Busy(id), Task::Control(unchecked)));
            self.run_errand(now);
        }
    }

    /// The control states of busy domains have come.
    pub(super) fn busy_checked(&mut self, id: FlightId, states: &[(Uuid, ControlState)], now: Instant) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let mut frozen = Vec::new();
        for (uuid, occupied) in flight.busy.checked(states, now) {
            self.waiting_calls.was_busy(uuid);
            let waits = |_: &JobId, running: &mut Running| {
                running.batch.kind == Kind::Wait && running.batch.domains.contains(&uuid)
            };
            drop(flight.running.extract_if(.., waits).collect::<Vec<_>>());
            // A call that waited for the job may have got it, and hang in the monitor.
            let call = occupied.and_then(|occupied| self.waiting_calls.take_stuck(uuid, occupied, now));
            frozen.extend(call.map(|job| (uuid, job)));
        }
        for (uuid, job) in frozen {
            self.quarantine.call_stuck(job, [uuid]);
            self.shut_in(uuid, Cause::Frozen, now);
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
            self.check_busy(id, now);
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            if flight.busy_until().is_some_and(|until| until <= now) {
                flight.busy.close().into_iter().for_each(|uuid| self.waiting_calls.was_busy(uuid));
                // libvirt cannot cancel calls that wait for a job: they go on, and their answers are dropped.
                flight.queue.retain(|batch| batch.kind != Kind::Wait);
                flight.running.retain(|_, running| running.batch.kind != Kind::Wait);
                continue;
            }
            for again in flight.busy.take_due(now, &self.waiting_calls) {
                let batches = match again {
                    Again::Wait(groups, uuid) => vec![Batch::new(Kind::Wait, groups, vec![uuid])],
                    Again::Now(groups, domains) => {
                        let parts = self.planner.pack(&domains).into_iter();
                        parts.map(|domains| Batch::new(Kind::Full, groups, domains)).collect()
                    }
                };
                batches.into_iter().for_each(|batch| flight.queue.push_front(Batch { again: true, ..batch }));
            }
        }
    }
}
