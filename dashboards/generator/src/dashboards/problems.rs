//! What needs a person: of each kind of trouble a count, and a list of the guests, hosts and pools that have it.
//!
//! All is well when every count is a green zero and both lists are empty.

use serde_json::Value;

use super::HOSTS_DOWN;
use super::guests::{latency, who};
use crate::grafana::{Column, Panel, Row, Unit, none_is_good, plain, rising, stat, table};
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

/// A kind of trouble.
struct Problem {
    title: &'static str,
    about: &'static str,
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
        Self { title, about, found, unit, cell }
    }

    fn count(&self, list: &'static str) -> Panel {
        let color = if matches!(self.cell, Cell::Word(_)) { "red" } else { "orange" };
        stat(self.title, self.about, Unit::Count)
            .query(&format!("count({}) or vector(0)", self.found), "count")
            .thresholds(none_is_good(color))
            .opens(list)
            .size(4, 3)
    }

    fn column(&self) -> Column {
        let column = Column::query(self.title, &self.found, self.unit);
        match &self.cell {
            Cell::Word(word) => column.words(&[("1", word, "red")]),
            Cell::Value(thresholds) => column.colored(thresholds.clone()),
        }
    }
}

/// The first row of a dashboard; `selector` says whose troubles.
pub(super) fn row(selector: &str, source: Source) -> Row {
    let (guests, hosts) = (of_guests(selector, source), of_hosts());
    let mut panels: Vec<Panel> = guests.iter().map(|problem| problem.count(GUESTS)).collect();
    panels.extend(hosts.iter().map(|problem| problem.count(HOSTS)));
    panels.push(list_of_guests(&guests, selector));
    panels.push(list_of_hosts(&hosts));
    Row::open("What is wrong now", panels)
}

fn list_of_guests(problems: &[Problem], selector: &str) -> Panel {
    let any = problems
        .iter()
        .map(|problem| format!("group by (instance, domain) ({})", problem.found))
        .collect::<Vec<_>>()
        .join(" or ");
    let mut columns = who(&any, selector);
    columns.extend(problems.iter().map(Problem::column));
    let about = "A row for each guest that has any of the troubles counted above, and a value in each column that is too high. \
        The name of a guest leads to its dashboard.";
    table(GUESTS, about, columns, ("Steal", true)).nothing("no guest needs attention").size(18, 7)
}

fn list_of_hosts(problems: &[Problem]) -> Panel {
    let mut columns = vec![Column::host(), Column::label("What", "what")];
    columns.extend(problems.iter().map(Problem::column));
    let about = "Hosts that do not answer, and storage pools and networks that are full or do not run although they start with \
        their host.";
    table(HOSTS, about, columns, ("Host", false)).nothing("none needs attention").size(6, 7)
}

fn of_guests(selector: &str, source: Source) -> Vec<Problem> {
    let max = |expression: &str| format!("max by (instance, domain) ({expression})");
    let with = |expression: &str| expression.replace("%of", selector);
    let above = |expression: &str, limit: f64| format!("{} > {limit}", max(&with(expression)));
    let reason = |matchers: &str| with(&format!("libvirt_domain_state_reason_info{{%of,{matchers}}}"));
    let value = |limits: Limits| Cell::Value(rising(limits));
    let (steal, slow) = match source {
        Source::Rules => (
            "domain:libvirt_domain_vcpu_delay:ratio_rate5m{%of}".to_owned(),
            format!(
                "device:libvirt_domain_block_latency_seconds:mean5m{{%of}} and \
                 device:libvirt_domain_block_requests:rate5m{{%of}} > {}",
                limit::BLOCK_LATENCY_MIN_REQUESTS
            ),
        ),
        Source::Metrics => (
            "avg by (instance, domain) (rate(libvirt_domain_vcpu_delay_seconds_total{%of}[%rate]))".to_owned(),
            latency("instance, domain, device").replace("%domain", "%of"),
        ),
    };
    vec![
        Problem::new(
            "Not responding",
            "Guests whose QEMU does not respond and is left alone until it does. Alert LibvirtDomainQuarantined.",
            max(&with("libvirt_domain_quarantined{%of} == 1")),
            Unit::Count,
            Cell::Word("frozen"),
        ),
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
            above(&steal, limit::STEAL.warning),
            Unit::Ratio,
            value(limit::STEAL),
        ),
        Problem::new(
            "CPU quota",
            "Guests that use up their CPU quota: they are held back though the host has CPUs. Alert LibvirtDomainAtCpuQuota.",
            above(&quota_use("%of"), limit::AT_LIMIT),
            Unit::Ratio,
            Cell::Value(plain()),
        ),
        Problem::new(
            "Throttled",
            "Guests with a disk that uses up one of its throttles: its requests wait. Alert LibvirtBlockAtThrottle.",
            above(&throttle_use("%of"), limit::AT_LIMIT),
            Unit::Ratio,
            Cell::Value(plain()),
        ),
        Problem::new(
            "Slow disk",
            "Guests with a disk whose requests take long on average. Alert LibvirtBlockLatencyHigh.",
            above(&slow, limit::BLOCK_LATENCY.warning),
            Unit::Seconds,
            value(limit::BLOCK_LATENCY),
        ),
        Problem::new(
            "Disk full",
            "Guests with a file system, or a thin image on a device of the host, that is nearly full. File systems need the \
             group guest. Alert LibvirtThinImageNearlyFull.",
            above(&fullest("%of"), limit::THIN_IMAGE.warning),
            Unit::Ratio,
            value(limit::THIN_IMAGE),
        ),
        Problem::new(
            "Low memory",
            "Guests that use nearly all of their memory, as they report. Alert LibvirtDomainMemoryPressure.",
            above(
                "1 - libvirt_domain_memory_usable_bytes{%of} / libvirt_domain_memory_available_bytes{%of}",
                limit::MEMORY_USABLE.of_the_rest().warning,
            ),
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
    highest(shares.concat())
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
    highest(vec![
        share(&vcpu, "vcpu"),
        share(&format!("rate(libvirt_domain_cpu_time_seconds_total{{{selector}}}[%rate])"), "cpu"),
    ])
}

/// How full the fullest of a guest's file systems and thin images is.
pub(super) fn fullest(selector: &str) -> String {
    let file_systems = format!(
        "max by (instance, domain) (libvirt_domain_guest_filesystem_used_bytes{{{selector}}} / \
         libvirt_domain_guest_filesystem_size_bytes{{{selector}}})"
    );
    // A file grows with what is written into it; only a device of the host has a size of its own.
    let images = format!(
        "max by (instance, domain) (libvirt_domain_block_allocation_bytes{{{selector}}} / \
         (libvirt_domain_block_physical_bytes{{{selector}}} < (libvirt_domain_block_capacity_bytes{{{selector}}} and on \
         (instance, domain, device) libvirt_domain_block_info{{{selector},path=~\"/dev/.+\"}})))"
    );
    highest(vec![file_systems, images])
}

/// The highest of several numbers of the same thing, of which some may not be there.
fn highest(numbers: Vec<String>) -> String {
    // A label tells them apart until the highest is taken.
    let told = numbers
        .iter()
        .enumerate()
        .map(|(index, number)| format!("label_replace({number}, \"of\", \"{index}\", \"\", \"\")"));
    format!("max without (of) ({})", told.collect::<Vec<_>>().join(" or "))
}

fn of_hosts() -> Vec<Problem> {
    let named =
        |kind: &str, series: &str| format!("label_replace({series}, \"what\", \"{kind} $1\", \"{kind}\", \"(.*)\")");
    let used =
        "max by (instance, pool) (libvirt_pool_allocation_bytes{%host} / (libvirt_pool_capacity_bytes{%host} > 0))";
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
            "Storage pools that are nearly full: thin images in them cannot grow.",
            format!("{} > {}", by(&named("pool", used)), limit::POOL.warning),
            Unit::Ratio,
            Cell::Value(rising(limit::POOL)),
        ),
    ]
}
