//! The web configuration file in effect.
//!
//! It is looked at for every connection, every request and every push: if it, or a file that it names, is another one than it
//! was, it is read again, so that certificates and passwords are rotated without a restart. While what it says cannot be used,
//! or cannot be read in time, the previous one stays active: a typing error neither opens the server to all clients nor takes
//! it down. That is logged once, and `libvirt_exporter_config_last_reload_successful` is 0 until it is repaired.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use thiserror::Error;
use tokio_rustls::rustls::ServerConfig;

use super::auth::{Logins, Users};
use super::rate_limit::RateLimiter;
use super::tls::{TlsError, server_config};
use crate::config::{ConfigError, Pem, Tls, WebFile, load_web_file};
use crate::errors::one_line;
use crate::files::{FileThread, Stuck};

/// How long a request waits for the files to be looked at.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// Why a web configuration file cannot be used.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// It is no web configuration.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// Its TLS settings cannot be used.
    #[error("{file}: tls_server_config")]
    Tls {
        /// The web configuration file.
        file: String,
        /// The fault.
        #[source]
        source: TlsError,
    },
    /// Without random numbers there are no secrets.
    #[error("the operating system has no random numbers")]
    Random,
}

/// What a web configuration file makes of the server.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) headers: HeaderMap,
    pub(super) users: Option<Users>,
    pub(super) rate_limit: Option<RateLimiter>,
}

/// The web configuration file in effect, or none.
#[derive(Debug)]
pub struct Security {
    state: Arc<Mutex<Loaded>>,
    logins: Arc<Logins>,
    files: FileThread,
    /// Whether the file system does not answer.
    stuck: AtomicBool,
}

/// A web configuration file that has been read and can be used.
#[derive(Debug)]
pub struct Loaded {
    path: Option<PathBuf>,
    stamps: Arc<[(PathBuf, Option<Stamp>)]>,
    policy: Arc<Policy>,
    fault: Option<String>,
}

/// What tells a file from the one that was at its path before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Security {
    /// Reads the file at `path`; without one all clients are admitted over plain HTTP.
    pub fn load(path: Option<&Path>) -> Result<Self, SecurityError> {
        let logins = Arc::new(Logins::new().map_err(|_| SecurityError::Random)?);
        let state = Arc::new(Mutex::new(load(path, &logins)?));
        Ok(Self { state, logins, files: FileThread::new(LOOK_LIMIT), stuck: AtomicBool::new(false) })
    }

    /// Reads the file at `path` for [`Security::replace`]. Not for async threads.
    pub fn prepare(&self, path: Option<&Path>) -> Result<Loaded, SecurityError> {
        load(path, &self.logins)
    }

    /// From here on `loaded` is in effect.
    pub fn replace(&self, loaded: Loaded) {
        *self.state.lock() = loaded;
    }

    /// Why the files, as they were when they were last looked at, are not in effect.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let state = self.state.lock();
        let path = state.path.as_ref().filter(|_| self.stuck.load(Ordering::Relaxed));
        path.map(|path| format!("{}: {Stuck}", path.display())).or_else(|| state.fault.clone())
    }

    /// The active configuration.
    pub(super) async fn current(&self) -> Arc<Policy> {
        self.refresh().await;
        Arc::clone(&self.state.lock().policy)
    }

    /// Looks at the files. A handful of `stat` calls, and a few milliseconds after a change, on another thread.
    pub async fn refresh(&self) {
        let Some(file) = self.state.lock().path.clone() else { return };
        let (state, logins) = (Arc::clone(&self.state), Arc::clone(&self.logins));
        let stuck = self.files.run(move || look(&state, &logins)).await.is_err();
        let was_stuck = self.stuck.swap(stuck, Ordering::Relaxed);
        if stuck && !was_stuck {
            let file = file.display().to_string();
            tracing::error!(file, "the web configuration cannot be read, the previous one stays active: {Stuck}");
        }
    }
}

/// Reads the files again if any of them has changed. `state` is not locked while they are read; what has been replaced by then stays so.
fn look(state: &Mutex<Loaded>, logins: &Arc<Logins>) {
    let (path, stamps) = {
        let state = state.lock();
        let Some(path) = state.path.clone() else { return };
        (path, Arc::clone(&state.stamps))
    };
    if stamps.iter().all(|(path, stamp)| Stamp::of(path) == *stamp) {
        return;
    }
    let file = path.display().to_string();
    // Before they are read: what changes from here on is seen the next time.
    let seen = watched(&stamps, &path).into_iter().map(|path| (path.clone(), Stamp::of(&path))).collect();
    let loaded = load(Some(&path), logins);
    let mut state = state.lock();
    if !Arc::ptr_eq(&state.stamps, &stamps) {
        return;
    }
    match loaded {
        Ok(loaded) => {
            tracing::info!(file, "the web configuration has changed and is in effect");
            *state = loaded;
        }
        Err(error) => {
            state.stamps = seen;
            let error = one_line(&error);
            if state.fault.as_ref() != Some(&error) {
                tracing::error!(file, error, "the changed web configuration is invalid, the previous one stays active");
            }
            state.fault = Some(error);
        }
    }
}

/// The files that the policy in effect came from, and those that the file at `path` names now.
fn watched(stamps: &[(PathBuf, Option<Stamp>)], path: &Path) -> BTreeSet<PathBuf> {
    let mut watched: BTreeSet<PathBuf> = stamps.iter().map(|(path, _)| path.clone()).collect();
    if let Ok(WebFile { tls: Some(tls), .. }) = load_web_file(path) {
        watched.extend(files(&tls).map(Path::to_owned));
    }
    watched
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

fn load(path: Option<&Path>, logins: &Arc<Logins>) -> Result<Loaded, SecurityError> {
    let Some(path) = path else {
        return Ok(Loaded { path: None, stamps: Arc::default(), policy: Arc::default(), fault: None });
    };
    // Before they are read: what changes from here on is seen the next time.
    let mut stamps = vec![(path.to_owned(), Stamp::of(path))];
    let file = load_web_file(path)?;
    for warning in &file.warnings {
        tracing::warn!(file = %path.display(), "{warning}");
    }
    stamps.extend(file.tls.iter().flat_map(files).map(|file| (file.to_owned(), Stamp::of(file))));
    let policy = Arc::new(Policy::new(file, path, logins)?);
    Ok(Loaded { path: Some(path.to_owned()), stamps: stamps.into(), policy, fault: None })
}

fn files(tls: &Tls) -> impl Iterator<Item = &Path> {
    [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()].into_iter().flatten().filter_map(|pem| match pem {
        Pem::File(path) => Some(path.as_path()),
        Pem::Inline(_) => None,
    })
}

impl Policy {
    fn new(file: WebFile, path: &Path, logins: &Arc<Logins>) -> Result<Self, SecurityError> {
        let tls = file.tls.as_ref().map(server_config).transpose();
        let tls = tls.map_err(|source| SecurityError::Tls { file: path.display().to_string(), source })?;
        let headers = file.headers.iter().filter_map(|(name, text)| {
            // The configuration has no other than visible text.
            Some((HeaderName::from_static(name), HeaderValue::from_str(text).ok()?))
        });
        Ok(Self {
            tls,
            headers: headers.collect(),
            users: Users::new(file.users, logins),
            rate_limit: file.rate_limit.map(RateLimiter::new),
        })
    }
}
