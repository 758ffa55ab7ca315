//! A collector on a fake daemon, and what a scrape found.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domstats_exporter::collect::{Collection, Collector, Selection};
use domstats_exporter::config::{self, Config};
use domstats_exporter::domains;
use domstats_exporter::libvirt::{ErrorClass, Identity};
use fake_libvirtd::{Domain, DomainState, FakeLibvirtd, Procedure, ReplyFault, Scenario, Template, Times};
use uuid::Uuid;

/// A fake daemon with running domains `vm-0`, `vm-1` and so on.
pub(crate) fn daemon(domains: usize) -> FakeLibvirtd {
    FakeLibvirtd::start(Scenario::builder().domains(domains, Template::small()).build()).expect("a fake daemon")
}

/// A configuration of this daemon, with these sections.
pub(crate) fn configuration(daemon: &FakeLibvirtd, sections: &str) -> Config {
    let text = format!("libvirt: {{uri: '{}'}}\n{sections}", daemon.uri());
    config::parse(&text, "test").expect("a valid configuration")
}

/// Time enough for a collection that waits for nothing: one that takes half of it has waited.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A collector that is asked from a test.
pub(crate) struct Scraper {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) collector: Arc<Collector>,
    pub(crate) deadline: Duration,
}

impl Scraper {
    /// `more` is appended to the section `collection` of its configuration.
    pub(crate) fn new(daemon: &FakeLibvirtd, more: &str) -> Self {
        Self::configured(daemon, &format!("collection: {{deadline: {}s{more}}}\n", DEADLINE.as_secs()))
    }

    /// The same, less patient: for what waits until the deadline.
    pub(crate) fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// With these sections of a configuration.
    pub(crate) fn configured(daemon: &FakeLibvirtd, sections: &str) -> Self {
        Self::start(&configuration(daemon, sections))
    }

    /// With this configuration.
    pub(crate) fn start(config: &Config) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let collector = Collector::start(config).expect("a thread");
        Self { runtime, collector: Arc::new(collector), deadline: config.collection.deadline }
    }

    /// Makes the calls of one collection slow, so that it needs every worker; each lists the domains once, for its handles.
    /// Then waits until every definition has been read: what comes after is the steady state.
    pub(crate) fn start_all_workers(&self, daemon: &FakeLibvirtd) {
        let slow = ReplyFault::Delay(Duration::from_millis(200));
        daemon.faults().reply(Procedure::ConnectGetAllDomainStats, slow, Times::Always);
        self.until("every worker has been needed", |_| daemon.counters().open_connections() >= 6);
        daemon.faults().clear_replies();
        self.until("every definition has been read", |scrape| scrape.collection.snapshot.metadata_pending == 0);
    }

    /// One collection of everything.
    pub(crate) fn scrape(&self) -> Scrape {
        let started = Instant::now();
        let collection = self.runtime.block_on(self.collector.collect(self.deadline, Selection::default()));
        Scrape { collection, took: started.elapsed() }
    }

    /// Scrapes until `good` is satisfied, for a minute at most.
    pub(crate) fn until(&self, what: &str, good: impl Fn(&Scrape) -> bool) -> Scrape {
        let started = Instant::now();
        loop {
            let scrape = self.scrape();
            if good(&scrape) {
                return scrape;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{what}: {}", scrape.shortfall());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A domain: name, UUID, id, state, and whether it is defined.
pub(crate) type Row = (String, Uuid, Option<u32>, &'static str, Option<bool>);

/// The domains that the daemon has.
pub(crate) fn rows_of(daemon: &FakeLibvirtd) -> BTreeSet<Row> {
    let state = |domain: &Domain| match domain.state {
        DomainState::Running => "running",
        DomainState::Paused => "paused",
        DomainState::Shutoff => "shutoff",
        _ => "other",
    };
    let row = |domain: Domain| (domain.name.clone(), domain.uuid, domain.id, state(&domain), Some(domain.persistent));
    daemon.domains().names().iter().filter_map(|name| daemon.domains().get(name)).map(row).collect()
}

/// A collection, and how long the scraper waited for it.
pub(crate) struct Scrape {
    pub(crate) collection: Arc<Collection>,
    pub(crate) took: Duration,
}

impl Scrape {
    /// The domains that are known.
    pub(crate) fn rows(&self) -> BTreeSet<Row> {
        let row = |known: &Arc<domains::Domain>| {
            let Identity { name, uuid, id } = known.identity.clone();
            (name, uuid, id, known.state.as_str(), known.flags.map(|flags| flags.persistent))
        };
        self.collection.snapshot.domains.iter().map(row).collect()
    }

    /// What is known of a domain.
    pub(crate) fn known(&self, name: &str) -> Option<&domains::Domain> {
        self.collection.snapshot.domains.iter().map(AsRef::as_ref).find(|known| known.identity.name == name)
    }

    /// What is wrong with it, for the message of a test that failed.
    pub(crate) fn shortfall(&self) -> String {
        let Collection { error, snapshot, domains, .. } = &*self.collection;
        let known = snapshot.domains.len();
        let incomplete: Vec<_> = domains.iter().filter(|domain| !domain.is_complete()).collect();
        let idle: Vec<_> = snapshot.domains.iter().filter(|known| !known.is_active()).collect();
        let (error, took) = (error.as_ref().map(ToString::to_string), self.took);
        format!("took {took:?}, error {error:?}, {known} domains known, incomplete {incomplete:?}, not active {idle:?}")
    }

    /// How many domains are complete.
    pub(crate) fn complete(&self) -> usize {
        self.collection.domains.iter().filter(|domain| domain.is_complete()).count()
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
