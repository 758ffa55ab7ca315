//! Reloading: a new configuration takes effect while the program goes on, or changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/server.rs"]
mod server;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fake_libvirtd::{Change, FakeLibvirtd, Procedure, ReplyFault, Scenario, Template, Times};
use server::{Client, Ending, Server, file, folder};

#[test]
fn a_reload_under_load_fails_no_scrape() {
    let server = Server::start(folder(), "web: {enable_lifecycle: true}\n", "");
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for keeps in [false, true] {
            let (server, stop, done) = (&server, &stop, &done);
            scope.spawn(move || {
                let mut kept = Client::connect(server.address, None).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let answer = match keeps {
                        true => kept.request("GET", "/metrics", ""),
                        false => server.request(None, "GET", "/metrics", ""),
                    };
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.code, 200);
                    assert!(answer.body.contains("\nlibvirt_up 1\n"), "{}", answer.body);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let ending = Ending(&stop);
        for turn in 0..40 {
            // What is shown changes in every turn.
            let labels = if turn % 2 == 0 { "[uuid]" } else { "[domain]" };
            let config = format!("domains: {{labels: {labels}}}\nweb: {{enable_lifecycle: true}}\n");
            server.replace("config.yaml", &config);
            if turn % 4 == 0 {
                server.signal("-HUP");
                thread::sleep(Duration::from_millis(20));
            } else {
                let answer = server.request(None, "POST", "/-/reload", "").unwrap();
                assert_eq!(answer.code, 200, "{}", answer.body);
                let shown = server.get("/metrics").contains("domain=\"test\"");
                assert_eq!(shown, turn % 2 == 1);
            }
        }
        drop(ending);
    });
    assert!(done.load(Ordering::Relaxed) > 10, "{done:?}");
}

#[test]
fn a_reload_takes_effect_and_forgets_nothing() {
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(24, Template::small()).build()).unwrap();
    let config = |more: &str| {
        let uri = daemon.uri();
        format!("libvirt: {{uri: '{uri}'}}\nweb: {{enable_lifecycle: true, openmetrics_created: true}}\n{more}")
    };
    let server = Server::start_on(folder(), None, &config("collection: {workers: 1, batch_size: 3}\n"), "");
    let until = |what: &str, good: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let accept = "Accept: application/openmetrics-text\r\n";
            let body = server.request(None, "GET", "/metrics", accept).unwrap().body;
            if good(&body) {
                return body;
            }
            assert!(Instant::now() < deadline, "{what}:\n{body}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    until("connected", &|body| body.contains("\nlibvirt_up 1\n"));
    daemon.domains().change("vm-0", Change::Destroy).unwrap();
    let before = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    daemon.domains().change("vm-0", Change::Start).unwrap();
    daemon.domains().change("vm-0", Change::Reboot).unwrap();
    let has_rebooted = |body: &str| {
        body.contains("\nlibvirt_domain_reboots_total{domain=\"vm-0\"") && {
            let line =
                body.lines().find(|line| line.starts_with("libvirt_domain_reboots_total{domain=\"vm-0\"")).unwrap();
            line.ends_with(" 1")
        }
    };
    let body = until("rebooted", &has_rebooted);
    // Its counters began with its start, dated up to a second earlier for Prometheus; the starts of the others were not seen.
    let began = |domain: &str| {
        let series = format!("libvirt_domain_cpu_time_seconds_created{{domain=\"{domain}\"");
        let line = body.lines().find(|line| line.starts_with(&series))?;
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!(
        began("vm-0").is_some_and(|at| before - 1.001 <= at && at <= now),
        "{:?}, {before} to {now}",
        began("vm-0")
    );
    assert_eq!(began("vm-1"), None);
    daemon.faults().reply(
        Procedure::ConnectGetAllDomainStats,
        ReplyFault::Delay(Duration::from_millis(30)),
        Times::Always,
    );
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ending = Ending(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let body = server.get("/metrics");
                    assert!(body.contains("\nlibvirt_up 1\n") && has_rebooted(&body), "{body}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let reload = |more: &str| {
            server.replace("config.yaml", &config(more));
            assert_eq!(server.request(None, "POST", "/-/reload", "").unwrap().code, 200);
        };
        daemon.counters().reset();
        until("some scrapes", &|_| done.load(Ordering::Relaxed) > 4);
        // One worker, and the connection that asks who keeps it waiting.
        assert!(daemon.counters().concurrent_stats_max() <= 2);
        reload("collection: {workers: 4, batch_size: 3}\n");
        until("more workers", &|_| daemon.counters().concurrent_stats_max() >= 4);
        reload("collection: {groups: [state, vcpu]}\n");
        until("fewer groups", &|body| !body.contains("libvirt_domain_block_") && body.contains("libvirt_domain_vcpu_"));
        reload("domains: {exclude: [vm-1]}\n");
        until("fewer domains", &|body| !body.contains("\"vm-1\"") && body.contains("libvirt_domain_block_"));
        drop(ending);
    });
    let end = server.get("/metrics");
    assert!(has_rebooted(&end) && end.contains("libvirt_exporter_reconnects_total 0\n"), "{end}");
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let server =
        Server::start(folder(), "web: {enable_lifecycle: true}\n", "rate_limit: {interval: 1ms, burst: 1000}\n");
    let reload = || server.request(None, "POST", "/-/reload", "").unwrap();
    let good = "libvirt_exporter_config_last_reload_successful 1\n";
    let bad = "libvirt_exporter_config_last_reload_successful 0\n";
    assert!(server.get("/metrics").contains(good));
    server.replace("config.yaml", "web: {telemetry_path: /m, enable_lifecycle: maybe}\n");
    let name = file(&server.folder, "config.yaml").display().to_string();
    let fault = format!("{name}:1:45: web.enable_lifecycle: invalid type: string \"maybe\", expected a boolean\n");
    let answer = reload();
    assert_eq!((answer.code, &answer.body), (500, &fault));
    assert!(server.get("/metrics").contains(bad));
    assert!(server.get("/").contains("Invalid configuration"));
    server.wait_for_log("the configuration cannot be used, the previous one stays active");
    // What needs a restart is said, the rest is in effect.
    server.replace("config.yaml", "web: {telemetry_path: /m, systemd_socket: true}\nlog: {format: json}\n");
    assert_eq!(reload().code, 200);
    server.wait_for_log("setting=web.systemd_socket");
    assert!(server.get("/m").contains(good));
    assert!(server.get("/-/config").contains("systemd_socket: false\n"));
    assert_eq!(reload().code, 403, "enable_lifecycle is gone");
    // A bad web configuration is found by itself, and by a reload.
    server.replace("web.yaml", "rate_limit: 5\n");
    server.get("/-/healthy");
    assert!(server.get("/m").contains(bad));
    server.wait_for_log("the changed web configuration is invalid");
    server.replace("config.yaml", "web: {telemetry_path: /n}\n");
    server.signal("-HUP");
    server.wait_for_log("the configuration cannot be used");
    assert!(server.get("/m").contains(bad));
    server.replace("web.yaml", "{}\n");
    server.signal("-HUP");
    let started = Instant::now();
    while server.request(None, "GET", "/n", "").unwrap().code != 200 {
        assert!(started.elapsed() < Duration::from_secs(60), "the good files are not in effect");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(server.get("/n").contains(good));
}
