//! The families while they are being built: one column of samples for each metric.

use std::collections::HashSet;
use std::sync::Arc;

use super::family::{Family, Meta, Sample, Value};
use super::labels::LabelSet;
use super::subject::SubjectId;
use crate::tables::Origin;

/// A family being built. Samples come domain by domain, so a repeated one shows up as out of order.
#[derive(Debug)]
pub(super) struct Column {
    meta: Arc<Meta>,
    origin: Origin,
    samples: Vec<Sample>,
    ordered: bool,
}

impl Column {
    pub(super) fn new(meta: &Arc<Meta>, origin: Origin) -> Self {
        Self { meta: Arc::clone(meta), origin, samples: Vec::new(), ordered: true }
    }

    pub(super) fn name(&self) -> &str {
        &self.meta.name
    }

    pub(super) fn push(&mut self, subject: SubjectId, labels: LabelSet, value: Value) {
        if let Some(last) = self.samples.last()
            && (subject, labels) <= (last.subject, last.labels)
        {
            self.ordered = false;
        }
        self.samples.push(Sample { subject, labels, value });
    }

    /// The family, without samples that repeat the labels of an earlier one, and how many of those there were.
    /// `None` if no sample is left.
    pub(super) fn finish(mut self) -> (Option<Family>, u64) {
        let before = self.samples.len();
        if !self.ordered {
            let mut seen = HashSet::with_capacity(before);
            self.samples.retain(|sample| seen.insert((sample.subject, sample.labels)));
        }
        let dropped = u64::try_from(before - self.samples.len()).unwrap_or(u64::MAX);
        let is_empty = self.samples.is_empty();
        let family = (!is_empty).then(|| Family::new(self.meta, self.origin, self.samples));
        (family, dropped)
    }
}
