//! `collection.intervals`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// How often groups that change seldom are asked for; zero is in every collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of groups, such as `iothread: 5m`")]
pub struct Intervals {
    /// I/O threads.
    #[serde(deserialize_with = "duration::from_ms::<_, 0>", serialize_with = "duration::serialize")]
    pub iothread: Duration,
    /// Dirty rates.
    #[serde(deserialize_with = "duration::from_ms::<_, 0>", serialize_with = "duration::serialize")]
    pub dirtyrate: Duration,
    /// KVM's statistics of the domain, some of which are counters.
    #[serde(deserialize_with = "duration::from_ms::<_, 0>", serialize_with = "duration::serialize")]
    pub vm: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { iothread: Duration::from_secs(5 * 60), dirtyrate: Duration::from_secs(60), vm: Duration::ZERO }
    }
}
