//! Settings that have a form of their own, each parsed from text at load time.

use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;
use std::net::Ipv6Addr;
use std::ops::Deref;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::ValueError;

/// Larger than any sensible filter, small enough that a file cannot eat the host's memory.
const REGEX_SIZE_LIMIT: usize = 4 << 20;

/// A value that is one text in YAML. Parsing inside the visitor is what gives an error its line and column.
pub(super) fn deserialize_text<'de, D, T>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = ValueError>,
{
    struct TextVisitor<T>(&'static str, PhantomData<T>);

    impl<T: FromStr<Err = ValueError>> Visitor<'_> for TextVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(TextVisitor(expected, PhantomData))
}

/// Serde for a type through its `FromStr` and `Display`; `$expected` says what it is to a reader who wrote a list or a mapping.
macro_rules! scalar {
    ($name:ty, $expected:expr) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::value::deserialize_text(deserializer, $expected)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
pub(super) use scalar;

/// A libvirt connection URI, as libvirt takes it: not empty, without NUL. What it means is libvirt's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri(String);

impl Uri {
    /// The URI's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Uri {
    fn default() -> Self {
        Self("qemu:///system".to_owned())
    }
}

impl Display for Uri {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Uri {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let uri = text.trim().to_owned();
        if uri.is_empty() {
            Err(ValueError::EmptyUri)
        } else if uri.contains('\0') {
            Err(ValueError::NulInUri { uri })
        } else {
            Ok(Self(uri))
        }
    }
}

scalar!(Uri, "a libvirt URI");

/// A regular expression that has to match the whole of a text, as Prometheus' own do.
#[derive(Debug, Clone)]
pub struct AnchoredRegex {
    source: String,
    compiled: Regex,
}

impl AnchoredRegex {
    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }
}

impl PartialEq for AnchoredRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for AnchoredRegex {}

impl Display for AnchoredRegex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl FromStr for AnchoredRegex {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let compile = |regex: &str| {
            RegexBuilder::new(regex)
                .dot_matches_new_line(true)
                .size_limit(REGEX_SIZE_LIMIT)
                .build()
                .map_err(|error| ValueError::Regex {
                    regex: text.to_owned(),
                    fault: regex_fault(&error),
                })
        };
        // `a)(b` is no expression, but would be one within the anchors.
        compile(text)?;
        let compiled = compile(&format!("^(?:{text})$"))?;
        Ok(Self {
            source: text.to_owned(),
            compiled,
        })
    }
}

/// The compiler draws the expression with a caret below; its last line says what is wrong.
fn regex_fault(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it needs more than 4 MiB when compiled".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    }
}

scalar!(AnchoredRegex, "a regular expression");

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
}

impl Display for ListenAddress {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyInterface { port } => write!(f, ":{port}"),
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parse = || {
            let (host, port) = text.rsplit_once(':')?;
            // `u16::from_str` takes a sign, which a port has not.
            let port = port
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| port.parse().ok())??;
            if host.is_empty() {
                return Some(Self::AnyInterface { port });
            }
            let host = match host.strip_prefix('[') {
                Some(rest) => rest.strip_suffix(']').filter(|inner| is_ipv6(inner))?,
                None => Some(host).filter(|name| is_host_name(name))?,
            };
            Some(Self::Host {
                host: host.to_owned(),
                port,
            })
        };
        parse().ok_or_else(|| ValueError::ListenAddress {
            address: text.to_owned(),
        })
    }
}

/// With or without a zone: `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// Names and IPv4 addresses; whether such a host exists is for the resolver to say.
fn is_host_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

scalar!(ListenAddress, "a listen address");

/// The path that the metrics are served at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryPath(String);

impl TelemetryPath {
    /// The path's text, which starts with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TelemetryPath {
    fn default() -> Self {
        Self("/metrics".to_owned())
    }
}

impl Display for TelemetryPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TelemetryPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let path = text.to_owned();
        let in_path =
            |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
        if !path.starts_with('/') || !path.bytes().all(in_path) {
            Err(ValueError::TelemetryPath { path })
        } else if path == "/" || path == "/-" || path.starts_with("/-/") {
            Err(ValueError::TelemetryPathTaken { path })
        } else {
            Ok(Self(path))
        }
    }
}

scalar!(TelemetryPath, "a URL path");

/// A list that holds at least one entry, and none twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct List<T>(Vec<T>);

impl<T> List<T> {
    /// For defaults, which the author of this program has checked.
    pub(super) fn of(entries: impl IntoIterator<Item = T>) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: PartialEq + Display> TryFrom<Vec<T>> for List<T> {
    type Error = ValueError;

    fn try_from(entries: Vec<T>) -> Result<Self, ValueError> {
        if entries.is_empty() {
            return Err(ValueError::EmptyList);
        }
        match (1..entries.len()).find(|&index| entries[..index].contains(&entries[index])) {
            Some(index) => Err(ValueError::ListedTwice {
                entry: entries[index].to_string(),
            }),
            None => Ok(Self(entries)),
        }
    }
}

impl<'de, T: Deserialize<'de> + PartialEq + Display> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + PartialEq + Display> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    entries.push(entry);
                }
                List::try_from(entries).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// Serde for a duration such as `8s`: more than zero, at most an hour.
pub(super) mod duration {
    use std::str::FromStr;
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use super::{ValueError, deserialize_text};

    const LONGEST: Duration = Duration::from_secs(3600);

    struct Parsed(Duration);

    impl FromStr for Parsed {
        type Err = ValueError;

        fn from_str(text: &str) -> Result<Self, ValueError> {
            let duration = humantime::parse_duration(text).map_err(|_| ValueError::Duration {
                text: text.to_owned(),
            })?;
            if duration.is_zero() || duration > LONGEST {
                return Err(ValueError::DurationRange {
                    text: text.to_owned(),
                });
            }
            Ok(Self(duration))
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        deserialize_text(deserializer, "a duration").map(|Parsed(duration)| duration)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }
}
