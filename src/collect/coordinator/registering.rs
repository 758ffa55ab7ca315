//! The registry is kept current: by events at once, by listings now and then.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::{Coordinator, Errand};
use crate::collect::flight::{Batch, FlightId, Kind};
use crate::collect::link::Link;
use crate::collect::reading::Subject;
use crate::collect::relist::Cause;
use crate::collect::shape::{Shape, contradicts};
use crate::collect::worker::Task;
use crate::domains::{Arrived, Consequences, Listing, Snapshot, Target};
use crate::libvirt::{Event, LibvirtError, Records};

impl Coordinator {
    /// Applies what has arrived.
    pub(super) fn take_events(&mut self, now: Instant) {
        let Arrived { events, dropped } = self.inbox.take();
        if !events.is_empty() {
            self.daemon_lives(now);
        }
        for event in events {
            self.relisting.note(&event);
            let before = self.id_of(event.domain.uuid);
            let consequences = self.registry.apply(&event);
            self.follow(&event, before, consequences, now);
        }
        if dropped > 0 {
            tracing::warn!(dropped, "events were lost, the domains are listed anew");
            self.events_dropped += dropped;
            self.relisting.want(Cause::Overflow, now);
        }
    }

    fn follow(&mut self, event: &Event, before: Option<Option<u32>>, what: Consequences, now: Instant) {
        let uuid = event.domain.uuid;
        if before != self.id_of(uuid) {
            // Another run has another hypervisor.
            self.quarantine.forget(uuid);
            self.waiting_calls.retain(|known| known != uuid);
            self.answers.forget(uuid);
            self.devices.remove(&uuid);
        }
        if what.redefined && self.registry.get(uuid).is_some() {
            self.reader.want(Subject::Definition, uuid, now);
        }
        if what.moved {
            self.located.remove(&uuid);
        }
        if what.relist {
            self.relisting.want(Cause::Events, now);
        }
    }

    fn id_of(&self, uuid: Uuid) -> Option<Option<u32>> {
        self.registry.get(uuid).map(|target| target.identity.id)
    }

    /// Has the domains listed when it is time.
    pub(super) fn relist(&mut self, now: Instant) {
        if matches!(self.keeper.link, Link::Up) && self.relisting.begin(now) {
            self.control_queue.push_back((Errand::List, Task::List));
            self.run_errand(now);
        }
    }

    pub(super) fn next_relist(&self) -> Option<Instant> {
        self.relisting.next_wake().filter(|_| matches!(self.keeper.link, Link::Up))
    }

    /// The domains have been listed: that is the truth, but for what has happened meanwhile.
    pub(super) fn listed(&mut self, listing: Listing, now: Instant) {
        let before: BTreeMap<Uuid, Option<u32>> =
            self.registry.iter().map(|target| (target.identity.uuid, target.identity.id)).collect();
        let interval = crate::collect::jitter(self.config.collection.resync_interval);
        let since = self.relisting.succeeded(now, interval);
        if let (Some(versions), Some(host)) = (&mut self.versions, listing.host) {
            versions.host = Some(host);
        }
        self.registry.replace(listing, &since, SystemTime::now());
        let after: BTreeMap<Uuid, Option<u32>> =
            self.registry.iter().map(|target| (target.identity.uuid, target.identity.id)).collect();
        self.quarantine.retain(|uuid| after.contains_key(&uuid) && before.get(&uuid) == after.get(&uuid));
        self.waiting_calls.retain(|uuid| after.contains_key(&uuid) && before.get(&uuid) == after.get(&uuid));
        self.answers.retain(|uuid| after.contains_key(&uuid) && before.get(&uuid) == after.get(&uuid));
        self.devices.retain(|uuid, _| after.contains_key(uuid));
        self.located.retain(|uuid, _| after.contains_key(uuid));
        self.planner.retain(|uuid| after.contains_key(&uuid));
        self.reader.retain(|uuid| after.contains_key(&uuid));
        for (uuid, id) in &after {
            if before.get(uuid) != Some(id) || !self.reader.expects_definition(*uuid) {
                // Whoever runs comes first.
                let later = if id.is_some() { Duration::ZERO } else { Duration::from_secs(1) };
                self.reader.want(Subject::Definition, *uuid, now + later);
            }
        }
    }

    /// The daemon refused to list the domains: without them nothing can be asked.
    pub(super) fn not_listed(&mut self, error: &LibvirtError, now: Instant) {
        self.relisting.failed(now);
        self.count_failure(error);
        self.log_failure("the domains cannot be listed", error);
        let waiting = self.flights.values().filter(|flight| !flight.planned);
        for id in waiting.map(|flight| flight.id).collect::<Vec<FlightId>>() {
            self.end_flight(id, now, Some(error.clone()));
        }
    }

    /// Records are the truth about the moment that they were made in. Where they do not agree with the registry, an event is
    /// on its way or was lost: a listing will tell. Only domains whose name is `wanted` have been asked for.
    pub(super) fn compare(&mut self, batch: &Batch, records: &Records, wanted: impl Fn(&str) -> bool, now: Instant) {
        let disagrees = |uuid: Uuid, name: &str, id: Option<u32>| {
            self.registry.get(uuid).is_none_or(|known| known.identity.id != id || known.identity.name != name)
        };
        let mut disagree = records.domains().any(|record| disagrees(record.uuid, record.name, record.id));
        let answered: HashSet<Uuid> = records.domains().map(|record| record.uuid).collect();
        let silent = |uuid: &Uuid| !answered.contains(uuid);
        let silent: Vec<Uuid> = match batch.kind {
            Kind::Full | Kind::Wait | Kind::BehindStuckCall | Kind::WithoutMonitor => {
                let runs = |uuid: &Uuid| self.registry.get(*uuid).is_some_and(Target::is_active);
                batch.domains.iter().copied().filter(runs).filter(silent).collect()
            }
            // All who are shut off have been asked for: whoever is missing was started, or is gone.
            Kind::Inactive | Kind::Info { inactive: true } => {
                let expected =
                    |target: &&Target| !target.is_active() && target.selected && wanted(&target.identity.name);
                self.registry.iter().filter(expected).map(|target| target.identity.uuid).filter(silent).collect()
            }
            Kind::Info { inactive: false } => Vec::new(),
        };
        for uuid in silent {
            disagree |= !self.must_not_be_read(uuid);
        }
        if disagree {
            self.relisting.want(Cause::Records, now);
        }
    }

    /// Whether a domain is missing from an answer because this user must not read it. That is logged once.
    fn must_not_be_read(&mut self, uuid: Uuid) -> bool {
        /// Most domains that are named.
        const NAMED: usize = 10;
        let Some(is_news) = self.reader.explain_silence(uuid) else { return false };
        if is_news && self.reader.unreadable().count() <= NAMED {
            let domain = self.name_of(uuid);
            tracing::warn!(%uuid, domain, "libvirt lists the domain but does not let this user read it: it has no samples");
        }
        true
    }

    /// Remembers what records look like. What no event told of shows in them: where they name other disks, images, NICs or
    /// sizes than before, or than the definition in hand, that is read again.
    pub(super) fn learn(&mut self, records: &Records, shapes: &[Shape], now: Instant) {
        let mut snapshots = false;
        for (record, shape) in records.domains().zip(shapes) {
            self.planner.seen(shape.uuid, shape.size);
            // Until its definition has been read there is nothing to compare with.
            let Some(metadata) = self.registry.get(shape.uuid).and_then(Target::metadata) else { continue };
            let news = self.devices.entry(shape.uuid).or_default().update(shape.devices);
            if news.changed || (news.first && contradicts(&record, metadata)) {
                self.reader.want(Subject::Definition, shape.uuid, now);
            }
            snapshots |= news.other_disks;
        }
        if snapshots {
            // A disk with another image is what a snapshot leaves behind, which has no event.
            self.relisting.want(Cause::Records, now);
        }
    }

    /// The domains as they are now; none while there is no connection.
    pub(super) fn targets(&mut self, connected: bool) -> Arc<Snapshot> {
        let mut snapshot = self.registry.snapshot();
        if !connected {
            snapshot.targets = Arc::default();
        }
        snapshot.resyncs.clone_from(self.relisting.counts());
        snapshot.events_dropped = self.events_dropped;
        snapshot.metadata_failures.clone_from(&self.definition_failures);
        let selected = |uuid: &Uuid| self.registry.get(*uuid).is_some_and(|target| target.selected);
        snapshot.unreadable = self.reader.unreadable().filter(selected).collect();
        snapshot.hostname.clone_from(&self.hostname);
        snapshot.versions.clone_from(&self.versions);
        Arc::new(snapshot)
    }

    /// Has every definition read anew.
    pub(super) fn read_all_definitions(&mut self, now: Instant) {
        let uuids: Vec<Uuid> = self.registry.iter().map(|target| target.identity.uuid).collect();
        uuids.into_iter().for_each(|uuid| self.reader.want(Subject::Definition, uuid, now));
    }
}
