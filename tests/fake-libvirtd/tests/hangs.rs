//! Domains whose QEMU hangs, is slow or dies, and calls that wait for each other, as the real client library sees them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use fake_libvirtd::stats::{flag, group};
use fake_libvirtd::{Change, DomainState, FakeLibvirtd, Limits, Procedure, ReplyFault, Times};
use support::raw::RawClient;
use support::{JOB_WAIT, assert_recovered, small, start_small, start_virsh, virsh, virsh_hangs};

const STATS: Procedure = Procedure::ConnectGetAllDomainStats;
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_delayed_domain_slows_only_what_asks_its_monitor() {
    let daemon = start_small();
    let delay = Duration::from_millis(800);
    daemon.faults().delay_domain("vm-1", delay);
    assert!(virsh(&daemon, &["domstats"]).took >= delay);
    let delay = 20 * delay;
    daemon.faults().delay_domain("vm-1", delay);
    let mut client = RawClient::open(&daemon, false);
    let began = Instant::now();
    let untouched = group::STATE | group::INTERFACE | group::PERF | group::MEMORY;
    assert_eq!(client.stats(&daemon, &[], untouched, 0).unwrap().len(), 3);
    assert_eq!(client.stats(&daemon, &["vm-0"], 0, 0).unwrap().len(), 1);
    assert!(began.elapsed() < delay / 2);
    assert_recovered(&daemon);
}

#[test]
fn a_locked_domain_keeps_every_call_waiting_that_looks_at_it() {
    let daemon = start_small();
    daemon.faults().lock_domain("vm-1");
    let waiting = [&["list", "--all"][..], &["domcontrol", "vm-1"], &["domstats", "vm-1"], &["domstats", "--nowait"]];
    let waiting = waiting.map(|arguments| start_virsh(&daemon, arguments));
    virsh(&daemon, &["domstate", "vm-0"]).ok();
    virsh(&daemon, &["domstats", "vm-2"]).ok();
    let expected = [
        (Procedure::ConnectListAllDomains, 1),
        (Procedure::DomainLookupByName, 2),
        (Procedure::ConnectGetAllDomainStats, 1),
    ];
    assert!(daemon.counters().wait_until(SOON, |counters| {
        let waits = |procedure| counters.calls(procedure) - counters.answered(procedure);
        expected.iter().all(|(procedure, number)| waits(*procedure) == *number)
    }));
    daemon.faults().unlock_domain("vm-1");
    waiting.into_iter().for_each(|waiting| drop(waiting.wait(SOON).ok()));
    assert_recovered(&daemon);
}

#[test]
fn a_busy_domain_gives_what_needs_no_monitor_and_a_silenced_group_what_it_has() {
    let daemon = start_small();
    let mut client = RawClient::open(&daemon, false);
    let whole = client.stats(&daemon, &["vm-1"], 0, flag::NOWAIT).unwrap();
    daemon.faults().busy_domain("vm-1", Times::Next(2));
    for _ in 0..2 {
        let busy = client.stats(&daemon, &["vm-1"], 0, flag::NOWAIT).unwrap();
        assert!(busy[0].params < whole[0].params);
    }
    let free = client.stats(&daemon, &["vm-1"], 0, flag::NOWAIT).unwrap();
    assert_eq!(free[0].params, whole[0].params);
    daemon.faults().busy_domain("vm-1", Times::Always);
    assert!(virsh(&daemon, &["domstats", "vm-1"]).took >= JOB_WAIT);
    daemon.faults().free_domain("vm-1");
    daemon.faults().silence_groups("vm-1", group::BLOCK);
    let keys = domain_of(&virsh(&daemon, &["domstats"]).ok(), "vm-1");
    assert!(keys.contains("balloon.rss") && keys.contains("block.0.path") && !keys.contains("rd.reqs"), "{keys}");
    assert_recovered(&daemon);
}

#[test]
fn a_hung_domain_blocks_its_first_caller_until_released() {
    let daemon = start_small();
    let full = count(&virsh(&daemon, &["domstats", "vm-1"]).ok());
    daemon.faults().hang_domain("vm-1");
    assert_eq!(virsh(&daemon, &["domcontrol", "vm-1"]).ok().trim(), "ok");
    let first = start_virsh(&daemon, &["domstats", "--nowait"]);
    assert!(daemon.wait_until_hung("vm-1", SOON));

    // Who does not wait gets what needs no monitor, at once; who waits gets the same, later.
    let nowait = virsh(&daemon, &["domstats", "--nowait"]);
    assert!(nowait.took < JOB_WAIT / 2, "{nowait:?}");
    let partial = domain_of(&nowait.ok(), "vm-1");
    assert!(count(&partial) < full && partial.contains("vcpu.0.time=") && partial.contains("block.0.path="));
    assert!(!partial.contains("rd.bytes") && !partial.contains("balloon.rss") && !partial.contains("dirtyrate"));
    let waiting = virsh(&daemon, &["domstats"]);
    assert!(waiting.took >= JOB_WAIT);
    assert_eq!(domain_of(&waiting.ok(), "vm-1"), partial);

    let control = virsh(&daemon, &["domcontrol", "vm-1"]).ok();
    assert!(control.starts_with("occupied ("), "{control}");
    let job = virsh(&daemon, &["domjobinfo", "vm-1"]).failed();
    assert!(job.contains("cannot acquire state change lock"), "{job}");
    for arguments in [&["list"][..], &["domstate", "vm-1"], &["dumpxml", "vm-1"], &["domstats", "--state"]] {
        assert!(virsh(&daemon, arguments).took < JOB_WAIT / 2);
    }

    daemon.release("vm-1");
    let text = first.wait(SOON).ok();
    assert_eq!(count(&domain_of(&text, "vm-1")), full);
    assert_eq!(virsh(&daemon, &["domcontrol", "vm-1"]).ok().trim(), "ok");
    assert_recovered(&daemon);
}

#[test]
fn the_job_stays_held_when_the_client_of_a_hung_call_goes_away() {
    let daemon = start_small();
    daemon.faults().hang_domain("vm-1");
    let first = start_virsh(&daemon, &["domstats"]);
    assert!(daemon.wait_until_hung("vm-1", SOON));
    drop(first);
    assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0));
    assert!(virsh(&daemon, &["domcontrol", "vm-1"]).ok().starts_with("occupied"));
    daemon.release("vm-1");
    assert!(daemon.counters().wait_until(SOON, |all| all.stats_under_way() == 0));
    assert_recovered(&daemon);
}

#[test]
fn hung_calls_use_up_the_workers_but_not_those_with_priority() {
    let limits = Limits { max_workers: 2, ..Limits::default() };
    let daemon = FakeLibvirtd::start(small().limits(limits).build()).unwrap();
    for name in ["vm-0", "vm-1"] {
        daemon.faults().hang_domain(name);
    }
    let mut clients = [RawClient::open(&daemon, false), RawClient::open(&daemon, false)];
    clients[0].send_stats(&daemon, &["vm-0"], 0, flag::NOWAIT);
    clients[1].send_stats(&daemon, &["vm-1"], 0, flag::NOWAIT);
    assert!(daemon.wait_until_hung("vm-0", SOON) && daemon.wait_until_hung("vm-1", SOON));
    virsh(&daemon, &["list"]).ok();
    virsh_hangs(&daemon, &["dumpxml", "vm-2"]);
    daemon.release("vm-0");
    virsh(&daemon, &["dumpxml", "vm-2"]).ok();
    assert_recovered(&daemon);
}

#[test]
fn five_calls_of_a_connection_are_served_at_once() {
    let daemon = start_small();
    let delay = Duration::from_secs(4);
    daemon.faults().reply(STATS, ReplyFault::Delay(delay), Times::Next(5));
    let mut client = RawClient::open(&daemon, false);
    let began = Instant::now();
    let slow: Vec<u32> = (0..5).map(|_| client.send_stats(&daemon, &[], 1, 0)).collect();
    let sixth = client.send(Procedure::ConnectGetHostname, |_| {});
    let mut answered: Vec<u32> = (0..6).map(|_| client.receive().0.serial).collect();
    // The sixth was not even read before one of the five was answered.
    assert!((delay..5 * delay / 2).contains(&began.elapsed()), "one after the other: {:?}", began.elapsed());
    assert_ne!(answered[0], sixth);
    answered.sort_unstable();
    assert_eq!(answered[..5], slow[..]);
    assert_eq!(daemon.counters().concurrent_stats_max(), 5);
}

#[test]
fn replies_may_overtake_each_other() {
    let daemon = start_small();
    daemon.faults().reply(STATS, ReplyFault::Delay(Duration::from_millis(300)), Times::Next(1));
    let mut client = RawClient::open(&daemon, false);
    let slow = client.send_stats(&daemon, &[], 1, 0);
    let quick = client.send(Procedure::ConnectGetHostname, |_| {});
    assert_eq!([client.receive().0.serial, client.receive().0.serial], [quick, slow]);
}

#[test]
fn a_vm_that_dies_fails_the_whole_call_of_an_old_libvirt() {
    let daemon = start_small();
    daemon.faults().die_mid_call("vm-1");
    let said = virsh(&daemon, &["domstats"]).failed();
    assert!(said.contains("Unable to read from monitor: Connection reset by peer"), "{said}");
    let dead = daemon.domains().get("vm-1").unwrap();
    assert_eq!((dead.state, dead.reason, dead.id), (DomainState::Shutoff, 3, None));
    assert_recovered(&daemon);
    // Without the groups that fail, the call goes on.
    daemon.domains().change("vm-1", Change::Start).unwrap();
    daemon.faults().die_mid_call("vm-1");
    let mut client = RawClient::open(&daemon, false);
    let records = client.stats(&daemon, &[], group::STATE | group::BLOCK, 0).unwrap();
    assert_eq!((records.len(), records[1].id), (3, -1));
    let mut client = RawClient::open(&daemon, false);
    daemon.domains().change("vm-1", Change::Start).unwrap();
    daemon.faults().die_mid_call("vm-1");
    assert_eq!(client.stats(&daemon, &[], group::BLOCK | group::IOTHREAD, 0).unwrap_err().0, 38);
}

#[test]
fn a_vm_that_dies_does_no_harm_to_a_new_libvirt() {
    let daemon = FakeLibvirtd::start(small().libvirt_version(11_003_000).build()).unwrap();
    daemon.faults().die_mid_call("vm-1");
    let text = virsh(&daemon, &["domstats"]).ok();
    assert!(domain_of(&text, "vm-1").contains("state.state=5"), "{text}");
}

#[test]
fn a_hung_vm_that_is_destroyed_lets_its_caller_go() {
    let daemon = start_small();
    daemon.faults().hang_domain("vm-1");
    let hung = start_virsh(&daemon, &["domstats", "--vcpu"]);
    assert!(daemon.wait_until_hung("vm-1", SOON));
    virsh(&daemon, &["destroy", "vm-1"]).ok();
    let text = hung.wait(SOON).ok();
    assert_eq!(domain_of(&text, "vm-1").matches("vcpu.").count(), 2, "{text}");
}

#[test]
fn newer_libvirt_waits_for_the_job_before_it_shows_the_definition() {
    let daemon = FakeLibvirtd::start(small().libvirt_version(11_003_000).build()).unwrap();
    daemon.faults().hang_domain("vm-1");
    let hung = start_virsh(&daemon, &["domstats"]);
    assert!(daemon.wait_until_hung("vm-1", SOON));
    let said = virsh(&daemon, &["dumpxml", "vm-1"]).failed();
    assert!(said.contains("cannot acquire state change lock"), "{said}");
    daemon.release("vm-1");
    hung.wait(SOON).ok();
}

/// The lines of one domain.
fn domain_of(text: &str, name: &str) -> String {
    let head = format!("Domain: '{name}'\n");
    let (_, rest) = text.split_once(&head).unwrap_or_else(|| panic!("{name} is not in {text}"));
    rest.split("\n\n").next().unwrap().to_owned()
}

/// How many parameters are in a text.
fn count(text: &str) -> usize {
    text.lines().filter(|line| line.contains('=')).count()
}
