//! What the fuzzers do with an input: one function a target, which panics where a promise is broken.
//!
//! Both cargo-fuzz (`fuzz/fuzz_targets/`) and the plain harness (`tests/fuzz.rs`) call these and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

mod exposition;
mod http;
mod input;
mod stats;
mod texts;

/// A target.
pub type Target = fn(&[u8]);

/// Keys as lines: the matcher, and the families of all of them.
pub const KEYS: Target = stats::keys;
/// Domains with parameters: families, every encoder, and back.
pub const PARAMS: Target = stats::params;
/// The definition of a domain.
pub const XML: Target = texts::xml;
/// The configuration file.
pub const CONFIG: Target = texts::config;
/// The web configuration file.
pub const WEB_CONFIG: Target = texts::web_config;
/// An `Accept` header.
pub const ACCEPT: Target = texts::accept;
/// The query of a scrape.
pub const QUERY: Target = texts::query;
/// What a client sends to the server.
pub const HTTP: Target = http::http;
