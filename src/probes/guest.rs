//! What a guest reports through its agent.
//!
//! Nothing of it is to be believed: what a guest can make of it is bounded in number and length, and has no control characters.
//! libvirt's own limits of time hold: the one that can be set for an agent would hold for all other clients too, and end the
//! freeze of a backup.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::{Probe, Scope, Session, Subject, WaitsFor, had};
use crate::config::Group;
use crate::domains::count_cpus;
use crate::libvirt::{Access, EventKind, LibvirtError, ParamValue, Records};
use crate::tables::{self, BYTES, NONE, NUMBER, Origin, Row, SECONDS, Table, of};

const EVERY: Duration = Duration::from_secs(60);
/// Ten guests a second, at most.
const PACE: Duration = Duration::from_millis(100);
/// Twice what libvirt waits for an agent that says nothing.
const LIMIT: Duration = Duration::from_secs(10);
/// Most file systems of a guest, and most disks of each.
const MOST_FILESYSTEMS: usize = 64;
const MOST_DISKS: usize = 8;
/// Longest text, in bytes.
const MOST_TEXT: usize = 256;
/// What is taken as it is, under `guest.`.
const PLAIN: [&str; 13] = [
    "hostname",
    "user.count",
    "disk.count",
    "load.1m",
    "load.5m",
    "load.15m",
    "os.id",
    "os.pretty-name",
    "os.version-id",
    "os.kernel-release",
    "os.machine",
    "timezone.name",
    "timezone.offset",
];
/// Likewise of each file system.
const OF_FILESYSTEM: [&str; 5] = ["mountpoint", "name", "fstype", "total-bytes", "used-bytes"];

/// An agent has its own job lock, but the agent of a frozen guest does not answer.
pub(super) const PROBE: Probe = Probe {
    table: Some(&TABLE),
    pace: |_| PACE,
    access: |_| Access::ReadWrite,
    time_limit: |_| LIMIT,
    applies: |domain| domain.agent_connected == Some(true),
    follows: |event| matches!(event, EventKind::AgentLifecycle { connected: true }),
    fetch,
    ..Probe::of_group(Group::Guest, Scope::RunningDomain, WaitsFor::Job, |_| Some(EVERY))
};

/// `guest.*`, under libvirt's names (`virDomainGetGuestInfo`, `virDomainGetGuestVcpus`, `virDomainGetTime`).
#[rustfmt::skip]
static TABLE: Table = Table {
    group: Some(Group::Guest),
    subject: tables::Subject::Domain,
    origin: Origin::Guest,
    // It is asked of those that run.
    active_only: false,
    scopes: &[tables::Scope { prefix: "guest.fs.<n>", label: "mountpoint", named_by: Some("guest.fs.<n>.mountpoint") }],
    rows: &[
        Row::gauge(&["guest.fs.<n>.total-bytes"], "libvirt_domain_guest_filesystem_size_bytes", BYTES, ("libvirt.domain.guest.filesystem.size", NONE),
            "Size of a file system of the guest, as it reports"),
        Row::gauge(&["guest.fs.<n>.used-bytes"], "libvirt_domain_guest_filesystem_used_bytes", BYTES, ("libvirt.domain.guest.filesystem.used", NONE),
            "How much of it is used, as the guest reports"),
        Row::info(&["guest.fs.<n>.name", "guest.fs.<n>.fstype", "guest.fs.<n>.disks"], &["guest_device", "fstype", "device"], "libvirt_domain_guest_filesystem_info", ("libvirt.domain.guest.filesystem.info", NONE),
            "A file system of the guest: its device and type there, and the disks of the domain that it is on, separated by commas"),
        Row::gauge(&["guest.load.1m"], "libvirt_domain_guest_load1", NUMBER, ("libvirt.domain.guest.load.1m", NONE),
            "Load of the guest over one minute, as it reports; libvirt 11.2 or later"),
        Row::gauge(&["guest.load.5m"], "libvirt_domain_guest_load5", NUMBER, ("libvirt.domain.guest.load.5m", NONE),
            "Load of the guest over five minutes"),
        Row::gauge(&["guest.load.15m"], "libvirt_domain_guest_load15", NUMBER, ("libvirt.domain.guest.load.15m", NONE),
            "Load of the guest over fifteen minutes"),
        Row::gauge(&["guest.user.count"], "libvirt_domain_guest_users", of("user"), ("libvirt.domain.guest.user.count", NONE),
            "Users that are logged in to the guest, as it reports"),
        Row::gauge(&["guest.vcpu.count"], "libvirt_domain_guest_vcpus", of("cpu"), ("libvirt.domain.guest.vcpu.count", NONE),
            "vCPUs that the guest's operating system sees, as it reports"),
        Row::gauge(&["guest.vcpu.online"], "libvirt_domain_guest_vcpus_online", of("cpu"), ("libvirt.domain.guest.vcpu.online", NONE),
            "vCPUs that the guest uses, as it reports"),
        Row::gauge(&["guest.disk.count"], "libvirt_domain_guest_disks", of("disk"), ("libvirt.domain.guest.disk.count", NONE),
            "Disks and partitions that the guest's operating system sees, as it reports; libvirt 7.0 or later"),
        Row::info(&["guest.hostname", "guest.os.id", "guest.os.pretty-name", "guest.os.version-id", "guest.os.kernel-release", "guest.os.machine", "guest.timezone.name"],
            &["hostname", "os_id", "os_name", "os_version", "kernel", "arch", "timezone"], "libvirt_domain_guest_info", ("libvirt.domain.guest.info", NONE),
            "Hostname and operating system of the guest, as it reports"),
        Row::gauge(&["guest.timezone.offset"], "libvirt_domain_guest_timezone_offset_seconds", SECONDS, ("libvirt.domain.guest.timezone.offset", NONE),
            "How far the guest's time zone is ahead of UTC"),
        Row::gauge(&["guest.clock_offset"], "libvirt_domain_guest_clock_offset_seconds", SECONDS, ("libvirt.domain.guest.clock.offset", NONE),
            "How far the guest's clock is ahead of the exporter's; exact to the time that the guest takes to answer"),
    ],
};

fn fetch(session: &mut Session, subject: Subject) -> Result<Records, LibvirtError> {
    let mut records = Records::default();
    let Some(uuid) = subject.domain() else { return Ok(records) };
    let (domain, connection) = session.domain(uuid)?;
    let said = domain.guest_info(connection)?;
    let identity = domain.identity();
    records.push_domain(&identity.name, uuid, identity.id);
    copy(&said, &mut records);
    // An agent may not know a question.
    if let Some(vcpus) = had(domain.guest_vcpus(connection))? {
        count_vcpus(&vcpus, &mut records);
    }
    let asked = SystemTime::now();
    if let Some(time) = had(domain.guest_time(connection))? {
        // It was read between the question and the answer.
        let ours = asked + asked.elapsed().unwrap_or_default() / 2;
        records.push("guest.clock_offset", ParamValue::Double(seconds_between(ours, time)));
    }
    Ok(records)
}

/// How many vCPUs the guest has, and how many of them it uses.
fn count_vcpus(said: &Records, records: &mut Records) {
    for param in said.domain(0).params() {
        let ParamValue::String(list) = param.value else { continue };
        let Some(count) = count_cpus(list).map(ParamValue::UInt) else { continue };
        match param.key {
            "vcpus" => records.push("guest.vcpu.count", count),
            "online" => records.push("guest.vcpu.online", count),
            _ => {}
        }
    }
}

/// How far `later` is ahead of `earlier`, which may be negative.
fn seconds_between(earlier: SystemTime, later: SystemTime) -> f64 {
    let ahead = later.duration_since(earlier);
    ahead.map_or_else(|behind| -behind.duration().as_secs_f64(), |ahead| ahead.as_secs_f64())
}

/// Takes what there is a use for.
fn copy(said: &Records, records: &mut Records) {
    let mut disks: Vec<(usize, String)> = Vec::new();
    for param in said.domain(0).params() {
        let taken = match param.key.strip_prefix("fs.").and_then(|rest| rest.split_once('.')) {
            None => PLAIN.contains(&param.key),
            Some((number, field)) => {
                let Some(number) = number.parse().ok().filter(|number| *number < MOST_FILESYSTEMS) else { continue };
                if let (Some(place), ParamValue::String(alias)) = (disk_alias(field), param.value) {
                    if place < MOST_DISKS {
                        disks.push((number, plain(alias)));
                    }
                    continue;
                }
                OF_FILESYSTEM.contains(&field)
            }
        };
        if taken {
            let key = format!("guest.{}", param.key);
            match param.value {
                ParamValue::String(text) => records.push(&key, ParamValue::String(&plain(text))),
                value => records.push(&key, value),
            }
        }
    }
    push_disks(disks, records);
}

/// The disks of each file system, parted by commas.
fn push_disks(mut disks: Vec<(usize, String)>, records: &mut Records) {
    disks.sort();
    for of_one in disks.chunk_by(|(a, _), (b, _)| a == b) {
        let mut names = String::new();
        for (_, alias) in of_one {
            let comma = if names.is_empty() { "" } else { "," };
            let _infallible = write!(names, "{comma}{alias}");
        }
        records.push(&format!("guest.fs.{}.disks", of_one[0].0), ParamValue::String(&names));
    }
}

/// The number of the disk of a file system whose alias it is: `disk.0.alias`.
fn disk_alias(field: &str) -> Option<usize> {
    field.strip_prefix("disk.")?.strip_suffix(".alias")?.parse().ok()
}

/// The beginning of a text, each control character replaced.
fn plain(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(MOST_TEXT)];
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn copied(said: &[(&str, ParamValue<'_>)]) -> Vec<(String, String)> {
        let (mut raw, mut records) = (Records::default(), Records::default());
        raw.push_domain("", Uuid::nil(), None);
        said.iter().for_each(|(key, value)| raw.push(key, *value));
        records.push_domain("guest", Uuid::nil(), Some(1));
        copy(&raw, &mut records);
        records.domain(0).params().map(|param| (param.key.to_owned(), format!("{:?}", param.value))).collect()
    }

    #[test]
    fn what_is_of_use_is_taken_and_bounded() {
        let long = "ä".repeat(200);
        let said = [
            ("hostname", ParamValue::String("in\u{1b}[31mside\n")),
            ("os.pretty-name", ParamValue::String(&long)),
            ("os.variant", ParamValue::String("of no use")),
            ("user.count", ParamValue::UInt(2)),
            ("user.0.name", ParamValue::String("root")),
            ("fs.count", ParamValue::UInt(99)),
            ("fs.0.mountpoint", ParamValue::String("/")),
            ("fs.0.used-bytes", ParamValue::ULLong(7)),
            ("fs.0.disk.count", ParamValue::UInt(2)),
            ("fs.0.disk.1.alias", ParamValue::String("vdb")),
            ("fs.0.disk.0.alias", ParamValue::String("vda")),
            ("fs.0.disk.0.serial", ParamValue::String("x")),
            ("fs.64.mountpoint", ParamValue::String("/one/too/many")),
            ("fs.x.mountpoint", ParamValue::String("/odd")),
            ("fs.0.disk.9.alias", ParamValue::String("vdz")),
        ];
        let expected = [
            ("guest.hostname", "String(\"in\u{fffd}[31mside\u{fffd}\")".to_owned()),
            ("guest.os.pretty-name", format!("String(\"{}\")", "ä".repeat(128))),
            ("guest.user.count", "UInt(2)".to_owned()),
            ("guest.fs.0.mountpoint", "String(\"/\")".to_owned()),
            ("guest.fs.0.used-bytes", "ULLong(7)".to_owned()),
            ("guest.fs.0.disks", "String(\"vda,vdb\")".to_owned()),
        ];
        assert_eq!(copied(&said), expected.map(|(key, value)| (key.to_owned(), value)));
    }

    #[test]
    fn the_vcpus_of_a_guest_are_counted() {
        let (mut said, mut records) = (Records::default(), Records::default());
        said.push_domain("", Uuid::nil(), None);
        [("vcpus", "0-3"), ("online", "0-2"), ("offlinable", "1-3")]
            .into_iter()
            .for_each(|(key, list)| said.push(key, ParamValue::String(list)));
        records.push_domain("guest", Uuid::nil(), Some(1));
        count_vcpus(&said, &mut records);
        let params: Vec<_> = records.domain(0).params().map(|param| (param.key, param.value)).collect();
        assert_eq!(params, [("guest.vcpu.count", ParamValue::UInt(4)), ("guest.vcpu.online", ParamValue::UInt(3))]);
    }

    #[test]
    fn a_clock_may_be_ahead_or_behind() {
        let now = SystemTime::now();
        assert_eq!(seconds_between(now, now + Duration::from_secs(3)), 3.0);
        assert_eq!(seconds_between(now + Duration::from_millis(1500), now), -1.5);
    }
}
