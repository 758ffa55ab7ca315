//! What a push takes of the exporter as a program: CPU time and memory, collection included, on a fake daemon, and its
//! memory while the receiver is down. `cargo bench --bench push`
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::single_match,
    clippy::expect_used,
    dead_code
)]
#![allow(missing_docs, unreachable_pub)]

#[path = "../tests/support/pushing.rs"]
mod pushing;
#[path = "../tests/support/receiver.rs"]
mod receiver;

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use pushing::{Pushing, points};
use receiver::{Received, Receiver};

/// Long enough for one push of the largest host, on a machine that is busy.
const INTERVAL: Duration = Duration::from_secs(8);
const PUSHES: u32 = 4;
/// All of them, KVM's of each virtual CPU included.
const GROUPS: &str = "state,cpu_total,balloon,vcpu,interface,block,perf,iothread,memory,dirtyrate,vm,vcpu_kvm";

fn main() {
    // Cargo asks for a list of tests where it runs them all.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    println!(
        "domains  protocol       points requests  wire KiB  CPU ms a push  of it without collection  peak RSS MiB"
    );
    for (domains, protocol) in [(100, "http/protobuf"), (100, "grpc"), (1120, "http/protobuf"), (1120, "grpc")] {
        take_measure(domains, protocol);
    }
    take_outage(Duration::from_secs(60));
}

fn start(daemon: &FakeLibvirtd, receiver: &Receiver, otlp: &str, collection: &str) -> Pushing {
    let config = format!(
        "libvirt: {{uri: '{}'}}\nweb: {{listen_addresses: []}}\ncollection: {{groups: [{GROUPS}], deadline: 7s{collection}}}\n\
         otlp: {{endpoint: 'http://{}', {otlp}}}\n",
        daemon.uri(),
        receiver.address
    );
    Pushing::start(tempfile::tempdir().unwrap(), &config, &[])
}

fn take_measure(domains: usize, protocol: &str) {
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(domains, Template::medium()).build()).unwrap();
    let receiver = Receiver::start(None);
    let otlp = format!("protocol: {protocol}, interval: {}s", INTERVAL.as_secs());
    let collecting = start(&daemon, &receiver, &otlp, "");
    let (cpu, last) = cpu_of_a_push(&collecting, &receiver);
    let peak = collecting.peak_rss() >> 20;
    drop(collecting);
    let shared = start(&daemon, &receiver, &otlp, ", min_interval: 1h");
    let (without, _) = cpu_of_a_push(&shared, &receiver);
    let count: usize = last.iter().map(|one| points(&one.request).len()).sum();
    let bytes: usize = last.iter().map(|one| one.bytes).sum();
    println!(
        "{domains:7}  {protocol:13} {count:7} {:8} {:9}  {:13}  {:24}  {peak:12}",
        last.len(),
        bytes >> 10,
        cpu.as_millis(),
        without.as_millis()
    );
}

/// The CPU time of one push out of some, and the requests of one of the last.
fn cpu_of_a_push(exporter: &Pushing, receiver: &Receiver) -> (Duration, Vec<Received>) {
    receiver.forget();
    while !exporter.log().contains("the receiver accepts pushes") {
        sleep(Duration::from_millis(50));
    }
    // From the middle between two pushes to the middle between two others.
    sleep(INTERVAL / 2);
    let began = exporter.cpu();
    sleep(INTERVAL * (PUSHES - 1));
    receiver.forget();
    sleep(INTERVAL);
    let cpu = exporter.cpu().saturating_sub(began) / PUSHES;
    // On a busy machine there may be part of another push.
    let mut pushes: BTreeMap<Option<u64>, Vec<Received>> = BTreeMap::new();
    for one in receiver.received() {
        let at = points(&one.request).values().next().map(|point| point.time_unix_nano);
        pushes.entry(at).or_default().push(one);
    }
    (cpu, pushes.into_values().max_by_key(Vec::len).unwrap_or_default())
}

fn take_outage(length: Duration) {
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(100, Template::medium()).build()).unwrap();
    let receiver = Receiver::start(None);
    let address = receiver.address;
    let mut exporter = start(&daemon, &receiver, "interval: 1s", "");
    exporter.wait_for_log("the receiver accepts pushes");
    sleep(Duration::from_secs(10));
    drop(receiver);
    exporter.wait_for_log("push dropped, the receiver is unavailable");
    let mut memory = Vec::new();
    let began = Instant::now();
    while began.elapsed() < length {
        memory.push(exporter.rss() >> 10);
        sleep(length / 6);
    }
    println!(
        "receiver away for {} s at 1 s: RSS in KiB every {} s: {memory:?}",
        length.as_secs(),
        length.as_secs() / 6
    );
    let receiver = Receiver::start_at(address, None);
    let back = Instant::now();
    receiver.next();
    println!(
        "receiver back: the first push after {:.1} s, RSS {} KiB",
        back.elapsed().as_secs_f64(),
        exporter.rss() >> 10
    );
}
