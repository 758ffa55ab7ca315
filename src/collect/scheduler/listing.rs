//! The set of domains is kept current: by listings now and then, by what records show; by events at once, see `events`.

use std::collections::HashSet;

use uuid::Uuid;

use super::Scheduler;
use crate::collect::batch::{Batch, Kind};
use crate::collect::control::ControlTask;
use crate::collect::domain_state::Readable;
use crate::collect::notice::Notice;
use crate::collect::resync::ResyncCause;
use crate::collect::run::RunId;
use crate::collect::summary::{Summary, contradicts};
use crate::domains::{Domain, ImageKeys, Listing};
use crate::libvirt::{LibvirtError, Records};
use crate::probes::Task;

/// Most domains that are named in the log because they may not be read.
const NAMED: usize = 10;

impl Scheduler {
    /// Has the domains listed.
    pub(super) fn list(&mut self) {
        if self.resync.begin(self.now.at) {
            self.control.push(ControlTask::List, Task::List);
            self.run_control();
        }
    }

    /// Has the domains listed if that is due, and the daemon has not been found silent.
    pub(super) fn list_if_due(&mut self) {
        if self.connection.is_up() {
            self.list();
        }
    }

    /// The domains have been listed: the list is right except for what has happened since.
    pub(super) fn listed(&mut self, listing: Listing) {
        let interval = self.jitter(self.config.collection.resync_interval);
        let since = self.resync.succeeded(self.now.at, interval);
        if let (Some(versions), Some(host)) = (&mut self.daemon.versions, listing.host) {
            versions.host = Some(host);
        }
        let changed = self.domains.replace(listing, &since, self.now.wall);
        changed.iter().for_each(|uuid| self.drop_outdated(*uuid));
        self.want_all(&changed, false);
    }

    /// The daemon refused to list the domains: without them nothing can be asked.
    pub(super) fn not_listed(&mut self, error: &LibvirtError) {
        self.resync.failed(self.now.at);
        self.stats.count_failure(error.class);
        self.log_failure("the domains cannot be listed", error);
        let waiting = self.runs.values().filter(|run| !run.is_planned());
        for id in waiting.map(|run| run.id).collect::<Vec<RunId>>() {
            self.end_run(id, Some(error.clone()));
        }
    }

    /// Records are the truth about the moment that they were made in. Where they do not agree with the registry, an event is
    /// on its way or was lost: a listing will tell. Only domains whose name is `wanted` have been asked for. Gives those without
    /// a record that should have one.
    pub(super) fn compare(&mut self, batch: &Batch, records: &Records, wanted: impl Fn(&str) -> bool) -> Vec<Uuid> {
        let disagrees = |uuid: Uuid, name: &str, id: Option<u32>| {
            self.domains.get(uuid).is_none_or(|known| known.identity.id != id || known.identity.name != name)
        };
        let disagree = records.domains().any(|record| disagrees(record.uuid, record.name, record.id));
        let answered: HashSet<Uuid> = records.domains().map(|record| record.uuid).collect();
        let silent = |uuid: &Uuid| !answered.contains(uuid);
        let silent: Vec<Uuid> = match batch.kind {
            Kind::Full | Kind::Wait | Kind::BehindStuckCall | Kind::WithoutMonitor => {
                let runs = |uuid: &Uuid| self.domains.get(*uuid).is_some_and(Domain::is_active);
                batch.domains.iter().copied().filter(runs).filter(silent).collect()
            }
            // All that are shut off have been asked for: one that is missing was started, or is gone.
            Kind::Inactive | Kind::Info { inactive: true } => {
                let expected =
                    |domain: &&Domain| !domain.is_active() && domain.selected && wanted(&domain.identity.name);
                self.domains.iter().filter(expected).map(|domain| domain.identity.uuid).filter(silent).collect()
            }
            Kind::Info { inactive: false } => Vec::new(),
        };
        let silent: Vec<Uuid> = silent.into_iter().filter(|uuid| !self.must_not_be_read(*uuid)).collect();
        if disagree || !silent.is_empty() {
            self.resync.want(ResyncCause::Records, self.now.at);
        }
        silent
    }

    /// Whether a domain is missing from an answer because this user must not read it. That is logged once.
    fn must_not_be_read(&mut self, uuid: Uuid) -> bool {
        let Some(state) = self.domains.companion_mut(uuid).filter(|state| state.readable != Readable::Yes) else {
            return false;
        };
        let is_news = std::mem::replace(&mut state.readable, Readable::Nothing) != Readable::Nothing;
        if is_news && self.unreadable().count() <= NAMED {
            let domain = self.name_of(uuid);
            self.log(Notice::Unreadable { uuid, domain });
        }
        true
    }

    /// Domains that this user must not read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = &Domain> {
        let unreadable = self.domains.with_companions().filter(|(_, state)| state.readable == Readable::Nothing);
        unreadable.map(|(domain, _)| domain)
    }

    /// Remembers what records look like. What no event told of shows in them: where they name other disks, images, NICs or
    /// sizes than before, or than the definition in hand, that is read again.
    pub(super) fn learn(&mut self, records: &Records, summaries: &[Summary]) {
        let (mut snapshots, images) = (false, ImageKeys::of(records));
        for (record, summary) in records.domains().zip(summaries) {
            let uuid = summary.uuid;
            let Some(state) = self.domains.companion_mut(uuid) else { continue };
            state.reply_size = Some(summary.size);
            // Until its definition has been read there is nothing to compare with.
            if self.domains.get(uuid).and_then(Domain::metadata).is_none() {
                continue;
            }
            let Some(state) = self.domains.companion_mut(uuid) else { continue };
            let news = state.incarnation.devices.update(summary.devices);
            let metadata = self.domains.get(uuid).and_then(Domain::metadata);
            let contradicted = || metadata.is_some_and(|metadata| contradicts(&record, &images, metadata));
            if news.changed || (news.first && contradicted()) {
                self.want_definition(uuid, self.now.at);
            }
            snapshots |= news.other_disks;
        }
        if snapshots {
            // A disk with another image is what a snapshot leaves behind, which has no event.
            self.resync.want(ResyncCause::Records, self.now.at);
        }
    }
}
