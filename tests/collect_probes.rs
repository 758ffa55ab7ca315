//! What is asked beside the collections, against a fake daemon: each subject costs itself alone.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/scraper.rs"]
mod scraper;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domstats_exporter::libvirt::{self, ParamValue};
use fake_libvirtd::domain::{Agent, Interface, Job};
use fake_libvirtd::params::Value;
use fake_libvirtd::{
    Change, Domain, DomainState, Event, FakeLibvirtd, Host, Network, ObjectEvent, Pool, Procedure, Scenario, Template,
    Times,
};
use scraper::{Scrape, Scraper};

/// More than a busy machine takes for anything here.
const SOON: Duration = Duration::from_secs(60);

fn until(scraper: &Scraper, what: &str, good: impl Fn(&Scrape) -> bool) -> Scrape {
    let began = Instant::now();
    loop {
        let scrape = scraper.scrape();
        if good(&scrape) {
            return scrape;
        }
        assert!(began.elapsed() < SOON, "{what}: {:?}", scrape.collection.readings);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The names of the guests of which a probe has told something.
fn told<'s>(scrape: &'s Scrape, probe: &str) -> Vec<&'s str> {
    let readings = scrape.collection.readings.iter().filter(|reading| reading.probe == probe);
    let mut names: Vec<&str> =
        readings.flat_map(|reading| reading.records.domains().map(|record| record.name)).collect();
    names.sort_unstable();
    names
}

/// The texts that a probe has for a key.
fn texts<'s>(scrape: &'s Scrape, probe: &str, key: &str) -> Vec<&'s str> {
    let readings = scrape.collection.readings.iter().filter(|reading| reading.probe == probe);
    let params = readings.flat_map(|reading| reading.records.domains().flat_map(|record| record.params()));
    let values = params.filter(|param| param.key == key).map(|param| param.value);
    values.filter_map(|value| if let ParamValue::String(text) = value { Some(text) } else { None }).collect()
}

#[test]
fn jobs_that_others_hold_for_long_keep_no_other_guest_from_being_asked() {
    let scenario = Scenario::builder().domains(20, Template::small()).job_wait(Duration::from_secs(600));
    let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
    let names: Vec<String> = (0..20).map(|number| format!("vm-{number}")).collect();
    let (held, free) = names.split_at(3);
    held.iter().for_each(|name| daemon.faults().busy_domain(name, Times::Always));
    let scraper = Scraper::new(&daemon, ", groups: [state, job]");
    let hung = || scraper.collector.stats().hung_calls.get("job").copied().unwrap_or_default();
    until(&scraper, "three calls hang", |_| hung() == 3);
    // Jobs that begin now are found.
    let job = Job { kind: 1, params: vec![("operation".to_owned(), Value::Int(2))] };
    for name in free {
        daemon.domains().update(name, |domain| domain.job = Some(job.clone())).unwrap();
    }
    let all = until(&scraper, "the others are asked", |scrape| told(scrape, "job").len() == 17);
    assert!(told(&all, "job").iter().all(|name| free.iter().any(|free| free == name)));
    assert_eq!((all.complete(), hung()), (20, 3));
    // Those that are given up answer at last, and are asked again at once.
    held.iter().for_each(|name| daemon.faults().free_domain(name));
    until(&scraper, "the calls return", |_| hung() == 0);
}

#[test]
fn a_guest_that_stops_for_a_disk_says_which() {
    let daemon = scraper::daemon(3);
    let scraper = Scraper::new(&daemon, ", groups: [state, block]");
    until(&scraper, "all answer", |scrape| scrape.complete() == 3);
    for name in ["vm-1", "vm-2"] {
        daemon.domains().update(name, |domain| domain.disk_errors = vec![("vda".to_owned(), 2)]).unwrap();
    }
    // One is paused by a user; that its disk had an error before says nothing.
    daemon.domains().change("vm-2", Change::Suspend).unwrap();
    daemon.domains().update("vm-1", |domain| (domain.state, domain.reason) = (DomainState::Paused, 5)).unwrap();
    daemon.events().lifecycle("vm-1", 3, 2).unwrap();
    let shown = until(&scraper, "both are asked", |scrape| told(scrape, "disk_errors") == ["vm-1", "vm-2"]);
    assert_eq!(texts(&shown, "disk_errors", "block.0.name"), ["vda"]);
    assert_eq!(texts(&shown, "disk_errors", "block.0.error"), ["nospace"]);
    // It goes on.
    daemon.domains().change("vm-1", Change::Resume).unwrap();
    until(&scraper, "it goes on", |scrape| told(scrape, "disk_errors") == ["vm-2"]);
    // A paused guest whose QEMU is frozen costs itself alone.
    daemon.faults().hang_domain("vm-0");
    daemon.domains().change("vm-0", Change::Suspend).unwrap();
    let frozen = until(&scraper, "it is found", |scrape| scrape.quarantined() == ["vm-0"]);
    assert_eq!(frozen.complete(), 2);
}

#[test]
fn addresses_that_are_shown_are_kept_current() {
    let daemon = scraper::daemon(2);
    let sections = "service_discovery: {refresh_interval: 1s}\ncollection: {deadline: 4s, groups: [state";
    let calls = || daemon.counters().calls(Procedure::DomainInterfaceAddresses);
    let without = Scraper::configured(&daemon, &format!("{sections}]}}\n"));
    until(&without, "all answer", |scrape| scrape.complete() == 2);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(calls(), 0, "nothing shows them");
    let scraper = Scraper::configured(&daemon, &format!("{sections}, address]}}\n"));
    let of = |scrape: &Scrape| -> Vec<String> {
        let found = scrape.known("vm-1").and_then(|domain| domain.addresses.as_ref()?.as_ref());
        let interfaces = found.into_iter().flat_map(|found| &found.interfaces);
        interfaces.flat_map(|interface| &interface.addresses).map(ToString::to_string).collect()
    };
    until(&scraper, "they are looked up", |scrape| !of(scrape).is_empty());
    let interface = Interface {
        name: "vnet1".to_owned(),
        hwaddr: "52:54:00:00:00:09".to_owned(),
        addresses: vec![("192.0.2.9".to_owned(), 24), ("2001:db8::9".to_owned(), 64)],
    };
    daemon.domains().update("vm-1", |domain| domain.interfaces = Some(vec![interface])).unwrap();
    until(&scraper, "another lease is seen", |scrape| of(scrape) == ["192.0.2.9", "2001:db8::9"]);
}

#[test]
fn what_changes_of_pools_and_networks_is_read_at_once() {
    let mut host = Host::default();
    host.pools.push(Pool { name: "images".to_owned(), state: 2, capacity: 9, allocation: 3 });
    host.networks.push(Network { name: "inner".to_owned(), active: true, bridge: "br0".to_owned(), leases: 1 });
    let daemon = FakeLibvirtd::start(Scenario::builder().host(host).build()).unwrap();
    let scraper = Scraper::new(&daemon, ", groups: [pool, network]");
    let calls = |procedure| daemon.counters().calls(procedure);
    until(&scraper, "both are read", |scrape| scrape.collection.readings.len() == 2);
    let all = [
        Procedure::StoragePoolGetInfo,
        Procedure::NetworkIsActive,
        Procedure::ConnectListAllStoragePools,
        Procedure::ConnectListAllNetworks,
    ];
    assert_eq!(all.map(calls), [1; 4], "and every minute from now on");
    for (event, expected) in [
        (("images", ObjectEvent::PoolRefresh), [2, 1, 2, 1]),
        (("images", ObjectEvent::Pool(3)), [3, 1, 3, 1]),
        (("inner", ObjectEvent::Network(3)), [3, 2, 3, 2]),
        // One that is not known yet.
        (("other", ObjectEvent::Pool(0)), [3, 2, 4, 2]),
    ] {
        assert_eq!(daemon.events().object(event.0, event.1), 1, "one connection watches");
        until(&scraper, "it is read again", |_| all.map(calls) == expected);
    }
    // A client that refreshes again and again has it read a few times a second.
    (0..500).for_each(|_| _ = daemon.events().object("images", ObjectEvent::PoolRefresh));
    std::thread::sleep(Duration::from_secs(1));
    assert!(calls(Procedure::StoragePoolGetInfo) <= 3 + 20, "{}", calls(Procedure::StoragePoolGetInfo));
    // Each of them is counted, also after another daemon has taken the place of this one.
    let (pool, network) = (libvirt::ObjectKind::Pool, libvirt::ObjectKind::Network);
    let lifecycle = libvirt::ObjectEvent::Lifecycle;
    let mut counts = BTreeMap::from([
        ((pool, lifecycle(0)), 1),
        ((pool, lifecycle(3)), 1),
        ((pool, libvirt::ObjectEvent::Refreshed), 501),
        ((network, lifecycle(3)), 1),
    ]);
    let counted = |scrape: &Scrape| scrape.collection.snapshot.counts.objects.clone();
    let shown = until(&scraper, "all are counted", |scrape| counted(scrape).values().sum::<u64>() == 504);
    assert_eq!(counted(&shown), counts);
    let before = all.map(calls);
    daemon.kill();
    daemon.revive().unwrap();
    until(&scraper, "both are read again", |_| all.map(calls).iter().zip(before).all(|(now, before)| *now > before));
    daemon.events().object("images", ObjectEvent::Pool(5));
    counts.insert((pool, lifecycle(5)), 1);
    until(&scraper, "and those of the next one", |scrape| counted(scrape) == counts);
}

/// A daemon of guests `vm-0`, `vm-1` and so on, whose agents are connected and say their guests' names.
fn with_agents(guests: usize) -> FakeLibvirtd {
    let guest = |number: usize| {
        let mut domain = Domain::new(format!("vm-{number}"), Template { agent: true, ..Template::small() });
        let info = vec![("hostname".to_owned(), Value::String(domain.name.clone()))];
        domain.agent = Some(Agent { info, ..Agent::default() });
        domain
    };
    let scenario = (0..guests).map(guest).fold(Scenario::builder(), fake_libvirtd::ScenarioBuilder::domain);
    FakeLibvirtd::start(scenario.build()).unwrap()
}

/// Over a connection that may ask agents.
fn asking_agents(daemon: &FakeLibvirtd) -> Scraper {
    Scraper::new(daemon, ", groups: [state, guest]")
}

#[test]
fn agents_that_say_nothing_keep_no_other_guest_waiting() {
    let daemon = with_agents(50);
    // One after the other they would take three minutes.
    (0..20).for_each(|number| daemon.faults().silence_agent(&format!("vm-{number}"), Duration::from_secs(9)));
    let scraper = asking_agents(&daemon);
    let began = Instant::now();
    let shown = loop {
        let scrape = scraper.scrape();
        if told(&scrape, "guest").len() == 30 {
            break scrape;
        }
        assert!(began.elapsed() < Duration::from_secs(90), "{:?}", told(&scrape, "guest"));
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(!told(&shown, "guest").iter().any(|name| name[3..].parse::<u8>().unwrap() < 20));
    assert_eq!((shown.complete(), scraper.collector.stats().hung_calls["guest"]), (50, 0));
}

#[test]
fn what_a_guest_said_ends_when_its_agent_disconnects() {
    let daemon = with_agents(2);
    let scraper = asking_agents(&daemon);
    until(&scraper, "both are told", |scrape| told(scrape, "guest") == ["vm-0", "vm-1"]);
    let calls = || daemon.counters().calls(Procedure::DomainGetGuestInfo);
    let before = calls();
    daemon.faults().silence_agent("vm-1", Duration::from_millis(1));
    for state in [2, 1] {
        daemon.events().send("vm-1", Event::AgentLifecycle { state, reason: 2 }).unwrap();
    }
    // It is asked at once, and says nothing.
    until(&scraper, "it is asked", |_| calls() > before);
    until(&scraper, "what it said has ended", |scrape| told(scrape, "guest").len() == 1);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(told(&scraper.scrape(), "guest"), ["vm-0"]);
    daemon.faults().clear_domain("vm-1");
    daemon.events().send("vm-1", Event::AgentLifecycle { state: 1, reason: 2 }).unwrap();
    until(&scraper, "what it says now", |scrape| told(scrape, "guest") == ["vm-0", "vm-1"]);
}
