//! A collector on a fake daemon, and what a scrape found.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use domstats_exporter::collect::{Collection, Collector, Selection};
use domstats_exporter::config::{self, Config};
use domstats_exporter::libvirt::ErrorClass;
use fake_libvirtd::{FakeLibvirtd, Procedure, ReplyFault, Scenario, Template, Times};

/// A fake daemon with running domains `vm-0`, `vm-1` and so on.
pub(crate) fn daemon(domains: usize) -> FakeLibvirtd {
    FakeLibvirtd::start(Scenario::builder().domains(domains, Template::small()).build()).expect("a fake daemon")
}

fn configuration(daemon: &FakeLibvirtd, more: &str) -> Config {
    let text = format!("libvirt: {{uri: '{}'}}\ncollection: {{deadline: 4s{more}}}\n", daemon.uri());
    config::parse(&text, "test").expect("a valid configuration")
}

/// A collector that is asked from a test.
pub(crate) struct Scraper {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) collector: Arc<Collector>,
}

impl Scraper {
    /// `more` is appended to the section `collection` of its configuration.
    pub(crate) fn new(daemon: &FakeLibvirtd, more: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let collector = Collector::start(&configuration(daemon, more)).expect("a thread");
        Self { runtime, collector: Arc::new(collector) }
    }

    /// Makes the calls of one collection slow, so that it needs every worker; each lists the domains once, for its handles.
    pub(crate) fn start_all_workers(&self, daemon: &FakeLibvirtd) {
        let slow = ReplyFault::Delay(Duration::from_millis(200));
        daemon.faults().reply(Procedure::ConnectGetAllDomainStats, slow, Times::Always);
        self.until("every worker has been needed", |_| daemon.counters().open_connections() == 5);
        daemon.faults().clear_replies();
    }

    /// One collection of everything.
    pub(crate) fn scrape(&self) -> Scrape {
        let started = Instant::now();
        let collection = self.runtime.block_on(self.collector.collect(None, Selection::default()));
        Scrape { collection, took: started.elapsed() }
    }

    /// Scrapes until `good` is satisfied, for ten seconds at most.
    pub(crate) fn until(&self, what: &str, good: impl Fn(&Scrape) -> bool) -> Scrape {
        let started = Instant::now();
        loop {
            let scrape = self.scrape();
            if good(&scrape) {
                return scrape;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{what}: {:?}", scrape.collection.error);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A collection, and how long the scraper waited for it.
pub(crate) struct Scrape {
    pub(crate) collection: Arc<Collection>,
    pub(crate) took: Duration,
}

impl Scrape {
    /// How many domains are complete.
    pub(crate) fn complete(&self) -> usize {
        self.collection.domains.iter().filter(|domain| domain.complete).count()
    }

    /// The names of those in quarantine.
    pub(crate) fn quarantined(&self) -> Vec<&str> {
        let in_it = self.collection.domains.iter().filter(|domain| domain.quarantined.is_some());
        let mut names: Vec<&str> = in_it.map(|domain| domain.identity.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The class of the error.
    pub(crate) fn class(&self) -> Option<ErrorClass> {
        self.collection.error.as_ref().map(|error| error.class)
    }

    /// Whether the domain has a record, and one that needed its hypervisor.
    pub(crate) fn of(&self, name: &str) -> (bool, bool) {
        let records = self.collection.batches.iter().flat_map(|records| records.domains());
        records.filter(|domain| domain.name == name).fold((false, false), |(_, full), domain| {
            (true, full || domain.params().any(|param| param.key == "balloon.rss"))
        })
    }
}
