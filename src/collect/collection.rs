//! What a collection found.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::quarantine::Quarantined;
use super::reading::Reading;
use crate::config::Group;
use crate::domains::Snapshot;
use crate::libvirt::{Identity, LibvirtError, Records, Versions};

/// What one collection found.
#[derive(Debug, Clone)]
pub struct Collection {
    /// The records that arrived, a batch each.
    pub batches: Vec<Arc<Records>>,
    /// How many parameters of each group are in them; those of no group are not counted.
    pub parameters: BTreeMap<Group, usize>,
    /// The running and paused domains, by UUID; also those without a record.
    pub domains: Vec<DomainStatus>,
    /// The versions behind the connection, once there has been one.
    pub versions: Option<Versions>,
    /// When the collection ended.
    pub at: SystemTime,
    /// The same moment on the clock that is never set.
    pub ended: Instant,
    /// How long it took.
    pub duration: Duration,
    /// Calls for statistics that it took.
    pub calls: usize,
    /// Who exists, with definitions and what has happened; without domains where there is an error.
    pub snapshot: Arc<Snapshot>,
    /// What the background probes found about the host and its domains.
    pub readings: Vec<Reading>,
    /// Why libvirt could not be asked.
    pub error: Option<LibvirtError>,
}

impl Collection {
    /// The records of all batches.
    #[must_use]
    pub fn records(&self) -> Vec<&Records> {
        self.batches.iter().map(AsRef::as_ref).collect()
    }

    /// From its beginning to its end: its values are from between.
    #[must_use]
    pub fn span(&self) -> Range<Instant> {
        self.ended.checked_sub(self.duration).unwrap_or(self.ended)..self.ended
    }

    /// One that has found nothing: `ended` is the moment `at`.
    #[must_use]
    pub fn empty(at: SystemTime, ended: Instant) -> Self {
        Self {
            batches: Vec::new(),
            parameters: BTreeMap::new(),
            domains: Vec::new(),
            versions: None,
            at,
            ended,
            duration: Duration::ZERO,
            calls: 0,
            snapshot: Arc::default(),
            readings: Vec::new(),
            error: None,
        }
    }

    pub(super) fn failed(error: LibvirtError, duration: Duration) -> Self {
        Self { duration, error: Some(error), ..Self::empty(SystemTime::now(), Instant::now()) }
    }
}

/// How a running domain fared in a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainStatus {
    /// Who it is.
    pub identity: Identity,
    /// What has not arrived of all that was asked for.
    pub missing: Option<Missing>,
    /// Since when and why it is quarantined.
    pub quarantined: Option<Quarantined>,
}

impl DomainStatus {
    /// Whether all that was asked for has arrived, what needs its hypervisor included.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_none()
    }
}

/// What a collection lacks of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The groups that are not there, or not all of them.
    pub groups: BTreeSet<Group>,
    /// Why.
    pub reason: MissingReason,
}

/// Why a collection lacks statistics of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingReason {
    /// Another client or a job of libvirt, such as a dump, held the domain each time that it was asked.
    Busy,
    /// The domain is in quarantine.
    Quarantined,
    /// No answer came before the deadline.
    Deadline,
    /// libvirt answered with an error, or left the group out although it had the domain's job.
    Refused,
    /// As many calls as may be at a time wait for other domains that do not answer.
    StuckCalls,
}

impl MissingReason {
    /// For labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Quarantined => "quarantined",
            Self::Deadline => "deadline",
            Self::Refused => "refused",
            Self::StuckCalls => "stuck_calls",
        }
    }
}
