//! What an operator gets wrong: one clear sentence and exit code 2 for usage and configuration, 1 for what goes wrong later.
#![allow(clippy::expect_used)]

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use tempfile::NamedTempFile;

fn run(arguments: &[&str]) -> Output {
    exporter(arguments).output().expect("the exporter runs")
}

fn exporter(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domstats-exporter"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The exit code, and the message, which is one line of standard error.
fn failure(output: &Output) -> (Option<i32>, String) {
    let message = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert!(!message.contains("panicked"), "{message}");
    (output.status.code(), message)
}

fn config(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("a writable file");
    file
}

#[test]
fn a_wrong_configuration_file_is_named_with_line_and_key() {
    for (text, sentence) in [
        ("collection:\n  groups: [state, blok]\n", "2:19: collection.groups[1]: unknown group `blok`, expected one of"),
        ("domains:\n  include: ['a[']\n", "2:13: domains.include[0]: bad regular expression `a[`"),
        ("collection:\n  deadline: 8\n", "2:13: collection.deadline: bad duration `8`"),
        ("log:\n  level: info\n  level: warn\n", "3:3: log: duplicate key `level`"),
        ("libvirt:\n  url: x\n", "2:3: libvirt: unknown key `url`, expected"),
        ("libvirt:\n  uri: \"qemu:///sys\\0tem\"\n", "contains a NUL character"),
    ] {
        let file = config(text);
        let path = file.path().to_str().expect("a UTF-8 path");
        for command in ["serve", "scrape", "check"] {
            let (code, message) = failure(&run(&[command, "--config.file", path]));
            assert_eq!(code, Some(2), "{message}");
            assert!(message.contains(sentence) && message.contains(path), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (code, message) = failure(&run(&["check", "--config.file", "/nonexistent.yaml"]));
    assert_eq!(code, Some(2));
    assert!(message.contains("/nonexistent.yaml: No such file or directory"), "{message}");
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    for (arguments, sentence) in [
        (&["--collection.groups", "state,blok"][..], "unknown group `blok`"),
        (&["--libvirt.uri", ""][..], "the URI is empty and there are no targets"),
        (&["--web.listen-address", "9177"][..], "bad listen address `9177`"),
        (&["--web.telemetry-path", "metrics"][..], "bad path `metrics`"),
        (&["--log.level", "loud"][..], "unknown log level `loud`"),
        (&["--no-such-flag"][..], "unexpected argument '--no-such-flag'"),
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
    ] {
        let (code, message) = failure(&run(arguments));
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(sentence), "{message}");
    }
}

#[test]
fn a_port_in_use_is_named_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, message) = failure(&run(&["serve", "--web.listen-address", &address]));
    assert_eq!(code, Some(2), "{message}");
    assert!(message.contains(&address) && message.contains("in use") && message.contains("ss -ltnp"), "{message}");
}

#[test]
fn a_daemon_that_is_not_there_is_an_answer_with_a_remedy() {
    let uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock-ro";
    let scrape = run(&["scrape", "--libvirt.uri", uri]);
    let (code, message) = failure(&scrape);
    assert_eq!(code, Some(1));
    assert!(message.contains("'/nonexistent/libvirt-sock-ro': No such file or directory"), "{message}");
    assert!(String::from_utf8_lossy(&scrape.stdout).contains("\nlibvirt_up 0\n"));

    let check = run(&["check", "--libvirt.uri", uri]);
    assert_eq!(check.status.code(), Some(1));
    let report = String::from_utf8_lossy(&check.stdout);
    assert!(report.contains("/nonexistent/libvirt-sock-ro") && report.contains("virtqemud-ro.socket"), "{report}");
}

/// As another user where the tests run as root, who may open anything.
#[test]
fn a_socket_without_permission_names_the_socket_the_user_and_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("libvirt-sock-ro");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    for (path, mode) in [(folder.path(), 0o755), (socket.as_path(), 0o600)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions of our own file");
    }
    let is_root = fs::metadata("/proc/self").expect("a process").uid() == 0;
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    // The build folder may be closed to others, a copy in the folder of the test is not.
    let program = folder.path().join("domstats-exporter");
    fs::copy(env!("CARGO_BIN_EXE_domstats-exporter"), &program).expect("a copy of the exporter");
    let mut command = Command::new(&program);
    command.args(["check", "--libvirt.uri", &uri]).env("HOME", folder.path());
    let user = 65_534;
    if is_root {
        command.uid(user).gid(user);
    } else {
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o0)).expect("permissions of our own file");
    }
    let check = command.output().expect("the exporter runs");
    let report = String::from_utf8_lossy(&check.stdout);
    assert_eq!(check.status.code(), Some(1), "{report}");
    assert!(report.contains(&format!("'{}': Permission denied", socket.display())), "{report}");
    assert!(report.contains("uid ") && report.contains("unix_sock_ro_perms"), "{report}");
    if is_root {
        assert!(report.contains(&format!("uid {user}")), "{report}");
    }
    // A folder above the socket is closed, and the socket open.
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).expect("a folder of our own");
    let socket = closed.join("libvirt-sock-ro");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).expect("permissions of our own file");
    let mut command = Command::new(&program);
    command.args(["check", "--libvirt.uri", &format!("qemu+unix:///system?socket={}", socket.display())]);
    if is_root {
        command.uid(user).gid(user);
    }
    let check = command.env("HOME", folder.path()).output().expect("the exporter runs");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("permissions of our own file");
    let report = String::from_utf8_lossy(&check.stdout);
    assert!(report.contains(&format!("may not enter the folder {})", closed.display())), "{report}");
    assert!(report.contains("chmod o+x"), "{report}");
}

#[test]
fn too_few_descriptors_are_refused_in_one_sentence() {
    for (limit, expected) in [
        ("12", "domstats-exporter: the process may open 12 files (ulimit -n), but needs 96: raise the hard limit"),
        ("24", "domstats-exporter: the process may open 24 files (ulimit -n), but needs 96: raise the hard limit"),
    ] {
        for command in ["serve", "scrape", "check"] {
            let script = format!("ulimit -n {limit}; exec \"$0\" {command} --libvirt.uri test:///default");
            let output = Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_domstats-exporter")]).output();
            let (code, message) = failure(&output.expect("the exporter runs"));
            assert_eq!(code, Some(1), "{message}");
            assert!(message.starts_with(expected) && message.lines().count() == 1, "{message}");
        }
    }
    // What the soft limit lacks, the hard one has.
    let script = "ulimit -S -n 12; exec \"$0\" scrape --libvirt.uri test:///default";
    let output = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_domstats-exporter")]).output();
    assert_eq!(output.expect("the exporter runs").status.code(), Some(0));
}

#[test]
fn a_uri_that_could_start_a_program_is_refused() {
    for (uri, part) in [
        ("not a uri", "bad libvirt URI \"not a uri\", expected one such as `qemu:///system`"),
        ("qemu:///embed?root=/nonexistent", "runs the driver and QEMU within the exporter, expected that of a daemon"),
        (
            "qemu+ext:///?command=/bin/false",
            "libvirt.uri: the transport ext has libvirt's client library run a program",
        ),
        (
            "qemu+ssh://h/system?command=/bin/false",
            "libvirt.uri: the parameter command has libvirt's client library run",
        ),
    ] {
        for command in ["serve", "scrape", "check"] {
            let (code, message) = failure(&run(&[command, "--libvirt.uri", uri]));
            assert_eq!(code, Some(2), "{message}");
            assert!(message.contains(part), "{message}");
        }
    }
    let file = config("libvirt:\n  uri: qemu+ext:///\n");
    let (code, message) = failure(&run(&["check", "--config.file", file.path().to_str().expect("UTF-8")]));
    assert!(code == Some(2) && message.contains(":2:8: libvirt.uri: the transport ext"), "{message}");
    // The URI of a flag has no place in the file.
    let file = config("libvirt: {uri: 'test:///default'}\n");
    let flags = ["check", "--libvirt.uri", "qemu+ext:///", "--config.file", file.path().to_str().expect("UTF-8")];
    let (code, message) = failure(&run(&flags));
    assert!(code == Some(2) && message.starts_with("domstats-exporter: libvirt.uri: the transport ext"), "{message}");
}

/// The client library's own words for each cause, and what to do about it.
#[test]
fn each_failed_connection_has_a_remedy_of_its_own() {
    let refusing = TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a free port").port();
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, keys) = (folder.path().join("virtqemud-sock-ro"), folder.path().display());
    drop(UnixListener::bind(&socket).expect("a socket that is left behind"));
    fs::write(folder.path().join("libvirt-sock-ro"), "").expect("a file of our own");
    for (uri, part) in [
        (format!("qemu+tcp://127.0.0.1:{refusing}/system"), "nothing listens at that port"),
        (String::from("qemu+tcp://host.invalid/system"), "correct the host in libvirt.uri"),
        (format!("qemu+tls://127.0.0.1:{refusing}/system?pkipath={keys}"), "put the certificate of the CA"),
        (String::from("nosuchdriver:///system"), "libvirt has no driver nosuchdriver"),
        (format!("qemu+unix:///system?socket={}", socket.display()), "?mode=legacy"),
    ] {
        let check = run(&["check", "--libvirt.uri", &uri]);
        let report = String::from_utf8_lossy(&check.stdout);
        assert_eq!(check.status.code(), Some(1), "{report}");
        let remedy = report.lines().find(|line| line.starts_with("remedy"));
        assert!(remedy.is_some_and(|remedy| remedy.contains(part)), "{uri}: {report}");
    }
}

/// The kernel takes the connection, and nothing answers: one deadline, one failure.
#[test]
fn a_dead_daemon_is_waited_for_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("libvirt-sock-ro");
    let _silent = UnixListener::bind(&socket).expect("a socket");
    let file = config("collection: {deadline: 2s}\n");
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let scrape = run(&["scrape", "--libvirt.uri", &uri, "--config.file", file.path().to_str().expect("UTF-8")]);
    assert_eq!(scrape.status.code(), Some(1));
    let text = String::from_utf8_lossy(&scrape.stdout);
    let failures = text.lines().filter_map(|line| line.strip_prefix("libvirt_exporter_collect_failures_total{"));
    let counts = failures.filter_map(|sample| sample.rsplit(' ').next()?.parse::<f64>().ok());
    assert_eq!(counts.sum::<f64>(), 1.0, "{text}");
}

/// Whether libvirt lacks the driver or its daemon, the answer is a sentence.
#[test]
fn another_driver_is_an_answer_too() {
    for uri in ["lxc:///", "nosuchdriver:///"] {
        let (code, message) = failure(&run(&["scrape", "--libvirt.uri", uri]));
        assert_eq!(code, Some(1), "{uri}: {message}");
        assert!(message.contains(&format!("cannot open {uri} read-only: ")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
