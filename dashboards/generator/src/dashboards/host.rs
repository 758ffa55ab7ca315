//! Libvirt / Host: one host and its domains.

use serde_json::Value;

use super::{SILENT, STATES, domain_link, events, lifecycle};
use crate::grafana::{
    Column, Dashboard, Panel, Row, Unit, Variable, bars, falling, none_is_good, one_is_good, plain, rising, stat,
    state_timeline, table, timeseries,
};
use crate::thresholds as limit;

pub(super) fn dashboard() -> Value {
    let about = "One host: what its domains were given and use, and a table of them that leads to each.";
    Dashboard::new("libvirt-host", "Libvirt / Host", about)
        .hosts(true)
        .variable(Variable { label: "domain", of: "libvirt_domain_state{%host}", one: false })
        .annotation("Lifecycle", "blue", &lifecycle(), ["{{event}}", "{{detail}} on {{instance}}"], false)
        .row(Row::open("Now", now()))
        .row(Row::open("Domains", vec![domains()]))
        .row(Row::open("CPU and memory", processor_and_memory()))
        .row(Row::open("Disks and network", disks_and_network()))
        .row(Row::closed("States and events", happenings()))
        .row(Row::closed("Pressure inside the guests", pressure()))
        .build()
}

/// Domains that are shut off have sizes with `inactive_domains: all`, but take nothing of the host.
const NOT_OFF: &str = "unless on (instance, domain, uuid) libvirt_domain_state{%host,state=\"shutoff\"} == 1";

fn now() -> Vec<Panel> {
    vec![
        stat("libvirt", "Whether the exporter reaches libvirt. Alert LibvirtDown.", Unit::Count)
            .query("min(libvirt_up{%host})", "libvirt")
            .words(&[("0", "down", "red"), ("1", "up", "green")])
            .thresholds(one_is_good()),
        stat("Version", "The version of the host's libvirt; a series each where hosts differ.", Unit::Count)
            .query("count by (libvirt, hypervisor) (libvirt_version_info{%host})", "{{libvirt}} / QEMU {{hypervisor}}")
            .shows_name()
            .thresholds(plain()),
        stat("Running", "Domains in the state running.", Unit::Count)
            .query("sum(libvirt_domains{%host,state=\"running\"})", "domains")
            .thresholds(plain()),
        stat("Not answering", "Domains whose QEMU did not answer and is left alone until it does.", Unit::Count)
            .query("sum(libvirt_domain_quarantined{%host}) or vector(0)", "domains")
            .thresholds(none_is_good("red")),
        stat("CPU use", "Share of the host's CPUs that domains keep busy.", Unit::Ratio)
            .query(
                "sum(rate(libvirt_domain_cpu_time_seconds_total{%host}[%rate])) / \
                 sum(libvirt_host_cpus{%host})",
                "use",
            )
            .up_to(1.0)
            .thresholds(rising(limit::CPU)),
        stat(
            "vCPUs per CPU",
            "vCPUs of domains for each CPU of the host. More than one is overcommitment, and no \
             fault unless steal rises.",
            Unit::Short,
        )
        .query(
            &format!("sum(libvirt_domain_vcpus_current{{%host}} {NOT_OFF}) / sum(libvirt_host_cpus{{%host}})"),
            "vCPUs",
        )
        .thresholds(rising(limit::CPU_OVERCOMMIT)),
        stat(
            "Steal",
            "Share of the time in which vCPUs were ready but had no CPU, on average over all of \
             the host.",
            Unit::Ratio,
        )
        .query("avg(rate(libvirt_domain_vcpu_delay_seconds_total{%host}[%rate]))", "steal")
        .thresholds(rising(limit::STEAL)),
        stat("Memory given", "Memory of domains as a share of the host's.", Unit::Ratio)
            .query(
                &format!(
                    "sum(libvirt_domain_memory_current_bytes{{%host}} {NOT_OFF}) / \
                 sum(libvirt_host_memory_bytes{{%host}})"
                ),
                "memory",
            )
            .thresholds(rising(limit::MEMORY_OVERCOMMIT)),
    ]
}

fn domains() -> Panel {
    let by = |expression: &str| format!("sum by (instance, domain) ({expression})");
    let columns = vec![
        Column::label("Host", "instance").width(160),
        Column::label("Domain", "domain")
            .link("Libvirt / Domain", &domain_link("${__data.fields.instance}", "${__data.fields.domain}"))
            .width(200),
        Column::label("State", "state").words(&STATES).width(90),
        Column::query("", "sum by (instance, domain, state) (libvirt_domain_state{%domain} == 1)", Unit::Count),
        Column::query("vCPUs", &by("libvirt_domain_vcpus_current{%domain}"), Unit::Count).width(90),
        Column::query(
            "CPU",
            "avg by (instance, domain) (rate(libvirt_domain_vcpu_time_seconds_total{%domain}[%rate]))",
            Unit::Ratio,
        )
        .bar(Some(1.0), rising(limit::CPU)),
        Column::query(
            "Steal",
            "avg by (instance, domain) (rate(libvirt_domain_vcpu_delay_seconds_total{%domain}[%rate]))",
            Unit::Ratio,
        )
        .colored(rising(limit::STEAL))
        .width(80),
        Column::query("Memory", &by("libvirt_domain_memory_current_bytes{%domain}"), Unit::Bytes).width(100),
        Column::query(
            "Memory used",
            &by("1 - libvirt_domain_memory_usable_bytes{%domain} / libvirt_domain_memory_available_bytes{%domain}"),
            Unit::Ratio,
        )
        .bar(Some(1.0), rising(limit::MEMORY_USABLE.of_the_rest())),
        Column::query("Resident", &by("libvirt_domain_memory_rss_bytes{%domain}"), Unit::Bytes).width(100),
        Column::query(
            "Requests",
            &by("rate(libvirt_domain_block_read_requests_total{%domain}[%rate]) + \
                     rate(libvirt_domain_block_write_requests_total{%domain}[%rate])"),
            Unit::Iops,
        ),
        Column::query("Latency", &latency("instance, domain"), Unit::Seconds).colored(rising(limit::BLOCK_LATENCY)),
        Column::query(
            "Network",
            &by("rate(libvirt_domain_interface_receive_bytes_total{%domain}[%rate]) + \
                     rate(libvirt_domain_interface_transmit_bytes_total{%domain}[%rate])"),
            Unit::BytesPerSecond,
        ),
        Column::query("Complete", "min by (instance, domain) (libvirt_domain_stats_complete{%domain})", Unit::Count)
            .words(&[("0", "no", "red"), ("1", "yes", "green")])
            .width(100),
        Column::query("Quarantine", &by("libvirt_domain_quarantined{%domain}"), Unit::Count)
            .words(&[("1", "frozen", "red")])
            .width(95),
    ];
    let about = "One row a domain; its name leads to its dashboard. CPU and steal are shares of the time of its vCPUs, memory used is \
        what the guest cannot use without swapping, as it reports itself.";
    table("Domains", about, columns, ("CPU", true))
}

/// The average time of a request, by labels. No requests, no latency.
pub(super) fn latency(by: &str) -> String {
    format!(
        "sum by ({by}) (rate(libvirt_domain_block_read_time_seconds_total{{%domain}}[%rate]) + rate(libvirt_domain_block_write_time_seconds_total{{%domain}}[%rate])) \
         / (sum by ({by}) (rate(libvirt_domain_block_read_requests_total{{%domain}}[%rate]) + rate(libvirt_domain_block_write_requests_total{{%domain}}[%rate])) > 0)"
    )
}

/// The state of each domain as a number, by labels.
pub(super) fn state(by: &str) -> String {
    let of = |state: &str| format!("sum by ({by}) (libvirt_domain_state{{%domain,state=\"{state}\"}})");
    format!("{} + 2 * {} + 3 * {}", of("running"), of("paused"), of("crashed"))
}

/// The words for that number.
pub(super) const STATE_WORDS: &[(&str, &str, &str)] =
    &[("0", "off", "text"), ("1", "running", "green"), ("2", "paused", "orange"), ("3", "crashed", "red")];

fn processor_and_memory() -> Vec<Panel> {
    vec![
        timeseries(
            "CPU",
            "CPUs that each domain keeps busy, its vCPUs and QEMU together, up to what the host has.",
            Unit::Short,
        )
        .query("sum by (instance, domain) (rate(libvirt_domain_cpu_time_seconds_total{%domain}[%rate]))", "{{domain}}")
        .stacked()
        .query("sum(libvirt_host_cpus{%host})", "CPUs of the host")
        .limits("CPUs of the host"),
        timeseries("Steal", "Share of the time in which each domain's vCPUs were ready but had no CPU.", Unit::Ratio)
            .query(
                "avg by (instance, domain) (rate(libvirt_domain_vcpu_delay_seconds_total{%domain}[%rate]))",
                "{{domain}}",
            )
            .thresholds(rising(limit::STEAL)),
        timeseries(
            "Memory resident",
            "Memory of the host that each domain's QEMU holds, up to what the host has.",
            Unit::Bytes,
        )
        .query("sum by (instance, domain) (libvirt_domain_memory_rss_bytes{%domain})", "{{domain}}")
        .stacked()
        .query("sum(libvirt_host_memory_bytes{%host})", "memory of the host")
        .limits("memory of the host"),
    ]
}

fn disks_and_network() -> Vec<Panel> {
    vec![
        timeseries("Disk requests", "Reads and writes per second over all disks of each domain.", Unit::Iops).query(
            "sum by (instance, domain) (rate(libvirt_domain_block_read_requests_total{%domain}[%rate]) \
                 + rate(libvirt_domain_block_write_requests_total{%domain}[%rate]))",
            "{{domain}}",
        ),
        timeseries("Disk latency", "Average time of a read or write over all disks of each domain.", Unit::Seconds)
            .query(&latency("instance, domain"), "{{domain}}")
            .thresholds(rising(limit::BLOCK_LATENCY)),
        timeseries("Disk throughput", "Bytes read (up) and written (down) per second.", Unit::BytesPerSecond)
            .query(
                "sum by (instance, domain) (rate(libvirt_domain_block_read_bytes_total{%domain}[%rate]))",
                "{{domain}} read",
            )
            .query(
                "sum by (instance, domain) (rate(libvirt_domain_block_write_bytes_total{%domain}[%rate]))",
                "{{domain}} written",
            )
            .mirrored(".* written$"),
        timeseries("Network throughput", "Bytes received (up) and sent (down) per second.", Unit::BytesPerSecond)
            .query(
                "sum by (instance, domain) \
                 (rate(libvirt_domain_interface_receive_bytes_total{%domain}[%rate]))",
                "{{domain}} received",
            )
            .query(
                "sum by (instance, domain) \
                 (rate(libvirt_domain_interface_transmit_bytes_total{%domain}[%rate]))",
                "{{domain}} sent",
            )
            .mirrored(".* sent$"),
        timeseries("Packets", "Packets received (up) and sent (down) per second.", Unit::Packets)
            .query(
                "sum by (instance, domain) \
                 (rate(libvirt_domain_interface_receive_packets_total{%domain}[%rate]))",
                "{{domain}} received",
            )
            .query(
                "sum by (instance, domain) \
                 (rate(libvirt_domain_interface_transmit_packets_total{%domain}[%rate]))",
                "{{domain}} sent",
            )
            .mirrored(".* sent$"),
        timeseries("Packets dropped", "Packets dropped per second, both directions.", Unit::Packets).query(
            "sum by (instance, domain) \
                 (rate(libvirt_domain_interface_receive_drops_total{%domain}[%rate]) + \
                 rate(libvirt_domain_interface_transmit_drops_total{%domain}[%rate]))",
            "{{domain}}",
        ),
    ]
}

fn happenings() -> Vec<Panel> {
    vec![
        state_timeline("States", "What each domain was doing.")
            .query(&state("instance, domain"), "{{domain}}")
            .words(STATE_WORDS),
        bars("Lifecycle events", "What happened to the host's domains, as libvirt told it.")
            .query(
                &format!("sum by (event, detail) {}", events("libvirt_host_lifecycle_events_total{%host}")),
                "{{event}}: {{detail}}",
            )
            .size(12, 8),
        bars("Other events", "Every other event of libvirt by its name.")
            .query(&format!("sum by (event) {}", events("libvirt_host_events_total{%host}")), "{{event}}")
            .size(12, 8),
    ]
}

fn pressure() -> Vec<Panel> {
    vec![
        timeseries(
            "Usable memory",
            "Share of its memory that each guest can use without swapping, as it reports itself.",
            Unit::Ratio,
        )
        .nothing(SILENT)
        .query(
            "sum by (instance, domain) (libvirt_domain_memory_usable_bytes{%domain} / \
                 libvirt_domain_memory_available_bytes{%domain})",
            "{{domain}}",
        )
        .up_to(1.0)
        .thresholds(falling(limit::MEMORY_USABLE)),
        timeseries(
            "Swapping",
            "Bytes that each guest swaps in and out per second, as it reports itself.",
            Unit::BytesPerSecond,
        )
        .nothing(SILENT)
        .query(
            "sum by (instance, domain) \
                 (rate(libvirt_domain_memory_swap_in_bytes_total{%domain}[%rate]) + \
                 rate(libvirt_domain_memory_swap_out_bytes_total{%domain}[%rate]))",
            "{{domain}}",
        )
        .thresholds(rising(limit::SWAP)),
        timeseries(
            "Major faults",
            "Page faults of each guest that needed I/O, as it reports itself.",
            Unit::Operations,
        )
        .nothing(SILENT)
        .query(
            "sum by (instance, domain) (rate(libvirt_domain_memory_major_faults_total{%domain}[%rate]))",
            "{{domain}}",
        ),
    ]
}
