//! Where one hub message ends in a byte stream: 0x1E records (JSON), VarInt lengths (MessagePack).
//!
//! [`MessageSplitter`] cuts messages out of a buffer without copying; [`WholeMessages`] only tells how many leading
//! bytes form whole messages, for code that forwards them. Both go on where they stopped: no byte is scanned twice.
//!
//! Invariant: the size limit is the reference's (signalr-wire §10.9): it strikes exactly when one byte more than the
//! limit is buffered and no message ends within the limit. So a buffer needs never hold more than limit + one read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits::{MESSAGEPACK_BODY_BYTES_MAX, VARINT_BYTES_MAX};
use crate::message::HubProtocol;

/// The byte that ends a JSON record, a handshake request and a handshake response.
pub const RECORD_SEPARATOR: u8 = 0x1E;

/// Why a byte stream cannot be split any further. Fatal for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A message is longer than the limit; the text is the reference's for a hub.
    #[error(
        "The maximum message size of {bytes_max}B was exceeded. The message size can be configured in AddHubOptions."
    )]
    MessageTooLarge {
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// A length prefix is above 2 GiB − 1 or longer than five bytes (signalr-wire §9.1).
    #[error("Messages over 2GB in size are not supported.")]
    LengthPrefix,
}

impl Error {
    /// The exception type and text that the reference shows with detailed errors.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::MessageTooLarge { .. } => format!("InvalidDataException: {self}"),
            Self::LengthPrefix => format!("FormatException: {self}"),
        }
    }
}

/// One message cut out of a stream, with its framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeMessage {
    framed: Bytes,
    body_start: usize,
    body_len: usize,
}

impl WholeMessage {
    /// The message as it was on the wire, separator or length prefix included.
    #[must_use]
    pub fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// Gives up the body's bounds and keeps the bytes as they were on the wire.
    #[must_use]
    pub fn into_framed(self) -> Bytes {
        self.framed
    }

    /// The message without separator or length prefix, sharing the same memory; input for [`HubProtocol::read`].
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.framed.slice(self.body_start..self.body_start + self.body_len)
    }
}

/// Cuts whole messages off the front of a buffer.
#[derive(Debug, Clone)]
pub struct MessageSplitter {
    scan: WholeMessages,
}

impl MessageSplitter {
    /// Starts at a message boundary. `message_bytes_max` bounds one message with its framing, in bytes.
    #[must_use]
    pub fn new(protocol: HubProtocol, message_bytes_max: usize) -> Self {
        Self { scan: WholeMessages::new(protocol, message_bytes_max) }
    }

    /// Cuts the next whole message off `buffer`; `None` when more bytes are needed.
    ///
    /// Between calls, bytes may only be appended to `buffer`.
    ///
    /// # Errors
    /// See [`Error`]; the messages before the offending one have been given out by then.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<WholeMessage>, Error> {
        let Some(end) = self.scan.next_end(buffer)? else { return Ok(None) };
        self.scan.restart();
        let framed = buffer.split_to(end.framed_len.min(buffer.len())).freeze();
        Ok(Some(WholeMessage { framed, body_start: end.body_start, body_len: end.body_len }))
    }
}

/// Tells how many leading bytes of a growing buffer form whole messages.
#[derive(Debug, Clone)]
pub struct WholeMessages {
    protocol: HubProtocol,
    message_bytes_max: usize,
    /// Bytes of the buffer that belong to whole messages found so far.
    whole: usize,
    /// JSON: bytes behind `whole` that hold no separator. MessagePack: unused.
    scanned: usize,
    /// Messages found in `whole`.
    messages: usize,
}

/// Where one message ends, relative to its own first byte.
#[derive(Debug, Clone, Copy)]
struct End {
    framed_len: usize,
    body_start: usize,
    body_len: usize,
}

impl WholeMessages {
    /// Starts at a message boundary. `message_bytes_max` bounds one message with its framing, in bytes.
    #[must_use]
    pub fn new(protocol: HubProtocol, message_bytes_max: usize) -> Self {
        Self { protocol, message_bytes_max, whole: 0, scanned: 0, messages: 0 }
    }

    /// Gives the length, in bytes, of the whole messages at the front of `buffered`, which holds all bytes since the
    /// start less those [`WholeMessages::consumed`].
    ///
    /// # Errors
    /// See [`Error`]; [`WholeMessages::whole_len`] still tells the whole messages in front of the offending one.
    pub fn len(&mut self, buffered: &[u8]) -> Result<usize, Error> {
        while let Some(end) = self.next_end(buffered)? {
            self.whole += end.framed_len;
            self.scanned = 0;
            self.messages += 1;
        }
        Ok(self.whole)
    }

    /// The length found by the last [`WholeMessages::len`], less what was consumed since.
    #[must_use]
    pub const fn whole_len(&self) -> usize {
        self.whole
    }

    /// How many messages were found since the start.
    #[must_use]
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// Whether the buffer ends at a message boundary, given its length in bytes after the last [`WholeMessages::len`].
    #[must_use]
    pub const fn is_at_boundary(&self, buffered_len: usize) -> bool {
        self.whole == buffered_len
    }

    /// Tells that `bytes` were taken off the front of the buffer: at most [`WholeMessages::whole_len`], or bytes in
    /// front of them that are whole messages.
    pub fn consumed(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.whole, "only whole messages are taken");
        self.whole = self.whole.saturating_sub(bytes);
    }

    fn restart(&mut self) {
        self.whole = 0;
        self.scanned = 0;
    }

    /// Finds the end of the message that begins at `whole`.
    fn next_end(&mut self, buffered: &[u8]) -> Result<Option<End>, Error> {
        let rest = buffered.get(self.whole..).unwrap_or_default();
        let end = match self.protocol {
            HubProtocol::Json => self.record_end(rest),
            HubProtocol::MessagePack => prefixed_end(rest)?,
        };
        match end {
            Some(end) if end.framed_len <= rest.len().min(self.message_bytes_max) => Ok(Some(end)),
            _ if rest.len() > self.message_bytes_max => {
                Err(Error::MessageTooLarge { bytes_max: self.message_bytes_max })
            }
            _ => Ok(None),
        }
    }

    fn record_end(&mut self, rest: &[u8]) -> Option<End> {
        let unseen = rest.get(self.scanned..).unwrap_or_default();
        match memchr::memchr(RECORD_SEPARATOR, unseen) {
            Some(at) => {
                let body_len = self.scanned + at;
                Some(End { framed_len: body_len + 1, body_start: 0, body_len })
            }
            None => {
                self.scanned = rest.len();
                None
            }
        }
    }
}

/// Where the length-prefixed message at the front of `rest` ends, which may be behind the end of `rest`.
fn prefixed_end(rest: &[u8]) -> Result<Option<End>, Error> {
    Ok(read_length_prefix(rest)?.map(|(body_len, body_start)| End {
        framed_len: body_start + body_len,
        body_start,
        body_len,
    }))
}

/// Reads a VarInt length prefix: gives the body's length and the prefix' own, or `None` when more bytes are needed.
/// Padded forms such as `80 00` are read (signalr-wire §9.1).
///
/// # Errors
/// [`Error::LengthPrefix`] when the fifth byte is above 7 or continues.
pub fn read_length_prefix(input: &[u8]) -> Result<Option<(usize, usize)>, Error> {
    let mut len = 0usize;
    for (at, &byte) in input.iter().take(VARINT_BYTES_MAX).enumerate() {
        if at == VARINT_BYTES_MAX - 1 && byte > 0x07 {
            return Err(Error::LengthPrefix);
        }
        len |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((len, at + 1)));
        }
    }
    Ok(None)
}

/// Appends the shortest VarInt length prefix of a body of `body_len` bytes, at most
/// [`MESSAGEPACK_BODY_BYTES_MAX`] (signalr-wire §9.1).
///
/// # Errors
/// [`Error::LengthPrefix`] when the body is longer; nothing is appended then.
pub fn write_length_prefix(body_len: usize, out: &mut BytesMut) -> Result<(), Error> {
    if body_len > MESSAGEPACK_BODY_BYTES_MAX {
        return Err(Error::LengthPrefix);
    }
    let mut left = body_len;
    loop {
        let low = u8::try_from(left & 0x7F).unwrap_or_default();
        left >>= 7;
        if left == 0 {
            out.put_u8(low);
            return Ok(());
        }
        out.put_u8(low | 0x80);
    }
}

/// Finds the end of a 0x1E record in a growing buffer without scanning a byte twice; for handshakes.
#[derive(Debug, Clone)]
pub struct RecordEnd {
    bytes_max: usize,
    scanned: usize,
}

impl RecordEnd {
    /// Starts at the front of an empty buffer. `bytes_max` bounds the record with its separator.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, scanned: 0 }
    }

    /// Gives the record's length without the separator, or `None` when more bytes are needed. `buffered` holds all
    /// bytes since the start.
    ///
    /// # Errors
    /// [`Error::MessageTooLarge`] when the record, with its separator, is longer than the limit.
    pub fn find(&mut self, buffered: &[u8]) -> Result<Option<usize>, Error> {
        let unseen = buffered.get(self.scanned..).unwrap_or_default();
        let found = memchr::memchr(RECORD_SEPARATOR, unseen).map(|at| self.scanned + at);
        match found {
            Some(len) if len < self.bytes_max => Ok(Some(len)),
            Some(_) => Err(Error::MessageTooLarge { bytes_max: self.bytes_max }),
            None if buffered.len() > self.bytes_max => Err(Error::MessageTooLarge { bytes_max: self.bytes_max }),
            None => {
                self.scanned = buffered.len();
                Ok(None)
            }
        }
    }
}

/// Takes the whole messages off the front of `buffer` as one block, and moves `scan` along. `None` when there is none.
///
/// # Errors
/// See [`Error`]; whole messages in front of the offending one come out first, the error at the next call.
pub fn take_whole_messages(scan: &mut WholeMessages, buffer: &mut BytesMut) -> Result<Option<Bytes>, Error> {
    let found = scan.len(buffer);
    let whole = scan.whole_len().min(buffer.remaining());
    if whole == 0 {
        return found.map(|_| None);
    }
    scan.consumed(whole);
    Ok(Some(buffer.split_to(whole).freeze()))
}
