//! OTLP over HTTP and gRPC: what a push says, and what a receiver answers.
//!
//! `series` adds what only a sender knows (which series are new to the receiver, which have ended, what a delta is); the encoder
//! makes requests of that; `http` and `grpc` read the responses.

mod delta;
mod grpc;
mod http;
mod resource;
mod response;
mod series;
mod status;

use std::io;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

pub use series::Series;

use super::protocol::{Protocol, PushRequest, Requests};
use super::reply::Reply;
use super::settings::{PushError, Settings};
use super::transport::{Transport, Version};
use super::verdict::Verdict;
use super::{Batch, tls};
use crate::config::{self, Config, OtlpCompression, OtlpProtocol};
use crate::encode::Coding;
use crate::encode::otlp::{Chunk, Chunks, Dialect};

/// OTLP as configured.
#[derive(Debug, Clone)]
pub struct Otlp {
    dialect: Dialect,
    coding: Coding,
    carrier: Carrier,
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Http,
    Grpc,
}

impl Carrier {
    /// The body of a request with this message.
    fn body(self, coding: Coding, message: Vec<u8>) -> io::Result<Bytes> {
        let message = coding.apply(message)?;
        let body = match self {
            Self::Http => message,
            Self::Grpc => grpc::frame(&message, coding != Coding::Identity),
        };
        Ok(body.into())
    }
}

impl Protocol for Otlp {
    type Series = Series;
    type Part = Chunk;

    fn series(&self) -> Series {
        Series::new(&self.dialect)
    }

    fn names_other_series_than(&self, other: &Self) -> bool {
        self.dialect.names_other_series_than(&other.dialect)
    }

    fn requests(&self, series: &mut Series, batch: &mut Batch) -> Requests<Chunk> {
        let mut chunks = Chunks::new(self.dialect.clone(), series.parts(batch));
        let (coding, carrier) = (self.coding, self.carrier);
        let request = move |mut chunk: Chunk| -> io::Result<PushRequest<Chunk>> {
            let body = carrier.body(coding, std::mem::take(&mut chunk.body))?;
            Ok(PushRequest { body, points: chunk.points, part: chunk })
        };
        Box::new(std::iter::from_fn(move || chunks.next_chunk()).map(request))
    }

    fn empty_request(&self) -> io::Result<Bytes> {
        self.carrier.body(self.coding, Vec::new())
    }

    fn verdict(&self, reply: &Reply) -> Verdict {
        match self.carrier {
            Carrier::Http => http::verdict(reply),
            Carrier::Grpc => grpc::verdict(reply),
        }
    }
}

/// What `otlp` in the configuration says, or `None` if nothing is to be pushed. Reads the files that it names.
///
/// # Errors
/// If a file cannot be read or used, or no request can have the URL.
pub fn settings(config: &Config) -> Result<Option<Settings<Otlp>>, PushError> {
    let otlp = &config.otlp;
    let Some(url) = otlp.url() else { return Ok(None) };
    let uri: Uri = url.parse().map_err(|source| PushError::Url { url: url.clone(), source })?;
    let coding = match otlp.compression() {
        OtlpCompression::Gzip => Coding::Gzip,
        OtlpCompression::None => Coding::Identity,
    };
    let timeout = otlp.timeout();
    let tls = tls::client_config(&otlp.tls, uri.scheme_str() == Some("https"))?;
    let (carrier, version, uri) = match otlp.protocol() {
        OtlpProtocol::Grpc => (Carrier::Grpc, Version::Http2, with_path(uri, grpc::PATH)),
        OtlpProtocol::Http => (Carrier::Http, Version::Http1, uri),
    };
    let transport = Transport::new(uri, version, headers(otlp, carrier, coding), tls, timeout);
    let protocol = Otlp { dialect: dialect(config, None), coding, carrier };
    let (interval, export_timeout) = (otlp.interval(), otlp.export_timeout());
    Ok(Some(Settings { url, interval, timeout, export_timeout, protocol, transport }))
}

/// The same for the `target` of that name, whose settings are `config`: to the same receiver over the same connections.
#[must_use]
pub fn settings_of_target(settings: &Settings<Otlp>, config: &Config, target: &str) -> Settings<Otlp> {
    let mut settings = settings.clone();
    settings.protocol.dialect = dialect(config, Some(target));
    settings
}

/// How a push is written, of the local daemon or of the `target` of that name.
#[must_use]
pub fn dialect(config: &Config, target: Option<&str>) -> Dialect {
    let Config { otlp, libvirt, .. } = config;
    let resource = resource::attributes(&otlp.resource, &libvirt.uri, target);
    let domain_resource = otlp.domain_resource;
    Dialect { naming: otlp.naming, temporality: otlp.temporality(), resource, domain_resource }
}

fn with_path(uri: Uri, path: &'static str) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(hyper::http::uri::PathAndQuery::from_static(path));
    Uri::from_parts(parts).unwrap_or(uri)
}

/// Those of the configuration come after the user agent, so that it can be set, and before what makes a request what it is.
fn headers(otlp: &config::Otlp, carrier: Carrier, coding: Coding) -> HeaderMap {
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
    let (own, encoding): (&[(&str, &str)], _) = match carrier {
        Carrier::Http => {
            (&[("content-type", "application/x-protobuf"), ("accept-encoding", "gzip")], "content-encoding")
        }
        Carrier::Grpc => (
            &[("content-type", "application/grpc"), ("grpc-accept-encoding", grpc::ACCEPTED), ("te", "trailers")],
            "grpc-encoding",
        ),
    };
    let compressed = (coding == Coding::Gzip).then_some((encoding, Coding::Gzip.as_str()));
    for (name, value) in own.iter().copied().chain(compressed) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

#[cfg(test)]
mod tests;
