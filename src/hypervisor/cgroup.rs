//! The control group of a domain, as libvirt makes it, and what it says of CPU time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use procfs::ProcessCGroup;
use procfs::process::Process;

use super::Doubt;
use super::pressure::value;

/// The folder of QEMU's own threads in the group of its domain.
const EMULATOR: &str = "emulator";
/// The group within systemd's scope that newer libvirt puts all of a domain in.
const NESTED: &str = "libvirt";

/// Where control groups are mounted.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Version 2. Where a domain has a group there, libvirt takes it.
    unified: Option<Mount>,
    /// Version 1 with the controller `cpuacct`.
    cpuacct: Option<Mount>,
}

#[derive(Debug)]
struct Mount {
    point: PathBuf,
    /// The group that is mounted there: not the root in a container.
    root: PathBuf,
}

/// The files that have a domain's CPU time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CpuFiles {
    /// Of a group of version 1: nanoseconds, and ticks by mode.
    V1 { usage: PathBuf, stat: PathBuf },
    /// `cpu.stat` of version 2.
    V2(PathBuf),
    /// None: QEMU has no group for itself, and libvirt takes what its process used.
    OfProcess,
}

/// CPU time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTime {
    pub(super) time: u64,
    pub(super) user: u64,
    pub(super) system: u64,
}

impl Mounts {
    /// As this process sees them.
    pub(super) fn read() -> Self {
        let mounts = Process::myself().and_then(|process| process.mountinfo()).map(|mounts| mounts.0);
        let mut found = Self::default();
        for mount in mounts.unwrap_or_default() {
            let is_cpuacct = mount.super_options.contains_key("cpuacct");
            let of = Mount { point: mount.mount_point, root: PathBuf::from(mount.root) };
            match mount.fs_type.as_str() {
                "cgroup" if is_cpuacct => drop(found.cpuacct.get_or_insert(of)),
                "cgroup2" => drop(found.unified.get_or_insert(of)),
                _ => {}
            }
        }
        found
    }

    /// The folder of version 2 of the domain whose QEMU is in `groups`.
    pub(super) fn unified_folder(&self, groups: &[ProcessCGroup]) -> Option<PathBuf> {
        let group = groups.iter().find(|group| group.hierarchy == 0)?;
        self.unified.as_ref()?.folder_of_domain(Path::new(&group.pathname))
    }

    /// The files of the domain whose QEMU is in `groups`.
    pub(super) fn cpu_files(&self, groups: &[ProcessCGroup]) -> CpuFiles {
        if let Some(folder) = self.unified_folder(groups) {
            return CpuFiles::V2(folder.join("cpu.stat"));
        }
        let in_v1 = |group: &&ProcessCGroup| group.controllers.iter().any(|controller| controller == "cpuacct");
        let folder = self.cpuacct.as_ref().zip(groups.iter().find(in_v1));
        match folder.and_then(|(mount, group)| mount.folder_of_domain(Path::new(&group.pathname))) {
            Some(folder) => CpuFiles::V1 { usage: folder.join("cpuacct.usage"), stat: folder.join("cpuacct.stat") },
            None => CpuFiles::OfProcess,
        }
    }
}

impl Mount {
    /// The group of the domain whose QEMU's own threads are in `group`.
    fn folder_of_domain(&self, group: &Path) -> Option<PathBuf> {
        let group = group.strip_prefix(&self.root).ok()?;
        let domain = if group.ends_with(EMULATOR) { group.parent()? } else { return None };
        let domain = if domain.ends_with(NESTED) { domain.parent()? } else { domain };
        Some(self.point.join(domain))
    }
}

impl CpuFiles {
    /// What they say; `None` if there are none.
    pub(super) fn read(&self) -> Result<Option<CpuTime>, Doubt> {
        let time = match self {
            Self::OfProcess => return Ok(None),
            Self::V1 { usage, stat } => {
                let time = text(usage)?.trim().parse().ok();
                let tick = 1_000_000_000 / procfs::ticks_per_second();
                let text = text(stat)?;
                let by_mode = |mode| Some(value(&text, mode)? * tick);
                time.zip(by_mode("user").zip(by_mode("system"))).map(|(time, (user, system))| CpuTime {
                    time,
                    user,
                    system,
                })
            }
            Self::V2(stat) => {
                let text = text(stat)?;
                let nanos = |name| Some(value(&text, name)? * 1000);
                let by_mode = nanos("user_usec").zip(nanos("system_usec"));
                nanos("usage_usec").zip(by_mode).map(|(time, (user, system))| CpuTime { time, user, system })
            }
        };
        time.map(Some).ok_or_else(|| Doubt::Malformed(self.path().to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::V1 { stat: path, .. } | Self::V2(path) => path,
            Self::OfProcess => Path::new(""),
        }
    }
}

/// The folder in which the kernel shows KVM's statistics of a domain: root alone may look, and only where debugfs is mounted.
#[derive(Debug)]
pub(super) struct HaltPoll(PathBuf);

impl HaltPoll {
    /// Of the QEMU with this number.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let prefix = format!("{pid}-");
        let folders = fs::read_dir("/sys/kernel/debug/kvm").ok()?;
        let mut folders = folders.filter_map(Result::ok);
        let own = folders.find(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)))?;
        Some(Self(own.path()))
    }

    /// The nanoseconds that all vCPUs polled with success, and without.
    pub(super) fn read(&self) -> Option<(u64, u64)> {
        let of = |name: &str| fs::read_to_string(self.0.join(name)).ok()?.trim().parse().ok();
        Some((of("halt_poll_success_ns")?, of("halt_poll_fail_ns")?))
    }
}

fn text(path: &Path) -> Result<String, Doubt> {
    fs::read_to_string(path).map_err(|source: io::Error| Doubt::Unreadable { file: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(lines: &[(u32, &str, &str)]) -> Vec<ProcessCGroup> {
        let group = |(hierarchy, controllers, pathname): &(u32, &str, &str)| ProcessCGroup {
            hierarchy: *hierarchy,
            controllers: controllers.split(',').map(str::to_owned).collect(),
            pathname: (*pathname).to_owned(),
        };
        lines.iter().map(group).collect()
    }

    fn mount(point: &str, root: &str) -> Option<Mount> {
        Some(Mount { point: point.into(), root: root.into() })
    }

    #[test]
    fn the_group_of_a_domain_is_above_that_of_its_threads() {
        let scope = r"/machine.slice/machine-qemu\x2d1\x2dweb.scope";
        let v2 = Mounts { unified: mount("/sys/fs/cgroup", "/"), ..Mounts::default() };
        let file = |path: &str| CpuFiles::V2(PathBuf::from(format!("/sys/fs/cgroup{path}/cpu.stat")));
        assert_eq!(v2.cpu_files(&groups(&[(0, "", &format!("{scope}/libvirt/emulator"))])), file(scope));
        assert_eq!(v2.cpu_files(&groups(&[(0, "", &format!("{scope}/emulator"))])), file(scope));
        assert_eq!(v2.cpu_files(&groups(&[(0, "", "/user.slice/session-1.scope")])), CpuFiles::OfProcess, "session");
        let within = Mounts { unified: mount("/sys/fs/cgroup", "/machine.slice"), ..Mounts::default() };
        let found = within.cpu_files(&groups(&[(0, "", &format!("{scope}/emulator"))]));
        assert_eq!(found, file(scope.strip_prefix("/machine.slice").expect("below it")), "a part of the tree");
        assert_eq!(within.cpu_files(&groups(&[(0, "", "/other/emulator")])), CpuFiles::OfProcess, "not mounted here");
    }

    #[test]
    fn version_one_has_the_time_where_version_two_has_no_group() {
        let both = Mounts { cpuacct: mount("/cg/cpuacct", "/"), unified: mount("/cg/unified", "/") };
        let lines = [(3, "cpu,cpuacct", "/machine/qemu-1-web.libvirt-qemu/emulator"), (0, "", "/")];
        let folder = PathBuf::from("/cg/cpuacct/machine/qemu-1-web.libvirt-qemu");
        let expected = CpuFiles::V1 { usage: folder.join("cpuacct.usage"), stat: folder.join("cpuacct.stat") };
        assert_eq!(both.cpu_files(&groups(&lines)), expected);
        let lines = [(2, "cpuacct", "/"), (0, "", "/machine/qemu-1-web.libvirt-qemu/emulator")];
        let expected = CpuFiles::V2(PathBuf::from("/cg/unified/machine/qemu-1-web.libvirt-qemu/cpu.stat"));
        assert_eq!(both.cpu_files(&groups(&lines)), expected);
    }

    #[test]
    fn files_of_both_versions_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let text = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 0\nnr_throttled 0\n";
        let stat = CpuFiles::V2(write("cpu.stat", text));
        let expected = CpuTime { time: 1_500_000, user: 1_000_000, system: 500_000 };
        assert_eq!(stat.read().expect("read"), Some(expected));
        let usage = write("cpuacct.usage", "123456789\n");
        let v1 = CpuFiles::V1 { usage, stat: write("cpuacct.stat", "user 7\nsystem 5\n") };
        let tick = 1_000_000_000 / procfs::ticks_per_second();
        let expected = CpuTime { time: 123_456_789, user: 7 * tick, system: 5 * tick };
        assert_eq!(v1.read().expect("read"), Some(expected));
        let broken = CpuFiles::V2(write("other", "usage_usec 1500\nuser_usec many\n"));
        assert!(matches!(broken.read(), Err(Doubt::Malformed(_))));
        let gone = CpuFiles::V2(folder.path().join("gone"));
        assert!(matches!(gone.read(), Err(Doubt::Unreadable { .. })));
    }
}
