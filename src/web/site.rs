//! The source at its paths.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri, Version};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::alive;
use super::auth::Admission;
use super::body::{Body, Content};
use super::coding::negotiate_coding;
use super::connection::Connection;
use super::landing;
use super::limits::TURN_TIME;
use super::negotiate::negotiate;
use super::pace::Paces;
use super::peer::Peer;
use super::places::{Place, Places};
use super::probe::{Daemon, ProbeRequest};
use super::query::parse_query;
use super::route::{Route, discovery_path};
use super::security::{Policy, Security};
use super::turns::{Turn, Turns, Work};
use super::{Form, Source};
use crate::config::{Config, PROBE_PATHS};
use crate::encode::Coding;
use crate::errors::one_line;

const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// The least time that a collection is given: calls that it leaves under way keep other scrapes from their domains.
const LEAST_COLLECTION: Duration = Duration::from_millis(200);
/// Prometheus gives up on service discovery when it is time to ask again.
const REFRESH_INTERVAL: &str = "x-prometheus-refresh-interval-seconds";
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const YAML: &str = "application/yaml; charset=utf-8";

/// The page may use its own style and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

pub(super) type Answer = Response<Body>;

/// Who asks, on which connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) peer: Peer,
    pub(super) connection: Arc<Connection>,
}

/// The source at its paths.
#[derive(Debug)]
pub(super) struct Site<S> {
    source: Arc<S>,
    pub(super) security: Arc<Security>,
    places: Arc<Places>,
    /// Of each daemon, while there are any: one that does not answer holds up no other.
    turns: Mutex<HashMap<String, Weak<Turns>>>,
    paces: Arc<Paces>,
}

impl<S: Source> Site<S> {
    pub(super) fn new(source: Arc<S>, security: Arc<Security>) -> Self {
        Self { source, security, places: Arc::default(), turns: Mutex::default(), paces: Arc::default() }
    }

    /// Answers a request of `client`, and counts it. To HEAD, hyper sends the same without the body.
    pub(super) async fn respond<B>(&self, request: &Request<B>, client: &Client) -> Answer {
        let config = self.source.config();
        let policy = self.security.current().await;
        let route = Route::of(request.uri().path(), &config);
        let mut answer = match refusal(&policy, request, client.peer).await {
            Some(refusal) => refusal,
            None => self.route(route, request, client, &config).await,
        };
        let headers = answer.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.extend(policy.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.source.count_request(route.map_or("other", Route::name), answer.status().as_u16());
        answer
    }

    async fn route<B>(&self, route: Option<Route>, request: &Request<B>, client: &Client, config: &Config) -> Answer {
        let Some(route) = route else {
            let targets = config.has_targets().then(|| PROBE_PATHS.map(|path| format!("{path}, ")).concat());
            let discovery = discovery_path(config).map(|path| format!("{path}, "));
            let others = [targets, discovery].map(Option::unwrap_or_default).concat();
            let known = format!(
                "not found, available paths: /, {}, {others}/-/healthy, /-/ready, /-/config and /-/reload\n",
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
            Route::Metrics => self.metrics(request.uri(), request.headers(), client, config).await,
            Route::Probe => self.probe(request.uri(), request.headers(), client, config).await,
            Route::ProbeTargets => self.probe_targets(request, client, config).await,
            Route::Discovery => self.target_groups(request.headers(), client, config).await,
            // That it is said at all is the proof.
            Route::Healthy => answer(StatusCode::OK, PLAIN, alive::HEALTHY),
            Route::Ready => match self.source.ready() {
                Ok(()) => answer(StatusCode::OK, PLAIN, "domstats-exporter is ready\n"),
                Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &error),
            },
            Route::Config => match config.to_public_yaml() {
                Ok(yaml) => answer(StatusCode::OK, YAML, yaml),
                Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
            },
            Route::Reload => self.reload(config).await,
        }
    }

    async fn metrics(&self, uri: &Uri, headers: &HeaderMap, client: &Client, config: &Config) -> Answer {
        let asked = Instant::now();
        let Some(place) = self.enter(client, config) else { return too_many(config) };
        self.scrape(self.source.local(), uri, headers, client, (place, asked)).await
    }

    async fn probe(&self, uri: &Uri, headers: &HeaderMap, client: &Client, config: &Config) -> Answer {
        let asked = Instant::now();
        let Some(place) = self.enter(client, config) else { return too_many(config) };
        let request = ProbeRequest::parse(uri.query().unwrap_or_default());
        match request.and_then(|request| self.source.probe(&request)) {
            Ok(daemon) => self.scrape(daemon, uri, headers, client, (place, asked)).await,
            Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => unavailable(one_line(&error) + "\n"),
            Err(error) => failure(error.status(), &error),
        }
    }

    /// What is collected from one daemon, for a request that came at `asked` and has a `place`.
    async fn scrape(
        &self,
        daemon: Daemon<S::Daemon>,
        uri: &Uri,
        headers: &HeaderMap,
        client: &Client,
        (place, asked): (Place, Instant),
    ) -> Answer {
        let Daemon { key, config, handle } = daemon;
        let config = &*config;
        let query = match parse_query(uri.query().unwrap_or_default(), &config.collection.groups) {
            Ok(query) => query,
            Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
        };
        let negotiated = negotiate(&list(headers, header::ACCEPT));
        let coding = negotiate_coding(&list(headers, header::ACCEPT_ENCODING));
        let timeout = seconds(headers, SCRAPE_TIMEOUT);
        let naming = query.naming().unwrap_or(config.metrics.naming);
        let form = Form { format: negotiated.format, coding, naming };
        let turns = self.turns_of(&key);
        let work = Work::Scrape { daemon: key, query: query.clone(), form };
        let number = self.paces.number(client.peer, &work);
        let Some(turn) = turn(&turns, client, work, timeout).await else { return too_busy() };
        let (sharing, source) = (turn.clone(), Arc::clone(&self.source));
        let selection = match turn.keep(async move { sharing.selection(&query).await }).await {
            Ok(selection) => selection,
            Err(error) => return failure(StatusCode::BAD_REQUEST, &error),
        };
        let left = timeout.map(|timeout| timeout.saturating_sub(asked.elapsed()));
        let within = self.allowance(left, number, config);
        let began = Instant::now();
        let collected = turn.keep(async move { source.collect(handle, within, selection).await }).await;
        let collecting = began.elapsed();
        turn.collected();
        let source = Arc::clone(&self.source);
        let body = turn.keep(async move { source.render(collected, form).await }).await;
        self.paces.made(number, collecting, began.elapsed() - collecting, collecting >= within);
        match body {
            Ok(body) => {
                let paces = Arc::clone(&self.paces);
                let held = place.hold(body, config.web.max_response_bytes, move |time| paces.sent(number, time)).await;
                let Some(body) = held else { return too_large(config) };
                let answer = coded(with_body(StatusCode::OK, &negotiated.content_type(), body), coding);
                with_header(answer, header::VARY, "Accept, Accept-Encoding")
            }
            Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }

    async fn target_groups(&self, headers: &HeaderMap, client: &Client, config: &Config) -> Answer {
        let asked = Instant::now();
        let Some(place) = self.enter(client, config) else { return too_many(config) };
        let coding = negotiate_coding(&list(headers, header::ACCEPT_ENCODING));
        let timeout = seconds(headers, REFRESH_INTERVAL);
        let turns = self.turns_of("");
        let Some(turn) = turn(&turns, client, Work::Targets { coding }, timeout).await else { return too_busy() };
        let left = timeout.map(|timeout| timeout.saturating_sub(asked.elapsed()));
        let source = Arc::clone(&self.source);
        match turn.keep(async move { source.target_groups(coding, left).await }).await {
            Ok(body) => target_list(place, body, coding, config).await,
            // Prometheus keeps the list that it has.
            Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &error),
        }
    }

    async fn probe_targets<B>(&self, request: &Request<B>, client: &Client, config: &Config) -> Answer {
        let Some(place) = self.enter(client, config) else { return too_many(config) };
        let coding = negotiate_coding(&list(request.headers(), header::ACCEPT_ENCODING));
        match self.source.probe_targets(host(request), coding).await {
            Ok(body) => target_list(place, body, coding, config).await,
            // Prometheus keeps the list that it has.
            Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &error),
        }
    }

    fn enter(&self, client: &Client, config: &Config) -> Option<Place> {
        self.places.enter(config.web.max_requests, client.peer, &client.connection)
    }

    /// The turns of the daemon with this key. Work on one daemon waits for none on another.
    fn turns_of(&self, key: &str) -> Arc<Turns> {
        let mut turns = self.turns.lock();
        if let Some(turns) = turns.get(key).and_then(Weak::upgrade) {
            return turns;
        }
        turns.retain(|_, turns| turns.strong_count() > 0);
        let new = Arc::default();
        turns.insert(key.to_owned(), Arc::downgrade(&new));
        new
    }

    /// How long the collection may take, so that building, encoding and sending end in the time that the scraper has `left`.
    fn allowance(&self, left: Option<Duration>, number: u64, config: &Config) -> Duration {
        let deadline = config.collection.deadline;
        let Some(left) = left else { return deadline };
        let budget = config.collection.within(left);
        let budget = self.paces.of(number).map_or(budget, |pace| pace.collecting_within(budget));
        budget.max(LEAST_COLLECTION).min(deadline)
    }

    async fn reload(&self, config: &Config) -> Answer {
        if !config.web.enable_lifecycle {
            let refusal = "reloading over HTTP is off: send SIGHUP, or start with --web.enable-lifecycle\n";
            return answer(StatusCode::FORBIDDEN, PLAIN, refusal);
        }
        match self.source.reload().await {
            Ok(()) => answer(StatusCode::OK, PLAIN, "configuration reloaded\n"),
            Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
}

/// The turn of `client`, unless it does not come while there is any use in it.
async fn turn(turns: &Arc<Turns>, client: &Client, work: Work, timeout: Option<Duration>) -> Option<Turn> {
    let patience = timeout.unwrap_or(TURN_TIME);
    tokio::time::timeout(patience, turns.take(client.peer, work)).await.ok()
}

/// How the client has reached this server: the header Host, which HTTP/2 has in the URI.
fn host<B>(request: &Request<B>) -> &str {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let of_uri = || request.uri().authority().map(hyper::http::uri::Authority::as_str);
    header.or_else(of_uri).unwrap_or_default()
}

/// The answer to those who ask too often, have no right to ask, or ask as no client should.
async fn refusal<B>(policy: &Policy, request: &Request<B>, peer: Peer) -> Option<Answer> {
    // The rate comes first: it bounds how many passwords can be tried.
    if policy.rate_limit.as_ref().is_some_and(|limit| !limit.allow()) {
        let refusal = "more requests than the web configuration's rate_limit allows\n";
        return Some(answer(StatusCode::TOO_MANY_REQUESTS, PLAIN, refusal));
    }
    // RFC 9112, section 3.2. A proxy in front could take another host than the exporter from such a request.
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some(answer(StatusCode::BAD_REQUEST, PLAIN, "a request has one header Host\n"));
    }
    let users = policy.users.as_ref()?;
    match users.admit(request.headers().get(header::AUTHORIZATION), peer).await {
        Admission::Admitted => None,
        Admission::Refused => {
            let refusal = answer(StatusCode::UNAUTHORIZED, PLAIN, "user name and password are required\n");
            let realm = "Basic realm=\"domstats-exporter\", charset=\"UTF-8\"";
            Some(with_header(refusal, header::WWW_AUTHENTICATE, realm))
        }
        Admission::TooMany => {
            let refusal =
                answer(StatusCode::TOO_MANY_REQUESTS, PLAIN, "too many passwords are to be checked, try again\n");
            Some(with_header(refusal, header::RETRY_AFTER, "1"))
        }
    }
}

/// A list of targets, which keeps the place until it is sent.
async fn target_list(place: Place, body: Bytes, coding: Coding, config: &Config) -> Answer {
    let held = place.hold(Content::Whole(body), config.web.max_response_bytes, |_| {}).await;
    let Some(body) = held else { return too_large(config) };
    let answer = coded(with_body(StatusCode::OK, JSON, body), coding);
    with_header(answer, header::VARY, "Accept-Encoding")
}

/// The answer to those who come while as many as may be are being answered.
fn too_many(config: &Config) -> Answer {
    let limit = config.web.max_requests;
    unavailable(format!("the limit of {limit} scrapes at a time (web.max_requests) is reached, try again\n"))
}

/// Likewise where the answers that clients are still taking have too many bytes.
fn too_large(config: &Config) -> Answer {
    let limit = config.web.max_response_bytes;
    unavailable(format!(
        "the limit of {limit} bytes on their way to clients (web.max_response_bytes) is reached, try again\n"
    ))
}

/// Likewise where the work of others has taken all the time that there was.
fn too_busy() -> Answer {
    unavailable("other scrapes took all the time that there was for this one, try again\n".to_owned())
}

fn unavailable(refusal: String) -> Answer {
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

fn answer(status: StatusCode, content_type: &str, text: impl Into<Bytes>) -> Answer {
    with_body(status, content_type, text.into().into())
}

fn with_body(status: StatusCode, content_type: &str, body: Body) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

/// The response that says why there is no other.
fn failure(status: StatusCode, error: &dyn Error) -> Answer {
    answer(status, PLAIN, one_line(error) + "\n")
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
