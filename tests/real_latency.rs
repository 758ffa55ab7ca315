//! How soon the exporter knows: real lifecycle events to the registry, and the first scrape after a domain came or went.
//!
//! The figures are printed (`--nocapture`); what is asserted is generous, for the machine may be busy.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]
#![allow(unreachable_pub, missing_docs, dead_code, missing_debug_implementations)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/observer.rs"]
mod observer;
#[path = "support/reading.rs"]
mod reading;
#[path = "support/waiting.rs"]
mod waiting;

use std::fs;
use std::time::{Duration, Instant};

use domstats_exporter::domains::PowerState;
use domstats_exporter::libvirt::EventKind;
use lab::{Exporter, Lab, Suite};
use observer::{Observer, named};
use reading::parse_exposition;
use virt::connect::Connect;
use virt::domain::Domain;
use waiting::assert_no_waits;

const TURNS: usize = 500;
/// The pause before a domain is listed again, which would find what an event did not tell.
const LISTING: Duration = Duration::from_secs(1);

#[test]
fn a_thousand_lifecycle_events_are_in_the_registry_at_once() {
    let lab = Lab::start(Suite::Machine).unwrap();
    let name = lab.guests(&["db"]).unwrap().remove(0);
    let observer = Observer::start(&lab.uri_ro, "");
    let connection = Connect::open(Some(&lab.uri)).unwrap();
    let domain = connection.lookup_domain_by_name(&name).unwrap();
    let (mut from_call, mut from_return, mut from_event) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..2 * TURNS {
        let (act, state, event): (fn(&Domain) -> _, _, _) = if turn % 2 == 0 {
            (Domain::resume, PowerState::Running, 4)
        } else {
            (Domain::suspend, PowerState::Paused, 3)
        };
        let called = Instant::now();
        act(&domain).unwrap();
        let returned = Instant::now();
        let seen = observer.since(called, "a change of state", |snapshot| {
            named(snapshot, &name).is_some_and(|target| target.state == state)
        });
        let heard = observer.heard(
            called,
            "its event",
            |heard| matches!(heard.kind, EventKind::Lifecycle { event: what, .. } if what == event),
        );
        from_call.push(seen - called);
        from_return.push(seen.saturating_duration_since(returned));
        from_event.push(seen.saturating_duration_since(heard));
    }
    let lifecycle = observer.events().iter().filter(|(_, event)| event.kind.name() == "lifecycle").count();
    assert_eq!(lifecycle, 2 * TURNS, "each of them was one event");
    let counted: f64 = parse_exposition(&observer.scrape())
        .unwrap()
        .iter()
        .filter(|sample| sample.name == "libvirt_host_lifecycle_events_total")
        .map(|sample| sample.value)
        .sum();
    assert_eq!(counted, 1000.0);
    for (since, mut times) in
        [("before the call", from_call), ("its return", from_return), ("hearing the event", from_event)]
    {
        times.sort();
        let at = |part: usize| times[times.len() * part / 100];
        println!("registry, from {since}: p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), times[times.len() - 1]);
        assert_no_waits(times, LISTING);
    }
}

/// How often each act is done by virsh, and by a call; a start or a destroy takes a second. ROUNDS overrides, for figures.
const ROUNDS: [usize; 2] = [8, 4];

/// Does what virsh would do with these arguments.
type Act<'a> = &'a dyn Fn(&[&str]);

/// What a scrape shows of a domain.
#[derive(Debug, PartialEq)]
struct Shown {
    /// The state that is 1; empty if there is none.
    state: String,
    info: bool,
    /// Statistics that only a running domain has.
    vcpu_time: bool,
    start_time: bool,
    complete: bool,
    any: bool,
}

fn shown(exporter: &Exporter, name: &str) -> Shown {
    let samples = parse_exposition(&exporter.metrics("text/plain").unwrap()).unwrap();
    let of_it: Vec<_> = samples.iter().filter(|sample| sample.label("domain") == name).collect();
    let has = |metric: &str| of_it.iter().any(|sample| sample.name == metric);
    let states: Vec<&str> = of_it
        .iter()
        .filter(|sample| sample.name == "libvirt_domain_state" && sample.value == 1.0)
        .map(|sample| sample.label("state"))
        .collect();
    Shown {
        state: states.join(" and "),
        info: has("libvirt_domain_info"),
        vcpu_time: has("libvirt_domain_vcpu_time_seconds_total"),
        start_time: has("libvirt_domain_start_timestamp_seconds"),
        complete: has("libvirt_domain_stats_complete"),
        any: !of_it.is_empty(),
    }
}

#[test]
fn the_first_scrape_after_a_start_or_a_destroy_is_right() {
    let lab = Lab::start(Suite::Machine).unwrap();
    let name = lab.guests(&["web", "old"]).unwrap().remove(1);
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let connection = Connect::open(Some(&lab.uri)).unwrap();
    let domain = connection.lookup_domain_by_name(&name).unwrap();
    let xml = lab.virsh(&["dumpxml", &name]).unwrap();
    let uuid = domain.uuid_string().unwrap();
    let transient = format!("{name}-transient");
    let transient_xml = xml.replace(&name, &transient).replace(&uuid, "7d7ab5a4-6f3c-4a4b-8f0e-0f4f5f0e7a11");
    let file = lab.folder().join("transient.xml");
    fs::write(&file, &transient_xml).unwrap();

    let runs = |state: &str| Shown {
        state: state.to_owned(),
        info: true,
        vcpu_time: true,
        start_time: true,
        complete: true,
        any: true,
    };
    let off = Shown {
        state: "shutoff".to_owned(),
        info: true,
        vcpu_time: false,
        start_time: false,
        complete: false,
        any: true,
    };
    let gone =
        Shown { state: String::new(), info: false, vcpu_time: false, start_time: false, complete: false, any: false };
    let file = file.to_str().unwrap();
    let on_connection = |virsh: &[&str]| {
        match virsh {
            ["start", _] => domain.create(),
            ["create", _] => connection.create_domain_xml(&transient_xml, 0).map(drop),
            ["destroy", who] => connection.lookup_domain_by_name(who).and_then(|domain| domain.destroy()),
            _ => unreachable!(),
        }
        .unwrap();
    };
    let by_virsh = |virsh: &[&str]| drop(lab.virsh(virsh).unwrap());
    let ways: [(&str, Act<'_>); 2] = [("virsh", &by_virsh), ("a call", &on_connection)];
    let acts = [
        (vec!["start", &name], &name, runs("running")),
        (vec!["destroy", &name], &name, off),
        (vec!["create", file], &transient, runs("running")),
        (vec!["destroy", &transient], &transient, gone),
    ];
    let wanted: Option<usize> = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok());
    let mut wrong = 0;
    for ((way, act), rounds) in ways.into_iter().zip(ROUNDS.map(|rounds| wanted.unwrap_or(rounds))) {
        let mut right = [0; 4];
        let (mut acting, mut scraping) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..rounds {
            for (number, (virsh, who, expected)) in acts.iter().enumerate() {
                let begun = Instant::now();
                act(virsh);
                let returned = Instant::now();
                let first = shown(&exporter, who);
                acting += returned - begun;
                scraping += returned.elapsed();
                if first == *expected {
                    right[number] += 1;
                } else {
                    println!("{way} {virsh:?}: {first:?}");
                    wrong += 1;
                }
                // Whatever the first one said, soon it is right.
                let since = Instant::now();
                while shown(&exporter, who) != *expected {
                    assert!(since.elapsed() < Duration::from_secs(60), "{way} {virsh:?}: {:?}", shown(&exporter, who));
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        for (right, (virsh, ..)) in right.iter().zip(&acts) {
            println!("by {way}: first scrape right after {}: {right} of {rounds}", virsh.join(" "));
        }
        let all = u32::try_from(rounds * acts.len()).unwrap();
        println!("by {way}: on average an act took {:?}, the scrape after it {:?}", acting / all, scraping / all);
    }
    assert_eq!(wrong, 0, "first scrapes that were wrong");
}
