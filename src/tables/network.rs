//! `network.*`: libvirt's networks, as the probe `network` asks about them.

use super::Group;
use super::group::GroupInfo;
use super::kind::{Origin, Subject};
use super::row::{NONE, NUMBER, Row, Table, of};

pub(super) const GROUP: GroupInfo =
    GroupInfo { name: "network", help: "libvirt's networks", prefix: "network", table: TABLE, ..GroupInfo::USUAL };

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Network),
    subject: Subject::Network,
    origin: Origin::Exporter,
    active_only: false,
    scopes: &[],
    rows: &[
        Row::info(&["network.bridge", "network.forward"], &["bridge", "forward_mode"], "libvirt_network_info",
            ("libvirt.network.info", NONE), "Bridge of the network, and how it forwards; none for an isolated one"),
        Row::gauge(&["network.active"], "libvirt_network_active", NUMBER, ("libvirt.network.active", NONE),
            "Whether the network is started: 1 yes, 0 no"),
        Row::gauge(&["network.autostart"], "libvirt_network_autostart", NUMBER, ("libvirt.network.autostart", NONE),
            "Whether the network starts with the host: 1 yes, 0 no"),
        Row::gauge(&["network.persistent"], "libvirt_network_persistent", NUMBER, ("libvirt.network.persistent", NONE),
            "Whether the network is defined, and stays when it stops: 1 yes, 0 no"),
        Row::gauge(&["network.leases"], "libvirt_network_dhcp_leases", of("lease"), ("libvirt.network.dhcp.leases", NONE),
            "DHCP leases that the network has given and that have not expired"),
    ],
};
