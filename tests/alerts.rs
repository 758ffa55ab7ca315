//! The recording rules and alerts: promtool likes them, each alert fires when it should and not otherwise, and each has what
//! the one who is woken by it needs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/golden.rs"]
mod golden;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/layouts.rs"]
mod layouts;
#[path = "support/metrics.rs"]
mod metrics;
#[path = "support/promql.rs"]
mod promql;
#[path = "support/reading.rs"]
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dashboards::rules::Rule;
use domstats_exporter::config::MetricNaming;
use domstats_exporter::encode::Format;
use domstats_exporter::metrics::{Families, translate};
use domstats_exporter::{metrics_doc, migration};
use lab::{filter, need};
use reading::Sample;
use serde_json::json;
use serde_yaml::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts")
}

fn alerts() -> Vec<Rule> {
    dashboards::alerts::groups().into_iter().flat_map(|group| group.rules).collect()
}

/// The files with promtool's tests.
fn tests() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join("tests")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn promtool_accepts_the_rules() {
    need("promtool", "prometheus").unwrap();
    let mut command = Command::new("promtool");
    command
        .args(["check", "rules", "--lint=all", "--lint-fatal"])
        .args([folder().join("rules.yaml"), folder().join("alerts.yaml")])
        .args(migration::rules().iter().map(|(name, _)| folder().join(name)));
    filter(&mut command, "").unwrap();
}

/// The rules that give native metrics the names of another exporter make of them what a scrape under those names shows.
#[test]
fn compat_rules_say_what_a_scrape_in_that_naming_does() {
    need("promtool", "prometheus").unwrap();
    let native = golden::families("inventory-running");
    let names: BTreeSet<String> = metrics_doc::all().into_iter().map(|metric| metric.name).collect();
    let scraped = ["instance", "job"].map(|label| (label.to_owned(), "x".to_owned()));
    let input = samples(&native).into_iter().map(|Sample { name, labels, value }| {
        let labels = labels.into_iter().chain(scraped.clone()).map(|(label, value)| format!("{label}={value:?}"));
        let labels = labels.collect::<Vec<_>>().join(",");
        json!({"series": format!("{name}{{{labels}}}"), "values": format!("{value:e} {value:e}")})
    });
    let input: Vec<_> = input.collect();
    for naming in MetricNaming::ALL.iter().filter(|naming| **naming != MetricNaming::Native) {
        let mut wanted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for Sample { name, labels, value } in samples(&translate(native.clone(), *naming, true, &|_| true)) {
            // PromQL does not count the disks of a domain.
            if names.contains(&name) || name.starts_with("libvirtd_domain_block_") {
                continue;
            }
            let by: Vec<&str> = labels.keys().map(String::as_str).collect();
            let expression = format!("max by ({}) ({name})", by.join(", "));
            let labels = labels.iter().filter(|(_, value)| !value.is_empty());
            let labels: Vec<String> = labels.map(|(label, value)| format!("{label}={value:?}")).collect();
            let sample = json!({"labels": format!("{{{}}}", labels.join(",")), "value": value});
            wanted.entry(expression).or_default().push(serde_yaml::to_value(sample).unwrap());
        }
        assert!(wanted.len() > 10, "{naming}: {} expressions", wanted.len());
        let tests: Vec<_> = wanted
            .iter()
            .map(|(expression, samples)| json!({"expr": expression, "eval_time": "1m", "exp_samples": samples}))
            .collect();
        let file = json!({
            "rule_files": [folder().join(format!("compat-{naming}.yaml"))],
            "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": input, "promql_expr_test": tests}],
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compat.yaml");
        fs::write(&path, file.to_string()).unwrap();
        let mut command = Command::new("promtool");
        command.args(["test", "rules"]).arg(&path);
        filter(&mut command, "").unwrap_or_else(|error| panic!("{naming}: {error}"));
    }
}

/// The samples of an exposition that are no histogram's.
fn samples(families: &Families) -> Vec<Sample> {
    let text = String::from_utf8(Format::Text.encode(families)).unwrap();
    let samples = reading::parse_exposition(&text).unwrap();
    samples.into_iter().filter(|sample| !sample.labels.contains_key("le")).collect()
}

#[test]
fn alerts_fire_when_they_should_and_not_otherwise() {
    need("promtool", "prometheus").unwrap();
    let mut command = Command::new("promtool");
    filter(command.args(["test", "rules"]).args(tests()), "").unwrap();
}

/// Each file of tests again, with the same alerts expected of the same hosts, which two jobs scrape: both have everything, or each
/// has its groups as in examples/prometheus.yml and both have what belongs to no group.
#[test]
fn alerts_do_not_depend_on_the_jobs_that_scrape_a_host() {
    need("promtool", "prometheus").unwrap();
    let slow = layouts::slow_groups();
    let groups: BTreeMap<String, String> =
        metrics_doc::all().into_iter().filter_map(|metric| Some((metric.name, metric.group?.to_owned()))).collect();
    let twice = |_: &str| vec![JOB, SLOW_JOB];
    let split = |metric: &str| match groups.get(metric) {
        Some(group) if slow.contains(group) => vec![SLOW_JOB],
        Some(_) => vec![JOB],
        None => vec![JOB, SLOW_JOB],
    };
    let layouts: [(&str, &Jobs<'_>); 2] = [("twice", &twice), ("split", &split)];
    let written = tempfile::tempdir().unwrap();
    for (layout, jobs) in layouts {
        let files: Vec<PathBuf> = tests()
            .iter()
            .map(|file| {
                let path = written.path().join(format!("{layout}-{}", file.file_name().unwrap().display()));
                fs::write(&path, serde_yaml::to_string(&in_jobs(file, jobs)).unwrap()).unwrap();
                path
            })
            .collect();
        let moved = files.iter().any(|file| fs::read_to_string(file).unwrap().contains(SLOW_JOB));
        assert!(moved, "{layout}: nothing is in the slow job");
        let mut command = Command::new("promtool");
        filter(command.args(["test", "rules"]).args(files), "").unwrap_or_else(|error| panic!("{layout}: {error}"));
    }
}

/// The jobs that scrape a metric.
type Jobs<'a> = dyn Fn(&str) -> Vec<&'static str> + 'a;

const JOB: &str = "libvirt";
const SLOW_JOB: &str = "libvirt-slow";

/// A file of promtool's tests, with each series of the exporter in the jobs that `jobs` says for its metric.
fn in_jobs(file: &Path, jobs: &Jobs<'_>) -> Value {
    let mut parsed: Value = serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    parsed["rule_files"] = serde_yaml::to_value(["rules.yaml", "alerts.yaml"].map(|name| folder().join(name))).unwrap();
    let label = format!("job=\"{JOB}\"");
    for test in parsed["tests"].as_sequence_mut().unwrap() {
        let input = test["input_series"].as_sequence_mut().unwrap();
        for given in std::mem::take(input) {
            let series = given["series"].as_str().unwrap();
            let jobs = if series.contains(&label) { jobs(series.split('{').next().unwrap()) } else { vec![""] };
            for job in jobs {
                let mut copy = given.clone();
                copy["series"] = series.replace(&label, &format!("job=\"{job}\"")).into();
                input.push(copy);
            }
        }
    }
    parsed
}

/// Each alert, as each of its severities, fires for something in a test, and does not any more later in the same test; and there
/// is a moment at which it does not fire at all.
#[test]
fn every_alert_is_tested_firing_not_firing_and_ending() {
    let (mut firing, mut ended, mut silent) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for file in tests() {
        let parsed: Value = serde_yaml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for test in parsed["tests"].as_sequence().unwrap() {
            let mut checks: Vec<&Value> = test["alert_rule_test"].as_sequence().unwrap().iter().collect();
            checks.sort_by_key(|check| minutes(check["eval_time"].as_str().unwrap()));
            let mut before: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
            for check in checks {
                let name = check["alertname"].as_str().unwrap();
                let expected: Vec<&Value> =
                    check["exp_alerts"].as_sequence().unwrap().iter().map(|alert| &alert["exp_labels"]).collect();
                let severity = |labels: &Value| (name.to_owned(), labels["severity"].as_str().unwrap().to_owned());
                if expected.is_empty() {
                    silent.insert(name.to_owned());
                }
                firing.extend(expected.iter().copied().map(severity));
                let gone = before.get(name).into_iter().flatten().filter(|labels| !expected.contains(labels));
                ended.extend(gone.copied().map(severity));
                before.insert(name, expected);
            }
        }
    }
    for alert in alerts() {
        let (name, severity) = (alert.alert.unwrap(), alert.labels["severity"].clone());
        let which = (name.to_owned(), severity);
        assert!(firing.contains(&which), "{which:?}: no test in which it fires");
        assert!(ended.contains(&which), "{which:?}: no test in which it ends");
        assert!(silent.contains(name), "{name}: no test in which it does not fire");
    }
}

/// The minutes of `15h30m`.
fn minutes(time: &str) -> u64 {
    let part = regex::Regex::new("([0-9]+)([dhm])").unwrap();
    let parts = part.captures_iter(time).map(|found| {
        let unit = match &found[2] {
            "d" => 1440,
            "h" => 60,
            _ => 1,
        };
        found[1].parse::<u64>().unwrap() * unit
    });
    parts.sum()
}

/// Series are scraped every few seconds, and each round of a rule would read all of its hours again: what needs hours is
/// recorded first.
#[test]
fn no_rule_reads_hours_of_scraped_series() {
    let rules = dashboards::rules::groups().into_iter().flat_map(|group| group.rules);
    for rule in rules.chain(alerts()) {
        for (series, seconds) in promql::ranges(&rule.expr).unwrap() {
            assert!(series.contains(':') || seconds <= 900, "{series} over {seconds} s: {}", rule.expr);
        }
    }
}

/// What takes the reason for an alert away is there whenever the reason is, or the alert is known to say more without it.
#[test]
fn a_group_that_is_not_collected_makes_no_alert_fire() {
    /// By decision: what excuses them is in another group, without which they would otherwise say nothing at all.
    const WEIGHED: [&str; 3] =
        ["LibvirtDomainStealHigh", "LibvirtHostCpuOvercommitted", "LibvirtHostMemoryOvercommitted"];
    let groups: BTreeMap<String, Option<&'static str>> =
        metrics_doc::all().into_iter().map(|metric| (metric.name, metric.group)).collect();
    let recorded: BTreeMap<&str, String> = dashboards::rules::groups()
        .into_iter()
        .flat_map(|group| group.rules)
        .map(|rule| (rule.record.unwrap(), rule.expr))
        // What remembers itself would be replaced for ever.
        .filter(|(record, made_of)| !made_of.contains(record))
        .collect();
    let range = regex::Regex::new(r"(:\w+)\[(\w+)\]").unwrap();
    let mut weighed = BTreeSet::new();
    for alert in alerts() {
        let name = alert.alert.unwrap();
        // What is recorded takes a subquery where the record takes a range.
        let mut expression = range.replace_all(&alert.expr, "$1[$2:1m]").into_owned();
        while let Some((record, made_of)) = recorded.iter().find(|(record, _)| expression.contains(**record)) {
            expression = expression.replace(record, &format!("({made_of})"));
        }
        let is_absent = promql::calls(&expression).unwrap().contains("absent");
        assert!(!is_absent || name == "LibvirtExporterAbsent", "{name} fires where a metric is not there");
        for [kept, taken] in promql::unless(&expression).unwrap() {
            let of = |text: &str| -> BTreeSet<&str> {
                let selectors = promql::selectors(text).unwrap();
                selectors.iter().filter_map(|(metric, _)| *groups.get(metric)?).collect()
            };
            if !of(&taken).is_subset(&of(&kept)) {
                weighed.insert(name);
            }
        }
    }
    assert_eq!(weighed, BTreeSet::from(WEIGHED));
}

#[test]
fn alerts_have_what_one_needs_at_night() {
    let runbooks = fs::read_to_string(folder().join("RUNBOOKS.md")).unwrap();
    let sections: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: BTreeSet<&str> = alerts().iter().map(|alert| alert.alert.unwrap()).collect();
    assert_eq!(sections, names, "RUNBOOKS.md has a section for each alert");
    for section in runbooks.split("\n## ").skip(1) {
        let parts: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("- **")?.split_once("**: "))
            .map(|(part, _)| part)
            .collect();
        assert_eq!(parts, ["Cause", "Check", "Cure"], "{}", section.lines().next().unwrap());
    }
    for alert in alerts() {
        let name = alert.alert.unwrap();
        assert!(name.starts_with("Libvirt"), "{name}");
        assert!(["critical", "warning", "info"].contains(&alert.labels["severity"].as_str()), "{name}");
        assert!(alert.lasting.is_some(), "{name}: for");
        let summary = &alert.annotations["summary"];
        assert!(
            summary.ends_with('.') && !summary.contains("$value"),
            "{name}: a summary is one sentence, without a number: {summary}"
        );
        assert!(alert.annotations["description"].ends_with('.'), "{name}");
        let runbook = alert.annotations["runbook_url"].rsplit_once('#').unwrap();
        assert!(runbook.0.ends_with("/alerts/RUNBOOKS.md") && runbook.1 == name.to_lowercase(), "{name}: {runbook:?}");
    }
}

/// Expressions ask for what the exporter has, and texts for labels that the alert has.
#[test]
fn alerts_ask_for_existing_metrics_and_labels() {
    let metrics = metrics::with_rules();
    let used = regex::Regex::new(r"\$labels\.(\w+)").unwrap();
    for alert in alerts() {
        let name = alert.alert.unwrap();
        let found = metrics.check(&alert.expr).unwrap_or_else(|error| panic!("{name}: {error}"));
        let labels = found.labels.unwrap();
        for label in alert.annotations.values().flat_map(|text| used.captures_iter(text)) {
            assert!(labels.contains(&label[1]), "{name}: {} is not in {labels:?}", &label[1]);
        }
    }
}

/// The example for Alertmanager names alerts that there are, and labels that both sides of a rule have.
#[test]
fn inhibition_names_alerts_and_labels_that_there_are() {
    let metrics = metrics::with_rules();
    let labels: BTreeMap<(&str, String), BTreeSet<String>> = alerts()
        .iter()
        .map(|alert| {
            let labels = metrics.check(&alert.expr).unwrap().labels.unwrap();
            ((alert.alert.unwrap(), alert.labels["severity"].clone()), labels)
        })
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/alertmanager.yml");
    let example: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let matcher = regex::Regex::new(r#"^(alertname|severity)(=|=~)"(.+)"$"#).unwrap();
    let matched = |matchers: &Value| -> Vec<&(&str, String)> {
        let matchers: Vec<_> = matchers.as_sequence().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        let matchers = matchers.iter().map(|one| matcher.captures(one).unwrap_or_else(|| panic!("{one}")));
        let patterns: Vec<_> = matchers
            .map(|found| {
                for name in found[3]
                    .split('|')
                    .filter(|name| name.starts_with("Libvirt") && name.chars().all(char::is_alphanumeric))
                {
                    assert!(labels.keys().any(|(alert, _)| *alert == name), "there is no alert {name}");
                }
                (found[1].to_owned(), regex::Regex::new(&format!("^(?:{})$", &found[3])).unwrap())
            })
            .collect();
        let fits = |(name, severity): &&(&str, String)| {
            patterns.iter().all(|(label, pattern)| pattern.is_match(if label == "alertname" { name } else { severity }))
        };
        labels.keys().filter(fits).collect()
    };
    let rules = example["inhibit_rules"].as_sequence().unwrap();
    assert!(rules.len() > 5);
    for rule in rules {
        let [sources, targets] = ["source_matchers", "target_matchers"].map(|side| matched(&rule[side]));
        assert!(!sources.is_empty() && !targets.is_empty(), "{rule:?}");
        let equal: Vec<&str> =
            rule["equal"].as_sequence().into_iter().flatten().map(|label| label.as_str().unwrap()).collect();
        // One rule is for the severities of each alert, with all labels that any of them has.
        if equal.contains(&"alertname") {
            for target in targets.iter().filter(|target| sources.iter().any(|source| source.0 == target.0)) {
                let missing: Vec<_> = labels[*target]
                    .iter()
                    .filter(|label| !["domain"].contains(&label.as_str()) && !equal.contains(&label.as_str()))
                    .collect();
                assert!(missing.is_empty(), "{target:?}: {missing:?}");
            }
            continue;
        }
        for label in equal {
            assert!(sources.iter().chain(&targets).any(|alert| labels[*alert].contains(label)), "{rule:?}: {label}");
            assert!(sources.iter().all(|source| labels[*source].contains(label)), "{rule:?}: {label}");
        }
    }
}
