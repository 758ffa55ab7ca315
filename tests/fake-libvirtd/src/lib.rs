#![doc = include_str!("../README.md")]

mod connection;
pub mod control;
pub mod counters;
mod daemon;
mod definition;
pub mod domain;
mod domains;
pub mod event;
mod events;
pub mod fault;
pub mod frame;
mod lifecycle;
pub mod params;
pub mod procedure;
pub mod scenario;
mod scenario_file;
mod serve;
mod shared;
pub mod stats;
pub mod template;
pub mod xdr;

pub use counters::Counters;
pub use daemon::{FakeLibvirtd, StartError};
pub use domain::{Domain, DomainState};
pub use domains::UnknownDomain;
pub use event::{Event, Identity, ObjectEvent};
pub use events::Events;
pub use fault::{Faults, ParamFault, RecordFault, ReplyFault, Times};
pub use lifecycle::{Change, Domains};
pub use procedure::Procedure;
pub use scenario::{Clock, Host, Limits, Network, Pool, Scenario, ScenarioBuilder};
pub use scenario_file::{ScenarioError, parse_version};
pub use template::{DirtyRate, Template};
