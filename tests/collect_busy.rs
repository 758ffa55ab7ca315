//! Domains that another client keeps busy for a moment, against a fake daemon: whole in every scrape, and what is missing is said.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/scraper.rs"]
mod scraper;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domstats_exporter::collect::{Missing, MissingReason, Selection};
use domstats_exporter::config::Group;
use fake_libvirtd::counters::CallRecord;
use fake_libvirtd::stats::{flag, group};
use fake_libvirtd::{FakeLibvirtd, Procedure, ReplyFault, Times};
use scraper::{Scrape, Scraper, daemon};

const STATS: Procedure = Procedure::ConnectGetAllDomainStats;

/// What a scrape lacks of a domain.
fn missing(scrape: &Scrape, name: &str) -> Option<Missing> {
    let domain = scrape.collection.domains.iter().find(|domain| domain.identity.name == name);
    domain.expect("a running domain").missing.clone()
}

/// The keys of the record of a domain that counts: the first.
fn keys(scrape: &Scrape, name: &str) -> BTreeSet<String> {
    let mut records = scrape.collection.batches.iter().flat_map(|records| records.domains());
    let record = records.find(|record| record.name == name).expect("a record");
    let keys: Vec<String> = record.params().map(|param| param.key.to_owned()).collect();
    let different: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!(keys.len(), different.len(), "each key once");
    different
}

/// A scraper in the steady state, and the keys of a whole record.
fn steady(daemon: &FakeLibvirtd, more: &str) -> (Scraper, BTreeSet<String>) {
    let scraper = Scraper::new(daemon, more);
    let whole = scraper.until("all is known", |scrape| {
        scrape.collection.snapshot.metadata_pending == 0 && scrape.complete() == scrape.collection.domains.len()
    });
    let keys = keys(&whole, "vm-1");
    (scraper, keys)
}

/// Half of it is waited for busy domains.
const IMPATIENT: Duration = Duration::from_secs(4);

/// No earlier value stands for what is missing.
const EVERY_GROUP_AT_ONCE: &str = ", intervals: {iothread: 0s, dirtyrate: 0s}";

#[test]
fn a_domain_that_is_busy_once_or_some_times_is_whole() {
    let daemon = daemon(10);
    let (scraper, whole) = steady(&daemon, "");
    for times in 1..=5 {
        daemon.faults().busy_domain("vm-1", Times::Next(times));
        daemon.faults().busy_domain("vm-2", Times::Next(times));
        daemon.counters().reset();
        let scrape = scraper.scrape();
        assert_eq!((scrape.complete(), scrape.quarantined()), (10, vec![]), "{times} times");
        assert_eq!(keys(&scrape, "vm-1"), whole, "{times} times");
        // Only the busy domains are asked again, and only for groups that need the monitor.
        let untouched = group::STATE | group::INTERFACE | group::PERF | group::MEMORY;
        let is_again = |call: &CallRecord| call.stats.is_some_and(|stats| stats & untouched == 0);
        let again: Vec<_> = daemon.counters().log_of(STATS).into_iter().filter(is_again).collect();
        assert!(
            !again.is_empty() && again.iter().all(|call| call.domains.is_some_and(|count| count <= 2)),
            "{again:?}"
        );
    }
}

#[test]
fn a_domain_that_stays_busy_is_asked_by_a_call_that_waits_and_is_whole_when_the_job_ends() {
    let daemon = Arc::new(daemon(10));
    let (scraper, whole) = steady(&daemon, "");
    daemon.faults().busy_domain("vm-1", Times::Always);
    let other = Arc::clone(&daemon);
    let client = std::thread::spawn(move || {
        // The other client's job ends once a call waits for it.
        let waits = |call: &CallRecord| call.flags.is_some_and(|flags| flags & flag::NOWAIT == 0);
        assert!(other.counters().wait_until(Duration::from_secs(60), |all| all.log_of(STATS).iter().any(waits)));
        other.faults().free_domain("vm-1");
    });
    daemon.counters().reset();
    let scrape = scraper.scrape();
    client.join().expect("the other client");
    assert_eq!((scrape.complete(), keys(&scrape, "vm-1")), (10, whole));
}

#[test]
fn a_domain_that_is_busy_until_the_deadline_is_marked() {
    let daemon = daemon(3);
    let scraper = steady(&daemon, "").0.within(IMPATIENT);
    daemon.faults().busy_domain("vm-1", Times::Always);
    let scrape = scraper.scrape();
    assert_eq!((scrape.class(), scrape.complete()), (None, 2));
    assert_eq!(missing(&scrape, "vm-1").map(|missing| missing.reason), Some(MissingReason::Busy));
}

#[test]
fn a_domain_that_is_busy_and_then_frozen_is_quarantined_and_the_others_are_whole() {
    let daemon = daemon(10);
    let (scraper, whole) = steady(&daemon, "");
    daemon.faults().busy_domain("vm-1", Times::Next(1));
    daemon.faults().hang_domain("vm-1");
    let scrape = scraper.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined()), (9, vec!["vm-1"]));
    assert_eq!(missing(&scrape, "vm-1").map(|missing| missing.reason), Some(MissingReason::Quarantined));
    assert!(keys(&scrape, "vm-1").contains("cpu.time") && keys(&scrape, "vm-2") == whole);
    daemon.release("vm-1");
    scraper.until("it is whole again", |scrape| scrape.complete() == 10);
}

#[test]
fn a_monitor_that_does_not_answer_another_client_is_not_waited_for() {
    let daemon = daemon(10);
    let (scraper, whole) = steady(&daemon, "");
    daemon.faults().hang_domain("vm-1");
    // The other client's call hangs and holds the job; its connection is that of another exporter.
    let other = Scraper::new(&daemon, "");
    let hung = other.until("the other exporter has met it", |scrape| !scrape.quarantined().is_empty());
    assert_eq!(hung.quarantined(), ["vm-1"]);
    std::thread::sleep(Duration::from_secs(1));
    daemon.counters().reset();
    let scraper = scraper.within(IMPATIENT);
    let scrape = scraper.scrape();
    assert_eq!((scrape.complete(), scrape.quarantined()), (9, vec![]));
    assert_eq!(missing(&scrape, "vm-1").map(|missing| missing.reason), Some(MissingReason::Busy));
    assert_eq!(keys(&scrape, "vm-2"), whole);
    let waits = |call: &CallRecord| call.flags.is_some_and(|flags| flags & flag::NOWAIT == 0);
    assert!(!daemon.counters().log_of(STATS).iter().any(waits), "no call waits for it");
    daemon.release("vm-1");
    scraper.until("it is whole again", |scrape| scrape.complete() == 10);
}

#[test]
fn each_group_that_libvirt_leaves_out_is_named() {
    let daemon = daemon(2);
    let scraper = steady(&daemon, EVERY_GROUP_AT_ONCE).0.within(IMPATIENT);
    let groups = [
        (group::BALLOON, Group::Balloon),
        (group::BLOCK, Group::Block),
        (group::DIRTYRATE, Group::Dirtyrate),
        (group::IOTHREAD, Group::Iothread),
        (group::VM, Group::Vm),
        (group::CPU_TOTAL, Group::CpuTotal),
    ];
    let known = keys(&scraper.scrape(), "vm-1");
    let has = |prefix: &str| known.iter().any(|key| key.starts_with(prefix));
    for (silenced, group) in groups {
        let prefix = match group {
            Group::CpuTotal => "cpu.haltpoll.",
            Group::Vm => "vm.",
            Group::Iothread => "iothread.",
            _ => "",
        };
        if !has(prefix) {
            continue;
        }
        daemon.faults().silence_groups("vm-1", silenced);
        let scrape = scraper.scrape();
        let expected = Missing { groups: BTreeSet::from([group]), reason: MissingReason::Refused };
        assert_eq!(missing(&scrape, "vm-1"), Some(expected));
        daemon.faults().silence_groups("vm-1", 0);
        assert_eq!(scraper.scrape().complete(), 2);
    }
}

#[test]
fn a_busy_domain_is_noticed_in_a_selection_of_any_group() {
    let daemon = daemon(2);
    let scraper = steady(&daemon, EVERY_GROUP_AT_ONCE).0.within(IMPATIENT);
    daemon.faults().busy_domain("vm-1", Times::Always);
    for group in [Group::Balloon, Group::Block, Group::Dirtyrate] {
        let selection = Selection { groups: Some(BTreeSet::from([group])), ..Selection::default() };
        let collection = scraper.runtime.block_on(scraper.collector.collect(scraper.deadline, selection));
        let scrape = Scrape { collection, took: Duration::ZERO };
        let lacks = missing(&scrape, "vm-1").expect("what is missing");
        assert_eq!((lacks.groups, lacks.reason), (BTreeSet::from([group]), MissingReason::Busy));
        assert_eq!(missing(&scrape, "vm-0"), None);
    }
}

#[test]
fn a_quarantined_domain_keeps_what_needs_no_monitor() {
    let daemon = daemon(10);
    let scraper = steady(&daemon, "").0.within(IMPATIENT);
    daemon.faults().busy_domain("vm-1", Times::Always);
    let busy = keys(&scraper.scrape(), "vm-1");
    daemon.faults().free_domain("vm-1");
    // The call that was left waiting for the job ends.
    scraper.until("it is whole", |scrape| scrape.complete() == 10 && daemon.counters().stats_under_way() == 0);
    daemon.faults().hang_domain("vm-1");
    for _ in 0..3 {
        let scrape = scraper.scrape();
        assert_eq!((scrape.complete(), scrape.quarantined()), (9, vec!["vm-1"]));
        assert_eq!(keys(&scrape, "vm-1"), busy);
    }
    assert_eq!(daemon.counters().stats_under_way(), 1);
    daemon.release("vm-1");
    scraper.until("it is whole again", |scrape| scrape.complete() == 10);
}

#[test]
fn a_group_that_an_older_daemon_dropped_with_a_dying_guest_is_asked_for_again() {
    let daemon = daemon(10);
    let (scraper, _) = steady(&daemon, "");
    let lost = ReplyFault::Error { code: 38, message: "Unable to read from monitor: Connection reset by peer".into() };
    daemon.faults().reply(STATS, lost, Times::Next(1));
    let scrape = scraper.scrape();
    assert_eq!((scrape.class(), scrape.complete()), (None, 10));
    assert!(keys(&scrape, "vm-1").contains("dirtyrate.calc_status"));
}
