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

#[test]
fn every_alert_is_tested_firing_and_not_firing() {
    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in tests() {
        let text = fs::read_to_string(&file).unwrap();
        let parsed: Value = serde_yaml::from_str(&text).unwrap();
        for test in parsed["tests"].as_sequence().unwrap() {
            for check in test["alert_rule_test"].as_sequence().unwrap() {
                let name = check["alertname"].as_str().unwrap().to_owned();
                let expected = check["exp_alerts"].as_sequence().unwrap();
                if expected.is_empty() {
                    silent.insert((name, String::new()));
                }
                for alert in expected {
                    firing.insert((
                        check["alertname"].as_str().unwrap().to_owned(),
                        alert["exp_labels"]["severity"].as_str().unwrap().to_owned(),
                    ));
                }
            }
        }
    }
    for alert in alerts() {
        let name = alert.alert.unwrap();
        assert!(
            firing.contains(&(name.to_owned(), alert.labels["severity"].clone())),
            "{name}: no test in which it fires as {}",
            alert.labels["severity"]
        );
        assert!(silent.contains(&(name.to_owned(), String::new())), "{name}: no test in which it does not fire");
    }
}

#[test]
fn alerts_have_what_one_needs_at_night() {
    let runbooks = fs::read_to_string(folder().join("RUNBOOKS.md")).unwrap();
    let sections: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let names: BTreeSet<&str> = alerts().iter().map(|alert| alert.alert.unwrap()).collect();
    assert_eq!(sections, names, "RUNBOOKS.md has a section for each alert");
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
