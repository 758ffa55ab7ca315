//! TLS towards the receiver: the CAs to trust, and the client's certificate.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::settings::PushError;
use crate::config::OtlpTls;
use crate::pem::Pem;

/// Reads what `tls` names. `wanted` is whether there will be TLS at all: without, the system's CAs do not matter.
pub(super) fn client_config(tls: &OtlpTls, wanted: bool) -> Result<ClientConfig, PushError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(path) => {
            for certificate in Pem::read("otlp.tls.ca_file", path)?.certificates()? {
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
            let private = Pem::read("otlp.tls.key_file", key)?.private_key()?;
            let chain = Pem::read("otlp.tls.cert_file", cert)?.certificates()?;
            builder.with_client_auth_cert(chain, private).map_err(|source| PushError::Certificate { source })
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}
