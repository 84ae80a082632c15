//! Reads one record in document order; see the rules of signalr-wire §8.3 and §8.4.

use bytes::Bytes;

use super::Error;
use super::scan::{DecodeError, Kind, Scanner, SyntaxError, Text};
use crate::limits::{HEADERS_MAX, STREAM_IDS_MAX};
use crate::message::{
    Ack, CancelInvocation, Close, Completion, Headers, HubMessage, Incoming, Invocation, Outcome, Sequence,
    StreamInvocation, StreamItem,
};

impl From<SyntaxError> for Error {
    fn from(_: SyntaxError) -> Self {
        Self::Syntax
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::LoneSurrogate => Self::LoneSurrogate,
            DecodeError::InvalidUtf8 => Self::InvalidUtf8,
        }
    }
}

/// Moves over a payload inside the envelope.
pub(crate) type Payload<'p> = dyn FnMut(&mut Scanner<'_>) -> Result<Bytes, SyntaxError> + 'p;

/// All known properties of an envelope, whatever its type; the last one met of each name.
#[derive(Debug, Default)]
struct Envelope {
    message_type: Option<i32>,
    headers: Headers,
    invocation_id: Option<String>,
    target: Option<String>,
    error: Option<String>,
    allow_reconnect: bool,
    sequence_id: Option<i64>,
    stream_ids: Vec<String>,
    arguments: Option<Bytes>,
    item: Option<Bytes>,
    result: Option<Bytes>,
}

pub(super) fn read(body: &Bytes) -> Result<Incoming, Error> {
    read_with(body, &mut |scanner| Ok(body.slice(scanner.value(1)?)))
}

/// Reads one record, where `payload` moves behind each payload, which is well-formed JSON if it says so, and gives what
/// the message is to hold in its place.
pub(crate) fn read_with(body: &[u8], payload: &mut Payload<'_>) -> Result<Incoming, Error> {
    // Every second message of an idle connection, as everybody writes it.
    if body == b"{\"type\":6}" {
        return Ok(Incoming::Message(HubMessage::Ping));
    }
    Envelope::scan(body, payload)?.into_message()
}

pub(super) fn split_array(array: &Bytes) -> Result<Vec<Bytes>, Error> {
    let mut scanner = Scanner::new(array);
    scanner.enter(b'[')?;
    let mut elements = Vec::new();
    while scanner.next_element(elements.is_empty())? {
        elements.push(array.slice(scanner.value(2)?));
    }
    scanner.skip_space();
    if scanner.position() == array.len() { Ok(elements) } else { Err(Error::Syntax) }
}

impl Envelope {
    fn scan(body: &[u8], payload: &mut Payload<'_>) -> Result<Self, Error> {
        let mut scanner = Scanner::new(body);
        let kind = scanner.kind()?;
        if kind != Kind::Object {
            scanner.value(0)?;
            return Err(Error::NotAnObject { found: kind.value_name() });
        }
        scanner.enter(b'{')?;
        let mut envelope = Self::default();
        let mut first = true;
        while let Some(name) = scanner.next_member(first)? {
            envelope.member(&name, &mut scanner, payload)?;
            first = false;
        }
        Ok(envelope)
    }

    fn member(&mut self, name: &Text<'_>, scanner: &mut Scanner<'_>, payload: &mut Payload<'_>) -> Result<(), Error> {
        if name.is("type") {
            self.message_type = Some(integer(scanner, "type", "Int32")?);
        } else if name.is("invocationId") {
            self.invocation_id = Some(string(scanner, "invocationId")?);
        } else if name.is("target") {
            self.target = Some(string(scanner, "target")?);
        } else if name.is("arguments") {
            expect_kind(scanner, Kind::Array, "arguments", "Array")?;
            self.arguments = Some(payload(scanner)?);
        } else if name.is("item") {
            self.item = Some(payload(scanner)?);
        } else if name.is("result") {
            self.result = Some(payload(scanner)?);
        } else if name.is("error") {
            self.error = Some(string(scanner, "error")?);
        } else if name.is("allowReconnect") {
            self.allow_reconnect = boolean(scanner, "allowReconnect")?;
        } else if name.is("sequenceId") {
            self.sequence_id = match scanner.kind()? {
                Kind::Null => scanner.literal("null").map(|()| None)?,
                _ => Some(integer(scanner, "sequenceId", "Int64")?),
            };
        } else if name.is("headers") {
            self.headers = headers(scanner)?;
        } else if name.is("streamIds") {
            self.stream_ids = stream_ids(scanner)?;
        } else {
            scanner.value(1)?;
        }
        Ok(())
    }

    fn into_message(self) -> Result<Incoming, Error> {
        let message = match self.message_type.ok_or(missing("type"))? {
            1 => HubMessage::Invocation(self.into_invocation()?),
            2 => HubMessage::StreamItem(self.into_stream_item()?),
            3 => HubMessage::Completion(self.into_completion()?),
            4 => {
                let Invocation { headers, invocation_id, target, arguments, stream_ids } = self.into_invocation()?;
                let invocation_id = invocation_id.unwrap_or_default();
                HubMessage::StreamInvocation(StreamInvocation { headers, invocation_id, target, arguments, stream_ids })
            }
            5 => HubMessage::CancelInvocation(CancelInvocation {
                invocation_id: required_id(self.invocation_id)?,
                headers: self.headers,
            }),
            6 => HubMessage::Ping,
            7 => HubMessage::Close(Close { error: self.error, allow_reconnect: self.allow_reconnect }),
            8 => HubMessage::Ack(Ack { sequence_id: self.sequence_id.ok_or(missing("sequenceId"))? }),
            9 => HubMessage::Sequence(Sequence { sequence_id: self.sequence_id.ok_or(missing("sequenceId"))? }),
            message_type => return Ok(Incoming::Unknown { message_type }),
        };
        Ok(Incoming::Message(message))
    }

    fn into_invocation(self) -> Result<Invocation, Error> {
        let target = self.target.ok_or(missing("target"))?;
        let arguments = match self.arguments {
            Some(arguments) => arguments,
            None if target.is_empty() => return Err(missing("target")),
            None => return Err(missing("arguments")),
        };
        Ok(Invocation {
            headers: self.headers,
            invocation_id: self.invocation_id.filter(|id| !id.is_empty()),
            target,
            arguments,
            stream_ids: self.stream_ids,
        })
    }

    fn into_stream_item(self) -> Result<StreamItem, Error> {
        let invocation_id = self.invocation_id.ok_or(missing("invocationId"))?;
        match self.item {
            Some(_) if invocation_id.is_empty() => Err(Error::EmptyStreamId),
            Some(item) => Ok(StreamItem { headers: self.headers, invocation_id, item }),
            None if invocation_id.is_empty() => Err(missing("invocationId")),
            None => Err(missing("item")),
        }
    }

    fn into_completion(self) -> Result<Completion, Error> {
        let invocation_id = required_id(self.invocation_id)?;
        let outcome = match (self.error, self.result) {
            (Some(_), Some(_)) => return Err(Error::ErrorAndResult),
            (Some(error), None) => Outcome::Error(error),
            (None, Some(result)) => Outcome::Result(result),
            (None, None) => Outcome::Void,
        };
        Ok(Completion { headers: self.headers, invocation_id, outcome })
    }
}

const fn missing(property: &'static str) -> Error {
    Error::Missing { property }
}

fn required_id(id: Option<String>) -> Result<String, Error> {
    id.filter(|id| !id.is_empty()).ok_or(missing("invocationId"))
}

fn expect_kind(
    scanner: &mut Scanner<'_>,
    kind: Kind,
    property: &'static str,
    expected: &'static str,
) -> Result<(), Error> {
    if scanner.kind()? == kind { Ok(()) } else { Err(Error::WrongType { property, expected }) }
}

fn string(scanner: &mut Scanner<'_>, property: &'static str) -> Result<String, Error> {
    expect_kind(scanner, Kind::String, property, "String")?;
    Ok(scanner.string()?.decode()?.into_owned())
}

fn boolean(scanner: &mut Scanner<'_>, property: &'static str) -> Result<bool, Error> {
    match scanner.kind()? {
        Kind::True => scanner.literal("true").map(|()| true).map_err(Error::from),
        Kind::False => scanner.literal("false").map(|()| false).map_err(Error::from),
        _ => Err(Error::NotABoolean { property }),
    }
}

fn integer<T: core::str::FromStr>(
    scanner: &mut Scanner<'_>,
    property: &'static str,
    integer: &'static str,
) -> Result<T, Error> {
    expect_kind(scanner, Kind::Number, property, "Number")?;
    scanner.number()?.parse().map_err(|_| Error::NotAnInteger { integer })
}

fn headers(scanner: &mut Scanner<'_>) -> Result<Headers, Error> {
    expect_kind(scanner, Kind::Object, "headers", "StartObject")?;
    scanner.enter(b'{')?;
    let mut headers = Headers::new();
    let mut first = true;
    while let Some(name) = scanner.next_member(first)? {
        first = false;
        let name = name.decode()?.into_owned();
        if scanner.kind()? != Kind::String {
            return Err(Error::HeaderValue { name });
        }
        let value = scanner.string()?.decode()?.into_owned();
        headers.push((name, value));
        if headers.len() > HEADERS_MAX {
            return Err(Error::TooMany { property: "headers" });
        }
    }
    Ok(last_of_each(headers))
}

/// Keeps the last value of each name, at the place of its first.
fn last_of_each(headers: Headers) -> Headers {
    if headers.len() < 2 {
        return headers;
    }
    let mut places = std::collections::BTreeMap::new();
    let mut unique = Headers::with_capacity(headers.len());
    for (name, value) in headers {
        let place = *places.entry(name.clone()).or_insert(unique.len());
        match unique.get_mut(place) {
            Some((_, earlier)) => *earlier = value,
            None => unique.push((name, value)),
        }
    }
    unique
}

fn stream_ids(scanner: &mut Scanner<'_>) -> Result<Vec<String>, Error> {
    expect_kind(scanner, Kind::Array, "streamIds", "Array")?;
    scanner.enter(b'[')?;
    let mut ids = Vec::new();
    while scanner.next_element(ids.is_empty())? {
        match scanner.kind()? {
            Kind::String => ids.push(scanner.string()?.decode()?.into_owned()),
            Kind::Null => return Err(Error::NullStreamId),
            other => return Err(Error::StreamIdType { found: other.token_name() }),
        }
        if ids.len() > STREAM_IDS_MAX {
            return Err(Error::TooMany { property: "streamIds" });
        }
    }
    Ok(ids)
}
