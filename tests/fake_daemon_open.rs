//! Opens that hang, on the fake daemon, and what is left behind after every fault.
//!
//! Both concern the whole process: opens run one at a time, and descriptors and threads are counted. So these tests run one
//! at a time, apart from those of `fake_daemon.rs`.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/fake.rs"]
mod fake;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domstats_exporter::libvirt::{Connection, ErrorClass, LibvirtError, OpenGuard, Records};
use fake::{
    OnClose, SOON, STATS, UnderWay, assert_recovered, assert_serves, everything, fetch, open, open_watched,
    shut_sockets, small, start, start_fetch, start_small, try_open, try_open_guarded, wait_for, within,
};
use fake_libvirtd::{FakeLibvirtd, Limits, ParamFault, Procedure, RecordFault, ReplyFault, Scenario, Template, Times};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open that is under way, with what can end it.
struct Opening {
    guard: OpenGuard,
    open: UnderWay<(Result<Connection, LibvirtError>, OnClose)>,
}

impl Opening {
    fn start(uri: String) -> Self {
        let guard = OpenGuard::default();
        let own = guard.clone();
        Self { guard, open: UnderWay::start(move || try_open_guarded(&uri, &own)) }
    }
}

/// An open that hangs.
fn start_open(daemon: &FakeLibvirtd) -> Opening {
    hanging_open(daemon.uri())
}

fn hanging_open(uri: String) -> Opening {
    let opening = Opening::start(uri);
    assert!(opening.open.blocks_for(Duration::from_millis(500)));
    opening
}

/// Aborts an open, which must end, as one that could not connect.
fn abort(opening: Opening) -> LibvirtError {
    let error = end(opening);
    assert_eq!(error.class, ErrorClass::ConnectFailed, "{error}");
    error
}

/// Aborts an open, which must end: by itself it would not.
fn end(Opening { guard, open }: Opening) -> LibvirtError {
    assert!(wait_for(SOON, || guard.abort()));
    let ((result, on_close), _) = open.result(SOON);
    assert!(on_close.is_freed() && on_close.calls() == 0);
    assert!(!guard.abort());
    result.unwrap_err()
}

#[test]
fn every_open_that_hangs_can_be_aborted() {
    let _alone = alone();
    type Fault = fn(&FakeLibvirtd);
    let faults: [(&str, Fault); 7] = [
        ("no SUPPORTS_FEATURE", |daemon| {
            daemon.faults().reply(Procedure::ConnectSupportsFeature, ReplyFault::Swallow, Times::Always);
        }),
        ("no REGISTER_CLOSE_CALLBACK", |daemon| {
            daemon.faults().reply(Procedure::ConnectRegisterCloseCallback, ReplyFault::Swallow, Times::Always);
        }),
        ("accept off", |daemon| daemon.faults().accept(false)),
        ("freeze", |daemon| daemon.faults().freeze()),
        ("no AUTH_LIST", |daemon| {
            daemon.faults().reply(Procedure::AuthList, ReplyFault::Swallow, Times::Always);
        }),
        ("no CONNECT_OPEN", |daemon| {
            daemon.faults().reply(Procedure::ConnectOpen, ReplyFault::Swallow, Times::Always);
        }),
        ("late CONNECT_OPEN", |daemon| {
            daemon.faults().reply(Procedure::ConnectOpen, ReplyFault::Delay(10 * SOON), Times::Always);
        }),
    ];
    let bystander_of = start_small();
    let (mut bystander, on_close) = open_watched(&bystander_of);
    for (name, fault) in faults {
        let daemon = start_small();
        let connection = open(&daemon);
        fault(&daemon);
        let error = abort(start_open(&daemon));
        let messages =
            ["End of file while reading data", "client socket is closed", "the connection to the daemon broke"];
        assert!(messages.iter().any(|message| error.message.contains(message)), "{name}: {error}");
        assert!(error.to_string().contains(&daemon.uri()), "{name}: {error}");
        assert_recovered(&daemon);
        // Who was connected before is not disturbed, neither here nor elsewhere.
        drop(assert_serves(connection, &daemon));
        bystander = assert_serves(bystander, &bystander_of);
    }
    assert_eq!(on_close.calls(), 0);
}

#[test]
fn an_open_of_a_full_daemon_hangs_until_aborted_or_there_is_room() {
    let _alone = alone();
    let daemon = start(small().limits(Limits { max_clients: 1, ..Limits::default() }));
    let first = open(&daemon);
    abort(start_open(&daemon));
    let first = assert_serves(first, &daemon);
    let waiting = start_open(&daemon);
    drop(first);
    let ((second, _), _) = waiting.open.result(SOON);
    drop(assert_serves(second.unwrap(), &daemon));
}

#[test]
fn an_open_that_waits_for_another_of_its_uri_goes_on_when_that_is_aborted() {
    let _alone = alone();
    let daemon = start_small();
    daemon.faults().accept(false);
    let first = start_open(&daemon);
    // Opens of one URI run one at a time.
    let second = start_open(&daemon);
    assert!(!second.guard.abort(), "the socket is that of the first");
    daemon.faults().accept(true);
    // The first may have been accepted by now.
    let _either = first.guard.abort();
    drop(first.open.result(SOON));
    let ((connection, _), _) = second.open.result(SOON);
    drop(assert_serves(connection.unwrap(), &daemon));
}

#[test]
fn an_open_that_hangs_holds_up_none_of_another_daemon() {
    let _alone = alone();
    let (hanging, serving) = (start_small(), start_small());
    hanging.faults().accept(false);
    let first = start_open(&hanging);
    let second = Opening::start(serving.uri());
    let ((connection, _), _) = second.open.result(SOON);
    let connection = assert_serves(connection.unwrap(), &serving);
    abort(first);
    drop(assert_serves(connection, &serving));
}

#[test]
fn an_open_over_tcp_that_hangs_can_be_aborted_whatever_its_port() {
    let _alone = alone();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = |transport: &str| format!("qemu+{transport}://{}/system", held.local_addr().unwrap());
    // A client that this process serves is none of libvirt's, even where it comes from libvirt's port.
    let served = TcpListener::bind("127.0.0.1:0").unwrap();
    let opening = hanging_open(uri("tcp"));
    let mut client = TcpStream::connect(served.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = served.accept().unwrap();
    abort(opening);
    accepted.write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
    // TLS, where the handshake is what is never answered.
    let pki = tempfile::tempdir().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = authority.self_signed(&KeyPair::generate().unwrap()).unwrap();
    std::fs::write(pki.path().join("cacert.pem"), authority.pem()).unwrap();
    end(hanging_open(format!("{}?no_verify=1&pkipath={}", uri("tls"), pki.path().display())));
}

/// A listener whose queue is full answers no further SYN.
#[test]
fn an_open_that_waits_for_a_connection_can_be_aborted() {
    let _alone = alone();
    let full = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&full, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&full, 0).unwrap();
    let address = SocketAddr::try_from(getsockname(&full).unwrap()).unwrap();
    let _queued = TcpStream::connect(address).unwrap();
    let error = abort(hanging_open(format!("qemu+tcp://{address}/system")));
    assert!(error.message.contains("unable to connect to server"), "{error}");
}

#[test]
fn there_is_nothing_to_abort_where_no_open_is_under_way() {
    let _alone = alone();
    let guard = OpenGuard::default();
    assert!(!guard.abort());
    let daemon = start_small();
    let (own, uri) = (guard.clone(), daemon.uri());
    let (connection, on_close) = within(SOON, move || try_open_guarded(&uri, &own));
    assert!(!guard.abort());
    drop(assert_serves(connection.unwrap(), &daemon));
    assert_eq!(on_close.calls(), 0);
    let own = guard.clone();
    let (result, _) = within(SOON, move || try_open_guarded("qemu+unix:///system?socket=/nowhere", &own));
    assert_eq!(result.unwrap_err().class, ErrorClass::ConnectFailed);
    assert!(!guard.abort());
}

#[test]
fn uris_that_cannot_be_opened_fail_at_once() {
    let _alone = alone();
    let (bad, failed) = (ErrorClass::BadUri, ErrorClass::ConnectFailed);
    for (uri, message, class) in [
        ("", "", failed),
        ("not a uri", "parse", bad),
        ("qemu+nosuch://host/system", "transport", bad),
        ("qemu+unix://host/system?socket=/nowhere", "not supported", bad),
        ("qemu+unix:///system?socket=/nowhere", "No such file or directory", failed),
        ("qemu+tls://127.0.0.1:1/system?pkipath=/nowhere", "CA certificate", failed),
        ("qemu:///system\0", "NUL", bad),
    ] {
        // The empty URI means "whatever there is"; there may be one.
        if uri.is_empty() {
            continue;
        }
        let (result, on_close) = within(SOON, move || try_open(uri));
        let error = result.unwrap_err();
        assert_eq!(error.class, class, "{error}");
        assert!(error.message.contains(message) && !error.message.is_empty(), "{error}");
        assert!(on_close.is_freed() && on_close.calls() == 0);
    }
}

/// What this process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    threads: usize,
}

impl Held {
    fn now() -> Self {
        let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
        Self { descriptors: count("fd"), threads: count("task") }
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).unwrap().parse().unwrap()
}

/// Repeats something with a new connection to a daemon of 50 domains, and looks at what that leaves behind.
fn leaves_nothing(name: &str, times: u32, what: impl Fn(&FakeLibvirtd)) {
    let _alone = alone();
    let daemon = start(Scenario::builder().domains(50, Template::medium()));
    let once = || {
        what(&daemon);
        daemon.faults().clear();
        daemon.revive().unwrap();
        assert!(daemon.counters().wait_until(SOON, |all| all.open_connections() == 0), "{name}: a connection stays");
        daemon.counters().reset();
    };
    for _ in 0..times.div_ceil(4) {
        once();
    }
    let (mut held, resident) = (Held::now(), resident_kib());
    // Threads of the daemon and of the last test may have been about to end.
    wait_for(Duration::from_secs(1), || Held::now() != held);
    let settled = Held::now();
    held = Held { descriptors: held.descriptors.min(settled.descriptors), threads: held.threads.min(settled.threads) };
    for _ in 0..times {
        once();
    }
    let same = wait_for(SOON, || {
        let now = Held::now();
        now.descriptors <= held.descriptors && now.threads <= held.threads
    });
    let grown = resident_kib().saturating_sub(resident);
    println!("{name}: {held:?} before, {:?} after {times} times, {grown} KiB more", Held::now());
    assert!(same, "{name}: {held:?} before, {:?} after", Held::now());
    // One reply of 50 domains is over a megabyte in libvirt's hands.
    assert!(grown < 6 * 1024, "{name}: {grown} KiB more after {times} times");
}

fn failed_fetch(daemon: &FakeLibvirtd, class: ErrorClass) {
    let (connection, on_close) = open_watched(daemon);
    let (connection, result) = fetch(connection, everything());
    assert_eq!(result.unwrap_err().class, class);
    drop(connection);
    assert!(wait_for(SOON, || on_close.is_freed()));
}

#[test]
fn calls_that_succeed_leave_nothing_behind() {
    leaves_nothing("fetch", 40, |daemon| {
        let (connection, on_close) = open_watched(daemon);
        let connection = assert_serves(connection, daemon);
        let domains = fake::handles(&connection);
        let mut records = Records::default();
        connection.fetch_stats_of(&domains, everything(), &mut records).unwrap();
        domains[0].control_state(&connection).unwrap();
        domains[1].info(&connection).unwrap();
        connection.lookup_domain(domains[2].uuid()).unwrap();
        connection.versions().unwrap();
        drop(domains);
        drop(connection);
        assert!(on_close.is_freed());
    });
}

#[test]
fn domains_that_outlive_their_connection_leave_nothing_behind() {
    leaves_nothing("domains", 40, |daemon| {
        let domains = fake::handles(&open(daemon));
        assert_eq!(domains.len(), 50);
    });
}

#[test]
fn broken_connections_leave_nothing_behind() {
    for fault in [
        ReplyFault::Disconnect,
        ReplyFault::CutAfter(1000),
        ReplyFault::Oversize,
        ReplyFault::Garbage,
        ReplyFault::WrongSerial,
    ] {
        leaves_nothing(&format!("{fault:?}"), 40, |daemon| {
            daemon.faults().reply(STATS, fault.clone(), Times::Next(1));
            failed_fetch(daemon, ErrorClass::Disconnected);
        });
    }
    leaves_nothing("killed", 40, |daemon| {
        daemon.faults().hang_domain("vm-1");
        let (connection, on_close) = open_watched(daemon);
        let call = start_fetch(connection, everything());
        assert!(daemon.wait_until_hung("vm-1", SOON));
        daemon.kill();
        let ((connection, result), _) = call.result(SOON);
        assert_eq!(result.unwrap_err().class, ErrorClass::Disconnected);
        drop(connection);
        assert!(wait_for(SOON, || on_close.is_freed()));
    });
    leaves_nothing("shut", 40, |daemon| {
        let (connection, on_close) = open_watched(daemon);
        // libvirt's event loop may be about to close that of the time before.
        assert!(shut_sockets(daemon) > 0);
        drop(connection);
        assert!(wait_for(SOON, || on_close.is_freed()));
    });
    leaves_nothing("dropped by the daemon, domains kept", 40, |daemon| {
        let (connection, on_close) = open_watched(daemon);
        let domains = fake::handles(&connection);
        daemon.disconnect_all();
        assert!(wait_for(SOON, || on_close.calls() == 1));
        drop(connection);
        drop(domains);
        assert!(wait_for(SOON, || on_close.is_freed()));
    });
}

#[test]
fn failed_calls_leave_nothing_behind() {
    leaves_nothing("error", 40, |daemon| {
        let fault = ReplyFault::Error { code: 88, message: "denied".to_owned() };
        daemon.faults().reply(STATS, fault, Times::Always);
        failed_fetch(daemon, ErrorClass::PermissionDenied);
    });
    leaves_nothing("too large", 40, |daemon| {
        daemon.faults().reply_limit(Some(10_000));
        failed_fetch(daemon, ErrorClass::TooLarge);
    });
    leaves_nothing("unknown type", 40, |daemon| {
        daemon.faults().param("vm-40", ParamFault::UnknownType(9));
        failed_fetch(daemon, ErrorClass::TooLarge);
    });
    leaves_nothing("odd records", 40, |daemon| {
        daemon.faults().record("vm-1", RecordFault::Twice);
        daemon.faults().record("vm-2", RecordFault::Missing);
        daemon.faults().param("vm-3", ParamFault::NonUtf8String);
        let (connection, result) = fetch(open(daemon), everything());
        assert_eq!(result.unwrap().len(), 50);
        drop(connection);
    });
}

#[test]
fn opens_that_fail_leave_nothing_behind() {
    leaves_nothing("refused", 40, |daemon| {
        let fault = ReplyFault::Error { code: 45, message: "authentication failed".to_owned() };
        daemon.faults().reply(Procedure::ConnectOpen, fault, Times::Next(1));
        let uri = daemon.uri();
        let (result, on_close) = within(SOON, move || try_open(&uri));
        assert_eq!(result.unwrap_err().class, ErrorClass::PermissionDenied);
        assert!(on_close.is_freed());
    });
    leaves_nothing("aborted", 20, |daemon| {
        daemon.faults().reply(Procedure::AuthList, ReplyFault::Swallow, Times::Next(1));
        let opening = Opening::start(daemon.uri());
        assert!(daemon.counters().wait_until(SOON, |all| all.calls(Procedure::AuthList) == 1));
        abort(opening);
    });
    leaves_nothing("no daemon", 40, |daemon| {
        daemon.kill();
        let uri = daemon.uri();
        let (result, on_close) = within(SOON, move || try_open(&uri));
        assert_eq!(result.unwrap_err().class, ErrorClass::ConnectFailed);
        assert!(on_close.is_freed());
    });
}
