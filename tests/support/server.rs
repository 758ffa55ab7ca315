//! The exporter as a program on libvirt's built-in test driver, a client for it, and certificates for both.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// `domstats-exporter serve`, with a folder for its files; it is killed with this.
#[derive(Debug)]
pub struct Server {
    /// The process.
    pub process: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its files: `config.yaml`, `web.yaml`, `log`.
    pub folder: TempDir,
}

impl Server {
    /// Starts it with a configuration and, if it is not empty, a web configuration, and waits until it listens.
    pub fn start(folder: TempDir, config: &str, web: &str) -> Self {
        Self::start_on(folder, Some("test:///default"), config, web)
    }

    /// Likewise, on the libvirt at `uri`, or the one that the configuration names.
    pub fn start_on(folder: TempDir, uri: Option<&str>, config: &str, web: &str) -> Self {
        let web_file = folder.path().join("web.yaml");
        Self::start_with(folder, config, |command| {
            if let Some(uri) = uri {
                command.args(["--libvirt.uri", uri]);
            }
            if !web.is_empty() {
                fs::write(&web_file, web).unwrap();
                command.arg("--web.config.file").arg(&web_file);
            }
        })
    }

    /// Likewise, with a command that `prepare` completes.
    pub fn start_with(folder: TempDir, config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let address = free_address();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("config.yaml"), config).unwrap();
        let mut command = program();
        command.arg("--config.file").arg(path("config.yaml"));
        command.arg("--web.listen-address").arg(address.to_string());
        prepare(&mut command);
        let log = fs::File::create(path("log")).unwrap();
        let process = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let mut server = Self { process, address, folder };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).is_err() {
            assert!(server.process.try_wait().unwrap().is_none(), "it ended: {}", server.log());
            assert!(Instant::now() < deadline, "it does not listen: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until it has logged `text`.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "{text} is not in the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Replaces one of its files as a whole.
    pub fn replace(&self, name: &str, text: &str) {
        replace(&self.folder.path().join(name), text);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends it SIGTERM, and gives its exit code and what it has logged; it has a minute.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal("-TERM");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status.code(), self.log());
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A request on a connection of its own.
    pub fn request(
        &self,
        tls: Option<&Arc<ClientConfig>>,
        method: &str,
        path: &str,
        headers: &str,
    ) -> io::Result<Answer> {
        Client::connect(self.address, tls)?.request(method, path, headers)
    }

    /// The body of a GET over plain HTTP, which must be good.
    pub fn get(&self, path: &str) -> String {
        let answer = self.request(None, "GET", path, "").unwrap();
        assert_eq!(answer.code, 200, "{path}: {}", answer.body);
        answer.body
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The exporter's binary, or another build of it that `EXPORTER` names.
pub fn program() -> Command {
    Command::new(std::env::var_os("EXPORTER").unwrap_or_else(|| env!("CARGO_BIN_EXE_domstats-exporter").into()))
}

/// Writes a file beside `path` and renames it there.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// An address on the loopback interface without a listener.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// The `Authorization` header of a user.
pub fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {credentials}\r\n")
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub code: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection that is kept from one request to the next.
pub struct Client(Box<dyn Stream>);

impl Client {
    /// Connects; over TLS the handshake comes with the first request.
    pub fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(match tls {
            None => Self(Box::new(stream)),
            Some(config) => {
                let name = ServerName::try_from("localhost").unwrap();
                let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Self(Box::new(StreamOwned::new(connection, stream)))
            }
        })
    }

    /// Connects from an address of its own, over plain HTTP.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&address.into())?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self(Box::new(TcpStream::from(socket))))
    }

    /// One request and its answer.
    pub fn request(&mut self, method: &str, path: &str, headers: &str) -> io::Result<Answer> {
        self.0.write_all(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes())?;
        let head = self.until("\r\n\r\n")?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = Vec::new();
        if head.contains("transfer-encoding: chunked") && method != "HEAD" {
            while let size @ 1.. = usize::from_str_radix(self.until("\r\n")?.trim(), 16).map_err(io::Error::other)? {
                self.append(&mut body, size)?;
                self.until("\r\n")?;
            }
            self.until("\r\n")?;
        } else if method != "HEAD" {
            self.append(&mut body, length)?;
        }
        Ok(Answer { code, head, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn append(&mut self, body: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
        let had = body.len();
        body.resize(had + bytes, 0);
        self.0.read_exact(&mut body[had..])
    }

    /// The text up to this end.
    fn until(&mut self, end: &str) -> io::Result<String> {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            text.push(byte[0]);
        }
        String::from_utf8(text).map_err(io::Error::other)
    }
}

/// An authority and what it signs, as PEM files in a folder.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub certificate: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        Self::named("test authority")
    }

    /// Likewise, with a name of its own: of two with one name, a client tries one only.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Certificate and key for these names.
    pub fn sign(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Writes `server.crt`, `server.key`, `ca.crt`, `client.crt` and `client.key`.
    pub fn write_all(&self, folder: &Path) {
        let (certificate, key) = self.sign(&["localhost", "127.0.0.1"]);
        let (client, client_key) = self.sign(&["prometheus.example"]);
        for (name, text) in [
            ("ca.crt", &self.certificate),
            ("server.crt", &certificate),
            ("server.key", &key),
            ("client.crt", &client),
            ("client.key", &client_key),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    /// A client that trusts this authority, with or without a certificate and key.
    pub fn client(&self, identity: Option<&(String, String)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        })
    }
}

/// A temporary folder.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("web").tempdir().unwrap()
}

/// A file of a folder.
pub fn file(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

/// Ends the load of a test, also when that fails.
pub struct Ending<'a>(pub &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
