//! Connections that stand, break, or say nothing.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Scheduler;
use crate::collect::Shortcomings;
use crate::collect::busy::WaitingCalls;
use crate::collect::completeness::HostAnswers;
use crate::collect::control::Control;
use crate::collect::message::Action;
use crate::collect::notice::Notice;
use crate::collect::pool::{OPEN_TIMEOUT, Role, WorkerId};
use crate::collect::resync::ResyncCause;
use crate::collect::run::Run;
use crate::libvirt::{Access, ErrorClass, LibvirtError};
use crate::probes::{ConnectInfo, Task};

/// When another worker is tried after one could not connect.
const WORKERS_AGAIN: Duration = Duration::from_secs(1);
/// A listing, or a control state, that takes longer while the daemon answers waits for the lock of a domain.
const LONG: Duration = Duration::from_secs(1);
/// The pause before a silent daemon is asked again; longer than an open that hangs.
const PING_AGAIN: Duration = Duration::from_secs(10);
/// Once so many pings of a daemon that is up are under way, no connection is opened for another one: each occupies a thread, and an
/// open that cannot be ended does so for ever.
const MOST_PINGS: usize = 4;
/// What the log says of a daemon that cannot be reached.
const NO_CONNECTION: &str = "no connection to libvirt";
/// What the log says of a daemon that takes no further connection.
pub(super) const NO_MORE_CONNECTIONS: &str = "cannot open another connection to libvirt";

impl Scheduler {
    /// Starts the control worker.
    pub(super) fn connect(&mut self) {
        self.control.worker = Some(self.start(Role::Control));
    }

    /// Tries again if it is time.
    pub(super) fn reconnect(&mut self) {
        if self.connection.take_retry(self.now.at) {
            self.connect();
        }
    }

    /// Ends an open that has taken too long. One that is ended tells of itself at once.
    pub(super) fn abort_open(&mut self, worker: WorkerId) {
        self.pool.overdue(worker, self.now.at);
        self.act(Action::Abort(worker));
    }

    /// An open that has taken too long could not be ended, and nothing more may be heard of it.
    pub(super) fn not_aborted(&mut self, worker: WorkerId) {
        let error = self.unanswered_open();
        if Some(worker) == self.control.worker {
            self.log_failure(NO_CONNECTION, &error);
            self.connection.unanswered(error.clone());
            self.answer_all(&error);
        } else {
            self.log_failure(NO_MORE_CONNECTIONS, &error);
        }
    }

    pub(super) fn opened(&mut self, worker: WorkerId, opened: Result<ConnectInfo, LibvirtError>) {
        let is_control = Some(worker) == self.control.worker;
        match opened {
            Ok(info) => {
                self.pool.free(worker, self.now.at);
                if is_control {
                    self.connected(info);
                } else {
                    self.heard();
                }
            }
            // It was let go meanwhile.
            Err(_) if self.pool.role(worker).is_none() => {}
            Err(error) => {
                let error = if self.pool.is_overdue(worker) { self.unanswered_open() } else { error };
                let role = self.pool.role(worker);
                self.dismiss(worker);
                match role {
                    _ if is_control => self.lose(error),
                    Some(Role::Background(access)) => self.no_background_worker(access, &error),
                    _ => {
                        self.workers_after = Some(self.now.at + WORKERS_AGAIN);
                        self.log_failure(NO_MORE_CONNECTIONS, &error);
                    }
                }
            }
        }
    }

    /// The connection stands, perhaps to another daemon than before.
    fn connected(&mut self, info: ConnectInfo) {
        let ConnectInfo { versions, hostname, unknown_events } = info;
        self.log(Notice::Connected(versions.clone()));
        self.logged = None;
        self.daemon.versions = Some(versions);
        self.daemon.hostname = hostname;
        self.daemon.shortcomings = Shortcomings { unknown_events, ..Shortcomings::default() };
        self.daemon.read_write_refused = false;
        // Another libvirt may answer other groups.
        self.daemon.answers = HostAnswers::default();
        self.planner.reset();
        self.connection.opened();
        self.resync.want(ResyncCause::Connect, self.now.at);
        // What was read over the last connection may have changed since.
        self.read_all_definitions();
    }

    fn unanswered_open(&self) -> LibvirtError {
        let seconds = OPEN_TIMEOUT.as_secs();
        let mut message = format!(
            "no answer within {seconds} s: the daemon is frozen, or at its limit of clients, or its host is out of reach"
        );
        let connections = self.pool.connections();
        if connections > 0 {
            let _infallible = write!(message, "; this exporter has {connections} other connections");
        }
        let operation = format!("cannot open {} read-only", self.config.libvirt.uri.redacted().as_str());
        LibvirtError::own(operation, ErrorClass::TimedOut, message)
    }

    /// A worker's thread has ended.
    pub(super) fn ended(&mut self, worker: WorkerId) {
        if let Some(job) = self.pool.ended(worker) {
            let error = LibvirtError::own("cannot ask libvirt", ErrorClass::Disconnected, "it was closed");
            self.done(worker, job, Err(error));
        }
        self.closed(worker);
    }

    /// A worker's connection broke, or its thread has ended.
    pub(super) fn closed(&mut self, worker: WorkerId) {
        if Some(worker) == self.control.worker {
            let error = LibvirtError::own("lost the connection to libvirt", ErrorClass::Disconnected, "it was closed");
            self.lose(error);
        } else if self.pool.is_idle(worker) {
            self.dismiss(worker);
        }
    }

    /// There is no connection: requests are answered, or wait for the reconnection that follows at once.
    fn lose(&mut self, error: LibvirtError) {
        self.log_failure(NO_CONNECTION, &error);
        self.stats.count_failure(error.class);
        let chance = self.chance.f64();
        self.connection.failed(error, self.now.at, chance);
        self.pool.ids().into_iter().for_each(|worker| self.dismiss(worker));
        self.control = Control::default();
        self.inactive_job = None;
        self.background.disconnected();
        self.background_after = None;
        self.resync.disconnected();
        self.stuck.clear();
        self.waiting_calls = WaitingCalls::default();
        self.domains.companions_mut().for_each(|(_, state)| state.reset_connection());
        self.runs.values_mut().for_each(Run::start_over);
        if let Some(error) = self.connection.refusal(self.now.at) {
            self.answer_all(&error);
        }
    }

    /// Gives the control worker its next task, or another worker while that waits for the lock of a domain.
    pub(super) fn run_control(&mut self) {
        let runs = &self.runs;
        self.control.drop_ended(|run| runs.contains_key(&run));
        let own = self.control.worker.filter(|worker| self.pool.is_idle(*worker));
        let Some(worker) = own.or_else(|| self.substitute()) else { return };
        if let Some((task, call)) = self.control.next() {
            let asked =
                if let Task::Control(domains) = &call { domains.iter().copied().collect() } else { VecDeque::new() };
            let job = self.send(worker, call);
            self.control.began(job, worker, task, asked, self.now.at);
        }
    }

    /// The worker that does tasks of the control worker while that waits for a lock. If none is idle, a connection is opened, and
    /// after a failure not again at once.
    fn substitute(&mut self) -> Option<WorkerId> {
        if !self.control.needs_substitute() {
            return None;
        }
        let idle = self.pool.idle_background(Access::ReadOnly).or_else(|| self.pool.idle());
        let may_open = self.background_after.is_none_or(|after| after <= self.now.at);
        if idle.is_none() && may_open && !self.pool.opens_background() {
            self.start(Role::Background(Access::ReadOnly));
        }
        idle
    }

    /// Asks the daemon over another connection whether it answers. The call of the control worker may wait for one domain, whose
    /// lock libvirt holds as long as a hook runs or an image is labelled.
    pub(super) fn ping(&mut self) {
        let worker = match self.idle_to_ask() {
            Some(worker) => {
                self.send(worker, Task::Ping);
                worker
            }
            // To be let in is an answer, too.
            None => self.start(Role::Background(Access::ReadOnly)),
        };
        self.control.pinged(worker, self.now.at, |worker| self.pool.is_at_work(worker));
    }

    /// Who can ask the daemon whether it answers over a connection that stands.
    fn idle_to_ask(&self) -> Option<WorkerId> {
        self.pool.idle().or_else(|| self.pool.idle_background(Access::ReadOnly))
    }

    /// When to ask the daemon whether it answers. A silent one is asked again once no question is under way: the connection of the
    /// last one has broken, or could not be opened. An open that cannot be ended counts as under way, or each would leave a thread
    /// behind.
    pub(super) fn ping_at(&self) -> Option<Instant> {
        let under_way = self.control.pings(|worker| self.pool.is_at_work(worker));
        if self.connection.is_up() {
            // The connection of one may be dead; where two get no answer, more would not either.
            let pause = if under_way < 2 { self.control_timeout() / 2 } else { PING_AGAIN };
            let may_ask = under_way < MOST_PINGS || self.idle_to_ask().is_some();
            return self.control.quiet_since().filter(|_| may_ask).map(|since| since + pause);
        }
        // Events come from a daemon whose calls wait, too.
        let since = self.connection.silent_since()?;
        (under_way == 0).then(|| self.control.pinged_after(since) + PING_AGAIN)
    }

    /// The daemon has answered something, over whatever connection.
    pub(super) fn heard(&mut self) {
        self.control.heard(self.now.at);
        if self.connection.is_silent() {
            self.resumed();
        }
        let long = (self.resync.usual() * 4).clamp(LONG, 4 * LONG);
        let waits = self.control.waits(long, self.now.at);
        if waits || self.control.has_aside() {
            self.leave_inactive(long);
        }
        if waits {
            self.set_listing_aside();
            self.control.awaited().into_iter().for_each(|uuid| self.leave_locked(uuid));
        }
    }

    /// A daemon that has answered nothing at all is frozen.
    pub(super) fn notice_silence(&mut self) {
        let Some(since) = self.control.waits_since() else { return };
        self.connection.silent(since);
        if let Some(error) = self.connection.refusal(self.now.at) {
            // The runs under way wait for their deadlines: the daemon may only be slow.
            self.log_failure("libvirt is not responding", &error);
            self.stats.count_failure(error.class);
        }
    }

    /// The daemon has answered after it was silent.
    pub(super) fn resumed(&mut self) {
        self.log(Notice::AnswersAgain);
        self.connection.resumed();
        self.logged = None;
        let now = self.now.at;
        self.runs.values_mut().for_each(|run| run.daemon_resumed(now));
        // While the daemon stood still, so did every monitor: how long they have been occupied says nothing.
        self.control.drop_suspects();
    }
}
