//! The closed rows of Libvirt / Domain: what one looks at when the open ones do not explain it, or only some guests have.

use super::numbers::file_system_use;
use super::{SILENT, domain_hardware, domain_limits, events};
use crate::grafana::{Column, Panel, Row, Unit, bars, falling, heatmap, orange_from, rising, table, timeseries};
use crate::thresholds as limit;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = domain_limits::rows();
    rows.extend([
        Row::closed("Inside the guest", unless_reported(inside(), "no guest agent, or the group guest is off")),
        Row::closed("Snapshots and backing chain", unless_reported(layers(), "none, or it is not collected")),
        Row::closed("CPU in detail", processor()),
        Row::closed("Memory in detail", unless_reported(memory(), SILENT)),
        Row::closed("Disk latency in detail", unless_reported(latency(), "no <statistics> in the disk's driver")),
    ]);
    rows.extend(domain_hardware::rows());
    rows.extend([Row::closed("Events", happenings()), Row::closed("Definition", definition())]);
    rows
}

/// The same text on every panel for which a guest lacks what the row is about.
pub(super) fn unless_reported(panels: Vec<Panel>, text: &str) -> Vec<Panel> {
    panels.into_iter().map(|panel| panel.nothing(text)).collect()
}

pub(super) fn rate(metric: &str) -> String {
    format!("rate({metric}{{%domain}}[%rate])")
}

fn processor() -> Vec<Panel> {
    vec![
        timeseries(
            "Halt polling",
            "Share of the time that vCPUs polled before they halted: with success, which saves a wake-up, and without, which \
             costs the host's CPU.",
            Unit::Ratio,
        )
        .query(&rate("libvirt_domain_cpu_haltpoll_success_seconds_total"), "{{domain}} success")
        .query(&rate("libvirt_domain_cpu_haltpoll_fail_seconds_total"), "{{domain}} without success"),
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
             histogram. At the last bin's start it means at least that. Alert LibvirtBlockReadLatencyP99High and LibvirtBlockWriteLatencyP99High.",
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

fn inside() -> Vec<Panel> {
    let of = |metric: &str| format!("libvirt_domain_guest_{metric}{{%domain}}");
    vec![
        timeseries(
            "File systems",
            "How full each file system of the guest is, as its agent reports. Alert \
             LibvirtGuestFilesystemNearlyFull.",
            Unit::Ratio,
        )
        .query(&file_system_use("%domain"), "{{domain}} {{mountpoint}}")
        .up_to(1.0)
        .thresholds(rising(limit::GUEST_FILESYSTEM)),
        timeseries(
            "Load",
            "Load of the guest over one, five and fifteen minutes, as its agent reports; libvirt 11.2 or later.",
            Unit::Short,
        )
        .query(&of("load1"), "{{domain}} 1 min")
        .query(&of("load5"), "{{domain}} 5 min")
        .query(&of("load15"), "{{domain}} 15 min")
        .size(4, 8),
        timeseries("Clock", "How far the guest's clock is ahead of the exporter's.", Unit::Seconds)
            .query(&of("clock_offset_seconds"), "{{domain}}")
            .mirrored("^$")
            .size(4, 8),
        timeseries(
            "Guest agent",
            "Whether the guest agent is connected: 1 yes, 0 no. Alert LibvirtAgentLost.",
            Unit::Count,
        )
        .query("libvirt_domain_agent_connected{%domain}", "{{domain}}")
        .up_to(1.0)
        .size(4, 8),
        timeseries("Users", "Users that are logged in to the guest.", Unit::Count)
            .query(&of("users"), "{{domain}}")
            .size(4, 8),
    ]
}

fn layers() -> Vec<Panel> {
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
    let of = |metric: &str| format!("max by (domain) (libvirt_domain_{metric}{{%domain}})");
    vec![
        timeseries("Snapshots and checkpoints", "How many snapshots and checkpoints the domain has.", Unit::Count)
            .query(&of("snapshots"), "{{domain}} snapshots")
            .query(&of("checkpoints"), "{{domain}} checkpoints"),
        timeseries(
            "Age of the snapshots",
            "Time since the oldest and the newest snapshot. An external snapshot grows for as long as it is there.",
            Unit::Seconds,
        )
        .query(&format!("time() - {}", of("snapshot_oldest_timestamp_seconds")), "{{domain}} oldest")
        .query(&format!("time() - {}", of("snapshot_newest_timestamp_seconds")), "{{domain}} newest")
        .thresholds(orange_from(limit::SNAPSHOT_AGE)),
        timeseries(
            "Layers",
            "How many images lie below the top one of each disk. If it grows, snapshots are left behind.",
            Unit::Count,
        )
        .query("libvirt_domain_block_backing_layers{%domain}", "{{domain}} {{device}}"),
        table(
            "Backing layers",
            "The images below the top one of each disk: templates and snapshots.",
            columns,
            ("Layer", false),
        )
        .size(24, 8),
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
            "Unmapped statistics",
            "Statistics of a newer libvirt that this exporter has no metric for.",
            Unit::Count,
        )
        .nothing("none")
        .query("count by (domain) (libvirt_domain_unmapped_stat{%domain})", "{{domain}}")
        .size(24, 6),
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
        table("Domain", "What the domain XML has about the domain.", domain, ("Domain", false)).size(24, 5),
        table("Disks", "The disks, from the domain XML.", disks, ("Device", false)).size(12, 7),
        table("Interfaces", "The interfaces, from the domain XML.", interfaces, ("Interface", false)).size(12, 7),
    ]
}

const YES_NO: &[(&str, &str, &str)] = &[("0", "no", "text"), ("1", "yes", "green")];
