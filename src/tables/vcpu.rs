//! `vcpu.*`: each vCPU. The statistics that KVM adds are the group `vcpu_kvm`.

use super::Group;
use super::group::{GroupInfo, Source};
use super::kind::{Origin, Subject};
use super::row::{NANOS, NONE, NUMBER, Row, Scope, Table, of};
use crate::libvirt::StatsGroups;

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "vcpu",
    help: "vCPUs",
    source: Source::Stats(StatsGroups::VCPU),
    prefix: "vcpu",
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Vcpu),
    subject: Subject::Domain,
    origin: Origin::Device,
    active_only: false,
    scopes: &[Scope { prefix: "vcpu.<n>", label: "vcpu", named_by: None }],
    rows: &[
        Row::gauge(&["vcpu.current"], "libvirt_domain_vcpus_current", of("vcpu"), ("libvirt.domain.vcpu.count", NONE),
            "Current number of vCPUs"),
        Row::gauge(&["vcpu.maximum"], "libvirt_domain_vcpus_maximum", of("vcpu"), ("libvirt.domain.vcpu.limit", NONE),
            "Maximum number of vCPUs"),
        Row::gauge(&["vcpu.<n>.state"], "libvirt_domain_vcpu_state", NUMBER, ("libvirt.domain.vcpu.state", NONE),
            "State of the vCPU (virVcpuState): 0 offline, 1 running, 2 blocked"),
        Row::counter(&["vcpu.<n>.time"], "libvirt_domain_vcpu_time_seconds_total", NANOS, ("libvirt.domain.vcpu.time", NONE),
            "CPU time of the vCPU"),
        Row::counter(&["vcpu.<n>.wait"], "libvirt_domain_vcpu_wait_seconds_total", NANOS, ("libvirt.domain.vcpu.wait_time", NONE),
            "Time that the vCPU waited on I/O; stays 0 unless the host's kernel collects scheduler statistics"),
        Row::counter(&["vcpu.<n>.delay"], "libvirt_domain_vcpu_delay_seconds_total", NANOS, ("libvirt.domain.vcpu.delay_time", NONE),
            "Time that the vCPU was ready to run but the host had no CPU for it: the guest's steal time"),
        Row::gauge(&["vcpu.<n>.halted"], "libvirt_domain_vcpu_halted", NUMBER, ("libvirt.domain.vcpu.halted", NONE),
            "Whether the vCPU is halted: 1 yes, 0 no"),
    ],
};
