//! The dashboards: a file each, and what they share.

mod domain;
mod domain_detail;
mod domain_hardware;
mod domain_limits;
mod exporter;
mod fleet;
mod guests;
mod host;
mod host_detail;
mod numbers;
mod platform;
mod problem;
mod problems;

use serde_json::Value;

use crate::grafana::KEEP;
use crate::rules::answers;

/// All dashboards, as Grafana's JSON.
#[must_use]
pub fn all() -> Vec<Value> {
    vec![
        fleet::dashboard(),
        host::dashboard(),
        domain::dashboard(),
        exporter::dashboard(),
        platform::openstack(),
        platform::kubevirt(),
    ]
}

/// The hosts without libvirt, each as a 1: the exporter does not answer, or does not reach it.
fn hosts_down() -> String {
    format!("({} == 0 or libvirt_up{{%host}} == 0) + 1", answers("%host"))
}

/// A link to the host's dashboard.
fn host_link(instance: &str) -> String {
    format!("/d/libvirt-host?{KEEP}&var-instance={instance}")
}

/// A link to the domain's dashboard.
fn domain_link(instance: &str, domain: &str) -> String {
    format!("/d/libvirt-domain?{KEEP}&var-instance={instance}&var-domain={domain}")
}

/// Instead of a guest's own numbers, where it has no balloon driver.
const SILENT: &str = "not reported by the guest";

/// The states of a domain: as libvirt calls them, or as [`guests::states`] does, in words, and with a colour.
const STATES: [(&str, &str, &str); 9] = [
    ("running", "running", "green"),
    ("blocked", "blocked", "yellow"),
    ("paused", "paused", "orange"),
    ("shutdown", "shutting down", "yellow"),
    ("shutoff", "off", "text"),
    ("crashed", "crashed", "red"),
    ("pmsuspended", "suspended", "blue"),
    ("nostate", "unknown", "purple"),
    ("not responding", "not responding", "red"),
];

/// How often something happened between one point of the time axis and the next. The counter may be there only since the
/// first time: then all of it is new.
fn events(counter: &str) -> String {
    format!("(increase({counter}[%rate]) > 0 or {counter} unless {counter} offset %rate)")
}

/// What happens to a host's domains: the counters have no domain, so that a transient domain's crash is not lost with it.
fn lifecycle() -> String {
    format!("sum by (instance, event, detail) {}", events("libvirt_host_lifecycle_events_total{%host}"))
}
