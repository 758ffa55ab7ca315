//! libvirt's networks.

use std::time::Duration;

use super::{Probe, Scope, Session, Subject, WaitsFor, had, supported};
use crate::config::Group;
use crate::domains::{parse_xml, tree};
use crate::libvirt::{LibvirtError, ObjectKind, ParamValue, Records};
use crate::tables::{self, NONE, NUMBER, Origin, Row, Table, of};

pub(super) const PROBE: Probe = Probe {
    table: Some(&TABLE),
    watches: Some(ObjectKind::Network),
    fetch,
    list: |session| {
        session.watch(ObjectKind::Network)?;
        supported(session.connection.list_networks())
    },
    ..Probe::of_group(Group::Network, Scope::Object, WaitsFor::Host, |_| Some(Duration::from_secs(60)))
};

/// `network.*`.
#[rustfmt::skip]
static TABLE: Table = Table {
    group: Some(Group::Network),
    subject: tables::Subject::Network,
    origin: Origin::Exporter,
    active_only: false,
    scopes: &[],
    rows: &[
        Row::info(&["network.bridge", "network.forward"], &["bridge", "forward_mode"], "libvirt_network_info",
            ("libvirt.network.info", NONE), "Bridge and forward mode of the network; none for an isolated network"),
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

/// One that is gone by now has no record.
fn fetch(session: &mut Session, subject: Subject) -> Result<Records, LibvirtError> {
    let (connection, mut records) = (&session.connection, Records::default());
    let Subject::Object(uuid) = subject else { return Ok(records) };
    let Some(network) = connection.network(uuid)? else { return Ok(records) };
    let is_active = network.is_active(connection)?;
    records.push_object(&network.name(), uuid);
    records.push("network.active", ParamValue::Boolean(is_active));
    for (key, answer) in [
        ("network.autostart", network.autostart(connection)),
        ("network.persistent", network.is_persistent(connection)),
    ] {
        if let Some(value) = had(answer)? {
            records.push(key, ParamValue::Boolean(value));
        }
    }
    if is_active && let Some(leases) = had(network.dhcp_leases(connection))? {
        records.push("network.leases", ParamValue::UInt(leases));
    }
    let xml = had(network.xml_description(connection))?.unwrap_or_default();
    if let Ok(document) = parse_xml(&xml) {
        let network = document.root_element();
        records.push("network.bridge", ParamValue::String(&tree::attribute_at(network, "bridge", "name")));
        let mode = tree::attribute_at(network, "forward", "mode");
        // libvirt writes no element for a network that forwards nothing.
        let mode = if mode.is_empty() { "none" } else { mode.as_str() };
        records.push("network.forward", ParamValue::String(mode));
    }
    Ok(records)
}
