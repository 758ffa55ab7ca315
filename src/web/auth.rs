//! Basic authentication against bcrypt hashes.
//!
//! A check takes a tenth of a second of a CPU by design, so it is done on a blocking thread, few at a time, one for each peer,
//! and a password that was right is remembered. What is remembered is a keyed hash, under a key that nothing outside this
//! process has ever seen. A request that names an unknown user waits for a check like any other, so that names cannot be
//! tried out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::limits::{PASSWORD_CHECKS, PASSWORD_PACE, WAITING_CHECKS};
use super::peer::Peer;
use super::rate_limit::RateLimiter;
use crate::config::{BcryptHash, UserName};

/// Right passwords that are remembered. There is one for each user, but bcrypt reads only 72 bytes of a password.
const REMEMBERED: usize = 128;
/// Longer credentials than this are refused.
const MAX_CREDENTIALS: usize = 1024;
const TAG_BYTES: usize = 32;
/// Peers whose pace is known.
const MOST_PEERS: usize = 1024;

/// What comes of an `Authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admitted,
    Refused,
    /// Too many passwords wait to be checked, or too many of this peer were.
    TooMany,
}

/// The passwords that are known to be right, and the checks that go on. They outlive a web configuration: a password that was
/// right stays so as long as its hash is in effect.
#[derive(Debug)]
pub(super) struct Logins {
    key: hmac::Key,
    verified: Mutex<Vec<[u8; TAG_BYTES]>>,
    permits: Arc<Semaphore>,
    checks: Mutex<Checks>,
}

#[derive(Debug, Default)]
struct Checks {
    /// Whose passwords are checked or wait for it.
    peers: HashSet<Peer>,
    paces: HashMap<Peer, RateLimiter>,
}

/// A check that waits or goes on.
struct Check {
    logins: Arc<Logins>,
    peer: Peer,
}

impl Logins {
    /// # Errors
    /// If the operating system has no random numbers.
    pub(super) fn new() -> Result<Self, ring::error::Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        let permits = Arc::new(Semaphore::new(PASSWORD_CHECKS));
        Ok(Self { key, verified: Mutex::default(), permits, checks: Mutex::default() })
    }

    fn begin(self: &Arc<Self>, peer: Peer) -> Option<Check> {
        let mut checks = self.checks.lock();
        if checks.peers.len() >= WAITING_CHECKS || checks.peers.contains(&peer) {
            return None;
        }
        if checks.paces.len() >= MOST_PEERS && !checks.paces.contains_key(&peer) {
            checks.paces.clear();
        }
        if !checks.paces.entry(peer).or_insert_with(|| RateLimiter::new(PASSWORD_PACE)).allow() {
            return None;
        }
        checks.peers.insert(peer);
        Some(Check { logins: Arc::clone(self), peer })
    }

    fn tag(&self, user: &str, password: &[u8], hash: &BcryptHash) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        // No name has a colon, and every hash is of one length.
        for part in [hash.as_str().as_bytes(), user.as_bytes(), b":", password] {
            context.update(part);
        }
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    fn is_verified(&self, tag: &[u8; TAG_BYTES]) -> bool {
        let verified = self.verified.lock();
        verified.iter().fold(subtle::Choice::from(0), |found, known| found | known.ct_eq(tag)).into()
    }

    fn remember(&self, tag: [u8; TAG_BYTES]) {
        let mut verified = self.verified.lock();
        if verified.len() == REMEMBERED {
            verified.remove(0);
        }
        verified.push(tag);
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.logins.checks.lock().peers.remove(&self.peer);
    }
}

/// Those who are let in.
pub(super) struct Users {
    hashes: BTreeMap<UserName, BcryptHash>,
    /// What the password of an unknown user is compared with.
    decoy: BcryptHash,
    logins: Arc<Logins>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("hashes", &self.hashes).finish_non_exhaustive()
    }
}

impl Users {
    /// `None` if there are none: then all requests are let in.
    pub(super) fn new(hashes: BTreeMap<UserName, BcryptHash>, logins: &Arc<Logins>) -> Option<Self> {
        // The most expensive hash, which is that of all users where the cost is the same.
        let decoy = hashes.values().max_by_key(|hash| hash.cost()).cloned()?;
        Some(Self { hashes, decoy, logins: Arc::clone(logins) })
    }

    /// Whether an `Authorization` header of `peer` lets its bearer in.
    pub(super) async fn admit(&self, authorization: Option<&HeaderValue>, peer: Peer) -> Admission {
        let Some((user, password)) = authorization.and_then(credentials) else {
            return Admission::Refused;
        };
        let known = user.parse::<UserName>().ok().and_then(|name| self.hashes.get(&name));
        let hash = known.unwrap_or(&self.decoy);
        let tag = self.logins.tag(&user, &password, hash);
        if known.is_some() && self.logins.is_verified(&tag) {
            return Admission::Admitted;
        }
        let Some(check) = self.logins.begin(peer) else { return Admission::TooMany };
        let Ok(permit) = Arc::clone(&self.logins.permits).acquire_owned().await else { return Admission::TooMany };
        let hash = hash.clone();
        let right = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(&password, hash.as_str()).unwrap_or(false);
            // A client that hangs up does not free the place of the check that goes on.
            drop((check, permit));
            right
        });
        if !(right.await.unwrap_or(false) && known.is_some()) {
            return Admission::Refused;
        }
        self.logins.remember(tag);
        Admission::Admitted
    }
}

/// User and password of a `Basic` header.
fn credentials(authorization: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = authorization.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > MAX_CREDENTIALS {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    /// Cost 4, the lowest.
    fn users_with(password: &str, logins: &Arc<Logins>) -> Users {
        let hash = bcrypt::hash(password, 4).expect("hashed").parse().expect("a hash");
        Users::new(BTreeMap::from([("alice".parse().expect("a name"), hash)]), logins).expect("users")
    }

    fn logins() -> Arc<Logins> {
        Arc::new(Logins::new().expect("random numbers"))
    }

    fn basic(text: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).expect("a header")
    }

    /// Who has not tried any password yet.
    fn newcomer(number: u8) -> Peer {
        Peer::from(IpAddr::from([192, 0, 2, number]))
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_let_in() {
        let users = users_with("secret", &logins());
        let admit = async |header: &HeaderValue, number| users.admit(Some(header), newcomer(number)).await;
        for round in 0..3 {
            assert_eq!(admit(&basic("alice:secret"), round).await, Admission::Admitted);
            for wrong in
                ["alice:secre", "alice:", "bob:secret", ":secret", "alice", "", "alice:secret\0", "Alice:secret"]
            {
                assert_eq!(admit(&basic(wrong), round).await, Admission::Refused, "{wrong:?}");
            }
        }
        assert_eq!(users.logins.verified.lock().len(), 1);
        let lower = HeaderValue::from_str(&format!("bAsIc {}", STANDARD.encode("alice:secret"))).expect("a header");
        assert_eq!(admit(&lower, 9).await, Admission::Admitted);
        for header in ["", "Basic", "Basic ", "Basic !!!", "Bearer YWxpY2U6c2VjcmV0", "Basic YWxpY2U6c2VjcmV"] {
            assert_eq!(admit(&HeaderValue::from_static(header), 9).await, Admission::Refused, "{header:?}");
        }
        assert_eq!(users.admit(None, newcomer(9)).await, Admission::Refused);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let long = "x".repeat(72);
        let users = users_with(&long, &logins());
        for number in 0..REMEMBERED + 10 {
            let peer = newcomer(u8::try_from(number).expect("few"));
            assert_eq!(users.admit(Some(&basic(&format!("alice:{long}{number}"))), peer).await, Admission::Admitted);
        }
        assert_eq!(users.logins.verified.lock().len(), REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn each_peer_has_one_check_at_a_time_and_a_pace() {
        let logins = logins();
        let users = users_with("secret", &logins);
        let (one, other) = (newcomer(1), newcomer(2));
        let held = logins.begin(one).expect("the first");
        assert_eq!(users.admit(Some(&basic("alice:wrong")), one).await, Admission::TooMany);
        assert_eq!(users.admit(Some(&basic("alice:secret")), other).await, Admission::Admitted);
        // A remembered password needs no check.
        assert_eq!(users.admit(Some(&basic("alice:secret")), one).await, Admission::Admitted);
        drop(held);
        for _ in 1..PASSWORD_PACE.burst.get() {
            assert!(logins.begin(one).is_some());
        }
        assert!(logins.begin(one).is_none() && logins.begin(other).is_some());
        tokio::time::advance(PASSWORD_PACE.interval + Duration::from_millis(1)).await;
        assert!(logins.begin(one).is_some() && logins.begin(one).is_none());
        // There is a bound on all checks together, and on the peers that are remembered.
        let checks: Vec<_> = (10..99).filter_map(|number| logins.begin(newcomer(number))).collect();
        assert_eq!(checks.len(), WAITING_CHECKS);
        drop(checks);
        for number in 0..5000_u32 {
            drop(logins.begin(Peer::from(IpAddr::from(number.to_be_bytes()))));
        }
        assert!(logins.checks.lock().paces.len() <= MOST_PEERS && logins.checks.lock().peers.is_empty());
    }

    #[tokio::test]
    async fn a_login_outlives_its_policy_as_long_as_its_hash_does() {
        let logins = logins();
        let users = users_with("secret", &logins);
        let peer = newcomer(1);
        assert_eq!(users.admit(Some(&basic("alice:secret")), peer).await, Admission::Admitted);
        let reloaded = Users::new(users.hashes.clone(), &logins).expect("users");
        let held = logins.begin(peer).expect("no check goes on");
        assert_eq!(reloaded.admit(Some(&basic("alice:secret")), peer).await, Admission::Admitted);
        let changed = users_with("secret", &logins);
        assert_eq!(changed.admit(Some(&basic("alice:secret")), peer).await, Admission::TooMany, "another hash");
        drop(held);
        assert_eq!(changed.admit(Some(&basic("alice:secret")), peer).await, Admission::Admitted);
        let others = users_with("other", &logins);
        assert_eq!(others.admit(Some(&basic("alice:secret")), peer).await, Admission::Refused);
    }

    #[test]
    fn debug_output_has_no_hash() {
        assert!(!format!("{:?}", users_with("secret", &logins())).contains("$2"));
    }
}
