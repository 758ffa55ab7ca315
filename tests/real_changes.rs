//! Whatever is done to a real guest, the exporter says what virsh says right after it, and no rate in Prometheus is above what
//! happened: a table of all that orchestrators and administrators do to a guest that runs.
//!
//! What has no event (docs/operations.md) is compared with a second exporter, whose intervals are short.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]
#![allow(unreachable_pub, missing_docs, dead_code, missing_debug_implementations)]

#[path = "support/agreement.rs"]
mod agreement;
#[path = "support/expected.rs"]
mod expected;
#[path = "support/growth.rs"]
mod growth;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/reading.rs"]
mod reading;
#[path = "support/server.rs"]
mod server;
#[path = "support/truth.rs"]
mod truth;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use agreement::{Readings, Told, readings};
use growth::{Growth, Prometheus};
use lab::{Lab, Suite, qemu};
use reading::{Sample, parse_exposition};
use server::{Server, folder};

/// How long exporter and virsh may disagree: far less than the minute after which everything is looked at again. The times are
/// printed; on a machine with nothing else to do they are below two seconds.
const SOON: Duration = Duration::from_secs(15);
/// How long a guest may take for its part in a change, on a machine with many times the load that it can carry.
const GUEST: Duration = Duration::from_secs(120);
/// Libvirt has no event for these: they follow within `collection.resync_interval`.
const FLAGS: &[&str] = &["libvirt_domain_has_snapshots", "libvirt_domain_has_checkpoints", "libvirt_domain_autostart"];
/// A change, what is done for it, and what a scrape shows of the guest afterwards: a family, labels with the end of their values,
/// and a value, `!` before what must not be there, `;` between them.
type Change = (&'static str, fn(&Scene), &'static str);

/// In the order in which they are done. A vCPU is not taken away again: guests that QEMU emulates keep it. G is the guest's name, D the folder of the laboratory.
const CHANGES: &[Change] = &[
    ("start", |s| s.guest_starts(), "agent_connected 1; state state=running 1"),
    ("the agent closes its channel", |s| s.tell("agent down"), "agent_connected 0"),
    ("the agent opens its channel", |s| s.tell("agent up"), "agent_connected 1"),
    (
        "attach-device, a disk",
        |s| s.attach_disk("vdb"),
        "block_info device=vdb path=/vdb; block_capacity_bytes device=vdb",
    ),
    ("attach-device, a NIC", |s| s.virsh("attach-device G D/nic-a --live"), "interface_info bridge=a mac=:aa:01"),
    (
        "change-media --insert",
        |s| s.virsh("change-media G hdc D/disks/medium --insert --live"),
        "block_info device=hdc path=/medium",
    ),
    (
        "change-media --eject",
        |s| s.virsh("change-media G hdc --eject --live"),
        "block_info device=hdc path=; !block_capacity_bytes device=hdc",
    ),
    (
        "snapshot-create-as",
        |s| s.snapshot("s1", "--diskspec vdb,snapshot=no"),
        "block_info device=vda path=/s1; block_backing_layers device=vda 1",
    ),
    (
        "snapshot-create-as --no-metadata",
        |s| s.snapshot("s2", "--no-metadata --diskspec vdb,snapshot=no"),
        "block_info device=vda path=/s2; block_backing_layers device=vda 2",
    ),
    (
        "blockcommit --pivot",
        |s| s.virsh("blockcommit G vda --active --wait --pivot"),
        "!block_info device=vda path=/s2; block_backing_layers device=vda 0",
    ),
    (
        "snapshot-create-as again",
        |s| s.snapshot("s3", "--no-metadata --diskspec vdb,snapshot=no"),
        "block_info device=vda path=/s3; block_backing_layers device=vda 1",
    ),
    (
        "blockpull",
        |s| s.virsh("blockpull G vda --wait"),
        "block_info device=vda path=/s3; block_backing_layers device=vda 0",
    ),
    (
        "blockcopy --pivot",
        |s| s.virsh("blockcopy G vda D/disks/copy --wait --pivot --transient-job"),
        "block_info device=vda path=/copy",
    ),
    (
        "backup-begin",
        |s| s.virsh("backup-begin G D/backup"),
        "block_info device=vda path=/copy; block_backing_layers device=vda 0",
    ),
    (
        "domjobabort",
        |s| s.virsh("domjobabort G"),
        "block_info device=vda path=/copy; block_backing_layers device=vda 0",
    ),
    ("setvcpus, one more", |s| s.virsh("setvcpus G 3 --live"), "vcpus_current 3; vcpu_time_seconds_total vcpu=2"),
    ("setmem", |s| s.virsh("setmem G 200M --live"), "memory_current_bytes 209715200"),
    ("attach-device, memory", |s| s.virsh("attach-device G D/dimm --live"), "memory_maximum_bytes 402653184"),
    (
        "attach-device, a disk on a small file system",
        |s| s.attach_small_disk(),
        "block_info device=vdc path=/full/image",
    ),
    (
        "a write error, no space",
        |s| s.tell("dd if=/dev/zero of=/dev/vdc bs=64k count=64 conv=fsync"),
        "state_reason_info state=paused reason=ioerror 1; block_io_errors_total device=vdc action=pause reason=enospc",
    ),
    ("resume", |s| s.enlarge_and_resume(), "state_reason_info state=running reason=unpaused 1"),
    ("suspend", |s| s.virsh("suspend G"), "state_reason_info state=paused reason=user 1"),
    ("resume again", |s| s.virsh("resume G"), "state_reason_info state=running reason=unpaused 1"),
    ("detach-device, a NIC", |s| s.virsh("detach-device G D/nic-a --live"), "!interface_info bridge=a"),
    (
        "detach-disk",
        |s| s.virsh("detach-disk G vdb --live"),
        "!block_info device=vdb; !block_read_bytes_total device=vdb",
    ),
    (
        "attach-device, the disk again",
        |s| s.attach_disk("vdb"),
        "block_info device=vdb path=/vdb; block_capacity_bytes device=vdb",
    ),
    ("detach-disk for good", |s| s.virsh("detach-disk G vdb --live"), "!block_info device=vdb"),
    ("detach-disk again", |s| s.virsh("detach-disk G vdc --live"), "!block_info device=vdc"),
    ("reset", |s| s.virsh("reset G"), "reboots_total 1; agent_connected 1"),
    ("managedsave", |s| s.virsh("managedsave G"), "state state=shutoff 1; managed_save 1"),
    ("start of the saved guest", |s| s.virsh("start G"), "state state=running 1; managed_save 0"),
    ("save", |s| s.virsh("save G D/saved"), "state state=shutoff 1"),
    ("restore", |s| s.virsh("restore D/saved"), "state state=running 1"),
    ("snapshot-delete --metadata", |s| s.virsh("snapshot-delete G s1 --metadata"), "state state=running 1"),
    ("migrate to another host", |s| s.migrate(0), "state state=running 1; agent_connected 1"),
    ("migrate back", |s| s.migrate(1), "state state=running 1; agent_connected 1"),
    ("destroy", |s| s.virsh("destroy G"), "state state=shutoff 1; agent_connected 0"),
    ("domrename", |s| s.rename(), "state state=shutoff 1"),
    ("undefine and define with another UUID", |s| s.define_with_another_uuid(), "state state=shutoff 1; persistent 1"),
    ("start of another", |s| s.virsh("start G"), "state state=running 1; agent_connected 1"),
    ("undefine while it runs", |s| s.virsh("undefine G"), "state state=running 1; persistent 0"),
    ("destroy for good", |s| s.virsh("destroy G"), "!state; !info"),
    ("create, a transient guest", |s| s.virsh("create D/guest"), "state state=running 1; persistent 0"),
    ("destroy, a transient guest", |s| s.virsh("destroy G"), "!state; !info"),
];

/// What libvirt has no event for.
const UNTOLD: &[Change] = &[
    (
        "define and start",
        |s| ["define D/guest", "start G"].iter().for_each(|act| s.virsh(act)),
        "agent_connected 1; persistent 1",
    ),
    ("autostart", |s| s.virsh("autostart G"), "autostart 1"),
    ("autostart --disable", |s| s.virsh("autostart G --disable"), "autostart 0"),
    ("snapshot-create-as", |s| s.snapshot("s4", ""), "has_snapshots 1"),
    ("snapshot-delete --metadata", |s| s.virsh("snapshot-delete G s4 --metadata"), "has_snapshots 0"),
    ("checkpoint-create-as", |s| s.virsh("checkpoint-create-as G c1"), "has_checkpoints 1"),
    ("checkpoint-delete", |s| s.virsh("checkpoint-delete G c1"), "has_checkpoints 0"),
    ("attach-device, a NIC", |s| s.virsh("attach-device G D/nic-a --live"), "interface_info bridge=a"),
    (
        "update-device, a NIC to another bridge",
        |s| s.virsh("update-device G D/nic-b --live"),
        "interface_info bridge=b; !interface_info bridge=a",
    ),
    ("managedsave", |s| s.virsh("managedsave G"), "managed_save 1"),
    ("managedsave-remove", |s| s.virsh("managedsave-remove G"), "managed_save 0"),
];

/// A host.
struct Host {
    // Both end before the lab, whose daemon they are connected to.
    exporter: Server,
    quick: Server,
    lab: Lab,
}

struct Scene {
    hosts: [Host; 2],
    guest: RefCell<String>,
    /// The host that the guest is on.
    at: Cell<usize>,
    growth: RefCell<Growth>,
    terminal: RefCell<Option<fs::File>>,
}

#[test]
#[ignore = "minutes, and needs a machine that does nothing else: QEMUs without KVM fall behind otherwise"]
fn exporter_and_virsh_agree_after_each_change_on_this_machines_libvirt() {
    go_through(Suite::Machine, &[]);
}

#[test]
#[ignore = "minutes, and needs a machine that does nothing else: QEMUs without KVM fall behind otherwise"]
fn exporter_and_virsh_agree_after_each_change_on_debian_sids_libvirt() {
    // Two of a chroot share no files.
    go_through(Suite::Debian("sid"), &["migrate to another host", "migrate back"]);
}

fn go_through(suite: Suite, cannot: &[&str]) {
    let scene = Scene::new(suite);
    if scene.hosts[0].lab.uri.contains(":///session") {
        eprintln!("SKIPPED: bridges and migration need a system daemon, and that root and the right to mount");
        return;
    }
    let exporters: Vec<_> = scene.hosts.iter().map(|host| host.exporter.address).collect();
    let prometheus = Prometheus::start(scene.lab().folder(), &exporters);
    let can = |change: &&Change| !cannot.contains(&change.0);
    CHANGES.iter().filter(can).for_each(|change| scene.change(change, FLAGS, |host| &host.exporter));
    let faults = prometheus.faults(&scene.growth.borrow());
    assert!(faults.is_empty(), "{faults:#?}");
    UNTOLD.iter().for_each(|change| scene.change(change, &[], |host| &host.quick));
}

impl Scene {
    fn new(suite: Suite) -> Self {
        let hosts = [(); 2].map(|()| {
            let lab = Lab::start(suite).unwrap();
            let start = |resync: &str, refresh: &str| {
                let config = format!(
                    "collection: {{backing_chain: true, resync_interval: {resync}}}\n\
                     metadata: {{refresh_interval: {refresh}}}\nweb: {{openmetrics_created: true}}\n"
                );
                Server::start_on(folder(), Some(&lab.uri_ro), &config, "")
            };
            let (exporter, quick) = (start("1m", "1m"), start("2s", "2s"));
            Host { exporter, quick, lab }
        });
        let scene = Self {
            hosts,
            guest: RefCell::default(),
            at: Cell::new(0),
            growth: RefCell::default(),
            terminal: RefCell::default(),
        };
        scene.write_files();
        scene
    }

    fn lab(&self) -> &Lab {
        &self.hosts[self.at.get()].lab
    }

    /// A path below the folder of the first host, which holds what all hosts share.
    fn path(&self, name: &str) -> String {
        self.hosts[0].lab.folder().join(name).to_str().unwrap().to_owned()
    }

    fn virsh(&self, command: &str) {
        let guest = self.guest.borrow().clone();
        let word = |word: &str| match word {
            "G" => guest.clone(),
            _ => word.strip_prefix("D/").map_or_else(|| word.to_owned(), |name| self.path(name)),
        };
        let words: Vec<String> = command.split_whitespace().map(word).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.lab().virsh(&words).unwrap();
    }

    /// Writes a command to the serial console of the guest, which runs it.
    fn tell(&self, command: &str) {
        let path = self.lab().virsh(&["ttyconsole", &self.guest.borrow()]).unwrap();
        let mut terminal = fs::File::options().write(true).open(path.trim()).unwrap();
        writeln!(terminal, "{command}").unwrap();
        // QEMU sees within a second that the console is open, and reads nothing from one that is closed.
        *self.terminal.borrow_mut() = Some(terminal);
    }

    fn change(&self, (what, act, shows): &Change, ignored: &[&str], exporter: fn(&Host) -> &Server) {
        let begun = Instant::now();
        act(self);
        let took = begun.elapsed().as_secs_f64();
        let agreed = self.agree(what, shows, ignored, exporter);
        println!("{what:45} {took:4.1} s, and the exporter agrees after {agreed:.2?}");
        assert!(agreed < SOON, "{what}: {agreed:?}");
    }

    /// Waits until the exporters have what virsh says, and show what they have to. Gives for how long they had not, since the act
    /// has ended, or since virsh itself says so.
    fn agree(&self, what: &str, shows: &str, ignored: &[&str], exporter: fn(&Host) -> &Server) -> Duration {
        let begun = Instant::now();
        let (mut since, mut last) = (begun, None);
        loop {
            let before: Vec<Readings> = self.hosts.iter().map(|host| readings(&host.lab)).collect();
            let asked = Instant::now();
            let scrapes: Vec<String> = self.hosts.iter().map(|host| exporter(host).get("/metrics")).collect();
            let told: Vec<Told> = self.hosts.iter().map(|host| Told::by_virsh(&host.lab)).collect();
            let mut differences = not_shown(shows, &scrapes[self.at.get()], &self.guest.borrow());
            for (number, (told, before)) in told.iter().zip(&before).enumerate() {
                differences.extend(told.differences(&scrapes[number], before, ignored));
                self.growth.borrow_mut().read(number, before);
                self.growth.borrow_mut().read(number, told.readings());
            }
            let story: Vec<_> = told.iter().map(Told::story).collect();
            let has_moved_on = last.replace(story.clone()).is_some_and(|last| last != story);
            // Where a QEMU or the daemon gets too little of a busy machine, the exporter says what it could not have in time.
            let is_partial = scrapes.iter().any(|scrape| scrape.contains("\nlibvirt_domain_stats_missing{"));
            if has_moved_on || is_partial {
                since = asked;
            }
            if differences.is_empty() {
                return asked - since;
            }
            assert!(begun.elapsed() < GUEST, "{what}: {differences:#?}\n{}", self.hosts[0].exporter.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn write_files(&self) {
        let bridge = |name: &str| {
            let nic = format!(
                "<interface type='bridge'><mac address='52:54:00:aa:aa:01'/><source bridge='{}'/><model type='virtio'/></interface>",
                self.bridge(name)
            );
            fs::write(self.path(&format!("nic-{name}")), nic).unwrap();
        };
        ["a", "b"].iter().for_each(|name| bridge(name));
        let dimm = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>";
        fs::write(self.path("dimm"), dimm).unwrap();
        let backup = format!(
            "<domainbackup mode='pull'><server transport='unix' socket='{}'/><disks>\
             <disk name='vda' backup='yes' type='file'><scratch file='{}'/></disk><disk name='vdb' backup='no'/>\
             </disks></domainbackup>",
            self.path("sock/nbd"),
            self.path("disks/scratch")
        );
        fs::write(self.path("backup"), backup).unwrap();
        fs::File::create(self.path("disks/medium")).unwrap().set_len(1 << 20).unwrap();
    }

    /// A bridge of the laboratory's, which it takes with it when it ends.
    fn bridge(&self, name: &str) -> String {
        let lab = self.hosts[0].lab.folder();
        let bridge = format!("lab{}{name}", fs::read_to_string(lab.join("token")).unwrap().trim());
        let mut links = fs::File::options().append(true).create(true).open(lab.join("taps")).unwrap();
        writeln!(links, "{bridge}").unwrap();
        run(Command::new("ip").args(["link", "add", &bridge, "up", "type", "bridge"]));
        bridge
    }

    fn guest_starts(&self) {
        let name = self.lab().guests(&["linux"]).unwrap().remove(0);
        *self.guest.borrow_mut() = name;
    }

    fn attach_disk(&self, device: &str) {
        let image = self.path(&format!("disks/{device}"));
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(0o666)).unwrap();
        self.virsh(&format!("attach-disk G D/disks/{device} {device} --driver qemu --subdriver raw --live"));
    }

    fn snapshot(&self, name: &str, flags: &str) {
        let spec = format!("vda,snapshot=external,file={}", self.path(&format!("disks/{name}")));
        self.virsh(&format!("snapshot-create-as G {name} --disk-only {flags} --diskspec {spec}"));
    }

    /// The disk is larger than the file system that it is on, which only the laboratory sees.
    fn attach_small_disk(&self) {
        let full = self.path("full");
        fs::create_dir(&full).unwrap();
        self.inside(&format!("mount -t tmpfs -o size=1m full {full}; truncate -s 16M {full}/image"));
        let disk = format!(
            "<disk type='file'><driver name='qemu' type='raw' error_policy='stop'/><source file='{full}/image'/>\
             <target dev='vdc' bus='virtio'/></disk>"
        );
        fs::write(self.path("small"), disk).unwrap();
        self.virsh("attach-device G D/small --live");
    }

    fn enlarge_and_resume(&self) {
        self.inside(&format!("mount -o remount,size=32m {}", self.path("full")));
        self.virsh("resume G");
    }

    /// Runs a command in the mount namespace of the guest's host.
    fn inside(&self, command: &str) {
        let qemu = qemu(&self.guest.borrow()).to_string();
        run(Command::new("nsenter").args(["--mount", "--root", "--target", &qemu, "sh", "-ec", command]));
    }

    fn migrate(&self, from: usize) {
        let uri = &self.hosts[1 - from].lab.uri;
        // The image is on no storage that two hosts share, but on the one host there is.
        self.virsh(&format!("migrate --live --unsafe --persistent --undefinesource G {uri} tcp://127.0.0.1"));
        self.at.set(1 - from);
    }

    fn rename(&self) {
        let new = format!("{}-renamed", self.guest.borrow());
        self.virsh(&format!("domrename G {new}"));
        *self.guest.borrow_mut() = new;
    }

    fn define_with_another_uuid(&self) {
        let xml = self.lab().virsh(&["dumpxml", &self.guest.borrow()]).unwrap();
        let uuid = xml.split_once("<uuid>").unwrap().1.split_once("</uuid>").unwrap().0;
        let other = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        fs::write(self.path("guest"), xml.replace(uuid, other.trim())).unwrap();
        self.virsh("undefine G");
        self.virsh("define D/guest");
    }
}

/// What a scrape should show of a guest, and does not.
fn not_shown(shows: &str, scrape: &str, guest: &str) -> Vec<String> {
    let samples = parse_exposition(scrape).unwrap();
    let is_wrong = |what: &&str| {
        let mut words = what.trim_start_matches('!').split(' ');
        let name = format!("libvirt_domain_{}", words.next().unwrap());
        let conditions: Vec<&str> = words.collect();
        let meets = |sample: &Sample, condition: &str| match condition.split_once('=') {
            Some((label, "")) => sample.label(label).is_empty(),
            Some((label, end)) => sample.label(label).ends_with(end),
            None => sample.value == condition.parse::<f64>().unwrap(),
        };
        let mut own = samples.iter().filter(|sample| sample.name == name && sample.label("domain") == guest);
        let found = own.any(|sample| conditions.iter().all(|condition| meets(sample, condition)));
        found == what.starts_with('!')
    };
    let all = |what: &str| {
        let name = format!("libvirt_domain_{}", what.trim_start_matches('!').split(' ').next().unwrap());
        let of_it = samples.iter().filter(|sample| sample.name == name && sample.label("domain") == guest);
        of_it.map(|sample| sample.value).collect::<Vec<f64>>()
    };
    shows.split("; ").filter(is_wrong).map(|what| format!("not shown: {what}, but {:?}", all(what))).collect()
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
