//! `check` on broken situations, each with the cause and the remedy that it has to name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/check_connections.rs"]
mod connections;
#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/server.rs"]
mod server;
#[path = "support/check_situations.rs"]
mod situations;

use std::any::Any;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fake_libvirtd::{DomainState, FakeLibvirtd, Procedure, RecordFault, ReplyFault, Scenario, Template, Times};
use receiver::{Behaviour, Receiver};
use serde_json::Value;
use server::{Authority, Server, folder, program};
use situations::{DOMAINS, PUSH, SERVER, SETTINGS};
use tempfile::TempDir;

/// The numbers of libvirt's errors (`virErrorNumber`).
const INTERNAL_ERROR: i32 = 1;
const SYSTEM_ERROR: i32 = 38;
const AUTH_FAILED: i32 = 45;
const AUTH_UNAVAILABLE: i32 = 80;
const ACCESS_DENIED: i32 = 88;

/// A situation while it is arranged and while it lasts.
struct Scene {
    folder: TempDir,
    config: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// As another user than root, who may open anything.
    as_other_user: bool,
    /// What has to live until `check` has ended.
    held: Vec<Box<dyn Any>>,
}

impl Scene {
    fn new() -> Self {
        Self {
            folder: folder(),
            config: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            as_other_user: false,
            held: Vec::new(),
        }
    }

    fn uri(&mut self, uri: impl Into<String>) {
        self.arguments.extend(["--libvirt.uri".to_owned(), uri.into()]);
    }

    /// A URI of the test driver, where libvirt is not what is broken.
    fn sound(&mut self) {
        self.uri("test:///default");
    }

    fn listen(&mut self, address: impl Into<String>) {
        self.sound();
        self.arguments.extend(["--web.listen-address".to_owned(), address.into()]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn hold(&mut self, what: impl Any) {
        self.held.push(Box::new(what));
    }

    /// A daemon with three running domains.
    fn daemon(&mut self) -> FakeLibvirtd {
        let scenario = Scenario::builder().domains(3, Template::small());
        let daemon = FakeLibvirtd::start(scenario.build()).unwrap();
        self.uri(daemon.uri());
        daemon
    }

    /// A daemon that answers the first call of a connection with an error.
    fn refusing(&mut self, code: i32, message: &str) {
        let daemon = self.daemon();
        let fault = ReplyFault::Error { code, message: message.to_owned() };
        daemon.faults().reply(Procedure::ConnectOpen, fault, Times::Always);
        self.hold(daemon);
    }

    /// A connection by ssh, whose program prints this.
    fn ssh(&mut self, says: &str) {
        let program = self.path("ssh");
        fs::write(&program, format!("#!/bin/sh\n# As ssh, which speaks once the client waits for an answer.\nhead -c 4 >/dev/null\necho '{says}' >&2\nexit 255\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        self.environment.push(("PATH", format!("{}:{path}", self.folder.path().display())));
        self.uri("qemu+ssh://host/system");
    }

    /// A connection over TLS to this port with the CA certificate.
    fn tls(&mut self, port: u16, ca: &str) {
        fs::write(self.path("cacert.pem"), ca).unwrap();
        self.uri(format!("qemu+tls://localhost:{port}/system?pkipath={}", self.folder.path().display()));
    }

    /// A receiver of pushes that does this.
    fn receiver(&mut self, behaviour: Behaviour, protocol: &str) {
        let receiver = Receiver::start(None);
        receiver.script([behaviour]);
        self.push_to(&format!("http://{}", receiver.address), protocol);
        self.hold(receiver);
    }

    fn push_to(&mut self, url: &str, protocol: &str) {
        self.sound();
        self.config += &format!("otlp: {{endpoint: '{url}', protocol: {protocol}, timeout: 10s, compression: none}}\n");
    }

    fn run(&self, output: &str) -> Output {
        let config = self.path("config.yaml");
        fs::write(&config, &self.config).unwrap();
        let mut command = if self.as_other_user { self.program_of_other_user() } else { program() };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["check", "--output", output]).args(&self.arguments);
        if !self.arguments.iter().any(|argument| argument == "--config.file") {
            command.arg("--config.file").arg(config);
        }
        if !self.arguments.iter().any(|argument| argument == "--web.listen-address") {
            command.args(["--web.listen-address", "127.0.0.1:0"]);
        }
        command.output().unwrap()
    }

    /// The build folder may be closed to others, a copy in the folder of the test is not.
    fn program_of_other_user(&self) -> Command {
        let copy = self.path("domstats-exporter");
        fs::copy(env!("CARGO_BIN_EXE_domstats-exporter"), &copy).unwrap();
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(self.path("config.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
        let mut command = Command::new(copy);
        command.env("HOME", self.folder.path());
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(65_534).gid(65_534);
        }
        command
    }
}

fn port_that_refuses() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A port whose connections are treated so, and its number.
fn port_that(treats: impl Fn(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(treats));
    port
}

/// Accepts TLS with a certificate of this CA.
fn tls_server(of: &Authority) -> Receiver {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let (certificate, key) = of.sign(&["localhost"]);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config =
        tokio_rustls::rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    Receiver::start(Some(std::sync::Arc::new(config)))
}

/// What is broken, how, the exit code, the part of the report, and words of the cause and of the remedy.
type Situation = (&'static str, fn(&mut Scene), i32, &'static str, &'static str, &'static str);

/// What is wrong with the report of a situation.
fn examine((name, arrange, code, part, cause, remedy): &Situation) -> Option<String> {
    let mut scene = Scene::new();
    arrange(&mut scene);
    let done = scene.run("json");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let fault = |what: &str| Some(format!("{name}: {what}\n{text}{}", String::from_utf8_lossy(&done.stderr)));
    let Ok(report) = serde_json::from_str::<Value>(&text) else { return fault("no JSON") };
    if done.status.code() != Some(*code) || report["exit_code"] != *code {
        return fault(&format!("exit code {:?}, not {code}", done.status.code()));
    }
    let findings = report["findings"].as_array().unwrap();
    let said = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let faults: Vec<&Value> = findings.iter().filter(|finding| finding["status"] != "ok").collect();
    let fits = |finding: &&&Value| said(finding, "part") == *part && said(finding, "text").contains(cause);
    match faults.iter().find(fits) {
        None => fault(&format!("no fault `{part}` that says `{cause}`")),
        Some(found) if !said(found, "remedy").contains(remedy) => fault(&format!("no remedy `{remedy}`")),
        Some(_) if faults.iter().any(|other| said(other, "part") != *part) => {
            fault("another part is said to be broken too")
        }
        Some(_) => None,
    }
}

#[test]
fn each_broken_situation_has_its_cause_and_its_remedy() {
    let all: Vec<&Situation> =
        [connections::CONNECTION, DOMAINS, SERVER, SETTINGS, PUSH].into_iter().flatten().collect();
    assert!(all.len() >= 40, "{} situations", all.len());
    let (next, wrong) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(situation) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    wrong.lock().unwrap().extend(examine(situation));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn what_works_is_said_with_the_settings_that_were_used() {
    let mut scene = Scene::new();
    let daemon = scene.daemon();
    daemon.domains().update("vm-2", |domain| domain.set_state(DomainState::Shutoff, 1)).unwrap();
    scene.hold(daemon);
    let receiver = Receiver::start(None);
    scene.config = format!("otlp: {{endpoint: 'http://{}'}}\n", receiver.address);
    let done = scene.run("text");
    let report = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{report}");
    let config = scene.path("config.yaml").display().to_string();
    for (part, text) in [
        ("user", "uid"),
        ("configuration file", config.as_str()),
        ("flags", "--libvirt.uri=qemu+unix:///system?socket="),
        ("listen address", "127.0.0.1:0 is free"),
        ("OTLP endpoint", "accepts an empty push"),
        ("connection", "ok"),
        ("domains", "2 running or paused, 1 shut off"),
        ("result", "works"),
    ] {
        let line = report.lines().find(|line| line.starts_with(&format!("{part}:")));
        assert!(line.is_some_and(|line| line.contains(text)), "{part}: {text}\n{report}");
    }
    assert!(receiver.received().iter().all(|received| received.request.resource_metrics.is_empty()), "an empty push");
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn a_port_that_an_exporter_has_is_no_fault() {
    let server = Server::start(folder(), "", "");
    let mut scene = Scene::new();
    scene.listen(server.address.to_string());
    let done = scene.run("text");
    let report = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && report.contains("in use by an exporter that runs already"), "{report}");
}
