//! Latency histograms: the bins of one device made into cumulative buckets.

use super::family::Histogram;
use super::number::seconds;

/// One bin as it is read: libvirt sends start and count under separate keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bin {
    /// Lower bound in nanoseconds.
    pub(super) start: Option<u64>,
    /// Requests in this bin alone.
    pub(super) count: Option<u64>,
}

/// Bucket bounds are the starts of the next bins, the last one has none. A bin reaches up to, but not including, the start
/// of the next; a bucket includes its bound: the difference is one nanosecond.
///
/// `None` unless every bin is whole: counts that miss a bin would be wrong in all buckets above it.
pub(super) fn assemble(bins: &[Bin], sum_nanos: Option<u64>) -> Option<Histogram> {
    let mut whole: Vec<(u64, u64)> = bins.iter().map(|bin| bin.start.zip(bin.count)).collect::<Option<_>>()?;
    whole.sort_unstable();
    let bounds = whole.iter().skip(1).map(|bin| seconds(bin.0)).chain([f64::INFINITY]);
    let mut count: u64 = 0;
    let mut buckets = Vec::with_capacity(whole.len());
    for (bound, (_, in_bin)) in bounds.zip(&whole) {
        count = count.checked_add(*in_bin)?;
        buckets.push((bound, count));
    }
    let distinct = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0);
    // Nothing observed adds up to zero, whether libvirt reports a sum or not.
    let sum = sum_nanos.or_else(|| (count == 0).then_some(0)).map(seconds);
    (distinct && !buckets.is_empty()).then_some(Histogram { buckets, sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(start: u64, count: u64) -> Bin {
        Bin { start: Some(start), count: Some(count) }
    }

    #[test]
    fn bins_become_cumulative_buckets() {
        let bins = [bin(1_000_000, 4), bin(0, 10), bin(100_000, 5)];
        let histogram = assemble(&bins, Some(2_500_000_000)).expect("whole bins");
        assert_eq!(histogram.buckets, [(0.0001, 10), (0.001, 15), (f64::INFINITY, 19)]);
        assert_eq!((histogram.sum, histogram.count()), (Some(2.5), 19));
    }

    #[test]
    fn half_a_bin_or_two_of_one_start_yield_nothing() {
        assert_eq!(assemble(&[bin(0, 1), Bin { start: Some(5), count: None }], None), None);
        assert_eq!(assemble(&[bin(0, 1), bin(5, 1), bin(5, 1)], None), None);
        assert_eq!(assemble(&[bin(0, u64::MAX), bin(5, 1)], None), None);
        assert_eq!(assemble(&[], None), None);
        let sum_of = |count| assemble(&[bin(0, count)], None).and_then(|histogram| histogram.sum);
        assert_eq!((sum_of(0), sum_of(1)), (Some(0.0), None));
    }
}
