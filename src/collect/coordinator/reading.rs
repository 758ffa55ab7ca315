//! Definitions and addresses are read beside the collections, and whoever asks who exists is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{Coordinator, Discovery};
use crate::collect::jitter;
use crate::collect::link::Link;
use crate::collect::reading::{Reading, Subject};
use crate::collect::worker::{Outcome, Role, Task, WorkerId};
use crate::config::DiscoverySource;
use crate::domains::{Definition, DefinitionFailure, Target};
use crate::libvirt::{Access, AddressSource, ErrorClass, LibvirtError};

/// When a definition that could not be read is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// How long it is believed that a domain has no address: a guest that boots has none at first.
const ADDRESSLESS: Duration = Duration::from_secs(5);

impl Coordinator {
    /// Begins the next reading, if one is due and the worker for it is free.
    pub(super) fn read(&mut self, now: Instant) {
        if !matches!(self.keeper.link, Link::Up) || !self.relisting.is_listed() {
            return;
        }
        if let Some(hung) = self.reader.take_hung(now, self.config.metadata.timeout) {
            self.give_up_reading(hung, now);
        }
        if self.next_reading().is_none_or(|at| at > now) {
            return;
        }
        let Some(worker) = self.reading_worker(now) else { return };
        // Of a domain whose hypervisor does not answer, the daemon may have to wait for it to give the definition.
        let allowed = |subject, uuid| {
            self.registry.get(uuid).is_some() && (subject == Subject::Addresses || !self.quarantine.is_closed(uuid))
        };
        let Some((subject, uuid)) = self.reader.next(now, allowed) else { return };
        let task = match subject {
            Subject::Definition => {
                let known = self.registry.get(uuid).and_then(Target::metadata).map(|metadata| metadata.fingerprint);
                Task::Define { uuid, labels: Arc::new(self.config.metadata.labels.clone()), known }
            }
            Subject::Addresses => {
                let mut sources = self.address_sources();
                sources.retain(|source| *source != AddressSource::Agent || !self.quarantine.is_closed(uuid));
                Task::Locate { uuid, sources }
            }
        };
        match self.pool.give(worker, task) {
            Some(job) => self.reader.began(Reading { job, uuid, subject, since: now }),
            None => {
                // Its thread has ended, and the news is on its way.
                self.pool.let_go(worker);
                self.reading_worker = None;
                self.reader.want(subject, uuid, now);
            }
        }
    }

    /// The worker for readings, if it is free; it is started when it is needed first.
    fn reading_worker(&mut self, now: Instant) -> Option<WorkerId> {
        if self.reading_worker.is_none() && self.reading_after.is_none_or(|after| after <= now) {
            let agent = self.address_sources().contains(&AddressSource::Agent);
            let access = if agent { Access::ReadWrite } else { Access::ReadOnly };
            self.reading_worker = self.pool.start(Role::Reader(access), now);
        }
        self.reading_worker.filter(|worker| self.pool.is_idle(*worker))
    }

    /// The sources of addresses; the guest agent only where a read-write connection is allowed.
    fn address_sources(&self) -> Vec<AddressSource> {
        let source = |source: &DiscoverySource| match source {
            DiscoverySource::Lease => AddressSource::Lease,
            DiscoverySource::Arp => AddressSource::Arp,
            DiscoverySource::Agent => AddressSource::Agent,
        };
        let sources = self.config.service_discovery.sources.iter().map(source);
        sources.filter(|source| *source != AddressSource::Agent || !self.agent_refused).collect()
    }

    pub(super) fn next_reading(&self) -> Option<Instant> {
        if !matches!(self.keeper.link, Link::Up) || !self.relisting.is_listed() {
            return None;
        }
        let wake = self.reader.next_wake(self.config.metadata.timeout)?;
        // Without a worker there is nothing to be done before one may be tried.
        let after = self.reading_after.filter(|_| self.reading_worker.is_none());
        Some(after.map_or(wake, |after| after.max(wake)))
    }

    /// The worker for readings could not connect.
    pub(super) fn cannot_read(&mut self, error: &LibvirtError, now: Instant) {
        self.reading_worker = None;
        if error.class == ErrorClass::PermissionDenied && !self.agent_refused {
            self.agent_refused = true;
            self.log_failure("no read-write connection, so guest agents are not asked for addresses", error);
        } else {
            self.reading_after = Some(now + Duration::from_secs(5));
            self.log_failure("cannot open a connection to read definitions", error);
        }
    }

    /// A reading hangs. Its thread is left to it, and ends when it returns.
    fn give_up_reading(&mut self, hung: Reading, now: Instant) {
        if let Some(worker) = self.reading_worker.take() {
            self.pool.let_go(worker);
        }
        match hung.subject {
            Subject::Definition => self.not_defined(hung.uuid, DefinitionFailure::TimedOut, now),
            Subject::Addresses => self.not_located(hung.uuid, now),
        }
    }

    /// A reading has ended.
    pub(super) fn has_read(&mut self, reading: Reading, outcome: Result<Outcome, LibvirtError>, now: Instant) {
        let uuid = reading.uuid;
        match outcome {
            Ok(Outcome::Defined(Ok(metadata))) => {
                self.registry.define(uuid, Definition::Known(Arc::new(metadata)));
                self.read_again_later(uuid, now);
            }
            Ok(Outcome::Unchanged) => {
                self.registry.confirm(uuid);
                self.read_again_later(uuid, now);
            }
            Ok(Outcome::Defined(Err(error))) => {
                tracing::debug!(%uuid, domain = self.name_of(uuid), %error, "the definition cannot be read");
                self.not_defined(uuid, DefinitionFailure::from(&error), now);
            }
            Ok(Outcome::Located(addresses)) => {
                self.located.insert(uuid, now);
                self.registry.locate(uuid, addresses.map(Arc::new));
            }
            // It is gone, and an event or a listing says so.
            Err(error) if error.class == ErrorClass::VanishedDomain => {}
            // The connection broke: it is read again over the next one.
            Err(error) if error.class == ErrorClass::Disconnected => self.reader.want(reading.subject, uuid, now),
            Err(error) => match reading.subject {
                Subject::Definition => self.not_defined(uuid, error.class.into(), now),
                Subject::Addresses => self.not_located(uuid, now),
            },
            Ok(_) => {}
        }
    }

    /// What was known of a domain's addresses stays; one of which nothing was known has none for now.
    fn not_located(&mut self, uuid: Uuid, now: Instant) {
        self.located.insert(uuid, now);
        if self.registry.get(uuid).is_some_and(|target| target.addresses.is_none()) {
            self.registry.locate(uuid, None);
        }
    }

    /// A domain has just been found not to answer: its definition is not waited for.
    pub(super) fn leave_undefined(&mut self, uuid: Uuid, now: Instant) {
        if self.registry.get(uuid).is_some_and(|target| target.definition == Definition::Pending) {
            self.not_defined(uuid, DefinitionFailure::Quarantined, now);
        }
    }

    fn not_defined(&mut self, uuid: Uuid, reason: DefinitionFailure, now: Instant) {
        *self.definition_failures.entry(reason).or_default() += 1;
        self.registry.define(uuid, Definition::Failed(reason));
        self.reader.want(Subject::Definition, uuid, now + jitter(AGAIN));
        if reason == DefinitionFailure::PermissionDenied {
            self.reader.deny(uuid);
        }
    }

    /// Some changes have no event and show in no record, so each definition is read again now and then. Where there are very
    /// many, that takes half of the rate, so that what has changed is not kept waiting.
    fn read_again_later(&mut self, uuid: Uuid, now: Instant) {
        self.reader.allow(uuid);
        let after = self.config.metadata.refresh_interval.max(self.reader.time_for(2 * self.registry.len()));
        self.reader.want(Subject::Definition, uuid, now + jitter(after));
    }

    /// While nothing is read because readings hang, what has not been read is not waited for: that is no reason to know
    /// nothing of all the others. It is read when it can be.
    fn do_without(&mut self, now: Instant) {
        if self.discoveries.is_empty() || !self.reader.is_blocked() {
            return;
        }
        let all: Vec<Uuid> = self.registry.iter().map(|target| target.identity.uuid).collect();
        for uuid in all {
            let Some(target) = self.registry.get(uuid) else { continue };
            let undefined = target.definition == Definition::Pending;
            let nowhere = target.is_active() && target.addresses.is_none();
            if undefined {
                self.not_defined(uuid, DefinitionFailure::OthersHang, now);
            }
            if nowhere {
                self.registry.locate(uuid, None);
            }
        }
    }

    /// Answers whoever asks who exists, as soon as all of it is known.
    pub(super) fn answer_discoveries(&mut self, now: Instant) {
        self.do_without(now);
        for discovery in std::mem::take(&mut self.discoveries) {
            if let Some(error) = self.keeper.refusal(now) {
                let _gone = discovery.reply.send(Err(error));
                continue;
            }
            let known = self.is_known(&discovery, now);
            let late = discovery.deadline <= now;
            match known {
                None if late => {
                    let message = "libvirt did not answer in time";
                    let error = LibvirtError::own("cannot tell who exists", ErrorClass::TimedOut, message);
                    self.count_failure(&error);
                    let _gone = discovery.reply.send(Err(error));
                }
                Some(all) if all || late => {
                    let _gone = discovery.reply.send(Ok(self.targets(true)));
                }
                _ => self.discoveries.push(discovery),
            }
        }
    }

    /// Whether every domain has been looked at; `None` if it is not even known who exists. What has grown old is looked up
    /// again, but not waited for.
    fn is_known(&mut self, discovery: &Discovery, now: Instant) -> Option<bool> {
        if !matches!(self.keeper.link, Link::Up) || !self.relisting.is_listed() {
            return None;
        }
        let mut known = true;
        for target in self.registry.iter().filter(|target| target.selected) {
            let uuid = target.identity.uuid;
            if discovery.addresses && !target.is_active() {
                // Nobody reaches it, so nobody waits for its definition.
                continue;
            }
            known &= target.definition != Definition::Pending;
            if !discovery.addresses {
                continue;
            }
            known &= target.addresses.is_some();
            let good_for = match &target.addresses {
                Some(Some(_)) => self.config.service_discovery.refresh_interval,
                Some(None) | None => ADDRESSLESS,
            };
            if self.located.get(&uuid).is_none_or(|at| *at + good_for <= now) {
                self.reader.want(Subject::Addresses, uuid, now);
                // It is asked for, and not again while it waits.
                self.located.insert(uuid, now);
            }
        }
        self.read(now);
        Some(known)
    }
}
