//! Libvirt / Domain: one virtual machine, what one looks at first. `domain_detail` has the closed rows.

use serde_json::Value;

use super::host::{STATE_WORDS, latency, state};
use super::{SILENT, domain_detail, events, lifecycle};
use crate::grafana::{Dashboard, Panel, Row, Unit, Variable, none_is_good, plain, rising, stat, timeseries};
use crate::thresholds as limit;

pub(super) fn dashboard() -> Value {
    let about = "One virtual machine: CPU and steal by vCPU, memory, disks, network, and in the closed rows whatever else its \
        libvirt reports.";
    let dashboard = Dashboard::new("libvirt-domain", "Libvirt / Domain", about)
        .hosts(false)
        .variable(Variable { label: "domain", of: "libvirt_domain_state{%host}", one: true })
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
    vec![
        stat("State", "What the domain is doing.", Unit::Count)
            .query(&state("domain"), "{{domain}}")
            .words(STATE_WORDS)
            .thresholds(plain()),
        stat("Up for", "Time since the domain started, where the exporter saw it start.", Unit::Seconds)
            .query("time() - max by (domain) (libvirt_domain_start_timestamp_seconds{%domain})", "{{domain}}")
            .nothing("start not seen")
            .thresholds(plain()),
        stat("CPU", "Share of its vCPUs' time that the domain computes.", Unit::Ratio)
            .query("avg by (domain) (rate(libvirt_domain_vcpu_time_seconds_total{%domain}[%rate]))", "{{domain}}")
            .up_to(1.0)
            .thresholds(rising(limit::CPU)),
        stat(
            "Steal",
            "Share of the time in which its vCPUs were ready but had no CPU. Alert \
             LibvirtDomainStealHigh.",
            Unit::Ratio,
        )
        .query("avg by (domain) (rate(libvirt_domain_vcpu_delay_seconds_total{%domain}[%rate]))", "{{domain}}")
        .thresholds(rising(limit::STEAL)),
        stat(
            "Memory used",
            "Share of its memory that the guest cannot use without swapping, as it reports itself.",
            Unit::Ratio,
        )
        .query(
            "1 - max by (domain) (libvirt_domain_memory_usable_bytes{%domain} / \
                 libvirt_domain_memory_available_bytes{%domain})",
            "{{domain}}",
        )
        .up_to(1.0)
        .nothing(SILENT)
        .thresholds(rising(limit::MEMORY_USABLE.of_the_rest())),
        stat(
            "Disk latency",
            "Average time of a read or write over all disks. Alert LibvirtBlockLatencyHigh.",
            Unit::Seconds,
        )
        .query(&latency("domain"), "{{domain}}")
        .nothing("no requests")
        .thresholds(rising(limit::BLOCK_LATENCY)),
        stat("Network", "Bytes received and sent per second over all interfaces.", Unit::BytesPerSecond)
            .query(
                "sum by (domain) (rate(libvirt_domain_interface_receive_bytes_total{%domain}[%rate]) + \
                 rate(libvirt_domain_interface_transmit_bytes_total{%domain}[%rate]))",
                "{{domain}}",
            )
            .thresholds(plain()),
        stat(
            "Answers",
            "Whether the last collection has all of the domain. If not, its QEMU is busy or frozen. \
             Alert LibvirtDomainQuarantined.",
            Unit::Count,
        )
        .query("min by (domain) (libvirt_domain_stats_complete{%domain})", "{{domain}}")
        .words(&[("0", "no", "red"), ("1", "yes", "green")])
        .nothing("not running")
        .thresholds(none_is_good("green")),
    ]
}

fn processor() -> Vec<Panel> {
    vec![
        timeseries("CPU by vCPU", "Share of the time that each vCPU computes.", Unit::Ratio)
            .query("rate(libvirt_domain_vcpu_time_seconds_total{%domain}[%rate])", "{{domain}} vCPU {{vcpu}}"),
        timeseries(
            "Steal by vCPU",
            "Share of the time in which each vCPU was ready to run but the host had no CPU for \
                 it: what the guest sees as steal.",
            Unit::Ratio,
        )
        .query("rate(libvirt_domain_vcpu_delay_seconds_total{%domain}[%rate])", "{{domain}} vCPU {{vcpu}}")
        .thresholds(rising(limit::STEAL)),
        timeseries(
            "CPU time of the host",
            "CPUs that the domain keeps busy: its vCPUs, and what QEMU and the kernel do for it.",
            Unit::Short,
        )
        .query("sum by (domain) (rate(libvirt_domain_cpu_time_seconds_total{%domain}[%rate]))", "{{domain}} in all")
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
        .query("max by (domain) (libvirt_domain_memory_current_bytes{%domain})", "{{domain}} given")
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
        .query("max by (domain) (libvirt_domain_memory_available_bytes{%domain})", "{{domain}} in all")
        .limits(".* in all$"),
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
