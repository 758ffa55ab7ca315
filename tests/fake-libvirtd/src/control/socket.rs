//! The socket on which commands are taken.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::run;
use crate::daemon::FakeLibvirtd;

/// A socket on which commands are taken, one a line. Each is answered with what it has to tell, if anything, and then a
/// line `ok`, or with a line `error: ...`.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ControlSocket {
    /// Makes the socket. One without a listener is replaced.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn bind(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if UnixStream::connect(&path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // There may be none.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        Ok(Self { path, listener })
    }

    /// The socket's listener, for [`serve`].
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

/// Takes commands for ever, of each client on its own thread.
pub fn serve(listener: &UnixListener, daemon: &Arc<FakeLibvirtd>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            continue;
        };
        let daemon = Arc::clone(daemon);
        let thread = std::thread::Builder::new().name("control".to_owned());
        // Without a thread the client sees its connection end; a client that goes away ends its thread.
        drop(thread.spawn(move || {
            let _ = converse(&daemon, &stream);
        }));
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // It is of no use any more, and may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn converse(daemon: &FakeLibvirtd, mut stream: &UnixStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next().transpose()? {
        let answer = match run(daemon, &line) {
            Ok(told) if told.is_empty() => "ok\n".to_owned(),
            Ok(told) => format!("{told}\nok\n"),
            Err(error) => format!("error: {error}\n"),
        };
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// Sends one command to a control socket and returns the answer, its last line `ok` or `error: ...`.
///
/// # Errors
///
/// When the socket cannot be reached or answers nothing.
pub fn send(path: &Path, command: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    io::Read::read_to_string(&mut stream, &mut answer)?;
    Ok(answer.trim_end().to_owned())
}
