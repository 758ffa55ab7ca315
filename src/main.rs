//! Arguments to command to exit code; errors are printed here, once.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use domstats_exporter::app::exporter::{Exporter, taken};
use domstats_exporter::app::service::{Service, sentence};
use domstats_exporter::app::systemd::Supervisor;
use domstats_exporter::cli::{Cli, Command, ReferenceFormat, ScrapeFormat};
use domstats_exporter::collect::Selection;
use domstats_exporter::config::Config;
use domstats_exporter::encode::otlp::{self, Chunks};
use domstats_exporter::encode::{Format, encode_params};
use domstats_exporter::push::{self, Batch, Series, Settings};
use domstats_exporter::web::{Listener, Security, Source as _};
use domstats_exporter::{check, domain_list, libvirt, log, metrics_doc, web};
use tokio::signal::unix::{SignalKind, signal};

/// Threads for what may block: who may build, encode or check a password at a time is decided before.
const BLOCKING_THREADS: usize = 8;
/// A flag or the configuration is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    libvirt::give_back_large_blocks();
    let cli = Cli::parse();
    let config = match cli.config() {
        Ok(config) => config,
        Err(error) => return fail(&error, ExitCode::from(USAGE)),
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
    web::raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let done = match cli.command() {
        Command::Scrape { format } => runtime.block_on(scrape(config, format)),
        Command::Check => runtime.block_on(run_check(config)),
        Command::Targets => runtime.block_on(targets(config)),
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
    // From the moment that it can be reached, a SIGHUP is a reload, not the end.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let listeners = match web::bind(&config.web) {
        Ok(listeners) => listeners,
        Err(error) => return Ok(fail(&error, ExitCode::from(USAGE))),
    };
    let push = match Settings::new(config) {
        Ok(push) => push,
        Err(error) => return Ok(fail(&error, ExitCode::from(USAGE))),
    };
    let exporter = Exporter::start(config)?;
    let pulses = listeners.iter().map(Listener::pulse).collect();
    let supervisor = Arc::new(Supervisor::new(Arc::clone(&exporter), pulses));
    let service = Service::new(exporter, Arc::clone(&security), log, Arc::new(move || cli.config()));
    let service = Arc::new(service);
    service.push(push);
    let reloaded = Arc::clone(&service);
    let watched = Arc::clone(&supervisor);
    let watch = tokio::spawn(async move { watched.watch().await });
    let shutdown = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => {
                    let reload = async {
                        supervisor.reloading();
                        // How it went is in the log.
                        let _logged = reloaded.reload().await;
                        supervisor.ready().await;
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
        supervisor.stopping();
    };
    for listener in &listeners {
        let path = config.web.telemetry_path.as_str();
        tracing::info!(address = listener.name(), path, version = env!("CARGO_PKG_VERSION"), "serving metrics");
    }
    web::serve(listeners, security, Arc::clone(&service), shutdown).await;
    service.finish().await;
    Ok(ExitCode::SUCCESS)
}

async fn scrape(config: &Config, format: ScrapeFormat) -> Result<ExitCode, Box<dyn Error>> {
    let exporter = Exporter::start(config)?;
    let everything = Selection::default();
    let format = match format {
        ScrapeFormat::Openmetrics => Format::OpenMetrics,
        ScrapeFormat::Text => Format::Text,
        ScrapeFormat::Params => {
            let collection = exporter.collect(None, &everything).await;
            return match &collection.error {
                Some(error) => Err(error.clone().into()),
                None => print(encode_params(&collection.records()).as_bytes()),
            };
        }
        ScrapeFormat::OtlpJson => return print_push(config, &exporter).await,
    };
    let collection = exporter.collect_once().await;
    print(&format.encode(&exporter.exposition(&collection, &everything, format)))?;
    // What there is has been printed, as a scrape would show it; the exit code and the message say that it failed.
    collection.error.clone().map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

async fn targets(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    let snapshot = Exporter::start(config)?.discover(None).await?;
    print((domain_list::json(&snapshot)? + "\n").as_bytes())
}

/// What a first push would send, whether anything is pushed or not.
async fn print_push(config: &Config, exporter: &Exporter) -> Result<ExitCode, Box<dyn Error>> {
    let collection = exporter.collect_once().await;
    let families = Arc::new(exporter.families(&collection, &Selection::default()));
    let mut batch = Batch { families, taken: taken(&collection) };
    let dialect = push::dialect(config);
    let mut chunks = Chunks::new(dialect.clone(), Series::new(&dialect).parts(&mut batch));
    while let Some(chunk) = chunks.next_chunk() {
        print(otlp::to_json(&chunk.body)?.as_bytes())?;
    }
    collection.error.clone().map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

async fn run_check(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    if let Err(error) = Security::load(config.web.config_file.as_deref()) {
        return Ok(fail(&error, ExitCode::from(USAGE)));
    }
    if let Err(error) = Settings::new(config) {
        return Ok(fail(&error, ExitCode::from(USAGE)));
    }
    let exporter = Exporter::start(config)?;
    match check::run(config, exporter).await {
        Ok(report) => print(report.as_bytes()),
        Err(failure) => {
            print(failure.report.as_bytes())?;
            Ok(if failure.is_configuration { ExitCode::from(USAGE) } else { ExitCode::FAILURE })
        }
    }
}

/// Prints a result. Whoever closed the pipe has read enough.
fn print(bytes: &[u8]) -> Result<ExitCode, Box<dyn Error>> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The error and its causes on one line of standard error.
fn fail(error: &dyn Error, code: ExitCode) -> ExitCode {
    let message = format!("domstats-exporter: {}", sentence(error));
    // Without a standard error there is nobody to tell.
    let _unread = writeln!(io::stderr(), "{message}");
    code
}
