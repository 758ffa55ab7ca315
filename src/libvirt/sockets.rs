//! Opening under watch: `virConnectOpen` can hang for ever, and only the end of its socket or of its process can free it.
//!
//! A daemon that is frozen, or at its limit of clients, lets the kernel accept a connection and never answers; a host that
//! drops packets does not even accept one. libvirt has no timeout for either. A socket that appeared since an open began,
//! that may lead to a libvirt, and that cannot be the socket of another open under way, is its own and can be shut down: it is told
//! by the path of the URI, or by address and port. Likewise a process, told by its arguments, where the transport is one.
//! Opens that nothing would tell apart run one at a time, others side by side: a daemon that hangs holds up no other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use procfs::process::Process;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrAny, SocketAddrUnix, SocketType, getpeername, getsockname, shutdown, sockopt,
};

use super::helper::{self, Helper, helpers};
use super::peer::{Peer, Program, turn};

/// The opens of this process.
static OPENS: Mutex<Opens> = Mutex::new(Opens { turns: BTreeMap::new(), under_way: BTreeMap::new(), next: 0 });

#[derive(Debug)]
struct Opens {
    /// By what they connect to, what is held by the thread that opens it, as long as there is one.
    turns: BTreeMap<String, Arc<Mutex<()>>>,
    under_way: BTreeMap<u64, Open>,
    next: u64,
}

/// One open under way.
#[derive(Debug, Clone)]
struct Open {
    /// The sockets and processes that existed when it began, and those of opens that have ended since.
    before: Existing,
    peer: Peer,
    /// Whether it has been asked to end: nothing of its own is spared for it any more.
    given_up: bool,
}

/// What an open may have made.
#[derive(Debug, Clone)]
struct Existing {
    sockets: BTreeSet<Socket>,
    /// Looked for where there may be one only.
    helpers: BTreeSet<Helper>,
}

impl Existing {
    fn now(peer: &Peer) -> Self {
        let helpers = if peer.program == Program::None { BTreeSet::new() } else { helpers() };
        Self { sockets: sockets(), helpers }
    }
}

/// A descriptor, and the socket that it stands for (`socket:[inode]`): the number alone may be that of a connection which was
/// closed since.
type Socket = (RawFd, PathBuf);

/// Ends one open from another thread. Of one that waits for its turn, or has ended, there is nothing to end.
#[derive(Debug, Clone, Default)]
pub struct OpenGuard(Arc<Mutex<Guarded>>);

#[derive(Debug, Default)]
struct Guarded {
    /// The number of the open that is under way.
    current: Option<u64>,
    /// When it began.
    began: Option<Instant>,
    /// Whether none is to begin.
    cancelled: bool,
}

impl OpenGuard {
    /// Runs `open`, which is about `uri`, so that [`OpenGuard::abort`] can end it. `None` if it was cancelled before its turn.
    pub(super) fn watch<T>(&self, uri: &str, open: impl FnOnce() -> T) -> Option<T> {
        let turn = Arc::clone(OPENS.lock().turns.entry(turn(uri)).or_default());
        let one_at_a_time = turn.lock();
        // The look-up of a name may take long: not under the lock.
        let peer = Peer::of(uri);
        let number = OPENS.lock().begin(peer);
        let opened = self.begin(number).then(|| {
            let opened = open();
            self.0.lock().current = None;
            opened
        });
        OPENS.lock().end(number);
        drop(one_at_a_time);
        drop(turn);
        OPENS.lock().turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        opened
    }

    /// The open with this number begins, unless it was cancelled.
    fn begin(&self, number: u64) -> bool {
        let mut guarded = self.0.lock();
        if !guarded.cancelled {
            (guarded.current, guarded.began) = (Some(number), Some(Instant::now()));
        }
        !guarded.cancelled
    }

    /// The open is not needed any more: it does not begin, or is to be aborted until it has ended. Others may wait for it.
    pub fn cancel(&self) {
        self.0.lock().cancelled = true;
    }

    /// Whether the open has begun and not ended.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.0.lock().current.is_some()
    }

    /// When the open began; `None` while it waits for its turn.
    #[must_use]
    pub fn began(&self) -> Option<Instant> {
        self.0.lock().began
    }

    /// Shuts the sockets of the open and ends its process, so that it fails; `false` if there was nothing of it. A library that tries
    /// one address of a host after the other has another socket next: call it again until the open has ended.
    #[must_use]
    pub fn abort(&self) -> bool {
        // The lock is kept, so that the open cannot end and its descriptor become something else.
        let guarded = self.0.lock();
        let Some(number) = guarded.current else { return false };
        let (own, others) = {
            let mut opens = OPENS.lock();
            let Some(own) = opens.under_way.get_mut(&number) else { return false };
            own.given_up = true;
            let own = own.clone();
            // What may be of one that has been given up, too, may end with either.
            let others = opens.under_way.iter().filter(|(of, open)| **of != number && !open.given_up);
            (own, others.map(|(_, open)| open.clone()).collect::<Vec<Open>>())
        };
        let now = Existing::now(&own.peer);
        let shut = own.shut_sockets(&now, &others);
        own.end_helpers(&now, &others) || shut
    }
}

impl Open {
    /// Shuts its sockets; `false` if none of them is surely not of `others`.
    fn shut_sockets(&self, now: &Existing, others: &[Self]) -> bool {
        let served = served_ports(&now.sockets);
        let mut connecting = None;
        let mut any = false;
        for socket in now.sockets.difference(&self.before.sockets) {
            let (fd, link) = socket;
            // SAFETY: the descriptor was open a moment ago; at worst the calls are made on a closed one and fail.
            let borrowed = unsafe { BorrowedFd::borrow_raw(*fd) };
            let mut is_to = |peer: &Peer| {
                let remote = || connecting.get_or_insert_with(connecting_to).get(link).copied();
                is_to_libvirt(borrowed, peer, &served, remote).unwrap_or(false)
            };
            let path = peer_path(borrowed);
            let mut may_be_of = |open: &Self| {
                let existed = open.before.sockets.contains(socket);
                !existed && open.peer.may_be(path.as_deref(), &self.peer) && is_to(&open.peer)
            };
            if !others.iter().any(&mut may_be_of) && is_to(&self.peer) {
                // A socket that is gone already has freed its open.
                let _gone = shutdown(borrowed, Shutdown::Both);
                any = true;
            }
        }
        any
    }

    /// Likewise for its processes.
    fn end_helpers(&self, now: &Existing, others: &[Self]) -> bool {
        let mut any = false;
        for helper in now.helpers.difference(&self.before.helpers) {
            let arguments = helper::arguments(*helper);
            let may_be_of = |open: &Self| !open.before.helpers.contains(helper) && open.peer.program.may_be(&arguments);
            if may_be_of(self) && !others.iter().any(may_be_of) {
                any |= helper::end(*helper);
            }
        }
        any
    }
}

impl Opens {
    fn begin(&mut self, peer: Peer) -> u64 {
        self.next += 1;
        self.under_way.insert(self.next, Open { before: Existing::now(&peer), peer, given_up: false });
        self.next
    }

    /// The sockets and processes of an open that has ended are not those of the others that are under way.
    fn end(&mut self, number: u64) {
        let Some(ended) = self.under_way.remove(&number).filter(|_| !self.under_way.is_empty()) else { return };
        let now = Existing::now(&ended.peer);
        let (served, connecting) = (served_ports(&now.sockets), connecting_to());
        for socket in now.sockets.difference(&ended.before.sockets) {
            let (fd, link) = socket;
            // SAFETY: only asked for what it is; a descriptor that has been closed gives an error.
            let borrowed = unsafe { BorrowedFd::borrow_raw(*fd) };
            let remote = || connecting.get(link).copied();
            if !is_to_libvirt(borrowed, &ended.peer, &served, remote).unwrap_or(false) {
                continue;
            }
            let path = peer_path(borrowed);
            let others = self.under_way.values_mut().filter(|open| ended.peer.may_be(path.as_deref(), &open.peer));
            others.for_each(|open| _ = open.before.sockets.insert(socket.clone()));
        }
        for helper in now.helpers.difference(&ended.before.helpers) {
            let arguments = helper::arguments(*helper);
            // That of an open that has ended is not starting any more: one that is belongs to another open, which could never be ended
            // without it.
            if !helper::is_starting(&arguments) && ended.peer.program.may_be(&arguments) {
                let others = self.under_way.values_mut().filter(|open| !open.peer.program.is_told_by(&arguments));
                others.for_each(|open| _ = open.before.helpers.insert(*helper));
            }
        }
    }
}

/// The path of the unix socket at the other end, where it has one.
fn peer_path(socket: BorrowedFd<'_>) -> Option<PathBuf> {
    let peer = SocketAddrUnix::try_from(getpeername(socket).ok()??).ok()?;
    let path = peer.path_bytes().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// The sockets of this process.
fn sockets() -> BTreeSet<Socket> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let socket = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        let is_socket = link.to_str()?.starts_with("socket:");
        is_socket.then_some((entry.file_name().to_str()?.parse().ok()?, link))
    };
    entries.filter_map(|entry| socket(entry.ok()?)).collect()
}

/// The TCP ports that this process listens on: connections at them are those of its own clients.
fn served_ports(sockets: &BTreeSet<Socket>) -> BTreeSet<u16> {
    let port = |fd: RawFd| {
        // SAFETY: only asked for what it is; a descriptor that has been closed gives an error.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let listens = sockopt::socket_acceptconn(socket).ok()?;
        let address = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
        listens.then_some(address.port())
    };
    sockets.iter().filter_map(|(fd, _)| port(*fd)).collect()
}

/// The remote ends of TCP sockets by their link in `/proc`: a socket that is connecting does not tell its peer otherwise.
fn connecting_to() -> HashMap<PathBuf, SocketAddr> {
    let Ok(process) = Process::myself() else { return HashMap::new() };
    let entries = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    entries.map(|entry| (format!("socket:[{}]", entry.inode).into(), entry.remote_address)).collect()
}

/// Whether a socket may lead to a libvirt: a named unix socket at the other end, or TCP as the URI says. `remote` is asked where the
/// socket itself does not tell.
fn is_to_libvirt(
    socket: BorrowedFd<'_>,
    of: &Peer,
    served: &BTreeSet<u16>,
    remote: impl FnOnce() -> Option<SocketAddr>,
) -> Option<bool> {
    if sockopt::socket_type(socket).ok()? != SocketType::STREAM {
        return Some(false);
    }
    let own = getsockname(socket).ok()?;
    let peer: Option<SocketAddrAny> = getpeername(socket).ok().flatten();
    if own.address_family() == AddressFamily::UNIX {
        let unix = |address: SocketAddrAny| SocketAddrUnix::try_from(address).ok();
        let named = |address: &SocketAddrUnix| address.path_bytes().is_some_and(|path| !path.is_empty());
        let (own, peer) = (unix(own)?, unix(peer?)?);
        return Some(!named(&own) && named(&peer));
    }
    let own = SocketAddr::try_from(own).ok()?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Some(!served.contains(&own.port()) && of.is_at(peer.or_else(remote)?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::{self, Child, Command, Stdio};
    use std::thread;

    use super::*;

    fn helper(number: u32) -> Helper {
        helpers().into_iter().find(|(pid, _)| u32::try_from(*pid) == Ok(number)).expect("a child")
    }

    #[test]
    fn a_process_that_is_starting_is_not_that_of_an_open_that_has_ended() {
        let mut opens = Opens { turns: BTreeMap::new(), under_way: BTreeMap::new(), next: 0 };
        let [ended, other] = ["a", "b"].map(|host| opens.begin(Peer::of(&format!("qemu+ssh://{host}/system"))));
        let mut command = Command::new("sleep");
        command.arg("600");
        let (mut wait, mut go) = std::io::pipe().expect("a pipe");
        let (mut number, mut tell) = std::io::pipe().expect("a pipe");
        let hold = move || {
            tell.write_all(&process::id().to_ne_bytes())?;
            wait.read_exact(&mut [0])
        };
        // SAFETY: between fork and exec only `getpid`, `write` and `read` are called, which are async-signal-safe.
        unsafe { command.pre_exec(hold) };
        let starts = thread::spawn(move || command.spawn().expect("sleep"));
        let mut bytes = [0; 4];
        number.read_exact(&mut bytes).expect("its number");
        let started = helper(u32::from_ne_bytes(bytes));
        assert!(helper::is_starting(&helper::arguments(started)));
        opens.end(ended);
        go.write_all(&[1]).expect("it waits");
        let mut process = starts.join().expect("no panic");
        process.kill().expect("a process");
        process.wait().expect("its end");
        assert!(!opens.under_way[&other].before.helpers.contains(&started));
    }

    #[test]
    fn an_ssh_that_is_told_by_its_host_is_not_that_of_an_open_of_any_program() {
        let mut opens = Opens { turns: BTreeMap::new(), under_way: BTreeMap::new(), next: 0 };
        let [ended, other] =
            ["qemu+ext:///system?command=/a", "qemu+ssh://b/system"].map(|uri| opens.begin(Peer::of(uri)));
        let start = |arguments: &[&str]| {
            Command::new("sh").args(["-c", "read line"]).args(arguments).stdin(Stdio::piped()).spawn().expect("sh")
        };
        let [mut ssh, mut own] = [&["--", "b"][..], &["/a"]].map(start);
        let started = |process: &Child| {
            let helper = helper(process.id());
            while helper::is_starting(&helper::arguments(helper)) {}
            helper
        };
        let [of_other, of_ended] = [&ssh, &own].map(started);
        opens.end(ended);
        for (process, helper) in [(&mut ssh, of_other), (&mut own, of_ended)] {
            assert!(helper::end(helper));
            process.wait().expect("its end");
        }
        let spared = &opens.under_way[&other].before.helpers;
        assert!(!spared.contains(&of_other) && spared.contains(&of_ended));
    }

    #[test]
    fn no_turn_is_kept_of_an_open_that_has_ended() {
        let guard = OpenGuard::default();
        let uri = "test:///a-uri-of-this-test";
        assert_eq!(guard.watch(uri, || OPENS.lock().turns.contains_key(uri)), Some(true));
        assert!(!OPENS.lock().turns.contains_key(uri));
        guard.cancel();
        assert_eq!(guard.watch(uri, || "opened"), None);
        assert!(!OPENS.lock().turns.contains_key(uri));
    }
}
