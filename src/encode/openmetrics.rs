//! OpenMetrics 1.0 through `prometheus-client`: a collector over the families.
//!
//! The crate appends unit, `_total` and `_info` to the names itself, escapes label values and checks nothing.

use std::cell::LazyCell;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::labels::Rendered;
use super::line::{write_created, write_histogram, write_line};
use crate::catalogue::{Families, Family, Kind, LabelSet, Meta, Sample, Value, float};

pub(super) fn encode(families: &Arc<Families>) -> String {
    // A hundred bytes a sample is what domains with ordinary names take.
    let mut out = String::with_capacity(families.series() * 128);
    let rendered = LazyCell::new(|| Rendered::new(&families.labels));
    let mut first = 0;
    let ours = |family: &Family| is_ours(families, family);
    for chunk in families.families.chunk_by(|a, b| ours(a) == ours(b)) {
        let range = first..first + chunk.len();
        first = range.end;
        if chunk.first().is_some_and(ours) {
            chunk.iter().for_each(|family| write_family(&mut out, families, &rendered, family));
            continue;
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposition { families: Arc::clone(families), range }));
        // Writing to a String cannot fail, and the collector returns no error of its own.
        let written = text::encode_registry(&mut out, &registry);
        debug_assert!(written.is_ok());
    }
    let ended = text::encode_eof(&mut out);
    debug_assert!(ended.is_ok());
    out
}

/// What the crate cannot write is written here: it insists on the sum of a histogram, which libvirt does not report of every
/// one, and has no series for when a counter began.
fn is_ours(families: &Families, family: &Family) -> bool {
    match family.meta.kind {
        Kind::Histogram => true,
        Kind::Counter => families.openmetrics_created,
        Kind::Gauge | Kind::Info | Kind::Unknown => false,
    }
}

/// A counter or a histogram.
fn write_family(out: &mut String, families: &Families, rendered: &Rendered<'_>, family: &Family) {
    let Meta { name: full, help, unit, kind, .. } = &*family.meta;
    let name = family.meta.family_name();
    for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind.as_str(), "\n"] {
        out.push_str(part);
    }
    for part in unit.suffix().map(|unit| ["# UNIT ", name, " ", unit, "\n"]).into_iter().flatten() {
        out.push_str(part);
    }
    for sample in &family.samples {
        match sample.value {
            Value::Histogram(number) => write_histogram(out, rendered, sample, name, &families.histograms[number]),
            ref value => write_line(out, rendered, sample, [full, ""], None, value),
        }
        if families.openmetrics_created
            && let Some(start) = families.start_of(family, sample)
        {
            write_created(out, rendered, sample, name, start);
        }
    }
}

/// Some of the families; the crate wants a collector that borrows nothing.
#[derive(Debug)]
struct Exposition {
    families: Arc<Families>,
    range: Range<usize>,
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rendered = Rendered::new(&self.families.labels);
        for family in &self.families.families[self.range.clone()] {
            let meta = &family.meta;
            let unit = meta.unit.suffix().map(|suffix| Unit::Other(suffix.to_owned()));
            let mut encoder =
                encoder.encode_descriptor(bare_name(meta), &meta.help, unit.as_ref(), metric_type(meta.kind))?;
            for sample in &family.samples {
                encode_sample(meta.kind, sample, &Labels { rendered: &rendered, sample }, &mut encoder)?;
            }
        }
        Ok(())
    }
}

fn encode_sample(kind: Kind, sample: &Sample, labels: &Labels<'_>, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    if kind == Kind::Info {
        return encoder.encode_info(labels);
    }
    if (sample.subject, sample.labels) == (LabelSet::EMPTY, LabelSet::EMPTY) {
        return encode_value(kind, sample.value, encoder);
    }
    encode_value(kind, sample.value, &mut encoder.encode_family(labels)?)
}

fn encode_value(kind: Kind, value: Value, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Unsigned(value)) => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
        (Kind::Counter, value) => encoder.encode_counter::<NoLabelSet, _, f64>(&float(value), None),
        (_, Value::Unsigned(value)) => encoder.encode_gauge(&value),
        (_, Value::Signed(value)) => encoder.encode_gauge(&value),
        (_, value) => encoder.encode_gauge(&float(value)),
    }
}

/// The name as the crate wants it: what it appends itself is taken off.
fn bare_name(meta: &Meta) -> &str {
    let name = meta.family_name();
    match meta.unit.suffix() {
        Some(unit) => name.strip_suffix(unit).map_or(name, |rest| rest.trim_end_matches('_')),
        None => name,
    }
}

fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Info => MetricType::Info,
        Kind::Histogram => MetricType::Histogram,
        Kind::Unknown => MetricType::Unknown,
    }
}

/// The labels of a sample. The crate takes a label's name as it is and escapes its value, so everything up to the last
/// name is handed to it as one name that has been rendered before: this halves the time that a sample takes.
struct Labels<'a> {
    rendered: &'a Rendered<'a>,
    sample: &'a Sample,
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Sample { subject, labels, .. } = *self.sample;
        let (before, last) = match self.rendered.split_last(labels) {
            Some(last) => (self.rendered.get(subject), Some(last)),
            None => ("", self.rendered.split_last(subject)),
        };
        let Some((head, value)) = last else { return Ok(()) };
        let mut label = encoder.encode_label();
        let mut key = label.encode_label_key()?;
        if !before.is_empty() {
            key.write_str(before)?;
            key.write_str(",")?;
        }
        key.write_str(head)?;
        let mut encoder = key.encode_label_value()?;
        encoder.write_str(value)?;
        encoder.finish()
    }
}
