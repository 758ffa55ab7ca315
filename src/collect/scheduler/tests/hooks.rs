//! Domains that are being started or stopped: they change before an event tells of it, and libvirt may hold their locks for long.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::World;
use super::script::{Daemon, uuid};
use super::world::Life;
use crate::libvirt::ControlState;
use crate::probes::Task;

const SECOND: Duration = Duration::from_secs(1);

impl Daemon {
    /// Whether a task waits for the lock of a guest.
    pub(super) fn waits_for_lock(&self, task: &Task) -> bool {
        let is_locked = |uuid: &Uuid| self.guests.get(uuid).is_some_and(|guest| guest.locked);
        match task {
            Task::List | Task::Inactive { .. } | Task::Info { .. } => self.guests.keys().any(is_locked),
            Task::Control(domains) | Task::Stats { domains, .. } => domains.iter().any(is_locked),
            Task::Define { uuid, .. } | Task::Locate { uuid, .. } => is_locked(uuid),
            Task::Ask(_, subject) => subject.domain().is_some_and(|uuid| is_locked(&uuid)),
            Task::Ping => false,
        }
    }

    /// The control states that a task can tell of by now beyond the first ones, which it `told` before.
    pub(super) fn parts(&self, task: &Task, told: usize, now: Instant) -> Vec<(Uuid, Option<ControlState>)> {
        let Task::Control(domains) = task else { return Vec::new() };
        let is_free = |uuid: &&Uuid| !self.frozen && self.guests.get(*uuid).is_none_or(|guest| !guest.locked);
        let state = |uuid: &Uuid| self.control_states(&[*uuid], now).first().map(|(_, state)| *state);
        domains.iter().skip(told).take_while(is_free).map(|uuid| (*uuid, state(uuid))).collect()
    }
}

#[test]
fn a_guest_that_has_started_before_its_event_is_in_the_scrape() {
    let mut world = World::steady(3, "");
    world.live(2, Life::Stopped);
    world.advance(5 * SECOND);
    assert_eq!((world.scrape().complete(), world.snapshot().domains.len()), (2, 3));
    world.daemon.start(2);
    assert_eq!(world.scrape().complete(), 3);
    // One that is gone is not waited for.
    world.live(2, Life::Stopped);
    world.advance(40 * SECOND);
    world.daemon.guests.remove(&uuid(2));
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.collection.domains.len()), (2, 2));
    assert!(scrape.took < SECOND);
}

#[test]
fn a_hook_at_the_start_of_a_guest_delays_a_scrape_by_seconds() {
    let mut world = World::steady(20, "");
    world.live(3, Life::Stopped);
    world.advance(5 * SECOND);
    world.daemon.guest(3).locked = true;
    let scrape = world.scrape();
    assert_eq!((scrape.class(), scrape.complete()), (None, 19));
    assert!(scrape.took < SECOND * 7 / 2, "{:?}", scrape.took);
    for _ in 0..5 {
        world.advance(10 * SECOND);
        let scrape = world.scrape();
        assert_eq!((scrape.class(), scrape.complete()), (None, 19));
        assert!(scrape.took < SECOND, "{:?}", scrape.took);
    }
    world.daemon.guest(3).locked = false;
    world.look_again();
    world.advance(SECOND);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), world.calls_of("inactive_stats") > 1), (19, true));
}

#[test]
fn a_hook_at_the_stop_of_a_guest_costs_no_other_guest() {
    for (workers, guests) in [("", 20), ("collection: {workers: 1}", 20), ("", 3)] {
        let mut world = World::steady(guests, workers);
        world.daemon.guest(2).locked = true;
        for number in 0..5 {
            let scrape = world.scrape();
            assert_eq!((scrape.class(), scrape.complete()), (None, guests - 1), "{number}");
            assert_eq!(scrape.quarantined(), ["vm-2"]);
            // With one worker, the question about those that are shut off comes after the others, and waits as well.
            let most = if number == 0 { 4 * SECOND } else { SECOND };
            assert!(scrape.took < most, "{number}: {:?}", scrape.took);
            world.advance(10 * SECOND);
        }
        world.daemon.guest(2).locked = false;
        world.look_again();
        world.advance(SECOND);
        let scrape = world.scrape();
        assert_eq!((scrape.complete(), scrape.quarantined().len()), (guests, 0));
        assert!(scrape.took < SECOND);
    }
}

#[test]
fn a_listing_that_waits_for_a_hook_keeps_no_scrape_waiting() {
    let mut world = World::steady(20, "");
    world.daemon.guest(3).locked = true;
    // A listing is due meanwhile.
    world.calls.clear();
    world.until(700 * SECOND, |world| world.calls_of("listing") > 0);
    world.advance(5 * SECOND);
    for number in 0..5 {
        let scrape = world.scrape();
        assert_eq!((scrape.class(), scrape.complete()), (None, 19), "{number}");
        assert_eq!(scrape.quarantined(), ["vm-3"]);
        assert!(scrape.took < if number == 0 { 4 * SECOND } else { SECOND }, "{number}: {:?}", scrape.took);
        world.advance(10 * SECOND);
    }
    world.daemon.guest(3).locked = false;
    world.look_again();
    world.advance(SECOND);
    assert_eq!(world.scrape().complete(), 20);
}

#[test]
fn two_guests_whose_locks_are_held_cost_no_other() {
    for locked in [[2, 3], [3, 2], [7, 8], [1, 19]] {
        let mut world = World::steady(20, "");
        locked.into_iter().for_each(|number| world.daemon.guest(number).locked = true);
        for number in 0..6 {
            let scrape = world.scrape();
            assert_eq!((scrape.class(), scrape.complete()), (None, 18), "{number} {locked:?}");
            // Each is found by what waits for it.
            assert!(scrape.took < if number < 2 { 5 * SECOND } else { SECOND }, "{number}: {:?}", scrape.took);
            world.advance(10 * SECOND);
        }
        assert!(world.scheduler.stats().stuck_calls < 8, "{:?}", world.scheduler.stats().stuck_calls);
        locked.into_iter().for_each(|number| world.daemon.guest(number).locked = false);
        world.look_again();
        world.advance(SECOND);
        let scrape = world.scrape();
        assert_eq!((scrape.complete(), scrape.quarantined().len()), (20, 0));
    }
}

#[test]
fn a_daemon_without_room_is_not_asked_for_connections_again_and_again() {
    let mut world = World::steady(20, "collection: {workers: 1}");
    world.daemon.guest(3).locked = true;
    for _ in 0..3 {
        world.scrape();
        world.advance(10 * SECOND);
    }
    (world.daemon.places, world.daemon.refuses) = (world.connections(), true);
    (4..16).for_each(|number| world.daemon.guest(number).locked = true);
    for _ in 0..6 {
        world.scrape();
        world.advance(10 * SECOND);
    }
    assert!((1..200).contains(&world.refused), "{}", world.refused);
}

#[test]
fn a_host_whose_only_guest_is_in_a_hook_is_up() {
    let mut world = World::steady(1, "");
    world.daemon.guest(0).locked = true;
    for number in 0..4 {
        let scrape = world.scrape();
        assert_eq!((scrape.class(), scrape.complete()), (None, 0), "{number}");
        world.advance(20 * SECOND);
    }
}

#[test]
fn a_hook_that_ends_with_its_guest_leaves_no_quarantine() {
    let mut world = World::steady(5, "");
    world.daemon.guest(2).locked = true;
    assert_eq!(world.scrape().complete(), 4);
    world.daemon.guest(2).locked = false;
    world.live(2, Life::Stopped);
    world.look_again();
    world.advance(5 * SECOND);
    assert_eq!(world.scrape().complete(), 4);
    world.live(2, Life::Started);
    world.advance(5 * SECOND);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined().len()), (5, 0));
}
