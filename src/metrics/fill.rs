//! Fills the families of rows without keys: definitions, events, the host and the exporter.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Families, Family, Histogram, LabelSet, LabelTable, Meta, Sample, SubjectId, Value};
use crate::tables::{Metric, Subject, WITHOUT_KEYS};

/// Families being filled, one after the other.
pub(crate) struct Filling<'a> {
    labels: &'a mut LabelTable,
    histograms: &'a mut Vec<Histogram>,
    wanted: &'a dyn Fn(&Metric) -> bool,
    families: Vec<Family>,
}

/// What a sample describes, its labels beyond that, and its value.
pub(crate) type Filled<'v> = (SubjectId, Labels<'v>, Value);

/// Names and values.
pub(crate) type Labels<'v> = Vec<(&'v str, Cow<'v, str>)>;

impl<'a> Filling<'a> {
    /// Skips families that are not `wanted`.
    pub(crate) fn new(of: &'a mut Families, wanted: &'a dyn Fn(&Metric) -> bool) -> Self {
        Self { labels: &mut of.labels, histograms: &mut of.histograms, wanted, families: Vec::new() }
    }

    /// One sample of the exporter or the host, without labels.
    pub(crate) fn number(&mut self, metric: &'static Metric, value: Value) {
        self.add(metric, [(fixed(metric), Vec::new(), value)]);
    }

    /// One sample of the exporter or the host for each list of label values, which are in the order of the row's labels.
    pub(crate) fn labelled<'v>(
        &mut self,
        metric: &'static Metric,
        values: impl IntoIterator<Item = (Vec<&'v str>, Value)>,
    ) {
        let pairs = |values: Vec<&'v str>| {
            metric.row.labels.iter().copied().zip(values.into_iter().map(Cow::Borrowed)).collect()
        };
        self.add(metric, values.into_iter().map(|(values, value)| (fixed(metric), pairs(values), value)));
    }

    /// One sample for each domain.
    pub(crate) fn of_domains(&mut self, metric: &'static Metric, values: impl IntoIterator<Item = (SubjectId, Value)>) {
        self.add(metric, values.into_iter().map(|(subject, value)| (subject, Vec::new(), value)));
    }

    /// One histogram of the host for each set of labels.
    pub(crate) fn histograms<'v>(
        &mut self,
        metric: &'static Metric,
        histograms: impl IntoIterator<Item = (Labels<'v>, Histogram)>,
    ) {
        if !(self.wanted)(metric) {
            return;
        }
        let mut samples = Vec::new();
        for (labels, histogram) in histograms {
            samples.push((fixed(metric), labels, Value::Histogram(self.histograms.len())));
            self.histograms.push(histogram);
        }
        self.add(metric, samples);
    }

    /// The family of `row`, if there is any sample. A label without a value is none.
    pub(crate) fn add<'v>(&mut self, metric: &'static Metric, samples: impl IntoIterator<Item = Filled<'v>>) {
        if !(self.wanted)(metric) {
            return;
        }
        debug_assert!(
            WITHOUT_KEYS.iter().any(|table| std::ptr::eq(*table, metric.table)),
            "a table that is not listed"
        );
        let labels = &mut self.labels;
        let sample = |(subject, mut pairs, value): Filled<'v>| {
            pairs.retain(|(_, value)| !value.is_empty());
            let pairs = pairs.iter().map(|(name, value)| (*name, value.as_ref()));
            let labels = if pairs.len() == 0 { LabelSet::EMPTY } else { labels.push(pairs) };
            Sample::new(subject, labels, value)
        };
        let samples: Vec<Sample> = samples.into_iter().map(sample).collect();
        if !samples.is_empty() {
            self.families.push(Family::new(Arc::new(Meta::of(&metric.row)), metric.table.origin, samples));
        }
    }

    /// The families that have samples, in the order in which they were added.
    pub(crate) fn finish(self) -> Vec<Family> {
        self.families
    }
}

/// The subject of a metric whose table has only one.
fn fixed(metric: &Metric) -> SubjectId {
    match metric.table.subject {
        Subject::Exporter => SubjectId::EXPORTER,
        // A metric of domains or of the host's objects is never filled without saying of which.
        Subject::Host | Subject::Domain | Subject::Pool | Subject::Network => SubjectId::HOST,
    }
}

/// A count of things.
pub(crate) fn count(number: usize) -> Value {
    Value::Unsigned(u64::try_from(number).unwrap_or(u64::MAX))
}

/// 1 or 0.
pub(crate) fn boolean(value: bool) -> Value {
    Value::Unsigned(u64::from(value))
}

/// A moment as a Unix time in seconds.
pub(crate) fn unix_seconds(at: SystemTime) -> Value {
    Value::Float(at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64())
}
