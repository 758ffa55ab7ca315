//! One request and its answer, over HTTP or gRPC: what the receiver makes of it, and whether to try again.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderMap;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::ClientConfig;

use super::reply::Reply;
use super::{grpc, http};

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken, except for some points; then the receiver may say why.
    Taken { rejected: u64, words: String },
    /// It was not taken, and may be taken later.
    Later { after: Option<Duration>, reason: String },
    /// It may have been taken: it was sent, and no answer says what became of it.
    Lost { reason: String },
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
        let reply = match self.client.request(request).await {
            Ok(response) => Reply::read(response).await,
            Err(error) if was_never_sent(&error) => {
                return Answer::Later { after: None, reason: sentence(&error) };
            }
            Err(error) => return Answer::Lost { reason: sentence(&error) },
        };
        if self.grpc { grpc::answer(&reply) } else { http::answer(&reply) }
    }
}

fn with_path(uri: Uri, path: &'static str) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    Uri::from_parts(parts).unwrap_or(uri)
}

/// Whether the receiver cannot have seen the request.
fn was_never_sent(error: &legacy::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    error.is_connect() || cause.is_some_and(hyper::Error::is_canceled)
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
