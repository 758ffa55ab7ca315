//! What libvirt is asked: one file for each kind of question, which has the libvirt calls.
//!
//! What is asked beside the collections is a [`Probe`]: it declares what it is about, when it is due and what its call may wait
//! for. When a call is made, by which worker, and what follows if it hangs is decided in `collect`, for all probes alike. What
//! collections wait for themselves has a name alone ([`CollectionProbe`]).

mod addresses;
mod control;
mod definitions;
mod disk_errors;
mod guest;
mod host;
mod inactive;
mod info;
mod job;
mod listing;
mod network;
mod paced;
mod pool;
mod session;
mod snapshot;
mod stats;

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

pub use session::{ConnectInfo, DomainFilter, Outcome, Part, Session, Shared, Task};

use crate::config::{Config, Group};
use crate::domains::Domain;
use crate::libvirt::{Access, ErrorClass, EventKind, LibvirtError, ObjectKind, Records};
use crate::tables::Table;

/// How long a call of a probe may take unless the probe sets a limit.
const USUAL_LIMIT: Duration = Duration::from_secs(5);

/// Definitions of domains.
pub static DEFINITIONS: Probe = definitions::PROBE;
/// Addresses of domains.
pub static ADDRESSES: Probe = addresses::PROBE;
/// Jobs of domains.
pub static JOB: Probe = job::PROBE;
/// Snapshots and checkpoints of domains.
pub static SNAPSHOT: Probe = snapshot::PROBE;

/// All probes, those first that go before others.
pub static BACKGROUND: &[&Probe] = &[
    &ADDRESSES,
    &DEFINITIONS,
    &host::PROBE,
    &pool::PROBE,
    &network::PROBE,
    &JOB,
    &disk_errors::PROBE,
    &SNAPSHOT,
    &guest::PROBE,
];

/// The metrics of a group: those of a probe are declared with it, all others with their group.
pub(crate) fn table_of(group: Group) -> &'static Table {
    let of_group = BACKGROUND.iter().filter(|probe| probe.group == Some(group));
    of_group.filter_map(|probe| probe.table).next().unwrap_or_else(|| &group.info().table)
}

/// A kind of question that collections wait for, in labels and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectionProbe {
    /// Which domains there are.
    Listing,
    /// Statistics of running domains.
    Stats,
    /// Statistics of domains that are shut off.
    Inactive,
    /// Basic facts, for drivers without bulk statistics.
    Info,
}

impl CollectionProbe {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listing => "listing",
            Self::Stats => "stats",
            Self::Inactive => "inactive_stats",
            Self::Info => "info",
        }
    }
}

/// A kind of question that is asked in the background.
pub struct Probe {
    /// For labels and logs.
    pub name: &'static str,
    /// The group of statistics that its records belong to: it is asked while that is collected. `None` where it serves
    /// something else.
    pub group: Option<Group>,
    /// The metrics of that group; `None` where the group has them itself, as one of libvirt's.
    pub(crate) table: Option<&'static Table>,
    /// What one call is about.
    pub scope: Scope,
    /// The time from one call about a subject to the next, which is spread; `None` where nothing but a demand leads to one.
    pub interval: fn(&Config) -> Option<Duration>,
    /// The time from one call to the next about another subject.
    pub pace: fn(&Config) -> Duration,
    /// What a call may have to wait for within the daemon.
    pub waits_for: WaitsFor,
    /// The connection that it needs.
    pub access: fn(&Config) -> Access,
    /// After how long a call is abandoned.
    pub time_limit: fn(&Config) -> Duration,
    /// Whether there is anything to ask about a domain.
    pub applies: fn(&Domain) -> bool,
    /// What a background worker is given to do about a subject; [`Task::Ask`] unless it needs more than that.
    pub task: fn(&Asked<'_>) -> Task,
    /// What it comes to that nothing could be had about a subject.
    pub failed: fn(ErrorClass) -> Outcome,
    /// The time to the next call about a subject of which this has been read, where that is not the usual one.
    pub meanwhile: fn(&Records) -> Option<Duration>,
    /// Whether an event of a domain is a reason to ask about it at once.
    pub follows: fn(&EventKind) -> bool,
    /// The objects whose changes are a reason to ask about them at once.
    pub watches: Option<ObjectKind>,
    /// Asks about a subject, for [`Task::Ask`].
    pub fetch: Fetch,
    /// Lists what there is to ask about, for [`Scope::Object`].
    pub list: List,
}

/// Asks about a subject. Gives typed parameters as bulk statistics have them: a record for each object, with its name and
/// UUID; that of the host has neither.
pub type Fetch = fn(&mut Session, Subject) -> Result<Records, LibvirtError>;

/// Gives the UUIDs of the host's objects of a kind.
pub type List = fn(&mut Session) -> Result<Vec<Uuid>, LibvirtError>;

/// What a probe is to ask about, and what its task may depend on.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The probe.
    pub probe: &'static Probe,
    /// The subject.
    pub subject: Subject,
    /// The domain, if the subject is one.
    pub domain: Option<&'a Domain>,
    /// The configuration.
    pub config: &'a Config,
    /// Whether a guest agent may be asked: over such a connection, and as the domain's hypervisor answers.
    pub agent: bool,
}

impl Probe {
    /// The usual declaration: on demand, read-only, five seconds, and no more than a subject to say.
    const fn new(name: &'static str, scope: Scope, waits_for: WaitsFor) -> Self {
        Self {
            name,
            group: None,
            table: None,
            scope,
            interval: |_| None,
            pace: |_| Duration::ZERO,
            waits_for,
            access: |_| Access::ReadOnly,
            time_limit: |_| USUAL_LIMIT,
            applies: |_| true,
            task: |asked| Task::Ask(asked.probe, asked.subject),
            failed: |_| Outcome::Nothing,
            meanwhile: |_| None,
            follows: |_| false,
            watches: None,
            fetch: |_, _| Ok(Records::default()),
            list: |_| Ok(Vec::new()),
        }
    }

    /// A probe whose records are those of `group`, asked about each subject at this interval.
    pub(crate) const fn of_group(
        group: Group,
        scope: Scope,
        waits_for: WaitsFor,
        interval: fn(&Config) -> Option<Duration>,
    ) -> Self {
        Self { group: Some(group), interval, ..Self::new(group.as_str(), scope, waits_for) }
    }

    /// The time from one call about a subject to the next; `None` where nothing but a demand leads to one, or the probe is
    /// off.
    #[must_use]
    pub fn every(&self, config: &Config) -> Option<Duration> {
        (self.interval)(config).filter(|_| self.is_wanted(config))
    }

    /// Whether the configuration has the group that the probe serves.
    #[must_use]
    pub fn is_wanted(&self, config: &Config) -> bool {
        self.group.is_none_or(|group| config.collection.groups.contains(&group))
    }
}

/// The answer, unless this driver has none or not now. Of a connection that has broken nothing more is asked.
fn had<T>(answer: Result<T, LibvirtError>) -> Result<Option<T>, LibvirtError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.class == ErrorClass::Disconnected => Err(error),
        Err(_) => Ok(None),
    }
}

/// The answer, or nothing where the driver does not have the call.
fn supported<T: Default>(answer: Result<T, LibvirtError>) -> Result<T, LibvirtError> {
    match answer {
        Err(error) if error.class == ErrorClass::NotSupported => Ok(T::default()),
        answer => answer,
    }
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
    /// One object of the host, such as a storage pool. One that hangs keeps no other from being asked about. A call about
    /// the host lists them.
    Object,
    /// One domain.
    Domain,
    /// One domain that runs.
    RunningDomain,
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

/// What a call of a probe is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The host.
    Host,
    /// This object of the host.
    Object(Uuid),
    /// This domain.
    Domain(Uuid),
}

impl Subject {
    /// The domain, where it is one.
    #[must_use]
    pub fn domain(self) -> Option<Uuid> {
        match self {
            Self::Host | Self::Object(_) => None,
            Self::Domain(uuid) => Some(uuid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Source;

    #[test]
    fn each_group_of_a_probe_has_its_metrics_from_one_probe() {
        for group in Group::ALL {
            let tables = BACKGROUND.iter().filter(|probe| probe.group == Some(*group)).filter_map(|probe| probe.table);
            let is_of_probe = group.info().source == Source::Probe;
            assert_eq!(tables.count(), usize::from(is_of_probe), "{group}");
            assert!(!is_of_probe || table_of(*group).group == Some(*group), "the table of {group}");
            for key in table_of(*group).rows.iter().flat_map(|row| row.keys) {
                assert_eq!(Group::of_key(key), Some(*group), "{key}");
            }
            assert!(!is_of_probe || !table_of(*group).rows.is_empty(), "{group} has no metric");
        }
    }
}
