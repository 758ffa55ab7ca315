//! One collection under way: what has been asked, what has arrived, and who waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::complete::is_complete;
use super::pool::JobId;
use super::{Collection, DomainStatus, Selection};
use crate::config::Group;
use crate::libvirt::{Identity, LibvirtError, Records, StatsGroups, Versions};
use crate::targets::Snapshot;

/// The number of a flight; never used twice.
pub(super) type FlightId = u64;

/// Someone who waits for the collection.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Arc<Collection>>,
}

/// What a batch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everything, of running domains.
    Full,
    /// What needs no hypervisor, of running domains.
    WithoutMonitor,
    /// Domains that are shut off.
    Inactive,
    /// Basic facts of all running domains, or of those that are shut off.
    Info { inactive: bool },
}

/// Domains that are asked for in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) kind: Kind,
    pub(super) groups: StatsGroups,
    /// Empty where the call is about all domains.
    pub(super) domains: Vec<Uuid>,
    /// How often it has been asked in vain.
    pub(super) attempts: u8,
}

/// A batch that a worker is asking for.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) batch: Batch,
    pub(super) since: Instant,
    /// How often it has been looked into for taking so long.
    pub(super) checks: u32,
}

/// How far a domain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Answered { complete: bool },
    Gone,
}

/// One collection under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: FlightId,
    pub(super) selection: Selection,
    pub(super) groups: StatsGroups,
    pub(super) started: Instant,
    pub(super) waiters: Vec<Waiter>,
    /// Whether it is known who is asked.
    pub(super) planned: bool,
    /// Whether it is being asked which domains in quarantine answer again.
    pub(super) releasing: bool,
    pub(super) queue: VecDeque<Batch>,
    pub(super) running: BTreeMap<JobId, Running>,
    /// Calls that were made.
    pub(super) calls: usize,
    /// Whether it has been asked at the end which domains in quarantine answer again, and whether the answer is awaited.
    pub(super) rechecked: bool,
    pub(super) rechecking: bool,
    /// How often domains were added that had been started meanwhile.
    pub(super) extensions: u8,
    domains: BTreeMap<Uuid, (Identity, Progress)>,
    batches: Vec<Arc<Records>>,
    parameters: BTreeMap<Group, usize>,
}

impl Flight {
    pub(super) fn new(id: FlightId, selection: Selection, groups: StatsGroups, now: Instant) -> Self {
        Self {
            id,
            selection,
            groups,
            started: now,
            waiters: Vec::new(),
            planned: false,
            releasing: false,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            calls: 0,
            rechecked: false,
            rechecking: false,
            extensions: 0,
            domains: BTreeMap::new(),
            batches: Vec::new(),
            parameters: BTreeMap::new(),
        }
    }

    /// Forgets everything but who waits: the connection broke, and there will be another.
    pub(super) fn start_over(&mut self) {
        let waiters = std::mem::take(&mut self.waiters);
        *self = Self { waiters, ..Self::new(self.id, self.selection.clone(), self.groups, self.started) };
    }

    /// Whether it asks for this running domain.
    pub(super) fn knows(&self, uuid: Uuid) -> bool {
        self.domains.contains_key(&uuid)
    }

    /// Running domains that it asks for.
    pub(super) fn add(&mut self, domains: Vec<Identity>) {
        let waiting = |identity: Identity| (identity.uuid, (identity, Progress::Waiting));
        self.domains.extend(domains.into_iter().map(waiting));
    }

    /// Takes the answer of a batch, and gives the domains of it that are complete. Only QEMU's driver leaves things out of
    /// the record of a busy domain.
    pub(super) fn answer(&mut self, batch: &Batch, records: Records, is_qemu: bool) -> Vec<Uuid> {
        let mut complete = Vec::new();
        for uuid in &batch.domains {
            // libvirt leaves out domains that have vanished since they were listed.
            self.progress(*uuid, Progress::Gone);
        }
        for record in records.domains() {
            if !record.is_active() {
                // It has stopped since; what its record says is still true.
                continue;
            }
            let is_complete = batch.kind == Kind::Full && (!is_qemu || is_complete(&record, batch.groups));
            self.progress(record.uuid, Progress::Answered { complete: is_complete });
            if is_complete {
                complete.push(record.uuid);
            }
        }
        // Of a domain that is in two records the first counts: the one with everything.
        let position = if batch.kind == Kind::Full { 0 } else { self.batches.len() };
        self.batches.insert(position, Arc::new(records));
        complete
    }

    /// Adds to the number of parameters that have arrived.
    pub(super) fn count(&mut self, parameters: BTreeMap<Group, usize>) {
        parameters.into_iter().for_each(|(group, count)| *self.parameters.entry(group).or_default() += count);
    }

    /// The running domains that it is about.
    pub(super) fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.domains.keys().copied()
    }

    /// Nothing more will come of this batch.
    pub(super) fn give_up(&mut self, batch: &Batch) {
        for uuid in &batch.domains {
            self.progress(*uuid, Progress::Answered { complete: false });
        }
    }

    fn progress(&mut self, uuid: Uuid, progress: Progress) {
        if let Some(domain) = self.domains.get_mut(&uuid) {
            domain.1 = progress;
        }
    }

    /// Whether all has been answered or given up.
    pub(super) fn is_done(&self) -> bool {
        self.planned && self.queue.is_empty() && self.running.is_empty() && !self.rechecking
    }

    /// Whether every domain was answered for.
    pub(super) fn is_whole(&self) -> bool {
        self.is_done() && !self.domains.values().any(|domain| domain.1 == Progress::Waiting)
    }

    /// How long a call may take before it is looked into: a fifth of the time that the most impatient waiter gives, or eight
    /// times what such a call usually takes if that is less, but not so little that a host under load makes frozen guests of
    /// slow ones.
    pub(super) fn patience(&self, usual: Duration) -> Duration {
        const LEAST: Duration = Duration::from_secs(1);
        let given = self.deadline().map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(self.started));
        (usual * 8).max(LEAST).min(given / 5)
    }

    /// When the most impatient waiter leaves.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.deadline).min()
    }

    /// What has arrived so far.
    pub(super) fn snapshot(
        &self,
        now: Instant,
        versions: Option<&Versions>,
        error: Option<LibvirtError>,
        targets: Arc<Snapshot>,
        quarantined: impl Fn(Uuid) -> Option<super::Quarantined>,
    ) -> Arc<Collection> {
        let status = |(identity, progress): &(Identity, Progress)| {
            let complete = match progress {
                Progress::Gone => return None,
                Progress::Waiting => false,
                Progress::Answered { complete } => *complete,
            };
            Some(DomainStatus { identity: identity.clone(), complete, quarantined: quarantined(identity.uuid) })
        };
        Arc::new(Collection {
            batches: self.batches.clone(),
            parameters: self.parameters.clone(),
            domains: self.domains.values().filter_map(status).collect(),
            versions: versions.cloned(),
            at: SystemTime::now(),
            ended: now,
            duration: now.saturating_duration_since(self.started),
            calls: self.calls,
            targets,
            error,
        })
    }
}
