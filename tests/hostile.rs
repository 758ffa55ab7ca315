//! Thousands of connections that mean no good, and one scraper that does.
//!
//! `SCRAPES=300 cargo test --release --test hostile -- --nocapture` prints how long the scraper waits, without attackers and among
//! them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/server.rs"]
mod server;
#[path = "support/waiting.rs"]
mod waiting;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use server::{Client, Server, folder};
use waiting::assert_no_wait;

/// How long attackers stay at the least.
const STAY: Duration = Duration::from_secs(10);
/// More than there may be connections.
const TOO_MANY: usize = 3200;

#[test]
fn a_scraper_is_served_among_hostile_connections() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let server = Server::start(folder(), "{}", "");
    let count = std::env::var("SCRAPES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let quiet = scrapes(&server, count);
    let quiet_fresh = new_connections(&server, count);
    println!("quiet: one connection {quiet}; a new connection each {quiet_fresh}");
    for attackers in [2000, TOO_MANY] {
        let attack = Attack::start(server.address, attackers);
        let kept = scrapes(&server, count);
        let fresh = new_connections(&server, count);
        let (silent, drips, deaf, closed) = attack.end();
        println!("{attackers} attackers: one connection {kept}; a new connection each {fresh}");
        println!("  {silent} silent, {drips} dripping and {deaf} not reading; {closed} were closed meanwhile");
        // What a machine under load makes of the figures is not for a test to judge; that clients do not wait for attackers is.
        assert_no_wait(kept.median, STAY);
        assert_no_wait(fresh.median, STAY);
    }
    assert!(server.log().contains("too many connections, closing those that are silent"));
    assert_eq!(server.stop().0, Some(0));
}

/// The limit on descriptors falls below what the server counted on, as where the whole machine has none left.
#[test]
fn silent_connections_make_room_where_there_are_no_descriptors() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let server = Server::start(folder(), "{}", "");
    server.get("/metrics");
    let open = u64::try_from(std::fs::read_dir(format!("/proc/{}/fd", server.process.id())).unwrap().count()).unwrap();
    let limit = Rlimit { current: Some(open + 20), maximum: Some(open + 20) };
    let process = Pid::from_child(&server.process);
    prlimit(Some(process), Resource::Nofile, limit).unwrap();
    let silent: Vec<_> = (0..60).filter_map(|_| std::net::TcpStream::connect(server.address).ok()).collect();
    server.wait_for_log("Too many open files");
    for _ in 0..20 {
        assert!(server.get("/metrics").contains("\nlibvirt_up 1\n"));
    }
    assert_eq!(silent.len(), 60);
    assert_eq!(server.stop().0, Some(0));
}

/// Times of scrapes.
struct Times {
    median: Duration,
    p99: Duration,
    slowest: Duration,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self { median: times[times.len() / 2], p99: times[times.len() * 99 / 100], slowest: times[times.len() - 1] }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "median {:.2?}, p99 {:.2?}, slowest {:.2?}", self.median, self.p99, self.slowest)
    }
}

/// Scrapes as Prometheus does it, on one connection; if that was closed, on a new one.
fn scrapes(server: &Server, count: usize) -> Times {
    let mut client = Client::connect(server.address, None).unwrap();
    let scrape = |_| {
        let started = Instant::now();
        let answer = client.request("GET", "/metrics", "").or_else(|_| {
            client = Client::connect(server.address, None)?;
            client.request("GET", "/metrics", "")
        });
        assert_eq!(answer.unwrap().code, 200);
        let took = started.elapsed();
        std::thread::sleep(Duration::from_millis(10));
        took
    };
    Times::of((0..count).map(scrape).collect())
}

fn new_connections(server: &Server, count: usize) -> Times {
    let scrape = |_| {
        let started = Instant::now();
        assert_eq!(server.request(None, "GET", "/metrics", "Connection: close\r\n").unwrap().code, 200);
        let took = started.elapsed();
        std::thread::sleep(Duration::from_millis(10));
        took
    };
    Times::of((0..count).map(scrape).collect())
}

/// Connections that say nothing, too little, or listen to nothing. A closed one comes back after a second.
struct Attack {
    runtime: tokio::runtime::Runtime,
    closed: Arc<AtomicUsize>,
    up: Arc<[AtomicUsize; 3]>,
}

impl Attack {
    fn start(address: SocketAddr, attackers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let closed = Arc::new(AtomicUsize::new(0));
        let up = Arc::new([const { AtomicUsize::new(0) }; 3]);
        for number in 0..attackers {
            let (closed, up) = (Arc::clone(&closed), Arc::clone(&up));
            runtime.spawn(async move {
                loop {
                    let socket = TcpSocket::new_v4().unwrap();
                    // So little that the server soon waits for those who do not read.
                    socket.set_recv_buffer_size(2048).unwrap();
                    let Ok(stream) = socket.connect(address).await else {
                        sleep(Duration::from_secs(1)).await;
                        continue;
                    };
                    up[number % 3].fetch_add(1, Ordering::Relaxed);
                    match number % 3 {
                        0 => until_closed(stream).await,
                        1 => drip(stream).await,
                        _ => never_read(stream).await,
                    }
                    up[number % 3].fetch_sub(1, Ordering::Relaxed);
                    closed.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_secs(1)).await;
                }
            });
        }
        std::thread::sleep(Duration::from_secs(4));
        Self { runtime, closed, up }
    }

    fn end(self) -> (usize, usize, usize, usize) {
        let [silent, drips, deaf] = [0, 1, 2].map(|kind: usize| self.up[kind].load(Ordering::Relaxed));
        let closed = self.closed.load(Ordering::Relaxed);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        (silent, drips, deaf, closed)
    }
}

async fn until_closed(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 16]).await;
}

/// A byte of a header now and then.
async fn drip(mut stream: TcpStream) {
    if stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.is_err() {
        return;
    }
    loop {
        if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_secs(1), stream.read(&mut [0; 16])).await {
            return;
        }
        if stream.write_all(b"x").await.is_err() {
            return;
        }
    }
}

/// More answers than a socket holds, and no look at them.
async fn never_read(mut stream: TcpStream) {
    let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(64);
    if stream.write_all(requests.as_bytes()).await.is_ok() {
        // An error is all there is to come: what could be read is not.
        while stream.write_all(b"GET / HTTP/1.1\r\n").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    }
}
