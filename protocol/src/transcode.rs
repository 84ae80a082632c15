//! Hub messages of one protocol to the other, for a client and a hub that do not share one (signalr-wire §9.6).
//!
//! Envelopes are read and written by [`crate::json`] and [`crate::messagepack`]; payloads go token by token, never
//! through a tree of values. What maps to what is the table of `docs/guide/transcoding.md`. Bytes alone do not tell
//! everything (an enumeration is a number here and a name there): [`Hints`] and [`PropertyNames`] do.
//!
//! [`Transcoder`] knows the two ends of one connection and what is to happen to a message that has no form in the other
//! protocol (rule I6).
//!
//! Invariants (rule I7): no text, key or binary can end a record, since all pass through the escaping or the lengths of
//! the writers; nesting above [`crate::limits::NESTING_MAX`] is refused, without recursion; no declared length
//! allocates; one whole message comes out, within the limit, or none.

mod casing;
mod hints;
mod pending;
mod time;
mod to_json;
mod to_messagepack;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

pub use self::casing::{DeclaredNames, PropertyNames};
use self::hints::Place;
pub use self::hints::{Hint, Hints, ParseError as HintError};
use self::pending::{Pending, Upload};
use crate::error::ParseError;
use crate::framing::RECORD_SEPARATOR;
use crate::message::{Close, Completion, Headers, HubMessage, HubProtocol, Incoming, Invocation, Outcome};
use crate::messagepack::value::{Cursor, Head};

/// Why a message, or a value, has no form in the other protocol. The texts are shown to clients: no data is in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The message violates its own protocol; fatal for the connection.
    #[error(transparent)]
    Envelope(#[from] ParseError),
    /// A payload is cut off, or no value of its protocol.
    #[error("a value is malformed")]
    Malformed,
    /// The arguments are no array.
    #[error("the arguments are no array")]
    Arguments,
    /// The target is empty, which MessagePack does not allow.
    #[error("the target is empty")]
    EmptyTarget,
    /// The id of an upload stream is empty, which MessagePack does not allow.
    #[error("a stream id is empty")]
    EmptyStreamId,
    /// More containers inside each other than JSON readers accept.
    #[error("values are nested too deep")]
    TooDeep,
    /// The message would be longer than the limit.
    #[error("it would be longer than {bytes_max} bytes")]
    TooLarge {
        /// The limit, in bytes, framing included.
        bytes_max: usize,
    },
    /// NaN and the infinities are no JSON numbers.
    #[error("NaN and infinity have no form in JSON")]
    NotFinite,
    /// A number that is neither a 64-bit integer nor a 64-bit float, or would lose digits.
    #[error("a number is out of range")]
    NumberRange,
    /// A timestamp outside of the years 1 to 9999, or of an unknown form.
    #[error("a timestamp is out of range")]
    DateRange,
    /// An extension type without a form in JSON.
    #[error("extension type {extension_type} has no form in JSON")]
    Extension {
        /// The type.
        extension_type: i8,
    },
    /// A map's key that is neither text nor an integer.
    #[error("a map key that is neither text nor an integer has no form in JSON")]
    Key,
    /// Text that is no UTF-8.
    #[error("a text is no UTF-8")]
    InvalidUtf8,
    /// Text with half a surrogate pair.
    #[error("a text holds half a surrogate pair")]
    LoneSurrogate,
    /// A value is not what the route's hint says.
    #[error("a value is not what the hint '{hint}' says")]
    Hint {
        /// Name of the hint.
        hint: &'static str,
    },
    /// Too many calls wait whose results have hints.
    #[error("too many calls are waiting")]
    TooManyCalls,
}

/// Kinds of [`Error`], for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Violates its own protocol.
    Protocol,
    /// Has no form in the other protocol.
    Value,
    /// Is not what a hint says.
    Hint,
    /// Is nested too deep, or would be too long.
    Limit,
}

/// What a route decides about transcoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What happens to names of members.
    pub property_names: PropertyNames,
    /// What bytes alone do not tell.
    pub hints: Hints,
}

/// What is to be done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this one, framed, in its place.
    Pass(Bytes),
    /// Send nothing: its type is unknown, and to be ignored.
    Ignore,
    /// Send nothing in its place: it has no form in the other protocol (rule I6).
    Refused {
        /// Why.
        error: Error,
        /// What to send instead.
        answer: Answer,
    },
}

/// What follows a message that cannot be transcoded. Messages are framed, in the protocol of their receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A call without an id: there is nobody to tell.
    None,
    /// An error Completion for the client.
    Client(Bytes),
    /// An error Completion for the hub: of an upload stream, or of a call of its own.
    Hub(Bytes),
    /// A Close with error for the client; the connection is over.
    End(Bytes),
}

/// Transcodes both ways between one client and its hub.
#[derive(Debug)]
pub struct Transcoder {
    client: HubProtocol,
    hub: HubProtocol,
    rules: Arc<Rules>,
    to_hub_bytes_max: usize,
    to_client_bytes_max: usize,
    pending: Pending,
    /// The payload of the message under way in its other form; kept for the next one while it is small.
    scratch: Vec<u8>,
}

/// Who receives a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiver {
    Hub,
    Client,
}

/// What a message that has no form in the other protocol was.
enum Failed {
    /// A call, with its id if it has one.
    Call(Option<String>),
    Item(String),
    Completion(String),
}

impl Transcoder {
    /// Starts behind the handshake of a client that speaks `client`, with a hub that speaks the other protocol. The
    /// limits are those of one message with its framing, in bytes, as it goes out.
    #[must_use]
    pub fn new(client: HubProtocol, rules: Arc<Rules>, to_hub_bytes_max: usize, to_client_bytes_max: usize) -> Self {
        let hub = other(client);
        Self {
            client,
            hub,
            rules,
            to_hub_bytes_max,
            to_client_bytes_max,
            pending: Pending::default(),
            scratch: Vec::new(),
        }
    }

    /// Takes a message of the client, given without its framing.
    pub fn client_message(&mut self, body: &Bytes) -> Step {
        self.message(body, Receiver::Hub)
    }

    /// Takes a message of the hub, given without its framing.
    pub fn hub_message(&mut self, body: &Bytes) -> Step {
        self.message(body, Receiver::Client)
    }

    fn message(&mut self, body: &Bytes, receiver: Receiver) -> Step {
        let from = if receiver == Receiver::Hub { self.client } else { self.hub };
        let bytes_max = if receiver == Receiver::Hub { self.to_hub_bytes_max } else { self.to_client_bytes_max };
        // Hints belong to targets, which may stand behind the payload; without hints payloads go as they are read.
        let at_once = self.rules.hints.is_empty();
        let mut failure = None;
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.clear();
        let read = if at_once {
            read(from, body, &self.rules, bytes_max, &mut scratch, &mut failure)
        } else {
            from.read(body)
        };
        let mut message = match read {
            Ok(Incoming::Message(message)) => message,
            Ok(Incoming::Unknown { .. }) => return Step::Ignore,
            Err(error) => return self.end(error.into(), None),
        };
        if let HubMessage::StreamInvocation(call) = &message
            && call.invocation_id.is_empty()
        {
            return self.end(ParseError::Json(crate::json::Error::Missing { property: "invocationId" }).into(), None);
        }
        let converted = match failure {
            Some(error) if has_failed(from, &message) => Err(error),
            _ => self.convert(&mut message, receiver, from, at_once.then_some(&scratch), bytes_max),
        };
        let written = converted.and_then(|()| {
            let payload = payload_of(&message).filter(|payload| **payload == IN_SCRATCH).map(|_| &scratch[..]);
            let framed = write(other(from), receiver, &message, payload);
            if framed.len() > bytes_max { Err(Error::TooLarge { bytes_max }) } else { Ok(framed) }
        });
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = scratch;
        }
        match written {
            Ok(framed) => Step::Pass(framed),
            Err(error) => self.refuse(error, failed(message), receiver),
        }
    }

    /// Puts the payload's other form, and what else must change, into the message.
    fn convert(
        &mut self,
        message: &mut HubMessage,
        receiver: Receiver,
        from: HubProtocol,
        converted: Option<&Vec<u8>>,
        bytes_max: usize,
    ) -> Result<(), Error> {
        let rules = &*self.rules;
        let hints = &rules.hints;
        let payload = |raw: &Bytes, place: Option<&Place>| {
            if converted.is_some() { Ok(raw.clone()) } else { payload(from, raw, place, rules, bytes_max) }
        };
        match message {
            HubMessage::Invocation(Invocation { headers, invocation_id, target, arguments, stream_ids }) => {
                let index = hints.index(target);
                let id = invocation_id.as_deref();
                check_call(from, target, arguments, stream_ids, converted)?;
                *arguments = payload(arguments, hints.target(index).map(|target| &target.arguments))?;
                self.pending.called(receiver == Receiver::Hub, id, stream_ids, index)?;
                headers_for(other(from), headers);
            }
            HubMessage::StreamInvocation(call) => {
                let index = hints.index(&call.target);
                check_call(from, &call.target, &call.arguments, &call.stream_ids, converted)?;
                call.arguments = payload(&call.arguments, hints.target(index).map(|target| &target.arguments))?;
                let id = Some(call.invocation_id.as_str());
                self.pending.called(receiver == Receiver::Hub, id, &call.stream_ids, index)?;
                headers_for(other(from), &mut call.headers);
            }
            HubMessage::StreamItem(item) => {
                let place = match receiver {
                    Receiver::Hub => self.pending.upload(&item.invocation_id).and_then(|Upload { target, stream }| {
                        hints.target(Some(target)).and_then(|target| target.streams.element(stream))
                    }),
                    Receiver::Client => {
                        let index = self.pending.call(true, &item.invocation_id);
                        hints.target(index).map(|target| &target.item)
                    }
                };
                item.item = payload(&item.item, place)?;
                headers_for(other(from), &mut item.headers);
            }
            HubMessage::Completion(completion) => {
                // The client completes calls of the hub, and the hub those of the client.
                let index = self.pending.completed(receiver == Receiver::Client, &completion.invocation_id);
                let place = hints.target(index).map(|target| &target.result);
                if let Outcome::Result(result) = &mut completion.outcome {
                    *result = payload(result, place)?;
                }
                headers_for(other(from), &mut completion.headers);
            }
            HubMessage::CancelInvocation(cancel) => headers_for(other(from), &mut cancel.headers),
            HubMessage::Ping | HubMessage::Close(_) | HubMessage::Ack(_) | HubMessage::Sequence(_) => {}
        }
        Ok(())
    }

    /// Decides what happens in place of a message (rule I6).
    fn refuse(&mut self, error: Error, failed: Failed, receiver: Receiver) -> Step {
        let to = if receiver == Receiver::Hub { self.hub } else { self.client };
        let text = |part: &str| format!("The gateway cannot transcode the {part} to {}: {error}.", to.name());
        let completion = |protocol: HubProtocol, id: String, text: String| {
            protocol.to_bytes(&HubMessage::Completion(Completion::error(id, text)))
        };
        let answer = match (receiver, failed) {
            (Receiver::Hub, Failed::Call(None)) => Answer::None,
            (Receiver::Hub, Failed::Call(Some(id))) => {
                self.pending.completed(true, &id);
                Answer::Client(completion(self.client, id, text("call")))
            }
            // The method that reads the stream must learn that it is broken; its end tells the client.
            (Receiver::Hub, Failed::Item(id)) => Answer::Hub(completion(self.hub, id, text("stream item"))),
            (Receiver::Hub, Failed::Completion(id)) => Answer::Hub(completion(self.hub, id, text("result"))),
            (Receiver::Client, Failed::Completion(id)) => Answer::Client(completion(self.client, id, text("result"))),
            (Receiver::Client, Failed::Call(_)) => return self.end(error.clone(), Some(&text("call"))),
            (Receiver::Client, Failed::Item(_)) => return self.end(error.clone(), Some(&text("stream item"))),
        };
        Step::Refused { error, answer }
    }

    fn end(&self, error: Error, detail: Option<&str>) -> Step {
        let close = self.client.to_bytes(&HubMessage::Close(Close::with_error(detail)));
        Step::Refused { error, answer: Answer::End(close) }
    }
}

impl Error {
    /// Its kind.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        match self {
            Self::Envelope(_) => Cause::Protocol,
            Self::Hint { .. } => Cause::Hint,
            Self::TooDeep | Self::TooLarge { .. } | Self::TooManyCalls => Cause::Limit,
            _ => Cause::Value,
        }
    }
}

/// Transcodes one value, given in `from`, that stands inside an envelope; the other form is at most `bytes_max` bytes.
/// Hints do not apply: they belong to targets.
///
/// # Errors
/// When it has no form in the other protocol.
pub fn value(from: HubProtocol, raw: &Bytes, rules: &Rules, bytes_max: usize) -> Result<Bytes, Error> {
    payload(from, raw, None, rules, bytes_max)
}

const fn other(protocol: HubProtocol) -> HubProtocol {
    match protocol {
        HubProtocol::Json => HubProtocol::MessagePack,
        HubProtocol::MessagePack => HubProtocol::Json,
    }
}

/// Payloads stand inside the envelope itself.
const DEPTH: usize = 1;

/// Reads a message whose payloads are put into the other protocol on the way: the first one into `scratch`, which all but
/// odd messages need only. What has no form there leaves `failure`, and [`FAILED`] in its place.
fn read(
    from: HubProtocol,
    body: &Bytes,
    rules: &Rules,
    bytes_max: usize,
    scratch: &mut Vec<u8>,
    failure: &mut Option<Error>,
) -> Result<Incoming, ParseError> {
    match from {
        HubProtocol::Json => Ok(crate::json::read_with(body, &mut |scanner| {
            let start = scanner.clone();
            let mut further = Vec::new();
            let is_first = scratch.is_empty();
            let out = if is_first { &mut *scratch } else { &mut further };
            out.reserve(body.len().saturating_sub(scanner.position()));
            if let Err(error) = to_messagepack::next_value(scanner, DEPTH, None, rules, bytes_max, out) {
                *failure = Some(error);
                *scanner = start;
                scanner.value(DEPTH)?;
                return Ok(Bytes::from_static(FAILED));
            }
            Ok(if is_first { Bytes::from_static(IN_SCRATCH) } else { further.into() })
        })?),
        HubProtocol::MessagePack => Ok(crate::messagepack::read_with(body, &mut |cursor| {
            let start = cursor.clone();
            let left = body.len().saturating_sub(cursor.position());
            scratch.reserve(left + left / 2);
            if let Err(error) = to_json::next_value(cursor, DEPTH, None, rules, bytes_max, scratch) {
                *failure = Some(error);
                *cursor = start;
                cursor.skip()?;
                return Some(Bytes::from_static(FAILED));
            }
            Some(Bytes::from_static(IN_SCRATCH))
        })?),
    }
}

/// In the place of a payload that could not be transcoded: the one byte that begins no value of either protocol.
const FAILED: &[u8] = &[0xC1];

/// In the place of a payload that lies in the scratch buffer.
const IN_SCRATCH: &[u8] = &[0xC1, 0xC1];

/// The longest scratch buffer that is kept for the next message.
const SCRATCH_BYTES_MAX: usize = 4096;

/// Whether the payload that the message holds is not transcoded: of several in one JSON object, the last counts.
fn has_failed(from: HubProtocol, message: &HubMessage) -> bool {
    payload_of(message).is_some_and(|payload| from == HubProtocol::MessagePack || payload == FAILED)
}

const fn payload_of(message: &HubMessage) -> Option<&Bytes> {
    match message {
        HubMessage::Invocation(call) => Some(&call.arguments),
        HubMessage::StreamInvocation(call) => Some(&call.arguments),
        HubMessage::StreamItem(item) => Some(&item.item),
        HubMessage::Completion(Completion { outcome: Outcome::Result(result), .. }) => Some(result),
        _ => None,
    }
}

fn payload(
    from: HubProtocol,
    raw: &Bytes,
    place: Option<&Place>,
    rules: &Rules,
    bytes_max: usize,
) -> Result<Bytes, Error> {
    match from {
        HubProtocol::Json => {
            let mut out = Vec::with_capacity(raw.len());
            to_messagepack::value(raw, DEPTH, place, rules, bytes_max, &mut out)?;
            Ok(out.into())
        }
        HubProtocol::MessagePack => {
            let mut out = Vec::with_capacity(raw.len() + raw.len() / 2);
            to_json::value(raw, DEPTH, place, rules, bytes_max, &mut out)?;
            Ok(out.into())
        }
    }
}

/// Refuses what only one of the protocols allows.
fn check_call(
    from: HubProtocol,
    target: &str,
    arguments: &Bytes,
    stream_ids: &[String],
    converted: Option<&Vec<u8>>,
) -> Result<(), Error> {
    let is_array = || match converted {
        Some(json) => json.first() == Some(&b'['),
        None => matches!(Cursor::new(arguments).head(), Some(Head::Array(_))),
    };
    match from {
        HubProtocol::Json if target.is_empty() => Err(Error::EmptyTarget),
        HubProtocol::Json if stream_ids.iter().any(String::is_empty) => Err(Error::EmptyStreamId),
        HubProtocol::MessagePack if !is_array() => Err(Error::Arguments),
        _ => Ok(()),
    }
}

/// MessagePack's readers refuse headers without name or value; they serve tracing only.
fn headers_for(receiver: HubProtocol, headers: &mut Headers) {
    if receiver == HubProtocol::MessagePack {
        headers.retain(|(name, value)| !name.is_empty() && !value.is_empty());
    }
}

/// Room for what surrounds a payload, usually.
const ENVELOPE_BYTES: usize = 112;

fn write(to: HubProtocol, receiver: Receiver, message: &HubMessage, payload: Option<&[u8]>) -> Bytes {
    let len = payload.map_or_else(|| payload_of(message).map_or(0, Bytes::len), <[u8]>::len);
    let mut out = BytesMut::with_capacity(ENVELOPE_BYTES + len);
    match to {
        HubProtocol::Json => crate::json::write_with(message, payload, &mut out),
        HubProtocol::MessagePack => crate::messagepack::write_with(message, payload, &mut out),
    }
    // To a hub the empty error is a failure, which the form without error would hide (signalr-wire §8.3).
    if let (HubProtocol::Json, Receiver::Hub, HubMessage::Completion(completion)) = (to, receiver, message)
        && completion.outcome == Outcome::Error(String::new())
    {
        out.truncate(out.len().saturating_sub(2));
        out.extend_from_slice(b",\"error\":\"\"}");
        out.extend_from_slice(&[RECORD_SEPARATOR]);
    }
    out.freeze()
}

fn failed(message: HubMessage) -> Failed {
    match message {
        HubMessage::StreamInvocation(call) => Failed::Call(Some(call.invocation_id)),
        HubMessage::StreamItem(item) => Failed::Item(item.invocation_id),
        HubMessage::Completion(completion) => Failed::Completion(completion.invocation_id),
        HubMessage::CancelInvocation(cancel) => Failed::Completion(cancel.invocation_id),
        HubMessage::Invocation(call) => Failed::Call(call.invocation_id),
        HubMessage::Ping | HubMessage::Close(_) | HubMessage::Ack(_) | HubMessage::Sequence(_) => Failed::Call(None),
    }
}
