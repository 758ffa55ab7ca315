//! From a request to families.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};

use crate::app::body_cache::{BodyCache, RenderError, Wanted};
use crate::app::reload::ConfigStatus;
use crate::app::status::Summary;
use crate::app::targets::Targets;
use crate::collect::{
    Collection, Collector, CollectorStats, ProbeStatus, Reading, Selection, SelectionTimings, Shortcomings, Standing,
};
use crate::config::{Config, MetricNaming};
use crate::domains::Snapshot;
use crate::encode::{Coding, Exposition, Format};
use crate::libvirt::{ErrorClass, LibvirtError, Records, give_back_free_pages};
use crate::metrics::self_metrics::{Facts, ProcessFacts, PushCounts};
use crate::metrics::{self, Families, FamilyBuilder, Lifetimes, Taken, domain_metrics, self_metrics};
use crate::push::{Journal, PushStats};
use crate::web::{self, Content, Form, Security};

/// An exposition of at most this many bytes is one body, with a length.
const SMALL: usize = 1 << 20;
/// After one that is larger, what its collection has taken is given back.
const LARGE: usize = 16 << 20;

/// Collects from one daemon on request and builds families of it; every command has one, and each target of `/probe`.
#[derive(Debug)]
pub struct Exporter {
    /// `None` if there is no local daemon.
    collector: Option<Collector>,
    /// The name of the target; `None` for the local daemon, with which go the facts of the process.
    target: Option<String>,
    /// Replaced as a whole by a reload; a scrape goes on with what it began with.
    settings: RwLock<Arc<Settings>>,
    started: SystemTime,
    pub(super) config_status: ConfigStatus,
    duplicate_samples: AtomicU64,
    http_requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    last: Mutex<Option<Arc<Summary>>>,
    timings: SelectionTimings,
    pushes: Arc<Journal>,
    bodies: Arc<BodyCache>,
    /// The other daemons, for a service.
    pub(super) targets: OnceLock<Arc<Targets>>,
    /// What scrapers have seen, in the formats that say since when a counter counts.
    lifetimes: Mutex<Lifetimes>,
}

/// The journal's counts, as the families have them.
fn push_counts(stats: PushStats) -> PushCounts {
    let exports = stats.exports.iter().map(|(outcome, count)| (outcome.as_str(), *count)).collect();
    PushCounts { exports, rejected_points: stats.rejected_points }
}

/// A collection on its way to a format.
#[derive(Debug, Clone)]
pub struct Collected {
    /// The collection.
    pub collection: Arc<Collection>,
    /// The selection of the request.
    pub selection: Selection,
    /// What the landing page shows of it.
    pub summary: Arc<Summary>,
    /// The settings that it was asked for with, and is shown by.
    pub(super) settings: Arc<Settings>,
}

impl Collected {
    pub(super) fn new(
        settings: Arc<Settings>,
        collection: Arc<Collection>,
        selection: Selection,
        states: Vec<(&'static str, u64)>,
    ) -> Self {
        let summary = Arc::new(Summary::of(&collection, states));
        Self { collection, selection, summary, settings }
    }

    /// Counts the domains by state, which takes milliseconds where there are many: not on a thread that serves.
    async fn count(settings: Arc<Settings>, collection: Arc<Collection>, selection: Selection) -> Self {
        let counted = Arc::clone(&collection);
        let states = tokio::task::spawn_blocking(move || self_metrics::domains_by_state(&counted)).await;
        // Without them after a panic, which is in the log.
        Self::new(settings, collection, selection, states.unwrap_or_default())
    }

    /// When the values were taken.
    #[must_use]
    pub fn taken(&self) -> Taken {
        Taken { span: self.collection.span(), at: self.collection.at }
    }
}

/// What depends on the configuration.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: Arc<Config>,
    builder: FamilyBuilder,
}

impl Settings {
    pub(super) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { builder: FamilyBuilder::new(&config), config: Arc::new(config) })
    }
}

impl Exporter {
    /// Starts the threads that talk to libvirt. `security` is the web configuration, for a server.
    ///
    /// # Errors
    /// If the operating system has no thread left.
    pub fn start(config: &Config, security: Option<Arc<Security>>) -> io::Result<Arc<Self>> {
        Self::start_as(config, None, security)
    }

    /// Likewise, for a daemon that is the `target` of this name.
    ///
    /// # Errors
    /// As [`Exporter::start`].
    pub fn start_target(config: &Config, target: &str) -> io::Result<Arc<Self>> {
        Self::start_as(config, Some(target.to_owned()), None)
    }

    fn start_as(config: &Config, target: Option<String>, security: Option<Arc<Security>>) -> io::Result<Arc<Self>> {
        let started = SystemTime::now();
        let start = || Collector::start_for(config, target.as_deref());
        let collector = if config.libvirt.uri.is_none() { None } else { Some(start()?) };
        Ok(Arc::new(Self {
            collector,
            target,
            bodies: Arc::default(),
            targets: OnceLock::new(),
            settings: RwLock::new(Settings::new(config.clone())),
            started,
            config_status: ConfigStatus::new(security, started),
            duplicate_samples: AtomicU64::new(0),
            http_requests: Mutex::default(),
            last: Mutex::default(),
            timings: SelectionTimings::default(),
            pushes: Arc::default(),
            lifetimes: Mutex::new(Lifetimes::of_scrapes()),
        }))
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    /// The configuration in effect.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings().config)
    }

    /// When the exporter started.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Goes on with `config`, but for the URI, which stays. Collections that have begun end as they began.
    pub fn reload(&self, config: Config) {
        if let Some(collector) = &self.collector {
            collector.reconfigure(&config);
        }
        *self.settings.write() = Settings::new(config);
    }

    /// How pushes go.
    #[must_use]
    pub fn pushes(&self) -> &Arc<Journal> {
        &self.pushes
    }

    /// Counts an answered HTTP request.
    pub fn count_request(&self, route: &'static str, code: u16) {
        let mut requests = self.http_requests.lock();
        *requests.entry((route, code)).or_default() += 1;
    }

    /// One collection of what `selection` wants, which takes `collection.deadline` at the most, or `within` that time.
    pub async fn collect(&self, within: Option<Duration>, selection: Selection) -> Collected {
        let settings = self.settings();
        let deadline = settings.config.collection.deadline;
        let within = within.map_or(deadline, |within| within.min(deadline));
        let collection = match &self.collector {
            Some(collector) => collector.collect(within, selection.clone()).await,
            None => Arc::new(Collection::empty(SystemTime::now(), Instant::now())),
        };
        self.timings.note(&selection, &collection);
        let collected = Collected::count(settings, collection, selection).await;
        self.remember(&collected);
        collected
    }

    /// One collection for a command that makes no other: it waits for the domains' definitions, which a server reads little by
    /// little between scrapes.
    pub async fn collect_once(&self) -> Collected {
        let settings = self.settings();
        let collection = match &self.collector {
            Some(collector) => collector.collect_once(settings.config.collection.deadline).await,
            None => Arc::new(Collection::empty(SystemTime::now(), Instant::now())),
        };
        Collected::count(settings, collection, Selection::default()).await
    }

    /// Keeps the widest of the recent selections for the landing page.
    fn remember(&self, collected: &Collected) {
        let mut last = self.last.lock();
        let narrow = !collected.selection.is_everything() && collected.summary.error.is_none();
        if !narrow || last.as_ref().is_none_or(|last| last.error.is_some()) {
            *last = Some(Arc::clone(&collected.summary));
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
        let config = self.config();
        let deadline = config.collection.deadline;
        let within = timeout.map_or(deadline, |timeout| config.collection.within(timeout).min(deadline));
        match &self.collector {
            Some(collector) => collector.domains(within, config.service_discovery.enabled).await,
            None => {
                let message = "libvirt.uri is empty: there is no local daemon";
                Err(LibvirtError::own("cannot list the domains", ErrorClass::BadUri, message))
            }
        }
    }

    /// The last collection.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Summary>> {
        self.last.lock().clone()
    }

    /// How long the collections of each selection took.
    #[must_use]
    pub fn timings(&self) -> &SelectionTimings {
        &self.timings
    }

    /// The state of the connection to libvirt; see [`Collector::standing`].
    pub async fn standing(&self) -> Option<Standing> {
        match &self.collector {
            Some(collector) => collector.standing().await,
            None => Some(Standing::None),
        }
    }

    /// The name of its target; `None` for the local daemon.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Whether there is a daemon to collect from.
    #[must_use]
    pub fn has_daemon(&self) -> bool {
        self.collector.is_some()
    }

    fn stats(&self) -> CollectorStats {
        self.collector.as_ref().map(Collector::stats).unwrap_or_default()
    }

    /// The body of an exposition of what was collected, shared with others that want the same.
    ///
    /// # Errors
    /// If it cannot be built or compressed.
    pub(super) async fn render(self: &Arc<Self>, collected: Collected, form: Form) -> Result<Content, RenderError> {
        let exporter = Arc::clone(self);
        let render = move |Wanted { collected, form: Form { format, coding, naming } }: Wanted| {
            let families = exporter.exposition(&collected, format, naming);
            // Records, families and body together would be too much on a large host.
            drop(collected);
            let exposition = Exposition::new(format, families);
            if exposition.estimate() > LARGE {
                give_back_free_pages();
            }
            if coding == Coding::Identity && exposition.estimate() > SMALL {
                return Ok(Content::Pieces(Arc::new(exposition)));
            }
            let body = exposition.compress(coding);
            let failed = |source| RenderError::NotCompressed { source: Arc::new(source) };
            body.map(|body| Content::Whole(body.into())).map_err(failed)
        };
        self.bodies.body(Wanted { collected, form }, render).await
    }

    /// How the last round of each probe went.
    pub(super) fn probes(&self) -> Vec<web::Probe> {
        let probes = self.stats().probes;
        let shown = |(name, status): (&'static str, ProbeStatus)| {
            let ProbeStatus { success, duration: took } = status;
            web::Probe { name, took, success }
        };
        probes.into_iter().map(shown).collect()
    }

    /// What the daemon does not support.
    #[must_use]
    pub fn shortcomings(&self) -> Shortcomings {
        self.stats().shortcomings
    }

    /// The families as `format` shows them under the names of `naming`: [`Exporter::families`], with the starts of single series
    /// where it has any.
    #[must_use]
    pub fn exposition(&self, collected: &Collected, format: Format, naming: MetricNaming) -> Families {
        let mut families = self.families(collected);
        if format.shows_starts(&families) {
            let mut lifetimes = self.lifetimes.lock();
            lifetimes.follow(&mut families, &collected.taken());
        }
        let Collected { selection, settings, .. } = collected;
        let collects = |group| settings.config.collection.groups.contains(&group) && selection.wants(group);
        metrics::translate(families, naming, settings.config.metrics.naming_only, &collects)
    }

    /// The families that the selection wants of the collection, the exporter's own in front. Their starts are those of whole
    /// domains and devices: the readers of the samples follow each series. Takes a while for many domains: not for async threads.
    #[must_use]
    pub fn families(&self, collected: &Collected) -> Families {
        let Collected { collection, selection, summary, settings } = collected;
        // KVM's statistics of vCPUs come with those of libvirt, asked for or not.
        let narrowed: Vec<Records> = match &selection.groups {
            Some(_) => collection.records().into_iter().map(|records| selection.of(records)).collect(),
            None => Vec::new(),
        };
        let records = if selection.groups.is_some() { narrowed.iter().collect() } else { collection.records() };
        let in_chain = |uuid, disk: &str, image| collection.snapshot.is_in_chain(uuid, disk, image);
        let readings: Vec<&Reading> = collection.readings.iter().collect();
        let mut built = settings.builder.build_with(&records, &readings, &in_chain);
        let subjects = collection.domains.iter().map(|status| {
            let identity = &status.identity;
            (settings.builder.subject(&mut built, &identity.name, identity.uuid), status)
        });
        let domains = subjects.collect();
        domain_metrics::append(&mut built, &settings.builder, &settings.config, collection, selection);
        let domains_known = collection.snapshot.domains.iter().map(AsRef::as_ref);
        metrics::rename(&mut built, &settings.config.domains.name_from, domains_known);
        let duplicates = self.duplicate_samples.fetch_add(built.duplicates, Ordering::Relaxed);
        let facts = Facts {
            collection,
            domains_by_state: &summary.domains,
            domains,
            collector: self.stats(),
            unmapped_keys: built.unmapped_keys,
            duplicate_samples: duplicates + built.duplicates,
            has_daemon: self.has_daemon(),
            started: self.started,
            process: self.target.is_none().then(|| self.process_facts()),
        };
        let mut families = built.families;
        self_metrics::prepend(&mut families, &facts);
        families.openmetrics_created = settings.config.web.openmetrics_created;
        families.timestamps = settings.config.web.timestamps;
        families
    }

    fn process_facts(&self) -> ProcessFacts {
        ProcessFacts {
            http_requests: self.http_requests.lock().clone(),
            push: self.pushes.stats().map(push_counts),
            targets: self.targets.get().and_then(|targets| targets.counts()),
            config_good: self.config_status.fault().is_none(),
            config_reloaded: self.config_status.succeeded(),
        }
    }
}
