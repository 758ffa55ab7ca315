//! Guest agents that say nothing, never end a call, or come again.

use std::time::{Duration, Instant};

use super::World;
use super::script::{Reply, uuid};
use crate::libvirt::{ErrorClass, EventKind};
use crate::probes::{Subject, Task};

const SECOND: Duration = Duration::from_secs(1);
const GUESTS: &str = "collection: {groups: [state, guest]}";

/// When the agent of a guest was asked.
fn asked(world: &World, number: usize) -> Vec<Instant> {
    let is_it = |task: &Task| matches!(task, Task::Ask(probe, of) if probe.name == "guest" && *of == Subject::Domain(uuid(number)));
    world.calls.iter().filter(|call| is_it(&call.task)).map(|call| call.at).collect()
}

/// Of how many guests there is something that an agent has said.
fn told(world: &mut World) -> usize {
    let collection = world.scrape().collection;
    collection.readings.iter().filter(|reading| reading.probe == "guest").count()
}

#[test]
fn agents_that_say_nothing_keep_no_other_from_being_asked_at_its_interval() {
    // libvirt gives each of them 5 s.
    let silent = Reply::FailsAfter(5 * SECOND);
    for first in [true, false] {
        let mut world = World::new(50, GUESTS);
        world.advance(if first { Duration::ZERO } else { 200 * SECOND });
        (0..20).for_each(|number| world.daemon.guest(number).other = silent);
        world.calls.clear();
        let began = world.now;
        world.watched(900 * SECOND);
        for number in 20..50 {
            let times = asked(&world, number);
            let ends = [began].into_iter().chain(times.clone()).zip(times.into_iter().chain([world.now]));
            // It is spread by a quarter, and one that says nothing keeps the next one waiting for a second.
            let longest = ends.map(|(one, next)| next - one).max().expect("a gap");
            assert!(longest < 100 * SECOND, "{number} {first}: {longest:?}");
        }
        assert!((0..20).all(|number| asked(&world, number).len() <= 7), "less and less");
        assert_eq!((told(&mut world), world.scheduler.stats().hung_calls["guest"]), (30, 0));
        (0..20).for_each(|number| world.daemon.guest(number).other = Reply::Good);
        world.watched(960 * SECOND);
        assert_eq!(told(&mut world), 50);
    }
}

#[test]
fn an_agent_that_a_late_definition_tells_of_is_asked() {
    // The turns of all come within four seconds, most definitions after them.
    let mut world = World::new(20, &format!("{GUESTS}\nmetadata: {{rate: 1}}"));
    world.scrape();
    world.advance(25 * SECOND);
    assert_eq!((world.snapshot().metadata_pending, told(&mut world)), (0, 20));
}

#[test]
fn what_an_agent_said_before_it_disconnected_does_not_come_back() {
    let mut world = World::new(2, GUESTS);
    world.advance(100 * SECOND);
    assert_eq!(told(&mut world), 2);
    let domain = world.daemon.identity(1);
    world.daemon.guest(1).other = Reply::Fails(ErrorClass::Other(86));
    for connected in [false, true] {
        world.event(&domain, EventKind::AgentLifecycle { connected });
        world.advance(SECOND);
        assert_eq!(told(&mut world), 1, "{connected}");
    }
    world.daemon.guest(1).other = Reply::Good;
    world.advance(100 * SECOND);
    assert_eq!(told(&mut world), 2, "what it has said since");
}

#[test]
fn all_is_read_again_at_once_over_the_next_connection() {
    let mut world = World::new(5, "collection: {groups: [state, host, guest, limits, snapshot]}");
    world.advance(100 * SECOND);
    let probes = |world: &mut World| {
        let mut probes: Vec<_> = world.scrape().collection.readings.iter().map(|reading| reading.probe).collect();
        probes.sort_unstable();
        probes
    };
    let before = probes(&mut world);
    assert!(before.contains(&"host") && before.iter().filter(|probe| **probe == "guest").count() == 5, "{before:?}");
    world.kill();
    world.advance(SECOND);
    world.revive();
    world.advance(10 * SECOND);
    assert_eq!(probes(&mut world), before);
}

#[test]
fn what_an_agent_was_asked_before_it_disconnected_is_asked_again() {
    let mut world = World::new(2, GUESTS);
    world.daemon.guest(1).other = Reply::Hangs;
    world.until(60 * SECOND, |world| asked(world, 1).len() == 1);
    let domain = world.daemon.identity(1);
    for connected in [false, true] {
        world.event(&domain, EventKind::AgentLifecycle { connected });
    }
    // Its first answer was on the way; the second one never comes.
    world.daemon.guest(1).other = Reply::Good;
    world.look_again();
    world.daemon.guest(1).other = Reply::Hangs;
    world.advance(5 * SECOND);
    assert_eq!((asked(&world, 1).len(), told(&mut world)), (2, 1));
}
