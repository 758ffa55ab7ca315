//! The configuration: one YAML file, every key optional, and the only reader of YAML in the program.
//!
//! What a key may hold is decided by its type ([`Uri`], [`AnchoredRegex`], [`ListenAddress`], ...), each of which parses
//! itself from text. The file and the command line go through the same `FromStr`, so they refuse the same values
//! with the same messages, and a `Config` that exists is valid. `config.example.yaml` explains every key.

mod consistency;
mod count;
mod discovery;
mod domain_rule;
mod duration;
mod environment;
mod error;
mod file;
mod intervals;
mod list;
mod listen_address;
mod metadata;
mod name_from;
mod otlp;
mod place;
mod regex;
mod strict;
mod targets;
mod tls;
mod uri;
mod value;
mod web_file;
mod word;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use consistency::PROBE_PATHS;
pub use discovery::ServiceDiscovery;
pub use domain_rule::{DomainRule, DomainUuid};
pub use duration::Span;
pub(crate) use error::escape_controls;
pub use error::{ConfigError, ValueError};
pub(crate) use file::read_pem;
pub use intervals::Intervals;
pub use list::List;
pub use listen_address::ListenAddress;
pub use metadata::{LabelName, Metadata, MetadataLabels, XmlPath};
pub use name_from::NameFrom;
pub use otlp::{
    Endpoint, HeaderName, HeaderSecret, Headers, Naming, Otlp, OtlpCompression, OtlpProtocol, OtlpTls, Temporality,
};
pub use regex::{AnchoredRegex, CapturingRegex, NamePatterns};
use strict::Nulls;
pub use targets::{DEFAULT_PROFILE, Probe, Profile, Profiles, Target, TargetName, uri_key};
pub use tls::{CipherSuite, ClientAuth, Curve, Pem, Tls, TlsVersion};
pub use uri::Uri;
pub use value::PagePath;
pub use web_file::{
    BcryptHash, ContentTypeOptions, FrameOptions, RateLimit, UserName, WebFile, load_web_file, parse_web_file,
};
pub use word::{
    ActiveState, AddressFamily, CpuSource, DiscoverySource, DomainLabel, DomainState, InactiveDomains, LogFormat,
    LogLevel, MetricNaming, UnmappedKeys,
};

pub use crate::tables::Group;

/// A configuration is a page of text; what is larger is some other file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The highest limit of scrapes at a time, which is as good as none.
pub const MAX_REQUESTS: usize = 10_000;

/// Everything that the configuration file and the flags decide.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with sections such as `libvirt:`")]
pub struct Config {
    /// The libvirt daemon that is asked.
    pub libvirt: Libvirt,
    /// What one collection asks for, and how long it may take.
    pub collection: Collection,
    /// Which domains are exported, and how they are labelled.
    pub domains: Domains,
    /// How the definitions of the domains are read.
    pub metadata: Metadata,
    /// Which metric families are exported.
    pub metrics: Metrics,
    /// The daemons that `/probe` can be asked for, by name.
    pub targets: BTreeMap<TargetName, Target>,
    /// Settings for targets, over those of the sections above.
    pub profiles: Profiles,
    /// How targets are probed.
    pub probe: Probe,
    /// The guests as targets for Prometheus.
    pub service_discovery: ServiceDiscovery,
    /// The HTTP server.
    pub web: Web,
    /// Where metrics are pushed, and how.
    pub otlp: Otlp,
    /// The exporter's own log.
    pub log: Log,
}

/// The libvirt daemon that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `libvirt`")]
pub struct Libvirt {
    /// The connection URI of the local daemon; empty if there is none.
    pub uri: Uri,
    /// Whether a URI may name a program for the client library to run.
    pub allow_programs: bool,
}

/// What one collection asks for, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `collection`")]
pub struct Collection {
    /// The groups of statistics that libvirt is asked for.
    pub groups: List<Group>,
    /// Where CPU times of domains and vCPUs come from.
    pub cpu_source: CpuSource,
    /// How often groups that change seldom are asked for.
    pub intervals: Intervals,
    /// Whether the lower layers of a disk's backing chain are exported too.
    pub backing_chain: bool,
    /// The data exported of shut-off domains.
    pub inactive_domains: InactiveDomains,
    /// Number of parallel connections to libvirt.
    #[serde(deserialize_with = "count::up_to::<_, 16>")]
    pub workers: usize,
    /// How many domains are asked for in one call, at most.
    #[serde(deserialize_with = "count::up_to::<_, 1024>")]
    pub batch_size: usize,
    /// How long a result is good for others who ask for the same; zero is not at all.
    #[serde(deserialize_with = "duration::from_ms::<_, 0>", serialize_with = "duration::serialize")]
    pub min_interval: Duration,
    /// How long a collection may take.
    #[serde(deserialize_with = "duration::from_ms::<_, 100>", serialize_with = "duration::serialize")]
    pub deadline: Duration,
    /// How much earlier than the scraper's own timeout a collection has to end.
    #[serde(deserialize_with = "duration::from_ms::<_, 1>", serialize_with = "duration::serialize")]
    pub timeout_offset: Duration,
    /// How often to do a full resync, even without events.
    #[serde(deserialize_with = "duration::from_ms::<_, 1_000>", serialize_with = "duration::serialize")]
    pub resync_interval: Duration,
    /// After how long without a call a connection beyond the first is closed.
    #[serde(deserialize_with = "duration::from_ms::<_, 1_000>", serialize_with = "duration::serialize")]
    pub idle_timeout: Duration,
}

impl Collection {
    /// How long a collection for a scraper with this timeout may take: the offset less, but at least half of it.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Duration {
        timeout.saturating_sub(self.timeout_offset).max(timeout / 2)
    }
}

impl Default for Collection {
    fn default() -> Self {
        Self {
            groups: List::of(Group::ALL.iter().filter(|group| group.info().default).copied()),
            cpu_source: CpuSource::Auto,
            intervals: Intervals::default(),
            backing_chain: false,
            inactive_domains: InactiveDomains::State,
            workers: 4,
            batch_size: 16,
            min_interval: Duration::ZERO,
            deadline: Duration::from_secs(8),
            timeout_offset: Duration::from_millis(500),
            resync_interval: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(5 * 60),
        }
    }
}

/// Which domains are exported, and how they are labelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `domains`")]
pub struct Domains {
    /// Only domains that one of these means; all if the list is empty.
    pub include: Vec<DomainRule>,
    /// No domain that one of these means.
    pub exclude: Vec<DomainRule>,
    /// The labels that say which domain a sample belongs to.
    pub labels: List<DomainLabel>,
    /// Where the value of the label `domain` is.
    pub name_from: NameFrom,
}

impl Default for Domains {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            labels: List::of(DomainLabel::ALL.iter().copied()),
            name_from: NameFrom::default(),
        }
    }
}

/// Which metric families are exported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `metrics`")]
pub struct Metrics {
    /// Only families whose full name matches one of these; all if the list is empty.
    pub include: Vec<AnchoredRegex>,
    /// No family whose full name matches one of these.
    pub exclude: Vec<AnchoredRegex>,
    /// What becomes of statistics that this version has no metric for.
    pub unmapped: UnmappedKeys,
    /// Whose names a scrape has, unless its query says otherwise. A push has the native ones.
    pub naming: MetricNaming,
    /// Whether metrics that the exporter of another naming does not have are omitted.
    pub naming_only: bool,
}

impl Metrics {
    /// Whether the family with the full Prometheus name `family` is exported.
    #[must_use]
    pub fn selects(&self, family: &str) -> bool {
        (self.include.is_empty() || self.include.iter().any(|regex| regex.is_match(family)))
            && !self.exclude.iter().any(|regex| regex.is_match(family))
    }
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `web`")]
pub struct Web {
    /// Where the server listens; nowhere if metrics are only pushed.
    #[serde(deserialize_with = "list::or_empty")]
    pub listen_addresses: List<ListenAddress>,
    /// Whether the sockets come from systemd, whatever the addresses are.
    pub systemd_socket: bool,
    /// The path that the metrics are served at.
    pub telemetry_path: PagePath,
    /// The web configuration file, for TLS and passwords.
    #[serde(deserialize_with = "value::file_path")]
    pub config_file: Option<PathBuf>,
    /// Whether OpenMetrics says when each counter began, by one more series each.
    pub openmetrics_created: bool,
    /// Whether counters of groups that have an interval carry the time when they were read.
    pub timestamps: bool,
    /// How many scrapes are answered at a time; 0 is no limit.
    #[serde(deserialize_with = "count::zero_up_to::<_, MAX_REQUESTS>")]
    pub max_requests: usize,
    /// How many bytes of memory the answers on their way to clients may have; 0 is no limit.
    pub max_response_bytes: usize,
    /// Whether `POST /-/reload` reloads the configuration.
    pub enable_lifecycle: bool,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen_addresses: List::of([ListenAddress::AnyInterface { port: 9177 }]),
            systemd_socket: false,
            telemetry_path: PagePath::of("/metrics"),
            config_file: None,
            openmetrics_created: false,
            timestamps: false,
            max_requests: 40,
            max_response_bytes: 256 << 20,
            enable_lifecycle: false,
        }
    }
}

/// The exporter's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `log`")]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// How a line is written.
    pub format: LogFormat,
}

/// Reads a configuration from `text`; `file` names it in errors.
///
/// Nothing, or nothing but comments, is the default configuration.
pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
    // A configuration of this program's own can be written; without its defaults no null would be allowed.
    let defaults = serde_yaml::to_value(Config::default()).ok();
    let mut config: Config = parse_document(text, file, Nulls::Like(defaults.as_ref()))?;
    config.fill_profiles(text).map_err(|error| ConfigError::from_yaml(file, &error))?;
    let fault = |steps: &[&str], fault: &ValueError| ConfigError::contradiction(file, text, steps, &fault.to_string());
    config.check_paths().map_err(|(key, source)| fault(&key.split('.').collect::<Vec<_>>(), &source))?;
    match config.target_fault() {
        Some((steps, source)) => Err(fault(&steps, &source)),
        None => Ok(config),
    }
}

/// Reads the configuration file at `path`. A path in it is relative to its folder.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let mut config = parse(&read_text(path, "configuration")?, &path.display().to_string())?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    if let Some(file) = &mut config.web.config_file {
        *file = folder.join(&file);
    }
    config.otlp.tls.resolve(folder);
    Ok(config)
}

impl Config {
    /// The configuration as YAML without secrets, for the exporter's endpoints.
    pub fn to_public_yaml(&self) -> Result<String, serde_yaml::Error> {
        let mut config = self.clone();
        config.libvirt.uri = config.libvirt.uri.redacted();
        config.targets.values_mut().for_each(|target| target.uri = target.uri.redacted());
        config.otlp.redact();
        serde_yaml::to_string(&config)
    }

    /// Takes what the file leaves open from OpenTelemetry's environment variables; `variable` gives their values.
    pub fn apply_environment(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        environment::apply(&mut self.otlp, variable)
    }
}

fn parse_document<T: DeserializeOwned>(text: &str, file: &str, nulls: Nulls<'_>) -> Result<T, ConfigError> {
    strict::check(text, nulls)
        .and_then(|()| serde_yaml::from_str(text))
        .map_err(|error| ConfigError::from_yaml(file, &error))
}

/// `kind` names the file in errors.
fn read_text(path: &Path, kind: &'static str) -> Result<String, ConfigError> {
    let file = path.display().to_string();
    let bytes = file::read_file(path, MAX_FILE_BYTES).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => ConfigError::TooLarge { file: file.clone() },
        _ => ConfigError::Unreadable { kind, file: file.clone(), source },
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        ConfigError::not_utf8(file, &error.as_bytes()[..valid])
    })
}

#[cfg(test)]
mod otlp_tests;
#[cfg(test)]
mod probe_tests;
#[cfg(test)]
mod target_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod web_tests;
