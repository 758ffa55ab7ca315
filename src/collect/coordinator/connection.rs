//! Connections that stand, break, or say nothing.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{CONTROL_PATIENCE, Coordinator, Shortcomings};
use crate::collect::busy::WaitingCalls;
use crate::collect::chance;
use crate::collect::complete::Answers;
use crate::collect::flight::Flight;
use crate::collect::link::Link;
use crate::collect::pool::OPEN_PATIENCE;
use crate::collect::quarantine::Quarantine;
use crate::collect::relist::Cause;
use crate::collect::worker::{Greeting, Opened, Role, WorkerId};
use crate::libvirt::{ErrorClass, LibvirtError};

/// What the log says of a daemon that cannot be reached.
const NO_CONNECTION: &str = "no connection to libvirt";
/// What the log says of a daemon that takes no further connection.
const NO_MORE_CONNECTIONS: &str = "cannot open another connection to libvirt";

impl Coordinator {
    /// Starts the worker whose connection stands for the link.
    pub(super) fn connect(&mut self, now: Instant) {
        self.control = self.pool.start(Role::Control, now);
        if self.control.is_none() {
            let message = "the system has no thread left";
            let error = LibvirtError::own("cannot connect to libvirt", ErrorClass::ConnectFailed, message);
            self.lose(error, now);
        }
    }

    /// Ends opens that have taken too long. What is ended tells of itself at once; what could not be ended is reported here,
    /// as it may never be.
    pub(super) fn end_hung_opens(&mut self, now: Instant) {
        for worker in self.pool.abort_hung_opens(now) {
            let error = self.unanswered_open();
            if Some(worker) == self.control {
                self.log_failure(NO_CONNECTION, &error);
                self.keeper.unanswered(error.clone());
                self.answer_all(now, &error);
            } else {
                self.log_failure(NO_MORE_CONNECTIONS, &error);
            }
        }
    }

    pub(super) fn opened(&mut self, worker: WorkerId, opened: Opened, now: Instant) {
        let is_control = Some(worker) == self.control;
        match opened {
            Ok(greeting) => {
                self.pool.opened(worker, now);
                if is_control {
                    self.connected(greeting, now);
                }
            }
            Err(error) => {
                let error = if self.pool.is_overdue(worker) { self.unanswered_open() } else { error };
                self.pool.ended(worker);
                if is_control {
                    self.lose(error, now);
                } else if self.reading_worker == Some(worker) {
                    self.cannot_read(&error, now);
                } else {
                    self.workers_after = Some(now + Duration::from_secs(1));
                    self.log_failure(NO_MORE_CONNECTIONS, &error);
                }
            }
        }
    }

    /// The link stands, perhaps to another daemon than before.
    fn connected(&mut self, greeting: Greeting, now: Instant) {
        let Greeting { versions, hostname, unknown_events } = greeting;
        let uri = self.config.libvirt.uri.as_str();
        tracing::info!(uri, libvirt = versions.libvirt, hypervisor = versions.hypervisor, "connected");
        self.logged = None;
        self.versions = Some(versions);
        self.hostname = hostname;
        self.shortcomings = Shortcomings { unknown_events, ..Shortcomings::default() };
        self.agent_refused = false;
        self.planner.reset();
        self.keeper.opened();
        // Another libvirt may answer other groups.
        self.answers = Answers::default();
        self.relisting.want(Cause::Connect, now);
        // Whatever was read over the last connection may have changed since.
        self.read_all_definitions(now);
    }

    pub(super) fn unanswered_open(&self) -> LibvirtError {
        let seconds = OPEN_PATIENCE.as_secs();
        let mut message = format!(
            "no answer within {seconds} s: the daemon is frozen, or at its limit of clients, or its host is out of reach"
        );
        let connections = self.pool.connections();
        if connections > 0 {
            let _infallible = write!(message, "; this exporter has {connections} other connections");
        }
        let operation = format!("cannot open {} read-only", self.config.libvirt.uri.as_str());
        LibvirtError::own(operation, ErrorClass::TimedOut, message)
    }

    /// A worker's connection broke, or its thread has ended.
    pub(super) fn closed(&mut self, worker: WorkerId, now: Instant) {
        if Some(worker) == self.control {
            let error = LibvirtError::own("lost the connection to libvirt", ErrorClass::Disconnected, "it was closed");
            self.lose(error, now);
        } else if self.pool.is_idle(worker) {
            self.pool.let_go(worker);
            self.reading_worker.take_if(|reading| *reading == worker);
        }
    }

    /// Gives connections back that are not needed now: another program may wait for a place among the daemon's clients.
    pub(super) fn let_idle_go(&mut self, now: Instant) {
        let gone = self.pool.let_idle_go(now, self.config.collection.idle_timeout, self.control);
        self.reading_worker.take_if(|reading| gone.contains(reading));
    }

    /// The link is down: whoever waits is told, or waits for the reconnection that follows at once.
    pub(super) fn lose(&mut self, error: LibvirtError, now: Instant) {
        self.log_failure(NO_CONNECTION, &error);
        self.count_failure(&error);
        self.keeper.failed(error, now, chance());
        for worker in self.pool.ids() {
            self.pool.let_go(worker);
        }
        self.control = None;
        self.control_job = None;
        self.control_queue.clear();
        self.inactive_job = None;
        self.reading_worker = None;
        self.reading_after = None;
        self.reader.disconnected();
        self.relisting.disconnected();
        self.quarantine = Quarantine::default();
        self.waiting_calls = WaitingCalls::default();
        self.flights.values_mut().for_each(Flight::start_over);
        if let Some(error) = self.keeper.refusal(now) {
            self.answer_all(now, &error);
        }
    }

    pub(super) fn run_errand(&mut self, now: Instant) {
        if self.control_job.is_some() {
            return;
        }
        let Some(worker) = self.control.filter(|worker| self.pool.is_idle(*worker)) else { return };
        while let Some((errand, task)) = self.control_queue.pop_front() {
            // The flight may have ended meanwhile.
            if errand.flight().is_none_or(|flight| self.flights.contains_key(&flight)) {
                self.control_job = self.pool.give(worker, task).map(|job| (job, errand, now));
                return;
            }
        }
    }

    /// The connection for errands has brought something, if not yet the answer: that is no silence. In a storm of events,
    /// answers come late.
    pub(super) fn daemon_lives(&mut self, now: Instant) {
        if let Some((_, _, since)) = &mut self.control_job {
            *since = now;
        }
    }

    /// The daemon answers such questions without waiting for anything; if it does not, it is frozen.
    pub(super) fn notice_silence(&mut self, now: Instant) {
        let Some((_, _, since)) = self.control_job else { return };
        if now < since + self.control_patience() || !matches!(self.keeper.link, Link::Up) {
            return;
        }
        self.keeper.link = Link::Silent { since };
        if let Some(error) = self.keeper.refusal(now) {
            // The collections under way wait for their deadlines: the daemon may only be slow.
            self.log_failure("libvirt is silent", &error);
            self.count_failure(&error);
        }
    }

    pub(super) fn control_patience(&self) -> Duration {
        let half = |flight: &Flight| Some(flight.deadline()?.saturating_duration_since(flight.started) / 2);
        self.flights.values().filter_map(half).min().map_or(CONTROL_PATIENCE, |half| half.min(CONTROL_PATIENCE))
    }
}
