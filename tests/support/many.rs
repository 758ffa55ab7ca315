//! One exporter, many fake daemons, and what a probe says.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use serde_json::Value;

use crate::server::{Server, folder};

/// More than enough on a busy machine for what does not wait for anything.
pub const SOON: Duration = Duration::from_secs(300);
/// Guests of each daemon.
pub const DOMAINS: usize = 4;

pub fn daemon(domains: usize) -> FakeLibvirtd {
    FakeLibvirtd::start(Scenario::builder().domains(domains, Template::small()).build()).unwrap()
}

/// A configuration without a local daemon, and with these targets.
pub fn config(targets: &[(String, &FakeLibvirtd)], more: &str) -> String {
    let targets: String =
        targets.iter().map(|(name, daemon)| format!("  {name}: {{uri: '{}'}}\n", daemon.uri())).collect();
    format!("libvirt: {{uri: ''}}\ntargets:\n{targets}{more}\n")
}

pub fn serve(config: &str) -> Server {
    Server::start_on(folder(), None, config, "")
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(50));
    }
}

/// Status and body of a probe.
pub fn probe(server: &Server, query: &str) -> (u16, String) {
    let answer =
        server.request(None, "GET", &format!("/probe?target={query}"), "X-Prometheus-Scrape-Timeout-Seconds: 20\r\n");
    answer.map(|answer| (answer.code, answer.body)).unwrap()
}

/// How many domains a probe has whole; `None` if the daemon did not answer.
pub fn whole(body: &str) -> Option<usize> {
    let whole = body.lines().filter(|line| line.starts_with("libvirt_domain_stats_complete{") && line.ends_with(" 1"));
    body.contains("\nlibvirt_up 1\n").then_some(whole.count())
}

/// The value of a series of the exporter itself.
pub fn own(server: &Server, series: &str) -> f64 {
    let body = server.get("/metrics");
    let value = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{series} is not in {body}"))
}

/// What the process holds.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub threads: usize,
    pub files: usize,
    pub rss: u64,
}

pub fn held(server: &Server) -> Held {
    let process = Path::new("/proc").join(server.process.id().to_string());
    let count = |what: &str| fs::read_dir(process.join(what)).unwrap().count();
    let status = fs::read_to_string(process.join("status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    Held { threads: count("task"), files: count("fd"), rss: rss.unwrap() }
}

/// The names that are listed for Prometheus.
pub fn listed(server: &Server) -> Vec<String> {
    let groups: Vec<Value> = serde_json::from_str(&server.get("/probe-targets")).unwrap();
    groups.iter().map(|group| group["labels"]["__param_target"].as_str().unwrap().to_owned()).collect()
}
