//! Each fault, and what the real client library sees of it. The table in the crate's documentation says the same.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Duration;

use fake_libvirtd::stats::{flag, group};
use fake_libvirtd::{FakeLibvirtd, Identity, Limits, ParamFault, Procedure, RecordFault, ReplyFault, Times};
use support::raw::{RawClient, Record, records};
use support::{assert_recovered, small, start_impatient_virsh, start_small, start_virsh, virsh, virsh_hangs};

const STATS: Procedure = Procedure::ConnectGetAllDomainStats;
const SOON: Duration = Duration::from_secs(60);

#[test]
fn connections_that_are_not_accepted_hang_in_open() {
    let daemon = start_small();
    daemon.faults().accept(false);
    virsh_hangs(&daemon, &["list"]);
    assert_eq!(daemon.counters().connections().len(), 0);
    assert_recovered(&daemon);
}

#[test]
fn a_full_daemon_does_not_accept() {
    let limits = Limits { max_clients: 1, ..Limits::default() };
    let daemon = FakeLibvirtd::start(small().limits(limits).build()).unwrap();
    let client = RawClient::open(&daemon, false);
    virsh_hangs(&daemon, &["list"]);
    drop(client);
    assert_recovered(&daemon);
}

#[test]
fn a_daemon_that_does_not_answer_auth_list_hangs_open() {
    let daemon = start_small();
    daemon.faults().reply(Procedure::AuthList, ReplyFault::Swallow, Times::Always);
    virsh_hangs(&daemon, &["list"]);
    assert_recovered(&daemon);
}

#[test]
fn without_pong_keepalive_ends_the_connection() {
    let daemon = start_small();
    daemon.faults().pong(false);
    daemon.faults().hang_domain("vm-1");
    let said = start_impatient_virsh(&daemon, &["domstats", "vm-1"]).wait(SOON).failed();
    assert!(said.contains("connection closed due to keepalive timeout"), "{said}");
    assert_recovered(&daemon);
}

#[test]
fn with_pong_keepalive_leaves_a_slow_call_alone() {
    let daemon = start_small();
    let delay = Duration::from_secs(10);
    daemon.faults().reply(STATS, ReplyFault::Delay(delay), Times::Next(1));
    let said = start_impatient_virsh(&daemon, &["domstats"]).wait(SOON);
    assert!(said.took >= delay);
    said.ok();
    let connections = daemon.counters().connections();
    assert!(connections.values().any(|one| one.pings >= 2), "{connections:?}");
}

#[test]
fn the_daemon_pings_a_silent_client_and_drops_a_dead_one() {
    let limits = Limits { keepalive_interval: Duration::from_millis(200), keepalive_count: 5, ..Limits::default() };
    let daemon = FakeLibvirtd::start(small().limits(limits).build()).unwrap();
    let mut client = RawClient::open(&daemon, false);
    client
        .call(Procedure::ConnectSupportsFeature, |out| {
            out.i32(10);
        })
        .unwrap();
    for _ in 0..3 {
        assert_eq!(client.receive().0.program, fake_libvirtd::frame::KEEPALIVE_PROGRAM);
    }
    assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0));
    // One with an event loop answers.
    let watching = start_virsh(&daemon, &["event", "--all", "--timeout", "3"]);
    let said = watching.wait(SOON);
    assert!(said.out.contains("event loop timed out"), "{said:?}");
    assert!(daemon.counters().connections().values().any(|one| one.pongs >= 5));
}

#[test]
fn a_frozen_daemon_says_nothing_until_it_goes_on() {
    let daemon = start_small();
    daemon.faults().freeze();
    virsh_hangs(&daemon, &["list"]);
    let waiting = start_virsh(&daemon, &["list", "--all"]);
    std::thread::sleep(Duration::from_millis(300));
    daemon.faults().thaw();
    waiting.wait(SOON).ok();
    // Frozen with a connection open, keepalive ends it.
    daemon.faults().hang_domain("vm-0");
    let hung = start_impatient_virsh(&daemon, &["domstats"]);
    assert!(daemon.wait_until_hung("vm-0", SOON));
    daemon.faults().freeze();
    let said = hung.wait(SOON).failed();
    assert!(said.contains("keepalive timeout"), "{said}");
    assert_recovered(&daemon);
}

#[test]
fn a_killed_daemon_ends_calls_and_can_be_started_again() {
    let daemon = start_small();
    daemon.faults().hang_domain("vm-1");
    let hung = start_virsh(&daemon, &["domstats"]);
    assert!(daemon.wait_until_hung("vm-1", SOON));
    daemon.kill();
    let said = hung.wait(SOON).failed();
    assert!(said.contains("End of file while reading data"), "{said}");
    let said = virsh(&daemon, &["list"]).failed();
    assert!(said.contains("No such file or directory"), "{said}");
    daemon.revive().unwrap();
    // The guest hangs as before; its job is free.
    assert_eq!(virsh(&daemon, &["domcontrol", "vm-1"]).ok().trim(), "ok");
    assert_recovered(&daemon);
}

#[test]
fn a_delayed_reply_comes_late() {
    let daemon = start_small();
    daemon.faults().reply(STATS, ReplyFault::Delay(Duration::from_millis(500)), Times::Always);
    let said = virsh(&daemon, &["domstats"]);
    assert!(said.took >= Duration::from_millis(500));
    said.ok();
    assert_recovered(&daemon);
}

#[test]
fn a_reply_beyond_the_limit_is_error_39() {
    let daemon = start_small();
    daemon.faults().reply_limit(Some(3000));
    let said = virsh(&daemon, &["domstats"]).failed();
    assert!(said.contains("Unable to encode message payload"), "{said}");
    virsh(&daemon, &["domstats", "vm-1"]).ok();
    let mut client = RawClient::open(&daemon, false);
    assert_eq!(client.stats(&daemon, &[], 0, 0).unwrap_err().0, 39);
    assert_eq!(client.stats(&daemon, &["vm-0"], 0, 0).unwrap().len(), 1);
    assert_recovered(&daemon);
}

#[test]
fn more_records_than_libvirt_sends_are_error_1() {
    let limits = Limits { records_max: 2, ..Limits::default() };
    let daemon = FakeLibvirtd::start(small().limits(limits).build()).unwrap();
    let said = virsh(&daemon, &["domstats"]).failed();
    assert!(said.contains("records is 3, which exceeds max limit: 2"), "{said}");
    virsh(&daemon, &["list"]).failed();
    virsh(&daemon, &["domstats", "vm-0", "vm-1"]).ok();
}

#[test]
fn spoiled_frames_end_the_connection() {
    let daemon = start_small();
    for (fault, message) in [
        (ReplyFault::CutAfter(100), "End of file while reading data"),
        (ReplyFault::CutAfter(10), "End of file while reading data"),
        (ReplyFault::Disconnect, "End of file while reading data"),
        (ReplyFault::Oversize, "bytes received from server too large, want 33554432"),
        (ReplyFault::Garbage, "got unexpected RPC call"),
        (ReplyFault::WrongSerial, "no call waiting for reply"),
    ] {
        daemon.faults().reply(STATS, fault.clone(), Times::Next(1));
        let said = virsh(&daemon, &["domstats"]).failed();
        assert!(said.contains(message), "{fault:?}: {said}");
        assert_recovered(&daemon);
    }
}

#[test]
fn a_swallowed_reply_hangs_its_call_alone() {
    let daemon = start_small();
    daemon.faults().reply(STATS, ReplyFault::Swallow, Times::Next(1));
    virsh_hangs(&daemon, &["domstats"]);
    assert_recovered(&daemon);
}

#[test]
fn any_error_can_be_had() {
    let daemon = start_small();
    let fault = ReplyFault::Error { code: 88, message: "access denied".to_owned() };
    daemon.faults().every_reply(fault, Times::Always);
    let said = virsh(&daemon, &["list"]).failed();
    assert!(said.contains("access denied"), "{said}");
    assert_recovered(&daemon);
}

#[test]
fn a_trickling_reply_arrives_whole() {
    let daemon = start_small();
    let time = Duration::from_secs(5);
    daemon.faults().reply(STATS, ReplyFault::Trickle(time), Times::Next(1));
    let said = virsh(&daemon, &["-k", "5", "-K", "3", "domstats"]);
    assert!(said.took >= time, "{:?}", said.took);
    assert_eq!(said.ok().matches("Domain: ").count(), 3);
    // A pong has to wait for the reply before it, so that an impatient client gives up.
    daemon.faults().reply(STATS, ReplyFault::Trickle(2 * time), Times::Next(1));
    let said = start_impatient_virsh(&daemon, &["domstats"]).wait(SOON).failed();
    assert!(said.contains("keepalive timeout"), "{said}");
    assert_recovered(&daemon);
}

#[test]
fn a_connection_ends_after_so_many_calls() {
    let daemon = start_small();
    daemon.faults().drop_after_calls(Some(5));
    virsh(&daemon, &["domstats"]).failed();
    let mut client = RawClient::open(&daemon, false);
    for _ in 0..3 {
        client.stats(&daemon, &[], 1, 0).unwrap();
    }
    client.send_stats(&daemon, &[], 1, 0);
    assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0));
    assert_recovered(&daemon);
}

#[test]
fn bad_parameters_fail_the_call_or_are_passed_on() {
    let daemon = start_small();
    let state = |fault: &ParamFault| {
        // Of the first domain: with records before it, the library forgets its message for a too long key.
        daemon.faults().param("vm-0", fault.clone());
        let said = virsh(&daemon, &["domstats", "--state"]);
        assert_recovered(&daemon);
        said
    };
    let decode = "Unable to decode message payload";
    assert!(state(&ParamFault::UnknownType(9)).failed().contains(decode));
    assert!(state(&ParamFault::LongString(5 << 20)).failed().contains(decode));
    let said = state(&ParamFault::LongKey(80)).failed();
    assert!(said.contains("too big for destination"), "{said}");
    let key = format!("{:k<79}=79", "x.long_");
    assert!(state(&ParamFault::LongKey(79)).ok().contains(&key));
    assert!(state(&ParamFault::NonUtf8String).ok().contains("x.not_utf8=caf\u{fffd} \u{fffd}"));
    assert!(state(&ParamFault::NonUtf8Key).ok().contains("x.caf\u{fffd}=1"));
}

#[test]
fn records_can_be_missing_renamed_renumbered_twice_or_too_many() {
    let daemon = start_small();
    let mut client = RawClient::open(&daemon, false);
    let mut seen = |fault: Option<RecordFault>| -> Vec<(String, i32)> {
        if let Some(fault) = fault {
            daemon.faults().record("vm-1", fault);
        }
        let records = client.stats(&daemon, &[], group::STATE, 0).unwrap();
        daemon.faults().clear();
        records.into_iter().map(|record: Record| (record.name, record.id)).collect()
    };
    let with = |middle: &[(&str, i32)]| -> Vec<(String, i32)> {
        let (first, last) = ([("vm-0", 1)], [("vm-2", 3)]);
        let all = first.iter().chain(middle).chain(&last);
        all.map(|(name, id)| ((*name).to_owned(), *id)).collect()
    };
    assert_eq!(seen(None), with(&[("vm-1", 2)]));
    assert_eq!(seen(Some(RecordFault::Missing)), with(&[]));
    assert_eq!(seen(Some(RecordFault::Renamed("new".to_owned()))), with(&[("new", 2)]));
    assert_eq!(seen(Some(RecordFault::ReId(Some(77)))), with(&[("vm-1", 77)]));
    assert_eq!(seen(Some(RecordFault::ReId(None))), with(&[("vm-1", -1)]));
    assert_eq!(seen(Some(RecordFault::Twice)), with(&[("vm-1", 2), ("vm-1", 2)]));
    let gone = Identity::from(&daemon.domains().remove("vm-1").unwrap());
    daemon.faults().ghost(gone);
    let ghost = seen(None);
    assert_eq!(ghost[2], ("vm-1".to_owned(), 2));
    assert!(!virsh(&daemon, &["list", "--all", "--name"]).ok().contains("vm-1"));
    assert_recovered(&daemon);
}

#[test]
fn the_domains_of_a_running_daemon_change() {
    let daemon = start_small();
    let named = daemon.domains().get("vm-1").unwrap();
    let mut client = RawClient::open(&daemon, false);
    let by_name = |client: &mut RawClient| {
        let serial = client.send(STATS, |out| {
            out.u32(1).domain(&named.name, named.uuid, named.id).u32(1).u32(0);
        });
        let (header, payload) = client.receive();
        assert_eq!((header.serial, header.status), (serial, 0));
        records(&payload)
    };
    daemon.domains().update("vm-1", |domain| domain.name = "renamed".to_owned()).unwrap();
    assert_eq!(by_name(&mut client)[0].name, "renamed");
    daemon.domains().update("renamed", |domain| domain.id = Some(50)).unwrap();
    assert_eq!(by_name(&mut client)[0].id, 50);
    daemon.domains().remove("renamed").unwrap();
    // libvirt leaves out what it does not know, without an error.
    assert_eq!(by_name(&mut client), []);
    assert_eq!(daemon.domains().count(), 2);
}

#[test]
fn counters_tell_what_was_asked() {
    let daemon = start_small();
    virsh(&daemon, &["domstats", "--nowait", "--vcpu"]).ok();
    let counters = daemon.counters();
    assert_eq!(counters.calls(STATS), 1);
    assert_eq!(counters.calls(Procedure::DomainGetXmlDesc), 0);
    assert!(counters.wait_until(SOON, |all| all.open_connections() == 0));
    let call = &counters.log_of(STATS)[0];
    assert_eq!((call.stats, call.flags), (Some(group::VCPU), Some(flag::NOWAIT)));
    assert!(call.reply_bytes > 500 && call.duration.is_some());
    let connection = &counters.connections()[&1];
    assert_eq!(connection.calls[&STATS], 1);
    counters.reset();
    assert_eq!(counters.total_calls(), 0);
}
