//! Units by Grafana's ids.

/// What a panel's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A count, as it is.
    Count,
    /// A large count, with a suffix for thousands.
    Short,
    /// 0 to 1, shown as 0 to 100 %.
    Ratio,
    /// Bytes, in powers of 1024.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Seconds.
    Seconds,
    /// I/O requests per second.
    Iops,
    /// Packets per second.
    Packets,
    /// Anything else per second.
    Operations,
    /// Watts.
    Watts,
}

impl Unit {
    /// Grafana's id.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Count => "none",
            Self::Short => "short",
            Self::Ratio => "percentunit",
            Self::Bytes => "bytes",
            // Grafana's decimal unit has prefixes below one: 463 mB/s.
            Self::BytesPerSecond => "binBps",
            Self::Seconds => "s",
            Self::Iops => "iops",
            // Likewise.
            Self::Packets => "count:p/s",
            Self::Operations => "ops",
            Self::Watts => "watt",
        }
    }
}
