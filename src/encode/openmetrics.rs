//! OpenMetrics 1.0: `prometheus-client` describes each family, and the samples are the lines of the text format.
//!
//! The crate can write the samples too, but takes three times as long for them (benches/README.md has the figures), insists
//! on the sum of a histogram, which libvirt does not report of every one, and has no series for when a counter began.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::{Kind, Meta};

/// The mark of the end, without which an exposition is not whole.
pub(super) fn write_end(out: &mut String) {
    let ended = text::encode_eof(out);
    debug_assert!(ended.is_ok());
}

/// HELP, TYPE and UNIT.
pub(super) fn describe(out: &mut String, meta: &Arc<Meta>) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Description(Arc::clone(meta))));
    // Writing to a String cannot fail, and the collector returns no error.
    let written = text::encode_registry(out, &registry);
    debug_assert!(written.is_ok());
}

/// A family without samples; the crate wants a collector that borrows nothing.
#[derive(Debug)]
struct Description(Arc<Meta>);

impl Collector for Description {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(meta) = self;
        let unit = meta.unit.suffix().map(|suffix| Unit::Other(suffix.to_owned()));
        encoder.encode_descriptor(bare_name(meta), &meta.help, unit.as_ref(), metric_type(meta))?;
        Ok(())
    }
}

/// The name as the crate wants it: what it appends itself is taken off, and no more, since a hypervisor's own name may end
/// in an underscore.
fn bare_name(meta: &Meta) -> &str {
    let name = meta.family_name();
    let bare = meta.unit.suffix().and_then(|unit| name.strip_suffix(unit)?.strip_suffix('_'));
    bare.unwrap_or(name)
}

/// The format has no counter that does not end in `_total`, which some of other exporters do not.
fn metric_type(meta: &Meta) -> MetricType {
    match meta.kind {
        Kind::Counter if !meta.name.ends_with("_total") => MetricType::Unknown,
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Info => MetricType::Info,
        Kind::Histogram => MetricType::Histogram,
        Kind::Unknown => MetricType::Unknown,
    }
}
