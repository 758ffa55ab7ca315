//! Domains whose job another client held at the moment that a call asked for them: `NOWAIT` makes libvirt leave out what
//! needs the monitor, so they are asked again, for that alone. Pure: the clock and chance are arguments.
//!
//! Most jobs last milliseconds. The first tries therefore come soon and do not wait for the job; a domain that is still
//! busy then is asked by a call that waits for it, of which there are few at a time.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::pool::JobId;
use crate::libvirt::{ControlState, StatsGroups};

/// The pause before the first try; it doubles with each. Long enough for the other client to have moved on to another
/// domain, short beside a scrape.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(160);
/// Tries before a call waits for the job.
const TRIES: u32 = 3;
/// Calls that may wait for a job at the same time. Each occupies a worker of ours and one of libvirtd's.
const WAITING_CALLS: usize = 2;
/// A monitor that is occupied by one command for so long is not busy for a moment.
const LONG: Duration = Duration::from_secs(1);

/// One domain that is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    missing: StatsGroups,
    tries: u32,
    /// Whether a call that asks again is queued or under way.
    asked: bool,
    /// Whether its control state has been looked at since the last change of how it is asked.
    checked: bool,
}

/// How a domain is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Again {
    /// These domains in one call that does not wait.
    Now(StatsGroups, Vec<Uuid>),
    /// This domain in a call that waits for its job.
    Wait(StatsGroups, Uuid),
}

/// The busy domains of one collection.
#[derive(Debug, Default)]
pub(super) struct Busy {
    domains: BTreeMap<Uuid, Entry>,
    due: Option<Instant>,
    /// Whether the control states of some are being asked for.
    checking: bool,
    /// Whether none is asked again any more.
    closed: bool,
}

impl Busy {
    /// `uuid` was busy when it was asked for `missing`. `chance` from 0 to 1 spreads exporters that met each other.
    pub(super) fn note(&mut self, uuid: Uuid, missing: StatsGroups, now: Instant, chance: f64) {
        if self.closed {
            return;
        }
        let fresh = Entry { missing, tries: 0, asked: false, checked: false };
        let entry = self.domains.entry(uuid).or_insert(fresh);
        *entry = Entry { missing, asked: false, ..*entry };
        let due = now + pause(entry.tries, chance);
        self.due = Some(self.due.map_or(due, |at| at.min(due)));
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

    /// When the next call is due; `None` while a message has to come first.
    pub(super) fn due(&self) -> Option<Instant> {
        let ready = self.domains.values().any(|entry| !entry.asked && entry.checked);
        self.due.filter(|_| ready)
    }

    /// The domains whose control states have to be looked at before they are asked again; they are taken to be under way.
    pub(super) fn take_unchecked(&mut self) -> Vec<Uuid> {
        if self.checking {
            return Vec::new();
        }
        let unchecked = self.domains.iter().filter(|(_, entry)| !entry.checked && !entry.asked);
        let unchecked: Vec<Uuid> = unchecked.map(|(uuid, _)| *uuid).collect();
        self.checking = !unchecked.is_empty();
        unchecked
    }

    /// The control states have come. Gives the domains that do not answer the other client either: they are asked no
    /// more. One without a state has stopped, which the next call tells.
    pub(super) fn checked(&mut self, states: &[(Uuid, ControlState)]) -> Vec<Uuid> {
        if !std::mem::take(&mut self.checking) {
            return Vec::new();
        }
        let is_stuck = |state: &ControlState| match state {
            ControlState::Occupied(since) => *since >= LONG,
            ControlState::Error => true,
            ControlState::Ok | ControlState::Job => false,
        };
        let stuck: Vec<Uuid> = states.iter().filter(|(_, state)| is_stuck(state)).map(|(uuid, _)| *uuid).collect();
        stuck.iter().for_each(|uuid| self.remove(*uuid));
        self.domains.values_mut().for_each(|entry| entry.checked = true);
        stuck
    }

    /// The calls that are due now. `may_wait` says for how many domains a call may wait, and for which it may.
    pub(super) fn take_due(&mut self, now: Instant, mut room: usize, may_wait: impl Fn(Uuid) -> bool) -> Vec<Again> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        let mut calls = Vec::new();
        let mut together: BTreeMap<StatsGroups, Vec<Uuid>> = BTreeMap::new();
        for (uuid, entry) in self.domains.iter_mut().filter(|(_, entry)| !entry.asked && entry.checked) {
            entry.asked = true;
            entry.tries += 1;
            // What takes longer than the tries is looked at again before a call waits for it.
            entry.checked = entry.tries != TRIES;
            if entry.tries > TRIES && room > 0 && may_wait(*uuid) {
                room -= 1;
                calls.push(Again::Wait(entry.missing, *uuid));
            } else {
                together.entry(entry.missing).or_default().push(*uuid);
            }
        }
        calls.extend(together.into_iter().map(|(missing, domains)| Again::Now(missing, domains)));
        calls
    }
}

fn pause(tries: u32, chance: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE);
    doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0))
}

/// Jobs that other clients hold for long, over all collections.
#[derive(Debug, Default)]
pub(super) struct HeldJobs {
    /// Calls that wait for a job although their collection has ended, and the domain of each.
    waiting: BTreeMap<JobId, Uuid>,
    /// Domains that were busy to the end of a collection: the next does not wait for them.
    long: HashSet<Uuid>,
}

impl HeldJobs {
    /// Calls that have been left waiting.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many more calls may wait, beside `under_way`.
    pub(super) fn room(&self, under_way: usize) -> usize {
        WAITING_CALLS.saturating_sub(self.waiting.len() + under_way)
    }

    /// Whether a call may wait for the job of `uuid`.
    pub(super) fn may_wait(&self, uuid: Uuid) -> bool {
        !self.long.contains(&uuid) && !self.waiting.values().any(|of| *of == uuid)
    }

    /// A collection has ended without `uuid`.
    pub(super) fn was_busy(&mut self, uuid: Uuid) {
        self.long.insert(uuid);
    }

    /// `uuid` has answered.
    pub(super) fn answered(&mut self, uuid: Uuid) {
        self.long.remove(&uuid);
    }

    /// A collection leaves this call waiting.
    pub(super) fn leave(&mut self, job: JobId, uuid: Uuid) {
        self.waiting.insert(job, uuid);
    }

    /// A call has ended; whether it was one of these.
    pub(super) fn ended(&mut self, job: JobId) -> bool {
        self.waiting.remove(&job).is_some()
    }

    /// Takes the call that waits for `uuid`, which turned out to hang.
    pub(super) fn take(&mut self, uuid: Uuid) -> Option<JobId> {
        let job = self.waiting.iter().find_map(|(job, of)| (*of == uuid).then_some(*job))?;
        self.waiting.remove(&job);
        Some(job)
    }

    /// Forgets domains that are not `known`: they have been stopped or started again.
    pub(super) fn retain(&mut self, known: impl Fn(Uuid) -> bool) {
        self.long.retain(|uuid| known(*uuid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: StatsGroups = StatsGroups::BLOCK;

    fn uuid(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn after(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    #[test]
    fn all_that_are_busy_at_a_moment_are_asked_in_one_call() {
        let now = Instant::now();
        let mut busy = Busy::default();
        busy.note(uuid(1), BLOCK, now, 0.5);
        busy.note(uuid(2), BLOCK, after(now, 5), 0.5);
        busy.note(uuid(3), StatsGroups::VM, after(now, 5), 0.5);
        assert_eq!(busy.due(), None, "their control states come first");
        assert_eq!(busy.take_unchecked(), [uuid(1), uuid(2), uuid(3)]);
        assert!(busy.take_unchecked().is_empty());
        assert!(busy.checked(&[(uuid(1), ControlState::Ok)]).is_empty());
        assert_eq!(busy.due(), Some(after(now, 20)));
        assert!(busy.take_due(after(now, 19), 2, |_| true).is_empty());
        let calls = busy.take_due(after(now, 20), 2, |_| true);
        assert_eq!(calls, [Again::Now(BLOCK, vec![uuid(1), uuid(2)]), Again::Now(StatsGroups::VM, vec![uuid(3)])]);
        assert_eq!(busy.due(), None, "they are under way");
        busy.remove(uuid(1));
        busy.note(uuid(2), BLOCK, after(now, 30), 0.0);
        assert_eq!(busy.due(), Some(after(now, 50)));
        assert_eq!(busy.close(), [uuid(2), uuid(3)]);
        busy.note(uuid(2), BLOCK, now, 0.5);
        assert!(busy.is_empty() && busy.due().is_none());
    }

    #[test]
    fn a_domain_that_does_not_answer_the_other_client_is_asked_no_more() {
        let now = Instant::now();
        let mut busy = Busy::default();
        (1..=4).for_each(|number| busy.note(uuid(number), BLOCK, now, 0.5));
        busy.take_unchecked();
        let states = [
            (uuid(1), ControlState::Occupied(LONG)),
            (uuid(2), ControlState::Error),
            (uuid(3), ControlState::Occupied(LONG / 2)),
            (uuid(4), ControlState::Job),
        ];
        assert_eq!(busy.checked(&states), [uuid(1), uuid(2)]);
        assert_eq!(busy.close(), [uuid(3), uuid(4)]);
    }

    #[test]
    fn after_some_tries_calls_wait_and_there_are_few_of_them() {
        let mut now = Instant::now();
        let mut busy = Busy::default();
        let held = HeldJobs::default();
        let domains: Vec<Uuid> = (1..=4).map(uuid).collect();
        for _ in 0..TRIES {
            domains.iter().for_each(|uuid| busy.note(*uuid, BLOCK, now, 1.0));
            busy.take_unchecked();
            busy.checked(&[]);
            now += LONGEST_PAUSE * 2;
            assert_eq!(busy.take_due(now, held.room(0), |_| true), [Again::Now(BLOCK, domains.clone())]);
        }
        domains.iter().for_each(|uuid| busy.note(*uuid, BLOCK, now, 1.0));
        assert_eq!(busy.take_unchecked(), domains, "they are looked at again first");
        busy.checked(&[]);
        now += LONGEST_PAUSE * 2;
        let calls = busy.take_due(now, held.room(0), |of| of != uuid(1));
        let waiting = [2, 3].map(|number| Again::Wait(BLOCK, uuid(number)));
        assert_eq!(calls[..2], waiting);
        assert_eq!(calls[2..], [Again::Now(BLOCK, vec![uuid(1), uuid(4)])]);
    }

    #[test]
    fn a_call_that_was_left_waiting_is_not_added_to() {
        let mut held = HeldJobs::default();
        held.leave(7, uuid(1));
        held.was_busy(uuid(2));
        assert_eq!((held.waiting(), held.room(0), held.room(1)), (1, 1, 0));
        assert!(!held.may_wait(uuid(1)) && !held.may_wait(uuid(2)) && held.may_wait(uuid(3)));
        held.answered(uuid(2));
        assert!(held.may_wait(uuid(2)));
        assert!(held.ended(7) && !held.ended(7));
        held.leave(8, uuid(3));
        assert_eq!((held.take(uuid(3)), held.take(uuid(3))), (Some(8), None));
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread() {
        assert_eq!(pause(0, 0.5), FIRST_PAUSE);
        assert_eq!(pause(0, 0.0), FIRST_PAUSE / 2);
        assert_eq!(pause(1, 0.5), FIRST_PAUSE * 2);
        assert_eq!(pause(40, 1.0), LONGEST_PAUSE.mul_f64(1.5));
    }
}
