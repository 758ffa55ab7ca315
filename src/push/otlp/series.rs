//! Start times and ends of pushed series: since when the receiver has seen each, and which have ended since the last push.
//!
//! Where it is not known when a counter was at zero, its start is the time of its first point, as OpenTelemetry's data model has
//! it: a receiver then takes that point's value for the past, and only what comes after it for growth.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::delta::Deltas;
use crate::config::Temporality;
use crate::encode::otlp::{Chunk, Dialect, Part, Starts};
use crate::metrics::{Families, Family, LabelSet, Lifetimes, Sample, Subject, Value};
use crate::push::{self, Batch};

/// After more pushes in a row that failed halfway, the ends of series are not sent: receivers drop those by themselves after
/// some minutes.
const MOST_TOLD: usize = 16;

/// 128 bits of a text, with another key in each process.
pub(super) type Fingerprint = u128;

/// What tells label sets and subjects of different collections apart, by their numbers.
#[derive(Debug)]
pub(super) struct Prints {
    labels: Vec<Fingerprint>,
    subjects: Vec<Fingerprint>,
}

impl Prints {
    /// Subject and labels of a sample.
    pub(super) fn of(&self, sample: &Sample) -> (Fingerprint, Fingerprint) {
        (self.subjects[sample.subject().index()], self.labels[sample.labels().index()])
    }
}

/// Series that a receiver has.
#[derive(Debug)]
struct Told {
    families: Arc<Families>,
    prints: Prints,
}

/// The series as of the last push.
#[derive(Debug)]
pub struct Series {
    hashers: [RandomState; 2],
    lifetimes: Lifetimes,
    /// What receivers have: the last push, and of those before it the series that it had no more and that were not told to
    /// have ended, since it did not arrive as a whole.
    told: Vec<Told>,
    /// Whether part of the push that is under way has arrived.
    partly: bool,
    deltas: Option<Deltas>,
}

impl Series {
    /// Nothing has been pushed yet.
    #[must_use]
    pub fn new(dialect: &Dialect) -> Self {
        Self {
            hashers: [RandomState::default(), RandomState::default()],
            lifetimes: Lifetimes::default(),
            told: Vec::new(),
            partly: false,
            deltas: (dialect.temporality == Temporality::Delta).then(Deltas::default),
        }
    }

    /// What is to be sent of `batch`: its values, and then the ends of series that it does not have any more.
    pub fn parts(&mut self, batch: &mut Batch) -> Vec<Part> {
        self.lifetimes.follow(Arc::make_mut(&mut batch.families), &batch.taken);
        let families = &batch.families;
        let prints = self.fingerprints(families);
        let at = batch.taken.at;
        let values = match &mut self.deltas {
            None => Part { families: Arc::clone(families), starts: Starts::OfFamilies, at, ended: false },
            Some(deltas) => {
                let (families, starts) = deltas.take(families, &prints, at, &self.hashers[0]);
                Part { families: Arc::new(families), starts: Starts::Sample(starts), at, ended: false }
            }
        };
        self.partly = false;
        let ends = self.told.iter().filter_map(|told| told.without(families, &prints)).map(|ended| Part {
            families: Arc::new(ended),
            starts: Starts::OfFamilies,
            at,
            ended: true,
        });
        std::iter::once(values).chain(ends).collect()
    }

    /// All requests of `batch` were accepted.
    fn complete(&mut self, batch: &Batch) {
        self.lifetimes.settle();
        self.told.clear();
        self.tell(batch);
    }

    /// The push of `batch` has ended before all of its requests were accepted. If some were, its series are among those that
    /// receivers have; which of them does not matter, as the end of a series that never was does no harm.
    fn incomplete(&mut self, batch: &Batch) {
        if !self.partly {
            return;
        }
        let prints = self.fingerprints(&batch.families);
        let rest = |told: &Told| {
            let families = Arc::new(told.without(&batch.families, &prints)?);
            Some(Told { prints: self.fingerprints(&families), families })
        };
        self.told = self.told.iter().filter_map(rest).collect();
        let surplus = (self.told.len() + 1).saturating_sub(MOST_TOLD);
        self.told.drain(..surplus);
        self.tell(batch);
    }

    fn tell(&mut self, batch: &Batch) {
        let prints = self.fingerprints(&batch.families);
        self.told.push(Told { families: Arc::clone(&batch.families), prints });
    }

    fn fingerprints(&self, families: &Families) -> Prints {
        let Families { labels, subjects, .. } = families;
        let print = |kind: Option<Subject>, set: LabelSet| {
            let [high, low] = self.hashers.each_ref().map(|state| {
                let mut hasher = state.build_hasher();
                kind.hash(&mut hasher);
                labels.get(set).for_each(|label| label.hash(&mut hasher));
                u128::from(hasher.finish())
            });
            high << 64 | low
        };
        Prints {
            labels: labels.sets().map(|set| print(None, set)).collect(),
            subjects: subjects.iter().map(|subject| print(Some(subject.kind), subject.labels)).collect(),
        }
    }
}

impl push::Series for Series {
    type Part = Chunk;

    fn accepted(&mut self, chunk: &Chunk) {
        self.partly = true;
        if let Some(deltas) = &mut self.deltas {
            let of_values = chunk.covers.iter().filter(|(part, _, _)| *part == 0);
            of_values.for_each(|(_, family, range)| deltas.accepted(*family, range.clone()));
        }
    }

    fn ended(&mut self, batch: &Batch, complete: bool) {
        if complete { self.complete(batch) } else { self.incomplete(batch) }
    }
}

impl Told {
    /// Those that `new` does not have, or nothing if it has all.
    fn without(&self, new: &Families, new_prints: &Prints) -> Option<Families> {
        let by_name: HashMap<&str, &Family> = new.families.iter().map(|family| (&*family.meta.name, family)).collect();
        let old = &*self.families;
        let mut gone = Families::default();
        for family in &old.families {
            let now = by_name.get(&*family.meta.name).map_or(&[][..], |family| &family.samples);
            let of_old = || family.samples.iter().map(|sample| self.prints.of(sample));
            let of_new = || now.iter().map(|sample| new_prints.of(sample));
            // The usual case: nothing has changed.
            if of_old().eq(of_new()) {
                continue;
            }
            let present: HashSet<_, RandomState> = of_new().collect();
            let absent = family.samples.iter().zip(of_old()).filter(|(_, key)| !present.contains(key));
            let samples: Vec<_> = absent.map(|(sample, _)| move_to(&mut gone, sample, old)).collect();
            if !samples.is_empty() {
                gone.families.push(Family::new(Arc::clone(&family.meta), family.origin, samples));
            }
        }
        gone.labels = old.labels.clone();
        gone.subjects = old.subjects.without_starts();
        (!gone.families.is_empty()).then_some(gone)
    }
}

/// The sample with its histogram in `families`, if it has one.
fn move_to(families: &mut Families, sample: &Sample, from: &Families) -> Sample {
    let Value::Histogram(number) = sample.value() else { return *sample };
    families.histograms.push(from.histograms[number].clone());
    sample.with_value(Value::Histogram(families.histograms.len() - 1))
}
