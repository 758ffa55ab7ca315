//! `memory.*`: memory bandwidth monitors (resctrl).

use super::Group;
use super::group::{GroupInfo, Source};
use super::kind::{Origin, Subject};
use super::row::{BYTES, NONE, Row, Scope, Table, of};
use crate::libvirt::StatsGroups;

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "memory",
    help: "Memory bandwidth monitors (resctrl)",
    source: Source::Stats(StatsGroups::MEMORY),
    prefix: "memory",
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Memory),
    subject: Subject::Domain,
    origin: Origin::Process,
    active_only: false,
    scopes: &[
        Scope { prefix: "memory.bandwidth.monitor.<n>", label: "monitor", named_by: Some("memory.bandwidth.monitor.<n>.name") },
        Scope { prefix: "memory.bandwidth.monitor.<n>.node.<m>", label: "node", named_by: Some("memory.bandwidth.monitor.<n>.node.<m>.id") },
    ],
    rows: &[
        Row::gauge(&["memory.bandwidth.monitor.count"], "libvirt_domain_memory_bandwidth_monitors", of("monitor"), ("libvirt.domain.memory.bandwidth.monitor.count", NONE),
            "Memory bandwidth monitors (resctrl) of the domain"),
        Row::info(&["memory.bandwidth.monitor.<n>.vcpus"], &["vcpus"], "libvirt_domain_memory_bandwidth_monitor_info", ("libvirt.domain.memory.bandwidth.monitor.info", NONE),
            "The vCPUs that a memory bandwidth monitor watches"),
        Row::gauge(&["memory.bandwidth.monitor.<n>.node.count"], "libvirt_domain_memory_bandwidth_monitor_nodes", of("node"), ("libvirt.domain.memory.bandwidth.monitor.node.count", NONE),
            "Memory controllers that a memory bandwidth monitor watches"),
        Row::counter(&["memory.bandwidth.monitor.<n>.node.<m>.bytes.local"], "libvirt_domain_memory_bandwidth_local_bytes_total", BYTES, ("libvirt.domain.memory.local_io", NONE),
            "Bytes that the monitored vCPUs moved through the memory controller of their own node"),
        Row::counter(&["memory.bandwidth.monitor.<n>.node.<m>.bytes.total"], "libvirt_domain_memory_bandwidth_bytes_total", BYTES, ("libvirt.domain.memory.io", NONE),
            "Bytes that the monitored vCPUs moved through all memory controllers"),
    ],
};
