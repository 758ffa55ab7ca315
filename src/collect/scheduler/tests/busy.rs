//! Domains whose job another client holds: whole in every run if that is possible, and what is missing is said.

use std::time::Duration;

use super::script::uuid;
use super::world::Life;
use super::{Scrape, World, everything, only};
use crate::collect::MissingReason;
use crate::config::Group;
use crate::probes::Task;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn reason(scrape: &Scrape, name: &str) -> Option<MissingReason> {
    scrape.missing(name).map(|missing| missing.reason)
}

/// Whether a call waits for the job of its domain.
fn waits(task: &Task) -> bool {
    matches!(task, Task::Stats { request, .. } if !request.nowait)
}

fn waiting_calls(world: &World) -> usize {
    world.calls.iter().filter(|call| waits(&call.task)).count()
}

#[test]
fn a_domain_that_is_busy_for_a_moment_is_whole_without_a_call_that_waits() {
    let groups = "state, cpu_total, vcpu, vcpu_kvm, balloon, block, iothread, dirtyrate, vm";
    let mut world = World::steady(10, &format!("collection: {{groups: [{groups}]}}"));
    let mut whole = world.scrape().keys("vm-1");
    whole.sort();
    for busy in [1, 15, 60] {
        world.daemon.guest(1).busy_until = Some(world.now + busy * MILLI);
        let scrape = world.scrape();
        let mut keys = scrape.keys("vm-1");
        keys.sort();
        assert_eq!((scrape.complete(), keys), (10, whole.clone()), "{busy} ms");
        let distinct: std::collections::BTreeSet<String> = scrape.keys("vm-1").into_iter().collect();
        assert_eq!(distinct.len(), whole.len(), "each key once");
    }
    assert_eq!(waiting_calls(&world), 0);
}

#[test]
fn a_domain_that_stays_busy_is_asked_by_a_call_that_waits() {
    let mut world = World::steady(10, "");
    world.daemon.guest(1).busy_until = Some(world.now + 900 * MILLI);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), waiting_calls(&world)), (10, 1));
    assert!(scrape.took < Duration::from_millis(1100), "{:?}", scrape.took);
    assert_eq!(world.stuck_calls(), 0);
}

#[test]
fn few_calls_wait_at_a_time() {
    let mut world = World::steady(10, "");
    (0..6).for_each(|number| world.daemon.guest(number).busy_until = Some(world.now + 1200 * MILLI));
    let waiter = world.ask(everything(), 4 * SECOND);
    world.advance(1100 * MILLI);
    assert_eq!(waiting_calls(&world), 2);
    world.advance(2 * SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!(answer.domains.iter().filter(|domain| domain.is_complete()).count(), 10);
}

/// Such a call may get the job and hang, too.
#[test]
fn no_call_waits_while_the_most_calls_that_may_hang_do() {
    for (hung, expected) in [(2, 1), (3, 0)] {
        let mut world = World::steady(10, "");
        (0..hung).for_each(|number| world.daemon.guest(number).hung = true);
        assert_eq!((world.scrape().complete(), world.stuck_calls()), (10 - hung, hung));
        world.calls.clear();
        world.daemon.guest(5).busy_until = Some(world.now + 900 * MILLI);
        assert_eq!((world.scrape().complete(), waiting_calls(&world)), (10 - hung, expected), "{hung} hang");
    }
}

#[test]
fn two_runs_do_not_wait_for_one_job_twice() {
    let mut world = World::steady(4, "");
    world.daemon.guest(1).busy_until = Some(world.now + 3 * SECOND);
    let waiters = [everything(), only(&[Group::Balloon])].map(|selection| world.ask(selection, 8 * SECOND));
    let mut most = 0;
    for _ in 0..8 {
        // The engine is late, and finds both due.
        world.now += 250 * MILLI;
        world.advance(5 * MILLI);
        let jobs = world.workers.values().filter_map(|worker| worker.job.as_ref());
        most = most.max(jobs.filter(|(_, task, _)| waits(task)).count());
    }
    assert_eq!(most, 1);
    world.advance(3 * SECOND);
    for waiter in waiters {
        let answer = world.answer(waiter).expect("an answer");
        assert_eq!(answer.domains.iter().filter(|domain| domain.is_complete()).count(), 4);
    }
}

#[test]
fn a_record_of_another_incarnation_completes_none() {
    let mut world = World::steady(4, "");
    world.daemon.guest(1).busy_until = Some(world.now + 60 * SECOND);
    let waiter = world.ask(everything(), 4 * SECOND);
    world.advance(5 * MILLI);
    world.tells_events = false;
    let old = world.daemon.identity(1).id;
    world.live(1, Life::Started);
    world.advance(3 * SECOND);
    let answer = world.answer(waiter).expect("an answer");
    let records = answer.batches.iter().flat_map(|records| records.domains());
    let records: Vec<_> = records.filter(|record| record.uuid == uuid(1)).collect();
    assert_eq!((records.len(), records[0].id), (1, old), "no record is of both");
    let keys: Vec<&str> = records[0].params().map(|param| param.key).collect();
    assert!(keys.contains(&"state.state") && !keys.contains(&"balloon.rss"), "{keys:?}");
    let shown = answer.domains.iter().find(|domain| domain.identity.uuid == uuid(1)).expect("it runs");
    assert!(shown.missing.as_ref().is_some_and(|missing| missing.groups.contains(&Group::Balloon)));
}

#[test]
fn a_domain_that_is_busy_to_the_end_is_marked_and_costs_the_next_runs_little() {
    let mut world = World::steady(10, "");
    world.daemon.guest(1).busy_until = Some(world.now + 60 * SECOND);
    let first = world.scrape();
    assert_eq!((first.complete(), reason(&first, "vm-1")), (9, Some(MissingReason::Busy)));
    assert!(first.took <= 2 * SECOND + 100 * MILLI, "half of the deadline: {:?}", first.took);
    assert!(first.missing("vm-1").is_some_and(|missing| !missing.groups.contains(&Group::State)));
    world.calls.clear();
    let later = world.scrape();
    assert_eq!((later.complete(), reason(&later, "vm-1"), waiting_calls(&world)), (9, Some(MissingReason::Busy), 0));
    assert!(later.took < SECOND / 2, "{:?}", later.took);
    world.daemon.guest(1).busy_until = None;
    world.look_again();
    world.advance(SECOND);
    assert_eq!(world.scrape().complete(), 10);
    world.daemon.guest(1).busy_until = Some(world.now + 900 * MILLI);
    assert_eq!(world.scrape().complete(), 10, "it is waited for again once it has answered");
}

#[test]
fn a_domain_that_is_busy_and_then_frozen_is_quarantined_and_the_others_are_whole() {
    let mut world = World::steady(10, "");
    world.daemon.guest(1).busy_until = Some(world.now + 700 * MILLI);
    world.daemon.guest(1).hung = true;
    let waiter = world.ask(everything(), 8 * SECOND);
    world.advance(8 * SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!(answer.domains.iter().filter(|domain| domain.is_complete()).count(), 9);
    let quarantined: Vec<_> = answer.domains.iter().filter(|domain| domain.quarantined.is_some()).collect();
    assert_eq!((quarantined.len(), quarantined[0].identity.uuid, world.stuck_calls()), (1, uuid(1), 1));
    world.daemon.guest(1).hung = false;
    world.look_again();
    assert_eq!((world.scrape().complete(), world.stuck_calls()), (10, 0));
}

#[test]
fn a_monitor_that_does_not_answer_another_client_is_not_waited_for() {
    let mut world = World::steady(10, "");
    world.daemon.guest(1).occupied_since = Some(world.now.checked_sub(5 * SECOND).expect("later than the start"));
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), reason(&scrape, "vm-1")), (9, Some(MissingReason::Busy)));
    assert!(scrape.took < SECOND / 2, "{:?}", scrape.took);
    assert_eq!((waiting_calls(&world), world.stuck_calls(), scrape.quarantined().len()), (0, 0, 0));
    world.daemon.guest(1).occupied_since = None;
    assert_eq!(world.scrape().complete(), 10);
}

#[test]
fn a_domain_that_is_busy_and_then_gone_is_no_error() {
    let mut world = World::steady(10, "");
    world.daemon.guest(1).busy_until = Some(world.now + 60 * SECOND);
    let waiter = world.ask(everything(), 4 * SECOND);
    world.advance(30 * MILLI);
    world.live(1, Life::Undefined);
    world.advance(SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!((answer.error.clone(), answer.domains.len()), (None, 9));
}

#[test]
fn a_domain_of_another_driver_is_not_judged() {
    let mut daemon = super::script::Daemon::new(3);
    daemon.driver = "Xen";
    let mut world = World::of(daemon, "");
    world.daemon.guest(1).busy_until = Some(world.now + 60 * SECOND);
    assert_eq!(world.scrape().complete(), 3);
}
