//! What workers bring: domains to ask about, records, suspects, failures.

use std::time::Instant;

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::flight::{Batch, FlightId, Kind, Running};
use crate::collect::link::Link;
use crate::collect::pool::JobId;
use crate::collect::quarantine::Quarantine;
use crate::collect::worker::{Outcome, WorkerId};
use crate::libvirt::{ControlState, ErrorClass, LibvirtError, StatsGroups};

impl Coordinator {
    pub(super) fn done(&mut self, worker: WorkerId, job: JobId, outcome: Result<Outcome, LibvirtError>, now: Instant) {
        self.pool.done(worker, now);
        if self.inactive_job == Some(job) {
            self.inactive_job = None;
        }
        if let Some((_, errand, _)) = self.control_job.take_if(|(of, ..)| *of == job) {
            return self.control_done(errand, outcome, now);
        }
        if let Some(reading) = self.reader.ended(job) {
            return self.has_read(reading, outcome, now);
        }
        if self.quarantine.call_ended(job) {
            // It was replaced while it waited.
            return self.let_surplus_go(worker);
        }
        self.let_surplus_go(worker);
        let Some(flight) = self.flights.values_mut().find(|flight| flight.running.contains_key(&job)) else { return };
        let Some(running) = flight.running.remove(&job) else { return };
        let id = flight.id;
        match outcome {
            Ok(Outcome::Records(records, shapes)) => {
                let selection = flight.selection.clone();
                self.compare(&running.batch, &records, |name| selection.selects(name), now);
                self.learn(&records, &shapes.domains, now);
                let Some(flight) = self.flights.values_mut().find(|flight| flight.id == id) else { return };
                if let (Kind::Full, Ok(count @ 1..)) = (running.batch.kind, u32::try_from(records.len())) {
                    let each = now.saturating_duration_since(running.since) / count;
                    self.usual = (self.usual * 7 + each) / 8;
                }
                let is_qemu = self.versions.as_ref().is_some_and(|versions| versions.driver == "QEMU");
                flight.count(shapes.parameters);
                let complete = flight.answer(&running.batch, records, is_qemu);
                complete.into_iter().for_each(|uuid| self.quarantine.answered(uuid));
            }
            Ok(_) => flight.give_up(&running.batch),
            Err(error) => self.failed_batch(id, running.batch, error),
        }
    }

    pub(super) fn control_done(&mut self, errand: Errand, outcome: Result<Outcome, LibvirtError>, now: Instant) {
        if matches!(self.keeper.link, Link::Silent { .. }) {
            tracing::info!("libvirt answers again");
            self.keeper.link = Link::Up;
            self.logged = None;
        }
        match (errand, outcome) {
            (Errand::List, Ok(Outcome::Listed(listing))) => self.listed(listing, now),
            (Errand::Release(flight), Ok(Outcome::Controlled(states))) => self.release(flight, &states, now),
            (Errand::Suspects(flight, job), Ok(Outcome::Controlled(states))) => self.judge(flight, job, &states, now),
            (Errand::Recheck(flight), Ok(Outcome::Controlled(states))) => self.admit(flight, &states, now),
            (Errand::Recheck(flight), _) => self.admit(flight, &[], now),
            // The connection that broke tells of itself.
            (_, Err(error)) if error.class == ErrorClass::Disconnected => {}
            (Errand::List, Err(error)) => self.not_listed(&error, now),
            (Errand::Release(flight), Err(_)) => self.release(flight, &[], now),
            _ => {}
        }
    }

    /// Domains that answer again are asked for everything before the flight ends.
    pub(super) fn admit(&mut self, id: FlightId, states: &[(Uuid, ControlState)], now: Instant) {
        let mut again = Vec::new();
        for (uuid, state) in states {
            if self.let_out(*uuid, *state, now) {
                again.push(*uuid);
            }
        }
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.rechecking = false;
        let groups = flight.groups;
        let alone = |uuid| Batch { kind: Kind::Full, groups, domains: vec![uuid], attempts: 0 };
        flight.queue.extend(again.into_iter().map(alone));
    }

    /// A batch has been waiting for long: if one of its domains is what it waits for, the call is left to it, and the others
    /// are asked anew.
    pub(super) fn judge(&mut self, id: FlightId, job: JobId, states: &[(Uuid, ControlState)], now: Instant) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let Some(running) = flight.running.get(&job) else { return };
        let waited = now.saturating_duration_since(running.since);
        let culprits: Vec<_> =
            states.iter().filter_map(|(uuid, state)| Some((*uuid, Quarantine::verdict(*state, waited)?))).collect();
        if culprits.is_empty() {
            return;
        }
        let Some(Running { batch, .. }) = flight.running.remove(&job) else { return };
        self.quarantine.call_stuck(job, culprits.iter().map(|culprit| culprit.0));
        let is_culprit = |uuid: &Uuid| culprits.iter().any(|culprit| culprit.0 == *uuid);
        let (frozen, others): (Vec<Uuid>, Vec<Uuid>) = batch.domains.iter().partition(|uuid| is_culprit(uuid));
        if !others.is_empty() {
            flight.queue.push_front(Batch { domains: others, ..batch.clone() });
        }
        let groups = batch.groups.and(StatsGroups::WITHOUT_MONITOR);
        flight.queue.push_front(Batch { kind: Kind::WithoutMonitor, groups, domains: frozen, attempts: 0 });
        culprits.into_iter().for_each(|(uuid, cause)| self.shut_in(uuid, cause, now));
    }

    /// A call failed: what can be had differently is asked for differently, what can be told apart is told apart.
    pub(super) fn failed_batch(&mut self, id: FlightId, batch: Batch, error: LibvirtError) {
        const SYSTEM_ERROR: i32 = 38;
        const INVALID_ARG: i32 = 8;
        const ARGUMENT_UNSUPPORTED: i32 = 74;
        let whole = batch.domains.len();
        let again = match error.class {
            // The worker's connection broke; if the link stands, another worker asks once more.
            ErrorClass::Disconnected if batch.attempts == 0 => vec![Batch { attempts: 1, ..batch }],
            ErrorClass::NotSupported if !matches!(batch.kind, Kind::Info { .. }) => {
                self.shortcomings.no_bulk = true;
                return self.restart_plan(id);
            }
            ErrorClass::Other(INVALID_ARG | ARGUMENT_UNSUPPORTED) if self.drop_a_flag() => vec![batch],
            ErrorClass::Other(SYSTEM_ERROR) if !batch.groups.and(StatsGroups::FRAGILE).is_empty() => {
                vec![Batch { groups: batch.groups.without(StatsGroups::FRAGILE), ..batch }]
            }
            _ if whole > 1 => {
                if error.class == ErrorClass::TooLarge {
                    self.planner.too_large(whole);
                }
                // One of them spoils the reply, or all of them are too much for one.
                let (first, second) = batch.domains.split_at(whole / 2);
                [first, second].map(|domains| Batch { domains: domains.to_vec(), ..batch.clone() }).to_vec()
            }
            _ => {
                self.count_failure(&error);
                self.log_failure("a call to libvirt failed", &error);
                self.flights.values_mut().filter(|flight| flight.id == id).for_each(|flight| flight.give_up(&batch));
                return;
            }
        };
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.queue.extend(again);
        }
    }

    pub(super) fn drop_a_flag(&mut self) -> bool {
        if self.config.collection.backing_chain && !self.shortcomings.no_backing {
            self.shortcomings.no_backing = true;
        } else if !self.shortcomings.no_nowait {
            self.shortcomings.no_nowait = true;
        } else {
            return false;
        }
        true
    }

    pub(super) fn restart_plan(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        // What still runs fails likewise, and finds no flight.
        flight.start_over();
    }
}
