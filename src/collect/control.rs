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
    /// Who does it.
    worker: WorkerId,
    pub(super) task: ControlTask,
    /// When it was given out.
    pub(super) began: Instant,
    /// When the daemon last responded, be it with an event.
    alive: Instant,
    /// When it last answered something.
    answered: Instant,
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

/// A task that nothing waits for any more.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) job: JobId,
    pub(super) worker: WorkerId,
    pub(super) task: ControlTask,
    /// When it was given out.
    pub(super) began: Instant,
    /// What has come of it.
    pub(super) states: Vec<(Uuid, ControlState)>,
}

/// The control worker, with what it does and is to do.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// Its connection stands for that to the daemon.
    pub(super) worker: Option<WorkerId>,
    queue: VecDeque<(ControlTask, Task)>,
    current: Option<Current>,
    /// Tasks that wait for the lock of a domain. They occupy their workers, and another one does the next tasks.
    aside: Vec<Current>,
    /// Who has asked whether the daemon answers since it last did.
    pings: Vec<WorkerId>,
    /// When it was last asked.
    pinged: Option<Instant>,
}

/// Most tasks that may wait for locks before nothing else is asked for control states.
const MOST_ASIDE: usize = 4;

impl Control {
    /// Queues a task.
    pub(super) fn push(&mut self, task: ControlTask, call: Task) {
        self.queue.push_back((task, call));
    }

    /// Queues the question which of `domains` keeps a call waiting, once.
    pub(super) fn look_for(&mut self, run: RunId, job: JobId, domains: &[Uuid]) {
        let task = ControlTask::Suspects(run, job);
        if self.queue.iter().all(|(queued, _)| *queued != task) {
            self.push(task, Task::Control(domains.to_vec()));
        }
    }

    /// Drops the tasks of runs that have ended.
    pub(super) fn drop_ended(&mut self, lives: impl Fn(RunId) -> bool) {
        self.queue.retain(|(task, _)| task.run().is_none_or(&lives));
    }

    /// Takes the next task off the queue, unless one is under way.
    pub(super) fn next(&mut self) -> Option<(ControlTask, Task)> {
        if self.current.is_some() { None } else { self.queue.pop_front() }
    }

    /// The task has been given to the worker, which asks for the control states of these domains.
    pub(super) fn began(
        &mut self,
        job: JobId,
        worker: WorkerId,
        task: ControlTask,
        awaited: VecDeque<Uuid>,
        now: Instant,
    ) {
        self.current = Some(Current {
            job,
            worker,
            task,
            began: now,
            alive: now,
            answered: now,
            outdated: false,
            awaited,
            states: Vec::new(),
            heard: None,
            left: false,
        });
    }

    /// A part of an answer has come. Gives the control state in it if nothing waits for the whole answer any more.
    pub(super) fn told(&mut self, worker: WorkerId, part: Part, now: Instant) -> Option<(Uuid, ControlState)> {
        if self.under_way().any(|current| current.worker == worker) {
            self.answered(now);
        }
        let current = self.under_way().find(|current| current.worker == worker)?;
        current.heard = None;
        let Part::State(uuid, state) = part else { return None };
        current.awaited.retain(|awaited| *awaited != uuid);
        let told = (uuid, state?);
        if current.left {
            return Some(told);
        }
        current.states.push(told);
        None
    }

    /// The daemon has answered over another connection.
    pub(super) fn heard(&mut self, now: Instant) {
        self.answered(now);
        self.pings.clear();
        self.current.iter_mut().for_each(|current| _ = current.heard.get_or_insert(now));
    }

    /// Whether the daemon has answered others all the time for `long`, and not this: it waits for the lock of a domain.
    pub(super) fn waits(&self, long: Duration, now: Instant) -> bool {
        let heard = self.current.as_ref().and_then(|current| current.heard);
        heard.is_some_and(|heard| heard + long <= now)
    }

    /// A listing that waits for the lock of a domain keeps no other task waiting. Gives who waits, and the job.
    pub(super) fn set_listing_aside(&mut self) -> Option<(WorkerId, JobId)> {
        let listing = self.current.take_if(|current| current.task == ControlTask::List)?;
        let waits = (listing.worker, listing.job);
        self.aside.push(listing);
        Some(waits)
    }

    /// Whether a task waits for the lock of a domain.
    pub(super) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    /// Whether the next task is for another worker.
    pub(super) fn needs_substitute(&self) -> bool {
        self.has_aside() && self.current.is_none() && !self.queue.is_empty()
    }

    /// The domain whose control state comes next.
    pub(super) fn awaited(&self) -> Option<Uuid> {
        self.current.as_ref().filter(|current| !current.left)?.awaited.front().copied()
    }

    /// Nothing waits for the task any more.
    pub(super) fn leave(&mut self) -> Option<Left> {
        let current = self.current.as_mut()?;
        current.left = true;
        let states = std::mem::take(&mut current.states);
        let Current { job, worker, task, began, .. } = *current;
        let left = Left { job, worker, task, began, states };
        self.set_left_aside();
        Some(left)
    }

    /// A task that nothing waits for keeps no other task waiting while there are places aside.
    fn set_left_aside(&mut self) {
        if self.aside.len() < MOST_ASIDE {
            self.aside.extend(self.current.take_if(|current| current.left));
        }
    }

    /// Whether so many tasks wait for locks that until one is free nothing else is asked.
    pub(super) fn is_held(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.left)
    }

    /// The job has ended; `Some` if it is the task under way.
    pub(super) fn ended(&mut self, job: JobId) -> Option<Current> {
        let place = self.aside.iter().position(|current| current.job == job);
        let aside = place.map(|place| self.aside.remove(place));
        let ended = aside.or_else(|| self.current.take_if(|current| current.job == job));
        self.set_left_aside();
        ended
    }

    fn answered(&mut self, now: Instant) {
        self.under_way().for_each(|current| (current.alive, current.answered) = (now, now));
    }

    /// The daemon has told of an event.
    pub(super) fn alive(&mut self, now: Instant) {
        self.under_way().for_each(|current| current.alive = now);
    }

    fn under_way(&mut self) -> impl Iterator<Item = &mut Current> {
        self.current.iter_mut().chain(&mut self.aside)
    }

    /// When the daemon last responded, if a call is under way.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.current.as_ref().or_else(|| self.aside.first()).map(|current| current.alive)
    }

    /// When the daemon last answered something, or was last asked whether it does, if a call is under way.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let current = self.current.as_ref().or_else(|| self.aside.first());
        current.map(|current| self.pinged_after(current.answered))
    }

    /// This worker asks over another connection whether the daemon answers. Those that are not at work any more are forgotten.
    pub(super) fn pinged(&mut self, worker: WorkerId, now: Instant, is_at_work: impl Fn(WorkerId) -> bool) {
        self.pings.retain(|worker| is_at_work(*worker));
        self.pings.push(worker);
        self.pinged = Some(now);
    }

    /// When the daemon was last asked whether it answers, if that was after `time`.
    pub(super) fn pinged_after(&self, time: Instant) -> Instant {
        self.pinged.map_or(time, |pinged| pinged.max(time))
    }

    /// How many questions whether the daemon answers are under way.
    pub(super) fn pings(&self, is_at_work: impl Fn(WorkerId) -> bool) -> usize {
        self.pings.iter().filter(|worker| is_at_work(**worker)).count()
    }

    /// Whether nothing is under way or queued.
    pub(super) fn is_free(&self) -> bool {
        self.current.is_none() && self.aside.is_empty() && self.queue.is_empty()
    }

    /// The daemon has stood still: drops what would look for the domains that keep calls waiting.
    pub(super) fn drop_suspects(&mut self) {
        self.queue.retain(|(task, _)| !matches!(task, ControlTask::Suspects(..)));
        self.under_way().for_each(|current| current.outdated = true);
    }
}
