//! The registry follows events and listings.

use super::*;
use crate::domains::Metadata;

fn event(id: Option<u32>, event: i32, detail: i32) -> Event {
    let domain = Identity { name: "a".to_owned(), uuid: Uuid::nil(), id };
    Event { domain, at: SystemTime::UNIX_EPOCH, kind: EventKind::Lifecycle { event, detail } }
}

#[derive(Debug, Default)]
struct Resets(u32);

impl Companion for Resets {
    fn begin_incarnation(&mut self) {
        self.0 += 1;
    }
}

#[test]
fn another_run_resets_what_is_kept_of_the_last_one() {
    let mut registry = Registry::<Resets>::default();
    let mut after = |id: u32, told: bool| {
        let identity = Identity { name: "a".to_owned(), uuid: Uuid::nil(), id: Some(id) };
        if told {
            registry.apply(&event(Some(id), lifecycle::STARTED, 0));
        } else {
            let domains = vec![(identity, PowerState::Running, Flags::default())];
            registry.replace(Listing { domains, host: None }, &[], SystemTime::UNIX_EPOCH);
        }
        registry.companion(Uuid::nil()).map(|resets| resets.0)
    };
    assert_eq!((after(1, false), after(1, false), after(2, false)), (Some(1), Some(1), Some(2)));
    assert_eq!((after(2, true), after(3, true), after(3, false)), (Some(2), Some(3), Some(3)));
}

#[test]
fn a_listing_that_is_older_than_a_domain_does_not_forget_it() {
    let mut registry = Registry::<()>::default();
    let started = event(Some(7), lifecycle::STARTED, 0);
    assert!(registry.apply(&started).redefined);
    registry.define(Uuid::nil(), Definition::Known(Arc::new(Metadata::default())));
    let before = registry.get(Uuid::nil()).cloned();
    registry.replace(Listing::default(), &[started], SystemTime::now());
    assert_eq!(registry.get(Uuid::nil()), before.as_ref(), "its definition above all");
    registry.replace(Listing::default(), &[], SystemTime::now());
    assert_eq!(registry.get(Uuid::nil()), None, "a later listing knows better");
}

#[test]
fn what_a_run_was_like_ends_with_it() {
    let mut registry = Registry::<()>::default();
    registry.apply(&event(Some(7), lifecycle::STARTED, 0));
    let consequences = registry.apply(&event(None, lifecycle::STOPPED, 1));
    assert!(consequences.redefined && consequences.resync, "{consequences:?}");
    assert_eq!(
        registry.get(Uuid::nil()).map(|target| (target.state, target.started)),
        Some((PowerState::ShutOff, None))
    );
}

#[test]
fn a_transient_domain_ends_with_its_run() {
    for persistent in [false, true] {
        let mut registry = Registry::<()>::default();
        let identity = Identity { name: "a".to_owned(), uuid: Uuid::nil(), id: Some(7) };
        let domains = vec![(identity, PowerState::Running, Flags { persistent, ..Flags::default() })];
        registry.replace(Listing { domains, host: None }, &[], SystemTime::UNIX_EPOCH);
        registry.apply(&event(None, lifecycle::STOPPED, 1));
        assert_eq!(registry.get(Uuid::nil()).is_some(), persistent);
    }
}

#[test]
fn a_tunable_that_changes_has_the_definition_read_again() {
    let mut registry = Registry::<()>::default();
    registry.apply(&event(Some(7), lifecycle::STARTED, 0));
    let tuned = Event { kind: EventKind::Tunable, ..event(Some(7), 0, 0) };
    assert_eq!(registry.apply(&tuned), Consequences { redefined: true, ..Consequences::default() });
}

#[test]
fn a_guest_counts_from_its_boot_and_a_device_from_its_attachment() {
    let mut registry = Registry::<()>::default();
    let at = SystemTime::UNIX_EPOCH;
    let mut starts = |events: &[(Option<u32>, EventKind)]| {
        for (id, kind) in events {
            registry.apply(&Event { kind: kind.clone(), ..event(*id, 0, 0) });
        }
        let target = registry.get(Uuid::nil()).expect("the domain");
        (target.started, target.booted, target.attached.keys().cloned().collect::<Vec<_>>())
    };
    let lifecycle = |event, detail| EventKind::Lifecycle { event, detail };
    let added = |alias: &str| EventKind::DeviceAdded { alias: alias.to_owned() };
    let removed = |alias: &str| EventKind::DeviceRemoved { alias: alias.to_owned() };
    assert_eq!(starts(&[(Some(7), lifecycle(lifecycle::DEFINED, 0))]), (None, None, vec![]));
    assert_eq!(
        starts(&[(Some(7), lifecycle(lifecycle::STARTED, 0)), (Some(7), added("net1")), (Some(7), added("net2"))]),
        (Some(at), Some(at), vec!["net1".to_owned(), "net2".to_owned()])
    );
    let wakes_up = lifecycle(lifecycle::STARTED, lifecycle::STARTED_WAKEUP);
    assert_eq!(
        starts(&[(Some(7), removed("net1")), (Some(7), wakes_up)]),
        (Some(at), Some(at), vec!["net2".to_owned()])
    );
    for detail in 1..=3 {
        let stops = lifecycle(lifecycle::STOPPED, 1);
        let moves = lifecycle(lifecycle::STARTED, detail);
        let id = Some(7 + u32::try_from(detail).expect("positive"));
        assert_eq!(starts(&[(None, stops), (id, moves)]), (Some(at), None, vec![]), "{detail}");
    }
}

#[test]
fn a_domain_that_runs_on_from_its_managed_save_is_listed_again() {
    let mut registry = Registry::<()>::default();
    let identity = Identity { name: "a".to_owned(), uuid: Uuid::nil(), id: Some(7) };
    let flags = |managed_save| Flags { managed_save, ..Flags::default() };
    let mut after = |managed_save| {
        let domains = vec![(identity.clone(), PowerState::Paused, flags(managed_save))];
        registry.replace(Listing { domains, host: None }, &[], SystemTime::UNIX_EPOCH);
        registry.apply(&event(Some(7), lifecycle::RESUMED, 0)).resync
    };
    assert_eq!((after(true), after(false)), (true, false), "libvirt removes the save only now, without an event");
}
