//! Grafana's classic dashboard model, as far as these dashboards use it.

mod dashboard;
mod heatmap;
mod panel;
mod table;
mod unit;

pub(crate) use dashboard::{Dashboard, Row, Variable};
pub(crate) use heatmap::heatmap;
pub(crate) use panel::{Panel, bars, stat, state_timeline, timeseries};
pub(crate) use table::{Column, table};
pub(crate) use unit::Unit;

use serde_json::{Value, json};

use crate::thresholds::Limits;

/// The data source that the dashboard's variable chose.
pub(crate) fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Writes out the shorthands of an expression: `%host`, `%domain` (label matchers) and `%rate` (a range).
pub(crate) fn expand(expression: &str) -> String {
    expression
        .replace("%domain", "%host,domain=~\"$domain\"")
        .replace("%host", "job=~\"$job\",instance=~\"$instance\"")
        .replace("%rate", "$__rate_interval")
}

/// Colours from green over orange to red.
pub(crate) fn rising(limits: Limits) -> Value {
    steps(&[(None, "green"), (Some(limits.warning), "orange"), (Some(limits.critical), "red")])
}

/// Colours from red over orange to green, for values whose lack is bad.
pub(crate) fn falling(limits: Limits) -> Value {
    steps(&[(None, "red"), (Some(limits.critical), "orange"), (Some(limits.warning), "green")])
}

/// Green at zero, another colour from one on.
pub(crate) fn none_is_good(color: &str) -> Value {
    steps(&[(None, "green"), (Some(1.0), color)])
}

/// Red at zero, green from one on.
pub(crate) fn one_is_good() -> Value {
    steps(&[(None, "red"), (Some(1.0), "green")])
}

/// One colour for every value: information.
pub(crate) fn plain() -> Value {
    steps(&[(None, "blue")])
}

fn steps(steps: &[(Option<f64>, &str)]) -> Value {
    let steps: Vec<Value> = steps.iter().map(|(value, color)| json!({"color": color, "value": value})).collect();
    json!({"mode": "absolute", "steps": steps})
}
