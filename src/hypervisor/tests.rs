//! Whose files are believed, and for how long.

use std::io::Read;
use std::process::{Command, Stdio};

use super::*;

/// A record of the domain as libvirt would have it.
fn record(uuid: Uuid, reading: &Reading, groups: StatsGroups) -> Records {
    let mut records = Records::default();
    records.push_domain("x", uuid, Some(1));
    let constants = Constants { vcpus: Some(4), zeros: vec!["cpu.cache.monitor.count".to_owned()] };
    append(reading, None, &constants, groups, &mut records);
    records
}

#[test]
fn what_was_agreed_on_stays_while_more_is_compared() {
    // A process with one thread, which has the name of a vCPU's.
    let script = "echo 'CPU 0/KVM' >/proc/$$/comm && echo && read -r line";
    let mut shell = Command::new("sh");
    let mut process = shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    process.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("it has the name");
    let (host, uuid) = (HostFiles::default(), Uuid::from_u128(7));
    let by_uuid = HashMap::from([(uuid, vec![i32::try_from(process.id()).expect("a pid")])]);
    *host.processes.lock() = Processes { at: Some(Instant::now()), by_uuid, mounts: Mounts::read() };
    let before = |groups| match host.source_of(uuid, groups, true) {
        Source::Both(before) => before,
        source => panic!("{source:?}"),
    };
    let completed = |groups| {
        let mut records = Records::default();
        records.push_domain("x", uuid, Some(1));
        host.complete(uuid, Some(1), groups, &mut records);
        let record = records.domain(0);
        let keys: Vec<String> = record.params().map(|param| param.key.to_owned()).collect();
        (record.elsewhere, keys)
    };
    let compare = |groups, before: &Before| {
        host.compare(&record(uuid, &before.0, groups).domain(0), groups, before);
    };
    // One collection takes its vCPUs from libvirt.
    compare(StatsGroups::CPU_TOTAL, &before(StatsGroups::CPU_TOTAL));
    assert!(matches!(host.source_of(uuid, StatsGroups::CPU_TOTAL, true), Source::Host));
    // Another one, beside it, does not.
    let both = before(GROUPS);
    let (elsewhere, keys) = completed(StatsGroups::CPU_TOTAL);
    assert_eq!((elsewhere, keys.last().map(String::as_str)), (StatsGroups::CPU_TOTAL, Some("cpu.cache.monitor.count")));
    compare(GROUPS, &both);
    let (elsewhere, keys) = completed(GROUPS);
    assert!(elsewhere == GROUPS && keys.iter().any(|key| key == "vcpu.maximum"), "{keys:?}");
    process.kill().and_then(|()| process.wait()).expect("it ends");
    assert_eq!(completed(GROUPS).0, StatsGroups::NONE, "and not when it is gone");
}

#[test]
fn each_doubt_in_a_row_lasts_longer() {
    let first = Pause::after(None);
    assert_eq!((first.lasts, first.is_over()), (FIRST_DOUBT, false), "a QEMU that is being started has no files yet");
    let doubts = std::iter::successors(Some(first), |last| Some(Pause::after(Some(*last))));
    let last = doubts.take(20).last().map(|pause| pause.lasts);
    assert_eq!(last, Some(LONGEST_DOUBT));
}

#[test]
fn a_domain_without_a_process_is_looked_for_again_soon() {
    let (host, uuid) = (HostFiles::default(), Uuid::from_u128(7));
    for _ in 0..3 {
        assert!(matches!(host.source_of(uuid, GROUPS, true), Source::Libvirt));
    }
    let guest = host.guest(uuid);
    assert_eq!(guest.lock().doubted.map(|pause| pause.lasts), Some(FIRST_DOUBT), "one doubt, not three");
    let since = Instant::now().checked_sub(FIRST_DOUBT).expect("the host has been up for longer");
    let over = Pause { since, lasts: FIRST_DOUBT };
    guest.lock().doubted = Some(over);
    assert!(matches!(host.source_of(uuid, GROUPS, true), Source::Libvirt));
    assert_eq!(guest.lock().doubted.map(|pause| pause.lasts), Some(2 * FIRST_DOUBT));
}
