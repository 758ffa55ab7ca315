//! Domains enter quarantine when a call of ours hangs on them, and leave it when the daemon says that their monitor is free.

use std::time::Instant;

use uuid::Uuid;

use super::Scheduler;
use crate::collect::MissingReason;
use crate::collect::batch::{Batch, Kind, Running};
use crate::collect::control::{ControlTask, Left};
use crate::collect::notice::Notice;
use crate::collect::pool::{JobId, WorkerId};
use crate::collect::quarantine::{Cause, find_culprits, verdict};
use crate::collect::run::{Phase, RunId};
use crate::libvirt::{ControlState, StatsGroups};
use crate::probes::{DEFINITIONS, Part, Subject, Task};

impl Scheduler {
    /// Releases domains that answer again, and those that were only suspected; then plans the run that asked.
    pub(super) fn release_and_plan(&mut self, id: RunId, states: &[(Uuid, ControlState)]) {
        self.quarantine_culprits(states);
        for (uuid, state) in states {
            self.release(*uuid, *state);
        }
        if self.runs.get(&id).is_some_and(|run| run.phase == Phase::Releasing) {
            self.plan(id);
        }
    }

    /// The control worker waits for the lock of a domain. What waits for the control worker goes on with what has come.
    pub(super) fn leave_locked(&mut self, uuid: Uuid) {
        let Some(Left { job, worker, task, began, states }) = self.control.leave() else { return };
        self.take_place_of(worker, job);
        self.quarantine_culprits(&states);
        self.quarantine(uuid, Cause::Locked);
        self.stuck.leave_to(uuid, &mut self.domains);
        match task {
            ControlTask::Suspects(run, job) => self.judge(run, job, began, &states, &[uuid]),
            ControlTask::Release(run) => self.release_and_plan(run, &states),
            ControlTask::Recheck(run) => self.admit(run, &states),
            ControlTask::Busy(run) => self.busy_checked(run, &states),
            ControlTask::List => {}
        }
    }

    /// The control worker waits for the lock of a domain with a listing, which nothing waits for.
    pub(super) fn set_listing_aside(&mut self) {
        if let Some((worker, job)) = self.control.set_listing_aside() {
            self.take_place_of(worker, job);
        }
    }

    /// A worker for statistics that waits for a lock with a task of the control worker is replaced by another one.
    fn take_place_of(&mut self, worker: WorkerId, job: JobId) {
        if self.pool.is_for_stats(worker) {
            self.stuck.add(job, &[], &mut self.domains);
        }
    }

    /// A part of what the control worker asks for has come. Once nothing waits for the task, a state tells that the lock is free
    /// for which it has waited.
    pub(super) fn told(&mut self, worker: WorkerId, part: Part) {
        if let Some((uuid, state)) = self.control.told(worker, part, self.now.at) {
            self.release(uuid, state);
        }
    }

    /// Puts domains into quarantine that calls which were left are found to wait for.
    fn quarantine_culprits(&mut self, states: &[(Uuid, ControlState)]) {
        for (uuid, cause) in find_culprits(states, &mut self.domains) {
            self.quarantine(uuid, cause);
        }
    }

    /// Puts a domain into quarantine.
    pub(super) fn quarantine(&mut self, uuid: Uuid, cause: Cause) {
        let now = self.now.wall;
        if self.domains.companion_mut(uuid).is_some_and(|state| state.incarnation.quarantine.enter(cause, now)) {
            let domain = self.name_of(uuid);
            self.log(Notice::Quarantined { uuid, domain, cause });
            self.leave_undefined(uuid);
        }
    }

    /// Releases a domain from quarantine if its control state allows; whether it was.
    fn release(&mut self, uuid: Uuid, state: ControlState) -> bool {
        let released =
            self.domains.companion_mut(uuid).is_some_and(|entry| entry.incarnation.quarantine.release_if_free(state));
        if released {
            let domain = self.name_of(uuid);
            self.log(Notice::Released { uuid, domain });
            self.wake(&DEFINITIONS, Subject::Domain(uuid));
        }
        released
    }

    /// A domain that thawed while the run lasted is to be complete in it: looked at once, at the end, and only if there are
    /// domains in quarantine. Whether any is looked at.
    pub(super) fn recheck(&mut self, id: RunId) -> bool {
        let is_held = self.control.is_held();
        let Some(run) = self.runs.get_mut(&id) else { return false };
        let needs_monitor = !run.groups.without(StatsGroups::WITHOUT_MONITOR).is_empty();
        let is_first = std::mem::replace(&mut run.phase, Phase::Ending) == Phase::Asking;
        let (domains, waits_for_lock) = (&self.domains, self.control.has_aside());
        let is_in = |uuid: &Uuid| {
            let quarantine = domains.companion(*uuid).map(|state| &state.incarnation.quarantine);
            quarantine.is_some_and(|state| state.entered().is_some() && !(waits_for_lock && state.is_locked()))
        };
        let closed: Vec<Uuid> = run.uuids().filter(is_in).collect();
        if closed.is_empty() || !needs_monitor || !is_first || is_held {
            return false;
        }
        run.phase = Phase::Rechecking;
        self.control.push(ControlTask::Recheck(id), Task::Control(closed));
        self.run_control();
        true
    }

    /// Domains that answer again are asked for everything before the run ends.
    pub(super) fn admit(&mut self, id: RunId, states: &[(Uuid, ControlState)]) {
        let mut again = Vec::new();
        for (uuid, state) in states {
            if self.release(*uuid, *state) {
                again.push(*uuid);
            }
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.phase = Phase::Ending;
        let groups = run.groups;
        run.queue.extend(again.into_iter().map(|uuid| Batch::new(Kind::Full, groups, vec![uuid])));
    }

    /// A batch has been waiting for long: if one of its domains is what it waits for, the call is left to it, and the others
    /// are asked again. Their control states were `asked` for then; of these domains libvirt holds `locked`.
    pub(super) fn judge(
        &mut self,
        id: RunId,
        job: JobId,
        asked: Instant,
        states: &[(Uuid, ControlState)],
        locked: &[Uuid],
    ) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Some(running) = run.running.get(&job) else { return };
        let waited = asked.saturating_duration_since(running.since);
        let judged = states.iter().filter_map(|(uuid, state)| Some((*uuid, verdict(*state, waited)?)));
        let culprits: Vec<_> = judged.chain(locked.iter().map(|uuid| (*uuid, Cause::Locked))).collect();
        if culprits.is_empty() {
            return;
        }
        let Some(Running { batch, .. }) = run.running.remove(&job) else { return };
        run.rounds.end(batch.kind.probe().as_str(), self.now.at, false);
        let suspects: Vec<Uuid> = culprits.iter().map(|culprit| culprit.0).collect();
        self.stuck.add(job, &suspects, &mut self.domains);
        let (frozen, others): (Vec<Uuid>, Vec<Uuid>) = batch.domains.iter().partition(|uuid| suspects.contains(uuid));
        if !others.is_empty() {
            run.queue.push_front(Batch { domains: others, ..batch.clone() });
        }
        // Of domains that are asked again, what needs no monitor is there.
        if batch.again {
            run.give_up(&frozen, MissingReason::Quarantined);
        } else {
            // The call that is stuck holds the job of a frozen domain. A call behind it that hangs all the same is not repeated.
            let is_frozen = |uuid: &Uuid| culprits.contains(&(*uuid, Cause::Frozen));
            let behind = batch.kind == Kind::Full && !self.daemon.shortcomings.no_nowait;
            let (behind, closed): (Vec<Uuid>, Vec<Uuid>) = frozen.iter().partition(|uuid| behind && is_frozen(uuid));
            let without = run.without_monitor(batch.groups);
            for (kind, groups, domains) in
                [(Kind::BehindStuckCall, batch.groups, behind), (Kind::WithoutMonitor, without, closed)]
            {
                if !domains.is_empty() {
                    run.queue.push_front(Batch::new(kind, groups, domains));
                }
            }
        }
        culprits.into_iter().for_each(|(uuid, cause)| self.quarantine(uuid, cause));
    }
}
