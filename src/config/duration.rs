//! Serde for a duration such as `8s`: more than zero, at most an hour.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserializer, Serializer};

use super::error::ValueError;
use super::value::{deserialize_text, scalar};

const LONGEST: Duration = Duration::from_secs(3600);

struct Parsed(Duration);

impl FromStr for Parsed {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let duration = humantime::parse_duration(text).map_err(|_| ValueError::Duration { text: text.to_owned() })?;
        if duration.is_zero() || duration > LONGEST {
            return Err(ValueError::DurationRange { text: text.to_owned() });
        }
        Ok(Self(duration))
    }
}

/// Such a duration as a type, for keys that need not have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(Duration);

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&humantime::format_duration(self.0), f)
    }
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(|Parsed(duration)| Self(duration))
    }
}

scalar!(Span, "a duration");

pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserialize_text(deserializer, "a duration").map(|Parsed(duration)| duration)
}

pub(in crate::config) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Likewise, but zero is a duration too, which turns something off.
pub(super) mod or_zero {
    use serde::de::Error as _;

    pub(in crate::config) use super::serialize;
    use super::{Deserializer, Duration, LONGEST, ValueError, deserialize_text};

    struct Parsed(Duration);

    impl std::str::FromStr for Parsed {
        type Err = ValueError;

        fn from_str(text: &str) -> Result<Self, ValueError> {
            let duration = humantime::parse_duration(text).ok().or_else(|| (text == "0").then_some(Duration::ZERO));
            duration.map(Self).ok_or_else(|| ValueError::Duration { text: text.to_owned() })
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let Parsed(duration) = deserialize_text(deserializer, "a duration")?;
        if duration > LONGEST {
            let text = humantime::format_duration(duration).to_string();
            return Err(D::Error::custom(ValueError::DurationRange { text }));
        }
        Ok(duration)
    }
}
