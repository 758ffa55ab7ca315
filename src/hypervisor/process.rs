//! The QEMU process of a domain in /proc: which it is, which of its threads are vCPUs, and what CPU time they have used.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::BufRead;
use std::path::PathBuf;

use procfs::process::{Process, Schedstat, Stat};
use procfs::{FromBufRead, ProcError, ProcResult};
use uuid::Uuid;

use super::Doubt;
use super::cgroup::{CpuFiles, CpuTime, Groups, HaltPoll, Mounts};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The QEMU process of a domain.
#[derive(Debug)]
pub(super) struct Qemu {
    pid: i32,
    /// When it was started, in ticks since the host was: a process that got the same number later has another.
    started: u64,
    /// The thread of each vCPU, by the number of the vCPU.
    vcpus: BTreeMap<u32, i32>,
    /// Its other threads.
    others: HashSet<i32>,
    files: CpuFiles,
    /// The control groups of its domain.
    groups: Groups,
    halt_poll: Option<HaltPoll>,
}

/// What the files say at one moment, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) cpu: CpuTime,
    /// In the order of their numbers.
    pub(super) vcpus: Vec<VcpuTime>,
}

/// What a vCPU's thread has used and waited for, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VcpuTime {
    pub(super) number: u32,
    pub(super) time: u64,
    pub(super) wait: u64,
    pub(super) delay: u64,
}

/// All processes that have `-uuid` among their arguments, by what follows it. libvirt starts each QEMU so.
pub(super) fn find_all() -> HashMap<Uuid, Vec<i32>> {
    let mut found: HashMap<Uuid, Vec<i32>> = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        if let Some(uuid) = uuid_of(&line) {
            found.entry(uuid).or_default().push(pid);
        }
    }
    found
}

fn uuid_of(command_line: &[u8]) -> Option<Uuid> {
    let mut arguments = command_line.split(|byte| *byte == 0);
    arguments.find(|argument| *argument == b"-uuid")?;
    Uuid::try_parse_ascii(arguments.next()?).ok()
}

impl Qemu {
    /// The one of `pids` that runs vCPUs.
    pub(super) fn open(pids: &[i32], mounts: &Mounts) -> Result<Self, Doubt> {
        let mut doubt = Doubt::NoProcess;
        let mut opened = Vec::new();
        for pid in pids {
            match Self::open_one(*pid, mounts) {
                Ok(qemu) if qemu.vcpus.is_empty() => doubt = Doubt::NoVcpus,
                Ok(qemu) => opened.push(qemu),
                Err(error) => doubt = error.into(),
            }
        }
        if opened.len() > 1 {
            return Err(Doubt::SeveralProcesses);
        }
        opened.pop().ok_or(doubt)
    }

    fn open_one(pid: i32, mounts: &Mounts) -> ProcResult<Self> {
        let process = Process::new(pid)?;
        let started = process.stat()?.starttime;
        let of_process = process.cgroups()?.0;
        let (files, groups, halt_poll) = (mounts.cpu_files(&of_process), mounts.groups(&of_process), HaltPoll::of(pid));
        let (vcpus, others) = (BTreeMap::new(), HashSet::new());
        let mut qemu = Self { pid, started, vcpus, others, files, groups, halt_poll };
        for tid in threads(pid)? {
            match qemu.vcpu_of(&process, tid) {
                Some(number) => drop(qemu.vcpus.insert(number, tid)),
                None => drop(qemu.others.insert(tid)),
            }
        }
        Ok(qemu)
    }

    /// The number of the vCPU that a thread runs; QEMU calls it `CPU 0/KVM`, or `CPU 0/TCG` without KVM.
    fn vcpu_of(&self, process: &Process, tid: i32) -> Option<u32> {
        let stat: Stat = process.read(format!("task/{tid}/stat")).ok()?;
        stat.comm.strip_prefix("CPU ")?.split_once('/')?.0.parse().ok()
    }

    /// Reads all files.
    ///
    /// # Errors
    /// If the process is gone, or has other vCPUs than when it was opened.
    pub(super) fn read(&mut self) -> Result<Reading, Doubt> {
        // The open folder belongs to one process for good: what is read below it is never of a later one.
        let process = Process::new(self.pid)?;
        let stat = process.stat()?;
        if stat.starttime != self.started {
            return Err(Doubt::NoProcess);
        }
        let threads: HashSet<i32> = threads(self.pid)?.into_iter().collect();
        self.others.retain(|tid| threads.contains(tid));
        for tid in threads {
            if self.others.contains(&tid) || self.vcpus.values().any(|vcpu| *vcpu == tid) {
                continue;
            }
            if self.vcpu_of(&process, tid).is_some() {
                return Err(Doubt::OtherVcpus);
            }
            self.others.insert(tid);
        }
        let has_wait = waits_are_counted();
        let vcpu = |(number, tid): (&u32, &i32)| {
            let time = ticks_of(&process.read(format!("task/{tid}/stat"))?)?;
            let wait = if has_wait { process.read::<_, WaitSum>(format!("task/{tid}/sched"))?.0 } else { 0 };
            let delay = process.read::<_, Schedstat>(format!("task/{tid}/schedstat"))?.run_delay;
            Ok(VcpuTime { number: *number, time, wait, delay })
        };
        let vcpus: ProcResult<Vec<VcpuTime>> = self.vcpus.iter().map(vcpu).collect();
        let vcpus = vcpus.map_err(|error| match error {
            // The thread of a vCPU that was unplugged is gone, its process is not.
            ProcError::NotFound(_) if process.is_alive() => Doubt::OtherVcpus,
            error => error.into(),
        })?;
        let cpu = match self.files.read()? {
            Some(cpu) => cpu,
            None => of_process(&stat)?,
        };
        Ok(Reading { cpu, vcpus })
    }

    /// The control groups of its domain, if the process is the same.
    pub(super) fn groups(&self) -> Result<&Groups, Doubt> {
        let started = Process::new(self.pid)?.stat()?.starttime;
        if started == self.started { Ok(&self.groups) } else { Err(Doubt::NoProcess) }
    }

    /// How long its vCPUs have polled before halting, if the kernel lets that be read.
    pub(super) fn halt_poll(&self) -> Option<(u64, u64)> {
        self.halt_poll.as_ref().and_then(HaltPoll::read)
    }
}

fn threads(pid: i32) -> ProcResult<Vec<i32>> {
    let path = PathBuf::from(format!("/proc/{pid}/task"));
    let entries = fs::read_dir(&path).map_err(|error| ProcError::Io(error, Some(path)))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn ticks_of(stat: &Stat) -> ProcResult<u64> {
    Ok(of_process(stat)?.time)
}

/// As libvirt does it where the domain has no control group.
fn of_process(stat: &Stat) -> ProcResult<CpuTime> {
    let tick = NANOS_PER_SECOND / procfs::ticks_per_second();
    let (user, system) = (stat.utime * tick, stat.stime * tick);
    Ok(CpuTime { time: user + system, user, system })
}

/// Whether the kernel counts how long threads wait. Where that cannot be told, the files of the threads tell it.
fn waits_are_counted() -> bool {
    fs::read_to_string("/proc/sys/kernel/sched_schedstats").map_or(true, |text| text.trim() != "0")
}

/// `wait_sum` of `sched`, in nanoseconds; 0 where the kernel does not count it, as libvirt has it.
struct WaitSum(u64);

impl FromBufRead for WaitSum {
    fn from_buf_read<R: BufRead>(file: R) -> ProcResult<Self> {
        for line in file.lines() {
            let line = line?;
            let Some((name, value)) = line.split_once(':') else { continue };
            if matches!(name.trim(), "wait_sum" | "se.statistics.wait_sum") {
                return Ok(Self(milliseconds(value.trim()).unwrap_or_default()));
            }
        }
        Ok(Self(0))
    }
}

/// Nanoseconds of a number of milliseconds with up to six decimals.
fn milliseconds(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let decimals = format!("{decimals:0<6}");
    Some(whole.parse::<u64>().ok()? * 1_000_000 + decimals.get(..6)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_is_the_argument_behind_its_option() {
        let uuid = Uuid::from_u128(7);
        let line = |parts: &[&str]| parts.join("\0").into_bytes();
        assert_eq!(uuid_of(&line(&["qemu", "-uuid", &uuid.to_string(), "-m", "1"])), Some(uuid));
        for other in [vec!["qemu", "-uuid"], vec!["qemu", "-uuid", "7"], vec!["qemu", &uuid.to_string()], Vec::new()] {
            assert_eq!(uuid_of(&line(&other)), None, "{other:?}");
        }
    }

    #[test]
    fn the_time_that_a_thread_waited_is_in_milliseconds() {
        for (text, nanos) in [("0.000000", 0), ("12.5", 12_500_000), ("1.000001", 1_000_001), ("7", 7_000_000)] {
            let file = format!("CPU 0/KVM (7, #threads: 4)\n---\nse.exec_start   :   1.0\nwait_sum  :  {text}\n");
            assert_eq!(WaitSum::from_buf_read(file.as_bytes()).expect("read").0, nanos, "{text}");
        }
        let older = "se.statistics.wait_sum    :    3.25\n";
        assert_eq!(WaitSum::from_buf_read(older.as_bytes()).expect("read").0, 3_250_000);
        assert_eq!(WaitSum::from_buf_read("nr_switches : 5\n".as_bytes()).expect("read").0, 0);
    }

    #[test]
    fn a_process_that_is_no_qemu_has_no_vcpus() {
        // Not this one: another test has a thread with the name of a vCPU.
        let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let pid = i32::try_from(other.id()).expect("a pid");
        let mounts = Mounts::read();
        assert!(matches!(Qemu::open(&[pid], &mounts), Err(Doubt::NoVcpus)));
        assert!(matches!(Qemu::open(&[], &mounts), Err(Doubt::NoProcess)));
        let mut opened = Qemu::open_one(pid, &mounts).expect("it runs");
        let reading = opened.read().expect("read");
        assert!(reading.vcpus.is_empty() && reading.cpu.time >= reading.cpu.user, "{reading:?}");
        opened.started += 1;
        assert!(matches!(opened.read(), Err(Doubt::NoProcess)), "another process has the number now");
        other.kill().and_then(|()| other.wait()).expect("ended");
    }

    #[test]
    fn a_thread_with_the_name_of_a_vcpu_is_noticed() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let mut own = Qemu::open_one(pid, &Mounts::read()).expect("this process");
        let (ready, started) = std::sync::mpsc::channel();
        let (end, ending) = std::sync::mpsc::channel::<()>();
        let vcpu = std::thread::Builder::new().name("CPU 3/KVM".to_owned()).spawn(move || {
            ready.send(()).expect("sent");
            let _ = ending.recv();
        });
        started.recv().expect("started");
        assert!(matches!(own.read(), Err(Doubt::OtherVcpus)), "plugged in");
        let mut own = Qemu::open(&[pid], &Mounts::read()).expect("has a vCPU");
        let reading = own.read().expect("read");
        assert_eq!(reading.vcpus.iter().map(|vcpu| vcpu.number).collect::<Vec<_>>(), [3]);
        drop(end);
        vcpu.expect("a thread").join().expect("joined");
        let mut gone = own.read();
        // The kernel takes the thread off its list a moment after it was joined.
        for _ in 0..1000 {
            if gone.is_err() {
                break;
            }
            std::thread::yield_now();
            gone = own.read();
        }
        assert!(matches!(gone, Err(Doubt::OtherVcpus)), "unplugged: {gone:?}");
    }
}
