//! From the domain XML, and from what libvirt keeps beside it.

use super::Group;
use super::kind::Subject;
use super::row::{NUMBER, SECONDS, of, table};

#[rustfmt::skip]
table! {
    /// What comes and goes with the group `state`.
    STATE: Some(Group::State), Subject::Domain;
    INFO = Info, NUMBER, "libvirt_domain_info", "libvirt.domain.info", ["title", "os_type", "arch", "machine", "os", "emulator", "flavor", "group_id", "group_name", "image_id", "instance_name", "kubevirt_name", "kubevirt_namespace", "kubevirt_uid", "ovirt_cluster_version", "project_id", "project_name", "user_id", "user_name"],
        "Description and owner of the domain from its XML, and the labels of metadata.labels; a label without a value is omitted";
    AUTOSTART = Gauge, NUMBER, "libvirt_domain_autostart", "libvirt.domain.autostart", [],
        "Whether the domain starts with the host: 1 yes, 0 no; a change is seen within collection.resync_interval";
    PERSISTENT = Gauge, NUMBER, "libvirt_domain_persistent", "libvirt.domain.persistent", [],
        "Whether the domain is defined: 1 yes, 0 if it vanishes when it stops";
    MANAGED_SAVE = Gauge, NUMBER, "libvirt_domain_managed_save", "libvirt.domain.managed_save", [],
        "Whether the domain has a saved image to start from: 1 yes, 0 no; its removal is seen within collection.resync_interval";
    HAS_SNAPSHOTS = Gauge, NUMBER, "libvirt_domain_has_snapshots", "libvirt.domain.has_snapshots", [],
        "Whether the domain has snapshots: 1 yes, 0 no; a change is seen within collection.resync_interval";
    HAS_CHECKPOINTS = Gauge, NUMBER, "libvirt_domain_has_checkpoints", "libvirt.domain.has_checkpoints", [],
        "Whether the domain has checkpoints: 1 yes, 0 no; a change is seen within collection.resync_interval";
    AGENT_CONNECTED = Gauge, NUMBER, "libvirt_domain_agent_connected", "libvirt.domain.agent.connected", [],
        "Whether the guest agent is connected, where the domain has a channel for one: 1 yes, 0 no";
    MESSAGES = Gauge, of("message"), "libvirt_domain_messages", "libvirt.domain.messages", ["kind"],
        "Warnings of libvirt about the domain (virsh dominfo), by kind: tainting (unsupported use) or deprecation (a feature that will be removed)";
    START_TIME = Gauge, SECONDS, "libvirt_domain_start_timestamp_seconds", "libvirt.domain.start_timestamp", [],
        "When the domain started, as a Unix time, if the exporter saw it start";
}

#[rustfmt::skip]
table! {
    /// Likewise with `block`.
    BLOCK: Some(Group::Block), Subject::Domain;
    BLOCK_INFO = Info, NUMBER, "libvirt_domain_block_info", "libvirt.domain.disk.info", ["device", "device_type", "disk_type", "bus", "path", "source", "driver", "driver_type", "cache", "discard", "serial", "alias", "readonly"],
        "Type of a block device (disk, cdrom, floppy, lun), and its backing file, device or network source; other sources as protocol:name or pool/volume";
}

#[rustfmt::skip]
table! {
    /// Likewise with `interface`.
    INTERFACE: Some(Group::Interface), Subject::Domain;
    INTERFACE_INFO = Info, NUMBER, "libvirt_domain_interface_info", "libvirt.domain.network.interface.info", ["interface", "mac", "model", "interface_type", "network", "portgroup", "bridge", "source", "mtu", "alias", "ovs_port_id", "filter"],
        "Network, bridge or other source of a network interface; changes without an event, such as another bridge, are seen within metadata.refresh_interval";
    LINK_UP = Gauge, NUMBER, "libvirt_domain_interface_link_up", "libvirt.domain.network.interface.link_up", ["interface", "mac"],
        "Whether the link of a network interface is up: 1 yes, 0 no; a change is seen within metadata.refresh_interval";
}
