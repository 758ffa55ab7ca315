//! The daemon: its socket, the thread that accepts, its life and death.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown, shutdown};

use crate::connection::Connection;
use crate::control;
use crate::counters::Counters;
use crate::events::Events;
use crate::fault::Faults;
use crate::lifecycle::Domains;
use crate::scenario::Scenario;
use crate::shared::Shared;

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket could not be made.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A command of the scenario was refused.
    #[error("the scenario's command {command:?}")]
    Command {
        /// The command.
        command: String,
        /// What is wrong with it.
        #[source]
        source: control::CommandError,
    },
}

/// A running daemon. Dropping it ends it: its threads, its connections and its socket.
#[derive(Debug)]
pub struct FakeLibvirtd {
    shared: Arc<Shared>,
    path: PathBuf,
    /// The folder that the daemon made for its socket.
    folder: Option<PathBuf>,
    listening: Mutex<Option<Listening>>,
}

#[derive(Debug)]
struct Listening {
    listener: Arc<UnixListener>,
    thread: JoinHandle<()>,
}

impl FakeLibvirtd {
    /// Starts a daemon on a socket in its own temporary folder.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made or a command of the scenario is refused.
    pub fn start(scenario: Scenario) -> Result<Self, StartError> {
        let folder = temporary_folder().map_err(|source| StartError::Listen { path: std::env::temp_dir(), source })?;
        let path = folder.join("libvirt-sock");
        let mut daemon = Self::start_at(scenario, path);
        match &mut daemon {
            Ok(daemon) => daemon.folder = Some(folder),
            // The folder is empty and not used.
            Err(_) => drop(std::fs::remove_dir(folder)),
        }
        daemon
    }

    /// Starts a daemon on this socket. A socket without a listener is replaced.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made or a command of the scenario is refused.
    pub fn start_at(mut scenario: Scenario, path: impl Into<PathBuf>) -> Result<Self, StartError> {
        let commands = std::mem::take(&mut scenario.commands);
        let daemon = Self {
            shared: Arc::new(Shared::new(scenario)),
            path: path.into(),
            folder: None,
            listening: Mutex::new(None),
        };
        for command in commands {
            control::run(&daemon, &command).map_err(|source| StartError::Command { command, source })?;
        }
        let refused = |source| StartError::Listen { path: daemon.path.clone(), source };
        daemon.revive().map_err(refused)?;
        Ok(daemon)
    }

    /// The path of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.path
    }

    /// The URI to give a client: `qemu+unix:///system?socket=PATH`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.path.display())
    }

    /// Switches faults on and off.
    #[must_use]
    pub fn faults(&self) -> Faults<'_> {
        Faults::new(&self.shared)
    }

    /// Sends events.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events::new(&self.shared)
    }

    /// The domains, to look at and to change.
    #[must_use]
    pub fn domains(&self) -> Domains<'_> {
        Domains::new(&self.shared)
    }

    /// What clients asked.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Lets a hung domain go on; short for [`Faults::release_domain`].
    pub fn release(&self, name: &str) {
        self.faults().release_domain(name);
    }

    /// Sets the scenario's clock forward: all counters of template domains grow.
    pub fn advance(&self, by: Duration) {
        self.shared.advance(by);
    }

    /// Waits until a call is in the monitor of a domain, that is, blocked by its hang or delay.
    pub fn wait_until_hung(&self, name: &str, timeout: Duration) -> bool {
        let Some(domain) = self.domains().get(name) else {
            return false;
        };
        self.counters().wait_until(timeout, |_| self.shared.job_since(domain.uuid).is_some())
    }

    /// Closes every connection; new ones are accepted.
    pub fn disconnect_all(&self) {
        for connection in self.shared.connections.lock().values() {
            connection.close();
        }
    }

    /// Ends the daemon as SIGKILL would: all connections, all calls under way, and the socket. Domains, faults and
    /// counters stay, for [`FakeLibvirtd::revive`].
    pub fn kill(&self) {
        if let Some(listening) = self.listening.lock().take() {
            self.shared.change(|state| state.generation += 1);
            // Both fail only where there is nothing left to end.
            let _ = shutdown(&*listening.listener, Shutdown::Both);
            let _ = listening.thread.join();
            let _ = std::fs::remove_file(&self.path);
        }
        self.disconnect_all();
        loop {
            let threads = std::mem::take(&mut *self.shared.threads.lock());
            if threads.is_empty() {
                break;
            }
            for thread in threads {
                // A thread that panicked has told so on stderr.
                let _ = thread.join();
            }
        }
    }

    /// Starts a killed daemon again, on the same socket, with the same domains.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made.
    pub fn revive(&self) -> io::Result<()> {
        let mut listening = self.listening.lock();
        if listening.is_some() {
            return Ok(());
        }
        // The program that listens on the socket would lose it unnoticed.
        if UnixStream::connect(&self.path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let _ = std::fs::remove_file(&self.path);
        let listener = Arc::new(UnixListener::bind(&self.path)?);
        listener.set_nonblocking(true)?;
        let generation = self.shared.state().generation;
        let (shared, accepting) = (Arc::clone(&self.shared), Arc::clone(&listener));
        let thread = std::thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || accept(&shared, &accepting, generation))?;
        *listening = Some(Listening { listener, thread });
        Ok(())
    }
}

impl Drop for FakeLibvirtd {
    fn drop(&mut self) {
        self.kill();
        if let Some(folder) = &self.folder {
            // What cannot be removed is left to the cleaning of the temporary folder.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Accepts connections, as long as faults and limits allow it, until the daemon is killed.
fn accept(shared: &Arc<Shared>, listener: &UnixListener, generation: u64) {
    let most = shared.limits.max_clients;
    let closed =
        |state: &crate::shared::State| state.faults.not_accepting || state.faults.frozen || state.open_clients >= most;
    loop {
        if !shared.wait_while(generation, closed) {
            return;
        }
        let mut polled = [PollFd::new(listener, PollFlags::IN)];
        // Interrupted by a signal, perhaps; the loop looks again.
        let _ = poll(&mut polled, None);
        let state = shared.state();
        if state.generation != generation {
            return;
        }
        if closed(&state) {
            continue;
        }
        drop(state);
        if let Ok((stream, _)) = listener.accept() {
            serve(shared, stream, generation);
        }
    }
}

/// Starts the threads of a connection.
fn serve(shared: &Arc<Shared>, stream: UnixStream, generation: u64) {
    // Not inherited on Linux, but a blocking stream is what the threads rely on.
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    let mut connections = shared.connections.lock();
    let number = shared.counters.next_connection();
    let connection = Arc::new(Connection::new(number, generation, stream));
    connections.insert(number, Arc::clone(&connection));
    drop(connections);
    shared.change(|state| state.open_clients += 1);

    let writer = {
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        std::thread::Builder::new().name(format!("write-{number}")).spawn(move || connection.write(&shared))
    };
    let reader = {
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        std::thread::Builder::new().name(format!("read-{number}")).spawn(move || {
            connection.read(&shared);
            shared.connections.lock().remove(&number);
            shared.counters.connection(number, |record| record.closed = true);
            shared.change(|state| state.open_clients = state.open_clients.saturating_sub(1));
        })
    };
    let failed = writer.is_err() || reader.is_err();
    let mut threads = shared.threads.lock();
    threads.retain(|thread| !thread.is_finished());
    threads.extend(writer);
    threads.extend(reader);
    if failed {
        connection.close();
        shared.connections.lock().remove(&number);
    }
}

/// A new folder that only its owner can enter.
fn temporary_folder() -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fake-libvirtd-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|()| folder),
        }
    }
}
