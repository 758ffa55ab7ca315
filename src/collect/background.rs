//! The probes that are asked beside the collections: what is due, and how many calls hang. Pure: the clock is an argument.
//!
//! No collection waits for them. Each probe has one call at a time and a pace. A call that takes longer than its limit is
//! left alone; after a few of those nothing more is asked by that probe until one of them returns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::domain_state::Domains;
use super::pool::{JobId, WorkerId};
use super::reading::Reading;
use crate::config::Config;
use crate::probes::{BACKGROUND, Cadence, Probe, Scope, Subject, WaitsFor};

/// Calls of a probe that may hang before it asks nothing more.
const MOST_HUNG: usize = 2;
/// When a domain comes again that may not be asked now.
const LATER: Duration = Duration::from_secs(2);

/// A call under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) job: JobId,
    pub(super) worker: WorkerId,
    pub(super) subject: Subject,
    pub(super) since: Instant,
}

/// One probe: what it is to ask, and what it is asking.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) probe: &'static Probe,
    /// Subjects by when they are due. That of a domain counts if its [`DomainState`](super::domain_state::DomainState) says
    /// the same: so a domain that is gone is due no more.
    due: BTreeSet<(Instant, Subject)>,
    /// When the host is due, and each of its objects that there are.
    own: BTreeMap<Subject, Option<Instant>>,
    /// The end of the pause after the last call.
    not_before: Option<Instant>,
    current: Option<Call>,
    /// Calls that hang, and what they are about: that is not asked about again before they return.
    hung: BTreeMap<JobId, Subject>,
}

/// Whether a subject may be asked about now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Now.
    Now,
    /// In a while.
    Later,
    /// Not at all: there is no reason to ask any more.
    Never,
}

impl Lane {
    pub(super) fn new(probe: &'static Probe) -> Self {
        let own = BTreeMap::from([(Subject::Host, None)]);
        Self { probe, due: BTreeSet::new(), own, not_before: None, current: None, hung: BTreeMap::new() }
    }

    /// The objects of the host have been listed: those that are gone are due no more. Gives those that are new.
    pub(super) fn list(&mut self, objects: &BTreeSet<Subject>) -> Vec<Subject> {
        self.own.retain(|subject, _| *subject == Subject::Host || objects.contains(subject));
        let new: Vec<Subject> = objects.iter().filter(|object| !self.own.contains_key(object)).copied().collect();
        self.own.extend(new.iter().map(|object| (*object, None)));
        new
    }

    /// How many subjects the host has for it: itself, and its objects.
    pub(super) fn own(&self) -> usize {
        self.own.len()
    }

    /// Has the subject asked about at `at`, or earlier if that was wanted before.
    pub(super) fn want(&mut self, subject: Subject, at: Instant, domains: &mut Domains) {
        let before = self.due_at(subject, domains);
        if before.is_some_and(|before| before <= at) {
            return;
        }
        before.into_iter().for_each(|before| _ = self.due.remove(&(before, subject)));
        let is_known = match subject {
            Subject::Host | Subject::Object(_) => self.own.get_mut(&subject).map(|due| *due = Some(at)).is_some(),
            Subject::Domain(uuid) => {
                let state = domains.companion_mut(uuid);
                state.map(|state| state.due.insert(self.probe.name, at)).is_some()
            }
        };
        if is_known {
            self.due.insert((at, subject));
        }
    }

    /// When the subject is due.
    pub(super) fn due_at(&self, subject: Subject, domains: &Domains) -> Option<Instant> {
        match subject {
            Subject::Host | Subject::Object(_) => self.own.get(&subject).copied().flatten(),
            Subject::Domain(uuid) => domains.companion(uuid)?.due.get(self.probe.name).copied(),
        }
    }

    /// Whether the subject is being asked about, or will be.
    pub(super) fn expects(&self, subject: Subject, domains: &Domains) -> bool {
        let is_current = self.current.is_some_and(|call| call.subject == subject);
        is_current || self.due_at(subject, domains).is_some() || self.hung.values().any(|hung| *hung == subject)
    }

    /// The first subject that is due now, taken off the list.
    pub(super) fn take(
        &mut self,
        now: Instant,
        domains: &mut Domains,
        allowed: impl Fn(Subject, &Domains) -> Allowed,
    ) -> Option<Subject> {
        while let Some(&(at, subject)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, subject));
            if self.due_at(subject, domains) != Some(at) {
                continue;
            }
            match subject {
                Subject::Host | Subject::Object(_) => {
                    self.own.get_mut(&subject).into_iter().for_each(|due| *due = None);
                }
                Subject::Domain(uuid) => {
                    domains.companion_mut(uuid).into_iter().for_each(|state| _ = state.due.remove(self.probe.name));
                }
            }
            let hangs = self.hung.values().any(|hung| *hung == subject);
            match if hangs { Allowed::Later } else { allowed(subject, domains) } {
                Allowed::Now => return Some(subject),
                Allowed::Later => self.want(subject, now + LATER, domains),
                Allowed::Never => {}
            }
        }
        None
    }

    /// The call has begun; the next comes `pace` later at the earliest.
    pub(super) fn began(&mut self, call: Call, pace: Duration) {
        self.not_before = Some(call.since + pace);
        self.current = Some(call);
    }

    /// When the next call may begin; `None` while one is under way, too many hang or nothing is wanted.
    pub(super) fn next_call(&self) -> Option<Instant> {
        if self.current.is_some() || self.is_blocked() {
            return None;
        }
        let (at, _) = self.due.first()?;
        Some(self.not_before.map_or(*at, |pause| pause.max(*at)))
    }

    /// When the call under way will have taken too long.
    pub(super) fn limit(&self, config: &Config) -> Option<Instant> {
        self.current.map(|call| call.since + (self.probe.time_limit)(config))
    }

    /// Leaves the call under way alone: it hangs.
    pub(super) fn take_hung(&mut self) -> Option<Call> {
        let hung = self.current.take()?;
        self.hung.insert(hung.job, hung.subject);
        Some(hung)
    }

    /// Whether so many calls hang that nothing more is asked for now. A listing of objects waits for each of them: it hangs with
    /// the first, and does not count.
    pub(super) fn is_blocked(&self) -> bool {
        let is_listing = |subject: &Subject| self.probe.scope == Scope::Object && *subject == Subject::Host;
        self.hung.values().filter(|subject| !is_listing(subject)).count() >= MOST_HUNG
    }

    /// The time from one call to the next.
    pub(super) fn pace(&self, config: &Config) -> Duration {
        match self.probe.cadence {
            Cadence::Background { pace, .. } => pace(config),
            Cadence::Collection | Cadence::Demand => Duration::ZERO,
        }
    }
}

/// All probes of the background.
#[derive(Debug)]
pub(super) struct Background {
    pub(super) lanes: Vec<Lane>,
    /// What has been found about the host and its objects, by probe.
    pub(super) readings: BTreeMap<(&'static str, Subject), Reading>,
}

impl Default for Background {
    fn default() -> Self {
        Self { lanes: BACKGROUND.iter().copied().map(Lane::new).collect(), readings: BTreeMap::new() }
    }
}

impl Background {
    /// The lane of a probe of [`BACKGROUND`].
    pub(super) fn of(&mut self, probe: &Probe) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.probe.name == probe.name)
    }

    /// Whether a reading is under way or due that nothing keeps from being taken.
    pub(super) fn is_reading(&self, now: Instant) -> bool {
        let is_due = |lane: &Lane| lane.next_call().is_some_and(|at| at <= now);
        self.lanes.iter().filter(|lane| lane.probe.group.is_some()).any(|lane| lane.current.is_some() || is_due(lane))
    }

    /// The job has ended: the lane whose it is, and the call if it was not given up before.
    pub(super) fn ended(&mut self, job: JobId) -> Option<(&'static Probe, Option<Call>)> {
        let of_job = |lane: &mut Lane| {
            let hung = lane.hung.remove(&job).is_some();
            let current = lane.current.take_if(|call| call.job == job);
            (hung || current.is_some()).then_some((lane.probe, current))
        };
        self.lanes.iter_mut().find_map(of_job)
    }

    /// The call about a domain that hangs and may hold its job, if there is one.
    pub(super) fn hung_on(&self, uuid: Uuid) -> Option<JobId> {
        let holds = self.lanes.iter().filter(|lane| lane.probe.waits_for == WaitsFor::Hypervisor);
        let mut hung = holds.flat_map(|lane| &lane.hung);
        hung.find(|(_, subject)| subject.domain() == Some(uuid)).map(|(job, _)| *job)
    }

    /// The connection is gone, and all that was under way with it.
    pub(super) fn disconnected(&mut self) {
        self.readings.clear();
        for lane in &mut self.lanes {
            lane.current = None;
            lane.hung.clear();
            lane.list(&BTreeSet::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::domains::{Flags, Listing, RunState};
    use crate::libvirt::Identity;
    use crate::probes::{ADDRESSES, DEFINITIONS};

    fn a() -> Subject {
        Subject::Domain(Uuid::from_u128(1))
    }

    fn b() -> Subject {
        Subject::Domain(Uuid::from_u128(2))
    }

    fn domains() -> Domains {
        let identity =
            |number: u8| Identity { name: number.to_string(), uuid: Uuid::from_u128(number.into()), id: None };
        let domains = [1, 2].map(|number| (identity(number), RunState::ShutOff, Flags::default())).to_vec();
        let mut registry = Domains::default();
        registry.replace(Listing { domains, host: None }, &[], SystemTime::UNIX_EPOCH);
        registry
    }

    fn config(text: &str) -> Config {
        crate::config::parse(text, "test").expect("a valid configuration")
    }

    const ALL: fn(Subject, &Domains) -> Allowed = |_, _| Allowed::Now;

    fn call(job: JobId, subject: Subject, since: Instant) -> Call {
        Call { job, worker: 1, subject, since }
    }

    #[test]
    fn calls_are_paced_and_one_at_a_time() {
        let (now, mut domains, config) = (Instant::now(), domains(), config("metadata: {rate: 10}"));
        let mut lane = Lane::new(&DEFINITIONS);
        lane.want(a(), now, &mut domains);
        lane.want(b(), now, &mut domains);
        assert_eq!(lane.take(now, &mut domains, ALL), Some(a()));
        lane.began(call(1, a(), now), lane.pace(&config));
        assert_eq!((lane.next_call(), lane.limit(&config)), (None, Some(now + Duration::from_secs(5))));
        let mut background = Background { lanes: vec![lane], readings: BTreeMap::new() };
        assert!(background.ended(2).is_none());
        let (probe, ended) = background.ended(1).expect("the lane");
        assert_eq!((probe.name, ended.map(|call| call.subject)), ("definitions", Some(a())));
        assert_eq!(background.lanes[0].next_call(), Some(now + Duration::from_millis(100)), "ten a second");
        assert_eq!(Lane::new(&ADDRESSES).pace(&config), Duration::ZERO);
    }

    #[test]
    fn what_may_not_be_asked_comes_later_and_what_is_wanted_twice_comes_once() {
        let (now, mut domains) = (Instant::now(), domains());
        let mut lane = Lane::new(&DEFINITIONS);
        for after in [60, 0, 30] {
            lane.want(a(), now + Duration::from_secs(after), &mut domains);
        }
        assert_eq!((lane.next_call(), lane.due.len()), (Some(now), 1));
        assert_eq!(lane.take(now, &mut domains, |_, _| Allowed::Later), None);
        assert_eq!(lane.next_call(), Some(now + LATER));
        assert_eq!(lane.take(now + LATER, &mut domains, ALL), Some(a()));
        assert_eq!((lane.next_call(), lane.due_at(a(), &domains)), (None, None));
        lane.want(a(), now, &mut domains);
        assert_eq!((lane.take(now, &mut domains, |_, _| Allowed::Never), lane.next_call()), (None, None));
    }

    #[test]
    fn a_domain_that_is_gone_is_due_no_more() {
        let (now, mut domains) = (Instant::now(), domains());
        let mut lane = Lane::new(&DEFINITIONS);
        lane.want(a(), now, &mut domains);
        domains.replace(Listing::default(), &[], SystemTime::UNIX_EPOCH);
        assert_eq!((lane.take(now, &mut domains, ALL), lane.next_call()), (None, None));
        lane.want(a(), now, &mut domains);
        assert_eq!(lane.next_call(), None);
    }

    #[test]
    fn after_two_that_hang_nothing_is_asked_until_one_returns() {
        let (now, mut domains) = (Instant::now(), domains());
        let mut lane = Lane::new(&DEFINITIONS);
        for job in 1..=2 {
            assert!(!lane.is_blocked());
            lane.began(call(job, a(), now), Duration::ZERO);
            assert_eq!(lane.take_hung().map(|hung| hung.job), Some(job));
            lane.want(a(), now, &mut domains);
            assert_eq!(lane.take(now, &mut domains, ALL), None, "it hangs");
        }
        lane.want(b(), now, &mut domains);
        assert!(lane.is_blocked() && lane.next_call().is_none());
        let mut background = Background { lanes: vec![lane], readings: BTreeMap::new() };
        assert!(background.ended(1).is_some_and(|(_, call)| call.is_none()), "it was given up");
        assert_eq!(background.lanes[0].take(now, &mut domains, ALL), Some(b()));
    }
}
