//! In which order samples are written: metric by metric, or domain by domain and metric by metric.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::{Data, Dialect, Part};
use crate::config::Naming;
use crate::metrics::{Families, Family, Meta, Sample, Subject, SubjectId};

/// Samples of one family that are written next to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// The number of the part.
    pub(super) part: usize,
    /// The number of the family in it.
    pub(super) family: usize,
    pub(super) samples: Range<usize>,
    /// Whether the step before is of the same metric.
    pub(super) same: bool,
    /// The subject whose resource they are in, by part and number; none for the exporter's.
    pub(super) resource: Option<(usize, SubjectId)>,
}

/// The steps of a push.
pub(super) fn steps(dialect: &Dialect, parts: &[Part]) -> Vec<Step> {
    let of_part = |(part, Part { families, .. }): (usize, &Part)| {
        let whole = by_metric(dialect.naming, families).into_iter().map(move |(family, same)| {
            let samples = 0..families.families[family].samples.len();
            Step { part, family, samples, same, resource: None }
        });
        if dialect.domain_resource { by_domain(whole, families) } else { whole.collect() }
    };
    parts.iter().enumerate().flat_map(of_part).collect()
}

/// The families so that those of one metric follow one another, in the order of the first of each; and whether a family is
/// of the same metric as the one before.
fn by_metric(naming: Naming, families: &Families) -> Vec<(usize, bool)> {
    let identity = |family: &Family| {
        let Meta { name, otel_name, unit, .. } = &*family.meta;
        let name = if naming == Naming::Otel { otel_name } else { name };
        (name.clone(), *unit, Data::of(&family.meta).tag())
    };
    let mut places = HashMap::new();
    let mut metrics: Vec<Vec<usize>> = Vec::new();
    for (number, family) in families.families.iter().enumerate() {
        let place = *places.entry(identity(family)).or_insert(metrics.len());
        match metrics.get_mut(place) {
            Some(metric) => metric.push(number),
            None => metrics.push(vec![number]),
        }
    }
    metrics
        .into_iter()
        .flat_map(|metric| metric.into_iter().enumerate().map(|(place, number)| (number, place > 0)))
        .collect()
}

/// The same steps cut up by resource. That of the exporter, which has what is about no domain, comes first: pools and
/// networks are the host's.
fn by_domain(steps: impl Iterator<Item = Step>, families: &Families) -> Vec<Step> {
    let resource_of = |sample: &Sample| match families.subjects.get(sample.subject()).kind {
        Subject::Exporter | Subject::Host | Subject::Pool | Subject::Network => None,
        Subject::Domain => Some(sample.subject()),
    };
    let mut by_resource: BTreeMap<Option<SubjectId>, Vec<(usize, Step)>> = BTreeMap::new();
    let mut metric = 0;
    for step in steps {
        metric += usize::from(!step.same);
        let samples = &families.families[step.family].samples;
        let mut start = 0;
        for run in samples.chunk_by(|one, next| resource_of(one) == resource_of(next)) {
            let Some(resource) = run.first().map(resource_of) else { continue };
            let of_resource = by_resource.entry(resource).or_default();
            let same = of_resource.last().is_some_and(|(before, _)| *before == metric);
            let samples = start..start + run.len();
            start = samples.end;
            let resource = resource.map(|subject| (step.part, subject));
            of_resource.push((metric, Step { samples, same, resource, ..step }));
        }
    }
    by_resource.into_values().flatten().map(|(_, step)| step).collect()
}
