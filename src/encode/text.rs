//! The classic text format of Prometheus, version 0.0.4, which `prometheus-client` cannot write.

use super::labels::escape;
use crate::metrics::{Kind, Meta};

/// HELP and TYPE.
pub(super) fn describe(out: &mut String, meta: &Meta) {
    let name = &*meta.name;
    // The format knows no info metric: it is a gauge that is always 1.
    let kind = match meta.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram => "histogram",
        Kind::Unknown => "untyped",
    };
    for part in ["# HELP ", name, " "] {
        out.push_str(part);
    }
    escape(out, &meta.help, &[('\\', "\\\\"), ('\n', "\\n")]);
    for part in ["\n# TYPE ", name, " ", kind, "\n"] {
        out.push_str(part);
    }
}
