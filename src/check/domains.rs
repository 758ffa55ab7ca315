//! The domains: which there are, which of them have all that was asked for, and what is missing of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::report::{Report, Status};
use crate::collect::{Collection, DomainStatus, MissingReason};
use crate::config::{Config, Group};
use crate::discovery::build_target_groups;
use crate::domains::{Definition, DefinitionFailure, Domain, Snapshot};
use crate::libvirt::Identity;

/// How many domains a line names.
const NAMED: usize = 10;

/// How many there are, and whether the configuration wants any.
pub(super) fn count(report: &mut Report, config: &Config, collection: &Collection, snapshot: Option<&Snapshot>) {
    let active = collection.domains.len();
    let all = || collection.batches.iter().flat_map(|records| records.domains());
    let inactive = all().filter(|domain| !domain.is_active()).count();
    let counted = format!("{active} running or paused, {inactive} shut off");
    let known = snapshot.map_or(0, |snapshot| snapshot.domains.len());
    let is_wanted = snapshot.is_some_and(|snapshot| snapshot.domains.iter().any(|domain| domain.selected));
    if known > 0 && !is_wanted {
        return report.fault(
            "domains",
            Status::Incomplete,
            format!("{counted}: domains.include and domains.exclude exclude all {known} domains"),
            "correct domains.include and domains.exclude; `domstats-exporter targets` lists the domains, with `selected`",
        );
    }
    report.fact("domains", counted);
    if known == 0 && snapshot.is_some() {
        let user = config.libvirt.uri.is_session();
        let other = if user { "qemu:///system has those of the host" } else { "qemu:///session has those of a user" };
        report.detail(format!("libvirt has no domain at this URI; {other}"));
    }
}

/// The domains that libvirt lists and does not let this user read, once every definition has been asked for.
pub(super) fn unreadable(report: &mut Report, collection: &Collection, snapshot: &Snapshot) {
    let records = collection.batches.iter().flat_map(|records| records.domains());
    let answered: BTreeSet<Uuid> = records.map(|record| record.uuid).collect();
    let is_unreadable = |domain: &&std::sync::Arc<Domain>| {
        let denied = domain.definition == Definition::Failed(DefinitionFailure::PermissionDenied);
        denied && domain.selected && !answered.contains(&domain.identity.uuid)
    };
    let names: Vec<&str> =
        snapshot.domains.iter().filter(is_unreadable).map(|domain| domain.identity.name.as_str()).collect();
    if !names.is_empty() {
        report.fault(
            "domains not readable",
            Status::Incomplete,
            format!("{}, without samples: {}", names.len(), listed(names)),
            "a polkit rule that allows this user org.libvirt.api.domain.read",
        );
    }
}

/// The domains that lack statistics, by cause.
pub(super) fn incomplete(report: &mut Report, collection: &Collection) {
    let mut causes: BTreeMap<(String, String), Vec<&DomainStatus>> = BTreeMap::new();
    for status in &collection.domains {
        if let Some(cause) = cause_and_remedy(status) {
            causes.entry(cause).or_default().push(status);
        }
    }
    for ((cause, remedy), domains) in causes {
        let missing = domains.iter().filter_map(|domain| domain.missing.as_ref());
        let groups: BTreeSet<&str> = missing.flat_map(|missing| &missing.groups).map(|group| group.as_str()).collect();
        let names: Vec<&str> = domains.iter().map(|domain| domain.identity.name.as_str()).collect();
        // The first of those that are listed.
        let first = domains.iter().map(|domain| &domain.identity).min_by_key(|identity| &identity.name);
        let (count, remedy) = (names.len(), remedy.replace("NAME", &first.map(word).unwrap_or_default()));
        report.fault("domains incomplete", Status::Incomplete, format!("{count}: {}: {cause}", listed(names)), remedy);
        if !groups.is_empty() {
            report.detail(format!("missing: {}", groups.into_iter().collect::<Vec<_>>().join(", ")));
        }
    }
}

/// `NAME` stands for a domain.
fn cause_and_remedy(status: &DomainStatus) -> Option<(String, String)> {
    let frozen = "see whether `virsh domcontrol NAME` says ok, and what its log in /var/log/libvirt/qemu and the storage of its \
                  disks say; a QEMU that stays frozen ends with `virsh destroy NAME`";
    let (cause, remedy) = match (&status.quarantined, status.missing.as_ref()?.reason) {
        (Some(quarantined), _) => (quarantined.cause.as_str(), frozen),
        (None, MissingReason::Quarantined | MissingReason::Deadline) => (
            "no answer before the deadline",
            "raise collection.deadline if libvirt is slow here: `time virsh domstats NAME`",
        ),
        (None, MissingReason::Busy) => (
            "another client, or a job of libvirt, holds the domain",
            "see whether `virsh domjobinfo NAME` shows a migration, backup or dump: its statistics return when that ends",
        ),
        (None, MissingReason::Refused) => (
            "libvirt answered with an error, or without these groups",
            "see what `virsh domstats NAME` and the daemon's log (journalctl -u libvirtd -u virtqemud) say",
        ),
        (None, MissingReason::StuckCalls) => {
            ("too many calls wait for domains that do not respond", "repair the domains that do not respond first")
        }
    };
    Some((cause.to_owned(), remedy.to_owned()))
}

fn listed(mut names: Vec<&str>) -> String {
    let count = names.len();
    names.sort_unstable();
    names.truncate(NAMED);
    let more = if count > names.len() { ", ..." } else { "" };
    // The names are those of guests' owners: no control character reaches the terminal.
    format!("{}{more}", names.join(", ")).escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// The domain in a command: its name is its owner's, who is not to say what the command does.
fn word(Identity { name, uuid, .. }: &Identity) -> String {
    let is_plain = name.chars().all(|character| character.is_alphanumeric() || "-._".contains(character));
    if is_plain && !name.starts_with('-') { name.clone() } else { uuid.to_string() }
}

/// Which of the wanted groups the running domains report. Without a running domain nothing can be said.
pub(super) fn groups(report: &mut Report, config: &Config, collection: &Collection) {
    let mut verdicts: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    let active: Vec<_> =
        collection.batches.iter().flat_map(|records| records.domains()).filter(|domain| domain.is_active()).collect();
    for group in config.collection.groups.iter() {
        let reported =
            active.iter().any(|domain| domain.params().any(|param| Group::of_key(param.key) == Some(*group)));
        // Limits come from the definitions.
        let is_defined = |domain: &Arc<Domain>| domain.metadata().is_some();
        let is_read = collection.readings.iter().any(|reading| reading.group == *group)
            || (*group == Group::Limits && collection.snapshot.domains.iter().any(is_defined));
        let in_background = group.stats().is_empty();
        let verdict = match (active.is_empty(), reported || is_read) {
            (_, true) => "groups reported",
            (_, false) if in_background => "groups of probes",
            (true, false) => "groups not checked",
            (false, false) => "groups not reported",
        };
        verdicts.entry(verdict).or_default().push(group.as_str());
    }
    for (verdict, groups) in verdicts {
        report.fact(verdict, groups.join(", "));
        match verdict {
            "groups not checked" => report.detail("no domain is running"),
            "groups of probes" => report.detail("read in the background, and not read yet"),
            _ => {}
        }
    }
}

/// How many guests `/sd` would list.
pub(super) fn discovery(report: &mut Report, config: &Config, snapshot: &Snapshot) {
    const PART: &str = "service discovery";
    let wanted = || snapshot.domains.iter().filter(|domain| domain.selected && domain.is_active());
    let located = wanted().filter(|domain| matches!(domain.addresses, Some(Some(_)))).count();
    let domains = format!("{located} of {} domains that run or are paused have addresses", wanted().count());
    match build_target_groups(snapshot, config) {
        Ok(_) if located == 0 && wanted().count() > 0 => report.fault(
            PART,
            Status::Incomplete,
            format!("{domains}, so that /sd lists none of them"),
            "install the guest agent, or add sources to service_discovery.sources (lease, arp, agent)",
        ),
        Ok(groups) => report.fact(PART, format!("{domains}, {} targets", groups.len())),
        Err(incomplete) => report.fault(
            PART,
            Status::Incomplete,
            format!("{domains}, {incomplete}"),
            "wait until all domains have been read; raise metadata.rate if this takes too long",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::collect::Missing;

    #[test]
    fn a_remedy_names_the_first_domain_that_is_listed() {
        let mut collection = Collection::empty(SystemTime::now(), Instant::now());
        let busy = |(number, name): (u128, &str)| DomainStatus {
            identity: Identity { name: name.to_owned(), uuid: Uuid::from_u128(number), id: None },
            missing: Some(Missing { groups: BTreeSet::new(), reason: MissingReason::Busy }),
            quarantined: None,
        };
        let remedy = |collection: &Collection| {
            let mut report = Report::default();
            incomplete(&mut report, collection);
            report.text()
        };
        collection.domains = [(1, "vm-b"), (2, "vm-a"), (3, "vm-c")].map(busy).to_vec();
        let text = remedy(&collection);
        assert!(text.contains("3: vm-a, vm-b, vm-c:") && text.contains("`virsh domjobinfo vm-a`"), "{text}");
        collection.domains.push(busy((4, "`reboot`")));
        let text = remedy(&collection);
        assert!(text.contains("`virsh domjobinfo 00000000-0000-0000-0000-000000000004`"), "{text}");
    }
}
