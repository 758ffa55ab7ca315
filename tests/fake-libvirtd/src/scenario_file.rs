//! Scenario files: a [`Scenario`] as YAML.
//!
//! ```yaml
//! libvirt: 12.7.0            # default 9.0.0
//! hypervisor: 11.1.3
//! hostname: node-7
//! clock: time                # or manual (default), or per-call: 1s
//! job_wait: 2s               # default 30s
//! domains:
//!   - name: "vm-{}"          # {} is the number, counted over all domains
//!     count: 100
//!     template: medium       # small, medium, large, everything
//!   - name: db
//!     template: {base: large, disks: 12, timed_groups: [1, 10]}
//!     state: paused
//!     title: The database
//!     autostart: true
//!     interfaces:            # from DHCP; neighbours and agent_interfaces have the same form
//!       - {name: vnet0, hwaddr: "52:54:00:00:00:01", addresses: [192.0.2.7/24, "2001:db8::7/64"]}
//!   - params: golden/frozen.params   # relative to this file
//! commands:                  # see the control commands
//!   - hang vm-3
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_yaml::{Mapping, Value};

use crate::domain::{Domain, DomainState, Interface, Node};
use crate::params;
use crate::scenario::{Clock, Scenario};
use crate::template::Template;

/// Why a scenario file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The text is not YAML, or not of the form of a scenario.
    #[error("not a scenario")]
    Form(#[from] serde_yaml::Error),
    /// A golden file is not in its format.
    #[error("{path}")]
    Params {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: params::ParseError,
    },
    /// A value is not what it should be.
    #[error("{text:?} is not {expected}")]
    Malformed {
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        text: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    libvirt: Option<String>,
    hypervisor: Option<String>,
    hostname: Option<String>,
    clock: Option<Value>,
    job_wait: Option<String>,
    domains: Vec<Group>,
    commands: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Group {
    name: Option<String>,
    count: Option<u32>,
    template: Option<Value>,
    params: Option<String>,
    state: Option<DomainState>,
    reason: Option<i32>,
    id: Option<u32>,
    transient: bool,
    autostart: bool,
    managed_save: bool,
    snapshots: bool,
    checkpoints: bool,
    title: Option<String>,
    description: Option<String>,
    xml: Option<String>,
    interfaces: Option<Vec<InterfaceOf>>,
    neighbours: Option<Vec<InterfaceOf>>,
    agent_interfaces: Option<Vec<InterfaceOf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct InterfaceOf {
    name: String,
    hwaddr: String,
    addresses: Vec<String>,
}

impl InterfaceOf {
    fn parse(&self) -> Result<Interface, ScenarioError> {
        let address = |text: &String| {
            let parts = text.split_once('/').and_then(|(address, prefix)| Some((address, prefix.parse().ok()?)));
            let (address, prefix) = parts.ok_or_else(|| malformed("an address such as 192.0.2.7/24", text))?;
            Ok((address.to_owned(), prefix))
        };
        let addresses = self.addresses.iter().map(address).collect::<Result<_, ScenarioError>>()?;
        Ok(Interface { name: self.name.clone(), hwaddr: self.hwaddr.clone(), addresses })
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    ///
    /// When the file, or a golden file that it names, cannot be read or is not in its format.
    pub fn from_file(path: &Path) -> Result<Self, ScenarioError> {
        let text = read(path)?;
        Self::from_yaml(&text, path.parent().unwrap_or_else(|| Path::new(".")))
    }

    /// Reads a scenario from text; the golden files that it names are relative to a folder.
    ///
    /// # Errors
    ///
    /// When it is not in the format, or a golden file cannot be read or is not in its own.
    pub fn from_yaml(text: &str, folder: &Path) -> Result<Self, ScenarioError> {
        let file: File = if text.trim().is_empty() { File::default() } else { serde_yaml::from_str(text)? };
        let mut scenario = Self::default();
        let host = &mut scenario.host;
        if let Some(version) = &file.libvirt {
            host.libvirt_version = parse_version(version)?;
        }
        if let Some(version) = &file.hypervisor {
            host.hypervisor_version = parse_version(version)?;
        }
        if let Some(hostname) = file.hostname {
            host.hostname = hostname;
        }
        if let Some(wait) = &file.job_wait {
            scenario.limits.job_wait = parse_time(wait)?;
        }
        if let Some(clock) = &file.clock {
            scenario.clock = parse_clock(clock)?;
        }
        for group in file.domains {
            group.add_to(&mut scenario.domains, folder)?;
        }
        scenario.commands = file.commands;
        Ok(scenario)
    }
}

impl Group {
    fn add_to(self, domains: &mut Vec<Domain>, folder: &Path) -> Result<(), ScenarioError> {
        if let Some(params) = &self.params {
            let path = folder.join(params);
            let golden = params::parse(&read(&path)?)
                .map_err(|source| ScenarioError::Params { path: path.display().to_string(), source })?;
            for domain in golden {
                domains.push(self.apply(Domain::golden(domain))?);
            }
            return Ok(());
        }
        let template = Arc::new(parse_template(self.template.as_ref())?);
        let pattern = self.name.as_deref().unwrap_or("vm-{}");
        for _ in 0..self.count.unwrap_or(1) {
            let name = pattern.replace("{}", &domains.len().to_string());
            domains.push(self.apply(Domain::new(name, Arc::clone(&template)))?);
        }
        Ok(())
    }

    fn apply(&self, mut domain: Domain) -> Result<Domain, ScenarioError> {
        let parse = |interfaces: &Option<Vec<InterfaceOf>>| {
            let parsed = interfaces.as_ref().map(|list| list.iter().map(InterfaceOf::parse).collect());
            parsed.transpose()
        };
        domain.interfaces = parse(&self.interfaces)?;
        domain.neighbours = parse(&self.neighbours)?;
        domain.agent_interfaces = parse(&self.agent_interfaces)?;
        domain.persistent = !self.transient;
        domain.autostart = self.autostart;
        domain.managed_save = self.managed_save;
        domain.snapshots = if self.snapshots { Node::only("snapshot") } else { Vec::new() };
        domain.checkpoints = if self.checkpoints { Node::only("checkpoint") } else { Vec::new() };
        domain.title.clone_from(&self.title);
        domain.description.clone_from(&self.description);
        domain.xml.clone_from(&self.xml);
        if self.id.is_some() {
            domain.id = self.id;
        }
        if let Some(state) = self.state {
            domain.set_state(state, self.reason.unwrap_or_else(|| state.usual_reason()));
        }
        Ok(domain)
    }
}

fn read(path: &Path) -> Result<String, ScenarioError> {
    std::fs::read_to_string(path).map_err(|source| ScenarioError::Read { path: path.display().to_string(), source })
}

fn malformed(expected: &'static str, text: &str) -> ScenarioError {
    ScenarioError::Malformed { expected, text: text.to_owned() }
}

fn parse_time(text: &str) -> Result<Duration, ScenarioError> {
    humantime::parse_duration(text).map_err(|_| malformed("a time", text))
}

/// A version such as `12.7.0` as libvirt counts it.
///
/// # Errors
///
/// When the text is not three numbers.
pub fn parse_version(text: &str) -> Result<u64, ScenarioError> {
    let wrong = || malformed("a version such as 9.0.0", text);
    let parts: Result<Vec<u64>, _> = text.split('.').map(str::parse).collect();
    match parts.as_deref() {
        Ok([major, minor, release]) => Ok(major * 1_000_000 + minor * 1_000 + release),
        _ => Err(wrong()),
    }
}

fn parse_clock(value: &Value) -> Result<Clock, ScenarioError> {
    match value.as_str() {
        Some("time") => return Ok(Clock::Time),
        Some("manual") => return Ok(Clock::Manual),
        _ => {}
    }
    match value.get("per-call").and_then(Value::as_str) {
        Some(step) => Ok(Clock::PerCall(parse_time(step)?)),
        None => Err(malformed("time, manual or {per-call: TIME}", serde_yaml::to_string(value)?.trim_end())),
    }
}

/// A template by name, or by fields over a base.
fn parse_template(value: Option<&Value>) -> Result<Template, ScenarioError> {
    let named = |name: &str| Template::named(name).ok_or_else(|| malformed("a template", name));
    match value {
        None => Ok(Template::default()),
        Some(Value::String(name)) => named(name),
        Some(value) => {
            let mut fields: Mapping = serde_yaml::from_value(value.clone())?;
            let base = match fields.remove("base") {
                Some(Value::String(name)) => named(&name)?,
                _ => Template::default(),
            };
            let mut merged: Mapping = serde_yaml::from_value(serde_yaml::to_value(base)?)?;
            merged.extend(fields);
            Ok(serde_yaml::from_value(Value::Mapping(merged))?)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::parse_version;
    use crate::domain::DomainState;
    use crate::scenario::{Clock, Scenario};
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn a_scenario_file_says_everything() {
        let folder = tempfile::tempdir().unwrap();
        let golden = "domain 7 4dea22b3-1d52-d8f3-2516-782e98ab3fa0 \"gold\"\nstate.state int 1\n";
        std::fs::write(folder.path().join("a.params"), golden).unwrap();
        let text = "libvirt: 12.7.0\nclock: {per-call: 1s}\njob_wait: 2s\ndomains:\n\
                    - {count: 2, template: medium}\n\
                    - {name: db, template: {base: large, disks: 12}, state: paused, title: T, autostart: true,\n\
                    \x20  agent_interfaces: [{name: eth0, addresses: [192.0.2.7/24]}]}\n\
                    - {params: a.params}\ncommands: [hang db]\n";
        let scenario = Scenario::from_yaml(text, folder.path()).unwrap();
        let names: Vec<_> = scenario.domains.iter().map(|domain| domain.name.as_str()).collect();
        assert_eq!(names, ["vm-0", "vm-1", "db", "gold"]);
        let db = &scenario.domains[2];
        assert_eq!((db.state, db.autostart), (DomainState::Paused, true));
        assert_eq!(db.agent_interfaces.as_ref().unwrap()[0].addresses, [("192.0.2.7".to_owned(), 24)]);
        assert_eq!((&db.interfaces, &db.neighbours), (&None, &None));
        let template = db.template().unwrap();
        assert_eq!((template.disks, template.vcpus), (12, 16));
        assert_eq!(scenario.clock, Clock::PerCall(Duration::from_secs(1)));
        assert_eq!(scenario.host.libvirt_version, 12_007_000);
        assert_eq!(scenario.commands, ["hang db"]);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for text in [
            "domain: []",
            "domains: [{template: huge}]",
            "domains: [{template: {disk: 3}}]",
            "libvirt: new",
            "clock: {per-day: 1s}",
            "domains: [{params: missing.params}]",
            "domains: [{interfaces: [{name: a, addresses: [192.0.2.7]}]}]",
        ] {
            assert!(Scenario::from_yaml(text, Path::new("/nowhere")).is_err(), "{text}");
        }
        assert_eq!(parse_version("9.0.0").unwrap(), 9_000_000);
    }
}
