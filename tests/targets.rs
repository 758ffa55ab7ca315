//! Who exists, on a fake daemon: events, lost events, and records that agree with neither.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/scraper.rs"]
mod scraper;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use domstats_exporter::domains::PowerState;
use fake_libvirtd::{
    Change, Domain, DomainState, Event, FakeLibvirtd, Identity, Procedure, ReplyFault, Template, Times,
};
use scraper::{DEADLINE, Scrape, Scraper, daemon, rows_of};

const LIST: Procedure = Procedure::ConnectListAllDomains;

/// `virDomainEventType` and details.
mod happened {
    pub(crate) const STARTED_MIGRATED: (i32, i32) = (2, 1);
    pub(crate) const STARTED_RESTORED: (i32, i32) = (2, 2);
    pub(crate) const SUSPENDED_MIGRATED: (i32, i32) = (3, 1);
    pub(crate) const RESUMED: (i32, i32) = (4, 0);
    pub(crate) const RESUMED_MIGRATED: (i32, i32) = (4, 1);
    pub(crate) const STOPPED_DESTROYED: (i32, i32) = (5, 1);
    pub(crate) const STOPPED_MIGRATED: (i32, i32) = (5, 3);
    pub(crate) const STOPPED_SAVED: (i32, i32) = (5, 4);
    pub(crate) const UNDEFINED: (i32, i32) = (1, 0);
}

fn small(name: &str) -> Domain {
    Domain::new(name, Template::small())
}

fn transient(name: &str) -> Domain {
    Domain { persistent: false, ..small(name) }
}

fn event((event, detail): (i32, i32)) -> Event {
    Event::lifecycle(event, detail)
}

/// Waits until the exporter knows exactly the domains that the daemon has; where listings are slow, their pauses are long.
fn agree(scraper: &Scraper, daemon: &FakeLibvirtd) -> Scrape {
    let started = Instant::now();
    loop {
        let (scrape, truth) = (scraper.scrape(), rows_of(daemon));
        let known = scrape.rows();
        if known == truth {
            return scrape;
        }
        let wrong: Vec<_> = known.symmetric_difference(&truth).take(6).collect();
        let targets = &scrape.collection.snapshot;
        let about = (targets.events_dropped, &targets.resyncs, &scrape.collection.error);
        assert!(started.elapsed() < Duration::from_secs(60), "they differ in {wrong:?} {about:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A scraper that knows all there is: what it learns from now on is due to events, records or another listing.
fn settled(daemon: &FakeLibvirtd, sections: &str) -> Scraper {
    let scraper = Scraper::configured(daemon, &format!("metadata: {{rate: 5000}}\n{sections}"));
    agree(&scraper, daemon);
    scraper.until("every definition has been read", |scrape| scrape.collection.snapshot.metadata_pending == 0);
    scraper
}

fn resyncs(scrape: &Scrape, cause: &str) -> u64 {
    scrape.collection.snapshot.resyncs[cause]
}

/// Changes its own domains until it is told to stop: everything that can happen to a domain, repeatedly.
fn churn(daemon: &FakeLibvirtd, stop: &AtomicBool) -> usize {
    let domains = daemon.domains();
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        for number in 0..20 {
            let (kept, gone, moved) = (format!("kept-{number}"), format!("gone-{number}"), format!("moved-{number}"));
            match rounds % 4 {
                0 => {
                    domains.define(small(&kept).with_state(DomainState::Shutoff));
                    domains.define(transient(&gone));
                }
                1 => drop(domains.change(&kept, Change::Start).unwrap()),
                2 => {
                    domains.change(&kept, Change::Suspend).unwrap();
                    domains.change(&gone, Change::Die).unwrap();
                }
                _ => {
                    domains.change(&kept, Change::Destroy).unwrap();
                    if number % 2 == 0 {
                        domains.undefine(&kept).unwrap();
                    } else if domains.get(&moved).is_none() {
                        domains.rename(&kept, &moved).unwrap();
                    }
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn a_storm_of_events_is_survived_by_the_right_set() {
    let daemon = daemon(200);
    // Longer than the storm: a scrape that had to wait for its end would be the only one.
    let scraper = settled(&daemon, "collection: {resync_interval: 1h}\n").within(DEADLINE);
    let noise = [event(happened::RESUMED), Event::Reboot, Event::AgentLifecycle { state: 1, reason: 2 }];
    let stop = AtomicBool::new(false);
    let scrapes = thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let sent = daemon.events().storm(100_000, Duration::from_secs(10), &noise);
            stop.store(true, Ordering::Relaxed);
            sent
        });
        // What the storm is about has been chosen.
        thread::sleep(Duration::from_millis(100));
        let churning = scope.spawn(|| churn(&daemon, &stop));
        let mut scrapes = 0;
        while !storm.is_finished() {
            let scrape = scraper.scrape();
            assert_eq!(scrape.collection.error, None);
            scrapes += 1;
        }
        assert_eq!(storm.join().unwrap(), 100_000);
        assert!(churning.join().unwrap() >= 4);
        scrapes
    });
    assert!(scrapes > 2, "{scrapes} scrapes during the storm");
    let scrape = agree(&scraper, &daemon);
    let counts = &scrape.collection.snapshot.counts;
    let (reboots, dropped) = (counts.others["reboot"], scrape.collection.snapshot.events_dropped);
    assert!(reboots + dropped >= 33_333, "{reboots} counted, {dropped} lost");
}

/// Rules that no domain meets, but that take long to try: applying events is slower than they come.
#[test]
fn events_that_do_not_fit_are_counted_and_the_domains_listed_anew() {
    let daemon = daemon(50);
    let rules: Vec<String> = (0..60).map(|number| format!("'[a-z]*-x{number}'")).collect();
    let scraper = settled(&daemon, &format!("domains: {{exclude: [{}]}}\n", rules.join(", ")));
    for change in [Change::Destroy, Change::Start, Change::Destroy, Change::Start, Change::Destroy] {
        daemon.events().storm(60_000, Duration::ZERO, &[event(happened::RESUMED)]);
        // The last events are the ones that do not fit.
        for number in 0..50 {
            daemon.domains().change(&format!("vm-{number}"), change).unwrap();
        }
        if agree(&scraper, &daemon).collection.snapshot.events_dropped > 0 {
            return;
        }
    }
    panic!("all events did fit");
}

/// It takes eight calls, seven seconds here.
#[test]
fn a_listing_that_takes_long_is_no_silence_of_the_daemon() {
    let daemon = daemon(3);
    let scraper = settled(&daemon, "");
    daemon.faults().reply(LIST, ReplyFault::Delay(Duration::from_millis(900)), Times::Always);
    daemon.domains().define(small("new").with_state(DomainState::Shutoff));
    let began = Instant::now();
    while scraper.scrape().rows() != rows_of(&daemon) {
        assert_eq!(scraper.scrape().collection.error, None);
        assert!(began.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > Duration::from_secs(5), "the flags of the new domain are known without a listing");
}

/// Changes three domains without a word, and adds a fourth.
fn change_silently(daemon: &FakeLibvirtd) {
    daemon.faults().lose_events(Times::Always);
    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    daemon.domains().change("vm-2", Change::Suspend).unwrap();
    daemon.domains().undefine("vm-3").unwrap();
    daemon.domains().define(small("new"));
    daemon.faults().keep_events();
}

#[test]
fn what_lost_events_did_not_tell_is_found_by_records() {
    let daemon = daemon(5);
    let scraper = settled(&daemon, "");
    change_silently(&daemon);
    assert_eq!(resyncs(&agree(&scraper, &daemon), "records"), 1);
}

#[test]
fn what_happened_while_there_was_no_connection_is_found_after_it() {
    let daemon = daemon(5);
    let scraper = settled(&daemon, "");
    let known = scraper.scrape().known("vm-0").unwrap().first_seen;
    daemon.kill();
    change_silently(&daemon);
    daemon.revive().unwrap();
    let scrape = agree(&scraper, &daemon);
    assert_eq!((resyncs(&scrape, "connect"), resyncs(&scrape, "records")), (2, 0));
    assert_eq!(scrape.known("vm-0").unwrap().first_seen, known);
}

#[test]
fn events_may_come_before_or_after_the_records_of_the_same_change() {
    let daemon = daemon(4);
    let scraper = settled(&daemon, "");
    let stopped = |domain: &mut Domain| domain.set_state(DomainState::Shutoff, 2);
    for round in 0..4 {
        let early = round % 2 == 0;
        daemon.domains().update("vm-1", stopped).unwrap();
        let send = |name: &str, what| match early {
            true => daemon.events().before_next_stats(name, what).unwrap(),
            false => daemon.events().after_next_stats(name, what).unwrap(),
        };
        send("vm-1", event(happened::STOPPED_DESTROYED));
        assert_eq!(scraper.scrape().class(), None);
        agree(&scraper, &daemon);
        // It is started and stopped before its start is reported.
        daemon.domains().update("vm-1", |domain| domain.set_state(DomainState::Running, 1)).unwrap();
        for what in [happened::RESUMED, (2, 0)] {
            send("vm-1", event(what));
        }
        assert_eq!(scraper.scrape().class(), None);
        agree(&scraper, &daemon);
        scraper.until("it is complete again", |scrape| scrape.complete() == 4);
    }
}

/// One after the other, everything that libvirt says of a domain's life; the set is right after each, without a listing.
#[test]
fn lives_of_domains_are_followed_by_events_alone() {
    let daemon = daemon(3);
    let scraper = settled(&daemon, "collection: {resync_interval: 1h}\n");
    let domains = daemon.domains();
    let step = |what: &str, act: &dyn Fn()| {
        let listed = daemon.counters().calls(LIST);
        act();
        let began = Instant::now();
        loop {
            // A listing follows most events after 200 ms: it is not to find what the event should have told.
            let by_event = daemon.counters().calls(LIST) == listed;
            let rows = scraper.scrape().rows();
            if rows == rows_of(&daemon) {
                break;
            }
            assert!(by_event, "{what}: it took a listing");
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: {rows:?}");
        }
        // Flags of a new domain are not known before it has been listed.
        agree(&scraper, &daemon);
        thread::sleep(Duration::from_millis(20));
        scraper.until("what follows has been listed", |_| daemon.counters().calls(LIST).is_multiple_of(8));
    };
    step("pause", &|| drop(domains.change("vm-0", Change::Suspend).unwrap()));
    step("resume", &|| drop(domains.change("vm-0", Change::Resume).unwrap()));
    step("rename", &|| domains.rename("vm-1", "renamed").unwrap());
    let uuid = domains.get("renamed").unwrap().uuid;
    assert_eq!(scraper.scrape().known("renamed").unwrap().identity.uuid, uuid);
    step("stop", &|| drop(domains.change("vm-2", Change::Shutdown).unwrap()));
    step("start", &|| drop(domains.change("vm-2", Change::Start).unwrap()));
    step("undefine while it runs", &|| {
        domains.update("vm-2", |domain| domain.persistent = false).unwrap();
        daemon.events().send("vm-2", event(happened::UNDEFINED)).unwrap();
    });
    step("end of a transient domain", &|| drop(domains.change("vm-2", Change::Shutdown).unwrap()));
    step("migration away", &|| {
        let gone = domains.update("renamed", |domain| domain.persistent = false).unwrap();
        daemon.events().send("renamed", event(happened::UNDEFINED)).unwrap();
        daemon.events().send("renamed", event(happened::SUSPENDED_MIGRATED)).unwrap();
        domains.remove("renamed").unwrap();
        daemon.events().send_of(&Identity { id: None, ..Identity::from(&gone) }, event(happened::STOPPED_MIGRATED));
    });
    step("save", &|| {
        domains.change("vm-0", Change::Suspend).unwrap();
        domains.update("vm-0", |domain| domain.set_state(DomainState::Shutoff, 5)).unwrap();
        daemon.events().send("vm-0", event(happened::STOPPED_SAVED)).unwrap();
    });
    step("restore", &|| {
        domains.update("vm-0", |domain| domain.set_state(DomainState::Running, 3)).unwrap();
        daemon.events().send("vm-0", event(happened::STARTED_RESTORED)).unwrap();
        daemon.events().send("vm-0", event((4, 2))).unwrap();
    });
}

#[test]
fn domains_that_arrive_are_there_at_once_and_complete_with_the_next_listing() {
    let daemon = daemon(1);
    let scraper = settled(&daemon, "collection: {resync_interval: 1h}\n");
    daemon.domains().define(transient("transient"));
    daemon.domains().define(small("defined").with_state(DomainState::Shutoff));
    // A migration to here: it is paused until the other side lets go.
    daemon.domains().add(transient("arrived"));
    for what in [happened::STARTED_MIGRATED, happened::RESUMED_MIGRATED] {
        daemon.events().send("arrived", event(what)).unwrap();
    }
    let scrape = scraper.until("all are there", |scrape| scrape.rows().len() == 4);
    assert_eq!(scrape.known("defined").unwrap().state, PowerState::ShutOff);
    assert!(["transient", "arrived"].map(|name| scrape.known(name).unwrap().started).iter().all(Option::is_some));
    agree(&scraper, &daemon);
    // The name is given to another domain: it is another domain.
    let old = daemon.domains().change("transient", Change::Destroy).unwrap();
    let new = Domain { uuid: uuid::Uuid::from_u128(7), ..small("transient") };
    daemon.domains().define(new);
    let scrape = agree(&scraper, &daemon);
    assert_ne!(scrape.known("transient").unwrap().identity.uuid, old.uuid);
    assert_eq!(scrape.rows().len(), 4);
}

#[test]
fn another_run_of_a_domain_is_another_epoch() {
    let daemon = daemon(5);
    let scraper = settled(&daemon, "");
    assert_eq!(scraper.scrape().known("vm-1").unwrap().started, None, "it ran before it was looked at");
    for lost in [false, true] {
        daemon.faults().hang_domain("vm-1");
        assert_eq!(scraper.until("it hangs", |scrape| scrape.complete() == 4).quarantined(), ["vm-1"]);
        let before = SystemTime::now();
        if lost {
            // The end of the run is not heard of.
            daemon.faults().lose_events(Times::Next(1));
        }
        daemon.domains().change("vm-1", Change::Die).unwrap();
        daemon.domains().change("vm-1", Change::Start).unwrap();
        scraper.until("it has begun again", |scrape| scrape.known("vm-1").unwrap().started >= Some(before));
        let scrape = agree(&scraper, &daemon);
        assert_eq!((scrape.complete(), scrape.quarantined()), (5, Vec::<&str>::new()));
        daemon.release("vm-1");
    }
    // One without an event has begun at an unknown time.
    daemon.faults().lose_events(Times::Always);
    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    daemon.domains().change("vm-1", Change::Start).unwrap();
    assert_eq!(agree(&scraper, &daemon).known("vm-1").unwrap().started, None);
}
