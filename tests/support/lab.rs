//! A libvirt of the test's own with real guests (see `tests/lab`), and the exporter as a program.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Whose libvirtd and QEMU a lab runs.
#[derive(Debug, Clone, Copy)]
pub enum Suite {
    /// This machine's.
    Machine,
    /// Those of another Debian suite, in a chroot.
    Debian(&'static str),
}

/// All statistics groups, KVM's own of each vCPU among them.
pub const ALL_GROUPS: &str = "state,cpu_total,balloon,vcpu,interface,block,perf,iothread,memory,dirtyrate,vm,vcpu_kvm";

/// A running private libvirtd; it ends with its guests when this is dropped, or when the test program is gone.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
    suite: Suite,
    /// For virsh.
    pub uri: String,
    /// The read-only socket, for the exporter.
    pub uri_ro: String,
}

impl Lab {
    /// Starts a libvirtd and waits until it answers.
    ///
    /// # Errors
    ///
    /// The scripts' own sentence, which names the Debian package where something is missing.
    pub fn start(suite: Suite) -> Result<Self, String> {
        Self::start_with(suite, None)
    }

    /// Likewise, with the lines of a file in libvirtd.conf, and a daemon that listens on TCP and TLS as they say.
    ///
    /// # Errors
    ///
    /// As `start`.
    pub fn start_with(suite: Suite, settings: Option<&Path>) -> Result<Self, String> {
        let folder =
            tempfile::Builder::new().prefix("lab").tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
        let mut command = match suite {
            Suite::Machine => script("libvirtd.sh"),
            Suite::Debian(_) => script("suite.sh"),
        };
        command.arg("start");
        if let Suite::Debian(name) = suite {
            command.arg(name);
        }
        command.arg(folder.path()).env("LAB_OWNER", std::process::id().to_string());
        command.envs(settings.map(|file| ("LAB_CONF", file)));
        // From here on the lab is dropped, and with it stopped, also where the start failed half way.
        let mut lab = Self { folder, suite, uri: String::new(), uri_ro: String::new() };
        lab.uri = output(&mut command)?.trim().to_owned();
        lab.uri_ro = std::fs::read_to_string(lab.folder.path().join("uri-ro"))
            .map_err(|e| format!("the lab has no read-only URI: {e}"))?
            .trim()
            .to_owned();
        Ok(lab)
    }

    /// Defines and starts guests of `tests/lab/guests.sh`, and returns the names they got.
    ///
    /// # Errors
    ///
    /// What the script, virsh or QEMU said.
    pub fn guests(&self, guests: &[&str]) -> Result<Vec<String>, String> {
        let mut command = script("guests.sh");
        command.arg(self.folder.path()).args(guests);
        Ok(output(&mut command)?.lines().map(str::to_owned).collect())
    }

    /// Runs virsh on the lab's daemon.
    ///
    /// # Errors
    ///
    /// What virsh said.
    pub fn virsh(&self, arguments: &[&str]) -> Result<String, String> {
        need("virsh", "libvirt-clients")?;
        let mut command = Command::new("virsh");
        command.env("LC_ALL", "C.UTF-8");
        output(command.args(["--quiet", "--connect", &self.uri]).args(arguments))
    }

    /// Waits until the guest's software reads its first disk, which is some seconds after its start: firmware comes first.
    ///
    /// # Errors
    ///
    /// When it does not within five minutes: on a machine with fifteen times the load that it can carry, firmware takes 75 seconds.
    pub fn wait_for_disk_reads(&self, guest: &str) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(300);
        while Instant::now() < deadline {
            // The firmware itself reads one sector; the boot sector writes, too.
            let stats = self.virsh(&["domstats", "--raw", "--block", guest])?;
            let writes = stats.lines().find_map(|line| line.trim().strip_prefix("block.0.wr.reqs="));
            if writes.is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n >= 4)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        Err(format!("the guest {guest} never wrote to its disk"))
    }

    /// Kills the libvirtd of the lab; its guests go on.
    #[allow(dead_code, reason = "for those tests that do this")]
    pub fn kill_daemon(&self) {
        let pid = std::fs::read_to_string(self.folder().join("libvirtd.pid")).expect("a file with the daemon's pid");
        signal(pid.trim().parse().expect("a pid"), "-KILL");
    }

    /// Starts a libvirtd in the place of one that was killed: in the mount namespace that the guest's QEMU keeps, where it finds
    /// the guests. Needs root.
    #[allow(dead_code, reason = "for those tests that do this")]
    pub fn start_daemon_beside(&self, guest: &str) -> Running {
        let log = std::fs::File::create(self.folder().join("restart.log")).expect("a log");
        let qemu = qemu(guest);
        let daemon = Command::new("setsid")
            .arg("nsenter")
            .arg(format!("--mount=/proc/{qemu}/ns/mnt"))
            .args(["libvirtd", "--config"])
            .arg(self.folder().join("libvirtd.conf"))
            .arg("--pid-file")
            .arg(self.folder().join("libvirtd.pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn();
        Running(daemon.expect("nsenter of util-linux"))
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut command = match self.suite {
            Suite::Machine => script("libvirtd.sh"),
            Suite::Debian(_) => script("suite.sh"),
        };
        if let Err(message) = output(command.arg("stop").arg(self.folder.path())) {
            eprintln!("{message}");
        }
    }
}

/// The process of a guest's QEMU.
#[allow(dead_code, reason = "for those tests that do this")]
pub fn qemu(guest: &str) -> u32 {
    let wanted = format!("guest={guest},");
    let is_it = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&wanted))
    };
    let processes = std::fs::read_dir("/proc").expect("the list of processes");
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let found: Vec<u32> = pids.filter(is_it).collect();
    // Labs run side by side: a name that two of them use would hit the guest of the other.
    let [pid] = found[..] else { panic!("{} QEMUs of {guest}: {found:?}", found.len()) };
    pid
}

/// Sends a signal, such as `-STOP`.
#[allow(dead_code, reason = "for those tests that do this")]
pub fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill {signal} {pid}");
}

/// A program that is killed when this is dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long a collection of [`Exporter`] may take: one that takes half of it has waited for something, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// `domstats-exporter serve` on a port of its own.
#[derive(Debug)]
pub struct Exporter {
    process: Running,
    /// Of its configuration.
    _folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Exporter {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it ends, or does not answer within a minute.
    pub fn serve(uri: &str, arguments: &[&str]) -> Result<Self, String> {
        Self::configured(uri, &format!("collection: {{deadline: {}s}}\n", DEADLINE.as_secs()), arguments)
    }

    /// Likewise, with a configuration.
    ///
    /// # Errors
    ///
    /// As `serve`.
    pub fn configured(uri: &str, config: &str, arguments: &[&str]) -> Result<Self, String> {
        let address = free_address()?;
        let folder = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config).map_err(|e| format!("no configuration: {e}"))?;
        let process = tied(env!("CARGO_BIN_EXE_domstats-exporter"))
            .args(["serve", "--libvirt.uri", uri, "--web.listen-address"])
            .arg(address.to_string())
            .arg("--config.file")
            .arg(file)
            .args(arguments)
            .spawn()
            .map_err(|e| format!("the exporter does not start: {e}"))?;
        let mut exporter = Self { process: Running(process), _folder: folder, address };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok(Some(status)) = exporter.process.0.try_wait() {
                return Err(format!("the exporter ended by itself: {status}"));
            }
            match get(address, "/metrics", "text/plain") {
                Ok(body) if body.contains("\nlibvirt_up 1") => return Ok(exporter),
                answer if Instant::now() > deadline => {
                    return Err(format!("the exporter has no libvirt: {answer:?}"));
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// The body of `/metrics` for an Accept header.
    ///
    /// # Errors
    ///
    /// When it does not answer 200.
    pub fn metrics(&self, accept: &str) -> Result<String, String> {
        get(self.address, "/metrics", accept)
    }

    /// The same as text, for a scraper that gives up after so many seconds.
    ///
    /// # Errors
    ///
    /// As `metrics`.
    #[allow(dead_code, reason = "for those tests that do this")]
    pub fn metrics_within(&self, seconds: u32) -> Result<String, String> {
        get(self.address, "/metrics", &format!("text/plain\r\nX-Prometheus-Scrape-Timeout-Seconds: {seconds}"))
    }
}

/// The standard output of one run of the exporter.
///
/// # Errors
///
/// What it said on standard error, unless it ended well.
pub fn run_exporter(arguments: &[&str]) -> Result<String, String> {
    output(exporter().args(arguments))
}

/// The body of a GET request, which must be answered with status 200.
///
/// # Errors
///
/// The connection's error, or the whole answer.
pub fn get(address: SocketAddr, path: &str, accept: &str) -> Result<String, String> {
    let mut answer = String::new();
    // HTTP/1.0, so that the answer comes in one piece and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    let mut exchange = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut answer)
    };
    exchange().map_err(|e| format!("GET {path}: {e}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(format!("GET {path}: {answer}")),
    }
}

/// An address on the loopback interface without a listener.
///
/// # Errors
///
/// When there is none.
pub fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|e| format!("no free port: {e}"))
}

/// Makes sure that a program is installed.
///
/// # Errors
///
/// One sentence naming the Debian package.
pub fn need(program: &str, package: &str) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    found
        .then_some(())
        .ok_or_else(|| format!("{program} is missing; install the Debian package {package} (make install does)"))
}

/// Runs a program to its end, with `input` on its standard input, and returns its output and error text together.
///
/// # Errors
///
/// The same text, when it failed.
pub fn filter(command: &mut Command, input: &str) -> Result<String, String> {
    let name = format!("{:?}", command.get_program());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{name}: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why on its own.
        let _ = stdin.write_all(input.as_bytes());
    }
    let done = child.wait_with_output().map_err(|e| format!("{name}: {e}"))?;
    let mut text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&done.stderr));
    if done.status.success() { Ok(text) } else { Err(format!("{name}: {}: {text}", done.status)) }
}

/// A package of another Debian suite, unpacked.
///
/// # Errors
///
/// What the script said.
#[allow(dead_code, reason = "few test programs need anything of another suite")]
pub fn fetch(suite: &str, package: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(output(script("fetch.sh").args([suite, package]))?.trim()))
}

/// A program that is killed when the thread that starts it ends, even if the whole test program is killed.
pub fn tied(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

fn exporter() -> Command {
    Command::new(env!("CARGO_BIN_EXE_domstats-exporter"))
}

fn script(name: &str) -> Command {
    Command::new(script_path(name))
}

/// Where a script of the lab is.
pub fn script_path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "lab", name].iter().collect()
}

fn output(command: &mut Command) -> Result<String, String> {
    let done = command.stdin(Stdio::null()).output().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let mut message = format!("{:?}", command.get_program());
    for argument in command.get_args() {
        let _ = write!(message, " {argument:?}");
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{message}: {}: {}", done.status, said.trim()))
}
