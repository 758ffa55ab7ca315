//! What a push needs of the configuration, ready for use.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Uri, http};
use thiserror::Error;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem;

use super::resource;
use super::transport::Transport;
use crate::config::{Config, Otlp, OtlpCompression, OtlpProtocol};
use crate::encode::Coding;
use crate::encode::otlp::Dialect;

/// Why there can be no push.
#[derive(Debug, Error)]
pub enum PushError {
    /// The endpoint is no URL that a request can have.
    #[error("cannot push to {url}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        #[source]
        source: http::uri::InvalidUri,
    },
    /// A file of `otlp.tls` cannot be read.
    #[error("cannot read otlp.tls.{key} {}", path.display())]
    Unreadable {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// What should be PEM is not.
    #[error("otlp.tls.{key} {} holds no {what} in PEM", path.display())]
    Pem {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What the parser says, if there is something to parse.
        #[source]
        source: Option<pem::Error>,
    },
    /// Certificates that rustls cannot use, or that do not fit their key.
    #[error("cannot use the certificates of otlp.tls")]
    Certificate {
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
    /// `https`, but nothing to tell a good certificate by.
    #[error(
        "this system trusts no certificate authority: install the package ca-certificates, or set otlp.tls.ca_file"
    )]
    NoAuthorities,
}

/// What a push needs.
#[derive(Debug)]
pub struct Settings {
    /// Where to.
    pub(super) url: String,
    /// How often.
    pub(super) interval: Duration,
    /// How long the receiver may take for one request.
    pub(super) timeout: Duration,
    /// How long all of it may take.
    pub(super) export_timeout: Duration,
    pub(super) coding: Coding,
    pub(super) dialect: Dialect,
    pub(super) transport: Transport,
}

impl Settings {
    /// What `otlp` says, or `None` if nothing is to be pushed. Reads the files that it names.
    pub fn new(config: &Config) -> Result<Option<Self>, PushError> {
        let otlp = &config.otlp;
        let Some(url) = otlp.url() else { return Ok(None) };
        let uri: Uri = url.parse().map_err(|source| PushError::Url { url: url.clone(), source })?;
        let coding = match otlp.compression() {
            OtlpCompression::Gzip => Coding::Gzip,
            OtlpCompression::None => Coding::Identity,
        };
        let timeout = otlp.timeout();
        let tls = super::tls::client_config(&otlp.tls, uri.scheme_str() == Some("https"))?;
        let grpc = otlp.protocol() == OtlpProtocol::Grpc;
        let transport = Transport::new(uri, grpc, headers(otlp, grpc, coding), tls, timeout);
        Ok(Some(Self {
            url,
            interval: otlp.interval(),
            timeout,
            export_timeout: otlp.export_timeout(),
            coding,
            dialect: dialect(config),
            transport,
        }))
    }

    pub(super) fn announce(&self) {
        let Self { url, interval, .. } = self;
        let interval = humantime::format_duration(*interval);
        tracing::info!(url, %interval, version = env!("CARGO_PKG_VERSION"), "pushing metrics");
    }
}

/// How a push is written.
#[must_use]
pub fn dialect(config: &Config) -> Dialect {
    let Config { otlp, libvirt, .. } = config;
    let resource = resource::attributes(&otlp.resource, &libvirt.uri);
    let domain_resource = otlp.domain_resource;
    Dialect { naming: otlp.naming, temporality: otlp.temporality(), resource, domain_resource }
}

/// Those of the configuration come last, so that `user-agent` can be set, and nothing that makes a request what it is.
fn headers(otlp: &Otlp, grpc: bool, coding: Coding) -> HeaderMap {
    const AGENT: &str = concat!("OTel-OTLP-Exporter-domstats/", env!("CARGO_PKG_VERSION"));
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in otlp.headers.iter().flatten() {
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    let (content, encoding, accept, accepted) = if grpc {
        ("application/grpc", "grpc-encoding", "grpc-accept-encoding", super::grpc::ACCEPTED)
    } else {
        ("application/x-protobuf", "content-encoding", "accept-encoding", "gzip")
    };
    let mut own = vec![("content-type", content), (accept, accepted)];
    if grpc {
        own.push(("te", "trailers"));
    }
    if coding == Coding::Gzip {
        own.push((encoding, Coding::Gzip.as_str()));
    }
    for (name, value) in own {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}
