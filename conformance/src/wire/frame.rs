//! WebSocket frames: written with any bit set, read without judging them.

use bytes::{Buf, BytesMut};

/// Continuation of a fragmented message.
pub const CONTINUATION: u8 = 0;
/// Text message, or its first fragment.
pub const TEXT: u8 = 1;
/// Binary message, or its first fragment.
pub const BINARY: u8 = 2;
/// Close frame.
pub const CLOSE: u8 = 8;
/// Ping frame.
pub const PING: u8 = 9;
/// Pong frame.
pub const PONG: u8 = 10;

/// The masking key of all frames that a case sends.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One frame as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is the last fragment of its message.
    pub fin: bool,
    /// The three reserved bits, RSV1 the highest.
    pub rsv: u8,
    /// The opcode, 0 to 15.
    pub opcode: u8,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

/// How the payload length is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthForm {
    /// As short as it can be.
    Minimal,
    /// In 16 bits.
    Sixteen,
    /// In 64 bits.
    SixtyFour,
}

impl Frame {
    /// A whole message or control frame.
    #[must_use]
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, rsv: 0, opcode, payload: payload.into() }
    }

    /// A Text message.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::new(TEXT, text)
    }

    /// A Binary message.
    #[must_use]
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(BINARY, payload)
    }

    /// A close frame with a code.
    #[must_use]
    pub fn close(code: u16, reason: &str) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        Self::new(CLOSE, payload)
    }

    /// The same frame, not the last fragment of its message.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    /// The same frame with these reserved bits.
    #[must_use]
    pub fn reserved(mut self, bits: u8) -> Self {
        self.rsv = bits;
        self
    }

    /// Code and reason of a close frame; none when it has no code.
    #[must_use]
    pub fn close_reason(&self) -> Option<(u16, String)> {
        let (high, low) = (*self.payload.first()?, *self.payload.get(1)?);
        let reason = String::from_utf8_lossy(self.payload.get(2..)?).into_owned();
        Some((u16::from_be_bytes([high, low]), reason))
    }

    /// Writes the frame masked, as a client does.
    #[must_use]
    pub fn masked(&self) -> Vec<u8> {
        self.encode(Some(MASK), LengthForm::Minimal)
    }

    /// Writes the frame.
    #[must_use]
    pub fn encode(&self, mask: Option<[u8; 4]>, form: LengthForm) -> Vec<u8> {
        let mask_bit = if mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![u8::from(self.fin) << 7 | (self.rsv & 7) << 4 | self.opcode & 15];
        let length = self.payload.len();
        match (form, u8::try_from(length), u16::try_from(length)) {
            (LengthForm::Minimal, Ok(short @ 0..=125), _) => bytes.push(mask_bit | short),
            (LengthForm::Minimal | LengthForm::Sixteen, _, Ok(medium)) => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        match mask {
            None => bytes.extend_from_slice(&self.payload),
            Some(mask) => {
                bytes.extend_from_slice(&mask);
                bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
            }
        }
        bytes
    }

    /// Takes one frame off the front of `buffer` when it is complete.
    pub fn take(buffer: &mut BytesMut) -> Option<Self> {
        let (first, second) = (*buffer.first()?, *buffer.get(1)?);
        let (length, mut at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(*buffer.get(2..4)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*buffer.get(2..10)?.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        let mask: Option<[u8; 4]> = if second & 0x80 == 0 {
            None
        } else {
            at += 4;
            Some(*buffer.get(at - 4..at)?.first_chunk()?)
        };
        let length = usize::try_from(length).ok()?;
        let mut payload = buffer.get(at..at.checked_add(length)?)?.to_vec();
        if let Some(mask) = mask {
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        buffer.advance(at + length);
        Some(Self { fin: first & 0x80 != 0, rsv: first >> 4 & 7, opcode: first & 15, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_read_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            for mask in [None, Some(MASK)] {
                let frame = Frame::binary(vec![7; length]).reserved(2);
                let bytes = frame.encode(mask, LengthForm::Minimal);
                let mut buffer = BytesMut::from(&bytes[..bytes.len() - 1]);
                assert_eq!(None, Frame::take(&mut buffer), "one byte short of {length}");
                buffer.extend_from_slice(&bytes[bytes.len() - 1..]);
                assert_eq!(Some(frame), Frame::take(&mut buffer));
                assert!(buffer.is_empty());
            }
        }
    }
}
