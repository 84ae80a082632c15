//! What both message targets check: what is read can be written, and then reads and writes the same.

use bytes::{Bytes, BytesMut};
use hubgate_protocol::{HubMessage, HubProtocol, Incoming, peek};

fn body(protocol: HubProtocol, message: &HubMessage) -> Bytes {
    let mut out = BytesMut::new();
    protocol.write(message, &mut out);
    let whole = protocol.splitter(usize::MAX).next(&mut out).unwrap().unwrap();
    assert!(out.is_empty());
    assert_eq!(peek::message_type(protocol, whole.framed()), Some(message.message_type()));
    whole.body()
}

/// Payloads that are malformed inside cannot be written into another message: only well-formed ones can.
fn is_well_formed(protocol: HubProtocol, message: &HubMessage) -> bool {
    match message {
        HubMessage::Invocation(call) => protocol.split_arguments(&call.arguments).is_ok(),
        HubMessage::StreamInvocation(call) => {
            protocol.split_arguments(&call.arguments).is_ok() && !call.invocation_id.is_empty()
        }
        HubMessage::StreamItem(item) => is_value(protocol, &item.item),
        HubMessage::Completion(completion) => match &completion.outcome {
            hubgate_protocol::message::Outcome::Result(result) => is_value(protocol, result),
            _ => true,
        },
        _ => true,
    }
}

fn is_value(protocol: HubProtocol, value: &Bytes) -> bool {
    let array = protocol.join_arguments(&[value]);
    protocol.split_arguments(&array).is_ok_and(|elements| elements == [value])
}

pub fn check(protocol: HubProtocol, data: &[u8]) {
    let input = Bytes::copy_from_slice(data);
    let _ = protocol.split_arguments(&input);
    let _ = peek::message_type(protocol, data);
    let Ok(Incoming::Message(message)) = protocol.read(&input) else { return };
    if !is_well_formed(protocol, &message) {
        return;
    }
    let written = body(protocol, &message);
    let Ok(Incoming::Message(again)) = protocol.read(&written) else { panic!("not read back: {message:?}") };
    assert_eq!(body(protocol, &again), written);
}
