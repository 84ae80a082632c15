//! The few words of SignalR that these tests speak themselves.

use super::front::Front;
use super::wire::{Answer, Frame, Wire, request_bytes};

/// The handshake request of `json`.
pub const HANDSHAKE: &str = "{\"protocol\":\"json\",\"version\":1}\u{1e}";
/// The answer to it.
pub const SHAKEN: &str = "{}\u{1e}";
/// What the gateway says when it ends a connection in good order.
pub const FAREWELL: &str = "{\"type\":7,\"allowReconnect\":true}\u{1e}";

/// The key of RFC 6455's example.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A hub's answer to negotiate, all transports offered.
pub fn negotiate_answer(id: &str, token: &str) -> String {
    let transport = |name: &str, formats: &str| format!(r#"{{"transport":"{name}","transferFormats":[{formats}]}}"#);
    let transports = [
        transport("WebSockets", r#""Text","Binary""#),
        transport("ServerSentEvents", r#""Text""#),
        transport("LongPolling", r#""Text","Binary""#),
    ]
    .join(",");
    format!(
        r#"{{"negotiateVersion":1,"connectionId":"{id}","connectionToken":"{token}","availableTransports":[{transports}]}}"#
    )
}

/// What a client got from negotiate.
#[derive(Debug, Clone)]
pub struct Negotiated {
    pub answer: Answer,
    pub id: String,
    /// What goes into `id=`.
    pub token: String,
}

impl Negotiated {
    pub fn of(answer: Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let id = text("connectionId").unwrap_or_else(|| panic!("{json}"));
        Self { token: text("connectionToken").unwrap_or_else(|| id.clone()), id, answer }
    }
}

/// Negotiates version 1; `more` are header lines.
pub async fn negotiate(front: &Front, hub: &str) -> Negotiated {
    Negotiated::of(front.post(&format!("{hub}/negotiate?negotiateVersion=1"), "").await)
}

/// The bytes of an upgrade request; `more` are header lines.
pub fn upgrade(target: &str, more: &str) -> Vec<u8> {
    let request = format!(
        "GET {target}\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: {KEY}\n{more}"
    );
    request_bytes(&request, b"")
}

/// Asks for a WebSocket; another answer than 101 comes back as the error.
pub async fn web_socket(front: &Front, target: &str) -> Result<Wire, Answer> {
    let mut wire = front.connect().await;
    wire.send(upgrade(target, "")).await;
    let answer = wire.answer_head().await;
    if answer.status == 101 {
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        return Ok(wire);
    }
    Err(answer)
}

/// Negotiates, opens a WebSocket and shakes hands with a real hub.
pub async fn connect(front: &Front, hub: &str) -> Wire {
    let negotiated = negotiate(front, hub).await;
    let mut wire = web_socket(front, &format!("{hub}?id={}", negotiated.token)).await.unwrap();
    wire.send_text(HANDSHAKE).await;
    assert_eq!(wire.frame().await, Frame::text(SHAKEN));
    wire
}

/// Calls a method of a real hub over a WebSocket and gives its result.
pub async fn invoke(wire: &mut Wire, target: &str, arguments: &str) -> serde_json::Value {
    let call =
        format!("{{\"type\":1,\"invocationId\":\"1\",\"target\":\"{target}\",\"arguments\":[{arguments}]}}\u{1e}");
    wire.send_text(call).await;
    loop {
        let frame = wire.frame().await;
        for record in frame.as_text().split_terminator('\u{1e}') {
            let message: serde_json::Value = serde_json::from_str(record).unwrap();
            if message["type"] == 3 {
                return message["result"].clone();
            }
        }
    }
}
