//! Writes messages in the reference's layout (signalr-wire §9.2): six items for calls, three for a Close.

use bytes::{BufMut, Bytes, BytesMut};

use super::value::{write_array_len, write_bool, write_int, write_map_len, write_nil, write_str};
use crate::framing::write_length_prefix;
use crate::message::{Headers, HubMessage, HubProtocol, Outcome};

pub(super) fn write(message: &HubMessage, payload: Option<&[u8]>, out: &mut BytesMut) {
    if matches!(message, HubMessage::Ping) {
        out.put_slice(HubProtocol::MessagePack.ping());
        return;
    }
    let (head, payload, tail) = parts(message, payload);
    let len = head.len() + payload.len() + tail.len();
    if write_length_prefix(len, out).is_ok() {
        out.reserve(len);
        out.put_slice(&head);
        out.put_slice(payload);
        out.put_slice(&tail);
    }
}

/// What stands before the payload, the payload, what stands behind it.
fn parts<'m>(message: &'m HubMessage, given: Option<&'m [u8]>) -> (BytesMut, &'m [u8], Bytes) {
    let mut head = BytesMut::with_capacity(64);
    let (mut payload, mut tail): (&[u8], Bytes) = (&[], Bytes::new());
    let out = &mut head;
    match message {
        HubMessage::Invocation(call) => {
            start(6, message, &call.headers, out);
            text_or_nil(call.invocation_id.as_deref(), out);
            write_str(&call.target, out);
            payload = array_or_empty(given.unwrap_or(&call.arguments));
            tail = stream_ids(&call.stream_ids);
        }
        HubMessage::StreamInvocation(call) => {
            start(6, message, &call.headers, out);
            write_str(&call.invocation_id, out);
            write_str(&call.target, out);
            payload = array_or_empty(given.unwrap_or(&call.arguments));
            tail = stream_ids(&call.stream_ids);
        }
        HubMessage::StreamItem(item) => {
            start(4, message, &item.headers, out);
            write_str(&item.invocation_id, out);
            payload = value_or_nil(given.unwrap_or(&item.item));
        }
        HubMessage::Completion(completion) => {
            let void = completion.outcome == Outcome::Void;
            start(if void { 4 } else { 5 }, message, &completion.headers, out);
            write_str(&completion.invocation_id, out);
            match &completion.outcome {
                Outcome::Error(error) => {
                    write_int(1, out);
                    write_str(error, out);
                }
                Outcome::Void => write_int(2, out),
                Outcome::Result(result) => {
                    write_int(3, out);
                    payload = value_or_nil(given.unwrap_or(result));
                }
            }
        }
        HubMessage::CancelInvocation(cancel) => {
            start(3, message, &cancel.headers, out);
            write_str(&cancel.invocation_id, out);
        }
        HubMessage::Ping => {
            write_array_len(1, out);
            write_int(6, out);
        }
        HubMessage::Close(close) => {
            write_array_len(3, out);
            write_int(7, out);
            text_or_nil(close.error.as_deref(), out);
            write_bool(close.allow_reconnect, out);
        }
        HubMessage::Ack(ack) => sequence(8, ack.sequence_id, out),
        HubMessage::Sequence(sequence_message) => sequence(9, sequence_message.sequence_id, out),
    }
    (head, payload, tail)
}

fn start(items: usize, message: &HubMessage, headers: &Headers, out: &mut BytesMut) {
    write_array_len(items, out);
    write_int(i64::from(message.message_type()), out);
    write_map_len(headers.len(), out);
    for (name, value) in headers {
        write_str(name, out);
        write_str(value, out);
    }
}

fn sequence(message_type: i64, sequence_id: i64, out: &mut BytesMut) {
    write_array_len(2, out);
    write_int(message_type, out);
    write_int(sequence_id, out);
}

/// The empty text is written as nil: for ids and for a Close's error (signalr-wire §8.2).
fn text_or_nil(text: Option<&str>, out: &mut BytesMut) {
    match text {
        Some(text) if !text.is_empty() => write_str(text, out),
        _ => write_nil(out),
    }
}

fn array_or_empty(arguments: &[u8]) -> &[u8] {
    if arguments.is_empty() { &[0x90] } else { arguments }
}

fn value_or_nil(value: &[u8]) -> &[u8] {
    if value.is_empty() { &[0xC0] } else { value }
}

fn stream_ids(ids: &[String]) -> Bytes {
    if ids.is_empty() {
        return Bytes::from_static(&[0x90]);
    }
    let mut out = BytesMut::new();
    write_array_len(ids.len(), &mut out);
    for id in ids {
        write_str(id, &mut out);
    }
    out.freeze()
}
