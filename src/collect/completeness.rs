//! Whether a record has all that was asked for, judged by group. libvirt leaves out what it could not ask a domain's
//! monitor for, because another client has the domain's job, and nothing in the reply says so. What has to be there is
//! therefore taken from what the domain is known to have: its earlier records, its definition, other domains of the host.

use super::summary::Summary;
use crate::domains::Metadata;
use crate::libvirt::StatsGroups;

/// What a domain has answered in its present incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Answered {
    /// Groups that it has answered.
    answered: StatsGroups,
    /// Groups that it had nothing for although its monitor was asked.
    empty: StatsGroups,
}

/// What domains of this daemon answer, whichever they are.
#[derive(Debug, Default)]
pub(super) struct HostAnswers {
    /// What any domain on KVM has answered, of what depends on KVM alone.
    kvm: StatsGroups,
    /// Whether any domain has answered for its dirty rate: then this libvirt and QEMU know it.
    dirtyrate: bool,
}

/// What a record lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lack {
    /// Groups that should be there and are not.
    pub(super) missing: StatsGroups,
    /// Groups to ask for again; more than are missing where it is not known what the domain has.
    pub(super) again: StatsGroups,
    /// Whether libvirt had the domain's job, and left the groups out all the same.
    pub(super) had_job: bool,
}

impl HostAnswers {
    /// What `record` lacks of the groups `asked`; learns from it what to expect of the next, of its domain in `known`. A call
    /// that `waited` for the job has had it.
    pub(super) fn judge(
        &mut self,
        known: &mut Answered,
        record: &Summary,
        asked: StatsGroups,
        definition: Option<&Metadata>,
        waited: bool,
    ) -> Lack {
        if !record.active {
            return Lack::default();
        }
        let asked = asked.and(StatsGroups::MONITOR);
        let answered = asked.and(record.answers);
        let silent = asked.without(answered);
        let had_job = waited || !answered.and(StatsGroups::SHOWS_JOB).is_empty();
        let on_kvm = definition.is_some_and(|metadata| metadata.virt_type == "kvm");
        let without_iothreads = definition.is_some_and(|metadata| metadata.iothreads == 0);
        known.answered |= answered;
        known.empty = known.empty.without(answered);
        if had_job {
            known.empty |= silent.without(known.answered);
        }
        let mut expected = known.answered;
        if without_iothreads {
            expected = expected.without(StatsGroups::IOTHREAD);
        }
        if !record.has_disks {
            expected = expected.without(StatsGroups::BLOCK);
        }
        if !had_job {
            // Every QEMU has a resident size.
            expected |= StatsGroups::BALLOON;
            if self.dirtyrate {
                expected |= StatsGroups::DIRTYRATE;
            }
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
        let missing = silent.and(expected);
        let again = if had_job || missing.is_empty() { missing } else { silent.without(known.empty) };
        if on_kvm {
            self.kvm |= answered.and(StatsGroups::KVM);
        }
        self.dirtyrate |= !answered.and(StatsGroups::DIRTYRATE).is_empty();
        Lack { missing, again, had_job }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use uuid::Uuid;

    use super::*;
    use crate::collect::summary::summaries_of;
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

    /// What a host has answered, and each of its domains.
    #[derive(Default)]
    struct Answers {
        host: HostAnswers,
        domains: HashMap<Uuid, Answered>,
    }

    impl Answers {
        fn judge(&mut self, record: &Summary, asked: StatsGroups, definition: Option<&Metadata>, waited: bool) -> Lack {
            self.host.judge(self.domains.entry(record.uuid).or_default(), record, asked, definition, waited)
        }
    }

    fn missing(
        answers: &mut Answers,
        record: &Summary,
        asked: StatsGroups,
        definition: Option<&Metadata>,
    ) -> StatsGroups {
        answers.judge(record, asked, definition, false).missing
    }

    fn record(keys: &[&str]) -> Summary {
        let mut records = Records::default();
        records.push_domain("x", Uuid::nil(), Some(1));
        keys.iter().for_each(|key| records.push(key, ParamValue::UInt(1)));
        summaries_of(&records).domains.remove(0)
    }

    fn whole(without: StatsGroups) -> Summary {
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
            assert!(missing(&mut answers, &whole(StatsGroups::default()), EVERYTHING, Some(&kvm(1))).is_empty());
            assert_eq!(missing(&mut answers, &whole(group), EVERYTHING, Some(&kvm(1))), group, "beside others");
            assert_eq!(missing(&mut answers, &record(&BUSY), group, Some(&kvm(1))), group, "asked for alone");
        }
    }

    #[test]
    fn each_group_is_expected_of_a_domain_that_was_never_whole() {
        let other = Summary { uuid: Uuid::max(), ..whole(StatsGroups::default()) };
        for (group, _) in MONITOR {
            let mut answers = Answers::default();
            missing(&mut answers, &other, EVERYTHING, Some(&kvm(1)));
            assert_eq!(missing(&mut answers, &record(&BUSY), group, Some(&kvm(2))), group);
        }
    }

    #[test]
    fn what_a_domain_does_not_have_is_not_missing() {
        let mut answers = Answers::default();
        let tcg = Metadata { virt_type: "qemu".into(), ..Metadata::default() };
        let of_kvm = StatsGroups::CPU_TOTAL | StatsGroups::VCPU | StatsGroups::VM | StatsGroups::IOTHREAD;
        assert!(missing(&mut answers, &whole(of_kvm), EVERYTHING, Some(&tcg)).is_empty());
        assert!(missing(&mut answers, &record(&BUSY), of_kvm, Some(&tcg)).is_empty());
        let busy = missing(&mut answers, &record(&BUSY), EVERYTHING, Some(&tcg));
        assert_eq!(busy, StatsGroups::BALLOON | StatsGroups::BLOCK | StatsGroups::DIRTYRATE);
        // An older QEMU on the same host.
        let old = Summary { uuid: Uuid::max(), ..whole(StatsGroups::VM) };
        missing(&mut answers, &whole(StatsGroups::default()), EVERYTHING, Some(&kvm(0)));
        assert!(missing(&mut answers, &old, EVERYTHING, Some(&kvm(0))).is_empty());
        assert!(
            missing(&mut answers, &Summary { answers: StatsGroups::default(), ..old }, StatsGroups::VM, None)
                .is_empty()
        );
    }

    #[test]
    fn devices_that_were_removed_are_not_missing() {
        let mut answers = Answers::default();
        missing(&mut answers, &whole(StatsGroups::default()), EVERYTHING, Some(&kvm(1)));
        let without = Summary { has_disks: false, ..whole(StatsGroups::BLOCK | StatsGroups::IOTHREAD) };
        assert!(missing(&mut answers, &without, EVERYTHING, Some(&kvm(0))).is_empty());
    }

    #[test]
    fn a_domain_that_is_shut_off_misses_nothing_and_another_run_is_unknown() {
        let mut answers = Answers::default();
        let off = Summary { active: false, ..record(&["state.state"]) };
        assert!(missing(&mut answers, &off, EVERYTHING, None).is_empty());
        missing(&mut answers, &whole(StatsGroups::default()), EVERYTHING, None);
        assert_eq!(missing(&mut answers, &record(&BUSY), StatsGroups::VM, None), StatsGroups::VM);
        answers.domains.clear();
        assert!(missing(&mut answers, &record(&BUSY), StatsGroups::VM, None).is_empty());
    }

    #[test]
    fn a_domain_that_was_never_whole_is_asked_again_for_all() {
        let mut answers = Answers::default();
        let lack = answers.judge(&record(&BUSY), EVERYTHING, None, false);
        assert_eq!((lack.missing, lack.again), (StatsGroups::BALLOON | StatsGroups::BLOCK, EVERYTHING));
    }

    #[test]
    fn what_a_call_that_waited_for_the_job_did_not_bring_is_not_there() {
        let mut answers = Answers::default();
        answers.judge(&whole(StatsGroups::default()), EVERYTHING, Some(&kvm(0)), false);
        assert_eq!(missing(&mut answers, &whole(StatsGroups::VM), EVERYTHING, None), StatsGroups::VM);
        let other = Summary { uuid: Uuid::max(), ..record(&BUSY) };
        assert!(answers.judge(&other, StatsGroups::VM, Some(&kvm(0)), true).missing.is_empty());
        let busy = missing(&mut answers, &other, EVERYTHING, Some(&kvm(0)));
        assert!(!busy.contains(StatsGroups::VM) && busy.contains(StatsGroups::BLOCK));
    }
}
