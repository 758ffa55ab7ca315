//! Serde for a duration such as `8s`: from the least that its key takes, in milliseconds, to an hour.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserializer, Serializer};

use super::error::ValueError;
use super::value::{deserialize_text, scalar};

const LONGEST: Duration = Duration::from_secs(3600);

/// Zero, which turns something off, needs no unit.
fn parse(text: &str, least: Duration) -> Result<Duration, ValueError> {
    let duration = humantime::parse_duration(text).ok().or_else(|| (text == "0").then_some(Duration::ZERO));
    duration.filter(|duration| (least..=LONGEST).contains(duration)).ok_or_else(|| out_of_range(text, least))
}

fn out_of_range(text: &str, least: Duration) -> ValueError {
    let written = |duration| humantime::format_duration(duration).to_string();
    ValueError::Duration { text: text.to_owned(), least: written(least), most: written(LONGEST) }
}

/// A duration as a type, for keys that need not have a value: at least 100 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    const LEAST: Duration = Duration::from_millis(100);

    /// From a number of milliseconds, as OpenTelemetry's environment variables have it.
    pub(super) fn from_millis(text: &str) -> Result<Self, ValueError> {
        let number = u64::from_str(text).map_err(|_| ValueError::Milliseconds { text: text.to_owned() })?;
        let duration = Duration::from_millis(number);
        if !(Self::LEAST..=LONGEST).contains(&duration) {
            return Err(out_of_range(&format!("{text} ms"), Self::LEAST));
        }
        Ok(Self(duration))
    }
}

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
        parse(text, Self::LEAST).map(Self)
    }
}

scalar!(Span, "a duration such as `8s`");

pub(in crate::config) fn from_ms<'de, D: Deserializer<'de>, const LEAST: u64>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    struct Parsed<const LEAST: u64>(Duration);

    impl<const LEAST: u64> FromStr for Parsed<LEAST> {
        type Err = ValueError;

        fn from_str(text: &str) -> Result<Self, ValueError> {
            parse(text, Duration::from_millis(LEAST)).map(Self)
        }
    }

    deserialize_text(deserializer, "a duration such as `8s`").map(|Parsed::<LEAST>(duration)| duration)
}

pub(in crate::config) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}
