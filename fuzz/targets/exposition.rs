//! Readers of the three formats that share nothing with the encoders: each gives the series and their values.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

/// A series: its name and its labels in order of their names.
type Series = (String, Vec<(String, String)>);
/// The values of all series, NaN as one and the same.
pub(crate) type Samples = BTreeMap<Series, u64>;

fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn insert(samples: &mut Samples, name: String, mut labels: Vec<(String, String)>, value: f64) {
    labels.sort();
    let names: BTreeSet<&String> = labels.iter().map(|label| &label.0).collect();
    assert_eq!(names.len(), labels.len(), "a label twice: {name} {labels:?}");
    for (label, text) in &mut labels {
        if label == "le" {
            *text = text.parse::<f64>().expect("a bound").to_string();
        }
    }
    let twice = samples.insert((name.clone(), labels.clone()), bits(value));
    assert!(twice.is_none(), "a series twice: {name} {labels:?}");
}

/// Prometheus' text format, or OpenMetrics, without the start timestamps.
pub(crate) fn read_text(text: &str) -> Samples {
    let mut samples = Samples::new();
    let mut types = BTreeSet::new();
    for line in text.split_terminator('\n') {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            match words.next() {
                Some("TYPE") => assert!(types.insert(words.next().unwrap().to_owned()), "a type twice: {line}"),
                Some("HELP" | "UNIT" | "EOF") => {}
                _ => panic!("no line of the format: {line:?}"),
            }
            continue;
        }
        let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no sample: {line:?}"));
        let (name, mut rest) = line.split_at(end);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        assert!(!name.is_empty() && name.bytes().all(legal), "{line:?}");
        let mut labels = Vec::new();
        if rest.starts_with('{') {
            loop {
                let (label, value) = rest[1..].split_once("=\"").unwrap_or_else(|| panic!("no label: {line:?}"));
                assert!(!label.is_empty() && label.bytes().all(legal), "{line:?}");
                let (value, after) = unescape(value);
                labels.push((label.to_owned(), value));
                rest = after;
                if !rest.starts_with(',') {
                    rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("no end of labels: {line:?}"));
                    break;
                }
            }
        }
        let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
        if !name.ends_with("_created") {
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
            insert(&mut samples, name.to_owned(), labels, value);
        }
    }
    samples
}

/// A label's value up to its closing quote, and what follows.
fn unescape(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &text[place + 1..]),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                other => panic!("no escape: {other:?}"),
            }),
            other => value.push(other),
        }
    }
    panic!("a label without an end: {text:?}")
}

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
}

/// Prometheus' protocol buffers, histograms as the text formats write them.
pub(crate) fn read_protobuf(mut bytes: &[u8]) -> Samples {
    let mut samples = Samples::new();
    while !bytes.is_empty() {
        let family = Family::decode_length_delimited(&mut bytes).expect("a family");
        for metric in family.metrics {
            let labels: Vec<_> = metric.labels.into_iter().map(|label| (label.name, label.value)).collect();
            // The number must be where the type says that it is.
            let number = match family.kind {
                0 => metric.counter,
                1 => metric.gauge,
                3 => metric.untyped,
                _ => None,
            };
            if let Some(number) = number {
                insert(&mut samples, family.name.clone(), labels, number.value);
            } else {
                read_histogram(&mut samples, &family.name, &labels, metric.histogram.expect("a value"));
            }
        }
    }
    samples
}

fn read_histogram(samples: &mut Samples, name: &str, labels: &[(String, String)], histogram: Histogram) {
    #[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "as a reader of text does it")]
    let float = |count: u64| count as f64;
    for bucket in histogram.buckets {
        let mut labels = labels.to_vec();
        labels.push(("le".to_owned(), bucket.bound.to_string()));
        insert(samples, format!("{name}_bucket"), labels, float(bucket.count));
    }
    insert(samples, format!("{name}_sum"), labels.to_vec(), histogram.sum);
    insert(samples, format!("{name}_count"), labels.to_vec(), float(histogram.count));
}
