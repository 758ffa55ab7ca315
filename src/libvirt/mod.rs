//! The only code that talks to libvirt, and the only unsafe code: calls in, owned and typed values out.
//!
//! Statistics go through the C functions of `virt::sys` directly: the safe call of crate `virt` leaks its reply.
#![allow(unsafe_code)]

mod addresses;
mod allocator;
mod callbacks;
mod connection;
mod disk_errors;
mod domain;
mod error;
mod event;
mod event_loop;
mod guest;
mod helper;
mod job;
mod keepalive;
mod keys;
mod list;
mod messages;
mod network;
mod node;
mod object;
mod objects;
mod param;
mod peer;
mod remedy;
mod reply;
mod snapshot;
mod sockets;
mod stats;
mod storage_pool;
mod stored;
mod text;
mod typed_params;
mod watch;

pub use addresses::{AddressSource, InterfaceAddresses};
pub use allocator::{give_back_free_pages, keep_memory_small};
pub use connection::{Access, Connection, Versions};
pub use disk_errors::DiskError;
pub use domain::{ControlState, Domain, DomainInfo, Identity};
pub use error::{ErrorClass, LibvirtError};
pub use event::{Event, EventKind, JobOutcome};
pub use job::job_operation;
pub use keys::KeyLists;
pub use list::DomainList;
pub use messages::Messages;
pub use network::Network;
pub use node::{Cell, Host, Topology};
pub use objects::{ObjectEvent, ObjectKind, ObjectSink};
pub use param::{DomainRecord, Param, ParamValue, Records};
#[doc(hidden)]
pub use reply::Reply;
pub use snapshot::{Checkpoint, Generation, Snapshot};
pub use sockets::OpenGuard;
pub use stats::{DomainSelection, StatsGroups, StatsRequest};
pub use storage_pool::{StoragePool, StoragePoolInfo};
pub use watch::{EventSink, Watched};
