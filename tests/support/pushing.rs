//! The exporter as a program that pushes: its files, its environment, and what it says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};
use tempfile::TempDir;

/// `domstats-exporter serve`; it is killed with this.
#[derive(Debug)]
pub struct Pushing {
    /// The process.
    pub process: Child,
    /// `config.yaml`, `log`, and whatever the test puts there.
    pub folder: TempDir,
}

impl Pushing {
    /// Starts it with a configuration, and with nothing of OpenTelemetry's in its environment but this.
    pub fn start(folder: TempDir, config: &str, environment: &[(&str, &str)]) -> Self {
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let process = command(&folder, environment).arg("serve").stderr(log).spawn().unwrap();
        Self { process, folder }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until it has logged `text`.
    pub fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.log().contains(text) {
            assert!(self.process.try_wait().unwrap().is_none(), "it ended: {}", self.log());
            assert!(Instant::now() < deadline, "{text} is not in the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak_rss(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// CPU time so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program with the configuration of `folder`; a command is still to be given.
pub fn command(folder: &TempDir, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domstats-exporter"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).arg("--config.file").arg(config_file(folder)).stdin(Stdio::null());
    command
}

/// Its configuration.
pub fn config_file(folder: &TempDir) -> PathBuf {
    folder.path().join("config.yaml")
}

/// A point with its metric's name and attributes as one text: `name{a="1",b="2"}`.
pub type Points = BTreeMap<String, NumberDataPoint>;

/// All numbers of a request.
pub fn points(request: &ExportMetricsServiceRequest) -> Points {
    let mut points = Points::new();
    for metric in metrics(request) {
        let of_metric = match &metric.data {
            Some(Data::Gauge(gauge)) => &gauge.data_points,
            Some(Data::Sum(sum)) => &sum.data_points,
            _ => continue,
        };
        for point in of_metric {
            let twice = points.insert(format!("{}{{{}}}", metric.name, pairs(&point.attributes)), point.clone());
            assert!(twice.is_none(), "{} has a point twice", metric.name);
        }
    }
    points
}

/// All metrics of a request.
pub fn metrics(request: &ExportMetricsServiceRequest) -> impl Iterator<Item = &Metric> {
    request.resource_metrics.iter().flat_map(|of| &of.scope_metrics).flat_map(|of| &of.metrics)
}

/// The attributes of the resource.
pub fn resource(request: &ExportMetricsServiceRequest) -> BTreeMap<String, String> {
    let attributes = &request.resource_metrics[0].resource.as_ref().unwrap().attributes;
    attributes.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

/// The value of a point as a number.
pub fn number(point: &NumberDataPoint) -> Option<f64> {
    #[allow(clippy::as_conversions, clippy::cast_precision_loss)]
    match point.value? {
        Value::AsInt(value) => Some(value as f64),
        Value::AsDouble(value) => Some(value),
    }
}

/// Attributes as the text formats print labels.
fn pairs(attributes: &[KeyValue]) -> String {
    let pair = |pair: &KeyValue| format!("{}=\"{}\"", pair.key, text(pair.value.as_ref()));
    attributes.iter().map(pair).collect::<Vec<_>>().join(",")
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A configuration without a server that pushes often.
pub fn pushing_to(url: &str, protocol: &str, more: &str) -> String {
    let otlp = format!("endpoint: '{url}', protocol: {protocol}, interval: 1s{more}");
    format!("libvirt: {{uri: 'test:///default'}}\nweb: {{listen_addresses: []}}\notlp: {{{otlp}}}\n")
}
