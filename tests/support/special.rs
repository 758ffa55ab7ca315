//! Guests that are made or told something by a test.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use crate::lab::Lab;

/// A guest of so many MiB of memory that does not compress: QEMU loads it from a file at each start.
pub fn full_guest(lab: &Lab, mib: usize) -> String {
    let name = lab.guests(&["mover"]).unwrap().remove(0);
    let fill = lab.folder().join("disks/fill");
    let mut bytes = vec![0; mib << 20];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    fs::write(&fill, bytes).unwrap();
    fs::set_permissions(&fill, fs::Permissions::from_mode(0o644)).unwrap();
    let xml = lab.virsh(&["dumpxml", "--inactive", &name]).unwrap();
    lab.virsh(&["destroy", &name]).unwrap();
    let memory = |xml: &str, tag: &str| {
        let (before, rest) = xml.split_once(&format!("<{tag} unit='KiB'>")).unwrap();
        let (_, after) = rest.split_once(&format!("</{tag}>")).unwrap();
        format!("{before}<{tag} unit='MiB'>{}</{tag}>{after}", 2 * mib + 32)
    };
    let xml = memory(&memory(&xml, "memory"), "currentMemory");
    let xml = xml.replacen("<domain type=", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' type=", 1);
    let device = format!("loader,file={},addr=0x1000000,force-raw=on", fill.display());
    let load = format!("<qemu:commandline><qemu:arg value='-device'/><qemu:arg value='{device}'/></qemu:commandline>");
    let file = lab.folder().join("full.xml");
    fs::write(&file, xml.replace("</domain>", &format!("{load}</domain>"))).unwrap();
    lab.virsh(&["define", file.to_str().unwrap()]).unwrap();
    lab.virsh(&["start", &name]).unwrap();
    name
}

/// Writes a command to the serial console of the guest, which runs it while the file is open.
pub fn tell(lab: &Lab, guest: &str, command: &str) -> fs::File {
    let path = lab.virsh(&["ttyconsole", guest]).unwrap();
    let mut terminal = fs::File::options().write(true).open(path.trim()).unwrap();
    writeln!(terminal, "{command}").unwrap();
    terminal
}
