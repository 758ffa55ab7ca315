//! Requests that cost far more than they look like, from one address, and a scraper at another one.
//!
//! `FIGURES=50 DOMAINS=2000 EXPORTER=target/release/domstats-exporter cargo test --test hostile_scrapes -- --nocapture
//! --test-threads 1` prints the table of `benches/README.md`: attack, its rounds, scrapes that were answered; in milliseconds
//! median and 99th percentile of a scrape when it is quiet and under the attack, and the slowest `/-/healthy` of both; in MiB
//! the resident memory before, at its peak and ten seconds after the attack.
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
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hostile::{Honest, Lab, answer, connect, exchange, figures, get, send, under};
use server::{Authority, Client, basic, folder};

const MIB: usize = 1 << 20;

/// Expressions that take some twenty milliseconds each to compile, and megabytes.
fn expensive(number: usize) -> String {
    (0..31).map(|expression| format!("domain[]=%5Cw{{82}}{number}x{expression}&")).collect()
}

#[test]
fn a_request_is_parsed_and_limited_before_it_costs_anything() {
    let lab = Lab::start("{}", "");
    let before = lab.cpu();
    for number in 0..if figures().is_some() { 0 } else { 30 } {
        let (code, body) = answer(&get(lab.address(), &format!("/metrics?{}collect[]=nonsense", expensive(number))));
        assert!(code == 400 && body.contains("unknown group"), "{code} {body}");
    }
    let spent = lab.cpu() - before;
    assert!(spent < Duration::from_secs(3), "30 refusals took {spent:?} of CPU");
    // Nor does what has to be compiled keep others waiting.
    for (name, rest) in [("expensive expressions", ""), ("expensive expressions, refused", "collect[]=nonsense")] {
        let expensive = |client, round| {
            send(lab.address(), &format!("/metrics?{}{rest}", expensive(client * 1000 + round)));
        };
        assert!(lab.withstand(name, 20, 64 * MIB, expensive) > 0);
    }
}

#[test]
fn selections_leave_no_memory_behind() {
    let lab = Lab::start("{}", "");
    let before = lab.rss();
    for number in 0..24 {
        let code = answer(&get(lab.address(), &format!("/metrics?domain[]=%5Cw{{16}}{number}&domain[]=vm-1"))).0;
        assert_eq!(code, 200);
    }
    let code = answer(&get(lab.address(), &format!("/metrics?{}", expensive(0)))).0;
    assert!(code == 400 || figures().is_some());
    println!("distinct selections: RSS {} MiB, {} MiB before", lab.rss() / MIB, before / MIB);
    if figures().is_none() {
        lab.assert_memory("distinct selections", before, 48 * MIB);
    }
}

#[test]
fn many_selections_of_one_address_wait_for_each_other() {
    let lab = Lab::start("{}", "");
    let pipelined = |client: usize, round: usize| {
        let one =
            |number| format!("GET /metrics?domain[]=.*&domain[]={client}x{round}x{number} HTTP/1.1\r\nHost: h\r\n\r\n");
        exchange(lab.address(), (0..10).map(one).collect::<String>().as_bytes(), Duration::from_secs(2));
    };
    assert!(lab.withstand("pipelined selections", 20, 96 * MIB, pipelined) > 0);
    for (name, path) in [
        ("distinct selections", "/metrics?domain[]=.*&domain[]="),
        ("small expressions", "/metrics?domain[]=a&domain[]=b&domain[]=vm-.&domain[]="),
        ("`exclude[]`", "/metrics?exclude[]=state&domain[]="),
    ] {
        let selection = |client, round| send(lab.address(), &format!("{path}{client}x{round}"));
        assert!(lab.withstand(name, 20, 96 * MIB, selection) > 0, "{name}");
    }
}

/// What a client has asked for takes its turn to the end, also where the client is gone.
#[test]
fn hanging_up_does_not_get_a_client_more_turns() {
    let lab = Lab::start("{}", "");
    let hang_up = |client, round| {
        let request = format!("GET /metrics?domain[]=.*&domain[]={client}x{round} HTTP/1.1\r\nHost: h\r\n\r\n");
        exchange(lab.address(), request.as_bytes(), Duration::from_millis(30));
    };
    assert!(lab.withstand("hang-ups", 20, 96 * MIB, hang_up) > 0);
}

#[test]
fn answers_that_are_not_read_have_a_budget() {
    const BUDGET: usize = 16 * MIB;
    // Builds that are measured for comparison may not know the setting.
    let config =
        if std::env::var_os("DEFAULTS").is_some() { "{}" } else { &format!("web: {{max_response_bytes: {BUDGET}}}") };
    let lab = Lab::start(config, "");
    let taken = AtomicUsize::new(0);
    let deaf = |client, round| {
        // With nearly no buffer, the client leaves nearly all of the answer to the server.
        let Ok(mut stream) = connect([127, 0, 0, 1], lab.address(), Some(2048)) else { return };
        let _ = write!(stream, "GET /metrics?domain[]=.*&domain[]={client}x{round} HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut head = [0; 12];
        if stream.read_exact(&mut head).is_ok() && head.ends_with(b"200") {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_secs(2));
    };
    // A few answers are being made beside those that are on their way.
    lab.withstand("slow readers", 60, BUDGET + 64 * MIB, deaf);
    assert!(taken.load(Ordering::Relaxed) > 0, "no answer was begun");
}

#[test]
fn wrong_passwords_do_not_lock_out_those_who_know_theirs() {
    let hash = bcrypt::hash("secret", if figures().is_some() { 12 } else { 9 }).unwrap();
    let web = format!("basic_auth_users: {{prometheus: '{hash}', second: '{hash}'}}\n");
    let honest = Honest { headers: basic("prometheus", "secret"), tls: None };
    let lab = Lab::start_in(folder(), "{}", &web, honest);
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
    assert!(lab.withstand("wrong passwords", 60, 64 * MIB, guess) > 0);
    if figures().is_some() {
        return;
    }
    under(60, guess, || {
        // A login that is not known yet, and one after the file was touched.
        for round in 0..3 {
            assert_eq!(authorized("prometheus").unwrap(), 200, "round {round}");
            assert_eq!(authorized("second").unwrap(), 200, "round {round}");
            lab.server.replace("web.yaml", &format!("{web}# {round}\n"));
        }
    });
    assert!(busy.load(Ordering::Relaxed) > 0, "all wrong passwords were checked");
}

/// What an attack sends on each of its connections, by client and round, and how long it reads.
type Shape<'a> = (&'a str, u64, Box<dyn Fn(usize, usize) -> String + Sync>);

#[test]
fn other_floods_cost_little() {
    let lab = Lab::start("{web: {enable_lifecycle: true}}", "");
    let large = format!("X: {}\r\n", "x".repeat(150)).repeat(90);
    let same = |text: String| move |_, _| text.clone();
    let get = |path: &str, times: usize| same(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").repeat(times));
    let post = |path: &str, rest: &str| same(format!("POST {path} HTTP/1.1\r\nHost: h\r\n{rest}"));
    let shapes: [Shape<'_>; 14] = [
        ("distinct paths", 500, Box::new(|client, round| format!("GET /{client}/{round} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))),
        ("large headers", 500, Box::new(same(format!("GET / HTTP/1.1\r\nHost: h\r\n{large}\r\n").repeat(40)))),
        ("headers that do not end", 1000, Box::new(same(format!("GET / HTTP/1.1\r\nHost: h\r\n{}", "X: y\r\n".repeat(5000))))),
        ("pages", 1000, Box::new(get("/", 100))),
        ("configuration", 1000, Box::new(get("/-/config", 100))),
        ("reloads", 1000, Box::new(post("/-/reload", "Connection: close\r\n\r\n"))),
        ("HTTP/2", 500, Box::new(same("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned()))),
        ("TLS where there is none", 500, Box::new(same("\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03".to_owned()))),
        ("slow bodies", 1000, Box::new(post("/-/reload", "Content-Length: 1000000\r\n\r\nx"))),
        ("bodies to come", 1000, Box::new(post("/metrics", "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"))),
        ("chunks without end", 1000, Box::new(post("/-/reload", &format!("Transfer-Encoding: chunked\r\n\r\n1;{}", "x".repeat(100_000))))),
        ("small chunks", 1000, Box::new(post("/", &format!("Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(20_000))))),
        ("ranges", 1000, Box::new(same(format!("GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\nRange: bytes={}\r\n\r\n", "0-,".repeat(3000))))),
        ("upgrades", 500, Box::new(same("GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n".to_owned()))),
    ];
    for (name, millis, shape) in shapes {
        let flood = |client, round| {
            exchange(lab.address(), shape(client, round).as_bytes(), Duration::from_millis(millis));
        };
        assert!(lab.withstand(name, 20, 64 * MIB, flood) > 0, "{name}");
    }
}

#[test]
fn handshakes_cost_little() {
    let folder = folder();
    let authority = Authority::new();
    authority.write_all(folder.path());
    let client = authority.client(None);
    let web = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";
    let honest = Honest { headers: String::new(), tls: Some(Arc::clone(&client)) };
    let lab = Lab::start_in(folder, "{}", web, honest);
    let begun =
        |_, _| exchange(lab.address(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Duration::from_millis(300));
    assert!(lab.withstand("handshakes that do not end", 40, 64 * MIB, begun) > 0);
    let whole = |_, _| {
        let _ = Client::connect(lab.address(), Some(&client)).and_then(|mut one| one.request("GET", "/nowhere", ""));
    };
    assert!(lab.withstand("handshakes", 20, 64 * MIB, whole) > 0);
}
