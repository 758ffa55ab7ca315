//! The exporter as a service: the source of the HTTP server and of pushes, and reloads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::task::JoinError;

use crate::app::body_cache::{BodyCache, RenderError, Wanted};
use crate::app::exporter::{Collected, Exporter};
use crate::app::reload::{ReadConfig, ReloadError, prepare};
use crate::app::rounds::Rounds;
use crate::app::status::last_push;
use crate::collect::Selection;
use crate::config::Config;
use crate::discovery::{self, TargetsError};
use crate::encode::{Coding, Exposition};
use crate::errors::one_line;
use crate::files::FileThread;
use crate::libvirt::{LibvirtError, give_back_free_pages};
use crate::log::LogSwitch;
use crate::push::otlp::Otlp;
use crate::push::{self, Batch, Pusher, Settings};
use crate::web::{self, Content, Form, Overview, Security};

/// An exposition of at most this many bytes is one body, with a length.
const SMALL: usize = 1 << 20;
/// After one that is larger, what its collection has taken is given back.
const LARGE: usize = 16 << 20;
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
    bodies: Arc<BodyCache>,
    /// While metrics are pushed.
    pusher: Mutex<Option<Pusher<Otlp>>>,
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
        let (bodies, pusher, reloads) = (Arc::default(), Mutex::default(), Rounds::default());
        Self { exporter, security, log, read, files: FileThread::new(READ_LIMIT), bodies, pusher, reloads }
    }

    /// Pushes metrics from now on as `settings` say, or not at all. To be called within a tokio runtime.
    pub fn push(&self, settings: Option<Settings<Otlp>>) {
        let mut pusher = self.pusher.lock();
        match (settings, pusher.take()) {
            (Some(settings), Some(running)) => {
                running.replace(settings);
                *pusher = Some(running);
            }
            (Some(settings), None) => {
                let source = Arc::clone(&self.exporter);
                *pusher = Some(Pusher::start(settings, source, Arc::clone(self.exporter.pushes())));
            }
            (None, Some(running)) => drop(tokio::spawn(running.stop(false))),
            (None, None) => {}
        }
    }

    /// Pushes a last time, if metrics are pushed at all, and ends that. Takes some seconds at most.
    pub async fn finish(&self) {
        let pusher = self.pusher.lock().take();
        if let Some(pusher) = pusher {
            pusher.stop(true).await;
        }
    }

    /// Reads the configuration. All of it takes effect, or nothing; only the sockets and the URI need a restart.
    async fn read_and_replace(&self) -> Result<(), ReloadError> {
        let (read, security, old) = (Arc::clone(&self.read), Arc::clone(&self.security), self.exporter.config());
        let prepared = self.files.run(move || prepare(&read, &security, &old)).await??;
        let log = prepared.config.log;
        self.exporter.reload(prepared.config);
        self.security.replace(prepared.security);
        self.push(prepared.push);
        self.log.set(log);
        Ok(())
    }
}

impl web::Source for Service {
    type Collected = Collected;
    type Error = ServiceError;

    async fn collect(&self, within: Duration, selection: Selection) -> Collected {
        self.exporter.collect(Some(within), selection).await
    }

    async fn render(&self, collected: Collected, form: Form) -> Result<Content, ServiceError> {
        let exporter = Arc::clone(&self.exporter);
        let wanted = Wanted { collected, form };
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
        Ok(self.bodies.body(wanted, render).await?)
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
            ..Overview::default()
        };
        if let Some(last) = self.exporter.last() {
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

/// What is pushed: everything, as at `/metrics`.
impl push::Source for Exporter {
    type Error = JoinError;

    async fn batch(self: &Arc<Self>) -> Result<Batch, JoinError> {
        let collected = self.collect(None, Selection::default()).await;
        self.config_status.refresh().await;
        let taken = collected.taken();
        let exporter = Arc::clone(self);
        let families = tokio::task::spawn_blocking(move || exporter.families(&collected)).await?;
        Ok(Batch { families: Arc::new(families), taken })
    }
}
