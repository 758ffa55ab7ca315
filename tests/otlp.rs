//! The exporter pushes to a receiver of the test's own, over both transports, and the receiver fails in every way it can.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::single_match,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/pushing.rs"]
mod pushing;
#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use pushing::{Pushing, metrics, number, points, pushing_to, resource};
use receiver::{Behaviour, Received, Receiver};
use server::{Authority, Server, folder, free_address};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

const BOTH: [&str; 2] = ["http/protobuf", "grpc"];

/// The count of pushes with a result, as the last request says.
fn exports(received: &Received, result: &str) -> Option<f64> {
    let name = format!("libvirt.exporter.otlp.exports{{libvirt.exporter.otlp.result=\"{result}\"}}");
    number(points(&received.request).get(&name)?)
}

#[test]
fn both_transports_carry_names_units_and_resource() {
    for protocol in BOTH {
        let receiver = Receiver::start(None);
        let environment =
            [("OTEL_RESOURCE_ATTRIBUTES", "team=x,service.namespace=lab"), ("OTEL_SERVICE_NAME", "named")];
        let more = ", headers: {authorization: Bearer sesame}, resource: {team: y}";
        let config = pushing_to(&receiver.url(), protocol, more);
        let exporter = Pushing::start(folder(), &config, &environment);
        let received = receiver.next();
        let path = match protocol {
            "grpc" => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            _ => "/v1/metrics",
        };
        assert_eq!(received.path, path);
        assert_eq!(received.headers["authorization"], "Bearer sesame");
        let agent = received.headers["user-agent"].to_str().unwrap();
        assert!(agent.starts_with("OTel-OTLP-Exporter-"), "{agent}");
        let encoding = if protocol == "grpc" { "grpc-encoding" } else { "content-encoding" };
        assert_eq!(received.headers[encoding], "gzip");
        let resource = resource(&received.request);
        let of = |name: &str| resource[name].as_str();
        assert_eq!((of("service.name"), of("service.namespace"), of("team")), ("named", "lab", "y"));
        assert_eq!(of("service.instance.id"), format!("{}/test:///default", of("host.name")));
        let points = points(&received.request);
        let domain = r#"libvirt.domain.name="test",libvirt.domain.uuid="6695eb01-f6a4-8304-79aa-97f2502e193f""#;
        let status = format!("libvirt.domain.status{{{domain},libvirt.domain.state=\"running\"}}");
        assert_eq!(number(&points[&status]), Some(1.0), "{points:#?}");
        assert_eq!(number(&points["libvirt.up{}"]), Some(1.0));
        let status = metrics(&received.request).find(|metric| metric.name == "libvirt.domain.status").unwrap();
        assert_eq!(status.unit, "{domain}");
        assert!(matches!(&status.data, Some(Data::Sum(sum)) if !sum.is_monotonic && sum.aggregation_temporality == 2));
        // Every result is there from the start.
        for result in ["success", "partial", "refused", "dropped"] {
            assert!(exports(&received, result).is_some(), "{result}");
        }
        let next = receiver.next();
        assert!(exports(&next, "success").unwrap() >= 1.0);
        assert!(!exporter.log().contains("sesame"));
        assert_eq!(exporter.log().matches("the receiver accepts pushes").count(), 1, "{}", exporter.log());
    }
}

/// What is pushed and what is scraped is the same, by the names of the scrape.
#[test]
fn a_push_says_what_a_scrape_says() {
    let domains = Scenario::builder().domains(20, Template::medium());
    let daemon = FakeLibvirtd::start(domains.build()).unwrap();
    let receiver = Receiver::start(None);
    // The fake daemon's counters move with the clock: both take one collection.
    let config = format!(
        "collection: {{min_interval: 1h}}\notlp: {{endpoint: '{}', interval: 1s, naming: prometheus}}\n",
        receiver.url()
    );
    let server = Server::start_on(folder(), Some(&daemon.uri()), &config, "");
    let scraped = server.get("/metrics");
    let pushed = points(&receiver.next().request);
    let mut compared = 0;
    for line in scraped.lines().filter(|line| line.starts_with("libvirt_domain_")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let series = if series.contains('{') { series.to_owned() } else { format!("{series}{{}}") };
        let point = pushed.get(&series).unwrap_or_else(|| panic!("{series} was not pushed"));
        assert_eq!(number(point), Some(value.parse().unwrap()), "{series}");
        compared += 1;
    }
    assert!(compared > 2000, "{compared}");
    let of_domains = pushed.keys().filter(|series| series.starts_with("libvirt_domain_")).count();
    assert_eq!(of_domains, compared);
    server.wait_for_log("the receiver accepts pushes");
    let page = server.get("/");
    assert!(page.contains("The receiver accepts pushes") && page.contains(&receiver.url()), "{page}");
    let metrics = server.get("/metrics");
    assert!(metrics.contains("libvirt_exporter_otlp_exports_total{result=\"refused\"} 0"), "{metrics}");
}

#[test]
fn what_may_pass_is_sent_again_and_nothing_else() {
    const BUSY: &[(&str, &str)] = &[("retry-after", "1")];
    let delay = Duration::from_millis(700);
    let passing: [(&str, Behaviour, Duration); 11] = [
        ("http/protobuf", Behaviour::Status(429, BUSY), Duration::from_secs(1)),
        ("http/protobuf", Behaviour::Status(503, &[]), Duration::from_millis(250)),
        ("http/protobuf", Behaviour::Status(502, &[]), Duration::from_millis(250)),
        ("http/protobuf", Behaviour::Slow(Duration::from_secs(8)), Duration::from_millis(250)),
        ("http/protobuf", Behaviour::Reset, Duration::ZERO),
        ("grpc", Behaviour::GrpcStatus(14, Some(delay)), delay),
        ("grpc", Behaviour::GrpcStatus(8, Some(delay)), delay),
        ("grpc", Behaviour::Slow(Duration::from_secs(8)), Duration::from_millis(250)),
        ("grpc", Behaviour::Reset, Duration::ZERO),
        ("grpc", Behaviour::GrpcStatus(4, None), Duration::from_millis(250)),
        ("grpc", Behaviour::Status(503, &[]), Duration::from_millis(250)),
    ];
    let passes = |(protocol, behaviour, pause): (&str, Behaviour, Duration)| {
        let receiver = Receiver::start(None);
        receiver.script([behaviour.clone()]);
        let config = pushing_to(&receiver.url(), protocol, ", timeout: 3s").replace("interval: 1s", "interval: 9s");
        let mut exporter = Pushing::start(folder(), &config, &[]);
        exporter.wait_for_log("the receiver accepts pushes");
        let received = receiver.received();
        let taken: Vec<&Received> = received.iter().filter(|one| one.taken).collect();
        match behaviour {
            Behaviour::Reset | Behaviour::Slow(_) => assert_eq!(taken.len(), 1, "{behaviour:?}"),
            _ => {
                assert_eq!((received.len(), taken.len()), (2, 1), "{behaviour:?}");
                assert_eq!(received[0].request, received[1].request, "{behaviour:?}");
                assert!(received[1].at - received[0].at >= pause, "{behaviour:?}");
            }
        }
    };
    let final_ones: [(&str, Behaviour, &str); 6] = [
        ("http/protobuf", Behaviour::Status(400, &[]), "it answered 400 Bad Request: no way"),
        ("http/protobuf", Behaviour::Status(500, &[]), "it answered 500 Internal Server Error: no way"),
        ("http/protobuf", Behaviour::Page, "it answered 200 OK with `text/html`, which no OTLP receiver does"),
        ("grpc", Behaviour::GrpcStatus(3, None), "it answered with gRPC status 3: no way"),
        ("grpc", Behaviour::GrpcStatus(8, None), "it answered with gRPC status 8: no way"),
        ("grpc", Behaviour::Page, "it answered 200 OK without a gRPC status"),
    ];
    let stays = |(protocol, behaviour, reason): (&str, Behaviour, &str)| {
        let receiver = Receiver::start(None);
        receiver.script([behaviour.clone(), behaviour.clone()]);
        let mut exporter = Pushing::start(folder(), &pushing_to(&receiver.url(), protocol, ""), &[]);
        exporter.wait_for_log(reason);
        exporter.wait_for_log("the receiver accepts pushes");
        // One line for two failures.
        assert_eq!(exporter.log().matches("push refused by the receiver").count(), 1, "{}", exporter.log());
        assert_eq!(exports(&receiver.next(), "refused"), Some(2.0), "{behaviour:?}");
    };
    std::thread::scope(|scope| {
        passing.into_iter().for_each(|case| drop(scope.spawn(move || passes(case))));
        final_ones.into_iter().for_each(|case| drop(scope.spawn(move || stays(case))));
    });
}

#[test]
fn rejected_points_are_counted() {
    for protocol in BOTH {
        let receiver = Receiver::start(None);
        receiver.script([Behaviour::Partial(7, "out of\nspace"), Behaviour::Partial(2, "out of space")]);
        let mut exporter = Pushing::start(folder(), &pushing_to(&receiver.url(), protocol, ""), &[]);
        exporter.wait_for_log("the receiver accepts pushes");
        let next = receiver.next();
        assert_eq!(exports(&next, "partial"), Some(2.0));
        let rejected = &points(&next.request)["libvirt.exporter.otlp.rejected_points{}"];
        assert_eq!(number(rejected), Some(9.0));
        let log = exporter.log();
        assert_eq!(log.matches("rejected=").count(), 1, "{log}");
        assert!(log.contains("remark=\"out of space\"") && log.contains("rejected=7"), "{log}");
    }
}

/// What the receiver has accepted is not sent again, whatever its message looks like.
#[test]
fn an_answer_that_cannot_be_read_is_an_answer() {
    for protocol in BOTH {
        let receiver = Receiver::start(None);
        receiver.script([Behaviour::Garbled, Behaviour::Garbled, Behaviour::Plain]);
        let mut exporter = Pushing::start(folder(), &pushing_to(&receiver.url(), protocol, ""), &[]);
        exporter.wait_for_log("msg=\"the receiver accepts pushes\" ");
        assert_eq!(exports(&receiver.next(), "success"), Some(3.0));
        let log = exporter.log();
        assert_eq!(log.matches("its answer cannot be read").count(), 1, "{log}");
        assert!(!log.contains("level=error"), "{log}");
    }
}

/// The text of a path that no receiver listens at names the ways to set one.
#[test]
fn a_path_without_a_receiver_is_explained() {
    let receiver = Receiver::start(None);
    receiver.script([Behaviour::Status(404, &[])]);
    let mut exporter = Pushing::start(folder(), &pushing_to(&receiver.url(), "http/protobuf", ""), &[]);
    exporter.wait_for_log("push refused by the receiver");
    let log = exporter.log();
    for text in ["404 Not Found", "otlp.endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/metrics"] {
        let line = log.lines().find(|line| line.contains("push refused by the receiver")).unwrap();
        assert!(line.contains(text), "{text}: {line}");
    }
}

/// A receiver that says when it wants to be asked again is not asked before, however often there would be a push.
#[test]
fn a_receiver_that_wants_peace_gets_it() {
    let receiver = Receiver::start(None);
    receiver.script([Behaviour::Status(503, &[("retry-after", "2")])]);
    let _exporter = Pushing::start(folder(), &pushing_to(&receiver.url(), "http/protobuf", ""), &[]);
    let received = receiver.wait("two requests", |received| received.len() >= 2);
    let pause = received[1].at - received[0].at;
    assert!(pause >= Duration::from_millis(1950), "{pause:?}");
    assert!(exports(&received[1], "dropped").unwrap() >= 2.0);
}

#[test]
fn a_receiver_that_comes_back_gets_the_first_push() {
    for protocol in BOTH {
        let address = free_address();
        let config = pushing_to(&format!("http://{address}"), protocol, "");
        let mut exporter = Pushing::start(folder(), &config, &[]);
        exporter.wait_for_log("push dropped, the receiver is unavailable");
        std::thread::sleep(Duration::from_secs(3));
        let receiver = Receiver::start_at(address, None);
        let first = receiver.next();
        assert!(exports(&first, "dropped").unwrap() >= 2.0);
        exporter.wait_for_log("the receiver accepts pushes");
        drop(receiver);
        let log = exporter.log();
        assert_eq!(log.matches("push dropped, the receiver is unavailable").count(), 1, "{log}");
        assert!(log.contains("refused"), "the cause: {log}");
    }
}

/// A receiver's TLS with a certificate of `authority`, and client certificates of the same CA.
fn tls(authority: &Authority, h2: bool) -> Arc<ServerConfig> {
    let (certificate, key) = authority.sign(&["localhost", "127.0.0.1"]);
    let parse = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(parse(&authority.certificate)).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let builder = builder.with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(vec![parse(&certificate)], key).unwrap();
    config.alpn_protocols = if h2 { vec![b"h2".to_vec()] } else { Vec::new() };
    Arc::new(config)
}

#[test]
fn tls_trusts_the_configured_authority_alone() {
    for protocol in BOTH {
        let (authority, folder) = (Authority::new(), folder());
        authority.write_all(folder.path());
        let receiver = Receiver::start(Some(tls(&authority, protocol == "grpc")));
        let url = format!("https://localhost:{}", receiver.address.port());
        let more = ", tls: {ca_file: ca.crt, cert_file: client.crt, key_file: client.key}";
        let exporter = Pushing::start(folder, &pushing_to(&url, protocol, more), &[]);
        assert_eq!(number(&points(&receiver.next().request)["libvirt.up{}"]), Some(1.0));
        drop(exporter);
        receiver.forget();
        let other = server::folder();
        Authority::new().write_all(other.path());
        let mut exporter = Pushing::start(other, &pushing_to(&url, protocol, ", tls: {ca_file: ca.crt}"), &[]);
        exporter.wait_for_log("push dropped, the receiver is unavailable");
        assert!(exporter.log().contains("invalid peer certificate"), "{}", exporter.log());
        assert!(receiver.received().is_empty());
    }
}

#[test]
fn the_last_push_comes_at_the_end() {
    let receiver = Receiver::start(None);
    let config = pushing_to(&receiver.url(), "http/protobuf", "").replace("interval: 1s", "interval: 1h");
    let mut exporter = Pushing::start(folder(), &config, &[]);
    exporter.wait_for_log("pushing metrics");
    receiver.forget();
    exporter.signal("-TERM");
    assert_eq!(exporter.process.wait().unwrap().code(), Some(0));
    assert_eq!(receiver.received().len(), 1);
    // Without a receiver it does not take long either.
    let address = free_address();
    let config = config.replace(&receiver.address.to_string(), &address.to_string());
    let mut exporter = Pushing::start(folder(), &config, &[]);
    exporter.wait_for_log("pushing metrics");
    exporter.signal("-TERM");
    let began = Instant::now();
    assert_eq!(exporter.process.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_reload_changes_where_and_how() {
    let (first, second) = (Receiver::start(None), Receiver::start(None));
    let mut exporter = Pushing::start(folder(), &pushing_to(&first.url(), "http/protobuf", ""), &[]);
    let before = points(&first.next().request);
    let reload = |config: &str| {
        server::replace(&pushing::config_file(&exporter.folder), config);
        exporter.signal("-HUP");
    };
    reload(&pushing_to(&second.url(), "grpc", ", naming: prometheus"));
    let after = points(&second.next().request);
    assert!(before.contains_key("libvirt.up{}") && after.contains_key("libvirt_up{}"));
    first.forget();
    reload(&pushing_to("http://x:1", "grpc", ", tls: {ca_file: none.pem}"));
    exporter.wait_for_log("cannot read otlp.tls.ca_file");
    assert!(points(&second.next().request).contains_key("libvirt_up{}"), "the settings before stay in effect");
    assert!(first.received().is_empty());
}

/// A web configuration that goes bad, and good again, is known to the next push, without a request in between.
#[test]
fn a_push_says_whether_the_web_configuration_is_good() {
    let receiver = Receiver::start(None);
    let config = format!("otlp: {{endpoint: '{}', interval: 1s}}\n", receiver.url());
    let server = Server::start(folder(), &config, "rate_limit: {interval: 1ms, burst: 1000}\n");
    let says = |good: f64| {
        let name = "libvirt.exporter.config.last_reload_successful{}";
        let said = |one: &Received| points(&one.request).get(name).and_then(number);
        receiver.forget();
        receiver.wait(name, |received| received.iter().any(|one| said(one) == Some(good)));
    };
    says(1.0);
    server.replace("web.yaml", "rate_limit: 5\n");
    says(0.0);
    server.replace("web.yaml", "rate_limit: {interval: 1ms, burst: 1000}\n");
    says(1.0);
}

#[test]
fn reloads_that_come_faster_than_a_push_ends_lose_none() {
    let receiver = Receiver::start(None);
    receiver.script(vec![Behaviour::Slow(Duration::from_secs(1)); 100]);
    // A push may take as long as an interval.
    let config = pushing_to(&receiver.url(), "http/protobuf", "").replace("interval: 1s", "interval: 5s");
    let mut exporter = Pushing::start(folder(), &config, &[]);
    exporter.wait_for_log("pushing metrics");
    let began = Instant::now();
    while !exporter.log().contains("the receiver accepts pushes") {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", exporter.log());
        exporter.signal("-HUP");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The file comes before the environment, and `check` says what is from where.
#[test]
fn check_shows_where_each_setting_is_from() {
    let folder = folder();
    let receiver = Receiver::start(None);
    let config =
        "libvirt: {uri: 'test:///default'}\notlp: {interval: 300ms, headers: {authorization: Bearer sesame}}\n";
    fs::write(pushing::config_file(&folder), config).unwrap();
    let url = receiver.url();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "3600000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
    ];
    let output = pushing::command(&folder, &environment).arg("check").output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    for line in [
        format!("OTLP push:               {url}/v1/metrics\n"),
        format!("endpoint: {url}/v1/metrics (OTEL_EXPORTER_OTLP_ENDPOINT)\n"),
        "protocol: http/protobuf (default)\n".into(),
        "headers: authorization (configuration)\n".into(),
        "interval: 300ms (configuration)\n".into(),
        "timeout: 10s (default)\n".into(),
        "compression: none (OTEL_EXPORTER_OTLP_COMPRESSION)\n".into(),
    ] {
        assert!(report.contains(&line), "{line} is not in\n{report}");
    }
    assert!(output.status.success() && !report.contains("sesame"), "{report}");
    let _exporter = Pushing::start(folder, config, &environment);
    assert!(receiver.next().headers.get("content-encoding").is_none());
}

#[test]
fn without_a_server_or_a_receiver_there_is_nothing_to_do() {
    let folder = folder();
    fs::write(pushing::config_file(&folder), "web: {listen_addresses: []}\n").unwrap();
    let output = pushing::command(&folder, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("web.listen_addresses: the list is empty and otlp.endpoint is not set"), "{said}");
}

#[test]
fn scrape_prints_what_would_be_sent() {
    let folder = folder();
    let config = "libvirt: {uri: 'test:///default'}\notlp: {resource: {deployment.environment.name: lab}}\n";
    fs::write(pushing::config_file(&folder), config).unwrap();
    let output = pushing::command(&folder, &[]).args(["scrape", "--format", "otlp-json"]).output().unwrap();
    assert!(output.status.success());
    let request: opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest =
        serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(resource(&request)["deployment.environment.name"], "lab");
    assert_eq!(number(&points(&request)["libvirt.up{}"]), Some(1.0));
}
