//! `balloon.*`: memory as the host gave it, and as the guest's balloon driver sees it.

use super::Group;
use super::group::{GroupInfo, KeyPattern, Monitor, Source};
use super::kind::{Origin, Subject};
use super::row::{KIB, NONE, Row, SECONDS, Shape, Table, of};
use crate::libvirt::StatsGroups;

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "balloon",
    help: "Memory balloon, and what the guest reports of its memory",
    source: Source::Stats(StatsGroups::BALLOON),
    prefix: "balloon",
    monitor: Some(Monitor { answers: KeyPattern::Key("balloon.rss"), from_kvm: false, shows_job: true }),
    table: TABLE,
    ..GroupInfo::USUAL
};

/// All counters here are the guest's own. Values that the guest reports are absent without a balloon driver and a `<stats period>` in the definition.
#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Balloon),
    subject: Subject::Domain,
    origin: Origin::Guest,
    active_only: false,
    scopes: &[],
    rows: &[
        Row::gauge(&["balloon.current"], "libvirt_domain_memory_current_bytes", KIB, ("libvirt.domain.memory.balloon", NONE),
            "Current memory of the domain: its balloon's size"),
        Row::gauge(&["balloon.maximum"], "libvirt_domain_memory_maximum_bytes", KIB, ("libvirt.domain.memory.limit", NONE),
            "Maximum memory of the domain"),
        Row::gauge(&["balloon.unused"], "libvirt_domain_memory_unused_bytes", KIB, ("libvirt.domain.memory.unused", NONE),
            "Memory that the guest leaves entirely unused, as it reports"),
        Row::gauge(&["balloon.available"], "libvirt_domain_memory_available_bytes", KIB, ("libvirt.domain.memory.available", NONE),
            "Memory that the guest's operating system sees, as it reports"),
        Row::gauge(&["balloon.usable"], "libvirt_domain_memory_usable_bytes", KIB, ("libvirt.domain.memory.usable", NONE),
            "Memory that the guest can use without swapping, caches that can be given up included, as it reports"),
        Row::gauge(&["balloon.disk_caches"], "libvirt_domain_memory_disk_caches_bytes", KIB, ("libvirt.domain.memory.disk_caches", NONE),
            "Memory that the guest uses for disk caches and can give up without I/O, as it reports"),
        Row::gauge(&["balloon.rss"], "libvirt_domain_memory_rss_bytes", KIB, ("libvirt.domain.memory.rss", NONE),
            "Resident memory of the domain's hypervisor process on the host"),
        Row::counter(&["balloon.swap_in"], "libvirt_domain_memory_swap_in_bytes_total", KIB, ("libvirt.domain.paging.io", &[("system.paging.direction", "in")]),
            "Memory that the guest swapped in since it booted, as it reports"),
        Row::counter(&["balloon.swap_out"], "libvirt_domain_memory_swap_out_bytes_total", KIB, ("libvirt.domain.paging.io", &[("system.paging.direction", "out")]),
            "Memory that the guest swapped out since it booted, as it reports"),
        Row::counter(&["balloon.major_fault"], "libvirt_domain_memory_major_faults_total", of("fault"), ("libvirt.domain.paging.faults", &[("system.paging.fault.type", "major")]),
            "Page faults of the guest that needed I/O, as it reports"),
        Row::counter(&["balloon.minor_fault"], "libvirt_domain_memory_minor_faults_total", of("fault"), ("libvirt.domain.paging.faults", &[("system.paging.fault.type", "minor")]),
            "Page faults of the guest that needed no I/O, as it reports"),
        Row::counter(&["balloon.hugetlb_pgalloc"], "libvirt_domain_memory_hugetlb_allocations_total", of("allocation"),
            ("libvirt.domain.memory.hugetlb.allocations", &[("libvirt.hugetlb.result", "success")]),
            "Huge pages that the guest allocated, as it reports"),
        Row::counter(&["balloon.hugetlb_pgfail"], "libvirt_domain_memory_hugetlb_allocation_failures_total", of("allocation"),
            ("libvirt.domain.memory.hugetlb.allocations", &[("libvirt.hugetlb.result", "failure")]),
            "Huge pages that the guest could not allocate, as it reports"),
        Row::gauge(&["balloon.last-update"], "libvirt_domain_memory_last_update_timestamp_seconds", SECONDS, ("libvirt.domain.memory.last_update_timestamp", NONE),
            "When the guest last reported its memory, as a Unix time")
            .shaped(Shape::NonZero),
    ],
};
