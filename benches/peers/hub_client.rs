//! One client of a hub over WebSockets or WebTransport with the JSON protocol, as the official clients connect: negotiate on one
//! connection, the transport with the connection token as `id` on another, handshake, calls, close.
//!
//! Invariant: what arrives is compared byte by byte with what was expected next; only a hub's pings may come between.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::Deserialize;

use crate::http;
use crate::line::{self, Line};
use crate::load::{Target, Way};
use crate::wire::{self, FrameTooLong};

const RECORD_SEPARATOR: u8 = 0x1e;
const PING_MESSAGE: &[u8] = b"{\"type\":6}\x1e";
const HANDSHAKE_RESPONSE: &[u8] = b"{}\x1e";
const ACK_START: &[u8] = b"{\"type\":8,";
/// Messages between two Acks: what comes in about a second, the pace of official clients.
const ACK_EVERY: u64 = 64;
const WEB_SOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEB_SOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How long a whole connect, or a close, may take before it counts as failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What went wrong between this client and the hub; each counts as one failure of a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{step} was answered with status {status:?}")]
    Status { step: &'static str, status: Option<u16> },
    #[error("the negotiate answer names no connection token")]
    NoToken,
    #[error("stateful reconnect is not granted")]
    NotStateful,
    #[error("the upgrade's accept key is wrong")]
    AcceptKey,
    #[error("expected {expected:?}, got {got:?}")]
    Unexpected { expected: String, got: String },
    #[error("the hub or the proxy closed the connection")]
    Closed,
    #[error("nothing within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error("WebTransport is not offered")]
    NoWebTransport,
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    Line(#[from] line::Error),
    #[error(transparent)]
    Frame(#[from] FrameTooLong),
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Negotiated {
    connection_token: Option<String>,
    #[serde(default)]
    use_stateful_reconnect: bool,
    #[serde(default)]
    available_transports: Vec<Offered>,
}

#[derive(Deserialize)]
struct Offered {
    transport: String,
    port: Option<u16>,
}

/// A connected client after its handshake.
#[derive(Debug)]
pub(crate) struct HubClient {
    line: Line,
    inbox: BytesMut,
    text: Vec<u8>,
    text_read: usize,
    outbox: Vec<u8>,
    mask: u32,
    /// Messages received with stateful reconnect; `None` without it.
    received: Option<u64>,
}

impl HubClient {
    /// Negotiates, opens the transport and shakes hands with the hub of `target`, within [`PATIENCE`].
    /// With stateful reconnect it acknowledges what it receives.
    pub(crate) async fn connect(target: Target) -> Result<Self, Error> {
        tokio::time::timeout(PATIENCE, async {
            let mut client = match target.way {
                Way::WebTransport(dialer) => {
                    let negotiated = negotiate(target).await?;
                    let port = negotiated.web_transport_port().ok_or(Error::NoWebTransport)?;
                    let id = percent_encoded(&negotiated.connection_token.ok_or(Error::NoToken)?);
                    Self::over(dialer.web_transport((target.address.ip(), port).into(), target.path, &id).await?)
                }
                Way::BareWebTransport(dialer) => {
                    // An echo of bytes knows no handshake.
                    return Ok(Self::over(dialer.web_transport(target.address, target.path, "none").await?));
                }
                Way::WebSockets | Way::SecureWebSockets(_) => {
                    let token = negotiate(target).await?.connection_token.ok_or(Error::NoToken)?;
                    Self::upgrade(target, &token).await?
                }
            };
            client.received = target.stateful.then_some(0);
            let version = if target.stateful { 2 } else { 1 };
            client.queue(format!("{{\"protocol\":\"json\",\"version\":{version}}}\x1e").as_bytes());
            client.flush().await?;
            client.expect(HANDSHAKE_RESPONSE).await?;
            if target.stateful {
                // Nothing is counted before a client's first word.
                client.queue_ping();
                client.flush().await?;
            }
            Ok(client)
        })
        .await
        .map_err(|_| Error::TimedOut)?
    }

    fn over(line: Line) -> Self {
        let (inbox, mask) = (BytesMut::new(), 0x9e37_79b9);
        Self { line, inbox, text: Vec::new(), text_read: 0, outbox: Vec::new(), mask, received: None }
    }

    async fn upgrade(target: Target, token: &str) -> Result<Self, Error> {
        let mut client = Self::over(target.line().await?);
        let (address, path, id) = (target.address, target.path, percent_encoded(token));
        let request = format!(
            "GET {path}?id={id} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEB_SOCKET_KEY}\r\n\r\n"
        );
        client.line.write_all(request.as_bytes()).await?;
        let head = http::read_head(&mut client.line, &mut client.inbox).await?.ok_or(Error::Closed)?;
        if head.status() != Some(101) {
            return Err(Error::Status { step: "the upgrade", status: head.status() });
        }
        if head.field("sec-websocket-accept") != Some(WEB_SOCKET_ACCEPT) {
            return Err(Error::AcceptKey);
        }
        Ok(client)
    }

    /// Takes one message, over WebSockets in a masked text frame of its own; [`Self::flush`] sends it.
    pub(crate) fn queue(&mut self, message: &[u8]) {
        if !self.line.is_framed() {
            self.outbox.extend_from_slice(message);
            return;
        }
        self.mask = self.mask.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        wire::put_frame(&mut self.outbox, wire::TEXT, Some(self.mask.to_be_bytes()), message);
    }

    /// Queues the ping that official clients send every 15 s.
    pub(crate) fn queue_ping(&mut self) {
        self.queue(PING_MESSAGE);
    }

    /// Sends all that is queued, in one write where the socket takes it.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.line.write_all(&self.outbox).await?;
        self.outbox.clear();
        Ok(())
    }

    /// Waits until more has arrived from the hub.
    pub(crate) async fn fill(&mut self) -> Result<(), Error> {
        self.inbox.reserve(4096);
        if self.line.read(&mut self.inbox).await? == 0 {
            return Err(Error::Closed);
        }
        if self.line.is_framed() {
            return self.unframe();
        }
        self.text.extend_from_slice(&self.inbox);
        self.inbox.clear();
        Ok(())
    }

    fn unframe(&mut self) -> Result<(), Error> {
        while let Some(header) = wire::frame_header(&self.inbox)? {
            let frame_bytes = header.header_bytes + header.payload_bytes;
            let Some(payload) = self.inbox.get(header.header_bytes..frame_bytes) else { break };
            match header.opcode {
                wire::TEXT | wire::BINARY | wire::CONTINUATION => self.text.extend_from_slice(payload),
                wire::PING => wire::put_frame(&mut self.outbox, wire::PONG, Some([0x5a; 4]), payload),
                wire::CLOSE => return Err(Error::Closed),
                _ => {}
            }
            self.inbox.advance(frame_bytes);
        }
        Ok(())
    }

    /// Takes `expected` from what has arrived; false while it has not arrived whole.
    pub(crate) fn take(&mut self, expected: &[u8]) -> Result<bool, Error> {
        loop {
            let unread = self.text.get(self.text_read..).unwrap_or_default();
            let (record_bytes, found) = if unread.starts_with(expected) {
                (expected.len(), true)
            } else {
                match unread.iter().position(|byte| *byte == RECORD_SEPARATOR) {
                    None => return Ok(false),
                    Some(end) => (end + 1, false),
                }
            };
            let record = unread.get(..record_bytes).unwrap_or_default();
            let acknowledges = self.received.is_some() && record.starts_with(ACK_START);
            if !found && record != PING_MESSAGE && !acknowledges {
                return Err(Error::Unexpected { expected: excerpt(expected), got: excerpt(record) });
            }
            self.text_read += record_bytes;
            if self.text_read >= self.text.len() {
                self.text.clear();
                self.text_read = 0;
            }
            if found {
                self.acknowledge(expected);
                return Ok(true);
            }
        }
    }

    /// Counts a message that came, and queues an Ack behind so many.
    fn acknowledge(&mut self, message: &[u8]) {
        let Some(received) = &mut self.received else { return };
        if message == PING_MESSAGE || message == HANDSHAKE_RESPONSE {
            return;
        }
        *received += 1;
        if received.is_multiple_of(ACK_EVERY) {
            let ack = format!("{{\"type\":8,\"sequenceId\":{received}}}\x1e");
            self.queue(ack.as_bytes());
        }
    }

    /// Drops the pings that have arrived; anything else is an error.
    pub(crate) fn drop_pings(&mut self) -> Result<(), Error> {
        while self.text.get(self.text_read..).is_some_and(|unread| !unread.is_empty()) {
            if !self.take(PING_MESSAGE)? {
                break;
            }
        }
        Ok(())
    }

    /// Waits for `expected`, however many reads it takes.
    pub(crate) async fn expect(&mut self, expected: &[u8]) -> Result<(), Error> {
        while !self.take(expected)? {
            self.fill().await?;
        }
        Ok(())
    }

    /// Sends one message and waits for its answer.
    pub(crate) async fn call(&mut self, request: &[u8], reply: &[u8]) -> Result<(), Error> {
        self.queue(request);
        self.flush().await?;
        tokio::time::timeout(PATIENCE, self.expect(reply)).await.map_err(|_| Error::TimedOut)?
    }

    /// Gives the buffers back, for a connection that will be idle.
    pub(crate) fn rest(&mut self) {
        if self.inbox.is_empty() && self.text.is_empty() {
            (self.inbox, self.text, self.outbox) = (BytesMut::new(), Vec::new(), Vec::new());
        }
    }

    /// Sends a close frame, or ends its half of the stream, and waits until the other side has ended the connection too.
    pub(crate) async fn close(mut self) -> Result<(), Error> {
        if self.line.is_framed() {
            wire::put_frame(&mut self.outbox, wire::CLOSE, Some([0xa5; 4]), &1000_u16.to_be_bytes());
        }
        self.flush().await?;
        tokio::time::timeout(PATIENCE, async {
            self.line.end_sending();
            loop {
                self.inbox.clear();
                self.inbox.reserve(1024);
                if self.line.read(&mut self.inbox).await? == 0 {
                    self.line.ended().await;
                    return Ok(());
                }
            }
        })
        .await
        .map_err(|_| Error::TimedOut)?
    }
}

impl Negotiated {
    fn web_transport_port(&self) -> Option<u16> {
        self.available_transports.iter().find(|offered| offered.transport == "WebTransport")?.port
    }
}

/// Negotiates on a connection of its own, as a new client does.
async fn negotiate(target: Target) -> Result<Negotiated, Error> {
    let mut line = target.line().await?;
    let (address, path) = (target.address, target.path);
    let stateful = if target.stateful { "&useStatefulReconnect=true" } else { "" };
    let web_transport = if matches!(target.way, Way::WebTransport(_)) { "&webTransport=1" } else { "" };
    let request = format!(
        "POST {path}/negotiate?negotiateVersion=1{stateful}{web_transport} HTTP/1.1\r\nHost: {address}\r\n\
         Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 0\r\n\r\n"
    );
    line.write_all(request.as_bytes()).await?;
    let mut inbox = BytesMut::new();
    let head = http::read_head(&mut line, &mut inbox).await?.ok_or(Error::Closed)?;
    if head.status() != Some(200) {
        return Err(Error::Status { step: "negotiate", status: head.status() });
    }
    let body = http::read_body(&head, &mut line, &mut inbox).await?;
    let negotiated: Negotiated = serde_json::from_slice(&body).map_err(|_| Error::NoToken)?;
    if target.stateful && !negotiated.use_stateful_reconnect {
        return Err(Error::NotStateful);
    }
    Ok(negotiated)
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(160)).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::HubKind;

    #[test]
    fn a_token_is_encoded_for_a_query() {
        assert_eq!(percent_encoded("aZ0-_.~+/= "), "aZ0-_.~%2B%2F%3D%20");
    }

    async fn connected() -> HubClient {
        let listener = crate::bare_hub::listen().await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(crate::bare_hub::serve(listener));
        HubClient::connect(Target::web_sockets(address, HubKind::Bare, "/contract")).await.unwrap()
    }

    #[tokio::test]
    async fn a_wrong_answer_is_an_error_and_a_ping_is_not() {
        let mut client = connected().await;
        client.queue_ping();
        client.call(b"one\x1e", b"one\x1e").await.unwrap();
        let error = client.call(b"two\x1e", b"three\x1e").await.unwrap_err();
        assert!(matches!(error, Error::Unexpected { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_split_message_is_put_together_and_order_is_held() {
        let mut client = connected().await;
        client.queue(b"first ha");
        client.queue(b"lf\x1esecond\x1e");
        client.flush().await.unwrap();
        client.expect(b"first half\x1e").await.unwrap();
        client.expect(b"second\x1e").await.unwrap();
        client.close().await.unwrap();
    }
}
