//! `pressure.*`: what the domain's QEMU lacks on the host, from its control group. The keys are the exporter's own.

use super::Group;
use super::group::{GroupInfo, Source};
use super::kind::{Origin, Subject};
use super::row::{BYTES, NANOS, NONE, Row, Scope, Table, of};

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "pressure",
    help: "Pressure (PSI), CPU throttling, memory and I/O from the control group of each domain's QEMU",
    source: Source::HostFiles,
    prefix: "pressure",
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Pressure),
    subject: Subject::Domain,
    origin: Origin::Process,
    active_only: true,
    scopes: &[Scope { prefix: "pressure.io.<n>", label: "host_device", named_by: Some("pressure.io.<n>.name") }],
    rows: &[
        Row::counter(&["pressure.cpu.some"], "libvirt_domain_pressure_cpu_waiting_seconds_total", NANOS, ("libvirt.domain.pressure.cpu.waiting_time", NONE),
            "Time that at least one thread of the domain's QEMU waited for a CPU of the host"),
        Row::counter(&["pressure.cpu.full"], "libvirt_domain_pressure_cpu_stalled_seconds_total", NANOS, ("libvirt.domain.pressure.cpu.stalled_time", NONE),
            "Time that all threads of the domain's QEMU waited for a CPU of the host, as when its quota is used up"),
        Row::counter(&["pressure.memory.some"], "libvirt_domain_pressure_memory_waiting_seconds_total", NANOS, ("libvirt.domain.pressure.memory.waiting_time", NONE),
            "Time that at least one thread of the domain's QEMU waited for memory of the host"),
        Row::counter(&["pressure.memory.full"], "libvirt_domain_pressure_memory_stalled_seconds_total", NANOS, ("libvirt.domain.pressure.memory.stalled_time", NONE),
            "Time that all threads of the domain's QEMU waited for memory of the host"),
        Row::counter(&["pressure.io.some"], "libvirt_domain_pressure_io_waiting_seconds_total", NANOS, ("libvirt.domain.pressure.io.waiting_time", NONE),
            "Time that at least one thread of the domain's QEMU waited for I/O of the host"),
        Row::counter(&["pressure.io.full"], "libvirt_domain_pressure_io_stalled_seconds_total", NANOS, ("libvirt.domain.pressure.io.stalled_time", NONE),
            "Time that all threads of the domain's QEMU waited for I/O of the host"),
        Row::counter(&["pressure.cpu.periods"], "libvirt_domain_cgroup_cpu_periods_total", of("period"), ("libvirt.domain.cgroup.cpu.periods", NONE),
            "Periods in which the domain's QEMU ran under a CPU quota, summed over the quotas of the domain, of its vCPUs and of its other threads"),
        Row::counter(&["pressure.cpu.throttled_periods"], "libvirt_domain_cgroup_cpu_throttled_periods_total", of("period"), ("libvirt.domain.cgroup.cpu.throttled_periods", NONE),
            "Periods in which a CPU quota throttled the domain's QEMU, summed over the quotas of the domain, of its vCPUs and of its other threads"),
        Row::counter(&["pressure.cpu.throttled"], "libvirt_domain_cgroup_cpu_throttled_seconds_total", NANOS, ("libvirt.domain.cgroup.cpu.throttled_time", NONE),
            "Time that CPU quotas throttled the domain's QEMU, summed over these quotas and over CPUs"),
        Row::gauge(&["pressure.memory.current"], "libvirt_domain_cgroup_memory_bytes", BYTES, ("libvirt.domain.cgroup.memory", NONE),
            "Memory of the host that is charged to the domain, page cache included"),
        Row::gauge(&["pressure.memory.peak"], "libvirt_domain_cgroup_memory_peak_bytes", BYTES, ("libvirt.domain.cgroup.memory.peak", NONE),
            "Most memory of the host that was charged to the domain since its start"),
        Row::counter(&["pressure.memory.events.high"], "libvirt_domain_cgroup_memory_high_events_total", of("event"), ("libvirt.domain.cgroup.memory.high_events", NONE),
            "Times that the domain was slowed down because its memory was above its soft limit"),
        Row::counter(&["pressure.memory.events.max"], "libvirt_domain_cgroup_memory_max_events_total", of("event"), ("libvirt.domain.cgroup.memory.max_events", NONE),
            "Times that the domain reached its hard limit of memory"),
        Row::counter(&["pressure.memory.events.oom"], "libvirt_domain_cgroup_memory_oom_events_total", of("event"), ("libvirt.domain.cgroup.memory.oom_events", NONE),
            "Times that the domain was at its hard limit and no memory could be reclaimed"),
        Row::counter(&["pressure.memory.events.oom_kill"], "libvirt_domain_cgroup_memory_oom_kills_total", of("kill"), ("libvirt.domain.cgroup.memory.oom_kills", NONE),
            "Processes of the domain that the host's OOM killer ended"),
        Row::counter(&["pressure.io.<n>.rbytes"], "libvirt_domain_cgroup_io_read_bytes_total", BYTES, ("libvirt.domain.cgroup.io.read", NONE),
            "Bytes that the domain's QEMU read from a device of the host"),
        Row::counter(&["pressure.io.<n>.wbytes"], "libvirt_domain_cgroup_io_written_bytes_total", BYTES, ("libvirt.domain.cgroup.io.written", NONE),
            "Bytes that the domain's QEMU wrote to a device of the host"),
        Row::counter(&["pressure.io.<n>.rios"], "libvirt_domain_cgroup_io_reads_total", of("request"), ("libvirt.domain.cgroup.io.reads", NONE),
            "Reads of the domain's QEMU from a device of the host"),
        Row::counter(&["pressure.io.<n>.wios"], "libvirt_domain_cgroup_io_writes_total", of("request"), ("libvirt.domain.cgroup.io.writes", NONE),
            "Writes of the domain's QEMU to a device of the host"),
    ],
};
