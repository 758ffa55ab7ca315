//! The exporter's own log: one line per event on stderr, as logfmt or JSON.
//!
//! Level and format come from the configuration alone. `RUST_LOG` is not read: a service must not log differently
//! because of a variable left in its environment.

use std::{fmt, io};

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, registry};

use crate::config::{self, LogFormat, LogLevel};

/// The log could not be set up.
#[derive(Debug, Error)]
#[error("cannot set up the log")]
pub struct LogError {
    /// What `tracing` says: there is a log already.
    #[from]
    source: TryInitError,
}

/// Changes level and format of the running log.
pub struct LogSwitch(Box<dyn Fn(config::Log) + Send + Sync>);

impl fmt::Debug for LogSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSwitch")
    }
}

impl LogSwitch {
    /// From here on the log is as `config` wants it.
    pub fn set(&self, config: config::Log) {
        (self.0)(config);
    }
}

/// Starts logging to stderr, for the life of the process; fails if something logs already.
pub fn init(config: config::Log) -> Result<LogSwitch, LogError> {
    let (subscriber, switch) = subscriber(config, io::stderr);
    subscriber.try_init()?;
    Ok(switch)
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

fn subscriber<W>(config: config::Log, writer: W) -> (impl Subscriber + Send + Sync, LogSwitch)
where
    W: for<'a> MakeWriter<'a> + Clone + Send + Sync + 'static,
{
    // A filtered layer cannot be replaced as a whole, but its two parts can.
    let (lines, lines_handle) = reload::Layer::new(lines(config.format, writer.clone()));
    let (level, level_handle): (_, Handle<LevelFilter, Registry>) = reload::Layer::new(level(config.level));
    let switch = LogSwitch(Box::new(move |config| {
        // Ignored: it fails only where nothing logs.
        let _ = lines_handle.reload(self::lines(config.format, writer.clone()));
        let _ = level_handle.reload(self::level(config.level));
    }));
    (registry().with(lines.with_filter(level)), switch)
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn lines<W>(format: LogFormat, writer: W) -> Lines
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Logfmt => tracing_subscriber::fmt::layer()
            .event_format(tracing_logfmt::EventsFormatter::default())
            .fmt_fields(tracing_logfmt::FieldsFormatter::default())
            .with_writer(writer)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, _) = subscriber(config::Log { level, format }, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("not at this level");
            tracing::warn!(uri = "test:///default", domain = "a \"b\"\nc", tries = 3, "connection lost");
        });
        let bytes = captured.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn logfmt_is_one_line_with_time_level_and_fields() {
        let line = logged(LogLevel::Info, LogFormat::Logfmt);
        let (time, rest) = line.split_once(' ').expect("fields");
        assert!(time.starts_with("ts=20") && time.ends_with('Z'), "{line}");
        assert_eq!(
            rest,
            "level=warn target=domstats_exporter::log::tests message=\"connection lost\" uri=test:///default \
             domain=\"a \\\"b\\\"\\nc\" tries=3\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = logged(LogLevel::Info, LogFormat::Json);
        assert_eq!(line.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert!(object["timestamp"].as_str().is_some_and(|time| time.starts_with("20")));
        assert_eq!(object["level"], "WARN");
        assert_eq!(object["message"], "connection lost");
        assert_eq!(object["uri"], "test:///default");
        assert_eq!(object["domain"], "a \"b\"\nc");
        assert_eq!(object["tries"], 3);
    }

    #[test]
    fn what_is_below_the_level_is_not_written() {
        assert_eq!(logged(LogLevel::Error, LogFormat::Logfmt), "");
        assert_eq!(logged(LogLevel::Debug, LogFormat::Logfmt).lines().count(), 2);
    }

    #[test]
    fn level_and_format_change_while_it_logs() {
        let captured = Captured::default();
        let writer = captured.clone();
        let before = config::Log { level: LogLevel::Warn, format: LogFormat::Logfmt };
        let (subscriber, switch) = subscriber(before, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("not at this level");
            tracing::warn!("one");
            switch.set(config::Log { level: LogLevel::Debug, format: LogFormat::Json });
            tracing::debug!("two");
        });
        let bytes = captured.0.lock().expect("not poisoned").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("ts=") && lines[0].contains("message=one"), "{text}");
        assert!(lines[1].starts_with('{') && lines[1].contains("\"message\":\"two\""), "{text}");
    }
}
