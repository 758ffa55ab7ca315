//! One data point, as bytes.

use super::attributes::{Blocks, OF_HISTOGRAM, OF_NUMBER};
use crate::encode::wire;
use crate::metrics::{Families, Histogram, Sample, Value, float};

/// `DataPointFlags::NO_RECORDED_VALUE`: the series has ended.
const NO_RECORDED_VALUE: u64 = 1;

/// When a point's value was taken, and since when it counts; Unix time in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// None where a start would mean nothing.
    pub(super) start: Option<u64>,
    pub(super) at: u64,
}

/// Writes points into a buffer.
#[derive(Debug)]
pub(super) struct PointWriter<'a> {
    pub(super) families: &'a Families,
    pub(super) blocks: &'a mut Blocks,
    /// The family's constant attributes, encoded.
    pub(super) constant: &'a [u8],
    /// Whether only the end of the series is told.
    pub(super) ended: bool,
    /// Whether the domain is in the point's attributes, and not in the resource.
    pub(super) with_subject: bool,
}

impl PointWriter<'_> {
    /// A `NumberDataPoint`.
    pub(super) fn number(&mut self, out: &mut Vec<u8>, sample: &Sample, times: Times) {
        self.attributes(out, sample, OF_NUMBER);
        write_times(out, times);
        match sample.value() {
            _ if self.ended => wire::varint(out, 8, NO_RECORDED_VALUE),
            Value::Unsigned(value) => match i64::try_from(value) {
                Ok(value) => wire::fixed(out, 6, value.to_le_bytes()),
                Err(_) => wire::fixed(out, 4, float(sample.value()).to_le_bytes()),
            },
            Value::Signed(value) => wire::fixed(out, 6, value.to_le_bytes()),
            value => wire::fixed(out, 4, float(value).to_le_bytes()),
        }
    }

    /// A `HistogramDataPoint`. OpenTelemetry's buckets are each on their own, and the last has no bound.
    pub(super) fn histogram(&mut self, out: &mut Vec<u8>, sample: &Sample, times: Times) {
        self.attributes(out, sample, OF_HISTOGRAM);
        write_times(out, times);
        let Value::Histogram(number) = sample.value() else { return };
        let Histogram { buckets, sum } = &self.families.histograms[number];
        // Prometheus and its like keep sum and buckets as series, and end those that the point has: it has all, at zero.
        let unless_ended = |count| if self.ended { 0 } else { count };
        if !self.ended {
            wire::fixed(out, 4, self.families.histograms[number].count().to_le_bytes());
        }
        if let Some(sum) = sum {
            wire::fixed(out, 5, if self.ended { 0.0 } else { *sum }.to_le_bytes());
        }
        let below = |position: usize| position.checked_sub(1).map_or(0, |position| buckets[position].1);
        let counts = buckets.iter().enumerate().map(|(position, bucket)| bucket.1.saturating_sub(below(position)));
        wire::packed(out, 6, counts.map(|count| unless_ended(count).to_le_bytes()));
        let bounds = &buckets[..buckets.len().saturating_sub(1)];
        wire::packed(out, 7, bounds.iter().map(|bucket| bucket.0.to_le_bytes()));
        if self.ended {
            wire::varint(out, 10, NO_RECORDED_VALUE);
        }
    }

    fn attributes(&mut self, out: &mut Vec<u8>, sample: &Sample, tag: u32) {
        let subject = self.families.subjects.get(sample.subject());
        let of_subject = self.with_subject.then_some(subject.labels);
        for set in of_subject.into_iter().chain([sample.labels()]) {
            if tag == OF_HISTOGRAM {
                self.blocks.append_to_histogram(out, &self.families.labels, set, subject.kind);
            } else {
                self.blocks.append(out, &self.families.labels, set, subject.kind);
            }
        }
        out.extend_from_slice(self.constant);
    }
}

fn write_times(out: &mut Vec<u8>, Times { start, at }: Times) {
    if let Some(start) = start {
        wire::fixed(out, 2, start.to_le_bytes());
    }
    wire::fixed(out, 3, at.to_le_bytes());
}
