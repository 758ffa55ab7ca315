//! The command line.
//!
//! Flags and the configuration file parse their values with the same types, so `clap` refuses a bad flag with the words
//! that the file's reader has, and exits with code 2.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{
    self, Config, ConfigError, Group, List, ListenAddress, LogFormat, LogLevel, MAX_REQUESTS, PagePath, Uri, ValueError,
};

const EXAMPLES: &str = "\
Examples:
  domstats-exporter
          Serve the local libvirt's domains at http://localhost:9177/metrics
  domstats-exporter --config.file=/etc/domstats-exporter.yaml --web.listen-address=127.0.0.1:9177
          Take the settings from a file, but listen on the loopback interface only
  domstats-exporter check
          Say whether the settings are good and libvirt answers, and what there would be to see
  domstats-exporter scrape --libvirt.uri=test:///default
          Collect once from libvirt's built-in test driver and print the metrics
  domstats-exporter scrape --format=params > bug-report.params
          Print what libvirt sent, as it sent it
  domstats-exporter targets | jq -r '.[] | select(.id) | .name'
          Print the names of the domains that run or are paused

Exit codes: 0 done, 1 failed, 2 bad flag or configuration.";

/// Prometheus and OpenTelemetry exporter for the statistics of libvirt domains.
///
/// Without a command it serves. Flags override the configuration file, which overrides the defaults; no file is needed.
#[derive(Debug, Parser)]
#[command(name = "domstats-exporter", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve metrics over HTTP until SIGTERM or SIGINT (this is what happens without a command)
    Serve,
    /// Collect once and print the result
    Scrape {
        /// How to print it
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ScrapeFormat::Text)]
        format: ScrapeFormat,
    },
    /// Check the settings and the connection to libvirt, and say what there would be to export
    Check,
    /// Ask the exporter that runs with the same settings whether it answers, as the health check of a container does
    Healthy,
    /// Print the domains with all that is known of them, as JSON
    Targets,
    /// Print the reference of all metrics
    Metrics {
        /// How to print it
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
    /// What a push over OTLP would send, as JSON
    OtlpJson,
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
    /// Configuration file (YAML); see config.example.yaml
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    config_file: Option<PathBuf>,

    /// libvirt connection to ask [default: qemu:///system]
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

    /// Serve on the sockets that systemd passes instead of on an address
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

    /// Let OpenMetrics say when each counter began, by a series `_created` beside it, as protobuf does without one
    #[arg(long = "web.openmetrics-created", global = true, help_heading = "HTTP server")]
    web_openmetrics_created: bool,

    /// How many scrapes to answer at a time; 0 is no limit [default: 40]
    #[arg(
        long = "web.max-requests",
        value_name = "NUMBER",
        global = true,
        help_heading = "HTTP server",
        value_parser = max_requests
    )]
    web_max_requests: Option<usize>,

    /// Let `POST /-/reload` read the configuration anew, as SIGHUP always does
    #[arg(long = "web.enable-lifecycle", global = true, help_heading = "HTTP server")]
    web_enable_lifecycle: bool,

    /// Least severe level to log: error, warn, info, debug or trace [default: info]
    #[arg(long = "log.level", value_name = "LEVEL", global = true, help_heading = "Log")]
    log_level: Option<LogLevel>,

    /// How to write a log line: logfmt or json [default: logfmt]
    #[arg(long = "log.format", value_name = "FORMAT", global = true, help_heading = "Log")]
    log_format: Option<LogFormat>,
}

impl Cli {
    /// What to do.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command.unwrap_or(Command::Serve)
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
        paths.map_err(|source| ConfigError::Flag { flag: "--web.telemetry-path", source })?;
        config.apply_environment(&|name| std::env::var(name).ok())?;
        let file = flags.config_file.as_deref();
        config.check_uri(file.filter(|_| flags.libvirt_uri.is_none()))?;
        config.check(file)?;
        Ok(config)
    }
}

fn groups_help() -> String {
    let join =
        |groups: &mut dyn Iterator<Item = &Group>| groups.map(|group| group.as_str()).collect::<Vec<_>>().join(", ");
    let all = join(&mut Group::ALL.iter());
    let off = join(&mut Group::ALL.iter().filter(|group| !group.info().default));
    format!("Groups of statistics to ask for, separated by commas: {all} [default: all but {off}]")
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
mod tests {
    use std::error::Error;
    use std::io::Write;

    use clap::CommandFactory;
    use tempfile::NamedTempFile;

    use super::*;

    fn cli(arguments: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["domstats-exporter"].into_iter().chain(arguments.split_whitespace()))
    }

    fn config(arguments: &str) -> Config {
        cli(arguments).expect(arguments).config().expect(arguments)
    }

    #[test]
    fn clap_finds_no_fault_in_the_definitions() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn each_command_is_known_and_serve_is_the_default() {
        for (arguments, command) in [
            ("", Command::Serve),
            ("serve", Command::Serve),
            ("check", Command::Check),
            ("healthy", Command::Healthy),
            ("targets", Command::Targets),
            ("scrape", Command::Scrape { format: ScrapeFormat::Text }),
            ("scrape --format params", Command::Scrape { format: ScrapeFormat::Params }),
            ("scrape --format=openmetrics", Command::Scrape { format: ScrapeFormat::Openmetrics }),
            ("metrics", Command::Metrics { format: ReferenceFormat::Markdown }),
            ("metrics --format json", Command::Metrics { format: ReferenceFormat::Json }),
        ] {
            assert_eq!(cli(arguments).expect(arguments).command(), command);
        }
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        let flags = "--libvirt.uri test:///default --collection.groups state,vcpu_kvm --web.listen-address :1 \
                     --web.listen-address [::1]:2 --web.telemetry-path /m --log.level debug --log.format json";
        let before = config(&format!("{flags} scrape"));
        assert_eq!(before, config(&format!("scrape {flags}")));
        assert_eq!(before, config(flags));
        assert_eq!(before.libvirt.uri.as_str(), "test:///default");
        assert_eq!(*before.collection.groups, [Group::State, Group::VcpuKvm]);
        assert_eq!(before.web.listen_addresses.len(), 2);
        assert_eq!(before.web.telemetry_path.as_str(), "/m");
        assert_eq!((before.log.level, before.log.format), (LogLevel::Debug, LogFormat::Json));
    }

    #[test]
    fn flags_override_the_file_and_nothing_else_of_it() {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(b"log: {level: warn, format: json}\nweb: {listen_addresses: [':1', ':2']}\n").expect("written");
        let path = file.path().display();
        assert_eq!(config(""), Config::default());
        let config = config(&format!("check --config.file {path} --log.level trace --web.listen-address :3"));
        assert_eq!((config.log.level, config.log.format), (LogLevel::Trace, LogFormat::Json));
        assert_eq!(*config.web.listen_addresses, [ListenAddress::AnyInterface { port: 3 }]);
    }

    #[test]
    fn a_bad_flag_is_refused_in_the_words_of_the_file() {
        let groups: Vec<String> = Group::ALL.iter().map(|group| format!("`{group}`")).collect();
        let unknown_group = format!(
            "error: invalid value 'blok' for '--collection.groups <GROUPS>': unknown group `blok`, expected one of {}",
            groups.join(", ")
        );
        for (arguments, expected) in [
            ("--collection.groups state,blok", unknown_group.as_str()),
            (
                "serve --log.level=loud",
                "error: invalid value 'loud' for '--log.level <LEVEL>': unknown log level `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`",
            ),
            (
                "--log.format=xml",
                "error: invalid value 'xml' for '--log.format <FORMAT>': unknown log format `xml`, expected one of `logfmt`, `json`",
            ),
            (
                "--web.listen-address=9177",
                "error: invalid value '9177' for '--web.listen-address <ADDRESS>': bad listen address `9177`, expected `:port`, `host:port`, `[ipv6]:port` or `unix:/path`",
            ),
            (
                "--web.telemetry-path=/-/ready",
                "error: invalid value '/-/ready' for '--web.telemetry-path <PATH>': bad path `/-/ready`, which the exporter serves another page at",
            ),
            (
                "--libvirt.uri=",
                "error: invalid value '' for '--libvirt.uri <URI>': the libvirt URI is empty, expected one such as `qemu:///system`",
            ),
        ] {
            let error = cli(arguments).expect_err(arguments);
            assert_eq!(error.exit_code(), 2);
            assert_eq!(error.to_string().lines().next(), Some(expected));
        }
    }

    #[test]
    fn values_that_do_not_go_together_name_their_flag() {
        let error = cli("--collection.groups vm,vm").expect("parsed").config().expect_err("refused");
        assert_eq!(error.to_string(), "bad --collection.groups");
        assert_eq!(error.source().map(ToString::to_string), Some("`vm` is listed twice".to_owned()));
    }
}
