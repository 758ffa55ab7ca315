//! Real libvirt with real QEMUs that are frozen, thawed and killed, and a real libvirtd that is frozen and restarted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/paused.rs"]
mod paused;
#[path = "support/waiting.rs"]
mod waiting;

use std::fs;
use std::time::{Duration, Instant};

use lab::{DEADLINE, Exporter, qemu, signal};
use paused::paused_guests;
use waiting::{KEEPALIVE, assert_no_wait};

/// What one scrape says, and how long it took.
#[derive(Debug)]
struct Scrape {
    up: bool,
    complete: usize,
    quarantined: usize,
    took: Duration,
}

fn scrape(exporter: &Exporter) -> Scrape {
    scrape_as(|| exporter.metrics("text/plain").unwrap())
}

fn scrape_as(ask: impl FnOnce() -> String) -> Scrape {
    let started = Instant::now();
    let body = ask();
    let took = started.elapsed();
    let count = |start: &str, end: &str| body.lines().filter(|l| l.starts_with(start) && l.ends_with(end)).count();
    Scrape {
        up: count("libvirt_up", " 1") == 1,
        complete: count("libvirt_domain_stats_complete{", " 1"),
        quarantined: count("libvirt_domain_quarantined{", " 1"),
        took,
    }
}

/// Scrapes until `good`, for two minutes at most.
fn until(exporter: &Exporter, what: &str, good: impl Fn(&Scrape) -> bool) -> Scrape {
    let started = Instant::now();
    loop {
        let scrape = scrape(exporter);
        if good(&scrape) {
            return scrape;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{what}: {scrape:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn frozen_thawed_and_killed_guests_cost_only_themselves() {
    let (lab, names) = paused_guests(10);
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    until(&exporter, "all ten are complete", |scrape| scrape.complete == 10);

    let pids: Vec<u32> = names.iter().map(|name| qemu(name)).collect();
    signal(pids[4], "-STOP");
    let first = scrape(&exporter);
    assert_eq!((first.up, first.complete, first.quarantined), (true, 9, 1), "{first:?}");
    assert_no_wait(first.took, DEADLINE);
    let later = scrape(&exporter);
    assert_eq!((later.complete, later.quarantined), (9, 1), "{later:?}");
    assert_no_wait(later.took, DEADLINE);
    signal(pids[4], "-CONT");
    // The monitor is free as soon as the QEMU has answered the call that waits.
    until(&exporter, "the thawed guest is complete again", |scrape| scrape.complete == 10 && scrape.quarantined == 0);

    for pid in &pids[..3] {
        signal(*pid, "-STOP");
    }
    let first = scrape(&exporter);
    assert_eq!((first.up, first.complete, first.quarantined), (true, 7, 3), "{first:?}");
    let later = scrape(&exporter);
    assert_eq!((later.complete, later.quarantined), (7, 3), "{later:?}");
    println!("three of ten frozen: first {:?}, later {:?}", first.took, later.took);
    // One is killed while it is stopped, two go on.
    signal(pids[0], "-KILL");
    signal(pids[1], "-CONT");
    signal(pids[2], "-CONT");
    until(&exporter, "the nine that are left are complete", |scrape| scrape.complete == 9 && scrape.quarantined == 0);
}

#[test]
fn a_frozen_and_restarted_libvirtd_is_an_answer_and_recovers() {
    let (lab, names) = paused_guests(10);
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    until(&exporter, "all ten are complete", |scrape| scrape.complete == 10);
    let pid_file = lab.folder().join("libvirtd.pid");
    let daemon = || fs::read_to_string(&pid_file).unwrap().trim().parse::<u32>().unwrap();

    signal(daemon(), "-STOP");
    // It waits as long as its scraper, as libvirtd may only be slow, and for nothing that libvirt does.
    let first = scrape_as(|| exporter.metrics_within(4).unwrap());
    assert!(!first.up, "{first:?}");
    assert_no_wait(first.took, KEEPALIVE);
    let later = scrape(&exporter);
    assert!(!later.up, "{later:?}");
    assert_no_wait(later.took, DEADLINE);
    signal(daemon(), "-CONT");
    until(&exporter, "libvirtd answers again", |scrape| scrape.complete == 10);

    assert!(lab.uri.contains(":///system"), "the restart of libvirtd in its namespace needs root: run this as root");
    let mut daemons = Vec::new();
    for _ in 0..20 {
        lab.kill_daemon();
        until(&exporter, "libvirtd is gone", |scrape| !scrape.up);
        daemons.push(lab.start_daemon_beside(&names[0]));
        until(&exporter, "libvirtd is back", |scrape| scrape.complete == 10);
    }
}

#[test]
fn guests_that_are_saved_or_come_and_go_are_no_errors() {
    let (lab, names) = paused_guests(10);
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let saved = lab.folder().join("saved");
    lab.virsh(&["save", &names[0], saved.to_str().unwrap()]).unwrap();
    assert_eq!(scrape(&exporter).complete, 9);
    lab.virsh(&["restore", saved.to_str().unwrap(), "--paused"]).unwrap();
    until(&exporter, "the restored guest is there", |scrape| scrape.complete == 10);
    // Jobs that hold the monitor for a while: a dump, and a copy of a disk.
    let dump = lab.folder().join("dump");
    lab.virsh(&["dump", &names[1], dump.to_str().unwrap(), "--memory-only"]).unwrap();
    assert!(scrape(&exporter).up);
    let copy = lab.folder().join("disks/copy");
    lab.virsh(&["blockcopy", &names[2], "vda", copy.to_str().unwrap(), "--transient-job", "--bandwidth", "1"]).unwrap();
    for _ in 0..5 {
        let during = scrape(&exporter);
        assert_eq!((during.up, during.complete, during.quarantined), (true, 10, 0), "{during:?}");
    }
    lab.virsh(&["blockjob", &names[2], "vda", "--abort"]).unwrap();
    for round in 0..50 {
        let name = &names[round % 10];
        lab.virsh(&["destroy", name]).unwrap();
        let without = scrape(&exporter);
        assert_eq!((without.up, without.complete), (true, 9), "{without:?}");
        let file = lab.folder().join(format!("{name}.xml"));
        lab.virsh(&["create", file.to_str().unwrap(), "--paused"]).unwrap();
        let with = scrape(&exporter);
        assert_eq!((with.up, with.complete), (true, 10), "{with:?}");
    }
}
