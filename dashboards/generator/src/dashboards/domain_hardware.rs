//! The closed rows of Libvirt / Domain that are about the hardware: I/O threads, performance events, caches and KVM.

use super::domain_detail::{rate, unless_reported};
use crate::grafana::{Panel, Row, Unit, plain, stat, timeseries};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::closed("I/O threads", iothreads()),
        Row::closed("Performance events", unless_reported(perf(), "no such event in <perf>")),
        Row::closed("Cache, memory bandwidth and energy", unless_reported(resctrl(), "no such monitor")),
        Row::closed("KVM", unless_reported(kvm(), "the host's KVM does not say")),
    ]
}

fn iothreads() -> Vec<Panel> {
    vec![
        stat("I/O threads", "I/O threads of the domain.", Unit::Count)
            .query("sum by (domain) (libvirt_domain_iothreads{%domain})", "{{domain}}")
            .thresholds(plain())
            .size(4, 8),
        timeseries(
            "Longest polling",
            "How long each I/O thread polls before it sleeps, at most; zero is no polling.",
            Unit::Seconds,
        )
        .query("libvirt_domain_iothread_poll_max_seconds{%domain}", "{{domain}} thread {{iothread}}")
        .size(10, 8),
        timeseries(
            "Polling factors",
            "By what the polling time of each I/O thread grows and shrinks; zero is QEMU's default.",
            Unit::Short,
        )
        .query("libvirt_domain_iothread_poll_grow{%domain}", "{{domain}} thread {{iothread}} grow")
        .query("libvirt_domain_iothread_poll_shrink{%domain}", "{{domain}} thread {{iothread}} shrink")
        .size(10, 8),
    ]
}

fn perf() -> Vec<Panel> {
    vec![
        timeseries(
            "Instructions per cycle",
            "How many instructions a CPU cycle retires. Below one, the domain waits for memory.",
            Unit::Short,
        )
        .query(
            "rate(libvirt_domain_perf_instructions_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_perf_cpu_cycles_total{%domain}[%rate]) > 0)",
            "{{domain}}",
        ),
        timeseries("Misses", "Shares of cache accesses that miss and of branches that are mispredicted.", Unit::Ratio)
            .query(
                "rate(libvirt_domain_perf_cache_misses_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_perf_cache_references_total{%domain}[%rate]) > 0)",
                "{{domain}} cache",
            )
            .query(
                "rate(libvirt_domain_perf_branch_misses_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_perf_branch_instructions_total{%domain}[%rate]) > 0)",
                "{{domain}} branches",
            ),
        timeseries(
            "Stalled cycles",
            "Share of the cycles in which the front end or the back end of the CPU was stalled.",
            Unit::Ratio,
        )
        .query(
            "rate(libvirt_domain_perf_stalled_cycles_frontend_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_perf_cpu_cycles_total{%domain}[%rate]) > 0)",
            "{{domain}} front end",
        )
        .query(
            "rate(libvirt_domain_perf_stalled_cycles_backend_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_perf_cpu_cycles_total{%domain}[%rate]) > 0)",
            "{{domain}} back end",
        ),
        timeseries(
            "Switches and migrations",
            "Context switches of the domain's process, and migrations of its threads between CPUs, \
             per second.",
            Unit::Operations,
        )
        .query(&rate("libvirt_domain_perf_context_switches_total"), "{{domain}} switches")
        .query(&rate("libvirt_domain_perf_cpu_migrations_total"), "{{domain}} migrations"),
        timeseries(
            "Page faults of QEMU",
            "Page faults of the domain's process on the host per second.",
            Unit::Operations,
        )
        .query(&rate("libvirt_domain_perf_page_faults_total"), "{{domain}}"),
        timeseries("Task clock", "CPUs that the domain's tasks keep busy, by the kernel's clock.", Unit::Short)
            .query(&rate("libvirt_domain_perf_task_clock_seconds_total"), "{{domain}}"),
    ]
}

fn resctrl() -> Vec<Panel> {
    vec![
        timeseries("Last-level cache", "Last-level cache that the monitored vCPUs occupy.", Unit::Bytes)
            .query("libvirt_domain_cpu_cache_occupancy_bytes{%domain}", "{{domain}} {{monitor}} bank {{bank}}"),
        timeseries(
            "Memory bandwidth",
            "Bytes that the monitored vCPUs move through the memory controllers, and through their own node's.",
            Unit::BytesPerSecond,
        )
        .query(&rate("libvirt_domain_memory_bandwidth_bytes_total"), "{{domain}} {{monitor}} node {{node}} all")
        .query(
            &rate("libvirt_domain_memory_bandwidth_local_bytes_total"),
            "{{domain}} {{monitor}} node {{node}} local",
        ),
        timeseries("Power of the cores", "Power that the cores spend on the monitored vCPUs.", Unit::Watts)
            .query(&rate("libvirt_domain_cpu_core_energy_joules_total"), "{{domain}} {{monitor}} package {{package}}"),
    ]
}

fn kvm() -> Vec<Panel> {
    vec![
        timeseries("TLB flushes", "Flushes of other vCPUs' TLBs per second, by KVM.", Unit::Operations)
            .query(&rate("libvirt_domain_kvm_remote_tlb_flush_total"), "{{domain}}")
            .size(12, 8),
        timeseries(
            "Pages of the guest by size",
            "Pages that KVM maps for the guest: large ones are cheaper.",
            Unit::Short,
        )
        .query("libvirt_domain_kvm_pages_4k{%domain}", "{{domain}} 4 KiB")
        .query("libvirt_domain_kvm_pages_2m{%domain}", "{{domain}} 2 MiB")
        .query("libvirt_domain_kvm_pages_1g{%domain}", "{{domain}} 1 GiB")
        .size(12, 8),
        timeseries(
            "Exits",
            "Exits of each vCPU from the guest per second; needs the group vcpu_kvm.",
            Unit::Operations,
        )
        .query(&rate("libvirt_domain_vcpu_kvm_exits_total"), "{{domain}} vCPU {{vcpu}}")
        .size(12, 8),
        timeseries(
            "Halts",
            "Exits of each vCPU because the guest had nothing to do, per second; needs the group \
             vcpu_kvm.",
            Unit::Operations,
        )
        .query(&rate("libvirt_domain_vcpu_kvm_halt_exits_total"), "{{domain}} vCPU {{vcpu}}")
        .size(12, 8),
    ]
}
