//! The exporter itself, and its process.

use super::kind::Subject;
use super::row::{BYTES, NUMBER, SECONDS, of, table};

#[rustfmt::skip]
table! {
    /// Counters of the exporter's work.
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
        "Statistics calls of the last collection";
    STUCK_CALLS = Gauge, of("call"), "libvirt_exporter_stuck_calls", "libvirt.exporter.stuck_calls", [],
        "Calls that hang because a hypervisor does not respond";
    PROBE_SUCCESS = Gauge, NUMBER, "libvirt_exporter_probe_success", "libvirt.exporter.probe.success", ["probe"],
        "Whether every call of the last round of a probe (a kind of libvirt query) succeeded: 1 yes, 0 no";
    PROBE_DURATION = Gauge, SECONDS, "libvirt_exporter_probe_duration_seconds", "libvirt.exporter.probe.duration", ["probe"],
        "Duration of the last round of a probe, from its first call to its last response";
    PROBE_HUNG_CALLS = Gauge, of("call"), "libvirt_exporter_probe_hung_calls", "libvirt.exporter.probe.hung_calls", ["probe"],
        "Calls of a background probe that took too long and have not returned; each occupies a worker of the daemon";
    RESYNCS = Counter, of("listing"), "libvirt_exporter_resyncs_total", "libvirt.exporter.resyncs", ["cause"],
        "Full domain listings by cause";
    EVENTS_DROPPED = Counter, of("event"), "libvirt_exporter_events_dropped_total", "libvirt.exporter.events_dropped", [],
        "Events of libvirt that were lost because the queue was full; a full listing follows";
    METADATA_PENDING = Gauge, of("definition"), "libvirt_exporter_metadata_pending", "libvirt.exporter.metadata.pending", [],
        "Domains whose definition has not been read yet";
    METADATA_FAILURES = Counter, of("definition"), "libvirt_exporter_metadata_failures_total", "libvirt.exporter.metadata.failures", ["reason"],
        "Definitions of domains that could not be read, by reason";
    UNREADABLE = Gauge, of("domain"), "libvirt_exporter_unreadable_domains", "libvirt.exporter.unreadable_domains", [],
        "Domains without samples: libvirt lists them but does not let the exporter's user read them";
    UNMAPPED_KEYS = Gauge, of("key"), "libvirt_exporter_unmapped_keys", "libvirt.exporter.unmapped_keys", [],
        "Distinct keys of the last collection that this version has no metric for";
    DUPLICATES = Counter, of("sample"), "libvirt_exporter_duplicate_samples_total", "libvirt.exporter.duplicate_samples", [],
        "Samples dropped because another sample of the same collection has the same labels";
    SERIES = Gauge, of("series"), "libvirt_exporter_series", "libvirt.exporter.series", [],
        "Series of the domains in this exposition";
    CONFIG_GOOD = Gauge, NUMBER, "libvirt_exporter_config_last_reload_successful", "libvirt.exporter.config.last_reload_successful", [],
        "Whether the configuration files were valid when they were last read: 1 yes, 0 no: the previous configuration stays active";
    CONFIG_RELOADED = Gauge, SECONDS, "libvirt_exporter_config_last_reload_success_timestamp_seconds", "libvirt.exporter.config.last_reload_success_timestamp", [],
        "When the configuration was last read with success, as a Unix time";
    HTTP_REQUESTS = Counter, of("request"), "libvirt_exporter_http_requests_total", "libvirt.exporter.http.requests", ["path", "code"],
        "HTTP responses by path and status code";
    TARGETS = Gauge, of("target"), "libvirt_exporter_targets", "libvirt.exporter.targets", ["state"],
        "Targets of /probe by state: open (probed recently, with connections to its daemon) or closed";
    TARGET_CONNECTIONS = Gauge, of("connection"), "libvirt_exporter_target_connections", "libvirt.exporter.target_connections", [],
        "Connections that the open targets count against probe.max_connections";
    PROBES_REFUSED = Counter, of("request"), "libvirt_exporter_probes_refused_total", "libvirt.exporter.probes_refused", [],
        "Probes refused because all of probe.max_connections was in use";
    OTLP_EXPORTS = Counter, of("export"), "libvirt_exporter_otlp_exports_total", "libvirt.exporter.otlp.exports", ["result"],
        "Pushes over OTLP by result: success, partial (the receiver rejected some points), refused, or dropped (the receiver was unavailable until the deadline)";
    OTLP_REJECTED = Counter, of("point"), "libvirt_exporter_otlp_rejected_points_total", "libvirt.exporter.otlp.rejected_points", [],
        "Data points that the OTLP receiver rejected from pushes that it accepted";
    PROCESS_CPU = Counter, SECONDS, "process_cpu_seconds_total", "process.cpu.time", [],
        "CPU time of the exporter, user and system";
    PROCESS_MEMORY = Gauge, BYTES, "process_resident_memory_bytes", "process.memory.usage", [],
        "Resident memory of the exporter";
    PROCESS_FDS = Gauge, of("file_descriptor"), "process_open_fds", "process.unix.file_descriptor.count", [],
        "Open file descriptors of the exporter";
    PROCESS_MAX_FDS = Gauge, of("file_descriptor"), "process_max_fds", "libvirt.exporter.file_descriptor.limit", [],
        "Maximum number of open file descriptors of the exporter";
    PROCESS_THREADS = Gauge, of("thread"), "process_threads", "process.thread.count", [],
        "Threads of the exporter";
    PROCESS_START = Gauge, SECONDS, "process_start_time_seconds", "libvirt.exporter.start_timestamp", [],
        "When the exporter started, as a Unix time";
}
