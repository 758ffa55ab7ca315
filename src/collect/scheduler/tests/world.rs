//! The world around the scheduler: what the engine, the workers and the daemon would do, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::super::Scheduler;
use super::replies::error;
use super::script::Daemon;
use crate::collect::message::{Action, Message, Now, WaiterId};
use crate::collect::notice::Notice;
use crate::collect::pool::{JobId, Role, WorkerId};
use crate::collect::{Collection, Standing};
use crate::domains::{Arrived, Snapshot};
use crate::libvirt::{Access, ControlState, ErrorClass, Event, EventKind, Identity, LibvirtError, Versions};
use crate::probes::{ConnectInfo, Part, Task};

/// How long an open takes.
const OPEN: Duration = Duration::from_millis(2);
/// Ticks at one moment that are not one too many.
const MOST_TICKS: usize = 50;

/// What happens to a guest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Life {
    Started,
    Stopped,
    Undefined,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) role: Role,
    pub(super) is_open: bool,
    dismissed: bool,
    pub(super) job: Option<(JobId, Task, Instant)>,
    /// Control states that it has told of its task.
    told: Vec<(Uuid, Option<ControlState>)>,
}

impl Worker {
    /// Whether a call of this probe is under way.
    pub(super) fn asks(&self, probe: &str) -> bool {
        self.job.as_ref().is_some_and(|(_, task, _)| task.name() == probe)
    }
}

/// A call that was made.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) at: Instant,
    pub(super) task: Task,
}

pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) daemon: Daemon,
    pub(super) now: Instant,
    pub(super) log: Vec<Notice>,
    /// Opens that the daemon has refused.
    pub(super) refused: usize,
    pub(super) calls: Vec<Call>,
    /// Whether events are told of.
    pub(super) tells_events: bool,
    start: Instant,
    pending: BTreeMap<(Instant, u64), Message>,
    /// Times at which calls that wait are looked at again.
    looks: BTreeSet<Instant>,
    pub(super) number: u64,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) collections: BTreeMap<WaiterId, (Instant, Arc<Collection>)>,
    pub(super) domain_requests: BTreeMap<WaiterId, Result<Arc<Snapshot>, LibvirtError>>,
    pub(super) standing: Option<Standing>,
}

impl World {
    /// A host of running guests `vm-0`, `vm-1` and so on, with these sections of a configuration.
    pub(super) fn new(guests: usize, sections: &str) -> Self {
        Self::of(Daemon::new(guests), sections)
    }

    pub(super) fn of(daemon: Daemon, sections: &str) -> Self {
        let config = crate::config::parse(sections, "test").expect("a valid configuration");
        let start = Instant::now();
        let now = Now { at: start, wall: SystemTime::UNIX_EPOCH };
        let mut world = Self {
            scheduler: Scheduler::new(config, fastrand::Rng::with_seed(7), now),
            daemon,
            now: start,
            log: Vec::new(),
            refused: 0,
            calls: Vec::new(),
            tells_events: true,
            start,
            pending: BTreeMap::new(),
            looks: BTreeSet::new(),
            number: 0,
            workers: BTreeMap::new(),
            collections: BTreeMap::new(),
            domain_requests: BTreeMap::new(),
            standing: None,
        };
        world.settle();
        world
    }

    /// In the steady state: all workers have been needed, every definition has been read and every guest has been whole.
    pub(super) fn steady(guests: usize, sections: &str) -> Self {
        let mut world = Self::new(guests, sections);
        assert_eq!(world.scrape().complete(), guests);
        world.advance(Duration::from_secs(1) + Duration::from_millis(25) * u32::try_from(guests).expect("few"));
        assert_eq!(world.snapshot().metadata_pending, 0);
        assert_eq!(world.scrape().complete(), guests);
        world.calls.clear();
        world.log.clear();
        world
    }

    fn clock(&self) -> Now {
        Now { at: self.now, wall: SystemTime::UNIX_EPOCH + (self.now - self.start) }
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        self.run(end, |_| false);
    }

    /// Lets time pass with a scrape every five minutes.
    pub(super) fn watched(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.advance((end - self.now).min(Duration::from_secs(300)));
            self.scrape();
        }
    }

    /// Lets time pass until `good`, for `limit` at most.
    pub(super) fn until(&mut self, limit: Duration, good: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        self.run(end, &good);
        assert!(good(self), "not within {limit:?}: {:?}", self.log);
    }

    fn run(&mut self, end: Instant, good: impl Fn(&Self) -> bool) {
        let mut ticks = 0;
        self.settle();
        while !good(self) {
            let next = self.pending.first_key_value().map(|((at, _), _)| *at);
            let look = self.looks.first().copied();
            let next = next.into_iter().chain(look).chain(self.scheduler.next_wake()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            ticks = if next > self.now { 0 } else { ticks + 1 };
            assert!(ticks < MOST_TICKS, "it does not stop: {:?}", self.scheduler);
            self.now = self.now.max(next);
            if self.looks.remove(&next) {
                self.look_again();
            }
            while let Some(entry) = self.pending.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let message = entry.remove();
                self.deliver(message);
            }
            self.settle();
        }
    }

    fn deliver(&mut self, message: Message) {
        let Message::Done { worker: id, .. } = &message else { return self.tell(message) };
        let id = *id;
        self.workers.get_mut(&id).into_iter().for_each(|worker| worker.job = None);
        self.tell(message);
        if self.workers.get(&id).is_some_and(|worker| worker.dismissed) {
            self.end(id);
        }
    }

    pub(super) fn tell(&mut self, message: Message) {
        self.scheduler.handle(message, self.clock());
        self.act();
    }

    /// What the engine does before it waits.
    fn settle(&mut self) {
        self.scheduler.tick(self.clock());
        self.act();
    }

    fn act(&mut self) {
        loop {
            let actions = self.scheduler.take_actions();
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.perform(action));
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start(id, role) => {
                self.workers.insert(id, Worker { role, is_open: false, dismissed: false, job: None, told: Vec::new() });
                self.open(id);
            }
            Action::Send(id, job, task) => {
                self.calls.push(Call { at: self.now, task: task.clone() });
                let worker = self.workers.get_mut(&id).expect("a worker");
                assert!(
                    worker.is_open && worker.job.is_none() && !worker.dismissed,
                    "{task:?} for a worker that is not idle"
                );
                (worker.job, worker.told) = (Some((job, task, self.now)), Vec::new());
                self.look_at(id);
            }
            Action::Abort(id) if self.daemon.stubborn => self.tell(Message::NotAborted(id)),
            Action::Abort(id) => self.refuse(id, ErrorClass::Disconnected),
            Action::Dismiss(id) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.dismissed = true;
                    if worker.is_open && worker.job.is_none() {
                        self.end(id);
                    }
                }
            }
            Action::Answer(waiters, collection) => {
                for waiter in waiters {
                    self.collections.insert(waiter, (self.now, Arc::clone(&collection)));
                }
            }
            Action::AnswerDomains(waiter, result) => drop(self.domain_requests.insert(waiter, result)),
            Action::AnswerStatus(_, standing) => self.standing = Some(standing),
            Action::Log(notice) => self.log.push(notice),
        }
    }

    fn open(&mut self, id: WorkerId) {
        let open = self.workers.values().filter(|worker| worker.is_open).count();
        match () {
            () if self.daemon.down => self.refuse(id, ErrorClass::ConnectFailed),
            () if self.daemon.refuses_writers && self.workers[&id].role.access() == Access::ReadWrite => {
                self.refuse(id, ErrorClass::PermissionDenied);
            }
            () if open >= self.daemon.places && self.daemon.refuses => self.refuse(id, ErrorClass::ConnectFailed),
            () if self.daemon.frozen || open >= self.daemon.places => {}
            () => {
                self.workers.get_mut(&id).expect("a worker").is_open = true;
                let versions = Versions { driver: self.daemon.driver.to_owned(), ..Versions::default() };
                let info = ConnectInfo { versions, hostname: "host".to_owned(), unknown_events: Vec::new() };
                self.send_after(OPEN, Message::Opened(id, Ok(info)));
            }
        }
    }

    fn refuse(&mut self, id: WorkerId, class: ErrorClass) {
        self.refused += 1;
        self.send_after(OPEN, Message::Opened(id, Err(error(class))));
        self.end(id);
    }

    fn end(&mut self, id: WorkerId) {
        if self.workers.remove(&id).is_some() {
            self.send_after(OPEN, Message::Ended(id));
        }
    }

    fn send_after(&mut self, after: Duration, message: Message) {
        self.number += 1;
        self.pending.insert((self.now + after, self.number), message);
    }

    /// Sees whether the task of a worker can be answered.
    fn look_at(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let Some((job, task, began)) = worker.job.clone() else { return };
        if self.pending.values().any(|message| matches!(message, Message::Done { job: of, .. } if *of == job)) {
            return;
        }
        let told = &mut self.workers.get_mut(&id).expect("a worker").told;
        let news = self.daemon.parts(&task, told.len(), self.now);
        told.extend(&news);
        let states = told.iter().filter_map(|(uuid, state)| Some((*uuid, (*state)?))).collect();
        for (uuid, state) in news {
            self.send_after(Duration::ZERO, Message::Part(id, Part::State(uuid, state)));
        }
        match self.daemon.answer(job, &task, states, began, self.now) {
            Ok((after, outcome)) => self.send_after(after, Message::Done { worker: id, job, outcome }),
            Err(Some(at)) => drop(self.looks.insert(at)),
            Err(None) => {}
        }
    }

    /// Something has changed at the daemon: calls and opens that hang may go on.
    pub(super) fn look_again(&mut self) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            if self.workers.get(&id).is_some_and(|worker| !worker.is_open) {
                self.open(id);
            }
            self.look_at(id);
        }
    }

    /// The daemon is stopped: every connection breaks.
    pub(super) fn kill(&mut self) {
        self.daemon.down = true;
        self.daemon.guests.values_mut().for_each(|guest| guest.held = None);
        let workers = std::mem::take(&mut self.workers);
        let jobs: Vec<JobId> =
            workers.values().filter_map(|worker| worker.job.as_ref().map(|(job, ..)| *job)).collect();
        self.pending.retain(|_, message| !matches!(message, Message::Done { job, .. } if jobs.contains(job)));
        for (id, worker) in workers {
            self.send_after(OPEN, Message::Closed(id));
            if let Some((job, ..)) = worker.job {
                let outcome = Err(error(ErrorClass::Disconnected));
                self.send_after(OPEN, Message::Done { worker: id, job, outcome });
            }
            self.send_after(OPEN, Message::Ended(id));
        }
    }

    /// The connection of one worker breaks, and the call with it that is under way over it.
    pub(super) fn break_worker(&mut self, is_it: impl Fn(&Worker) -> bool) {
        let id = *self.workers.iter().find(|(_, worker)| is_it(worker)).expect("such a worker").0;
        let job = self.workers[&id].job.as_ref().map(|(job, ..)| *job);
        self.pending.retain(|_, message| !matches!(message, Message::Done { job: of, .. } if Some(*of) == job));
        self.send_after(OPEN, Message::Closed(id));
        if let Some(job) = job {
            self.send_after(OPEN, Message::Done { worker: id, job, outcome: Err(error(ErrorClass::Disconnected)) });
        }
        self.end(id);
    }

    /// It thaws, or is started again.
    pub(super) fn revive(&mut self) {
        (self.daemon.down, self.daemon.frozen) = (false, false);
        self.look_again();
    }

    /// Something happens to a guest, and is told.
    pub(super) fn live(&mut self, number: usize, life: Life) -> Identity {
        let (identity, event) = match life {
            Life::Started => (self.daemon.start(number), (2, 0)),
            Life::Stopped => (self.daemon.stop(number), (5, 1)),
            Life::Undefined => {
                let identity = self.daemon.identity(number);
                self.daemon.guests.remove(&identity.uuid);
                (identity, (1, 0))
            }
        };
        self.look_again();
        self.event(&identity, EventKind::Lifecycle { event: event.0, detail: event.1 });
        identity
    }

    pub(super) fn event(&mut self, domain: &Identity, kind: EventKind) {
        if self.tells_events {
            let event = Event { domain: domain.clone(), at: self.clock().wall, kind };
            self.tell(Message::Events(Arrived { events: [event].into(), ..Arrived::default() }));
        }
    }
}
