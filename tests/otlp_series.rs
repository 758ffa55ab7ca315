//! What a push says of series: where they begin and end, and their deltas.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
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

use std::time::Duration;

use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use pushing::{Points, Pushing, metrics, number, points, pushing_to};
use receiver::{Behaviour, Received, Receiver};
use server::{Server, folder};

#[test]
fn a_series_ends_once() {
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(3, Template::small()).build()).unwrap();
    let receiver = Receiver::start(None);
    let config = pushing_to(&receiver.url(), "http/protobuf", "").replace("test:///default", &daemon.uri());
    let _exporter = Pushing::start(folder(), &config, &[]);
    let before = points(&receiver.next().request);
    let of_vm1 = |points: &Points| points.keys().filter(|name| name.contains("\"vm-1\"")).cloned().collect::<Vec<_>>();
    let expected = of_vm1(&before);
    assert!(expected.len() > 20);
    receiver.forget();
    daemon.domains().remove("vm-1").unwrap();
    let is_end = |one: &Received| points(&one.request).values().any(|point| point.flags == 1);
    receiver.wait("the end", |received| received.iter().any(is_end));
    let more = receiver.received().len() + 3;
    let received = receiver.wait("what comes after", |received| received.len() >= more);
    let ends: Vec<Points> = received
        .iter()
        .filter(|one| is_end(one))
        .map(|one| {
            let mut points = points(&one.request);
            points.retain(|_, point| point.flags == 1);
            points
        })
        .collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(of_vm1(&ends[0]), expected);
    assert!(ends[0].values().all(|point| point.value.is_none()));
    let last = points(&received.last().unwrap().request);
    assert!(of_vm1(&last).is_empty());
    // Since when a counter counts does not change from push to push.
    let (name, first) =
        before.iter().find(|(name, _)| name.starts_with("libvirt.domain.cpu.time{") && name.contains("vm-0")).unwrap();
    assert!(first.start_time_unix_nano > 0 && first.start_time_unix_nano <= first.time_unix_nano);
    assert_eq!(last[name].start_time_unix_nano, first.start_time_unix_nano);
}

/// Deltas add up to what the counters grew by, also over pushes that were not accepted and collections that a domain was not in.
#[test]
fn deltas_add_up() {
    const OF_VM0: &str = "libvirt.domain.cpu.time{libvirt.domain.name=\"vm-0\"";
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(2, Template::small()).build()).unwrap();
    let receiver = Receiver::start(None);
    let otlp = format!("otlp: {{endpoint: '{}', interval: 1s, temporality: delta}}\n", receiver.url());
    let server = Server::start_on(folder(), Some(&daemon.uri()), &otlp, "");
    let of_vm0 = |one: &Received| points(&one.request).into_iter().find(|(name, _)| name.starts_with(OF_VM0));
    assert!(of_vm0(&receiver.next()).is_none(), "a total is no delta");
    let is_delta = |one: &Received| of_vm0(one).is_some_and(|(_, point)| point.flags == 0);
    receiver.wait("a delta", |received| received.iter().any(is_delta));
    let total = || -> f64 {
        let text = server.get("/metrics");
        let name = "libvirt_domain_cpu_time_seconds_total{domain=\"vm-0\"";
        text.lines().find(|line| line.starts_with(name)).unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let pass = |pushes: usize| {
        daemon.advance(Duration::from_secs(10));
        let more = receiver.received().len() + pushes;
        receiver.wait("pushes", |received| received.len() >= more)
    };
    receiver.forget();
    let from = total();
    receiver.script([Behaviour::Status(400, &[]), Behaviour::Status(400, &[])]);
    pass(4);
    let removed = daemon.domains().remove("vm-0").unwrap();
    pass(2);
    daemon.domains().add(removed);
    // It is found by this event: the listings that records ask for are half a minute apart.
    daemon.events().lifecycle("vm-0", 4, 0).unwrap();
    let received = pass(3);
    let grown = total() - from;
    let taken = received.iter().filter(|one| one.taken);
    let deltas: Vec<_> = taken.filter(|one| is_delta(one)).filter_map(of_vm0).map(|(_, point)| point).collect();
    assert!(deltas.iter().all(|point| point.start_time_unix_nano < point.time_unix_nano));
    let sum: f64 = deltas.iter().filter_map(number).sum();
    assert!(grown > 0.0 && (sum - grown).abs() < 1e-6, "{sum} of {grown}");
    let is_sum = |data: &Option<Data>| matches!(data, Some(Data::Sum(sum)) if sum.aggregation_temporality == 1);
    let last = received.last().unwrap();
    assert!(metrics(&last.request).any(|metric| metric.name == "libvirt.domain.cpu.time" && is_sum(&metric.data)));
}

/// Without an answer the receiver may have taken a delta: it is not sent again as part of a later one.
#[test]
fn a_delta_that_may_have_been_taken_is_not_counted_twice() {
    const OF_VM0: &str = "libvirt.domain.cpu.time{libvirt.domain.name=\"vm-0\"";
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(1, Template::small()).build()).unwrap();
    let receiver = Receiver::start(None);
    let more = ", timeout: 500ms, export_timeout: 700ms, temporality: delta";
    let config = pushing_to(&receiver.url(), "grpc", more).replace("test:///default", &daemon.uri());
    let mut exporter = Pushing::start(folder(), &config, &[]);
    let deltas = |received: &[Received]| -> Vec<f64> {
        let of_vm0 = |one: &Received| points(&one.request).into_iter().find(|(name, _)| name.starts_with(OF_VM0));
        received.iter().filter_map(|one| number(&of_vm0(one)?.1)).collect()
    };
    receiver.wait("a delta", |received| !deltas(received).is_empty());
    receiver.script([Behaviour::Silent, Behaviour::Silent]);
    daemon.advance(Duration::from_secs(10));
    exporter.wait_for_log("it did not answer in time");
    let is_grown = |one: &Received| deltas(std::slice::from_ref(one)).iter().any(|delta| *delta > 0.0);
    let received = receiver.wait("the growth, and what comes after", |received| {
        received.iter().skip_while(|one| !is_grown(one)).skip_while(|one| is_grown(one)).count() > 1
    });
    let of_pushes = received.iter().filter(|one| is_grown(one)).flat_map(|one| points(&one.request).into_iter());
    let of_vm0 = of_pushes.filter(|(name, _)| name.starts_with(OF_VM0));
    let pushes: std::collections::BTreeSet<u64> = of_vm0.map(|(_, point)| point.time_unix_nano).collect();
    assert_eq!(pushes.len(), 1, "a push that was not answered, sent again at most");
}
