//! `domstats-exporter check`: whether settings and connection are good, and what there would be to see.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::app::Exporter;
use crate::collect::{Collection, Selection, Shortcomings};
use crate::config::{Config, Group, HeaderName, NamePatterns, Naming, Otlp};
use crate::discovery::build_target_groups;
use crate::domains::{Definition, DefinitionFailure, Domain};
use crate::libvirt::ErrorClass;
use crate::metrics::Families;

/// How many domains are asked for each group alone: as many as one call has.
const TIMED: usize = 16;
/// How many families, and unreadable domains, the report names.
const LARGEST: usize = 10;

/// What is reported where libvirt could not be asked.
#[derive(Debug)]
pub struct Failure {
    /// The report, with what to do about it.
    pub report: String,
    /// Whether the configuration is to blame.
    pub is_configuration: bool,
}

/// Collects once and reports.
///
/// # Errors
/// Where libvirt could not be asked.
pub async fn run(config: &Config, exporter: Arc<Exporter>) -> Result<String, Failure> {
    let collected = exporter.collect(None, Selection::default()).await;
    let collection = &collected.collection;
    let mut report = String::new();
    let is_bad_uri = collection.error.as_ref().is_some_and(|error| error.class == ErrorClass::BadUri);
    line(&mut report, "configuration", if is_bad_uri { "libvirt.uri is none that can be opened" } else { "ok" });
    line(&mut report, "libvirt URI", config.libvirt.uri.as_str());
    push_settings(&mut report, &config.otlp);
    if let Some(versions) = &collection.versions {
        line(&mut report, "client library", &versions.library);
        line(&mut report, "daemon", &versions.libvirt);
        line(&mut report, "hypervisor", &format!("{} {}", versions.driver, versions.hypervisor));
    }
    if let Some(error) = &collection.error {
        line(&mut report, "connection", &error.to_string());
        line(&mut report, "remedy", &error.remedy(config.libvirt.uri.redacted().as_str()));
        return Err(Failure { report, is_configuration: is_bad_uri });
    }
    line(&mut report, "connection", "ok");
    let active = collection.domains.len();
    let all = || collection.batches.iter().flat_map(|records| records.domains());
    let inactive = all().filter(|domain| !domain.is_active()).count();
    line(&mut report, "domains", &format!("{active} running or paused, {inactive} shut off"));
    unreadable(&mut report, &exporter, collection).await;
    for (verdict, groups) in groups_by_verdict(config, collection) {
        line(&mut report, verdict, &groups.join(", "));
    }
    let shortcomings = exporter.shortcomings();
    if config.libvirt.uri.is_session() && rustix::process::geteuid().is_root() {
        line(
            &mut report,
            "note",
            "as root, /session is the host's daemon: run as the user whose session daemon is meant",
        );
    }
    for shortcoming in noted(&shortcomings) {
        line(&mut report, "note", shortcoming);
    }
    if !shortcomings.unknown_events.is_empty() {
        line(&mut report, "events not known here", &shortcomings.unknown_events.join(", "));
    }
    if config.service_discovery.enabled {
        line(&mut report, "service discovery", &guests(config, &exporter).await);
    }
    let (asked, times) = time_by_group(config, &exporter, collection).await;
    if asked > 0 {
        line(&mut report, "time by group", &format!("ms per domain, each group asked for alone, of {asked} domains"));
    }
    for (group, millis) in times {
        line(&mut report, "", &format!("{millis:>8.2}  {group}"));
    }
    let families = exporter.families(&collected);
    line(&mut report, "collection", &format!("{} ms", collection.duration.as_millis()));
    line(&mut report, "series", &families.series().to_string());
    for (name, series) in largest(&families) {
        line(&mut report, "", &format!("{series:>8}  {name}"));
    }
    Ok(report)
}

/// The domains that libvirt lists and does not let this user read, once every definition has been asked for.
async fn unreadable(report: &mut String, exporter: &Exporter, collection: &Collection) {
    let Ok(snapshot) = exporter.discover(None).await else { return };
    let records = collection.batches.iter().flat_map(|records| records.domains());
    let answered: BTreeSet<Uuid> = records.map(|record| record.uuid).collect();
    let is_unreadable = |domain: &&Arc<Domain>| {
        let denied = domain.definition == Definition::Failed(DefinitionFailure::PermissionDenied);
        denied && domain.selected && !answered.contains(&domain.identity.uuid)
    };
    let mut names: Vec<&str> =
        snapshot.domains.iter().filter(is_unreadable).map(|domain| domain.identity.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let count = names.len();
    names.sort_unstable();
    names.truncate(LARGEST);
    let more = if count > names.len() { ", ..." } else { "" };
    line(report, "domains not readable", &format!("{count}, without samples: {}{more}", names.join(", ")));
    line(report, "remedy", "a polkit rule that allows this user org.libvirt.api.domain.read");
}

/// Where metrics are pushed, and which settings of that come from the environment.
fn push_settings(report: &mut String, otlp: &Otlp) {
    let Some(url) = otlp.url() else {
        return line(report, "OTLP push", "off");
    };
    line(report, "OTLP push", &url);
    let span = |duration| humantime::format_duration(duration).to_string();
    let headers = otlp.headers.iter().flat_map(|headers| headers.keys());
    let file = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
    let settings = [
        ("endpoint", otlp.receiver().map(ToString::to_string), otlp.endpoint.is_some()),
        ("protocol", Some(otlp.protocol().to_string()), otlp.protocol.is_some()),
        ("insecure", otlp.insecure.map(|insecure| insecure.to_string()), otlp.insecure.is_some()),
        ("headers", Some(headers.map(HeaderName::as_str).collect::<Vec<_>>().join(", ")), otlp.headers.is_some()),
        ("interval", Some(span(otlp.interval())), otlp.interval.is_some()),
        ("timeout", Some(span(otlp.timeout())), otlp.timeout.is_some()),
        ("export_timeout", Some(span(otlp.export_timeout())), otlp.export_timeout.is_some()),
        ("compression", Some(otlp.compression().to_string()), otlp.compression.is_some()),
        ("temporality", Some(otlp.temporality().to_string()), otlp.temporality.is_some()),
        ("naming", Some(otlp.naming.to_string()), otlp.naming != Naming::default()),
        ("domain_resource", otlp.domain_resource.then(|| "true".to_owned()), true),
        ("tls.ca_file", file(&otlp.tls.ca_file), true),
        ("tls.cert_file", file(&otlp.tls.cert_file), true),
        ("tls.key_file", file(&otlp.tls.key_file), true),
    ];
    for (key, value, is_set) in settings {
        let origin = match (otlp.environment.get(key), is_set) {
            (Some(variable), _) => variable,
            (None, true) => "configuration",
            (None, false) => "default",
        };
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            line(report, "", &format!("{key}: {value} ({origin})"));
        }
    }
}

/// Which of the wanted groups the running domains report. Without a running domain nothing can be said.
fn groups_by_verdict(config: &Config, collection: &Collection) -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut verdicts: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    let active: Vec<_> =
        collection.batches.iter().flat_map(|records| records.domains()).filter(|domain| domain.is_active()).collect();
    for group in config.collection.groups.iter() {
        let reported =
            active.iter().any(|domain| domain.params().any(|param| Group::of_key(param.key) == Some(*group)));
        let verdict = match (active.is_empty(), reported) {
            (true, _) => "groups, not seen yet as no domain runs",
            (false, true) => "groups reported",
            (false, false) => "groups that no domain reports",
        };
        verdicts.entry(verdict).or_default().push(group.as_str());
    }
    verdicts
}

/// What the daemon turned out not to know, and what is done about it.
fn noted(of: &Shortcomings) -> impl Iterator<Item = &'static str> {
    let known = [
        (
            of.no_bulk,
            "the driver has no bulk statistics: state, memory, vCPUs and processor time of each domain instead",
        ),
        (of.no_nowait, "the daemon is older than libvirt 4.5: a busy domain can delay a collection by 30 s"),
        (of.no_backing, "the daemon does not report backing chains"),
    ];
    known.into_iter().filter_map(|(is, text)| is.then_some(text))
}

/// How many guests there would be to scrape.
async fn guests(config: &Config, exporter: &Exporter) -> String {
    let snapshot = match exporter.discover(None).await {
        Ok(snapshot) => snapshot,
        Err(error) => return error.to_string(),
    };
    let wanted = || snapshot.domains.iter().filter(|domain| domain.selected && domain.is_active());
    let located = wanted().filter(|domain| matches!(domain.addresses, Some(Some(_)))).count();
    let domains = format!("{located} of {} domains that run or are paused have addresses", wanted().count());
    match build_target_groups(&snapshot, config) {
        Ok(groups) => format!("{domains}, {} targets", groups.len()),
        Err(incomplete) => format!("{domains}, {incomplete}"),
    }
}

/// How many domains were asked, and the milliseconds that each group took for one of them, the slowest group first. A call has a
/// cost of its own, which the group that takes the least shows.
async fn time_by_group(config: &Config, exporter: &Exporter, collection: &Collection) -> (u32, Vec<(Group, f64)>) {
    let complete = collection.domains.iter().filter(|domain| domain.is_complete());
    let names: Vec<String> = complete.take(TIMED).map(|domain| regex_syntax::escape(&domain.identity.name)).collect();
    let (Ok(asked), Ok(domains)) = (u32::try_from(names.len()), NamePatterns::new(names)) else {
        return (0, Vec::new());
    };
    let mut times = Vec::new();
    // Groups that share a flag of libvirt's come together: their time is that of the first.
    let first = |group: &Group| {
        !group.stats().is_empty() && Group::ALL.iter().find(|other| other.stats() == group.stats()) == Some(group)
    };
    for group in config.collection.groups.iter().filter(|group| first(group) && asked > 0) {
        let selection = Selection { groups: Some(BTreeSet::from([*group])), domains: domains.clone() };
        let collection = exporter.collect(None, selection).await.collection;
        if collection.error.is_none() {
            times.push((*group, collection.duration.as_secs_f64() * 1e3 / f64::from(asked)));
        }
    }
    times.sort_by(|a, b| b.1.total_cmp(&a.1));
    (asked, times)
}

fn largest(families: &Families) -> Vec<(&str, usize)> {
    let mut sizes: Vec<(&str, usize)> =
        families.families.iter().map(|family| (&*family.meta.name, family.samples.len())).collect();
    sizes.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
    sizes.truncate(LARGEST);
    sizes
}

fn line(report: &mut String, what: &str, is: &str) {
    let separator = if what.is_empty() { ' ' } else { ':' };
    let written = writeln!(report, "{:<24} {is}", format!("{what}{separator}"));
    debug_assert!(written.is_ok());
}
