//! inovex/prometheus-libvirt-exporter.

use super::{Asked, Dialect, Entry, Label, Missing, Source, Values, interface_stats};
use crate::config::{Group, MetricNaming};
use crate::tables::STATES;
use crate::tables::collection::COMPLETE;
use crate::tables::definition::{BLOCK_INFO, INFO, INTERFACE_INFO};
use crate::tables::host::{DOMAINS, UP};

pub(super) static DIALECT: Dialect = Dialect {
    naming: MetricNaming::Inovex,
    repository: "inovex/prometheus-libvirt-exporter",
    commit: "8dbcadd",
    about: "A domain that is shut off has its state and what its XML defines: metadata, disks, interfaces. With \
            `collection.inactive_domains: all` it also has its memory, its number of vCPUs and the sizes of its disks. Its \
            `libvirt_domain_info_cpu_time_seconds_total` is absent: libvirt reports libvirtd's own CPU time there.",
    entries: &[HOST, DOMAIN_INFO, JOB, MEMORY, BLOCK, INTERFACE, INTERFACE_STATS, VCPU, POOL],
    missing: MISSING,
};

const NONE: &[Label] = &[];
const DOMAIN: &[Label] = &[Label("domain", Source::Name)];
const OF_VCPU: &[Label] = &[Label("domain", Source::Name), Label("vcpu", Source::Own("vcpu"))];
const OF_DISK: &[Label] = &[Label("domain", Source::Name), Label("target_device", Source::Own("device"))];
const OF_INTERFACE: &[Label] = &[Label("domain", Source::Name), Label("target_device", Source::Own("interface"))];

/// Its names of the states, by number.
const STATE_TEXTS: &[&str] = &[
    "no state",
    "the domain is running",
    "the domain is blocked on resource",
    "the domain is paused by user",
    "the domain is being shut down",
    "the domain is shut off",
    "the domain is crashed",
    "the domain is suspended by guest power management",
];

#[rustfmt::skip]
const HOST: &[Entry] = &[
    Entry::gauge("libvirt_up", NONE, UP.row.name),
    Entry::gauge("libvirt_domains", NONE, DOMAINS.row.name).of(Values::Sum("state", &[]))
        .noted("those that are exported: with `collection.inactive_domains: none` only active ones"),
    Entry::gauge("libvirt_domain_timed_out", DOMAIN, COMPLETE.row.name).of(Values::Not)
        .noted("of running domains; 1 whatever the reason is, which `libvirt_domain_stats_missing` names"),
];

#[rustfmt::skip]
const DOMAIN_INFO: &[Entry] = &[
    Entry::gauge("libvirt_domain_info", &[
        Label("domain", Source::Name),
        Label("os_type", Source::Own("os_type")),
        Label("os_type_arch", Source::Own("arch")),
        Label("os_type_machine", Source::Own("machine")),
    ], INFO.row.name),
    Entry::gauge("libvirt_domain_openstack_info", &[
        Label("domain", Source::Name),
        Label("instance_name", Source::Own("instance_name")),
        Label("instance_id", Source::Uuid),
        Label("flavor_name", Source::Own("flavor")),
        Label("user_name", Source::Own("user_name")),
        Label("user_id", Source::Own("user_id")),
        Label("project_name", Source::Own("project_name")),
        Label("project_id", Source::Own("project_id")),
    ], INFO.row.name),
    Entry::gauge("libvirt_domain_info_state", &[
        Label("domain", Source::Name),
        Label("state_desc", Source::StateText(STATE_TEXTS)),
    ], "libvirt_domain_state").of(Values::State(STATES)),
    Entry::gauge("libvirt_domain_info_maximum_memory_bytes", DOMAIN, "libvirt_domain_memory_maximum_bytes"),
    Entry::gauge("libvirt_domain_info_memory_usage_bytes", DOMAIN, "libvirt_domain_memory_current_bytes"),
    Entry::gauge("libvirt_domain_info_virtual_cpus", DOMAIN, "libvirt_domain_vcpus_current"),
    Entry::counter("libvirt_domain_info_cpu_time_seconds_total", DOMAIN, "libvirt_domain_cpu_time_seconds_total")
        .noted("from the domain's cgroup, to the nanosecond; there from `/proc`, to 10 ms"),
];

const MILLISECONDS: Values = Values::Times(1e3, "milliseconds");

/// What libvirt says of a domain's job: of one without a job 0.
const fn of_job(name: &'static str, native: &'static str) -> Entry {
    Entry::gauge(name, DOMAIN, native).or_zero_if(COMPLETE.row.name, Asked::Group(Group::Job))
}

#[rustfmt::skip]
const JOB: &[Entry] = &[
    of_job("libvirt_domain_job_info_type", "libvirt_domain_job_running")
        .of(Values::Always(2, "a job whose end is not known, as all jobs of libvirt's drivers are")),
    of_job("libvirt_domain_job_info_time_elapsed_seconds", "libvirt_domain_job_elapsed_seconds").of(MILLISECONDS),
    of_job("libvirt_domain_job_info_time_remaining_seconds", "libvirt_domain_job_remaining_seconds").of(MILLISECONDS),
    of_job("libvirt_domain_job_info_data_total_bytes", "libvirt_domain_job_data_bytes"),
    of_job("libvirt_domain_job_info_data_processed_bytes", "libvirt_domain_job_data_processed_bytes"),
    of_job("libvirt_domain_job_info_data_remaining_bytes", "libvirt_domain_job_data_remaining_bytes"),
    of_job("libvirt_domain_job_info_memory_total_bytes", "libvirt_domain_job_memory_bytes"),
    of_job("libvirt_domain_job_info_memory_processed_bytes", "libvirt_domain_job_memory_processed_bytes"),
    of_job("libvirt_domain_job_info_memory_remaining_bytes", "libvirt_domain_job_memory_remaining_bytes"),
    of_job("libvirt_domain_job_info_file_total_bytes", "libvirt_domain_job_disk_bytes"),
    of_job("libvirt_domain_job_info_file_processed_bytes", "libvirt_domain_job_disk_processed_bytes"),
    of_job("libvirt_domain_job_info_file_remaining_bytes", "libvirt_domain_job_disk_remaining_bytes"),
];

#[rustfmt::skip]
const MEMORY: &[Entry] = &[
    Entry::gauge("libvirt_domain_memory_stats_current_balloon_bytes", DOMAIN, "libvirt_domain_memory_current_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_maximum_bytes", DOMAIN, "libvirt_domain_memory_maximum_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_swap_in_bytes", DOMAIN, "libvirt_domain_memory_swap_in_bytes_total"),
    Entry::gauge("libvirt_domain_memory_stats_swap_out_bytes", DOMAIN, "libvirt_domain_memory_swap_out_bytes_total"),
    Entry::counter("libvirt_domain_memory_stats_major_fault_total", DOMAIN, "libvirt_domain_memory_major_faults_total"),
    Entry::counter("libvirt_domain_memory_stats_minor_fault_total", DOMAIN, "libvirt_domain_memory_minor_faults_total"),
    Entry::gauge("libvirt_domain_memory_stats_unused_bytes", DOMAIN, "libvirt_domain_memory_unused_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_available_bytes", DOMAIN, "libvirt_domain_memory_available_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_usable_bytes", DOMAIN, "libvirt_domain_memory_usable_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_last_update_timestamp_seconds", DOMAIN, "libvirt_domain_memory_last_update_timestamp_seconds")
        .or_zero("libvirt_domain_memory_rss_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_disk_caches_bytes", DOMAIN, "libvirt_domain_memory_disk_caches_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_hugetlb_pgalloc_total", DOMAIN, "libvirt_domain_memory_hugetlb_allocations_total"),
    Entry::gauge("libvirt_domain_memory_stats_hugetlb_pgfail_total", DOMAIN, "libvirt_domain_memory_hugetlb_allocation_failures_total"),
    Entry::gauge("libvirt_domain_memory_stats_rss_bytes", DOMAIN, "libvirt_domain_memory_rss_bytes"),
    Entry::gauge("libvirt_domain_memory_stats_used_percent", DOMAIN, "libvirt_domain_memory_available_bytes")
        .of(Values::PercentWithout("libvirt_domain_memory_usable_bytes"))
        .noted("absent instead of `NaN` where the guest does not report its memory"),
];

#[rustfmt::skip]
const BLOCK: &[Entry] = &[
    Entry::gauge("libvirt_domain_block_stats_info", &[
        Label("domain", Source::Name),
        Label("disk_type", Source::Own("disk_type")),
        Label("target_bus", Source::Own("bus")),
        Label("driver_name", Source::Own("driver")),
        Label("driver_type", Source::Own("driver_type")),
        Label("driver_cache", Source::Own("cache")),
        Label("driver_discard", Source::Own("discard")),
        Label("source_file", Source::DiskFile),
        Label("source_protocol", Source::DiskProtocol),
        Label("target_device", Source::Own("device")),
        Label("serial", Source::Own("serial")),
    ], BLOCK_INFO.row.name).without(Source::Disk("device_type"), &["cdrom"]),
    Entry::counter("libvirt_domain_block_stats_read_bytes_total", OF_DISK, "libvirt_domain_block_read_bytes_total")
        .without(Source::Disk("device_type"), &["cdrom"]),
    Entry::counter("libvirt_domain_block_stats_read_requests_total", OF_DISK, "libvirt_domain_block_read_requests_total")
        .without(Source::Disk("device_type"), &["cdrom"]),
    Entry::counter("libvirt_domain_block_stats_write_bytes_total", OF_DISK, "libvirt_domain_block_write_bytes_total")
        .without(Source::Disk("device_type"), &["cdrom"]),
    Entry::counter("libvirt_domain_block_stats_write_requests_total", OF_DISK, "libvirt_domain_block_write_requests_total")
        .without(Source::Disk("device_type"), &["cdrom"]),
    Entry::counter("libvirt_domain_block_stats_read_time_seconds_total", OF_DISK, "libvirt_domain_block_read_time_seconds_total"),
    Entry::counter("libvirt_domain_block_stats_write_time_seconds_total", OF_DISK, "libvirt_domain_block_write_time_seconds_total"),
    Entry::counter("libvirt_domain_block_stats_flush_requests_total", OF_DISK, "libvirt_domain_block_flush_requests_total"),
    Entry::counter("libvirt_domain_block_stats_flush_time_seconds_total", OF_DISK, "libvirt_domain_block_flush_time_seconds_total"),
    Entry::gauge("libvirt_domain_block_stats_capacity_bytes", OF_DISK, "libvirt_domain_block_capacity_bytes"),
];

#[rustfmt::skip]
const INTERFACE: &[Entry] = &[
    Entry::gauge("libvirt_domain_interface_stats_info", &[
        Label("domain", Source::Name),
        Label("interface_type", Source::Own("interface_type")),
        Label("source_bridge", Source::Own("bridge")),
        Label("target_device", Source::Own("interface")),
        Label("mac_address", Source::Own("mac")),
        Label("model_type", Source::Own("model")),
        Label("mtu_size", Source::Own("mtu")),
    ], INTERFACE_INFO.row.name).without(Source::Own("interface"), &[""]),
];

const INTERFACE_STATS: &[Entry] = &interface_stats(OF_INTERFACE);

#[rustfmt::skip]
const VCPU: &[Entry] = &[
    Entry::gauge("libvirt_domain_vcpu_current", DOMAIN, "libvirt_domain_vcpus_current"),
    Entry::gauge("libvirt_domain_vcpu_maximum", DOMAIN, "libvirt_domain_vcpus_maximum"),
    Entry::gauge("libvirt_domain_vcpu_state", OF_VCPU, "libvirt_domain_vcpu_state"),
    Entry::counter("libvirt_domain_vcpu_time_seconds_total", OF_VCPU, "libvirt_domain_vcpu_time_seconds_total"),
    Entry::counter("libvirt_domain_vcpu_wait_seconds_total", OF_VCPU, "libvirt_domain_vcpu_wait_seconds_total"),
    Entry::counter("libvirt_domain_vcpu_delay_seconds_total", OF_VCPU, "libvirt_domain_vcpu_delay_seconds_total"),
];

const OF_POOL: &[Label] = &[Label("storage_pool", Source::Own("pool"))];

/// `virStoragePoolState`
const POOL_STATES: &[&str] = &["inactive", "building", "running", "degraded", "inaccessible"];

#[rustfmt::skip]
const POOL: &[Entry] = &[
    Entry::gauge("libvirt_storage_pool_state", OF_POOL, "libvirt_pool_state").of(Values::State(POOL_STATES)),
    // Of a pool that is stopped 0.
    Entry::gauge("libvirt_storage_pool_capacity_bytes", OF_POOL, "libvirt_pool_capacity_bytes").or_zero("libvirt_pool_info"),
    Entry::gauge("libvirt_storage_pool_allocation_bytes", OF_POOL, "libvirt_pool_allocation_bytes").or_zero("libvirt_pool_info"),
    Entry::gauge("libvirt_storage_pool_available_bytes", OF_POOL, "libvirt_pool_available_bytes").or_zero("libvirt_pool_info"),
];

const MISSING: &[Missing] = &[Missing {
    name: "libvirt_storage_pool_timed_out",
    reason: "a pool that does not answer has no samples, or those of its last answer",
}];
