//! Whether an exporter with these settings answers: what the health check of a container asks, whose image has no other client.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::{ListenAddress, Web};

/// For the connection, and for the answer.
const PATIENCE: Duration = Duration::from_secs(3);
const REQUEST: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

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
    match address {
        ListenAddress::AnyInterface { port } => tcp(&Ipv4Addr::LOCALHOST.to_string(), *port),
        ListenAddress::Host { host, port } => tcp(host, *port),
        ListenAddress::Unix { path } => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(stream)
        }),
    }
    .map_err(said)
}

/// `0.0.0.0` and `::` are this machine to a client too.
fn tcp(host: &str, port: u16) -> io::Result<()> {
    let mut failure = io::Error::from(ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return ask(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn ask(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    let mut start = [0; 5];
    stream.read_exact(&mut start)?;
    if &start == b"HTTP/" { Ok(()) } else { Err(io::Error::new(ErrorKind::InvalidData, "that is no HTTP")) }
}
