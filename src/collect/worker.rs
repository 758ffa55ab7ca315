//! A thread that owns one connection and does one task after the other; whoever gave the task keeps the time.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, mpsc};

use uuid::Uuid;

use super::coordinator::Message;
use super::shape::{Shapes, shapes_of};
use crate::config::MetadataLabels;
use crate::domains::{
    Addresses, DefinitionError, Flags, Inbox, Listing, Metadata, RunState, fingerprint, parse_definition,
};
use crate::libvirt::{
    Access, AddressSource, Connection, ControlState, Domain, DomainList, ErrorClass, Identity, LibvirtError, OpenGuard,
    ParamValue, Records, StatsGroups, StatsRequest, Versions,
};

/// Most interfaces that a domain is known by, and most addresses of each.
const MOST_ADDRESSES: usize = 64;

/// The number of a worker; never used twice.
pub(super) type WorkerId = u64;

/// Which domains of a bulk reply are wanted.
pub(super) type DomainFilter = Arc<dyn Fn(&str, Uuid) -> bool + Send + Sync>;

/// What a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Listens to events, and asks for what never waits for a hypervisor. Its connection stands for the link.
    Control,
    /// Fetches statistics.
    Stats,
    /// Reads definitions and addresses.
    Reader(Access),
}

/// What a worker can be asked to do.
#[derive(Clone)]
pub(super) enum Task {
    /// List all domains.
    List,
    /// Say the control states of these domains.
    Control(Vec<Uuid>),
    /// Fetch the statistics of these domains.
    Stats { domains: Vec<Uuid>, request: StatsRequest },
    /// Fetch the statistics of all domains of a selection.
    Bulk { request: StatsRequest, wanted: DomainFilter },
    /// Fetch the basic facts of all domains that belong to these groups, for drivers without bulk statistics.
    Info { inactive: bool, groups: StatsGroups, wanted: DomainFilter },
    /// Read the definition of a domain, unless it is the one with the fingerprint that is `known`.
    Define { uuid: Uuid, labels: Arc<MetadataLabels>, known: Option<u64> },
    /// Look up the addresses of a domain at these sources, in their order.
    Locate { uuid: Uuid, sources: Vec<AddressSource> },
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => write!(f, "List"),
            Self::Control(domains) => write!(f, "Control({})", domains.len()),
            Self::Stats { domains, request } => write!(f, "Stats({}, {request:?})", domains.len()),
            Self::Bulk { request, .. } => write!(f, "Bulk({request:?})"),
            Self::Info { inactive, .. } => write!(f, "Info(inactive: {inactive})"),
            Self::Define { uuid, .. } => write!(f, "Define({uuid})"),
            Self::Locate { uuid, sources } => write!(f, "Locate({uuid}, {sources:?})"),
        }
    }
}

/// What came of a task.
#[derive(Debug)]
pub(super) enum Outcome {
    Listed(Listing),
    Controlled(Vec<(Uuid, ControlState)>),
    Records(Records, Shapes),
    Defined(Result<Metadata, DefinitionError>),
    /// The definition is the one that was known.
    Unchanged,
    Located(Option<Addresses>),
}

/// What the thread is started with.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) role: Role,
    pub(super) uri: String,
    /// Ends the open that the thread begins with.
    pub(super) guard: OpenGuard,
    /// Where events go.
    pub(super) inbox: Arc<Inbox>,
    pub(super) tasks: mpsc::Receiver<(u64, Task)>,
    pub(super) messages: mpsc::Sender<Message>,
}

impl Worker {
    /// Connects, then works until the tasks end or the connection breaks. What happens is told by messages; when nobody
    /// listens any more there is nobody to work for.
    pub(super) fn run(self) {
        let messages = self.messages.clone();
        let id = self.id;
        let on_close = move || drop(messages.send(Message::Closed(id)));
        let access = if let Role::Reader(access) = self.role { access } else { Access::ReadOnly };
        let opened = Connection::open_guarded(&self.uri, access, &self.guard, on_close).and_then(|connection| {
            let greeting = self.greet(&connection)?;
            Ok((connection, greeting))
        });
        let (connection, greeting) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.tell(Message::Opened(id, Err(error))),
        };
        self.tell(Message::Opened(id, Ok(greeting)));
        let _farewell = Farewell { id, messages: self.messages.clone() };
        let mut desk = Desk { handles: HashMap::new(), connection, listed: 0 };
        while let Ok((job, task)) = self.tasks.recv() {
            let outcome = desk.perform(task, &|| self.tell(Message::Alive(id)));
            let broken = !desk.connection.is_alive();
            self.tell(Message::Done { worker: id, job, outcome });
            if broken {
                break;
            }
        }
    }

    /// Whoever listens to events does so before the domains are listed: what happens in between is then not missed.
    fn greet(&self, connection: &Connection) -> Result<Greeting, LibvirtError> {
        let versions = connection.versions()?;
        if self.role != Role::Control {
            return Ok(Greeting { versions, ..Greeting::default() });
        }
        let (inbox, messages) = (Arc::clone(&self.inbox), self.messages.clone());
        let sink = move |event| {
            if inbox.push(event) {
                // Nobody listens while the process ends.
                let _gone = messages.send(Message::Events);
            }
        };
        let watched = connection.watch_events(Arc::new(sink))?;
        // A driver that does not tell the host's name is no worse for that.
        let hostname = connection.hostname().unwrap_or_default();
        Ok(Greeting { versions, hostname, unknown_events: watched.unknown })
    }

    fn tell(&self, message: Message) {
        // Nobody listens while the process ends.
        let _gone = self.messages.send(message);
    }
}

/// Tells that a thread has ended, even if it panicked: nobody is to wait for it.
struct Farewell {
    id: WorkerId,
    messages: mpsc::Sender<Message>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        // Nobody listens while the process ends.
        let _gone = self.messages.send(Message::Ended(self.id));
    }
}

/// The connection with the handles of the domains that it has been asked about.
struct Desk {
    /// They hold references to the connection, and are dropped before it.
    handles: HashMap<Uuid, Domain>,
    connection: Connection,
    /// How many domains there were when they were listed last.
    listed: usize,
}

impl Desk {
    fn perform(&mut self, task: Task, alive: &dyn Fn()) -> Result<Outcome, LibvirtError> {
        match task {
            Task::List => self.list(alive).map(Outcome::Listed),
            Task::Control(domains) => self.control_states(&domains, alive).map(Outcome::Controlled),
            Task::Stats { domains, request } => {
                self.find(&domains)?;
                let mut records = Records::default();
                let handles = domains.iter().filter_map(|uuid| self.handles.get(uuid));
                self.connection.fetch_stats_of(handles, request, &mut records)?;
                let shapes = shapes_of(&records);
                if shapes.domains.len() < domains.len() {
                    let answered: HashSet<Uuid> = shapes.domains.iter().map(|shape| shape.uuid).collect();
                    // libvirt leaves out domains that have vanished.
                    let vanished = domains.iter().filter(|uuid| !answered.contains(uuid));
                    vanished.for_each(|uuid| drop(self.handles.remove(uuid)));
                }
                Ok(Outcome::Records(records, shapes))
            }
            Task::Bulk { request, wanted } => {
                let mut records = Records::default();
                self.connection.fetch_stats(request, |name, uuid| wanted(name, uuid), &mut records)?;
                let shapes = shapes_of(&records);
                Ok(Outcome::Records(records, shapes))
            }
            Task::Info { inactive, groups, wanted } => {
                let records = self.basic_facts(inactive, groups, &wanted)?;
                let shapes = shapes_of(&records);
                Ok(Outcome::Records(records, shapes))
            }
            Task::Define { uuid, labels, known } => {
                let domain = self.connection.lookup_domain(uuid)?;
                let xml = domain.xml_description(&self.connection)?;
                let fingerprint = fingerprint(&xml, &labels);
                if known == Some(fingerprint) {
                    return Ok(Outcome::Unchanged);
                }
                let parsed = parse_definition(&xml, &labels);
                Ok(Outcome::Defined(parsed.map(|metadata| Metadata { fingerprint, ..metadata })))
            }
            Task::Locate { uuid, sources } => self.addresses(uuid, &sources).map(Outcome::Located),
        }
    }

    /// All domains, what they do, and what libvirt keeps about them: a call for each flag, however many domains there are.
    /// Each that ends is a sign that the daemon is `alive`.
    fn list(&self, alive: &dyn Fn()) -> Result<Listing, LibvirtError> {
        let with = |list: DomainList| -> Result<HashSet<Uuid>, LibvirtError> {
            let domains = self.connection.list_domains(list)?;
            alive();
            Ok(domains.iter().map(Domain::uuid).collect())
        };
        let all: Vec<Identity> = self.connection.list_domains(DomainList::All)?.iter().map(Domain::identity).collect();
        alive();
        let (paused, other) = (with(DomainList::Paused)?, with(DomainList::Other)?);
        let (persistent, autostart) = (with(DomainList::Persistent)?, with(DomainList::Autostart)?);
        let managed_save = with(DomainList::ManagedSave)?;
        let (snapshots, checkpoints) = (with(DomainList::HasSnapshot)?, with(DomainList::HasCheckpoint)?);
        let describe = |identity: Identity| {
            let uuid = &identity.uuid;
            let state = match identity.id {
                _ if other.contains(uuid) => RunState::Other,
                None => RunState::ShutOff,
                Some(_) if paused.contains(uuid) => RunState::Paused,
                Some(_) => RunState::Running,
            };
            let flags = Flags {
                autostart: autostart.contains(uuid),
                persistent: persistent.contains(uuid),
                managed_save: managed_save.contains(uuid),
                has_snapshots: snapshots.contains(uuid),
                has_checkpoints: checkpoints.contains(uuid),
            };
            (identity, state, flags)
        };
        let host = self.connection.host();
        Ok(Listing { domains: all.into_iter().map(describe).collect(), host })
    }

    /// The addresses from the first source that knows any. A source that this driver does not have knows none; one that
    /// fails may know some.
    fn addresses(&self, uuid: Uuid, sources: &[AddressSource]) -> Result<Option<Addresses>, LibvirtError> {
        let domain = self.connection.lookup_domain(uuid)?;
        let mut failure = None;
        for &source in sources {
            match domain.addresses(&self.connection, source) {
                Ok(mut interfaces) => {
                    interfaces.retain(|interface| !interface.addresses.is_empty());
                    // A guest agent can tell of any number.
                    interfaces.truncate(MOST_ADDRESSES);
                    interfaces.iter_mut().for_each(|interface| interface.addresses.truncate(MOST_ADDRESSES));
                    if !interfaces.is_empty() {
                        return Ok(Some(Addresses { source, interfaces }));
                    }
                }
                Err(error) if error.class == ErrorClass::Disconnected => return Err(error),
                Err(error) if error.class == ErrorClass::NotSupported => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
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
    fn find(&mut self, domains: &[Uuid]) -> Result<(), LibvirtError> {
        const FEW: usize = 4;
        // Domains that came and went between two collections leave their handles behind.
        const MANY_STALE: usize = 64;
        let is_missing = |desk: &Self, uuid: &Uuid| !desk.handles.contains_key(uuid);
        let many_stale = self.handles.len() > 2 * self.listed + MANY_STALE;
        if many_stale || domains.iter().filter(|uuid| is_missing(self, uuid)).count() > FEW {
            self.refresh()?;
        }
        for uuid in domains {
            if is_missing(self, uuid) {
                match self.connection.lookup_domain(*uuid) {
                    Ok(domain) => drop(self.handles.insert(*uuid, domain)),
                    Err(error) if error.class == ErrorClass::VanishedDomain => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// A domain that has stopped has no control state, and is left out. Each part of the answer is a sign that the daemon is
    /// `alive`.
    fn control_states(
        &mut self,
        domains: &[Uuid],
        alive: &dyn Fn(),
    ) -> Result<Vec<(Uuid, ControlState)>, LibvirtError> {
        const PART: usize = 64;
        self.find(domains)?;
        let mut states = Vec::with_capacity(domains.len());
        for (number, uuid) in domains.iter().enumerate() {
            if number % PART == PART - 1 {
                alive();
            }
            let Some(domain) = self.handles.get(uuid) else { continue };
            match domain.control_state(&self.connection) {
                Ok(state) => states.push((*uuid, state)),
                Err(error) if error.class == ErrorClass::Disconnected => return Err(error),
                Err(_) => {}
            }
        }
        Ok(states)
    }

    /// The basic facts of these groups, under the keys that bulk statistics have for them.
    fn basic_facts(&self, inactive: bool, groups: StatsGroups, wanted: &DomainFilter) -> Result<Records, LibvirtError> {
        let mut records = Records::default();
        let list = if inactive { DomainList::Inactive } else { DomainList::Active };
        for domain in self.connection.list_domains(list)? {
            let identity = domain.identity();
            if !wanted(&identity.name, identity.uuid) {
                continue;
            }
            let info = match domain.info(&self.connection) {
                Ok(info) => info,
                Err(error) if error.class == ErrorClass::Disconnected => return Err(error),
                Err(_) => continue,
            };
            records.push_domain(&identity.name, identity.uuid, identity.id);
            for (group, key, value) in [
                (StatsGroups::STATE, "state.state", ParamValue::Int(info.state)),
                (StatsGroups::CPU_TOTAL, "cpu.time", ParamValue::ULLong(info.cpu_time_nanos)),
                (StatsGroups::BALLOON, "balloon.current", ParamValue::ULLong(info.memory_kib)),
                (StatsGroups::BALLOON, "balloon.maximum", ParamValue::ULLong(info.maximum_kib)),
                (StatsGroups::VCPU, "vcpu.current", ParamValue::UInt(info.vcpus)),
            ] {
                if groups.contains(group) {
                    records.push(key, value);
                }
            }
        }
        Ok(records)
    }
}

/// What came of opening a connection.
pub(super) type Opened = Result<Greeting, LibvirtError>;

/// What is known of a daemon once connected; what only the control worker asks for is empty for others.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    pub(super) versions: Versions,
    pub(super) hostname: String,
    /// Events that library or daemon do not know.
    pub(super) unknown_events: Vec<&'static str>,
}
