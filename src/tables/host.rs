//! The host and its libvirt.

use super::kind::Subject;
use super::row::{BYTES, NUMBER, of, table};

#[rustfmt::skip]
table! {
    /// Metrics that do not depend on the groups.
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
