//! The libvirt layer on the fake daemon: faults that end the connection.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;

use std::time::Duration;

use domstats_exporter::libvirt::{DomainList, ErrorClass, LibvirtError, Records};
use fake::{
    SOON, STATS, assert_recovered, assert_serves, counts, everything, fetch, handles, open, open_watched, shut_sockets,
    small, start, start_fetch, start_small, try_open, wait_for, within,
};
use fake_libvirtd::{FakeLibvirtd, Limits, ReplyFault, Times};
use uuid::Uuid;

/// Keepalive ends a connection after 20 s of silence.
const KEEPALIVE: Duration = Duration::from_secs(20);

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
            connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap_err(),
            connection.fetch_stats_of([&domain], everything(), &mut records).unwrap_err(),
            connection.list_domains(DomainList::Active).unwrap_err(),
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

/// A daemon that sends no pings: for libvirt's client they are as good as a pong.
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

#[test]
fn a_daemon_that_leaves_as_soon_as_it_is_connected_to_does_no_harm() {
    let daemon = start_small();
    // The calls of an open without the one for the close callback: the connection ends while keepalive is turned on.
    daemon.faults().drop_after_calls(Some(5));
    for _ in 0..2_000 {
        let (opened, on_close) = try_open(&daemon.uri());
        drop(opened);
        assert!(on_close.is_freed());
    }
    daemon.faults().drop_after_calls(None);
    assert_recovered(&daemon);
}
