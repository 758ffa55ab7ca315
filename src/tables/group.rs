//! Groups of statistics: what `collection.groups` names, and what libvirt is asked for.

use std::fmt;

use super::Group;
use super::row::Table;
use crate::libvirt::StatsGroups;

/// Everything about a group; the only place that knows it.
#[derive(Debug)]
pub struct GroupInfo {
    /// The name in `collection.groups`, `--collection.groups`, `?collect[]` and the documentation.
    pub name: &'static str,
    /// What the statistics are about, for the documentation; no full stop.
    pub help: &'static str,
    /// Whether the group is collected if the configuration names none.
    pub default: bool,
    /// Where its values come from.
    pub source: Source,
    /// What the group's keys begin with, up to their first dot. Of two groups that share it, the one with a rule has the
    /// keys that the rule names.
    pub prefix: &'static str,
    /// What of the group only the domain's hypervisor process knows; `None` if libvirt never asks it.
    pub monitor: Option<Monitor>,
    /// Whether older daemons fail a whole call for this group when one hypervisor process dies during it.
    pub fragile: bool,
    /// How keys without a row are named.
    pub(crate) rule: Option<Rule>,
    /// The metrics of the group's keys; none for a background probe, which has them itself.
    pub(crate) table: Table,
}

/// Where the values of a group come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// libvirt's bulk statistics, asked for by this flag. Two groups may share one.
    Stats(StatsGroups),
    /// A background probe that names the group: its records have keys of the exporter's own.
    Probe,
    /// The host's files about the domain's QEMU: its records have keys of the exporter's own.
    HostFiles,
    /// The domains' definitions: all rows of the group are without keys, in a separate table.
    Definition,
}

impl GroupInfo {
    /// What a group declares beside its name, help and table: of a background probe, and on by default.
    pub(super) const USUAL: Self = Self::of_probe("", "");

    /// The group of a background probe, whose keys begin with the name of the group.
    pub(super) const fn of_probe(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            default: true,
            source: Source::Probe,
            prefix: name,
            monitor: None,
            fragile: false,
            rule: None,
            table: Table::EMPTY,
        }
    }
}

/// The part of a group that libvirt gets from the domain's hypervisor process, through its monitor.
#[derive(Debug)]
pub struct Monitor {
    /// The keys that show that the hypervisor has answered.
    pub answers: KeyPattern,
    /// Whether the answer comes from KVM: then all domains on KVM have it, or none.
    pub from_kvm: bool,
    /// Whether the answer shows that libvirt had the domain's job.
    pub shows_job: bool,
}

/// Some keys of a group.
#[derive(Debug, Clone, Copy)]
pub enum KeyPattern {
    /// All of them.
    Any,
    /// This one.
    Key(&'static str),
    /// Those that begin so.
    Prefix(&'static str),
    /// Those that end so.
    Suffix(&'static str),
}

impl KeyPattern {
    /// Whether `key`, which is one of the group's, is meant.
    #[must_use]
    pub fn matches(self, key: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Key(only) => key == only,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Suffix(suffix) => key.ends_with(suffix),
        }
    }
}

/// How the statistics of a hypervisor are named, which has some for each of its releases: `<prefix><name>.sum`, `.cur` and
/// `.max`.
#[derive(Debug)]
pub(crate) struct Rule {
    /// What the keys begin with, numbers written as `<n>`.
    pub prefix: &'static str,
    /// What the Prometheus names begin with.
    pub name: &'static str,
    /// What the OpenTelemetry names begin with.
    pub otel_name: &'static str,
    /// What the statistics are of, for the help.
    pub of: &'static str,
}

impl Rule {
    /// What the keys end in.
    pub(crate) const SUFFIXES: [&str; 3] = [".sum", ".cur", ".max"];

    fn names(&self, rest: &str) -> bool {
        Self::SUFFIXES.iter().any(|suffix| rest.ends_with(suffix))
    }
}

/// Defines [`Group`]: each variant with its descriptor.
macro_rules! groups {
    ($($variant:ident = $info:expr,)+) => {
        /// A group of statistics. [`Group::info`] describes it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Group {
            $(
                #[doc = stringify!($variant)]
                $variant,
            )+
        }

        impl Group {
            /// Every group, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Everything about the group.
            #[must_use]
            pub const fn info(self) -> &'static GroupInfo {
                match self {
                    $(Self::$variant => const { &$info },)+
                }
            }
        }
    };
}
pub(super) use groups;

impl Group {
    /// The name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.info().name
    }

    /// The flag of libvirt's bulk statistics; none for a group that does not come from them. A set that is empty for that
    /// reason must not be asked for.
    #[must_use]
    pub const fn stats(self) -> StatsGroups {
        match self.info().source {
            Source::Stats(flag) => flag,
            Source::Probe | Source::HostFiles | Source::Definition => StatsGroups::NONE,
        }
    }

    /// The group whose statistic `key` is; `None` if no group's keys begin so.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        let (first, rest) = key.split_once('.')?;
        let mut groups = Self::ALL.iter().filter(|group| group.info().prefix == first);
        let group = groups.next()?;
        let by_rule = |group: &&Self| group.info().rule.as_ref().is_some_and(|rule| rule.names(rest));
        Some(*groups.find(by_rule).unwrap_or(group))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a group may be, for the sets below.
#[derive(Clone, Copy)]
enum Property {
    AsksMonitor,
    AsksKvm,
    ShowsJob,
    Fragile,
    Any,
}

/// Sets of libvirt's groups, from the descriptors.
impl StatsGroups {
    /// All that there are.
    const KNOWN: Self = with(Property::Any);
    /// Groups of which libvirt has at least a part from the domain's hypervisor process, through its monitor.
    pub const MONITOR: Self = with(Property::AsksMonitor);
    /// What libvirt reports without ever asking the domain's hypervisor process.
    pub const WITHOUT_MONITOR: Self = Self::KNOWN.without(Self::MONITOR);
    /// Groups whose answer from the monitor comes from KVM: all domains on KVM have it, or none.
    pub const KVM: Self = with(Property::AsksKvm);
    /// Groups whose answer shows that libvirt had the domain's job.
    pub const SHOWS_JOB: Self = with(Property::ShowsJob);
    /// What makes older daemons fail a whole call when one hypervisor process dies during it.
    pub const FRAGILE: Self = with(Property::Fragile);
}

const fn with(property: Property) -> StatsGroups {
    let mut set = StatsGroups::NONE;
    let mut number = 0;
    while number < Group::ALL.len() {
        let group = Group::ALL[number];
        let GroupInfo { monitor, fragile, .. } = group.info();
        let has = match (property, monitor) {
            (Property::Any, _) => true,
            (Property::Fragile, _) => *fragile,
            (_, None) => false,
            (Property::AsksMonitor, Some(_)) => true,
            (Property::AsksKvm, Some(monitor)) => monitor.from_kvm,
            (Property::ShowsJob, Some(monitor)) => monitor.shows_job,
        };
        if has {
            set = set.union(group.stats());
        }
        number += 1;
    }
    set
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tables::WITHOUT_KEYS;

    #[test]
    fn a_key_belongs_to_the_group_of_its_prefix() {
        for (key, group) in [
            ("cpu.time", Some(Group::CpuTotal)),
            ("vcpu.maximum", Some(Group::Vcpu)),
            ("vcpu.0.exits.sum", Some(Group::VcpuKvm)),
            ("vm.exits.max", Some(Group::Vm)),
            ("block.0.sum", Some(Group::Block)),
            ("cpux.time", None),
            ("cpu", None),
        ] {
            assert_eq!(Group::of_key(key), group, "{key}");
        }
    }

    #[test]
    fn groups_are_told_apart() {
        let names: BTreeSet<&str> = Group::ALL.iter().map(|group| group.as_str()).collect();
        assert_eq!(names.len(), Group::ALL.len(), "two groups have one name");
        for (number, group) in Group::ALL.iter().enumerate() {
            let info = group.info();
            let of_libvirt = matches!(info.source, Source::Stats(_));
            assert_eq!(group.stats().is_empty(), !of_libvirt, "{group}: libvirt takes no flag for all groups");
            assert!(of_libvirt || (info.monitor.is_none() && !info.fragile), "{group} is not libvirt's");
            let without_keys = WITHOUT_KEYS.iter().any(|table| table.group == Some(*group));
            let elsewhere = without_keys || info.source == Source::Probe;
            assert!(!info.table.rows.is_empty() || info.rule.is_some() || elsewhere, "{group} has no metric");
            if matches!(info.source, Source::Definition | Source::Probe) {
                assert!(info.table.rows.is_empty(), "{group}: its rows are elsewhere");
            } else {
                assert_eq!(info.table.group, Some(*group), "the table of {group}");
            }
            if info.source == Source::Definition {
                continue;
            }
            for other in &Group::ALL[..number] {
                let shares = info.prefix == other.info().prefix;
                let same_flag = of_libvirt && info.source == other.info().source;
                assert_eq!(shares, same_flag, "{group}, {other}: one prefix, another flag");
                assert!(!shares || info.rule.is_some(), "{group}, {other}: nothing tells their keys apart");
            }
            for row in info.table.rows {
                for key in row.keys {
                    assert_eq!(Group::of_key(key), Some(*group), "{key} is in the table of {group}");
                }
            }
        }
    }

    #[test]
    fn sets_are_those_of_libvirt() {
        let monitor = StatsGroups::CPU_TOTAL | StatsGroups::BALLOON | StatsGroups::VCPU | StatsGroups::BLOCK;
        let monitor = monitor | StatsGroups::IOTHREAD | StatsGroups::DIRTYRATE | StatsGroups::VM;
        assert_eq!(StatsGroups::MONITOR, monitor);
        assert_eq!(StatsGroups::SHOWS_JOB, monitor.without(StatsGroups::CPU_TOTAL));
        assert_eq!(StatsGroups::KVM, StatsGroups::CPU_TOTAL | StatsGroups::VCPU | StatsGroups::VM);
        let without = StatsGroups::STATE | StatsGroups::INTERFACE | StatsGroups::PERF | StatsGroups::MEMORY;
        assert_eq!(StatsGroups::WITHOUT_MONITOR, without);
        assert_eq!(StatsGroups::FRAGILE, StatsGroups::IOTHREAD | StatsGroups::DIRTYRATE | StatsGroups::PERF);
    }
}
