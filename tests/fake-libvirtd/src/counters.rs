//! What clients asked: every call with its procedure, connection, flags, duration and outcome.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::procedure::Procedure;

/// How many calls are remembered one by one; older ones live on in the sums.
const REMEMBERED: usize = 100_000;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not been answered (yet).
    Pending,
    /// With success.
    Ok,
    /// With this error code.
    Error(i32),
}

/// One call of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// The number of the connection, in the order of acceptance, from 1.
    pub connection: u64,
    /// The procedure.
    pub procedure: Procedure,
    /// When it arrived, counted from the start of the daemon.
    pub at: Duration,
    /// The stats groups of a bulk call; 0 is "all".
    pub stats: Option<u32>,
    /// The flags of a bulk call or listing.
    pub flags: Option<u32>,
    /// How many domains a bulk call names; 0 is "all".
    pub domains: Option<usize>,
    /// From arrival until the reply was written; `None` while it was not.
    pub duration: Option<Duration>,
    /// Bytes of the reply.
    pub reply_bytes: usize,
    /// How it ended.
    pub outcome: Outcome,
}

/// What one connection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Calls by procedure.
    pub calls: BTreeMap<Procedure, u64>,
    /// The most calls it had under way.
    pub concurrent_max: usize,
    /// Keepalive pings it sent.
    pub pings: u64,
    /// Answers to the daemon's pings.
    pub pongs: u64,
    /// Whether it was opened read-only.
    pub read_only: bool,
    /// Whether it has ended.
    pub closed: bool,
    under_way: usize,
}

#[derive(Debug, Default)]
struct Sums {
    calls: HashMap<Procedure, u64>,
    answered: HashMap<Procedure, u64>,
    log: VecDeque<CallRecord>,
    /// The number of the first call in the log.
    first: u64,
    connections: BTreeMap<u64, ConnectionRecord>,
    last_connection: u64,
    under_way: usize,
    concurrent_max: usize,
    stats_under_way: usize,
    stats_concurrent_max: usize,
    events_sent: u64,
}

/// Names a call between its beginning and its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallId {
    number: u64,
    connection: u64,
    procedure: Procedure,
    began: Instant,
}

/// The counters of a daemon.
#[derive(Debug)]
pub struct Counters {
    started: Instant,
    sums: Mutex<Sums>,
    changed: Condvar,
}

impl Counters {
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, sums: Mutex::default(), changed: Condvar::new() }
    }

    /// How often a procedure was called.
    #[must_use]
    pub fn calls(&self, procedure: Procedure) -> u64 {
        self.sums.lock().calls.get(&procedure).copied().unwrap_or(0)
    }

    /// How often a procedure was answered, with success or an error.
    #[must_use]
    pub fn answered(&self, procedure: Procedure) -> u64 {
        let sums = self.sums.lock();
        sums.answered.get(&procedure).copied().unwrap_or(0)
    }

    /// Calls of all procedures.
    #[must_use]
    pub fn total_calls(&self) -> u64 {
        self.sums.lock().calls.values().sum()
    }

    /// Every procedure called, and how often.
    #[must_use]
    pub fn by_procedure(&self) -> BTreeMap<Procedure, u64> {
        let sums = self.sums.lock();
        sums.calls.iter().map(|(&name, &count)| (name, count)).collect()
    }

    /// The latest calls, oldest first; up to 100,000 of them.
    #[must_use]
    pub fn log(&self) -> Vec<CallRecord> {
        self.sums.lock().log.iter().cloned().collect()
    }

    /// The latest calls of one procedure, oldest first.
    #[must_use]
    pub fn log_of(&self, procedure: Procedure) -> Vec<CallRecord> {
        let sums = self.sums.lock();
        let calls = sums.log.iter().filter(|call| call.procedure == procedure);
        calls.cloned().collect()
    }

    /// All connections since the start, by number.
    #[must_use]
    pub fn connections(&self) -> BTreeMap<u64, ConnectionRecord> {
        self.sums.lock().connections.clone()
    }

    /// Connections that are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let sums = self.sums.lock();
        sums.connections.values().filter(|one| !one.closed).count()
    }

    /// The most calls that were under way at one time.
    #[must_use]
    pub fn concurrent_max(&self) -> usize {
        self.sums.lock().concurrent_max
    }

    /// The most bulk statistics calls that were under way at one time.
    #[must_use]
    pub fn concurrent_stats_max(&self) -> usize {
        self.sums.lock().stats_concurrent_max
    }

    /// Bulk statistics calls under way.
    #[must_use]
    pub fn stats_under_way(&self) -> usize {
        self.sums.lock().stats_under_way
    }

    /// Event messages sent, to all clients together.
    #[must_use]
    pub fn events_sent(&self) -> u64 {
        self.sums.lock().events_sent
    }

    /// Forgets calls and maxima; open connections stay.
    pub fn reset(&self) {
        let mut sums = self.sums.lock();
        sums.calls.clear();
        sums.answered.clear();
        sums.first += u64::try_from(sums.log.len()).unwrap_or(0);
        sums.log.clear();
        sums.concurrent_max = sums.under_way;
        sums.stats_concurrent_max = sums.stats_under_way;
        sums.events_sent = 0;
        sums.connections.retain(|_, connection| !connection.closed);
        for connection in sums.connections.values_mut() {
            connection.calls.clear();
            connection.concurrent_max = connection.under_way;
            (connection.pings, connection.pongs) = (0, 0);
        }
    }

    /// Waits until the counters satisfy a condition, which is tried again after every change; `false` if they did not in time.
    pub fn wait_until(&self, timeout: Duration, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if condition(self) {
                return true;
            }
            let mut sums = self.sums.lock();
            // A change between the look and the lock is caught by the short wait.
            let until = deadline.min(Instant::now() + Duration::from_millis(20));
            self.changed.wait_until(&mut sums, until);
            if Instant::now() >= deadline {
                drop(sums);
                return condition(self);
            }
        }
    }

    /// The number of a new connection.
    pub(crate) fn next_connection(&self) -> u64 {
        let mut sums = self.sums.lock();
        sums.last_connection += 1;
        let number = sums.last_connection;
        sums.connections.insert(number, ConnectionRecord::default());
        drop(sums);
        self.changed.notify_all();
        number
    }

    /// Changes the counts of a connection.
    pub(crate) fn connection(&self, connection: u64, change: impl FnOnce(&mut ConnectionRecord)) {
        change(self.sums.lock().connections.entry(connection).or_default());
        self.changed.notify_all();
    }

    pub(crate) fn events_sent_more(&self, messages: usize) {
        self.sums.lock().events_sent += u64::try_from(messages).unwrap_or(0);
        self.changed.notify_all();
    }

    pub(crate) fn begin(&self, connection: u64, procedure: Procedure) -> CallId {
        let began = Instant::now();
        let mut sums = self.sums.lock();
        *sums.calls.entry(procedure).or_default() += 1;
        sums.under_way += 1;
        sums.concurrent_max = sums.concurrent_max.max(sums.under_way);
        if procedure == Procedure::ConnectGetAllDomainStats {
            sums.stats_under_way += 1;
            sums.stats_concurrent_max = sums.stats_concurrent_max.max(sums.stats_under_way);
        }
        let record = sums.connections.entry(connection).or_default();
        *record.calls.entry(procedure).or_default() += 1;
        record.under_way += 1;
        record.concurrent_max = record.concurrent_max.max(record.under_way);
        if sums.log.len() == REMEMBERED {
            sums.log.pop_front();
            sums.first += 1;
        }
        let number = sums.first + u64::try_from(sums.log.len()).unwrap_or(0);
        sums.log.push_back(CallRecord {
            connection,
            procedure,
            at: began - self.started,
            stats: None,
            flags: None,
            domains: None,
            duration: None,
            reply_bytes: 0,
            outcome: Outcome::Pending,
        });
        self.changed.notify_all();
        CallId { number, connection, procedure, began }
    }

    /// Notes what a call asks for.
    pub(crate) fn describe(&self, call: CallId, change: impl FnOnce(&mut CallRecord)) {
        if let Some(record) = self.sums.lock().record(call) {
            change(record);
        }
    }

    /// Notes that a call is over: answered, or given up with its outcome still pending.
    pub(crate) fn end(&self, call: CallId, reply: Option<(usize, Outcome)>) {
        let mut sums = self.sums.lock();
        sums.under_way = sums.under_way.saturating_sub(1);
        if call.procedure == Procedure::ConnectGetAllDomainStats {
            sums.stats_under_way = sums.stats_under_way.saturating_sub(1);
        }
        if let Some(record) = sums.connections.get_mut(&call.connection) {
            record.under_way = record.under_way.saturating_sub(1);
        }
        if reply.is_some() {
            *sums.answered.entry(call.procedure).or_default() += 1;
        }
        if let (Some((bytes, outcome)), Some(record)) = (reply, sums.record(call)) {
            record.duration = Some(call.began.elapsed());
            record.reply_bytes = bytes;
            record.outcome = outcome;
        }
        drop(sums);
        self.changed.notify_all();
    }
}

impl Sums {
    fn record(&mut self, call: CallId) -> Option<&mut CallRecord> {
        let index = call.number.checked_sub(self.first)?;
        self.log.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Outcome};
    use crate::procedure::Procedure::{ConnectGetAllDomainStats, DomainGetXmlDesc};
    use std::time::{Duration, Instant};

    #[test]
    fn calls_are_counted_and_their_maximum_kept() {
        let counters = Counters::new(Instant::now());
        counters.next_connection();
        let first = counters.begin(1, ConnectGetAllDomainStats);
        let second = counters.begin(1, ConnectGetAllDomainStats);
        counters.describe(second, |call| call.flags = Some(7));
        counters.end(first, Some((100, Outcome::Ok)));
        counters.end(second, None);
        assert_eq!(counters.calls(ConnectGetAllDomainStats), 2);
        assert_eq!(counters.calls(DomainGetXmlDesc), 0);
        assert_eq!((counters.concurrent_max(), counters.stats_under_way()), (2, 0));
        let log = counters.log();
        assert_eq!((log[0].reply_bytes, log[0].outcome), (100, Outcome::Ok));
        assert_eq!((log[1].flags, log[1].outcome), (Some(7), Outcome::Pending));
    }

    #[test]
    fn a_call_that_began_before_a_reset_ends_quietly() {
        let counters = Counters::new(Instant::now());
        let call = counters.begin(1, DomainGetXmlDesc);
        counters.reset();
        counters.begin(1, DomainGetXmlDesc);
        counters.end(call, Some((5, Outcome::Ok)));
        assert_eq!(counters.log()[0].outcome, Outcome::Pending);
        assert_eq!(counters.total_calls(), 1);
    }

    #[test]
    fn waiting_ends_with_the_condition_or_the_time() {
        let counters = Counters::new(Instant::now());
        assert!(!counters.wait_until(Duration::from_millis(5), |all| all.total_calls() > 0));
        counters.begin(1, DomainGetXmlDesc);
        assert!(counters.wait_until(Duration::ZERO, |all| all.total_calls() > 0));
    }
}
