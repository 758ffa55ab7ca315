//! A Prometheus with the shipped rules that scrapes exporters in both layouts, and what it answers.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::lab::{Running, free_address, get, tied};
use crate::{holes, layouts};

/// A line: its labels, and its values.
pub type Series = (BTreeMap<String, String>, Vec<f64>);

/// A Prometheus that scrapes every two seconds, with the rules loaded.
pub struct Prometheus {
    pub address: SocketAddr,
    _process: Running,
    started: Instant,
}

impl Prometheus {
    /// `targets` are the exporters by the names of their hosts.
    pub fn start(folder: &Path, targets: &[(&str, SocketAddr)]) -> Self {
        // Every rule is evaluated as often as there are scrapes, also where minutes lie between its rounds.
        let rules = [("rules.yaml", dashboards::rules::groups()), ("alerts.yaml", dashboards::alerts::groups())];
        let rules = rules.map(|(file, mut groups)| {
            groups.iter_mut().for_each(|group| group.interval = None);
            let path = folder.join(file);
            fs::write(&path, dashboards::rules::to_yaml(&groups)).unwrap();
            path
        });
        let targets = targets
            .iter()
            .map(|(host, address)| json!({"targets": [address], "labels": {"instance": format!("{host}:9177")}}));
        let targets: Value = targets.collect();
        let two = json!([{"source_labels": ["instance"], "target_label": "instance", "replacement": "two:$1"}]);
        let [fast, slow] = ["libvirt", "libvirt-slow"].map(layouts::params);
        let config = json!({
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
            "rule_files": rules,
            "scrape_configs": [
                {"job_name": "libvirt", "static_configs": targets},
                {"job_name": "fast", "params": fast, "static_configs": targets, "relabel_configs": two},
                {"job_name": "slow", "params": slow, "static_configs": targets, "relabel_configs": two, "scrape_interval": "3s"},
            ],
        });
        let path = folder.join("prometheus.yml");
        fs::write(&path, config.to_string()).unwrap();
        let address = free_address().unwrap();
        let process = tied("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .spawn()
            .unwrap();
        Self { address, _process: Running(process), started: Instant::now() }
    }

    pub fn scrape_for(&self, time: Duration) {
        std::thread::sleep(time.saturating_sub(self.started.elapsed()));
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let body = get(self.address, path, "application/json")?;
        let body: Value = serde_json::from_str(&body).map_err(|error| format!("{path}: {error}"))?;
        Ok(body["data"].clone())
    }

    /// What a panel would show: over all the time that was scraped, or now.
    pub fn panel(&self, expression: &str, instant: bool) -> Result<Vec<Series>, String> {
        if instant { self.now(expression) } else { self.range(expression) }
    }

    /// A table shows one moment, and on a busy machine a scrape may lack what a QEMU did not say in time: the first of some
    /// moments that has anything.
    fn now(&self, expression: &str) -> Result<Vec<Series>, String> {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for ago in (0..40).step_by(4) {
            let data = self.ask(&format!("/api/v1/query?query={}&time={}", encode(expression), end - ago))?;
            let found = series(&data, |one| vec![one["value"].clone()]);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    fn range_path(&self, expression: &str, step: u64) -> String {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let start = end - self.started.elapsed().as_secs().saturating_sub(10);
        // The layouts are asked one after the other, and compared by time.
        let (start, end) = (start - start % step, end - end % step);
        format!("/api/v1/query_range?query={}&start={start}&end={end}&step={step}", encode(expression))
    }

    pub fn range(&self, expression: &str) -> Result<Vec<Series>, String> {
        let data = self.ask(&self.range_path(expression, 4))?;
        Ok(series(&data, |one| one["values"].as_array().cloned().unwrap_or_default()))
    }

    /// What an expression says of the hosts of a layout, without its name for them.
    pub fn lines(&self, expression: &str, layout: &str) -> layouts::Lines {
        let layout = regex::Regex::new(&format!("^(?:{layout})$")).unwrap();
        let data = self.ask(&self.range_path(expression, 2)).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let mut lines = layouts::Lines::new();
        for one in data["result"].as_array().unwrap() {
            let mut labels: BTreeMap<String, String> = serde_json::from_value(one["metric"].clone()).unwrap();
            if let Some(instance) = labels.get_mut("instance") {
                if !layout.is_match(instance) {
                    continue;
                }
                *instance = instance.trim_start_matches("two:").to_owned();
            }
            let points = one["values"].as_array().unwrap().iter();
            let points = points.map(|point| (point[0].as_u64().unwrap(), number(point))).collect();
            assert!(lines.insert(labels, points).is_none(), "{expression}: two lines of one host and one name");
        }
        lines
    }

    /// The samples as they were scraped from the start on, by the time of their scrape.
    pub fn samples(&self, selector: &str) -> holes::Samples {
        let seconds = self.started.elapsed().as_secs() + 10;
        let data = self.ask(&format!("/api/v1/query?query={}", encode(&format!("{selector}[{seconds}s]")))).unwrap();
        let lines = data["result"].as_array().unwrap().iter().map(|one| {
            let labels = serde_json::from_value(one["metric"].clone()).unwrap();
            let samples = one["values"].as_array().unwrap().iter();
            (
                labels,
                samples.map(|sample| (Duration::from_secs_f64(sample[0].as_f64().unwrap()), number(sample))).collect(),
            )
        });
        lines.collect()
    }

    pub fn label_values(&self, series: &str, label: &str) -> Vec<String> {
        let data = self.ask(&format!("/api/v1/label/{label}/values?match[]={}", encode(series))).unwrap();
        serde_json::from_value(data).unwrap()
    }

    /// Rules that failed.
    pub fn rules_in_error(&self) -> Vec<String> {
        let data = self.ask("/api/v1/rules").unwrap();
        let rules = data["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules
            .filter(|rule| rule["health"] == "err")
            .map(|rule| format!("the rule {}: {}", rule["name"], rule["lastError"]))
            .collect()
    }
}

fn series(data: &Value, values: impl Fn(&Value) -> Vec<Value>) -> Vec<Series> {
    let result = data["result"].as_array().cloned().unwrap_or_default();
    result
        .iter()
        .map(|one| {
            let labels = serde_json::from_value(one["metric"].clone()).unwrap_or_default();
            (labels, values(one).iter().map(number).collect())
        })
        .collect()
}

fn number(point: &Value) -> f64 {
    point[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
