//! The workers: who is connected, who is busy, and since when.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::coordinator::Message;
use super::worker::{Role, Task, Worker, WorkerId};
use crate::domains::Inbox;
use crate::libvirt::OpenGuard;

/// How long a connection may take to open.
pub(super) const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// When it is tried again to end an open that goes on: a helper of its transport may still be starting, or libvirt has
/// turned to the next address of the host.
const ABORT_AGAIN: Duration = Duration::from_secs(1);

/// The number of a task that was given out; never used twice.
pub(super) type JobId = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It connects; at `abort_at` that has taken too long.
    Opening {
        abort_at: Instant,
        overdue: bool,
    },
    /// It has had nothing to do since then.
    Idle {
        since: Instant,
    },
    Busy(JobId),
}

#[derive(Debug)]
struct Entry {
    role: Role,
    tasks: mpsc::Sender<(JobId, Task)>,
    guard: OpenGuard,
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
        let guard = OpenGuard::default();
        let worker = Worker { id, role, uri, guard: guard.clone(), inbox, tasks: incoming, messages };
        let thread = thread::Builder::new().name(format!("libvirt-{id}")).spawn(move || worker.run());
        thread.ok()?;
        self.threads += 1;
        let state = State::Opening { abort_at: now + OPEN_PATIENCE, overdue: false };
        self.workers.insert(id, Entry { role, tasks, guard, state });
        Some(id)
    }

    /// The worker has its connection.
    pub(super) fn opened(&mut self, id: WorkerId, now: Instant) {
        if let Some(entry) = self.workers.get_mut(&id) {
            entry.state = State::Idle { since: now };
        }
    }

    /// When the next open will have taken too long.
    pub(super) fn next_abort(&self) -> Option<Instant> {
        let at = |entry: &Entry| if let State::Opening { abort_at, .. } = entry.state { Some(abort_at) } else { None };
        self.workers.values().filter_map(at).min()
    }

    /// Ends opens that have taken too long. Gives those that it could not end: of them nothing more may be heard.
    pub(super) fn abort_hung_opens(&mut self, now: Instant) -> Vec<WorkerId> {
        let mut going_on = Vec::new();
        for (id, entry) in &mut self.workers {
            if let State::Opening { abort_at, overdue } = &mut entry.state
                && *abort_at <= now
            {
                (*abort_at, *overdue) = (now + ABORT_AGAIN, true);
                if !entry.guard.abort() {
                    going_on.push(*id);
                }
            }
        }
        going_on
    }

    /// Whether the worker's open has taken too long.
    pub(super) fn is_overdue(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|entry| matches!(entry.state, State::Opening { overdue: true, .. }))
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
    pub(super) fn done(&mut self, id: WorkerId, now: Instant) {
        self.opened(id, now);
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
            State::Opening { .. } | State::Idle { .. } => None,
        }
    }

    /// An idle worker for statistics.
    pub(super) fn idle(&self) -> Option<WorkerId> {
        let is_idle = |entry: &Entry| entry.role == Role::Stats && matches!(entry.state, State::Idle { .. });
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
        self.workers.get(&id).is_some_and(|entry| matches!(entry.state, State::Idle { .. }))
    }

    /// How many workers have their connection.
    pub(super) fn connections(&self) -> usize {
        self.workers.values().filter(|entry| !matches!(entry.state, State::Opening { .. })).count()
    }

    /// When the first worker that is not to be `kept` has had nothing to do for `timeout`.
    pub(super) fn next_idle(&self, timeout: Duration, kept: Option<WorkerId>) -> Option<Instant> {
        self.idle_since(kept).map(|(_, since)| since + timeout).min()
    }

    /// Lets workers go that have had nothing to do for `timeout`, except for `kept`: their connections take places of the
    /// daemon's clients.
    pub(super) fn let_idle_go(&mut self, now: Instant, timeout: Duration, kept: Option<WorkerId>) -> Vec<WorkerId> {
        let idle: Vec<WorkerId> =
            self.idle_since(kept).filter(|(_, since)| *since + timeout <= now).map(|(id, _)| id).collect();
        idle.iter().for_each(|id| self.let_go(*id));
        idle
    }

    fn idle_since(&self, kept: Option<WorkerId>) -> impl Iterator<Item = (WorkerId, Instant)> {
        let since = |entry: &Entry| if let State::Idle { since } = entry.state { Some(since) } else { None };
        self.workers
            .iter()
            .filter(move |(id, _)| Some(**id) != kept)
            .filter_map(move |(id, entry)| Some((*id, since(entry)?)))
    }

    /// How many threads have not ended yet, let go or not.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
