//! What only a sender knows of its series: since when its receiver has seen each, and which have ended since the last push.
//!
//! Where it is not known when a counter was at zero, its start is the time of its first point, as OpenTelemetry's data model has
//! it: a receiver then takes that point's value for the past, and only what comes after it for growth.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Batch;
use super::delta::Deltas;
use crate::catalogue::{Families, Family, LabelSet, LabelTable, Lifetimes};
use crate::config::Temporality;
use crate::encode::otlp::{Chunk, Dialect, Part, Starts};

/// Label sets of different collections are the same if this is: 128 bits of their text, keyed anew in each process.
pub(super) type Fingerprint = u128;

/// The series as of the last push.
#[derive(Debug)]
pub struct Series {
    hashers: [RandomState; 2],
    lifetimes: Lifetimes,
    /// What was in the last push that arrived as a whole.
    told: Option<(Arc<Families>, Vec<Fingerprint>)>,
    deltas: Option<Deltas>,
}

impl Series {
    /// Nothing has been pushed yet.
    #[must_use]
    pub fn new(dialect: &Dialect) -> Self {
        Self {
            hashers: [RandomState::default(), RandomState::default()],
            lifetimes: Lifetimes::default(),
            told: None,
            deltas: (dialect.temporality == Temporality::Delta).then(Deltas::default),
        }
    }

    /// What is to be sent of `batch`: its values, and then the ends of series that it does not have any more.
    pub fn parts(&mut self, batch: &mut Batch) -> Vec<Part> {
        self.lifetimes.follow(Arc::make_mut(&mut batch.families), &batch.taken);
        let families = &batch.families;
        let prints = self.fingerprints(&families.labels);
        let at = batch.taken.at;
        let values = match &mut self.deltas {
            None => Part { families: Arc::clone(families), starts: Starts::OfFamilies, at, ended: false },
            Some(deltas) => {
                let (families, starts) = deltas.take(families, &prints, at, &self.hashers[0]);
                Part { families: Arc::new(families), starts: Starts::BySample(starts), at, ended: false }
            }
        };
        let mut parts = vec![values];
        if let Some((told, told_prints)) = &self.told
            && let Some(ended) = ended(told, told_prints, families, &prints)
        {
            parts.push(Part { families: Arc::new(ended), starts: Starts::OfFamilies, at, ended: true });
        }
        parts
    }

    /// A request with part of what [`Series::parts`] gave was taken.
    pub(super) fn taken(&mut self, chunk: &Chunk) {
        if let Some(deltas) = &mut self.deltas {
            let of_values = chunk.covers.iter().filter(|(part, _, _)| *part == 0);
            of_values.for_each(|(_, family, range)| deltas.taken(*family, range.clone()));
        }
    }

    /// All requests of `batch` were taken.
    pub(super) fn all_taken(&mut self, batch: &Batch) {
        self.lifetimes.settle();
        let prints = self.fingerprints(&batch.families.labels);
        self.told = Some((Arc::clone(&batch.families), prints));
    }

    fn fingerprints(&self, labels: &LabelTable) -> Vec<Fingerprint> {
        let of = |set: LabelSet| {
            let [high, low] = self.hashers.each_ref().map(|state| {
                let mut hasher = state.build_hasher();
                labels.get(set).for_each(|label| label.hash(&mut hasher));
                u128::from(hasher.finish())
            });
            high << 64 | low
        };
        labels.sets().map(of).collect()
    }
}

/// The series of `old` that `new` does not have, or nothing if it has all.
fn ended(old: &Families, old_prints: &[Fingerprint], new: &Families, new_prints: &[Fingerprint]) -> Option<Families> {
    let by_name: HashMap<&str, &Family> = new.families.iter().map(|family| (&*family.meta.name, family)).collect();
    let mut gone = Vec::new();
    for family in &old.families {
        let now = by_name.get(&*family.meta.name).map_or(&[][..], |family| &family.samples);
        let of_old = || family.samples.iter().map(|sample| key(sample.subject, sample.labels, old_prints));
        let of_new = || now.iter().map(|sample| key(sample.subject, sample.labels, new_prints));
        // The usual case: nothing has changed.
        if of_old().eq(of_new()) {
            continue;
        }
        let present: HashSet<_, RandomState> = of_new().collect();
        let samples = family.samples.iter().zip(of_old());
        let samples: Vec<_> = samples.filter(|(_, key)| !present.contains(key)).map(|(sample, _)| *sample).collect();
        if !samples.is_empty() {
            gone.push(Family::new(Arc::clone(&family.meta), family.origin, samples));
        }
    }
    (!gone.is_empty()).then(|| Families { labels: old.labels.clone(), families: gone, ..Families::default() })
}

fn key(subject: LabelSet, labels: LabelSet, prints: &[Fingerprint]) -> (Fingerprint, Fingerprint) {
    (prints[subject.index()], prints[labels.index()])
}
