//! The workers: who is connected, who is busy, and since when.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use super::coordinator::Message;
use super::worker::{Role, Task, Worker, WorkerId};
use crate::targets::Inbox;

/// The number of a task that was given out; never used twice.
pub(super) type JobId = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening { since: Instant },
    Idle,
    Busy(JobId),
}

#[derive(Debug)]
struct Entry {
    role: Role,
    tasks: mpsc::Sender<(JobId, Task)>,
    state: State,
}

/// All workers of one URI.
#[derive(Debug)]
pub(super) struct Pool {
    uri: String,
    inbox: Arc<Inbox>,
    messages: mpsc::Sender<Message>,
    workers: BTreeMap<WorkerId, Entry>,
    /// Threads that have not ended yet, workers that were let go included.
    threads: usize,
    next: u64,
}

impl Pool {
    /// Events go into `inbox`, everything else is told by messages.
    pub(super) fn new(uri: String, inbox: Arc<Inbox>, messages: mpsc::Sender<Message>) -> Self {
        Self { uri, inbox, messages, workers: BTreeMap::new(), threads: 0, next: 0 }
    }

    /// Starts a worker, which begins by connecting. `None` if the system has no thread left.
    pub(super) fn start(&mut self, role: Role, now: Instant) -> Option<WorkerId> {
        let id = self.number();
        let (tasks, incoming) = mpsc::channel();
        let (uri, inbox, messages) = (self.uri.clone(), Arc::clone(&self.inbox), self.messages.clone());
        let worker = Worker { id, role, uri, inbox, tasks: incoming, messages };
        let thread = thread::Builder::new().name(format!("libvirt-{id}")).spawn(move || worker.run());
        thread.ok()?;
        self.threads += 1;
        self.workers.insert(id, Entry { role, tasks, state: State::Opening { since: now } });
        Some(id)
    }

    /// The worker has its connection.
    pub(super) fn opened(&mut self, id: WorkerId) {
        if let Some(entry) = self.workers.get_mut(&id) {
            entry.state = State::Idle;
        }
    }

    /// Gives a task to an idle worker.
    pub(super) fn give(&mut self, id: WorkerId, task: Task) -> Option<JobId> {
        let job = self.number();
        let entry = self.workers.get_mut(&id)?;
        entry.tasks.send((job, task)).ok()?;
        entry.state = State::Busy(job);
        Some(job)
    }

    /// The worker has done its task.
    pub(super) fn done(&mut self, id: WorkerId) {
        self.opened(id);
    }

    /// Lets a worker go: it ends when it has done what it does.
    pub(super) fn let_go(&mut self, id: WorkerId) {
        self.workers.remove(&id);
    }

    /// The worker's thread has ended. Gives the task that it had been given and did not come to: it was on its way when the
    /// connection broke.
    pub(super) fn ended(&mut self, id: WorkerId) -> Option<JobId> {
        self.threads = self.threads.saturating_sub(1);
        match self.workers.remove(&id)?.state {
            State::Busy(job) => Some(job),
            State::Opening { .. } | State::Idle => None,
        }
    }

    /// An idle worker for statistics.
    pub(super) fn idle(&self) -> Option<WorkerId> {
        let is_idle = |entry: &Entry| entry.state == State::Idle && entry.role == Role::Stats;
        self.workers.iter().find_map(|(id, entry)| is_idle(entry).then_some(*id))
    }

    /// All workers.
    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    /// How many workers there are for statistics.
    pub(super) fn for_stats(&self) -> usize {
        self.workers.values().filter(|entry| entry.role == Role::Stats).count()
    }

    /// Whether the worker has its connection and nothing to do.
    pub(super) fn is_idle(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|entry| entry.state == State::Idle)
    }

    /// Since when the oldest attempt to connect has been going on.
    pub(super) fn opening_since(&self) -> Option<Instant> {
        let since = |entry: &Entry| if let State::Opening { since } = entry.state { Some(since) } else { None };
        self.workers.values().filter_map(since).min()
    }

    /// Whether any thread is still about, let go or not.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
