//! A Prometheus that puts a zero where a counter began, and what it takes counters to have grown by.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::agreement::Readings;
use crate::expected::{Expected, expected};
use crate::lab::{Running, fetch, free_address, get, tied};

/// The formats that say when a counter began.
const PROTOCOLS: [&str; 2] = ["OpenMetricsText1.0.0", "PrometheusProto"];
/// What the guest's system counts: a guest that moves in has counted before.
const KEPT_BY_GUEST: [&str; 3] = ["_faults_total", "memory_swap_", "memory_hugetlb_"];

/// A counter of a guest: its host, its name and its labels, without the UUID.
type Counter = (usize, String, BTreeMap<String, String>);

/// Debian sid's Prometheus, which scrapes each exporter once a second in each of [`PROTOCOLS`].
pub struct Prometheus {
    address: SocketAddr,
    exporters: Vec<SocketAddr>,
    _process: Running,
}

impl Prometheus {
    pub fn start(folder: &Path, exporters: &[SocketAddr]) -> Self {
        let job = |protocol: &&str| json!({"job_name": protocol, "scrape_protocols": [protocol], "static_configs": [{"targets": exporters}]});
        let jobs: Vec<Value> = PROTOCOLS.iter().map(job).collect();
        let config = json!({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs});
        let path = folder.join("prometheus.yml");
        fs::write(&path, config.to_string()).unwrap();
        let program = fetch("sid", "prometheus").unwrap().join("usr/bin/prometheus");
        let address = free_address().unwrap();
        let process = tied(program.to_str().unwrap())
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=created-timestamp-zero-ingestion", "--log.level=error"])
            .spawn()
            .unwrap();
        Self { address, exporters: exporters.to_vec(), _process: Running(process) }
    }

    /// All counters of guests in one of the formats, with the time and the value of each sample.
    fn counters(&self, protocol: &str) -> Vec<(Counter, Vec<(f64, f64)>)> {
        let all = format!("{{job=\"{protocol}\",domain!=\"\",__name__=~\"libvirt_domain_.+_total\"}}[1h]");
        let encoded: String = all.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = get(self.address, &format!("/api/v1/query?query={encoded}"), "application/json").unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        let counters = body["data"]["result"].as_array().unwrap().iter().map(|one| {
            let mut labels: BTreeMap<String, String> = serde_json::from_value(one["metric"].clone()).unwrap();
            let mut take = |label: &str| labels.remove(label).unwrap();
            let (name, instance, _job, _uuid) = (take("__name__"), take("instance"), take("job"), take("uuid"));
            let host = self.exporters.iter().position(|address| address.to_string() == instance).unwrap();
            let number = |value: &Value| value.as_str().unwrap().parse().unwrap();
            let points = one["values"].as_array().unwrap().iter();
            let points = points.map(|point| (point[0].as_f64().unwrap(), number(&point[1]))).collect();
            ((host, name, labels), points)
        });
        counters.collect()
    }

    /// What it got wrong: a counter that fell more often than it began again, or grew by more than it did.
    pub fn faults(&self, truth: &Growth) -> Vec<String> {
        let mut faults = Vec::new();
        for protocol in PROTOCOLS {
            let mut grown = BTreeMap::<Counter, (f64, Vec<String>)>::new();
            for (counter, points) in self.counters(protocol) {
                let (sum, falls) = grown.entry(counter).or_default();
                for pair in points.windows(2) {
                    let ((_, before), (at, after)) = (pair[0], pair[1]);
                    let fell = after < before;
                    *sum += if fell { after } else { after - before };
                    falls.extend(fell.then(|| format!("{before} -> {after} at {at}")));
                }
            }
            let mut compared = 0;
            for (counter, (sum, falls)) in grown {
                let Some(really) = truth.counters.get(&counter) else { continue };
                compared += 1;
                let begun = really.begun.max(truth.runs(&counter));
                let most_falls = usize::try_from(begun).unwrap();
                // It may have gone on after the last reading, and after the last before it began again.
                let most = really.sum + f64::from(begun + 1) * truth.most_at_once(&counter);
                if sum > most || falls.len() > most_falls {
                    let is = format!("grew by {sum}, at most {most}, and fell {} times, {falls:?}", falls.len());
                    faults.push(format!("{protocol}: {counter:?} {is}: {really:?}"));
                }
            }
            println!("{protocol}: the growth of {compared} counters is compared");
            assert!(compared > 20, "{protocol}: {compared}");
        }
        faults
    }
}

/// What counters have really grown by, from one reading to the next.
#[derive(Debug, Default)]
pub struct Growth {
    counters: BTreeMap<Counter, Grown>,
    /// How many readings there have been of each host.
    readings: BTreeMap<usize, u32>,
}

/// What one counter has grown by.
#[derive(Debug, Default)]
struct Grown {
    last: f64,
    /// The number of the last reading.
    at: u32,
    sum: f64,
    /// How often it began again.
    begun: u32,
    /// The most from one reading to the next.
    step: f64,
}

impl Growth {
    /// Takes a reading of a host's guests.
    pub fn read(&mut self, host: usize, readings: &Readings) {
        let number = self.readings.entry(host).or_default();
        *number += 1;
        for (domain, values) in readings {
            for (key, value) in values {
                let Expected::Sample(name, labels, scale) = expected(key, values) else { continue };
                let Some(value) = value.parse::<f64>().ok().filter(|_| name.ends_with("_total")) else { continue };
                let value = value * scale;
                let is_kept = KEPT_BY_GUEST.iter().any(|part| name.contains(part));
                let mut labels: BTreeMap<String, String> =
                    labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect();
                labels.insert("domain".to_owned(), domain.clone());
                let grown = self.counters.entry((host, name, labels)).or_default();
                let is_new = grown.at == 0;
                // A process or a device that was away is another one.
                let goes_on = !is_new && (is_kept || grown.at + 1 == *number) && value >= grown.last;
                // A guest that moves in has counted before.
                let from = if goes_on {
                    grown.last
                } else if is_new && is_kept && host > 0 {
                    value
                } else {
                    0.0
                };
                grown.begun += u32::from(!is_new && !goes_on);
                grown.sum += value - from;
                grown.step = grown.step.max(value - from);
                (grown.last, grown.at) = (value, *number);
            }
        }
    }

    /// How often the guest got another process: what begins late in one is not in the readings of a short run.
    fn runs(&self, (host, _, labels): &Counter) -> u32 {
        let domain = BTreeMap::from([("domain".to_owned(), labels["domain"].clone())]);
        let time = self.counters.get(&(*host, "libvirt_domain_cpu_time_seconds_total".to_owned(), domain));
        time.map_or(0, |grown| grown.begun)
    }

    /// The most that such a counter grew by from one reading to the next, on any host and under any name.
    fn most_at_once(&self, (_, name, labels): &Counter) -> f64 {
        let is_like = |other: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| label == "domain" || other.get(label) == Some(value))
        };
        let like = self.counters.iter().filter(|((_, other, labels), _)| other == name && is_like(labels));
        like.map(|(_, grown)| grown.step).fold(0.0, f64::max)
    }
}
