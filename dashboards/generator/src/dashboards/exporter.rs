//! Libvirt / Exporter: the exporter itself.

use serde_json::Value;

use super::{ANSWERS, events};
use crate::grafana::{
    Column, Dashboard, Panel, Row, Unit, bars, none_is_good, one_is_good, plain, rising, stat, table, timeseries,
};
use crate::thresholds as limit;

pub(super) fn dashboard() -> Value {
    let about = "The exporter itself: whether its collections are complete and in time, and what it costs.";
    Dashboard::new("libvirt-exporter", "Libvirt / Exporter", about)
        .hosts(false)
        .annotation(
            "Reconnected",
            "orange",
            "sum by (instance) (increase(libvirt_exporter_reconnects_total{%host}[%rate])) > 0",
            ["{{instance}}", "connected to libvirt again"],
            false,
        )
        .row(Row::open("Now", now()))
        .row(Row::open("Collections", collections()))
        .row(Row::open("Probes", probes()))
        .row(Row::open("Connection and events", connection()))
        .row(Row::open("Exposition", exposition()))
        .row(Row::closed("Process", process()))
        .build()
}

fn now() -> Vec<Panel> {
    vec![
        stat("Exporters", "Exporters that answer.", Unit::Count)
            .query(&format!("sum({ANSWERS})"), "exporters")
            .thresholds(plain()),
        stat("libvirt", "Exporters that reach libvirt. Alert LibvirtDown.", Unit::Count)
            .query("sum(libvirt_up{%host})", "with libvirt")
            .thresholds(one_is_good()),
        stat("Version", "The exporters' version; a series each where they differ.", Unit::Count)
            .query("count by (version) (libvirt_exporter_build_info{%host})", "{{version}}")
            .shows_name()
            .thresholds(plain()),
        stat(
            "Oldest collection",
            "Time since the last collection that succeeded, of the exporter where it is longest ago.",
            Unit::Seconds,
        )
        .query("max(time() - libvirt_exporter_last_collect_timestamp_seconds{%host})", "age")
        .thresholds(rising(limit::MEMORY_REPORT_AGE)),
        stat(
            "Slowest collection",
            "How long the last collection took, where it took longest. Alert \
             LibvirtScrapeCloseToDeadline.",
            Unit::Seconds,
        )
        .query("max(libvirt_exporter_collect_duration_seconds{%host})", "duration")
        .thresholds(rising(limit::COLLECT_SECONDS)),
        stat("Stuck calls", "Calls that wait for a QEMU that does not answer.", Unit::Count)
            .query("sum(libvirt_exporter_stuck_calls{%host})", "calls")
            .thresholds(none_is_good("orange")),
        stat(
            "Bad configs",
            "Exporters whose configuration files are wrong; the settings before stay in effect. Alert \
             LibvirtExporterConfigBad.",
            Unit::Count,
        )
        .query("count(libvirt_exporter_config_last_reload_successful{%host} == 0) or vector(0)", "exporters")
        .thresholds(none_is_good("red")),
        stat(
            "Unmapped keys",
            "Statistics of libvirt that the exporter has no metric for: time for a new version.",
            Unit::Count,
        )
        .query("max(libvirt_exporter_unmapped_keys{%host})", "keys")
        .thresholds(none_is_good("yellow")),
    ]
}

fn collections() -> Vec<Panel> {
    vec![
        timeseries(
            "Time of a collection",
            "How long the collection took, and the scrape as Prometheus sees it.",
            Unit::Seconds,
        )
        .query("libvirt_exporter_collect_duration_seconds{%host}", "{{instance}} collection")
        .query(&own("scrape_duration_seconds{%host}"), "{{instance}} scrape")
        .thresholds(rising(limit::COLLECT_SECONDS)),
        timeseries(
            "Share of the time",
            "The share of the last ten minutes in which a collection was under way, those of all scrape jobs together.",
            Unit::Ratio,
        )
        .query(
            "sum without (job) (sum_over_time(libvirt_exporter_collect_duration_seconds{%host}[10m])) / 600",
            "{{instance}}",
        )
        .thresholds(rising(limit::COLLECT_SHARE)),
        bars("Failed collections", "Collections that failed, by reason.").query(
            "sum by (reason) (increase(libvirt_exporter_collect_failures_total{%host}[%rate])) > 0",
            "{{reason}}",
        ),
        timeseries(
            "Incomplete domains",
            "Running domains of which something is missing, and those among them that are left alone \
             because they do not answer.",
            Unit::Count,
        )
        .query("sum by (instance) (1 - libvirt_domain_stats_complete{%host})", "{{instance}} incomplete")
        .query("sum by (instance) (libvirt_domain_quarantined{%host})", "{{instance}} quarantined"),
        timeseries("Stuck calls", "Calls that wait for a QEMU that does not answer.", Unit::Count)
            .query("libvirt_exporter_stuck_calls{%host}", "{{instance}}"),
        timeseries("Calls", "Calls for statistics that a collection takes.", Unit::Count)
            .query("libvirt_exporter_batches{%host}", "{{instance}}"),
    ]
}

/// What each kind of question to libvirt takes, and whether it succeeds.
fn probes() -> Vec<Panel> {
    let by = |metric: &str| format!("max by (instance, probe) (libvirt_exporter_probe_{metric}{{%host}})");
    let columns = vec![
        Column::host(),
        Column::label("Probe", "probe"),
        Column::query("Succeeded", &by("success"), Unit::Count).words(&[("0", "no", "red"), ("1", "yes", "green")]),
        Column::query("Duration", &by("duration_seconds"), Unit::Seconds).colored(rising(limit::COLLECT_SECONDS)),
    ];
    vec![
        table(
            "Probes",
            "Whether the last round of each probe succeeded, and how long it took.",
            columns,
            ("Duration", true),
        )
        .size(10, 8),
        timeseries(
            "Duration of the probes",
            "How long a round of each probe took, on the slowest host.",
            Unit::Seconds,
        )
        .query("max by (probe) (libvirt_exporter_probe_duration_seconds{%host})", "{{probe}}")
        .many()
        .size(7, 8),
        timeseries(
            "Probes that failed",
            "On how many hosts the last round of a probe had a call that failed.",
            Unit::Count,
        )
        .query("count by (probe) (libvirt_exporter_probe_success{%host} == 0)", "{{probe}}")
        .nothing("none")
        .size(7, 8),
    ]
}

fn connection() -> Vec<Panel> {
    vec![
        bars("Reconnects", "Connections to libvirt opened after the first.")
            .query("sum by (instance) (increase(libvirt_exporter_reconnects_total{%host}[%rate])) > 0", "{{instance}}")
            .size(6, 8),
        bars("Resyncs", "Times that the exporter listed all domains again, by cause.")
            .query(&format!("sum by (cause) {}", events("libvirt_exporter_resyncs_total{%host}")), "{{cause}}")
            .size(6, 8),
        timeseries(
            "Events",
            "Events of libvirt per second, and those that were dropped. Alert LibvirtEventsLost.",
            Unit::Operations,
        )
        .query("sum by (instance) (rate(libvirt_host_lifecycle_events_total{%host}[%rate]))", "{{instance}} lifecycle")
        .query("sum by (instance) (rate(libvirt_host_events_total{%host}[%rate]))", "{{instance}} others")
        .query("sum by (instance) (rate(libvirt_exporter_events_dropped_total{%host}[%rate]))", "{{instance}} dropped")
        .size(6, 8),
        timeseries("Definitions to be read", "Domains whose definition has not been read yet.", Unit::Count)
            .query("libvirt_exporter_metadata_pending{%host}", "{{instance}}")
            .size(6, 8),
    ]
}

fn exposition() -> Vec<Panel> {
    vec![
        timeseries("Series", "Series of the domains in an exposition.", Unit::Short)
            .query("libvirt_exporter_series{%host}", "{{instance}}")
            .size(6, 8),
        timeseries("Requests", "Answered HTTP requests per second.", Unit::Operations)
            .query(
                "sum by (path, code) (rate(libvirt_exporter_http_requests_total{%host}[%rate]))",
                "{{path}} {{code}}",
            )
            .size(6, 8),
        timeseries("OTLP", "Exports over OTLP per second, by how they went.", Unit::Operations)
            .query("sum by (result) (rate(libvirt_exporter_otlp_exports_total{%host}[%rate]))", "{{result}}")
            .size(6, 8),
        timeseries(
            "Duplicate samples",
            "Samples per second that were dropped because another one had their labels: a fault worth reporting.",
            Unit::Operations,
        )
        .query("sum by (instance) (rate(libvirt_exporter_duplicate_samples_total{%host}[%rate]))", "{{instance}}")
        .size(6, 8),
    ]
}

/// Of what every target has, the exporters' own.
fn own(series: &str) -> String {
    format!("max without (job) ({series} and on (job, instance) libvirt_exporter_build_info{{%host}})")
}

fn process() -> Vec<Panel> {
    vec![
        timeseries("CPU", "CPUs that the exporter keeps busy.", Unit::Short)
            .query(&own("rate(process_cpu_seconds_total{%host}[%rate])"), "{{instance}}")
            .size(6, 8),
        timeseries("Memory", "Resident memory of the exporter.", Unit::Bytes)
            .query(&own("process_resident_memory_bytes{%host}"), "{{instance}}")
            .size(6, 8),
        timeseries("File descriptors", "Open file descriptors, as a share of how many there may be.", Unit::Ratio)
            .query(&own("process_open_fds{%host} / process_max_fds{%host}"), "{{instance}}")
            .size(6, 8),
        timeseries("Threads", "Threads of the exporter.", Unit::Count)
            .query(&own("process_threads{%host}"), "{{instance}}")
            .size(6, 8),
    ]
}
