//! Golden tests: the typed parameters of `tests/golden/<case>.params` give the expositions beside them.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes them anew.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/golden.rs"]
mod golden;

use std::fs;
use std::sync::Arc;

use domstats_exporter::catalogue::{Catalogue, Families};
use domstats_exporter::encode::{Format, encode_params};
use similar::TextDiff;

const FORMATS: [(Format, &str); 2] = [(Format::OpenMetrics, "om"), (Format::Text, "txt")];

fn families(case: &str) -> Arc<Families> {
    let (config, records) = golden::load(case);
    Arc::new(Catalogue::new(&config).build(&[&records]).families)
}

#[test]
fn each_case_gives_its_expositions() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    for case in golden::cases() {
        let families = families(&case);
        for (format, extension) in FORMATS {
            let path = golden::folder().join(&case).with_extension(extension);
            let is = String::from_utf8(format.encode(&families)).expect("UTF-8");
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
        let (config, records) = golden::load(&case);
        let catalogue = Catalogue::new(&config);
        let [first, again] = [(), ()].map(|()| Arc::new(catalogue.build(&[&records]).families));
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
