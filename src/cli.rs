//! The command line.
//!
//! Flags and the configuration file parse their values with the same types, so `clap` refuses a bad flag with the words
//! that the file's reader has, and exits with code 2.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{
    self, Config, ConfigError, Group, List, ListenAddress, LogFormat, LogLevel, MAX_REQUESTS, PagePath, Uri, ValueError,
};

const EXAMPLES: &str = "\
Examples:
  domstats-exporter
          Serve the metrics of the local libvirt's domains at http://localhost:9177/metrics
  domstats-exporter --config.file=/etc/domstats-exporter/config.yaml --web.listen-address=127.0.0.1:9177
          Read a configuration file, but listen on the loopback interface only
  domstats-exporter check
          Check the configuration of the service, libvirt and the domains, and suggest fixes
  domstats-exporter scrape --libvirt.uri=test:///default
          Collect once from libvirt's built-in test driver and print the metrics
  domstats-exporter scrape --format=params > bug-report.params
          Print what libvirt sent, unchanged
  domstats-exporter targets | jq -r '.[] | select(.id) | .name'
          Print the names of running and paused domains

Environment:
  OTEL_EXPORTER_OTLP_ENDPOINT
          Where to push metrics over OTLP; without it and without otlp.endpoint in the file, nothing is pushed
  OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_COMPRESSION, \
OTEL_EXPORTER_OTLP_INSECURE, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, \
OTEL_EXPORTER_OTLP_CLIENT_KEY
          How to push. Each of these, and the endpoint, has a form for metrics only: OTEL_EXPORTER_OTLP_METRICS_...
  OTEL_METRIC_EXPORT_INTERVAL, OTEL_METRIC_EXPORT_TIMEOUT, OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
          How often to push, for how long to try, and whether counters are sent as deltas
  OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME
          Resource attributes
  OTEL_SDK_DISABLED
          Push nothing
The section otlp of the configuration file overrides these variables.

Exit codes: 0 done, 1 failed, 2 bad flag or configuration, 3 (check only) works in part.";

/// The configuration file of the service in every package.
pub const SERVICE_FILE: &str = "/etc/domstats-exporter/config.yaml";

/// Prometheus and OpenTelemetry exporter for the statistics of libvirt domains.
///
/// The default command is serve. Flags override the configuration file, which overrides the environment and the defaults. No file is needed.
#[derive(Debug, Parser)]
#[command(name = "domstats-exporter", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
    /// Whether the configuration file is one that no flag names.
    #[arg(skip)]
    found: bool,
}

/// Where the settings come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Whether no flag names it: it is that of the service.
    pub found: bool,
    /// The flags with their values, without a password in the URI.
    pub flags: Vec<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve metrics over HTTP until SIGTERM or SIGINT (the default)
    Serve,
    /// Collect once and print the result
    Scrape {
        /// Output format
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ScrapeFormat::Text)]
        format: ScrapeFormat,
        /// Collect from the target with this name, instead of the local libvirt
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
    },
    /// Check configuration, connection and domains, show what would be exported, and suggest fixes
    ///
    /// Without --config.file it reads the configuration of the service, /etc/domstats-exporter/config.yaml, if that exists.
    Check {
        /// Output format
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
        output: ReportFormat,
        /// Check the target with this name, instead of the local libvirt
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// Check all targets as well
        #[arg(long, conflicts_with = "target")]
        all: bool,
    },
    /// Check whether the running exporter with the same settings responds, for the health check of a container
    Healthy,
    /// Print everything known about the domains, as JSON
    Targets {
        /// Print the domains of the target with this name, instead of those of the local libvirt
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
    },
    /// Print the reference of all metrics
    Metrics {
        /// Output format
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReferenceFormat::Markdown)]
        format: ReferenceFormat,
    },
}

/// How `scrape` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScrapeFormat {
    /// OpenMetrics 1.0
    Openmetrics,
    /// Prometheus' text format 0.0.4
    Text,
    /// libvirt's typed parameters, for bug reports
    Params,
    /// What an OTLP push would send, as JSON
    OtlpJson,
}

/// How `check` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Lines for people
    Text,
    /// One object for programs
    Json,
}

/// How `metrics` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReferenceFormat {
    /// Tables for people
    Markdown,
    /// One object per metric for programs
    Json,
}

/// The flags of every command, before or after it. They are options and have no defaults, so that a flag not given leaves the file's setting alone.
#[derive(Debug, Args)]
struct Flags {
    /// Configuration file (YAML), /etc/domstats-exporter/config.yaml for the service; see config.example.yaml
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    /// libvirt connection URI [default: qemu:///system]
    #[arg(long = "libvirt.uri", value_name = "URI", global = true, help_heading = "libvirt")]
    libvirt_uri: Option<Uri>,

    #[arg(
        help = groups_help(),
        long = "collection.groups",
        value_name = "GROUPS",
        value_delimiter = ',',
        global = true,
        help_heading = "libvirt"
    )]
    collection_groups: Option<Vec<Group>>,

    /// Address to listen on: `:port` for every interface, `host:port`, `[ipv6]:port` or `unix:/path`; may be given several times [default: :9177]
    #[arg(long = "web.listen-address", value_name = "ADDRESS", global = true, help_heading = "HTTP server")]
    web_listen_address: Option<Vec<ListenAddress>>,

    /// Serve on the sockets that systemd passes, instead of an address
    #[arg(
        long = "web.systemd-socket",
        conflicts_with = "web_listen_address",
        global = true,
        help_heading = "HTTP server"
    )]
    web_systemd_socket: bool,

    /// Path to serve the metrics at [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH", global = true, help_heading = "HTTP server")]
    web_telemetry_path: Option<PagePath>,

    /// Web configuration file (TLS, client certificates, passwords), in the format of Prometheus' exporter-toolkit
    #[arg(long = "web.config.file", value_name = "FILE", global = true, help_heading = "HTTP server")]
    web_config_file: Option<PathBuf>,

    /// Add `_created` series to OpenMetrics output; protobuf has created timestamps without them
    #[arg(long = "web.openmetrics-created", global = true, help_heading = "HTTP server")]
    web_openmetrics_created: bool,

    /// Maximum number of parallel scrape requests; 0 is no limit [default: 40]
    #[arg(
        long = "web.max-requests",
        value_name = "NUMBER",
        global = true,
        help_heading = "HTTP server",
        value_parser = max_requests
    )]
    web_max_requests: Option<usize>,

    /// Enable `POST /-/reload`, which reloads the configuration as SIGHUP does
    #[arg(long = "web.enable-lifecycle", global = true, help_heading = "HTTP server")]
    web_enable_lifecycle: bool,

    /// Only log messages with this severity or above: error, warn, info, debug or trace [default: info]
    #[arg(long = "log.level", value_name = "LEVEL", global = true, help_heading = "Log")]
    log_level: Option<LogLevel>,

    /// Format of log lines: logfmt or json [default: logfmt]
    #[arg(long = "log.format", value_name = "FORMAT", global = true, help_heading = "Log")]
    log_format: Option<LogFormat>,
}

impl Cli {
    /// What to do.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or(Command::Serve)
    }

    /// From here on the settings come from `file`, if it exists and no flag names another.
    #[must_use]
    pub fn or_file(mut self, file: &Path) -> Self {
        if self.flags.config_file.is_none() && file.exists() {
            self.flags.config_file = Some(file.to_owned());
            self.found = true;
        }
        self
    }

    /// Where the settings come from.
    #[must_use]
    pub fn used(&self) -> Used {
        let Flags { config_file, web_config_file, .. } = &self.flags;
        let flags = &self.flags;
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let all = [
            ("config.file", path(config_file).filter(|_| !self.found)),
            ("libvirt.uri", flags.libvirt_uri.as_ref().map(|uri| uri.redacted().to_string())),
            ("collection.groups", flags.collection_groups.as_deref().map(joined)),
            ("web.listen-address", flags.web_listen_address.as_deref().map(joined)),
            ("web.systemd-socket", flags.web_systemd_socket.then(|| "true".to_owned())),
            ("web.telemetry-path", flags.web_telemetry_path.as_ref().map(ToString::to_string)),
            ("web.config.file", path(web_config_file)),
            ("web.openmetrics-created", flags.web_openmetrics_created.then(|| "true".to_owned())),
            ("web.max-requests", flags.web_max_requests.map(|number| number.to_string())),
            ("web.enable-lifecycle", flags.web_enable_lifecycle.then(|| "true".to_owned())),
            ("log.level", flags.log_level.map(|level| level.to_string())),
            ("log.format", flags.log_format.map(|format| format.to_string())),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
        Used { file: config_file.clone(), found: self.found, flags: given.collect() }
    }

    /// The settings: the configuration file, if one is given, with the flags over it. Each call reads the file.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let flags = &self.flags;
        let mut config = match &flags.config_file {
            Some(path) => config::load(path)?,
            None => Config::default(),
        };
        set(&mut config.libvirt.uri, &flags.libvirt_uri);
        set_list(&mut config.collection.groups, &flags.collection_groups, "--collection.groups")?;
        set_list(&mut config.web.listen_addresses, &flags.web_listen_address, "--web.listen-address")?;
        config.web.systemd_socket |= flags.web_systemd_socket;
        set(&mut config.web.telemetry_path, &flags.web_telemetry_path);
        if flags.web_config_file.is_some() {
            config.web.config_file.clone_from(&flags.web_config_file);
        }
        config.web.openmetrics_created |= flags.web_openmetrics_created;
        set(&mut config.web.max_requests, &flags.web_max_requests);
        config.web.enable_lifecycle |= flags.web_enable_lifecycle;
        set(&mut config.log.level, &flags.log_level);
        set(&mut config.log.format, &flags.log_format);
        let paths = config.check_paths();
        paths.map_err(|(_, source)| ConfigError::Flag { flag: "--web.telemetry-path", source })?;
        config.apply_environment(&|name| std::env::var(name).ok())?;
        let file = flags.config_file.as_deref();
        config.check_uris(file, flags.libvirt_uri.is_some())?;
        config.check(file)?;
        Ok(config)
    }
}

fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn groups_help() -> String {
    let join =
        |groups: &mut dyn Iterator<Item = &Group>| groups.map(|group| group.as_str()).collect::<Vec<_>>().join(", ");
    let all = join(&mut Group::ALL.iter());
    let off = join(&mut Group::ALL.iter().filter(|group| !group.info().default));
    format!("Groups of statistics to collect, separated by commas: {all} [default: all but {off}]")
}

fn max_requests(text: &str) -> Result<usize, ValueError> {
    let number = text.parse().ok().filter(|number| *number <= MAX_REQUESTS);
    number.ok_or_else(|| ValueError::CountRange { number: text.to_owned(), least: 0, most: MAX_REQUESTS })
}

fn set<T: Clone>(setting: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        *setting = value.clone();
    }
}

fn set_list<T>(setting: &mut List<T>, values: &Option<Vec<T>>, flag: &'static str) -> Result<(), ConfigError>
where
    T: Clone,
    List<T>: TryFrom<Vec<T>, Error = ValueError>,
{
    if let Some(values) = values {
        *setting = List::try_from(values.clone()).map_err(|source| ConfigError::Flag { flag, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
