//! The `messagepack` hub protocol: envelopes to [`HubMessage`] and back (signalr-wire §9).
//!
//! The reader walks over each body once; payloads are slices of it. It accepts what the reference accepts (any integer
//! width, five or six items, trailing items and bytes) and fails with the reference's texts; what is merely a binding
//! failure there (arguments that are no array, an item that is missing) is handed on as an odd payload. The writer
//! gives the reference's bytes. [`value`] writes and skips single values.
//!
//! Invariant: a declared length never allocates; skipping needs neither recursion nor a stack.

mod reader;
pub mod value;
mod writer;

use bytes::{Bytes, BytesMut};

pub(crate) use self::reader::read_with;

use crate::message::{HubMessage, Incoming};

/// Why a body is not a hub message. The text is the reference's (signalr-wire §9.5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An item is missing or of another type.
    #[error("Reading '{field}' as {expected} failed.")]
    Field {
        /// Name of the item, such as `target`.
        field: &'static str,
        /// `String`, `Int32`, `Int64` or `Boolean`.
        expected: &'static str,
    },
    /// A header's name or value is missing or no string.
    #[error("Reading 'headers[{index}].{part}' as String failed.")]
    Header {
        /// Number of the pair, from 0.
        index: usize,
        /// `Key` or `Value`.
        part: &'static str,
    },
    /// A header's name or value is nil or empty.
    #[error("Null or empty {part} in header.")]
    EmptyHeader {
        /// `key` or `value`.
        part: &'static str,
    },
    /// A header's name came before.
    #[error("An item with the same key has already been added. Key: {name}")]
    DuplicateHeader {
        /// The name.
        name: String,
    },
    /// The headers are no map.
    #[error("Reading map length for 'headers' failed.")]
    HeadersLength,
    /// A list is no array.
    #[error("Reading array length for '{field}' failed.")]
    ArrayLength {
        /// `arguments` or `streamIds`.
        field: &'static str,
    },
    /// A target is nil or empty.
    #[error("Null or empty target for {message} message.")]
    EmptyTarget {
        /// `Invocation` or `StreamInvocation`.
        message: &'static str,
    },
    /// An invocation id is nil or empty where one is needed.
    #[error("Null or empty invocation ID for {message} message.")]
    EmptyInvocationId {
        /// Name of the message.
        message: &'static str,
    },
    /// A stream id is nil or empty.
    #[error("Null or empty value in streamIds received.")]
    EmptyStreamId,
    /// A Completion's kind is none of 1, 2, 3.
    #[error("Invalid invocation result kind.")]
    ResultKind,
    /// A value of another type stands where an array or string must.
    #[error("Unexpected msgpack code {code} ({name}) encountered.")]
    UnexpectedCode {
        /// First byte of the value.
        code: u8,
        /// Its name in the format.
        name: &'static str,
    },
    /// The body ends too early.
    #[error("Attempted to read past the end of the stream.")]
    EndOfStream,
    /// More headers or stream ids than [`crate::limits`] allows; not in the reference.
    #[error("Too many entries in '{field}'.")]
    TooMany {
        /// Name of the item.
        field: &'static str,
    },
}

impl Error {
    /// Name of the exception that the reference raises for it.
    #[must_use]
    pub const fn exception(&self) -> &'static str {
        match self {
            Self::DuplicateHeader { .. } => "ArgumentException",
            Self::UnexpectedCode { .. } => "MessagePackSerializationException",
            Self::EndOfStream => "EndOfStreamException",
            _ => "InvalidDataException",
        }
    }
}

/// Reads one body, given without its length prefix. Payloads share its memory.
///
/// # Errors
/// When it is no hub message; fatal for the connection.
pub fn read(body: &Bytes) -> Result<Incoming, Error> {
    reader::read(body)
}

/// The type of the message in `body`, given without its length prefix; `None` when it has none.
#[must_use]
pub fn message_type(body: &[u8]) -> Option<i32> {
    reader::message_type(body)
}

/// Appends `message` with its length prefix, in the reference's layout (signalr-wire §9.2). A body above
/// [`crate::limits::MESSAGEPACK_BODY_BYTES_MAX`] cannot be framed: nothing is appended.
pub fn write(message: &HubMessage, out: &mut BytesMut) {
    writer::write(message, None, out);
}

/// The same with `payload` in the place of the message's own, where it has one.
pub(crate) fn write_with(message: &HubMessage, payload: Option<&[u8]>, out: &mut BytesMut) {
    writer::write(message, payload, out);
}

/// Splits an encoded array into its encoded elements, which share its memory.
///
/// # Errors
/// When it is no array, is cut off, or something follows it.
pub fn split_array(array: &Bytes) -> Result<Vec<Bytes>, Error> {
    reader::split_array(array)
}

/// Joins encoded values to an encoded array.
#[must_use]
pub fn join_array<T: AsRef<[u8]>>(elements: &[T]) -> Bytes {
    let len: usize = elements.iter().map(|element| element.as_ref().len()).sum();
    let mut out = BytesMut::with_capacity(len + 5);
    value::write_array_len(elements.len(), &mut out);
    for element in elements {
        out.extend_from_slice(element.as_ref());
    }
    out.freeze()
}
