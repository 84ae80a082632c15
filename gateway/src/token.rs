//! Connection tokens: what a client presents as `id`, sealed so that only gateways with the key can read it.
//!
//! Why: the token itself names route, backend and the hub's own token, so that any gateway that shares the keys takes
//! any connect without a table (rule A1, architecture decision 2). To everybody else it is noise.
//!
//! Layout before base64url: format version (1 byte) · key id (4) · salt (16, random) · sealed contents · tag (16).
//! The AES-256-GCM key of each token comes from the configured key and the token's salt through HKDF-SHA256, so every
//! token has its own key and a fixed nonce is safe, however many tokens there are. The salt is the token's id.
//!
//! Invariant: [`TokenKeys::open`] gives back exactly what a holder of a key sealed, or an error; it never panics.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hkdf, hmac};
use thiserror::Error;

use crate::config::Digest;
use crate::secret::Secret;

/// The most characters of a token (rule A1).
pub const TOKEN_CHARS_MAX: usize = 300;

const FORMAT: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES;
const HUB_BYTES: usize = 16;
const TOKEN_BYTES_MAX: usize = TOKEN_CHARS_MAX / 4 * 3;

/// Why a token cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// The system gives no random numbers; nothing can be sealed safely.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// A key was refused by the cipher.
    #[error("the key cannot be used")]
    Key,
}

/// Why a text is no token of ours. To the client each is 404: nothing is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// It is not base64url, too short or too long, or of another format.
    #[error("not a connection token")]
    Malformed,
    /// No key with its key id is known here (another installation, or a key that was taken away).
    #[error("sealed with a key that is not known here")]
    UnknownKey,
    /// The key is known and the seal is broken.
    #[error("the seal is broken")]
    Forged,
}

/// The digest of a hub path ([`crate::path::NormalPath::hub`] form) to which a token is bound (rule A3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HubDigest([u8; HUB_BYTES]);

impl HubDigest {
    /// Digests a hub path: folded, without trailing slash.
    pub fn of(hub: &str) -> Self {
        let whole = digest::digest(&digest::SHA256, hub.as_bytes());
        let mut bytes = [0; HUB_BYTES];
        bytes.iter_mut().zip(whole.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

impl fmt::Debug for HubDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The route that negotiated ([`crate::config::Route::digest`]).
    pub route: Digest,
    /// The backend, at one of its addresses ([`crate::config::Server::digest`]).
    pub backend: Digest,
    /// The hub path it is good for (rule A3).
    pub hub: HubDigest,
    /// The negotiate version that the client was answered: 0 or 1.
    pub negotiate_version: u8,
    /// Whether the client was granted stateful reconnect (rule I1).
    pub stateful: bool,
    /// Until when the first transport may attach (rule A2), in whole seconds.
    pub expires: SystemTime,
    /// The hub's own connection token.
    pub backend_token: Secret,
}

impl Contents {
    /// Tells whether the time for the first attach is over (rule A2).
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now > self.expires
    }
}

/// The random number that no other token has; it names a connection in tables and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId([u8; SALT_BYTES]);

impl fmt::Debug for TokenId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TokenId([redacted])")
    }
}

/// A sealed token, or the word that its contents do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// At most [`TOKEN_CHARS_MAX`] unreserved characters.
    Token(Secret, TokenId),
    /// The backend's token is too long: the caller keeps the contents in a table under [`random_token`].
    TooLong,
}

/// The keys of this node: the first one seals, all open.
pub struct TokenKeys {
    keys: Vec<Key>,
    random: SystemRandom,
    is_random: bool,
}

struct Key {
    id: [u8; KEY_ID_BYTES],
    secret: Secret,
}

impl Key {
    fn new(secret: Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let tag = hmac::sign(&key, b"hubgate key id 1");
        let mut id = [0; KEY_ID_BYTES];
        id.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Self { id, secret }
    }

    /// The cipher of the one token that has this salt.
    fn cipher(&self, salt: &[u8]) -> Result<LessSafeKey, Error> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.secret.expose().as_bytes());
        let info: &[&[u8]] = &[b"hubgate connection token 1"];
        let key = extracted.expand(info, &AES_256_GCM).map_err(|_| Error::Key)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl TokenKeys {
    /// Takes the configured keys, the sealing one first; without any, makes a random one (rule A1).
    ///
    /// # Errors
    /// [`Error::NoRandomness`].
    pub fn new(secrets: &[Secret]) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let mut keys: Vec<Key> = secrets.iter().cloned().map(Key::new).collect();
        let is_random = keys.is_empty();
        if is_random {
            let mut bytes = [0; 32];
            random.fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
            keys.push(Key::new(Secret::from(URL_SAFE_NO_PAD.encode(bytes))));
        }
        Ok(Self { keys, random, is_random })
    }

    /// The keys after a reload; a random key is kept while no keys are configured, so that its tokens stay good.
    ///
    /// # Errors
    /// [`Error::NoRandomness`].
    pub fn reloaded(&self, secrets: &[Secret]) -> Result<Self, Error> {
        if !secrets.is_empty() || !self.is_random {
            return Self::new(secrets);
        }
        let keys = self.keys.iter().map(|key| Key { id: key.id, secret: key.secret.clone() }).collect();
        Ok(Self { keys, random: SystemRandom::new(), is_random: true })
    }

    /// Tells whether the key was made at start (log it: tokens do not outlive the process then).
    pub fn is_random(&self) -> bool {
        self.is_random
    }

    /// Seals `contents` with the first key.
    ///
    /// # Errors
    /// [`Error`]; contents that do not fit are no error but [`Sealed::TooLong`].
    pub fn seal(&self, contents: &Contents) -> Result<Sealed, Error> {
        let key = self.keys.first().ok_or(Error::Key)?;
        let mut plain = encode(contents);
        if HEADER_BYTES + SALT_BYTES + plain.len() + TAG_BYTES > TOKEN_BYTES_MAX {
            return Ok(Sealed::TooLong);
        }
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| Error::NoRandomness)?;
        let mut token = Vec::with_capacity(HEADER_BYTES + SALT_BYTES + plain.len() + TAG_BYTES);
        token.push(FORMAT);
        token.extend_from_slice(&key.id);
        let cipher = key.cipher(&salt)?;
        cipher.seal_in_place_append_tag(nonce(), Aad::from(&token), &mut plain).map_err(|_| Error::Key)?;
        token.extend_from_slice(&salt);
        token.extend_from_slice(&plain);
        Ok(Sealed::Token(Secret::from(URL_SAFE_NO_PAD.encode(token)), TokenId(salt)))
    }

    /// Keyed digests of `data` under `label`, one per key, the sealing key's first (for marks such as rule D6's).
    pub fn marks<'a>(&'a self, label: &'a str, data: &'a [u8]) -> impl Iterator<Item = [u8; SALT_BYTES]> + use<'a> {
        self.keys.iter().map(move |key| {
            let mut context =
                hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.secret.expose().as_bytes()));
            context.update(label.as_bytes());
            context.update(&[0]);
            context.update(data);
            let mut mark = [0; SALT_BYTES];
            mark.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
            mark
        })
    }

    /// Opens what a client presents. Expiry is not looked at: it bounds the first attach only (rule A2).
    ///
    /// # Errors
    /// [`OpenError`]; the time it takes does not depend on how much of a seal is right.
    pub fn open(&self, token: &[u8]) -> Result<(Contents, TokenId), OpenError> {
        if token.len() > TOKEN_CHARS_MAX {
            return Err(OpenError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| OpenError::Malformed)?;
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(OpenError::Malformed)?;
        let (format, id) = header.split_first().ok_or(OpenError::Malformed)?;
        let (salt, sealed) = rest.split_first_chunk::<SALT_BYTES>().ok_or(OpenError::Malformed)?;
        if *format != FORMAT || sealed.len() < TAG_BYTES {
            return Err(OpenError::Malformed);
        }
        let mut outcome = OpenError::UnknownKey;
        for key in self.keys.iter().filter(|key| key.id == *id) {
            outcome = OpenError::Forged;
            let mut sealed = sealed.to_vec();
            let cipher = key.cipher(salt).map_err(|_| OpenError::Forged)?;
            if let Ok(plain) = cipher.open_in_place(nonce(), Aad::from(header), &mut sealed) {
                return decode(plain).map(|contents| (contents, TokenId(*salt))).ok_or(OpenError::Malformed);
            }
        }
        Err(outcome)
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TokenKeys({}, is_random: {})", self.keys.len(), self.is_random)
    }
}

/// A token of 22 random characters that says nothing, for contents that are kept in a table.
///
/// # Errors
/// [`Error::NoRandomness`].
pub fn random_token() -> Result<Secret, Error> {
    let mut bytes = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(Secret::from(URL_SAFE_NO_PAD.encode(bytes)))
}

/// Always the same: each key is used for one token only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// The bit beside the negotiate version that says [`Contents::stateful`].
const STATEFUL: u8 = 0x80;

fn encode(contents: &Contents) -> Vec<u8> {
    let expires = contents.expires.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let token = contents.backend_token.expose().as_bytes();
    let mut plain = Vec::with_capacity(2 * Digest::BYTES + HUB_BYTES + 9 + token.len() + TAG_BYTES);
    plain.extend_from_slice(&contents.route.to_bytes());
    plain.extend_from_slice(&contents.backend.to_bytes());
    plain.extend_from_slice(&contents.hub.0);
    plain.extend_from_slice(&expires.to_be_bytes());
    plain.push(contents.negotiate_version | if contents.stateful { STATEFUL } else { 0 });
    plain.extend_from_slice(token);
    plain
}

fn decode(plain: &[u8]) -> Option<Contents> {
    let (route, rest) = plain.split_first_chunk()?;
    let (backend, rest) = rest.split_first_chunk()?;
    let (hub, rest) = rest.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (flags, token) = rest.split_first()?;
    let expires = Duration::from_secs(u64::from_be_bytes(*expires));
    Some(Contents {
        route: Digest::from_bytes(*route),
        backend: Digest::from_bytes(*backend),
        hub: HubDigest(*hub),
        negotiate_version: *flags & !STATEFUL,
        stateful: *flags & STATEFUL != 0,
        expires: SystemTime::UNIX_EPOCH.checked_add(expires)?,
        backend_token: Secret::new(std::str::from_utf8(token).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contents(backend_token: &str) -> Contents {
        Contents {
            route: Digest::of("route", []),
            backend: Digest::of("backend", []),
            hub: HubDigest::of("/CHAT"),
            negotiate_version: 1,
            stateful: true,
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            backend_token: Secret::new(backend_token),
        }
    }

    fn keys(texts: &[&str]) -> TokenKeys {
        let secrets: Vec<Secret> = texts.iter().map(|text| Secret::from(text.repeat(32))).collect();
        TokenKeys::new(&secrets).expect("keys")
    }

    fn seal(keys: &TokenKeys, contents: &Contents) -> (Secret, TokenId) {
        match keys.seal(contents).expect("sealed") {
            Sealed::Token(token, id) => (token, id),
            Sealed::TooLong => panic!("too long"),
        }
    }

    #[test]
    fn er_a1_what_is_sealed_opens_and_is_url_safe() {
        let keys = keys(&["a"]);
        let sealed = contents("AbCdEfGhIjKlMnOpQrStUv");
        let (token, id) = seal(&keys, &sealed);
        assert_eq!(keys.open(token.expose().as_bytes()), Ok((sealed.clone(), id)));
        assert!(token.expose().len() <= 160, "{} characters", token.expose().len());
        assert!(token.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        let (again, other) = seal(&keys, &sealed);
        assert!(again != token && other != id, "each token is its own");
    }

    #[test]
    fn er_a1_replicas_with_the_same_keys_read_each_other() {
        let (token, _) = seal(&keys(&["a"]), &contents("t"));
        assert!(keys(&["a"]).open(token.expose().as_bytes()).is_ok());
        assert!(keys(&["b", "a"]).open(token.expose().as_bytes()).is_ok(), "an older key still opens");
        assert_eq!(keys(&["b"]).open(token.expose().as_bytes()), Err(OpenError::UnknownKey));
    }

    #[test]
    fn er_a1_a_random_key_outlives_a_reload_and_no_process() {
        let first = TokenKeys::new(&[]).expect("keys");
        let (token, _) = seal(&first, &contents("t"));
        assert!(first.is_random());
        assert!(first.reloaded(&[]).expect("keys").open(token.expose().as_bytes()).is_ok());
        assert!(TokenKeys::new(&[]).expect("keys").open(token.expose().as_bytes()).is_err());
        let configured = first.reloaded(&[Secret::from("k".repeat(32))]).expect("keys");
        assert!(!configured.is_random() && configured.open(token.expose().as_bytes()).is_err());
    }

    #[test]
    fn er_a1_what_does_not_fit_is_said() {
        let keys = keys(&["a"]);
        let longest = (1..300).rev().find(|length| keys.seal(&contents(&"t".repeat(*length))) != Ok(Sealed::TooLong));
        let (token, _) = seal(&keys, &contents(&"t".repeat(longest.expect("some fit"))));
        assert_eq!(token.expose().len(), TOKEN_CHARS_MAX);
        assert_eq!(keys.seal(&contents(&"t".repeat(4_000))), Ok(Sealed::TooLong));
        assert_eq!(random_token().expect("random").expose().len(), 22);
    }

    #[test]
    fn er_a1_every_changed_character_is_refused() {
        let keys = keys(&["a"]);
        let (token, _) = seal(&keys, &contents("AbCdEfGhIjKlMnOpQrStUv"));
        let token = token.expose().as_bytes();
        for at in 0..token.len() {
            for other in [b'A', b'Q', b'_', b'+', b'=', b' ', 0xff] {
                let mut changed = token.to_vec();
                changed[at] = other;
                assert!(changed == token || keys.open(&changed).is_err(), "character {at} as {other}");
            }
            assert!(keys.open(&token[..at]).is_err(), "cut at {at}");
        }
        assert!(keys.open(&[token, b"A"].concat()).is_err());
    }

    #[test]
    fn er_a2_expiry_is_a_question_of_its_own() {
        let contents = contents("t");
        assert!(!contents.is_expired(contents.expires));
        assert!(contents.is_expired(contents.expires + Duration::from_secs(1)));
    }

    #[test]
    fn er_a3_hub_paths_are_told_apart() {
        assert_eq!(HubDigest::of("/CHAT"), HubDigest::of("/CHAT"));
        assert_ne!(HubDigest::of("/CHAT"), HubDigest::of("/CHATS"));
    }

    #[test]
    fn a9_nothing_secret_is_printed() {
        let keys = TokenKeys::new(&[Secret::from("SECRET".repeat(6))]).expect("keys");
        let contents = contents("SECRETTOKEN");
        let sealed = keys.seal(&contents).expect("sealed");
        let Sealed::Token(token, id) = &sealed else { panic!("too long") };
        let printed = format!("{keys:?} {contents:?} {sealed:?} {id:?}");
        assert!(!printed.contains("SECRET") && !printed.contains(token.expose()), "{printed}");
    }

    proptest! {
        #[test]
        fn er_a1_garbage_never_opens(token in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(keys(&["a"]).open(&token).is_err());
        }

        #[test]
        fn er_a1_garbage_behind_a_good_header_never_opens(rest in proptest::collection::vec(any::<u8>(), 0..230)) {
            let keys = keys(&["a"]);
            let mut bytes = vec![FORMAT];
            bytes.extend_from_slice(&keys.keys[0].id);
            bytes.extend_from_slice(&rest);
            prop_assert!(keys.open(URL_SAFE_NO_PAD.encode(&bytes).as_bytes()).is_err());
        }

        #[test]
        fn er_a1_round_trip(backend_token in "[a-zA-Z0-9_~.ä-]{0,100}", version in 0u8..2, seconds in 0u64..1 << 40) {
            let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let contents = Contents { negotiate_version: version, expires, ..contents(&backend_token) };
            let keys = keys(&["a", "b"]);
            let (token, id) = seal(&keys, &contents);
            prop_assert_eq!(keys.open(token.expose().as_bytes()), Ok((contents, id)));
        }
    }
}
