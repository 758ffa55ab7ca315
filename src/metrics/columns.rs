//! The families while they are being built: one column of samples for each metric.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::family::{Family, Meta, ReadTimes, Sample, Value};
use super::labels::LabelSet;
use super::subject::SubjectId;
use crate::config::Group;
use crate::libvirt::{DomainRecord, StatsGroups};
use crate::tables::Origin;

/// When each group was read that is not in every reply.
#[derive(Debug, Default)]
pub(super) struct Reads(BTreeMap<StatsGroups, ReadTimes>);

impl Reads {
    /// Takes over what the record of a subject tells of that. Subjects come in their order.
    pub(super) fn note(&mut self, subject: SubjectId, record: &DomainRecord<'_>) {
        for (group, at) in record.read() {
            Arc::make_mut(self.0.entry(group).or_default()).push((subject, at));
        }
    }
}

/// A family being built. Samples come domain by domain, so a repeated one shows up as out of order.
#[derive(Debug)]
pub(super) struct Column {
    meta: Arc<Meta>,
    origin: Origin,
    group: Option<Group>,
    samples: Vec<Sample>,
    ordered: bool,
}

impl Column {
    pub(super) fn new(meta: &Arc<Meta>, origin: Origin, group: Option<Group>) -> Self {
        Self { meta: Arc::clone(meta), origin, group, samples: Vec::new(), ordered: true }
    }

    pub(super) fn name(&self) -> &str {
        &self.meta.name
    }

    pub(super) fn push(&mut self, subject: SubjectId, labels: LabelSet, value: Value) {
        if let Some(last) = self.samples.last()
            && (subject, labels) <= (last.subject(), last.labels())
        {
            self.ordered = false;
        }
        self.samples.push(Sample::new(subject, labels, value));
    }

    /// Makes room for what it will have if the subjects that follow, so many times those that there were, are like them. Without
    /// that, the columns of a large host grow into twice what they need.
    pub(super) fn foresee(&mut self, times: usize) {
        self.samples.reserve_exact(self.samples.len() * times);
    }

    /// The family, without samples that repeat the labels of an earlier one, and how many of those there were.
    /// `None` if no sample is left. `read` has when each group was read that is not in every reply.
    pub(super) fn finish(mut self, read: &Reads) -> (Option<Family>, u64) {
        let before = self.samples.len();
        if !self.ordered {
            let mut seen = HashSet::with_capacity(before);
            self.samples.retain(|sample| seen.insert((sample.subject(), sample.labels())));
        }
        let dropped = u64::try_from(before - self.samples.len()).unwrap_or(u64::MAX);
        self.samples.shrink_to_fit();
        let is_empty = self.samples.is_empty();
        let mut family = Family::new(self.meta, self.origin, self.samples);
        if family.is_total() {
            family.read = self.group.and_then(|group| read.0.get(&group.stats())).map(Arc::clone);
        }
        ((!is_empty).then_some(family), dropped)
    }
}
