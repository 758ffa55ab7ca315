//! Recording rules that give the native metrics the names of another exporter as well: alerts/compat-*.yaml.

use std::collections::BTreeSet;

use crate::metrics::dialect::{Asked, DIALECTS, Dialect, Entry, Label, Source, Values, Zero};
use crate::metrics::metric_docs;
use crate::tables::exporter::PROBE_SUCCESS;

/// The labels that say which domain of which exporter a series is of.
const DOMAIN: &str = "instance, job, domain, uuid";

/// The files with the rules: the name and the text of each.
#[must_use]
pub fn rules() -> Vec<(String, String)> {
    DIALECTS.into_iter().map(|dialect| (format!("compat-{}.yaml", dialect.naming), file(dialect))).collect()
}

fn file(dialect: &Dialect) -> String {
    let Dialect { naming, repository, .. } = dialect;
    let native: BTreeSet<String> = metric_docs().into_iter().map(|metric| metric.name).collect();
    let mut out = format!(
        "# The names of {repository} for the metrics of domstats-exporter, which scrapes them by their own names. Labels that only\n\
         # domstats-exporter has stay as well. Without these rules: metrics.naming: {naming}, see docs/migration.md.\n\
         # A test makes this file from the table in src/metrics/dialect/{naming}.rs.\n\
         groups:\n  - name: libvirt-compat-{naming}\n    rules:\n"
    );
    for entry in dialect.all() {
        if native.contains(entry.name) {
            out.push_str(&format!("      # {} has that name already.\n", entry.name));
        } else {
            out.push_str(&format!("      - record: {}\n        expr: '{}'\n", entry.name, expression(entry)));
        }
    }
    out
}

/// The metric there, from the native ones.
fn expression(entry: &Entry) -> String {
    let mut expression = values(entry);
    if let Some(Zero { of, asked }) = entry.or_zero {
        let asked = match asked {
            Asked::Sample => String::new(),
            Asked::Family(family) => format!(" and on ({DOMAIN}) {family}"),
            Asked::Group(group) => {
                let probe = selector(PROBE_SUCCESS.row.name, &[("probe", "=", &group.to_string())]);
                format!(" and on (instance, job) {probe}")
            }
        };
        // What an info metric says of a thing would make another series of it.
        let of = match of {
            "libvirt_domain_block_info" => format!("max by ({DOMAIN}, device) ({of})"),
            "libvirt_pool_info" => format!("max by (instance, job, pool) ({of})"),
            of => of.to_owned(),
        };
        expression = format!("({expression} or 0 * {of}{asked})");
    }
    if let Some((Source::Disk(label), values)) = entry.without {
        let info = selector("libvirt_domain_block_info", &[(label, "=~", &values.join("|"))]);
        expression = format!("({expression} unless on ({DOMAIN}, device) {info})");
    }
    for (info, thing) in [("libvirt_domain_block_info", "device"), ("libvirt_domain_interface_info", "interface")] {
        let joined: BTreeSet<&str> =
            entry.labels.iter().flat_map(|Label(_, source)| joined(*source, info)).copied().collect();
        if entry.native != info && !joined.is_empty() {
            let labels: Vec<&str> = joined.into_iter().collect();
            expression = format!("{expression} * on ({DOMAIN}, {thing}) group_left ({}) {info}", labels.join(", "));
        }
    }
    entry.labels.iter().fold(expression, |expression, label| labelled(expression, *label))
}

/// The labels of `info` that the value of `source` is made of.
fn joined(source: Source, info: &str) -> &'static [&'static str] {
    match (source, info) {
        (Source::Disk("path"), "libvirt_domain_block_info") => &["path"],
        (Source::DiskImage, "libvirt_domain_block_info") => &["path", "source"],
        (Source::DiskFile, "libvirt_domain_block_info") => &["disk_type", "path"],
        (Source::DiskProtocol, "libvirt_domain_block_info") => &["disk_type", "source"],
        (Source::Interface("bridge"), "libvirt_domain_interface_info") => &["bridge"],
        _ => &[],
    }
}

fn values(entry: &Entry) -> String {
    let native = match entry.without {
        Some((Source::Own(label), values)) => selector(entry.native, &[(label, "!~", &values.join("|"))]),
        _ => entry.native.to_owned(),
    };
    match entry.values {
        Values::Same => native,
        Values::Times(factor, _) if factor < 1.0 => format!("({native} / {})", 1.0 / factor),
        Values::Times(factor, _) => format!("round({native} * {factor})"),
        Values::Always(number, _) => format!("({number} * max by ({DOMAIN}) ({native}))"),
        Values::Not => format!("(1 - {native})"),
        Values::State(names) => {
            let left_out =
                |name: &str| matches!(entry.without, Some((Source::Own("state"), left)) if left.contains(&name));
            let shown = names.iter().enumerate().filter(|(_, name)| !left_out(name));
            let numbered = shown
                .map(|(number, name)| format!("{number} * ({} == 1)", selector(entry.native, &[("state", "=", name)])));
            format!("({})", numbered.collect::<Vec<_>>().join(" or "))
        }
        Values::Reason => {
            let states = crate::tables::STATES.iter().zip(crate::tables::REASONS);
            let numbered = states.flat_map(|(state, reasons)| {
                reasons.iter().enumerate().map(move |(number, reason)| {
                    format!("{number} * {}", selector(entry.native, &[("state", "=", state), ("reason", "=", reason)]))
                })
            });
            format!("({})", numbered.collect::<Vec<_>>().join(" or "))
        }
        Values::Sum(_, []) => format!("sum by (instance, job) ({native})"),
        Values::Sum(label, without) => {
            format!("sum by (instance, job) ({})", selector(entry.native, &[(label, "!~", &without.join("|"))]))
        }
        Values::PercentWithout(other) => format!("(({native} - {other}) / ({native} / 100))"),
    }
}

fn selector(metric: &str, matchers: &[(&str, &str, &str)]) -> String {
    let matchers: Vec<String> =
        matchers.iter().map(|(label, operator, value)| format!("{label}{operator}\"{value}\"")).collect();
    format!("{metric}{{{}}}", matchers.join(", "))
}

/// `expression` with one label more.
fn labelled(expression: String, Label(name, source): Label) -> String {
    let replaced = |expression: String, value: &str, label: &str, pattern: &str| {
        format!("label_replace({expression}, \"{name}\", \"{value}\", \"{label}\", \"{pattern}\")")
    };
    // A label that is wanted of only some disks is the type and itself, then itself or nothing.
    let of_type = |label: &str, wanted: &str, value: &str| {
        let both = format!("label_join({expression}, \"{name}\", \";\", \"disk_type\", \"{label}\")");
        replaced(replaced(both, "$1", name, &format!("{wanted};{value}")), "", name, "[a-z]*;.*")
    };
    match source {
        Source::Name => expression,
        Source::Uuid if name == "uuid" => expression,
        Source::Uuid => replaced(expression, "$1", "uuid", "(.*)"),
        Source::Own(label) | Source::Disk(label) | Source::Interface(label) if label == name => expression,
        Source::Own(label) | Source::Disk(label) | Source::Interface(label) => {
            replaced(expression, "$1", label, "(.*)")
        }
        // PromQL does not count disks: the label stays the name of the disk.
        Source::DiskNumber => expression,
        Source::DiskImage => replaced(replaced(expression, "$1", "source", "[^:]*:(.*)"), "$1", "path", "(.+)"),
        Source::DiskFile => of_type("path", "file", "(.*)"),
        Source::DiskProtocol => of_type("source", "network", "([^:]*).*"),
        Source::IfInfo(label, word) => replaced(expression, word, label, ".+"),
        Source::StateText(texts) => {
            let states = crate::tables::STATES.iter().zip(texts);
            states.fold(expression, |expression, (state, text)| replaced(expression, text, "state", state))
        }
    }
}
