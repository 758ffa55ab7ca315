//! From the `tls_server_config` of a web configuration file to what rustls serves with.

use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    self, CipherSuite as Suite, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::client_certificates::{AnyCertificate, Verifier};
use crate::config::{self, CipherSuite, ClientAuth, Curve, Tls, TlsVersion};
use crate::pem::{Pem, PemError};

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A certificate or a key that the web configuration names is not as it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A CA certificate is invalid.
    #[error("cannot use the certificates in {place}")]
    Authority {
        /// The key in the web configuration file, and the file if it is one.
        place: String,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
    /// The verifier of client certificates cannot be made.
    #[error("cannot verify client certificates")]
    Verifier(#[from] VerifierBuilderError),
    /// Certificate and key do not belong together, or are of a kind that rustls does not know.
    #[error("cannot use the certificate with its key")]
    Certificate {
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
    /// The suites, versions and curves leave nothing to agree on.
    #[error("min_version, max_version, cipher_suites and curve_preferences leave nothing to agree on")]
    NothingLeft {
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
}

/// Reads what `tls` names and checks that it goes together.
pub(super) fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider(tls));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(tls))
        .map_err(|source| TlsError::NothingLeft { source })?;
    let builder = match client_verifier(tls, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let key = read(&tls.key, "key")?.private_key()?;
    let mut config = builder
        .with_single_cert(read(&tls.cert, "cert")?.certificates()?, key)
        .map_err(|source| TlsError::Certificate { source })?;
    config.ignore_client_order = tls.prefer_server_cipher_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would skip the look at the client's certificate; scrapers keep their connections anyway.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn provider(tls: &Tls) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        let wanted: Vec<Suite> = tls.cipher_suites.iter().copied().filter_map(tls12_suite).collect();
        let of_tls13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
        provider.cipher_suites.retain(|suite| of_tls13(suite) || wanted.contains(&suite.suite()));
    }
    if !tls.curve_preferences.is_empty() {
        provider.kx_groups = tls.curve_preferences.iter().copied().map(group).collect();
    }
    provider
}

/// A list narrows TLS 1.2 only, as in Go.
fn tls12_suite(suite: CipherSuite) -> Option<Suite> {
    match suite {
        CipherSuite::Aes128GcmSha256 | CipherSuite::Aes256GcmSha384 | CipherSuite::Chacha20Poly1305Sha256 => None,
        CipherSuite::EcdheEcdsaAes128 => Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        CipherSuite::EcdheEcdsaAes256 => Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        CipherSuite::EcdheEcdsaChacha20 => Some(Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        CipherSuite::EcdheRsaAes128 => Some(Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        CipherSuite::EcdheRsaAes256 => Some(Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        CipherSuite::EcdheRsaChacha20 => Some(Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    }
}

fn group(curve: Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::P256 => ring::kx_group::SECP256R1,
        Curve::P384 => ring::kx_group::SECP384R1,
        Curve::X25519 => ring::kx_group::X25519,
    }
}

fn versions(tls: &Tls) -> Vec<&'static SupportedProtocolVersion> {
    let known = [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
    let wanted = known.into_iter().filter(|(version, _)| (tls.min_version..=tls.max_version).contains(version));
    wanted.map(|(_, version)| version).collect()
}

fn client_verifier(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let optional = match tls.client_auth {
        ClientAuth::No | ClientAuth::Request => return Ok(None),
        ClientAuth::RequireAny => return Ok(Some(Arc::new(AnyCertificate(provider)))),
        ClientAuth::VerifyIfGiven => true,
        ClientAuth::RequireAndVerify => false,
    };
    let mut roots = RootCertStore::empty();
    let mut named = Vec::new();
    match &tls.client_ca {
        Some(authorities) => {
            let pem = read(authorities, "client_ca")?;
            named = pem.certificates()?;
            for certificate in &named {
                let added = roots.add(certificate.clone());
                added.map_err(|source| TlsError::Authority { place: pem.place.clone(), source })?;
            }
        }
        // Single ones that rustls cannot use are no reason to trust none.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = if optional { builder.allow_unauthenticated().build()? } else { builder.build()? };
    Ok(Some(Arc::new(Verifier::new(verifier, named, tls.client_allowed_sans.clone()))))
}

/// `key` is the key of the web configuration without `_file`.
fn read(source: &config::Pem, key: &str) -> Result<Pem, PemError> {
    match source {
        config::Pem::Inline(text) => Ok(Pem { place: key.to_owned(), bytes: text.clone().into_bytes() }),
        config::Pem::File(path) => Pem::read(&format!("{key}_file"), path),
    }
}
