//! Schedules libvirt calls; isolates hung guests and daemons: one frozen guest must not blind the host, and a frozen daemon
//! must not blind the scraper.
//!
//! A collection happens on demand, never on a timer. The domains are listed, divided into batches (`plan`) and asked for
//! by several workers, each a thread with its own connection (`worker`, `pool`), because no libvirt call can be
//! cancelled and connections are best not shared. What is asked is declared in [`probes`](crate::probes).
//!
//! All decisions are made by the `scheduler`, which is pure: messages and time in, actions out. The `engine` is the loop
//! around it, with the threads, the clock and the replies; it makes no libvirt call, so it answers at a scraper's deadline
//! with what has arrived (`run`). Domains whose hypervisor does not answer are kept from harming others (`quarantine`); a
//! daemon that does not answer is told from that by questions that it serves without waiting for any hypervisor (`control`,
//! `connection`).

mod background;
mod batch;
mod busy;
mod by_probe;
mod collection;
mod completeness;
mod connection;
mod control;
mod domain_state;
mod engine;
mod merge;
mod message;
mod notice;
mod plan;
mod pool;
mod quarantine;
mod reading;
mod resync;
mod run;
mod scheduler;
mod selection;
mod stats;
mod summary;
mod timing;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::sync::oneshot;

pub use collection::{Collection, DomainStatus, Missing, MissingReason};
pub use connection::Standing;
pub use quarantine::{Cause, Quarantined};
pub use reading::{ProbeStatus, Reading};
pub use selection::Selection;
pub use stats::{CollectorStats, Shortcomings};
pub use timing::{SelectionTiming, SelectionTimings};

use crate::config::Config;
use crate::domains::Snapshot;
use crate::libvirt::{ErrorClass, LibvirtError};
use engine::{Engine, Incoming};
use message::Message;
use parking_lot::Mutex;

/// Asks libvirt on request.
#[derive(Debug)]
pub struct Collector {
    messages: mpsc::Sender<Incoming>,
    stats: Arc<Mutex<CollectorStats>>,
    /// Collections that the engine did not answer.
    unanswered: AtomicU64,
}

impl Collector {
    /// Starts the engine's thread, which begins to connect.
    ///
    /// # Errors
    /// If the operating system has no thread left.
    pub fn start(config: &Config) -> io::Result<Self> {
        Self::start_for(config, None)
    }

    /// Likewise, for a daemon that is the `target` of this name in the log.
    ///
    /// # Errors
    /// As [`Collector::start`].
    pub fn start_for(config: &Config, target: Option<&str>) -> io::Result<Self> {
        let (messages, incoming) = mpsc::channel();
        let stats = Arc::new(Mutex::new(CollectorStats::default()));
        let engine = Engine::new(config.clone(), target, Arc::clone(&stats), messages.clone(), incoming);
        thread::Builder::new().name("collector".into()).spawn(move || engine.run())?;
        Ok(Self { messages, stats, unanswered: AtomicU64::new(0) })
    }

    /// Goes on with other settings; the URI stays what it was. Collections that have begun end as they began.
    pub fn reconfigure(&self, config: &Config) {
        // An engine that is gone has nothing to go on with.
        let _gone = self.messages.send(Incoming::Tell(Message::Reconfigure(Box::new(config.clone()))));
    }

    /// The set of domains: as soon as every definition has been read and, with `addresses`, every domain been located; after
    /// the time `within` with what has been read by then.
    ///
    /// # Errors
    /// Those of a connection that does not stand, or [`ErrorClass::TimedOut`].
    pub async fn domains(&self, within: Duration, addresses: bool) -> Result<Arc<Snapshot>, LibvirtError> {
        let deadline = Instant::now() + within;
        let (reply, answer) = oneshot::channel();
        let _gone = self.messages.send(Incoming::Domains { addresses, deadline, reply });
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    /// One collection of what `selection` wants, shared with requests for the same that come before it ends. What has not arrived
    /// `within` that time is missing.
    pub async fn collect(&self, within: Duration, selection: Selection) -> Arc<Collection> {
        /// What the engine may be late by.
        const GRACE: Duration = Duration::from_secs(1);
        let asked = Instant::now();
        let (reply, answer) = oneshot::channel();
        // An engine that is gone drops the request, and the answer is an error at once.
        let _gone = self.messages.send(Incoming::Collect { selection, deadline: asked + within, reply });
        if let Ok(Ok(collection)) = tokio::time::timeout(within + GRACE, answer).await {
            return collection;
        }
        let error = self.ended();
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        Arc::new(Collection::failed(error, asked.elapsed()))
    }

    /// One collection of everything with all definitions, for a program that makes no other. Where the set of domains is not
    /// known in time, the daemon is not waited for a second time, and the failure counts once.
    pub async fn collect_once(&self, within: Duration) -> Arc<Collection> {
        let asked = Instant::now();
        match self.domains(within, false).await {
            Ok(_) => self.collect(within, Selection::default()).await,
            Err(error) => Arc::new(Collection::failed(error, asked.elapsed())),
        }
    }

    /// The state of the connection, as the engine has it: it answers at once, or is stuck. `None` if its thread has ended.
    pub async fn standing(&self) -> Option<Standing> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Incoming::Status { reply }).ok()?;
        answer.await.ok()
    }

    /// What has been counted so far.
    #[must_use]
    pub fn stats(&self) -> CollectorStats {
        let mut stats = self.stats.lock().clone();
        for _ in 0..self.unanswered.load(Ordering::Relaxed) {
            stats.count_failure(ErrorClass::TimedOut);
        }
        stats
    }

    fn ended(&self) -> LibvirtError {
        let message = "the thread that coordinates collections is busy, or has ended";
        LibvirtError::own("cannot collect statistics", ErrorClass::TimedOut, message)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // An engine that has ended needs no telling.
        let _gone = self.messages.send(Incoming::Stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(8);

    fn test_driver() -> Config {
        crate::config::parse("libvirt: {uri: 'test:///default'}", "test").expect("a valid configuration")
    }

    #[tokio::test]
    async fn concurrent_requests_are_all_answered() {
        let collector = Collector::start(&test_driver()).expect("a thread");
        let everything = Selection::default;
        let (first, second) =
            tokio::join!(collector.collect(WITHIN, everything()), collector.collect(WITHIN, everything()));
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
        let collection = collector.collect(WITHIN, Selection::default()).await;
        let error = collection.error.as_ref().expect("an error");
        assert_eq!(error.class, ErrorClass::ConnectFailed);
        assert!(error.to_string().contains("/nonexistent/libvirt-sock"), "{error}");
    }
}
