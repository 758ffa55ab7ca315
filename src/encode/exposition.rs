//! An exposition in pieces: the whole of a large host is several times as large as the families that it is written from, so
//! it is never there at once unless a scraper wants it compressed, and then it is a tenth of that.

use std::io;

use super::labels::Rendered;
use super::line::write_samples;
use super::protobuf::{self, Blocks};
use super::{Coding, Format, openmetrics, text};
use crate::metrics::{Families, Family, LabelTable};

/// How large a piece is, and not much more in the text formats. In protobuf a family is written as a whole.
const PIECE: usize = 64 << 10;
/// More than a series takes in the text formats where domains and devices have ordinary names.
const SERIES_BYTES: usize = 128;

/// Families in a format, to be written piece by piece.
#[derive(Debug)]
pub struct Exposition {
    families: Families,
    format: Format,
    labels: Labels,
}

/// How far an exposition has been written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Position {
    family: usize,
    sample: usize,
}

impl Position {
    fn end_family(&mut self) {
        *self = Self { family: self.family + 1, sample: 0 };
    }
}

/// All label sets as the format has them.
#[derive(Debug)]
enum Labels {
    Text(Rendered),
    Protobuf(Blocks),
}

impl Labels {
    fn new(format: Format, families: &Families) -> Self {
        match format {
            Format::OpenMetrics | Format::Text => Self::Text(Rendered::new(&families.labels)),
            Format::Protobuf => Self::Protobuf(Blocks::new(&families.labels)),
        }
    }
}

impl Exposition {
    /// The exposition of `families` in `format`.
    #[must_use]
    pub fn new(format: Format, mut families: Families) -> Self {
        let labels = Labels::new(format, &families);
        // Nothing reads them once the format has them.
        families.labels = LabelTable::default();
        Self { labels, families, format }
    }

    /// The next piece, and what comes after it in `at`; `None` at the end. The pieces from the default position on are what
    /// [`Format::encode`] gives.
    #[must_use]
    pub fn piece(&self, at: &mut Position) -> Option<Vec<u8>> {
        let limits = Limits { room: PIECE + PIECE / 16, enough: PIECE };
        let piece = write(self.format, &self.families, &self.labels, at, limits);
        (!piece.is_empty()).then_some(piece)
    }

    /// About how many bytes it will be; more rather than less.
    #[must_use]
    pub fn estimate(&self) -> usize {
        self.families.series() * SERIES_BYTES
    }

    /// How many bytes of memory it fills, by far the most of them.
    #[must_use]
    pub fn memory(&self) -> usize {
        let labels = match &self.labels {
            Labels::Text(labels) => labels.memory(),
            Labels::Protobuf(labels) => labels.memory(),
        };
        self.families.memory() + labels
    }

    /// All of it, compressed. Takes a while for a large one: not for async threads.
    ///
    /// # Errors
    /// If memory runs out within a C library.
    pub fn compress(mut self, coding: Coding) -> io::Result<Vec<u8>> {
        let mut at = Position::default();
        let next = || {
            let first = at.family;
            let piece = self.piece(&mut at);
            // What has been written makes room for what comes of it.
            let written = self.families.families.iter_mut().take(at.family).skip(first);
            written.for_each(|family| family.samples = Vec::new());
            piece
        };
        coding.apply_to(std::iter::from_fn(next))
    }
}

/// All of an exposition.
pub(super) fn encode(format: Format, families: &Families) -> Vec<u8> {
    let labels = Labels::new(format, families);
    let whole = Limits { room: families.series() * SERIES_BYTES, enough: usize::MAX };
    write(format, families, &labels, &mut Position::default(), whole)
}

/// How much is written at a time.
#[derive(Clone, Copy)]
struct Limits {
    /// The room to begin with.
    room: usize,
    /// From so many bytes on nothing is added.
    enough: usize,
}

/// Writes from `at` on until it is enough, or all.
fn write(format: Format, families: &Families, labels: &Labels, at: &mut Position, limits: Limits) -> Vec<u8> {
    let Limits { room, enough } = limits;
    match labels {
        Labels::Text(labels) => {
            let mut out = String::with_capacity(room);
            while out.len() < enough && at.family <= families.families.len() {
                match families.families.get(at.family) {
                    Some(family) => {
                        if at.sample == 0 {
                            describe(&mut out, format, family);
                        }
                        at.sample = write_samples(&mut out, labels, families, family, format, at.sample, enough);
                        if at.sample < family.samples.len() {
                            break;
                        }
                    }
                    None if format == Format::OpenMetrics => openmetrics::write_end(&mut out),
                    None => {}
                }
                at.end_family();
            }
            out.into_bytes()
        }
        Labels::Protobuf(labels) => {
            let (mut out, mut writer) = (Vec::with_capacity(room), protobuf::Writer::default());
            while out.len() < enough
                && let Some(family) = families.families.get(at.family)
            {
                writer.write(&mut out, labels, families, family);
                at.end_family();
            }
            out
        }
    }
}

fn describe(out: &mut String, format: Format, family: &Family) {
    match format {
        Format::OpenMetrics => openmetrics::describe(out, &family.meta),
        Format::Text | Format::Protobuf => text::describe(out, &family.meta),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::{Histogram, Kind, LabelSet, Meta, Origin, Sample, SubjectId, Unit, Value};

    /// Two families of several pieces each, and one with a single sample between them.
    fn families() -> Families {
        let mut families = Families::default();
        let sets: Vec<LabelSet> =
            (0..3000).map(|n| families.labels.push([("device", format!("vd{n}").as_str())])).collect();
        families.histograms.push(Histogram { buckets: vec![(1.0, 2), (f64::INFINITY, 3)], sum: None });
        for (name, samples) in [("first_total", 3000), ("second", 1), ("third_bytes", 2000)] {
            let kind = if name == "second" { Kind::Histogram } else { Kind::Unknown };
            let meta = Meta {
                name: name.into(),
                help: "A help".into(),
                kind,
                unit: Unit::None,
                otel_name: name.into(),
                otel_attributes: &[],
            };
            let value = |n| if kind == Kind::Histogram { Value::Histogram(0) } else { Value::Unsigned(n) };
            let sample = |(set, n): (&LabelSet, u64)| Sample::new(SubjectId::HOST, *set, value(n));
            let samples = sets.iter().zip(0..).take(samples).map(sample).collect();
            families.families.push(Family::new(Arc::new(meta), Origin::Process, samples));
        }
        families
    }

    #[test]
    fn the_pieces_of_an_exposition_are_the_whole() {
        for format in [Format::OpenMetrics, Format::Text, Format::Protobuf] {
            let whole = format.encode(&families());
            let exposition = Exposition::new(format, families());
            let (mut at, mut pieces) = (Position::default(), Vec::new());
            pieces.extend(std::iter::from_fn(|| exposition.piece(&mut at)));
            assert!(pieces.len() > 1, "{format:?}: {} pieces", pieces.len());
            assert!(format == Format::Protobuf || pieces.iter().all(|piece| piece.len() < PIECE + 1000));
            assert!(pieces.concat() == whole, "{format:?}");
            assert!(exposition.piece(&mut at).is_none() && exposition.estimate() >= whole.len());
            let packed = exposition.compress(Coding::Zstd).expect("compressed");
            assert!(zstd::stream::decode_all(&*packed).expect("zstd") == whole, "{format:?}");
        }
        assert!(Exposition::new(Format::Text, Families::default()).piece(&mut Position::default()).is_none());
    }

    #[test]
    fn what_was_read_earlier_says_when_if_that_is_wanted() {
        let mut families = families();
        families.families.truncate(1);
        families.families[0].samples.truncate(1);
        let read = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_250);
        families.families[0].read = Some(Arc::new(vec![(SubjectId::HOST, read)]));
        let line = |format: Format, families: &Families| {
            let text = String::from_utf8(format.encode(families)).expect("UTF-8");
            text.lines().find(|line| line.starts_with("first")).expect("its sample").to_owned()
        };
        assert_eq!(line(Format::Text, &families), "first_total{device=\"vd0\"} 0");
        families.timestamps = true;
        assert_eq!(line(Format::Text, &families), "first_total{device=\"vd0\"} 0 1700000000250");
        assert_eq!(line(Format::OpenMetrics, &families), "first_total{device=\"vd0\"} 0 1700000000.25");
    }
}
