//! What the control groups of a domain say of pressure, throttling, memory and I/O. Files that the kernel does not have, or for which
//! the host has no controller, add nothing. Version 1 has throttling and memory only.

use std::fs::{self, File};
use std::io::{self, Read};
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
    let read_memory_v1 = |name: &str| read_in(&groups.memory, name);
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
    let bytes = |v2: &str, v1: &str| number(read(v2)).or_else(|| number(read_memory_v1(v1)));
    push("pressure.memory.current", bytes("memory.current", "memory.usage_in_bytes"));
    push("pressure.memory.peak", bytes("memory.peak", "memory.max_usage_in_bytes"));
    let events = read("memory.events");
    // Version 1 counts both only in the group in which they happen (`failcnt` in mm/page_counter.c, `oom_kill` of
    // `mem_cgroup_oom_control_read` in mm/memcontrol-v1.c).
    let v1_event = |event| match event {
        "max" => number(read_memory_v1("memory.failcnt")),
        "oom_kill" => value(&read_memory_v1("memory.oom_control"), event),
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

/// The files of a group that are about its CPU quota (`cpu_legacy_files` and `cpu_files` in kernel/sched/core.c).
struct QuotaFiles {
    quota: &'static str,
    /// What begins the file without a quota.
    unlimited: &'static str,
    /// The time throttled in `cpu.stat`, and its unit.
    time: (&'static str, u64),
}

const V1: QuotaFiles = QuotaFiles { quota: "cpu.cfs_quota_us", unlimited: "-1", time: ("throttled_time", 1) };
const V2: QuotaFiles = QuotaFiles { quota: "cpu.max", unlimited: "max", time: ("throttled_usec", MICROS) };

/// A controller is in one version: where the domain has a group of version 1 for it, version 2 does not have it.
fn throttling(groups: &Groups) -> Option<Throttling> {
    match &groups.cpu {
        Some(folder) => V1.added_up(folder),
        None => V2.added_up(groups.unified.as_ref()?),
    }
}

impl QuotaFiles {
    /// The sum over the domain's group and those groups below it that have a quota: libvirt gives a quota of vCPUs to the group of each
    /// vCPU, and the kernel does not count in a group what quotas below it take. `None` where no group can have a quota.
    ///
    /// A vCPU that is unplugged, and a quota that is taken away, take their part along, and a quota that is set again brings its part
    /// back. Prometheus takes the first for a reset of the counter and counts what is left, or what came back, as an increase: one
    /// window shows too much.
    fn added_up(&self, domain: &Path) -> Option<Throttling> {
        let (mut all, mut text, mut folder) = (Throttling::default(), String::new(), domain.to_owned());
        let mut can_have_quota = self.add(&mut folder, &mut text, &mut all).ok()?;
        folder.push(NESTED);
        if folder.is_dir() {
            can_have_quota |= self.add(&mut folder, &mut text, &mut all).ok()?;
        } else {
            folder.pop();
        }
        for entry in fs::read_dir(&folder).ok()? {
            let entry = entry.ok()?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folder.push(entry.file_name());
                can_have_quota |= self.add(&mut folder, &mut text, &mut all).ok()?;
                folder.pop();
            }
        }
        can_have_quota.then_some(all)
    }

    /// Adds the group in `folder` if it has a quota, and says whether it can have one. The `cpu.stat` of others is left alone: the
    /// kernel takes locks to make it.
    ///
    /// # Errors
    /// If a file is there and cannot be read. Without this part the sum would look like a counter that was reset.
    fn add(&self, folder: &mut PathBuf, text: &mut String, all: &mut Throttling) -> io::Result<bool> {
        match read_into(text, folder, self.quota) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read?,
        }
        if !text.starts_with(self.unlimited) {
            read_into(text, folder, "cpu.stat")?;
            let number = |name| value(text, name).ok_or(io::ErrorKind::InvalidData);
            let (time, unit) = self.time;
            all.periods += number("nr_periods")?;
            all.throttled_periods += number("nr_throttled")?;
            all.nanos += number(time)? * unit;
        }
        Ok(true)
    }
}

/// Reads a file of `folder` into `text`, instead of what is there.
fn read_into(text: &mut String, folder: &mut PathBuf, name: &str) -> io::Result<()> {
    text.clear();
    folder.push(name);
    let file = File::open(folder.as_path());
    folder.pop();
    file?.read_to_string(text).map(drop)
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
            ("cpu.max", "50000 100000\n"),
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
    fn only_groups_with_a_quota_are_added_up() {
        let stat = |periods| format!("usage_usec 9\nnr_periods {periods}\nnr_throttled 3\nthrottled_usec 250\n");
        let [domain, vcpu, other] = [1, 7, 100].map(stat);
        let (quota, none) = ("5000 100000\n", "max 100000\n");
        // Newer libvirt has all groups below another one, which then has the quota of the whole domain.
        for below in ["", "libvirt/"] {
            let files = |limited: &str, vcpu1: &str| {
                let parts = [("", limited, &domain), ("vcpu0/", quota, &vcpu), ("emulator/", none, &other)];
                let files = parts.into_iter().chain([("vcpu1/", vcpu1, &vcpu), ("iothread1/", none, &other)]);
                let files = files.flat_map(|(part, max, stat)| {
                    [
                        (format!("{below}{part}cpu.max"), max.to_owned()),
                        (format!("{below}{part}cpu.stat"), stat.clone()),
                    ]
                });
                files.collect::<Vec<_>>()
            };
            let found = |limited, vcpu1| {
                let mut files = files(limited, vcpu1);
                if !below.is_empty() {
                    files.extend([("cpu.max".to_owned(), none.to_owned()), ("cpu.stat".to_owned(), other.clone())]);
                }
                let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
                throttled(&params(&files)).join(" ")
            };
            assert_eq!(found(none, quota), "14 6 500000", "{below:?}");
            assert_eq!(found(quota, quota), "15 9 750000", "{below:?}: also of the whole domain");
            assert_eq!(found(quota, none), "8 6 500000", "{below:?}: one was taken away");
        }
    }

    #[test]
    fn a_part_that_cannot_be_read_makes_no_sum_that_is_too_small() {
        let stat = "nr_periods 7\nnr_throttled 3\nthrottled_usec 250\n";
        let whole = [("cpu.max", "max 100000\n"), ("vcpu0/cpu.max", "5000 100000\n"), ("vcpu0/cpu.stat", stat)];
        assert_eq!(throttled(&params(&whole)), ["7", "3", "250000"]);
        for broken in [("vcpu1/cpu.max", "5000 100000\n"), ("vcpu1/cpu.stat", stat)] {
            let found = params(&[&whole[..], &[broken]].concat());
            let sum: &[&str] = if broken.0.ends_with("max") { &[] } else { &["7", "3", "250000"] };
            assert_eq!(throttled(&found), sum, "{broken:?}");
        }
        // A folder can be opened, but not be read as a file.
        let unreadable = [("cpu.max", "max 100000\n"), ("vcpu0/cpu.max/file", ""), ("vcpu0/cpu.stat", stat)];
        assert!(throttled(&params(&unreadable)).is_empty(), "whether it has a quota");
        let unlimited = params(&[("cpu.max", "max 100000\n"), ("cpu.stat", stat)]);
        assert_eq!(throttled(&unlimited), ["0"; 3], "a quota that is set later begins here");
        assert!(throttled(&params(&[("cpu.stat", stat)])).is_empty(), "a kernel without quotas");
    }

    #[test]
    fn version_one_has_throttling_and_memory() {
        let files = [
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("cpu/cpu.stat", "nr_periods 9\nnr_throttled 9\nthrottled_time 9\n"),
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
