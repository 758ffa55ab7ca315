//! The source at its paths.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::coding::negotiate_coding;
use super::landing;
use super::limits::{InFlight, Peer};
use super::negotiate::negotiate;
use super::query::parse_query;
use super::security::{Policy, Security};
use super::{Scrape, Source};
use crate::config::Config;
use crate::encode::Coding;

const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// Prometheus gives up on service discovery when it is time to ask again.
const REFRESH_INTERVAL: &str = "x-prometheus-refresh-interval-seconds";
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const YAML: &str = "application/yaml; charset=utf-8";

/// The page has a style of its own, and nothing else has any business in it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

pub(super) type Answer = Response<Full<Bytes>>;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Landing,
    Metrics,
    Discovery,
    Healthy,
    Ready,
    Config,
    Reload,
}

impl Route {
    fn of(path: &str, config: &Config) -> Option<Self> {
        match path {
            "/" => Some(Self::Landing),
            "/-/healthy" => Some(Self::Healthy),
            "/-/ready" => Some(Self::Ready),
            "/-/config" => Some(Self::Config),
            "/-/reload" => Some(Self::Reload),
            path if path == config.web.telemetry_path.as_str() => Some(Self::Metrics),
            path => discovery_path(config).filter(|known| *known == path).map(|_| Self::Discovery),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Landing => "/",
            Self::Metrics => "/metrics",
            Self::Discovery => "/sd",
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
            Self::Config => "/-/config",
            Self::Reload => "/-/reload",
        }
    }

    /// The methods that it answers.
    fn methods(self) -> (&'static [Method], &'static str) {
        match self {
            Self::Reload => (&[Method::POST], "POST"),
            _ => (&[Method::GET, Method::HEAD], "GET, HEAD"),
        }
    }
}

/// Where the guests are served as targets, if they are.
fn discovery_path(config: &Config) -> Option<&str> {
    config.service_discovery.enabled.then(|| config.service_discovery.path.as_str())
}

/// The source at its paths.
#[derive(Debug)]
pub(super) struct Site<S> {
    source: Arc<S>,
    pub(super) security: Arc<Security>,
    scrapes: InFlight,
}

impl<S: Source> Site<S> {
    pub(super) fn new(source: Arc<S>, security: Arc<Security>) -> Self {
        Self { source, security, scrapes: InFlight::default() }
    }

    /// Answers a request of `peer`, and counts it. To HEAD, hyper sends the same without the body.
    pub(super) async fn respond<B>(&self, request: &Request<B>, peer: Peer) -> Answer {
        let config = self.source.config();
        let policy = self.security.current();
        let route = Route::of(request.uri().path(), &config);
        let mut answer = match refusal(&policy, request.headers()).await {
            Some(refusal) => refusal,
            None => self.route(route, request, peer, &config).await,
        };
        let headers = answer.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(policy.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.source.count_request(route.map_or("other", Route::name), answer.status().as_u16());
        answer
    }

    async fn route<B>(&self, route: Option<Route>, request: &Request<B>, peer: Peer, config: &Config) -> Answer {
        let Some(route) = route else {
            let discovery = discovery_path(config).map(|path| format!("{path}, ")).unwrap_or_default();
            let known = format!(
                "there is nothing at this path, only at /, {}, {discovery}/-/healthy, /-/ready, /-/config and /-/reload\n",
                config.web.telemetry_path
            );
            return answer(StatusCode::NOT_FOUND, PLAIN, known);
        };
        let (methods, allow) = route.methods();
        if !methods.contains(request.method()) {
            let refusal = format!("this path answers {} only\n", allow.replace(", ", " and "));
            let refusal = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, refusal);
            return with_header(refusal, header::ALLOW, allow);
        }
        match route {
            Route::Landing => {
                let page = landing::render(&self.source.overview(), config);
                with_header(answer(StatusCode::OK, HTML, page), header::CONTENT_SECURITY_POLICY, PAGE_POLICY)
            }
            Route::Metrics => self.metrics(request.uri(), request.headers(), peer, config).await,
            Route::Discovery => self.target_groups(request.headers(), peer, config).await,
            // That it is said at all is the proof.
            Route::Healthy => answer(StatusCode::OK, PLAIN, "domstats-exporter is healthy\n"),
            Route::Ready => match self.source.ready() {
                Ok(()) => answer(StatusCode::OK, PLAIN, "domstats-exporter is ready\n"),
                Err(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, reason + "\n"),
            },
            Route::Config => match config.to_public_yaml() {
                Ok(yaml) => answer(StatusCode::OK, YAML, yaml),
                Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
            },
            Route::Reload => self.reload(config).await,
        }
    }

    async fn metrics(&self, uri: &Uri, headers: &HeaderMap, peer: Peer, config: &Config) -> Answer {
        let selection = match parse_query(uri.query().unwrap_or_default(), &config.collection.groups) {
            Ok(selection) => selection,
            Err(fault) => return answer(StatusCode::BAD_REQUEST, PLAIN, fault + "\n"),
        };
        let limit = config.web.max_requests;
        let Some(_place) = self.scrapes.enter(limit, peer) else { return too_many(limit) };
        let negotiated = negotiate(&list(headers, header::ACCEPT));
        let coding = negotiate_coding(&list(headers, header::ACCEPT_ENCODING));
        let timeout = seconds(headers, SCRAPE_TIMEOUT);
        let scrape = Scrape { format: negotiated.format, coding, timeout, selection };
        match self.source.exposition(scrape).await {
            Ok(body) => {
                let answer = coded(answer(StatusCode::OK, &negotiated.content_type(), body), coding);
                with_header(answer, header::VARY, "Accept, Accept-Encoding")
            }
            Err(reason) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, reason + "\n"),
        }
    }

    async fn target_groups(&self, headers: &HeaderMap, peer: Peer, config: &Config) -> Answer {
        let limit = config.web.max_requests;
        let Some(_place) = self.scrapes.enter(limit, peer) else { return too_many(limit) };
        let coding = negotiate_coding(&list(headers, header::ACCEPT_ENCODING));
        match self.source.target_groups(coding, seconds(headers, REFRESH_INTERVAL)).await {
            Ok(body) => {
                let answer = coded(answer(StatusCode::OK, JSON, body), coding);
                with_header(answer, header::VARY, "Accept-Encoding")
            }
            // Prometheus keeps the list that it has.
            Err(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, reason + "\n"),
        }
    }

    async fn reload(&self, config: &Config) -> Answer {
        if !config.web.enable_lifecycle {
            let refusal = "reloading over HTTP is off: send SIGHUP, or start with --web.enable-lifecycle\n";
            return answer(StatusCode::FORBIDDEN, PLAIN, refusal);
        }
        match self.source.reload().await {
            Ok(()) => answer(StatusCode::OK, PLAIN, "the configuration has been read anew\n"),
            Err(fault) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, fault + "\n"),
        }
    }
}

/// The answer to those who ask too often, or have no right to ask.
async fn refusal(policy: &Policy, headers: &HeaderMap) -> Option<Answer> {
    // The rate comes first: it bounds how many passwords can be tried.
    if policy.rate_limit.as_ref().is_some_and(|limit| !limit.allow()) {
        let refusal = "more requests than the web configuration's rate_limit allows\n";
        return Some(answer(StatusCode::TOO_MANY_REQUESTS, PLAIN, refusal));
    }
    let users = policy.users.as_ref()?;
    if users.admit(headers.get(header::AUTHORIZATION)).await {
        return None;
    }
    let refusal = answer(StatusCode::UNAUTHORIZED, PLAIN, "user name and password are required\n");
    Some(with_header(refusal, header::WWW_AUTHENTICATE, "Basic realm=\"domstats-exporter\", charset=\"UTF-8\""))
}

/// The answer to those who come while as many as may be are being answered.
fn too_many(limit: usize) -> Answer {
    let refusal = format!("the limit of {limit} scrapes at a time (web.max_requests) is reached, try again\n");
    with_header(answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, refusal), header::RETRY_AFTER, "1")
}

/// A header that holds a list, of which there may be several; one that is not text says nothing.
fn list(headers: &HeaderMap, name: HeaderName) -> String {
    let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

/// How long the client will wait: seconds, with or without a fraction. What is no positive number is ignored.
fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let seconds = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero())
}

fn answer(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

/// Says how the body of `answer` is compressed.
fn coded(answer: Answer, coding: Coding) -> Answer {
    match coding {
        Coding::Identity => answer,
        coding => with_header(answer, header::CONTENT_ENCODING, coding.as_str()),
    }
}

fn with_header(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}
