//! Targets that hang, go, or become another daemon. Each costs itself alone, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, unreachable_pub, missing_docs, missing_debug_implementations)]

#[path = "support/many.rs"]
mod many;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use many::{config, daemon, held, listed, probe, serve, until, whole};
use server::{Server, folder, program};

/// An `ssh` that leads to a socket for the host `good`, and for any other hangs with a process of its own; it notes each start in
/// a file `HOST.starts` beside it.
fn fake_ssh(files: &Path, socket: &Path) {
    let script = format!(
        r#"#!/usr/bin/env python3
import os, select, socket, subprocess, sys
host = sys.argv[sys.argv.index("--") + 1]
with open(f"{{os.path.dirname(os.path.abspath(sys.argv[0]))}}/{{host}}.starts", "a") as starts:
    starts.write("started\n")
if host != "good":
    subprocess.run(["sleep", "600"])
daemon = socket.socket(socket.AF_UNIX)
daemon.connect("{}")
while True:
    for source in select.select([0, daemon], [], [])[0]:
        data = os.read(0, 65536) if source == 0 else daemon.recv(65536)
        if not data:
            sys.exit()
        daemon.sendall(data) if source == 0 else os.write(1, data)
"#,
        socket.display()
    );
    let path = files.join("ssh");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The processes below the exporter.
fn children(server: &Server) -> usize {
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    fs::read_dir("/proc").unwrap().filter_map(of).filter(|parent| *parent == server.process.id()).count()
}

#[test]
fn ssh_opens_that_hang_end_and_cost_their_own_targets_alone() {
    const HUNG: usize = 6;
    let (good, files) = (daemon(3), folder());
    fake_ssh(files.path(), good.socket());
    let target = |host: &str| format!("  {host}: {{uri: 'qemu+ssh://{host}/system?no_tty=1'}}\n");
    let hung: Vec<String> = (0..HUNG).map(|number| format!("hung-{number}")).collect();
    let all: String = hung.iter().map(|host| target(host)).collect();
    let (front, more) = ("libvirt: {uri: ''}\ntargets:\n", "probe: {idle_timeout: 10m}\ncollection: {workers: 1}\n");
    let with_all = format!("{front}{}{all}{more}", target("good"));
    let path = format!("{}:{}", files.path().display(), std::env::var("PATH").unwrap());
    let server = Server::start_with(folder(), &with_all, |command| _ = command.env("PATH", &path));
    let starts = |host: &str| fs::read_to_string(files.path().join(format!("{host}.starts"))).unwrap_or_default();
    let probe_hung = || hung.iter().for_each(|host| assert!(probe(&server, host).1.contains("\nlibvirt_up 0\n")));
    until("the good one answers", || whole(&probe(&server, "good").1) == Some(3));
    let beside = children(&server);
    // Each open that hangs ends, and is tried again.
    until("each was tried three times", || {
        probe_hung();
        hung.iter().all(|host| starts(host).lines().count() >= 3)
    });
    let threads = held(&server).threads;
    let tried = starts(&hung[0]).lines().count();
    until("each was tried twice more", || {
        probe_hung();
        assert_eq!(whole(&probe(&server, "good").1), Some(3));
        hung.iter().all(|host| starts(host).lines().count() >= tried + 2)
    });
    assert!(held(&server).threads <= threads + HUNG, "{threads} threads, then {:?}", held(&server));
    assert!(children(&server) <= beside + HUNG, "one process for each that hangs");
    assert!(server.log().contains("remedy=") && !server.log().contains("lost the connection"), "{}", server.log());
    // Targets that go while their opens hang take them along.
    server.replace("config.yaml", &format!("{front}{}{more}", target("good")));
    server.signal("-HUP");
    server.wait_for_log("configuration reloaded");
    until("their processes are ended", || children(&server) <= beside);
    assert_eq!(whole(&probe(&server, "good").1), Some(3));
}

#[test]
fn a_target_that_was_removed_while_it_hung_can_be_had_again() {
    let (other, files) = (daemon(1), folder());
    let socket = files.path().join("sock");
    let silent = UnixListener::bind(&socket).unwrap();
    let other_alone = config(&[("other".to_owned(), &other)], "");
    let both = other_alone
        .replace("targets:\n", &format!("targets:\n  a: {{uri: 'qemu+unix:///system?socket={}'}}\n", socket.display()));
    let server = serve(&both);
    until("the other answers", || whole(&probe(&server, "other").1) == Some(1));
    // Connections are accepted, and never answered.
    silent.set_nonblocking(true).unwrap();
    let mut accepted = Vec::new();
    assert!(probe(&server, "a").1.contains("\nlibvirt_up 0\n"));
    server.replace("config.yaml", &other_alone);
    server.signal("-HUP");
    server.wait_for_log("configuration reloaded");
    until("the open that hangs has ended", || {
        while let Ok((stream, _)) = silent.accept() {
            stream.set_nonblocking(true).unwrap();
            accepted.push(stream);
        }
        let ended = |stream: &mut UnixStream| stream.read_to_end(&mut Vec::new()).is_ok();
        !accepted.is_empty() && accepted.iter_mut().all(ended)
    });
    fs::remove_file(&socket).unwrap();
    let _there = FakeLibvirtd::start_at(Scenario::builder().domains(2, Template::small()).build(), &socket).unwrap();
    server.replace("config.yaml", &both);
    server.signal("-HUP");
    until("it answers", || whole(&probe(&server, "a").1) == Some(2));
    drop(silent);
}

/// A configuration of one pattern, `pods`, below this folder.
fn pattern(root: &Path, regex: &str) -> String {
    let uri = format!("qemu+unix:///session?socket={}/*/sock", root.display());
    format!(
        "libvirt: {{uri: ''}}\ntargets:\n  pods: {{uri: '{uri}', name_regex: '{regex}'}}\nprobe: {{rescan_interval: 1s}}\n"
    )
}

fn start_at(path: &Path, domains: usize) -> FakeLibvirtd {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    FakeLibvirtd::start_at(Scenario::builder().domains(domains, Template::small()).build(), path).unwrap()
}

#[test]
fn a_socket_that_was_replaced_is_that_of_another_daemon() {
    let files = folder();
    let socket = files.path().join("pod-1/sock");
    let first = start_at(&socket, 1);
    let server = serve(&pattern(files.path(), ".*/pod-([^/]+)/sock"));
    assert_eq!(listed(&server), ["pods/1"]);
    until("the first answers", || whole(&probe(&server, "pods/1").1) == Some(1));
    // The first lives on, with the connection to it.
    let aside = files.path().join("aside");
    fs::rename(&socket, &aside).unwrap();
    let _second = start_at(&socket, 2);
    until("the second answers", || whole(&probe(&server, "pods/1").1) == Some(2));
    until("the connections to the first are closed", || first.counters().open_connections() == 0);
}

#[test]
fn sockets_with_odd_paths_are_targets_and_those_without_a_name_are_told() {
    let files = folder();
    let odd = ["a b", "ü&c=d;e", "p%41#x?", "new\nline", "qu\"o'te"];
    let daemons: Vec<FakeLibvirtd> =
        odd.iter().map(|name| start_at(&files.path().join(name).join("sock"), 1)).collect();
    let server = serve(&pattern(files.path(), "(?s).*/([^/]+)/sock"));
    let names = listed(&server);
    assert_eq!(names.len(), odd.len(), "{names:?}");
    for name in &names {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        until("it answers", || whole(&probe(&server, &encoded).1) == Some(1));
    }
    assert!(daemons.iter().all(|daemon| daemon.counters().open_connections() > 0));
    assert!(server.log().lines().all(|line| line.starts_with("ts=") || line.starts_with("time=")), "{}", server.log());
    // An expression that names no path, and one that names all the same.
    for regex in ["/nowhere/(.*)", ".*/(sock)"] {
        let text = pattern(files.path(), regex);
        let path = files.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        let done = program().arg("--config.file").arg(&path).args(["check", "--all"]).output().unwrap();
        let report = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(
            report.contains("without a name of their own") && report.contains("targets.pods.name_regex"),
            "{report}"
        );
        server.replace("config.yaml", &fs::read_to_string(&path).unwrap());
        server.signal("-HUP");
        until("the log says so", || server.log().matches("sockets without a name of their own").count() > 0);
    }
}

#[test]
fn remedies_name_the_setting_of_the_target() {
    let files = folder();
    let text = "libvirt: {uri: ''}\ntargets:\n  gone: {uri: 'qemu+unix:///system?socket=/nonexistent/sock'}\nprobe: {allow: ['qemu[+]tcp://.*']}\n";
    let path = files.path().join("config.yaml");
    fs::write(&path, text).unwrap();
    let done = program().arg("--config.file").arg(&path).args(["check", "--all"]).output().unwrap();
    let report = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        report.contains("or set targets.gone.uri to where it listens") && !report.contains("libvirt.uri"),
        "{report}"
    );
    let server = serve(text);
    until("it has failed", || probe(&server, "gone").1.contains("\nlibvirt_up 0\n"));
    until("the page says what to do", || server.get("/").contains("or set targets.gone.uri to where it listens"));
    until("the other has failed", || probe(&server, "qemu%2Btcp://127.0.0.1:1/system").1.contains("\nlibvirt_up 0\n"));
    server.wait_for_log("or correct the port in the parameter target");
    assert!(server.log().contains("or set targets.gone.uri to where it listens"), "{}", server.log());
    assert!(!server.log().contains("libvirt.uri"), "{}", server.log());
}
