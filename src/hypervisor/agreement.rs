//! Whether the host's files and libvirt agree about a domain: each number of libvirt has to be between what the files said
//! before the call and what they say after it.

use super::Doubt;
use super::process::{Reading, VcpuTime};
use crate::libvirt::{DomainRecord, ParamValue, StatsGroups};

/// How far beyond the files libvirt's numbers may be, in nanoseconds: two ticks, by which its own rounding can differ.
const SLACK: u64 = 20_000_000;
/// `VIR_VCPU_RUNNING`, the state that libvirt reports for each vCPU of QEMU.
pub(super) const RUNNING: i32 = 1;

/// What of a record stays the same while the domain runs, and is in no file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Constants {
    /// The most vCPUs that it can have.
    pub(super) vcpus: Option<u32>,
    /// Keys that say 0: how many monitors of resctrl it has.
    pub(super) zeros: Vec<String>,
}

impl Constants {
    /// Takes what a later record has of `groups`.
    pub(super) fn update(&mut self, newer: Self, groups: StatsGroups) {
        if groups.contains(StatsGroups::VCPU) {
            self.vcpus = newer.vcpus;
        }
        if groups.contains(StatsGroups::CPU_TOTAL) {
            self.zeros = newer.zeros;
        }
    }
}

/// Compares what libvirt reports of `groups` with the files.
///
/// # Errors
/// The first thing that is not the same.
pub(super) fn compare(
    record: &DomainRecord<'_>,
    groups: StatsGroups,
    before: &Reading,
    after: &Reading,
) -> Result<Constants, Doubt> {
    let mut constants = Constants::default();
    let mut expected = Vec::new();
    if groups.contains(StatsGroups::CPU_TOTAL) {
        let (before, after) = (before.cpu, after.cpu);
        expected.push(("cpu.time".to_owned(), before.time, after.time));
        expected.push(("cpu.user".to_owned(), before.user, after.user));
        expected.push(("cpu.system".to_owned(), before.system, after.system));
    }
    if groups.contains(StatsGroups::VCPU) {
        let numbers = |reading: &Reading| reading.vcpus.iter().map(|vcpu| vcpu.number).collect::<Vec<_>>();
        if numbers(before) != numbers(after) {
            return Err(Doubt::OtherVcpus);
        }
        let count = u64::try_from(after.vcpus.len()).unwrap_or(u64::MAX);
        expected.push(("vcpu.current".to_owned(), count, count));
        for (before, after) in before.vcpus.iter().zip(&after.vcpus) {
            let number = before.number;
            let mut of = |name: &str, field: fn(&VcpuTime) -> u64| {
                expected.push((format!("vcpu.{number}.{name}"), field(before), field(after)));
            };
            of("time", |vcpu| vcpu.time);
            of("wait", |vcpu| vcpu.wait);
            of("delay", |vcpu| vcpu.delay);
        }
    }
    let mut found = vec![false; expected.len()];
    for param in record.params() {
        let (key, value) = (param.key, unsigned(param.value));
        let prefix = key.split('.').next().unwrap_or_default();
        let is_asked = (prefix == "cpu" && groups.contains(StatsGroups::CPU_TOTAL))
            || (prefix == "vcpu" && groups.contains(StatsGroups::VCPU));
        if !is_asked {
            continue;
        }
        if let Some(position) = expected.iter().position(|(known, ..)| known == key) {
            found[position] = true;
            let (_, before, after) = expected[position];
            let libvirt = value.unwrap_or_default();
            let slack = if key == "vcpu.current" { 0 } else { SLACK };
            if libvirt + slack < before || libvirt > after + slack {
                return Err(Doubt::Differs { key: key.to_owned(), libvirt, before, after });
            }
        } else if key == "vcpu.maximum" {
            constants.vcpus = value.and_then(|most| u32::try_from(most).ok());
        } else if key.ends_with(".monitor.count") && value == Some(0) {
            constants.zeros.push(key.to_owned());
        } else if !is_elsewhere(key, param.value) {
            return Err(Doubt::More(key.to_owned()));
        }
    }
    match found.iter().position(|found| !found) {
        // An older libvirt does not have it.
        Some(missing) if !expected[missing].0.ends_with(".delay") => Err(Doubt::Less(expected.swap_remove(missing).0)),
        _ if groups.contains(StatsGroups::VCPU) && constants.vcpus.is_none() => {
            Err(Doubt::Less("vcpu.maximum".to_owned()))
        }
        _ => Ok(constants),
    }
}

/// What the files do not have, and is known to be left out then: the state of a vCPU, which is always the same, and what comes
/// from KVM.
fn is_elsewhere(key: &str, value: ParamValue<'_>) -> bool {
    let is_state = key.ends_with(".state") && matches!(value, ParamValue::Int(RUNNING));
    is_state
        || key.starts_with("cpu.haltpoll.")
        || [".sum", ".cur", ".max"].iter().any(|suffix| key.starts_with("vcpu.") && key.ends_with(suffix))
}

fn unsigned(value: ParamValue<'_>) -> Option<u64> {
    match value {
        ParamValue::UInt(value) => Some(value.into()),
        ParamValue::ULLong(value) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::cgroup::CpuTime;
    use super::*;
    use crate::libvirt::Records;

    const GROUPS: StatsGroups = StatsGroups::CPU_TOTAL.union(StatsGroups::VCPU);

    fn reading(time: u64) -> Reading {
        let vcpu = |number| VcpuTime { number, time, wait: 0, delay: time / 2 };
        Reading { cpu: CpuTime { time, user: time / 2, system: time / 2 }, vcpus: vec![vcpu(0), vcpu(2)] }
    }

    const KEYS: [(&str, ParamValue<'static>); 15] = [
        ("state.state", ParamValue::Int(1)),
        ("cpu.time", ParamValue::ULLong(5_000_000_000)),
        ("cpu.user", ParamValue::ULLong(2_500_000_000)),
        ("cpu.system", ParamValue::ULLong(2_500_000_000)),
        ("cpu.haltpoll.fail.time", ParamValue::ULLong(9)),
        ("cpu.cache.monitor.count", ParamValue::UInt(0)),
        ("vcpu.current", ParamValue::UInt(2)),
        ("vcpu.maximum", ParamValue::UInt(4)),
        ("vcpu.0.state", ParamValue::Int(1)),
        ("vcpu.0.time", ParamValue::ULLong(5_000_000_000)),
        ("vcpu.0.wait", ParamValue::ULLong(0)),
        ("vcpu.0.delay", ParamValue::ULLong(2_500_000_000)),
        ("vcpu.0.exits.sum", ParamValue::ULLong(7)),
        ("vcpu.2.time", ParamValue::ULLong(5_000_000_000)),
        ("vcpu.2.wait", ParamValue::ULLong(0)),
    ];

    fn judge(changed: Option<(&str, Option<ParamValue<'static>>)>, groups: StatsGroups) -> Result<Constants, String> {
        let mut records = Records::default();
        records.push_domain("x", Uuid::nil(), Some(1));
        for (key, value) in KEYS {
            match changed {
                Some((other, value)) if other == key => drop(value.map(|value| records.push(key, value))),
                _ => records.push(key, value),
            }
        }
        if let Some((key, Some(value))) = changed.filter(|(key, _)| !KEYS.iter().any(|(known, _)| known == key)) {
            records.push(key, value);
        }
        let record = records.domain(0);
        compare(&record, groups, &reading(4_900_000_000), &reading(5_100_000_000)).map_err(|doubt| doubt.to_string())
    }

    #[test]
    fn what_is_between_two_readings_agrees() {
        let constants = judge(None, GROUPS).expect("they agree");
        assert_eq!(constants.vcpus, Some(4));
        assert_eq!(constants.zeros, ["cpu.cache.monitor.count"]);
        assert!(judge(None, StatsGroups::CPU_TOTAL).is_ok_and(|constants| constants.vcpus.is_none()));
    }

    #[test]
    fn what_differs_is_doubted() {
        let long = ParamValue::ULLong;
        for (key, value, doubt) in [
            ("cpu.time", Some(long(4_800_000_000)), "reports cpu.time as 4800000000"),
            ("vcpu.2.time", Some(long(5_200_000_000)), "reports vcpu.2.time as 5200000000"),
            ("vcpu.0.delay", Some(long(0)), "reports vcpu.0.delay as 0"),
            ("vcpu.current", Some(ParamValue::UInt(3)), "reports vcpu.current as 3"),
            ("vcpu.0.state", Some(ParamValue::Int(2)), "reports vcpu.0.state, which"),
            ("vcpu.0.halted", Some(ParamValue::Boolean(true)), "reports vcpu.0.halted, which"),
            ("vcpu.1.time", Some(long(1)), "reports vcpu.1.time, which"),
            ("cpu.cache.monitor.count", Some(ParamValue::UInt(1)), "reports cpu.cache.monitor.count, which"),
            ("vcpu.2.time", None, "does not report vcpu.2.time"),
            ("vcpu.maximum", None, "does not report vcpu.maximum"),
        ] {
            let judged = judge(Some((key, value)), GROUPS).expect_err(key);
            assert!(judged.contains(doubt), "{key}: {judged}");
        }
        assert!(judge(Some(("vcpu.0.halted", Some(ParamValue::Boolean(true)))), StatsGroups::CPU_TOTAL).is_ok());
    }
}
