//! What the program tells systemd, or another listener at `NOTIFY_SOCKET`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/waiting.rs"]
mod waiting;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use waiting::assert_no_wait;

/// The exporter under a supervisor that writes everything down.
struct Supervised {
    process: Child,
    address: SocketAddr,
    socket: UnixDatagram,
    folder: TempDir,
}

impl Supervised {
    fn start(config: &str, watchdog: Option<Duration>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        Self::start_in(folder, config, watchdog, log)
    }

    fn start_in(folder: TempDir, config: &str, watchdog: Option<Duration>, log: impl Into<Stdio>) -> Self {
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_domstats-exporter"));
        command.args(["--web.listen-address", &address.to_string(), "--config.file"]);
        command.arg(folder.path().join("config.yaml")).env("NOTIFY_SOCKET", path).env_remove("WATCHDOG_PID");
        match watchdog {
            Some(limit) => command.env("WATCHDOG_USEC", limit.as_micros().to_string()),
            None => command.env_remove("WATCHDOG_USEC"),
        };
        let process = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Self { process, address, socket, folder }
    }

    /// Ends it in order.
    fn end(mut self) {
        self.signal("-TERM");
        assert_eq!(self.message_with("STOPPING=1")[1], "STATUS=finishing the scrapes under way");
        let status = self.process.wait().unwrap();
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(status.success(), "{status}: {log}");
    }

    /// The next message, which the exporter sent as a whole.
    fn message(&self) -> Vec<String> {
        let mut bytes = vec![0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message from the exporter");
        String::from_utf8(bytes[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Skips watchdog messages, and the one that a reload begins with.
    fn message_with(&self, line: &str) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let message = self.message();
            if message.iter().any(|known| known == line) {
                return message;
            }
            assert!(["WATCHDOG=1", "RELOADING=1"].contains(&message[0].as_str()), "{message:?} instead of {line}");
            assert!(Instant::now() < deadline, "{line} never came");
        }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const TEST_DRIVER: &str = "libvirt: {uri: 'test:///default'}\n";

#[test]
fn ready_comes_once_connections_are_accepted_and_libvirt_was_tried() {
    let exporter = Supervised::start(TEST_DRIVER, None);
    let [ready, status] = exporter.message().try_into().expect("two lines");
    assert_eq!(ready, "READY=1");
    assert!(status.starts_with("STATUS=connected to test:///default, libvirt "), "{status}");
    assert!(exporter.get("/metrics").contains("\nlibvirt_up 1"));
}

#[test]
fn a_libvirt_that_cannot_be_reached_is_no_reason_to_be_unready() {
    let exporter = Supervised::start("libvirt: {uri: 'qemu+unix:///system?socket=/nonexistent/sock'}\n", None);
    let message = exporter.message();
    assert_eq!(message[0], "READY=1");
    assert!(message[1].starts_with("STATUS=no connection to libvirt: cannot open qemu+unix:"), "{message:?}");
    assert!(message[1].contains("/nonexistent/sock"), "{message:?}");
    assert!(exporter.get("/metrics").contains("\nlibvirt_up 0"));
}

#[test]
fn signs_of_life_come_in_time_and_tell_how_it_stands() {
    /// Between two reports where no watchdog waits for them.
    const USUAL: Duration = Duration::from_secs(10);
    let exporter = Supervised::start(TEST_DRIVER, Some(Duration::from_secs(3)));
    assert_eq!(exporter.message()[0], "READY=1");
    let began = Instant::now();
    for _ in 0..3 {
        let message = exporter.message();
        assert_eq!(message[0], "WATCHDOG=1");
        assert!(message[1].starts_with("STATUS=connected to test:///default"), "{message:?}");
    }
    assert_no_wait(began.elapsed(), 3 * USUAL);
    exporter.end();
}

#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let (reader, log) = std::io::pipe().unwrap();
    drop(reader);
    let exporter = Supervised::start_in(tempfile::tempdir().unwrap(), TEST_DRIVER, None, log);
    assert_eq!(exporter.message()[0], "READY=1");
    fs::write(exporter.config(), "nonsense: 1\n").unwrap();
    exporter.signal("-HUP");
    assert!(exporter.message_with("READY=1")[1].contains("nonsense"));
    assert!(exporter.get("/metrics").contains("\nlibvirt_up 1"));
    exporter.end();
}

#[test]
fn a_reload_is_announced_and_its_outcome_told() {
    let exporter = Supervised::start(TEST_DRIVER, None);
    assert_eq!(exporter.message()[0], "READY=1");
    for (config, fault) in [("nonsense: 1\n", true), (TEST_DRIVER, false)] {
        fs::write(exporter.config(), config).unwrap();
        exporter.signal("-HUP");
        let reloading = exporter.message();
        assert_eq!(reloading[0], "RELOADING=1");
        let clock = reloading[1].strip_prefix("MONOTONIC_USEC=").expect("the clock");
        assert!(clock.parse::<u64>().unwrap() > 0);
        let ready = exporter.message();
        assert_eq!(ready[0], "READY=1");
        assert_eq!(ready[1].contains("; the new configuration is not in effect: "), fault, "{ready:?}");
        assert_eq!(ready[1].contains("nonsense"), fault, "{ready:?}");
    }
}
