//! Where the stages meet.
//!
//! [`Exporter`] collects and builds families, for every command. [`Service`] is what `serve` adds: the HTTP source with its body
//! cache, the push task and reloads. `status` remembers the last collection, `reload` the state of the configuration files, and
//! [`Systemd`] reports both.

mod body_cache;
mod exporter;
mod reload;
mod rounds;
mod service;
mod status;
mod systemd;

pub use body_cache::RenderError;
pub use exporter::{Collected, Exporter};
pub use reload::{ReadConfig, ReloadError};
pub use service::{Service, ServiceError};
pub use status::Summary;
pub use systemd::Systemd;
