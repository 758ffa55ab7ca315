//! What a metric is: its kind, its unit, what it describes, and where its counters begin.

use std::borrow::Cow;

use serde::Serialize;

/// What a metric measures over time (OpenMetrics 1.0, metric types).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Only ever grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Always 1, the labels are the information; the name ends in `_info`.
    Info,
    /// Cumulative buckets.
    Histogram,
    /// A number whose meaning this program does not know.
    Unknown,
}

impl Kind {
    /// The OpenMetrics type: `counter`, `gauge`, `info`, `histogram`, `unknown`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Info => "info",
            Self::Histogram => "histogram",
            Self::Unknown => "unknown",
        }
    }
}

/// The unit of an exported value, after scaling to base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds; `_seconds`, UCUM `s`.
    Seconds,
    /// Bytes; `_bytes`, UCUM `By`.
    Bytes,
    /// Bytes per second; `_bytes_per_second`, UCUM `By/s`.
    BytesPerSecond,
    /// Requests per second; `_requests_per_second`, UCUM `{operation}/s`.
    RequestsPerSecond,
    /// Joules; `_joules`, UCUM `J`.
    Joules,
    /// A share, from 0 to 1; `_ratio`, UCUM `1`.
    Ratio,
    /// A count of something, named in the singular: no suffix, UCUM annotation `{thing}`.
    Of(&'static str),
    /// A bare number, such as a code or a boolean: no suffix, and no unit in OpenTelemetry either. `1` is for ratios, and receivers
    /// that translate names for Prometheus append `_ratio` for it.
    None,
}

impl Unit {
    /// The suffix that the metric's name carries, without the underscore; `None` where the unit has none.
    #[must_use]
    pub fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Seconds => Some("seconds"),
            Self::Bytes => Some("bytes"),
            Self::BytesPerSecond => Some("bytes_per_second"),
            Self::RequestsPerSecond => Some("requests_per_second"),
            Self::Joules => Some("joules"),
            Self::Ratio => Some("ratio"),
            Self::Of(_) | Self::None => None,
        }
    }

    /// The unit in UCUM, as OpenTelemetry writes it.
    #[must_use]
    pub fn ucum(self) -> Cow<'static, str> {
        match self {
            Self::Seconds => "s".into(),
            Self::Bytes => "By".into(),
            Self::BytesPerSecond => "By/s".into(),
            Self::RequestsPerSecond => "{operation}/s".into(),
            Self::Joules => "J".into(),
            Self::Ratio => "1".into(),
            Self::Of(thing) => format!("{{{thing}}}").into(),
            Self::None => "".into(),
        }
    }
}

/// What a sample describes: decides its labels, its OpenTelemetry resource, and when its counters began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// This exporter: no labels.
    Exporter,
    /// The host and its libvirt: no labels.
    Host,
    /// A domain, labelled as `domains.labels` says.
    Domain,
    /// A storage pool, labelled `pool`: its name, which is unique on a host.
    Pool,
    /// A network of libvirt's, labelled `network`: likewise.
    Network,
}

impl Subject {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Domain, Self::Host, Self::Pool, Self::Network, Self::Exporter];

    /// The label that has the name of an object of the host.
    #[must_use]
    pub const fn object_label(self) -> Option<&'static str> {
        match self {
            Self::Exporter | Self::Host | Self::Domain => None,
            Self::Pool => Some("pool"),
            Self::Network => Some("network"),
        }
    }
}

/// Where a counter is kept: it was at zero when that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The domain's hypervisor process: the next incarnation begins at zero.
    Process,
    /// The guest's own kernel. It outlives the process where the guest migrates, or is saved and restored.
    Guest,
    /// A disk, NIC, vCPU or monitor: it begins with the process, or when it is attached.
    Device,
    /// This exporter, which counts events.
    Exporter,
}
