//! What workers bring: domains to ask about, records, suspects, failures.

use std::time::Instant;

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::MissingReason;
use crate::collect::flight::{Batch, FlightId, Kind, Running};
use crate::collect::link::Link;
use crate::collect::pool::JobId;
use crate::collect::quarantine::{Cause, Quarantine};
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
        self.waiting_calls.ended(job);
        let was_stuck = self.quarantine.call_ended(job);
        self.let_surplus_go(worker);
        if was_stuck {
            return;
        }
        let Some(flight) = self.flights.values_mut().find(|flight| flight.running.contains_key(&job)) else { return };
        let Some(running) = flight.running.remove(&job) else { return };
        let id = flight.id;
        match outcome {
            Ok(Outcome::Records(records, shapes)) => {
                let selection = flight.selection.clone();
                self.compare(&running.batch, &records, |name| selection.selects(name), now);
                if !running.batch.again {
                    self.learn(&records, &shapes.domains, now);
                }
                let lacks = self.lacks(id, &running.batch, &shapes.domains);
                let Some(flight) = self.flights.values_mut().find(|flight| flight.id == id) else { return };
                if let (Kind::Full, false, Ok(count @ 1..)) =
                    (running.batch.kind, running.batch.again, u32::try_from(records.len()))
                {
                    let each = now.saturating_duration_since(running.since) / count;
                    self.usual = (self.usual * 7 + each) / 8;
                }
                flight.count(shapes.parameters);
                if self.shortcomings.no_nowait {
                    // Each call has waited for the jobs already.
                    flight.busy.close();
                }
                let complete = flight.answer(&running.batch, records, &lacks, now);
                for uuid in complete.into_iter().filter(|_| matches!(running.batch.kind, Kind::Full | Kind::Wait)) {
                    self.waiting_calls.answered(uuid);
                    self.quarantine.answered(uuid);
                }
                self.check_busy(id, now);
            }
            Ok(_) => flight.give_up(&running.batch, MissingReason::Refused),
            Err(error) => self.failed_batch(id, running.batch, error),
        }
    }

    pub(super) fn control_done(&mut self, errand: Errand, outcome: Result<Outcome, LibvirtError>, now: Instant) {
        let disconnected = matches!(&outcome, Err(error) if error.class == ErrorClass::Disconnected);
        if matches!(self.keeper.link, Link::Silent { .. }) && !disconnected {
            tracing::info!("libvirt answers again");
            self.keeper.link = Link::Up;
            self.logged = None;
            self.flights.values_mut().for_each(|flight| flight.daemon_resumed(now));
            // While the daemon stood still, so did every monitor: how long they have been occupied says nothing.
            self.control_queue.retain(|(errand, _)| !matches!(errand, Errand::Suspects(..)));
            match errand {
                Errand::Suspects(..) => return,
                Errand::Busy(flight) => return self.busy_checked(flight, &[], now),
                _ => {}
            }
        }
        match (errand, outcome) {
            (Errand::List, Ok(Outcome::Listed(listing))) => self.listed(listing, now),
            (Errand::Release(flight), Ok(Outcome::Controlled(states))) => self.release(flight, &states, now),
            (Errand::Suspects(flight, job), Ok(Outcome::Controlled(states))) => self.judge(flight, job, &states, now),
            (Errand::Recheck(flight), Ok(Outcome::Controlled(states))) => self.admit(flight, &states, now),
            (Errand::Recheck(flight), _) => self.admit(flight, &[], now),
            (Errand::Busy(flight), Ok(Outcome::Controlled(states))) => self.busy_checked(flight, &states, now),
            // The connection that broke tells of itself.
            (_, Err(error)) if error.class == ErrorClass::Disconnected => {}
            (Errand::List, Err(error)) => self.not_listed(&error, now),
            (Errand::Release(flight), Err(_)) => self.release(flight, &[], now),
            (Errand::Busy(flight), Err(_)) => self.busy_checked(flight, &[], now),
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
        flight.queue.extend(again.into_iter().map(|uuid| Batch::new(Kind::Full, groups, vec![uuid])));
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
        // Of domains that are asked again, what needs no monitor is there.
        let frozen_again = Batch::new(batch.kind, batch.groups, frozen.clone());
        if batch.again {
            flight.give_up(&frozen_again, MissingReason::Quarantined);
        } else {
            // The call that is stuck holds the job of a frozen domain. A call behind it that hangs all the same is not repeated.
            let is_frozen = |uuid: &Uuid| culprits.contains(&(*uuid, Cause::Frozen));
            let behind = batch.kind == Kind::Full && !self.shortcomings.no_nowait;
            let (behind, closed): (Vec<Uuid>, Vec<Uuid>) = frozen.iter().partition(|uuid| behind && is_frozen(uuid));
            let without = batch.groups.and(StatsGroups::WITHOUT_MONITOR);
            for (kind, groups, domains) in
                [(Kind::BehindStuckCall, batch.groups, behind), (Kind::WithoutMonitor, without, closed)]
            {
                if !domains.is_empty() {
                    flight.queue.push_front(Batch::new(kind, groups, domains));
                }
            }
        }
        culprits.into_iter().for_each(|(uuid, cause)| self.shut_in(uuid, cause, now));
    }

    /// A call failed: what can be had differently is asked for differently, what can be told apart is told apart.
    pub(super) fn failed_batch(&mut self, id: FlightId, batch: Batch, error: LibvirtError) {
        const SYSTEM_ERROR: i32 = 38;
        const INVALID_ARG: i32 = 8;
        const ARGUMENT_UNSUPPORTED: i32 = 74;
        let whole = batch.domains.len();
        let (fragile, other) = (batch.groups.and(StatsGroups::FRAGILE), batch.groups.without(StatsGroups::FRAGILE));
        let has_both = !fragile.is_empty() && !other.is_empty();
        let again = match error.class {
            // The worker's connection broke; if the link stands, another worker asks once more.
            ErrorClass::Disconnected if batch.attempts == 0 => vec![Batch { attempts: 1, ..batch }],
            ErrorClass::NotSupported if !matches!(batch.kind, Kind::Info { .. }) => {
                self.shortcomings.no_bulk = true;
                return self.restart_plan(id);
            }
            ErrorClass::Other(INVALID_ARG | ARGUMENT_UNSUPPORTED) if self.drop_a_flag() => vec![batch],
            ErrorClass::Other(SYSTEM_ERROR) if has_both => {
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
                let refused = self.flights.get_mut(&id);
                refused.into_iter().for_each(|flight| flight.give_up(&batch, MissingReason::Refused));
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
