//! Signed tokens made by hand.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// What HS256 signs with; etcd asks for no length.
pub const SECRET: &[u8] = b"a secret of the matrix, 32 bytes";

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// `header.claims`, as it is signed.
pub fn unsigned(algorithm: &str, claims: &Value) -> String {
    let header = json!({ "alg": algorithm, "typ": "JWT" });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(&header), part(claims))
}

pub fn signed(unsigned: &str, signature: &[u8]) -> String {
    format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What a member's own tokens say.
pub fn claims(user: &str, revision: u64, expires: u64) -> Value {
    json!({ "username": user, "revision": revision, "exp": expires })
}

/// A token by HS256 and [`SECRET`].
pub fn hs256(claims: &Value) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let text = unsigned("HS256", claims);
    let signature = ring::hmac::sign(&key, text.as_bytes());
    signed(&text, signature.as_ref())
}
