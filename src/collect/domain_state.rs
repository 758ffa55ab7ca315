//! What the scheduler keeps of each domain: one entry, which goes with the domain.

use std::time::Instant;

use super::background::Turn;
use super::by_probe::ByProbe;
use super::completeness::Answered;
use super::quarantine::Quarantine;
use super::reading::Reading;
use super::summary::Devices;
use crate::domains::{Companion, Registry};

/// The domains, each with its state.
pub(super) type Domains = Registry<DomainState>;

/// One domain.
#[derive(Debug, Default)]
pub(super) struct DomainState {
    /// What is true of its present incarnation alone.
    pub(super) incarnation: Incarnation,
    /// How large its last record was, in bytes on the wire.
    pub(super) reply_size: Option<usize>,
    /// Whether this user may read it.
    pub(super) readable: Readable,
    /// When its addresses were last looked up, or asked for.
    pub(super) located: Option<Instant>,
    /// Its turns with background probes, by their names.
    pub(super) turns: ByProbe<Turn>,
    /// What background probes found, by their names.
    pub(super) readings: ByProbe<Reading>,
}

/// One incarnation of a domain: from a start to the stop after it. Its hypervisor process, and its id, are others in the next.
#[derive(Debug, Default)]
pub(super) struct Incarnation {
    /// How its hypervisor answers.
    pub(super) quarantine: Quarantine,
    /// Which groups it answers.
    pub(super) answered: Answered,
    /// The disks and NICs that its last record named.
    pub(super) devices: Devices,
    /// Whether it was busy to the end of the last collection.
    pub(super) long_busy: bool,
}

/// Whether the daemon lets this user read a domain that it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Readable {
    /// Nothing has been refused so far.
    #[default]
    Yes,
    /// Not its definition.
    NoDefinition,
    /// Nothing: it has been excluded from statistics, too.
    Nothing,
}

impl Companion for DomainState {
    fn begin_incarnation(&mut self) {
        self.incarnation = Incarnation::default();
        self.readings.clear();
        self.turns.values_mut().for_each(Turn::forget_calls);
    }
}

impl DomainState {
    /// Whether nothing can be had about it, as libvirt holds its lock.
    pub(super) fn is_locked(&self) -> bool {
        self.incarnation.quarantine.is_locked()
    }

    /// The connection is gone: the next one may lead to another daemon.
    pub(super) fn reset_connection(&mut self) {
        self.incarnation.quarantine = Quarantine::default();
        self.incarnation.answered = Answered::default();
        self.incarnation.long_busy = false;
        self.reply_size = None;
        self.readable = Readable::Yes;
        self.located = None;
        self.readings.clear();
        self.turns.clear();
    }
}
