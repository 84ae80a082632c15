//! Whether a client's bytes so far end between two hub messages; nothing is kept but a few numbers.

use hubgate_protocol::framing::RECORD_SEPARATOR;

use crate::relay::Spoken;

/// Follows the boundaries of a client's messages behind its handshake request.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    handshaken: bool,
    /// JSON: bytes have come since the last separator.
    open: bool,
    /// MessagePack: bytes of the current message that are still to come.
    missing: usize,
    /// MessagePack: the length prefix so far, and how many bits it has.
    prefix: (usize, u32),
}

impl Boundary {
    /// Whether the bytes so far end inside a message.
    pub(super) fn is_torn(&self) -> bool {
        self.open || self.missing > 0 || self.prefix.1 > 0
    }

    /// Goes on with the next bytes.
    pub(super) fn follow(&mut self, spoken: Spoken, bytes: &[u8]) {
        let mut rest = bytes;
        if !self.handshaken {
            let Some(end) = memchr::memchr(RECORD_SEPARATOR, rest) else {
                self.open |= !rest.is_empty();
                return;
            };
            self.handshaken = true;
            self.open = false;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        match spoken {
            Spoken::Json => {
                if let Some(last) = rest.last() {
                    self.open = *last != RECORD_SEPARATOR;
                }
            }
            Spoken::MessagePack => self.follow_lengths(rest),
            _ => {}
        }
    }

    fn follow_lengths(&mut self, mut rest: &[u8]) {
        while let Some((byte, tail)) = rest.split_first() {
            if self.missing > 0 {
                let skip = self.missing.min(rest.len());
                self.missing -= skip;
                rest = rest.get(skip..).unwrap_or_default();
                continue;
            }
            let (length, bits) = self.prefix;
            let length = length | usize::from(byte & 0x7F).checked_shl(bits).unwrap_or(0);
            let ends = byte & 0x80 == 0 || bits >= 28;
            self.prefix = if ends { (0, 0) } else { (length, bits + 7) };
            if ends {
                self.missing = length;
            }
            rest = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE: &[u8] = b"{\"protocol\":\"x\",\"version\":1}\x1e";

    fn torn_after_each_byte(spoken: Spoken, bytes: &[u8]) -> Vec<bool> {
        let mut boundary = Boundary::default();
        boundary.follow(spoken, HANDSHAKE);
        assert!(!boundary.is_torn());
        let each = |byte: &u8| {
            boundary.follow(spoken, &[*byte]);
            boundary.is_torn()
        };
        bytes.iter().map(each).collect()
    }

    #[test]
    fn json_is_torn_until_its_separator() {
        assert_eq!(torn_after_each_byte(Spoken::Json, b"{}\x1e{"), [true, true, false, true]);
    }

    #[test]
    fn messagepack_is_torn_until_its_length_is_there() {
        assert_eq!(
            torn_after_each_byte(Spoken::MessagePack, &[2, 0x91, 6, 0x81, 0, 7]),
            [true, true, false, true, true, false]
        );
    }

    #[test]
    fn half_a_handshake_is_torn() {
        let mut boundary = Boundary::default();
        boundary.follow(Spoken::Unknown, b"{\"proto");
        assert!(boundary.is_torn());
    }
}
