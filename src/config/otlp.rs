//! The section `otlp`: where metrics are pushed, and how.
//!
//! A key that is not in the file is taken from the environment (see `environment`), and from the defaults here if it is not
//! there either. Hence every key is an `Option`, and a method of the same name says what is in effect.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hyper::Uri;
use serde::{Deserialize, Serialize};

use super::duration::Span;
use super::error::ValueError;
use super::value::{self, text};
use super::word::words;

words!(
    /// How OTLP messages travel.
    #[derive(Default)]
    OtlpProtocol, "protocol" {
        /// A POST for each message.
        #[default]
        Http = "http/protobuf",
        /// gRPC.
        Grpc = "grpc",
    }
);

words!(
    /// How OTLP messages are compressed.
    #[derive(Default)]
    OtlpCompression, "compression" {
        /// What every receiver can read.
        #[default]
        Gzip = "gzip",
        /// Not at all.
        None = "none",
    }
);

words!(
    /// Since when a counter that is pushed counts.
    #[derive(Default)]
    Temporality, "temporality" {
        /// Since the counted thing began.
        #[default]
        Cumulative = "cumulative",
        /// Since the push before.
        Delta = "delta",
    }
);

words!(
    /// What metrics and attributes are called in a push.
    #[derive(Default)]
    Naming, "naming" {
        /// As OpenTelemetry's conventions have it.
        #[default]
        Otel = "otel",
        /// As at `/metrics`, for dashboards and rules made for that.
        Prometheus = "prometheus",
    }
);

/// Where OTLP is pushed: an `http` or `https` URL, or `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri = Uri::from_str(&url).map_err(|_| ValueError::Endpoint { hidden: hidden(text) })?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => Err(ValueError::EndpointCredentials),
            Some(authority) if known && !authority.host().is_empty() => Ok(Self(text.to_owned())),
            _ => Err(ValueError::Endpoint { hidden: hidden(text) }),
        }
    }
}

/// What stands before an `@` may be a password.
fn hidden(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("<hidden>@{host}"))
}

text!(Endpoint, "a URL");

/// The name of a header, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(String);

impl FromStr for HeaderName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = hyper::header::HeaderName::from_str(text.trim());
        name.map(|name| Self(name.as_str().to_owned())).map_err(|_| ValueError::HeaderName { name: text.to_owned() })
    }
}

text!(HeaderName, "the name of a header");

/// The value of a header, which may be a password: no log shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderSecret(String);

impl Debug for HeaderSecret {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderSecret(..)")
    }
}

impl FromStr for HeaderSecret {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::HeaderSecret)
        }
    }
}

text!(HeaderSecret, "the value of a header");

/// Header fields of every request.
pub type Headers = BTreeMap<HeaderName, HeaderSecret>;

/// Where metrics are pushed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `otlp`")]
pub struct Otlp {
    /// Whether metrics are pushed.
    pub enabled: Option<bool>,
    /// The receiver; without one nothing is pushed.
    pub endpoint: Option<Endpoint>,
    /// How messages travel.
    pub protocol: Option<OtlpProtocol>,
    /// Whether a gRPC endpoint without a scheme is spoken to without TLS.
    pub insecure: Option<bool>,
    /// Header fields of every request.
    pub headers: Option<Headers>,
    /// How often there is a push.
    pub interval: Option<Span>,
    /// How long the receiver may take to answer one request.
    pub timeout: Option<Span>,
    /// How long a push may take with all its requests.
    pub export_timeout: Option<Span>,
    /// How requests are compressed.
    pub compression: Option<OtlpCompression>,
    /// Since when counters count.
    pub temporality: Option<Temporality>,
    /// What metrics and attributes are called.
    pub naming: Naming,
    /// Whether each domain is a separate resource.
    pub domain_resource: bool,
    /// How connections are encrypted.
    pub tls: OtlpTls,
    /// Attributes of the resource, over those that the exporter finds out.
    #[serde(deserialize_with = "value::texts")]
    pub resource: BTreeMap<String, String>,
    /// Which keys were taken from the environment, each with its variable.
    #[serde(skip)]
    pub environment: BTreeMap<&'static str, &'static str>,
}

/// How connections to the receiver are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `otlp.tls`")]
pub struct OtlpTls {
    /// The CAs of the receiver's certificate; those of the system if there are none.
    #[serde(deserialize_with = "value::file_path")]
    pub ca_file: Option<PathBuf>,
    /// The exporter's own certificate.
    #[serde(deserialize_with = "value::file_path")]
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    #[serde(deserialize_with = "value::file_path")]
    pub key_file: Option<PathBuf>,
}

impl OtlpTls {
    /// Paths are relative to the configuration file's folder.
    pub(super) fn resolve(&mut self, folder: &Path) {
        for file in [&mut self.ca_file, &mut self.cert_file, &mut self.key_file].into_iter().flatten() {
            *file = folder.join(&file);
        }
    }
}

impl Otlp {
    /// The receiver, if metrics are to be pushed.
    #[must_use]
    pub fn receiver(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref().filter(|_| self.enabled.unwrap_or(true))
    }

    /// How messages travel.
    #[must_use]
    pub fn protocol(&self) -> OtlpProtocol {
        self.protocol.unwrap_or_default()
    }

    /// How often there is a push: every minute, if nothing else is said.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval.map_or(Duration::from_secs(60), Duration::from)
    }

    /// How long the receiver may take to answer one request: ten seconds, if nothing else is said.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(10), Duration::from)
    }

    /// How long a push may take with all its requests: half a minute if nothing else is said, and never longer than the
    /// interval, since the next push has newer values.
    #[must_use]
    pub fn export_timeout(&self) -> Duration {
        self.export_timeout.map_or(Duration::from_secs(30), Duration::from).min(self.interval())
    }

    /// How requests are compressed.
    #[must_use]
    pub fn compression(&self) -> OtlpCompression {
        self.compression.unwrap_or_default()
    }

    /// Since when counters count.
    #[must_use]
    pub fn temporality(&self) -> Temporality {
        self.temporality.unwrap_or_default()
    }

    /// The full URL of the receiver, if metrics are to be pushed. Without a path it is the one that OTLP over HTTP has;
    /// without a scheme it is HTTP, or with gRPC what [`Otlp::insecure`] says.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let text = self.receiver()?.as_str();
        let tls = self.protocol() == OtlpProtocol::Grpc && !self.insecure.unwrap_or(false);
        let url = match (text.contains("://"), tls) {
            (true, _) => text.to_owned(),
            (false, true) => format!("https://{text}"),
            (false, false) => format!("http://{text}"),
        };
        let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        Some(if has_path || self.protocol() == OtlpProtocol::Grpc { url } else { url + "/v1/metrics" })
    }

    /// The same without secrets.
    pub(super) fn redact(&mut self) {
        for value in self.headers.iter_mut().flat_map(BTreeMap::values_mut) {
            *value = HeaderSecret("<hidden>".to_owned());
        }
    }

    /// A key whose value does not go together with others, and why.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        if self.enabled == Some(true) && self.endpoint.is_none() {
            let fault = "true, but there is no endpoint to push to, expected one in otlp.endpoint, \
                         OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT";
            return Some(("otlp.enabled", fault.to_owned()));
        }
        let needs = |other: &str| format!("a client certificate needs otlp.tls.{other} too");
        match (&self.tls.cert_file, &self.tls.key_file) {
            (Some(_), None) => Some(("otlp.tls.cert_file", needs("key_file"))),
            (None, Some(_)) => Some(("otlp.tls.key_file", needs("cert_file"))),
            _ => None,
        }
    }
}
