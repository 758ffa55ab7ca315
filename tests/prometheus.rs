//! Real Prometheus servers scrape the exporter over TLS with a client certificate and a password, in each format.
//!
//! This machine's Prometheus (2.42 on Debian 12) asks for OpenMetrics, and for protobuf behind a feature flag. The one of
//! Debian sid (3.5) asks for what each job is told to.
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
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fake_libvirtd::{Change, DomainState, FakeLibvirtd, Scenario, Template};
use lab::{ALL_GROUPS, Lab, Running, Suite, fetch, get, need};
use server::{Authority, Server, folder, free_address};

/// What each format came to: the samples of all domains, by name and labels.
type Samples = BTreeMap<String, f64>;

#[test]
fn each_format_gives_a_real_prometheus_the_same_values() {
    need("prometheus", "prometheus").unwrap();
    let lab = Lab::start(Suite::Machine).unwrap();
    // One is paused and one is shut off, so that few numbers change between two scrapes.
    lab.guests(&["db", "old"]).unwrap();
    let authority = Authority::new();
    let folder = folder();
    authority.write_all(folder.path());
    let hash = bcrypt::hash("secret", 8).unwrap();
    let web = format!(
        "tls_server_config: {{cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, \
         client_auth_type: RequireAndVerifyClientCert}}\nbasic_auth_users: {{scraper: '{hash}'}}\n"
    );
    // What is read in the background, or compared at first, is not there from the first scrape on.
    let config =
        format!("libvirt: {{uri: {:?}}}\ncollection: {{groups: [{ALL_GROUPS}], cpu_source: libvirt}}\n", lab.uri_ro);
    let server = Server::start_on(folder, None, &config, &web);
    let machines = PathBuf::from("prometheus");
    let newer = fetch("sid", "prometheus").unwrap().join("usr/bin/prometheus");
    let (any, protobuf): (&[&str], &[&str]) = (&[""], &["--enable-feature=native-histograms"]);
    let named = ["PrometheusText0.0.4", "OpenMetricsText1.0.0", "PrometheusProto", "PrometheusText1.0.0"];
    let mut seen: Vec<(String, Samples)> = Vec::new();
    for (program, protocols, flags) in [(&machines, any, &[][..]), (&machines, any, protobuf), (&newer, &named, &[])] {
        let prometheus = Prometheus::start(program, flags, protocols, &server);
        for (job, protocol) in protocols.iter().enumerate() {
            seen.push((format!("{} {flags:?} {protocol}", program.display()), prometheus.samples(job)));
        }
    }
    let (first, expected) = &seen[0];
    assert!(expected.len() > 60, "{expected:?}");
    for (name, samples) in &seen[1..] {
        let keys = |samples: &Samples| samples.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(samples), keys(expected), "{first} and {name}");
        for (series, value) in samples {
            // What QEMU itself uses goes on changing.
            let changes = ["cpu_", "_rss_", "_delay_"].iter().any(|part| series.contains(part));
            assert!(changes || expected[series] == *value, "{name}: {series} is {value}, not {}", expected[series]);
        }
    }
    let client = authority.client(Some(&authority.sign(&["x"])));
    let refused = server.request(Some(&client), "GET", "/-/healthy", "").unwrap();
    assert_eq!(refused.code, 401, "without a password");
}

#[test]
fn a_real_prometheus_learns_when_counters_began() {
    let folder = folder();
    let authority = Authority::new();
    authority.write_all(folder.path());
    let web = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";
    let server = Server::start_on(folder, Some("test:///default"), "web: {openmetrics_created: true}\n", web);
    let client = authority.client(None);
    for _ in 0..5 {
        assert_eq!(server.request(Some(&client), "GET", "/metrics", "").unwrap().code, 200);
    }
    let newer = fetch("sid", "prometheus").unwrap().join("usr/bin/prometheus");
    let protocols = ["OpenMetricsText1.0.0", "PrometheusProto"];
    let prometheus =
        Prometheus::start(&newer, &["--enable-feature=created-timestamp-zero-ingestion"], &protocols, &server);
    for (job, protocol) in protocols.iter().enumerate() {
        prometheus.samples(job);
        // It had seen five requests by the time of the first scrape: the zero is that of its start.
        let requests = format!("libvirt_exporter_http_requests_total{{job=\"{job}\",path=\"/metrics\"}}");
        let zero = format!("min_over_time({requests}[5m]) == 0 and {requests} >= 5");
        assert_eq!(prometheus.query(&zero).len(), 1, "{protocol}: {:?}", prometheus.query(&format!("{requests}[5m]")));
        let series = format!("{{job=\"{job}\",__name__=~\".+_created\"}}");
        assert_eq!(prometheus.query(&series), Vec::<serde_json::Value>::new(), "{protocol}");
    }
}

/// It inserts a zero where a counter began, and none where a guest that has counted for long moved in.
#[test]
fn a_guest_that_moves_in_is_no_increase_to_a_real_prometheus() {
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(3, Template::everything()).build()).unwrap();
    for name in ["vm-1", "vm-2"] {
        daemon.domains().change(name, Change::Destroy).unwrap();
    }
    let folder = folder();
    Authority::new().write_all(folder.path());
    let web = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";
    let server = Server::start_on(folder, Some(&daemon.uri()), "web: {openmetrics_created: true}\n", web);
    let newer = fetch("sid", "prometheus").unwrap().join("usr/bin/prometheus");
    let protocols = ["OpenMetricsText1.0.0", "PrometheusProto", "PrometheusText0.0.4"];
    let prometheus =
        Prometheus::start(&newer, &["--enable-feature=created-timestamp-zero-ingestion"], &protocols, &server);
    for job in 0..protocols.len() {
        prometheus.samples(job);
    }
    // One boots, one migrates here.
    for (name, detail) in [("vm-1", 0), ("vm-2", 1)] {
        daemon.domains().update(name, |domain| domain.set_state(DomainState::Running, 1)).unwrap();
        daemon.events().lifecycle(name, 2, detail).unwrap();
    }
    for (job, protocol) in protocols.iter().enumerate() {
        let faults =
            |domain: &str| format!("libvirt_domain_memory_minor_faults_total{{job=\"{job}\",domain=\"{domain}\"}}");
        let deadline = Instant::now() + Duration::from_secs(60);
        while ["vm-1", "vm-2"]
            .iter()
            .any(|domain| prometheus.query(&format!("count_over_time({}[5m]) >= 3", faults(domain))).is_empty())
        {
            assert!(Instant::now() < deadline, "{protocol}: {}", prometheus.targets());
            thread::sleep(Duration::from_millis(200));
        }
        let least_is_zero =
            |domain: &str| prometheus.query(&format!("min_over_time({}[5m]) == 0", faults(domain))).len();
        let says_starts = usize::from(job < 2);
        assert_eq!((least_is_zero("vm-1"), least_is_zero("vm-2")), (says_starts, 0), "{protocol}");
        let increase = |domain: &str| {
            let found = prometheus.query(&format!("increase({}[5m])", faults(domain)));
            found[0]["value"][1].as_str().unwrap().parse::<f64>().unwrap()
        };
        assert!(increase("vm-2").abs() < 0.5, "{protocol}: {}", increase("vm-2"));
        assert!(job == 2 || increase("vm-1") >= 900.0, "{protocol}: {}", increase("vm-1"));
    }
}

/// A Prometheus with one job for each scrape protocol.
struct Prometheus {
    address: SocketAddr,
    _process: Running,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(program: &Path, flags: &[&str], protocols: &[&str], server: &Server) -> Self {
        let folder = folder();
        let files = server.folder.path().display();
        let mut config = String::from("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n");
        for (job, protocol) in protocols.iter().enumerate() {
            let wanted =
                if protocol.is_empty() { String::new() } else { format!("  scrape_protocols: [{protocol}]\n") };
            config += &format!(
                "- job_name: '{job}'\n{wanted}  scheme: https\n  basic_auth: {{username: scraper, password: secret}}\n  \
                 tls_config: {{ca_file: {files}/ca.crt, cert_file: {files}/client.crt, key_file: {files}/client.key, server_name: localhost}}\n  \
                 static_configs: [{{targets: ['{}']}}]\n",
                server.address
            );
        }
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        let address = free_address();
        let process = Command::new(program)
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=error"])
            .args(flags)
            .spawn()
            .unwrap();
        Self { address, _process: Running(process), _folder: folder }
    }

    /// The samples of a job, as soon as it has been scraped.
    fn samples(&self, job: usize) -> Samples {
        let up = format!("up{{job=\"{job}\"}} == 1");
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.query(&up).is_empty() {
            assert!(Instant::now() < deadline, "the job {job} is not up: {}", self.targets());
            thread::sleep(Duration::from_millis(200));
        }
        let all = format!("{{job=\"{job}\",__name__=~\"libvirt_domain_.+\"}}");
        let mut samples = Samples::new();
        for sample in self.query(&all) {
            let mut labels: BTreeMap<String, String> = serde_json::from_value(sample["metric"].clone()).unwrap();
            labels.remove("job");
            labels.remove("instance");
            let value = sample["value"][1].as_str().unwrap().parse().unwrap();
            samples.insert(format!("{labels:?}"), value);
        }
        samples
    }

    fn query(&self, expression: &str) -> Vec<serde_json::Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.address, &format!("/api/v1/query?query={encoded}"), "application/json");
        let body = answer.ok().and_then(|body| serde_json::from_str::<serde_json::Value>(&body).ok());
        body.and_then(|body| body["data"]["result"].as_array().cloned()).unwrap_or_default()
    }

    fn targets(&self) -> String {
        get(self.address, "/api/v1/targets", "application/json").unwrap_or_else(|error| error)
    }
}
