//! Collection against a fake daemon: what the scrape says while guests or the daemon are frozen, and what the daemon is asked.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/scraper.rs"]
mod scraper;
#[path = "support/waiting.rs"]
mod waiting;

use std::time::Duration;

use domstats_exporter::libvirt::ErrorClass;
use fake_libvirtd::{Change, DomainState, Procedure, ReplyFault, Times};
use scraper::{DEADLINE, Scrape, Scraper, daemon};
use waiting::{KEEPALIVE, assert_no_wait};

const STATS: Procedure = Procedure::ConnectGetAllDomainStats;

#[test]
fn a_steady_scrape_is_a_few_calls_for_statistics_and_nothing_else() {
    let daemon = daemon(100);
    // Background probes have their own schedule.
    let groups = "state, cpu_total, balloon, vcpu, interface, block, perf, iothread, memory, dirtyrate, vm";
    let scraper = Scraper::new(&daemon, &format!(", groups: [{groups}]"));
    scraper.start_all_workers(&daemon);
    daemon.counters().reset();
    let scrape = scraper.scrape();
    assert_eq!((scrape.complete(), scrape.collection.error.clone()), (100, None));
    let counters = daemon.counters();
    // Twelve batches of nine, and one call for the domains that are shut off.
    assert_eq!(counters.calls(STATS), 13);
    // Jobs are asked about beside it, now and then.
    let is_usual = |procedure: &Procedure| {
        [STATS, Procedure::DomainGetJobStats, Procedure::DomainLookupByUuid].contains(procedure)
    };
    let others: Vec<_> = counters.by_procedure().into_iter().filter(|(procedure, _)| !is_usual(procedure)).collect();
    assert!(others.is_empty(), "no list, no XML, no info call: {others:?}");
    assert!(counters.concurrent_stats_max() <= 4);
}

#[test]
fn idle_connections_are_given_back() {
    let daemon = daemon(50);
    // Of fifty guests, one is asked about its job at any time.
    let settings =
        "collection: {idle_timeout: 1s, groups: [state, cpu_total, block]}\nmetadata: {refresh_interval: 1h}\n";
    let scraper = Scraper::configured(&daemon, settings);
    scraper.start_all_workers(&daemon);
    let counters = daemon.counters();
    let only_events = |limit| counters.wait_until(limit, |all| all.open_connections() == 1);
    assert!(only_events(Duration::from_secs(20)), "{}", counters.open_connections());
    // The next scrape opens what it needs, and what is in use stays.
    for _ in 0..15 {
        assert_eq!(scraper.scrape().complete(), 50);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(counters.open_connections() > 1);
    assert!(only_events(Duration::from_secs(20)), "{}", counters.open_connections());
}

#[test]
fn a_frozen_guest_costs_only_itself() {
    let daemon = daemon(100);
    let scraper = Scraper::new(&daemon, "");
    scraper.until("all answer", |scrape| scrape.complete() == 100);
    daemon.faults().hang_domain("vm-17");
    let first = scraper.scrape();
    assert_eq!((first.complete(), first.quarantined()), (99, vec!["vm-17"]));
    assert_eq!(first.of("vm-17"), (true, false), "what needs no hypervisor is there");
    assert_no_wait(first.took, DEADLINE);
    daemon.counters().reset();
    for _ in 0..5 {
        let later = scraper.scrape();
        assert_eq!((later.complete(), later.quarantined(), later.class()), (99, vec!["vm-17"], None));
        assert_no_wait(later.took, DEADLINE);
    }
    // One call is left waiting, and none was added; the frozen guest's control state is asked for twice a scrape.
    assert_eq!(scraper.collector.stats().stuck_calls, 1);
    assert_eq!(daemon.counters().stats_under_way(), 1);
    assert_eq!(daemon.counters().calls(Procedure::DomainGetControlInfo), 10);
    daemon.release("vm-17");
    let thawed = scraper.scrape();
    assert_eq!((thawed.complete(), thawed.quarantined()), (100, Vec::<&str>::new()));
    scraper.until("the call that waited has ended", |_| scraper.collector.stats().stuck_calls == 0);
}

#[test]
fn three_frozen_guests_before_the_first_scrape_cost_only_themselves() {
    let daemon = daemon(10);
    let frozen = ["vm-2", "vm-3", "vm-7"];
    frozen.iter().for_each(|name| daemon.faults().hang_domain(name));
    let scraper = Scraper::new(&daemon, "");
    let first = scraper.scrape();
    assert_eq!((first.complete(), first.quarantined()), (7, frozen.to_vec()));
    let later = scraper.scrape();
    assert_eq!((later.complete(), later.quarantined()), (7, frozen.to_vec()));
    assert_eq!(scraper.collector.stats().stuck_calls, 3);
    // One dies, one is started again, one thaws.
    daemon.domains().change("vm-2", Change::Die).expect("a domain");
    daemon.release("vm-2");
    daemon.domains().change("vm-3", Change::Die).expect("a domain");
    daemon.release("vm-3");
    daemon.domains().change("vm-3", Change::Start).expect("a domain");
    daemon.release("vm-7");
    let healed = scraper.until("all answer", |scrape| scrape.quarantined().is_empty());
    assert_eq!((healed.complete(), healed.collection.domains.len()), (9, 9), "{:?}", healed.collection.domains);
}

#[test]
fn a_guest_that_froze_too_late_to_be_found_out_is_found_by_the_next_scrape() {
    let daemon = daemon(72);
    let mut scraper = Scraper::new(&daemon, ", batch_size: 24, workers: 1");
    let collection = scraper.scrape().collection;
    let order: Vec<&str> = collection.domains.iter().map(|domain| domain.identity.name.as_str()).collect();
    // The first of three calls meets it after more than half of the deadline has passed.
    let (slow, frozen) = (&order[..20], order[20]);
    slow.iter().for_each(|name| daemon.faults().delay_domain(name, Duration::from_millis(120)));
    daemon.faults().hang_domain(frozen);
    scraper.deadline = Duration::from_secs(4);
    let first = scraper.scrape();
    assert_eq!((first.complete(), first.quarantined().len()), (0, 0));
    slow.iter().for_each(|name| daemon.faults().clear_domain(name));
    scraper.deadline = DEADLINE;
    let second = scraper.scrape();
    assert_eq!((second.complete(), second.quarantined()), (71, vec![frozen]));
    daemon.release(frozen);
    scraper.until("all are complete again", |scrape| scrape.complete() == 72);
}

#[test]
fn a_frozen_daemon_is_an_answer_and_recovers_without_restart() {
    let daemon = daemon(20);
    let mut scraper = Scraper::new(&daemon, "");
    assert_eq!(scraper.scrape().complete(), 20);
    daemon.faults().freeze();
    // The scrape that meets the silence waits for its deadline, as the daemon may only be slow, and for nothing that libvirt does.
    scraper.deadline = Duration::from_secs(4);
    let first = scraper.scrape();
    assert_eq!(first.class(), Some(ErrorClass::TimedOut));
    assert_no_wait(first.took, KEEPALIVE);
    scraper.deadline = DEADLINE;
    for _ in 0..3 {
        let later = scraper.scrape();
        assert_eq!(later.class(), Some(ErrorClass::TimedOut));
        assert_no_wait(later.took, DEADLINE);
        assert!(later.collection.batches.is_empty() && later.collection.domains.is_empty());
    }
    daemon.faults().thaw();
    let thawed = scraper.until("libvirt answers", |scrape| scrape.class().is_none());
    assert_eq!(thawed.complete(), 20);
}

#[test]
fn twenty_restarts_of_the_daemon_are_twenty_reconnections() {
    let daemon = daemon(10);
    let scraper = Scraper::new(&daemon, "");
    scraper.scrape();
    for _ in 0..20 {
        daemon.kill();
        let down = scraper.until("libvirt is down", |scrape| scrape.class().is_some());
        assert_no_wait(down.took, DEADLINE);
        daemon.revive().expect("a socket");
        let up = scraper.until("libvirt is back", |scrape| scrape.class().is_none());
        assert_eq!(up.complete(), 10);
    }
    assert!(scraper.collector.stats().reconnects >= 20);
}

#[test]
fn a_dying_guest_does_not_take_others_with_it() {
    let daemon = daemon(30);
    let scraper = Scraper::new(&daemon, "");
    scraper.scrape();
    daemon.faults().die_mid_call("vm-4");
    let scrape = scraper.scrape();
    assert_eq!(scrape.class(), None);
    assert!(scrape.complete() >= 29, "{}", scrape.complete());
    assert_eq!(scraper.scrape().complete(), 29);
}

#[test]
fn a_reply_that_is_too_large_is_asked_for_in_halves() {
    let daemon = daemon(40);
    let scraper = Scraper::new(&daemon, "");
    scraper.scrape();
    let largest = daemon.counters().log_of(STATS).iter().map(|call| call.reply_bytes).max().expect("a call");
    daemon.faults().reply_limit(Some(largest * 2 / 3));
    assert_eq!(scraper.scrape().complete(), 40);
    daemon.counters().reset();
    assert_eq!(scraper.scrape().complete(), 40);
    let refused = daemon.counters().log_of(STATS).iter().filter(|call| call.reply_bytes < 200).count();
    assert!(refused <= 1, "the smaller batch is remembered");
}

#[test]
fn a_flag_or_a_driver_that_the_daemon_lacks_is_remembered() {
    let old = daemon(5);
    let scraper = Scraper::new(&old, ", backing_chain: true");
    let unsupported = || ReplyFault::Error { code: 8, message: "unsupported flags (0x40000000)".into() };
    old.faults().reply(STATS, unsupported(), Times::Next(1));
    assert_eq!(scraper.scrape().complete(), 5);
    assert!(scraper.collector.stats().shortcomings.no_backing);

    let lxc = daemon(5);
    let scraper = Scraper::new(&lxc, "");
    lxc.faults().reply(
        STATS,
        ReplyFault::Error { code: 3, message: "this function is not supported".into() },
        Times::Always,
    );
    let scrape = scraper.scrape();
    assert_eq!(scrape.class(), None);
    assert!(scraper.collector.stats().shortcomings.no_bulk);
    let records = scrape.collection.batches.iter().flat_map(|records| records.domains());
    let keys: Vec<Vec<&str>> = records.map(|domain| domain.params().map(|param| param.key).collect()).collect();
    let basic = ["state.state", "cpu.time", "balloon.current", "balloon.maximum", "vcpu.current"];
    assert_eq!(keys, vec![basic.to_vec(); 5]);
    // Of one that is shut off what the setting says, as with bulk statistics.
    lxc.domains().change("vm-0", Change::Destroy).expect("a domain");
    let shut_off = |scrape: &Scrape| -> Vec<String> {
        let records = scrape.collection.batches.iter().flat_map(|records| records.domains());
        let records = records.filter(|domain| domain.name == "vm-0" && domain.id.is_none());
        records.flat_map(|domain| domain.params().map(|param| param.key.to_owned())).collect()
    };
    let scrape = scraper.until("it is shut off", |scrape| !shut_off(scrape).is_empty());
    assert_eq!(shut_off(&scrape), ["state.state"]);
}

#[test]
fn a_hook_of_one_guest_costs_no_other() {
    let daemon = daemon(10);
    daemon.domains().change("vm-9", Change::Destroy).unwrap();
    let scraper = Scraper::new(&daemon, "");
    scraper.until("all answer", |scrape| scrape.complete() == 9 && scrape.known("vm-9").is_some());
    // One that is being started, and one that is being stopped: libvirt holds their locks.
    for (guest, complete) in [("vm-9", 9), ("vm-4", 8)] {
        daemon.faults().lock_domain(guest);
        for number in 0..3 {
            let scrape = scraper.scrape();
            assert_no_wait(scrape.took, DEADLINE);
            assert_eq!((scrape.class(), scrape.complete()), (None, complete), "{guest} {number}");
        }
        daemon.faults().unlock_domain(guest);
        scraper.until("it is over", |scrape| scrape.complete() == 9 && scrape.quarantined().is_empty());
    }
}

#[test]
fn a_guest_that_has_started_before_its_event_is_in_the_scrape() {
    let daemon = daemon(3);
    daemon.domains().change("vm-2", Change::Destroy).unwrap();
    let scraper = Scraper::new(&daemon, "");
    scraper.until("two run", |scrape| scrape.complete() == 2 && scrape.known("vm-2").is_some());
    daemon.domains().update("vm-2", |domain| (domain.state, domain.id) = (DomainState::Running, Some(77))).unwrap();
    assert_eq!(scraper.scrape().complete(), 3);
}
