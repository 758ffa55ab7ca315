//! Arguments to command to exit code; errors are printed here, once.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use domstats_exporter::cli::{Cli, Command, ReferenceFormat, ScrapeFormat};
use domstats_exporter::config::Config;
use domstats_exporter::encode::{Format, encode_params};
use domstats_exporter::exporter::Exporter;
use domstats_exporter::{check, log, reference, web};
use tokio::signal::unix::{SignalKind, signal};

/// Threads that build and encode expositions: more would only fight over the processors of the guests.
const BLOCKING_THREADS: usize = 4;
/// A flag or the configuration is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match cli.config() {
        Ok(config) => config,
        Err(error) => return fail(&error, ExitCode::from(USAGE)),
    };
    let done = run(cli.command(), &config);
    match done {
        Ok(code) => code,
        Err(error) => fail(&*error, ExitCode::FAILURE),
    }
}

fn run(command: Command, config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    if let Command::Metrics { format } = command {
        let text = match format {
            ReferenceFormat::Markdown => reference::markdown(),
            ReferenceFormat::Json => reference::json()? + "\n",
        };
        return print(&text);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let done = match command {
        Command::Scrape { format } => runtime.block_on(scrape(config, format)),
        Command::Check => runtime.block_on(run_check(config)),
        Command::Serve | Command::Metrics { .. } => runtime.block_on(serve(config)),
    };
    // A thread that is stuck in a libvirt call must not keep the process from ending.
    runtime.shutdown_background();
    done
}

async fn serve(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    log::init(config.log)?;
    let listeners = match web::bind(&config.web.listen_addresses) {
        Ok(listeners) => listeners,
        Err(error) => return Ok(fail(&error, ExitCode::from(USAGE))),
    };
    let exporter = Exporter::start(config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
    };
    for listener in &listeners {
        let path = config.web.telemetry_path.as_str();
        tracing::info!(address = %listener.address(), path, version = env!("CARGO_PKG_VERSION"), "serving metrics");
    }
    web::serve(listeners, &config.web, Arc::new(exporter), shutdown).await;
    Ok(ExitCode::SUCCESS)
}

async fn scrape(config: &Config, format: ScrapeFormat) -> Result<ExitCode, Box<dyn Error>> {
    let exporter = Exporter::start(config)?;
    let format = match format {
        ScrapeFormat::Openmetrics => Format::OpenMetrics,
        ScrapeFormat::Text => Format::Text,
        ScrapeFormat::Params => {
            let collection = exporter.collect(None).await;
            return match &collection.error {
                Some(error) => Err(error.clone().into()),
                None => print(&encode_params(&[&collection.records])),
            };
        }
    };
    let collection = exporter.collect(None).await;
    print(&format.encode(&Arc::new(exporter.families(&collection))))?;
    // What there is has been printed, as a scrape would show it; the exit code and the message say that it failed.
    collection.error.clone().map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

async fn run_check(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    let exporter = Exporter::start(config)?;
    match check::run(config, exporter).await {
        Ok(report) => print(&report),
        Err(report) => {
            print(&report)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Prints a result. Whoever closed the pipe has read enough.
fn print(text: &str) -> Result<ExitCode, Box<dyn Error>> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The error and its causes on one line of standard error.
fn fail(error: &dyn Error, code: ExitCode) -> ExitCode {
    let mut message = format!("domstats-exporter: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        message.push_str(&format!(": {source}"));
        cause = source.source();
    }
    // Without a standard error there is nobody to tell.
    let _unread = writeln!(io::stderr(), "{message}");
    code
}
