//! A TCP proxy in front of a fake daemon, which can be slow, and can freeze: it goes on to accept connections and forwards nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// It ends with the test program.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    frozen: AtomicBool,
    /// How often it froze: what it had accepted by then stays frozen for ever.
    era: AtomicUsize,
    /// Connections that were accepted while it was frozen.
    held: AtomicUsize,
    /// How many milliseconds each way takes.
    delay: AtomicU64,
}

impl Proxy {
    /// Forwards to a unix socket from its own port.
    pub(crate) fn start(to: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let (to, shared) = (to.to_owned(), Arc::clone(&state));
        thread::spawn(move || listener.incoming().flatten().for_each(|client| accept(client, &to, &shared)));
        Self { address, state }
    }

    /// From now on nothing is forwarded, and nothing ever over the connections that there are.
    pub(crate) fn freeze(&self) {
        self.state.era.fetch_add(1, Ordering::SeqCst);
        self.state.frozen.store(true, Ordering::SeqCst);
    }

    /// From now on each way takes so long.
    pub(crate) fn delay(&self, time: Duration) {
        self.state.delay.store(time.as_millis().try_into().unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// New connections are forwarded again.
    pub(crate) fn thaw(&self) {
        self.state.frozen.store(false, Ordering::SeqCst);
    }

    /// How many connections came while it was frozen.
    pub(crate) fn held(&self) -> usize {
        self.state.held.load(Ordering::SeqCst)
    }
}

fn accept(client: TcpStream, to: &PathBuf, state: &Arc<State>) {
    if state.frozen.load(Ordering::SeqCst) {
        state.held.fetch_add(1, Ordering::SeqCst);
        // It is neither answered nor closed.
        std::mem::forget(client);
        return;
    }
    let daemon = UnixStream::connect(to).expect("the daemon's socket");
    let (from_client, from_daemon) = (client.try_clone().expect("a socket"), daemon.try_clone().expect("a socket"));
    let era = state.era.load(Ordering::SeqCst);
    let (up, down) = (Arc::clone(state), Arc::clone(state));
    thread::spawn(move || {
        let mut daemon = daemon;
        forward(from_client, &mut daemon, &up, era);
        // The other end may have gone first.
        let _gone = daemon.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut client = client;
        forward(from_daemon, &mut client, &down, era);
        let _gone = client.shutdown(Shutdown::Both);
    });
}

/// Copies until one end closes; for ever, without a byte, once the proxy has frozen.
fn forward(mut from: impl Read, to: &mut impl Write, state: &State, era: usize) {
    let mut buffer = [0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        while state.era.load(Ordering::SeqCst) != era {
            thread::park();
        }
        thread::sleep(Duration::from_millis(state.delay.load(Ordering::SeqCst)));
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
    while state.era.load(Ordering::SeqCst) != era {
        thread::park();
    }
}
