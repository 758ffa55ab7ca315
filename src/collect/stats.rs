//! What the collector counts.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::reading::ProbeStatus;
use crate::libvirt::ErrorClass;

/// What the collector counts.
#[derive(Debug, Clone, Default)]
pub struct CollectorStats {
    /// Failures by class; those of [`ErrorClass::Other`] stand under one.
    pub failures: Vec<(ErrorClass, u64)>,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// When libvirt was last collected from.
    pub last_success: Option<SystemTime>,
    /// Calls for statistics in the last collection.
    pub calls: usize,
    /// Calls that are waiting for a hypervisor that does not answer.
    pub stuck_calls: usize,
    /// Background calls that hang, by probe.
    pub hung_calls: BTreeMap<&'static str, usize>,
    /// Threads that own, or try to open, a connection.
    pub threads: usize,
    /// What the daemon turned out not to know.
    pub shortcomings: Shortcomings,
    /// How the last round of each probe went.
    pub probes: BTreeMap<&'static str, ProbeStatus>,
}

/// What this daemon turned out not to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shortcomings {
    /// It does not know the flag NOWAIT (before libvirt 4.5).
    pub no_nowait: bool,
    /// It does not know the flag BACKING (before libvirt 1.2.12).
    pub no_backing: bool,
    /// Its driver has no bulk statistics: basic facts are asked for one domain after the other.
    pub no_bulk: bool,
    /// Events that it, or the client library, does not know, by libvirt's names.
    pub unknown_events: Vec<&'static str>,
}

impl CollectorStats {
    pub(super) fn count_failure(&mut self, class: ErrorClass) {
        let same = |known: &ErrorClass| known.as_str() == class.as_str();
        match self.failures.iter_mut().find(|(known, _)| same(known)) {
            Some((_, count)) => *count += 1,
            None => self.failures.push((class, 1)),
        }
    }
}
