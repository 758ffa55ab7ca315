//! `dirtyrate.*`: how fast the guest writes to its memory, once it was measured (`virsh domdirtyrate-calc`).

use super::Group;
use super::group::{GroupInfo, KeyPattern, Monitor, Source};
use super::kind::{Origin, Subject};
use super::row::{MIB_PER_SECOND, NONE, Row, SECONDS, Scope, Shape, Table, of};
use crate::libvirt::StatsGroups;

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "dirtyrate",
    help: "Rate at which the guest writes to its memory, once it was measured",
    source: Source::Stats(StatsGroups::DIRTYRATE),
    prefix: "dirtyrate",
    monitor: Some(Monitor { answers: KeyPattern::Key("dirtyrate.calc_status"), from_kvm: false, shows_job: true }),
    fragile: true,
    table: TABLE,
    ..GroupInfo::USUAL
};

/// The key of which there is no metric: QEMU sends the start of the last measurement as a Unix time or, in some versions, as
/// seconds on the host's monotonic clock, and does not say which.
pub(crate) const WITHOUT_METRIC: &str = "dirtyrate.calc_start_time";

/// `virDomainDirtyRateStatus`
const CALC_STATUSES: &[&str] = &["unstarted", "measuring", "measured"];

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Dirtyrate),
    subject: Subject::Domain,
    origin: Origin::Process,
    active_only: false,
    scopes: &[Scope { prefix: "dirtyrate.vcpu.<n>", label: "vcpu", named_by: None }],
    rows: &[
        Row::gauge(&["dirtyrate.calc_status"], "libvirt_domain_dirtyrate_calc_status", of("domain"), ("libvirt.domain.dirty_rate.status", NONE),
            "Whether the measurement has this status: 1 for the current status, 0 for every other one")
            .shaped(Shape::States { label: "status", names: CALC_STATUSES }),
        Row::gauge(&["dirtyrate.calc_period"], "libvirt_domain_dirtyrate_calc_period_seconds", SECONDS, ("libvirt.domain.dirty_rate.period", NONE),
            "How long a measurement takes"),
        Row::info(&["dirtyrate.calc_mode"], &["mode"], "libvirt_domain_dirtyrate_info", ("libvirt.domain.dirty_rate.info", NONE),
            "How the dirty rate is measured"),
        Row::gauge(&["dirtyrate.megabytes_per_second"], "libvirt_domain_dirtyrate_bytes_per_second", MIB_PER_SECOND, ("libvirt.domain.dirty_rate", NONE),
            "Memory that the guest dirtied per second in the last measurement"),
        Row::gauge(&["dirtyrate.vcpu.<n>.megabytes_per_second"], "libvirt_domain_vcpu_dirtyrate_bytes_per_second", MIB_PER_SECOND, ("libvirt.domain.vcpu.dirty_rate", NONE),
            "Memory that the vCPU dirtied per second in the last measurement"),
    ],
};
