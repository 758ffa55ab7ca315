//! The parsed domain XML.
//!
//! A definition is written by a user who may define domains, and its metadata by users of a management system: `bounds`
//! refuses what would be expensive to parse, and whatever is wrong beyond that is missing from the [`Metadata`], no more.

mod bounds;
mod device;
mod failure;
mod limits;
mod owner;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use foldhash::fast::FixedState;
use roxmltree::{Document, ParsingOptions};
use serde::Serialize;
use thiserror::Error;

use crate::config::{MetadataLabels, escape_controls};
use crate::libvirt::Messages;
pub use failure::DefinitionFailure;
pub(crate) use limits::count_cpus;
pub use limits::{Allowance, Limits};
use tree::{attribute_at, find, text_at, value_of};

/// Most elements, texts and comments of a definition.
const MOST_NODES: u32 = 200_000;
/// Longest piece of a definition that an error repeats, in bytes.
const MOST_FAULT: usize = 200;

/// What a domain's definition (`virDomainGetXMLDesc`) says; what it does not say is empty or `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Metadata {
    /// `title`
    pub title: String,
    /// `description`
    pub description: String,
    /// `os/type`: `hvm`, `exe`, ...
    pub os_type: String,
    /// `os/type/@arch`
    pub arch: String,
    /// `os/type/@machine`
    pub machine: String,
    /// libosinfo's id of the operating system.
    pub os: String,
    /// `devices/emulator`
    pub emulator: String,
    /// `memory`, in bytes.
    pub memory_bytes: Option<u64>,
    /// `vcpu`, the most that there can be.
    pub vcpus: Option<u32>,
    /// `domain/@type`: `kvm`, `qemu`, `lxc`, ...
    pub virt_type: String,
    /// `iothreads`, 0 where there is none.
    pub iothreads: u32,
    /// `devices/disk`
    pub disks: Vec<Disk>,
    /// `devices/interface`
    pub interfaces: Vec<Interface>,
    /// The channel of the guest agent, where there is one.
    pub agent: Option<Agent>,
    /// What it may use of its host.
    #[serde(skip)]
    pub allowance: Allowance,
    /// What libvirt warns of it, for the caller of [`parse_definition`] to note; `None` where libvirt does not say.
    #[serde(skip)]
    pub messages: Option<Messages>,
    /// Labels for `libvirt_domain_info` from the management software's own metadata (Nova, oVirt, KubeVirt, OpenNebula) and
    /// from the paths that the configuration names. By label; none is empty.
    pub labels: BTreeMap<String, String>,
    /// Where to scrape the guest, as its own metadata says.
    pub scrape: Vec<ScrapeTarget>,
    /// The [`fingerprint`] of what it was parsed from, for the caller of [`parse_definition`] to note.
    #[serde(skip)]
    pub fingerprint: u64,
}

impl Metadata {
    /// The value of a label of `libvirt_domain_info`; empty where the domain has none.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        match name {
            "title" => &self.title,
            "os_type" => &self.os_type,
            "arch" => &self.arch,
            "machine" => &self.machine,
            "os" => &self.os,
            "emulator" => &self.emulator,
            other => self.labels.get(other).map_or("", String::as_str),
        }
    }
}

/// The channel of the guest agent (`org.qemu.guest_agent.0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Whether the agent was connected when the definition was read; `None` while the domain is shut off.
    pub connected: Option<bool>,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `target/@dev`, such as `vda`.
    pub device: String,
    /// `target/@bus`
    pub bus: String,
    /// `@device`: `disk`, `cdrom`, `floppy`, `lun`.
    pub kind: String,
    /// `@type`: `file`, `block`, `dir`, `network`, `volume`, `nvme`, `vhostuser`, `vhostvdpa`.
    pub source_type: String,
    /// What it is on: a path for files, devices and folders; `protocol:name` for networks (`protocol:host:port` where there is
    /// no name); `pool/volume`; `nvme:address/namespace`; `vhostuser:path`; `vhostvdpa:path`. Empty for an empty drive.
    pub source: String,
    /// `driver/@name`, such as `qemu`.
    pub driver: String,
    /// `driver/@type`, such as `qcow2`.
    pub driver_type: String,
    /// `driver/@cache`
    pub cache: String,
    /// `driver/@discard`
    pub discard: String,
    /// `serial`
    pub serial: String,
    /// `alias/@name`, such as `virtio-disk0`.
    pub alias: String,
    /// Whether the guest cannot write to it.
    pub readonly: bool,
    /// The numbers of the top image (`source/@index`) and of each layer below it (`backingStore/@index`). `None` where the chain
    /// has no end, as while the domain is shut off, or no numbers.
    #[serde(skip)]
    pub chain: Option<Vec<u32>>,
    /// `iotune`: bytes and requests per second, bursts and their length in seconds.
    #[serde(skip)]
    pub throttles: Limits,
    /// `iotune/group_name`: the disks that share these throttles.
    #[serde(skip)]
    pub throttle_group: String,
}

impl Disk {
    /// Whether its source is a path on the host, which records of its domain have too.
    #[must_use]
    pub fn is_local(&self) -> bool {
        ["file", "block", "dir"].contains(&self.source_type.as_str())
    }
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// `target/@dev`, the host's device, such as `vnet3`; empty where there is none.
    pub device: String,
    /// `mac/@address`, in lower case.
    pub mac: String,
    /// `model/@type`, such as `virtio`.
    pub model: String,
    /// `@type`: `bridge`, `network`, `user`, ...
    pub kind: String,
    /// What it is on where that is neither bridge nor network: the host's device for `direct`, `ethernet` and `vdpa`, the PCI
    /// address for `hostdev`, the socket's path for `vhostuser`.
    pub source: String,
    /// `source/@bridge`, of a network too once the domain runs.
    pub bridge: String,
    /// `source/@network`
    pub network: String,
    /// `source/@portgroup`
    pub portgroup: String,
    /// `mtu/@size`
    pub mtu: Option<u32>,
    /// `alias/@name`
    pub alias: String,
    /// `virtualport/parameters/@interfaceid`, the port's id in Open vSwitch.
    pub ovs_port_id: String,
    /// Whether the host's device is not libvirt's own: it is there before the domain, and counts on from one start to the next.
    #[serde(skip)]
    pub is_lasting: bool,
    /// Whether the link is up (`link/@state`).
    #[serde(skip)]
    pub link_up: bool,
    /// `filterref/@filter`, the network filter of its traffic.
    #[serde(skip)]
    pub filter: String,
    /// `bandwidth`: kilobytes per second, bursts in KiB.
    #[serde(skip)]
    pub bandwidth: Limits,
}

/// Where to scrape a guest, from an element of ours in its metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ScrapeTarget {
    /// The port.
    pub port: u16,
    /// The path, empty for the scraper's own default.
    pub path: String,
    /// `http` or `https`, empty for the scraper's own default.
    pub scheme: String,
    /// A job name, empty for none.
    pub job: String,
}

/// Why a definition could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DefinitionError {
    /// More text, elements, attributes or namespaces than any definition has.
    #[error("definition is too large")]
    TooLarge,
    /// Elements within elements beyond what libvirt itself would read.
    #[error("definition is nested too deeply")]
    TooDeep,
    /// It could name files to read, or expand to any size.
    #[error("definition has a document type declaration")]
    Dtd,
    /// It is no XML.
    #[error("definition is no well-formed XML: {fault}")]
    Malformed {
        /// What the parser says.
        fault: String,
    },
    /// It is the definition of something else.
    #[error("definition is one of `{root}`, not of `domain`")]
    NoDomain {
        /// The name of the outermost element.
        root: String,
    },
}

/// A number that is another one where the text, what is looked for in it, or what is noted beside it, is another one.
#[must_use]
pub fn fingerprint(xml: &str, labels: &MetadataLabels, messages: Option<Messages>) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    (xml, messages).hash(&mut hasher);
    for (name, path) in labels {
        (name.as_str(), path.elements(), path.attribute()).hash(&mut hasher);
    }
    hasher.finish()
}

/// Reads a definition as `virDomainGetXMLDesc` gives it; `labels` says which more labels to look for in it.
///
/// # Errors
/// If it is no definition of a domain, or one that would be expensive to read.
pub fn parse_definition(xml: &str, labels: &MetadataLabels) -> Result<Metadata, DefinitionError> {
    let document = parse_xml(xml)?;
    let domain = document.root_element();
    if domain.tag_name().name() != "domain" {
        return Err(DefinitionError::NoDomain { root: tree::cut(domain.tag_name().name(), MOST_FAULT) });
    }
    let devices = find(domain, "devices");
    let mut found = owner::labels(domain);
    let configured = labels.iter().filter_map(|(name, path)| Some((name.to_string(), value_of(domain, path)?)));
    found.extend(configured);
    Ok(Metadata {
        title: text_at(domain, "title"),
        description: text_at(domain, "description"),
        os_type: text_at(domain, "os/type"),
        arch: attribute_at(domain, "os/type", "arch"),
        machine: attribute_at(domain, "os/type", "machine"),
        os: attribute_at(domain, "metadata/libosinfo/os", "id"),
        emulator: text_at(domain, "devices/emulator"),
        memory_bytes: find(domain, "memory").and_then(|memory| tree::size(&tree::text(memory), memory)),
        vcpus: text_at(domain, "vcpu").parse().ok(),
        virt_type: tree::attribute(domain, "type").to_owned(),
        iothreads: text_at(domain, "iothreads").parse().unwrap_or_default(),
        disks: devices.map(device::disks).unwrap_or_default(),
        interfaces: devices.map(device::interfaces).unwrap_or_default(),
        agent: devices.and_then(device::agent),
        allowance: limits::allowance(domain),
        messages: None,
        labels: found,
        scrape: owner::scrape_targets(domain),
        fingerprint: 0,
    })
}

/// The tree of any XML of libvirt's, unless it would be expensive to read.
///
/// # Errors
/// If it is not well-formed, or beyond the bounds of a definition.
pub(crate) fn parse_xml(xml: &str) -> Result<Document<'_>, DefinitionError> {
    bounds::check(xml)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(xml, options).map_err(|error| match error {
        roxmltree::Error::NodesLimitReached => DefinitionError::TooLarge,
        roxmltree::Error::DtdDetected => DefinitionError::Dtd,
        other => DefinitionError::Malformed { fault: escape_controls(&tree::cut(&other.to_string(), MOST_FAULT)) },
    })
}
