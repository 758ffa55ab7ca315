//! Whether a record has all that was asked for, judged by group. libvirt leaves out what it could not ask a domain's
//! monitor for, because another client has the domain's job, and nothing in the reply says so. What has to be there is
//! therefore taken from what the domain is known to have: its earlier records, its definition, other domains of the host.

use std::collections::HashMap;

use uuid::Uuid;

use super::shape::Shape;
use crate::libvirt::StatsGroups;
use crate::targets::Metadata;

/// What a domain has answered in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known {
    /// Groups that it has answered.
    answered: StatsGroups,
    /// Groups that it had nothing for although its monitor was asked.
    empty: StatsGroups,
}

/// Which groups each domain answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    domains: HashMap<Uuid, Known>,
    /// What any domain on KVM has answered, of what depends on KVM alone.
    kvm: StatsGroups,
    /// Whether any domain has answered for its dirty rate: then this libvirt and QEMU know it.
    dirtyrate: StatsGroups,
}

impl Answers {
    /// The groups out of `asked` that `record` should have an answer for and has not; learns from it what to expect
    /// of the next.
    pub(super) fn missing(&mut self, record: &Shape, asked: StatsGroups, definition: Option<&Metadata>) -> StatsGroups {
        if !record.active {
            return StatsGroups::default();
        }
        let asked = asked.and(StatsGroups::MONITOR);
        let answered = asked.and(record.answers);
        let silent = asked.without(answered);
        let had_job = !answered.and(StatsGroups::SHOWS_JOB).is_empty();
        let on_kvm = definition.is_some_and(|metadata| metadata.virt_type == "kvm");
        let without_iothreads = definition.is_some_and(|metadata| metadata.iothreads == 0);
        let known = self.domains.entry(record.uuid).or_default();
        known.answered |= answered;
        known.empty = known.empty.without(answered);
        let mut expected = known.answered;
        if had_job {
            known.empty |= silent.without(known.answered);
            if without_iothreads {
                expected = expected.without(StatsGroups::IOTHREAD);
            }
            if !record.has_disks {
                expected = expected.without(StatsGroups::BLOCK);
            }
        } else {
            // Every QEMU has a resident size.
            expected |= StatsGroups::BALLOON | self.dirtyrate;
            if record.has_disks {
                expected |= StatsGroups::BLOCK;
            }
            if definition.is_some() && !without_iothreads {
                expected |= StatsGroups::IOTHREAD;
            }
            if on_kvm {
                expected |= self.kvm;
            }
            expected = expected.without(known.empty);
        }
        if on_kvm {
            self.kvm |= answered.and(StatsGroups::KVM);
        }
        self.dirtyrate |= answered.and(StatsGroups::DIRTYRATE);
        silent.and(expected)
    }

    /// Forgets a domain that was stopped or started again.
    pub(super) fn forget(&mut self, uuid: Uuid) {
        self.domains.remove(&uuid);
    }

    /// Forgets domains that are not `known`.
    pub(super) fn retain(&mut self, known: impl Fn(Uuid) -> bool) {
        self.domains.retain(|uuid, _| known(*uuid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::shape::shapes_of;
    use crate::libvirt::{ParamValue, Records};

    const EVERYTHING: StatsGroups = StatsGroups::MONITOR;

    /// What a busy domain still says.
    const BUSY: [&str; 7] =
        ["state.state", "cpu.time", "balloon.current", "vcpu.0.time", "block.count", "block.0.name", "net.count"];
    /// For each group what its monitor adds.
    const MONITOR: [(StatsGroups, &str); 7] = [
        (StatsGroups::CPU_TOTAL, "cpu.haltpoll.fail.time"),
        (StatsGroups::BALLOON, "balloon.rss"),
        (StatsGroups::VCPU, "vcpu.0.exits.sum"),
        (StatsGroups::BLOCK, "block.0.rd.reqs"),
        (StatsGroups::IOTHREAD, "iothread.count"),
        (StatsGroups::DIRTYRATE, "dirtyrate.calc_status"),
        (StatsGroups::VM, "vm.remote_tlb_flush.sum"),
    ];

    fn record(keys: &[&str]) -> Shape {
        let mut records = Records::default();
        records.push_domain("x", Uuid::nil(), Some(1));
        keys.iter().for_each(|key| records.push(key, ParamValue::UInt(1)));
        shapes_of(&records).domains.remove(0)
    }

    fn whole(without: StatsGroups) -> Shape {
        let monitor = MONITOR.iter().filter(|(group, _)| !without.contains(*group)).map(|(_, key)| *key);
        record(&BUSY.into_iter().chain(monitor).collect::<Vec<_>>())
    }

    fn kvm(iothreads: u32) -> Metadata {
        Metadata { virt_type: "kvm".into(), iothreads, ..Metadata::default() }
    }

    #[test]
    fn each_group_that_is_left_out_is_missing() {
        for (group, _) in MONITOR {
            let mut answers = Answers::default();
            assert!(answers.missing(&whole(StatsGroups::default()), EVERYTHING, Some(&kvm(1))).is_empty());
            assert_eq!(answers.missing(&whole(group), EVERYTHING, Some(&kvm(1))), group, "beside others");
            assert_eq!(answers.missing(&record(&BUSY), group, Some(&kvm(1))), group, "asked for alone");
        }
    }

    #[test]
    fn each_group_is_expected_of_a_domain_that_was_never_whole() {
        let other = Shape { uuid: Uuid::max(), ..whole(StatsGroups::default()) };
        for (group, _) in MONITOR {
            let mut answers = Answers::default();
            answers.missing(&other, EVERYTHING, Some(&kvm(1)));
            assert_eq!(answers.missing(&record(&BUSY), group, Some(&kvm(2))), group);
        }
    }

    #[test]
    fn what_a_domain_does_not_have_is_not_missing() {
        let mut answers = Answers::default();
        let tcg = Metadata { virt_type: "qemu".into(), ..Metadata::default() };
        let of_kvm = StatsGroups::CPU_TOTAL | StatsGroups::VCPU | StatsGroups::VM | StatsGroups::IOTHREAD;
        assert!(answers.missing(&whole(of_kvm), EVERYTHING, Some(&tcg)).is_empty());
        assert!(answers.missing(&record(&BUSY), of_kvm, Some(&tcg)).is_empty());
        let busy = answers.missing(&record(&BUSY), EVERYTHING, Some(&tcg));
        assert_eq!(busy, StatsGroups::BALLOON | StatsGroups::BLOCK | StatsGroups::DIRTYRATE);
        // An older QEMU on the same host.
        let old = Shape { uuid: Uuid::max(), ..whole(StatsGroups::VM) };
        answers.missing(&whole(StatsGroups::default()), EVERYTHING, Some(&kvm(0)));
        assert!(answers.missing(&old, EVERYTHING, Some(&kvm(0))).is_empty());
        assert!(answers.missing(&Shape { answers: StatsGroups::default(), ..old }, StatsGroups::VM, None).is_empty());
    }

    #[test]
    fn devices_that_were_removed_are_not_missing() {
        let mut answers = Answers::default();
        answers.missing(&whole(StatsGroups::default()), EVERYTHING, Some(&kvm(1)));
        let without = Shape { has_disks: false, ..whole(StatsGroups::BLOCK | StatsGroups::IOTHREAD) };
        assert!(answers.missing(&without, EVERYTHING, Some(&kvm(0))).is_empty());
    }

    #[test]
    fn a_domain_that_is_shut_off_misses_nothing_and_another_run_is_unknown() {
        let mut answers = Answers::default();
        let off = Shape { active: false, ..record(&["state.state"]) };
        assert!(answers.missing(&off, EVERYTHING, None).is_empty());
        answers.missing(&whole(StatsGroups::default()), EVERYTHING, None);
        assert_eq!(answers.missing(&record(&BUSY), StatsGroups::VM, None), StatsGroups::VM);
        answers.forget(Uuid::nil());
        assert!(answers.missing(&record(&BUSY), StatsGroups::VM, None).is_empty());
        answers.missing(&whole(StatsGroups::default()), EVERYTHING, None);
        answers.retain(|_| false);
        assert!(answers.missing(&record(&BUSY), StatsGroups::VM, None).is_empty());
    }
}
