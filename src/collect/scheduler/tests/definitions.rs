//! Definitions and addresses, and requests for the set of domains.

use std::time::{Duration, Instant};

use super::World;
use super::script::{Daemon, Reply, uuid};
use super::world::Life;
use crate::collect::message::Message;
use crate::collect::pool::Role;
use crate::domains::{Definition, DefinitionFailure};
use crate::libvirt::{Access, ErrorClass, EventKind};
use crate::probes::Task;

const SECOND: Duration = Duration::from_secs(1);

fn failures(world: &mut World, reason: DefinitionFailure) -> u64 {
    world.snapshot().metadata_failures.get(&reason).copied().unwrap_or(0)
}

fn times(world: &World, probe: &str) -> Vec<Instant> {
    let calls = world.calls.iter().filter(|call| call.task.name() == probe);
    calls.map(|call| call.at).collect()
}

#[test]
fn definitions_are_read_at_their_rate_and_running_domains_come_first() {
    let mut daemon = Daemon::new(100);
    (0..50).for_each(|number| _ = daemon.stop(number));
    let mut world = World::of(daemon, "metadata: {rate: 20}");
    world.advance(10 * SECOND);
    assert_eq!(world.snapshot().metadata_pending, 0);
    let times = times(&world, "definitions");
    assert!(times.len() >= 100 && times.windows(2).all(|two| two[1] - two[0] >= SECOND / 20));
    let asked: Vec<_> = world
        .calls
        .iter()
        .filter_map(|call| if let Task::Define { uuid, .. } = call.task { Some(uuid) } else { None })
        .collect();
    let early = asked[..20].iter().filter(|uuid| world.daemon.guests[*uuid].id.is_some()).count();
    assert!(early >= 15, "{early} of the first twenty run");
}

#[test]
fn definitions_that_hang_are_given_up_and_read_again_when_one_returns() {
    let mut daemon = Daemon::new(12);
    (0..9).for_each(|number| daemon.guest(number).definition = Reply::Hangs);
    let mut world = World::of(daemon, "metadata: {timeout: 2s}");
    world.advance(20 * SECOND);
    // Seven hang, and then nothing more is read of domains that have not answered yet.
    assert_eq!(failures(&mut world, DefinitionFailure::TimedOut), 7);
    assert_eq!(world.scrape().complete(), 12, "no collection waits for them");
    let known = world.domains_within(false, 4 * SECOND).expect("an answer at once");
    assert_eq!(known.metadata_pending, 0);
    assert!(failures(&mut world, DefinitionFailure::OthersHang) > 0);
    (0..9).for_each(|number| world.daemon.guest(number).definition = Reply::Good);
    world.look_again();
    world.advance(120 * SECOND);
    let snapshot = world.snapshot();
    assert!(snapshot.domains.iter().all(|domain| matches!(domain.definition, Definition::Known(_))));
    assert!(!world.scheduler.stats().probes.is_empty());
}

#[test]
fn definitions_are_read_again_after_a_while_and_when_an_event_tells_of_a_change() {
    let mut world = World::steady(3, "metadata: {refresh_interval: 10m}");
    world.daemon.guest(1).title = "another one".to_owned();
    let domain = world.daemon.identity(1);
    world.event(&domain, EventKind::MetadataChange);
    world.advance(SECOND);
    assert_eq!((world.title(1).as_deref(), world.calls_of("definitions")), (Some("another one"), 1));
    world.daemon.guest(2).title = "without an event".to_owned();
    world.advance(800 * SECOND);
    assert_eq!(world.title(2).as_deref(), Some("without an event"));
    assert!((3..10).contains(&world.calls_of("definitions")), "{}", world.calls_of("definitions"));
}

#[test]
fn a_definition_that_cannot_be_read_is_counted_and_tried_again() {
    let mut daemon = Daemon::new(3);
    daemon.guest(1).definition = Reply::Fails(ErrorClass::TooLarge);
    // No listing leads to it before.
    let mut world = World::of(daemon, "collection: {resync_interval: 1h}");
    world.advance(5 * SECOND);
    assert_eq!((failures(&mut world, DefinitionFailure::TooLarge), world.snapshot().metadata_pending), (1, 0));
    world.daemon.guest(1).definition = Reply::Good;
    world.advance(100 * SECOND);
    assert!(world.title(1).is_some());
}

#[test]
fn the_definition_of_a_domain_in_quarantine_is_left_alone_until_it_answers() {
    let mut world = World::new(3, "");
    world.daemon.guest(1).definition = Reply::Hangs;
    world.daemon.guest(1).hung = true;
    let scrape = world.scrape();
    assert_eq!(scrape.quarantined(), ["vm-1"]);
    world.advance(10 * SECOND);
    world.daemon.guest(1).definition = Reply::Good;
    let domain = world.daemon.identity(1);
    world.calls.clear();
    world.event(&domain, EventKind::MetadataChange);
    world.advance(30 * SECOND);
    assert_eq!(world.calls_of("definitions"), 0);
    world.daemon.guest(1).hung = false;
    world.look_again();
    world.scrape();
    world.advance(5 * SECOND);
    assert!(world.title(1).is_some());
}

#[test]
fn the_definition_of_a_domain_that_is_found_frozen_is_not_waited_for() {
    let mut daemon = Daemon::new(3);
    daemon.guest(1).hung = true;
    // It is found frozen before its definition has its turn.
    let mut world = World::of(daemon, "metadata: {rate: 1}");
    assert_eq!(world.scrape().quarantined(), ["vm-1"]);
    assert_eq!((world.calls_of("definitions"), failures(&mut world, DefinitionFailure::Quarantined)), (1, 1));
    let began = world.now;
    let known = world.domains_within(false, 8 * SECOND).expect("an answer");
    assert!(world.now - began < 3 * SECOND, "that of the other is waited for: {:?}", world.now - began);
    assert_eq!((known.metadata_pending, world.title(0).is_some(), world.title(2).is_some()), (0, true, true));
}

#[test]
fn a_definition_whose_connection_breaks_is_read_over_another() {
    let mut daemon = Daemon::new(2);
    daemon.guest(1).definition = Reply::Hangs;
    let mut world = World::of(daemon, "collection: {resync_interval: 1h}");
    world.advance(SECOND);
    world.daemon.guest(1).definition = Reply::Good;
    world.break_worker(|worker| worker.asks("definitions"));
    world.advance(SECOND);
    assert!(world.title(1).is_some());
    assert_eq!(world.scheduler.stats().reconnects, 0, "that of the daemon stands");
}

#[test]
fn a_domain_that_must_not_be_read_is_told_of_once_and_not_asked_about() {
    let mut daemon = Daemon::new(5);
    daemon.guest(1).definition = Reply::Fails(ErrorClass::PermissionDenied);
    daemon.guest(1).left_out = true;
    let mut world = World::of(daemon, "");
    world.advance(2 * SECOND);
    for _ in 0..3 {
        world.scrape();
    }
    assert_eq!(world.snapshot().unreadable, [uuid(1)]);
    let lines = world.log.iter().filter(|notice| format!("{notice:?}").starts_with("Unreadable")).count();
    assert_eq!(lines, 1);
    world.calls.clear();
    assert_eq!(world.scrape().complete(), 4);
    let asked =
        world.calls.iter().any(|call| matches!(&call.task, Task::Stats { domains, .. } if domains.contains(&uuid(1))));
    assert!(!asked);
    // It may be read after all.
    world.daemon.guest(1).definition = Reply::Good;
    world.daemon.guest(1).left_out = false;
    world.advance(100 * SECOND);
    assert_eq!(world.scrape().complete(), 5);
}

#[test]
fn a_reload_does_not_lose_sight_of_a_definition_that_hangs() {
    let mut daemon = Daemon::new(2);
    (0..2).for_each(|number| daemon.guest(number).definition = Reply::Hangs);
    let mut world = World::of(daemon, "metadata: {timeout: 2s}");
    world.advance(SECOND);
    let config = crate::config::parse("metadata: {timeout: 2s, rate: 100}", "test").expect("valid");
    world.tell(Message::Reconfigure(Box::new(config)));
    world.advance(10 * SECOND);
    assert_eq!(failures(&mut world, DefinitionFailure::TimedOut), 2);
    world.calls.clear();
    world.advance(100 * SECOND);
    assert_eq!(world.calls_of("definitions"), 0, "two hang");
}

#[test]
fn a_request_for_the_domains_waits_for_what_is_not_known_and_no_longer_than_it_may() {
    let mut daemon = Daemon::new(3);
    daemon.guest(1).addresses = Reply::Hangs;
    daemon.stop(2);
    let mut world = World::of(daemon, "metadata: {timeout: 2s}");
    let began = world.now;
    let known = world.domains_within(true, 8 * SECOND).expect("an answer");
    assert!(world.now - began < 3 * SECOND, "the look-up that hangs was given up");
    let of = |number: usize| known.domains[number].addresses.clone();
    assert!(of(0).is_some_and(|addresses| addresses.is_some()) && of(1) == Some(None) && of(2).is_none());
    // What has been found is good for a while.
    world.calls.clear();
    world.domains_within(true, 8 * SECOND).expect("an answer");
    assert_eq!(world.calls_of("addresses"), 0);
    let mut daemon = Daemon::new(3);
    daemon.listing = Reply::Hangs;
    let mut world = World::of(daemon, "");
    let began = world.now;
    let error = world.domains_within(false, SECOND).expect_err("an error");
    assert_eq!((error.class, world.now - began), (ErrorClass::TimedOut, SECOND));
}

#[test]
fn the_guest_agent_needs_a_connection_that_may_be_refused() {
    let sections = "service_discovery: {sources: [agent, lease]}";
    let mut world = World::new(2, sections);
    world.domains_within(true, 4 * SECOND).expect("an answer");
    assert_eq!(world.connections_of(Role::Background(Access::ReadWrite)), 1);
    let mut daemon = Daemon::new(2);
    daemon.refuses_writers = true;
    let mut world = World::of(daemon, sections);
    let known = world.domains_within(true, 8 * SECOND).expect("an answer");
    assert!(known.domains.iter().all(|domain| domain.addresses.as_ref().is_some_and(Option::is_some)));
    assert_eq!(world.connections_of(Role::Background(Access::ReadWrite)), 0);
    let asked = world
        .calls
        .iter()
        .filter_map(|call| if let Task::Locate { sources, .. } = &call.task { Some(sources.len()) } else { None });
    assert!(asked.clone().count() == 2 && asked.clone().all(|sources| sources == 1), "without the agent");
}

#[test]
fn a_domain_that_was_started_again_is_located_again() {
    let mut world = World::steady(2, "");
    world.domains_within(true, 4 * SECOND).expect("an answer");
    world.live(1, Life::Stopped);
    world.live(1, Life::Started);
    world.calls.clear();
    let known = world.domains_within(true, 4 * SECOND).expect("an answer");
    assert!(known.domains[1].addresses.as_ref().is_some_and(Option::is_some));
    assert_eq!(world.calls_of("addresses"), 1);
}
