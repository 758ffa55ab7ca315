//! A peer, unmodified: Debian's `prometheus-libvirt-exporter`, which asks each domain for itself.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Procedure, Scenario, Template};
use support::spawn;

/// The body of `/metrics` of the program that listens on a port.
fn scrape(port: u16) -> String {
    let began = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn debians_exporter_is_served() {
    let scenario = Scenario::builder().domains(20, Template::medium());
    let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("prometheus-libvirt-exporter");
    command.arg(format!("--libvirt.uri={}", daemon.uri()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _exporter = spawn(&mut command, "prometheus-libvirt-exporter");
    let text = scrape(port);
    assert!(text.contains("libvirt_up 1"), "{text}");
    for metric in [
        "libvirt_domain_info_cpu_time_seconds_total",
        "libvirt_domain_info_virtual_cpus",
        "libvirt_domain_interface_stats_receive_bytes_total",
    ] {
        assert_eq!(text.matches(&format!("\n{metric}{{")).count(), 20, "{metric}: {text}");
    }
    let reads = "\nlibvirt_domain_block_stats_read_bytes_total{";
    assert_eq!(text.matches(reads).count(), 40, "{text}");
    assert!(text.contains("libvirt_domain_info_virtual_cpus{domain=\"vm-3\",uuid="), "{text}");
    let xml = daemon.counters().calls(Procedure::DomainGetXmlDesc);
    assert_eq!(xml, 20, "{:?}", daemon.counters().by_procedure());
}
