//! Domains whose job another client held at the moment that a call asked for them: `NOWAIT` makes libvirt leave out what
//! needs the monitor, so they are asked again, for that alone. Pure: the clock and chance are arguments.
//!
//! Most jobs last milliseconds. The first tries therefore come soon and do not wait for the job; a domain that is still
//! busy then is asked by a call that waits for it, of which there are few at a time. Before the first try, before a call
//! waits, and while it does, the control state tells a busy domain from one whose monitor does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::pool::JobId;
use crate::libvirt::{ControlState, StatsGroups};

/// The pause before the first try; it doubles with each. Long enough for the other client to have moved on to another
/// domain, short beside a scrape.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(160);
/// Domains that are due within this time go into one call.
const TOGETHER: Duration = Duration::from_millis(10);
/// Tries before a call waits for the job.
const TRIES: u32 = 3;
/// Calls that may wait for a job at the same time. Each occupies a worker of ours and one of libvirtd's.
const MOST_WAITING: usize = 2;
/// Control states that are asked for at a time.
const CHECKED_AT_ONCE: usize = 128;
/// A monitor that is occupied by one command for so long is stuck rather than busy.
const LONG: Duration = Duration::from_secs(1);

/// How far a domain is that is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its control state has to be looked at first.
    Unchecked,
    /// It is asked again at that time.
    Due(Instant),
    /// A call that asks again is queued or under way.
    Asked,
    /// So is a call that waits for its job; its control state is looked at again at that time.
    Waiting(Instant),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    missing: StatsGroups,
    tries: u32,
    /// The pause before the next try.
    pause: Duration,
    stage: Stage,
}

/// How domains are asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Again {
    /// These domains without waiting.
    Now(StatsGroups, Vec<Uuid>),
    /// This domain in a call that waits for its job.
    Wait(StatsGroups, Uuid),
}

/// The busy domains of one collection.
#[derive(Debug, Default)]
pub(super) struct Busy {
    domains: BTreeMap<Uuid, Entry>,
    /// Those whose control states are being asked for.
    checking: BTreeSet<Uuid>,
    /// Whether none is asked again any more.
    closed: bool,
}

impl Busy {
    /// `uuid` was busy when it was asked for `missing`. `chance` from 0 to 1 spreads exporters that met each other.
    pub(super) fn note(&mut self, uuid: Uuid, missing: StatsGroups, now: Instant, chance: f64) {
        if self.closed {
            return;
        }
        let tries = self.domains.get(&uuid).map_or(0, |entry| entry.tries);
        let pause = pause(tries, chance);
        let stage = if tries == 0 || tries == TRIES { Stage::Unchecked } else { Stage::Due(now + pause) };
        self.domains.insert(uuid, Entry { missing, tries, pause, stage });
    }

    /// Domains whose control states have to be looked at before anything else, and can be.
    pub(super) fn has_unchecked(&self) -> bool {
        self.checking.is_empty() && self.domains.values().any(|entry| entry.stage == Stage::Unchecked)
    }

    /// `uuid` is asked no more.
    pub(super) fn remove(&mut self, uuid: Uuid) {
        self.domains.remove(&uuid);
    }

    /// No domain is asked again from now on. Gives those that were to be.
    pub(super) fn close(&mut self) -> Vec<Uuid> {
        self.closed = true;
        std::mem::take(&mut self.domains).into_keys().collect()
    }

    /// Whether no domain is asked again.
    pub(super) fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// When the next call, or look at a control state, is due; `None` while a message has to come first.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = |entry: &Entry| match entry.stage {
            Stage::Due(at) => Some(at),
            Stage::Waiting(at) if self.checking.is_empty() => Some(at),
            _ => None,
        };
        self.domains.values().filter_map(due).min()
    }

    /// The domains whose control states have to be looked at now; the caller asks for them, unless there are none.
    pub(super) fn take_unchecked(&mut self, now: Instant) -> Vec<Uuid> {
        if !self.checking.is_empty() {
            return Vec::new();
        }
        let is_due = |entry: &Entry| match entry.stage {
            Stage::Unchecked => true,
            Stage::Waiting(at) => at <= now,
            Stage::Due(_) | Stage::Asked => false,
        };
        let unchecked = self.domains.iter().filter(|(_, entry)| is_due(entry)).map(|(uuid, _)| *uuid);
        self.checking = unchecked.take(CHECKED_AT_ONCE).collect();
        self.checking.iter().copied().collect()
    }

    /// The control states have come. Gives the domains whose monitor is stuck, and for how long it has been where that is
    /// known: they are asked no more. One without a state has stopped, which the next call tells.
    pub(super) fn checked(&mut self, states: &[(Uuid, ControlState)], now: Instant) -> Vec<(Uuid, Option<Duration>)> {
        let looked_at = std::mem::take(&mut self.checking);
        let stuck = |(uuid, state): &(Uuid, ControlState)| match state {
            ControlState::Occupied(since) if *since >= LONG => Some((*uuid, Some(*since))),
            ControlState::Error => Some((*uuid, None)),
            _ => None,
        };
        let stuck: Vec<_> = states.iter().filter_map(stuck).collect();
        stuck.iter().for_each(|(uuid, _)| self.remove(*uuid));
        for uuid in looked_at {
            if let Some(entry) = self.domains.get_mut(&uuid) {
                entry.stage = match entry.stage {
                    Stage::Unchecked => Stage::Due(now + entry.pause),
                    Stage::Waiting(_) => Stage::Waiting(now + LONG),
                    stage => stage,
                };
            }
        }
        stuck
    }

    /// The calls that are due now. A domain that was busy to the end of the last collection, and so for long, is given up
    /// after the first tries.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        calls: &WaitingCalls,
        is_long: impl Fn(Uuid) -> bool,
    ) -> Vec<Again> {
        let is_due = |at: Option<Instant>, slack| at.is_some_and(|at| at <= now + slack);
        let due = |entry: &Entry| if let Stage::Due(at) = entry.stage { Some(at) } else { None };
        if !self.domains.values().any(|entry| is_due(due(entry), Duration::ZERO)) {
            return Vec::new();
        }
        self.domains.retain(|uuid, entry| entry.tries < TRIES || !is_due(due(entry), TOGETHER) || !is_long(*uuid));
        let mut together: BTreeMap<StatsGroups, Vec<Uuid>> = BTreeMap::new();
        let mut again = Vec::new();
        for (uuid, entry) in self.domains.iter_mut().filter(|(_, entry)| is_due(due(entry), TOGETHER)) {
            entry.tries += 1;
            if entry.tries == TRIES + 1 && calls.may_wait(*uuid, again.len()) {
                entry.stage = Stage::Waiting(now + LONG);
                again.push(Again::Wait(entry.missing, *uuid));
            } else {
                entry.stage = Stage::Asked;
                together.entry(entry.missing).or_default().push(*uuid);
            }
            // One that no call waits for yet is checked again, and may be waited for next time.
            if entry.tries > TRIES {
                entry.tries = TRIES;
            }
        }
        again.extend(together.into_iter().map(|(missing, domains)| Again::Now(missing, domains)));
        again
    }
}

fn pause(tries: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE);
    doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0))
}

/// Calls that wait for the job of a domain, over all collections.
#[derive(Debug, Default)]
pub(super) struct WaitingCalls {
    /// By call: its domain, and when it began.
    calls: BTreeMap<JobId, (Uuid, Instant)>,
}

impl WaitingCalls {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether a call may wait for the job of `uuid`, beside `more` that are about to.
    pub(super) fn may_wait(&self, uuid: Uuid, more: usize) -> bool {
        self.calls.len() + more < MOST_WAITING && !self.calls.values().any(|(of, _)| *of == uuid)
    }

    /// Call number `job` waits for the job of `uuid`.
    pub(super) fn begin(&mut self, job: JobId, uuid: Uuid, now: Instant) {
        self.calls.insert(job, (uuid, now));
    }

    /// Call number `job` has ended; whether it was one of these.
    pub(super) fn ended(&mut self, job: JobId) -> bool {
        self.calls.remove(&job).is_some()
    }

    /// Takes the call for `uuid` if it is what has occupied the monitor for so long: it got the job, and hangs.
    pub(super) fn take_stuck(&mut self, uuid: Uuid, occupied: Duration, now: Instant) -> Option<JobId> {
        let is_it = |(of, since): &(Uuid, Instant)| *of == uuid && now.saturating_duration_since(*since) >= occupied;
        let job = self.calls.iter().find_map(|(job, call)| is_it(call).then_some(*job))?;
        self.calls.remove(&job);
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: StatsGroups = StatsGroups::BLOCK;
    const NEVER_LONG: fn(Uuid) -> bool = |_| false;

    fn uuid(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn after(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    /// Each domain's control state has been looked at.
    fn check(busy: &mut Busy, now: Instant) {
        let states: Vec<_> = busy.take_unchecked(now).into_iter().map(|uuid| (uuid, ControlState::Ok)).collect();
        assert!(busy.checked(&states, now).is_empty());
    }

    #[test]
    fn all_that_are_busy_at_a_moment_are_asked_in_one_call() {
        let now = Instant::now();
        let (mut busy, calls) = (Busy::default(), WaitingCalls::default());
        busy.note(uuid(1), BLOCK, now, 0.5);
        busy.note(uuid(2), BLOCK, now, 0.75);
        busy.note(uuid(3), StatsGroups::VM, now, 0.5);
        assert_eq!(busy.due(), None, "their control states come first");
        check(&mut busy, now);
        assert_eq!(busy.due(), Some(after(now, 20)));
        assert!(busy.take_due(after(now, 19), &calls, NEVER_LONG).is_empty());
        let again = busy.take_due(after(now, 20), &calls, NEVER_LONG);
        assert_eq!(again, [Again::Now(BLOCK, vec![uuid(1), uuid(2)]), Again::Now(StatsGroups::VM, vec![uuid(3)])]);
        assert_eq!(busy.due(), None, "they are under way");
        busy.remove(uuid(1));
        busy.note(uuid(2), BLOCK, after(now, 30), 0.0);
        assert_eq!(busy.due(), Some(after(now, 50)));
        assert_eq!(busy.close(), [uuid(2), uuid(3)]);
        busy.note(uuid(2), BLOCK, now, 0.5);
        assert!(busy.is_empty() && busy.due().is_none());
    }

    #[test]
    fn a_domain_that_is_checked_while_another_is_asked_is_asked_next() {
        let now = Instant::now();
        let (mut busy, calls) = (Busy::default(), WaitingCalls::default());
        busy.note(uuid(1), BLOCK, now, 0.5);
        check(&mut busy, now);
        busy.note(uuid(2), BLOCK, after(now, 15), 0.5);
        assert_eq!(busy.take_unchecked(after(now, 15)), [uuid(2)]);
        busy.note(uuid(3), BLOCK, after(now, 16), 0.5);
        assert_eq!(busy.take_due(after(now, 20), &calls, NEVER_LONG), [Again::Now(BLOCK, vec![uuid(1)])]);
        assert!(busy.checked(&[], after(now, 21)).is_empty());
        assert_eq!(busy.due(), Some(after(now, 41)));
        assert_eq!(busy.take_unchecked(after(now, 21)), [uuid(3)], "it was not among those that were looked at");
    }

    #[test]
    fn a_domain_whose_monitor_is_stuck_is_asked_no_more() {
        let now = Instant::now();
        let mut busy = Busy::default();
        (1..=4).for_each(|number| busy.note(uuid(number), BLOCK, now, 0.5));
        busy.take_unchecked(now);
        let states = [
            (uuid(1), ControlState::Occupied(LONG)),
            (uuid(2), ControlState::Error),
            (uuid(3), ControlState::Occupied(LONG / 2)),
            (uuid(4), ControlState::Job),
        ];
        assert_eq!(busy.checked(&states, now), [(uuid(1), Some(LONG)), (uuid(2), None)]);
        assert_eq!(busy.close(), [uuid(3), uuid(4)]);
    }

    #[test]
    fn after_some_tries_calls_wait_and_there_are_few_of_them() {
        let mut now = Instant::now();
        let (mut busy, mut calls) = (Busy::default(), WaitingCalls::default());
        let domains: Vec<Uuid> = (1..=4).map(uuid).collect();
        for _ in 0..TRIES {
            domains.iter().for_each(|uuid| busy.note(*uuid, BLOCK, now, 0.5));
            check(&mut busy, now);
            now += LONGEST_PAUSE;
            assert_eq!(busy.take_due(now, &calls, NEVER_LONG), [Again::Now(BLOCK, domains.clone())]);
        }
        domains.iter().for_each(|uuid| busy.note(*uuid, BLOCK, now, 0.5));
        assert_eq!(busy.due(), None, "they are looked at again first");
        check(&mut busy, now);
        now += LONGEST_PAUSE;
        let again = busy.take_due(now, &calls, NEVER_LONG);
        assert_eq!(again[..2], [1, 2].map(|number| Again::Wait(BLOCK, uuid(number))));
        assert_eq!(again[2..], [Again::Now(BLOCK, vec![uuid(3), uuid(4)])]);
        (1..=2).for_each(|number| calls.begin(u64::try_from(number).expect("small"), uuid(number), now));
        // A call that waits may get the job and hang.
        assert_eq!(busy.due(), Some(now + LONG));
        assert!(busy.take_unchecked(now).is_empty());
        assert_eq!(busy.take_unchecked(now + LONG), [uuid(1), uuid(2)]);
        let states = [(uuid(1), ControlState::Occupied(LONG)), (uuid(2), ControlState::Job)];
        assert_eq!(busy.checked(&states, now + LONG), [(uuid(1), Some(LONG))]);
        assert_eq!(calls.take_stuck(uuid(1), LONG, now + LONG), Some(1));
        assert_eq!(calls.take_stuck(uuid(2), LONG * 2, now + LONG), None, "another client's command");
    }

    #[test]
    fn a_domain_that_is_busy_for_long_is_given_up_after_the_first_tries() {
        let mut now = Instant::now();
        let (mut busy, mut calls) = (Busy::default(), WaitingCalls::default());
        for _ in 0..TRIES {
            busy.note(uuid(1), BLOCK, now, 0.5);
            check(&mut busy, now);
            now += LONGEST_PAUSE;
            assert_eq!(busy.take_due(now, &calls, NEVER_LONG).len(), 1);
        }
        busy.note(uuid(1), BLOCK, now, 0.5);
        check(&mut busy, now);
        assert!(busy.take_due(now + LONGEST_PAUSE, &calls, |_| true).is_empty() && busy.is_empty());
        assert!(calls.may_wait(uuid(1), 0));
        calls.begin(7, uuid(1), now);
        assert!(!calls.may_wait(uuid(1), 0) && calls.may_wait(uuid(2), 0) && !calls.may_wait(uuid(2), 1));
        assert!(calls.ended(7) && !calls.ended(7) && calls.len() == 0);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread() {
        assert_eq!(pause(0, 0.5), FIRST_PAUSE);
        assert_eq!(pause(0, 0.0), FIRST_PAUSE / 2);
        assert_eq!(pause(1, 0.5), FIRST_PAUSE * 2);
        assert_eq!(pause(40, 1.0), LONGEST_PAUSE.mul_f64(1.5));
    }
}
