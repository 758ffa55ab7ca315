//! Events as the libvirt layer tells them: on the fake daemon, and on the driver within the library.
//!
//! Descriptors, threads and memory of the process are counted, so the tests run one at a time.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use domstats_exporter::libvirt::{
    Access, Connection, ErrorClass, Event, EventKind, EventSink, Identity, JobOutcome, Watched,
};
use fake::{SOON, open, open_watched, small, start, start_small, wait_for, within};
use fake_libvirtd::params::Value;
use fake_libvirtd::{Change, Event as Sent, FakeLibvirtd, Identity as Sender, Procedure, ReplyFault, Times};
use virt::{connect::Connect, sys};

const REGISTER: Procedure = Procedure::ConnectDomainEventCallbackRegisterAny;
const DEREGISTER: Procedure = Procedure::ConnectDomainEventCallbackDeregisterAny;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sink, and what it was given.
fn sink() -> (EventSink, Receiver<Event>) {
    let (sender, receiver) = channel();
    let sink = Arc::new(move |event| {
        // The receiver is gone if the test has failed.
        let _gone = sender.send(event);
    });
    (sink, receiver)
}

/// A connection that watches.
fn watch(daemon: &FakeLibvirtd) -> (Connection, Watched, Receiver<Event>) {
    let connection = open(daemon);
    let (sink, events) = sink();
    let (connection, watched) = within(SOON, move || {
        let watched = connection.watch_events(sink);
        (connection, watched.unwrap())
    });
    (connection, watched, events)
}

fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(SOON).expect("an event")
}

/// The next event, which must be of this domain.
fn next_of(events: &Receiver<Event>, name: &str) -> EventKind {
    let event = next(events);
    assert_eq!(event.domain.name, name, "{event:?}");
    event.kind
}

fn drop_soon(connection: Connection) {
    within(SOON, move || drop(connection));
}

/// What each of the fake daemon's examples must become, in the order of libvirt's numbers.
fn expected() -> Vec<(i32, EventKind)> {
    let text = str::to_owned;
    let job = JobOutcome {
        operation: 2,
        success: Some(true),
        duration: Some(Duration::from_millis(1200)),
        downtime: Some(Duration::from_millis(30)),
    };
    vec![
        (0, EventKind::Lifecycle { event: 3, detail: 0 }),
        (1, EventKind::Reboot),
        (2, EventKind::RtcChange),
        (3, EventKind::Watchdog { action: 2 }),
        (6, EventKind::IoError { alias: text("virtio-disk0"), action: 1, reason: text("enospc") }),
        (7, EventKind::ControlError),
        (9, EventKind::DiskChange),
        (10, EventKind::TrayChange),
        (11, EventKind::PmWakeup),
        (12, EventKind::PmSuspend),
        (13, EventKind::BalloonChange),
        (14, EventKind::PmSuspendDisk),
        (15, EventKind::DeviceRemoved { alias: text("net1") }),
        (16, EventKind::BlockJob { device: text("vda"), job: 4, status: 3 }),
        (17, EventKind::Tunable),
        (18, EventKind::AgentLifecycle { connected: true }),
        (19, EventKind::DeviceAdded { alias: text("net1") }),
        (20, EventKind::MigrationIteration { iteration: 2 }),
        (21, EventKind::JobCompleted(job)),
        (22, EventKind::DeviceRemovalFailed),
        (23, EventKind::MetadataChange),
        (24, EventKind::BlockThreshold { device: text("vda") }),
        (25, EventKind::MemoryFailure { recipient: 1, action: 1 }),
        (26, EventKind::MemoryDeviceSizeChange),
        (27, EventKind::NicMacChange),
        (28, EventKind::VcpuRemoved),
        (29, EventKind::ChannelLifecycle),
    ]
}

/// The last event ID that libvirt of a version such as `9.0.0` knows.
fn last_id(version: &str) -> i32 {
    let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
    match (numbers[0], numbers[1]) {
        (12.., 4..) | (13.., _) => 29,
        (11, 2..) | (12, _) => 27,
        _ => 26,
    }
}

/// The names of the events up to an ID, and of those beyond it.
fn split(last: i32) -> Watched {
    let names = |wanted: &dyn Fn(i32) -> bool| {
        expected().iter().filter(|(id, _)| wanted(*id)).map(|(_, kind)| kind.name()).collect()
    };
    Watched { known: names(&|id| id <= last), unknown: names(&|id| id > last) }
}

#[test]
fn every_event_arrives_with_its_arguments() {
    let _alone = alone();
    let daemon = start(small().libvirt_version(12_007_000));
    let began = SystemTime::now();
    let (connection, watched, events) = watch(&daemon);
    let last = last_id(&connection.versions().unwrap().library);
    assert_eq!(watched, split(last));
    assert_eq!(watched.known.len() + watched.unknown.len(), 27);
    let domain = daemon.domains().get("vm-1").unwrap();
    let identity = Identity { name: domain.name, uuid: domain.uuid, id: domain.id };
    assert!(identity.id.is_some());
    for example in Sent::examples() {
        let id = example.id();
        let sent = daemon.events().send("vm-1", example).unwrap();
        let Some((_, kind)) = expected().into_iter().find(|(known, _)| *known == id && id <= last) else {
            assert_eq!(sent, 0, "event {id} is watched for nothing");
            continue;
        };
        assert_eq!(sent, 1);
        let event = next(&events);
        assert_eq!((&event.domain, event.kind), (&identity, kind), "event {id}");
        assert!(event.at >= began && event.at <= SystemTime::now());
    }
    drop_soon(connection);
    assert_eq!(daemon.counters().calls(DEREGISTER), u64::try_from(watched.known.len()).unwrap());
    assert!(events.recv().is_err(), "the sink is freed with the connection");
}

#[test]
fn odd_arguments_are_taken_as_they_come() {
    let _alone = alone();
    let daemon = start_small();
    let (connection, _, events) = watch(&daemon);
    let send = |event| daemon.events().send("vm-0", event).unwrap();
    // A domain that is off, and one that no listing knows.
    let stranger = Sender { name: "ün known".to_owned(), uuid: uuid::Uuid::max(), id: None };
    daemon.events().send_of(&stranger, Sent::lifecycle(i32::MAX, -7));
    let event = next(&events);
    assert_eq!(event.domain, Identity { name: stranger.name, uuid: stranger.uuid, id: None });
    assert_eq!(event.kind, EventKind::Lifecycle { event: i32::MAX, detail: -7 });
    send(Sent::AgentLifecycle { state: 2, reason: 0 });
    assert_eq!(next_of(&events, "vm-0"), EventKind::AgentLifecycle { connected: false });
    // A job says what it says, in whatever types.
    for (params, outcome) in [
        (vec![], JobOutcome::default()),
        (
            vec![("success", Value::Boolean(false)), ("errmsg", Value::String("lost".to_owned()))],
            JobOutcome { success: Some(false), ..JobOutcome::default() },
        ),
        (
            vec![("downtime", Value::Int(3)), ("operation", Value::ULLong(5)), ("time_elapsed", Value::ULLong(7))],
            JobOutcome { duration: Some(Duration::from_millis(7)), ..JobOutcome::default() },
        ),
    ] {
        let params = params.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        send(Sent::JobCompleted { params });
        assert_eq!(next_of(&events, "vm-0"), EventKind::JobCompleted(outcome));
    }
    let long = "x".repeat(100_000);
    send(Sent::BlockThreshold { dev: long.clone(), path: None, threshold: u64::MAX, excess: 0 });
    assert_eq!(next_of(&events, "vm-0"), EventKind::BlockThreshold { device: long });
    drop_soon(connection);
}

#[test]
fn events_that_the_daemon_refuses_are_unknown_and_the_others_arrive() {
    let _alone = alone();
    let daemon = start(small().libvirt_version(6_009_000));
    let (connection, watched, events) = watch(&daemon);
    assert_eq!(watched, split(25));
    daemon.events().send("vm-2", Sent::MemoryFailure { recipient: 0, action: 3, flags: 0 }).unwrap();
    assert_eq!(next_of(&events, "vm-2"), EventKind::MemoryFailure { recipient: 0, action: 3 });
    drop_soon(connection);
    // Of a driver without events all are refused; that is no error.
    let fault = ReplyFault::Error { code: 3, message: "not supported".to_owned() };
    daemon.faults().reply(REGISTER, fault, Times::Always);
    let (connection, watched, events) = watch(&daemon);
    assert_eq!((watched.known.len(), watched.unknown.len()), (0, 27));
    assert!(events.recv().is_err(), "a sink that will not be called is freed");
    drop_soon(connection);
}

#[test]
fn a_user_who_may_not_watch_is_told_so() {
    let _alone = alone();
    let daemon = start_small();
    let connection = open(&daemon);
    let (sink, events) = sink();
    daemon.faults().reply(REGISTER, ReplyFault::Error { code: 88, message: "access denied".to_owned() }, Times::Always);
    let error = connection.watch_events(sink).unwrap_err();
    assert_eq!(error.class, ErrorClass::PermissionDenied);
    assert!(error.to_string().starts_with("cannot watch events of kind lifecycle: access denied"), "{error}");
    assert!(events.recv().is_err());
}

#[test]
fn a_connection_that_breaks_says_so_and_frees_its_sink() {
    let _alone = alone();
    let daemon = start_small();
    let (connection, on_close) = open_watched(&daemon);
    let (first, events) = sink();
    connection.watch_events(first).unwrap();
    daemon.events().send("vm-0", Sent::Reboot).unwrap();
    assert_eq!(next_of(&events, "vm-0"), EventKind::Reboot);
    daemon.kill();
    assert!(wait_for(SOON, || on_close.calls() == 1));
    let (second, none) = sink();
    let (connection, error) = within(SOON, move || {
        let error = connection.watch_events(second).unwrap_err();
        (connection, error)
    });
    assert_eq!(error.class, ErrorClass::Disconnected, "{error}");
    assert!(events.recv().is_err() && none.recv().is_err());
    drop_soon(connection);
    assert!(on_close.is_freed());
    // Broken in the middle of the registrations.
    daemon.revive().unwrap();
    let connection = open(&daemon);
    daemon.faults().reply(REGISTER, ReplyFault::Disconnect, Times::Next(1));
    let (third, none) = sink();
    let error = within(SOON, move || connection.watch_events(third).unwrap_err());
    assert_eq!(error.class, ErrorClass::Disconnected, "{error}");
    assert!(none.recv().is_err());
    // All of it is as good as new.
    let (connection, _, events) = watch(&daemon);
    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    assert_eq!(next_of(&events, "vm-1").name(), "lifecycle");
    drop_soon(connection);
}

#[test]
fn a_second_watch_takes_the_place_of_the_first() {
    let _alone = alone();
    let daemon = start_small();
    let (connection, _, first) = watch(&daemon);
    let (again, second) = sink();
    connection.watch_events(again).unwrap();
    assert!(first.recv().is_err());
    assert_eq!(daemon.events().send("vm-0", Sent::Reboot).unwrap(), 1);
    assert_eq!(next_of(&second, "vm-0"), EventKind::Reboot);
    drop_soon(connection);
}

#[test]
fn lost_events_are_only_lost() {
    let _alone = alone();
    let daemon = start_small();
    let (connection, _, events) = watch(&daemon);
    daemon.faults().lose_events(Times::Next(2));
    for event in [Sent::Reboot, Sent::ControlError, Sent::Watchdog { action: 6 }] {
        daemon.events().send("vm-0", event).unwrap();
    }
    assert_eq!(next_of(&events, "vm-0"), EventKind::Watchdog { action: 6 });
    drop_soon(connection);
}

#[test]
fn a_sink_that_panics_is_called_again() {
    let _alone = alone();
    let daemon = start_small();
    let connection = open(&daemon);
    let (sender, events) = channel();
    let sink: EventSink = Arc::new(move |event: Event| {
        assert!(event.kind != EventKind::Reboot, "this panic is part of the test");
        sender.send(event).unwrap();
    });
    connection.watch_events(sink).unwrap();
    for event in [Sent::Reboot, Sent::ControlError] {
        daemon.events().send("vm-0", event).unwrap();
    }
    assert_eq!(next_of(&events, "vm-0"), EventKind::ControlError);
    drop_soon(connection);
}

/// Connections that come and go during a storm of events: none is called after it is gone.
#[test]
fn nothing_is_called_after_the_drop() {
    let _alone = alone();
    let daemon = Arc::new(start_small());
    let stop = Arc::new(AtomicBool::new(false));
    let storm = std::thread::spawn({
        let (daemon, stop) = (Arc::clone(&daemon), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::SeqCst) {
                daemon.events().storm(500, Duration::from_millis(50), &[Sent::Reboot, Sent::lifecycle(3, 0)]);
            }
        }
    });
    let late = Arc::new(AtomicU64::new(0));
    let (mut seen, mut connections) = (0, 0);
    while connections < 60 {
        let connection = open(&daemon);
        let gone = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(AtomicU64::new(0));
        let sink: EventSink = Arc::new({
            let (gone, late, calls) = (Arc::clone(&gone), Arc::clone(&late), Arc::clone(&calls));
            move |_| {
                calls.fetch_add(1, Ordering::SeqCst);
                late.fetch_add(u64::from(gone.load(Ordering::SeqCst)), Ordering::SeqCst);
            }
        });
        let freed = Arc::downgrade(&sink);
        let connection = within(SOON, move || {
            connection.watch_events(sink).unwrap();
            connection
        });
        assert!(wait_for(SOON, || calls.load(Ordering::SeqCst) > 0));
        drop_soon(connection);
        gone.store(true, Ordering::SeqCst);
        assert_eq!(freed.strong_count(), 0, "the sink outlives its connection");
        seen += calls.load(Ordering::SeqCst);
        connections += 1;
    }
    stop.store(true, Ordering::SeqCst);
    storm.join().unwrap();
    assert_eq!(late.load(Ordering::SeqCst), 0);
    println!("{seen} events on {connections} connections");
    assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0));
}

/// What this process holds: descriptors, threads, KiB in memory.
fn held() -> (usize, usize, u64) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    (count("fd"), count("task"), line.and_then(|rest| rest.split_whitespace().next()).unwrap().parse().unwrap())
}

#[test]
fn a_thousand_watches_leave_nothing_behind() {
    let _alone = alone();
    let daemon = Arc::new(start_small());
    let connection = open(&daemon);
    let watch = |connection: Connection, times: u32| {
        let counters = Arc::clone(&daemon);
        within(10 * SOON, move || {
            for _ in 0..times {
                connection.watch_events(Arc::new(|_| ())).unwrap();
                // The daemon is within this process, and remembers every call.
                counters.counters().reset();
            }
            connection
        })
    };
    let connection = watch(connection, 200);
    let (descriptors, threads, memory) = held();
    let connection = watch(connection, 1_000);
    let same = wait_for(SOON, || {
        let now = held();
        now.0 <= descriptors && now.1 <= threads
    });
    let now = held();
    println!("{descriptors} descriptors, {threads} threads, {memory} KiB before; {now:?} after 1,000 watches");
    assert!(same, "{now:?}");
    assert!(now.2.saturating_sub(memory) < 2 * 1024, "{memory} KiB before, {} after", now.2);
    drop_soon(connection);
}

/// The driver within the library makes events of its own accord, without a daemon.
#[test]
fn a_driver_within_the_library_tells_what_happens_to_its_domains() {
    let _alone = alone();
    let connection = Connection::open("test:///default", Access::ReadOnly, || {}).unwrap();
    let (sink, events) = sink();
    let watched = connection.watch_events(sink).unwrap();
    assert_eq!(watched, split(last_id(&connection.versions().unwrap().library)));
    let other = Connect::open(Some("test:///default")).unwrap();
    let xml = "<domain type='test'><name>one</name><uuid>f07c280b-269b-4e75-b6b4-da2ff2ea172d</uuid>\
               <memory>1024</memory><os><type>hvm</type></os></domain>";
    let lifecycle = |event, detail| EventKind::Lifecycle { event, detail };
    let check = |name: &str, running: bool, kind: EventKind| {
        let event = next(&events);
        assert_eq!((event.domain.name.as_str(), &event.kind), (name, &kind));
        assert_eq!(event.domain.uuid.to_string(), "f07c280b-269b-4e75-b6b4-da2ff2ea172d");
        assert_eq!(event.domain.id.is_some(), running, "{event:?}");
    };
    let domain = other.define_domain_xml(xml).unwrap();
    check("one", false, lifecycle(0, 0));
    domain.create().unwrap();
    check("one", true, lifecycle(2, 0));
    domain.suspend().unwrap();
    check("one", true, lifecycle(3, 0));
    domain.resume().unwrap();
    check("one", true, lifecycle(4, 0));
    let title = sys::VIR_DOMAIN_METADATA_TITLE.cast_signed();
    domain.set_metadata(title, Some("The one"), None, None, 0).unwrap();
    check("one", true, EventKind::MetadataChange);
    domain.destroy().unwrap();
    // Told when the run is over already.
    check("one", false, lifecycle(5, 1));
    domain.rename("two", 0).unwrap();
    check("one", false, lifecycle(1, 1));
    check("two", false, lifecycle(0, 2));
    domain.undefine().unwrap();
    check("two", false, lifecycle(1, 0));
    drop_soon(connection);
    assert!(events.recv().is_err());
}
