//! vexxhost/libvirtd_exporter: libvirt's own names, units and numbers, by UUID.

use super::{Dialect, Entry, Label, Missing, Source, Values};
use crate::config::MetricNaming;
use crate::tables::STATES;
use crate::tables::host::VERSIONS;

pub(super) static DIALECT: Dialect = Dialect {
    naming: MetricNaming::Vexxhost,
    repository: "vexxhost/libvirtd_exporter",
    commit: "d41b13e",
    about: "Its port is 9474. A domain that is shut off has its state and, with \
            `collection.inactive_domains: all`, its balloon (`current`, `maximum`) and the sizes of its disks. CPU times, states \
            of vCPUs, interfaces and I/O counters are absent, since libvirt does not report them.",
    entries: &[HOST, DOMAIN_STATE, CPU, BALLOON, VCPU, NET, BLOCK],
    missing: MISSING,
};

const DOMAIN: &[Label] = &[Label("uuid", Source::Uuid)];
const OF_VCPU: &[Label] = &[Label("uuid", Source::Uuid), Label("vcpu", Source::Own("vcpu"))];
const OF_INTERFACE: &[Label] = &[Label("uuid", Source::Uuid), Label("interface", Source::Own("interface"))];
const OF_DISK: &[Label] =
    &[Label("uuid", Source::Uuid), Label("device", Source::DiskNumber), Label("path", Source::Disk("path"))];

const NANOSECONDS: Values = Values::Times(1e9, "nanoseconds");
const KIB: Values = Values::Times(1.0 / 1024.0, "KiB");

#[rustfmt::skip]
const HOST: &[Entry] = &[
    Entry::counter("libvirtd_info", &[
        Label("driver", Source::Own("driver")),
        Label("driver_version", Source::Own("hypervisor")),
        Label("version", Source::Own("libvirt")),
    ], VERSIONS.row.name),
];

#[rustfmt::skip]
const DOMAIN_STATE: &[Entry] = &[
    Entry::gauge("libvirtd_domain_domain_state", DOMAIN, "libvirt_domain_state").of(Values::State(STATES)),
    Entry::gauge("libvirtd_domain_domain_state_reason", DOMAIN, "libvirt_domain_state_reason_info").of(Values::Reason),
];

#[rustfmt::skip]
const CPU: &[Entry] = &[
    Entry::counter("libvirtd_domain_cpu_time", DOMAIN, "libvirt_domain_cpu_time_seconds_total").of(NANOSECONDS),
    Entry::counter("libvirtd_domain_cpu_user", DOMAIN, "libvirt_domain_cpu_user_seconds_total").of(NANOSECONDS),
    Entry::counter("libvirtd_domain_cpu_system", DOMAIN, "libvirt_domain_cpu_system_seconds_total").of(NANOSECONDS),
];

#[rustfmt::skip]
const BALLOON: &[Entry] = &[
    Entry::gauge("libvirtd_domain_balloon_current", DOMAIN, "libvirt_domain_memory_current_bytes").of(KIB),
    Entry::gauge("libvirtd_domain_balloon_maximum", DOMAIN, "libvirt_domain_memory_maximum_bytes").of(KIB),
    Entry::counter("libvirtd_domain_balloon_swap_in", DOMAIN, "libvirt_domain_memory_swap_in_bytes_total").of(KIB),
    Entry::counter("libvirtd_domain_balloon_swap_out", DOMAIN, "libvirt_domain_memory_swap_out_bytes_total").of(KIB),
    Entry::counter("libvirtd_domain_balloon_major_fault", DOMAIN, "libvirt_domain_memory_major_faults_total"),
    Entry::counter("libvirtd_domain_balloon_minor_fault", DOMAIN, "libvirt_domain_memory_minor_faults_total"),
    Entry::gauge("libvirtd_domain_balloon_unused", DOMAIN, "libvirt_domain_memory_unused_bytes").of(KIB),
    Entry::gauge("libvirtd_domain_balloon_available", DOMAIN, "libvirt_domain_memory_available_bytes").of(KIB),
    Entry::gauge("libvirtd_domain_balloon_rss", DOMAIN, "libvirt_domain_memory_rss_bytes").of(KIB),
    Entry::gauge("libvirtd_domain_balloon_usable", DOMAIN, "libvirt_domain_memory_usable_bytes").of(KIB),
    Entry::gauge("libvirtd_domain_balloon_disk_caches", DOMAIN, "libvirt_domain_memory_disk_caches_bytes").of(KIB),
    Entry::counter("libvirtd_domain_balloon_hugetlb_pgalloc", DOMAIN, "libvirt_domain_memory_hugetlb_allocations_total"),
    Entry::counter("libvirtd_domain_balloon_hugetlb_pgfail", DOMAIN, "libvirt_domain_memory_hugetlb_allocation_failures_total"),
];

#[rustfmt::skip]
const VCPU: &[Entry] = &[
    Entry::gauge("libvirtd_domain_vcpu_state", OF_VCPU, "libvirt_domain_vcpu_state"),
    Entry::counter("libvirtd_domain_vcpu_time", OF_VCPU, "libvirt_domain_vcpu_time_seconds_total").of(NANOSECONDS),
];

#[rustfmt::skip]
const NET: &[Entry] = &[
    Entry::counter("libvirtd_domain_net_rx_bytes", OF_INTERFACE, "libvirt_domain_interface_receive_bytes_total"),
    Entry::counter("libvirtd_domain_net_rx_packets", OF_INTERFACE, "libvirt_domain_interface_receive_packets_total"),
    Entry::counter("libvirtd_domain_net_rx_errors", OF_INTERFACE, "libvirt_domain_interface_receive_errors_total"),
    Entry::counter("libvirtd_domain_net_rx_drop", OF_INTERFACE, "libvirt_domain_interface_receive_drops_total"),
    Entry::counter("libvirtd_domain_net_tx_bytes", OF_INTERFACE, "libvirt_domain_interface_transmit_bytes_total"),
    Entry::counter("libvirtd_domain_net_tx_packets", OF_INTERFACE, "libvirt_domain_interface_transmit_packets_total"),
    Entry::counter("libvirtd_domain_net_tx_errors", OF_INTERFACE, "libvirt_domain_interface_transmit_errors_total"),
    Entry::gauge("libvirtd_domain_net_tx_drop", OF_INTERFACE, "libvirt_domain_interface_transmit_drops_total"),
];

/// What shows that the hypervisor answered for a disk: without it a 0 would be a counter that begins again.
const ANSWERED: &str = "libvirt_domain_block_read_requests_total";

#[rustfmt::skip]
const BLOCK: &[Entry] = &[
    Entry::counter("libvirtd_domain_block_read_requests", OF_DISK, ANSWERED),
    Entry::counter("libvirtd_domain_block_read_bytes", OF_DISK, "libvirt_domain_block_read_bytes_total").or_zero(ANSWERED),
    Entry::counter("libvirtd_domain_block_read_times", OF_DISK, "libvirt_domain_block_read_time_seconds_total").of(NANOSECONDS).or_zero(ANSWERED),
    Entry::counter("libvirtd_domain_block_write_requests", OF_DISK, "libvirt_domain_block_write_requests_total").or_zero(ANSWERED),
    Entry::counter("libvirtd_domain_block_write_bytes", OF_DISK, "libvirt_domain_block_write_bytes_total").or_zero(ANSWERED),
    Entry::counter("libvirtd_domain_block_write_times", OF_DISK, "libvirt_domain_block_write_time_seconds_total").of(NANOSECONDS).or_zero(ANSWERED),
    Entry::counter("libvirtd_domain_block_flush_requests", OF_DISK, "libvirt_domain_block_flush_requests_total").or_zero(ANSWERED),
    Entry::counter("libvirtd_domain_block_flush_times", OF_DISK, "libvirt_domain_block_flush_time_seconds_total").of(NANOSECONDS).or_zero(ANSWERED),
    Entry::gauge("libvirtd_domain_block_allocation", OF_DISK, "libvirt_domain_block_allocation_bytes").or_zero(ANSWERED),
    Entry::gauge("libvirtd_domain_block_capacity", OF_DISK, "libvirt_domain_block_capacity_bytes").or_zero(ANSWERED),
    Entry::gauge("libvirtd_domain_block_physical", OF_DISK, "libvirt_domain_block_physical_bytes").or_zero(ANSWERED),
];

const MISSING: &[Missing] = &[Missing {
    name: "libvirtd_domain_seconds",
    reason: "needs the creation time in Nova's metadata, which is not read; there it is off unless `--libvirt.nova` is set",
}];
