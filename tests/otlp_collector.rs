//! A real OpenTelemetry Collector takes pushes over both transports and shows, through its Prometheus exporter, what a scrape
//! says. Built by tests/lab/collector.sh where Go is; skipped by name where it is not.
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

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use domstats_exporter::encode::otlp::prometheus_name;
use domstats_exporter::metrics_doc;
use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use lab::{Running, get, script_path, tied};
use server::{Authority, Server, folder, free_address};
use tempfile::TempDir;

/// Values by name and sorted labels.
type Series = BTreeMap<String, f64>;

/// A Collector that receives OTLP and serves it to Prometheus.
struct Collector {
    program: PathBuf,
    http: SocketAddr,
    grpc: SocketAddr,
    prometheus: SocketAddr,
    folder: TempDir,
    process: Option<Running>,
}

impl Collector {
    /// Starts one, or says why not: with more settings of both transports, of the pipeline, and whole sections.
    fn start(test: &str, folder: TempDir, receiver: &str, pipeline: &str, sections: &str) -> Option<Self> {
        let built = Command::new(script_path("collector.sh")).stderr(Stdio::inherit()).output().unwrap();
        if built.status.code() == Some(3) {
            eprintln!("SKIPPED otlp_collector::{test}: there is no Go to build a Collector with");
            return None;
        }
        assert!(built.status.success(), "collector.sh says why");
        let program = PathBuf::from(String::from_utf8(built.stdout).unwrap().trim());
        let [http, grpc, prometheus] = [0; 3].map(|_| free_address());
        let extensions = if sections.contains("bearertokenauth") { ", extensions: [bearertokenauth]" } else { "" };
        let config = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{http}'{receiver}}}, grpc: {{endpoint: '{grpc}'{receiver}}}}}}}}}\n\
             exporters: {{prometheus: {{endpoint: '{prometheus}'}}}}\n{sections}\n\
             service: {{telemetry: {{metrics: {{level: none}}}}{extensions}, \
             pipelines: {{metrics: {{receivers: [otlp], exporters: [prometheus]{pipeline}}}}}}}\n"
        );
        fs::write(folder.path().join("collector.yaml"), config).unwrap();
        let mut collector = Self { program, http, grpc, prometheus, folder, process: None };
        collector.restart();
        Some(collector)
    }

    fn stop(&mut self) {
        self.process = None;
    }

    /// Begins with nothing, at the same addresses.
    fn restart(&mut self) {
        self.stop();
        let log = fs::File::create(self.folder.path().join("collector.log")).unwrap();
        let process = tied(self.program.to_str().unwrap())
            .arg("--config")
            .arg(self.folder.path().join("collector.yaml"))
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(Running(process));
        let listens = || [self.http, self.grpc, self.prometheus].iter().all(|at| TcpStream::connect(at).is_ok());
        wait("the Collector listens", || listens().then_some(()).ok_or_else(|| self.log()));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("collector.log")).unwrap()
    }

    /// What it has of the exporter that calls itself `instance`.
    fn series(&self, instance: &str) -> Result<Series, String> {
        let of = format!("instance=\"{instance}\"");
        let text = get(self.prometheus, "/metrics", "text/plain")?;
        Ok(series(text.lines().filter(|line| line.contains(&of))))
    }
}

/// Without what the Collector adds.
fn series<'a>(lines: impl Iterator<Item = &'a str>) -> Series {
    let added = ["instance=", "job=", "otel_scope_"];
    let of_line = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let mut labels: Vec<&str> = labels.strip_suffix('}')?.split("\",").filter(|label| !label.is_empty()).collect();
        labels.retain(|label| !added.iter().any(|of| label.starts_with(of)));
        let mut labels: Vec<String> = labels.iter().map(|label| normal(label.trim_end_matches('"'))).collect();
        labels.sort_unstable();
        Some((format!("{name}{{{}}}", labels.join(",")), value.parse().ok()?))
    };
    lines.filter(|line| !line.starts_with('#')).filter_map(of_line).collect()
}

/// The bound of a bucket has more than one form.
fn normal(label: &str) -> String {
    match label.strip_prefix("le=\"").and_then(|bound| bound.parse::<f64>().ok()) {
        Some(bound) => format!("le=\"{bound:e}"),
        None => label.to_owned(),
    }
}

/// The domains' series of a scrape.
fn scraped(server: &Server) -> Series {
    series(server.get("/metrics").lines().filter(|line| line.starts_with("libvirt_domain_")))
}

/// Whether a series only grows.
fn is_counter(series: &str) -> bool {
    let name = series.split('{').next().unwrap_or(series);
    ["_total", "_bucket", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix))
}

/// Asks until the answer is good.
fn wait<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(fault) => assert!(Instant::now() < deadline, "{what}: {fault}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until an exporter has logged `text`.
fn logged(server: &Server, text: &str) {
    wait(text, || if server.log().contains(text) { Ok(()) } else { Err(server.log()) });
}

/// How many pushes have been accepted as a whole.
fn pushes(server: &Server) -> f64 {
    let text = server.get("/metrics?domain[]=none");
    let line = text.lines().find(|line| line.starts_with("libvirt_exporter_otlp_exports_total{result=\"success\"}"));
    line.and_then(|line| line.rsplit_once(' ')).map_or(0.0, |(_, value)| value.parse().unwrap())
}

/// Waits for whole pushes; the first of two may have begun before.
fn pushed(servers: &[Server], count: f64) {
    let before: Vec<f64> = servers.iter().map(pushes).collect();
    for (server, before) in servers.iter().zip(before) {
        wait("pushes", || {
            let now = pushes(server);
            if now >= before + count { Ok(()) } else { Err(format!("{now} after {before}: {}", server.log())) }
        });
    }
}

/// Many domains over both transports, compressed and not, cumulative and delta.
#[test]
fn a_collector_has_what_a_scrape_says_until_a_domain_ends() {
    let test = "a_collector_has_what_a_scrape_says_until_a_domain_ends";
    let Some(mut collector) = Collector::start(test, folder(), "", "", "") else { return };
    // And one with histograms.
    let params = fs::read_to_string(script_path("../golden/libvirt-12.params")).unwrap();
    let scenario = Scenario::builder().domains(500, Template::small()).params(&params).unwrap();
    let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
    let gone = [daemon.domains().names().pop().unwrap(), "vm-7".to_owned()];
    let kinds = [
        ("http/protobuf", "none", "cumulative"),
        ("http/protobuf", "gzip", "delta"),
        ("grpc", "gzip", "cumulative"),
        ("grpc", "none", "delta"),
    ];
    let start = |(protocol, compression, temporality): (&str, &str, &str)| {
        let address = if protocol == "grpc" { collector.grpc } else { collector.http };
        let config = format!(
            "collection: {{groups: [state, cpu_total, balloon, block]}}\n\
             otlp: {{endpoint: 'http://{address}', protocol: {protocol}, compression: {compression}, \
             temporality: {temporality}, naming: prometheus, interval: 10s, \
             resource: {{service.instance.id: {protocol}-{temporality}}}}}\n"
        );
        Server::start_on(folder(), Some(&daemon.uri()), &config, "")
    };
    let servers = kinds.map(start);
    pushed(&servers, 1.0);
    let first: Vec<Series> = servers.iter().map(scraped).collect();
    for _ in 0..7 {
        daemon.advance(Duration::from_secs(10));
        pushed(&servers, 1.0);
    }
    pushed(&servers, 2.0);
    for (((protocol, _, temporality), server), first) in kinds.iter().zip(&servers).zip(&first) {
        let now = scraped(server);
        let is = collector.series(&format!("{protocol}-{temporality}")).unwrap();
        let mut grown = 0;
        for (series, value) in &now {
            // Of a counter the Collector has what has been told of it.
            let is_counter = is_counter(series);
            let of_before = if is_counter && *temporality == "delta" { first[series] } else { 0.0 };
            let found = *is.get(series).unwrap_or_else(|| panic!("{protocol} {temporality}: {series} of {}", is.len()));
            let expected = value - of_before;
            let close = (found - expected).abs() <= value.abs() * 1e-9;
            assert!(close, "{protocol} {temporality}: {series} is {found}, not {expected}");
            grown += usize::from(is_counter && *value > first[series]);
        }
        assert!(now.len() > 10_000 && grown > 2_500, "{} series, {grown} of them grew", now.len());
        // The Collector gives sum and count to every histogram.
        let of_domains = is.keys().filter(|series| series.starts_with("libvirt_domain_") && !now.contains_key(*series));
        let more: Vec<_> =
            of_domains.filter(|series| !series.contains("_sum{") && !series.contains("_count{")).collect();
        assert!(more.is_empty(), "{protocol} {temporality}: {more:?}");
        eprintln!("{protocol} {temporality}: {} series as scraped, {grown} of them counters that grew", now.len());
    }
    gone.iter().for_each(|name| drop(daemon.domains().remove(name).unwrap()));
    pushed(&servers, 2.0);
    let text = get(collector.prometheus, "/metrics", "text/plain").unwrap();
    let of_gone = |line: &&str| gone.iter().any(|name| line.contains(&format!("domain=\"{name}\"")));
    let left: Vec<&str> = text.lines().filter(of_gone).collect();
    assert!(left.is_empty() && text.contains("domain=\"vm-8\""), "{} are left: {:?}", left.len(), left.first());
    // Away for some pushes: what is cumulative is whole again afterwards.
    collector.stop();
    daemon.advance(Duration::from_secs(10));
    thread::sleep(Duration::from_secs(11));
    collector.restart();
    pushed(&servers, 2.0);
    for ((protocol, _, temporality), server) in kinds.iter().zip(&servers).filter(|(kind, _)| kind.2 == "cumulative") {
        let is = collector.series(&format!("{protocol}-{temporality}")).unwrap();
        let different = scraped(server).into_iter().find(|(series, value)| is.get(series) != Some(value));
        assert_eq!(different, None, "{protocol}");
    }
}

/// TLS with client certificates and a bearer token; the names in Prometheus are those that METRICS.md has.
#[test]
fn a_collector_that_knows_its_clients() {
    let (authority, files) = (Authority::new(), folder());
    authority.write_all(files.path());
    let file = |name: &str| files.path().join(name).display().to_string();
    let receiver = format!(
        ", auth: {{authenticator: bearertokenauth}}, tls: {{cert_file: '{}', key_file: '{}', client_ca_file: '{}'}}",
        file("server.crt"),
        file("server.key"),
        file("ca.crt")
    );
    let sections = "extensions: {bearertokenauth: {token: sesame}}";
    let Some(collector) = Collector::start("a_collector_that_knows_its_clients", files, &receiver, "", sections) else {
        return;
    };
    let file = |name: &str| collector.folder.path().join(name).display().to_string();
    for (protocol, address) in [("http/protobuf", collector.http), ("grpc", collector.grpc)] {
        let start = |token: &str, identity: &str| {
            let config = format!(
                "otlp: {{endpoint: 'https://localhost:{}', protocol: {protocol}, interval: 1s, \
                 headers: {{authorization: 'Bearer {token}'}}, resource: {{service.instance.id: {protocol}}}, \
                 tls: {{ca_file: '{}'{identity}}}}}\n",
                address.port(),
                file("ca.crt")
            );
            Server::start(folder(), &config, "")
        };
        let identity = format!(", cert_file: '{}', key_file: '{}'", file("client.crt"), file("client.key"));
        let server = start("sesame", &identity);
        logged(&server, "the receiver takes what is pushed");
        let is = wait("its series", || {
            collector.series(protocol).and_then(|is| match is.len() {
                0 => Err(collector.log()),
                _ => Ok(is),
            })
        });
        let translated: BTreeSet<String> = metrics_doc::all()
            .iter()
            .map(|metric| prometheus_name(&metric.otel_name, &metric.otel_unit, metric.kind == "counter"))
            .collect();
        let names: BTreeSet<&str> = is.keys().filter_map(|series| series.split('{').next()).collect();
        let unknown: Vec<_> =
            names.iter().filter(|name| **name != "target_info" && !translated.contains(**name)).collect();
        assert!(names.len() > 30 && unknown.is_empty(), "{unknown:?} of {names:?}");
        let refused = start("open", &identity);
        logged(&refused, "the receiver refuses what is pushed");
        let stranger = start("sesame", "");
        logged(&stranger, "nobody takes what is pushed");
    }
}

/// One that has no memory left says so, in gRPC's status and in an HTTP body that is one.
#[test]
fn a_collector_that_is_full() {
    let sections = "processors: {memory_limiter: {check_interval: 1s, limit_mib: 2, spike_limit_mib: 1}}";
    let pipeline = ", processors: [memory_limiter]";
    let Some(collector) = Collector::start("a_collector_that_is_full", folder(), "", pipeline, sections) else {
        return;
    };
    for (protocol, address) in [("http/protobuf", collector.http), ("grpc", collector.grpc)] {
        let config = format!("otlp: {{endpoint: 'http://{address}', protocol: {protocol}, interval: 1s}}\n");
        let server = Server::start(folder(), &config, "");
        logged(&server, "data refused due to high memory usage");
        assert!(server.log().contains("it is dropped"), "{}", server.log());
    }
}
