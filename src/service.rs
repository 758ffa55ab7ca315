//! The exporter as a service: what the HTTP server asks of it, and the configuration being read anew while it serves.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::collect::Collection;
use crate::config::{Config, ConfigError};
use crate::exporter::Exporter;
use crate::health;
use crate::log::LogSwitch;
use crate::web::{Connection, Overview, Quarantined, Scrape, Security, Source};

/// Reads the configuration: the file with the flags over it.
pub type ReadConfig = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// The exporter, and what can be changed while it serves.
pub struct Service {
    exporter: Arc<Exporter>,
    security: Arc<Security>,
    log: LogSwitch,
    read: ReadConfig,
    started: SystemTime,
    /// Held while a reload goes on: two at once could end up with the older file.
    reloading: tokio::sync::Mutex<()>,
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
        Self { exporter, security, log, read, started, reloading: tokio::sync::Mutex::default() }
    }

    /// Reads the configuration anew. All of it takes effect, or nothing; only the sockets and the URI need a restart.
    fn read_anew(&self) -> Result<(), String> {
        let old = self.exporter.config();
        let mut new = (self.read)().map_err(|error| sentence(&error))?;
        for (setting, changed) in [
            ("web.listen_addresses", new.web.listen_addresses != old.web.listen_addresses),
            ("web.systemd_socket", new.web.systemd_socket != old.web.systemd_socket),
            ("libvirt.uri", new.libvirt.uri != old.libvirt.uri),
        ] {
            if changed {
                tracing::warn!(setting, "this setting has changed, but needs a restart to take effect");
            }
        }
        // What is not in effect is not shown as if it were.
        new.libvirt = old.libvirt.clone();
        new.web.listen_addresses = old.web.listen_addresses.clone();
        new.web.systemd_socket = old.web.systemd_socket;
        let security = self.security.prepare(new.web.config_file.as_deref()).map_err(|error| sentence(&error))?;
        let log = new.log;
        self.exporter.reload(new).map_err(|error| format!("the collector cannot be started anew: {error}"))?;
        self.security.replace(security);
        self.log.set(log);
        Ok(())
    }
}

impl Source for Service {
    async fn exposition(&self, scrape: Scrape) -> Result<Bytes, String> {
        let Scrape { format, coding, timeout, selection } = scrape;
        let collection = self.exporter.collect(timeout, &selection).await;
        self.exporter.set_web_config_good(self.security.fault().is_none());
        let exporter = Arc::clone(&self.exporter);
        // Building, encoding and compressing take a while where there are many domains: not on a thread that serves.
        let encoded = tokio::task::spawn_blocking(move || {
            let families = Arc::new(exporter.families(&collection, &selection));
            coding.apply(format.encode(&families))
        });
        match encoded.await {
            Ok(Ok(body)) => Ok(body.into()),
            Ok(Err(error)) => Err(format!("the exposition could not be compressed: {error}")),
            Err(error) => Err(format!("the exposition could not be built: {error}")),
        }
    }

    fn ready(&self) -> Result<(), String> {
        match self.exporter.last() {
            None => Err("nothing has been collected yet".to_owned()),
            Some(last) => last.error.as_ref().map_or(Ok(()), |error| Err(error.to_string())),
        }
    }

    fn overview(&self) -> Overview {
        let overview = Overview {
            uri: self.exporter.config().libvirt.uri.redacted().to_string(),
            started: Some(self.started),
            config_fault: self.security.fault().or_else(|| self.exporter.reload_fault()),
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
        let _turn = self.reloading.lock().await;
        let done = self.read_anew();
        match &done {
            Ok(()) => tracing::info!("the configuration has been read anew"),
            Err(error) => tracing::error!(error, "the configuration cannot be used, the one before stays in effect"),
        }
        self.exporter.note_reload(done.as_ref().err());
        done
    }

    fn count_request(&self, route: &'static str, code: u16) {
        self.exporter.count_request(route, code);
    }
}

fn with_collection(overview: Overview, last: &Collection) -> Overview {
    let connection = match (&last.error, &last.versions) {
        (Some(error), _) => Connection::Bad { error: error.to_string() },
        (None, Some(versions)) => Connection::Good {
            daemon: versions.libvirt.clone(),
            hypervisor: format!("{} {}", versions.driver, versions.hypervisor),
        },
        (None, None) => Connection::NotTried,
    };
    let in_quarantine = last.domains.iter().filter_map(|domain| {
        let quarantined = domain.quarantined?;
        let (domain, reason) = (domain.identity.name.clone(), quarantined.cause.as_str().to_owned());
        Some(Quarantined { domain, reason, since: quarantined.since })
    });
    Overview {
        connection,
        domains: health::domains_by_state(last),
        quarantined: in_quarantine.collect(),
        last: Some((last.at, last.duration)),
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
