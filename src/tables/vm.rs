//! `vm.*`: statistics that KVM keeps for the whole domain. All of them are named by rule.

use super::Group;
use super::group::{GroupInfo, KeyPattern, Monitor, Rule, Source};
use super::kind::{Origin, Subject};
use super::row::Table;
use crate::libvirt::StatsGroups;

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "vm",
    help: "KVM's statistics of the virtual machine",
    source: Source::Stats(StatsGroups::VM),
    prefix: "vm",
    monitor: Some(Monitor { answers: KeyPattern::Any, from_kvm: true, shows_job: true }),
    rule: Some(Rule { prefix: "vm.", name: "libvirt_domain_kvm_", otel_name: "libvirt.domain.kvm.", of: "the domain" }),
    table: Table {
        group: Some(Group::Vm),
        subject: Subject::Domain,
        origin: Origin::Process,
        active_only: false,
        scopes: &[],
        rows: &[],
    },
    ..GroupInfo::USUAL
};
