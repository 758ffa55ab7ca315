//! The web configuration file (`--web.config.file`): the schema of Prometheus' exporter-toolkit, so that one file serves all
//! exporters of a host.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display, Formatter};
use std::num::NonZeroU32;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use bcrypt::HashParts;
use serde::Deserialize;

use super::error::{ConfigError, ValueError};
use super::strict::Nulls;
use super::tls::{Tls, TlsSection};
use super::value::{scalar, text};
use super::word::words;
use super::{count, duration, parse_document, read_text};

/// A check with it takes some twenty seconds of a CPU. More is a mistake that would look like an outage.
const MAX_BCRYPT_COST: u32 = 18;
/// A check with it takes five: scrapers time out while it goes on.
const USUAL_BCRYPT_COST: u32 = 16;

/// Who may ask the HTTP server, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebFile {
    /// Encryption; plain HTTP without.
    pub tls: Option<Tls>,
    /// Header fields of every answer.
    pub headers: Vec<(&'static str, String)>,
    /// Users and the hashes of their passwords; all clients are admitted if there are none.
    pub users: BTreeMap<UserName, BcryptHash>,
    /// How many requests are answered in a time.
    pub rate_limit: Option<RateLimit>,
    /// What the file says and this program does not do.
    pub warnings: Vec<String>,
}

/// How many requests are answered in a time, over all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The time in which one more request is allowed.
    pub interval: Duration,
    /// How many are allowed at once after a pause.
    pub burst: NonZeroU32,
}

/// The section as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `rate_limit`")]
struct RateLimitSection {
    #[serde(deserialize_with = "duration::from_ms::<_, 0>")]
    interval: Duration,
    #[serde(deserialize_with = "count::zero_up_to::<_, 1_000_000>")]
    burst: usize,
}

impl RateLimitSection {
    /// No interval is no limit. No burst would refuse all requests, so it is one.
    fn check(self, warnings: &mut Vec<String>) -> Option<RateLimit> {
        if self.interval.is_zero() {
            return None;
        }
        let burst = u32::try_from(self.burst).ok().and_then(NonZeroU32::new);
        if burst.is_none() {
            warnings.push("rate_limit.burst: 0 would refuse every request, 1 is used".to_owned());
        }
        Some(RateLimit { interval: self.interval, burst: burst.unwrap_or(NonZeroU32::MIN) })
    }
}

/// The name of a user: not empty, and without the colon that ends it in a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserName(String);

impl FromStr for UserName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text.contains(':') {
            return Err(ValueError::UserName { name: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

text!(UserName, "a user name");

/// The bcrypt hash of a password, which no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct BcryptHash {
    text: String,
    cost: u32,
}

impl BcryptHash {
    /// The hash's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The logarithm of what a check costs.
    #[must_use]
    pub fn cost(&self) -> u32 {
        self.cost
    }
}

impl Debug for BcryptHash {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "BcryptHash(cost {})", self.cost)
    }
}

impl Display for BcryptHash {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl FromStr for BcryptHash {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let cost = HashParts::from_str(text).map_err(|_| ValueError::BcryptHash)?.get_cost();
        if cost > MAX_BCRYPT_COST {
            return Err(ValueError::BcryptCost { cost, highest: MAX_BCRYPT_COST });
        }
        Ok(Self { text: text.to_owned(), cost })
    }
}

scalar!(BcryptHash, "a bcrypt hash");

words!(
    /// Whether a page may be shown in a frame.
    FrameOptions, "X-Frame-Options" {
        /// In none.
        Deny = "deny",
        /// In one of the same server.
        SameOrigin = "sameorigin",
    }
);

words!(
    /// Whether a browser may guess types.
    ContentTypeOptions, "X-Content-Type-Options" {
        /// It may not.
        NoSniff = "nosniff",
    }
);

/// A valid header value: visible text, or nothing, and then there is no header.
struct HeaderText(String);

impl Display for HeaderText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HeaderText {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::HeaderText { text: text.to_owned() })
        }
    }
}

scalar!(HeaderText, "the text of a header");

/// The headers that the exporter-toolkit lets an operator set.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of headers")]
struct Headers {
    #[serde(rename = "Content-Security-Policy")]
    content_security_policy: Option<HeaderText>,
    #[serde(rename = "Strict-Transport-Security")]
    strict_transport_security: Option<HeaderText>,
    #[serde(rename = "X-Content-Type-Options")]
    x_content_type_options: Option<ContentTypeOptions>,
    #[serde(rename = "X-Frame-Options")]
    x_frame_options: Option<FrameOptions>,
    #[serde(rename = "X-XSS-Protection")]
    x_xss_protection: Option<HeaderText>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with the keys of `http_server_config`")]
struct HttpSection {
    /// Known and without effect: the server speaks HTTP/1.1, which every client of HTTP/2 speaks too.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Headers,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with sections such as `tls_server_config:`")]
struct Document {
    tls_server_config: TlsSection,
    http_server_config: HttpSection,
    basic_auth_users: BTreeMap<UserName, BcryptHash>,
    rate_limit: RateLimitSection,
}

/// Reads a web configuration from `text`; `path` names it in errors, and files it refers to are found from its folder.
pub fn parse_web_file(text: &str, path: &Path) -> Result<WebFile, ConfigError> {
    let file = path.display().to_string();
    let document: Document = parse_document(text, &file, Nulls::Anywhere)?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let mut warnings = Vec::new();
    let tls = document.tls_server_config.check(folder, &mut warnings);
    let tls = tls.map_err(|fault| ConfigError::contradiction(&file, text, &["tls_server_config"], &fault))?;
    let headers = document.http_server_config.headers;
    let text = |header: Option<HeaderText>| header.map(|HeaderText(text)| text).filter(|text| !text.is_empty());
    let headers = [
        ("content-security-policy", text(headers.content_security_policy)),
        ("strict-transport-security", text(headers.strict_transport_security)),
        ("x-content-type-options", headers.x_content_type_options.map(|word| word.to_string())),
        ("x-frame-options", headers.x_frame_options.map(|word| word.to_string())),
        ("x-xss-protection", text(headers.x_xss_protection)),
    ];
    let headers = headers.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    let rate_limit = document.rate_limit.check(&mut warnings);
    let users = document.basic_auth_users;
    for (name, hash) in users.iter().filter(|(_, hash)| hash.cost() > USUAL_BCRYPT_COST) {
        let cost = hash.cost();
        warnings.push(format!("basic_auth_users.{name}: a bcrypt cost of {cost} keeps a CPU busy for many seconds"));
    }
    Ok(WebFile { tls, headers, users, rate_limit, warnings })
}

/// Reads the web configuration file at `path`.
pub fn load_web_file(path: &Path) -> Result<WebFile, ConfigError> {
    parse_web_file(&read_text(path, "web configuration")?, path)
}
