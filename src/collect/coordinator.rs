//! The thread that decides: who is asked what, who waits how long, what is done about silence.
//!
//! Everything arrives as a message: requests, answers of workers, connections that stand or break. No libvirt call is made
//! here, so that nothing can keep this thread from answering at a deadline.

mod answer;
mod busy;
mod connection;
mod dispatch;
mod outcome;
mod planning;
mod reading;
mod registering;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::busy::WaitingCalls;
use super::complete::Answers;
use super::flight::{Flight, FlightId, Kind, Waiter};
use super::link::{Keeper, Link, Standing};
use super::plan::Planner;
use super::pool::{JobId, Pool};
use super::quarantine::Quarantine;
use super::reading::Reader;
use super::relist::Relisting;
use super::shape::Devices;
use super::worker::{Opened, Outcome, Task, WorkerId};
use super::{Collection, CollectorStats, Selection};
use crate::config::Config;
use crate::domains::{DefinitionFailure, Inbox, Registry, Snapshot};
use crate::libvirt::{ErrorClass, LibvirtError, Versions};

/// How long the daemon may take for what it serves at high priority and without any hypervisor.
const CONTROL_PATIENCE: Duration = Duration::from_secs(2);
/// What a domain takes until it is known better.
const USUAL_DOMAIN_TIME: Duration = Duration::from_millis(20);

/// What the coordinator is told.
#[derive(Debug)]
pub(super) enum Message {
    Request {
        selection: Selection,
        deadline: Instant,
        reply: oneshot::Sender<Arc<Collection>>,
    },
    Discover(Discovery),
    Reconfigure(Box<Config>),
    /// There is something in the inbox.
    Events,
    Opened(WorkerId, Opened),
    Closed(WorkerId),
    /// A worker goes on with a task of several calls.
    Alive(WorkerId),
    Done {
        worker: WorkerId,
        job: JobId,
        outcome: Result<Outcome, LibvirtError>,
    },
    Ended(WorkerId),
    Standing {
        reply: oneshot::Sender<Standing>,
    },
    Stop,
}

/// Someone who asks who exists.
#[derive(Debug)]
pub(super) struct Discovery {
    /// Whether every domain has to have been located.
    pub(super) addresses: bool,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Arc<Snapshot>, LibvirtError>>,
}

/// What a task of the control worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// Who exists.
    List,
    /// Who of the domains in quarantine answers again, before a flight asks.
    Release(FlightId),
    /// Who keeps a batch waiting.
    Suspects(FlightId, JobId),
    /// Who of a flight has begun to answer again while it lasted.
    Recheck(FlightId),
    /// How the busy domains of a flight are, before they are asked again.
    Busy(FlightId),
}

impl Errand {
    fn flight(self) -> Option<FlightId> {
        match self {
            Self::List => None,
            Self::Release(flight) | Self::Suspects(flight, _) | Self::Recheck(flight) | Self::Busy(flight) => {
                Some(flight)
            }
        }
    }
}

/// What this daemon turned out not to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shortcomings {
    /// It does not know the flag NOWAIT (before libvirt 4.5).
    pub no_nowait: bool,
    /// It does not know the flag BACKING (before libvirt 1.2.12).
    pub no_backing: bool,
    /// Its driver has no bulk statistics: basic facts are asked for one domain after the other.
    pub no_bulk: bool,
    /// Events that it, or the client library, does not know, by libvirt's names.
    pub unknown_events: Vec<&'static str>,
}

pub(super) struct Coordinator {
    config: Config,
    stats: Arc<Mutex<CollectorStats>>,
    incoming: mpsc::Receiver<Message>,
    pool: Pool,
    keeper: Keeper,
    versions: Option<Versions>,
    /// The worker for what never waits for a hypervisor; its connection stands for the link.
    control: Option<WorkerId>,
    control_queue: VecDeque<(Errand, Task)>,
    control_job: Option<(JobId, Errand, Instant)>,
    /// When another worker may be tried, after one could not connect.
    workers_after: Option<Instant>,
    flights: BTreeMap<FlightId, Flight>,
    next_flight: FlightId,
    planner: Planner,
    quarantine: Quarantine,
    /// Which groups each domain answers.
    answers: Answers,
    waiting_calls: WaitingCalls,
    /// Who exists.
    registry: Registry,
    inbox: Arc<Inbox>,
    relisting: Relisting,
    events_dropped: u64,
    hostname: String,
    /// The worker that reads definitions, and what is to be read.
    reading_worker: Option<WorkerId>,
    reader: Reader,
    /// When another one may be tried, after one could not connect.
    reading_after: Option<Instant>,
    /// Whether a read-write connection for the guest agent was refused.
    agent_refused: bool,
    definition_failures: BTreeMap<DefinitionFailure, u64>,
    /// When a domain's addresses were looked up last.
    located: HashMap<Uuid, Instant>,
    discoveries: Vec<Discovery>,
    /// The disks and NICs that the last record of a domain told of.
    devices: HashMap<Uuid, Devices>,
    shortcomings: Shortcomings,
    /// The call about domains that are shut off that a flight left behind.
    inactive_job: Option<JobId>,
    usual: Duration,
    last: Option<(Selection, Instant, Arc<Collection>)>,
    /// The failure that was logged last: the log has one line for each change of state.
    logged: Option<String>,
}

impl Coordinator {
    pub(super) fn new(
        config: Config,
        stats: Arc<Mutex<CollectorStats>>,
        messages: mpsc::Sender<Message>,
        incoming: mpsc::Receiver<Message>,
    ) -> Self {
        let inbox = Arc::new(Inbox::default());
        let pool = Pool::new(config.libvirt.uri.as_str().to_owned(), Arc::clone(&inbox), messages);
        let planner = Planner::new(config.collection.batch_size, config.collection.workers);
        let registry = Registry::new(config.domains.clone());
        let reader = Reader::new(config.metadata.rate);
        Self {
            config,
            stats,
            incoming,
            pool,
            keeper: Keeper::new(),
            versions: None,
            control: None,
            control_queue: VecDeque::new(),
            control_job: None,
            workers_after: None,
            flights: BTreeMap::new(),
            next_flight: 0,
            planner,
            quarantine: Quarantine::default(),
            answers: Answers::default(),
            waiting_calls: WaitingCalls::default(),
            registry,
            inbox,
            relisting: Relisting::default(),
            events_dropped: 0,
            hostname: String::new(),
            reading_worker: None,
            reader,
            reading_after: None,
            agent_refused: false,
            definition_failures: BTreeMap::new(),
            located: HashMap::new(),
            discoveries: Vec::new(),
            devices: HashMap::new(),
            shortcomings: Shortcomings::default(),
            inactive_job: None,
            usual: USUAL_DOMAIN_TIME,
            last: None,
            logged: None,
        }
    }

    /// Works until it is told to stop. Sleeps whenever nothing is under way.
    pub(super) fn run(mut self) {
        self.connect(Instant::now());
        loop {
            let wait = self.next_wake().map(|at| at.saturating_duration_since(Instant::now()));
            let message = match wait {
                Some(wait) => self.incoming.recv_timeout(wait),
                None => self.incoming.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            };
            // All that has arrived is heard before anything is decided: an answer that lies there is no silence.
            let waited = match message {
                Ok(message) => Some(message),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let more = std::iter::from_fn(|| self.incoming.try_recv().ok());
            for message in waited.into_iter().chain(more).collect::<Vec<Message>>() {
                if matches!(message, Message::Stop) {
                    return;
                }
                self.handle(message, Instant::now());
            }
            self.tick(Instant::now());
        }
    }

    fn handle(&mut self, message: Message, now: Instant) {
        match message {
            Message::Request { selection, deadline, reply } => self.request(selection, Waiter { deadline, reply }, now),
            Message::Discover(discovery) => self.discoveries.push(discovery),
            Message::Reconfigure(config) => self.reconfigure(*config, now),
            Message::Events => self.take_events(now),
            Message::Opened(worker, opened) => self.opened(worker, opened, now),
            Message::Closed(worker) => self.closed(worker, now),
            Message::Alive(worker) if Some(worker) == self.control => self.daemon_lives(now),
            Message::Done { worker, job, outcome } => self.done(worker, job, outcome, now),
            Message::Ended(worker) => {
                if let Some(job) = self.pool.ended(worker) {
                    let error = LibvirtError::own("cannot ask libvirt", ErrorClass::Disconnected, "it was closed");
                    self.done(worker, job, Err(error), now);
                }
                self.closed(worker, now);
            }
            Message::Standing { reply } => drop(reply.send(self.keeper.standing(self.versions.as_ref(), now))),
            Message::Alive(_) | Message::Stop => {}
        }
    }

    fn request(&mut self, selection: Selection, waiter: Waiter, now: Instant) {
        if self.keeper.demand(now) {
            self.connect(now);
        }
        if let Some(error) = self.keeper.refusal(now) {
            self.count_failure(&error);
            let refused = Flight::new(0, selection, BTreeSet::new(), now);
            let snapshot = self.snapshot_of(&refused, now, Some(error));
            // Whoever has given up meanwhile does not hear it; so with every answer.
            let _gone = waiter.reply.send(snapshot);
            return;
        }
        if let Some((of, at, collection)) = &self.last
            && *of == selection
            && now.saturating_duration_since(*at) < self.config.collection.min_interval
        {
            let _gone = waiter.reply.send(Arc::clone(collection));
            return;
        }
        if let Some(flight) = self.flights.values_mut().find(|flight| flight.selection == selection) {
            flight.waiters.push(waiter);
            return;
        }
        self.next_flight += 1;
        let wanted = self.config.collection.groups.iter().filter(|group| selection.wants(**group)).copied().collect();
        let mut flight = Flight::new(self.next_flight, selection, wanted, now);
        flight.waiters.push(waiter);
        self.flights.insert(flight.id, flight);
    }

    /// Goes on with other settings. What has begun ends as it began.
    fn reconfigure(&mut self, config: Config, now: Instant) {
        let old = std::mem::replace(&mut self.config, config);
        if old.collection != self.config.collection {
            self.planner = Planner::new(self.config.collection.batch_size, self.config.collection.workers);
        }
        self.last = None;
        if old.domains != self.config.domains {
            self.registry.select(self.config.domains.clone());
        }
        if old.metadata != self.config.metadata {
            self.reader.set_rate(self.config.metadata.rate);
            self.read_all_definitions(now);
        }
        if old.service_discovery != self.config.service_discovery {
            self.located.clear();
            self.agent_refused = false;
            self.reading_worker.take().into_iter().for_each(|worker| self.pool.let_go(worker));
        }
    }

    fn tick(&mut self, now: Instant) {
        if self.keeper.take_retry(now) {
            self.connect(now);
        }
        self.end_hung_opens(now);
        self.relist(now);
        self.plan_flights(now);
        self.run_errand(now);
        self.notice_silence(now);
        self.answer_deadlines(now);
        self.look_into_delays(now);
        self.ask_busy_again(now);
        self.dispatch(now);
        self.finish(now);
        self.dispatch(now);
        self.read(now);
        self.answer_discoveries(now);
        self.let_idle_go(now);
        self.publish();
    }

    fn count_failure(&self, error: &LibvirtError) {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).count_failure(error.class);
    }

    fn publish(&self) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.stuck_calls = self.quarantine.stuck_calls();
        stats.reconnects = self.keeper.reconnects;
        stats.shortcomings.clone_from(&self.shortcomings);
        stats.threads = self.pool.threads();
    }

    fn log_failure(&mut self, what: &str, error: &LibvirtError) {
        let text = error.to_string();
        if self.logged.as_ref() != Some(&text) {
            let remedy = error.remedy(self.config.libvirt.uri.redacted().as_str());
            tracing::warn!(%error, reason = error.class.as_str(), remedy, "{what}");
            self.logged = Some(text);
        }
    }

    /// When something has to be done even if no message comes.
    fn next_wake(&self) -> Option<Instant> {
        let batch_size = u32::try_from(self.config.collection.batch_size).unwrap_or(u32::MAX);
        let usual = self.usual.saturating_mul(batch_size);
        let retry = if let Link::Down { retry_at, .. } = self.keeper.link { Some(retry_at) } else { None };
        let opening = self.pool.next_abort();
        let errand = self.control_job.as_ref().map(|(_, _, since)| *since + self.control_patience());
        let errand = errand.filter(|_| matches!(self.keeper.link, Link::Up));
        let workers = self.workers_after.filter(|after| *after > Instant::now() && !self.flights.is_empty());
        let flights = self.flights.values().flat_map(|flight| {
            let patience = flight.patience(usual);
            let checked = flight.running.values().filter(|running| running.batch.kind != Kind::Wait);
            let checks = checked.map(move |running| running.since + patience * (running.checks + 1));
            let given_up = flight.busy_until().filter(|_| !flight.busy.is_empty());
            let is_up = matches!(self.keeper.link, Link::Up);
            let busy = flight.busy.due().into_iter().chain(given_up).filter(move |_| is_up);
            flight.deadline().into_iter().chain(checks).chain(busy)
        });
        let discoveries = self.discoveries.iter().map(|discovery| discovery.deadline);
        let (relist, read) = (self.next_relist(), self.next_reading());
        let idle = self.pool.next_idle(self.config.collection.idle_timeout, self.control);
        let others = [retry, opening, errand, workers, relist, read, idle];
        flights.chain(discoveries).chain(others.into_iter().flatten()).min()
    }
}
