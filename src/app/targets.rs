//! The daemons of `/probe`: an [`Exporter`] for each that has been probed recently.
//!
//! Each has its own collector, with connections and threads, which begin with the first probe and end after
//! `probe.idle_timeout` without one. So a daemon that does not answer delays no other. What they have in common is the limit of
//! connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::app::exporter::Exporter;
use crate::app::sockets::{Found, Pattern, Search, Socket, find};
use crate::config::{Config, TargetName, Uri, uri_key};
use crate::discovery::TargetGroup;
use crate::metrics::self_metrics::TargetCounts;
use crate::web::{self, Daemon, ProbeError, ProbeRequest, TargetState};

/// Connections of a target besides its workers': one for control, and a few for the background and in place of those that hang.
const BESIDE_WORKERS: usize = 4;
/// A target that was not probed for so long makes room for another.
const LEAST_IDLE: Duration = Duration::from_secs(60);

/// A target that can be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) uri: Uri,
    pub(super) profile: String,
    /// That which a pattern has found.
    pub(super) socket: Option<Socket>,
}

impl Known {
    /// Whether both are the same daemon, whatever is asked of it.
    fn is_same_daemon(&self, other: &Self) -> bool {
        self.uri == other.uri && self.socket == other.socket
    }
}

/// The daemons of `/probe`.
#[derive(Debug)]
pub(super) struct Targets(Mutex<State>);

#[derive(Debug)]
struct State {
    config: Arc<Config>,
    /// The connections that the process has descriptors for.
    most: usize,
    /// What patterns have found.
    found: Found,
    /// By target and profile.
    open: BTreeMap<(String, String), Open>,
    refused: u64,
}

#[derive(Debug)]
struct Open {
    exporter: Arc<Exporter>,
    known: Known,
    probed: Instant,
}

impl Open {
    fn connections(&self) -> usize {
        connections(&self.exporter.config())
    }

    /// Whether a request is being answered by it.
    fn is_busy(&self) -> bool {
        Arc::strong_count(&self.exporter) > 1
    }
}

/// How many a daemon with these settings counts.
fn connections(config: &Config) -> usize {
    config.collection.workers + BESIDE_WORKERS
}

/// The settings for one target by name, for a command; the sockets of patterns are looked for.
///
/// # Errors
/// If there is no such target.
pub fn config_of_target(config: &Config, name: &str) -> Result<Config, ProbeError> {
    let state = State::searched(config);
    let known = state.resolve(name)?;
    state.config_of(&known.uri, &known.profile)
}

/// The settings for each target by name, and what the patterns of sockets match, for a command.
#[must_use]
pub fn configs_of_targets(config: &Config) -> (BTreeMap<String, Config>, Vec<Search>) {
    let state = State::searched(config);
    (state.configs(), state.found.searches)
}

fn patterns(config: &Config) -> Vec<Pattern> {
    let pattern = |(name, target): (&TargetName, &crate::config::Target)| {
        let (path, regex) = target.pattern()?;
        let (name, regex) = (name.to_string(), regex.clone());
        Some(Pattern { name, path, regex, uri: target.uri.clone(), profile: target.profile().to_owned() })
    };
    config.targets.iter().filter_map(pattern).collect()
}

impl Targets {
    /// Those of `config`. The process has descriptors for `most` connections.
    pub(super) fn new(config: Arc<Config>, most: usize) -> Self {
        Self(Mutex::new(State::new(config, most)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// The daemon that is asked for. Its connections begin to be opened if there are none.
    ///
    /// # Errors
    /// If there is no such target, or no connection left for it.
    pub(super) fn probe(&self, request: &ProbeRequest) -> Result<Daemon<Exporter>, ProbeError> {
        let mut state = self.state();
        let known = state.resolve(&request.target)?;
        let profile = request.profile.clone().unwrap_or_else(|| known.profile.clone());
        let exporter = state.open(&request.target, known, &profile)?;
        Ok(Daemon { key: format!("{}\n{profile}", request.target), config: exporter.config(), handle: exporter })
    }

    /// Goes on with other settings. Targets that are as before stay as they are.
    pub(super) fn reload(&self, config: Arc<Config>, most: usize) {
        let mut state = self.state();
        state.most = most;
        state.config = config;
        state.drop_old_patterns();
        state.close_others();
    }

    /// The patterns of sockets.
    pub(super) fn patterns(&self) -> Vec<Pattern> {
        patterns(&self.state().config)
    }

    /// These are the sockets that there are now. Connections to others are closed.
    /// `false` if they are as before.
    pub(super) fn found(&self, found: Found) -> bool {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.found, found);
        // A search may end after a reload.
        state.drop_old_patterns();
        let changed = state.found != before;
        if changed {
            state.report(&before.searches);
            state.close_others();
        }
        changed
    }

    /// Closes the connections to targets that were not probed recently.
    pub(super) fn close_idle(&self) {
        let mut state = self.state();
        let limit = state.config.probe.idle_timeout;
        state.close(|_, open| open.is_busy() || open.probed.elapsed() < limit, "not probed recently");
    }

    /// How often to look for what is idle, and for sockets.
    pub(super) fn pace(&self) -> (Duration, Duration) {
        let probe = &self.state().config.probe;
        ((probe.idle_timeout / 4).min(Duration::from_secs(10)), probe.rescan_interval)
    }

    /// The settings of each target with its own profile, by name.
    pub(super) fn configs(&self) -> BTreeMap<String, Config> {
        self.state().configs()
    }

    /// Counts for metrics; `None` if there are no targets.
    pub(super) fn counts(&self) -> Option<TargetCounts> {
        let state = self.state();
        if !state.config.has_targets() {
            return None;
        }
        let open: BTreeSet<&str> = state.open.keys().map(|(target, _)| target.as_str()).collect();
        let closed = state.known().keys().filter(|name| !open.contains(name.as_str())).count();
        let connections = state.open.values().map(Open::connections).sum();
        Some(TargetCounts { open: open.len(), closed, connections, refused: state.refused })
    }

    /// The targets for Prometheus, all scraped at `address`.
    pub(super) fn groups(&self, address: &str) -> Vec<TargetGroup> {
        let group = |(name, known): (String, Known)| {
            let labels = [
                ("__metrics_path__", crate::config::PROBE_PATHS[0].to_owned()),
                ("__param_target", name.clone()),
                ("__meta_libvirt_target", name.clone()),
                ("__meta_libvirt_target_uri", known.uri.redacted().to_string()),
                ("__meta_libvirt_target_profile", known.profile),
                ("instance", name),
            ];
            let labels = labels.map(|(label, value)| (label.to_owned(), value));
            TargetGroup { targets: vec![address.to_owned()], labels: labels.into_iter().collect() }
        };
        self.state().known().into_iter().map(group).collect()
    }

    /// The targets for the landing page; those of `probe.allow` are there while they are open.
    pub(super) fn overview(&self) -> Vec<web::Target> {
        let state = self.state();
        let mut targets: BTreeMap<&str, web::Target> = BTreeMap::new();
        let known = state.known();
        for (name, known) in &known {
            let uri = known.uri.redacted().to_string();
            targets.insert(name, web::Target { name: name.clone(), uri, state: TargetState::Closed });
        }
        for ((name, _), open) in &state.open {
            let (uri, state) = (open.exporter.config().libvirt.uri.redacted().to_string(), state_of(&open.exporter));
            targets.insert(name, web::Target { name: name.clone(), uri, state });
        }
        targets.into_values().collect()
    }
}

fn state_of(exporter: &Exporter) -> TargetState {
    match exporter.last() {
        None => TargetState::Opening,
        Some(last) => match &last.error {
            Some(error) => {
                let (config, target) = (exporter.config(), exporter.target());
                let remedy = error.remedy(config.libvirt.uri.redacted().as_str(), &uri_key(target));
                TargetState::Bad { error: error.to_string(), remedy }
            }
            None => TargetState::Good(last.domains.iter().map(|(_, count)| count).sum()),
        },
    }
}

impl State {
    fn new(config: Arc<Config>, most: usize) -> Self {
        Self { config, most, found: Found::default(), open: BTreeMap::new(), refused: 0 }
    }

    /// For a command: sockets are looked for once, and nothing is opened.
    fn searched(config: &Config) -> Self {
        Self { found: find(&patterns(config)), ..Self::new(Arc::new(config.clone()), 0) }
    }

    /// Forgets what patterns have found that there are no more.
    fn drop_old_patterns(&mut self) {
        let names: BTreeSet<String> = patterns(&self.config).into_iter().map(|pattern| pattern.name).collect();
        let Found { targets, searches } = &mut self.found;
        targets.retain(|name, _| name.split_once('/').is_some_and(|(pattern, _)| names.contains(pattern)));
        searches.retain(|search| names.contains(&search.name));
    }

    /// Tells the log what is wrong with a pattern, once.
    fn report(&self, before: &[Search]) {
        for Search { name: target, nameless, unreadable, .. } in &self.found.searches {
            let old = before.iter().find(|old| old.name == *target);
            let (count, first) = (nameless.len(), nameless.first());
            if let Some(path) = first.filter(|_| old.is_none_or(|old| old.nameless != *nameless)) {
                tracing::warn!(target = target, count, path, "sockets without a name of their own");
            }
            let (count, first) = (unreadable.len(), unreadable.first());
            if let Some(error) = first.filter(|_| old.is_none_or(|old| old.unreadable != *unreadable)) {
                tracing::warn!(target = target, count, error, "sockets of the pattern cannot be looked for");
            }
        }
    }

    /// All targets with names.
    fn known(&self) -> BTreeMap<String, Known> {
        let named = self.config.targets.iter().filter(|(_, target)| target.pattern().is_none());
        let known = |(name, target): (&TargetName, &crate::config::Target)| {
            let known = Known { uri: target.uri.clone(), profile: target.profile().to_owned(), socket: None };
            (name.to_string(), known)
        };
        named.map(known).chain(self.found.targets.clone()).collect()
    }

    fn configs(&self) -> BTreeMap<String, Config> {
        let config = |(name, known): (String, Known)| Some((name, self.config_of(&known.uri, &known.profile).ok()?));
        self.known().into_iter().filter_map(config).collect()
    }

    /// What `name` stands for: a target, or a URI that may be named.
    fn resolve(&self, name: &str) -> Result<Known, ProbeError> {
        let named = self.config.targets.get(name).filter(|target| target.pattern().is_none());
        if let Some(target) = named {
            return Ok(Known { uri: target.uri.clone(), profile: target.profile().to_owned(), socket: None });
        }
        if let Some(known) = self.found.targets.get(name) {
            return Ok(known.clone());
        }
        if !name.contains(":/") {
            return Err(ProbeError::UnknownTarget { target: name.to_owned() });
        }
        let is_allowed = |uri: &Uri| {
            let runs_none = self.config.libvirt.allow_programs || !uri.runs_program();
            runs_none && uri.as_str() == name && self.config.probe.allows(uri)
        };
        match name.parse().ok().filter(is_allowed) {
            Some(uri) => Ok(Known { uri, profile: crate::config::DEFAULT_PROFILE.to_owned(), socket: None }),
            None => Err(ProbeError::NotAllowed { target: name.to_owned() }),
        }
    }

    fn config_of(&self, uri: &Uri, profile: &str) -> Result<Config, ProbeError> {
        let mut config = self.config.of_target(uri, profile).ok_or_else(|| ProbeError::UnknownProfile {
            profile: profile.to_owned(),
            known: self.config.known_profiles(),
        })?;
        // The guests of the local daemon alone are served as targets.
        config.service_discovery.enabled = false;
        Ok(config)
    }

    fn open(&mut self, name: &str, known: Known, profile: &str) -> Result<Arc<Exporter>, ProbeError> {
        let (key, now) = ((name.to_owned(), profile.to_owned()), Instant::now());
        if let Some(open) = self.open.get_mut(&key) {
            open.probed = now;
            return Ok(Arc::clone(&open.exporter));
        }
        let config = self.config_of(&known.uri, profile)?;
        self.make_room(connections(&config), now)?;
        let exporter =
            Exporter::start_target(&config, name).map_err(|error: io::Error| ProbeError::NotStarted(error))?;
        tracing::debug!(target = name, profile, "target opened");
        self.open.insert(key, Open { exporter: Arc::clone(&exporter), known, probed: now });
        Ok(exporter)
    }

    /// Room for so many connections, if need be that of the targets that were not probed for the longest time.
    fn make_room(&mut self, needed: usize, now: Instant) -> Result<(), ProbeError> {
        let limit = self.config.probe.max_connections.min(self.most);
        let mut used = self.open.values().map(Open::connections).sum::<usize>() + needed;
        let is_idle = |open: &Open| !open.is_busy() && now.duration_since(open.probed) >= LEAST_IDLE;
        let mut idle: Vec<(&(String, String), &Open)> = self.open.iter().filter(|(_, open)| is_idle(open)).collect();
        idle.sort_by_key(|(_, open)| open.probed);
        let mut closed = BTreeSet::new();
        for (key, open) in idle {
            if used > limit {
                used -= open.connections();
                closed.insert(key.clone());
            }
        }
        if used > limit {
            self.refused += 1;
            return Err(ProbeError::Full { limit });
        }
        self.close(|key, _| !closed.contains(key), "another target needs its connections");
        Ok(())
    }

    /// Closes what is no target any more, or that of another daemon, and takes new settings to the others.
    fn close_others(&mut self) {
        let mut settings = BTreeMap::new();
        for ((name, profile), open) in &self.open {
            let known = self.resolve(name).ok().filter(|known| known.is_same_daemon(&open.known));
            let config = known.and_then(|known| self.config_of(&known.uri, profile).ok());
            config.map(|config| settings.insert((name.clone(), profile.clone()), config));
        }
        self.close(|key, _| settings.contains_key(key), "no such target any more");
        for (key, config) in settings {
            if let Some(open) = self.open.get(&key).filter(|open| *open.exporter.config() != config) {
                open.exporter.reload(config);
            }
        }
    }

    /// Closes all connections to targets but those to be kept. A request that is being answered ends as it began.
    fn close(&mut self, keep: impl Fn(&(String, String), &Open) -> bool, reason: &'static str) {
        self.open.retain(|key, open| {
            let kept = keep(key, open);
            if !kept {
                tracing::debug!(target = key.0, profile = key.1, reason, "target closed");
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests;
