use super::*;
use crate::libvirt::{ParamValue, Records};
use crate::metrics::FamilyBuilder;

#[test]
fn of_two_states_the_first_counts() {
    let mut records = Records::default();
    records.push_domain("a", Uuid::nil(), Some(1));
    for state in [42, 42, 1] {
        records.push("state.state", ParamValue::Int(state));
    }
    let built = FamilyBuilder::new(&Config::default()).build(&[&records]);
    let family = built.families.families.iter().find(|family| family.meta.name == "libvirt_domain_state").unwrap();
    let values: Vec<Value> = family.samples.iter().map(|sample| sample.value).collect();
    let (unknown, known) = values.split_last().unwrap();
    assert_eq!((*unknown, known.len(), built.duplicates), (Value::Unsigned(1), crate::metrics::states().len(), 2));
    assert!(known.iter().all(|value| *value == Value::Unsigned(0)));
}
