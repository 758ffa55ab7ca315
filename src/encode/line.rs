//! Lines of samples, as both text formats have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Format;
use super::labels::Rendered;
use crate::metrics::{Families, Family, Histogram, LabelSet, Value};

/// The samples of a family from that at `first` on, until there are `enough` bytes, as this text format has them. Gives the
/// position of the next sample.
pub(super) fn write_samples(
    out: &mut String,
    labels: &Rendered,
    families: &Families,
    family: &Family,
    format: Format,
    first: usize,
    enough: usize,
) -> usize {
    let (full, name) = (&*family.meta.name, family.meta.family_name());
    let created = format.shows_starts(families);
    for (position, sample) in family.samples.iter().enumerate().skip(first) {
        let sets = families.labels_of(sample);
        match sample.value() {
            Value::Histogram(number) => write_histogram(out, labels, sets, name, &families.histograms[number]),
            ref value => {
                write_line(out, labels, sets, [full, ""], None, value);
                if let Some(at) = families.timestamp_of(family, sample) {
                    out.pop();
                    write_timestamp(out, format, at);
                }
            }
        }
        if created && let Some(start) = families.known_start_of(family, position) {
            write_created(out, labels, sets, name, start);
        }
        if out.len() >= enough {
            return position + 1;
        }
    }
    family.samples.len()
}

/// One sample that is not a histogram; `bound` is the upper bound of a bucket.
fn write_line(
    out: &mut String,
    labels: &Rendered,
    sets: [LabelSet; 2],
    name: [&str; 2],
    bound: Option<&str>,
    value: &Value,
) {
    name.into_iter().for_each(|part| out.push_str(part));
    let mut before = '{';
    for set in sets {
        let rendered = labels.get(set);
        if !rendered.is_empty() {
            out.push(before);
            out.push_str(rendered);
            before = ',';
        }
    }
    if let Some(bound) = bound {
        out.push(before);
        for part in ["le=\"", bound, "\""] {
            out.push_str(part);
        }
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
    out.push(' ');
    match *value {
        Value::Unsigned(number) => out.push_str(itoa::Buffer::new().format(number)),
        Value::Signed(number) => out.push_str(itoa::Buffer::new().format(number)),
        Value::Float(number) => write_float(out, number),
        Value::Histogram(_) => {}
    }
    out.push('\n');
}

/// When the sample before was read, and the end of its line.
fn write_timestamp(out: &mut String, format: Format, at: SystemTime) {
    out.push(' ');
    let millis = unix_millis(at);
    match format {
        Format::OpenMetrics => write_float(out, millis.as_secs_f64()),
        Format::Text | Format::Protobuf => out.push_str(itoa::Buffer::new().format(millis.as_millis())),
    }
    out.push('\n');
}

/// Unix time to the millisecond, which is what Prometheus keeps.
fn unix_millis(at: SystemTime) -> Duration {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn write_float(out: &mut String, number: f64) {
    if number.is_finite() {
        out.push_str(ryu::Buffer::new().format_finite(number));
    } else if number.is_nan() {
        out.push_str("NaN");
    } else {
        out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    }
}

/// The upper bound of a bucket in the canonical form of OpenMetrics, which is how Prometheus writes those of a protobuf
/// message: another form would be another series.
pub(super) fn write_bound(out: &mut String, bound: f64) {
    let scientific = format!("{bound:e}");
    match scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..6).contains(&exponent) => {
            out.push_str(&format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()));
        }
        _ => write_float(out, bound),
    }
}

/// The buckets of a histogram, then sum and count: OpenMetrics wants both or none, so without a sum the count is what the
/// last bucket says.
fn write_histogram(out: &mut String, labels: &Rendered, sets: [LabelSet; 2], name: &str, histogram: &Histogram) {
    for &(bound, count) in &histogram.buckets {
        let mut text = String::new();
        write_bound(&mut text, bound);
        write_line(out, labels, sets, [name, "_bucket"], Some(&text), &Value::Unsigned(count));
    }
    if let Some(sum) = histogram.sum {
        write_line(out, labels, sets, [name, "_sum"], None, &Value::Float(sum));
        write_line(out, labels, sets, [name, "_count"], None, &Value::Unsigned(histogram.count()));
    }
}

/// When a counter or a histogram began.
fn write_created(out: &mut String, labels: &Rendered, sets: [LabelSet; 2], name: &str, start: SystemTime) {
    write_line(out, labels, sets, [name, "_created"], None, &Value::Float(unix_millis(start).as_secs_f64()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_canonical() {
        for (bound, text) in [
            (1e-9, "1e-09"),
            (0.000_012_5, "1.25e-05"),
            (0.0001, "0.0001"),
            (0.25, "0.25"),
            (1.0, "1.0"),
            (100_000.0, "100000.0"),
            (1e6, "1e+06"),
            (123_456_789.5, "1.234567895e+08"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = String::new();
            write_bound(&mut out, bound);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn numbers_print_as_short_as_they_can() {
        for (number, text) in [
            (12.345_678_901, "12.345678901"),
            (0.0, "0.0"),
            (1e-9, "1e-9"),
            (1.844_674_407_370_955_2e19, "1.8446744073709552e19"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            write_float(&mut out, number);
            assert_eq!(out, text);
        }
    }
}
