//! The way of bulk statistics through daemon, libvirt and our own layer: `cargo bench --bench client [-- DOMAINS [BATCH]]`
//!
//! The daemon is the fake one, in this process; its share is what its threads use, ours what the calling thread uses. Of
//! ours, libvirt's receiving and decoding is measured by calls that select no domain, the visit by a reply in memory.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use domstats_exporter::libvirt::{Access, Connection, DomainList, Records, Reply, StatsGroups, StatsRequest};
use fake_libvirtd::{FakeLibvirtd, Procedure, Scenario, Template};

/// Every group there is.
fn everything() -> StatsRequest {
    use StatsGroups as G;
    let groups = [G::STATE, G::CPU_TOTAL, G::BALLOON, G::VCPU, G::INTERFACE, G::BLOCK, G::PERF, G::IOTHREAD, G::MEMORY];
    let groups = groups.into_iter().chain([G::DIRTYRATE, G::VM]).collect();
    StatsRequest { groups, domains: None, backing_chain: false, nowait: true }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    // As a test (`cargo test --benches`) it only shows that it works.
    let default = if arguments.iter().any(|argument| argument == "--bench") { 10_000 } else { 20 };
    let count = numbers.first().copied().unwrap_or(default);
    let batch = numbers.get(1).copied().unwrap_or(1_000).max(1);
    let mut out = io::stdout();

    let daemon = FakeLibvirtd::start(Scenario::builder().domains(count, Template::medium()).build()).unwrap();
    let connection = Connection::open(&daemon.uri(), Access::ReadOnly, || {}).unwrap();
    let domains = connection.list_domains(DomainList::Active).unwrap();
    writeln!(out, "{count} domains of 270 parameters, batches of {batch}")?;
    let mut records = Records::default();
    for pass in ["first (the daemon encodes)", "second", "third", "counters grown"] {
        if pass == "counters grown" {
            daemon.advance(Duration::from_secs(15));
        }
        records.clear();
        let spent = spend(&daemon, || {
            for batch in domains.chunks(batch) {
                connection.fetch_stats_of(batch, everything(), &mut records).unwrap();
            }
        });
        assert_eq!(records.param_count(), 270 * count);
        spent.write(pass, &mut out)?;
    }

    // The visit alone.
    let reply = Reply::new(&records, 0);
    let size = u32::try_from(batch).unwrap();
    for pass in ["visit of replies in memory, first", "visit of replies in memory, again"] {
        let spent = spend(&daemon, || {
            for _ in 0..count.div_ceil(batch) {
                black_box(black_box(&reply).visit(0..size));
            }
        });
        spent.write(pass, &mut out)?;
    }

    // What fits into one reply, without and with the visit.
    let count = count.min(3_000);
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(count, Template::medium()).build()).unwrap();
    let connection = Connection::open(&daemon.uri(), Access::ReadOnly, || {}).unwrap();
    writeln!(out, "{count} domains of 270 parameters in one call")?;
    for (pass, selected) in
        [("no domain selected, first", false), ("no domain selected", false), ("all", true), ("all, again", true)]
    {
        records.clear();
        let spent = spend(&daemon, || connection.fetch_stats(everything(), |_, _| selected, &mut records).unwrap());
        spent.write(pass, &mut out)?;
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    writeln!(out, "peak memory of daemon and client: {}", peak.unwrap_or("unknown"))
}

/// What some calls cost.
struct Spent {
    wall: Duration,
    client_cpu: Duration,
    daemon_cpu: Duration,
    /// From arrival of the calls to the last byte of their replies.
    served: Duration,
    bytes: usize,
}

impl Spent {
    fn write(&self, pass: &str, out: &mut impl io::Write) -> io::Result<()> {
        writeln!(
            out,
            "{pass}: {:.3} s; client {:.3} s of CPU; daemon {:.3} s of CPU, {:.3} s from call to last byte; {} bytes",
            self.wall.as_secs_f64(),
            self.client_cpu.as_secs_f64(),
            self.daemon_cpu.as_secs_f64(),
            self.served.as_secs_f64(),
            self.bytes
        )
    }
}

fn spend(daemon: &FakeLibvirtd, what: impl FnOnce()) -> Spent {
    daemon.counters().reset();
    let (client, process, began) = (thread_cpu(), process_cpu(), Instant::now());
    what();
    let wall = began.elapsed();
    let (client_cpu, all_cpu) = (thread_cpu().saturating_sub(client), process_cpu().saturating_sub(process));
    // The client may have the last byte before the daemon has noted it.
    daemon.counters().wait_until(Duration::from_secs(5), |all| all.stats_under_way() == 0);
    let calls = daemon.counters().log_of(Procedure::ConnectGetAllDomainStats);
    Spent {
        wall,
        client_cpu,
        daemon_cpu: all_cpu.saturating_sub(client_cpu),
        served: calls.iter().filter_map(|call| call.duration).sum(),
        bytes: calls.iter().map(|call| call.reply_bytes).sum(),
    }
}

/// The calling thread's time on a CPU.
fn thread_cpu() -> Duration {
    nanos(fs::read_to_string("/proc/thread-self/schedstat"))
}

/// The CPU time of this process in user and kernel mode, threads that have ended included, in the kernel's steps of 10 ms.
fn process_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

fn nanos(schedstat: io::Result<String>) -> Duration {
    let text = schedstat.unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0))
}
