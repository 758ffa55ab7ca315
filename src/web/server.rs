//! Accepts connections, speaks HTTP/1.1 on each, over TLS or not, and ends in order.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::select;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Source;
use super::body::Outgoing;
use super::connection::Connection;
use super::connections::{Admitted, Connections};
use super::descriptors::connection_limit;
use super::limits::{HEADER_TIMEOUT, MAX_HEAD_BYTES, MAX_HEADERS, REQUEST_PACE};
use super::listen::{Listener, ListeningSocket};
use super::peer::Peer;
use super::rate_limit::RateLimiter;
use super::security::Security;
use super::site::{Client, Site};
use super::stream::ClientStream;

/// How long requests in flight may go on after the shutdown signal.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// How long a client may take after the shutdown signal over a request that is expected: its first, or one that has begun to arrive. A
/// TLS handshake gets the same time before that. With a socket of systemd's the next server would have answered it.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);
/// How long clients that have connected may be accepted after the shutdown signal: the kernel would reset their connections. A busy
/// machine may stop this process meanwhile.
const ACCEPT_GRACE: Duration = Duration::from_secs(1);
/// If none can be accepted for this long, none is waiting.
const NO_MORE_CLIENTS: Duration = Duration::from_millis(5);
/// Between two attempts to accept while the machine lacks descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Likewise, after a connection was told to close.
const EVICTION_PAUSE: Duration = Duration::from_millis(1);
/// A machine at its limit fails and recovers many times a second; the log hears of it once in this time.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Serves `source` on `listeners` to those whom `security` lets in, until `shutdown` completes and the requests in flight are
/// answered, or given up after ten seconds. Dropping the future closes every connection at once.
pub async fn serve<S: Source>(
    listeners: Vec<Listener>,
    security: Arc<Security>,
    source: Arc<S>,
    shutdown: impl Future<Output = ()>,
) {
    let site = Arc::new(Site::new(source, security));
    let connections = Arc::new(Connections::new(connection_limit()));
    let (open, closing) = watch::channel(());
    let mut doors = JoinSet::new();
    for listener in listeners {
        let door =
            Door { site: Arc::clone(&site), connections: Arc::clone(&connections), closing: Closing(closing.clone()) };
        doors.spawn(door.accept(listener));
    }
    shutdown.await;
    drop(open);
    while let Some(ended) = doors.join_next().await {
        report_panic(ended);
    }
}

/// Completes when the server begins to shut down, which it says by dropping the sender.
#[derive(Clone)]
struct Closing(watch::Receiver<()>);

impl Closing {
    async fn begun(&mut self) {
        while self.0.changed().await.is_ok() {}
    }

    fn has_begun(&self) -> bool {
        self.0.has_changed().is_err()
    }
}

/// Where the connections of one listener come in.
struct Door<S> {
    site: Arc<Site<S>>,
    connections: Arc<Connections>,
    closing: Closing,
}

impl<S: Source> Door<S> {
    /// Accepts until the server shuts down, then waits for the connections that were accepted.
    async fn accept(mut self, mut listener: Listener) {
        let mut open = JoinSet::new();
        let mut accept_warning = Warning::default();
        let mut full_warning = Warning::default();
        'accepting: loop {
            let accepted = select! {
                accepted = Incoming::accept(&listener.socket) => accepted,
                Some(ended) = open.join_next() => {
                    report_panic(ended);
                    continue;
                }
                () = listener.heart.beat() => continue,
                () = self.closing.begun() => break,
            };
            match accepted {
                Ok((incoming, peer)) => {
                    let connection = Arc::new(Connection::new());
                    let arrived = Arc::clone(&connection);
                    let mut admitted = pin!(self.connections.admit(&arrived));
                    let (place, full) = loop {
                        select! {
                            // A client that has its place gets it even while the server closes.
                            biased;
                            admitted = admitted.as_mut() => break admitted,
                            // A server that is full is alive.
                            () = listener.heart.beat() => {}
                            () = self.closing.begun() => match timeout(ACCEPT_GRACE, admitted.as_mut()).await {
                                Ok(admitted) => break admitted,
                                Err(_) => break 'accepting,
                            },
                        }
                    };
                    if full && full_warning.is_due() {
                        let limit = self.connections.limit();
                        tracing::warn!(limit, "too many connections, closing those that are silent");
                    }
                    self.welcome(incoming, peer, connection, place, &mut open);
                }
                Err(error) if concerns_one_client(&error) => {}
                Err(error) => {
                    if accept_warning.is_due() {
                        let address = listener.name();
                        tracing::warn!(address, %error, "cannot accept connections, retrying");
                    }
                    if is_lack_of_descriptors(&error) { self.make_room().await } else { sleep(ACCEPT_PAUSE).await }
                }
            }
        }
        self.accept_waiting(&listener.socket, &mut open).await;
        drop(listener);
        let all_ended = async {
            while let Some(ended) = open.join_next().await {
                report_panic(ended);
            }
        };
        if timeout(SHUTDOWN_GRACE, all_ended).await.is_err() {
            tracing::warn!("aborting requests still running {SHUTDOWN_GRACE:?} after the shutdown signal");
        }
    }

    /// Accepts those who connected before the shutdown signal.
    async fn accept_waiting(&self, socket: &ListeningSocket, open: &mut JoinSet<()>) {
        let end = Instant::now() + ACCEPT_GRACE;
        while Instant::now() < end {
            let (incoming, peer) = match timeout(NO_MORE_CLIENTS, Incoming::accept(socket)).await {
                Ok(Ok(accepted)) => accepted,
                Ok(Err(error)) if concerns_one_client(&error) => continue,
                Ok(Err(error)) if is_lack_of_descriptors(&error) => {
                    self.make_room().await;
                    continue;
                }
                Ok(Err(_)) | Err(_) => return,
            };
            let connection = Arc::new(Connection::new());
            let Ok((place, _)) = timeout_at(end, self.connections.admit(&connection)).await else { return };
            self.welcome(incoming, peer, connection, place, open);
        }
    }

    /// Has a connection go for its descriptor, which takes a moment; if none can go, others may end by themselves.
    async fn make_room(&self) {
        sleep(if self.connections.evict_one() { EVICTION_PAUSE } else { ACCEPT_PAUSE }).await;
    }

    /// Talks with a client that has its place.
    fn welcome(
        &self,
        incoming: Incoming,
        peer: Peer,
        connection: Arc<Connection>,
        place: Admitted,
        open: &mut JoinSet<()>,
    ) {
        let conversation = incoming.converse(Arc::clone(&self.site), peer, connection, self.closing.clone());
        open.spawn(async move {
            conversation.await;
            drop(place);
        });
    }
}

/// When the log last heard of something.
#[derive(Default)]
struct Warning(Option<Instant>);

impl Warning {
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|at| at.elapsed() > WARNING_INTERVAL);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// The client is gone before it was accepted; the next one is waiting.
fn concerns_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// Of this process (EMFILE) or of the machine (ENFILE).
fn is_lack_of_descriptors(error: &io::Error) -> bool {
    const CODES: [i32; 2] = [24, 23];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

/// A connection that has just been accepted.
enum Incoming {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Incoming {
    async fn accept(socket: &ListeningSocket) -> io::Result<(Self, Peer)> {
        match socket {
            ListeningSocket::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // An answer goes out in few large writes; nothing is gained by holding back its end.
                let _ = stream.set_nodelay(true);
                Ok((Self::Tcp(stream), address.ip().into()))
            }
            ListeningSocket::Unix { socket, .. } => Ok((Self::Unix(socket.accept().await?.0), Peer::default())),
        }
    }

    /// Answers the connection's requests until either side has enough.
    async fn converse<S: Source>(self, site: Arc<Site<S>>, peer: Peer, connection: Arc<Connection>, closing: Closing) {
        let conversation = async {
            match self {
                Self::Tcp(stream) => greet(stream, site, peer, &connection, closing).await,
                Self::Unix(stream) => greet(stream, site, peer, &connection, closing).await,
            }
        };
        select! {
            () = conversation => {}
            () = connection.evicted() => tracing::debug!("a connection made room for another"),
        }
    }
}

/// What a connection comes over.
trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// The first byte that the client sends, which stays to be read; `None` if it cannot be known.
    async fn first_byte(&self) -> io::Result<Option<u8>>;
}

impl Transport for TcpStream {
    async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.peek(&mut byte).await? > 0).then_some(byte[0]))
    }
}

impl Transport for UnixStream {
    async fn first_byte(&self) -> io::Result<Option<u8>> {
        Ok(None)
    }
}

/// A method begins with a letter, a TLS record never does. What has been sent is read first: bytes that are left unread make
/// the kernel throw away the answer.
async fn refuse_plain_http(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
        this port speaks HTTPS, and the request came over plain HTTP\n";
    let mut request = [0; 4096];
    let _read = stream.read(&mut request).await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

/// Does the TLS handshake, if there is one to do, before it talks.
async fn greet<T, S>(stream: T, site: Arc<Site<S>>, peer: Peer, connection: &Arc<Connection>, mut closing: Closing)
where
    T: Transport,
    S: Source,
{
    let policy = site.security.current().await;
    let Some(tls) = &policy.tls else {
        return talk(stream, site, peer, connection, closing).await;
    };
    connection.looked();
    let secure = async {
        if stream.first_byte().await?.is_some_and(|byte| byte.is_ascii_uppercase()) {
            refuse_plain_http(stream).await?;
            return Err(io::Error::other("the client speaks plain HTTP"));
        }
        TlsAcceptor::from(Arc::clone(tls)).accept(stream).await
    };
    let mut secure = pin!(timeout(HEADER_TIMEOUT, secure));
    let handshake = select! {
        handshake = secure.as_mut() => handshake,
        () = closing.begun() => match timeout(FIRST_REQUEST_GRACE, secure).await {
            Ok(handshake) => handshake,
            Err(_) => return,
        },
    };
    match handshake {
        Ok(Ok(stream)) => talk(stream, site, peer, connection, closing).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Answers the requests of one connection.
async fn talk<T, S>(stream: T, site: Arc<Site<S>>, peer: Peer, connection: &Arc<Connection>, mut closing: Closing)
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Source,
{
    let pace = Arc::new(RateLimiter::new(REQUEST_PACE));
    let ends = closing.clone();
    let client = Client { peer, connection: Arc::clone(connection) };
    let service = service_fn(|request| {
        let (site, client, pace, ends) = (Arc::clone(&site), client.clone(), Arc::clone(&pace), ends.clone());
        async move {
            while !pace.allow() {
                client.connection.slowed_down();
                sleep(REQUEST_PACE.interval).await;
            }
            client.connection.begin_request();
            // One request a turn: who sends many at once must not go before all others.
            tokio::task::yield_now().await;
            let mut answer = site.respond(&request, &client).await;
            if ends.has_begun() {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            client.connection.end_request(!answer.status().is_client_error());
            Ok::<_, Infallible>(answer.map(|body| Outgoing::new(body, client.connection)))
        }
    });
    let stream = ClientStream::new(stream, Arc::clone(connection));
    let mut conversation = pin!(
        http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = select! {
        ended = conversation.as_mut() => ended,
        () = closing.begun() => {
            // What has arrived is read first: it may be the beginning of a request.
            let mut ended = timeout(Duration::ZERO, conversation.as_mut()).await.ok();
            if ended.is_none() && connection.expects_request() {
                ended = timeout(FIRST_REQUEST_GRACE, conversation.as_mut()).await.ok();
            }
            match ended {
                Some(ended) => ended,
                // After `graceful_shutdown` hyper would read on where a head has begun.
                None if connection.expects_request() => return,
                None => {
                    conversation.as_mut().graceful_shutdown();
                    conversation.await
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A panic ends one connection; the log says which bug it was, the server goes on.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended in a panic, which is a bug");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clients_own_errors_are_passed_over() {
        assert!(concerns_one_client(&ErrorKind::ConnectionAborted.into()));
        let emfile = io::Error::from_raw_os_error(24);
        assert!(!concerns_one_client(&emfile) && is_lack_of_descriptors(&emfile));
    }
}
