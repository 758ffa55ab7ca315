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

#[path = "support/lab.rs"]
mod lab;
#[path = "support/metrics.rs"]
mod metrics;
#[path = "support/promql.rs"]
mod promql;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dashboards::rules::Rule;
use lab::{filter, need};
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
        .args([folder().join("rules.yaml"), folder().join("alerts.yaml")]);
    filter(&mut command, "").unwrap();
}

#[test]
fn alerts_fire_when_they_should_and_not_otherwise() {
    need("promtool", "prometheus").unwrap();
    let mut command = Command::new("promtool");
    filter(command.args(["test", "rules"]).args(tests()), "").unwrap();
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
