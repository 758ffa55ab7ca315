//! What only a sender knows of its series: since when each counts, and which have ended since the last push.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::fast::RandomState;

use super::Batch;
use super::delta::Deltas;
use crate::catalogue::{Families, Family, LabelSet, LabelTable};
use crate::config::Temporality;
use crate::encode::otlp::{Chunk, Dialect, Part, Starts};

/// The family that has a sample for every running domain.
pub(super) const OF_RUNNING: &str = "libvirt_domain_stats_complete";

/// Label sets of different collections are the same if this is: 128 bits of their text, keyed anew in each process.
pub(super) type Fingerprint = u128;

/// The series as of the last push.
#[derive(Debug)]
pub struct Series {
    hashers: [RandomState; 2],
    /// Since when the counters of a domain have been seen, where nobody says since when they count.
    since: HashMap<Fingerprint, SystemTime>,
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
            since: HashMap::new(),
            told: None,
            deltas: (dialect.temporality == Temporality::Delta).then(Deltas::default),
        }
    }

    /// What is to be sent of `batch`: its values, and then the ends of series that it does not have any more.
    pub fn parts(&mut self, batch: &Batch) -> Vec<Part> {
        let families = &batch.families;
        let prints = self.fingerprints(&families.labels);
        let starts = self.starts(batch, &prints);
        let at = batch.at;
        let values = match &mut self.deltas {
            None => Part { families: Arc::clone(families), starts: Starts::BySubject(starts), at, ended: false },
            Some(deltas) => {
                let (families, starts) = deltas.take(families, &prints, &starts, at, &self.hashers[0]);
                Part { families: Arc::new(families), starts: Starts::BySample(starts), at, ended: false }
            }
        };
        let mut parts = vec![values];
        if let Some((told, told_prints)) = &self.told
            && let Some(ended) = ended(told, told_prints, families, &prints)
        {
            let starts = Starts::BySubject(vec![at; ended.labels.len()]);
            parts.push(Part { families: Arc::new(ended), starts, at, ended: true });
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

    /// Since when the counters of each subject count: since it was first seen, where that is all that is known.
    fn starts(&mut self, batch: &Batch, prints: &[Fingerprint]) -> Vec<SystemTime> {
        let families = &batch.families;
        let mut starts = vec![batch.at; families.labels.len()];
        starts[LabelSet::EMPTY.index()] = batch.began;
        let running = families.families.iter().find(|family| family.meta.name == OF_RUNNING);
        let running = || running.iter().flat_map(|family| &family.samples);
        for sample in running() {
            let print = prints[sample.subject.index()];
            starts[sample.subject.index()] = *self.since.entry(print).or_insert(batch.at);
        }
        for (subject, started) in &families.started {
            if let Some(run) = started.run {
                starts[subject.index()] = run;
            }
        }
        // A domain that was shut off begins anew. Of one that libvirt could not be asked about that is not known.
        if batch.reached {
            let running: HashSet<Fingerprint> = running().map(|sample| prints[sample.subject.index()]).collect();
            self.since.retain(|print, _| running.contains(print));
        }
        starts
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
            gone.push(Family { meta: Arc::clone(&family.meta), origin: family.origin, samples });
        }
    }
    (!gone.is_empty()).then(|| Families { labels: old.labels.clone(), families: gone, ..Families::default() })
}

fn key(subject: LabelSet, labels: LabelSet, prints: &[Fingerprint]) -> (Fingerprint, Fingerprint) {
    (prints[subject.index()], prints[labels.index()])
}
