//! Families from the domains' definitions, and from what libvirt keeps about the domains beside them.

use std::borrow::Cow;

use super::{Shown, TopPaths, each};
use crate::domains::{Disk, Flags, Interface, Metadata};
use crate::libvirt::Messages;
use crate::metrics::fill::{Filling, Labels, boolean, count, unix_seconds};
use crate::metrics::{Started, SubjectId, Value};
use crate::tables::Metric;
use crate::tables::definition::{
    AGENT_CONNECTED, AUTOSTART, BLOCK_INFO, HAS_CHECKPOINTS, HAS_SNAPSHOTS, INFO, INTERFACE_INFO, LINK_UP,
    MANAGED_SAVE, MESSAGES, PERSISTENT, START_TIME,
};

/// `images` are the paths of the top images and `starts` the incarnations according to the records of the same collection: one that is shut off in its
/// record has no start, though the event that says so is yet to come.
pub(super) fn fill(
    filling: &mut Filling<'_>,
    domains: &[Shown<'_>],
    images: &TopPaths<'_>,
    starts: &[(SubjectId, Started)],
) {
    let known = || domains.iter().filter_map(|(subject, domain)| Some((*subject, domain.metadata()?)));
    filling.add(&INFO, known().map(|(subject, metadata)| (subject, info(metadata), Value::Unsigned(1))));
    let disks = domains.iter().filter_map(|(subject, domain)| Some((*subject, domain, &domain.metadata()?.disks)));
    let disks = disks.flat_map(|(subject, domain, disks)| disks.iter().map(move |disk| (subject, domain, disk)));
    let infos = disks.map(|(subject, domain, disk)| {
        let image = images.get(&(domain.identity.uuid, &*disk.device)).copied();
        (subject, block_info(disk, image), Value::Unsigned(1))
    });
    filling.add(&BLOCK_INFO, infos);
    let interfaces = || {
        known().flat_map(|(subject, metadata)| metadata.interfaces.iter().map(move |interface| (subject, interface)))
    };
    let infos = interfaces().map(|(subject, interface)| (subject, interface_info(interface), Value::Unsigned(1)));
    filling.add(&INTERFACE_INFO, infos);
    let links = interfaces().map(|(subject, interface)| {
        let labels = vec![("interface", Cow::Borrowed(&*interface.device)), ("mac", Cow::Borrowed(&*interface.mac))];
        (subject, labels, boolean(interface.link_up))
    });
    filling.add(&LINK_UP, links);
    let flag = |filling: &mut Filling<'_>, row: &'static Metric, read: fn(&Flags) -> bool| {
        filling.of_domains(row, each(domains, |domain| domain.flags.as_ref().map(read).map(boolean)));
    };
    flag(filling, &AUTOSTART, |flags| flags.autostart);
    flag(filling, &PERSISTENT, |flags| flags.persistent);
    flag(filling, &MANAGED_SAVE, |flags| flags.managed_save);
    flag(filling, &HAS_SNAPSHOTS, |flags| flags.has_snapshots);
    flag(filling, &HAS_CHECKPOINTS, |flags| flags.has_checkpoints);
    filling.of_domains(&AGENT_CONNECTED, each(domains, |domain| domain.agent_connected.map(boolean)));
    let messages = known().filter_map(|(subject, metadata)| Some((subject, metadata.messages?)));
    let messages = messages.flat_map(|(subject, Messages { deprecation, tainting })| {
        [("deprecation", deprecation), ("tainting", tainting)]
            .map(|(kind, number)| (subject, vec![("kind", Cow::Borrowed(kind))], count(number)))
    });
    filling.add(&MESSAGES, messages);
    filling.of_domains(
        &START_TIME,
        starts.iter().filter_map(|(subject, started)| Some((*subject, unix_seconds(started.process?)))),
    );
}

fn info(metadata: &Metadata) -> Labels<'_> {
    let of_itself = [
        ("title", &metadata.title),
        ("os_type", &metadata.os_type),
        ("arch", &metadata.arch),
        ("machine", &metadata.machine),
        ("os", &metadata.os),
        ("emulator", &metadata.emulator),
    ];
    let more = metadata.labels.iter().map(|(name, value)| (name.as_str(), value));
    of_itself.into_iter().chain(more).map(|(name, value)| (name, Cow::Borrowed(value.as_str()))).collect()
}

/// The disk as its definition says, but for a path that its record contradicts: the record is newer. The format of the image
/// that it names is known once the definition has been read again.
fn block_info<'v>(disk: &'v Disk, image: Option<&'v str>) -> Labels<'v> {
    let is_path = disk.is_local();
    let newer = image.filter(|image| is_path && *image != disk.source);
    let driver_type = if newer.is_none() { disk.driver_type.as_str() } else { "" };
    vec![
        ("device", Cow::Borrowed(&disk.device)),
        ("device_type", Cow::Borrowed(&disk.kind)),
        ("disk_type", Cow::Borrowed(&disk.source_type)),
        ("bus", Cow::Borrowed(&disk.bus)),
        (if is_path { "path" } else { "source" }, Cow::Borrowed(newer.unwrap_or(&disk.source))),
        ("driver", Cow::Borrowed(&disk.driver)),
        ("driver_type", Cow::Borrowed(driver_type)),
        ("cache", Cow::Borrowed(&disk.cache)),
        ("discard", Cow::Borrowed(&disk.discard)),
        ("serial", Cow::Borrowed(&disk.serial)),
        ("alias", Cow::Borrowed(&disk.alias)),
        ("readonly", Cow::Borrowed(if disk.readonly { "true" } else { "false" })),
    ]
}

fn interface_info(interface: &Interface) -> Labels<'_> {
    vec![
        ("interface", Cow::Borrowed(&interface.device)),
        ("mac", Cow::Borrowed(&interface.mac)),
        ("model", Cow::Borrowed(&interface.model)),
        ("interface_type", Cow::Borrowed(&interface.kind)),
        ("network", Cow::Borrowed(&interface.network)),
        ("portgroup", Cow::Borrowed(&interface.portgroup)),
        ("bridge", Cow::Borrowed(&interface.bridge)),
        ("source", Cow::Borrowed(&interface.source)),
        ("mtu", interface.mtu.map_or_else(Cow::default, |mtu| mtu.to_string().into())),
        ("alias", Cow::Borrowed(&interface.alias)),
        ("ovs_port_id", Cow::Borrowed(&interface.ovs_port_id)),
        ("filter", Cow::Borrowed(&interface.filter)),
    ]
}
