//! Every key of config.example.yaml, and what an operator might write there: taken, or refused with place, key, text and what
//! was expected.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::tests::sentence;
use super::*;

/// What is tried at every key.
const PROBES: [&str; 14] =
    ["null", "true", "0", "1", "-1", "99999999999999999999", "1ns", "1s", "1000y", "''", "[]", "['']", "{}", "text"];

/// The probes that each key takes.
const TAKEN: &[(&str, &str)] = &[
    ("libvirt.uri", "''"),
    ("libvirt.allow_programs", "true"),
    ("collection.groups", ""),
    ("collection.cpu_source", ""),
    ("collection.intervals.iothread", "0 1ns 1s"),
    ("collection.intervals.dirtyrate", "0 1ns 1s"),
    ("collection.intervals.vm", "0 1ns 1s"),
    ("collection.backing_chain", "true"),
    ("collection.inactive_domains", ""),
    ("collection.workers", "1"),
    ("collection.batch_size", "1"),
    ("collection.min_interval", "0 1ns 1s"),
    ("collection.deadline", "1s"),
    ("collection.timeout_offset", "1s"),
    ("collection.resync_interval", "1s"),
    ("collection.idle_timeout", "1s"),
    ("domains.include", "[] ['']"),
    ("domains.exclude", "[] ['']"),
    ("domains.labels", ""),
    ("domains.name_from", ""),
    ("metadata.rate", "1"),
    ("metadata.refresh_interval", "1s"),
    ("metadata.timeout", "1s"),
    ("metadata.labels", "{}"),
    ("metrics.include", "[] ['']"),
    ("metrics.exclude", "[] ['']"),
    ("metrics.unmapped", ""),
    ("metrics.naming", ""),
    ("metrics.naming_only", "true"),
    ("targets", "{}"),
    ("profiles", "{}"),
    ("probe.allow", "[] ['']"),
    ("probe.idle_timeout", "1s"),
    ("probe.max_connections", "1"),
    ("probe.rescan_interval", "1s"),
    ("service_discovery.enabled", "true"),
    ("service_discovery.path", ""),
    ("service_discovery.port", "1"),
    ("service_discovery.states", ""),
    ("service_discovery.sources", ""),
    ("service_discovery.address_family", ""),
    ("service_discovery.networks", "[] ['']"),
    ("service_discovery.refresh_interval", "1s"),
    ("web.listen_addresses", "[]"),
    ("web.systemd_socket", "true"),
    ("web.telemetry_path", ""),
    ("web.config_file", "null true 0 1 -1 99999999999999999999 1ns 1s 1000y text"),
    ("web.openmetrics_created", "true"),
    ("web.timestamps", "true"),
    ("web.max_requests", "0 1"),
    ("web.max_response_bytes", "0 1"),
    ("web.enable_lifecycle", "true"),
    ("otlp.enabled", "null true"),
    ("otlp.domain_resource", "true"),
    ("otlp.endpoint", "null true 0 1 -1 99999999999999999999 1ns 1s 1000y text"),
    ("otlp.protocol", "null"),
    ("otlp.insecure", "null true"),
    ("otlp.headers", "null {}"),
    ("otlp.interval", "null 1s"),
    ("otlp.timeout", "null 1s"),
    ("otlp.export_timeout", "null 1s"),
    ("otlp.compression", "null"),
    ("otlp.temporality", "null"),
    ("otlp.naming", ""),
    ("otlp.tls.ca_file", "null true 0 1 -1 99999999999999999999 1ns 1s 1000y text"),
    ("otlp.tls.cert_file", "null true 0 1 -1 99999999999999999999 1ns 1s 1000y text"),
    ("otlp.tls.key_file", "null true 0 1 -1 99999999999999999999 1ns 1s 1000y text"),
    ("otlp.resource", "{}"),
    ("log.level", ""),
    ("log.format", ""),
];

/// The keys of the example, `section.key`, and `otlp.tls.key`.
fn keys(prefix: &str, value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Mapping(mapping) if !mapping.is_empty() => {
            for (key, value) in mapping {
                let key = key.as_str().expect("a key");
                self::keys(&if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }, value, keys);
            }
        }
        _ => keys.push(prefix.to_owned()),
    }
}

/// One document with one key.
fn document(key: &str, value: &str) -> String {
    let steps: Vec<_> = key.split('.').collect();
    format!("{}: {value}{}", steps.join(": {"), "}".repeat(steps.len() - 1))
}

#[test]
fn every_key_takes_what_it_can_and_refuses_the_rest_in_one_sentence() {
    let mut known = Vec::new();
    keys("", &serde_yaml::from_str(include_str!("../../config.example.yaml")).expect("YAML"), &mut known);
    let taken: BTreeMap<_, _> = TAKEN.iter().copied().collect();
    let mut wrong = Vec::new();
    for key in &known {
        let mut takes = Vec::new();
        for probe in PROBES {
            let text = document(key, probe);
            match parse(&text, "x.yaml") {
                Ok(_) => takes.push(probe),
                Err(error) => {
                    let sentence = sentence(&error);
                    let written = probe.trim_matches('\'');
                    let has_text = !probe.starts_with(['[', '{', '\'']);
                    if !sentence.starts_with("x.yaml:1:")
                        || !sentence.contains(&format!(" {key}"))
                        || !sentence.contains("expected")
                        || has_text && !sentence.contains(written)
                    {
                        wrong.push(format!("{text}\n    {sentence}"));
                    }
                }
            }
        }
        let takes = takes.join(" ");
        if taken.get(key.as_str()) != Some(&takes.as_str()) {
            wrong.push(format!("    (\"{key}\", \"{takes}\"),"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
