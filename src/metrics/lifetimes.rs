//! Since when each counter counts: follows it from one collection to the next.
//!
//! The start of a subject ([`Started`]) is the rule. Exceptions are found a series at a time: a counter that falls was reset
//! after the collection with the larger value, and a device may have been attached after its domain started. A start is
//! never later than its sample: if the clock is set back behind it, the start is unknown. Libvirt may report that a domain
//! started after it had statistics: its start is before the first collection that has them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;
use uuid::Uuid;

use super::family::{Families, Value};
use super::labels::{LabelSet, LabelTable};
use super::number::float;
use super::start::{Start, Started};
use super::subject::SubjectInfo;
use crate::tables::Origin;

/// How long a subject may be away.
const KEPT: Duration = Duration::from_secs(3600);
/// By how much a collection may begin later than a scraper dates its samples: Prometheus dates them before it connects, and
/// the request may wait for its turn.
const LEAD: Duration = Duration::from_secs(1);
/// How many series of a subject are remembered beyond twice those of one collection.
const SPARE: usize = 256;

/// When the values of a collection were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// From its beginning to its end: every value is from between.
    pub span: Range<Instant>,
    /// Its end as a time of day.
    pub at: SystemTime,
}

impl Taken {
    /// Its beginning as a time of day.
    fn began(&self) -> SystemTime {
        let span = self.span.end.saturating_duration_since(self.span.start);
        self.at.checked_sub(span).unwrap_or(self.at)
    }
}

/// The counters that one reader has seen.
#[derive(Debug, Default)]
pub struct Lifetimes {
    hasher: RandomState,
    subjects: HashMap<u64, History, RandomState>,
    lead: Duration,
}

impl Lifetimes {
    /// Those that are scraped: the scraper dates the samples, before the collection begins.
    #[must_use]
    pub fn of_scrapes() -> Self {
        Self { lead: LEAD, ..Self::default() }
    }

    /// Dates `families`, which are of a collection that was `taken` then.
    pub fn follow(&mut self, families: &mut Families, taken: &Taken) {
        let prints = self.prints(&families.labels);
        let print = |subject: &SubjectInfo, hasher: &RandomState| {
            hasher.hash_one((subject.kind, prints[subject.labels.index()]))
        };
        let mut walks: Vec<Option<Walk<'_>>> = Vec::new();
        for subject in families.subjects.iter_mut() {
            let print = print(subject, &self.hasher);
            walks.push(subject.started.as_mut().map(|started| {
                let old = self.subjects.remove(&print);
                // A domain that is busy while it starts may have no record in between: its incarnation goes on.
                let known = old.as_ref().map(|old| old.first);
                let known =
                    known.filter(|first| started.incarnation.is_none() || first.incarnation == started.incarnation);
                let began = taken.began();
                let dated = began.checked_sub(self.lead).unwrap_or(began);
                let first = known.unwrap_or(First { incarnation: started.incarnation, dated });
                let old = old.filter(|old| old.incarnation == started.incarnation);
                for start in [&mut started.process, &mut started.guest] {
                    *start = start.map(|at| at.min(first.dated));
                }
                for start in [&mut started.process, &mut started.guest, &mut started.exporter] {
                    *start = start.filter(|at| *at <= taken.at);
                }
                Walk::new(old, first, started.clone(), taken)
            }));
        }
        let (labels, histograms) = (&families.labels, &families.histograms);
        for family in families.families.iter_mut().filter(|family| family.is_total()) {
            let name = self.hasher.hash_one(&*family.meta.name);
            family.starts.clear();
            for (position, sample) in family.samples.iter().enumerate() {
                let Some(walk) = walks.get_mut(sample.subject().index()).and_then(Option::as_mut) else { continue };
                let total = match sample.value() {
                    Value::Histogram(number) => float(Value::Unsigned(histograms[number].count())),
                    value => float(value),
                };
                let key = name ^ prints[sample.labels().index()].rotate_left(1);
                let rule = walk.rule(family.origin, labels, sample.labels());
                if let Some(start) = walk.step(key, total, rule) {
                    family.starts.push((position, start));
                }
            }
        }
        for (subject, walk) in families.subjects.iter_mut().zip(walks) {
            let Some(history) = walk.map(Walk::end) else { continue };
            subject.started.get_or_insert_default().seen = Some(history.seen);
            self.subjects.insert(print(subject, &self.hasher), history);
        }
        self.subjects.retain(|_, subject| taken.span.end.saturating_duration_since(subject.taken.span.end) < KEPT);
    }

    /// Confirms that the reader has received what was dated last: where a start is not known, the first moment that the reader
    /// has seen stays the start. For pushes, whose receiver may not have accepted the last one. Scrapes show known starts only,
    /// so they have nothing to confirm.
    pub fn settle(&mut self) {
        for subject in self.subjects.values_mut() {
            subject.settled = true;
            subject.exceptions.values_mut().for_each(|exception| exception.settled = true);
        }
    }

    /// A number for the text of each label set, which is the same in all collections.
    fn prints(&self, labels: &LabelTable) -> Vec<u64> {
        let of = |set: LabelSet| {
            let mut hasher = self.hasher.build_hasher();
            labels.get(set).for_each(|label| label.hash(&mut hasher));
            hasher.finish()
        };
        labels.sets().map(of).collect()
    }
}

/// A subject as of the last collection that had it.
#[derive(Debug)]
struct History {
    incarnation: Option<(Uuid, u32)>,
    first: First,
    taken: Taken,
    /// When the reader saw it first.
    seen: SystemTime,
    settled: bool,
    /// Each series by a number for its name and labels, and its value, in the order of the samples.
    totals: Vec<(u64, f64)>,
    /// Most series of one collection.
    most: usize,
    exceptions: HashMap<u64, Exception, RandomState>,
}

/// The first collection that had an incarnation.
#[derive(Debug, Clone, Copy)]
struct First {
    incarnation: Option<(Uuid, u32)>,
    /// No reader dates its samples earlier.
    dated: SystemTime,
}

/// When a series began that did not begin with its subject.
#[derive(Debug, Clone, Copy)]
struct Exception {
    start: Start,
    settled: bool,
}

impl Exception {
    fn new(start: Start) -> Self {
        Self { start, settled: false }
    }

    /// The exception at a later moment, for a reader that has not received it before, or after the clock was set back.
    fn dated(self, at: SystemTime) -> Self {
        match self.start {
            Start::Seen(seen) if self.settled && seen <= at => self,
            Start::Known(start) if start <= at => self,
            _ => Self::new(Start::Seen(at)),
        }
    }
}

/// When a counter began, as long as nothing has happened to it alone; `None` if that is not known.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// With its subject, which tells.
    OfSubject(Option<SystemTime>),
    /// With its device, at another time than the subject: the sample has to tell.
    OfDevice(Option<SystemTime>),
}

/// One subject on its way through the families.
struct Walk<'t> {
    started: Started,
    taken: &'t Taken,
    /// The last collection that had it in this incarnation, if any.
    last: Option<Taken>,
    /// Its series, how far they have been matched in order, how many were, and where each is once the order has changed.
    old: Vec<(u64, f64)>,
    next: usize,
    matched: usize,
    places: Option<HashMap<u64, usize, RandomState>>,
    now: History,
}

impl<'t> Walk<'t> {
    fn new(old: Option<History>, first: First, started: Started, taken: &'t Taken) -> Self {
        let mut walk = Self {
            now: History {
                incarnation: started.incarnation,
                first,
                taken: taken.clone(),
                seen: taken.at,
                settled: false,
                totals: Vec::new(),
                most: 0,
                exceptions: HashMap::default(),
            },
            started,
            taken,
            last: None,
            old: Vec::new(),
            next: 0,
            matched: 0,
            places: None,
        };
        if let Some(old) = old {
            if old.settled && old.seen <= taken.at {
                (walk.now.seen, walk.now.settled) = (old.seen, true);
            }
            walk.now.most = old.most;
            walk.now.exceptions = old.exceptions;
            walk.now.exceptions.values_mut().for_each(|exception| *exception = exception.dated(taken.at));
            walk.now.totals.reserve(old.totals.len());
            (walk.last, walk.old) = (Some(old.taken), old.totals);
        }
        walk
    }

    /// The rule for a sample. A device that was attached during the collection may not be in it yet.
    fn rule(&self, origin: Origin, labels: &LabelTable, set: LabelSet) -> Rule {
        let devices = if origin == Origin::Device { self.started.devices.as_slice() } else { &[] };
        let is_it =
            |(label, value): (&str, &str)| devices.iter().find(|device| device.label == label && device.name == value);
        let device = if devices.is_empty() { None } else { labels.get(set).find_map(is_it) };
        match device.map(|device| device.at) {
            Some(at) if at.is_none_or(|at| at <= self.taken.began()) => Rule::OfDevice(at),
            _ => Rule::OfSubject(self.started.of(origin)),
        }
    }

    /// The next series; its start, if that is an exception.
    fn step(&mut self, key: u64, total: f64, rule: Rule) -> Option<Start> {
        let (Rule::OfSubject(began) | Rule::OfDevice(began)) = rule;
        let before = self.take_old(key);
        let mut told = total;
        match (&self.last, before) {
            (Some(last), Some(before)) if total < before => {
                if last.span.end <= self.taken.span.start {
                    let fallen = Exception::new(Start::Known(last.at)).dated(self.taken.at);
                    self.now.exceptions.insert(key, fallen);
                } else {
                    // The collections overlapped, and this value may be the older one.
                    told = before;
                }
            }
            (Some(_), None) if began.is_none() => {
                self.now.exceptions.insert(key, Exception::new(Start::Seen(self.taken.at)));
            }
            _ => {}
        }
        self.now.totals.push((key, told));
        let exception = self.now.exceptions.get(&key).map(|exception| exception.start);
        match (rule, began, exception) {
            (_, Some(began), Some(Start::Known(start))) => Some(Start::Known(start.max(began))),
            (_, None, Some(start)) => Some(start),
            (Rule::OfDevice(_), _, _) => Some(began.map_or(Start::Seen(self.now.seen), Start::Known)),
            (Rule::OfSubject(_), _, _) => None,
        }
    }

    /// The last value of a series. The order of the samples seldom changes.
    fn take_old(&mut self, key: u64) -> Option<f64> {
        let mut place = self.next;
        if self.old.get(place).is_none_or(|(of, _)| *of != key) {
            let numbered = || self.old.iter().enumerate().map(|(place, (key, _))| (*key, place)).collect();
            place = *self.places.get_or_insert_with(numbered).get(&key)?;
        }
        self.next = place + 1;
        self.matched += 1;
        self.old.get(place).map(|(_, value)| *value)
    }

    /// What is to be remembered: also the series that are missing this time.
    fn end(self) -> History {
        let Self { mut now, old, last, matched, taken, .. } = self;
        now.most = now.most.max(now.totals.len());
        if matched < old.len() {
            let here: HashSet<u64, RandomState> = now.totals.iter().map(|(key, _)| *key).collect();
            now.totals.extend(old.into_iter().filter(|(key, _)| !here.contains(key)));
            if now.totals.len() > 2 * now.most + SPARE {
                now.totals.truncate(2 * now.most + SPARE);
                let kept: HashSet<u64, RandomState> = now.totals.iter().map(|(key, _)| *key).collect();
                now.exceptions.retain(|key, _| kept.contains(key));
            }
        }
        if let Some(last) = last.filter(|last| last.span.end > taken.span.end) {
            now.taken = last;
        }
        now
    }
}

#[cfg(test)]
mod tests;
