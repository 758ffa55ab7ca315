//! A run: one collection under way, with what has been asked, what has arrived, and the requests that wait for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::batch::{Batch, Kind, Running};
use super::busy::Busy;
use super::completeness::Lack;
use super::merge::merge;
use super::message::{Now, WaiterId};
use super::pool::JobId;
use super::reading::{Reading, Rounds};
use super::{Collection, DomainStatus, Missing, MissingReason, Quarantined, Selection};
use crate::config::Group;
use crate::domains::Snapshot;
use crate::libvirt::{Identity, LibvirtError, Records, StatsGroups, Versions};

/// The number of a run; never used twice.
pub(super) type RunId = u64;

/// A request that waits for the collection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) deadline: Instant,
}

/// How far a domain is.
#[derive(Debug)]
struct Progress {
    identity: Identity,
    state: State,
    /// Groups that libvirt was asked for.
    asked: StatsGroups,
    /// Groups that are not there, or not all of them.
    missing: StatsGroups,
    reason: MissingReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    Gone,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It waits until the domains are known.
    Waiting,
    /// The control worker asks which domains in quarantine answer again.
    Releasing,
    /// It is planned: its batches are queued or under way.
    Asking,
    /// They have ended, and the control worker asks again which domains in quarantine answer.
    Rechecking,
    /// That has been answered: the last batches are queued or under way.
    Ending,
}

/// One collection under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) selection: Selection,
    /// What the selection wants of what is configured.
    wanted: BTreeSet<Group>,
    /// What is asked for.
    pub(super) groups: StatsGroups,
    /// What of it is read from the host's files, if these are believed.
    pub(super) from_host: StatsGroups,
    /// Whether the pressure of its domains is read there.
    pub(super) pressure: bool,
    pub(super) started: Instant,
    pub(super) waiters: Vec<Waiter>,
    pub(super) phase: Phase,
    pub(super) queue: VecDeque<Batch>,
    pub(super) running: BTreeMap<JobId, Running>,
    /// Calls that were made.
    pub(super) calls: usize,
    /// How often domains were added that had started during the run.
    pub(super) extensions: u8,
    /// Domains that are asked again.
    pub(super) busy: Busy,
    /// How its probes do.
    pub(super) rounds: Rounds,
    /// Until when it waits for what is read in the background, where that was not done for long.
    pub(super) readings_until: Option<Instant>,
    /// When the last answer came to a call that did not ask again.
    last_first_answer: Instant,
    domains: BTreeMap<Uuid, Progress>,
    batches: Vec<Arc<Records>>,
    parameters: BTreeMap<Group, usize>,
}

impl Run {
    pub(super) fn new(id: RunId, selection: Selection, wanted: BTreeSet<Group>, now: Instant) -> Self {
        let groups = wanted.iter().map(|group| group.stats()).collect();
        Self {
            id,
            selection,
            wanted,
            groups,
            from_host: StatsGroups::NONE,
            pressure: false,
            started: now,
            waiters: Vec::new(),
            phase: Phase::Waiting,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            calls: 0,
            extensions: 0,
            busy: Busy::default(),
            rounds: Rounds::default(),
            readings_until: None,
            last_first_answer: now,
            domains: BTreeMap::new(),
            batches: Vec::new(),
            parameters: BTreeMap::new(),
        }
    }

    /// Forgets everything but the requests: the connection broke, and there will be another.
    pub(super) fn start_over(&mut self) {
        let waiters = std::mem::take(&mut self.waiters);
        let Self { from_host, pressure, started, readings_until, .. } = *self;
        let new = Self::new(self.id, self.selection.clone(), self.wanted.clone(), started);
        *self = Self { waiters, from_host, pressure, readings_until, ..new };
    }

    /// What of its groups, these at most, is taken from the host's files. KVM's statistics of vCPUs are libvirt's, and come with
    /// their group.
    pub(super) fn take_from_host(&mut self, groups: StatsGroups, pressure: bool) {
        let kvm = if self.wanted.contains(&Group::VcpuKvm) { StatsGroups::VCPU } else { StatsGroups::NONE };
        self.from_host = self.groups.and(groups).without(kvm);
        self.pressure = pressure && self.wanted.contains(&Group::Pressure);
    }

    /// What of `groups` needs no hypervisor.
    pub(super) fn without_monitor(&self, groups: StatsGroups) -> StatsGroups {
        groups.and(StatsGroups::WITHOUT_MONITOR | self.from_host)
    }

    /// Whether it asks for this running domain.
    pub(super) fn knows(&self, uuid: Uuid) -> bool {
        self.domains.contains_key(&uuid)
    }

    /// Running domains that it asks for.
    pub(super) fn add(&mut self, domains: Vec<Identity>) {
        let (state, asked, missing) = (State::Waiting, StatsGroups::default(), self.groups);
        let waiting = |identity| Progress { identity, state, asked, missing, reason: MissingReason::Deadline };
        self.domains.extend(domains.into_iter().map(|identity| (identity.uuid, waiting(identity))));
    }

    /// Takes the answer of a batch. `lacks` says what each record lacks of the groups of the batch, by its position. Gives
    /// the domains that are complete now.
    pub(super) fn answer(
        &mut self,
        batch: &Batch,
        records: Records,
        lacks: &[Lack],
        now: Instant,
        mut chance: impl FnMut() -> f64,
    ) -> Vec<Uuid> {
        let mut complete = Vec::new();
        let mut gone: BTreeSet<Uuid> = batch.domains.iter().copied().collect();
        for (record, lack) in records.domains().zip(lacks) {
            // Of one that has stopped since, what its record says is still true.
            if !record.is_active() || !gone.remove(&record.uuid) {
                continue;
            }
            let Some(progress) = self.domains.get_mut(&record.uuid) else { continue };
            if !batch.again {
                progress.identity.id = record.id;
            } else if progress.identity.id != record.id {
                // It was started again meanwhile: what its earlier incarnation did not say stays missing.
                self.busy.remove(record.uuid);
                continue;
            }
            let not_asked = progress.missing.without(batch.groups);
            progress.state = State::Answered;
            progress.asked |= batch.groups;
            progress.missing = not_asked | lack.missing;
            progress.reason = if lack.had_job { MissingReason::Refused } else { batch.reason };
            match batch.kind {
                _ if progress.missing.is_empty() => {
                    self.busy.remove(record.uuid);
                    complete.push(record.uuid);
                }
                Kind::Full | Kind::Wait if !(not_asked | lack.again).is_empty() => {
                    self.busy.note(record.uuid, not_asked | lack.again, now, chance());
                }
                _ => self.busy.remove(record.uuid),
            }
        }
        // libvirt leaves out domains that have vanished since they were listed.
        for uuid in gone {
            self.busy.remove(uuid);
            if let Some(progress) = self.domains.get_mut(&uuid) {
                progress.state = State::Gone;
            }
        }
        let records = if batch.again {
            let (records, replaced) = merge(&records, batch.groups, self.batches.iter().map(AsRef::as_ref));
            // The newer record counts them.
            for (group, number) in replaced {
                self.parameters.entry(group).and_modify(|count| *count = count.saturating_sub(number));
            }
            records
        } else {
            self.last_first_answer = now;
            records
        };
        // Of a domain that is in two records the first counts: the one with more.
        let position = if batch.again || batch.kind == Kind::Full { 0 } else { self.batches.len() };
        self.batches.insert(position, Arc::new(records));
        complete
    }

    /// The daemon was silent until now, not what it was asked about.
    pub(super) fn daemon_resumed(&mut self, now: Instant) {
        self.last_first_answer = now;
        self.running.values_mut().for_each(|running| (running.since, running.checks) = (now, 0));
    }

    /// Adds to the number of parameters that have arrived.
    pub(super) fn count(&mut self, parameters: BTreeMap<Group, usize>) {
        parameters.into_iter().for_each(|(group, count)| *self.parameters.entry(group).or_default() += count);
    }

    /// The running domains that it is about.
    pub(super) fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.domains.keys().copied()
    }

    /// Nothing more will come of these domains.
    pub(super) fn give_up(&mut self, domains: &[Uuid], reason: MissingReason) {
        for uuid in domains {
            self.busy.remove(*uuid);
            if let Some(progress) = self.domains.get_mut(uuid) {
                progress.state = State::Answered;
                progress.reason = reason;
            }
        }
    }

    /// Takes these domains out of the batches that are queued. Gives those that were in one.
    pub(super) fn take_out(&mut self, is_it: impl Fn(&Uuid) -> bool) -> Vec<Uuid> {
        let mut taken = Vec::new();
        self.queue.retain_mut(|batch| {
            let before = taken.len();
            taken.extend(batch.domains.extract_if(.., |uuid| is_it(uuid)));
            taken.len() == before || !batch.domains.is_empty()
        });
        taken
    }

    /// Whether its first batches have been queued.
    pub(super) fn is_planned(&self) -> bool {
        self.phase >= Phase::Asking
    }

    /// Whether all has been answered or given up.
    pub(super) fn is_done(&self) -> bool {
        let may_end = matches!(self.phase, Phase::Asking | Phase::Ending);
        may_end && self.queue.is_empty() && self.running.is_empty() && self.busy.is_empty()
    }

    /// Whether every domain was answered for.
    pub(super) fn is_whole(&self) -> bool {
        self.is_done() && !self.domains.values().any(|progress| progress.state == State::Waiting)
    }

    /// What is judged of a record that was asked for `groups`. Of the group of vCPUs, only KVM's statistics need the
    /// monitor.
    pub(super) fn judged(&self, groups: StatsGroups) -> StatsGroups {
        let unwanted = if self.wanted.contains(&Group::VcpuKvm) { StatsGroups::default() } else { StatsGroups::VCPU };
        groups.and(StatsGroups::MONITOR).without(unwanted)
    }

    /// Until when busy domains are asked again: for a share of the time that the most impatient waiter gives, from the
    /// moment that the other domains have answered.
    pub(super) fn busy_until(&self) -> Option<Instant> {
        const SHARE: u32 = 2;
        let mut batches = self.queue.iter().chain(self.running.values().map(|running| &running.batch));
        if batches.any(|batch| !batch.again) {
            return None;
        }
        Some(self.last_first_answer + self.deadline()?.saturating_duration_since(self.started) / SHARE)
    }

    /// How long a call may take before it is looked into: a fifth of the time that the most impatient waiter gives, or eight
    /// times what such a call usually takes if that is less, but not so little that a host under load makes frozen guests of
    /// slow ones, however impatient the waiter is.
    pub(super) fn soft_deadline(&self, usual: Duration) -> Duration {
        const LEAST: Duration = Duration::from_secs(1);
        const LEAST_OF_IMPATIENT: Duration = Duration::from_millis(300);
        let given = self.deadline().map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(self.started));
        (usual * 8).max(LEAST).min((given / 5).max(LEAST_OF_IMPATIENT))
    }

    /// What is not there of a domain. KVM's statistics of vCPUs come with their group: once that was asked for, only they
    /// can be missing.
    fn missing_of(&self, progress: &Progress, quarantined: bool) -> Missing {
        let is_missing = |group: &Group| {
            let needs = group.stats();
            let partly = *group == Group::Vcpu && progress.asked.contains(needs);
            !needs.is_empty() && progress.missing.contains(needs) && !partly
        };
        let reason = if quarantined { MissingReason::Quarantined } else { progress.reason };
        Missing { groups: self.wanted.iter().copied().filter(is_missing).collect(), reason }
    }

    /// When the most impatient waiter leaves.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.deadline).min()
    }

    /// What has arrived so far.
    pub(super) fn collection(
        &self,
        now: Now,
        versions: Option<&Versions>,
        error: Option<LibvirtError>,
        snapshot: Arc<Snapshot>,
        readings: Vec<Reading>,
        quarantined: impl Fn(Uuid) -> Option<Quarantined>,
    ) -> Arc<Collection> {
        let status = |progress: &Progress| {
            let identity = progress.identity.clone();
            let quarantined = quarantined(identity.uuid);
            let missing = (!progress.missing.is_empty()).then(|| self.missing_of(progress, quarantined.is_some()));
            (progress.state != State::Gone).then_some(DomainStatus { identity, missing, quarantined })
        };
        Arc::new(Collection {
            batches: self.batches.clone(),
            parameters: self.parameters.clone(),
            domains: self.domains.values().filter_map(status).collect(),
            versions: versions.cloned(),
            at: now.wall,
            ended: now.at,
            duration: now.at.saturating_duration_since(self.started),
            calls: self.calls,
            snapshot,
            readings,
            error,
        })
    }
}
