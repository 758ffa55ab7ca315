//! What the host itself knows of a domain's CPU time: `/proc` has the threads of its QEMU process, its control group what all of
//! them used. libvirt takes its numbers from the same files, and then stops every vCPU of the guest to ask KVM for more. Read
//! here, they cost neither the guest nor its monitor anything, and are there while its QEMU hangs.
//!
//! A domain's files are believed once they and libvirt have agreed: the first time that an incarnation of a domain is asked for, libvirt
//! reports all, and each of its numbers has to be between those of the files before and after. At any doubt, such as another
//! process, other vCPUs or a file that cannot be read, libvirt is asked as before.

mod agreement;
mod cgroup;
mod doubt;
mod pressure;
mod process;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use agreement::{Constants, RUNNING};
use cgroup::Mounts;
use doubt::Doubt;
use parking_lot::Mutex;
use process::{Qemu, Reading};

use crate::libvirt::{DomainRecord, Param, ParamValue, Records, StatsGroups};

/// When a domain whose files were doubted is looked at again. It doubles with each doubt in a row: a QEMU that is being started
/// has no files yet.
const FIRST_DOUBT: Duration = Duration::from_secs(2);
const LONGEST_DOUBT: Duration = Duration::from_secs(5 * 60);
/// How long a list of processes is good for.
const LIST_LASTS: Duration = Duration::from_secs(1);

/// The groups of which the host has files.
pub const GROUPS: StatsGroups = StatsGroups::CPU_TOTAL.union(StatsGroups::VCPU);

/// The files of all domains. Shared by all workers.
#[derive(Debug, Default)]
pub struct HostFiles {
    /// The name of the daemon in the log, unless it is the only one.
    target: Option<String>,
    guests: Mutex<HashMap<Uuid, Arc<Mutex<Guest>>>>,
    processes: Mutex<Processes>,
    /// Doubts that have been logged.
    logged: Mutex<BTreeSet<String>>,
}

/// The processes of the host that may be a QEMU.
#[derive(Debug, Default)]
struct Processes {
    at: Option<Instant>,
    by_uuid: HashMap<Uuid, Vec<i32>>,
    mounts: Mounts,
}

/// The state of a domain.
#[derive(Debug, Default)]
struct Guest {
    /// The incarnation of the domain that this is about.
    id: Option<u32>,
    qemu: Option<Qemu>,
    /// The groups about which libvirt and the files agreed.
    agreed: StatsGroups,
    constants: Constants,
    doubted: Option<Pause>,
    /// Its process was looked for and not found.
    unseen: Option<Pause>,
}

impl Guest {
    /// Whether a further doubt would be one in a row.
    fn was_doubted_lately(&self) -> bool {
        let mut pauses = [self.doubted, self.unseen].into_iter().flatten();
        pauses.any(|pause| pause.since.elapsed() < 2 * LONGEST_DOUBT)
    }
}

/// A time for which nothing is looked at, after something went wrong.
#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Instant,
    lasts: Duration,
}

impl Pause {
    /// The one after `last`.
    fn after(last: Option<Self>) -> Self {
        let lasts = last.map_or(FIRST_DOUBT, |last| (last.lasts * 2).min(LONGEST_DOUBT));
        Self { since: Instant::now(), lasts }
    }

    fn is_over(self) -> bool {
        self.since.elapsed() >= self.lasts
    }
}

/// Where to take a domain's groups from.
#[derive(Debug)]
pub enum Source {
    /// From the host's files.
    Host,
    /// From libvirt.
    Libvirt,
    /// From libvirt, to be compared with the files: what they said before.
    Both(Before),
}

/// Statistics from the host's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FromHost {
    /// These groups.
    pub groups: StatsGroups,
    /// Whether libvirt is asked for those of domains whose files are doubted.
    pub falls_back: bool,
    /// What its control group says of pressure.
    pub pressure: bool,
}

/// What the files said before libvirt was asked.
#[derive(Debug)]
pub struct Before(Reading);

impl HostFiles {
    /// Those of the domains of the daemon that is the `target` of this name in the log.
    #[must_use]
    pub fn of(target: Option<String>) -> Self {
        Self { target, ..Self::default() }
    }

    /// Where to take `groups` of a domain from. Reads the files of a domain that is new, if libvirt `may` be asked, too, for
    /// them to be compared.
    #[must_use]
    pub fn source_of(&self, uuid: Uuid, groups: StatsGroups, may: bool) -> Source {
        let guest = self.guest(uuid);
        let mut guest = guest.lock();
        if guest.agreed.contains(groups) {
            return Source::Host;
        }
        if !may || guest.doubted.is_some_and(|doubt| !doubt.is_over()) {
            return Source::Libvirt;
        }
        match self.read(uuid, &mut guest) {
            Ok(reading) => Source::Both(Before(reading)),
            Err(doubt) => {
                self.doubted(uuid, &mut guest, &doubt);
                Source::Libvirt
            }
        }
    }

    /// Reads the files of a domain that are to be compared. Of a process that is believed about other groups, these stay: another
    /// collection may be reading them.
    fn read(&self, uuid: Uuid, guest: &mut Guest) -> Result<Reading, Doubt> {
        let believed = guest.qemu.as_mut().filter(|_| !guest.agreed.is_empty());
        if let Some(reading) = believed.and_then(|qemu| qemu.read().ok()) {
            return Ok(reading);
        }
        let mut qemu = self.open(uuid)?;
        let reading = qemu.read()?;
        *guest = Guest { qemu: Some(qemu), doubted: guest.doubted, ..Guest::default() };
        Ok(reading)
    }

    /// Compares what libvirt reports of `groups` with the files; if they agree, these are believed from now on. Whether
    /// they agree, and the files have no halt polling times.
    pub fn compare(&self, record: &DomainRecord<'_>, groups: StatsGroups, before: &Before) -> bool {
        let guest = self.guest(record.uuid);
        let mut guest = guest.lock();
        let Some(qemu) = guest.qemu.as_mut().filter(|_| record.is_active()) else { return false };
        match qemu.read().and_then(|after| agreement::compare(record, groups, &before.0, &after)) {
            Ok(constants) => {
                if guest.id == record.id {
                    guest.agreed |= groups;
                    guest.constants.update(constants, groups);
                } else {
                    (guest.id, guest.agreed, guest.constants) = (record.id, groups, constants);
                }
                guest.doubted = None;
                guest.qemu.as_ref().and_then(Qemu::halt_poll).is_none()
            }
            Err(doubt) => {
                self.doubted(record.uuid, &mut guest, &doubt);
                false
            }
        }
    }

    /// Adds `groups` of the domain that was started last in `records`, whose id is `id`. At any doubt they are noted as unread.
    pub fn complete(&self, uuid: Uuid, id: Option<u32>, groups: StatsGroups, records: &mut Records) {
        let guest = self.guest(uuid);
        let mut guest = guest.lock();
        let Guest { qemu, agreed, id: known, .. } = &mut *guest;
        let reading = match qemu {
            Some(qemu) if agreed.contains(groups) && *known == id => qemu.read(),
            Some(_) if agreed.contains(groups) => Err(Doubt::NoProcess),
            _ => return records.note_elsewhere(groups, false),
        };
        match reading {
            Ok(reading) => {
                let halt_poll =
                    guest.qemu.as_ref().and_then(Qemu::halt_poll).or_else(|| polled_by_vcpus(&last_of(records)?));
                append(&reading, halt_poll, &guest.constants, groups, records);
                records.note_elsewhere(groups, true);
            }
            // It was started again, or vCPUs were plugged: not a reason to stay with libvirt.
            Err(doubt) => {
                tracing::debug!(target = self.target, %uuid, "the host's files of a domain have changed: {doubt}");
                *guest = Guest::default();
                records.note_elsewhere(groups, false);
            }
        }
    }

    /// Adds how long vCPUs polled to a record that has KVM's statistics of them, of a domain whose CPU time came from the files
    /// with a record that did not.
    pub fn add_halt_poll(&self, uuid: Uuid, id: Option<u32>, records: &mut Records) {
        let Some(guest) = self.guests.lock().get(&uuid).cloned() else { return };
        let guest = guest.lock();
        let is_believed = guest.agreed.contains(StatsGroups::CPU_TOTAL) && guest.id == id;
        if is_believed && guest.qemu.as_ref().is_some_and(|qemu| qemu.halt_poll().is_none()) {
            let polled = last_of(records).and_then(|record| polled_by_vcpus(&record));
            push_halt_poll(polled, records);
        }
    }

    /// Adds what the control groups of the domain that was started last in `records` say of pressure. Nothing is compared for
    /// that: libvirt does not report it.
    pub fn add_pressure(&self, uuid: Uuid, records: &mut Records) {
        let guest = self.guest(uuid);
        let mut guest = guest.lock();
        if guest.qemu.as_ref().is_none_or(|qemu| qemu.groups().is_err()) {
            if guest.unseen.is_some_and(|pause| !pause.is_over()) {
                return;
            }
            match self.open(uuid) {
                Ok(qemu) => *guest = Guest { qemu: Some(qemu), doubted: guest.doubted, ..Guest::default() },
                Err(_) => guest.unseen = Some(Pause::after(guest.unseen)),
            }
        }
        if let Some(Ok(groups)) = guest.qemu.as_ref().map(Qemu::groups) {
            pressure::append(groups, records);
        }
    }

    fn guest(&self, uuid: Uuid) -> Arc<Mutex<Guest>> {
        Arc::clone(self.guests.lock().entry(uuid).or_default())
    }

    /// Finds the process of a domain.
    fn open(&self, uuid: Uuid) -> Result<Qemu, Doubt> {
        let mut processes = self.processes.lock();
        let is_fresh = processes.at.is_some_and(|at| at.elapsed() < LIST_LASTS);
        if !is_fresh {
            *processes = Processes { at: Some(Instant::now()), by_uuid: process::find_all(), mounts: Mounts::read() };
            let running = &processes.by_uuid;
            // What no other thread holds is not locked.
            let is_kept = |guest: &Arc<Mutex<Guest>>| Arc::strong_count(guest) > 1 || guest.lock().was_doubted_lately();
            self.guests.lock().retain(|uuid, guest| running.contains_key(uuid) || is_kept(guest));
        }
        Qemu::open(processes.by_uuid.get(&uuid).map(Vec::as_slice).unwrap_or_default(), &processes.mounts)
    }

    fn doubted(&self, uuid: Uuid, guest: &mut Guest, doubt: &Doubt) {
        // vCPUs that are plugged just now are no reason to stay with libvirt.
        let doubted = (!matches!(doubt, Doubt::OtherVcpus)).then(|| Pause::after(guest.doubted));
        *guest = Guest { doubted, unseen: guest.unseen, ..Guest::default() };
        // One line for each kind of doubt: a host has hundreds of domains.
        if self.logged.lock().insert(format!("{:?}", mem::discriminant(doubt))) {
            tracing::info!(target = self.target, %uuid, "CPU statistics of this domain, and of others likewise, come from libvirt: {doubt}");
        }
    }
}

/// Adds parameters as libvirt has them.
fn append(
    reading: &Reading,
    halt_poll: Option<(u64, u64)>,
    constants: &Constants,
    groups: StatsGroups,
    records: &mut Records,
) {
    let number = |count: usize| ParamValue::UInt(u32::try_from(count).unwrap_or(u32::MAX));
    if groups.contains(StatsGroups::CPU_TOTAL) {
        records.push("cpu.time", ParamValue::ULLong(reading.cpu.time));
        records.push("cpu.user", ParamValue::ULLong(reading.cpu.user));
        records.push("cpu.system", ParamValue::ULLong(reading.cpu.system));
        push_halt_poll(halt_poll, records);
        constants.zeros.iter().for_each(|key| records.push(key, ParamValue::UInt(0)));
    }
    if groups.contains(StatsGroups::VCPU) {
        records.push("vcpu.current", number(reading.vcpus.len()));
        if let Some(most) = constants.vcpus {
            records.push("vcpu.maximum", ParamValue::UInt(most));
        }
        let mut key = String::new();
        for vcpu in &reading.vcpus {
            for (name, value) in [
                ("state", ParamValue::Int(RUNNING)),
                ("time", ParamValue::ULLong(vcpu.time)),
                ("wait", ParamValue::ULLong(vcpu.wait)),
                ("delay", ParamValue::ULLong(vcpu.delay)),
            ] {
                key.clear();
                // Writing to a string does not fail.
                let _infallible = write!(key, "vcpu.{}.{name}", vcpu.number);
                records.push(&key, value);
            }
        }
    }
}

fn push_halt_poll(polled: Option<(u64, u64)>, records: &mut Records) {
    if let Some((success, fail)) = polled {
        records.push("cpu.haltpoll.success.time", ParamValue::ULLong(success));
        records.push("cpu.haltpoll.fail.time", ParamValue::ULLong(fail));
    }
}

fn last_of(records: &Records) -> Option<DomainRecord<'_>> {
    Some(records.domain(records.len().checked_sub(1)?))
}

/// How long vCPUs polled with and without success, in nanoseconds, where the record has KVM's statistics of each.
fn polled_by_vcpus(record: &DomainRecord<'_>) -> Option<(u64, u64)> {
    let sum = |suffix: &str| {
        let of_vcpu = |param: Param<'_>| match param.value {
            ParamValue::ULLong(nanos) if param.key.starts_with("vcpu.") && param.key.ends_with(suffix) => Some(nanos),
            _ => None,
        };
        record.params().filter_map(of_vcpu).reduce(|sum, nanos| sum + nanos)
    };
    Some((sum(".halt_poll_success_ns.sum")?, sum(".halt_poll_fail_ns.sum")?))
}

#[cfg(test)]
mod tests;
