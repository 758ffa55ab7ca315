//! Since when counters count, as scrapes and pushes say it, on a fake daemon: guests that move, devices that come and go, counters
//! that begin again, and an exporter that does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use domstats_exporter::app::Exporter;
use domstats_exporter::collect::Selection;
use domstats_exporter::config::{self, MetricNaming};
use domstats_exporter::encode::Format;
use domstats_exporter::encode::otlp::Part;
use domstats_exporter::metrics::{Families, Start};
use domstats_exporter::push::Batch;
use domstats_exporter::push::otlp::{Series, dialect};
use fake_libvirtd::{Change, Domain, DomainState, Event, FakeLibvirtd, Scenario, Template, params};

const CPU: &str = "libvirt_domain_cpu_time_seconds_total";
const READ: &str = "libvirt_domain_block_read_bytes_total";
const FAULTS: &str = "libvirt_domain_memory_minor_faults_total";
const SWAP: &str = "libvirt_domain_memory_swap_in_bytes_total";

/// An exporter that is asked from a test, once a time in each way.
struct Asked {
    exporter: Arc<Exporter>,
    runtime: tokio::runtime::Runtime,
}

impl Asked {
    /// It is connected, and has read all definitions.
    fn new(daemon: &FakeLibvirtd) -> Self {
        let text = format!(
            "libvirt: {{uri: '{}'}}\nweb: {{openmetrics_created: true}}\nmetadata: {{rate: 5000}}\n",
            daemon.uri()
        );
        let config = config::parse(&text, "test").expect("a valid configuration");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let asked = Self { exporter: Exporter::start(&config, None).expect("a thread"), runtime };
        asked.runtime.block_on(asked.exporter.discover(None)).expect("a connection");
        asked
    }

    fn scrape(&self) -> Families {
        let collected = self.runtime.block_on(self.exporter.collect(None, Selection::default()));
        assert_eq!(collected.collection.error, None);
        self.exporter.exposition(&collected, Format::Protobuf, MetricNaming::Native)
    }

    /// The first scrape that satisfies.
    fn until(&self, what: &str, good: impl Fn(&Families) -> bool) -> Families {
        let began = Instant::now();
        loop {
            let families = self.scrape();
            if good(&families) {
                return families;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn push(&self, series: &mut Series) -> (Part, SystemTime) {
        let collected = self.runtime.block_on(self.exporter.collect(None, Selection::default()));
        let families = Arc::new(self.exporter.families(&collected));
        let part = series.parts(&mut Batch { families, taken: collected.taken() }).remove(0);
        (part, collected.collection.at)
    }
}

/// Where the sample of a domain, or of a device of it, is.
fn place(families: &Families, name: &str, domain: &str, device: &str) -> Option<(usize, usize)> {
    let number = families.families.iter().position(|family| family.meta.name == name)?;
    let position = families.families[number].samples.iter().position(|sample| {
        let has = |set, value: &str| value.is_empty() || families.labels.get(set).any(|label| label.1 == value);
        let [subject, labels] = families.labels_of(sample);
        has(subject, domain) && has(labels, device)
    })?;
    Some((number, position))
}

/// When it was at zero, if that is known.
fn began(families: &Families, name: &str, domain: &str, device: &str) -> Option<SystemTime> {
    let (number, position) = place(families, name, domain, device)?;
    families.known_start_of(&families.families[number], position)
}

fn everything() -> FakeLibvirtd {
    let domains = ["vm-0", "vm-1"].map(|name| Domain::new(name, Template::everything()));
    let scenario = domains.into_iter().fold(Scenario::builder(), |scenario, domain| scenario.domain(domain));
    FakeLibvirtd::start(scenario.build()).expect("a fake daemon")
}

/// It runs in another hypervisor than before, and libvirt says why.
fn start(daemon: &FakeLibvirtd, detail: i32) {
    daemon.domains().update("vm-1", |domain| domain.set_state(DomainState::Running, 1)).unwrap();
    daemon.events().lifecycle("vm-1", 2, detail).unwrap();
}

#[test]
fn a_guest_that_moves_in_has_counted_before() {
    let daemon = everything();
    let asked = Asked::new(&daemon);
    // Booted, migrated, restored, and from a snapshot.
    for (detail, boots) in [(0, true), (1, false), (2, false), (3, false)] {
        daemon.domains().change("vm-1", Change::Destroy).unwrap();
        // It is dated up to a second before the first collection that has it.
        let before = SystemTime::now() - Duration::from_secs(1);
        asked.until("it is shut off", |families| place(families, CPU, "vm-1", "").is_none());
        start(&daemon, detail);
        let shown = asked.until("it has started", |families| began(families, CPU, "vm-1", "") >= Some(before));
        let run = began(&shown, CPU, "vm-1", "");
        assert_eq!(began(&shown, READ, "vm-1", "vda"), run, "{detail}");
        for of_guest in [FAULTS, SWAP] {
            assert!(place(&shown, of_guest, "vm-1", "").is_some(), "{of_guest}");
            assert_eq!(began(&shown, of_guest, "vm-1", ""), run.filter(|_| boots), "{of_guest} {detail}");
            let series = of_guest.replace("_total", "_created{domain=\"vm-1\"");
            let text = String::from_utf8(Format::OpenMetrics.encode(&shown)).unwrap();
            assert_eq!(text.contains(&series), boots, "{series}");
        }
        // The start of the other one was not seen.
        assert_eq!(began(&shown, CPU, "vm-0", ""), None);
    }
}

#[test]
fn the_first_delta_of_a_guest_that_moves_in_is_none() {
    let daemon = everything();
    let asked = Asked::new(&daemon);
    let config = config::parse("otlp: {temporality: delta}", "test").unwrap();
    let mut series = Series::new(&dialect(&config, None));
    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    // It is dated up to a second before the first collection that has it.
    let before = SystemTime::now() - Duration::from_secs(1);
    asked.until("it is shut off", |families| place(families, CPU, "vm-1", "").is_none());
    asked.push(&mut series);
    start(&daemon, 1);
    asked.until("it has started", |families| began(families, CPU, "vm-1", "") >= Some(before));
    let (part, _) = asked.push(&mut series);
    assert!(place(&part.families, CPU, "vm-1", "").is_some(), "that of its hypervisor is new, and sent");
    assert_eq!(place(&part.families, FAULTS, "vm-1", ""), None, "that of its guest is a baseline");
    daemon.advance(Duration::from_secs(3));
    let (part, _) = asked.push(&mut series);
    let (number, position) = place(&part.families, FAULTS, "vm-1", "").expect("a delta");
    let value = part.families.families[number].samples[position].value();
    assert_eq!(format!("{value:?}"), "Unsigned(2700)", "900 a second");
}

#[test]
fn a_device_begins_when_it_is_attached() {
    let daemon = everything();
    let asked = Asked::new(&daemon);
    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    asked.until("it is shut off", |families| place(families, CPU, "vm-1", "").is_none());
    start(&daemon, 0);
    let shown = asked.until("it has started", |families| began(families, CPU, "vm-1", "").is_some());
    let run = began(&shown, CPU, "vm-1", "");
    assert_eq!(began(&shown, READ, "vm-1", "vdb"), run);
    let before = SystemTime::now();
    daemon.events().send("vm-1", Event::DeviceAdded { dev_alias: "virtio-disk1".to_owned() }).unwrap();
    let shown = asked.until("it is attached", |families| began(families, READ, "vm-1", "vdb") >= Some(before));
    assert_eq!(began(&shown, READ, "vm-1", "vda"), run);
    assert_eq!(began(&shown, CPU, "vm-1", ""), run);
}

/// A domain whose guest has faulted and swapped that often.
fn guest(faults: u64, swapped: u64) -> Domain {
    let text = format!(
        "domain 9 34ef1407-f7cf-4b05-8a68-e54144bb6fca \"g\"\nstate.state int 1\nstate.reason int 1\n\
         balloon.swap_in ullong {swapped}\nballoon.minor_fault ullong {faults}\n"
    );
    Domain::golden(params::parse(&text).unwrap().remove(0))
}

#[test]
fn what_falls_begins_again_and_what_does_not_goes_on() {
    let daemon = FakeLibvirtd::start(Scenario::builder().domain(guest(1000, 5)).build()).expect("a fake daemon");
    let asked = Asked::new(&daemon);
    let config = config::parse("", "test").unwrap();
    let mut series = Series::new(&dialect(&config, None));
    let start_of = |part: &Part, name: &str| {
        let (number, position) = place(&part.families, name, "g", "").expect("a sample");
        (
            part.families.start_of(&part.families.families[number], position).expect("a start"),
            part.start_of(number, position),
        )
    };
    let shown = asked.scrape();
    assert_eq!((began(&shown, FAULTS, "g", ""), began(&shown, SWAP, "g", "")), (None, None));
    let (part, first) = asked.push(&mut series);
    assert_eq!(start_of(&part, FAULTS), (Start::Seen(first), Some(first)));
    daemon.domains().update("g", |domain| *domain = guest(7, 5)).unwrap();
    let shown = asked.scrape();
    let again = began(&shown, FAULTS, "g", "").expect("it was seen to begin");
    assert!(again <= SystemTime::now() && again > UNIX_EPOCH);
    assert_eq!(began(&shown, SWAP, "g", ""), None);
    let (part, at) = asked.push(&mut series);
    assert_eq!(start_of(&part, FAULTS), (Start::Known(first), Some(first)));
    // The push before did not arrive: the receiver sees this one now.
    assert_eq!(start_of(&part, SWAP), (Start::Seen(at), Some(at)));
    assert!(first < at);

    // An exporter that is started again knows nothing of that, and says so.
    let again = Asked::new(&daemon);
    assert_eq!(began(&again.scrape(), FAULTS, "g", ""), None);
    let (part, at) = again.push(&mut Series::new(&dialect(&config, None)));
    assert_eq!(start_of(&part, FAULTS), (Start::Seen(at), Some(at)), "the first point is where it begins");
}

#[test]
fn an_arrival_that_fails_is_told_from_a_crash() {
    let daemon = everything();
    let asked = Asked::new(&daemon);
    daemon.domains().change("vm-1", Change::Destroy).unwrap();
    start(&daemon, 1);
    daemon.domains().update("vm-1", |domain| domain.set_state(DomainState::Shutoff, 6)).unwrap();
    daemon.events().lifecycle("vm-1", 5, 5).unwrap();
    let has =
        |families: &Families, text: &str| String::from_utf8(Format::Text.encode(families)).unwrap().contains(text);
    let name = "libvirt_host_lifecycle_events_total";
    let failed = format!("{name}{{event=\"stopped\",detail=\"arrival_failed\"}} 1\n");
    let shown = asked.until("it has failed", |families| has(families, &failed));
    assert!(!has(&shown, &format!("{name}{{event=\"stopped\",detail=\"failed\"}}")));
    start(&daemon, 1);
    daemon.events().lifecycle("vm-1", 4, 1).unwrap();
    let shown = asked.until("it has arrived", |families| place(families, CPU, "vm-1", "").is_some());
    assert!(has(&shown, "libvirt_domain_crashes_total{domain=\"vm-1\"") && has(&shown, &failed));
    let (number, position) = place(&shown, "libvirt_domain_crashes_total", "vm-1", "").expect("a count");
    assert_eq!(format!("{:?}", shown.families[number].samples[position].value()), "Unsigned(0)");
}
