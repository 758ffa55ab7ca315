//! Events: what is delivered to the sinks of a connection, and when they are freed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use domstats_exporter::libvirt::{Event, EventSink};
use fake_libvirtd::params::Value;
use fake_libvirtd::{Event as Sent, Procedure, ReplyFault, Times};

use super::{all_closed, alone};
use crate::fake::{SOON, open, open_watched, small, start, start_small, wait_for, within};

/// A sink, and what it was given.
fn sink() -> (EventSink, Receiver<Event>) {
    let (sender, receiver) = channel();
    // The receiver is gone if the test has ended.
    (Arc::new(move |event| drop(sender.send(event))), receiver)
}

/// Whether the sink has been freed; what it was given before is of no interest.
fn is_freed<T>(given: &Receiver<T>) -> bool {
    loop {
        match given.recv_timeout(SOON) {
            Ok(_) => {}
            Err(error) => return error == RecvTimeoutError::Disconnected,
        }
    }
}

#[test]
fn every_event_is_delivered_and_its_registration_ends() {
    let _alone = alone();
    let daemon = start(small().libvirt_version(12_007_000));
    let connection = open(&daemon);
    let (first, events) = sink();
    connection.watch_events(first).unwrap();
    let job = [
        ("operation", Value::Int(2)),
        ("uint", Value::UInt(1)),
        ("llong", Value::LLong(-1)),
        ("time_elapsed", Value::ULLong(7)),
        ("double", Value::Double(0.5)),
        ("success", Value::Boolean(false)),
        ("errmsg", Value::String("lost".to_owned())),
    ];
    let odd = [
        Sent::JobCompleted { params: job.map(|(key, value)| (key.to_owned(), value)).to_vec() },
        Sent::JobCompleted { params: Vec::new() },
        Sent::BlockThreshold { dev: "x".repeat(100_000), path: None, threshold: u64::MAX, excess: 0 },
    ];
    for event in Sent::examples().into_iter().chain(odd) {
        if daemon.events().send("vm-1", event).unwrap() > 0 {
            events.recv_timeout(SOON).unwrap();
        }
    }
    // A second watch takes the place of the first; a sink that panics is called again.
    let (sender, panicked) = channel();
    let second: EventSink = Arc::new(move |event: Event| {
        sender.send(event).unwrap();
        std::panic::resume_unwind(Box::new("a part of the exercise"));
    });
    connection.watch_events(second).unwrap();
    assert!(is_freed(&events), "the first sink");
    for _ in 0..2 {
        daemon.events().send("vm-1", Sent::Reboot).unwrap();
        panicked.recv_timeout(SOON).unwrap();
    }
    within(SOON, move || drop(connection));
    assert!(is_freed(&panicked), "the second sink");
    all_closed(&daemon);
}

#[test]
fn registrations_that_fail_or_break_free_their_sinks() {
    const REGISTER: Procedure = Procedure::ConnectDomainEventCallbackRegisterAny;
    let _alone = alone();
    // This daemon does not know every event.
    let daemon = start(small().libvirt_version(6_009_000));
    let refused = |code| ReplyFault::Error { code, message: "no".to_owned() };
    for fault in [Some(refused(3)), Some(refused(88)), Some(ReplyFault::Disconnect), None] {
        let connection = open(&daemon);
        match fault {
            Some(fault) => daemon.faults().reply(REGISTER, fault, Times::Always),
            // In the middle of the registrations; opening takes six calls.
            None => daemon.faults().drop_after_calls(Some(10)),
        }
        let (first, events) = sink();
        drop(connection.watch_events(first));
        assert!(is_freed(&events));
        daemon.faults().clear();
        let (second, events) = sink();
        drop(connection.watch_events(second));
        within(SOON, move || drop(connection));
        assert!(is_freed(&events));
    }
    // Broken while it is watched.
    let (connection, on_close) = open_watched(&daemon);
    let (watching, events) = sink();
    connection.watch_events(watching).unwrap();
    daemon.kill();
    assert!(wait_for(SOON, || on_close.calls() == 1));
    let (late, none) = sink();
    connection.watch_events(late).unwrap_err();
    within(SOON, move || drop(connection));
    assert!(is_freed(&events) && is_freed(&none) && on_close.is_freed());
    all_closed(&daemon);
}

#[test]
fn connections_that_watch_come_and_go_during_events() {
    let _alone = alone();
    let daemon = Arc::new(start_small());
    let stop = Arc::new(AtomicBool::new(false));
    let storm = std::thread::spawn({
        let (daemon, stop) = (Arc::clone(&daemon), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::SeqCst) {
                daemon.events().storm(2, Duration::from_millis(20), &[Sent::Reboot, Sent::lifecycle(3, 0)]);
            }
        }
    });
    for round in 0..10 {
        let connection = open(&daemon);
        let (sink, events) = sink();
        let freed = Arc::downgrade(&sink);
        let connection = within(SOON, move || {
            connection.watch_events(sink).unwrap();
            connection
        });
        events.recv_timeout(SOON).unwrap();
        if round % 3 == 2 {
            daemon.disconnect_all();
        }
        within(SOON, move || drop(connection));
        assert_eq!(freed.strong_count(), 0);
    }
    stop.store(true, Ordering::SeqCst);
    storm.join().unwrap();
    all_closed(&daemon);
}
