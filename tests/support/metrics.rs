//! The metrics that dashboards and rules may ask for.

use domstats_exporter::metrics_doc;

use super::promql::{Metrics, Yield};

/// The exporter's metrics, and what the recording rules make of them. The rules are checked on the way.
pub fn with_rules() -> Metrics {
    let mut metrics = Metrics::new(&metrics_doc::all());
    for rule in dashboards::rules::groups().into_iter().flat_map(|group| group.rules) {
        // It is about jobs, which nothing else may be, and reads itself. promtool shows what it does.
        if rule.record == Some("job:libvirt_up:group") {
            continue;
        }
        let what: Yield = metrics.check(&rule.expr).unwrap_or_else(|error| panic!("{error}"));
        let record = rule.record.expect("a recording rule");
        let level = record.split(':').next().unwrap();
        let expected: &[&str] = match level {
            "instance" => &["instance"],
            "domain" => &["domain", "instance", "uuid"],
            "device" => &["device", "domain", "instance", "uuid"],
            "mountpoint" => &["domain", "instance", "mountpoint", "uuid"],
            "pool" => &["instance", "pool"],
            "interface" => &["domain", "instance", "interface", "uuid"],
            _ => panic!("{record}: the level {level}"),
        };
        assert_eq!(what.labels.iter().flatten().collect::<Vec<_>>(), expected, "{record}");
        metrics.record(record, what);
    }
    metrics
}
