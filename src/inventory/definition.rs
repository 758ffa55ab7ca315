//! Families from the domains' definitions, and from what libvirt keeps about the domains beside them.

use std::borrow::Cow;

use super::images::TopImages;
use super::{Subject, each};
use crate::domains::{Disk, Flags, Interface, Metadata};
use crate::metrics::{Unit, Value};
use crate::rows::{Filling, Labels, Row, boolean, rows, unix_seconds};

#[rustfmt::skip]
rows! {
    INFO = Info of State, Unit::None, "libvirt_domain_info", "libvirt.domain.info",
        ["title", "os_type", "arch", "machine", "os", "emulator", "flavor", "group_id", "group_name", "image_id", "instance_name",
         "kubevirt_name", "kubevirt_namespace", "kubevirt_uid", "ovirt_cluster_version", "project_id", "project_name", "user_id", "user_name"],
        "What the domain's definition says of it and of its owner, and the labels of metadata.labels; a label without a value is left out";
    BLOCK_INFO = Info of Block, Unit::None, "libvirt_domain_block_info", "libvirt.domain.disk.info",
        ["device", "bus", "path", "source", "driver_type", "cache", "serial", "alias", "readonly"],
        "What a block device is on: the path of a file or device, or another source as protocol:name or pool/volume";
    INTERFACE_INFO = Info of Interface, Unit::None, "libvirt_domain_interface_info", "libvirt.domain.network.interface.info",
        ["interface", "mac", "model", "interface_type", "network", "portgroup", "bridge", "source", "mtu", "alias", "ovs_port_id"],
        "What a network interface is connected to; what has no event, such as a move to another bridge, is seen within metadata.refresh_interval";
    AUTOSTART = Gauge of State, Unit::None, "libvirt_domain_autostart", "libvirt.domain.autostart", [],
        "Whether the domain starts with the host: 1 yes, 0 no; a change is seen within collection.resync_interval";
    PERSISTENT = Gauge of State, Unit::None, "libvirt_domain_persistent", "libvirt.domain.persistent", [],
        "Whether the domain is defined: 1 yes, 0 if it vanishes when it stops";
    MANAGED_SAVE = Gauge of State, Unit::None, "libvirt_domain_managed_save", "libvirt.domain.managed_save", [],
        "Whether the domain has a saved image to start from: 1 yes, 0 no; its removal is seen within collection.resync_interval";
    HAS_SNAPSHOTS = Gauge of State, Unit::None, "libvirt_domain_has_snapshots", "libvirt.domain.has_snapshots", [],
        "Whether the domain has snapshots: 1 yes, 0 no; a change is seen within collection.resync_interval";
    HAS_CHECKPOINTS = Gauge of State, Unit::None, "libvirt_domain_has_checkpoints", "libvirt.domain.has_checkpoints", [],
        "Whether the domain has checkpoints: 1 yes, 0 no; a change is seen within collection.resync_interval";
    AGENT_CONNECTED = Gauge of State, Unit::None, "libvirt_domain_agent_connected", "libvirt.domain.agent.connected", [],
        "Whether the guest agent is connected, where the domain has a channel for one: 1 yes, 0 no";
    START_TIME = Gauge of State, Unit::Seconds, "libvirt_domain_start_time_seconds", "libvirt.domain.start_time", [],
        "When the domain started, as a Unix time, if the exporter saw it start";
}

/// `images` are the top images according to the records of the same collection.
pub(super) fn fill(filling: &mut Filling<'_>, domains: &[Subject<'_>], images: &TopImages<'_>) {
    let known = || domains.iter().filter_map(|(subject, target)| Some((*subject, target.metadata()?)));
    filling.add(&INFO, known().map(|(subject, metadata)| (subject, info(metadata), Value::Unsigned(1))));
    let disks = domains.iter().filter_map(|(subject, target)| Some((*subject, target, &target.metadata()?.disks)));
    let disks = disks.flat_map(|(subject, target, disks)| disks.iter().map(move |disk| (subject, target, disk)));
    let infos = disks.map(|(subject, target, disk)| {
        let image = images.of(target.identity.uuid, &disk.device);
        (subject, block_info(disk, image), Value::Unsigned(1))
    });
    filling.add(&BLOCK_INFO, infos);
    let interfaces =
        known().flat_map(|(subject, metadata)| metadata.interfaces.iter().map(move |interface| (subject, interface)));
    let interfaces = interfaces.map(|(subject, interface)| (subject, interface_info(interface), Value::Unsigned(1)));
    filling.add(&INTERFACE_INFO, interfaces);
    let flag = |filling: &mut Filling<'_>, row: &Row, read: fn(&Flags) -> bool| {
        filling.of_domains(row, each(domains, |target| target.flags.as_ref().map(read).map(boolean)));
    };
    flag(filling, &AUTOSTART, |flags| flags.autostart);
    flag(filling, &PERSISTENT, |flags| flags.persistent);
    flag(filling, &MANAGED_SAVE, |flags| flags.managed_save);
    flag(filling, &HAS_SNAPSHOTS, |flags| flags.has_snapshots);
    flag(filling, &HAS_CHECKPOINTS, |flags| flags.has_checkpoints);
    filling.of_domains(&AGENT_CONNECTED, each(domains, |target| target.agent_connected.map(boolean)));
    filling.of_domains(&START_TIME, each(domains, |target| target.started.map(unix_seconds)));
}

fn info(metadata: &Metadata) -> Labels<'_> {
    let of_itself = [
        ("title", &metadata.title),
        ("os_type", &metadata.os_type),
        ("arch", &metadata.arch),
        ("machine", &metadata.machine),
        ("os", &metadata.os),
        ("emulator", &metadata.emulator),
    ];
    let more = metadata.labels.iter().map(|(name, value)| (name.as_str(), value));
    of_itself.into_iter().chain(more).map(|(name, value)| (name, Cow::Borrowed(value.as_str()))).collect()
}

/// The disk as its definition says, but for a path that its record contradicts: the record is newer. The format of the image
/// that it names is known once the definition has been read again.
fn block_info<'v>(disk: &'v Disk, image: Option<&'v str>) -> Labels<'v> {
    let is_path = ["file", "block", "dir"].contains(&disk.source_type.as_str());
    let newer = image.filter(|image| is_path && *image != disk.source);
    let driver_type = if newer.is_none() { disk.driver_type.as_str() } else { "" };
    vec![
        ("device", Cow::Borrowed(&disk.device)),
        ("bus", Cow::Borrowed(&disk.bus)),
        (if is_path { "path" } else { "source" }, Cow::Borrowed(newer.unwrap_or(&disk.source))),
        ("driver_type", Cow::Borrowed(driver_type)),
        ("cache", Cow::Borrowed(&disk.cache)),
        ("serial", Cow::Borrowed(&disk.serial)),
        ("alias", Cow::Borrowed(&disk.alias)),
        ("readonly", Cow::Borrowed(if disk.readonly { "true" } else { "false" })),
    ]
}

fn interface_info(interface: &Interface) -> Labels<'_> {
    vec![
        ("interface", Cow::Borrowed(&interface.device)),
        ("mac", Cow::Borrowed(&interface.mac)),
        ("model", Cow::Borrowed(&interface.model)),
        ("interface_type", Cow::Borrowed(&interface.kind)),
        ("network", Cow::Borrowed(&interface.network)),
        ("portgroup", Cow::Borrowed(&interface.portgroup)),
        ("bridge", Cow::Borrowed(&interface.bridge)),
        ("source", Cow::Borrowed(&interface.source)),
        ("mtu", interface.mtu.map_or_else(Cow::default, |mtu| mtu.to_string().into())),
        ("alias", Cow::Borrowed(&interface.alias)),
        ("ovs_port_id", Cow::Borrowed(&interface.ovs_port_id)),
    ]
}
