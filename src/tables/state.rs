//! `state.*`: what the domain is doing (`virDomainState` and its reasons).

use super::Group;
use super::group::{GroupInfo, Source};
use super::kind::{Origin, Subject};
use super::row::{NONE, Row, Shape, Table, of};
use crate::libvirt::StatsGroups;

/// The states by number (`virDomainState`).
pub(crate) const STATES: &[&str] =
    &["nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"];

/// The reasons by state and number (`virDomainRunningReason`, `virDomainPausedReason` and so on).
#[rustfmt::skip]
pub(crate) const REASONS: &[&[&str]] = &[
    &["unknown"],
    &["unknown", "booted", "migrated", "restored", "from_snapshot", "unpaused", "migration_canceled",
      "save_canceled", "wakeup", "crashed", "postcopy", "postcopy_failed"],
    &["unknown"],
    &["unknown", "user", "migration", "save", "dump", "ioerror", "watchdog", "from_snapshot", "shutting_down",
      "snapshot", "crashed", "starting_up", "postcopy", "postcopy_failed", "api_error"],
    &["unknown", "user"],
    &["unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot", "daemon"],
    &["unknown", "panicked"],
    &["unknown"],
];

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "state",
    help: "State and its reason",
    source: Source::Stats(StatsGroups::STATE),
    prefix: "state",
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::State),
    subject: Subject::Domain,
    origin: Origin::Process,
    active_only: false,
    scopes: &[],
    rows: &[
        Row::gauge(&["state.state"], "libvirt_domain_state", of("domain"), ("libvirt.domain.status", NONE),
            "Whether the domain is in this state: 1 for the current state, 0 for every other one")
            .shaped(Shape::States { label: "state", names: STATES }),
        Row::info(&["state.reason"], &[], "libvirt_domain_state_reason_info", ("libvirt.domain.status_reason", NONE),
            "Reason for the current state of the domain")
            .shaped(Shape::Reason { states: STATES, reasons: REASONS }),
    ],
};
