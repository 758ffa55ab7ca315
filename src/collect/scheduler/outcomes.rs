//! What workers bring: records, control states, failures.

use super::Scheduler;
use crate::collect::MissingReason;
use crate::collect::batch::{Batch, Kind, Running};
use crate::collect::control::{ControlTask, Current};
use crate::collect::message::Answer;
use crate::collect::pool::{JobId, WorkerId};
use crate::collect::run::{Run, RunId};
use crate::collect::summary::Summaries;
use crate::libvirt::{ErrorClass, LibvirtError, Records, StatsGroups};
use crate::probes::{CollectionProbe, Outcome};

/// `VIR_ERR_SYSTEM_ERROR`
const SYSTEM_ERROR: i32 = 38;
/// `VIR_ERR_INVALID_ARG`
const INVALID_ARG: i32 = 8;
/// `VIR_ERR_ARGUMENT_UNSUPPORTED`
const ARGUMENT_UNSUPPORTED: i32 = 74;

impl Scheduler {
    /// A worker has done its task.
    pub(super) fn done(&mut self, worker: WorkerId, job: JobId, answer: Answer) {
        let outcome = answer.map(|answer| *answer);
        self.pool.free(worker, self.now.at);
        if self.inactive_job == Some(job) {
            self.inactive_job = None;
        }
        let was_stuck = self.stuck.ended(job, &mut self.domains);
        if let Some(current) = self.control.ended(job) {
            let is_own = Some(worker) == self.control.worker;
            return self.control_done(current, outcome.map(|(outcome, _)| outcome), is_own);
        }
        self.waiting_calls.ended(job);
        // Before the rest is looked at: this call waits no longer.
        let ended = self.runs.values_mut().find_map(|run| Some((run.id, run.running.remove(&job)?)));
        if !matches!(&outcome, Err(error) if error.class == ErrorClass::Disconnected) {
            self.heard();
        }
        if let Some((probe, ended)) = self.background.ended(job) {
            return self.background_ended(probe, ended, outcome.map(|(outcome, _)| outcome));
        }
        self.let_surplus_go(worker);
        if was_stuck {
            return;
        }
        let Some((id, running)) = ended else { return };
        let Some(run) = self.runs.get_mut(&id) else { return };
        match outcome {
            Ok((Outcome::Records(records), summaries)) => self.answered(id, &running, records, summaries),
            Ok(_) => run.give_up(&running.batch.domains, MissingReason::Refused),
            Err(error) => self.failed_batch(id, running.batch, error),
        }
    }

    /// A batch has been answered.
    fn answered(&mut self, id: RunId, running: &Running, records: Records, summaries: Summaries) {
        let (batch, now) = (&running.batch, self.now.at);
        let Some(selection) = self.runs.get(&id).map(|run| run.selection.clone()) else { return };
        let silent = self.compare(batch, &records, |name| selection.selects(name));
        if batch.kind == Kind::Inactive {
            self.ask_for_started(id, silent);
        }
        if !batch.again {
            self.learn(&records, &summaries.domains);
        }
        let lacks = self.lacks(id, batch, &summaries.domains);
        if let (Kind::Full, false, Ok(count @ 1..)) = (batch.kind, batch.again, u32::try_from(records.len())) {
            let each = now.saturating_duration_since(running.since) / count;
            self.usual = (self.usual * 7 + each) / 8;
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.rounds.end(batch.kind.probe().as_str(), now, true);
        run.count(summaries.parameters);
        if self.daemon.shortcomings.no_nowait {
            // Each call has waited for the jobs already.
            run.busy.close();
        }
        let complete = run.answer(batch, records, &lacks, now, || self.chance.f64());
        for uuid in complete.into_iter().filter(|_| matches!(batch.kind, Kind::Full | Kind::Wait)) {
            if let Some(state) = self.domains.companion_mut(uuid) {
                state.incarnation.long_busy = false;
                state.incarnation.quarantine.answered();
            }
        }
        self.check_busy(id);
    }

    /// A task of the control worker is done, by its own worker or another one.
    fn control_done(&mut self, current: Current, outcome: Result<Outcome, LibvirtError>, is_own: bool) {
        let task = current.task;
        if task == ControlTask::List {
            self.note_status(CollectionProbe::Listing.as_str(), current.began, outcome.is_ok());
        }
        let disconnected = matches!(&outcome, Err(error) if error.class == ErrorClass::Disconnected);
        let was_silent = self.connection.is_silent() && !disconnected;
        if was_silent {
            self.resumed();
        }
        if !current.left && (was_silent || (current.outdated && !disconnected)) {
            match task {
                ControlTask::Suspects(..) => return,
                ControlTask::Busy(run) => return self.busy_checked(run, &[]),
                _ => {}
            }
        }
        match (task, outcome) {
            // Its states were told of when they came.
            _ if current.left => {}
            (ControlTask::List, Ok(Outcome::Listed(listing))) => self.listed(listing),
            (ControlTask::Release(run), Ok(Outcome::Controlled(states))) => self.release_and_plan(run, &states),
            (ControlTask::Suspects(run, job), Ok(Outcome::Controlled(states))) => {
                self.judge(run, job, current.began, &states, &[]);
            }
            (ControlTask::Recheck(run), Ok(Outcome::Controlled(states))) => self.admit(run, &states),
            (ControlTask::Recheck(run), _) => self.admit(run, &[]),
            (ControlTask::Busy(run), Ok(Outcome::Controlled(states))) => self.busy_checked(run, &states),
            // The connection that broke tells of itself.
            (_, Err(error)) if is_own && error.class == ErrorClass::Disconnected => {}
            (ControlTask::List, Err(error)) => self.not_listed(&error),
            (ControlTask::Release(run), Err(_)) => self.release_and_plan(run, &[]),
            (ControlTask::Busy(run), Err(_)) => self.busy_checked(run, &[]),
            _ => {}
        }
    }

    /// A call failed: what can be had differently is asked for differently, what can be told apart is told apart.
    fn failed_batch(&mut self, id: RunId, batch: Batch, error: LibvirtError) {
        let whole = batch.domains.len();
        let (fragile, other) = (batch.groups.and(StatsGroups::FRAGILE), batch.groups.without(StatsGroups::FRAGILE));
        let has_both = !fragile.is_empty() && !other.is_empty();
        let again = match error.class {
            // The worker's connection broke; if the control worker's stands, another worker asks once more.
            ErrorClass::Disconnected if batch.attempts == 0 => vec![Batch { attempts: 1, ..batch }],
            ErrorClass::NotSupported if !matches!(batch.kind, Kind::Info { .. }) => {
                self.daemon.shortcomings.no_bulk = true;
                // What still runs fails likewise, and finds no run.
                return self.runs.get_mut(&id).into_iter().for_each(Run::start_over);
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
                self.stats.count_failure(error.class);
                self.log_failure("a call to libvirt failed", &error);
                let now = self.now.at;
                if let Some(run) = self.runs.get_mut(&id) {
                    run.rounds.end(batch.kind.probe().as_str(), now, false);
                    run.give_up(&batch.domains, MissingReason::Refused);
                }
                return;
            }
        };
        if let Some(run) = self.runs.get_mut(&id) {
            run.queue.extend(again);
        }
    }

    fn drop_a_flag(&mut self) -> bool {
        let shortcomings = &mut self.daemon.shortcomings;
        if self.config.collection.backing_chain && !shortcomings.no_backing {
            shortcomings.no_backing = true;
        } else if !shortcomings.no_nowait {
            shortcomings.no_nowait = true;
        } else {
            return false;
        }
        true
    }
}
