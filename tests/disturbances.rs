//! Everything that can go wrong, in any order, and nothing left behind. A separate test binary: it counts what the process
//! holds.
#![allow(clippy::expect_used, clippy::print_stdout)]

#[path = "support/scraper.rs"]
mod scraper;
#[path = "support/waiting.rs"]
mod waiting;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use fake_libvirtd::{Change, Procedure, ReplyFault, Times};
use scraper::{Scraper, daemon};
use waiting::{KEEPALIVE, assert_no_wait};

const STATS: Procedure = Procedure::ConnectGetAllDomainStats;

/// Disturbances at random; `DISTURBANCES=1000 cargo test --test disturbances -- --nocapture` for the long form, `SEED=1` for
/// others.
#[test]
fn after_many_disturbances_everything_is_as_before() {
    let number_of = |variable| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let count = number_of("DISTURBANCES").unwrap_or(40);
    // The long form spreads them over ten minutes.
    let pace = Duration::from_millis(if count > 500 { 600 } else { 200 });
    let mut scrapes: BTreeMap<&str, u32> = BTreeMap::new();
    let daemon = daemon(50);
    let scraper = Scraper::new(&daemon, "").within(Duration::from_secs(4));
    // Every worker has been started once.
    (0..20).for_each(|_| drop(scraper.scrape()));
    let before = Footprint::now();
    let started = Instant::now();
    let mut random = number_of("SEED").unwrap_or(0x2545_f491_4f6c_dd1d);
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for _ in 0..count {
        let name = format!("vm-{}", next(50));
        match next(8) {
            0 | 1 => daemon.faults().hang_domain(&name),
            2 => daemon.faults().freeze(),
            3 => daemon.disconnect_all(),
            4 => daemon.faults().reply(STATS, ReplyFault::CutAfter(100), Times::Next(1)),
            5 => daemon.faults().reply(STATS, ReplyFault::Delay(Duration::from_millis(300)), Times::Next(3)),
            6 => {
                daemon.kill();
                std::thread::sleep(Duration::from_millis(next(50)));
                daemon.revive().expect("a socket");
            }
            _ => drop(daemon.domains().change(&name, Change::Die)),
        }
        let until = Instant::now() + pace;
        while Instant::now() < until {
            let scrape = scraper.scrape();
            assert_no_wait(scrape.took, KEEPALIVE);
            let seen = match scrape.class() {
                Some(class) => class.as_str(),
                None if scrape.complete() == scrape.collection.domains.len() => "complete",
                None => "partial",
            };
            *scrapes.entry(seen).or_insert(0) += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        if next(3) == 0 {
            daemon.faults().clear();
            daemon.faults().thaw();
            (0..50).for_each(|number| {
                daemon.release(&format!("vm-{number}"));
                let name = format!("vm-{number}");
                if daemon.domains().get(&name).is_some_and(|domain| domain.id.is_none()) {
                    drop(daemon.domains().change(&name, Change::Start));
                }
            });
        }
    }
    daemon.faults().clear();
    daemon.faults().thaw();
    for number in 0..50 {
        let name = format!("vm-{number}");
        daemon.release(&name);
        if daemon.domains().get(&name).is_some_and(|domain| domain.id.is_none()) {
            daemon.domains().change(&name, Change::Start).expect("a domain");
        }
    }
    scraper.until("every domain is complete", |scrape| scrape.complete() == 50);
    let after = before.settled();
    println!("scrapes: {scrapes:?}");
    println!("{count} disturbances in {:?}: before {before:?}, after {after:?}", started.elapsed());
}

/// What this process holds: the exporter's side and the fake daemon's.
#[derive(Debug)]
struct Footprint {
    threads: usize,
    files: usize,
    resident_kib: usize,
}

impl Footprint {
    fn now() -> Self {
        let count = |folder| fs::read_dir(folder).expect("the kernel's list").count();
        let status = fs::read_to_string("/proc/self/status").expect("the kernel's word");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Self {
            threads: count("/proc/self/task"),
            files: count("/proc/self/fd"),
            resident_kib: resident.and_then(|kib| kib.parse().ok()).expect("a number"),
        }
    }

    /// Waits until no more threads and descriptors are held than before, but for a worker more or less and what it holds at
    /// both ends; memory may have grown by what an allocator keeps.
    fn settled(&self) -> Self {
        let started = Instant::now();
        loop {
            let now = Self::now();
            let few = now.threads <= self.threads + 6 && now.files <= self.files + 10;
            if few && now.resident_kib <= self.resident_kib + 20_000 {
                return now;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "before {self:?}, after {now:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
