//! What labels are called as OpenTelemetry attributes, and label sets as encoded attributes.

use opentelemetry_semantic_conventions::attribute as semconv;

use super::Naming;
use crate::encode::wire;
use crate::metrics::{LabelSet, LabelTable, Meta, Subject};

/// An attribute's name and whether its value is a number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute {
    /// The label.
    pub label: &'static str,
    /// The attribute.
    pub name: &'static str,
    /// Whether OpenTelemetry has the value as an integer.
    pub is_number: bool,
}

const fn text(label: &'static str, name: &'static str) -> Attribute {
    Attribute { label, name, is_number: false }
}

/// The labels of the domains' families.
const OF_DOMAINS: &[Attribute] = &[
    text("domain", "libvirt.domain.name"),
    text("uuid", "libvirt.domain.uuid"),
    text("state", "libvirt.domain.state"),
    text("reason", "libvirt.reason"),
    text("group", "libvirt.stats.group"),
    text("vcpu", "libvirt.vcpu.id"),
    text("vcpus", "libvirt.vcpu.ids"),
    text("device", semconv::SYSTEM_DEVICE),
    text("interface", semconv::NETWORK_INTERFACE_NAME),
    text("path", "libvirt.disk.image.path"),
    text("backing_index", "libvirt.disk.backing_index"),
    text("interval", "libvirt.disk.timed_group.interval"),
    text("iothread", "libvirt.iothread.id"),
    text("monitor", "libvirt.monitor.name"),
    text("bank", "libvirt.cache.bank.id"),
    text("node", "libvirt.numa.node.id"),
    text("host_device", "libvirt.host.device"),
    text("package", "libvirt.cpu.package.id"),
    text("mode", "libvirt.dirty_rate.mode"),
    text("key", "libvirt.stats.key"),
    text("title", "libvirt.domain.title"),
    text("os_type", "libvirt.domain.os_type"),
    text("arch", "libvirt.domain.arch"),
    text("machine", "libvirt.domain.machine"),
    text("os", "libvirt.domain.os"),
    text("emulator", "libvirt.domain.emulator"),
    text("instance_name", "libvirt.owner.instance_name"),
    text("flavor", "libvirt.owner.flavor"),
    text("project_id", "libvirt.owner.project_id"),
    text("project_name", "libvirt.owner.project_name"),
    text("user_id", "libvirt.owner.user_id"),
    text("user_name", "libvirt.owner.user_name"),
    text("image_id", "libvirt.owner.image_id"),
    text("group_id", "libvirt.owner.group_id"),
    text("group_name", "libvirt.owner.group_name"),
    text("kubevirt_name", "libvirt.owner.kubevirt_name"),
    text("kubevirt_namespace", "libvirt.owner.kubevirt_namespace"),
    text("kubevirt_uid", "libvirt.owner.kubevirt_uid"),
    text("ovirt_cluster_version", "libvirt.owner.ovirt_cluster_version"),
    text("device_type", "libvirt.disk.device_type"),
    text("throttle_group", "libvirt.disk.throttle_group"),
    text("nodeset", "libvirt.numa.guest_nodes"),
    text("bus", "libvirt.disk.bus"),
    text("disk_type", "libvirt.disk.type"),
    text("driver", "libvirt.disk.driver"),
    text("driver_type", "libvirt.disk.driver_type"),
    text("cache", "libvirt.disk.cache"),
    text("discard", "libvirt.disk.discard"),
    text("serial", "libvirt.disk.serial"),
    text("readonly", "libvirt.disk.readonly"),
    text("source", "libvirt.device.source"),
    text("alias", "libvirt.device.alias"),
    text("mac", "libvirt.interface.mac"),
    text("model", "libvirt.interface.model"),
    text("bridge", "libvirt.interface.bridge"),
    text("network", "libvirt.interface.network"),
    text("portgroup", "libvirt.interface.portgroup"),
    text("interface_type", "libvirt.interface.type"),
    text("mtu", "libvirt.interface.mtu"),
    text("ovs_port_id", "libvirt.interface.ovs_port_id"),
    text("filter", "libvirt.interface.filter"),
    text("address", "libvirt.interface.address"),
    text("address_source", "libvirt.interface.address_source"),
    text("action", "libvirt.event.action"),
    text("operation", "libvirt.job.operation"),
    text("status", "libvirt.status"),
    text("success", "libvirt.job.success"),
    text("recipient", "libvirt.event.recipient"),
    text("kind", "libvirt.message.kind"),
    text("mountpoint", semconv::SYSTEM_FILESYSTEM_MOUNTPOINT),
    text("fstype", semconv::SYSTEM_FILESYSTEM_TYPE),
    text("guest_device", "libvirt.guest.device"),
    text("hostname", "libvirt.guest.hostname"),
    text("os_id", "libvirt.guest.os.id"),
    text("os_name", "libvirt.guest.os.name"),
    text("os_version", "libvirt.guest.os.version"),
    text("kernel", "libvirt.guest.kernel"),
    text("timezone", "libvirt.guest.timezone"),
];

/// The labels of the host's families: its libvirt, and what is counted over all domains.
const OF_HOST: &[Attribute] = &[
    text("state", "libvirt.domain.state"),
    text("node", "libvirt.numa.node.id"),
    text("page_size", "libvirt.hugepage.size"),
    text("library", "libvirt.library.version"),
    text("libvirt", "libvirt.version"),
    text("hypervisor", "libvirt.hypervisor.version"),
    text("driver", "libvirt.driver"),
    text("event", "libvirt.event.name"),
    text("detail", "libvirt.event.detail"),
    text("operation", "libvirt.job.operation"),
    text("success", "libvirt.job.success"),
];

/// The labels of the families of storage pools.
const OF_POOLS: &[Attribute] = &[
    text("pool", "libvirt.pool.name"),
    text("state", "libvirt.pool.state"),
    text("pool_type", "libvirt.pool.type"),
    text("path", "libvirt.pool.path"),
];

/// The labels of the families of networks.
const OF_NETWORKS: &[Attribute] = &[
    text("network", "libvirt.network.name"),
    text("bridge", "libvirt.network.bridge"),
    text("forward_mode", "libvirt.network.forward_mode"),
];

/// The labels of the exporter's own families.
const OF_EXPORTER: &[Attribute] = &[
    text("version", "libvirt.exporter.version"),
    text("revision", "libvirt.exporter.revision"),
    text("rustversion", "libvirt.exporter.rust_version"),
    text("reason", semconv::ERROR_TYPE),
    text("path", semconv::HTTP_ROUTE),
    Attribute { label: "code", name: semconv::HTTP_RESPONSE_STATUS_CODE, is_number: true },
    text("result", "libvirt.exporter.otlp.result"),
    text("cause", "libvirt.exporter.resync.cause"),
    text("probe", "libvirt.exporter.probe.name"),
    text("state", "libvirt.exporter.target.state"),
];

/// The attributes that stand for labels of a subject's families.
#[must_use]
pub const fn attributes_of(subject: Subject) -> &'static [Attribute] {
    match subject {
        Subject::Exporter => OF_EXPORTER,
        Subject::Host => OF_HOST,
        Subject::Domain => OF_DOMAINS,
        Subject::Pool => OF_POOLS,
        Subject::Network => OF_NETWORKS,
    }
}

/// The attribute that stands for `label` in the families of `subject`.
#[must_use]
pub fn attribute_of(label: &str, subject: Subject) -> Option<Attribute> {
    attributes_of(subject).iter().find(|attribute| attribute.label == label).copied()
}

/// The tag of the attributes in a number's point.
pub(super) const OF_NUMBER: u32 = 7;
/// The tag of the attributes in a histogram's point.
pub(super) const OF_HISTOGRAM: u32 = 9;

/// Label sets as encoded in a number's point, each encoded when it is first needed. Subjects of different kinds share no
/// set but the empty one, so each set has one encoding.
#[derive(Debug)]
pub(super) struct Blocks {
    naming: Naming,
    bytes: Vec<u8>,
    spans: Vec<Option<(usize, usize)>>,
    scratch: Vec<u8>,
}

impl Blocks {
    pub(super) fn new(naming: Naming, labels: &LabelTable) -> Self {
        Self { naming, bytes: Vec::new(), spans: vec![None; labels.len()], scratch: Vec::new() }
    }

    /// The attributes of `set` for the point of a number.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, labels: &LabelTable, set: LabelSet, of: Subject) {
        let (start, end) = match self.spans[set.index()] {
            Some(span) => span,
            None => {
                let start = self.bytes.len();
                let bytes = &mut self.bytes;
                write_set(bytes, OF_NUMBER, self.naming, labels, set, of, &mut self.scratch);
                *self.spans[set.index()].insert((start, self.bytes.len()))
            }
        };
        out.extend_from_slice(&self.bytes[start..end]);
    }

    /// Likewise for the point of a histogram; those are few.
    pub(super) fn append_to_histogram(&mut self, out: &mut Vec<u8>, labels: &LabelTable, set: LabelSet, of: Subject) {
        write_set(out, OF_HISTOGRAM, self.naming, labels, set, of, &mut self.scratch);
    }
}

/// The attributes that a family has beyond its labels.
pub(super) fn constant(tag: u32, naming: Naming, meta: &Meta) -> Vec<u8> {
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    if naming == Naming::Otel {
        for (name, value) in meta.otel_attributes {
            write_attribute(&mut out, tag, name, value, false, &mut scratch);
        }
    }
    out
}

/// The labels of a set as attributes.
pub(super) fn write_set(
    out: &mut Vec<u8>,
    tag: u32,
    naming: Naming,
    labels: &LabelTable,
    set: LabelSet,
    of: Subject,
    scratch: &mut Vec<u8>,
) {
    for (label, value) in labels.get(set) {
        match (naming, attribute_of(label, of)) {
            (Naming::Otel, Some(known)) => write_attribute(out, tag, known.name, value, known.is_number, scratch),
            (Naming::Otel, None) => write_attribute(out, tag, &format!("libvirt.{label}"), value, false, scratch),
            (Naming::Prometheus, _) => write_attribute(out, tag, label, value, false, scratch),
        }
    }
}

/// A `KeyValue` whose value is an `AnyValue`.
fn write_attribute(out: &mut Vec<u8>, tag: u32, name: &str, value: &str, is_number: bool, scratch: &mut Vec<u8>) {
    const STRING: u32 = 1;
    const INT: u32 = 3;
    scratch.clear();
    match value.parse::<u64>() {
        // An absent number would be no value at all.
        Ok(number) if is_number && number != 0 => wire::varint(scratch, INT, number),
        _ => wire::bytes(scratch, STRING, value.as_bytes()),
    }
    wire::delimited(out, tag, wire::delimited_len(name.len()) + wire::delimited_len(scratch.len()));
    wire::bytes(out, 1, name.as_bytes());
    wire::bytes(out, 2, scratch);
}

/// An attribute whose value is text.
pub(super) fn write_text(out: &mut Vec<u8>, tag: u32, name: &str, value: &str) {
    write_attribute(out, tag, name, value, false, &mut Vec::new());
}
