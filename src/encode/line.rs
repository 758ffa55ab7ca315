//! Lines of samples, as both text formats have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::labels::Rendered;
use crate::catalogue::{Families, Family, Histogram, Sample, Value};

/// All samples of a family; with `created`, when each that only grows began.
pub(super) fn write_samples(out: &mut String, labels: &Rendered, families: &Families, family: &Family, created: bool) {
    let (full, name) = (&*family.meta.name, family.meta.family_name());
    for (position, sample) in family.samples.iter().enumerate() {
        match sample.value {
            Value::Histogram(number) => write_histogram(out, labels, sample, name, &families.histograms[number]),
            ref value => write_line(out, labels, sample, [full, ""], None, value),
        }
        if created && let Some(start) = families.known_start_of(family, position) {
            write_created(out, labels, sample, name, start);
        }
    }
}

/// One sample that is not a histogram; `bound` is the upper bound of a bucket.
fn write_line(
    out: &mut String,
    labels: &Rendered,
    sample: &Sample,
    name: [&str; 2],
    bound: Option<&str>,
    value: &Value,
) {
    name.into_iter().for_each(|part| out.push_str(part));
    let mut before = '{';
    for set in [sample.subject, sample.labels] {
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

fn write_float(out: &mut String, number: f64) {
    if number.is_finite() {
        out.push_str(ryu::Buffer::new().format_finite(number));
    } else if number.is_nan() {
        out.push_str("NaN");
    } else {
        out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    }
}

/// The buckets of a histogram, then sum and count: OpenMetrics wants both or none, so without a sum the count is what the
/// last bucket says.
fn write_histogram(out: &mut String, labels: &Rendered, sample: &Sample, name: &str, histogram: &Histogram) {
    for &(bound, count) in &histogram.buckets {
        let mut text = String::new();
        write_float(&mut text, bound);
        write_line(out, labels, sample, [name, "_bucket"], Some(&text), &Value::Unsigned(count));
    }
    if let Some(sum) = histogram.sum {
        write_line(out, labels, sample, [name, "_sum"], None, &Value::Float(sum));
        write_line(out, labels, sample, [name, "_count"], None, &Value::Unsigned(histogram.count()));
    }
}

/// When a counter or a histogram began: Unix time to the millisecond, which is what Prometheus keeps.
fn write_created(out: &mut String, labels: &Rendered, sample: &Sample, name: &str, start: SystemTime) {
    let since = start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    write_line(out, labels, sample, [name, "_created"], None, &Value::Float(millis.as_secs_f64()));
}

#[cfg(test)]
mod tests {
    use super::*;

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
