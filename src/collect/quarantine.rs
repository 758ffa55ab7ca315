//! Domains whose hypervisor does not answer. Pure: the clock is an argument.
//!
//! A call that waits for a frozen hypervisor holds that domain's job, which makes later calls skip the domain instead of
//! hanging too. It is therefore abandoned, and the domain asked only for what needs no hypervisor, until the daemon says
//! that its monitor is free again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::domain_state::Domains;
use super::pool::JobId;
use crate::libvirt::ControlState;

/// Calls that may be left waiting before nothing more is risked for domains that have not proved to answer.
pub(super) const STUCK_CALLS: usize = 3;
/// How long a monitor is occupied at the least if it is what a call waits for that was left before that was known.
const LONG: Duration = Duration::from_secs(2);

/// Why a domain is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its hypervisor did not answer a call of ours.
    Frozen,
    /// Its monitor is broken.
    MonitorError,
    /// libvirt holds its lock: whatever is asked about it waits.
    Locked,
}

impl Cause {
    /// For logs and the landing page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frozen => "the hypervisor process does not answer",
            Self::MonitorError => "the monitor connection is broken",
            Self::Locked => "libvirt holds its lock, as while a hook runs or storage hangs",
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

impl Permission {
    /// How a batch of domains, none of them closed, may be asked for everything while so many calls wait for hypervisors;
    /// `proven` says whether all of them are.
    pub(super) fn of(calls: usize, proven: bool) -> Self {
        match calls {
            0..STUCK_CALLS => Self::Now,
            STUCK_CALLS if proven => Self::Now,
            STUCK_CALLS => Self::Alone,
            // One call beyond the limit has found out that it is not over: domains that have answered may still be asked.
            number if number < 2 * STUCK_CALLS && proven => Self::Alone,
            _ => Self::WithoutMonitor,
        }
    }
}

/// How one domain's hypervisor process answers.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    entered: Option<Quarantined>,
    /// It answered the last call for everything.
    proven: bool,
    /// Stuck calls that may be waiting for it.
    suspect_of: BTreeSet<JobId>,
}

impl Quarantine {
    /// Since when and why the domain is in quarantine, if it is.
    pub(super) fn entered(&self) -> Option<Quarantined> {
        self.entered
    }

    /// Whether the domain must not be asked for what needs its hypervisor.
    pub(super) fn is_closed(&self) -> bool {
        self.entered.is_some() || !self.suspect_of.is_empty()
    }

    /// Whether nothing can be had about the domain.
    pub(super) fn is_locked(&self) -> bool {
        self.entered.is_some_and(|quarantined| quarantined.cause == Cause::Locked)
    }

    /// Whether a call of ours that hangs in its monitor holds the domain's job.
    pub(super) fn holds_job(&self) -> bool {
        let is_frozen = self.entered.is_some_and(|quarantined| quarantined.cause == Cause::Frozen);
        is_frozen && !self.suspect_of.is_empty()
    }

    /// Whether the domain answered the last call for everything.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// The domain answered a call for everything.
    pub(super) fn answered(&mut self) {
        self.proven = true;
    }

    /// Puts the domain into quarantine; `false` if it is there already.
    pub(super) fn enter(&mut self, cause: Cause, now: SystemTime) -> bool {
        self.proven = false;
        self.entered.replace(Quarantined { since: now, cause }).is_none()
    }

    /// Releases the domain if its control state allows; whether it was in quarantine and is not any more.
    pub(super) fn release_if_free(&mut self, state: ControlState) -> bool {
        let Some(quarantined) = &mut self.entered else { return false };
        let holds = match state {
            ControlState::Ok | ControlState::Job => None,
            ControlState::Occupied(_) => Some(Cause::Frozen),
            ControlState::Error => Some(Cause::MonitorError),
        };
        if let Some(cause) = holds {
            // One that has a control state is locked no more.
            if quarantined.cause == Cause::Locked {
                quarantined.cause = cause;
            }
            return false;
        }
        // Whatever calls still wait, they do not wait for this one.
        self.suspect_of.clear();
        self.entered = None;
        true
    }
}

/// Calls that were left waiting for a hypervisor.
#[derive(Debug, Default)]
pub(super) struct StuckCalls(BTreeSet<JobId>);

impl StuckCalls {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them may wait for a hypervisor, and not for a lock alone.
    pub(super) fn risked(&self, domains: &Domains) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        let quarantines = domains.with_companions().map(|(_, state)| &state.incarnation.quarantine);
        let unlocked = quarantines.filter(|quarantine| !quarantine.is_locked());
        unlocked.flat_map(|quarantine| &quarantine.suspect_of).collect::<BTreeSet<_>>().len()
    }

    /// The calls that may wait for the domain do, and for no other: libvirt holds its lock.
    pub(super) fn leave_to(&mut self, uuid: Uuid, domains: &mut Domains) {
        let calls = domains.companion(uuid).map(|state| state.incarnation.quarantine.suspect_of.clone());
        calls.into_iter().flatten().for_each(|call| self.add(call, &[uuid], domains));
    }

    /// The call waits; it may be for any of `suspects`, and for no other domain.
    pub(super) fn add(&mut self, call: JobId, suspects: &[Uuid], domains: &mut Domains) {
        self.0.insert(call);
        for (_, state) in domains.companions_mut() {
            state.incarnation.quarantine.suspect_of.remove(&call);
        }
        for uuid in suspects {
            if let Some(state) = domains.companion_mut(*uuid) {
                state.incarnation.quarantine.proven = false;
                state.incarnation.quarantine.suspect_of.insert(call);
            }
        }
    }

    /// The call has ended after all; whether it was one of these.
    pub(super) fn ended(&mut self, call: JobId, domains: &mut Domains) -> bool {
        let was_stuck = self.0.remove(&call);
        if was_stuck {
            domains.companions_mut().for_each(|(_, state)| _ = state.incarnation.quarantine.suspect_of.remove(&call));
        }
        was_stuck
    }

    /// The connection is gone, and the calls with it.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The suspects of calls that were left before it was known which of them they wait for.
fn suspects_in_doubt(domains: &Domains) -> BTreeMap<JobId, Vec<Uuid>> {
    let mut suspects: BTreeMap<JobId, Vec<Uuid>> = BTreeMap::new();
    for (domain, state) in domains.with_companions() {
        for call in &state.incarnation.quarantine.suspect_of {
            suspects.entry(*call).or_default().push(domain.identity.uuid);
        }
    }
    suspects.retain(|_, suspects| suspects.len() > 1);
    suspects
}

/// Domains whose control states have to be looked at before they are asked for more: those in quarantine, and suspects in
/// doubt.
pub(super) fn in_question(domains: &Domains) -> BTreeSet<Uuid> {
    let in_doubt = suspects_in_doubt(domains).into_values().flatten();
    let entered = domains.with_companions().filter(|(_, state)| state.incarnation.quarantine.entered.is_some());
    in_doubt.chain(entered.map(|(domain, _)| domain.identity.uuid)).collect()
}

/// Finds out what calls with several suspects wait for: a domain that has been busy with one question for long. The other
/// suspects are free then.
pub(super) fn find_culprits(states: &[(Uuid, ControlState)], domains: &mut Domains) -> Vec<(Uuid, Cause)> {
    let mut found = Vec::new();
    for (call, suspects) in suspects_in_doubt(domains) {
        let suspected = states.iter().filter(|(uuid, _)| suspects.contains(uuid));
        let culprits: Vec<_> = suspected.filter_map(|(uuid, state)| Some((*uuid, verdict(*state, LONG)?))).collect();
        if culprits.is_empty() {
            continue;
        }
        for uuid in suspects.iter().filter(|uuid| !culprits.iter().any(|(culprit, _)| culprit == *uuid)) {
            domains
                .companion_mut(*uuid)
                .into_iter()
                .for_each(|state| _ = state.incarnation.quarantine.suspect_of.remove(&call));
        }
        found.extend(culprits);
    }
    found
}

/// What the control state of a domain in a call that has been waiting for `waited` says: `Some` if it is what the call waits
/// for.
pub(super) fn verdict(state: ControlState, waited: Duration) -> Option<Cause> {
    match state {
        // The monitor has been busy for most of our wait: with our question.
        ControlState::Occupied(since) if since >= waited / 2 => Some(Cause::Frozen),
        ControlState::Error => Some(Cause::MonitorError),
        ControlState::Ok | ControlState::Job | ControlState::Occupied(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::{Flags, Listing, PowerState};
    use crate::libvirt::Identity;

    fn uuid(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn domains(count: u32) -> Domains {
        let identity =
            |number: u32| Identity { name: format!("vm-{number}"), uuid: uuid(number.into()), id: Some(number) };
        let domains = (1..=count).map(|number| (identity(number), PowerState::Running, Flags::default())).collect();
        let mut registry = Domains::default();
        registry.replace(Listing { domains, host: None }, &[], SystemTime::UNIX_EPOCH);
        registry
    }

    fn of(domains: &mut Domains, number: u128) -> &mut Quarantine {
        &mut domains.companion_mut(uuid(number)).expect("a domain").incarnation.quarantine
    }

    #[test]
    fn a_domain_is_closed_while_it_is_frozen_or_suspected() {
        let (mut stuck, mut domains) = (StuckCalls::default(), domains(3));
        stuck.add(1, &[uuid(1), uuid(2)], &mut domains);
        assert_eq!([1, 2, 3].map(|number| of(&mut domains, number).is_closed()), [true, true, false]);
        // The culprit is found: the others are free again.
        stuck.add(1, &[uuid(1)], &mut domains);
        assert!(of(&mut domains, 1).enter(Cause::Frozen, SystemTime::UNIX_EPOCH));
        assert!(!of(&mut domains, 1).enter(Cause::Frozen, SystemTime::UNIX_EPOCH));
        assert!(!of(&mut domains, 2).is_closed() && of(&mut domains, 1).holds_job());
        let busy = ControlState::Occupied(Duration::from_secs(9));
        assert!(!of(&mut domains, 1).release_if_free(busy));
        assert!(of(&mut domains, 1).release_if_free(ControlState::Ok) && !of(&mut domains, 1).is_closed());
        assert_eq!(stuck.len(), 1, "the call has not returned yet");
        assert!(stuck.ended(1, &mut domains) && !stuck.ended(1, &mut domains));
    }

    #[test]
    fn a_broken_monitor_closes_its_domain_though_no_call_is_stuck() {
        let mut domains = domains(1);
        of(&mut domains, 1).answered();
        assert!(of(&mut domains, 1).enter(Cause::MonitorError, SystemTime::UNIX_EPOCH));
        assert!(!of(&mut domains, 1).is_proven());
        assert!(of(&mut domains, 1).is_closed() && !of(&mut domains, 1).holds_job());
    }

    #[test]
    fn the_culprit_of_a_call_that_was_left_is_found_later() {
        let (mut stuck, mut domains) = (StuckCalls::default(), domains(4));
        stuck.add(1, &[uuid(1), uuid(2), uuid(3)], &mut domains);
        assert_eq!(in_question(&domains).len(), 3);
        let busy = |seconds| ControlState::Occupied(Duration::from_secs(seconds));
        let undecided = [(uuid(1), ControlState::Ok), (uuid(2), busy(0)), (uuid(3), ControlState::Job)];
        assert_eq!(find_culprits(&undecided, &mut domains), []);
        assert!(!of(&mut domains, 1).release_if_free(ControlState::Ok));
        assert!((1..=3).all(|number| of(&mut domains, number).is_closed()), "no suspect is known to be free");
        let states = [(uuid(1), ControlState::Ok), (uuid(2), busy(2))];
        assert_eq!(find_culprits(&states, &mut domains), [(uuid(2), Cause::Frozen)]);
        assert_eq!([1, 2, 3].map(|number| of(&mut domains, number).is_closed()), [false, true, false]);
        // A call that has ended after all leaves no suspect.
        assert!(stuck.ended(1, &mut domains) && !of(&mut domains, 2).is_closed());
    }

    #[test]
    fn a_monitor_that_is_busy_for_as_long_as_the_call_waits_is_frozen() {
        let second = Duration::from_secs(1);
        assert_eq!(verdict(ControlState::Occupied(second), second), Some(Cause::Frozen));
        assert_eq!(verdict(ControlState::Occupied(second / 100), second), None);
        assert_eq!(verdict(ControlState::Error, second), Some(Cause::MonitorError));
        assert_eq!(verdict(ControlState::Ok, second), None);
    }

    #[test]
    fn beyond_the_limit_only_proven_domains_are_asked_and_one_batch_at_a_time() {
        let (mut stuck, mut domains) = (StuckCalls::default(), domains(9));
        let permission = |stuck: &StuckCalls, domains: &Domains, proven| Permission::of(stuck.risked(domains), proven);
        of(&mut domains, 9).answered();
        for call in 1..=3 {
            assert_eq!(permission(&stuck, &domains, false), Permission::Now);
            stuck.add(call, &[uuid(call.into())], &mut domains);
        }
        assert_eq!(
            (permission(&stuck, &domains, false), permission(&stuck, &domains, true)),
            (Permission::Alone, Permission::Now)
        );
        stuck.add(4, &[uuid(4)], &mut domains);
        assert_eq!(
            (permission(&stuck, &domains, false), permission(&stuck, &domains, true)),
            (Permission::WithoutMonitor, Permission::Alone)
        );
        stuck.add(5, &[uuid(9)], &mut domains);
        assert!(!of(&mut domains, 9).is_proven(), "suspected now");
        stuck.ended(1, &mut domains);
        stuck.ended(2, &mut domains);
        assert_eq!(permission(&stuck, &domains, false), Permission::Alone);
        // What waits for a lock says nothing of hypervisors.
        of(&mut domains, 3).enter(Cause::Locked, SystemTime::UNIX_EPOCH);
        assert_eq!(permission(&stuck, &domains, false), Permission::Now);
    }
}
