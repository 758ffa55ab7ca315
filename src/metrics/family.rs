//! Metric families: what the catalogue builds and the encoders write.
//!
//! Families are columns: one [`Family`] holds the samples of all domains, so an encoder streams them in order.
//! Label values live in one [`LabelTable`]; a [`Sample`] is 24 bytes and refers to them by number.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

use crate::tables::{Kind, Origin, Unit};

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

/// When the counters of a subject began; what is not known is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Started {
    /// Which run of which domain the samples are of; `None` for the exporter and for a domain that is shut off.
    pub run: Option<(Uuid, u32)>,
    /// Those of [`Origin::Process`], and of the devices that are not in `devices`.
    pub process: Option<SystemTime>,
    /// Those of [`Origin::Guest`].
    pub guest: Option<SystemTime>,
    /// Those of [`Origin::Exporter`].
    pub exporter: Option<SystemTime>,
    /// Devices that did not begin with the process.
    pub devices: Vec<DeviceStart>,
    /// When the subject was first seen, once [`Lifetimes`](super::Lifetimes) has followed it.
    pub seen: Option<SystemTime>,
}

impl Started {
    /// When the counters of `origin` began.
    #[must_use]
    pub fn of(&self, origin: Origin) -> Option<SystemTime> {
        match origin {
            Origin::Process | Origin::Device => self.process,
            Origin::Guest => self.guest,
            Origin::Exporter => self.exporter,
        }
    }
}

/// When the counters of one device began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStart {
    /// The label that names such devices, `device` or `interface`.
    pub label: &'static str,
    /// Its value.
    pub name: String,
    /// When it was attached; `None` for a device of the host, which counts on from one run to the next.
    pub at: Option<SystemTime>,
}

/// Since when a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It was at zero then.
    Known(SystemTime),
    /// It was first seen then, and may have counted for long.
    Seen(SystemTime),
}

impl Start {
    /// The moment.
    #[must_use]
    pub fn at(self) -> SystemTime {
        match self {
            Self::Known(at) | Self::Seen(at) => at,
        }
    }

    /// The moment, if the sample was at zero then.
    #[must_use]
    pub fn known(self) -> Option<SystemTime> {
        match self {
            Self::Known(at) => Some(at),
            Self::Seen(_) => None,
        }
    }
}

/// One metric with its samples.
#[derive(Debug, Clone)]
pub struct Family {
    /// Name, help, kind and unit.
    pub meta: Arc<Meta>,
    /// Whose life its counters share.
    pub origin: Origin,
    /// The samples, those of one domain next to each other.
    pub samples: Vec<Sample>,
    /// The samples that began at another time than their subject, by their position, in order.
    pub starts: Vec<(usize, Start)>,
}

impl Family {
    /// A family whose samples all began with their subjects.
    #[must_use]
    pub fn new(meta: Arc<Meta>, origin: Origin, samples: Vec<Sample>) -> Self {
        Self { meta, origin, samples, starts: Vec::new() }
    }

    /// Whether its samples only grow, until they begin again.
    #[must_use]
    pub fn is_total(&self) -> bool {
        matches!(self.meta.kind, Kind::Counter | Kind::Histogram)
    }
}

/// One sample: whose it is, which labels it carries beyond that, and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The labels of the domain, or [`LabelSet::EMPTY`] for the exporter's own families.
    pub subject: LabelSet,
    /// The labels within the domain, such as `device`.
    pub labels: LabelSet,
    /// The value in the family's unit.
    pub value: Value,
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

/// The number of a set of labels in a [`LabelTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSet(u32);

impl LabelSet {
    /// No labels at all.
    pub const EMPTY: Self = Self(0);

    /// The position in the table, from 0 (the empty set) to [`LabelTable::len`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// All label sets of one collection.
#[derive(Debug, Clone)]
pub struct LabelTable {
    text: String,
    pairs: Vec<[usize; 3]>,
    sets: Vec<usize>,
}

impl Default for LabelTable {
    fn default() -> Self {
        Self { text: String::new(), pairs: Vec::new(), sets: vec![0] }
    }
}

impl LabelTable {
    /// Adds a set of labels, names and values in the order in which they are to be printed.
    pub fn push<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> LabelSet {
        for (name, value) in labels {
            let start = self.text.len();
            self.text.push_str(name);
            let middle = self.text.len();
            self.text.push_str(value);
            self.pairs.push([start, middle, self.text.len()]);
        }
        let number = self.sets.len();
        self.sets.push(self.pairs.len());
        // More than 2^32 label sets would need more memory than the kernel gives a process its size.
        LabelSet(u32::try_from(number).unwrap_or(0))
    }

    /// Adds a set that holds the labels of `base` and one more.
    pub fn extend(&mut self, base: LabelSet, name: &str, value: &str) -> LabelSet {
        // The text of `base` is shared: its pairs are copied, what they point to is not.
        let (start, end) = self.bounds(base);
        self.pairs.extend_from_within(start..end);
        self.push([(name, value)])
    }

    /// The labels of a set, name and unescaped value.
    pub fn get(&self, set: LabelSet) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let index = set.index();
        let end = self.sets[index];
        let start = index.checked_sub(1).map_or(0, |previous| self.sets[previous]);
        self.pairs[start..end].iter().map(|&[start, middle, end]| (&self.text[start..middle], &self.text[middle..end]))
    }

    /// All sets, from the empty one on.
    pub fn sets(&self) -> impl Iterator<Item = LabelSet> {
        (0..).map(LabelSet).take(self.sets.len())
    }

    fn bounds(&self, set: LabelSet) -> (usize, usize) {
        let index = set.index();
        let start = index.checked_sub(1).map_or(0, |previous| self.sets[previous]);
        (start, self.sets[index])
    }

    /// How many sets there are, the empty one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether only the empty set is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.len() == 1
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
    /// When the counters of each subject began. [`Families::start_of`] answers for one sample.
    pub started: BTreeMap<LabelSet, Started>,
    /// Whether OpenMetrics shows that too, as one more series beside each counter. Protobuf has a field for it.
    pub openmetrics_created: bool,
}

impl Families {
    /// Since when the sample at `position` of `family` counts; `None` if nothing is known of its subject.
    #[must_use]
    pub fn start_of(&self, family: &Family, position: usize) -> Option<Start> {
        if let Ok(found) = family.starts.binary_search_by_key(&position, |(position, _)| *position) {
            return Some(family.starts[found].1);
        }
        let started = self.started.get(&family.samples.get(position)?.subject)?;
        started.of(family.origin).map(Start::Known).or_else(|| started.seen.map(Start::Seen))
    }

    /// When the sample at `position` of `family` was at zero; `None` if that is not known, or it is not one that only grows.
    #[must_use]
    pub fn known_start_of(&self, family: &Family, position: usize) -> Option<SystemTime> {
        self.start_of(family, position).filter(|_| family.is_total())?.known()
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
