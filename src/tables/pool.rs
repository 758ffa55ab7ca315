//! `pool.*`: storage pools, as the probe `pool` asks about them.

use super::Group;
use super::group::GroupInfo;
use super::kind::{Origin, Subject};
use super::row::{BYTES, NONE, NUMBER, Row, Shape, Table, of};

/// The states by number (`virStoragePoolState`).
const STATES: &[&str] = &["inactive", "building", "running", "degraded", "inaccessible"];

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "pool",
    help: "Storage pools, as of libvirt's last refresh of each",
    prefix: "pool",
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Pool),
    subject: Subject::Pool,
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
