//! Any probe of the background: asked at its cadence, and costing its subject alone when it hangs.

use std::time::Duration;

use super::World;
use super::script::{Reply, uuid};
use super::world::Life;
use crate::collect::background::Lane;
use crate::collect::pool::Role;
use crate::libvirt::{Access, ErrorClass, Records};
use crate::probes::{Cadence, INACTIVE, Probe, Scope, Task, WaitsFor};

const SECOND: Duration = Duration::from_secs(1);

const CADENCE: Cadence = Cadence::Background { every: |_| Some(Duration::from_secs(60)), pace: |_| Duration::ZERO };

const USUAL: Probe = Probe {
    name: "pools",
    scope: Scope::Host,
    cadence: CADENCE,
    waits_for: WaitsFor::Host,
    access: INACTIVE.access,
    time_limit: INACTIVE.time_limit,
    fetch: Some(|_, _| Ok(Records::default())),
};

static POOLS: Probe = USUAL;

static JOBS: Probe = Probe { name: "jobs", scope: Scope::RunningDomain, waits_for: WaitsFor::Hypervisor, ..USUAL };

fn world(guests: usize) -> World {
    let mut world = World::new(guests, "");
    world.scheduler.background.lanes.extend([&POOLS, &JOBS].map(Lane::new));
    world.advance(5 * SECOND);
    world.scrape();
    world
}

fn readings(world: &mut World) -> (usize, usize) {
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
    let mut world = World::new(5, "");
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

#[test]
fn a_domain_probe_that_hangs_costs_its_domain_alone() {
    let mut world = world(5);
    world.daemon.guest(1).other = Reply::Hangs;
    world.calls.clear();
    world.advance(400 * SECOND);
    let of = |world: &World, number| {
        world
            .calls
            .iter()
            .filter(|call| matches!(&call.task, Task::Ask(_, of) if of.domain() == Some(uuid(number))))
            .count()
    };
    assert_eq!(of(&world, 1), 1, "it is not asked again before that call returns");
    assert!((1..5).filter(|number| *number != 1).all(|number| of(&world, number) > 4));
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
