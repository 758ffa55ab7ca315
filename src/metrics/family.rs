//! Metric families: what is built from records, definitions, events and counts, and written by the encoders.
//!
//! Families are columns: one [`Family`] holds the samples of all domains, so an encoder streams them in order.
//! Label values live in one [`LabelTable`]; a [`Sample`] refers to them by number.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use super::labels::{LabelSet, LabelTable};
use super::start::Start;
use super::subject::{SubjectId, Subjects};
use crate::tables::{Kind, Origin, Row, Subject, Unit};

/// The description of a family: everything about a metric but its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The full Prometheus name, `_total` and `_info` included.
    pub name: Cow<'static, str>,
    /// One sentence, without line breaks.
    pub help: Cow<'static, str>,
    /// Counter, gauge, info, histogram or unknown.
    pub kind: Kind,
    /// The unit of the samples.
    pub unit: Unit,
    /// The OpenTelemetry name; several families may share one and differ by `otel_attributes`.
    pub otel_name: Cow<'static, str>,
    /// Attributes that stand for what the Prometheus name spells out, such as `disk.io.direction` = `read`.
    pub otel_attributes: &'static [(&'static str, &'static str)],
}

impl Meta {
    /// The description of a row's family. Its help names the keys of libvirt.
    #[must_use]
    pub(crate) fn of(row: &'static Row) -> Self {
        let help = match row.libvirt_keys() {
            [] => row.help.into(),
            keys => format!("{} (domstats: {})", row.help, keys.join(", ")).into(),
        };
        Self {
            name: row.name.into(),
            help,
            kind: row.kind,
            unit: row.unit,
            otel_name: row.otel_name.into(),
            otel_attributes: row.otel_attributes,
        }
    }

    /// The name of the OpenMetrics metric family: without `_total` and `_info`, with the unit.
    #[must_use]
    pub fn family_name(&self) -> &str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram | Kind::Unknown => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(&self.name)
    }
}

/// When something was read of each subject, in the order of the subjects; of others it was in this collection.
pub type ReadTimes = Arc<Vec<(SubjectId, SystemTime)>>;

/// One metric with its samples.
#[derive(Debug, Clone)]
pub struct Family {
    /// Name, help, kind and unit.
    pub meta: Arc<Meta>,
    /// Where its counters are kept.
    pub origin: Origin,
    /// The samples, those of one domain next to each other.
    pub samples: Vec<Sample>,
    /// When the values of a counter were read, of domains that are not asked for it in each collection.
    pub read: Option<ReadTimes>,
    /// The samples that began at another time than their subject, by their position, in order.
    pub starts: Vec<(usize, Start)>,
}

impl Family {
    /// A family whose samples all began with their subjects.
    #[must_use]
    pub fn new(meta: Arc<Meta>, origin: Origin, samples: Vec<Sample>) -> Self {
        Self { meta, origin, samples, read: None, starts: Vec::new() }
    }

    /// When the value of a sample was read, if that may have been before this collection.
    #[must_use]
    pub fn read_at(&self, sample: &Sample) -> Option<SystemTime> {
        let read = self.read.as_ref()?;
        let found = read.binary_search_by_key(&sample.subject(), |(subject, _)| *subject);
        found.ok().map(|found| read[found].1)
    }

    /// Whether its samples only grow, until they begin again.
    #[must_use]
    pub fn is_total(&self) -> bool {
        matches!(self.meta.kind, Kind::Counter | Kind::Histogram)
    }
}

/// One sample: what it describes, which labels it carries beyond that, and its value. A large host has millions: it takes 16
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The number of the subject, and below it what the bits are.
    subject_and_tag: u32,
    labels: LabelSet,
    bits: u64,
}

impl Sample {
    const TAG_BITS: u32 = 2;

    /// A sample of `subject` with these labels beyond those of the subject, and a value in the family's unit. Subjects are far
    /// fewer than 2^30.
    #[must_use]
    pub fn new(subject: SubjectId, labels: LabelSet, value: Value) -> Self {
        let (tag, bits) = match value {
            Value::Unsigned(number) => (0, number),
            Value::Signed(number) => (1, number.cast_unsigned()),
            Value::Float(number) => (2, number.to_bits()),
            Value::Histogram(number) => (3, u64::try_from(number).unwrap_or(u64::MAX)),
        };
        Self { subject_and_tag: subject.number() << Self::TAG_BITS | tag, labels, bits }
    }

    /// What it describes; see [`Families::subjects`].
    #[must_use]
    pub fn subject(&self) -> SubjectId {
        SubjectId::of(self.subject_and_tag >> Self::TAG_BITS)
    }

    /// The labels beyond those of the subject, such as `device`.
    #[must_use]
    pub fn labels(&self) -> LabelSet {
        self.labels
    }

    /// The value in the family's unit.
    #[must_use]
    pub fn value(&self) -> Value {
        match self.subject_and_tag % (1 << Self::TAG_BITS) {
            0 => Value::Unsigned(self.bits),
            1 => Value::Signed(self.bits.cast_signed()),
            2 => Value::Float(f64::from_bits(self.bits)),
            _ => Value::Histogram(usize::try_from(self.bits).unwrap_or(usize::MAX)),
        }
    }

    /// The same with another value.
    #[must_use]
    pub fn with_value(&self, value: Value) -> Self {
        Self::new(self.subject(), self.labels, value)
    }
}

/// The value of a sample. Integers stay exact to 64 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A non-negative integer.
    Unsigned(u64),
    /// An integer that may be negative.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// The number of a histogram in [`Families::histograms`].
    Histogram(usize),
}

/// A histogram: cumulative buckets in ascending order, the last one `+Inf`.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bound and the count of all observations up to it.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of the observations, where libvirt reports one.
    pub sum: Option<f64>,
}

impl Histogram {
    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |bucket| bucket.1)
    }
}

/// Everything one exposition shows.
#[derive(Debug, Clone, Default)]
pub struct Families {
    /// The label sets that the samples refer to.
    pub labels: LabelTable,
    /// The families in the order of the exposition; none is empty.
    pub families: Vec<Family>,
    /// The histograms that [`Value::Histogram`] refers to.
    pub histograms: Vec<Histogram>,
    /// What the samples describe, and when the counters of each subject began. [`Families::start_of`] answers for one sample.
    pub subjects: Subjects,
    /// Whether OpenMetrics shows that too, as one more series beside each counter. Protobuf has a field for it.
    pub openmetrics_created: bool,
    /// Whether a scrape shows when a sample was read, where [`Family::read_at`] tells.
    pub timestamps: bool,
}

impl Families {
    /// Adds a subject with its labels.
    pub fn push_subject<'a>(
        &mut self,
        kind: Subject,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> SubjectId {
        let labels = self.labels.push(labels);
        self.subjects.push(kind, labels)
    }

    /// The labels of a sample: those of its subject, and those beyond.
    #[must_use]
    pub fn labels_of(&self, sample: &Sample) -> [LabelSet; 2] {
        [self.subjects.get(sample.subject()).labels, sample.labels]
    }

    /// Since when the sample at `position` of `family` counts; `None` if the start of its subject is unknown.
    #[must_use]
    pub fn start_of(&self, family: &Family, position: usize) -> Option<Start> {
        if let Ok(found) = family.starts.binary_search_by_key(&position, |(position, _)| *position) {
            return Some(family.starts[found].1);
        }
        let started = self.subjects.get(family.samples.get(position)?.subject()).started.as_ref()?;
        started.of(family.origin).map(Start::Known).or_else(|| started.seen.map(Start::Seen))
    }

    /// When a sample was read, where a scrape is to show that.
    #[must_use]
    pub fn timestamp_of(&self, family: &Family, sample: &Sample) -> Option<SystemTime> {
        family.read_at(sample).filter(|_| self.timestamps)
    }

    /// When the sample at `position` of `family` was at zero; `None` if that is not known, or it is not one that only grows.
    #[must_use]
    pub fn known_start_of(&self, family: &Family, position: usize) -> Option<SystemTime> {
        if family.is_total() { self.start_of(family, position)?.known() } else { None }
    }

    /// How many bytes of memory they fill, those that grow with the domains.
    #[must_use]
    pub fn memory(&self) -> usize {
        let of = |family: &Family| {
            family.samples.len() * size_of::<Sample>() + family.starts.len() * size_of::<(usize, Start)>()
        };
        let of_histogram =
            |histogram: &Histogram| size_of::<Histogram>() + histogram.buckets.len() * size_of::<(f64, u64)>();
        self.families.iter().map(of).sum::<usize>()
            + self.histograms.iter().map(of_histogram).sum::<usize>()
            + self.labels.memory()
    }

    /// How many series the exposition has: one for each sample; for a histogram its buckets, and sum and count if there is
    /// a sum.
    #[must_use]
    pub fn series(&self) -> usize {
        let samples: usize = self.families.iter().map(|family| family.samples.len()).sum();
        let of = |histogram: &Histogram| histogram.buckets.len() + if histogram.sum.is_some() { 2 } else { 0 };
        samples + self.histograms.iter().map(of).sum::<usize>() - self.histograms.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_gives_back_what_it_was_made_of() {
        let mut families = Families::default();
        let mut subjects = vec![SubjectId::EXPORTER, SubjectId::HOST];
        subjects.extend((0..1000).map(|_| families.push_subject(Subject::Domain, [("domain", "a")])));
        let values = [
            Value::Unsigned(u64::MAX),
            Value::Signed(i64::MIN),
            Value::Signed(-1),
            Value::Float(f64::MIN_POSITIVE),
            Value::Float(f64::NEG_INFINITY),
            Value::Histogram(usize::MAX),
        ];
        for subject in subjects {
            let labels = families.subjects.get(subject).labels;
            for value in values {
                let sample = Sample::new(subject, labels, value);
                assert_eq!((sample.subject(), sample.labels(), sample.value()), (subject, labels, value));
                let other = sample.with_value(Value::Unsigned(1));
                assert_eq!((other.subject(), other.labels(), other.value()), (subject, labels, Value::Unsigned(1)));
            }
        }
        assert_eq!(size_of::<Sample>(), 16);
    }
}
