//! Grafana's classic dashboard model, the part that these dashboards use.

mod dashboard;
mod heatmap;
mod panel;
mod shapes;
mod table;
mod unit;

pub(crate) use dashboard::{Dashboard, KEEP, Row, Variable};
pub(crate) use heatmap::heatmap;
pub(crate) use panel::Panel;
pub(crate) use shapes::{bars, number, stat, state_timeline, timeseries};
pub(crate) use table::{Column, table};
pub(crate) use unit::Unit;

use serde_json::{Value, json};

use crate::jobs::across_jobs;
use crate::thresholds::Limits;

/// The data source that the dashboard's variable chose.
pub(crate) fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Shorthands for Grafana's variables, and what stands for each while the expression is parsed, which a variable would not be.
const VARIABLES: [[&str; 3]; 3] =
    [["%rate", "7y", "$__rate_interval"], ["%range", "8y", "$__range"], ["%top", "7777777", "$top"]];

/// An expression as Grafana gets it: shorthands written out, and the series of all jobs of a host merged.
pub(crate) fn query(expression: &str) -> String {
    let parsed = VARIABLES.iter().fold(expand(expression), |text, [short, parsed, _]| text.replace(short, parsed));
    VARIABLES.iter().fold(across_jobs(&parsed), |text, [_, parsed, variable]| text.replace(parsed, variable))
}

/// Writes out the shorthands of a selector: `%host` and `%domain` are label matchers. The variable `instance` is a host's name
/// without a port.
pub(crate) fn expand(selector: &str) -> String {
    selector.replace("%domain", "%host,domain=~\"$domain\"").replace("%host", "instance=~\"($instance)(:.*)?\"")
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

/// No colour that judges at zero, another one from one on.
pub(crate) fn none_or(color: &str) -> Value {
    steps(&[(None, "blue"), (Some(1.0), color)])
}

/// Green, and orange from a value on: what is no fault, and worth a look.
pub(crate) fn orange_from(value: f64) -> Value {
    steps(&[(None, "green"), (Some(value), "orange")])
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
