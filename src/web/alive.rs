//! Whether an exporter answers at an address: what the health check of a container asks, whose image has no other client, and what
//! `check` asks where an address is in use.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::{ListenAddress, Web};

/// For the connection, and for the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// What an exporter responds with.
pub(super) const HEALTHY: &str = "domstats-exporter is healthy\n";
const REQUEST: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What answers at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// An exporter of this program.
    Exporter,
    /// A server that wants TLS or a password first.
    Protected,
    /// Another HTTP server.
    Other,
}

/// Asks at the first listen address. Every HTTP response counts as alive, also 401 and what a port with TLS says to plain HTTP:
/// no password and no certificate is needed for it.
///
/// # Errors
/// If nothing answers there, or these settings name no address.
pub fn answers(web: &Web) -> io::Result<()> {
    let Some(address) = web.listen_addresses.iter().next().filter(|_| !web.systemd_socket) else {
        return Err(io::Error::new(ErrorKind::Unsupported, "the settings name no address that could be asked"));
    };
    let said = |error: io::Error| io::Error::new(error.kind(), format!("nothing answers at {address}: {error}"));
    ask(address).map(|_| ()).map_err(said)
}

/// Asks at `address`.
///
/// # Errors
/// If nothing answers there, or something else than HTTP.
pub fn ask(address: &ListenAddress) -> io::Result<Answer> {
    match address {
        ListenAddress::AnyInterface { port } => tcp(&Ipv4Addr::LOCALHOST.to_string(), *port),
        ListenAddress::Host { host, port } => tcp(host, *port),
        ListenAddress::Unix { path } => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            answer(stream)
        }),
    }
}

/// `0.0.0.0` and `::` are this machine to a client too.
fn tcp(host: &str, port: u16) -> io::Result<Answer> {
    let mut failure = io::Error::from(ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return answer(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn answer(mut stream: impl Read + Write) -> io::Result<Answer> {
    stream.write_all(REQUEST)?;
    let mut start = [0; 5];
    stream.read_exact(&mut start)?;
    if &start != b"HTTP/" {
        return Err(io::Error::new(ErrorKind::InvalidData, "that is no HTTP"));
    }
    let mut rest = Vec::new();
    // A server that says no more is another one.
    let _as_far_as_it_came = stream.take(4096).read_to_end(&mut rest);
    let rest = String::from_utf8_lossy(&rest);
    Ok(if rest.contains(HEALTHY) {
        Answer::Exporter
    } else if rest.contains(" 401 ") || rest.contains(" 400 ") {
        Answer::Protected
    } else {
        Answer::Other
    })
}
