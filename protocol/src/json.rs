//! The `json` hub protocol: envelopes to [`HubMessage`] and back (signalr-wire §8).
//!
//! The reader scans each record once, in document order, without building a value tree; payloads are slices of the
//! record. It accepts what the reference accepts (any property order, last duplicate wins, unknown properties skipped,
//! anything behind the object ignored) and fails with the reference's texts. The writer gives the reference's bytes.
//!
//! Invariant: nesting is bounded by [`crate::limits::NESTING_MAX`] and needs no recursion.
//! Divergence, on purpose: characters that are merely unassigned in Unicode are written literally.

mod escape;
mod plain;
mod reader;
pub(crate) mod scan;
mod writer;

use bytes::{Bytes, BytesMut};

use crate::message::{HubMessage, Incoming};

pub(crate) use escape::write_lossy;
pub use escape::write_string;
pub(crate) use reader::read_with;

/// Why a record is not a hub message. The text is the reference's (signalr-wire §8.4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No JSON, nested too deep, or cut off.
    #[error("Error reading JSON.")]
    Syntax,
    /// The record is another JSON value than an object.
    #[error("Unexpected JSON Token Type '{found}'. Expected a JSON Object.")]
    NotAnObject {
        /// Kind of the value: `Null`, `String`, `Array`, `Number`, `True`, `False`.
        found: &'static str,
    },
    /// A property is missing that the type needs, or empty.
    #[error("Missing required property '{property}'.")]
    Missing {
        /// Its name.
        property: &'static str,
    },
    /// A known property has another kind of value.
    #[error("Expected '{property}' to be of type {expected}.")]
    WrongType {
        /// Its name.
        property: &'static str,
        /// The kind it should have.
        expected: &'static str,
    },
    /// A known property is no boolean.
    #[error("Expected '{property}' to be true or false.")]
    NotABoolean {
        /// Its name.
        property: &'static str,
    },
    /// A header's value is no string.
    #[error("Expected header '{name}' to be of type String.")]
    HeaderValue {
        /// Name of the header.
        name: String,
    },
    /// A stream id is null.
    #[error("Null value for 'streamIds' is not valid.")]
    NullStreamId,
    /// A stream id is no string.
    #[error("Cannot get the value of a token type '{found}' as a string.")]
    StreamIdType {
        /// Kind of the value: `Number`, `StartArray`, `StartObject`, `True`, `False`.
        found: &'static str,
    },
    /// A number is no plain integer of that width.
    #[error("Either the JSON value is not in a supported format, or is out of bounds for an {integer}.")]
    NotAnInteger {
        /// `Int32` or `Int64`.
        integer: &'static str,
    },
    /// An item is meant for the stream with the empty id.
    #[error("No stream with id '' could be found.")]
    EmptyStreamId,
    /// A Completion has both.
    #[error("The 'error' and 'result' properties are mutually exclusive.")]
    ErrorAndResult,
    /// A string that must be decoded holds half a surrogate pair.
    #[error("Cannot read incomplete UTF-16 JSON text as string with missing low surrogate.")]
    LoneSurrogate,
    /// A string that must be decoded is no UTF-8.
    #[error("Cannot transcode invalid UTF-8 JSON text to UTF-16 string.")]
    InvalidUtf8,
    /// More headers or stream ids than [`crate::limits`] allows; not in the reference.
    #[error("Too many entries in '{property}'.")]
    TooMany {
        /// Name of the property.
        property: &'static str,
    },
}

impl Error {
    /// Name of the exception that the reference raises for it.
    #[must_use]
    pub const fn exception(&self) -> &'static str {
        match self {
            Self::StreamIdType { .. } | Self::LoneSurrogate | Self::InvalidUtf8 => "InvalidOperationException",
            Self::NotAnInteger { .. } => "FormatException",
            Self::EmptyStreamId => "KeyNotFoundException",
            _ => "InvalidDataException",
        }
    }
}

/// Reads one record, given without its separator. Payloads share its memory.
///
/// # Errors
/// When it is no hub message; fatal for the connection.
pub fn read(body: &Bytes) -> Result<Incoming, Error> {
    reader::read(body)
}

/// Appends `message` and its separator, in the reference's property order and escaping (signalr-wire §8.2).
pub fn write(message: &HubMessage, out: &mut BytesMut) {
    writer::write(message, None, out);
}

/// The same with `payload` in the place of the message's own, where it has one.
pub(crate) fn write_with(message: &HubMessage, payload: Option<&[u8]>, out: &mut BytesMut) {
    writer::write(message, payload, out);
}

/// Splits the text of a JSON array into the texts of its elements, which share its memory.
///
/// # Errors
/// [`Error::Syntax`] when it is no JSON array, or nested deeper than an envelope allows it.
pub fn split_array(array: &Bytes) -> Result<Vec<Bytes>, Error> {
    reader::split_array(array)
}

/// Joins texts of JSON values to the text of a JSON array.
#[must_use]
pub fn join_array<T: AsRef<[u8]>>(elements: &[T]) -> Bytes {
    writer::join_array(elements)
}
