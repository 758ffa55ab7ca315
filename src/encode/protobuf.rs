//! Prometheus' protocol buffers: `io.prometheus.client.MetricFamily` messages, each after its length.
//!
//! They are written field by field: `prometheus-client` has no place for start timestamps, generating messages from their
//! `.proto` would need a compiler at build time, and building them takes six times as long (benches/README.md).

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use super::wire;
use crate::catalogue::{Families, Family, Histogram, Kind, LabelSet, LabelTable, Sample, Value, float};

/// The fields of `MetricFamily`.
mod family {
    pub(super) const NAME: u32 = 1;
    pub(super) const HELP: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const METRIC: u32 = 4;
    pub(super) const UNIT: u32 = 5;
}

/// The fields of `Metric` that hold a value, and the `MetricType` of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Gauge,
    Counter,
    Untyped,
    Histogram,
}

impl Field {
    /// The format knows no info metric: it is a gauge that is always 1.
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter,
            Kind::Gauge | Kind::Info => Self::Gauge,
            Kind::Histogram => Self::Histogram,
            Kind::Unknown => Self::Untyped,
        }
    }

    fn tag(self) -> u32 {
        match self {
            Self::Gauge => 2,
            Self::Counter => 3,
            Self::Untyped => 5,
            Self::Histogram => 7,
        }
    }

    fn metric_type(self) -> u64 {
        match self {
            Self::Counter => 0,
            Self::Gauge => 1,
            Self::Untyped => 3,
            Self::Histogram => 4,
        }
    }
}

pub(super) fn encode(families: &Families) -> Vec<u8> {
    let labels = Blocks::new(&families.labels);
    let mut out = Vec::with_capacity(families.series() * super::SERIES_BYTES);
    let (mut metrics, mut value, mut start, mut tail) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for family in &families.families {
        metrics.clear();
        for (position, sample) in family.samples.iter().enumerate() {
            start.clear();
            if let Some(at) = families.known_start_of(family, position) {
                write_timestamp(&mut start, at);
            }
            value.clear();
            write_value(&mut value, families, family, sample, &start);
            let of_sample = [sample.subject, sample.labels].map(|set| labels.get(set));
            wire::delimited(&mut metrics, family::METRIC, of_sample[0].len() + of_sample[1].len() + value.len());
            for part in [of_sample[0], of_sample[1], &value] {
                metrics.extend_from_slice(part);
            }
        }
        let mut head = Vec::new();
        wire::bytes(&mut head, family::NAME, family.meta.name.as_bytes());
        wire::bytes(&mut head, family::HELP, family.meta.help.as_bytes());
        wire::present_varint(&mut head, family::TYPE, Field::of(family.meta.kind).metric_type());
        tail.clear();
        if let Some(unit) = family.meta.unit.suffix() {
            wire::bytes(&mut tail, family::UNIT, unit.as_bytes());
        }
        wire::length(&mut out, head.len() + metrics.len() + tail.len());
        for part in [&head, &metrics, &tail] {
            out.extend_from_slice(part);
        }
    }
    out
}

/// Every label set as the `LabelPair`s of a `Metric`, encoded once.
struct Blocks {
    bytes: Vec<u8>,
    sets: Vec<Range<usize>>,
}

impl Blocks {
    fn new(labels: &LabelTable) -> Self {
        let mut bytes = Vec::new();
        let encode = |set| {
            let start = bytes.len();
            for (name, value) in labels.get(set) {
                wire::delimited(&mut bytes, 1, wire::delimited_len(name.len()) + wire::delimited_len(value.len()));
                wire::bytes(&mut bytes, 1, name.as_bytes());
                wire::bytes(&mut bytes, 2, value.as_bytes());
            }
            start..bytes.len()
        };
        let sets = labels.sets().map(encode).collect();
        Self { bytes, sets }
    }

    fn get(&self, set: LabelSet) -> &[u8] {
        &self.bytes[self.sets[set.index()].clone()]
    }
}

/// The field of `Metric` that has the value; `start` is an encoded timestamp, or empty.
fn write_value(out: &mut Vec<u8>, families: &Families, family: &Family, sample: &Sample, start: &[u8]) {
    let field = Field::of(family.meta.kind);
    if let Value::Histogram(number) = sample.value {
        return wire::bytes(out, field.tag(), &buckets(&families.histograms[number], start));
    }
    // A counter, a gauge and an untyped value are one double, of nine bytes with its key.
    let of_start = if start.is_empty() { 0 } else { wire::delimited_len(start.len()) };
    wire::delimited(out, field.tag(), 9 + of_start);
    wire::fixed(out, 1, float(sample.value).to_le_bytes());
    if !start.is_empty() {
        wire::bytes(out, 3, start);
    }
}

fn buckets(histogram: &Histogram, start: &[u8]) -> Vec<u8> {
    let (mut out, mut bucket) = (Vec::new(), Vec::new());
    wire::present_varint(&mut out, 1, histogram.count());
    // Readers take a missing sum for zero, which it is not.
    wire::fixed(&mut out, 2, histogram.sum.unwrap_or(f64::NAN).to_le_bytes());
    for (bound, count) in &histogram.buckets {
        bucket.clear();
        wire::present_varint(&mut bucket, 1, *count);
        wire::fixed(&mut bucket, 2, bound.to_le_bytes());
        wire::bytes(&mut out, 3, &bucket);
    }
    if !start.is_empty() {
        wire::bytes(&mut out, 15, start);
    }
    out
}

/// A `google.protobuf.Timestamp`; whoever has a clock before 1970 gets none.
fn write_timestamp(out: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    wire::varint(out, 1, since.as_secs());
    wire::varint(out, 2, since.subsec_nanos().into());
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;
    use std::time::Duration;

    use prost::Message;

    use super::*;
    use crate::catalogue::{Meta, Origin, Started, Unit};

    #[derive(Clone, PartialEq, Message)]
    struct MetricFamily {
        #[prost(string, optional, tag = "1")]
        name: Option<String>,
        #[prost(string, optional, tag = "2")]
        help: Option<String>,
        #[prost(enumeration = "MetricType", optional, tag = "3")]
        r#type: Option<i32>,
        #[prost(message, repeated, tag = "4")]
        metric: Vec<Metric>,
        #[prost(string, optional, tag = "5")]
        unit: Option<String>,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    enum MetricType {
        Counter = 0,
        Gauge = 1,
        Untyped = 3,
        Histogram = 4,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Metric {
        #[prost(message, repeated, tag = "1")]
        label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        gauge: Option<Number>,
        #[prost(message, optional, tag = "3")]
        counter: Option<Counter>,
        #[prost(message, optional, tag = "5")]
        untyped: Option<Number>,
        #[prost(message, optional, tag = "7")]
        histogram: Option<Buckets>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct LabelPair {
        #[prost(string, optional, tag = "1")]
        name: Option<String>,
        #[prost(string, optional, tag = "2")]
        value: Option<String>,
    }

    /// `Gauge` and `Untyped`, which differ by name alone.
    #[derive(Clone, PartialEq, Message)]
    struct Number {
        #[prost(double, optional, tag = "1")]
        value: Option<f64>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Counter {
        #[prost(double, optional, tag = "1")]
        value: Option<f64>,
        #[prost(message, optional, tag = "3")]
        start_timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Buckets {
        #[prost(uint64, optional, tag = "1")]
        sample_count: Option<u64>,
        #[prost(double, optional, tag = "2")]
        sample_sum: Option<f64>,
        #[prost(message, repeated, tag = "3")]
        bucket: Vec<Bucket>,
        #[prost(message, optional, tag = "15")]
        start_timestamp: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Bucket {
        #[prost(uint64, optional, tag = "1")]
        cumulative_count: Option<u64>,
        #[prost(double, optional, tag = "2")]
        upper_bound: Option<f64>,
    }

    /// `google.protobuf.Timestamp`.
    #[derive(Clone, Copy, PartialEq, Message)]
    struct Timestamp {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }

    fn family(name: &'static str, kind: Kind, unit: Unit, sample: Sample) -> Family {
        let meta = Meta {
            name: Cow::Borrowed(name),
            help: Cow::Borrowed("Help"),
            kind,
            unit,
            otel_name: Cow::Borrowed("x"),
            otel_attributes: &[],
        };
        Family::new(Arc::new(meta), Origin::Process, vec![sample])
    }

    #[test]
    fn each_kind_is_its_message() {
        let mut families = Families::default();
        let subject = families.labels.push([("domain", "a\"b\n")]);
        let labels = families.labels.push([("device", "vda")]);
        families.histograms.push(Histogram { buckets: vec![(0.5, 2), (f64::INFINITY, 3)], sum: Some(1.5) });
        let [run, first_seen] = [1500, 2500].map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
        let started = Started { process: Some(run), exporter: Some(first_seen), ..Started::default() };
        families.started.insert(subject, started);
        let sample = |value| Sample { subject, labels, value };
        families.families = vec![
            family("a_seconds_total", Kind::Counter, Unit::Seconds, sample(Value::Float(0.25))),
            family("b", Kind::Gauge, Unit::None, sample(Value::Signed(-1))),
            family("c_info", Kind::Info, Unit::None, sample(Value::Unsigned(1))),
            family("d", Kind::Unknown, Unit::None, sample(Value::Unsigned(u64::MAX))),
            family("e", Kind::Histogram, Unit::None, sample(Value::Histogram(0))),
            family("f_total", Kind::Counter, Unit::None, sample(Value::Unsigned(1))),
            family("g_total", Kind::Counter, Unit::None, Sample { subject: labels, ..sample(Value::Unsigned(1)) }),
        ];
        families.families[5].origin = Origin::Exporter;
        let bytes = encode(&families);
        let mut rest = &*bytes;
        let mut read = Vec::new();
        while !rest.is_empty() {
            read.push(MetricFamily::decode_length_delimited(&mut rest).expect("a family"));
        }
        let names: Vec<_> = read.iter().map(|family| family.name.clone().expect("a name")).collect();
        assert_eq!(names, ["a_seconds_total", "b", "c_info", "d", "e", "f_total", "g_total"]);
        let types: Vec<_> = read.iter().map(|family| family.r#type.expect("a type")).collect();
        assert_eq!(types, [0, 1, 1, 3, 4, 0, 0]);
        assert_eq!(read[0].unit.as_deref(), Some("seconds"));
        let metrics: Vec<_> = read.iter().map(|family| family.metric[0].clone()).collect();
        let label = &metrics[0].label;
        assert_eq!(label.len(), 2);
        assert_eq!(label[0].value.as_deref(), Some("a\"b\n"));
        let start = Some(Timestamp { seconds: 1, nanos: 500_000_000 });
        assert_eq!(metrics[0].counter, Some(Counter { value: Some(0.25), start_timestamp: start }));
        assert_eq!(metrics[1].gauge, Some(Number { value: Some(-1.0) }));
        assert_eq!(metrics[2].gauge, Some(Number { value: Some(1.0) }));
        assert_eq!(metrics[3].untyped, Some(Number { value: Some(1.844_674_407_370_955_2e19) }));
        let histogram = metrics[4].histogram.clone().expect("a histogram");
        assert_eq!((histogram.sample_count, histogram.sample_sum), (Some(3), Some(1.5)));
        assert_eq!(histogram.bucket[1].upper_bound, Some(f64::INFINITY));
        assert_eq!(histogram.start_timestamp, start);
        let counted = Some(Timestamp { seconds: 2, nanos: 500_000_000 });
        assert_eq!(metrics[5].counter, Some(Counter { value: Some(1.0), start_timestamp: counted }));
        assert_eq!(metrics[6].counter, Some(Counter { value: Some(1.0), start_timestamp: None }));
    }
}
