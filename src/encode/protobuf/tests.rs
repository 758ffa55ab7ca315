use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use super::*;
use crate::encode::Format;
use crate::metrics::{Origin, Sample, Started, Subject, Unit};

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
    #[prost(int64, optional, tag = "6")]
    timestamp_ms: Option<i64>,
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
    let subject = families.push_subject(Subject::Domain, [("domain", "a\"b\n")]);
    let labels = families.labels.push([("device", "vda")]);
    families.histograms.push(Histogram { buckets: vec![(0.5, 2), (f64::INFINITY, 3)], sum: Some(1.5) });
    let [run, first_seen] = [1500, 2500].map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
    let started = Started { process: Some(run), exporter: Some(first_seen), ..Started::default() };
    families.subjects.get_mut(subject).started = Some(started);
    let unknown = families.subjects.push(Subject::Domain, labels);
    let sample = |value| Sample::new(subject, labels, value);
    families.families = vec![
        family("a_seconds_total", Kind::Counter, Unit::Seconds, sample(Value::Float(0.25))),
        family("b", Kind::Gauge, Unit::None, sample(Value::Signed(-1))),
        family("c_info", Kind::Info, Unit::None, sample(Value::Unsigned(1))),
        family("d", Kind::Unknown, Unit::None, sample(Value::Unsigned(u64::MAX))),
        family("e", Kind::Histogram, Unit::None, sample(Value::Histogram(0))),
        family("f_total", Kind::Counter, Unit::None, sample(Value::Unsigned(1))),
        family("g_total", Kind::Counter, Unit::None, Sample::new(unknown, labels, Value::Unsigned(1))),
    ];
    families.families[5].origin = Origin::Exporter;
    let bytes = Format::Protobuf.encode(&families);
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

/// The series that Prometheus makes of a message, as the text formats write them.
fn series(family: &MetricFamily) -> Vec<String> {
    let name = family.name.as_deref().expect("a name");
    let of_metric = |metric: &Metric| {
        let mut pairs: Vec<_> = metric.label.iter().map(|pair| format!("{}={:?}", pair.name(), pair.value())).collect();
        let Some(histogram) = &metric.histogram else { return vec![format!("{name}{{{}}}", pairs.join(","))] };
        let plain = pairs.join(",");
        let mut all: Vec<String> = ["sum", "count"].map(|suffix| format!("{name}_{suffix}{{{plain}}}")).into();
        for bucket in &histogram.bucket {
            let mut bound = String::new();
            write_bound(&mut bound, bucket.upper_bound());
            pairs.push(format!("le={bound:?}"));
            all.push(format!("{name}_bucket{{{}}}", pairs.join(",")));
            pairs.pop();
        }
        all
    };
    family.metric.iter().flat_map(of_metric).collect()
}

#[test]
fn a_histogram_without_a_sum_has_the_series_of_the_text_formats() {
    let mut families = Families::default();
    let subject = families.push_subject(Subject::Domain, [("domain", "a")]);
    let [vda, vdb] = ["vda", "vdb"].map(|device| families.labels.push([("device", device)]));
    let buckets = vec![(1e-5, 1), (1.0, 2), (2e6, 2), (f64::INFINITY, 3)];
    families.histograms.push(Histogram { buckets: buckets.clone(), sum: None });
    families.histograms.push(Histogram { buckets, sum: Some(1.5) });
    let sample = |labels, number| Sample::new(subject, labels, Value::Histogram(number));
    let mut family = family("e_seconds", Kind::Histogram, Unit::Seconds, sample(vda, 0));
    family.samples.push(sample(vdb, 1));
    families.families = vec![family];
    let bytes = Format::Protobuf.encode(&families);
    let (mut rest, mut read) = (&*bytes, Vec::new());
    while !rest.is_empty() {
        read.push(MetricFamily::decode_length_delimited(&mut rest).expect("a family"));
    }
    let mut found: Vec<String> = read.iter().flat_map(series).collect();
    let text = String::from_utf8(Format::Text.encode(&families)).expect("UTF-8");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut expected: Vec<String> = lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(found.len(), families.series());
    let units: BTreeMap<_, _> = read.iter().map(|family| (family.name(), family.unit.as_deref())).collect();
    assert_eq!(
        units,
        BTreeMap::from([("e_seconds", Some("seconds")), ("e_seconds_bucket", None)]),
        "as Prometheus wants"
    );
    let counters = &read.iter().find(|family| family.name() == "e_seconds_bucket").expect("a family").metric;
    let counts: Vec<_> = counters.iter().filter_map(|metric| metric.counter.as_ref()?.value).collect();
    assert_eq!(counts, [1.0, 2.0, 2.0, 3.0]);
}
