//! `net.*`: network interfaces, seen from the guest.

use super::Group;
use super::group::{GroupInfo, Source};
use super::kind::{Origin, Subject};
use super::row::{Attributes, BYTES, NONE, Row, Scope, Table, of};
use crate::libvirt::StatsGroups;

const RECEIVE: Attributes = &[("network.io.direction", "receive")];
const TRANSMIT: Attributes = &[("network.io.direction", "transmit")];

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "interface",
    help: "Network interfaces",
    source: Source::Stats(StatsGroups::INTERFACE),
    prefix: "net",
    table: TABLE,
    ..GroupInfo::USUAL
};

/// Interfaces without a device on the host (type user, hostdev, vdpa) are counted in `net.count` and otherwise absent.
#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Interface),
    subject: Subject::Domain,
    origin: Origin::Device,
    active_only: false,
    scopes: &[Scope { prefix: "net.<n>", label: "interface", named_by: Some("net.<n>.name") }],
    rows: &[
        Row::gauge(&["net.count"], "libvirt_domain_interfaces", of("interface"), ("libvirt.domain.network.interface.count", NONE),
            "Network interfaces of the domain"),
        Row::counter(&["net.<n>.rx.bytes"], "libvirt_domain_interface_receive_bytes_total", BYTES, ("libvirt.domain.network.io", RECEIVE),
            "Bytes that the guest received"),
        Row::counter(&["net.<n>.rx.pkts"], "libvirt_domain_interface_receive_packets_total", of("packet"), ("libvirt.domain.network.packet.count", RECEIVE),
            "Packets that the guest received"),
        Row::counter(&["net.<n>.rx.errs"], "libvirt_domain_interface_receive_errors_total", of("error"), ("libvirt.domain.network.errors", RECEIVE),
            "Receive errors of the guest's interface"),
        Row::counter(&["net.<n>.rx.drop"], "libvirt_domain_interface_receive_drops_total", of("packet"), ("libvirt.domain.network.packet.dropped", RECEIVE),
            "Dropped packets on their way to the guest"),
        Row::counter(&["net.<n>.tx.bytes"], "libvirt_domain_interface_transmit_bytes_total", BYTES, ("libvirt.domain.network.io", TRANSMIT),
            "Bytes that the guest sent"),
        Row::counter(&["net.<n>.tx.pkts"], "libvirt_domain_interface_transmit_packets_total", of("packet"), ("libvirt.domain.network.packet.count", TRANSMIT),
            "Packets that the guest sent"),
        Row::counter(&["net.<n>.tx.errs"], "libvirt_domain_interface_transmit_errors_total", of("error"), ("libvirt.domain.network.errors", TRANSMIT),
            "Transmit errors of the guest's interface"),
        Row::counter(&["net.<n>.tx.drop"], "libvirt_domain_interface_transmit_drops_total", of("packet"), ("libvirt.domain.network.packet.dropped", TRANSMIT),
            "Dropped packets from the guest"),
    ],
};
