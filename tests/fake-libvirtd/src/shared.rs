//! What all threads of a daemon share, and how they wait for it to change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use uuid::Uuid;

use crate::connection::Connection;
use crate::counters::Counters;
use crate::domains::DomainSet;
use crate::event::{Event, Identity};
use crate::fault::{DomainFaults, FaultState, Times};
use crate::scenario::{Clock, Host, Limits, Scenario};

/// What threads wait on. Every change wakes all of them; there are few, and changes are rare.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Grows when the daemon is killed; whatever an earlier generation waits for has ended.
    pub(crate) generation: u64,
    pub(crate) faults: FaultState,
    pub(crate) open_clients: usize,
    jobs: HashMap<Uuid, Instant>,
    busy_workers: u32,
    pub(crate) before_stats: Vec<(Identity, Event)>,
    pub(crate) after_stats: Vec<(Identity, Event)>,
}

/// The daemon without its threads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) limits: Limits,
    pub(crate) started: Instant,
    pub(crate) counters: Counters,
    pub(crate) connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    domains: RwLock<Arc<DomainSet>>,
    clock: Clock,
    /// Nanoseconds that the clock was set forward.
    advanced: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

/// How a call may go on with a domain whose monitor it wants.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The job is had (and given back already: nothing in this daemon needs it longer than a fault lasts).
    Full(DomainFaults),
    /// The job is held by another call.
    Busy(DomainFaults),
    /// The daemon has been killed meanwhile.
    Gone,
}

impl Shared {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut domains = DomainSet::default();
        // Ids that the scenario fixes come first, so that none is given twice.
        let fixed = scenario.domains.iter().filter_map(|domain| domain.id);
        domains.reserve_ids(fixed.max().unwrap_or(0));
        for domain in scenario.domains {
            domains.insert(domain);
        }
        let started = Instant::now();
        Self {
            host: scenario.host,
            limits: scenario.limits,
            started,
            counters: Counters::new(started),
            connections: Mutex::default(),
            threads: Mutex::default(),
            domains: RwLock::new(Arc::new(domains)),
            clock: scenario.clock,
            advanced: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The domains as they are now; later changes do not show in it.
    pub(crate) fn domains(&self) -> Arc<DomainSet> {
        Arc::clone(&self.domains.read())
    }

    /// Changes the set of domains.
    pub(crate) fn change_domains<T>(&self, change: impl FnOnce(&mut DomainSet) -> T) -> T {
        change(Arc::make_mut(&mut self.domains.write()))
    }

    /// Sets the clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.advanced.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The time of the scenario's clock for a bulk call.
    pub(crate) fn clock_for_call(&self) -> Duration {
        if let Clock::PerCall(step) = self.clock {
            self.advance(step);
        }
        self.clock_now()
    }

    /// The time of the scenario's clock.
    pub(crate) fn clock_now(&self) -> Duration {
        let advanced = Duration::from_nanos(self.advanced.load(Ordering::Relaxed));
        if self.clock == Clock::Time { advanced + self.started.elapsed() } else { advanced }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Changes the state and wakes the threads that wait for it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.notify_all();
        result
    }

    /// Waits while a condition holds; `false` where the daemon was killed first.
    pub(crate) fn wait_while(&self, generation: u64, mut condition: impl FnMut(&State) -> bool) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.generation != generation {
                return false;
            }
            if !condition(&state) {
                return true;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits until a daemon that is stopped goes on; `false` where it was killed first.
    pub(crate) fn thawed(&self, generation: u64) -> bool {
        self.wait_while(generation, |state| state.faults.frozen)
    }

    /// Sleeps; `false` where the daemon was killed first.
    pub(crate) fn sleep(&self, generation: u64, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state.lock();
        while state.generation == generation {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return state.generation == generation;
            }
        }
        false
    }

    /// Sleeps while a condition holds, looked at every 20 ms; `false` where the daemon was killed or the condition ended first.
    pub(crate) fn sleep_while(&self, generation: u64, time: Duration, holds: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if !holds() || !self.sleep(generation, left.min(Duration::from_millis(20))) {
                return false;
            }
        }
    }

    /// Takes one of the workers for calls without priority, if one is free.
    pub(crate) fn try_take_worker(&self) -> bool {
        let mut state = self.state.lock();
        let free = state.busy_workers < self.limits.max_workers;
        state.busy_workers += u32::from(free);
        free
    }

    /// Waits for such a worker; `false` where the daemon was killed first.
    pub(crate) fn take_worker(&self, generation: u64) -> bool {
        loop {
            if self.try_take_worker() {
                return true;
            }
            let limit = self.limits.max_workers;
            if !self.wait_while(generation, |state| state.busy_workers >= limit) {
                return false;
            }
        }
    }

    /// Gives a worker back.
    pub(crate) fn give_worker_back(&self) {
        self.change(|state| state.busy_workers = state.busy_workers.saturating_sub(1));
    }

    /// Since when a call has been in the monitor of a domain.
    pub(crate) fn job_since(&self, uuid: Uuid) -> Option<Instant> {
        self.state.lock().jobs.get(&uuid).copied()
    }

    /// The faults of a domain.
    pub(crate) fn domain_faults(&self, name: &str) -> DomainFaults {
        let state = self.state.lock();
        state.faults.domains.get(name).cloned().unwrap_or_default()
    }

    /// Enters the monitor of a domain: waits for its job if it is held and `nowait` is not set, then serves the domain's
    /// delay or hang.
    pub(crate) fn enter_monitor(&self, generation: u64, name: &str, uuid: Uuid, nowait: bool) -> Admission {
        let mut state = self.state.lock();
        if let Some(admission) = self.wait_for_job(&mut state, generation, name, uuid, nowait) {
            return admission;
        }
        let faults = state.faults_of(name);
        if !faults.hung && faults.delay.is_zero() {
            return Admission::Full(faults);
        }
        let entered = Instant::now();
        state.jobs.insert(uuid, entered);
        let slow_until = entered + faults.delay;
        let alive = loop {
            if state.generation != generation {
                break false;
            }
            if state.faults_of(name).hung {
                self.changed.wait(&mut state);
            } else if Instant::now() < slow_until {
                self.changed.wait_until(&mut state, slow_until);
            } else {
                break true;
            }
        };
        state.jobs.remove(&uuid);
        let faults = state.faults_of(name);
        drop(state);
        self.changed.notify_all();
        if alive { Admission::Full(faults) } else { Admission::Gone }
    }

    /// Takes the job of a domain for a moment, without its monitor: waits while it is held.
    pub(crate) fn take_job(&self, generation: u64, name: &str, uuid: Uuid) -> Admission {
        let mut state = self.state.lock();
        let admission = self.wait_for_job(&mut state, generation, name, uuid, false);
        admission.unwrap_or_else(|| Admission::Full(state.faults_of(name)))
    }

    /// `None` once the job of a domain is free.
    fn wait_for_job(
        &self,
        state: &mut MutexGuard<'_, State>,
        generation: u64,
        name: &str,
        uuid: Uuid,
        nowait: bool,
    ) -> Option<Admission> {
        let give_up = Instant::now() + self.limits.job_wait;
        if nowait && state.finds_busy(name) {
            return Some(Admission::Busy(state.faults_of(name)));
        }
        while state.jobs.contains_key(&uuid) || (!nowait && state.is_always_busy(name)) {
            if state.generation != generation {
                return Some(Admission::Gone);
            }
            let timed_out = nowait || self.changed.wait_until(state, give_up).timed_out();
            if timed_out && (state.jobs.contains_key(&uuid) || state.is_always_busy(name)) {
                return Some(Admission::Busy(state.faults_of(name)));
            }
        }
        (state.generation != generation).then_some(Admission::Gone)
    }
}

impl State {
    /// Whether another client holds the job of a domain at this moment, counted off.
    fn finds_busy(&mut self, name: &str) -> bool {
        let busy = self.faults.domains.get_mut(name).and_then(|faults| faults.busy.as_mut());
        busy.is_some_and(Times::take)
    }

    fn is_always_busy(&self, name: &str) -> bool {
        self.faults.domains.get(name).is_some_and(|faults| faults.busy == Some(Times::Always))
    }

    fn faults_of(&self, name: &str) -> DomainFaults {
        if self.faults.domains.is_empty() {
            return DomainFaults::default();
        }
        self.faults.domains.get(name).cloned().unwrap_or_default()
    }
}
