//! The exporter as a service: what the HTTP server asks of it, and the configuration being read anew while it serves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::app::body_cache::{Renderings, Wanted};
use crate::app::exporter::{Exporter, Last, taken};
use crate::app::rounds::Rounds;
use crate::collect::{Collection, Selection};
use crate::config::{Config, ConfigError};
use crate::discovery;
use crate::encode::{Coding, Format};
use crate::files::FileThread;
use crate::log::LogSwitch;
use crate::metrics::Families;
use crate::push::{self, Batch, Pusher, Settings};
use crate::web::{self, Connection, Loaded, Overview, Push, Quarantined, Security};

/// Reads the configuration: the file with the flags over it.
pub type ReadConfig = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// How long a reload may take to read all files.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// The exporter, and what can be changed while it serves.
pub struct Service {
    exporter: Arc<Exporter>,
    security: Arc<Security>,
    log: LogSwitch,
    read: ReadConfig,
    files: FileThread,
    renderings: Arc<Renderings>,
    started: SystemTime,
    /// While metrics are pushed.
    pusher: Mutex<Option<Pusher>>,
    /// One at a time: two at once could end up with the older file.
    reloads: Rounds<Result<(), String>>,
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
        let started = SystemTime::now();
        let (renderings, pusher, reloads) = (Arc::default(), Mutex::default(), Rounds::default());
        let files = FileThread::new(READ_LIMIT);
        Self { exporter, security, log, read, files, renderings, started, pusher, reloads }
    }

    /// Pushes metrics from now on as `settings` say, or not at all. To be called within a tokio runtime.
    pub fn push(&self, settings: Option<Settings>) {
        let mut pusher = self.pusher.lock().unwrap_or_else(PoisonError::into_inner);
        match (settings, pusher.take()) {
            (Some(settings), Some(running)) => {
                running.replace(settings);
                *pusher = Some(running);
            }
            (Some(settings), None) => {
                let (exporter, security) = (Arc::clone(&self.exporter), Arc::clone(&self.security));
                let source = Arc::new(Pushed { exporter, security });
                *pusher = Some(Pusher::start(settings, source, Arc::clone(self.exporter.pushes())));
            }
            (None, Some(running)) => drop(tokio::spawn(running.stop(false))),
            (None, None) => {}
        }
    }

    /// Pushes a last time, if metrics are pushed at all, and ends that. Takes some seconds at most.
    pub async fn finish(&self) {
        let pusher = self.pusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pusher) = pusher {
            pusher.stop(true).await;
        }
    }

    /// Reads the configuration anew. All of it takes effect, or nothing; only the sockets and the URI need a restart.
    async fn read_anew(&self) -> Result<(), String> {
        let (read, security, old) = (Arc::clone(&self.read), Arc::clone(&self.security), self.exporter.config());
        let prepared = self.files.run(move || prepare(&read, &security, &old)).await;
        let prepared = prepared.map_err(|stuck| format!("the configuration could not be read: {stuck}"))??;
        let log = prepared.config.log;
        self.exporter.reload(prepared.config);
        self.security.replace(prepared.security);
        self.push(prepared.push);
        self.log.set(log);
        Ok(())
    }
}

/// What files have said, ready to take effect.
struct Prepared {
    config: Config,
    security: Loaded,
    push: Option<Settings>,
}

fn prepare(read: &ReadConfig, security: &Security, old: &Config) -> Result<Prepared, String> {
    let mut config = read().map_err(|error| sentence(&error))?;
    for (setting, changed) in [
        ("web.listen_addresses", config.web.listen_addresses != old.web.listen_addresses),
        ("web.systemd_socket", config.web.systemd_socket != old.web.systemd_socket),
        ("libvirt.uri", config.libvirt.uri != old.libvirt.uri),
    ] {
        if changed {
            tracing::warn!(setting, "this setting has changed, but needs a restart to take effect");
        }
    }
    // What is not in effect is not shown as if it were.
    config.libvirt = old.libvirt.clone();
    config.web.listen_addresses = old.web.listen_addresses.clone();
    config.web.systemd_socket = old.web.systemd_socket;
    let security = security.prepare(config.web.config_file.as_deref()).map_err(|error| sentence(&error))?;
    let push = Settings::new(&config).map_err(|error| sentence(&error))?;
    Ok(Prepared { config, security, push })
}

impl web::Source for Service {
    type Collected = (Arc<Collection>, Selection);

    async fn collect(&self, timeout: Option<Duration>, selection: Selection) -> Self::Collected {
        (self.exporter.collect(timeout, &selection).await, selection)
    }

    async fn render(&self, collected: Self::Collected, format: Format, coding: Coding) -> Result<Bytes, String> {
        let (collection, selection) = collected;
        let (exporter, security) = (Arc::clone(&self.exporter), Arc::clone(&self.security));
        let wanted = Wanted { collection, config: exporter.config(), format, coding };
        let render = move |Wanted { collection, format, coding, .. }: Wanted| {
            exporter.set_web_config_good(security.fault().is_none());
            let families = exporter.exposition(&collection, &selection, format);
            // Records, families and body together would be too much on a large host.
            drop(collection);
            let body = format.encode(&families);
            drop(families);
            let body = coding.apply(body);
            body.map(Bytes::from).map_err(|error| format!("the exposition could not be compressed: {error}"))
        };
        self.renderings.body(wanted, render).await
    }

    async fn target_groups(&self, coding: Coding, timeout: Option<Duration>) -> Result<Bytes, String> {
        let snapshot = self.exporter.discover(timeout).await.map_err(|error| error.to_string())?;
        let config = self.exporter.config();
        let encoded = tokio::task::spawn_blocking(move || {
            let body = discovery::encode_target_groups(&snapshot, &config)?;
            coding.apply(body).map_err(|error| format!("the targets could not be compressed: {error}"))
        });
        let encoded = encoded.await.map_err(|error| format!("the targets could not be listed: {error}"))?;
        encoded.map(Bytes::from)
    }

    fn ready(&self) -> Result<(), String> {
        match self.exporter.last() {
            None => Err("nothing has been collected yet".to_owned()),
            Some(last) => last.error.as_ref().map_or(Ok(()), |error| Err(error.to_string())),
        }
    }

    fn overview(&self) -> Overview {
        let push = self.exporter.pushes().stats().and_then(|stats| stats.last).map(|last| Push {
            url: last.url,
            last: (last.at, last.took),
            points: last.points,
            fault: last.fault,
        });
        let overview = Overview {
            push,
            uri: self.exporter.config().libvirt.uri.redacted().to_string(),
            started: Some(self.started),
            config_fault: self.security.fault().or_else(|| self.exporter.reload_fault()),
            efforts: self.exporter.efforts().slowest_first(),
            ..Overview::default()
        };
        match self.exporter.last() {
            Some(last) => with_collection(overview, &last),
            None => overview,
        }
    }

    fn config(&self) -> Arc<Config> {
        self.exporter.config()
    }

    async fn reload(&self) -> Result<(), String> {
        let reload = async {
            let done = self.read_anew().await;
            match &done {
                Ok(()) => tracing::info!("the configuration has been read anew"),
                Err(error) => {
                    tracing::error!(error, "the configuration cannot be used, the one before stays in effect");
                }
            }
            self.exporter.note_reload(done.as_ref().err());
            done
        };
        self.reloads.next(reload).await
    }

    fn count_request(&self, route: &'static str, code: u16) {
        self.exporter.count_request(route, code);
    }
}

/// What is pushed: everything, as at `/metrics`.
struct Pushed {
    exporter: Arc<Exporter>,
    security: Arc<Security>,
}

impl push::Source for Pushed {
    async fn batch(&self) -> Result<Batch, String> {
        let everything = Selection::default();
        let collection = self.exporter.collect(None, &everything).await;
        self.security.refresh().await;
        let taken = taken(&collection);
        let (exporter, security) = (Arc::clone(&self.exporter), Arc::clone(&self.security));
        let built = tokio::task::spawn_blocking(move || families(&exporter, &security, &collection, &everything));
        let families = built.await.map_err(|error| format!("the families could not be built: {error}"))?;
        Ok(Batch { families: Arc::new(families), taken })
    }
}

/// The families of a collection, with the state of the web configuration as it is now.
fn families(exporter: &Exporter, security: &Security, collection: &Collection, selection: &Selection) -> Families {
    exporter.set_web_config_good(security.fault().is_none());
    exporter.families(collection, selection)
}

fn with_collection(overview: Overview, last: &Last) -> Overview {
    let connection = match (&last.error, &last.versions) {
        (Some(error), _) => Connection::Bad { error: error.to_string(), remedy: error.remedy(&overview.uri) },
        (None, Some(versions)) => Connection::Good {
            daemon: versions.libvirt.clone(),
            hypervisor: format!("{} {}", versions.driver, versions.hypervisor),
        },
        (None, None) => Connection::NotTried,
    };
    let in_quarantine = last.quarantined.iter().map(|(identity, quarantined)| {
        let (domain, reason) = (identity.name.clone(), quarantined.cause.as_str().to_owned());
        Quarantined { domain, reason, since: quarantined.since }
    });
    Overview {
        connection,
        domains: last.domains.clone(),
        quarantined: in_quarantine.collect(),
        last: Some(last.took),
        groups: last.parameters.clone(),
        ..overview
    }
}

/// An error and its causes on one line.
#[must_use]
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    text
}
