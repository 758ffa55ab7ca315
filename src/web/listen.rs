//! Opens the sockets that the server listens on.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::ListenAddress;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Why the server cannot start.
#[derive(Debug, Error)]
pub enum WebError {
    /// The host of a listen address is not known.
    #[error("cannot resolve the host of the listen address {address}")]
    Resolve {
        /// The address as configured.
        address: String,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error(
        "cannot listen on {address}, which is in use: stop the program that `ss -ltnp` shows there, or choose another \
         address with --web.listen-address"
    )]
    InUse {
        /// The address as configured.
        address: String,
    },
    /// A privileged port.
    #[error(
        "cannot listen on {address} without permission: choose a port from 1024 on with --web.listen-address, or grant \
         CAP_NET_BIND_SERVICE"
    )]
    Denied {
        /// The address as configured.
        address: String,
    },
    /// Whatever else is wrong with the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as configured.
        address: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

/// A socket that the server listens on.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// The address with the port that the system chose, if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Listens on every one of `addresses`. To be called within a tokio runtime.
pub fn bind(addresses: &[ListenAddress]) -> Result<Vec<Listener>, WebError> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.extend(bind_address(address)?);
    }
    Ok(listeners)
}

/// A host name may have several addresses, of which the machine need not have every one (`localhost` where IPv6 is off).
fn bind_address(address: &ListenAddress) -> Result<Vec<Listener>, WebError> {
    let bound = match address {
        ListenAddress::AnyInterface { port } => vec![listen_any(*port)],
        ListenAddress::Host { host, port } => {
            let resolved = (host.as_str(), *port).to_socket_addrs();
            let resolved = resolved.map_err(|source| WebError::Resolve { address: address.to_string(), source })?;
            resolved.map(|address| listen(address, true)).collect()
        }
    };
    let mut listeners = Vec::new();
    let mut absent = None;
    for result in bound {
        match result {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_absent(&error) => absent = Some(error),
            Err(error) => return Err(failure(address, error)),
        }
    }
    match absent {
        Some(error) if listeners.is_empty() => Err(failure(address, error)),
        _ => Ok(listeners),
    }
}

fn failure(address: &ListenAddress, source: io::Error) -> WebError {
    let address = address.to_string();
    match source.kind() {
        ErrorKind::AddrInUse => WebError::InUse { address },
        ErrorKind::PermissionDenied => WebError::Denied { address },
        _ => WebError::Listen { address, source },
    }
}

/// One socket for IPv6 and IPv4; for IPv4 alone on a machine without IPv6.
fn listen_any(port: u16) -> io::Result<Listener> {
    match listen((Ipv6Addr::UNSPECIFIED, port).into(), false) {
        Err(error) if is_absent(&error) => listen((Ipv4Addr::UNSPECIFIED, port).into(), false),
        result => result,
    }
}

/// `bind` says EADDRNOTAVAIL, `socket` EAFNOSUPPORT.
fn is_absent(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// `only_v6` keeps an IPv6 address from taking the IPv4 port too, whatever `net.ipv6.bindv6only` says.
fn listen(address: SocketAddr, only_v6: bool) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Else a restart would have to wait for the last connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from_std(socket.into())?;
    let address = socket.local_addr()?;
    Ok(Listener { socket, address })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<ListenAddress> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[tokio::test]
    async fn any_interface_answers_over_both_protocols() {
        let listeners = bind(&addresses(&[":0"])).expect("bound");
        let [listener] = listeners.as_slice() else { panic!("one socket, not {listeners:?}") };
        let port = listener.address().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4");
        if listener.address().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("IPv6");
        }
    }

    #[tokio::test]
    async fn names_and_several_addresses_are_bound() {
        let listeners = bind(&addresses(&["127.0.0.1:0", "localhost:0"])).expect("bound");
        assert!(listeners.len() >= 2);
        assert!(listeners.iter().all(|listener| listener.address().ip().is_loopback()));
    }

    #[tokio::test]
    async fn each_failure_names_the_address() {
        let taken = bind(&addresses(&["127.0.0.1:0"])).expect("bound");
        let port = taken[0].address().port();
        for address in [format!("127.0.0.1:{port}"), format!(":{port}")] {
            let error = bind(&addresses(&[&address])).expect_err("in use");
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot listen on {address}, which is in use: stop the program that `ss -ltnp` shows there, or choose \
                     another address with --web.listen-address"
                )
            );
        }
        // TEST-NET-1, which no machine has, and a top-level domain that nobody has.
        let error = bind(&addresses(&["192.0.2.1:9177"])).expect_err("absent");
        assert_eq!(error.to_string(), "cannot listen on 192.0.2.1:9177");
        let error = bind(&addresses(&["host.invalid:9177"])).expect_err("unknown");
        assert_eq!(error.to_string(), "cannot resolve the host of the listen address host.invalid:9177");
    }
}
