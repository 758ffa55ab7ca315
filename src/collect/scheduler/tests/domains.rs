//! The set of domains: kept current by events, listings and records, and forgotten as a whole.

use std::time::Duration;

use super::World;
use super::script::uuid;
use super::world::Life;
use crate::collect::message::Message;
use crate::domains::Arrived;
use crate::libvirt::EventKind;

const SECOND: Duration = Duration::from_secs(1);

fn resyncs(world: &mut World, cause: &str) -> u64 {
    world.snapshot().resyncs[cause]
}

fn names(world: &mut World) -> Vec<(String, bool)> {
    let snapshot = world.snapshot();
    snapshot.domains.iter().map(|domain| (domain.identity.name.clone(), domain.is_active())).collect()
}

#[test]
fn events_change_the_set_at_once_and_one_listing_follows_a_crowd_of_them() {
    let mut world = World::steady(3, "");
    world.advance(5 * SECOND);
    world.calls.clear();
    world.live(3, Life::Started);
    world.live(1, Life::Stopped);
    world.live(2, Life::Stopped);
    world.live(2, Life::Undefined);
    let expected = [("vm-0", true), ("vm-1", false), ("vm-3", true)].map(|(name, runs)| (name.to_owned(), runs));
    assert_eq!(names(&mut world), expected);
    world.advance(5 * SECOND);
    assert_eq!((world.calls_of("listing"), names(&mut world)), (1, expected.to_vec()));
}

#[test]
fn what_no_event_told_is_found_by_the_next_listing() {
    let mut world = World::steady(5, "collection: {resync_interval: 60s}");
    world.tells_events = false;
    world.live(1, Life::Undefined);
    world.live(5, Life::Started);
    world.advance(80 * SECOND);
    assert_eq!(names(&mut world).len(), 5);
    assert!(resyncs(&mut world, "interval") >= 1);
}

#[test]
fn what_no_event_told_is_found_by_records() {
    let mut world = World::steady(5, "");
    world.tells_events = false;
    world.live(1, Life::Stopped);
    world.scrape();
    world.advance(5 * SECOND);
    assert_eq!((names(&mut world)[1].1, resyncs(&mut world, "records")), (false, 1));
    // A start shows in the record of a run that is not known.
    world.advance(30 * SECOND);
    world.live(1, Life::Started);
    world.scrape();
    world.advance(5 * SECOND);
    assert_eq!((names(&mut world)[1].1, resyncs(&mut world, "records")), (true, 2));
}

#[test]
fn records_that_never_agree_are_no_reason_to_list_for_ever() {
    let mut world = World::steady(5, "");
    world.daemon.guest(1).left_out = true;
    for _ in 0..20 {
        world.scrape();
        world.advance(SECOND);
    }
    assert_eq!(resyncs(&mut world, "records"), 1);
}

#[test]
fn events_that_were_lost_lead_to_a_listing() {
    let mut world = World::steady(5, "");
    world.advance(5 * SECOND);
    world.calls.clear();
    world.tell(Message::Events(Arrived { dropped: 3, ..Arrived::default() }));
    world.advance(SECOND);
    assert_eq!(
        (world.calls_of("listing"), world.snapshot().events_dropped, resyncs(&mut world, "overflow")),
        (1, 3, 1)
    );
}

#[test]
fn the_order_of_an_event_and_the_record_of_the_same_change_does_not_matter() {
    let mut world = World::steady(4, "");
    for _ in 0..3 {
        world.tells_events = false;
        let stopped = world.live(1, Life::Stopped);
        assert_eq!(world.scrape().class(), None);
        world.tells_events = true;
        world.event(&stopped, EventKind::Lifecycle { event: 5, detail: 1 });
        assert_eq!(world.scrape().collection.domains.len(), 3);
        world.live(1, Life::Started);
        assert_eq!(world.scrape().complete(), 4);
    }
}

/// The same UUID again is another domain: nothing of the first may be left.
#[test]
fn a_domain_that_is_gone_is_forgotten_with_all_that_was_kept_of_it() {
    for listed in [false, true] {
        let mut world = World::steady(3, "");
        world.daemon.guest(1).hung = true;
        assert_eq!(world.scrape().quarantined(), ["vm-1"]);
        assert!(world.scheduler.domains.companion(uuid(1)).is_some_and(|state| state.reply_size.is_some()));
        world.tells_events = !listed;
        world.live(1, Life::Undefined);
        if !listed {
            let gone = crate::libvirt::Identity { name: "vm-1".to_owned(), uuid: uuid(1), id: None };
            world.event(&gone, EventKind::Lifecycle { event: 5, detail: 1 });
            world.event(&gone, EventKind::Lifecycle { event: 1, detail: 0 });
        }
        world.advance(700 * SECOND);
        assert!(world.scheduler.domains.companion(uuid(1)).is_none() && world.scheduler.domains.len() == 2);
        assert_eq!(world.scheduler.domains.with_companions().count(), 2);
        world.tells_events = true;
        world.live(1, Life::Started);
        let state = world.scheduler.domains.companion(uuid(1)).expect("a domain");
        assert!(state.reply_size.is_none() && state.readings.is_empty() && !state.incarnation.quarantine.is_closed());
        world.advance(5 * SECOND);
        let scrape = world.scrape();
        assert_eq!((scrape.complete(), scrape.quarantined().len()), (3, 0));
    }
}

#[test]
fn the_other_disk_of_a_snapshot_shows_in_records() {
    let mut world = World::steady(3, "");
    world.advance(5 * SECOND);
    world.calls.clear();
    world.daemon.guest(1).image = "/image.snapshot".to_owned();
    world.scrape();
    world.advance(5 * SECOND);
    assert_eq!((world.calls_of("definitions"), world.calls_of("listing"), resyncs(&mut world, "records")), (1, 1, 1));
    world.scrape();
    world.advance(5 * SECOND);
    assert_eq!(world.calls_of("definitions"), 1);
}
