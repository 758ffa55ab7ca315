//! A real libvirtd that listens on TLS and on TCP with SASL: what the exporter says of each login that fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::process::Command;

use lab::{Lab, Suite};
use server::{Authority, folder, free_address};

/// The lines of `check` about the connection to a URI, which has to be good or not.
fn check(uri: &str, good: bool) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domstats-exporter"));
    let done = command.args(["check", "--web.listen-address", "127.0.0.1:0", "--libvirt.uri", uri]).output().unwrap();
    let report = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.success(), good, "{uri}: {report}");
    report.lines().filter(|line| line.starts_with("connection") || line.starts_with("remedy")).collect()
}

#[test]
fn each_login_that_fails_has_a_remedy_of_its_own() {
    let (ours, other, files) = (Authority::new(), Authority::named("another authority"), folder());
    let (server, client) = (ours.sign(&["localhost"]), ours.sign(&["client"]));
    let stranger = other.sign(&["client"]);
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    // The folders of `pkipath=`: a client's CA certificate, and its own certificate and key.
    let folders = [
        ("good", &ours.certificate, Some(&client)),
        ("no-client", &ours.certificate, None),
        ("stranger", &format!("{}{}", ours.certificate, other.certificate), Some(&stranger)),
        ("mixed", &ours.certificate, Some(&stranger)),
        ("other-ca", &other.certificate, Some(&stranger)),
    ];
    for (folder, ca, identity) in folders {
        write(&format!("{folder}/cacert.pem"), ca);
        if let Some((certificate, key)) = identity {
            write(&format!("{folder}/clientcert.pem"), certificate);
            write(&format!("{folder}/clientkey.pem"), key);
        }
    }
    let [tls, tcp] = [0; 2].map(|_| free_address().port());
    let settings = format!(
        "listen_addr = \"127.0.0.1\"\nlisten_tls = 1\ntls_port = \"{tls}\"\nauth_tls = \"none\"\nlisten_tcp = 1\n\
         tcp_port = \"{tcp}\"\nauth_tcp = \"sasl\"\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        write("ca.pem", &ours.certificate),
        write("server.pem", &server.0),
        write("server.key", &server.1)
    );
    let settings = write("settings", &settings);
    // The daemon may run as another user.
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(files.path()).status().unwrap();
    assert!(opened.success());
    let lab = Lab::start_with(Suite::Machine, Some(settings.as_ref())).unwrap();
    let driver = if lab.uri.contains(":///system") { "system" } else { "session" };
    let over_tls = |host: &str, port: u16, folder: &str| {
        format!("qemu+tls://{host}:{port}/{driver}?pkipath={}", files.path().join(folder).display())
    };
    check(&over_tls("localhost", tls, "good"), true);
    for (uri, part) in [
        (over_tls("localhost", tls, "no-client"), "does not accept this host's client certificate, or there is none"),
        (over_tls("localhost", tls, "stranger"), "does not accept this host's client certificate, or there is none"),
        (over_tls("localhost", tls, "mixed"), "belong to different CAs"),
        (over_tls("localhost", tls, "other-ca"), "has to be signed by the CA of cacert.pem"),
        (over_tls("127.0.0.1", tls, "good"), "name the host as libvirt.uri does"),
        (over_tls("localhost", tls, "none"), "put the certificate of the CA"),
        (over_tls("localhost", tcp, "good"), "see whether the port speaks TLS"),
        (format!("qemu+tcp://localhost:{tls}/{driver}"), "needs qemu+tls"),
        (format!("qemu+tcp://localhost:{tcp}/{driver}"), "the daemon requires a user and a password (SASL)"),
    ] {
        let said = check(&uri, false);
        assert!(said.contains(part) && !said.contains("unix_sock"), "{uri}: {said}");
    }
}
