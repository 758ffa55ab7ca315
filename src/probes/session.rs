//! A connection with what is kept along with it, and the tasks that it can be given.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use super::paced::Paced;
use super::{
    ADDRESSES, CollectionProbe, DEFINITIONS, Probe, Scope, Subject, addresses, control, definitions, had, inactive,
    info, listing, stats,
};
use crate::config::{Intervals, MetadataLabels};
use crate::domains::{Addresses, DefinitionError, DefinitionFailure, Listing, Metadata};
use crate::hypervisor::{FromHost, HostFiles};
use crate::libvirt::{
    AddressSource, Connection, ControlState, Domain, DomainList, ErrorClass, KeyLists, LibvirtError, ObjectKind,
    ObjectSink, Records, StatsGroups, StatsRequest, Versions,
};

/// Which domains of a bulk reply are wanted.
pub type DomainFilter = Arc<dyn Fn(&str, Uuid) -> bool + Send + Sync>;

/// What a session can be asked to do.
#[derive(Clone)]
pub enum Task {
    /// List all domains.
    List,
    /// See whether the daemon answers.
    Ping,
    /// Say the control states of these domains.
    Control(Vec<Uuid>),
    /// Fetch the statistics of these domains.
    Stats {
        /// The domains.
        domains: Vec<Uuid>,
        /// What of them libvirt may be asked for.
        request: StatsRequest,
        /// What of them is read from the host's files where these are believed.
        from_host: FromHost,
        /// How often some groups are asked for.
        intervals: Intervals,
        /// Whether missing handles may come from a listing, which waits for every domain whose lock is held.
        may_list: bool,
    },
    /// Fetch the statistics of all domains that are shut off.
    Inactive {
        /// What of them.
        request: StatsRequest,
        /// Which of them.
        wanted: DomainFilter,
    },
    /// Fetch the basic facts of all domains that belong to these groups.
    Info {
        /// Whether of those that are shut off, or of those that run.
        inactive: bool,
        /// What of them.
        groups: StatsGroups,
        /// Which of them.
        wanted: DomainFilter,
    },
    /// Read the definition of a domain, unless it is the one with the fingerprint that is `known`.
    Define {
        /// The domain.
        uuid: Uuid,
        /// Labels that the configuration takes from the definition.
        labels: Arc<MetadataLabels>,
        /// The fingerprint of the definition in hand.
        known: Option<u64>,
    },
    /// Look up the addresses of a domain at these sources, in their order.
    Locate {
        /// The domain.
        uuid: Uuid,
        /// Where to look.
        sources: Vec<AddressSource>,
    },
    /// Ask what a probe asks that needs no more than a subject.
    Ask(&'static Probe, Subject),
}

impl Task {
    /// The name of the probe whose task it is, or `control` for what the scheduler asks for itself.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::List => CollectionProbe::Listing.as_str(),
            Self::Ping | Self::Control(_) => "control",
            Self::Stats { .. } => CollectionProbe::Stats.as_str(),
            Self::Inactive { .. } => CollectionProbe::Inactive.as_str(),
            Self::Info { .. } => CollectionProbe::Info.as_str(),
            Self::Define { .. } => DEFINITIONS.name,
            Self::Locate { .. } => ADDRESSES.name,
            Self::Ask(probe, _) => probe.name,
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Control(domains) => write!(f, "{name}({})", domains.len()),
            Self::Stats { domains, request, .. } => write!(f, "{name}({}, {request:?})", domains.len()),
            Self::Inactive { request, .. } => write!(f, "{name}({request:?})"),
            Self::Info { inactive, .. } => write!(f, "{name}(inactive: {inactive})"),
            Self::Define { uuid, .. } => write!(f, "{name}({uuid})"),
            Self::Locate { uuid, sources } => write!(f, "{name}({uuid}, {sources:?})"),
            Self::Ask(_, subject) => write!(f, "{name}({subject:?})"),
            Self::List => write!(f, "{name}"),
            Self::Ping => f.write_str("ping"),
        }
    }
}

/// What came of a task.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Task::List`].
    Listed(Listing),
    /// Of [`Task::Control`]: a state for each domain that has one.
    Controlled(Vec<(Uuid, ControlState)>),
    /// Of a task that asks for statistics or basic facts, and of [`Task::Ask`].
    Records(Records),
    /// Of [`Task::Define`].
    Defined(Result<Arc<Metadata>, DefinitionError>),
    /// Of [`Task::Define`]: the definition is the one that was known.
    Unchanged,
    /// Of a definition that could not be read.
    Undefined(DefinitionFailure),
    /// Of [`Task::Locate`].
    Located(Option<Addresses>),
    /// Of addresses that could not be looked up.
    NotLocated,
    /// Of [`Task::Ask`] about the host, where that lists objects.
    Objects(Vec<Uuid>),
    /// Of [`Task::Ping`], and of any other task that failed.
    Nothing,
}

/// What has been answered of a task of several calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One more call.
    Call,
    /// The control state of a domain, if it has one: the next of [`Task::Control`].
    State(Uuid, Option<ControlState>),
}

/// What the daemon reports about itself once connected; what only the control connection asks for is empty for others.
#[derive(Debug, Default)]
pub struct ConnectInfo {
    /// The versions behind the connection.
    pub versions: Versions,
    /// The host's name.
    pub hostname: String,
    /// Events that library or daemon do not know.
    pub unknown_events: Vec<&'static str>,
}

/// What all sessions have in common.
#[derive(Debug, Default)]
pub struct Shared {
    pub(super) host: HostFiles,
    pub(super) paced: Paced,
    keys: KeyLists,
}

impl Shared {
    /// For the sessions of the daemon that is the `target` of this name in the log.
    #[must_use]
    pub fn of(target: Option<String>) -> Self {
        Self { host: HostFiles::of(target), ..Self::default() }
    }
}

/// A connection with the handles of the domains that it has been asked about.
pub struct Session {
    /// They hold references to the connection, and are dropped before it.
    pub(super) handles: HashMap<Uuid, Domain>,
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    /// How many domains there were when they were listed last.
    listed: usize,
    /// Told of changes of the host's objects.
    objects: ObjectSink,
    /// Those whose changes it is told of, if the daemon can tell.
    watched: BTreeSet<ObjectKind>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Session {
    /// Over this connection; `objects` is told of changes of storage pools and networks once these are asked about.
    #[must_use]
    pub fn new(connection: Connection, shared: Arc<Shared>, objects: ObjectSink) -> Self {
        Self { handles: HashMap::new(), connection, shared, listed: 0, objects, watched: BTreeSet::new() }
    }

    /// Has changes of the host's objects of a kind told. Not over the connection for control: the daemon may have them from
    /// another one, which hangs. Where they cannot be told, they are seen when the objects are next read.
    pub(super) fn watch(&mut self, kind: ObjectKind) -> Result<(), LibvirtError> {
        if self.watched.insert(kind) {
            had(self.connection.watch_objects(kind, &self.objects))?;
        }
        Ok(())
    }

    /// Whether the connection stands.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.connection.is_alive()
    }

    /// Does a task; may take any time. `told` is called whenever one of several calls has ended.
    ///
    /// # Errors
    /// Of any class.
    pub fn perform(&mut self, task: Task, told: &dyn Fn(Part)) -> Result<Outcome, LibvirtError> {
        let mut outcome = self.answer(task, told)?;
        if let Outcome::Records(records) = &mut outcome {
            records.settle(&self.shared.keys);
        }
        Ok(outcome)
    }

    fn answer(&mut self, task: Task, told: &dyn Fn(Part)) -> Result<Outcome, LibvirtError> {
        match task {
            Task::List => listing::fetch(self, &|| told(Part::Call)).map(Outcome::Listed),
            Task::Ping => self.connection.ping().map(|()| Outcome::Nothing),
            Task::Control(domains) => control::fetch(self, &domains, told).map(Outcome::Controlled),
            Task::Stats { domains, request, from_host, intervals, may_list } => {
                self.find(&domains, may_list)?;
                stats::fetch(self, &domains, request, from_host, intervals).map(Outcome::Records)
            }
            Task::Inactive { request, wanted } => inactive::fetch(self, request, &wanted).map(Outcome::Records),
            Task::Info { inactive, groups, wanted } => {
                info::fetch(self, inactive, groups, &wanted).map(Outcome::Records)
            }
            Task::Define { uuid, labels, known } => definitions::fetch(self, uuid, &labels, known),
            Task::Locate { uuid, sources } => addresses::fetch(self, uuid, &sources).map(Outcome::Located),
            Task::Ask(probe, Subject::Host) if probe.scope == Scope::Object => (probe.list)(self).map(Outcome::Objects),
            Task::Ask(probe, subject) => (probe.fetch)(self, subject).map(Outcome::Records),
        }
    }

    /// The handle of one domain. Most calls about a domain need no look-up before them.
    pub(super) fn domain(&mut self, uuid: Uuid) -> Result<(&Domain, &Connection), LibvirtError> {
        self.look_up(uuid)?;
        let domain = self.handles.get(&uuid);
        let vanished = || LibvirtError::own("cannot look up a domain", ErrorClass::VanishedDomain, "it does not exist");
        domain.map(|domain| (domain, &self.connection)).ok_or_else(vanished)
    }

    /// Takes handles of all running domains, and lets those of others go.
    fn refresh(&mut self) -> Result<(), LibvirtError> {
        let domains = self.connection.list_domains(DomainList::Active)?;
        self.handles = domains.into_iter().map(|domain| (domain.uuid(), domain)).collect();
        self.listed = self.handles.len();
        Ok(())
    }

    /// Makes sure of handles; a domain that does not exist any more stays without one. Many that are missing cost one
    /// listing, a few a look-up each.
    fn find(&mut self, domains: &[Uuid], may_list: bool) -> Result<(), LibvirtError> {
        const FEW: usize = 4;
        // Domains that came and went between two collections leave their handles behind.
        const MANY_STALE: usize = 64;
        let is_missing = |session: &Self, uuid: &Uuid| !session.handles.contains_key(uuid);
        let many_stale = self.handles.len() > 2 * self.listed + MANY_STALE;
        if may_list && (many_stale || domains.iter().filter(|uuid| is_missing(self, uuid)).count() > FEW) {
            self.refresh()?;
        }
        domains.iter().try_for_each(|uuid| self.look_up(*uuid))
    }

    /// Makes sure of the handle of one domain, and looks at no other.
    pub(super) fn look_up(&mut self, uuid: Uuid) -> Result<(), LibvirtError> {
        if self.handles.contains_key(&uuid) {
            return Ok(());
        }
        match self.connection.lookup_domain(uuid) {
            Ok(domain) => drop(self.handles.insert(uuid, domain)),
            Err(error) if error.class == ErrorClass::VanishedDomain => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
