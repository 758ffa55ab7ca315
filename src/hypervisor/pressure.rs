//! What the control group of a domain (version 2) says of pressure, throttling, memory and I/O. Files that the kernel does not
//! have, or for which the host has no controller, add nothing.

use std::fs;
use std::path::Path;

use crate::libvirt::{ParamValue, Records};

/// Nanoseconds, which the keys have, in the microseconds of the files.
const MICROS: u64 = 1000;

/// Adds what the files in `folder` say to the domain that was started last in `records`.
pub(super) fn append(folder: &Path, records: &mut Records) {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
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
    let cpu = read("cpu.stat");
    push("pressure.cpu.periods", value(&cpu, "nr_periods"));
    push("pressure.cpu.throttled_periods", value(&cpu, "nr_throttled"));
    push("pressure.cpu.throttled", value(&cpu, "throttled_usec").map(|micros| micros * MICROS));
    push("pressure.memory.current", read("memory.current").trim().parse().ok());
    push("pressure.memory.peak", read("memory.peak").trim().parse().ok());
    let events = read("memory.events");
    for event in ["high", "max", "oom", "oom_kill"] {
        push(&format!("pressure.memory.events.{event}"), value(&events, event));
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

    fn params(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).expect("written"));
        let mut records = Records::default();
        records.push_domain("x", Uuid::nil(), Some(1));
        append(folder.path(), &mut records);
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
}
