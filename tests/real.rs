//! The exporter on real libvirt with real QEMU guests, and real Prometheus tools on the exporter.
//!
//! `tests/lab` starts what is needed, on this machine's libvirt and, in chroots, on those of newer Debian suites.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs
)]

#[path = "support/expected.rs"]
mod expected;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/reading.rs"]
mod reading;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use expected::{Expected, expected};
use lab::{ALL_GROUPS, Exporter, Lab, Running, Suite, filter, free_address, get, need, run_exporter, tied};
use reading::{Sample, Values, parse_exposition, parse_params, parse_virsh};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

#[test]
fn every_value_equals_virsh_on_this_machines_libvirt() {
    compare_with_virsh(Suite::Machine, &[]);
}

#[test]
fn every_value_equals_virsh_on_debian_trixie() {
    compare_with_virsh(Suite::Debian("trixie"), &[]);
}

#[test]
fn every_value_equals_virsh_on_debian_sid() {
    let newest = [
        "block.0.limits.request_alignment",
        "block.0.timed_group.1.rd_latency_max",
        "block.0.timed_group.0.wr_queue_depth_avg",
        "block.0.latency_histogram.write.bin.3.value",
        "iothread.2.poll-weight",
    ];
    compare_with_virsh(Suite::Debian("sid"), &newest);
}

/// Every numeric key that virsh prints for the lab's guests must be in our raw dump, in a scrape, and equal.
/// `witnesses` are keys without which the comparison would prove less than it says.
fn compare_with_virsh(suite: Suite, witnesses: &[&str]) {
    let lab = Lab::start(suite).unwrap();
    let guests = ["web", "db", "old", "chain", "tcg", "sparse", "timed", "odd", "odd2"];
    for name in lab.guests(&guests).unwrap() {
        let state = lab.virsh(&["domstate", &name]).unwrap();
        if state.trim() == "running" {
            lab.wait_for_disk_reads(&name).unwrap();
            lab.virsh(&["suspend", &name]).unwrap();
        }
    }
    let mut seen = Vec::new();
    let mut unmapped = 0;
    for backing in [false, true] {
        let config = lab.folder().join("config.yaml");
        let groups = ALL_GROUPS.replace(',', ", ");
        let text = format!(
            "libvirt:\n  uri: {:?}\ncollection:\n  backing_chain: {backing}\n  inactive_domains: all\n  groups: [{groups}]\n",
            lab.uri_ro
        );
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap();
        let stats = ["domstats", "--raw", "--backing"];
        let stats = &stats[..if backing { 3 } else { 2 }];
        let before = parse_virsh(&lab.virsh(stats).unwrap());
        let scrape = |format| run_exporter(&["scrape", "--config.file", config, "--format", format]);
        let params = parse_params(&scrape("params").unwrap()).unwrap();
        let samples = parse_exposition(&scrape("openmetrics").unwrap()).unwrap();
        let after = parse_virsh(&lab.virsh(stats).unwrap());
        assert_eq!(before.len(), guests.len(), "virsh misses guests");
        assert_eq!(params.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
        unmapped += samples
            .iter()
            .filter(|s| s.name == "libvirt_domain_unmapped_stat")
            .inspect(|s| println!("unmapped: {s:?}"))
            .count();
        let by_domain = group_by_domain(samples);
        let none = Vec::new();
        for (domain, first) in &before {
            let samples = by_domain.get(domain).unwrap_or(&none);
            assert!(!samples.is_empty(), "no sample of {domain}");
            for (key, low) in first {
                let Some(low) = number(low) else { continue };
                let high = number(&after[domain][key]).expect("a number stays one");
                // QEMU's own memory comes and goes a little, even while its guest stands still.
                let room = if key == "balloon.rss" { 1024.0 } else { 0.0 };
                let (low, high) = (low.min(high) - room, low.max(high) + room);
                // Averages over an interval go up and down while it passes, even of a paused guest.
                let windowed = key.contains("_latency_") || key.ends_with("_queue_depth_avg");
                let range = if windowed { Range { low: 0.0, high: f64::INFINITY } } else { Range { low, high } };
                let raw = params[domain].get(key).and_then(|text| number(text));
                let raw = raw.unwrap_or_else(|| panic!("{domain}: {key} is not in the raw dump"));
                assert!(range.holds(raw, 1.0), "{domain}: {key}: {raw} is not in {range:?}");
                check_sample(domain, key, first, range, samples, backing);
                seen.push(key.clone());
            }
            check_histograms(domain, first, samples);
        }
    }
    let mut always = vec!["block.2.allocation", "vcpu.2.time", "iothread.1.poll-max-ns"];
    always.extend(["dirtyrate.megabytes_per_second", "block.0.threshold"]);
    if lab.uri.contains(":///system") {
        always.extend(["perf.page_faults"]);
    }
    for witness in always.iter().chain(witnesses) {
        assert!(seen.iter().any(|key| key == witness), "no guest had the key {witness}");
    }
    let keys = seen.len();
    seen.sort();
    seen.dedup();
    let version = lab.virsh(&["version", "--daemon"]).unwrap();
    println!("{}\n{keys} values of {} keys equal, {unmapped} unmapped", version.trim(), seen.len());
    assert_eq!(unmapped, 0, "keys without a metric");
}

/// The sample that `key` must have become.
fn check_sample(domain: &str, key: &str, values: &Values, range: Range, samples: &[Sample], backing: bool) {
    let (name, labels, range, scale) = match expected(key, values) {
        Expected::Nothing => return,
        Expected::Unknown => panic!("{domain}: {key} is not in tests/support/expected.rs"),
        // libvirt counts layers here; a layer is not a device.
        Expected::Sample(..) if key == "block.count" && backing => return,
        Expected::Sample(name, labels, scale) => (name, labels, range, scale),
        Expected::One(name, labels) => {
            let one = Range { low: 1.0, high: 1.0 };
            (name, labels, one, 1.0)
        }
    };
    let found: Vec<&Sample> =
        samples.iter().filter(|s| s.name == name && labels.iter().all(|(label, v)| s.label(label) == v)).collect();
    assert_eq!(found.len(), 1, "{domain}: {key} -> {name} {labels:?}: {found:?}");
    assert!(range.holds(found[0].value, scale), "{domain}: {key}: {:?} is not in {range:?} x {scale}", found[0]);
}

/// Each bin of libvirt counts from its start on; a Prometheus bucket counts everything up to its end.
fn check_histograms(domain: &str, values: &Values, samples: &[Sample]) {
    for (key, _) in values.iter().filter(|(key, _)| key.ends_with(".bin.count")) {
        let parts: Vec<&str> = key.split('.').collect();
        let device = &values[&format!("block.{}.name", parts[1])];
        let bins = key.strip_suffix("count").unwrap();
        let read = |k: usize, what: &str| values.get(&format!("{bins}{k}.{what}")).and_then(|v| number(v));
        let name = format!("libvirt_domain_block_{}_latency_seconds", parts[3]);
        let find = |suffix: &str, le: Option<f64>| {
            samples
                .iter()
                .find(|s| {
                    let bound = s.label("le").parse::<f64>().ok();
                    let same = match (bound, le) {
                        (Some(a), Some(b)) => a == b || (a / b - 1.0).abs() < 1e-9,
                        (a, b) => a == b,
                    };
                    s.name == format!("{name}{suffix}") && s.label("device") == device && same
                })
                .unwrap_or_else(|| panic!("{domain}: {name}{suffix} {device} le={le:?} is missing"))
                .value
        };
        let mut sum = 0.0;
        let mut k = 0;
        while let Some(count) = read(k, "value") {
            sum += count;
            let end = read(k + 1, "start").map_or(f64::INFINITY, |ns| ns * 1e-9);
            assert_eq!(find("_bucket", Some(end)), sum, "{domain}: {bins}{k}");
            k += 1;
        }
        assert!(k > 0, "{domain}: {key} without bins");
        assert_eq!(find("_count", None), sum, "{domain}: {key}");
    }
}

#[test]
fn promtool_has_nothing_to_say() {
    let lab = Lab::start(Suite::Machine).unwrap();
    let exporter = serve_guests(&lab);
    let text = exporter.metrics("text/plain; version=0.0.4").unwrap();
    assert_eq!(promtool(&text), "", "of:\n{text}");
    for (path, text) in goldens("txt") {
        assert_eq!(promtool(&text), "", "of {path}");
    }
}

#[test]
fn the_strict_openmetrics_parser_accepts_everything() {
    let lab = Lab::start(Suite::Machine).unwrap();
    let exporter = serve_guests(&lab);
    let mut texts = goldens("om");
    let live = exporter.metrics(OPENMETRICS).unwrap();
    texts.push(("the live scrape".to_owned(), live));
    for (path, text) in texts {
        let count = count_samples_strictly(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let ours = parse_exposition(&text).unwrap().len();
        assert_eq!(count.trim(), ours.to_string(), "{path}");
    }
}

/// The exporter on guests of many kinds.
fn serve_guests(lab: &Lab) -> Exporter {
    lab.guests(&["web", "db", "old", "sparse", "timed", "odd"]).unwrap();
    Exporter::serve(&lab.uri_ro, &["--collection.groups", ALL_GROUPS]).unwrap()
}

/// The expected outputs of `tests/golden` with this extension.
fn goldens(extension: &str) -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension));
    let files: Vec<_> = paths.map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect();
    assert!(!files.is_empty(), "no .{extension} in {folder}");
    files
}

/// What `promtool check metrics` says.
fn promtool(text: &str) -> String {
    need("promtool", "prometheus").unwrap();
    let mut command = Command::new("promtool");
    filter(command.args(["check", "metrics"]), text).unwrap_or_else(|said| said)
}

/// How many samples the Python client's OpenMetrics parser, the strict one, finds.
fn count_samples_strictly(text: &str) -> Result<String, String> {
    // Debian's interpreter, which has the package; another one may come first in PATH.
    let python = "/usr/bin/python3";
    let installed =
        Command::new(python).args(["-c", "import prometheus_client.openmetrics.parser"]).stderr(Stdio::null()).status();
    assert!(
        installed.is_ok_and(|status| status.success()),
        "the Python client is missing; install the Debian package python3-prometheus-client (make install does)"
    );
    let program = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        print(sum(len(family.samples) for family in parse(sys.stdin.read())))";
    filter(Command::new(python).args(["-c", program]), text)
}

#[test]
fn a_real_prometheus_scrapes_and_answers() {
    need("prometheus", "prometheus").unwrap();
    let lab = Lab::start(Suite::Machine).unwrap();
    let guests = lab.guests(&["web", "old"]).unwrap();
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let config = lab.folder().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: libvirt\n  static_configs:\n  - targets: ['{}']\n",
        exporter.address
    );
    fs::write(&config, text).unwrap();
    let address = free_address().unwrap();
    let _prometheus = tied("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", lab.folder().join("tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .spawn()
        .map(Running)
        .unwrap();
    let up = query(address, "libvirt_up == 1");
    assert_eq!(up.len(), 1, "{up:?}");
    let vcpus = query(address, &format!("libvirt_domain_vcpus_current{{domain=\"{}\"}}", guests[0]));
    assert_eq!(vcpus.len(), 1, "{vcpus:?}");
    assert_eq!(vcpus[0]["value"][1], "2");
    let off = query(address, "libvirt_domain_state{state=\"shutoff\"} == 1");
    assert_eq!(off.len(), 1, "{off:?}");
    assert_eq!(off[0]["metric"]["domain"], guests[1].as_str());
}

/// The result vector of a query, as soon as there is one.
fn query(address: std::net::SocketAddr, expression: &str) -> Vec<serde_json::Value> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = get(address, &format!("/api/v1/query?query={encoded}"), "application/json");
        let result = answer.as_ref().ok().and_then(|body| {
            let body: serde_json::Value = serde_json::from_str(body).ok()?;
            body["data"]["result"].as_array().cloned()
        });
        match result {
            Some(result) if !result.is_empty() => return result,
            _ if Instant::now() > deadline => panic!("{expression}: {answer:?}"),
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

#[test]
fn a_thousand_scrapes_of_real_guests_leave_the_exporter_as_it_was() {
    let lab = Lab::start(Suite::Machine).unwrap();
    lab.guests(&["web", "db", "old", "sparse"]).unwrap();
    stays_flat(&lab.uri_ro, 1_000);
}

#[test]
fn ten_thousand_scrapes_of_the_test_driver_leave_the_exporter_as_it_was() {
    stays_flat("test:///default", 10_000);
}

/// The exporter's threads for computing come and go with the load; there are at most so many.
const BLOCKING_THREADS: u64 = 4;

fn stays_flat(uri: &str, scrapes: usize) {
    let exporter = Exporter::serve(uri, &["--collection.groups", ALL_GROUPS]).unwrap();
    let scrape = |times: usize| {
        for turn in 0..times {
            let accept = if turn % 2 == 0 { OPENMETRICS } else { "text/plain" };
            let body = exporter.metrics(accept).unwrap();
            assert!(body.contains("\nlibvirt_up 1"));
        }
    };
    scrape(200);
    let before = Footprint::of(exporter.id());
    scrape(scrapes);
    // The last connection may still be closing.
    std::thread::sleep(Duration::from_millis(500));
    let after = Footprint::of(exporter.id());
    println!("{uri}: before {before:?}, after {scrapes} scrapes {after:?}");
    assert!(after.threads <= before.threads + BLOCKING_THREADS, "{before:?} -> {after:?}: threads leak");
    assert!(after.files <= before.files, "{before:?} -> {after:?}: descriptors leak");
    assert!(after.resident_kib <= before.resident_kib + 1024, "{before:?} -> {after:?}: memory grows");
}

/// What a process holds of the machine.
#[derive(Debug)]
struct Footprint {
    resident_kib: u64,
    threads: u64,
    files: usize,
}

impl Footprint {
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number.unwrap().parse().unwrap()
        };
        Self {
            resident_kib: field("VmRSS:"),
            threads: field("Threads:"),
            files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        }
    }
}

/// Two readings of a number that may have grown in between.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    /// Whether `value` is `scale` times a number between the readings, to the six digits behind the point that virsh prints.
    fn holds(self, value: f64, scale: f64) -> bool {
        let slack = self.high.abs() * 1e-12 + 1e-6;
        (self.low - slack) * scale <= value && value <= (self.high + slack) * scale
    }
}

/// A number as virsh or our raw dump prints it, or a boolean.
fn number(text: &str) -> Option<f64> {
    match text {
        "yes" | "true" => Some(1.0),
        "no" | "false" => Some(0.0),
        other => other.parse().ok().filter(|n: &f64| n.is_finite()),
    }
}

fn group_by_domain(samples: Vec<Sample>) -> BTreeMap<String, Vec<Sample>> {
    let mut domains = BTreeMap::<String, Vec<Sample>>::new();
    for sample in samples {
        let domain = sample.label("domain").to_owned();
        domains.entry(domain).or_default().push(sample);
    }
    domains
}
