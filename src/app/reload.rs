//! Reading the configuration while it is in effect, and the one place that says whether the files are in effect as they are.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::errors::one_line;
use crate::files::Stuck;
use crate::push::otlp::{self, Otlp};
use crate::push::{PushError, Settings};
use crate::web::{Loaded, Security, SecurityError};

/// Reads the configuration: the file with the flags over it.
pub type ReadConfig = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// Why a reload has changed nothing.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The configuration is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The web configuration cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The metrics cannot be pushed that way.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A file cannot be read in time.
    #[error("the configuration could not be read")]
    Stuck(#[from] Stuck),
}

/// Whether the configuration files, as they were when they were last looked at, are in effect.
#[derive(Debug)]
pub(super) struct ConfigStatus {
    /// The web configuration, which is read again whenever its files change. Only the server has one.
    security: Option<Arc<Security>>,
    last: Mutex<LastReload>,
}

#[derive(Debug)]
struct LastReload {
    succeeded: SystemTime,
    fault: Option<String>,
}

impl ConfigStatus {
    /// The configuration was read with success at `started`.
    pub(super) fn new(security: Option<Arc<Security>>, started: SystemTime) -> Self {
        Self { security, last: Mutex::new(LastReload { succeeded: started, fault: None }) }
    }

    /// Why they are not, if so.
    pub(super) fn fault(&self) -> Option<String> {
        let of_web = self.security.as_ref().and_then(|security| security.fault());
        of_web.or_else(|| self.last.lock().fault.clone())
    }

    /// When the configuration was last read with success.
    pub(super) fn succeeded(&self) -> SystemTime {
        self.last.lock().succeeded
    }

    /// Looks at the web configuration, as each HTTP request does.
    pub(super) async fn refresh(&self) {
        if let Some(security) = &self.security {
            security.refresh().await;
        }
    }

    /// A reload has ended.
    pub(super) fn reloaded(&self, result: &Result<(), ReloadError>) {
        let mut last = self.last.lock();
        last.fault = result.as_ref().err().map(|error| one_line(error));
        if result.is_ok() {
            last.succeeded = SystemTime::now();
        }
    }
}

/// What the files say, ready to take effect.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) security: Loaded,
    pub(super) push: Option<Settings<Otlp>>,
}

/// Reads all files. Not for async threads.
pub(super) fn prepare(read: &ReadConfig, security: &Security, old: &Config) -> Result<Prepared, ReloadError> {
    let mut config = read()?;
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
    let security = security.prepare(config.web.config_file.as_deref())?;
    let push = otlp::settings(&config)?;
    Ok(Prepared { config, security, push })
}
