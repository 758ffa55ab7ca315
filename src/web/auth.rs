//! Basic authentication against bcrypt hashes.
//!
//! A check takes a tenth of a second of a processor by design, so it is done on a blocking thread, few at a time, and a
//! password that was right is remembered. What is remembered is a keyed hash, under a key that nobody outside this process
//! has ever seen. Whoever names an unknown user waits for a check like everybody else, so that names cannot be tried out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use ring::hmac;
use ring::rand::SystemRandom;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use crate::config::{BcryptHash, UserName};

/// Right passwords that are remembered. There is one for each user, but bcrypt reads only 72 bytes of a password.
const REMEMBERED: usize = 128;
/// Longer credentials than this are nobody's.
const MAX_CREDENTIALS: usize = 1024;
const TAG_BYTES: usize = 32;

/// Those who are let in.
pub(super) struct Users {
    hashes: BTreeMap<UserName, BcryptHash>,
    /// What the password of an unknown user is compared with.
    decoy: BcryptHash,
    key: hmac::Key,
    verified: Mutex<Vec<[u8; TAG_BYTES]>>,
    checks: Arc<Semaphore>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("hashes", &self.hashes).finish_non_exhaustive()
    }
}

impl Users {
    /// `None` if there are none: then everybody is let in. `checks` bounds how many passwords are checked at a time.
    ///
    /// # Errors
    /// If the operating system has no random numbers.
    pub(super) fn new(
        hashes: BTreeMap<UserName, BcryptHash>,
        checks: Arc<Semaphore>,
    ) -> Result<Option<Self>, ring::error::Unspecified> {
        // The most expensive hash, which is everybody's where the cost is the same for all.
        let Some(decoy) = hashes.values().max_by_key(|hash| hash.cost()).cloned() else {
            return Ok(None);
        };
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        Ok(Some(Self { hashes, decoy, key, verified: Mutex::default(), checks }))
    }

    /// Whether an `Authorization` header lets its bearer in.
    pub(super) async fn admit(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some((user, password)) = authorization.and_then(credentials) else {
            return false;
        };
        let known = user.parse::<UserName>().ok().and_then(|name| self.hashes.get(&name));
        let hash = known.unwrap_or(&self.decoy);
        let tag = self.tag(&user, &password, hash);
        if known.is_some() && self.is_verified(&tag) {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.checks).acquire_owned().await else {
            return false;
        };
        let hash = hash.clone();
        let check = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(&password, hash.as_str()).unwrap_or(false);
            // Whoever hangs up does not free the place of the check that goes on.
            drop(permit);
            right
        });
        let right = check.await.unwrap_or(false) && known.is_some();
        if right {
            self.remember(tag);
        }
        right
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
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.iter().fold(subtle::Choice::from(0), |found, known| found | known.ct_eq(tag)).into()
    }

    fn remember(&self, tag: [u8; TAG_BYTES]) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() == REMEMBERED {
            verified.remove(0);
        }
        verified.push(tag);
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
    use super::*;

    /// Cost 4, the lowest: `secret`.
    fn users() -> Users {
        let hash = bcrypt::hash("secret", 4).expect("hashed").parse().expect("a hash");
        let hashes = BTreeMap::from([("alice".parse().expect("a name"), hash)]);
        Users::new(hashes, Arc::new(Semaphore::new(1))).expect("random numbers").expect("users")
    }

    fn basic(text: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(text))).expect("a header")
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_let_in() {
        let users = users();
        for _ in 0..3 {
            assert!(users.admit(Some(&basic("alice:secret"))).await);
            for wrong in
                ["alice:secre", "alice:", "bob:secret", ":secret", "alice", "", "alice:secret\0", "Alice:secret"]
            {
                assert!(!users.admit(Some(&basic(wrong))).await, "{wrong:?}");
            }
        }
        assert_eq!(users.verified.lock().expect("not poisoned").len(), 1);
        let lower = HeaderValue::from_str(&format!("bAsIc {}", STANDARD.encode("alice:secret"))).expect("a header");
        assert!(users.admit(Some(&lower)).await);
        for header in ["", "Basic", "Basic ", "Basic !!!", "Bearer YWxpY2U6c2VjcmV0", "Basic YWxpY2U6c2VjcmV"] {
            assert!(!users.admit(Some(&HeaderValue::from_static(header))).await, "{header:?}");
        }
        assert!(!users.admit(None).await);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let long = "x".repeat(72);
        let hash = bcrypt::hash(&long, 4).expect("hashed").parse().expect("a hash");
        let hashes = BTreeMap::from([("alice".parse().expect("a name"), hash)]);
        let users = Users::new(hashes, Arc::new(Semaphore::new(1))).expect("random numbers").expect("users");
        for number in 0..REMEMBERED + 10 {
            assert!(users.admit(Some(&basic(&format!("alice:{long}{number}")))).await);
        }
        assert_eq!(users.verified.lock().expect("not poisoned").len(), REMEMBERED);
    }

    #[test]
    fn nobody_prints_a_hash() {
        assert!(!format!("{:?}", users()).contains("$2"));
    }
}
