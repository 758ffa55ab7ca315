//! Requests that cost far more than they look like, from one address, and a scraper at another one.
//!
//! `cargo test --test hostile_scrapes -- --nocapture --test-threads 1` prints how long the scraper waits and how much memory the exporter
//! takes, quiet and under each attack; `EXPORTER` names another build and `DOMAINS` another number of domains.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "support/hostile.rs"]
mod hostile;
#[path = "support/server.rs"]
mod server;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hostile::{Lab, answer, attack, connect, get, send};
use server::basic;

/// What an answer to the honest scraper may take: many times what it takes when it is quiet, for a machine under load. That an
/// attack costs less than this is what each test is about; how much less, `benches/README.md` says.
const SLACK: u32 = 8;
const GRACE: Duration = Duration::from_secs(2);

/// Expressions that take some twenty milliseconds each to compile, and megabytes.
fn expensive(number: usize) -> String {
    (0..31).map(|expression| format!("domain[]=%5Cw{{82}}{number}x{expression}&")).collect()
}

#[test]
fn a_request_is_parsed_and_limited_before_it_costs_anything() {
    let lab = Lab::start("{}", "");
    let quiet = lab.honest(5);
    let before = lab.cpu();
    for number in 0..30 {
        let (code, body) = answer(&get(lab.address(), &format!("/metrics?{}collect[]=nonsense", expensive(number))));
        assert!(code == 400 && body.contains("unknown group"), "{code} {body}");
    }
    let spent = lab.cpu() - before;
    assert!(spent < Duration::from_secs(3), "30 refusals took {spent:?} of CPU");
    // Nor does what has to be compiled keep others waiting.
    let expensive = |client, round| send(lab.address(), &format!("/metrics?{}", expensive(client * 1000 + round)));
    assert!(attack(20, expensive, || lab.assert_honest("expensive expressions", quiet)) > 0);
}

#[test]
fn selections_leave_no_memory_behind() {
    let lab = Lab::start("{}", "");
    let quiet = lab.honest(5);
    let before = lab.rss();
    for number in 0..24 {
        let code = answer(&get(lab.address(), &format!("/metrics?domain[]=%5Cw{{16}}{number}&domain[]=vm-1"))).0;
        assert_eq!(code, 200);
    }
    let code = answer(&get(lab.address(), &format!("/metrics?{}", expensive(0)))).0;
    assert_eq!(code, 400);
    lab.assert_memory("distinct selections", before, 48 << 20);
    lab.assert_honest("after distinct selections", quiet);
}

#[test]
fn many_selections_of_one_address_wait_for_each_other() {
    let lab = Lab::start("{}", "");
    let quiet = lab.honest(5);
    let before = lab.rss();
    for (name, path) in [
        ("distinct selections", "/metrics?domain[]=.*&domain[]="),
        ("distinct small expressions", "/metrics?domain[]=a&domain[]=b&domain[]=vm-.&domain[]="),
        ("groups left out", "/metrics?exclude[]=state&domain[]="),
    ] {
        let selection = |client, round| send(lab.address(), &format!("{path}{client}x{round}"));
        assert!(attack(20, selection, || lab.assert_honest(name, quiet)) > 0, "{name}");
    }
    lab.assert_memory("selections", before, 64 << 20);
}

#[test]
fn answers_that_nobody_takes_have_a_budget() {
    const BUDGET: usize = 16 << 20;
    let lab = Lab::start(&format!("web: {{max_response_bytes: {BUDGET}}}"), "");
    let quiet = lab.honest(5);
    let before = lab.rss();
    lab.forget_peak();
    let taken = AtomicUsize::new(0);
    let deaf = |client, _| {
        // With next to no buffer of its own, the client leaves nearly all of the answer to the server.
        let Ok(mut stream) = connect([127, 0, 0, 1], lab.address(), Some(2048)) else { return };
        let _ = write!(stream, "GET /metrics?domain[]=.*&domain[]=x{client} HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut head = [0; 12];
        if stream.read_exact(&mut head).is_ok() && head.ends_with(b"200") {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_secs(2));
    };
    attack(60, deaf, || {
        lab.assert_honest("slow readers", quiet);
        let began = Instant::now();
        // Each has two megabytes and more of its own.
        while taken.load(Ordering::Relaxed) < 16 && began.elapsed() < Duration::from_secs(60) {
            lab.assert_honest("slow readers", quiet);
        }
    });
    assert!(taken.load(Ordering::Relaxed) >= 16, "{taken:?} answers were begun");
    // A few answers are being made beside those that are on their way.
    lab.assert_peak("slow readers", before, BUDGET + (64 << 20));
    lab.assert_memory("slow readers", before, 48 << 20);
}

#[test]
fn wrong_passwords_do_not_lock_out_those_who_know_theirs() {
    let hash = bcrypt::hash("secret", 9).unwrap();
    let web = format!("basic_auth_users: {{prometheus: '{hash}', second: '{hash}'}}\n");
    let lab = Lab::start("{}", &web);
    let address = lab.address();
    let authorized = |user: &str| {
        let mut stream = connect([127, 0, 0, 2], address, None).unwrap();
        let login = basic(user, "secret");
        write!(stream, "GET /-/healthy HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{login}\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| answer(&text).0)
    };
    let busy = AtomicUsize::new(0);
    let guess = |client, _| {
        let Ok(mut stream) = TcpStream::connect(address) else { return };
        let login = basic("prometheus", &format!("wrong{client}"));
        for _ in 0..20 {
            if write!(stream, "GET /-/healthy HTTP/1.1\r\nHost: h\r\n{login}\r\n").is_err() {
                return;
            }
            let mut head = [0; 2048];
            match stream.read(&mut head) {
                Ok(read) if String::from_utf8_lossy(&head[..read]).contains(" 429 ") => {
                    assert!(String::from_utf8_lossy(&head[..read]).contains("retry-after: 1"));
                    busy.fetch_add(1, Ordering::Relaxed);
                }
                Ok(read) if read > 0 => {}
                _ => return,
            }
        }
    };
    attack(60, guess, || {
        // A login that is not known yet, and one after the file was touched.
        for round in 0..3 {
            assert_eq!(authorized("prometheus").unwrap(), 200, "round {round}");
            assert_eq!(authorized("second").unwrap(), 200, "round {round}");
            lab.server.replace("web.yaml", &format!("{web}# {round}\n"));
        }
    });
    assert!(busy.load(Ordering::Relaxed) > 0, "all wrong passwords were checked");
}

#[test]
fn other_floods_cost_little() {
    let lab = Lab::start("{}", "");
    let quiet = lab.honest(5);
    let before = lab.rss();
    let address = lab.address();
    let large = format!("X: {}\r\n", "x".repeat(150)).repeat(90);
    let exchange = |request: &str| {
        if let Ok(mut stream) = TcpStream::connect(address)
            && stream.write_all(request.as_bytes()).is_ok()
        {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
            let _ = stream.read(&mut [0; 4096]);
        }
    };
    type Shape<'a> = (&'a str, Box<dyn Fn(usize, usize) + Sync + 'a>);
    let shapes: [Shape<'_>; 5] = [
        (
            "distinct paths",
            Box::new(|client, round| exchange(&format!("GET /{client}/{round} HTTP/1.1\r\nHost: h\r\n\r\n"))),
        ),
        ("large headers", Box::new(|_, _| exchange(&format!("GET / HTTP/1.1\r\nHost: h\r\n{large}\r\n").repeat(8)))),
        ("HTTP/2", Box::new(|_, _| exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"))),
        ("TLS where there is none", Box::new(|_, _| exchange("\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03"))),
        (
            "slow bodies",
            Box::new(|_, _| exchange("POST /-/reload HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nx")),
        ),
    ];
    for (name, shape) in shapes {
        assert!(attack(12, shape, || lab.assert_honest(name, quiet)) > 0, "{name}");
    }
    lab.assert_memory("other floods", before, 48 << 20);
}

#[test]
fn handshakes_that_never_end_cost_little() {
    let folder = server::folder();
    server::Authority::new().write_all(folder.path());
    let web = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";
    let lab = Lab::start_in(folder, "{}", web);
    let before = lab.rss();
    let handshake = |_, _| {
        if let Ok(mut stream) = TcpStream::connect(lab.address()) {
            let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    assert!(attack(40, handshake, || std::thread::sleep(Duration::from_secs(2))) > 0);
    lab.assert_memory("handshakes", before, 32 << 20);
}
