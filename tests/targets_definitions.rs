//! Definitions on a fake daemon: read beside the scrapes, at their pace, again when they change; and those that cannot be.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/scraper.rs"]
mod scraper;
#[path = "support/waiting.rs"]
mod waiting;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use domstats_exporter::domains::{Definition, DefinitionFailure, Metadata};
use fake_libvirtd::{Change, Event, FakeLibvirtd, Procedure, RecordFault, ReplyFault, Scenario, Template, Times};
use scraper::{DEADLINE, Scrape, Scraper, configuration, daemon};
use waiting::assert_no_wait;

const XML: Procedure = Procedure::DomainGetXmlDesc;

fn title(scrape: &Scrape, name: &str) -> String {
    scrape.known(name).unwrap().metadata().map(|metadata| metadata.title.clone()).unwrap_or_default()
}

fn set_title(daemon: &FakeLibvirtd, name: &str, title: &str) {
    daemon.domains().update(name, |domain| domain.title = Some(title.to_owned())).unwrap();
}

/// Scrapes until every definition has been read or has failed.
fn all_read(scraper: &Scraper) -> Scrape {
    scraper.until("every definition has been looked at", |scrape| scrape.collection.snapshot.metadata_pending == 0)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn most_in_a_second(daemon: &FakeLibvirtd) -> usize {
    let log = daemon.counters().log_of(XML);
    let second = Duration::from_secs(1);
    let after = |first: usize| log[first..].iter().take_while(|call| call.at < log[first].at + second).count();
    (0..log.len()).map(after).max().unwrap()
}

#[test]
fn ten_thousand_definitions_are_read_at_their_rate_while_scrapes_stay_fast() {
    const RATE: usize = 2000;
    let template = Template { disks: 0, nics: 0, ..Template::small() };
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(10_000, template).build()).unwrap();
    let scraper = Scraper::configured(
        &daemon,
        &format!("metadata: {{rate: {RATE}, refresh_interval: 1h}}\ncollection: {{deadline: 120s}}\n"),
    );
    let (mut pending, mut during) = (Vec::new(), Vec::new());
    loop {
        let scrape = scraper.scrape();
        assert_eq!((scrape.class(), scrape.complete()), (None, 10_000));
        pending.push(scrape.collection.snapshot.metadata_pending);
        if pending.last() == Some(&0) {
            break;
        }
        during.push(scrape.took);
        assert!(pending.len() < 100, "{pending:?}");
        thread::sleep(Duration::from_secs(1));
    }
    assert!(pending[0] > 0 && pending.is_sorted_by(|earlier, later| earlier >= later), "{pending:?}");
    assert_eq!(daemon.counters().calls(XML), 10_000, "each once");
    assert!(most_in_a_second(&daemon) <= RATE * 6 / 5);
    let after: Vec<Duration> = (0..9).map(|_| scraper.scrape().took).collect();
    assert!(median(during) < median(after) * 4 + Duration::from_millis(500));
}

#[test]
fn definitions_that_hang_cost_no_other_and_are_read_again_when_they_return() {
    let daemon = daemon(6);
    let settings = "metadata: {rate: 5000, timeout: 500ms}\n";
    let hang = Duration::from_secs(15);
    daemon.faults().reply(XML, ReplyFault::Delay(hang), Times::Next(2));
    let scraper = Scraper::configured(&daemon, settings).within(DEADLINE);
    let scrape = scraper.until("two hang, and the others are read", |scrape| {
        let snapshot = &scrape.collection.snapshot;
        snapshot.metadata_failures.get(&DefinitionFailure::TimedOut) == Some(&2) && snapshot.metadata_pending == 0
    });
    let failed = |target: &&Arc<_>| {
        let target: &domstats_exporter::domains::Domain = target;
        target.definition == Definition::Failed(DefinitionFailure::TimedOut)
    };
    assert_eq!(scrape.collection.snapshot.domains.iter().filter(failed).count(), 2);
    for _ in 0..20 {
        let scrape = scraper.scrape();
        assert_eq!((scrape.complete(), scrape.class(), scrape.quarantined().len()), (6, None, 0));
        assert_no_wait(scrape.took, hang);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(daemon.counters().calls(XML), 6, "each once");
    // A reload of the settings is a reason to read the others again, and not to ask about what hangs.
    let other = "metadata: {rate: 4000, timeout: 400ms}\n";
    scraper.collector.reconfigure(&configuration(&daemon, other));
    scraper.until("the others are read again", |_| daemon.counters().calls(XML) >= 10);
    thread::sleep(Duration::from_millis(600));
    assert_eq!(daemon.counters().calls(XML), 10, "two hang still");
    let healed = scraper.until("they have returned", |scrape| {
        scrape.collection.snapshot.domains.iter().all(|target| target.metadata().is_some())
    });
    assert_eq!(healed.collection.snapshot.metadata_failures[&DefinitionFailure::TimedOut], 2);
}

#[test]
fn definitions_that_cannot_be_read_are_counted_by_why() {
    let daemon = daemon(6);
    let documents = [
        ("vm-0", DefinitionFailure::Malformed, "<domain><name>vm-0</name".to_owned()),
        ("vm-1", DefinitionFailure::Dtd, "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain>&a;</domain>".to_owned()),
        (
            "vm-2",
            DefinitionFailure::TooDeep,
            format!("<domain>{}{}</domain>", "<a>".repeat(100_000), "</a>".repeat(100_000)),
        ),
        (
            "vm-3",
            DefinitionFailure::TooLarge,
            format!("<domain><description>{}</description></domain>", "x".repeat(5 << 20)),
        ),
        ("vm-4", DefinitionFailure::NoDomain, "<network/>".to_owned()),
    ];
    for (name, _, xml) in &documents {
        daemon.domains().update(name, |domain| domain.xml = Some(xml.clone())).unwrap();
    }
    let scraper = Scraper::configured(&daemon, "metadata: {rate: 5000}\n");
    let scrape = all_read(&scraper);
    for (name, reason, _) in &documents {
        assert_eq!(scrape.known(name).unwrap().definition, Definition::Failed(*reason));
        assert_eq!(scrape.collection.snapshot.metadata_failures.get(reason), Some(&1), "{reason}");
    }
    assert!(scrape.known("vm-5").unwrap().metadata().is_some());
    // What was read once stays when it cannot be read any more, and one that can be read again is.
    daemon.domains().update("vm-5", |domain| domain.xml = Some("<".into())).unwrap();
    daemon.domains().update("vm-0", |domain| domain.xml = None).unwrap();
    for name in ["vm-0", "vm-5"] {
        daemon.events().send(name, Event::MetadataChange { kind: 1, nsuri: None }).unwrap();
    }
    let scrape = scraper.until("both have been read", |scrape| {
        scrape.known("vm-0").unwrap().metadata().is_some()
            && scrape.collection.snapshot.metadata_failures[&DefinitionFailure::Malformed] == 2
    });
    assert_ne!(scrape.known("vm-5").unwrap().metadata(), None::<&Metadata>);
    // An error of the daemon's is counted by its class.
    let denied = ReplyFault::Error { code: 88, message: "access denied".into() };
    daemon.faults().reply(XML, denied, Times::Next(1));
    daemon.events().send("vm-0", Event::MetadataChange { kind: 1, nsuri: None }).unwrap();
    scraper.until("it is counted", |scrape| {
        scrape.collection.snapshot.metadata_failures.get(&DefinitionFailure::PermissionDenied) == Some(&1)
    });
}

#[test]
fn definitions_are_read_again_when_an_event_or_a_record_tells_of_a_change() {
    let daemon = daemon(3);
    let scraper = Scraper::configured(&daemon, "metadata: {rate: 5000, refresh_interval: 1h}\n");
    all_read(&scraper);
    let disk_change = Event::DiskChange {
        old_src_path: None,
        new_src_path: Some("/new".into()),
        dev_alias: "virtio-disk0".into(),
        reason: 0,
    };
    let alias = || "net1".to_owned();
    let events = [
        Event::MetadataChange { kind: 1, nsuri: None },
        Event::DeviceAdded { dev_alias: alias() },
        Event::DeviceRemoved { dev_alias: alias() },
        disk_change,
        Event::TrayChange { dev_alias: alias(), reason: 0 },
        Event::BlockJob2 { dst: "vda".into(), kind: 4, status: 0 },
        Event::AgentLifecycle { state: 1, reason: 2 },
        Event::lifecycle(0, 1),
        Event::lifecycle(2, 0),
    ];
    for (number, event) in events.into_iter().enumerate() {
        daemon.counters().reset();
        let changed = format!("title {number}");
        set_title(&daemon, "vm-1", &changed);
        daemon.events().send("vm-1", event.clone()).unwrap();
        scraper.until(&format!("{event:?}"), |scrape| title(scrape, "vm-1") == changed);
        assert_eq!(daemon.counters().calls(XML), 1, "{event:?}");
    }
    // Others say nothing about it.
    daemon.counters().reset();
    for event in
        [Event::Reboot, Event::BalloonChange { actual: 1 }, Event::BlockJob2 { dst: "vda".into(), kind: 4, status: 1 }]
    {
        daemon.events().send("vm-1", event).unwrap();
    }
    scraper.until("it has rebooted", |scrape| scrape.known("vm-1").unwrap().counts.reboots == 1);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(daemon.counters().calls(XML), 0);
    // A snapshot sends no event, but the disk has another source then.
    set_title(&daemon, "vm-2", "after the snapshot");
    take_snapshot(&daemon, "vm-2");
    scraper.until("it has been read", |scrape| title(scrape, "vm-2") == "after the snapshot");
    assert_eq!(daemon.counters().calls(XML), 1);
}

/// Lets the records of a domain name another image.
fn take_snapshot(daemon: &FakeLibvirtd, name: &str) {
    let snapshot = |domain: &mut fake_libvirtd::Domain| {
        let mut params = domain.params(false);
        let path = params.iter_mut().find(|(key, _)| key == "block.0.path").unwrap();
        path.1 = fake_libvirtd::params::Value::String("/snapshot.qcow2".into());
        domain.source = fake_libvirtd::domain::Source::Params(Arc::new(params));
    };
    daemon.domains().update(name, snapshot).unwrap();
}

#[test]
fn the_first_record_is_compared_with_the_definition() {
    let daemon = daemon(3);
    let scraper = Scraper::configured(&daemon, "metadata: {rate: 5000, refresh_interval: 1h}\n");
    scraper.runtime.block_on(scraper.collector.domains(scraper.deadline, false)).unwrap();
    assert_eq!(daemon.counters().calls(XML), 3);
    daemon.counters().reset();
    set_title(&daemon, "vm-1", "after the snapshot");
    take_snapshot(&daemon, "vm-1");
    scraper.until("it has been read", |scrape| title(scrape, "vm-1") == "after the snapshot");
    // Where the two never agree, that is no reason to read it again and again.
    for _ in 0..20 {
        scraper.scrape();
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(daemon.counters().calls(XML), 1);
}

#[test]
fn a_domain_that_must_not_be_read_is_told_of_and_not_asked_about() {
    let daemon = daemon(3);
    let denied = ReplyFault::Error { code: 88, message: "access denied".into() };
    daemon.faults().reply(XML, denied, Times::Always);
    daemon.faults().record("vm-1", RecordFault::Missing);
    let scraper = Scraper::configured(&daemon, "metadata: {rate: 5000}\n");
    let scrape = scraper.until("it is told of", |scrape| !scrape.collection.snapshot.unreadable.is_empty());
    let uuid = scrape.known("vm-1").unwrap().identity.uuid;
    assert_eq!(scrape.collection.snapshot.unreadable, [uuid], "the others have records");
    let listings = daemon.counters().calls(Procedure::ConnectListAllDomains);
    let scrapes: Vec<Scrape> = (0..5).map(|_| scraper.scrape()).collect();
    assert!(scrapes.iter().all(|scrape| scrape.class().is_none() && scrape.complete() == 2));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.counters().calls(Procedure::ConnectListAllDomains), listings, "no listing would tell more");
    // Once that is allowed, the definition is read at the next occasion.
    daemon.faults().clear();
    daemon.events().send("vm-1", Event::MetadataChange { kind: 1, nsuri: None }).unwrap();
    let scrape = scraper.until("it is asked about again", |scrape| scrape.complete() == 3);
    assert!(scrape.collection.snapshot.unreadable.is_empty());
}

#[test]
fn the_definition_of_a_domain_in_quarantine_is_left_alone_until_it_answers() {
    let daemon = daemon(5);
    let scraper = Scraper::configured(&daemon, "metadata: {rate: 5000}\n");
    all_read(&scraper);
    daemon.faults().hang_domain("vm-1");
    scraper.until("it is in quarantine", |scrape| scrape.quarantined() == ["vm-1"]);
    daemon.counters().reset();
    set_title(&daemon, "vm-1", "later");
    daemon.events().send("vm-1", Event::MetadataChange { kind: 1, nsuri: None }).unwrap();
    for _ in 0..30 {
        scraper.scrape();
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(daemon.counters().calls(XML), 0);
    daemon.release("vm-1");
    scraper.until("it has been read", |scrape| title(scrape, "vm-1") == "later");
    assert_eq!(daemon.counters().calls(XML), 1);
}

#[test]
fn a_run_that_ended_and_began_anew_has_its_own_definition() {
    let daemon = daemon(2);
    let scraper = Scraper::configured(&daemon, "metadata: {rate: 5000, refresh_interval: 1h}\n");
    all_read(&scraper);
    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    set_title(&daemon, "vm-1", "second run");
    daemon.domains().change("vm-1", Change::Start).unwrap();
    scraper.until("it has been read", |scrape| title(scrape, "vm-1") == "second run");
    // And so has one whose start had no event.
    daemon.faults().lose_events(Times::Always);
    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    set_title(&daemon, "vm-1", "third run");
    daemon.domains().change("vm-1", Change::Start).unwrap();
    scraper.until("it has been read", |scrape| title(scrape, "vm-1") == "third run");
}
