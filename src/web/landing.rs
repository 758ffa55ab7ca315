//! The status page at `/`. Plain HTML, readable without style or script.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime};

use super::landing_targets::targets;
use super::overview::{Connection, Overview, Probe, Push, Quarantined};
use crate::collect::SelectionTiming;
use crate::config::{Config, Group, ServiceDiscovery};

const STYLE: &str = include_str!("landing.css");
/// Quarantined domains that are listed; the metrics have them all.
const LISTED: usize = 20;
/// Selections, and groups, that are listed.
const LISTED_TIMINGS: usize = 6;

/// Where to go while libvirt is away.
const HELP: &str = concat!(
    "<p class=\"soft note\">Run <code>domstats-exporter check</code> on this host, or see <a href=\"",
    env!("CARGO_PKG_REPOSITORY"),
    "/blob/v",
    env!("CARGO_PKG_VERSION"),
    "/docs/troubleshooting.md#connection-to-libvirt\">Troubleshooting</a>.</p>\n"
);

/// Where the targets are listed for Prometheus.
const PROBE_TARGETS: &str = "<li><a href=\"/probe-targets\">Targets</a> <small>of <code>/probe</code>, for <code>http_sd_configs</code></small></li>\n";

/// Renders the page.
pub(super) fn render(overview: &Overview, config: &Config) -> String {
    render_at(overview, config, SystemTime::now())
}

fn render_at(overview: &Overview, config: &Config, now: SystemTime) -> String {
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>domstats-exporter</title>
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>domstats-exporter</h1><span class="version">{version}</span>
<p>Statistics of libvirt domains for Prometheus and OpenTelemetry</p>
</header>
<main>
{connection}{push}{domains}{targets}{quarantined}{timings}{probes}{groups}<section class="wide">
<h2>Endpoints</h2>
<ul class="links">
<li><a href="{path}">Metrics</a> <small>filter with <code>?collect[]=group</code>, <code>?exclude[]=group</code>, <code>?domain[]=regex</code></small></li>
{probe}{guests}<li><a href="/-/ready">Ready</a> <small>the last collection succeeded</small></li>
<li><a href="/-/healthy">Healthy</a> <small>the server responds</small></li>
<li><a href="/-/config">Configuration</a> <small>in effect, without secrets</small></li>
</ul>
</section>
</main>
</body>
</html>
"#,
        version = env!("CARGO_PKG_VERSION"),
        path = Escaped(config.web.telemetry_path.as_str()),
        probe = if config.has_targets() { PROBE_TARGETS } else { "" },
        guests = guests(&config.service_discovery),
        connection = connection(overview, now),
        push = overview.push.as_ref().map(|push| pushed(push, now)).unwrap_or_default(),
        domains = domains(&overview.domains),
        targets = targets(&overview.targets),
        quarantined = quarantined(&overview.quarantined, now),
        timings = timings(&overview.timings, now),
        probes = probes(&overview.probes),
        groups = groups(&overview.groups, config),
    )
}

fn guests(discovery: &ServiceDiscovery) -> String {
    if !discovery.enabled {
        return String::new();
    }
    let path = Escaped(discovery.path.as_str());
    format!("<li><a href=\"{path}\">Guests</a> <small>as targets, for <code>http_sd_configs</code></small></li>\n")
}

fn connection(overview: &Overview, now: SystemTime) -> String {
    let (class, state) = match &overview.connection {
        Connection::NotTried => ("idle", "Nothing collected yet"),
        Connection::None => ("idle", "No local libvirt"),
        Connection::Good { .. } => ("good", "Connected to libvirt"),
        Connection::Bad { .. } => ("bad", "Not connected to libvirt"),
    };
    let mut facts = Vec::new();
    if overview.connection != Connection::None {
        facts.push(("URI", overview.uri.clone()));
    }
    match &overview.connection {
        Connection::Good { daemon, hypervisor } => {
            facts.push(("libvirt", daemon.clone()));
            facts.push(("Hypervisor", hypervisor.clone()));
        }
        Connection::Bad { error, remedy } => {
            facts.push(("Reason", error.clone()));
            facts.push(("Remedy", remedy.clone()));
        }
        Connection::NotTried | Connection::None => {}
    }
    let is_bad = matches!(overview.connection, Connection::Bad { .. });
    match overview.last {
        // How long a failure took says nothing of how long a collection takes.
        Some((at, _)) if is_bad => facts.push(("Last attempt", ago(at, now))),
        Some((at, took)) => facts.push(("Collected", format!("{}, in {}", ago(at, now), Short(took)))),
        None => {}
    }
    if let Some(at) = overview.started {
        facts.push(("Started", ago(at, now)));
    }
    if let Some(fault) = &overview.config_fault {
        facts.push(("Invalid configuration", fault.clone()));
    }
    let facts: String =
        facts.iter().map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>\n", Escaped(fact))).collect();
    let help = if is_bad { HELP } else { "" };
    format!(
        "<section>\n<h2>Connection</h2>\n<p class=\"state {class}\">{state}</p>\n<dl>\n{facts}</dl>\n{help}</section>\n"
    )
}

fn pushed(push: &Push, now: SystemTime) -> String {
    let (class, state) = match push.fault {
        None => ("good", "The receiver accepts pushes"),
        Some(_) => ("bad", "The last push failed"),
    };
    let (at, took) = push.last;
    let mut facts = vec![
        ("Receiver", push.url.clone()),
        ("Pushed", format!("{}, in {}", ago(at, now), Short(took))),
        ("Points", push.points.to_string()),
    ];
    facts.extend(push.fault.clone().map(|fault| ("Reason", fault)));
    let facts: String =
        facts.iter().map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>\n", Escaped(fact))).collect();
    format!("<section>\n<h2>OTLP</h2>\n<p class=\"state {class}\">{state}</p>\n<dl>\n{facts}</dl>\n</section>\n")
}

/// The states that some domain is in, and `running` in any case.
fn domains(states: &[(&'static str, u64)]) -> String {
    if states.is_empty() {
        return String::new();
    }
    let total: u64 = states.iter().map(|(_, count)| count).sum();
    let tile = |(state, count): (&str, u64)| {
        let class = if count == 0 { " class=\"none\"" } else { "" };
        format!("<li{class}><b>{count}</b>{}</li>\n", Escaped(state))
    };
    let shown = states.iter().copied().filter(|(state, count)| *count > 0 || *state == "running");
    let tiles: String = std::iter::once(("total", total)).chain(shown).map(tile).collect();
    format!("<section>\n<h2>Domains</h2>\n<ul class=\"counts\">\n{tiles}</ul>\n</section>\n")
}

fn quarantined(domains: &[Quarantined], now: SystemTime) -> String {
    if domains.is_empty() {
        return String::new();
    }
    let mut rows: String = domains
        .iter()
        .take(LISTED)
        .map(|one| {
            let (domain, reason) = (Escaped(&one.domain), Escaped(&one.reason));
            format!("<li><b>{domain}</b> <small>since {}: {reason}</small></li>\n", age(one.since, now))
        })
        .collect();
    if let Some(more) = domains.len().checked_sub(LISTED).filter(|more| *more > 0) {
        rows.push_str(&format!("<li class=\"soft\">and {more} more</li>\n"));
    }
    let count = domains.len();
    format!("<section class=\"wide\">\n<h2>Quarantined: {count}</h2>\n<ul class=\"rows\">\n{rows}</ul>\n</section>\n")
}

/// Which scrape job is slow.
fn timings(timings: &[SelectionTiming], now: SystemTime) -> String {
    if timings.is_empty() {
        return String::new();
    }
    let row = |effort: &SelectionTiming| {
        let (at, last, longest) = (ago(effort.at, now), Short(effort.last), Short(effort.longest));
        let selection = Escaped(&effort.selection);
        format!("<li><b>{last}</b> <span>{selection}</span> <small>max {longest}, last {at}</small></li>\n")
    };
    let rows: String = timings.iter().take(LISTED_TIMINGS).map(row).collect();
    format!("<section>\n<h2>Slowest collections</h2>\n<ul class=\"times\">\n{rows}</ul>\n</section>\n")
}

/// How the last round of each kind of question to libvirt went.
fn probes(probes: &[Probe]) -> String {
    if probes.is_empty() {
        return String::new();
    }
    let row = |probe: &Probe| {
        let (took, failed) = (Short(probe.took), if probe.success { "" } else { " <small>failed</small>" });
        format!("<li><b>{took}</b> <span>{}{failed}</span></li>\n", Escaped(probe.name))
    };
    let rows: String = probes.iter().map(row).collect();
    format!("<section>\n<h2>Last call of each probe</h2>\n<ul class=\"times\">\n{rows}</ul>\n</section>\n")
}

/// Which groups bring the most.
fn groups(groups: &[(Group, usize)], config: &Config) -> String {
    let total: usize = groups.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return String::new();
    }
    let row = |(group, count): &(Group, usize)| {
        // Those of KVM come with those of libvirt, wanted or not.
        let left_out = if config.collection.groups.contains(group) { "" } else { " <small>not exported</small>" };
        // Counts are far from what would overflow.
        let share = count * 100 / total;
        format!("<li style=\"--share: {share}%\"><span>{group}{left_out}</span> <b>{count}</b></li>\n")
    };
    let rows: String = groups.iter().take(LISTED_TIMINGS).map(row).collect();
    format!(
        "<section>\n<h2>Largest groups</h2>\n<ul class=\"shares\">\n{rows}</ul>\n<p class=\"soft note\">Parameters in the last \
         collection. <code>domstats-exporter check</code> measures the time per group.</p>\n</section>\n"
    )
}

/// How long ago something was.
fn ago(at: SystemTime, now: SystemTime) -> String {
    match now.duration_since(at).unwrap_or_default().as_secs() {
        0 => "just now".to_owned(),
        _ => format!("{} ago", age(at, now)),
    }
}

/// How old something is, to the second, and from an hour on to the minute.
fn age(at: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(at).unwrap_or_default().as_secs();
    let rounded = if seconds < 3600 { seconds } else { seconds / 60 * 60 };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

/// A duration as a person says it: three digits at most.
struct Short(Duration);

impl Display for Short {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 10.0 {
            write!(f, "{seconds:.0} s")
        } else if seconds >= 1.0 {
            write!(f, "{seconds:.1} s")
        } else if seconds >= 0.01 {
            write!(f, "{:.0} ms", seconds * 1e3)
        } else {
            write!(f, "{:.1} ms", seconds * 1e3)
        }
    }
}

/// Text that is safe within an element and within a quoted attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // A terminal that shows the page would obey them.
            control if control.is_control() => write!(f, "{}", control.escape_default()),
            other => write!(f, "{other}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(overview: &Overview, now: SystemTime) -> String {
        let mut config = Config::default();
        config.web.telemetry_path = "/a'b&c".parse().expect("a path");
        render_at(overview, &config, now)
    }

    #[test]
    fn whatever_comes_from_outside_is_escaped() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let evil = "<script>\"a\" & 'b'</script>\u{1b}[31m\u{9b}".to_owned();
        let overview = Overview {
            connection: Connection::Bad { error: evil.clone(), remedy: evil.clone() },
            uri: evil.clone(),
            quarantined: vec![Quarantined { domain: evil.clone(), reason: evil.clone(), since: now }],
            timings: vec![SelectionTiming {
                selection: format!("domains {evil}"),
                at: now,
                last: Duration::from_millis(12),
                longest: Duration::from_secs(3),
            }],
            config_fault: Some(evil.clone()),
            push: Some(Push { url: evil.clone(), last: (now, Duration::ZERO), points: 0, fault: Some(evil) }),
            ..Overview::default()
        };
        let page = page(&overview, now);
        let harmless = "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;\\u{1b}[31m\\u{9b}";
        assert_eq!(page.matches(harmless).count(), 9);
        assert!(!page.contains(|character: char| character.is_control() && character != '\n'));
        assert!(page.contains("<li><b>12 ms</b> <span>domains &lt;"), "{page}");
        assert!(page.contains("</span> <small>max 3.0 s, last just now</small>"), "{page}");
        assert!(page.contains("<a href=\"/a&#39;b&amp;c\">Metrics</a>"));
        assert!(!page.contains("<script>"));
    }

    #[test]
    fn the_page_says_how_it_stands() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let since = now - Duration::from_secs(3725);
        let stuck = |number| Quarantined { domain: format!("vm{number}"), reason: "its monitor hangs".into(), since };
        let overview = Overview {
            connection: Connection::Good { daemon: "11.3.0".into(), hypervisor: "QEMU 10.0".into() },
            uri: "qemu:///system".into(),
            domains: vec![("running", 0), ("paused", 0), ("shutoff", 7)],
            quarantined: (0..22).map(stuck).collect(),
            last: Some((now - Duration::from_secs(3), Duration::from_micros(1500))),
            probes: vec![
                Probe { name: "listing", took: Duration::from_millis(12), success: true },
                Probe { name: "addresses", took: Duration::from_secs(2), success: false },
            ],
            groups: vec![(Group::Block, 60), (Group::VcpuKvm, 30), (Group::State, 2)],
            push: Some(Push {
                url: "http://collector:4318/v1/metrics".into(),
                last: (now - Duration::from_secs(60), Duration::from_millis(25)),
                points: 1234,
                fault: None,
            }),
            ..Overview::default()
        };
        let page = page(&overview, now);
        for part in [
            "<p class=\"state good\">Connected to libvirt</p>",
            "<dt>Collected</dt><dd>3s ago, in 1.5 ms</dd>",
            "<li><b>7</b>total</li>\n<li class=\"none\"><b>0</b>running</li>\n<li><b>7</b>shutoff</li>\n</ul>",
            "<p class=\"state good\">The receiver accepts pushes</p>",
            "<dt>Pushed</dt><dd>1m ago, in 25 ms</dd>\n<dt>Points</dt><dd>1234</dd>",
            "<h2>Quarantined: 22</h2>",
            "<li><b>12 ms</b> <span>listing</span></li>\n<li><b>2.0 s</b> <span>addresses <small>failed</small></span></li>",
            "<li style=\"--share: 65%\"><span>block</span> <b>60</b></li>",
            "<span>vcpu_kvm <small>not exported</small></span> <b>30</b></li>",
            "<li><b>vm19</b> <small>since 1h 2m: its monitor hangs</small></li>\n<li class=\"soft\">and 2 more</li>",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        // A failure has a reason, a remedy and a link; what it took is no time of a collection.
        let away = Connection::Bad { error: "no socket".into(), remedy: "start it".into() };
        let failed = super::render_at(&Overview { connection: away, ..overview }, &Config::default(), now);
        for part in [
            "<dt>Reason</dt><dd>no socket</dd>\n<dt>Remedy</dt><dd>start it</dd>\n<dt>Last attempt</dt><dd>3s ago</dd>",
            "/docs/troubleshooting.md#connection-to-libvirt\">Troubleshooting</a>",
        ] {
            assert!(failed.contains(part), "{part} is not in\n{failed}");
        }
        assert!(!failed.contains("<dt>Collected</dt>") && !page.contains("Troubleshooting"));
        // Nothing is known: nothing is claimed.
        let mut config = Config::default();
        let page = super::render_at(&Overview::default(), &config, now);
        assert!(page.contains("Nothing collected yet") && !page.contains("<h2>Domains"), "{page}");
        assert!(!page.contains("Guests"));
        config.service_discovery.enabled = true;
        let page = super::render_at(&Overview::default(), &config, now);
        assert!(page.contains("<li><a href=\"/sd\">Guests</a>"), "{page}");
    }
}
