//! Templates: from a few numbers (vCPUs, disks, NICs, ...) to the parameters libvirt would send for such a domain.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod block;
mod cpu;
mod names;
mod rest;

pub use names::{KVM_VCPU_STATS, KVM_VM_STATS, PERF_EVENTS};

use crate::params::Value;

/// The shape of a domain. Every field is about what libvirt reports for it; the values are made from the domain's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Template {
    /// vCPUs, all of them online.
    pub vcpus: u32,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Disks: `vda`, `vdb`, ...
    pub disks: u32,
    /// Layers below the top one of each disk; they show with the `BACKING` flag.
    pub backing_layers: u32,
    /// NICs with a tap device.
    pub nics: u32,
    /// NICs without one (user mode, passed-through devices): counted by `net.count`, but without a record.
    pub nics_without_tap: u32,
    /// iothreads; libvirt reports them unsorted, the highest id first.
    pub iothreads: u32,
    /// How many of [`KVM_VCPU_STATS`] each vCPU has; 0 is a domain without KVM.
    pub kvm_vcpu_stats: u32,
    /// How many of [`KVM_VM_STATS`] the domain has.
    pub kvm_vm_stats: u32,
    /// Whether `cpu.haltpoll.*` is reported (libvirt 7.6).
    pub halt_poll: bool,
    /// Whether the guest's balloon driver reports.
    pub guest_balloon: bool,
    /// Whether `vcpu.<n>.halted` is reported.
    pub vcpu_halted: bool,
    /// Whether every perf event is enabled.
    pub perf_events: bool,
    /// Cache monitors (`cpu.cache.monitor.*`), of two banks each.
    pub cache_monitors: u32,
    /// Energy monitors (`cpu.energy.monitor.*`, libvirt 12.4), of two packages each.
    pub energy_monitors: u32,
    /// Memory bandwidth monitors, of two nodes each.
    pub memory_monitors: u32,
    /// The state of the dirty rate calculation.
    pub dirty_rate: DirtyRate,
    /// Whether `block.<n>.threshold` is armed.
    pub block_threshold: bool,
    /// Whether `block.<n>.limits.*` is reported (libvirt 11.10).
    pub block_limits: bool,
    /// The intervals, in seconds, of the timed groups of each disk (libvirt 11.10).
    pub timed_groups: Vec<u64>,
    /// Bins of the latency histograms of each disk (libvirt 12.1).
    pub latency_histogram_bins: u32,
    /// Whether iothreads report `poll-weight` (libvirt 12.7); their `poll-grow` and `poll-shrink` are ULLONG then.
    pub poll_weight: bool,
    /// Whether the definition has OpenStack Nova's metadata.
    pub nova: bool,
    /// The libosinfo id in the definition's metadata.
    pub osinfo: Option<String>,
    /// Whether the definition has a guest agent channel.
    pub agent: bool,
}

/// How far the dirty rate calculation of a domain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirtyRate {
    /// QEMU has no such command; no key is reported.
    Unsupported,
    /// Never started.
    #[default]
    Unstarted,
    /// Under way.
    Measuring,
    /// Done, by page sampling.
    Measured,
    /// Done, by dirty ring, which knows each vCPU's rate.
    MeasuredPerVcpu,
}

impl Default for Template {
    /// The same as [`Template::small`].
    fn default() -> Self {
        Self {
            vcpus: 1,
            memory_kib: 1 << 20,
            disks: 1,
            backing_layers: 0,
            nics: 1,
            nics_without_tap: 0,
            iothreads: 0,
            kvm_vcpu_stats: 0,
            kvm_vm_stats: 0,
            halt_poll: true,
            guest_balloon: false,
            vcpu_halted: false,
            perf_events: false,
            cache_monitors: 0,
            energy_monitors: 0,
            memory_monitors: 0,
            dirty_rate: DirtyRate::default(),
            block_threshold: false,
            block_limits: false,
            timed_groups: Vec::new(),
            latency_histogram_bins: 0,
            poll_weight: false,
            nova: false,
            osinfo: None,
            agent: false,
        }
    }
}

impl Template {
    /// One vCPU, disk and NIC, emulated: 47 parameters, no KVM statistics.
    #[must_use]
    pub fn small() -> Self {
        Self::default()
    }

    /// What clouds run most: 4 vCPUs with KVM statistics, 2 disks, 1 NIC. Exactly 270 parameters.
    #[must_use]
    pub fn medium() -> Self {
        Self {
            vcpus: 4,
            memory_kib: 8 << 20,
            disks: 2,
            kvm_vcpu_stats: 43,
            kvm_vm_stats: 15,
            guest_balloon: true,
            nova: true,
            agent: true,
            ..Self::default()
        }
    }

    /// A big one: 16 vCPUs with every KVM statistic, 4 disks with a backing file each, 2 NICs, 2 iothreads.
    #[must_use]
    pub fn large() -> Self {
        Self {
            vcpus: 16,
            memory_kib: 64 << 20,
            disks: 4,
            backing_layers: 1,
            nics: 2,
            iothreads: 2,
            kvm_vcpu_stats: 44,
            kvm_vm_stats: 16,
            osinfo: Some("http://debian.org/debian/12".to_owned()),
            ..Self::medium()
        }
    }

    /// Every key group up to libvirt 12.7, as no real domain has them together.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            vcpus: 2,
            memory_kib: 2 << 20,
            disks: 2,
            backing_layers: 2,
            nics: 2,
            nics_without_tap: 1,
            iothreads: 2,
            kvm_vcpu_stats: 44,
            kvm_vm_stats: 16,
            halt_poll: true,
            guest_balloon: true,
            vcpu_halted: true,
            perf_events: true,
            cache_monitors: 1,
            energy_monitors: 1,
            memory_monitors: 1,
            dirty_rate: DirtyRate::MeasuredPerVcpu,
            block_threshold: true,
            block_limits: true,
            timed_groups: vec![1, 10],
            latency_histogram_bins: 4,
            poll_weight: true,
            nova: true,
            osinfo: Some("http://debian.org/debian/12".to_owned()),
            agent: true,
        }
    }

    /// The template with this name: `small`, `medium`, `large` or `everything`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "small" => Some(Self::small()),
            "medium" => Some(Self::medium()),
            "large" => Some(Self::large()),
            "everything" => Some(Self::everything()),
            _ => None,
        }
    }

    /// The parameters of a domain of this shape, all groups, in libvirt's order.
    pub(crate) fn stats(&self, subject: &Subject<'_>) -> Vec<Stat> {
        let mut out = Stats { seed: fnv(subject.name.as_bytes()), list: Vec::new() };
        out.fixed("state.state", Value::Int(subject.state.0));
        out.fixed("state.reason", Value::Int(subject.state.1));
        cpu::cpu_total(self, subject, &mut out);
        rest::balloon(self, subject, &mut out);
        cpu::vcpu(self, subject, &mut out);
        if subject.active {
            rest::interface(self, subject, &mut out);
        }
        block::block(self, subject, &mut out);
        if subject.active {
            rest::perf(self, &mut out);
            rest::iothread(self, &mut out);
            rest::memory(self, &mut out);
            rest::dirty_rate(self, &mut out);
            cpu::vm(self, &mut out);
        }
        out.list
    }
}

/// The domain that parameters are made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// Its name, from which all values follow.
    pub(crate) name: &'a str,
    /// Whether it is active.
    pub(crate) active: bool,
    /// State and reason.
    pub(crate) state: (i32, i32),
    /// Whether the lower layers of disks are asked for.
    pub(crate) backing: bool,
    /// The number of its first tap device.
    pub(crate) first_tap: u32,
}

/// A parameter with the speed at which its value grows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stat {
    /// The key.
    pub(crate) key: String,
    /// The value when the daemon starts.
    pub(crate) value: Value,
    /// By how much it grows in a second of the scenario's clock.
    pub(crate) per_second: u32,
}

impl Stat {
    /// By how much an integer has grown at a time of the scenario's clock.
    pub(crate) fn grown(&self, at: Duration) -> u64 {
        grown(self.per_second, at)
    }
}

/// What a counter of this speed gains in a time.
pub(crate) fn grown(per_second: u32, at: Duration) -> u64 {
    let seconds = at.as_secs().wrapping_mul(u64::from(per_second));
    let rest = u64::from(at.subsec_nanos()) * u64::from(per_second);
    seconds.wrapping_add(rest / 1_000_000_000)
}

/// The parameters made so far.
struct Stats {
    seed: u64,
    list: Vec<Stat>,
}

impl Stats {
    fn fixed(&mut self, key: impl Into<String>, value: Value) {
        self.list.push(Stat { key: key.into(), value, per_second: 0 });
    }

    fn uint(&mut self, key: impl Into<String>, value: u32) {
        self.fixed(key, Value::UInt(value));
    }

    fn gauge(&mut self, key: impl Into<String>, value: u64) {
        self.fixed(key, Value::ULLong(value));
    }

    fn string(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.fixed(key, Value::String(value.into()));
    }

    /// A counter that starts somewhere between one and a thousand seconds of its growth.
    fn counter(&mut self, key: impl Into<String>, per_second: u32) {
        let key = key.into();
        let seconds = 1 + (self.seed ^ fnv(key.as_bytes())) % 1000;
        self.list.push(Stat { key, value: Value::ULLong(u64::from(per_second) * seconds + seconds % 7), per_second });
    }
}

/// FNV-1a with a final mix: spreads names evenly, and gives the same values on every machine and run.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

/// The target name of a disk: `vda` to `vdz`, then `vdaa`.
pub(crate) fn disk_target(index: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = index;
    loop {
        letters.push(char::from_u32(u32::from('a') + rest % 26).unwrap_or('a'));
        if rest < 26 {
            break;
        }
        rest = rest / 26 - 1;
    }
    letters.push('d');
    letters.push('v');
    letters.iter().rev().collect()
}

/// The file of one layer of a disk; layer 0 is the top one.
pub(crate) fn disk_path(domain: &str, target: &str, layer: u32) -> String {
    match layer {
        0 => format!("/var/lib/libvirt/images/{domain}-{target}.qcow2"),
        _ => format!("/var/lib/libvirt/images/{domain}-{target}.base{layer}.qcow2"),
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
