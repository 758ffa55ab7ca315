//! What needs a person: of each kind of trouble a count, and a list of the guests, hosts and pools that have it.
//!
//! All is well when every count is a green zero and both lists are empty.

use serde_json::Value;

use super::HOSTS_DOWN;
use super::guests::{latency, who};
use crate::grafana::{Column, Panel, Row, Unit, none_is_good, orange_from, rising, stat, table};
use crate::rules::{GROWS, ON_DEVICE, READ_ONLY, told_apart};
use crate::thresholds::{self as limit, Limits};

const GUESTS: &str = "Guests that need attention";
const HOSTS: &str = "Hosts, pools and networks";

/// Where the numbers of all guests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The recording rules: for thousands of guests.
    Rules,
    /// The exporter's metrics: for a host, without any rule.
    Metrics,
}

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

/// A kind of trouble.
pub(super) struct Problem {
    title: &'static str,
    about: &'static str,
    /// What of a guest, host or pool may be wrong.
    signs: Vec<Sign>,
}

/// A number that is only there where it is bad.
struct Sign {
    title: &'static str,
    /// Who has it and how bad it is, by instance and domain, or by instance and `what`.
    found: String,
    unit: Unit,
    cell: Cell,
}

/// How a trouble is shown in the list.
enum Cell {
    Word(&'static str),
    Value(Value),
}

impl Problem {
    fn new(title: &'static str, about: &'static str, found: String, unit: Unit, cell: Cell) -> Self {
        Self { title, about, signs: vec![Sign { title, found, unit, cell }] }
    }

    /// With a heading that is shorter than the title.
    fn headed(mut self, heading: &'static str) -> Self {
        self.signs.iter_mut().for_each(|sign| sign.title = heading);
        self
    }

    /// Who has it, by instance and domain, or by instance and `what`.
    fn found(&self) -> String {
        self.signs.iter().map(|sign| sign.found.clone()).collect::<Vec<_>>().join(" or ")
    }

    fn color(&self) -> &'static str {
        if self.signs.iter().any(|sign| matches!(sign.cell, Cell::Word(_))) { "red" } else { "orange" }
    }

    fn count(&self, list: &'static str) -> Panel {
        stat(self.title, self.about, Unit::Count)
            .query(&format!("count({}) or vector(0)", self.found()), "count")
            .thresholds(none_is_good(self.color()))
            .opens(list)
            .size(4, 3)
            .bare()
    }

    /// How many guests of each value of a label have it, of all that `of` finds.
    pub(super) fn count_by(&self, label: &str, of: &str) -> Column {
        let count =
            format!("count by ({label}) (({}) * on (instance, domain) group_left ({label}) {of})", self.found());
        Column::query(self.title, &count, Unit::Count).colored(none_is_good(self.color()))
    }

    fn columns(&self) -> Vec<Column> {
        let column = |sign: &Sign| {
            // As wide as its heading.
            let width = 40 + 7 * u32::try_from(sign.title.len()).unwrap_or_default();
            let column = Column::query(sign.title, &sign.found, sign.unit).width(width);
            match &sign.cell {
                Cell::Word(word) => column.words(&[("1", word, "red")]),
                Cell::Value(thresholds) => column.colored(thresholds.clone()),
            }
        };
        self.signs.iter().map(column).collect()
    }
}

/// The first row of a dashboard.
pub(super) fn row(scope: &Scope) -> Row {
    let (guests, hosts) = (of_guests(scope), of_hosts(scope.source));
    let mut panels = counts(&guests);
    panels.extend(hosts.iter().map(|problem| problem.count(HOSTS)));
    panels.push(list_of_guests(&guests, scope));
    panels.push(list_of_hosts(&hosts));
    Row::open("What is wrong now", panels)
}

/// A count of each kind of trouble of guests.
pub(super) fn counts(guests: &[Problem]) -> Vec<Panel> {
    guests.iter().map(|problem| problem.count(GUESTS)).collect()
}

/// The guests that have any trouble.
pub(super) fn list_of_guests(problems: &[Problem], scope: &Scope) -> Panel {
    let any = problems
        .iter()
        .map(|problem| format!("group by (instance, domain) ({})", problem.found()))
        .collect::<Vec<_>>()
        .join(" or ");
    let mut columns = who(&any, scope.named());
    columns.extend(problems.iter().flat_map(Problem::columns));
    let about = "A row for each guest that has any of the troubles counted above, and a value in each column that is too high. \
        The name of a guest leads to its dashboard.";
    table(GUESTS, about, columns, ("Steal", true)).nothing("no guest needs attention").size(24, 10)
}

fn list_of_hosts(problems: &[Problem]) -> Panel {
    let mut columns = vec![Column::host(), Column::label("What", "what")];
    columns.extend(problems.iter().flat_map(Problem::columns));
    let about = "Hosts that do not answer, and storage pools and networks that are full or do not run although they start with \
        their host.";
    table(HOSTS, about, columns, ("Host", false)).nothing("none needs attention").size(24, 6)
}

/// What may be wrong with guests.
pub(super) fn of_guests(scope: &Scope) -> Vec<Problem> {
    let selector = scope.selector;
    let chosen = scope.chosen();
    let max = |expression: &str| format!("max by (instance, domain) ({expression}){chosen}");
    let above = |expression: &str, limit: f64| {
        format!("max by (instance, domain) ({}) > {limit}{chosen}", expression.replace("%of", selector))
    };
    let with = |expression: &str| expression.replace("%of", selector);
    let reason = |matchers: &str| with(&format!("libvirt_domain_state_reason_info{{%of,{matchers}}}"));
    let value = |limits: Limits| Cell::Value(rising(limits));
    let numbers = Numbers::of(selector, scope.source);
    vec![
        Problem::new(
            "Not responding",
            "Guests whose QEMU does not respond: they are quarantined until it does. Alert LibvirtDomainQuarantined.",
            max(&with("libvirt_domain_quarantined{%of} == 1")),
            Unit::Count,
            Cell::Word("frozen"),
        )
        .headed("QEMU"),
        Problem::new(
            "I/O error",
            "Guests that a failed write has paused; most often the storage is full. Alert LibvirtDomainPausedByIoError.",
            max(&reason("state=\"paused\",reason=\"ioerror\"")),
            Unit::Count,
            Cell::Word("paused"),
        ),
        Problem::new(
            "Crashed",
            "Guests that crashed, or that a fault has paused. Alerts LibvirtDomainCrashed and LibvirtDomainPausedByFault.",
            format!(
                "{} or {}",
                max(&reason("state=~\"crashed|shutoff\",reason=~\"panicked|crashed\"")),
                max(&reason("state=\"paused\",reason=~\"crashed|unknown|watchdog|api_error|postcopy_failed\""))
            ),
            Unit::Count,
            Cell::Word("crashed"),
        ),
        Problem::new(
            "Steal",
            "Guests whose vCPUs are ready to run but have no CPU of the host. Alert LibvirtDomainStealHigh.",
            above(&numbers.steal, limit::STEAL.warning),
            Unit::Ratio,
            value(limit::STEAL),
        ),
        Problem::new(
            "CPU quota",
            "Guests that use up their CPU quota: they are held back though the host has CPUs. Alert LibvirtDomainAtCpuQuota.",
            above(&numbers.quota, limit::AT_LIMIT),
            Unit::Ratio,
            Cell::Value(orange_from(limit::AT_LIMIT)),
        ),
        Problem::new(
            "Throttled",
            "Guests with a disk that uses up one of its throttles: its requests wait. Alert LibvirtBlockAtThrottle.",
            above(&numbers.throttle, limit::AT_LIMIT),
            Unit::Ratio,
            Cell::Value(orange_from(limit::AT_LIMIT)),
        ),
        Problem::new(
            "Slow disk",
            "Guests with a disk whose requests take long on average. Alert LibvirtBlockLatencyHigh.",
            above(&numbers.slow, limit::BLOCK_LATENCY.warning),
            Unit::Seconds,
            value(limit::BLOCK_LATENCY),
        ),
        Problem {
            title: "Disk full",
            about: "Guests with a file system, or a thin image on a device of the host, that is nearly full. File systems need \
                 the group guest. Alerts LibvirtThinImageNearlyFull and LibvirtGuestFilesystemNearlyFull.",
            signs: vec![
                Sign {
                    title: "Image",
                    found: above(&numbers.image, limit::THIN_IMAGE.warning),
                    unit: Unit::Ratio,
                    cell: value(limit::THIN_IMAGE),
                },
                Sign {
                    title: "File system",
                    found: above(&numbers.file_system, limit::GUEST_FILESYSTEM.warning),
                    unit: Unit::Ratio,
                    cell: value(limit::GUEST_FILESYSTEM),
                },
            ],
        },
        Problem::new(
            "Low memory",
            "Guests that use nearly all of their memory, as they report. Alert LibvirtDomainMemoryPressure.",
            above(&numbers.memory, limit::MEMORY_USABLE.of_the_rest().warning),
            Unit::Ratio,
            value(limit::MEMORY_USABLE.of_the_rest()),
        ),
        Problem::new(
            "Long job",
            "Guests with a migration, save, dump or backup that has been running for long.",
            above("libvirt_domain_job_elapsed_seconds{%of}", limit::JOB_SECONDS.warning),
            Unit::Seconds,
            value(limit::JOB_SECONDS),
        ),
    ]
}

/// The numbers of which some are bad, by labels that tell guests and their parts apart.
struct Numbers {
    steal: String,
    quota: String,
    throttle: String,
    slow: String,
    image: String,
    file_system: String,
    memory: String,
}

impl Numbers {
    fn of(selector: &str, source: Source) -> Self {
        let recorded = |name: &str| format!("{name}{{{selector}}}");
        match source {
            Source::Rules => Self {
                steal: recorded("domain:libvirt_domain_vcpu_delay:ratio_rate5m"),
                quota: recorded("domain:libvirt_domain_cpu_quota:ratio_rate5m"),
                throttle: recorded("device:libvirt_domain_block_throttle:ratio_rate5m"),
                slow: format!(
                    "{} and {} > {}",
                    recorded("device:libvirt_domain_block_latency_seconds:mean5m"),
                    recorded("device:libvirt_domain_block_requests:rate5m"),
                    limit::BLOCK_LATENCY_MIN_REQUESTS
                ),
                image: recorded("device:libvirt_domain_block_thin_image:ratio"),
                file_system: recorded("mountpoint:libvirt_domain_guest_filesystem_used:ratio"),
                memory: format!("1 - {}", recorded("domain:libvirt_domain_memory_usable:ratio")),
            },
            Source::Metrics => Self {
                steal: format!(
                    "avg by (instance, domain) (rate(libvirt_domain_vcpu_delay_seconds_total{{{selector}}}[%rate]))"
                ),
                quota: quota_use(selector),
                throttle: throttle_use(selector),
                slow: format!(
                    "{} and sum by (instance, domain, device) (rate(libvirt_domain_block_read_requests_total{{%domain}}[%rate]) + \
                     rate(libvirt_domain_block_write_requests_total{{%domain}}[%rate])) > {}",
                    latency("instance, domain, device"),
                    limit::BLOCK_LATENCY_MIN_REQUESTS
                )
                .replace("%domain", selector),
                image: image_use(selector),
                file_system: file_system_use(selector),
                memory: format!(
                    "1 - libvirt_domain_memory_usable_bytes{{{selector}}} / \
                     libvirt_domain_memory_available_bytes{{{selector}}}"
                ),
            },
        }
    }
}

/// Shares of their throttles that disks use, by instance, domain and device; more than 1 is a burst.
pub(super) fn throttle_use(selector: &str) -> String {
    let shares = ["bytes", "requests"].map(|unit| {
        let used = |kind: &str| format!("rate(libvirt_domain_block_{kind}_{unit}_total{{{selector}}}[%rate])");
        let [read, write] = ["read", "write"].map(used);
        let share = |used: &str, kind: &str| {
            format!(
                "max by (instance, domain, device) ({used} / \
                 libvirt_domain_block_throttle_{kind}_{unit}_per_second{{{selector}}})"
            )
        };
        [share(&read, "read"), share(&write, "write"), share(&format!("({read} + {write})"), "total")]
    });
    format!("max without (of) ({})", told_apart(&shares.concat()))
}

/// Shares of their CPU quotas that guests use: of that of the whole guest, or of the busiest vCPU.
pub(super) fn quota_use(selector: &str) -> String {
    let share = |used: &str, quota: &str| {
        format!(
            "max by (instance, domain) ({used} / (libvirt_domain_{quota}_quota_seconds{{{selector}}} / \
             libvirt_domain_{quota}_period_seconds{{{selector}}}))"
        )
    };
    let vcpu = format!("max without (vcpu) (rate(libvirt_domain_vcpu_time_seconds_total{{{selector}}}[%rate]))");
    let shares = [
        share(&vcpu, "vcpu"),
        share(&format!("rate(libvirt_domain_cpu_time_seconds_total{{{selector}}}[%rate])"), "cpu"),
    ];
    format!("max without (of) ({})", told_apart(&shares))
}

/// How full thin images are, by instance, domain and device: a file grows with what is written into it, and only a device of the
/// host has a size of its own.
pub(super) fn image_use(selector: &str) -> String {
    format!(
        "max by (instance, domain, device) (libvirt_domain_block_allocation_bytes{{{selector}}} / \
         (libvirt_domain_block_physical_bytes{{{selector}}} < (libvirt_domain_block_capacity_bytes{{{selector}}} and on \
         (instance, domain, device) libvirt_domain_block_info{{{selector},{ON_DEVICE}}})))"
    )
}

/// How full the file systems of guests are, by instance, domain and mountpoint; those that cannot be written to are no trouble.
pub(super) fn file_system_use(selector: &str) -> String {
    format!(
        "max by (instance, domain, mountpoint) (libvirt_domain_guest_filesystem_used_bytes{{{selector}}} / \
         (libvirt_domain_guest_filesystem_size_bytes{{{selector}}} > 0)) unless on (instance, domain, mountpoint) \
         libvirt_domain_guest_filesystem_info{{{selector},{READ_ONLY}}}"
    )
}

/// How full the storage pools are that guests fill, by instance and pool.
pub(super) fn pool_use(source: Source) -> String {
    match source {
        Source::Rules => "max by (instance, pool) (pool:libvirt_pool_used:ratio{%host})".to_owned(),
        Source::Metrics => format!(
            "max by (instance, pool) (1 - libvirt_pool_available_bytes{{%host}} / (libvirt_pool_capacity_bytes{{%host}} > 0)) \
             and on (instance, pool) libvirt_pool_info{{%host,{GROWS}}}"
        ),
    }
}

fn of_hosts(source: Source) -> Vec<Problem> {
    let named =
        |kind: &str, series: &str| format!("label_replace({series}, \"what\", \"{kind} $1\", \"{kind}\", \"(.*)\")");
    let pool = "max by (instance, pool) (libvirt_pool_state{%host,state!=\"running\"} == 1 and on (instance, pool) \
        libvirt_pool_autostart{%host} == 1)";
    let network = "max by (instance, network) (libvirt_network_active{%host} == 0 and on (instance, network) \
        libvirt_network_autostart{%host} == 1) + 1";
    let by = |series: &str| format!("max by (instance, what) ({series})");
    vec![
        Problem::new(
            "Down",
            "Hosts whose exporter does not respond or does not reach libvirt, and pools and networks that start with their \
             host but do not run. Alerts LibvirtExporterDown and LibvirtDown.",
            format!(
                "{} or {} or {}",
                by(&format!("label_replace({HOSTS_DOWN}, \"what\", \"host\", \"\", \"\")")),
                by(&named("pool", pool)),
                by(&named("network", network))
            ),
            Unit::Count,
            Cell::Word("down"),
        ),
        Problem::new(
            "Pool full",
            "Storage pools that are nearly full: thin images in them cannot grow. Alert LibvirtPoolNearlyFull.",
            format!("{} > {}", by(&named("pool", &pool_use(source))), limit::POOL.warning),
            Unit::Ratio,
            Cell::Value(rising(limit::POOL)),
        ),
    ]
}
