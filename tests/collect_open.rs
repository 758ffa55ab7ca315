//! Opens that hang. A separate test binary, whose tests run one at a time: they are about the sockets of the process.
#![allow(clippy::expect_used)]

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/scraper.rs"]
mod scraper;
#[path = "support/waiting.rs"]
mod waiting;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domstats_exporter::config;
use domstats_exporter::libvirt::ErrorClass;
use fake_libvirtd::{Procedure, ReplyFault, Times};
use proxy::Proxy;
use scraper::{DEADLINE, Scrape, Scraper, daemon};
use waiting::assert_no_wait;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the scrape says that an open has been given up.
fn is_given_up(scrape: &Scrape) -> bool {
    scrape.collection.error.as_ref().is_some_and(|error| error.message.contains("at its limit of clients"))
}

#[test]
fn a_daemon_that_never_answers_an_open_is_left_and_found_again() {
    let _alone = alone();
    let daemon = daemon(5);
    daemon.faults().freeze();
    let mut scraper = Scraper::new(&daemon, "").within(Duration::from_secs(1));
    let first = scraper.scrape();
    assert_eq!(first.class(), Some(ErrorClass::TimedOut));
    assert!(!is_given_up(&first), "it waited for the open");
    // The open that hangs is ended after five seconds, and tried again.
    until(&scraper, "the open has been given up", is_given_up);
    scraper.deadline = DEADLINE;
    let later = scraper.scrape();
    assert_no_wait(later.took, DEADLINE);
    assert!(is_given_up(&later), "{:?}", later.collection.error);
    daemon.faults().thaw();
    assert_eq!(scraper.until("libvirt answers", |scrape| scrape.class().is_none()).complete(), 5);
}

/// A collector that reaches its daemon through the proxy, at a port that libvirt does not know.
fn through(proxy: &Proxy) -> Scraper {
    let text = format!("libvirt: {{uri: 'qemu+tcp://{}/system'}}\n", proxy.address);
    Scraper::start(&config::parse(&text, "test").expect("a valid configuration")).within(Duration::from_secs(4))
}

/// Every domain is complete.
fn assert_complete(scrape: &Scrape) {
    assert_eq!(scrape.complete(), 5, "{}", scrape.shortfall());
}

/// Scrapes until it is `good`, for as long as keepalive and some attempts to connect take.
fn until(scraper: &Scraper, what: &str, good: impl Fn(&Scrape) -> bool) -> Scrape {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let scrape = scraper.scrape();
        if good(&scrape) {
            return scrape;
        }
        assert!(Instant::now() < deadline, "{what}: {:?}", scrape.collection.error);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_daemon_at_a_port_of_its_own_that_never_answers_an_open_is_left_and_found_again() {
    let _alone = alone();
    let daemon = daemon(5);
    let proxy = Proxy::start(daemon.socket());
    proxy.freeze();
    let mut scraper = through(&proxy);
    assert_eq!(scraper.scrape().class(), Some(ErrorClass::TimedOut));
    let told = until(&scraper, "the open has been given up", is_given_up);
    assert_eq!(told.class(), Some(ErrorClass::TimedOut));
    until(&scraper, "another attempt", |_| proxy.held() >= 2);
    scraper.deadline = DEADLINE;
    let later = scraper.scrape();
    assert_no_wait(later.took, DEADLINE);
    assert!(later.class().is_some());
    scraper.deadline = Duration::from_secs(4);
    proxy.thaw();
    assert_complete(&until(&scraper, "the proxy forwards", |scrape| scrape.class().is_none()));
}

#[test]
fn a_connection_that_froze_is_replaced_although_the_next_ones_freeze_too() {
    let _alone = alone();
    let daemon = daemon(5);
    let proxy = Proxy::start(daemon.socket());
    let scraper = through(&proxy);
    assert_complete(&until(&scraper, "the first connection", |scrape| scrape.class().is_none()));
    proxy.freeze();
    until(&scraper, "keepalive has ended the connection, and the next attempt hangs", |_| proxy.held() >= 1);
    proxy.thaw();
    // A call over the connection that is dead waits until keepalive ends it, while others are answered: as if libvirt held the lock of the
    // domain that it asks for, which may be missing that long.
    let first = until(&scraper, "the proxy forwards", |scrape| scrape.class().is_none());
    assert!(first.complete() >= 4, "{}", first.shortfall());
    assert_complete(&until(&scraper, "the dead connection is gone", |scrape| scrape.complete() == 5));
}

/// Connections to one host are opened one after the other: the last of many begins when an open that hangs would have been ended.
#[test]
fn connections_over_a_long_way_are_opened_although_they_wait_for_each_other() {
    let _alone = alone();
    let daemon = daemon(400);
    let proxy = Proxy::start(daemon.socket());
    proxy.delay(Duration::from_millis(60));
    let slow = ReplyFault::Delay(Duration::from_secs(1));
    daemon.faults().reply(Procedure::ConnectGetAllDomainStats, slow, Times::Always);
    let uri = format!("qemu+tcp://{}/system", proxy.address);
    let text = format!("libvirt: {{uri: '{uri}'}}\ncollection: {{deadline: 4s, workers: 16}}\n");
    let scraper = Scraper::start(&config::parse(&text, "test").expect("a valid configuration"));
    until(&scraper, "all connections are open", |_| daemon.counters().open_connections() >= 14);
    let (opened, open) = (daemon.counters().connections().len(), daemon.counters().open_connections());
    assert_eq!(opened, open, "none was ended");
}

#[test]
fn collectors_in_one_process_do_not_disturb_each_other() {
    /// When an open that hangs is ended.
    const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
    let _alone = alone();
    let (hung, good) = ([(); 4].map(|()| daemon(5)), daemon(5));
    hung.iter().for_each(|hung| hung.faults().freeze());
    let waiting = hung.each_ref().map(|hung| Scraper::new(hung, "").within(Duration::from_secs(4)));
    // Their opens have begun by then, or wait for the other one's: both must be harmless.
    std::thread::sleep(Duration::from_millis(300));
    // While the opens of the four hang, the other opens all the connections that it needs.
    let works = Scraper::new(&good, "");
    let began = Instant::now();
    works.until("the other one answers", |scrape| scrape.complete() == 5);
    assert_no_wait(began.elapsed(), 4 * OPEN_TIMEOUT);
    works.start_all_workers(&good);
    // The opens are ended after five seconds, and nothing of the other with them.
    for waits in &waiting {
        until(waits, "the open has been given up", is_given_up);
    }
    for _ in 0..5 {
        assert_eq!((works.scrape().class(), works.collector.stats().reconnects), (None, 0));
        std::thread::sleep(Duration::from_millis(300));
    }
    let failures = works.collector.stats().failures;
    assert!(failures.is_empty(), "{failures:?}");
    hung.iter().for_each(|hung| hung.faults().thaw());
    for waits in &waiting {
        assert_eq!(until(waits, "it answers, too", |scrape| scrape.class().is_none()).complete(), 5);
    }
}
