//! libvirt's networks.

use std::time::Duration;

use super::{Probe, Scope, Session, Subject, WaitsFor, had, supported};
use crate::config::Group;
use crate::domains::{parse_xml, tree};
use crate::libvirt::{LibvirtError, ObjectKind, ParamValue, Records};

pub(super) const PROBE: Probe = Probe {
    watches: Some(ObjectKind::Network),
    fetch,
    list: |session| {
        session.watch(ObjectKind::Network)?;
        supported(session.connection.list_networks())
    },
    ..Probe::of_group(Group::Network, Scope::Object, WaitsFor::Host, |_| Some(Duration::from_secs(60)))
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
