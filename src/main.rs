//! Arguments to command to exit code; errors are printed here, once.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use domstats_exporter::app::{Collected, Exporter, Service, Systemd, config_of_target, configs_of_targets};
use domstats_exporter::check::{self, Report};
use domstats_exporter::cli::{Cli, Command, ReferenceFormat, ReportFormat, SERVICE_FILE, ScrapeFormat};
use domstats_exporter::collect::Selection;
use domstats_exporter::config::Config;
use domstats_exporter::encode::otlp::{self, Chunks};
use domstats_exporter::encode::{Format, encode_params};
use domstats_exporter::errors::one_line;
use domstats_exporter::push::Batch;
use domstats_exporter::push::otlp as push;
use domstats_exporter::web::{Listener, Security, Source as _};
use domstats_exporter::{domain_list, libvirt, log, metrics_doc, web};
use tokio::signal::unix::{SignalKind, signal};

/// Threads for what may block; the server limits before how much is built, encoded or checked at a time.
const BLOCKING_THREADS: usize = 8;
/// A flag or the configuration is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    libvirt::keep_memory_small();
    let mut cli = Cli::parse();
    if matches!(cli.command(), Command::Check { .. }) {
        cli = cli.or_file(Path::new(SERVICE_FILE));
    }
    let config = match cli.config() {
        Ok(config) => config,
        Err(error) => return refuse(cli.command(), &error),
    };
    match run(cli, &config) {
        Ok(code) => code,
        Err(error) => fail(&*error, ExitCode::FAILURE),
    }
}

fn run(cli: Cli, config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    if let Command::Metrics { format } = cli.command() {
        let text = match format {
            ReferenceFormat::Markdown => metrics_doc::markdown(),
            ReferenceFormat::Json => metrics_doc::json()? + "\n",
        };
        return print(text.as_bytes());
    }
    if cli.command() == Command::Healthy {
        web::answers(&config.web)?;
        return Ok(ExitCode::SUCCESS);
    }
    web::raise_descriptor_limit(config.probe_connections())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let done = match cli.command() {
        Command::Scrape { format, target } => match exporter_of(config, target.as_deref()) {
            Ok(exporter) => runtime.block_on(scrape(&exporter, format)),
            Err(error) => Ok(refuse(cli.command(), &*error)),
        },
        Command::Check { output, target, all } => runtime.block_on(run_check(&cli, config, output, target, all)),
        Command::Targets { target } => match exporter_of(config, target.as_deref()) {
            Ok(exporter) => runtime.block_on(targets(&exporter)),
            Err(error) => Ok(refuse(cli.command(), &*error)),
        },
        Command::Serve | Command::Healthy | Command::Metrics { .. } => runtime.block_on(serve(cli, config)),
    };
    // A thread that is stuck in a libvirt call must not keep the process from ending.
    runtime.shutdown_background();
    done
}

async fn serve(cli: Cli, config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    let log = log::init(config.log)?;
    let security = match Security::load(config.web.config_file.as_deref()) {
        Ok(security) => Arc::new(security),
        Err(error) => return Ok(fail(&error, ExitCode::from(USAGE))),
    };
    // Before the first connection is accepted: a SIGHUP is a reload from then on, not the end.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let listeners = match web::bind(&config.web) {
        Ok(listeners) => listeners,
        Err(error) => return Ok(fail(&error, ExitCode::from(USAGE))),
    };
    let push = match push::settings(config) {
        Ok(push) => push,
        Err(error) => return Ok(fail(&error, ExitCode::from(USAGE))),
    };
    let exporter = Exporter::start(config, Some(Arc::clone(&security)))?;
    let pulses = listeners.iter().map(Listener::pulse).collect();
    let systemd = Arc::new(Systemd::new(Arc::clone(&exporter), pulses));
    let service = Service::new(exporter, Arc::clone(&security), log, Arc::new(move || cli.config()));
    let service = Arc::new(service);
    service.push(push);
    let kept = Arc::clone(&service);
    let targets = tokio::spawn(async move { kept.keep_targets().await });
    let reloaded = Arc::clone(&service);
    let watched = Arc::clone(&systemd);
    let watch = tokio::spawn(async move { watched.watch().await });
    let shutdown = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => {
                    let reload = async {
                        systemd.reloading();
                        // How it went is in the log.
                        let _logged = reloaded.reload().await;
                        systemd.ready().await;
                    };
                    tokio::select! {
                        _ = terminate.recv() => break,
                        _ = interrupt.recv() => break,
                        () = reload => {}
                    }
                }
            }
        }
        tracing::info!("shutting down");
        watch.abort();
        targets.abort();
        systemd.stopping();
    };
    for listener in &listeners {
        let path = config.web.telemetry_path.as_str();
        tracing::info!(address = listener.name(), path, version = env!("CARGO_PKG_VERSION"), "serving metrics");
    }
    web::serve(listeners, security, Arc::clone(&service), shutdown).await;
    service.finish().await;
    Ok(ExitCode::SUCCESS)
}

/// That of the local daemon, or of a target.
fn exporter_of(config: &Config, target: Option<&str>) -> Result<Arc<Exporter>, Box<dyn Error>> {
    Ok(match target {
        Some(target) => Exporter::start_target(&config_of_target(config, target)?, target)?,
        None => Exporter::start(config, None)?,
    })
}

async fn scrape(exporter: &Arc<Exporter>, format: ScrapeFormat) -> Result<ExitCode, Box<dyn Error>> {
    let format = match format {
        ScrapeFormat::Openmetrics => Format::OpenMetrics,
        ScrapeFormat::Text => Format::Text,
        ScrapeFormat::Params => {
            let collected = exporter.collect(None, Selection::default()).await;
            return match &collected.collection.error {
                Some(error) => Err(error.clone().into()),
                None => print(encode_params(&collected.collection.records()).as_bytes()),
            };
        }
        ScrapeFormat::OtlpJson => return print_push(exporter).await,
    };
    let collected = exporter.collect_once().await;
    print(&format.encode(&exporter.exposition(&collected, format, exporter.config().metrics.naming)))?;
    outcome(&collected)
}

async fn targets(exporter: &Exporter) -> Result<ExitCode, Box<dyn Error>> {
    let snapshot = exporter.discover(None).await?;
    print((domain_list::json(&snapshot)? + "\n").as_bytes())
}

/// A failed collection has been printed as a scrape would show it; the exit code and the message say that it failed.
fn outcome(collected: &Collected) -> Result<ExitCode, Box<dyn Error>> {
    collected.collection.error.clone().map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

/// What a first push would send, whether anything is pushed or not.
async fn print_push(exporter: &Exporter) -> Result<ExitCode, Box<dyn Error>> {
    let collected = exporter.collect_once().await;
    let families = Arc::new(exporter.families(&collected));
    let mut batch = Batch { families, taken: collected.taken() };
    let dialect = push::dialect(&exporter.config(), exporter.target());
    let mut chunks = Chunks::new(dialect.clone(), push::Series::new(&dialect).parts(&mut batch));
    while let Some(chunk) = chunks.next_chunk() {
        print(otlp::to_json(&chunk.body)?.as_bytes())?;
    }
    outcome(&collected)
}

async fn run_check(
    cli: &Cli,
    config: &Config,
    output: ReportFormat,
    target: Option<String>,
    all: bool,
) -> Result<ExitCode, Box<dyn Error>> {
    if let Err(error) = Security::load(config.web.config_file.as_deref()) {
        return Ok(refuse(cli.command(), &error));
    }
    if let Err(error) = push::settings(config) {
        return Ok(refuse(cli.command(), &error));
    }
    let (mut targets, patterns) = if all { configs_of_targets(config) } else { Default::default() };
    if let Some(name) = &target {
        match config_of_target(config, name) {
            Ok(config) => _ = targets.insert(name.clone(), config),
            Err(error) => return Ok(refuse(cli.command(), &error)),
        }
    }
    let local = target.is_none().then_some(config);
    let report = check::run(&cli.used(), config, local, (targets, patterns)).await?;
    print_report(&report, output)
}

fn print_report(report: &Report, output: ReportFormat) -> Result<ExitCode, Box<dyn Error>> {
    let text = match output {
        ReportFormat::Text => report.text(),
        ReportFormat::Json => report.json()?,
    };
    print(text.as_bytes())?;
    Ok(ExitCode::from(report.status().exit_code()))
}

/// Settings that cannot be used: a line of standard error, or a report for the program that has asked for one.
fn refuse(command: Command, error: &dyn Error) -> ExitCode {
    if let Command::Check { output: ReportFormat::Json, .. } = command {
        let printed = print_report(&Report::refused(one_line(error)), ReportFormat::Json);
        return printed.unwrap_or_else(|error| fail(&*error, ExitCode::FAILURE));
    }
    fail(error, ExitCode::from(USAGE))
}

/// Prints a result. A closed pipe is no error: its reader has enough.
fn print(bytes: &[u8]) -> Result<ExitCode, Box<dyn Error>> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The error and its causes on one line of standard error.
fn fail(error: &dyn Error, code: ExitCode) -> ExitCode {
    let message = format!("domstats-exporter: {}", one_line(error));
    // Ignored: there may be no standard error.
    let _closed = writeln!(io::stderr(), "{message}");
    code
}
