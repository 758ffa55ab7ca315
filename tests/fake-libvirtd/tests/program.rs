//! The program `fake-libvirtd`: its arguments, its control socket, its end.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Running, Said, spawn, start_virsh_at};

const SOON: Duration = Duration::from_secs(60);

struct Program {
    running: Running,
    folder: tempfile::TempDir,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, arguments)
    }

    fn start_in(folder: tempfile::TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fake-libvirtd"));
        command.arg("--socket").arg(folder.path().join("s"));
        command.arg("--control").arg(folder.path().join("c"));
        command.args(arguments).current_dir(folder.path());
        let program = Self { running: spawn(&mut command, "fake-libvirtd"), folder };
        let began = Instant::now();
        while !(program.socket().exists() && program.control().exists()) {
            assert!(began.elapsed() < SOON, "no sockets");
            std::thread::sleep(Duration::from_millis(5));
        }
        program
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("c")
    }

    fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket().display())
    }

    fn virsh(&self, arguments: &[&str]) -> Said {
        start_virsh_at(&self.uri(), arguments).wait(SOON)
    }

    /// Sends a command as the documentation says.
    fn send(&self, command: &str) -> Said {
        send(&self.control(), command)
    }
}

fn send(control: &Path, command: &str) -> Said {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fake-libvirtd"));
    program.arg("--control").arg(control).args(["--send", command]);
    spawn(&mut program, "fake-libvirtd").wait(SOON)
}

#[test]
fn a_thousand_domains_are_served() {
    let program = Program::start(&["--domains", "1000", "--template", "small"]);
    assert_eq!(program.virsh(&["list", "--all", "--name"]).ok().split_whitespace().count(), 1000);
    assert_eq!(program.virsh(&["domstats"]).ok().matches("Domain: ").count(), 1000);
    assert!(program.virsh(&["dumpxml", "vm-999"]).ok().contains("<name>vm-999</name>"));
    let register = start_virsh_at(&program.uri(), &["event", "--all", "--loop", "--timeout", "2"]);
    while !program.send("counters").ok().contains("callback_register_any 27") {
        std::thread::sleep(Duration::from_millis(20));
    }
    program.send("suspend vm-7").ok();
    let said = register.wait(SOON).out;
    assert!(said.contains("event 'lifecycle' for domain 'vm-7': Suspended Paused"), "{said}");
}

#[test]
fn faults_are_switched_through_the_control_socket() {
    let program = Program::start(&["--domains", "2"]);
    assert_eq!(program.send("reply-limit 100").ok(), "ok\n");
    assert!(program.virsh(&["domstats"]).failed().contains("Unable to encode message payload"));
    program.send("clear").ok();
    program.virsh(&["domstats"]).ok();
    let refused = program.send("hang vm-9");
    assert_eq!(refused.out, "error: no domain is called \"vm-9\"\n");
    assert_eq!(refused.ended, support::Ended::Failed);
    assert!(program.send("help").ok().contains("hang D, release D"));
    assert!(program.send("domains").ok().contains("Running vm-1"));
    program.send("restart").ok();
    program.virsh(&["list"]).ok();
}

#[test]
fn it_serves_a_scenario_file_and_cleans_up_when_it_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let golden = "domain 7 4dea22b3-1d52-d8f3-2516-782e98ab3fa0 \"gold\"\nstate.state int 1\nx.new double 2.5\n";
    std::fs::write(folder.path().join("gold.params"), golden).unwrap();
    let text = "hostname: node-7\ndomains:\n- {name: db, template: large, state: paused}\n- {params: gold.params}\n\
                commands: [\"record db id 99\"]\n";
    std::fs::write(folder.path().join("scenario.yaml"), text).unwrap();
    let program = Program::start_in(folder, &["--scenario", "scenario.yaml", "--live"]);
    assert_eq!(program.virsh(&["hostname"]).ok().trim(), "node-7");
    assert!(program.virsh(&["domstats", "gold"]).ok().contains("x.new=2.5"));
    assert_eq!(program.virsh(&["domstate", "db"]).ok().trim(), "paused");
    let first = program.virsh(&["domstats", "--cpu-total", "db"]).ok();
    assert_ne!(first, program.virsh(&["domstats", "--cpu-total", "db"]).ok());

    let id = program.running.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    let (socket, control) = (program.socket(), program.control());
    let said = program.running.wait(SOON);
    assert_eq!(said.ended, support::Ended::Ok, "{said:?}");
    assert!(!socket.exists() && !control.exists());
}

#[test]
fn mistakes_are_told() {
    for (arguments, message) in [
        (&["--socket", "/nowhere/s"][..], "cannot listen on /nowhere/s: No such file or directory"),
        (&["--socket", "/tmp/x", "--scenario", "/nowhere.yaml"], "cannot read /nowhere.yaml: No such file"),
        (&["--socket", "/tmp/x", "--template", "huge"], "no such template"),
        (&["--control", "/nowhere/c", "--send", "help"], "No such file or directory"),
        (&[], "--socket"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fake-libvirtd"));
        let said = spawn(command.args(arguments), "fake-libvirtd").wait(SOON).failed();
        assert!(said.contains(message), "{arguments:?}: {said}");
    }
}
