//! What needs a person: of each kind of trouble a count, and a list of the guests, hosts and pools that have it.
//!
//! All is well when every count is a green zero and both lists are empty.

use super::guests::{named, names};
use super::hosts_down;
use super::numbers::{Numbers, Source, pool_use};
use super::problem::{Bad, Problem, SEVERITIES, Sign};
use crate::grafana::{Column, Panel, Row, Unit, table};
use crate::rules::{answers, told_apart};
use crate::thresholds as limit;

const GUESTS: &str = "Guests that need attention";
const HOSTS: &str = "Hosts, pools and networks";

/// Whose troubles are shown.
#[derive(Debug)]
pub(super) struct Scope {
    /// The matchers of their series.
    pub(super) selector: &'static str,
    pub(super) source: Source,
    /// The matchers of the info of chosen guests, where not all of the hosts' are meant.
    pub(super) chosen: Option<String>,
}

impl Scope {
    /// All guests that series of `selector` are about.
    pub(super) fn all(selector: &'static str, source: Source) -> Self {
        Self { selector, source, chosen: None }
    }

    /// What leaves of numbers by instance and domain only those of the chosen guests.
    pub(super) fn chosen(&self) -> String {
        let info = |matchers: &String| format!(" and on (instance, domain) libvirt_domain_info{{{matchers}}}");
        self.chosen.as_ref().map(info).unwrap_or_default()
    }

    /// The matchers of their info.
    pub(super) fn named(&self) -> &str {
        self.chosen.as_deref().unwrap_or(self.selector)
    }
}

/// The first row of a dashboard.
pub(super) fn row(scope: &Scope) -> Row {
    let (guests, hosts) = (of_guests(scope), of_hosts(scope.source));
    let mut panels = counts(&guests, 3);
    panels.extend(hosts.iter().map(|problem| problem.count(HOSTS, 3)));
    panels.push(list_of_guests(&guests, scope));
    panels.push(list_of_hosts(&hosts));
    Row::open(heading(scope.source), panels)
}

/// What it says of the time that its numbers are about.
fn heading(source: Source) -> &'static str {
    match source {
        Source::Rules => "What is wrong now, by averages of five minutes",
        Source::Metrics => "What is wrong now",
    }
}

/// A count of each kind of trouble of guests.
pub(super) fn counts(guests: &[Problem], width: u32) -> Vec<Panel> {
    guests.iter().map(|problem| problem.count(GUESTS, width)).collect()
}

/// The guests that have any trouble.
pub(super) fn list_of_guests(problems: &[Problem], scope: &Scope) -> Panel {
    let severities: Vec<String> = problems
        .iter()
        .flat_map(|problem| &problem.signs)
        .map(|sign| format!("max by (instance, domain) ({})", sign.severity()))
        .collect();
    let worst = format!("max by (instance, domain) ({})", told_apart(&severities));
    let mut columns = names();
    columns.push(Column::query("Severity", &named(&worst, scope.named()), Unit::Count).words(SEVERITIES).width(80));
    columns.extend(problems.iter().flat_map(|problem| &problem.signs).map(Sign::column));
    let about = "A row for each guest that has any of the troubles counted above, the worst first, and a value in each column that \
        is too high. The name of a guest leads to its dashboard.";
    table(GUESTS, about, columns, ("Severity", true)).nothing("no guest needs attention").size(24, 10)
}

fn list_of_hosts(problems: &[Problem]) -> Panel {
    let mut columns = vec![Column::host(), Column::label("What", "what")];
    columns.extend(problems.iter().flat_map(|problem| &problem.signs).map(Sign::column));
    let about = "Hosts that do not answer, and storage pools and networks that are full or do not run although they start with \
        their host.";
    table(HOSTS, about, columns, ("Host", false)).nothing("none needs attention").size(24, 6)
}

/// What may be wrong with guests.
pub(super) fn of_guests(scope: &Scope) -> Vec<Problem> {
    let selector = scope.selector;
    let chosen = scope.chosen();
    let of = |metric: &str, matchers: &str| format!("{metric}{{{selector}{matchers}}}");
    let reasons = of("libvirt_domain_state_reason_info", "");
    let with = |reason: &str| of("libvirt_domain_state_reason_info", &format!(",{reason}"));
    let found = |series: &str| format!("max by (instance, domain) ({series}){chosen}");
    // A word for what is 1 where it is there.
    let word =
        |title, seen: &str, found, bad| vec![Sign { title, seen: seen.to_owned(), found, unit: Unit::Count, bad }];
    let above = |title, numbers: &str, unit, bad| {
        let limit = match bad {
            Bad::Above(limits) => limits.warning,
            Bad::AtLimit(limit) => limit,
            Bad::Critical(_) | Bad::Warning(_) => 0.0,
        };
        let found = format!("max by (instance, domain) ({numbers}) > {limit}{chosen}");
        Sign { title, seen: numbers.to_owned(), found, unit, bad }
    };
    let numbers = Numbers::of(selector, scope.source);
    let quarantined = of("libvirt_domain_quarantined", "");
    let complete = of("libvirt_domain_stats_complete", "");
    vec![
        Problem::new(
            "Not responding",
            "Guests whose QEMU does not respond: they are quarantined until it does. Alert LibvirtDomainQuarantined.",
            word("Responding", &quarantined, found(&format!("{quarantined} == 1")), Bad::Critical("no")),
        )
        .unknown("no guest runs"),
        Problem::new(
            "I/O error",
            "Guests that a failed write has paused; most often the storage is full. Alert LibvirtDomainPausedByIoError.",
            word("I/O error", &reasons, found(&with("state=\"paused\",reason=\"ioerror\"")), Bad::Critical("paused")),
        )
        .unknown("no guest"),
        Problem::new(
            "Crashed",
            "Guests that crashed, or that a fault has paused. Alerts LibvirtDomainCrashed and LibvirtDomainPausedByFault.",
            word(
                "Crashed",
                &reasons,
                format!(
                    "{} or {}",
                    found(&with("state=~\"crashed|shutoff\",reason=~\"panicked|crashed\"")),
                    found(&with(&format!("state=\"paused\",reason=~\"{FAULTS}\"")))
                ),
                Bad::Critical("crashed"),
            ),
        )
        .unknown("no guest"),
        Problem::new(
            "Paused",
            "Guests that somebody has paused, or that wait for a dump, a snapshot or the like. A migration also pauses its guest, \
             for a moment.",
            word(
                "Paused",
                &reasons,
                found(&with(&format!("state=\"paused\",reason!~\"ioerror|migration|starting_up|{FAULTS}\""))),
                Bad::Warning("paused"),
            ),
        )
        .unknown("no guest"),
        Problem::new(
            "Steal",
            "Guests whose vCPUs are ready to run but have no CPU of the host. Those at their CPU quota are not here: the quota keeps \
             the CPU from them, not the host. Alert LibvirtDomainStealHigh.",
            vec![Sign {
                seen: numbers.delay,
                ..above("Steal", &numbers.steal, Unit::Ratio, Bad::Above(limit::STEAL))
            }],
        ),
        Problem::new(
            "CPU quota",
            "Guests that use up their CPU quota: they are held back though the host has CPUs. Alert LibvirtDomainAtCpuQuota.",
            vec![above("CPU quota", &numbers.quota, Unit::Ratio, Bad::AtLimit(limit::AT_LIMIT))],
        )
        .unknown("no quota"),
        Problem::new(
            "Disk throttled",
            "Guests with a disk that uses up one of its throttles: its requests wait. Alert LibvirtBlockAtThrottle.",
            vec![above("Disk throttle", &numbers.throttle, Unit::Ratio, Bad::AtLimit(limit::AT_LIMIT))],
        )
        .unknown("no throttle"),
        Problem::new(
            "Slow disk",
            "Guests with a disk whose requests take long on average. Alert LibvirtBlockLatencyHigh.",
            vec![Sign {
                seen: numbers.requests,
                ..above("Slow disk", &numbers.slow, Unit::Seconds, Bad::Above(limit::BLOCK_LATENCY))
            }],
        )
        .unknown("no disk"),
        Problem::new(
            "Disk full",
            "Guests with a file system, or a thin image on a device of the host, that is nearly full. File systems need \
             the group guest. Alerts LibvirtThinImageNearlyFull and LibvirtGuestFilesystemNearlyFull.",
            vec![
                above("Image", &numbers.image, Unit::Ratio, Bad::Above(limit::THIN_IMAGE)),
                above("File system", &numbers.file_system, Unit::Ratio, Bad::Above(limit::GUEST_FILESYSTEM)),
            ],
        ),
        Problem::new(
            "Low memory",
            "Guests that use nearly all of their memory, as they report. Alert LibvirtDomainMemoryPressure.",
            vec![above("Memory used", &numbers.memory, Unit::Ratio, Bad::Above(limit::MEMORY_USABLE.of_the_rest()))],
        ),
        Problem::new(
            "Long job",
            "Guests with a migration, save, dump or backup that has been running for long.",
            vec![Sign {
                seen: quarantined,
                ..above("Job for", &of("libvirt_domain_job_elapsed_seconds", ""), Unit::Seconds, Bad::Above(limit::JOB_SECONDS))
            }],
        )
        .unknown("no guest runs"),
        Problem::new(
            "Incomplete",
            "Running guests of which the last collection lacks something, those that do not respond included.",
            word("Data", &complete, found(&format!("({complete} == 0) + 1")), Bad::Warning("incomplete")),
        )
        .unknown("no guest runs"),
    ]
}

/// The reasons of libvirt's for a pause that is a fault.
const FAULTS: &str = "crashed|unknown|watchdog|api_error|postcopy_failed";

fn of_hosts(source: Source) -> Vec<Problem> {
    let named =
        |kind: &str, series: &str| format!("label_replace({series}, \"what\", \"{kind} $1\", \"{kind}\", \"(.*)\")");
    let pool = "max by (instance, pool) (libvirt_pool_state{%host,state!=\"running\"} == 1 and on (instance, pool) \
        libvirt_pool_autostart{%host} == 1)";
    let network = "max by (instance, network) (libvirt_network_active{%host} == 0 and on (instance, network) \
        libvirt_network_autostart{%host} == 1) + 1";
    let by = |series: &str| format!("max by (instance, what) ({series})");
    let down = |title, about, seen: &str, found: String| {
        Problem::new(
            title,
            about,
            vec![Sign { title, seen: seen.to_owned(), found, unit: Unit::Count, bad: Bad::Critical("down") }],
        )
    };
    let used = by(&named("pool", &pool_use(source)));
    vec![
        down(
            "Host down",
            "Hosts whose exporter does not respond or does not reach libvirt. Alerts LibvirtExporterDown and LibvirtDown.",
            &answers("%host"),
            by(&format!("label_replace({}, \"what\", \"host\", \"\", \"\")", hosts_down())),
        )
        .unknown("no host"),
        down(
            "Pool down",
            "Storage pools that start with their host but do not run. Alert LibvirtPoolInactive.",
            "libvirt_pool_autostart{%host}",
            by(&named("pool", pool)),
        )
        .unknown("no pool"),
        down(
            "Network down",
            "Virtual networks that start with their host but do not run. Alert LibvirtNetworkInactive.",
            "libvirt_network_autostart{%host}",
            by(&named("network", network)),
        )
        .unknown("no network"),
        Problem::new(
            "Pool full",
            "Storage pools that are nearly full: thin images in them cannot grow. Alert LibvirtPoolNearlyFull.",
            vec![Sign {
                title: "Pool full",
                seen: used.clone(),
                found: format!("{used} > {}", limit::POOL.warning),
                unit: Unit::Ratio,
                bad: Bad::Above(limit::POOL),
            }],
        )
        .unknown("no pool"),
    ]
}
