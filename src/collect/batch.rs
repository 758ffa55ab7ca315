//! A batch: domains that are asked for in one call, and what of them.

use std::time::Instant;

use uuid::Uuid;

use super::MissingReason;
use crate::libvirt::StatsGroups;
use crate::probes::CollectionProbe;

/// What a batch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everything, of running domains, without waiting for one whose job another client holds.
    Full,
    /// The same of one domain, waiting for its job.
    Wait,
    /// Everything, of domains whose job a stuck call of ours holds: libvirt gives what needs no monitor at once.
    BehindStuckCall,
    /// What needs no hypervisor, of running domains.
    WithoutMonitor,
    /// Domains that are shut off.
    Inactive,
    /// Basic facts of all running domains, or of those that are shut off.
    Info { inactive: bool },
}

impl Kind {
    /// The probe whose call it is.
    pub(super) fn probe(self) -> CollectionProbe {
        match self {
            Self::Full | Self::Wait | Self::BehindStuckCall | Self::WithoutMonitor => CollectionProbe::Stats,
            Self::Inactive => CollectionProbe::Inactive,
            Self::Info { .. } => CollectionProbe::Info,
        }
    }
}

/// Domains that are asked for in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) kind: Kind,
    pub(super) groups: StatsGroups,
    /// Empty where the call is about all domains.
    pub(super) domains: Vec<Uuid>,
    /// How often it has been asked without an answer.
    pub(super) attempts: u8,
    /// Whether its domains are asked again for what earlier records lack.
    pub(super) again: bool,
    /// Why a domain lacks groups once this batch has been answered.
    pub(super) reason: MissingReason,
}

impl Batch {
    pub(super) fn new(kind: Kind, groups: StatsGroups, domains: Vec<Uuid>) -> Self {
        Self { kind, groups, domains, attempts: 0, again: false, reason: MissingReason::Busy }
    }
}

/// A batch that a worker is asking for.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) batch: Batch,
    pub(super) since: Instant,
    /// How often it has been looked into for taking so long.
    pub(super) checks: u32,
}
