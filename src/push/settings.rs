//! What a push needs besides its protocol.

use std::time::Duration;

use hyper::http;
use thiserror::Error;
use tokio_rustls::rustls;

use super::transport::Transport;
use crate::pem::PemError;

/// Why there can be no push.
#[derive(Debug, Error)]
pub enum PushError {
    /// The endpoint is no URL that a request can have.
    #[error("cannot push to {url}")]
    Url {
        /// The URL.
        url: String,
        /// The fault.
        #[source]
        source: http::uri::InvalidUri,
    },
    /// A file of `otlp.tls` is not as it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Certificates that rustls cannot use, or that do not fit their key.
    #[error("cannot use the certificates of otlp.tls")]
    Certificate {
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
    /// `https`, but nothing to tell a good certificate by.
    #[error("this system has no CA certificates: install the package ca-certificates, or set otlp.tls.ca_file")]
    NoAuthorities,
}

/// What a push needs: a protocol, and how it is carried.
#[derive(Debug, Clone)]
pub struct Settings<P> {
    /// Where to.
    pub(super) url: String,
    /// How often.
    pub(super) interval: Duration,
    /// How long the receiver may take for one request.
    pub(super) timeout: Duration,
    /// How long all of it may take.
    pub(super) export_timeout: Duration,
    pub(super) protocol: P,
    pub(super) transport: Transport,
}

impl<P> Settings<P> {
    pub(super) fn announce(&self) {
        let Self { url, interval, .. } = self;
        let interval = humantime::format_duration(*interval);
        tracing::info!(url, %interval, version = env!("CARGO_PKG_VERSION"), "pushing metrics");
    }
}
