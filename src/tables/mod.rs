//! Which metrics there are: constant data, one file for each group of statistics and for each other source.
//!
//! A group is added by its file and its line below. The file says all about it ([`GroupInfo`]): its name in the
//! configuration, where its values come from, and a row for each metric. Configuration, command line, `?collect[]`,
//! collection, build and documentation read it from there. A group of a background probe has no file here: its rows are
//! declared with the probe.
//!
//! This module knows libvirt's flags and nothing else of the program.

pub(crate) mod address;
mod balloon;
mod block;
pub(crate) mod collection;
mod cpu_total;
pub(crate) mod definition;
mod dirtyrate;
pub(crate) mod events;
pub(crate) mod exporter;
mod group;
pub(crate) mod host;
mod interface;
mod iothread;
mod kind;
pub(crate) mod limits;
mod memory;
mod perf;
mod pressure;
mod row;
mod state;
mod vcpu;
mod vcpu_kvm;
mod vm;

pub(crate) use dirtyrate::WITHOUT_METRIC;
pub(crate) use group::Rule;
pub use group::{GroupInfo, KeyPattern, Monitor, Source};
pub use kind::{Kind, Origin, Subject, Unit};
pub(crate) use row::{
    BYTES, BYTES_PER_SECOND, KIB, MILLIS, Metric, NONE, NUMBER, PERCENT, Row, SECONDS, Scale, Scope, Shape, Table, of,
};
pub(crate) use state::{REASONS, STATES};

// In the order of the documentation and of the exposition.
group::groups! {
    State = state::GROUP,
    CpuTotal = cpu_total::GROUP,
    Balloon = balloon::GROUP,
    Vcpu = vcpu::GROUP,
    Interface = interface::GROUP,
    Block = block::GROUP,
    Perf = perf::GROUP,
    Iothread = iothread::GROUP,
    Memory = memory::GROUP,
    Dirtyrate = dirtyrate::GROUP,
    Vm = vm::GROUP,
    VcpuKvm = vcpu_kvm::GROUP,
    Pressure = pressure::GROUP,
    Limits = limits::GROUP,
    Job = GroupInfo::of_probe("job", "The background job that a domain has now: a migration, a save, a backup and the like"),
    Snapshot = GroupInfo::of_probe("snapshot", "Snapshots and checkpoints of domains that have any"),
    Guest = GroupInfo {
        default: false,
        ..GroupInfo::of_probe("guest", "What guests report through their agent: file systems, load, users, vCPUs, operating system, clock; needs a read-write connection")
    },
    Address = address::GROUP,
    Host = GroupInfo::of_probe("host", "Memory, huge pages and CPUs of the host, by NUMA node too"),
    Pool = GroupInfo::of_probe("pool", "Storage pools, as of libvirt's last refresh of each"),
    Network = GroupInfo::of_probe("network", "libvirt's networks"),
}

/// The tables of rows without keys, in the order of the documentation.
pub(crate) static WITHOUT_KEYS: [&Table; 14] = [
    &collection::TABLE,
    &definition::STATE,
    &definition::BLOCK,
    &definition::INTERFACE,
    &limits::TABLE,
    &limits::OTHERS,
    &address::TABLE,
    &events::HOST,
    &events::POOLS,
    &events::NETWORKS,
    &events::STATE,
    &events::BLOCK,
    &host::TABLE,
    &exporter::TABLE,
];
