//! TLS towards the receiver: whom to trust, and who we are.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::settings::PushError;
use crate::config::{OtlpTls, read_pem};

/// Reads what `tls` names. `wanted` is whether there will be TLS at all: without, the system's authorities do not matter.
pub(super) fn client_config(tls: &OtlpTls, wanted: bool) -> Result<ClientConfig, PushError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(path) => {
            for certificate in certificates("ca_file", path)? {
                roots.add(certificate).map_err(|source| PushError::Certificate { source })?;
            }
        }
        None if wanted => {
            // Single ones that rustls cannot use are no reason to trust none.
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(PushError::NoAuthorities);
            }
        }
        None => {}
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| PushError::Certificate { source })?
        .with_root_certificates(roots);
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let bytes = read("key_file", key)?;
            let private = PrivateKeyDer::from_pem_slice(&bytes);
            let private = private.map_err(|source| PushError::Pem {
                key: "key_file",
                path: key.clone(),
                what: "private key",
                source: Some(source),
            })?;
            let chain = certificates("cert_file", cert)?;
            builder.with_client_auth_cert(chain, private).map_err(|source| PushError::Certificate { source })
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, PushError> {
    let bytes = read(key, path)?;
    let bad = |source| PushError::Pem { key, path: path.to_owned(), what: "certificate", source };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|source| bad(Some(source)))?;
    if found.is_empty() { Err(bad(None)) } else { Ok(found) }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, PushError> {
    read_pem(path).map_err(|source| PushError::Unreadable { key, path: path.to_owned(), source })
}
