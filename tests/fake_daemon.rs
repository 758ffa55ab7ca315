//! The libvirt layer on the fake daemon: what it reads, what it says of every fault, and that it goes on afterwards.
//!
//! Faults that hang an open, and the count of what is left behind, are in `fake_daemon_open.rs`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/golden.rs"]
#[allow(dead_code, reason = "configurations are of no interest here")]
mod golden;

use std::time::Duration;

use domstats_exporter::encode::encode_params;
use domstats_exporter::libvirt::{
    ControlState, DomainSelection, ErrorClass, LibvirtError, ParamValue, Records, StatsGroups, StatsRequest,
};
use fake::{
    GROUPS, JOB_WAIT, SOON, STATS, assert_recovered, assert_serves, counts, everything, fetch, handles, open,
    open_watched, scenario_text, shut_sockets, small, start, start_fetch, start_small, try_open, wait_for, within,
};
use fake_libvirtd::{
    Change, Domain, DomainState, FakeLibvirtd, Identity, Limits, ParamFault, Procedure, RecordFault, ReplyFault,
    Scenario, Template, Times,
};
use uuid::Uuid;

/// Keepalive ends a connection after 20 s of silence.
const KEEPALIVE: Duration = Duration::from_secs(20);

// What arrives.

#[test]
fn every_key_arrives_as_the_scenario_has_it() {
    let scenario = Scenario::builder()
        .named_domains("all-{}", 2, Template::everything())
        .named_domains("big-{}", 1, Template::large())
        .domain(Domain::new("off", Template::everything()).with_state(DomainState::Shutoff));
    let daemon = start(scenario);
    let mut connection = open(&daemon);
    for backing_chain in [false, true] {
        let request = StatsRequest { backing_chain, ..everything() };
        let (same, records) = fetch(connection, request);
        connection = same;
        let records = records.unwrap();
        assert_eq!(encode_params(&[&records]), scenario_text(&daemon, backing_chain));
        for (_, prefix) in GROUPS {
            let mut params = records.domains().flat_map(|domain| domain.params());
            assert!(params.any(|param| param.key.starts_with(prefix)), "{prefix}");
        }
        let types: Vec<&str> = records.domain(0).params().map(|param| param.value.type_name()).collect();
        for name in ["int", "uint", "llong", "ullong", "double", "boolean", "string"] {
            assert!(types.contains(&name), "{name}");
        }
    }
    // The same again, of named domains, and later.
    let domains = handles(&connection);
    let mut records = Records::default();
    connection.fetch_stats_of(&domains, everything(), &mut records).unwrap();
    assert_eq!(encode_params(&[&records]), scenario_text(&daemon, false));
    daemon.advance(Duration::from_secs(10));
    let mut later = Records::default();
    connection.fetch_stats_of(&domains, everything(), &mut later).unwrap();
    let total = |records: &Records| {
        let cpu = records.domain(0).params().find(|param| param.key == "cpu.time");
        match cpu.unwrap().value {
            ParamValue::ULLong(nanos) => nanos,
            other => panic!("{other:?}"),
        }
    };
    assert!(total(&later) > total(&records));
    assert_eq!(later.param_count(), records.param_count());
}

#[test]
fn a_group_brings_its_own_keys_and_no_others() {
    let daemon = start(Scenario::builder().domains(1, Template::everything()));
    let connection = open(&daemon);
    let mut sum = 0;
    for (group, prefix) in GROUPS {
        let mut records = Records::default();
        let request = StatsRequest { groups: group, ..everything() };
        connection.fetch_stats(request, |_| true, &mut records).unwrap();
        assert!(records.param_count() > 0, "{prefix}");
        assert!(records.domain(0).params().all(|param| param.key.starts_with(prefix)), "{prefix}");
        sum += records.param_count();
    }
    let mut records = Records::default();
    connection.fetch_stats(everything(), |_| true, &mut records).unwrap();
    assert_eq!(records.param_count(), sum);
}

#[test]
fn the_golden_parameters_come_back_byte_for_byte() {
    for case in golden::cases() {
        let path = golden::folder().join(&case).with_extension("params");
        let text = std::fs::read_to_string(path).unwrap();
        // A parameter of no known type cannot pass libvirt; see `parameters_that_libvirt_cannot_take_...`.
        let kept = text.lines().filter(|line| line.starts_with('#') || !line.contains(" unknown("));
        let text = kept.map(|line| format!("{line}\n")).collect::<String>();
        let daemon = start(Scenario::builder().params(&text).unwrap());
        let (_, records) = fetch(open(&daemon), everything());
        let came = encode_params(&[&records.unwrap()]);
        assert_eq!(came, encode_params(&[&golden::records(&text).unwrap()]), "{case}");
        assert_eq!(came, scenario_text(&daemon, false), "{case}");
    }
}

#[test]
fn any_number_of_domains_is_read() {
    for count in [0, 1, 1_000] {
        let daemon = start(Scenario::builder().domains(count, Template::small()));
        let (connection, records) = fetch(open(&daemon), everything());
        let records = records.unwrap();
        assert_eq!((records.len(), records.param_count()), (count, 47 * count));
        let domains = handles(&connection);
        assert_eq!(domains.len(), count);
        let mut named = Records::default();
        connection.fetch_stats_of(&domains, everything(), &mut named).unwrap();
        assert_eq!(encode_params(&[&named]), encode_params(&[&records]));
        assert_eq!(encode_params(&[&named]), scenario_text(&daemon, false));
    }
}

#[test]
fn ten_thousand_domains_come_in_one_call_or_in_batches() {
    let daemon = start(Scenario::builder().domains(10_000, Template::small()));
    let (connection, records) = fetch(open(&daemon), everything());
    let records = records.unwrap();
    assert_eq!((records.len(), records.param_count()), (10_000, 470_000));
    let connection = within(SOON, move || {
        let domains = handles(&connection);
        let mut batches = Records::default();
        for batch in domains.chunks(1_000) {
            connection.fetch_stats_of(batch, everything(), &mut batches).unwrap();
        }
        assert_eq!(batches.len(), 10_000);
        for (one, other) in records.domains().zip(batches.domains()) {
            assert_eq!((one.name, one.uuid, one.id), (other.name, other.uuid, other.id));
            assert!(one.params().eq(other.params()), "{}", one.name);
        }
        connection
    });
    let calls = daemon.counters().log_of(STATS);
    assert_eq!(calls.len(), 11);
    assert!(calls[1..].iter().all(|call| call.domains == Some(1_000)));
    assert!(connection.is_alive());
}

#[test]
fn what_exceeds_libvirts_limits_is_too_large_and_the_connection_stays() {
    // By bytes: 10,000 domains of 270 parameters are 104 MB.
    let daemon = start(Scenario::builder().domains(10_000, Template::medium()));
    let (connection, result) = start_fetch(open(&daemon), everything()).result(4 * SOON).0;
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(error.to_string().contains("Unable to encode message payload"), "{error}");
    let connection = within(4 * SOON, move || {
        let domains = handles(&connection);
        let mut records = Records::default();
        let error = connection.fetch_stats_of(&domains, everything(), &mut records).unwrap_err();
        assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
        assert!(records.is_empty());
        connection.fetch_stats_of(&domains[..1_000], everything(), &mut records).unwrap();
        assert_eq!(records.param_count(), 270_000);
        connection
    });
    assert!(connection.is_alive());
}

#[test]
fn more_domains_than_libvirt_lists_are_too_many() {
    let daemon = start(Scenario::builder().domains(16_385, Template::small()));
    let (connection, result) = fetch(open(&daemon), everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(error.message.contains("exceeds max limit: 16384"), "{error}");
    let error = connection.list_domains(DomainSelection::Active).unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(connection.list_domains(DomainSelection::Inactive).unwrap().is_empty());
    daemon.domains().remove("vm-0").unwrap();
    assert_eq!(connection.list_domains(DomainSelection::Active).unwrap().len(), 16_384);
}

#[test]
fn the_selection_and_the_name_choose_domains() {
    let off = Domain::new("off", Template::small()).with_state(DomainState::Shutoff);
    let paused = Domain::new("paused", Template::small()).with_state(DomainState::Paused);
    let daemon = start(small().domain(off).domain(paused));
    let connection = open(&daemon);
    let names = |domains| {
        let request = StatsRequest { domains, ..everything() };
        let mut records = Records::default();
        connection.fetch_stats(request, |name| name != "vm-1", &mut records).unwrap();
        records.domains().map(|domain| domain.name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(Some(DomainSelection::Active)), ["vm-0", "vm-2", "paused"]);
    assert_eq!(names(Some(DomainSelection::Inactive)), ["off"]);
    assert_eq!(names(None), ["vm-0", "vm-2", "off", "paused"]);
    let listed = |which| -> Vec<_> {
        connection.list_domains(which).unwrap().iter().map(|domain| domain.identity().name).collect()
    };
    assert_eq!(listed(DomainSelection::Active), ["vm-0", "vm-1", "vm-2", "paused"]);
    assert_eq!(listed(DomainSelection::Inactive), ["off"]);
}

#[test]
fn versions_identities_and_basic_facts() {
    let daemon = start_small();
    let connection = open(&daemon);
    let versions = connection.versions().unwrap();
    assert_eq!((&*versions.libvirt, &*versions.hypervisor, &*versions.driver), ("9.0.0", "7.2.22", "QEMU"));
    assert!(versions.library.split('.').count() == 3, "{versions:?}");

    let wanted = daemon.domains().get("vm-1").unwrap();
    let domain = connection.lookup_domain(wanted.uuid).unwrap();
    let identity = domain.identity();
    assert_eq!((&identity.name, identity.uuid, identity.id), (&wanted.name, wanted.uuid, wanted.id));
    assert_eq!(domain.uuid(), wanted.uuid);
    let info = domain.info(&connection).unwrap();
    assert_eq!((info.state, info.vcpus, info.maximum_kib), (1, 1, 1 << 20));
    assert_eq!(domain.control_state(&connection).unwrap(), ControlState::Ok);

    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    assert_eq!(domain.info(&connection).unwrap().state, 5);
    let off = domain.control_state(&connection).unwrap_err();
    assert_eq!(off.class, ErrorClass::Other(55), "{off}");
    assert!(off.to_string().contains("domain is not running"), "{off}");
    assert_eq!(connection.lookup_domain(wanted.uuid).unwrap().identity().id, None);

    daemon.domains().remove("vm-1").unwrap();
    for error in [
        connection.lookup_domain(wanted.uuid).unwrap_err(),
        connection.lookup_domain(Uuid::nil()).unwrap_err(),
        domain.info(&connection).unwrap_err(),
        domain.control_state(&connection).unwrap_err(),
    ] {
        assert_eq!(error.class, ErrorClass::VanishedDomain, "{error}");
        assert!(error.message.starts_with("Domain not found"), "{error}");
    }
    // Named domains that have vanished are left out.
    let mut records = Records::default();
    connection.fetch_stats_of([&domain], everything(), &mut records).unwrap();
    assert!(records.is_empty());
    connection.fetch_stats_of([], everything(), &mut records).unwrap();
    assert!(records.is_empty());
    drop(assert_serves(connection, &daemon));
}

#[test]
fn a_fetch_costs_the_daemon_one_call() {
    let daemon = start_small();
    let connection = open(&daemon);
    let opening = daemon.counters().by_procedure();
    let expected = [
        (Procedure::ConnectOpen, 1),
        (Procedure::ConnectSupportsFeature, 3),
        (Procedure::AuthList, 1),
        (Procedure::ConnectRegisterCloseCallback, 1),
    ];
    assert_eq!(opening, expected.into_iter().collect());
    assert!(daemon.counters().connections().values().all(|connection| connection.read_only));
    daemon.counters().reset();

    let mut records = Records::default();
    connection.fetch_stats(everything(), |_| true, &mut records).unwrap();
    assert_eq!(daemon.counters().by_procedure(), [(STATS, 1)].into_iter().collect());
    let domains = handles(&connection);
    daemon.counters().reset();
    let request = StatsRequest { nowait: true, groups: StatsGroups::WITHOUT_MONITOR, ..everything() };
    connection.fetch_stats_of(&domains[1..], request, &mut records).unwrap();
    let calls = daemon.counters().log();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].domains, calls[0].stats, calls[0].flags), (Some(2), Some(0x151), Some(1 << 29)));
    // Nobody is asked for what is known, nor for handles that are dropped.
    assert!(domains.iter().all(|domain| !domain.identity().name.is_empty()) && connection.is_alive());
    drop(domains);
    assert_eq!(daemon.counters().total_calls(), 1);

    drop(connection);
    assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0));
    let closing = [(STATS, 1), (Procedure::ConnectUnregisterCloseCallback, 1), (Procedure::ConnectClose, 1)];
    assert_eq!(daemon.counters().by_procedure(), closing.into_iter().collect());
}

// Faults that end the connection.

/// What a call says whose connection ends under it; `on_close` is called once and freed, and later calls fail at once.
fn ends_the_connection(daemon: &FakeLibvirtd, limit: Duration, fault: impl FnOnce()) -> LibvirtError {
    let (connection, on_close) = open_watched(daemon);
    let domain = connection.lookup_domain(daemon.domains().get("vm-1").unwrap().uuid).unwrap();
    let call = start_fetch(connection, everything());
    fault();
    let ((connection, result), _) = call.result(limit);
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::Disconnected, "{error}");
    assert!(!error.message.contains("unknown") && !error.message.contains("no reason"), "{error}");
    assert!(!connection.is_alive());
    assert!(wait_for(SOON, || on_close.calls() == 1), "{on_close:?}");
    within(SOON, move || {
        let mut records = Records::default();
        for error in [
            connection.fetch_stats(everything(), |_| true, &mut records).unwrap_err(),
            connection.fetch_stats_of([&domain], everything(), &mut records).unwrap_err(),
            connection.list_domains(DomainSelection::Active).unwrap_err(),
            connection.lookup_domain(Uuid::nil()).unwrap_err(),
            connection.versions().unwrap_err(),
            domain.info(&connection).unwrap_err(),
            domain.control_state(&connection).unwrap_err(),
        ] {
            assert_eq!(error.class, ErrorClass::Disconnected, "{error}");
        }
        assert!(records.is_empty());
    });
    assert!(wait_for(SOON, || on_close.is_freed()), "{on_close:?}");
    assert_eq!(on_close.calls(), 1);
    error
}

#[test]
fn spoiled_frames_end_the_connection() {
    let daemon = start_small();
    for (fault, message) in [
        (ReplyFault::Disconnect, "End of file while reading data"),
        (ReplyFault::CutAfter(0), "End of file while reading data"),
        (ReplyFault::CutAfter(10), "End of file while reading data"),
        (ReplyFault::CutAfter(100), "End of file while reading data"),
        (ReplyFault::Oversize, "too large, want 33554432"),
        (ReplyFault::Garbage, "got unexpected RPC call"),
        (ReplyFault::WrongSerial, "no call waiting for reply"),
    ] {
        daemon.faults().reply(STATS, fault.clone(), Times::Next(1));
        let error = ends_the_connection(&daemon, SOON, || {});
        assert!(error.message.contains(message), "{fault:?}: {error}");
        assert_recovered(&daemon);
    }
}

#[test]
fn a_killed_daemon_ends_calls_until_it_is_back() {
    let daemon = start_small();
    daemon.faults().hang_domain("vm-1");
    let error = ends_the_connection(&daemon, SOON, || {
        assert!(daemon.wait_until_hung("vm-1", SOON));
        daemon.kill();
    });
    assert!(error.message.contains("End of file while reading data"), "{error}");
    let uri = daemon.uri();
    let (refused, on_close) = within(SOON, move || try_open(&uri));
    let refused = refused.unwrap_err();
    assert_eq!(refused.class, ErrorClass::ConnectFailed, "{refused}");
    assert!(refused.message.contains("No such file or directory"), "{refused}");
    assert!(on_close.is_freed() && on_close.calls() == 0);
    daemon.revive().unwrap();
    assert_recovered(&daemon);
}

#[test]
fn a_call_without_answer_is_ended_by_shutting_its_socket() {
    let daemon = start_small();
    daemon.faults().reply(STATS, ReplyFault::Swallow, Times::Next(1));
    let error = ends_the_connection(&daemon, SOON, || {
        assert!(daemon.counters().wait_until(SOON, |all| all.calls(STATS) == 1));
        std::thread::sleep(Duration::from_millis(300));
        assert!(shut_sockets(&daemon) > 0);
    });
    assert!(error.message.contains("End of file while reading data"), "{error}");
    assert_recovered(&daemon);
}

/// Each waits for keepalive's 20 s, so they wait together.
#[test]
fn keepalive_ends_what_is_silent_and_nothing_else() {
    type Part = fn();
    let parts: [(&str, Part); 6] = [
        (
            "a_call_without_answer_waits_while_keepalive_is_answered",
            a_call_without_answer_waits_while_keepalive_is_answered,
        ),
        ("without_pong_keepalive_ends_the_connection", without_pong_keepalive_ends_the_connection),
        ("without_pong_keepalive_ends_an_idle_connection_too", without_pong_keepalive_ends_an_idle_connection_too),
        ("a_frozen_daemon_loses_its_connections_by_keepalive", a_frozen_daemon_loses_its_connections_by_keepalive),
        (
            "a_connection_to_a_frozen_daemon_is_dropped_no_later_than_keepalive_allows",
            a_connection_to_a_frozen_daemon_is_dropped_no_later_than_keepalive_allows,
        ),
        (
            "a_reply_that_trickles_arrives_whole_unless_keepalive_is_quicker",
            a_reply_that_trickles_arrives_whole_unless_keepalive_is_quicker,
        ),
    ];
    let parts = parts.map(|(name, part)| std::thread::Builder::new().name(name.to_owned()).spawn(part).unwrap());
    let failed = parts.map(|part| (part.thread().name().map(str::to_owned), part.join().is_err()));
    assert!(failed.iter().all(|(_, failed)| !failed), "{failed:?}");
}

fn a_call_without_answer_waits_while_keepalive_is_answered() {
    let daemon = start_small();
    daemon.faults().reply(STATS, ReplyFault::Swallow, Times::Next(1));
    let (connection, on_close) = open_watched(&daemon);
    let call = start_fetch(connection, everything());
    assert!(call.blocks_for(KEEPALIVE + Duration::from_secs(3)));
    assert_eq!(on_close.calls(), 0);
    assert!(daemon.counters().connections()[&1].pings >= 3);
    daemon.disconnect_all();
    let ((connection, result), _) = call.result(SOON);
    assert_eq!(result.unwrap_err().class, ErrorClass::Disconnected);
    assert!(!connection.is_alive());
    assert_recovered(&daemon);
}

/// A daemon that sends no pings of its own: to libvirt's client they are signs of life as good as a pong.
fn start_silent() -> FakeLibvirtd {
    start(small().limits(Limits { keepalive_interval: Duration::ZERO, ..Limits::default() }))
}

fn without_pong_keepalive_ends_the_connection() {
    let daemon = start_silent();
    daemon.faults().pong(false);
    daemon.faults().hang_domain("vm-1");
    let error = ends_the_connection(&daemon, KEEPALIVE + SOON, || {});
    assert!(error.message.contains("keepalive"), "{error}");
    assert_recovered(&daemon);
}

fn without_pong_keepalive_ends_an_idle_connection_too() {
    let daemon = start_silent();
    daemon.faults().pong(false);
    let (connection, on_close) = open_watched(&daemon);
    assert!(wait_for(KEEPALIVE + SOON, || on_close.calls() == 1));
    assert!(!connection.is_alive());
    let (connection, result) = fetch(connection, everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::Disconnected, "{error}");
    drop(connection);
    assert!(on_close.is_freed() && on_close.calls() == 1);
    assert_recovered(&daemon);
}

fn a_frozen_daemon_loses_its_connections_by_keepalive() {
    let daemon = start_small();
    let error = ends_the_connection(&daemon, KEEPALIVE + SOON, || daemon.faults().freeze());
    assert!(error.message.contains("keepalive"), "{error}");
    assert_recovered(&daemon);
}

fn a_connection_to_a_frozen_daemon_is_dropped_no_later_than_keepalive_allows() {
    let daemon = start_small();
    let (connection, on_close) = open_watched(&daemon);
    daemon.faults().freeze();
    within(KEEPALIVE + SOON, move || drop(connection));
    assert!(wait_for(SOON, || on_close.is_freed()));
    assert!(on_close.calls() <= 1);
    assert_recovered(&daemon);
}

#[test]
fn a_daemon_frozen_for_a_while_goes_on() {
    let daemon = start_small();
    let (connection, on_close) = open_watched(&daemon);
    daemon.faults().freeze();
    let call = start_fetch(connection, everything());
    assert!(call.blocks_for(Duration::from_secs(2)));
    daemon.faults().thaw();
    let ((connection, result), _) = call.result(SOON);
    assert_eq!(result.unwrap().len(), 3);
    drop(assert_serves(connection, &daemon));
    assert!(on_close.is_freed() && on_close.calls() == 0);
}

fn a_reply_that_trickles_arrives_whole_unless_keepalive_is_quicker() {
    let daemon = start_small();
    let time = Duration::from_secs(5);
    daemon.faults().reply(STATS, ReplyFault::Trickle(time), Times::Next(1));
    let ((connection, result), took) = start_fetch(open(&daemon), everything()).result(SOON);
    assert!(took >= time);
    assert_eq!(counts(&result.unwrap()).into_values().collect::<Vec<_>>(), [47, 47, 47]);
    drop(assert_serves(connection, &daemon));
    daemon.faults().reply(STATS, ReplyFault::Trickle(10 * KEEPALIVE), Times::Next(1));
    let error = ends_the_connection(&daemon, KEEPALIVE + SOON, || {});
    assert!(error.message.contains("keepalive"), "{error}");
    assert_recovered(&daemon);
}

#[test]
fn a_connection_ends_after_so_many_calls() {
    let daemon = start_small();
    // Opening takes six.
    daemon.faults().drop_after_calls(Some(8));
    let connection = assert_serves(open(&daemon), &daemon);
    let connection = assert_serves(connection, &daemon);
    let (connection, result) = fetch(connection, everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::Disconnected, "{error}");
    drop(connection);
    // In the middle of opening.
    for calls in 0..6 {
        daemon.faults().drop_after_calls(Some(calls));
        let uri = daemon.uri();
        let (result, on_close) = within(SOON, move || try_open(&uri));
        let error = result.unwrap_err();
        assert_eq!(error.class, ErrorClass::ConnectFailed, "{calls}: {error}");
        let messages = ["End of file while reading data", "client socket is closed", "broke at once"];
        assert!(messages.iter().any(|message| error.message.contains(message)), "{calls}: {error}");
        assert!(on_close.is_freed() && on_close.calls() == 0);
    }
    assert_recovered(&daemon);
}

#[test]
fn the_close_callback_is_not_called_for_a_drop() {
    let daemon = start_small();
    for _ in 0..20 {
        let (connection, on_close) = open_watched(&daemon);
        let connection = assert_serves(connection, &daemon);
        drop(connection);
        assert!(on_close.is_freed());
        assert_eq!(on_close.calls(), 0);
    }
    // Nor where handles of its domains outlive it.
    let (connection, on_close) = open_watched(&daemon);
    let domains = handles(&connection);
    drop(connection);
    assert!(on_close.is_freed());
    drop(domains);
    assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0));
    assert_eq!(on_close.calls(), 0);
}

#[test]
fn an_idle_connection_that_ends_calls_back_once() {
    type End = fn(&FakeLibvirtd);
    let ends: [End; 3] =
        [|daemon| daemon.disconnect_all(), |daemon| daemon.kill(), |daemon| assert_eq!(shut_sockets(daemon), 1)];
    for end in ends {
        let daemon = start_small();
        let (connection, on_close) = open_watched(&daemon);
        end(&daemon);
        assert!(wait_for(SOON, || on_close.calls() == 1 && !connection.is_alive()));
        assert!(wait_for(SOON, || on_close.is_freed()));
        let (_, result) = fetch(connection, everything());
        assert_eq!(result.unwrap_err().class, ErrorClass::Disconnected);
        assert_eq!(on_close.calls(), 1);
        daemon.revive().unwrap();
        assert_recovered(&daemon);
    }
}

#[test]
fn a_connection_dropped_while_it_breaks_frees_its_callback_and_calls_it_no_more_than_once() {
    let daemon = start_small();
    for round in 0..50 {
        let (connection, on_close) = open_watched(&daemon);
        daemon.disconnect_all();
        std::thread::sleep(Duration::from_micros(40 * round));
        within(SOON, move || drop(connection));
        assert!(wait_for(SOON, || on_close.is_freed()), "round {round}: {on_close:?}");
        assert!(on_close.calls() <= 1);
    }
    assert_recovered(&daemon);
}

// Faults that the connection survives.

#[test]
fn every_error_has_its_class_and_its_message() {
    let daemon = start_small();
    let mut connection = open(&daemon);
    for (code, class) in [
        (1, ErrorClass::Other(1)),
        (3, ErrorClass::NotSupported),
        (8, ErrorClass::Other(8)),
        (29, ErrorClass::PermissionDenied),
        (38, ErrorClass::Other(38)),
        (39, ErrorClass::TooLarge),
        (42, ErrorClass::VanishedDomain),
        (45, ErrorClass::PermissionDenied),
        (68, ErrorClass::Other(68)),
        (74, ErrorClass::Other(74)),
        (88, ErrorClass::PermissionDenied),
        (86, ErrorClass::Other(86)),
        (9999, ErrorClass::Other(9999)),
    ] {
        let fault = ReplyFault::Error { code, message: format!("fault number {code}") };
        daemon.faults().every_reply(fault, Times::Always);
        let uuid = daemon.domains().get("vm-0").unwrap().uuid;
        let (same, errors) = within(SOON, move || {
            let mut records = Records::default();
            let errors = [
                connection.fetch_stats(everything(), |_| true, &mut records).unwrap_err(),
                connection.list_domains(DomainSelection::Active).unwrap_err(),
                connection.lookup_domain(uuid).unwrap_err(),
            ];
            assert!(records.is_empty());
            (connection, errors)
        });
        for error in errors {
            assert_eq!(error.class, class, "{error}");
            assert!(error.message.contains(&format!("fault number {code}")), "{error}");
            let hint = error.to_string().contains("unix_sock_ro_perms");
            assert_eq!(hint, class == ErrorClass::PermissionDenied, "{error}");
        }
        daemon.faults().clear();
        connection = assert_serves(same, &daemon);
    }
}

#[test]
fn an_open_that_is_refused_says_why() {
    let daemon = start_small();
    for procedure in [Procedure::AuthList, Procedure::ConnectOpen] {
        for (code, class) in [
            (1, ErrorClass::ConnectFailed),
            (29, ErrorClass::PermissionDenied),
            (38, ErrorClass::ConnectFailed),
            (45, ErrorClass::PermissionDenied),
            (88, ErrorClass::PermissionDenied),
        ] {
            let fault = ReplyFault::Error { code, message: format!("refused by {code}") };
            daemon.faults().reply(procedure, fault, Times::Next(1));
            let uri = daemon.uri();
            let (result, on_close) = within(SOON, move || try_open(&uri));
            let error = result.unwrap_err();
            assert_eq!(error.class, class, "{error}");
            assert!(error.to_string().contains(&format!("cannot open {}", daemon.uri())), "{error}");
            assert!(error.message.contains(&format!("refused by {code}")), "{error}");
            assert!(on_close.is_freed() && on_close.calls() == 0);
        }
    }
    assert_recovered(&daemon);
}

#[test]
fn a_daemon_without_close_callbacks_and_keepalive_serves() {
    let daemon = start_small();
    for procedure in [Procedure::ConnectRegisterCloseCallback, Procedure::ConnectSupportsFeature] {
        let fault = ReplyFault::Error { code: 3, message: "no such thing".to_owned() };
        daemon.faults().reply(procedure, fault, Times::Always);
        let (connection, on_close) = open_watched(&daemon);
        drop(assert_serves(connection, &daemon));
        assert!(on_close.is_freed(), "{procedure:?}");
        assert_eq!(on_close.calls(), 0);
        daemon.faults().clear();
    }
    // Without the reply to a version, the rest is still told.
    let connection = open(&daemon);
    let fault = ReplyFault::Error { code: 3, message: "no such thing".to_owned() };
    daemon.faults().reply(Procedure::ConnectGetVersion, fault, Times::Always);
    let versions = connection.versions().unwrap();
    assert_eq!((&*versions.libvirt, &*versions.hypervisor), ("9.0.0", ""));
}

#[test]
fn a_late_reply_and_a_slow_domain_are_waited_for() {
    let daemon = start_small();
    let delay = Duration::from_millis(800);
    daemon.faults().reply(STATS, ReplyFault::Delay(delay), Times::Next(1));
    let ((connection, result), took) = start_fetch(open(&daemon), everything()).result(SOON);
    assert_eq!(result.unwrap().len(), 3);
    assert!(took >= delay);
    daemon.faults().delay_domain("vm-1", delay);
    let ((connection, result), took) = start_fetch(connection, everything()).result(SOON);
    assert_eq!(counts(&result.unwrap())["vm-1"], 47);
    assert!(took >= delay);
    // What needs no monitor does not wait.
    daemon.faults().delay_domain("vm-1", 10 * SOON);
    let request = StatsRequest { groups: StatsGroups::WITHOUT_MONITOR, ..everything() };
    let (connection, result) = fetch(connection, request);
    assert_eq!(result.unwrap().len(), 3);
    daemon.faults().clear();
    drop(assert_serves(connection, &daemon));
}

#[test]
fn a_frozen_domain_blocks_its_first_caller_only() {
    let daemon = start_small();
    daemon.faults().hang_domain("vm-1");
    let second = open(&daemon);
    let domain = second.lookup_domain(daemon.domains().get("vm-1").unwrap().uuid).unwrap();
    assert_eq!(domain.control_state(&second).unwrap(), ControlState::Ok);
    let nowait = StatsRequest { nowait: true, ..everything() };
    let blocked = start_fetch(open(&daemon), nowait);
    assert!(daemon.wait_until_hung("vm-1", SOON));
    std::thread::sleep(Duration::from_millis(200));

    let ((second, result), took) = start_fetch(second, nowait).result(SOON);
    let partial = result.unwrap();
    assert!(took < JOB_WAIT, "{took:?}");
    let partial = partial.domains().find(|domain| domain.name == "vm-1").unwrap();
    let keys: Vec<&str> = partial.params().map(|param| param.key).collect();
    for key in ["state.state", "cpu.time", "balloon.current", "vcpu.0.time", "net.0.rx.bytes", "block.0.path"] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    for key in ["balloon.rss", "block.0.rd.bytes", "dirtyrate.calc_status", "cpu.haltpoll.success.time"] {
        assert!(!keys.contains(&key), "{key}");
    }
    let ControlState::Occupied(since) = domain.control_state(&second).unwrap() else { panic!("not occupied") };
    assert!(since >= Duration::from_millis(200) && since < SOON, "{since:?}");
    // Who waits gets the same, later.
    let partial_keys = keys.len();
    let ((second, result), took) = start_fetch(second, everything()).result(SOON);
    assert!(took >= JOB_WAIT, "{took:?}");
    assert_eq!(counts(&result.unwrap())["vm-1"], partial_keys);
    // What asks no monitor is served as ever.
    let request = StatsRequest { groups: StatsGroups::WITHOUT_MONITOR, ..everything() };
    let ((second, result), took) = start_fetch(second, request).result(SOON);
    assert!(took < JOB_WAIT && result.unwrap().len() == 3);
    assert_eq!(handles(&second).len(), 3);

    assert!(blocked.blocks_for(Duration::ZERO));
    daemon.release("vm-1");
    let ((first, result), _) = blocked.result(SOON);
    assert_eq!(counts(&result.unwrap())["vm-1"], 47);
    assert_eq!(domain.control_state(&second).unwrap(), ControlState::Ok);
    drop(assert_serves(second, &daemon));
    drop(assert_serves(first, &daemon));
}

#[test]
fn hung_calls_use_up_the_workers_but_not_those_with_priority() {
    let limits = Limits { max_workers: 20, job_wait: JOB_WAIT, ..Limits::default() };
    let daemon = start(Scenario::builder().domains(21, Template::small()).limits(limits));
    let names = daemon.domains().names();
    for name in &names[..20] {
        daemon.faults().hang_domain(name);
    }
    let hung: Vec<_> = (0..20)
        .map(|number| {
            let connection = open(&daemon);
            let uuid = daemon.domains().get(&names[number]).unwrap().uuid;
            fake::UnderWay::start(move || {
                let domain = connection.lookup_domain(uuid).unwrap();
                let mut records = Records::default();
                let result = connection.fetch_stats_of([&domain], everything(), &mut records);
                (connection, result.map(|()| records))
            })
        })
        .collect();
    assert!(names[..20].iter().all(|name| daemon.wait_until_hung(name, SOON)));
    let other = open(&daemon);
    let domains = handles(&other);
    assert!(matches!(domains[3].control_state(&other), Ok(ControlState::Occupied(_))));
    let request = StatsRequest { groups: StatsGroups::STATE, ..everything() };
    let waiting = start_fetch(other, request);
    assert!(waiting.blocks_for(Duration::from_secs(1)));
    for name in &names[..20] {
        daemon.release(name);
    }
    let ((other, result), _) = waiting.result(SOON);
    assert_eq!(result.unwrap().len(), 21);
    for call in hung {
        let ((connection, result), _) = call.result(SOON);
        assert_eq!(result.unwrap().param_count(), 47);
        assert!(connection.is_alive());
    }
    drop(domains);
    drop(assert_serves(other, &daemon));
}

#[test]
fn a_vm_that_dies_fails_the_call_of_an_old_libvirt_but_not_the_connection() {
    let daemon = start_small();
    daemon.faults().die_mid_call("vm-1");
    let (connection, result) = fetch(open(&daemon), everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::Other(38), "{error}");
    assert!(error.message.contains("Unable to read from monitor: Connection reset by peer"), "{error}");
    let connection = assert_serves(connection, &daemon);
    // Without the groups that are fragile, the call goes on.
    daemon.domains().change("vm-1", Change::Start).unwrap();
    daemon.faults().die_mid_call("vm-1");
    let request = StatsRequest { groups: everything().groups.without(StatsGroups::FRAGILE), ..everything() };
    let (connection, result) = fetch(connection, request);
    let records = result.unwrap();
    assert_eq!((records.len(), records.domain(1).name, records.domain(1).id), (3, "vm-1", None));
    drop(assert_serves(connection, &daemon));
    // Nor does it matter to a newer libvirt.
    let daemon = start(small().libvirt_version(11_003_000));
    daemon.faults().die_mid_call("vm-1");
    let (_, result) = fetch(open(&daemon), everything());
    assert!(!result.unwrap().domain(1).is_active());
    assert_recovered(&daemon);
}

#[test]
fn a_reply_beyond_the_daemons_limit_is_too_large() {
    let daemon = start_small();
    daemon.faults().reply_limit(Some(3000));
    let (connection, result) = fetch(open(&daemon), everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(error.message.contains("Unable to encode message payload"), "{error}");
    let domains = handles(&connection);
    let mut records = Records::default();
    for domain in &domains {
        connection.fetch_stats_of([domain], everything(), &mut records).unwrap();
    }
    assert_eq!(counts(&records).into_values().collect::<Vec<_>>(), [47, 47, 47]);
    daemon.faults().clear();
    drop(domains);
    drop(assert_serves(connection, &daemon));
}

#[test]
fn more_records_than_allowed_are_too_large() {
    let daemon = start(small().limits(Limits { records_max: 2, ..Limits::default() }));
    let (connection, result) = fetch(open(&daemon), everything());
    let error = result.unwrap_err();
    assert_eq!(error.class, ErrorClass::TooLarge, "{error}");
    assert!(error.message.contains("records is 3, which exceeds max limit: 2"), "{error}");
    daemon.domains().remove("vm-0").unwrap();
    drop(assert_serves(connection, &daemon));
}

#[test]
fn parameters_that_libvirt_cannot_take_fail_the_call_and_others_come() {
    let daemon = start_small();
    let mut connection = open(&daemon);
    let request = StatsRequest { groups: StatsGroups::STATE, ..everything() };
    for (name, fault, class, message) in [
        ("vm-0", ParamFault::UnknownType(9), ErrorClass::TooLarge, "Unable to decode message payload"),
        ("vm-2", ParamFault::UnknownType(9), ErrorClass::TooLarge, "Unable to decode message payload"),
        ("vm-0", ParamFault::LongString(5 << 20), ErrorClass::TooLarge, "Unable to decode message payload"),
        ("vm-0", ParamFault::LongKey(80), ErrorClass::Other(1), "too big for destination"),
        ("vm-2", ParamFault::LongKey(80), ErrorClass::Other(1), ""),
    ] {
        daemon.faults().param(name, fault.clone());
        let (same, result) = fetch(connection, request);
        let error = result.unwrap_err();
        assert_eq!(error.class, class, "{fault:?}: {error}");
        assert!(error.message.contains(message), "{fault:?}: {error}");
        daemon.faults().clear();
        connection = assert_serves(same, &daemon);
    }
    let key = format!("{:k<79}", "x.long_");
    let long = "s".repeat(1 << 20);
    for (fault, key, value) in [
        (ParamFault::LongKey(79), &*key, ParamValue::ULLong(79)),
        (ParamFault::NonUtf8String, "x.not_utf8", ParamValue::String("caf\u{fffd} \u{fffd}\u{fffd}")),
        (ParamFault::NonUtf8Key, "x.caf\u{fffd}", ParamValue::ULLong(1)),
        (ParamFault::LongString(1 << 20), "x.long_string", ParamValue::String(&long)),
    ] {
        daemon.faults().param("vm-1", fault.clone());
        let (same, result) = fetch(connection, request);
        let records = result.unwrap();
        let param = records.domain(1).params().last().unwrap();
        assert!(param.key == key && param.value == value, "{fault:?}: {} {:?}", param.key, param.value);
        assert_eq!(counts(&records).into_values().collect::<Vec<_>>(), [2, 3, 2]);
        daemon.faults().clear();
        connection = assert_serves(same, &daemon);
    }
}

#[test]
fn records_that_do_not_agree_with_the_listing_come_as_they_are() {
    let daemon = start_small();
    let connection = open(&daemon);
    let request = StatsRequest { groups: StatsGroups::STATE, ..everything() };
    let seen = || {
        let mut records = Records::default();
        connection.fetch_stats(request, |_| true, &mut records).unwrap();
        daemon.faults().clear();
        let middle = records.domains().filter(|domain| !["vm-0", "vm-2"].contains(&domain.name));
        middle.map(|domain| (domain.name.to_owned(), domain.id, domain.params().len())).collect::<Vec<_>>()
    };
    let vm = |name: &str, id| (name.to_owned(), id, 2);
    for (fault, expected) in [
        (RecordFault::Missing, vec![]),
        (RecordFault::Renamed("new".to_owned()), vec![vm("new", Some(2))]),
        (RecordFault::Renamed(String::new()), vec![vm("", Some(2))]),
        (RecordFault::ReId(Some(77)), vec![vm("vm-1", Some(77))]),
        (RecordFault::ReId(None), vec![vm("vm-1", None)]),
        (RecordFault::Twice, vec![vm("vm-1", Some(2)), vm("vm-1", Some(2))]),
    ] {
        daemon.faults().record("vm-1", fault.clone());
        assert_eq!(seen(), expected, "{fault:?}");
    }
    assert_eq!(seen(), [vm("vm-1", Some(2))]);
    let gone = Identity::from(&daemon.domains().remove("vm-1").unwrap());
    daemon.faults().ghost(gone);
    assert_eq!(seen(), [vm("vm-1", Some(2))]);
    drop(assert_serves(connection, &daemon));
}

#[test]
fn connections_of_several_threads_do_not_disturb_each_other() {
    let daemon = start(Scenario::builder().domains(50, Template::medium()));
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let connection = open(&daemon);
            fake::UnderWay::start(move || {
                for _ in 0..10 {
                    let mut records = Records::default();
                    connection.fetch_stats(everything(), |_| true, &mut records).unwrap();
                    assert_eq!(records.param_count(), 50 * 270);
                }
            })
        })
        .collect();
    for call in calls {
        call.result(4 * SOON);
    }
    assert_eq!(daemon.counters().calls(STATS), 40);
}
