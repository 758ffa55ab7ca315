//! The server over real sockets. Where a test waits for a timeout, tokio's clock is paused: it leaps to the next timer once
//! every task waits and no socket has anything to say.

use std::net::SocketAddr;
use std::sync::{Mutex, RwLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::site::{HTML, PLAIN};
use super::*;
use crate::config;

/// A source that shows what it was asked, and answers when the test lets it.
struct Fake {
    body: Result<Bytes, String>,
    ready: Mutex<Result<(), String>>,
    asked: Mutex<Vec<Scrape>>,
    reloads: Mutex<Vec<Result<(), String>>>,
    config: RwLock<Arc<Config>>,
    counted: Mutex<Vec<(&'static str, u16)>>,
    /// One permit per exposition.
    permits: Semaphore,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            body: Ok(Bytes::from_static(b"libvirt_up 1\n")),
            ready: Mutex::new(Ok(())),
            asked: Mutex::default(),
            reloads: Mutex::default(),
            config: RwLock::new(Arc::new(config("{}"))),
            counted: Mutex::default(),
            permits: Semaphore::new(100_000),
        }
    }
}

impl Source for Fake {
    async fn exposition(&self, scrape: Scrape) -> Result<Bytes, String> {
        self.asked.lock().expect("not poisoned").push(scrape);
        self.permits.acquire().await.expect("never closed").forget();
        self.body.clone()
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.lock().expect("not poisoned").clone()
    }

    fn overview(&self) -> Overview {
        Overview { uri: "test:///<default>".to_owned(), ..Overview::default() }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().expect("not poisoned"))
    }

    async fn reload(&self) -> Result<(), String> {
        self.reloads.lock().expect("not poisoned").pop().unwrap_or(Ok(()))
    }

    fn count_request(&self, route: &'static str, code: u16) {
        self.counted.lock().expect("not poisoned").push((route, code));
    }
}

/// A configuration with the keys of `web` that `yaml` has.
fn config(yaml: &str) -> Config {
    let mut config = config::parse(&format!("web: {yaml}"), "test").expect("a configuration");
    config.web.telemetry_path = "/libvirt/metrics".parse().expect("a path");
    config.libvirt.uri = "qemu+tls://user:secret@host/system".parse().expect("a URI");
    config
}

struct Server {
    address: SocketAddr,
    source: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    fn start(source: Fake) -> Self {
        Self::start_on(source, Security::load(None).expect("nothing to load"))
    }

    fn start_on(source: Fake, security: Security) -> Self {
        let web = config::parse("web: {listen_addresses: ['127.0.0.1:0']}", "test").expect("a configuration").web;
        let listeners = bind(&web).expect("bound");
        let address = listeners[0].address().expect("TCP");
        let source = Arc::new(source);
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&source);
        let task = tokio::spawn(async move {
            serve(listeners, Arc::new(security), served, async move {
                stopped.await.unwrap_or_default();
            })
            .await;
        });
        Self { address, source, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Sends `bytes` on a connection of its own and reads until the server closes it.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        let (mut reading, mut writing) = stream.split();
        // The server may close before it has read everything, which is its right.
        let (_, answer) = tokio::join!(writing.write_all(bytes), read_all(&mut reading));
        answer
    }

    async fn request(&self, method: &str, path: &str, headers: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
        Answer::parse(&self.exchange(request.as_bytes()).await)
    }

    async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "").await
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("no panic");
    }
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).expect("UTF-8")
}

#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        Self { code, head: head.to_owned(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[tokio::test]
async fn each_route_answers_get_and_head() {
    let server = Server::start(Fake::default());
    let text = Format::Text.content_type();
    for (path, content_type, body) in [
        ("/", HTML, None),
        ("/libvirt/metrics", text, Some("libvirt_up 1\n")),
        ("/libvirt/metrics?collect[]=state", text, Some("libvirt_up 1\n")),
        ("http://somewhere/-/healthy", PLAIN, Some("domstats-exporter is healthy\n")),
        ("/-/healthy", PLAIN, Some("domstats-exporter is healthy\n")),
        ("/-/ready", PLAIN, Some("domstats-exporter is ready\n")),
    ] {
        let get = server.get(path).await;
        assert_eq!((get.code, get.header("content-type")), (200, Some(content_type)), "{path}");
        assert!(body.is_none_or(|body| body == get.body), "{path}: {}", get.body);
        let head = server.request("HEAD", path, "").await;
        assert_eq!((head.code, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
        assert_eq!(head.header("content-type"), Some(content_type));
    }
    let page = server.get("/").await.body;
    assert!(page.contains("<dd>test:///&lt;default&gt;</dd>") && page.contains("href=\"/libvirt/metrics\""));
    server.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_what_there_is() {
    let server = Server::start(Fake::default());
    let known =
        "there is nothing at this path, only at /, /libvirt/metrics, /-/healthy, /-/ready, /-/config and /-/reload\n";
    for path in ["/metrics", "/libvirt/metrics/", "/-/", "//", "/..%2f", "nowhere", "*"] {
        let answer = server.get(path).await;
        assert_eq!((answer.code, answer.body.as_str()), (404, known), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = server.request(method, "/libvirt/metrics", "Content-Length: 0\r\n").await;
        assert_eq!((answer.code, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(answer.body, "this path answers GET and HEAD only\n");
    }
    assert!(server.source.asked.lock().expect("not poisoned").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn the_scraper_chooses_format_and_timeout() {
    let server = Server::start(Fake::default());
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let seconds = Duration::from_secs_f64;
    for (headers, content_type, asked) in [
        ("", PLAIN_METRICS, (Format::Text, None)),
        ("Accept: application/openmetrics-text\r\n", open_metrics, (Format::OpenMetrics, None)),
        (
            "Accept: text/plain;q=0.1\r\nAccept: application/openmetrics-text\r\n",
            open_metrics,
            (Format::OpenMetrics, None),
        ),
        ("Accept: \u{fc}\r\n", PLAIN_METRICS, (Format::Text, None)),
        ("X-Prometheus-Scrape-Timeout-Seconds: 10\r\n", PLAIN_METRICS, (Format::Text, Some(seconds(10.0)))),
        ("X-Prometheus-Scrape-Timeout-Seconds: 1.500\r\n", PLAIN_METRICS, (Format::Text, Some(seconds(1.5)))),
        ("X-Prometheus-Scrape-Timeout-Seconds: soon\r\n", PLAIN_METRICS, (Format::Text, None)),
        ("X-Prometheus-Scrape-Timeout-Seconds: -1\r\n", PLAIN_METRICS, (Format::Text, None)),
        ("X-Prometheus-Scrape-Timeout-Seconds: 0\r\n", PLAIN_METRICS, (Format::Text, None)),
        ("X-Prometheus-Scrape-Timeout-Seconds: NaN\r\n", PLAIN_METRICS, (Format::Text, None)),
        ("X-Prometheus-Scrape-Timeout-Seconds: inf\r\n", PLAIN_METRICS, (Format::Text, None)),
        ("X-Prometheus-Scrape-Timeout-Seconds: 1e300\r\n", PLAIN_METRICS, (Format::Text, None)),
    ] {
        let answer = server.request("GET", "/libvirt/metrics", headers).await;
        assert_eq!(answer.header("content-type"), Some(content_type), "{headers}");
        let scrape = server.source.asked.lock().expect("not poisoned").pop().expect("a scrape");
        assert_eq!((scrape.format, scrape.timeout), asked, "{headers}");
    }
    server.stop().await;
}

const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[tokio::test]
async fn what_the_source_cannot_do_is_said_in_its_words() {
    let server = Server::start(Fake { body: Err("the worker is gone".to_owned()), ..Fake::default() });
    *server.source.ready.lock().expect("not poisoned") = Err("not connected to libvirt yet".to_owned());
    let metrics = server.get("/libvirt/metrics").await;
    assert_eq!((metrics.code, metrics.body.as_str()), (500, "the worker is gone\n"));
    let ready = server.get("/-/ready").await;
    assert_eq!((ready.code, ready.body.as_str()), (503, "not connected to libvirt yet\n"));
    assert_eq!(server.get("/-/healthy").await.code, 200);
    server.get("/secret").await;
    server.request("POST", "/", "").await;
    let counted = server.source.counted.lock().expect("not poisoned").clone();
    assert_eq!(counted, [("/metrics", 500), ("/-/ready", 503), ("/-/healthy", 200), ("other", 404), ("/", 405)]);
    server.stop().await;
}

#[tokio::test]
async fn malformed_requests_are_refused_and_harm_nobody() {
    let server = Server::start(Fake::default());
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let long_header = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    for (bytes, code) in [
        (long_line.as_bytes(), 431),
        (long_header.as_bytes(), 431),
        (many_headers.as_bytes(), 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"\0\0\0\0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
    ] {
        let answer = Answer::parse(&server.exchange(bytes).await);
        assert_eq!(answer.code, code, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
        assert_eq!(server.get("/-/healthy").await.code, 200);
    }
    server.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Fake::default());
    let answers = server
        .exchange(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\nHEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: h\r\n\r\nGET /-/ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await;
    let codes: Vec<_> = answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(codes, ["200", "200", "404", "200"]);
    assert!(answers.ends_with("domstats-exporter is ready\n"));
    server.stop().await;
}

#[tokio::test]
async fn many_scrapers_are_answered_at_once() {
    let unlimited = RwLock::new(Arc::new(config("{max_requests: 0}")));
    let server = Server::start(Fake { permits: Semaphore::new(0), config: unlimited, ..Fake::default() });
    let mut clients = JoinSet::new();
    for _ in 0..600 {
        let address = server.address;
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let request = b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.expect("sent");
            Answer::parse(&read_all(&mut stream).await).code
        });
    }
    while server.source.asked.lock().expect("not poisoned").len() < 600 {
        sleep(Duration::from_millis(5)).await;
    }
    server.source.permits.add_permits(600);
    assert_eq!(clients.join_all().await, [200; 600]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_slowly_is_cut_off() {
    let server = Server::start(Fake::default());
    for (sent, seconds) in [
        ("", 10),
        ("G", 10),
        ("GET / HTTP/1.1\r\nHost: h\r\n", 10),
        // Between two scrapes silence is no fault.
        ("GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n", 300),
    ] {
        let started = Instant::now();
        server.exchange(sent.as_bytes()).await;
        assert_eq!(started.elapsed().as_secs(), seconds, "{sent:?}");
    }
    // A later request has to come as fast as the first, once it has begun.
    let mut stream = server.connect().await;
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    sleep(Duration::from_secs(60)).await;
    stream.write_all(b"GET").await.expect("still open");
    let started = Instant::now();
    assert!(read_all(&mut stream).await.ends_with("healthy\n"));
    assert_eq!(started.elapsed().as_secs(), 10);
    // A byte now and then does not help.
    let mut stream = server.connect().await;
    let started = Instant::now();
    while stream.write_all(b"G").await.is_ok() && started.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_secs(1)).await;
    }
    assert!(started.elapsed() <= Duration::from_secs(12), "{:?}", started.elapsed());
    server.stop().await;
}

/// Larger than any socket buffer.
fn large() -> Fake {
    Fake { body: Ok(vec![b'x'; 64 << 20].into()), ..Fake::default() }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = Server::start(large());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    sleep(Duration::from_secs(25)).await;
    let received = read_all(&mut stream).await.len();
    assert!(received < 64 << 20, "{received}");
    server.stop().await;
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let server = Server::start(large());
    assert_eq!(server.get("/libvirt/metrics").await.body.len(), 64 << 20);
    server.stop().await;
}

#[tokio::test]
async fn shutdown_lets_a_request_in_flight_finish() {
    let server = Server::start(Fake { permits: Semaphore::new(0), ..Fake::default() });
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    while server.source.asked.lock().expect("not poisoned").is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let Server { address, source, stop, mut task } = server;
    stop.send(()).expect("listening");
    assert_eq!(read_all(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err(), "nobody new is let in");
    assert!(timeout(Duration::from_millis(50), &mut task).await.is_err(), "the request is not answered yet");
    source.permits.add_permits(1);
    let answer = Answer::parse(&read_all(&mut busy).await);
    assert_eq!((answer.code, answer.body.as_str()), (200, "libvirt_up 1\n"));
    timeout(Duration::from_secs(1), task).await.expect("ended").expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_ever() {
    // One request is never answered, another's answer never read.
    let server = Server::start(Fake { permits: Semaphore::new(1), ..large() });
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
        clients.push(client);
    }
    while server.source.asked.lock().expect("not poisoned").len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    server.stop().await;
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_hang_up_ends_the_collection() {
    let server = Server::start(Fake { permits: Semaphore::new(0), ..Fake::default() });
    let mut client = server.connect().await;
    client.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    while server.source.asked.lock().expect("not poisoned").is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    drop(client);
    timeout(Duration::from_secs(1), server.stop()).await.expect("nothing is left to wait for");
}

#[tokio::test]
async fn the_query_selects_and_a_bad_one_is_refused() {
    let server = Server::start(Fake::default());
    let query = "/libvirt/metrics?collect%5B%5D=block&collect[]=vm&domain[]=web-%5B0-9%5D";
    assert_eq!(server.get(query).await.code, 200);
    let scrape = server.source.asked.lock().expect("not poisoned").pop().expect("a scrape");
    assert_eq!(scrape.selection.groups.expect("groups").len(), 2);
    assert!(scrape.selection.domains[0].is_match("web-7"));
    for (query, part) in [
        ("collect[]=state&exclude[]=vm", "do not go together"),
        ("collect[]=blok", "unknown group \"blok\", expected one of `state`, `cpu_total`,"),
        ("exclude[]=vcpu_kvm", "`vcpu_kvm` is not in the configuration's collection.groups"),
        ("domain[]=%28", "bad regular expression `(`: unclosed group"),
    ] {
        let answer = server.get(&format!("/libvirt/metrics?{query}")).await;
        assert_eq!(answer.code, 400, "{query}");
        assert!(answer.body.contains(part) && answer.body.lines().count() == 1, "{}", answer.body);
    }
    assert!(server.source.asked.lock().expect("not poisoned").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn the_coding_is_said_in_the_answer() {
    let server = Server::start(Fake::default());
    for (accepted, coding) in [("gzip", Some("gzip")), ("gzip, zstd", Some("zstd")), ("br", None), ("", None)] {
        let answer = server.request("GET", "/libvirt/metrics", &format!("Accept-Encoding: {accepted}\r\n")).await;
        assert_eq!(answer.header("content-encoding"), coding, "{accepted}");
        assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
        let asked = server.source.asked.lock().expect("not poisoned").pop().expect("a scrape").coding;
        assert_eq!(asked.as_str(), coding.unwrap_or("identity"));
    }
    server.stop().await;
}

#[tokio::test]
async fn scrapes_over_the_limit_are_told_to_come_back() {
    let limited = RwLock::new(Arc::new(config("{max_requests: 2}")));
    let server = Server::start(Fake { permits: Semaphore::new(0), config: limited, ..Fake::default() });
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.expect("sent");
        waiting.push(client);
    }
    while server.source.asked.lock().expect("not poisoned").len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let refused = server.get("/libvirt/metrics").await;
    assert_eq!((refused.code, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.body, "the limit of 2 scrapes at a time (web.max_requests) is reached, try again\n");
    assert_eq!(server.get("/-/healthy").await.code, 200);
    // One hangs up, one is answered: both places are free again.
    waiting.pop();
    sleep(Duration::from_millis(50)).await;
    server.source.permits.add_permits(3);
    assert!(read_all(&mut waiting[0]).await.contains("libvirt_up 1"));
    assert_eq!(server.get("/libvirt/metrics").await.code, 200);
    server.stop().await;
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let server = Server::start(Fake::default());
    let page = server.get("/-/config").await;
    assert_eq!((page.code, page.header("content-type")), (200, Some("application/yaml; charset=utf-8")));
    assert!(page.body.contains("uri: qemu+tls://<hidden>@host/system\n"), "{}", page.body);
    assert!(!page.body.contains("secret"));
    config::parse(&page.body, "page").expect("a configuration");
    server.stop().await;
}

#[tokio::test]
async fn reloading_is_allowed_or_refused_in_words() {
    let server = Server::start(Fake::default());
    let refused = server.request("POST", "/-/reload", "").await;
    let words = "reloading over HTTP is off: send SIGHUP, or start with --web.enable-lifecycle\n";
    assert_eq!((refused.code, refused.body.as_str()), (403, words));
    // The configuration is asked for with every request.
    *server.source.config.write().expect("not poisoned") = Arc::new(config("{enable_lifecycle: true}"));
    server.source.reloads.lock().expect("not poisoned").push(Err("x.yaml:1:1: bad".to_owned()));
    let failed = server.request("POST", "/-/reload", "").await;
    assert_eq!((failed.code, failed.body.as_str()), (500, "x.yaml:1:1: bad\n"));
    let done = server.request("POST", "/-/reload", "Content-Length: 3\r\n\r\nabc").await;
    assert_eq!((done.code, done.body.as_str()), (200, "the configuration has been read anew\n"));
    let wrong = server.get("/-/reload").await;
    assert_eq!((wrong.code, wrong.header("allow")), (405, Some("POST")));
    assert_eq!(wrong.body, "this path answers POST only\n");
    server.stop().await;
}

/// A web configuration file that is deleted with the folder.
fn web_file(folder: &tempfile::TempDir, yaml: &str) -> std::path::PathBuf {
    let path = folder.path().join("web.yaml");
    // Renamed into place, as every careful writer does it.
    std::fs::write(folder.path().join("new"), yaml).expect("written");
    std::fs::rename(folder.path().join("new"), &path).expect("renamed");
    path
}

#[tokio::test]
async fn passwords_guard_every_route_and_change_with_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let hash = |password: &str| bcrypt::hash(password, 4).expect("hashed");
    let users = |password: &str| format!("basic_auth_users: {{alice: '{}'}}\n", hash(password));
    let path = web_file(&folder, &users("secret"));
    let server = Server::start_on(Fake::default(), Security::load(Some(&path)).expect("good"));
    let alice = |password: &str| {
        let credentials =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("alice:{password}"));
        format!("Authorization: Basic {credentials}\r\n")
    };
    for path in ["/", "/libvirt/metrics", "/-/healthy", "/-/ready", "/-/config", "/-/reload", "/nowhere"] {
        let refused = server.get(path).await;
        assert_eq!((refused.code, refused.body.as_str()), (401, "user name and password are required\n"), "{path}");
        assert!(refused.header("www-authenticate").is_some_and(|asks| asks.starts_with("Basic realm=")));
        assert_eq!(server.request("GET", path, &alice("wrong")).await.code, 401, "{path}");
        assert_ne!(server.request("GET", path, &alice("secret")).await.code, 401, "{path}");
    }
    web_file(&folder, &users("changed"));
    assert_eq!(server.request("GET", "/", &alice("secret")).await.code, 401);
    assert_eq!(server.request("GET", "/", &alice("changed")).await.code, 200);
    // A broken file opens nothing and closes nothing.
    web_file(&folder, "basic_auth_users: [");
    assert_eq!(server.get("/").await.code, 401);
    assert_eq!(server.request("GET", "/", &alice("changed")).await.code, 200);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(server.get("/").await.code, 401);
    assert_eq!(server.request("GET", "/", &alice("changed")).await.code, 200);
    web_file(&folder, "{}");
    assert_eq!(server.get("/").await.code, 200);
    server.stop().await;
}

#[tokio::test]
async fn headers_and_rate_limit_come_from_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = "http_server_config: {headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=1}}\n\
                rate_limit: {interval: 1h, burst: 3}\n";
    let path = web_file(&folder, yaml);
    let server = Server::start_on(Fake::default(), Security::load(Some(&path)).expect("good"));
    for code in [200, 200, 200, 429, 429] {
        let answer = server.get("/-/healthy").await;
        assert_eq!(answer.code, code);
        assert_eq!(answer.header("x-frame-options"), Some("deny"));
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=1"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    server.stop().await;
}
