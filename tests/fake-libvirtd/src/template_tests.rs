use super::{Subject, Template, disk_target};
use std::collections::HashSet;

fn subject(active: bool, backing: bool) -> Subject<'static> {
    Subject { name: "vm-0", active, state: if active { (1, 1) } else { (5, 1) }, backing, first_tap: 0 }
}

fn keys(template: &Template, active: bool, backing: bool) -> Vec<String> {
    template.stats(&subject(active, backing)).into_iter().map(|stat| stat.key).collect()
}

#[test]
fn the_sizes_the_documentation_names() {
    assert_eq!(keys(&Template::small(), true, false).len(), 47);
    assert_eq!(keys(&Template::medium(), true, false).len(), 270);
}

#[test]
fn no_key_is_sent_twice_or_too_long() {
    for template in ["small", "medium", "large", "everything"] {
        let template = Template::named(template).unwrap_or_default();
        for (active, backing) in [(true, false), (true, true), (false, true)] {
            let keys = keys(&template, active, backing);
            assert!(keys.iter().all(|key| key.len() < 80));
            assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        }
    }
}

#[test]
fn values_depend_on_the_name_alone() {
    let template = Template::medium();
    let first = template.stats(&subject(true, false));
    assert_eq!(first, template.stats(&subject(true, false)));
    let other = Subject { name: "vm-1", ..subject(true, false) };
    assert_ne!(first, template.stats(&other));
}

#[test]
fn an_inactive_domain_has_only_what_needs_no_qemu() {
    let keys = keys(&Template::everything(), false, false);
    assert!(keys.contains(&"vcpu.maximum".to_owned()));
    assert!(keys.contains(&"block.0.capacity".to_owned()));
    assert!(!keys.iter().any(|key| key.starts_with("net.")
        || key.starts_with("vcpu.0")
        || key.contains(".rd.")
        || key.contains("backingIndex")));
}

#[test]
fn disks_are_named_as_libvirt_names_them() {
    let names: Vec<_> = [0, 25, 26, 27, 701, 702].map(disk_target).into();
    assert_eq!(names, ["vda", "vdz", "vdaa", "vdab", "vdzz", "vdaaa"]);
}
