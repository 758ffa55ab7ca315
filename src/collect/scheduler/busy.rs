//! Busy domains are asked again, until they are whole or a share of the deadline has passed.

use uuid::Uuid;

use super::Scheduler;
use crate::collect::batch::{Batch, Kind, Running};
use crate::collect::busy::Again;
use crate::collect::completeness::Lack;
use crate::collect::control::ControlTask;
use crate::collect::pool::JobId;
use crate::collect::quarantine::Cause;
use crate::collect::run::RunId;
use crate::collect::summary::Summary;
use crate::config::CpuSource;
use crate::domains::Domain;
use crate::hypervisor;
use crate::libvirt::{ControlState, StatsGroups};
use crate::probes::Task;

impl Scheduler {
    /// What each record of a batch lacks. Only QEMU's driver leaves out what it could not ask for.
    pub(super) fn lacks(&mut self, id: RunId, batch: &Batch, records: &[Summary]) -> Vec<Lack> {
        let is_qemu = self.daemon.versions.as_ref().is_some_and(|versions| versions.driver == "QEMU");
        let judged = match (batch.kind, self.runs.get(&id)) {
            (Kind::Full | Kind::Wait | Kind::BehindStuckCall, Some(run)) if is_qemu => run.judged(batch.groups),
            _ => StatsGroups::default(),
        };
        let waited = batch.kind == Kind::Wait;
        let falls_back = self.config.collection.cpu_source == CpuSource::Auto;
        let lack = |record: &Summary| {
            let mut answered =
                self.domains.companion(record.uuid).map(|state| state.incarnation.answered).unwrap_or_default();
            let definition = self.domains.get(record.uuid).and_then(Domain::metadata);
            let by_libvirt = judged.without(record.elsewhere | record.unread);
            let lack = self.daemon.answers.judge(&mut answered, record, by_libvirt, definition, waited);
            if let Some(state) = self.domains.companion_mut(record.uuid) {
                state.incarnation.answered = answered;
            }
            let again = if falls_back { record.unread } else { record.unread.without(hypervisor::GROUPS) };
            Lack { missing: lack.missing | record.unread, again: lack.again | again, ..lack }
        };
        records.iter().map(lack).collect()
    }

    /// Has the control states of all busy domains looked at that were not yet.
    pub(super) fn check_all_busy(&mut self) {
        if self.connection.is_up() {
            let ids: Vec<RunId> = self.runs.values().filter(|run| run.busy.has_unchecked()).map(|run| run.id).collect();
            ids.into_iter().for_each(|id| self.check_busy(id));
        }
    }

    /// Asks for the control states of busy domains, to tell them from domains whose monitor does not answer.
    pub(super) fn check_busy(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let unchecked = run.busy.take_unchecked(self.now.at);
        if unchecked.is_empty() {
            return;
        }
        if self.control.is_held() {
            self.busy_checked(id, &[]);
        } else {
            self.control.push(ControlTask::Busy(id), Task::Control(unchecked));
            self.run_control();
        }
    }

    /// The control states of busy domains have come.
    pub(super) fn busy_checked(&mut self, id: RunId, states: &[(Uuid, ControlState)]) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let mut frozen = Vec::new();
        for (uuid, occupied) in run.busy.checked(states, self.now.at) {
            self.domains.companion_mut(uuid).into_iter().for_each(|state| state.incarnation.long_busy = true);
            let waits = |_: &JobId, running: &mut Running| {
                running.batch.kind == Kind::Wait && running.batch.domains.contains(&uuid)
            };
            drop(run.running.extract_if(.., waits).collect::<Vec<_>>());
            // A call that waited for the job may have got it, and hang in the monitor.
            // So may a call of a background probe.
            let waiting = |occupied| self.waiting_calls.take_stuck(uuid, occupied, self.now.at);
            let call = occupied.and_then(waiting).or_else(|| self.background.hung_on(uuid));
            frozen.extend(call.map(|job| (uuid, job)));
        }
        for (uuid, job) in frozen {
            self.stuck.add(job, &[uuid], &mut self.domains);
            self.quarantine(uuid, Cause::Frozen);
        }
        self.check_busy(id);
    }

    /// Queues what is due of the busy domains of a run.
    pub(super) fn ask_busy_again(&mut self, id: RunId) {
        self.check_busy(id);
        let domains = &self.domains;
        let is_long = |uuid| domains.companion(uuid).is_some_and(|state| state.incarnation.long_busy);
        let size = |uuid| domains.companion(uuid).and_then(|state| state.reply_size);
        let Some(run) = self.runs.get_mut(&id) else { return };
        for again in run.busy.take_due(self.now.at, &self.waiting_calls, is_long) {
            let batches = match again {
                Again::Wait(groups, uuid) => vec![Batch::new(Kind::Wait, groups, vec![uuid])],
                Again::Now(groups, domains) => {
                    let parts = self.planner.pack(&domains, size).into_iter();
                    parts.map(|domains| Batch::new(Kind::Full, groups, domains)).collect()
                }
            };
            batches.into_iter().for_each(|batch| run.queue.push_front(Batch { again: true, ..batch }));
        }
    }

    /// The time of the busy domains of a run is over.
    pub(super) fn give_up_busy(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        for uuid in run.busy.close() {
            self.domains.companion_mut(uuid).into_iter().for_each(|state| state.incarnation.long_busy = true);
        }
        // libvirt cannot cancel calls that wait for a job: they go on, and their answers are dropped.
        run.queue.retain(|batch| batch.kind != Kind::Wait);
        run.running.retain(|_, running| running.batch.kind != Kind::Wait);
    }
}
