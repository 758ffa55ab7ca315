//! Which path is what.

use hyper::Method;

use crate::config::{Config, PROBE_PATHS};

/// The endpoint at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Landing,
    Metrics,
    Probe,
    ProbeTargets,
    Discovery,
    Healthy,
    Ready,
    Config,
    Reload,
}

impl Route {
    pub(super) fn of(path: &str, config: &Config) -> Option<Self> {
        match path {
            "/" => Some(Self::Landing),
            "/-/healthy" => Some(Self::Healthy),
            "/-/ready" => Some(Self::Ready),
            "/-/config" => Some(Self::Config),
            "/-/reload" => Some(Self::Reload),
            path if path == config.web.telemetry_path.as_str() => Some(Self::Metrics),
            path if config.has_targets() && path == Self::Probe.name() => Some(Self::Probe),
            path if config.has_targets() && path == Self::ProbeTargets.name() => Some(Self::ProbeTargets),
            path => discovery_path(config).filter(|known| *known == path).map(|_| Self::Discovery),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Landing => "/",
            Self::Metrics => "/metrics",
            Self::Probe => PROBE_PATHS[0],
            Self::ProbeTargets => PROBE_PATHS[1],
            Self::Discovery => "/sd",
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
            Self::Config => "/-/config",
            Self::Reload => "/-/reload",
        }
    }

    /// The methods that it answers.
    pub(super) fn methods(self) -> (&'static [Method], &'static str) {
        match self {
            Self::Reload => (&[Method::POST], "POST"),
            _ => (&[Method::GET, Method::HEAD], "GET, HEAD"),
        }
    }
}

/// Where the guests are served as targets, if they are.
pub(super) fn discovery_path(config: &Config) -> Option<&str> {
    config.service_discovery.enabled.then(|| config.service_discovery.path.as_str())
}
