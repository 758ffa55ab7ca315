//! A libvirt connection URI, and what it may not have the client library do.

use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::ValueError;
use super::value::text;

/// Drivers within the client library that run programs of their product: `vzctl`, `vmrun`, and VirtualBox's service.
const DRIVERS_WITH_PROGRAMS: [&str; 4] = ["openvz", "vmwareplayer", "vmwarews", "vbox"];

/// What a path keeps as it is in a parameter.
const IN_PARAMETER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A libvirt connection URI, such as `qemu:///system`: one of a daemon, or empty for none. Whether there is such a driver is libvirt's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri(String);

impl Uri {
    /// Whether there is no daemon.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of its parameter `socket`, decoded.
    #[must_use]
    pub fn socket(&self) -> Option<String> {
        let value = self.parameters().find_map(|pair| pair.strip_prefix("socket="))?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    /// The same with another path in its parameter `socket`.
    #[must_use]
    pub fn with_socket(&self, path: &str) -> Self {
        let Some((front, _)) = self.0.split_once('?') else { return self.clone() };
        let value = |pair: &str| match pair.strip_prefix("socket=") {
            Some(_) => format!("socket={}", utf8_percent_encode(path, IN_PARAMETER)),
            None => pair.to_owned(),
        };
        Self(format!("{front}?{}", self.parameters().map(value).collect::<Vec<_>>().join("&")))
    }

    /// `name=value`, each.
    fn parameters(&self) -> impl Iterator<Item = &str> {
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        query.split('#').next().unwrap_or_default().split(['&', ';'])
    }

    /// Whether the text of an expression itself has all that this URI names beside driver, host and path: `@` for a user, and the
    /// name of each parameter. An expression with `.*` for a host is not meant to match key files, nor another host before a path.
    pub(super) fn is_spelled_out_in(&self, expression: &str) -> bool {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let (address, _) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = address.split_once('/').unwrap_or((address, ""));
        // libvirt decodes the host, and ignores a fragment.
        if authority.contains('%')
            || self.0.contains('#')
            || (path.contains('/') && !expression.contains(&format!("/{path}")))
        {
            return false;
        }
        let has_user = authority.contains('@');
        let name = |pair: &str| pair.split_once('=').map_or(pair, |(name, _)| name).to_owned() + "=";
        let mut parameters = self.parameters().filter(|pair| !pair.is_empty());
        (!has_user || expression.contains('@')) && parameters.all(|pair| expression.contains(&name(pair)))
    }

    /// The same without user and password, for pages that others may read.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let hide = || {
            let (scheme, rest) = self.0.split_once("://")?;
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            let (_, host) = authority.rsplit_once('@')?;
            Some(Self(format!("{scheme}://<hidden>@{host}{path}")))
        };
        hide().unwrap_or_else(|| self.clone())
    }

    /// Whether it names the daemon of the user, by no explicit socket: as root, libvirt opens the host's for it.
    #[must_use]
    pub fn is_session(&self) -> bool {
        let Some((_, path)) = scheme_and_rest(&self.0) else { return false };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        path == "///session" && !query.split(['&', ';']).any(|pair| pair.starts_with("socket="))
    }

    /// Whether it names no host: the daemon is on this one.
    #[must_use]
    pub fn is_local(&self) -> bool {
        scheme_and_rest(&self.0).is_some_and(|(_, rest)| rest.starts_with("///"))
    }

    /// The name or address of the host that it names; `None` for this one.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        Some(host).filter(|host| !host.is_empty())
    }

    /// Whether it names a program for the client library to run on this host.
    #[must_use]
    pub fn runs_program(&self) -> bool {
        self.program().is_some()
    }

    /// What names a program for the client library to run on this host.
    pub(super) fn program(&self) -> Option<&'static str> {
        let (scheme, path) = scheme_and_rest(&self.0)?;
        let (driver, transport) = scheme.split_once('+').map_or((scheme.as_str(), ""), |(driver, over)| (driver, over));
        if transport == "ext" {
            return Some("the transport ext");
        }
        if transport.is_empty() && DRIVERS_WITH_PROGRAMS.contains(&driver) {
            return Some("this driver");
        }
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let is_command = |pair: &str| decoded(pair.split('=').next().unwrap_or_default()) == "command";
        query.split(['&', ';']).any(is_command).then_some("the parameter command")
    }
}

/// The scheme in lower case, and what is behind its colon.
fn scheme_and_rest(uri: &str) -> Option<(String, &str)> {
    let (scheme, rest) = uri.split_once(':')?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(legal);
    (is_scheme && rest.starts_with('/')).then(|| (scheme.to_ascii_lowercase(), rest))
}

/// As libvirt compares it.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().to_ascii_lowercase()
}

/// The path, which is behind the host.
fn path(rest: &str) -> &str {
    let path = rest.strip_prefix("//").map_or(rest, |rest| rest.find('/').map_or("", |slash| &rest[slash..]));
    path.split(['?', '#']).next().unwrap_or_default()
}

impl Default for Uri {
    fn default() -> Self {
        Self("qemu:///system".to_owned())
    }
}

impl FromStr for Uri {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let uri = text.trim().to_owned();
        if uri.is_empty() {
            return Ok(Self(uri));
        }
        if uri.contains('\0') {
            return Err(ValueError::NulInUri { uri });
        }
        let is_uri = !uri.contains(|character: char| character.is_control() || character == ' ');
        match scheme_and_rest(&uri).filter(|_| is_uri) {
            None => Err(ValueError::Uri { uri }),
            Some((_, rest)) if decoded(path(rest)).trim_matches('/') == "embed" => {
                Err(ValueError::EmbeddedDriver { uri })
            }
            Some(_) => Ok(Self(uri)),
        }
    }
}

text!(Uri, "a libvirt URI");

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect(text)
    }

    #[test]
    fn a_uri_is_shown_without_user_and_password() {
        for (text, shown) in [
            ("qemu:///system", "qemu:///system"),
            ("qemu+ssh://root:a@b@host/system?x=@", "qemu+ssh://<hidden>@host/system?x=@"),
            ("qemu+ssh://root@host", "qemu+ssh://<hidden>@host"),
            ("qemu+unix:///system?socket=/a@b", "qemu+unix:///system?socket=/a@b"),
        ] {
            assert_eq!(uri(text).redacted().as_str(), shown);
        }
    }

    #[test]
    fn a_socket_can_be_another() {
        let pattern = uri("qemu+unix:///session?mode=direct&socket=/run/a%2Ab/*/s#x");
        assert_eq!(pattern.socket().as_deref(), Some("/run/a*b/*/s"));
        let one = pattern.with_socket("/run/a b/1&2/s");
        assert_eq!(one.as_str(), "qemu+unix:///session?mode=direct&socket=/run/a%20b/1%262/s");
        assert_eq!(one.socket().as_deref(), Some("/run/a b/1&2/s"));
        assert_eq!((uri("qemu:///system").socket(), uri("").is_none()), (None, true));
        let hosts = ["qemu+ssh://me@h:22/system?x", "qemu+tls://[fe80::1]:7/x", "qemu:///system"];
        assert_eq!(
            hosts.map(|text| uri(text).host().map(str::to_owned)),
            [Some("h".to_owned()), Some("fe80::1".to_owned()), None]
        );
    }

    #[test]
    fn what_is_no_uri_of_a_daemon_is_refused() {
        for text in
            ["text", "qemu", "not a uri", "qemu:system", ":///", "1qemu:///system", "qemu:///sys tem", "a\tb:///"]
        {
            assert_eq!(text.parse::<Uri>(), Err(ValueError::Uri { uri: text.to_owned() }));
        }
        for text in
            ["qemu:///embed?root=/x", "QEMU:///embed", "qemu:///%65mbed", "qemu:/embed", "qemu+unix://h/embed#a"]
        {
            assert_eq!(text.parse::<Uri>(), Err(ValueError::EmbeddedDriver { uri: text.to_owned() }));
        }
        for text in ["qemu:///system", "qemu:/system", "test:///file.xml", "qemu+tls://host/embedded", "xen+ssh://h"] {
            assert_eq!(uri(text).program(), None);
        }
    }

    #[test]
    fn the_session_of_the_user_is_told_from_a_socket() {
        let sessions = ["qemu:///session", "qemu+unix:///session", "qemu:///session?keyfile=x"];
        assert!(sessions.iter().all(|text| uri(text).is_session()));
        for text in ["qemu:///system", "qemu:///session?socket=/run/x", "qemu+ssh://host/session", "qemu:///sessions"] {
            assert!(!uri(text).is_session(), "{text}");
        }
    }

    #[test]
    fn a_uri_that_names_a_program_is_told() {
        for text in [
            "qemu+ext:///?command=/bin/x",
            "qemu+EXT:///",
            "qemu+ssh://host/system?command=/bin/x",
            "qemu+ssh://host/system?netcat=nc&COMMAND=x",
            "qemu+ssh://host/system?no_tty=1;%63ommand=x",
            "openvz:///system",
            "vmwarews:///session",
            "vbox:///session",
        ] {
            assert!(uri(text).program().is_some(), "{text}");
        }
        assert_eq!(uri("openvz+tls://host/system").program(), None, "the daemon there runs it");
    }
}
