//! What the control groups of a domain say of pressure, throttling, memory and I/O. Files that the kernel does not have, or for which
//! the host has no controller, add nothing. Version 1 has throttling and memory only.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{Groups, NESTED};
use crate::libvirt::{ParamValue, Records};

/// Nanoseconds, which the keys have, in the microseconds of the files.
const MICROS: u64 = 1000;

/// Adds what the files of `groups` say to the domain that was started last in `records`.
pub(super) fn append(groups: &Groups, records: &mut Records) {
    let read_in = |folder: &Option<PathBuf>, name: &str| {
        folder.as_ref().and_then(|folder| fs::read_to_string(folder.join(name)).ok()).unwrap_or_default()
    };
    let read = |name: &str| read_in(&groups.unified, name);
    let read_v1 = |name: &str| read_in(&groups.memory, name);
    let mut push = |key: &str, value: Option<u64>| {
        if let Some(value) = value {
            records.push(key, ParamValue::ULLong(value));
        }
    };
    for resource in ["cpu", "memory", "io"] {
        let text = read(&format!("{resource}.pressure"));
        for kind in ["some", "full"] {
            push(&format!("pressure.{resource}.{kind}"), total(&text, kind));
        }
    }
    let throttling = throttling(groups);
    push("pressure.cpu.periods", throttling.map(|all| all.periods));
    push("pressure.cpu.throttled_periods", throttling.map(|all| all.throttled_periods));
    push("pressure.cpu.throttled", throttling.map(|all| all.nanos));
    let number = |text: String| text.trim().parse().ok();
    let bytes = |v2: &str, v1: &str| number(read(v2)).or_else(|| number(read_v1(v1)));
    push("pressure.memory.current", bytes("memory.current", "memory.usage_in_bytes"));
    push("pressure.memory.peak", bytes("memory.peak", "memory.max_usage_in_bytes"));
    let events = read("memory.events");
    let v1_event = |event| match event {
        "max" => number(read_v1("memory.failcnt")),
        "oom_kill" => value(&read_v1("memory.oom_control"), event),
        _ => None,
    };
    for event in ["high", "max", "oom", "oom_kill"] {
        push(&format!("pressure.memory.events.{event}"), value(&events, event).or_else(|| v1_event(event)));
    }
    for (number, line) in read("io.stat").lines().enumerate() {
        let mut words = line.split(' ');
        let Some(device) = words.next().filter(|device| device.contains(':')) else { continue };
        records.push(&format!("pressure.io.{number}.name"), ParamValue::String(&name_of(device)));
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            if let (true, Ok(value)) = (["rbytes", "wbytes", "rios", "wios"].contains(&name), value.parse()) {
                records.push(&format!("pressure.io.{number}.{name}"), ParamValue::ULLong(value));
            }
        }
    }
}

/// What CPU quotas took from a domain.
#[derive(Debug, Default, Clone, Copy)]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    nanos: u64,
}

/// The files of a group that are about its CPU quota.
struct QuotaFiles {
    quota: &'static str,
    /// What begins the file without a quota.
    unlimited: &'static str,
    /// The time throttled in `cpu.stat`, and its unit.
    time: (&'static str, u64),
}

const V1: QuotaFiles = QuotaFiles { quota: "cpu.cfs_quota_us", unlimited: "-1", time: ("throttled_time", 1) };
const V2: QuotaFiles = QuotaFiles { quota: "cpu.max", unlimited: "max", time: ("throttled_usec", MICROS) };

fn throttling(groups: &Groups) -> Option<Throttling> {
    let v2 = groups.unified.as_deref().and_then(|folder| V2.added_up(folder));
    v2.or_else(|| groups.cpu.as_deref().and_then(|folder| V1.added_up(folder)))
}

impl QuotaFiles {
    /// Of the domain's group and of those below it: libvirt gives a quota of vCPUs to the group of each vCPU, and the kernel does not
    /// count in a group what quotas below it take. A vCPU that is unplugged takes its part along.
    fn added_up(&self, domain: &Path) -> Option<Throttling> {
        let mut all = self.of_group(domain)?;
        let nested = domain.join(NESTED);
        let parts = if nested.is_dir() { parts(&nested).into_iter().chain([nested]).collect() } else { parts(domain) };
        let limited = parts.iter().filter(|part| self.has_quota(part));
        for part in limited.filter_map(|part| self.of_group(part)) {
            all.periods += part.periods;
            all.throttled_periods += part.throttled_periods;
            all.nanos += part.nanos;
        }
        Some(all)
    }

    fn has_quota(&self, group: &Path) -> bool {
        fs::read_to_string(group.join(self.quota)).is_ok_and(|text| !text.starts_with(self.unlimited))
    }

    fn of_group(&self, group: &Path) -> Option<Throttling> {
        let stat = fs::read_to_string(group.join("cpu.stat")).ok()?;
        let (time, unit) = self.time;
        Some(Throttling {
            periods: value(&stat, "nr_periods")?,
            throttled_periods: value(&stat, "nr_throttled")?,
            nanos: value(&stat, time)? * unit,
        })
    }
}

/// The groups of a domain's vCPUs, I/O threads, and QEMU's own threads.
fn parts(folder: &Path) -> Vec<PathBuf> {
    let is_part = |name: &str| ["vcpu", "iothread", "emulator"].iter().any(|kind| name.starts_with(kind));
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_part)).map(|entry| entry.path()).collect()
}

/// The number behind `name` in a file of lines `name number`.
pub(super) fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The nanoseconds of a line `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn total(text: &str, kind: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let total = line.split(' ').find_map(|word| word.strip_prefix("total="))?;
    Some(total.parse::<u64>().ok()? * MICROS)
}

/// What the kernel calls a device with these numbers, or the numbers.
fn name_of(numbers: &str) -> String {
    let link = fs::read_link(format!("/sys/dev/block/{numbers}")).ok();
    let name = link.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    name.unwrap_or(numbers).to_owned()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// Of files of version 2.
    fn params(files: &[(&str, &str)]) -> Vec<(String, String)> {
        params_of(files, |folder| Groups { unified: Some(folder.to_owned()), ..Groups::default() })
    }

    fn params_of(files: &[(&str, &str)], groups: impl Fn(&Path) -> Groups) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let mut records = Records::default();
        records.push_domain("x", Uuid::nil(), Some(1));
        append(&groups(folder.path()), &mut records);
        let text = |value: ParamValue<'_>| match value {
            ParamValue::ULLong(number) => number.to_string(),
            ParamValue::String(text) => text.to_owned(),
            other => format!("{other:?}"),
        };
        records.domain(0).params().map(|param| (param.key.to_owned(), text(param.value))).collect()
    }

    #[test]
    fn each_file_is_read_and_one_that_is_not_there_adds_nothing() {
        assert_eq!(params(&[]), []);
        let found = params(&[
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.40 avg300=0.10 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
            ),
            ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
            ("io.pressure", "something else\n"),
            ("cpu.stat", "usage_usec 9\nnr_periods 7\nnr_throttled 3\nthrottled_usec 250\nnr_bursts 0\n"),
            ("memory.current", "1048576\n"),
            ("memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n"),
            (
                "io.stat",
                "999999:1 rbytes=4096 wbytes=512 rios=2 wios=1 dbytes=0 dios=0\n\nno device\n999999:2 rbytes=1\n",
            ),
        ]);
        let expected = [
            ("pressure.cpu.some", "1234000"),
            ("pressure.cpu.full", "5000"),
            ("pressure.memory.some", "0"),
            ("pressure.cpu.periods", "7"),
            ("pressure.cpu.throttled_periods", "3"),
            ("pressure.cpu.throttled", "250000"),
            ("pressure.memory.current", "1048576"),
            ("pressure.memory.events.high", "1"),
            ("pressure.memory.events.max", "2"),
            ("pressure.memory.events.oom", "3"),
            ("pressure.memory.events.oom_kill", "4"),
            ("pressure.io.0.name", "999999:1"),
            ("pressure.io.0.rbytes", "4096"),
            ("pressure.io.0.wbytes", "512"),
            ("pressure.io.0.rios", "2"),
            ("pressure.io.0.wios", "1"),
            ("pressure.io.3.name", "999999:2"),
            ("pressure.io.3.rbytes", "1"),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    fn throttled(found: &[(String, String)]) -> Vec<&str> {
        let of = |key: &str| found.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str());
        ["periods", "throttled_periods", "throttled"]
            .iter()
            .filter_map(|key| of(&format!("pressure.cpu.{key}")))
            .collect()
    }

    #[test]
    fn quotas_of_vcpus_are_in_their_own_groups() {
        let stat = |periods| format!("usage_usec 9\nnr_periods {periods}\nnr_throttled 3\nthrottled_usec 250\n");
        let [domain, vcpu, other] = [0, 7, 100].map(stat);
        // Newer libvirt has all groups below another one, which may have the quota of the whole domain.
        for below in ["", "libvirt/"] {
            let file = |name: &str| format!("{below}{name}");
            let names = [
                "vcpu0/cpu.stat",
                "vcpu0/cpu.max",
                "vcpu1/cpu.stat",
                "vcpu1/cpu.max",
                "emulator/cpu.stat",
                "emulator/cpu.max",
            ];
            let names = names.map(file);
            let texts = [&vcpu, "5000 100000\n", &vcpu, "5000 100000\n", &other, "max 100000\n"];
            let mut files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(texts).collect();
            files.push(("cpu.stat", &domain));
            assert_eq!(throttled(&params(&files)), ["14", "9", "750000"], "{below:?}");
        }
        let nested = [("cpu.stat", domain.as_str()), ("libvirt/cpu.stat", &vcpu), ("libvirt/cpu.max", "5000 100000")];
        assert_eq!(throttled(&params(&nested)), ["7", "6", "500000"]);
    }

    #[test]
    fn version_one_has_throttling_and_memory() {
        let files = [
            ("cpu/cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"),
            ("cpu/vcpu0/cpu.stat", "nr_periods 618\nnr_throttled 412\nthrottled_time 14814033394\n"),
            ("cpu/vcpu0/cpu.cfs_quota_us", "5000\n"),
            ("cpu/vcpu1/cpu.stat", "nr_periods 5\nnr_throttled 5\nthrottled_time 5\n"),
            ("cpu/vcpu1/cpu.cfs_quota_us", "-1\n"),
            ("memory/memory.usage_in_bytes", "19349504\n"),
            ("memory/memory.max_usage_in_bytes", "21434368\n"),
            ("memory/memory.failcnt", "2\n"),
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            // Of a host with both: version 2 has the pressure, and no controller.
            ("unified/cpu.stat", "usage_usec 9\n"),
            ("unified/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"),
        ];
        let of = |with_unified: bool| {
            params_of(&files, |folder| Groups {
                unified: with_unified.then(|| folder.join("unified")),
                cpu: Some(folder.join("cpu")),
                memory: Some(folder.join("memory")),
            })
        };
        let expected = [
            ("pressure.cpu.periods", "618"),
            ("pressure.cpu.throttled_periods", "412"),
            ("pressure.cpu.throttled", "14814033394"),
            ("pressure.memory.current", "19349504"),
            ("pressure.memory.peak", "21434368"),
            ("pressure.memory.events.max", "2"),
            ("pressure.memory.events.oom_kill", "1"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(of(false), expected);
        assert_eq!(of(true)[0].0, "pressure.cpu.some");
        assert_eq!(of(true)[1..], expected);
    }
}
