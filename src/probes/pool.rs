//! Storage pools: what libvirt knows of them. None is refreshed for it.

use std::time::Duration;

use super::{Probe, Scope, Session, Subject, WaitsFor, had, supported};
use crate::config::Group;
use crate::domains::{parse_xml, tree};
use crate::libvirt::{LibvirtError, ObjectKind, ParamValue, Records};
use crate::tables::{self, BYTES, NONE, NUMBER, Origin, Row, Shape, Table, of};

pub(super) const PROBE: Probe = Probe {
    table: Some(&TABLE),
    watches: Some(ObjectKind::Pool),
    fetch,
    list: |session| {
        session.watch(ObjectKind::Pool)?;
        supported(session.connection.list_storage_pools())
    },
    ..Probe::of_group(Group::Pool, Scope::Object, WaitsFor::Host, |_| Some(Duration::from_secs(60)))
};

/// The states by number (`virStoragePoolState`).
const STATES: &[&str] = &["inactive", "building", "running", "degraded", "inaccessible"];

/// `pool.*`.
#[rustfmt::skip]
static TABLE: Table = Table {
    group: Some(Group::Pool),
    subject: tables::Subject::Pool,
    origin: Origin::Exporter,
    active_only: false,
    scopes: &[],
    rows: &[
        Row::info(&["pool.type", "pool.path"], &["pool_type", "path"], "libvirt_pool_info", ("libvirt.pool.info", NONE),
            "Type of the storage pool, and where its volumes are"),
        Row::gauge(&["pool.state"], "libvirt_pool_state", of("pool"), ("libvirt.pool.status", NONE),
            "Whether the storage pool is in this state: 1 for the current state, 0 for every other one")
            .shaped(Shape::States { label: "state", names: STATES }),
        Row::gauge(&["pool.capacity"], "libvirt_pool_capacity_bytes", BYTES, ("libvirt.pool.capacity", NONE),
            "Size of the storage pool"),
        Row::gauge(&["pool.allocation"], "libvirt_pool_allocation_bytes", BYTES, ("libvirt.pool.allocation", NONE),
            "Space of the storage pool that is taken"),
        Row::gauge(&["pool.available"], "libvirt_pool_available_bytes", BYTES, ("libvirt.pool.available", NONE),
            "Space of the storage pool that is free"),
        Row::gauge(&["pool.autostart"], "libvirt_pool_autostart", NUMBER, ("libvirt.pool.autostart", NONE),
            "Whether the storage pool starts with the host: 1 yes, 0 no"),
        Row::gauge(&["pool.persistent"], "libvirt_pool_persistent", NUMBER, ("libvirt.pool.persistent", NONE),
            "Whether the storage pool is defined, and stays when it stops: 1 yes, 0 no"),
    ],
};

/// The states in which the sizes mean something: running and degraded (`virStoragePoolState`).
const WITH_SIZES: [i32; 2] = [2, 3];

/// One that is gone by now has no record.
fn fetch(session: &mut Session, subject: Subject) -> Result<Records, LibvirtError> {
    let (connection, mut records) = (&session.connection, Records::default());
    let Subject::Object(uuid) = subject else { return Ok(records) };
    let Some(pool) = connection.storage_pool(uuid)? else { return Ok(records) };
    let info = pool.info(connection)?;
    records.push_object(&pool.name(), uuid);
    records.push("pool.state", ParamValue::Int(info.state));
    if WITH_SIZES.contains(&info.state) {
        records.push("pool.capacity", ParamValue::ULLong(info.capacity));
        records.push("pool.allocation", ParamValue::ULLong(info.allocation));
        records.push("pool.available", ParamValue::ULLong(info.available));
    }
    for (key, answer) in
        [("pool.autostart", pool.autostart(connection)), ("pool.persistent", pool.is_persistent(connection))]
    {
        if let Some(value) = had(answer)? {
            records.push(key, ParamValue::Boolean(value));
        }
    }
    let xml = had(pool.xml_description(connection))?.unwrap_or_default();
    if let Ok(document) = parse_xml(&xml) {
        let pool = document.root_element();
        records.push("pool.type", ParamValue::String(&tree::attribute(pool, "type")));
        records.push("pool.path", ParamValue::String(&tree::text_at(pool, "target/path")));
    }
    Ok(records)
}
