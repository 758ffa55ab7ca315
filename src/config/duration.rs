//! Serde for a duration such as `8s`: more than zero, at most an hour.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserializer, Serializer};

use super::error::ValueError;
use super::value::deserialize_text;

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

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserialize_text(deserializer, "a duration").map(|Parsed(duration)| duration)
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}
