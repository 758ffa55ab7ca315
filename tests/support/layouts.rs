//! The two ways of examples/prometheus.yml to scrape a host: one job for everything, or two for the groups that are cheap and
//! those that cost. What is shipped for Prometheus and Grafana must say the same of both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_yaml::Value;

/// The parameters of a job of the example, as YAML.
pub fn params(job: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prometheus.yml");
    let config: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let jobs = config["scrape_configs"].as_sequence().unwrap();
    let found = jobs.iter().find(|one| one["job_name"] == job).unwrap_or_else(|| panic!("no job {job}"));
    found["params"].clone()
}

/// The groups that the example's slow job asks for.
pub fn slow_groups() -> BTreeSet<String> {
    serde_yaml::from_value(params("libvirt-slow")["collect[]"].clone()).unwrap()
}

/// The lines of a range query: each with its labels, and its values by time.
pub type Lines = BTreeMap<BTreeMap<String, String>, BTreeMap<u64, f64>>;

/// A line with fewer points in time is not judged, be it in one layout alone or in both: the jobs do not see a change at the same moment,
/// and on a busy machine a guest does not answer each of them.
const LATE: usize = 12;

/// What is not the same in both layouts; unless `values`, only which lines there are is compared.
///
/// Two jobs scrape at other moments than one does, so that single points may differ, and values by less than half. What is
/// counted twice, or found in one job only, is off by a factor of two, or not there, all the time.
pub fn differences(one: &Lines, two: &Lines, values: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let nothing = BTreeMap::new();
    for labels in one.keys().chain(two.keys()).collect::<BTreeSet<_>>() {
        let [one, two] = [one, two].map(|lines| lines.get(labels).unwrap_or(&nothing));
        if one.is_empty() || two.is_empty() {
            if one.len().max(two.len()) >= LATE {
                wrong.push(format!("{labels:?} has {} points with one job, {} with two", one.len(), two.len()));
            }
            continue;
        }
        let both: Vec<[f64; 2]> = one.iter().filter_map(|(at, one)| Some([*one, *two.get(at)?])).collect();
        let apart = both.iter().filter(|[one, two]| (one - two).abs() > 0.4 * one.abs().max(two.abs()));
        if values && both.len() >= LATE && apart.clone().count() * 2 > both.len() {
            let apart: Vec<_> = apart.take(5).collect();
            wrong.push(format!("{labels:?}: [one job, two jobs] {apart:?} and more of {} points", both.len()));
        }
    }
    wrong
}

/// A comparison that finds nothing would prove nothing.
#[test]
fn doubled_missing_and_late_lines_are_told_apart() {
    let line = |name: &str, value: f64, points: u64| {
        let points = (0..points).map(|at| (at, value)).collect();
        (BTreeMap::from([("domain".to_owned(), name.to_owned())]), points)
    };
    let one: Lines = [line("a", 1.0, 20), line("b", 5.0, 20), line("late", 1.0, 2)].into();
    assert_eq!(differences(&one, &one, true), Vec::<String>::new());
    let close = [line("a", 1.2, 20), line("b", 4.0, 20)].into();
    assert_eq!(differences(&one, &close, true), Vec::<String>::new());
    let doubled = [line("a", 2.0, 20), line("b", 5.0, 20)].into();
    assert_eq!(differences(&one, &doubled, true).len(), 1);
    assert_eq!(differences(&one, &doubled, false), Vec::<String>::new());
    let missing = [line("b", 5.0, 20), line("c", 1.0, 20)].into();
    assert_eq!(differences(&one, &missing, false).len(), 2);
}
