//! Guests whose hypervisor does not answer: each costs itself alone.

use std::time::Duration;

use super::script::uuid;
use super::world::Life;
use super::{World, everything};
use crate::collect::MissingReason;
use crate::collect::notice::Notice;
use crate::collect::pool::Role;
use crate::collect::quarantine::Cause;
use crate::collect::run::Phase;
use crate::config::Group;
use crate::libvirt::EventKind;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_frozen_guest_costs_only_itself() {
    let mut world = World::steady(100, "");
    world.daemon.guest(17).hung = true;
    let first = world.scrape();
    assert_eq!((first.complete(), first.quarantined()), (99, vec!["vm-17"]));
    assert!(first.took < 3 * SECOND, "{:?}", first.took);
    let missing = first.missing("vm-17").expect("missing").clone();
    assert_eq!(missing.reason, MissingReason::Quarantined);
    assert!(missing.groups.contains(&Group::Balloon) && !missing.groups.contains(&Group::State));
    assert!(first.keys("vm-17").contains(&"state.state".to_owned()), "what needs no hypervisor is there");
    world.calls.clear();
    for _ in 0..5 {
        let later = world.scrape();
        assert_eq!((later.complete(), later.quarantined(), later.class()), (99, vec!["vm-17"], None));
        assert!(later.took < SECOND / 2, "{:?}", later.took);
    }
    // One call is left waiting, and none was added; the control state is asked for twice a scrape.
    assert_eq!((world.stuck_calls(), world.under_way(), world.calls_of("control")), (1, 1, 10));
    world.daemon.guest(17).hung = false;
    world.look_again();
    let thawed = world.scrape();
    assert_eq!((thawed.complete(), thawed.quarantined().len(), world.stuck_calls()), (100, 0, 0));
    let domain = "vm-17".to_owned();
    let quarantined = Notice::Quarantined { uuid: uuid(17), domain: domain.clone(), cause: Cause::Frozen };
    assert_eq!(world.log, [quarantined, Notice::Released { uuid: uuid(17), domain }], "a line for each change");
    // The worker that replaced the stuck one is one too many.
    world.scrape();
    assert_eq!(world.connections_of(Role::Stats), 4);
}

#[test]
fn three_frozen_guests_before_the_first_scrape_cost_only_themselves() {
    let mut world = World::new(10, "");
    [2, 3, 7].iter().for_each(|number| world.daemon.guest(*number).hung = true);
    for _ in 0..2 {
        let scrape = world.scrape();
        assert_eq!((scrape.complete(), scrape.quarantined()), (7, vec!["vm-2", "vm-3", "vm-7"]));
    }
    assert_eq!(world.stuck_calls(), 3);
    // One dies, one is started again, one thaws.
    world.live(2, Life::Stopped);
    world.live(3, Life::Started);
    world.daemon.guest(7).hung = false;
    world.look_again();
    let healed = world.scrape();
    assert_eq!((healed.complete(), healed.collection.domains.len(), healed.quarantined().len()), (9, 9, 0));
}

#[test]
fn many_frozen_guests_do_not_make_a_storm() {
    let mut world = World::steady(100, "");
    (0..100).step_by(5).for_each(|number| world.daemon.guest(number).hung = true);
    for _ in 0..4 {
        let scrape = world.scrape();
        assert_eq!(scrape.class(), None);
        assert!(scrape.took <= 4 * SECOND, "{:?}", scrape.took);
        // Three and those that were under way at the same moment.
        assert!((3..=7).contains(&world.under_way()), "{} calls are stuck", world.under_way());
    }
    let scrape = world.scrape();
    let reasons: Vec<_> = (0..100).filter_map(|number| Some(scrape.missing(&format!("vm-{number}"))?.reason)).collect();
    assert!(reasons.contains(&MissingReason::StuckCalls), "{reasons:?}");
    (0..100).step_by(5).for_each(|number| world.daemon.guest(number).hung = false);
    world.look_again();
    world.advance(SECOND);
    assert_eq!((world.scrape().complete(), world.stuck_calls()), (100, 0));
}

#[test]
fn guests_that_have_answered_are_asked_although_one_call_too_many_is_stuck() {
    let mut world = World::steady(40, "");
    [0, 11, 22, 33].iter().for_each(|number| world.daemon.guest(*number).hung = true);
    world.scrape();
    assert_eq!(world.stuck_calls(), 4);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined().len()), (36, 4));
}

#[test]
fn a_broken_monitor_is_told_from_a_frozen_hypervisor() {
    let mut world = World::steady(10, "");
    world.daemon.guest(4).hung = true;
    world.daemon.guest(4).broken = true;
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined()), (9, vec!["vm-4"]));
    assert!(matches!(world.log[0], Notice::Quarantined { cause: Cause::MonitorError, .. }));
}

#[test]
fn a_guest_that_thaws_while_a_run_lasts_is_complete_in_it() {
    let mut world = World::steady(10, "");
    world.daemon.guest(4).hung = true;
    assert_eq!(world.scrape().complete(), 9);
    (5..10).for_each(|number| world.daemon.guest(number).takes = SECOND / 10);
    let waiter = world.ask(everything(), 4 * SECOND);
    world.advance(SECOND / 20);
    world.daemon.guest(4).hung = false;
    world.look_again();
    world.advance(3 * SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!(answer.domains.iter().filter(|domain| domain.is_complete()).count(), 10);
}

#[test]
fn a_run_does_not_end_while_its_guests_in_quarantine_are_looked_at_again() {
    let mut world = World::steady(10, "");
    world.daemon.guest(4).hung = true;
    assert_eq!(world.scrape().complete(), 9);
    (5..10).for_each(|number| world.daemon.guest(number).takes = SECOND / 10);
    let waiter = world.ask(everything(), 4 * SECOND);
    world.advance(SECOND / 20);
    world.daemon.guest(4).hung = false;
    world.look_again();
    world.until(4 * SECOND, |world| world.scheduler.runs.values().any(|run| run.phase == Phase::Rechecking));
    // Something else happens before the daemon has answered.
    let domain = world.daemon.identity(5);
    world.event(&domain, EventKind::RtcChange);
    world.advance(Duration::ZERO);
    assert!(world.answer(waiter).is_none());
    world.advance(SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!(answer.domains.iter().filter(|domain| domain.is_complete()).count(), 10);
}

#[test]
fn a_guest_that_is_slow_is_not_taken_for_a_frozen_one() {
    let mut world = World::steady(10, "");
    world.daemon.guest(4).takes = 3 * SECOND;
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined().len(), world.stuck_calls()), (10, 0, 0));
    assert!(world.calls_of("control") > 0, "it was looked into");
}

#[test]
fn a_new_run_of_a_frozen_guest_is_asked_for_everything() {
    let mut world = World::steady(5, "");
    for told in [true, false] {
        world.daemon.guest(1).hung = true;
        assert_eq!(world.scrape().quarantined(), ["vm-1"]);
        world.tells_events = told;
        world.live(1, Life::Started);
        if !told {
            // Records of another run than the known one lead to a listing.
            world.scrape();
            world.advance(SECOND);
        }
        let state = world.scheduler.domains.companion(uuid(1)).expect("a domain");
        assert!(state.incarnation.quarantine.entered().is_none(), "what was true of the last run is void");
        let scrape = world.scrape();
        assert_eq!((scrape.complete(), scrape.quarantined().len()), (5, 0), "told: {told}");
    }
}

#[test]
fn the_suspects_of_a_call_that_is_left_are_not_asked_for_more_until_they_are_cleared() {
    let mut world = World::steady(4, "collection: {workers: 1, batch_size: 4}");
    world.daemon.guest(2).hung = true;
    // The deadline comes before any call is looked into with a result.
    let waiter = world.ask(everything(), Duration::from_millis(50));
    world.advance(Duration::from_millis(60));
    assert!(world.answer(waiter).is_some());
    assert_eq!((world.stuck_calls(), world.under_way()), (1, 1));
    world.calls.clear();
    world.advance(5 * SECOND);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined(), world.stuck_calls()), (3, vec!["vm-2"], 1));
    assert_eq!(world.under_way(), 1, "the culprit was found without another call for it");
}
