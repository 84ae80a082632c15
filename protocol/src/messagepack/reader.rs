//! Reads one body item by item; see the rules of signalr-wire §9.2 and §9.5.
//!
//! As the reference, it reads by position and looks at the number of items only where that decides (stream ids, the
//! reconnect flag of a Close); what stands behind is ignored.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Error;
use super::value::{Cursor, Head, code_name};
use crate::limits::{HEADERS_MAX, STREAM_IDS_MAX};
use crate::message::{
    Ack, CancelInvocation, Close, Completion, Headers, HubMessage, Incoming, Invocation, Outcome, Sequence,
    StreamInvocation, StreamItem,
};

pub(super) fn read(body: &Bytes) -> Result<Incoming, Error> {
    read_with(body, &mut |cursor| {
        let start = cursor.position();
        cursor.skip().map(|()| body.slice(start..cursor.position()))
    })
}

/// Moves behind a payload, and gives what the message is to hold in its place; `None`, and no move, when it is cut off or
/// malformed.
pub(crate) type Payload<'p> = dyn FnMut(&mut Cursor<'_>) -> Option<Bytes> + 'p;

/// Reads one body, where `payload` reads the payloads.
pub(crate) fn read_with(body: &Bytes, payload: &mut Payload<'_>) -> Result<Incoming, Error> {
    let mut reader = Reader { body, cursor: Cursor::new(body), payload };
    let items = reader.array_len()?;
    let message = match reader.i32("messageType")? {
        1 => HubMessage::Invocation(reader.invocation(items)?),
        2 => HubMessage::StreamItem(StreamItem {
            headers: reader.headers()?,
            invocation_id: reader.id("StreamItem")?,
            item: reader.payload_or_rest(),
        }),
        3 => HubMessage::Completion(reader.completion()?),
        4 => HubMessage::StreamInvocation(reader.stream_invocation(items)?),
        5 => HubMessage::CancelInvocation(CancelInvocation {
            headers: reader.headers()?,
            invocation_id: reader.id("CancelInvocation")?,
        }),
        6 => HubMessage::Ping,
        7 => HubMessage::Close(Close {
            error: reader.string("error")?,
            allow_reconnect: items > 2 && reader.bool("allowReconnect")?,
        }),
        8 => HubMessage::Ack(Ack { sequence_id: reader.i64("sequenceId")? }),
        9 => HubMessage::Sequence(Sequence { sequence_id: reader.i64("sequenceId")? }),
        message_type => return Ok(Incoming::Unknown { message_type }),
    };
    Ok(Incoming::Message(message))
}

pub(super) fn message_type(body: &[u8]) -> Option<i32> {
    let mut cursor = Cursor::new(body);
    let Head::Array(_) = cursor.head()? else { return None };
    as_integer(cursor.head()?)
}

pub(super) fn split_array(array: &Bytes) -> Result<Vec<Bytes>, Error> {
    let mut cursor = Cursor::new(array);
    let Some(Head::Array(len)) = cursor.head() else { return Err(Error::ArrayLength { field: "arguments" }) };
    let mut elements = Vec::new();
    for _ in 0..len {
        let start = cursor.position();
        cursor.skip().ok_or(Error::EndOfStream)?;
        elements.push(array.slice(start..cursor.position()));
    }
    Ok(elements)
}

/// A body and how far it was read.
struct Reader<'a, 'p> {
    body: &'a Bytes,
    cursor: Cursor<'a>,
    payload: &'a mut Payload<'p>,
}

impl Reader<'_, '_> {
    fn invocation(&mut self, items: u32) -> Result<Invocation, Error> {
        let headers = self.headers()?;
        let invocation_id = self.string("invocationId")?.filter(|id| !id.is_empty());
        let target = self.target("Invocation")?;
        let (arguments, stream_ids) = self.arguments(items)?;
        Ok(Invocation { headers, invocation_id, target, arguments, stream_ids })
    }

    fn stream_invocation(&mut self, items: u32) -> Result<StreamInvocation, Error> {
        let headers = self.headers()?;
        let invocation_id = self.id("StreamInvocation")?;
        let target = self.target("StreamInvocation")?;
        let (arguments, stream_ids) = self.arguments(items)?;
        Ok(StreamInvocation { headers, invocation_id, target, arguments, stream_ids })
    }

    fn completion(&mut self) -> Result<Completion, Error> {
        let headers = self.headers()?;
        let invocation_id = self.id("Completion")?;
        let outcome = match self.i32("resultKind")? {
            1 => self.string("error")?.map_or(Outcome::Void, Outcome::Error),
            2 => Outcome::Void,
            3 => match self.payload_or_rest() {
                result if result.is_empty() => return Err(Error::EndOfStream),
                result => Outcome::Result(result),
            },
            _ => return Err(Error::ResultKind),
        };
        Ok(Completion { headers, invocation_id, outcome })
    }

    /// Arguments that are no array, or malformed inside, are a binding failure: they are handed on as they are, and
    /// what follows them is not read.
    fn arguments(&mut self, items: u32) -> Result<(Bytes, Vec<String>), Error> {
        let is_array = matches!(self.cursor.peek(), Some(0x90..=0x9F | 0xDC | 0xDD));
        let before = self.cursor.position();
        let arguments = self.payload_or_rest();
        let well_formed = is_array && self.cursor.position() > before;
        let stream_ids = if well_formed && items > 5 { self.stream_ids()? } else { Vec::new() };
        Ok((arguments, stream_ids))
    }

    /// The next value; when it is cut off or malformed, all that is left, without moving.
    fn payload_or_rest(&mut self) -> Bytes {
        let start = self.cursor.position();
        (self.payload)(&mut self.cursor).unwrap_or_else(|| self.body.slice(start..))
    }

    fn array_len(&mut self) -> Result<u32, Error> {
        let code = self.cursor.peek().ok_or(Error::EndOfStream)?;
        match self.cursor.read_head() {
            Some(Head::Array(len)) => Ok(len),
            _ => Err(Error::UnexpectedCode { code, name: code_name(code) }),
        }
    }

    fn headers(&mut self) -> Result<Headers, Error> {
        let Some(Head::Map(len)) = self.cursor.read_head() else { return Err(Error::HeadersLength) };
        let mut headers = Headers::new();
        let mut names = BTreeSet::new();
        for index in 0..len {
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            if index >= HEADERS_MAX {
                return Err(Error::TooMany { field: "headers" });
            }
            let name = self.header(index, "Key", "key")?;
            let value = self.header(index, "Value", "value")?;
            if len > 1 && !names.insert(name.clone()) {
                return Err(Error::DuplicateHeader { name });
            }
            headers.push((name, value));
        }
        Ok(headers)
    }

    fn header(&mut self, index: usize, part: &'static str, word: &'static str) -> Result<String, Error> {
        match self.text() {
            Some(Some(text)) if !text.is_empty() => Ok(text),
            Some(_) => Err(Error::EmptyHeader { part: word }),
            None => Err(Error::Header { index, part }),
        }
    }

    fn id(&mut self, message: &'static str) -> Result<String, Error> {
        let id = self.string("invocationId")?.filter(|id| !id.is_empty());
        id.ok_or(Error::EmptyInvocationId { message })
    }

    fn target(&mut self, message: &'static str) -> Result<String, Error> {
        let target = self.string("target")?.filter(|target| !target.is_empty());
        target.ok_or(Error::EmptyTarget { message })
    }

    fn stream_ids(&mut self) -> Result<Vec<String>, Error> {
        let Some(Head::Array(len)) = self.cursor.read_head() else {
            return Err(Error::ArrayLength { field: "streamIds" });
        };
        let mut ids = Vec::new();
        for _ in 0..len {
            let code = self.cursor.peek().ok_or(Error::EndOfStream)?;
            match self.text() {
                Some(Some(id)) if !id.is_empty() => ids.push(id),
                Some(_) => return Err(Error::EmptyStreamId),
                None if matches!(code, 0xA0..=0xBF | 0xD9..=0xDB) => return Err(Error::EndOfStream),
                None => return Err(Error::UnexpectedCode { code, name: code_name(code) }),
            }
            if ids.len() > STREAM_IDS_MAX {
                return Err(Error::TooMany { field: "streamIds" });
            }
        }
        Ok(ids)
    }

    fn string(&mut self, field: &'static str) -> Result<Option<String>, Error> {
        self.text().ok_or(Error::Field { field, expected: "String" })
    }

    /// A string, or nil as `Some(None)`; invalid UTF-8 is replaced as the reference does.
    fn text(&mut self) -> Option<Option<String>> {
        match self.cursor.read_head()? {
            Head::Nil => Some(None),
            Head::Str(len) => {
                let bytes = self.cursor.bytes(len)?;
                let text = core::str::from_utf8(bytes).map(str::to_owned);
                Some(Some(text.unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned())))
            }
            _ => None,
        }
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, Error> {
        self.cursor.read_head().and_then(as_integer).ok_or(Error::Field { field, expected: "Int32" })
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, Error> {
        self.cursor.read_head().and_then(as_integer).ok_or(Error::Field { field, expected: "Int64" })
    }

    fn bool(&mut self, field: &'static str) -> Result<bool, Error> {
        match self.cursor.read_head() {
            Some(Head::Bool(value)) => Ok(value),
            _ => Err(Error::Field { field, expected: "Boolean" }),
        }
    }
}

fn as_integer<T: TryFrom<u64> + TryFrom<i64>>(head: Head) -> Option<T> {
    match head {
        Head::Uint(value) => T::try_from(value).ok(),
        Head::Int(value) => T::try_from(value).ok(),
        _ => None,
    }
}
