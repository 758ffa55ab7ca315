//! Calls of background probes: they begin, end, or are abandoned; and what follows from what they bring.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::connecting::NO_MORE_CONNECTIONS;
use super::{Daemon, Scheduler};
use crate::collect::Selection;
use crate::collect::background::{Allowed, Call, Ended};
use crate::collect::domain_state::{Domains, Readable};
use crate::collect::notice::Notice;
use crate::collect::pool::Role;
use crate::collect::reading::{ProbeStatus, Reading};
use crate::config::{Config, Group, InactiveDomains};
use crate::domains::{Definition, DefinitionFailure, Domain};
use crate::libvirt::{Access, ErrorClass, LibvirtError, Records};
use crate::probes::{Asked, DEFINITIONS, Outcome, Probe, SNAPSHOT, Scope, Subject, Task, WaitsFor};

/// When a domain is asked about again of which nothing could be had.
const RETRY: Duration = Duration::from_secs(60);
/// When another background worker is tried after one could not connect.
const CONNECT_AGAIN: Duration = Duration::from_secs(5);
/// A call that fails after this long has kept the others of its probe waiting for nothing.
const SLOW: Duration = Duration::from_secs(1);
/// How many times as old as the time between two calls a reading may become.
const READINGS: u32 = 3;

impl Scheduler {
    /// Begins the next call of a lane, if a worker for it is free; else one is started.
    pub(super) fn begin_background_call(&mut self, number: usize) {
        let Some(lane) = self.background.lanes.get(number) else { return };
        let probe = lane.probe;
        let access = self.access_of(probe);
        let Some(worker) = self.pool.idle_background(access) else {
            self.background_after = None;
            self.start(Role::Background(access));
            return;
        };
        let pace = (probe.pace)(&self.config);
        let is_off = !probe.is_wanted(&self.config) || self.daemon.refuses(probe);
        let Some(lane) = self.background.lanes.get_mut(number) else { return };
        let allowed =
            |subject, domains: &Domains| if is_off { Allowed::Never } else { allowed(probe, subject, domains) };
        let Some(subject) = lane.take(self.now.at, &mut self.domains, allowed) else { return };
        let task = self.background_task(probe, subject);
        let job = self.send(worker, task);
        if let Some(lane) = self.background.lanes.get_mut(number) {
            lane.began(Call { job, worker, subject, since: self.now.at }, pace);
        }
    }

    fn background_task(&self, probe: &'static Probe, subject: Subject) -> Task {
        let domain = subject.domain().and_then(|uuid| self.domains.get(uuid));
        let is_open = domain.is_none_or(|domain| !self.is_closed(domain.identity.uuid));
        let agent = is_open && !self.daemon.read_write_refused;
        (probe.task)(&Asked { probe, subject, domain, config: &self.config, agent })
    }

    /// The connection that a probe gets: a read-write one where it needs that and the daemon allows it.
    pub(super) fn access_of(&self, probe: &Probe) -> Access {
        if self.daemon.read_write_refused { Access::ReadOnly } else { (probe.access)(&self.config) }
    }

    /// The daemon has refused a read-write connection, or a call that needs one. Whether that is news.
    fn refuse_agents(&mut self, error: &LibvirtError) -> bool {
        let is_news = !std::mem::replace(&mut self.daemon.read_write_refused, true);
        if is_news {
            self.log_failure("no read-write connection, so guest agents are not asked", error);
        }
        is_news
    }

    /// A background worker could not connect.
    pub(super) fn no_background_worker(&mut self, access: Access, error: &LibvirtError) {
        let is_refused = access == Access::ReadWrite && error.class == ErrorClass::PermissionDenied;
        if !is_refused || !self.refuse_agents(error) {
            self.background_after = Some(self.now.at + CONNECT_AGAIN);
            self.log_failure(NO_MORE_CONNECTIONS, error);
        }
    }

    /// The call of a lane hangs. Its thread is left to it, and ends when it returns.
    pub(super) fn leave_background_call(&mut self, number: usize) {
        let Some(lane) = self.background.lanes.get_mut(number) else { return };
        let probe = lane.probe;
        let Some(hung) = lane.take_hung() else { return };
        self.rest(probe, hung.subject);
        self.dismiss(hung.worker);
        self.note_status(probe.name, hung.since, false);
        self.background_failed(probe, hung.subject, ErrorClass::TimedOut);
    }

    /// A background call has ended.
    pub(super) fn background_ended(
        &mut self,
        probe: &'static Probe,
        ended: Ended,
        outcome: Result<Outcome, LibvirtError>,
    ) {
        let call = match ended {
            Ended::InTime(call) => call,
            // What it brings is old by now, but its subject answers.
            Ended::AfterAll(subject) if outcome.is_ok() => return self.wake(probe, subject),
            Ended::AfterAll(_) => return,
        };
        let subject = call.subject;
        self.note_status(probe.name, call.since, outcome.is_ok());
        let is_current = self.background.of(probe).is_some_and(|lane| lane.is_current(subject, &self.domains));
        match &outcome {
            Err(error) if error.class == ErrorClass::Disconnected => {}
            Err(_) if self.now.at >= call.since + SLOW => self.rest(probe, subject),
            _ => self.background.of(probe).into_iter().for_each(|lane| lane.answered(subject, &mut self.domains)),
        }
        match outcome {
            // It is gone, and an event or a listing says so.
            Err(error) if error.class == ErrorClass::VanishedDomain => {}
            // The connection broke: it is asked again over the next one.
            Err(error) if error.class == ErrorClass::Disconnected => self.want(probe, subject, self.now.at),
            // The read-only socket opens read-write connections too, and refuses each call that needs one. A permission that is
            // missing is about one domain.
            Err(error) if error.class == ErrorClass::ReadOnly && probe.group == Some(Group::Guest) => {
                self.refuse_agents(&error);
            }
            Err(error) => self.background_failed(probe, subject, error.class),
            Ok(Outcome::Records(_)) if !is_current => self.want(probe, subject, self.now.at),
            Ok(Outcome::Records(records)) => self.has_read(probe, subject, records),
            Ok(Outcome::Objects(objects)) => self.has_listed(probe, objects),
            Ok(outcome) => self.has_found(probe, subject, outcome),
        }
    }

    /// What comes of a call that brought neither records nor objects.
    fn has_found(&mut self, probe: &'static Probe, subject: Subject, outcome: Outcome) {
        let Some(uuid) = subject.domain() else { return self.want_again(probe, subject) };
        match outcome {
            Outcome::Defined(Ok(metadata)) => {
                self.domains.define(uuid, Definition::Known(metadata));
                self.defined(uuid);
                // A snapshot has no event, but leaves other disks.
                self.want(&SNAPSHOT, Subject::Domain(uuid), self.now.at);
            }
            Outcome::Unchanged => {
                self.domains.confirm(uuid);
                self.defined(uuid);
            }
            Outcome::Defined(Err(error)) => {
                let domain = self.name_of(uuid);
                self.log(Notice::NotParsed { uuid, domain, error: error.to_string() });
                self.not_defined(uuid, DefinitionFailure::from(&error));
            }
            Outcome::Located(addresses) => {
                let now = self.now.at;
                self.domains.companion_mut(uuid).into_iter().for_each(|state| state.located = Some(now));
                self.domains.locate(uuid, addresses.map(Arc::new));
                self.want_again(probe, subject);
            }
            Outcome::Undefined(reason) => self.not_defined(uuid, reason),
            Outcome::NotLocated => {
                self.not_located(uuid);
                self.want_again(probe, subject);
            }
            Outcome::Nothing => self.want_again(probe, subject),
            Outcome::Listed(_) | Outcome::Controlled(_) | Outcome::Records(_) | Outcome::Objects(_) => {}
        }
    }

    /// The objects of the host that a probe asks about, each by itself, have been listed.
    fn has_listed(&mut self, probe: &'static Probe, objects: Vec<Uuid>) {
        let objects: BTreeSet<Subject> = objects.into_iter().map(Subject::Object).collect();
        self.background.readings.retain(|(of, subject), _| *of != probe.name || objects.contains(subject));
        let new = self.background.of(probe).map(|lane| lane.list(&objects)).unwrap_or_default();
        new.into_iter().for_each(|object| self.want(probe, object, self.now.at));
        self.want_again(probe, Subject::Host);
    }

    fn defined(&mut self, uuid: Uuid) {
        self.drop_outdated(uuid);
        self.domains.companion_mut(uuid).into_iter().for_each(|state| state.readable = Readable::Yes);
        self.want_again(&DEFINITIONS, Subject::Domain(uuid));
        self.want_what_applies(uuid);
    }

    /// A definition may say that there is something to ask, such as an agent, whose turn has come and gone.
    fn want_what_applies(&mut self, uuid: Uuid) {
        if !self.is_watched() {
            return;
        }
        let (subject, all) = (Subject::Domain(uuid), self.domains.len());
        for lane in self.background.lanes.iter_mut().filter(|lane| lane.probe.group.is_some()) {
            let is_of_domains = matches!(lane.probe.scope, Scope::Domain | Scope::RunningDomain);
            let may_ask = is_of_domains
                && lane.probe.every(&self.config).is_some()
                && !self.daemon.refuses(lane.probe)
                && allowed(lane.probe, subject, &self.domains) != Allowed::Never;
            if may_ask && !lane.expects(subject, &self.domains) {
                let later = spread(lane.probe, &self.config, all).mul_f64(self.chance.f64());
                lane.want(subject, self.now.at + later, &mut self.domains);
            }
        }
    }

    fn has_read(&mut self, probe: &'static Probe, subject: Subject, records: Records) {
        match (probe.meanwhile)(&records) {
            Some(soon) if self.is_watched() => self.want(probe, subject, self.now.at + soon),
            _ => self.want_again(probe, subject),
        }
        let Some(group) = probe.group else { return };
        // While it is asked about more often than usual it is shown no longer.
        let (every, usual) = (probe.every(&self.config).unwrap_or_default(), self.usual_interval(probe, subject));
        let every = if (probe.meanwhile)(&records).is_some() { every } else { usual.unwrap_or(every) };
        let until = self.now.at + every.saturating_mul(READINGS);
        let reading = Reading { probe: probe.name, group, until, records: Arc::new(records) };
        match subject {
            Subject::Host | Subject::Object(_) => {
                self.background.readings.insert((probe.name, subject), reading);
            }
            Subject::Domain(uuid) => {
                let Some(state) = self.domains.companion_mut(uuid) else { return };
                // Nothing is what most domains have to tell of a job.
                if reading.records.is_empty() {
                    state.readings.remove(probe.name);
                } else {
                    state.readings.insert(probe.name, reading);
                }
            }
        }
    }

    /// Nothing could be had about a subject.
    fn background_failed(&mut self, probe: &'static Probe, subject: Subject, class: ErrorClass) {
        self.has_found(probe, subject, (probe.failed)(class));
    }

    /// What was known of a domain's addresses stays; one of which nothing was known has none for now.
    fn not_located(&mut self, uuid: Uuid) {
        let now = self.now.at;
        self.domains.companion_mut(uuid).into_iter().for_each(|state| state.located = Some(now));
        if self.domains.get(uuid).is_some_and(|domain| domain.addresses.is_none()) {
            self.domains.locate(uuid, None);
        }
    }

    /// A domain has just been found not to answer: its definition is not waited for.
    pub(super) fn leave_undefined(&mut self, uuid: Uuid) {
        if self.domains.get(uuid).is_some_and(|domain| domain.definition == Definition::Pending) {
            self.not_defined(uuid, DefinitionFailure::Quarantined);
        }
    }

    pub(super) fn not_defined(&mut self, uuid: Uuid, reason: DefinitionFailure) {
        *self.definition_failures.entry(reason).or_default() += 1;
        self.domains.define(uuid, Definition::Failed(reason));
        let at = self.now.at + self.jitter(RETRY);
        self.want_definition(uuid, at);
        let Some(state) = self.domains.companion_mut(uuid) else { return };
        if reason == DefinitionFailure::PermissionDenied && state.readable == Readable::Yes {
            state.readable = Readable::NoDefinition;
        }
    }

    /// Some changes have no event and show in no record, so each subject is asked about again now and then. Where there are
    /// very many, that takes half of the pace, so that what has changed is not kept waiting.
    fn want_again(&mut self, probe: &'static Probe, subject: Subject) {
        if !self.is_watched() {
            return;
        }
        let Some(usual) = self.usual_interval(probe, subject) else { return };
        let at = self.now.at + self.jitter(usual);
        self.want(probe, subject, at);
    }

    /// About how long it is from one call about a subject to the next; `None` where nothing leads to one.
    fn usual_interval(&mut self, probe: &Probe, subject: Subject) -> Option<Duration> {
        let every = probe.every(&self.config)?;
        let lane = self.background.of(probe)?;
        let subjects = if subject.domain().is_none() { lane.own() } else { self.domains.len() };
        Some(every.max(spread(probe, &self.config, subjects)))
    }

    fn rest(&mut self, probe: &Probe, subject: Subject) {
        let chance = self.chance.f64();
        if let Some(lane) = self.background.of(probe) {
            lane.rest(subject, self.now.at, chance, &mut self.domains);
        }
    }

    /// Has a subject asked about at once, even if it hung before.
    pub(super) fn wake(&mut self, probe: &Probe, subject: Subject) {
        if let Some(lane) = self.background.of(probe) {
            lane.wake(subject, self.now.at, &mut self.domains);
        }
    }

    /// After a listing: has everything asked about that is not expected yet. A domain that is `changed` has its definition
    /// read at once; those that run come first. What is only shown is spread, unless it is wanted `at_once`, and not asked about
    /// while nothing is scraped.
    pub(super) fn want_all(&mut self, changed: &[Uuid], at_once: bool) {
        let (now, changed) = (self.now.at, changed.iter().collect::<HashSet<_>>());
        let is_watched = self.is_watched();
        let subjects: Vec<(Uuid, bool)> =
            self.domains.iter().map(|domain| (domain.identity.uuid, domain.is_active())).collect();
        for lane in &mut self.background.lanes {
            if lane.probe.every(&self.config).is_none() {
                continue;
            }
            if matches!(lane.probe.scope, Scope::Host | Scope::Object) {
                if is_watched && !lane.expects(Subject::Host, &self.domains) {
                    lane.want(Subject::Host, now, &mut self.domains);
                }
                continue;
            }
            let spread = match lane.probe.group {
                Some(_) if !at_once => spread(lane.probe, &self.config, subjects.len()),
                _ => Duration::ZERO,
            };
            for (uuid, is_active) in &subjects {
                let is_meant = *is_active || lane.probe.scope == Scope::Domain;
                let is_expected = !is_watched || lane.expects(Subject::Domain(*uuid), &self.domains);
                if is_meant && (changed.contains(uuid) || !is_expected) {
                    let later = if *is_active { Duration::ZERO } else { Duration::from_secs(1) };
                    let later = later + spread.mul_f64(self.chance.f64());
                    lane.want(Subject::Domain(*uuid), now + later, &mut self.domains);
                }
            }
        }
    }

    /// Has every definition read again.
    pub(super) fn read_all_definitions(&mut self) {
        let uuids: Vec<Uuid> = self.domains.iter().map(|domain| domain.identity.uuid).collect();
        uuids.into_iter().for_each(|uuid| self.want_definition(uuid, self.now.at));
    }

    /// What background probes have found for `selection` about the host, its objects and the domains that are shown, unless
    /// it is too old.
    pub(super) fn readings(&self, selection: &Selection) -> Vec<Reading> {
        let mut readings = Vec::new();
        for probe in self.background.lanes.iter().map(|lane| lane.probe) {
            if probe.every(&self.config).is_none() || !probe.group.is_some_and(|group| selection.wants(group)) {
                continue;
            }
            let is_young = |reading: &&Reading| self.now.at <= reading.until;
            let of_host = self.background.readings.iter().filter(|((of, _), _)| *of == probe.name);
            let of_host = of_host.map(|(_, reading)| reading);
            let is_shown = |domain: &Domain| {
                let is_there = domain.is_active() || self.config.collection.inactive_domains != InactiveDomains::None;
                is_there && domain.selected && selection.selects(&domain.identity.name) && (probe.applies)(domain)
            };
            let of_domains = self.domains.with_companions().filter(|(domain, _)| is_shown(domain));
            let of_domains = of_domains.filter_map(|(_, state)| state.readings.get(probe.name));
            readings.extend(of_host.chain(of_domains).filter(is_young).cloned());
        }
        readings
    }

    /// Notes how a call of a probe went that makes up a round.
    pub(super) fn note_status(&mut self, probe: &'static str, since: Instant, success: bool) {
        let duration = self.now.at.saturating_duration_since(since);
        self.stats.probes.insert(probe, ProbeStatus { success, duration });
    }
}

/// The time that so many subjects of a probe are spread over. That takes half of its pace: what is read to be shown is not read
/// of all at once, as a domain of which an event tells would wait for that.
fn spread(probe: &Probe, config: &Config, subjects: usize) -> Duration {
    (probe.pace)(config).saturating_mul(u32::try_from(2 * subjects).unwrap_or(u32::MAX))
}

impl Daemon {
    /// Whether the probe can ask it nothing, as it refuses the read-write connection that guest agents are asked over.
    fn refuses(&self, probe: &Probe) -> bool {
        self.read_write_refused && probe.group == Some(Group::Guest)
    }
}

/// Of a domain whose hypervisor does not answer, nothing is asked that may wait for it.
fn allowed(probe: &Probe, subject: Subject, domains: &Domains) -> Allowed {
    let Subject::Domain(uuid) = subject else { return Allowed::Now };
    let (Some(domain), Some(state)) = (domains.get(uuid), domains.companion(uuid)) else { return Allowed::Never };
    let waits = matches!(probe.waits_for, WaitsFor::Job | WaitsFor::Hypervisor);
    match () {
        () if probe.scope == Scope::RunningDomain && !domain.is_active() => Allowed::Never,
        () if !(probe.applies)(domain) => Allowed::Never,
        () if waits && state.incarnation.quarantine.is_closed() => Allowed::Later,
        // Each call about it waits for its lock.
        () if state.is_locked() => Allowed::Later,
        () => Allowed::Now,
    }
}
