//! The workers: which of them are connected, which are busy, and since when. Pure: the threads belong to the engine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::libvirt::Access;

/// How long a connection may take to open.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// When it is tried again to end an open that goes on: a helper of its transport may still be starting, or libvirt has
/// turned to the next address of the host.
pub(super) const ABORT_AGAIN: Duration = Duration::from_secs(1);

/// The number of a worker; never used twice.
pub(super) type WorkerId = u64;
/// The number of a task that was given out; never used twice.
pub(super) type JobId = u64;

/// What a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Listens to events, and asks for what never waits for a hypervisor. Its connection stands for the daemon's.
    Control,
    /// Fetches statistics.
    Stats,
    /// Asks what is asked beside the collections.
    Background(Access),
}

impl Role {
    /// The connection that it needs.
    pub(super) fn access(self) -> Access {
        match self {
            Self::Control | Self::Stats => Access::ReadOnly,
            Self::Background(access) => access,
        }
    }
}

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
    Busy {
        job: JobId,
        since: Instant,
    },
}

#[derive(Debug)]
struct Entry {
    role: Role,
    state: State,
}

/// All workers of one URI.
#[derive(Debug, Default)]
pub(super) struct Pool {
    workers: BTreeMap<WorkerId, Entry>,
    /// Threads that have not ended yet, workers that were dismissed included.
    threads: usize,
    next: u64,
}

impl Pool {
    /// A worker is started.
    pub(super) fn start(&mut self, role: Role, now: Instant) -> WorkerId {
        let id = self.number();
        self.threads += 1;
        let state = State::Opening { abort_at: now + OPEN_TIMEOUT, overdue: false };
        self.workers.insert(id, Entry { role, state });
        id
    }

    /// The worker has its connection, or has done its task.
    pub(super) fn free(&mut self, id: WorkerId, now: Instant) {
        if let Some(entry) = self.workers.get_mut(&id) {
            entry.state = State::Idle { since: now };
        }
    }

    /// The workers whose opens will have taken too long, and when.
    pub(super) fn open_timeouts(&self) -> impl Iterator<Item = (WorkerId, Instant)> {
        let at = |entry: &Entry| if let State::Opening { abort_at, .. } = entry.state { Some(abort_at) } else { None };
        self.workers.iter().filter_map(move |(id, entry)| Some((*id, at(entry)?)))
    }

    /// The open of the worker has taken too long.
    pub(super) fn overdue(&mut self, id: WorkerId, now: Instant) {
        if let Some(Entry { state: State::Opening { abort_at, overdue }, .. }) = self.workers.get_mut(&id) {
            (*abort_at, *overdue) = (now + ABORT_AGAIN, true);
        }
    }

    /// The open of the worker has not taken too long before then.
    pub(super) fn not_due(&mut self, id: WorkerId, at: Instant) {
        if let Some(Entry { state: State::Opening { abort_at, overdue }, .. }) = self.workers.get_mut(&id) {
            (*abort_at, *overdue) = (at, false);
        }
    }

    /// Whether the worker's open has taken too long.
    pub(super) fn is_overdue(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|entry| matches!(entry.state, State::Opening { overdue: true, .. }))
    }

    /// The worker is given a task.
    pub(super) fn give(&mut self, id: WorkerId, now: Instant) -> JobId {
        let job = self.number();
        if let Some(entry) = self.workers.get_mut(&id) {
            entry.state = State::Busy { job, since: now };
        }
        job
    }

    /// The worker is let go.
    pub(super) fn dismiss(&mut self, id: WorkerId) {
        self.workers.remove(&id);
    }

    /// The worker's thread has ended. Gives the task that it had been given and did not come to: it was on its way when the
    /// connection broke.
    pub(super) fn ended(&mut self, id: WorkerId) -> Option<JobId> {
        self.threads = self.threads.saturating_sub(1);
        match self.workers.remove(&id)?.state {
            State::Busy { job, .. } => Some(job),
            State::Opening { .. } | State::Idle { .. } => None,
        }
    }

    /// An idle worker for statistics.
    pub(super) fn idle(&self) -> Option<WorkerId> {
        let is_idle = |entry: &Entry| entry.role == Role::Stats && matches!(entry.state, State::Idle { .. });
        self.workers.iter().find_map(|(id, entry)| is_idle(entry).then_some(*id))
    }

    /// An idle worker for the background whose connection allows at least this.
    pub(super) fn idle_background(&self, access: Access) -> Option<WorkerId> {
        let is_idle = |entry: &Entry| serves(entry.role, access) && matches!(entry.state, State::Idle { .. });
        self.workers.iter().find_map(|(id, entry)| is_idle(entry).then_some(*id))
    }

    /// When a further worker for the background may be started, so that a call that takes long does not hold up the others:
    /// `patience` after the busy ones began. `None` while one is being opened.
    pub(super) fn next_background(&self, access: Access, patience: Duration, now: Instant) -> Option<Instant> {
        let able = self.workers.values().filter(|entry| serves(entry.role, access));
        let mut at = able.map(|entry| match entry.state {
            State::Opening { .. } => None,
            State::Idle { .. } => Some(now),
            State::Busy { since, .. } => Some(since + patience),
        });
        at.try_fold(now, |latest, at| Some(latest.max(at?)))
    }

    /// All workers.
    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    /// The workers for the background.
    pub(super) fn background(&self) -> Vec<WorkerId> {
        let background = self.workers.iter().filter(|(_, entry)| matches!(entry.role, Role::Background(_)));
        background.map(|(id, _)| *id).collect()
    }

    /// What the worker is for.
    pub(super) fn role(&self, id: WorkerId) -> Option<Role> {
        self.workers.get(&id).map(|entry| entry.role)
    }

    /// How many workers there are for statistics.
    pub(super) fn for_stats(&self) -> usize {
        self.workers.values().filter(|entry| entry.role == Role::Stats).count()
    }

    /// Whether a connection of the background is being opened.
    pub(super) fn opens_background(&self) -> bool {
        let opens = |entry: &Entry| matches!(entry.state, State::Opening { overdue: false, .. });
        self.workers.values().any(|entry| opens(entry) && matches!(entry.role, Role::Background(_)))
    }

    /// Whether the worker is for statistics.
    pub(super) fn is_for_stats(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|entry| entry.role == Role::Stats)
    }

    /// Whether the worker has its connection and nothing to do.
    pub(super) fn is_idle(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|entry| matches!(entry.state, State::Idle { .. }))
    }

    /// Whether the worker opens its connection or does a task.
    pub(super) fn is_at_work(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|entry| !matches!(entry.state, State::Idle { .. }))
    }

    /// How many workers have their connection.
    pub(super) fn connections(&self) -> usize {
        self.workers.values().filter(|entry| !matches!(entry.state, State::Opening { .. })).count()
    }

    /// The idle workers but for the one for control, and since when they are.
    pub(super) fn idle_since(&self) -> impl Iterator<Item = (WorkerId, Instant)> {
        let since = |entry: &Entry| if let State::Idle { since } = entry.state { Some(since) } else { None };
        let others = self.workers.iter().filter(|(_, entry)| entry.role != Role::Control);
        others.filter_map(move |(id, entry)| Some((*id, since(entry)?)))
    }

    /// How many threads have not ended yet, dismissed or not.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn serves(role: Role, access: Access) -> bool {
    match role {
        Role::Background(has) => has == access || has == Access::ReadWrite,
        Role::Control | Role::Stats => false,
    }
}
