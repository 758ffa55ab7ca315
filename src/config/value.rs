//! Settings with their own syntax, each parsed from text at load time.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
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

/// [`scalar!`] for a type that wraps its text, and gives it back.
macro_rules! text {
    ($name:ident, $expected:expr) => {
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        $crate::config::value::scalar!($name, $expected);
    };
}
pub(super) use text;

/// Serde for the path of a file, or none.
pub(super) fn file_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    struct FilePath(PathBuf);

    impl FromStr for FilePath {
        type Err = ValueError;

        fn from_str(text: &str) -> Result<Self, ValueError> {
            // Empty, it would be the folder that paths are relative to.
            if text.is_empty() { Err(ValueError::EmptyPath) } else { Ok(Self(text.into())) }
        }
    }

    impl<'de> Deserialize<'de> for FilePath {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserialize_text(deserializer, "the path of a file")
        }
    }

    Ok(Option::<FilePath>::deserialize(deserializer)?.map(|FilePath(path)| path))
}

/// Serde for names with their values, none of them empty.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Text(String);

    impl FromStr for Text {
        type Err = ValueError;

        fn from_str(text: &str) -> Result<Self, ValueError> {
            if text.is_empty() { Err(ValueError::EmptyText) } else { Ok(Self(text.to_owned())) }
        }
    }

    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserialize_text(deserializer, "a text")
        }
    }

    let texts = BTreeMap::<Text, Text>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(|(name, value)| (name.0, value.0)).collect())
}

/// The path that a page is served at, which is none of those that are always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagePath(String);

impl PagePath {
    /// For defaults, which the author of this program has checked.
    pub(super) fn of(path: &str) -> Self {
        Self(path.to_owned())
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

text!(PagePath, "a URL path");
