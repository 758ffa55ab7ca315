//! The HTTP server: which path answers what, to whom, and how much of it.
//!
//! [`bind`] opens the sockets, so that a bad address is an error at start; [`serve`] runs until it is told to stop.
//! A request passes the rate limit and the password ([`Security`]), then its route (`site`); `negotiate`, `coding` and
//! `query` say what of an exposition the scraper gets and how. `server`, `connections` and `stream` keep clients that are
//! slow, silent or too many from getting in each other's way; `limits` has every limit in a table. The rest of the program is known here only as a [`Source`].

mod alive;
mod auth;
mod body;
mod client_certificates;
mod coding;
mod connection;
mod connections;
mod descriptors;
mod landing;
mod landing_targets;
mod limits;
mod listen;
mod negotiate;
mod overview;
mod pace;
mod peer;
mod places;
mod probe;
mod pulse;
mod query;
mod rate_limit;
mod route;
mod security;
mod server;
mod site;
mod stream;
mod tls;
mod turns;
mod unix;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use alive::{Answer, answers, ask};
pub use body::Content;
pub use descriptors::{TooFewDescriptors, probe_connections, raise_descriptor_limit};
pub use listen::{Listener, WebError, bind, try_address};
pub use negotiate::{Negotiated, negotiate};
pub use overview::{Connection, Overview, Probe, Push, Quarantined, Target, TargetState};
pub use probe::{Daemon, ProbeError, ProbeRequest};
pub use pulse::Pulse;
pub use query::{Query, QueryError, parse_query};
pub use security::{Loaded, Security, SecurityError};
pub use server::serve;
pub use tls::TlsError;

use crate::collect::Selection;
use crate::config::{Config, MetricNaming};
use crate::encode::{Coding, Format};

/// What an exposition looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Its format.
    pub format: Format,
    /// How it is compressed.
    pub coding: Coding,
    /// Whose names the metrics have.
    pub naming: MetricNaming,
}

/// What the server serves.
pub trait Source: Send + Sync + 'static {
    /// A daemon to collect from.
    type Daemon: Send + Sync;
    /// What an exposition is made from.
    type Collected: Send;
    /// Why there is nothing to serve; its text, with its causes, is the body of the response.
    type Error: Error + Send;

    /// The daemon of `/metrics`.
    fn local(&self) -> Daemon<Self::Daemon>;

    /// A daemon of `/probe`, to which connections are opened unless there are any.
    ///
    /// # Errors
    /// If there is no such target, or no connection left for it.
    fn probe(&self, request: &ProbeRequest) -> Result<Daemon<Self::Daemon>, ProbeError>;

    /// The targets of `/probe` in the form of Prometheus' HTTP service discovery: JSON, compressed by `coding`. They are scraped
    /// at `address`, which is how the client has reached this server.
    fn probe_targets(&self, address: &str, coding: Coding) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;

    /// Collects from `daemon` what `selection` wants and what arrives `within` that time. That libvirt does not answer
    /// is no error, but something to show. A scraper that hangs up does not end it.
    fn collect(
        &self,
        daemon: Arc<Self::Daemon>,
        within: Duration,
        selection: Selection,
    ) -> impl Future<Output = Self::Collected> + Send;

    /// The exposition of what was collected. An error becomes a 500.
    fn render(
        &self,
        collected: Self::Collected,
        form: Form,
    ) -> impl Future<Output = Result<Content, Self::Error>> + Send;

    /// The guests as targets, in the form of Prometheus' HTTP service discovery: JSON, compressed by `coding`. `timeout` is how
    /// long the client will wait, if it says so. A client that hangs up does not end it.
    ///
    /// An error says why there is no complete list, and becomes a 503. Called only while `service_discovery.enabled` is set.
    fn target_groups(
        &self,
        coding: Coding,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;

    /// `Ok` once connected to libvirt and collected once; else why not.
    fn ready(&self) -> Result<(), Self::Error>;

    /// What the landing page shows.
    fn overview(&self) -> Overview;

    /// The configuration in effect, which is asked for with every request.
    fn config(&self) -> Arc<Config>;

    /// Reloads the configuration; on an error nothing has changed.
    fn reload(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Counts an answer, for `libvirt_exporter_http_requests_total{path,code}`. `route` is `/`, `/metrics` and `/sd` (wherever
    /// they are configured to be), `/probe`, `/probe-targets`, one of the endpoints below `/-/`, or `other`, never a path that a client chose.
    fn count_request(&self, route: &'static str, code: u16);
}

#[cfg(test)]
mod tests;
