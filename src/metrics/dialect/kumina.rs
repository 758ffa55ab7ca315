//! kumina/libvirt_exporter, which Debian has as prometheus-libvirt-exporter.

use super::{Dialect, Entry, Label, Missing, Source, Values, interface_stats};
use crate::config::MetricNaming;
use crate::tables::STATES;
use crate::tables::host::{DOMAINS, UP};

pub(super) static DIALECT: Dialect = Dialect {
    naming: MetricNaming::Kumina,
    repository: "kumina/libvirt_exporter",
    commit: "c867a0d",
    about: "Debian 12 has its version 0.2.0 as `prometheus-libvirt-exporter`, which lacks the times and the flushes of disks. The \
            labels are those without `--libvirt.export-nova-metadata`.",
    entries: &[HOST, DOMAIN_INFO, BLOCK, INTERFACE],
    missing: MISSING,
};

const NONE: &[Label] = &[];
const DOMAIN: &[Label] = &[Label("domain", Source::Name), Label("uuid", Source::Uuid)];
const OF_DISK: &[Label] = &[
    Label("domain", Source::Name),
    Label("uuid", Source::Uuid),
    Label("source_file", Source::DiskFile),
    Label("target_device", Source::Own("device")),
];
const OF_INTERFACE: &[Label] = &[
    Label("domain", Source::Name),
    Label("uuid", Source::Uuid),
    Label("source_bridge", Source::Interface("bridge")),
    Label("target_device", Source::Own("interface")),
];

#[rustfmt::skip]
const HOST: &[Entry] = &[
    Entry::gauge("libvirt_up", NONE, UP.row.name),
    Entry::gauge("libvirt_domains_number", NONE, DOMAINS.row.name)
        .of(Values::Sum("state", &["shutoff"])),
];

#[rustfmt::skip]
const DOMAIN_INFO: &[Entry] = &[
    Entry::gauge("libvirt_domain_state_code", DOMAIN, "libvirt_domain_state").of(Values::State(STATES))
        .without(Source::Own("state"), &["shutoff"]),
    Entry::gauge("libvirt_domain_info_maximum_memory_bytes", DOMAIN, "libvirt_domain_memory_maximum_bytes"),
    Entry::gauge("libvirt_domain_info_memory_usage_bytes", DOMAIN, "libvirt_domain_memory_current_bytes"),
    Entry::gauge("libvirt_domain_info_virtual_cpus", DOMAIN, "libvirt_domain_vcpus_current"),
    Entry::counter("libvirt_domain_info_cpu_time_seconds_total", DOMAIN, "libvirt_domain_cpu_time_seconds_total")
        .noted("from the domain's cgroup, to the nanosecond; there from `/proc`, to 10 ms"),
];

/// An entry of disks: it has none of CD-ROM drives.
const fn of_disks(name: &'static str, native: &'static str) -> Entry {
    Entry::counter(name, OF_DISK, native).without(Source::Disk("device_type"), &["cdrom"])
}

#[rustfmt::skip]
const BLOCK: &[Entry] = &[
    of_disks("libvirt_domain_block_stats_read_bytes_total", "libvirt_domain_block_read_bytes_total"),
    of_disks("libvirt_domain_block_stats_read_requests_total", "libvirt_domain_block_read_requests_total"),
    of_disks("libvirt_domain_block_stats_read_seconds_total", "libvirt_domain_block_read_time_seconds_total"),
    of_disks("libvirt_domain_block_stats_write_bytes_total", "libvirt_domain_block_write_bytes_total"),
    of_disks("libvirt_domain_block_stats_write_requests_total", "libvirt_domain_block_write_requests_total"),
    of_disks("libvirt_domain_block_stats_write_seconds_total", "libvirt_domain_block_write_time_seconds_total"),
    of_disks("libvirt_domain_block_stats_flush_requests_total", "libvirt_domain_block_flush_requests_total"),
    of_disks("libvirt_domain_block_stats_flush_seconds_total", "libvirt_domain_block_flush_time_seconds_total"),
];

const INTERFACE: &[Entry] = &interface_stats(OF_INTERFACE);

const MISSING: &[Missing] = &[];
