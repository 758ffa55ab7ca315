//! `snapshot.*`: snapshots and checkpoints of a domain.

use super::Group;
use super::group::GroupInfo;
use super::kind::{Origin, Subject};
use super::row::{NONE, NUMBER, Row, SECONDS, Table, of};

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "snapshot",
    help: "Snapshots and checkpoints of domains that have any",
    prefix: "snapshot",
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Snapshot),
    subject: Subject::Domain,
    origin: Origin::Process,
    active_only: false,
    scopes: &[],
    rows: &[
        Row::gauge(&["snapshot.count"], "libvirt_domain_snapshots", of("snapshot"), ("libvirt.domain.snapshot.count", NONE),
            "Snapshots of the domain; no sample where it has neither snapshots nor checkpoints"),
        Row::gauge(&["snapshot.oldest"], "libvirt_domain_snapshot_oldest_timestamp_seconds", SECONDS, ("libvirt.domain.snapshot.oldest_timestamp", NONE),
            "When the oldest snapshot was made, as a Unix time"),
        Row::gauge(&["snapshot.newest"], "libvirt_domain_snapshot_newest_timestamp_seconds", SECONDS, ("libvirt.domain.snapshot.newest_timestamp", NONE),
            "When the newest snapshot was made, as a Unix time"),
        Row::gauge(&["snapshot.current_external"], "libvirt_domain_snapshot_current_external", NUMBER, ("libvirt.domain.snapshot.current_external", NONE),
            "Whether the snapshot that the disks go on from is external, in files of its own: 1 yes, 0 no"),
        Row::gauge(&["snapshot.checkpoint.count"], "libvirt_domain_checkpoints", of("checkpoint"), ("libvirt.domain.checkpoint.count", NONE),
            "Checkpoints of the domain, from which on incremental backups go; no sample where it has neither snapshots nor checkpoints"),
        Row::gauge(&["snapshot.checkpoint.oldest"], "libvirt_domain_checkpoint_oldest_timestamp_seconds", SECONDS, ("libvirt.domain.checkpoint.oldest_timestamp", NONE),
            "When the oldest checkpoint was made, as a Unix time"),
        Row::gauge(&["snapshot.checkpoint.newest"], "libvirt_domain_checkpoint_newest_timestamp_seconds", SECONDS, ("libvirt.domain.checkpoint.newest_timestamp", NONE),
            "When the newest checkpoint was made, as a Unix time"),
    ],
};
