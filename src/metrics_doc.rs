//! The documentation of all metrics: what `domstats-exporter metrics` prints, and METRICS.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::encode::otlp::{self, Attribute};
use crate::metrics::{MetricDoc, metric_docs, table_of};
use crate::tables::{Group, GroupInfo, Subject};

/// All metrics, section by section.
#[must_use]
pub fn all() -> Vec<MetricDoc> {
    let mut all = metric_docs();
    // The sort is stable: within a section the tables follow one another.
    all.sort_by_key(Section::of);
    all
}

/// A section of the documentation, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Group(Group),
    AnyGroup,
    Host,
    Exporter,
}

impl Section {
    fn of(metric: &MetricDoc) -> Self {
        let group = Group::ALL.iter().find(|group| Some(group.as_str()) == metric.group);
        // What is counted of all domains goes with a group of theirs, and is the host's.
        let group = group.filter(|group| metric.subject == table_of(**group).subject);
        match (metric.subject, group) {
            (_, Some(group)) => Self::Group(*group),
            (Subject::Exporter, None) => Self::Exporter,
            (Subject::Domain, None) => Self::AnyGroup,
            (Subject::Host | Subject::Pool | Subject::Network, None) => Self::Host,
        }
    }

    /// Heading and first sentence.
    fn heading(self) -> String {
        let (title, text) = match self {
            Self::Group(group) => {
                let GroupInfo { help, default, .. } = group.info();
                let off = if *default { "" } else { "; off by default" };
                (group.as_str(), format!("{help}{off}."))
            }
            Self::AnyGroup => ("any group", "Metrics of each domain that do not depend on the groups.".to_owned()),
            Self::Host => ("the host", "Metrics of the host, its libvirt, and all domains together.".to_owned()),
            Self::Exporter => ("the exporter itself", "Metrics of the exporter and its process.".to_owned()),
        };
        format!("\n## {title}\n\n{text}\n\n")
    }
}

/// The documentation for programs: an array with one object a metric.
///
/// # Errors
/// Never in practice: every field is a string or a list of strings.
pub fn json() -> serde_json::Result<String> {
    serde_json::to_string_pretty(&all())
}

/// The documentation for people: METRICS.md.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    let metrics = all();
    let mut last = None;
    for metric in &metrics {
        let section = Section::of(metric);
        if last.replace(section) != Some(section) {
            out.push_str(&section.heading());
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
            help_of(metric),
        );
        debug_assert!(row.is_ok());
    }
    out.push_str(ATTRIBUTES);
    for subject in Subject::ALL {
        let of = match subject {
            Subject::Domain => "domains",
            Subject::Host => "the host",
            Subject::Pool => "storage pools",
            Subject::Network => "networks",
            Subject::Exporter => "the exporter itself",
        };
        for Attribute { label, name, is_number: _ } in otlp::attributes_of(subject) {
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

/// Metrics of the host say which group they come and go with; those of domains are in its section.
fn help_of(metric: &MetricDoc) -> String {
    match metric.group {
        Some(group) if Section::of(metric) == Section::Host => format!("{}; with the group `{group}`", metric.help),
        _ => metric.help.clone(),
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
Prometheus' OTLP receiver and the Collector's Prometheus exporter translate these names: dots become underscores, the unit is appended,
and counters get `_total`. With `otlp.naming: prometheus` the names are those of `/metrics` and are not changed.

| OpenTelemetry | translated for Prometheus |
|---|---|
";

const HEAD: &str = "\
# Metrics

This page is the output of `domstats-exporter metrics`; a test keeps it current.

- **Sections** are the groups of `collection.groups`. Metrics from domain XML, events and other libvirt calls are in the group that they
  belong to.
- **Labels that are not listed**: metrics of a domain have `domain` (its name) and `uuid`, or one of them (`domains.labels`); metrics of
  a storage pool have `pool`, metrics of a network `network`, each with the name.
- **Absent values**: a key that libvirt does not send has no sample, never a zero.
- **Numbers in keys**: `<n>` and `<m>` become the labels. `device`, `interface` and the like have the value of the `.name` key with the
  same number, or the number if libvirt sends no name.
- **One key has no metric**: `dirtyrate.calc_start_time`, because versions of QEMU disagree on its clock.
";
