//! Disks, network interfaces and the channel of the guest agent.

use std::collections::HashSet;

use roxmltree::Node;

use super::tree::{attribute, attribute_at, children, find, text_at};
use super::{Agent, Disk, Interface, limits};

/// The channel that QEMU's guest agent listens on.
const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";

/// The disks in their order; of several with one target, which libvirt would refuse, the first.
pub(super) fn disks(devices: Node<'_, '_>) -> Vec<Disk> {
    let mut seen = HashSet::new();
    let disks = children(devices, "disk").map(disk);
    exactly(disks.filter(|disk| !disk.device.is_empty() && seen.insert(disk.device.clone())))
}

/// In no more memory than they need: a large host has tens of thousands, and a vector begins with room for four.
fn exactly<T>(devices: impl Iterator<Item = T>) -> Vec<T> {
    let mut devices: Vec<T> = devices.collect();
    devices.shrink_to_fit();
    devices
}

fn disk(node: Node<'_, '_>) -> Disk {
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let source_type = or(attribute(node, "type"), "file");
    Disk {
        device: attribute_at(node, "target", "dev"),
        bus: attribute_at(node, "target", "bus"),
        kind: or(attribute(node, "device"), "disk"),
        source: find(node, "source").map(|source| disk_source(&source_type, source)).unwrap_or_default(),
        driver_type: attribute_at(node, "driver", "type"),
        driver: attribute_at(node, "driver", "name"),
        cache: attribute_at(node, "driver", "cache"),
        discard: attribute_at(node, "driver", "discard"),
        serial: text_at(node, "serial"),
        alias: attribute_at(node, "alias", "name"),
        readonly: find(node, "readonly").is_some(),
        chain: image_chain(node),
        throttles: limits::throttles(node),
        throttle_group: text_at(node, "iotune/group_name"),
        source_type,
    }
}

/// The numbers of a disk's images, from the top down to the empty `backingStore` that ends the chain.
fn image_chain(disk: Node<'_, '_>) -> Option<Vec<u32>> {
    let mut chain = vec![attribute_at(disk, "source", "index").parse().ok()?];
    let mut below = find(disk, "backingStore")?;
    while find(below, "source").is_some() {
        chain.push(attribute(below, "index").parse().ok()?);
        below = find(below, "backingStore")?;
    }
    Some(chain)
}

/// The source of a disk, as its type writes it; empty for an empty drive.
fn disk_source(source_type: &str, source: Node<'_, '_>) -> String {
    match source_type {
        "file" => attribute(source, "file"),
        "block" => attribute(source, "dev"),
        "dir" => attribute(source, "dir"),
        "network" => joined([attribute(source, "protocol"), network_image(source)], ":"),
        "volume" => joined([attribute(source, "pool"), attribute(source, "volume")], "/"),
        "nvme" => {
            let address = find(source, "address").map(pci_address).unwrap_or_default();
            joined(["nvme".to_owned(), joined([address, attribute(source, "namespace")], "/")], ":")
        }
        "vhostuser" => joined(["vhostuser".to_owned(), attribute(source, "path")], ":"),
        "vhostvdpa" => joined(["vhostvdpa".to_owned(), attribute(source, "dev")], ":"),
        _ => String::new(),
    }
}

/// The name of an image on the network; a protocol without names has the server for it.
fn network_image(source: Node<'_, '_>) -> String {
    let name = attribute(source, "name");
    let Some(host) = find(source, "host").filter(|_| name.is_empty()) else {
        return name;
    };
    let server = joined([attribute(host, "name"), attribute(host, "port")], ":");
    if server.is_empty() { attribute(host, "socket") } else { server }
}

/// The interfaces in their order; of several alike, the first.
pub(super) fn interfaces(devices: Node<'_, '_>) -> Vec<Interface> {
    let mut seen = HashSet::new();
    let interfaces = children(devices, "interface").map(interface);
    exactly(interfaces.filter(|interface| seen.insert((interface.device.clone(), interface.mac.clone()))))
}

fn interface(node: Node<'_, '_>) -> Interface {
    let source = |name: &str| attribute_at(node, "source", name);
    let kind = attribute(node, "type");
    Interface {
        device: attribute_at(node, "target", "dev"),
        mac: attribute_at(node, "mac", "address").to_ascii_lowercase(),
        model: attribute_at(node, "model", "type"),
        source: match kind.as_str() {
            "hostdev" => find(node, "source/address").map(pci_address).unwrap_or_default(),
            "vhostuser" => source("path"),
            _ => source("dev"),
        },
        bridge: source("bridge"),
        network: source("network"),
        portgroup: source("portgroup"),
        mtu: attribute_at(node, "mtu", "size").parse().ok(),
        alias: attribute_at(node, "alias", "name"),
        ovs_port_id: attribute_at(node, "virtualport/parameters", "interfaceid"),
        link_up: attribute_at(node, "link", "state") != "down",
        filter: attribute_at(node, "filterref", "filter"),
        bandwidth: limits::bandwidth(node),
        is_lasting: kind == "vhostuser" || attribute_at(node, "target", "managed") == "no",
        kind,
    }
}

/// The channel of the guest agent, if there is one.
pub(super) fn agent(devices: Node<'_, '_>) -> Option<Agent> {
    let targets = children(devices, "channel").filter_map(|channel| find(channel, "target"));
    let target = targets.into_iter().find(|target| attribute(*target, "name") == AGENT_CHANNEL)?;
    let connected = match attribute(target, "state").as_str() {
        "connected" => Some(true),
        "disconnected" => Some(false),
        _ => None,
    };
    Some(Agent { connected })
}

/// `0000:03:10.1`, from four hexadecimal attributes; empty if one of them is none.
fn pci_address(address: Node<'_, '_>) -> String {
    let part = |name: &str| {
        let text = attribute(address, name);
        u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
    };
    let domain = part("domain").unwrap_or(0);
    match (part("bus"), part("slot"), part("function")) {
        (Some(bus), Some(slot), Some(function)) => format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"),
        _ => String::new(),
    }
}

/// Both parts with `between` them; the one that is there if the other is not.
fn joined([first, second]: [String; 2], between: &str) -> String {
    if first.is_empty() || second.is_empty() { first + &second } else { first + between + &second }
}
