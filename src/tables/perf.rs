//! `perf.*`: hardware and software events of the host's kernel. Only events that the domain's definition (`<perf>`) or
//! `virsh perf` enabled are reported; a restart of the daemon sets them back to 0.

use super::Group;
use super::group::{GroupInfo, Source};
use super::kind::{Origin, Subject};
use super::row::{BYTES, BYTES_PER_SECOND, NANOS, NONE, Row, Table, of};
use crate::libvirt::StatsGroups;

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "perf",
    help: "Perf events that the domain XML enables",
    source: Source::Stats(StatsGroups::PERF),
    prefix: "perf",
    fragile: true,
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Perf),
    subject: Subject::Domain,
    origin: Origin::Process,
    active_only: false,
    scopes: &[],
    rows: &[
        Row::counter(&["perf.cpu_clock"], "libvirt_domain_perf_cpu_clock_seconds_total", NANOS, ("libvirt.domain.perf.cpu_clock", NONE),
            "Time on the CPUs' clocks while the domain ran"),
        Row::counter(&["perf.task_clock"], "libvirt_domain_perf_task_clock_seconds_total", NANOS, ("libvirt.domain.perf.task_clock", NONE),
            "Time on the clocks of the domain's tasks"),
        Row::gauge(&["perf.cmt"], "libvirt_domain_perf_cache_occupancy_bytes", BYTES, ("libvirt.domain.perf.cache_occupancy", NONE),
            "Last-level cache that the domain occupies"),
        Row::gauge(&["perf.mbmt"], "libvirt_domain_perf_memory_bandwidth_bytes_per_second", BYTES_PER_SECOND, ("libvirt.domain.perf.memory_bandwidth", NONE),
            "Memory bandwidth of the domain over all memory controllers"),
        Row::gauge(&["perf.mbml"], "libvirt_domain_perf_memory_bandwidth_local_bytes_per_second", BYTES_PER_SECOND, ("libvirt.domain.perf.local_memory_bandwidth", NONE),
            "Memory bandwidth of the domain on the memory controller of its own node"),
        Row::counter(&["perf.cache_misses"], "libvirt_domain_perf_cache_misses_total", of("miss"), ("libvirt.domain.perf.cache_misses", NONE),
            "Cache misses of the domain"),
        Row::counter(&["perf.cache_references"], "libvirt_domain_perf_cache_references_total", of("access"), ("libvirt.domain.perf.cache_references", NONE),
            "Cache accesses of the domain"),
        Row::counter(&["perf.instructions"], "libvirt_domain_perf_instructions_total", of("instruction"), ("libvirt.domain.perf.instructions", NONE),
            "Instructions that the domain retired"),
        Row::counter(&["perf.cpu_cycles"], "libvirt_domain_perf_cpu_cycles_total", of("cycle"), ("libvirt.domain.perf.cpu_cycles", NONE),
            "CPU cycles that the domain used"),
        Row::counter(&["perf.branch_instructions"], "libvirt_domain_perf_branch_instructions_total", of("instruction"), ("libvirt.domain.perf.branch_instructions", NONE),
            "Branch instructions that the domain retired"),
        Row::counter(&["perf.branch_misses"], "libvirt_domain_perf_branch_misses_total", of("miss"), ("libvirt.domain.perf.branch_misses", NONE),
            "Mispredicted branches of the domain"),
        Row::counter(&["perf.bus_cycles"], "libvirt_domain_perf_bus_cycles_total", of("cycle"), ("libvirt.domain.perf.bus_cycles", NONE),
            "Bus cycles of the domain"),
        Row::counter(&["perf.stalled_cycles_frontend"], "libvirt_domain_perf_stalled_cycles_frontend_total", of("cycle"), ("libvirt.domain.perf.stalled_cycles_frontend", NONE),
            "Cycles in which the CPU's front end was stalled while the domain ran"),
        Row::counter(&["perf.stalled_cycles_backend"], "libvirt_domain_perf_stalled_cycles_backend_total", of("cycle"), ("libvirt.domain.perf.stalled_cycles_backend", NONE),
            "Cycles in which the CPU's back end was stalled while the domain ran"),
        Row::counter(&["perf.ref_cpu_cycles"], "libvirt_domain_perf_ref_cpu_cycles_total", of("cycle"), ("libvirt.domain.perf.ref_cpu_cycles", NONE),
            "CPU cycles of the domain, not scaled by the frequency"),
        Row::counter(&["perf.page_faults"], "libvirt_domain_perf_page_faults_total", of("fault"), ("libvirt.domain.perf.page_faults", NONE),
            "Page faults of the domain's hypervisor process"),
        Row::counter(&["perf.context_switches"], "libvirt_domain_perf_context_switches_total", of("switch"), ("libvirt.domain.perf.context_switches", NONE),
            "Context switches of the domain's hypervisor process"),
        Row::counter(&["perf.cpu_migrations"], "libvirt_domain_perf_cpu_migrations_total", of("migration"), ("libvirt.domain.perf.cpu_migrations", NONE),
            "CPU migrations of the domain's threads"),
        Row::counter(&["perf.page_faults_min"], "libvirt_domain_perf_page_faults_minor_total", of("fault"), ("libvirt.domain.perf.page_faults_minor", NONE),
            "Page faults of the domain's hypervisor process that needed no I/O"),
        Row::counter(&["perf.page_faults_maj"], "libvirt_domain_perf_page_faults_major_total", of("fault"), ("libvirt.domain.perf.page_faults_major", NONE),
            "Page faults of the domain's hypervisor process that needed I/O"),
        Row::counter(&["perf.alignment_faults"], "libvirt_domain_perf_alignment_faults_total", of("fault"), ("libvirt.domain.perf.alignment_faults", NONE),
            "Alignment faults of the domain's hypervisor process"),
        Row::counter(&["perf.emulation_faults"], "libvirt_domain_perf_emulation_faults_total", of("fault"), ("libvirt.domain.perf.emulation_faults", NONE),
            "Emulation faults of the domain's hypervisor process"),
    ],
};
