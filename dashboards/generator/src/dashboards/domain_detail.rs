//! The closed rows of Libvirt / Domain: what one looks at when the open ones do not explain it, or only some guests have.

use super::{SILENT, events};
use crate::grafana::{Column, Panel, Row, Unit, bars, falling, heatmap, plain, rising, stat, table, timeseries};
use crate::thresholds as limit;

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::closed("CPU in detail", processor()),
        Row::closed("Memory in detail", unless_reported(memory(), SILENT)),
        Row::closed("Disk latency in detail", unless_reported(latency(), "no <statistics> in the disk's driver")),
        Row::closed("Limits", unless_reported(limits(), "no such limit in the definition")),
        Row::closed("Backing chain", unless_reported(backing_chain(), "no backing chain, or it is not collected")),
        Row::closed("I/O threads", iothreads()),
        Row::closed("Performance events", unless_reported(perf(), "no such event in <perf>")),
        Row::closed("Cache, memory bandwidth and energy", unless_reported(resctrl(), "no such monitor")),
        Row::closed("Jobs, dirty rate and KVM", migration()),
        Row::closed("Events", happenings()),
        Row::closed("Definition", definition()),
    ]
}

/// The same text on every panel for which a guest lacks what the row is about.
fn unless_reported(panels: Vec<Panel>, text: &str) -> Vec<Panel> {
    panels.into_iter().map(|panel| panel.nothing(text)).collect()
}

fn rate(metric: &str) -> String {
    format!("rate({metric}{{%domain}}[%rate])")
}

fn processor() -> Vec<Panel> {
    vec![
        timeseries(
            "Halt polling",
            "Share of the time that vCPUs polled before they halted: with success, which saves a wake-up, and in vain, which \
             costs the host's CPU.",
            Unit::Ratio,
        )
        .query(&rate("libvirt_domain_cpu_haltpoll_success_seconds_total"), "{{domain}} success")
        .query(&rate("libvirt_domain_cpu_haltpoll_fail_seconds_total"), "{{domain}} in vain"),
        timeseries("Waiting for I/O", "Share of the time that each vCPU waited on I/O; zero unless the host's kernel collects \
             scheduler statistics.", Unit::Ratio)
            .query(&rate("libvirt_domain_vcpu_wait_seconds_total"), "{{domain}} vCPU {{vcpu}}"),
        timeseries("vCPUs", "vCPUs that are plugged in, how many there may be, and how many of them are halted.", Unit::Count)
            .query("max by (domain) (libvirt_domain_vcpus_maximum{%domain})", "{{domain}} at most")
            .query("max by (domain) (libvirt_domain_vcpus_current{%domain})", "{{domain}} plugged in")
            .query("sum by (domain) (libvirt_domain_vcpu_halted{%domain})", "{{domain}} halted")
            .limits(".* at most$"),
    ]
}

fn memory() -> Vec<Panel> {
    vec![
        timeseries("Usable memory", "Share of its memory that the guest can use without swapping, as it reports. Alert \
             LibvirtDomainMemoryPressure.", Unit::Ratio)
            .query("libvirt_domain_memory_usable_bytes{%domain} / \
                 libvirt_domain_memory_available_bytes{%domain}", "{{domain}}")
            .up_to(1.0)
            .thresholds(falling(limit::MEMORY_USABLE))
            .size(6, 8),
        timeseries("Page faults", "Page faults of the guest per second, as it reports: major ones needed I/O.", Unit::Operations)
            .query(&rate("libvirt_domain_memory_major_faults_total"), "{{domain}} major")
            .query(&rate("libvirt_domain_memory_minor_faults_total"), "{{domain}} minor")
            .on_the_right(".* minor$", Unit::Operations)
            .size(6, 8),
        timeseries("Huge pages", "Huge pages that the guest allocated, or could not allocate, per second, as it reports.", Unit::Operations)
            .query(&rate("libvirt_domain_memory_hugetlb_allocations_total"), "{{domain}} allocated")
            .query(&rate("libvirt_domain_memory_hugetlb_allocation_failures_total"), "{{domain}} failed")
            .size(6, 8),
        timeseries(
            "Age of the guest's report",
            "Time since the guest last reported its memory. If it grows, its numbers are old: no balloon driver, or no period \
             (virsh dommemstat --period).",
            Unit::Seconds,
        )
        .query("time() - libvirt_domain_memory_last_update_timestamp_seconds{%domain}", "{{domain}}")
        .thresholds(rising(limit::MEMORY_REPORT_AGE))
        .size(6, 8),
    ]
}

fn latency() -> Vec<Panel> {
    let percentiles = |title, what: &str| {
        let of = |quantile: &str| {
            format!(
                "histogram_quantile({quantile}, \
                     rate(libvirt_domain_block_{what}_latency_seconds_bucket{{%domain}}[%rate])) >= 0"
            )
        };
        timeseries(
            title,
            "Times within which half, 95 % and 99 % of the requests were done, from the latency \
             histogram. At the last bin's start it means at least that. Alert LibvirtBlockLatencyP99High.",
            Unit::Seconds,
        )
        .query(&of("0.5"), "{{domain}} {{device}} p50")
        .query(&of("0.95"), "{{domain}} {{device}} p95")
        .query(&of("0.99"), "{{domain}} {{device}} p99")
        .thresholds(rising(limit::BLOCK_LATENCY_P99))
        .size(12, 8)
    };
    let map = |title, what: &str| {
        heatmap(
            title,
            "Requests per second by how long they took, over the selected disks.",
            &format!("sum by (le) (rate(libvirt_domain_block_{what}_latency_seconds_bucket{{%domain}}[%rate]))"),
        )
    };
    let of = |panel: Panel, what: &str| {
        ["read", "write", "flush"].into_iter().fold(panel, |panel, kind| {
            panel.query(
                &format!("libvirt_domain_block_{kind}_{what}{{%domain}}"),
                &format!("{{{{domain}}}} {{{{device}}}} {kind} ({{{{interval}}}} s)"),
            )
        })
    };
    vec![
        percentiles("Read percentiles", "read"),
        percentiles("Write percentiles", "write"),
        map("Reads by latency", "read"),
        map("Writes by latency", "write"),
        map("Flushes by latency", "flush"),
        of(
            timeseries(
                "Average latency by QEMU",
                "Average latency over the last interval, as QEMU measures it.",
                Unit::Seconds,
            ),
            "latency_avg_seconds",
        ),
        of(
            timeseries(
                "Longest latency",
                "The longest request of the last interval: what an average hides.",
                Unit::Seconds,
            ),
            "latency_max_seconds",
        )
        .thresholds(rising(limit::BLOCK_LATENCY_P99)),
        timeseries(
            "Queue depth by QEMU",
            "Average number of requests in flight over the last interval, as QEMU measures it.",
            Unit::Short,
        )
        .query("libvirt_domain_block_read_queue_depth_avg{%domain}", "{{domain}} {{device}} read ({{interval}} s)")
        .query("libvirt_domain_block_write_queue_depth_avg{%domain}", "{{domain}} {{device}} write ({{interval}} s)"),
    ]
}

fn limits() -> Vec<Panel> {
    let of_throttle = |panel: Panel, unit: &str| {
        let used = |kind: &str| rate(&format!("libvirt_domain_block_{kind}_{unit}_total"));
        let throttles = [
            ("read", used("read")),
            ("write", used("write")),
            ("total", format!("({} + {})", used("read"), used("write"))),
        ];
        throttles.into_iter().fold(panel, |panel, (kind, used)| {
            let allowed = format!("libvirt_domain_block_throttle_{kind}_{unit}_per_second{{%domain}}");
            panel.query(&format!("{used} / {allowed}"), &format!("{{{{domain}}}} {{{{device}}}} {kind} {unit}"))
        })
    };
    let throttles = timeseries(
        "Disk throttles",
        "Share of its throttles that each disk uses; more than 1 is a burst. At 1 the guest's requests wait. Alert \
         LibvirtBlockAtThrottle.",
        Unit::Ratio,
    );
    vec![
        timeseries(
            "CPU quota",
            "Share of its quota that the domain uses, and that its busiest vCPU uses of the quota of each vCPU. At 1 the \
             guest is held back. Alert LibvirtDomainAtCpuQuota.",
            Unit::Ratio,
        )
        .query(
            "rate(libvirt_domain_cpu_time_seconds_total{%domain}[%rate]) / \
                 (libvirt_domain_cpu_quota_seconds{%domain} / libvirt_domain_cpu_period_seconds{%domain})",
            "{{domain}}",
        )
        .query(
            "max without (vcpu) (rate(libvirt_domain_vcpu_time_seconds_total{%domain}[%rate])) / \
                 (libvirt_domain_vcpu_quota_seconds{%domain} / libvirt_domain_vcpu_period_seconds{%domain})",
            "{{domain}} busiest vCPU",
        )
        .size(12, 8),
        of_throttle(of_throttle(throttles, "bytes"), "requests").size(12, 8),
    ]
}

fn backing_chain() -> Vec<Panel> {
    let by = |metric: &str| format!("sum by (domain, device, backing_index) ({metric}{{%domain}})");
    let columns = vec![
        Column::label("Domain", "domain").width(200),
        Column::label("Device", "device").width(80),
        Column::label("Layer", "backing_index").width(80),
        Column::label("Image", "path"),
        Column::query(
            "",
            "sum by (domain, device, backing_index, path) (libvirt_domain_block_backing_info{%domain})",
            Unit::Count,
        ),
        Column::query("Capacity", &by("libvirt_domain_block_backing_capacity_bytes"), Unit::Bytes).width(110),
        Column::query("Physical", &by("libvirt_domain_block_backing_physical_bytes"), Unit::Bytes).width(110),
        Column::query("Allocated", &by("libvirt_domain_block_backing_allocation_bytes"), Unit::Bytes).width(110),
    ];
    vec![
        table(
            "Backing layers",
            "The images below the top one of each disk: templates and snapshots.",
            columns,
            ("Layer", false),
        )
        .size(16, 8),
        timeseries(
            "Layers",
            "How many images lie below the top one of each disk. If it grows, snapshots are left behind.",
            Unit::Count,
        )
        .query("libvirt_domain_block_backing_layers{%domain}", "{{domain}} {{device}}"),
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
            "Context switches of the domain's process, and moves of its threads to another CPU, \
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

fn migration() -> Vec<Panel> {
    vec![
        timeseries(
            "Data left of the job",
            "What a migration, a save or a backup that runs has yet to transfer. Alert LibvirtDomainMigrationStalled.",
            Unit::Bytes,
        )
        .query("libvirt_domain_job_data_remaining_bytes{%domain}", "{{domain}}")
        .size(12, 8),
        timeseries(
            "Transfer of the job",
            "How fast the job transfers memory, and how fast the guest writes to it: a migration ends when the first is above \
             the second.",
            Unit::BytesPerSecond,
        )
        .query("libvirt_domain_job_memory_bytes_per_second{%domain}", "{{domain}} transferred")
        .query("libvirt_domain_job_memory_dirty_bytes_per_second{%domain}", "{{domain}} written")
        .size(12, 8),
        timeseries(
            "Dirty rate",
            "Memory that the guest dirtied per second in the last measurement (virsh \
                 domdirtyrate-calc): what a migration has to outrun.",
            Unit::BytesPerSecond,
        )
        .query("libvirt_domain_dirtyrate_bytes_per_second{%domain}", "{{domain}}"),
        timeseries("TLB flushes", "Flushes of other vCPUs' TLBs per second, by KVM.", Unit::Operations)
            .query(&rate("libvirt_domain_kvm_remote_tlb_flush_total"), "{{domain}}"),
        timeseries(
            "Pages of the guest by size",
            "Pages that KVM maps for the guest: large ones are cheaper.",
            Unit::Short,
        )
        .query("libvirt_domain_kvm_pages_4k{%domain}", "{{domain}} 4 KiB")
        .query("libvirt_domain_kvm_pages_2m{%domain}", "{{domain}} 2 MiB")
        .query("libvirt_domain_kvm_pages_1g{%domain}", "{{domain}} 1 GiB"),
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

fn happenings() -> Vec<Panel> {
    // The sum takes the metric's name away, which only one of the two has that `events` joins.
    let count = |metric: &str, by: &str| format!("sum by (domain{by}) {}", events(&format!("{metric}{{%domain}}")));
    vec![
        bars("I/O errors", "Errors of the storage that reached the guest or paused it. Alert LibvirtDomainIoErrors.")
            .query(
                &count("libvirt_domain_block_io_errors_total", ", device, action, reason"),
                "{{domain}} {{device}}: {{action}} ({{reason}})",
            ),
        bars("Crashes", "Crashes of the domain.").query(&count("libvirt_domain_crashes_total", ""), "{{domain}}"),
        bars(
            "Write thresholds",
            "Threshold events of the disks: a thin image wants to grow. Alert LibvirtBlockThresholdReached.",
        )
        .query(&count("libvirt_domain_block_threshold_events_total", ", device"), "{{domain}} {{device}}"),
        timeseries(
            "Guest agent",
            "Whether the guest agent is connected: 1 yes, 0 no. Alert LibvirtAgentLost.",
            Unit::Count,
        )
        .nothing("no agent channel")
        .query("libvirt_domain_agent_connected{%domain}", "{{domain}}")
        .up_to(1.0),
        timeseries(
            "Unmapped statistics",
            "Statistics of a newer libvirt that this exporter has no metric for.",
            Unit::Count,
        )
        .nothing("none")
        .query("count by (domain) (libvirt_domain_unmapped_stat{%domain})", "{{domain}}")
        .size(16, 8),
    ]
}

fn definition() -> Vec<Panel> {
    let of = |labels: &str, metric: &str| format!("max by ({labels}) ({metric}{{%domain}})");
    let domain = vec![
        Column::label("Domain", "domain"),
        Column::label("UUID", "uuid"),
        Column::label("Title", "title"),
        Column::label("Type", "os_type"),
        Column::label("Architecture", "arch"),
        Column::label("Machine", "machine"),
        Column::label("System", "os"),
        Column::query("", &of("domain, uuid, title, os_type, arch, machine, os", "libvirt_domain_info"), Unit::Count),
        Column::query("Autostart", &of("domain, uuid", "libvirt_domain_autostart"), Unit::Count).words(YES_NO),
        Column::query("Persistent", &of("domain, uuid", "libvirt_domain_persistent"), Unit::Count).words(YES_NO),
        Column::query("Snapshots", &of("domain, uuid", "libvirt_domain_has_snapshots"), Unit::Count).words(YES_NO),
    ];
    let disks = vec![
        Column::label("Domain", "domain"),
        Column::label("Device", "device").width(80),
        Column::label("Bus", "bus").width(80),
        Column::label("Image", "path"),
        Column::label("Source", "source"),
        Column::label("Format", "driver_type").width(80),
        Column::label("Cache", "cache").width(80),
        Column::query(
            "",
            &of("domain, device, bus, path, source, driver_type, cache", "libvirt_domain_block_info"),
            Unit::Count,
        ),
    ];
    let interfaces = vec![
        Column::label("Domain", "domain"),
        Column::label("Interface", "interface"),
        Column::label("MAC", "mac"),
        Column::label("Model", "model"),
        Column::label("Bridge", "bridge"),
        Column::label("Network", "network"),
        Column::query(
            "",
            &of("domain, interface, mac, model, bridge, network", "libvirt_domain_interface_info"),
            Unit::Count,
        ),
    ];
    vec![
        table("Domain", "What the domain's definition says of it.", domain, ("Domain", false)).size(24, 5),
        table("Disks", "What the domain's definition says of its disks.", disks, ("Device", false)).size(12, 7),
        table("Interfaces", "What the domain's definition says of its interfaces.", interfaces, ("Interface", false))
            .size(12, 7),
    ]
}

const YES_NO: &[(&str, &str, &str)] = &[("0", "no", "text"), ("1", "yes", "green")];
