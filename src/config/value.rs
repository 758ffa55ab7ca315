//! Settings that have a form of their own, each parsed from text at load time.

use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};

use super::error::ValueError;

/// A value that is one text in YAML. Parsing inside the visitor is what gives an error its line and column.
pub(super) fn deserialize_text<'de, D, T>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
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

/// The path that a page is served at, which is none of those that are always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePath(String);

impl PagePath {
    /// For defaults, which the author of this program has checked.
    pub(super) fn of(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// The path's text, which starts with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for PagePath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PagePath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let path = text.to_owned();
        let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
        if !path.starts_with('/') || !path.bytes().all(in_path) {
            Err(ValueError::Path { path })
        } else if path == "/" || path == "/-" || path.starts_with("/-/") {
            Err(ValueError::PathTaken { path })
        } else {
            Ok(Self(path))
        }
    }
}

scalar!(PagePath, "a URL path");
