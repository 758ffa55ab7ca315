//! Opening under watch: `virConnectOpen` can hang for ever, and only its socket can free it.
//!
//! A daemon that is frozen, or at its limit of clients, lets the kernel accept a connection and never answers; a host that
//! drops packets does not even accept one. libvirt has no timeout for either. Opens run one at a time, so a socket that
//! appeared since the current one began, and that may lead to a libvirt, is its own and can be shut down.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use procfs::process::Process;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrAny, SocketAddrUnix, SocketType, getpeername, getsockname, shutdown, sockopt,
};

/// Held by the thread that opens a connection.
static OPENING: Mutex<()> = Mutex::new(());

/// A descriptor, and the socket that it stands for (`socket:[inode]`): the number alone may be that of a connection which was
/// closed since.
type Socket = (RawFd, PathBuf);

/// Ends one open from another thread. Of one that waits for its turn, or has ended, there is nothing to end.
#[derive(Debug, Clone, Default)]
pub struct OpenGuard {
    current: Arc<Mutex<Option<Current>>>,
}

/// The open that is under way.
#[derive(Debug)]
struct Current {
    /// The sockets that existed when it began.
    before: BTreeSet<Socket>,
    tcp: Tcp,
}

impl OpenGuard {
    /// Runs `open`, which is about `uri`, so that [`OpenGuard::abort`] can end it.
    pub(super) fn watch<T>(&self, uri: &str, open: impl FnOnce() -> T) -> T {
        let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let set = |current| *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
        set(Some(Current { before: sockets(), tcp: Tcp::of(uri) }));
        let opened = open();
        set(None);
        opened
    }

    /// Shuts the sockets of the open, which then fails; `false` if there was none to shut. A library that tries one address
    /// of a host after the other has another socket next: call it again until the open has ended.
    #[must_use]
    pub fn abort(&self) -> bool {
        // The lock is kept, so that the open cannot end, and its descriptor become something else, meanwhile.
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Current { before, tcp }) = &*current else { return false };
        let now = sockets();
        let served = served_ports(&now);
        let mut connecting = None;
        let mut aborted = false;
        for (fd, link) in now.difference(before) {
            // SAFETY: the descriptor was open a moment ago; at worst the calls are made on a closed one and fail.
            let socket = unsafe { BorrowedFd::borrow_raw(*fd) };
            let remote_port = || connecting.get_or_insert_with(connecting_ports).get(link).copied();
            if is_to_libvirt(socket, *tcp, &served, remote_port).unwrap_or(false) {
                // A socket that is gone already has freed its open.
                let _gone = shutdown(socket, Shutdown::Both);
                aborted = true;
            }
        }
        aborted
    }
}

/// Which TCP connections an open of a URI makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tcp {
    /// None in this process.
    None,
    /// To this port.
    Port(u16),
    /// To a port that the URI does not tell: that of an alias, or of a driver or transport with a default of its own.
    Any,
}

impl Tcp {
    fn of(uri: &str) -> Self {
        let Some((scheme, rest)) = uri.split_once("://") else { return Self::Any };
        let transport = scheme.split_once('+').map(|(_, transport)| transport);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
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
        // SAFETY: only asked for what it is; a descriptor that was closed meanwhile gives an error.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let listens = sockopt::socket_acceptconn(socket).ok()?;
        let address = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
        listens.then_some(address.port())
    };
    sockets.iter().filter_map(|(fd, _)| port(*fd)).collect()
}

/// The remote ports of TCP sockets by their link in `/proc`: a socket that is connecting does not tell its peer otherwise.
fn connecting_ports() -> HashMap<PathBuf, u16> {
    let Ok(process) = Process::myself() else { return HashMap::new() };
    let entries = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    entries.map(|entry| (format!("socket:[{}]", entry.inode).into(), entry.remote_address.port())).collect()
}

/// Whether a socket may lead to a libvirt: a named unix socket at the other end, a pair of unnamed ones (the ssh transports
/// talk to their helper over one), or TCP as the URI says. `remote_port` is asked where the socket itself does not tell.
fn is_to_libvirt(
    socket: BorrowedFd<'_>,
    tcp: Tcp,
    served: &BTreeSet<u16>,
    remote_port: impl FnOnce() -> Option<u16>,
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
    let port = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).map(|peer| peer.port());
    Some(!served.contains(&own.port()) && tcp.has(port.or_else(remote_port)?))
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
}
