//! The server over real sockets. Where a test waits for a timeout, tokio's clock is paused: it leaps to the next timer once
//! every task waits and no socket has anything to say.

mod clients;
mod files;
mod pulse;
mod routes;

use std::net::SocketAddr;
use std::sync::{Mutex, RwLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::site::{HTML, JSON, PLAIN};
use super::*;
use crate::config;

/// Why the source has nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A source that shows what it was asked, and answers when the test lets it.
struct Fake {
    body: Result<Content, Fault>,
    groups: Result<Bytes, Fault>,
    ready: Mutex<Result<(), Fault>>,
    asked: Mutex<Vec<(Duration, Selection)>>,
    /// The daemons that were collected from.
    probed: Mutex<Vec<String>>,
    rendered: Mutex<Vec<Form>>,
    discovered: Mutex<Vec<(Coding, Option<Duration>)>>,
    reloads: Mutex<Vec<Result<(), Fault>>>,
    config: RwLock<Arc<Config>>,
    counted: Mutex<Vec<(&'static str, u16)>>,
    /// One permit per exposition, and per list of targets.
    permits: Semaphore,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            body: Ok(Content::Whole(Bytes::from_static(b"libvirt_up 1\n"))),
            groups: Ok(Bytes::from_static(b"[]")),
            ready: Mutex::new(Ok(())),
            discovered: Mutex::default(),
            asked: Mutex::default(),
            probed: Mutex::default(),
            rendered: Mutex::default(),
            reloads: Mutex::default(),
            config: RwLock::new(Arc::new(config("{}"))),
            counted: Mutex::default(),
            permits: Semaphore::new(100_000),
        }
    }
}

impl Source for Fake {
    type Daemon = String;
    type Collected = ();
    type Error = Fault;

    fn local(&self) -> Daemon<String> {
        Daemon { key: String::new(), config: self.config(), handle: Arc::default() }
    }

    fn probe(&self, request: &ProbeRequest) -> Result<Daemon<String>, ProbeError> {
        let ProbeRequest { target, profile } = request.clone();
        match (target.as_str(), profile) {
            ("full", _) => Err(ProbeError::Full { limit: 7 }),
            ("unknown", _) => Err(ProbeError::UnknownTarget { target }),
            ("x:///", _) => Err(ProbeError::NotAllowed { target }),
            (_, Some(profile)) => Err(ProbeError::UnknownProfile { profile, known: "`default`".to_owned() }),
            (_, None) => {
                let mut config = config("{}");
                config.collection.groups = vec![crate::config::Group::State].try_into().expect("a list");
                Ok(Daemon { key: target.clone(), config: Arc::new(config), handle: Arc::new(target) })
            }
        }
    }

    async fn probe_targets(&self, address: &str, _: Coding) -> Result<Bytes, Fault> {
        self.groups.clone().map(|groups| [groups.as_ref(), address.as_bytes()].concat().into())
    }

    async fn collect(&self, daemon: Arc<String>, within: Duration, selection: Selection) {
        self.probed.lock().expect("not poisoned").push(daemon.to_string());
        if daemon.starts_with("hangs") {
            std::future::pending::<()>().await;
        }
        self.asked.lock().expect("not poisoned").push((within, selection));
        self.permits.acquire().await.expect("never closed").forget();
    }

    async fn render(&self, (): (), form: Form) -> Result<Content, Fault> {
        self.rendered.lock().expect("not poisoned").push(form);
        self.body.clone()
    }

    async fn target_groups(&self, coding: Coding, timeout: Option<Duration>) -> Result<Bytes, Fault> {
        self.discovered.lock().expect("not poisoned").push((coding, timeout));
        self.permits.acquire().await.expect("never closed").forget();
        self.groups.clone()
    }

    fn ready(&self) -> Result<(), Fault> {
        self.ready.lock().expect("not poisoned").clone()
    }

    fn overview(&self) -> Overview {
        Overview { uri: "test:///<default>".to_owned(), ..Overview::default() }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().expect("not poisoned"))
    }

    async fn reload(&self) -> Result<(), Fault> {
        self.reloads.lock().expect("not poisoned").pop().unwrap_or(Ok(()))
    }

    fn count_request(&self, route: &'static str, code: u16) {
        self.counted.lock().expect("not poisoned").push((route, code));
    }
}

/// A configuration with the keys of `web` that `yaml` has.
fn config(yaml: &str) -> Config {
    let mut config = config::parse(&format!("web: {yaml}"), "test").expect("a configuration");
    config.web.telemetry_path = "/libvirt/metrics".parse().expect("a path");
    config.libvirt.uri = "qemu+tls://user:secret@host/system".parse().expect("a URI");
    config
}

/// Likewise, with targets.
fn probing() -> Config {
    let mut config = config("{}");
    config.probe.allow = vec!["x:.*".parse().expect("an expression")];
    config
}

/// Likewise, with the guests as targets at `path`.
fn discovering(web: &str, path: &str) -> Config {
    let mut config = config(web);
    config.service_discovery.enabled = true;
    config.service_discovery.path = path.parse().expect("a path");
    config
}

struct Server {
    address: SocketAddr,
    source: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    fn start(source: Fake) -> Self {
        Self::start_on(source, Security::load(None).expect("nothing to load"))
    }

    fn start_on(source: Fake, security: Security) -> Self {
        let web = config::parse("web: {listen_addresses: ['127.0.0.1:0']}", "test").expect("a configuration").web;
        let listeners = bind(&web).expect("bound");
        let address = listeners[0].address().expect("TCP");
        let source = Arc::new(source);
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&source);
        let task = tokio::spawn(async move {
            serve(listeners, Arc::new(security), served, async move {
                stopped.await.unwrap_or_default();
            })
            .await;
        });
        Self { address, source, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Sends `bytes` on a new connection and reads until the server closes it.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        let (mut reading, mut writing) = stream.split();
        // The server may close before it has read everything, which is its right.
        let (_, answer) = tokio::join!(writing.write_all(bytes), read_all(&mut reading));
        answer
    }

    async fn request(&self, method: &str, path: &str, headers: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
        Answer::parse(&self.exchange(request.as_bytes()).await)
    }

    async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "").await
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("no panic");
    }
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).expect("UTF-8")
}

#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        Self { code, head: head.to_owned(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}
