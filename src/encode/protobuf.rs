//! Prometheus' protocol buffers: `io.prometheus.client.MetricFamily` messages, each after its length.
//!
//! The messages are written out here, as far as they are used: `prometheus-client` has no place for start timestamps, and
//! generating them from their `.proto` would need a compiler at build time. `string` and `bytes` are the same on the wire, so
//! that names and labels are [`Bytes`], which all samples of a label set share.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;

use crate::catalogue::{Families, Family, Histogram, Kind, LabelSet, Sample, Value, float};

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(bytes = "bytes", optional, tag = "1")]
    name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    help: Option<Bytes>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    unit: Option<Bytes>,
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
    #[prost(bytes = "bytes", optional, tag = "1")]
    name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
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

pub(super) fn encode(families: &Arc<Families>) -> Vec<u8> {
    let labels: Vec<Vec<LabelPair>> = families.labels.sets().map(|set| pairs(families, set)).collect();
    let mut out = Vec::with_capacity(families.series() * 96);
    for family in &families.families {
        let message = MetricFamily {
            name: Some(Bytes::copy_from_slice(family.meta.name.as_bytes())),
            help: Some(Bytes::copy_from_slice(family.meta.help.as_bytes())),
            r#type: Some(metric_type(family).into()),
            metric: family.samples.iter().map(|sample| metric(families, &labels, family, sample)).collect(),
            unit: family.meta.unit.suffix().map(|unit| Bytes::from_static(unit.as_bytes())),
        };
        // A Vec grows as it is written to, which is the only way in which this can fail.
        let written = message.encode_length_delimited(&mut out);
        debug_assert!(written.is_ok());
    }
    out
}

fn pairs(families: &Families, set: LabelSet) -> Vec<LabelPair> {
    let pair = |(name, value): (&str, &str)| LabelPair {
        name: Some(Bytes::copy_from_slice(name.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    };
    families.labels.get(set).map(pair).collect()
}

/// The format knows no info metric: it is a gauge that is always 1.
fn metric_type(family: &Family) -> MetricType {
    match family.meta.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge | Kind::Info => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Unknown => MetricType::Untyped,
    }
}

fn metric(families: &Families, labels: &[Vec<LabelPair>], family: &Family, sample: &Sample) -> Metric {
    let start_timestamp = families.start_of(family, sample).and_then(timestamp);
    let label = [sample.subject, sample.labels].iter().flat_map(|set| labels[set.index()].iter().cloned()).collect();
    let mut metric = Metric { label, ..Metric::default() };
    match (family.meta.kind, sample.value) {
        (_, Value::Histogram(number)) => {
            metric.histogram = Some(buckets(&families.histograms[number], start_timestamp));
        }
        (Kind::Counter, value) => metric.counter = Some(Counter { value: Some(float(value)), start_timestamp }),
        (Kind::Unknown, value) => metric.untyped = Some(Number { value: Some(float(value)) }),
        (_, value) => metric.gauge = Some(Number { value: Some(float(value)) }),
    }
    metric
}

fn buckets(histogram: &Histogram, start_timestamp: Option<Timestamp>) -> Buckets {
    let bucket = |&(bound, count): &(f64, u64)| Bucket { cumulative_count: Some(count), upper_bound: Some(bound) };
    Buckets {
        sample_count: Some(histogram.count()),
        // Readers take a missing sum for zero, which it is not.
        sample_sum: Some(histogram.sum.unwrap_or(f64::NAN)),
        bucket: histogram.buckets.iter().map(bucket).collect(),
        start_timestamp,
    }
}

fn timestamp(at: SystemTime) -> Option<Timestamp> {
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp { seconds: since.as_secs().try_into().ok()?, nanos: since.subsec_nanos().try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::time::Duration;

    use super::*;
    use crate::catalogue::{Meta, Origin, Started, Unit};

    fn family(name: &'static str, kind: Kind, unit: Unit, sample: Sample) -> Family {
        let meta = Meta {
            name: Cow::Borrowed(name),
            help: Cow::Borrowed("Help"),
            kind,
            unit,
            otel_name: Cow::Borrowed("x"),
            otel_attributes: &[],
        };
        Family { meta: Arc::new(meta), origin: Origin::Run, samples: vec![sample] }
    }

    #[test]
    fn each_kind_is_its_message() {
        let mut families = Families::default();
        let subject = families.labels.push([("domain", "a\"b\n")]);
        let labels = families.labels.push([("device", "vda")]);
        families.histograms.push(Histogram { buckets: vec![(0.5, 2), (f64::INFINITY, 3)], sum: Some(1.5) });
        let [run, first_seen] = [1500, 2500].map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
        families.started.insert(subject, Started { run: Some(run), first_seen });
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
        families.families[5].origin = Origin::FirstSeen;
        let bytes = encode(&Arc::new(families));
        let mut rest = &*bytes;
        let mut read = Vec::new();
        while !rest.is_empty() {
            read.push(MetricFamily::decode_length_delimited(&mut rest).expect("a family"));
        }
        let names: Vec<_> = read.iter().map(|family| family.name.clone().expect("a name")).collect();
        assert_eq!(names, ["a_seconds_total", "b", "c_info", "d", "e", "f_total", "g_total"]);
        let types: Vec<_> = read.iter().map(|family| family.r#type.expect("a type")).collect();
        assert_eq!(types, [0, 1, 1, 3, 4, 0, 0]);
        assert_eq!(read[0].unit.as_deref(), Some(&b"seconds"[..]));
        let metrics: Vec<_> = read.iter().map(|family| family.metric[0].clone()).collect();
        let label = &metrics[0].label;
        assert_eq!(label.len(), 2);
        assert_eq!(label[0].value.as_deref(), Some(&b"a\"b\n"[..]));
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
