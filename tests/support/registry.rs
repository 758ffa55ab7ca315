//! The registry of OpenTelemetry's semantic conventions, read out of the crate that the exporter takes its constants from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use regex::Regex;

/// What the registry has.
#[derive(Debug)]
pub(crate) struct Registry {
    /// The metrics by name.
    pub(crate) metrics: BTreeMap<String, Metric>,
    /// The attributes that are not deprecated.
    pub(crate) attributes: BTreeSet<String>,
}

/// A metric of the conventions.
#[derive(Debug)]
pub(crate) struct Metric {
    /// `counter`, `updowncounter`, `gauge` or `histogram`.
    pub(crate) instrument: String,
    /// In UCUM.
    pub(crate) unit: String,
    /// Attributes that each point has.
    pub(crate) required: Vec<String>,
}

impl Registry {
    /// Reads the sources of `opentelemetry-semantic-conventions` in `folder`.
    pub(crate) fn read(folder: &Path) -> Self {
        let source = |file: &str| fs::read_to_string(folder.join("src").join(file)).expect("a source file");
        let (attributes, metrics) = (source("attribute.rs"), source("metric.rs"));
        let expression = |text: &str| Regex::new(text).expect("an expression");
        let constant = expression(r#"(?m)^pub const (\w+): &str =\s+"([^"]+)";"#);
        let row = expression(r"\| (Instrument|Unit): \| `([^`]*)` \|");
        let required = expression(r"crate::attribute::(\w+)`\] \| `Required`");
        // By the name of the constant: the name of the attribute, and whether it is deprecated.
        let attributes: BTreeMap<String, (String, bool)> = items(&attributes)
            .filter_map(|item| {
                let found = constant.captures(item)?;
                Some((found[1].to_owned(), (found[2].to_owned(), item.contains("#[deprecated"))))
            })
            .collect();
        let metrics = items(&metrics).filter_map(|item| {
            let name = constant.captures(item)?[2].to_owned();
            let mut rows: BTreeMap<_, _> =
                row.captures_iter(item).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
            let names = required.captures_iter(item).filter_map(|found| Some(attributes.get(&found[1])?.0.clone()));
            let (instrument, unit) = (rows.remove("Instrument")?, rows.remove("Unit")?);
            Some((name, Metric { instrument, unit, required: names.collect() }))
        });
        let metrics = metrics.collect();
        let current = attributes.into_values().filter(|(_, deprecated)| !deprecated);
        Self { metrics, attributes: current.map(|(name, _)| name).collect() }
    }
}

/// A constant with its documentation each.
fn items(source: &str) -> impl Iterator<Item = &str> {
    source.split("\n\n").filter(|item| item.contains("pub const "))
}
