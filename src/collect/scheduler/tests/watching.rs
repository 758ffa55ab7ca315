//! What is only shown is not read again without requests, and is there for the first one that comes.

use std::time::Duration;

use super::World;
use super::probes::{readings, world};
use super::script::Reply;
use super::world::Life;

const MINUTE: Duration = Duration::from_secs(60);
const PROBES: [&str; 5] = ["pools", "jobs", "job", "host", "definitions"];

fn calls(world: &World) -> usize {
    PROBES.iter().map(|probe| world.calls_of(probe)).sum()
}

/// A host without requests for long.
fn asleep() -> World {
    let mut world = world(5);
    world.advance(30 * MINUTE);
    world.calls.clear();
    world
}

#[test]
fn nothing_is_read_again_while_nobody_asks() {
    let mut world = asleep();
    world.advance(60 * MINUTE);
    assert_eq!(calls(&world), 0);
    assert!(world.calls_of("listing") > 30, "who exists is known all the time");
    // A guest that starts is not kept waiting for the next scrape.
    world.live(4, Life::Stopped);
    world.live(4, Life::Started);
    world.advance(MINUTE);
    assert!((1..=2).contains(&world.calls_of("definitions")));
}

#[test]
fn the_first_scrape_has_what_is_read_and_the_cadence_is_back() {
    let mut world = asleep();
    assert_eq!(readings(&mut world), (1, 5), "in the same scrape");
    world.advance(MINUTE);
    assert!((5..=10).contains(&world.calls_of("definitions")), "{}", world.calls_of("definitions"));
    world.calls.clear();
    world.advance(10 * MINUTE);
    let (pools, jobs) = (world.calls_of("pools"), world.calls_of("jobs"));
    assert!((8..=13).contains(&pools) && (32..=52).contains(&jobs), "{pools} {jobs}");
}

#[test]
fn a_request_for_the_set_of_domains_wakes_too() {
    let mut world = asleep();
    world.domains_within(false, Duration::from_secs(4)).expect("the domains");
    assert_eq!(readings(&mut world), (1, 5));
}

#[test]
fn the_first_scrape_waits_for_a_share_of_its_time_alone() {
    let mut world = asleep();
    world.daemon.host = Reply::Hangs;
    let scrape = world.scrape();
    assert_eq!(scrape.complete(), 5);
    assert_eq!(scrape.took, Duration::from_secs(1), "a quarter of its four seconds");
    // Later ones do not wait, and have what answers.
    world.advance(Duration::from_secs(5));
    assert!(world.scrape().took < Duration::from_millis(500));
    assert_eq!(readings(&mut world), (0, 5));
}
