//! What the tests share: a daemon with a few domains, the real `virsh`, and a client of the bare protocol.
#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod raw;
pub(crate) mod real;

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Scenario, ScenarioBuilder, Template};

/// How long calls wait for a busy domain in [`small`]: half of it is longer than a quick call takes.
pub(crate) const JOB_WAIT: Duration = Duration::from_secs(8);

/// Three small domains, `vm-0` to `vm-2`, and a job wait that a test can afford.
pub(crate) fn small() -> ScenarioBuilder {
    Scenario::builder().domains(3, Template::small()).job_wait(JOB_WAIT)
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

/// What a program has said so far.
type Heard = Arc<Mutex<Vec<u8>>>;

/// A program under way.
pub(crate) struct Running {
    child: Child,
    began: Instant,
    /// What it has said so far.
    out: Heard,
    err: Heard,
    /// Threads that read what it says, so that it never waits for a reader.
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said something, on either stream; then, or after a while, ends it as Ctrl-C would.
    pub(crate) fn interrupt_after(self, awaited: impl Fn(&str) -> bool) -> Said {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            if awaited(&(text(&self.out) + &text(&self.err))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let id = self.id().to_string();
        let mut command = Command::new("kill");
        assert!(command.args(["-INT", &id]).status().unwrap().success());
        self.wait(began.elapsed() + Duration::from_secs(60))
    }

    /// Waits for its end, but not for longer than this.
    pub(crate) fn wait(mut self, timeout: Duration) -> Said {
        let ended = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break if status.success() { Ended::Ok } else { Ended::Failed };
            }
            if self.began.elapsed() > timeout {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                break Ended::Killed;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = self.began.elapsed();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Said { ended, took, out: text(&self.out), err: text(&self.err) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended long ago, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until the end, for others to look at meanwhile.
fn read(mut from: impl Read + Send + 'static) -> (Heard, JoinHandle<()>) {
    let heard = Heard::default();
    let into = Arc::clone(&heard);
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            into.lock().unwrap().extend_from_slice(&bytes[..count]);
        }
    });
    (heard, reader)
}

fn text(heard: &Heard) -> String {
    String::from_utf8_lossy(&heard.lock().unwrap()).into_owned()
}

/// Starts a program.
pub(crate) fn spawn(command: &mut Command, package: &str) -> Running {
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; install the Debian package {package}"));
    let (out, out_reader) = read(child.stdout.take().unwrap());
    let (err, err_reader) = read(child.stderr.take().unwrap());
    Running { child, began, out, err, readers: vec![out_reader, err_reader] }
}

/// Starts `virsh` on a daemon, without waiting for it. On a busy machine a pong can be late by seconds.
pub(crate) fn start_virsh(daemon: &FakeLibvirtd, arguments: &[&str]) -> Running {
    start_virsh_at(&daemon.uri(), &[&["-k", "1", "-K", "30"], arguments].concat())
}

/// The same, which gives a silent daemon up after four seconds.
pub(crate) fn start_impatient_virsh(daemon: &FakeLibvirtd, arguments: &[&str]) -> Running {
    start_virsh_at(&daemon.uri(), &[&["-k", "1", "-K", "3"], arguments].concat())
}

/// Starts `virsh` on a URI. A real daemon on a busy machine can be late with its part of keepalive.
pub(crate) fn start_virsh_at(uri: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new("virsh");
    command.args(["-c", uri]).args(arguments);
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
        assert!(stats.contains(&format!("Domain: '{name}'")), "{name} is not in {stats}");
    }
}
