//! `tls_server_config` of the web configuration file: the exporter-toolkit's schema, as far as rustls can honour it.
//!
//! TLS 1.0 and 1.1, suites with CBC or RSA key exchange, curves that *ring* lacks, and client certificates that nobody
//! verifies are no words here, so that a file which asks for them is refused by name instead of being half obeyed.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::word::words;

words!(
    /// Which client certificates are asked for.
    #[derive(Default)]
    ClientAuth, "client_auth_type" {
        /// None.
        #[default]
        No = "NoClientCert",
        /// One that a client shows must be good; it need not show one.
        VerifyIfGiven = "VerifyClientCertIfGiven",
        /// Every client must show a good one.
        RequireAndVerify = "RequireAndVerifyClientCert",
    }
);

words!(
    /// A version of TLS.
    TlsVersion, "TLS version" {
        /// TLS 1.2.
        Tls12 = "TLS12",
        /// TLS 1.3.
        Tls13 = "TLS13",
    }
);

words!(
    /// A cipher suite by its name in Go. As there, a list narrows TLS 1.2 only: the suites of TLS 1.3 are always on.
    CipherSuite, "cipher suite" {
        /// TLS 1.3.
        Aes128GcmSha256 = "TLS_AES_128_GCM_SHA256",
        /// TLS 1.3.
        Aes256GcmSha384 = "TLS_AES_256_GCM_SHA384",
        /// TLS 1.3.
        Chacha20Poly1305Sha256 = "TLS_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2.
        EcdheEcdsaAes128 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2.
        EcdheEcdsaAes256 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2.
        EcdheEcdsaChacha20 = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2.
        EcdheRsaAes128 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2.
        EcdheRsaAes256 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2.
        EcdheRsaChacha20 = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
);

words!(
    /// A curve for the key exchange by its name in Go.
    Curve, "curve" {
        /// P-256.
        P256 = "CurveP256",
        /// P-384.
        P384 = "CurveP384",
        /// X25519.
        X25519 = "X25519",
    }
);

/// PEM text: in the web configuration file itself, or in a file of its own.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// The text.
    Inline(String),
    /// Where it is; relative to the folder of the web configuration file until that is read.
    File(PathBuf),
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // It may be a private key.
            Self::Inline(_) => f.write_str("Inline(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// How connections are encrypted, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate, and those between it and the authority.
    pub cert: Pem,
    /// Its private key.
    pub key: Pem,
    /// The authorities of client certificates; there is one wherever certificates are asked for.
    pub client_ca: Option<Pem>,
    /// Which client certificates are asked for.
    pub client_auth: ClientAuth,
    /// If there are any, one of them must be among the client certificate's names.
    pub client_allowed_sans: Vec<String>,
    /// The oldest version of TLS.
    pub min_version: TlsVersion,
    /// The newest version of TLS.
    pub max_version: TlsVersion,
    /// The suites of TLS 1.2; all if there are none.
    pub cipher_suites: Vec<CipherSuite>,
    /// Whether the server's order of suites counts.
    pub prefer_server_cipher_suites: bool,
    /// The curves in the order of preference; all if there are none.
    pub curve_preferences: Vec<Curve>,
}

/// The section as it is written.
#[derive(Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `tls_server_config`")]
pub(super) struct TlsSection {
    cert: Option<String>,
    cert_file: Option<PathBuf>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    client_ca: Option<String>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: ClientAuth,
    client_allowed_sans: Vec<String>,
    min_version: TlsVersion,
    max_version: TlsVersion,
    cipher_suites: Vec<CipherSuite>,
    prefer_server_cipher_suites: bool,
    curve_preferences: Vec<Curve>,
}

impl Default for TlsSection {
    fn default() -> Self {
        Self {
            cert: None,
            cert_file: None,
            key: None,
            key_file: None,
            client_ca: None,
            client_ca_file: None,
            client_auth_type: ClientAuth::No,
            client_allowed_sans: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            prefer_server_cipher_suites: true,
            curve_preferences: Vec::new(),
        }
    }
}

impl TlsSection {
    /// The section if its keys go together, else what is wrong; an empty one asks for no TLS. Files are found from `folder`.
    pub(super) fn check(self, folder: &Path) -> Result<Option<Tls>, String> {
        if self == Self::default() {
            return Ok(None);
        }
        let required = |pem: Option<Pem>, name| pem.ok_or_else(|| format!("`{name}_file` or `{name}` is missing"));
        let cert = required(either(self.cert, self.cert_file, "cert", folder)?, "cert")?;
        let key = required(either(self.key, self.key_file, "key", folder)?, "key")?;
        let client_ca = either(self.client_ca, self.client_ca_file, "client_ca", folder)?;
        match (&client_ca, self.client_auth_type) {
            (Some(_), ClientAuth::No) => {
                return Err(format!(
                    "there is a client CA, but client_auth_type asks for no certificate; set it to `{}` or `{}`",
                    ClientAuth::RequireAndVerify,
                    ClientAuth::VerifyIfGiven
                ));
            }
            (None, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify) => {
                return Err(format!(
                    "client_auth_type `{}` needs `client_ca_file` or `client_ca`",
                    self.client_auth_type
                ));
            }
            _ => {}
        }
        if !self.client_allowed_sans.is_empty() && self.client_auth_type != ClientAuth::RequireAndVerify {
            return Err(format!("client_allowed_sans needs client_auth_type `{}`", ClientAuth::RequireAndVerify));
        }
        if let Some(address) = self.client_allowed_sans.iter().find(|san| san.contains('@') && !san.contains("://")) {
            return Err(format!(
                "client_allowed_sans has the e-mail address `{address}`, expected host names, IP addresses and URIs only"
            ));
        }
        if self.min_version > self.max_version {
            return Err("min_version is above max_version".to_owned());
        }
        Ok(Some(Tls {
            cert,
            key,
            client_ca,
            client_auth: self.client_auth_type,
            client_allowed_sans: self.client_allowed_sans,
            min_version: self.min_version,
            max_version: self.max_version,
            cipher_suites: self.cipher_suites,
            prefer_server_cipher_suites: self.prefer_server_cipher_suites,
            curve_preferences: self.curve_preferences,
        }))
    }
}

fn either(inline: Option<String>, file: Option<PathBuf>, name: &str, folder: &Path) -> Result<Option<Pem>, String> {
    match (inline, file) {
        (Some(_), Some(_)) => Err(format!("both `{name}` and `{name}_file` are set, expected one of them")),
        (Some(text), None) => Ok(Some(Pem::Inline(text))),
        (None, file) => Ok(file.map(|path| Pem::File(folder.join(path)))),
    }
}
