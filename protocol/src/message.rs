//! The nine hub messages and the two protocols that carry them.
//!
//! Payloads — arguments, items, results — stay raw bytes in the protocol of the message: for JSON the text of the
//! value, for MessagePack its encoding. They may be malformed inside (a binding failure, not a protocol error):
//! whoever interprets them must expect that.
//!
//! Invariant: reading and writing never interprets a payload (architecture A5).

use bytes::{Bytes, BytesMut};

use crate::error::ParseError;
use crate::framing;
use crate::transport::TransferFormat;
use crate::{json, messagepack};

/// Headers of a message in the order read, names unique; at most [`crate::limits::HEADERS_MAX`].
pub type Headers = Vec<(String, String)>;

/// A hub protocol by which messages are written and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HubProtocol {
    /// `json`: objects ended by 0x1E (signalr-wire §8).
    Json,
    /// `messagepack`: arrays behind a VarInt length (signalr-wire §9).
    MessagePack,
}

/// One hub message (signalr-wire §7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubMessage {
    /// Type 1: calls a method.
    Invocation(Invocation),
    /// Type 2: one item of a stream.
    StreamItem(StreamItem),
    /// Type 3: ends an invocation or a stream.
    Completion(Completion),
    /// Type 4: calls a method that answers with a stream.
    StreamInvocation(StreamInvocation),
    /// Type 5: gives up a stream.
    CancelInvocation(CancelInvocation),
    /// Type 6: keeps the connection alive.
    Ping,
    /// Type 7: ends the connection.
    Close(Close),
    /// Type 8: acknowledges messages (stateful reconnect).
    Ack(Ack),
    /// Type 9: tells the number of the next message (stateful reconnect).
    Sequence(Sequence),
}

/// Calls a method: type 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// String pairs for tracing.
    pub headers: Headers,
    /// Id that the Completion repeats; `None` (never `Some("")`) for a call without an answer.
    pub invocation_id: Option<String>,
    /// Name of the method as the caller spelled it; may be empty (a binding failure).
    pub target: String,
    /// Raw array of the arguments. MessagePack: empty or another value when the array is missing (binding failure).
    pub arguments: Bytes,
    /// Ids of the caller's upload streams; empty when there are none.
    pub stream_ids: Vec<String>,
}

/// Calls a method that answers with a stream: type 4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamInvocation {
    /// String pairs for tracing.
    pub headers: Headers,
    /// Id of the stream. JSON: empty when missing or empty; the reference fails then only after the arguments
    /// have bound (signalr-wire §8.4), with `json::Error::Missing { property: "invocationId" }`.
    pub invocation_id: String,
    /// Name of the method as the caller spelled it.
    pub target: String,
    /// Raw array of the arguments, as in [`Invocation::arguments`].
    pub arguments: Bytes,
    /// Ids of the caller's upload streams; empty when there are none.
    pub stream_ids: Vec<String>,
}

/// One item of a stream: type 2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamItem {
    /// String pairs for tracing.
    pub headers: Headers,
    /// Id of the stream.
    pub invocation_id: String,
    /// Raw value. MessagePack: empty when it is missing (binding failure).
    pub item: Bytes,
}

/// Ends an invocation or a stream: type 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// String pairs for tracing.
    pub headers: Headers,
    /// Id of the invocation or stream.
    pub invocation_id: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an invocation or stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With an error. The empty text is a failure to a hub, success to clients (signalr-wire §8.3).
    Error(String),
    /// Without a result.
    Void,
    /// With a raw value.
    Result(Bytes),
}

/// Gives up a stream: type 5.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CancelInvocation {
    /// String pairs for tracing.
    pub headers: Headers,
    /// Id of the stream.
    pub invocation_id: String,
}

/// Ends the connection: type 7.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Close {
    /// Why, when it is an error.
    pub error: Option<String>,
    /// Whether the client may connect again by itself.
    pub allow_reconnect: bool,
}

/// Acknowledges messages up to a number: type 8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ack {
    /// Number of the last message received; 0 and below are read too.
    pub sequence_id: i64,
}

/// Tells the number of the next message: type 9.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Number of the message that follows; 0 and below are read too.
    pub sequence_id: i64,
}

/// What a reader made of one well-formed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// One of the nine.
    Message(HubMessage),
    /// A type this version does not know; to be ignored (signalr-wire §7).
    Unknown {
        /// Its number.
        message_type: i32,
    },
}

impl HubProtocol {
    /// Highest version that the reference accepts in a handshake; there is no lowest (signalr-wire §6.3).
    pub const VERSION_MAX: i32 = 2;

    /// The name in a handshake.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "messagepack",
        }
    }

    /// Looks a handshake's name up, in any letter case (signalr-wire §6.2).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Json, Self::MessagePack].into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// What a transport must carry for it, and the frame type on WebSockets.
    #[must_use]
    pub const fn transfer_format(self) -> TransferFormat {
        match self {
            Self::Json => TransferFormat::Text,
            Self::MessagePack => TransferFormat::Binary,
        }
    }

    /// A Ping, framed.
    #[must_use]
    pub const fn ping(self) -> &'static [u8] {
        match self {
            Self::Json => b"{\"type\":6}\x1e",
            Self::MessagePack => b"\x02\x91\x06",
        }
    }

    /// Reads one message from its body, that is without separator or length prefix
    /// (see [`framing::WholeMessage::body`]). Payloads share `body`'s memory.
    ///
    /// # Errors
    /// When the body violates the protocol; fatal for the connection.
    pub fn read(self, body: &Bytes) -> Result<Incoming, ParseError> {
        match self {
            Self::Json => Ok(json::read(body)?),
            Self::MessagePack => Ok(messagepack::read(body)?),
        }
    }

    /// Appends `message`, framed, to `out`, byte for byte as the reference does.
    ///
    /// A MessagePack body above [`crate::limits::MESSAGEPACK_BODY_BYTES_MAX`] cannot be framed: nothing is appended.
    pub fn write(self, message: &HubMessage, out: &mut BytesMut) {
        match self {
            Self::Json => json::write(message, out),
            Self::MessagePack => messagepack::write(message, out),
        }
    }

    /// Gives `message`, framed, as bytes of its own; see [`HubProtocol::write`].
    #[must_use]
    pub fn to_bytes(self, message: &HubMessage) -> Bytes {
        let mut out = BytesMut::new();
        self.write(message, &mut out);
        out.freeze()
    }

    /// Splits a raw array of arguments into its raw elements, which share its memory.
    ///
    /// # Errors
    /// When `arguments` is no well-formed array of this protocol: a binding failure, not fatal.
    pub fn split_arguments(self, arguments: &Bytes) -> Result<Vec<Bytes>, ParseError> {
        match self {
            Self::Json => Ok(json::split_array(arguments)?),
            Self::MessagePack => Ok(messagepack::split_array(arguments)?),
        }
    }

    /// Joins raw values to a raw array of arguments.
    #[must_use]
    pub fn join_arguments<T: AsRef<[u8]>>(self, elements: &[T]) -> Bytes {
        match self {
            Self::Json => json::join_array(elements),
            Self::MessagePack => messagepack::join_array(elements),
        }
    }

    /// Starts to split a byte stream of this protocol; see [`framing::MessageSplitter`].
    #[must_use]
    pub fn splitter(self, message_bytes_max: usize) -> framing::MessageSplitter {
        framing::MessageSplitter::new(self, message_bytes_max)
    }
}

impl HubMessage {
    /// The number of its type on the wire.
    #[must_use]
    pub const fn message_type(&self) -> i32 {
        match self {
            Self::Invocation(_) => 1,
            Self::StreamItem(_) => 2,
            Self::Completion(_) => 3,
            Self::StreamInvocation(_) => 4,
            Self::CancelInvocation(_) => 5,
            Self::Ping => 6,
            Self::Close(_) => 7,
            Self::Ack(_) => 8,
            Self::Sequence(_) => 9,
        }
    }

    /// Whether stateful reconnect counts it: types 1 to 5 (signalr-wire §7).
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.message_type() <= 5
    }
}

impl Completion {
    /// An end with an error.
    #[must_use]
    pub fn error(invocation_id: impl Into<String>, error: impl Into<String>) -> Self {
        Self { headers: Headers::new(), invocation_id: invocation_id.into(), outcome: Outcome::Error(error.into()) }
    }

    /// An end without a result.
    #[must_use]
    pub fn void(invocation_id: impl Into<String>) -> Self {
        Self { headers: Headers::new(), invocation_id: invocation_id.into(), outcome: Outcome::Void }
    }

    /// An end with a raw value of the protocol it will be written in.
    #[must_use]
    pub fn result(invocation_id: impl Into<String>, result: Bytes) -> Self {
        Self { headers: Headers::new(), invocation_id: invocation_id.into(), outcome: Outcome::Result(result) }
    }
}

impl Close {
    /// The text with which every error Close of the reference begins (signalr-wire §11.4).
    pub const ERROR_TEXT: &'static str = "Connection closed with an error.";

    /// The Close that the reference sends on a protocol error, time-out or size error: with [`Close::ERROR_TEXT`],
    /// followed by `detail` when there is one (detailed errors), reconnect allowed.
    #[must_use]
    pub fn with_error(detail: Option<&str>) -> Self {
        let error = match detail {
            Some(detail) => format!("{} {detail}", Self::ERROR_TEXT),
            None => Self::ERROR_TEXT.to_owned(),
        };
        Self { error: Some(error), allow_reconnect: true }
    }

    /// A Close without error that allows the client to come back: what a server that stops sends.
    #[must_use]
    pub const fn reconnect() -> Self {
        Self { error: None, allow_reconnect: true }
    }
}
