//! A private real libvirtd, separate from that of the machine: in its own mount namespace, with one guest. Needs root.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Running, Said, spawn, start_virsh_at};

const SOON: Duration = Duration::from_secs(60);

/// Binds private folders over libvirt's own, then becomes libvirtd.
const ENTER: &str = r#"
for pair in run:/run/libvirt lib:/var/lib/libvirt log:/var/log/libvirt etc:/etc/libvirt cache:/var/cache/libvirt; do
    mkdir -p "$0/${pair%%:*}" "${pair#*:}" && mount --bind "$0/${pair%%:*}" "${pair#*:}" || exit 1
done
printf 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nremember_owner = 0\nstdio_handler = "file"\n' >/etc/libvirt/qemu.conf
# libvirt of Debian 12 wants the user that its package libvirt-daemon-system would make, even to use another one.
if ! getent passwd libvirt-qemu >/dev/null; then
  { cat /etc/passwd; echo 'libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin'; } >"$0/passwd"
  { cat /etc/group; echo 'libvirt-qemu:x:64055:'; } >"$0/group"
  mount --bind "$0/passwd" /etc/passwd
  mount --bind "$0/group" /etc/group
fi
exec libvirtd -f "$0/libvirtd.conf" -p "$0/libvirtd.pid"
"#;

/// The daemon. Dropping it destroys its guest and ends it.
pub(crate) struct RealLibvirtd {
    daemon: Option<Running>,
    folder: tempfile::TempDir,
    /// The guest's name: control groups and taps are the whole machine's, so it must be unique.
    pub(crate) guest: String,
}

impl RealLibvirtd {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display();
        std::fs::create_dir(folder.path().join("sock")).unwrap();
        let config = format!(
            "unix_sock_dir = \"{dir}/sock\"\nauth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\nlog_outputs = \"2:file:{dir}/log.txt\"\n"
        );
        std::fs::write(folder.path().join("libvirtd.conf"), config).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-c", ENTER]);
        let daemon = spawn(command.arg(folder.path()), "util-linux");
        let real = Self { daemon: Some(daemon), guest: format!("fake-conformance-{}", std::process::id()), folder };
        let began = Instant::now();
        while !real.socket().exists() {
            assert!(
                began.elapsed() < SOON,
                "no libvirtd: this test needs root and the Debian packages libvirt-daemon, libvirt-daemon-driver-qemu and qemu-system-x86"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        real
    }

    /// Defines the guest: one vCPU, one disk, one NIC with a tap, as [`fake_libvirtd::Template::small`] has them.
    pub(crate) fn define_guest(&self) {
        let disk = self.folder.path().join("disk.qcow2");
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("16M");
        spawn(&mut command, "qemu-utils").wait(SOON).ok();
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>\
             <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>\
             <target dev='vda' bus='virtio'/></disk>\
             <interface type='ethernet'><target dev='fk{pid}'/><model type='virtio'/></interface>\
             <controller type='usb' model='none'/></devices></domain>",
            name = self.guest,
            disk = disk.display(),
            pid = std::process::id(),
        );
        let file = self.folder.path().join("guest.xml");
        std::fs::write(&file, xml).unwrap();
        self.virsh(&["define", &file.display().to_string()]).ok();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("sock/libvirt-sock")
    }

    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket().display())
    }

    pub(crate) fn virsh(&self, arguments: &[&str]) -> Said {
        start_virsh_at(&self.uri(), arguments).wait(SOON)
    }

    /// Sends a signal to the guest's QEMU.
    pub(crate) fn signal_guest(&self, signal: &str) {
        let file = self.folder.path().join(format!("run/qemu/{}.pid", self.guest));
        let id = std::fs::read_to_string(file).unwrap();
        let mut command = Command::new("kill");
        spawn(command.args([signal, id.trim()]), "procps").wait(SOON).ok();
    }
}

impl Drop for RealLibvirtd {
    fn drop(&mut self) {
        // Whatever fails here has nothing left to clean.
        if self.folder.path().join(format!("run/qemu/{}.pid", self.guest)).exists() {
            self.signal_guest("-CONT");
            drop(self.virsh(&["destroy", &self.guest]));
        }
        if let Some(daemon) = self.daemon.take() {
            let id = daemon.id().to_string();
            drop(Command::new("kill").arg(id).status());
            drop(daemon.wait(Duration::from_secs(10)));
        }
    }
}
