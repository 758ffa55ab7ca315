//! What virsh says of a lab's domains, as the samples that the exporter must have for it. Written apart from the exporter's code.

use std::collections::BTreeSet;

use roxmltree::{Document, Node};

use crate::lab::Lab;
use crate::reading::parse_exposition;

/// The families that are compared.
const FAMILIES: [&str; 9] = [
    "libvirt_domain_info",
    "libvirt_domain_block_info",
    "libvirt_domain_interface_info",
    "libvirt_domain_autostart",
    "libvirt_domain_persistent",
    "libvirt_domain_managed_save",
    "libvirt_domain_has_snapshots",
    "libvirt_domain_has_checkpoints",
    "libvirt_domain_agent_connected",
];

/// Those samples of a text exposition, one a line.
pub fn said(exposition: &str) -> BTreeSet<String> {
    let samples = parse_exposition(exposition).unwrap();
    let compared = samples.iter().filter(|sample| FAMILIES.contains(&sample.name.as_str()));
    compared.map(|sample| format!("{} {:?} {}", sample.name, sample.labels, sample.value)).collect()
}

/// What [`said`] has to say. The exporter is told to look for the label `team` in an element `owner`.
pub fn truth(lab: &Lab) -> BTreeSet<String> {
    let mut samples = BTreeSet::new();
    for uuid in lab.virsh(&["list", "--all", "--uuid"]).unwrap().split_whitespace() {
        let xml = lab.virsh(&["dumpxml", uuid]).unwrap();
        let document = Document::parse(&xml).unwrap();
        let domain = document.root_element();
        let mut add = |name: &str, labels: &[(&str, String)], value: bool| {
            let identity = [("domain", text(domain, "name")), ("uuid", text(domain, "uuid"))];
            let labels: std::collections::BTreeMap<_, _> =
                identity.iter().chain(labels).filter(|(_, value)| !value.is_empty()).cloned().collect();
            samples.insert(format!("libvirt_domain_{name} {labels:?} {}", u8::from(value)));
        };
        let info = [
            ("title", text(domain, "title")),
            ("os_type", text(domain, "os/type")),
            ("arch", attribute(domain, "os/type", "arch")),
            ("machine", attribute(domain, "os/type", "machine")),
            ("emulator", text(domain, "devices/emulator")),
            ("team", attribute(domain, "metadata/owner", "team")),
        ];
        add("info", &info, true);
        let devices = at(domain, "devices").unwrap();
        for disk in devices.children().filter(|node| node.has_tag_name("disk")) {
            let labels = [
                ("device", attribute(disk, "target", "dev")),
                ("bus", attribute(disk, "target", "bus")),
                ("path", attribute(disk, "source", "file")),
                ("device_type", disk.attribute("device").unwrap_or_default().to_owned()),
                ("disk_type", disk.attribute("type").unwrap_or_default().to_owned()),
                ("driver", attribute(disk, "driver", "name")),
                ("driver_type", attribute(disk, "driver", "type")),
                ("discard", attribute(disk, "driver", "discard")),
                ("cache", attribute(disk, "driver", "cache")),
                ("serial", text(disk, "serial")),
                ("alias", attribute(disk, "alias", "name")),
                ("readonly", at(disk, "readonly").is_some().to_string()),
            ];
            add("block_info", &labels, true);
        }
        for interface in devices.children().filter(|node| node.has_tag_name("interface")) {
            let labels = [
                ("interface", attribute(interface, "target", "dev")),
                ("mac", attribute(interface, "mac", "address")),
                ("model", attribute(interface, "model", "type")),
                ("interface_type", attribute(interface, ".", "type")),
                ("bridge", attribute(interface, "source", "bridge")),
                ("mtu", attribute(interface, "mtu", "size")),
                ("alias", attribute(interface, "alias", "name")),
            ];
            add("interface_info", &labels, true);
        }
        let agent = devices.descendants().find(|node| node.attribute("name") == Some("org.qemu.guest_agent.0"));
        if let Some(target) = agent {
            add("agent_connected", &[], target.attribute("state") == Some("connected"));
        }
        let dominfo = lab.virsh(&["dominfo", uuid]).unwrap();
        let fact = |name: &str| {
            let value = dominfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_else(|| panic!("no {name} in {dominfo}")).trim().to_owned()
        };
        add("autostart", &[], fact("Autostart") == "enable");
        add("persistent", &[], fact("Persistent") == "yes");
        add("managed_save", &[], fact("Managed save") == "yes");
        add("has_snapshots", &[], !lab.virsh(&["snapshot-list", uuid, "--name"]).unwrap().trim().is_empty());
        add("has_checkpoints", &[], !lab.virsh(&["checkpoint-list", uuid, "--name"]).unwrap().trim().is_empty());
    }
    samples
}

/// The first element at a path of local names.
fn at<'a, 'i>(node: Node<'a, 'i>, path: &str) -> Option<Node<'a, 'i>> {
    path.split('/').filter(|name| *name != ".").try_fold(node, |node, name| {
        node.children().find(|child| child.is_element() && child.tag_name().name() == name)
    })
}

fn text(node: Node<'_, '_>, path: &str) -> String {
    at(node, path).and_then(|node| node.text()).unwrap_or_default().to_owned()
}

fn attribute(node: Node<'_, '_>, path: &str, name: &str) -> String {
    at(node, path).and_then(|node| node.attribute(name)).unwrap_or_default().to_owned()
}
