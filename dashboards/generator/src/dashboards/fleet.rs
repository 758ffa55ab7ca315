//! Libvirt / Fleet: all hosts, from the recording rules.

use serde_json::Value;

use super::{ANSWERS, domain_link, events, host_link};
use crate::grafana::{
    Column, Dashboard, Panel, Row, Unit, falling, none_is_good, one_is_good, plain, rising, stat, table, timeseries,
};
use crate::thresholds as limit;

pub(super) fn dashboard() -> Value {
    let about = "All hosts with libvirt: how many domains run, what they were given of the hosts and what they use, and who uses \
        most. Needs the recording rules of alerts/rules.yaml.";
    Dashboard::new("libvirt-fleet", "Libvirt / Fleet", about)
        .hosts(false)
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
        .row(Row::open("Now", now()))
        .row(Row::open("Capacity", capacity()))
        .row(Row::open("Who uses most", consumers()))
        .row(Row::open("Hosts", vec![hosts()]))
        .row(Row::closed("Hosts over time", over_time()))
        .build()
}

fn now() -> Vec<Panel> {
    vec![
        stat("Hosts", "Hosts whose exporter reaches libvirt.", Unit::Count)
            .query("sum(libvirt_up{%host})", "hosts")
            .size(4, 4)
            .thresholds(plain()),
        stat(
            "Hosts without libvirt",
            "Hosts whose exporter does not answer, or does not reach libvirt. Alerts \
                 LibvirtExporterDown and LibvirtDown.",
            Unit::Count,
        )
        .query(&format!("(count(libvirt_up{{%host}} == 0) or vector(0)) + (count({ANSWERS} == 0) or vector(0))"), "hosts")
        .size(4, 4)
        .thresholds(none_is_good("red")),
        stat("Domains running", "Domains in the state running.", Unit::Short)
            .query("sum(libvirt_domains{%host,state=\"running\"})", "domains")
            .size(4, 4)
            .thresholds(plain()),
        stat(
            "Crashed or paused",
            "Domains that crashed, and domains that a failed write (most often the storage is full) or another fault has paused. \
             Alerts LibvirtDomainCrashed, LibvirtDomainPausedByIoError and LibvirtDomainPausedByFault.",
            Unit::Count,
        )
        .query("count(libvirt_domain_state_reason_info{%host,state=~\"crashed|shutoff\",reason=~\"panicked|crashed\"} or \
             libvirt_domain_state_reason_info{%host,state=\"paused\",\
             reason=~\"crashed|ioerror|unknown|watchdog|api_error|postcopy_failed\"}) or vector(0)", "domains")
        .size(4, 4)
        .thresholds(none_is_good("red")),
        stat(
            "Not answering",
            "Domains whose QEMU did not answer and is left alone until it does. Alert LibvirtDomainQuarantined.",
            Unit::Count,
        )
        .query("sum(libvirt_domain_quarantined{%host}) or vector(0)", "domains")
        .size(4, 4)
        .thresholds(none_is_good("red")),
        stat("Alerts", "Alerts of alerts/alerts.yaml that are firing.", Unit::Count)
            .query("count(ALERTS{%host,alertname=~\"Libvirt.+\",alertstate=\"firing\"}) or vector(0)", "alerts")
            .size(4, 4)
            .thresholds(none_is_good("orange")),
    ]
}

fn capacity() -> Vec<Panel> {
    vec![
        timeseries("Domains by state", "Domains on all hosts by their state. Domains that are off count where libvirt still has \
             their definition.", Unit::Short)
            .query("sum by (state) (libvirt_domains{%host}) > 0", "{{state}}")
            .stacked(),
        timeseries(
            "CPUs",
            "What the hosts have, what their domains were given (vCPUs) and what they keep busy. vCPUs above CPUs is \
             overcommitment: harmless until steal rises.",
            Unit::Short,
        )
        .query("sum(libvirt_host_cpus{%host})", "CPUs of the hosts")
        .query("sum(instance:libvirt_domain_vcpus:sum{%host})", "vCPUs of running domains")
        .query("sum(instance:libvirt_domain_cpu_time:rate5m{%host})", "busy with domains")
        .limits("CPUs of the hosts"),
        timeseries(
            "Memory",
            "What the hosts have, what their domains were given (balloon) and what QEMU holds of it. Resident near the hosts' \
             memory means swapping or the OOM killer.",
            Unit::Bytes,
        )
        .query("sum(libvirt_host_memory_bytes{%host})", "memory of the hosts")
        .query("sum(instance:libvirt_domain_memory_current_bytes:sum{%host})", "given to domains")
        .query("sum(instance:libvirt_domain_memory_rss_bytes:sum{%host})", "resident")
        .limits("memory of the hosts"),
    ]
}

fn consumers() -> Vec<Panel> {
    let most = |title, description, unit, series: &str, thresholds| {
        let ten = format!("topk(10, sum by (instance, domain) ({series}))");
        let link = domain_link("${__data.fields.instance}", "${__data.fields.domain}");
        let columns = vec![
            Column::label("Domain", "domain").link("Libvirt / Domain", &link),
            Column::label("Host", "instance"),
            Column::query(title, &ten, unit).bar(None, thresholds).width(170),
        ];
        table(title, description, columns, (title, true)).size(8, 10)
    };
    vec![
        most(
            "CPU",
            "CPUs that a domain keeps busy, its vCPUs and QEMU together.",
            Unit::Short,
            "domain:libvirt_domain_cpu_time:rate5m{%host}",
            plain(),
        ),
        most(
            "Steal",
            "Share of the time in which a domain's vCPUs were ready to run but the host had no CPU for them, on average over \
             its vCPUs.",
            Unit::Ratio,
            "domain:libvirt_domain_vcpu_delay:ratio_rate5m{%host}",
            rising(limit::STEAL),
        ),
        most(
            "Memory used",
            "Share of the guest's memory that it cannot use without swapping, as it reports itself \
                 (needs the balloon driver).",
            Unit::Ratio,
            "1 - domain:libvirt_domain_memory_usable:ratio{%host}",
            rising(limit::MEMORY_USABLE.of_the_rest()),
        )
        .nothing("no guest reports its memory"),
        most(
            "Disk requests",
            "Reads and writes per second over all disks of a domain.",
            Unit::Iops,
            "domain:libvirt_domain_block_requests:rate5m{%host}",
            plain(),
        ),
        most(
            "Disk latency",
            "Average time of a read or write over all disks of a domain.",
            Unit::Seconds,
            "domain:libvirt_domain_block_latency_seconds:mean5m{%host}",
            rising(limit::BLOCK_LATENCY),
        ),
        most(
            "Network",
            "Bytes received and sent per second over all interfaces of a domain.",
            Unit::BytesPerSecond,
            "domain:libvirt_domain_interface_bytes:rate5m{%host}",
            plain(),
        ),
    ]
}

fn hosts() -> Panel {
    let by = |expression: &str| format!("sum by (instance) ({expression})");
    let columns = vec![
        Column::label("Host", "instance").link("Libvirt / Host", &host_link("${__data.fields.instance}")).width(190),
        Column::query("libvirt", "max by (instance) (libvirt_up{%host})", Unit::Count)
            .words(&[("0", "down", "red"), ("1", "up", "green")])
            .colored(one_is_good())
            .width(80),
        Column::query("Running", &by("libvirt_domains{%host,state=\"running\"}"), Unit::Count).width(80),
        Column::query("vCPUs", &by("instance:libvirt_domain_vcpus:sum{%host}"), Unit::Count).width(80),
        Column::query("vCPU/CPU", "max by (instance) (instance:libvirt_cpu_overcommit:ratio{%host})", Unit::Short)
            .colored(rising(limit::CPU_OVERCOMMIT)),
        Column::query(
            "CPU use",
            "sum by (instance) (instance:libvirt_domain_cpu_time:rate5m{%host}) / max by (instance) \
             (libvirt_host_cpus{%host})",
            Unit::Ratio,
        )
        .bar(Some(1.0), rising(limit::CPU)),
        Column::query(
            "Steal",
            "max by (instance) (instance:libvirt_domain_vcpu_delay:ratio_rate5m{%host})",
            Unit::Ratio,
        )
        .colored(rising(limit::STEAL)),
        Column::query("Memory", "max by (instance) (instance:libvirt_memory_overcommit:ratio{%host})", Unit::Ratio)
            .colored(rising(limit::MEMORY_OVERCOMMIT)),
        Column::query("Resident", &by("instance:libvirt_domain_memory_rss_bytes:sum{%host}"), Unit::Bytes),
        Column::query("Requests", &by("instance:libvirt_domain_block_requests:rate5m{%host}"), Unit::Iops),
        Column::query("Network", &by("instance:libvirt_domain_interface_bytes:rate5m{%host}"), Unit::BytesPerSecond),
        Column::query("Frozen", &by("libvirt_domain_quarantined{%host}"), Unit::Count).colored(none_is_good("red")),
        Column::query(
            "Collection",
            "max by (instance) (libvirt_exporter_collect_duration_seconds{%host})",
            Unit::Seconds,
        )
        .colored(rising(limit::COLLECT_SECONDS)),
    ];
    let about = "One row a host; its name leads to its dashboard. Shares are of the host: CPUs that domains keep busy, memory \
        that they were given. Resident is what their QEMUs hold of it; a frozen domain does not answer.";
    table("Hosts", about, columns, ("CPU use", true))
}

fn over_time() -> Vec<Panel> {
    let each = |title, description, unit, series: &str| {
        timeseries(title, description, unit)
            .query(&format!("sum by (instance) ({series}{{%host}})"), "{{instance}}")
            .size(12, 8)
    };
    vec![
        each(
            "CPU",
            "CPUs of each host that domains keep busy.",
            Unit::Short,
            "instance:libvirt_domain_cpu_time:rate5m",
        ),
        each(
            "Steal",
            "Average steal of each host's vCPUs.",
            Unit::Ratio,
            "instance:libvirt_domain_vcpu_delay:ratio_rate5m",
        )
        .thresholds(rising(limit::STEAL)),
        each(
            "vCPUs per CPU",
            "vCPUs of running domains for each CPU.",
            Unit::Short,
            "instance:libvirt_cpu_overcommit:ratio",
        )
        .thresholds(rising(limit::CPU_OVERCOMMIT)),
        each(
            "Memory given",
            "Memory of running domains as a share of the host's.",
            Unit::Ratio,
            "instance:libvirt_memory_overcommit:ratio",
        )
        .thresholds(rising(limit::MEMORY_OVERCOMMIT)),
        each(
            "Disk requests",
            "Reads and writes per second of each host's domains.",
            Unit::Iops,
            "instance:libvirt_domain_block_requests:rate5m",
        ),
        each(
            "Network",
            "Bytes received and sent per second by each host's domains.",
            Unit::BytesPerSecond,
            "instance:libvirt_domain_interface_bytes:rate5m",
        ),
        timeseries("Least usable memory", "The lowest share of usable memory among each host's guests.", Unit::Ratio)
            .query("min by (instance) (domain:libvirt_domain_memory_usable:ratio{%host})", "{{instance}}")
            .up_to(1.0)
            .thresholds(falling(limit::MEMORY_USABLE))
            .size(12, 8),
        timeseries("Slowest disks", "The highest average latency among each host's block devices.", Unit::Seconds)
            .query("max by (instance) (device:libvirt_domain_block_latency_seconds:mean5m{%host})", "{{instance}}")
            .thresholds(rising(limit::BLOCK_LATENCY))
            .size(12, 8),
    ]
}
