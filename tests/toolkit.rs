//! Each key and value of exporter-toolkit's web configuration file, as docs/security.md has them: taken, taken in part with a
//! warning, or refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use domstats_exporter::config::load_web_file;
use domstats_exporter::web::Security;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use server::{Authority, Server, folder};

/// `htpasswd -nBC 10`, of the password "secret".
const HASH: &str = "$2b$10$y4oyTdnlt9DnRBlq2TmVC.P6643GCM1amKIHRSte5F8y.2k0SjbiS";

/// What a file does.
enum Outcome {
    /// The server starts, and warns of what has this in it.
    Starts(&'static [&'static str]),
    /// The server does not start, and says this.
    Refused(&'static str),
}
use Outcome::{Refused, Starts};

fn outcome(path: &Path) -> Result<Vec<String>, String> {
    let file = load_web_file(path).map_err(|error| error.to_string())?;
    Security::load(Some(path)).map_err(|error| format!("{error:?}"))?;
    Ok(file.warnings)
}

#[test]
fn every_key_and_value_of_the_toolkit_is_taken_or_refused_with_a_reason() {
    let folder = folder();
    Authority::new().write_all(folder.path());
    let pem = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap().replace('\n', "\n    ");
    let inline =
        format!("tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n", pem("server.crt"), pem("server.key"));
    let tls = |keys: &str| format!("tls_server_config: {{cert_file: server.crt, key_file: server.key{keys}}}");
    let cost = |cost: u32| format!("basic_auth_users: {{alice: {}}}", HASH.replace("$10$", &format!("${cost}$")));
    let suites = ["ECDSA_WITH_AES_128_CBC_SHA", "ECDSA_WITH_AES_256_CBC_SHA", "RSA_WITH_AES_128_CBC_SHA"];
    let all_suites = format!(
        ", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256, {}, \
         TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA]",
        suites.map(|suite| format!("TLS_ECDHE_{suite}")).join(", ")
    );
    let cases = [
        (String::new(), Starts(&[])),
        (inline, Starts(&[])),
        (tls(""), Starts(&[])),
        (tls(", cert: '', client_ca_file: '', client_auth_type: ''"), Starts(&[])),
        (tls(", client_auth_type: NoClientCert"), Starts(&[])),
        (tls(", client_auth_type: RequestClientCert"), Starts(&["verifies no certificate"])),
        (tls(", client_auth_type: RequireAnyClientCert"), Starts(&["verifies no certificate"])),
        (tls(", client_auth_type: RequireClientCert"), Starts(&["verifies no certificate"])),
        (tls(", client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.crt"), Starts(&[])),
        (tls(", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"), Starts(&[])),
        (tls(", client_auth_type: RequireAnyClientCert, client_ca_file: ca.crt"), Refused("verifies no certificate")),
        (tls(", client_ca_file: ca.crt"), Refused("verifies no certificate")),
        (tls(", client_auth_type: Sometimes"), Refused("unknown client_auth_type")),
        (
            tls(
                ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt, client_allowed_sans: [a, b@c.d]",
            ),
            Starts(&["e-mail addresses are not supported: b@c.d"]),
        ),
        (tls(", client_allowed_sans: [a]"), Refused("client_allowed_sans needs")),
        (
            tls(", client_auth_type: RequireAnyClientCert, client_allowed_sans: [a]"),
            Refused("client_allowed_sans needs"),
        ),
        (tls(", min_version: TLS10, max_version: TLS12"), Starts(&["TLS10 is not supported"])),
        (tls(", min_version: TLS13, max_version: TLS13"), Starts(&[])),
        (tls(", max_version: TLS11"), Refused("max_version `TLS11` is not supported")),
        (tls(", min_version: SSL30"), Refused("unknown TLS version")),
        (tls(&all_suites), Starts(&["TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA is not supported"])),
        (tls(", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]"), Refused("only what is not supported")),
        (tls(", cipher_suites: [TLS_MADE_UP]"), Refused("unknown cipher suite")),
        (tls(", prefer_server_cipher_suites: false"), Starts(&[])),
        (
            tls(", curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]"),
            Starts(&["CurveP521 is not supported, the others are used"]),
        ),
        (tls(", curve_preferences: [CurveP521]"), Refused("only what is not supported")),
        (tls(", curve_preferences: [CurveX]"), Refused("unknown curve")),
        ("tls_server_config: {cert_file: server.crt}".into(), Refused("`key_file` or `key` is missing")),
        ("tls_server_config: {min_version: TLS13}".into(), Refused("`cert_file` or `cert` is missing")),
        ("tls_server_config: {cert_file: absent, key_file: server.key}".into(), Refused("absent")),
        ("http_server_config: {http2: false}".into(), Starts(&[])),
        (
            "http_server_config: {headers: {X-Frame-Options: sameorigin, X-Content-Type-Options: nosniff, \
             X-XSS-Protection: 1, Strict-Transport-Security: max-age=1, Content-Security-Policy: ''}}"
                .into(),
            Starts(&[]),
        ),
        ("http_server_config: {headers: {X-Frame-Options: foo}}".into(), Refused("unknown X-Frame-Options")),
        ("http_server_config: {headers: {X-Content-Type-Options: sniff}}".into(), Refused("unknown X-Content-Type")),
        ("http_server_config: {headers: {Content-Type: foo}}".into(), Refused("unknown key `Content-Type`")),
        (cost(10), Starts(&[])),
        (cost(18), Starts(&["a bcrypt cost of 18"])),
        (cost(19), Refused("would take too long")),
        ("basic_auth_users: {alice: secret}".into(), Refused("not a bcrypt hash")),
        ("rate_limit: {interval: 0, burst: 0}".into(), Starts(&[])),
        ("rate_limit: {interval: 1s, burst: 0}".into(), Starts(&["0 would refuse every request"])),
        ("rate_limit: {interval: 1m30s, burst: 5}".into(), Starts(&[])),
        ("junk: true".into(), Refused("unknown key `junk`")),
    ];
    let path = folder.path().join("web.yaml");
    for (text, expected) in cases {
        fs::write(&path, &text).unwrap();
        match (outcome(&path), expected) {
            (Ok(warnings), Starts(parts)) => {
                let warned =
                    warnings.len() == parts.len() && warnings.iter().zip(parts).all(|(is, part)| is.contains(part));
                assert!(warned, "{text}: {warnings:?}");
            }
            (Err(refusal), Refused(part)) => assert!(refusal.contains(part), "{text}: {refusal}"),
            (is, _) => panic!("{text}: {is:?}"),
        }
    }
}

/// A machine without a CA bundle has no CAs.
#[test]
fn the_authorities_of_the_system_serve_where_none_is_named() {
    let folder = folder();
    Authority::new().write_all(folder.path());
    let web = "tls_server_config: {cert_file: server.crt, key_file: server.key, \
               client_auth_type: RequireAndVerifyClientCert}";
    fs::write(folder.path().join("web.yaml"), web).unwrap();
    let authorities = rustls_native_certs::load_native_certs().certs.len();
    match outcome(&folder.path().join("web.yaml")) {
        Ok(warnings) => assert!(authorities > 0 && warnings[0].contains("every authority that this system trusts")),
        Err(refusal) => assert!(authorities == 0 && refusal.contains("Verifier"), "{refusal}"),
    }
}

#[test]
fn plain_http_on_a_tls_port_gets_a_sentence() {
    let folder = folder();
    let authority = Authority::new();
    authority.write_all(folder.path());
    let web =
        "tls_server_config: {cert_file: server.crt, key_file: server.key, curve_preferences: [X25519, CurveP521]}";
    let server = Server::start(folder, "{}", web);
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("speaks HTTPS"), "{answer}");
    let secure = server.request(Some(&authority.client(None)), "GET", "/-/healthy", "").unwrap();
    assert_eq!(secure.code, 200);
    assert!(server.log().contains("curve_preferences: CurveP521 is not supported"), "{}", server.log());
}

/// What `openssl req -x509` makes: self-signed, and marked as a CA.
#[test]
fn a_self_signed_certificate_is_let_in_where_it_is_named() {
    let folder = folder();
    let authority = Authority::new();
    authority.write_all(folder.path());
    let self_signed = || {
        let mut params = CertificateParams::new(vec!["prometheus.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (named, other) = (self_signed(), self_signed());
    fs::write(folder.path().join("ca.crt"), &named.0).unwrap();
    let web = "tls_server_config: {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, \
               client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [prometheus.example]}";
    let server = Server::start(folder, "{}", web);
    let ask = |identity| server.request(Some(&authority.client(identity)), "GET", "/-/healthy", "");
    assert_eq!(ask(Some(&named)).unwrap().code, 200);
    assert!(ask(Some(&other)).is_err() && ask(None).is_err());
    // Any of them will do where the file says so.
    let any =
        "tls_server_config: {cert_file: server.crt, key_file: server.key, client_auth_type: RequireAnyClientCert}";
    server.replace("web.yaml", any);
    assert_eq!(ask(Some(&other)).unwrap().code, 200);
    assert!(ask(None).is_err());
}
