//! Scrapes that lack a sample which scrapes before them have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Series: each with its labels, and its values by the time of their scrape, since 1970.
pub type Samples = Vec<(BTreeMap<String, String>, BTreeMap<Duration, f64>)>;

/// A family whose labels have a value that changes: of all its series of a domain, one has to be there.
pub const STATE_REASON: &str = "libvirt_domain_state_reason_info";
/// Says which groups a scrape lacks, and why; it has samples for nothing else.
const MISSING: &str = "libvirt_domain_stats_missing";

/// A scrape that lacks gauges of a domain.
#[derive(Debug)]
pub struct Hole {
    pub at: Duration,
    /// Whether the scrape says that it lacks something of the domain.
    pub is_marked: bool,
    pub text: String,
}

/// The scrapes that lack gauges which the same job had before; `scrapes` are the series of `up`.
pub fn holes(gauges: &Samples, scrapes: &Samples) -> Vec<Hole> {
    let of_job = |labels: &BTreeMap<_, String>| [labels["job"].clone(), labels["instance"].clone()];
    let mut lines: BTreeMap<_, BTreeSet<&Duration>> = BTreeMap::new();
    for (labels, samples) in gauges.iter().filter(|(labels, _)| labels["__name__"] != MISSING) {
        let mut line = labels.clone();
        if labels["__name__"] == STATE_REASON {
            line.retain(|name, _| !["state", "reason"].contains(&name.as_str()));
        }
        lines.entry(line).or_default().extend(samples.keys());
    }
    let mut holes: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (labels, samples) in &lines {
        let scrapes = scrapes.iter().filter(|(scraped, _)| of_job(scraped) == of_job(labels));
        let scrapes = scrapes.flat_map(|(_, samples)| samples.keys());
        for at in scrapes.filter(|at| samples.first().is_some_and(|first| first < at) && !samples.contains(at)) {
            holes.entry((of_job(labels), &labels["domain"], at)).or_default().push(labels["__name__"].clone());
        }
    }
    let hole = |((job, domain, at), mut names): (([String; 2], &String, &Duration), Vec<String>)| {
        let count = names.len();
        names.dedup();
        let is_mark = |(labels, samples): &&(BTreeMap<_, String>, BTreeMap<_, _>)| {
            let of_scrape = of_job(labels) == job && labels["domain"] == *domain;
            labels["__name__"] == MISSING && of_scrape && samples.contains_key(at)
        };
        let marks =
            gauges.iter().filter(is_mark).map(|(labels, _)| format!("{} {}", labels["group"], labels["reason"]));
        let marks: Vec<_> = marks.collect();
        let text = format!("{job:?} at {at:?}: {domain} lacks {count} gauges, marks {marks:?}, names {names:?}");
        Hole { at: *at, is_marked: !marks.is_empty(), text }
    };
    holes.into_iter().map(hole).collect()
}

/// A search that finds nothing would prove nothing.
#[test]
fn a_hole_in_a_gauge_is_found() {
    let samples = |name: &str, domain: &str, reason: &str, times: &[u64]| {
        let labels = [
            ("__name__", name),
            ("job", "one"),
            ("instance", "a"),
            ("domain", domain),
            ("reason", reason),
            ("group", "cpu"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        (labels.into(), times.iter().map(|at| (Duration::from_secs(*at), 1.0)).collect())
    };
    let scrapes = vec![samples("up", "", "", &[1, 2, 4, 5])];
    let whole = vec![
        samples("rss", "web", "", &[1, 2, 3, 4, 5]),
        samples("rss", "late", "", &[4, 5]),
        samples("libvirt_domain_state_reason_info", "web", "booted", &[1, 2]),
        samples("libvirt_domain_state_reason_info", "web", "user", &[4, 5]),
    ];
    assert_eq!(holes(&whole, &scrapes).len(), 0);
    let between = vec![samples("rss", "web", "", &[1, 3, 4, 5])];
    let at_the_end = vec![samples("rss", "web", "", &[1, 2, 4])];
    let of_a_reason = vec![samples("libvirt_domain_state_reason_info", "web", "booted", &[1, 4, 5])];
    for gauges in [between, at_the_end, of_a_reason] {
        let found = holes(&gauges, &scrapes);
        assert!(found.len() == 1 && !found[0].is_marked, "{gauges:?}");
    }
    for (at, is_marked) in [(2, true), (4, false)] {
        let gauges = vec![samples("rss", "web", "", &[1, 4, 5]), samples(MISSING, "web", "busy", &[at])];
        assert_eq!(holes(&gauges, &scrapes)[0].is_marked, is_marked);
    }
}
