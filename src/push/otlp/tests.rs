//! Start times, deltas and ends of series over several pushes.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::*;
use crate::config::{Naming, Temporality};
use crate::encode::otlp::{Chunks, Dialect, Part};
use crate::metrics::{
    Families, Family, Histogram, Kind, LabelSet, Meta, Origin, Sample, Started, Subject, SubjectId, Taken, Unit, Value,
};
use crate::push::Series as _;

/// A domain at one moment.
#[derive(Clone, Copy)]
struct Domain {
    name: &'static str,
    running: bool,
    /// Its counter.
    count: u64,
    /// When it is known to have started, in seconds.
    started: Option<u64>,
}

const fn running(name: &'static str, count: u64) -> Domain {
    Domain { name, running: true, count, started: None }
}

/// When the clock that is never set showed 0.
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn family(name: &'static str, kind: Kind, samples: Vec<Sample>) -> Family {
    let (name, otel_name) = (Cow::Borrowed(name), Cow::Borrowed(name));
    let meta = Meta { name, help: "Help".into(), kind, unit: Unit::None, otel_name, otel_attributes: &[] };
    Family::new(Arc::new(meta), Origin::Process, samples)
}

fn dialect(temporality: Temporality) -> Dialect {
    Dialect { naming: Naming::Otel, temporality, resource: Vec::new(), domain_resource: false }
}

/// Each domain has a counter, a histogram of as many observations and whether it runs; the exporter has a counter too.
fn batch(seconds: u64, domains: &[Domain]) -> Batch {
    let mut families = Families::default();
    // Numbers of label sets differ from one collection to the next.
    for _ in 0..seconds % 3 {
        families.labels.push([("unused", "x")]);
    }
    let (mut complete, mut counts, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for domain in domains {
        let subject = families.push_subject(Subject::Domain, [("domain", domain.name)]);
        let labels = families.labels.push([("device", "vda")]);
        let sample = |labels, value| Sample::new(subject, labels, value);
        if domain.running {
            complete.push(sample(LabelSet::EMPTY, Value::Unsigned(1)));
        }
        counts.push(sample(labels, Value::Unsigned(domain.count)));
        let histogram =
            Histogram { buckets: vec![(1.0, domain.count / 2), (f64::INFINITY, domain.count)], sum: Some(1.0) };
        times.push(sample(labels, Value::Histogram(families.histograms.len())));
        families.histograms.push(histogram);
        let id = if domain.running { 1 + domain.started.unwrap_or(0) } else { 0 };
        let started = Started {
            incarnation: u32::try_from(id).ok().filter(|id| *id > 0).map(|id| (uuid::Uuid::nil(), id)),
            process: domain.started.map(at),
            exporter: Some(at(2)),
            ..Started::default()
        };
        families.subjects.get_mut(subject).started = Some(started);
    }
    let own = Sample::new(SubjectId::EXPORTER, LabelSet::EMPTY, Value::Unsigned(seconds));
    let all = [
        family("complete", Kind::Gauge, complete),
        family("own", Kind::Counter, vec![own]),
        family("count", Kind::Counter, counts),
        family("time", Kind::Histogram, times),
    ];
    families.families.extend(all.into_iter().filter(|family| !family.samples.is_empty()));
    if let Some(family) = families.families.iter_mut().find(|family| family.meta.name == "own") {
        family.origin = Origin::Exporter;
    }
    let own = Started { exporter: Some(at(1)), ..Started::default() };
    families.subjects.get_mut(SubjectId::EXPORTER).started = Some(own);
    let end = *ZERO + Duration::from_secs(seconds);
    Batch { families: Arc::new(families), taken: Taken { span: end..end, at: at(seconds) } }
}

#[test]
fn a_counter_of_events_starts_when_its_domain_was_first_seen() {
    let of_incarnation = batch(10, &[Domain { started: Some(7), ..running("a", 1) }]);
    let mut families = Families::clone(&of_incarnation.families);
    let counter = families.families.iter_mut().find(|family| family.meta.name == "count").expect("a counter");
    counter.origin = Origin::Exporter;
    let of_events = Batch { families: Arc::new(families), ..batch(10, &[]) };
    let start = |mut batch: Batch| {
        let parts = Series::new(&dialect(Temporality::Cumulative)).parts(&mut batch);
        of(&parts, "count", "a").expect("a sample").1
    };
    assert_eq!((start(of_incarnation), start(of_events)), (7, 2));
}

/// Name and domain of a series.
type Named = (String, Option<String>);

/// The samples of a part: value and start in seconds.
fn samples(part: &Part) -> Vec<(Named, Value, u64)> {
    let families = &part.families;
    let mut found = Vec::new();
    for (number, family) in families.families.iter().enumerate() {
        for (position, sample) in family.samples.iter().enumerate() {
            let start = part.start_of(number, position).expect("a start");
            let start = start.duration_since(UNIX_EPOCH).expect("later").as_secs();
            let domain = families
                .labels
                .get(families.subjects.get(sample.subject()).labels)
                .next()
                .map(|label| label.1.to_owned());
            found.push(((family.meta.name.to_string(), domain), sample.value(), start));
        }
    }
    found
}

/// Value and start of a domain's series, or of the exporter's own.
fn of(parts: &[Part], name: &str, domain: &str) -> Option<(Value, u64)> {
    let named = (name.to_owned(), Some(domain.to_owned()).filter(|domain| !domain.is_empty()));
    samples(&parts[0]).into_iter().find(|sample| sample.0 == named).map(|(_, value, start)| (value, start))
}

/// Tells `series` that all of `batch` arrived.
fn arrive(series: &mut Series, temporality: Temporality, batch: &Batch, parts: Vec<Part>) {
    let mut chunks = Chunks::new(dialect(temporality), parts);
    while let Some(chunk) = chunks.next_chunk() {
        series.accepted(&chunk);
    }
    series.ended(batch, true);
}

/// Pushes `batch`, and all of it arrives.
fn push(series: &mut Series, mut batch: Batch) -> Vec<Part> {
    let parts = series.parts(&mut batch);
    arrive(series, Temporality::Cumulative, &batch, parts.clone());
    parts
}

#[test]
fn a_counter_starts_when_its_domain_did_or_the_receiver_first_saw_it() {
    let mut series = Series::new(&dialect(Temporality::Cumulative));
    let start = |series: &mut Series, batch: Batch| of(&push(series, batch), "count", "a").expect("a sample").1;
    // A push that did not arrive was not seen.
    series.parts(&mut batch(5, &[running("a", 1)]));
    assert_eq!(start(&mut series, batch(10, &[running("a", 1)])), 10);
    let parts = push(&mut series, batch(20, &[running("a", 1), running("b", 1)]));
    assert_eq!(
        (of(&parts, "count", "a"), of(&parts, "count", "b")),
        (Some((Value::Unsigned(1), 10)), Some((Value::Unsigned(1), 20)))
    );
    assert_eq!(of(&parts, "own", ""), Some((Value::Unsigned(20), 1)));
    // libvirt away, or the domain without a record: nothing is known to have ended.
    push(&mut series, batch(30, &[]));
    assert_eq!(start(&mut series, batch(40, &[running("a", 1)])), 10);
    // Shut off, and started again.
    push(&mut series, batch(50, &[Domain { running: false, ..running("a", 1) }]));
    assert_eq!(start(&mut series, batch(60, &[running("a", 1)])), 60);
    // A known start comes first; then there is a reset.
    assert_eq!(start(&mut series, batch(70, &[Domain { started: Some(55), ..running("a", 2) }])), 55);
    assert_eq!(start(&mut series, batch(80, &[Domain { started: Some(55), ..running("a", 1) }])), 70);
}

#[test]
fn ends_are_sent_until_they_are_accepted() {
    let cumulative = Temporality::Cumulative;
    let mut series = Series::new(&dialect(cumulative));
    let mut both = batch(10, &[running("a", 1), running("b", 1)]);
    let parts = series.parts(&mut both);
    assert_eq!(parts.len(), 1);
    arrive(&mut series, cumulative, &both, parts);
    let mut one = batch(20, &[running("b", 1)]);
    let ended = |parts: &[Part]| samples(&parts[1]).into_iter().map(|sample| sample.0).collect::<Vec<_>>();
    let of_a = ["complete", "count", "time"].map(|name| (name.to_owned(), Some("a".to_owned())));
    // A push that did not arrive has told nothing.
    assert_eq!(ended(&series.parts(&mut one)), of_a);
    let parts = series.parts(&mut one);
    assert!(ended(&parts) == of_a && parts[1].ended);
    // All buckets that it had are told to have ended.
    let of_ended = &parts[1].families;
    let numbers =
        of_ended.families.iter().flat_map(|family| &family.samples).filter_map(|sample| match sample.value() {
            Value::Histogram(number) => Some(number),
            _ => None,
        });
    assert_eq!(numbers.map(|number| of_ended.histograms[number].buckets.len()).collect::<Vec<_>>(), [2]);
    arrive(&mut series, cumulative, &one, parts);
    assert_eq!(series.parts(&mut batch(30, &[running("b", 2)])).len(), 1);
    // Without any domain there is no family of theirs either.
    assert_eq!(ended(&series.parts(&mut batch(30, &[]))).len(), 3);
}

/// Series in the accepted part of a push are ended, too, even if no push is ever accepted as a whole.
#[test]
fn series_of_a_half_accepted_push_end_as_well() {
    let mut series = Series::new(&dialect(Temporality::Cumulative));
    let domains = |parts: &[Part]| {
        let of_ends = parts[1..].iter().flat_map(samples).filter_map(|sample| sample.0.1);
        of_ends.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let mut half = |seconds, names: &[&'static str]| {
        let domains_of: Vec<Domain> = names.iter().map(|name| running(name, 1)).collect();
        let mut batch = batch(seconds, &domains_of);
        let parts = series.parts(&mut batch);
        let ends = domains(&parts);
        let mut chunks = Chunks::new(dialect(Temporality::Cumulative), parts);
        series.accepted(&chunks.next_chunk().expect("a chunk"));
        series.ended(&batch, false);
        ends
    };
    assert!(half(10, &["a", "b"]).is_empty());
    assert_eq!(half(20, &["b", "c"]), ["a"]);
    assert_eq!(half(30, &["c"]), ["a", "b"]);
    assert_eq!(half(40, &["a"]), ["b", "c"], "it is back");
    for seconds in 50..80 {
        half(seconds, &["a"]);
    }
    assert_eq!(half(90, &[]), ["a", "b", "c"]);
}

#[test]
fn a_delta_is_what_no_push_has_delivered() {
    let delta = Temporality::Delta;
    let mut series = Series::new(&dialect(delta));
    let mut first = batch(10, &[running("a", 100)]);
    let parts = series.parts(&mut first);
    // A total is no delta.
    assert_eq!((of(&parts, "count", "a"), of(&parts, "own", "")), (None, None));
    arrive(&mut series, delta, &first, parts);
    let mut second =
        batch(20, &[running("a", 107), Domain { started: Some(15), ..running("new", 3) }, running("old", 9)]);
    // This one is dropped.
    series.parts(&mut second);
    let mut third =
        batch(30, &[running("a", 110), Domain { started: Some(15), ..running("new", 4) }, running("old", 9)]);
    let parts = series.parts(&mut third);
    assert_eq!(of(&parts, "count", "a"), Some((Value::Unsigned(10), 10)));
    assert_eq!(of(&parts, "own", ""), Some((Value::Unsigned(20), 10)));
    assert_eq!(
        of(&parts, "count", "old"),
        Some((Value::Unsigned(0), 20)),
        "seen in the dropped push, which told nothing"
    );
    let Some((Value::Histogram(number), 10)) = of(&parts, "time", "a") else { panic!("a histogram") };
    let histogram = &parts[0].families.histograms[number];
    assert_eq!((&*histogram.buckets, histogram.sum), (&[(1.0, 5), (f64::INFINITY, 10)][..], Some(0.0)));
    arrive(&mut series, delta, &third, parts);
    // Away for a push, then reset.
    let mut fourth = batch(40, &[]);
    let parts = series.parts(&mut fourth);
    arrive(&mut series, delta, &fourth, parts);
    let parts = series.parts(&mut batch(50, &[running("a", 112), Domain { started: Some(45), ..running("old", 2) }]));
    assert_eq!(of(&parts, "count", "a"), Some((Value::Unsigned(2), 30)));
    assert_eq!(of(&parts, "count", "old"), Some((Value::Unsigned(2), 45)));
}

#[test]
fn a_counter_reset_after_the_last_push_is_sent_whole_even_if_larger() {
    let delta = Temporality::Delta;
    let mut series = Series::new(&dialect(delta));
    let mut first = batch(10, &[running("a", 100)]);
    let parts = series.parts(&mut first);
    arrive(&mut series, delta, &first, parts);
    let parts = series.parts(&mut batch(20, &[Domain { started: Some(15), ..running("a", 107) }]));
    assert_eq!(of(&parts, "count", "a"), Some((Value::Unsigned(107), 15)));
    let parts = series.parts(&mut batch(20, &[Domain { started: Some(5), ..running("a", 107) }]));
    assert_eq!(of(&parts, "count", "a"), Some((Value::Unsigned(7), 10)));
}

#[test]
fn counters_of_a_new_domain_are_sent_whole() {
    let delta = Temporality::Delta;
    let mut series = Series::new(&dialect(delta));
    let mut first = batch(10, &[]);
    let parts = series.parts(&mut first);
    arrive(&mut series, delta, &first, parts);
    let parts = series.parts(&mut batch(20, &[Domain { started: Some(15), ..running("new", 3) }, running("old", 9)]));
    assert_eq!(of(&parts, "count", "new"), Some((Value::Unsigned(3), 15)));
    assert_eq!(of(&parts, "count", "old"), None);
    // It was not accepted, and nothing of it is lost.
    let parts = series.parts(&mut batch(30, &[Domain { started: Some(15), ..running("new", 5) }, running("old", 9)]));
    assert_eq!(of(&parts, "count", "new"), Some((Value::Unsigned(5), 15)));
}

#[test]
fn an_outage_of_hours_loses_no_delta() {
    let delta = Temporality::Delta;
    let mut series = Series::new(&dialect(delta));
    let mut first = batch(10, &[running("a", 100)]);
    let parts = series.parts(&mut first);
    arrive(&mut series, delta, &first, parts);
    for minutes in 1..200 {
        series.parts(&mut batch(minutes * 60, &[running("a", 100 + minutes)]));
    }
    let parts = series.parts(&mut batch(12_000, &[running("a", 300)]));
    assert_eq!(of(&parts, "count", "a"), Some((Value::Unsigned(200), 10)));
    // A series that is away for as long is forgotten, and is no delta when it comes back.
    let parts = series.parts(&mut batch(12_000 + 3600, &[]));
    assert_eq!(of(&parts, "count", "a"), None);
    let parts = series.parts(&mut batch(12_000 + 3660, &[running("a", 400)]));
    assert_eq!(of(&parts, "count", "a"), None);
}

/// A batch whose counter was read at another moment than the rest.
fn read_at(read: u64, seconds: u64, domain: Domain) -> Batch {
    let mut batch = batch(seconds, &[domain]);
    let families = Arc::make_mut(&mut batch.families);
    let counter = families.families.iter_mut().find(|family| family.meta.name == "count").expect("a counter");
    counter.read = Some(Arc::new(vec![(counter.samples[0].subject(), at(read))]));
    batch
}

/// A group with an interval says the same several times: that is growth over the time between two readings, and none in between.
#[test]
fn the_growth_of_what_is_read_seldom_is_that_from_reading_to_reading() {
    let (mut series, temporality) = (Series::new(&dialect(Temporality::Delta)), Temporality::Delta);
    let mut push = |read: u64, seconds: u64, count: u64| {
        let mut batch = read_at(read, seconds, running("a", count));
        let parts = series.parts(&mut batch);
        let found = of(&parts, "count", "a");
        let times: Vec<_> = parts[0].families.families.iter().map(|family| family.read.clone()).collect();
        arrive(&mut series, temporality, &batch, parts);
        (found, times.into_iter().flatten().next().map(|read| read[0].1))
    };
    assert_eq!(push(10, 10, 100).0, None, "no growth is known");
    assert_eq!(push(10, 25, 100).0, None, "as before");
    assert_eq!(push(40, 40, 160), (Some((Value::Unsigned(60), 10)), Some(at(40))));
    assert_eq!(push(40, 55, 160).0, None, "as before");
    assert_eq!(push(70, 70, 160), (Some((Value::Unsigned(0), 40)), Some(at(70))));
}
