//! What the client code does with memory, in ways that a test can repeat under valgrind.

#[path = "exercises_watching.rs"]
mod watching;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domstats_exporter::libvirt::{
    Access, AddressSource, Connection, DomainList, EventSink, LibvirtError, OpenGuard, Records, StatsRequest,
};
use fake_libvirtd::domain::Interface;
use fake_libvirtd::{
    Change, Domain as Served, DomainState, Event as Sent, FakeLibvirtd, Limits, ParamFault, Procedure, RecordFault,
    ReplyFault, Scenario, ScenarioBuilder, Template, Times,
};
use uuid::Uuid;

use crate::fake::{
    SOON, STATS, UnderWay, everything, fetch, handles, open, open_watched, shut_sockets, small, start, start_fetch,
    start_small, try_open, try_open_guarded, wait_for, within,
};
use crate::frames::frames;
use crate::scraper::{self, Scraper};

/// Opens run one at a time in a process, and the socket of one must not be inherited.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No connection was kept: leaked ones are still in libvirt's hands, where valgrind does not look.
fn all_closed(daemon: &FakeLibvirtd) {
    assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0));
}

/// A daemon of domains in which every type of parameter occurs.
fn varied() -> ScenarioBuilder {
    let off = Served::new("off", Template::everything()).with_state(DomainState::Shutoff);
    Scenario::builder().named_domains("all-{}", 2, Template::everything()).domains(3, Template::small()).domain(off)
}

#[test]
fn statistics_are_visited_and_freed() {
    let _alone = alone();
    let daemon = start(varied());
    let connection = open(&daemon);
    let domains = handles(&connection);
    let mut records = Records::default();
    for backing_chain in [false, true] {
        let request = StatsRequest { backing_chain, ..everything() };
        connection.fetch_stats(request, |_, _| true, &mut records).unwrap();
        connection.fetch_stats(request, |name, _| name == "all-1", &mut records).unwrap();
        connection.fetch_stats(request, |_, _| false, &mut records).unwrap();
        connection.fetch_stats_of(&domains, request, &mut records).unwrap();
    }
    let types = ["int", "uint", "llong", "ullong", "double", "boolean", "string"];
    let seen: Vec<_> = records.domain(0).params().map(|param| param.value.type_name()).collect();
    assert!(types.iter().all(|name| seen.contains(name)));
    // Odd records and parameters, then no domain at all.
    for record in [RecordFault::Missing, RecordFault::Renamed(String::new()), RecordFault::Twice] {
        daemon.faults().record("vm-0", record);
        connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap();
    }
    for param in [
        ParamFault::LongKey(79),
        ParamFault::NonUtf8Key,
        ParamFault::NonUtf8String,
        ParamFault::LongString(1 << 20),
        ParamFault::LongString(0),
    ] {
        daemon.faults().param("vm-1", param);
        connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap();
    }
    for name in daemon.domains().names() {
        daemon.domains().remove(&name).unwrap();
    }
    connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap();
    connection.fetch_stats_of(&domains, everything(), &mut records).unwrap();
    connection.fetch_stats_of([], everything(), &mut records).unwrap();
    drop(domains);
    drop(connection);
    all_closed(&daemon);
}

#[test]
fn statistics_that_fail_leave_nothing_behind() {
    let _alone = alone();
    let daemon = start(varied());
    let connection = open(&daemon);
    let domains = handles(&connection);
    let fails = || {
        let mut records = Records::default();
        connection.fetch_stats(everything(), |_, _| true, &mut records).unwrap_err();
        connection.fetch_stats_of(&domains, everything(), &mut records).unwrap_err();
        assert!(records.is_empty());
        daemon.faults().clear();
    };
    // Some of it has been decoded when libvirt gives up.
    for param in [ParamFault::UnknownType(9), ParamFault::LongKey(80), ParamFault::LongString(5 << 20)] {
        daemon.faults().param("vm-2", param);
        fails();
    }
    daemon.faults().reply_limit(Some(3000));
    fails();
    for code in [1, 39, 88] {
        daemon.faults().reply(STATS, ReplyFault::Error { code, message: "no \u{fc}".to_owned() }, Times::Always);
        fails();
    }
    drop(domains);
    drop(connection);
    all_closed(&daemon);
}

/// Asks for everything but statistics. Some of it fails, of domains that are off; with a fault, all of it.
fn ask(connection: &Connection, daemon: &FakeLibvirtd) {
    drop(connection.versions());
    drop(connection.hostname());
    for which in [DomainList::All, DomainList::Active, DomainList::Inactive] {
        let domains = connection.list_domains(which).unwrap_or_default();
        for domain in &domains {
            drop((domain.identity(), domain.info(connection), domain.control_state(connection)));
            drop((domain.xml_description(connection), domain.messages(connection)));
            for source in [AddressSource::Lease, AddressSource::Arp, AddressSource::Agent] {
                drop(domain.addresses(connection, source));
            }
        }
    }
    for name in daemon.domains().names() {
        drop(connection.lookup_domain(daemon.domains().get(&name).unwrap().uuid));
    }
    drop(connection.lookup_domain(Uuid::nil()));
}

#[test]
fn listings_definitions_addresses_and_versions_are_freed() {
    let _alone = alone();
    let interface = |name: &str, addresses: &[&str]| Interface {
        name: name.to_owned(),
        hwaddr: "52:54:00:AB:CD:EF".to_owned(),
        addresses: addresses.iter().map(|address| ((*address).to_owned(), 24)).collect(),
    };
    let mut served = Served::new("addressed", Template::small());
    served.interfaces =
        Some(vec![interface("vnet0", &["192.0.2.7", "no address", "fe80::1"]), interface("vnet1", &[])]);
    served.neighbours = Some(Vec::new());
    served.agent_interfaces = Some(vec![interface("eth0", &["2001:db8::7"])]);
    let mut large = Served::new("large", Template::small());
    large.xml = Some("x".repeat(3 << 20));
    let mut beyond = Served::new("beyond", Template::small());
    beyond.xml = Some("x".repeat((4 << 20) + 1));
    let daemon = start(varied().domain(served).domain(large).domain(beyond));
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let uri = daemon.uri();
        let connection = within(SOON, move || Connection::open(&uri, access, || {})).unwrap();
        ask(&connection, &daemon);
        daemon.faults().every_reply(ReplyFault::Error { code: 3, message: "no".to_owned() }, Times::Always);
        ask(&connection, &daemon);
        daemon.faults().clear();
        // Handles outlive their connection.
        let domains = handles(&connection);
        drop(connection);
        drop(domains);
    }
    all_closed(&daemon);
}

#[test]
fn close_callbacks_are_freed_however_a_connection_ends() {
    let _alone = alone();
    let daemon = start_small();
    type End = fn(&FakeLibvirtd);
    // libvirt's event loop may be about to close the socket of the time before.
    let ends: [End; 4] =
        [|_| {}, FakeLibvirtd::disconnect_all, FakeLibvirtd::kill, |daemon| assert!(shut_sockets(daemon) > 0)];
    for end in ends {
        // Dropped after it broke, and while it breaks.
        for waits in [true, false] {
            let (connection, on_close) = open_watched(&daemon);
            let domains = handles(&connection);
            end(&daemon);
            if waits {
                wait_for(Duration::from_millis(500), || on_close.calls() == 1);
            }
            within(SOON, move || drop(connection));
            assert!(wait_for(SOON, || on_close.is_freed()));
            drop(domains);
            daemon.revive().unwrap();
        }
    }
    // Where the daemon refuses the registration, and where the driver forgets it.
    let fault = ReplyFault::Error { code: 3, message: "no".to_owned() };
    daemon.faults().reply(Procedure::ConnectRegisterCloseCallback, fault, Times::Always);
    for uri in [daemon.uri(), "test:///default".to_owned()] {
        let (connection, on_close) = within(SOON, move || try_open(&uri));
        drop(connection.unwrap());
        assert!(on_close.is_freed() && on_close.calls() == 0);
    }
    all_closed(&daemon);
}

#[test]
fn opens_that_fail_leave_nothing_behind() {
    let _alone = alone();
    let daemon = start_small();
    let fails = |uri: String| {
        let (result, on_close) = within(SOON, move || try_open(&uri));
        let error = result.unwrap_err();
        assert!(on_close.is_freed() && !error.to_string().is_empty(), "{error}");
    };
    for uri in ["nonsense", "nosuch:///system", "qemu+unix:///system?socket=/nowhere", "qemu:///system\0"] {
        fails(uri.to_owned());
    }
    for procedure in [Procedure::AuthList, Procedure::ConnectOpen] {
        for code in [1, 45] {
            daemon.faults().reply(procedure, ReplyFault::Error { code, message: "no".to_owned() }, Times::Next(1));
            fails(daemon.uri());
        }
    }
    // In the middle of opening, which takes six calls.
    for calls in 0..6 {
        daemon.faults().drop_after_calls(Some(calls));
        fails(daemon.uri());
    }
    daemon.kill();
    fails(daemon.uri());
    all_closed(&daemon);
}

#[test]
fn opens_that_hang_are_aborted() {
    let _alone = alone();
    let daemon = start(small().limits(Limits { max_clients: 2, ..Limits::default() }));
    let abort = || {
        let uri = daemon.uri();
        let guard = OpenGuard::default();
        let own = guard.clone();
        let opening = UnderWay::start(move || try_open_guarded(&uri, &own));
        assert!(opening.blocks_for(Duration::from_millis(200)));
        assert!(wait_for(SOON, || guard.abort()));
        let ((result, on_close), _) = opening.result(SOON);
        result.unwrap_err();
        assert!(on_close.is_freed());
        daemon.faults().clear();
    };
    for procedure in [
        Procedure::AuthList,
        Procedure::ConnectOpen,
        Procedure::ConnectSupportsFeature,
        Procedure::ConnectRegisterCloseCallback,
    ] {
        daemon.faults().reply(procedure, ReplyFault::Swallow, Times::Always);
        abort();
    }
    daemon.faults().accept(false);
    abort();
    // A daemon at its limit.
    let (first, second) = (open(&daemon), open(&daemon));
    abort();
    drop((first, second));
    all_closed(&daemon);
}

/// The event loop learns at once that a keepalive ping is due and that the daemon has left: the ping cannot be written,
/// and libvirt loses it (tests/support/valgrind.supp).
#[test]
fn a_keepalive_ping_is_due_when_the_daemon_has_left() {
    // More than the interval of the pings.
    const SILENCE: Duration = Duration::from_millis(6500);
    let _alone = alone();
    let daemon = start_small();
    let (connection, on_close) = open_watched(&daemon);
    let (entered, is_blocked) = channel();
    let (unblock, blocked) = channel::<()>();
    let blocked = Mutex::new(blocked);
    let sink: EventSink = Arc::new(move |_| {
        entered.send(()).unwrap();
        let _unblocked = blocked.lock().unwrap().recv();
    });
    connection.watch_events(sink).unwrap();
    daemon.events().send("vm-1", Sent::Reboot).unwrap();
    is_blocked.recv_timeout(SOON).unwrap();
    // The reply sets the timer of the ping, and the socket is watched again after that: GLib serves the timer first.
    drop(handles(&connection));
    daemon.disconnect_all();
    std::thread::sleep(SILENCE);
    drop(unblock);
    assert!(wait_for(SOON, || on_close.calls() == 1));
    within(SOON, move || drop(connection));
    all_closed(&daemon);
}

/// The calls that a connection may break in.
type Call = fn(&Connection, Uuid) -> Result<(), LibvirtError>;
const CALLS: [(Procedure, Call); 5] = [
    (STATS, |connection, _| connection.fetch_stats(everything(), |_, _| true, &mut Records::default())),
    (Procedure::ConnectListAllDomains, |connection, _| connection.list_domains(DomainList::All).map(drop)),
    (Procedure::DomainGetXmlDesc, |connection, uuid| {
        connection.lookup_domain(uuid)?.xml_description(connection).map(drop)
    }),
    (Procedure::DomainGetMessages, |connection, uuid| connection.lookup_domain(uuid)?.messages(connection).map(drop)),
    (Procedure::DomainInterfaceAddresses, |connection, uuid| {
        connection.lookup_domain(uuid)?.addresses(connection, AddressSource::Lease).map(drop)
    }),
];

#[test]
fn spoiled_replies_end_the_connection_and_no_more() {
    let _alone = alone();
    let daemon = start_small();
    let uuid = daemon.domains().get("vm-1").unwrap().uuid;
    for (procedure, call) in CALLS {
        for fault in [
            ReplyFault::Disconnect,
            // Within the reply, however short: its header alone has 28 bytes.
            ReplyFault::CutAfter(30),
            ReplyFault::Oversize,
            ReplyFault::Garbage,
            ReplyFault::WrongSerial,
        ] {
            let (connection, on_close) = open_watched(&daemon);
            let what = format!("{procedure:?} {fault:?}");
            daemon.faults().reply(procedure, fault, Times::Next(1));
            let connection = within(SOON, move || {
                assert!(call(&connection, uuid).is_err(), "{what}");
                connection
            });
            // A connection that is dead is asked once more.
            ask(&connection, &daemon);
            within(SOON, move || drop(connection));
            assert!(wait_for(SOON, || on_close.is_freed()));
        }
    }
    all_closed(&daemon);
}

#[test]
fn a_connection_that_ends_during_a_call_is_opened_anew() {
    let _alone = alone();
    let daemon = start_small();
    type End = fn(&FakeLibvirtd);
    let ends: [End; 2] = [FakeLibvirtd::kill, |daemon| assert!(shut_sockets(daemon) > 0)];
    for end in ends {
        daemon.faults().hang_domain("vm-1");
        let (connection, on_close) = open_watched(&daemon);
        let call = start_fetch(connection, everything());
        assert!(daemon.wait_until_hung("vm-1", SOON));
        end(&daemon);
        let ((connection, result), _) = call.result(SOON);
        result.unwrap_err();
        within(SOON, move || drop(connection));
        assert!(wait_for(SOON, || on_close.is_freed()));
        daemon.release("vm-1");
        daemon.revive().unwrap();
        let (connection, result) = fetch(open(&daemon), everything());
        assert_eq!(result.unwrap().len(), 3);
        drop(connection);
    }
    all_closed(&daemon);
}

/// The inputs of the fuzz target, as they are: replies whose counts, lengths and frames lie.
#[test]
fn replies_that_lie_are_survived() {
    let _alone = alone();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/frames");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        frames(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0);
    frames(&[]);
}

/// What the exporter does with all of that: several connections, their watchdogs, and what is read beside statistics.
#[test]
fn a_collector_reconnects_after_every_disturbance() {
    let _alone = alone();
    let daemon = scraper::daemon(5);
    {
        // Its own limits on time are beyond what valgrind needs.
        let scraper = Scraper::configured(&daemon, "collection: {deadline: 60s}\n");
        let recovers = || assert!(wait_for(3 * SOON, || scraper.scrape().complete() == 5));
        recovers();
        daemon.disconnect_all();
        recovers();
        daemon.faults().hang_domain("vm-1");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                daemon.wait_until_hung("vm-1", SOON);
                daemon.kill();
            });
            drop(scraper.scrape());
        });
        daemon.release("vm-1");
        daemon.revive().unwrap();
        recovers();
        for change in [Change::Destroy, Change::Start] {
            daemon.domains().change("vm-2", change).unwrap();
        }
        recovers();
    }
    all_closed(&daemon);
}
