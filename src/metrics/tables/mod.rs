//! The tables: every key that libvirt is known to send, by statistics group.

mod balloon;
mod block;
mod cpu_total;
mod dirtyrate;
mod interface;
mod iothread;
mod memory;
mod perf;
mod state;
mod vcpu;
mod vm;

use super::row::Table;
pub(super) use state::STATES;

/// All tables, in the order of the exposition.
pub(crate) const TABLES: [&Table; 11] = [
    &state::TABLE,
    &cpu_total::TABLE,
    &balloon::TABLE,
    &vcpu::TABLE,
    &interface::TABLE,
    &block::TABLE,
    &perf::TABLE,
    &iothread::TABLE,
    &memory::TABLE,
    &dirtyrate::TABLE,
    &vm::TABLE,
];
