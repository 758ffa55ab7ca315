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

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::wire;
use crate::catalogue::{Families, Family, Kind, Meta, Start, Unit};
use crate::config::{Naming, Temporality};
use attributes::Blocks;
pub use attributes::{Attribute, OF_DOMAINS, OF_EXPORTER, attribute_of};
pub use json::to_json;
use point::{PointWriter, Times};

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
            Starts::BySample(starts) => Some(*starts.get(family)?.get(position)?),
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
    BySample(Vec<Vec<SystemTime>>),
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
    /// Families in the order in which they are written: part, family, and whether the one before is of the same metric.
    order: Vec<(usize, usize, bool)>,
    /// Where the next chunk starts: a place in `order`, and a sample there.
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
        let order = parts.iter().enumerate().flat_map(|(number, part)| {
            let order = by_metric(dialect.naming, &part.families);
            order.into_iter().map(move |(family, same)| (number, family, same))
        });
        Self { order: order.collect(), dialect, parts, limit, next: (0, 0), blocks: None }
    }

    /// The next request. Takes some milliseconds: not for async threads.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        let mut chunk = Chunk { body: Vec::new(), points: 0, covers: Vec::new() };
        let mut metrics = Vec::with_capacity(self.limit.min(1 << 20));
        let mut points = Vec::new();
        while let Some(&(part, family, _)) = self.order.get(self.next.0) {
            let place = self.next.0;
            let (first, end) = (self.next.1, self.write_points(&mut points, metrics.len()));
            if end > first {
                chunk.points += end - first;
                chunk.covers.push((part, family, first..end));
            }
            let of = &self.parts[part].families.families[family];
            let is_whole = end == of.samples.len();
            self.next = if is_whole { (self.next.0 + 1, 0) } else { (self.next.0, end) };
            let more_of_it = is_whole && self.order.get(self.next.0).is_some_and(|next| next.2);
            if !more_of_it || metrics.len() + points.len() + HEAD_BYTES > self.limit {
                if !points.is_empty() {
                    self.close_metric(&mut metrics, place, &points);
                    points.clear();
                }
                if !is_whole || metrics.len() + HEAD_BYTES > self.limit {
                    break;
                }
            }
        }
        if chunk.points == 0 {
            return None;
        }
        chunk.body = self.request(&metrics);
        Some(chunk)
    }

    /// Writes points of the current family, at least one, as long as there is room; the first sample that has none.
    fn write_points(&mut self, out: &mut Vec<u8>, used: usize) -> usize {
        let (place, first) = self.next;
        let (number, family, _) = self.order[place];
        let part = &self.parts[number];
        let meta = &part.families.families[family].meta;
        let data = Data::of(meta);
        let tag = if data == Data::Histogram { attributes::OF_HISTOGRAM } else { attributes::OF_NUMBER };
        let constant = attributes::constant(tag, self.dialect.naming, meta);
        let blocks = match &mut self.blocks {
            Some((of, blocks)) if *of == number => blocks,
            blocks => &mut blocks.insert((number, Blocks::new(self.dialect.naming, &part.families.labels))).1,
        };
        let mut writer = PointWriter { families: &part.families, blocks, constant: &constant, ended: part.ended };
        let at = nanos(part.at);
        let mut point = Vec::new();
        let samples = &part.families.families[family].samples;
        for (position, sample) in samples.iter().enumerate().skip(first) {
            let start = if data == Data::Gauge { None } else { part.start_of(family, position) };
            let times = Times { start: start.map(nanos), at };
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
        samples.len()
    }

    /// A `Metric` around its points; the family at `place` in the order is of it.
    fn close_metric(&self, out: &mut Vec<u8>, place: usize, points: &[u8]) {
        let meta = self.meta(place);
        let data = Data::of(meta);
        let mut tail = Vec::new();
        if data != Data::Gauge {
            wire::varint(&mut tail, 2, self.temporality(data));
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
        let (part, family, _) = self.order[place];
        &self.parts[part].families.families[family].meta
    }

    /// What all families of the metric at `place` say of themselves.
    fn description(&self, place: usize) -> String {
        let first = (0..=place).rev().find(|&place| !self.order[place].2).unwrap_or(place);
        let rest = self.order[first + 1..].iter().take_while(|(_, _, same)| *same).count();
        let texts: Vec<&str> = (first..=first + rest).map(|place| &*self.meta(place).help).collect();
        texts.join("; ")
    }

    /// `AggregationTemporality`; what goes up and down is cumulative in any case.
    fn temporality(&self, data: Data) -> u64 {
        match (self.dialect.temporality, data) {
            (Temporality::Delta, Data::Histogram | Data::Sum { monotonic: true }) => 1,
            _ => 2,
        }
    }

    /// The request around its metrics: one resource, one scope.
    fn request(&self, metrics: &[u8]) -> Vec<u8> {
        let mut resource = Vec::new();
        for (name, value) in &self.dialect.resource {
            attributes::write_text(&mut resource, 1, name, value);
        }
        let mut scope = Vec::new();
        wire::bytes(&mut scope, 1, SCOPE.as_bytes());
        wire::bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        let of_scope = wire::delimited_len(scope.len()) + metrics.len();
        let of_resource = wire::delimited_len(resource.len()) + wire::delimited_len(of_scope);
        let mut out = Vec::with_capacity(of_resource + 16);
        wire::delimited(&mut out, 1, of_resource);
        wire::bytes(&mut out, 1, &resource);
        wire::delimited(&mut out, 2, of_scope);
        wire::bytes(&mut out, 1, &scope);
        out.extend_from_slice(metrics);
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

/// The families so that those of one metric follow one another, in the order of the first of each; and whether a family is
/// of the same metric as the one before.
fn by_metric(naming: Naming, families: &Families) -> Vec<(usize, bool)> {
    let identity = |family: &Family| {
        let Meta { name, otel_name, unit, .. } = &*family.meta;
        let name = if naming == Naming::Otel { otel_name } else { name };
        (name.clone(), *unit, Data::of(&family.meta).tag())
    };
    let mut places = HashMap::new();
    let mut metrics: Vec<Vec<usize>> = Vec::new();
    for (number, family) in families.families.iter().enumerate() {
        let place = *places.entry(identity(family)).or_insert(metrics.len());
        match metrics.get_mut(place) {
            Some(metric) => metric.push(number),
            None => metrics.push(vec![number]),
        }
    }
    metrics
        .into_iter()
        .flat_map(|metric| metric.into_iter().enumerate().map(|(place, number)| (number, place > 0)))
        .collect()
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
