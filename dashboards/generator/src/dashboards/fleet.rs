//! Libvirt / Fleet: all hosts, from the recording rules.

use serde_json::Value;

use super::guests::{jobs, who};
use super::numbers::{Source, pool_use, steal};
use super::problems::{self, Scope};
use super::{events, host_link};
use crate::grafana::{
    Column, Dashboard, Panel, Row, Unit, falling, none_or, number, one_is_good, plain, rising, stat, table, timeseries,
};
use crate::rules::answers;
use crate::thresholds as limit;

pub(super) fn dashboard() -> Value {
    let about = "All hosts with libvirt: what needs attention, how many guests run, what was allocated to them and what they use, and \
        which use most. Needs the recording rules of alerts/rules.yaml.";
    let scope = Scope::all("%host", Source::Rules);
    Dashboard::new("libvirt-fleet", "Libvirt / Fleet", about)
        .hosts(false)
        .top()
        .annotation(
            "Crashes",
            "red",
            &format!(
                "sum by (instance, event, detail) {}",
                events("libvirt_host_lifecycle_events_total{%host,event=~\"crashed|stopped\",detail=~\"panicked|crashloaded|crashed|failed\"}")
            ),
            ["{{instance}}", "a domain {{event}}: {{detail}}"],
            false,
        )
        .row(problems::row(&scope))
        .row(Row::open("Capacity", capacity()))
        .row(Row::open("Hosts", vec![hosts(), jobs(&scope)]))
        .row(Row::open("Top guests, by averages of five minutes", top_guests()))
        .row(Row::closed("Hosts over time", over_time()))
        .build()
}

fn capacity() -> Vec<Panel> {
    let share = |title, about, of: &str, whole: &str, thresholds| {
        stat(title, about, Unit::Ratio)
            .query(&format!("sum({of}{{%host}}) / sum({whole}{{%host}})"), "share")
            .thresholds(thresholds)
    };
    vec![
        stat("Hosts", "Hosts whose exporter reaches libvirt.", Unit::Count)
            .query("sum(libvirt_up{%host})", "hosts")
            .thresholds(plain()),
        stat("Guests running", "Domains in the state running.", Unit::Count)
            .query("sum(libvirt_domains{%host,state=\"running\"}) or 0 * sum(libvirt_up{%host})", "guests")
            .thresholds(plain()),
        share(
            "CPU use",
            "Share of the hosts' CPUs that guests keep busy.",
            "instance:libvirt_domain_cpu_time:rate5m",
            "libvirt_host_cpus",
            rising(limit::CPU),
        )
        .up_to(1.0),
        stat(
            "vCPU : CPU",
            "vCPUs of running guests for each CPU of the hosts. More than one is overcommitment, and no fault unless steal rises.",
            Unit::Short,
        )
        .query("sum(instance:libvirt_domain_vcpus:sum{%host}) / sum(libvirt_host_cpus{%host})", "vCPUs")
        .thresholds(rising(limit::CPU_OVERCOMMIT)),
        stat("Worst host's steal", "The highest average steal of a host's vCPUs, guests at their CPU quota aside.", Unit::Ratio)
            .query("max(instance:libvirt_domain_vcpu_delay:ratio_rate5m{%host})", "steal")
            .thresholds(rising(limit::STEAL)),
        share(
            "Memory allocated",
            "Memory of running guests as a share of the hosts'.",
            "instance:libvirt_domain_memory_current_bytes:sum",
            "libvirt_host_memory_bytes",
            rising(limit::MEMORY_OVERCOMMIT),
        ),
        share(
            "Memory resident",
            "Memory that the guests' QEMUs hold, as a share of the hosts'.",
            "instance:libvirt_domain_memory_rss_bytes:sum",
            "libvirt_host_memory_bytes",
            rising(limit::MEMORY_USABLE.of_the_rest()),
        )
        .up_to(1.0),
        // That none fires is no good news where Prometheus has no alerts to evaluate, which cannot be told here.
        number("Alerts", "Alerts of alerts/alerts.yaml that are firing, if Prometheus has them.", Unit::Count)
            .query(
                "count(ALERTS{%host,alertname=~\"Libvirt.+\",alertstate=\"firing\"}) or \
                 0 * count(instance:libvirt_domain_vcpus:sum{%host})",
                "alerts",
            )
            .nothing("no rules")
            .thresholds(none_or("orange"))
            .size(3, 4),
    ]
}

fn hosts() -> Panel {
    let by = |expression: &str| format!("sum by (instance) ({expression})");
    let share = |of: &str| {
        format!("sum by (instance) ({of}{{%host}}) / max by (instance) (libvirt_host_memory_bytes{{%host}})")
    };
    let columns = vec![
        Column::host().link("Libvirt / Host", &host_link("${__value.text}")).width(190),
        // A host whose exporter does not respond has no libvirt_up.
        Column::query("libvirt", &format!("max by (instance) (libvirt_up{{%host}}) or max by (instance) ({}) * 0", answers("%host")), Unit::Count)
            .words(&[("0", "down", "red"), ("1", "up", "green")])
            .colored(one_is_good())
            .width(80),
        Column::query("Running", &by("libvirt_domains{%host,state=\"running\"}"), Unit::Count).width(80),
        Column::query("CPUs", "max by (instance) (libvirt_host_cpus{%host})", Unit::Count).width(70),
        Column::query("vCPU : CPU", "max by (instance) (instance:libvirt_cpu_overcommit:ratio{%host})", Unit::Short)
            .colored(rising(limit::CPU_OVERCOMMIT))
            .width(100),
        Column::query(
            "CPU use",
            "sum by (instance) (instance:libvirt_domain_cpu_time:rate5m{%host}) / max by (instance) (libvirt_host_cpus{%host})",
            Unit::Ratio,
        )
        .bar(Some(1.0), rising(limit::CPU)),
        Column::query("Steal", "max by (instance) (instance:libvirt_domain_vcpu_delay:ratio_rate5m{%host})", Unit::Ratio)
            .colored(rising(limit::STEAL))
            .width(80),
        Column::query("Memory", "max by (instance) (libvirt_host_memory_bytes{%host})", Unit::Bytes).width(90),
        Column::query(
            "Memory allocated",
            "max by (instance) (instance:libvirt_memory_overcommit:ratio{%host})",
            Unit::Ratio,
        )
        .bar(Some(1.0), rising(limit::MEMORY_OVERCOMMIT)),
        Column::query("Resident", &share("instance:libvirt_domain_memory_rss_bytes:sum"), Unit::Ratio)
            .bar(Some(1.0), rising(limit::MEMORY_USABLE.of_the_rest())),
        Column::query("Disk requests", &by("instance:libvirt_domain_block_requests:rate5m{%host}"), Unit::Iops).width(110),
        Column::query("Network", &by("instance:libvirt_domain_interface_bytes:rate5m{%host}"), Unit::BytesPerSecond).width(110),
        Column::query("Fullest pool", &fullest_pool(), Unit::Ratio)
            .colored(rising(limit::POOL))
            .width(95),
    ];
    let about = "One row a host; its name leads to its dashboard. CPU use and memory are shares of the host: CPUs that guests keep busy, \
        memory that was allocated to them, and what their QEMUs hold of it.";
    table("Hosts", about, columns, ("CPU use", true)).size(24, 8)
}

fn fullest_pool() -> String {
    format!("max by (instance) ({})", pool_use(Source::Rules))
}

fn top_guests() -> Vec<Panel> {
    let most = |title, about, unit, series: &str, thresholds| {
        let rows = format!("topk(%top, sum by (instance, domain) ({series}))");
        let mut columns = who(&rows, "%host");
        // Before the names, of which there may be many.
        columns.insert(2, Column::query(title, &rows, unit).bar(None, thresholds).width(130));
        table(title, about, columns, (title, true)).size(12, 12)
    };
    vec![
        most(
            "CPUs busy",
            "CPUs that a guest keeps busy, its vCPUs and QEMU together.",
            Unit::Short,
            "domain:libvirt_domain_cpu_time:rate5m{%host}",
            plain(),
        ),
        most(
            "Steal",
            "Share of the time in which a guest's vCPUs were ready to run but the host had no CPU for them, on average over its vCPUs. \
             Guests at their CPU quota are not here.",
            Unit::Ratio,
            &steal("%host"),
            rising(limit::STEAL),
        ),
        most(
            "Memory used",
            "Share of the guest's memory that it cannot use without swapping, as it reports (needs the balloon driver).",
            Unit::Ratio,
            "1 - domain:libvirt_domain_memory_usable:ratio{%host}",
            rising(limit::MEMORY_USABLE.of_the_rest()),
        )
        .nothing("no guest reports its memory"),
        most(
            "Disk requests",
            "Reads and writes per second over all disks of a guest.",
            Unit::Iops,
            "domain:libvirt_domain_block_requests:rate5m{%host}",
            plain(),
        ),
        most(
            "Disk latency",
            "Average time of a read or write over all disks of a guest.",
            Unit::Seconds,
            "domain:libvirt_domain_block_latency_seconds:mean5m{%host}",
            rising(limit::BLOCK_LATENCY),
        ),
        most(
            "Network",
            "Bytes received and sent per second over all interfaces of a guest.",
            Unit::BytesPerSecond,
            "domain:libvirt_domain_interface_bytes:rate5m{%host}",
            plain(),
        ),
    ]
}

fn over_time() -> Vec<Panel> {
    let top = |title, about, unit, series: &str| {
        let by = format!("sum by (instance) ({series}{{%host}})");
        let whole = format!("sum by (instance) (avg_over_time({series}{{%host}}[%range] @ end()))");
        timeseries(title, about, unit)
            .query(&format!("{by} and on (instance) topk(%top, {whole})"), "{{instance}}")
            .many()
            .without_ports()
            .size(12, 8)
    };
    let worst = |title, about, unit, series: &str| {
        timeseries(title, about, unit).query(series, "{{instance}}").many().without_ports().size(12, 8)
    };
    vec![
        timeseries(
            "Guests by state",
            "Domains on all hosts by their state. Domains that are off count where libvirt still has \
             their definition.",
            Unit::Short,
        )
        .query("sum by (state) (libvirt_domains{%host}) > 0", "{{state}}")
        .stacked()
        .size(12, 8),
        top(
            "CPUs busy",
            "CPUs that the guests of each host keep busy, on the hosts with the most of it.",
            Unit::Short,
            "instance:libvirt_domain_cpu_time:rate5m",
        ),
        top(
            "Steal",
            "Average steal of each host's vCPUs, guests at their CPU quota aside, on the hosts with the most of it.",
            Unit::Ratio,
            "instance:libvirt_domain_vcpu_delay:ratio_rate5m",
        )
        .thresholds(rising(limit::STEAL)),
        top(
            "vCPU : CPU",
            "vCPUs of running guests for each CPU, on the hosts with the most of it.",
            Unit::Short,
            "instance:libvirt_cpu_overcommit:ratio",
        )
        .thresholds(rising(limit::CPU_OVERCOMMIT)),
        top(
            "Memory allocated",
            "Memory of running guests as a share of the host's, on the hosts with the most of it.",
            Unit::Ratio,
            "instance:libvirt_memory_overcommit:ratio",
        )
        .thresholds(rising(limit::MEMORY_OVERCOMMIT)),
        top(
            "Disk requests",
            "Reads and writes per second of the guests, on the hosts with the most of it.",
            Unit::Iops,
            "instance:libvirt_domain_block_requests:rate5m",
        ),
        top(
            "Network",
            "Bytes that the guests received and sent per second, on the hosts with the most of it.",
            Unit::BytesPerSecond,
            "instance:libvirt_domain_interface_bytes:rate5m",
        ),
        worst(
            "Slowest disks",
            "The highest average latency among the block devices of each host.",
            Unit::Seconds,
            "max by (instance) (device:libvirt_domain_block_latency_seconds:mean5m{%host})",
        )
        .thresholds(rising(limit::BLOCK_LATENCY)),
        worst(
            "Least usable memory",
            "The lowest share of usable memory among the guests of each host.",
            Unit::Ratio,
            "min by (instance) (domain:libvirt_domain_memory_usable:ratio{%host})",
        )
        .up_to(1.0)
        .thresholds(falling(limit::MEMORY_USABLE)),
        timeseries("Fullest pools", "How full the fullest storage pool of each host is.", Unit::Ratio)
            .query(&fullest_pool(), "{{instance}}")
            .up_to(1.0)
            .thresholds(rising(limit::POOL))
            .many()
            .without_ports()
            .size(12, 8),
    ]
}
