//! A thread that owns one connection and does one task after the other; whoever gave the task keeps the time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, mpsc};

use uuid::Uuid;

use super::coordinator::Message;
use crate::libvirt::{
    Connection, ControlState, Domain, DomainSelection, ErrorClass, Identity, LibvirtError, ParamValue, Records,
    StatsRequest, Versions,
};

/// The number of a worker; never used twice.
pub(super) type WorkerId = u64;

/// Names that are wanted.
pub(super) type NameFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What a worker can be asked to do.
#[derive(Clone)]
pub(super) enum Task {
    /// List the running and paused domains, and say the control states of some.
    List { control: Vec<Uuid> },
    /// Say the control states of these domains.
    Control(Vec<Uuid>),
    /// Fetch the statistics of these domains.
    Stats { domains: Vec<Uuid>, request: StatsRequest },
    /// Fetch the statistics of all domains of a selection, by name.
    Bulk { request: StatsRequest, wanted: NameFilter },
    /// Fetch the basic facts of all domains, for drivers without bulk statistics.
    Info { inactive: bool, wanted: NameFilter },
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List { control } => write!(f, "List({})", control.len()),
            Self::Control(domains) => write!(f, "Control({})", domains.len()),
            Self::Stats { domains, request } => write!(f, "Stats({}, {request:?})", domains.len()),
            Self::Bulk { request, .. } => write!(f, "Bulk({request:?})"),
            Self::Info { inactive, .. } => write!(f, "Info(inactive: {inactive})"),
        }
    }
}

/// What came of a task.
#[derive(Debug)]
pub(super) enum Outcome {
    Listed { domains: Vec<Identity>, control: Vec<(Uuid, ControlState)> },
    Controlled(Vec<(Uuid, ControlState)>),
    Records(Records),
}

/// What the thread is started with.
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) uri: String,
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
        let opened = Connection::open(&self.uri, on_close).and_then(|connection| {
            let versions = connection.versions()?;
            Ok((connection, versions))
        });
        let (connection, versions) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.tell(Message::Opened(id, Err(error))),
        };
        self.tell(Message::Opened(id, Ok(versions)));
        // Handles hold references to the connection: they are dropped before it.
        let mut desk = Desk { connection, handles: HashMap::new() };
        while let Ok((job, task)) = self.tasks.recv() {
            let outcome = desk.perform(task);
            let broken = !desk.connection.is_alive();
            self.tell(Message::Done { worker: id, job, outcome });
            if broken {
                break;
            }
        }
        desk.handles.clear();
        self.tell(Message::Ended(id));
    }

    fn tell(&self, message: Message) {
        // Nobody listens while the process ends.
        let _gone = self.messages.send(message);
    }
}

/// The connection with the handles of the domains that it has been asked about.
struct Desk {
    connection: Connection,
    handles: HashMap<Uuid, Domain>,
}

impl Desk {
    fn perform(&mut self, task: Task) -> Result<Outcome, LibvirtError> {
        match task {
            Task::List { control } => {
                self.refresh()?;
                let control = self.control_states(&control)?;
                let domains = self.handles.values().map(Domain::identity).collect();
                Ok(Outcome::Listed { domains, control })
            }
            Task::Control(domains) => Ok(Outcome::Controlled(self.control_states(&domains)?)),
            Task::Stats { domains, request } => {
                self.find(&domains)?;
                let mut records = Records::default();
                let handles = domains.iter().filter_map(|uuid| self.handles.get(uuid));
                self.connection.fetch_stats_of(handles, request, &mut records)?;
                Ok(Outcome::Records(records))
            }
            Task::Bulk { request, wanted } => {
                let mut records = Records::default();
                self.connection.fetch_stats(request, |name| wanted(name), &mut records)?;
                Ok(Outcome::Records(records))
            }
            Task::Info { inactive, wanted } => self.basic_facts(inactive, &wanted).map(Outcome::Records),
        }
    }

    /// Takes handles of all running domains, and lets those of others go.
    fn refresh(&mut self) -> Result<(), LibvirtError> {
        let domains = self.connection.list_domains(DomainSelection::Active)?;
        self.handles = domains.into_iter().map(|domain| (domain.uuid(), domain)).collect();
        Ok(())
    }

    /// Makes sure of handles; a domain that does not exist any more stays without one. Many that are missing cost one
    /// listing, a few a look-up each.
    fn find(&mut self, domains: &[Uuid]) -> Result<(), LibvirtError> {
        const FEW: usize = 4;
        let is_missing = |desk: &Self, uuid: &Uuid| !desk.handles.contains_key(uuid);
        if domains.iter().filter(|uuid| is_missing(self, uuid)).count() > FEW {
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

    /// Of the domains that were listed last. One that has stopped has no control state, and is left out.
    fn control_states(&self, domains: &[Uuid]) -> Result<Vec<(Uuid, ControlState)>, LibvirtError> {
        let mut states = Vec::with_capacity(domains.len());
        for uuid in domains {
            let Some(domain) = self.handles.get(uuid) else { continue };
            match domain.control_state(&self.connection) {
                Ok(state) => states.push((*uuid, state)),
                Err(error) if error.class == ErrorClass::Disconnected => return Err(error),
                Err(_) => {}
            }
        }
        Ok(states)
    }

    /// The basic facts under the keys that bulk statistics have for them.
    fn basic_facts(&self, inactive: bool, wanted: &NameFilter) -> Result<Records, LibvirtError> {
        let mut records = Records::default();
        let selection = if inactive { DomainSelection::Inactive } else { DomainSelection::Active };
        for domain in self.connection.list_domains(selection)? {
            let identity = domain.identity();
            if !wanted(&identity.name) {
                continue;
            }
            let info = match domain.info(&self.connection) {
                Ok(info) => info,
                Err(error) if error.class == ErrorClass::Disconnected => return Err(error),
                Err(_) => continue,
            };
            records.push_domain(&identity.name, identity.uuid, identity.id);
            records.push("state.state", ParamValue::Int(info.state));
            records.push("cpu.time", ParamValue::ULLong(info.cpu_time_nanos));
            records.push("balloon.current", ParamValue::ULLong(info.memory_kib));
            records.push("balloon.maximum", ParamValue::ULLong(info.maximum_kib));
            records.push("vcpu.current", ParamValue::UInt(info.vcpus));
        }
        Ok(records)
    }
}

/// What came of opening a connection.
pub(super) type Opened = Result<Versions, LibvirtError>;
