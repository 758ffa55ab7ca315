//! All decisions of the collector: a function of its state, of what it is told and of the time, which gives actions. Pure: no
//! channel, no clock, no thread, no libvirt.
//!
//! [`Scheduler::handle`] takes a message, [`Scheduler::tick`] does what is due at a time, [`Scheduler::next_wake`] says when
//! that is, and [`Scheduler::take_actions`] what is to be done about it. No libvirt call is made here, so nothing can keep a
//! request from being answered at its deadline.

mod answers;
mod background;
mod busy;
mod connecting;
mod dispatch;
mod domain_requests;
mod events;
mod listing;
mod outcomes;
mod planning;
mod suspects;
#[cfg(test)]
mod tests;
mod timers;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::background::Background;
use super::busy::WaitingCalls;
use super::completeness::HostAnswers;
use super::connection::ConnectionState;
use super::control::Control;
use super::domain_state::Domains;
use super::message::{Action, Message, Now};
use super::notice::Notice;
use super::plan::Planner;
use super::pool::{JobId, Pool, Role, WorkerId};
use super::quarantine::StuckCalls;
use super::resync::Resync;
use super::run::{Run, RunId};
use super::{Collection, CollectorStats, Selection, Shortcomings};
use crate::config::Config;
use crate::domains::DefinitionFailure;
use crate::libvirt::{LibvirtError, Versions};
use crate::probes::{DEFINITIONS, Probe, Subject, Task};
use domain_requests::DomainRequest;

/// What a domain takes until its calls have been timed.
const USUAL_DOMAIN_TIME: Duration = Duration::from_millis(20);

/// The state that decisions are made from.
#[derive(Debug)]
pub(super) struct Scheduler {
    config: Config,
    /// The time of the message or tick that is being dealt with.
    now: Now,
    chance: fastrand::Rng,
    /// Decided, and not done yet.
    actions: Vec<Action>,
    stats: CollectorStats,
    /// The failure that was logged last: the log has one line for each change of state.
    logged: Option<String>,

    connection: ConnectionState,
    daemon: Daemon,
    pool: Pool,
    /// When another worker may be tried, after one could not connect.
    workers_after: Option<Instant>,
    control: Control,

    domains: Domains,
    resync: Resync,
    events_dropped: u64,

    runs: BTreeMap<RunId, Run>,
    next_run: RunId,
    planner: Planner,
    /// How long a call for statistics usually takes for each of its domains.
    usual: Duration,
    stuck: StuckCalls,
    waiting_calls: WaitingCalls,
    /// The call about all domains, such as those that are shut off, that a run left behind.
    inactive_job: Option<JobId>,
    last: Option<(Selection, Instant, Arc<Collection>)>,

    background: Background,
    /// When the last request came; at first when it began.
    asked: Instant,
    /// When another background worker may be tried, after one could not connect.
    background_after: Option<Instant>,
    definition_failures: BTreeMap<DefinitionFailure, u64>,
    domain_requests: Vec<DomainRequest>,
}

/// The daemon behind the connection.
#[derive(Debug, Default)]
struct Daemon {
    /// Its versions, once there has been a connection.
    versions: Option<Versions>,
    hostname: String,
    shortcomings: Shortcomings,
    /// Whether it refused a read-write connection for guest agents.
    read_write_refused: bool,
    /// What its domains answer.
    answers: HostAnswers,
}

impl Scheduler {
    /// Begins to connect.
    pub(super) fn new(config: Config, chance: fastrand::Rng, now: Now) -> Self {
        let planner = Planner::new(config.collection.batch_size, config.collection.workers);
        let domains = Domains::new(config.domains.clone());
        let mut scheduler = Self {
            config,
            now,
            chance,
            actions: Vec::new(),
            stats: CollectorStats::default(),
            logged: None,
            connection: ConnectionState::new(),
            daemon: Daemon::default(),
            pool: Pool::default(),
            workers_after: None,
            control: Control::default(),
            domains,
            resync: Resync::default(),
            events_dropped: 0,
            runs: BTreeMap::new(),
            next_run: 0,
            planner,
            usual: USUAL_DOMAIN_TIME,
            stuck: StuckCalls::default(),
            waiting_calls: WaitingCalls::default(),
            inactive_job: None,
            last: None,
            background: Background::default(),
            asked: now.at,
            background_after: None,
            definition_failures: BTreeMap::new(),
            domain_requests: Vec::new(),
        };
        scheduler.connect();
        scheduler
    }

    /// Takes a message.
    pub(super) fn handle(&mut self, message: Message, now: Now) {
        self.now = now;
        match message {
            Message::Collect { waiter, selection, deadline } => self.request(waiter, selection, deadline),
            Message::Domains { waiter, addresses, deadline } => {
                self.watch();
                self.domain_requests.push(DomainRequest { waiter, addresses, deadline });
            }
            Message::Status { waiter } => {
                let standing = self.connection.standing(self.daemon.versions.as_ref(), now.at);
                self.act(Action::AnswerStatus(waiter, standing));
            }
            Message::Reconfigure(config) => self.reconfigure(*config),
            Message::Events(arrived) => self.apply(arrived),
            Message::Opened(worker, opened) => self.opened(worker, opened),
            Message::OpenNotDue(worker, at) => self.pool.not_due(worker, at),
            Message::NotAborted(worker) => self.not_aborted(worker),
            Message::Closed(worker) => self.closed(worker),
            Message::Part(worker, part) => self.told(worker, part),
            Message::Done { worker, job, outcome } => self.done(worker, job, outcome),
            Message::Ended(worker) => self.ended(worker),
        }
        self.publish();
    }

    /// Does what is due, and what has become possible.
    pub(super) fn tick(&mut self, now: Now) {
        self.now = now;
        self.fire_timers();
        self.plan_runs();
        self.run_control();
        self.check_all_busy();
        self.dispatch();
        self.finish();
        self.dispatch();
        self.answer_domain_requests();
        self.publish();
    }

    /// What has been decided since this was asked last.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// What has been counted.
    pub(super) fn stats(&self) -> &CollectorStats {
        &self.stats
    }

    /// Goes on with other settings. What has begun ends as it began.
    fn reconfigure(&mut self, config: Config) {
        let old = std::mem::replace(&mut self.config, config);
        if old.collection != self.config.collection {
            self.planner = Planner::new(self.config.collection.batch_size, self.config.collection.workers);
        }
        self.last = None;
        if old.collection.groups != self.config.collection.groups {
            self.daemon.read_write_refused = false;
            // Probes of a group that is new have asked nothing yet.
            self.want_all(&[], false);
        }
        if old.domains != self.config.domains {
            self.domains.select(self.config.domains.clone());
        }
        if old.metadata != self.config.metadata {
            self.read_all_definitions();
        }
        if old.service_discovery != self.config.service_discovery {
            self.domains.companions_mut().for_each(|(_, state)| state.located = None);
            self.daemon.read_write_refused = false;
            self.pool.background().into_iter().for_each(|worker| self.dismiss(worker));
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn start(&mut self, role: Role) -> WorkerId {
        let worker = self.pool.start(role, self.now.at);
        self.act(Action::Start(worker, role));
        worker
    }

    fn send(&mut self, worker: WorkerId, task: Task) -> JobId {
        let job = self.pool.give(worker, self.now.at);
        self.act(Action::Send(worker, job, task));
        job
    }

    fn dismiss(&mut self, worker: WorkerId) {
        self.pool.dismiss(worker);
        self.act(Action::Dismiss(worker));
    }

    fn log(&mut self, notice: Notice) {
        self.act(Action::Log(notice));
    }

    fn log_failure(&mut self, what: &'static str, error: &LibvirtError) {
        let text = error.to_string();
        if self.logged.as_ref() != Some(&text) {
            self.logged = Some(text);
            self.log(Notice::Failed { what, error: error.clone() });
        }
    }

    fn publish(&mut self) {
        self.stats.stuck_calls = self.stuck.len();
        self.stats.hung_calls = self.background.hung_calls();
        self.stats.reconnects = self.connection.reconnects;
        self.stats.shortcomings.clone_from(&self.daemon.shortcomings);
        self.stats.threads = self.pool.threads();
    }

    /// `about` with jitter, so that many exporters or domains do not act at the same moment.
    fn jitter(&mut self, about: Duration) -> Duration {
        about.mul_f64(0.75 + 0.5 * self.chance.f64())
    }

    fn name_of(&self, uuid: Uuid) -> String {
        self.domains.get(uuid).map_or_else(String::new, |domain| domain.identity.name.clone())
    }

    fn is_closed(&self, uuid: Uuid) -> bool {
        self.domains.companion(uuid).is_some_and(|state| state.incarnation.quarantine.is_closed())
    }

    /// Has a probe ask about a subject.
    fn want(&mut self, probe: &Probe, subject: Subject, at: Instant) {
        if let Some(lane) = self.background.of(probe) {
            lane.want(subject, at, &mut self.domains);
        }
    }

    fn want_definition(&mut self, uuid: Uuid, at: Instant) {
        self.want(&DEFINITIONS, Subject::Domain(uuid), at);
    }
}
