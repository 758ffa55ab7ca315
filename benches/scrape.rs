//! Whole scrapes of the exporter as a program, of a fake daemon in this process: `cargo bench --bench scrape [-- DOMAINS...]`
//!
//! The daemon's CPU time is that of this process without the scraping thread.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::expect_used, dead_code)]
#![allow(missing_docs, unreachable_pub)]

#[path = "../tests/support/pushing.rs"]
mod pushing;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Procedure, Scenario, Template};
use pushing::Pushing;

const GROUPS: &str = "state,cpu_total,balloon,vcpu,interface,block,perf,iothread,memory,dirtyrate,vm,vcpu_kvm";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let mut hosts: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if hosts.is_empty() {
        hosts = if arguments.iter().any(|one| one == "--bench") { vec![100, 1_000, 10_000] } else { vec![20] };
    }
    println!("medians of the scrapes; `cold` is the first, of an exporter and a daemon that have just started");
    println!(
        "domains  cold ms  wall ms  us a domain  our CPU ms  daemon's CPU ms  stats calls  bytes       RSS MiB  peak MiB"
    );
    for domains in hosts {
        measure(domains);
    }
}

fn measure(domains: usize) {
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(domains, Template::medium()).build()).unwrap();
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let config = format!(
        "libvirt: {{uri: '{}'}}\nweb: {{listen_addresses: ['{address}']}}\n\
         collection: {{groups: [{GROUPS}], deadline: 60s}}\n",
        daemon.uri()
    );
    let mut exporter = Pushing::start(tempfile::tempdir().unwrap(), &config, &[]);
    exporter.wait_for_log("serving metrics");
    let cold = scrape(address);
    assert!(cold.complete >= domains, "{} of {domains} domains are complete", cold.complete);
    // Definitions are read meanwhile.
    std::thread::sleep(Duration::from_secs(if domains > 1_000 { 20 } else { 4 }));
    let rounds = if domains > 1_000 { 5 } else { 15 };
    let (mut walls, mut ours, mut theirs, mut calls, mut bytes) = (vec![], vec![], vec![], vec![], 0);
    for _ in 0..rounds {
        daemon.counters().reset();
        let (our, their, own) = (exporter.cpu(), process_cpu(), thread_cpu());
        let scraped = scrape(address);
        walls.push(scraped.took);
        ours.push(exporter.cpu().saturating_sub(our));
        theirs.push(process_cpu().saturating_sub(their).saturating_sub(thread_cpu().saturating_sub(own)));
        calls.push(Duration::from_micros(daemon.counters().calls(Procedure::ConnectGetAllDomainStats)));
        bytes = scraped.bytes;
        assert!(scraped.complete >= domains, "{} of {domains} domains are complete", scraped.complete);
    }
    let wall = median(walls);
    println!(
        "{domains:7}  {:7}  {:7.1}  {:11.1}  {:10}  {:15}  {:11}  {bytes:10}  {:7}  {:8}",
        cold.took.as_millis(),
        wall.as_secs_f64() * 1e3,
        wall.as_secs_f64() * 1e6 / f64::from(u32::try_from(domains).unwrap()),
        median(ours).as_millis(),
        median(theirs).as_millis(),
        median(calls).as_micros(),
        exporter.rss() >> 20,
        exporter.peak_rss() >> 20
    );
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort();
    of[of.len() / 2]
}

struct Scraped {
    took: Duration,
    bytes: usize,
    complete: usize,
}

fn scrape(address: SocketAddr) -> Scraped {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(
            // HTTP/1.0, so that the answer ends with the connection, without chunks.
            b"GET /metrics HTTP/1.0\r\nHost: h\r\nAccept: application/openmetrics-text\r\n\r\n",
        )
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let took = began.elapsed();
    let text = String::from_utf8(answer).unwrap();
    let complete =
        text.lines().filter(|line| line.starts_with("libvirt_domain_stats_complete{") && line.ends_with(" 1")).count();
    Scraped { took, bytes: text.len(), complete }
}

/// The CPU time of this process, threads that have ended included.
fn process_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}
