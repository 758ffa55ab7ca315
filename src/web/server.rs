//! Accepts connections, speaks HTTP/1.1 on each, and ends in order.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::listen::Listener;
use super::stream::ClientStream;
use super::{Site, Source};
use crate::config;

/// Connections at a time, over all listeners; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take to send the head of a request, and an idle one may stay.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one request.
const MAX_HEADERS: usize = 100;
/// The head of a request has to fit in here.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long requests in flight may go on after the shutdown signal.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Between two attempts to accept while the machine lacks descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A machine at its limit fails and recovers many times a second; the log hears of it once in this time.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Serves `source` on `listeners` until `shutdown` completes and the requests in flight are answered, or given up after ten
/// seconds. Dropping the future closes every connection at once.
pub async fn serve<S: Source>(
    listeners: Vec<Listener>,
    web: &config::Web,
    source: Arc<S>,
    shutdown: impl Future<Output = ()>,
) {
    let site = Arc::new(Site::new(source, web));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (open, closing) = watch::channel(());
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(accept(listener, Arc::clone(&site), Arc::clone(&slots), Closing(closing.clone())));
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
}

/// Accepts on one listener until the server shuts down, then waits for the connections it has accepted.
async fn accept<S: Source>(listener: Listener, site: Arc<Site<S>>, slots: Arc<Semaphore>, mut closing: Closing) {
    let mut connections = JoinSet::new();
    let mut warned: Option<Instant> = None;
    loop {
        let next = async {
            // The slot comes first, so that a connection over the limit is not accepted only to be kept waiting.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.socket.accept().await)
        };
        let (slot, accepted) = select! {
            next = next => next,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            () = closing.begun() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let conversation = converse(stream, Arc::clone(&site), closing.clone());
                connections.spawn(async move {
                    conversation.await;
                    drop(slot);
                });
            }
            Err(error) if concerns_one_client(&error) => {}
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() > WARNING_INTERVAL) {
                    warned = Some(Instant::now());
                    tracing::warn!(address = %listener.address(), %error, "cannot accept connections, will go on trying");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    };
    if timeout(SHUTDOWN_GRACE, all_ended).await.is_err() {
        tracing::warn!("gave up on requests that did not end within {SHUTDOWN_GRACE:?} of the shutdown signal");
    }
}

/// The client is gone before it was accepted; the next one is waiting.
fn concerns_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// Answers the requests of one connection.
async fn converse<S: Source>(stream: TcpStream, site: Arc<Site<S>>, mut closing: Closing) {
    // An answer goes out in few large writes; nothing is gained by holding back its end.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.respond(&request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            // Without a timer the timeout would silently be off.
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(ClientStream::new(stream)), service)
    );
    let ended = select! {
        ended = connection.as_mut() => ended,
        () = closing.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
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
        const EMFILE: i32 = 24;
        assert!(!concerns_one_client(&io::Error::from_raw_os_error(EMFILE)));
    }
}
