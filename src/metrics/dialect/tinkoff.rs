//! Tinkoff/libvirt-exporter, which OpenStack Kolla ships.

use super::{Asked, Dialect, Entry, Label, Missing, Source, Values, interface_stats};
use crate::config::MetricNaming;
use crate::tables::STATES;
use crate::tables::definition::{BLOCK_INFO, INFO, INTERFACE_INFO};
use crate::tables::host::{UP, VERSIONS};
use crate::tables::limits::HUGEPAGES;

pub(super) static DIALECT: Dialect = Dialect {
    naming: MetricNaming::Tinkoff,
    repository: "Tinkoff/libvirt-exporter",
    commit: "a9612be",
    about: "Guests that are paused have metrics here; there they have none. A domain that is shut off has its state and \
            what its XML defines: metadata, devices, throttles. With `collection.inactive_domains: all` it also has its memory, its \
            number of vCPUs and the sizes of its disks. CPU times, I/O counters and memory inside the guest are absent, since \
            libvirt does not report them; there they are zeros. CD-ROM drives of any name have samples; there `hda` and `hdc` have none.",
    entries: &[HOST, DOMAIN_INFO, VCPU, BLOCK, THROTTLE, INTERFACE, INTERFACE_STATS, MEMORY],
    missing: MISSING,
};

const NONE: &[Label] = &[];
const DOMAIN: &[Label] = &[Label("domain", Source::Name)];
const OF_POOL: &[Label] = &[Label("pool", Source::Own("pool"))];
const OF_VCPU: &[Label] = &[Label("domain", Source::Name), Label("vcpu", Source::Own("vcpu"))];
const OF_DISK: &[Label] = &[Label("domain", Source::Name), Label("target_device", Source::Own("device"))];
const OF_INTERFACE: &[Label] = &[Label("domain", Source::Name), Label("target_device", Source::Own("interface"))];

#[rustfmt::skip]
const HOST: &[Entry] = &[
    Entry::gauge("libvirt_up", NONE, UP.row.name),
    Entry::gauge("libvirt_versions_info", &[
        Label("hypervisor_running", Source::Own("hypervisor")),
        Label("libvirtd_running", Source::Own("libvirt")),
        Label("libvirt_library", Source::Own("library")),
    ], VERSIONS.row.name),
    Entry::gauge("libvirt_pool_info_capacity_bytes", OF_POOL, "libvirt_pool_capacity_bytes"),
    Entry::gauge("libvirt_pool_info_allocation_bytes", OF_POOL, "libvirt_pool_allocation_bytes")
        .noted("as of libvirt's last refresh of the pool; there each scrape refreshes it"),
    Entry::gauge("libvirt_pool_info_available_bytes", OF_POOL, "libvirt_pool_available_bytes")
        .noted("as of libvirt's last refresh of the pool; there each scrape refreshes it"),
];

#[rustfmt::skip]
const DOMAIN_INFO: &[Entry] = &[
    Entry::gauge("libvirt_domain_info_meta", &[
        Label("domain", Source::Name),
        Label("uuid", Source::Uuid),
        Label("instance_name", Source::Own("instance_name")),
        Label("flavor", Source::Own("flavor")),
        Label("user_name", Source::Own("user_name")),
        Label("user_uuid", Source::Own("user_id")),
        Label("project_name", Source::Own("project_name")),
        Label("project_uuid", Source::Own("project_id")),
        Label("root_type", Source::IfInfo("image_id", "image")),
        Label("root_uuid", Source::Own("image_id")),
    ], INFO.row.name)
        .noted("an OpenStack instance whose root is no image has neither `root_type` nor `root_uuid`"),
    Entry::gauge("libvirt_domain_info_maximum_memory_bytes", DOMAIN, "libvirt_domain_memory_maximum_bytes"),
    Entry::gauge("libvirt_domain_info_memory_usage_bytes", DOMAIN, "libvirt_domain_memory_current_bytes"),
    Entry::gauge("libvirt_domain_info_virtual_cpus", DOMAIN, "libvirt_domain_vcpus_current"),
    Entry::counter("libvirt_domain_info_cpu_time_seconds_total", DOMAIN, "libvirt_domain_cpu_time_seconds_total")
        .noted("from the domain's cgroup, to the nanosecond; there from `/proc`, to 10 ms"),
    Entry::gauge("libvirt_domain_info_vstate", DOMAIN, "libvirt_domain_state").of(Values::State(STATES)),
];

#[rustfmt::skip]
const VCPU: &[Entry] = &[
    Entry::gauge("libvirt_domain_vcpu_state", OF_VCPU, "libvirt_domain_vcpu_state"),
    Entry::counter("libvirt_domain_vcpu_time_seconds_total", OF_VCPU, "libvirt_domain_vcpu_time_seconds_total"),
    Entry::counter("libvirt_domain_vcpu_delay_seconds_total", OF_VCPU, "libvirt_domain_vcpu_delay_seconds_total"),
    Entry::counter("libvirt_domain_vcpu_wait_seconds_total", OF_VCPU, "libvirt_domain_vcpu_wait_seconds_total"),
];

#[rustfmt::skip]
const BLOCK: &[Entry] = &[
    Entry::gauge("libvirt_domain_block_meta", &[
        Label("domain", Source::Name),
        Label("target_device", Source::Own("device")),
        Label("source_file", Source::DiskImage),
        Label("serial", Source::Own("serial")),
        Label("bus", Source::Own("bus")),
        Label("disk_type", Source::Own("disk_type")),
        Label("driver_type", Source::Own("driver_type")),
        Label("cache", Source::Own("cache")),
        Label("discard", Source::Own("discard")),
    ], BLOCK_INFO.row.name),
    Entry::counter("libvirt_domain_block_stats_read_bytes_total", OF_DISK, "libvirt_domain_block_read_bytes_total"),
    Entry::counter("libvirt_domain_block_stats_read_requests_total", OF_DISK, "libvirt_domain_block_read_requests_total"),
    Entry::counter("libvirt_domain_block_stats_read_time_seconds_total", OF_DISK, "libvirt_domain_block_read_time_seconds_total"),
    Entry::counter("libvirt_domain_block_stats_write_bytes_total", OF_DISK, "libvirt_domain_block_write_bytes_total"),
    Entry::counter("libvirt_domain_block_stats_write_requests_total", OF_DISK, "libvirt_domain_block_write_requests_total"),
    Entry::counter("libvirt_domain_block_stats_write_time_seconds_total", OF_DISK, "libvirt_domain_block_write_time_seconds_total"),
    Entry::counter("libvirt_domain_block_stats_flush_requests_total", OF_DISK, "libvirt_domain_block_flush_requests_total"),
    Entry::counter("libvirt_domain_block_stats_flush_time_seconds_total", OF_DISK, "libvirt_domain_block_flush_time_seconds_total"),
    Entry::gauge("libvirt_domain_block_stats_allocation", OF_DISK, "libvirt_domain_block_allocation_bytes"),
    Entry::gauge("libvirt_domain_block_stats_capacity_bytes", OF_DISK, "libvirt_domain_block_capacity_bytes"),
    Entry::gauge("libvirt_domain_block_stats_physicalsize_bytes", OF_DISK, "libvirt_domain_block_physical_bytes"),
];

/// What `blkdeviotune` says of a disk: 0 is no limit. The last metric shows that the group `limits` was asked for.
const fn throttle(name: &'static str, native: &'static str) -> Entry {
    Entry::gauge(name, OF_DISK, native).or_zero_if(BLOCK_INFO.row.name, Asked::Family(HUGEPAGES.row.name))
}

#[rustfmt::skip]
const THROTTLE: &[Entry] = &[
    throttle("libvirt_domain_block_stats_limit_total_bytes", "libvirt_domain_block_throttle_total_bytes_per_second"),
    throttle("libvirt_domain_block_stats_limit_write_bytes", "libvirt_domain_block_throttle_write_bytes_per_second"),
    throttle("libvirt_domain_block_stats_limit_read_bytes", "libvirt_domain_block_throttle_read_bytes_per_second"),
    throttle("libvirt_domain_block_stats_limit_total_requests", "libvirt_domain_block_throttle_total_requests_per_second"),
    throttle("libvirt_domain_block_stats_limit_write_requests", "libvirt_domain_block_throttle_write_requests_per_second"),
    throttle("libvirt_domain_block_stats_limit_read_requests", "libvirt_domain_block_throttle_read_requests_per_second"),
    throttle("libvirt_domain_block_stats_limit_burst_total_bytes", "libvirt_domain_block_throttle_total_burst_bytes_per_second"),
    throttle("libvirt_domain_block_stats_limit_burst_write_bytes", "libvirt_domain_block_throttle_write_burst_bytes_per_second"),
    throttle("libvirt_domain_block_stats_limit_burst_read_bytes", "libvirt_domain_block_throttle_read_burst_bytes_per_second"),
    throttle("libvirt_domain_block_stats_limit_burst_total_requests", "libvirt_domain_block_throttle_total_burst_requests_per_second"),
    throttle("libvirt_domain_block_stats_limit_burst_write_requests", "libvirt_domain_block_throttle_write_burst_requests_per_second"),
    throttle("libvirt_domain_block_stats_limit_burst_read_requests", "libvirt_domain_block_throttle_read_burst_requests_per_second"),
    throttle("libvirt_domain_block_stats_limit_burst_total_bytes_length_seconds", "libvirt_domain_block_throttle_total_bytes_burst_length_seconds"),
    throttle("libvirt_domain_block_stats_limit_burst_write_bytes_length_seconds", "libvirt_domain_block_throttle_write_bytes_burst_length_seconds"),
    throttle("libvirt_domain_block_stats_limit_burst_read_bytes_length_seconds", "libvirt_domain_block_throttle_read_bytes_burst_length_seconds"),
    throttle("libvirt_domain_block_stats_limit_burst_length_total_requests_seconds", "libvirt_domain_block_throttle_total_requests_burst_length_seconds"),
    throttle("libvirt_domain_block_stats_limit_burst_length_write_requests_seconds", "libvirt_domain_block_throttle_write_requests_burst_length_seconds"),
    throttle("libvirt_domain_block_stats_limit_burst_length_read_requests_seconds", "libvirt_domain_block_throttle_read_requests_burst_length_seconds"),
    throttle("libvirt_domain_block_stats_size_iops_bytes", "libvirt_domain_block_throttle_request_size_bytes"),
];

#[rustfmt::skip]
const INTERFACE: &[Entry] = &[
    Entry::gauge("libvirt_domain_interface_meta", &[
        Label("domain", Source::Name),
        Label("source_bridge", Source::Own("bridge")),
        Label("target_device", Source::Own("interface")),
        Label("virtual_interface", Source::Own("ovs_port_id")),
    ], INTERFACE_INFO.row.name)
        .without(Source::Own("interface"), &[""])
        .noted("also of an interface that is on no bridge and no port of Open vSwitch"),
];

const INTERFACE_STATS: &[Entry] = &interface_stats(OF_INTERFACE);

/// What shows that the hypervisor answered for the group `balloon`: without it a 0 would be a counter that begins again.
const ANSWERED: &str = "libvirt_domain_memory_rss_bytes";

#[rustfmt::skip]
const MEMORY: &[Entry] = &[
    Entry::counter("libvirt_domain_memory_stats_major_fault_total", DOMAIN, "libvirt_domain_memory_major_faults_total").or_zero(ANSWERED),
    Entry::counter("libvirt_domain_memory_stats_minor_fault_total", DOMAIN, "libvirt_domain_memory_minor_faults_total").or_zero(ANSWERED),
    Entry::gauge("libvirt_domain_memory_stats_unused_bytes", DOMAIN, "libvirt_domain_memory_unused_bytes").or_zero(ANSWERED),
    Entry::gauge("libvirt_domain_memory_stats_available_bytes", DOMAIN, "libvirt_domain_memory_available_bytes").or_zero(ANSWERED),
    Entry::gauge("libvirt_domain_memory_stats_actual_balloon_bytes", DOMAIN, "libvirt_domain_memory_current_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_rss_bytes", DOMAIN, ANSWERED),
    Entry::gauge("libvirt_domain_memory_stats_usable_bytes", DOMAIN, "libvirt_domain_memory_usable_bytes").or_zero(ANSWERED),
    Entry::gauge("libvirt_domain_memory_stats_disk_cache_bytes", DOMAIN, "libvirt_domain_memory_disk_caches_bytes").or_zero(ANSWERED),
    Entry::gauge("libvirt_domain_memory_stats_used_percent", DOMAIN, "libvirt_domain_memory_available_bytes")
        .of(Values::PercentWithout("libvirt_domain_memory_usable_bytes")).or_zero(ANSWERED),
];

const MISSING: &[Missing] = &[Missing {
    name: "libvirt_domain_vcpu_cpu",
    reason: "libvirt's bulk statistics do not have the host CPU on which each vCPU runs",
}];
