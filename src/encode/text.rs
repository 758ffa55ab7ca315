//! The classic text format of Prometheus, version 0.0.4, which `prometheus-client` cannot write.

use super::labels::{Rendered, escape};
use super::line::write_samples;
use crate::metrics::{Families, Family, Kind};

pub(super) fn encode(families: &Families) -> String {
    let labels = Rendered::new(&families.labels);
    let mut out = String::with_capacity(families.series() * super::SERIES_BYTES);
    for family in &families.families {
        write_header(&mut out, family);
        write_samples(&mut out, &labels, families, family, false);
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
