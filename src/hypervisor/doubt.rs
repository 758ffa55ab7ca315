//! Why the host's files are not believed for a domain.

use std::io;
use std::path::PathBuf;

use procfs::ProcError;

/// Why the host's files are not believed for a domain.
#[derive(Debug, thiserror::Error)]
pub(super) enum Doubt {
    /// None is visible: it is in another PID namespace, or the exporter may not see processes of other users.
    #[error("its QEMU process is not visible in /proc")]
    NoProcess,
    #[error("several QEMU processes have its UUID")]
    SeveralProcesses,
    #[error("no thread of its QEMU process has the name of a vCPU")]
    NoVcpus,
    /// vCPUs have been plugged in or unplugged.
    #[error("its QEMU process has other vCPUs than before")]
    OtherVcpus,
    #[error("cannot read {}: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{} does not have the expected content", .0.display())]
    Malformed(PathBuf),
    #[error("cannot read from /proc: {0}")]
    Proc(ProcError),
    /// What libvirt said is not between what the files said before and after it.
    #[error("libvirt reports {key} as {libvirt}, the host's files as {before} to {after}")]
    Differs { key: String, libvirt: u64, before: u64, after: u64 },
    /// The files do not have it.
    #[error("libvirt reports {0}, which the host's files do not have")]
    More(String),
    /// libvirt did not report it.
    #[error("libvirt does not report {0}")]
    Less(String),
}

impl From<ProcError> for Doubt {
    fn from(error: ProcError) -> Self {
        match error {
            ProcError::NotFound(_) => Self::NoProcess,
            ProcError::PermissionDenied(file) => {
                Self::Unreadable { file: file.unwrap_or_default(), source: io::ErrorKind::PermissionDenied.into() }
            }
            ProcError::Io(source, file) if source.kind() == io::ErrorKind::NotFound => {
                drop((source, file));
                Self::NoProcess
            }
            ProcError::Io(source, file) => Self::Unreadable { file: file.unwrap_or_default(), source },
            error => Self::Proc(error),
        }
    }
}
