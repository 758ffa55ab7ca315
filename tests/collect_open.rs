//! Opens that hang. A test binary of its own: opens run one at a time in a process, and so would those of other tests.
#![allow(clippy::expect_used)]

#[path = "support/scraper.rs"]
mod scraper;

use std::time::Duration;

use domstats_exporter::libvirt::ErrorClass;
use scraper::{Scraper, daemon};

#[test]
fn a_daemon_that_never_answers_an_open_is_left_and_found_again() {
    let daemon = daemon(5);
    daemon.faults().freeze();
    let scraper = Scraper::new(&daemon, "");
    let first = scraper.scrape();
    assert_eq!(first.class(), Some(ErrorClass::TimedOut));
    assert!(first.took < Duration::from_secs(5), "{:?}", first.took);
    // The open that hangs is ended after five seconds, and tried again.
    std::thread::sleep(Duration::from_secs(2));
    let later = scraper.scrape();
    assert!(later.took < Duration::from_secs(1), "{:?}", later.took);
    let error = later.collection.error.as_ref().expect("an error");
    assert!(error.message.contains("frozen, or at its limit of clients"), "{error}");
    daemon.faults().thaw();
    assert_eq!(scraper.until("libvirt answers", |scrape| scrape.class().is_none()).complete(), 5);
}
