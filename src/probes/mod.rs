//! What libvirt is asked: one file for each kind of question.
//!
//! A probe declares what it is about, when it is due and what its call may wait for; its file has the libvirt calls. When
//! a call is made, by which worker, and what follows if it hangs is decided in `collect`, for all probes alike.

mod addresses;
mod control;
mod definitions;
mod inactive;
mod info;
mod listing;
mod session;
mod stats;

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

pub use session::{ConnectInfo, DomainFilter, Outcome, Session, Task};

use crate::config::Config;
use crate::libvirt::{Access, LibvirtError, Records};

/// How long a call of a probe may take that sets no limit of its own.
const USUAL_LIMIT: Duration = Duration::from_secs(5);

/// Lists the domains.
pub static LISTING: Probe = listing::PROBE;
/// Statistics of running domains.
pub static STATS: Probe = stats::PROBE;
/// Statistics of domains that are shut off.
pub static INACTIVE: Probe = inactive::PROBE;
/// Basic facts, for drivers without bulk statistics.
pub static INFO: Probe = info::PROBE;
/// Definitions of domains.
pub static DEFINITIONS: Probe = definitions::PROBE;
/// Addresses of domains.
pub static ADDRESSES: Probe = addresses::PROBE;

/// The probes that are asked beside the collections, those first that go before others.
pub static BACKGROUND: &[&Probe] = &[&ADDRESSES, &DEFINITIONS];

/// A kind of question.
pub struct Probe {
    /// For labels and logs.
    pub name: &'static str,
    /// What one call is about.
    pub scope: Scope,
    /// When it is due.
    pub cadence: Cadence,
    /// What a call may have to wait for within the daemon.
    pub waits_for: WaitsFor,
    /// The connection that it needs.
    pub access: fn(&Config) -> Access,
    /// When a call has taken so long that it is left alone. Of probes that a collection waits for, its deadline decides.
    pub time_limit: fn(&Config) -> Duration,
    /// Asks; `None` where the tasks of the probe carry more than a subject.
    pub fetch: Option<Fetch>,
}

/// Asks about a subject. Gives typed parameters as bulk statistics have them: a record for each object, with its name and
/// UUID.
pub type Fetch = fn(&mut Session, Subject) -> Result<Records, LibvirtError>;

impl Probe {
    /// The usual declaration: every collection, read-only, five seconds.
    const fn new(name: &'static str, scope: Scope, waits_for: WaitsFor) -> Self {
        let (access, time_limit) = (read_only, usual_limit);
        Self { name, scope, cadence: Cadence::Collection, waits_for, access, time_limit, fetch: None }
    }
}

fn read_only(_: &Config) -> Access {
    Access::ReadOnly
}

fn usual_limit(_: &Config) -> Duration {
    USUAL_LIMIT
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// What one call of a probe is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The host, or all of its objects of a kind.
    Host,
    /// One domain.
    Domain,
    /// One domain that runs.
    RunningDomain,
    /// Several running domains.
    Batch,
}

/// When a probe is due.
#[derive(Debug, Clone, Copy)]
pub enum Cadence {
    /// In every collection.
    Collection,
    /// When events, records or time ask for it.
    Demand,
    /// Again and again beside the collections.
    Background {
        /// The time from one call about a subject to the next, which is spread; `None` turns the probe off.
        every: fn(&Config) -> Option<Duration>,
        /// The time from one call to the next about another subject.
        pace: fn(&Config) -> Duration,
    },
}

/// What a call may have to wait for within the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// Nothing: only a daemon that is frozen does not answer.
    Nothing,
    /// The host: its storage, its network.
    Host,
    /// The domain's job, which other calls may hold: a domain in quarantine is not asked.
    Job,
    /// The domain's hypervisor: likewise, and a call that hangs is evidence against its domain.
    Hypervisor,
}

/// What a call of a background probe is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The host.
    Host,
    /// This domain.
    Domain(Uuid),
}

impl Subject {
    /// The domain, where it is one.
    #[must_use]
    pub fn domain(self) -> Option<Uuid> {
        match self {
            Self::Host => None,
            Self::Domain(uuid) => Some(uuid),
        }
    }
}
