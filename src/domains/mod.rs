//! Who exists: the domains of one connection, kept current by events, with what their definitions say.
//!
//! Events arrive in an [`Inbox`] and are applied to the [`Registry`]; a listing replaces its picture now and then. Definitions
//! are parsed into [`Metadata`]. Nothing here calls libvirt or has a thread: `collect` drives it.

mod counts;
mod images;
mod inbox;
mod lifecycle;
mod located;
mod metadata;
mod registry;
mod selection;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

pub use counts::{DomainCounts, HostCounts, JobCounts, JobTimes, ObjectCounts, Times};
pub use images::{ImageKeys, TopImage};
pub use inbox::{Arrived, Inbox};
pub use lifecycle::STOPPED_ARRIVING;
pub use located::{Located, located_addresses};
pub use metadata::{
    Agent, Allowance, DefinitionError, DefinitionFailure, Disk, Interface, Limits, Metadata, ScrapeTarget, fingerprint,
    parse_definition,
};
pub(crate) use metadata::{count_cpus, parse_xml, tree};
pub use registry::{Companion, Consequences, Listing, Registry};
pub use snapshot::{SnapshotInfo, parse_snapshot};

pub use crate::libvirt::{AddressSource, InterfaceAddresses};

use serde::Serialize;
use uuid::Uuid;

use crate::libvirt::{Identity, Versions};

/// The state of a domain, as a listing or a lifecycle event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PowerState {
    /// It runs.
    Running,
    /// It is started and stands still.
    Paused,
    /// It is defined and not started.
    ShutOff,
    /// Something rarer: crashed, suspended by its guest, shutting down.
    Other,
}

/// What libvirt keeps about a domain beside its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Flags {
    /// It starts with the host.
    pub autostart: bool,
    /// It is defined, and will be there when it is shut off.
    pub persistent: bool,
    /// It has a saved image to start from.
    pub managed_save: bool,
    /// It has snapshots.
    pub has_snapshots: bool,
    /// It has checkpoints.
    pub has_checkpoints: bool,
}

/// How far the reading of a domain's definition is.
#[derive(Debug, Clone, PartialEq)]
pub enum Definition {
    /// It has not been read yet.
    Pending,
    /// What it said when it was last read.
    Known(Arc<Metadata>),
    /// It could not be read, and why.
    Failed(DefinitionFailure),
}

/// The addresses of a domain, from the first source that knew any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Where they were seen.
    pub source: AddressSource,
    /// By interface; none has no addresses.
    pub interfaces: Vec<InterfaceAddresses>,
}

/// One domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Name, UUID and the id of this incarnation.
    pub identity: Identity,
    /// What it does.
    pub state: PowerState,
    /// What libvirt keeps about it; `None` until it has been listed.
    pub flags: Option<Flags>,
    /// When this process first saw it.
    pub first_seen: SystemTime,
    /// When this incarnation began, if that was seen as an event.
    pub started: Option<SystemTime>,
    /// When its guest booted: with this incarnation, or at an unknown time before it moved here or was restored.
    pub booted: Option<SystemTime>,
    /// When devices were attached in this incarnation, by alias.
    pub attached: BTreeMap<String, SystemTime>,
    /// The parsed domain XML.
    pub definition: Definition,
    /// Whether its guest agent is connected; `None` where it has no channel for one.
    pub agent_connected: Option<bool>,
    /// Its event counters.
    pub counts: Arc<DomainCounts>,
    /// Its addresses; the outer `None` until they have been looked up, the inner one if there are none.
    pub addresses: Option<Option<Arc<Addresses>>>,
    /// Whether the configuration wants it exported.
    pub selected: bool,
}

impl PowerState {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::ShutOff => "shutoff",
            Self::Other => "other",
        }
    }
}

impl AddressSource {
    /// Its name, as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Arp => "arp",
            Self::Agent => "agent",
        }
    }
}

impl Domain {
    fn new(identity: Identity, first_seen: SystemTime) -> Self {
        let state = if identity.id.is_some() { PowerState::Running } else { PowerState::ShutOff };
        Self {
            identity,
            state,
            flags: None,
            first_seen,
            started: None,
            booted: None,
            attached: BTreeMap::new(),
            definition: Definition::Pending,
            agent_connected: None,
            counts: Arc::default(),
            addresses: None,
            selected: false,
        }
    }

    /// Another incarnation: its hypervisor began at `started`, and its guest's kernel at `booted`.
    fn begin_incarnation(&mut self, started: Option<SystemTime>, booted: Option<SystemTime>) {
        (self.started, self.booted) = (started, booted);
        self.attached.clear();
    }

    /// The parsed domain XML, if it has been read.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.definition {
            Definition::Known(metadata) => Some(metadata),
            Definition::Pending | Definition::Failed(_) => None,
        }
    }

    /// Whether the domain runs or is paused.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.identity.id.is_some()
    }
}

/// All domains at one moment, selected or not, by UUID; and what has been counted on the way.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The domains in the order of their UUIDs.
    pub domains: Arc<[Arc<Domain>]>,
    /// Events by kind, of all domains that are or were.
    pub counts: Arc<HostCounts>,
    /// Listings by what caused them.
    pub resyncs: BTreeMap<&'static str, u64>,
    /// Events that were lost because more came than could be held.
    pub events_dropped: u64,
    /// Selected domains whose definition has not been read yet.
    pub metadata_pending: usize,
    /// Definitions that could not be read, by why.
    pub metadata_failures: BTreeMap<DefinitionFailure, u64>,
    /// Selected domains that libvirt lists but does not let this user read: they have no samples.
    pub unreadable: Vec<Uuid>,
    /// The host's name, as libvirt has it.
    pub hostname: String,
    /// What the daemon and its hypervisor are, once there was a connection.
    pub versions: Option<Versions>,
}

impl Snapshot {
    /// Whether the image with a number is in the image chain of a domain's disk; `None` if that chain is not known.
    #[must_use]
    pub fn is_in_chain(&self, uuid: Uuid, disk: &str, image: u32) -> Option<bool> {
        let place = self.domains.binary_search_by_key(&uuid, |domain| domain.identity.uuid).ok()?;
        let disks = &self.domains[place].metadata()?.disks;
        let chain = disks.iter().find(|known| known.device == disk)?.chain.as_ref()?;
        Some(chain.contains(&image))
    }
}
