//! The names of other exporters: against those exporters on the same real guests, and in Prometheus under the expressions of
//! public dashboards.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/reading.rs"]
mod reading;
#[path = "support/special.rs"]
mod special;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Exporter, Lab, Running, Suite, free_address, get, need, tied};
use reading::{Sample, parse_exposition};
use serde_json::{Value, json};
use special::full_guest;

/// A series: its name, and its labels that have a value.
type Series = (String, BTreeMap<String, String>);

/// The exporters that Debian does not have, by their naming: the variable with the path of the program, as in
/// `TINKOFF_EXPORTER=path cargo test --test dialects -- --ignored`.
const PEERS: [(&str, &str); 4] = [
    ("tinkoff", "TINKOFF_EXPORTER"),
    ("inovex", "INOVEX_EXPORTER"),
    ("kumina", "KUMINA_EXPORTER"),
    ("vexxhost", "VEXXHOST_EXPORTER"),
];

/// The program of a peer, if the variable of it has a path.
fn peer(naming: &str) -> Option<String> {
    let (_, variable) = PEERS.iter().find(|(known, _)| *known == naming).expect("a naming");
    std::env::var(variable).ok()
}

/// A host with guests that run, stand still and are shut off, one of them throttled and with a snapshot; and with storage pools.
struct Scene {
    lab: Lab,
    /// Name and UUID of each guest.
    web: [String; 2],
    db: [String; 2],
    old: [String; 2],
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::start(Suite::Machine).unwrap();
        let names = lab.guests(&["web", "db", "old"]).unwrap();
        lab.wait_for_disk_reads(&names[0]).unwrap();
        let [web, db, old] =
            [0, 1, 2].map(|at| [names[at].clone(), lab.virsh(&["domuuid", &names[at]]).unwrap().trim().to_owned()]);
        let virsh = |line: &str| {
            let words: Vec<&str> = line.split(' ').map(|word| if word == "G" { &names[0] } else { word }).collect();
            lab.virsh(&words).unwrap_or_else(|error| panic!("{error}"));
        };
        virsh(
            "blkdeviotune G vda --live --total-bytes-sec 20971520 --total-bytes-sec-max 41943040 --total-bytes-sec-max-length 3",
        );
        virsh(
            "blkdeviotune G vda --live --read-iops-sec 500 --write-iops-sec 300 --read-iops-sec-max 700 --size-iops-sec 65536",
        );
        virsh("snapshot-create-as G first --disk-only");
        // The daemon's own tmpfs, of which nothing else of the machine takes room.
        for pool in ["images", "spare"] {
            virsh(&format!("pool-define-as {pool} dir --target {}/ns/{pool}", lab.folder().display()));
            virsh(&format!("pool-build {pool}"));
        }
        virsh("pool-start images");
        virsh("vol-create-as images one 4M");
        Self { lab, web, db, old }
    }

    /// Likewise, at rest, so that the numbers stay.
    fn at_rest() -> Self {
        let scene = Self::new();
        scene.lab.virsh(&["suspend", &scene.web[0]]).unwrap();
        scene
    }
}

/// Debian's package is kumina's exporter.
#[test]
fn debians_exporter_says_what_ours_says_under_its_names() {
    if let Err(reason) = need("prometheus-libvirt-exporter", "prometheus-libvirt-exporter") {
        eprintln!("debians_exporter_says_what_ours_says_under_its_names skipped: {reason}");
        return;
    }
    let scene = Scene::at_rest();
    compare(&scene, "kumina", "prometheus-libvirt-exporter", &[]);
}

#[test]
#[ignore = "needs kumina's exporter, of which Debian has an older version"]
fn kuminas_exporter_says_what_ours_says_under_its_names() {
    compare(&Scene::at_rest(), "kumina", &peer("kumina").expect("KUMINA_EXPORTER"), &[]);
}

#[test]
#[ignore = "needs inovex' exporter, which Debian does not have"]
fn inovexs_exporter_says_what_ours_says_under_its_names() {
    // NaN there for no memory.
    let tolerated = ["libvirt_domain_memory_stats_used_percent", "libvirt_storage_pool_timed_out"];
    compare(&Scene::at_rest(), "inovex", &peer("inovex").expect("INOVEX_EXPORTER"), &tolerated);
}

/// It shows no guest that stands still.
#[test]
#[ignore = "needs Tinkoff's exporter, which Debian does not have"]
fn tinkoffs_exporter_says_what_ours_says_under_its_names() {
    compare(&Scene::new(), "tinkoff", &peer("tinkoff").expect("TINKOFF_EXPORTER"), &["libvirt_domain_vcpu_cpu"]);
}

#[test]
#[ignore = "needs vexxhost's exporter, which Debian does not have"]
fn vexxhosts_exporter_says_what_ours_says_under_its_names() {
    compare(&Scene::at_rest(), "vexxhost", &peer("vexxhost").expect("VEXXHOST_EXPORTER"), &[]);
}

#[test]
#[ignore = "needs inovex' exporter, which Debian does not have"]
fn inovexs_exporter_says_of_a_migration_what_ours_says_under_its_names() {
    let [here, there] = [(); 2].map(|()| Lab::start(Suite::Machine).unwrap());
    let name = full_guest(&here, 100);
    here.wait_for_disk_reads(&name).unwrap();
    let (other, _other) = serve(&here, "inovex", &peer("inovex").expect("INOVEX_EXPORTER"));
    let ours = Exporter::serve(&here.uri_ro, &[]).unwrap();
    let of_jobs = |address: SocketAddr, path: &str| {
        let mut series = until(address, path, |series| series.keys().any(|(name, _)| name.contains("_job_info_")));
        series.retain(|(name, _), _| name.contains("_job_info_"));
        series
    };
    let idle = [of_jobs(other, "/metrics"), of_jobs(ours.address, "/metrics?naming=inovex")];
    assert!(idle[0].len() == 12 && idle[0] == idle[1], "{idle:#?}");
    let mut rounds = 0;
    thread::scope(|scope| {
        let migrate = ["migrate", "--live", "--unsafe", "--bandwidth", "5", &name, &there.uri, "tcp://127.0.0.1"];
        let here = &here;
        let migration = scope.spawn(move || here.virsh(&migrate).unwrap());
        until(ours.address, "/metrics?naming=inovex", |series| {
            series.iter().any(|((name, _), value)| name.ends_with("_memory_remaining_bytes") && *value > 0.0)
        });
        while !migration.is_finished() && rounds < 5 {
            let before = of_jobs(other, "/metrics");
            // What ours shows was read within the last second or so.
            thread::sleep(Duration::from_millis(2500));
            let ours = of_jobs(ours.address, "/metrics?naming=inovex");
            let after = of_jobs(other, "/metrics");
            let Some(last) = after.iter().find(|((name, _), _)| name.ends_with("_type")) else { break };
            if *last.1 == 0.0 {
                break;
            }
            for (series, value) in &before {
                let (least, most) = (value.min(after[series]), value.max(after[series]));
                println!("{}: {value}, {} there, {} here", series.0, after[series], ours[series]);
                // How long it will take goes up and down.
                let slack = if series.0.ends_with("_time_remaining_seconds") { most * 0.5 + 1000.0 } else { 0.0 };
                assert!((least - slack..=most + slack).contains(&ours[series]), "{series:?}");
            }
            rounds += 1;
        }
        migration.join().unwrap();
    });
    assert!(rounds >= 3, "{rounds}");
}

/// Starts another exporter.
fn serve(lab: &Lab, naming: &str, program: &str) -> (SocketAddr, Running) {
    let address = free_address().unwrap();
    let uri = match naming {
        "inovex" => lab.uri_ro.split_once("socket=").expect("the socket in the URI").1,
        // It refreshes the pools.
        "tinkoff" => &lab.uri,
        _ => &lab.uri_ro,
    };
    let other = tied(program)
        .arg(format!("--web.listen-address={address}"))
        .arg(format!("--libvirt.uri={uri}"))
        .stderr(fs::File::create(lab.folder().join(format!("{naming}.log"))).unwrap())
        .spawn()
        .unwrap();
    (address, Running(other))
}

/// Starts the other exporter, and holds what both say against each other. What begins as one of `tolerated` may be missing of ours.
fn compare(scene: &Scene, naming: &str, program: &str, tolerated: &[&str]) {
    let (address, _other) = serve(&scene.lab, naming, program);
    let ours = Exporter::serve(&scene.lab.uri_ro, &[]).unwrap();
    let path = format!("/metrics?naming={naming}");
    let before = until(address, "/metrics", |series| series.len() > 20);
    let is_told =
        |(name, _): &Series| name.starts_with("libvirt") && !tolerated.iter().any(|known| name.starts_with(known));
    // Of the domain that is shut off libvirt's statistics have nothing but the state.
    let stated = ["_domain_info", "_info_state", "_info_vstate", "_info_meta", "_openstack_info", "_domain_state"];
    let is_of_old =
        |series: &Series| is_of(series, &scene.old) && !stated.iter().any(|known| series.0.ends_with(known));
    // Definitions are read beside the scrapes.
    let ours = until(ours.address, &path, |series| {
        before.keys().filter(|key| is_told(key)).all(|key| series.contains_key(key) || is_of_old(key))
    });
    let after = until(address, "/metrics", |series| series.len() > 20);
    let (second, byte) = if naming == "vexxhost" { (1e9, 1.0 / 1024.0) } else { (1.0, 1.0) };
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (series, value) in before.iter().filter(|(series, _)| is_told(series) && !is_of_old(series)) {
        let count = counts.entry(&series.0).or_default();
        count[0] += 1;
        match (ours.get(series), after.get(series)) {
            (Some(ours), Some(after)) => {
                // From /proc there, to 10 ms; the host's own packets reach a tap device at any time.
                let slack = match &*series.0 {
                    name if ["cpu_time", "cpu_user", "cpu_system"].iter().any(|of_cpu| name.contains(of_cpu)) => {
                        0.05 * second
                    }
                    name if name.contains("rss") => 1e6 * byte,
                    _ => 1e-9 * value.abs(),
                };
                if (value.min(*after) - slack..=value.max(*after) + slack).contains(ours) {
                    count[1] += 1;
                } else {
                    wrong.push(format!("{series:?}: {value}, {after} there, {ours} here"));
                }
            }
            (None, Some(_)) => wrong.push(format!("{series:?} is not here")),
            (_, None) => count[0] -= 1,
        }
    }
    for (name, [there, same]) in &counts {
        println!("{naming}: {name}: {same} of {there} series the same");
    }
    // A guest that stands still is not shown by Tinkoff's.
    let only_here = |series: &Series| is_of_old(series) || (naming == "tinkoff" && is_of(series, &scene.db));
    // What a first scrape of the other lacks, such as a pool whose sizes it reads later, its next one has.
    let is_there = |series: &Series| before.contains_key(series) || after.contains_key(series);
    let more = ours.keys().filter(|series| !is_there(series) && !only_here(series));
    let more = more.filter(|(name, _)| counts.contains_key(name.as_str()));
    wrong.extend(more.map(|series| format!("{series:?} is not there")));
    assert!(before.len() > 40 && wrong.is_empty(), "of {} series: {wrong:#?}", before.len());
}

/// Whether a series is of a guest, by its name or its UUID.
fn is_of((_, labels): &Series, guest: &[String; 2]) -> bool {
    ["domain", "uuid"].iter().any(|label| labels.get(*label).is_some_and(|value| guest.contains(value)))
}

/// The series that a page shows once they are `good`, within a minute.
fn until(address: SocketAddr, path: &str, good: impl Fn(&BTreeMap<Series, f64>) -> bool) -> BTreeMap<Series, f64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let series = get(address, path, "text/plain")
            .and_then(|text| parse_exposition(&text))
            .map(|samples| samples.into_iter().map(series).collect::<BTreeMap<Series, f64>>());
        match series {
            Ok(series) if good(&series) || Instant::now() > deadline => return series,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

fn series(sample: Sample) -> (Series, f64) {
    let labels = sample.labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    ((sample.name, labels), sample.value)
}

/// What panels of public dashboards ask for, without their variables: StackHPC's for Kolla (kumina's and Tinkoff's names), and
/// Grafana's 20737 (inovex').
const EXPRESSIONS: &[(&str, &[&str])] = &[
    (
        "kumina",
        &[
            "irate(libvirt_domain_info_cpu_time_seconds_total[5m])",
            "rate(libvirt_domain_info_cpu_time_seconds_total[5m]) / libvirt_domain_info_virtual_cpus",
            "libvirt_domain_info_memory_usage_bytes / libvirt_domain_info_maximum_memory_bytes",
            "irate(libvirt_domain_block_stats_read_requests_total[5m])",
            "irate(libvirt_domain_block_stats_write_bytes_total[5m])",
            "irate(libvirt_domain_interface_stats_receive_bytes_total[5m])",
            "libvirt_domains_number",
            "count by (instance) (libvirt_domain_state_code == 3)",
        ],
    ),
    (
        "tinkoff",
        &[
            "irate(libvirt_domain_info_cpu_time_seconds_total[5m])",
            "rate(libvirt_domain_info_cpu_time_seconds_total[5m]) / libvirt_domain_info_virtual_cpus",
            "libvirt_domain_info_memory_usage_bytes / libvirt_domain_info_maximum_memory_bytes",
            "libvirt_domain_info_vstate * on (domain) group_left (uuid) libvirt_domain_info_meta",
            "rate(libvirt_domain_vcpu_delay_seconds_total[5m])",
            "irate(libvirt_domain_block_stats_read_bytes_total[5m]) * on (domain, target_device) group_left (source_file) libvirt_domain_block_meta",
            "rate(libvirt_domain_block_stats_read_time_seconds_total[5m])",
            "libvirt_domain_block_stats_capacity_bytes - libvirt_domain_block_stats_allocation",
            "libvirt_domain_memory_stats_used_percent",
            "rate(libvirt_domain_memory_stats_major_fault_total[5m])",
            "irate(libvirt_domain_interface_stats_transmit_drops_total[5m])",
            "libvirt_pool_info_allocation_bytes / libvirt_pool_info_capacity_bytes",
            "libvirt_domain_block_stats_limit_total_bytes",
            "libvirt_versions_info",
        ],
    ),
    (
        "inovex",
        &[
            "rate(libvirt_domain_info_cpu_time_seconds_total[5m]) / libvirt_domain_vcpu_current * 100",
            "sum by (domain) (rate(libvirt_domain_vcpu_delay_seconds_total[5m])) / sum by (domain) (rate(libvirt_domain_vcpu_time_seconds_total[5m])) * 100",
            "sum by (domain, target_device) (rate({__name__=~\"libvirt_domain_block_stats_read_time_seconds_total\"}[5m]))",
            "sum by (domain, target_device) (rate(libvirt_domain_block_stats_read_bytes_total[5m]) + rate(libvirt_domain_block_stats_write_bytes_total[5m]))",
            "sum by (domain, target_device) (rate(libvirt_domain_interface_stats_receive_bytes_total[5m]) + rate(libvirt_domain_interface_stats_transmit_bytes_total[5m]))",
            "count(libvirt_domain_block_stats_info)",
            "count(libvirt_domain_interface_stats_info)",
            "libvirt_domain_openstack_info",
            "libvirt_domain_info_state",
            "libvirt_domain_memory_stats_maximum_bytes",
            "sum by (domain, target_device) (rate({__name__=~\"libvirt_domain_block_stats_read_time_seconds_total\"}[5m])) / sum by (domain, target_device) (rate({__name__=~\"libvirt_domain_block_stats_read_requests_total\"}[5m])) * 1000",
            "libvirt_storage_pool_allocation_bytes / libvirt_storage_pool_capacity_bytes",
            "libvirt_domain_job_info_memory_remaining_bytes",
            "libvirt_domains",
        ],
    ),
    (
        "vexxhost",
        &[
            "rate(libvirtd_domain_cpu_time[5m]) / 1e9",
            "libvirtd_domain_balloon_rss * 1024",
            "sum by (uuid, path) (rate(libvirtd_domain_block_read_bytes[5m]))",
            "libvirtd_domain_domain_state == 3",
            "libvirtd_info",
        ],
    ),
];

#[test]
fn expressions_for_other_exporters_have_data_in_prometheus() {
    ask_prometheus(&BTreeMap::new());
}

/// With the other exporters in the same Prometheus, as many of them as there are: what has data of one has the same series of ours.
#[test]
#[ignore = "needs exporters that Debian does not have"]
fn expressions_have_the_series_here_that_they_have_of_the_other_exporters() {
    let peers: BTreeMap<&str, String> = PEERS.iter().filter_map(|(naming, _)| Some((*naming, peer(naming)?))).collect();
    assert!(!peers.is_empty(), "no peer is named: {PEERS:?}");
    ask_prometheus(&peers);
}

fn ask_prometheus(peers: &BTreeMap<&str, String>) {
    need("prometheus", "prometheus").unwrap();
    let scene = Scene::new();
    let exporter = Exporter::serve(&scene.lab.uri_ro, &[]).unwrap();
    let served: Vec<(&str, (SocketAddr, Running))> =
        peers.iter().map(|(naming, program)| (*naming, serve(&scene.lab, naming, program))).collect();
    let job = |name: String, naming: &str, address: SocketAddr| {
        json!({
            "job_name": name,
            "params": {"naming": [naming]},
            "static_configs": [{"targets": [address]}],
        })
    };
    let ours = EXPRESSIONS.iter().map(|(naming, _)| job((*naming).to_owned(), naming, exporter.address));
    let theirs = served.iter().map(|(naming, (address, _))| job(format!("real-{naming}"), naming, *address));
    let jobs: Vec<Value> = ours.chain(theirs).collect();
    // A busy machine takes seconds for a scrape of each; those that take longer come again.
    let config = json!({"global": {"scrape_interval": "4s", "scrape_timeout": "4s"}, "scrape_configs": jobs});
    let path = scene.lab.folder().join("prometheus.yml");
    fs::write(&path, config.to_string()).unwrap();
    let address = free_address().unwrap();
    let prometheus = tied("prometheus")
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", scene.lab.folder().join("tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .spawn()
        .unwrap();
    let _prometheus = Running(prometheus);
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut faults = vec!["not every job has been scraped five times".to_owned()];
    while !faults.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_secs(2));
        if query(address, "min(count_over_time(up[1h])) >= 5").is_empty() {
            continue;
        }
        faults.clear();
        for (naming, expressions) in EXPRESSIONS {
            let is_there = peers.contains_key(naming);
            for expression in *expressions {
                let here = query(address, &of_job(expression, naming));
                let there = if is_there {
                    query(address, &of_job(expression, &format!("real-{naming}")))
                } else {
                    BTreeSet::new()
                };
                println!("{naming}: {expression}: {} series there, {} here", there.len(), here.len());
                // A domain that is shut off has nothing but its state here.
                let is_of_old = |labels: &&String| scene.old.iter().any(|of_old| labels.contains(of_old.as_str()));
                let lacks: Vec<_> = there.difference(&here).filter(|labels| !is_of_old(labels)).collect();
                if here.is_empty() || !lacks.is_empty() {
                    faults.push(format!("{naming}: {expression}: {here:?} lacks {lacks:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// `expression` of the metrics of one job.
fn of_job(expression: &str, job: &str) -> String {
    let metric = regex::Regex::new(r#""[^"]*"|\{__name__|\blibvirtd?_\w+"#).unwrap();
    let replaced = metric.replace_all(expression, |found: &regex::Captures<'_>| match &found[0] {
        text if text.starts_with('"') => text.to_owned(),
        "{__name__" => format!("{{job={job:?}, __name__"),
        name => format!("{name}{{job={job:?}}}"),
    });
    replaced.into_owned()
}

/// The series that an expression has, by their labels but those of the scrape; those that are no number are none.
fn query(address: SocketAddr, expression: &str) -> BTreeSet<String> {
    let encoded: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
    let body = get(address, &format!("/api/v1/query?query={encoded}"), "application/json").unwrap_or_default();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let of_scrape = |label: &str| ["job", "instance"].contains(&label);
    let labels = |series: &Value| -> BTreeMap<String, String> {
        let labels = series["metric"].as_object().into_iter().flatten().filter(|(label, _)| !of_scrape(label));
        labels.map(|(label, value)| (label.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
    };
    let result = body["data"]["result"].as_array().map_or(&[][..], Vec::as_slice);
    let result = result.iter().filter(|series| series["value"][1] != "NaN");
    result.map(|series| format!("{:?}", labels(series))).collect()
}
