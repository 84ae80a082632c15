//! Who a client says it is, and which of its credentials the hub has seen.
//!
//! Why: the hub authorises the connect; later polls, POSTs and DELETEs end at the gateway. It must not let another user
//! continue a connection (rule A4), nor credentials pass that the hub never saw (rule A5). It verifies nothing itself:
//! the subject of a JWT is read as it stands, and the hub, which has the keys, is asked about everything new.
//!
//! Invariant: no credential is kept, only a keyed fingerprint of it.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use ring::hmac;
use ring::rand::SystemRandom;
use serde::Deserialize;

use crate::cookie;
use crate::query::Query;

/// The longest token whose contents are read; longer ones count as opaque.
const TOKEN_CHARS_MAX: usize = 16 * 1024;

/// The most credentials that one connection remembers; the oldest go first.
const REMEMBERED_MAX: usize = 8;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A user as a JWT names it, unverified: issuer and subject (rule A4).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    issuer: Box<str>,
    subject: Box<str>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Identity([redacted])")
    }
}

/// What is readable in a JWT without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// The user, if it names one.
    pub identity: Option<Identity>,
    /// When it ends, if it says so.
    pub expires: Option<SystemTime>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<serde_json::Value>,
    sub: Option<serde_json::Value>,
    nameid: Option<serde_json::Value>,
    #[serde(rename = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier")]
    name_identifier: Option<serde_json::Value>,
    exp: Option<f64>,
}

impl Jwt {
    /// Reads a JWT; `None` for any other token (opaque ones bind nothing).
    pub fn read(token: &str) -> Option<Self> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&LENIENT.decode(payload).ok()?).ok()?;
        let subject = [claims.sub, claims.nameid, claims.name_identifier].into_iter().flatten().find_map(text);
        let issuer = claims.iss.and_then(text).unwrap_or_default();
        let seconds = claims.exp.filter(|seconds| (0.0..1e12).contains(seconds));
        Some(Self {
            identity: subject.map(|subject| Identity { issuer, subject }),
            expires: seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)),
        })
    }
}

fn text(value: serde_json::Value) -> Option<Box<str>> {
    match value {
        serde_json::Value::String(text) => Some(text.into()),
        serde_json::Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// Makes fingerprints under a key of this process, so that they tell nothing elsewhere.
pub struct Fingerprints(hmac::Key);

impl Fingerprints {
    /// Makes the key.
    ///
    /// # Errors
    /// [`crate::token::Error::NoRandomness`].
    pub fn new() -> Result<Self, crate::token::Error> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.map(Self).map_err(|_| crate::token::Error::NoRandomness)
    }

    /// Takes the fingerprint of a request's credentials, and reads the JWTs among them.
    ///
    /// `Authorization: Bearer x` and `access_token=x` are the same credential, since clients use the one or the other by
    /// transport (signalr-wire §14.1). Of cookies, attributes and the gateway's own are left out.
    pub fn credentials(&self, headers: &HeaderMap, query: Query<'_>) -> Credentials {
        let mut context = hmac::Context::with_key(&self.0);
        let mut jwts = Vec::new();
        let mut is_present = false;
        let mut note = |kind: u8, value: &[u8]| {
            context.update(&[kind]);
            context.update(&(value.len() as u64).to_be_bytes());
            context.update(value);
            is_present = true;
        };
        let mut tokens: Vec<String> = Vec::new();
        for value in headers.get_all(AUTHORIZATION) {
            match value.to_str().ok().and_then(bearer) {
                Some("") => {}
                Some(token) => tokens.push(token.to_owned()),
                None => note(b'a', value.as_bytes()),
            }
        }
        tokens.extend(query.access_token().map(std::borrow::Cow::into_owned));
        tokens.dedup();
        for token in &tokens {
            note(b't', token.as_bytes());
            jwts.extend(Jwt::read(token));
        }
        let mut cookies: Vec<(&str, &str)> = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(cookie::pairs)
            .filter(|(name, _)| !cookie::is_attribute(name) && !cookie::is_ours(name))
            .collect();
        cookies.sort_unstable();
        for (name, value) in cookies {
            note(b'n', name.as_bytes());
            note(b'c', value.as_bytes());
        }
        let tag = context.sign();
        let mut fingerprint = [0; 16];
        fingerprint.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Credentials { fingerprint: Fingerprint(fingerprint), jwts, is_present }
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Fingerprints([redacted])")
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Stands for credentials that are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

/// What a request shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    fingerprint: Fingerprint,
    jwts: Vec<Jwt>,
    is_present: bool,
}

impl Credentials {
    /// Tells whether there are any.
    pub fn is_present(&self) -> bool {
        self.is_present
    }

    /// The first user that a JWT names; none for opaque tokens and cookies.
    pub fn identity(&self) -> Option<&Identity> {
        self.jwts.iter().find_map(|jwt| jwt.identity.as_ref())
    }

    /// The earliest end of the JWTs.
    pub fn expires(&self) -> Option<SystemTime> {
        self.jwts.iter().filter_map(|jwt| jwt.expires).min()
    }

    fn is_expired(&self, now: SystemTime) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }
}

/// What becomes of a request by its credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The hub has seen these; the request goes on.
    Known,
    /// The hub is asked first (rule A5).
    AskHub,
    /// Another user's: 403 (rule A4).
    AnotherUser,
}

/// The user of a connection and the credentials that its hub has admitted.
#[derive(Debug, Clone)]
pub struct Admission {
    identity: Option<Identity>,
    remembered: VecDeque<(Fingerprint, Option<SystemTime>)>,
}

impl Admission {
    /// Begins with the credentials of the first transport request, which the hub has accepted (rule A4).
    ///
    /// They stay known until their `exp`. With `bind_identity` off no user is held on to.
    pub fn new(first: &Credentials, bind_identity: bool) -> Self {
        let identity = first.identity().filter(|_| bind_identity).cloned();
        Self { identity, remembered: VecDeque::from([(first.fingerprint, first.expires())]) }
    }

    /// Judges a later request of the connection.
    pub fn judge(&self, credentials: &Credentials, now: SystemTime) -> Verdict {
        if let Some(bound) = &self.identity {
            let mut named = credentials.jwts.iter().filter_map(|jwt| jwt.identity.as_ref());
            if named.any(|other| other != bound) {
                return Verdict::AnotherUser;
            }
        }
        let is_known = self.remembered.iter().any(|(fingerprint, until)| {
            *fingerprint == credentials.fingerprint && until.is_none_or(|until| now < until)
        });
        if is_known && !credentials.is_expired(now) { Verdict::Known } else { Verdict::AskHub }
    }

    /// Remembers credentials that the hub has admitted: until `exp`, at most for `memory` (rule A5).
    pub fn remember(&mut self, credentials: &Credentials, now: SystemTime, memory: Duration) {
        let end = now + memory;
        let until = match credentials.expires() {
            Some(expires) if expires > now => expires.min(end),
            _ => end,
        };
        self.remembered.retain(|(fingerprint, _)| *fingerprint != credentials.fingerprint);
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back((credentials.fingerprint, Some(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn of(lines: &[(&'static str, String)], query: &str) -> Credentials {
        static KEY: std::sync::LazyLock<Fingerprints> =
            std::sync::LazyLock::new(|| Fingerprints::new().expect("a key"));
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        KEY.credentials(&headers, Query::new(query))
    }

    fn bearer_of(claims: &str) -> Credentials {
        of(&[("authorization", format!("Bearer {}", jwt(claims)))], "")
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn er_a4_reads_issuer_and_subject_unverified() {
        let alice = Jwt::read(&jwt(r#"{"iss":"i","sub":"alice","exp":100}"#)).expect("a JWT");
        assert_eq!(alice.expires, Some(at(100)));
        let same = [r#"{"iss":"i","nameid":"alice"}"#, r#"{"sub":"alice","iss":"i","x":[{}]}"#];
        for claims in same {
            assert_eq!(Jwt::read(&jwt(claims)).expect("a JWT").identity, alice.identity, "{claims}");
        }
        for claims in [r#"{"iss":"j","sub":"alice"}"#, r#"{"sub":"alice"}"#, r#"{"iss":"i","sub":"Alice"}"#] {
            assert_ne!(Jwt::read(&jwt(claims)).expect("a JWT").identity, alice.identity, "{claims}");
        }
        let nobody = Jwt::read(&jwt(r#"{"iss":"i"}"#)).expect("a JWT");
        assert_eq!(nobody, Jwt { identity: None, expires: None });
        for opaque in ["", "abc", "a.b", "a.b.c", "a.e30.c.d", "..", &jwt("[]"), &jwt("{"), &jwt(r#"{"exp":"x"}"#)] {
            assert_eq!(Jwt::read(opaque), None, "{opaque}");
        }
    }

    #[test]
    fn er_a4_the_first_transport_request_fixes_the_user() {
        let admission = Admission::new(&bearer_of(r#"{"iss":"i","sub":"alice","exp":100}"#), true);
        let fresh = bearer_of(r#"{"iss":"i","sub":"alice","exp":200}"#);
        let mallory = bearer_of(r#"{"iss":"i","sub":"mallory","exp":200}"#);
        assert_eq!(admission.judge(&fresh, at(1)), Verdict::AskHub, "passes, and is shown to the hub");
        assert_eq!(admission.judge(&mallory, at(1)), Verdict::AnotherUser);
        assert_eq!(admission.judge(&of(&[("authorization", "Bearer opaque".into())], ""), at(1)), Verdict::AskHub);
        let unbound = Admission::new(&bearer_of(r#"{"iss":"i","sub":"alice"}"#), false);
        assert_eq!(unbound.judge(&mallory, at(1)), Verdict::AskHub);
        let from_nobody = Admission::new(&of(&[], ""), true);
        assert_eq!(from_nobody.judge(&mallory, at(1)), Verdict::AskHub);
    }

    #[test]
    fn er_a4_a_second_token_cannot_hide_another_user() {
        let admission = Admission::new(&bearer_of(r#"{"sub":"alice"}"#), true);
        let (alice, mallory) = (jwt(r#"{"sub":"alice"}"#), jwt(r#"{"sub":"mallory"}"#));
        let both = of(&[("authorization", format!("Bearer {alice}"))], &format!("access_token={mallory}"));
        assert_eq!(admission.judge(&both, at(1)), Verdict::AnotherUser);
    }

    #[test]
    fn er_a5_known_credentials_pass_and_all_else_is_shown_to_the_hub() {
        let first = of(&[("authorization", "Bearer t".into()), ("cookie", "s=1; t=2".into())], "");
        let mut admission = Admission::new(&first, true);
        for same in [
            of(&[("authorization", "bearer  t".into()), ("cookie", "t=2; s=1".into())], "id=x"),
            of(&[("cookie", "s=1; Path=/; HttpOnly; t=2; SameSite=Lax".into())], "access_token=%74"),
            of(&[("cookie", "s=1".into()), ("cookie", "t=2; hubgate-affinity-00=x".into())], "access_token=t"),
            of(&[("authorization", "Bearer t".into()), ("cookie", "t=2; s=1".into())], "access_token=t"),
        ] {
            assert_eq!(admission.judge(&same, at(1)), Verdict::Known);
        }
        for other in [
            of(&[], ""),
            of(&[("authorization", "Bearer t".into())], ""),
            of(&[("authorization", "Basic t".into()), ("cookie", "s=1; t=2".into())], ""),
            of(&[("authorization", "Bearer u".into()), ("cookie", "s=1; t=2".into())], ""),
            of(&[("authorization", "Bearer t".into()), ("cookie", "s=1; t=3".into())], ""),
            of(&[("authorization", "Bearer t".into()), ("cookie", "s=1; t=2".into())], "access_token=u"),
        ] {
            assert_eq!(admission.judge(&other, at(1)), Verdict::AskHub);
            admission.remember(&other, at(1), Duration::from_secs(60));
            assert_eq!(admission.judge(&other, at(60)), Verdict::Known);
            assert_eq!(admission.judge(&other, at(61)), Verdict::AskHub, "at most 60 s");
        }
        assert_eq!(admission.judge(&first, at(1_000_000)), Verdict::Known, "the connect's own stay");
    }

    #[test]
    fn er_a5_a_jwt_past_its_exp_is_shown_to_the_hub() {
        let first = bearer_of(r#"{"sub":"alice","exp":100}"#);
        let mut admission = Admission::new(&first, true);
        assert_eq!(admission.judge(&first, at(99)), Verdict::Known);
        assert_eq!(admission.judge(&first, at(100)), Verdict::AskHub);
        let later = bearer_of(r#"{"sub":"alice","exp":130}"#);
        admission.remember(&later, at(100), Duration::from_secs(60));
        assert_eq!(admission.judge(&later, at(129)), Verdict::Known);
        assert_eq!(admission.judge(&later, at(130)), Verdict::AskHub);
    }

    #[test]
    fn er_a5_what_is_remembered_is_bounded() {
        let mut admission = Admission::new(&of(&[], ""), true);
        for number in 0..100 {
            admission.remember(&of(&[], &format!("access_token={number}")), at(1), Duration::from_secs(60));
        }
        assert_eq!(admission.remembered.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a9_nothing_secret_is_printed() {
        let credentials = bearer_of(r#"{"sub":"alice"}"#);
        let admission = Admission::new(&credentials, true);
        let printed = format!("{credentials:?} {admission:?}");
        assert!(!printed.contains("alice") && !printed.contains("e30"), "{printed}");
    }

    proptest! {
        #[test]
        fn reading_never_panics(token in "\\PC{0,60}", claims in "\\PC{0,60}") {
            let _ = (Jwt::read(&token), Jwt::read(&jwt(&claims)));
        }
    }
}
