//! When to ask libvirt what.
//!
//! A collection happens on demand, never on a timer. The connection belongs to a worker thread, because no libvirt call
//! can be cancelled; whoever waits for it keeps the deadline. Requests that come while the worker is busy share the
//! collection that follows.

mod selection;
mod worker;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use tokio::sync::oneshot;

use crate::config::Config;
use crate::libvirt::{ErrorClass, LibvirtError, Records, Versions};
pub use selection::{Selection, group_of};
use worker::Worker;

/// What one collection found.
#[derive(Debug, Clone)]
pub struct Collection {
    /// The records of all domains; empty after a failure.
    pub records: Records,
    /// The versions behind the connection, once there has been one.
    pub versions: Option<Versions>,
    /// When the collection ended.
    pub at: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed.
    pub error: Option<LibvirtError>,
}

/// What the collector counts.
#[derive(Debug, Clone, Default)]
pub struct CollectorStats {
    /// Failed collections by class; those of [`ErrorClass::Other`] stand under one.
    pub failures: Vec<(ErrorClass, u64)>,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// When a collection last succeeded.
    pub last_success: Option<SystemTime>,
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

type Request = oneshot::Sender<Arc<Collection>>;

/// Asks libvirt on request.
#[derive(Debug)]
pub struct Collector {
    requests: mpsc::Sender<Request>,
    stats: Arc<Mutex<CollectorStats>>,
    deadline: Duration,
    timeout_offset: Duration,
}

impl Collector {
    /// Starts the worker thread. It connects when the first collection is asked for.
    ///
    /// # Errors
    /// If the operating system has no thread left.
    pub fn start(config: &Config) -> io::Result<Self> {
        let (requests, incoming) = mpsc::channel();
        let stats = Arc::new(Mutex::new(CollectorStats::default()));
        let worker = Worker::new(config.clone(), Arc::clone(&stats));
        thread::Builder::new().name("libvirt-worker".into()).spawn(move || worker.run(&incoming))?;
        let (deadline, timeout_offset) = (config.collection.deadline, config.collection.timeout_offset);
        Ok(Self { requests, stats, deadline, timeout_offset })
    }

    /// One collection, or the news that there is none by the deadline: the configured one, or `timeout`, the scraper's
    /// own, less the configured offset.
    pub async fn collect(&self, timeout: Option<Duration>) -> Arc<Collection> {
        let deadline = self.deadline_for(timeout);
        let asked = Instant::now();
        let (request, answer) = oneshot::channel();
        // A worker that is gone drops the request, and the answer is an error at once.
        let sent = self.requests.send(request);
        let answer = tokio::time::timeout(deadline, answer).await;
        if let (Ok(()), Ok(Ok(collection))) = (&sent, &answer) {
            return Arc::clone(collection);
        }
        let message = match answer {
            Err(_) => format!("libvirt did not answer within {}", humantime::format_duration(deadline)),
            Ok(_) => "the thread that talks to libvirt has ended".to_owned(),
        };
        let error = LibvirtError::own("cannot collect statistics", ErrorClass::TimedOut, message);
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).count_failure(error.class);
        Arc::new(Collection {
            records: Records::default(),
            versions: None,
            at: SystemTime::now(),
            duration: asked.elapsed(),
            error: Some(error),
        })
    }

    /// What has been counted so far.
    #[must_use]
    pub fn stats(&self) -> CollectorStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn deadline_for(&self, timeout: Option<Duration>) -> Duration {
        // Whoever allows less time than the offset gets half of what he allows.
        let scraper = timeout.map(|timeout| timeout.saturating_sub(self.timeout_offset).max(timeout / 2));
        scraper.map_or(self.deadline, |scraper| scraper.min(self.deadline))
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
        let (first, second) = tokio::join!(collector.collect(None), collector.collect(None));
        for collection in [first, second] {
            assert_eq!(collection.error, None);
            assert_eq!(collection.records.domain(0).name, "test");
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
        let collection = collector.collect(None).await;
        let error = collection.error.as_ref().expect("an error");
        assert_eq!(error.class, ErrorClass::ConnectFailed);
        assert!(error.to_string().contains("/nonexistent/libvirt-sock"), "{error}");
        assert_eq!(collector.stats().failures, [(ErrorClass::ConnectFailed, 1)]);
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
