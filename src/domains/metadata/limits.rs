//! What a domain may use of its host: CPU time, memory, I/O. What is not limited is not there.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use roxmltree::Node;

use super::tree::{attribute, attribute_at, children, find, size, text, text_at};

/// Numbers of a definition by libvirt's names for them, which are those of its typed parameters (`virsh schedinfo`,
/// `blkdeviotune`, `domiftune`), in libvirt's units but for memory, which is in bytes. None is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits(Vec<(&'static str, u64)>);

impl Limits {
    /// The number with this name, if it is limited.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Those of `names` that `read` finds. Zero means no limit to libvirt.
    fn read(names: &[&'static str], read: impl Fn(&str) -> Option<u64>) -> Self {
        Self(names.iter().filter_map(|name| Some((*name, read(name).filter(|value| *value != 0)?))).collect())
    }
}

/// What the domain as a whole may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowance {
    /// `cpu_shares`; quotas and periods in microseconds; `hard_limit` and its like in bytes; `blkio_weight`.
    pub limits: Limits,
    /// `blkiotune/device` by path: `weight`, `read_bytes_sec` and its like.
    pub devices: BTreeMap<String, Limits>,
    /// How many CPUs of the host each vCPU may use, for those that may not use all.
    pub vcpus: BTreeMap<u32, u32>,
    /// Whether huge pages are behind the guest's memory.
    pub hugepages: bool,
    /// Sizes of huge pages in bytes, by the guest's NUMA nodes that they are for, which are empty for all of them.
    pub hugepage_sizes: BTreeMap<String, u64>,
}

/// From libvirt's name to the path in the definition.
const CPU: [(&str, &str); 9] = [
    ("cpu_shares", "cputune/shares"),
    ("vcpu_period", "cputune/period"),
    ("vcpu_quota", "cputune/quota"),
    ("emulator_period", "cputune/emulator_period"),
    ("emulator_quota", "cputune/emulator_quota"),
    ("global_period", "cputune/global_period"),
    ("global_quota", "cputune/global_quota"),
    ("iothread_period", "cputune/iothread_period"),
    ("iothread_quota", "cputune/iothread_quota"),
];
const MEMORY: [(&str, &str); 4] = [
    ("hard_limit", "memtune/hard_limit"),
    ("soft_limit", "memtune/soft_limit"),
    ("swap_hard_limit", "memtune/swap_hard_limit"),
    ("min_guarantee", "memtune/min_guarantee"),
];
const BLKIO_DEVICE: [&str; 5] = ["weight", "read_bytes_sec", "write_bytes_sec", "read_iops_sec", "write_iops_sec"];
const THROTTLES: [&str; 19] = [
    "total_bytes_sec",
    "read_bytes_sec",
    "write_bytes_sec",
    "total_iops_sec",
    "read_iops_sec",
    "write_iops_sec",
    "total_bytes_sec_max",
    "read_bytes_sec_max",
    "write_bytes_sec_max",
    "total_iops_sec_max",
    "read_iops_sec_max",
    "write_iops_sec_max",
    "total_bytes_sec_max_length",
    "read_bytes_sec_max_length",
    "write_bytes_sec_max_length",
    "total_iops_sec_max_length",
    "read_iops_sec_max_length",
    "write_iops_sec_max_length",
    "size_iops_sec",
];
const BANDWIDTH: [&str; 7] = [
    "inbound.average",
    "inbound.peak",
    "inbound.burst",
    "inbound.floor",
    "outbound.average",
    "outbound.peak",
    "outbound.burst",
];

/// The least quota that libvirt takes for none, in microseconds.
const NO_QUOTA: u64 = 17_592_186_044_415;
/// The kernel's period where a definition has a quota alone, in microseconds.
const USUAL_PERIOD: u64 = 100_000;
/// How long QEMU lets a burst last where a definition does not say it, in seconds.
const USUAL_LENGTH: u64 = 1;
/// The least size that libvirt takes for no limit, which is what cgroups of version 1 make of libvirt's value for unlimited.
const NO_LIMIT: u64 = 9_007_199_254_740_988 << 10;
/// The highest number of a CPU that libvirt reads, and more vCPUs than any hypervisor has.
const MOST_CPUS: u32 = 16_384;

/// What `domain` may use.
pub(super) fn allowance(domain: Node<'_, '_>) -> Allowance {
    let pages = find(domain, "memoryBacking/hugepages");
    let size_of = |page: Node<'_, '_>| Some((attribute(page, "nodeset"), size(&attribute(page, "size"), page)?));
    Allowance {
        limits: of_domain(domain),
        devices: blkio_devices(domain),
        vcpus: vcpus(domain),
        hugepages: pages.is_some(),
        hugepage_sizes: pages.into_iter().flat_map(|pages| children(pages, "page").filter_map(size_of)).collect(),
    }
}

fn of_domain(domain: Node<'_, '_>) -> Limits {
    let number = |path: &str| text_at(domain, path).parse::<u64>().ok();
    let cpu = |name: &str, path: &str| {
        let value = number(path).filter(|value| *value != 0);
        match name.split_once('_') {
            Some((_, "quota")) => value.filter(|quota| *quota < NO_QUOTA),
            _ => value,
        }
    };
    let mut found: Vec<(&str, u64)> = CPU.iter().filter_map(|(name, path)| Some((*name, cpu(name, path)?))).collect();
    complete(&mut found, &CPU.map(|(name, _)| name), ("_quota", "_period"), USUAL_PERIOD);
    let memory = MEMORY.iter().filter_map(|(name, path)| {
        let node = find(domain, path)?;
        let bytes = size(&text(node), node).filter(|bytes| (1..NO_LIMIT).contains(bytes))?;
        Some((*name, bytes))
    });
    found.extend(memory);
    found.extend(number("blkiotune/weight").filter(|weight| *weight != 0).map(|weight| ("blkio_weight", weight)));
    Limits(found)
}

fn blkio_devices(domain: Node<'_, '_>) -> BTreeMap<String, Limits> {
    let devices = find(domain, "blkiotune").into_iter().flat_map(|tune| children(tune, "device"));
    let limits = |device: Node<'_, '_>| {
        let limits = Limits::read(&BLKIO_DEVICE, |name| text_at(device, name).parse().ok());
        (text_at(device, "path"), limits)
    };
    devices.map(limits).filter(|(path, _)| !path.is_empty()).collect()
}

/// What a disk may do (`iotune`): bytes and requests per second, bursts and their length in seconds.
pub(super) fn throttles(disk: Node<'_, '_>) -> Limits {
    let Some(tune) = find(disk, "iotune") else { return Limits::default() };
    let Limits(mut found) = Limits::read(&THROTTLES, |name| text_at(tune, name).parse().ok());
    complete(&mut found, &THROTTLES, ("_max", "_max_length"), USUAL_LENGTH);
    Limits(found)
}

/// Adds the usual value of each of `names` that ends in `detail`, where the limit that it goes with is found without it: the
/// name of that ends in `limit` instead.
fn complete(found: &mut Vec<(&'static str, u64)>, names: &[&'static str], (limit, detail): (&str, &str), usual: u64) {
    for name in names {
        let has = |name: &str| found.iter().any(|(known, _)| *known == name);
        let of = name.strip_suffix(detail).map(|stem| format!("{stem}{limit}"));
        if of.is_some_and(|of| has(&of)) && !has(name) {
            found.push((name, usual));
        }
    }
}

/// What an interface may carry (`bandwidth`): kilobytes per second, bursts in KiB.
pub(super) fn bandwidth(interface: Node<'_, '_>) -> Limits {
    let read = |bandwidth: Node<'_, '_>, name: &str| {
        let (direction, what) = name.split_once('.')?;
        attribute_at(bandwidth, direction, what).parse().ok()
    };
    find(interface, "bandwidth")
        .map(|bandwidth| Limits::read(&BANDWIDTH, |name| read(bandwidth, name)))
        .unwrap_or_default()
}

/// The CPUs of each vCPU that is there (`vcpupin`; `vcpu/@cpuset` for those without their own pin).
fn vcpus(domain: Node<'_, '_>) -> BTreeMap<u32, u32> {
    let of_all = count_cpus(&attribute_at(domain, "vcpu", "cpuset"));
    let pins = find(domain, "cputune").into_iter().flat_map(|tune| children(tune, "vcpupin"));
    let pin = |pin: Node<'_, '_>| Some((attribute(pin, "vcpu").parse().ok()?, count_cpus(&attribute(pin, "cpuset"))?));
    let pinned: BTreeMap<u32, u32> = pins.filter_map(pin).collect();
    if of_all.is_none() && pinned.is_empty() {
        return BTreeMap::new();
    }
    let allowed = |vcpu: u32| Some((vcpu, pinned.get(&vcpu).copied().or(of_all)?));
    online(domain).into_iter().filter_map(allowed).collect()
}

/// The vCPUs that are plugged in: each says so where they are not the first ones.
fn online(domain: Node<'_, '_>) -> BTreeSet<u32> {
    if let Some(list) = find(domain, "vcpus") {
        let is_online = |vcpu: &Node<'_, '_>| attribute(*vcpu, "enabled") == "yes";
        return children(list, "vcpu")
            .filter(is_online)
            .filter_map(|vcpu| attribute(vcpu, "id").parse().ok())
            .collect();
    }
    let current = attribute_at(domain, "vcpu", "current").parse().ok();
    let count = current.or_else(|| text_at(domain, "vcpu").parse().ok()).unwrap_or(0);
    (0..MOST_CPUS.min(count)).collect()
}

/// How many CPUs a list such as `0-3,^2,8` has; `None` if it is empty or no list.
pub(crate) fn count_cpus(list: &str) -> Option<u32> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number < MOST_CPUS);
    let (mut ranges, mut without) = (Vec::new(), HashSet::new());
    for part in list.split(',').map(str::trim) {
        match (part.strip_prefix('^'), part.split_once('-')) {
            (Some(excluded), _) => _ = without.insert(number(excluded)?),
            (None, Some((first, last))) => ranges.push((number(first)?, number(last)?)),
            (None, None) => ranges.push((number(part)?, number(part)?)),
        }
    }
    ranges.sort_unstable();
    let mut apart: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        let first = apart.last().map_or(first, |(_, before)| first.max(before + 1));
        if first <= last {
            apart.push((first, last));
        }
    }
    let has = |cpu: &&u32| {
        let place = apart.partition_point(|(_, last)| last < *cpu);
        apart.get(place).is_some_and(|(first, _)| first <= *cpu)
    };
    let excluded = u32::try_from(without.iter().filter(has).count()).unwrap_or(0);
    let count = apart.iter().map(|(first, last)| last - first + 1).sum::<u32>() - excluded;
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::super::{Metadata, parse_definition};
    use super::*;
    use crate::config::MetadataLabels;

    fn parse(xml: &str) -> Metadata {
        parse_definition(xml, &MetadataLabels::new()).unwrap_or_else(|error| panic!("{error}: {xml}"))
    }

    #[test]
    fn what_a_domain_may_use_is_read() {
        let limited = parse(include_str!("../../../tests/fixtures/definitions/limits.xml"));
        let Allowance { limits, devices, vcpus, hugepages, hugepage_sizes } = &limited.allowance;
        for (name, expected) in [
            ("cpu_shares", Some(2048)),
            ("vcpu_period", Some(50_000)),
            ("vcpu_quota", Some(25_000)),
            ("global_quota", Some(150_000)),
            ("emulator_period", Some(100_000)),
            ("emulator_quota", Some(30_000)),
            ("iothread_period", Some(200_000)),
            ("iothread_quota", Some(40_000)),
            ("hard_limit", Some(4 << 30)),
            ("soft_limit", Some(3 << 30)),
            ("min_guarantee", Some(1 << 30)),
            ("swap_hard_limit", Some(5 << 30)),
            ("blkio_weight", Some(500)),
        ] {
            assert_eq!(limits.get(name), expected, "{name}");
        }
        let device = &devices["/dev/nvme0n1"];
        assert_eq!((devices.len(), device.get("weight"), device.get("write_iops_sec")), (1, Some(300), Some(1000)));
        // The fourth vCPU is not plugged in.
        assert_eq!(*vcpus, BTreeMap::from([(0, 3), (1, 7), (2, 7)]));
        assert!(*hugepages);
        assert_eq!(*hugepage_sizes, BTreeMap::from([("0".to_owned(), 2 << 20), ("1-2".to_owned(), 1 << 30)]));
        let disk = &limited.disks[0];
        assert_eq!(
            (disk.throttles.get("total_bytes_sec"), disk.throttles.get("read_bytes_sec")),
            (Some(20 << 20), None)
        );
        assert_eq!(disk.throttle_group, "limited-disks");
        let lengths =
            ["write_iops_sec_max_length", "read_iops_sec_max_length"].map(|name| limited.disks[1].throttles.get(name));
        assert_eq!(lengths, [Some(50), Some(1)]);
        let interface = &limited.interfaces[0];
        assert_eq!(
            (interface.bandwidth.get("inbound.burst"), interface.bandwidth.get("outbound.floor")),
            (Some(1024), None)
        );
        assert_eq!((interface.link_up, &*interface.filter), (false, "clean-traffic"));
    }

    #[test]
    fn no_limit_is_none_however_it_is_written() {
        for written in [
            "<cputune><shares>0</shares><quota>-1</quota><period>0</period><emulator_quota>17592186044415</emulator_quota></cputune>",
            "<memtune><hard_limit>9007199254740991</hard_limit><soft_limit>0</soft_limit></memtune>",
            "<memtune><hard_limit unit='KiB'>9007199254740988</hard_limit><soft_limit unit='miles'>1</soft_limit></memtune>",
            "<blkiotune><weight>0</weight><device><weight>100</weight></device></blkiotune>",
            "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='all'/><vcpupin vcpu='x' cpuset='1'/></cputune>",
            "<vcpu placement='auto'>2</vcpu>",
        ] {
            let metadata = parse(&format!("<domain>{written}</domain>"));
            assert_eq!(metadata.allowance, Allowance::default(), "{written}");
        }
        let disk = "<disk><target dev='vda'/><iotune><total_bytes_sec>0</total_bytes_sec><x>1</x></iotune></disk>";
        assert_eq!(parse(&format!("<domain><devices>{disk}</devices></domain>")).disks[0].throttles, Limits::default());
        let plain = parse("<domain><memoryBacking><hugepages/></memoryBacking></domain>").allowance;
        assert!(plain.hugepages && plain.hugepage_sizes.is_empty());
    }

    #[test]
    fn the_vcpus_that_are_plugged_in_are_those_that_say_so() {
        let vcpus = |xml: &str| {
            let allowance = parse(&format!("<domain><vcpu cpuset='0-1' current='2'>4</vcpu>{xml}</domain>")).allowance;
            allowance.vcpus.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(vcpus(""), [0, 1]);
        let sparse = "<vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/><vcpu id='1' enabled='no'/>\
                      <vcpu id='2' enabled='yes'/><vcpu id='3' enabled='no'/></vcpus>";
        assert_eq!(vcpus(sparse), [0, 2]);
        let many = parse("<domain><vcpu cpuset='0'>4294967295</vcpu></domain>").allowance;
        assert_eq!(many.vcpus.len(), 16_384);
    }

    #[test]
    fn the_cpus_of_a_list_are_counted_once() {
        for (list, expected) in [
            ("0", Some(1)),
            ("0-3", Some(4)),
            ("0-3,^2", Some(3)),
            ("^2,0-3", Some(3)),
            (" 1 , 3-5 , 4-8 , 4", Some(7)),
            ("0-3,^0,^1,^2,^3", None),
            ("0-16383", Some(16_384)),
            ("0-16384", None),
            ("3-1", None),
            ("", None),
            ("a", None),
            ("-1", None),
            ("0,", None),
            ("^", None),
        ] {
            assert_eq!(count_cpus(list), expected, "{list}");
        }
    }
}
