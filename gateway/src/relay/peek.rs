//! A look at the first message of a client, to know what it speaks. Nothing is held back: bytes go on as they come.

use hubgate_protocol::handshake;
use hubgate_protocol::websocket::{self, FrameHeader, OpCode};

/// Longest first record looked at; a longer one is no hub handshake to us.
const LOOK_BYTES_MAX: usize = 4096;

/// What a client speaks on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Spoken {
    /// Nothing was said yet.
    #[default]
    Unknown,
    /// The hub protocol `json`.
    Json,
    /// The hub protocol `messagepack`.
    MessagePack,
    /// Another hub protocol, `blazorpack` for example.
    Other,
    /// No hub handshake: not SignalR, or a raw endpoint.
    Opaque,
}

impl Spoken {
    /// All values, in the order in which gauges are kept.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] = [Self::Unknown, Self::Json, Self::MessagePack, Self::Other, Self::Opaque];

    /// The word in logs and metrics, from a closed list (rule G5).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Json => "json",
            Self::MessagePack => "messagepack",
            Self::Other => "other",
            Self::Opaque => "opaque",
        }
    }

    /// What a handshake request's protocol name stands for.
    pub(crate) fn from_protocol_name(name: &str) -> Self {
        if name.eq_ignore_ascii_case("json") {
            Self::Json
        } else if name.eq_ignore_ascii_case("messagepack") {
            Self::MessagePack
        } else {
            Self::Other
        }
    }

    /// The hub Close message with `allowReconnect`, and the opcode it travels in; `None` where we do not speak the
    /// protocol.
    pub(crate) fn farewell(self) -> Option<(OpCode, &'static [u8])> {
        match self {
            Self::Json => Some((OpCode::Text, b"{\"type\":7,\"allowReconnect\":true}\x1e")),
            Self::MessagePack => Some((OpCode::Binary, &[0x04, 0x93, 0x07, 0xC0, 0xC3])),
            _ => None,
        }
    }
}

/// Gathers the first message until it can be told what it is.
#[derive(Debug, Default)]
pub(super) struct Peek {
    seen: Vec<u8>,
    opaque: bool,
}

impl Peek {
    /// Looks at a piece of payload; `offset` is its place in its frame.
    pub(super) fn see(&mut self, header: &FrameHeader, payload: &[u8], offset: usize) {
        if header.opcode.is_control() || self.opaque {
            return;
        }
        if header.rsv != 0 {
            self.opaque = true;
            return;
        }
        let start = self.seen.len();
        let take = payload.len().min(LOOK_BYTES_MAX.saturating_sub(start) + 1);
        self.seen.extend_from_slice(payload.get(..take).unwrap_or_default());
        if let (Some(key), Some(new)) = (header.mask, self.seen.get_mut(start..)) {
            websocket::apply_mask(new, key, offset);
        }
    }

    /// What the client speaks, once it is known.
    pub(super) fn verdict(&self) -> Option<Spoken> {
        if self.opaque {
            return Some(Spoken::Opaque);
        }
        judge(&self.seen)
    }
}

/// Tells from the first bytes of a client what it speaks; `None` while more are needed.
pub(crate) fn judge(first: &[u8]) -> Option<Spoken> {
    let start = first.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if first.get(start) != Some(&b'{') {
        return Some(Spoken::Opaque);
    }
    match memchr::memchr(0x1E, first) {
        Some(_) => Some(match handshake::parse_request(first, LOOK_BYTES_MAX + 1) {
            Ok(Some(request)) => Spoken::from_protocol_name(&request.value.protocol),
            _ => Spoken::Opaque,
        }),
        None if first.len() > LOOK_BYTES_MAX => Some(Spoken::Opaque),
        None => None,
    }
}
