//! The names that receivers give to pushed metrics where they keep them for Prometheus.

/// The name of a metric in Prometheus 3 (`translation_strategy: UnderscoreEscapingWithSuffixes`, the default) and in the
/// Prometheus exporters of the OpenTelemetry Collector, by its name and unit in OTLP. Series of a histogram add `_bucket` and
/// the like.
#[must_use]
pub fn prometheus_name(name: &str, unit: &str, is_counter: bool) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut parts: Vec<&str> = name.split(|c| !is_part(c)).filter(|part| !part.is_empty()).collect();
    let (main, per) = match unit.split_once('/') {
        Some((main, per)) => (main, Some(per)),
        None => (unit, None),
    };
    for word in word_of(main).into_iter().chain(per.and_then(per_word_of).into_iter().flatten()) {
        if !parts.contains(&word) {
            parts.push(word);
        }
    }
    let suffix = match (is_counter, unit) {
        (true, _) => "total",
        (false, "1") => "ratio",
        _ => return parts.join("_"),
    };
    parts.retain(|part| *part != suffix);
    parts.push(suffix);
    parts.join("_")
}

/// What a unit in UCUM is called; of those that this exporter uses. An annotation in braces is none.
fn word_of(unit: &str) -> Option<&'static str> {
    match unit {
        "s" => Some("seconds"),
        "By" => Some("bytes"),
        "J" => Some("joules"),
        _ => None,
    }
}

fn per_word_of(unit: &str) -> Option<[&'static str; 2]> {
    (unit == "s").then_some(["per", "second"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_units_and_kinds_that_they_do_not_have() {
        for (name, unit, is_counter, expected) in [
            ("libvirt.domain.cpu.time", "s", true, "libvirt_domain_cpu_time_seconds_total"),
            ("libvirt.domain.disk.operation_time", "s", true, "libvirt_domain_disk_operation_time_seconds_total"),
            ("libvirt.domain.memory.usable", "By", false, "libvirt_domain_memory_usable_bytes"),
            ("libvirt.domain.dirty_rate", "By/s", false, "libvirt_domain_dirty_rate_bytes_per_second"),
            ("libvirt.domain.status", "{domain}", false, "libvirt_domain_status"),
            ("libvirt.domain.autostart", "", false, "libvirt_domain_autostart"),
            ("libvirt_domain_cpu_seconds_total", "s", true, "libvirt_domain_cpu_seconds_total"),
            ("x.load", "1", false, "x_load_ratio"),
        ] {
            assert_eq!(prometheus_name(name, unit, is_counter), expected);
        }
    }
}
