//! Real daemons behind one exporter: two private libvirtds of this machine and one of Debian sid, over each transport, a session daemon
//! and the test driver, scraped by a real Prometheus with the shipped example.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(unreachable_pub, missing_docs, missing_debug_implementations, dead_code)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{Lab, Running, Suite, get, need, tied};
use serde_json::Value;
use server::{Authority, Server, folder, free_address};

const SOON: Duration = Duration::from_secs(120);
const EXAMPLE: &str = include_str!("../examples/many-daemons.prometheus.yml");

/// A daemon that listens on TCP, which is let in without a password, and on TLS.
fn lab(suite: Suite, authority: &Authority, files: &Path) -> (Lab, u16, u16) {
    let [tls, tcp] = [0; 2].map(|_| free_address().port());
    let (certificate, key) = authority.sign(&["localhost", "127.0.0.1"]);
    let write = |name: &str, text: &str| {
        let path = files.join(format!("{tls}-{name}"));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let settings = format!(
        "listen_addr = \"127.0.0.1\"\nlisten_tls = 1\ntls_port = \"{tls}\"\nauth_tls = \"none\"\nlisten_tcp = 1\ntcp_port = \"{tcp}\"\n\
         auth_tcp = \"none\"\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        write("ca.pem", &authority.certificate),
        write("server.pem", &certificate),
        write("server.key", &key)
    );
    let settings = write("settings", &settings);
    // The daemon may run as another user.
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(files).status().unwrap().success());
    (Lab::start_with(suite, Some(settings.as_ref())).unwrap(), tls, tcp)
}

/// A libvirtd as a user has it, of another user where this one is root.
fn session(folder: &Path) -> (Running, String) {
    let is_root = rustix::process::geteuid().is_root();
    for name in ["run", "config", "cache", "data"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    let mut daemon = tied(if is_root { "setpriv" } else { "libvirtd" });
    if is_root {
        assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(folder).status().unwrap().success());
        daemon.args(["--reuid=65534", "--regid=65534", "--clear-groups", "libvirtd"]);
    }
    for (variable, name) in [
        ("XDG_RUNTIME_DIR", "run"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_DATA_HOME", "data"),
    ] {
        daemon.env(variable, folder.join(name));
    }
    let log = fs::File::create(folder.join("log")).unwrap();
    let running = Running(daemon.env("HOME", folder).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let socket = folder.join("run/libvirt/libvirt-sock");
    until("the session daemon listens", || socket.exists());
    (running, format!("qemu+unix:///session?socket={}", socket.display()))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(200));
    }
}

/// A query of Prometheus: values by job and instance.
fn query(prometheus: SocketAddr, expression: &str) -> BTreeMap<(String, String), String> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let Ok(body) = get(prometheus, &format!("/api/v1/query?query={encoded}"), "application/json") else {
        return BTreeMap::new();
    };
    let body: Value = serde_json::from_str(&body).unwrap();
    let of = |one: &Value| {
        let label = |name: &str| one["metric"][name].as_str().unwrap_or_default().to_owned();
        ((label("job"), label("instance")), one["value"][1].as_str().unwrap_or_default().to_owned())
    };
    body["data"]["result"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn real_daemons_over_each_transport_reach_a_real_prometheus() {
    need("prometheus", "prometheus").unwrap();
    let (authority, files, home) = (Authority::new(), folder(), folder());
    let (first, tls, tcp) = lab(Suite::Machine, &authority, files.path());
    let second = Lab::start(Suite::Machine).unwrap();
    let newest = Lab::start(Suite::Debian("sid")).unwrap();
    let started = [&first, &second, &newest].map(|lab| lab.guests(&["db"]).unwrap());
    let client = files.path().join("pki");
    let (certificate, key) = authority.sign(&["monitor.example"]);
    fs::create_dir(&client).unwrap();
    for (name, text) in
        [("cacert.pem", &authority.certificate), ("clientcert.pem", &certificate), ("clientkey.pem", &key)]
    {
        fs::write(client.join(name), text).unwrap();
    }
    let (_session, session_uri) = session(home.path());
    let driver = if first.uri.contains(":///system") { "system" } else { "session" };
    let config = format!(
        "libvirt: {{uri: 'test:///default'}}\ntargets:\n  hv-1.example: {{uri: 'qemu+tls://localhost:{tls}/{driver}?pkipath={}', profile: remote}}\n  \
         hv-2.example: {{uri: 'qemu+tcp://127.0.0.1:{tcp}/{driver}'}}\n  second: {{uri: '{}'}}\n  newest: {{uri: '{}'}}\n  session: {{uri: \
         '{session_uri}'}}\n  test: {{uri: 'test:///default'}}\nprofiles: {{remote: {{collection: {{workers: 1}}}}}}\n",
        client.display(),
        second.uri_ro,
        newest.uri_ro
    );
    let server = Server::start_on(folder(), None, &config, "");
    let example =
        EXAMPLE.replace("monitor.example:9177", &server.address.to_string()).replace("15s", "2s").replace("10s", "2s");
    let example = example.replace("refresh_interval: 30s", "refresh_interval: 2s");
    let tsdb = folder();
    fs::write(tsdb.path().join("prometheus.yml"), example).unwrap();
    let prometheus = free_address();
    let process = tied("prometheus")
        .arg(format!("--config.file={}", tsdb.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", tsdb.path().join("tsdb").display()))
        .arg(format!("--web.listen-address={prometheus}"))
        .arg("--log.level=error")
        .spawn()
        .unwrap();
    let _prometheus = Running(process);
    let probed = ["hv-1.example", "hv-2.example", "newest", "second", "session", "test"];
    let expected: BTreeMap<(String, String), String> = probed
        .iter()
        .map(|name| ("libvirt-probe", (*name).to_owned()))
        .chain(probed[..2].iter().map(|name| ("libvirt-probe-static", (*name).to_owned())))
        .chain([("libvirt", server.address.to_string())])
        .map(|(job, instance)| ((job.to_owned(), instance), "1".to_owned()))
        .collect();
    let mut last = BTreeMap::new();
    until("all targets are up", || {
        last = query(prometheus, "libvirt_up");
        last == expected || {
            eprintln!("{last:?}");
            false
        }
    });
    let domains = |instance: &str| {
        let body = server.get(&format!("/probe?target={instance}"));
        let domain = |line: &str| {
            Some(line.strip_prefix("libvirt_domain_stats_complete{domain=\"")?.split_once('"')?.0.to_owned())
        };
        body.lines().filter_map(domain).collect::<Vec<_>>()
    };
    for (instance, names) in [
        ("hv-1.example", started[0].clone()),
        ("hv-2.example", started[0].clone()),
        ("second", started[1].clone()),
        ("newest", started[2].clone()),
        ("session", Vec::new()),
        ("test", vec!["test".to_owned()]),
    ] {
        until(&format!("{instance} has {names:?}"), || domains(instance) == names);
    }
    // One daemon that goes is one target that is down.
    second.kill_daemon();
    let key = ("libvirt-probe".to_owned(), "second".to_owned());
    let mut down = expected.clone();
    down.insert(key, "0".to_owned());
    until("one is down", || query(prometheus, "libvirt_up") == down);
}
