//! Families that no statistic of libvirt stands behind: the rows that describe them, and what fills them with samples. What
//! they count is counted by this process.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::Group;
use crate::metrics::{Families, Family, Histogram, Kind, LabelSet, LabelTable, Meta, Origin, Sample, Unit, Value};

/// The description of one family.
#[derive(Debug)]
pub struct Row {
    /// The statistics group that it comes and goes with; `None` for what belongs to none.
    pub group: Option<Group>,
    /// Name, help, kind and unit.
    pub meta: Meta,
    /// The labels beyond those of the domain, in the order of the exposition.
    pub labels: &'static [&'static str],
}

impl Row {
    /// For the tables, through [`rows!`].
    pub(crate) const fn new(
        group: Option<Group>,
        kind: Kind,
        unit: Unit,
        name: &'static str,
        otel_name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        let meta = Meta {
            name: Cow::Borrowed(name),
            help: Cow::Borrowed(help),
            kind,
            unit,
            otel_name: Cow::Borrowed(otel_name),
            otel_attributes: &[],
        };
        Self { group, meta, labels }
    }
}

/// A table of rows, each a static of its own: `NAME = Kind of Group, unit, "name", "otel.name", [labels], "help";`, the group
/// only where there is one.
macro_rules! rows {
    (@group) => { None };
    (@group $group:ident) => { Some($crate::config::Group::$group) };
    ($($id:ident = $kind:ident $(of $group:ident)?, $unit:expr, $name:literal, $otel:literal, $labels:expr, $help:literal;)+) => {
        $(static $id: $crate::rows::Row = $crate::rows::Row::new(
            $crate::rows::rows!(@group $($group)?), $crate::metrics::Kind::$kind, $unit, $name, $otel, &$labels, $help,
        );)+

        /// The families of this table in the order of the exposition.
        pub(crate) static ROWS: &[&$crate::rows::Row] = &[$(&$id),+];
    };
}
pub(crate) use rows;

/// Families being filled, one after the other.
pub(crate) struct Filling<'a> {
    labels: &'a mut LabelTable,
    histograms: &'a mut Vec<Histogram>,
    wanted: &'a dyn Fn(&Row) -> bool,
    families: Vec<Family>,
}

/// Whose a sample is, its labels beyond that, and its value.
pub(crate) type Filled<'v> = (LabelSet, Labels<'v>, Value);

/// Names and values.
pub(crate) type Labels<'v> = Vec<(&'v str, Cow<'v, str>)>;

impl<'a> Filling<'a> {
    /// Families that `wanted` turns down are left out.
    pub(crate) fn new(of: &'a mut Families, wanted: &'a dyn Fn(&Row) -> bool) -> Self {
        Self { labels: &mut of.labels, histograms: &mut of.histograms, wanted, families: Vec::new() }
    }

    /// One sample without labels.
    pub(crate) fn number(&mut self, row: &Row, value: Value) {
        self.add(row, [(LabelSet::EMPTY, Vec::new(), value)]);
    }

    /// One sample for each list of label values, which stand in the order of the row's labels.
    pub(crate) fn labelled<'v>(&mut self, row: &Row, values: impl IntoIterator<Item = (Vec<&'v str>, Value)>) {
        let pairs =
            |values: Vec<&'v str>| row.labels.iter().copied().zip(values.into_iter().map(Cow::Borrowed)).collect();
        self.add(row, values.into_iter().map(|(values, value)| (LabelSet::EMPTY, pairs(values), value)));
    }

    /// One sample for each domain.
    pub(crate) fn of_domains(&mut self, row: &Row, values: impl IntoIterator<Item = (LabelSet, Value)>) {
        self.add(row, values.into_iter().map(|(subject, value)| (subject, Vec::new(), value)));
    }

    /// One histogram of the host for each set of labels.
    pub(crate) fn histograms<'v>(&mut self, row: &Row, histograms: impl IntoIterator<Item = (Labels<'v>, Histogram)>) {
        if !(self.wanted)(row) {
            return;
        }
        let mut samples = Vec::new();
        for (labels, histogram) in histograms {
            samples.push((LabelSet::EMPTY, labels, Value::Histogram(self.histograms.len())));
            self.histograms.push(histogram);
        }
        self.add(row, samples);
    }

    /// The family of `row`, if there is any sample. A label without a value is none.
    pub(crate) fn add<'v>(&mut self, row: &Row, samples: impl IntoIterator<Item = Filled<'v>>) {
        if !(self.wanted)(row) {
            return;
        }
        let labels = &mut self.labels;
        let sample = |(subject, mut pairs, value): Filled<'v>| {
            pairs.retain(|(_, value)| !value.is_empty());
            let pairs = pairs.iter().map(|(name, value)| (*name, value.as_ref()));
            let labels = if pairs.len() == 0 { LabelSet::EMPTY } else { labels.push(pairs) };
            Sample { subject, labels, value }
        };
        let samples: Vec<Sample> = samples.into_iter().map(sample).collect();
        if !samples.is_empty() {
            self.families.push(Family::new(Arc::new(row.meta.clone()), Origin::Exporter, samples));
        }
    }

    /// The families that have samples, in the order in which they were added.
    pub(crate) fn finish(self) -> Vec<Family> {
        self.families
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
