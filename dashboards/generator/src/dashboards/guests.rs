//! What the dashboards say of several guests: who they are, and which have the most of something.

use super::domain_link;
use super::problems::Scope;
use crate::grafana::{Column, Panel, Unit, plain, rising, table};
use crate::thresholds as limit;

/// What `libvirt_domain_info` says of who a guest is: the heading of a column, and its label. Grafana shows only columns of labels
/// that some guest has.
const NAMES: [(&str, &str); 4] = [("Name", "name"), ("Title", "title"), ("Project", "owner"), ("Flavor", "flavor")];

/// The info of each guest: one series, also while a change of its title is not yet seen by all jobs.
pub(super) fn info(selector: &str) -> String {
    format!("topk by (instance, domain) (1, libvirt_domain_info{{{selector}}})")
}

/// The columns that say which guests a table is about: of the results of `rows`, an expression of guests of `selector`.
pub(super) fn who(rows: &str, selector: &str) -> Vec<Column> {
    let mut columns = names();
    columns.push(Column::query("", &named(rows, selector), Unit::Count));
    columns
}

/// The columns of those names. A query of what is [`named`] has to be among the other columns.
pub(super) fn names() -> Vec<Column> {
    let guest = Column::label("Guest", "domain")
        .link("Libvirt / Domain", &domain_link("${__data.fields.instance}", "${__data.fields.domain}"));
    let mut columns = vec![Column::host(), guest.width(150)];
    columns.extend(NAMES.map(|(name, label)| Column::label(name, label).width(96)));
    columns
}

/// The results of `rows`, an expression of guests of `selector`, with the labels of their names.
pub(super) fn named(rows: &str, selector: &str) -> String {
    let labels = NAMES.map(|(_, label)| label).join(", ");
    // A guest is of OpenStack or of KubeVirt: one of the two labels is empty.
    let joined = [("name", "instance_name", "kubevirt_name"), ("owner", "project_name", "kubevirt_namespace")]
        .iter()
        .fold(info(selector), |info, (label, one, other)| {
            format!("label_join({info}, \"{label}\", \"\", \"{one}\", \"{other}\")")
        });
    format!("({rows}) * on (instance, domain) group_left ({labels}) {joined}")
}

/// The average time of a request, by labels. No requests, no latency.
pub(super) fn latency(by: &str) -> String {
    let of = |what: &str| {
        format!(
            "sum by ({by}) (rate(libvirt_domain_block_read_{what}_total{{%domain}}[%rate]) + \
             rate(libvirt_domain_block_write_{what}_total{{%domain}}[%rate]))"
        )
    };
    format!("{} / ({} > 0)", of("time_seconds"), of("requests"))
}

/// The state of each guest as a number, by labels.
pub(super) fn state(by: &str) -> String {
    let of = |state: &str| format!("sum by ({by}) (libvirt_domain_state{{%domain,state=\"{state}\"}})");
    let silent = format!("max by ({by}) (libvirt_domain_quarantined{{%domain}} == 1)");
    format!("4 * {silent} or {} + 2 * {} + 3 * {}", of("running"), of("paused"), of("crashed"))
}

/// The words for that number.
pub(super) const STATE_WORDS: &[(&str, &str, &str)] = &[
    ("0", "off", "text"),
    ("1", "running", "green"),
    ("2", "paused", "orange"),
    ("3", "crashed", "red"),
    ("4", "not responding", "red"),
];

/// The state of each guest in a label, by instance and domain. For libvirt a guest runs also while its QEMU does not respond.
pub(super) fn states(selector: &str) -> String {
    let silent = format!("max by (instance, domain) (libvirt_domain_quarantined{{{selector}}} == 1)");
    format!(
        "label_replace({silent}, \"state\", \"not responding\", \"\", \"\") or sum by (instance, domain, state) \
         (libvirt_domain_state{{{selector}}} == 1) unless on (instance, domain) {silent}"
    )
}

/// Domains that are shut off have sizes with `inactive_domains: all`, but take nothing of the host.
pub(super) const NOT_OFF: &str =
    "unless on (instance, domain, uuid) libvirt_domain_state{%host,state=\"shutoff\"} == 1";

/// The jobs that guests have now.
pub(super) fn jobs(scope: &Scope) -> Panel {
    let (selector, chosen) = (scope.selector, scope.chosen());
    let by = |metric: &str| format!("max by (instance, domain) (libvirt_domain_job_{metric}{{{selector}}}){chosen}");
    let rows = format!("max by (instance, domain, operation) (libvirt_domain_job_running{{{selector}}}){chosen}");
    let progress = format!("({}) / (({}) > 0)", by("data_processed_bytes"), by("data_bytes"));
    let gained = format!("(({}) - ({}) > 0)", by("memory_bytes_per_second"), by("memory_dirty_bytes_per_second"));
    // libvirt seldom expects an end itself.
    let left = format!("({}) > 0 or ({}) / {gained}", by("remaining_seconds"), by("memory_remaining_bytes"));
    let mut columns = who(&rows, scope.named());
    columns.extend([
        Column::label("Job", "operation").width(120),
        Column::query("", &rows, Unit::Count),
        Column::query("Running for", &by("elapsed_seconds"), Unit::Seconds).colored(rising(limit::JOB_SECONDS)),
        Column::query("Done", &progress, Unit::Ratio).bar(Some(1.0), plain()),
        Column::query("Left", &by("data_remaining_bytes"), Unit::Bytes),
        Column::query("Time left", &left, Unit::Seconds),
        Column::query("Transfer", &by("memory_bytes_per_second"), Unit::BytesPerSecond),
        // libvirt says 0 until it has measured it.
        Column::query("Memory dirtied", &format!("{} > 0", by("memory_dirty_bytes_per_second")), Unit::BytesPerSecond)
            .width(130),
        Column::query("Pass", &by("memory_iteration"), Unit::Count).width(60),
    ]);
    let about = "Migrations, saves, dumps and backups that run. Time left is libvirt's, or else that of the memory, if it is transferred \
        and written as fast as now. A migration whose guest writes faster than it is transferred has none: it does not end by itself. Alert \
        LibvirtDomainMigrationStalled.";
    table("Jobs now", about, columns, ("Running for", true)).nothing("no job runs").size(24, 4)
}

/// A number of each guest, by instance and domain: at each time, and over the whole time that is shown.
#[derive(Debug)]
pub(super) struct Measure {
    now: String,
    whole: String,
}

impl Measure {
    /// An expression of counters whose ranges are `[%over]`.
    pub(super) fn rate(expression: &str) -> Self {
        let over = |range| expression.replace("[%over]", range);
        Self { now: over("[%rate]"), whole: over("[%range] @ end()") }
    }

    /// A gauge.
    pub(super) fn gauge(metric: &str) -> Self {
        let by = |series: &str| format!("sum by (instance, domain) ({series})");
        let selector = format!("{metric}{{%domain}}");
        Self { now: by(&selector), whole: by(&format!("max_over_time({selector}[%range] @ end())")) }
    }
}

/// The guests that had most of something over the time shown, a line each, and the rest as one line.
pub(super) fn most(panel: Panel, of: &Measure) -> Panel {
    others(most_of(panel, of, &of.whole, ""), of, &of.whole, "")
}

/// The guests that had most of something, without the rest: where a sum of it means nothing.
pub(super) fn highest(panel: Panel, of: &Measure) -> Panel {
    most_of(panel, of, &of.whole, "").many()
}

/// The guests that had most of two things together, one up and the other down.
pub(super) fn both_ways(panel: Panel, [up, down]: [(&Measure, &str); 2]) -> Panel {
    let whole = format!("{} + {}", up.0.whole, down.0.whole);
    [up, down].into_iter().fold(panel.mirrored(&format!(".* {}$", down.1)), |panel, (of, name)| {
        let suffix = format!(" {name}");
        others(most_of(panel, of, &whole, &suffix), of, &whole, &suffix)
    })
}

fn most_of(panel: Panel, of: &Measure, whole: &str, suffix: &str) -> Panel {
    panel
        .query(&format!("{} and on (instance, domain) topk(%top, {whole})", of.now), &format!("{{{{domain}}}}{suffix}"))
}

fn others(panel: Panel, of: &Measure, whole: &str, suffix: &str) -> Panel {
    let rest = format!("sum({} unless on (instance, domain) topk(%top, {whole}))", of.now);
    panel.query(&rest, &format!("others{suffix}")).many()
}
