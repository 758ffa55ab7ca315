//! The processes that libvirt starts as a transport: `ssh`, and what that starts itself.
//!
//! libvirt speaks to such a process over a pair of sockets. Where they are shut, it reads what the process says last until that has
//! ended: an open that hangs is ended by the end of its process only.

use std::collections::BTreeSet;

use procfs::process::{Process, Stat, all_processes};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// A process: its number, and when it started. The number alone may be that of another one since.
pub(super) type Helper = (i32, u64);

/// The processes that this one has started and that still run.
pub(super) fn helpers() -> BTreeSet<Helper> {
    children_of(getpid().as_raw_nonzero().get(), &processes()).collect()
}

/// The arguments that it was started with, its name first; none once it has ended.
pub(super) fn arguments((pid, _): Helper) -> Vec<String> {
    Process::new(pid).and_then(|process| process.cmdline()).unwrap_or_default()
}

/// Whether a process with these arguments is still a copy of this one, or nothing yet: what it becomes is not known.
pub(super) fn is_starting(arguments: &[String]) -> bool {
    let own = || Process::myself().and_then(|process| process.cmdline());
    arguments.is_empty() || own().is_ok_and(|own| own == arguments)
}

/// Ends the process and all that it has started: those hold the same sockets and pipes. `false` if none was left.
pub(super) fn end(helper: Helper) -> bool {
    let all = processes();
    let mut family = vec![helper];
    let mut next = 0;
    while let Some((pid, _)) = family.get(next).copied() {
        family.extend(children_of(pid, &all));
        next += 1;
    }
    // Of one that has ended, the others belong to the process that has its number now.
    let ended = kill(helper);
    if ended {
        family.into_iter().skip(1).for_each(|process| _ = kill(process));
    }
    ended
}

fn processes() -> Vec<Stat> {
    // One that ends meanwhile has nothing to tell.
    let running = |stat: &Stat| !['Z', 'X'].contains(&stat.state);
    let stats = all_processes().into_iter().flatten().filter_map(|process| process.ok()?.stat().ok());
    stats.filter(running).collect()
}

fn children_of(parent: i32, all: &[Stat]) -> impl Iterator<Item = Helper> {
    all.iter().filter(move |stat| stat.ppid == parent).map(|stat| (stat.pid, stat.starttime))
}

fn kill((pid, started): Helper) -> bool {
    let Some(descriptor) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return false;
    };
    // The descriptor is of one process for ever; that it is the one that is meant is seen now.
    let is_same = Process::new(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.starttime == started);
    is_same && pidfd_send_signal(&descriptor, Signal::KILL).is_ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_ends_with_all_that_it_has_started() {
        let mut shell = Command::new("sh").args(["-c", "sleep 600; true"]).spawn().expect("sh");
        let number = i32::try_from(shell.id()).expect("a number");
        let of_shell = || helpers().into_iter().find(|(pid, _)| *pid == number);
        let helper = of_shell().expect("a child");
        // Until it is a shell.
        while arguments(helper).get(1).is_none_or(|argument| argument != "-c") {}
        let mut below = Vec::new();
        while below.is_empty() {
            below = children_of(number, &processes()).collect();
        }
        assert!(!end((helper.0, helper.1 + 1)), "another process with its number");
        assert!(end(helper));
        assert!(!shell.wait().expect("its end").success());
        let runs = |pid: i32| processes().iter().any(|stat| stat.pid == pid);
        while below.iter().any(|(pid, _)| runs(*pid)) {}
        assert!(of_shell().is_none() && !end(helper) && arguments(helper).is_empty());
    }
}
