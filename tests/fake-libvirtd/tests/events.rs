//! Events, as the real client library shows them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Duration;

use fake_libvirtd::stats::group;
use fake_libvirtd::xdr::Reader;
use fake_libvirtd::{Change, Domain, Event, FakeLibvirtd, Procedure, Template, Times};
use support::raw::RawClient;
use support::{Running, start_small, start_virsh};

const SOON: Duration = Duration::from_secs(60);

/// `virsh event --all --loop`, once it has registered for everything.
fn watch(daemon: &FakeLibvirtd, arguments: &[&str]) -> Running {
    let register = Procedure::ConnectDomainEventCallbackRegisterAny;
    let before = daemon.counters().answered(register);
    let mut all = vec!["event", "--all", "--loop"];
    all.extend(arguments);
    let watching = start_virsh(daemon, &all);
    assert!(daemon.counters().wait_until(SOON, |counters| counters.answered(register) == before + 27));
    // The library learns the number of its registration from the reply, and drops events that arrive before it has.
    std::thread::sleep(Duration::from_millis(300));
    watching
}

/// The life cycle events in a text, in their order, each as `domain: event detail`.
fn lifecycle(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("event 'lifecycle' for domain '"))
        .map(|line| line.replacen("'", "", 1))
        .collect()
}

#[test]
fn every_event_of_libvirt_9_is_understood() {
    let daemon = start_small();
    let watching = watch(&daemon, &[]);
    for event in Event::examples() {
        let sent = daemon.events().send("vm-1", event.clone()).unwrap();
        assert_eq!(sent, usize::from(event.id() <= 26), "{event:?}");
    }
    let said = watching.interrupt_after(|said| said.contains("virtiomem0\nsize")).out;
    for line in [
        "event 'lifecycle' for domain 'vm-1': Suspended Paused",
        "event 'reboot' for domain 'vm-1'",
        "event 'rtc-change' for domain 'vm-1': -3600",
        "event 'watchdog' for domain 'vm-1': reset",
        "event 'io-error' for domain 'vm-1': /images/a.qcow2 (virtio-disk0) pause",
        "connect local[IPv4 127.0.0.1 5900] remote[IPv4 127.0.0.2 5900] none",
        "x509dname=CN=test",
        "(virtio-disk0) pause due to enospc",
        "event 'control-error' for domain 'vm-1'",
        "event 'block-job' for domain 'vm-1': Block Commit for /images/a.qcow2 completed",
        "disk sata0-0-0: /images/old.iso -> <null>: dropped",
        "disk sata0-0-0: opened",
        "event 'pm-wakeup' for domain 'vm-1'",
        "event 'pm-suspend' for domain 'vm-1'",
        "event 'balloon-change' for domain 'vm-1': 524288KiB",
        "event 'pm-suspend-disk' for domain 'vm-1'",
        "event 'device-removed' for domain 'vm-1': net1",
        "event 'block-job-2' for domain 'vm-1': Active Block Commit for vda ready",
        "cputune.cpu_shares: 512",
        "event 'agent-lifecycle' for domain 'vm-1': state: 'connected' reason: 'channel event'",
        "event 'device-added' for domain 'vm-1': net1",
        "event 'migration-iteration' for domain 'vm-1': iteration: '2'",
        "downtime: 30",
        "event 'device-removal-failed' for domain 'vm-1': net1",
        "event 'metadata-change' for domain 'vm-1': type title, uri <null>",
        "dev: vda(/images/a.qcow2) 1073741824 4096",
        "recipient: guest",
        "alias: virtiomem0",
        "events received: 27",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
}

#[test]
fn the_life_of_a_domain_is_told_in_libvirts_order() {
    let daemon = start_small();
    let watching = watch(&daemon, &[]);
    let domains = daemon.domains();
    let mut transient = Domain::new("t", Template::small());
    transient.persistent = false;
    domains.define(Domain::new("p", Template::small()));
    domains.define(transient);
    for change in [Change::Suspend, Change::Resume, Change::Destroy, Change::Start, Change::Shutdown] {
        domains.change("p", change).unwrap();
    }
    domains.rename("p", "q").unwrap();
    domains.undefine("q").unwrap();
    domains.change("t", Change::Die).unwrap();
    assert_eq!(domains.count(), 3);
    let said = watching.interrupt_after(|said| said.contains("'t': Stopped Failed")).out;
    assert_eq!(
        lifecycle(&said),
        [
            "p: Defined Added",
            "p: Resumed Unpaused",
            "p: Started Booted",
            "t: Resumed Unpaused",
            "t: Started Booted",
            "p: Suspended Paused",
            "p: Resumed Unpaused",
            "p: Shutdown Finished after host request",
            "p: Stopped Destroyed",
            "p: Resumed Unpaused",
            "p: Started Booted",
            "p: Shutdown Finished after guest request",
            "p: Stopped Shutdown",
            "p: Undefined Renamed",
            "q: Defined Renamed",
            "q: Undefined Removed",
            "t: Stopped Failed",
        ]
    );
}

#[test]
fn a_registration_for_one_domain_hears_of_no_other() {
    let daemon = start_small();
    let watching = watch(&daemon, &["vm-1"]);
    for name in ["vm-0", "vm-1", "vm-2"] {
        daemon.events().lifecycle(name, 3, 0).unwrap();
    }
    let said = watching.interrupt_after(|said| said.contains("'vm-1': Suspended")).out;
    assert_eq!(lifecycle(&said), ["vm-1: Suspended Paused"]);
}

#[test]
fn a_storm_arrives_whole_and_events_are_lost_on_demand() {
    let daemon = start_small();
    let watching = watch(&daemon, &[]);
    let sent = daemon.events().storm(100_000, Duration::from_secs(2), &Event::examples()[..2]);
    assert_eq!(sent, 100_000);
    daemon.faults().lose_events(Times::Next(2));
    for _ in 0..3 {
        daemon.events().lifecycle("vm-0", 3, 0).unwrap();
    }
    let said = watching.interrupt_after(|said| said.lines().filter(|line| line.contains("Susp")).count() > 50_000).out;
    assert!(said.contains("events received: 100001"), "{}", &said[said.len() - 200..]);
}

#[test]
fn a_client_that_reads_no_events_delays_no_other() {
    let daemon = start_small();
    let mut deaf = RawClient::open(&daemon, false);
    let registered = deaf.call(Procedure::ConnectDomainEventCallbackRegisterAny, |out| {
        out.i32(0).u32(0);
    });
    registered.unwrap();
    assert_eq!(daemon.events().storm(50_000, Duration::ZERO, &[Event::lifecycle(3, 0)]), 50_000);
    let mut other = RawClient::open(&daemon, false);
    other.stats(&daemon, &[], 0, 0).unwrap();
}

#[test]
fn events_come_before_or_after_the_statistics() {
    let daemon = start_small();
    let mut client = RawClient::open(&daemon, false);
    let callback = client.call(Procedure::ConnectDomainEventCallbackRegisterAny, |out| {
        out.i32(1).u32(0);
    });
    assert_eq!(Reader::new(&callback.unwrap()).i32(), Ok(0));
    daemon.events().after_next_stats("vm-0", Event::Reboot).unwrap();
    daemon.events().before_next_stats("vm-1", Event::Reboot).unwrap();
    client.send_stats(&daemon, &[], group::STATE, 0);
    let mut order = Vec::new();
    for _ in 0..3 {
        let (header, payload) = client.receive();
        order.push(match header.procedure {
            319 => {
                let mut reader = Reader::new(&payload);
                assert_eq!(reader.i32(), Ok(0));
                reader.domain().unwrap().name
            }
            _ => "statistics".to_owned(),
        });
    }
    assert_eq!(order, ["vm-1", "statistics", "vm-0"]);
}

#[test]
fn the_close_callback_is_called() {
    let daemon = start_small();
    let watching = watch(&daemon, &[]);
    daemon.events().connection_closed(2);
    let said = watching.interrupt_after(|said| said.contains("due to"));
    assert!(said.err.contains("due to keepalive timeout"), "{said:?}");
}
