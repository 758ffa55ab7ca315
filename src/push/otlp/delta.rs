//! Deltas: the growth of counters since they were last sent.
//!
//! A baseline moves when a request is accepted, not before: growth that was not accepted is in the next delta. A series that
//! is absent for a while keeps its baseline, so its whole value is never sent twice.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::fast::RandomState;

use super::series::{Fingerprint, Prints};
use crate::metrics::{Families, Family, Histogram, Origin, Sample, Start, Subject, Value, float};

/// How long a series may be away.
const KEPT: Duration = Duration::from_secs(3600);

/// Name and labels of a series.
type Key = (u64, Fingerprint, Fingerprint);

/// A value that was sent, when, and when the series was last seen.
#[derive(Debug, Clone, PartialEq)]
struct Baseline {
    value: Total,
    at: SystemTime,
    seen: SystemTime,
}

#[derive(Debug, Clone, PartialEq)]
enum Total {
    Number(Value),
    Histogram(Histogram),
}

/// The baselines of all counters.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    told: HashMap<Key, Baseline, RandomState>,
    /// What becomes the baseline of each sample of the push that is under way, where it is a counter.
    pending: Vec<Vec<Option<(Key, Baseline)>>>,
    /// Start of this stream: later counters are sent whole.
    first: Option<SystemTime>,
}

impl Deltas {
    /// `families` with deltas for totals, and since when each counts. A total that is seen for the first time is no delta: it
    /// is sent only if it is known to have begun after the first push, and not so long ago that its baseline may be forgotten.
    pub(super) fn take(
        &mut self,
        families: &Families,
        prints: &Prints,
        at: SystemTime,
        hasher: &RandomState,
    ) -> (Families, Vec<Vec<SystemTime>>) {
        let is_kept = |since: SystemTime| at.duration_since(since).unwrap_or_default() < KEPT;
        self.told.retain(|_, baseline| is_kept(baseline.seen));
        self.pending.clear();
        let (labels, subjects) = (families.labels.clone(), families.subjects.without_starts());
        let mut out = Families { labels, subjects, ..Families::default() };
        let mut all_starts = Vec::new();
        for family in &families.families {
            let name = hasher.hash_one(&*family.meta.name);
            let is_total = family.is_total();
            let (mut samples, mut since, mut pending) = (Vec::new(), Vec::new(), Vec::new());
            for (position, sample) in family.samples.iter().enumerate() {
                let start = families.start_of(family, position);
                let known = start.and_then(Start::known);
                let start = start.map_or(at, Start::at);
                if !is_total {
                    samples.push(*sample);
                    since.push(start);
                    pending.push(None);
                    continue;
                }
                let (subject, labels) = prints.of(sample);
                let key = (name, subject, labels);
                let total = total(sample, families);
                let read = family.read_at(sample).unwrap_or(at);
                let new = Baseline { value: total, at: read, seen: at };
                let kind = families.subjects.get(sample.subject()).kind;
                let began = self.first.and_then(|first| match (kind, family.origin) {
                    // What the exporter counts of itself and of the host begins at zero, when it is first needed.
                    (Subject::Exporter | Subject::Host | Subject::Pool | Subject::Network, Origin::Exporter) => {
                        Some(first)
                    }
                    _ => known.filter(|began| *began > first && is_kept(*began)),
                });
                let delta = match (self.told.get_mut(&key), began) {
                    (Some(old), _) if read <= old.at && read < at => {
                        // What it says was sent before.
                        old.seen = at;
                        continue;
                    }
                    (Some(old), _) => {
                        old.seen = at;
                        let began = known.filter(|began| *began >= old.at);
                        Some(began.map_or_else(|| grown(old, &new.value, start), |began| (new.value.clone(), began)))
                    }
                    (None, Some(began)) => Some((new.value.clone(), began)),
                    (None, None) => None,
                };
                match delta {
                    Some((delta, start)) => {
                        let value = match delta {
                            Total::Number(value) => value,
                            Total::Histogram(histogram) => {
                                out.histograms.push(histogram);
                                Value::Histogram(out.histograms.len() - 1)
                            }
                        };
                        samples.push(sample.with_value(value));
                        since.push(start);
                        pending.push(Some((key, new)));
                    }
                    None => drop(self.told.insert(key, new)),
                }
            }
            if !samples.is_empty() {
                let of_deltas = Family::new(Arc::clone(&family.meta), family.origin, samples);
                out.families.push(Family { read: family.read.clone(), ..of_deltas });
                all_starts.push(since);
                self.pending.push(pending);
            }
        }
        self.first.get_or_insert(at);
        (out, all_starts)
    }

    /// These samples of what [`Deltas::take`] gave were accepted.
    pub(super) fn accepted(&mut self, family: usize, range: Range<usize>) {
        let pending = self.pending.get_mut(family).and_then(|pending| pending.get_mut(range));
        for (key, baseline) in pending.into_iter().flatten().filter_map(Option::take) {
            self.told.insert(key, baseline);
        }
    }
}

fn total(sample: &Sample, families: &Families) -> Total {
    match sample.value() {
        Value::Histogram(number) => Total::Histogram(families.histograms[number].clone()),
        value => Total::Number(value),
    }
}

/// The growth from `old` to `new`; all of `new` after a reset.
fn grown(old: &Baseline, new: &Total, start: SystemTime) -> (Total, SystemTime) {
    let delta = match (&old.value, new) {
        (Total::Number(Value::Unsigned(old)), Total::Number(Value::Unsigned(new))) => {
            new.checked_sub(*old).map(|delta| Total::Number(Value::Unsigned(delta)))
        }
        (Total::Number(old), Total::Number(new)) => {
            let delta = float(*new) - float(*old);
            (delta >= 0.0).then_some(Total::Number(Value::Float(delta)))
        }
        (Total::Histogram(old), Total::Histogram(new)) => grown_histogram(old, new).map(Total::Histogram),
        _ => None,
    };
    match delta {
        Some(delta) => (delta, old.at),
        None => (new.clone(), old.at.max(start)),
    }
}

fn grown_histogram(old: &Histogram, new: &Histogram) -> Option<Histogram> {
    if old.buckets.len() != new.buckets.len() {
        return None;
    }
    let pairs = old.buckets.iter().zip(&new.buckets);
    let bucket = |(old, new): (&(f64, u64), &(f64, u64))| {
        if old.0 == new.0 { Some((new.0, new.1.checked_sub(old.1)?)) } else { None }
    };
    let buckets = pairs.map(bucket).collect::<Option<_>>()?;
    let sum = new.sum.zip(old.sum).map(|(new, old)| new - old);
    Some(Histogram { buckets, sum })
}
