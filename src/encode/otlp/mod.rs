//! OTLP: families as `ExportMetricsServiceRequest` messages, in chunks that a receiver takes.
//!
//! A counter is a monotonic Sum, a histogram a Histogram with explicit bounds. A gauge of bytes or of things that can be
//! counted is a Sum that goes up and down: such amounts add up over devices and domains. Every other gauge (a time, a rate,
//! a code, a flag), an info and a statistic of unknown meaning is a Gauge.
//!
//! `attributes` says what labels are called here and encodes each label set once, `point` writes one
//! data point and this file puts points into metrics and metrics into chunks. What the points say is decided elsewhere
//! ([`Part`]).

mod attributes;
mod json;
mod point;
mod steps;
mod translation;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_semantic_conventions::SCHEMA_URL;
use opentelemetry_semantic_conventions::attribute::SERVICE_INSTANCE_ID;

use super::wire;
use crate::config::{Naming, Temporality};
use crate::metrics::{Families, Kind, Meta, Start, SubjectId, Unit};
use attributes::Blocks;
pub use attributes::{Attribute, attribute_of, attributes_of};
pub use json::to_json;
use point::{PointWriter, Times};
use steps::{Step, steps};
pub use translation::prometheus_name;

/// Receivers take 4 MiB by default, of which this leaves some for the metric that is being written.
const CHUNK_BYTES: usize = 3_500_000;
/// More than name, description and unit of a metric take.
const HEAD_BYTES: usize = 16 << 10;
const SCOPE: &str = env!("CARGO_PKG_NAME");

/// How a push is written.
#[derive(Debug, Clone)]
pub struct Dialect {
    /// Whose names.
    pub naming: Naming,
    /// Since when counters count.
    pub temporality: Temporality,
    /// Name and value of what produces the metrics, in order.
    pub resource: Vec<(String, String)>,
    /// Whether each domain is a separate resource.
    pub domain_resource: bool,
}

impl Dialect {
    /// Whether what was sent in `other` says nothing about the series of this one.
    #[must_use]
    pub fn names_other_series_than(&self, other: &Self) -> bool {
        let of = |dialect: &Self| (dialect.naming, dialect.temporality, dialect.domain_resource);
        of(self) != of(other)
    }
}

/// Families to be pushed, and since when they count.
#[derive(Debug, Clone)]
pub struct Part {
    /// The families.
    pub families: Arc<Families>,
    /// Since when their sums count.
    pub starts: Starts,
    /// When they were collected.
    pub at: SystemTime,
    /// Whether these series have ended: then their points have no value.
    pub ended: bool,
}

impl Part {
    /// Since when a sample counts, if it is one that counts: never later than it was taken.
    #[must_use]
    pub fn start_of(&self, family: usize, position: usize) -> Option<SystemTime> {
        let start = match &self.starts {
            Starts::OfFamilies => self.families.start_of(self.families.families.get(family)?, position).map(Start::at),
            Starts::Sample(starts) => Some(*starts.get(family)?.get(position)?),
        };
        Some(start.unwrap_or(self.at).min(self.at))
    }
}

/// Since when sums and histograms count.
#[derive(Debug, Clone)]
pub enum Starts {
    /// As [`Families::start_of`] has it; what that knows nothing of, since the moment of the part.
    OfFamilies,
    /// By family and sample.
    Sample(Vec<Vec<SystemTime>>),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// An encoded `ExportMetricsServiceRequest`.
    pub body: Vec<u8>,
    /// How many data points it has.
    pub points: usize,
    /// Which samples they are: part, family and range.
    pub covers: Vec<(usize, usize, Range<usize>)>,
}

/// The requests that carry some parts, made one at a time so that no more than one is in memory.
#[derive(Debug)]
pub struct Chunks {
    dialect: Dialect,
    parts: Vec<Part>,
    limit: usize,
    steps: Vec<Step>,
    /// Where the next chunk starts: a place in `steps`, and a sample of the family there.
    next: (usize, usize),
    blocks: Option<(usize, Blocks)>,
}

impl Chunks {
    /// Chunks of at most 3.5 MB.
    #[must_use]
    pub fn new(dialect: Dialect, parts: Vec<Part>) -> Self {
        Self::with_limit(dialect, parts, CHUNK_BYTES)
    }

    fn with_limit(dialect: Dialect, parts: Vec<Part>, limit: usize) -> Self {
        let steps = steps(&dialect, &parts);
        let next = (0, steps.first().map_or(0, |step| step.samples.start));
        Self { steps, dialect, parts, limit, next, blocks: None }
    }

    /// The next request. Takes some milliseconds: not for async threads.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        let mut chunk = Chunk { body: Vec::new(), points: 0, covers: Vec::new() };
        let mut metrics = Vec::with_capacity(self.limit.min(1 << 20));
        let mut points = Vec::new();
        while let Some(step) = self.steps.get(self.next.0).cloned() {
            let place = self.next.0;
            let used = chunk.body.len() + metrics.len();
            let (first, end) = (self.next.1, self.write_points(&mut points, used));
            if end > first {
                chunk.points += end - first;
                chunk.covers.push((step.part, step.family, first..end));
            }
            let is_whole = end == step.samples.end;
            let following = self.steps.get(place + usize::from(is_whole));
            self.next =
                if is_whole { (place + 1, following.map_or(0, |step| step.samples.start)) } else { (place, end) };
            let more_of_metric = is_whole && following.is_some_and(|next| next.same);
            let more_of_resource = following.is_some_and(|next| next.resource == step.resource);
            let is_full = !is_whole || chunk.body.len() + metrics.len() + points.len() + HEAD_BYTES > self.limit;
            if (!more_of_metric || is_full) && !points.is_empty() {
                self.close_metric(&mut metrics, place, &points);
                points.clear();
            }
            let is_full = !is_whole || chunk.body.len() + metrics.len() + HEAD_BYTES > self.limit;
            if (!more_of_resource || is_full) && !metrics.is_empty() && points.is_empty() {
                self.close_resource(&mut chunk.body, step.resource, &metrics);
                metrics.clear();
            }
            if is_full && points.is_empty() {
                break;
            }
        }
        (chunk.points > 0).then_some(chunk)
    }

    /// Writes points of the current step, at least one, as long as there is room; the first sample that has none.
    fn write_points(&mut self, out: &mut Vec<u8>, used: usize) -> usize {
        let (place, first) = self.next;
        let Step { part: number, family, samples, resource, .. } = self.steps[place].clone();
        let part = &self.parts[number];
        let meta = &part.families.families[family].meta;
        let data = Data::of(meta);
        let tag = if data == Data::Histogram { attributes::OF_HISTOGRAM } else { attributes::OF_NUMBER };
        let constant = attributes::constant(tag, self.dialect.naming, meta);
        let blocks = match &mut self.blocks {
            Some((of, blocks)) if *of == number => blocks,
            blocks => &mut blocks.insert((number, Blocks::new(self.dialect.naming, &part.families.labels))).1,
        };
        let mut writer = PointWriter {
            families: &part.families,
            blocks,
            constant: &constant,
            ended: part.ended,
            with_subject: resource.is_none(),
        };
        let mut point = Vec::new();
        let family_of = &part.families.families[family];
        let all = family_of.samples.iter().enumerate();
        for (position, sample) in all.take(samples.end).skip(first) {
            let start = if data == Data::Gauge { None } else { part.start_of(family, position) };
            // The end of a series is told now.
            let at = family_of.read_at(sample).filter(|_| !part.ended).unwrap_or(part.at);
            let times = Times { start: start.map(|start| nanos(start.min(at))), at: nanos(at) };
            point.clear();
            match data {
                Data::Histogram => writer.histogram(&mut point, sample, times),
                Data::Gauge | Data::Sum { .. } => writer.number(&mut point, sample, times),
            }
            wire::bytes(out, 1, &point);
            if used + out.len() + HEAD_BYTES > self.limit {
                return position + 1;
            }
        }
        samples.end
    }

    /// A `Metric` around its points; the family at `place` in the order is of it.
    fn close_metric(&self, out: &mut Vec<u8>, place: usize, points: &[u8]) {
        let meta = self.meta(place);
        let data = Data::of(meta);
        let mut tail = Vec::new();
        if data != Data::Gauge {
            wire::varint(&mut tail, 2, self.temporality(data, self.parts[self.steps[place].part].ended));
            wire::varint(&mut tail, 3, u64::from(data == Data::Sum { monotonic: true }));
        }
        let (name, unit) = match self.dialect.naming {
            Naming::Otel => (&meta.otel_name, meta.unit.ucum()),
            // The name has it all, and receivers would append what the unit stands for.
            Naming::Prometheus => (&meta.name, "".into()),
        };
        let mut head = Vec::with_capacity(HEAD_BYTES / 32);
        wire::bytes(&mut head, 1, name.as_bytes());
        wire::bytes(&mut head, 2, self.description(place).as_bytes());
        if !unit.is_empty() {
            wire::bytes(&mut head, 3, unit.as_bytes());
        }
        let data_len = points.len() + tail.len();
        wire::delimited(out, 2, head.len() + wire::delimited_len(data_len));
        out.extend_from_slice(&head);
        wire::delimited(out, data.tag(), data_len);
        out.extend_from_slice(points);
        out.extend_from_slice(&tail);
    }

    fn meta(&self, place: usize) -> &Meta {
        let Step { part, family, .. } = self.steps[place];
        &self.parts[part].families.families[family].meta
    }

    /// The descriptions of all families of the metric at `place`.
    fn description(&self, place: usize) -> String {
        let first = (0..=place).rev().find(|&place| !self.steps[place].same).unwrap_or(place);
        let rest = self.steps[first + 1..].iter().take_while(|step| step.same).count();
        let texts: Vec<&str> = (first..=first + rest).map(|place| &*self.meta(place).help).collect();
        texts.join("; ")
    }

    /// `AggregationTemporality`; what goes up and down is cumulative in any case. So is the end of a series: what makes totals
    /// of deltas (in Prometheus, in a Collector) takes one without a value for a delta of zero, and the series for alive.
    fn temporality(&self, data: Data, ended: bool) -> u64 {
        match (self.dialect.temporality, data) {
            (Temporality::Delta, Data::Histogram | Data::Sum { monotonic: true }) if !ended => 1,
            _ => 2,
        }
    }

    /// A `ResourceMetrics` around its metrics, in one scope: the only field that a request has.
    fn close_resource(&self, out: &mut Vec<u8>, of: Option<(usize, SubjectId)>, metrics: &[u8]) {
        let resource = self.resource(of);
        let mut scope = Vec::new();
        wire::bytes(&mut scope, 1, SCOPE.as_bytes());
        wire::bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        let of_schema = wire::delimited_len(SCHEMA_URL.len());
        let of_scope = wire::delimited_len(scope.len()) + metrics.len() + of_schema;
        wire::delimited(out, 1, wire::delimited_len(resource.len()) + wire::delimited_len(of_scope) + of_schema);
        wire::bytes(out, 1, &resource);
        wire::delimited(out, 2, of_scope);
        wire::bytes(out, 1, &scope);
        out.extend_from_slice(metrics);
        // The scope's, then the resource's.
        wire::bytes(out, 3, SCHEMA_URL.as_bytes());
        wire::bytes(out, 3, SCHEMA_URL.as_bytes());
    }

    /// A `Resource`: the exporter's attributes, and those of a domain, each of which is an instance then.
    fn resource(&self, of: Option<(usize, SubjectId)>) -> Vec<u8> {
        let mut out = Vec::new();
        let subject = of.map(|(part, subject)| {
            let families = &self.parts[part].families;
            (&families.labels, families.subjects.get(subject))
        });
        let id = subject.and_then(|(labels, subject)| {
            let uuid = labels.get(subject.labels).find(|(name, _)| *name == "uuid");
            uuid.or_else(|| labels.get(subject.labels).next()).map(|(_, value)| value)
        });
        for (name, value) in &self.dialect.resource {
            match id {
                Some(id) if name == SERVICE_INSTANCE_ID => {
                    attributes::write_text(&mut out, 1, name, &format!("{value}/{id}"));
                }
                _ => attributes::write_text(&mut out, 1, name, value),
            }
        }
        if let Some((labels, subject)) = subject {
            let (naming, set) = (self.dialect.naming, subject.labels);
            attributes::write_set(&mut out, 1, naming, labels, set, subject.kind, &mut Vec::new());
        }
        out
    }
}

/// What a family is in OpenTelemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Gauge,
    Sum { monotonic: bool },
    Histogram,
}

impl Data {
    fn of(meta: &Meta) -> Self {
        match (meta.kind, meta.unit) {
            (Kind::Histogram, _) => Self::Histogram,
            (Kind::Counter, _) => Self::Sum { monotonic: true },
            (Kind::Gauge, Unit::Bytes | Unit::Of(_)) => Self::Sum { monotonic: false },
            (Kind::Gauge | Kind::Info | Kind::Unknown, _) => Self::Gauge,
        }
    }

    /// The field of `Metric` that it is in.
    fn tag(self) -> u32 {
        match self {
            Self::Gauge => 5,
            Self::Sum { .. } => 7,
            Self::Histogram => 9,
        }
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
