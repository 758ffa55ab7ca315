//! Requests for collections, and their answers: at the end of a run, or at their deadline.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Scheduler;
use crate::collect::batch::{Kind, Running};
use crate::collect::message::{Action, WaiterId};
use crate::collect::run::{Run, RunId, Waiter};
use crate::collect::{Collection, Selection};
use crate::config::CpuSource;
use crate::domains::Snapshot;
use crate::hypervisor;
use crate::libvirt::{ErrorClass, LibvirtError, StatsGroups};

impl Scheduler {
    /// Answers at once where nothing can be had, or a young collection is good enough; else joins or begins a run.
    pub(super) fn request(&mut self, waiter: WaiterId, selection: Selection, deadline: Instant) {
        let (now, slept) = (self.now.at, self.watch());
        if self.connection.demand(now) {
            self.connect();
        }
        if let Some(error) = self.connection.refusal(now) {
            self.stats.count_failure(error.class);
            let refused = Run::new(0, selection, BTreeSet::new(), now);
            let collection = self.collection_of(&refused, Some(error));
            return self.act(Action::Answer(vec![waiter], collection));
        }
        if let Some((of, at, collection)) = &self.last
            && *of == selection
            && now.saturating_duration_since(*at) < self.config.collection.min_interval
        {
            let collection = Arc::clone(collection);
            return self.act(Action::Answer(vec![waiter], collection));
        }
        let waiter = Waiter { id: waiter, deadline };
        if let Some(run) = self.runs.values_mut().find(|run| run.selection == selection) {
            return run.waiters.push(waiter);
        }
        self.next_run += 1;
        let wanted = self.config.collection.groups.iter().filter(|group| selection.wants(**group)).copied().collect();
        let mut run = Run::new(self.next_run, selection, wanted, now);
        let local = self.has_host_files();
        let by_host = local && self.config.collection.cpu_source != CpuSource::Libvirt;
        run.take_from_host(if by_host { hypervisor::GROUPS } else { StatsGroups::NONE }, local);
        run.waiters.push(waiter);
        if slept {
            self.await_readings(&mut run);
        }
        self.runs.insert(run.id, run);
    }

    /// Whether the domains' QEMUs run on this host, and may be looked at there.
    fn has_host_files(&self) -> bool {
        let is_qemu = self.daemon.versions.as_ref().is_none_or(|versions| versions.driver == "QEMU");
        is_qemu && self.config.libvirt.uri.is_local()
    }

    /// Answers the requests of a run that cannot wait any longer, with what has arrived.
    pub(super) fn answer_deadline(&mut self, id: RunId) {
        let Some(mut run) = self.runs.remove(&id) else { return };
        let collection = self.collection_of(&run, self.error_of(&run));
        self.account(&collection);
        let (late, rest): (Vec<Waiter>, Vec<Waiter>) =
            std::mem::take(&mut run.waiters).into_iter().partition(|waiter| waiter.deadline <= self.now.at);
        self.act(Action::Answer(late.iter().map(|waiter| waiter.id).collect(), collection));
        run.waiters = rest;
        if run.waiters.is_empty() {
            self.leave_behind(run);
        } else {
            self.runs.insert(id, run);
        }
    }

    /// Calls about all domains have waited for `long`, as the control worker has, for the lock of one: runs end without what they
    /// bring.
    pub(super) fn leave_inactive(&mut self, long: Duration) {
        let now = self.now.at;
        let waits = |running: &Running| {
            matches!(running.batch.kind, Kind::Inactive | Kind::Info { .. }) && running.since + long <= now
        };
        for run in self.runs.values_mut() {
            for (job, running) in run.running.extract_if(.., |_, running| waits(running)) {
                run.rounds.end(running.batch.kind.probe().as_str(), now, false);
                self.inactive_job = Some(job);
                // Another worker takes its place.
                self.stuck.add(job, &running.batch.domains, &mut self.domains);
            }
        }
    }

    /// No request waits any more, but calls are under way: until they end, their domains are not asked for more.
    fn leave_behind(&mut self, mut run: Run) {
        for (job, running) in std::mem::take(&mut run.running) {
            run.rounds.end(running.batch.kind.probe().as_str(), self.now.at, false);
            match running.batch.kind {
                // Such a call waits for a job.
                Kind::Wait => continue,
                Kind::Inactive | Kind::Info { .. } => self.inactive_job = Some(job),
                Kind::Full | Kind::BehindStuckCall | Kind::WithoutMonitor => {}
            }
            // No hypervisor is to blame for a daemon that is silent.
            let suspects = if self.connection.is_silent() { Vec::new() } else { running.batch.domains };
            self.stuck.add(job, &suspects, &mut self.domains);
        }
        self.stats.probes.extend(run.rounds.statuses());
    }

    fn error_of(&self, run: &Run) -> Option<LibvirtError> {
        if self.connection.is_silent() {
            return self.connection.refusal(self.now.at);
        }
        if run.is_planned() {
            return None;
        }
        let within = humantime::format_duration(Duration::from_millis(
            u64::try_from(self.now.at.saturating_duration_since(run.started).as_millis()).unwrap_or(u64::MAX),
        ));
        let message = format!("libvirt did not answer within {within}");
        Some(LibvirtError::own("cannot collect statistics", ErrorClass::TimedOut, message))
    }

    /// Ends the runs that have all that they asked for.
    pub(super) fn finish(&mut self) {
        let is_done = |run: &&Run| run.is_done() && !self.awaits_readings(run);
        let done: Vec<RunId> = self.runs.values().filter(is_done).map(|run| run.id).collect();
        for id in done {
            if !self.ask_for_late(id) && !self.recheck(id) {
                self.end_run(id, None);
            }
        }
    }

    pub(super) fn end_run(&mut self, id: RunId, error: Option<LibvirtError>) {
        let Some(mut run) = self.runs.remove(&id) else { return };
        let whole = error.is_none() && run.is_whole();
        let collection = self.collection_of(&run, error);
        self.account(&collection);
        let waiters = std::mem::take(&mut run.waiters).iter().map(|waiter| waiter.id).collect();
        self.act(Action::Answer(waiters, Arc::clone(&collection)));
        if whole && !self.config.collection.min_interval.is_zero() {
            self.last = Some((run.selection.clone(), self.now.at, collection));
        }
        self.leave_behind(run);
    }

    /// Answers every request with an error that concerns all.
    pub(super) fn answer_all(&mut self, error: &LibvirtError) {
        let ids: Vec<RunId> = self.runs.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end_run(id, Some(error.clone())));
    }

    /// What a run has brought so far.
    fn collection_of(&mut self, run: &Run, error: Option<LibvirtError>) -> Arc<Collection> {
        let snapshot = self.snapshot(error.is_none());
        let readings = match error {
            Some(_) => Vec::new(),
            None => self.readings(&run.selection),
        };
        let quarantined = |uuid| self.domains.companion(uuid).and_then(|state| state.incarnation.quarantine.entered());
        run.collection(self.now, self.daemon.versions.as_ref(), error, snapshot, readings, quarantined)
    }

    /// The domains as they are now; none while there is no connection.
    pub(super) fn snapshot(&mut self, connected: bool) -> Arc<Snapshot> {
        let mut snapshot = self.domains.snapshot();
        if !connected {
            snapshot.domains = Arc::default();
        }
        snapshot.resyncs.clone_from(self.resync.counts());
        snapshot.events_dropped = self.events_dropped;
        snapshot.metadata_failures.clone_from(&self.definition_failures);
        snapshot.unreadable =
            self.unreadable().filter(|domain| domain.selected).map(|domain| domain.identity.uuid).collect();
        snapshot.hostname.clone_from(&self.daemon.hostname);
        snapshot.versions.clone_from(&self.daemon.versions);
        Arc::new(snapshot)
    }

    fn account(&mut self, collection: &Collection) {
        self.stats.calls = collection.calls;
        if collection.error.is_none() {
            self.stats.last_success = Some(collection.at);
        }
    }
}
