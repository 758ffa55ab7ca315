//! The control worker: its queue of questions that the daemon answers without waiting for any hypervisor.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::pool::{JobId, WorkerId};
use super::run::RunId;
use crate::libvirt::ControlState;
use crate::probes::{Part, Task};

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
#[derive(Debug, Clone)]
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
    /// Domains whose control states are asked for and have not come, in their order.
    awaited: VecDeque<Uuid>,
    /// Control states that have come.
    states: Vec<(Uuid, ControlState)>,
    /// When the daemon answered something over another connection first, since the last part of this answer came.
    heard: Option<Instant>,
    /// Whether it waits for the lock of a domain, and nothing waits for it any more.
    pub(super) left: bool,
}

/// The control worker, with what it does and is to do.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Its connection stands for that to the daemon.
    pub(super) worker: Option<WorkerId>,
    queue: VecDeque<(ControlTask, Task)>,
    current: Option<Current>,
    /// A listing that waits for the lock of a domain. It occupies the worker, and another one does the next tasks.
    listing: Option<Current>,
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

    /// The task has been given to the worker, which asks for the control states of these domains.
    pub(super) fn began(&mut self, job: JobId, task: ControlTask, awaited: VecDeque<Uuid>, now: Instant) {
        self.current = Some(Current {
            job,
            task,
            began: now,
            alive: now,
            pinged: None,
            outdated: false,
            awaited,
            states: Vec::new(),
            heard: None,
            left: false,
        });
    }

    /// A part of its answer has come.
    pub(super) fn told(&mut self, part: Part, now: Instant) {
        self.alive(now);
        let Some(current) = &mut self.current else { return };
        current.heard = None;
        if let Part::State(uuid, state) = part {
            current.awaited.retain(|awaited| *awaited != uuid);
            current.states.extend(state.map(|state| (uuid, state)));
        }
    }

    /// The daemon has answered over another connection.
    pub(super) fn heard(&mut self, now: Instant) {
        self.alive(now);
        self.current.iter_mut().for_each(|current| _ = current.heard.get_or_insert(now));
    }

    /// Whether the daemon has answered others all the time for `long`, and not this: it waits for the lock of a domain.
    pub(super) fn waits(&self, long: Duration, now: Instant) -> bool {
        let heard = self.current.as_ref().and_then(|current| current.heard);
        heard.is_some_and(|heard| heard + long <= now)
    }

    /// A listing that waits for the lock of a domain keeps no other task waiting.
    pub(super) fn set_listing_aside(&mut self) {
        if let Some(current) = self.current.take_if(|current| current.task == ControlTask::List) {
            self.listing = Some(current);
        }
    }

    /// Whether a listing waits for the lock of a domain.
    pub(super) fn has_listing_aside(&self) -> bool {
        self.listing.is_some()
    }

    /// The domain whose control state comes next.
    pub(super) fn awaited(&self) -> Option<Uuid> {
        self.current.as_ref().filter(|current| !current.left)?.awaited.front().copied()
    }

    /// Nothing waits for the task any more. Gives what it was for, and what has come of it.
    pub(super) fn leave(&mut self) -> Option<(ControlTask, Vec<(Uuid, ControlState)>)> {
        let current = self.current.as_mut()?;
        current.left = true;
        Some((current.task, std::mem::take(&mut current.states)))
    }

    /// Whether it waits for the lock of a domain: until that is free it does nothing else.
    pub(super) fn is_held(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.left)
    }

    /// The job has ended; `Some` if it is the task under way.
    pub(super) fn ended(&mut self, job: JobId) -> Option<Current> {
        let is_it = |current: &mut Current| current.job == job;
        self.current.take_if(is_it).or_else(|| self.listing.take_if(is_it))
    }

    /// The daemon has answered something, if not yet this.
    pub(super) fn alive(&mut self, now: Instant) {
        self.under_way().for_each(|current| current.alive = now);
    }

    fn under_way(&mut self) -> impl Iterator<Item = &mut Current> {
        self.current.iter_mut().chain(&mut self.listing)
    }

    /// When the daemon last responded, if a call is under way.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.current.as_ref().or(self.listing.as_ref()).map(|current| current.alive)
    }

    /// When the daemon last responded, or was last asked whether it does, if a call is under way.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let current = self.current.as_ref().or(self.listing.as_ref());
        current.map(|current| current.pinged.map_or(current.alive, |pinged| pinged.max(current.alive)))
    }

    /// The daemon is asked over another connection whether it answers.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.under_way().for_each(|current| current.pinged = Some(now));
    }

    /// Whether nothing is under way or queued.
    pub(super) fn is_free(&self) -> bool {
        self.current.is_none() && self.listing.is_none() && self.queue.is_empty()
    }

    /// The daemon has stood still: drops what would look for the domains that keep calls waiting.
    pub(super) fn drop_suspects(&mut self) {
        self.queue.retain(|(task, _)| !matches!(task, ControlTask::Suspects(..)));
        self.under_way().for_each(|current| current.outdated = true);
    }
}
