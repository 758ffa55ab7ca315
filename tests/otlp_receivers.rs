//! Receivers of other people's making take pushes of real guests, and have what a scrape of the same collection says:
//! VictoriaMetrics of Debian trixie over HTTP, asked in PromQL, and Python's gRPC with OpenTelemetry's own types over both
//! transports. Prometheus 3 is asked whether series end; tests/lab/prometheus.sh builds it, which takes minutes the first time:
//! `cargo test --test otlp_receivers -- --ignored`.
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

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use domstats_exporter::encode::otlp::attribute_of;
use domstats_exporter::metrics_doc;
use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use lab::{ALL_GROUPS, Lab, Running, Suite, fetch, get, script_path, tied};
use serde_json::Value;
use server::{Server, folder, free_address};

/// Values by name and labels, or metric and attributes.
type Series = BTreeMap<(String, BTreeMap<String, String>), f64>;

#[test]
fn receivers_have_what_a_scrape_says() {
    let lab = Lab::start(Suite::Machine).unwrap();
    lab.guests(&["web", "db", "old"]).unwrap();
    let victoria = Victoria::start();
    let python = Python::start();
    let (http, grpc) = (format!("http://127.0.0.1:{}", python.http), format!("http://127.0.0.1:{}", python.grpc));
    for (endpoint, protocol, naming, domain_resource) in [
        (victoria.endpoint(), "http/protobuf", "prometheus", false),
        // VictoriaMetrics makes labels of the attributes of a resource.
        (victoria.endpoint(), "http/protobuf", "prometheus", true),
        (victoria.endpoint(), "http/protobuf", "otel", false),
        (http, "http/protobuf", "otel", false),
        (grpc, "grpc", "prometheus", false),
    ] {
        let run = format!("{naming}-{domain_resource}");
        // Scrape and push share one collection.
        let config = format!(
            "libvirt: {{uri: {:?}}}\ncollection: {{groups: [{ALL_GROUPS}], min_interval: 1h, inactive_domains: all}}\n\
             otlp: {{endpoint: '{endpoint}', protocol: {protocol}, naming: {naming}, interval: 500ms, \
             domain_resource: {domain_resource}, resource: {{test.run: {run}}}}}\n",
            lab.uri_ro
        );
        let server = Server::start_on(folder(), None, &config, "");
        let scraped = scraped(&server.get("/metrics"));
        assert!(scraped.len() > 150, "{}", scraped.len());
        let expected = if naming == "otel" { in_otel(&scraped) } else { scraped };
        assert!(expected.len() > 100, "{}", expected.len());
        let is = |what: &Series| compare(&expected, what);
        let what = format!("{endpoint} {protocol} {run}");
        match protocol {
            "http/protobuf" if endpoint == victoria.endpoint() => victoria.wait(&what, &run, &is),
            transport => python.wait(&what, transport, &is),
        }
        server.wait_for_log("the receiver accepts pushes");
    }
}

/// A domain that is gone has no live series, of its histograms neither. Deltas of counters VictoriaMetrics does not keep.
#[test]
fn a_series_ends_in_victoria_metrics() {
    let params = std::fs::read_to_string(script_path("../golden/libvirt-12.params")).unwrap();
    let daemon = FakeLibvirtd::start(Scenario::builder().params(&params).unwrap().build()).unwrap();
    let gone = daemon.domains().names().remove(0);
    let victoria = Victoria::start();
    let config = format!(
        "collection: {{groups: [{ALL_GROUPS}]}}\notlp: {{endpoint: '{}', interval: 2s, naming: prometheus, \
         resource: {{test.run: ended}}}}\n",
        victoria.endpoint()
    );
    let _server = Server::start_on(folder(), Some(&daemon.uri()), &config, "");
    let of_gone = |is: &Series| -> Vec<String> {
        let series = is.keys().filter(|(_, labels)| labels.get("domain") == Some(&gone));
        series.map(|(name, _)| name.clone()).collect()
    };
    victoria.wait("it is there", "ended", &|is| match of_gone(is) {
        names if names.iter().any(|name| name.ends_with("_bucket")) => Ok(()),
        names => Err(format!("no bucket among {names:?}")),
    });
    daemon.domains().remove(&gone).unwrap();
    victoria.wait("it is gone", "ended", &|is| match of_gone(is) {
        names if names.is_empty() => Ok(()),
        names => Err(format!("left are {names:?}")),
    });
}

/// Two intervals after a domain is gone, Prometheus has no live series of it; whether a domain is a resource or not, its series
/// are as many.
#[test]
#[ignore = "builds Prometheus from the module proxy: minutes"]
fn a_series_ends_in_prometheus() {
    let params = std::fs::read_to_string(script_path("../golden/libvirt-12.params")).unwrap();
    let scenario = Scenario::builder().domains(2, Template::small()).params(&params).unwrap();
    let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
    let gone = daemon.domains().names().pop().unwrap();
    let prometheus = Prometheus::start();
    let kinds = [("cumulative", false), ("cumulative", true), ("delta", false), ("delta", true)];
    let start = |(temporality, domain_resource): (&str, bool)| {
        let config = format!(
            "collection: {{groups: [{ALL_GROUPS}]}}\notlp: {{endpoint: 'http://{}/api/v1/otlp/v1/metrics', interval: 3s, \
             naming: prometheus, temporality: {temporality}, domain_resource: {domain_resource}, \
             resource: {{service.instance.id: {temporality}-{domain_resource}}}}}\n",
            prometheus.address
        );
        Server::start_on(folder(), Some(&daemon.uri()), &config, "")
    };
    let servers = kinds.map(start);
    let mut scrape: Vec<_> = scraped(&servers[0].get("/metrics")).into_keys().collect();
    scrape.retain(|(_, labels)| labels.get("domain") == Some(&gone));
    assert!(scrape.iter().any(|(name, _)| name.ends_with("_bucket")), "{scrape:?}");
    let uuid = scrape[0].1["uuid"].clone();
    let expected = scrape.len();
    let live = |(temporality, domain_resource): (&str, bool)| {
        let of_gone = if domain_resource {
            format!("instance=\"{temporality}-true/{uuid}\"")
        } else {
            format!("instance=\"{temporality}-false\",uuid=\"{uuid}\"")
        };
        prometheus.query(&format!("count({{__name__=~\"libvirt_domain_.+\",{of_gone}}})"))
    };
    let mut before = Vec::new();
    wait("each has as many series of it as a scrape", || {
        before = kinds.iter().map(|kind| live(*kind)).collect::<Result<_, _>>()?;
        let all = before.iter().all(|count| *count == expected);
        if all { Ok(()) } else { Err(format!("{before:?}, not {expected}")) }
    });
    daemon.domains().remove(&gone).unwrap();
    let removed = Instant::now();
    for kind in kinds {
        wait("its series end", || match live(kind)? {
            0 => Ok(()),
            left => Err(format!("{kind:?}: {left} are left")),
        });
        eprintln!("{kind:?}: none of {expected} series is live {:?} after the domain", removed.elapsed());
    }
    let others = prometheus.query("count({__name__=~\"libvirt_domain_.+\"})").unwrap();
    assert!(others > 100, "{others}");
}

/// The domains' series of a scrape.
fn scraped(text: &str) -> Series {
    let line = regex::Regex::new(r#"^(libvirt_domain_\w+)(?:\{(.*)\})? (\S+)$"#).unwrap();
    let label = regex::Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let series = text.lines().filter_map(|text| {
        let parts = line.captures(text)?;
        let labels = parts.get(2).map_or("", |labels| labels.as_str());
        let labels = label.captures_iter(labels).map(|pair| (pair[1].to_owned(), pair[2].to_owned())).collect();
        Some(((parts[1].to_owned(), labels), parts[3].parse().unwrap()))
    });
    series.collect()
}

/// The same in OpenTelemetry's names, as the reference of all metrics has them. What is named by rule stays out.
fn in_otel(scraped: &Series) -> Series {
    let all: BTreeMap<String, _> = metrics_doc::all().into_iter().map(|metric| (metric.name.clone(), metric)).collect();
    let series = scraped.iter().filter_map(|((name, labels), value)| {
        let metric = all.get(name)?;
        let attribute =
            |label: &String| attribute_of(label, metric.subject).map(|known| known.name.to_owned()).unwrap();
        let mut attributes: BTreeMap<_, _> =
            labels.iter().map(|(name, value)| (attribute(name), value.clone())).collect();
        attributes.extend(metric.otel_attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Some(((metric.otel_name.clone(), attributes), *value))
    });
    series.collect()
}

/// What of `expected` is not there, or not so. VictoriaMetrics rounds, by how far values of a series are apart.
fn compare(expected: &Series, is: &Series) -> Result<(), String> {
    for (series, value) in expected {
        match is.get(series) {
            Some(other) if (value - other).abs() <= value.abs() * 1e-11 => {}
            other => return Err(format!("{series:?} is {other:?}, not {value}, among {}", is.len())),
        }
    }
    Ok(())
}

/// Asks until the answer is good.
fn wait(what: &str, mut ask: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match ask() {
            Ok(()) => return,
            Err(fault) => assert!(Instant::now() < deadline, "{what}: {fault}"),
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// VictoriaMetrics, which keeps what it is sent.
struct Victoria {
    address: SocketAddr,
    _process: Running,
    _folder: tempfile::TempDir,
}

impl Victoria {
    fn start() -> Self {
        let program = fetch("trixie", "victoria-metrics").unwrap().join("usr/bin/victoria-metrics");
        let (folder, address) = (folder(), free_address());
        let process = tied(program.to_str().unwrap())
            .arg(format!("-storageDataPath={}", folder.path().display()))
            .arg(format!("-httpListenAddr={address}"))
            .args(["-loggerLevel=ERROR", "-search.latencyOffset=0s", "-memory.allowedBytes=128MB"])
            .spawn()
            .unwrap();
        let victoria = Self { address, _process: Running(process), _folder: folder };
        wait("VictoriaMetrics", || get(address, "/health", "*/*").map(drop));
        victoria
    }

    fn endpoint(&self) -> String {
        format!("http://{}/opentelemetry/v1/metrics", self.address)
    }

    fn wait(&self, what: &str, run: &str, is: &dyn Fn(&Series) -> Result<(), String>) {
        wait(what, || {
            get(self.address, "/internal/force_flush", "*/*")?;
            let expression = format!("{{__name__=~\"libvirt.domain.+\",\"test.run\"=\"{run}\"}}");
            let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let body = get(self.address, &format!("/api/v1/query?nocache=1&query={encoded}"), "*/*")?;
            let body: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
            let results = body["data"]["result"].as_array().ok_or("no result")?;
            let series = results.iter().map(|result| {
                let mut labels: BTreeMap<String, String> = serde_json::from_value(result["metric"].clone()).unwrap();
                let name = labels.remove("__name__").unwrap();
                // The resource is on every series.
                let of_resource = ["service.", "host.", "test.", "job", "instance"];
                labels.retain(|name, _| !of_resource.iter().any(|start| name.starts_with(start)));
                ((name, labels), result["value"][1].as_str().unwrap().parse().unwrap())
            });
            is(&series.collect())
        });
    }
}

/// A Prometheus that is sent metrics and scrapes nothing.
struct Prometheus {
    address: SocketAddr,
    _process: Running,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start() -> Self {
        let built = Command::new(script_path("prometheus.sh")).stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "prometheus.sh says why; 3 is no Go to build it with: {}", built.status);
        let program = String::from_utf8(built.stdout).unwrap();
        let (folder, address) = (folder(), free_address());
        std::fs::write(folder.path().join("prometheus.yml"), "{}").unwrap();
        let process = tied(program.trim())
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--web.enable-otlp-receiver", "--enable-feature=otlp-deltatocumulative", "--log.level=error"])
            .spawn()
            .unwrap();
        let prometheus = Self { address, _process: Running(process), _folder: folder };
        wait("Prometheus", || get(address, "/-/ready", "*/*").map(drop));
        prometheus
    }

    /// The value of a count, which is 0 of nothing.
    fn query(&self, expression: &str) -> Result<usize, String> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = get(self.address, &format!("/api/v1/query?query={encoded}"), "application/json")?;
        let body: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let value = body["data"]["result"][0]["value"][1].as_str();
        Ok(value.map_or(0, |value| value.parse().unwrap()))
    }
}

/// A receiver that prints what it is sent.
struct Python {
    http: u64,
    grpc: u64,
    lines: mpsc::Receiver<Value>,
    _process: Running,
}

impl Python {
    fn start() -> Self {
        let script = script_path("otlp-receiver.sh");
        let mut process = tied(script.to_str().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    break;
                }
            }
        });
        // The packages may have to be fetched first.
        let ports: Value = lines.recv_timeout(Duration::from_secs(300)).expect("otlp-receiver.sh says why not");
        let port = |name: &str| ports[name].as_u64().unwrap();
        Self { http: port("http"), grpc: port("grpc"), lines, _process: Running(process) }
    }

    fn wait(&self, what: &str, transport: &str, is: &dyn Fn(&Series) -> Result<(), String>) {
        wait(what, || {
            let line = self.lines.recv_timeout(Duration::from_secs(60)).map_err(|error| error.to_string())?;
            if line["transport"] != transport {
                return Err(format!("it came over {}", line["transport"]));
            }
            let series = line["series"].as_array().unwrap().iter().filter_map(|series| {
                let attributes = serde_json::from_value(series[1].clone()).unwrap();
                Some(((series[0].as_str().unwrap().to_owned(), attributes), series[2].as_f64()?))
            });
            is(&series.collect())
        });
    }
}
