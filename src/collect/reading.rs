//! When to read a domain's definition, or its addresses, and which first. Pure: the clock is an argument.
//!
//! Neither is ever waited for by a scrape. One is read at a time, definitions at most so many a second. A reading that
//! hangs is left alone; after a few of those nothing more is read until one of them returns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::pool::JobId;

/// Readings that may hang before nothing more is read.
const HUNG: usize = 2;
/// When a domain is looked at again that may not be asked now.
const LATER: Duration = Duration::from_secs(2);

/// What is read of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Where it can be reached.
    Addresses,
    /// Its XML.
    Definition,
}

/// A reading under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) job: JobId,
    pub(super) uuid: Uuid,
    pub(super) subject: Subject,
    pub(super) since: Instant,
}

/// What is to be read, and when.
#[derive(Debug)]
pub(super) struct Reader {
    addresses: Queue,
    definitions: Queue,
    /// The time between two definitions.
    pace: Duration,
    not_before: Option<Instant>,
    current: Option<Reading>,
    hung: BTreeSet<JobId>,
    /// Domains whose definition the daemon does not let this user read, and whether it leaves them out of statistics too.
    denied: BTreeMap<Uuid, bool>,
}

/// Domains by when they are due.
#[derive(Debug, Default)]
struct Queue {
    due: BTreeSet<(Instant, Uuid)>,
    when: HashMap<Uuid, Instant>,
}

impl Reader {
    /// At most `rate` definitions a second.
    pub(super) fn new(rate: usize) -> Self {
        Self {
            addresses: Queue::default(),
            definitions: Queue::default(),
            pace: pace(rate),
            not_before: None,
            current: None,
            hung: BTreeSet::new(),
            denied: BTreeMap::new(),
        }
    }

    /// At most `rate` definitions a second from now on. What is under way stays under way.
    pub(super) fn set_rate(&mut self, rate: usize) {
        self.pace = pace(rate);
    }

    /// Has it read at `at`, or earlier if that was wanted before.
    pub(super) fn want(&mut self, subject: Subject, uuid: Uuid, at: Instant) {
        let queue = match subject {
            Subject::Addresses => &mut self.addresses,
            Subject::Definition => &mut self.definitions,
        };
        queue.want(uuid, at);
    }

    /// Whether its definition is on the list.
    pub(super) fn expects_definition(&self, uuid: Uuid) -> bool {
        self.definitions.when.contains_key(&uuid)
    }

    /// Drops what is wanted of domains that are not `known`.
    pub(super) fn retain(&mut self, known: impl Fn(Uuid) -> bool) {
        self.addresses.retain(&known);
        self.definitions.retain(&known);
        self.denied.retain(|uuid, _| known(*uuid));
    }

    /// The daemon does not let this user read the domain's definition.
    pub(super) fn deny(&mut self, uuid: Uuid) {
        self.denied.entry(uuid).or_default();
    }

    /// The daemon lets this user read the domain.
    pub(super) fn allow(&mut self, uuid: Uuid) {
        self.denied.remove(&uuid);
    }

    /// The domain was left out of an answer. `Some` if that is because it must not be read, and whether that is news.
    pub(super) fn explain_silence(&mut self, uuid: Uuid) -> Option<bool> {
        self.denied.get_mut(&uuid).map(|silent| !std::mem::replace(silent, true))
    }

    /// Whether the domain must not be read, so that there is no use in asking for its statistics.
    pub(super) fn is_unreadable(&self, uuid: Uuid) -> bool {
        self.denied.get(&uuid).is_some_and(|silent| *silent)
    }

    /// The domains that must not be read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = Uuid> {
        self.denied.iter().filter(|(_, silent)| **silent).map(|(uuid, _)| *uuid)
    }

    /// How long so many definitions take at their rate.
    pub(super) fn time_for(&self, definitions: usize) -> Duration {
        self.pace.saturating_mul(u32::try_from(definitions).unwrap_or(u32::MAX))
    }

    /// What is to be read now, taken off the list. Domains that are not `allowed` come later.
    pub(super) fn next(&mut self, now: Instant, allowed: impl Fn(Subject, Uuid) -> bool) -> Option<(Subject, Uuid)> {
        if self.current.is_some() || self.is_blocked() {
            return None;
        }
        if let Some(uuid) = self.addresses.take(now, |uuid| allowed(Subject::Addresses, uuid)) {
            return Some((Subject::Addresses, uuid));
        }
        if self.not_before.is_some_and(|pace| pace > now) {
            return None;
        }
        let taken = self.definitions.take(now, |uuid| allowed(Subject::Definition, uuid));
        taken.map(|uuid| (Subject::Definition, uuid))
    }

    /// Whether so many readings hang that nothing more is read for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.hung.len() >= HUNG
    }

    /// The reading has begun.
    pub(super) fn began(&mut self, reading: Reading) {
        if reading.subject == Subject::Definition {
            self.not_before = Some(reading.since + self.pace);
        }
        self.current = Some(reading);
    }

    /// The job has ended; `Some` if it is the one under way.
    pub(super) fn ended(&mut self, job: JobId) -> Option<Reading> {
        self.hung.remove(&job);
        self.current.take_if(|reading| reading.job == job)
    }

    /// Gives up on the reading under way if it began more than `timeout` ago.
    pub(super) fn take_hung(&mut self, now: Instant, timeout: Duration) -> Option<Reading> {
        let hung = self.current.take_if(|reading| reading.since + timeout <= now)?;
        self.hung.insert(hung.job);
        Some(hung)
    }

    /// The connection is gone, and all that was under way with it.
    pub(super) fn disconnected(&mut self) {
        self.current = None;
        self.hung.clear();
        self.denied.clear();
    }

    /// When something has to be done: a reading to begin, or one to give up on.
    pub(super) fn next_wake(&self, timeout: Duration) -> Option<Instant> {
        if let Some(reading) = &self.current {
            return Some(reading.since + timeout);
        }
        if self.is_blocked() {
            return None;
        }
        let definition = self.definitions.first().map(|at| self.not_before.map_or(at, |pace| pace.max(at)));
        definition.into_iter().chain(self.addresses.first()).min()
    }
}

fn pace(rate: usize) -> Duration {
    Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX)
}

impl Queue {
    fn want(&mut self, uuid: Uuid, at: Instant) {
        if self.when.get(&uuid).is_none_or(|wanted| at < *wanted) {
            self.forget(uuid);
            self.when.insert(uuid, at);
            self.due.insert((at, uuid));
        }
    }

    fn take(&mut self, now: Instant, allowed: impl Fn(Uuid) -> bool) -> Option<Uuid> {
        while let Some(&(at, uuid)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, uuid));
            self.when.remove(&uuid);
            if allowed(uuid) {
                return Some(uuid);
            }
            self.want(uuid, now + LATER);
        }
        None
    }

    fn first(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn retain(&mut self, known: impl Fn(Uuid) -> bool) {
        self.due.retain(|(_, uuid)| known(*uuid));
        self.when.retain(|uuid, _| known(*uuid));
    }

    fn forget(&mut self, uuid: Uuid) {
        if let Some(at) = self.when.remove(&uuid) {
            self.due.remove(&(at, uuid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(job: JobId, uuid: Uuid, since: Instant) -> Reading {
        Reading { job, uuid, subject: Subject::Definition, since }
    }

    #[test]
    fn definitions_are_paced_and_addresses_are_not() {
        let (now, a, b) = (Instant::now(), Uuid::from_u128(1), Uuid::from_u128(2));
        let mut reader = Reader::new(10);
        for uuid in [a, b] {
            reader.want(Subject::Definition, uuid, now);
            reader.want(Subject::Addresses, uuid, now);
        }
        let everyone = |_, _| true;
        for uuid in [a, b] {
            assert_eq!(reader.next(now, everyone), Some((Subject::Addresses, uuid)));
        }
        assert_eq!(reader.next(now, everyone), Some((Subject::Definition, a)));
        reader.began(reading(1, a, now));
        assert_eq!(reader.next(now, everyone), None, "one at a time");
        assert!(reader.ended(1).is_some() && reader.ended(1).is_none());
        assert_eq!(reader.next(now, everyone), None, "ten a second");
        let then = now + Duration::from_millis(100);
        assert_eq!(reader.next_wake(Duration::from_secs(5)), Some(then));
        assert_eq!(reader.next(then, everyone), Some((Subject::Definition, b)));
    }

    #[test]
    fn who_may_not_be_asked_comes_later_and_who_is_wanted_twice_comes_once() {
        let (now, a) = (Instant::now(), Uuid::from_u128(1));
        let mut reader = Reader::new(50);
        reader.want(Subject::Definition, a, now + Duration::from_secs(60));
        reader.want(Subject::Definition, a, now);
        reader.want(Subject::Definition, a, now + Duration::from_secs(30));
        assert_eq!(reader.next(now, |_, _| false), None);
        assert_eq!(reader.next_wake(Duration::ZERO), Some(now + LATER));
        assert!(reader.next(now + LATER, |_, _| true).is_some());
        assert_eq!(reader.next_wake(Duration::ZERO), None);
    }

    #[test]
    fn a_domain_is_denied_until_it_can_be_read() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut reader = Reader::new(50);
        reader.deny(a);
        assert!(!reader.is_unreadable(a), "its statistics may come");
        assert_eq!((reader.explain_silence(b), reader.explain_silence(a)), (None, Some(true)));
        reader.deny(a);
        assert_eq!(reader.explain_silence(a), Some(false));
        assert!(reader.is_unreadable(a) && !reader.is_unreadable(b));
        assert_eq!(reader.unreadable().collect::<Vec<_>>(), [a]);
        reader.allow(a);
        assert!(!reader.is_unreadable(a));
        reader.deny(b);
        assert_eq!((reader.unreadable().count(), reader.explain_silence(b)), (0, Some(true)));
        reader.retain(|uuid| uuid == a);
        assert_eq!(reader.unreadable().count(), 0);
        assert_eq!(reader.time_for(100), Duration::from_secs(2));
    }

    #[test]
    fn after_two_that_hang_nothing_is_read_until_one_returns() {
        let (now, timeout) = (Instant::now(), Duration::from_secs(5));
        let mut reader = Reader::new(50);
        for job in 1..=2 {
            let uuid = Uuid::from_u128(u128::from(job));
            reader.began(reading(job, uuid, now));
            assert!(reader.take_hung(now, timeout).is_none());
            assert_eq!(reader.take_hung(now + timeout, timeout).map(|hung| hung.uuid), Some(uuid));
        }
        reader.want(Subject::Definition, Uuid::from_u128(3), now);
        let later = now + timeout;
        assert_eq!((reader.next(later, |_, _| true), reader.next_wake(timeout)), (None, None));
        assert!(reader.is_blocked());
        assert!(reader.ended(1).is_none(), "it was given up on");
        assert!(reader.next(later, |_, _| true).is_some());
    }
}
