//! Clients that are slow, many, broken or gone, and the end of the server.

use tokio::task::yield_now;

use super::*;
use crate::encode::Exposition;
use crate::metrics::{Families, Family, Kind, Meta, Origin, Sample, SubjectId, Unit, Value};

/// Of the time that requests under way have when the server stops: one that is waited for takes all of it.
const HALF_OF_GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn malformed_requests_are_refused_and_harm_no_other() {
    let server = Server::start(Fake::default());
    let mut wrong = Vec::new();
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let long_header = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    for (bytes, code) in [
        (long_line.as_bytes(), 431),
        (long_header.as_bytes(), 431),
        (many_headers.as_bytes(), 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"\0\0\0\0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
        // Two lengths, lengths that are none, and chunks that are none: how one request is smuggled within another.
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: nameless\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 400),
        (b"GET /\0 HTTP/1.1\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"G\xc3\x89T / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"CONNECT host:1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 404),
        (b"GET http://[::1 HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        // No host, or two: a proxy in front could take another one for the right one than the server behind it.
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
    ] {
        let answer = Answer::parse(&server.exchange(bytes).await);
        if answer.code != code {
            let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            wrong.push(format!("{sent:?}: {}", answer.code));
        }
        assert_eq!(server.get("/-/healthy").await.code, 200);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    server.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Fake::default());
    let answers = server
        .exchange(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\nHEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: h\r\n\r\nGET /-/ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await;
    let codes: Vec<_> = answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(codes, ["200", "200", "404", "200"]);
    assert!(answers.ends_with("domstats-exporter is ready\n"));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_requests_is_answered_in_its_turn() {
    let server = Server::start(Fake::default());
    let mut client = server.connect().await;
    let mut flood = "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n".repeat(119);
    flood.push_str("GET /-/healthy HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let started = Instant::now();
    client.write_all(flood.as_bytes()).await.expect("sent");
    assert_eq!(read_all(&mut client).await.matches("HTTP/1.1 200").count(), 120);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(3), "{took:?}");
    server.stop().await;
}

#[tokio::test]
async fn many_scrapers_are_answered_at_once() {
    let unlimited = RwLock::new(Arc::new(config("{max_requests: 0}")));
    let server = Server::start(Fake { permits: Semaphore::new(0), config: unlimited, ..Fake::default() });
    let mut clients = JoinSet::new();
    for _ in 0..600 {
        let address = server.address;
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let request = b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.expect("sent");
            Answer::parse(&read_all(&mut stream).await).code
        });
    }
    while server.source.asked.lock().expect("not poisoned").len() < 600 {
        sleep(Duration::from_millis(5)).await;
    }
    server.source.permits.add_permits(600);
    assert_eq!(clients.join_all().await, [200; 600]);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_slowly_is_cut_off() {
    let server = Server::start(Fake::default());
    for (sent, seconds) in [
        ("", 10),
        ("G", 10),
        ("GET / HTTP/1.1\r\nHost: h\r\n", 10),
        // Between two scrapes silence is no fault.
        ("GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n", 300),
    ] {
        let started = Instant::now();
        server.exchange(sent.as_bytes()).await;
        assert_eq!(started.elapsed().as_secs(), seconds, "{sent:?}");
    }
    // A later request has to come as fast as the first, once it has begun.
    let mut stream = server.connect().await;
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    sleep(Duration::from_secs(60)).await;
    stream.write_all(b"GET").await.expect("still open");
    let started = Instant::now();
    assert!(read_all(&mut stream).await.ends_with("healthy\n"));
    assert_eq!(started.elapsed().as_secs(), 10);
    // A byte now and then does not help.
    let mut stream = server.connect().await;
    let started = Instant::now();
    while stream.write_all(b"G").await.is_ok() && started.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_secs(1)).await;
    }
    assert!(started.elapsed() <= Duration::from_secs(12), "{:?}", started.elapsed());
    server.stop().await;
}

/// Larger than any socket buffer.
fn large() -> Fake {
    Fake { body: Ok(Content::Whole(vec![b'x'; 64 << 20].into())), ..Fake::default() }
}

/// Likewise, and written piece by piece while it is sent.
fn large_exposition() -> Fake {
    let mut families = Families::default();
    let set = families.labels.push([("device", "d".repeat(1000).as_str())]);
    let name = "libvirt_bytes";
    let meta = Meta {
        name: name.into(),
        help: "A help".into(),
        kind: Kind::Unknown,
        unit: Unit::None,
        otel_name: name.into(),
        otel_attributes: &[],
    };
    let samples = vec![Sample::new(SubjectId::HOST, set, Value::Unsigned(1)); 64 << 10];
    families.families.push(Family::new(Arc::new(meta), Origin::Process, samples));
    let exposition = Exposition::new(Format::Text, families);
    Fake { body: Ok(Content::Pieces(Arc::new(exposition))), ..Fake::default() }
}

/// However steadily it reads.
#[tokio::test(start_paused = true)]
async fn a_client_that_takes_more_than_a_minute_is_cut_off() {
    for source in [large(), large_exposition()] {
        let server = Server::start(source);
        let mut stream = server.connect().await;
        stream.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
        let (began, mut received, mut part) = (Instant::now(), 0, vec![0; 256 << 10]);
        while let Ok(bytes @ 1..) = stream.read(&mut part).await {
            received += bytes;
            sleep(Duration::from_millis(500)).await;
        }
        let took = began.elapsed().as_secs();
        assert!((60..120).contains(&took) && received < 60 << 20, "{took} s, {received} bytes");
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = Server::start(large());
    let mut stream = server.connect().await;
    stream.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    sleep(Duration::from_secs(25)).await;
    let received = read_all(&mut stream).await.len();
    assert!(received < 64 << 20, "{received}");
    server.stop().await;
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let server = Server::start(large());
    assert_eq!(server.get("/libvirt/metrics").await.body.len(), 64 << 20);
    server.stop().await;
}

#[tokio::test]
async fn shutdown_lets_a_request_in_flight_finish() {
    let server = Server::start(Fake { permits: Semaphore::new(0), ..Fake::default() });
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    while server.source.asked.lock().expect("not poisoned").is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let Server { address, source, stop, mut task } = server;
    stop.send(()).expect("listening");
    assert_eq!(read_all(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err(), "no new connection is accepted");
    assert!(timeout(Duration::from_millis(50), &mut task).await.is_err(), "the request is not answered yet");
    source.permits.add_permits(1);
    let answer = Answer::parse(&read_all(&mut busy).await);
    assert_eq!((answer.code, answer.body.as_str()), (200, "libvirt_up 1\n"));
    timeout(HALF_OF_GRACE, task).await.expect("ended").expect("no panic");
}

/// Those of whom nothing had been read at the signal: they were accepted, and under a socket of systemd's the next server would have
/// answered them.
#[tokio::test]
async fn shutdown_answers_clients_that_have_just_connected() {
    let server = Server::start(Fake::default());
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.write_all(b"GET /-/healthy HTTP/1.1\r\n").await.expect("sent");
    // Both are accepted by then: connections come in their order.
    assert_eq!(server.get("/-/healthy").await.code, 200);
    let Server { stop, task, .. } = server;
    stop.send(()).expect("listening");
    // The server's tasks see the signal: the runtime has one thread.
    for _ in 0..100 {
        yield_now().await;
    }
    silent.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    half.write_all(b"Host: h\r\n\r\n").await.expect("sent");
    for client in [&mut silent, &mut half] {
        let answer = Answer::parse(&read_all(client).await);
        assert_eq!((answer.code, answer.header("connection")), (200, Some("close")));
    }
    timeout(HALF_OF_GRACE, task).await.expect("ended").expect("no panic");
}

/// A request of which half is there, and no more comes.
#[tokio::test(start_paused = true)]
async fn shutdown_waits_a_second_for_the_rest_of_a_request() {
    let server = Server::start(Fake::default());
    let mut first = server.connect().await;
    first.write_all(b"GET /-/heal").await.expect("sent");
    let mut second = server.connect().await;
    second.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\nGET /-/heal").await.expect("sent");
    assert_eq!(server.get("/-/healthy").await.code, 200);
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(read_all(&mut first).await, "");
}

/// The kernel has made their connections, but the server has not accepted them yet.
#[tokio::test]
async fn shutdown_answers_clients_that_wait_to_be_accepted() {
    let server = Server::start(Fake::default());
    let waiting = (0..100).map(|_| {
        let mut client = std::net::TcpStream::connect(server.address).expect("connected");
        std::io::Write::write_all(&mut client, b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
        client.set_nonblocking(true).expect("a socket");
        TcpStream::from_std(client).expect("a socket")
    });
    let waiting: Vec<TcpStream> = waiting.collect();
    let Server { stop, task, .. } = server;
    stop.send(()).expect("listening");
    for mut client in waiting {
        assert_eq!(Answer::parse(&read_all(&mut client).await).code, 200);
    }
    timeout(HALF_OF_GRACE, task).await.expect("ended").expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_ever() {
    // One request is never answered, another's answer never read.
    let server = Server::start(Fake { permits: Semaphore::new(1), ..large() });
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
        clients.push(client);
    }
    while server.source.asked.lock().expect("not poisoned").len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    server.stop().await;
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn the_server_does_not_wait_for_a_client_that_hung_up() {
    let server = Server::start(Fake { permits: Semaphore::new(0), ..Fake::default() });
    let mut client = server.connect().await;
    client.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    while server.source.asked.lock().expect("not poisoned").is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    drop(client);
    timeout(HALF_OF_GRACE, server.stop()).await.expect("nothing is left to wait for");
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_does_not_end_the_turn() {
    let server = Server::start(Fake { permits: Semaphore::new(0), ..Fake::default() });
    let asked = || server.source.asked.lock().expect("not poisoned").len();
    let mut client = server.connect().await;
    client.write_all(b"GET /libvirt/metrics?domain[]=a HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("sent");
    while asked() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    drop(client);
    let release = async {
        sleep(Duration::from_millis(500)).await;
        assert_eq!(asked(), 1, "the collection of the one that has gone goes on");
        server.source.permits.add_permits(2);
    };
    let (next, ()) = tokio::join!(server.get("/libvirt/metrics?domain[]=b"), release);
    assert_eq!((next.code, asked()), (200, 2));
    server.stop().await;
}

#[tokio::test]
async fn the_time_that_targets_waited_for_a_turn_is_taken_off() {
    let config = RwLock::new(Arc::new(discovering("{}", "/sd")));
    let server = Server::start(Fake { config, permits: Semaphore::new(0), ..Fake::default() });
    let then = async {
        while server.source.asked.lock().expect("not poisoned").is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        server.request("GET", "/sd", "X-Prometheus-Refresh-Interval-Seconds: 60\r\n").await
    };
    let release = async {
        sleep(Duration::from_secs(1)).await;
        server.source.permits.add_permits(2);
    };
    let (scraped, listed, ()) = tokio::join!(server.get("/libvirt/metrics?domain[]=x"), then, release);
    assert_eq!((scraped.code, listed.code), (200, 200));
    let (_, timeout) = server.source.discovered.lock().expect("not poisoned")[0];
    assert!(timeout.is_some_and(|left| left < Duration::from_millis(59_900)), "{timeout:?}");
    server.stop().await;
}

#[tokio::test]
async fn scrapes_over_the_limit_are_told_to_come_back() {
    let limited = RwLock::new(Arc::new(config("{max_requests: 2}")));
    let server = Server::start(Fake { permits: Semaphore::new(0), config: limited, ..Fake::default() });
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.write_all(b"GET /libvirt/metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.expect("sent");
        waiting.push(client);
    }
    while server.source.asked.lock().expect("not poisoned").len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let refused = server.get("/libvirt/metrics").await;
    assert_eq!((refused.code, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.body, "the limit of 2 scrapes at a time (web.max_requests) is reached, try again\n");
    assert_eq!(server.get("/-/healthy").await.code, 200);
    // One hangs up, one is answered: both places are free again.
    waiting.pop();
    let next = async {
        while server.get("/libvirt/metrics").await.code != 200 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let release = async {
        while server.source.asked.lock().expect("not poisoned").len() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        server.source.permits.add_permits(4);
    };
    timeout(Duration::from_secs(60), async { tokio::join!(next, release) }).await.expect("the place of the first");
    assert!(read_all(&mut waiting[0]).await.contains("libvirt_up 1"));
    assert_eq!(server.get("/libvirt/metrics").await.code, 200);
    server.stop().await;
}
