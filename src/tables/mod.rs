//! Which metrics there are: constant data, one file for each group of statistics and for each other source.
//!
//! A group is added by its file and its line below. The file says all about it ([`GroupInfo`]): its name in the
//! configuration, where its values come from, and a row for each metric. Configuration, command line, `?collect[]`,
//! collection, build and documentation read it from there.
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
mod guest;
pub(crate) mod host;
mod interface;
mod iothread;
mod job;
mod kind;
pub(crate) mod limits;
mod memory;
mod network;
mod perf;
mod pool;
mod pressure;
mod row;
mod snapshot;
mod state;
mod vcpu;
mod vcpu_kvm;
mod vm;

pub(crate) use dirtyrate::WITHOUT_METRIC;
pub(crate) use group::Rule;
pub use group::{GroupInfo, KeyPattern, Monitor, Source};
pub use kind::{Kind, Origin, Subject, Unit};
pub(crate) use row::{Metric, Row, Scale, Scope, Shape, Table};
pub(crate) use state::{REASONS, STATES};

// In the order of the documentation and of the exposition.
group::groups! {
    State = state,
    CpuTotal = cpu_total,
    Balloon = balloon,
    Vcpu = vcpu,
    Interface = interface,
    Block = block,
    Perf = perf,
    Iothread = iothread,
    Memory = memory,
    Dirtyrate = dirtyrate,
    Vm = vm,
    VcpuKvm = vcpu_kvm,
    Pressure = pressure,
    Limits = limits,
    Job = job,
    Snapshot = snapshot,
    Guest = guest,
    Address = address,
    Host = host,
    Pool = pool,
    Network = network,
}

/// The tables of rows without keys, in the order of the documentation.
pub(crate) static WITHOUT_KEYS: [&Table; 12] = [
    &collection::TABLE,
    &definition::STATE,
    &definition::BLOCK,
    &definition::INTERFACE,
    &limits::TABLE,
    &limits::OTHERS,
    &address::TABLE,
    &events::HOST,
    &events::STATE,
    &events::BLOCK,
    &host::TABLE,
    &exporter::TABLE,
];
