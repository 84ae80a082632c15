//! The hub's side of a kept connection: its answer to the handshake, its messages, its end.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::BytesMut;
use hubgate_protocol::HubProtocol;
use hubgate_protocol::framing::{MessageSplitter, RECORD_SEPARATOR};
use hubgate_protocol::handshake;
use hubgate_protocol::stateful::{Endpoint, Kind, classify};
use hubgate_protocol::websocket::{Incoming, OpCode};

use super::closing::{Farewell, ToHub};
use super::pump::{Pump, Terms, opcode};
use super::socket::{Heard, Socket};
use crate::io::Stream;
use crate::relay::Outcome;

/// The hub's WebSocket and what came of it.
#[derive(Debug)]
pub(super) struct HubSide {
    pub(super) socket: Socket,
    splitter: MessageSplitter,
    rest: BytesMut,
    /// The hub's Close message has gone by.
    pub(super) said_close: bool,
}

impl HubSide {
    pub(super) fn new(protocol: HubProtocol, terms: &Terms, stream: Stream, seen: BytesMut) -> Self {
        Self {
            socket: Socket::of_hub(stream, seen, terms.hub_message_bytes_max, terms.seed),
            splitter: MessageSplitter::new(protocol, terms.hub_message_bytes_max),
            rest: BytesMut::new(),
            said_close: false,
        }
    }

    /// Tells the hub in the client's stead that it is there (rule I4).
    pub(super) fn ping(&mut self, protocol: HubProtocol) {
        self.socket.put(opcode(protocol), protocol.ping());
    }

    /// Bytes held for either side.
    pub(super) fn held_bytes(&self) -> usize {
        self.rest.len() + self.socket.waiting()
    }
}

impl Pump {
    /// Takes what the hub says until it would block or the client has no room; whether anything came.
    pub(super) fn hear_hub(&mut self, cx: &mut Context<'_>) -> bool {
        let mut came = self.pass_down();
        while self.may_read_hub() && self.closing.is_none() {
            let heard = match self.hub.socket.hear(cx) {
                Poll::Pending => return came,
                Poll::Ready(heard) => heard,
            };
            came = true;
            self.around.link.hub_heard.store(self.around.clock.now(), Relaxed);
            match heard {
                Heard::Frame(Incoming::Text(bytes) | Incoming::Binary(bytes)) => {
                    self.hub.rest.extend_from_slice(&bytes);
                    if self.endpoint.is_none() && !self.take_handshake_response() {
                        continue;
                    }
                    self.pass_down();
                }
                Heard::Frame(Incoming::Ping(payload)) => self.hub.socket.put_pong(&payload),
                Heard::Frame(Incoming::Pong(_)) => {}
                Heard::Frame(Incoming::Close(close)) => {
                    let farewell = Farewell::AfterMessages(close.clone());
                    self.end(Outcome::HubClosed, farewell, ToHub::Close(close));
                }
                Heard::Lost => self.end(Outcome::HubLost, Farewell::ComeBack, ToHub::Reset),
                Heard::Violated(violation) => {
                    tracing::warn!(%violation, "a hub's frames cannot be read");
                    self.end(Outcome::HubLost, Farewell::ComeBack, ToHub::Reset);
                }
            }
        }
        came
    }

    /// Whether the client has room for more; before the handshake is answered it has. Behind its Close only the hub's close
    /// frame is waited for.
    fn may_read_hub(&self) -> bool {
        self.hub.said_close || self.endpoint.as_ref().is_none_or(Endpoint::has_room)
    }

    /// Passes the hub's answer to the handshake on in a frame of its own; whether it was a good one.
    fn take_handshake_response(&mut self) -> bool {
        let Some(end) = memchr::memchr(RECORD_SEPARATOR, &self.hub.rest) else {
            if self.hub.rest.len() > self.terms().hub_message_bytes_max {
                self.end(Outcome::HubLost, Farewell::Close(Some((1011, String::new()))), ToHub::Reset);
            }
            return false;
        };
        let response = self.hub.rest.split_to(end + 1);
        if let Some(client) = &mut self.client {
            client.put(OpCode::Text, &response);
        }
        let limit = response.len();
        let good =
            matches!(handshake::parse_response(&response, limit), Ok(Some(answer)) if answer.value.error.is_none());
        if good {
            let now = self.now();
            self.endpoint = Some(Endpoint::new(self.protocol(), self.terms().endpoint.clone(), now));
            // The client may have spoken on at once.
            self.pass_up();
        } else {
            // The hub closes now; what else it says is none of the protocol's.
            self.hub.rest.clear();
        }
        good
    }

    /// Gives the endpoint the hub's whole messages while it has room; whether any went.
    fn pass_down(&mut self) -> bool {
        let now = self.now();
        let protocol = self.protocol();
        let mut went = false;
        let Some(endpoint) = &mut self.endpoint else { return false };
        while endpoint.has_room() {
            let framed = match self.hub.splitter.next(&mut self.hub.rest) {
                Ok(Some(message)) => message.into_framed(),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a hub's message is over hub_message_bytes_max");
                    self.end(Outcome::Refused, Farewell::Error, ToHub::Reset);
                    return true;
                }
            };
            let kind = classify(protocol, &framed).unwrap_or(Kind::Other);
            went = true;
            match kind {
                // A hub that was told version 1 has no numbers; its clients must not see any but ours.
                Kind::Ack(_) | Kind::Sequence(_) => tracing::debug!("a hub counts though it was not asked to"),
                kind => {
                    self.hub.said_close |= kind == Kind::Close;
                    endpoint.send(kind, framed, now);
                }
            }
        }
        if self.hub.rest.is_empty() || self.hub.said_close {
            self.hub.rest = BytesMut::new();
        }
        went
    }
}
