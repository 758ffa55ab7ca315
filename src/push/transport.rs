//! The HTTP client: one request and its response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderMap;
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::ClientConfig;

use super::reply::Reply;
use crate::errors::one_line;

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// Whether the receiver may have seen the request.
    pub(super) sent: bool,
}

/// Which HTTP the receiver speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A client with its connections, which its clones share.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Outgoing>,
    uri: Uri,
    headers: HeaderMap,
}

impl Transport {
    pub(super) fn new(uri: Uri, version: Version, headers: HeaderMap, tls: ClientConfig, timeout: Duration) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let mut builder = Client::builder(TokioExecutor::new());
        builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
        let client = if version == Version::Http2 {
            // A connection whose other end has silently gone is found out before the next push needs it.
            builder.http2_only(true).http2_keep_alive_interval(timeout).http2_keep_alive_timeout(timeout);
            builder.build(https.enable_http2().wrap_connector(http))
        } else {
            builder.build(https.enable_http1().wrap_connector(http))
        };
        Self { client, uri, headers }
    }

    /// Sends a request with this body, and waits until `limit` for the response. The future may be dropped at any time.
    pub(super) async fn send(&self, body: Bytes, limit: Instant) -> Result<Reply, Failure> {
        let sent = Arc::new(AtomicBool::new(false));
        let mut request = Request::new(Outgoing { data: Some(body), sent: Arc::clone(&sent) });
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let exchange = async { Ok::<_, legacy::Error>(Reply::read(self.client.request(request).await?).await) };
        let reason = match timeout_at(limit, exchange).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => one_line(&error),
            Err(_) => "it did not answer in time".to_owned(),
        };
        Err(Failure { reason, sent: sent.load(Ordering::Relaxed) })
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::OtlpTls;

    #[tokio::test]
    async fn only_a_sent_request_may_have_been_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}/", listener.local_addr().expect("an address")).parse().expect("a URI");
        let tls = crate::push::tls::client_config(&OtlpTls::default(), false).expect("no files");
        let transport = Transport::new(uri, Version::Http1, HeaderMap::new(), tls, Duration::from_secs(60));
        let send = |wait| transport.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_millis(wait));
        // The kernel takes it, no program answers.
        assert!(send(500).await.is_err_and(|failure| failure.sent));
        drop(listener);
        assert!(send(60_000).await.is_err_and(|failure| !failure.sent));
    }
}
