//! `guest.*`: what a guest says of itself through its agent (`virDomainGetGuestInfo`, `virDomainGetTime`), under libvirt's names.

use super::Group;
use super::group::GroupInfo;
use super::kind::{Origin, Subject};
use super::row::{BYTES, NONE, NUMBER, Row, SECONDS, Scope, Table, of};

pub(super) const GROUP: GroupInfo = GroupInfo {
    name: "guest",
    help: "What guests with a connected agent say of themselves: file systems, load, users, operating system, clock; needs a read-write connection",
    default: false,
    prefix: "guest",
    table: TABLE,
    ..GroupInfo::USUAL
};

#[rustfmt::skip]
const TABLE: Table = Table {
    group: Some(Group::Guest),
    subject: Subject::Domain,
    origin: Origin::Guest,
    // It is asked of those that run.
    active_only: false,
    scopes: &[Scope { prefix: "guest.fs.<n>", label: "mountpoint", named_by: Some("guest.fs.<n>.mountpoint") }],
    rows: &[
        Row::gauge(&["guest.fs.<n>.total-bytes"], "libvirt_domain_guest_filesystem_size_bytes", BYTES, ("libvirt.domain.guest.filesystem.size", NONE),
            "Size of a file system of the guest, as it reports"),
        Row::gauge(&["guest.fs.<n>.used-bytes"], "libvirt_domain_guest_filesystem_used_bytes", BYTES, ("libvirt.domain.guest.filesystem.used", NONE),
            "How much of it is used, as the guest reports"),
        Row::info(&["guest.fs.<n>.name", "guest.fs.<n>.fstype", "guest.fs.<n>.disks"], &["guest_device", "fstype", "device"], "libvirt_domain_guest_filesystem_info", ("libvirt.domain.guest.filesystem.info", NONE),
            "A file system of the guest: its device and type there, and the disks of the domain that it is on, parted by commas"),
        Row::gauge(&["guest.load.1m"], "libvirt_domain_guest_load1", NUMBER, ("libvirt.domain.guest.load.1m", NONE),
            "Load of the guest over one minute, as it reports; libvirt 11.2 or later"),
        Row::gauge(&["guest.load.5m"], "libvirt_domain_guest_load5", NUMBER, ("libvirt.domain.guest.load.5m", NONE),
            "Load of the guest over five minutes"),
        Row::gauge(&["guest.load.15m"], "libvirt_domain_guest_load15", NUMBER, ("libvirt.domain.guest.load.15m", NONE),
            "Load of the guest over fifteen minutes"),
        Row::gauge(&["guest.user.count"], "libvirt_domain_guest_users", of("user"), ("libvirt.domain.guest.user.count", NONE),
            "Users that are logged in to the guest, as it reports"),
        Row::info(&["guest.hostname", "guest.os.id", "guest.os.pretty-name", "guest.os.version-id", "guest.os.kernel-release", "guest.os.machine", "guest.timezone.name"],
            &["hostname", "os_id", "os_name", "os_version", "kernel", "arch", "timezone"], "libvirt_domain_guest_info", ("libvirt.domain.guest.info", NONE),
            "What the guest calls itself, and its operating system"),
        Row::gauge(&["guest.timezone.offset"], "libvirt_domain_guest_timezone_offset_seconds", SECONDS, ("libvirt.domain.guest.timezone.offset", NONE),
            "How far the guest's time zone is ahead of UTC"),
        Row::gauge(&["guest.clock_offset"], "libvirt_domain_guest_clock_offset_seconds", SECONDS, ("libvirt.domain.guest.clock.offset", NONE),
            "How far the guest's clock is ahead of the exporter's; exact to the time that the guest takes to answer"),
    ],
};
