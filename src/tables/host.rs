//! The host and its libvirt.

use super::Group;
use super::group::GroupInfo;
use super::kind::{Origin, Subject};
use super::row::{BYTES, KIB, NONE, NUMBER, Row, Scope, Table, of, table};

#[rustfmt::skip]
table! {
    /// What is there whatever the groups are.
    TABLE: None, Subject::Host;
    UP = Gauge, NUMBER, "libvirt_up", "libvirt.up", [],
        "Whether the last collection reached libvirt: 1 yes, 0 no";
    VERSIONS = Info, NUMBER, "libvirt_version_info", "libvirt.version", ["library", "libvirt", "hypervisor", "driver"],
        "Versions of libvirt's client library, the daemon and the hypervisor, and the driver's name";
    HOST_CPUS = Gauge, of("cpu"), "libvirt_host_cpus", "libvirt.host.cpu.count", [],
        "Logical CPUs of the host that are online, as of the last listing of the domains";
    HOST_MEMORY = Gauge, BYTES, "libvirt_host_memory_bytes", "libvirt.host.memory", [],
        "Memory of the host, as of the last listing of the domains";
    DOMAINS = Gauge, of("domain"), "libvirt_domains", "libvirt.domain.count", ["state"],
        "Number of exported domains by state";
}

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "host",
    help: "Memory, huge pages and CPUs of the host, by NUMA node too",
    prefix: "host",
    table: OF_GROUP,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const OF_GROUP: Table = Table {
    group: Some(Group::Host),
    subject: Subject::Host,
    origin: Origin::Exporter,
    active_only: false,
    scopes: &[
        Scope { prefix: "host.numa.<n>", label: "node", named_by: None },
        Scope { prefix: "host.numa.<n>.pages.<m>", label: "page_size", named_by: Some("host.numa.<n>.pages.<m>.size") },
    ],
    rows: &[
        Row::gauge(&["host.memory.free"], "libvirt_host_memory_free_bytes", KIB, ("libvirt.host.memory.free", NONE),
            "Free memory of the host"),
        Row::gauge(&["host.memory.buffers"], "libvirt_host_memory_buffers_bytes", KIB,
            ("libvirt.host.memory.buffers", NONE), "Memory of the host in buffers"),
        Row::gauge(&["host.memory.cached"], "libvirt_host_memory_cached_bytes", KIB,
            ("libvirt.host.memory.cached", NONE), "Memory of the host in the page cache"),
        Row::gauge(&["host.numa.<n>.memory.total"], "libvirt_host_numa_memory_bytes", KIB, ("libvirt.host.numa.memory", NONE),
            "Memory of the NUMA node"),
        Row::gauge(&["host.numa.<n>.memory.free"], "libvirt_host_numa_memory_free_bytes", KIB,
            ("libvirt.host.numa.memory.free", NONE), "Free memory of the NUMA node"),
        Row::gauge(&["host.numa.<n>.pages.<m>.total"], "libvirt_host_hugepages", of("page"),
            ("libvirt.host.hugepage.count", NONE), "Huge pages of the NUMA node by size in bytes"),
        Row::gauge(&["host.numa.<n>.pages.<m>.free"], "libvirt_host_hugepages_free", of("page"),
            ("libvirt.host.hugepage.free", NONE), "Free huge pages of the NUMA node by size in bytes"),
        Row::gauge(&["host.cpu.present"], "libvirt_host_cpus_present", of("cpu"), ("libvirt.host.cpu.present", NONE),
            "Logical CPUs of the host, those that are offline included"),
        Row::gauge(&["host.cpu.nodes"], "libvirt_host_numa_nodes", of("node"), ("libvirt.host.numa.node.count", NONE),
            "NUMA nodes of the host; 1 where libvirt cannot express the topology"),
        Row::gauge(&["host.cpu.sockets"], "libvirt_host_cpu_sockets_per_node", NUMBER,
            ("libvirt.host.cpu.sockets_per_node", NONE), "CPU sockets of each NUMA node"),
        Row::gauge(&["host.cpu.cores"], "libvirt_host_cpu_cores_per_socket", NUMBER,
            ("libvirt.host.cpu.cores_per_socket", NONE), "Cores of each CPU socket"),
        Row::gauge(&["host.cpu.threads"], "libvirt_host_cpu_threads_per_core", NUMBER,
            ("libvirt.host.cpu.threads_per_core", NONE), "Threads of each core"),
    ],
};
