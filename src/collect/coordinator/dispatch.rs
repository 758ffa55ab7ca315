//! Who asks what: batches for workers, and a look at those that take long.

use std::collections::HashSet;
use std::time::Instant;

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::MissingReason;
use crate::collect::flight::{Batch, FlightId, Kind, Running};
use crate::collect::link::Link;
use crate::collect::quarantine::{Permission, STUCK_CALLS};
use crate::collect::relist::Cause;
use crate::collect::worker::{Role, Task, WorkerId};
use crate::libvirt::{DomainSelection, StatsGroups, StatsRequest};

impl Coordinator {
    pub(super) fn look_into_delays(&mut self, now: Instant) {
        let batch_size = u32::try_from(self.config.collection.batch_size).unwrap_or(u32::MAX);
        let usual = self.usual.saturating_mul(batch_size);
        let mut silent = false;
        for flight in self.flights.values_mut() {
            let patience = flight.patience(usual);
            for (job, running) in &mut flight.running {
                // A call that waits for a job is expected to take long.
                if running.batch.kind == Kind::Wait || now < running.since + patience * (running.checks + 1) {
                    continue;
                }
                running.checks += 1;
                if matches!(running.batch.kind, Kind::Full | Kind::BehindStuckCall) {
                    let errand = Errand::Suspects(flight.id, *job);
                    self.control_queue.push_back((errand, Task::Control(running.batch.domains.clone())));
                } else {
                    silent = true;
                }
            }
        }
        if silent {
            // No hypervisor can be to blame: does the daemon itself answer?
            self.relisting.want(Cause::Check, now);
            self.relist(now);
        }
        self.run_errand(now);
    }

    /// Gives batches to workers, as far as there are workers and it may be risked.
    pub(super) fn dispatch(&mut self, now: Instant) {
        if !matches!(self.keeper.link, Link::Up) {
            return;
        }
        let running = self.flights.values().flat_map(|flight| flight.running.values());
        let monitored = running.filter(|running| running.batch.kind == Kind::Full);
        let mut asked: HashSet<Uuid> = monitored.flat_map(|running| running.batch.domains.iter().copied()).collect();
        let mut ids: Vec<FlightId> = self.flights.keys().copied().collect();
        // What everyone asks for alike goes before what a client has made up; of equals the older goes first.
        ids.sort_by_key(|id| self.flights.get(id).is_some_and(|flight| !flight.selection.is_everything()));
        for id in ids {
            let mut position = 0;
            while let Some(batch) = self.flights.get(&id).and_then(|flight| flight.queue.get(position)).cloned() {
                let Some(batch) = self.permitted(batch, &asked) else {
                    position += 1;
                    continue;
                };
                let Some(worker) = self.free_worker(now) else { return };
                // The connection for errands is not to wait.
                let kind =
                    if Some(worker) == self.control && batch.kind == Kind::Wait { Kind::Full } else { batch.kind };
                let batch = Batch { kind, ..batch };
                let task = self.task_of(&batch, id);
                let Some(flight) = self.flights.get_mut(&id) else { break };
                flight.queue.remove(position);
                if batch.kind == Kind::WithoutMonitor && batch.groups.is_empty() {
                    flight.give_up(&batch, batch.reason);
                    continue;
                }
                let Some(job) = self.pool.give(worker, task) else {
                    // Its thread has ended, and the news is on its way.
                    self.pool.let_go(worker);
                    flight.queue.insert(position, batch);
                    continue;
                };
                flight.calls += 1;
                match (batch.kind, batch.domains.as_slice()) {
                    (Kind::Full, domains) => asked.extend(domains),
                    (Kind::Wait, [uuid]) => self.waiting_calls.begin(job, *uuid, now),
                    _ => {}
                }
                flight.running.insert(job, Running { batch, since: now, checks: 0 });
            }
        }
    }

    /// The batch as it may be asked now; `None` if it has to wait. Two calls of ours for one domain would find each other
    /// holding its job: one that is `asked` is not asked at the same time for another selection.
    fn permitted(&self, batch: Batch, asked: &HashSet<Uuid>) -> Option<Batch> {
        let may_wait =
            |uuid: &Uuid| self.quarantine.stuck_calls() < STUCK_CALLS && self.waiting_calls.may_wait(*uuid, 0);
        let batch = match batch.kind {
            Kind::Full => batch,
            Kind::Wait if !batch.domains.iter().all(may_wait) => Batch { kind: Kind::Full, ..batch },
            _ => return Some(batch),
        };
        if batch.domains.iter().any(|uuid| asked.contains(uuid)) {
            return None;
        }
        let risky = |running: &Running| running.batch.kind == Kind::Full;
        match self.quarantine.permission(&batch.domains) {
            Permission::Now => Some(batch),
            Permission::Alone => {
                let other = self.flights.values().flat_map(|flight| flight.running.values()).any(risky);
                (!other).then_some(batch)
            }
            Permission::WithoutMonitor => {
                let groups = batch.groups.and(StatsGroups::WITHOUT_MONITOR);
                Some(Batch { kind: Kind::WithoutMonitor, groups, reason: MissingReason::StuckCalls, ..batch })
            }
        }
    }

    /// An idle worker; one is started where there are fewer than configured, not counting those that are stuck.
    pub(super) fn free_worker(&mut self, now: Instant) -> Option<WorkerId> {
        if let Some(worker) = self.pool.idle() {
            return Some(worker);
        }
        let working = self.working();
        let may_start = self.workers_after.is_none_or(|after| after <= now);
        if working < self.config.collection.workers && may_start {
            self.pool.start(Role::Stats, now);
        }
        // Without any worker, the connection that stands does the work.
        let alone = working == 0 && !may_start && self.control_queue.is_empty() && self.control_job.is_none();
        self.control.filter(|worker| alone && self.pool.is_idle(*worker))
    }

    /// Workers for statistics that do not wait for a domain that may never answer.
    fn working(&self) -> usize {
        self.pool.for_stats().saturating_sub(self.quarantine.stuck_calls() + self.waiting_calls.len())
    }

    /// Lets a worker go that is one too many: it was stuck and has been replaced, or fewer are configured now.
    pub(super) fn let_surplus_go(&mut self, worker: WorkerId) {
        let working = self.working();
        if working > self.config.collection.workers && self.pool.is_idle(worker) {
            self.pool.let_go(worker);
        }
    }

    fn task_of(&self, batch: &Batch, flight: FlightId) -> Task {
        let request = |domains| StatsRequest {
            groups: batch.groups,
            domains,
            backing_chain: self.config.collection.backing_chain && !self.shortcomings.no_backing,
            nowait: batch.kind != Kind::Wait && !self.shortcomings.no_nowait,
        };
        match batch.kind {
            Kind::Full | Kind::Wait | Kind::BehindStuckCall | Kind::WithoutMonitor => {
                Task::Stats { domains: batch.domains.clone(), request: request(None) }
            }
            Kind::Inactive => {
                Task::Bulk { request: request(Some(DomainSelection::Inactive)), wanted: self.filter(flight) }
            }
            Kind::Info { inactive } => Task::Info { inactive, groups: batch.groups, wanted: self.filter(flight) },
        }
    }
}
