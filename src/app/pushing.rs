//! Push sources: a resource for the local daemon and the process, and one for each target.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use tokio::task::{JoinError, JoinSet};

use crate::app::exporter::Exporter;
use crate::app::targets::Targets;
use crate::collect::Selection;
use crate::push::otlp::{self, Otlp};
use crate::push::{self, Batch, Pusher, Settings};
use crate::web::{ProbeError, ProbeRequest};

/// The tasks that push.
#[derive(Debug, Default)]
pub(super) struct Pushers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// `None` while nothing is pushed.
    settings: Option<Settings<Otlp>>,
    /// By target; that of the local daemon has no name.
    running: BTreeMap<String, Pusher<Otlp>>,
}

/// Why there is nothing to push of a target.
#[derive(Debug, Error)]
pub(super) enum PushedTargetError {
    /// It cannot be collected from.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The thread that built the families has panicked.
    #[error(transparent)]
    NotBuilt(#[from] JoinError),
}

/// A target as the source of pushes: each is a probe of it.
#[derive(Debug)]
struct PushedTarget {
    targets: Arc<Targets>,
    name: String,
}

impl push::Source for PushedTarget {
    type Error = PushedTargetError;

    async fn batch(self: &Arc<Self>) -> Result<Batch, PushedTargetError> {
        let request = ProbeRequest { target: self.name.clone(), profile: None };
        let exporter = self.targets.probe(&request)?.handle;
        Ok(exporter.batch().await?)
    }
}

/// Everything, as at `/metrics`.
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

impl Pushers {
    /// Pushes go on as `settings` say, or not at all: of `exporter`, and of the targets that there are now.
    pub(super) fn set(&self, settings: Option<Settings<Otlp>>, exporter: &Arc<Exporter>, targets: &Arc<Targets>) {
        let mut state = self.state();
        match settings.clone() {
            Some(settings) => set(&mut state.running, String::new(), settings, exporter, exporter),
            None => std::mem::take(&mut state.running).values().for_each(Pusher::end),
        }
        state.settings = settings;
        state.set_targets(targets, exporter, true);
    }

    /// There are other targets than before.
    pub(super) fn set_targets(&self, targets: &Arc<Targets>, exporter: &Arc<Exporter>) {
        self.state().set_targets(targets, exporter, false);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Pushes a last time, and ends all. Takes some seconds at most.
    pub(super) async fn finish(&self) {
        let running = std::mem::take(&mut self.state().running);
        let ends: JoinSet<()> = running.into_values().map(Pusher::stop).collect();
        ends.join_all().await;
    }
}

impl State {
    /// Begins and ends pushes so that each target has one; those that go on are `changed` if the settings are.
    fn set_targets(&mut self, targets: &Arc<Targets>, exporter: &Arc<Exporter>, changed: bool) {
        let Some(settings) = &self.settings else { return };
        let configs = targets.configs();
        self.running.retain(|name, pusher| {
            let stays = name.is_empty() || configs.contains_key(name);
            if !stays {
                pusher.end_series();
            }
            stays
        });
        for (name, config) in configs {
            if changed || !self.running.contains_key(&name) {
                let settings = otlp::settings_of_target(settings, &config, &name);
                let source = Arc::new(PushedTarget { targets: Arc::clone(targets), name: name.clone() });
                set(&mut self.running, name, settings, &source, exporter);
            }
        }
    }
}

fn set<S: push::Source>(
    pushers: &mut BTreeMap<String, Pusher<Otlp>>,
    name: String,
    settings: Settings<Otlp>,
    source: &Arc<S>,
    exporter: &Arc<Exporter>,
) {
    match pushers.get(&name) {
        Some(running) => running.replace(settings),
        None => {
            let started = Pusher::start(settings, Arc::clone(source), Arc::clone(exporter.pushes()));
            pushers.insert(name, started);
        }
    }
}
