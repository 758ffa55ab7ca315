//! Jobs, snapshots and checkpoints of real guests, and what their agents say, beside what virsh says of them; on this machine's
//! libvirt and on a newer one, which has no second host to migrate to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/special.rs"]
mod special;
#[path = "support/waiting.rs"]
mod waiting;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Exporter, Lab, Suite};
use special::{full_guest, tell};
use waiting::assert_no_waits;

/// More than a busy machine takes for anything here.
const SOON: Duration = Duration::from_secs(120);

/// How long an agent's answer is waited for, beside the scrapes.
const AGENT_LIMIT: Duration = Duration::from_secs(10);

/// What one scrape says of a guest: by name, and labels beyond those of the guest.
fn samples(exporter: &Exporter, guest: &str) -> BTreeMap<String, f64> {
    let body = exporter.metrics("text/plain").unwrap();
    let label = format!("{{domain=\"{guest}\",uuid=\"");
    let sample = |line: &str| {
        let (name, rest) = line.split_once(&label)?;
        let (labels, value) = rest.split_once("} ")?;
        let more = labels.split_once("\",").map_or(String::new(), |(_, more)| format!("{{{more}}}"));
        Some((format!("{}{more}", name.strip_prefix("libvirt_domain_")?), value.parse().ok()?))
    };
    body.lines().filter_map(sample).collect()
}

/// Scrapes until `good`.
fn until(exporter: &Exporter, guest: &str, good: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
    let began = Instant::now();
    loop {
        let samples = samples(exporter, guest);
        if good(&samples) {
            return samples;
        }
        assert!(began.elapsed() < SOON, "{samples:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// The numbers that virsh gives of the job, by their keys.
fn job_of(lab: &Lab, name: &str) -> BTreeMap<String, u64> {
    let said = lab.virsh(&["domjobinfo", name, "--rawstats"]).unwrap_or_default();
    let pairs = said.lines().filter_map(|line| line.trim().split_once(": "));
    pairs.filter_map(|(key, value)| Some((key.trim().to_owned(), value.trim().parse().ok()?))).collect()
}

#[test]
fn a_migration_shows_how_far_it_is_at_each_scrape() {
    let [here, there] = [(); 2].map(|()| Lab::start(Suite::Machine).unwrap());
    if here.uri.contains(":///session") {
        eprintln!("SKIPPED: live migration needs a system daemon, and that root and the right to mount");
        return;
    }
    let name = full_guest(&here, 100);
    here.wait_for_disk_reads(&name).unwrap();
    let exporter = Exporter::serve(&here.uri_ro, &[]).unwrap();
    let idle = until(&exporter, &name, |samples| samples.contains_key("cpu_time_seconds_total"));
    assert!(!idle.keys().any(|key| key.starts_with("job_")), "{idle:?}");

    let running = "job_running{operation=\"migration_out\"}";
    let remaining = "job_memory_remaining_bytes";
    let mut seen: Vec<BTreeMap<String, f64>> = Vec::new();
    thread::scope(|scope| {
        let migrate = ["migrate", "--live", "--unsafe", "--bandwidth", "5", &name, &there.uri, "tcp://127.0.0.1"];
        let here = &here;
        let migration = scope.spawn(move || here.virsh(&migrate).unwrap());
        until(&exporter, &name, |samples| samples.contains_key(running) && samples[remaining] > 0.0);
        while !migration.is_finished() && seen.len() < 8 {
            // virsh asks between two readings, and later than the one before. The next reading may have begun by then.
            let (before, virsh) = (samples(&exporter, &name), job_of(here, &name));
            if !before.contains_key(running) {
                break;
            }
            let is_later = |samples: &BTreeMap<String, f64>, than: &BTreeMap<String, f64>| {
                !samples.contains_key(running) || samples["job_elapsed_seconds"] > than["job_elapsed_seconds"]
            };
            let next = until(&exporter, &name, |samples| is_later(samples, &before));
            let has_ended = !next.contains_key(running);
            let after = if has_ended { next } else { until(&exporter, &name, |samples| is_later(samples, &next)) };
            if !after.contains_key(running) {
                break;
            }
            println!("{:?} {virsh:?} {:?}", before.get(remaining), after.get(remaining));
            assert!(after[remaining] < before[remaining], "{before:?} {after:?}");
            let of_virsh = |key: &str| f64::from(u32::try_from(virsh[key] >> 10).unwrap()) * 1024.0;
            let (least, most) = (after[remaining] - 1024.0, before[remaining] + 1024.0);
            assert!((least..=most).contains(&of_virsh("memory_remaining")), "{virsh:?}");
            assert_eq!(after["job_memory_bytes"], of_virsh("memory_total"));
            assert_eq!(after["job_memory_page_size_bytes"], of_virsh("memory_page_size"));
            seen.push(after);
        }
        migration.join().unwrap();
    });
    assert!(seen.len() >= 3, "{seen:?}");
    let rates: Vec<f64> = seen.iter().map(|samples| samples["job_memory_bytes_per_second"]).collect();
    assert!(rates.iter().any(|rate| (1e6..2e7).contains(rate)), "about 5 MiB/s: {rates:?}");
    let ended = "jobs_total{operation=\"migration_out\"}";
    let left = until(&exporter, &name, |samples| samples.contains_key(ended) && !samples.contains_key(running));
    assert_eq!(left[ended], 1.0);
    assert!(left["last_job_duration_seconds"] > 5.0 && left["last_job_downtime_seconds"] < 60.0, "{left:?}");
}

#[test]
fn a_backup_is_a_job() {
    back_up(Suite::Machine);
}

#[test]
fn a_backup_is_a_job_of_debian_sids_libvirt() {
    back_up(Suite::Debian("sid"));
}

/// A backup that is pulled: a job that lasts until it is ended.
fn back_up(suite: Suite) {
    let lab = Lab::start(suite).unwrap();
    let name = lab.guests(&["chain"]).unwrap().remove(0);
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    let running = "job_running{operation=\"backup\"}";
    let idle = until(&exporter, &name, |samples| samples.contains_key("cpu_time_seconds_total"));
    assert!(!idle.keys().any(|key| key.starts_with("job_")), "{idle:?}");
    let folder = lab.folder().display();
    let xml = lab.folder().join("backup.xml");
    let disks = format!(
        "<disks><disk name='vda' backup='yes' type='file'><scratch file='{folder}/disks/scratch'/></disk>\
         <disk name='vdb' backup='no'/></disks>"
    );
    let server = format!("<server transport='unix' socket='{folder}/disks/nbd'/>");
    fs::write(&xml, format!("<domainbackup mode='pull'>{server}{disks}</domainbackup>")).unwrap();
    lab.virsh(&["backup-begin", &name, xml.to_str().unwrap()]).unwrap();
    let shown = until(&exporter, &name, |samples| samples.contains_key(running));
    let virsh = job_of(&lab, &name);
    println!("{shown:?} {virsh:?}");
    assert_eq!(shown["job_disk_scratch_bytes"], f64::from(u32::try_from(virsh["disk_temp_total"]).unwrap()));
    assert!(shown.contains_key("job_disk_scratch_used_bytes") && shown["job_elapsed_seconds"] > 0.0, "{shown:?}");
    lab.virsh(&["domjobabort", &name]).unwrap();
    let ended = "jobs_total{operation=\"backup\"";
    let over = until(&exporter, &name, |samples| {
        !samples.contains_key(running) && samples.keys().any(|key| key.starts_with(ended))
    });
    assert!(!over.keys().any(|key| key.starts_with("job_")), "{over:?}");
}

#[test]
fn snapshots_and_checkpoints_are_those_that_virsh_lists() {
    snapshots(Suite::Machine);
}

#[test]
fn snapshots_and_checkpoints_are_those_of_debian_sids_libvirt() {
    snapshots(Suite::Debian("sid"));
}

fn snapshots(suite: Suite) {
    let lab = Lab::start(suite).unwrap();
    let names = lab.guests(&["mover", "chain"]).unwrap();
    let [copied, chained] = &names[..] else { panic!("{names:?}") };
    let exporter =
        Exporter::configured(&lab.uri_ro, "collection: {resync_interval: 1s, deadline: 60s}\n", &[]).unwrap();
    let none = until(&exporter, copied, |samples| samples.contains_key("has_snapshots"));
    assert!(!none.contains_key("snapshots"), "{none:?}");

    let created = |what: &str, guest: &str, name: &str| -> f64 {
        let xml = lab.virsh(&[what, guest, name]).unwrap();
        let time = xml.split_once("<creationTime>").and_then(|(_, rest)| rest.split_once('<'));
        time.unwrap().0.parse().unwrap()
    };
    lab.virsh(&["snapshot-create-as", copied, "first", "--disk-only"]).unwrap();
    // While a snapshot is being made it is listed already, and not the current one yet.
    let are = |samples: &BTreeMap<String, f64>, count| {
        samples.get("snapshots") == Some(&count) && samples.contains_key("snapshot_current_external")
    };
    let one = until(&exporter, copied, |samples| are(samples, 1.0));
    assert_eq!(one["snapshot_oldest_timestamp_seconds"], created("snapshot-dumpxml", copied, "first"));
    assert_eq!((one["snapshot_current_external"], one["has_snapshots"]), (1.0, 1.0));
    thread::sleep(Duration::from_secs(2));
    lab.virsh(&["snapshot-create-as", copied, "second", "--disk-only"]).unwrap();
    // The disk is another file now, which a record shows.
    let two = until(&exporter, copied, |samples| are(samples, 2.0));
    let listed = lab.virsh(&["snapshot-list", copied, "--name"]).unwrap();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(two["snapshot_oldest_timestamp_seconds"], created("snapshot-dumpxml", copied, "first"));
    assert_eq!(two["snapshot_newest_timestamp_seconds"], created("snapshot-dumpxml", copied, "second"));
    assert_eq!(two["checkpoints"], 0.0);
    for name in ["second", "first"] {
        lab.virsh(&["snapshot-delete", copied, name, "--metadata"]).unwrap();
    }
    let gone = until(&exporter, copied, |samples| samples.get("has_snapshots") == Some(&0.0));
    assert!(!gone.keys().any(|key| key.starts_with("snapshot")), "{gone:?}");

    let xml = lab.folder().join("checkpoint.xml");
    let disks = "<disks><disk name='vda' checkpoint='bitmap'/><disk name='vdb' checkpoint='no'/></disks>";
    fs::write(&xml, format!("<domaincheckpoint><name>one</name>{disks}</domaincheckpoint>")).unwrap();
    lab.virsh(&["checkpoint-create", chained, xml.to_str().unwrap()]).unwrap();
    let checked = until(&exporter, chained, |samples| samples.get("checkpoints") == Some(&1.0));
    assert_eq!(lab.virsh(&["checkpoint-list", chained, "--name"]).unwrap().trim(), "one");
    assert_eq!(checked["checkpoint_newest_timestamp_seconds"], created("checkpoint-dumpxml", chained, "one"));
    assert_eq!(checked["snapshots"], 0.0);
}

/// The pairs that virsh prints of a guest.
fn guest_info(lab: &Lab, guest: &str) -> BTreeMap<String, String> {
    let said = lab.virsh(&["guestinfo", guest]).unwrap_or_default();
    let pairs = said.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn a_guest_with_an_agent_says_what_it_says_to_virsh() {
    ask_the_guest(Suite::Machine);
}

#[test]
fn a_guest_with_an_agent_says_it_to_debian_sids_libvirt() {
    ask_the_guest(Suite::Debian("sid"));
}

fn ask_the_guest(suite: Suite) {
    let lab = Lab::start(suite).unwrap();
    let names = lab.guests(&["linux", "mover"]).unwrap();
    let [guest, other] = &names[..] else { panic!("{names:?}") };
    let disk = lab.folder().join("disks/data");
    fs::write(&disk, vec![0; 16 << 20]).unwrap();
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o666)).unwrap();
    let exporter = Exporter::serve(&lab.uri, &["--collection.groups", "state,cpu_total,block,guest"]).unwrap();
    // The channel is open, and no agent answers: that costs nothing else.
    until(&exporter, guest, |samples| samples.get("agent_connected") == Some(&1.0));
    let mut took = Vec::new();
    for _ in 0..10 {
        for name in [other, guest] {
            let began = Instant::now();
            assert_eq!(samples(&exporter, name)["stats_complete"], 1.0);
            took.push(began.elapsed());
        }
        thread::sleep(Duration::from_millis(700));
    }
    assert_no_waits(took, AGENT_LIMIT);
    assert!(!samples(&exporter, guest).keys().any(|key| key.starts_with("guest_")));

    lab.virsh(&["attach-disk", guest, disk.to_str().unwrap(), "vdb", "--live"]).unwrap();
    let began = Instant::now();
    let mut terminal = tell(&lab, guest, "agent real");
    while !guest_info(&lab, guest).contains_key("fs.0.mountpoint") {
        assert!(began.elapsed() < SOON, "{:?}", guest_info(&lab, guest));
        terminal = tell(&lab, guest, "grep -q /mnt /proc/mounts || { mke2fs /dev/vdb && mount /dev/vdb /mnt; }");
        thread::sleep(Duration::from_secs(2));
    }
    let said = guest_info(&lab, guest);
    println!("{said:?}");
    let size = "guest_filesystem_size_bytes{mountpoint=\"/mnt\"}";
    let shown = until(&exporter, guest, |samples| samples.contains_key(size));
    println!("{shown:?}");
    let number = |key: &str| said[key].parse::<f64>().unwrap();
    assert_eq!(shown[size], number("fs.0.total-bytes"));
    assert_eq!(shown["guest_filesystem_used_bytes{mountpoint=\"/mnt\"}"], number("fs.0.used-bytes"));
    assert_eq!(shown["guest_users"], number("user.count"));
    assert_eq!(shown.get("guest_disks").copied(), said.get("disk.count").map(|count| count.parse().unwrap()));
    let vcpus = lab.virsh(&["guestvcpus", guest]).unwrap();
    println!("{vcpus}");
    // It has two of four.
    for (of_virsh, name) in [("vcpus", "guest_vcpus"), ("online", "guest_vcpus_online")] {
        let list = vcpus.lines().find_map(|line| line.strip_prefix(of_virsh)?.trim_start().strip_prefix(':'));
        assert_eq!((list.unwrap().trim(), shown[name]), ("0-1", 2.0), "{of_virsh}");
    }
    // From libvirt 11.2 and QEMU's agent 10.0 on.
    assert_eq!(shown.contains_key("guest_load1"), said.contains_key("load.1m"));
    let has = |name: &str, labels: &[&str]| {
        shown.keys().any(|key| key.starts_with(name) && labels.iter().all(|label| key.contains(label)))
    };
    assert!(
        has("guest_filesystem_info", &["mountpoint=\"/mnt\"", "device=\"vdb\"", "guest_device=\"vdb\""]),
        "{shown:?}"
    );
    let kernel = format!("kernel=\"{}\"", said["os.kernel-release"]);
    assert!(has("guest_info", &["hostname=\"inside\"", "os_id=\"lab\"", "os_version=\"1\"", &kernel]), "{shown:?}");
    assert!(shown["guest_clock_offset_seconds"].abs() < 5.0, "{shown:?}");
    drop(terminal);
}
