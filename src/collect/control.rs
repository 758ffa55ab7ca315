//! The control worker: its queue of questions that the daemon answers without waiting for any hypervisor.

use std::collections::VecDeque;
use std::time::Instant;

use super::pool::{JobId, WorkerId};
use super::run::RunId;
use crate::probes::Task;

/// What a task of the control worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlTask {
    /// To list the domains.
    List,
    /// To release domains from quarantine before a run is planned.
    Release(RunId),
    /// To find the domains that keep a call waiting.
    Suspects(RunId, JobId),
    /// To release domains from quarantine that answer again at the end of a run.
    Recheck(RunId),
    /// To look at the busy domains of a run before they are asked again.
    Busy(RunId),
}

impl ControlTask {
    fn run(self) -> Option<RunId> {
        match self {
            Self::List => None,
            Self::Release(run) | Self::Suspects(run, _) | Self::Recheck(run) | Self::Busy(run) => Some(run),
        }
    }
}

/// A task under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    pub(super) job: JobId,
    pub(super) task: ControlTask,
    /// When it was given out.
    pub(super) began: Instant,
    /// When the daemon last responded.
    alive: Instant,
    /// When it was last asked over another connection whether it does.
    pinged: Option<Instant>,
    /// Whether the daemon stood still meanwhile: what its answer says of a domain's monitor is worth nothing then.
    pub(super) outdated: bool,
}

/// The control worker, with what it does and is to do.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Its connection stands for that to the daemon.
    pub(super) worker: Option<WorkerId>,
    queue: VecDeque<(ControlTask, Task)>,
    current: Option<Current>,
}

impl Control {
    /// Queues a task.
    pub(super) fn push(&mut self, task: ControlTask, call: Task) {
        self.queue.push_back((task, call));
    }

    /// Takes the next task off the queue, unless one is under way. Those of runs that have ended are dropped.
    pub(super) fn next(&mut self, lives: impl Fn(RunId) -> bool) -> Option<(ControlTask, Task)> {
        if self.current.is_some() {
            return None;
        }
        while let Some((task, call)) = self.queue.pop_front() {
            if task.run().is_none_or(&lives) {
                return Some((task, call));
            }
        }
        None
    }

    /// The task has been given to the worker.
    pub(super) fn began(&mut self, job: JobId, task: ControlTask, now: Instant) {
        self.current = Some(Current { job, task, began: now, alive: now, pinged: None, outdated: false });
    }

    /// The job has ended; `Some` if it is the task under way.
    pub(super) fn ended(&mut self, job: JobId) -> Option<Current> {
        self.current.take_if(|current| current.job == job)
    }

    /// The daemon has answered something, if not yet this.
    pub(super) fn alive(&mut self, now: Instant) {
        self.current.iter_mut().for_each(|current| current.alive = now);
    }

    /// When the daemon last responded, if a call is under way.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.current.map(|current| current.alive)
    }

    /// When the daemon last responded, or was last asked whether it does, if a call is under way.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        self.current.map(|current| current.pinged.map_or(current.alive, |pinged| pinged.max(current.alive)))
    }

    /// The daemon is asked over another connection whether it answers.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.current.iter_mut().for_each(|current| current.pinged = Some(now));
    }

    /// Whether nothing is under way or queued.
    pub(super) fn is_free(&self) -> bool {
        self.current.is_none() && self.queue.is_empty()
    }

    /// The daemon has stood still: drops what would look for the domains that keep calls waiting.
    pub(super) fn drop_suspects(&mut self) {
        self.queue.retain(|(task, _)| !matches!(task, ControlTask::Suspects(..)));
        self.current.iter_mut().for_each(|current| current.outdated = true);
    }
}
