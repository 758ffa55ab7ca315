//! Snapshots and checkpoints of a domain that has any.
//!
//! Either kind is a tree in which no node is older than its parent: the oldest is one of the roots, the newest one of the leaves,
//! so however long a chain is, two definitions of it are read.

use std::time::Duration;

use super::{Probe, Scope, Session, Subject, WaitsFor, supported};
use crate::config::Group;
use crate::domains::{Domain, SnapshotInfo, parse_snapshot};
use crate::libvirt::{EventKind, Generation, LibvirtError, ParamValue, Records};
use crate::tables::{self, NONE, NUMBER, Origin, Row, SECONDS, Table, of};

/// libvirt has no event for snapshots as such.
const EVERY: Duration = Duration::from_secs(300);
/// Ten domains a second, at most.
const PACE: Duration = Duration::from_millis(100);
/// Most roots and most leaves of a tree that are read; of a larger tree neither age is told.
const MOST_READ: usize = 64;

pub(super) const PROBE: Probe = Probe {
    table: Some(&TABLE),
    pace: |_| PACE,
    applies,
    follows,
    fetch,
    ..Probe::of_group(Group::Snapshot, Scope::Domain, WaitsFor::Nothing, |_| Some(EVERY))
};

/// `snapshot.*`.
#[rustfmt::skip]
static TABLE: Table = Table {
    group: Some(Group::Snapshot),
    subject: tables::Subject::Domain,
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
            "Whether the current snapshot is external (in separate files): 1 yes, 0 no"),
        Row::gauge(&["snapshot.checkpoint.count"], "libvirt_domain_checkpoints", of("checkpoint"), ("libvirt.domain.checkpoint.count", NONE),
            "Checkpoints of the domain, on which incremental backups are based; no sample where it has neither snapshots nor checkpoints"),
        Row::gauge(&["snapshot.checkpoint.oldest"], "libvirt_domain_checkpoint_oldest_timestamp_seconds", SECONDS, ("libvirt.domain.checkpoint.oldest_timestamp", NONE),
            "When the oldest checkpoint was made, as a Unix time"),
        Row::gauge(&["snapshot.checkpoint.newest"], "libvirt_domain_checkpoint_newest_timestamp_seconds", SECONDS, ("libvirt.domain.checkpoint.newest_timestamp", NONE),
            "When the newest checkpoint was made, as a Unix time"),
    ],
};

fn applies(domain: &Domain) -> bool {
    domain.flags.is_some_and(|flags| flags.has_snapshots || flags.has_checkpoints)
}

/// A snapshot with memory is a job, and so are backups, which leave checkpoints, and some deletions; a domain that goes back to a
/// snapshot is defined by it, and starts or stops. Others show in the definition that is read again.
fn follows(event: &EventKind) -> bool {
    matches!(event, EventKind::JobCompleted(_) | EventKind::Lifecycle { .. })
}

fn fetch(session: &mut Session, subject: Subject) -> Result<Records, LibvirtError> {
    let mut records = Records::default();
    let Some(uuid) = subject.domain() else { return Ok(records) };
    let (domain, connection) = session.domain(uuid)?;
    let identity = domain.identity();
    records.push_domain(&identity.name, uuid, identity.id);
    let snapshots = |which| domain.snapshots(connection, which);
    if let Some(tree) = supported(read_tree(snapshots, |snapshot| snapshot.xml_description(connection)).map(Some))? {
        tree.push("snapshot", &mut records);
    }
    if let Some(snapshot) = supported(domain.current_snapshot(connection))?
        && let Some(info) = info(&snapshot.xml_description(connection)?)
    {
        records.push("snapshot.current_external", ParamValue::Boolean(info.is_external));
    }
    let checkpoints = |which| domain.checkpoints(connection, which);
    if let Some(tree) =
        supported(read_tree(checkpoints, |checkpoint| checkpoint.xml_description(connection)).map(Some))?
    {
        tree.push("snapshot.checkpoint", &mut records);
    }
    Ok(records)
}

/// What is not XML says nothing.
fn info(xml: &str) -> Option<SnapshotInfo> {
    parse_snapshot(xml).ok()
}

/// How many nodes a tree has, and the times of the oldest and the newest.
struct Tree {
    count: usize,
    oldest: Option<i64>,
    newest: Option<i64>,
}

impl Tree {
    fn push(&self, prefix: &str, records: &mut Records) {
        let count = u64::try_from(self.count).unwrap_or(u64::MAX);
        records.push(&format!("{prefix}.count"), ParamValue::ULLong(count));
        for (key, time) in [("oldest", self.oldest), ("newest", self.newest)] {
            if let Some(time) = time {
                records.push(&format!("{prefix}.{key}"), ParamValue::LLong(time));
            }
        }
    }
}

fn read_tree<N>(
    list: impl Fn(Generation) -> Result<Vec<N>, LibvirtError>,
    read: impl Fn(&N) -> Result<String, LibvirtError>,
) -> Result<Tree, LibvirtError> {
    let times = |which| -> Result<Vec<i64>, LibvirtError> {
        let nodes = list(which)?;
        if nodes.len() > MOST_READ {
            return Ok(Vec::new());
        }
        let mut times = Vec::new();
        for node in &nodes {
            times.extend(info(&read(node)?).and_then(|info| info.created));
        }
        Ok(times)
    };
    let count = list(Generation::All)?.len();
    let oldest = times(Generation::Roots)?.into_iter().min();
    Ok(Tree { count, oldest, newest: times(Generation::Leaves)?.into_iter().max() })
}
