//! The loop around the scheduler: the only code of the collector with a channel, a clock, threads and replies.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::connection::Standing;
use super::message::{Action, Message, Now, WaiterId};
use super::pool::{ABORT_AGAIN, JobId, OPEN_TIMEOUT, Role, WorkerId};
use super::scheduler::Scheduler;
use super::worker::Worker;
use super::{Collection, CollectorStats, Selection};
use crate::config::Config;
use crate::domains::{Arrived, Inbox, Snapshot};
use crate::libvirt::{ErrorClass, LibvirtError, OpenGuard};
use crate::probes::{Shared, Task};

/// What arrives at the engine.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A collection is asked for.
    Collect { selection: Selection, deadline: Instant, reply: oneshot::Sender<Arc<Collection>> },
    /// The set of domains is asked for.
    Domains { addresses: bool, deadline: Instant, reply: DomainsReply },
    /// The state of the connection is asked for.
    Status { reply: oneshot::Sender<Standing> },
    /// There is something in the inbox.
    EventsWaiting,
    /// What the scheduler is told as it is.
    Tell(Message),
    /// The collector is gone.
    Stop,
}

/// The reply to a request for the set of domains.
pub(super) type DomainsReply = oneshot::Sender<Result<Arc<Snapshot>, LibvirtError>>;

/// Replies that requests wait for. One whose receiver is gone is dropped.
#[derive(Debug, Default)]
struct Replies {
    next: WaiterId,
    collections: HashMap<WaiterId, oneshot::Sender<Arc<Collection>>>,
    domains: HashMap<WaiterId, DomainsReply>,
    standings: HashMap<WaiterId, oneshot::Sender<Standing>>,
}

/// What the engine keeps of a worker's thread: its queue of tasks and the guard of its open.
struct Handle {
    tasks: mpsc::Sender<(JobId, Task)>,
    guard: OpenGuard,
}

impl Handle {
    /// The thread has nothing more to do; what is left to end is its open.
    fn forsake(self) -> OpenGuard {
        self.guard.cancel();
        self.guard
    }
}

/// The loop, and what it owns.
pub(super) struct Engine {
    scheduler: Scheduler,
    /// As it is shown in logs, and as it is opened.
    shown_uri: String,
    uri: String,
    /// The name of the daemon in logs, unless it is the only one.
    target: Option<String>,
    incoming: mpsc::Receiver<Incoming>,
    messages: mpsc::Sender<Incoming>,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    workers: HashMap<WorkerId, Handle>,
    /// Opens that hang, of workers that were dismissed: others that open the same wait for their end.
    forsaken: Vec<OpenGuard>,
    replies: Replies,
    stats: Arc<Mutex<CollectorStats>>,
}

impl Engine {
    pub(super) fn new(
        config: Config,
        target: Option<&str>,
        stats: Arc<Mutex<CollectorStats>>,
        messages: mpsc::Sender<Incoming>,
        incoming: mpsc::Receiver<Incoming>,
    ) -> Self {
        let (uri, shown_uri) =
            (config.libvirt.uri.as_str().to_owned(), config.libvirt.uri.redacted().as_str().to_owned());
        let scheduler = Scheduler::new(config, fastrand::Rng::new(), now());
        let target = target.map(str::to_owned);
        let shared = Arc::new(Shared::of(target.clone()));
        let (inbox, workers, forsaken) = (Arc::default(), HashMap::new(), Vec::new());
        let replies = Replies::default();
        Self { scheduler, shown_uri, uri, target, incoming, messages, inbox, shared, workers, forsaken, replies, stats }
    }

    /// Works until it is told to stop, and no open of its own hangs any more. Sleeps whenever nothing is under way.
    pub(super) fn run(mut self) {
        self.work();
        self.forsaken.extend(self.workers.drain().map(|(_, handle)| handle.forsake()));
        while self.end_forsaken() {
            thread::sleep(ABORT_AGAIN);
        }
    }

    fn work(&mut self) {
        loop {
            self.scheduler.tick(now());
            self.act();
            let wait = self.scheduler.next_wake().map(|at| at.saturating_duration_since(Instant::now()));
            let wait =
                if self.end_forsaken() { Some(wait.map_or(ABORT_AGAIN, |wait| wait.min(ABORT_AGAIN))) } else { wait };
            let first = match wait {
                Some(wait) => self.incoming.recv_timeout(wait),
                None => self.incoming.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            };
            let first = match first {
                Ok(incoming) => Some(incoming),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            // All that has arrived is heard before anything is decided: an answer that lies there is no silence.
            let more = std::iter::from_fn(|| self.incoming.try_recv().ok());
            for incoming in first.into_iter().chain(more).collect::<Vec<Incoming>>() {
                if matches!(incoming, Incoming::Stop) {
                    return;
                }
                self.hear(incoming);
            }
            // What has happened by now is part of what is answered now.
            self.hear(Incoming::EventsWaiting);
        }
    }

    /// Ends the opens that nothing waits for; `false` if none is left.
    fn end_forsaken(&mut self) -> bool {
        self.forsaken.retain(|guard| {
            let _again = guard.abort();
            guard.is_under_way()
        });
        !self.forsaken.is_empty()
    }

    fn hear(&mut self, incoming: Incoming) {
        let message = match incoming {
            Incoming::Collect { selection, deadline, reply } => {
                let waiter = self.replies.number();
                self.replies.collections.insert(waiter, reply);
                Message::Collect { waiter, selection, deadline }
            }
            Incoming::Domains { addresses, deadline, reply } => {
                let waiter = self.replies.number();
                self.replies.domains.insert(waiter, reply);
                Message::Domains { waiter, addresses, deadline }
            }
            Incoming::Status { reply } => {
                let waiter = self.replies.number();
                self.replies.standings.insert(waiter, reply);
                Message::Status { waiter }
            }
            Incoming::EventsWaiting => match self.inbox.take() {
                arrived if arrived == Arrived::default() => return,
                arrived => Message::Events(arrived),
            },
            Incoming::Tell(message) => message,
            Incoming::Stop => return,
        };
        self.scheduler.handle(message, now());
        self.act();
    }

    /// Does what the scheduler has decided. What cannot be done is told to it, and may lead to more.
    fn act(&mut self) {
        loop {
            let actions = self.scheduler.take_actions();
            // Counted before it is answered.
            self.stats.lock().clone_from(self.scheduler.stats());
            if actions.is_empty() {
                return;
            }
            let mut failed = Vec::new();
            for action in actions {
                failed.extend(self.perform(action));
            }
            failed.into_iter().for_each(|message| self.scheduler.handle(message, now()));
        }
    }

    /// Does one thing. Gives what has to be told if it cannot be done.
    fn perform(&mut self, action: Action) -> Vec<Message> {
        match action {
            Action::Start(id, role) => {
                if !self.start(id, role) {
                    let message = "the system has no thread left";
                    let error = LibvirtError::own("cannot connect to libvirt", ErrorClass::ConnectFailed, message);
                    return vec![Message::Opened(id, Err(error)), Message::Ended(id)];
                }
            }
            Action::Send(id, job, task) => {
                // A thread that has ended has sent a message, which is on its way.
                let _ended = self.workers.get(&id).map(|handle| handle.tasks.send((job, task)));
            }
            Action::Abort(id) => {
                let Some(Handle { guard, .. }) = self.workers.get(&id) else { return Vec::new() };
                // While another connection to there is opened it waits, which is no silence of the daemon.
                let due = guard.began().map_or_else(|| Instant::now() + ABORT_AGAIN, |began| began + OPEN_TIMEOUT);
                if due > Instant::now() {
                    return vec![Message::OpenNotDue(id, due)];
                }
                if !guard.abort() {
                    return vec![Message::NotAborted(id)];
                }
            }
            Action::Dismiss(id) => self.forsaken.extend(self.workers.remove(&id).map(Handle::forsake)),
            Action::Answer(waiters, collection) => {
                let replies = waiters.iter().filter_map(|waiter| self.replies.collections.remove(waiter));
                replies.for_each(|reply| drop(reply.send(Arc::clone(&collection))));
            }
            Action::AnswerDomains(waiter, result) => {
                self.replies.domains.remove(&waiter).map(|reply| reply.send(result));
            }
            Action::AnswerStatus(waiter, standing) => {
                self.replies.standings.remove(&waiter).map(|reply| reply.send(standing));
            }
            Action::Log(notice) => notice.log(&self.shown_uri, self.target.as_deref()),
        }
        Vec::new()
    }

    /// Starts the thread of a worker; `false` if the system has none left.
    fn start(&mut self, id: WorkerId, role: Role) -> bool {
        let (tasks, incoming) = mpsc::channel();
        let (uri, inbox, messages) = (self.uri.clone(), Arc::clone(&self.inbox), self.messages.clone());
        let (guard, shared) = (OpenGuard::default(), Arc::clone(&self.shared));
        let worker = Worker { id, role, uri, guard: guard.clone(), inbox, shared, tasks: incoming, messages };
        let started = thread::Builder::new().name(format!("libvirt-{id}")).spawn(move || worker.run()).is_ok();
        if started {
            self.workers.insert(id, Handle { tasks, guard });
        }
        started
    }
}

impl Replies {
    fn number(&mut self) -> WaiterId {
        self.next += 1;
        self.next
    }
}

fn now() -> Now {
    Now { at: Instant::now(), wall: SystemTime::now() }
}
