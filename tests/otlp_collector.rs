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
    /// Its own metrics.
    telemetry: SocketAddr,
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
        let [http, grpc, prometheus, telemetry] = [0; 4].map(|_| free_address());
        let extensions = if sections.contains("bearertokenauth") { "  extensions: [bearertokenauth]\n" } else { "" };
        let config = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{http}'{receiver}}}, grpc: {{endpoint: '{grpc}'{receiver}}}}}}}}}\n\
             exporters: {{prometheus: {{endpoint: '{prometheus}'}}}}\n{sections}\n\
             service:\n  telemetry: {{metrics: {{level: normal, readers: [{{pull: {{exporter: {{prometheus: \
             {{host: '{}', port: {}}}}}}}}}]}}}}\n  \
             pipelines: {{metrics: {{receivers: [otlp], exporters: [prometheus]{pipeline}}}}}\n{extensions}",
            telemetry.ip(),
            telemetry.port()
        );
        fs::write(folder.path().join("collector.yaml"), config).unwrap();
        let mut collector = Self { program, http, grpc, prometheus, telemetry, folder, process: None };
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
        let listens =
            || [self.http, self.grpc, self.prometheus, self.telemetry].iter().all(|at| TcpStream::connect(at).is_ok());
        wait("the Collector listens", || listens().then_some(()).ok_or_else(|| self.log()));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("collector.log")).unwrap()
    }

    /// The points that it has taken, and those that it has refused, over `http` or `grpc`.
    fn points(&self, transport: &str) -> Result<[f64; 2], String> {
        let text = get(self.telemetry, "/metrics", "text/plain")?;
        let of = format!("transport=\"{transport}\"");
        Ok(["accepted", "refused"].map(|fate| {
            let name = format!("otelcol_receiver_{fate}_metric_points");
            let lines = text.lines().filter(|line| line.starts_with(&name) && line.contains(&of));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        }))
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

/// What an exporter has pushed.
#[derive(Debug, Default, Clone, Copy)]
struct Pushed {
    /// Pushes that have been accepted as a whole.
    pushes: f64,
    /// Points in all of them.
    points: f64,
    /// Points in the last one.
    last: f64,
}

/// Exporters that push, each of another kind, and what they have pushed.
struct Pushers {
    servers: Vec<Server>,
    pushed: Vec<Pushed>,
}

impl Pushers {
    /// Counts a push that has ended since the last time.
    fn look(&mut self) {
        for (server, pushed) in self.servers.iter().zip(&mut self.pushed) {
            let text = server.get("/metrics?domain[]=none");
            let line =
                text.lines().find(|line| line.starts_with("libvirt_exporter_otlp_exports_total{result=\"success\"}"));
            let pushes = line.and_then(|line| line.rsplit_once(' ')).map_or(0.0, |(_, value)| value.parse().unwrap());
            if pushes > pushed.pushes {
                let page = server.get("/");
                let points =
                    page.split_once("<dt>Points</dt><dd>").and_then(|(_, rest)| rest.split_once('<')).unwrap().0;
                let last = points.parse().unwrap();
                // Of a push that came and went unseen, the size is not known.
                let before = if pushes == pushed.pushes + 1.0 { pushed.points } else { f64::NAN };
                *pushed = Pushed { pushes, points: before + last, last };
            }
        }
    }

    /// Waits until each has pushed so often again; the first of two may have begun before.
    fn push(&mut self, count: f64) {
        let before = self.pushed.clone();
        wait("pushes", || {
            self.look();
            let late = self.pushed.iter().zip(&before).position(|(now, before)| now.pushes < before.pushes + count);
            late.map_or(Ok(()), |late| Err(format!("{late}: {:?}: {}", self.pushed, self.servers[late].log())))
        });
    }
}

/// The protocol, compression and temporality of each exporter.
const KINDS: [(&str, &str, &str); 4] = [
    ("http/protobuf", "none", "cumulative"),
    ("http/protobuf", "gzip", "delta"),
    ("grpc", "gzip", "cumulative"),
    ("grpc", "none", "delta"),
];

#[test]
fn a_collector_has_what_a_scrape_says_until_a_domain_ends() {
    as_a_scrape_says("a_collector_has_what_a_scrape_says_until_a_domain_ends", 200, 3);
}

/// Likewise, for minutes: `cargo test --release --test otlp_collector -- --ignored --nocapture`.
#[test]
#[ignore = "four minutes: a thousand domains, pushed every 15 s over both transports"]
fn a_collector_has_what_a_scrape_of_a_thousand_domains_says() {
    as_a_scrape_says("a_collector_has_what_a_scrape_of_a_thousand_domains_says", 1000, 15);
}

/// Many domains over both transports, compressed and not, cumulative and delta, pushed every `interval` seconds.
fn as_a_scrape_says(test: &str, domains: usize, interval: u64) {
    let Some(mut collector) = Collector::start(test, folder(), "", "", "") else { return };
    // And one with histograms.
    let params = fs::read_to_string(script_path("../golden/libvirt-12.params")).unwrap();
    let scenario = Scenario::builder().domains(domains, Template::small()).params(&params).unwrap();
    let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
    let gone = [daemon.domains().names().pop().unwrap(), "vm-7".to_owned()];
    let start = |(protocol, compression, temporality): (&str, &str, &str)| {
        let address = if protocol == "grpc" { collector.grpc } else { collector.http };
        let config = format!(
            "collection: {{groups: [state, cpu_total, balloon, block]}}\n\
             otlp: {{endpoint: 'http://{address}', protocol: {protocol}, compression: {compression}, \
             temporality: {temporality}, naming: prometheus, interval: {interval}s, \
             resource: {{service.instance.id: {protocol}-{temporality}}}}}\n"
        );
        Server::start_on(folder(), Some(&daemon.uri()), &config, "")
    };
    let mut pushers = Pushers { servers: KINDS.map(start).into(), pushed: vec![Pushed::default(); KINDS.len()] };
    pushers.push(1.0);
    let mut first: Vec<Series> = Vec::new();
    for number in 0..KINDS.len() {
        first.push(scraped(&pushers.servers[number]));
        pushers.look();
    }
    for _ in 0..7 {
        daemon.advance(Duration::from_secs(10));
        pushers.push(1.0);
    }
    pushers.push(2.0);
    for transport in ["http", "grpc"] {
        let equal = wait("the Collector has as many points as were sent", || {
            pushers.look();
            let of_transport = KINDS.iter().zip(&pushers.pushed).filter(|(kind, _)| kind.0.starts_with(transport));
            let sent: f64 = of_transport.map(|(_, pushed)| pushed.points).sum();
            let [taken, refused] = collector.points(transport)?;
            let text = format!("{transport}: {sent} points sent, {taken} taken, {refused} refused");
            if [taken, refused] == [sent, 0.0] { Ok(text) } else { Err(text) }
        });
        eprintln!("{equal}");
    }
    for (number, first) in first.iter().enumerate() {
        let (now, is) = (scraped(&pushers.servers[number]), of_kind(&collector, number));
        let grown = has(number, &is, &now, first).unwrap();
        assert!(now.len() > 20 * domains && grown > 5 * domains, "{} series, {grown} of them grew", now.len());
        // The Collector gives sum and count to every histogram.
        let of_domains = is.keys().filter(|series| series.starts_with("libvirt_domain_") && !now.contains_key(*series));
        let more: Vec<_> =
            of_domains.filter(|series| !series.contains("_sum{") && !series.contains("_count{")).collect();
        assert!(more.is_empty(), "{:?}: {more:?}", KINDS[number]);
        // A point of a histogram is many lines.
        let lines = is.keys().filter(|series| !series.contains("_bucket{") && !series.contains("_sum{"));
        let points: f64 = lines.filter(|series| !series.starts_with("target_info")).map(|_| 1.0).sum();
        let last = pushers.pushed[number].last;
        eprintln!(
            "{:?}: {last} points in the last push, {points} in the Collector's output, {} series as scraped, {grown} of \
             them counters that grew",
            KINDS[number],
            now.len()
        );
        assert_eq!(points, last, "{:?}", KINDS[number]);
    }
    gone.iter().for_each(|name| drop(daemon.domains().remove(name).unwrap()));
    pushers.push(2.0);
    let of_gone = |line: &&str| gone.iter().any(|name| line.contains(&format!("domain=\"{name}\"")));
    // The Collector answers a push before its exporter shows the points.
    let shown = Instant::now();
    let left = || {
        let text = get(collector.prometheus, "/metrics", "text/plain").unwrap();
        assert!(text.contains("domain=\"vm-8\""));
        text.lines().filter(of_gone).map(str::to_owned).collect::<Vec<String>>()
    };
    loop {
        let left = left();
        if left.is_empty() {
            break;
        }
        // A page of a thousand domains four times takes seconds to be made.
        assert!(shown.elapsed() < Duration::from_secs(60), "{} are left: {:?}", left.len(), left.first());
        thread::sleep(Duration::from_millis(100));
    }
    eprintln!("no series of a removed domain {:?} after two pushes", shown.elapsed());
    // Away for some pushes: what is cumulative is whole again afterwards, and no delta is lost or counted twice.
    let before: Vec<Series> = pushers.servers.iter().map(scraped).collect();
    collector.stop();
    daemon.advance(Duration::from_secs(10));
    thread::sleep(Duration::from_secs(interval + 1));
    collector.restart();
    daemon.advance(Duration::from_secs(10));
    pushers.push(2.0);
    for (number, before) in before.iter().enumerate() {
        // The Collector answers a push before its exporter shows the points.
        wait("the Collector has what a scrape has", || {
            has(number, &of_kind(&collector, number), &scraped(&pushers.servers[number]), before)
        });
    }
}

fn of_kind(collector: &Collector, number: usize) -> Series {
    let (protocol, _, temporality) = KINDS[number];
    collector.series(&format!("{protocol}-{temporality}")).unwrap()
}

/// Whether the Collector has what a scrape has: of a delta, what has come since the scrape `before`. Gives how many counters
/// have grown since, or what differs.
fn has(number: usize, is: &Series, now: &Series, before: &Series) -> Result<usize, String> {
    let kind = KINDS[number];
    let mut grown = 0;
    for (series, value) in now {
        let is_counter = is_counter(series);
        let of_before = if is_counter && kind.2 == "delta" { before[series] } else { 0.0 };
        let found = *is.get(series).ok_or_else(|| format!("{kind:?}: {series} is not among {}", is.len()))?;
        let expected = value - of_before;
        if (found - expected).abs() > value.abs() * 1e-9 {
            return Err(format!("{kind:?}: {series} is {found}, not {expected}"));
        }
        grown += usize::from(is_counter && *value > before[series]);
    }
    Ok(grown)
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
        logged(&server, "the receiver accepts pushes");
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
        logged(&refused, "push refused by the receiver");
        let stranger = start("sesame", "");
        logged(&stranger, "push dropped, the receiver is unavailable");
    }
}

/// One that has no memory left says so, in gRPC's status and in an HTTP body that is one; so does one that takes only small
/// requests, and one that has nothing at a path. Of 429 and of partial success it knows nothing: those are in `otlp.rs`.
#[test]
fn a_collector_that_refuses() {
    let limiter = "processors: {memory_limiter: {check_interval: 1s, limit_mib: 2, spike_limit_mib: 1}}";
    let test = "a_collector_that_refuses";
    let Some(full) = Collector::start(test, folder(), "", ", processors: [memory_limiter]", limiter) else { return };
    let said = |address: &str, protocol: &str, text: &str| {
        let config = format!("otlp: {{endpoint: 'http://{address}', protocol: {protocol}, interval: 1s}}\n");
        let server = Server::start(folder(), &config, "");
        logged(&server, text);
        server.log()
    };
    for (protocol, address) in [("http/protobuf", full.http), ("grpc", full.grpc)] {
        let log = said(&address.to_string(), protocol, "data refused due to high memory usage");
        assert!(log.contains("push dropped"), "{log}");
    }
    let log = said(&format!("{}/metrics", full.http), "http/protobuf", "push refused by the receiver");
    assert!(log.contains("it answered 404 Not Found") && log.contains("gets /v1/metrics added"), "{log}");
}
