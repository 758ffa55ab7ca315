//! Two records of a domain become one: what it was asked for again, and what the record before has beside it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::config::Group;
use crate::libvirt::{DomainRecord, Records, StatsGroups};

/// The records of domains that were asked again for these groups, each with what the first of `batches` that has the domain
/// says of others. Also how many parameters of `batches` newer ones have replaced.
pub(super) fn merge<'b>(
    again: &Records,
    asked: StatsGroups,
    batches: impl Iterator<Item = &'b Records>,
) -> (Records, BTreeMap<Group, usize>) {
    let uuids: BTreeSet<Uuid> = again.domains().map(|record| record.uuid).collect();
    let mut before: BTreeMap<Uuid, DomainRecord<'_>> = BTreeMap::new();
    for record in batches.flat_map(Records::domains) {
        if uuids.contains(&record.uuid) {
            before.entry(record.uuid).or_insert(record);
        }
    }
    let (mut merged, mut replaced) = (Records::default(), BTreeMap::new());
    for record in again.domains() {
        let before = before.get(&record.uuid);
        // Records of two incarnations are not mixed.
        if before.is_some_and(|before| before.id != record.id) {
            continue;
        }
        merged.push_domain(record.name, record.uuid, record.id);
        record.params().for_each(|param| merged.push(param.key, param.value));
        record.read().for_each(|(groups, at)| merged.note_read(groups, at));
        if let Some(before) = before {
            add(&mut merged, before, &record, asked, &mut replaced);
        }
    }
    (merged, replaced)
}

/// Adds what is only in the record `before`.
fn add(
    merged: &mut Records,
    before: &DomainRecord<'_>,
    record: &DomainRecord<'_>,
    asked: StatsGroups,
    replaced: &mut BTreeMap<Group, usize>,
) {
    let answered: BTreeSet<Option<Group>> = record.params().map(|param| Group::of_key(param.key)).collect();
    let came = |group: Group, key: &str| {
        let stats = group.stats();
        match group {
            // Both groups of vCPUs come together.
            Group::VcpuKvm => answered.contains(&Some(Group::Vcpu)),
            group if !answered.contains(&Some(group)) => false,
            // libvirt was not asked for it, and has only told of the vCPUs what belongs to it.
            _ if !stats.is_empty() && !asked.contains(stats) => record.params().any(|param| param.key == key),
            _ => true,
        }
    };
    for param in before.params() {
        match Group::of_key(param.key) {
            Some(group) if came(group, param.key) => *replaced.entry(group).or_default() += 1,
            None if answered.contains(&None) => {}
            _ => merged.push(param.key, param.value),
        }
    }
    let replaces =
        |groups: StatsGroups| record.read().any(|(newer, _)| newer.contains(groups)) || asked.contains(groups);
    before.read().filter(|(groups, _)| !replaces(*groups)).for_each(|(groups, at)| merged.note_read(groups, at));
    merged.note_compared(merged.len() - 1, before.compared | record.compared);
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::libvirt::ParamValue;

    const DOMAIN: Uuid = Uuid::from_u128(7);

    fn records(id: u32, params: &[(&str, u64)]) -> Records {
        let mut records = Records::default();
        records.push_domain("vm", DOMAIN, Some(id));
        params.iter().for_each(|(key, value)| records.push(key, ParamValue::ULLong(*value)));
        records
    }

    fn merged(again: &Records, asked: StatsGroups, before: &Records) -> (Vec<(String, u64)>, BTreeMap<Group, usize>) {
        let (merged, replaced) = merge(again, asked, [before].into_iter());
        let params = merged.domains().flat_map(|record| record.params());
        let number = |value| if let ParamValue::ULLong(number) = value { number } else { u64::MAX };
        (params.map(|param| (param.key.to_owned(), number(param.value))).collect(), replaced)
    }

    #[test]
    fn a_group_that_was_asked_for_again_replaces_what_there_was_of_it() {
        let before = records(1, &[("cpu.time", 1), ("block.count", 2), ("block.0.rd.reqs", 3)]);
        let again = records(1, &[("block.count", 1)]);
        let (params, replaced) = merged(&again, StatsGroups::BLOCK, &before);
        assert_eq!(params, [("block.count".to_owned(), 1), ("cpu.time".to_owned(), 1)]);
        assert_eq!(replaced, BTreeMap::from([(Group::Block, 2)]));
    }

    #[test]
    fn what_vcpus_tell_of_another_group_replaces_nothing_else_of_it() {
        let before = records(1, &[("cpu.time", 1), ("cpu.haltpoll.fail.time", 2), ("vcpu.current", 3)]);
        let again = records(1, &[("vcpu.current", 4), ("vcpu.0.exits.sum", 5), ("cpu.haltpoll.fail.time", 6)]);
        let (params, _) = merged(&again, StatsGroups::VCPU, &before);
        let names: Vec<&str> = params.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["vcpu.current", "vcpu.0.exits.sum", "cpu.haltpoll.fail.time", "cpu.time"]);
        assert_eq!(params[2].1, 6);
    }

    #[test]
    fn an_earlier_reading_keeps_its_time() {
        let mut before = records(1, &[("vm.remote_tlb_flush.sum", 1), ("block.count", 2)]);
        before.note_read(StatsGroups::VM, SystemTime::UNIX_EPOCH);
        let (of_block, _) = merge(&records(1, &[("block.count", 1)]), StatsGroups::BLOCK, [&before].into_iter());
        assert_eq!(of_block.domain(0).read().collect::<Vec<_>>(), [(StatsGroups::VM, SystemTime::UNIX_EPOCH)]);
        let again = records(1, &[("vm.remote_tlb_flush.sum", 2)]);
        let (of_vm, _) = merge(&again, StatsGroups::VM, [&before].into_iter());
        assert_eq!(of_vm.domain(0).read().count(), 0);
    }

    #[test]
    fn records_of_two_incarnations_are_not_mixed() {
        let (none, _) = merge(&records(2, &[("cpu.time", 1)]), StatsGroups::CPU_TOTAL, [&records(1, &[])].into_iter());
        assert!(none.is_empty());
    }
}
