//! Any probe of the background: asked at its cadence, and costing its subject alone when it hangs.

use std::time::Duration;

use super::script::{Reply, uuid};
use super::world::Life;
use super::{World, only};
use crate::collect::background::Lane;
use crate::collect::notice::Notice;
use crate::collect::pool::Role;
use crate::config::Group;
use crate::libvirt::{Access, ErrorClass, EventKind};
use crate::probes::{Probe, Scope, Subject, Task, WaitsFor};

const SECOND: Duration = Duration::from_secs(1);

const USUAL: Probe =
    Probe { name: "pools", ..Probe::of_group(Group::Memory, Scope::Host, WaitsFor::Host, |_| Some(60 * SECOND)) };

static POOLS: Probe = USUAL;

static JOBS: Probe = Probe {
    name: "jobs",
    group: Some(Group::Perf),
    scope: Scope::RunningDomain,
    waits_for: WaitsFor::Hypervisor,
    ..USUAL
};

/// One that asks about each object by itself.
static VOLUMES: Probe = Probe { name: "volumes", scope: Scope::Object, ..USUAL };

pub(super) fn world(guests: usize) -> World {
    let mut world = World::new(guests, "");
    world.scheduler.background.lanes.extend([&POOLS, &JOBS].map(Lane::new));
    world.advance(5 * SECOND);
    world.scrape();
    world
}

pub(super) fn readings(world: &mut World) -> (usize, usize) {
    let collection = world.scrape().collection;
    let of = |probe| collection.readings.iter().filter(|reading| reading.probe == probe).count();
    (of("pools"), of("jobs"))
}

#[test]
fn a_probe_is_asked_at_its_cadence_and_its_readings_go_with_the_collections() {
    let mut world = world(5);
    world.live(4, Life::Stopped);
    world.advance(5 * SECOND);
    assert_eq!(readings(&mut world), (1, 4), "one that does not run has none");
    world.calls.clear();
    world.advance(600 * SECOND);
    let (pools, jobs) = (world.calls_of("pools"), world.calls_of("jobs"));
    assert!((8..=13).contains(&pools) && (32..=52).contains(&jobs), "{pools} {jobs}");
    assert!(world.scheduler.stats().probes["pools"].success);
    world.live(4, Life::Started);
    world.advance(5 * SECOND);
    assert_eq!(readings(&mut world), (1, 5));
}

#[test]
fn a_host_probe_that_hangs_costs_no_other() {
    let mut world = World::new(5, "collection: {groups: [state, memory, perf]}");
    world.scheduler.background.lanes.extend([&POOLS, &JOBS].map(Lane::new));
    world.daemon.host = Reply::Hangs;
    world.advance(4 * SECOND);
    // Its call is under way, and the others are asked over another connection.
    assert_eq!((world.snapshot().metadata_pending, readings(&mut world)), (0, (0, 5)));
    world.advance(400 * SECOND);
    assert_eq!(world.calls_of("pools"), 1, "it is not asked again before that call returns");
    assert!(!world.scheduler.stats().probes["pools"].success);
    assert_eq!((world.scrape().complete(), world.stuck_calls()), (5, 0));
    assert!(world.connections_of(Role::Background(Access::ReadOnly)) <= 4);
    world.daemon.host = Reply::Good;
    world.look_again();
    world.advance(100 * SECOND);
    assert_eq!(readings(&mut world).0, 1);
}

/// How often the probe of jobs has asked about a guest.
fn asked(world: &World, number: usize) -> usize {
    let is_it = |task: &Task| matches!(task, Task::Ask(probe, of) if probe.name == JOBS.name && of.domain() == Some(uuid(number)));
    world.calls.iter().filter(|call| is_it(&call.task)).count()
}

#[test]
fn domains_that_hang_keep_no_other_from_being_asked() {
    // Before they have ever answered, and after.
    for (hung, first) in [(3, true), (6, true), (3, false), (7, false)] {
        let mut world = World::new(20, "");
        world.scheduler.background.lanes.push(Lane::new(&JOBS));
        if !first {
            world.advance(100 * SECOND);
        }
        (0..hung).for_each(|number| world.daemon.guest(number).other = Reply::Hangs);
        world.advance(300 * SECOND);
        assert_eq!(readings(&mut world).1, 20 - hung, "of those that hang the readings are too old by now");
        world.calls.clear();
        world.advance(300 * SECOND);
        assert!((hung..20).all(|number| asked(&world, number) >= 3), "{hung} {first}");
        assert!((0..hung).all(|number| asked(&world, number) == 0), "their calls have not returned");
        assert_eq!(world.scheduler.stats().hung_calls[JOBS.name], hung);
        (0..hung).for_each(|number| world.daemon.guest(number).other = Reply::Good);
        world.look_again();
        world.advance(20 * SECOND);
        assert_eq!((readings(&mut world).1, world.scheduler.stats().hung_calls[JOBS.name]), (20, 0));
    }
}

#[test]
fn calls_that_hang_are_bounded() {
    let mut world = world(40);
    world.advance(100 * SECOND);
    (0..40).for_each(|number| world.daemon.guest(number).other = Reply::Hangs);
    world.advance(900 * SECOND);
    assert_eq!(world.scheduler.stats().hung_calls[JOBS.name], 8, "the daemon has workers for others");
}

#[test]
fn domains_that_fail_slowly_hold_up_the_others_less_and_less() {
    let mut world = World::new(40, "");
    world.scheduler.background.lanes.push(Lane::new(&JOBS));
    world.advance(100 * SECOND);
    (0..30).for_each(|number| world.daemon.guest(number).other = Reply::FailsAfter(4 * SECOND));
    world.watched(1200 * SECOND);
    world.calls.clear();
    world.watched(600 * SECOND);
    assert!((30..40).all(|number| asked(&world, number) >= 6), "about every minute");
    assert!((0..30).all(|number| (0..=2).contains(&asked(&world, number))));
    assert_eq!(readings(&mut world).1, 10);
    (0..30).for_each(|number| world.daemon.guest(number).other = Reply::Good);
    world.watched(900 * SECOND);
    assert_eq!(readings(&mut world).1, 40, "a quarter of an hour later at most");
}

#[test]
fn a_guest_whose_agent_connects_is_located_at_once() {
    let mut world = World::steady(2, "service_discovery: {enabled: true}");
    world.daemon.guest(1).addresses = Reply::FailsAfter(4 * SECOND);
    for _ in 0..30 {
        world.domains_within(true, 8 * SECOND).expect("an answer");
        world.advance(30 * SECOND);
    }
    assert!(world.calls_of("addresses") < 60, "{}", world.calls_of("addresses"));
    let is_located = |world: &mut World| {
        let known = world.domains_within(true, 8 * SECOND).expect("an answer");
        known.domains.iter().all(|domain| matches!(domain.addresses, Some(Some(_))))
    };
    assert!(!is_located(&mut world));
    world.daemon.guest(1).addresses = Reply::Good;
    let domain = world.daemon.identity(1);
    world.event(&domain, EventKind::AgentLifecycle { connected: true });
    is_located(&mut world);
    world.advance(SECOND);
    assert!(is_located(&mut world));
}

#[test]
fn a_domain_probe_that_hangs_costs_its_domain_alone() {
    let mut world = world(5);
    world.daemon.guest(1).other = Reply::Hangs;
    world.calls.clear();
    world.advance(400 * SECOND);
    assert_eq!(asked(&world, 1), 1, "it is not asked again before that call returns");
    assert!((1..5).filter(|number| *number != 1).all(|number| asked(&world, number) > 4));
    assert_eq!((world.scrape().complete(), world.stuck_calls(), readings(&mut world)), (5, 0, (1, 4)));
    world.daemon.guest(1).other = Reply::Good;
    world.look_again();
    world.advance(120 * SECOND);
    assert_eq!((world.scrape().complete(), readings(&mut world)), (5, (1, 5)));
}

#[test]
fn a_frozen_guest_that_a_probe_met_first_is_quarantined_by_the_next_collection() {
    let mut world = world(5);
    world.daemon.guest(1).hung = true;
    world.advance(100 * SECOND);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined(), world.stuck_calls()), (4, vec!["vm-1"], 1));
    assert!(scrape.took < SECOND, "the call of the probe is the evidence: {:?}", scrape.took);
    world.daemon.guest(1).hung = false;
    world.look_again();
    assert_eq!((world.scrape().complete(), world.stuck_calls()), (5, 0));
}

#[test]
fn readings_grow_old() {
    let mut world = world(2);
    assert_eq!(readings(&mut world), (1, 2));
    world.daemon.host = Reply::Fails(ErrorClass::Other(1));
    world.advance(400 * SECOND);
    assert_eq!(readings(&mut world), (0, 2));
}

#[test]
fn a_domain_in_quarantine_is_not_asked_by_a_probe_that_waits_for_it() {
    let mut world = world(3);
    world.daemon.guest(1).hung = true;
    assert_eq!(world.scrape().quarantined(), ["vm-1"]);
    world.daemon.guest(1).other = Reply::Hangs;
    world.calls.clear();
    world.advance(300 * SECOND);
    assert!(world.calls_of("jobs") >= 6);
    assert!(!world.calls.iter().any(|call| matches!(&call.task, Task::Ask(_, of) if of.domain() == Some(uuid(1)))));
    assert_eq!(world.stuck_calls(), 1, "the call for statistics alone");
}

#[test]
fn an_object_that_hangs_costs_no_other() {
    let mut world = World::new(2, "");
    world.scheduler.background.lanes.push(Lane::new(&VOLUMES));
    world.daemon.objects = vec![(uuid(100), Reply::Good), (uuid(101), Reply::Hangs), (uuid(102), Reply::Good)];
    world.advance(400 * SECOND);
    let volumes = |world: &mut World| {
        let readings = &world.scrape().collection.readings;
        readings.iter().filter(|reading| reading.probe == "volumes").count()
    };
    let of = |world: &World, number| {
        let is_it = |task: &Task| match task {
            Task::Ask(probe, subject) => probe.name == "volumes" && *subject == Subject::Object(uuid(number)),
            _ => false,
        };
        world.calls.iter().filter(|call| is_it(&call.task)).count()
    };
    assert_eq!((volumes(&mut world), of(&world, 101)), (2, 1));
    assert!(of(&world, 100) > 4 && of(&world, 102) > 4);
    // What is gone from the listing is gone, and what is new is asked about at once.
    world.daemon.objects = vec![(uuid(100), Reply::Good), (uuid(103), Reply::Good), (uuid(104), Reply::Good)];
    world.advance(90 * SECOND);
    assert_eq!(volumes(&mut world), 3);
    world.calls.clear();
    world.advance(200 * SECOND);
    assert_eq!((of(&world, 101), of(&world, 102)), (0, 0));
    // The listing hangs as well: what is there is asked about all the same.
    world.daemon.host = Reply::Hangs;
    world.calls.clear();
    world.advance(400 * SECOND);
    assert_eq!((volumes(&mut world), world.calls_of("volumes") > 12), (3, true));
}

#[test]
fn a_probe_is_asked_while_its_group_is_collected() {
    let mut world = World::new(2, "collection: {groups: [state]}");
    world.scheduler.background.lanes.extend([&POOLS, &JOBS].map(Lane::new));
    world.advance(100 * SECOND);
    assert_eq!((readings(&mut world), world.calls_of("pools"), world.calls_of("jobs")), ((0, 0), 0, 0));
    world.reconfigure("collection: {groups: [state, memory, perf]}");
    world.advance(SECOND);
    assert_eq!(readings(&mut world), (1, 2), "without a listing");
    let collection = world.scrape_of(only(&[Group::Memory])).collection;
    assert!(
        collection.readings.iter().all(|reading| reading.group == Group::Memory) && !collection.readings.is_empty()
    );
    world.reconfigure("collection: {groups: [state, perf]}");
    world.calls.clear();
    world.advance(100 * SECOND);
    assert_eq!((readings(&mut world), world.calls_of("pools")), ((0, 2), 0));
}

#[test]
fn groups_of_probes_are_no_reason_to_ask_for_statistics() {
    let mut world = World::new(3, "collection: {groups: [host]}");
    world.live(2, Life::Stopped);
    world.advance(5 * SECOND);
    let scrape = world.scrape();
    assert_eq!((scrape.complete(), world.calls_of("stats"), world.calls_of("inactive_stats")), (2, 0, 0));
    assert_eq!(scrape.collection.readings.len(), 1);
    // Nor is one missing of a domain that lacks another.
    let mut world = World::new(1, "collection: {groups: [host, block]}");
    world.daemon.guest(0).hung = true;
    let scrape = world.scrape();
    let missing = scrape.collection.domains[0].missing.as_ref().map(|missing| missing.groups.clone());
    assert_eq!(missing, Some([Group::Block].into()));
}

/// As guest agents are asked: few in a second.
static SLOW: Probe = Probe {
    name: "slow",
    scope: Scope::RunningDomain,
    waits_for: WaitsFor::Job,
    interval: |_| Some(60 * SECOND),
    pace: |_| Duration::from_millis(100),
    time_limit: |_| 10 * SECOND,
    ..USUAL
};

#[test]
fn readings_of_very_many_domains_are_good_until_they_are_read_again() {
    let mut world = World::new(1500, "collection: {groups: [memory]}");
    world.scheduler.background.lanes.push(Lane::new(&SLOW));
    world.advance(600 * SECOND);
    for _ in 0..40 {
        world.advance(15 * SECOND);
        let collection = world.scrape().collection;
        assert_eq!(collection.readings.iter().filter(|reading| reading.probe == "slow").count(), 1500);
    }
}

#[test]
fn a_permission_that_one_guest_lacks_silences_no_other() {
    let mut world = World::new(3, "collection: {groups: [state, guest]}");
    world.daemon.guest(0).other = Reply::Fails(ErrorClass::PermissionDenied);
    world.advance(600 * SECOND);
    let readings = world.scrape().collection.readings.clone();
    assert_eq!(readings.iter().filter(|reading| reading.probe == "guest").count(), 2);
}

#[test]
fn guest_agents_are_asked_no_more_where_the_daemon_refuses_it() {
    let mut world = World::new(3, "collection: {groups: [state, guest]}");
    (0..3).for_each(|number| world.daemon.guest(number).other = Reply::Fails(ErrorClass::ReadOnly));
    world.advance(600 * SECOND);
    assert_eq!(world.calls_of("guest"), 1, "the socket is the read-only one");
    let told =
        world.log.iter().filter(|notice| matches!(notice, Notice::Failed { what, .. } if what.contains("agents")));
    assert_eq!(told.count(), 1);
    // Another configuration is a reason to try again.
    world.reconfigure("collection: {groups: [state]}");
    (0..3).for_each(|number| world.daemon.guest(number).other = Reply::Good);
    world.reconfigure("collection: {groups: [state, guest]}");
    world.advance(100 * SECOND);
    assert!(world.calls_of("guest") >= 4, "{}", world.calls_of("guest"));
}
