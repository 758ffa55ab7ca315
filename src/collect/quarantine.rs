//! Domains whose hypervisor does not answer. Pure: the clock is an argument.
//!
//! A call that waits for a frozen hypervisor holds that domain's job, which makes later calls skip the domain instead of
//! hanging too. It is therefore left alone, and the domain asked only for what needs no hypervisor, until the daemon says
//! that its monitor is free again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::libvirt::ControlState;

/// Calls that may be left waiting before nothing more is risked for domains that have not proved to answer.
pub(super) const STUCK_CALLS: usize = 3;

/// Why a domain is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its hypervisor did not answer a call of ours.
    Frozen,
    /// Its monitor is broken.
    MonitorError,
}

impl Cause {
    /// For logs and the landing page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frozen => "the hypervisor process does not answer",
            Self::MonitorError => "the monitor connection is broken",
        }
    }
}

/// A domain in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantined {
    /// When it was found.
    pub since: SystemTime,
    /// Why.
    pub cause: Cause,
}

/// How a batch may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permission {
    /// Now.
    Now,
    /// When no other such call is under way.
    Alone,
    /// Only for what needs no hypervisor.
    WithoutMonitor,
}

/// Who is frozen, and how many calls wait for them.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    domains: BTreeMap<Uuid, Quarantined>,
    /// Domains that answered the last call for everything.
    proven: HashSet<Uuid>,
    /// By call: the domains that it may be waiting for.
    stuck: BTreeMap<u64, BTreeSet<Uuid>>,
}

impl Quarantine {
    /// The domains in quarantine.
    pub(super) fn domains(&self) -> &BTreeMap<Uuid, Quarantined> {
        &self.domains
    }

    /// How many calls wait for a hypervisor.
    pub(super) fn stuck_calls(&self) -> usize {
        self.stuck.len()
    }

    /// Whether `uuid` must not be asked for what needs its hypervisor.
    pub(super) fn is_closed(&self, uuid: Uuid) -> bool {
        self.domains.contains_key(&uuid) || self.stuck.values().any(|suspects| suspects.contains(&uuid))
    }

    /// Whether a call of ours that hangs in its monitor holds the job of `uuid`.
    pub(super) fn holds_job(&self, uuid: Uuid) -> bool {
        let frozen = self.domains.get(&uuid).is_some_and(|quarantined| quarantined.cause == Cause::Frozen);
        frozen && self.stuck.values().any(|suspects| suspects.contains(&uuid))
    }

    /// How a batch of `domains`, none of them closed, may be asked for everything.
    pub(super) fn permission(&self, domains: &[Uuid]) -> Permission {
        let proven = || domains.iter().all(|uuid| self.proven.contains(uuid));
        match self.stuck.len() {
            0..STUCK_CALLS => Permission::Now,
            STUCK_CALLS if proven() => Permission::Now,
            STUCK_CALLS => Permission::Alone,
            // One call beyond the limit has found out that it is not over: whoever has answered may still be asked.
            _ if self.stuck.len() < 2 * STUCK_CALLS && proven() => Permission::Alone,
            _ => Permission::WithoutMonitor,
        }
    }

    /// `uuid` answered a call for everything.
    pub(super) fn answered(&mut self, uuid: Uuid) {
        self.proven.insert(uuid);
    }

    /// Call number `call` waits; it may be for any of `suspects`. Those who have been found out stand alone.
    pub(super) fn call_stuck(&mut self, call: u64, suspects: impl IntoIterator<Item = Uuid>) {
        let suspects: BTreeSet<Uuid> = suspects.into_iter().collect();
        self.proven.retain(|uuid| !suspects.contains(uuid));
        self.stuck.insert(call, suspects);
    }

    /// Call number `call` has ended after all.
    pub(super) fn call_ended(&mut self, call: u64) -> bool {
        self.stuck.remove(&call).is_some()
    }

    /// Domains of which the daemon has to say how they are before they are asked for more: those in quarantine, and the
    /// suspects of calls that were left before it was known which of them they wait for.
    pub(super) fn in_question(&self) -> BTreeSet<Uuid> {
        let suspects = self.stuck.values().filter(|suspects| suspects.len() > 1).flatten();
        self.domains.keys().chain(suspects).copied().collect()
    }

    /// Finds out what calls with several suspects wait for: a domain that has been busy with one question for long. The
    /// other suspects are free then.
    pub(super) fn find_culprits(&mut self, states: &[(Uuid, ControlState)]) -> Vec<(Uuid, Cause)> {
        const LONG: Duration = Duration::from_secs(2);
        let mut found = Vec::new();
        for suspects in self.stuck.values_mut().filter(|suspects| suspects.len() > 1) {
            let suspected = states.iter().filter(|(uuid, _)| suspects.contains(uuid));
            let culprits: Vec<_> =
                suspected.filter_map(|(uuid, state)| Some((*uuid, Self::verdict(*state, LONG)?))).collect();
            if !culprits.is_empty() {
                *suspects = culprits.iter().map(|culprit| culprit.0).collect();
                found.extend(culprits);
            }
        }
        found
    }

    /// What the control state of a domain in a call that has been waiting for `waited` says: `Some` if it is what the call
    /// waits for.
    pub(super) fn verdict(state: ControlState, waited: Duration) -> Option<Cause> {
        match state {
            // The monitor has been busy for most of our wait: with our question.
            ControlState::Occupied(since) if since >= waited / 2 => Some(Cause::Frozen),
            ControlState::Error => Some(Cause::MonitorError),
            ControlState::Ok | ControlState::Job | ControlState::Occupied(_) => None,
        }
    }

    /// Puts a domain into quarantine; `false` if it is there already.
    pub(super) fn enter(&mut self, uuid: Uuid, cause: Cause, now: SystemTime) -> bool {
        self.proven.remove(&uuid);
        self.domains.insert(uuid, Quarantined { since: now, cause }).is_none()
    }

    /// Whether the control state of a domain in quarantine lets it out; it is let out then.
    pub(super) fn release_if_free(&mut self, uuid: Uuid, state: ControlState) -> Option<Quarantined> {
        if !matches!(state, ControlState::Ok | ControlState::Job) || !self.domains.contains_key(&uuid) {
            return None;
        }
        // Whatever call still waits, it is not for this one.
        for suspects in self.stuck.values_mut() {
            suspects.remove(&uuid);
        }
        self.domains.remove(&uuid)
    }

    /// Forgets a domain that was stopped or started anew.
    pub(super) fn forget(&mut self, uuid: Uuid) {
        self.retain(|known| known != uuid);
    }

    /// Forgets domains that are not among `known`: they have been stopped or started anew.
    pub(super) fn retain(&mut self, known: impl Fn(Uuid) -> bool) {
        self.domains.retain(|uuid, _| known(*uuid));
        self.proven.retain(|uuid| known(*uuid));
        self.stuck.values_mut().for_each(|suspects| suspects.retain(|uuid| known(*uuid)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uuid(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn a_domain_is_closed_while_it_is_frozen_or_suspected() {
        let mut quarantine = Quarantine::default();
        quarantine.call_stuck(1, [uuid(1), uuid(2)]);
        assert!(quarantine.is_closed(uuid(1)) && quarantine.is_closed(uuid(2)) && !quarantine.is_closed(uuid(3)));
        // The culprit is found: the others are free again.
        quarantine.call_stuck(1, [uuid(1)]);
        assert!(quarantine.enter(uuid(1), Cause::Frozen, SystemTime::UNIX_EPOCH));
        assert!(!quarantine.enter(uuid(1), Cause::Frozen, SystemTime::UNIX_EPOCH));
        assert!(!quarantine.is_closed(uuid(2)));
        let busy = ControlState::Occupied(Duration::from_secs(9));
        assert_eq!(quarantine.release_if_free(uuid(1), busy), None);
        assert!(quarantine.release_if_free(uuid(1), ControlState::Ok).is_some());
        assert!(!quarantine.is_closed(uuid(1)));
        assert_eq!(quarantine.stuck_calls(), 1, "the call has not returned yet");
        assert!(quarantine.call_ended(1) && !quarantine.call_ended(1));
    }

    #[test]
    fn the_culprit_of_a_call_that_was_left_is_found_later() {
        let mut quarantine = Quarantine::default();
        quarantine.call_stuck(1, [uuid(1), uuid(2), uuid(3)]);
        assert_eq!(quarantine.in_question().len(), 3);
        let busy = |seconds| ControlState::Occupied(Duration::from_secs(seconds));
        let undecided = [(uuid(1), ControlState::Ok), (uuid(2), busy(0)), (uuid(3), ControlState::Job)];
        assert_eq!(quarantine.find_culprits(&undecided), []);
        assert_eq!(quarantine.release_if_free(uuid(1), ControlState::Ok), None);
        assert!((1..=3).all(|number| quarantine.is_closed(uuid(number))), "nobody is known to be free");
        assert_eq!(
            quarantine.find_culprits(&[(uuid(1), ControlState::Ok), (uuid(2), busy(2))]),
            [(uuid(2), Cause::Frozen)]
        );
        assert!(!quarantine.is_closed(uuid(1)) && quarantine.is_closed(uuid(2)) && !quarantine.is_closed(uuid(3)));
    }

    #[test]
    fn a_monitor_that_is_busy_for_as_long_as_we_wait_is_frozen() {
        let second = Duration::from_secs(1);
        assert_eq!(Quarantine::verdict(ControlState::Occupied(second), second), Some(Cause::Frozen));
        assert_eq!(Quarantine::verdict(ControlState::Occupied(second / 100), second), None);
        assert_eq!(Quarantine::verdict(ControlState::Error, second), Some(Cause::MonitorError));
        assert_eq!(Quarantine::verdict(ControlState::Ok, second), None);
    }

    #[test]
    fn beyond_the_limit_only_proven_domains_are_asked_and_one_batch_at_a_time() {
        let mut quarantine = Quarantine::default();
        quarantine.answered(uuid(9));
        for call in 0..3 {
            assert_eq!(quarantine.permission(&[uuid(8)]), Permission::Now);
            quarantine.call_stuck(call, [uuid(u128::from(call))]);
        }
        assert_eq!(quarantine.permission(&[uuid(8)]), Permission::Alone);
        assert_eq!(quarantine.permission(&[uuid(9)]), Permission::Now);
        quarantine.call_stuck(3, [uuid(3)]);
        assert_eq!(quarantine.permission(&[uuid(8)]), Permission::WithoutMonitor);
        assert_eq!(quarantine.permission(&[uuid(9)]), Permission::Alone);
        quarantine.call_stuck(4, [uuid(9)]);
        assert_eq!(quarantine.permission(&[uuid(9)]), Permission::WithoutMonitor, "suspected now");
        quarantine.call_ended(0);
        quarantine.call_ended(1);
        assert_eq!(quarantine.permission(&[uuid(8)]), Permission::Alone);
    }
}
