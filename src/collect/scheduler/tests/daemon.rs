//! A daemon that freezes, goes away or takes no connection.

use std::time::Duration;

use super::script::{Daemon, Reply};
use super::{World, everything};
use crate::collect::Standing;
use crate::collect::notice::Notice;
use crate::collect::pool::Role;
use crate::libvirt::{ErrorClass, EventKind};
use crate::probes::Task;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_frozen_daemon_is_an_answer_and_recovers() {
    let mut world = World::steady(20, "");
    world.daemon.frozen = true;
    let first = world.scrape();
    assert_eq!((first.class(), first.took), (Some(ErrorClass::TimedOut), 4 * SECOND), "it may only be slow");
    let closed = (0..20).filter(|number| world.scheduler.is_closed(world.daemon.identity(*number).uuid)).count();
    assert_eq!((world.stuck_calls() > 0, closed), (true, 0), "its calls hang, and no guest is to blame");
    for _ in 0..3 {
        let later = world.scrape();
        assert_eq!((later.class(), later.took), (Some(ErrorClass::TimedOut), Duration::ZERO));
        assert!(later.collection.batches.is_empty() && later.collection.domains.is_empty());
        world.advance(SECOND);
    }
    assert!(matches!(world.standing(), Standing::Failed(_)));
    assert!(world.domains_within(false, SECOND).is_err());
    world.revive();
    world.advance(SECOND);
    let thawed = world.scrape();
    assert_eq!((thawed.class(), thawed.complete(), thawed.quarantined().len()), (None, 20, 0));
    let silent = world
        .log
        .iter()
        .filter(|notice| matches!(notice, Notice::Failed { what: "libvirt is not responding", .. }))
        .count();
    let back = world.log.iter().filter(|notice| **notice == Notice::AnswersAgain).count();
    assert_eq!((silent, back), (1, 1), "{:?}", world.log);
}

#[test]
fn a_daemon_that_stalls_within_the_deadline_is_up_and_complete() {
    let mut world = World::steady(10, "");
    (0..10).for_each(|number| world.daemon.guest(number).takes = 300 * MILLI);
    world.daemon.frozen = true;
    let began = world.now;
    let waiter = world.ask(everything(), 8 * SECOND);
    // As long as it takes for a call to be looked into, but for a moment: it is not looked into as soon as the daemon goes on.
    world.advance(5900 * MILLI);
    // While it stood still, so did every monitor.
    world.daemon.stalled = Some((began, world.now + SECOND));
    world.revive();
    world.advance(2100 * MILLI);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!((answer.error.clone(), answer.domains.iter().filter(|domain| domain.is_complete()).count()), (None, 10));
    let blamed = world.log.iter().filter(|notice| matches!(notice, Notice::Quarantined { .. })).count();
    assert_eq!((world.stuck_calls(), blamed), (0, 0));
}

#[test]
fn the_time_that_a_daemon_stands_still_is_not_taken_from_its_busy_domains() {
    let mut world = World::steady(10, "");
    world.daemon.guest(1).busy_until = Some(world.now + 6 * SECOND);
    let waiter = world.ask(everything(), 10 * SECOND);
    world.advance(200 * MILLI);
    world.daemon.frozen = true;
    world.advance(5300 * MILLI);
    assert!(matches!(world.standing(), Standing::Failed(_)));
    world.revive();
    world.advance(2 * SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!((answer.error.clone(), answer.domains.iter().filter(|domain| domain.is_complete()).count()), (None, 10));
}

#[test]
fn an_impatient_client_costs_no_other_its_scrape() {
    let mut world = World::steady(10, "");
    world.daemon.frozen = true;
    world.ask(everything(), 650 * MILLI);
    world.advance(300 * MILLI);
    let waiter = world.ask(everything(), 8 * SECOND);
    world.advance(345 * MILLI);
    world.revive();
    world.advance(SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!((answer.error.clone(), answer.domains.iter().filter(|domain| domain.is_complete()).count()), (None, 10));
    assert!(world.log.is_empty(), "{:?}", world.log);
}

#[test]
fn events_are_a_sign_of_life() {
    let mut world = World::steady(3, "");
    let domain = world.daemon.identity(1);
    world.daemon.frozen = true;
    for _ in 0..700 {
        world.event(&domain, EventKind::RtcChange);
        world.advance(SECOND);
        assert!(matches!(world.standing(), Standing::Connected(_)));
    }
    world.advance(700 * SECOND);
    assert!(matches!(world.standing(), Standing::Failed(_)), "a listing that is never answered");
}

#[test]
fn a_listing_that_waits_for_the_lock_of_a_domain_is_no_silence() {
    for workers in ["", "collection: {workers: 1, idle_timeout: 1s}"] {
        let mut world = World::steady(20, workers);
        world.daemon.listing = Reply::Hangs;
        for _ in 0..70 {
            world.advance(10 * SECOND);
            let scrape = world.scrape();
            assert_eq!((scrape.class(), scrape.complete()), (None, 20));
            assert!(scrape.took < SECOND, "{:?}", scrape.took);
        }
        assert!(matches!(world.standing(), Standing::Connected(_)));
        assert!(world.connections() < 12, "{}", world.connections());
        // A daemon that answers nothing is still told from that.
        world.daemon.frozen = true;
        world.advance(10 * SECOND);
        assert_eq!(world.scrape().class(), Some(ErrorClass::TimedOut));
        world.revive();
        world.advance(SECOND);
        assert_eq!((world.scrape().class(), world.scrape().complete()), (None, 20), "though it is not listed yet");
        world.daemon.listing = Reply::Good;
        world.look_again();
        world.advance(SECOND);
        assert_eq!(world.scrape().complete(), 20);
    }
}

/// While a listing waits for a lock, no other connection tells that the daemon answers: there is none, and none can be opened.
#[test]
fn a_daemon_without_places_that_looks_silent_is_asked_again() {
    for (refuses, has_events) in [(true, false), (false, false), (true, true)] {
        let mut world = World::steady(20, "collection: {idle_timeout: 1s}");
        let domain = world.daemon.identity(1);
        let pass = |world: &mut World, time: Duration| {
            let end = world.now + time;
            while world.now < end {
                world.advance(2 * SECOND);
                if has_events {
                    world.event(&domain, EventKind::RtcChange);
                }
            }
        };
        world.advance(10 * SECOND);
        world.daemon.listing = Reply::Hangs;
        (world.daemon.places, world.daemon.refuses) = (world.connections(), refuses);
        world.until(700 * SECOND, |world| world.calls_of("listing") > 0);
        world.advance(60 * SECOND);
        assert!(matches!(world.standing(), Standing::Failed(_)));
        let (refused, connections) = (world.refused, world.connections());
        pass(&mut world, 600 * SECOND);
        let asked = world.refused - refused;
        assert!((50..=70).contains(&asked) && world.connections() == connections, "{asked} {}", world.connections());
        world.daemon.places = usize::MAX;
        pass(&mut world, 15 * SECOND);
        assert!(matches!(world.standing(), Standing::Connected(_)), "{refuses}: {:?}", world.log);
        assert_eq!((world.scrape().class(), world.scrape().complete()), (None, 20));
    }
}

/// However long it stands still: over connections that there are, or else over one that is opened.
#[test]
fn a_frozen_daemon_is_not_asked_without_bound_whether_it_answers() {
    for (workers, most_pings, most_opens) in [
        ("", 2, 0),
        ("collection: {workers: 1, idle_timeout: 1h}", 1, 1),
        ("collection: {workers: 1, idle_timeout: 1s}", 0, 370),
    ] {
        let mut world = World::steady(20, workers);
        world.advance(10 * SECOND);
        let connections = world.connections();
        world.daemon.frozen = true;
        world.until(700 * SECOND, |world| world.calls_of("listing") > 0);
        // It is held to be silent, and calls of the background have ended.
        world.advance(10 * SECOND);
        let refused = world.refused;
        world.advance(3600 * SECOND);
        let pings = world.calls.iter().filter(|call| matches!(call.task, Task::Ping)).count();
        let opens = world.refused - refused;
        assert!(pings <= most_pings && opens <= most_opens, "{pings} {opens}");
        assert!(world.connections() <= connections + 1, "{} {connections}", world.connections());
        world.revive();
        world.advance(SECOND);
        assert_eq!(world.scrape().complete(), 20);
    }
}

/// Events tell that it is up, and no open can be ended: each would leave a thread behind.
#[test]
fn a_daemon_that_is_up_is_not_asked_without_bound_whether_it_answers() {
    let mut world = World::steady(20, "collection: {workers: 1, idle_timeout: 1s}");
    let domain = world.daemon.identity(1);
    world.advance(10 * SECOND);
    (world.daemon.listing, world.daemon.stubborn) = (Reply::Hangs, true);
    world.daemon.places = world.connections();
    world.until(700 * SECOND, |world| world.calls_of("listing") > 0);
    let threads = world.scheduler.stats().threads;
    for _ in 0..1800 {
        world.event(&domain, EventKind::RtcChange);
        world.advance(SECOND);
    }
    assert!(matches!(world.standing(), Standing::Connected(_)));
    let opening = world.scheduler.stats().threads - threads;
    assert!((1..=5).contains(&opening), "{opening}");
}

#[test]
fn twenty_restarts_of_the_daemon_are_twenty_reconnections() {
    let mut world = World::steady(10, "");
    for round in 1..=20 {
        world.kill();
        world.advance(20 * MILLI);
        let down = world.scrape();
        assert_eq!(down.class(), Some(ErrorClass::ConnectFailed));
        assert!(down.took < SECOND, "{:?}", down.took);
        world.revive();
        world.advance(11 * SECOND);
        assert_eq!(world.scrape().complete(), 10);
        assert_eq!(world.scheduler.stats().reconnects, round);
    }
}

#[test]
fn a_daemon_that_is_restarted_at_once_costs_a_run_nothing() {
    let mut world = World::steady(10, "");
    (0..10).for_each(|number| world.daemon.guest(number).takes = 100 * MILLI);
    let waiter = world.ask(everything(), 4 * SECOND);
    world.advance(50 * MILLI);
    world.kill();
    world.revive();
    world.advance(3 * SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!((answer.error.clone(), answer.domains.len()), (None, 10));
}

#[test]
fn a_run_whose_question_was_lost_with_the_connection_starts_over() {
    let mut world = World::steady(10, "");
    world.daemon.guest(1).hung = true;
    assert_eq!(world.scrape().quarantined(), ["vm-1"]);
    let waiter = world.ask(everything(), 4 * SECOND);
    // It is being asked which domains in quarantine answer again.
    world.advance(Duration::ZERO);
    world.kill();
    world.daemon.guest(1).hung = false;
    world.revive();
    world.advance(5 * MILLI);
    let state = world.scheduler.domains.companion(super::script::uuid(1)).expect("a domain");
    assert!(state.incarnation.quarantine.entered().is_none() && state.reply_size.is_none(), "it may be another daemon");
    world.advance(2 * SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!((answer.error.clone(), answer.domains.iter().filter(|domain| domain.is_complete()).count()), (None, 10));
}

#[test]
fn calls_that_hang_are_none_of_the_next_connection() {
    let mut world = World::steady(10, "");
    (0..4).for_each(|number| world.daemon.guest(number).hung = true);
    assert_eq!((world.scrape().complete(), world.stuck_calls()), (6, 4));
    // The threads of the old connection hang on, and come back later.
    world.break_worker(|worker| worker.role == Role::Control);
    world.advance(SECOND);
    assert_eq!(world.stuck_calls(), 0);
    (0..4).for_each(|number| world.daemon.guest(number).hung = false);
    world.look_again();
    world.advance(SECOND);
    assert_eq!((world.scrape().complete(), world.stuck_calls()), (10, 0));
}

#[test]
fn definitions_are_read_again_over_a_new_connection() {
    let mut world = World::steady(3, "metadata: {refresh_interval: 1h}");
    world.kill();
    world.daemon.guest(1).title = "changed meanwhile".to_owned();
    world.revive();
    world.advance(2 * SECOND);
    assert_eq!((world.title(1).as_deref(), world.calls_of("definitions")), (Some("changed meanwhile"), 3));
}

#[test]
fn attempts_back_off_and_a_scrape_is_a_reason_to_try() {
    let mut world = World::steady(5, "");
    world.kill();
    world.advance(120 * SECOND);
    let failed = world.scheduler.stats().failures.clone();
    let attempts = failed.iter().find(|(class, _)| *class == ErrorClass::ConnectFailed).map_or(0, |(_, count)| *count);
    assert!((15..40).contains(&attempts), "{attempts} attempts in two minutes");
    let lines = world.log.iter().filter(|notice| matches!(notice, Notice::Failed { .. })).count();
    assert!(lines <= 2, "{:?}", world.log);
    world.revive();
    let scrape = world.scrape();
    assert_eq!((scrape.class(), scrape.complete()), (None, 5), "it is the first to know");
}

#[test]
fn an_open_that_hangs_is_ended_and_tried_again() {
    for stubborn in [false, true] {
        let mut daemon = Daemon::new(5);
        (daemon.places, daemon.stubborn) = (0, stubborn);
        let mut world = World::of(daemon, "");
        let waiter = world.ask(everything(), 8 * SECOND);
        world.advance(Duration::from_millis(5100));
        let answer = world.answer(waiter).expect("an answer after five seconds");
        assert_eq!(answer.error.as_ref().map(|error| error.class), Some(ErrorClass::TimedOut));
        let later = world.scrape();
        assert_eq!(later.class(), Some(ErrorClass::TimedOut));
        assert!(later.took < SECOND, "{:?}", later.took);
        world.daemon.places = 100;
        world.look_again();
        world.advance(11 * SECOND);
        assert_eq!(world.scrape().complete(), 5, "stubborn: {stubborn}");
    }
}

#[test]
fn a_connection_of_a_worker_that_breaks_costs_a_second_try() {
    let mut world = World::steady(10, "");
    (0..10).for_each(|number| world.daemon.guest(number).takes = 50 * MILLI);
    let waiter = world.ask(everything(), 4 * SECOND);
    world.advance(10 * MILLI);
    world.break_worker(|worker| worker.asks("stats"));
    world.advance(3 * SECOND);
    let answer = world.answer(waiter).expect("an answer");
    assert_eq!((answer.error.clone(), answer.domains.iter().filter(|domain| domain.is_complete()).count()), (None, 10));
}

#[test]
fn with_nothing_to_ask_a_listing_tells_whether_the_daemon_answers() {
    let mut world = World::steady(0, "collection: {inactive_domains: none}");
    assert_eq!((world.scrape().class(), world.calls_of("listing")), (None, 1));
    world.daemon.frozen = true;
    assert_eq!(world.scrape().class(), Some(ErrorClass::TimedOut));
}

#[test]
fn a_daemon_that_refuses_to_list_is_told_of() {
    let mut daemon = Daemon::new(5);
    daemon.listing = Reply::Fails(ErrorClass::PermissionDenied);
    let mut world = World::of(daemon, "");
    assert_eq!(world.scrape().class(), Some(ErrorClass::PermissionDenied));
    world.daemon.listing = Reply::Good;
    world.advance(2 * SECOND);
    assert_eq!(world.scrape().complete(), 5);
}
