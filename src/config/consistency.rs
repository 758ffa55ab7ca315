//! Whether settings that are valid each for themselves go together.

use std::path::Path;

use super::error::{ConfigError, ValueError};
use super::value::PagePath;
use super::{Config, place, read_text};

/// Where targets are probed, and listed for Prometheus, if there are any.
pub const PROBE_PATHS: [&str; 2] = ["/probe", "/probe-targets"];

impl Config {
    /// Whether each page has its own path.
    ///
    /// # Errors
    /// The key of a path that another page has, and which.
    pub fn check_paths(&self) -> Result<(), (&'static str, ValueError)> {
        let (metrics, guests) = (&self.web.telemetry_path, &self.service_discovery.path);
        let guests = Some(guests).filter(|_| self.service_discovery.enabled);
        if guests == Some(metrics) {
            return Err(("service_discovery.path", ValueError::PathOfMetrics { path: metrics.to_string() }));
        }
        let is_taken = |path: &PagePath| self.has_targets() && PROBE_PATHS.contains(&path.as_str());
        let of_metrics = ("web.telemetry_path", Some(metrics));
        for (key, path) in [of_metrics, ("service_discovery.path", guests)] {
            if let Some(path) = path.filter(|path| is_taken(path)) {
                return Err((key, ValueError::PathTaken { path: path.to_string() }));
            }
        }
        Ok(())
    }

    /// Whether the URIs of the file at `file`, if there is one, may do what they do. `flag` is whether `libvirt.uri` comes from a
    /// flag instead.
    pub fn check_uris(&self, file: Option<&Path>, flag: bool) -> Result<(), ConfigError> {
        let local = (file.filter(|_| !flag), vec!["libvirt", "uri"], &self.libvirt.uri);
        let steps = |name| vec!["targets", name, "uri"];
        let targets = self.targets.iter().map(|(name, target)| (file, steps(name.as_str()), &target.uri));
        for (file, steps, uri) in std::iter::once(local).chain(targets) {
            if let Some(what) = uri.program().filter(|_| !self.libvirt.allow_programs) {
                let fault =
                    "has libvirt's client library run a program on this host: set libvirt.allow_programs to allow it";
                return Err(contradiction(file, &steps, &format!("{what} {fault}")));
            }
        }
        Ok(())
    }

    /// Whether what the file (at `file`, if there is one), environment and flags say goes together.
    pub fn check(&self, file: Option<&Path>) -> Result<(), ConfigError> {
        if let Some((key, fault)) = self.otlp.contradiction() {
            return Err(contradiction(file, &key.split('.').collect::<Vec<_>>(), &fault));
        }
        if self.libvirt.uri.is_none() && !self.has_targets() {
            let fault = "the URI is empty and there are no targets: there would be nothing to export";
            return Err(contradiction(file, &["libvirt", "uri"], fault));
        }
        let silent = self.web.listen_addresses.is_empty() && !self.web.systemd_socket;
        if silent && self.otlp.receiver().is_none() {
            let fault = "the list is empty and otlp.endpoint is not set: nothing could be scraped or pushed";
            return Err(contradiction(file, &["web", "listen_addresses"], fault));
        }
        Ok(())
    }
}

/// With the place of the key, if the file has it.
fn contradiction(file: Option<&Path>, steps: &[&str], fault: &str) -> ConfigError {
    match file.map(|path| (path, read_text(path, "configuration"))) {
        Some((path, Ok(text))) if place::of(&text, steps).is_some() => {
            ConfigError::contradiction(&path.display().to_string(), &text, steps, fault)
        }
        _ => ConfigError::Contradiction { key: steps.join("."), fault: fault.to_owned() },
    }
}
