//! What workers bring: domains to ask about, records, suspects, failures.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::flight::{Batch, FlightId, Kind, Running};
use crate::collect::link::Link;
use crate::collect::pool::JobId;
use crate::collect::quarantine::Quarantine;
use crate::collect::worker::{Outcome, WorkerId};
use crate::config::InactiveDomains;
use crate::libvirt::{ControlState, ErrorClass, Identity, LibvirtError, StatsGroups};

impl Coordinator {
    pub(super) fn done(&mut self, worker: WorkerId, job: JobId, outcome: Result<Outcome, LibvirtError>, now: Instant) {
        self.pool.done(worker);
        if self.inactive_job == Some(job) {
            self.inactive_job = None;
        }
        if let Some((_, errand, _)) = self.control_job.take_if(|(of, ..)| *of == job) {
            return self.control_done(errand, outcome, now);
        }
        if self.quarantine.call_ended(job) {
            // It was replaced while it waited.
            self.let_surplus_go(worker);
            return;
        }
        let Some(flight) = self.flights.values_mut().find(|flight| flight.running.contains_key(&job)) else { return };
        let Some(running) = flight.running.remove(&job) else { return };
        match outcome {
            Ok(Outcome::Records(records)) => {
                records.domains().for_each(|record| self.planner.seen(&record));
                if let (Kind::Full, Ok(count @ 1..)) = (running.batch.kind, u32::try_from(records.len())) {
                    let each = now.saturating_duration_since(running.since) / count;
                    self.usual = (self.usual * 7 + each) / 8;
                }
                let is_qemu = self.versions.as_ref().is_some_and(|versions| versions.driver == "QEMU");
                let complete = flight.answer(&running.batch, records, is_qemu);
                complete.into_iter().for_each(|uuid| self.quarantine.answered(uuid));
            }
            Ok(_) => flight.give_up(&running.batch),
            Err(error) => {
                let flight = flight.id;
                self.failed_batch(flight, running.batch, error);
            }
        }
    }

    pub(super) fn control_done(&mut self, errand: Errand, outcome: Result<Outcome, LibvirtError>, now: Instant) {
        if matches!(self.keeper.link, Link::Silent { .. }) {
            tracing::info!("libvirt answers again");
            self.keeper.link = Link::Up;
            self.logged = None;
        }
        match (errand, outcome) {
            (Errand::List(flight), Ok(Outcome::Listed { domains, control })) => self.plan(flight, domains, &control),
            (Errand::Suspects(flight, job), Ok(Outcome::Controlled(states))) => self.judge(flight, job, &states, now),
            (Errand::Recheck(flight), Ok(Outcome::Controlled(states))) => self.admit(flight, &states),
            (Errand::Recheck(flight), _) => self.admit(flight, &[]),
            // The connection that broke tells of itself.
            (_, Err(error)) if error.class == ErrorClass::Disconnected => {}
            (Errand::List(flight), Err(error)) => {
                self.count_failure(&error);
                self.end_flight(flight, now, Some(error));
            }
            _ => {}
        }
    }

    /// The domains are known: who is let out of quarantine, and who is asked together with whom.
    pub(super) fn plan(&mut self, id: FlightId, domains: Vec<Identity>, control: &[(Uuid, ControlState)]) {
        let ids: BTreeMap<Uuid, Option<u32>> = domains.iter().map(|domain| (domain.uuid, domain.id)).collect();
        // A domain that was started anew has another id, and another hypervisor.
        let same = |uuid: Uuid| ids.contains_key(&uuid) && self.identities.get(&uuid) == ids.get(&uuid);
        self.quarantine.retain(same);
        self.identities = ids;
        for (uuid, state) in control {
            if self.quarantine.release_if_free(*uuid, *state).is_some() {
                tracing::info!(%uuid, domain = name_of(&domains, *uuid), "the domain answers again");
            }
        }
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let config = &self.config;
        let selected =
            |domain: &Identity| config.domains.selects(&domain.name) && flight.selection.selects(&domain.name);
        let domains: Vec<Identity> = domains.into_iter().filter(selected).collect();
        let (closed, open): (Vec<Uuid>, Vec<Uuid>) =
            domains.iter().map(|domain| domain.uuid).partition(|uuid| self.quarantine.is_closed(*uuid));
        flight.plan(domains);
        let groups = flight.groups;
        let inactive = match config.collection.inactive_domains {
            InactiveDomains::None => StatsGroups::default(),
            InactiveDomains::State => groups.and(StatsGroups::STATE),
            InactiveDomains::All => groups,
        };
        let batch = |kind, groups, domains| Batch { kind, groups, domains, attempts: 0 };
        if self.shortcomings.no_bulk {
            flight.queue.push_back(batch(Kind::Info { inactive: false }, groups, open));
            if !inactive.is_empty() {
                flight.queue.push_back(batch(Kind::Info { inactive: true }, inactive, Vec::new()));
            }
            return;
        }
        let without = groups.and(StatsGroups::WITHOUT_MONITOR);
        for domains in self.planner.plan(&closed) {
            flight.queue.push_back(batch(Kind::WithoutMonitor, without, domains));
        }
        let needs_monitor = !groups.without(StatsGroups::WITHOUT_MONITOR).is_empty();
        for domains in self.planner.plan(&open) {
            // What needs no hypervisor cannot hang on one, and is complete without.
            let kind = if needs_monitor { Kind::Full } else { Kind::WithoutMonitor };
            flight.queue.push_back(batch(kind, groups, domains));
        }
        if !inactive.is_empty() && self.inactive_job.is_none() {
            flight.queue.push_back(batch(Kind::Inactive, inactive, Vec::new()));
        }
    }

    /// Domains that answer again are asked for everything before the flight ends.
    pub(super) fn admit(&mut self, id: FlightId, states: &[(Uuid, ControlState)]) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.rechecking = false;
        for (uuid, state) in states {
            if self.quarantine.release_if_free(*uuid, *state).is_some() {
                tracing::info!(%uuid, domain = flight.name_of(*uuid), "the domain answers again");
                let groups = flight.groups;
                flight.queue.push_back(Batch { kind: Kind::Full, groups, domains: vec![*uuid], attempts: 0 });
            }
        }
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
        for (uuid, cause) in &culprits {
            if self.quarantine.enter(*uuid, *cause, SystemTime::now()) {
                tracing::warn!(%uuid, domain = flight.name_of(*uuid), cause = cause.as_str(), "domain quarantined");
            }
        }
        let is_culprit = |uuid: &Uuid| culprits.iter().any(|culprit| culprit.0 == *uuid);
        let (frozen, others): (Vec<Uuid>, Vec<Uuid>) = batch.domains.iter().partition(|uuid| is_culprit(uuid));
        if !others.is_empty() {
            flight.queue.push_front(Batch { domains: others, ..batch.clone() });
        }
        let groups = batch.groups.and(StatsGroups::WITHOUT_MONITOR);
        flight.queue.push_front(Batch { kind: Kind::WithoutMonitor, groups, domains: frozen, attempts: 0 });
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
        self.send_list(id);
    }
}

fn name_of(domains: &[Identity], uuid: Uuid) -> &str {
    domains.iter().find(|domain| domain.uuid == uuid).map_or("", |domain| &domain.name)
}
