//! What an open of a URI connects to, by the URI: a socket of this host, a TCP port, or the host of an ssh.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// What an open of a URI connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// The path of the socket, where the URI tells it.
    path: Option<PathBuf>,
    pub(super) tcp: Tcp,
    /// The addresses of the host; none where it has no name, or one that is not resolved.
    addresses: BTreeSet<IpAddr>,
    pub(super) program: Program,
}

impl Peer {
    /// Has the name of the host resolved, as libvirt does next.
    pub(super) fn of(uri: &str) -> Self {
        let tcp = Tcp::of(uri);
        let host = host(uri).filter(|host| !host.is_empty() && tcp != Tcp::None);
        let resolved = host.and_then(|host| (host, 0).to_socket_addrs().ok()).into_iter().flatten();
        let addresses = resolved.map(|address| address.ip().to_canonical()).collect();
        Self { path: socket(uri), tcp, addresses, program: Program::of(uri) }
    }

    /// Whether it may be at this address.
    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        let is_address = self.addresses.is_empty() || self.addresses.contains(&address.ip().to_canonical());
        is_address && self.tcp.has(address.port())
    }

    /// Whether a socket whose other end has this path may be that of an open of this peer, beside one of `other`.
    pub(super) fn may_be(&self, path: Option<&Path>, other: &Self) -> bool {
        match (&self.path, &other.path) {
            (Some(own), _) => path == Some(own),
            (None, Some(other)) => path != Some(other),
            (None, None) => true,
        }
    }
}

/// What opens have in common of which only one may be under way at a time, as nothing would tell them apart.
pub(super) fn turn(uri: &str) -> String {
    let host = host(uri).filter(|host| !host.is_empty());
    match (socket(uri), Program::of(uri), Tcp::of(uri), host) {
        (Some(path), ..) => path.display().to_string(),
        (_, Program::Ssh(destination), ..) => destination.to_string(),
        (_, Program::Command(command), ..) => command,
        (_, _, Tcp::Port(port), Some(host)) => format!("{host}:{port}"),
        _ => uri.to_owned(),
    }
}

/// The part of the scheme that names the transport.
fn transport(uri: &str) -> Option<String> {
    let (scheme, _) = uri.split_once(':')?;
    scheme.split_once('+').map(|(_, transport)| transport.to_ascii_lowercase())
}

/// The path of the socket of this host.
fn socket(uri: &str) -> Option<PathBuf> {
    if !matches!(transport(uri).as_deref(), None | Some("unix")) {
        return None;
    }
    parameter(uri, "socket").map(PathBuf::from)
}

/// The value of a parameter of the URI.
fn parameter(uri: &str, name: &str) -> Option<String> {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let value = |pair: &str| Some(decoded(pair.strip_prefix(name)?.strip_prefix('=')?));
    query.split(['&', ';', '#']).find_map(value)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// User, host and port of a URI.
fn authority(uri: &str) -> Option<(Option<&str>, &str)> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Some(authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host)))
}

/// The URI without user and password, for texts.
pub(super) fn without_user(uri: &str) -> String {
    match authority(uri) {
        Some((Some(user), _)) => uri.replacen(&format!("{user}@"), "<hidden>@", 1),
        _ => uri.to_owned(),
    }
}

/// The host of a URI, without the brackets of an IPv6 address.
fn host(uri: &str) -> Option<&str> {
    let (_, host) = authority(uri)?;
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    }
}

/// The colons within the brackets of an IPv6 address are none of a port.
fn port(host: &str) -> Option<&str> {
    host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.is_empty() && !port.ends_with(']'))
}

/// Which TCP connections an open of a URI makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tcp {
    /// None in this process.
    None,
    /// To this port.
    Port(u16),
    /// To a port that the URI does not tell: that of an alias, or of a driver or transport with another default.
    Any,
}

impl Tcp {
    fn of(uri: &str) -> Self {
        let Some((_, host)) = authority(uri) else { return Self::Any };
        match (transport(uri).as_deref(), port(host).and_then(|port| port.parse().ok())) {
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

/// Which program an open of a URI has libvirt run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    None,
    /// An ssh to there.
    Ssh(Destination),
    /// One that the URI names, with its path.
    Command(String),
}

impl Program {
    fn of(uri: &str) -> Self {
        match (transport(uri).as_deref(), authority(uri)) {
            (Some("ssh"), Some((user, at))) => {
                let host = decoded(host(uri).unwrap_or_default());
                Self::Ssh(Destination { user: user.map(decoded), host, port: port(at).map(str::to_owned) })
            }
            (Some("ssh" | "ext"), _) => Self::Command(parameter(uri, "command").unwrap_or_default()),
            _ => Self::None,
        }
    }

    /// Whether a program with these arguments may be the one.
    pub(super) fn may_be(&self, arguments: &[String]) -> bool {
        match self {
            Self::None => false,
            // What hides its arguments may be anything.
            Self::Ssh(destination) => Destination::of(arguments).is_none_or(|to| to == *destination),
            // It may have become anything.
            Self::Command(_) => true,
        }
    }

    /// Whether the arguments tell that it is the one, and not one that may be anything.
    pub(super) fn is_told_by(&self, arguments: &[String]) -> bool {
        match self {
            Self::None => false,
            Self::Ssh(destination) => Destination::of(arguments).as_ref() == Some(destination),
            // A script comes after what interprets it.
            Self::Command(path) => arguments.contains(path),
        }
    }
}

/// Where an ssh goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    user: Option<String>,
    host: String,
    port: Option<String>,
}

impl Destination {
    /// From the arguments that libvirt gives to ssh: `-l USER`, `-p PORT`, `-- HOST COMMAND`.
    fn of(arguments: &[String]) -> Option<Self> {
        let (options, rest) = arguments.split_at(arguments.iter().position(|argument| argument == "--")?);
        let option = |name: &str| options.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
        Some(Self { user: option("-l"), host: rest.get(1)?.clone(), port: option("-p") })
    }
}

impl Display for Destination {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (user, port) = (self.user.as_deref().unwrap_or_default(), self.port.as_deref().unwrap_or_default());
        write!(f, "ssh {user}@{}:{port}", self.host)
    }
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
            ("qemu+TLS://host/system", Tcp::Port(16_514)),
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
        let shown = ["esx://me:p@ss@h/?a@b", "qemu:///system?socket=/a@b"].map(without_user);
        assert_eq!(shown, ["esx://<hidden>@h/?a@b", "qemu:///system?socket=/a@b"]);
        let hosts = ["qemu+ssh://me@h:22/system?x", "qemu+tls://[fe80::1]:7", "qemu:///system", "alias"].map(host);
        assert_eq!(hosts, [Some("h"), Some("fe80::1"), Some(""), None]);
    }

    #[test]
    fn a_uri_may_tell_the_path_of_its_socket() {
        let path = |uri: &str| Peer::of(uri).path;
        assert_eq!(path("qemu+unix:///system?mode=legacy&socket=/run/a%20b"), Some(PathBuf::from("/run/a b")));
        assert_eq!((path("qemu:///system"), path("qemu+tcp://host/system?x=socket=/a")), (None, None));
        assert_eq!(path("qemu+ssh://host/system?socket=/run/there"), None, "of the other host");
        let [a, b, usual] =
            ["qemu+unix:///system?socket=/a", "qemu+unix:///system?socket=/b", "qemu:///system"].map(Peer::of);
        let at = |path| Some(Path::new(path));
        assert!(a.may_be(at("/a"), &b) && !a.may_be(at("/b"), &b) && !a.may_be(at("/b"), &usual));
        assert!(usual.may_be(at("/b"), &a) && !usual.may_be(at("/a"), &a) && usual.may_be(None, &usual));
    }

    #[test]
    fn an_ssh_is_known_by_where_it_goes() {
        let arguments = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
        let of = |uri: &str, line: &str| Program::of(uri).may_be(&arguments(line));
        let uri = "qemu+ssh://a%40b@[fe80::1]:2222/system?command=/opt/ssh";
        assert!(of(uri, "sh /opt/ssh -p 2222 -l a@b -T -e none -- fe80::1 sh -c x"));
        for other in ["-- fe80::1", "-p 2222 -l a@b -- fe80::2", "-p 2222 -- fe80::1 -l a@b", "-l a@b -- fe80::1"] {
            assert!(!of(uri, &format!("ssh {other} virt-ssh-helper")), "{other}");
        }
        let is_told = |uri: &str, line: &str| Program::of(uri).is_told_by(&arguments(line));
        assert!(is_told("qemu+ssh://h/system", "ssh -T -- h nc") && !is_told("qemu+ssh://h/system", "ssh -T -- g nc"));
        assert!(!is_told("qemu+ssh://h/system", "wrapper") && !is_told("qemu+ext:///?command=x", "ssh -T -- h nc"));
        assert!(of("qemu+ssh://h/system", "ssh -T -- h nc") && !of("qemu+ssh://h/system", "ssh -T -- g nc"));
        assert!(
            of("qemu+ssh://h/system", "wrapper") && of("qemu+ext:///?command=x", "x") && !of("qemu:///system", "x")
        );
    }

    #[test]
    fn opens_that_nothing_tells_apart_take_turns() {
        for (a, b) in [
            ("qemu+ssh://u@h/system", "qemu+ssh://u@h/session?no_tty=1"),
            ("qemu+tls://h/system", "qemu+tls://u@h:16514/session"),
            ("qemu+unix:///system?socket=/a", "qemu:///session?mode=legacy&socket=/%61"),
            ("qemu+ext:///system?command=/a", "qemu+ext://h/session?x&command=/%61"),
        ] {
            assert_eq!(turn(a), turn(b));
        }
        for (a, b) in [
            ("qemu+ssh://u@h/system", "qemu+ssh://h/system"),
            ("qemu+ssh://h/system", "qemu+ssh://h:22/system"),
            ("qemu+tls://h/system", "qemu+tcp://h/system"),
            ("qemu:///system", "lxc:///system"),
            ("qemu+ext:///system?command=/a", "qemu+ext:///system?command=/b"),
        ] {
            assert_ne!(turn(a), turn(b));
        }
    }
}
