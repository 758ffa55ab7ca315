//! The thread that decides: who is asked what, who waits how long, what is done about silence.
//!
//! Everything arrives as a message: requests, answers of workers, connections that stand or break. No libvirt call is made
//! here, so that nothing can keep this thread from answering at a deadline.

mod answer;
mod connection;
mod dispatch;
mod outcome;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::flight::{Flight, FlightId, Kind, Waiter};
use super::link::{Keeper, Link};
use super::plan::Planner;
use super::pool::{JobId, Pool};
use super::quarantine::Quarantine;
use super::worker::{Opened, Outcome, Task, WorkerId};
use super::{Collection, CollectorStats, Selection};
use crate::config::{Config, Group};
use crate::libvirt::{LibvirtError, StatsGroups, Versions};

/// How long a connection may take to open.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// How long the daemon may take for what it serves at high priority and without any hypervisor.
const CONTROL_PATIENCE: Duration = Duration::from_secs(2);
/// What a domain takes until it is known better.
const USUAL_DOMAIN_TIME: Duration = Duration::from_millis(20);

/// What the coordinator is told.
#[derive(Debug)]
pub(super) enum Message {
    Request { selection: Selection, deadline: Instant, reply: oneshot::Sender<Arc<Collection>> },
    Opened(WorkerId, Opened),
    Closed(WorkerId),
    Done { worker: WorkerId, job: JobId, outcome: Result<Outcome, LibvirtError> },
    Ended(WorkerId),
    Stop,
}

/// What a task of the control worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// The domains of a flight.
    List(FlightId),
    /// Who keeps a batch waiting.
    Suspects(FlightId, JobId),
    /// Who of a flight has begun to answer again while it lasted.
    Recheck(FlightId),
}

/// What this daemon turned out not to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shortcomings {
    /// It does not know the flag NOWAIT (before libvirt 4.5).
    pub no_nowait: bool,
    /// It does not know the flag BACKING (before libvirt 1.2.12).
    pub no_backing: bool,
    /// Its driver has no bulk statistics: basic facts are asked for one domain after the other.
    pub no_bulk: bool,
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
    /// Whether the open that is under way was given up on.
    open_given_up: bool,
    /// When to try once more to end an open, if its socket could not be found.
    abort_after: Option<Instant>,
    /// When another worker may be tried, after one could not connect.
    workers_after: Option<Instant>,
    flights: BTreeMap<FlightId, Flight>,
    next_flight: FlightId,
    planner: Planner,
    quarantine: Quarantine,
    identities: BTreeMap<Uuid, Option<u32>>,
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
        let pool = Pool::new(config.libvirt.uri.as_str().to_owned(), messages);
        let planner = Planner::new(config.collection.batch_size, config.collection.workers);
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
            open_given_up: false,
            abort_after: None,
            workers_after: None,
            flights: BTreeMap::new(),
            next_flight: 0,
            planner,
            quarantine: Quarantine::default(),
            identities: BTreeMap::new(),
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
            match message {
                Ok(Message::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(message) => self.handle(message, Instant::now()),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            self.tick(Instant::now());
        }
    }

    fn handle(&mut self, message: Message, now: Instant) {
        match message {
            Message::Request { selection, deadline, reply } => self.request(selection, Waiter { deadline, reply }, now),
            Message::Opened(worker, opened) => self.opened(worker, opened, now),
            Message::Closed(worker) => self.closed(worker, now),
            Message::Done { worker, job, outcome } => self.done(worker, job, outcome, now),
            Message::Ended(worker) => {
                self.pool.ended(worker);
                self.closed(worker, now);
            }
            Message::Stop => {}
        }
    }

    fn request(&mut self, selection: Selection, waiter: Waiter, now: Instant) {
        if let Some(error) = self.keeper.refusal(now) {
            self.count_failure(&error);
            let refused = Flight::new(0, selection, StatsGroups::default(), now);
            // Whoever has given up meanwhile does not hear it; so with every answer.
            let _gone = waiter.reply.send(refused.snapshot(now, self.versions.as_ref(), Some(error), |_| None));
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
        let wanted = self.config.collection.groups.iter().filter(|group| selection.wants(**group));
        let groups = wanted.map(|group| asked_for(*group)).collect();
        let mut flight = Flight::new(self.next_flight, selection, groups, now);
        flight.waiters.push(waiter);
        self.flights.insert(flight.id, flight);
        if matches!(self.keeper.link, Link::Up) {
            self.send_list(self.next_flight);
        }
    }

    fn send_list(&mut self, flight: FlightId) {
        let control = self.quarantine.domains().keys().copied().collect();
        self.control_queue.push_back((Errand::List(flight), Task::List { control }));
    }

    fn tick(&mut self, now: Instant) {
        if self.keeper.take_retry(now) {
            self.connect(now);
        }
        self.end_hung_open(now);
        self.run_errand(now);
        self.notice_silence(now);
        self.answer_deadlines(now);
        self.look_into_delays(now);
        self.dispatch(now);
        self.finish(now);
        self.publish();
    }

    fn count_failure(&self, error: &LibvirtError) {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).count_failure(error.class);
    }

    fn publish(&self) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.stuck_calls = self.quarantine.stuck_calls();
        stats.reconnects = self.keeper.reconnects;
        stats.shortcomings = self.shortcomings;
        stats.threads = self.pool.threads();
    }

    fn log_failure(&mut self, what: &str, error: &LibvirtError) {
        let text = error.to_string();
        if self.logged.as_ref() != Some(&text) {
            tracing::warn!(%error, reason = error.class.as_str(), "{what}");
            self.logged = Some(text);
        }
    }

    /// When something has to be done even if no message comes.
    fn next_wake(&self) -> Option<Instant> {
        let batch_size = u32::try_from(self.config.collection.batch_size).unwrap_or(u32::MAX);
        let usual = self.usual.saturating_mul(batch_size);
        let retry = if let Link::Down { retry_at, .. } = self.keeper.link { Some(retry_at) } else { None };
        let opening = self.hung_open_at();
        let errand = self.control_job.as_ref().map(|(_, _, since)| *since + self.control_patience());
        let errand = errand.filter(|_| matches!(self.keeper.link, Link::Up));
        let workers = self.workers_after.filter(|after| *after > Instant::now() && !self.flights.is_empty());
        let flights = self.flights.values().flat_map(|flight| {
            let patience = flight.patience(usual);
            let risky = flight.running.values().filter(|running| running.batch.kind == Kind::Full);
            let checks = risky.map(move |running| running.since + patience * (running.checks + 1));
            flight.deadline().into_iter().chain(checks)
        });
        flights.chain([retry, opening, errand, workers].into_iter().flatten()).min()
    }
}

/// The group of libvirt that yields a group of the configuration.
fn asked_for(group: Group) -> StatsGroups {
    match group {
        Group::State => StatsGroups::STATE,
        Group::CpuTotal => StatsGroups::CPU_TOTAL,
        Group::Balloon => StatsGroups::BALLOON,
        // KVM's statistics of vCPUs come with the group of vCPUs, asked for or not.
        Group::Vcpu | Group::VcpuKvm => StatsGroups::VCPU,
        Group::Interface => StatsGroups::INTERFACE,
        Group::Block => StatsGroups::BLOCK,
        Group::Perf => StatsGroups::PERF,
        Group::Iothread => StatsGroups::IOTHREAD,
        Group::Memory => StatsGroups::MEMORY,
        Group::Dirtyrate => StatsGroups::DIRTYRATE,
        Group::Vm => StatsGroups::VM,
    }
}
