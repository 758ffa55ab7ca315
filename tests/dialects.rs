//! The names of other exporters: against those exporters on the same real guests, and in Prometheus under the expressions of
//! public dashboards.
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
#[path = "support/reading.rs"]
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::{Exporter, Lab, Running, Suite, free_address, get, need, tied};
use reading::{Sample, parse_exposition};
use serde_json::{Value, json};

/// A series: its name, and its labels that have a value.
type Series = (String, BTreeMap<String, String>);

/// Guests that run, stand still and are shut off, at rest, so that their numbers stay.
fn guests(lab: &Lab) {
    let names = lab.guests(&["web", "db", "old"]).unwrap();
    lab.wait_for_disk_reads(&names[0]).unwrap();
    lab.virsh(&["suspend", &names[0]]).unwrap();
}

/// Debian's package is kumina's exporter.
#[test]
fn debians_exporter_says_what_ours_says_under_its_names() {
    if let Err(reason) = need("prometheus-libvirt-exporter", "prometheus-libvirt-exporter") {
        eprintln!("debians_exporter_says_what_ours_says_under_its_names skipped: {reason}");
        return;
    }
    let lab = Lab::start(Suite::Machine).unwrap();
    guests(&lab);
    compare(&lab, "kumina", "prometheus-libvirt-exporter", &lab.uri_ro, &[]);
}

/// Where inovex' exporter is built: `INOVEX_EXPORTER=path cargo test --test dialects -- --ignored`.
#[test]
#[ignore = "needs inovex' exporter, which Debian does not have"]
fn inovexs_exporter_says_what_ours_says_under_its_names() {
    let program = std::env::var("INOVEX_EXPORTER").expect("INOVEX_EXPORTER, the path of the program");
    let lab = Lab::start(Suite::Machine).unwrap();
    guests(&lab);
    let socket = lab.uri_ro.split_once("socket=").expect("the socket in the URI").1;
    // Of the domain that is shut off its definition's memory and vCPUs; 0 for a job that there is none of; NaN for no memory.
    let tolerated = ["libvirt_domain_job_info_", "libvirt_domain_memory_stats_used_percent", "libvirt_storage_pool_"];
    compare(&lab, "inovex", &program, socket, &tolerated);
}

/// Starts the other exporter, and holds what both say against each other. What begins as one of `tolerated` may be missing of ours.
fn compare(lab: &Lab, naming: &str, program: &str, uri: &str, tolerated: &[&str]) {
    let address = free_address().unwrap();
    let other = tied(program)
        .arg(format!("--web.listen-address={address}"))
        .arg(format!("--libvirt.uri={uri}"))
        .stderr(fs::File::create(lab.folder().join("other.log")).unwrap())
        .spawn()
        .unwrap();
    let _other = Running(other);
    let ours = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let path = format!("/metrics?naming={naming}");
    let before = until(address, "/metrics", |series| series.len() > 20);
    // Definitions are read beside the scrapes.
    let ours = until(ours.address, &path, |series| {
        before.keys().filter(|(name, _)| is_told(name, tolerated)).all(|key| series.contains_key(key) || is_of_old(key))
    });
    let after = until(address, "/metrics", |series| series.len() > 20);
    let mut wrong = Vec::new();
    for (series, value) in &before {
        if !is_told(&series.0, tolerated) {
            continue;
        }
        match (ours.get(series), after.get(series)) {
            (Some(ours), Some(after)) => {
                // From /proc there, to 10 ms; the host's own packets reach a tap device at any time.
                let slack = if series.0.ends_with("cpu_time_seconds_total") { 0.05 } else { 1e-9 * value.abs() };
                let slack = slack + if series.0.ends_with("rss_bytes") { 1e6 } else { 0.0 };
                if !(value.min(*after) - slack..=value.max(*after) + slack).contains(ours) {
                    wrong.push(format!("{series:?}: {value}, {after} there, {ours} here"));
                }
            }
            (None, Some(_)) if is_of_old(series) => {}
            (None, Some(_)) => wrong.push(format!("{series:?} is not here")),
            (_, None) => {}
        }
    }
    let theirs: BTreeSet<&str> = before.keys().map(|(name, _)| name.as_str()).collect();
    let more = ours.keys().filter(|series| !before.contains_key(series) && !is_of_old(series));
    let more = more.filter(|(name, _)| theirs.contains(name.as_str()));
    wrong.extend(more.map(|series| format!("{series:?} is not there")));
    assert!(before.len() > 40 && wrong.is_empty(), "of {} series: {wrong:#?}", before.len());
}

fn is_told(name: &str, tolerated: &[&str]) -> bool {
    name.starts_with("libvirt") && !tolerated.iter().any(|known| name.starts_with(known))
}

/// Of the domain that is shut off libvirt's statistics have nothing but the state.
fn is_of_old((name, labels): &Series) -> bool {
    let is_old = labels.get("domain").is_some_and(|domain| domain.starts_with("old-"));
    is_old && !["libvirt_domain_info", "libvirt_domain_info_state", "libvirt_domain_openstack_info"].contains(&&**name)
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
    need("prometheus", "prometheus").unwrap();
    let lab = Lab::start(Suite::Machine).unwrap();
    guests(&lab);
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let jobs: Vec<Value> = EXPRESSIONS
        .iter()
        .map(|(naming, _)| {
            json!({
                "job_name": naming,
                "params": {"naming": [naming]},
                "static_configs": [{"targets": [exporter.address]}],
            })
        })
        .collect();
    let config = json!({"global": {"scrape_interval": "3s", "scrape_timeout": "3s"}, "scrape_configs": jobs});
    let path = lab.folder().join("prometheus.yml");
    fs::write(&path, config.to_string()).unwrap();
    let address = free_address().unwrap();
    let prometheus = tied("prometheus")
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", lab.folder().join("tsdb").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .spawn()
        .unwrap();
    let _prometheus = Running(prometheus);
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut empty = vec!["nothing has been asked yet".to_owned()];
    while !empty.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_secs(2));
        empty = EXPRESSIONS
            .iter()
            .flat_map(|(naming, expressions)| expressions.iter().map(move |expression| (naming, expression)))
            .filter_map(|(naming, expression)| answer(address, naming, expression).err())
            .collect();
    }
    assert!(empty.is_empty(), "{empty:#?}");
}

/// Whether `expression` has data from the job of one naming.
fn answer(address: SocketAddr, naming: &str, expression: &str) -> Result<(), String> {
    let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
    let fault = |fault: String| format!("{naming}: {expression}: {fault}");
    let body = get(address, &format!("/api/v1/query?query={query}"), "application/json").map_err(&fault)?;
    let body: Value = serde_json::from_str(&body).map_err(|error| fault(error.to_string()))?;
    match body["data"]["result"].as_array() {
        Some(result)
            if result.iter().any(|series| series["metric"]["job"].as_str().is_none_or(|job| job == naming)) =>
        {
            Ok(())
        }
        _ => Err(fault(body.to_string())),
    }
}
