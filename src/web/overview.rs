//! What the landing page shows besides version and links.

use std::time::{Duration, SystemTime};

use crate::collect::SelectionTiming;
use crate::config::Group;

/// What the landing page shows besides version and links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overview {
    /// The state of the connection to libvirt.
    pub connection: Connection,
    /// The URI of the libvirt daemon, without secrets.
    pub uri: String,
    /// How many domains are in which state; states that no domain is in may be missing.
    pub domains: Vec<(&'static str, u64)>,
    /// Domains that are excluded from the calls that need their QEMU.
    pub quarantined: Vec<Quarantined>,
    /// When the last collection ended, and how long it took.
    pub last: Option<(SystemTime, Duration)>,
    /// How long the collections of each selection took, the slowest first.
    pub timings: Vec<SelectionTiming>,
    /// How the last round of each probe went, by its name.
    pub probes: Vec<Probe>,
    /// How many parameters each group has in the last collection, the largest group first.
    pub groups: Vec<(Group, usize)>,
    /// The targets of `/probe`, by name.
    pub targets: Vec<Target>,
    /// How the last push over OTLP went.
    pub push: Option<Push>,
    /// When the exporter started.
    pub started: Option<SystemTime>,
    /// Why the configuration files as they are now are not in effect.
    pub config_fault: Option<String>,
}

/// The state of the connection to libvirt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Connection {
    /// No collection has been requested.
    #[default]
    NotTried,
    /// There is no local daemon.
    None,
    /// The last collection was good.
    Good {
        /// The daemon's version.
        daemon: String,
        /// The driver and the hypervisor's version.
        hypervisor: String,
    },
    /// It was not.
    Bad {
        /// One sentence why.
        error: String,
        /// What an operator can do about it.
        remedy: String,
    },
}

/// A domain that is excluded from the calls that need its QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name.
    pub domain: String,
    /// One sentence why.
    pub reason: String,
    /// Since when.
    pub since: SystemTime,
}

/// A daemon that `/probe` can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The URI, without secrets.
    pub uri: String,
    /// The state of the connections to it.
    pub state: TargetState,
}

/// The state of the connections to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// There are none: it has not been probed recently.
    Closed,
    /// The last collection was good, and found so many domains.
    Good(u64),
    /// It was not.
    Bad {
        /// One sentence why.
        error: String,
        /// What an operator can do about it.
        remedy: String,
    },
    /// The first collection is under way.
    Opening,
}

/// The last round of a kind of question to libvirt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// From its first call to its last answer.
    pub took: Duration,
    /// Whether each call was answered.
    pub success: bool,
}

/// A push over OTLP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Where it went.
    pub url: String,
    /// When it was made, and how long it took.
    pub last: (SystemTime, Duration),
    /// How many points were taken.
    pub points: usize,
    /// Why it did not arrive as a whole.
    pub fault: Option<String>,
}
