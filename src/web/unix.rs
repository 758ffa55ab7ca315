//! Socket files: for a proxy or an agent on the same machine, guarded by file permissions.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::listen::WebError;

/// For the user and the group that the exporter runs as.
const MODE: u32 = 0o660;

/// A socket file, which is removed when this is dropped, if it is still the same one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // If it cannot be removed, the next start finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a socket file at `path`; a stale one is replaced. `address` is for errors.
pub(super) fn listen(path: &Path, address: &str) -> Result<(UnixListener, SocketFile), WebError> {
    let address = || address.to_owned();
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => WebError::Answered { address: address() },
        _ => WebError::Listen { address: address(), source },
    };
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(WebError::NoSocket { address: address() }),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
            Ok(_) => return Err(WebError::Answered { address: address() }),
        },
        Err(_) => {}
    }
    let socket = UnixListener::bind(path).map_err(failed)?;
    let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
    let file = SocketFile { path: path.to_owned(), inode };
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
    Ok((socket, file))
}
