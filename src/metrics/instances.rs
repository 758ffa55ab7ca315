//! The numbered parts of one domain's keys: which disk is `block.0`, and what its labels are.

use std::borrow::Cow;
use std::collections::HashMap;

use super::index::Index;
use super::labels::{LabelSet, LabelTable};
use foldhash::fast::RandomState;

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
    pub(super) kind: Kind,
}

/// What a numbered part of a key is, or lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A separate thing.
    Itself,
    /// A layer below the top image of a disk.
    Layer,
    /// An image that libvirt reports under a disk's name and that is none of its layers: the target of a copy, the scratch file
    /// of a backup, or one that the definition does not tell of.
    Other,
}

/// Whether the image with a number is in the image chain of the disk with a name; `None` if its chain is not known.
pub(super) type InChain<'c> = &'c dyn Fn(&str, u32) -> Option<bool>;

/// The instances of one domain.
#[derive(Debug, Default)]
pub(super) struct Instances<'r> {
    known: HashMap<Place, Instance, RandomState>,
    /// Label values given out within a scope and the labels around it: no two instances may share one.
    taken: HashMap<(usize, LabelSet, Cow<'r, str>), LabelSet, RandomState>,
    last: Option<(Place, Instance)>,
    /// The disks whose chain is known, in the order of their first records, each with its number of layers below the top image.
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
    /// is the thing itself; a later one with a layer number is a layer below it if it is `in_chain`, and else no part of it; any
    /// other is told apart by its number.
    pub(super) fn name(
        &mut self,
        index: &Index,
        labels: &mut LabelTable,
        place: Place,
        name: Cow<'r, str>,
        layer: Option<u32>,
        in_chain: InChain<'_>,
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
                let number = Cow::Owned(layer.to_string());
                // The base of an active commit is in the chain, and reported as the target of the job again.
                let is_new = !self.taken.contains_key(&(place.scope, top, Cow::clone(&number)));
                if is_new && in_chain(&name, layer) == Some(true) {
                    if let Some(disk) = self.disks.iter_mut().find(|disk| disk.0 == top) {
                        disk.1 += 1;
                    }
                    let labels = self.distinct(labels, place, top, "backing_index", number);
                    Instance { labels, kind: Kind::Layer }
                } else {
                    Instance { labels: top, kind: Kind::Other }
                }
            }
            _ => {
                let is_known = layer.is_some_and(|layer| in_chain(&name, layer).is_some());
                let labels = self.distinct(labels, place, around, scope.scope.label, name);
                if Some(place.scope) == index.disk_scope && is_known {
                    self.disks.push((labels, 0));
                }
                Instance { labels, kind: outer.map_or(Kind::Itself, |outer| outer.kind) }
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
            None => self.name(index, labels, place, number.to_string().into(), None, &|_, _| None),
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::libvirt::{ParamValue, Records};
    use crate::metrics::{Families, FamilyBuilder};

    /// Name, labels and value of what is shown of the images below the disks of a domain.
    fn layers(families: &Families) -> Vec<String> {
        let shown = families.families.iter().filter(|family| family.meta.name.contains("_backing_"));
        let line = |name: &str, set, value| {
            let labels: Vec<String> = families.labels.get(set).map(|(name, value)| format!("{name}={value}")).collect();
            format!("{name} {} {value:?}", labels.join(" "))
        };
        shown
            .flat_map(|family| family.samples.iter().map(move |sample| (family, sample)))
            .map(|(family, sample)| line(&family.meta.name, sample.labels(), sample.value()))
            .collect()
    }

    #[test]
    fn only_the_images_of_its_chain_are_layers_of_a_disk() {
        let mut records = Records::default();
        let image = |records: &mut Records, number: u32, disk: &str, index: u32, path: &str| {
            records.push(&format!("block.{number}.name"), ParamValue::String(disk));
            records.push(&format!("block.{number}.path"), ParamValue::String(path));
            records.push(&format!("block.{number}.backingIndex"), ParamValue::UInt(index));
        };
        for id in [Some(1), None] {
            records.push_domain(if id.is_some() { "on" } else { "off" }, Uuid::from_u128(id.unwrap_or(0).into()), id);
            image(&mut records, 0, "vda", 1, "/top");
            image(&mut records, 1, "vda", 3, "/base");
            // The base is the target of an active commit; the others are those of a copy and of a backup.
            image(&mut records, 2, "vda", 3, "/base");
            image(&mut records, 3, "vda", 10, "/copy");
            records.push("block.3.physical", ParamValue::ULLong(7));
            image(&mut records, 4, "vdb", 2, "/alone");
            image(&mut records, 5, "vdb", 11, "/scratch");
            // Of this one the definition has not been read.
            image(&mut records, 6, "vdc", 4, "/c");
            image(&mut records, 7, "vdc", 5, "/d");
        }
        let config = crate::config::parse("collection: {backing_chain: true}", "test").expect("a configuration");
        let in_chain = |_, disk: &str, image: u32| match disk {
            "vda" => Some([1, 3].contains(&image)),
            "vdb" => Some(image == 2),
            _ => None,
        };
        let built = FamilyBuilder::new(&config).build_with(&[&records], &[], &in_chain);
        let info = "libvirt_domain_block_backing_info device=vda backing_index=3 path=/base Unsigned(1)";
        let count = |disk, layers| format!("libvirt_domain_block_backing_layers device={disk} Unsigned({layers})");
        let expected = [info.to_owned(), info.to_owned(), count("vda", 1), count("vdb", 0)];
        assert_eq!(layers(&built.families), expected, "of one that is shut off the chain is not known");
        assert_eq!(built.duplicates, 0);
    }
}
