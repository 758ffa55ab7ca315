//! Paused guests for tests that need many.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::lab::{Lab, Suite};

/// A lab with paused guests of nearly nothing, whose QEMUs answer all the same, and their names.
pub fn paused_guests(count: u32) -> (Lab, Vec<String>) {
    let lab = Lab::start(Suite::Machine).unwrap();
    let kvm = lab.virsh(&["domcapabilities", "--virttype", "kvm", "--arch", "x86_64"]).is_ok();
    let kind = if kvm { "kvm" } else { "qemu" };
    // Control groups are named after guests, and shared by all libvirtds of the machine.
    static LABS: AtomicU32 = AtomicU32::new(0);
    let lab_number = LABS.fetch_add(1, Ordering::Relaxed);
    let names: Vec<String> =
        (0..count).map(|number| format!("paused-{}-{lab_number}-{number}", std::process::id())).collect();
    for name in &names {
        let disk = lab.folder().join("disks").join(name);
        fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        fs::set_permissions(&disk, fs::Permissions::from_mode(0o666)).unwrap();
        let disk = disk.display();
        let xml = format!(
            "<domain type='{kind}'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os>\
             <devices><controller type='usb' model='none'/><memballoon model='virtio'/>\
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/>\
             <target dev='vda' bus='virtio'/></disk></devices></domain>"
        );
        let file = lab.folder().join(format!("{name}.xml"));
        fs::write(&file, xml).unwrap();
        lab.virsh(&["create", file.to_str().unwrap(), "--paused"]).unwrap();
    }
    (lab, names)
}
