use std::time::SystemTime;

use super::*;
use crate::domains::{Flags, Listing, PowerState};
use crate::libvirt::Identity;
use crate::probes::{ADDRESSES, DEFINITIONS};

fn a() -> Subject {
    Subject::Domain(Uuid::from_u128(1))
}

fn b() -> Subject {
    Subject::Domain(Uuid::from_u128(2))
}

fn domains() -> Domains {
    let identity = |number: u8| Identity { name: number.to_string(), uuid: Uuid::from_u128(number.into()), id: None };
    let domains = [1, 2].map(|number| (identity(number), PowerState::ShutOff, Flags::default())).to_vec();
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
fn calls_are_paced_and_one_that_takes_long_does_not_hold_up_the_next() {
    let (now, mut domains, config) = (Instant::now(), domains(), config("metadata: {rate: 10}"));
    let mut lane = Lane::new(&DEFINITIONS);
    lane.want(a(), now, &mut domains);
    lane.want(b(), now, &mut domains);
    assert_eq!(lane.take(now, &mut domains, ALL), Some(a()));
    lane.began(call(1, a(), now), (DEFINITIONS.pace)(&config));
    assert_eq!((lane.next_call(), lane.limit(&config)), (Some(now + SLOW), Some(now + Duration::from_secs(5))));
    lane.want(a(), now, &mut domains);
    assert_eq!(lane.take(now + SLOW, &mut domains, ALL), Some(b()), "a call about the other one is under way");
    lane.began(call(3, b(), now + SLOW), (DEFINITIONS.pace)(&config));
    assert_eq!(lane.next_call(), Some(now + SLOW + LATER), "behind the call that began last");
    assert_eq!(lane.limit(&config), Some(now + Duration::from_secs(5)), "of the call that began first");
    lane.calls.pop_back();
    lane.not_before = Some(now + Duration::from_millis(100));
    lane.want(b(), now, &mut domains);
    let mut background = Background { lanes: vec![lane], readings: BTreeMap::new() };
    assert!(background.ended(2).is_none());
    let ended = background.ended(1);
    let Some((probe, Ended::InTime(call))) = ended else { panic!("{ended:?}") };
    assert_eq!((probe.name, call.subject), ("definitions", a()));
    assert_eq!(background.lanes[0].next_call(), Some(now + Duration::from_millis(100)), "ten a second");
    assert_eq!((ADDRESSES.pace)(&config), Duration::ZERO);
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

/// The call about `subject` that is due at `at` hangs.
fn hang(lane: &mut Lane, job: JobId, subject: Subject, at: Instant, domains: &mut Domains) {
    lane.want(subject, at, domains);
    assert_eq!(lane.take(at, domains, ALL), Some(subject));
    lane.began(call(job, subject, at), Duration::ZERO);
    assert_eq!(lane.take_hung().map(|hung| hung.job), Some(job));
    lane.rest(subject, at, 1.0, domains);
}

#[test]
fn one_that_hangs_rests_longer_each_time_until_something_happens_to_it() {
    let (mut now, mut domains) = (Instant::now(), domains());
    let mut background = Background { lanes: vec![Lane::new(&DEFINITIONS)], readings: BTreeMap::new() };
    for (job, rest) in [(1, FIRST_REST), (2, 2 * FIRST_REST), (3, 4 * FIRST_REST)] {
        hang(&mut background.lanes[0], job, a(), now, &mut domains);
        let ended = background.ended(job);
        assert!(matches!(ended, Some((_, Ended::AfterAll(subject))) if subject == a()), "{ended:?}");
        background.lanes[0].want(a(), now, &mut domains);
        assert_eq!(background.lanes[0].next_call(), Some(now + rest), "no sooner");
        now += rest;
    }
    let lane = &mut background.lanes[0];
    hang(lane, 4, a(), now, &mut domains);
    lane.wake(a(), now, &mut domains);
    assert_eq!((lane.next_call(), lane.take(now, &mut domains, ALL)), (Some(now), None), "it still hangs");
    lane.hung.clear();
    lane.answered(a(), &mut domains);
    hang(lane, 5, a(), now + LATER, &mut domains);
    lane.want(a(), now, &mut domains);
    assert_eq!(lane.next_call(), Some(now + LATER + FIRST_REST), "what was before its answer does not count");
}

#[test]
fn the_more_hang_the_better_a_subject_must_have_answered() {
    let now = Instant::now();
    let takes = |hung: u64, prepare: fn(&mut Lane, &mut Domains)| {
        let (mut domains, mut lane) = (domains(), Lane::new(&DEFINITIONS));
        prepare(&mut lane, &mut domains);
        let other = |job: JobId| Subject::Domain(Uuid::from_u128(100 + u128::from(job)));
        lane.hung.extend((1..=hung).map(|job| (job, other(job))));
        lane.want(a(), now + LONGEST_REST, &mut domains);
        lane.next_call().is_some() && lane.take(now + LONGEST_REST, &mut domains, ALL) == Some(a())
    };
    let most = |prepare| (0..20).find(|hung| !takes(*hung, prepare));
    let hung = |lane: &mut Lane, domains: &mut Domains| lane.rest(a(), Instant::now(), 0.0, domains);
    assert_eq!(most(hung), Some(4));
    assert_eq!(most(|_, _| {}), Some(7));
    let answered = |lane: &mut Lane, domains: &mut Domains| lane.answered(a(), domains);
    assert_eq!(most(answered), Some(8), "the daemon has no more workers for this");
    // A call that takes long may be one that hangs.
    let slow = |lane: &mut Lane, _: &mut Domains| lane.began(call(30, b(), Instant::now()), Duration::ZERO);
    assert_eq!(most(slow), Some(6));
}

#[test]
fn calls_that_hang_end_with_their_connection() {
    let (now, mut domains) = (Instant::now(), domains());
    let mut background = Background { lanes: vec![Lane::new(&DEFINITIONS)], readings: BTreeMap::new() };
    hang(&mut background.lanes[0], 1, a(), now, &mut domains);
    assert_eq!(background.lanes[0].hung.len(), 1);
    background.disconnected();
    assert_eq!((background.lanes[0].hung.len(), background.ended(1).is_none()), (0, true));
}
