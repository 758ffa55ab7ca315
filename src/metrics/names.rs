//! The value of the label `domain`, where `domains.name_from` takes it from the domain's definition.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::Built;
use super::labels::LabelTable;
use super::{LabelSet, SubjectId};
use crate::config::NameFrom;
use crate::domains::Domain;

/// Gives the domains of `built` the names that `from` says, if `domains` has them. A domain without one keeps its own, and so do
/// those that would share one.
pub fn rename<'d>(built: &mut Built, from: &NameFrom, domains: impl Iterator<Item = &'d Domain> + Clone) {
    let Some(label) = from.label() else { return };
    let wanted = |domain: &'d Domain| {
        let name = domain.metadata().map_or("", |metadata| metadata.label(label));
        if name.is_empty() { &*domain.identity.name } else { name }
    };
    // How many domains have each name, by their own or as they would be called.
    let mut uses: HashMap<&str, usize, RandomState> = HashMap::default();
    for domain in domains.clone() {
        let own = &*domain.identity.name;
        *uses.entry(own).or_default() += 1;
        if wanted(domain) != own {
            *uses.entry(wanted(domain)).or_default() += 1;
        }
    }
    for domain in domains {
        let name = wanted(domain);
        if name == domain.identity.name || uses.get(name) != Some(&1) {
            continue;
        }
        if let Some(subject) = built.subjects.get(&domain.identity.uuid) {
            relabel(built, *subject, name);
        }
    }
}

/// Labels and identity of a subject are one set, unless the configuration shows only one of them.
fn relabel(built: &mut Built, subject: SubjectId, name: &str) {
    let families = &mut built.families;
    let (labels, identity) = (families.subjects.get(subject).labels, families.subjects.get(subject).identity);
    let with_name = named(&mut families.labels, identity, name);
    let labels = if labels == identity { with_name } else { named(&mut families.labels, labels, name) };
    let subject = families.subjects.get_mut(subject);
    (subject.labels, subject.identity) = (labels, with_name);
}

/// The same labels, `domain` with another value.
fn named(labels: &mut LabelTable, set: LabelSet, name: &str) -> LabelSet {
    let old: Vec<(String, String)> =
        labels.get(set).map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
    labels
        .push(old.iter().map(|(label, value)| (label.as_str(), if label == "domain" { name } else { value.as_str() })))
}
