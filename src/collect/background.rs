//! The probes that are asked beside the collections: what is due, and how many calls hang. Pure: the clock is an argument.
//!
//! No collection waits for them. Each probe has a pace, and one call at a time while calls are quick. One that takes long does
//! not hold up the others: the next begins beside it. One that takes longer than its limit is abandoned, and its subject
//! rests, for longer each time. Calls that take long or hang occupy workers of the daemon, so their number is bounded, and the
//! more there are, the better a subject must have answered to be asked about.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::domain_state::Domains;
use super::pool::{JobId, WorkerId};
use super::reading::Reading;
use crate::backoff;
use crate::config::Config;
use crate::probes::{BACKGROUND, Probe, Scope, Subject, WaitsFor};

/// How long a call keeps the next one of its probe waiting.
const SLOW: Duration = Duration::from_secs(1);
/// Calls of a probe that may take long or hang before it asks no more about subjects whose last call hung.
const MOST_FOR_HUNG: usize = 4;
/// Likewise about those that have never answered. The place beyond is for subjects that answered last.
const MOST_FOR_UNKNOWN: usize = MOST - 1;
/// Likewise about any: by default a daemon has twenty workers, for all of its clients.
const MOST: usize = 8;
/// For how long a subject rests whose call hung; doubled for each that follows.
const FIRST_REST: Duration = Duration::from_secs(60);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(15 * 60);
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

/// A subject's turn with a probe: when it comes, and how its calls went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    due: Option<Instant>,
    /// It is not asked about before then.
    rests_until: Option<Instant>,
    /// Calls that hung, one after the other.
    hung: u32,
    /// The last call was answered.
    answered: bool,
    /// The call under way is about it as it is now.
    current: bool,
}

impl Turn {
    /// How its calls went, and what one under way brings, says nothing any more: it has been started again, or may be another
    /// one.
    pub(super) fn forget_calls(&mut self) {
        *self = Self { due: self.due, ..Self::default() };
    }

    /// What a call under way brings is out of date.
    pub(super) fn outdate(&mut self) {
        self.current = false;
    }
}

/// One probe: what it is to ask, and what it is asking.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) probe: &'static Probe,
    /// Subjects by when they are due. That of a domain counts if its [`DomainState`](super::domain_state::DomainState) says
    /// the same: so a domain that is gone is due no more.
    due: BTreeSet<(Instant, Subject)>,
    /// The turns of the host and of its objects. Those of domains are in their states.
    own: BTreeMap<Subject, Turn>,
    /// The end of the pause after the last call.
    not_before: Option<Instant>,
    /// Calls under way in the order of their beginning: all but the last take long.
    calls: VecDeque<Call>,
    /// Calls that hang, and what they are about: that is not asked about again before they return.
    hung: BTreeMap<JobId, Subject>,
}

/// How a call has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// Within its limit.
    InTime(Call),
    /// The call about this subject had been given up.
    AfterAll(Subject),
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
        let own = BTreeMap::from([(Subject::Host, Turn::default())]);
        Self { probe, due: BTreeSet::new(), own, not_before: None, calls: VecDeque::new(), hung: BTreeMap::new() }
    }

    /// The objects of the host have been listed: those that are gone are due no more. Gives those that are new.
    pub(super) fn list(&mut self, objects: &BTreeSet<Subject>) -> Vec<Subject> {
        self.own.retain(|subject, _| *subject == Subject::Host || objects.contains(subject));
        let new: Vec<Subject> = objects.iter().filter(|object| !self.own.contains_key(object)).copied().collect();
        self.own.extend(new.iter().map(|object| (*object, Turn::default())));
        new
    }

    /// How many subjects the host has for it: itself, and its objects.
    pub(super) fn own(&self) -> usize {
        self.own.len()
    }

    /// Has the subject asked about at `at`, or earlier if that was wanted before; later if it rests.
    pub(super) fn want(&mut self, subject: Subject, at: Instant, domains: &mut Domains) {
        let Some(turn) = self.turn_mut(subject, domains) else { return };
        let at = turn.rests_until.map_or(at, |until| until.max(at));
        if turn.due.is_some_and(|before| before <= at) {
            return;
        }
        let before = turn.due.replace(at);
        before.into_iter().for_each(|before| _ = self.due.remove(&(before, subject)));
        self.due.insert((at, subject));
    }

    /// Something has happened to the subject: it may answer again, and rests no more.
    pub(super) fn rouse(&mut self, subject: Subject, domains: &mut Domains) {
        self.turn_mut(subject, domains).into_iter().for_each(|turn| turn.rests_until = None);
    }

    /// As [`Lane::want`], of a subject that rests no more.
    pub(super) fn wake(&mut self, subject: Subject, at: Instant, domains: &mut Domains) {
        self.rouse(subject, domains);
        self.want(subject, at, domains);
    }

    /// A call about the subject was answered.
    pub(super) fn answered(&mut self, subject: Subject, domains: &mut Domains) {
        if let Some(turn) = self.turn_mut(subject, domains) {
            *turn = Turn { due: turn.due, answered: true, ..Turn::default() };
        }
    }

    /// A call about the subject hung, or came to nothing after it had held up the others: the subject rests.
    pub(super) fn rest(&mut self, subject: Subject, now: Instant, chance: f64, domains: &mut Domains) {
        if let Some(turn) = self.turn_mut(subject, domains) {
            let pause = backoff::pause(FIRST_REST, LONGEST_REST, turn.hung, chance);
            (turn.rests_until, turn.hung, turn.answered) = (Some(now + pause), turn.hung.saturating_add(1), false);
        }
    }

    fn turn(&self, subject: Subject, domains: &Domains) -> Option<Turn> {
        match subject {
            Subject::Host | Subject::Object(_) => self.own.get(&subject).copied(),
            Subject::Domain(uuid) => domains.companion(uuid)?.turns.get(self.probe.name).copied(),
        }
    }

    fn turn_mut<'a>(&'a mut self, subject: Subject, domains: &'a mut Domains) -> Option<&'a mut Turn> {
        match subject {
            Subject::Host | Subject::Object(_) => self.own.get_mut(&subject),
            Subject::Domain(uuid) => Some(domains.companion_mut(uuid)?.turns.or_default(self.probe.name)),
        }
    }

    /// When the subject is due.
    pub(super) fn due_at(&self, subject: Subject, domains: &Domains) -> Option<Instant> {
        self.turn(subject, domains)?.due
    }

    /// Whether the subject is being asked about, or will be.
    pub(super) fn expects(&self, subject: Subject, domains: &Domains) -> bool {
        self.due_at(subject, domains).is_some() || self.is_asking(subject)
    }

    /// Whether a call about the subject has not returned.
    fn is_asking(&self, subject: Subject) -> bool {
        self.calls.iter().any(|call| call.subject == subject) || self.hung.values().any(|hung| *hung == subject)
    }

    /// Whether the call under way about the subject is about it as it is now.
    pub(super) fn is_current(&self, subject: Subject, domains: &Domains) -> bool {
        self.turn(subject, domains).is_some_and(|turn| turn.current)
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
            let Some(turn) = self.turn(subject, domains).filter(|turn| turn.due == Some(at)) else { continue };
            self.turn_mut(subject, domains).into_iter().for_each(|turn| turn.due = None);
            let rests = turn.rests_until.is_some_and(|until| until > now);
            let must_wait = self.is_asking(subject) || rests || self.is_risk(subject, turn);
            match if must_wait { Allowed::Later } else { allowed(subject, domains) } {
                Allowed::Now => {
                    self.turn_mut(subject, domains).into_iter().for_each(|turn| turn.current = true);
                    return Some(subject);
                }
                Allowed::Later => self.want(subject, now + LATER, domains),
                Allowed::Never => {}
            }
        }
        None
    }

    /// The call has begun; the next comes `pace` later at the earliest.
    pub(super) fn began(&mut self, call: Call, pace: Duration) {
        self.not_before = Some(call.since + pace);
        self.calls.push_back(call);
    }

    /// When the next call may begin; `None` while too many take long or hang, or nothing is wanted.
    pub(super) fn next_call(&self) -> Option<Instant> {
        if self.places_taken() >= MOST {
            return None;
        }
        let (at, _) = self.due.first()?;
        let beside = self.calls.back().map(|call| call.since + SLOW);
        Some([self.not_before, beside].into_iter().flatten().fold(*at, Instant::max))
    }

    /// When the call that has been under way for the longest will have taken too long.
    pub(super) fn limit(&self, config: &Config) -> Option<Instant> {
        self.calls.front().map(|call| call.since + (self.probe.time_limit)(config))
    }

    /// Abandons that call: it hangs.
    pub(super) fn take_hung(&mut self) -> Option<Call> {
        let hung = self.calls.pop_front()?;
        self.hung.insert(hung.job, hung.subject);
        Some(hung)
    }

    /// Whether so many calls take long or hang that nothing is asked about a subject that has not answered yet.
    pub(super) fn is_wary(&self) -> bool {
        self.places_taken() >= MOST_FOR_UNKNOWN
    }

    /// Whether so many calls take long or hang that the one about this subject may not be another.
    fn is_risk(&self, subject: Subject, turn: Turn) -> bool {
        let most = match turn {
            Turn { answered: true, .. } => MOST,
            Turn { hung: 0, .. } => MOST_FOR_UNKNOWN,
            _ => MOST_FOR_HUNG,
        };
        self.places_taken() >= most && !self.is_listing(subject)
    }

    /// Calls that have not returned. A listing of objects waits for each of them: it hangs with the first, and does not count.
    fn places_taken(&self) -> usize {
        let subjects = self.calls.iter().map(|call| &call.subject).chain(self.hung.values());
        subjects.filter(|subject| !self.is_listing(**subject)).count()
    }

    fn is_listing(&self, subject: Subject) -> bool {
        self.probe.scope == Scope::Object && subject == Subject::Host
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

    /// How many calls of each probe hang.
    pub(super) fn hung_calls(&self) -> BTreeMap<&'static str, usize> {
        self.lanes.iter().map(|lane| (lane.probe.name, lane.hung.len())).collect()
    }

    /// Whether a reading is under way or due that nothing keeps from being taken.
    pub(super) fn is_reading(&self, now: Instant) -> bool {
        // One after the other, at the pace of the probe.
        let is_due = |lane: &Lane| lane.next_call().is_some() && lane.due.first().is_some_and(|(at, _)| *at <= now);
        self.lanes.iter().filter(|lane| lane.probe.group.is_some()).any(|lane| !lane.calls.is_empty() || is_due(lane))
    }

    /// The job has ended: whose it was.
    pub(super) fn ended(&mut self, job: JobId) -> Option<(&'static Probe, Ended)> {
        let of_job = |lane: &mut Lane| {
            let place = lane.calls.iter().position(|call| call.job == job);
            let ended = match place.and_then(|place| lane.calls.remove(place)) {
                Some(call) => Ended::InTime(call),
                None => Ended::AfterAll(lane.hung.remove(&job)?),
            };
            Some((lane.probe, ended))
        };
        self.lanes.iter_mut().find_map(of_job)
    }

    /// The call about a domain that hangs and may hold its job, if there is one.
    pub(super) fn hung_on(&self, uuid: Uuid) -> Option<JobId> {
        let holds = self.lanes.iter().filter(|lane| lane.probe.waits_for == WaitsFor::Hypervisor);
        let mut hung = holds.flat_map(|lane| &lane.hung);
        hung.find(|(_, subject)| subject.domain() == Some(uuid)).map(|(job, _)| *job)
    }

    /// The connection is gone, and all that was under way with it. What was read over it is not shown any more, so everything
    /// is asked again over the next one as if it never had been.
    pub(super) fn disconnected(&mut self) {
        self.readings.clear();
        self.lanes.iter_mut().for_each(|lane| *lane = Lane::new(lane.probe));
    }
}

#[cfg(test)]
mod tests;
