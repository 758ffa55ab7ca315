//! One request and its answer, over HTTP or gRPC: what the receiver makes of it, and whether to try again.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderMap;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};
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
    client: Client<HttpsConnector<HttpConnector>, Outgoing>,
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

    /// Sends a framed message, and waits until `limit` for the answer. The future may be dropped at any time.
    pub(super) async fn send(&self, message: Bytes, limit: Instant) -> Answer {
        let sent = Arc::new(AtomicBool::new(false));
        let mut request = Request::new(Outgoing { data: Some(message), sent: Arc::clone(&sent) });
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let exchange = async { Ok::<_, legacy::Error>(Reply::read(self.client.request(request).await?).await) };
        let reason = match timeout_at(limit, exchange).await {
            Ok(Ok(reply)) => return if self.grpc { grpc::answer(&reply) } else { http::answer(&reply) },
            Ok(Err(error)) => sentence(&error),
            Err(_) => "it did not answer in time".to_owned(),
        };
        if sent.load(Ordering::Relaxed) { Answer::Lost { reason } } else { Answer::Later { after: None, reason } }
    }
}

/// A body that notes when a connection takes it: before that the receiver cannot have seen the request.
#[derive(Debug)]
struct Outgoing {
    data: Option<Bytes>,
    sent: Arc<AtomicBool>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.sent.store(true, Ordering::Relaxed);
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len).try_into().unwrap_or(u64::MAX))
    }
}

fn with_path(uri: Uri, path: &'static str) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    Uri::from_parts(parts).unwrap_or(uri)
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::OtlpTls;

    #[tokio::test]
    async fn only_what_was_sent_may_have_been_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}/", listener.local_addr().expect("an address")).parse().expect("a URI");
        let tls = crate::push::tls::client_config(&OtlpTls::default(), false).expect("no files");
        let transport = Transport::new(uri, false, HeaderMap::new(), tls, Duration::from_secs(60));
        let send = |wait| transport.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_millis(wait));
        // The kernel takes it, no program answers.
        assert!(matches!(send(500).await, Answer::Lost { .. }));
        drop(listener);
        assert!(matches!(send(60_000).await, Answer::Later { .. }));
    }
}
