//! Which domains are exported, on a fake daemon: the others are not asked for anything, and a reload loses no counter.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/scraper.rs"]
mod scraper;

use fake_libvirtd::domain::Metadata;
use fake_libvirtd::{Change, DomainState, Event, FakeLibvirtd, Procedure};
use scraper::{Scraper, configuration, daemon};

const STATS: Procedure = Procedure::ConnectGetAllDomainStats;

/// How many domains have been named in calls for statistics since the counters were reset.
fn asked_for(daemon: &FakeLibvirtd) -> usize {
    daemon.counters().log_of(STATS).iter().filter_map(|call| call.domains).sum()
}

#[test]
fn excluded_domains_are_not_asked_for_statistics() {
    let daemon = daemon(4);
    daemon
        .domains()
        .update("vm-3", |domain| {
            domain.title = Some("spare".into());
            domain.set_state(DomainState::Paused, 1);
        })
        .unwrap();
    let owned = "<o:order xmlns:o='urn:shop'><o:owner name='lab'/></o:order>";
    let metadata = Metadata { uri: "urn:shop".into(), xml: owned.into() };
    daemon.domains().update("vm-2", |domain| domain.metadata.push(metadata)).unwrap();
    let uuid = daemon.domains().get("vm-1").unwrap().uuid;
    let labels = "metadata: {rate: 5000, labels: {owner: 'metadata/order/owner/@name'}}\n";
    let scraper = Scraper::configured(&daemon, labels);
    scraper.until("every definition has been read", |scrape| scrape.collection.snapshot.metadata_pending == 0);
    daemon.events().send("vm-0", Event::Reboot).unwrap();
    scraper.until("it has rebooted", |scrape| scrape.known("vm-0").unwrap().counts.reboots == 1);
    let mut reloads = 0;
    for (rules, wanted) in [
        ("{}".to_owned(), vec![0, 1, 2, 3]),
        ("{include: ['vm-[01]']}".into(), vec![0, 1]),
        ("{include: ['vm-']}".into(), vec![]),
        ("{include: ['vm-.*'], exclude: ['vm-1', {name: 'vm-0', state: paused}]}".into(), vec![0, 2, 3]),
        (format!("{{exclude: [{{uuid: '{uuid}'}}]}}"), vec![0, 2, 3]),
        ("{exclude: [{state: paused}]}".into(), vec![0, 1, 2]),
        ("{exclude: [{metadata: {owner: 'la.'}}]}".into(), vec![0, 1, 3]),
        ("{include: [{metadata: {owner: 'lab', title: ''}}, {metadata: {title: spare}}]}".into(), vec![2, 3]),
    ] {
        scraper.collector.reconfigure(&configuration(&daemon, &format!("{labels}domains: {rules}\n")));
        daemon.counters().reset();
        let scrape = scraper.scrape();
        let mut names: Vec<_> = scrape.collection.domains.iter().map(|domain| domain.identity.name.clone()).collect();
        names.sort();
        let expected: Vec<_> = wanted.iter().map(|number| format!("vm-{number}")).collect();
        assert_eq!((names, asked_for(&daemon)), (expected, wanted.len()), "{rules}");
        let records = scrape.collection.batches.iter().flat_map(|records| records.domains());
        assert_eq!(records.count(), wanted.len(), "{rules}");
        reloads += 1;
    }
    assert_eq!(daemon.counters().calls(Procedure::DomainGetXmlDesc), 0, "rules alone are no reason to read again");
    let scrape = scraper.scrape();
    assert_eq!((reloads, scrape.known("vm-0").unwrap().counts.reboots), (8, 1), "reloads lose no counter");
    assert_eq!(scrape.collection.snapshot.counts.others["reboot"], 1);
    // A domain that changes its state comes or goes at once.
    scraper
        .collector
        .reconfigure(&configuration(&daemon, &format!("{labels}domains: {{exclude: [{{state: paused}}]}}\n")));
    daemon.domains().change("vm-0", Change::Suspend).unwrap();
    daemon.domains().change("vm-3", Change::Resume).unwrap();
    scraper.until("they have changed places", |scrape| {
        let names: Vec<_> = scrape.collection.domains.iter().map(|domain| &*domain.identity.name).collect();
        names.len() == 3 && !names.contains(&"vm-0")
    });
}
