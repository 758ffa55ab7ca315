//! The HTTP side of the exporter as a program: encryption, passwords, sockets, the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Procedure, ReplyFault, Scenario, Template, Times};
use server::{Authority, Client, Ending, Server, basic, file, folder, free_address, program, replace};

const MUTUAL_TLS: &str = "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, \
                          client_auth_type: RequireAndVerifyClientCert}\n";

#[test]
fn only_clients_with_a_good_certificate_are_let_in() {
    let authority = Authority::new();
    let folder = folder();
    authority.write_all(folder.path());
    let server = Server::start(folder, "{}", MUTUAL_TLS);
    let stranger = Authority::new();
    let good = authority.sign(&["prometheus.example"]);
    let get = |client: &std::sync::Arc<_>| server.request(Some(client), "GET", "/metrics", "");
    assert_eq!(get(&authority.client(Some(&good))).unwrap().code, 200);
    for (who, client) in [
        ("without a certificate", authority.client(None)),
        ("of another authority", authority.client(Some(&stranger.sign(&["prometheus.example"])))),
        ("who does not trust the server", stranger.client(Some(&good))),
    ] {
        let answer = get(&client);
        assert!(answer.is_err(), "a client {who} got {answer:?}");
    }
    assert_eq!(server.request(None, "GET", "/", "").unwrap().code, 400, "plain HTTP");
    // The names of the good certificate are looked at from the next connection on.
    let sans = |names: &str| MUTUAL_TLS.replace("}", &format!(", client_allowed_sans: [{names}]}}"));
    for (names, allowed) in [
        ("prometheus.example", true),
        ("other.example, Prometheus.Example", true),
        ("other.example", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
    ] {
        server.replace("web.yaml", &sans(names));
        let identity = authority.sign(&["prometheus.example", "192.0.2.7"]);
        assert_eq!(get(&authority.client(Some(&identity))).is_ok(), allowed, "{names}");
    }
    server.replace(
        "web.yaml",
        &MUTUAL_TLS.replace("RequireAndVerify", "Verify").replace("ClientCert}", "ClientCertIfGiven}"),
    );
    assert_eq!(get(&authority.client(None)).unwrap().code, 200);
    assert!(get(&authority.client(Some(&stranger.sign(&["x"])))).is_err());
}

#[test]
fn versions_and_suites_are_those_of_the_file() {
    let authority = Authority::new();
    let folder = folder();
    authority.write_all(folder.path());
    let server = Server::start(folder, "{}", "tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    // What OpenSSL says it agreed on.
    let agreed = |arguments: &[&str]| {
        let client = Command::new("openssl")
            .args(["s_client", "-connect", &server.address.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("openssl; install the Debian package openssl (make install does)");
        let text = String::from_utf8_lossy(&client.stdout).into_owned();
        let suite = text.lines().find_map(|line| line.trim().strip_prefix("New, ")?.split_once(", Cipher is "));
        suite.map_or_else(String::new, |(version, suite)| format!("{version} {suite}"))
    };
    assert!(agreed(&[]).starts_with("TLSv1.3 TLS_"));
    assert!(agreed(&["-tls1_2"]).starts_with("TLSv1.2 ECDHE-ECDSA-"));
    assert_eq!(agreed(&["-tls1_1", "-cipher", "ALL@SECLEVEL=0"]), "(NONE) (NONE)");
    let tls = "tls_server_config: {cert_file: server.crt, key_file: server.key, ";
    server.replace("web.yaml", &format!("{tls} cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}}\n"));
    assert_eq!(agreed(&["-tls1_2"]), "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384");
    assert_eq!(agreed(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]), "(NONE) (NONE)");
    assert!(agreed(&[]).starts_with("TLSv1.3 TLS_"));
    server.replace("web.yaml", &format!("{tls} min_version: TLS13, curve_preferences: [CurveP384]}}\n"));
    assert_eq!(agreed(&["-tls1_2"]), "(NONE) (NONE)");
    assert!(agreed(&["-groups", "P-384"]).starts_with("TLSv1.3 TLS_"));
    assert_eq!(agreed(&["-groups", "X25519"]), "(NONE) (NONE)");
}

#[test]
fn certificates_are_rotated_under_load() {
    let authority = Authority::new();
    let folder = folder();
    authority.write_all(folder.path());
    let server = Server::start(folder, "{}", MUTUAL_TLS);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for keeps in [false, true] {
            let client = authority.client(Some(&authority.sign(&["prometheus.example"])));
            let (server, stop, done) = (&server, &stop, &done);
            scope.spawn(move || {
                let mut kept = Client::connect(server.address, Some(&client)).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let answer = match keeps {
                        true => kept.request("GET", "/metrics", ""),
                        false => server.request(Some(&client), "GET", "/metrics", ""),
                    };
                    assert_eq!(answer.expect("an answer").code, 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let ending = Ending(&stop);
        // As often as it takes for enough requests to meet it, on a machine under load too.
        for round in 0.. {
            if round >= 20 && done.load(Ordering::Relaxed) > 50 {
                break;
            }
            // One after the other: for a moment they do not belong together, and the ones before stay in effect.
            let (certificate, key) = authority.sign(&["localhost"]);
            server.replace("server.crt", &certificate);
            thread::sleep(Duration::from_millis(20));
            server.replace("server.key", &key);
            thread::sleep(Duration::from_millis(30));
        }
        drop(ending);
    });
    // The last one is in effect: its CA is another.
    let new = Authority::new();
    let (certificate, key) = new.sign(&["localhost"]);
    server.replace("server.crt", &certificate);
    server.replace("server.key", &key);
    let client = new.client(Some(&authority.sign(&["prometheus.example"])));
    assert_eq!(server.request(Some(&client), "GET", "/-/healthy", "").unwrap().code, 200);
    assert!(server.log().contains("the previous one stays active"));
}

#[test]
fn wrong_passwords_take_as_long_for_known_users_as_for_unknown_ones() {
    let hash = bcrypt::hash("secret", 9).unwrap();
    let server = Server::start(folder(), "{}", &format!("basic_auth_users: {{alice: '{hash}'}}\n"));
    // An address has some twenty checks, and then one each second.
    let mut clients: Vec<_> =
        (2..7).map(|host| Client::connect_from(Ipv4Addr::new(127, 0, 0, host), server.address).unwrap()).collect();
    let mut time = |round: usize, user: &str, password: &str, code: u16| {
        let started = Instant::now();
        assert_eq!(clients[round % 5].request("GET", "/-/healthy", &basic(user, password)).unwrap().code, code);
        started.elapsed()
    };
    // In turns, so that whatever else the machine does weighs on both; the shortest of many has met the least of it.
    let shortest = |times: Vec<Duration>| times.into_iter().min().unwrap();
    let (known, unknown) =
        (0..25).map(|round| (time(round, "alice", "wrong", 401), time(round, "bob", "wrong", 401))).unzip();
    let (known, unknown) = (shortest(known), shortest(unknown));
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    assert!((0.67..1.5).contains(&ratio), "{known:?} for a known user, {unknown:?} for an unknown one");
    let right = shortest((0..25).map(|round| time(round, "alice", "secret", 200)).collect());
    assert!(right < known / 2, "{right:?} for a password that is remembered, {known:?} for a check");
}

#[test]
fn scrapers_of_one_collection_share_its_body() {
    let daemon = FakeLibvirtd::start(Scenario::builder().domains(24, Template::large()).build()).unwrap();
    let groups = "[state, cpu_total, balloon, vcpu, vcpu_kvm, interface, block, vm]";
    let config = format!("libvirt: {{uri: '{}'}}\ncollection: {{groups: {groups}, deadline: 60s}}\n", daemon.uri());
    let server = Server::start_on(folder(), None, &config, "");
    let peak = || {
        let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    };
    // Twice: the definitions come with the second one at the latest.
    let size = [(); 2].map(|()| server.get("/metrics").len())[1];
    assert!(size > 2 << 20, "a body of {size} bytes says nothing about memory");
    let before = peak();
    // So long that all of them have asked before the collection is over.
    let slow = ReplyFault::Delay(Duration::from_secs(5));
    daemon.faults().reply(Procedure::ConnectGetAllDomainStats, slow, Times::Always);
    let bodies: Vec<String> = thread::scope(|scope| {
        let scrapers: Vec<_> = (0..20).map(|_| scope.spawn(|| server.get("/metrics"))).collect();
        scrapers.into_iter().map(|scraper| scraper.join().unwrap()).collect()
    });
    // The exporter's own CPU time differs from one rendering to the next.
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    let grown = peak().saturating_sub(before);
    assert!(grown < 6 * size, "{grown} bytes more for 20 scrapers of one body of {size} bytes");
}

#[test]
fn a_bad_web_configuration_is_an_error_at_start() {
    let folder = folder();
    let web = file(&folder, "web.yaml");
    let authority = Authority::new();
    authority.write_all(folder.path());
    let at = |name: &str| file(&folder, name).display().to_string();
    fs::write(file(&folder, "empty.crt"), "").unwrap();
    fs::write(file(&folder, "other.key"), authority.sign(&["x"]).1).unwrap();
    for (text, expected) in [
        (
            "tls_server_config: {cert_file: nowhere.crt, key_file: server.key}",
            format!(
                "tls_server_config: cannot read cert_file {}: No such file or directory (os error 2)",
                at("nowhere.crt")
            ),
        ),
        (
            "tls_server_config: {cert_file: empty.crt, key_file: server.key}",
            format!("tls_server_config: cert_file {} holds no certificate in PEM", at("empty.crt")),
        ),
        (
            "tls_server_config: {cert_file: server.key, key_file: server.key}",
            format!("tls_server_config: cert_file {} holds no certificate in PEM", at("server.key")),
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: server.crt}",
            format!("tls_server_config: key_file {} holds no private key in PEM: no items found", at("server.crt")),
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: other.key}",
            "tls_server_config: cannot use the certificate with its key: keys may not be consistent: KeyMismatch"
                .into(),
        ),
    ] {
        replace(&web, text);
        for command in ["serve", "check"] {
            let mut run = program();
            run.args([command, "--libvirt.uri", "test:///default", "--web.listen-address", "127.0.0.1:0"]);
            let done = run.arg("--web.config.file").arg(&web).output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(done.status.code(), Some(2), "{said}");
            assert_eq!(said.trim(), format!("domstats-exporter: {}: {expected}", web.display()));
        }
    }
}

#[test]
fn a_socket_file_is_served_and_removed() {
    let folder = folder();
    let path = file(&folder, "socket");
    let address = free_address();
    let mut run = program();
    run.args(["--libvirt.uri", "test:///default", "--web.listen-address"]).arg(address.to_string());
    run.arg("--web.listen-address").arg(format!("unix:{}", path.display()));
    let mut process = run.stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("\nlibvirt_up 1\n"), "{answer}");
    assert!(Client::connect(address, None).is_ok());
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert!(!path.exists());
}

/// As systemd does it: the sockets are open from descriptor 3 on.
#[test]
fn sockets_that_systemd_passes_are_served() {
    let program = program();
    let starter = "import os, socket, sys\n\
        tcp = socket.create_server(('127.0.0.1', 0))\n\
        unix = socket.socket(socket.AF_UNIX); unix.bind(sys.argv[2]); unix.listen()\n\
        print(tcp.getsockname()[1], flush=True)\n\
        a, b = os.dup(tcp.fileno()), os.dup(unix.fileno())\n\
        os.dup2(a, 3); os.dup2(b, 4)\n\
        os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))\n\
        os.execv(sys.argv[1], [sys.argv[1], '--web.systemd-socket', '--libvirt.uri', 'test:///default'])\n";
    let folder = folder();
    let path = file(&folder, "socket");
    let mut process = Command::new("/usr/bin/python3")
        .args(["-c", starter])
        .arg(program.get_program())
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3; install the Debian package python3 (make install does)");
    let mut port = String::new();
    let mut output = process.stdout.take().unwrap();
    while !port.ends_with('\n') {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        port.push(char::from(byte[0]));
    }
    // The sockets listen already: a client only has to wait.
    let address = format!("127.0.0.1:{}", port.trim()).parse().unwrap();
    assert_eq!(Client::connect(address, None).unwrap().request("GET", "/-/healthy", "").unwrap().code, 200);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert!(path.exists(), "systemd's socket file was removed");
}

#[test]
fn it_ends_at_once_under_tls_with_idle_connections() {
    let authority = Authority::new();
    let folder = folder();
    authority.write_all(folder.path());
    let server = Server::start(folder, "{}", MUTUAL_TLS);
    let client = authority.client(Some(&authority.sign(&["prometheus.example"])));
    let mut idle = Client::connect(server.address, Some(&client)).unwrap();
    assert_eq!(idle.request("GET", "/metrics", "").unwrap().code, 200);
    let _silent = std::net::TcpStream::connect(server.address).unwrap();
    thread::sleep(Duration::from_millis(100));
    let (code, log) = server.stop();
    assert_eq!(code, Some(0));
    assert!(!log.contains("aborting requests still running"), "it waited for them: {log}");
}

#[test]
fn a_selection_shows_its_groups_only() {
    let server = Server::start(folder(), "{}", "");
    let names = |query: &str| -> BTreeSet<String> {
        let body = server.get(&format!("/metrics{query}"));
        let types = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        // How a domain fared is in every selection.
        let of_collection = ["libvirt_domain_stats_complete", "libvirt_domain_quarantined"];
        let shown = types.filter(|name| name.starts_with("libvirt_domain_") && !of_collection.contains(name));
        shown.map(str::to_owned).collect()
    };
    let defined = |names: &BTreeSet<String>| names.contains("libvirt_domain_info");
    let all = (0..500).map(|_| names("")).find(defined).expect("the definition is read at once");
    let states = names("?collect[]=state");
    // What is known of a domain without statistics goes with its state.
    for name in
        ["libvirt_domain_state", "libvirt_domain_state_reason_info", "libvirt_domain_info", "libvirt_domain_autostart"]
    {
        assert!(states.contains(name), "{name}: {states:?}");
    }
    let rest = names("?exclude[]=state");
    assert!(rest.is_disjoint(&states) && rest.len() + states.len() == all.len(), "{rest:?}");
    assert_eq!(names("?domain[]=none"), BTreeSet::new());
    assert_eq!(names("?domain[]=te.%2B"), all);
}

/// What the health check of a container asks: plain HTTP, TLS with certificates, passwords, a socket file, nothing.
#[test]
fn healthy_says_whether_it_answers() {
    let ask = |address: &str| program().args(["healthy", "--web.listen-address", address]).output().unwrap();
    let authority = Authority::new();
    let hash = bcrypt::hash("secret", 4).unwrap();
    let password = format!("basic_auth_users: {{alice: '{hash}'}}\n");
    for web in ["", MUTUAL_TLS, &password] {
        let folder = folder();
        authority.write_all(folder.path());
        let server = Server::start(folder, "{}", web);
        for address in [server.address.to_string(), format!(":{}", server.address.port())] {
            let said = ask(&address);
            assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{web}: {said:?}");
        }
    }
    let folder = folder();
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let server = Server::start(folder, &format!("web: {{listen_addresses: ['{socket}']}}"), "");
    // The flag of the test has overridden the file.
    let said = ask(&socket);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = other.local_addr().unwrap();
    let rude = thread::spawn(move || other.accept().unwrap().0.write_all(b"SSH-2.0\r\n"));
    for (address, why) in [(address, "that is no HTTP"), (free_address(), "Connection refused")] {
        let said = ask(&address.to_string());
        let error = String::from_utf8(said.stderr).unwrap();
        assert!(said.status.code() == Some(1) && error.contains(why) && error.lines().count() == 1, "{error}");
    }
    rude.join().unwrap().unwrap();
    drop(server);
}
