//! Where the settings come from, and what they are.

use std::path::PathBuf;

use super::report::{Report, Status};
use crate::cli::Used;
use crate::config::{Config, HeaderName, Naming, Otlp};
use crate::metrics::metric_docs;

/// File, flags, user, and what cannot be seen elsewhere.
pub(super) fn look(report: &mut Report, used: &Used, config: &Config) {
    report.fact("version", format!("domstats-exporter {}", env!("CARGO_PKG_VERSION")));
    report.fact("user", user());
    let file = used.file.as_ref().map(|file| file.display().to_string());
    let file = file.map(|file| if used.found { format!("{file}, as no other is named") } else { file });
    report.fact("configuration file", file.unwrap_or_else(|| "none".to_owned()));
    report.fact("flags", if used.flags.is_empty() { "none".to_owned() } else { used.flags.join(" ") });
    if let Some(file) = &config.web.config_file {
        report.fact("web configuration", format!("{}: ok", file.display()));
    }
    let of_groups = |group: Option<&str>| config.collection.groups.iter().any(|known| Some(known.as_str()) == group);
    if !metric_docs().iter().any(|metric| of_groups(metric.group) && config.metrics.selects(&metric.name)) {
        report.fault(
            "metrics",
            Status::Incomplete,
            "metrics.include and metrics.exclude exclude every metric of the groups in collection.groups",
            "correct metrics.include and metrics.exclude; METRICS.md has the names",
        );
    }
    push_settings(report, &config.otlp);
}

/// The effective user and all groups, as the permissions of a socket are checked against them.
fn user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let name = |file: &str, id: u32| {
        let lines = std::fs::read_to_string(file).unwrap_or_default();
        let named = lines.lines().find(|line| line.split(':').nth(2) == Some(id.to_string().as_str()));
        named.and_then(|line| line.split(':').next()).map(str::to_owned)
    };
    let described = |kind: &str, file: &str, id: u32| match name(file, id) {
        Some(name) => format!("{name} ({kind} {id})"),
        None => format!("{kind} {id}"),
    };
    let mut groups = vec![rustix::process::getegid().as_raw()];
    groups.extend(rustix::process::getgroups().unwrap_or_default().iter().map(|group| group.as_raw()));
    groups.sort_unstable();
    groups.dedup();
    let groups: Vec<String> = groups.into_iter().map(|group| described("gid", "/etc/group", group)).collect();
    format!("{}, groups {}", described("uid", "/etc/passwd", uid), groups.join(", "))
}

/// Where metrics are pushed, and which settings of that come from the environment.
fn push_settings(report: &mut Report, otlp: &Otlp) {
    let Some(url) = otlp.url() else {
        return report.fact("OTLP push", "off");
    };
    report.fact("OTLP push", url);
    let span = |duration| humantime::format_duration(duration).to_string();
    let headers = otlp.headers.iter().flat_map(|headers| headers.keys());
    let file = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
    let settings = [
        ("endpoint", otlp.receiver().map(ToString::to_string), otlp.endpoint.is_some()),
        ("protocol", Some(otlp.protocol().to_string()), otlp.protocol.is_some()),
        ("insecure", otlp.insecure.map(|insecure| insecure.to_string()), otlp.insecure.is_some()),
        ("headers", Some(headers.map(HeaderName::as_str).collect::<Vec<_>>().join(", ")), otlp.headers.is_some()),
        ("interval", Some(span(otlp.interval())), otlp.interval.is_some()),
        ("timeout", Some(span(otlp.timeout())), otlp.timeout.is_some()),
        ("export_timeout", Some(span(otlp.export_timeout())), otlp.export_timeout.is_some()),
        ("compression", Some(otlp.compression().to_string()), otlp.compression.is_some()),
        ("temporality", Some(otlp.temporality().to_string()), otlp.temporality.is_some()),
        ("naming", Some(otlp.naming.to_string()), otlp.naming != Naming::default()),
        ("domain_resource", otlp.domain_resource.then(|| "true".to_owned()), true),
        ("tls.ca_file", file(&otlp.tls.ca_file), true),
        ("tls.cert_file", file(&otlp.tls.cert_file), true),
        ("tls.key_file", file(&otlp.tls.key_file), true),
    ];
    for (key, value, is_set) in settings {
        let origin = match (otlp.environment.get(key), is_set) {
            (Some(variable), _) => variable,
            (None, true) => "configuration",
            (None, false) => "default",
        };
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            report.detail(format!("{key}: {value} ({origin})"));
        }
    }
}
