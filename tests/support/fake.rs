//! What the tests of the libvirt layer on a fake daemon share: connections that are watched, calls with a bounded wait.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use domstats_exporter::libvirt::{
    Access, Connection, Domain, DomainList, LibvirtError, OpenGuard, Records, StatsGroups, StatsRequest,
};
use fake_libvirtd::{FakeLibvirtd, Procedure, Scenario, ScenarioBuilder, Template};
use rustix::net::{Shutdown, SocketAddrUnix, getpeername, shutdown};

/// The bulk statistics call.
pub(crate) const STATS: Procedure = Procedure::ConnectGetAllDomainStats;
/// More than enough for whatever is not meant to wait, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How long calls wait for a busy domain of [`small`]: half of it is longer than a quick call takes.
pub(crate) const JOB_WAIT: Duration = Duration::from_secs(10);

/// Every group by its bit.
pub(crate) const GROUPS: [(StatsGroups, &str); 11] = [
    (StatsGroups::STATE, "state."),
    (StatsGroups::CPU_TOTAL, "cpu."),
    (StatsGroups::BALLOON, "balloon."),
    (StatsGroups::VCPU, "vcpu."),
    (StatsGroups::INTERFACE, "net."),
    (StatsGroups::BLOCK, "block."),
    (StatsGroups::PERF, "perf."),
    (StatsGroups::IOTHREAD, "iothread."),
    (StatsGroups::MEMORY, "memory."),
    (StatsGroups::DIRTYRATE, "dirtyrate."),
    (StatsGroups::VM, "vm."),
];

/// All groups of all domains.
pub(crate) fn everything() -> StatsRequest {
    let groups = GROUPS.iter().map(|(group, _)| *group).collect();
    StatsRequest { groups, domains: None, backing_chain: false, nowait: false }
}

/// Three small domains, `vm-0` to `vm-2`, and a job wait that a test can afford.
pub(crate) fn small() -> ScenarioBuilder {
    Scenario::builder().domains(3, Template::small()).job_wait(JOB_WAIT)
}

/// A daemon with [`small`].
pub(crate) fn start_small() -> FakeLibvirtd {
    start(small())
}

/// A daemon.
pub(crate) fn start(scenario: ScenarioBuilder) -> FakeLibvirtd {
    FakeLibvirtd::start(scenario.build()).unwrap()
}

/// Something that runs on its own thread, because it may block.
pub(crate) struct UnderWay<T> {
    receiver: Receiver<T>,
    began: Instant,
}

impl<T: Send + 'static> UnderWay<T> {
    pub(crate) fn start(what: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        let began = Instant::now();
        std::thread::spawn(move || {
            // The receiver is gone if the test has failed.
            let _ = sender.send(what());
        });
        Self { receiver, began }
    }

    /// Its result, and how long it took; the test fails where it takes longer than this from now on.
    pub(crate) fn result(self, limit: Duration) -> (T, Duration) {
        match self.receiver.recv_timeout(limit) {
            Ok(result) => (result, self.began.elapsed()),
            Err(RecvTimeoutError::Timeout) => panic!("still under way after {:?}", self.began.elapsed()),
            Err(RecvTimeoutError::Disconnected) => panic!("it panicked"),
        }
    }

    /// Whether it is still under way after this time.
    pub(crate) fn blocks_for(&self, time: Duration) -> bool {
        std::thread::sleep(time);
        matches!(self.receiver.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
    }
}

/// Runs something that may block, but must not for longer than this.
pub(crate) fn within<T: Send + 'static>(limit: Duration, what: impl FnOnce() -> T + Send + 'static) -> T {
    UnderWay::start(what).result(limit).0
}

/// Waits until a condition holds; `false` where it does not in time.
pub(crate) fn wait_for(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What became of a connection's `on_close`.
#[derive(Debug)]
pub(crate) struct OnClose {
    calls: Arc<AtomicU32>,
    within: Weak<()>,
}

impl OnClose {
    /// How often it was called.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Whether the closure has been freed.
    pub(crate) fn is_freed(&self) -> bool {
        self.within.strong_count() == 0
    }
}

/// Opens a connection, on this thread, and watches it.
pub(crate) fn try_open(uri: &str) -> (Result<Connection, LibvirtError>, OnClose) {
    try_open_guarded(uri, &OpenGuard::default())
}

/// Opens a connection, on this thread, with a guard that may end that, and watches it.
pub(crate) fn try_open_guarded(uri: &str, guard: &OpenGuard) -> (Result<Connection, LibvirtError>, OnClose) {
    let (calls, within) = (Arc::new(AtomicU32::new(0)), Arc::new(()));
    let on_close = OnClose { calls: Arc::clone(&calls), within: Arc::downgrade(&within) };
    let connection = Connection::open_guarded(uri, Access::ReadOnly, guard, move || {
        // The closure owns it.
        let _held = &within;
        calls.fetch_add(1, Ordering::SeqCst);
    });
    (connection, on_close)
}

/// Opens a connection to a daemon that serves, and watches it.
pub(crate) fn open_watched(daemon: &FakeLibvirtd) -> (Connection, OnClose) {
    let uri = daemon.uri();
    let (connection, on_close) = within(SOON, move || try_open(&uri));
    (connection.unwrap(), on_close)
}

/// Opens a connection to a daemon that serves.
pub(crate) fn open(daemon: &FakeLibvirtd) -> Connection {
    open_watched(daemon).0
}

/// A bulk call that may block.
pub(crate) fn start_fetch(
    connection: Connection,
    request: StatsRequest,
) -> UnderWay<(Connection, Result<Records, LibvirtError>)> {
    UnderWay::start(move || {
        let mut records = Records::default();
        let result = connection.fetch_stats(request, |_, _| true, &mut records);
        assert!(result.is_ok() || records.is_empty());
        (connection, result.map(|()| records))
    })
}

/// A bulk call that must end soon.
pub(crate) fn fetch(connection: Connection, request: StatsRequest) -> (Connection, Result<Records, LibvirtError>) {
    start_fetch(connection, request).result(SOON).0
}

/// All domains of a connection, active and inactive ones.
pub(crate) fn handles(connection: &Connection) -> Vec<Domain> {
    let listed = [DomainList::Active, DomainList::Inactive].map(|which| connection.list_domains(which).unwrap());
    listed.into_iter().flatten().collect()
}

/// How many parameters each domain has.
pub(crate) fn counts(records: &Records) -> BTreeMap<String, usize> {
    records.domains().map(|domain| (domain.name.to_owned(), domain.params().len())).collect()
}

/// The scenario's domains in the format of the golden cases, by name as our own dump sorts them.
pub(crate) fn scenario_text(daemon: &FakeLibvirtd, backing: bool) -> String {
    let mut names = daemon.domains().names();
    names.sort();
    let domains = names.iter().map(|name| daemon.domains().get(name).unwrap());
    let golden = domains.map(|domain| fake_libvirtd::params::Domain {
        params: domain.params(backing),
        name: domain.name,
        uuid: domain.uuid,
        id: domain.id,
    });
    fake_libvirtd::params::write(&golden.collect::<Vec<_>>())
}

/// This connection serves all domains of the daemon.
pub(crate) fn assert_serves(connection: Connection, daemon: &FakeLibvirtd) -> Connection {
    let (connection, records) = fetch(connection, everything());
    let records = records.unwrap();
    let found: Vec<&str> = records.domains().map(|domain| domain.name).collect();
    assert_eq!(found, daemon.domains().names());
    assert!(connection.is_alive());
    connection
}

/// After whatever went wrong, a new connection serves as if nothing had been.
pub(crate) fn assert_recovered(daemon: &FakeLibvirtd) {
    daemon.faults().clear();
    drop(assert_serves(open(daemon), daemon));
}

/// Shuts the client's end of all connections to a daemon, as the watchdog of a stuck call may; how many these are.
pub(crate) fn shut_sockets(daemon: &FakeLibvirtd) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let descriptors = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let path = SocketAddrUnix::new(daemon.socket()).unwrap();
    descriptors
        .filter(|&descriptor| {
            // SAFETY: only asked for its peer; the sockets of this daemon stay open while the test holds its connection.
            let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
            let peer = getpeername(socket).ok().flatten();
            let is_own = peer.and_then(|peer| SocketAddrUnix::try_from(peer).ok()).is_some_and(|peer| peer == path);
            is_own && shutdown(socket, Shutdown::Both).is_ok()
        })
        .count()
}
