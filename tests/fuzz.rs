//! The fuzz targets of `fuzz/targets/` for a bounded time each; `make fuzz` gives them a minute, `FUZZ_SECONDS=3600` an hour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

#[path = "support/fuzzing.rs"]
mod fuzzing;
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use fuzzing::fuzz;

/// What all configurations have.
const YAML: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "|",
    ">",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "~",
    "null",
    "true",
    "-1",
    "1e999",
    "0x10",
    "18446744073709551616",
    "''",
    "\"\\0\"",
    "\"\\ud800\"",
    "'a['",
    "'.*'",
    "5s",
    "1h",
    "---\n",
    "# ",
    "\t",
];

#[test]
fn keys() {
    let words: &[&str] =
        &["\n", ".0.", ".1.", ".01.", ".4294967296.", "vcpu.0.", "vm.", ".sum", ".cur", ".max", "_ns", "block.0."];
    fuzz("keys", targets::KEYS, &[], words);
}

#[test]
fn params() {
    fuzz("params", targets::PARAMS, &[], &[]);
}

#[test]
fn xml() {
    let words: &[&str] = &[
        "<domain>",
        "</domain>",
        "<devices>",
        "<disk>",
        "<source file='",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "&amp;",
        "&#0;",
        "&#x10ffff;",
        "<!DOCTYPE a [",
        "<!ENTITY b \"",
        "]>",
        "xmlns:nova='",
        "<metadata>",
        "<?xml version='1.0'?>",
        "'",
        "\"",
        "/>",
        ">",
        "<",
        "<target dev='vda'/>",
        "<memory unit='YiB'>18446744073709551615</memory>",
    ];
    let seeds = ["tests/fixtures/definitions/web.xml", "tests/fixtures/definitions/nova.xml"];
    fuzz("xml", targets::XML, &seeds, words);
}

#[test]
fn config() {
    fuzz("config", targets::CONFIG, &["config.example.yaml"], YAML);
}

#[test]
fn web_config() {
    fuzz("web_config", targets::WEB_CONFIG, &["web.example.yaml"], YAML);
}

#[test]
fn accept() {
    let words: &[&str] = &[
        "*/*",
        "text/*",
        "text/plain",
        "application/openmetrics-text",
        "application/vnd.google.protobuf",
        ";q=",
        "0.001",
        "1.0",
        ";version=",
        "1.0.0",
        "0.0.4",
        ";proto=io.prometheus.client.MetricFamily",
        ";encoding=delimited",
        ";escaping=dots",
        ",",
        ";",
        "=",
        "\"",
    ];
    fuzz("accept", targets::ACCEPT, &[], words);
}

#[test]
fn query() {
    let words: &[&str] = &[
        "collect[]=",
        "exclude[]=",
        "domain[]=",
        "&",
        "state",
        "block",
        "%5B",
        "%ff",
        "%",
        "+",
        "(a*)*",
        "{1000}",
        "{1000}{1000}",
        "[a-z",
        "(?i)",
        "\\pL",
        "(?P<a>",
        "|",
        "^",
        "$",
        "\\",
    ];
    fuzz("query", targets::QUERY, &[], words);
}

#[test]
fn http() {
    let words: &[&str] = &[
        "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /-/reload HTTP/1.1\r\n",
        "\r\n",
        "\n",
        "HEAD ",
        "OPTIONS * ",
        "CONNECT h:1 ",
        "/sd",
        "/-/healthy",
        "/-/ready",
        "/metrics?collect[]=state",
        "HTTP/1.0",
        "HTTP/2.0",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Accept: */*;q=0\r\n",
        "Accept-Encoding: zstd, gzip;q=0.5\r\n",
        "Authorization: Basic YTpi\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "Upgrade: h2c\r\n",
        "X-Prometheus-Scrape-Timeout-Seconds: 1e308\r\n",
        "X-Prometheus-Scrape-Timeout-Seconds: -1\r\n",
        "%00",
        "%2e%2e/",
    ];
    fuzz("http", targets::HTTP, &[], words);
}
