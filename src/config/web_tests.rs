use super::tests::sentence;
use super::*;

const HASH: &str = "$2b$10$7StqRYwZUl.Er0agM.yjXe89jD7/nVce49sXh56Px3SIvctXaA3mq";

fn web_file(text: &str) -> WebFile {
    parse_web_file(text, Path::new("/etc/web.yaml")).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    sentence(&parse_web_file(text, Path::new("web.yaml")).expect_err(text))
}

#[test]
fn an_empty_file_asks_for_nothing() {
    for text in ["", "{}", "# nothing\n", "tls_server_config:\n", "tls_server_config: {}\nbasic_auth_users:\n"] {
        assert_eq!(web_file(text), WebFile::default(), "{text:?}");
    }
}

#[test]
fn every_key_of_the_toolkit_is_read() {
    let text = format!(
        r#"
tls_server_config:
  cert_file: tls/server.crt
  key_file: /srv/server.key
  client_ca_file: ca.crt
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example, "192.0.2.1", "spiffe://x/y"]
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384, X25519]
http_server_config:
  http2: false
  headers:
    Content-Security-Policy: default-src 'none'
    X-Frame-Options: deny
    X-Content-Type-Options: nosniff
    X-XSS-Protection: "1"
    Strict-Transport-Security: max-age=31536000; includeSubDomains
basic_auth_users:
  alice: {HASH}
rate_limit: {{interval: 500ms, burst: 20}}
"#
    );
    let file = web_file(&text);
    let tls = file.tls.expect("TLS");
    assert_eq!(tls.cert, Pem::File("/etc/tls/server.crt".into()));
    assert_eq!(tls.key, Pem::File("/srv/server.key".into()));
    assert_eq!(tls.client_ca, Some(Pem::File("/etc/ca.crt".into())));
    assert_eq!(tls.client_auth, ClientAuth::RequireAndVerify);
    assert_eq!(tls.client_allowed_sans.len(), 3);
    assert_eq!((tls.min_version, tls.max_version), (TlsVersion::Tls12, TlsVersion::Tls12));
    assert_eq!(tls.cipher_suites, [CipherSuite::EcdheRsaAes128, CipherSuite::Aes128GcmSha256]);
    assert!(!tls.prefer_server_cipher_suites);
    assert_eq!(tls.curve_preferences, [Curve::P384, Curve::X25519]);
    assert_eq!(file.headers.len(), 5);
    assert_eq!(file.headers[0], ("content-security-policy", "default-src 'none'".to_owned()));
    let (name, hash) = file.users.first_key_value().expect("a user");
    assert_eq!((name.as_str(), hash.as_str(), hash.cost()), ("alice", HASH, 10));
    let limit = file.rate_limit.expect("a limit");
    assert_eq!((limit.interval, limit.burst.get()), (Duration::from_millis(500), 20));
    let inline = web_file("tls_server_config: {cert: c, key: k}");
    let tls = inline.tls.expect("TLS");
    assert_eq!(
        (tls.client_auth, tls.min_version, tls.max_version),
        (ClientAuth::No, TlsVersion::Tls12, TlsVersion::Tls13)
    );
    assert!(!format!("{tls:?}").contains("\"k\""), "a key is printed: {tls:?}");
}

#[test]
fn each_bad_web_file_gets_one_sentence() {
    let tls = |keys: &str| format!("tls_server_config: {{cert_file: c, key_file: k, {keys}}}");
    let mut wrong = Vec::new();
    let weak = tls("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]");
    for (text, expected) in [
        (
            "tls_config: {}",
            "web.yaml:1:1: unknown key `tls_config`, expected one of `tls_server_config`, `http_server_config`, `basic_auth_users`, `rate_limit`",
        ),
        (
            "tls_server_config:\n  cert_fil: c\n",
            "web.yaml:2:3: tls_server_config: unknown key `cert_fil`, expected one of `cert`, `cert_file`, `key`, `key_file`, `client_ca`, `client_ca_file`, `client_auth_type`, `client_allowed_sans`, `min_version`, `max_version`, `cipher_suites`, `prefer_server_cipher_suites`, `curve_preferences`",
        ),
        ("tls_server_config: {key_file: k}", "web.yaml:1:20: tls_server_config: `cert_file` or `cert` is missing"),
        ("tls_server_config: {cert_file: c}", "web.yaml:1:20: tls_server_config: `key_file` or `key` is missing"),
        (
            &tls("cert: c"),
            "web.yaml:1:20: tls_server_config: both `cert` and `cert_file` are set, expected one of them",
        ),
        (
            &tls("client_ca_file: a"),
            "web.yaml:1:20: tls_server_config: there is a client CA, but client_auth_type `NoClientCert` verifies no certificate; set it to `RequireAndVerifyClientCert` or `VerifyClientCertIfGiven`",
        ),
        (
            &tls("client_auth_type: Sometimes"),
            "web.yaml:1:66: tls_server_config.client_auth_type: unknown client_auth_type `Sometimes`, expected one of `NoClientCert`, `RequestClientCert`, `RequireAnyClientCert`, `VerifyClientCertIfGiven`, `RequireAndVerifyClientCert`",
        ),
        (
            &tls("client_allowed_sans: [a]"),
            "web.yaml:1:20: tls_server_config: client_allowed_sans needs client_auth_type `RequireAndVerifyClientCert`",
        ),
        (
            &tls("client_ca: a, client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [a@b.example]"),
            "web.yaml:1:20: tls_server_config: client_allowed_sans has only e-mail addresses (a@b.example), expected host names, IP addresses or URIs",
        ),
        (
            &tls("max_version: TLS11"),
            "web.yaml:1:20: tls_server_config: max_version `TLS11` is not supported, expected `TLS12` or `TLS13`",
        ),
        (
            &tls("min_version: TLS13, max_version: TLS12"),
            "web.yaml:1:20: tls_server_config: min_version is above max_version",
        ),
        (
            &weak,
            "web.yaml:1:20: tls_server_config: cipher_suites has only what is not supported (TLS_RSA_WITH_AES_128_CBC_SHA), expected at least one that is",
        ),
        (
            &tls("cipher_suites: [TLS_AES]"),
            "web.yaml:1:64: tls_server_config.cipher_suites[0]: unknown cipher suite `TLS_AES`, expected one of `TLS_AES_128_GCM_SHA256`, `TLS_AES_256_GCM_SHA384`, `TLS_CHACHA20_POLY1305_SHA256`, `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`, `TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`, `TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256`, `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`, `TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256`",
        ),
        (
            &tls("curve_preferences: [CurveP521]"),
            "web.yaml:1:20: tls_server_config: curve_preferences has only what is not supported (CurveP521), expected at least one that is",
        ),
        (
            "http_server_config: {headers: {X-Powered-By: us}}",
            "web.yaml:1:32: http_server_config.headers: unknown key `X-Powered-By`, expected one of `Content-Security-Policy`, `Strict-Transport-Security`, `X-Content-Type-Options`, `X-Frame-Options`, `X-XSS-Protection`",
        ),
        (
            "http_server_config: {headers: {X-XSS-Protection: \"a\\r\\nb\"}}",
            "web.yaml:1:50: http_server_config.headers.X-XSS-Protection: bad value of a header \"a\\r\\nb\", expected visible ASCII characters",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: foo}}",
            "web.yaml:1:49: http_server_config.headers.X-Frame-Options: unknown X-Frame-Options `foo`, expected one of `deny`, `sameorigin`",
        ),
        (
            "http_server_config: {headers: {X-Content-Type-Options: sniff}}",
            "web.yaml:1:56: http_server_config.headers.X-Content-Type-Options: unknown X-Content-Type-Options `sniff`, expected one of `nosniff`",
        ),
        (
            "basic_auth_users:\n  alice: my password\n",
            "web.yaml:2:10: basic_auth_users.alice: not a bcrypt hash, generate one with `htpasswd -nBC 10 \"\"`: the part from `$2y$` on",
        ),
        (
            &format!("basic_auth_users: {{a: {}}}", HASH.replace("$10$", "$20$")),
            "web.yaml:1:23: basic_auth_users.a: a check of this bcrypt hash would take too long: its cost is 20, expected at most 18",
        ),
        (
            &format!("basic_auth_users: {{'a:b': {HASH}}}"),
            "web.yaml:1:20: basic_auth_users: bad user name `a:b`, expected one that is not empty and has no colon",
        ),
        (
            &format!("basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n"),
            "web.yaml:3:3: basic_auth_users: duplicate key `a`",
        ),
        ("rate_limit: {burst: -1}", "web.yaml:1:21: rate_limit.burst: bad number `-1`, expected one from 0 to 1000000"),
        (
            "rate_limit: {interval: 1}",
            "web.yaml:1:24: rate_limit.interval: bad duration `1`, expected a number and a unit such as `500ms` or `8s`, from 0s to 1h",
        ),
    ] {
        let refusal = refusal(text);
        if refusal != expected {
            wrong.push(format!("{text}\n{refusal}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_web_file_is_found_from_the_folder_of_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x.yaml");
    std::fs::write(&file, "web: {config_file: web.yaml}").expect("written");
    assert_eq!(load(&file).expect("good").web.config_file, Some(folder.path().join("web.yaml")));
    std::fs::write(&file, "web: {config_file: /etc/web.yaml}").expect("written");
    assert_eq!(load(&file).expect("good").web.config_file, Some("/etc/web.yaml".into()));
}

#[test]
fn the_example_of_a_web_file_is_good() {
    let file = web_file(include_str!("../../web.example.yaml"));
    assert_eq!(file.headers.len(), 2);
    assert!(file.tls.is_some_and(|tls| tls.client_auth == ClientAuth::RequireAndVerify) && file.rate_limit.is_some());
    let hash = file.users.values().next().expect("a user");
    assert!(bcrypt::verify("secret", hash.as_str()).expect("a hash"));
}
