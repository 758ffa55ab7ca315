//! OpenMetrics 1.0 through `prometheus-client`: one collector over the families.
//!
//! The crate appends unit, `_total` and `_info` to the names itself, escapes label values and checks nothing.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::labels::Rendered;
use crate::catalogue::{Families, Kind, LabelSet, Meta, Sample, Value, float};

pub(super) fn encode(families: &Arc<Families>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(Arc::clone(families))));
    // A hundred bytes a sample is what domains with ordinary names take.
    let mut out = String::with_capacity(families.series() * 128);
    // Writing to a String cannot fail, and the collector returns no error of its own.
    let written = text::encode(&mut out, &registry);
    debug_assert!(written.is_ok());
    out
}

#[derive(Debug)]
struct Exposition(Arc<Families>);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rendered = Rendered::new(&self.0.labels);
        for family in &self.0.families {
            let meta = &family.meta;
            let unit = meta.unit.suffix().map(|suffix| Unit::Other(suffix.to_owned()));
            let mut encoder =
                encoder.encode_descriptor(bare_name(meta), &meta.help, unit.as_ref(), metric_type(meta.kind))?;
            for sample in &family.samples {
                let labels = Labels { rendered: &rendered, sample };
                self.encode_sample(meta.kind, sample, &labels, &mut encoder)?;
            }
        }
        Ok(())
    }
}

impl Exposition {
    fn encode_sample(
        &self,
        kind: Kind,
        sample: &Sample,
        labels: &Labels<'_>,
        encoder: &mut MetricEncoder<'_>,
    ) -> fmt::Result {
        if kind == Kind::Info {
            return encoder.encode_info(labels);
        }
        if (sample.subject, sample.labels) == (LabelSet::EMPTY, LabelSet::EMPTY) {
            return self.encode_value(kind, sample.value, encoder);
        }
        self.encode_value(kind, sample.value, &mut encoder.encode_family(labels)?)
    }

    fn encode_value(&self, kind: Kind, value: Value, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match (kind, value) {
            (Kind::Counter, Value::Unsigned(value)) => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
            (Kind::Counter, value) => encoder.encode_counter::<NoLabelSet, _, f64>(&float(value), None),
            (_, Value::Unsigned(value)) => encoder.encode_gauge(&value),
            (_, Value::Signed(value)) => encoder.encode_gauge(&value),
            (_, Value::Float(value)) => encoder.encode_gauge(&value),
            (_, Value::Histogram(number)) => {
                let histogram = &self.0.histograms[number];
                // The crate adds the buckets up itself.
                let mut below = 0;
                let apart: Vec<(f64, u64)> = histogram
                    .buckets
                    .iter()
                    .map(|&(bound, count)| (bound, count - std::mem::replace(&mut below, count)))
                    .collect();
                encoder.encode_histogram::<NoLabelSet>(histogram.sum, histogram.count(), &apart, None)
            }
        }
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
