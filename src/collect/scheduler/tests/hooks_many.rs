//! Several guests whose locks libvirt holds, for long or one after the other.

use std::time::Duration;

use super::script::uuid;
use super::{World, everything, only};
use crate::collect::quarantine::Cause;
use crate::config::Group;

const SECOND: Duration = Duration::from_secs(1);

impl World {
    fn lock(&mut self, guests: &[usize]) {
        guests.iter().for_each(|number| self.daemon.guest(*number).locked = true);
    }

    fn unlock(&mut self, guests: &[usize]) {
        guests.iter().for_each(|number| self.daemon.guest(*number).locked = false);
        self.look_again();
        self.advance(SECOND);
    }

    /// Guests whose locks are held from now on, each found before the next.
    fn lock_in_turn(&mut self, guests: &[usize]) {
        for number in guests {
            self.lock(&[*number]);
            self.scrapes(2);
        }
    }

    /// Scrapes ten seconds apart.
    fn scrapes(&mut self, count: usize) {
        for _ in 0..count {
            self.scrape();
            self.advance(10 * SECOND);
        }
    }

    fn cause(&mut self, number: usize) -> Option<Cause> {
        let scrape = self.scrape();
        let domain = scrape.collection.domains.iter().find(|domain| domain.identity.uuid == uuid(number));
        domain.expect("a running domain").quarantined.map(|quarantined| quarantined.cause)
    }
}

#[test]
fn more_locks_than_can_be_named_cost_no_further_calls() {
    for locked in [&[1, 4, 7, 10, 13, 16][..], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]] {
        let mut world = World::steady(40, "");
        world.lock(locked);
        world.scrapes(12);
        let (connections, stuck) = (world.connections(), world.stuck_calls());
        for number in 0..20 {
            let scrape = world.scrape();
            assert!(scrape.took < SECOND, "{number}: {:?}", scrape.took);
            world.advance(10 * SECOND);
        }
        assert_eq!((world.connections(), world.stuck_calls()), (connections, stuck));
        world.unlock(locked);
        world.scrape();
        assert_eq!(world.scrape().complete(), 40);
    }
}

#[test]
fn a_lock_costs_one_call_of_a_driver_without_bulk_statistics() {
    let mut world = World::new(5, "");
    (world.daemon.knows_bulk, world.daemon.driver) = (false, "LXC");
    world.scrapes(3);
    world.lock(&[2]);
    world.scrapes(3);
    let (connections, stuck) = (world.connections(), world.stuck_calls());
    for number in 0..10 {
        let scrape = world.scrape();
        assert!(scrape.took < SECOND, "{number}: {:?}", scrape.took);
        world.advance(10 * SECOND);
    }
    assert_eq!((world.connections(), world.stuck_calls()), (connections, stuck));
    world.unlock(&[2]);
    world.scrape();
    let scrape = world.scrape();
    let has_answered = |name: &&str| !scrape.keys(name).is_empty();
    assert_eq!(["vm-0", "vm-1", "vm-2", "vm-3", "vm-4"].iter().filter(|name| has_answered(name)).count(), 5);
}

#[test]
fn control_states_are_asked_for_again_once_one_of_many_locks_is_free() {
    let mut world = World::steady(20, "");
    world.daemon.guest(0).hung = true;
    assert_eq!(world.scrape().quarantined(), ["vm-0"]);
    world.lock_in_turn(&[4, 8, 12, 16, 18]);
    world.unlock(&[4, 8, 12, 16]);
    world.daemon.guest(0).hung = false;
    world.look_again();
    world.scrapes(2);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined()), (19, vec!["vm-18"]));
}

#[test]
fn a_guest_whose_lock_is_free_is_back_while_the_same_question_waits_for_another() {
    // Guests 4 to 7 are in one batch.
    let mut world = World::steady(40, "");
    world.lock_in_turn(&[5, 6]);
    world.unlock(&[5]);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined()), (39, vec!["vm-6"]));
}

#[test]
fn what_was_said_before_a_lock_was_waited_for_releases_no_guest_after_it() {
    let mut world = World::steady(40, "");
    world.lock_in_turn(&[5]);
    world.daemon.guest(4).hung = true;
    world.scrapes(2);
    world.unlock(&[5]);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined()), (39, vec!["vm-4"]));
}

#[test]
fn the_other_guests_of_a_batch_are_whole_again_once_a_lock_is_named_after_its_deadline() {
    let mut world = World::steady(20, "");
    world.lock(&[5]);
    let waiter = world.ask(everything(), SECOND);
    world.until(2 * SECOND, |world| world.answer(waiter).is_some());
    world.advance(10 * SECOND);
    world.scrapes(2);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined()), (19, vec!["vm-5"]));
}

#[test]
fn a_lock_that_is_known_is_waited_for_by_no_other_selection() {
    let mut world = World::steady(3, "collection: {workers: 1}");
    world.lock(&[1]);
    let timeout = 10 * SECOND;
    let waiters = [everything(), only(&[Group::Balloon]), only(&[Group::Block])].map(|of| world.ask(of, timeout));
    world.until(timeout, |world| waiters.iter().all(|waiter| world.answer(*waiter).is_some()));
    assert_eq!(world.under_way(), 1);
    for waiter in waiters {
        let complete = world.answer(waiter).expect("an answer").domains.iter().filter(|domain| domain.is_complete());
        assert_eq!(complete.count(), 2);
    }
}

#[test]
fn a_busy_guest_that_is_found_locked_is_not_asked_again() {
    let mut world = World::steady(3, "collection: {workers: 1}");
    world.daemon.guest(2).busy_until = Some(world.now + 60 * SECOND);
    let waiter = world.ask(everything(), 10 * SECOND);
    world.until(SECOND, |world| world.calls_of("stats") == 3);
    world.lock(&[2]);
    world.until(10 * SECOND, |world| world.answer(waiter).is_some());
    assert_eq!(world.under_way(), 0);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined()), (2, vec!["vm-2"]));
}

#[test]
fn three_locks_and_all_that_waits_for_them_cost_no_other_guest() {
    let mut world = World::steady(40, "");
    world.lock_in_turn(&[4, 12, 20]);
    for number in 0..3 {
        let scrape = world.scrape();
        assert_eq!((scrape.complete(), scrape.quarantined().len()), (37, 3), "{number}");
        assert!(scrape.took < SECOND, "{number}: {:?}", scrape.took);
        world.advance(10 * SECOND);
    }
}

#[test]
fn a_guest_whose_lock_is_free_and_whose_monitor_is_not_is_locked_no_more() {
    for (broken, cause) in [(true, Cause::MonitorError), (false, Cause::Frozen)] {
        let mut world = World::steady(5, "");
        world.lock_in_turn(&[2]);
        assert_eq!(world.cause(2), Some(Cause::Locked));
        let since = (!broken).then_some(world.now);
        (world.daemon.guest(2).broken, world.daemon.guest(2).occupied_since) = (broken, since);
        world.advance(600 * SECOND);
        world.unlock(&[2]);
        assert_eq!(world.cause(2), Some(cause));
        assert!(world.scrape().keys("vm-2").iter().any(|key| key == "state.state"));
    }
}

#[test]
fn a_guest_that_is_frozen_beside_a_locked_one_is_found_as_well() {
    let mut world = World::steady(40, "");
    world.daemon.guest(4).hung = true;
    let waiter = world.ask(everything(), 10 * SECOND);
    world.until(SECOND, |world| world.under_way() > 1);
    world.lock(&[5]);
    world.until(10 * SECOND, |world| world.answer(waiter).is_some());
    let quarantined = world.answer(waiter).expect("an answer").domains.iter().filter_map(|domain| domain.quarantined);
    assert_eq!(quarantined.map(|of| of.cause).collect::<Vec<_>>(), [Cause::Frozen, Cause::Locked]);
    assert_eq!(world.scrape().complete(), 38);
}
