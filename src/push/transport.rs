//! One request and its answer, over HTTP or gRPC: what the receiver makes of it, and whether to try again.

use std::error::Error;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{self, HeaderMap};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use tokio_rustls::rustls::ClientConfig;

use super::grpc;

/// An answer is a few hundred bytes; no receiver gets to fill the host's memory.
const MAX_ANSWER: usize = 64 << 10;
/// As much of a receiver's own words as belongs in a log line.
const MAX_WORDS: usize = 200;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken, except for some points; then the receiver may say why.
    Taken { rejected: u64, words: String },
    /// It may be taken later.
    Later { after: Option<Duration>, reason: String },
    /// It will not be taken.
    Refused { reason: String },
}

/// A client with its connections.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    grpc: bool,
    headers: HeaderMap,
}

impl Transport {
    pub(super) fn new(uri: Uri, grpc: bool, headers: HeaderMap, tls: ClientConfig, timeout: Duration) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let mut builder = Client::builder(TokioExecutor::new());
        builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
        let client = if grpc {
            // A connection whose other end has silently gone is found out before the next push needs it.
            builder.http2_only(true).http2_keep_alive_interval(timeout).http2_keep_alive_timeout(timeout);
            builder.build(https.enable_http2().wrap_connector(http))
        } else {
            builder.build(https.enable_http1().wrap_connector(http))
        };
        let uri = if grpc { with_path(uri, grpc::PATH) } else { uri };
        Self { client, uri, grpc, headers }
    }

    /// The message as the body of a request; `compressed` is whether it is.
    pub(super) fn frame(&self, message: Vec<u8>, compressed: bool) -> Bytes {
        if self.grpc { grpc::frame(&message, compressed).into() } else { message.into() }
    }

    /// Sends a framed message. The future may be dropped at any time.
    pub(super) async fn send(&self, body: Bytes) -> Answer {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return Answer::Later { after: None, reason: sentence(&error) },
        };
        let (head, body) = response.into_parts();
        let body: Result<_, Box<dyn Error + Send + Sync>> = Limited::new(body, MAX_ANSWER).collect().await;
        let body = match body {
            Ok(body) => body,
            Err(error) => return Answer::Later { after: None, reason: format!("its answer broke off: {error}") },
        };
        let trailers = body.trailers().cloned();
        let response = Response::from_parts(head, body.to_bytes());
        if self.grpc { grpc::answer(&response, trailers.as_ref()) } else { http_answer(&response) }
    }
}

fn with_path(uri: Uri, path: &'static str) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    Uri::from_parts(parts).unwrap_or(uri)
}

fn http_answer(response: &Response<Bytes>) -> Answer {
    let status = response.status();
    let content_type = text(response.headers(), header::CONTENT_TYPE.as_str());
    let body = response.body();
    if status.is_success() {
        if body.is_empty() {
            return Answer::Taken { rejected: 0, words: String::new() };
        }
        // Whatever answers in another language has not understood: a login page, a server that is none of OTLP.
        if !content_type.starts_with("application/x-protobuf") {
            let reason = format!("it answered {status} with `{content_type}`, which no OTLP receiver does");
            return Answer::Refused { reason };
        }
        return match ExportMetricsServiceResponse::decode(body.clone()) {
            Ok(response) => taken(response),
            Err(error) => Answer::Refused { reason: format!("its answer is no OTLP: {error}") },
        };
    }
    let plain = content_type.starts_with("text/") || content_type.starts_with("application/json");
    let said = if plain { words(&String::from_utf8_lossy(body)) } else { String::new() };
    let reason =
        if said.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {said}") };
    if is_passing(status) {
        Answer::Later { after: retry_after(response.headers(), SystemTime::now()), reason }
    } else {
        Answer::Refused { reason }
    }
}

/// What OTLP says may be sent again.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// What a receiver that has decoded the request says of it.
pub(super) fn taken(response: ExportMetricsServiceResponse) -> Answer {
    let partial = response.partial_success.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_data_points).unwrap_or(0);
    Answer::Taken { rejected, words: words(&partial.error_message) }
}

/// Seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or(Duration::ZERO)),
    }
}

/// The text of a header field, or nothing.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The beginning of what the receiver says, on one line.
pub(super) fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// An error and its causes.
fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = source.source();
    }
    text
}
