//! Every key that libvirt's headers and its API reference name is in a table.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, dead_code)]

#[path = "support/dependency.rs"]
mod dependency;
#[path = "support/golden.rs"]
mod golden;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dependency::sources;
use domstats_exporter::metrics::FamilyBuilder;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A key counts as known if a domain that sends it has no unmapped statistic.
fn is_known(pattern: &str) -> bool {
    let key = pattern.replace("<n>", "0").replace("<m>", "0").replace("<name>", "exits");
    let text = format!("domain 1 6d2c5a0e-3f47-4c0d-9a53-0d1e2f3a4b5c \"x\"\n{key} ullong 1\n");
    let records = golden::records(&text).expect("a parameter");
    let (config, _) = golden::load("every-key");
    FamilyBuilder::new(&config).build(&[&records]).unmapped_keys == 0
}

#[test]
fn every_key_constant_of_virt_sys_is_known() {
    let patterns = virt_sys_patterns();
    assert!(patterns.len() > 130, "only {} patterns: {patterns:?}", patterns.len());
    let unknown: Vec<_> = patterns.iter().filter(|pattern| !is_known(pattern)).collect();
    assert!(unknown.is_empty(), "in no table: {unknown:?}");
}

/// The key patterns that the constants `VIR_DOMAIN_STATS_*` of the libvirt headers spell in parts: a prefix, a number,
/// and a suffix that may itself be a prefix.
fn virt_sys_patterns() -> BTreeSet<String> {
    let constants = virt_sys_constants();
    let full = |name: &str| -> Option<Vec<String>> {
        let value = constants.get(name)?;
        let (owner, _) = match name.rsplit_once("_SUFFIX_") {
            Some(split) => split,
            None => return Some(vec![value.clone()]),
        };
        Some(prefixes(&constants, owner)?.into_iter().map(|prefix| format!("{prefix}{value}")).collect())
    };
    let mut patterns = BTreeSet::new();
    for name in constants.keys().filter(|name| !name.ends_with("_PREFIX")) {
        if name.starts_with("CUSTOM_SUFFIX_TYPE_") {
            let suffix = &constants[name];
            patterns.extend([format!("vcpu.<n>.<name>{suffix}"), format!("vm.<name>{suffix}")]);
        } else {
            let full = full(name).unwrap_or_else(|| panic!("VIR_DOMAIN_STATS_{name} does not follow the others' rule"));
            patterns.extend(full);
        }
    }
    // Second numbers are written as such.
    patterns
        .into_iter()
        .map(|pattern| pattern.replacen("<n>", "<1>", 1).replace("<n>", "<m>").replace("<1>", "<n>"))
        .collect()
}

/// What stands before the suffixes of `owner`: its prefix and a number. The latency histograms have four prefixes and
/// share their suffixes.
fn prefixes(constants: &BTreeMap<String, String>, owner: &str) -> Option<Vec<String>> {
    if let Some(histogram) = owner.strip_suffix("LATENCY_HISTOGRAM_SUFFIX_BIN") {
        let bins = prefixes(constants, &format!("{histogram}LATENCY_HISTOGRAM"))?;
        return Some(bins.into_iter().map(|prefix| format!("{prefix}bin.<n>")).collect());
    }
    if let Some(block) = owner.strip_suffix("_SUFFIX_LATENCY_HISTOGRAM") {
        let block = prefixes(constants, block)?.remove(0);
        let kinds = ["READ", "WRITE", "ZONE_APPEND", "FLUSH"];
        return kinds
            .map(|kind| {
                let prefix = constants.get(&format!("{owner}_{kind}_PREFIX"))?;
                Some(format!("{block}{prefix}"))
            })
            .into_iter()
            .collect();
    }
    let prefix = constants.get(&format!("{owner}_PREFIX"))?;
    match owner.rsplit_once("_SUFFIX_") {
        Some((outer, _)) => {
            Some(prefixes(constants, outer)?.into_iter().map(|outer| format!("{outer}{prefix}<n>")).collect())
        }
        None => Some(vec![format!("{prefix}<n>")]),
    }
}

/// The string constants of the headers that crate `virt-sys` was made from, without `VIR_DOMAIN_STATS_`.
fn virt_sys_constants() -> BTreeMap<String, String> {
    let bindings = sources("virt-sys").join("bindgen").join("bindings.rs");
    let bindings = fs::read_to_string(&bindings).expect("the bindings of virt-sys");
    let declaration = regex::Regex::new(r#"VIR_DOMAIN_STATS_(\w+): &::std::ffi::CStr = [^"]*b"([^"\\]*)\\0""#);
    let declaration = declaration.expect("a valid expression");
    declaration.captures_iter(&bindings).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

#[test]
fn every_key_of_the_api_reference_is_known() {
    let keys = fs::read_to_string(root().join("tests/fixtures/api-reference-keys.txt")).expect("the list of keys");
    let keys: Vec<&str> = keys.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(keys.len() > 90);
    let unknown: Vec<_> = keys.iter().filter(|key| !is_known(key)).collect();
    assert!(unknown.is_empty(), "in no table: {unknown:?}");
}
