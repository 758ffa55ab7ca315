//! Batches are given to workers, and those that take long are looked into.

use std::collections::HashSet;

use uuid::Uuid;

use super::Scheduler;
use crate::collect::MissingReason;
use crate::collect::batch::{Batch, Kind, Running};
use crate::collect::domain_state::DomainState;
use crate::collect::pool::{JobId, Role, WorkerId};
use crate::collect::quarantine::{Permission, STUCK_CALLS};
use crate::collect::resync::ResyncCause;
use crate::collect::run::RunId;
use crate::config::CpuSource;
use crate::hypervisor::FromHost;
use crate::libvirt::{DomainSelection, StatsGroups, StatsRequest};
use crate::probes::Task;

impl Scheduler {
    /// Looks into a call that takes long: does one of its domains hang, or the daemon?
    pub(super) fn look_into(&mut self, id: RunId, job: JobId) {
        let Some(running) = self.runs.get_mut(&id).and_then(|run| run.running.get_mut(&job)) else { return };
        running.checks += 1;
        // What needs no monitor waits for a lock, too.
        let may_wait = match running.batch.kind {
            Kind::Full | Kind::BehindStuckCall => true,
            Kind::WithoutMonitor => self.control.has_aside(),
            Kind::Wait | Kind::Inactive | Kind::Info { .. } => false,
        };
        let domains = &running.batch.domains;
        let is_locked = |uuid: &Uuid| self.domains.companion(*uuid).is_some_and(DomainState::is_locked);
        let locked: Vec<Uuid> = domains.iter().copied().filter(is_locked).collect();
        if may_wait && !locked.is_empty() {
            // What it waits for is known.
            self.judge(id, job, self.now.at, &[], &locked);
        } else if may_wait {
            self.control.look_for(id, job, domains);
        } else {
            // No hypervisor can be to blame: does the daemon itself answer?
            self.resync.want(ResyncCause::Check, self.now.at);
            self.list_if_due();
        }
        self.run_control();
    }

    /// Gives batches to workers while there are free ones and the risk is allowed.
    pub(super) fn dispatch(&mut self) {
        if !self.connection.is_up() {
            return;
        }
        self.leave_locked_out();
        let running = self.runs.values().flat_map(|run| run.running.values());
        let monitored = running.filter(|running| running.batch.kind == Kind::Full);
        let mut asked: HashSet<Uuid> = monitored.flat_map(|running| running.batch.domains.iter().copied()).collect();
        let risked = self.stuck.risked(&self.domains);
        let mut ids: Vec<RunId> = self.runs.keys().copied().collect();
        // What everyone asks for alike goes before what a client has made up; of equals the older goes first.
        ids.sort_by_key(|id| self.runs.get(id).is_some_and(|run| !run.selection.is_everything()));
        for id in ids {
            let mut position = 0;
            while let Some(batch) = self.runs.get(&id).and_then(|run| run.queue.get(position)).cloned() {
                let Some(batch) = self.permitted(id, batch, &asked, risked) else {
                    position += 1;
                    continue;
                };
                let Some(worker) = self.free_worker() else { return };
                // The control worker is not to wait for a job.
                let waits = Some(worker) != self.control.worker;
                let kind = if batch.kind == Kind::Wait && !waits { Kind::Full } else { batch.kind };
                let batch = Batch { kind, ..batch };
                let task = self.task_of(&batch, id);
                let now = self.now.at;
                let Some(run) = self.runs.get_mut(&id) else { break };
                run.queue.remove(position);
                if batch.kind == Kind::WithoutMonitor && batch.groups.is_empty() && !run.pressure {
                    run.give_up(&batch.domains, batch.reason);
                    continue;
                }
                run.calls += 1;
                run.rounds.begin(batch.kind.probe().as_str(), now);
                let job = self.send(worker, task);
                match (batch.kind, batch.domains.as_slice()) {
                    (Kind::Full, domains) => asked.extend(domains),
                    (Kind::Wait, [uuid]) => self.waiting_calls.begin(job, *uuid, now),
                    _ => {}
                }
                if let Some(run) = self.runs.get_mut(&id) {
                    run.running.insert(job, Running { batch, since: now, checks: 0 });
                }
            }
        }
    }

    /// Domains that were found locked after their batches had been queued are not asked for anything.
    fn leave_locked_out(&mut self) {
        if !self.control.has_aside() {
            return;
        }
        let is_locked = |uuid: &Uuid| self.domains.companion(*uuid).is_some_and(DomainState::is_locked);
        for run in self.runs.values_mut() {
            let locked = run.take_out(is_locked);
            run.give_up(&locked, MissingReason::Quarantined);
        }
    }

    /// The batch as it may be asked now; `None` if it has to wait. Two calls of ours for one domain would find each other
    /// holding its job: one that is `asked` is not asked at the same time for another selection.
    fn permitted(&self, run: RunId, batch: Batch, asked: &HashSet<Uuid>, risked: usize) -> Option<Batch> {
        let may_wait = |uuid: &Uuid| risked < STUCK_CALLS && self.waiting_calls.may_wait(*uuid, 0);
        let batch = match batch.kind {
            Kind::Full => batch,
            Kind::Wait if !batch.domains.iter().all(may_wait) => Batch { kind: Kind::Full, ..batch },
            _ => return Some(batch),
        };
        if batch.domains.iter().any(|uuid| asked.contains(uuid)) {
            return None;
        }
        let is_proven =
            |uuid: &Uuid| self.domains.companion(*uuid).is_some_and(|state| state.incarnation.quarantine.is_proven());
        match Permission::of(risked, batch.domains.iter().all(is_proven)) {
            Permission::Now => Some(batch),
            Permission::Alone => {
                let is_risky = |running: &Running| running.batch.kind == Kind::Full;
                let other = self.runs.values().flat_map(|run| run.running.values()).any(is_risky);
                (!other).then_some(batch)
            }
            Permission::WithoutMonitor => {
                let groups = self.runs.get(&run)?.without_monitor(batch.groups);
                Some(Batch { kind: Kind::WithoutMonitor, groups, reason: MissingReason::StuckCalls, ..batch })
            }
        }
    }

    /// An idle worker; one is started where there are fewer than configured, not counting those that are stuck.
    fn free_worker(&mut self) -> Option<WorkerId> {
        if let Some(worker) = self.pool.idle() {
            return Some(worker);
        }
        let working = self.working();
        let may_start = self.workers_after.is_none();
        if working < self.config.collection.workers && may_start {
            self.start(Role::Stats);
        }
        // Without any worker, the control worker does the work.
        let alone = working == 0 && !may_start && self.control.is_free();
        self.control.worker.filter(|worker| alone && self.pool.is_idle(*worker))
    }

    /// Workers for statistics that do not wait for a domain that may never answer.
    fn working(&self) -> usize {
        self.pool.for_stats().saturating_sub(self.stuck.len() + self.waiting_calls.len())
    }

    /// Lets a worker go that is one too many: it was stuck and has been replaced, or fewer are configured now.
    pub(super) fn let_surplus_go(&mut self, worker: WorkerId) {
        if self.working() > self.config.collection.workers && self.pool.is_idle(worker) {
            self.dismiss(worker);
        }
    }

    fn task_of(&self, batch: &Batch, run: RunId) -> Task {
        let request = |domains| StatsRequest {
            groups: if batch.kind == Kind::WithoutMonitor {
                batch.groups.and(StatsGroups::WITHOUT_MONITOR)
            } else {
                batch.groups
            },
            domains,
            backing_chain: self.config.collection.backing_chain && !self.daemon.shortcomings.no_backing,
            nowait: batch.kind != Kind::Wait && !self.daemon.shortcomings.no_nowait,
        };
        match batch.kind {
            Kind::Full | Kind::Wait | Kind::BehindStuckCall | Kind::WithoutMonitor => {
                let (run, intervals) = (self.runs.get(&run), self.config.collection.intervals);
                let groups = run.map(|run| run.from_host.and(batch.groups)).unwrap_or_default();
                let falls_back = self.config.collection.cpu_source == CpuSource::Auto;
                let from_host = FromHost { groups, falls_back, pressure: run.is_some_and(|run| run.pressure) };
                let may_list = !self.control.has_aside();
                Task::Stats { domains: batch.domains.clone(), request: request(None), from_host, intervals, may_list }
            }
            Kind::Inactive => {
                Task::Inactive { request: request(Some(DomainSelection::Inactive)), wanted: self.filter(run) }
            }
            Kind::Info { inactive } => Task::Info { inactive, groups: batch.groups, wanted: self.filter(run) },
        }
    }
}
