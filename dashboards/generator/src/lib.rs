//! Grafana dashboards and Prometheus rules of domstats-exporter, made from one source.
//!
//! ```text
//! thresholds.rs ─┬─ dashboards/   -> dashboards/*.json
//!                └─ rules.rs, alerts.rs -> alerts/*.yaml, packaging/kustomize/monitoring/prometheusrule.yaml
//! jobs.rs: every expression of both, right for hosts in one scrape job and in several
//! ```
//!
//! `cargo run -p dashboards` writes the files; a test of the exporter holds them equal to what this crate makes, and
//! every expression in them to the exporter's catalogue of metrics.

pub mod alerts;
mod dashboards;
mod grafana;
mod jobs;
pub mod rules;
pub mod thresholds;

pub use dashboards::all as dashboards;

/// A file of the repository, with its contents.
#[derive(Debug)]
pub struct File {
    /// Its path from the root of the repository.
    pub path: String,
    /// What it holds.
    pub contents: String,
}

/// All files, as they have to be.
#[must_use]
pub fn files() -> Vec<File> {
    let dashboards = dashboards().into_iter().map(|dashboard| {
        let name = dashboard["uid"].as_str().unwrap_or_default().to_owned();
        File { path: format!("dashboards/{name}.json"), contents: format!("{dashboard:#}\n") }
    });
    let rules = [("rules", rules::groups()), ("alerts", alerts::groups())];
    let rules = rules
        .into_iter()
        .map(|(name, groups)| File { path: format!("alerts/{name}.yaml"), contents: rules::to_yaml(&groups) });
    dashboards.chain(rules).chain([prometheus_rule()]).collect()
}

/// All groups as Prometheus' operator takes them.
fn prometheus_rule() -> File {
    const HEAD: &str = "\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: domstats-exporter
  labels: {app.kubernetes.io/name: domstats-exporter, app.kubernetes.io/instance: domstats-exporter}
spec:
";
    let groups: Vec<_> = rules::groups().into_iter().chain(alerts::groups()).collect();
    let indented: String = rules::to_yaml(&groups).lines().map(|line| format!("  {line}\n")).collect();
    File {
        path: "packaging/kustomize/monitoring/prometheusrule.yaml".to_owned(),
        contents: HEAD.to_owned() + &indented,
    }
}
