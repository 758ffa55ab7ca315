//! Whether an exporter and virsh say the same of the guests of a host, at one moment.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::{Document, Node};

use crate::expected::{Expected, expected};
use crate::lab::Lab;
use crate::reading::{Sample, Values, parse_exposition, parse_virsh};
use crate::truth;

/// What goes up and down by itself: it is not compared.
const RESTLESS: [&str; 8] = [
    "balloon.rss",
    "balloon.unused",
    "balloon.available",
    "balloon.usable",
    "balloon.disk_caches",
    "balloon.last-update",
    ".delay",
    ".halted",
];

/// What only changes when something is done to the guest.
const STORY: [&str; 6] = ["state.", "vcpu.current", "balloon.current", "balloon.maximum", ".name", ".count"];

/// The statistics of each guest by its name, as virsh has them.
pub type Readings = BTreeMap<String, Values>;

/// What virsh says, to be compared with a scrape that came right before it.
#[derive(Debug)]
pub struct Told {
    definitions: BTreeSet<String>,
    chains: BTreeSet<String>,
    readings: Readings,
}

impl Told {
    /// Asks virsh.
    pub fn by_virsh(lab: &Lab) -> Self {
        Self { definitions: truth::truth(lab), chains: chains(lab), readings: readings(lab) }
    }

    /// The statistics.
    pub fn readings(&self) -> &Readings {
        &self.readings
    }

    /// All that does not change by itself.
    pub fn story(&self) -> BTreeSet<String> {
        let mut story = &self.definitions | &self.chains;
        for (domain, values) in &self.readings {
            let stays = |key: &str| STORY.iter().any(|part| key.starts_with(part) || key.ends_with(part));
            let values = values.iter().filter(|(key, _)| stays(key));
            story.extend(values.map(|(key, value)| format!("{domain} {key} {value}")));
        }
        story
    }

    /// What the scrape and virsh, `before` it and after it, disagree on; `ignored` families are not compared.
    pub fn differences(&self, scrape: &str, before: &Readings, ignored: &[&str]) -> Vec<String> {
        let is_compared = |line: &&String| !ignored.iter().any(|family| line.starts_with(&format!("{family} ")));
        let mut found = Vec::new();
        let mut compare = |told: &BTreeSet<String>, said: &BTreeSet<String>| {
            found.extend(told.difference(said).filter(is_compared).map(|line| format!("missing: {line}")));
            found.extend(said.difference(told).filter(is_compared).map(|line| format!("wrong: {line}")));
        };
        compare(&self.definitions, &truth::said(scrape));
        let samples = parse_exposition(scrape).unwrap();
        let layers = samples.iter().filter(|sample| sample.name == "libvirt_domain_block_backing_info");
        let layers = layers.map(|sample| layer(sample.label("domain"), sample.label("device"), sample.label("path")));
        compare(&self.chains, &layers.collect());
        for (domain, values) in before {
            let Some(after) = self.readings.get(domain) else {
                found.push(format!("{domain}: it has gone"));
                continue;
            };
            let own: Vec<&Sample> = samples.iter().filter(|sample| sample.label("domain") == domain).collect();
            found.extend(statistics(values, after, &own).into_iter().map(|what| format!("{domain}: {what}")));
        }
        found
    }
}

/// `virsh domstats` of all guests.
pub fn readings(lab: &Lab) -> Readings {
    parse_virsh(&lab.virsh(&["domstats", "--raw"]).unwrap())
}

/// Compares the statistics of a guest: each value of virsh is a sample, and there is no device that virsh does not have.
fn statistics(values: &Values, after: &Values, samples: &[&Sample]) -> Vec<String> {
    let mut found = Vec::new();
    let mut instances = BTreeSet::new();
    let is_active = !["5", "6"].contains(&values["state.state"].as_str());
    // Of those that are shut off, the exporter has the state. It counts disks with their layers, where virsh does not.
    let is_compared = |key: &str| if is_active { key != "block.count" } else { key.starts_with("state.") };
    let keys = values.iter().filter(|(key, _)| is_compared(key));
    for (key, value) in keys {
        let Ok(before) = value.parse::<f64>() else { continue };
        let (name, labels, scale, is_one) = match expected(key, values) {
            Expected::Nothing => continue,
            Expected::Unknown => panic!("{key} is not in tests/support/expected.rs"),
            Expected::Sample(name, labels, scale) => (name, labels, scale, false),
            Expected::One(name, labels) => (name, labels, 1.0, true),
        };
        instances.extend(labels.iter().cloned());
        let has = |sample: &&&Sample| sample.name == name && labels.iter().all(|(label, v)| sample.label(label) == v);
        let matching: Vec<f64> = samples.iter().filter(has).map(|sample| sample.value).collect();
        let after = after.get(key).and_then(|text| text.parse().ok()).unwrap_or(before);
        let (low, high) = if is_one { (1.0, 1.0) } else { (before.min(after) * scale, before.max(after) * scale) };
        let room = high.abs() * 1e-9;
        let is_restless = RESTLESS.iter().any(|part| key.ends_with(part));
        match matching[..] {
            [value] if is_restless || (low - room..=high + room).contains(&value) => {}
            _ => found.push(format!("{key}: {name} {labels:?} is {matching:?}, not {low} to {high}")),
        }
    }
    for sample in samples.iter().filter(|sample| !sample.name.ends_with("_info")) {
        for label in ["device", "interface", "vcpu"] {
            let value = sample.label(label);
            // A count of events outlives its device.
            let is_of_event = sample.name.contains("_io_errors_") || sample.name.contains("_block_jobs_");
            if !value.is_empty() && !is_of_event && !instances.contains(&(label, value.to_owned())) {
                found.push(format!("{}: virsh has no {label} {value}", sample.name));
            }
        }
    }
    found
}

fn layer(domain: &str, device: &str, path: &str) -> String {
    format!("a layer {domain} {device} {path}")
}

/// The images below the top one of each disk that runs.
fn chains(lab: &Lab) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in lab.virsh(&["list", "--name"]).unwrap().split_whitespace() {
        let xml = lab.virsh(&["dumpxml", name]).unwrap();
        let document = Document::parse(&xml).unwrap();
        let child =
            |node: Node<'_, '_>, name: &str| node.children().find(|node| node.has_tag_name(name)).map(|n| n.id());
        for disk in document.descendants().filter(|node| node.has_tag_name("disk")) {
            let Some(target) = disk.children().find(|node| node.has_tag_name("target")) else { continue };
            let mut node = disk;
            while let Some(below) = child(node, "backingStore").and_then(|id| document.get_node(id)) {
                node = below;
                if let Some(source) = child(below, "source").and_then(|id| document.get_node(id)) {
                    let path = source.attribute("file").unwrap_or_default();
                    found.insert(layer(name, target.attribute("dev").unwrap_or_default(), path));
                }
            }
        }
    }
    found
}
