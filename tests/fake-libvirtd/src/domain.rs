//! A domain of a scenario: identity, state, definition and where its parameters come from.

use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use crate::params::{self, Value};
use crate::stats::Encoded;
use crate::template::{Stat, Subject, Template, fnv};

/// `virDomainState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainState {
    /// No state.
    NoState,
    /// Running.
    Running,
    /// Blocked on a resource.
    Blocked,
    /// Paused.
    Paused,
    /// Being shut down.
    Shutdown,
    /// Shut off.
    Shutoff,
    /// Crashed.
    Crashed,
    /// Suspended by the guest's power management.
    PmSuspended,
}

impl DomainState {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::NoState,
        Self::Running,
        Self::Blocked,
        Self::Paused,
        Self::Shutdown,
        Self::Shutoff,
        Self::Crashed,
        Self::PmSuspended,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::NoState => 0,
            Self::Running => 1,
            Self::Blocked => 2,
            Self::Paused => 3,
            Self::Shutdown => 4,
            Self::Shutoff => 5,
            Self::Crashed => 6,
            Self::PmSuspended => 7,
        }
    }

    /// Whether a domain in this state has a QEMU, and so an id.
    #[must_use]
    pub fn is_active(self) -> bool {
        !matches!(self, Self::Shutoff | Self::Crashed)
    }

    /// The reason that stands with the state where none is named.
    pub(crate) fn usual_reason(self) -> i32 {
        match self {
            Self::NoState | Self::Blocked | Self::PmSuspended => 0,
            _ => 1,
        }
    }
}

/// A metadata element of a domain's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The namespace.
    pub uri: String,
    /// The element, with the namespace declared.
    pub xml: String,
}

/// The job of a domain, as `virDomainGetJobStats` answers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// `virDomainJobType`: 1 bounded, 2 unbounded, 3 completed, 4 failed, 5 cancelled.
    pub kind: i32,
    /// The statistics.
    pub params: Vec<(String, Value)>,
}

/// A snapshot or a checkpoint of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The name.
    pub name: String,
    /// The one that it follows.
    pub parent: Option<String>,
    /// When it was made, in seconds of Unix time.
    pub created: i64,
    /// Of a snapshot, whether it is in separate files.
    pub external: bool,
    /// Of a snapshot, whether the domain's disks go on from it.
    pub current: bool,
    /// The XML to serve instead of the one made from all the above.
    pub xml: Option<String>,
}

impl Node {
    /// A tree of one, which is current.
    #[must_use]
    pub fn only(name: &str) -> Vec<Self> {
        vec![Self { name: name.to_owned(), current: true, ..Self::default() }]
    }
}

/// What a guest agent says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agent {
    /// What `virDomainGetGuestInfo` answers, all types of it.
    pub info: Vec<(String, Value)>,
    /// What `virDomainGetGuestVcpus` answers; the agent does not know the question where it is empty.
    pub vcpus: Vec<(String, Value)>,
    /// The guest's clock, in seconds of Unix time.
    pub seconds: i64,
}

/// An interface of a guest with its addresses, as `virDomainInterfaceAddresses` answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The name of the tap device.
    pub name: String,
    /// The MAC address.
    pub hwaddr: String,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(String, u32)>,
}

/// Where the parameters of a domain come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// They are made from a template.
    Template(Arc<Template>),
    /// They are served as they stand.
    Params(Arc<Vec<(String, Value)>>),
}

/// A domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// The name.
    pub name: String,
    /// The UUID.
    pub uuid: Uuid,
    /// The id of the current run; `None` while there is no QEMU.
    pub id: Option<u32>,
    /// The state.
    pub state: DomainState,
    /// The reason, whose meaning depends on the state.
    pub reason: i32,
    /// Whether the domain outlives its QEMU.
    pub persistent: bool,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// Whether it has a managed save image.
    pub managed_save: bool,
    /// Its snapshots.
    pub snapshots: Vec<Node>,
    /// Its checkpoints.
    pub checkpoints: Vec<Node>,
    /// The title.
    pub title: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Further metadata elements, beside those the template asks for.
    pub metadata: Vec<Metadata>,
    /// The job it has, if any.
    pub job: Option<Job>,
    /// The disks with an I/O error, each with its `virDomainDiskErrorCode`.
    pub disk_errors: Vec<(String, i32)>,
    /// The interfaces with addresses from DHCP; one per NIC of the template where this is `None`.
    pub interfaces: Option<Vec<Interface>>,
    /// The interfaces in the host's table of neighbours; those from DHCP where this is `None`.
    pub neighbours: Option<Vec<Interface>>,
    /// The interfaces that the guest agent tells of; it does not answer where this is `None`.
    pub agent_interfaces: Option<Vec<Interface>>,
    /// What else the guest agent says; it does not answer where this is `None`.
    pub agent: Option<Agent>,
    /// The definition to serve instead of the one made from all the above.
    pub xml: Option<String>,
    /// What libvirt warns of it, each with its `virDomainMessageType`.
    pub messages: Vec<(u32, String)>,
    /// The parameters.
    pub source: Source,
    /// The number of the first tap device (`vnet<N>`), unique on the host.
    pub first_tap: u32,
}

impl Domain {
    /// A running, persistent domain made from a template. Its UUID follows from its name; its id is given when it joins
    /// a scenario or daemon, unless [`Domain::with_id`] sets one.
    #[must_use]
    pub fn new(name: impl Into<String>, template: impl Into<Arc<Template>>) -> Self {
        Self::from_source(name.into(), Source::Template(template.into()))
    }

    /// A domain that serves the parameters of a golden file as they are. Its state is that of `state.state`.
    #[must_use]
    pub fn golden(golden: params::Domain) -> Self {
        let int = |wanted: &str| {
            golden.params.iter().find_map(|(key, value)| match value {
                Value::Int(value) if key == wanted => Some(*value),
                _ => None,
            })
        };
        let by_id = match golden.id {
            Some(_) => DomainState::Running,
            None => DomainState::Shutoff,
        };
        let state = int("state.state")
            .and_then(|state| usize::try_from(state).ok())
            .and_then(|state| DomainState::ALL.get(state).copied())
            .unwrap_or(by_id);
        let reason = int("state.reason").unwrap_or_else(|| state.usual_reason());
        Self {
            uuid: golden.uuid,
            id: golden.id,
            state,
            reason,
            ..Self::from_source(golden.name, Source::Params(Arc::new(golden.params)))
        }
    }

    fn from_source(name: String, source: Source) -> Self {
        Self {
            uuid: uuid_of(&name),
            name,
            id: None,
            state: DomainState::Running,
            reason: DomainState::Running.usual_reason(),
            persistent: true,
            autostart: false,
            managed_save: false,
            snapshots: Vec::new(),
            checkpoints: Vec::new(),
            title: None,
            description: None,
            metadata: Vec::new(),
            job: None,
            disk_errors: Vec::new(),
            interfaces: None,
            neighbours: None,
            agent_interfaces: None,
            agent: None,
            xml: None,
            messages: Vec::new(),
            source,
            first_tap: 0,
        }
    }

    /// The domain with this id.
    #[must_use]
    pub fn with_id(mut self, id: u32) -> Self {
        self.id = Some(id);
        self
    }

    /// The domain in this state, with the state's usual reason. A state without a QEMU takes the id away.
    #[must_use]
    pub fn with_state(mut self, state: DomainState) -> Self {
        self.set_state(state, state.usual_reason());
        self
    }

    /// Whether the domain has a QEMU.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state.is_active()
    }

    /// Changes state and reason; golden parameters follow.
    pub fn set_state(&mut self, state: DomainState, reason: i32) {
        (self.state, self.reason) = (state, reason);
        if !state.is_active() {
            self.id = None;
        }
        if let Source::Params(params) = &mut self.source {
            for (key, value) in Arc::make_mut(params) {
                match key.as_str() {
                    "state.state" => *value = Value::Int(state.number()),
                    "state.reason" => *value = Value::Int(reason),
                    _ => {}
                }
            }
        }
    }

    /// The template, for a domain that has one.
    #[must_use]
    pub fn template(&self) -> Option<&Template> {
        match &self.source {
            Source::Template(template) => Some(template),
            Source::Params(_) => None,
        }
    }

    /// The parameters of all groups in the order in which they are served, before the scenario's clock has moved. With
    /// `backing` every layer of a disk is among them.
    #[must_use]
    pub fn params(&self, backing: bool) -> Vec<(String, Value)> {
        self.stats(backing).into_iter().map(|stat| (stat.key, stat.value)).collect()
    }

    /// The parameters with their speed of growth.
    pub(crate) fn stats(&self, backing: bool) -> Vec<Stat> {
        match &self.source {
            Source::Template(template) => template.stats(&Subject {
                name: &self.name,
                active: self.is_active(),
                state: (self.state.number(), self.reason),
                backing,
                first_tap: self.first_tap,
            }),
            Source::Params(params) => params
                .iter()
                .map(|(key, value)| Stat { key: key.clone(), value: value.clone(), per_second: 0 })
                .collect(),
        }
    }
}

/// The UUID that a domain of this name gets.
#[must_use]
pub fn uuid_of(name: &str) -> Uuid {
    let high = fnv(name.as_bytes());
    let low = fnv(&high.to_be_bytes()) ^ fnv(name.chars().rev().collect::<String>().as_bytes());
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// A domain of a running daemon: unchangeable, with its parameters encoded once, at the first call that needs them.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) domain: Domain,
    plain: OnceLock<Encoded>,
    backing: OnceLock<Encoded>,
}

impl Entry {
    pub(crate) fn new(domain: Domain) -> Self {
        Self { domain, plain: OnceLock::new(), backing: OnceLock::new() }
    }

    pub(crate) fn encoded(&self, backing: bool) -> &Encoded {
        let place = if backing { &self.backing } else { &self.plain };
        place.get_or_init(|| Encoded::new(&self.domain.stats(backing)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Domain, DomainState, uuid_of};
    use crate::params::{self, Value};
    use std::collections::HashSet;

    #[test]
    fn every_name_has_a_uuid_of_its_own() {
        let uuids: HashSet<_> = (0..20_000).map(|n| uuid_of(&format!("vm-{n}"))).collect();
        assert_eq!(uuids.len(), 20_000);
        assert_eq!(uuid_of("vm-1"), uuid_of("vm-1"));
    }

    #[test]
    fn the_parameters_of_a_golden_domain_follow_its_state() {
        let golden = params::Domain {
            name: "vm".to_owned(),
            uuid: uuid_of("vm"),
            id: Some(3),
            params: vec![("state.state".to_owned(), Value::Int(3))],
        };
        let mut domain = Domain::golden(golden);
        assert_eq!(domain.state, DomainState::Paused);
        domain.set_state(DomainState::Shutoff, 2);
        assert_eq!(domain.id, None);
        assert_eq!(domain.stats(false)[0].value, Value::Int(5));
    }
}
