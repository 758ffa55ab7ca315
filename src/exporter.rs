//! Where the stages meet: a request in, families out.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::catalogue::{Catalogue, Families};
use crate::collect::{Collection, Collector, Selection, Shortcomings};
use crate::config::Config;
use crate::encode::Format;
use crate::health::{self, Facts};
use crate::web::{Overview, Source};

/// The exporter behind all commands: it collects on request and builds what is to be shown.
#[derive(Debug)]
pub struct Exporter {
    collector: Collector,
    catalogue: Catalogue,
    duplicate_samples: AtomicU64,
    http_requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    last: Mutex<Option<Arc<Collection>>>,
}

impl Exporter {
    /// Starts the threads that talk to libvirt.
    ///
    /// # Errors
    /// If the operating system has no thread left.
    pub fn start(config: &Config) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            collector: Collector::start(config)?,
            catalogue: Catalogue::new(config),
            duplicate_samples: AtomicU64::new(0),
            http_requests: Mutex::default(),
            last: Mutex::default(),
        }))
    }

    /// One collection; `timeout` is how long the caller waits at the most.
    pub async fn collect(&self, timeout: Option<Duration>) -> Arc<Collection> {
        let collection = self.collector.collect(timeout, Selection::default()).await;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&collection));
        collection
    }

    /// The last collection that anybody asked for.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Collection>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the daemon turned out not to know.
    #[must_use]
    pub fn shortcomings(&self) -> Shortcomings {
        self.collector.stats().shortcomings
    }

    /// The families of a collection, the exporter's own in front. Takes a while for many domains: not for async threads.
    #[must_use]
    pub fn families(&self, collection: &Collection) -> Families {
        let mut built = self.catalogue.build(&collection.records());
        let subjects = collection.domains.iter().map(|status| {
            let identity = &status.identity;
            (self.catalogue.subject(&mut built, &identity.name, identity.uuid), status)
        });
        let domains = subjects.collect();
        let duplicates = self.duplicate_samples.fetch_add(built.duplicates, Ordering::Relaxed);
        let facts = Facts {
            collection,
            domains,
            collector: self.collector.stats(),
            unmapped_keys: built.unmapped_keys,
            duplicate_samples: duplicates + built.duplicates,
            http_requests: self.http_requests.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        let mut families = built.families;
        health::prepend(&mut families, &facts);
        families
    }
}

impl Source for Arc<Exporter> {
    async fn exposition(&self, format: Format, timeout: Option<Duration>) -> Result<Bytes, String> {
        let collection = self.collect(timeout).await;
        let exporter = Self::clone(self);
        // Building and encoding take a while where there are many domains: not on a thread that serves.
        let encoded = tokio::task::spawn_blocking(move || format.encode(&Arc::new(exporter.families(&collection))));
        encoded.await.map(Bytes::from).map_err(|error| format!("the exposition could not be built: {error}"))
    }

    fn ready(&self) -> Result<(), String> {
        match self.last() {
            None => Err("nothing has been collected yet".to_owned()),
            Some(last) => last.error.as_ref().map_or(Ok(()), |error| Err(error.to_string())),
        }
    }

    fn overview(&self) -> Overview {
        let Some(last) = self.last() else {
            return Overview { facts: vec![("libvirt", "nothing has been collected yet".to_owned())] };
        };
        let mut facts = Vec::new();
        match &last.error {
            Some(error) => facts.push(("libvirt", error.to_string())),
            None => facts.push(("libvirt", "connected".to_owned())),
        }
        if let Some(versions) = &last.versions {
            facts.push(("Daemon", versions.libvirt.clone()));
            facts.push(("Hypervisor", format!("{} {}", versions.driver, versions.hypervisor)));
        }
        facts.push(("Running domains", last.domains.len().to_string()));
        facts.push(("Last collection", format!("{} ms", last.duration.as_millis())));
        Overview { facts }
    }

    fn count_request(&self, route: &'static str, code: u16) {
        let mut requests = self.http_requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, code)).or_default() += 1;
    }
}
