//! The catalogue as a document: what `domstats-exporter metrics` prints.

use serde::Serialize;

use super::build::UNMAPPED;
use super::index::{Index, innermost};
use crate::config::{Config, Group};
use crate::tables::{Rule, Scale};

/// One metric of the catalogue, described for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The statistics group as the configuration calls it; `null` for what belongs to none.
    pub group: Option<&'static str>,
    /// The keys of libvirt, numbers written as `<n>` and `<m>`, the names of hypervisor statistics as `<name>`.
    pub keys: Vec<String>,
    /// The full Prometheus name.
    pub name: String,
    /// `counter`, `gauge`, `info`, `histogram` or `unknown`.
    pub kind: &'static str,
    /// The suffix for the unit in OpenMetrics; `null` without one.
    pub unit: Option<&'static str>,
    /// The factor from libvirt's unit: `none`, `nano`, `kibi` or `mebi`.
    pub scale: &'static str,
    /// The labels beyond those of the domain.
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

/// Every metric that a domain can have, in the order of the exposition.
#[must_use]
pub fn listed() -> Vec<Listed> {
    let index = Index::new(&Config::default());
    let mut list: Vec<Listed> = index
        .rows
        .iter()
        .map(|indexed| Listed {
            group: Some(indexed.group.as_str()),
            keys: indexed.row.keys.iter().map(|key| (*key).to_owned()).collect(),
            name: indexed.row.name.to_owned(),
            kind: indexed.row.kind.as_str(),
            unit: indexed.row.unit.suffix(),
            scale: indexed.row.scale.as_str(),
            labels: index.labels(indexed).into_iter().map(str::to_owned).collect(),
            otel_name: indexed.row.otel_name.to_owned(),
            otel_unit: indexed.row.unit.ucum().into_owned(),
            otel_attributes: indexed.row.otel_attributes.to_vec(),
            help: indexed.row.help.to_owned(),
        })
        .collect();
    let rules = Group::ALL.iter().filter_map(|group| Some((*group, group.info().rule.as_ref()?)));
    list.extend(rules.flat_map(|(group, rule)| ruled(&index, group, rule)));
    list.push(Listed {
        group: None,
        keys: Vec::new(),
        name: UNMAPPED.name.into_owned(),
        kind: UNMAPPED.kind.as_str(),
        unit: None,
        scale: Scale::One.as_str(),
        labels: vec!["key".into()],
        otel_name: UNMAPPED.otel_name.into_owned(),
        otel_unit: UNMAPPED.unit.ucum().into_owned(),
        otel_attributes: Vec::new(),
        help: UNMAPPED.help.into_owned(),
    });
    list
}

/// The three rows that stand for all hypervisor statistics of a vCPU or of the domain.
fn ruled(index: &Index, group: Group, rule: &Rule) -> [Listed; 3] {
    let Rule { prefix, name, otel_name, .. } = rule;
    let scope = innermost(&index.scopes, prefix);
    [("sum", "_total", "", "counter"), ("cur", "", "", "gauge"), ("max", "_max", ".max", "gauge")].map(
        |(suffix, ending, otel_ending, kind)| Listed {
            group: Some(group.as_str()),
            keys: vec![format!("{prefix}<name>.{suffix}")],
            name: format!("{name}<name>{ending}"),
            kind,
            unit: None,
            scale: Scale::One.as_str(),
            labels: index.labels_of_scope(scope).into_iter().map(str::to_owned).collect(),
            otel_name: format!("{otel_name}<name>{otel_ending}"),
            otel_unit: String::new(),
            otel_attributes: Vec::new(),
            help: "A statistic of the host's KVM by its name there; a name in _ns becomes seconds".into(),
        },
    )
}
