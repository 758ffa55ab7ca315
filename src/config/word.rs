//! Settings with a closed list of values.

use std::fmt::Display;

use crate::tables::Group;

/// Defines an enum whose variants are the values of a setting: `as_str`, `ALL`, `Display`, `FromStr` and serde through them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $noun:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        $crate::config::word::setting!($name, $noun);
    };
}

/// Makes a type with `ALL`, `as_str` and `Display` a setting: `FromStr` and serde.
macro_rules! setting {
    ($name:ident, $noun:literal) => {
        impl std::str::FromStr for $name {
            type Err = $crate::config::ValueError;

            fn from_str(text: &str) -> Result<Self, $crate::config::ValueError> {
                let word = text.trim();
                Self::ALL.iter().find(|known| known.as_str() == word).copied().ok_or_else(|| {
                    $crate::config::ValueError::UnknownWord {
                        noun: $noun,
                        word: word.to_owned(),
                        known: $crate::config::word::known(Self::ALL),
                    }
                })
            }
        }

        $crate::config::value::scalar!($name, concat!("a ", $noun));
    };
}

pub(super) use {setting, words};

pub(super) fn known(words: &[impl Display]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

setting!(Group, "group");

words!(
    /// The data exported of shut-off domains.
    #[derive(Default)]
    InactiveDomains, "choice" {
        /// Nothing.
        None = "none",
        /// Their state.
        #[default]
        State = "state",
        /// Everything that libvirt reports.
        All = "all",
    }
);

words!(
    /// Where CPU times of domains and vCPUs come from.
    #[derive(Default)]
    CpuSource, "source" {
        /// libvirt.
        Libvirt = "libvirt",
        /// The host's files; domains of which these are doubted have none.
        Host = "host",
        /// The host's files; libvirt for domains of which these are doubted.
        #[default]
        Auto = "auto",
    }
);

words!(
    /// A label that says which domain a sample belongs to.
    DomainLabel, "domain label" {
        /// The name, which is unique on a host.
        Domain = "domain",
        /// The UUID, which outlives renaming and migration.
        Uuid = "uuid",
    }
);

words!(
    /// What a domain does, in the classes that libvirt lists domains by.
    DomainState, "domain state" {
        /// It runs.
        Running = "running",
        /// It is started and stands still.
        Paused = "paused",
        /// It is defined and not started.
        Shutoff = "shutoff",
        /// It has crashed, sleeps, or is shutting down.
        Other = "other",
    }
);

words!(
    /// What becomes of statistics that this version has no metric for.
    #[derive(Default)]
    UnmappedKeys, "choice" {
        /// Each becomes a sample of one generic family.
        #[default]
        Export = "export",
        /// They are only counted.
        Count = "count",
    }
);

words!(
    /// Whose names the metrics of a scrape have.
    #[derive(Default)]
    MetricNaming, "naming of metrics" {
        /// Those of METRICS.md.
        #[default]
        Native = "native",
        /// Those of Tinkoff/libvirt-exporter.
        Tinkoff = "tinkoff",
        /// Those of inovex/prometheus-libvirt-exporter.
        Inovex = "inovex",
        /// Those of kumina/libvirt_exporter, Debian's prometheus-libvirt-exporter.
        Kumina = "kumina",
        /// Those of vexxhost/libvirtd_exporter.
        Vexxhost = "vexxhost",
    }
);

words!(
    /// The least severe level that is logged.
    #[derive(Default)]
    LogLevel, "log level" {
        /// Needs an operator.
        Error = "error",
        /// May need an operator.
        Warn = "warn",
        /// Changes of state.
        #[default]
        Info = "info",
        /// Each request.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
);

words!(
    /// How a log line is written.
    #[derive(Default)]
    LogFormat, "log format" {
        /// `key=value`, for people and for journald.
        #[default]
        Logfmt = "logfmt",
        /// One JSON object a line, for collectors.
        Json = "json",
    }
);

words!(
    /// A state in which a domain can have addresses.
    ActiveState, "state" {
        /// It runs.
        Running = "running",
        /// It is started and stands still.
        Paused = "paused",
    }
);

words!(
    /// A source of guest addresses.
    DiscoverySource, "address source" {
        /// The DHCP leases of libvirt's networks.
        Lease = "lease",
        /// The neighbour table of the host.
        Arp = "arp",
        /// The guest agent; libvirt needs a read-write connection for it.
        Agent = "agent",
    }
);

words!(
    /// Which addresses a guest can be scraped at.
    #[derive(Default)]
    AddressFamily, "address family" {
        /// IPv4, and IPv6 where an interface has no other.
        #[default]
        Any = "any",
        /// IPv4 only.
        Ipv4 = "ipv4",
        /// IPv6 only.
        Ipv6 = "ipv6",
    }
);
