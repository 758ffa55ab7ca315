//! The exporter itself, and its process.

use super::kind::Subject;
use super::row::{BYTES, NUMBER, SECONDS, of, table};

#[rustfmt::skip]
table! {
    /// What the exporter counts of its own work.
    TABLE: None, Subject::Exporter;
    BUILD = Info, NUMBER, "libvirt_exporter_build_info", "libvirt.exporter.build", ["version", "revision", "rustversion"],
        "Version of domstats-exporter, the commit that it was built from where that is known, and the Rust compiler";
    COLLECT_DURATION = Gauge, SECONDS, "libvirt_exporter_collect_duration_seconds", "libvirt.exporter.collect.duration", [],
        "How long the last collection took";
    COLLECT_FAILURES = Counter, of("collection"), "libvirt_exporter_collect_failures_total", "libvirt.exporter.collect.failures", ["reason"],
        "Collections that failed, by reason";
    LAST_COLLECT = Gauge, SECONDS, "libvirt_exporter_last_collect_timestamp_seconds", "libvirt.exporter.last_collect_timestamp", [],
        "When a collection last succeeded, as a Unix time";
    RECONNECTS = Counter, of("connection"), "libvirt_exporter_reconnects_total", "libvirt.exporter.reconnects", [],
        "Connections to libvirt opened after the first";
    BATCHES = Gauge, of("call"), "libvirt_exporter_batches", "libvirt.exporter.batches", [],
        "Calls for statistics that the last collection took";
    STUCK_CALLS = Gauge, of("call"), "libvirt_exporter_stuck_calls", "libvirt.exporter.stuck_calls", [],
        "Calls that are waiting for a hypervisor that does not answer";
    PROBE_SUCCESS = Gauge, NUMBER, "libvirt_exporter_probe_success", "libvirt.exporter.probe.success", ["probe"],
        "Whether libvirt answered each call of the last round of a probe, a kind of question: 1 yes, 0 no";
    PROBE_DURATION = Gauge, SECONDS, "libvirt_exporter_probe_duration_seconds", "libvirt.exporter.probe.duration", ["probe"],
        "How long the last round of a probe took, from its first call to its last answer";
    RESYNCS = Counter, of("listing"), "libvirt_exporter_resyncs_total", "libvirt.exporter.resyncs", ["cause"],
        "Listings of all domains, by what caused them";
    EVENTS_DROPPED = Counter, of("event"), "libvirt_exporter_events_dropped_total", "libvirt.exporter.events_dropped", [],
        "Events of libvirt that were lost because more came than could be held; a listing makes up for them";
    METADATA_PENDING = Gauge, of("definition"), "libvirt_exporter_metadata_pending", "libvirt.exporter.metadata.pending", [],
        "Domains whose definition has not been read yet";
    METADATA_FAILURES = Counter, of("definition"), "libvirt_exporter_metadata_failures_total", "libvirt.exporter.metadata.failures", ["reason"],
        "Definitions of domains that could not be read, by reason";
    UNREADABLE = Gauge, of("domain"), "libvirt_exporter_unreadable_domains", "libvirt.exporter.unreadable_domains", [],
        "Domains that libvirt lists but does not let the exporter's user read: they have no samples";
    UNMAPPED_KEYS = Gauge, of("key"), "libvirt_exporter_unmapped_keys", "libvirt.exporter.unmapped_keys", [],
        "Different keys of the last collection that this version has no metric for";
    DUPLICATES = Counter, of("sample"), "libvirt_exporter_duplicate_samples_total", "libvirt.exporter.duplicate_samples", [],
        "Samples dropped because another one of the same collection had their labels";
    SERIES = Gauge, of("series"), "libvirt_exporter_series", "libvirt.exporter.series", [],
        "Series of the domains in this exposition";
    CONFIG_GOOD = Gauge, NUMBER, "libvirt_exporter_config_last_reload_successful", "libvirt.exporter.config.last_reload_successful", [],
        "Whether the configuration files were good when they were last read: 1 yes, 0 no, and the settings before stay in effect";
    CONFIG_RELOADED = Gauge, SECONDS, "libvirt_exporter_config_last_reload_success_timestamp_seconds", "libvirt.exporter.config.last_reload_success_timestamp", [],
        "When the configuration was last read with success, as a Unix time";
    HTTP_REQUESTS = Counter, of("request"), "libvirt_exporter_http_requests_total", "libvirt.exporter.http.requests", ["path", "code"],
        "Answered HTTP requests by path and status code";
    OTLP_EXPORTS = Counter, of("export"), "libvirt_exporter_otlp_exports_total", "libvirt.exporter.otlp.exports", ["result"],
        "Pushes over OTLP by result: success, partial (the receiver rejected some points), refused or dropped (nobody took it in time)";
    OTLP_REJECTED = Counter, of("point"), "libvirt_exporter_otlp_rejected_points_total", "libvirt.exporter.otlp.rejected_points", [],
        "Data points that the OTLP receiver rejected out of pushes that it took";
    PROCESS_CPU = Counter, SECONDS, "process_cpu_seconds_total", "process.cpu.time", [],
        "Processor time of the exporter, user and system";
    PROCESS_MEMORY = Gauge, BYTES, "process_resident_memory_bytes", "process.memory.usage", [],
        "Resident memory of the exporter";
    PROCESS_FDS = Gauge, of("file_descriptor"), "process_open_fds", "process.unix.file_descriptor.count", [],
        "Open file descriptors of the exporter";
    PROCESS_MAX_FDS = Gauge, of("file_descriptor"), "process_max_fds", "libvirt.exporter.file_descriptor.limit", [],
        "File descriptors that the exporter may open at most";
    PROCESS_THREADS = Gauge, of("thread"), "process_threads", "process.thread.count", [],
        "Threads of the exporter";
    PROCESS_START = Gauge, SECONDS, "process_start_time_seconds", "libvirt.exporter.start_timestamp", [],
        "When the exporter started, as a Unix time";
}
