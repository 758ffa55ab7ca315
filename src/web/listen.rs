//! Opens the sockets that the server listens on.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use super::limits::BACKLOG;
use super::pulse::{Heart, Pulse, pulse};
use super::unix::{self, SocketFile};
use crate::config::{self, ListenAddress};

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
    /// Another program listens there.
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
    /// The socket file belongs to a program that answers.
    #[error("cannot listen on {address}, where another program answers: stop it, or choose another path")]
    Answered {
        /// The address as configured.
        address: String,
    },
    /// There is something else where the socket file should be.
    #[error("cannot listen on {address}, where there is a file that is no socket: remove it, or choose another path")]
    NoSocket {
        /// The address as configured.
        address: String,
    },
    /// Started without socket activation.
    #[error(
        "systemd has passed no socket: start the .socket unit instead of the service, or remove web.systemd_socket"
    )]
    NothingPassed,
    /// A datagram socket, or the like.
    #[error("cannot serve on the socket that systemd has passed as number {number}, expected stream sockets only")]
    Passed {
        /// Its place among the passed ones, from 1.
        number: usize,
        /// The fault.
        #[source]
        source: io::Error,
    },
}

/// A socket that the server listens on.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: ListeningSocket,
    pub(super) heart: Heart,
    pulse: Pulse,
    address: Option<SocketAddr>,
    name: String,
}

#[derive(Debug)]
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// Removed with the listener, unless systemd owns it.
        _file: Option<SocketFile>,
    },
}

impl Listener {
    /// The address with the port that the system chose, if port 0 was asked for; a socket file has none.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The address, or `unix:` and the path, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether connections to this listener are being accepted.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    fn tcp(socket: TcpListener) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Self::new(ListeningSocket::Tcp(socket), Some(address), address.to_string()))
    }

    fn unix(socket: UnixListener, _file: Option<SocketFile>) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let path = address.as_pathname().map(|path| path.display().to_string()).unwrap_or_default();
        Ok(Self::new(ListeningSocket::Unix { socket, _file }, None, format!("unix:{path}")))
    }

    fn new(socket: ListeningSocket, address: Option<SocketAddr>, name: String) -> Self {
        let (pulse, heart) = pulse();
        Self { socket, heart, pulse, address, name }
    }
}

/// Listens where `web` says. To be called within a tokio runtime.
pub fn bind(web: &config::Web) -> Result<Vec<Listener>, WebError> {
    if web.systemd_socket {
        return from_systemd(&mut ListenFd::from_env());
    }
    let mut listeners = Vec::new();
    for address in web.listen_addresses.iter() {
        listeners.extend(bind_address(address)?);
    }
    Ok(listeners)
}

/// Listens at `address` for a moment: whether [`bind`] could. To be called within a tokio runtime.
///
/// # Errors
/// Why it could not.
pub fn try_address(address: &ListenAddress) -> Result<(), WebError> {
    bind_address(address).map(drop)
}

fn from_systemd(passed: &mut ListenFd) -> Result<Vec<Listener>, WebError> {
    if passed.len() == 0 {
        return Err(WebError::NothingPassed);
    }
    let count = passed.len();
    let mut take = |index: usize| -> io::Result<Listener> {
        if let Ok(Some(socket)) = passed.take_unix_listener(index) {
            socket.set_nonblocking(true)?;
            return Listener::unix(UnixListener::from_std(socket)?, None);
        }
        let socket = passed.take_tcp_listener(index)?.ok_or(ErrorKind::NotFound)?;
        socket.set_nonblocking(true)?;
        Listener::tcp(TcpListener::from_std(socket)?)
    };
    let taken = |index| take(index).map_err(|source| WebError::Passed { number: index + 1, source });
    (0..count).map(taken).collect()
}

/// A host name may have several addresses, of which the machine need not have every one (`localhost` where IPv6 is off).
fn bind_address(address: &ListenAddress) -> Result<Vec<Listener>, WebError> {
    let bound = match address {
        ListenAddress::AnyInterface { port } => vec![listen_any(*port)],
        ListenAddress::Unix { path } => {
            let (socket, file) = unix::listen(path, &address.to_string())?;
            vec![Listener::unix(socket, Some(file))]
        }
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
    Listener::tcp(TcpListener::from_std(socket.into())?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn addresses(texts: &[&str]) -> config::Web {
        let addresses: Vec<ListenAddress> = texts.iter().map(|text| text.parse().expect(text)).collect();
        config::Web { listen_addresses: addresses.try_into().expect("no address twice"), ..config::Web::default() }
    }

    fn address(listener: &Listener) -> SocketAddr {
        listener.address().expect("a TCP socket")
    }

    #[tokio::test]
    async fn a_socket_file_comes_and_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let name = format!("unix:{}", path.display());
        let web = addresses(&[&name]);
        // What a killed exporter leaves behind is no obstacle.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let listeners = bind(&web).expect("bound");
        assert_eq!((listeners[0].name(), listeners[0].address()), (name.as_str(), None));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o660);
        let error = bind(&web).expect_err("answered");
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {name}, where another program answers: stop it, or choose another path")
        );
        drop(listeners);
        assert!(!path.exists());
        std::fs::write(&path, "precious").expect("written");
        let error = bind(&web).expect_err("a file");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {name}, where there is a file that is no socket: remove it, or choose another path"
            )
        );
        assert!(path.exists());
    }

    #[tokio::test]
    async fn without_socket_activation_there_is_nothing_to_serve_on() {
        let error = from_systemd(&mut ListenFd::empty()).expect_err("nothing");
        assert_eq!(
            error.to_string(),
            "systemd has passed no socket: start the .socket unit instead of the service, or remove web.systemd_socket"
        );
    }

    #[tokio::test]
    async fn any_interface_answers_over_both_protocols() {
        let listeners = bind(&addresses(&[":0"])).expect("bound");
        let [listener] = listeners.as_slice() else { panic!("one socket, not {listeners:?}") };
        let port = address(listener).port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("IPv4");
        if address(listener).is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("IPv6");
        }
    }

    #[tokio::test]
    async fn names_and_several_addresses_are_bound() {
        let listeners = bind(&addresses(&["127.0.0.1:0", "localhost:0"])).expect("bound");
        assert!(listeners.len() >= 2);
        assert!(listeners.iter().all(|listener| address(listener).ip().is_loopback()));
    }

    #[tokio::test]
    async fn each_failure_names_the_address() {
        let taken = bind(&addresses(&["127.0.0.1:0"])).expect("bound");
        let port = address(&taken[0]).port();
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
        // TEST-NET-1, which no machine has, and a top-level domain that does not exist.
        let error = bind(&addresses(&["192.0.2.1:9177"])).expect_err("absent");
        assert_eq!(error.to_string(), "cannot listen on 192.0.2.1:9177");
        let error = bind(&addresses(&["host.invalid:9177"])).expect_err("unknown");
        assert_eq!(error.to_string(), "cannot resolve the host of the listen address host.invalid:9177");
    }
}
