//! Who is asked together with whom: a flight's batches, once the domains are known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::MissingReason;
use crate::collect::flight::{Batch, FlightId, Kind};
use crate::collect::link::Link;
use crate::collect::quarantine::Cause;
use crate::collect::reading::Subject;
use crate::collect::relist;
use crate::collect::worker::{DomainFilter, Task};
use crate::config::InactiveDomains;
use crate::libvirt::{ControlState, Identity, StatsGroups};

impl Coordinator {
    /// Plans the flights that wait for it, as soon as the domains are known. Of domains in quarantine it is asked first
    /// whether they answer again.
    pub(super) fn plan_flights(&mut self, now: Instant) {
        if !matches!(self.keeper.link, Link::Up) || !self.relisting.is_listed() {
            return;
        }
        let waiting = self.flights.values().filter(|flight| !flight.planned && !flight.releasing);
        for id in waiting.map(|flight| flight.id).collect::<Vec<FlightId>>() {
            let closed: Vec<Uuid> = self.quarantine.in_question().into_iter().collect();
            if closed.is_empty() {
                self.plan(id, now);
            } else if let Some(flight) = self.flights.get_mut(&id) {
                flight.releasing = true;
                self.control_queue.push_back((Errand::Release(id), Task::Control(closed)));
            }
        }
    }

    /// Lets domains that answer again out of quarantine, and whoever was only suspected; then plans the flight that asked.
    pub(super) fn release(&mut self, id: FlightId, states: &[(Uuid, ControlState)], now: Instant) {
        for (uuid, cause) in self.quarantine.find_culprits(states) {
            self.shut_in(uuid, cause, now);
        }
        for (uuid, state) in states {
            self.let_out(*uuid, *state, now);
        }
        if self.flights.contains_key(&id) {
            self.plan(id, now);
        }
    }

    /// Puts a domain into quarantine.
    pub(super) fn shut_in(&mut self, uuid: Uuid, cause: Cause, now: Instant) {
        if self.quarantine.enter(uuid, cause, SystemTime::now()) {
            tracing::warn!(%uuid, domain = self.name_of(uuid), cause = cause.as_str(), "domain quarantined");
            self.leave_undefined(uuid, now);
        }
    }

    /// Lets a domain out of quarantine if its control state allows; whether it was.
    pub(super) fn let_out(&mut self, uuid: Uuid, state: ControlState, now: Instant) -> bool {
        let out = self.quarantine.release_if_free(uuid, state).is_some();
        if out {
            tracing::info!(%uuid, domain = self.name_of(uuid), "the domain answers again");
            self.reader.want(Subject::Definition, uuid, now);
        }
        out
    }

    pub(super) fn name_of(&self, uuid: Uuid) -> &str {
        self.registry.get(uuid).map_or("", |target| &target.identity.name)
    }

    fn plan(&mut self, id: FlightId, now: Instant) {
        self.ask_for_running(id);
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.planned = true;
        flight.releasing = false;
        let groups = flight.groups;
        let inactive = match self.config.collection.inactive_domains {
            InactiveDomains::None => StatsGroups::default(),
            InactiveDomains::State => groups.and(StatsGroups::STATE),
            InactiveDomains::All => groups,
        };
        let kind = if self.shortcomings.no_bulk { Kind::Info { inactive: true } } else { Kind::Inactive };
        if !inactive.is_empty() && self.inactive_job.is_none() {
            flight.queue.push_back(Batch::new(kind, inactive, Vec::new()));
        }
        if flight.queue.is_empty() && !self.relisting.is_listed_since(flight.started) {
            // With nothing to ask, only a listing tells whether the daemon answers.
            flight.planned = false;
            self.relisting.want(relist::Cause::Check, now);
            self.relist(now);
        }
    }

    /// Adds domains that have been started while the flight lasts: whoever scrapes right after a start sees it, although its
    /// event takes a moment. Whether there were any.
    pub(super) fn ask_for_late(&mut self, id: FlightId) -> bool {
        /// How often a flight is extended while domains keep starting.
        const EXTENSIONS: u8 = 3;
        let Some(flight) = self.flights.get_mut(&id) else { return false };
        if self.shortcomings.no_bulk || flight.extensions >= EXTENSIONS {
            return false;
        }
        flight.extensions += 1;
        self.ask_for_running(id);
        self.flights.get(&id).is_some_and(|flight| !flight.queue.is_empty())
    }

    /// Queues batches of the running domains that the flight does not know yet.
    fn ask_for_running(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let selection = &flight.selection;
        let running = self.registry.iter().filter(|target| target.selected && target.is_active());
        let running = running.filter(|target| !self.reader.is_unreadable(target.identity.uuid));
        let wanted = running.map(|target| &target.identity).filter(|who| selection.selects(&who.name));
        let domains: Vec<Identity> = wanted.filter(|who| !flight.knows(who.uuid)).cloned().collect();
        let (closed, open): (Vec<Uuid>, Vec<Uuid>) =
            domains.iter().map(|domain| domain.uuid).partition(|uuid| self.quarantine.is_closed(*uuid));
        flight.add(domains);
        let groups = flight.groups;
        if self.shortcomings.no_bulk {
            flight.queue.push_back(Batch::new(Kind::Info { inactive: false }, groups, open));
            return;
        }
        let knows_nowait = !self.shortcomings.no_nowait;
        let (held, closed): (Vec<Uuid>, Vec<Uuid>) =
            closed.iter().partition(|uuid| knows_nowait && self.quarantine.holds_job(**uuid));
        let without = groups.and(StatsGroups::WITHOUT_MONITOR);
        for domains in self.planner.plan(&closed) {
            // They may be what a stuck call waits for.
            let reason = MissingReason::StuckCalls;
            flight.queue.push_back(Batch { reason, ..Batch::new(Kind::WithoutMonitor, without, domains) });
        }
        for domains in self.planner.plan(&held) {
            flight.queue.push_back(Batch::new(Kind::BehindStuckCall, groups, domains));
        }
        let needs_monitor = !groups.without(StatsGroups::WITHOUT_MONITOR).is_empty();
        for domains in self.planner.plan(&open) {
            // What needs no hypervisor cannot hang on one, and is complete without.
            let kind = if needs_monitor { Kind::Full } else { Kind::WithoutMonitor };
            flight.queue.push_back(Batch::new(kind, groups, domains));
        }
    }

    /// Which domains of a bulk reply are wanted by the configuration and the flight. One that has only just been defined is
    /// not known yet: it is wanted unless there are rules, which have to see it first.
    pub(super) fn filter(&self, id: FlightId) -> DomainFilter {
        let rules = !self.config.domains.include.is_empty() || !self.config.domains.exclude.is_empty();
        let known: HashMap<Uuid, bool> =
            self.registry.iter().map(|target| (target.identity.uuid, target.selected)).collect();
        let selection = self.flights.get(&id).map(|flight| flight.selection.clone()).unwrap_or_default();
        Arc::new(move |name: &str, uuid: Uuid| known.get(&uuid).copied().unwrap_or(!rules) && selection.selects(name))
    }
}
