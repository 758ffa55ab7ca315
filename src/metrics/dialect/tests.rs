use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::config::{Config, Group};
use crate::libvirt::{ParamValue, Records};
use crate::metrics::{Families, Family, FamilyBuilder, Kind, Meta, Start, Value, metric_docs};

/// A change of a native name, or of its labels, has to be made in the tables too.
#[test]
fn tables_name_metrics_and_labels_that_there_are() {
    let listed: BTreeMap<String, _> = metric_docs().into_iter().map(|metric| (metric.name.clone(), metric)).collect();
    for dialect in DIALECTS {
        for entry in dialect.all() {
            let zero = entry.or_zero.into_iter().flat_map(|Zero { of, asked }| match asked {
                Asked::Family(family) => vec![of, family],
                Asked::Sample | Asked::Group(_) => vec![of],
            });
            for native in entry.sources().chain(zero) {
                assert!(listed.contains_key(native), "{}: there is no {native}", entry.name);
            }
            let has = |native: &str, label: &str| listed[native].labels.iter().any(|known| known == label);
            let filter = entry.without.map(|(source, _)| source);
            for source in entry.labels.iter().map(|Label(_, source)| *source).chain(filter) {
                let (native, label) = match source {
                    // The label of each sample of a pool is its subject's.
                    Source::Own("pool") => continue,
                    Source::Own(label) => (entry.native, label),
                    Source::IfInfo(label, _) => ("libvirt_domain_info", label),
                    Source::Disk(label) => ("libvirt_domain_block_info", label),
                    Source::Interface(label) => ("libvirt_domain_interface_info", label),
                    Source::StateText(_) => (entry.native, "state"),
                    Source::DiskNumber | Source::DiskImage | Source::DiskFile | Source::DiskProtocol => {
                        (entry.native, "device")
                    }
                    Source::Name | Source::Uuid => continue,
                };
                assert!(has(native, label), "{}: {native} has no label {label}", entry.name);
            }
            if let Values::State(_) | Values::Reason = entry.values {
                assert!(has(entry.native, "state"), "{}", entry.name);
            }
        }
    }
}

#[test]
fn tables_hold_each_metric_of_their_exporter_once() {
    for (dialect, metrics) in DIALECTS.into_iter().zip([65, 67, 23, 41]) {
        let names: Vec<&str> =
            dialect.all().map(|entry| entry.name).chain(dialect.missing.iter().map(|missing| missing.name)).collect();
        let once: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!((names.len(), once.len()), (metrics, metrics), "{}", dialect.naming);
        for entry in dialect.all() {
            let labels: BTreeSet<&str> = entry.labels.iter().map(|Label(name, _)| *name).collect();
            assert_eq!(labels.len(), entry.labels.len(), "{}", entry.name);
            assert!(matches!(entry.kind, Kind::Counter | Kind::Gauge), "{}", entry.name);
            assert!(!entry.note.ends_with('.') && !entry.note.contains('|'), "{}", entry.name);
        }
    }
}

/// What the exporters themselves showed of guests of `tests/lab`: names, and names of labels.
#[test]
fn tables_have_what_the_exporters_show() {
    let recorded: [(MetricNaming, &str); 4] = [
        (MetricNaming::Tinkoff, include_str!("../../../tests/golden/dialects/tinkoff.txt")),
        (MetricNaming::Inovex, include_str!("../../../tests/golden/dialects/inovex.txt")),
        (MetricNaming::Kumina, include_str!("../../../tests/golden/dialects/kumina.txt")),
        (MetricNaming::Vexxhost, include_str!("../../../tests/golden/dialects/vexxhost.txt")),
    ];
    for (naming, recorded) in recorded {
        let dialect = Dialect::of(naming).expect("a table");
        let with_labels = |entry: &Entry| {
            let labels: BTreeSet<&str> = entry.labels.iter().map(|Label(name, _)| *name).collect();
            let labels: Vec<&str> = labels.into_iter().collect();
            let braced = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(", ")) };
            format!("{}{braced}", entry.name)
        };
        let known: BTreeSet<String> = dialect.all().map(with_labels).collect();
        for line in recorded.lines() {
            let name = line.split('{').next().expect("a name");
            let missing = dialect.missing.iter().any(|missing| missing.name == name);
            assert!(missing != known.contains(line), "{naming}: {line}");
        }
    }
}

/// Families of two guests, and one sample of the host.
fn families(yaml: &str) -> Families {
    let mut records = Records::default();
    for (name, uuid, state) in [("web", 1_u128, 1), ("off", 2, 5)] {
        records.push_domain(name, uuid::Uuid::from_u128(uuid), (state == 1).then_some(7));
        records.push("state.state", ParamValue::Int(state));
        records.push("state.reason", ParamValue::Int(1));
        if state == 5 {
            continue;
        }
        records.push("cpu.time", ParamValue::ULLong(1_234_567_891));
        records.push("balloon.current", ParamValue::ULLong(1024));
        records.push("balloon.rss", ParamValue::ULLong(3));
        records.push("balloon.available", ParamValue::ULLong(1000));
        records.push("balloon.usable", ParamValue::ULLong(250));
        records.push("block.count", ParamValue::UInt(1));
        records.push("block.0.name", ParamValue::String("vda"));
        records.push("block.0.rd.reqs", ParamValue::ULLong(4));
        records.push("block.0.rd.times", ParamValue::ULLong(999));
    }
    let config: Config = crate::config::parse(yaml, "test").expect("a configuration");
    FamilyBuilder::new(&config).build(&[&records]).families
}

/// The exposition without comments.
fn lines(families: &Families) -> Vec<String> {
    let text = String::from_utf8(crate::encode::Format::Text.encode(families)).expect("UTF-8");
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn translated(naming: MetricNaming, only: bool) -> Vec<String> {
    lines(&translate(families(""), naming, only, &|_| true))
}

#[test]
fn native_families_stay_as_they_are() {
    assert_eq!(translated(MetricNaming::Native, true), lines(&families("")));
}

#[test]
fn samples_have_the_names_labels_and_units_of_the_other_exporter() {
    let tinkoff = translated(MetricNaming::Tinkoff, true);
    for line in [
        "libvirt_domain_info_vstate{domain=\"web\"} 1",
        "libvirt_domain_info_vstate{domain=\"off\"} 5",
        "libvirt_domain_info_cpu_time_seconds_total{domain=\"web\"} 1.234567891",
        "libvirt_domain_info_memory_usage_bytes{domain=\"web\"} 1048576",
        "libvirt_domain_memory_stats_actual_balloon_bytes{domain=\"web\"} 1048576",
        "libvirt_domain_memory_stats_used_percent{domain=\"web\"} 75.0",
        // The guest says nothing of these, and its hypervisor answered.
        "libvirt_domain_memory_stats_major_fault_total{domain=\"web\"} 0",
        "libvirt_domain_block_stats_read_requests_total{domain=\"web\",target_device=\"vda\"} 4",
    ] {
        assert!(tinkoff.iter().any(|known| known == line), "{line} is not in {tinkoff:#?}");
    }
    assert!(!tinkoff.iter().any(|line| line.contains("major_fault_total{domain=\"off\"}")));
    let vexxhost = translated(MetricNaming::Vexxhost, true);
    let uuid = "uuid=\"00000000-0000-0000-0000-000000000001\"";
    for line in [
        format!("libvirtd_domain_domain_state_reason{{{uuid}}} 1"),
        format!("libvirtd_domain_cpu_time{{{uuid}}} 1234567891.0"),
        format!("libvirtd_domain_balloon_rss{{{uuid}}} 3.0"),
        format!("libvirtd_domain_block_read_times{{{uuid},device=\"\",path=\"\"}} 999.0"),
        format!("libvirtd_domain_block_write_bytes{{{uuid},device=\"\",path=\"\"}} 0"),
    ] {
        assert!(vexxhost.contains(&line), "{line} is not in {vexxhost:#?}");
    }
    let inovex = translated(MetricNaming::Inovex, true);
    let state = "libvirt_domain_info_state{domain=\"off\",state_desc=\"the domain is shut off\"} 5";
    assert!(inovex.iter().any(|line| line == state), "{inovex:#?}");
}

#[test]
fn a_domain_without_a_job_has_zeros_where_jobs_are_collected() {
    let mut native = families("");
    let of_web = native.families.iter().find(|family| family.meta.name == "libvirt_domain_memory_rss_bytes");
    let of_web = of_web.expect("it was built").clone();
    let mut add = |name: &str, value: Value| {
        let meta = Meta { name: name.to_owned().into(), ..(*of_web.meta).clone() };
        let samples = of_web.samples.iter().map(|sample| sample.with_value(value)).collect();
        native.families.push(Family { meta: Arc::new(meta), samples, ..of_web.clone() });
    };
    add(crate::tables::collection::COMPLETE.row.name, Value::Unsigned(1));
    add("libvirt_domain_job_running", Value::Unsigned(1));
    add("libvirt_domain_job_elapsed_seconds", Value::Float(1.5));
    let of_jobs = |collected: bool| -> Vec<String> {
        let families = translate(native.clone(), MetricNaming::Inovex, true, &|group| collected || group != Group::Job);
        lines(&families).into_iter().filter(|line| line.contains("_job_info_")).collect()
    };
    let known = |name: &str, value: &str| format!("libvirt_domain_job_info_{name}{{domain=\"web\"}} {value}");
    let shown = [known("type", "2"), known("time_elapsed_seconds", "1500.0")];
    assert_eq!(of_jobs(false), shown);
    let with_zeros = of_jobs(true);
    assert_eq!(with_zeros.len(), 12, "{with_zeros:?}");
    assert!(
        shown.iter().chain([&known("data_total_bytes", "0")]).all(|line| with_zeros.contains(line)),
        "{with_zeros:?}"
    );
}

#[test]
fn what_has_no_old_name_keeps_its_own_or_is_left_out() {
    let (both, only) = (translated(MetricNaming::Kumina, false), translated(MetricNaming::Kumina, true));
    let has = |lines: &[String], name: &str| lines.iter().any(|line| line.starts_with(&format!("{name}{{")));
    assert!(has(&both, "libvirt_domain_block_devices") && !has(&only, "libvirt_domain_block_devices"));
    assert!(!has(&both, "libvirt_domain_block_read_requests_total"), "it is there under its old name");
    assert!(has(&both, "libvirt_domain_block_stats_read_requests_total"));
    let native = both.iter().find(|line| line.starts_with("libvirt_domain_block_devices")).expect("a sample");
    assert!(native.contains("domain=\"web\",uuid="), "{native}");
}

#[test]
fn a_domain_has_its_name_and_uuid_however_its_samples_are_labelled() {
    for labels in ["[domain]", "[uuid]"] {
        let native = families(&format!("domains: {{labels: {labels}}}"));
        let lines = lines(&translate(native, MetricNaming::Kumina, true, &|_| true));
        let expected = "{domain=\"web\",uuid=\"00000000-0000-0000-0000-000000000001\"} 1";
        assert!(lines.contains(&format!("libvirt_domain_state_code{expected}")), "{lines:#?}");
    }
}

#[test]
fn samples_keep_their_starts_and_no_two_share_their_labels() {
    let mut native = families("");
    let start = Start::Known(std::time::UNIX_EPOCH);
    let reads =
        native.families.iter_mut().find(|family| family.meta.name == "libvirt_domain_block_read_requests_total");
    let reads = reads.expect("it was built");
    reads.starts = vec![(0, start)];
    // Another domain of the same name, as between a removal and a new definition.
    let twin = native.push_subject(crate::metrics::Subject::Domain, [("domain", "web"), ("uuid", "u")]);
    let device = native.labels.push([("device", "vda")]);
    let reads =
        native.families.iter_mut().find(|family| family.meta.name == "libvirt_domain_block_read_requests_total");
    reads.expect("it was built").samples.push(crate::metrics::Sample::new(twin, device, Value::Unsigned(9)));
    let families = translate(native, MetricNaming::Tinkoff, true, &|_| true);
    let named = |name: &str| families.families.iter().find(|family| family.meta.name == name).expect("a family");
    let reads = named("libvirt_domain_block_stats_read_requests_total");
    assert_eq!((reads.samples.len(), families.start_of(reads, 0)), (1, Some(start)));
}

#[test]
fn a_counter_by_a_name_that_openmetrics_has_for_none_is_of_unknown_type_there() {
    let families = translate(families(""), MetricNaming::Vexxhost, true, &|_| true);
    let text = String::from_utf8(crate::encode::Format::OpenMetrics.encode(&families)).expect("UTF-8");
    assert!(text.contains("# TYPE libvirtd_domain_cpu_time unknown\n"), "{text}");
    let text = String::from_utf8(crate::encode::Format::Text.encode(&families)).expect("UTF-8");
    assert!(text.contains("# TYPE libvirtd_domain_cpu_time counter\n"), "{text}");
}
