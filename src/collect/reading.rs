//! What background probes have found, and how the last round of each probe went.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Group;
use crate::libvirt::Records;

/// What a background probe found about one subject.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The probe's name.
    pub probe: &'static str,
    /// The group that its records belong to.
    pub group: Group,
    /// Until when it is good, if there is no later one.
    pub until: Instant,
    /// A record for each object.
    pub records: Arc<Records>,
}

/// How the last round of a probe went: one call, or all calls of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeStatus {
    /// Whether each call was answered.
    pub success: bool,
    /// From the first call to the last answer.
    pub duration: Duration,
}

/// The calls of probes in one collection.
#[derive(Debug, Default)]
pub(super) struct Rounds(BTreeMap<&'static str, Round>);

#[derive(Debug)]
struct Round {
    began: Instant,
    ended: Instant,
    failed: bool,
}

impl Rounds {
    /// A call begins.
    pub(super) fn begin(&mut self, probe: &'static str, now: Instant) {
        self.0.entry(probe).or_insert(Round { began: now, ended: now, failed: false });
    }

    /// A call has ended, or is not waited for any more.
    pub(super) fn end(&mut self, probe: &'static str, now: Instant, success: bool) {
        if let Some(round) = self.0.get_mut(probe) {
            round.ended = now;
            round.failed |= !success;
        }
    }

    /// How it went, by probe.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (&'static str, ProbeStatus)> {
        self.0.iter().map(|(probe, round)| {
            let duration = round.ended.saturating_duration_since(round.began);
            (*probe, ProbeStatus { success: !round.failed, duration })
        })
    }
}
