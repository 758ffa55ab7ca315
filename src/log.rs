//! The exporter's own log: one line per event on stderr, as logfmt or JSON, with the fields of Prometheus' own log: `ts`, `level`,
//! `caller`, `msg`, and then those of the event.
//!
//! Level and format come from the configuration alone. `RUST_LOG` is not read: a service must not log differently
//! because of a variable left in its environment.

use std::time::SystemTime;
use std::{fmt, io};

use serde_json::Value;
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
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
    tracing_subscriber::fmt::layer().event_format(Line(format)).with_writer(writer).boxed()
}

/// How an event is written.
struct Line(LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        // The name of the file alone, as in Prometheus: the path would be that of the machine that compiled a dependency.
        let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let mut fields = Fields(vec![
            ("ts", humantime::format_rfc3339_millis(SystemTime::now()).to_string().into()),
            ("level", metadata.level().as_str().to_ascii_lowercase().into()),
            ("caller", format!("{file}:{}", metadata.line().unwrap_or_default()).into()),
            ("msg", Value::Null),
        ]);
        event.record(&mut fields);
        match self.0 {
            LogFormat::Logfmt => {
                for (number, (name, value)) in fields.0.iter().enumerate() {
                    let separator = if number == 0 { "" } else { " " };
                    write!(writer, "{separator}{name}={}", logfmt(value))?;
                }
                writer.write_str("\n")
            }
            LogFormat::Json => {
                for (number, (name, value)) in fields.0.iter().enumerate() {
                    let separator = if number == 0 { '{' } else { ',' };
                    write!(writer, "{separator}\"{name}\":{value}")?;
                }
                writer.write_str("}\n")
            }
        }
    }
}

/// The fields of a line, in their order.
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}").into());
    }
}

/// A value of logfmt: text is quoted where it would not be one word.
fn logfmt(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.clone();
    }
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            _ if character.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
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
            let domain = "a \"b\"\nc\x1b[2J";
            tracing::warn!(
                uri = "test:///default",
                domain,
                tries = 3,
                lasted = 0.5,
                is_first = true,
                "connection lost"
            );
        });
        let bytes = captured.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn logfmt_is_one_line_with_time_level_and_fields() {
        let line = logged(LogLevel::Info, LogFormat::Logfmt);
        let (time, rest) = line.split_once(' ').expect("fields");
        assert!(time.starts_with("ts=20") && time.ends_with('Z'), "{line}");
        let (caller, rest) = rest.split_once(" msg=").expect("a message");
        let number = caller.strip_prefix("level=warn caller=log.rs:").expect("level and caller");
        assert!(number.parse::<u32>().is_ok(), "{line}");
        assert_eq!(
            rest,
            "\"connection lost\" uri=test:///default domain=\"a \\\"b\\\"\\nc\\u001b[2J\" tries=3 lasted=0.5 is_first=true\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = logged(LogLevel::Info, LogFormat::Json);
        assert_eq!(line.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert!(line.starts_with("{\"ts\":\"20"), "{line}");
        assert!(object["caller"].as_str().is_some_and(|caller| caller.starts_with("log.rs:")));
        assert_eq!(object["level"], "warn");
        assert_eq!(object["msg"], "connection lost");
        assert_eq!(object["uri"], "test:///default");
        assert_eq!(object["domain"], "a \"b\"\nc\x1b[2J");
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
        assert!(lines[0].starts_with("ts=") && lines[0].contains("msg=one"), "{text}");
        assert!(lines[1].starts_with('{') && lines[1].contains("\"msg\":\"two\""), "{text}");
    }
}
