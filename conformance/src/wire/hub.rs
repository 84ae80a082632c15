//! Hub messages as JSON text and MessagePack bytes, written the way clients write them.

use rmpv::Value as Pack;
use serde_json::{Value, json};

/// The record separator that ends every JSON message.
pub const SEPARATOR: char = '\u{1e}';

/// The handshake request of the official clients.
#[must_use]
pub fn handshake(protocol: &str, version: i64) -> String {
    format!("{{\"protocol\":\"{protocol}\",\"version\":{version}}}{SEPARATOR}")
}

/// A JSON invocation with an id.
#[must_use]
pub fn invocation(id: &str, target: &str, arguments: &Value) -> String {
    record(&json!({"type": 1, "invocationId": id, "target": target, "arguments": arguments}))
}

/// A JSON invocation that wants no completion.
#[must_use]
pub fn send(target: &str, arguments: &Value) -> String {
    record(&json!({"type": 1, "target": target, "arguments": arguments}))
}

/// Any JSON message.
#[must_use]
pub fn record(message: &Value) -> String {
    format!("{message}{SEPARATOR}")
}

/// A JSON completion with a result, as the server writes it.
#[must_use]
pub fn completion(id: &str, result: &Value) -> String {
    format!("{{\"type\":3,\"invocationId\":{},\"result\":{result}}}", json!(id))
}

/// A JSON Ping.
#[must_use]
pub fn ping() -> String {
    record(&json!({"type": 6}))
}

/// A JSON Close without error.
#[must_use]
pub fn close() -> String {
    record(&json!({"type": 7}))
}

/// Splits text into its complete records; the rest is what follows the last separator.
#[must_use]
pub fn split(text: &str) -> (Vec<String>, String) {
    let mut parts: Vec<String> = text.split(SEPARATOR).map(str::to_owned).collect();
    let rest = parts.pop().unwrap_or_default();
    (parts, rest)
}

/// A MessagePack message with its length prefix.
#[must_use]
pub fn packed(items: Vec<Pack>) -> Vec<u8> {
    let mut body = Vec::new();
    // Writing to a vector cannot fail.
    let _ = rmpv::encode::write_value(&mut body, &Pack::Array(items));
    let mut bytes = Vec::new();
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&body);
    bytes
}

/// A MessagePack invocation with an id, five items, as JS clients write it.
#[must_use]
pub fn packed_invocation(id: &str, target: &str, arguments: Vec<Pack>) -> Vec<u8> {
    packed(vec![
        1.into(),
        Pack::Map(Vec::new()),
        if id.is_empty() { Pack::Nil } else { id.into() },
        target.into(),
        Pack::Array(arguments),
    ])
}

/// A MessagePack completion with a result.
#[must_use]
pub fn packed_completion(id: &str, result: Pack) -> Vec<u8> {
    packed(vec![3.into(), Pack::Map(Vec::new()), id.into(), 3.into(), result])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_the_recorded_bytes() {
        assert_eq!("09950380a13103a26869", crate::wire::hex(&packed_completion("1", "hi".into())));
        assert_eq!(r#"{"type":3,"invocationId":"1","result":"x"}"#, completion("1", &json!("x")));
    }
}
