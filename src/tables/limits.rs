//! What a domain may use of its host, from its definition: what `virsh schedinfo`, `memtune`, `blkiotune`, `blkdeviotune`,
//! `domiftune` and `vcpupin` set.

use super::Group;
use super::group::{GroupInfo, Source};
use super::kind::{Kind, Origin, Subject};
use super::row::{
    Attributes, BYTES, BYTES_PER_SECOND, KB_PER_SECOND, KIB, MICROS, Measure, Metric, NONE, NUMBER,
    REQUESTS_PER_SECOND, Row, SECONDS, Table, of, table,
};

const READ: Attributes = &[("disk.io.direction", "read")];
const WRITE: Attributes = &[("disk.io.direction", "write")];
const RECEIVE: Attributes = &[("network.io.direction", "receive")];
const TRANSMIT: Attributes = &[("network.io.direction", "transmit")];

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "limits",
    help: "Limits from the domain XML: CPU, memory, disks and network; a limit that is not set has no sample",
    source: Source::Definition,
    prefix: "limits",
    ..GroupInfo::USUAL
};

/// A limit by its name in [`Limits`](crate::domains::Limits), and its metric.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    pub(crate) metric: Metric,
}

const fn gauge(
    measure: Measure,
    name: &'static str,
    otel: (&'static str, Attributes),
    labels: &'static [&'static str],
    help: &'static str,
) -> Row {
    let (otel_name, otel_attributes) = otel;
    Row { otel_attributes, ..Row::without_key(Kind::Gauge, measure, name, otel_name, labels, help) }
}

macro_rules! limits {
    ($(
        $(#[$doc:meta])*
        $list:ident $labels:expr => {
            $($of:literal: $measure:expr, $name:literal, $otel:expr, $help:literal;)+
        }
    )+) => {
        /// Numbers of definitions.
        pub(crate) static TABLE: Table = Table {
            group: Some(Group::Limits),
            subject: Subject::Domain,
            origin: Origin::Exporter,
            active_only: false,
            scopes: &[],
            rows: &[$($(gauge($measure, $name, $otel, &$labels, $help)),+),+],
        };
        $(
            $(#[$doc])*
            pub(crate) static $list: &[Limit] = &[$(Limit {
                name: $of,
                metric: Metric { row: gauge($measure, $name, $otel, &$labels, $help), table: &TABLE },
            }),+];
        )+
    };
}

#[rustfmt::skip]
limits! {
    /// Of the domain.
    OF_DOMAIN [] => {
        "cpu_shares": NUMBER, "libvirt_domain_cpu_shares", ("libvirt.domain.cpu.shares", NONE),
            "Weight of the domain against others where they compete for CPUs";
        "global_quota": MICROS, "libvirt_domain_cpu_quota_seconds", ("libvirt.domain.cpu.quota", NONE),
            "CPU time that the whole domain may use in each period";
        "global_period": MICROS, "libvirt_domain_cpu_period_seconds", ("libvirt.domain.cpu.period", NONE),
            "The period of the whole domain's quota";
        "vcpu_quota": MICROS, "libvirt_domain_vcpu_quota_seconds", ("libvirt.domain.vcpu.quota", NONE),
            "CPU time that each vCPU may use in each period";
        "vcpu_period": MICROS, "libvirt_domain_vcpu_period_seconds", ("libvirt.domain.vcpu.period", NONE),
            "The period of the vCPUs' quota";
        "emulator_quota": MICROS, "libvirt_domain_emulator_quota_seconds", ("libvirt.domain.emulator.quota", NONE),
            "CPU time that the hypervisor's threads other than vCPUs and I/O threads may use in each period";
        "emulator_period": MICROS, "libvirt_domain_emulator_period_seconds", ("libvirt.domain.emulator.period", NONE),
            "The period of the quota of the hypervisor's other threads";
        "iothread_quota": MICROS, "libvirt_domain_iothread_quota_seconds", ("libvirt.domain.iothread.quota", NONE),
            "CPU time that each I/O thread may use in each period";
        "iothread_period": MICROS, "libvirt_domain_iothread_period_seconds", ("libvirt.domain.iothread.period", NONE),
            "The period of the I/O threads' quota";
        "hard_limit": BYTES, "libvirt_domain_memory_hard_limit_bytes", ("libvirt.domain.memory.hard_limit", NONE),
            "Most memory of the host that the domain's hypervisor process may use";
        "soft_limit": BYTES, "libvirt_domain_memory_soft_limit_bytes", ("libvirt.domain.memory.soft_limit", NONE),
            "Memory limit of the domain while the host is short of memory";
        "swap_hard_limit": BYTES, "libvirt_domain_memory_swap_hard_limit_bytes", ("libvirt.domain.memory.swap_hard_limit", NONE),
            "Most memory and swap space of the host together that the domain may use";
        "min_guarantee": BYTES, "libvirt_domain_memory_min_guarantee_bytes", ("libvirt.domain.memory.min_guarantee", NONE),
            "Memory that is guaranteed to the domain";
        "blkio_weight": NUMBER, "libvirt_domain_blkio_weight", ("libvirt.domain.blkio.weight", NONE),
            "Weight of the domain against others where they compete for the host's disks";
    }
    /// Of a device of the host that the domain's disks are on.
    OF_HOST_DEVICE ["path"] => {
        "weight": NUMBER, "libvirt_domain_blkio_device_weight", ("libvirt.domain.blkio.device.weight", NONE),
            "Weight of the domain against others on a block device of the host";
        "read_bytes_sec": BYTES_PER_SECOND, "libvirt_domain_blkio_device_read_bytes_per_second", ("libvirt.domain.blkio.device.io", READ),
            "Bytes that the domain may read from a block device of the host in a second";
        "write_bytes_sec": BYTES_PER_SECOND, "libvirt_domain_blkio_device_write_bytes_per_second", ("libvirt.domain.blkio.device.io", WRITE),
            "Bytes that the domain may write to a block device of the host in a second";
        "read_iops_sec": REQUESTS_PER_SECOND, "libvirt_domain_blkio_device_read_requests_per_second", ("libvirt.domain.blkio.device.operations", READ),
            "Read requests that the domain may make to a block device of the host in a second";
        "write_iops_sec": REQUESTS_PER_SECOND, "libvirt_domain_blkio_device_write_requests_per_second", ("libvirt.domain.blkio.device.operations", WRITE),
            "Write requests that the domain may make to a block device of the host in a second";
    }
    /// Of a disk.
    OF_DISK ["device"] => {
        "total_bytes_sec": BYTES_PER_SECOND, "libvirt_domain_block_throttle_total_bytes_per_second", ("libvirt.domain.disk.throttle.total_io", NONE),
            "Bytes that the guest may read and write in a second";
        "read_bytes_sec": BYTES_PER_SECOND, "libvirt_domain_block_throttle_read_bytes_per_second", ("libvirt.domain.disk.throttle.io", READ),
            "Bytes that the guest may read in a second";
        "write_bytes_sec": BYTES_PER_SECOND, "libvirt_domain_block_throttle_write_bytes_per_second", ("libvirt.domain.disk.throttle.io", WRITE),
            "Bytes that the guest may write in a second";
        "total_iops_sec": REQUESTS_PER_SECOND, "libvirt_domain_block_throttle_total_requests_per_second", ("libvirt.domain.disk.throttle.total_operations", NONE),
            "Requests to read and write that the guest may make in a second";
        "read_iops_sec": REQUESTS_PER_SECOND, "libvirt_domain_block_throttle_read_requests_per_second", ("libvirt.domain.disk.throttle.operations", READ),
            "Read requests that the guest may make in a second";
        "write_iops_sec": REQUESTS_PER_SECOND, "libvirt_domain_block_throttle_write_requests_per_second", ("libvirt.domain.disk.throttle.operations", WRITE),
            "Write requests that the guest may make in a second";
        "total_bytes_sec_max": BYTES_PER_SECOND, "libvirt_domain_block_throttle_total_burst_bytes_per_second", ("libvirt.domain.disk.throttle.burst.total_io", NONE),
            "Bytes that the guest may read and write in a second of a burst";
        "read_bytes_sec_max": BYTES_PER_SECOND, "libvirt_domain_block_throttle_read_burst_bytes_per_second", ("libvirt.domain.disk.throttle.burst.io", READ),
            "Bytes that the guest may read in a second of a burst";
        "write_bytes_sec_max": BYTES_PER_SECOND, "libvirt_domain_block_throttle_write_burst_bytes_per_second", ("libvirt.domain.disk.throttle.burst.io", WRITE),
            "Bytes that the guest may write in a second of a burst";
        "total_iops_sec_max": REQUESTS_PER_SECOND, "libvirt_domain_block_throttle_total_burst_requests_per_second", ("libvirt.domain.disk.throttle.burst.total_operations", NONE),
            "Requests to read and write that the guest may make in a second of a burst";
        "read_iops_sec_max": REQUESTS_PER_SECOND, "libvirt_domain_block_throttle_read_burst_requests_per_second", ("libvirt.domain.disk.throttle.burst.operations", READ),
            "Read requests that the guest may make in a second of a burst";
        "write_iops_sec_max": REQUESTS_PER_SECOND, "libvirt_domain_block_throttle_write_burst_requests_per_second", ("libvirt.domain.disk.throttle.burst.operations", WRITE),
            "Write requests that the guest may make in a second of a burst";
        "total_bytes_sec_max_length": SECONDS, "libvirt_domain_block_throttle_total_bytes_burst_length_seconds", ("libvirt.domain.disk.throttle.burst.total_io.length", NONE),
            "How long a burst of bytes read and written may last";
        "read_bytes_sec_max_length": SECONDS, "libvirt_domain_block_throttle_read_bytes_burst_length_seconds", ("libvirt.domain.disk.throttle.burst.io.length", READ),
            "How long a burst of bytes read may last";
        "write_bytes_sec_max_length": SECONDS, "libvirt_domain_block_throttle_write_bytes_burst_length_seconds", ("libvirt.domain.disk.throttle.burst.io.length", WRITE),
            "How long a burst of bytes written may last";
        "total_iops_sec_max_length": SECONDS, "libvirt_domain_block_throttle_total_requests_burst_length_seconds", ("libvirt.domain.disk.throttle.burst.total_operations.length", NONE),
            "How long a burst of requests to read and write may last";
        "read_iops_sec_max_length": SECONDS, "libvirt_domain_block_throttle_read_requests_burst_length_seconds", ("libvirt.domain.disk.throttle.burst.operations.length", READ),
            "How long a burst of read requests may last";
        "write_iops_sec_max_length": SECONDS, "libvirt_domain_block_throttle_write_requests_burst_length_seconds", ("libvirt.domain.disk.throttle.burst.operations.length", WRITE),
            "How long a burst of write requests may last";
        "size_iops_sec": BYTES, "libvirt_domain_block_throttle_request_size_bytes", ("libvirt.domain.disk.throttle.operation_size", NONE),
            "Size from which on a request counts as several against the throttles of requests";
    }
    /// Of a network interface.
    OF_INTERFACE ["interface"] => {
        "inbound.average": KB_PER_SECOND, "libvirt_domain_interface_receive_bandwidth_average_bytes_per_second", ("libvirt.domain.network.bandwidth.average", RECEIVE),
            "Bytes that the guest may receive in a second on average (inbound)";
        "inbound.peak": KB_PER_SECOND, "libvirt_domain_interface_receive_bandwidth_peak_bytes_per_second", ("libvirt.domain.network.bandwidth.peak", RECEIVE),
            "Bytes that the guest may receive in a second of a burst (inbound)";
        "inbound.burst": KIB, "libvirt_domain_interface_receive_bandwidth_burst_bytes", ("libvirt.domain.network.bandwidth.burst", RECEIVE),
            "Bytes that the guest may receive in one burst (inbound)";
        "inbound.floor": KB_PER_SECOND, "libvirt_domain_interface_receive_bandwidth_floor_bytes_per_second", ("libvirt.domain.network.bandwidth.floor", RECEIVE),
            "Bytes per second that the guest is guaranteed to receive (inbound)";
        "outbound.average": KB_PER_SECOND, "libvirt_domain_interface_transmit_bandwidth_average_bytes_per_second", ("libvirt.domain.network.bandwidth.average", TRANSMIT),
            "Bytes that the guest may send in a second on average (outbound)";
        "outbound.peak": KB_PER_SECOND, "libvirt_domain_interface_transmit_bandwidth_peak_bytes_per_second", ("libvirt.domain.network.bandwidth.peak", TRANSMIT),
            "Bytes that the guest may send in a second of a burst (outbound)";
        "outbound.burst": KIB, "libvirt_domain_interface_transmit_bandwidth_burst_bytes", ("libvirt.domain.network.bandwidth.burst", TRANSMIT),
            "Bytes that the guest may send in one burst (outbound)";
    }
}

#[rustfmt::skip]
table! {
    /// What else limits a domain.
    OTHERS: Some(Group::Limits), Subject::Domain;
    VCPU_AFFINITY = Gauge, of("cpu"), "libvirt_domain_vcpu_affinity_cpus", "libvirt.domain.vcpu.affinity", ["vcpu"],
        "CPUs of the host that a vCPU may use, where it may not use all";
    HUGEPAGES = Gauge, NUMBER, "libvirt_domain_memory_hugepages", "libvirt.domain.memory.hugepages", [],
        "Whether the domain's memory is in huge pages of the host: 1 yes, 0 no";
    HUGEPAGE_SIZE = Gauge, BYTES, "libvirt_domain_memory_hugepage_size_bytes", "libvirt.domain.memory.hugepage.size", ["nodeset"],
        "Size of the huge pages that the domain asks for, for the guest's NUMA nodes or for all of them; without one, the host's usual size";
    THROTTLE_INFO = Info, NUMBER, "libvirt_domain_block_throttle_info", "libvirt.domain.disk.throttle.info", ["device", "throttle_group"],
        "The throttle group of a disk: the disks of a domain that are in one share its throttles";
}
