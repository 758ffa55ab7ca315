//! Opening under watch: `virConnectOpen` can hang for ever, and only its socket can free it.
//!
//! A daemon that is frozen, or at its limit of clients, lets the kernel accept a connection and never answers; a host that
//! drops packets does not even accept one. libvirt has no timeout for either. A socket that appeared since an open began,
//! that may lead to a libvirt, and that cannot be the socket of another open under way, is its own and can be shut down: it is told
//! by the path of the URI, or by address and port.
//! Opens of one URI run one at a time, those of different ones side by side: a daemon that hangs holds up no other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use procfs::process::Process;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrAny, SocketAddrUnix, SocketType, getpeername, getsockname, shutdown, sockopt,
};

/// The opens of this process.
static OPENS: Mutex<Opens> = Mutex::new(Opens { turns: BTreeMap::new(), under_way: BTreeMap::new(), next: 0 });

#[derive(Debug)]
struct Opens {
    /// By URI, what is held by the thread that opens it, as long as there is one.
    turns: BTreeMap<String, Arc<Mutex<()>>>,
    under_way: BTreeMap<u64, Open>,
    next: u64,
}

/// One open under way.
#[derive(Debug, Clone)]
struct Open {
    /// The sockets that existed when it began, and those of opens that have ended since.
    before: BTreeSet<Socket>,
    peer: Peer,
}

/// A descriptor, and the socket that it stands for (`socket:[inode]`): the number alone may be that of a connection which was
/// closed since.
type Socket = (RawFd, PathBuf);

/// Ends one open from another thread. Of one that waits for its turn, or has ended, there is nothing to end.
#[derive(Debug, Clone, Default)]
pub struct OpenGuard {
    /// The number of the open that is under way.
    current: Arc<Mutex<Option<u64>>>,
}

impl OpenGuard {
    /// Runs `open`, which is about `uri`, so that [`OpenGuard::abort`] can end it.
    pub(super) fn watch<T>(&self, uri: &str, open: impl FnOnce() -> T) -> T {
        let turn = Arc::clone(OPENS.lock().turns.entry(uri.to_owned()).or_default());
        let one_at_a_time = turn.lock();
        let peer = Peer::of(uri);
        let number = OPENS.lock().begin(peer);
        self.set(Some(number));
        let opened = open();
        self.set(None);
        OPENS.lock().end(number);
        drop(one_at_a_time);
        drop(turn);
        OPENS.lock().turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        opened
    }

    fn set(&self, current: Option<u64>) {
        *self.current.lock() = current;
    }

    /// Shuts the sockets of the open, which then fails; `false` if there was none to shut. A library that tries one address
    /// of a host after the other has another socket next: call it again until the open has ended.
    #[must_use]
    pub fn abort(&self) -> bool {
        // The lock is kept, so that the open cannot end and its descriptor become something else.
        let current = self.current.lock();
        let Some(number) = *current else { return false };
        let now = sockets();
        let (own, others) = {
            let opens = OPENS.lock();
            let Some(own) = opens.under_way.get(&number).cloned() else { return false };
            let others = opens.under_way.iter().filter(|(of, _)| **of != number);
            (own, others.map(|(_, open)| open.clone()).collect::<Vec<Open>>())
        };
        let served = served_ports(&now);
        let mut connecting = None;
        let mut aborted = false;
        for socket in now.difference(&own.before) {
            let (fd, link) = socket;
            // SAFETY: the descriptor was open a moment ago; at worst the calls are made on a closed one and fail.
            let borrowed = unsafe { BorrowedFd::borrow_raw(*fd) };
            let mut is_to = |peer: &Peer| {
                let remote = || connecting.get_or_insert_with(connecting_to).get(link).copied();
                is_to_libvirt(borrowed, peer, &served, remote).unwrap_or(false)
            };
            let path = peer_path(borrowed);
            let mut may_be_of = |open: &Open| {
                !open.before.contains(socket) && open.peer.may_be(path.as_deref(), &own.peer) && is_to(&open.peer)
            };
            if !others.iter().any(&mut may_be_of) && is_to(&own.peer) {
                // A socket that is gone already has freed its open.
                let _gone = shutdown(borrowed, Shutdown::Both);
                aborted = true;
            }
        }
        aborted
    }
}

impl Opens {
    fn begin(&mut self, peer: Peer) -> u64 {
        self.next += 1;
        self.under_way.insert(self.next, Open { before: sockets(), peer });
        self.next
    }

    /// The sockets of an open that has ended are not those of the others that are under way.
    fn end(&mut self, number: u64) {
        let Some(ended) = self.under_way.remove(&number).filter(|_| !self.under_way.is_empty()) else { return };
        let now = sockets();
        let (served, connecting) = (served_ports(&now), connecting_to());
        for socket in now.difference(&ended.before) {
            let (fd, link) = socket;
            // SAFETY: only asked for what it is; a descriptor that has been closed gives an error.
            let borrowed = unsafe { BorrowedFd::borrow_raw(*fd) };
            let remote = || connecting.get(link).copied();
            if !is_to_libvirt(borrowed, &ended.peer, &served, remote).unwrap_or(false) {
                continue;
            }
            let path = peer_path(borrowed);
            let others = self.under_way.values_mut().filter(|open| ended.peer.may_be(path.as_deref(), &open.peer));
            others.for_each(|open| _ = open.before.insert(socket.clone()));
        }
    }
}

/// What an open of a URI connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    /// The path of the socket, where the URI tells it.
    path: Option<PathBuf>,
    tcp: Tcp,
    /// The addresses of the host; none where it has no name, or one that is not resolved.
    addresses: BTreeSet<IpAddr>,
}

impl Peer {
    /// Has the name of the host resolved, as libvirt does next.
    fn of(uri: &str) -> Self {
        let query = uri.split_once('?').map_or("", |(_, query)| query);
        let path = query.split(['&', ';', '#']).find_map(|pair| pair.strip_prefix("socket="));
        let path = path.map(|path| PathBuf::from(percent_decode_str(path).decode_utf8_lossy().into_owned()));
        let tcp = Tcp::of(uri);
        let host = host(uri).filter(|host| !host.is_empty() && tcp != Tcp::None);
        let resolved = host.and_then(|host| (host, 0).to_socket_addrs().ok()).into_iter().flatten();
        Self { path, tcp, addresses: resolved.map(|address| address.ip().to_canonical()).collect() }
    }

    /// Whether it may be at this address.
    fn is_at(&self, address: SocketAddr) -> bool {
        let is_address = self.addresses.is_empty() || self.addresses.contains(&address.ip().to_canonical());
        is_address && self.tcp.has(address.port())
    }

    /// Whether a socket whose other end has this path may be that of an open of this peer, beside one of `other`.
    fn may_be(&self, path: Option<&Path>, other: &Self) -> bool {
        match (&self.path, &other.path) {
            (Some(own), _) => path == Some(own),
            (None, Some(other)) => path != Some(other),
            (None, None) => true,
        }
    }
}

/// Host and port of a URI, without the user.
fn authority(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}

/// The host of a URI, without the brackets of an IPv6 address.
fn host(uri: &str) -> Option<&str> {
    let authority = authority(uri)?;
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    }
}

/// The path of the unix socket at the other end, where it has one.
fn peer_path(socket: BorrowedFd<'_>) -> Option<PathBuf> {
    let peer = SocketAddrUnix::try_from(getpeername(socket).ok()??).ok()?;
    let path = peer.path_bytes().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// Which TCP connections an open of a URI makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tcp {
    /// None in this process.
    None,
    /// To this port.
    Port(u16),
    /// To a port that the URI does not tell: that of an alias, or of a driver or transport with another default.
    Any,
}

impl Tcp {
    fn of(uri: &str) -> Self {
        let (Some((scheme, _)), Some(host)) = (uri.split_once("://"), authority(uri)) else { return Self::Any };
        let transport = scheme.split_once('+').map(|(_, transport)| transport);
        // The colons within the brackets of an IPv6 address are none of a port.
        let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        match (transport, port.and_then(|(_, port)| port.parse().ok())) {
            (Some("unix" | "ssh" | "ext"), _) => Self::None,
            (None, _) if host.is_empty() => Self::None,
            (_, Some(port)) => Self::Port(port),
            (Some("tcp"), None) => Self::Port(16_509),
            (Some("tls"), None) => Self::Port(16_514),
            _ => Self::Any,
        }
    }

    fn has(self, port: u16) -> bool {
        match self {
            Self::None => false,
            Self::Port(own) => own == port,
            Self::Any => true,
        }
    }
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

/// Whether a socket may lead to a libvirt: a named unix socket at the other end, a pair of unnamed ones (the ssh transports
/// talk to their helper over one), or TCP as the URI says. `remote` is asked where the socket itself does not tell.
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
        return Some(!named(&own) && (named(&peer) || peer.abstract_name().is_none()));
    }
    let own = SocketAddr::try_from(own).ok()?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Some(!served.contains(&own.port()) && of.is_at(peer.or_else(remote)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_tells_which_tcp_connections_its_open_makes() {
        for (uri, tcp) in [
            ("qemu:///system", Tcp::None),
            ("qemu+unix:///system?socket=/run/a:1/b", Tcp::None),
            ("qemu+ssh://root@host:2222/system", Tcp::None),
            ("qemu+tcp://host/system", Tcp::Port(16_509)),
            ("qemu+tcp://user:name@[::1]:19762/system", Tcp::Port(19_762)),
            ("qemu+tls://[fe80::1]/system?no_verify=1", Tcp::Port(16_514)),
            ("qemu+tls://host:443", Tcp::Port(443)),
            ("qemu+libssh2://host/system", Tcp::Any),
            ("qemu+libssh2://host:22/system", Tcp::Port(22)),
            ("esx://host/?no_verify=1", Tcp::Any),
            ("qemu://host/system", Tcp::Any),
            ("an-alias-of-libvirt-conf", Tcp::Any),
        ] {
            assert_eq!(Tcp::of(uri), tcp, "{uri}");
        }
    }

    #[test]
    fn hosts_at_one_port_are_told_apart() {
        let at = |text: &str| text.parse::<SocketAddr>().expect(text);
        let [a, b] = ["qemu+tls://127.0.0.1/system", "qemu+tls://u@127.0.0.2:16514/system"].map(Peer::of);
        assert!(a.is_at(at("127.0.0.1:16514")) && !a.is_at(at("127.0.0.2:16514")) && !a.is_at(at("127.0.0.1:16509")));
        assert!(b.is_at(at("127.0.0.2:16514")) && !b.is_at(at("127.0.0.1:16514")));
        assert!(a.is_at(at("[::ffff:127.0.0.1]:16514")));
        assert!(Peer::of("qemu+tcp://[::1]:7/system").is_at(at("[::1]:7")));
        assert!(Peer::of("qemu+tls://no-such-host.invalid/system").is_at(at("127.0.0.1:16514")), "any address");
        let hosts = ["qemu+ssh://me@h:22/system?x", "qemu+tls://[fe80::1]:7", "qemu:///system", "alias"].map(host);
        assert_eq!(hosts, [Some("h"), Some("fe80::1"), Some(""), None]);
    }

    #[test]
    fn no_turn_is_kept_of_an_open_that_has_ended() {
        let guard = OpenGuard::default();
        let uri = "test:///a-uri-of-this-test";
        assert!(guard.watch(uri, || OPENS.lock().turns.contains_key(uri)));
        assert!(!OPENS.lock().turns.contains_key(uri));
    }

    #[test]
    fn a_uri_may_tell_the_path_of_its_socket() {
        let path = |uri: &str| Peer::of(uri).path;
        assert_eq!(path("qemu+unix:///system?mode=legacy&socket=/run/a%20b"), Some(PathBuf::from("/run/a b")));
        assert_eq!((path("qemu:///system"), path("qemu+tcp://host/system?x=socket=/a")), (None, None));
        let [a, b, usual] =
            ["qemu+unix:///system?socket=/a", "qemu+unix:///system?socket=/b", "qemu:///system"].map(Peer::of);
        let at = |path| Some(Path::new(path));
        assert!(a.may_be(at("/a"), &b) && !a.may_be(at("/b"), &b) && !a.may_be(at("/b"), &usual));
        assert!(usual.may_be(at("/b"), &a) && !usual.may_be(at("/a"), &a) && usual.may_be(None, &usual));
    }
}
