//! What breaks under real guests: storage that has stopped, a QEMU that is frozen, an agent that says nothing, a disk that is full.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/paused.rs"]
mod paused;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::{ALL_GROUPS, Exporter, Lab, Running, Suite, need, qemu, signal, tied};
use paused::paused_guests;

/// More than a busy machine takes for anything here; pools are asked about every minute.
const SOON: Duration = Duration::from_secs(240);

/// What one scrape says, by series, and how long it took.
struct Scrape {
    series: Vec<(String, f64)>,
    took: Duration,
}

impl Scrape {
    fn value(&self, series: &str) -> Option<f64> {
        self.series.iter().find(|(name, _)| name == series).map(|(_, value)| *value)
    }

    fn count(&self, name: &str, value: f64) -> usize {
        self.series.iter().filter(|(series, is)| series.split('{').next() == Some(name) && *is == value).count()
    }

    /// The series of all guests but these.
    fn of_others(&self, but: &[&str]) -> BTreeSet<String> {
        let is_other = |series: &str| {
            series.contains("{domain=\"") && !but.iter().any(|name| series.contains(&format!("domain=\"{name}\"")))
        };
        self.series.iter().map(|(series, _)| series.clone()).filter(|series| is_other(series)).collect()
    }
}

fn scrape(exporter: &Exporter) -> Scrape {
    let began = Instant::now();
    let body = exporter.metrics("text/plain").unwrap();
    let took = began.elapsed();
    let sample =
        |line: &str| line.rsplit_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
    Scrape { series: body.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect(), took }
}

fn until(exporter: &Exporter, what: &str, good: impl Fn(&Scrape) -> bool) -> Scrape {
    let began = Instant::now();
    loop {
        let scrape = scrape(exporter);
        if good(&scrape) {
            return scrape;
        }
        assert!(began.elapsed() < SOON, "{what}: {:#?}", scrape.series);
        thread::sleep(Duration::from_millis(300));
    }
}

/// The median and the slowest of some scrapes, and what all of them have of the guests but these.
fn steady(exporter: &Exporter, but: &[&str]) -> (Duration, Duration, BTreeSet<String>) {
    let scrapes: Vec<Scrape> = (0..15).map(|_| scrape(exporter)).collect();
    let mut times: Vec<Duration> = scrapes.iter().map(|scrape| scrape.took).collect();
    times.sort();
    let common = scrapes.iter().map(|scrape| scrape.of_others(but)).reduce(|all, one| &all & &one).unwrap();
    (times[times.len() / 2], times[times.len() - 1], common)
}

/// A program in the mount namespace of the lab's daemon.
fn beside_daemon(lab: &Lab, program: &[&str]) -> Command {
    let pid = fs::read_to_string(lab.folder().join("libvirtd.pid")).unwrap();
    let mut command = tied("nsenter");
    command.arg(format!("--mount=/proc/{}/ns/mnt", pid.trim())).args(program).stdin(Stdio::null());
    command
}

/// A folder behind a file system in user space, which can be stopped; `None` if that is not available.
fn mount_in_user_space(lab: &Lab, real: &Path, mounted: &Path) -> Option<Running> {
    if lab.uri.contains(":///session") {
        eprintln!("SKIPPED: a mount beside libvirtd needs root and the right to mount");
        return None;
    }
    need("bindfs", "bindfs").unwrap();
    let program = ["bindfs", "-f", real.to_str().unwrap(), mounted.to_str().unwrap()];
    let mut process = Running(beside_daemon(lab, &program).spawn().unwrap());
    let began = Instant::now();
    loop {
        if beside_daemon(lab, &["mountpoint", "--quiet", program[3]]).status().unwrap().success() {
            return Some(process);
        }
        if process.0.try_wait().unwrap().is_some() || !Path::new("/dev/fuse").exists() {
            eprintln!("SKIPPED: no file system in user space can be mounted (/dev/fuse)");
            return None;
        }
        assert!(began.elapsed() < SOON, "the file system is not mounted");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn dead_storage_a_frozen_guest_and_a_silent_agent_cost_only_themselves() {
    let (lab, names) = paused_guests(10);
    let [real, mounted, local] = ["real", "mounted", "local"].map(|folder| lab.folder().join(folder));
    [&real, &mounted, &local].into_iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let Some(storage) = mount_in_user_space(&lab, &real, &mounted) else { return };
    for (pool, folder) in [("mounted", &mounted), ("local", &local)] {
        lab.virsh(&["pool-define-as", pool, "dir", "--target", folder.to_str().unwrap()]).unwrap();
        lab.virsh(&["pool-start", pool]).unwrap();
    }
    // Its agent's channel is open, and nothing answers there.
    let silent = lab.guests(&["linux"]).unwrap().remove(0);
    let groups = format!("{ALL_GROUPS},pressure,limits,job,snapshot,guest,host,pool,network");
    let exporter = Exporter::serve(&lab.uri, &["--collection.groups", &groups]).unwrap();
    let of_pool = |name: &str, pool: &str| format!("libvirt_pool_{name}{{pool=\"{pool}\"}}");
    let hung = |probe: &str| format!("libvirt_exporter_probe_hung_calls{{probe=\"{probe}\"}}");
    let connected = format!("libvirt_domain_agent_connected{{domain=\"{silent}\"");
    until(&exporter, "all is there", |scrape| {
        let has_agent = scrape.series.iter().any(|(series, value)| series.starts_with(&connected) && *value == 1.0);
        let has_pools = ["mounted", "local"].iter().all(|pool| scrape.value(&of_pool("autostart", pool)).is_some());
        scrape.count("libvirt_domain_stats_complete", 1.0) == 11 && has_agent && has_pools
    });
    let affected = [names[4].as_str(), silent.as_str()];
    let (usual, slowest, before) = steady(&exporter, &affected);

    let file_system = storage.0.id();
    signal(file_system, "-STOP");
    // libvirt looks at the storage for this client, and holds the pool meanwhile.
    let refresh = tied("virsh").args(["-q", "-c", &lab.uri, "pool-refresh", "mounted"]).spawn();
    let _refresh = Running(refresh.unwrap());
    let frozen = qemu(&names[4]);
    signal(frozen, "-STOP");
    until(&exporter, "the frozen guest is found", |scrape| scrape.count("libvirt_domain_quarantined", 1.0) == 1);
    // Of the pool that hangs nothing is known any more; what changes of the other one is.
    lab.virsh(&["pool-autostart", "local"]).unwrap();
    let stopped = until(&exporter, "the pool hangs", |scrape| {
        scrape.value(&hung("pool")) >= Some(1.0) && scrape.value(&of_pool("autostart", "local")) == Some(1.0)
    });
    assert_eq!(stopped.value(&of_pool("autostart", "local")), Some(1.0));
    let (with_faults, slowest_with, after) = steady(&exporter, &affected);
    println!(
        "usual: median {usual:?}, slowest {slowest:?}; with all three: median {with_faults:?}, slowest {slowest_with:?}"
    );
    println!("load {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
    let missing: Vec<_> = before.difference(&after).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(before.len() > 500, "{}", before.len());
    for _ in 0..10 {
        let scrape = scrape(&exporter);
        assert_eq!(
            scrape.count("libvirt_domain_stats_complete", 1.0),
            10,
            "the guest with the silent agent is one of them"
        );
        assert_eq!(scrape.count("libvirt_domain_quarantined", 1.0), 1);
    }
    let gone = of_pool("capacity_bytes", "mounted");
    until(&exporter, "the last sizes of the pool are too old", |scrape| scrape.value(&gone).is_none());

    signal(file_system, "-CONT");
    signal(frozen, "-CONT");
    until(&exporter, "all is as it was", |scrape| {
        let is_whole = scrape.count("libvirt_domain_stats_complete", 1.0) == 11;
        is_whole && scrape.value(&hung("pool")) == Some(0.0) && scrape.value(&gone).is_some()
    });
    let (again, slowest_again, _) = steady(&exporter, &affected);
    println!("without them again: median {again:?}, slowest {slowest_again:?}");
}

#[test]
fn a_guest_that_stops_for_a_full_disk_says_which() {
    let lab = Lab::start(Suite::Machine).unwrap();
    if lab.uri.contains(":///session") {
        eprintln!("SKIPPED: a mount beside libvirtd needs root and the right to mount");
        return;
    }
    let name = lab.guests(&["mover"]).unwrap().remove(0);
    lab.virsh(&["destroy", &name]).unwrap();
    let small = lab.folder().join("small");
    fs::create_dir(&small).unwrap();
    let run = |program: &[&str]| {
        let done = beside_daemon(&lab, program).output().unwrap();
        assert!(done.status.success(), "{program:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let (folder, image) = (small.to_str().unwrap(), small.join("image"));
    run(&["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]);
    // An image over the guest's disk, on storage that has no room for what the guest writes.
    let base = lab.folder().join("disks/mover-0");
    let (base, image) = (base.to_str().unwrap(), image.to_str().unwrap());
    run(&["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, image]);
    run(&["chmod", "666", image]);
    run(&["sh", "-c", &format!("dd if=/dev/zero of={folder}/rest bs=4k 2>/dev/null || true")]);
    let xml = lab.virsh(&["dumpxml", "--inactive", &name]).unwrap();
    let xml = xml.replacen("type='raw'", "type='qcow2'", 1).replacen(base, image, 1);
    let file = lab.folder().join("full.xml");
    fs::write(&file, xml).unwrap();
    lab.virsh(&["define", file.to_str().unwrap()]).unwrap();
    let exporter = Exporter::serve(&lab.uri_ro, &[]).unwrap();
    lab.virsh(&["start", &name]).unwrap();
    let errors = |scrape: &Scrape| -> Vec<String> {
        let named = scrape.series.iter().filter(|(series, _)| series.starts_with("libvirt_domain_block_error{"));
        named.filter_map(|(series, _)| Some(series.split_once(",device=")?.1.to_owned())).collect()
    };
    let shown = until(&exporter, "the disk is full", |scrape| !errors(scrape).is_empty());
    let said = lab.virsh(&["domblkerror", &name]).unwrap();
    println!("{:?} {said:?} {:?}", errors(&shown), lab.virsh(&["domstate", "--reason", &name]));
    assert_eq!(said.trim(), "vda: no space");
    assert_eq!(errors(&shown), ["\"vda\",reason=\"nospace\"}"]);
    // There is room again, and it goes on.
    run(&["rm", &format!("{folder}/rest")]);
    lab.virsh(&["resume", &name]).unwrap();
    until(&exporter, "it goes on", |scrape| errors(scrape).is_empty());
    // QEMU remembers the error. A user who pauses the guest is another reason.
    println!("{:?}", lab.virsh(&["domblkerror", &name]));
    lab.virsh(&["suspend", &name]).unwrap();
    thread::sleep(Duration::from_secs(5));
    assert_eq!(errors(&scrape(&exporter)), [""; 0]);
}
