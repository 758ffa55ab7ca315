//! `cpu.*`: CPU time of the whole domain, cache and energy monitors.

use super::Group;
use super::group::{GroupInfo, KeyPattern, Monitor, Source};
use super::kind::{Origin, Subject, Unit};
use super::row::{BYTES, NANOS, NONE, NUMBER, Row, Scale, Scope, Table, of};
use crate::libvirt::StatsGroups;

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "cpu_total",
    help: "CPU time of the whole domain, cache and energy monitors",
    source: Source::Stats(StatsGroups::CPU_TOTAL),
    prefix: "cpu",
    monitor: Some(Monitor { answers: KeyPattern::Prefix("cpu.haltpoll."), from_kvm: true, shows_job: false }),
    table: TABLE,
    ..GroupInfo::USUAL
};

/// For a domain that is shut off, libvirt reports its own CPU time under `cpu.*`: such values are dropped.
#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::CpuTotal),
    subject: Subject::Domain,
    origin: Origin::Process,
    active_only: true,
    scopes: &[
        Scope { prefix: "cpu.cache.monitor.<n>", label: "monitor", named_by: Some("cpu.cache.monitor.<n>.name") },
        Scope { prefix: "cpu.cache.monitor.<n>.bank.<m>", label: "bank", named_by: Some("cpu.cache.monitor.<n>.bank.<m>.id") },
        Scope { prefix: "cpu.energy.monitor.<n>", label: "monitor", named_by: Some("cpu.energy.monitor.<n>.name") },
        Scope { prefix: "cpu.energy.monitor.<n>.pkg.<m>", label: "package", named_by: Some("cpu.energy.monitor.<n>.pkg.<m>.id") },
    ],
    rows: &[
        Row::counter(&["cpu.time"], "libvirt_domain_cpu_time_seconds_total", NANOS, ("libvirt.domain.cpu.time", NONE),
            "CPU time of the domain: its vCPUs and the hypervisor's other threads"),
        Row::counter(&["cpu.user"], "libvirt_domain_cpu_user_seconds_total", NANOS, ("libvirt.domain.cpu.mode_time", &[("cpu.mode", "user")]),
            "CPU time of the domain's hypervisor process in user mode, that of the guest included"),
        Row::counter(&["cpu.system"], "libvirt_domain_cpu_system_seconds_total", NANOS, ("libvirt.domain.cpu.mode_time", &[("cpu.mode", "system")]),
            "CPU time of the domain's hypervisor process in the host's kernel"),
        Row::counter(&["cpu.haltpoll.success.time"], "libvirt_domain_cpu_haltpoll_success_seconds_total", NANOS,
            ("libvirt.domain.cpu.halt_polling.time", &[("libvirt.halt_polling.result", "success")]),
            "Time vCPUs spent in successful halt-polling: they were woken during it"),
        Row::counter(&["cpu.haltpoll.fail.time"], "libvirt_domain_cpu_haltpoll_fail_seconds_total", NANOS,
            ("libvirt.domain.cpu.halt_polling.time", &[("libvirt.halt_polling.result", "failure")]),
            "Time vCPUs spent in halt-polling that was not successful: they halted after it"),
        Row::gauge(&["cpu.cache.monitor.count"], "libvirt_domain_cpu_cache_monitors", of("monitor"), ("libvirt.domain.cpu.cache.monitor.count", NONE),
            "Cache monitors (resctrl) of the domain"),
        Row::info(&["cpu.cache.monitor.<n>.vcpus"], &["vcpus"], "libvirt_domain_cpu_cache_monitor_info", ("libvirt.domain.cpu.cache.monitor.info", NONE),
            "The vCPUs that a cache monitor watches"),
        Row::gauge(&["cpu.cache.monitor.<n>.bank.count"], "libvirt_domain_cpu_cache_monitor_banks", of("bank"), ("libvirt.domain.cpu.cache.monitor.bank.count", NONE),
            "Cache banks that a cache monitor watches"),
        Row::gauge(&["cpu.cache.monitor.<n>.bank.<m>.bytes"], "libvirt_domain_cpu_cache_occupancy_bytes", BYTES, ("libvirt.domain.cpu.cache.occupancy", NONE),
            "Last-level cache that the monitored vCPUs occupy; libvirt reports 32 bits of it"),
        Row::gauge(&["cpu.energy.monitor.count"], "libvirt_domain_cpu_energy_monitors", of("monitor"), ("libvirt.domain.cpu.energy.monitor.count", NONE),
            "Energy monitors (resctrl) of the domain"),
        Row::info(&["cpu.energy.monitor.<n>.vcpus"], &["vcpus"], "libvirt_domain_cpu_energy_monitor_info", ("libvirt.domain.cpu.energy.monitor.info", NONE),
            "The vCPUs that an energy monitor watches"),
        Row::gauge(&["cpu.energy.monitor.<n>.pkg.count"], "libvirt_domain_cpu_energy_monitor_packages", of("package"), ("libvirt.domain.cpu.energy.monitor.package.count", NONE),
            "CPU packages that an energy monitor watches"),
        Row::counter(&["cpu.energy.monitor.<n>.pkg.<m>.core_energy"], "libvirt_domain_cpu_core_energy_joules_total", (Unit::Joules, Scale::One), ("libvirt.domain.cpu.core_energy", NONE),
            "Energy that the cores spent on the monitored vCPUs"),
        Row::gauge(&["cpu.energy.monitor.<n>.pkg.<m>.activity"], "libvirt_domain_cpu_energy_activity", NUMBER, ("libvirt.domain.cpu.energy.activity", NONE),
            "Activity of the monitored vCPUs as the CPU's energy telemetry reports it"),
    ],
};
