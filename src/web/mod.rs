//! The HTTP server: which path answers what.
//!
//! [`bind`] opens the sockets, so that a bad address is an error at start; [`serve`] runs until it is told to stop.
//! The rest of the program is known here only as a [`Source`].

mod landing;
mod listen;
mod negotiate;
mod server;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

pub use landing::Overview;
pub use listen::{Listener, WebError, bind};
pub use negotiate::{Negotiated, negotiate};
pub use server::serve;

use crate::config::{self, TelemetryPath};
use crate::encode::Format;

const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What the server serves.
pub trait Source: Send + Sync + 'static {
    /// One exposition; `timeout` is how long the scraper will wait for it, if it says so. The future is dropped when the
    /// scraper hangs up.
    ///
    /// The error is one sentence, which becomes a 500. That libvirt does not answer is no error, but an exposition.
    fn exposition(
        &self,
        format: Format,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Bytes, String>> + Send;

    /// `Ok` once connected to libvirt and collected once; else one sentence why not.
    fn ready(&self) -> Result<(), String>;

    /// What the landing page shows.
    fn overview(&self) -> Overview;

    /// Counts an answer, for `libvirt_exporter_http_requests_total{path,code}`. `route` is `/`, `/metrics` (wherever it is
    /// configured to be), `/-/healthy`, `/-/ready` or `other`, never a path that a client chose.
    fn count_request(&self, route: &'static str, code: u16);
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Landing,
    Metrics,
    Healthy,
    Ready,
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Landing => "/",
            Self::Metrics => "/metrics",
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
        }
    }
}

/// The source at its paths.
#[derive(Debug)]
struct Site<S> {
    source: Arc<S>,
    telemetry_path: TelemetryPath,
}

impl<S: Source> Site<S> {
    fn new(source: Arc<S>, web: &config::Web) -> Self {
        Self { source, telemetry_path: web.telemetry_path.clone() }
    }

    /// Answers a request, and counts it. To HEAD, hyper sends the same without the body.
    async fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let route = self.route(request.uri().path());
        let response = match route {
            Some(route) if matches!(*request.method(), Method::GET | Method::HEAD) => {
                self.page(route, request.headers()).await
            }
            Some(_) => {
                let refusal = "this path answers GET and HEAD only\n";
                let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, refusal);
                let allowed = HeaderValue::from_static("GET, HEAD");
                refusal.headers_mut().insert(header::ALLOW, allowed);
                refusal
            }
            None => {
                let known = format!(
                    "there is nothing at this path, only at /, {}, /-/healthy and /-/ready\n",
                    self.telemetry_path
                );
                answer(StatusCode::NOT_FOUND, PLAIN, known)
            }
        };
        let name = route.map_or("other", Route::name);
        self.source.count_request(name, response.status().as_u16());
        response
    }

    fn route(&self, path: &str) -> Option<Route> {
        match path {
            "/" => Some(Route::Landing),
            "/-/healthy" => Some(Route::Healthy),
            "/-/ready" => Some(Route::Ready),
            path => (path == self.telemetry_path.as_str()).then_some(Route::Metrics),
        }
    }

    async fn page(&self, route: Route, headers: &HeaderMap) -> Response<Full<Bytes>> {
        match route {
            Route::Landing => {
                let page = landing::render(&self.source.overview(), self.telemetry_path.as_str());
                answer(StatusCode::OK, HTML, page)
            }
            Route::Metrics => self.metrics(headers).await,
            // That it is said at all is the proof.
            Route::Healthy => answer(StatusCode::OK, PLAIN, "domstats-exporter is healthy\n"),
            Route::Ready => match self.source.ready() {
                Ok(()) => answer(StatusCode::OK, PLAIN, "domstats-exporter is ready\n"),
                Err(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, reason + "\n"),
            },
        }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let negotiated = negotiate(&accept(headers));
        match self.source.exposition(negotiated.format, scrape_timeout(headers)).await {
            Ok(body) => answer(StatusCode::OK, &negotiated.content_type(), body),
            Err(reason) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, reason + "\n"),
        }
    }
}

/// The `Accept` header, of which there may be several; one that is not text says nothing.
fn accept(headers: &HeaderMap) -> String {
    let values: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

/// How long the scraper will wait: seconds, with or without a fraction. What is no positive number is ignored.
fn scrape_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(SCRAPE_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero())
}

fn answer(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
