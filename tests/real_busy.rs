//! Real libvirt with real QEMUs that other clients ask, or keep busy, while the exporter is scraped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "support/beside.rs"]
mod beside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/paused.rs"]
mod paused;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use beside::beside;
use lab::{Exporter, Lab};
use paused::paused_guests;

const GUESTS: u32 = 12;

/// The families that each guest has samples of, and the guests that are marked.
fn scrape(exporter: &Exporter, names: &[String]) -> (Vec<BTreeSet<String>>, Vec<String>) {
    read(&exporter.metrics("text/plain").unwrap(), names)
}

fn read(body: &str, names: &[String]) -> (Vec<BTreeSet<String>>, Vec<String>) {
    assert!(body.lines().any(|line| line == "libvirt_up 1"), "{body}");
    let families = |name: &String| -> BTreeSet<String> {
        let label = format!("domain=\"{name}\"");
        let own =
            body.lines().filter(|line| line.contains(&label) && !line.starts_with("libvirt_domain_stats_missing"));
        own.filter_map(|line| line.split('{').next()).map(str::to_owned).collect()
    };
    let missing = body.lines().filter(|line| line.starts_with("libvirt_domain_stats_missing{"));
    (names.iter().map(families).collect(), missing.map(str::to_owned).collect())
}

/// What each guest has, once all of them have it.
fn whole(exporter: &Exporter, names: &[String]) -> Vec<BTreeSet<String>> {
    let started = Instant::now();
    loop {
        let (families, missing) = scrape(exporter, names);
        let has = |wanted: &str| families.iter().all(|families| families.contains(wanted));
        if missing.is_empty() && has("libvirt_domain_block_read_bytes_total") && has("libvirt_domain_block_info") {
            return families;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{missing:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Whether each scrape has all, while others do something.
fn scrapes_are_whole(exporter: &Exporter, names: &[String], expected: &[BTreeSet<String>], count: usize) {
    for round in 0..count {
        let (families, missing) = scrape(exporter, names);
        assert_eq!(missing, Vec::<String>::new(), "scrape {round}");
        for (name, (is, should)) in names.iter().zip(families.iter().zip(expected)) {
            let lacks: Vec<_> = should.difference(is).collect();
            assert!(lacks.is_empty(), "scrape {round}: {name} lacks {lacks:?} and nothing says so");
        }
    }
}

/// A FIFO that QEMU may write to.
fn fifo(lab: &Lab) -> PathBuf {
    let path = lab.folder().join("disks/fifo");
    assert!(Command::new("mkfifo").args(["-m", "666"]).arg(&path).status().unwrap().success());
    path
}

/// Keeps the monitor of a guest, and with it the job, busy meanwhile: QEMU waits for a reader of the FIFO that it saves memory to.
fn hold_job(lab: &Lab, name: &str, fifo: &Path, meanwhile: impl FnOnce()) {
    /// Reads the FIFO, also where what goes on meanwhile fails.
    struct Reader<'a>(&'a Path);
    impl Drop for Reader<'_> {
        fn drop(&mut self) {
            let saved = Command::new("timeout").args(["60", "cat"]).arg(self.0).output().unwrap();
            assert!(thread::panicking() || saved.stdout.len() == 4096, "{saved:?}");
        }
    }
    thread::scope(|scope| {
        let command = format!("pmemsave 0 4096 \"{}\"", fifo.display());
        scope.spawn(move || {
            let said = lab.virsh(&["qemu-monitor-command", name, "--hmp", &command]).unwrap();
            assert_eq!(said.trim(), "");
        });
        let _reader = Reader(fifo);
        meanwhile();
    });
}

/// Waits until the monitor of a guest is busy.
fn until_busy(lab: &Lab, name: &str) {
    let started = Instant::now();
    while !lab.virsh(&["domcontrol", name]).unwrap().starts_with("occupied") {
        assert!(started.elapsed() < Duration::from_secs(60), "{name} is not busy");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn guests_are_whole_while_other_clients_ask_for_them() {
    let (lab, names) = paused_guests(GUESTS);
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let other = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let expected = whole(&exporter, &names);
    let domstats = || drop(lab.virsh(&["domstats"]).unwrap());
    let scraped = || drop(other.metrics("text/plain").unwrap());
    beside(domstats, || scrapes_are_whole(&exporter, &names, &expected, 15));
    beside(scraped, || scrapes_are_whole(&exporter, &names, &expected, 15));
    beside(domstats, || beside(scraped, || scrapes_are_whole(&exporter, &names, &expected, 15)));
}

#[test]
fn a_job_of_a_moment_leaves_no_gap_and_one_of_seconds_is_named() {
    let (lab, names) = paused_guests(3);
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let expected = whole(&exporter, &names);
    let fifo = fifo(&lab);
    let moment = || hold_job(&lab, &names[1], &fifo, || thread::sleep(Duration::from_millis(300)));
    beside(moment, || scrapes_are_whole(&exporter, &names, &expected, 8));

    hold_job(&lab, &names[1], &fifo, || {
        until_busy(&lab, &names[1]);
        // Half of that time is waited for the job.
        let (families, missing) = read(&exporter.metrics_within(10).unwrap(), &names);
        assert_eq!((&families[0], &families[2]), (&expected[0], &expected[2]));
        assert!(families[1].contains("libvirt_domain_vcpu_time_seconds_total"), "{:?}", families[1]);
        let of_it = |line: &String| line.contains(&names[1]) && line.contains("reason=\"busy\"");
        assert!(!missing.is_empty() && missing.iter().all(of_it), "{missing:?}");
        assert!(missing.iter().any(|line| line.contains("group=\"block\"")), "{missing:?}");
    });
    scrapes_are_whole(&exporter, &names, &expected, 3);
}
