//! The classic text format of Prometheus, version 0.0.4, which `prometheus-client` cannot write.

use super::labels::{Rendered, escape};
use crate::catalogue::{Families, Family, Kind, Sample, Value};

pub(super) fn encode(families: &Families) -> String {
    let labels = Rendered::new(&families.labels);
    let mut out = String::with_capacity(families.series() * 128);
    for family in &families.families {
        write_header(&mut out, family);
        for sample in &family.samples {
            write_sample(&mut out, families, &labels, family, sample);
        }
    }
    out
}

fn write_header(out: &mut String, family: &Family) {
    let name = &*family.meta.name;
    // The format knows no info metric: it is a gauge that is always 1.
    let kind = match family.meta.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram => "histogram",
        Kind::Unknown => "untyped",
    };
    for part in ["# HELP ", name, " "] {
        out.push_str(part);
    }
    escape(out, &family.meta.help, &[('\\', "\\\\"), ('\n', "\\n")]);
    for part in ["\n# TYPE ", name, " ", kind, "\n"] {
        out.push_str(part);
    }
}

fn write_sample(out: &mut String, families: &Families, labels: &Rendered<'_>, family: &Family, sample: &Sample) {
    let name = &*family.meta.name;
    match sample.value {
        Value::Histogram(number) => {
            let histogram = &families.histograms[number];
            for &(bound, count) in &histogram.buckets {
                let mut text = String::new();
                write_float(&mut text, bound);
                write_line(out, labels, sample, [name, "_bucket"], Some(&text), &Value::Unsigned(count));
            }
            write_line(out, labels, sample, [name, "_sum"], None, &Value::Float(histogram.sum));
            write_line(out, labels, sample, [name, "_count"], None, &Value::Unsigned(histogram.count()));
        }
        ref value => write_line(out, labels, sample, [name, ""], None, value),
    }
}

fn write_line(
    out: &mut String,
    labels: &Rendered<'_>,
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
