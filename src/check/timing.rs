//! How long libvirt takes for each group, and which metrics are the largest.

use std::collections::BTreeSet;

use super::report::Report;
use crate::app::Exporter;
use crate::collect::{Collection, Selection};
use crate::config::{Config, Group, NamePatterns};
use crate::metrics::Families;

/// How many domains are asked for each group alone: as many as one call has.
const TIMED: usize = 16;
/// How many families the report names.
const LARGEST: usize = 10;

/// The milliseconds that each group took for one domain, the slowest group first.
pub(super) async fn groups(report: &mut Report, config: &Config, exporter: &Exporter, collection: &Collection) {
    let (asked, times) = measured(config, exporter, collection).await;
    if asked > 0 {
        report.fact("time by group", format!("ms per domain, each group collected alone, of {asked} domains"));
    }
    for (group, millis) in times {
        report.detail(format!("{millis:>8.2}  {group}"));
    }
}

/// How many domains were asked, and the times. The fastest group shows the fixed cost of a call.
async fn measured(config: &Config, exporter: &Exporter, collection: &Collection) -> (u32, Vec<(Group, f64)>) {
    let complete = collection.domains.iter().filter(|domain| domain.is_complete());
    let names: Vec<String> = complete.take(TIMED).map(|domain| regex_syntax::escape(&domain.identity.name)).collect();
    let (Ok(asked), Ok(domains)) = (u32::try_from(names.len()), NamePatterns::new(names)) else {
        return (0, Vec::new());
    };
    let mut times = Vec::new();
    // Groups that share a flag of libvirt's come together: their time is that of the first.
    let first = |group: &Group| {
        !group.stats().is_empty() && Group::ALL.iter().find(|other| other.stats() == group.stats()) == Some(group)
    };
    for group in config.collection.groups.iter().filter(|group| first(group) && asked > 0) {
        let selection = Selection { groups: Some(BTreeSet::from([*group])), domains: domains.clone() };
        let collection = exporter.collect(None, selection).await.collection;
        if collection.error.is_none() {
            times.push((*group, collection.duration.as_secs_f64() * 1e3 / f64::from(asked)));
        }
    }
    times.sort_by(|a, b| b.1.total_cmp(&a.1));
    (asked, times)
}

/// The number of series, and the families with most of them.
pub(super) fn series(report: &mut Report, families: &Families) {
    report.fact("series", families.series().to_string());
    let mut sizes: Vec<(&str, usize)> =
        families.families.iter().map(|family| (&*family.meta.name, family.samples.len())).collect();
    sizes.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
    for (name, series) in sizes.into_iter().take(LARGEST) {
        report.detail(format!("{series:>8}  {name}"));
    }
}
