//! Random hub messages.

use bytes::{Bytes, BytesMut};
use hubgate_protocol::message::{
    Ack, CancelInvocation, Close, Completion, Headers, Invocation, Outcome, Sequence, StreamInvocation, StreamItem,
};
use hubgate_protocol::{HubMessage, HubProtocol, json, messagepack};
use proptest::collection::vec;
use proptest::prelude::*;

/// Text with everything that needs care: escapes, separators, astral characters.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9 ]{0,6}",
        1 => prop::sample::select(vec![
            "\"", "\\", "\u{1E}", "\0", "\n", "\u{7F}", "\u{85}", "\u{A0}", "\u{2028}", "\u{FEFF}", "ä", "מ", "😀", "/",
            "\u{E000}", "\u{FFFF}",
        ])
        .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn id() -> impl Strategy<Value = String> {
    text().prop_map(|text| if text.is_empty() { "0".to_owned() } else { text })
}

fn headers() -> impl Strategy<Value = Headers> {
    prop::collection::btree_map(id(), id(), 0..3).prop_map(|pairs| pairs.into_iter().collect())
}

/// A raw value of the protocol.
pub(crate) fn payload(protocol: HubProtocol) -> BoxedStrategy<Bytes> {
    match protocol {
        HubProtocol::Json => json_value().prop_map(Bytes::from).boxed(),
        HubProtocol::MessagePack => messagepack_value(),
    }
}

fn json_value() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("-0.5e+10".to_owned()),
        text().prop_map(|text| {
            let mut out = BytesMut::new();
            json::write_string(&text, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(" ,"))),
            inner.prop_map(|value| format!("{{ \"a\\\"}}\" : {value}\n}}")),
        ]
    })
    .boxed()
}

fn messagepack_value() -> BoxedStrategy<Bytes> {
    let leaf = prop_oneof![
        Just(rmpv::Value::Nil),
        any::<bool>().prop_map(rmpv::Value::Boolean),
        any::<i64>().prop_map(rmpv::Value::from),
        any::<f64>().prop_map(rmpv::Value::F64),
        text().prop_map(rmpv::Value::from),
        vec(any::<u8>(), 0..300).prop_map(rmpv::Value::Binary),
        (any::<i8>(), vec(any::<u8>(), 0..20)).prop_map(|(kind, data)| rmpv::Value::Ext(kind, data)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(rmpv::Value::Array),
            vec((inner.clone(), inner), 0..3).prop_map(rmpv::Value::Map),
        ]
    })
    .prop_map(|value| {
        let mut encoded = Vec::new();
        rmpv::encode::write_value(&mut encoded, &value).unwrap();
        Bytes::from(encoded)
    })
    .boxed()
}

fn arguments(protocol: HubProtocol) -> impl Strategy<Value = Bytes> {
    vec(payload(protocol), 0..4).prop_map(move |elements| match protocol {
        HubProtocol::Json => json::join_array(&elements),
        HubProtocol::MessagePack => messagepack::join_array(&elements),
    })
}

fn outcome(protocol: HubProtocol) -> impl Strategy<Value = Outcome> {
    prop_oneof![id().prop_map(Outcome::Error), Just(Outcome::Void), payload(protocol).prop_map(Outcome::Result)]
}

/// A message that reads back as itself.
pub(crate) fn message(protocol: HubProtocol) -> impl Strategy<Value = HubMessage> {
    let call = (headers(), prop::option::of(id()), id(), arguments(protocol), vec(id(), 0..3));
    prop_oneof![
        call.prop_map(|(headers, invocation_id, target, arguments, stream_ids)| HubMessage::Invocation(Invocation {
            headers,
            invocation_id,
            target,
            arguments,
            stream_ids
        })),
        (headers(), id(), id(), arguments(protocol), vec(id(), 0..3)).prop_map(
            |(headers, invocation_id, target, arguments, stream_ids)| {
                HubMessage::StreamInvocation(StreamInvocation { headers, invocation_id, target, arguments, stream_ids })
            }
        ),
        (headers(), id(), payload(protocol)).prop_map(|(headers, invocation_id, item)| HubMessage::StreamItem(
            StreamItem { headers, invocation_id, item }
        )),
        (headers(), id(), outcome(protocol)).prop_map(|(headers, invocation_id, outcome)| HubMessage::Completion(
            Completion { headers, invocation_id, outcome }
        )),
        (headers(), id()).prop_map(|(headers, invocation_id)| HubMessage::CancelInvocation(CancelInvocation {
            headers,
            invocation_id
        })),
        Just(HubMessage::Ping),
        (prop::option::of(id()), any::<bool>())
            .prop_map(|(error, allow_reconnect)| HubMessage::Close(Close { error, allow_reconnect })),
        any::<i64>().prop_map(|sequence_id| HubMessage::Ack(Ack { sequence_id })),
        any::<i64>().prop_map(|sequence_id| HubMessage::Sequence(Sequence { sequence_id })),
    ]
}

/// Either protocol with random messages of it.
pub(crate) fn stream() -> impl Strategy<Value = (HubProtocol, Vec<HubMessage>)> {
    prop_oneof![Just(HubProtocol::Json), Just(HubProtocol::MessagePack)]
        .prop_flat_map(|protocol| (Just(protocol), vec(message(protocol), 0..6)))
}
