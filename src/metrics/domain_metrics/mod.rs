//! Families of domains from definitions and events, beside those from their statistics.

mod addresses;
mod definition;
mod enum_labels;
mod events;
mod limits;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::collect::{Collection, Selection};
use crate::config::{Config, DomainLabel};
use crate::domains::{Disk, Domain, ImageKeys, Interface};
use crate::libvirt::Identity;
use crate::metrics::fill::Filling;
use crate::metrics::{Built, DeviceStart, FamilyBuilder, Started, SubjectId, Value};
use crate::tables::Metric;

/// A domain that is shown.
type Shown<'a> = (SubjectId, &'a Domain);

/// The paths of top images, by domain and disk.
type TopPaths<'r> = HashMap<(Uuid, &'r str), &'r str, RandomState>;

/// Puts the families of definitions and events behind those that `built` has from the statistics of the same collection.
///
/// A domain has none if it is not selected, if the collection found it neither running nor with statistics, or while libvirt
/// is unreachable. The counts of all domains stay.
pub fn append(
    built: &mut Built,
    builder: &FamilyBuilder,
    config: &Config,
    collection: &Collection,
    selection: &Selection,
) {
    let shown = shown(built, builder, config, collection, selection);
    let starts = started(&shown, collection);
    for (subject, started) in &starts {
        built.families.subjects.get_mut(*subject).started = Some(started.clone());
    }
    let wanted = |metric: &Metric| {
        let in_group = |group| config.collection.groups.contains(&group) && selection.wants(group);
        metric.table.group.is_none_or(in_group) && config.metrics.selects(metric.row.name)
    };
    let mut filling = Filling::new(&mut built.families, &wanted);
    definition::fill(&mut filling, &shown, &top_paths(collection), &starts);
    limits::fill(&mut filling, &shown);
    addresses::fill(&mut filling, &shown);
    events::fill(&mut filling, &shown, &collection.snapshot.counts);
    let families = filling.finish();
    built.families.families.extend(families);
}

/// When the counters of each domain began.
///
/// Records are older than the list of domains beside them: those of a domain that has started again since are of
/// another incarnation, whose start is no longer known.
fn started(shown: &[Shown<'_>], collection: &Collection) -> Vec<(SubjectId, Started)> {
    let records = collection.batches.iter().flat_map(|records| records.domains());
    let ids: HashMap<Uuid, Option<u32>> = records.map(|record| (record.uuid, record.id)).collect();
    let of = |(subject, domain): &Shown<'_>| {
        let Identity { uuid, id, .. } = domain.identity;
        let id_of_record = ids.get(&uuid).copied().unwrap_or(id);
        let started = Started {
            incarnation: id_of_record.map(|id| (uuid, id)),
            exporter: Some(domain.first_seen),
            ..Started::default()
        };
        let of_incarnation =
            Started { process: domain.started, guest: domain.booted, devices: devices(domain), ..started.clone() };
        (*subject, if id_of_record == id { of_incarnation } else { started })
    };
    shown.iter().map(of).collect()
}

/// Of a domain that is in several records, the first that has images counts.
fn top_paths(collection: &Collection) -> TopPaths<'_> {
    let mut paths = TopPaths::default();
    let mut seen = HashSet::new();
    for records in &collection.batches {
        let keys = ImageKeys::of(records);
        for record in records.domains() {
            let images = keys.top_images(&record).into_iter();
            let mut images = images.filter_map(|image| Some(((record.uuid, image.disk), image.path?))).peekable();
            if images.peek().is_some() && seen.insert(record.uuid) {
                paths.extend(images);
            }
        }
    }
    paths
}

/// The devices that did not begin with the incarnation of their domain: those attached since, and NICs that are the host's own.
fn devices(domain: &Domain) -> Vec<DeviceStart> {
    let Some(metadata) = domain.metadata() else { return Vec::new() };
    let start = |label, name: &str, at| DeviceStart { label, name: name.to_owned(), at };
    let attached = |alias: &str| domain.attached.get(alias).filter(|_| !alias.is_empty()).copied();
    let disk = |disk: &Disk| Some(start("device", &disk.device, Some(attached(&disk.alias)?)));
    let interface = |interface: &Interface| match attached(&interface.alias) {
        _ if interface.is_lasting => Some(start("interface", &interface.device, None)),
        at => Some(start("interface", &interface.device, Some(at?))),
    };
    let disks = metadata.disks.iter().filter_map(disk);
    disks.chain(metadata.interfaces.iter().filter_map(interface)).collect()
}

/// The domains that are shown, ordered by name as those with statistics are.
fn shown<'a>(
    built: &mut Built,
    builder: &FamilyBuilder,
    config: &Config,
    collection: &'a Collection,
    selection: &Selection,
) -> Vec<Shown<'a>> {
    if collection.error.is_some() {
        return Vec::new();
    }
    let running: HashSet<Uuid> = collection.domains.iter().map(|domain| domain.identity.uuid).collect();
    let is_shown = |domain: &&Domain| {
        let identity = &domain.identity;
        let known = running.contains(&identity.uuid) || built.subjects.contains_key(&identity.uuid);
        known && domain.selected && selection.selects(&identity.name)
    };
    let mut domains: Vec<&Domain> = collection.snapshot.domains.iter().map(AsRef::as_ref).filter(is_shown).collect();
    domains.sort_by(|a, b| (&a.identity.name, a.identity.uuid).cmp(&(&b.identity.name, b.identity.uuid)));
    // Between a removal and a new definition, two domains may have one name; their labels must still differ.
    if !config.domains.labels.contains(&DomainLabel::Uuid) {
        let mut names = HashSet::new();
        domains.retain(|domain| names.insert(&domain.identity.name));
    }
    let subject = |domain: &'a Domain| {
        let identity = &domain.identity;
        (builder.subject(built, &identity.name, identity.uuid), domain)
    };
    domains.into_iter().map(subject).collect()
}

/// The value of each domain that has one.
fn each<'a>(
    domains: &'a [Shown<'a>],
    value: impl Fn(&Domain) -> Option<Value> + 'a,
) -> impl Iterator<Item = (SubjectId, Value)> + 'a {
    domains.iter().filter_map(move |(subject, domain)| Some((*subject, value(domain)?)))
}
