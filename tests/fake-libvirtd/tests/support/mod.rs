//! What the tests share: a daemon with a few domains, the real `virsh`, and a client of the bare protocol.
#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod raw;
pub(crate) mod real;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Scenario, ScenarioBuilder, Template};

/// Three small domains, `vm-0` to `vm-2`, and a job wait that a test can afford.
pub(crate) fn small() -> ScenarioBuilder {
    Scenario::builder()
        .domains(3, Template::small())
        .job_wait(Duration::from_millis(300))
}

/// A daemon with [`small`].
pub(crate) fn start_small() -> FakeLibvirtd {
    FakeLibvirtd::start(small().build()).unwrap()
}

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Ok,
    Failed,
    /// It hung, and was killed.
    Killed,
}

/// A program that has ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ended: Ended,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Said {
    /// What it said, if it ended well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.ended, Ended::Ok, "{self:?}");
        self.out
    }

    /// Its complaints, if it failed (and did not hang).
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.ended, Ended::Failed, "{self:?}");
        self.err
    }
}

/// A program under way.
pub(crate) struct Running {
    child: Child,
    began: Instant,
    /// Threads that read what it says, so that it never waits for a reader.
    says: Option<(JoinHandle<String>, JoinHandle<String>)>,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, but not for longer than this.
    pub(crate) fn wait(mut self, timeout: Duration) -> Said {
        let ended = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break if status.success() {
                    Ended::Ok
                } else {
                    Ended::Failed
                };
            }
            if self.began.elapsed() > timeout {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                break Ended::Killed;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = self.began.elapsed();
        let (out, err) = self.says.take().unwrap();
        Said {
            ended,
            took,
            out: out.join().unwrap(),
            err: err.join().unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended long ago, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Starts a program.
pub(crate) fn spawn(command: &mut Command, package: &str) -> Running {
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{command:?}: {error}; install the Debian package {package}")
        });
    let out = child.stdout.take().unwrap();
    let err = child.stderr.take().unwrap();
    let says = (
        std::thread::spawn(move || read(out)),
        std::thread::spawn(move || read(err)),
    );
    Running {
        child,
        began,
        says: Some(says),
    }
}

/// Starts `virsh` on a daemon, without waiting for it.
pub(crate) fn start_virsh(daemon: &FakeLibvirtd, arguments: &[&str]) -> Running {
    start_virsh_at(&daemon.uri(), arguments)
}

/// Starts `virsh` on a URI.
pub(crate) fn start_virsh_at(uri: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new("virsh");
    command
        .args(["-k", "1", "-K", "1", "-c", uri])
        .args(arguments);
    command.env("LC_ALL", "C");
    spawn(&mut command, "libvirt-clients")
}

/// Runs `virsh` on a daemon.
pub(crate) fn virsh(daemon: &FakeLibvirtd, arguments: &[&str]) -> Said {
    start_virsh(daemon, arguments).wait(Duration::from_secs(60))
}

/// Runs `virsh` on a daemon, expecting that it hangs: it is killed after a while.
pub(crate) fn virsh_hangs(daemon: &FakeLibvirtd, arguments: &[&str]) {
    let said = start_virsh(daemon, arguments).wait(Duration::from_millis(1500));
    assert_eq!(said.ended, Ended::Killed, "{said:?}");
}

/// After whatever went wrong, the daemon serves as if nothing had been.
pub(crate) fn assert_recovered(daemon: &FakeLibvirtd) {
    daemon.faults().clear();
    let stats = virsh(daemon, &["domstats"]).ok();
    for name in daemon.domains().names() {
        assert!(
            stats.contains(&format!("Domain: '{name}'")),
            "{name} is not in {stats}"
        );
    }
}
