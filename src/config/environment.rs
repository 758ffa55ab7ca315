//! OpenTelemetry's environment variables, for the keys of `otlp` that the file leaves open.
//!
//! Those for metrics come before those for all signals. A variable that is empty counts as not set. While nothing says where
//! to push, the others mean nothing and are not looked at.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::duration::Span;
use super::error::{ConfigError, ValueError};
use super::otlp::{Endpoint, HeaderName, HeaderSecret, Headers, Otlp, OtlpProtocol, Temporality};

/// Fills what the file leaves open. `variable` gives a variable's value.
pub(super) fn apply(otlp: &mut Otlp, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
    let environment = Environment { variable };
    let mut origins = std::mem::take(&mut otlp.environment);
    let mut note = |key, from: Option<&'static str>| {
        if let Some(from) = from {
            origins.insert(key, from);
        }
    };
    let disabled = environment.fill(&mut otlp.enabled, &["OTEL_SDK_DISABLED"], |text| flag(text).map(|off| !off))?;
    // Said to be off is a statement, said to be not off is none.
    if disabled.is_some() && otlp.enabled == Some(true) {
        otlp.enabled = None;
    } else {
        note("enabled", disabled);
    }
    let from = environment.fill(&mut otlp.endpoint, &["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"], |text| {
        // To be used as it is: without a path, at the root.
        let has_path = text.split_once("://").is_none_or(|(_, rest)| rest.contains('/'));
        if has_path { text.parse() } else { format!("{text}/").parse() }
    })?;
    note("endpoint", from);
    let names = ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let open = otlp.endpoint.is_none();
    let general = environment.fill(&mut otlp.endpoint, &["OTEL_EXPORTER_OTLP_ENDPOINT"], str::parse)?;
    if otlp.receiver().is_none() {
        otlp.environment = origins;
        return Ok(());
    }
    let from = environment.fill(&mut otlp.protocol, &names, str::parse)?;
    note("protocol", from);
    if open && let (Some(from), Some(endpoint)) = (general, &mut otlp.endpoint) {
        if otlp.protocol.unwrap_or_default() == OtlpProtocol::Http {
            *endpoint = under(endpoint, from)?;
        }
        note("endpoint", Some(from));
    }
    let names = ["OTEL_EXPORTER_OTLP_METRICS_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"];
    note("insecure", environment.fill(&mut otlp.insecure, &names, flag)?);
    let names = ["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
    note("headers", environment.fill(&mut otlp.headers, &names, headers)?);
    note("interval", environment.fill(&mut otlp.interval, &["OTEL_METRIC_EXPORT_INTERVAL"], Span::from_millis)?);
    let names = ["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    note("timeout", environment.fill(&mut otlp.timeout, &names, Span::from_millis)?);
    let from = environment.fill(&mut otlp.export_timeout, &["OTEL_METRIC_EXPORT_TIMEOUT"], Span::from_millis)?;
    note("export_timeout", from);
    let names = ["OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
    note("compression", environment.fill(&mut otlp.compression, &names, str::parse)?);
    let names = ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"];
    note("temporality", environment.fill(&mut otlp.temporality, &names, temporality)?);
    let names = ["OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
    note("tls.ca_file", environment.fill(&mut otlp.tls.ca_file, &names, path)?);
    let names = ["OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
    note("tls.cert_file", environment.fill(&mut otlp.tls.cert_file, &names, path)?);
    let names = ["OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];
    note("tls.key_file", environment.fill(&mut otlp.tls.key_file, &names, path)?);
    otlp.environment = origins;
    Ok(())
}

struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Environment<'_> {
    /// Takes the first of these variables that is set, unless the setting has a value; the variable it was.
    fn fill<T>(
        &self,
        setting: &mut Option<T>,
        names: &[&'static str],
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Result<Option<&'static str>, ConfigError> {
        if setting.is_some() {
            return Ok(None);
        }
        let set = |name: &&'static str| Some((*name, (self.variable)(name).filter(|text| !text.trim().is_empty())?));
        let Some((name, text)) = names.iter().find_map(set) else { return Ok(None) };
        let value = parse(text.trim()).map_err(|source| ConfigError::Environment { variable: name, source })?;
        *setting = Some(value);
        Ok(Some(name))
    }
}

/// The endpoint of all signals has that of metrics below it.
fn under(endpoint: &Endpoint, variable: &'static str) -> Result<Endpoint, ConfigError> {
    let url = format!("{}/v1/metrics", endpoint.as_str().trim_end_matches('/'));
    url.parse().map_err(|source| ConfigError::Environment { variable, source })
}

fn flag(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(unknown("flag", text, "`true`, `false`")),
    }
}

/// `lowmemory` asks for deltas only where they are cheaper to keep, which here they never are.
fn temporality(text: &str) -> Result<Temporality, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "lowmemory" => Ok(Temporality::Cumulative),
        word => word.parse(),
    }
}

fn path(text: &str) -> Result<PathBuf, ValueError> {
    Ok(PathBuf::from(text))
}

/// `name=value,name=value`, percent-encoded.
fn headers(text: &str) -> Result<Headers, ValueError> {
    let mut headers = Headers::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(ValueError::HeaderSecret)?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| ValueError::HeaderSecret)?;
        headers.insert(HeaderName::from_str(name)?, HeaderSecret::from_str(&value)?);
    }
    Ok(headers)
}

fn unknown(noun: &'static str, word: impl Display, known: &str) -> ValueError {
    ValueError::UnknownWord { noun, word: word.to_string(), known: known.to_owned() }
}
