//! The numbered parts of one domain's keys: which disk is `block.0`, and what its labels are.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::family::{LabelSet, LabelTable};
use super::index::Index;

/// A numbered part of a key: its scope, and the first and second number of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) scope: usize,
    pub(super) n: u32,
    /// 0 where the scope has one number.
    pub(super) m: u32,
}

/// What a numbered part of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) labels: LabelSet,
    /// Whether it is, or lies in, a layer below the top image of a disk.
    pub(super) is_layer: bool,
}

/// The instances of one domain.
#[derive(Debug, Default)]
pub(super) struct Instances<'r> {
    known: HashMap<Place, Instance, RandomState>,
    /// Label values given out within a scope and the labels around it: no two instances may share one.
    taken: HashMap<(usize, LabelSet, Cow<'r, str>), LabelSet, RandomState>,
    last: Option<(Place, Instance)>,
    /// The disks in the order of their first records, each with its number of layers below the top image.
    pub(super) disks: Vec<(LabelSet, u64)>,
}

impl<'r> Instances<'r> {
    /// Forgets the last domain.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.taken.clear();
        self.last = None;
        self.disks.clear();
    }

    /// Gives the instance at `place` its name; `layer` is its place in a disk's image chain. The first instance of a name
    /// is the thing itself; a later one with a layer number is a layer below it; any other is told apart by its number.
    pub(super) fn name(
        &mut self,
        index: &Index,
        labels: &mut LabelTable,
        place: Place,
        name: Cow<'r, str>,
        layer: Option<u32>,
    ) -> Instance {
        if let Some(&instance) = self.known.get(&place) {
            return instance;
        }
        let scope = &index.scopes[place.scope];
        let outer = scope.parent.map(|scope| self.get(index, labels, Place { scope, m: 0, ..place }));
        let around = outer.map_or(LabelSet::EMPTY, |outer| outer.labels);
        let top = self.taken.get(&(place.scope, around, Cow::Borrowed(name.as_ref()))).copied();
        let instance = match (top, layer) {
            (Some(top), Some(layer)) => {
                let labels = self.distinct(labels, place, top, "backing_index", layer.to_string().into());
                if let Some(disk) = self.disks.iter_mut().find(|disk| disk.0 == top) {
                    disk.1 += 1;
                }
                Instance { labels, is_layer: true }
            }
            _ => {
                let labels = self.distinct(labels, place, around, scope.scope.label, name);
                if Some(place.scope) == index.disk_scope {
                    self.disks.push((labels, 0));
                }
                Instance { labels, is_layer: outer.is_some_and(|outer| outer.is_layer) }
            }
        };
        self.known.insert(place, instance);
        instance
    }

    /// The instance at `place`, named by its number unless it has been named before.
    pub(super) fn get(&mut self, index: &Index, labels: &mut LabelTable, place: Place) -> Instance {
        if let Some((last, instance)) = self.last
            && last == place
        {
            return instance;
        }
        let number = if index.scopes[place.scope].parent.is_some() { place.m } else { place.n };
        let instance = match self.known.get(&place) {
            Some(&instance) => instance,
            None => self.name(index, labels, place, number.to_string().into(), None),
        };
        self.last = Some((place, instance));
        instance
    }

    /// A set of labels that no other instance has: a value that is taken gets the instance's number appended.
    fn distinct(
        &mut self,
        labels: &mut LabelTable,
        place: Place,
        around: LabelSet,
        label: &str,
        mut value: Cow<'r, str>,
    ) -> LabelSet {
        while self.taken.contains_key(&(place.scope, around, Cow::Borrowed(value.as_ref()))) {
            let number = if place.m > 0 { place.m } else { place.n };
            value = format!("{value}#{number}").into();
        }
        let set = labels.extend(around, label, &value);
        self.taken.insert((place.scope, around, value), set);
        set
    }
}
