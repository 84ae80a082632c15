//! Writes messages in the reference's property order (signalr-wire §8.2).

use bytes::{BufMut, Bytes, BytesMut};

use super::escape::write_string;
use crate::framing::RECORD_SEPARATOR;
use crate::message::{Headers, HubMessage, HubProtocol, Outcome};

pub(super) fn write(message: &HubMessage, payload: Option<&[u8]>, out: &mut BytesMut) {
    if matches!(message, HubMessage::Ping) {
        out.put_slice(HubProtocol::Json.ping());
        return;
    }
    out.put_slice(b"{\"type\":");
    // Types have one digit.
    out.put_u8(b'0' + u8::try_from(message.message_type()).unwrap_or_default());
    match message {
        HubMessage::Invocation(call) => {
            headers(&call.headers, out);
            if let Some(id) = call.invocation_id.as_deref().filter(|id| !id.is_empty()) {
                member("invocationId", id, out);
            }
            invocation(&call.target, payload.unwrap_or(&call.arguments), &call.stream_ids, out);
        }
        HubMessage::StreamInvocation(call) => {
            headers(&call.headers, out);
            if !call.invocation_id.is_empty() {
                member("invocationId", &call.invocation_id, out);
            }
            invocation(&call.target, payload.unwrap_or(&call.arguments), &call.stream_ids, out);
        }
        HubMessage::StreamItem(item) => {
            headers(&item.headers, out);
            member("invocationId", &item.invocation_id, out);
            raw_member("item", payload.unwrap_or(&item.item), out);
        }
        HubMessage::Completion(completion) => {
            headers(&completion.headers, out);
            member("invocationId", &completion.invocation_id, out);
            match &completion.outcome {
                Outcome::Error(error) if !error.is_empty() => member("error", error, out),
                Outcome::Result(result) => raw_member("result", payload.unwrap_or(result), out),
                Outcome::Error(_) | Outcome::Void => {}
            }
        }
        HubMessage::CancelInvocation(cancel) => {
            headers(&cancel.headers, out);
            member("invocationId", &cancel.invocation_id, out);
        }
        HubMessage::Ping => {}
        HubMessage::Close(close) => {
            if let Some(error) = &close.error {
                member("error", error, out);
            }
            if close.allow_reconnect {
                out.put_slice(b",\"allowReconnect\":true");
            }
        }
        HubMessage::Ack(ack) => sequence_id(ack.sequence_id, out),
        HubMessage::Sequence(sequence) => sequence_id(sequence.sequence_id, out),
    }
    out.put_slice(&[b'}', RECORD_SEPARATOR]);
}

pub(super) fn join_array<T: AsRef<[u8]>>(elements: &[T]) -> Bytes {
    let len: usize = elements.iter().map(|element| element.as_ref().len() + 1).sum();
    let mut out = BytesMut::with_capacity(len + 2);
    out.put_u8(b'[');
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(element.as_ref());
    }
    out.put_u8(b']');
    out.freeze()
}

fn invocation(target: &str, arguments: &[u8], stream_ids: &[String], out: &mut BytesMut) {
    member("target", target, out);
    raw_member("arguments", if arguments.is_empty() { b"[]" } else { arguments }, out);
    if stream_ids.is_empty() {
        return;
    }
    name("streamIds", out);
    for (at, id) in stream_ids.iter().enumerate() {
        out.put_u8(if at == 0 { b'[' } else { b',' });
        write_string(id, out);
    }
    out.put_u8(b']');
}

fn headers(headers: &Headers, out: &mut BytesMut) {
    if headers.is_empty() {
        return;
    }
    name("headers", out);
    for (at, (header, value)) in headers.iter().enumerate() {
        out.put_u8(if at == 0 { b'{' } else { b',' });
        write_string(header, out);
        out.put_u8(b':');
        write_string(value, out);
    }
    out.put_u8(b'}');
}

fn sequence_id(id: i64, out: &mut BytesMut) {
    name("sequenceId", out);
    integer(id, out);
}

/// Appends `,"name":`; names are plain.
fn name(name: &str, out: &mut BytesMut) {
    out.put_slice(b",\"");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\":");
}

fn member(property: &str, value: &str, out: &mut BytesMut) {
    name(property, out);
    write_string(value, out);
}

/// Appends a raw payload; an empty one, which is no JSON, as `null`.
fn raw_member(property: &str, value: &[u8], out: &mut BytesMut) {
    name(property, out);
    out.put_slice(if value.is_empty() { b"null" } else { value });
}

fn integer(value: i64, out: &mut BytesMut) {
    out.put_slice(value.to_string().as_bytes());
}
