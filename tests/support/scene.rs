//! A laboratory that looks like a few hosts: guests of several sizes whose load varies, and some that are in trouble.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, Suite, qemu, signal};
use crate::special::full_guest;

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
        first.guests(&["web", "db", "old", "chain"]).unwrap();
        let of_projects = ["api", "cache", "mysql", "batch", "store", "mail"];
        let mut of_projects = first.guests(&of_projects).unwrap();
        let freezing = of_projects.pop().unwrap();
        let mover = full_guest(&first, 240);
        third.guests(&["pod", "pod2"]).unwrap();
        let timed = second.guests(&["timed"]).unwrap().remove(0);
        first.virsh(&["snapshot-create-as", &of_projects[1], "before-upgrade", "--disk-only"]).unwrap();
        storage_and_network(&first);
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
