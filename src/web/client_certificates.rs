//! Which clients are let in by their certificates, beyond what rustls looks at itself.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::EndEntityCert;

/// Verifies as `inner` does, accepts CA certificates that are configured as client CAs, and looks for one
/// of the allowed names (`client_allowed_sans`).
#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
    allowed: Vec<String>,
}

impl Verifier {
    /// `authorities` are the CAs of `inner`. Without `allowed` names, any name is accepted.
    pub(super) fn new(
        inner: Arc<dyn ClientCertVerifier>,
        authorities: Vec<CertificateDer<'static>>,
        allowed: Vec<String>,
    ) -> Self {
        Self { inner, authorities, allowed }
    }

    /// `openssl req -x509` marks what it makes as a CA. Such a certificate is no client's for webpki, which says so after
    /// it has looked at the dates; configured as the client CA, it is trusted itself, as in Go.
    fn is_pinned(&self, certificate: &CertificateDer<'_>, error: &Error) -> bool {
        let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
        let is_authority = other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity);
        is_authority && self.authorities.iter().any(|authority| authority == certificate)
    }

    /// Names are compared as text, as the exporter-toolkit does it: a wildcard in a certificate stands for itself only.
    fn allows(&self, certificate: &EndEntityCert<'_>) -> bool {
        self.allowed.is_empty()
            || self.allowed.iter().any(|name| match name.parse::<IpAddr>() {
                Ok(address) => {
                    certificate.verify_is_valid_for_subject_name(&ServerName::IpAddress(address.into())).is_ok()
                }
                Err(_) => {
                    certificate.valid_dns_names().any(|known| known.eq_ignore_ascii_case(name))
                        || certificate.valid_uri_names().any(|known| known == name)
                }
            })
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(error) if !self.is_pinned(end_entity, &error) => return Err(error),
            _ => {}
        }
        let certificate = EndEntityCert::try_from(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.allows(&certificate) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes every certificate whose key the client has (`RequireAnyClientCert`).
#[derive(Debug)]
pub(super) struct AnyCertificate(pub(super) Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
