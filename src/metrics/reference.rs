//! All metrics as data: what `domstats-exporter metrics` prints.

use serde::Serialize;

use super::index::{Index, innermost};
use super::table_of;
use crate::config::{Config, Group};
use crate::tables::{Row, Rule, Scale, Subject, Table, WITHOUT_KEYS};

/// One metric, described for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct MetricDoc {
    /// The statistics group as the configuration calls it; `null` for what belongs to none.
    pub group: Option<&'static str>,
    /// What it describes: `exporter`, `host` or `domain`.
    pub subject: Subject,
    /// The keys of libvirt, numbers written as `<n>` and `<m>`, the names of hypervisor statistics as `<name>`.
    pub keys: Vec<String>,
    /// The full Prometheus name.
    pub name: String,
    /// `counter`, `gauge`, `info`, `histogram` or `unknown`.
    pub kind: &'static str,
    /// The suffix for the unit in OpenMetrics; `null` without one.
    pub unit: Option<&'static str>,
    /// The factor from libvirt's unit: `none`, `nano`, `micro`, `kilo`, `kibi` or `mebi`.
    pub scale: &'static str,
    /// The labels beyond those of the subject.
    pub labels: Vec<String>,
    /// The OpenTelemetry name.
    pub otel_name: String,
    /// The OpenTelemetry unit, in UCUM.
    pub otel_unit: String,
    /// Attributes in OpenTelemetry for what the Prometheus name spells out.
    pub otel_attributes: Vec<(&'static str, &'static str)>,
    /// One sentence.
    pub help: String,
}

/// Every metric: those of libvirt's keys group by group, then those of other sources.
#[must_use]
pub fn metric_docs() -> Vec<MetricDoc> {
    let index = Index::new(&Config::default());
    let of_keys =
        index.rows.iter().map(|indexed| described(table_of(indexed.group), indexed.row, index.labels(indexed)));
    let rules = Group::ALL.iter().filter_map(|group| Some((*group, group.info().rule.as_ref()?)));
    let by_rule = rules.flat_map(|(group, rule)| ruled(&index, group, rule));
    let rows = WITHOUT_KEYS.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
    let without_keys = rows.map(|(table, row)| described(table, row, row.labels.to_vec()));
    of_keys.chain(by_rule).chain(without_keys).collect()
}

fn described(table: &Table, row: &Row, labels: Vec<&'static str>) -> MetricDoc {
    MetricDoc {
        group: table.group.map(Group::as_str),
        subject: table.subject,
        keys: row.libvirt_keys().iter().map(|key| (*key).to_owned()).collect(),
        name: row.name.to_owned(),
        kind: row.kind.as_str(),
        unit: row.unit.suffix(),
        scale: row.scale.as_str(),
        labels: labels.into_iter().map(str::to_owned).collect(),
        otel_name: row.otel_name.to_owned(),
        otel_unit: row.unit.ucum().into_owned(),
        otel_attributes: row.otel_attributes.to_vec(),
        help: row.help.to_owned(),
    }
}

/// The three rows that stand for all hypervisor statistics of a vCPU or of the domain.
fn ruled(index: &Index, group: Group, rule: &Rule) -> [MetricDoc; 3] {
    let Rule { prefix, name, otel_name, .. } = rule;
    let scope = innermost(&index.scopes, prefix);
    [("sum", "_total", "", "counter"), ("cur", "", "", "gauge"), ("max", "_max", ".max", "gauge")].map(
        |(suffix, ending, otel_ending, kind)| MetricDoc {
            group: Some(group.as_str()),
            subject: table_of(group).subject,
            keys: vec![format!("{prefix}<name>.{suffix}")],
            name: format!("{name}<name>{ending}"),
            kind,
            unit: None,
            scale: Scale::One.as_str(),
            labels: index.labels_of_scope(scope).into_iter().map(str::to_owned).collect(),
            otel_name: format!("{otel_name}<name>{otel_ending}"),
            otel_unit: String::new(),
            otel_attributes: Vec::new(),
            help: "A statistic of the host's KVM by its name there; values in _ns are converted to seconds".into(),
        },
    )
}
