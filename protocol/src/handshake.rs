//! The handshake: one JSON record each way in front of the hub messages, for every hub protocol (signalr-wire §6).
//!
//! Readers are incremental: they look at all bytes received so far and say how many of them the record took; what
//! follows is hub data already.
//!
//! Invariant: a record longer than the limit given is refused before it is complete.

use bytes::{BufMut, BytesMut};

use crate::framing::{RECORD_SEPARATOR, RecordEnd};
use crate::json::scan::{DecodeError, Expected, Kind, Scanner, SyntaxError};
use crate::json::write_string;
use crate::message::HubProtocol;

/// A successful response.
pub const RESPONSE_OK: &[u8] = b"{}\x1e";

/// Error text: no complete request in time, or more than the size limit (signalr-wire §6.4).
pub const CANCELED: &str = "Handshake was canceled.";

/// Error text: malformed request, without its detail (signalr-wire §6.4).
pub const MALFORMED: &str = "An unexpected error occurred during connection handshake.";

/// A handshake request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeRequest {
    /// Name of the hub protocol as the client spelled it.
    pub protocol: String,
    /// Version of it.
    pub version: i32,
}

/// A handshake response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandshakeResponse {
    /// Why the server refuses; `None` for success. The empty text is success to JS, failure to .NET.
    pub error: Option<String>,
}

/// A record that was read, and how many bytes it took, separator included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete<T> {
    /// What it says.
    pub value: T,
    /// Bytes to take off the front of the input.
    pub consumed: usize,
}

/// Why a handshake fails. `Display` gives the message of the reference's exception.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The record is longer than the limit; ends as [`CANCELED`].
    #[error("the handshake is longer than {bytes_max} bytes")]
    TooLarge {
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// No JSON.
    #[error("{0}")]
    Syntax(String),
    /// Another JSON value than an object.
    #[error("Unexpected JSON Token Type '{found}'. Expected a JSON Object.")]
    NotAnObject {
        /// Kind of the value.
        found: &'static str,
    },
    /// A property is missing.
    #[error("Missing required property '{property}'. Message content: {raw}")]
    Missing {
        /// Its name.
        property: &'static str,
        /// The request as it came.
        raw: String,
    },
    /// A property is of another type.
    #[error("Expected '{property}' to be of type {expected}.")]
    WrongType {
        /// Its name.
        property: &'static str,
        /// The type it should have.
        expected: &'static str,
    },
    /// The version is no plain 32-bit integer.
    #[error("Either the JSON value is not in a supported format, or is out of bounds for an Int32.")]
    NotAnInteger,
    /// A string holds half a surrogate pair.
    #[error("Cannot read incomplete UTF-16 JSON text as string with missing low surrogate.")]
    LoneSurrogate,
    /// A string is no UTF-8.
    #[error("Cannot transcode invalid UTF-8 JSON text to UTF-16 string.")]
    InvalidUtf8,
    /// A client got something with a `type`: a hub message.
    #[error("Expected a handshake response from the server.")]
    NotAResponse,
}

impl Error {
    /// Name of the exception that the reference raises for it.
    #[must_use]
    pub const fn exception(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "OperationCanceledException",
            Self::Syntax(_) => "JsonReaderException",
            Self::NotAnInteger => "FormatException",
            Self::LoneSurrogate | Self::InvalidUtf8 => "InvalidOperationException",
            _ => "InvalidDataException",
        }
    }

    /// The `error` that a hub answers with; the detail only when the hub shows detailed errors (signalr-wire §6.4).
    #[must_use]
    pub fn client_text(&self, detailed: bool) -> String {
        match self {
            Self::TooLarge { .. } => CANCELED.to_owned(),
            _ if detailed => format!("{MALFORMED} {}: {self}", self.exception()),
            _ => MALFORMED.to_owned(),
        }
    }
}

/// Error text: the protocol is unknown or not allowed. `name` as the client spelled it.
#[must_use]
pub fn protocol_not_supported(name: &str) -> String {
    format!("The protocol '{name}' is not supported.")
}

/// Error text: the version is too high. `name` as the client spelled it.
#[must_use]
pub fn version_not_supported(version: i32, name: &str) -> String {
    format!("The server does not support version {version} of the '{name}' protocol.")
}

/// Error text: the transport carries no binary data. `name` is the protocol's own name, such as `messagepack`.
#[must_use]
pub fn transport_lacks_binary(name: &str) -> String {
    format!(
        "Cannot use the '{name}' protocol on the current transport. \
         The transport does not support 'Binary' transfer format."
    )
}

/// Reads a handshake request out of the bytes that a client sends first. One reader serves one connection.
#[derive(Debug, Clone)]
pub struct RequestReader {
    end: RecordEnd,
}

impl RequestReader {
    /// Starts; `bytes_max` bounds the record, separator included (a hub: its message limit).
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { end: RecordEnd::new(bytes_max) }
    }

    /// Looks at all bytes received so far; `None` when more are needed. Does not look at a byte twice.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(&mut self, received: &[u8]) -> Result<Option<Complete<HandshakeRequest>>, Error> {
        record(&mut self.end, received, read_request)
    }
}

/// Reads a handshake response out of the bytes that a server sends first. One reader serves one connection.
#[derive(Debug, Clone)]
pub struct ResponseReader {
    end: RecordEnd,
}

impl ResponseReader {
    /// Starts; `bytes_max` bounds the record, separator included.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { end: RecordEnd::new(bytes_max) }
    }

    /// Looks at all bytes received so far; `None` when more are needed. Does not look at a byte twice.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(&mut self, received: &[u8]) -> Result<Option<Complete<HandshakeResponse>>, Error> {
        record(&mut self.end, received, read_response)
    }
}

/// Reads a request at once: a [`RequestReader`] for callers that need not go on.
///
/// # Errors
/// See [`Error`].
pub fn parse_request(received: &[u8], bytes_max: usize) -> Result<Option<Complete<HandshakeRequest>>, Error> {
    RequestReader::new(bytes_max).read(received)
}

/// Reads a response at once: a [`ResponseReader`] for callers that need not go on.
///
/// # Errors
/// See [`Error`].
pub fn parse_response(received: &[u8], bytes_max: usize) -> Result<Option<Complete<HandshakeResponse>>, Error> {
    ResponseReader::new(bytes_max).read(received)
}

/// Appends a request.
pub fn write_request(protocol: &str, version: i32, out: &mut BytesMut) {
    out.put_slice(b"{\"protocol\":");
    write_string(protocol, out);
    out.put_slice(b",\"version\":");
    out.put_slice(version.to_string().as_bytes());
    out.put_slice(&[b'}', RECORD_SEPARATOR]);
}

/// Appends a response; see also [`RESPONSE_OK`].
pub fn write_response(response: &HandshakeResponse, out: &mut BytesMut) {
    match &response.error {
        None => out.put_slice(RESPONSE_OK),
        Some(error) => {
            out.put_slice(b"{\"error\":");
            write_string(error, out);
            out.put_slice(&[b'}', RECORD_SEPARATOR]);
        }
    }
}

impl HandshakeRequest {
    /// Judges the request as the reference does: the protocol by name, then its version, then whether the transport
    /// carries it (signalr-wire §6.2–§6.4). `supported` are the hub's protocols.
    ///
    /// # Errors
    /// The `error` text for the response.
    pub fn judge(&self, supported: &[HubProtocol], carries_binary: bool) -> Result<HubProtocol, String> {
        let found = HubProtocol::from_name(&self.protocol).filter(|protocol| supported.contains(protocol));
        let protocol = found.ok_or_else(|| protocol_not_supported(&self.protocol))?;
        if self.version > HubProtocol::VERSION_MAX {
            return Err(version_not_supported(self.version, &self.protocol));
        }
        if protocol.transfer_format() == crate::TransferFormat::Binary && !carries_binary {
            return Err(transport_lacks_binary(protocol.name()));
        }
        Ok(protocol)
    }
}

fn record<T>(
    end: &mut RecordEnd,
    received: &[u8],
    read: fn(&[u8]) -> Result<T, Error>,
) -> Result<Option<Complete<T>>, Error> {
    let found = end.find(received).map_err(|error| match error {
        crate::framing::Error::MessageTooLarge { bytes_max } => Error::TooLarge { bytes_max },
        crate::framing::Error::LengthPrefix => Error::TooLarge { bytes_max: 0 },
    })?;
    let Some(len) = found else { return Ok(None) };
    let value = read(received.get(..len).unwrap_or_default())?;
    Ok(Some(Complete { value, consumed: len + 1 }))
}

fn read_request(raw: &[u8]) -> Result<HandshakeRequest, Error> {
    let mut protocol = None;
    let mut version = None;
    let mut scanner = open_object(raw)?;
    let mut first = true;
    while let Some(name) = scanner.next_member(first).map_err(|error| syntax(raw, error))? {
        first = false;
        if name.is("protocol") {
            protocol = Some(string(raw, &mut scanner, "protocol")?);
        } else if name.is("version") {
            version = version_number(raw, &mut scanner)?;
        } else {
            scanner.value(1).map_err(|error| syntax(raw, error))?;
        }
    }
    let missing = |property| Error::Missing { property, raw: String::from_utf8_lossy(raw).into_owned() };
    let protocol = protocol.ok_or_else(|| missing("protocol"))?;
    let version = version.ok_or_else(|| missing("version"))?;
    Ok(HandshakeRequest { protocol, version })
}

fn read_response(raw: &[u8]) -> Result<HandshakeResponse, Error> {
    let mut response = HandshakeResponse::default();
    let mut scanner = open_object(raw)?;
    let mut first = true;
    while let Some(name) = scanner.next_member(first).map_err(|error| syntax(raw, error))? {
        first = false;
        if name.is("error") {
            response.error = Some(string(raw, &mut scanner, "error")?);
        } else if name.is("type") {
            return Err(Error::NotAResponse);
        } else {
            scanner.value(1).map_err(|error| syntax(raw, error))?;
        }
    }
    Ok(response)
}

fn open_object(raw: &[u8]) -> Result<Scanner<'_>, Error> {
    let mut scanner = Scanner::new(raw);
    let kind = scanner.kind().map_err(|error| syntax(raw, error))?;
    if kind != Kind::Object {
        return Err(Error::NotAnObject { found: kind.value_name() });
    }
    scanner.enter(b'{').map_err(|error| syntax(raw, error))?;
    Ok(scanner)
}

fn string(raw: &[u8], scanner: &mut Scanner<'_>, property: &'static str) -> Result<String, Error> {
    if scanner.kind().map_err(|error| syntax(raw, error))? != Kind::String {
        return Err(Error::WrongType { property, expected: "String" });
    }
    let text = scanner.string().map_err(|error| syntax(raw, error))?;
    text.decode().map(std::borrow::Cow::into_owned).map_err(|error| match error {
        DecodeError::LoneSurrogate => Error::LoneSurrogate,
        DecodeError::InvalidUtf8 => Error::InvalidUtf8,
    })
}

/// A plain 32-bit integer; null counts as missing (signalr-wire §6.2).
fn version_number(raw: &[u8], scanner: &mut Scanner<'_>) -> Result<Option<i32>, Error> {
    match scanner.kind().map_err(|error| syntax(raw, error))? {
        Kind::Null => scanner.literal("null").map(|()| None).map_err(|error| syntax(raw, error)),
        Kind::Number => {
            let number = scanner.number().map_err(|error| syntax(raw, error))?;
            number.parse().map(Some).map_err(|_| Error::NotAnInteger)
        }
        _ => Err(Error::WrongType { property: "version", expected: "Number" }),
    }
}

/// The reference's text for broken JSON (recorded ones exactly, the rest in its style).
fn syntax(raw: &[u8], error: SyntaxError) -> Error {
    let before = raw.get(..error.at).unwrap_or(raw);
    let line = before.iter().filter(|&&byte| byte == b'\n').count();
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count();
    let what = match (raw.get(error.at), error.expected) {
        (None, Expected::EndOfNumber) => found(before.last(), "is an invalid end of a number. Expected a delimiter."),
        (None, _) if before.iter().all(u8::is_ascii_whitespace) => "The input does not contain any JSON tokens. \
             Expected the input to start with a valid JSON token, when isFinalBlock is true."
            .to_owned(),
        (None, _) => "Expected depth to be zero at the end of the JSON payload. There is an open JSON object or array \
             that should be closed."
            .to_owned(),
        (_, Expected::NoTrailingComma) => "The JSON object contains a trailing comma at the end which is not \
             supported in this mode. Change the reader options."
            .to_owned(),
        (byte, Expected::EndOfNumber) => found(byte, "is an invalid end of a number. Expected a delimiter."),
        (byte, Expected::PropertyName) => found(byte, "is an invalid start of a property name. Expected a '\"'."),
        (byte, Expected::Colon) => found(byte, "is invalid after a property name. Expected a ':'."),
        (byte, Expected::EndOfValue) => found(byte, "is invalid after a value. Expected either ',', '}', or ']'."),
        (byte, Expected::Value | Expected::Other) => found(byte, "is an invalid start of a value."),
    };
    Error::Syntax(format!("{what} LineNumber: {line} | BytePositionInLine: {column}."))
}

/// The byte met, as the reference shows it, and what is wrong with it.
fn found(byte: Option<&u8>, what: &str) -> String {
    match byte {
        Some(byte @ 0x20..=0x7E) => format!("'{}' {what}", char::from(*byte)),
        Some(byte) => format!("'0x{byte:02X}' {what}"),
        None => what.to_owned(),
    }
}
