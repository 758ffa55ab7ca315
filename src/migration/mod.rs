//! The pages for those who come from another exporter, made from the tables of [`metrics::dialect`](crate::metrics):
//! docs/migration.md, and the recording rules of alerts/compat-*.yaml.

mod rules;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub use rules::rules;

use crate::metrics::dialect::{DIALECTS, Dialect, Entry, Label, Source, Values};

/// docs/migration.md.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    for dialect in DIALECTS {
        add_dialect(&mut out, dialect);
    }
    add_ways_back(&mut out);
    out + TAIL
}

/// How many metrics an exporter has: the same here, the same with a note, and those that are not available.
fn counts(dialect: &Dialect) -> [usize; 3] {
    let noted = dialect.all().filter(|entry| !entry.note.is_empty()).count();
    [dialect.all().count() - noted, noted, dialect.missing.len()]
}

fn add_dialect(out: &mut String, dialect: &Dialect) {
    let Dialect { naming, repository, commit, about, .. } = dialect;
    let [same, noted, missing] = counts(dialect);
    let all = same + noted + missing;
    let head = format!(
        "\n## {repository}\n\n`metrics.naming: {naming}`. The table was made from [{repository}](https://github.com/{repository}) at \
         commit {commit}. Of its {all} metrics {same} are the same; with a note: {noted}; not available: {missing}. \
         {about}\n\n| there | here | labels there | |\n|---|---|---|---|\n"
    );
    out.push_str(&head);
    for entry in dialect.all() {
        let line = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            entry.name,
            here(entry),
            entry.labels.iter().filter_map(label).collect::<Vec<_>>().join(", "),
            entry.note,
        );
        debug_assert!(line.is_ok());
    }
    for missing in dialect.missing {
        out.push_str(&format!("| `{}` | not available | | {} |\n", missing.name, missing.reason));
    }
}

/// What a metric of another exporter is made of.
fn here(entry: &Entry) -> String {
    let native = format!("`{}`", entry.native);
    match entry.values {
        Values::Same => native,
        Values::Times(_, unit) => format!("{native}, in {unit}"),
        Values::Always(number, meaning) => format!("{number} for each {native}: {meaning}"),
        Values::Not => format!("{native}, 0 and 1 exchanged"),
        Values::State(_) => format!("{native}, the number of the state that is 1"),
        Values::Reason => format!("{native}, the number of the reason"),
        Values::Sum(_, []) => format!("the sum of {native}"),
        Values::Sum(label, without) => {
            format!(
                "the sum of {native} without {}",
                without.iter().map(|word| format!("`{label}=\"{word}\"`")).collect::<Vec<_>>().join(", ")
            )
        }
        Values::PercentWithout(other) => format!("how much of {native} is not `{other}`, in percent"),
    }
}

/// A label that is called otherwise here, and what it is.
fn label(Label(name, source): &Label) -> Option<String> {
    let what = match source {
        Source::Name if *name == "domain" => return None,
        Source::Own(own) if own == name => return None,
        Source::Uuid if *name == "uuid" => return None,
        Source::Name => "`domain`".to_owned(),
        Source::Uuid => "`uuid`".to_owned(),
        Source::Own(own) => format!("`{own}`"),
        Source::Disk(of_info) => format!("`{of_info}` of `libvirt_domain_block_info`"),
        Source::DiskNumber => "the number of the disk".to_owned(),
        Source::DiskImage => "`path` or `source` of `libvirt_domain_block_info`".to_owned(),
        Source::DiskFile => "`path` of `libvirt_domain_block_info`, of a file".to_owned(),
        Source::DiskProtocol => "the protocol in `source`".to_owned(),
        Source::Interface(of_info) => format!("`{of_info}` of `libvirt_domain_interface_info`"),
        Source::IfInfo(known, word) => format!("`{word}` where there is `{known}`"),
        Source::StateText(_) => "the state as text".to_owned(),
    };
    Some(format!("`{name}`: {what}"))
}

/// From the native names to those of the others.
fn add_ways_back(out: &mut String) {
    let mut by_native: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for (position, dialect) in DIALECTS.into_iter().enumerate() {
        for entry in dialect.all() {
            let names = by_native.entry(entry.native).or_insert_with(|| vec![Vec::new(); DIALECTS.len()]);
            names[position].push(entry.name);
        }
    }
    out.push_str(
        "\n## From here to there\n\nA metric that is not in this table is in none of these exporters.\n\n| here |",
    );
    DIALECTS.iter().for_each(|dialect| out.push_str(&format!(" {} |", dialect.naming)));
    out.push_str(&format!("\n|---|{}\n", "---|".repeat(DIALECTS.len())));
    for (native, names) in by_native {
        out.push_str(&format!("| `{native}` |"));
        for names in names {
            let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
            out.push_str(&format!(" {} |", names.join(", ")));
        }
        out.push('\n');
    }
}

const HEAD: &str = "\
# Coming from another libvirt exporter

The port is the same, 9177 (vexxhost's is 9474), and so are the flags `--libvirt.uri`, `--web.listen-address` and
`--web.telemetry-path`. Metric names and labels differ. There are three ways to keep dashboards and alerts that are written for
another exporter:

1. **Its names from this exporter.** With `metrics.naming: tinkoff` (or `inovex`, `kumina`, `vexxhost`) in the configuration, or
   `?naming=tinkoff` in the scrape's URL, a scrape shows the same data under that exporter's names, labels, units and state numbers.
   Metrics that only this exporter has keep their native names; with `metrics.naming_only` they are omitted. `metrics.include` and
   `metrics.exclude` match native names. Pushes over OTLP ignore `metrics.naming`; they have `otlp.naming`.
2. **Both at once.** Two scrape jobs, one with `?naming=`, or the old exporter beside this one on another port
   (`--web.listen-address=:9178`), until dashboards and alerts have moved.
3. **Native names, and recording rules for the old ones**: load alerts/compat-tinkoff.yaml (or `-inovex`, `-kumina`, `-vexxhost`) in
   `rule_files` of Prometheus. Two things differ from the old exporter: a metric with the same name in both has this exporter's labels,
   and `device` in the rules for vexxhost is the name of the disk.

What differs with native names:

- **Labels.** `domain` is still the name; `uuid` is added (`domains.labels` selects them). A disk is `device`, not
  `target_device`; a network interface is `interface`. Samples do not have file names and bridges: these are labels of
  `libvirt_domain_block_info` and `libvirt_domain_interface_info`.
- **States are one series each**, `libvirt_domain_state{state=\"running\"} 1`, instead of a number.
- **Values that libvirt does not report are absent**, where some exporters write 0.
- **No percentages.** Divide two metrics; the result is right for any time range.
- `libvirt_up` has the same name, and is 0 while libvirt cannot be reached.

Values that could not be read are absent under another exporter's names, too. If that exporter writes 0 for values that a guest does not
report, so does this one, but only while QEMU responds: a counter that falls to 0 would look like a restart.

This page is generated from the tables of the program; a test keeps it current.
";

const TAIL: &str = "
## collectd's virt plugin

From its manual (5.12, `collectd.conf(5)`). The names in Prometheus depend on collectd's output plugin. collectd counts CPU time in
nanoseconds; here it is seconds.

| there | here |
|---|---|
| `virt_cpu_total` | `libvirt_domain_cpu_time_seconds_total` |
| `virt_vcpu-N` | `libvirt_domain_vcpu_time_seconds_total` |
| `disk_octets-DEVICE` | `libvirt_domain_block_read_bytes_total`, `libvirt_domain_block_write_bytes_total` |
| `disk_ops-DEVICE` | `libvirt_domain_block_read_requests_total`, `libvirt_domain_block_write_requests_total` |
| `if_octets-INTERFACE` | `libvirt_domain_interface_receive_bytes_total`, `libvirt_domain_interface_transmit_bytes_total` |
| `if_packets-INTERFACE` | `libvirt_domain_interface_receive_packets_total`, `libvirt_domain_interface_transmit_packets_total` |
| `if_errors-INTERFACE` | `libvirt_domain_interface_receive_errors_total`, `libvirt_domain_interface_transmit_errors_total` |
| `if_dropped-INTERFACE` | `libvirt_domain_interface_receive_drops_total`, `libvirt_domain_interface_transmit_drops_total` |
| `memory-actual_balloon`, `memory-total` | `libvirt_domain_memory_current_bytes` |
| `memory-available` | `libvirt_domain_memory_available_bytes` |
| `memory-last_update` | `libvirt_domain_memory_last_update_timestamp_seconds` |
| `memory-major_fault` | `libvirt_domain_memory_major_faults_total` |
| `memory-minor_fault` | `libvirt_domain_memory_minor_faults_total` |
| `memory-rss` | `libvirt_domain_memory_rss_bytes` |
| `memory-swap_in` | `libvirt_domain_memory_swap_in_bytes_total` |
| `memory-swap_out` | `libvirt_domain_memory_swap_out_bytes_total` |
| `memory-unused` | `libvirt_domain_memory_unused_bytes` |
| `memory-usable` | `libvirt_domain_memory_usable_bytes` |
";
