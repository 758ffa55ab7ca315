//! Storage pools: what libvirt knows of them. None is refreshed for it.

use std::time::Duration;

use super::{Probe, Scope, Session, Subject, WaitsFor, had, supported};
use crate::config::Group;
use crate::domains::{parse_xml, tree};
use crate::libvirt::{LibvirtError, ObjectKind, ParamValue, Records};

pub(super) const PROBE: Probe = Probe {
    watches: Some(ObjectKind::Pool),
    fetch,
    list: |session| {
        session.watch(ObjectKind::Pool)?;
        supported(session.connection.list_storage_pools())
    },
    ..Probe::of_group(Group::Pool, Scope::Object, WaitsFor::Host, |_| Some(Duration::from_secs(60)))
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
