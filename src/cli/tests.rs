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
    let target = |name: &str| Some(name.to_owned());
    for (arguments, command) in [
        ("", Command::Serve),
        ("serve", Command::Serve),
        ("check", Command::Check { output: ReportFormat::Text, target: None, all: false }),
        ("check --output json --all", Command::Check { output: ReportFormat::Json, target: None, all: true }),
        ("check --target a", Command::Check { output: ReportFormat::Text, target: target("a"), all: false }),
        ("healthy", Command::Healthy),
        ("targets", Command::Targets { target: None }),
        ("targets --target a/b", Command::Targets { target: target("a/b") }),
        ("scrape", Command::Scrape { format: ScrapeFormat::Text, target: None }),
        ("scrape --format params", Command::Scrape { format: ScrapeFormat::Params, target: None }),
        ("scrape --target=a", Command::Scrape { format: ScrapeFormat::Text, target: target("a") }),
        ("scrape --format=openmetrics", Command::Scrape { format: ScrapeFormat::Openmetrics, target: None }),
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
fn the_file_of_the_service_is_read_unless_another_is_named() {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(b"log: {level: warn}\n").expect("written");
    let found = cli("check --web.max-requests 3 --libvirt.uri qemu+tcp://me:secret@h/system").expect("parsed");
    let found = found.or_file(file.path());
    assert_eq!(found.config().expect("valid").log.level, LogLevel::Warn);
    let Used { file: of, found, flags } = found.used();
    assert_eq!((of.as_deref(), found), (Some(file.path()), true));
    assert_eq!(flags, ["--libvirt.uri=qemu+tcp://<hidden>@h/system", "--web.max-requests=3"]);
    let named = cli("check --config.file /another.yaml").expect("parsed").or_file(file.path()).used();
    assert_eq!((named.file, named.found), (Some("/another.yaml".into()), false));
    assert_eq!(cli("check").expect("parsed").or_file("/nonexistent.yaml".as_ref()).used(), Used::default());
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
    ] {
        let error = cli(arguments).expect_err(arguments);
        assert_eq!(error.exit_code(), 2);
        assert_eq!(error.to_string().lines().next(), Some(expected));
    }
    let nothing = cli("--libvirt.uri=").expect("a flag").config().expect_err("no daemon and no targets");
    assert!(nothing.to_string().contains("there would be nothing to export"), "{nothing}");
}

#[test]
fn values_that_do_not_go_together_name_their_flag() {
    let error = cli("--collection.groups vm,vm").expect("parsed").config().expect_err("refused");
    assert_eq!(error.to_string(), "bad --collection.groups");
    assert_eq!(error.source().map(ToString::to_string), Some("`vm` is listed twice".to_owned()));
}

/// A variable for metrics alone stands for its form for all signals.
#[test]
fn the_help_names_every_variable_of_the_environment() {
    let help = <Cli as CommandFactory>::command().render_long_help().to_string();
    let sources = [
        include_str!("../config/environment.rs"),
        include_str!("../config/otlp.rs"),
        include_str!("../push/otlp/resource.rs"),
    ];
    let names = sources.iter().flat_map(|source| source.split(|c: char| !c.is_ascii_uppercase() && c != '_'));
    let names: Vec<&str> = names.filter(|name| name.starts_with("OTEL_") && !name.ends_with('_')).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(help.contains(name) || help.contains(&name.replace("_METRICS_", "_")), "{name} is not in\n{help}");
    }
    assert!(help.contains(SERVICE_FILE));
}
