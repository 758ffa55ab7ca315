//! Prometheus' protocol buffers: `io.prometheus.client.MetricFamily` messages, each after its length.
//!
//! They are written field by field: `prometheus-client` has no place for start timestamps, generating messages from their
//! `.proto` would need a compiler at build time, and building them takes six times as long (benches/README.md).

use std::time::{SystemTime, UNIX_EPOCH};

use super::labels::Ends;
use super::line::write_bound;
use super::wire;
use crate::metrics::{Families, Family, Histogram, Kind, LabelSet, LabelTable, Meta, Value, float};

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

/// Writes families, and keeps its buffers from one to the next.
#[derive(Default)]
pub(super) struct Writer {
    metrics: Vec<u8>,
    buckets: Vec<u8>,
    value: Vec<u8>,
    start: Vec<u8>,
}

impl Writer {
    /// Writes the messages of a family.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, labels: &Blocks, families: &Families, family: &Family) {
        let Self { metrics, buckets, value, start } = self;
        metrics.clear();
        buckets.clear();
        for (position, sample) in family.samples.iter().enumerate() {
            start.clear();
            if let Some(at) = families.known_start_of(family, position) {
                write_timestamp(start, at);
            }
            let of_sample = families.labels_of(sample).map(|set| labels.get(set));
            value.clear();
            match sample.value() {
                Value::Histogram(number) => {
                    let histogram = &families.histograms[number];
                    let Some(sum) = histogram.sum else {
                        write_buckets(buckets, histogram, of_sample, start);
                        continue;
                    };
                    write_histogram(value, histogram, sum, start);
                }
                number => write_number(value, Field::of(family.meta.kind), float(number), start),
            }
            if let Some(at) = families.timestamp_of(family, sample) {
                let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                wire::varint(value, 6, u64::try_from(since.as_millis()).unwrap_or_default());
            }
            write_metric(metrics, [of_sample[0], of_sample[1], value]);
        }
        let Meta { name, kind, .. } = &*family.meta;
        if !metrics.is_empty() {
            write_family(out, &family.meta, name, Field::of(*kind), metrics);
        }
        if !buckets.is_empty() {
            write_family(out, &family.meta, &format!("{name}_bucket"), Field::Counter, buckets);
        }
    }
}

/// A `MetricFamily` around its metrics.
fn write_family(out: &mut Vec<u8>, meta: &Meta, name: &str, field: Field, metrics: &[u8]) {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    wire::bytes(&mut head, family::NAME, name.as_bytes());
    wire::bytes(&mut head, family::HELP, meta.help.as_bytes());
    wire::present_varint(&mut head, family::TYPE, field.metric_type());
    // Prometheus refuses a whole scrape that has a unit which its metric does not end in.
    let stem = name.strip_suffix("_total").unwrap_or(name);
    if let Some(unit) = meta.unit.suffix().filter(|unit| stem.ends_with(unit)) {
        wire::bytes(&mut tail, family::UNIT, unit.as_bytes());
    }
    wire::length(out, head.len() + metrics.len() + tail.len());
    for part in [&head, metrics, &tail] {
        out.extend_from_slice(part);
    }
}

/// A `Metric` of its labels and its value.
fn write_metric(out: &mut Vec<u8>, parts: [&[u8]; 3]) {
    wire::delimited(out, family::METRIC, parts.iter().map(|part| part.len()).sum());
    parts.into_iter().for_each(|part| out.extend_from_slice(part));
}

/// Every label set as the `LabelPair`s of a `Metric`, encoded once.
#[derive(Debug)]
pub(super) struct Blocks {
    bytes: Vec<u8>,
    sets: Ends,
}

impl Blocks {
    pub(super) fn new(labels: &LabelTable) -> Self {
        let (mut bytes, mut sets) = (Vec::new(), Ends::of(labels));
        for set in labels.sets() {
            labels.get(set).for_each(|(name, value)| write_label(&mut bytes, name, value));
            sets.push(bytes.len());
        }
        Self { bytes, sets }
    }

    /// How many bytes of memory it fills.
    pub(super) fn memory(&self) -> usize {
        self.bytes.len() + self.sets.memory()
    }

    fn get(&self, set: LabelSet) -> &[u8] {
        &self.bytes[self.sets.range(set)]
    }
}

/// A `LabelPair`.
fn write_label(out: &mut Vec<u8>, name: &str, value: &str) {
    wire::delimited(out, 1, wire::delimited_len(name.len()) + wire::delimited_len(value.len()));
    wire::bytes(out, 1, name.as_bytes());
    wire::bytes(out, 2, value.as_bytes());
}

/// The buckets of a histogram without a sum, each as a counter, which is what the text formats say of it. Of a `Histogram`
/// Prometheus makes series for sum and count in any case.
fn write_buckets(out: &mut Vec<u8>, histogram: &Histogram, labels: [&[u8]; 2], start: &[u8]) {
    let (mut rest, mut bound) = (Vec::new(), String::new());
    for (upper, count) in &histogram.buckets {
        rest.clear();
        bound.clear();
        write_bound(&mut bound, *upper);
        write_label(&mut rest, "le", &bound);
        write_number(&mut rest, Field::Counter, float(Value::Unsigned(*count)), start);
        write_metric(out, [labels[0], labels[1], &rest]);
    }
}

/// The field of `Metric` with a counter, a gauge or an untyped value, which are one double of nine bytes with its key;
/// `start` is an encoded timestamp, or empty.
fn write_number(out: &mut Vec<u8>, field: Field, value: f64, start: &[u8]) {
    let of_start = if start.is_empty() { 0 } else { wire::delimited_len(start.len()) };
    wire::delimited(out, field.tag(), 9 + of_start);
    wire::fixed(out, 1, value.to_le_bytes());
    if !start.is_empty() {
        wire::bytes(out, 3, start);
    }
}

/// Likewise with a histogram.
fn write_histogram(out: &mut Vec<u8>, histogram: &Histogram, sum: f64, start: &[u8]) {
    let (mut message, mut bucket) = (Vec::new(), Vec::new());
    wire::present_varint(&mut message, 1, histogram.count());
    wire::fixed(&mut message, 2, sum.to_le_bytes());
    for (bound, count) in &histogram.buckets {
        bucket.clear();
        wire::present_varint(&mut bucket, 1, *count);
        wire::fixed(&mut bucket, 2, bound.to_le_bytes());
        wire::bytes(&mut message, 3, &bucket);
    }
    if !start.is_empty() {
        wire::bytes(&mut message, 15, start);
    }
    wire::bytes(out, Field::Histogram.tag(), &message);
}

/// A `google.protobuf.Timestamp`; a clock before 1970 yields none.
fn write_timestamp(out: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    wire::varint(out, 1, since.as_secs());
    wire::varint(out, 2, since.subsec_nanos().into());
}

#[cfg(test)]
mod tests;
