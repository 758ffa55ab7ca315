//! An exporter on a fake daemon, clients that attack it from one address, and a scraper at another one.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::server::{Server, folder};
use crate::{GRACE, SLACK};

/// Where the honest scraper is.
const HONEST: [u8; 4] = [127, 0, 0, 2];

/// How long the answers to a scraper took.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    median: Duration,
    slowest: Duration,
}

/// The exporter and its daemon.
pub struct Lab {
    pub server: Server,
    daemon: FakeLibvirtd,
}

impl Lab {
    pub fn start(config: &str, web: &str) -> Self {
        Self::start_in(folder(), config, web)
    }

    pub fn start_in(folder: TempDir, config: &str, web: &str) -> Self {
        let domains = std::env::var("DOMAINS").ok().and_then(|domains| domains.parse().ok()).unwrap_or(200);
        let daemon = FakeLibvirtd::start(Scenario::builder().domains(domains, Template::medium()).build()).unwrap();
        let uri = daemon.uri();
        let server = Server::start_on(folder, Some(&uri), config, web);
        Self { server, daemon }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// `count` scrapes of everything by the honest scraper, all of which have to be answered.
    pub fn honest(&self, count: usize) -> Times {
        let mut times: Vec<Duration> = (0..count).map(|_| self.scrape("/metrics")).collect();
        times.sort();
        Times { median: times[times.len() / 2], slowest: times[times.len() - 1] }
    }

    fn scrape(&self, path: &str) -> Duration {
        let began = Instant::now();
        let mut stream = connect(HONEST, self.address(), None).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = Vec::new();
        let read = stream.read_to_end(&mut text);
        let (code, body) = answer(&String::from_utf8_lossy(&text));
        assert!(read.is_ok() && code == 200, "{path}: {code}, {read:?}: {}", &body[..body.len().min(200)]);
        assert!(path != "/metrics" || body.contains("\nlibvirt_up 1\n"), "libvirt is not reached");
        began.elapsed()
    }

    /// Under an attack, the honest scraper is answered, in a time that has to do with that when it is quiet.
    pub fn assert_honest(&self, attack: &str, quiet: Times) {
        std::thread::sleep(Duration::from_millis(500));
        let times = self.honest(5);
        let healthy = self.scrape("/-/healthy");
        let (rss, peak) = (self.rss() >> 20, self.status("VmHWM") >> 20);
        println!(
            "{attack}: median {:.0?} (quiet {:.0?}), slowest {:.0?} (quiet {:.0?}), healthy {healthy:.0?}, RSS {rss} MiB, peak {peak} MiB",
            times.median, quiet.median, times.slowest, quiet.slowest
        );
        assert!(times.median < quiet.median * SLACK + GRACE, "{attack}: {times:?}, quiet {quiet:?}");
        assert!(healthy < quiet.median * SLACK + GRACE, "{attack}: {healthy:?}");
    }

    /// After an attack, memory is soon what it was before, but for `more` bytes.
    pub fn assert_memory(&self, attack: &str, before: usize, more: usize) {
        let began = Instant::now();
        while self.rss() > before + more {
            assert!(began.elapsed() < Duration::from_secs(15), "{attack}: {} after {before} bytes", self.rss());
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("{attack}: RSS {} MiB afterwards, {} MiB before", self.rss() >> 20, before >> 20);
    }

    /// It never took more than `more` bytes beyond those `before`.
    pub fn assert_peak(&self, attack: &str, before: usize, more: usize) {
        let peak = self.status("VmHWM");
        println!("{attack}: peak {} MiB, {} MiB before", peak >> 20, before >> 20);
        assert!(peak < before + more, "{attack}: {peak} bytes, {before} before");
    }

    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.server.process.id()), "5").unwrap();
    }

    /// Resident bytes.
    pub fn rss(&self) -> usize {
        self.status("VmRSS")
    }

    fn status(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<usize>().unwrap() << 10
    }

    /// The CPU time that the exporter has used, in the kernel's hundredths of a second.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.server.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// Has `clients` do the same over and over, each with its number and that of the round, while `meanwhile` goes on. How many
/// rounds there were.
pub fn attack(clients: usize, round: impl Fn(usize, usize) + Sync, meanwhile: impl FnOnce()) -> usize {
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..clients {
            let (over, rounds, round) = (&over, &rounds, &round);
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    round(client, number);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also where an assertion fails.
        let _end = End(&over);
        meanwhile();
    });
    rounds.into_inner()
}

/// A connection from an address of the loopback network, with a receive buffer of this size or the usual one.
pub fn connect(from: [u8; 4], to: SocketAddr, buffer: Option<usize>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::from(from), 0)).into())?;
    if let Some(buffer) = buffer {
        socket.set_recv_buffer_size(buffer)?;
    }
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    Ok(stream)
}

/// The whole answer to a GET from the attackers' address.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut text = Vec::new();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// The same where the answer does not matter, nor whether there is one; two seconds at the most.
pub fn send(address: SocketAddr, path: &str) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Status and body of an answer.
pub fn answer(text: &str) -> (u16, String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (code, body.to_owned())
}
