//! What is to be done at a time, even if no message comes: the only place that says when.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Scheduler;
use crate::collect::batch::Kind;
use crate::collect::message::WaiterId;
use crate::collect::pool::{JobId, WorkerId};
use crate::collect::run::{Run, RunId};
use crate::probes::Probe;

/// How long the daemon may take for what it serves at high priority and without any hypervisor.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the calls of other probes are waited for before another background worker is started.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(1);

/// Something to be done at a time; of several, the first in this order is done first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Try to connect again.
    Connect,
    /// End an open that hangs.
    OpenTimeout(WorkerId),
    /// Start workers again, after one could not connect.
    Workers,
    /// List the domains.
    Resync,
    /// Ask the daemon over another connection whether it answers.
    Ping,
    /// Take the daemon for silent.
    Silence,
    /// Answer the requests that can wait no longer for a run.
    Deadline(RunId),
    /// Look into a call that takes long.
    SlowCall(RunId, JobId),
    /// Ask the busy domains of a run no more.
    BusyEnd(RunId),
    /// Ask the busy domains of a run that are due.
    Busy(RunId),
    /// Have a run wait no longer for what is read in the background.
    Readings(RunId),
    /// Leave a background call alone, by its lane.
    BackgroundLimit(usize),
    /// Begin a background call.
    Background(usize),
    /// Answer a request for the set of domains that can wait no longer.
    DomainRequest(WaiterId),
    /// Give the connection of an idle worker back.
    Idle(WorkerId),
}

impl Scheduler {
    /// When something has to be done even if no message comes.
    pub(in crate::collect) fn next_wake(&self) -> Option<Instant> {
        self.timers().into_iter().map(|(_, at)| at).min()
    }

    /// Does what is due. Each timer once: what is due again at once is so in the next tick.
    pub(super) fn fire_timers(&mut self) {
        let mut fired = BTreeSet::new();
        while let Some(timer) = self.next_due(&fired) {
            fired.insert(timer);
            self.fire(timer);
        }
    }

    fn next_due(&self, fired: &BTreeSet<Timer>) -> Option<Timer> {
        let due = self.timers().into_iter().filter(|(_, at)| *at <= self.now.at);
        due.map(|(timer, _)| timer).filter(|timer| !fired.contains(timer)).min()
    }

    /// Every timer that is set.
    fn timers(&self) -> Vec<(Timer, Instant)> {
        let mut timers = Vec::new();
        let is_up = self.connection.is_up();
        timers.extend(self.connection.retry_at().map(|at| (Timer::Connect, at)));
        timers.extend(self.pool.open_timeouts().map(|(worker, at)| (Timer::OpenTimeout(worker), at)));
        let is_wanted = is_up && !self.runs.is_empty();
        timers.extend(self.workers_after.filter(|_| is_wanted).map(|at| (Timer::Workers, at)));
        timers.extend(self.resync.next_wake().filter(|_| is_up).map(|at| (Timer::Resync, at)));
        let silence = self.control.waits_since().map(|since| since + self.control_timeout());
        timers.extend(silence.filter(|_| is_up).map(|at| (Timer::Silence, at)));
        timers.extend(self.ping_at().map(|at| (Timer::Ping, at)));
        self.runs.values().for_each(|run| self.timers_of(run, &mut timers));
        if is_up && self.resync.is_listed() {
            for (number, lane) in self.background.lanes.iter().enumerate() {
                timers.extend(lane.limit(&self.config).map(|at| (Timer::BackgroundLimit(number), at)));
                let at = lane.next_call().and_then(|at| Some(at.max(self.worker_for(lane.probe)?)));
                timers.extend(at.map(|at| (Timer::Background(number), at)));
            }
        }
        timers.extend(self.domain_requests.iter().map(|of| (Timer::DomainRequest(of.waiter), of.deadline)));
        let timeout = self.config.collection.idle_timeout;
        timers.extend(self.pool.idle_since().map(|(worker, since)| (Timer::Idle(worker), since + timeout)));
        timers
    }

    fn timers_of(&self, run: &Run, timers: &mut Vec<(Timer, Instant)>) {
        let soft_deadline = run.soft_deadline(self.usual_call());
        timers.extend(run.deadline().map(|at| (Timer::Deadline(run.id), at)));
        timers.extend(run.readings_until.map(|at| (Timer::Readings(run.id), at)));
        // A call that waits for a job is expected to take long.
        for (job, running) in run.running.iter().filter(|(_, running)| running.batch.kind != Kind::Wait) {
            let at = running.since + soft_deadline * (running.checks + 1);
            timers.push((Timer::SlowCall(run.id, *job), at));
        }
        if self.connection.is_up() && !run.busy.is_empty() {
            timers.extend(run.busy_until().map(|at| (Timer::BusyEnd(run.id), at)));
            timers.extend(run.busy.due().map(|at| (Timer::Busy(run.id), at)));
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Connect => self.reconnect(),
            Timer::OpenTimeout(worker) => self.abort_open(worker),
            Timer::Workers => self.workers_after = None,
            Timer::Resync => self.list(),
            Timer::Ping => self.ping(),
            Timer::Silence => self.notice_silence(),
            Timer::Deadline(run) => self.answer_deadline(run),
            Timer::SlowCall(run, job) => self.look_into(run, job),
            Timer::BusyEnd(run) => self.give_up_busy(run),
            Timer::Busy(run) => self.ask_busy_again(run),
            Timer::Readings(run) => self.do_without_readings(run),
            Timer::BackgroundLimit(lane) => self.leave_background_call(lane),
            Timer::Background(lane) => self.begin_background_call(lane),
            Timer::DomainRequest(waiter) => self.answer_late_domain_request(waiter),
            Timer::Idle(worker) => self.dismiss(worker),
        }
    }

    /// How long the daemon may owe an answer that needs no hypervisor: half of the time that any run has, so that its
    /// requests are told the reason. One second at least: an impatient client must not cost others their scrapes.
    pub(super) fn control_timeout(&self) -> Duration {
        let half = |run: &Run| Some(run.deadline()?.saturating_duration_since(run.started) / 2);
        let most_impatient = self.runs.values().filter_map(half).min();
        most_impatient.map_or(CONTROL_TIMEOUT, |half| half.clamp(CONTROL_TIMEOUT / 2, CONTROL_TIMEOUT))
    }

    /// How long a call for a whole batch usually takes.
    fn usual_call(&self) -> Duration {
        self.usual.saturating_mul(u32::try_from(self.config.collection.batch_size).unwrap_or(u32::MAX))
    }

    /// When there is a background worker for the probe, or may be another one; `None` while one is being opened.
    fn worker_for(&self, probe: &Probe) -> Option<Instant> {
        let access = self.access_of(probe);
        if self.pool.idle_background(access).is_some() {
            return Some(self.now.at);
        }
        let at = self.pool.next_background(access, BACKGROUND_PATIENCE, self.now.at)?;
        Some(self.background_after.map_or(at, |after| after.max(at)))
    }
}
