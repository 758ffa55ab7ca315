//! From records to families: two passes over the parameters of each domain, since the name of a disk may follow its numbers.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use uuid::Uuid;

use super::columns::{Column, Reads};
use super::family::{Families, Meta, Value};
use super::histogram::{self, Bin};
use super::index::{Index, IndexedRow, Target};
use super::instances::{self, Instances, Place};
use super::labels::LabelSet;
use super::matcher::{Match, Meaning, RuledFamily};
use super::number::{is_valid, scaled, text, whole};
use super::subject::{SubjectId, push_domain};
use crate::config::{Config, UnmappedKeys};
use crate::libvirt::{DomainRecord, Param};
use crate::tables::collection::UNMAPPED;
use crate::tables::{Origin, Row, Scale, Shape, Subject};

/// A row and the labels of the thing that it measures.
type RowInstance = (usize, LabelSet);

/// Whether the image with a number is in the image chain of a domain's disk; `None` if that chain is not known.
pub type Chains<'c> = &'c dyn Fn(Uuid, &str, u32) -> Option<bool>;

/// What one pass over the records gave.
#[derive(Debug)]
pub struct Built {
    /// The families of the domains.
    pub families: Families,
    /// The subject of each domain, by UUID.
    pub subjects: BTreeMap<Uuid, SubjectId>,
    /// How many different keys no row and no rule knew.
    pub unmapped_keys: usize,
    /// How many samples were dropped because another one had their labels.
    pub duplicates: u64,
}

pub(super) struct Builder<'a, 'r> {
    index: &'a Index,
    ruled_families: &'a [Arc<RuledFamily>],
    config: &'a Config,
    chains: Chains<'a>,
    families: Families,
    columns: Vec<Column>,
    ruled: Vec<Column>,
    unmapped: Column,
    subjects: BTreeMap<Uuid, SubjectId>,
    unmapped_keys: HashSet<&'r str, RandomState>,
    /// The labels of the states of a row, which no row of another subject may share.
    state_labels: HashMap<usize, Vec<LabelSet>, RandomState>,
    /// When each group was read that is not in every reply.
    read: Reads,
    duplicates: u64,
    // Of the current record:
    kind: Subject,
    subject: SubjectId,
    instances: Instances<'r>,
    names: Vec<(Place, Cow<'r, str>)>,
    layers: HashMap<u32, u32, RandomState>,
    states: Vec<(usize, u64)>,
    reason: Option<(usize, u64)>,
    infos: BTreeMap<RowInstance, Vec<(usize, Cow<'r, str>)>>,
    bins: BTreeMap<RowInstance, (u32, BTreeMap<u32, Bin>)>,
    unmapped_here: HashSet<&'r str, RandomState>,
}

impl<'a, 'r> Builder<'a, 'r> {
    /// `ruled_families` are those that the matches of the records name.
    pub(super) fn new(
        index: &'a Index,
        ruled_families: &'a [Arc<RuledFamily>],
        config: &'a Config,
        chains: Chains<'a>,
    ) -> Self {
        Self {
            index,
            ruled_families,
            config,
            chains,
            families: Families::default(),
            columns: index.rows.iter().map(|row| Column::new(&row.meta, row.origin, Some(row.group))).collect(),
            ruled: ruled_families
                .iter()
                .map(|family| Column::new(&family.meta, family.origin, Some(family.group)))
                .collect(),
            unmapped: Column::new(&Meta::of(&UNMAPPED.row).into(), Origin::Process, None),
            subjects: BTreeMap::new(),
            unmapped_keys: HashSet::default(),
            state_labels: HashMap::default(),
            read: Reads::default(),
            duplicates: 0,
            kind: Subject::Host,
            subject: SubjectId::HOST,
            instances: Instances::default(),
            names: Vec::new(),
            layers: HashMap::default(),
            states: Vec::new(),
            reason: None,
            infos: BTreeMap::new(),
            bins: BTreeMap::new(),
            unmapped_here: HashSet::default(),
        }
    }

    /// Makes room for the subjects that follow, so many times those that there were so far.
    pub(super) fn foresee(&mut self, times: usize) {
        self.columns.iter_mut().chain(&mut self.ruled).for_each(|column| column.foresee(times));
    }

    /// Adds the samples of one domain, or of another subject of this kind. `matches` are what its records' keys stand for.
    pub(super) fn add(&mut self, kind: Subject, domain: &DomainRecord<'r>, matches: &[Match]) {
        (self.kind, self.subject) = (kind, self.subject_of(kind, domain));
        self.read.note(self.subject, domain);
        self.instances.clear();
        self.read_names(domain, matches);
        let chains = self.chains;
        let in_chain = |disk: &str, image: u32| chains(domain.uuid, disk, image);
        for position in 0..self.names.len() {
            let (place, name) = self.names[position].clone();
            let layer =
                (Some(place.scope) == self.index.disk_scope).then(|| self.layers.get(&place.n)).flatten().copied();
            self.instances.name(self.index, &mut self.families.labels, place, name, layer, &in_chain);
        }
        for param in domain.params() {
            self.add_param(domain, &matches[param.number], param);
        }
        self.add_reason();
        self.add_infos();
        self.add_histograms(domain, matches);
        if domain.is_active() {
            self.add_layer_counts();
        }
        self.unmapped_here.clear();
    }

    fn subject_of(&mut self, kind: Subject, record: &DomainRecord<'r>) -> SubjectId {
        let (families, config) = (&mut self.families, self.config);
        match kind {
            Subject::Exporter => SubjectId::EXPORTER,
            Subject::Host => SubjectId::HOST,
            Subject::Domain => {
                let add = || push_domain(families, config, record.name, record.uuid);
                *self.subjects.entry(record.uuid).or_insert_with(add)
            }
            Subject::Pool | Subject::Network => {
                families.push_subject(kind, kind.object_label().map(|label| (label, record.name)))
            }
        }
    }

    /// First pass: what the numbered things are called.
    fn read_names(&mut self, domain: &DomainRecord<'r>, matches: &[Match]) {
        self.names.clear();
        self.layers.clear();
        for param in domain.params() {
            let found = &matches[param.number];
            let Meaning::Mapped(target) = found.meaning else { continue };
            if let Some(scope) = target.names
                && let Some(name) = text(param.value)
            {
                self.names.push((self.place(scope, found), name));
            }
            if target.is_layer
                && let Some(layer) = whole(param.value).and_then(|layer| u32::try_from(layer).ok())
            {
                self.layers.insert(found.n, layer);
            }
        }
    }

    fn place(&self, scope: usize, found: &Match) -> Place {
        let nested = self.index.scopes[scope].parent.is_some();
        Place { scope, n: found.n, m: if nested { found.m } else { 0 } }
    }

    /// Second pass: one parameter becomes its sample, or waits for others of its domain.
    fn add_param(&mut self, domain: &DomainRecord<'r>, found: &Match, param: Param<'r>) {
        match found.meaning {
            Meaning::Mapped(target) => self.add_mapped(domain, target, found, param),
            Meaning::Ruled { family } => {
                let family_rule = &self.ruled_families[family];
                let labels = self.labels_of(family_rule.scope, found).0;
                match scaled(param.value, family_rule.scale) {
                    Some(value) if is_valid(family_rule.meta.kind, value) => {
                        self.ruled[family].push(self.subject, labels, value);
                    }
                    Some(_) => {}
                    None => self.add_unmapped(param),
                }
            }
            Meaning::Unwanted => {}
            Meaning::Unmapped => self.add_unmapped(param),
        }
    }

    fn labels_of(&mut self, scope: Option<usize>, found: &Match) -> (LabelSet, instances::Kind) {
        let Some(scope) = scope else {
            return (LabelSet::EMPTY, instances::Kind::Itself);
        };
        let place = self.place(scope, found);
        let instance = self.instances.get(self.index, &mut self.families.labels, place);
        (instance.labels, instance.kind)
    }

    fn add_mapped(&mut self, domain: &DomainRecord<'r>, target: Target, found: &Match, param: Param<'r>) {
        let Some(candidate) = target.row.map(|(row, _)| row).or(target.backing_row) else {
            return;
        };
        let (labels, kind) = self.labels_of(self.index.rows[candidate].scope, found);
        let (row, part) = match (kind, target.row, target.backing_row) {
            (instances::Kind::Layer, _, Some(row)) => (row, 0),
            (instances::Kind::Itself, Some(target), _) => target,
            (instances::Kind::Layer, Some(_), None) => return self.add_unmapped(param),
            (instances::Kind::Other, ..) | (_, None, _) => return,
        };
        let index: &'a Index = self.index;
        let indexed = &index.rows[row];
        if indexed.subject != self.kind {
            return self.add_unmapped(param);
        }
        // What KVM tells in a comparison, later records would not have.
        let is_once = !domain.compared.and(indexed.group.stats()).is_empty() && indexed.is_from_kvm(param.key);
        if !indexed.enabled || (indexed.active_only && !domain.is_active()) || is_once {
            return;
        }
        self.add_value(row, part, indexed, labels, found, param);
    }

    fn add_value(
        &mut self,
        row: usize,
        part: usize,
        indexed: &IndexedRow,
        labels: LabelSet,
        found: &Match,
        param: Param<'r>,
    ) {
        match indexed.row.shape {
            Shape::Number | Shape::NonZero | Shape::BackingNumber | Shape::BackingLayers => {
                let Some(value) = scaled(param.value, indexed.row.scale) else {
                    return self.add_unmapped(param);
                };
                let never = matches!(indexed.row.shape, Shape::NonZero) && value == Value::Unsigned(0);
                if !never && is_valid(indexed.row.kind, value) {
                    self.columns[row].push(self.subject, labels, value);
                }
            }
            Shape::States { label, names } => match whole(param.value) {
                Some(state) => self.add_state(row, label, names, state),
                None => self.add_unmapped(param),
            },
            Shape::Reason { .. } => match whole(param.value) {
                Some(reason) => self.reason = Some((row, reason)),
                None => self.add_unmapped(param),
            },
            Shape::Info | Shape::BackingInfo => {
                if let Some(text) = text(param.value) {
                    self.infos.entry((row, labels)).or_default().push((part, text));
                }
            }
            Shape::Histogram { .. } => {
                let (_, bins) = self.bins.entry((row, labels)).or_insert_with(|| (found.n, BTreeMap::new()));
                match part {
                    0 => bins.entry(found.m).or_default().start = whole(param.value),
                    1 => bins.entry(found.m).or_default().count = whole(param.value),
                    // The number of bins: each of them has its own keys.
                    _ => {}
                }
            }
        }
    }

    /// The first state counts: another one would be a series of the same labels, or a second state that is 1.
    fn add_state(&mut self, row: usize, label: &str, names: &[&str], state: u64) {
        if self.states.iter().any(|(known, _)| *known == row) {
            self.duplicates += 1;
            return;
        }
        self.states.push((row, state));
        let table = &mut self.families.labels;
        let labels = self.state_labels.entry(row);
        let labels = labels.or_insert_with(|| names.iter().map(|name| table.push([(label, *name)])).collect());
        let current = usize::try_from(state).unwrap_or(usize::MAX);
        for (position, labels) in labels.iter().enumerate() {
            let value = Value::Unsigned(u64::from(position == current));
            self.columns[row].push(self.subject, *labels, value);
        }
        if current >= names.len() {
            let labels = self.families.labels.push([(label, format!("{label}_{state}").as_str())]);
            self.columns[row].push(self.subject, labels, Value::Unsigned(1));
        }
    }

    /// The reason means something only together with the state, which may come after it.
    fn add_reason(&mut self) {
        let of_domain = std::mem::take(&mut self.states);
        let Some((row, reason)) = self.reason.take() else { return };
        let group = self.index.rows[row].group;
        let state = of_domain.iter().find(|(row, _)| self.index.rows[*row].group == group);
        let Shape::Reason { states, reasons } = self.index.rows[row].row.shape else {
            return;
        };
        let Some(&(_, state)) = state else { return };
        let position = usize::try_from(state).unwrap_or(usize::MAX);
        let state_name =
            states.get(position).map_or_else(|| format!("state_{state}").into(), |name| Cow::Borrowed(*name));
        let known = reasons.get(position).and_then(|of_state| of_state.get(usize::try_from(reason).ok()?));
        let reason_name = known.map_or_else(|| format!("reason_{reason}").into(), |name| Cow::Borrowed(*name));
        let labels = self.families.labels.push([("state", state_name.as_ref()), ("reason", reason_name.as_ref())]);
        self.columns[row].push(self.subject, labels, Value::Unsigned(1));
    }

    fn add_infos(&mut self) {
        while let Some(((row, base), parts)) = self.infos.pop_first() {
            let indexed_row: &'static Row = self.index.rows[row].row;
            let mut labels = base;
            for (part, name) in indexed_row.labels.iter().enumerate() {
                let value = parts.iter().find(|(of, value)| *of == part && !value.is_empty());
                if let Some((_, value)) = value {
                    labels = self.families.labels.extend(labels, name, value);
                }
            }
            self.columns[row].push(self.subject, labels, Value::Unsigned(1));
        }
    }

    fn add_histograms(&mut self, domain: &DomainRecord<'r>, matches: &[Match]) {
        while let Some(((row, labels), (n, bins))) = self.bins.pop_first() {
            let Shape::Histogram { sum } = self.index.rows[row].row.shape else {
                continue;
            };
            let sum = sum.and_then(|pattern| self.value_of(domain, matches, pattern, n));
            let bins: Vec<Bin> = bins.into_values().collect();
            if let Some(histogram) = histogram::assemble(&bins, sum) {
                let value = Value::Histogram(self.families.histograms.len());
                self.families.histograms.push(histogram);
                self.columns[row].push(self.subject, labels, value);
            }
        }
    }

    /// The value of the key `pattern` with the number `n`. Only guests with histograms pay for the search.
    fn value_of(&self, domain: &DomainRecord<'r>, matches: &[Match], pattern: &str, n: u32) -> Option<u64> {
        let wanted = Meaning::Mapped(*self.index.patterns.get(pattern)?);
        let is_it = |found: &Match| found.meaning == wanted && found.n == n;
        domain.params().find(|param| is_it(&matches[param.number])).and_then(|param| whole(param.value))
    }

    fn add_layer_counts(&mut self) {
        let Some(row) = self.index.backing_layers else { return };
        if !self.config.collection.backing_chain || !self.index.rows[row].enabled {
            return;
        }
        for &(disk, layers) in &self.instances.disks {
            self.columns[row].push(self.subject, disk, Value::Unsigned(layers));
        }
    }

    fn add_unmapped(&mut self, param: Param<'r>) {
        self.unmapped_keys.insert(param.key);
        if self.config.metrics.unmapped == UnmappedKeys::Count || !self.config.metrics.selects(UNMAPPED.row.name) {
            return;
        }
        let Some(value) = scaled(param.value, Scale::One).filter(|_| self.kind == Subject::Domain) else {
            return;
        };
        if self.unmapped_here.insert(param.key) {
            let labels = self.families.labels.push([("key", param.key)]);
            self.unmapped.push(self.subject, labels, value);
        } else {
            self.duplicates += 1;
        }
    }

    pub(super) fn finish(mut self) -> Built {
        let mut ruled = self.ruled;
        ruled.sort_by(|a, b| a.name().cmp(b.name()));
        for column in self.columns.into_iter().chain(ruled).chain([self.unmapped]) {
            let (family, dropped) = column.finish(&self.read);
            self.families.families.extend(family);
            self.duplicates += dropped;
        }
        Built {
            families: self.families,
            subjects: self.subjects,
            unmapped_keys: self.unmapped_keys.len(),
            duplicates: self.duplicates,
        }
    }
}

#[cfg(test)]
mod tests;
