//! Libvirt / Host: one host and its guests, what one looks at first. `host_detail` has the closed rows.

use serde_json::Value;

use super::guests::{Measure, NOT_OFF, both_ways, highest, jobs, latency, most, states, who};
use super::numbers::{Source, at_quota, quota_use, steal_of, throttle_use};
use super::problems::{self, Scope};
use super::{STATES, host_detail, lifecycle};
use crate::grafana::{
    Column, Dashboard, Panel, Row, Unit, Variable, orange_from, plain, rising, stat, table, timeseries,
};
use crate::thresholds as limit;

pub(super) fn dashboard() -> Value {
    let about = "One host: which of its guests need attention, what was allocated to them and what they use.";
    let scope = Scope::all("%domain", Source::Metrics);
    let dashboard = Dashboard::new("libvirt-host", "Libvirt / Host", about)
        .hosts(true)
        .variable(Variable { name: "domain", label: "domain", of: "libvirt_domain_state{%host}", one: false })
        .top()
        .annotation("Lifecycle", "blue", &lifecycle(), ["{{event}}", "{{detail}} on {{instance}}"], false)
        .row(problems::row(&scope))
        .row(Row::open("Capacity", capacity()))
        .row(Row::open("Guests", vec![guests(), jobs(&scope)]))
        .row(Row::open("CPU and memory", processor_and_memory()))
        .row(Row::open("Disks and network", disks_and_network()));
    host_detail::rows().into_iter().fold(dashboard, Dashboard::row).build()
}

fn capacity() -> Vec<Panel> {
    let cpus = "sum(rate(libvirt_domain_cpu_time_seconds_total{%host}[%rate])) / sum(libvirt_host_cpus{%host})";
    let allocated = |of: &str, whole: &str| format!("sum({of}{{%host}} {NOT_OFF}) / sum({whole}{{%host}})");
    let resident = "sum(libvirt_domain_memory_rss_bytes{%host}) / sum(libvirt_host_memory_bytes{%host})";
    let free = "sum(libvirt_host_memory_free_bytes{%host} + libvirt_host_memory_buffers_bytes{%host} + \
        libvirt_host_memory_cached_bytes{%host}) / sum(libvirt_host_memory_bytes{%host})";
    let memory = allocated("libvirt_domain_memory_current_bytes", "libvirt_host_memory_bytes");
    let delay = "rate(libvirt_domain_vcpu_delay_seconds_total{%host}[%rate])";
    vec![
        stat("Guests running", "Domains in the state running.", Unit::Count)
            .query("sum(libvirt_domains{%host,state=\"running\"}) or 0 * sum(libvirt_up{%host})", "guests")
            .thresholds(plain())
            .size(3, 6),
        stat("CPU use", "Share of the host's CPUs that guests keep busy.", Unit::Ratio)
            .query(cpus, "use")
            .up_to(1.0)
            .thresholds(rising(limit::CPU))
            .size(3, 6),
        stat(
            "vCPU : CPU",
            "vCPUs of guests for each CPU of the host. More than one is overcommitment, and no fault unless steal rises.",
            Unit::Short,
        )
        .query(&allocated("libvirt_domain_vcpus_current", "libvirt_host_cpus"), "vCPUs")
        .thresholds(rising(limit::CPU_OVERCOMMIT))
        .size(3, 6),
        stat("Memory allocated", "Memory of guests as a share of the host's.", Unit::Ratio)
            .query(&memory, "memory")
            .thresholds(rising(limit::MEMORY_OVERCOMMIT))
            .size(3, 6),
        timeseries(
            "CPU of the host",
            "Share of the host's CPUs that guests keep busy, and the average steal of all vCPUs. That of guests at their CPU quota \
             counts as 0.",
            Unit::Ratio,
        )
        .query(cpus, "busy with guests")
        .query(
            &format!(
                "avg({delay} unless on (instance, domain) {} or 0 * {delay})",
                at_quota("instance, domain", "%host")
            ),
            "steal",
        )
        .up_to(1.0)
        .size(6, 6),
        timeseries(
            "Memory of the host",
            "Shares of the host's memory: allocated to guests, held by their QEMUs, and used by everything on the host, caches \
             excepted.",
            Unit::Ratio,
        )
        .query(&memory, "allocated")
        .query(resident, "resident")
        .query(&format!("1 - {free}"), "used on the host")
        .size(6, 6),
    ]
}

fn guests() -> Panel {
    let by = |expression: &str| format!("sum by (instance, domain) ({expression})");
    let rows = states("%domain");
    let mut columns = who(&rows, "%domain");
    columns.extend([
        Column::label("State", "state").words(&STATES).width(115),
        Column::query("", &rows, Unit::Count),
        Column::query("vCPUs", &by("libvirt_domain_vcpus_current{%domain}"), Unit::Count).width(65),
        Column::query(
            "CPU",
            "avg by (instance, domain) (rate(libvirt_domain_vcpu_time_seconds_total{%domain}[%rate]))",
            Unit::Ratio,
        )
        .bar(Some(1.0), rising(limit::CPU))
        .width(100),
        Column::query("Steal", &steal_of("instance, domain", "%domain"), Unit::Ratio)
            .colored(rising(limit::STEAL))
            .width(75),
        Column::query("CPU quota", &format!("max by (instance, domain) ({})", quota_use("%domain")), Unit::Ratio)
            .colored(orange_from(limit::AT_LIMIT))
            .width(85),
        Column::query("Memory", &by("libvirt_domain_memory_current_bytes{%domain}"), Unit::Bytes).width(78),
        Column::query(
            "Memory used",
            &by("1 - libvirt_domain_memory_usable_bytes{%domain} / libvirt_domain_memory_available_bytes{%domain}"),
            Unit::Ratio,
        )
        .colored(rising(limit::MEMORY_USABLE.of_the_rest()))
        .width(105),
        Column::query(
            "Disk I/O",
            &by("rate(libvirt_domain_block_read_requests_total{%domain}[%rate]) + \
                     rate(libvirt_domain_block_write_requests_total{%domain}[%rate])"),
            Unit::Iops,
        )
        .width(80),
        Column::query("Latency", &latency("instance, domain"), Unit::Seconds)
            .colored(rising(limit::BLOCK_LATENCY))
            .width(80),
        Column::query("Throttle", &format!("max by (instance, domain) ({})", throttle_use("%domain")), Unit::Ratio)
            .colored(orange_from(limit::AT_LIMIT))
            .width(80),
        Column::query(
            "Network",
            &by("rate(libvirt_domain_interface_receive_bytes_total{%domain}[%rate]) + \
                     rate(libvirt_domain_interface_transmit_bytes_total{%domain}[%rate])"),
            Unit::BytesPerSecond,
        )
        .width(90),
    ]);
    let about = "One row a guest; its name leads to its dashboard. CPU and steal are shares of the time of its vCPUs, CPU quota and \
        throttle are shares of its limits, memory used is what the guest cannot use without swapping, as it reports. A guest at its \
        CPU quota has no steal here: the quota keeps the CPU from it, not the host.";
    table("Guests", about, columns, ("CPU", true)).size(24, 11)
}

fn processor_and_memory() -> Vec<Panel> {
    let half = |title, about, unit| timeseries(title, about, unit).size(12, 8);
    vec![
        most(
            half("CPUs busy", "CPUs that each guest keeps busy, its vCPUs and QEMU together.", Unit::Short).stacked(),
            &Measure::rate("sum by (instance, domain) (rate(libvirt_domain_cpu_time_seconds_total{%domain}[%over]))"),
        ),
        highest(
            half(
                "Steal",
                "Share of the time in which each guest's vCPUs were ready but the host had no CPU for them. Guests at their CPU quota \
                 are not here: see Held back by the quota.",
                Unit::Ratio,
            ),
            &Measure::rate(&steal_of("instance, domain", "%domain").replace("[%rate]", "[%over]")),
        )
        .thresholds(rising(limit::STEAL)),
        most(
            half("Memory resident", "Memory of the host that each guest's QEMU holds.", Unit::Bytes).stacked(),
            &Measure::gauge("libvirt_domain_memory_rss_bytes"),
        ),
        highest(
            half(
                "Held back by the quota",
                "CPUs that each guest would have kept busy but for its CPU quota: the part of its steal that is not the host's. \
                 Needs the group pressure.",
                Unit::Short,
            )
            .nothing("the control groups do not count it"),
            &Measure::rate(
                "sum by (instance, domain) (rate(libvirt_domain_cgroup_cpu_throttled_seconds_total{%domain}[%over]))",
            ),
        ),
    ]
}

fn disks_and_network() -> Vec<Panel> {
    let half = |title, about, unit| timeseries(title, about, unit).size(12, 8);
    let of = |kind: &str, what: &str| {
        Measure::rate(&format!(
            "sum by (instance, domain) (rate(libvirt_domain_{kind}_{what}_total{{%domain}}[%over]))"
        ))
    };
    let disks = |panel: Panel, what: &str| {
        let [read, written] = ["read", "write"].map(|way| of("block", &format!("{way}_{what}")));
        both_ways(panel, [(&read, "read"), (&written, "written")])
    };
    let network = |panel: Panel, what: &str| {
        let [received, sent] = ["receive", "transmit"].map(|way| of("interface", &format!("{way}_{what}")));
        both_ways(panel, [(&received, "received"), (&sent, "sent")])
    };
    vec![
        disks(
            half("Disk requests", "Reads (up) and writes (down) per second over all disks of each guest.", Unit::Iops),
            "requests",
        ),
        highest(
            half("Disk latency", "Average time of a read or write over all disks of each guest.", Unit::Seconds),
            &Measure::rate(&latency("instance, domain").replace("%rate", "%over")),
        )
        .thresholds(rising(limit::BLOCK_LATENCY)),
        disks(half("Disk throughput", "Bytes read (up) and written (down) per second.", Unit::BytesPerSecond), "bytes"),
        network(
            half("Network throughput", "Bytes received (up) and sent (down) per second.", Unit::BytesPerSecond),
            "bytes",
        ),
        network(half("Packets", "Packets received (up) and sent (down) per second.", Unit::Packets), "packets"),
        network(
            half(
                "Packets dropped",
                "Packets dropped per second, on their way to each guest (up) and from it (down). A guest's packets that nobody on the \
                 host listens to count as dropped, too.",
                Unit::Packets,
            ),
            "drops",
        ),
    ]
}
