//! Where metrics are pushed: file, environment and defaults.

use std::path::Path;

use super::tests::sentence;
use super::*;

/// The configuration of a file and an environment.
fn with(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut config = parse(file, "x.yaml")?;
    let value = |name: &str| environment.iter().find(|set| set.0 == name).map(|set| set.1.to_owned());
    config.apply_environment(&value)?;
    config.check(None)?;
    Ok(config)
}

fn url(file: &str, environment: &[(&str, &str)]) -> Option<String> {
    with(file, environment).expect(file).otlp.url()
}

const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";

#[test]
fn an_endpoint_becomes_a_url() {
    for (endpoint, expected) in [
        ("http://c:4318", "http://c:4318/v1/metrics"),
        ("http://c:4318/", "http://c:4318/"),
        ("https://c/opentelemetry/v1/metrics?x=1", "https://c/opentelemetry/v1/metrics?x=1"),
        ("c:4318", "http://c:4318/v1/metrics"),
        ("'[::1]:4318'", "http://[::1]:4318/v1/metrics"),
    ] {
        assert_eq!(url(&format!("otlp: {{endpoint: {endpoint}}}"), &[]).as_deref(), Some(expected));
    }
    let grpc = |more: &str| url(&format!("otlp: {{protocol: grpc, {more}}}"), &[]);
    assert_eq!(grpc("endpoint: c:4317").as_deref(), Some("https://c:4317"));
    assert_eq!(grpc("endpoint: c:4317, insecure: true").as_deref(), Some("http://c:4317"));
    assert_eq!(grpc("endpoint: 'http://c:4317'").as_deref(), Some("http://c:4317"));
    assert_eq!(url("", &[]), None);
}

#[test]
fn the_environment_fills_what_the_file_leaves_open() {
    let general = [(GENERAL, "http://c:4318/")];
    assert_eq!(url("", &general).as_deref(), Some("http://c:4318/v1/metrics"));
    assert_eq!(url("", &[(GENERAL, "http://c/base")]).as_deref(), Some("http://c/base/v1/metrics"));
    // That of the metrics is used as it is, and comes first.
    assert_eq!(url("", &[general[0], (METRICS, "http://m:1")]).as_deref(), Some("http://m:1/"));
    assert_eq!(url("otlp: {endpoint: 'http://f'}", &general).as_deref(), Some("http://f/v1/metrics"));
    assert_eq!(url("", &[(GENERAL, "  ")]), None);
    let grpc = [(GENERAL, "c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_INSECURE", "True")];
    assert_eq!(url("", &grpc).as_deref(), Some("http://c:4317"));

    let all = [
        (GENERAL, "http://c:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20x%3D, X-Scope = b"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "1500"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "4000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem"),
    ];
    let otlp = with("otlp: {interval: 7s}", &all).expect("valid").otlp;
    let header = |(name, value): (&HeaderName, &HeaderSecret)| format!("{name}: {}", value.as_str());
    let headers: Vec<_> = otlp.headers.iter().flatten().map(header).collect();
    assert_eq!(headers, ["authorization: Basic x=", "x-scope: b"]);
    let millis = [otlp.interval(), otlp.timeout(), otlp.export_timeout()].map(|span| span.as_millis());
    assert_eq!(millis, [7000, 1500, 4000]);
    assert_eq!((otlp.compression(), otlp.temporality()), (OtlpCompression::None, Temporality::Delta));
    assert_eq!(otlp.tls.ca_file.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(otlp.environment.get("timeout"), Some(&"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT"));
    assert_eq!(otlp.environment.get("interval"), None);
    assert_eq!(otlp.environment.len(), 9);
    let lowmemory = [all[0], ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "lowmemory")];
    assert_eq!(with("", &lowmemory).expect("valid").otlp.temporality(), Temporality::Cumulative);
}

#[test]
fn pushing_can_be_switched_off() {
    let off = [("OTEL_SDK_DISABLED", "true"), (GENERAL, "http://c")];
    assert_eq!(url("", &off), None);
    assert_eq!(url("otlp: {endpoint: 'http://f'}", &off), None);
    assert_eq!(url("otlp: {enabled: true, endpoint: 'http://f'}", &off).as_deref(), Some("http://f/v1/metrics"));
    assert_eq!(url("otlp: {enabled: false, endpoint: 'http://f'}", &[]), None);
    assert_eq!(url("", &[("OTEL_SDK_DISABLED", "false")]), None);
    // An unused file is not read.
    assert_eq!(url("", &[("OTEL_METRIC_EXPORT_INTERVAL", "soon")]), None);
}

#[test]
fn what_cannot_be_is_refused_in_one_sentence() {
    let refusal = |file: &str, environment: &[(&str, &str)]| sentence(&with(file, environment).expect_err(file));
    for (file, expected) in [
        (
            "otlp: {endpoint: 'ftp://c'}",
            "x.yaml:1:18: otlp.endpoint: bad endpoint `ftp://c`, expected a URL such as `http://collector:4318`, or `host:port`",
        ),
        (
            "otlp: {endpoint: 'http://me:secret@c'}",
            "x.yaml:1:18: otlp.endpoint: the endpoint holds a user or a password, expected them in `headers`, as `authorization`",
        ),
        (
            "otlp: {protocol: http/json}",
            "x.yaml:1:18: otlp.protocol: unknown protocol `http/json`, expected one of `http/protobuf`, `grpc`",
        ),
        ("otlp: {headers: {'a b': c}}", "x.yaml:1:18: otlp.headers: bad name of a header `a b`"),
        (
            "otlp: {headers: {a: \"secret\\n\"}}",
            "x.yaml:1:21: otlp.headers.a: bad value of a header, expected visible ASCII characters (in the environment: `name=value,name=value`, percent-encoded)",
        ),
        (
            "otlp: {enabled: true}",
            "otlp.enabled: true, but there is no endpoint to push to, expected one in otlp.endpoint, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        (
            "otlp: {endpoint: c, tls: {key_file: k}}",
            "otlp.tls.key_file: a client certificate needs otlp.tls.cert_file too",
        ),
        (
            "web: {listen_addresses: []}",
            "web.listen_addresses: the list is empty and otlp.endpoint is not set: nothing could be scraped or pushed",
        ),
        ("web: {listen_addresses: [':1', ':1']}", "x.yaml:1:25: web.listen_addresses: `:1` is listed twice"),
    ] {
        assert_eq!(refusal(file, &[]), expected);
    }
    let bad = |name: &str, value: &str| refusal("", &[(GENERAL, "http://c"), (name, value)]);
    assert_eq!(
        bad("OTEL_METRIC_EXPORT_INTERVAL", "1m"),
        "bad OTEL_METRIC_EXPORT_INTERVAL in the environment: bad duration `1m`, expected a number of milliseconds"
    );
    assert_eq!(
        bad("OTEL_METRIC_EXPORT_INTERVAL", "1"),
        "bad OTEL_METRIC_EXPORT_INTERVAL in the environment: bad duration `1 ms`, expected a number and a unit such as `500ms` or `8s`, from 100ms to 1h"
    );
    assert_eq!(
        bad("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        "bad OTEL_EXPORTER_OTLP_PROTOCOL in the environment: unknown protocol `http/json`, expected one of `http/protobuf`, `grpc`"
    );
    assert!(!bad("OTEL_EXPORTER_OTLP_HEADERS", "secret").contains("secret"));
    assert_eq!(url("{web: {listen_addresses: []}, otlp: {endpoint: c}}", &[]).as_deref(), Some("http://c/v1/metrics"));
}

#[test]
fn no_secret_is_shown() {
    let config = with("otlp: {endpoint: c, headers: {authorization: 'Bearer sesame'}}", &[]).expect("valid");
    assert!(!format!("{config:?}").contains("sesame"));
    let shown = config.to_public_yaml().expect("YAML");
    assert!(shown.contains("authorization: <hidden>") && !shown.contains("sesame"), "{shown}");
}
