//! Libvirt / Domain: one virtual machine, what one looks at first. `domain_detail` has the closed rows.

use serde_json::Value;

use super::guests::{STATE_WORDS, latency, state, states, who};
use super::numbers::{at_quota, cpus_allowed, delay, file_system_use, image_use, quota_use, steal_of, throttle_use};
use super::{SILENT, STATES, domain_detail, events, lifecycle};
use crate::grafana::{
    Column, Dashboard, Panel, Row, Unit, Variable, number, orange_from, plain, rising, table, timeseries,
};
use crate::thresholds as limit;

pub(super) fn dashboard() -> Value {
    let about = "One virtual machine: CPU and steal by vCPU, memory, disks, network, and in the closed rows whatever else its \
        libvirt reports.";
    let dashboard = Dashboard::new("libvirt-domain", "Libvirt / Domain", about)
        .hosts(false)
        .variable(Variable { name: "domain", label: "domain", of: "libvirt_domain_state{%host}", one: true })
        .annotation(
            "Started",
            "green",
            "libvirt_domain_start_timestamp_seconds{%domain} * 1000",
            ["{{domain}} started", "on {{instance}}"],
            true,
        )
        .annotation(
            "State",
            "orange",
            "libvirt_domain_state_reason_info{%domain} unless libvirt_domain_state_reason_info{%domain} offset 1m",
            ["{{domain}} is {{state}}", "{{reason}}"],
            false,
        )
        .annotation(
            "I/O errors",
            "red",
            &format!("sum by (domain, device, reason) {}", events("libvirt_domain_block_io_errors_total{%domain}")),
            ["{{domain}}: I/O error on {{device}}", "{{reason}}"],
            false,
        )
        .annotation(
            "Lifecycle of the host's domains",
            "blue",
            &lifecycle(),
            ["{{event}}", "{{detail}} on {{instance}}"],
            false,
        )
        .row(Row::open("Now", now()))
        .row(Row::open("CPU", processor()))
        .row(Row::open("Memory", memory()))
        .row(Row::open("Disks", disks()))
        .row(Row::open("Network", network()));
    domain_detail::rows().into_iter().fold(dashboard, Dashboard::row).build()
}

fn now() -> Vec<Panel> {
    let one = |title: &str, about: &str, unit, expression: &str| {
        number(title, about, unit).query(expression, "{{domain}}").size(4, 3)
    };
    let mut panels = vec![
        one(
            "State",
            "What the domain is doing, and whether its QEMU responds while it runs. Alert LibvirtDomainQuarantined.",
            Unit::Count,
            &state("domain"),
        )
        .words(STATE_WORDS)
        .thresholds(plain()),
        one(
            "Data complete",
            "Whether the last collection has all that was asked for of the domain.",
            Unit::Count,
            "min by (domain) (libvirt_domain_stats_complete{%domain})",
        )
        .words(&[("0", "no", "red"), ("1", "yes", "green")])
        .nothing("not running"),
        one(
            "Up for",
            "Time since the domain started, where the exporter saw it start.",
            Unit::Seconds,
            "time() - max by (domain) (libvirt_domain_start_timestamp_seconds{%domain})",
        )
        .nothing("start not seen")
        .thresholds(plain()),
        one(
            "CPU",
            "Share of its vCPUs' time that the domain computes, on average over its vCPUs.",
            Unit::Ratio,
            "avg by (domain) (rate(libvirt_domain_vcpu_time_seconds_total{%domain}[%rate]))",
        )
        .up_to(1.0)
        .thresholds(rising(limit::CPU)),
        one(
            "Steal",
            "Share of the time in which its vCPUs were ready but had no CPU, on average over its vCPUs. It is blue where the domain is at \
             its CPU quota: the quota keeps the CPU from it, not the host. Alert LibvirtDomainStealHigh.",
            Unit::Ratio,
            &steal_of("domain", "%domain"),
        )
        .nothing("not reported")
        .thresholds(rising(limit::STEAL))
        .query(
            &format!("{} and {}", delay("domain", "%domain"), at_quota("domain", "%domain")),
            "{{domain}} at its quota",
        )
        .colors_of(".* at its quota$", plain()),
        one(
            "CPU quota",
            "Share of its CPU quota that the domain uses. At 100 % it is held back. Alert LibvirtDomainAtCpuQuota.",
            Unit::Ratio,
            &format!("max by (domain) ({})", quota_use("%domain")),
        )
        .nothing("no quota")
        .thresholds(orange_from(limit::AT_LIMIT)),
        one(
            "Memory used",
            "Share of its memory that the guest cannot use without swapping, as it reports.",
            Unit::Ratio,
            "1 - max by (domain) (libvirt_domain_memory_usable_bytes{%domain} / libvirt_domain_memory_available_bytes{%domain})",
        )
        .up_to(1.0)
        .nothing("not reported")
        .thresholds(rising(limit::MEMORY_USABLE.of_the_rest())),
        one(
            "Disk latency",
            "Average time of a read or write over all disks. Alert LibvirtBlockLatencyHigh.",
            Unit::Seconds,
            &latency("domain"),
        )
        .nothing("no requests")
        .thresholds(rising(limit::BLOCK_LATENCY)),
        one(
            "Throttle",
            "Share of its tightest throttle that a disk uses, of the disk that uses most. Alert LibvirtBlockAtThrottle.",
            Unit::Ratio,
            &format!("max by (domain) ({})", throttle_use("%domain")),
        )
        .nothing("no throttle")
        .thresholds(orange_from(limit::AT_LIMIT)),
        one(
            "Disk full",
            "How full the fullest thin image on a device of the host is, and the fullest file system, which needs the group guest. \
             Alerts LibvirtThinImageNearlyFull and LibvirtGuestFilesystemNearlyFull.",
            Unit::Ratio,
            &format!("max by (domain) ({})", image_use("%domain")),
        )
        .nothing("not reported")
        .thresholds(rising(limit::THIN_IMAGE))
        .query(&format!("max by (domain) ({})", file_system_use("%domain")), "{{domain}} file system")
        .colors_of(".* file system$", rising(limit::GUEST_FILESYSTEM)),
        one(
            "Oldest snapshot",
            "How old the oldest snapshot is. Snapshots slow the disks of a guest down, and grow. Alert LibvirtSnapshotOld.",
            Unit::Seconds,
            "time() - max by (domain) (libvirt_domain_snapshot_oldest_timestamp_seconds{%domain})",
        )
        .nothing("none known")
        .thresholds(orange_from(limit::SNAPSHOT_AGE)),
        one(
            "Job",
            "How long the migration, save, dump or backup that runs has been running.",
            Unit::Seconds,
            "max by (domain) (libvirt_domain_job_elapsed_seconds{%domain})",
        )
        .nothing("none")
        .thresholds(rising(limit::JOB_SECONDS)),
    ];
    panels.push(identity());
    panels
}

/// Who the domain is.
fn identity() -> Panel {
    let rows = "max by (instance, domain, uuid, os) (libvirt_domain_info{%domain})";
    let reason = "max by (instance, domain, reason) (libvirt_domain_state_reason_info{%domain})";
    let by = |metric: &str| format!("max by (instance, domain) ({metric}{{%domain}})");
    let mut columns = who(rows, "%domain");
    columns.extend([
        Column::label("State", "state").words(&STATES).width(115),
        Column::query("", &states("%domain"), Unit::Count),
        Column::label("Reason", "reason").width(100),
        Column::query("", reason, Unit::Count),
        Column::query("vCPUs", &by("libvirt_domain_vcpus_current"), Unit::Count).width(70),
        Column::query("CPUs allowed", &cpus_allowed("%domain"), Unit::Short).width(115),
        Column::query("Memory", &by("libvirt_domain_memory_current_bytes"), Unit::Bytes).width(90),
        Column::query("Snapshots", &by("libvirt_domain_snapshots"), Unit::Count).width(95),
        Column::label("System", "os"),
        Column::label("UUID", "uuid").width(330),
        Column::query("", rows, Unit::Count),
    ]);
    table("Guest", "Who the guest is, from its definition.", columns, ("Guest", false)).size(24, 4)
}

fn processor() -> Vec<Panel> {
    vec![
        timeseries("CPU by vCPU", "Share of the time that each vCPU computes.", Unit::Ratio)
            .query("rate(libvirt_domain_vcpu_time_seconds_total{%domain}[%rate])", "{{domain}} vCPU {{vcpu}}"),
        timeseries(
            "Steal by vCPU",
            "Share of the time in which each vCPU was ready to run but had no CPU, for want of one or by its quota: what the guest \
             sees as steal.",
            Unit::Ratio,
        )
        .query("rate(libvirt_domain_vcpu_delay_seconds_total{%domain}[%rate])", "{{domain}} vCPU {{vcpu}}"),
        timeseries(
            "CPU time of the host",
            "CPUs that the domain keeps busy: its vCPUs, and what QEMU and the kernel do for it.",
            Unit::Short,
        )
        .query("sum by (domain) (rate(libvirt_domain_cpu_time_seconds_total{%domain}[%rate]))", "{{domain}} total")
        .query(
            "sum by (domain) (rate(libvirt_domain_cpu_user_seconds_total{%domain}[%rate]))",
            "{{domain}} user, the guest included",
        )
        .query("sum by (domain) (rate(libvirt_domain_cpu_system_seconds_total{%domain}[%rate]))", "{{domain}} kernel"),
    ]
}

fn memory() -> Vec<Panel> {
    vec![
        timeseries(
            "Memory on the host",
            "What the domain may have at most, what its balloon leaves it, and what QEMU holds of the host's memory.",
            Unit::Bytes,
        )
        .query("max by (domain) (libvirt_domain_memory_maximum_bytes{%domain})", "{{domain}} at most")
        .query("max by (domain) (libvirt_domain_memory_current_bytes{%domain})", "{{domain}} allocated")
        .query("max by (domain) (libvirt_domain_memory_rss_bytes{%domain})", "{{domain}} resident")
        .limits(".* at most$"),
        timeseries(
            "Memory inside the guest",
            "How the guest uses its memory, as its balloon driver reports: used is what it cannot give \
                 up, caches it can.",
            Unit::Bytes,
        )
        .nothing(SILENT)
        .query(
            "max by (domain) (libvirt_domain_memory_available_bytes{%domain} - \
             libvirt_domain_memory_usable_bytes{%domain})",
            "{{domain}} used",
        )
        .query(
            "max by (domain) (libvirt_domain_memory_usable_bytes{%domain} - \
             libvirt_domain_memory_unused_bytes{%domain})",
            "{{domain}} caches",
        )
        .query("max by (domain) (libvirt_domain_memory_unused_bytes{%domain})", "{{domain}} unused")
        .stacked()
        .query("max by (domain) (libvirt_domain_memory_available_bytes{%domain})", "{{domain}} total")
        .limits(".* total$"),
        timeseries(
            "Swapping",
            "Bytes that the guest swaps in (up) and out (down) per second, as it reports. Alert \
             LibvirtDomainSwapping.",
            Unit::BytesPerSecond,
        )
        .nothing(SILENT)
        .query("max by (domain) (rate(libvirt_domain_memory_swap_in_bytes_total{%domain}[%rate]))", "{{domain}} in")
        .query("max by (domain) (rate(libvirt_domain_memory_swap_out_bytes_total{%domain}[%rate]))", "{{domain}} out")
        .mirrored(".* out$"),
    ]
}

fn disks() -> Vec<Panel> {
    vec![
        timeseries("Requests", "Reads (up) and writes (down) per second.", Unit::Iops)
            .query("rate(libvirt_domain_block_read_requests_total{%domain}[%rate])", "{{domain}} {{device}} read")
            .query("rate(libvirt_domain_block_write_requests_total{%domain}[%rate])", "{{domain}} {{device}} written")
            .mirrored(".* written$"),
        timeseries("Throughput", "Bytes read (up) and written (down) per second.", Unit::BytesPerSecond)
            .query("rate(libvirt_domain_block_read_bytes_total{%domain}[%rate])", "{{domain}} {{device}} read")
            .query("rate(libvirt_domain_block_write_bytes_total{%domain}[%rate])", "{{domain}} {{device}} written")
            .mirrored(".* written$"),
        timeseries("Latency", "Average time of a request: the time that requests took, divided by their number. Alert \
             LibvirtBlockLatencyHigh.", Unit::Seconds)
            .query("rate(libvirt_domain_block_read_time_seconds_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_block_read_requests_total{%domain}[%rate]) > 0)", "{{domain}} {{device}} read")
            .query("rate(libvirt_domain_block_write_time_seconds_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_block_write_requests_total{%domain}[%rate]) > 0)", "{{domain}} {{device}} written")
            .query("rate(libvirt_domain_block_flush_time_seconds_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_block_flush_requests_total{%domain}[%rate]) > 0)", "{{domain}} {{device}} flushed")
            .thresholds(rising(limit::BLOCK_LATENCY)),
        timeseries("Requests in flight", "How many requests were under way at a time, on average: the time that they took in each \
             second.", Unit::Short)
            .query("rate(libvirt_domain_block_read_time_seconds_total{%domain}[%rate])", "{{domain}} {{device}} reads")
            .query("rate(libvirt_domain_block_write_time_seconds_total{%domain}[%rate])", "{{domain}} {{device}} writes"),
        timeseries("Flushes", "Flushes per second: what databases and journals wait for.", Unit::Iops)
            .query("rate(libvirt_domain_block_flush_requests_total{%domain}[%rate])", "{{domain}} {{device}}"),
        timeseries(
            "Images",
            "The device as the guest sees it (capacity), its image's file or device on the host (physical), and how far that is \
             written (allocated). A thin image is full when what is allocated reaches what is physical. Alert LibvirtThinImageFull.",
            Unit::Bytes,
        )
        .query("libvirt_domain_block_capacity_bytes{%domain}", "{{domain}} {{device}} capacity")
        .query("libvirt_domain_block_physical_bytes{%domain}", "{{domain}} {{device}} physical")
        .query("libvirt_domain_block_allocation_bytes{%domain}", "{{domain}} {{device}} allocated")
        .limits(".* capacity$"),
    ]
}

fn network() -> Vec<Panel> {
    let both = |panel: Panel, what: &str| {
        panel
            .query(
                &format!("rate(libvirt_domain_interface_receive_{what}_total{{%domain}}[%rate])"),
                "{{domain}} {{interface}} received",
            )
            .query(
                &format!("rate(libvirt_domain_interface_transmit_{what}_total{{%domain}}[%rate])"),
                "{{domain}} {{interface}} sent",
            )
            .mirrored(".* sent$")
            .size(12, 8)
    };
    vec![
        both(
            timeseries("Throughput", "Bytes received (up) and sent (down) per second.", Unit::BytesPerSecond),
            "bytes",
        ),
        both(timeseries("Packets", "Packets received (up) and sent (down) per second.", Unit::Packets), "packets"),
        both(
            timeseries(
                "Drops",
                "Packets dropped per second on the way to the guest (up) and from it (down). Alert \
                     LibvirtInterfaceDrops.",
                Unit::Packets,
            ),
            "drops",
        ),
        both(
            timeseries("Errors", "Packets with errors per second. Alert LibvirtInterfaceErrors.", Unit::Packets),
            "errors",
        ),
    ]
}
