//! Tokens that the contract hub accepts: HS256 with its published key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

/// The key of the contract hub (docs/guide/contract-hub.md).
const KEY: &[u8] = b"hubgate-contract-hub-signing-key-0123456789";

/// A token for that `sub`, valid for an hour.
#[must_use]
pub fn of(subject: &str) -> String {
    expiring(subject, Duration::from_secs(3600))
}

/// A token for that `sub`, valid for `time`.
#[must_use]
pub fn expiring(subject: &str, time: Duration) -> String {
    signed(&json!({"sub": subject, "exp": now_and(time)}))
}

/// A token for that `sub` with the role `admin`.
#[must_use]
pub fn admin(subject: &str) -> String {
    signed(&json!({"sub": subject, "role": "admin", "exp": now_and(Duration::from_secs(3600))}))
}

fn now_and(time: Duration) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(time).as_secs()
}

fn signed(claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    let signature = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(signature))
}
