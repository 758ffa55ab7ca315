//! The target set as the program shows it, on a fake daemon: metrics of what happened, the list of guests, the commands.
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

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use fake_libvirtd::domain::Interface;
use fake_libvirtd::params::Value as Param;
use fake_libvirtd::{
    Change, Domain, DomainState, Event, FakeLibvirtd, Procedure, ReplyFault, Scenario, Template, Times,
};
use serde_json::Value;
use server::{Server, folder, program};

const LOOKUP: Procedure = Procedure::DomainInterfaceAddresses;
const DISCOVERY: &str = "service_discovery: {enabled: true}\nmetadata: {rate: 5000}\n";

fn daemon(domains: usize) -> FakeLibvirtd {
    FakeLibvirtd::start(Scenario::builder().domains(domains, Template::small()).build()).unwrap()
}

fn serve(daemon: &FakeLibvirtd, config: &str) -> Server {
    Server::start_on(folder(), Some(&daemon.uri()), config, "")
}

/// Waits until `good` has something to say about the answer of a path.
fn until<T>(server: &Server, path: &str, good: impl Fn(u16, &str) -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        let answer = server.request(None, "GET", path, "").unwrap();
        if let Some(found) = good(answer.code, &answer.body) {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{path}: {} {}", answer.code, answer.body);
        thread::sleep(Duration::from_millis(20));
    }
}

/// The names in the list of guests, once there is one that satisfies.
fn guests(server: &Server, good: impl Fn(&[String]) -> bool) -> Vec<String> {
    until(server, "/sd", |code, body| {
        let groups: Vec<Value> = serde_json::from_str(body).ok().filter(|_| code == 200)?;
        let name = |group: &Value| group["labels"]["__meta_libvirt_domain_name"].as_str().map(str::to_owned);
        let mut names: Vec<String> = groups.iter().filter_map(name).collect();
        names.sort();
        good(&names).then_some(names)
    })
}

fn rss_kib(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn sample(body: &str, series: &str) -> Option<f64> {
    body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_single_scrape_waits_for_the_definitions() {
    let daemon = daemon(40);
    let done = program().args(["scrape", "--libvirt.uri", &daemon.uri()]).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("libvirt_domain_info{")).count(), 40, "{text}");
    assert!(text.contains("\nlibvirt_exporter_metadata_pending 0\n"), "{text}");
}

#[test]
fn the_crash_of_a_transient_domain_is_counted_after_it_is_gone() {
    let daemon = daemon(1);
    let server = serve(&daemon, "");
    daemon.domains().define(Domain { persistent: false, ..Domain::new("fleeting", Template::small()) });
    until(&server, "/metrics", |_, body| body.contains("libvirt_domain_info{domain=\"fleeting\"").then_some(()));
    daemon.domains().change("fleeting", Change::Die).unwrap();
    let series = "libvirt_host_lifecycle_events_total{event=\"stopped\",detail=\"failed\"}";
    let body = until(&server, "/metrics", |_, body| (sample(body, series) == Some(1.0)).then(|| body.to_owned()));
    assert!(!body.contains("fleeting"), "{body}");
    assert!(!server.get("/metrics").contains("fleeting"));
}

#[test]
fn a_migration_is_counted_after_its_domain_has_been_undefined() {
    let daemon = daemon(1);
    let server = serve(&daemon, "");
    daemon.domains().define(Domain { persistent: false, ..Domain::new("moves", Template::small()) });
    until(&server, "/metrics", |_, body| body.contains("libvirt_domain_info{domain=\"moves\"").then_some(()));
    let params = [("operation", Param::Int(5)), ("time_elapsed", Param::ULLong(2100)), ("downtime", Param::ULLong(19))];
    let params = params.map(|(key, value)| (key.to_owned(), value)).to_vec();
    daemon.events().send("moves", Event::JobCompleted { params }).unwrap();
    daemon.domains().change("moves", Change::Destroy).unwrap();
    let body = until(&server, "/metrics", |_, body| (!body.contains("moves")).then(|| body.to_owned()));
    for (series, value) in [
        ("libvirt_host_jobs_total{operation=\"migration_out\"}", 1.0),
        ("libvirt_host_job_duration_seconds_bucket{operation=\"migration_out\",le=\"1.0\"}", 0.0),
        ("libvirt_host_job_duration_seconds_bucket{operation=\"migration_out\",le=\"2.5\"}", 1.0),
        ("libvirt_host_job_duration_seconds_sum{operation=\"migration_out\"}", 2.1),
        ("libvirt_host_job_downtime_seconds_bucket{operation=\"migration_out\",le=\"0.05\"}", 1.0),
        ("libvirt_host_job_downtime_seconds_count{operation=\"migration_out\"}", 1.0),
    ] {
        assert_eq!(sample(&body, series), Some(value), "{series}: {body}");
    }
}

#[test]
fn crashes_of_a_domain_are_counted_once_each() {
    let daemon = daemon(2);
    let server = serve(&daemon, "");
    let series = format!(
        "libvirt_domain_crashes_total{{domain=\"vm-1\",uuid=\"{}\"}}",
        daemon.domains().get("vm-1").unwrap().uuid
    );
    let wait_for =
        |crashes: f64| until(&server, "/metrics", |_, body| (sample(body, &series) == Some(crashes)).then_some(()));
    wait_for(0.0);
    // The hypervisor dies.
    daemon.domains().change("vm-1", Change::Die).unwrap();
    daemon.domains().change("vm-1", Change::Start).unwrap();
    wait_for(1.0);
    // The guest panics, and is destroyed for that.
    daemon.events().lifecycle("vm-1", 8, 0).unwrap();
    daemon.domains().update("vm-1", |domain| domain.set_state(DomainState::Shutoff, 3)).unwrap();
    daemon.events().lifecycle("vm-1", 5, 2).unwrap();
    daemon.domains().change("vm-1", Change::Start).unwrap();
    wait_for(2.0);
    // It panics and goes on; then its hypervisor dies.
    daemon.events().lifecycle("vm-1", 8, 0).unwrap();
    daemon.events().lifecycle("vm-1", 4, 0).unwrap();
    wait_for(3.0);
    daemon.domains().change("vm-1", Change::Die).unwrap();
    daemon.domains().change("vm-1", Change::Start).unwrap();
    wait_for(4.0);
    daemon.domains().change("vm-1", Change::Shutdown).unwrap();
    daemon.domains().change("vm-1", Change::Start).unwrap();
    daemon.events().send("vm-1", Event::Reboot).unwrap();
    let reboots = series.replace("crashes", "reboots");
    until(&server, "/metrics", |_, body| (sample(body, &reboots) == Some(1.0)).then_some(()));
    wait_for(4.0);
}

#[test]
fn a_storm_of_events_does_not_cost_memory() {
    let daemon = daemon(500);
    let server = serve(&daemon, "metadata: {rate: 5000}\n");
    until(&server, "/metrics", |_, body| {
        (sample(body, "libvirt_exporter_metadata_pending") == Some(0.0)).then_some(())
    });
    (0..20).for_each(|_| drop(server.get("/metrics")));
    let before = rss_kib(&server);
    let resumed = Event::lifecycle(4, 0);
    let most = thread::scope(|scope| {
        let storm = scope.spawn(|| daemon.events().storm(100_000, Duration::from_secs(10), &[resumed, Event::Reboot]));
        let mut most = before;
        while !storm.is_finished() {
            let body = server.get("/metrics");
            assert_eq!(sample(&body, "libvirt_up"), Some(1.0));
            most = most.max(rss_kib(&server));
        }
        most
    });
    let counted = until(&server, "/metrics", |_, body| {
        let dropped = sample(body, "libvirt_exporter_events_dropped_total").unwrap();
        let reboots = sample(body, "libvirt_host_events_total{event=\"reboot\"}").unwrap();
        let resumed =
            sample(body, "libvirt_host_lifecycle_events_total{event=\"resumed\",detail=\"unpaused\"}").unwrap();
        (dropped + reboots + resumed >= 100_000.0).then_some((dropped, reboots, resumed))
    });
    assert_eq!(counted.0 + counted.1 + counted.2, 100_000.0, "each event is counted or known to be lost");
    assert!(most < before + 16 * 1024, "{before} KiB before, {most} KiB at most");
}

#[test]
fn the_command_targets_prints_who_exists() {
    let daemon = daemon(3);
    daemon.domains().update("vm-1", |domain| domain.title = Some("the \"first\"".into())).unwrap();
    daemon.domains().update("vm-2", |domain| domain.set_state(DomainState::Shutoff, 1)).unwrap();
    let run = |config: &str| {
        let folder = folder();
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let done = program()
            .args(["targets", "--libvirt.uri", &daemon.uri(), "--config.file"])
            .arg(folder.path().join("config.yaml"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let mut rows: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
        rows.sort_by_key(|row| row["name"].as_str().unwrap().to_owned());
        rows
    };
    let rows = run("domains: {exclude: [vm-0]}\n");
    let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("name"), ["vm-0", "vm-1", "vm-2"]);
    assert_eq!(column("state"), ["running", "running", "shutoff"]);
    assert_eq!(column("selected"), [false, true, true]);
    assert_eq!(rows[1]["definition"]["title"], "the \"first\"");
    assert_eq!(rows[1]["uuid"], daemon.domains().get("vm-1").unwrap().uuid.to_string());
    assert_eq!((&rows[1]["id"], &rows[2]["id"]), (&daemon.domains().get("vm-1").unwrap().id.into(), &Value::Null));
    assert_eq!(rows[0]["addresses"], Value::Null, "not looked up");
    let rows = run(DISCOVERY);
    assert_eq!(rows[0]["addresses"]["source"], "lease");
}

#[test]
fn check_tells_of_events_that_are_not_known_and_of_guests() {
    let daemon =
        FakeLibvirtd::start(Scenario::builder().domains(3, Template::small()).libvirt_version(9_000_000).build())
            .unwrap();
    daemon.domains().update("vm-1", |domain| domain.interfaces = Some(Vec::new())).unwrap();
    let folder = folder();
    fs::write(folder.path().join("config.yaml"), DISCOVERY).unwrap();
    let config = folder.path().join("config.yaml");
    let run = |more: &[&str]| {
        let done = program()
            .args(["check", "--web.listen-address", "127.0.0.1:0", "--libvirt.uri", &daemon.uri()])
            .args(more)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let report = run(&["--config.file", config.to_str().unwrap()]);
    let line = |what: &str| report.lines().find(|line| line.starts_with(what)).unwrap_or_default().to_owned();
    assert!(line("events not supported:").contains("nic_mac_change, vcpu_removed, channel_lifecycle"), "{report}");
    assert!(
        line("service discovery:").ends_with("2 of 3 domains that run or are paused have addresses, 2 targets"),
        "{report}"
    );
    assert!(!run(&[]).contains("service discovery"));
}

#[test]
fn a_look_up_that_fails_or_hangs_costs_no_guest_and_no_list() {
    let daemon = daemon(4);
    daemon.domains().update("vm-3", |domain| domain.set_state(DomainState::Shutoff, 1)).unwrap();
    let config = "service_discovery: {enabled: true, refresh_interval: 1s}\nmetadata: {rate: 5000, timeout: 500ms}\n";
    let server = serve(&daemon, config);
    let all = ["vm-0", "vm-1", "vm-2"];
    assert_eq!(guests(&server, |_| true), all);
    // The network daemon is away for a while.
    let away = ReplyFault::Error { code: 38, message: "cannot connect to virtnetworkd".into() };
    daemon.faults().reply(LOOKUP, away, Times::Always);
    daemon.counters().reset();
    let (began, mut lists) = (Instant::now(), 0);
    while lists < 40 || daemon.counters().calls(LOOKUP) < 2 {
        assert_eq!(guests(&server, |_| true), all);
        lists += 1;
        assert!(began.elapsed() < Duration::from_secs(60), "no look-up in {lists} lists");
        thread::sleep(Duration::from_millis(50));
    }
    let (lookups, seconds) = (daemon.counters().calls(LOOKUP), 1 + began.elapsed().as_secs());
    assert!(lookups <= 12 * seconds, "{lookups} look-ups for {lists} lists in {seconds} s");
    // A guest that is not located yet is no reason to have no list.
    daemon.domains().change("vm-3", Change::Start).unwrap();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(guests(&server, |_| true), all);
    // It says nothing any more.
    daemon.faults().clear_replies();
    assert_eq!(guests(&server, |names| names.len() == 4).len(), 4);
    daemon.faults().reply(LOOKUP, ReplyFault::Swallow, Times::Always);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(guests(&server, |_| true).len(), 4);
    daemon.domains().define(Domain::new("new", Template::small()));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(guests(&server, |_| true).len(), 4, "it has no address yet, and the others are there");
}

#[test]
fn a_frozen_guest_holds_up_no_list_and_keeps_its_place() {
    let daemon = daemon(3);
    daemon.faults().hang_domain("vm-1");
    let server = serve(&daemon, DISCOVERY);
    assert!(server.get("/metrics").contains("libvirt_domain_quarantined{domain=\"vm-1\""));
    assert_eq!(guests(&server, |_| true), ["vm-0", "vm-1", "vm-2"]);
}

#[test]
fn there_is_no_list_while_the_daemon_is_silent_and_it_is_back_afterwards() {
    let daemon = daemon(2);
    let server = serve(&daemon, &format!("{DISCOVERY}collection: {{deadline: 2s}}\n"));
    assert_eq!(guests(&server, |_| true).len(), 2);
    daemon.faults().freeze();
    until(&server, "/metrics", |_, body| (sample(body, "libvirt_up") == Some(0.0)).then_some(()));
    let answer = server.request(None, "GET", "/sd", "").unwrap();
    assert_eq!((answer.code, answer.body.lines().count()), (503, 1), "{}", answer.body);
    daemon.faults().thaw();
    assert_eq!(guests(&server, |_| true).len(), 2);
}

#[test]
fn a_list_that_is_asked_for_all_the_time_costs_a_look_up_every_five_seconds() {
    let daemon = daemon(20);
    // Most guests boot: they have no address yet.
    for number in 5..20 {
        daemon.domains().update(&format!("vm-{number}"), |domain| domain.interfaces = Some(Vec::new())).unwrap();
    }
    let server = serve(&daemon, DISCOVERY);
    assert_eq!(guests(&server, |names| names.len() == 5).len(), 5);
    daemon.counters().reset();
    let began = Instant::now();
    for _ in 0..200 {
        server.get("/sd");
    }
    // 200 lists take a second or two, or many where the machine has other things to do.
    let (lookups, rounds) = (daemon.counters().calls(LOOKUP), 2 + began.elapsed().as_secs() / 5);
    assert!(lookups <= 15 * rounds, "{lookups} look-ups for 200 lists in {rounds} rounds");
    // One that has its address now is found when it is looked up again.
    let interface = Interface {
        name: "vnet5".into(),
        hwaddr: "52:54:00:00:00:05".into(),
        addresses: vec![("192.0.2.5".into(), 24)],
    };
    daemon.domains().update("vm-5", |domain| domain.interfaces = Some(vec![interface])).unwrap();
    assert_eq!(guests(&server, |names| names.len() == 6)[4], "vm-4");
}
