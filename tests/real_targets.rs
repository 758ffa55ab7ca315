//! The target set on real libvirt with a real QEMU: after each thing that can happen to a domain, registry and metrics are right.
//!
//! Addresses are not tested here: DHCP leases and neighbours need a network of libvirt's, which a laboratory must not make.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]
#![allow(unreachable_pub, missing_docs, dead_code, missing_debug_implementations)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/observer.rs"]
mod observer;
#[path = "support/reading.rs"]
mod reading;
#[path = "support/truth.rs"]
mod truth;
#[path = "support/waiting.rs"]
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use domstats_exporter::domains::{Domain, Flags, Metadata, PowerState};
use domstats_exporter::libvirt::{Event, EventKind};
use lab::{Lab, Suite, signal};
use observer::{Observer, named};
use reading::{Sample, parse_exposition};
use truth::{said, truth};
use waiting::assert_no_wait;

const SETTINGS: &str = "metadata: {labels: {team: metadata/owner/@team}}";
/// When the domains are listed all the same, which would find what an event did not tell.
const RESYNC: Duration = Duration::from_secs(60);

#[test]
fn registry_and_metrics_follow_this_machines_libvirt() {
    follow(Suite::Machine);
}

#[test]
fn registry_and_metrics_follow_debian_trixies_libvirt() {
    follow(Suite::Debian("trixie"));
}

fn lifecycle(event: i32, detail: i32) -> EventKind {
    EventKind::Lifecycle { event, detail }
}

/// A question about something.
type Asks<T> = fn(&T) -> bool;

/// A lab whose domains are watched.
struct Scene {
    // Dropped before the lab, whose daemon it is connected to.
    observer: Observer,
    lab: Lab,
}

impl Scene {
    /// Does something by virsh that the event `kind` tells of, and waits until the registry is as `wanted` by it. Then the
    /// metrics have to be what virsh says.
    fn act(&self, virsh: &[&str], kind: &EventKind, name: &str, wanted: impl Fn(Option<&Domain>) -> bool) {
        self.act_by(&virsh.join(" "), || drop(self.lab.virsh(virsh).unwrap()), kind, name, wanted);
    }

    fn act_by(
        &self,
        what: &str,
        act: impl FnOnce(),
        kind: &EventKind,
        name: &str,
        wanted: impl Fn(Option<&Domain>) -> bool,
    ) {
        let begun = Instant::now();
        act();
        let returned = Instant::now();
        let heard = self.observer.heard(begun, what, |event| event.kind == *kind && event.domain.name == name);
        let known = self.observer.since(begun, what, |snapshot| wanted(named(snapshot, name)));
        let late = known.saturating_duration_since(heard);
        let after = known.saturating_duration_since(returned);
        let told = truth(&self.lab);
        let asked = Instant::now();
        let shown = self.metrics_become(what, &told).saturating_duration_since(asked);
        println!(
            "{what}: registry {late:.1?} after the event, {after:.1?} after the return; metrics equal to virsh {shown:.1?} \
             after virsh had told everything, {:.1?} after the return",
            asked - returned
        );
        assert_no_wait(late, RESYNC);
    }

    /// Waits until definitions, flags and agents are in the metrics as virsh has them.
    fn metrics_agree(&self, what: &str) {
        self.metrics_become(what, &truth(&self.lab));
    }

    /// Scrapes until the metrics are these, and gives the time before the first such scrape. Flags follow an event by the next
    /// listing, a second later at the least.
    fn metrics_become(&self, what: &str, truth: &BTreeSet<String>) -> Instant {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let asked = Instant::now();
            let said = said(&self.observer.scrape());
            if said == *truth {
                return asked;
            }
            let missing: BTreeSet<_> = truth.difference(&said).collect();
            let wrong: BTreeSet<_> = said.difference(truth).collect();
            assert!(asked < deadline, "{what}: missing {missing:?}, wrong {wrong:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn samples(&self) -> Vec<Sample> {
        parse_exposition(&self.observer.scrape()).unwrap()
    }

    /// The value of the only such sample of a domain.
    fn value(&self, metric: &str, domain: &str) -> Option<f64> {
        let samples = self.samples();
        let mut found = samples.iter().filter(|sample| sample.name == metric && sample.label("domain") == domain);
        let value = found.next().map(|sample| sample.value);
        assert!(found.next().is_none(), "{metric} of {domain} twice");
        value
    }

    /// The host-wide lifecycle counters are what the test itself has heard.
    fn lifecycle_agrees(&self) {
        let mut heard = BTreeMap::<_, f64>::new();
        for (_, event) in self.observer.events() {
            if let EventKind::Lifecycle { event, detail } = event.kind {
                *heard.entry((event, detail)).or_default() += 1.0;
            }
        }
        let mut heard: Vec<f64> = heard.into_values().collect();
        let samples = self.samples();
        let counted = samples.iter().filter(|sample| sample.name == "libvirt_host_lifecycle_events_total");
        let mut counted: Vec<f64> = counted.map(|sample| sample.value).collect();
        heard.sort_by(f64::total_cmp);
        counted.sort_by(f64::total_cmp);
        assert_eq!(counted, heard);
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.lab.folder().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn disk(&self, name: &str, content: &[u8]) -> String {
        let path: PathBuf = self.lab.folder().join("disks").join(name);
        fs::write(&path, content).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(4 << 20).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(&path, mode).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn is(state: PowerState) -> impl Fn(Option<&Domain>) -> bool {
    move |target| {
        target.is_some_and(|target| target.state == state && target.is_active() != (state == PowerState::ShutOff))
    }
}

fn says(what: impl Fn(&Metadata) -> bool) -> impl Fn(Option<&Domain>) -> bool {
    move |target| target.and_then(Domain::metadata).is_some_and(&what)
}

fn is_gone(target: Option<&Domain>) -> bool {
    target.is_none()
}

/// A domain's life, and what becomes of it in the exporter.
fn follow(suite: Suite) {
    let lab = Lab::start(suite).unwrap();
    let observer = Observer::start(&lab.uri_ro, SETTINGS);
    let scene = Scene { observer, lab };
    let lab = &scene.lab;
    let name = format!("old-{}", fs::read_to_string(lab.folder().join("token")).unwrap().trim());
    let name = name.as_str();

    scene.act_by("define", || drop(lab.guests(&["old"]).unwrap()), &lifecycle(0, 0), name, is(PowerState::ShutOff));
    runs(&scene, name);
    changes(&scene, name);
    is_saved(&scene, name);
    let name = &is_renamed_and_redefined(&scene, name);
    ends(&scene, name);
    crashes(&scene);
    scene.lifecycle_agrees();
    has_no_event(&scene);
    // Only this machine's daemon can be restarted beside its guests: that of a chroot would need the chroot's mounts as well.
    if matches!(suite, Suite::Machine) {
        outlives_its_daemon(&scene);
    }
}

/// Start, pause, resume.
fn runs(scene: &Scene, name: &str) {
    let before = SystemTime::now();
    scene.act(&["start", name], &lifecycle(2, 0), name, is(PowerState::Running));
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = scene.value("libvirt_domain_start_timestamp_seconds", name).unwrap();
    assert!((seconds(before)..=seconds(SystemTime::now())).contains(&started), "{started}");
    scene.act(&["suspend", name], &lifecycle(3, 0), name, is(PowerState::Paused));
    scene.act(&["resume", name], &lifecycle(4, 0), name, is(PowerState::Running));
    assert_eq!(scene.value("libvirt_domain_start_timestamp_seconds", name), Some(started), "it is still the same run");
}

/// Title, description, metadata, disks and NICs of a running domain.
fn changes(scene: &Scene, name: &str) {
    let change = &EventKind::MetadataChange;
    let title = ["desc", name, "--live", "--config", "--title", "A \"new\" title"];
    scene.act(&title, change, name, says(|xml| xml.title == "A \"new\" title"));
    scene.act(&["desc", name, "--live", "It is here"], change, name, says(|xml| xml.description == "It is here"));
    let owner =
        ["metadata", name, "--uri", "urn:example:lab", "--key", "lab", "--live", "--set", "<owner team='Größe'/>"];
    scene.act(&owner, change, name, says(|xml| xml.label("team") == "Größe"));

    let image = scene.disk("more", b"");
    let disk = format!(
        "<disk type='file'><driver name='qemu' type='raw' cache='none'/><source file='{image}'/>\
         <target dev='vdb' bus='virtio'/><serial>S-1</serial><readonly/></disk>"
    );
    let disk = scene.file("disk.xml", &disk);
    let nic = scene.file(
        "nic.xml",
        "<interface type='user'><mac address='52:54:00:00:AA:01'/><model type='virtio'/><rom enabled='no'/></interface>",
    );
    let devices: [(&str, &str, Asks<Metadata>); 2] = [
        (&disk, "virtio-disk1", |xml| xml.disks.iter().any(|disk| disk.serial == "S-1")),
        (&nic, "net0", |xml| xml.interfaces.iter().any(|nic| nic.mac == "52:54:00:00:aa:01" && !nic.alias.is_empty())),
    ];
    for (file, alias, has) in devices {
        let alias = alias.to_owned();
        let added = EventKind::DeviceAdded { alias: alias.clone() };
        scene.act(&["attach-device", name, file, "--live"], &added, name, says(has));
        // The guest has no system that could let the device go, but a reset takes it.
        let detach = || {
            scene.lab.virsh(&["detach-device", name, file, "--live"]).unwrap();
            scene.lab.virsh(&["reset", name]).unwrap();
        };
        let what = format!("detach-device {file}, reset");
        scene.act_by(&what, detach, &EventKind::DeviceRemoved { alias }, name, says(move |xml| !has(xml)));
    }

    // A new layer above the disk: libvirt has no event for it, the statistics of the next scrape show it.
    let layer = scene.lab.folder().join("disks/layer");
    let spec = format!("vda,snapshot=external,file={}", layer.display());
    scene.lab.virsh(&["snapshot-create-as", name, "s1", "--disk-only", "--diskspec", &spec]).unwrap();
    scene.observer.scrape();
    let begun = Instant::now();
    let layered = says(|xml| xml.disks[0].source == layer.to_str().unwrap());
    let known = scene.observer.since(begun, "a snapshot", |snapshot| layered(named(snapshot, name)));
    println!("snapshot-create-as --disk-only: registry {:.1?} after the next scrape", known - begun);
    // Who starts now sees the snapshot at once.
    let fresh = Observer::start(&scene.lab.uri_ro, SETTINGS);
    assert!(
        fresh.scrape().lines().any(|line| line.starts_with("libvirt_domain_has_snapshots") && line.ends_with(" 1"))
    );
    scene.lab.virsh(&["snapshot-delete", name, "s1", "--metadata"]).unwrap();
    // An exporter that has read the definition, and seen no statistics yet, takes a snapshot without a trace from the first.
    let late = Observer::start(&scene.lab.uri_ro, SETTINGS);
    late.since(Instant::now(), "the definition", |snapshot| layered(named(snapshot, name)));
    let layer = scene.lab.folder().join("disks/layer-2");
    let spec = format!("vda,snapshot=external,file={}", layer.display());
    scene.lab.virsh(&["snapshot-create-as", name, "s2", "--disk-only", "--no-metadata", "--diskspec", &spec]).unwrap();
    late.scrape();
    late.since(Instant::now(), "a snapshot before the first scrape", |snapshot| {
        says(|xml| xml.disks[0].source == layer.to_str().unwrap())(named(snapshot, name))
    });
    scene.metrics_agree("a snapshot that has gone again, and one without a trace");
}

/// Managed save, save, restore.
fn is_saved(scene: &Scene, name: &str) {
    scene.act(&["managedsave", name], &lifecycle(5, 4), name, is(PowerState::ShutOff));
    assert_eq!(scene.value("libvirt_domain_managed_save", name), Some(1.0));
    scene.act(&["start", name], &lifecycle(2, 2), name, is(PowerState::Running));
    assert_eq!(scene.value("libvirt_domain_managed_save", name), Some(0.0));
    let samples = scene.samples();
    let save = |metric: &str| {
        let is_it = |sample: &&Sample| sample.name == metric && sample.label("operation") == "save";
        samples.iter().find(is_it).map(|sample| sample.value)
    };
    let (jobs, times) = (save("libvirt_host_jobs_total"), save("libvirt_host_job_duration_seconds_count"));
    assert_eq!((jobs, times), (Some(1.0), Some(1.0)));
    let image = scene.lab.folder().join("saved");
    let image = image.to_str().unwrap();
    scene.act(&["save", name, image], &lifecycle(5, 4), name, is(PowerState::ShutOff));
    assert_eq!(scene.value("libvirt_domain_start_timestamp_seconds", name), None);
    scene.act(&["restore", image], &lifecycle(2, 2), name, is(PowerState::Running));
    scene.act(&["destroy", name], &lifecycle(5, 1), name, is(PowerState::ShutOff));
}

/// Another name, and another definition, with a channel for a guest agent.
fn is_renamed_and_redefined(scene: &Scene, old: &str) -> String {
    let new = format!("{old}-renamed");
    scene.act(&["domrename", old, &new], &lifecycle(0, 2), &new, is(PowerState::ShutOff));
    scene.observer.since(Instant::now(), "the old name", |snapshot| named(snapshot, old).is_none());
    let channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices>";
    let xml = scene.lab.virsh(&["dumpxml", &new]).unwrap();
    let file = scene.file("agent.xml", &xml.replace("</devices>", channel));
    scene.act(&["define", &file], &lifecycle(0, 1), &new, says(|xml| xml.agent.is_some()));
    assert_eq!(scene.value("libvirt_domain_agent_connected", &new), Some(0.0));
    new
}

/// Undefined while it runs, created without a definition, undefined while it is off.
fn ends(scene: &Scene, name: &str) {
    let lab = &scene.lab;
    let xml = lab.virsh(&["dumpxml", name]).unwrap();
    let file = scene.file("transient.xml", &xml);
    scene.act(&["start", name], &lifecycle(2, 0), name, is(PowerState::Running));
    scene.act(&["undefine", name], &lifecycle(1, 0), name, |target| {
        target.and_then(|target| target.flags).is_some_and(|flags| !flags.persistent)
    });
    scene.act(&["destroy", name], &lifecycle(5, 1), name, is_gone);
    scene.act(&["create", &file], &lifecycle(2, 0), name, is(PowerState::Running));
    assert_eq!(scene.value("libvirt_domain_persistent", name), Some(0.0));
    scene.act(&["destroy", name], &lifecycle(5, 1), name, is_gone);
    scene.act(&["define", &file], &lifecycle(0, 0), name, is(PowerState::ShutOff));
    scene.act(&["undefine", name], &lifecycle(1, 0), name, is_gone);
}

/// A guest that panics, and a hypervisor that dies.
fn crashes(scene: &Scene) {
    // mov dx, 0x505; mov al, 1; out dx, al; hlt: the guest tells its panic device.
    let mut sector = vec![0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let disk = scene.disk("panic", &sector);
    let xml = |name: &str, devices: &str| {
        format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os><on_crash>destroy</on_crash>\
             <devices><controller type='usb' model='none'/><memballoon model='none'/>{devices}</devices></domain>"
        )
    };
    let panicking = format!(
        "<disk type='file'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/>\
         <boot order='1'/></disk><panic model='isa'/>"
    );
    // The two labs of this file run side by side, and a QEMU is found by its guest's name.
    let lab = scene.lab.folder().file_name().unwrap().to_str().unwrap();
    let (panics, killed) = (format!("panics-{lab}"), format!("killed-{lab}"));
    let (panics, killed) = (panics.as_str(), killed.as_str());
    for (name, devices) in [(panics, panicking.as_str()), (killed, "")] {
        let file = scene.file(&format!("{name}.xml"), &xml(name, devices));
        scene.act(&["define", &file], &lifecycle(0, 0), name, is(PowerState::ShutOff));
    }
    let begun = Instant::now();
    scene.lab.virsh(&["start", panics]).unwrap();
    scene.observer.heard(begun, "a panic", |event| event.kind == lifecycle(8, 0));
    scene.observer.heard(begun, "its end", |event| event.kind == lifecycle(5, 2));
    scene.observer.since(Instant::now(), "it is off", |snapshot| is(PowerState::ShutOff)(named(snapshot, panics)));
    let of_it = |(_, event): (_, Event)| (event.domain.name == panics).then_some(event.kind);
    let events: Vec<EventKind> = scene.observer.events().into_iter().filter_map(of_it).collect();
    assert_eq!(scene.value("libvirt_domain_crashes_total", panics), Some(1.0), "all of one crash: {events:?}");
    let kill = || signal(lab::qemu(killed), "-KILL");
    scene.act(&["start", killed], &lifecycle(2, 0), killed, is(PowerState::Running));
    scene.act_by("kill -KILL of a QEMU", kill, &lifecycle(5, 5), killed, is(PowerState::ShutOff));
    assert_eq!(scene.value("libvirt_domain_crashes_total", killed), Some(1.0));

    for name in [panics, killed] {
        scene.act(&["undefine", name], &lifecycle(1, 0), name, is_gone);
    }
    // Once more without a definition: the domain vanishes, its crash stays counted.
    let file = scene.lab.folder().join(format!("{panics}.xml"));
    let begun = Instant::now();
    scene.lab.virsh(&["create", file.to_str().unwrap()]).unwrap();
    scene.observer.heard(begun, "its end", |event| event.kind == lifecycle(5, 2));
    scene.observer.since(Instant::now(), "it is gone", |snapshot| named(snapshot, panics).is_none());
    let samples = scene.samples();
    assert!(samples.iter().all(|sample| sample.label("domain") != panics));
    for (event, detail) in [("crashed", "panicked"), ("stopped", "crashed")] {
        let count = samples.iter().find(|sample| {
            sample.name == "libvirt_host_lifecycle_events_total"
                && (sample.label("event"), sample.label("detail")) == (event, detail)
        });
        assert_eq!(count.map(|sample| sample.value), Some(2.0), "{event} {detail}");
    }
}

/// Autostart and snapshots show after the next listing.
fn has_no_event(scene: &Scene) {
    let name = scene.lab.guests(&["old"]).unwrap().remove(0);
    let patient = Observer::start(&scene.lab.uri_ro, "collection: {resync_interval: 1s}");
    let flags = |wanted: Asks<Flags>| {
        patient.since(Instant::now(), "a flag", |snapshot| {
            named(snapshot, &name).and_then(|target| target.flags).is_some_and(|flags| wanted(&flags))
        });
    };
    let acts: [(&[&str], Asks<Flags>); 2] = [
        (&["autostart", &name], |flags| flags.autostart),
        (&["autostart", &name, "--disable"], |flags| !flags.autostart),
    ];
    for (act, wanted) in acts {
        let begun = Instant::now();
        scene.lab.virsh(act).unwrap();
        flags(wanted);
        println!("{}: registry {:.1?} after the call, at a resync interval of 1 s", act.join(" "), begun.elapsed());
    }
}

/// A libvirtd that is killed and comes back finds its domains as they were, and what has changed meanwhile is noticed.
fn outlives_its_daemon(scene: &Scene) {
    let lab = &scene.lab;
    assert!(lab.uri.contains(":///system"), "the restart of libvirtd in its namespace needs root: run this as root");
    let names = lab.guests(&["db", "chain"]).unwrap();
    scene.metrics_agree("two more guests");
    let (stays, dies) = (&names[0], &names[1]);
    let begun = Instant::now();
    lab.kill_daemon();
    signal(lab::qemu(dies), "-KILL");
    let _daemon = lab.start_daemon_beside(stays);
    // There is no event of the connection itself, and none of what happened while there was none.
    let known = scene.observer.since(Instant::now(), "the new daemon", |snapshot| {
        is(PowerState::ShutOff)(named(snapshot, dies)) && is(PowerState::Paused)(named(snapshot, stays))
    });
    scene.metrics_agree("a new daemon");
    println!("libvirtd killed and restarted, a QEMU killed meanwhile: registry {:.1?} after the kill", known - begun);
    // Events come over the new connection. The test's own was to the old daemon.
    let begun = Instant::now();
    lab.virsh(&["resume", stays]).unwrap();
    let returned = Instant::now();
    let known = scene.observer.since(begun, "resume", |snapshot| is(PowerState::Running)(named(snapshot, stays)));
    println!("resume after that: registry {:.1?} after the return", known.saturating_duration_since(returned));
    scene.metrics_agree("resume after that");
}
