//! Event counters.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::lifecycle::{
    CRASHED, RESUMED, STARTED, STARTED_MIGRATED, STOPPED, STOPPED_ARRIVING, STOPPED_CRASHED, STOPPED_FAILED, SUSPENDED,
};
use crate::libvirt::{EventKind, JobOutcome, ObjectEvent, ObjectKind};

/// Most different keys that a domain's events are told apart by. Names in events come from outside; what goes beyond this is
/// counted host-wide only.
const MOST_KEYS: usize = 256;
/// Likewise for the bytes of one name: libvirt's own have some dozens.
const MOST_NAME_BYTES: usize = 256;

/// Resets that follow one another within this time are one reboot: the firmware of a guest that is reset may reset it again.
const ONE_REBOOT: Duration = Duration::from_secs(1);

/// Events of storage pools and of networks.
pub type ObjectCounts = BTreeMap<(ObjectKind, ObjectEvent), u64>;

/// Adds `number` events of a kind.
pub(super) fn count_object(counts: &mut ObjectCounts, kind: ObjectKind, event: ObjectEvent, number: u64) {
    if let Some(count) = place(counts, (kind, event)) {
        *count += number;
    }
}

/// Events of all domains that are or were, so that the crash of a transient domain is not lost with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Lifecycle events by `virDomainEventType` and its detail. A failed migration to this host has its own detail, which
    /// no event of libvirt has: to libvirt it has stopped as if its hypervisor had died.
    pub lifecycle: BTreeMap<(i32, i32), u64>,
    /// Other events by name ([`EventKind::name`]).
    pub others: BTreeMap<&'static str, u64>,
    /// Background jobs by operation and success. A domain that migrates away, and is undefined here, takes its own counts with it.
    pub jobs: BTreeMap<(i32, Option<bool>), JobCounts>,
    /// Events of storage pools and networks, while these are watched.
    pub objects: ObjectCounts,
}

/// Background jobs of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// How many there were.
    pub count: u64,
    /// How long they took, of those of which libvirt says it.
    pub durations: Times,
    /// How long the guest stood still, likewise.
    pub downtimes: Times,
}

/// Times, counted by their length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// How many there are up to each of [`Times::BOUNDS`] and above the one before, and at the end how many are longer.
    counts: [u64; Self::BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Times {
    /// In seconds: from the downtime of a migration to the duration of one over a slow network.
    pub const BOUNDS: [f64; 14] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let place = Self::BOUNDS.iter().take_while(|bound| time.as_secs_f64() > **bound).count();
        self.counts[place] += 1;
        self.sum += time;
    }

    /// How many there are up to each bound, the last of which is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = Self::BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        bounds.zip(counts)
    }
}

impl HostCounts {
    /// Counts one; `arriving` if its domain was still on its way here.
    pub fn count(&mut self, event: &EventKind, arriving: bool) {
        let count = match event {
            EventKind::Lifecycle { event: STOPPED, detail: STOPPED_FAILED } if arriving => {
                self.lifecycle.entry((STOPPED, STOPPED_ARRIVING)).or_default()
            }
            EventKind::Lifecycle { event, detail } => self.lifecycle.entry((*event, *detail)).or_default(),
            other => self.others.entry(other.name()).or_default(),
        };
        *count += 1;
        if let EventKind::JobCompleted(JobOutcome { operation, success, duration, downtime }) = event
            && let Some(jobs) = place(&mut self.jobs, (*operation, *success))
        {
            jobs.count += 1;
            duration.iter().for_each(|time| jobs.durations.add(*time));
            downtime.iter().for_each(|time| jobs.downtimes.add(*time));
        }
    }
}

/// Event counters of one domain. Numbers in keys are libvirt's enumerations, as in [`EventKind`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainCounts {
    /// Reboots and resets by the guest.
    pub reboots: u64,
    /// When libvirt last told of one.
    pub last_reset: Option<SystemTime>,
    /// Whether it is on its way here by migration, and its guest still runs elsewhere.
    pub is_arriving: bool,
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
    /// Block jobs by domain name, type and status.
    pub block_jobs: BTreeMap<(String, i32, i32), u64>,
    /// Background jobs by operation and success.
    pub jobs: BTreeMap<(i32, Option<bool>), u64>,
    /// How long the last background job took.
    pub last_job: Option<JobTimes>,
    /// The pass that the last migration was in.
    pub migration_iteration: Option<i32>,
    /// Memory failures by recipient and action.
    pub memory_failures: BTreeMap<(i32, i32), u64>,
    /// Crossed thresholds by domain name.
    pub block_thresholds: BTreeMap<String, u64>,
}

/// How long a background job took, if libvirt says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobTimes {
    /// From its beginning to its end.
    pub duration: Option<Duration>,
    /// How long the guest stood still.
    pub downtime: Option<Duration>,
}

impl DomainCounts {
    /// Counts an event of the domain, which was heard `at` that time, if it is of a kind that is counted for each.
    pub fn count(&mut self, event: &EventKind, at: SystemTime) {
        match event {
            EventKind::Lifecycle { event, detail } => {
                // An arrival that fails is no crash: the guest goes on where it was.
                let died = match (*event, *detail) {
                    (STOPPED, STOPPED_CRASHED) => true,
                    (STOPPED, STOPPED_FAILED) => !self.is_arriving,
                    _ => false,
                };
                let has_arrived = matches!(*event, RESUMED | SUSPENDED | STOPPED);
                self.is_arriving =
                    (*event, *detail) == (STARTED, STARTED_MIGRATED) || (self.is_arriving && !has_arrived);
                if *event == CRASHED || (died && !self.crashed) {
                    self.crashes += 1;
                }
                // Between the two the domain may pause, and shut down. Once it lives or has ended, the next is another crash.
                let is_over = matches!(*event, STARTED | RESUMED | STOPPED);
                self.crashed = *event == CRASHED || (self.crashed && !is_over);
            }
            EventKind::Reboot => {
                let since = self.last_reset.replace(at).and_then(|last| at.duration_since(last).ok());
                self.reboots += u64::from(since.is_none_or(|since| since > ONE_REBOOT));
            }
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
    if let Some(count) = place(counts, key) {
        *count += 1;
    }
}

/// Where `key` is counted, if there is room for it.
fn place<K: Ord, V: Default>(counts: &mut BTreeMap<K, V>, key: K) -> Option<&mut V> {
    let has_room = counts.len() < MOST_KEYS || counts.contains_key(&key);
    has_room.then(|| counts.entry(key).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_up_to_their_bounds() {
        let mut times = Times::default();
        for millis in [0, 10, 11, 1000, 7_200_000] {
            times.add(Duration::from_millis(millis));
        }
        let buckets: Vec<(f64, u64)> = times.cumulative().collect();
        assert_eq!(buckets[..2], [(0.01, 2), (0.05, 3)]);
        assert_eq!(buckets[4..6], [(0.5, 3), (1.0, 4)]);
        assert_eq!(buckets[13..], [(3600.0, 4), (f64::INFINITY, 5)]);
        assert_eq!(times.sum, Duration::from_millis(7_201_021));
    }

    #[test]
    fn one_crash_is_counted_once_however_many_events_tell_of_it() {
        let mut counts = DomainCounts::default();
        let mut after = |events: &[(i32, i32)]| {
            for (event, detail) in events {
                let event = EventKind::Lifecycle { event: *event, detail: *detail };
                counts.count(&event, SystemTime::UNIX_EPOCH);
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
                counts.count(&EventKind::BlockThreshold { device: name.clone() }, SystemTime::UNIX_EPOCH);
                counts.count(&EventKind::BlockJob { device: name.clone(), job: 1, status: 0 }, SystemTime::UNIX_EPOCH);
                counts.count(
                    &EventKind::IoError { alias: name.clone(), action: 0, reason: name },
                    SystemTime::UNIX_EPOCH,
                );
            }
        }
        let bytes: usize = counts.block_thresholds.keys().map(String::len).sum::<usize>()
            + counts.block_jobs.keys().map(|(device, ..)| device.len()).sum::<usize>()
            + counts.io_errors.keys().map(|(alias, _, reason)| alias.len() + reason.len()).sum::<usize>();
        assert!(counts.io_errors.len() == MOST_KEYS && bytes <= 4 * MOST_KEYS * MOST_NAME_BYTES, "{bytes} bytes");
    }

    #[test]
    fn an_arrival_that_fails_is_no_crash() {
        let (mut host, mut counts) = (HostCounts::default(), DomainCounts::default());
        let mut after = |events: &[(i32, i32)]| {
            for (event, detail) in events {
                let event = EventKind::Lifecycle { event: *event, detail: *detail };
                host.count(&event, counts.is_arriving);
                counts.count(&event, SystemTime::UNIX_EPOCH);
            }
            let told = |detail| host.lifecycle.get(&(STOPPED, detail)).copied().unwrap_or(0);
            (counts.crashes, told(STOPPED_FAILED), told(STOPPED_ARRIVING))
        };
        assert_eq!(after(&[(STARTED, STARTED_MIGRATED), (STOPPED, STOPPED_FAILED)]), (0, 0, 1));
        assert_eq!(after(&[(STARTED, STARTED_MIGRATED), (RESUMED, 1), (STOPPED, STOPPED_FAILED)]), (1, 1, 1));
        assert_eq!(
            after(&[(STARTED, STARTED_MIGRATED), (SUSPENDED, 0), (STOPPED, STOPPED_FAILED)]),
            (2, 2, 1),
            "paused"
        );
        assert_eq!(after(&[(STARTED, 0), (STOPPED, STOPPED_FAILED)]), (3, 3, 1));
    }

    #[test]
    fn a_run_of_resets_is_one_reboot() {
        let mut counts = DomainCounts::default();
        let mut after = |millis: &[u64]| {
            for millis in millis {
                counts.count(&EventKind::Reboot, SystemTime::UNIX_EPOCH + Duration::from_millis(*millis));
            }
            counts.reboots
        };
        assert_eq!(after(&[50_000, 50_700, 51_400]), 1);
        assert_eq!(after(&[53_000]), 2);
        assert_eq!(after(&[10_000]), 3, "the clock was set back");
    }
}
