//! Guests as targets of a real Prometheus: discovered, scraped, kept while libvirt is away, and lost when they stop.
//!
//! The guests have addresses of a documentation network. Their exporters are tiny servers on the loopback interface, whose
//! addresses are no targets by themselves, so Prometheus is told to look for 192.0.2.x at 127.0.0.x.
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

#[path = "support/guests.rs"]
mod guests;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domstats_exporter::collect::Selection;
use domstats_exporter::config::{self, Config};
use domstats_exporter::discovery::encode_target_groups;
use domstats_exporter::domains::{PowerState, ScrapeTarget, Snapshot};
use domstats_exporter::encode::Coding;
use domstats_exporter::web::{self, Content, Daemon, Form, Overview, ProbeError, ProbeRequest, Security, Source};
use fake_libvirtd::domain::{Interface, Metadata};
use fake_libvirtd::{Change, Domain, FakeLibvirtd, Scenario, Template};
use serde_json::Value;

use guests::{GuestExporter, running};
use lab::{Running, filter, get, need, tied};
use server::{Server, folder, free_address};

/// A scrape configuration with the usual relabelling.
fn scrape_config(exporter: SocketAddr) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: guests\n  \
         http_sd_configs: [{{url: 'http://{exporter}/sd', refresh_interval: 1s}}]\n  relabel_configs:\n  \
         - {{source_labels: [__meta_libvirt_domain_name], target_label: instance}}\n  \
         - {{source_labels: [__meta_libvirt_job], regex: (.+), target_label: job}}\n  \
         - {{source_labels: [__address__], regex: '192\\.0\\.2\\.(.+)', replacement: '127.0.0.$1', target_label: __address__}}\n"
    )
}

/// The web server on a set of targets that the test changes.
struct Hypervisor {
    address: SocketAddr,
    source: Arc<HandMade>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

/// A source whose targets are made by hand; an error is what there is instead of them.
struct HandMade {
    config: Arc<Config>,
    snapshot: Mutex<Result<Snapshot, String>>,
    answers: Mutex<Vec<(&'static str, u16)>>,
}

impl Source for HandMade {
    type Daemon = ();
    type Collected = ();
    type Error = Fault;

    fn local(&self) -> Daemon<()> {
        Daemon { key: String::new(), config: self.config(), handle: Arc::default() }
    }

    fn probe(&self, request: &ProbeRequest) -> Result<Daemon<()>, ProbeError> {
        Err(ProbeError::UnknownTarget { target: request.target.clone() })
    }

    async fn probe_targets(&self, _: &str, _: Coding) -> Result<Bytes, Fault> {
        Err(Fault("only guests are served here".to_owned()))
    }

    async fn collect(&self, _: Arc<()>, _: Duration, _: Selection) {}

    async fn render(&self, (): (), _: Form) -> Result<Content, Fault> {
        Err(Fault("only targets are served here".to_owned()))
    }

    async fn target_groups(&self, coding: Coding, _: Option<Duration>) -> Result<Bytes, Fault> {
        let snapshot = self.snapshot.lock().unwrap().clone().map_err(Fault)?;
        let body = encode_target_groups(&snapshot, &self.config).map_err(|error| Fault(error.to_string()))?;
        coding.apply(body).map(Bytes::from).map_err(|error| Fault(error.to_string()))
    }

    fn ready(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn overview(&self) -> Overview {
        Overview::default()
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    async fn reload(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn count_request(&self, route: &'static str, code: u16) {
        self.answers.lock().unwrap().push((route, code));
    }
}

impl Hypervisor {
    /// `discovery` are keys of `service_discovery`.
    fn start(snapshot: Snapshot, discovery: &str) -> Self {
        let text = format!(
            "libvirt: {{uri: 'qemu+tls://root:secret@node/system'}}\nweb: {{listen_addresses: ['127.0.0.1:0']}}\n\
             service_discovery: {{enabled: true, {discovery}}}\n"
        );
        let config = Arc::new(config::parse(&text, "test").unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listeners = runtime.block_on(async { web::bind(&config.web).unwrap() });
        let address = listeners[0].address().unwrap();
        let source = HandMade { config, snapshot: Mutex::new(Ok(snapshot)), answers: Mutex::default() };
        let source = Arc::new(source);
        let security = Arc::new(Security::load(None).unwrap());
        runtime.spawn(web::serve(listeners, security, Arc::clone(&source), std::future::pending()));
        Self { address, source, _runtime: runtime }
    }

    fn set(&self, snapshot: Result<Snapshot, String>) {
        *self.source.snapshot.lock().unwrap() = snapshot;
    }

    /// Waits until the list of targets has been asked for and answered with `code` this many times more.
    fn wait_for_answers(&self, code: u16, times: usize) {
        let before = self.source.answers.lock().unwrap().len();
        let answered =
            || self.source.answers.lock().unwrap()[before..].iter().filter(|got| **got == ("/sd", code)).count();
        until("the list has been asked for", || (answered() >= times).then_some(()));
    }
}

/// What `wanted` gives once it gives something, for a minute at most.
fn until<T>(what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        thread::sleep(Duration::from_millis(100));
    }
}

struct Prometheus {
    address: SocketAddr,
    _process: Running,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(config: &str) -> Self {
        need("prometheus", "prometheus").unwrap();
        let (folder, address) = (folder(), free_address());
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        let process = tied("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .spawn()
            .unwrap();
        Self { address, _process: Running(process), _folder: folder }
    }

    fn api(&self, path: &str) -> Value {
        let body = get(self.address, path, "application/json").unwrap_or_default();
        serde_json::from_str::<Value>(&body).map(|mut answer| answer["data"].take()).unwrap_or_default()
    }

    /// The active targets by `instance`.
    fn targets(&self) -> BTreeMap<String, Value> {
        let targets = self.api("/api/v1/targets?state=active")["activeTargets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(|target| (target["labels"]["instance"].as_str().unwrap().to_owned(), target)).collect()
    }

    /// The instances that the last scrape was good of.
    fn up(&self) -> BTreeSet<String> {
        let is_up = |target: &Value| target["health"] == "up";
        self.targets().into_iter().filter(|(_, target)| is_up(target)).map(|(instance, _)| instance).collect()
    }

    /// The value of `guest_number` by `job/instance`.
    fn numbers(&self) -> BTreeMap<String, String> {
        let result = self.api("/api/v1/query?query=guest_number")["result"].as_array().cloned().unwrap_or_default();
        let of = |sample: &Value| {
            let name = format!("{}/{}", sample["metric"]["job"].as_str()?, sample["metric"]["instance"].as_str()?);
            Some((name, sample["value"][1].as_str()?.to_owned()))
        };
        result.iter().filter_map(of).collect()
    }
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// The domains `web` and `db`, with the exporters of their guests.
fn two_guests(web: &GuestExporter) -> Snapshot {
    let element =
        ScrapeTarget { port: web.port, path: "/node/metrics".into(), scheme: "http".into(), job: "node".into() };
    Snapshot {
        domains: [running("web", 11, vec![element]), running("db", 12, Vec::new())].map(Arc::new).into(),
        hostname: "node.example".to_owned(),
        ..Snapshot::default()
    }
}

#[test]
fn a_live_prometheus_follows_the_guests() {
    let (web, db) = (GuestExporter::start(11, "/node/metrics"), GuestExporter::start(12, "/metrics"));
    let snapshot = two_guests(&web);
    let hypervisor = Hypervisor::start(snapshot.clone(), &format!("port: {}", db.port));
    let prometheus = Prometheus::start(&scrape_config(hypervisor.address));
    until("both are scraped", || (prometheus.up() == set(["db", "web"])).then_some(()));
    // One where its metadata says, under the job that it names; the other by default.
    let both = [("guests/db".to_owned(), "12".to_owned()), ("node/web".to_owned(), "11".to_owned())];
    until("both have a sample", || (prometheus.numbers() == both.clone().into()).then_some(()));
    let discovered = prometheus.targets()["web"]["discoveredLabels"].clone();
    for (label, value) in [
        ("__meta_libvirt_addresses", ",192.0.2.11,".to_owned()),
        ("__metrics_path__", "/node/metrics".to_owned()),
        ("__meta_libvirt_hypervisor_hostname", "node.example".to_owned()),
        ("__meta_libvirt_hypervisor_uri", "qemu+tls://<hidden>@node/system".to_owned()),
        ("__meta_libvirt_interface_network", "default".to_owned()),
        ("__meta_libvirt_metadata_project", "shop \"north\"\nÄpfel".to_owned()),
    ] {
        assert_eq!(discovered[label], Value::String(value), "{label}: {discovered}");
    }
    // Without an answer, or with one domain that has not been looked at, Prometheus keeps its list. A change of it would take
    // five seconds at the most to be seen.
    hypervisor.set(Err("libvirt is away".to_owned()));
    hypervisor.wait_for_answers(503, 2);
    assert_eq!(prometheus.up(), set(["db", "web"]));
    let second = |change: fn(&mut domstats_exporter::domains::Domain)| {
        let mut domains = snapshot.domains.to_vec();
        change(Arc::make_mut(&mut domains[1]));
        Ok(Snapshot { domains: domains.into(), ..snapshot.clone() })
    };
    hypervisor.set(second(|db| db.addresses = None));
    hypervisor.wait_for_answers(503, 6);
    assert_eq!(prometheus.up(), set(["db", "web"]));
    // A guest that stops is lost.
    hypervisor.set(second(|db| (db.state, db.identity.id, db.addresses) = (PowerState::ShutOff, None, None)));
    until("it is lost", || (prometheus.targets().len() == 1).then_some(()));
    until("its series ends", || (prometheus.numbers().len() == 1).then_some(()));
    assert_eq!(prometheus.up(), set(["web"]));
    // An empty list is one too.
    hypervisor.set(Ok(Snapshot::default()));
    until("the list is empty", || prometheus.targets().is_empty().then_some(()));
}

/// The whole way: libvirt, the program, Prometheus, the guests' exporters.
#[test]
fn a_live_prometheus_scrapes_the_guests_of_a_hypervisor() {
    let (web, db) = (GuestExporter::start(11, "/node/metrics"), GuestExporter::start(12, "/metrics"));
    let guest = |name: &str, number: u8, scrape: String| {
        let mut domain = Domain::new(name, Template::small());
        domain.interfaces = Some(vec![Interface {
            name: format!("vnet{number}"),
            hwaddr: format!("52:54:00:00:00:{number:02x}"),
            addresses: vec![(format!("192.0.2.{number}"), 24)],
        }]);
        domain.metadata.push(Metadata { uri: "urn:domstats-exporter:scrape:1".to_owned(), xml: scrape });
        domain
    };
    let element = |attributes: String| format!("<scrape xmlns='urn:domstats-exporter:scrape:1' {attributes}/>");
    let daemon = FakeLibvirtd::start(
        Scenario::builder()
            .domain(guest("web", 11, element(format!("port='{}' path='/node/metrics' job='node'", web.port))))
            .domain(guest("db", 12, element(format!("port='{}'", db.port))))
            .build(),
    );
    let daemon = daemon.unwrap();
    let server = Server::start_on(folder(), Some(&daemon.uri()), "service_discovery: {enabled: true}\n", "");
    let prometheus = Prometheus::start(&scrape_config(server.address));
    let both = [("guests/db".to_owned(), "12".to_owned()), ("node/web".to_owned(), "11".to_owned())];
    until("both have a sample", || (prometheus.numbers() == both.clone().into()).then_some(()));
    // A daemon that is away costs no target.
    daemon.kill();
    until("there is no list", || (server.request(None, "GET", "/sd", "").unwrap().code == 503).then_some(()));
    thread::sleep(Duration::from_secs(3));
    assert_eq!(prometheus.up(), set(["db", "web"]));
    daemon.revive().unwrap();
    until("the list is back", || (server.request(None, "GET", "/sd", "").unwrap().code == 200).then_some(()));
    daemon.domains().change("db", Change::Shutdown).unwrap();
    until("it is lost", || (prometheus.targets().len() == 1).then_some(()));
    assert_eq!(prometheus.up(), set(["web"]));
    daemon.domains().change("db", Change::Start).unwrap();
    until("it is back", || (prometheus.up() == set(["db", "web"])).then_some(()));
}

#[test]
fn promtool_finds_the_guests() {
    need("promtool", "prometheus").unwrap();
    let web = GuestExporter::start(11, "/node/metrics");
    let hypervisor = Hypervisor::start(two_guests(&web), "port: 9273");
    let (folder, path) = (folder(), "prometheus.yml");
    fs::write(folder.path().join(path), scrape_config(hypervisor.address)).unwrap();
    let done = Command::new("promtool")
        .args(["check", "service-discovery", "--timeout=3s", path, "guests"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
    let labels = |number: usize, name: &str| found[number]["labels"][name].as_str().unwrap_or_default().to_owned();
    let mut targets: Vec<[String; 3]> =
        (0..found.len()).map(|number| ["instance", "job", "__address__"].map(|name| labels(number, name))).collect();
    targets.sort();
    let expected = [["db", "guests", "127.0.0.12:9273"], ["web", "node", &format!("127.0.0.11:{}", web.port)]];
    assert_eq!(targets, expected);
}

/// The example of docs/service-discovery.md.
#[test]
fn the_scrape_configuration_of_the_documentation_is_good() {
    need("promtool", "prometheus").unwrap();
    let page = include_str!("../docs/service-discovery.md");
    let block = page.split("```yaml\n").find(|block| block.contains("http_sd_configs:\n")).unwrap();
    let folder = folder();
    fs::write(folder.path().join("prometheus.yml"), block.split("```").next().unwrap()).unwrap();
    let checked = filter(Command::new("promtool").args(["check", "config", "prometheus.yml"]).current_dir(&folder), "");
    checked.unwrap();
    // Every label that it uses is one that a target can have.
    let web = GuestExporter::start(11, "/node/metrics");
    let hypervisor = Hypervisor::start(two_guests(&web), "port: 9273");
    let groups = get(hypervisor.address, "/sd", "application/json").unwrap();
    for label in block.split(['[', ']']).filter(|part| part.starts_with("__meta_")) {
        assert!(groups.contains(&format!("\"{label}\"")), "{label} is not in {groups}");
    }
}

#[test]
fn without_libvirt_there_are_metrics_but_no_list() {
    let folder = folder();
    let uri = format!("qemu+unix:///system?socket={}", folder.path().join("nothing").display());
    let server = Server::start_on(folder, Some(&uri), "service_discovery: {enabled: true}\n", "");
    let answer = server.request(None, "GET", "/sd", "").unwrap();
    assert_eq!(answer.code, 503, "{}", answer.body);
    assert_eq!(answer.body.lines().count(), 1, "{}", answer.body);
    assert!(server.get("/").contains("<a href=\"/sd\">Guests</a>"));
    let metrics = server.get("/metrics");
    assert!(metrics.contains("\nlibvirt_up 0\n"));
    assert!(metrics.contains("\nlibvirt_exporter_http_requests_total{path=\"/sd\",code=\"503\"} 1\n"), "{metrics}");
}
