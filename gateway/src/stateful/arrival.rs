//! The first words of a client that was granted stateful reconnect: with handshake version 2 it is one that uses it, with
//! any other it is an ordinary WebSocket (rule I1).
//!
//! Nothing is passed on here, so that a connection which turns out to be ordinary is relayed from its first byte.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hubgate_protocol::HubProtocol;
use hubgate_protocol::handshake;
use hubgate_protocol::websocket::{Incoming, MessageDecoder, Sender};

use super::socket::{ReadEnd, read};
use crate::io::Stream;
use crate::link::Link;

/// Longest handshake request that is looked at; a longer one is relayed, and the hub's to refuse.
const HANDSHAKE_BYTES_MAX: usize = 4096;
/// Raw bytes that may come before the handshake is whole.
const SEEN_BYTES_MAX: usize = 16 * 1024;

/// Both ends of a connection whose client has not spoken yet.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) client: Stream,
    /// Raw bytes of the client.
    pub(super) client_seen: BytesMut,
    pub(super) hub: Stream,
    /// Raw bytes of the hub.
    pub(super) hub_seen: BytesMut,
}

/// What a client turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To be relayed as it is: ordinary, or gone, or the hub spoke first, or the gateway stops.
    Ordinary,
    /// It shook hands with version 2.
    Stateful(HubProtocol),
    /// It was reset before it said anything.
    Reset,
}

impl Arrival {
    /// Waits for the client's handshake request.
    pub(super) async fn verdict(&mut self, link: &Link) -> Verdict {
        poll_fn(|cx| self.poll(link, cx)).await
    }

    fn poll(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<Verdict> {
        link.listen(cx.waker());
        let orders = link.take_orders();
        if orders.0 != 0 {
            // Whoever carries on obeys them.
            link.order(orders.0);
            return Poll::Ready(Verdict::Ordinary);
        }
        loop {
            if let Some(verdict) = judge(&self.client_seen) {
                return Poll::Ready(verdict);
            }
            if !self.hub_seen.is_empty() || read(cx, &mut self.hub, &mut self.hub_seen).is_ready() {
                return Poll::Ready(Verdict::Ordinary);
            }
            match ready!(read(cx, &mut self.client, &mut self.client_seen)) {
                Ok(()) => {}
                Err(ReadEnd::Closed) => return Poll::Ready(Verdict::Ordinary),
                Err(ReadEnd::Reset) => return Poll::Ready(Verdict::Reset),
            }
        }
    }
}

/// What raw frames of a client say; `None` while more are needed.
fn judge(seen: &[u8]) -> Option<Verdict> {
    let mut decoder = MessageDecoder::new(Sender::Client, HANDSHAKE_BYTES_MAX);
    let (mut input, mut said) = (BytesMut::from(seen), BytesMut::new());
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(Incoming::Text(piece) | Incoming::Binary(piece))) => said.extend_from_slice(&piece),
            Ok(Some(Incoming::Ping(_) | Incoming::Pong(_))) => {}
            Ok(Some(Incoming::Close(_))) | Err(_) => return Some(Verdict::Ordinary),
            Ok(None) => break,
        }
        if said.len() > HANDSHAKE_BYTES_MAX {
            break;
        }
    }
    match handshake::parse_request(&said, HANDSHAKE_BYTES_MAX) {
        Ok(Some(request)) if request.value.version >= 2 => {
            let known = HubProtocol::from_name(&request.value.protocol);
            Some(known.map_or(Verdict::Ordinary, Verdict::Stateful))
        }
        Ok(None) if seen.len() <= SEEN_BYTES_MAX => None,
        Ok(_) | Err(_) => Some(Verdict::Ordinary),
    }
}

/// The handshake request for a hub that knows no stateful reconnect: the same protocol, version 1.
pub(super) fn request_for_hub(protocol: HubProtocol) -> Bytes {
    let mut request = BytesMut::new();
    handshake::write_request(protocol.name(), 1, &mut request);
    request.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubgate_protocol::websocket::{OpCode, write_frame};

    fn frames(pieces: &[&str]) -> BytesMut {
        let mut out = BytesMut::new();
        for piece in pieces {
            write_frame(&mut out, true, OpCode::Text, Some([1, 2, 3, 4]), piece.as_bytes());
        }
        out
    }

    #[test]
    fn er_i1_only_version_2_of_a_protocol_we_read_is_stateful() {
        let version = |name: &str, version: i32| {
            judge(&frames(&[&format!("{{\"protocol\":\"{name}\",\"version\":{version}}}\u{1e}")]))
        };
        assert_eq!(version("json", 2), Some(Verdict::Stateful(HubProtocol::Json)));
        assert_eq!(version("messagepack", 3), Some(Verdict::Stateful(HubProtocol::MessagePack)));
        assert_eq!(version("json", 1), Some(Verdict::Ordinary));
        assert_eq!(version("json", 0), Some(Verdict::Ordinary));
        assert_eq!(version("blazorpack", 2), Some(Verdict::Ordinary));
    }

    #[test]
    fn a_handshake_may_come_in_pieces() {
        let whole = frames(&["{\"protocol\":\"js", "on\",\"version\":2}\u{1e}"]);
        for end in 0..whole.len() {
            assert_eq!(judge(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(judge(&whole), Some(Verdict::Stateful(HubProtocol::Json)));
    }

    #[test]
    fn what_is_no_handshake_is_relayed() {
        assert_eq!(judge(&frames(&["hello\u{1e}"])), Some(Verdict::Ordinary));
        assert_eq!(judge(&frames(&[&"x".repeat(5000)])), Some(Verdict::Ordinary));
        assert_eq!(judge(b"\x00\x01garbage"), Some(Verdict::Ordinary));
        assert_eq!(judge(b""), None);
    }
}
