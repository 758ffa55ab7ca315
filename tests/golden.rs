//! Golden tests: the typed parameters of `tests/golden/<case>.params` give the expositions beside them.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` rewrites them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/golden.rs"]
mod golden;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use domstats_exporter::config::{Naming, Temporality};
use domstats_exporter::encode::otlp::{self, Chunk, Chunks, Dialect, Part, Starts};
use domstats_exporter::encode::{Format, encode_params};
use domstats_exporter::metrics::{Families, SubjectInfo};
use similar::TextDiff;

const FORMATS: [(Format, &str); 2] = [(Format::OpenMetrics, "om"), (Format::Text, "txt")];

/// What a push of `families` would send at a fixed time, from a fixed resource.
fn otlp_json(families: Arc<Families>) -> String {
    let [start, at] = [1_700_000_000, 1_700_000_060].map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let mut families = Arc::unwrap_or_clone(families);
    for subject in families.subjects.iter_mut() {
        subject.started.get_or_insert_default().seen = Some(start);
    }
    let resource = vec![("service.name".to_owned(), "domstats-exporter".to_owned())];
    let dialect =
        Dialect { naming: Naming::Otel, temporality: Temporality::Cumulative, resource, domain_resource: false };
    let mut chunks =
        Chunks::new(dialect, vec![Part { families: Arc::new(families), starts: Starts::OfFamilies, at, ended: false }]);
    let json = |chunk: Chunk| otlp::to_json(&chunk.body).expect("a request");
    std::iter::from_fn(|| chunks.next_chunk()).map(json).collect()
}

fn families(case: &str) -> Arc<Families> {
    Arc::new(golden::families(case))
}

#[test]
fn each_case_gives_its_expositions() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    for case in golden::cases() {
        let families = families(&case);
        let texts = FORMATS.map(|(format, extension)| (extension, String::from_utf8(format.encode(&families))));
        let texts = texts.map(|(extension, text)| (extension, text.expect("UTF-8")));
        for (extension, is) in texts.into_iter().chain([("otlp.json", otlp_json(Arc::clone(&families)))]) {
            let path = golden::folder().join(&case).with_extension(extension);
            if update {
                fs::write(&path, &is).expect("a writable golden folder");
            }
            let should_be = fs::read_to_string(&path).unwrap_or_default();
            if is != should_be {
                let diff = TextDiff::from_lines(&should_be, &is);
                let name = path.display().to_string();
                wrong += &diff.unified_diff().context_radius(1).header(&name, "now").to_string();
            }
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 accepts these changes:\n{wrong}");
}

#[test]
fn two_encodings_of_one_collection_are_the_same_bytes() {
    for case in golden::cases() {
        let [first, again] = [(), ()].map(|()| families(&case));
        for format in [Format::OpenMetrics, Format::Text, Format::Protobuf] {
            assert_eq!(format.encode(&first), format.encode(&again), "{case}");
            assert_eq!(format.encode(&first), format.encode(&first), "{case}");
        }
    }
}

#[test]
fn no_two_samples_share_name_and_labels() {
    for case in golden::cases() {
        let text = String::from_utf8(Format::Text.encode(&families(&case))).expect("UTF-8");
        let mut names: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, _)| series)
            .collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "{case}");
        assert_eq!(names.len(), families(&case).series(), "{case}");
    }
}

#[test]
fn the_parameters_print_as_they_were_read() {
    for case in golden::cases() {
        let (_, records) = golden::load(&case);
        let printed = encode_params(&[&records]);
        let again = golden::records(&printed).expect("the exporter's own output");
        assert_eq!(encode_params(&[&again]), printed, "{case}");
        assert_eq!(again.param_count(), records.param_count(), "{case}");
    }
}

#[test]
fn a_subject_knows_when_it_started() {
    let families = families("inventory");
    let name = |subject: &SubjectInfo| families.labels.get(subject.labels).next().expect("a name").1;
    let known = families.subjects.iter().filter_map(|subject| Some((subject, subject.started.as_ref()?)));
    let started: Vec<_> = known.map(|(subject, started)| (name(subject), started.process)).collect();
    // Of the others it is not known.
    let others = [("limited", None), ("new", None)];
    assert_eq!(started[..2], [("instance-0000002a", None), ("web", Some(golden::started()))]);
    assert_eq!(started[2..], others);
}

#[test]
fn when_counters_began_is_all_that_openmetrics_adds() {
    // Another writer may print a number in another way, but no other number.
    let parse = |line: &str| -> (String, Option<u64>) {
        let (series, value) = line.rsplit_once(' ').unwrap_or((line, ""));
        let value = if line.starts_with('#') { None } else { value.parse::<f64>().ok().map(f64::to_bits) };
        (if value.is_some() { series } else { line }.to_owned(), value)
    };
    for case in golden::cases() {
        let lines = |openmetrics_created| {
            let families = Families { openmetrics_created, ..golden::families(&case) };
            let text = String::from_utf8(Format::OpenMetrics.encode(&families)).expect("UTF-8");
            let lines = text.lines().filter(|line| !line.contains("_created{")).map(parse);
            lines.collect::<Vec<_>>()
        };
        let (with, without) = (lines(true), lines(false));
        assert_eq!(with.len(), without.len(), "{case}");
        with.iter().zip(&without).for_each(|(with, without)| assert_eq!(with, without, "{case}"));
    }
}
