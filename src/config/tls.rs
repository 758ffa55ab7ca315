//! `tls_server_config` of the web configuration file: the exporter-toolkit's schema, without what rustls does not support.
//!
//! A file that serves another exporter serves this one: of a list that also has what rustls lacks (suites with CBC or RSA key
//! exchange, the key exchange over P-521), the rest is used, with a warning by name. A file of which nothing could be used, or
//! that would let in more clients than it seems to, is refused.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::error::ValueError;
use super::value::{deserialize_text, scalar};
use super::word::words;

words!(
    /// Which client certificates are asked for.
    #[derive(Default)]
    ClientAuth, "client_auth_type" {
        /// None.
        #[default]
        No = "NoClientCert",
        /// Any, and nothing of it is verified: as good as none.
        Request = "RequestClientCert",
        /// Every client must send one, from any CA.
        RequireAny = "RequireAnyClientCert",
        /// One that a client shows must be good; it need not show one.
        VerifyIfGiven = "VerifyClientCertIfGiven",
        /// Every client must show a good one.
        RequireAndVerify = "RequireAndVerifyClientCert",
    }
);

words!(
    /// A version of TLS.
    TlsVersion, "TLS version" {
        /// TLS 1.0, which does not exist here.
        Tls10 = "TLS10",
        /// TLS 1.1, likewise.
        Tls11 = "TLS11",
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

/// A choice that the toolkit has in its lists.
trait Known: FromStr<Err = ValueError> + Display {
    /// Those that do not exist here.
    const MISSING: &'static [&'static str];
}

impl Known for CipherSuite {
    const MISSING: &'static [&'static str] = &[
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
        "TLS_RSA_WITH_AES_128_CBC_SHA",
        "TLS_RSA_WITH_AES_256_CBC_SHA",
        "TLS_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_RSA_WITH_AES_256_GCM_SHA384",
    ];
}

impl Known for Curve {
    const MISSING: &'static [&'static str] = &["CurveP521"];
}

/// An entry of a list of choices.
#[derive(PartialEq)]
enum Listed<T> {
    Usable(T),
    Missing(&'static str),
}

impl<T: Known> FromStr for Listed<T> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match T::MISSING.iter().find(|name| **name == text.trim()) {
            Some(name) => Ok(Self::Missing(name)),
            None => text.parse().map(Self::Usable),
        }
    }
}

impl<T: Display> Display for Listed<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable(choice) => choice.fmt(f),
            Self::Missing(name) => f.write_str(name),
        }
    }
}

scalar!(Listed<CipherSuite>, "a cipher suite");
scalar!(Listed<Curve>, "a curve");

/// The usable ones; the others are named in a warning.
fn usable<T>(key: &str, listed: Vec<Listed<T>>, warnings: &mut Vec<String>) -> Result<Vec<T>, String> {
    let (mut choices, mut missing) = (Vec::new(), Vec::new());
    for entry in listed {
        match entry {
            Listed::Usable(choice) => choices.push(choice),
            Listed::Missing(name) => missing.push(name),
        }
    }
    let missing = missing.join(", ");
    if choices.is_empty() && !missing.is_empty() {
        return Err(format!("{key} has only what is not supported ({missing}), expected at least one that is"));
    }
    if !missing.is_empty() {
        warnings.push(format!("{key}: {missing} is not supported, the others are used"));
    }
    Ok(choices)
}

/// PEM text: in the web configuration file itself, or in a separate file.
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
    /// The server's certificate, and those between it and the CA.
    pub cert: Pem,
    /// Its private key.
    pub key: Pem,
    /// The CAs of client certificates; those of the system if there are none.
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
    #[serde(deserialize_with = "client_auth")]
    client_auth_type: ClientAuth,
    client_allowed_sans: Vec<String>,
    min_version: TlsVersion,
    max_version: TlsVersion,
    cipher_suites: Vec<Listed<CipherSuite>>,
    prefer_server_cipher_suites: bool,
    curve_preferences: Vec<Listed<Curve>>,
}

/// Also empty, and an old name.
fn client_auth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClientAuth, D::Error> {
    struct Parsed(ClientAuth);

    impl FromStr for Parsed {
        type Err = ValueError;

        fn from_str(text: &str) -> Result<Self, ValueError> {
            match text {
                "" => Ok(Self(ClientAuth::No)),
                "RequireClientCert" => Ok(Self(ClientAuth::RequireAny)),
                word => word.parse().map(Self),
            }
        }
    }

    deserialize_text(deserializer, "a client_auth_type").map(|Parsed(auth)| auth)
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
    pub(super) fn check(self, folder: &Path, warnings: &mut Vec<String>) -> Result<Option<Tls>, String> {
        if self == Self::default() {
            return Ok(None);
        }
        let required = |pem: Option<Pem>, name| pem.ok_or_else(|| format!("`{name}_file` or `{name}` is missing"));
        let cert = required(either(self.cert, self.cert_file, "cert", folder)?, "cert")?;
        let key = required(either(self.key, self.key_file, "key", folder)?, "key")?;
        let client_ca = either(self.client_ca, self.client_ca_file, "client_ca", folder)?;
        check_client_auth(self.client_auth_type, client_ca.as_ref(), &self.client_allowed_sans, warnings)?;
        if self.max_version < TlsVersion::Tls12 {
            return Err(format!("max_version `{}` is not supported, expected `TLS12` or `TLS13`", self.max_version));
        }
        if self.min_version < TlsVersion::Tls12 {
            warnings.push(format!("min_version: {} is not supported, the least version is TLS12", self.min_version));
        }
        let min_version = self.min_version.max(TlsVersion::Tls12);
        if min_version > self.max_version {
            return Err("min_version is above max_version".to_owned());
        }
        Ok(Some(Tls {
            cert,
            key,
            client_ca,
            client_auth: self.client_auth_type,
            client_allowed_sans: allowed_sans(self.client_allowed_sans, warnings)?,
            min_version,
            max_version: self.max_version,
            cipher_suites: usable("cipher_suites", self.cipher_suites, warnings)?,
            prefer_server_cipher_suites: self.prefer_server_cipher_suites,
            curve_preferences: usable("curve_preferences", self.curve_preferences, warnings)?,
        }))
    }
}

/// Whether those who are let in are those whom the section seems to let in.
fn check_client_auth(
    auth: ClientAuth,
    authorities: Option<&Pem>,
    allowed_sans: &[String],
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let verifies = matches!(auth, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify);
    if authorities.is_some() && !verifies {
        return Err(format!(
            "there is a client CA, but client_auth_type `{auth}` verifies no certificate; set it to `{}` or `{}`",
            ClientAuth::RequireAndVerify,
            ClientAuth::VerifyIfGiven
        ));
    }
    if !allowed_sans.is_empty() && auth != ClientAuth::RequireAndVerify {
        return Err(format!("client_allowed_sans needs client_auth_type `{}`", ClientAuth::RequireAndVerify));
    }
    if verifies && authorities.is_none() {
        warnings.push(format!(
            "client_auth_type: {auth} without client_ca_file lets in the certificates of every authority that this system \
             trusts"
        ));
    }
    if matches!(auth, ClientAuth::Request | ClientAuth::RequireAny) {
        warnings.push(format!("client_auth_type: {auth} verifies no certificate, and anyone can make one"));
    }
    Ok(())
}

/// Without e-mail addresses, which are not looked at: fewer clients are let in, not more.
fn allowed_sans(listed: Vec<String>, warnings: &mut Vec<String>) -> Result<Vec<String>, String> {
    let is_mail = |san: &String| san.contains('@') && !san.contains("://");
    let (mails, names): (Vec<String>, Vec<String>) = listed.into_iter().partition(is_mail);
    let mails = mails.join(", ");
    if !mails.is_empty() && names.is_empty() {
        return Err(format!(
            "client_allowed_sans has only e-mail addresses ({mails}), expected host names, IP addresses or URIs"
        ));
    }
    if !mails.is_empty() {
        warnings.push(format!("client_allowed_sans: e-mail addresses are not supported: {mails}"));
    }
    Ok(names)
}

/// What is empty is not set.
fn either(inline: Option<String>, file: Option<PathBuf>, name: &str, folder: &Path) -> Result<Option<Pem>, String> {
    let (inline, file) = (inline.filter(|text| !text.is_empty()), file.filter(|path| !path.as_os_str().is_empty()));
    match (inline, file) {
        (Some(_), Some(_)) => Err(format!("both `{name}` and `{name}_file` are set, expected one of them")),
        (Some(text), None) => Ok(Some(Pem::Inline(text))),
        (None, file) => Ok(file.map(|path| Pem::File(folder.join(path)))),
    }
}
