//! `domstats-exporter check`: whether the exporter would work with these settings, and what to do where it would not.
//!
//! One file for each thing that is examined; each adds its findings to the [`Report`]. A fault of one keeps none of the others
//! from being examined, but for the connection to libvirt, without which there is nothing to see of domains.

mod domains;
mod network;
mod report;
mod settings;
mod timing;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

pub use report::{Finding, Report, Status};

use crate::app::{Exporter, Search};
use crate::cli::Used;
use crate::collect::{Selection, Shortcomings};
use crate::config::{Config, uri_key};
use crate::libvirt::{ErrorClass, LibvirtError, Versions};

/// Examines everything once: the settings, the `local` daemon, if it is to be, what `patterns` of sockets match, and `targets` by
/// name. The settings are valid, and the files that they name have been read.
///
/// # Errors
/// If the operating system has no thread left.
pub async fn run(
    used: &Used,
    config: &Config,
    local: Option<&Config>,
    (targets, patterns): (BTreeMap<String, Config>, Vec<Search>),
) -> io::Result<Report> {
    let mut report = Report::default();
    settings::look(&mut report, used, config);
    network::listen(&mut report, config).await;
    network::receiver(&mut report, config).await;
    match local {
        Some(local) if local.libvirt.uri.is_none() => report.fact("libvirt URI", "none: only targets are probed"),
        Some(local) => daemon(&mut report, local, Exporter::start(local, None)?).await,
        None => {}
    }
    patterns.iter().for_each(|search| pattern(&mut report, search));
    for (name, config) in targets {
        report.fact("target", &name);
        let exporter = Exporter::start_target(&config, &name)?;
        daemon(&mut report, &config, exporter).await;
    }
    Ok(report)
}

/// The sockets of a target whose URI has a `*`.
fn pattern(report: &mut Report, Search { name, path, targets, nameless, unreadable }: &Search) {
    const PART: &str = "pattern";
    let found = format!("{name}: sockets that match {path}: {targets}");
    if nameless.is_empty() && unreadable.is_empty() {
        return report.fact(PART, found);
    }
    if let Some(first) = nameless.first() {
        let text = format!("{found}, {} without a name of their own, as {first}", nameless.len());
        let remedy = format!(
            "correct targets.{name}.name_regex: it has to match the whole path, and its group to tell sockets apart"
        );
        report.fault(PART, Status::Incomplete, text, remedy);
    }
    if let Some(first) = unreadable.first() {
        let text = format!("{found}, {} folders cannot be looked into: {first}", unreadable.len());
        report.fault(PART, Status::Incomplete, text, "let the exporter's user read them, or run as a user who may");
    }
}

/// One daemon, and its domains.
async fn daemon(report: &mut Report, config: &Config, exporter: Arc<Exporter>) {
    let collected = exporter.collect(None, Selection::default()).await;
    let collection = &collected.collection;
    report.fact("libvirt URI", config.libvirt.uri.redacted().as_str());
    versions(report, collection.versions.as_ref());
    if let Some(error) = &collection.error {
        return no_connection(report, config, exporter.target(), error);
    }
    report.fact("connection", "ok");
    let snapshot = exporter.discover(None).await.ok();
    domains::count(report, config, collection, snapshot.as_deref());
    domains::incomplete(report, collection);
    if let Some(snapshot) = &snapshot {
        domains::unreadable(report, collection, snapshot);
    }
    domains::groups(report, config, collection);
    notes(report, config, &exporter.shortcomings());
    if let (true, Some(snapshot)) = (config.service_discovery.enabled, &snapshot) {
        domains::discovery(report, config, snapshot);
    }
    timing::groups(report, config, &exporter, collection).await;
    let families = exporter.families(&collected);
    report.fact("collection", format!("{} ms", collection.duration.as_millis()));
    timing::series(report, &families);
}

fn versions(report: &mut Report, versions: Option<&Versions>) {
    if let Some(versions) = versions {
        report.fact("client library", &versions.library);
        report.fact("daemon", &versions.libvirt);
        report.fact("hypervisor", format!("{} {}", versions.driver, versions.hypervisor));
    }
}

fn no_connection(report: &mut Report, config: &Config, target: Option<&str>, error: &LibvirtError) {
    let remedy = error.remedy(config.libvirt.uri.redacted().as_str(), &uri_key(target));
    let is_bad_uri = error.class == ErrorClass::BadUri;
    let status = if is_bad_uri { Status::Misconfigured } else { Status::Failed };
    report.fault("connection", status, error.to_string(), remedy);
}

/// What the daemon turned out not to know, and what is done about it.
fn notes(report: &mut Report, config: &Config, of: &Shortcomings) {
    if config.libvirt.uri.is_session() && rustix::process::geteuid().is_root() {
        report.fact("note", "as root, /session is the host's daemon: run as the user whose session daemon is meant");
    }
    let known = [
        (of.no_bulk, "the driver has no bulk statistics: state, memory, vCPUs and CPU time of each domain instead"),
        (of.no_nowait, "the daemon is older than libvirt 4.5: a busy domain can delay a collection by 30 s"),
        (of.no_backing, "the daemon does not report backing chains"),
    ];
    known.into_iter().filter(|(is, _)| *is).for_each(|(_, text)| report.fact("note", text));
    if !of.unknown_events.is_empty() {
        report.fact("events not supported", of.unknown_events.join(", "));
    }
}
