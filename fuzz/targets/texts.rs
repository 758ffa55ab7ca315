//! Texts that others write: definitions, configurations, headers and queries.

use std::path::Path;
use std::sync::LazyLock;

use domstats_exporter::config::{self, Config};
use domstats_exporter::domains::parse_definition;
use domstats_exporter::web::{negotiate, parse_query};

static DEFAULT: LazyLock<Config> = LazyLock::new(Config::default);

/// Whatever is no definition is an error of one line.
pub(crate) fn xml(data: &[u8]) {
    match parse_definition(&String::from_utf8_lossy(data), &DEFAULT.metadata.labels) {
        Ok(metadata) => assert!(metadata.labels.values().all(|value| !value.is_empty())),
        Err(error) => one_line(&error),
    }
}

/// What is a configuration can be written down and read again; all else is an error of one line.
pub(crate) fn config(data: &[u8]) {
    match config::parse(&String::from_utf8_lossy(data), "file") {
        Ok(config) => {
            let public = config.to_public_yaml().expect("a configuration that can be shown");
            assert!(!public.is_empty());
            // The other checks, which need more than the file.
            if let Err(error) = config.check(None) {
                one_line(&error);
            }
        }
        Err(error) => one_line(&error),
    }
}

pub(crate) fn web_config(data: &[u8]) {
    if let Err(error) = config::parse_web_file(&String::from_utf8_lossy(data), Path::new("/web.yaml")) {
        one_line(&error);
    }
}

/// Every client gets some format, and the same one each time.
pub(crate) fn accept(data: &[u8]) {
    let accept = String::from_utf8_lossy(data);
    let format = negotiate(&accept);
    assert_eq!(format, negotiate(&accept));
    assert!(!format.content_type().is_empty());
}

/// A query selects something, or is an error of one line.
pub(crate) fn query(data: &[u8]) {
    let groups = &DEFAULT.collection.groups;
    match parse_query(&String::from_utf8_lossy(data), groups).and_then(|query| query.compile()) {
        Ok(selection) => drop(selection.selects("vm-0")),
        Err(error) => one_line(&error),
    }
}

fn one_line(error: &dyn std::fmt::Display) {
    let error = error.to_string();
    assert!(!error.is_empty() && !error.contains('\n'), "not one line: {error:?}");
}
