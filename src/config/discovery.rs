//! The section `service_discovery`.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::list::List;
use super::regex::AnchoredRegex;
use super::value::PagePath;
use super::word::{ActiveState, AddressFamily, DiscoverySource};
use super::{count, duration};

/// The guests themselves as targets for Prometheus (`http_sd_configs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `service_discovery`")]
pub struct ServiceDiscovery {
    /// Whether there is any.
    pub enabled: bool,
    /// The path that the targets are served at.
    pub path: PagePath,
    /// The port of a guest whose metadata names none.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// The states in which a domain is a target.
    pub states: List<ActiveState>,
    /// Who is asked for addresses, one after the other until one knows any.
    pub sources: List<DiscoverySource>,
    /// Which of a guest's addresses are scraped.
    pub address_family: AddressFamily,
    /// Only interfaces on a network or bridge whose name matches one of these; all if the list is empty.
    pub networks: Vec<AnchoredRegex>,
    /// How long addresses are good.
    #[serde(deserialize_with = "duration::from_ms::<_, 1_000>", serialize_with = "duration::serialize")]
    pub refresh_interval: Duration,
}

impl Default for ServiceDiscovery {
    fn default() -> Self {
        Self {
            enabled: false,
            path: PagePath::of("/sd"),
            port: 9100,
            states: List::of([ActiveState::Running]),
            sources: List::of([DiscoverySource::Lease, DiscoverySource::Arp]),
            address_family: AddressFamily::Any,
            networks: Vec::new(),
            refresh_interval: Duration::from_secs(60),
        }
    }
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let port = count::up_to::<_, 65535>(deserializer)?;
    u16::try_from(port).map_err(D::Error::custom)
}
