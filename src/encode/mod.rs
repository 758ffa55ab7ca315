//! Families to bytes: one file a format, no decisions.

mod compress;
mod exposition;
mod labels;
mod line;
mod openmetrics;
pub mod otlp;
mod params;
mod protobuf;
mod text;
mod wire;

use crate::metrics::Families;

pub use compress::Coding;
pub use exposition::{Exposition, Position};
pub use params::encode_params;

/// A format of the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The classic text format of Prometheus, 0.0.4.
    Text,
    /// Prometheus' protocol buffers: messages `io.prometheus.client.MetricFamily`, each after its length.
    Protobuf,
}

impl Format {
    /// The media type of the exposition.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Whether the exposition of `families` says when each counter began.
    #[must_use]
    pub fn shows_starts(self, families: &Families) -> bool {
        match self {
            Self::OpenMetrics => families.openmetrics_created,
            Self::Text => false,
            Self::Protobuf => true,
        }
    }

    /// Writes the exposition of `families`. The same families always give the same bytes.
    #[must_use]
    pub fn encode(self, families: &Families) -> Vec<u8> {
        exposition::encode(self, families)
    }
}
