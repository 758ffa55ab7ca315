//! The closed rows of Libvirt / Host: jobs, limits, pressure, storage, networks, memory, and what happened.

use super::guests::{Measure, STATE_WORDS, highest, most, state, who};
use super::numbers::{Source, cpus_allowed, file_system_use, pool_use, quota_use, throttle_use};
use super::{SILENT, events};
use crate::grafana::{Column, Panel, Row, Unit, bars, falling, orange_from, rising, state_timeline, table, timeseries};
use crate::thresholds as limit;

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::closed("Jobs over time", jobs()),
        Row::closed("Limits against use", limits()),
        Row::closed("Pressure", pressure()),
        Row::closed("Snapshots and checkpoints", vec![snapshots()]),
        Row::closed("File systems of the guests", vec![file_systems()]),
        Row::closed("Storage pools and networks", storage_and_networks()),
        Row::closed("NUMA nodes and huge pages", vec![nodes(), huge_pages()]),
        Row::closed("Memory inside the guests", memory()),
        Row::closed("States and events", happenings()),
    ]
}

/// A table of guests, or of parts of them: `rows` finds them, by instance, domain and the labels of the columns in front.
fn guests(title: &str, about: &str, rows: &str, front: Vec<Column>, numbers: Vec<Column>, sort: (&str, bool)) -> Panel {
    let mut columns = who(rows, "%domain");
    columns.extend(front);
    columns.extend(numbers);
    table(title, about, columns, sort).size(24, 8)
}

fn jobs() -> Vec<Panel> {
    vec![
        most(
            timeseries("Left of the jobs", "Data that each guest's job has yet to transfer.", Unit::Bytes)
                .nothing("no job ran"),
            &Measure::gauge("libvirt_domain_job_data_remaining_bytes"),
        )
        .size(12, 8),
        bars("Jobs that ended", "Jobs of all domains that ended, by operation, and whether they succeeded.")
            .query(
                &format!("sum by (operation, success) {}", events("libvirt_host_jobs_total{%host}")),
                "{{operation}}, success {{success}}",
            )
            .size(12, 8),
    ]
}

fn limits() -> Vec<Panel> {
    let by = |metric: &str| format!("max by (instance, domain) (libvirt_domain_{metric}{{%domain}})");
    let quota = quota_use("%domain");
    let throttle = throttle_use("%domain");
    let disk = |metric: &str| {
        format!("max by (instance, domain, device) (libvirt_domain_block_throttle_{metric}_per_second{{%domain}})")
    };
    vec![
        guests(
            "CPU quotas",
            "Share of its quota that each guest uses. At 100 % it is held back though the host may have CPUs: that is no steal. CPUs \
             allowed is what its quota, or those of its vCPUs together, allow. Held back is the time of its threads that the kernel stopped \
             them for, which needs the group pressure. Alert LibvirtDomainAtCpuQuota.",
            &format!("max by (instance, domain) ({quota})"),
            Vec::new(),
            vec![
                Column::query("Use of the quota", &format!("max by (instance, domain) ({quota})"), Unit::Ratio).bar(Some(1.0), orange_from(limit::AT_LIMIT)),
                Column::query("Held back", "sum by (instance, domain) (rate(libvirt_domain_cgroup_cpu_throttled_seconds_total{%domain}[%rate])) > 0", Unit::Short),
                Column::query("CPUs allowed", &cpus_allowed("%domain"), Unit::Short),
                Column::query("Shares", &by("cpu_shares"), Unit::Count),
            ],
            ("Use of the quota", true),
        )
        .nothing("no guest has a CPU quota"),
        guests(
            "Disk throttles",
            "Share of its tightest throttle that each disk uses; more than 100 % is a burst. At 100 % its requests wait. Alert \
             LibvirtBlockAtThrottle.",
            &format!("max by (instance, domain, device) ({throttle})"),
            vec![Column::label("Device", "device").width(90)],
            vec![
                Column::query("Use of the throttle", &format!("max by (instance, domain, device) ({throttle})"), Unit::Ratio)
                    .bar(Some(1.0), orange_from(limit::AT_LIMIT)),
                Column::query("Bytes allowed", &disk("total_bytes"), Unit::BytesPerSecond),
                Column::query("Read", &disk("read_bytes"), Unit::BytesPerSecond),
                Column::query("Written", &disk("write_bytes"), Unit::BytesPerSecond),
                Column::query("Requests allowed", &disk("total_requests"), Unit::Iops),
                Column::query("Reads", &disk("read_requests"), Unit::Iops),
                Column::query("Writes", &disk("write_requests"), Unit::Iops),
            ],
            ("Use of the throttle", true),
        )
        .nothing("no disk has a throttle"),
    ]
}

/// What a guest waits for on the host, from its control group.
fn pressure() -> Vec<Panel> {
    let of = |metric: &str| {
        Measure::rate(&format!("sum by (instance, domain) (rate(libvirt_domain_{metric}_total{{%domain}}[%over]))"))
    };
    let stalls = ["cpu", "memory", "io"].into_iter().flat_map(|of_what| {
        let (title, waited) = match of_what {
            "cpu" => ("CPU", "a CPU of the host"),
            "memory" => ("Memory", "memory of the host"),
            _ => ("I/O", "I/O of the host"),
        };
        [("some", "waiting", "any"), ("full", "stalled", "each")].map(|(kind, metric, threads)| {
            let about = format!(
                "Share of the time in which {threads} thread of a guest's QEMU waited for {waited} (PSI {kind})."
            );
            let panel = timeseries(&format!("{title}: {kind}"), &about, Unit::Ratio).size(12, 7);
            highest(
                panel.nothing("the control groups have no pressure"),
                &of(&format!("pressure_{of_what}_{metric}_seconds")),
            )
        })
    });
    stalls
        .chain([
            most(
                timeseries(
                    "Memory charged",
                    "Memory of the host that is charged to each guest, page cache included.",
                    Unit::Bytes,
                )
                .stacked()
                .nothing("the control groups do not count it")
                .size(12, 7),
                &Measure::gauge("libvirt_domain_cgroup_memory_bytes"),
            ),
            highest(
                timeseries(
                    "Memory limits reached",
                    "How often a second each guest reached its hard limit of the host's memory.",
                    Unit::Operations,
                )
                .nothing("the control groups do not count it")
                .size(12, 7),
                &of("cgroup_memory_max_events"),
            ),
        ])
        .collect()
}

fn snapshots() -> Panel {
    let by = |metric: &str| format!("max by (instance, domain) (libvirt_domain_{metric}{{%domain}})");
    let age = |metric: &str| format!("time() - {}", by(metric));
    guests(
        "Snapshots and checkpoints",
        "Guests with snapshots or checkpoints, by the age of the oldest snapshot. An external snapshot grows, and slows the guest down, \
         for as long as it is there.",
        &by("snapshots"),
        Vec::new(),
        vec![
            Column::query("Snapshots", &by("snapshots"), Unit::Count).width(100),
            Column::query("Oldest snapshot", &age("snapshot_oldest_timestamp_seconds"), Unit::Seconds).colored(orange_from(limit::SNAPSHOT_AGE)),
            Column::query("Newest snapshot", &age("snapshot_newest_timestamp_seconds"), Unit::Seconds),
            Column::query("External", &by("snapshot_current_external"), Unit::Count).words(&[("0", "no", "text"), ("1", "yes", "orange")]),
            Column::query("Checkpoints", &by("checkpoints"), Unit::Count).width(110),
            Column::query("Oldest checkpoint", &age("checkpoint_oldest_timestamp_seconds"), Unit::Seconds),
        ],
        ("Oldest snapshot", true),
    )
    .nothing("no guest has a snapshot")
}

fn file_systems() -> Panel {
    let by = |metric: &str| {
        format!("max by (instance, domain, mountpoint) (libvirt_domain_guest_filesystem_{metric}_bytes{{%domain}})")
    };
    guests(
        "File systems",
        "File systems of the guests, as their agents report; those that cannot be written to have no use. Needs the group guest.",
        &by("size"),
        vec![Column::label("Mounted at", "mountpoint")],
        vec![
            Column::query("Used", &file_system_use("%domain"), Unit::Ratio)
                .bar(Some(1.0), rising(limit::GUEST_FILESYSTEM)),
            Column::query("Free", &format!("{} - {}", by("size"), by("used")), Unit::Bytes),
            Column::query("Size", &by("size"), Unit::Bytes),
        ],
        ("Used", true),
    )
    .nothing("no guest reports its file systems")
}

fn storage_and_networks() -> Vec<Panel> {
    let pool = |metric: &str| format!("max by (instance, pool) (libvirt_pool_{metric}{{%host}})");
    let network = |metric: &str| format!("max by (instance, network) (libvirt_network_{metric}{{%host}})");
    let pools = vec![
        Column::host(),
        Column::label("Pool", "pool"),
        Column::label("Type", "pool_type").width(80),
        Column::label("Path", "path"),
        Column::query("", "max by (instance, pool, pool_type, path) (libvirt_pool_info{%host})", Unit::Count),
        Column::label("State", "state").words(&POOL_STATES).width(90),
        Column::query("", "max by (instance, pool, state) (libvirt_pool_state{%host} == 1)", Unit::Count),
        Column::query("Used", &pool_use(Source::Metrics), Unit::Ratio).bar(Some(1.0), rising(limit::POOL)),
        Column::query("Free", &pool("available_bytes"), Unit::Bytes).width(90),
        Column::query("Size", &pool("capacity_bytes"), Unit::Bytes).width(90),
    ];
    let networks = vec![
        Column::host(),
        Column::label("Network", "network"),
        Column::label("Bridge", "bridge"),
        Column::label("Forwarding", "forward_mode"),
        Column::query(
            "",
            "max by (instance, network, bridge, forward_mode) (libvirt_network_info{%host})",
            Unit::Count,
        ),
        Column::query("Active", &network("active"), Unit::Count)
            .words(&[("0", "no", "orange"), ("1", "yes", "green")])
            .width(70),
        Column::query("Autostart", &network("autostart"), Unit::Count)
            .words(&[("0", "no", "text"), ("1", "yes", "text")])
            .width(90),
        Column::query("Leases", &network("dhcp_leases"), Unit::Count).width(80),
    ];
    vec![
        table("Storage pools", "The host's storage pools and how full they are; those whose volumes have their size from the start have no use.", pools, ("Used", true))
            .nothing("no storage pool")
            .size(14, 8),
        table("Networks", "The host's virtual networks.", networks, ("Network", false))
            .nothing("no virtual network")
            .size(10, 8),
    ]
}

const POOL_STATES: [(&str, &str, &str); 5] = [
    ("running", "running", "green"),
    ("inactive", "inactive", "orange"),
    ("building", "building", "yellow"),
    ("degraded", "degraded", "red"),
    ("inaccessible", "inaccessible", "red"),
];

fn nodes() -> Panel {
    let by = |metric: &str| format!("max by (instance, node) (libvirt_host_numa_{metric}{{%host}})");
    let columns = vec![
        Column::host(),
        Column::label("Node", "node").width(80),
        Column::query("Memory", &by("memory_bytes"), Unit::Bytes),
        Column::query("Free", &by("memory_free_bytes"), Unit::Bytes),
        Column::query("Used", &format!("1 - {} / {}", by("memory_free_bytes"), by("memory_bytes")), Unit::Ratio)
            .bar(Some(1.0), rising(limit::MEMORY_USABLE.of_the_rest())),
    ];
    table("NUMA nodes", "Memory of each node, page cache counted as used.", columns, ("Node", false))
        .nothing("libvirt names no node")
        .size(12, 7)
}

fn huge_pages() -> Panel {
    let by = |metric: &str| format!("max by (instance, node, page_size) (libvirt_host_{metric}{{%host}} > 0)");
    let free = "max by (instance, node, page_size) (libvirt_host_hugepages_free{%host})";
    let columns = vec![
        Column::host(),
        Column::label("Node", "node").width(80),
        Column::label("Bytes a page", "page_size"),
        Column::query("Pages", &by("hugepages"), Unit::Short),
        Column::query("Free", &format!("{free} and {}", by("hugepages")), Unit::Short),
        Column::query("Used", &format!("1 - {free} / {}", by("hugepages")), Unit::Ratio)
            .bar(Some(1.0), rising(limit::POOL)),
    ];
    table("Huge pages", "Huge pages that the host has set aside, by node and size.", columns, ("Node", false))
        .nothing("no huge pages are set aside")
        .size(12, 7)
}

fn memory() -> Vec<Panel> {
    let of = |expression: &str| Measure::rate(expression);
    vec![
        timeseries(
            "Least usable memory",
            "Share of its memory that the guest can use without swapping, of those that have least.",
            Unit::Ratio,
        )
        .nothing(SILENT)
        .query(
            "bottomk(%top, sum by (instance, domain) (libvirt_domain_memory_usable_bytes{%domain} / \
                 libvirt_domain_memory_available_bytes{%domain}))",
            "{{domain}}",
        )
        .up_to(1.0)
        .thresholds(falling(limit::MEMORY_USABLE))
        .many(),
        highest(
            timeseries(
                "Swapping",
                "Bytes that each guest swaps in and out per second, as it reports.",
                Unit::BytesPerSecond,
            )
            .nothing(SILENT),
            &of("sum by (instance, domain) (rate(libvirt_domain_memory_swap_in_bytes_total{%domain}[%over]) + \
                 rate(libvirt_domain_memory_swap_out_bytes_total{%domain}[%over]))"),
        )
        .thresholds(rising(limit::SWAP)),
        highest(
            timeseries("Major faults", "Page faults of each guest that needed I/O, as it reports.", Unit::Operations)
                .nothing(SILENT),
            &of("sum by (instance, domain) (rate(libvirt_domain_memory_major_faults_total{%domain}[%over]))"),
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
        bars("Other events", "Every other event of libvirt by its name, and those of storage pools and networks.")
            .query(&format!("sum by (event) {}", events("libvirt_host_events_total{%host}")), "{{event}}")
            .query(&format!("sum by (event) {}", events("libvirt_host_pool_events_total{%host}")), "pool: {{event}}")
            .query(
                &format!("sum by (event) {}", events("libvirt_host_network_events_total{%host}")),
                "network: {{event}}",
            )
            .size(12, 8),
    ]
}
