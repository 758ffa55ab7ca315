//! Many daemons from one process: `/probe`, its targets, and what they cost each other. The daemons are fakes.
//!
//! benches/targets.sh has the figures; here is what must hold on any machine. `TARGET_SOAK_SECONDS` sets the length (20) of the soak.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(dead_code, unreachable_pub, missing_docs, missing_debug_implementations)]

#[path = "support/many.rs"]
mod many;
#[path = "support/pushing.rs"]
mod pushing;
#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use many::{DOMAINS, Held, config, daemon, held, listed, own, probe, serve, until, whole};
use pushing::{metrics, points, resource};
use receiver::{Received, Receiver};
use serde_json::Value;
use server::folder;

#[test]
fn frozen_and_restarting_daemons_cost_the_others_nothing() {
    let daemons: Vec<FakeLibvirtd> = (0..50).map(|_| daemon(DOMAINS)).collect();
    let targets: Vec<_> = daemons.iter().enumerate().map(|(number, daemon)| (format!("hv-{number}"), daemon)).collect();
    let server = serve(&config(&targets, "web: {max_requests: 0}"));
    let probe_all = |range: std::ops::Range<usize>| {
        scope(|scope| {
            let probes: Vec<_> = range
                .map(|number| {
                    scope.spawn({
                        let server = &server;
                        move || probe(server, &format!("hv-{number}"))
                    })
                })
                .collect();
            probes.into_iter().map(|probe| probe.join().unwrap()).collect::<Vec<_>>()
        })
    };
    until("all daemons answer", || {
        probe_all(0..50).iter().all(|(code, body)| *code == 200 && whole(body) == Some(DOMAINS))
    });
    assert_eq!(own(&server, "libvirt_exporter_targets{state=\"open\"}"), 50.0);
    assert_eq!(own(&server, "libvirt_exporter_targets{state=\"closed\"}"), 0.0);
    daemons[..10].iter().for_each(|daemon| daemon.faults().freeze());
    daemons[10..20].iter().for_each(FakeLibvirtd::kill);
    for round in 0..4 {
        let answers = probe_all(0..50);
        for (number, (code, body)) in answers.iter().enumerate() {
            assert_eq!(*code, 200, "{number} in round {round}: {body}");
            match number {
                0..20 => assert!(body.contains("\nlibvirt_up 0\n"), "{number} in round {round}"),
                _ => assert_eq!(whole(body), Some(DOMAINS), "{number} in round {round}"),
            }
        }
    }
    daemons[..10].iter().for_each(|daemon| daemon.faults().thaw());
    daemons[10..20].iter().for_each(|daemon| daemon.revive().unwrap());
    until("all daemons answer again", || probe_all(0..20).iter().all(|(_, body)| whole(body) == Some(DOMAINS)));
    let page = server.get("/");
    assert!(page.contains("<h2>Targets: 50</h2>") && page.contains(&format!(": {DOMAINS} domains</small>")), "{page}");
}

#[test]
fn a_probe_is_as_metrics_and_the_process_is_at_metrics_alone() {
    let (a, b) = (daemon(3), daemon(2));
    let targets = [("a".to_owned(), &a), ("b".to_owned(), &b)];
    let more = "profiles: {few: {collection: {groups: [state]}, domains: {include: [vm-0]}}}\nprobe: {allow: ['test:///default']}";
    let server = serve(&config(&targets, more));
    let own_metrics = server.get("/metrics");
    assert!(own_metrics.contains("process_threads ") && own_metrics.contains("libvirt_exporter_build_info"));
    assert!(!own_metrics.contains("libvirt_up") && !own_metrics.contains("libvirt_domain"), "{own_metrics}");
    assert_eq!(server.get("/-/ready"), "domstats-exporter is ready\n");
    until("a answers", || whole(&probe(&server, "a").1) == Some(3));
    let (_, body) = probe(&server, "a");
    assert!(body.contains("\nlibvirt_exporter_collect_duration_seconds ") && !body.contains("process_"), "{body}");
    assert!(
        !body.contains("libvirt_exporter_http_requests") && body.contains("libvirt_domain_block_read_bytes_total{")
    );
    let (_, body) = probe(&server, "a&collect[]=state&domain[]=vm-1");
    assert!(body.contains("domain=\"vm-1\"") && !body.contains("domain=\"vm-0\""), "{body}");
    assert!(!body.contains("libvirt_domain_block"), "{body}");
    until("the profile has its domain", || whole(&probe(&server, "a&profile=few").1) == Some(1));
    let (_, body) = probe(&server, "a&profile=few");
    assert!(
        body.contains("domain=\"vm-0\"") && !body.contains("vm-1") && !body.contains("libvirt_domain_block"),
        "{body}"
    );
    until("the test driver answers", || probe(&server, "test:///default").1.contains("domain=\"test\""));
    for (query, code) in [("c", 404), ("test:///other", 403), ("a&profile=x", 400), ("", 400)] {
        assert_eq!(probe(&server, query).0, code, "{query}");
    }
    // The list has the address by which it was asked for.
    let groups: Vec<Value> = serde_json::from_str(&server.get("/probe-targets")).unwrap();
    let names: Vec<&str> = groups.iter().map(|group| group["labels"]["__param_target"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(b.counters().open_connections(), 0, "nothing was asked of b");
    server.replace("config.yaml", &config(&targets, more).replace("uri: ''", "uri: 'test:///default'"));
    let log = server.log();
    assert!(log.contains("target=a "), "{log}");
}

#[test]
fn a_reload_touches_no_target_that_stays() {
    let (a, b, c) = (daemon(1), daemon(1), daemon(1));
    let of = |daemons: &[(&str, &FakeLibvirtd)]| {
        let targets: Vec<_> = daemons.iter().map(|(name, daemon)| ((*name).to_owned(), *daemon)).collect();
        config(&targets, "")
    };
    let server = serve(&of(&[("a", &a), ("b", &b)]));
    for name in ["a", "b"] {
        until("it answers", || whole(&probe(&server, name).1) == Some(1));
    }
    let opened = a.counters().connections().len();
    server.replace("config.yaml", &of(&[("a", &a), ("c", &c)]));
    server.signal("-HUP");
    server.wait_for_log("configuration reloaded");
    until("c answers", || whole(&probe(&server, "c").1) == Some(1));
    assert_eq!(probe(&server, "b").0, 404);
    until("the connections to b are closed", || b.counters().open_connections() == 0);
    assert_eq!(whole(&probe(&server, "a").1), Some(1));
    let still = a.counters().connections();
    assert!(still.len() >= opened && a.counters().open_connections() > 0);
    assert!(!server.log().contains("lost the connection"), "{}", server.log());
    assert_eq!(own(&server, "libvirt_exporter_targets{state=\"open\"}"), 2.0);
}

#[test]
fn connections_end_after_idle_time_and_have_a_limit() {
    let daemons: Vec<FakeLibvirtd> = (0..3).map(|_| daemon(2)).collect();
    let targets: Vec<_> = daemons.iter().enumerate().map(|(number, daemon)| (format!("hv-{number}"), daemon)).collect();
    let more = "probe: {idle_timeout: 5m, max_connections: 11}\ncollection: {workers: 1}";
    let server = serve(&config(&targets, more));
    let before = held(&server);
    for name in ["hv-0", "hv-1"] {
        assert_eq!(probe(&server, name).0, 200);
    }
    let (code, body) = probe(&server, "hv-2");
    assert_eq!(code, 503, "5 connections each: {body}");
    assert!(body.contains("probe.max_connections"), "{body}");
    assert_eq!(own(&server, "libvirt_exporter_probes_refused_total"), 1.0);
    assert_eq!(own(&server, "libvirt_exporter_target_connections"), 10.0);
    assert_eq!(daemons[2].counters().connections().len(), 0);
    server.replace("config.yaml", &config(&targets, &more.replace("5m", "1s")));
    server.signal("-HUP");
    server.wait_for_log("configuration reloaded");
    until("idle connections are closed", || daemons.iter().all(|daemon| daemon.counters().open_connections() == 0));
    // The event loop of libvirt stays, and the thread that has read the configuration.
    until("threads end", || held(&server).threads <= before.threads + 2);
    assert_eq!(own(&server, "libvirt_exporter_targets{state=\"open\"}"), 0.0);
    until("there is room again", || whole(&probe(&server, "hv-2").1) == Some(2));
}

#[test]
fn sockets_of_a_pattern_come_and_go_and_leave_nothing() {
    let length = std::env::var("TARGET_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let files = folder();
    let root = files.path().join("pods");
    fs::create_dir(&root).unwrap();
    let pattern = root.join("*/sock");
    let text = format!(
        "libvirt: {{uri: ''}}\ntargets:\n  pods:\n    uri: 'qemu+unix:///session?socket={}'\n    name_regex: '.*/pod-([^/]+)/sock'\n\
         probe: {{rescan_interval: 1s}}\n",
        pattern.display()
    );
    let server = serve(&text);
    assert!(listed(&server).is_empty());
    let start = |name: String| {
        fs::create_dir_all(root.join(&name)).unwrap();
        let scenario = Scenario::builder().domains(1, Template::small()).build();
        FakeLibvirtd::start_at(scenario, root.join(name).join("sock")).unwrap()
    };
    let (began, mut number, mut samples) = (Instant::now(), 0, Vec::new());
    while began.elapsed() < Duration::from_secs(length) || samples.len() < 6 {
        let pods: BTreeMap<String, FakeLibvirtd> = (0..10)
            .map(|_| {
                number += 1;
                (format!("pods/{number}"), start(format!("pod-{number}")))
            })
            .collect();
        assert_eq!(listed(&server).len(), pods.len(), "the list looks for them at once");
        for name in pods.keys() {
            until("it answers", || whole(&probe(&server, name).1) == Some(1));
        }
        for (name, pod) in pods {
            pod.kill();
            fs::remove_dir_all(root.join(name.replace("pods/", "pod-"))).unwrap();
        }
        until("they are noticed to be gone", || own(&server, "libvirt_exporter_targets{state=\"open\"}") == 0.0);
        assert!(listed(&server).is_empty());
        // Threads that were connecting end by themselves.
        sleep(Duration::from_millis(500));
        samples.push(held(&server));
    }
    println!("{number} sockets in {:?}: {:?} to {:?}", began.elapsed(), samples[0], samples[samples.len() - 1]);
    let half = samples.len() / 2;
    let least = |range: &[Held]| Held {
        threads: range.iter().map(|held| held.threads).min().unwrap(),
        files: range.iter().map(|held| held.files).min().unwrap(),
        rss: range.iter().map(|held| held.rss).min().unwrap(),
    };
    let (before, after) = (least(&samples[..half]), least(&samples[half..]));
    assert!(after.rss <= before.rss + before.rss / 10 + (4 << 10), "memory grows: {before:?}, then {after:?}");
    // The runtime keeps a thread that has nothing to do for ten seconds.
    until("threads and descriptors are as before", || {
        let now = held(&server);
        now.threads <= before.threads + 1 && now.files <= before.files + 2
    });
}

#[test]
fn commands_can_be_about_a_target() {
    let (good, files) = (daemon(2), folder());
    let path = files.path().join("config.yaml");
    let text = format!(
        "libvirt: {{uri: 'test:///default'}}\nweb: {{listen_addresses: ['127.0.0.1:0']}}\ntargets:\n  good: {{uri: '{}'}}\n  bad: {{uri: \
         'qemu+unix:///system?socket=/nonexistent/sock'}}\n",
        good.uri()
    );
    fs::write(&path, text).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_domstats-exporter"));
        let done = command.arg("--config.file").arg(&path).args(arguments).output().unwrap();
        let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), said(done.stdout), said(done.stderr))
    };
    let (code, report, _) = run(&["check", "--all"]);
    assert_eq!(code, 1, "{report}");
    let order: Vec<&str> = ["libvirt URI:", "target:", "target:"].into_iter().collect();
    let found: Vec<&str> =
        report.lines().filter_map(|line| order.iter().copied().find(|part| line.starts_with(part))).collect();
    assert_eq!(found, ["libvirt URI:", "target:", "libvirt URI:", "target:", "libvirt URI:"], "{report}");
    assert!(report.contains("/nonexistent/sock") && report.contains("2 running or paused"), "{report}");
    let (code, report, _) = run(&["check", "--target", "good"]);
    assert!(
        matches!(code, 0 | 3) && !report.contains("/nonexistent") && !report.contains("test:///default"),
        "{report}"
    );
    let (code, domains, _) = run(&["targets", "--target", "good"]);
    assert!(code == 0 && domains.contains("\"vm-1\""), "{domains}");
    let (code, metrics, _) = run(&["scrape", "--target=good"]);
    assert!(code == 0 && whole(&metrics) == Some(2) && !metrics.contains("process_"), "{metrics}");
    let (code, _, error) = run(&["targets", "--target", "none"]);
    assert!(code == 2 && error.contains("unknown target \"none\""), "{error}");
}

#[test]
fn each_target_is_pushed_as_a_resource_of_its_own() {
    let (a, b, receiver) = (daemon(1), daemon(2), Receiver::start(None));
    let targets = [("a".to_owned(), &a), ("b".to_owned(), &b)];
    let more = format!("otlp: {{endpoint: 'http://{}', interval: 1s}}", receiver.address);
    let server = serve(&config(&targets, &more));
    let instances = |received: &[Received]| -> BTreeMap<String, bool> {
        let of = |received: &Received| {
            let has_domains = metrics(&received.request).any(|metric| metric.name.starts_with("libvirt.domain."));
            (resource(&received.request)["service.instance.id"].clone(), has_domains)
        };
        // The first push of a target may come before its domains are known.
        received.iter().map(of).fold(BTreeMap::new(), |mut all, (instance, has)| {
            *all.entry(instance).or_default() |= has;
            all
        })
    };
    let ends = |all: &BTreeMap<String, bool>, name: &str| all.iter().any(|(key, has)| key.ends_with(name) && *has);
    let received = receiver.wait("both targets", |received| {
        let all = instances(received);
        ends(&all, "/a") && ends(&all, "/b") && all.len() == 3
    });
    let all = instances(&received);
    assert!(all.iter().any(|(name, has)| !name.contains('/') && !has), "the process alone: {all:?}");
    server.replace("config.yaml", &config(&targets[..1], &more));
    server.signal("-HUP");
    server.wait_for_log("configuration reloaded");
    until("b is closed", || b.counters().open_connections() == 0);
    let is_end = |received: &Received| {
        let of_b = resource(&received.request)["service.instance.id"].ends_with("/b");
        of_b && points(&received.request).values().any(|point| point.flags == 1)
    };
    receiver.wait("the ends of what b had", |received| received.iter().any(is_end));
    receiver.forget();
    let later = receiver.wait("later pushes", |received| instances(received).len() == 2);
    assert!(!ends(&instances(&later), "/b"));
}
