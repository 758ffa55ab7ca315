//! `domstats-exporter check`: whether settings and connection are good, and what there would be to see.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::catalogue::Families;
use crate::collect::{Collection, Selection, Shortcomings, group_of};
use crate::config::Config;
use crate::exporter::Exporter;
use crate::libvirt::{ErrorClass, LibvirtError};

/// How many families the report names.
const LARGEST: usize = 10;

/// Collects once and reports; `Err` is the report of a failure with what to do about it.
///
/// # Errors
/// The same report, where libvirt could not be asked.
pub async fn run(config: &Config, exporter: Arc<Exporter>) -> Result<String, String> {
    let collection = exporter.collect(None, &Selection::default()).await;
    let mut report = String::new();
    line(&mut report, "configuration", "ok");
    line(&mut report, "libvirt URI", config.libvirt.uri.as_str());
    if let Some(versions) = &collection.versions {
        line(&mut report, "client library", &versions.library);
        line(&mut report, "daemon", &versions.libvirt);
        line(&mut report, "hypervisor", &format!("{} {}", versions.driver, versions.hypervisor));
    }
    if let Some(error) = &collection.error {
        line(&mut report, "connection", &error.to_string());
        line(&mut report, "remedy", remedy(error));
        return Err(report);
    }
    line(&mut report, "connection", "ok");
    let active = collection.domains.len();
    let all = || collection.batches.iter().flat_map(|records| records.domains());
    let inactive = all().filter(|domain| !domain.is_active()).count();
    line(&mut report, "domains", &format!("{active} running or paused, {inactive} shut off"));
    for (verdict, groups) in groups_by_verdict(config, &collection) {
        line(&mut report, verdict, &groups.join(", "));
    }
    for shortcoming in shortcomings(exporter.shortcomings()) {
        line(&mut report, "note", shortcoming);
    }
    let families = exporter.families(&collection, &Selection::default());
    line(&mut report, "collection", &format!("{} ms", collection.duration.as_millis()));
    line(&mut report, "series", &families.series().to_string());
    for (name, series) in largest(&families) {
        line(&mut report, "", &format!("{series:>8}  {name}"));
    }
    Ok(report)
}

/// What an operator can do about a failure.
#[must_use]
pub fn remedy(error: &LibvirtError) -> &'static str {
    match error.class {
        ErrorClass::ConnectFailed => {
            "start the daemon (systemctl start libvirtd, or virtqemud), or set libvirt.uri to where it listens"
        }
        // The message itself names the user and the settings.
        ErrorClass::PermissionDenied => "grant what the line above names, or run the exporter as a user who has it",
        ErrorClass::Disconnected => "look into the daemon's log: it closed the connection",
        ErrorClass::TimedOut => {
            "see whether `virsh -r list` answers: if not, the daemon is frozen or at its client limit; if it does, a \
             guest does not answer or collection.deadline is too short"
        }
        ErrorClass::TooLarge => "collect fewer groups, or leave vcpu_kvm out of collection.groups",
        ErrorClass::NotSupported => "this driver does not know the call: see whether `virsh list` works with this URI",
        ErrorClass::VanishedDomain | ErrorClass::Other(_) => {
            "try again; if it stays, report it with `scrape --format params`"
        }
    }
}

/// Which of the wanted groups the running domains report. Without a running domain nothing can be said.
fn groups_by_verdict(config: &Config, collection: &Collection) -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut verdicts: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    let active: Vec<_> =
        collection.batches.iter().flat_map(|records| records.domains()).filter(|domain| domain.is_active()).collect();
    for group in config.collection.groups.iter() {
        let reported = active.iter().any(|domain| domain.params().any(|param| group_of(param.key) == Some(*group)));
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
fn shortcomings(of: Shortcomings) -> impl Iterator<Item = &'static str> {
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
