//! A run's batches, once the domains are known.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::Scheduler;
use crate::collect::MissingReason;
use crate::collect::batch::{Batch, Kind};
use crate::collect::control::ControlTask;
use crate::collect::domain_state::Readable;
use crate::collect::quarantine::in_question;
use crate::collect::resync::ResyncCause;
use crate::collect::run::{Phase, RunId};
use crate::config::InactiveDomains;
use crate::libvirt::{Identity, StatsGroups};
use crate::probes::{DomainFilter, Task};

/// How often a run is extended while domains keep starting.
const EXTENSIONS: u8 = 3;

impl Scheduler {
    /// Plans the runs that wait for it, as soon as the domains are known. Domains in quarantine are looked at first: they may
    /// answer again.
    pub(super) fn plan_runs(&mut self) {
        if !self.connection.is_up() || !self.resync.is_listed() {
            return;
        }
        let waiting = self.runs.values().filter(|run| run.phase == Phase::Waiting);
        for id in waiting.map(|run| run.id).collect::<Vec<RunId>>() {
            let closed = self.in_question();
            if closed.is_empty() || self.control.is_held() {
                self.plan(id);
            } else if let Some(run) = self.runs.get_mut(&id) {
                run.phase = Phase::Releasing;
                self.control.push(ControlTask::Release(id), Task::Control(closed));
            }
        }
    }

    /// The domains whose control states tell more about them. That of one whose lock is waited for comes when it is free.
    fn in_question(&self) -> Vec<Uuid> {
        let mut domains = in_question(&self.domains);
        if self.control.has_aside() {
            // Other domains that calls wait for may be locked, too.
            for (domain, state) in self.domains.with_companions() {
                let uuid = domain.identity.uuid;
                match &state.incarnation.quarantine {
                    quarantine if quarantine.is_locked() => _ = domains.remove(&uuid),
                    quarantine if quarantine.is_closed() => _ = domains.insert(uuid),
                    _ => {}
                }
            }
        }
        domains.into_iter().collect()
    }

    pub(super) fn plan(&mut self, id: RunId) {
        self.ask_for_running(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.phase = Phase::Asking;
        let groups = run.groups;
        let inactive = match self.config.collection.inactive_domains {
            InactiveDomains::None => StatsGroups::default(),
            InactiveDomains::State => groups.and(StatsGroups::STATE),
            InactiveDomains::All => groups,
        };
        let kind = if self.daemon.shortcomings.no_bulk { Kind::Info { inactive: true } } else { Kind::Inactive };
        if !inactive.is_empty() && self.inactive_job.is_none() {
            run.queue.push_back(Batch::new(kind, inactive, Vec::new()));
        }
        if run.queue.is_empty() && !self.resync.is_listed_since(run.started) && !self.control.has_aside() {
            // With nothing to ask, only a listing tells whether the daemon answers; pings tell it while that waits for a lock.
            run.phase = Phase::Waiting;
            self.resync.want(ResyncCause::Check, self.now.at);
            self.list_if_due();
        }
    }

    /// Adds domains that have been started while the run lasts: a scrape right after a start sees it, although its event
    /// takes a moment. Whether there were any.
    pub(super) fn ask_for_late(&mut self, id: RunId) -> bool {
        let Some(run) = self.runs.get_mut(&id) else { return false };
        if self.daemon.shortcomings.no_bulk || run.extensions >= EXTENSIONS {
            return false;
        }
        run.extensions += 1;
        self.ask_for_running(id);
        self.runs.get(&id).is_some_and(|run| !run.queue.is_empty())
    }

    /// Of `domains`, which were shut off, the daemon does not say so any more: they have just been started, of which no event has
    /// told yet, or are gone.
    pub(super) fn ask_for_started(&mut self, id: RunId, domains: Vec<Uuid>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.add(domains.iter().filter_map(|uuid| Some(self.domains.get(*uuid)?.identity.clone())).collect());
        for batch in self.planner.plan(&domains, |_| None) {
            run.queue.push_back(Batch::new(Kind::Full, run.groups, batch));
        }
    }

    /// Queues batches of the running domains that the run does not know yet.
    fn ask_for_running(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let selection = &run.selection;
        let running = self.domains.with_companions().filter(|(domain, _)| domain.selected && domain.is_active());
        let running = running.filter(|(_, state)| state.readable != Readable::Nothing);
        let wanted = running.filter(|(domain, _)| selection.selects(&domain.identity.name));
        let new = wanted.filter(|(domain, _)| !run.knows(domain.identity.uuid));
        let (mut open, mut held, mut closed): (Vec<Uuid>, Vec<Uuid>, Vec<Uuid>) = Default::default();
        let mut domains: Vec<Identity> = Vec::new();
        let mut locked = Vec::new();
        // While nothing tells which domains are locked, those that calls wait for may be.
        let is_held = self.control.is_held();
        let holds_back = !self.daemon.shortcomings.no_nowait && !self.daemon.shortcomings.no_bulk;
        for (domain, state) in new {
            let group = match &state.incarnation.quarantine {
                quarantine if quarantine.is_locked() || (is_held && quarantine.is_closed()) => &mut locked,
                quarantine if !quarantine.is_closed() => &mut open,
                quarantine if quarantine.holds_job() && holds_back => &mut held,
                _ => &mut closed,
            };
            group.push(domain.identity.uuid);
            domains.push(domain.identity.clone());
        }
        run.add(domains);
        let groups = run.groups;
        run.give_up(&locked, MissingReason::Quarantined);
        if self.daemon.shortcomings.no_bulk {
            match self.inactive_job {
                None => run.queue.push_back(Batch::new(Kind::Info { inactive: false }, groups, open)),
                // A call about all domains would wait as the one before does.
                Some(_) => run.give_up(&open, MissingReason::StuckCalls),
            }
            return;
        }
        let domains = &self.domains;
        let plan = |batch: &[Uuid]| {
            self.planner.plan(batch, |uuid| domains.companion(uuid).and_then(|state| state.reply_size))
        };
        let without = run.without_monitor(groups);
        for domains in plan(&closed) {
            // They may be what a stuck call waits for.
            let reason = MissingReason::StuckCalls;
            run.queue.push_back(Batch { reason, ..Batch::new(Kind::WithoutMonitor, without, domains) });
        }
        for domains in plan(&held) {
            run.queue.push_back(Batch::new(Kind::BehindStuckCall, groups, domains));
        }
        let needs_monitor = !groups.without(StatsGroups::WITHOUT_MONITOR).is_empty();
        for domains in plan(&open) {
            // What needs no hypervisor cannot hang on one, and is complete without.
            let kind = if needs_monitor { Kind::Full } else { Kind::WithoutMonitor };
            run.queue.push_back(Batch::new(kind, groups, domains));
        }
    }

    /// Which domains of a bulk reply are wanted by the configuration and the run. One that has only just been defined is not
    /// known yet: it is wanted unless there are rules, which have to see it first.
    pub(super) fn filter(&self, id: RunId) -> DomainFilter {
        let rules = !self.config.domains.include.is_empty() || !self.config.domains.exclude.is_empty();
        let known: HashMap<Uuid, bool> =
            self.domains.iter().map(|domain| (domain.identity.uuid, domain.selected)).collect();
        let selection = self.runs.get(&id).map(|run| run.selection.clone()).unwrap_or_default();
        Arc::new(move |name: &str, uuid: Uuid| known.get(&uuid).copied().unwrap_or(!rules) && selection.selects(name))
    }
}
