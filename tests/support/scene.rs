//! A laboratory that looks like a few hosts: guests of several sizes whose load varies, and some that are in trouble.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Suite, qemu, signal};
use crate::special::{full_guest, tell};

/// More than a busy machine takes until its Linux guest has done what it is told.
const SOON: Duration = Duration::from_secs(180);

/// The hosts and their guests.
pub struct Scene {
    /// This machine's libvirt, with most of the guests.
    pub first: Lab,
    /// Debian sid's, whose disks have latency histograms.
    pub second: Lab,
    /// This machine's again, where a guest of the first migrates to.
    pub third: Lab,
    /// The guest of the second.
    pub timed: String,
    /// The guest that migrates.
    mover: String,
    /// The guest that freezes.
    freezing: String,
}

impl Scene {
    pub fn start() -> Self {
        let [first, third] = [(); 2].map(|()| Lab::start(Suite::Machine).unwrap());
        let second = Lab::start(Suite::Debian("sid")).unwrap();
        let linux = first.guests(&["linux"]).unwrap().remove(0);
        first.guests(&["web", "db", "old", "chain"]).unwrap();
        let of_projects = ["api", "cache", "mysql", "batch", "store", "mail"];
        let mut of_projects = first.guests(&of_projects).unwrap();
        let freezing = of_projects.pop().unwrap();
        let mover = full_guest(&first, 100);
        third.guests(&["pod", "pod2"]).unwrap();
        let timed = second.guests(&["timed"]).unwrap().remove(0);
        first.virsh(&["snapshot-create-as", &of_projects[1], "before-upgrade", "--disk-only"]).unwrap();
        storage_and_network(&first);
        fill_a_disk(&first, &linux);
        Self { first, second, third, timed, mover, freezing }
    }

    /// A guest freezes, and another one begins to migrate, for longer than anyone watches.
    pub fn troubles(&self) {
        signal(qemu(&self.freezing), "-STOP");
        if self.migrates() {
            let target = ["--bandwidth", "1", &self.mover, &self.third.uri, "tcp://127.0.0.1"];
            let mut command = Command::new("virsh");
            command.args(["--quiet", "--connect", &self.first.uri, "migrate", "--live", "--unsafe"]).args(target);
            // It ends with the laboratory.
            drop(command.spawn().unwrap());
        }
    }

    /// Whether the laboratory can have a guest migrate: as root, who may mount.
    pub fn migrates(&self) -> bool {
        !self.first.uri.contains(":///session")
    }
}

/// A pool with room, one that is full, and a network that should run and does not.
fn storage_and_network(lab: &Lab) {
    for pool in ["images", "scratch"] {
        let folder = lab.folder().join(pool);
        fs::create_dir(&folder).unwrap();
        if pool == "scratch" {
            fill(lab, &folder);
        }
        lab.virsh(&["pool-define-as", pool, "dir", "--target", folder.to_str().unwrap()]).unwrap();
        lab.virsh(&["pool-start", pool]).unwrap();
        lab.virsh(&["pool-autostart", pool]).unwrap();
    }
    let xml = lab.folder().join("network.xml");
    fs::write(&xml, "<network><name>storage</name><bridge name='labstorage0'/></network>").unwrap();
    lab.virsh(&["net-define", xml.to_str().unwrap()]).unwrap();
    lab.virsh(&["net-autostart", "storage"]).unwrap();
}

/// Has the daemon see a small file system at the folder, nearly full; where this user may mount.
fn fill(lab: &Lab, folder: &Path) {
    if lab.uri.contains(":///session") {
        return;
    }
    let daemon = fs::read_to_string(lab.folder().join("libvirtd.pid")).unwrap();
    let mounted = Command::new("nsenter")
        .arg(format!("--mount=/proc/{}/ns/mnt", daemon.trim()))
        .args([
            "sh",
            "-ec",
            "mount -t tmpfs -o size=16m scratch \"$1\" && head -c 15600k /dev/zero >\"$1/volume\"",
            "sh",
        ])
        .arg(folder)
        .status();
    assert!(mounted.is_ok_and(|status| status.success()), "a small file system");
}

/// Has the guest with a Linux make a file system on another disk, fill it, and its agent tell of it.
fn fill_a_disk(lab: &Lab, guest: &str) {
    let disk = lab.folder().join("disks/data");
    fs::write(&disk, vec![0; 16 << 20]).unwrap();
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o666)).unwrap();
    let began = Instant::now();
    lab.virsh(&["attach-disk", guest, disk.to_str().unwrap(), "vdb", "--live"]).unwrap();
    let make =
        "grep -q /mnt /proc/mounts || { mke2fs /dev/vdb && mount /dev/vdb /mnt && head -c 14m /dev/zero >/mnt/log; }";
    let mut told = 0;
    while !lab.virsh(&["guestinfo", guest, "--filesystem"]).is_ok_and(|said| said.contains("/mnt")) {
        assert!(began.elapsed() < SOON, "the guest tells of no file system");
        // It takes no command before it has booted, and a second agent would be one too many.
        drop(tell(lab, guest, if told == 0 { "[ -s /run/qemu-ga.pid ] || agent real" } else { make }));
        told += 1;
        thread::sleep(Duration::from_secs(3));
        told %= 3;
    }
}
