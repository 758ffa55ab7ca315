//! The server over real sockets. Where a test waits for a timeout, tokio's clock is paused: it leaps to the next timer once
//! every task waits and no socket has anything to say.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::config::List;

/// A source that shows what it was asked, and answers when the test lets it.
struct Fake {
    body: Result<Bytes, String>,
    ready: Mutex<Result<(), String>>,
    asked: Mutex<Vec<(Format, Option<Duration>)>>,
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
            counted: Mutex::default(),
            permits: Semaphore::new(100_000),
        }
    }
}

impl Source for Fake {
    async fn exposition(&self, format: Format, timeout: Option<Duration>) -> Result<Bytes, String> {
        self.asked.lock().expect("not poisoned").push((format, timeout));
        self.permits.acquire().await.expect("never closed").forget();
        self.body.clone()
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.lock().expect("not poisoned").clone()
    }

    fn overview(&self) -> Overview {
        Overview { facts: vec![("libvirt", "connected to <test>".to_owned())] }
    }

    fn count_request(&self, route: &'static str, code: u16) {
        self.counted.lock().expect("not poisoned").push((route, code));
    }
}

struct Server {
    address: SocketAddr,
    source: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    fn start(source: Fake) -> Self {
        let web = config::Web {
            listen_addresses: List::try_from(vec!["127.0.0.1:0".parse().expect("valid")]).expect("one"),
            telemetry_path: "/libvirt/metrics".parse().expect("valid"),
        };
        let listeners = bind(&web.listen_addresses).expect("bound");
        let address = listeners[0].address();
        let source = Arc::new(source);
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&source);
        let task = tokio::spawn(async move {
            serve(listeners, &web, served, async move {
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
        ("/libvirt/metrics?collect[]=x", text, Some("libvirt_up 1\n")),
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
    assert!(page.contains("<dd>connected to &lt;test&gt;</dd>") && page.contains("href=\"/libvirt/metrics\""));
    server.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_what_there_is() {
    let server = Server::start(Fake::default());
    let known = "there is nothing at this path, only at /, /libvirt/metrics, /-/healthy and /-/ready\n";
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
        assert_eq!(server.source.asked.lock().expect("not poisoned").pop(), Some(asked), "{headers}");
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
    // More than there are slots: the last ones wait, none is refused.
    let server = Server::start(Fake { permits: Semaphore::new(0), ..Fake::default() });
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
    while server.source.asked.lock().expect("not poisoned").len() < 512 {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(50)).await;
    assert_eq!(server.source.asked.lock().expect("not poisoned").len(), 512);
    server.source.permits.add_permits(600);
    assert_eq!(clients.join_all().await, [200; 600]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_slowly_is_cut_off() {
    let server = Server::start(Fake::default());
    for sent in ["", "G", "GET / HTTP/1.1\r\nHost: h\r\n", "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let started = Instant::now();
        server.exchange(sent.as_bytes()).await;
        assert_eq!(started.elapsed().as_secs(), 10, "{sent:?}");
    }
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
