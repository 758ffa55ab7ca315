//! When to ask libvirt what: one frozen guest must not blind the host, and a frozen daemon must not blind the scraper.
//!
//! A collection happens on demand, never on a timer. The domains are listed, divided into batches (`plan`) and asked for
//! by several workers, each a thread with a connection of its own (`worker`, `pool`), because no libvirt call can be
//! cancelled and connections are best not shared. The `coordinator` makes no libvirt call itself: whatever happens, it
//! answers at a scraper's deadline with what has arrived (`flight`). Domains whose hypervisor does not answer are kept
//! from harming others (`quarantine`); a daemon that does not answer is told from that by questions that it serves
//! without waiting for any hypervisor (`link`).

mod busy;
mod complete;
mod coordinator;
mod effort;
mod flight;
mod link;
mod plan;
mod pool;
mod quarantine;
mod reading;
mod relist;
mod selection;
mod shape;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use tokio::sync::oneshot;

pub use coordinator::Shortcomings;
pub use effort::{Effort, Efforts};
pub use link::Standing;
pub use quarantine::{Cause, Quarantined};
pub use selection::Selection;

use crate::config::{self, Config, Group};
use crate::domains::Snapshot;
use crate::libvirt::{ErrorClass, Identity, LibvirtError, Records, Versions};
use coordinator::{Coordinator, Discovery, Message};

/// What one collection found.
#[derive(Debug, Clone)]
pub struct Collection {
    /// The records that arrived, a batch each.
    pub batches: Vec<Arc<Records>>,
    /// How many parameters of each group are in them; those of no group are left out.
    pub parameters: BTreeMap<Group, usize>,
    /// The running and paused domains, by UUID; also those without a record.
    pub domains: Vec<DomainStatus>,
    /// The versions behind the connection, once there has been one.
    pub versions: Option<Versions>,
    /// When the collection ended.
    pub at: SystemTime,
    /// The same moment on the clock that is never set.
    pub ended: Instant,
    /// How long it took.
    pub duration: Duration,
    /// Calls for statistics that it took.
    pub calls: usize,
    /// Who exists, with definitions and what has happened; without domains where there is an error.
    pub targets: Arc<Snapshot>,
    /// Why libvirt could not be asked.
    pub error: Option<LibvirtError>,
}

impl Collection {
    /// The records of all batches.
    #[must_use]
    pub fn records(&self) -> Vec<&Records> {
        self.batches.iter().map(AsRef::as_ref).collect()
    }

    /// From its beginning to its end: its values are from between.
    #[must_use]
    pub fn span(&self) -> Range<Instant> {
        self.ended.checked_sub(self.duration).unwrap_or(self.ended)..self.ended
    }

    fn failed(error: LibvirtError, duration: Duration) -> Self {
        let (batches, parameters, domains) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (at, ended, targets) = (SystemTime::now(), Instant::now(), Arc::default());
        Self {
            batches,
            parameters,
            domains,
            versions: None,
            at,
            ended,
            duration,
            calls: 0,
            targets,
            error: Some(error),
        }
    }
}

/// How a running domain fared in a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainStatus {
    /// Who it is.
    pub identity: Identity,
    /// What has not arrived of all that was asked for.
    pub missing: Option<Missing>,
    /// Since when and why its hypervisor is left alone.
    pub quarantined: Option<Quarantined>,
}

impl DomainStatus {
    /// Whether all that was asked for has arrived, what needs its hypervisor included.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_none()
    }
}

/// What a collection lacks of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The groups that are not there, or not all of them.
    pub groups: BTreeSet<Group>,
    /// Why.
    pub reason: MissingReason,
}

/// Why a collection lacks statistics of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingReason {
    /// Another client or a job of libvirt, such as a dump, held the domain each time that it was asked.
    Busy,
    /// The domain is in quarantine.
    Quarantined,
    /// No answer came before the deadline.
    Deadline,
    /// libvirt answered with an error, or left the group out although it had the domain's job.
    Refused,
    /// As many calls as may be at a time wait for other domains that do not answer.
    StuckCalls,
}

impl MissingReason {
    /// For labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Quarantined => "quarantined",
            Self::Deadline => "deadline",
            Self::Refused => "refused",
            Self::StuckCalls => "stuck_calls",
        }
    }
}

/// What the collector counts.
#[derive(Debug, Clone, Default)]
pub struct CollectorStats {
    /// Failures by class; those of [`ErrorClass::Other`] stand under one.
    pub failures: Vec<(ErrorClass, u64)>,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// When libvirt was last collected from.
    pub last_success: Option<SystemTime>,
    /// Calls for statistics in the last collection.
    pub calls: usize,
    /// Calls that are waiting for a hypervisor that does not answer.
    pub stuck_calls: usize,
    /// Threads that own, or try to open, a connection.
    pub threads: usize,
    /// What the daemon turned out not to know.
    pub shortcomings: Shortcomings,
}

impl CollectorStats {
    fn count_failure(&mut self, class: ErrorClass) {
        let same = |known: &ErrorClass| known.as_str() == class.as_str();
        match self.failures.iter_mut().find(|(known, _)| same(known)) {
            Some((_, count)) => *count += 1,
            None => self.failures.push((class, 1)),
        }
    }
}

/// Asks libvirt on request.
#[derive(Debug)]
pub struct Collector {
    messages: mpsc::Sender<Message>,
    stats: Arc<Mutex<CollectorStats>>,
    patience: Mutex<Patience>,
}

/// How long a collection may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    deadline: Duration,
    timeout_offset: Duration,
}

impl Patience {
    fn of(config: &Config) -> Self {
        let config::Collection { deadline, timeout_offset, .. } = config.collection;
        Self { deadline, timeout_offset }
    }
}

impl Collector {
    /// Starts the thread that decides, which begins to connect.
    ///
    /// # Errors
    /// If the operating system has no thread left.
    pub fn start(config: &Config) -> io::Result<Self> {
        let (messages, incoming) = mpsc::channel();
        let stats = Arc::new(Mutex::new(CollectorStats::default()));
        let coordinator = Coordinator::new(config.clone(), Arc::clone(&stats), messages.clone(), incoming);
        thread::Builder::new().name("coordinator".into()).spawn(move || coordinator.run())?;
        Ok(Self { messages, stats, patience: Mutex::new(Patience::of(config)) })
    }

    /// Goes on with other settings; the URI stays what it was. Collections that have begun end as they began.
    pub fn reconfigure(&self, config: &Config) {
        *self.patience() = Patience::of(config);
        // A coordinator that is gone has nothing to go on with.
        let _gone = self.messages.send(Message::Reconfigure(Box::new(config.clone())));
    }

    fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who exists: as soon as every definition has been read and, with `addresses`, every domain been located; at the
    /// deadline with what is known by then. The deadline is that of a collection.
    ///
    /// # Errors
    /// Those of a connection that does not stand, or [`ErrorClass::TimedOut`].
    pub async fn discover(&self, timeout: Option<Duration>, addresses: bool) -> Result<Arc<Snapshot>, LibvirtError> {
        let deadline = Instant::now() + self.deadline_for(timeout);
        let (reply, answer) = oneshot::channel();
        let discovery = Discovery { addresses, deadline, reply };
        let _gone = self.messages.send(Message::Discover(discovery));
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// One collection of what `selection` wants, shared with everyone who asks for the same meanwhile. What has not arrived
    /// by the deadline is missing: the configured one, or `timeout`, the scraper's own, less the configured offset.
    pub async fn collect(&self, timeout: Option<Duration>, selection: Selection) -> Arc<Collection> {
        /// What the coordinator may be late by.
        const GRACE: Duration = Duration::from_secs(1);
        let allowed = self.deadline_for(timeout);
        let asked = Instant::now();
        let (reply, answer) = oneshot::channel();
        // A coordinator that is gone drops the request, and the answer is an error at once.
        let _gone = self.messages.send(Message::Request { selection, deadline: asked + allowed, reply });
        if let Ok(Ok(collection)) = tokio::time::timeout(allowed + GRACE, answer).await {
            return collection;
        }
        let error = self.ended();
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).count_failure(error.class);
        Arc::new(Collection::failed(error, asked.elapsed()))
    }

    /// One collection of everything with all definitions, for a program that makes no other. Where it is not known in time who
    /// exists, the daemon is not waited for a second time, and the failure counts once.
    pub async fn collect_once(&self) -> Arc<Collection> {
        let asked = Instant::now();
        match self.discover(None, false).await {
            Ok(_) => self.collect(None, Selection::default()).await,
            Err(error) => Arc::new(Collection::failed(error, asked.elapsed())),
        }
    }

    /// How it stands with the daemon, in the words of the thread that decides: it answers at once, or is stuck. `None` if
    /// that thread has ended.
    pub async fn standing(&self) -> Option<Standing> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Standing { reply }).ok()?;
        answer.await.ok()
    }

    /// What has been counted so far.
    #[must_use]
    pub fn stats(&self) -> CollectorStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&self) -> LibvirtError {
        let message = "the thread that coordinates collections is busy, or has ended";
        LibvirtError::own("cannot collect statistics", ErrorClass::TimedOut, message)
    }

    fn deadline_for(&self, timeout: Option<Duration>) -> Duration {
        let Patience { deadline, timeout_offset } = *self.patience();
        // Whoever allows less time than the offset gets half of what he allows.
        let scraper = timeout.map(|timeout| timeout.saturating_sub(timeout_offset).max(timeout / 2));
        scraper.map_or(deadline, |scraper| scraper.min(deadline))
    }
}

/// A time around `about`, so that many exporters, or many domains, do not all come at once.
fn jitter(about: Duration) -> Duration {
    about.mul_f64(0.75 + 0.5 * chance())
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let random = RandomState::default().build_hasher().finish() >> 32;
    f64::from(u32::try_from(random).unwrap_or(0)) / f64::from(u32::MAX)
}

impl Drop for Collector {
    fn drop(&mut self) {
        // A coordinator that has ended needs no telling.
        let _gone = self.messages.send(Message::Stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_driver() -> Config {
        crate::config::parse("libvirt: {uri: 'test:///default'}", "test").expect("a valid configuration")
    }

    #[tokio::test]
    async fn concurrent_requests_are_all_answered() {
        let collector = Collector::start(&test_driver()).expect("a thread");
        let everything = Selection::default;
        let (first, second) =
            tokio::join!(collector.collect(None, everything()), collector.collect(None, everything()));
        for collection in [first, second] {
            assert_eq!(collection.error, None);
            let names: Vec<_> = collection.domains.iter().map(|domain| domain.identity.name.as_str()).collect();
            assert_eq!(names, ["test"]);
            assert!(collection.domains.iter().all(DomainStatus::is_complete));
            assert!(collection.batches.iter().any(|records| records.domains().any(|domain| domain.name == "test")));
            let versions = collection.versions.as_ref().expect("versions");
            assert_eq!(versions.driver, "TEST");
        }
        assert!(collector.stats().last_success.is_some());
    }

    #[tokio::test]
    async fn a_missing_daemon_is_an_answer() {
        let config = "libvirt: {uri: 'qemu+unix:///system?socket=/nonexistent/libvirt-sock'}";
        let config = crate::config::parse(config, "test").expect("a valid configuration");
        let collector = Collector::start(&config).expect("a thread");
        let collection = collector.collect(None, Selection::default()).await;
        let error = collection.error.as_ref().expect("an error");
        assert_eq!(error.class, ErrorClass::ConnectFailed);
        assert!(error.to_string().contains("/nonexistent/libvirt-sock"), "{error}");
    }

    #[test]
    fn the_scrapers_timeout_lowers_the_deadline() {
        let collector = Collector::start(&test_driver()).expect("a thread");
        let seconds = Duration::from_secs_f64;
        for (timeout, deadline) in
            [(None, 8.0), (Some(10.0), 8.0), (Some(5.0), 4.5), (Some(0.6), 0.3), (Some(0.0), 0.0)]
        {
            assert_eq!(collector.deadline_for(timeout.map(seconds)), seconds(deadline), "{timeout:?}");
        }
    }
}
