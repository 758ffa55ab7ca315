//! Families of what domains may use, from their definitions.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{Shown, each};
use crate::domains::{Allowance, Disk, Interface, Limits};
use crate::libvirt::ParamValue;
use crate::metrics::fill::{Filled, Filling, boolean};
use crate::metrics::number::scaled;
use crate::metrics::{SubjectId, Value};
use crate::tables::limits::{
    HUGEPAGE_SIZE, HUGEPAGES, Limit, OF_DISK, OF_DOMAIN, OF_HOST_DEVICE, OF_INTERFACE, THROTTLE_INFO, VCPU_AFFINITY,
};

/// Limits of one thing, and the value of its label.
type Limited<'d> = (SubjectId, &'d str, &'d Limits);

pub(super) fn fill(filling: &mut Filling<'_>, domains: &[Shown<'_>]) {
    let known = || domains.iter().filter_map(|(subject, domain)| Some((*subject, domain.metadata()?)));
    let allowances = || known().map(|(subject, metadata)| (subject, &metadata.allowance));
    for limit in OF_DOMAIN {
        let value = |limits: &Limits| value(limit, limits);
        filling.of_domains(&limit.metric, each(domains, |domain| value(&domain.metadata()?.allowance.limits)));
    }
    let affinity = |(subject, allowance): (SubjectId, &Allowance)| {
        let sample = move |(vcpu, cpus): (&u32, &u32)| {
            (subject, vec![("vcpu", vcpu.to_string().into())], Value::Unsigned(u64::from(*cpus)))
        };
        allowance.vcpus.iter().map(sample).collect::<Vec<_>>()
    };
    filling.add(&VCPU_AFFINITY, allowances().flat_map(affinity));
    filling.of_domains(&HUGEPAGES, each(domains, |domain| Some(boolean(domain.metadata()?.allowance.hugepages))));
    let sizes = allowances().flat_map(|(subject, allowance)| {
        let sizes = allowance.hugepage_sizes.iter();
        sizes.map(move |(nodes, size)| {
            (subject, vec![("nodeset", Cow::Borrowed(nodes.as_str()))], Value::Unsigned(*size))
        })
    });
    filling.add(&HUGEPAGE_SIZE, sizes);
    let devices: Vec<Limited<'_>> = allowances()
        .flat_map(|(subject, allowance)| {
            allowance.devices.iter().map(move |(path, limits)| (subject, path.as_str(), limits))
        })
        .collect();
    fill_each(filling, OF_HOST_DEVICE, "path", &devices);
    let disks: Vec<(SubjectId, &Disk)> =
        known().flat_map(|(subject, metadata)| metadata.disks.iter().map(move |disk| (subject, disk))).collect();
    let throttles: Vec<Limited<'_>> =
        disks.iter().map(|(subject, disk)| (*subject, disk.device.as_str(), &disk.throttles)).collect();
    fill_each(filling, OF_DISK, "device", &throttles);
    let groups =
        disks.iter().filter(|(_, disk)| !disk.throttle_group.is_empty()).map(|(subject, disk)| -> Filled<'_> {
            let device = ("device", Cow::Borrowed(disk.device.as_str()));
            (*subject, vec![device, ("throttle_group", Cow::Borrowed(&disk.throttle_group))], Value::Unsigned(1))
        });
    filling.add(&THROTTLE_INFO, groups);
    let interfaces: Vec<Limited<'_>> = known()
        .flat_map(|(subject, metadata)| {
            devices_of_host(&metadata.interfaces)
                .map(move |interface| (subject, interface.device.as_str(), &interface.bandwidth))
        })
        .collect();
    fill_each(filling, OF_INTERFACE, "interface", &interfaces);
}

/// The interfaces that have a device on the host, each device once.
pub(super) fn devices_of_host(interfaces: &[Interface]) -> impl Iterator<Item = &Interface> {
    let mut seen = HashSet::new();
    interfaces.iter().filter(move |interface| !interface.device.is_empty() && seen.insert(&interface.device))
}

fn fill_each(filling: &mut Filling<'_>, limits: &'static [Limit], label: &'static str, things: &[Limited<'_>]) {
    for limit in limits {
        let limited = things.iter().filter_map(|(subject, name, limits)| -> Option<Filled<'_>> {
            Some((*subject, vec![(label, Cow::Borrowed(*name))], value(limit, limits)?))
        });
        filling.add(&limit.metric, limited);
    }
}

/// The value of a limit in the unit of its metric.
fn value(limit: &Limit, limits: &Limits) -> Option<Value> {
    scaled(ParamValue::ULLong(limits.get(limit.name)?), limit.metric.row.scale)
}
