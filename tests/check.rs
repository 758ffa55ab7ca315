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

#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/server.rs"]
mod server;

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

/// Accepts TLS with a certificate of this authority.
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

const CONNECTION: &[Situation] = &[
    (
        "no socket",
        |scene| {
            let socket = scene.path("virtqemud-sock-ro");
            scene.uri(format!("qemu+unix:///system?socket={}", socket.display()));
        },
        1,
        "connection",
        "No such file or directory",
        "enable the daemon's socket (systemctl enable --now virtqemud-ro.socket",
    ),
    (
        "a socket that is left behind",
        |scene| {
            let socket = scene.path("libvirt-sock-ro");
            drop(UnixListener::bind(&socket).unwrap());
            scene.uri(format!("qemu+unix:///system?socket={}", socket.display()));
        },
        1,
        "connection",
        "Connection refused",
        "start its socket unit again",
    ),
    (
        "a socket of a modular daemon beside that of libvirtd",
        |scene| {
            let socket = scene.path("virtqemud-sock-ro");
            drop(UnixListener::bind(&socket).unwrap());
            fs::write(scene.path("libvirt-sock-ro"), "").unwrap();
            scene.uri(format!("qemu+unix:///system?socket={}", socket.display()));
        },
        1,
        "connection",
        "Connection refused",
        "?mode=legacy",
    ),
    (
        "a socket that the user may not open",
        |scene| {
            scene.as_other_user = true;
            let socket = scene.path("libvirt-sock-ro");
            scene.hold(UnixListener::bind(&socket).unwrap());
            fs::set_permissions(&socket, fs::Permissions::from_mode(0o0)).unwrap();
            scene.uri(format!("qemu+unix:///system?socket={}", socket.display()));
        },
        1,
        "connection",
        "needs access to the read-only socket: unix_sock_ro_perms",
        "grant the access that the line above names",
    ),
    (
        "a closed folder above the socket",
        |scene| {
            scene.as_other_user = true;
            let closed = scene.path("closed");
            fs::create_dir(&closed).unwrap();
            scene.hold(UnixListener::bind(closed.join("s")).unwrap());
            fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
            scene.uri(format!("qemu+unix:///system?socket={}/s", closed.display()));
        },
        1,
        "connection",
        "may not enter the folder",
        "chmod o+x",
    ),
    (
        "a URI whose driver there is not",
        |scene| scene.uri("nosuchdriver:///system"),
        1,
        "connection",
        "nosuchdriver:///system",
        "libvirt has no driver nosuchdriver",
    ),
    (
        "a libvirt without the driver",
        |scene| scene.refusing(5, "no connection driver available for qemu:///system"),
        2,
        "connection",
        "no connection driver available",
        "libvirt.uri",
    ),
    (
        "a port that refuses",
        |scene| scene.uri(format!("qemu+tcp://127.0.0.1:{}/system", port_that_refuses())),
        1,
        "connection",
        "Connection refused",
        "nothing listens at that port",
    ),
    (
        "a host without an address",
        |scene| scene.uri("qemu+tcp://host.invalid/system"),
        1,
        "connection",
        "Unable to resolve address",
        "correct the host in libvirt.uri",
    ),
    (
        "TLS without a CA certificate",
        |scene| {
            let folder = scene.folder.path().display().to_string();
            scene.uri(format!("qemu+tls://127.0.0.1:{}/system?pkipath={folder}", port_that_refuses()));
        },
        1,
        "connection",
        "Cannot read CA certificate",
        "name its folder in the URI (pkipath=)",
    ),
    (
        "TLS to a port without it",
        |scene| {
            let port = port_that(|mut stream| {
                let _closed = stream.write_all(b"\0\0\0\x1c this is not TLS at all");
                let _closed = stream.read(&mut [0; 1024]);
            });
            scene.tls(port, &Authority::new().certificate);
        },
        1,
        "connection",
        "TLS handshake failed",
        "16514 does, 16509 does not",
    ),
    (
        "TLS with a certificate of another CA",
        |scene| {
            let server = tls_server(&Authority::new());
            scene.tls(server.address.port(), &Authority::named("another authority").certificate);
            scene.hold(server);
        },
        1,
        "connection",
        "Failed to verify peer's certificate",
        "signed by the CA of cacert.pem",
    ),
    (
        "a daemon that closes the connection",
        |scene| {
            let port = port_that(drop);
            scene.uri(format!("qemu+tcp://127.0.0.1:{port}/system"));
        },
        1,
        "connection",
        "annot",
        "the daemon closed",
    ),
    (
        "ssh to a host whose key is not known",
        |scene| scene.ssh("Host key verification failed."),
        1,
        "connection",
        "Host key verification failed",
        "known_hosts",
    ),
    (
        "ssh without a key that the host accepts",
        |scene| scene.ssh("exporter@host: Permission denied (publickey,password)."),
        1,
        "connection",
        "Permission denied (publickey",
        "keyfile=",
    ),
    (
        "ssh to a host without an address",
        |scene| scene.ssh("ssh: Could not resolve hostname host: Name or service not known"),
        1,
        "connection",
        "Could not resolve hostname",
        "getent hosts",
    ),
    (
        "ssh to a host without sshd",
        |scene| scene.ssh("ssh: connect to host host port 22: Connection refused"),
        1,
        "connection",
        "ssh: connect to host",
        "see whether sshd runs",
    ),
    (
        "ssh without its program",
        |scene| {
            scene.environment.push(("PATH", "/nonexistent".to_owned()));
            scene.uri("qemu+ssh://host/system");
        },
        1,
        "connection",
        "ssh",
        "openssh-client",
    ),
    (
        "a daemon that accepts no connection, as at its limit of clients",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().accept(false);
            scene.hold(daemon);
        },
        1,
        "connection",
        "no answer within ",
        "at its client limit",
    ),
    (
        "a daemon that hangs while a connection opens",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().reply(Procedure::ConnectOpen, ReplyFault::Swallow, Times::Always);
            scene.config += "collection: {deadline: 2s}\n";
            scene.hold(daemon);
        },
        1,
        "connection",
        "libvirt did not answer within ",
        "see whether `virsh -r -c 'qemu+unix:",
    ),
    (
        "a daemon that ends the connection while it opens",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().reply(Procedure::ConnectOpen, ReplyFault::Disconnect, Times::Always);
            scene.hold(daemon);
        },
        1,
        "connection",
        "End of file",
        "daemon",
    ),
    (
        "a user whom the daemon's host does not know",
        |scene| scene.refusing(SYSTEM_ERROR, "Failed to find user record for uid '61184'"),
        1,
        "connection",
        "Failed to find user record",
        "libnss-systemd",
    ),
    (
        "a daemon without D-Bus",
        |scene| {
            let socket = "Failed to connect to socket /run/dbus/system_bus_socket: No such file or directory";
            scene.refusing(INTERNAL_ERROR, socket);
        },
        1,
        "connection",
        "system_bus_socket",
        "systemctl start dbus polkit",
    ),
    (
        "polkit refuses",
        |scene| {
            let agent = "no polkit agent available to authenticate action 'org.libvirt.unix.monitor'";
            scene.refusing(AUTH_UNAVAILABLE, &format!("authentication unavailable: {agent}"));
        },
        1,
        "connection",
        "polkit agent",
        "by a polkit rule",
    ),
    (
        "a daemon that wants a password",
        |scene| scene.refusing(AUTH_FAILED, "authentication failed: Failed to start SASL negotiation: -4"),
        1,
        "connection",
        "SASL",
        "auth.conf",
    ),
];

const DOMAINS: &[Situation] = &[
    (
        "a frozen guest",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().hang_domain("vm-1");
            scene.hold(daemon);
        },
        3,
        "domains incomplete",
        "1: vm-1: the hypervisor process does not answer",
        "virsh domcontrol vm-1",
    ),
    (
        "a guest that another client holds",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().busy_domain("vm-2", Times::Always);
            scene.config += "collection: {deadline: 3s}\n";
            scene.hold(daemon);
        },
        3,
        "domains incomplete",
        "1: vm-2: another client, or a job of libvirt, holds the domain",
        "virsh domjobinfo vm-2",
    ),
    (
        "a guest that the user may not read",
        |scene| {
            let daemon = scene.daemon();
            daemon.faults().record("vm-1", RecordFault::Missing);
            let denied = ReplyFault::Error { code: ACCESS_DENIED, message: "access denied".to_owned() };
            daemon.faults().reply(Procedure::DomainGetXmlDesc, denied, Times::Always);
            scene.config += "metadata: {rate: 5000}\n";
            scene.hold(daemon);
        },
        3,
        "domains not readable",
        "vm-1",
        "org.libvirt.api.domain.read",
    ),
    (
        "domains.exclude excludes all",
        |scene| {
            let daemon = scene.daemon();
            scene.config += "domains: {exclude: [{name: '.*'}]}\n";
            scene.hold(daemon);
        },
        3,
        "domains",
        "exclude all 3 domains",
        "domstats-exporter targets",
    ),
    (
        "domains.include includes none",
        |scene| {
            let daemon = scene.daemon();
            scene.config += "domains: {include: [{name: 'prod-.*'}]}\n";
            scene.hold(daemon);
        },
        3,
        "domains",
        "exclude all 3 domains",
        "correct domains.include",
    ),
    (
        "metrics.include includes none",
        |scene| {
            scene.sound();
            scene.config += "metrics: {include: ['node_.*']}\n";
        },
        3,
        "metrics",
        "exclude every metric",
        "METRICS.md has the names",
    ),
    (
        "guests without addresses for /sd",
        |scene| {
            let daemon = scene.daemon();
            for name in ["vm-0", "vm-1", "vm-2"] {
                daemon.domains().update(name, |domain| domain.interfaces = Some(Vec::new())).unwrap();
            }
            scene.config += "service_discovery: {enabled: true, sources: [lease]}\nmetadata: {rate: 5000}\n";
            scene.hold(daemon);
        },
        3,
        "service discovery",
        "0 of 3 domains",
        "install the guest agent",
    ),
];

const SERVER: &[Situation] = &[
    (
        "a port that another program has",
        |scene| {
            let taken = TcpListener::bind("127.0.0.1:0").unwrap();
            scene.listen(taken.local_addr().unwrap().to_string());
            scene.hold(taken);
        },
        1,
        "listen address",
        "which is in use",
        "ss -ltnp",
    ),
    (
        "a port that another HTTP server has",
        |scene| {
            let port = port_that(|mut stream| {
                let _closed = stream.read(&mut [0; 1024]);
                let _closed = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnode\n");
            });
            scene.listen(format!("127.0.0.1:{port}"));
        },
        1,
        "listen address",
        "which is in use",
        "choose another address with --web.listen-address",
    ),
    (
        "an address that the host does not have",
        |scene| scene.listen("192.0.2.1:9177"),
        1,
        "listen address",
        "cannot listen on 192.0.2.1:9177",
        "ip addr",
    ),
    (
        "a listen address without a host",
        |scene| scene.listen("host.invalid:9177"),
        1,
        "listen address",
        "cannot resolve the host",
        "web.listen_addresses",
    ),
    (
        "a file where the socket should be",
        |scene| {
            let path = scene.path("socket");
            fs::write(&path, "").unwrap();
            scene.listen(format!("unix:{}", path.display()));
        },
        1,
        "listen address",
        "a file that is no socket",
        "remove it",
    ),
    (
        "no web configuration file",
        |scene| {
            scene.sound();
            scene.arguments.extend(["--web.config.file", "/nonexistent/web.yaml"].map(str::to_owned));
        },
        2,
        "configuration",
        "/nonexistent/web.yaml: No such file or directory",
        "",
    ),
    (
        "a web configuration file with an unknown key",
        |scene| {
            scene.sound();
            fs::write(scene.path("web.yaml"), "basic_auth_user: {}\n").unwrap();
            let path = scene.path("web.yaml").display().to_string();
            scene.arguments.extend(["--web.config.file".to_owned(), path]);
        },
        2,
        "configuration",
        "basic_auth_user",
        "",
    ),
    (
        "a certificate with the key of another",
        |scene| {
            scene.sound();
            let authority = Authority::new();
            fs::write(scene.path("web.crt"), authority.sign(&["localhost"]).0).unwrap();
            fs::write(scene.path("web.key"), authority.sign(&["localhost"]).1).unwrap();
            fs::write(scene.path("web.yaml"), "tls_server_config: {cert_file: web.crt, key_file: web.key}\n").unwrap();
            let path = scene.path("web.yaml").display().to_string();
            scene.arguments.extend(["--web.config.file".to_owned(), path]);
        },
        2,
        "configuration",
        "cannot use the certificate with its key",
        "",
    ),
];

const SETTINGS: &[Situation] = &[
    (
        "no configuration file",
        |scene| scene.arguments.extend(["--config.file", "/nonexistent.yaml"].map(str::to_owned)),
        2,
        "configuration",
        "/nonexistent.yaml: No such file or directory",
        "",
    ),
    ("an unknown key", |scene| scene.config += "collection: {dead_line: 3s}\n", 2, "configuration", "dead_line", ""),
    (
        "a value without a unit",
        |scene| scene.config += "collection: {deadline: 3}\n",
        2,
        "configuration",
        "expected a number and a unit",
        "",
    ),
    ("no YAML", |scene| scene.config += "collection: [\n", 2, "configuration", "config.yaml:", ""),
    (
        "a URI that would run a program",
        |scene| scene.uri("qemu+ext:///?command=/bin/false"),
        2,
        "configuration",
        "run a program",
        "",
    ),
    (
        "a bad variable of the environment",
        |scene| {
            scene.environment.push(("OTEL_EXPORTER_OTLP_ENDPOINT", "no url".to_owned()));
            scene.sound();
        },
        2,
        "configuration",
        "bad OTEL_EXPORTER_OTLP_ENDPOINT in the environment",
        "",
    ),
];

const PUSH: &[Situation] = &[
    (
        "no receiver",
        |scene| scene.push_to(&format!("http://127.0.0.1:{}", port_that_refuses()), "http/protobuf"),
        3,
        "OTLP endpoint",
        "Connection refused",
        "start the receiver",
    ),
    (
        "no receiver of gRPC",
        |scene| scene.push_to(&format!("http://127.0.0.1:{}", port_that_refuses()), "grpc"),
        3,
        "OTLP endpoint",
        "Connection refused",
        "4317 for gRPC",
    ),
    (
        "a receiver whose host has no address",
        |scene| scene.push_to("http://host.invalid:4318", "http/protobuf"),
        3,
        "OTLP endpoint",
        "is unavailable",
        "correct the host of otlp.endpoint",
    ),
    (
        "a path that the receiver does not have",
        |scene| scene.receiver(Behaviour::Status(404, &[]), "http/protobuf"),
        3,
        "OTLP endpoint",
        "404",
        "correct the path of otlp.endpoint",
    ),
    (
        "a receiver that wants a password",
        |scene| scene.receiver(Behaviour::Status(401, &[]), "http/protobuf"),
        3,
        "OTLP endpoint",
        "401",
        "otlp.headers",
    ),
    (
        "a receiver of gRPC that wants a password",
        |scene| scene.receiver(Behaviour::GrpcStatus(16, None), "grpc"),
        3,
        "OTLP endpoint",
        "gRPC status 16",
        "otlp.headers",
    ),
    (
        "a service of gRPC without metrics",
        |scene| scene.receiver(Behaviour::GrpcStatus(12, None), "grpc"),
        3,
        "OTLP endpoint",
        "gRPC status 12",
        "otlp.endpoint",
    ),
    (
        "a receiver that does not answer",
        |scene| {
            scene.receiver(Behaviour::Silent, "http/protobuf");
            scene.config = scene.config.replace("timeout: 10s", "timeout: 1s");
        },
        3,
        "OTLP endpoint",
        "did not answer in time",
        "firewall",
    ),
    (
        "a receiver whose CA is unknown",
        |scene| {
            let receiver = tls_server(&Authority::new());
            fs::write(scene.path("ca.pem"), Authority::named("another authority").certificate).unwrap();
            let ca = scene.path("ca.pem").display().to_string();
            scene.push_to(&format!("https://localhost:{}", receiver.address.port()), "http/protobuf");
            scene.config = scene.config.replace("compression", &format!("tls: {{ca_file: '{ca}'}}, compression"));
            scene.hold(receiver);
        },
        3,
        "OTLP endpoint",
        "certificate",
        "otlp.tls.ca_file",
    ),
    (
        "TLS to a receiver without it",
        |scene| {
            let receiver = Receiver::start(None);
            fs::write(scene.path("ca.pem"), Authority::new().certificate).unwrap();
            let ca = scene.path("ca.pem").display().to_string();
            scene.push_to(&format!("https://localhost:{}", receiver.address.port()), "http/protobuf");
            scene.config = scene.config.replace("compression", &format!("tls: {{ca_file: '{ca}'}}, compression"));
            scene.hold(receiver);
        },
        3,
        "OTLP endpoint",
        "is unavailable",
        "see whether the receiver speaks TLS",
    ),
    (
        "a CA file of the receiver that is not there",
        |scene| {
            scene.push_to("https://localhost:4318", "http/protobuf");
            scene.config = scene.config.replace("compression", "tls: {ca_file: /nonexistent/ca.pem}, compression");
        },
        2,
        "configuration",
        "/nonexistent/ca.pem",
        "",
    ),
];

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
        Some(_) if faults.len() > 1 => fault("another part is said to be broken too"),
        Some(_) => None,
    }
}

#[test]
fn each_broken_situation_has_its_cause_and_its_remedy() {
    let all: Vec<&Situation> = [CONNECTION, DOMAINS, SERVER, SETTINGS, PUSH].into_iter().flatten().collect();
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
