//! What the coordinator has to know of a record without looking through all of it: found out by the worker that fetched it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use foldhash::fast::FixedState;
use uuid::Uuid;

use super::selection::group_of;
use crate::config::Group;
use crate::libvirt::{DomainRecord, Param, ParamValue, Records, StatsGroups};

/// The records of a reply in short.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// Each record, in their order.
    pub(super) domains: Vec<Shape>,
    /// How many parameters each group has; those of no group are left out.
    pub(super) parameters: BTreeMap<Group, usize>,
}

/// A record in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) uuid: Uuid,
    /// Its size on the wire in bytes.
    pub(super) size: usize,
    pub(super) devices: Devices,
    /// Whether the domain had a hypervisor process.
    pub(super) active: bool,
    /// The groups of which it has what only the hypervisor's answer can have given.
    pub(super) answers: StatsGroups,
    /// Whether `block.count` says that there are disks.
    pub(super) has_disks: bool,
}

/// Numbers that change with the names and sources of a domain's disks, and with the names of its NICs; `None` where the
/// record does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Devices {
    pub(super) disks: Option<u64>,
    pub(super) interfaces: Option<u64>,
}

impl Devices {
    /// Takes over what `newer` tells; `true` if that is something else than what was told before.
    pub(super) fn update(&mut self, newer: Self) -> bool {
        let changed = |old: &mut Option<u64>, new: Option<u64>| match (*old, new) {
            (_, None) => false,
            (old_one, Some(_)) => {
                *old = new;
                old_one.is_some_and(|old_one| Some(old_one) != new)
            }
        };
        // Both are updated.
        changed(&mut self.disks, newer.disks) | changed(&mut self.interfaces, newer.interfaces)
    }
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
}

/// The records in short.
pub(super) fn shapes_of(records: &Records) -> Shapes {
    let keys: Vec<KeyFacts> = records.keys().map(facts_of).collect();
    let mut counts = vec![0; keys.len()];
    let domains = records.domains().map(|record| shape_of(&record, &keys, &mut counts)).collect();
    let mut parameters = BTreeMap::new();
    for (facts, count) in keys.iter().zip(counts) {
        if let Some(group) = facts.group {
            *parameters.entry(group).or_default() += count;
        }
    }
    Shapes { domains, parameters }
}

fn facts_of(key: &str) -> KeyFacts {
    let group = group_of(key);
    let ends_with = |suffixes: &[&str]| suffixes.iter().any(|suffix| key.ends_with(suffix));
    KeyFacts {
        group,
        size: 8 + padded(key.len()),
        names_disk: group == Some(Group::Block) && ends_with(&[".name", ".path", ".backingIndex"]),
        names_interface: group == Some(Group::Interface) && ends_with(&[".name"]),
        counts_disks: key == "block.count",
        answers: answers_of(group, key),
    }
}

/// The group of which `key` is only there once the hypervisor has been asked.
fn answers_of(group: Option<Group>, key: &str) -> StatsGroups {
    match group {
        Some(Group::CpuTotal) if key.starts_with("cpu.haltpoll.") => StatsGroups::CPU_TOTAL,
        Some(Group::Balloon) if key == "balloon.rss" => StatsGroups::BALLOON,
        Some(Group::VcpuKvm) => StatsGroups::VCPU,
        Some(Group::Block) if key.ends_with(".rd.reqs") => StatsGroups::BLOCK,
        Some(Group::Iothread) => StatsGroups::IOTHREAD,
        Some(Group::Dirtyrate) if key == "dirtyrate.calc_status" => StatsGroups::DIRTYRATE,
        Some(Group::Vm) => StatsGroups::VM,
        _ => StatsGroups::default(),
    }
}

fn shape_of(record: &DomainRecord<'_>, keys: &[KeyFacts], counts: &mut [usize]) -> Shape {
    let state = FixedState::with_seed(0);
    let (mut disks, mut interfaces) = (state.build_hasher(), state.build_hasher());
    let (mut has_disks, mut has_interfaces) = (false, false);
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
    }
    let devices =
        Devices { disks: has_disks.then(|| disks.finish()), interfaces: has_interfaces.then(|| interfaces.finish()) };
    Shape { uuid: record.uuid, size, devices, active: record.is_active(), answers, has_disks: counted_disks }
}

fn hash(param: Param<'_>, hasher: &mut impl std::hash::Hasher) {
    param.key.hash(hasher);
    match param.value {
        ParamValue::String(text) => text.hash(hasher),
        ParamValue::UInt(number) => number.hash(hasher),
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
        shapes_of(&records).domains[0].devices
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
        assert_eq!(shapes_of(&records).parameters, BTreeMap::from(counted));
    }

    #[test]
    fn a_disk_that_is_swapped_is_noticed_and_a_counter_is_not() {
        let disk = |path| ("block.0.path", ParamValue::String(path));
        let (name, reads) = (("block.0.name", ParamValue::String("vda")), ("block.0.rd.reqs", ParamValue::ULLong(1)));
        let mut known = devices(&[name, disk("/a"), reads]);
        assert!(known.disks.is_some() && known.interfaces.is_none());
        assert!(!known.update(devices(&[name, disk("/a"), ("block.0.rd.reqs", ParamValue::ULLong(2))])));
        assert!(!known.update(devices(&[])), "a record without the group");
        assert!(!known.update(devices(&[("net.0.name", ParamValue::String("vnet0"))])), "the first word on NICs");
        assert!(known.update(devices(&[("net.0.name", ParamValue::String("vnet1"))])));
        assert!(known.update(devices(&[name, disk("/snapshot"), reads])));
        assert!(known.update(devices(&[name, disk("/snapshot"), ("block.0.backingIndex", ParamValue::UInt(3))])));
    }
}
