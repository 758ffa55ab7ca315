//! Libvirt / Exporter: the exporter itself.

use serde_json::Value;

use super::{events, hosts_down};
use crate::grafana::{
    Column, Dashboard, Panel, Row, Unit, bars, none_is_good, number, plain, rising, stat, table, timeseries,
};
use crate::rules::answers;
use crate::thresholds as limit;

pub(super) fn dashboard() -> Value {
    let about = "The exporter itself: whether its collections are complete and in time, and what it costs.";
    Dashboard::new("libvirt-exporter", "Libvirt / Exporter", about)
        .hosts(false)
        .top()
        .annotation(
            "Reconnected",
            "orange",
            "sum by (instance) (increase(libvirt_exporter_reconnects_total{%host}[%rate])) > 0",
            ["{{instance}}", "connected to libvirt again"],
            false,
        )
        .row(Row::open("Now", now().into_iter().chain([exporters()]).collect()))
        .row(Row::open("Collections", collections()))
        .row(Row::open("Probes", probes()))
        .row(Row::open("Connection and events", connection()))
        .row(Row::open("Exposition", exposition()))
        .row(Row::closed("Process", process()))
        .build()
}

fn now() -> Vec<Panel> {
    let answers = answers("%host");
    vec![
        stat("Exporters", "Exporters that answer.", Unit::Count)
            .query(&format!("sum({answers})"), "exporters")
            .thresholds(plain()),
        number(
            "Exporters down",
            "Exporters that do not answer or do not reach libvirt. Alerts LibvirtExporterDown and LibvirtDown.",
            Unit::Count,
        )
        .query(&format!("count({}) or 0 * count({answers})", hosts_down()), "exporters")
        .nothing("no exporter")
        .thresholds(none_is_good("red")),
        number("Version", "The exporters' version; a series each where they differ.", Unit::Count)
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
        number(
            "Bad configs",
            "Exporters whose configuration files are wrong; the previous configuration stays active. Alert \
             LibvirtExporterConfigBad.",
            Unit::Count,
        )
        .query(
            "count(libvirt_exporter_config_last_reload_successful{%host} == 0) or \
             0 * count(libvirt_exporter_config_last_reload_successful{%host})",
            "exporters",
        )
        .nothing("no exporter")
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

/// A row for each exporter.
fn exporters() -> Panel {
    const UP: [(&str, &str, &str); 2] = [("0", "no", "red"), ("1", "yes", "green")];
    let max = |metric: &str| format!("max by (instance) (libvirt_exporter_{metric}{{%host}})");
    let sum = |expression: &str| format!("sum by (instance) ({expression})");
    let columns = vec![
        Column::host(),
        Column::query("Answers", &format!("max by (instance) ({})", answers("%host")), Unit::Count)
            .words(&UP)
            .width(90),
        Column::query("libvirt", "max by (instance) (libvirt_up{%host})", Unit::Count).words(&UP).width(80),
        Column::label("Version", "version").width(90),
        Column::query("", "max by (instance, version) (libvirt_exporter_build_info{%host})", Unit::Count),
        Column::query("Collection", &max("collect_duration_seconds"), Unit::Seconds)
            .colored(rising(limit::COLLECT_SECONDS)),
        Column::query("Last", &format!("time() - {}", max("last_collect_timestamp_seconds")), Unit::Seconds)
            .colored(rising(limit::MEMORY_REPORT_AGE)),
        Column::query("Domains", &sum("libvirt_domains{%host}"), Unit::Count),
        Column::query("Incomplete", &sum("1 - libvirt_domain_stats_complete{%host}"), Unit::Count)
            .colored(none_is_good("orange")),
        Column::query("Not responding", &sum("libvirt_domain_quarantined{%host}"), Unit::Count)
            .colored(none_is_good("red"))
            .width(130),
        Column::query("Stuck calls", &max("stuck_calls"), Unit::Count).colored(none_is_good("orange")),
        Column::query("Hung calls", &sum("libvirt_exporter_probe_hung_calls{%host}"), Unit::Count)
            .colored(none_is_good("orange")),
        Column::query("Series", "sum without (job) (libvirt_exporter_series{%host})", Unit::Short),
    ];
    let about = "Whether each exporter answers and reaches libvirt, how long its last collection took and how long ago it was, its domains \
        and what is missing of them, and calls to libvirt that have not returned: for statistics (stuck) and in the background (hung).";
    table("Exporters", about, columns, ("Collection", true)).size(24, 7)
}

/// The hosts with the most of a number by instance in the last five minutes, a line each: over all the time that is shown it would be
/// read twice.
fn worst(panel: Panel, number: &str, name: &str) -> Panel {
    let whole = format!("max_over_time(({number})[5m:1m] @ end())");
    panel
        .query(&format!("{number} and on (instance) topk(%top, {whole})"), &format!("{{{{instance}}}}{name}"))
        .many()
        .without_ports()
        .size(12, 8)
}

fn collections() -> Vec<Panel> {
    let of = |metric: &str| format!("max by (instance) (libvirt_exporter_{metric}{{%host}})");
    let time = timeseries(
        "Time of a collection",
        "How long the collection took, and the scrape as Prometheus sees it, on the hosts where it took longest.",
        Unit::Seconds,
    );
    let scrape = format!("max by (instance) ({})", own("scrape_duration_seconds{%host}"));
    vec![
        worst(worst(time, &of("collect_duration_seconds"), " collection"), &scrape, " scrape")
            .thresholds(rising(limit::COLLECT_SECONDS)),
        worst(
            timeseries(
                "Share of the time",
                "The share of the last ten minutes in which a collection was under way, those of all scrape jobs together, on \
                 the hosts with the most of it.",
                Unit::Ratio,
            ),
            "sum by (instance) (sum without (job) (sum_over_time(libvirt_exporter_collect_duration_seconds{%host}[10m])) / 600)",
            "",
        )
        .thresholds(rising(limit::COLLECT_SHARE)),
        worst(
            timeseries(
                "Incomplete domains",
                "Running domains of which something is missing, quarantined ones included, on the hosts with the most of them.",
                Unit::Count,
            ),
            "sum by (instance) (1 - libvirt_domain_stats_complete{%host})",
            "",
        ),
        worst(
            timeseries("Stuck calls", "Calls that wait for a QEMU that does not answer.", Unit::Count),
            &of("stuck_calls"),
            "",
        ),
        worst(
            timeseries("Calls", "Calls for statistics that a collection takes, where it takes most.", Unit::Count),
            &of("batches"),
            "",
        ),
        bars("Failed collections", "Collections that failed, by reason.")
            .query("sum by (reason) (increase(libvirt_exporter_collect_failures_total{%host}[%rate])) > 0", "{{reason}}")
            .size(12, 8),
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
        .size(8, 8),
        timeseries(
            "Duration of the probes",
            "How long a round of each probe took, on the slowest host.",
            Unit::Seconds,
        )
        .query("max by (probe) (libvirt_exporter_probe_duration_seconds{%host})", "{{probe}}")
        .many()
        .size(10, 8),
        timeseries(
            "Probes that failed",
            "On how many hosts the last round of a probe had a call that failed.",
            Unit::Count,
        )
        .query("count by (probe) (libvirt_exporter_probe_success{%host} == 0)", "{{probe}}")
        .nothing("none")
        .size(6, 8),
    ]
}

fn connection() -> Vec<Panel> {
    vec![
        bars("Reconnects", "Connections to libvirt opened after the first.")
            .query("sum by (instance) (increase(libvirt_exporter_reconnects_total{%host}[%rate])) > 0", "{{instance}}")
            .without_ports(),
        bars("Resyncs", "Times that the exporters listed all domains again, by cause.")
            .query(&format!("sum by (cause) {}", events("libvirt_exporter_resyncs_total{%host}")), "{{cause}}"),
        timeseries(
            "Events",
            "Events of libvirt per second on all hosts, and those that were dropped. Alert LibvirtEventsLost.",
            Unit::Operations,
        )
        .query("sum(rate(libvirt_host_lifecycle_events_total{%host}[%rate]))", "lifecycle")
        .query("sum(rate(libvirt_host_events_total{%host}[%rate]))", "others")
        .query("sum(rate(libvirt_exporter_events_dropped_total{%host}[%rate]))", "dropped")
        .line("dropped", "red"),
    ]
}

fn exposition() -> Vec<Panel> {
    vec![
        worst(
            timeseries("Series", "Series of the domains in an exposition, where there are most.", Unit::Short),
            "sum without (job) (libvirt_exporter_series{%host})",
            "",
        ),
        worst(
            timeseries("Definitions to be read", "Domains whose definition has not been read yet.", Unit::Count),
            "max by (instance) (libvirt_exporter_metadata_pending{%host})",
            "",
        ),
        timeseries("Requests", "Answered HTTP requests per second.", Unit::Operations).query(
            "sum by (path, code) (rate(libvirt_exporter_http_requests_total{%host}[%rate]))",
            "{{path}} {{code}}",
        ),
        timeseries("OTLP", "Exports over OTLP per second, by result.", Unit::Operations)
            .query("sum by (result) (rate(libvirt_exporter_otlp_exports_total{%host}[%rate]))", "{{result}}")
            .line("success", "green")
            .line("partial", "orange")
            .line("refused", "purple")
            .line("dropped", "red")
            .nothing("no exporter pushes"),
        timeseries(
            "Duplicate samples",
            "Samples per second that were dropped because another one had their labels: a fault worth reporting.",
            Unit::Operations,
        )
        .query("sum(rate(libvirt_exporter_duplicate_samples_total{%host}[%rate]))", "dropped")
        .line("dropped", "red"),
    ]
}

/// Of what every target has, the exporters' own.
fn own(series: &str) -> String {
    format!("max without (job) ({series} and on (job, instance) libvirt_exporter_build_info{{%host}})")
}

fn process() -> Vec<Panel> {
    let of = |title, about, unit, series: &str| {
        worst(timeseries(title, about, unit), &format!("max by (instance) ({})", own(series)), "")
    };
    vec![
        of(
            "CPU",
            "CPUs that the exporter keeps busy, where it keeps most.",
            Unit::Short,
            "rate(process_cpu_seconds_total{%host}[%rate])",
        ),
        of(
            "Memory",
            "Resident memory of the exporter, where it is most.",
            Unit::Bytes,
            "process_resident_memory_bytes{%host}",
        ),
        of(
            "File descriptors",
            "Open file descriptors, as a share of how many there may be.",
            Unit::Ratio,
            "process_open_fds{%host} / process_max_fds{%host}",
        ),
        of("Threads", "Threads of the exporter, where there are most.", Unit::Count, "process_threads{%host}"),
    ]
}
