//! Opening under watch: `virConnectOpen` can hang for ever, and only its socket can free it.
//!
//! A daemon that is frozen, or at its limit of clients, lets the kernel accept a connection and never answers. libvirt has
//! no timeout for that. Opens run one at a time, so whatever socket to a libvirt appeared since the current one began is
//! its own, and can be shut down.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::net::{Shutdown, SocketAddrAny, getpeername, getsockname, shutdown};

/// Held by whoever opens a connection.
static OPENING: Mutex<()> = Mutex::new(());
/// The sockets that existed when the current open began.
static BEFORE: Mutex<Option<BTreeSet<Socket>>> = Mutex::new(None);

/// A descriptor, and the socket that it stands for (`socket:[inode]`): the number alone may be that of a connection which was
/// closed since.
type Socket = (RawFd, PathBuf);

/// The ports of libvirt over TLS and TCP.
const PORTS: [u16; 2] = [16_514, 16_509];

/// Runs `open` so that [`abort_open`] can end it.
pub(super) fn watched<T>(open: impl FnOnce() -> T) -> T {
    let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(sockets());
    let opened = open();
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = None;
    opened
}

/// Shuts the sockets of the open that is under way, which then fails; `false` if there was none to shut.
pub fn abort_open() -> bool {
    // The lock is kept, so that the open cannot end, and its descriptor become something else, meanwhile.
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(before) = &*before else { return false };
    let own: Vec<Socket> = sockets().difference(before).cloned().collect();
    for &(fd, _) in &own {
        // SAFETY: the descriptor was open a moment ago; at worst the call is made on a closed one and fails.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        // A socket that is gone already has freed its open.
        let _gone = shutdown(socket, Shutdown::Both);
    }
    !own.is_empty()
}

/// The descriptors of this process that are connected to what may be a libvirt.
fn sockets() -> BTreeSet<Socket> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, fs::read_link(entry.path()).ok()?))
        })
        .filter(|&(fd, _)| {
            // SAFETY: only asked for its addresses; a descriptor that was closed meanwhile gives an error.
            let socket = unsafe { BorrowedFd::borrow_raw(fd) };
            is_to_libvirt(socket).unwrap_or(false)
        })
        .collect()
}

/// A named unix socket at the other end, a TCP port of libvirt, or a pair of unnamed unix sockets (the ssh transports talk
/// to their helper over one). Connections that this program serves have a named end here, or another port there.
fn is_to_libvirt(socket: BorrowedFd<'_>) -> Option<bool> {
    let unix = |address: SocketAddrAny| rustix::net::SocketAddrUnix::try_from(address).ok();
    let peer = getpeername(socket).ok()??;
    if let Ok(address) = std::net::SocketAddr::try_from(peer.clone()) {
        return Some(PORTS.contains(&address.port()));
    }
    let named = |address: &rustix::net::SocketAddrUnix| address.path_bytes().is_some_and(|path| !path.is_empty());
    let (peer, own) = (unix(peer)?, unix(getsockname(socket).ok()?)?);
    Some(!named(&own) && (named(&peer) || peer.abstract_name().is_none()))
}
