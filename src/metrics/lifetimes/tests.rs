use std::borrow::Cow;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::*;
use crate::metrics::{DeviceStart, Family, Kind, Meta, Sample, Subject, Unit};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A domain with counters of each origin, followed from one collection to the next.
struct Followed {
    lifetimes: Lifetimes,
    zero: Instant,
    started: Started,
}

impl Followed {
    fn new(process: Option<u64>, guest: Option<u64>) -> Self {
        let incarnation = Some((Uuid::nil(), 1));
        let started = Started { incarnation, process: process.map(at), guest: guest.map(at), ..Started::default() };
        Self { lifetimes: Lifetimes::of_scrapes(), zero: Instant::now(), started }
    }

    /// The starts of `counters` (origin, device and value), in a collection that took from the second `span.start` to
    /// `span.end`, when the clock showed `clock`.
    fn starts(&mut self, span: Range<u64>, clock: u64, counters: &[(Origin, &str, u64)]) -> Vec<Option<Start>> {
        let mut families = Families::default();
        // The numbers of label sets differ from one collection to the next.
        for _ in 0..span.end % 3 {
            families.labels.push([("unused", "x")]);
        }
        let subject = families.push_subject(Subject::Domain, [("domain", "a")]);
        families.subjects.get_mut(subject).started = Some(self.started.clone());
        for (origin, device, value) in counters {
            let name = format!("{origin:?}");
            let labels = families.labels.push([("device", *device)]);
            let sample = Sample::new(subject, labels, Value::Unsigned(*value));
            if let Some(family) = families.families.iter_mut().find(|family| family.meta.name == name) {
                family.samples.push(sample);
                continue;
            }
            let meta = Meta {
                name: name.into(),
                help: Cow::Borrowed("Help"),
                kind: Kind::Counter,
                unit: Unit::None,
                otel_name: Cow::Borrowed("x"),
                otel_attributes: &[],
            };
            families.families.push(Family::new(Arc::new(meta), *origin, vec![sample]));
        }
        let [start, end] = [span.start, span.end].map(|second| self.zero + Duration::from_secs(second));
        self.lifetimes.follow(&mut families, &Taken { span: start..end, at: at(clock) });
        let of = |(origin, device, _): &(Origin, &str, u64)| {
            let name = format!("{origin:?}");
            let family = families.families.iter().find(|family| family.meta.name == name)?;
            let is_it = |sample: &Sample| families.labels.get(sample.labels()).any(|(_, value)| value == *device);
            families.start_of(family, family.samples.iter().position(is_it)?)
        };
        counters.iter().map(of).collect()
    }

    /// A collection of one second.
    fn at(&mut self, second: u64, counters: &[(Origin, &str, u64)]) -> Vec<Option<Start>> {
        self.starts(second - 1..second, second, counters)
    }
}

fn known(second: u64) -> Option<Start> {
    Some(Start::Known(at(second)))
}

fn seen(second: u64) -> Option<Start> {
    Some(Start::Seen(at(second)))
}

#[test]
fn each_owner_of_counters_has_its_own_start() {
    let all = [Origin::Process, Origin::Guest, Origin::Device, Origin::Exporter].map(|origin| (origin, "x", 1));
    let mut followed = Followed::new(Some(5), None);
    followed.started.exporter = Some(at(3));
    assert_eq!(followed.at(10, &all), [known(5), seen(10), known(5), known(3)]);
    followed.lifetimes.settle();
    assert_eq!(followed.at(20, &all), [known(5), seen(10), known(5), known(3)]);
    // Another incarnation, of a guest that booted in it.
    followed.started = Started {
        incarnation: Some((Uuid::nil(), 2)),
        process: Some(at(25)),
        guest: Some(at(25)),
        ..Started::default()
    };
    assert_eq!(followed.at(30, &all), [known(25), known(25), known(25), seen(30)]);
}

#[test]
fn a_value_that_falls_begins_again_and_others_do_not() {
    let counters = |fault, swap| [(Origin::Guest, "fault", fault), (Origin::Guest, "swap", swap)];
    let mut followed = Followed::new(None, None);
    assert_eq!(followed.at(10, &counters(1000, 7)), [seen(10), seen(10)]);
    followed.lifetimes.settle();
    followed.at(20, &counters(2000, 7));
    assert_eq!(followed.at(30, &counters(12, 7)), [known(20), seen(10)]);
    assert_eq!(followed.at(40, &counters(5000, 7)), [known(20), seen(10)], "it stays so");
    // Away while the domain is busy, and less when it is back.
    assert_eq!(followed.at(50, &counters(5000, 7)[1..]), [seen(10)]);
    assert_eq!(followed.at(60, &counters(4, 7)), [known(50), seen(10)]);
}

#[test]
fn a_value_of_an_overlapping_collection_is_no_fall() {
    let counter = |value| [(Origin::Device, "vda", value)];
    let mut followed = Followed::new(Some(1), None);
    assert_eq!(followed.starts(10..14, 14, &counter(100)), [known(1)]);
    assert_eq!(followed.starts(13..15, 15, &counter(99)), [known(1)]);
    assert_eq!(followed.starts(15..16, 16, &counter(100)), [known(1)]);
    assert_eq!(followed.starts(17..18, 18, &counter(99)), [known(16)]);
}

#[test]
fn a_device_starts_when_it_is_attached() {
    let counters = |vdb| [(Origin::Device, "vda", 9), (Origin::Device, "vdb", vdb)];
    let mut followed = Followed::new(Some(1), None);
    assert_eq!(followed.at(10, &counters(100)), [known(1), known(1)]);
    let attached = |at| DeviceStart { label: "device", name: "vdb".to_owned(), at };
    followed.started.devices = vec![attached(Some(at(15)))];
    assert_eq!(followed.at(20, &counters(200)), [known(1), known(15)], "more than it had before");
    // Attached while the collection lasted: the value may be that of the device before.
    followed.started.devices = vec![attached(Some(at(29)))];
    assert_eq!(followed.starts(28..30, 30, &counters(300))[1], known(1));
    assert_eq!(followed.at(40, &counters(400))[1], known(29));
    assert_eq!(followed.at(50, &counters(5))[1], known(40));
    // The host's own counts on, whatever the domain does.
    followed.started.devices = vec![attached(None)];
    let mut of_host = Followed { lifetimes: Lifetimes::default(), ..followed };
    assert_eq!(of_host.at(60, &counters(5)), [known(1), seen(60)]);
}

#[test]
fn what_comes_late_is_first_seen_then() {
    let mut followed = Followed::new(None, None);
    followed.at(10, &[(Origin::Device, "vda", 5)]);
    followed.lifetimes.settle();
    let late = [(Origin::Device, "vda", 6), (Origin::Guest, "late", 1_000_000)];
    // Until the reader has got it, it has not seen it.
    assert_eq!(followed.at(20, &late), [seen(10), seen(20)]);
    assert_eq!(followed.at(30, &late), [seen(10), seen(30)]);
    followed.lifetimes.settle();
    assert_eq!(followed.at(40, &late), [seen(10), seen(30)]);
}

#[test]
fn no_start_is_later_than_its_sample() {
    let counters = |value| [(Origin::Process, "x", value), (Origin::Device, "vda", value)];
    let mut followed = Followed::new(Some(1000), None);
    assert_eq!(followed.starts(9..10, 1010, &counters(5)), [known(1000), known(1000)]);
    assert_eq!(followed.starts(19..20, 1020, &counters(3)), [known(1010), known(1010)]);
    followed.lifetimes.settle();
    // The clock is set back.
    assert_eq!(followed.starts(29..30, 30, &counters(4)), [seen(30), seen(30)]);
    followed.lifetimes.settle();
    assert_eq!(followed.starts(39..40, 40, &counters(5)), [seen(30), seen(30)]);
    assert_eq!(followed.starts(49..50, 50, &counters(1)), [known(40), known(40)]);
}

#[test]
fn a_domain_counts_before_libvirt_says_that_it_has_started() {
    let cpu = |value| [(Origin::Process, "x", value)];
    let life = |number, process: Option<u64>| Started {
        incarnation: Some((Uuid::nil(), number)),
        process: process.map(at),
        ..Started::default()
    };
    let mut followed = Followed::new(Some(1), None);
    assert_eq!(followed.at(10, &cpu(100)), [known(1)]);
    followed.started = life(2, None);
    assert_eq!(followed.at(20, &cpu(3)), [seen(20)]);
    // It had been seen by the time at which it is said to have started. Prometheus dates the first sample before the
    // collection begins.
    followed.started = life(2, Some(21));
    assert_eq!(followed.at(30, &cpu(4)), [known(18)]);
    assert_eq!(followed.at(40, &cpu(5)), [known(18)], "it stays so");
    // It started while the collection lasted, or while its request waited.
    followed.started = life(3, Some(49));
    assert_eq!(followed.starts(48..50, 50, &cpu(1)), [known(47)]);
    followed.started = life(4, Some(58));
    assert_eq!(followed.starts(58..60, 60, &cpu(1)), [known(57)]);
    assert_eq!(followed.at(70, &cpu(2)), [known(57)]);
    let mut pushed = Followed { lifetimes: Lifetimes::default(), ..followed };
    assert_eq!(pushed.starts(58..60, 60, &cpu(1)), [known(58)], "a push dates its points itself");
}

#[test]
fn a_collection_without_a_record_does_not_end_a_run() {
    let cpu = |value| [(Origin::Process, "x", value)];
    let mut followed = Followed::new(Some(1), None);
    assert_eq!(followed.at(10, &cpu(100)), [known(1)]);
    followed.started = Started { incarnation: Some((Uuid::nil(), 2)), ..Started::default() };
    assert_eq!(followed.at(20, &cpu(3)), [seen(20)]);
    followed.started = Started::default();
    assert_eq!(followed.at(30, &[]), []);
    // It is said to have started between the two collections: before the first of them all the same.
    followed.started = Started { incarnation: Some((Uuid::nil(), 2)), process: Some(at(25)), ..Started::default() };
    assert_eq!(followed.at(40, &cpu(9)), [known(18)]);
}

#[test]
fn what_is_remembered_of_a_subject_is_bounded() {
    let mut followed = Followed::new(Some(1), None);
    for second in 2..2000 {
        let device = format!("vnet{second}");
        followed.at(second, &[(Origin::Device, "vda", second), (Origin::Device, &device, 1)]);
    }
    let subject = followed.lifetimes.subjects.values().next().expect("the domain");
    assert_eq!((subject.most, subject.totals.len()), (2, 2 * 2 + SPARE));
    // The one that is there counts on.
    assert_eq!(followed.at(2000, &[(Origin::Device, "vda", 1)]), [known(1999)]);
    followed.starts(9000..9001, 9001, &[]);
    assert_eq!(followed.lifetimes.subjects.len(), 1, "the domain without samples");
    let mut nothing = Families::default();
    let end = followed.zero + Duration::from_secs(20_000);
    followed.lifetimes.follow(&mut nothing, &Taken { span: end..end, at: at(20_000) });
    assert!(followed.lifetimes.subjects.is_empty());
}
