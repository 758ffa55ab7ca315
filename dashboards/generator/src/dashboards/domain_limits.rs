//! The closed rows of Libvirt / Domain that are about what it may use of the host, and what its job does.

use super::domain_detail::{rate, unless_reported};
use super::numbers::{quota_use, throttle_use};
use crate::grafana::{Panel, Row, Unit, orange_from, timeseries};
use crate::thresholds as limit;

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::closed("Job", unless_reported(job(), "no job ran")),
        Row::closed("Limits against use", limits()),
        Row::closed("Pressure, its own limits included", unless_reported(pressure(), NOT_COUNTED)),
    ]
}

const NOT_COUNTED: &str = "the control group does not count it";

fn job() -> Vec<Panel> {
    let of = |metric: &str| format!("max by (domain) (libvirt_domain_job_{metric}{{%domain}})");
    let part =
        |what: &str| format!("{} / ({} > 0)", of(&format!("{what}_processed_bytes")), of(&format!("{what}_bytes")));
    vec![
        timeseries("Progress", "Share of its data that a migration, save, dump or backup has transferred: all of it, memory, and \
             disks. Memory that the guest writes meanwhile is transferred again.", Unit::Ratio)
            .query(&part("data"), "{{domain}} all")
            .query(&part("memory"), "{{domain}} memory")
            .query(&part("disk"), "{{domain}} disks")
            .size(6, 8),
        timeseries("Time", "How long the job has been running, and how long libvirt expects it to take yet.", Unit::Seconds)
            .query(&of("elapsed_seconds"), "{{domain}} running for")
            .query(&of("remaining_seconds"), "{{domain}} left")
            .size(6, 8),
        timeseries("Left", "What the job has yet to transfer. Alert LibvirtDomainMigrationStalled.", Unit::Bytes)
            .query(&of("data_remaining_bytes"), "{{domain}}")
            .size(6, 8),
        timeseries(
            "Transfer",
            "How fast the job transfers memory, and how fast the guest writes to it: a migration ends when the first is above \
             the second.",
            Unit::BytesPerSecond,
        )
        .query(&of("memory_bytes_per_second"), "{{domain}} transferred")
        .query(&of("memory_dirty_bytes_per_second"), "{{domain}} written")
        .size(6, 8),
    ]
}

fn limits() -> Vec<Panel> {
    vec![
        timeseries(
            "CPU quota",
            "Share of its quota that the domain, or its busiest vCPU, uses. At 1 the guest is held back though the host may have \
             CPUs. Alert LibvirtDomainAtCpuQuota.",
            Unit::Ratio,
        )
        .query(&quota_use("%domain"), "{{domain}}")
        .nothing("no quota in the domain XML")
        .thresholds(orange_from(limit::AT_LIMIT)),
        timeseries(
            "Disk throttles",
            "Share of its tightest throttle that each disk uses; more than 1 is a burst. At 1 the guest's requests wait. Alert \
             LibvirtBlockAtThrottle.",
            Unit::Ratio,
        )
        .query(&throttle_use("%domain"), "{{domain}} {{device}}")
        .nothing("no throttle in the domain XML")
        .thresholds(orange_from(limit::AT_LIMIT)),
        timeseries("Held back by the quota", "CPUs that the guest would have kept busy but for its CPU quota, and the share of \
             its periods in which that was so.", Unit::Short)
            .query("sum by (domain) (rate(libvirt_domain_cgroup_cpu_throttled_seconds_total{%domain}[%rate]))", "{{domain}} CPUs")
            .query(
                "sum by (domain) (rate(libvirt_domain_cgroup_cpu_throttled_periods_total{%domain}[%rate]) / \
                 (rate(libvirt_domain_cgroup_cpu_periods_total{%domain}[%rate]) > 0))",
                "{{domain}} periods",
            )
            .on_the_right(".* periods$", Unit::Ratio)
            .nothing(NOT_COUNTED),
    ]
}

fn pressure() -> Vec<Panel> {
    let stalls = [
        ("CPU", "cpu", "a CPU of the host"),
        ("memory", "memory", "memory of the host"),
        ("I/O", "io", "I/O of the host"),
    ];
    let waiting = stalls.map(|(title, what, waited)| {
        let about = format!(
            "Share of the time in which any thread of QEMU (some), and each of them (full), waited for {waited}: pressure stall \
             information of the guest's control group."
        );
        let of = |kind: &str| rate(&format!("libvirt_domain_pressure_{what}_{kind}_seconds_total"));
        timeseries(&format!("Waiting for {title}"), &about, Unit::Ratio)
            .query(&of("waiting"), "{{domain}} some")
            .query(&of("stalled"), "{{domain}} full")
    });
    let events = ["high", "max", "oom"].into_iter().fold(
        timeseries(
            "Memory limits reached",
            "How often a second the guest reached its soft limit (high) or its hard limit (max) of \
             the host's memory, and had none left (oom).",
            Unit::Operations,
        ),
        |panel, event| {
            panel.query(
                &rate(&format!("libvirt_domain_cgroup_memory_{event}_events_total")),
                &format!("{{{{domain}}}} {event}"),
            )
        },
    );
    let io =
        |read: &str| format!("sum by (domain) ({})", rate(&format!("libvirt_domain_cgroup_io_{read}_bytes_total")));
    waiting
        .into_iter()
        .chain([
            timeseries(
                "Memory charged",
                "Memory of the host that is charged to the guest, page cache included, now and at most \
                 since its start.",
                Unit::Bytes,
            )
            .query("libvirt_domain_cgroup_memory_bytes{%domain}", "{{domain}} now")
            .query("libvirt_domain_cgroup_memory_peak_bytes{%domain}", "{{domain}} at most")
            .limits(".* at most$"),
            events,
            timeseries(
                "I/O of the host",
                "Bytes that QEMU read from (up) and wrote to (down) the host's devices per second.",
                Unit::BytesPerSecond,
            )
            .query(&io("read"), "{{domain}} read")
            .query(&io("written"), "{{domain}} written")
            .mirrored(".* written$"),
        ])
        .collect()
}
