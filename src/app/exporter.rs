//! Where the stages meet: a request in, families out.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use crate::collect::{Collection, Collector, Quarantined, Selection, SelectionTimings, Shortcomings, Standing};
use crate::config::{Config, Group};
use crate::domains::Snapshot;
use crate::encode::Format;
use crate::libvirt::{Identity, LibvirtError, Records, Versions};
use crate::metrics::self_metrics::{Facts, PushCounts};
use crate::metrics::{Families, FamilyBuilder, Lifetimes, Taken, domain_metrics, self_metrics};
use crate::push::Journal;

/// The exporter behind all commands: it collects on request and builds what is to be shown.
#[derive(Debug)]
pub struct Exporter {
    /// Replaced as a whole by a reload; a scrape goes on with what it began with.
    settings: RwLock<Arc<Settings>>,
    duplicate_samples: AtomicU64,
    http_requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    last: Mutex<Option<Arc<Last>>>,
    efforts: SelectionTimings,
    reload_fault: Mutex<Option<String>>,
    started: SystemTime,
    reloaded: Mutex<SystemTime>,
    web_config_good: AtomicBool,
    pushes: Arc<Journal>,
    /// What scrapers have seen, in the formats that say since when a counter counts.
    lifetimes: Mutex<Lifetimes>,
}

/// The last collection that anybody asked for, without its records: a large host has better use for their memory than to keep
/// them until the next ones have arrived.
#[derive(Debug)]
pub struct Last {
    /// Why libvirt could not be asked.
    pub error: Option<LibvirtError>,
    /// The versions behind the connection, once there has been one.
    pub versions: Option<Versions>,
    /// When it ended, and how long it took.
    pub took: (SystemTime, Duration),
    /// How many domains are in which state.
    pub domains: Vec<(&'static str, u64)>,
    /// The domains in quarantine.
    pub quarantined: Vec<(Identity, Quarantined)>,
    /// How many parameters each group has in it, the largest group first.
    pub parameters: Vec<(Group, usize)>,
}

impl Last {
    fn of(collection: &Collection) -> Self {
        let in_quarantine = collection.domains.iter();
        let in_quarantine = in_quarantine.filter_map(|domain| Some((domain.identity.clone(), domain.quarantined?)));
        let mut parameters: Vec<(Group, usize)> = collection.parameters.clone().into_iter().collect();
        parameters.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self {
            error: collection.error.clone(),
            versions: collection.versions.clone(),
            took: (collection.at, collection.duration),
            domains: self_metrics::domains_by_state(collection),
            quarantined: in_quarantine.collect(),
            parameters,
        }
    }
}

/// What depends on the configuration.
#[derive(Debug)]
struct Settings {
    config: Arc<Config>,
    collector: Arc<Collector>,
    builder: FamilyBuilder,
}

impl Settings {
    fn new(config: Config, collector: Arc<Collector>) -> Arc<Self> {
        Arc::new(Self { builder: FamilyBuilder::new(&config), config: Arc::new(config), collector })
    }
}

impl Exporter {
    /// Starts the threads that talk to libvirt.
    ///
    /// # Errors
    /// If the operating system has no thread left.
    pub fn start(config: &Config) -> io::Result<Arc<Self>> {
        let started = SystemTime::now();
        let collector = Arc::new(Collector::start(config)?);
        Ok(Arc::new(Self {
            settings: RwLock::new(Settings::new(config.clone(), collector)),
            duplicate_samples: AtomicU64::new(0),
            http_requests: Mutex::default(),
            last: Mutex::default(),
            efforts: SelectionTimings::default(),
            started,
            reload_fault: Mutex::default(),
            reloaded: Mutex::new(started),
            web_config_good: AtomicBool::new(true),
            pushes: Arc::default(),
            lifetimes: Mutex::default(),
        }))
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration in effect.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings().config)
    }

    /// Goes on with `config`, but for the URI, which stays. Collections that have begun end as they began.
    pub fn reload(&self, config: Config) {
        let collector = Arc::clone(&self.settings().collector);
        collector.reconfigure(&config);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Settings::new(config, collector);
    }

    /// Remembers how a reload went.
    pub fn note_reload(&self, fault: Option<&String>) {
        if fault.is_none() {
            *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
        }
        *self.reload_fault.lock().unwrap_or_else(PoisonError::into_inner) = fault.cloned();
    }

    /// Why the last reload changed nothing.
    #[must_use]
    pub fn reload_fault(&self) -> Option<String> {
        self.reload_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers whether the web configuration file as it is now is in effect.
    pub fn set_web_config_good(&self, good: bool) {
        self.web_config_good.store(good, Ordering::Relaxed);
    }

    /// How pushes go.
    #[must_use]
    pub fn pushes(&self) -> &Arc<Journal> {
        &self.pushes
    }

    /// Counts an answered HTTP request.
    pub fn count_request(&self, route: &'static str, code: u16) {
        let mut requests = self.http_requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, code)).or_default() += 1;
    }

    /// One collection of what `selection` wants; `timeout` is how long the caller waits at the most.
    pub async fn collect(&self, timeout: Option<Duration>, selection: &Selection) -> Arc<Collection> {
        let collection = self.settings().collector.collect(timeout, selection.clone()).await;
        self.efforts.note(selection, &collection);
        collection
    }

    /// One collection for a command that makes no other: the domains' definitions, which a server reads little by little between
    /// scrapes, are waited for.
    pub async fn collect_once(&self) -> Arc<Collection> {
        let collector = Arc::clone(&self.settings().collector);
        collector.collect_once().await
    }

    /// The landing page shows the whole, as far as anybody asks for it.
    fn remember(&self, collection: &Collection, selection: &Selection) {
        let seen = Arc::new(Last::of(collection));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let less = !selection.is_everything() && seen.error.is_none();
        if !less || last.as_ref().is_none_or(|last| last.error.is_some()) {
            *last = Some(seen);
        }
    }

    /// Who exists, with the definitions and, where the service discovery is on, the addresses of all who can have any; `timeout`
    /// is how long the caller waits at the most.
    ///
    /// A domain that could not be looked at in that time stays [`Definition::Pending`](crate::domains::Definition::Pending),
    /// or without addresses.
    ///
    /// # Errors
    /// If libvirt is away.
    pub async fn discover(&self, timeout: Option<Duration>) -> Result<Arc<Snapshot>, LibvirtError> {
        let settings = self.settings();
        settings.collector.discover(timeout, settings.config.service_discovery.enabled).await
    }

    /// What was shown last.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the collections of each selection took.
    #[must_use]
    pub fn efforts(&self) -> &SelectionTimings {
        &self.efforts
    }

    /// How it stands with libvirt; see [`Collector::standing`].
    pub async fn standing(&self) -> Option<Standing> {
        let collector = Arc::clone(&self.settings().collector);
        collector.standing().await
    }

    /// What the daemon turned out not to know.
    #[must_use]
    pub fn shortcomings(&self) -> Shortcomings {
        self.settings().collector.stats().shortcomings
    }

    /// The families that are shown in `format`, as [`Exporter::families`] has them.
    #[must_use]
    pub fn exposition(&self, collection: &Collection, selection: &Selection, format: Format) -> Families {
        let mut families = self.families(collection, selection);
        if format.shows_starts(&families) {
            let mut lifetimes = self.lifetimes.lock().unwrap_or_else(PoisonError::into_inner);
            lifetimes.follow(&mut families, &taken(collection));
        }
        families
    }

    /// The families that `selection` wants of a collection, the exporter's own in front; it is the last one from then on.
    /// Their starts are those of whole domains and devices: the readers of the samples follow each series. Takes a while for many domains: not for async threads.
    #[must_use]
    pub fn families(&self, collection: &Collection, selection: &Selection) -> Families {
        self.remember(collection, selection);
        let settings = self.settings();
        // KVM's statistics of vCPUs come with those of libvirt, asked for or not.
        let narrowed: Vec<Records> = match &selection.groups {
            Some(_) => collection.records().into_iter().map(|records| selection.of(records)).collect(),
            None => Vec::new(),
        };
        let records = if selection.groups.is_some() { narrowed.iter().collect() } else { collection.records() };
        let in_chain = |uuid, disk: &str, image| collection.targets.is_in_chain(uuid, disk, image);
        let mut built = settings.builder.build_with(&records, &in_chain);
        let subjects = collection.domains.iter().map(|status| {
            let identity = &status.identity;
            (settings.builder.subject(&mut built, &identity.name, identity.uuid), status)
        });
        let domains = subjects.collect();
        domain_metrics::append(&mut built, &settings.builder, &settings.config, collection, selection);
        let duplicates = self.duplicate_samples.fetch_add(built.duplicates, Ordering::Relaxed);
        let pushes = self.pushes.stats();
        let facts = Facts {
            collection,
            domains,
            collector: settings.collector.stats(),
            unmapped_keys: built.unmapped_keys,
            duplicate_samples: duplicates + built.duplicates,
            http_requests: self.http_requests.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            push: pushes.map(|stats| PushCounts { exports: stats.exports, rejected_points: stats.rejected_points }),
            config_good: self.reload_fault().is_none() && self.web_config_good.load(Ordering::Relaxed),
            started: self.started,
            config_reloaded: *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let mut families = built.families;
        self_metrics::prepend(&mut families, &facts);
        families.openmetrics_created = settings.config.web.openmetrics_created;
        families
    }
}

/// When the values of a collection were taken.
#[must_use]
pub fn taken(collection: &Collection) -> Taken {
    Taken { span: collection.span(), at: collection.at }
}
