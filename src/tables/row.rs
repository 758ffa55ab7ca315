//! One row is the whole truth about one metric.

use super::Group;
use super::group::Source;
use super::kind::{Kind, Origin, Subject, Unit};

/// Metrics of one source.
#[derive(Debug)]
pub(crate) struct Table {
    /// The group that they come and go with; `None` for those that are always there.
    pub group: Option<Group>,
    /// What they describe.
    pub subject: Subject,
    /// When the counters of the table were at zero.
    pub origin: Origin,
    /// What the numbers in libvirt's keys stand for.
    pub scopes: &'static [Scope],
    /// The metrics.
    pub rows: &'static [Row],
    /// Whether the values mean nothing while the domain is shut off.
    pub active_only: bool,
}

impl Table {
    /// No metric, for a group whose rows are all in tables without keys.
    pub(crate) const EMPTY: Self = Self {
        group: None,
        subject: Subject::Domain,
        origin: Origin::Process,
        scopes: &[],
        rows: &[],
        active_only: false,
    };
}

/// A numbered part of a key and the label that it becomes.
#[derive(Debug)]
pub(crate) struct Scope {
    /// The key up to and including the number, `<n>` for the first number of a key and `<m>` for the second.
    pub prefix: &'static str,
    /// The label.
    pub label: &'static str,
    /// The key whose value is the label's; without one, or where libvirt does not send it, the number itself is.
    pub named_by: Option<&'static str>,
}

/// One metric: which keys it comes from, and what it is called.
#[derive(Debug)]
pub(crate) struct Row {
    /// The keys of libvirt or of a background probe, numbers written as `<n>` and `<m>`; none if the exporter has the value from
    /// elsewhere.
    pub keys: &'static [&'static str],
    /// Whether the keys are a background probe's, though the group is one of libvirt's.
    pub of_probe: bool,
    /// The labels beyond those of the subject and of the numbers in the keys, in the order of the exposition.
    pub labels: &'static [&'static str],
    /// The full Prometheus name.
    pub name: &'static str,
    /// Counter, gauge, info or histogram.
    pub kind: Kind,
    /// The unit of the exported value.
    pub unit: Unit,
    /// What turns libvirt's value into that unit.
    pub scale: Scale,
    /// How the keys' values become samples.
    pub shape: Shape,
    /// The OpenTelemetry name.
    pub otel_name: &'static str,
    /// The OpenTelemetry attributes that the Prometheus name spells out.
    pub otel_attributes: Attributes,
    /// One sentence without a full stop; the keys are appended for the exposition.
    pub help: &'static str,
}

/// Constant OpenTelemetry attributes.
pub(crate) type Attributes = &'static [(&'static str, &'static str)];

/// The factor between libvirt's unit and the exported one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Exported as it is.
    One,
    /// Nanoseconds to seconds.
    Nano,
    /// Microseconds to seconds.
    Micro,
    /// Kilobytes to bytes.
    Kilo,
    /// Milliseconds to seconds.
    Milli,
    /// Percent to a ratio.
    Percent,
    /// KiB to bytes.
    Kibi,
    /// MiB to bytes.
    Mebi,
}

impl Scale {
    /// The name in `metrics --format json`: `none`, `nano`, `micro`, `milli`, `percent`, `kilo`, `kibi`, `mebi`.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::One => "none",
            Self::Nano => "nano",
            Self::Micro => "micro",
            Self::Kilo => "kilo",
            Self::Milli => "milli",
            Self::Percent => "percent",
            Self::Kibi => "kibi",
            Self::Mebi => "mebi",
        }
    }
}

/// How a row's keys become samples.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// The value is the sample.
    Number,
    /// As [`Shape::Number`], but zero means "never" and yields no sample.
    NonZero,
    /// As [`Shape::Number`], for the layers below the top image of a disk.
    BackingNumber,
    /// The number of layers below the top image of a disk.
    BackingLayers,
    /// One sample of 0 or 1 for each name; the value is the position of the current one.
    States {
        /// The label whose values are the names.
        label: &'static str,
        /// The names.
        names: &'static [&'static str],
    },
    /// One sample labelled `state` and `reason`, for the current ones. The rows of the reasons are in the order of
    /// the states.
    Reason {
        /// The names of the states.
        states: &'static [&'static str],
        /// For each state the names of its reasons.
        reasons: &'static [&'static [&'static str]],
    },
    /// A sample of 1: the values of the keys are those of the row's labels, in their order.
    Info,
    /// As [`Shape::Info`], for the layers below the top image of a disk.
    BackingInfo,
    /// Buckets: the keys are those of a bin's start and its count.
    Histogram {
        /// The key whose value is the sum of all observations, in the same unit as the starts.
        sum: Option<&'static str>,
    },
}

/// Unit and scale of a column, for the short constructors below.
pub(crate) type Measure = (Unit, Scale);
/// Nanoseconds in libvirt, seconds outside.
pub(crate) const NANOS: Measure = (Unit::Seconds, Scale::Nano);
/// Milliseconds in libvirt, seconds outside.
pub(crate) const MILLIS: Measure = (Unit::Seconds, Scale::Milli);
/// Percent in libvirt, a ratio outside.
pub(crate) const PERCENT: Measure = (Unit::Ratio, Scale::Percent);
/// Seconds on both sides.
pub(crate) const SECONDS: Measure = (Unit::Seconds, Scale::One);
/// KiB in libvirt, bytes outside.
pub(crate) const KIB: Measure = (Unit::Bytes, Scale::Kibi);
/// Bytes on both sides.
pub(crate) const BYTES: Measure = (Unit::Bytes, Scale::One);
/// Bytes per second on both sides.
pub(crate) const BYTES_PER_SECOND: Measure = (Unit::BytesPerSecond, Scale::One);
/// MiB/s in libvirt, bytes per second outside.
pub(crate) const MIB_PER_SECOND: Measure = (Unit::BytesPerSecond, Scale::Mebi);
/// Microseconds in libvirt, seconds outside.
pub(crate) const MICROS: Measure = (Unit::Seconds, Scale::Micro);
/// Kilobytes per second in libvirt, bytes per second outside.
pub(crate) const KB_PER_SECOND: Measure = (Unit::BytesPerSecond, Scale::Kilo);
/// Requests per second on both sides.
pub(crate) const REQUESTS_PER_SECOND: Measure = (Unit::RequestsPerSecond, Scale::One);
/// A bare number.
pub(crate) const NUMBER: Measure = (Unit::None, Scale::One);
/// No OpenTelemetry attribute beyond those of the labels.
pub(crate) const NONE: Attributes = &[];

/// A count of things, named in the singular.
pub(crate) const fn of(thing: &'static str) -> Measure {
    (Unit::Of(thing), Scale::One)
}

/// Keys of libvirt, numbers written as `<n>` and `<m>`.
pub(crate) type Keys = &'static [&'static str];
type Otel = (&'static str, Attributes);

impl Row {
    /// The keys, if they are libvirt's own.
    pub(crate) fn libvirt_keys(&self) -> Keys {
        let group = self.keys.first().and_then(|key| Group::of_key(key));
        if self.of_probe || group.is_some_and(|group| matches!(group.info().source, Source::Probe | Source::HostFiles))
        {
            &[]
        } else {
            self.keys
        }
    }

    /// A counter: one key, one sample.
    pub(crate) const fn counter(
        keys: Keys,
        name: &'static str,
        measure: Measure,
        otel: Otel,
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Counter, keys, name, measure, otel, help)
    }

    /// A gauge: one key, one sample.
    pub(crate) const fn gauge(
        keys: Keys,
        name: &'static str,
        measure: Measure,
        otel: Otel,
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Gauge, keys, name, measure, otel, help)
    }

    /// An info metric: the keys' values become the labels of the same position.
    pub(crate) const fn info(keys: Keys, labels: Keys, name: &'static str, otel: Otel, help: &'static str) -> Self {
        Self { labels, ..Self::new(Kind::Info, keys, name, NUMBER, otel, help).shaped(Shape::Info) }
    }

    /// A gauge that is always 1: the keys' values become the labels of the same position.
    pub(crate) const fn presence(keys: Keys, labels: Keys, name: &'static str, otel: Otel, help: &'static str) -> Self {
        Self { labels, ..Self::new(Kind::Gauge, keys, name, NUMBER, otel, help).shaped(Shape::Info) }
    }

    /// A row without a key: the exporter has the value from elsewhere.
    pub(crate) const fn without_key(
        kind: Kind,
        measure: Measure,
        name: &'static str,
        otel_name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { labels, ..Self::new(kind, &[], name, measure, (otel_name, NONE), help) }
    }

    /// The same row, with the keys of a background probe.
    pub(crate) const fn of_probe(self) -> Self {
        Self { of_probe: true, ..self }
    }

    /// The same row with another shape.
    pub(crate) const fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    const fn new(kind: Kind, keys: Keys, name: &'static str, measure: Measure, otel: Otel, help: &'static str) -> Self {
        let (unit, scale) = measure;
        let (otel_name, otel_attributes) = otel;
        Self {
            keys,
            of_probe: false,
            labels: &[],
            name,
            kind,
            unit,
            scale,
            shape: Shape::Number,
            otel_name,
            otel_attributes,
            help,
        }
    }

    /// A histogram of times in nanoseconds.
    pub(crate) const fn histogram(
        keys: Keys,
        sum: Option<&'static str>,
        name: &'static str,
        otel: Otel,
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Histogram, keys, name, NANOS, otel, help).shaped(Shape::Histogram { sum })
    }
}

/// A row without a key, and the table that it is in.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) row: Row,
    pub(crate) table: &'static Table,
}

/// A table of rows without keys, each a separate static for the code that fills it:
/// `TABLE: group, subject; NAME = kind, measure, "name", "otel.name", [labels], "help";`
macro_rules! table {
    (
        $(#[$doc:meta])*
        $table:ident: $group:expr, $subject:expr;
        $($id:ident = $kind:ident, $measure:expr, $name:literal, $otel:literal, $labels:expr, $help:literal;)+
    ) => {
        $(#[$doc])*
        pub(crate) static $table: $crate::tables::Table = $crate::tables::Table {
            group: $group,
            subject: $subject,
            origin: $crate::tables::Origin::Exporter,
            active_only: false,
            scopes: &[],
            rows: &[$($crate::tables::Row::without_key(
                $crate::tables::Kind::$kind, $measure, $name, $otel, &$labels, $help,
            )),+],
        };
        $(
            pub(crate) static $id: $crate::tables::Metric = $crate::tables::Metric {
                row: $crate::tables::Row::without_key(
                    $crate::tables::Kind::$kind, $measure, $name, $otel, &$labels, $help,
                ),
                table: &$table,
            };
        )+
    };
}
pub(super) use table;
