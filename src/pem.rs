//! Certificates and keys in PEM, for both sides of TLS: the server's own and those of a receiver of pushes.

use std::io;
use std::path::Path;

use thiserror::Error;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::read_pem;

/// Why there is no certificate or key.
#[derive(Debug, Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error("cannot read {place}")]
    Unreadable {
        /// The configuration key and the file.
        place: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// There is none in the text.
    #[error("{place} holds no {what} in PEM")]
    Absent {
        /// The configuration key, and the file if it is one.
        place: String,
        /// The expected kind of PEM block.
        what: &'static str,
        /// What the parser says, if it found something to parse.
        #[source]
        source: Option<pem::Error>,
    },
}

/// A text in PEM; `place` is the configuration key, and the file if it is one.
pub(crate) struct Pem {
    pub(crate) place: String,
    pub(crate) bytes: Vec<u8>,
}

impl Pem {
    /// Reads the file at `path`, which `key` names. Not for async threads.
    pub(crate) fn read(key: &str, path: &Path) -> Result<Self, PemError> {
        let place = format!("{key} {}", path.display());
        match read_pem(path) {
            Ok(bytes) => Ok(Self { place, bytes }),
            Err(source) => Err(PemError::Unreadable { place, source }),
        }
    }

    /// All certificates, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let absent = |source| PemError::Absent { place: self.place.clone(), what: "certificate", source };
        let found: Vec<_> = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|source| absent(Some(source)))?;
        if found.is_empty() { Err(absent(None)) } else { Ok(found) }
    }

    /// The first private key.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|source| PemError::Absent {
            place: self.place.clone(),
            what: "private key",
            source: Some(source),
        })
    }
}
