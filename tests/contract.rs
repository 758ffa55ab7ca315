//! Promises that no single unit keeps: about names of metrics, completeness, and layers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/dependency.rs"]
mod dependency;
#[path = "support/golden.rs"]
mod golden;
#[path = "support/module_graph.rs"]
mod module_graph;
#[path = "support/registry.rs"]
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dependency::sources;
use domstats_exporter::config::{LabelName, ValueError};
use domstats_exporter::encode::{Format, otlp};
use domstats_exporter::metrics::{MetricDoc, Subject, metric_docs};
use domstats_exporter::{metrics_doc, migration};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a name ends in beyond the name of its OpenMetrics family.
fn family_name(metric: &MetricDoc) -> &str {
    let suffix = match metric.kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    metric.name.strip_suffix(suffix).unwrap_or(&metric.name)
}

#[test]
fn names_follow_the_conventions() {
    for metric in metrics_doc::all() {
        let name = metric.name.replace("<name>", "x");
        let legal = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        assert!(legal && (name.starts_with("libvirt_") || name.starts_with("process_")), "{name}");
        assert!(!name.contains("__"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == "counter", "{name}");
        assert_eq!(name.ends_with("_info"), metric.kind == "info", "{name}");
        for reserved in ["_bucket", "_count", "_sum", "_created"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        if let Some(unit) = metric.unit {
            assert!(family_name(&metric).ends_with(&format!("_{unit}")), "{name} lacks its unit {unit}");
        }
        for unit in ["_ns", "_ms", "_kib", "_mib", "_milliseconds", "_kilobytes"] {
            assert!(!name.contains(unit), "{name} is not in a base unit");
        }
        for label in &metric.labels {
            assert!(
                !["instance", "job", "host", "type", "domain", "uuid"].contains(&label.as_str()),
                "{name}: {label}"
            );
        }
    }
}

#[test]
fn no_two_metrics_are_one_family() {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    for metric in metrics_doc::all() {
        // The three metrics that stand for a rule differ by what the rule puts in; the rule itself refuses a clash.
        if metric.name.contains("<name>") {
            continue;
        }
        let other = families.insert(family_name(&metric).to_owned(), metric.name.clone());
        assert_eq!(other, None, "{} has the family of another metric", metric.name);
    }
    // What the formats append to a histogram must not be a separate metric.
    for metric in metrics_doc::all().iter().filter(|metric| metric.kind == "histogram") {
        for suffix in ["_bucket", "_count", "_sum"] {
            assert!(!families.contains_key(&format!("{}{suffix}", metric.name)), "{}", metric.name);
        }
    }
    let ruled = families.keys().find(|name| name.contains("_kvm_"));
    assert_eq!(ruled, None, "a name within the rule for hypervisor statistics");
}

#[test]
fn help_is_one_sentence() {
    for metric in metrics_doc::all() {
        let help = &metric.help;
        assert!(
            !help.is_empty() && !help.ends_with('.') && !help.contains(['\n', '\\', '|']),
            "{}: {help}",
            metric.name
        );
        let first = help.chars().next();
        let vcpu = help.starts_with("vCPU") || help.starts_with("I/O");
        assert!(first.is_some_and(char::is_uppercase) || vcpu, "{}: {help}", metric.name);
    }
}

#[test]
fn opentelemetry_names_are_dotted_and_unambiguous() {
    let mut seen = BTreeSet::new();
    for metric in metrics_doc::all() {
        let name = metric.otel_name.replace("<name>", "x");
        let legal =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._".contains(&byte));
        assert!(legal && name.contains('.'), "{name}");
        assert!(!name.ends_with("_total") && !name.ends_with(".total"), "{name}");
        assert!(seen.insert((metric.otel_name.clone(), metric.otel_attributes.clone(), metric.keys.clone())), "{name}");
    }
    // Metrics of one OpenTelemetry name are one metric there: same kind, unit and labels.
    let mut by_name: BTreeMap<String, (&str, String, Vec<String>)> = BTreeMap::new();
    for metric in metrics_doc::all().into_iter().filter(|metric| !metric.name.contains("<name>")) {
        let is = (metric.kind, metric.otel_unit, metric.labels);
        let before = by_name.entry(metric.otel_name.clone()).or_insert_with(|| is.clone());
        assert_eq!(*before, is, "{}", metric.otel_name);
    }
}

#[test]
fn every_label_has_an_opentelemetry_attribute() {
    for MetricDoc { name, labels, subject, .. } in &metrics_doc::all() {
        // The bounds of a histogram's buckets are no attribute.
        for label in labels.iter().filter(|label| *label != "le") {
            let known = otlp::attribute_of(label, *subject);
            assert!(known.is_some(), "{name}: {label} is not in encode/otlp/attributes.rs");
        }
    }
    for table in Subject::ALL.map(otlp::attributes_of) {
        let labels: BTreeSet<_> = table.iter().map(|attribute| attribute.label).collect();
        let names: BTreeSet<_> = table.iter().map(|attribute| attribute.name).collect();
        assert_eq!((labels.len(), names.len()), (table.len(), table.len()), "an entry stands twice");
        let legal = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte));
        assert!(names.iter().all(|name| legal(name) && name.contains('.')), "{names:?}");
    }
}

/// Where a metric of ours is not what the semantic conventions have for the like, and why.
const BY_NEED: &[(&str, &str)] = &[
    ("libvirt.domain.cpu.mode_time", "beside the total in cpu.time, user and system would make the sum twice as much"),
    ("process.cpu.time", "process_cpu_seconds_total is one number, without cpu.mode"),
];

/// What is in a namespace of OpenTelemetry is in its registry and is what that says; all else is in a namespace of ours.
/// Where the conventions have a metric of the same name for containers, pods or systems, ours has its unit and instrument.
#[test]
fn opentelemetry_names_conform_to_the_registry_or_are_ours_by_need() {
    let registry = registry::Registry::read(&sources("opentelemetry-semantic-conventions"));
    assert!(registry.metrics.len() > 400 && registry.attributes.len() > 600, "the crate is written otherwise now");
    let mut faults: BTreeSet<(String, String)> = BTreeSet::new();
    for metric in metrics_doc::all() {
        let name = metric.otel_name.clone();
        let mut fault = |text: String| {
            faults.insert((name.clone(), text));
        };
        let constant = metric.otel_attributes.iter().map(|(name, _)| *name);
        let labels = metric.labels.iter().filter_map(|label| otlp::attribute_of(label, metric.subject));
        let attributes: Vec<&str> = labels.map(|attribute| attribute.name).chain(constant).collect();
        for attribute in &attributes {
            if !attribute.starts_with("libvirt.") && !registry.attributes.contains(*attribute) {
                fault(format!("{attribute} is in no registry"));
            }
            // These say what produces the metrics, which the resource does.
            if ["service.", "host.", "process.", "telemetry."].iter().any(|of| attribute.starts_with(of)) {
                fault(format!("{attribute} belongs to the resource"));
            }
            if *attribute == "cpu.mode" && !name.ends_with(".cpu.time") {
                fault(format!("{attribute} is for cpu.time"));
            }
        }
        let tail = ["libvirt.domain.", "libvirt.host."].iter().find_map(|ours| name.strip_prefix(ours));
        let models = match tail {
            Some(tail) => ["container", "k8s.pod", "system"].map(|of| format!("{of}.{tail}")).to_vec(),
            None if name.starts_with("libvirt.") => continue,
            None => vec![name.clone()],
        };
        match models.iter().find_map(|model| registry.metrics.get(model)) {
            Some(model) => {
                let instrument = match (metric.kind, metric.otel_unit.as_str()) {
                    ("counter", _) => "counter",
                    ("histogram", _) => "histogram",
                    ("gauge", unit) if unit == "By" || unit.starts_with('{') => "updowncounter",
                    _ => "gauge",
                };
                if (&*model.instrument, &model.unit) != (instrument, &metric.otel_unit) {
                    fault(format!("{instrument} and {:?} are not {model:?}", metric.otel_unit));
                }
                if !model.required.iter().all(|required| attributes.contains(&required.as_str())) {
                    fault(format!("it lacks attributes of {model:?}"));
                }
            }
            None if tail.is_none() => fault("it is in no registry".to_owned()),
            None => {}
        }
    }
    let needed: BTreeSet<&str> = BY_NEED.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = faults.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, needed, "{faults:#?}");
}

/// Under Prometheus' names a push stays as it is there; under OpenTelemetry's nothing becomes a ratio that is none, and no
/// two metrics become one.
#[test]
fn names_stay_themselves_in_the_translation_for_prometheus() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for metric in metrics_doc::all() {
        let is_counter = metric.kind == "counter";
        // Units are not sent with those names.
        let name = metric.name.replace("<name>", "x");
        assert_eq!(otlp::prometheus_name(&name, "", is_counter), name);
        let translated = otlp::prometheus_name(&metric.otel_name.replace("<name>", "x"), &metric.otel_unit, is_counter);
        let is_ratio = metric.name.ends_with("_ratio");
        assert_eq!((translated.ends_with("_ratio"), metric.otel_unit == "1"), (is_ratio, is_ratio), "{translated}");
        let other = seen.entry(translated).or_insert_with(|| metric.otel_name.clone());
        assert_eq!(*other, metric.otel_name);
    }
}

/// Every key pattern that a table maps, uses as a label, or names by rule.
fn known_patterns() -> BTreeSet<String> {
    metric_docs().into_iter().flat_map(|metric| metric.keys).collect()
}

#[test]
fn every_metric_is_in_a_golden_case() {
    let mut shown = String::new();
    for case in golden::cases() {
        let families = golden::families(&case);
        shown += &String::from_utf8(Format::Text.encode(&families)).expect("UTF-8");
    }
    let typed: BTreeSet<&str> =
        shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let missing: Vec<_> = of_domains()
        .into_iter()
        .map(|metric| metric.name)
        .filter(|name| match name.split_once("<name>") {
            Some((start, end)) => !typed.iter().any(|name| name.starts_with(start) && name.ends_with(end)),
            None => !typed.contains(name.as_str()),
        })
        .collect();
    assert!(missing.is_empty(), "in no golden case: {missing:?}");
    assert!(known_patterns().len() > 120);
}

/// Every metric that a domain can have, and what is counted of all domains.
fn of_domains() -> Vec<MetricDoc> {
    let is_golden = |metric: &MetricDoc| metric.group.is_some() || metric.name == "libvirt_domain_unmapped_stat";
    metric_docs().into_iter().filter(is_golden).collect()
}

#[test]
fn a_family_has_no_labels_but_those_of_its_row() {
    let pair = regex::Regex::new(r#"[{,](\w+)="(?:[^"\\]|\\.)*""#).expect("a valid expression");
    let listed: BTreeMap<String, (Vec<String>, Subject)> =
        of_domains().into_iter().map(|metric| (metric.name, (metric.labels, metric.subject))).collect();
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for case in golden::cases() {
        let (config, _) = golden::load(&case);
        let free: Vec<String> = config.metadata.labels.keys().map(ToString::to_string).collect();
        let text = String::from_utf8(Format::Text.encode(&golden::families(&case))).expect("UTF-8");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().expect("a name");
            // A histogram has no sample under its own name.
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            let Some((name, (labels, subject))) = listed.get_key_value(name) else { continue };
            for found in pair.captures_iter(line) {
                let label = &found[1];
                let identity = match subject.object_label() {
                    Some(of_object) => label == of_object,
                    None => ["domain", "uuid"].contains(&label),
                };
                let is_free = name == "libvirt_domain_info" && free.iter().any(|free| free == label);
                assert!(identity || is_free || labels.iter().any(|listed| listed == label), "{case}: {name}: {label}");
                seen.entry(name).or_default().insert(label.to_owned());
            }
        }
    }
    // Of definitions and events every label is shown by some case, but for those of other management systems.
    for row in of_domains().iter().filter(|metric| metric.group.is_some() && metric.keys.is_empty()) {
        let seen = seen.get(row.name.as_str()).cloned().unwrap_or_default();
        let others = |label: &str| ["group_", "kubevirt_", "ovirt_"].iter().any(|prefix| label.starts_with(prefix));
        let missing: Vec<_> =
            row.labels.iter().filter(|label| *label != "le" && !seen.contains(*label) && !others(label)).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", row.name);
    }
}

/// A label of the configuration must not meet one that `libvirt_domain_info` has of itself.
#[test]
fn the_labels_of_the_info_metric_are_taken() {
    let info = metric_docs().into_iter().find(|metric| metric.name == "libvirt_domain_info").expect("a row");
    for label in info.labels.into_iter().chain(["domain", "uuid"].map(str::to_owned)) {
        let parsed = label.parse::<LabelName>();
        assert_eq!(parsed, Err(ValueError::LabelTaken { name: label }));
    }
}

#[test]
fn metrics_md_is_current() {
    let path = root().join("METRICS.md");
    let is = metrics_doc::markdown();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &is).expect("a writable METRICS.md");
    }
    let should_be = fs::read_to_string(&path).unwrap_or_default();
    assert!(is == should_be, "METRICS.md is not what `domstats-exporter metrics` prints; UPDATE_GOLDEN=1 updates it");
}

#[test]
fn migration_md_is_current() {
    let path = root().join("docs/migration.md");
    let is = migration::markdown();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &is).expect("a writable docs/migration.md");
    }
    let should_be = fs::read_to_string(&path).unwrap_or_default();
    assert!(is == should_be, "docs/migration.md is not what the tables say; UPDATE_GOLDEN=1 updates it");
}

#[test]
fn compat_rules_are_current() {
    for (name, is) in migration::rules() {
        let path = root().join("alerts").join(&name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &is).expect("a writable file of rules");
        }
        let should_be = fs::read_to_string(&path).unwrap_or_default();
        assert!(is == should_be, "alerts/{name} is not what the tables say; UPDATE_GOLDEN=1 updates it");
    }
}

/// What each module may use of the others, the earlier stages first. Modules below one that is listed count as part of it.
const LAYERS: &[(&str, &[&str])] = &[
    ("errors", &[]),
    ("backoff", &[]),
    ("files", &[]),
    ("libvirt", &[]),
    ("tables", &["libvirt"]),
    ("config", &["tables"]),
    ("log", &["config"]),
    ("cli", &["config"]),
    ("domains", &["config", "libvirt"]),
    ("discovery", &["config", "domains"]),
    ("domain_list", &["domains"]),
    ("hypervisor", &["libvirt"]),
    ("probes", &["config", "domains", "hypervisor", "libvirt", "tables"]),
    ("collect", &["backoff", "config", "domains", "hypervisor", "libvirt", "probes"]),
    ("metrics", &["collect", "config", "domains", "libvirt", "probes", "tables"]),
    ("encode", &["config", "libvirt", "metrics"]),
    ("pem", &["config"]),
    ("push", &["backoff", "config", "errors", "metrics", "pem"]),
    ("push::otlp", &["config", "encode", "metrics", "push"]),
    ("metrics_doc", &["encode", "metrics", "tables"]),
    ("migration", &["metrics", "tables"]),
    ("web", &["collect", "config", "encode", "errors", "files", "pem"]),
    (
        "app",
        &[
            "collect",
            "config",
            "discovery",
            "domains",
            "encode",
            "errors",
            "files",
            "libvirt",
            "log",
            "metrics",
            "push",
            "push::otlp",
            "web",
        ],
    ),
    (
        "check",
        &["app", "cli", "collect", "config", "discovery", "domains", "errors", "libvirt", "metrics", "push", "web"],
    ),
];

/// No stage uses a later one: every use of another module, in whatever form it is written, is in [`LAYERS`], which has no
/// circle and nothing that is not needed.
#[test]
fn dependencies_point_one_way() {
    let rules: BTreeMap<&str, BTreeSet<&str>> =
        LAYERS.iter().map(|(module, uses)| (*module, uses.iter().copied().collect())).collect();
    assert_eq!(rules.len(), LAYERS.len(), "a module stands twice");
    for (position, (module, uses)) in LAYERS.iter().enumerate() {
        let later = LAYERS[position..].iter().map(|(later, _)| later).find(|later| uses.contains(later));
        assert_eq!(later, None, "{module} may use a module that is not before it in LAYERS");
    }
    let rule_of = |path: &[String]| {
        let names = (1..=path.len()).rev().map(|length| path[..length].join("::"));
        names.into_iter().find_map(|name| rules.get_key_value(name.as_str()).map(|(name, _)| *name))
    };
    let graph = module_graph::read(&root().join("src/lib.rs"));
    let (mut wrong, mut needed) = (Vec::new(), BTreeSet::new());
    for (module, mentions) in graph.iter().filter(|(module, _)| !module.is_empty()) {
        let Some(here) = rule_of(module) else {
            wrong.push(format!("{} is not in LAYERS", module.join("::")));
            continue;
        };
        for mention in mentions {
            match rule_of(&mention.path) {
                Some(there) if there == here => {}
                Some(there) if rules[here].contains(there) => _ = needed.insert((here, there)),
                there => wrong.push(format!("{}: {here} uses {}", mention.place, there.unwrap_or("no module"))),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let allowed: BTreeSet<_> = rules.iter().flat_map(|(here, uses)| uses.iter().map(|there| (*here, *there))).collect();
    let unused: Vec<_> = allowed.difference(&needed).collect();
    assert!(unused.is_empty(), "LAYERS allows what is not used: {unused:?}");
}

/// ARCHITECTURE.md names files that exist, and in its tables functions that are in the file beside them.
#[test]
fn architecture_md_is_current() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let path = regex::Regex::new(r"`(src/[^`*]+)`").expect("a valid expression");
    let paths: Vec<String> = path.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    let absent: Vec<_> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(paths.len() > 40 && absent.is_empty(), "{absent:?}");
    // `file` | `function`, and (`file`, `function`).
    let pair = regex::Regex::new(r"`(src/[^`]+\.rs)`(?: \| |,\s+)`(\w+)`").expect("a valid expression");
    let pairs: Vec<_> = pair.captures_iter(&text).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    let has = |(file, function): &&(String, String)| {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        [format!("fn {function}("), format!("fn {function}<")].iter().any(|declared| text.contains(declared))
    };
    let absent: Vec<_> = pairs.iter().filter(|pair| !has(pair)).collect();
    assert!(pairs.len() > 30 && absent.is_empty(), "{absent:?}");
}
