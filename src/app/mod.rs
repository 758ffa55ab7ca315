//! Where the stages meet: a scrape, the push source, a reload, the bodies that scrapers share, and systemd.

pub mod body_cache;
pub mod exporter;
mod rounds;
pub mod service;
pub mod systemd;
