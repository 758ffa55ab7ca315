//! `vcpu.<n>.<name>.sum` and so on: what KVM adds to the statistics of each vCPU. All of them are named by rule.

use super::Group;
use super::group::{GroupInfo, KeyPattern, Monitor, Rule, Source};
use super::kind::{Origin, Subject};
use super::row::Table;
use crate::libvirt::StatsGroups;

/// Some 40 series per vCPU, hence off by default. libvirt sends them with its group of vCPUs, requested or not.
pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "vcpu_kvm",
    help: "KVM's statistics of each vCPU",
    default: false,
    source: Source::Stats(StatsGroups::VCPU),
    prefix: "vcpu",
    monitor: Some(Monitor { answers: KeyPattern::Any, from_kvm: true, shows_job: true }),
    rule: Some(Rule {
        prefix: "vcpu.<n>.",
        name: "libvirt_domain_vcpu_kvm_",
        otel_name: "libvirt.domain.vcpu.kvm.",
        of: "a vCPU",
    }),
    table: Table {
        group: Some(Group::VcpuKvm),
        subject: Subject::Domain,
        origin: Origin::Device,
        active_only: false,
        scopes: &[],
        rows: &[],
    },
    ..GroupInfo::USUAL
};
