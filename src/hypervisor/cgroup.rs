//! The control groups of a domain, as libvirt makes them, and what they say of CPU time.

use std::collections::BTreeMap;
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
pub(super) const NESTED: &str = "libvirt";
/// The controllers of version 1 that are read.
const CONTROLLERS: [&str; 3] = ["cpu", "cpuacct", "memory"];

/// Where control groups are mounted.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Version 2. Where a domain has a group there, libvirt takes its CPU time.
    unified: Option<Mount>,
    /// Version 1, by controller.
    v1: BTreeMap<&'static str, Mount>,
}

/// The folders of a domain's groups. A hybrid host has those of both versions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// Of version 2.
    pub(super) unified: Option<PathBuf>,
    /// Of version 1 with the controller `cpu`.
    pub(super) cpu: Option<PathBuf>,
    /// Of version 1 with the controller `memory`: that of QEMU itself, to which libvirt writes the limits. Where the domain's groups are
    /// nested, it is the one below the domain's.
    pub(super) memory: Option<PathBuf>,
}

#[derive(Debug, Clone)]
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
            let of = Mount { point: mount.mount_point, root: PathBuf::from(mount.root) };
            match mount.fs_type.as_str() {
                "cgroup" => {
                    for controller in CONTROLLERS.into_iter().filter(|name| mount.super_options.contains_key(*name)) {
                        found.v1.entry(controller).or_insert_with(|| of.clone());
                    }
                }
                "cgroup2" => drop(found.unified.get_or_insert(of)),
                _ => {}
            }
        }
        found
    }

    /// The groups of the domain whose QEMU is in `groups`.
    pub(super) fn groups(&self, groups: &[ProcessCGroup]) -> Groups {
        let unified = self.unified_in(groups).and_then(Seen::domain);
        let cpu = self.v1_in("cpu", groups).and_then(Seen::domain);
        // Threads have no memory of their own: QEMU is in the group of the domain, unless the domain has none.
        let domain = cpu.as_ref().or(unified.as_ref()).map(|seen| seen.group);
        let of_domain = |seen: &Seen<'_>| domain.is_some_and(|domain| without_nested(seen.group) == domain);
        let memory = self.v1_in("memory", groups).filter(of_domain);
        Groups {
            unified: unified.as_ref().map(Seen::folder),
            cpu: cpu.as_ref().map(Seen::folder),
            memory: memory.as_ref().map(Seen::folder),
        }
    }

    /// The files of the domain whose QEMU is in `groups`.
    pub(super) fn cpu_files(&self, groups: &[ProcessCGroup]) -> CpuFiles {
        if let Some(folder) = self.groups(groups).unified {
            return CpuFiles::V2(folder.join("cpu.stat"));
        }
        match self.v1_in("cpuacct", groups).and_then(Seen::domain).map(|seen| seen.folder()) {
            Some(folder) => CpuFiles::V1 { usage: folder.join("cpuacct.usage"), stat: folder.join("cpuacct.stat") },
            None => CpuFiles::OfProcess,
        }
    }

    /// Which of `groups` is of version 2.
    fn unified_in<'a>(&'a self, groups: &'a [ProcessCGroup]) -> Option<Seen<'a>> {
        self.unified.as_ref()?.seen(groups.iter().find(|group| group.hierarchy == 0)?)
    }

    /// Which of `groups` is of version 1 with a controller.
    fn v1_in<'a>(&'a self, controller: &str, groups: &'a [ProcessCGroup]) -> Option<Seen<'a>> {
        let has_it = |group: &&ProcessCGroup| group.controllers.iter().any(|name| name == controller);
        self.v1.get(controller)?.seen(groups.iter().find(has_it)?)
    }
}

/// A group, as it is seen in a mount: each hierarchy may be mounted from another root.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    mount: &'a Mount,
    group: &'a Path,
}

impl Mount {
    /// A group, if it is in the part of the tree that is mounted.
    fn seen<'a>(&'a self, group: &'a ProcessCGroup) -> Option<Seen<'a>> {
        Some(Seen { mount: self, group: Path::new(&group.pathname).strip_prefix(&self.root).ok()? })
    }
}

impl Seen<'_> {
    /// The group of the domain whose QEMU's own threads are in this one.
    fn domain(self) -> Option<Self> {
        let domain = if self.group.ends_with(EMULATOR) { self.group.parent()? } else { return None };
        Some(Self { group: without_nested(domain), ..self })
    }

    fn folder(&self) -> PathBuf {
        self.mount.point.join(self.group)
    }
}

fn without_nested(group: &Path) -> &Path {
    group.parent().filter(|_| group.ends_with(NESTED)).unwrap_or(group)
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
        let both = Mounts { v1: v1(&["cpuacct"]), unified: mount("/cg/unified", "/") };
        let lines = [(3, "cpu,cpuacct", "/machine/qemu-1-web.libvirt-qemu/emulator"), (0, "", "/")];
        let folder = PathBuf::from("/cg/cpuacct/machine/qemu-1-web.libvirt-qemu");
        let expected = CpuFiles::V1 { usage: folder.join("cpuacct.usage"), stat: folder.join("cpuacct.stat") };
        assert_eq!(both.cpu_files(&groups(&lines)), expected);
        let lines = [(2, "cpuacct", "/"), (0, "", "/machine/qemu-1-web.libvirt-qemu/emulator")];
        let expected = CpuFiles::V2(PathBuf::from("/cg/unified/machine/qemu-1-web.libvirt-qemu/cpu.stat"));
        assert_eq!(both.cpu_files(&groups(&lines)), expected);
    }

    fn v1(controllers: &[&'static str]) -> BTreeMap<&'static str, Mount> {
        let of = |name: &&'static str| Some((*name, mount(&format!("/cg/{name}"), "/")?));
        controllers.iter().filter_map(of).collect()
    }

    #[test]
    fn a_hybrid_host_has_groups_of_both_versions() {
        let domain = "/machine/qemu-1-web.libvirt-qemu";
        let (threads, hybrid) =
            (format!("{domain}/emulator"), Mounts { v1: v1(&CONTROLLERS), unified: mount("/cg/unified", "/") });
        let lines =
            [(4, "memory", domain), (2, "cpuacct", "/"), (1, "cpu", threads.as_str()), (0, "", threads.as_str())];
        let folder = |of: &str| Some(PathBuf::from(format!("/cg/{of}{domain}")));
        let expected = Groups { unified: folder("unified"), cpu: folder("cpu"), memory: folder("memory") };
        assert_eq!(hybrid.groups(&groups(&lines)), expected);
        let old = Mounts { unified: None, ..hybrid };
        let nested = format!("{domain}/libvirt");
        let lines = [(4, "memory", nested.as_str()), (1, "cpu,cpuacct", threads.as_str()), (0, "", "/")];
        let below = PathBuf::from("/cg/memory").join(nested.trim_start_matches('/'));
        let found = old.groups(&groups(&lines));
        assert_eq!(found, Groups { unified: None, memory: Some(below), ..expected }, "where the limits are");
        let lines = [(4, "memory", "/system.slice/libvirtd.service"), (1, "cpu", threads.as_str())];
        assert_eq!(
            old.groups(&groups(&lines)),
            Groups { cpu: folder("cpu"), ..Groups::default() },
            "not its own memory"
        );
        for session in ["/user.slice", "/"] {
            let lines = [(4, "memory", session), (1, "cpu", session)];
            assert_eq!(old.groups(&groups(&lines)), Groups::default(), "{session}: others are in it, too");
        }
        let mut roots = old;
        roots.v1.extend(mount("/cg/memory", "/pod").map(|mount| ("memory", mount)));
        let in_pod = format!("/pod{domain}");
        let lines = [(4, "memory", in_pod.as_str()), (1, "cpu", threads.as_str())];
        let expected = Groups { unified: None, cpu: folder("cpu"), memory: folder("memory") };
        assert_eq!(roots.groups(&groups(&lines)), expected, "a part of one tree");
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
