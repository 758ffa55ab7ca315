//! The exporter as a service: the source of the HTTP server and of pushes, and reloads.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;
use tokio::task::JoinError;
use tokio::time::sleep;

use crate::app::body_cache::RenderError;
use crate::app::exporter::{Collected, Exporter};
use crate::app::pushing::Pushers;
use crate::app::reload::{ReadConfig, ReloadError, prepare};
use crate::app::rounds::Rounds;
use crate::app::sockets::find;
use crate::app::status::last_push;
use crate::app::targets::Targets;
use crate::collect::Selection;
use crate::config::Config;
use crate::discovery::{self, TargetsError};
use crate::encode::Coding;
use crate::errors::one_line;
use crate::files::{FileThread, Stuck};
use crate::libvirt::LibvirtError;
use crate::log::LogSwitch;
use crate::push::Settings;
use crate::push::otlp::Otlp;
use crate::web::{self, Content, Daemon, Form, Overview, ProbeError, ProbeRequest, Security};

/// How long a reload may take to read all files.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Why there is nothing to serve.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The exposition failed.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// No collection has ended yet.
    #[error("nothing has been collected yet")]
    NotCollected,
    /// libvirt is away.
    #[error(transparent)]
    Libvirt(#[from] LibvirtError),
    /// There is no complete list of targets.
    #[error(transparent)]
    Targets(#[from] TargetsError),
    /// The encoder of the coding failed.
    #[error("the targets could not be compressed")]
    TargetsNotCompressed(#[source] io::Error),
    /// The thread that listed them has panicked.
    #[error("the targets could not be listed")]
    TargetsNotListed(#[source] JoinError),
    /// The sockets of patterns could not be looked for.
    #[error("the sockets of targets could not be listed")]
    Sockets(#[from] Stuck),
    /// A reload has changed nothing.
    #[error(transparent)]
    Reload(#[from] Arc<ReloadError>),
}

/// The exporter, and what `serve` adds to it.
pub struct Service {
    exporter: Arc<Exporter>,
    security: Arc<Security>,
    log: LogSwitch,
    read: ReadConfig,
    files: FileThread,
    /// The daemons of `/probe`.
    targets: Arc<Targets>,
    /// One search for their sockets at a time.
    searches: Rounds<Result<(), Stuck>>,
    /// While metrics are pushed.
    pushers: Pushers,
    /// One at a time: two at once could end up with the older file.
    reloads: Rounds<Result<(), Arc<ReloadError>>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("exporter", &self.exporter).finish_non_exhaustive()
    }
}

impl Service {
    /// The service of `exporter`, whose configuration was read by `read`.
    #[must_use]
    pub fn new(exporter: Arc<Exporter>, security: Arc<Security>, log: LogSwitch, read: ReadConfig) -> Self {
        let (pushers, reloads, searches) = (Pushers::default(), Rounds::default(), Rounds::default());
        let targets = Targets::new(exporter.config(), web::probe_connections());
        let targets = Arc::clone(exporter.targets.get_or_init(|| Arc::new(targets)));
        let files = FileThread::new(READ_LIMIT);
        Self { exporter, security, log, read, files, targets, searches, pushers, reloads }
    }

    /// Finds the sockets of targets, and closes the connections to targets that are not probed, until the future is dropped.
    pub async fn keep_targets(&self) {
        let mut searched = Instant::now();
        // The next search reports what is wrong, if it stays so.
        let _stuck = self.find_sockets().await;
        loop {
            let (idle, rescan) = self.targets.pace();
            sleep(idle.min(rescan)).await;
            self.targets.close_idle();
            if searched.elapsed() >= rescan {
                searched = Instant::now();
                if let Err(error) = self.find_sockets().await {
                    tracing::warn!(error = one_line(&error), "the sockets of targets could not be listed");
                }
            }
        }
    }

    async fn find_sockets(&self) -> Result<(), Stuck> {
        let search = async {
            let patterns = self.targets.patterns();
            if !patterns.is_empty() {
                let found = self.files.run(move || find(&patterns)).await?;
                if self.targets.found(found) {
                    self.pushers.set_targets(&self.targets, &self.exporter);
                }
            }
            Ok(())
        };
        self.searches.next(search).await
    }

    /// Pushes metrics from now on as `settings` say, or not at all, and likewise those of targets. To be called within a tokio
    /// runtime.
    pub fn push(&self, settings: Option<Settings<Otlp>>) {
        self.pushers.set(settings, &self.exporter, &self.targets);
    }

    /// Pushes a last time, if metrics are pushed at all, and ends that. Takes some seconds at most.
    pub async fn finish(&self) {
        self.pushers.finish().await;
    }

    /// Reads the configuration. All of it takes effect, or nothing; only the sockets and the URI need a restart.
    async fn read_and_replace(&self) -> Result<(), ReloadError> {
        let (read, security, old) = (Arc::clone(&self.read), Arc::clone(&self.security), self.exporter.config());
        let prepared = self.files.run(move || prepare(&read, &security, &old)).await??;
        let log = prepared.config.log;
        self.exporter.reload(prepared.config);
        let config = self.exporter.config();
        // It has enough of them for everything else since the start.
        let _enough = web::raise_descriptor_limit(config.probe_connections());
        self.targets.reload(config, web::probe_connections());
        self.security.replace(prepared.security);
        self.push(prepared.push);
        // Tried again soon, if need be.
        let _stuck = self.find_sockets().await;
        self.log.set(log);
        Ok(())
    }
}

/// A collection of one of the daemons.
#[derive(Debug)]
pub struct OfDaemon {
    exporter: Arc<Exporter>,
    collected: Collected,
}

impl web::Source for Service {
    type Daemon = Exporter;
    type Collected = OfDaemon;
    type Error = ServiceError;

    fn local(&self) -> Daemon<Exporter> {
        Daemon { key: String::new(), config: self.exporter.config(), handle: Arc::clone(&self.exporter) }
    }

    fn probe(&self, request: &ProbeRequest) -> Result<Daemon<Exporter>, ProbeError> {
        self.targets.probe(request)
    }

    async fn probe_targets(&self, address: &str, coding: Coding) -> Result<Bytes, ServiceError> {
        self.find_sockets().await?;
        let groups = self.targets.groups(address);
        let encoded = tokio::task::spawn_blocking(move || {
            let body = serde_json::to_vec(&groups).map_err(TargetsError::from)?;
            coding.apply(body).map_err(ServiceError::TargetsNotCompressed)
        });
        Ok(encoded.await.map_err(ServiceError::TargetsNotListed)??.into())
    }

    async fn collect(&self, daemon: Arc<Exporter>, within: Duration, selection: Selection) -> OfDaemon {
        let collected = daemon.collect(Some(within), selection).await;
        OfDaemon { exporter: daemon, collected }
    }

    async fn render(&self, OfDaemon { exporter, collected }: OfDaemon, form: Form) -> Result<Content, ServiceError> {
        Ok(exporter.render(collected, form).await?)
    }

    async fn target_groups(&self, coding: Coding, timeout: Option<Duration>) -> Result<Bytes, ServiceError> {
        let snapshot = self.exporter.discover(timeout).await?;
        let config = self.exporter.config();
        let encoded = tokio::task::spawn_blocking(move || {
            let body = discovery::encode_target_groups(&snapshot, &config)?;
            coding.apply(body).map_err(ServiceError::TargetsNotCompressed)
        });
        Ok(encoded.await.map_err(ServiceError::TargetsNotListed)??.into())
    }

    fn ready(&self) -> Result<(), ServiceError> {
        if !self.exporter.has_daemon() {
            return Ok(());
        }
        let last = self.exporter.last().ok_or(ServiceError::NotCollected)?;
        last.error.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn overview(&self) -> Overview {
        let mut overview = Overview {
            push: last_push(self.exporter.pushes()),
            uri: self.exporter.config().libvirt.uri.redacted().to_string(),
            started: Some(self.exporter.started()),
            config_fault: self.exporter.config_status.fault(),
            timings: self.exporter.timings().slowest_first(),
            probes: self.exporter.probes(),
            targets: self.targets.overview(),
            ..Overview::default()
        };
        if !self.exporter.has_daemon() {
            overview.connection = web::Connection::None;
        } else if let Some(last) = self.exporter.last() {
            last.show(&mut overview);
        }
        overview
    }

    fn config(&self) -> Arc<Config> {
        self.exporter.config()
    }

    async fn reload(&self) -> Result<(), ServiceError> {
        let reload = async {
            let result = self.read_and_replace().await;
            match &result {
                Ok(()) => tracing::info!("configuration reloaded"),
                Err(error) => {
                    let error = one_line(error);
                    tracing::error!(error, "the configuration cannot be used, the previous one stays active");
                }
            }
            self.exporter.config_status.reloaded(&result);
            result.map_err(Arc::new)
        };
        Ok(self.reloads.next(reload).await?)
    }

    fn count_request(&self, route: &'static str, code: u16) {
        self.exporter.count_request(route, code);
    }
}
