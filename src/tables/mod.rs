//! Which metrics there are: constant data, one file for each group of statistics.
//!
//! A group is added by its file and its line below. The file says all about it ([`GroupInfo`]): its name in the
//! configuration, what libvirt is asked for, and a row for each metric. Configuration, command line, `?collect[]`,
//! collection, build and documentation read it from there.
//!
//! This module knows libvirt's flags and nothing else of the program.

mod balloon;
mod block;
mod cpu_total;
mod dirtyrate;
mod group;
mod interface;
mod iothread;
mod kind;
mod memory;
mod perf;
mod row;
mod state;
mod vcpu;
mod vcpu_kvm;
mod vm;

pub(crate) use group::Rule;
pub use group::{GroupInfo, KeyPattern, Monitor};
pub use kind::{Kind, Origin, Unit};
pub(crate) use row::{Row, Scale, Scope, Shape};
pub(crate) use state::STATES;

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
}
