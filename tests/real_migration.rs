//! A real guest migrates, live, from one private libvirtd to another; an exporter on each says since when its counters count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/server.rs"]
mod server;

use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use lab::{Lab, Suite};
use server::{Server, folder};

/// The value of the first series that begins so, once it satisfies.
fn until(server: &Server, series: &str, good: impl Fn(Option<f64>) -> bool) -> Option<f64> {
    let began = Instant::now();
    loop {
        let accept = "Accept: application/openmetrics-text\r\n";
        let body = server.request(None, "GET", "/metrics", accept).unwrap().body;
        let line = body.lines().find(|line| line.starts_with(series));
        let value = line.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap());
        if good(value) {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{series} is {value:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_a_hypervisor_counts_begins_where_its_guest_arrives() {
    let [here, there] = [(); 2].map(|()| Lab::start(Suite::Machine).unwrap());
    if here.uri.contains(":///session") {
        eprintln!("SKIPPED: live migration needs a system daemon, and that root and the right to mount");
        return;
    }
    let name = here.guests(&["mover"]).unwrap().remove(0);
    here.wait_for_disk_reads(&name).unwrap();
    let [source, target] = [&here, &there]
        .map(|lab| Server::start_on(folder(), Some(&lab.uri_ro), "web: {openmetrics_created: true}\n", ""));
    let of = |metric: &str| format!("libvirt_domain_{metric}{{domain=\"{name}\"");
    until(&source, &of("cpu_time_seconds_total"), |value| value.is_some());
    until(&source, &of("cpu_time_seconds_created"), |value| value.is_none());
    until(&target, "libvirt_up", |value| value == Some(1.0));

    let before = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    // The image is on no storage that two hosts share, but on the one host there is.
    here.virsh(&["migrate", "--live", "--unsafe", &name, &there.uri, "tcp://127.0.0.1"]).unwrap();
    let after = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    for created in ["cpu_time_seconds_created", "block_read_bytes_created"] {
        let at = until(&target, &of(created), |value| value.is_some()).unwrap();
        // A start is dated a second before the first scrape that has it, at the latest.
        assert!(before - 1.001 <= at && at <= after, "{created} is {at}, not {before} to {after}");
    }
    until(&target, "libvirt_host_lifecycle_events_total{event=\"started\",detail=\"migrated\"}", |value| {
        value == Some(1.0)
    });
    until(&target, "libvirt_host_lifecycle_events_total{event=\"resumed\",detail=\"migrated\"}", |value| {
        value == Some(1.0)
    });
    until(&source, &of("cpu_time_seconds_total"), |value| value.is_none());
    // The count of the job outlives the guest where it was, and so do its times.
    let of_job = "{operation=\"migration_out\"";
    for metric in ["jobs_total", "job_duration_seconds_count", "job_downtime_seconds_count"] {
        until(&source, &format!("libvirt_host_{metric}{of_job}"), |value| value == Some(1.0));
    }
    // Its disk goes on counting from zero, with no fall that a new start would not explain.
    let reads = until(&target, &of("block_read_bytes_total"), |value| value > Some(0.0));
    assert!(until(&target, &of("block_read_bytes_total"), |value| value > reads) > reads);
}
