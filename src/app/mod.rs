//! Where the stages meet.
//!
//! [`Exporter`] collects and builds families, for every command. [`Service`] is what `serve` adds: the HTTP source, the push task,
//! reloads, and the daemons of `/probe` (`targets`). `status` remembers the last collection, `reload` the state of the configuration files, and
//! [`Systemd`] reports both.

mod body_cache;
mod exporter;
mod pushing;
mod reload;
mod rounds;
mod service;
mod sockets;
mod status;
mod systemd;
mod targets;

pub use body_cache::RenderError;
pub use exporter::{Collected, Exporter};
pub use reload::{ReadConfig, ReloadError};
pub use service::{Service, ServiceError};
pub use sockets::Search;
pub use status::Summary;
pub use systemd::Systemd;
pub use targets::{config_of_target, configs_of_targets};
