//! Encoding of bulk statistics. The parameters of a domain are encoded once; a reply copies the runs of them that the
//! client asked for and writes the grown counters over their places, so that even a growing domain is never encoded again.

use std::time::Duration;

use crate::params::Value;
use crate::template::{Stat, grown};
use crate::xdr::Writer;

/// The stats groups (`virDomainStatsTypes`).
pub mod group {
    /// State.
    pub const STATE: u32 = 1;
    /// CPU time.
    pub const CPU_TOTAL: u32 = 1 << 1;
    /// Memory balloon.
    pub const BALLOON: u32 = 1 << 2;
    /// vCPUs.
    pub const VCPU: u32 = 1 << 3;
    /// NICs.
    pub const INTERFACE: u32 = 1 << 4;
    /// Disks.
    pub const BLOCK: u32 = 1 << 5;
    /// Perf events.
    pub const PERF: u32 = 1 << 6;
    /// iothreads.
    pub const IOTHREAD: u32 = 1 << 7;
    /// Memory bandwidth.
    pub const MEMORY: u32 = 1 << 8;
    /// Dirty rate.
    pub const DIRTYRATE: u32 = 1 << 9;
    /// Hypervisor statistics of the whole machine.
    pub const VM: u32 = 1 << 10;
    /// All of them.
    pub const ALL: u32 = (1 << 11) - 1;
    /// Those for which libvirt asks QEMU's monitor, and so takes the domain's job.
    pub const MONITOR: u32 = CPU_TOTAL | BALLOON | VCPU | BLOCK | IOTHREAD | DIRTYRATE | VM;
    /// Those whose failure fails the whole call in libvirt before 11.3.
    pub const FATAL: u32 = IOTHREAD | DIRTYRATE | PERF;
}

/// The flags of the bulk statistics call.
pub mod flag {
    /// Active domains.
    pub const ACTIVE: u32 = 1;
    /// Inactive domains.
    pub const INACTIVE: u32 = 1 << 1;
    /// Persistent domains.
    pub const PERSISTENT: u32 = 1 << 2;
    /// Transient domains.
    pub const TRANSIENT: u32 = 1 << 3;
    /// Running domains.
    pub const RUNNING: u32 = 1 << 4;
    /// Paused domains.
    pub const PAUSED: u32 = 1 << 5;
    /// Shut off domains.
    pub const SHUTOFF: u32 = 1 << 6;
    /// Domains in any other state.
    pub const OTHER: u32 = 1 << 7;
    /// Do not wait for the job of a busy domain.
    pub const NOWAIT: u32 = 1 << 29;
    /// Report every layer of a disk.
    pub const BACKING: u32 = 1 << 30;
    /// Fail where a group is not supported.
    pub const ENFORCE: u32 = 1 << 31;
    /// All of them.
    pub const ALL: u32 = 0xff | NOWAIT | BACKING | ENFORCE;
}

/// The group a key belongs to; `None` for keys outside the groups, which are sent whatever is asked for.
fn group_of(key: &str) -> Option<u32> {
    let (head, _) = key.split_once('.')?;
    match head {
        "state" => Some(group::STATE),
        "cpu" => Some(group::CPU_TOTAL),
        "balloon" => Some(group::BALLOON),
        "vcpu" => Some(group::VCPU),
        "net" => Some(group::INTERFACE),
        "block" => Some(group::BLOCK),
        "perf" => Some(group::PERF),
        "iothread" => Some(group::IOTHREAD),
        "memory" => Some(group::MEMORY),
        "dirtyrate" => Some(group::DIRTYRATE),
        "vm" => Some(group::VM),
        _ => None,
    }
}

/// Whether libvirt leaves the key out where it cannot have the domain's job.
fn needs_job(key: &str) -> bool {
    let mut parts = key.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("cpu"), Some("haltpoll"), _) | (Some("iothread" | "dirtyrate" | "vm"), ..) => true,
        (Some("balloon"), Some(name), _) => !matches!(name, "current" | "maximum"),
        (Some("vcpu"), _, Some(name)) => !matches!(name, "state" | "time" | "wait" | "delay"),
        (Some("block"), _, Some(name)) => !matches!(name, "name" | "path" | "backingIndex"),
        _ => false,
    }
}

/// What a caller gets of one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The groups asked for; never 0.
    pub(crate) groups: u32,
    /// Whether the domain's job could be had.
    pub(crate) has_job: bool,
    /// Groups whose monitor commands fail.
    pub(crate) silent: u32,
}

/// The parameters of one domain, encoded.
#[derive(Debug)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    growing: Vec<Growing>,
}

/// Neighbouring parameters that are sent, or not, together.
#[derive(Debug)]
struct Run {
    group: Option<u32>,
    needs_job: bool,
    params: u32,
    end: usize,
    growing_end: usize,
}

/// A counter that grows: where its value stands, and how fast it grows. Ten thousand domains have millions of these.
#[derive(Debug)]
struct Growing {
    offset: u32,
    per_second: u32,
    is_double: bool,
}

impl Encoded {
    pub(crate) fn new(stats: &[Stat]) -> Self {
        let mut out = Writer::with_capacity(stats.len() * 48);
        let mut runs: Vec<Run> = Vec::new();
        let mut growing = Vec::new();
        for Stat { key, value, per_second } in stats {
            out.param(key, value);
            let is_double = matches!(value, Value::Double(_));
            let can_grow = is_double || matches!(value, Value::ULLong(_) | Value::LLong(_));
            // A record beyond 4 GiB could not be sent anyway.
            if let (true, Ok(offset)) = (can_grow && *per_second > 0, u32::try_from(out.len() - 8)) {
                growing.push(Growing { offset, per_second: *per_second, is_double });
            }
            let (group, needs_job) = (group_of(key), needs_job(key));
            match runs.last_mut() {
                Some(run) if run.group == group && run.needs_job == needs_job => {
                    run.params += 1;
                    run.end = out.len();
                    run.growing_end = growing.len();
                }
                _ => runs.push(Run { group, needs_job, params: 1, end: out.len(), growing_end: growing.len() }),
            }
        }
        let mut bytes = out.into_bytes();
        bytes.shrink_to_fit();
        growing.shrink_to_fit();
        Self { bytes, runs, growing }
    }

    /// Bytes of all parameters.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the selected parameters as they are at a time of the scenario's clock; returns how many they are.
    pub(crate) fn append(&self, selection: Selection, at: Duration, out: &mut Writer) -> u32 {
        let (mut start, mut growing_start, mut params) = (0, 0, 0);
        for run in &self.runs {
            let answers = selection.has_job && run.group.is_none_or(|group| selection.silent & group == 0);
            let wanted = run.group.is_none_or(|group| selection.groups & group != 0) && (answers || !run.needs_job);
            if wanted {
                let moved_to = out.len();
                out.raw(&self.bytes[start..run.end]);
                if !at.is_zero() {
                    let copy = &mut out.bytes_mut()[moved_to..];
                    for counter in &self.growing[growing_start..run.growing_end] {
                        let offset = usize::try_from(counter.offset).unwrap_or(usize::MAX);
                        let place = &mut copy[offset - start..][..8];
                        counter.grow(place, at);
                    }
                }
                params += run.params;
            }
            (start, growing_start) = (run.end, run.growing_end);
        }
        params
    }
}

impl Growing {
    /// Replaces the value at the daemon's start by that at a time of the scenario's clock.
    fn grow(&self, place: &mut [u8], at: Duration) {
        let mut base = [0; 8];
        base.copy_from_slice(place);
        let now = if self.is_double {
            let grown = at.as_secs_f64() * f64::from(self.per_second);
            (f64::from_be_bytes(base) + grown).to_be_bytes()
        } else {
            let grown = grown(self.per_second, at);
            u64::from_be_bytes(base).wrapping_add(grown).to_be_bytes()
        };
        place.copy_from_slice(&now);
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoded, Selection, group, needs_job};
    use crate::params::Value;
    use crate::template::Stat;
    use crate::xdr::Writer;
    use std::time::Duration;

    fn stat(key: &str, value: Value, per_second: u32) -> Stat {
        Stat { key: key.to_owned(), value, per_second }
    }

    fn appended(encoded: &Encoded, groups: u32, has_job: bool, at: Duration) -> (u32, Vec<u8>) {
        let mut out = Writer::new();
        let params = encoded.append(Selection { groups, has_job, silent: 0 }, at, &mut out);
        (params, out.into_bytes())
    }

    fn expected(params: &[(&str, Value)]) -> Vec<u8> {
        let mut out = Writer::new();
        for (key, value) in params {
            out.param(key, value);
        }
        out.into_bytes()
    }

    fn sample() -> Encoded {
        Encoded::new(&[
            stat("state.state", Value::Int(1), 0),
            stat("cpu.time", Value::ULLong(u64::MAX), 10),
            stat("cpu.haltpoll.fail.time", Value::ULLong(5), 1_000_000_000),
            stat("vm.exits.sum", Value::ULLong(7), 0),
            stat("x.ratio", Value::Double(0.5), 2),
        ])
    }

    #[test]
    fn groups_select_and_unknown_keys_always_come() {
        let at = Duration::ZERO;
        let ratio = ("x.ratio", Value::Double(0.5));
        assert_eq!(
            appended(&sample(), group::STATE, true, at),
            (2, expected(&[("state.state", Value::Int(1)), ratio]))
        );
        assert_eq!(appended(&sample(), group::ALL, true, at).0, 5);
    }

    #[test]
    fn without_the_job_only_what_needs_no_monitor_comes() {
        let (params, _) = appended(&sample(), group::ALL, false, Duration::ZERO);
        assert_eq!(params, 3);
        assert!(needs_job("block.0.rd.bytes") && !needs_job("block.0.path"));
        assert!(needs_job("vcpu.3.exits.sum") && !needs_job("vcpu.3.time"));
        assert!(needs_job("balloon.rss") && !needs_job("vcpu.current"));
    }

    #[test]
    fn counters_grow_with_the_clock_and_wrap() {
        let at = Duration::from_millis(1500);
        assert_eq!(
            appended(&sample(), group::CPU_TOTAL, true, at),
            (
                3,
                expected(&[
                    ("cpu.time", Value::ULLong(14)),
                    ("cpu.haltpoll.fail.time", Value::ULLong(1_500_000_005)),
                    ("x.ratio", Value::Double(3.5)),
                ])
            )
        );
    }
}
