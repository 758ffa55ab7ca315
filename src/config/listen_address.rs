//! Where the HTTP server listens.

use std::fmt::{self, Display, Formatter};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::ValueError;
use super::value::scalar;

/// Where the HTTP server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:9177`: every address of the machine, IPv6 and IPv4.
    AnyInterface {
        /// The TCP port; 0 lets the system choose.
        port: u16,
    },
    /// `localhost:9177`, `192.0.2.1:9177` or `[::1]:9177`.
    Host {
        /// A name or an address, without brackets.
        host: String,
        /// The TCP port; 0 lets the system choose.
        port: u16,
    },
    /// `unix:/run/domstats-exporter.sock`: a socket file, for user and group of the exporter (mode 0660).
    Unix {
        /// The absolute path of the socket file.
        path: PathBuf,
    },
}

impl Display for ListenAddress {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyInterface { port } => write!(f, ":{port}"),
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parse = || {
            if let Some(path) = text.strip_prefix("unix:") {
                // A NUL ends a path in C; a relative one would depend on where the service was started.
                let good = path.starts_with('/') && !path.ends_with('/') && !path.contains('\0');
                return good.then(|| Self::Unix { path: path.into() });
            }
            let (host, port) = text.rsplit_once(':')?;
            // `u16::from_str` takes a sign, which a port has not.
            let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
            if host.is_empty() {
                return Some(Self::AnyInterface { port });
            }
            let host = match host.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').filter(|inner| is_ipv6(inner))?,
                None => Some(host).filter(|name| is_host_name(name))?,
            };
            Some(Self::Host { host: host.to_owned(), port })
        };
        parse().ok_or_else(|| ValueError::ListenAddress { address: text.to_owned() })
    }
}

/// With or without a zone: `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// Names and IPv4 addresses; whether such a host exists is for the resolver to say.
fn is_host_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

scalar!(ListenAddress, "a listen address");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_read_as_they_are_written() {
        for good in [
            ":9177",
            ":0",
            "localhost:9177",
            "192.0.2.1:80",
            "[::1]:9177",
            "[fe80::1%eth0]:9177",
            "a_b.example-1:65535",
            "unix:/run/exporter.sock",
            "unix:/a b",
        ] {
            assert_eq!(good.parse::<ListenAddress>().expect(good).to_string(), good);
        }
        for bad in [
            "",
            ":",
            "9177",
            ":65536",
            ":+1",
            ":-1",
            "::1",
            "::1:9177",
            "[::1]",
            "[]:1",
            "[1.2.3.4]:1",
            "a b:1",
            "http://a:1",
            "a/b:1",
            ":1 ",
            "unix:",
            "unix:run/socket",
            "unix:/run/",
            "unix:/a\0b",
        ] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad:?}");
        }
    }
}
