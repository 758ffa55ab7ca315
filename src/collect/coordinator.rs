//! The thread that decides: who is asked what, who waits how long, what is done about silence.
//!
//! Everything arrives as a message: requests, answers of workers, connections that stand or break. No libvirt call is made
//! here, so that nothing can keep this thread from answering at a deadline.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::flight::{Batch, Flight, FlightId, Kind, Running, Waiter};
use super::link::{Keeper, Link};
use super::plan::Planner;
use super::pool::{JobId, Pool};
use super::quarantine::{Permission, Quarantine};
use super::worker::{NameFilter, Opened, Outcome, Task, WorkerId};
use super::{Collection, CollectorStats, Selection};
use crate::config::{Config, Group, InactiveDomains};
use crate::libvirt::{
    ControlState, DomainSelection, ErrorClass, Identity, LibvirtError, StatsGroups, StatsRequest, Versions, abort_open,
};

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
        self.control = self.pool.start(Instant::now());
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

    fn opened(&mut self, worker: WorkerId, opened: Opened, now: Instant) {
        let is_control = Some(worker) == self.control;
        match opened {
            Ok(versions) => {
                self.pool.opened(worker);
                if is_control {
                    let uri = self.config.libvirt.uri.as_str();
                    tracing::info!(uri, libvirt = versions.libvirt, hypervisor = versions.hypervisor, "connected");
                    self.logged = None;
                    self.versions = Some(versions);
                    self.shortcomings = Shortcomings::default();
                    self.planner.reset();
                    self.keeper.opened();
                    let waiting: Vec<FlightId> = self.flights.keys().copied().collect();
                    waiting.into_iter().for_each(|flight| self.send_list(flight));
                }
            }
            Err(error) => {
                self.pool.ended(worker);
                let given_up = std::mem::take(&mut self.open_given_up);
                let error = if given_up { self.unanswered_open() } else { error };
                if is_control {
                    self.lose(error, now);
                } else {
                    self.workers_after = Some(now + Duration::from_secs(1));
                    self.log_failure("cannot open another connection to libvirt", &error);
                }
            }
        }
    }

    fn unanswered_open(&self) -> LibvirtError {
        let message =
            format!("no answer within {} s: the daemon is frozen, or at its limit of clients", OPEN_PATIENCE.as_secs());
        let operation = format!("cannot open {} read-only", self.config.libvirt.uri.as_str());
        LibvirtError::own(operation, ErrorClass::TimedOut, message)
    }

    /// A worker's connection broke, or its thread has ended.
    fn closed(&mut self, worker: WorkerId, now: Instant) {
        if Some(worker) == self.control {
            let error = LibvirtError::own("lost the connection to libvirt", ErrorClass::Disconnected, "it was closed");
            self.lose(error, now);
        } else if self.pool.is_idle(worker) {
            self.pool.let_go(worker);
        }
    }

    /// The link is down: whoever waits is told, or waits for the reconnection that follows at once.
    fn lose(&mut self, error: LibvirtError, now: Instant) {
        let chance =
            f64::from(SystemTime::now().elapsed().err().map_or(0, |error| error.duration().subsec_nanos()) % 1000);
        self.log_failure("no connection to libvirt", &error);
        self.count_failure(&error);
        self.keeper.failed(error, now, chance / 1000.0);
        for worker in self.pool.ids(None) {
            self.pool.let_go(worker);
        }
        self.control = None;
        self.control_job = None;
        self.control_queue.clear();
        self.inactive_job = None;
        self.quarantine = Quarantine::default();
        self.flights.values_mut().for_each(Flight::start_over);
        if let Some(error) = self.keeper.refusal(now) {
            self.answer_all(now, &error);
        }
    }

    fn done(&mut self, worker: WorkerId, job: JobId, outcome: Result<Outcome, LibvirtError>, now: Instant) {
        self.pool.done(worker);
        if self.inactive_job == Some(job) {
            self.inactive_job = None;
        }
        if let Some((_, errand, _)) = self.control_job.take_if(|(of, ..)| *of == job) {
            return self.control_done(errand, outcome, now);
        }
        if self.quarantine.call_ended(job) {
            // It was replaced while it waited.
            self.let_surplus_go(worker);
            return;
        }
        let Some(flight) = self.flights.values_mut().find(|flight| flight.running.contains_key(&job)) else { return };
        let Some(running) = flight.running.remove(&job) else { return };
        match outcome {
            Ok(Outcome::Records(records)) => {
                records.domains().for_each(|record| self.planner.seen(&record));
                if let (Kind::Full, Ok(count @ 1..)) = (running.batch.kind, u32::try_from(records.len())) {
                    let each = now.saturating_duration_since(running.since) / count;
                    self.usual = (self.usual * 7 + each) / 8;
                }
                let is_qemu = self.versions.as_ref().is_some_and(|versions| versions.driver == "QEMU");
                let complete = flight.answer(&running.batch, records, is_qemu);
                complete.into_iter().for_each(|uuid| self.quarantine.answered(uuid));
            }
            Ok(_) => flight.give_up(&running.batch),
            Err(error) => {
                let flight = flight.id;
                self.failed_batch(flight, running.batch, error);
            }
        }
    }

    fn control_done(&mut self, errand: Errand, outcome: Result<Outcome, LibvirtError>, now: Instant) {
        if matches!(self.keeper.link, Link::Silent { .. }) {
            tracing::info!("libvirt answers again");
            self.keeper.link = Link::Up;
            self.logged = None;
        }
        match (errand, outcome) {
            (Errand::List(flight), Ok(Outcome::Listed { domains, control })) => self.plan(flight, domains, &control),
            (Errand::Suspects(flight, job), Ok(Outcome::Controlled(states))) => self.judge(flight, job, &states, now),
            // The connection that broke tells of itself.
            (_, Err(error)) if error.class == ErrorClass::Disconnected => {}
            (Errand::List(flight), Err(error)) => {
                self.count_failure(&error);
                self.end_flight(flight, now, Some(error));
            }
            _ => {}
        }
    }

    /// The domains are known: who is let out of quarantine, and who is asked together with whom.
    fn plan(&mut self, id: FlightId, domains: Vec<Identity>, control: &[(Uuid, ControlState)]) {
        let ids: BTreeMap<Uuid, Option<u32>> = domains.iter().map(|domain| (domain.uuid, domain.id)).collect();
        // A domain that was started anew has another id, and another hypervisor.
        let same = |uuid: Uuid| ids.contains_key(&uuid) && self.identities.get(&uuid) == ids.get(&uuid);
        self.quarantine.retain(same);
        self.identities = ids;
        for (uuid, state) in control {
            if self.quarantine.release_if_free(*uuid, *state).is_some() {
                tracing::info!(%uuid, domain = name_of(&domains, *uuid), "the domain answers again");
            }
        }
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let config = &self.config;
        let selected =
            |domain: &Identity| config.domains.selects(&domain.name) && flight.selection.selects(&domain.name);
        let domains: Vec<Identity> = domains.into_iter().filter(selected).collect();
        let (closed, open): (Vec<Uuid>, Vec<Uuid>) =
            domains.iter().map(|domain| domain.uuid).partition(|uuid| self.quarantine.is_closed(*uuid));
        flight.plan(domains);
        let groups = flight.groups;
        let inactive = match config.collection.inactive_domains {
            InactiveDomains::None => StatsGroups::default(),
            InactiveDomains::State => groups.and(StatsGroups::STATE),
            InactiveDomains::All => groups,
        };
        let batch = |kind, groups, domains| Batch { kind, groups, domains, attempts: 0 };
        if self.shortcomings.no_bulk {
            flight.queue.push_back(batch(Kind::Info { inactive: false }, groups, open));
            if !inactive.is_empty() {
                flight.queue.push_back(batch(Kind::Info { inactive: true }, inactive, Vec::new()));
            }
            return;
        }
        let without = groups.and(StatsGroups::WITHOUT_MONITOR);
        for domains in self.planner.plan(&closed) {
            flight.queue.push_back(batch(Kind::WithoutMonitor, without, domains));
        }
        let needs_monitor = !groups.without(StatsGroups::WITHOUT_MONITOR).is_empty();
        for domains in self.planner.plan(&open) {
            // What needs no hypervisor cannot hang on one, and is complete without.
            let kind = if needs_monitor { Kind::Full } else { Kind::WithoutMonitor };
            flight.queue.push_back(batch(kind, groups, domains));
        }
        if !inactive.is_empty() && self.inactive_job.is_none() {
            flight.queue.push_back(batch(Kind::Inactive, inactive, Vec::new()));
        }
    }

    /// A batch has been waiting for long: if one of its domains is what it waits for, the call is left to it, and the others
    /// are asked anew.
    fn judge(&mut self, id: FlightId, job: JobId, states: &[(Uuid, ControlState)], now: Instant) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let Some(running) = flight.running.get(&job) else { return };
        let waited = now.saturating_duration_since(running.since);
        let culprits: Vec<_> =
            states.iter().filter_map(|(uuid, state)| Some((*uuid, Quarantine::verdict(*state, waited)?))).collect();
        if culprits.is_empty() {
            return;
        }
        let Some(Running { batch, .. }) = flight.running.remove(&job) else { return };
        self.quarantine.call_stuck(job, culprits.iter().map(|culprit| culprit.0));
        for (uuid, cause) in &culprits {
            if self.quarantine.enter(*uuid, *cause, SystemTime::now()) {
                tracing::warn!(%uuid, domain = flight.name_of(*uuid), cause = cause.as_str(), "domain quarantined");
            }
        }
        let is_culprit = |uuid: &Uuid| culprits.iter().any(|culprit| culprit.0 == *uuid);
        let (frozen, others): (Vec<Uuid>, Vec<Uuid>) = batch.domains.iter().partition(|uuid| is_culprit(uuid));
        if !others.is_empty() {
            flight.queue.push_front(Batch { domains: others, ..batch.clone() });
        }
        let groups = batch.groups.and(StatsGroups::WITHOUT_MONITOR);
        flight.queue.push_front(Batch { kind: Kind::WithoutMonitor, groups, domains: frozen, attempts: 0 });
    }

    /// A call failed: what can be had differently is asked for differently, what can be told apart is told apart.
    fn failed_batch(&mut self, id: FlightId, batch: Batch, error: LibvirtError) {
        const SYSTEM_ERROR: i32 = 38;
        const INVALID_ARG: i32 = 8;
        const ARGUMENT_UNSUPPORTED: i32 = 74;
        let whole = batch.domains.len();
        let again = match error.class {
            // The worker's connection broke; if the link stands, another worker asks once more.
            ErrorClass::Disconnected if batch.attempts == 0 => vec![Batch { attempts: 1, ..batch }],
            ErrorClass::NotSupported if !matches!(batch.kind, Kind::Info { .. }) => {
                self.shortcomings.no_bulk = true;
                return self.restart_plan(id);
            }
            ErrorClass::Other(INVALID_ARG | ARGUMENT_UNSUPPORTED) if self.drop_a_flag() => vec![batch],
            ErrorClass::Other(SYSTEM_ERROR) if !batch.groups.and(StatsGroups::FRAGILE).is_empty() => {
                vec![Batch { groups: batch.groups.without(StatsGroups::FRAGILE), ..batch }]
            }
            _ if whole > 1 => {
                if error.class == ErrorClass::TooLarge {
                    self.planner.too_large(whole);
                }
                // One of them spoils the reply, or all of them are too much for one.
                let (first, second) = batch.domains.split_at(whole / 2);
                [first, second].map(|domains| Batch { domains: domains.to_vec(), ..batch.clone() }).to_vec()
            }
            _ => {
                self.count_failure(&error);
                self.log_failure("a call to libvirt failed", &error);
                self.flights.values_mut().filter(|flight| flight.id == id).for_each(|flight| flight.give_up(&batch));
                return;
            }
        };
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.queue.extend(again);
        }
    }

    fn drop_a_flag(&mut self) -> bool {
        if self.config.collection.backing_chain && !self.shortcomings.no_backing {
            self.shortcomings.no_backing = true;
        } else if !self.shortcomings.no_nowait {
            self.shortcomings.no_nowait = true;
        } else {
            return false;
        }
        true
    }

    fn restart_plan(&mut self, id: FlightId) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        // What still runs fails likewise, and finds no flight.
        flight.start_over();
        self.send_list(id);
    }

    fn tick(&mut self, now: Instant) {
        if self.keeper.take_retry(now) {
            self.control = self.pool.start(now);
        }
        if self.pool.opening_since().is_some_and(|since| now >= since + OPEN_PATIENCE) && !self.open_given_up {
            self.open_given_up = abort_open();
        }
        self.run_errand(now);
        self.notice_silence(now);
        self.answer_deadlines(now);
        self.look_into_delays(now);
        self.dispatch(now);
        self.finish(now);
        self.publish();
    }

    fn run_errand(&mut self, now: Instant) {
        if self.control_job.is_some() {
            return;
        }
        let Some(worker) = self.control.filter(|worker| self.pool.is_idle(*worker)) else { return };
        while let Some((errand, task)) = self.control_queue.pop_front() {
            let (Errand::List(flight) | Errand::Suspects(flight, _)) = errand;
            // The flight may have ended meanwhile.
            if self.flights.contains_key(&flight) {
                self.control_job = self.pool.give(worker, task).map(|job| (job, errand, now));
                return;
            }
        }
    }

    /// The daemon answers such questions without waiting for anything; if it does not, it is frozen.
    fn notice_silence(&mut self, now: Instant) {
        let Some((_, _, since)) = self.control_job else { return };
        if now < since + self.control_patience() || !matches!(self.keeper.link, Link::Up) {
            return;
        }
        self.keeper.link = Link::Silent { since };
        if let Some(error) = self.keeper.refusal(now) {
            self.log_failure("libvirt is silent", &error);
            self.count_failure(&error);
            self.answer_all(now, &error);
        }
    }

    fn control_patience(&self) -> Duration {
        let half = |flight: &Flight| Some(flight.deadline()?.saturating_duration_since(flight.started) / 2);
        self.flights.values().filter_map(half).min().map_or(CONTROL_PATIENCE, |half| half.min(CONTROL_PATIENCE))
    }

    /// Whoever cannot wait any longer gets what has arrived.
    fn answer_deadlines(&mut self, now: Instant) {
        let late: Vec<FlightId> =
            self.flights.values().filter(|f| f.deadline().is_some_and(|at| at <= now)).map(|f| f.id).collect();
        for id in late {
            let Some(mut flight) = self.flights.remove(&id) else { continue };
            let error = self.error_of(&flight, now);
            let snapshot = flight.snapshot(now, self.versions.as_ref(), error, |uuid| self.quarantined(uuid));
            self.account(&snapshot);
            let (late, rest): (Vec<Waiter>, Vec<Waiter>) =
                std::mem::take(&mut flight.waiters).into_iter().partition(|waiter| waiter.deadline <= now);
            late.into_iter().for_each(|waiter| drop(waiter.reply.send(Arc::clone(&snapshot))));
            flight.waiters = rest;
            if flight.waiters.is_empty() {
                self.leave_behind(flight);
            } else {
                self.flights.insert(id, flight);
            }
        }
    }

    /// Nobody waits any more, but calls are under way: until they end, their domains are not asked for more.
    fn leave_behind(&mut self, flight: Flight) {
        for (job, running) in flight.running {
            match running.batch.kind {
                Kind::Inactive | Kind::Info { .. } => self.inactive_job = Some(job),
                Kind::Full | Kind::WithoutMonitor => {}
            }
            self.quarantine.call_stuck(job, running.batch.domains);
        }
    }

    fn error_of(&self, flight: &Flight, now: Instant) -> Option<LibvirtError> {
        if flight.planned {
            return None;
        }
        let within = humantime::format_duration(Duration::from_millis(
            u64::try_from(now.saturating_duration_since(flight.started).as_millis()).unwrap_or(u64::MAX),
        ));
        let message = format!("libvirt did not answer within {within}");
        Some(LibvirtError::own("cannot collect statistics", ErrorClass::TimedOut, message))
    }

    fn look_into_delays(&mut self, now: Instant) {
        let batch_size = u32::try_from(self.config.collection.batch_size).unwrap_or(u32::MAX);
        let usual = self.usual.saturating_mul(batch_size);
        for flight in self.flights.values_mut() {
            let patience = flight.patience(usual);
            for (job, running) in &mut flight.running {
                let due = running.since + patience * (running.checks + 1);
                if running.batch.kind == Kind::Full && now >= due {
                    running.checks += 1;
                    let errand = Errand::Suspects(flight.id, *job);
                    self.control_queue.push_back((errand, Task::Control(running.batch.domains.clone())));
                }
            }
        }
        self.run_errand(now);
    }

    /// Gives batches to workers, as far as there are workers and it may be risked.
    fn dispatch(&mut self, now: Instant) {
        if !matches!(self.keeper.link, Link::Up) {
            return;
        }
        let ids: Vec<FlightId> = self.flights.keys().copied().collect();
        for id in ids {
            let mut position = 0;
            while let Some(batch) = self.flights.get(&id).and_then(|flight| flight.queue.get(position)).cloned() {
                let Some(batch) = self.permitted(batch) else {
                    position += 1;
                    continue;
                };
                let Some(worker) = self.free_worker(now) else { return };
                let Some(flight) = self.flights.get_mut(&id) else { break };
                flight.queue.remove(position);
                if batch.kind == Kind::WithoutMonitor && batch.groups.is_empty() {
                    flight.give_up(&batch);
                    continue;
                }
                let task = task_of(&batch, &self.config, self.shortcomings, &flight.selection);
                let Some(job) = self.pool.give(worker, task) else { continue };
                flight.calls += 1;
                flight.running.insert(job, Running { batch, since: now, checks: 0 });
            }
        }
    }

    /// The batch as it may be asked now; `None` if it has to wait.
    fn permitted(&self, batch: Batch) -> Option<Batch> {
        if batch.kind != Kind::Full {
            return Some(batch);
        }
        let risky = |running: &Running| running.batch.kind == Kind::Full;
        match self.quarantine.permission(&batch.domains) {
            Permission::Now => Some(batch),
            Permission::Alone => {
                let other = self.flights.values().flat_map(|flight| flight.running.values()).any(risky);
                (!other).then_some(batch)
            }
            Permission::WithoutMonitor => {
                let groups = batch.groups.and(StatsGroups::WITHOUT_MONITOR);
                Some(Batch { kind: Kind::WithoutMonitor, groups, ..batch })
            }
        }
    }

    /// An idle worker; one is started where there are fewer than configured, not counting those that are stuck.
    fn free_worker(&mut self, now: Instant) -> Option<WorkerId> {
        if let Some(worker) = self.pool.idle(self.control) {
            return Some(worker);
        }
        let working = self.pool.ids(self.control).len().saturating_sub(self.quarantine.stuck_calls());
        let may_start = self.workers_after.is_none_or(|after| after <= now);
        if working < self.config.collection.workers && may_start {
            self.pool.start(now);
        }
        // Without any worker, the connection that stands does the work.
        let alone = working == 0 && !may_start && self.control_queue.is_empty() && self.control_job.is_none();
        self.control.filter(|worker| alone && self.pool.is_idle(*worker))
    }

    /// A worker that was stuck is back, and has been replaced.
    fn let_surplus_go(&mut self, worker: WorkerId) {
        let working = self.pool.ids(self.control).len().saturating_sub(self.quarantine.stuck_calls());
        if working > self.config.collection.workers && self.pool.is_idle(worker) {
            self.pool.let_go(worker);
        }
    }

    fn finish(&mut self, now: Instant) {
        let done: Vec<FlightId> =
            self.flights.values().filter(|flight| flight.is_done()).map(|flight| flight.id).collect();
        for id in done {
            self.end_flight(id, now, None);
        }
    }

    fn end_flight(&mut self, id: FlightId, now: Instant, error: Option<LibvirtError>) {
        let Some(mut flight) = self.flights.remove(&id) else { return };
        let whole = error.is_none() && flight.is_whole();
        let snapshot = flight.snapshot(now, self.versions.as_ref(), error, |uuid| self.quarantined(uuid));
        self.account(&snapshot);
        for waiter in std::mem::take(&mut flight.waiters) {
            let _gone = waiter.reply.send(Arc::clone(&snapshot));
        }
        if whole && !self.config.collection.min_interval.is_zero() {
            self.last = Some((flight.selection.clone(), now, snapshot));
        }
        self.leave_behind(flight);
    }

    /// Everyone who waits is told of an error that concerns all.
    fn answer_all(&mut self, now: Instant, error: &LibvirtError) {
        let ids: Vec<FlightId> = self.flights.keys().copied().collect();
        for id in ids {
            self.end_flight(id, now, Some(error.clone()));
        }
    }

    fn quarantined(&self, uuid: Uuid) -> Option<super::Quarantined> {
        self.quarantine.domains().get(&uuid).copied()
    }

    fn account(&self, collection: &Collection) {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.calls = collection.calls;
        if collection.error.is_none() {
            stats.last_success = Some(collection.at);
        }
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
        let opening = self.pool.opening_since().filter(|_| !self.open_given_up).map(|since| since + OPEN_PATIENCE);
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

fn name_of(domains: &[Identity], uuid: Uuid) -> &str {
    domains.iter().find(|domain| domain.uuid == uuid).map_or("", |domain| &domain.name)
}

fn task_of(batch: &Batch, config: &Config, shortcomings: Shortcomings, selection: &Selection) -> Task {
    let request = |domains| StatsRequest {
        groups: batch.groups,
        domains,
        backing_chain: config.collection.backing_chain && !shortcomings.no_backing,
        nowait: !shortcomings.no_nowait,
    };
    let wanted = || -> NameFilter {
        let (configured, selection) = (config.domains.clone(), selection.clone());
        Arc::new(move |name: &str| configured.selects(name) && selection.selects(name))
    };
    match batch.kind {
        Kind::Full | Kind::WithoutMonitor => Task::Stats { domains: batch.domains.clone(), request: request(None) },
        Kind::Inactive => Task::Bulk { request: request(Some(DomainSelection::Inactive)), wanted: wanted() },
        Kind::Info { inactive } => Task::Info { inactive, wanted: wanted() },
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
