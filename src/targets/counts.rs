//! What has happened, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::lifecycle::{CRASHED, RESUMED, STARTED, STOPPED, STOPPED_CRASHED, STOPPED_FAILED};
use crate::libvirt::{EventKind, JobOutcome};

/// Most different keys that a domain's events are told apart by. Names in events come from outside; what goes beyond this is
/// counted host-wide only.
const MOST_KEYS: usize = 256;
/// Likewise for the bytes of one name: libvirt's own have some dozens.
const MOST_NAME_BYTES: usize = 256;

/// Events of all domains that are or were, so that the crash of a transient domain is not lost with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Lifecycle events by `virDomainEventType` and its detail.
    pub lifecycle: BTreeMap<(i32, i32), u64>,
    /// Other events by name ([`EventKind::name`]).
    pub others: BTreeMap<&'static str, u64>,
}

impl HostCounts {
    /// Counts one.
    pub fn count(&mut self, event: &EventKind) {
        let count = match event {
            EventKind::Lifecycle { event, detail } => self.lifecycle.entry((*event, *detail)).or_default(),
            other => self.others.entry(other.name()).or_default(),
        };
        *count += 1;
    }
}

/// What has happened to one domain. Numbers in keys are libvirt's enumerations, as in [`EventKind`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainCounts {
    /// Reboots and resets by the guest.
    pub reboots: u64,
    /// Crashes of the guest, and of its hypervisor.
    pub crashes: u64,
    /// Whether the last that was heard of its life is that it crashed: if it stops for that, it is the same crash.
    pub crashed: bool,
    /// Losses of the hypervisor's monitor.
    pub control_errors: u64,
    /// Devices that could not be taken out.
    pub device_removal_failures: u64,
    /// Watchdog events by action.
    pub watchdogs: BTreeMap<i32, u64>,
    /// I/O errors by device alias, action and reason.
    pub io_errors: BTreeMap<(String, i32, String), u64>,
    /// Block jobs by target name, type and status.
    pub block_jobs: BTreeMap<(String, i32, i32), u64>,
    /// Background jobs by operation and success.
    pub jobs: BTreeMap<(i32, Option<bool>), u64>,
    /// How long the last background job took.
    pub last_job: Option<JobTimes>,
    /// The pass that the last migration was in.
    pub migration_iteration: Option<i32>,
    /// Memory failures by recipient and action.
    pub memory_failures: BTreeMap<(i32, i32), u64>,
    /// Crossed thresholds by target name.
    pub block_thresholds: BTreeMap<String, u64>,
}

/// How long a background job took, as far as libvirt says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobTimes {
    /// From its beginning to its end.
    pub duration: Option<Duration>,
    /// How long the guest stood still.
    pub downtime: Option<Duration>,
}

impl DomainCounts {
    /// Counts an event of the domain, if it is of a kind that is counted for each.
    pub fn count(&mut self, event: &EventKind) {
        match event {
            EventKind::Lifecycle { event, detail } => {
                let died = matches!((*event, *detail), (STOPPED, STOPPED_CRASHED | STOPPED_FAILED));
                if *event == CRASHED || (died && !self.crashed) {
                    self.crashes += 1;
                }
                // Between the two the domain may pause, and shut down. Once it lives or has ended, the next is another crash.
                let is_over = matches!(*event, STARTED | RESUMED | STOPPED);
                self.crashed = *event == CRASHED || (self.crashed && !is_over);
            }
            EventKind::Reboot => self.reboots += 1,
            EventKind::ControlError => self.control_errors += 1,
            EventKind::DeviceRemovalFailed => self.device_removal_failures += 1,
            EventKind::Watchdog { action } => add(&mut self.watchdogs, *action),
            EventKind::IoError { alias, action, reason } if is_short(alias) && is_short(reason) => {
                add(&mut self.io_errors, (alias.clone(), *action, reason.clone()));
            }
            EventKind::BlockJob { device, job, status } if is_short(device) => {
                add(&mut self.block_jobs, (device.clone(), *job, *status));
            }
            EventKind::JobCompleted(JobOutcome { operation, success, duration, downtime }) => {
                add(&mut self.jobs, (*operation, *success));
                self.last_job = Some(JobTimes { duration: *duration, downtime: *downtime });
            }
            EventKind::MigrationIteration { iteration } => self.migration_iteration = Some(*iteration),
            EventKind::MemoryFailure { recipient, action } => add(&mut self.memory_failures, (*recipient, *action)),
            EventKind::BlockThreshold { device } if is_short(device) => add(&mut self.block_thresholds, device.clone()),
            _ => {}
        }
    }
}

fn is_short(name: &str) -> bool {
    name.len() <= MOST_NAME_BYTES
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    if counts.len() < MOST_KEYS || counts.contains_key(&key) {
        *counts.entry(key).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_crash_is_counted_once_however_many_events_tell_of_it() {
        let mut counts = DomainCounts::default();
        let mut after = |events: &[(i32, i32)]| {
            for (event, detail) in events {
                let event = EventKind::Lifecycle { event: *event, detail: *detail };
                counts.count(&event);
            }
            counts.crashes
        };
        assert_eq!(
            after(&[(3, 0), (CRASHED, 0), (6, 2), (STOPPED, 2)]),
            1,
            "a panic, upon which the guest is destroyed"
        );
        assert_eq!(after(&[(2, 0), (STOPPED, 5)]), 2, "a hypervisor that dies");
        assert_eq!(after(&[(2, 0), (STOPPED, 2)]), 3, "a driver that tells of the end only");
        assert_eq!(after(&[(2, 0), (CRASHED, 0), (4, 0), (STOPPED, 5)]), 5, "a panic, and later another end");
        assert_eq!(after(&[(2, 0), (STOPPED, 0), (2, 0), (STOPPED, 1)]), 5, "a shutdown, and a destroy");
    }

    #[test]
    fn names_from_outside_take_a_bounded_number_of_bytes() {
        let mut counts = DomainCounts::default();
        for number in 0..1000 {
            for length in [200, 60_000] {
                let name = format!("{number:x>length$}");
                counts.count(&EventKind::BlockThreshold { device: name.clone() });
                counts.count(&EventKind::BlockJob { device: name.clone(), job: 1, status: 0 });
                counts.count(&EventKind::IoError { alias: name.clone(), action: 0, reason: name });
            }
        }
        let bytes: usize = counts.block_thresholds.keys().map(String::len).sum::<usize>()
            + counts.block_jobs.keys().map(|(device, ..)| device.len()).sum::<usize>()
            + counts.io_errors.keys().map(|(alias, _, reason)| alias.len() + reason.len()).sum::<usize>();
        assert!(counts.io_errors.len() == MOST_KEYS && bytes <= 4 * MOST_KEYS * MOST_NAME_BYTES, "{bytes} bytes");
    }
}
