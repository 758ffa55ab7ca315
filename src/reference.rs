//! The reference of all metrics: what `domstats-exporter metrics` prints, and METRICS.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::config::Group;
use crate::encode::otlp::{self, Attribute};
use crate::metrics::{Listed, listed};
use crate::rows::Row;
use crate::{health, inventory};

/// All metrics: those of the domains, group by group, then the exporter's own.
#[must_use]
pub fn all() -> Vec<Listed> {
    let mut all = listed();
    all.extend(inventory::rows().chain(health::ROWS.iter().copied()).map(described));
    let sections: Vec<&str> = all.iter().map(section_of).collect();
    // The sort is stable: a section stands where its first metric does.
    all.sort_by_key(|metric| sections.iter().position(|section| *section == section_of(metric)));
    all
}

fn described(row: &Row) -> Listed {
    Listed {
        group: row.group.map(Group::as_str),
        keys: Vec::new(),
        name: row.meta.name.to_string(),
        kind: row.meta.kind.as_str(),
        unit: row.meta.unit.suffix(),
        scale: "none",
        labels: row.labels.iter().map(|label| (*label).to_owned()).collect(),
        otel_name: row.meta.otel_name.to_string(),
        otel_unit: row.meta.unit.ucum().into_owned(),
        otel_attributes: Vec::new(),
        help: row.meta.help.to_string(),
    }
}

/// The reference for programs: an array with one object a metric.
///
/// # Errors
/// None that is known: every field is a string or a list of strings.
pub fn json() -> serde_json::Result<String> {
    serde_json::to_string_pretty(&all())
}

/// The reference for people: METRICS.md.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    let metrics = all();
    let mut heading = "";
    for metric in &metrics {
        let section = section_of(metric);
        if section != heading {
            heading = section;
            out.push_str(&format!("\n## {heading}\n\n"));
            out.push_str("| metric | kind | labels | libvirt | OpenTelemetry | |\n|---|---|---|---|---|---|\n");
        }
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let keys: Vec<String> = metric.keys.iter().map(|key| format!("`{key}`")).collect();
        let attributes: String =
            metric.otel_attributes.iter().map(|(name, value)| format!(" `{name}={value}`")).collect();
        let unit = if metric.otel_unit.is_empty() { String::new() } else { format!(" ({})", metric.otel_unit) };
        let row = writeln!(
            out,
            "| `{}` | {} | {} | {} | `{}`{attributes}{unit} | {} |",
            metric.name,
            metric.kind,
            labels.join(", "),
            keys.join(", "),
            metric.otel_name,
            metric.help,
        );
        debug_assert!(row.is_ok());
    }
    out.push_str(ATTRIBUTES);
    for (of, table) in [("domains", otlp::OF_DOMAINS), ("the exporter itself", otlp::OF_EXPORTER)] {
        for Attribute { label, name, is_number: _ } in table {
            out.push_str(&format!("| `{label}` | {of} | `{name}` |\n"));
        }
    }
    out.push_str(TRANSLATED);
    let mut seen = BTreeSet::new();
    for metric in metrics.iter().filter(|metric| seen.insert(&metric.otel_name)) {
        // `<name>` stands for letters.
        let name = metric.otel_name.replace("<name>", "NAME");
        let translated = otlp::prometheus_name(&name, &metric.otel_unit, metric.kind == "counter");
        out.push_str(&format!("| `{}` | `{}` |\n", metric.otel_name, translated.replace("NAME", "<name>")));
    }
    out
}

fn section_of(metric: &Listed) -> &'static str {
    match metric.group {
        Some(group) => group,
        None if metric.name.starts_with("libvirt_domain_") => "any group",
        None => "the exporter itself",
    }
}

const ATTRIBUTES: &str = "
## OpenTelemetry

In a push over OTLP (`otlp.naming: otel`) a counter is a monotonic Sum, a gauge of bytes or of things that can be counted
(a unit in braces) a Sum that goes up and down, a histogram a Histogram, and everything else a Gauge. Labels become attributes:

| label | of | attribute |
|---|---|---|
";

const TRANSLATED: &str = "
Where such a metric ends up in Prometheus (through its own OTLP receiver, or a Prometheus exporter of the OpenTelemetry
Collector), it is translated: dots become underscores, the unit is appended, `_total` marks a counter. With
`otlp.naming: prometheus` the names are those of `/metrics` and stay as they are.

| OpenTelemetry | translated for Prometheus |
|---|---|
";

const HEAD: &str = "\
# Metrics

This page is the output of `domstats-exporter metrics`; a test keeps it current. Every metric of a domain also carries
`domain` (its name) and `uuid`, or one of them, as `domains.labels` in the configuration says; only those that
count the events and jobs of all domains carry neither. A section is a group of `collection.groups`; what comes from
definitions and events rather than from a key of libvirt stands in the group that it is about. A key that libvirt does not send yields no sample, never a zero.

`<n>` and `<m>` are numbers in a key; labels say what they stand for: `device`, `interface` and the like come from the
`.name` key of the same number, or are the number itself where libvirt sends no name.
";
