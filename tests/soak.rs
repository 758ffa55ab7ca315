//! The exporter as a program under what a busy host does to it: five scrapes a second, pushes, reloads, and domains that
//! come and go. What it holds must stay flat.
//!
//! `make soak` for half an hour; `SOAK_SECONDS` and `SOAK_DOMAINS` set the length (120) and the host's size (500).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::single_match)]
#![allow(dead_code, unreachable_pub, missing_docs)]

#[path = "support/pushing.rs"]
mod pushing;
#[path = "support/receiver.rs"]
mod receiver;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use fake_libvirtd::{Change, Domain, FakeLibvirtd, Scenario, Template};
use pushing::Pushing;
use receiver::Receiver;

/// Between two scrapes.
const SCRAPE: Duration = Duration::from_millis(200);
/// Between two domains that come or go.
const CHURN: Duration = Duration::from_millis(100);
/// Between two reloads.
const RELOAD: Duration = Duration::from_secs(7);

#[test]
fn what_it_holds_stays_flat() {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let length = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(120).max(12));
    let domains = usize::try_from(number("SOAK_DOMAINS").unwrap_or(500)).unwrap();
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(domains, Template::small()).build()).unwrap();
    let receiver = Receiver::start(None);
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let config = |shut_off: bool| {
        format!(
            "libvirt: {{uri: '{}'}}\nweb: {{listen_addresses: ['{address}']}}\ndomains: {{exclude: ['{}']}}\n\
             otlp: {{endpoint: 'http://{}', interval: 5s}}\n",
            daemon.uri(),
            if shut_off { "vm-7.*" } else { "none" },
            receiver.address
        )
    };
    let mut exporter = Pushing::start(tempfile::tempdir().unwrap(), &config(false), &[]);
    exporter.wait_for_log("the receiver accepts pushes");
    let (ended, scrapes, pushes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut reloads = 0;
    let samples = scope(|scope| {
        scope.spawn(|| {
            every(SCRAPE, &ended, |_| {
                let answer = scrape(address).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\nlibvirt_up 1\n"), "{answer:.300}");
                scrapes.fetch_add(1, Ordering::Relaxed);
            });
        });
        scope.spawn(|| every(CHURN, &ended, |turn| churn(&daemon, domains, turn)));
        scope.spawn(|| {
            every(Duration::from_secs(1), &ended, |_| {
                // Else it is the receiver that grows.
                pushes.fetch_add(u64::try_from(receiver.received().len()).unwrap(), Ordering::Relaxed);
                receiver.forget();
                daemon.counters().reset();
            });
        });
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (began, mut reloaded, mut samples) = (Instant::now(), Instant::now(), Vec::new());
            while began.elapsed() < length {
                sleep(length / 60);
                if reloaded.elapsed() > RELOAD {
                    reloads += 1;
                    fs::write(exporter.folder.path().join("config.yaml"), config(reloads % 2 == 1)).unwrap();
                    exporter.signal("-HUP");
                    reloaded = Instant::now();
                }
                samples.push(Held::of(&exporter, began.elapsed()));
            }
            samples
        }));
        ended.store(true, Ordering::SeqCst);
        watched.unwrap_or_else(|failure| std::panic::resume_unwind(failure))
    });
    println!("second  RSS KiB  threads  descriptors");
    for sample in samples.iter().step_by(6) {
        println!("{:6}  {:7}  {:7}  {:11}", sample.at.as_secs(), sample.rss >> 10, sample.threads, sample.files);
    }
    let (scrapes, pushes) = (scrapes.into_inner(), pushes.into_inner());
    println!("{scrapes} scrapes, {pushes} pushes, {reloads} reloads of {domains} domains in {length:?}");
    assert!(scrapes > 0 && pushes > 0 && reloads > 0);
    // The first third is for pools and caches to fill; of the other two, one is no larger than the other.
    let third = samples.len() / 3;
    let most = |range: &[Held]| range.iter().copied().reduce(Held::max).unwrap();
    let (before, after) = (most(&samples[third..2 * third]), most(&samples[2 * third..]));
    assert!(after.rss <= before.rss + before.rss / 10 + (4 << 20), "memory grows: {before:?}, then {after:?}");
    assert!(after.threads <= before.threads + 3, "threads: {before:?}, then {after:?}");
    assert!(after.files <= before.files + 8, "descriptors: {before:?}, then {after:?}");
    let log = exporter.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// What the process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    at: Duration,
    rss: u64,
    threads: usize,
    files: usize,
}

impl Held {
    fn of(exporter: &Pushing, at: Duration) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{}/{what}", exporter.process.id())).unwrap().count();
        Self { at, rss: exporter.rss(), threads: count("task"), files: count("fd") }
    }

    fn max(self, other: Self) -> Self {
        Self {
            at: other.at,
            rss: self.rss.max(other.rss),
            threads: self.threads.max(other.threads),
            files: self.files.max(other.files),
        }
    }
}

/// Does something again and again until the end.
fn every(pause: Duration, ended: &AtomicBool, what: impl Fn(usize)) {
    let mut next = Instant::now();
    for turn in 0.. {
        if ended.load(Ordering::SeqCst) {
            return;
        }
        what(turn);
        // No catching up after a turn that took longer.
        next = (next + pause).max(Instant::now());
        sleep(next - Instant::now());
    }
}

/// A domain stops, starts, goes for good or is there for the first time; each of them in turn.
fn churn(daemon: &FakeLibvirtd, domains: usize, turn: usize) {
    let name = format!("vm-{}", turn / 4 % domains);
    // One that is not there, or not in that state, stays as it is.
    let _ = match turn % 4 {
        0 => daemon.domains().change(&name, Change::Destroy),
        1 => daemon.domains().change(&name, Change::Start),
        2 => daemon.domains().remove(&name),
        _ => {
            daemon.domains().add(Domain::new(name.clone(), Template::small()));
            daemon.domains().change(&name, Change::Start)
        }
    };
}

/// A scrape on its own connection, as of one more Prometheus each time.
fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
