//! WebSocket frames (RFC 6455) as values: headers, masking, boundaries, messages.
//!
//! Three layers, each usable alone:
//! - [`FrameHeader`] reads and writes one frame header; [`apply_mask`] masks a payload.
//! - [`FrameTracker`] follows frame boundaries in a stream that is forwarded verbatim; it never looks into a payload.
//! - [`MessageDecoder`] checks every rule of the protocol and gives whole messages and control frames.
//!
//! Invariant: a declared length never allocates; memory grows only with bytes that have arrived, up to the decoder's limit.

use bytes::{Buf, Bytes, BytesMut};

/// Longest frame header: 2 bytes, 8 of extended length, 4 of mask.
pub const HEADER_BYTES_MAX: usize = 14;
/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// What a server appends to the key before hashing (RFC 6455 §1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpCode {
    /// Goes on with the message begun before.
    Continuation,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The closing handshake.
    Close,
    /// Asks for a Pong.
    Ping,
    /// Answers a Ping.
    Pong,
    /// 3–7 and 11–15, which nobody may send.
    Reserved(u8),
}

impl OpCode {
    /// Reads the low four bits of a frame's first byte.
    pub fn from_bits(bits: u8) -> Self {
        match bits & 0x0F {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => Self::Reserved(other),
        }
    }

    /// The four bits on the wire.
    pub fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
            Self::Reserved(bits) => bits,
        }
    }

    /// Close, Ping, Pong and the reserved ones from 8 on.
    pub fn is_control(self) -> bool {
        self.bits() & 0x08 != 0
    }
}

/// One frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the message's last frame.
    pub fin: bool,
    /// The three reserved bits, `RSV1` highest (0–7); 0 without extensions.
    pub rsv: u8,
    /// The kind.
    pub opcode: OpCode,
    /// The masking key, in frames from clients.
    pub mask: Option<[u8; 4]>,
    /// Payload length in bytes.
    pub payload_len: u64,
    /// Length of this header on the wire in bytes (2–14).
    pub header_len: usize,
}

impl FrameHeader {
    /// Reads a header from the start of `input`; `None` when more bytes are needed.
    ///
    /// Lengths that are not minimal are accepted, as ASP.NET Core does (signalr-wire §5.1).
    ///
    /// # Errors
    /// [`Violation::LengthTopBit`] for a 64-bit length with the top bit set.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = input else { return Ok(None) };
        let (payload_len, rest, length_bytes) = match second & 0x7F {
            126 => match rest.split_first_chunk::<2>() {
                Some((raw, rest)) => (u64::from(u16::from_be_bytes(*raw)), rest, 2),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((raw, rest)) => (u64::from_be_bytes(*raw), rest, 8),
                None => return Ok(None),
            },
            short => (u64::from(short), rest, 0),
        };
        if payload_len >> 63 != 0 {
            return Err(Violation::LengthTopBit);
        }
        let (mask, mask_bytes) = if second & 0x80 != 0 {
            match rest.first_chunk::<4>() {
                Some(key) => (Some(*key), 4),
                None => return Ok(None),
            }
        } else {
            (None, 0)
        };
        Ok(Some(Self {
            fin: first & 0x80 != 0,
            rsv: (first >> 4) & 0x07,
            opcode: OpCode::from_bits(*first),
            mask,
            payload_len,
            header_len: 2 + length_bytes + mask_bytes,
        }))
    }

    /// Appends the shortest header of a frame without reserved bits.
    pub fn write(out: &mut BytesMut, fin: bool, opcode: OpCode, mask: Option<[u8; 4]>, payload_len: usize) {
        let mask_bit = if mask.is_some() { 0x80 } else { 0 };
        let first = opcode.bits() | if fin { 0x80 } else { 0 };
        if let Ok(short @ 0..=125) = u8::try_from(payload_len) {
            out.extend_from_slice(&[first, mask_bit | short]);
        } else if let Ok(medium) = u16::try_from(payload_len) {
            out.extend_from_slice(&[first, mask_bit | 126]);
            out.extend_from_slice(&medium.to_be_bytes());
        } else {
            out.extend_from_slice(&[first, mask_bit | 127]);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
        if let Some(key) = mask {
            out.extend_from_slice(&key);
        }
    }
}

/// Appends a whole frame; with a key the payload is masked on the way.
pub fn write_frame(out: &mut BytesMut, fin: bool, opcode: OpCode, mask: Option<[u8; 4]>, payload: &[u8]) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    FrameHeader::write(out, fin, opcode, mask, payload.len());
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(key), Some(written)) = (mask, out.get_mut(start..)) {
        apply_mask(written, key, 0);
    }
}

/// Appends a close frame; `None` is one without a code. A reason over 123 bytes is cut at a character.
pub fn write_close(out: &mut BytesMut, mask: Option<[u8; 4]>, close: Option<(u16, &str)>) {
    let mut payload = BytesMut::new();
    if let Some((code, reason)) = close {
        payload.extend_from_slice(&code.to_be_bytes());
        let mut end = reason.len().min(CONTROL_PAYLOAD_BYTES_MAX - 2);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.extend_from_slice(reason.as_bytes().get(..end).unwrap_or_default());
    }
    write_frame(out, true, OpCode::Close, mask, &payload);
}

/// Masks or unmasks bytes of a payload; `offset` is where in the payload `bytes` begins.
pub fn apply_mask(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let mut key = key;
    key.rotate_left(offset % 4);
    let wide = u32::from_ne_bytes(key);
    let wide = u64::from(wide) | (u64::from(wide) << 32);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(eight) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key`.
pub fn accept_key(key: &[u8]) -> String {
    use base64::Engine as _;
    use sha1::{Digest as _, Sha1};
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(ACCEPT_GUID);
    base64::engine::general_purpose::STANDARD.encode(hash.finalize())
}

/// Whether a text is a well-formed `Sec-WebSocket-Key`: 16 bytes in base64 (RFC 6455 §4.2.1).
pub fn is_key(key: &[u8]) -> bool {
    use base64::Engine as _;
    key.len() == 24 && base64::engine::general_purpose::STANDARD.decode(key).is_ok_and(|raw| raw.len() == 16)
}

/// A broken rule of the WebSocket protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A 64-bit length whose top bit is set.
    #[error("a frame length has its top bit set")]
    LengthTopBit,
    /// A reserved bit without an extension that gives it a meaning.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// Opcode 3–7 or 11–15.
    #[error("opcode {0} is reserved")]
    ReservedOpCode(u8),
    /// A client's frame without a mask.
    #[error("a frame from a client is not masked")]
    NotMasked,
    /// A server's frame with a mask.
    #[error("a frame from a server is masked")]
    Masked,
    /// A control frame in fragments.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame over 125 bytes.
    #[error("a control frame has {0} bytes, 125 are allowed")]
    LongControl(u64),
    /// A continuation of nothing.
    #[error("a continuation frame without a message")]
    ContinuationWithoutStart,
    /// A new message inside an unfinished one.
    #[error("a new message inside an unfinished one")]
    MessageInsideMessage,
    /// A close frame of one byte.
    #[error("a close frame of one byte")]
    ShortClose,
    /// A close code that nobody may send.
    #[error("close code {0} is not allowed")]
    CloseCode(u16),
    /// A close reason that is not UTF-8.
    #[error("a close reason is not UTF-8")]
    CloseReason,
    /// Text that is not UTF-8.
    #[error("a text message is not UTF-8")]
    InvalidUtf8,
    /// A message over the decoder's limit.
    #[error("a message is longer than {0} bytes")]
    MessageTooLong(usize),
}

impl Violation {
    /// The code to close with: 1007 for text, 1009 for size, 1002 for all else.
    pub fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::MessageTooLong(_) => 1009,
            _ => 1002,
        }
    }
}

/// What a [`FrameTracker`] found at the start of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracked {
    /// The input ended inside a header; its bytes are remembered.
    PartialHeader,
    /// A header is complete.
    Header(FrameHeader),
    /// These bytes are payload of the current frame.
    Payload {
        /// Whether the frame ends with them.
        last: bool,
    },
}

/// Follows frame boundaries in a stream of bytes that arrive in any pieces. 40 bytes of state, no allocation.
#[derive(Debug, Clone, Default)]
pub struct FrameTracker {
    remaining: u64,
    partial: [u8; HEADER_BYTES_MAX],
    partial_len: u8,
    in_message: bool,
}

impl FrameTracker {
    /// A tracker at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the stream stands between two frames.
    pub fn at_frame_boundary(&self) -> bool {
        self.remaining == 0 && self.partial_len == 0
    }

    /// Whether the stream stands between two messages (control frames aside).
    pub fn at_message_boundary(&self) -> bool {
        self.at_frame_boundary() && !self.in_message
    }

    /// Whether a fragmented message is unfinished.
    pub fn in_message(&self) -> bool {
        self.in_message
    }

    /// Takes one step: how many bytes of `input` it used, and what they were. `input` must not be empty.
    ///
    /// # Errors
    /// [`Violation::LengthTopBit`]: boundaries cannot be followed any further.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Tracked), Violation> {
        if self.remaining > 0 {
            let used = input.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
            self.remaining -= used as u64;
            return Ok((used, Tracked::Payload { last: self.remaining == 0 }));
        }
        if self.partial_len == 0 {
            return match FrameHeader::parse(input)? {
                Some(header) => {
                    self.begin(&header);
                    Ok((header.header_len, Tracked::Header(header)))
                }
                None => {
                    self.remember(input);
                    Ok((input.len(), Tracked::PartialHeader))
                }
            };
        }
        let before = usize::from(self.partial_len);
        self.remember(input);
        let known = self.partial.get(..usize::from(self.partial_len)).unwrap_or_default();
        match FrameHeader::parse(known)? {
            Some(header) => {
                self.partial_len = 0;
                self.begin(&header);
                Ok((header.header_len.saturating_sub(before), Tracked::Header(header)))
            }
            None => Ok((input.len(), Tracked::PartialHeader)),
        }
    }

    fn begin(&mut self, header: &FrameHeader) {
        self.remaining = header.payload_len;
        if !header.opcode.is_control() {
            self.in_message = !header.fin;
        }
    }

    fn remember(&mut self, input: &[u8]) {
        let start = usize::from(self.partial_len);
        for (to, from) in self.partial.iter_mut().skip(start).zip(input) {
            *to = *from;
            self.partial_len += 1;
        }
    }
}

/// Which side's frames a [`MessageDecoder`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Frames must be masked.
    Client,
    /// Frames must not be masked.
    Server,
}

/// What a [`MessageDecoder`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A whole text message, checked to be UTF-8.
    Text(Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// A Ping with its payload, to be answered with a Pong.
    Ping(Bytes),
    /// A Pong with its payload.
    Pong(Bytes),
    /// A close frame: code and reason, or none. Nothing after it is read.
    Close(Option<(u16, String)>),
}

/// Reads frames strictly and puts fragments together.
#[derive(Debug)]
pub struct MessageDecoder {
    sender: Sender,
    message_bytes_max: usize,
    message: BytesMut,
    text: Option<Utf8Check>,
    in_message: bool,
    frame: Option<DataFrame>,
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct DataFrame {
    fin: bool,
    mask: Option<[u8; 4]>,
    done: u64,
    len: u64,
}

impl MessageDecoder {
    /// A decoder for frames of `sender`; messages over `message_bytes_max` bytes are refused.
    pub fn new(sender: Sender, message_bytes_max: usize) -> Self {
        Self {
            sender,
            message_bytes_max,
            message: BytesMut::new(),
            text: None,
            in_message: false,
            frame: None,
            closed: false,
        }
    }

    /// Takes the next message or control frame out of `input`; `None` when more bytes are needed.
    ///
    /// Bytes of an unfinished message are moved out of `input` as they come, and text is checked as it comes: a bad
    /// first fragment fails at once.
    ///
    /// # Errors
    /// A [`Violation`]; the stream cannot be read any further.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, Violation> {
        loop {
            if self.closed {
                input.clear();
                return Ok(None);
            }
            if self.frame.is_some() {
                match self.take_payload(input)? {
                    Some(message) => return Ok(Some(message)),
                    None if self.frame.is_some() => return Ok(None),
                    None => continue,
                }
            }
            let Some(header) = FrameHeader::parse(input)? else {
                return match input.first_chunk::<2>() {
                    Some(head) => self.check(head[0], head[1]).map(|()| None),
                    None => Ok(None),
                };
            };
            let first_two = [input.first().copied().unwrap_or(0), input.get(1).copied().unwrap_or(0)];
            self.check(first_two[0], first_two[1])?;
            if header.opcode.is_control() {
                return self.take_control(&header, input);
            }
            input.advance(header.header_len);
            self.begin_data(&header)?;
        }
    }

    /// All rules that the first two bytes can break.
    fn check(&self, first: u8, second: u8) -> Result<(), Violation> {
        let opcode = OpCode::from_bits(first);
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBit);
        }
        if let OpCode::Reserved(bits) = opcode {
            return Err(Violation::ReservedOpCode(bits));
        }
        match (self.sender, second & 0x80 != 0) {
            (Sender::Client, false) => return Err(Violation::NotMasked),
            (Sender::Server, true) => return Err(Violation::Masked),
            _ => {}
        }
        if opcode.is_control() {
            if first & 0x80 == 0 {
                return Err(Violation::FragmentedControl);
            }
            if second & 0x7F > 125 {
                return Err(Violation::LongControl(u64::from(second & 0x7F)));
            }
        } else if (opcode == OpCode::Continuation) != self.in_message {
            return Err(if self.in_message {
                Violation::MessageInsideMessage
            } else {
                Violation::ContinuationWithoutStart
            });
        }
        Ok(())
    }

    fn begin_data(&mut self, header: &FrameHeader) -> Result<(), Violation> {
        if header.opcode == OpCode::Text {
            self.text = Some(Utf8Check::default());
        } else if header.opcode == OpCode::Binary {
            self.text = None;
        }
        let room = self.message_bytes_max.saturating_sub(self.message.len()) as u64;
        if header.payload_len > room {
            return Err(Violation::MessageTooLong(self.message_bytes_max));
        }
        self.in_message = true;
        self.frame = Some(DataFrame { fin: header.fin, mask: header.mask, done: 0, len: header.payload_len });
        Ok(())
    }

    fn take_payload(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, Violation> {
        let Some(mut frame) = self.frame else { return Ok(None) };
        let take = input.len().min(usize::try_from(frame.len - frame.done).unwrap_or(usize::MAX));
        let mut piece = input.split_to(take);
        if let Some(key) = frame.mask {
            apply_mask(&mut piece, key, (frame.done % 4) as usize);
        }
        frame.done += take as u64;
        let ended = frame.done == frame.len;
        if let Some(check) = &mut self.text {
            check.feed(&piece, ended && frame.fin)?;
        }
        if self.message.is_empty() {
            self.message = piece
        } else {
            self.message.extend_from_slice(&piece)
        }
        if !ended {
            self.frame = Some(frame);
            return Ok(None);
        }
        self.frame = None;
        if !frame.fin {
            return Ok(None);
        }
        self.in_message = false;
        let message = std::mem::take(&mut self.message).freeze();
        Ok(Some(if self.text.take().is_some() { Incoming::Text(message) } else { Incoming::Binary(message) }))
    }

    fn take_control(&mut self, header: &FrameHeader, input: &mut BytesMut) -> Result<Option<Incoming>, Violation> {
        let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        if input.len() < header.header_len.saturating_add(payload_len) {
            return Ok(None);
        }
        input.advance(header.header_len);
        let mut payload = input.split_to(payload_len);
        if let Some(key) = header.mask {
            apply_mask(&mut payload, key, 0);
        }
        Ok(Some(match header.opcode {
            OpCode::Ping => Incoming::Ping(payload.freeze()),
            OpCode::Pong => Incoming::Pong(payload.freeze()),
            _ => {
                let close = parse_close(&payload)?;
                self.closed = true;
                Incoming::Close(close)
            }
        }))
    }
}

/// Reads the payload of a close frame; the codes are those of signalr-wire §5.1.
///
/// # Errors
/// One byte, a code that nobody may send, or a reason that is not UTF-8.
pub fn parse_close(payload: &[u8]) -> Result<Option<(u16, String)>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::ShortClose),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::CloseCode(code));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Violation::CloseReason)?;
            Ok(Some((code, reason.to_owned())))
        }
    }
}

/// Checks UTF-8 that comes in pieces; holds at most three bytes of an unfinished character.
#[derive(Debug, Default)]
pub struct Utf8Check {
    pending: [u8; 4],
    pending_len: u8,
}

impl Utf8Check {
    /// Feeds the next piece; `last` says that the text ends with it.
    ///
    /// # Errors
    /// [`Violation::InvalidUtf8`], as early as it can be known.
    pub fn feed(&mut self, piece: &[u8], last: bool) -> Result<(), Violation> {
        let mut rest = piece;
        while self.pending_len > 0 {
            let Some((byte, tail)) = rest.split_first() else { break };
            rest = tail;
            let at = usize::from(self.pending_len);
            if let Some(slot) = self.pending.get_mut(at) {
                *slot = *byte;
            }
            self.pending_len += 1;
            match std::str::from_utf8(self.pending.get(..=at).unwrap_or_default()) {
                Ok(_) => self.pending_len = 0,
                Err(error) if error.error_len().is_some() => return Err(Violation::InvalidUtf8),
                Err(_) => {}
            }
        }
        if let Err(error) = std::str::from_utf8(rest) {
            if error.error_len().is_some() {
                return Err(Violation::InvalidUtf8);
            }
            for byte in rest.get(error.valid_up_to()..).unwrap_or_default() {
                if let Some(slot) = self.pending.get_mut(usize::from(self.pending_len)) {
                    *slot = *byte;
                    self.pending_len += 1;
                }
            }
        }
        if last && self.pending_len > 0 { Err(Violation::InvalidUtf8) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "websocket/tests.rs"]
mod tests;
