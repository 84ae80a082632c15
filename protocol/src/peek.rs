//! Reads only the type of a whole message, cheaply, for code that forwards messages unread.
//!
//! Invariant: what these functions say of a well-formed message is what [`HubProtocol::read`] says; a malformed one
//! gives `None` or any type, never a panic.

use crate::framing;
use crate::json::scan::{Kind, Scanner};
use crate::message::HubProtocol;
use crate::messagepack;

/// The type of a whole message, given with its separator or length prefix; `None` when it has none.
#[must_use]
pub fn message_type(protocol: HubProtocol, whole_message: &[u8]) -> Option<i32> {
    match protocol {
        HubProtocol::Json => json_type(whole_message.strip_suffix(&[framing::RECORD_SEPARATOR])?),
        HubProtocol::MessagePack => {
            let (body_len, body_start) = framing::read_length_prefix(whole_message).ok()??;
            messagepack::message_type(whole_message.get(body_start..body_start.checked_add(body_len)?)?)
        }
    }
}

/// Whether a whole message, given with its framing, is a Ping.
#[must_use]
pub fn is_ping(protocol: HubProtocol, whole_message: &[u8]) -> bool {
    whole_message == protocol.ping() || message_type(protocol, whole_message) == Some(6)
}

/// Whether a whole message, given with its framing, is a Close.
#[must_use]
pub fn is_close(protocol: HubProtocol, whole_message: &[u8]) -> bool {
    message_type(protocol, whole_message) == Some(7)
}

fn json_type(body: &[u8]) -> Option<i32> {
    let mut scanner = Scanner::new(body);
    scanner.enter(b'{').ok()?;
    let mut found = None;
    let mut first = true;
    while let Some(name) = scanner.next_member(first).ok()? {
        first = false;
        if name.is("type") && scanner.kind().ok()? == Kind::Number {
            found = scanner.number().ok()?.parse().ok();
        } else {
            scanner.value(1).ok()?;
        }
    }
    found
}
