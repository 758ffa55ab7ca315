//! What a table of a dialect consists of.

use crate::config::{Group, MetricNaming};
use crate::tables::Kind;

/// The metrics of another exporter.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// Its name in the configuration.
    pub(crate) naming: MetricNaming,
    /// Where its source is, as `owner/name` on GitHub.
    pub(crate) repository: &'static str,
    /// The commit that the table was made from.
    pub(crate) commit: &'static str,
    /// Remarks about the exporter, in Markdown.
    pub(crate) about: &'static str,
    /// What can be had, in the order of the exposition.
    pub(crate) entries: &'static [&'static [Entry]],
    /// Metrics that are not available.
    pub(crate) missing: &'static [Missing],
}

/// A metric that is not available, and why.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
}

/// One metric of another exporter, and what it is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Its full name there.
    pub(crate) name: &'static str,
    /// Its declared type: counter or gauge.
    pub(crate) kind: Kind,
    /// All labels that it has there.
    pub(crate) labels: &'static [Label],
    /// The full name of the native family that it has its samples of.
    pub(crate) native: &'static str,
    /// How their values become those that it has there.
    pub(crate) values: Values,
    /// Which of the samples have no place there: by a label of the sample and its values.
    pub(crate) without: Option<(Source, &'static [&'static str])>,
    /// Where there is a 0 if this metric has no sample.
    pub(crate) or_zero: Option<Zero>,
    /// The difference that remains; empty if there is none.
    pub(crate) note: &'static str,
}

/// For each sample of a native family a 0, where what would be missing was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zero {
    /// The family with a sample for each thing that has a 0.
    pub(crate) of: &'static str,
    /// What shows that it was asked for.
    pub(crate) asked: Asked,
}

/// What shows that something which is missing was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The sample that the 0 goes with.
    Sample,
    /// A sample that the domain has in another family.
    Family(&'static str),
    /// The group of the collection, whose probe has nothing to say of most domains.
    Group(Group),
}

/// A label there, and where its value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) &'static str, pub(crate) Source);

/// Where a value of a label is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The domain's name.
    Name,
    /// The domain's UUID.
    Uuid,
    /// A label of the sample itself, or of all of its subject.
    Own(&'static str),
    /// A label of `libvirt_domain_block_info` of the same disk.
    Disk(&'static str),
    /// The position of the same disk among those of its domain, from 0.
    DiskNumber,
    /// The path of the same disk's image; of a network disk the name of the image there.
    DiskImage,
    /// The path of the same disk's image, if that is a file.
    DiskFile,
    /// The protocol of the same disk, if it is on the network.
    DiskProtocol,
    /// A label of `libvirt_domain_interface_info` of the same interface.
    Interface(&'static str),
    /// A fixed text where a label of `libvirt_domain_info` has a value.
    IfInfo(&'static str, &'static str),
    /// What the state of the sample is called there.
    StateText(&'static [&'static str]),
}

/// How values become those of the other exporter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Values {
    /// As they are.
    Same,
    /// In another unit: the factor, and what the unit is called.
    Times(f64, &'static str),
    /// 1 for 0, and 0 for all else.
    Not,
    /// Of samples labelled `state` that are 1 for the current one: its position among these.
    State(&'static [&'static str]),
    /// Of a sample with a state and its reason: the number of that reason in libvirt.
    Reason,
    /// The same number for each sample, and what it means there.
    Always(u64, &'static str),
    /// One sample: the sum over all, but for those with one of these values of a label.
    Sum(&'static str, &'static [&'static str]),
    /// How much of the value is not in that of another family, in percent.
    PercentWithout(&'static str),
}

impl Entry {
    pub(crate) const fn counter(name: &'static str, labels: &'static [Label], native: &'static str) -> Self {
        Self { kind: Kind::Counter, ..Self::gauge(name, labels, native) }
    }

    pub(crate) const fn gauge(name: &'static str, labels: &'static [Label], native: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, native, values: Values::Same, without: None, or_zero: None, note: "" }
    }

    pub(crate) const fn of(self, values: Values) -> Self {
        Self { values, ..self }
    }

    pub(crate) const fn or_zero(self, of: &'static str) -> Self {
        self.or_zero_if(of, Asked::Sample)
    }

    pub(crate) const fn or_zero_if(self, of: &'static str, asked: Asked) -> Self {
        Self { or_zero: Some(Zero { of, asked }), ..self }
    }

    pub(crate) const fn without(self, source: Source, values: &'static [&'static str]) -> Self {
        Self { without: Some((source, values)), ..self }
    }

    pub(crate) const fn noted(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// The names of all native families that its values are made of.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &'static str> {
        let second = match self.values {
            Values::PercentWithout(other) => Some(other),
            _ => None,
        };
        [self.native].into_iter().chain(second)
    }
}

impl Dialect {
    /// All entries, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Entry> {
        self.entries.iter().flat_map(|entries| entries.iter())
    }
}

/// The counters of interfaces, which several exporters call the same.
#[rustfmt::skip]
pub(crate) const fn interface_stats(labels: &'static [Label]) -> [Entry; 8] {
    [
        Entry::counter("libvirt_domain_interface_stats_receive_bytes_total", labels, "libvirt_domain_interface_receive_bytes_total"),
        Entry::counter("libvirt_domain_interface_stats_receive_packets_total", labels, "libvirt_domain_interface_receive_packets_total"),
        Entry::counter("libvirt_domain_interface_stats_receive_errors_total", labels, "libvirt_domain_interface_receive_errors_total"),
        Entry::counter("libvirt_domain_interface_stats_receive_drops_total", labels, "libvirt_domain_interface_receive_drops_total"),
        Entry::counter("libvirt_domain_interface_stats_transmit_bytes_total", labels, "libvirt_domain_interface_transmit_bytes_total"),
        Entry::counter("libvirt_domain_interface_stats_transmit_packets_total", labels, "libvirt_domain_interface_transmit_packets_total"),
        Entry::counter("libvirt_domain_interface_stats_transmit_errors_total", labels, "libvirt_domain_interface_transmit_errors_total"),
        Entry::counter("libvirt_domain_interface_stats_transmit_drops_total", labels, "libvirt_domain_interface_transmit_drops_total"),
    ]
}
