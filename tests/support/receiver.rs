//! A receiver of OTLP metrics over HTTP and gRPC that remembers what it got, and fails as it is told. It compresses its
//! answers where it may, as gRPC servers in Go do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What is done with a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// It is answered with this HTTP status and headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// It is answered with this gRPC status, and with RetryInfo if there is a delay.
    GrpcStatus(u32, Option<Duration>),
    /// It is taken after a while.
    Slow(Duration),
    /// It is taken but for some points.
    Partial(i64, &'static str),
    /// It is taken, with an answer whose message cannot be read.
    Garbled,
    /// It is taken, with an answer that is not compressed.
    Plain,
    /// It is taken, and not answered.
    Silent,
    /// The connection breaks before there is an answer.
    Reset,
    /// It is answered with a page for people.
    Page,
}

/// A request that was taken, or not.
#[derive(Debug, Clone)]
pub struct Received {
    /// The message.
    pub request: ExportMetricsServiceRequest,
    /// Header fields and path.
    pub headers: HeaderMap,
    /// The path.
    pub path: String,
    /// How large the message was before it was compressed.
    pub bytes: usize,
    /// When it came.
    pub at: Instant,
    /// Whether it was taken.
    pub taken: bool,
}

#[derive(Debug, Default)]
struct State {
    received: Mutex<Vec<Received>>,
    changed: Condvar,
    script: Mutex<VecDeque<Behaviour>>,
}

/// A running receiver; it ends with this.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Receiver {
    /// Listens on a free port, over TLS if there is a configuration for it.
    pub fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), tls)
    }

    /// Likewise, at this address.
    pub fn start_at(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        runtime.spawn(accept(listener, tls.map(TlsAcceptor::from), Arc::clone(&state)));
        Self { address, state, runtime: Some(runtime) }
    }

    /// Where it is reached without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does with the next requests, one after the other; further ones are taken.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state.script.lock().unwrap().extend(behaviours);
    }

    /// What it has got so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// Forgets what it has got so far.
    pub fn forget(&self) {
        self.state.received.lock().unwrap().clear();
    }

    /// Waits until what it has got satisfies `good`, for two minutes at most.
    pub fn wait(&self, what: &str, good: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut received = self.state.received.lock().unwrap();
        while !good(&received) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {} requests", received.len());
            received = self.state.changed.wait_timeout(received, left).unwrap().0;
        }
        received.clone()
    }

    /// Waits for the next request that is taken.
    pub fn next(&self) -> Received {
        self.forget();
        self.wait("a request", |received| received.iter().any(|one| one.taken))
            .into_iter()
            .find(|one| one.taken)
            .unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            match tls {
                // A client that does not trust this receiver hangs up.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        serve(stream, h2, state).await;
                    }
                }
                None => {
                    let h2 = speaks_h2(&stream).await;
                    serve(stream, h2, state).await;
                }
            }
        });
    }
}

/// Whether the client begins with the preface of HTTP/2.
async fn speaks_h2(stream: &TcpStream) -> bool {
    let mut start = [0; 3];
    while stream.peek(&mut start).await.is_ok_and(|read| (1..3).contains(&read)) {}
    &start == b"PRI"
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, h2: bool, state: Arc<State>) {
    let answer = service_fn(move |request| answer(request, h2, Arc::clone(&state)));
    // A client may leave at any time, and some behaviours end the connection.
    if h2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
    } else {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, grpc: bool, state: Arc<State>) -> Result<Answer, io::Error> {
    let (head, body) = request.into_parts();
    let behaviour = state.script.lock().unwrap().pop_front();
    if matches!(behaviour, Some(Behaviour::Reset)) {
        return Err(io::Error::other("reset"));
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let encoding = if grpc { "grpc-encoding" } else { "content-encoding" };
    let message = if grpc { body.slice(5..) } else { body };
    let message = match head.headers.get(encoding).map(HeaderValue::as_bytes) {
        Some(b"gzip") => {
            let mut plain = Vec::new();
            io::Read::read_to_end(&mut GzDecoder::new(&*message), &mut plain)?;
            Bytes::from(plain)
        }
        _ => message,
    };
    let decoded = ExportMetricsServiceRequest::decode(message.clone()).map_err(io::Error::other)?;
    let taken = matches!(
        behaviour,
        None | Some(
            Behaviour::Slow(_) | Behaviour::Partial(..) | Behaviour::Garbled | Behaviour::Plain | Behaviour::Silent
        )
    );
    if let Some(Behaviour::Slow(time)) = behaviour {
        tokio::time::sleep(time).await;
    }
    let accepts = if grpc { "grpc-accept-encoding" } else { "accept-encoding" };
    let accepts = head.headers.get(accepts).is_some_and(|value| value.to_str().unwrap().contains("gzip"));
    let compress = accepts && !matches!(behaviour, Some(Behaviour::Plain));
    let (path, bytes) = (head.uri.path().to_owned(), message.len());
    let received = Received { request: decoded, headers: head.headers, path, bytes, at: Instant::now(), taken };
    state.received.lock().unwrap().push(received);
    state.changed.notify_all();
    if matches!(behaviour, Some(Behaviour::Silent)) {
        std::future::pending::<()>().await;
    }
    let partial = match behaviour {
        Some(Behaviour::Partial(rejected_data_points, words)) => {
            Some(ExportMetricsPartialSuccess { rejected_data_points, error_message: words.to_owned() })
        }
        _ => None,
    };
    let message = match behaviour {
        Some(Behaviour::Garbled) => b"\xff".to_vec(),
        _ => ExportMetricsServiceResponse { partial_success: partial }.encode_to_vec(),
    };
    Ok(match (behaviour, grpc) {
        (Some(Behaviour::Status(code, headers)), _) => response(code, "text/plain", headers, b"no\nway"),
        (Some(Behaviour::Page), _) => response(200, "text/html", &[], b"<h1>Sign in</h1>"),
        (Some(Behaviour::GrpcStatus(code, delay)), _) => grpc_response(&[], false, code, delay),
        (_, true) => grpc_response(&message, compress, 0, None),
        (_, false) if compress => {
            response(200, "application/x-protobuf", &[("content-encoding", "gzip")], &gzip(&message))
        }
        (_, false) => response(200, "application/x-protobuf", &[], &message),
    })
}

fn response(code: u16, content_type: &'static str, headers: &[(&'static str, &'static str)], body: &[u8]) -> Answer {
    let mut builder = Response::builder().status(code).header("content-type", content_type);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(Bytes::copy_from_slice(body)).boxed()).unwrap()
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(message, Compression::fast());
    let mut out = Vec::new();
    io::Read::read_to_end(&mut encoder, &mut out).unwrap();
    out
}

fn grpc_response(message: &[u8], compress: bool, code: u32, delay: Option<Duration>) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    if code != 0 {
        trailers.insert("grpc-message", HeaderValue::from_static("no%20way"));
    }
    if let Some(delay) = delay {
        use base64::Engine;
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status_with_retry(delay));
        trailers.insert(HeaderName::from_static("grpc-status-details-bin"), HeaderValue::try_from(details).unwrap());
    }
    let message = if compress { &gzip(message) } else { message };
    let mut frame = vec![u8::from(compress)];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let mut frames = vec![Ok::<_, Infallible>(Frame::trailers(trailers))];
    if code == 0 {
        // In parts: a frame of HTTP/2 may end anywhere in a message.
        let rest = frame.split_off(3);
        frames.splice(..0, [frame, rest].map(|part| Ok(Frame::data(Bytes::from(part)))));
    }
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut builder = Response::builder().header("content-type", "application/grpc");
    if compress {
        builder = builder.header("grpc-encoding", "gzip");
    }
    builder.body(BodyExt::boxed(body)).unwrap()
}

/// `google.rpc.Status` with a `google.rpc.RetryInfo`, written by hand so that it is not the exporter's own code that it is
/// read with.
fn status_with_retry(delay: Duration) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let mut duration = vec![1 << 3, u8::try_from(delay.as_secs()).unwrap(), 2 << 3];
    let mut nanos = delay.subsec_nanos();
    while nanos > 0x7f {
        duration.push(u8::try_from(nanos & 0x7f).unwrap() | 0x80);
        nanos >>= 7;
    }
    duration.push(u8::try_from(nanos).unwrap());
    let info = field(1, &duration);
    let any = [field(1, b"type.googleapis.com/google.rpc.RetryInfo"), field(2, &info)].concat();
    [vec![1 << 3, 14], field(2, b"busy"), field(3, &any)].concat()
}
