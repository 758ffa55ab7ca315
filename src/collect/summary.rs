//! A record in short: what the scheduler has to know of it without looking through all of it. Made by the worker that
//! fetched it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use foldhash::fast::FixedState;
use uuid::Uuid;

use crate::config::Group;
use crate::domains::{Disk, ImageKeys, Metadata, TopImage};
use crate::libvirt::{DomainRecord, Param, ParamValue, Records, StatsGroups};

/// The records of a reply in short.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    /// Each record, in their order.
    pub(super) domains: Vec<Summary>,
    /// How many parameters each group has; those of no group are not counted.
    pub(super) parameters: BTreeMap<Group, usize>,
}

/// A record in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) uuid: Uuid,
    /// Its size on the wire in bytes.
    pub(super) size: usize,
    pub(super) devices: Devices,
    /// Whether the domain had a hypervisor process.
    pub(super) active: bool,
    /// The groups of which it has what only the hypervisor's answer can have given.
    pub(super) answers: StatsGroups,
    /// The groups that come from elsewhere than this reply, and those that should have.
    pub(super) elsewhere: StatsGroups,
    pub(super) unread: StatsGroups,
    /// Whether `block.count` says that there are disks.
    pub(super) has_disks: bool,
}

/// Numbers that change with the names and sources of a domain's disks, with the names of its NICs, and with the most vCPUs
/// and memory that it can have; `None` where the record does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Devices {
    pub(super) disks: Option<u64>,
    pub(super) interfaces: Option<u64>,
    pub(super) sizes: Option<u64>,
}

/// What a record tells that those before it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct News {
    /// Something for the first time.
    pub(super) first: bool,
    /// Something else than before.
    pub(super) changed: bool,
    /// Other disks, or other images of them, than before.
    pub(super) other_disks: bool,
}

impl Devices {
    /// Takes over what `newer` tells.
    pub(super) fn update(&mut self, newer: Self) -> News {
        let mut news = News::default();
        let mut take = |old: &mut Option<u64>, new: Option<u64>| {
            let old_one = std::mem::replace(old, new.or(*old));
            news.first |= old_one.is_none() && new.is_some();
            let changed = old_one.is_some() && new.is_some() && old_one != new;
            news.changed |= changed;
            changed
        };
        let other_disks = take(&mut self.disks, newer.disks);
        take(&mut self.interfaces, newer.interfaces);
        take(&mut self.sizes, newer.sizes);
        News { other_disks, ..news }
    }
}

/// Whether a record tells something else of a domain's disks, NICs and sizes than its definition does: that is older then. A
/// part of which the record tells nothing contradicts nothing.
pub(super) fn contradicts(record: &DomainRecord<'_>, images: &ImageKeys, metadata: &Metadata) -> bool {
    let mut interfaces: BTreeSet<&str> = BTreeSet::new();
    let mut other_size = false;
    for param in record.params() {
        match param.value {
            ParamValue::String(name) if param.key.starts_with("net.") && param.key.ends_with(".name") => {
                interfaces.insert(name);
            }
            ParamValue::UInt(most) => {
                other_size |= param.key == "vcpu.maximum" && metadata.vcpus.is_some_and(|vcpus| vcpus != most);
            }
            ParamValue::ULLong(most) => {
                let is_other = |bytes: u64| bytes / 1024 != most;
                other_size |= param.key == "balloon.maximum" && metadata.memory_bytes.is_some_and(is_other);
            }
            _ => {}
        }
    }
    let known = metadata.interfaces.iter().map(|interface| interface.device.as_str());
    let known: BTreeSet<&str> = known.filter(|device| !device.is_empty()).collect();
    let tops = images.top_images(record);
    other_size
        || (!interfaces.is_empty() && interfaces != known)
        || (!tops.is_empty() && other_disks(&tops, &metadata.disks))
}

/// Whether these are other disks, or other images, than those of the definition.
fn other_disks(tops: &[TopImage<'_>], disks: &[Disk]) -> bool {
    let is_other = |disk: &Disk| {
        let top = tops.iter().find(|top| top.disk == disk.device);
        top.is_none_or(|top| disk.is_local() && top.path.unwrap_or_default() != disk.source)
    };
    tops.len() != disks.len() || disks.iter().any(is_other)
}

/// What a key alone tells of its parameters.
struct KeyFacts {
    group: Option<Group>,
    /// Its size on the wire in bytes, and that of the type tag.
    size: usize,
    /// Whether the value is what a disk is called or where it lies, or what a NIC is called.
    names_disk: bool,
    names_interface: bool,
    counts_disks: bool,
    /// The group whose answer from the hypervisor it shows.
    answers: StatsGroups,
    /// Whether the value is how many vCPUs, or how much memory, the domain can have at most.
    is_size: bool,
}

/// The records in short.
pub(super) fn summaries_of(records: &Records) -> Summaries {
    let keys: Vec<KeyFacts> = records.keys().map(facts_of).collect();
    let mut counts = vec![0; keys.len()];
    let domains = records.domains().map(|record| summary_of(&record, &keys, &mut counts)).collect();
    let mut parameters = BTreeMap::new();
    for (facts, count) in keys.iter().zip(counts) {
        if let Some(group) = facts.group {
            *parameters.entry(group).or_default() += count;
        }
    }
    Summaries { domains, parameters }
}

fn facts_of(key: &str) -> KeyFacts {
    let group = Group::of_key(key);
    let ends_with = |suffixes: &[&str]| suffixes.iter().any(|suffix| key.ends_with(suffix));
    KeyFacts {
        group,
        size: 8 + padded(key.len()),
        names_disk: group == Some(Group::Block) && ends_with(&[".name", ".path", ".backingIndex"]),
        names_interface: group == Some(Group::Interface) && ends_with(&[".name"]),
        counts_disks: key == "block.count",
        answers: answers_of(group, key),
        is_size: ["vcpu.maximum", "balloon.maximum"].contains(&key),
    }
}

/// The group of which `key` is only there once the hypervisor has been asked.
fn answers_of(group: Option<Group>, key: &str) -> StatsGroups {
    let shows = |group: &Group| group.info().monitor.as_ref().is_some_and(|monitor| monitor.answers.matches(key));
    group.filter(shows).map_or(StatsGroups::NONE, Group::stats)
}

fn summary_of(record: &DomainRecord<'_>, keys: &[KeyFacts], counts: &mut [usize]) -> Summary {
    let state = FixedState::with_seed(0);
    let [mut disks, mut interfaces, mut sizes] = [(); 3].map(|()| state.build_hasher());
    let [mut has_disks, mut has_interfaces, mut has_sizes] = [false; 3];
    let mut size = 28 + padded(record.name.len());
    let (mut answers, mut counted_disks) = (StatsGroups::default(), false);
    for param in record.params() {
        let facts = &keys[param.number];
        counts[param.number] += 1;
        size += facts.size + size_of(param.value);
        answers |= facts.answers;
        counted_disks |= facts.counts_disks && !matches!(param.value, ParamValue::UInt(0));
        if facts.names_disk {
            has_disks = true;
            hash(param, &mut disks);
        }
        if facts.names_interface {
            has_interfaces = true;
            hash(param, &mut interfaces);
        }
        if facts.is_size {
            has_sizes = true;
            hash(param, &mut sizes);
        }
    }
    let devices = Devices {
        disks: has_disks.then(|| disks.finish()),
        interfaces: has_interfaces.then(|| interfaces.finish()),
        sizes: has_sizes.then(|| sizes.finish()),
    };
    let DomainRecord { uuid, elsewhere, unread, .. } = *record;
    Summary { uuid, size, devices, active: record.is_active(), answers, elsewhere, unread, has_disks: counted_disks }
}

fn hash(param: Param<'_>, hasher: &mut impl std::hash::Hasher) {
    param.key.hash(hasher);
    match param.value {
        ParamValue::String(text) => text.hash(hasher),
        ParamValue::UInt(number) => number.hash(hasher),
        ParamValue::ULLong(number) => number.hash(hasher),
        _ => {}
    }
}

/// The size of a value on the wire (XDR).
fn size_of(value: ParamValue<'_>) -> usize {
    match value {
        ParamValue::String(text) => 4 + padded(text.len()),
        ParamValue::LLong(_) | ParamValue::ULLong(_) | ParamValue::Double(_) => 8,
        _ => 4,
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(params: &[(&str, ParamValue<'_>)]) -> Devices {
        let mut records = Records::default();
        records.push_domain("x", Uuid::nil(), Some(1));
        params.iter().for_each(|(key, value)| records.push(key, *value));
        summaries_of(&records).domains[0].devices
    }

    #[test]
    fn parameters_are_counted_by_their_group() {
        let mut records = Records::default();
        for name in ["web", "db"] {
            records.push_domain(name, Uuid::nil(), Some(1));
            for key in ["state.state", "block.count", "block.0.name", "vcpu.0.exits.sum", "new.thing"] {
                records.push(key, ParamValue::Int(1));
            }
        }
        let counted = [(Group::State, 2), (Group::Block, 4), (Group::VcpuKvm, 2)];
        assert_eq!(summaries_of(&records).parameters, BTreeMap::from(counted));
    }

    #[test]
    fn a_disk_that_is_swapped_is_noticed_and_a_counter_is_not() {
        let first = News { first: true, ..News::default() };
        let changed = News { changed: true, ..News::default() };
        let disk = |path| ("block.0.path", ParamValue::String(path));
        let (name, reads) = (("block.0.name", ParamValue::String("vda")), ("block.0.rd.reqs", ParamValue::ULLong(1)));
        let mut known = devices(&[name, disk("/a"), reads]);
        assert!(known.disks.is_some() && known.interfaces.is_none());
        assert_eq!(
            known.update(devices(&[name, disk("/a"), ("block.0.rd.reqs", ParamValue::ULLong(2))])),
            News::default()
        );
        assert_eq!(known.update(devices(&[])), News::default(), "a record without the group");
        assert_eq!(known.update(devices(&[("net.0.name", ParamValue::String("vnet0"))])), first);
        assert_eq!(known.update(devices(&[("net.0.name", ParamValue::String("vnet1"))])), changed);
        let sizes =
            |most| devices(&[("vcpu.maximum", ParamValue::UInt(most)), ("balloon.maximum", ParamValue::ULLong(9))]);
        assert_eq!((known.update(sizes(2)), known.update(sizes(4))), (first, changed));
        let changed = News { other_disks: true, ..changed };
        assert_eq!(known.update(devices(&[name, disk("/snapshot"), reads])), changed);
        assert_eq!(
            known.update(devices(&[name, disk("/snapshot"), ("block.0.backingIndex", ParamValue::UInt(3))])),
            changed
        );
    }

    #[test]
    fn a_record_contradicts_a_definition_that_is_older() {
        let xml = "<domain><memory unit='MiB'>64</memory><vcpu>4</vcpu><devices>\
                   <disk type='file'><source file='/vda.s1'/><target dev='vda'/></disk>\
                   <disk type='network'><source protocol='rbd' name='pool/x'/><target dev='vdb'/></disk>\
                   <disk type='file' device='cdrom'><target dev='sda'/></disk>\
                   <interface type='bridge'><target dev='vnet0'/></interface><interface type='user'/></devices></domain>";
        let metadata =
            crate::domains::parse_definition(xml, &crate::config::MetadataLabels::new()).expect("a definition");
        let contradicted = |params: &[(&str, ParamValue<'_>)]| {
            let mut records = Records::default();
            records.push_domain("x", Uuid::nil(), Some(1));
            params.iter().for_each(|(key, value)| records.push(key, *value));
            let record = records.domains().next().expect("a record");
            contradicts(&record, &ImageKeys::of(&records), &metadata)
        };
        let text = ParamValue::String;
        let disks = [
            ("block.0.name", text("vda")),
            ("block.0.path", text("/vda.s1")),
            ("block.1.name", text("vda")),
            ("block.1.path", text("/vda.img")),
            ("block.2.name", text("vdb")),
            ("block.10.name", text("sda")),
        ];
        let with = |key: &'static str, value: ParamValue<'static>| {
            let mut disks = disks.to_vec();
            disks.retain(|(known, _)| *known != key);
            disks.push((key, value));
            contradicted(&disks)
        };
        assert!(!contradicted(&disks) && !contradicted(&[]));
        assert!(with("block.0.path", text("/vda.s2")), "a snapshot");
        assert!(!with("block.1.path", text("/other.img")), "the layers below are not compared");
        assert!(!with("block.2.path", text("/dev/rbd0")), "an image on the network has no path in its definition");
        assert!(with("block.10.path", text("/cd.iso")), "a medium");
        assert!(with("block.11.name", text("vdc")) && contradicted(&disks[..5]), "one disk more, one less");
        assert!(!contradicted(&[("net.0.name", text("vnet0"))]) && contradicted(&[("net.0.name", text("vnet1"))]));
        assert!(!contradicted(&[("vcpu.maximum", ParamValue::UInt(4))]));
        assert!(contradicted(&[("vcpu.maximum", ParamValue::UInt(2))]));
        assert!(!contradicted(&[("balloon.maximum", ParamValue::ULLong(65_536))]));
        assert!(contradicted(&[("balloon.maximum", ParamValue::ULLong(131_072))]));
    }
}
