//! An exporter on a fake daemon, clients that attack it from one address, and a scraper at another one.
//!
//! `EXPORTER` names another build, `DAEMON` the program `fake-libvirtd` where it is not to run in this process, `DOMAINS` another
//! number of domains. `FIGURES` takes the figures of `benches/README.md`: that
//! many scrapes under each attack, for a minute at most, printed instead of judged.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fake_libvirtd::{FakeLibvirtd, Scenario, Template};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::server::{Server, folder};

/// What a scrape may take under an attack: many times what it takes when it is quiet, for a machine under load. That an attack
/// costs less than this is what each test is about; how much less, `benches/README.md` says.
const SLACK: u32 = 8;
const GRACE: Duration = Duration::from_secs(5);
/// How long memory has to come back, and when the figures look at it.
const RECOVERY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(10);
/// Where the honest scraper is.
const HONEST: [u8; 4] = [127, 0, 0, 2];

/// How long the answers to a scraper took.
#[derive(Debug, Clone)]
struct Times {
    /// In order; those that failed until they did.
    taken: Vec<Duration>,
    failed: usize,
}

impl Times {
    /// By the nearest rank.
    fn percentile(&self, percent: usize) -> Duration {
        self.taken[(self.taken.len() * percent).div_ceil(100).max(1) - 1]
    }

    fn median(&self) -> Duration {
        self.percentile(50)
    }
}

/// What the honest client has seen.
#[derive(Debug, Clone)]
struct Seen {
    scrapes: Times,
    /// `/-/healthy`, meanwhile.
    healthy: Times,
}

/// How the honest client asks.
#[derive(Debug, Default)]
pub struct Honest {
    /// Headers, each with its line end.
    pub headers: String,
    /// Over TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

/// The exporter and its daemon.
pub struct Lab {
    pub server: Server,
    _daemon: Daemon,
    honest: Honest,
    quiet: Option<Seen>,
}

/// A fake libvirtd in this process or as its own program.
enum Daemon {
    Here(FakeLibvirtd),
    Program(Child, PathBuf),
}

impl Daemon {
    fn start(folder: &Path, domains: usize) -> Self {
        let Some(program) = std::env::var_os("DAEMON") else {
            let scenario = Scenario::builder().domains(domains, Template::medium()).build();
            return Self::Here(FakeLibvirtd::start(scenario).unwrap());
        };
        let socket = folder.join("libvirt");
        let count = domains.to_string();
        let mut command = Command::new(program);
        command.arg("--socket").arg(&socket).args(["--domains", &count, "--template", "medium"]);
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        while !socket.exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self::Program(process, socket)
    }

    fn uri(&self) -> String {
        match self {
            Self::Here(daemon) => daemon.uri(),
            Self::Program(_, socket) => format!("qemu+unix:///system?socket={}", socket.display()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Self::Program(process, _) = self {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The number of scrapes under each attack, where figures are wanted.
pub fn figures() -> Option<usize> {
    std::env::var("FIGURES").ok()?.parse().ok()
}

impl Lab {
    pub fn start(config: &str, web: &str) -> Self {
        Self::start_in(folder(), config, web, Honest::default())
    }

    pub fn start_in(folder: TempDir, config: &str, web: &str, honest: Honest) -> Self {
        let domains = std::env::var("DOMAINS").ok().and_then(|domains| domains.parse().ok()).unwrap_or(200);
        let daemon = Daemon::start(folder.path(), domains);
        let server = Server::start_on(folder, Some(&daemon.uri()), config, web);
        let mut lab = Self { server, _daemon: daemon, honest, quiet: None };
        lab.scrapes(2);
        let quiet = lab.look();
        assert_eq!(quiet.scrapes.failed, 0, "without an attack");
        lab.quiet = Some(quiet);
        lab
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Scrapes everything over and over, and looks at `/-/healthy` meanwhile.
    fn look(&self) -> Seen {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut times = Times { taken: Vec::new(), failed: 0 };
                while !over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    times.failed += usize::from(self.scrape("/-/healthy").is_err());
                    times.taken.push(began.elapsed());
                    std::thread::sleep(Duration::from_millis(50));
                }
                times.taken.sort();
                times
            });
            let scrapes = self.scrapes(figures().unwrap_or(3));
            over.store(true, Ordering::Relaxed);
            Seen { scrapes, healthy: asking.join().unwrap() }
        })
    }

    /// Everything, as the honest scraper asks for it, over and over.
    fn scrapes(&self, count: usize) -> Times {
        let began = Instant::now();
        let mut times = Times { taken: Vec::new(), failed: 0 };
        while times.taken.len() < count && began.elapsed() < Duration::from_secs(60) {
            let scraping = Instant::now();
            match self.scrape("/metrics") {
                Ok(body) if body.contains("\nlibvirt_up 1\n") => {}
                other => {
                    println!("a scrape failed: {:.200}", other.unwrap_or_else(|error| error));
                    times.failed += 1;
                }
            }
            times.taken.push(scraping.elapsed());
        }
        times.taken.sort();
        times
    }

    /// The body of a good answer, or why there is none.
    fn scrape(&self, path: &str) -> Result<String, String> {
        let stream = connect(HONEST, self.address(), None).map_err(|error| error.to_string())?;
        let patience = if figures().is_some() { 15 } else { 40 };
        stream.set_read_timeout(Some(Duration::from_secs(patience))).unwrap();
        let text = match &self.honest.tls {
            None => ask(stream, path, &self.honest.headers),
            Some(config) => {
                let name = ServerName::try_from("localhost").unwrap();
                let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
                ask(StreamOwned::new(connection, stream), path, &self.honest.headers)
            }
        };
        let (code, body) = answer(&text?);
        if code == 200 { Ok(body) } else { Err(format!("{path}: {code} {body:.200}")) }
    }

    /// Attacks with `clients` that do the same over and over, each with its number and that of the round. The honest scraper is
    /// answered meanwhile, in a time that has to do with that when it is quiet; the exporter takes at most `more` bytes beyond
    /// what it had before, and gives them back. How many rounds there were.
    pub fn withstand(&self, attack: &str, clients: usize, more: usize, round: impl Fn(usize, usize) + Sync) -> usize {
        let before = self.rss();
        self.forget_peak();
        let mut seen = None;
        let rounds = under(clients, round, || {
            std::thread::sleep(Duration::from_millis(300));
            seen = Some(self.look());
        });
        let (seen, peak) = (seen.unwrap(), self.status("VmHWM"));
        let quiet = self.quiet.as_ref().unwrap();
        if figures().is_none() {
            assert_eq!((seen.scrapes.failed, seen.healthy.failed), (0, 0), "{attack}: {seen:?}");
            let limit = quiet.scrapes.median() * SLACK + GRACE;
            let slowest = seen.scrapes.median().max(seen.healthy.percentile(100));
            assert!(slowest < limit, "{attack}: {seen:?}, quiet {quiet:?}");
            assert!(peak < before + more, "{attack}: {peak} bytes, {before} before");
            self.assert_memory(attack, before, more / 2);
        } else {
            std::thread::sleep(LOOK);
        }
        let millis = |times: &Times, percent| times.percentile(percent).as_millis();
        println!(
            "| {attack} | {rounds} | {} of {} | {}, {} | {}, {} | {}, {} | {} | {} | {} |",
            seen.scrapes.taken.len() - seen.scrapes.failed,
            seen.scrapes.taken.len(),
            millis(&quiet.scrapes, 50),
            millis(&quiet.scrapes, 99),
            millis(&seen.scrapes, 50),
            millis(&seen.scrapes, 99),
            millis(&quiet.healthy, 100),
            millis(&seen.healthy, 100),
            before >> 20,
            peak >> 20,
            self.rss() >> 20,
        );
        rounds
    }

    /// Memory is soon what it was before, but for `more` bytes.
    pub fn assert_memory(&self, attack: &str, before: usize, more: usize) {
        let began = Instant::now();
        while self.rss() > before + more {
            assert!(began.elapsed() < RECOVERY, "{attack}: {} after {before} bytes", self.rss());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn forget_peak(&self) {
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

fn ask(mut stream: impl Read + Write, path: &str, headers: &str) -> Result<String, String> {
    let mut text = Vec::new();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n")
        .and_then(|()| stream.read_to_end(&mut text))
        .map_err(|error| format!("{path}: {error}"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Has `clients` do the same over and over while `meanwhile` goes on.
pub fn under(clients: usize, round: impl Fn(usize, usize) + Sync, meanwhile: impl FnOnce()) -> usize {
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
                // Real attackers have their own machines: their work must not slow down the exporter and the scraper.
                let _ = rustix::process::nice(15);
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
    ask(TcpStream::connect(address).unwrap(), path, "").unwrap()
}

/// The same where the answer does not matter, nor whether there is one; two seconds at the most.
pub fn send(address: SocketAddr, path: &str) {
    let Ok(stream) = TcpStream::connect(address) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = ask(stream, path, "");
}

/// Sends `bytes` on its own connection and reads for `patience` at the most.
pub fn exchange(address: SocketAddr, bytes: &[u8], patience: Duration) {
    let began = Instant::now();
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let _ = stream.set_read_timeout(Some(patience));
    let mut read = if stream.write_all(bytes).is_ok() { 1 } else { 0 };
    while read > 0 && began.elapsed() < patience {
        read = stream.read(&mut [0; 16 << 10]).unwrap_or(0);
    }
}

/// Status and body of an answer.
pub fn answer(text: &str) -> (u16, String) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (code, body.to_owned())
}
