//! What else can be broken: domains, the server, the settings, pushes.

use super::*;

pub(super) const DOMAINS: &[Situation] = &[
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
        "an error of libvirt instead of statistics",
        |scene| {
            let daemon = scene.daemon();
            let fault = ReplyFault::Error { code: INTERNAL_ERROR, message: "cannot read statistics".to_owned() };
            daemon.faults().reply(Procedure::ConnectGetAllDomainStats, fault, Times::Always);
            scene.hold(daemon);
        },
        3,
        "domains incomplete",
        "3: vm-0, vm-1, vm-2: libvirt answered with an error",
        "virsh domstats vm-",
    ),
    (
        "so many frozen guests that others are not asked",
        |scene| {
            let daemon = FakeLibvirtd::start(Scenario::builder().domains(60, Template::small()).build()).unwrap();
            (0..60).step_by(3).for_each(|number| daemon.faults().hang_domain(&format!("vm-{number}")));
            scene.uri(daemon.uri());
            scene.hold(daemon);
        },
        3,
        "domains incomplete",
        "too many calls wait for domains that do not respond",
        "repair the domains that do not respond first",
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
    (
        "definitions that are not all read by the time of /sd",
        |scene| {
            let daemon = FakeLibvirtd::start(Scenario::builder().domains(100, Template::small()).build()).unwrap();
            scene.uri(daemon.uri());
            scene.config += "service_discovery: {enabled: true}\nmetadata: {rate: 1}\ncollection: {deadline: 3s}\n";
            scene.hold(daemon);
        },
        3,
        "service discovery",
        "the list is not complete yet",
        "raise metadata.rate",
    ),
];

pub(super) const SERVER: &[Situation] = &[
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

pub(super) const SETTINGS: &[Situation] = &[
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

pub(super) const PUSH: &[Situation] = &[
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
