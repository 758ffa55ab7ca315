use super::*;
use crate::libvirt::{ParamValue, Records};
use crate::metrics::{FamilyBuilder, Sample};

#[test]
fn of_two_states_the_first_counts() {
    let mut records = Records::default();
    records.push_domain("a", Uuid::nil(), Some(1));
    for state in [42, 42, 1] {
        records.push("state.state", ParamValue::Int(state));
    }
    let built = FamilyBuilder::new(&Config::default()).build(&[&records]);
    let family = built.families.families.iter().find(|family| family.meta.name == "libvirt_domain_state").unwrap();
    let values: Vec<Value> = family.samples.iter().map(|sample| sample.value()).collect();
    let (unknown, known) = values.split_last().unwrap();
    assert_eq!((*unknown, known.len(), built.duplicates), (Value::Unsigned(1), crate::metrics::states().len(), 2));
    assert!(known.iter().all(|value| *value == Value::Unsigned(0)));
}

#[test]
fn a_domain_that_was_renamed_between_two_calls_counts_once() {
    let mut records = Records::default();
    for (name, uuid) in [("a", 1), ("b", 2), ("c", 1)] {
        records.push_domain(name, Uuid::from_u128(uuid), Some(1));
        records.push("vcpu.current", ParamValue::UInt(2));
    }
    let built = FamilyBuilder::new(&Config::default()).build(&[&records]);
    let family =
        built.families.families.iter().find(|family| family.meta.name == "libvirt_domain_vcpus_current").unwrap();
    let label = |sample: &Sample| {
        let labels = built.families.subjects.get(sample.subject()).labels;
        built.families.labels.get(labels).next().map(|(_, name)| name.to_owned())
    };
    let names: Vec<_> = family.samples.iter().filter_map(label).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn what_kvm_tells_in_a_comparison_alone_is_not_shown() {
    let mut records = Records::default();
    for (name, uuid) in [("compared", 1), ("by-libvirt", 2)] {
        records.push_domain(name, Uuid::from_u128(uuid), Some(1));
        records.push("cpu.time", ParamValue::ULLong(5));
        records.push("cpu.haltpoll.success.time", ParamValue::ULLong(2));
    }
    records.note_compared(0, crate::libvirt::StatsGroups::CPU_TOTAL);
    let families = FamilyBuilder::new(&Config::default()).build(&[&records]).families;
    let count = |name: &str| {
        let family = families.families.iter().find(|family| family.meta.name == name);
        family.map_or(0, |family| family.samples.len())
    };
    let polled = "libvirt_domain_cpu_haltpoll_success_seconds_total";
    assert_eq!([count("libvirt_domain_cpu_time_seconds_total"), count(polled)], [2, 1]);
}
