//! The golden vectors of signalr-wire §8.2 and §9.3: each is written exactly so and read back.

use bytes::Bytes;
use hubgate_protocol::message::{
    Ack, CancelInvocation, Close, Completion, Headers, Invocation, Outcome, Sequence, StreamInvocation, StreamItem,
};
use hubgate_protocol::{HubMessage, HubProtocol, Incoming, TransferFormat};

fn invocation(id: Option<&str>, target: &str, arguments: &[u8], streams: &[&str]) -> HubMessage {
    HubMessage::Invocation(Invocation {
        headers: Headers::new(),
        invocation_id: id.map(str::to_owned),
        target: target.to_owned(),
        arguments: Bytes::copy_from_slice(arguments),
        stream_ids: streams.iter().map(|&id| id.to_owned()).collect(),
    })
}

fn stream_invocation(id: &str, target: &str, arguments: &[u8]) -> HubMessage {
    HubMessage::StreamInvocation(StreamInvocation {
        invocation_id: id.to_owned(),
        target: target.to_owned(),
        arguments: Bytes::copy_from_slice(arguments),
        ..StreamInvocation::default()
    })
}

fn item(id: &str, item: &[u8]) -> HubMessage {
    let item = Bytes::copy_from_slice(item);
    HubMessage::StreamItem(StreamItem { headers: Headers::new(), invocation_id: id.to_owned(), item })
}

fn result(id: &str, result: &[u8]) -> HubMessage {
    HubMessage::Completion(Completion::result(id, Bytes::copy_from_slice(result)))
}

fn cancel(id: &str) -> HubMessage {
    HubMessage::CancelInvocation(CancelInvocation { headers: Headers::new(), invocation_id: id.to_owned() })
}

fn close(error: Option<&str>, allow_reconnect: bool) -> HubMessage {
    HubMessage::Close(Close { error: error.map(str::to_owned), allow_reconnect })
}

#[test]
fn json() {
    let date = "[\"2016-05-10T13:51:20+12:34\"]";
    for (message, text) in [
        (
            invocation(Some("123"), "Target", b"[1,\"Foo\"]", &[]),
            r#"{"type":1,"invocationId":"123","target":"Target","arguments":[1,"Foo"]}"#,
        ),
        (invocation(None, "Target", b"[true]", &[]), r#"{"type":1,"target":"Target","arguments":[true]}"#),
        (
            invocation(None, "Target", b"[]", &["__test_id__"]),
            r#"{"type":1,"target":"Target","arguments":[],"streamIds":["__test_id__"]}"#,
        ),
        (
            invocation(None, "Method", date.as_bytes(), &[]),
            r#"{"type":1,"target":"Method","arguments":["2016-05-10T13:51:20+12:34"]}"#,
        ),
        (
            invocation(None, "Method", "[\"מחרוזת כלשהי\"]".as_bytes(), &[]),
            r#"{"type":1,"target":"Method","arguments":["מחרוזת כלשהי"]}"#,
        ),
        (item("123", b"null"), r#"{"type":2,"invocationId":"123","item":null}"#),
        (HubMessage::Completion(Completion::void("123")), r#"{"type":3,"invocationId":"123"}"#),
        (result("123", b"null"), r#"{"type":3,"invocationId":"123","result":null}"#),
        (
            HubMessage::Completion(Completion::error("123", "Whoops!")),
            r#"{"type":3,"invocationId":"123","error":"Whoops!"}"#,
        ),
        (
            stream_invocation("123", "Target", b"[1,\"Foo\"]"),
            r#"{"type":4,"invocationId":"123","target":"Target","arguments":[1,"Foo"]}"#,
        ),
        (cancel("123"), r#"{"type":5,"invocationId":"123"}"#),
        (HubMessage::Ping, r#"{"type":6}"#),
        (close(None, false), r#"{"type":7}"#),
        (close(Some(""), false), r#"{"type":7,"error":""}"#),
        (close(Some("Error!"), true), r#"{"type":7,"error":"Error!","allowReconnect":true}"#),
        (HubMessage::Ack(Ack { sequence_id: 102_020 }), r#"{"type":8,"sequenceId":102020}"#),
        (HubMessage::Sequence(Sequence { sequence_id: 98_764_321 }), r#"{"type":9,"sequenceId":98764321}"#),
    ] {
        let written = HubProtocol::Json.to_bytes(&message);
        assert_eq!(std::str::from_utf8(&written).unwrap(), format!("{text}\u{1e}"));
        assert_eq!(HubProtocol::Json.read(&Bytes::from(text)), Ok(Incoming::Message(message)));
    }
}

#[test]
fn messagepack() {
    let custom = "86aa537472696e6750726f70a85369676e616c5221aa446f75626c6550726f70cb401921fb5442cf12a7496e7450726f702aac4461\
                  746554696d6550726f70d6ff58ec1c80a84e756c6c50726f70c0ab4279746541727250726f70c403010203";
    let three_headers = HubMessage::Completion(Completion {
        headers: [
            ("Foo", "Bar"),
            ("KeyWith\nNew\r\nLines", "Still Works"),
            ("ValueWithNewLines", "Also\nWorks\r\nFine"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        invocation_id: "xyz".to_owned(),
        outcome: Outcome::Error("Error not found!".to_owned()),
    });
    for (message, digits) in [
        (invocation(Some("xyz"), "method", b"\x90", &[]), "960180a378797aa66d6574686f649090"),
        (invocation(None, "method", b"\x91\x2a", &[]), "960180c0a66d6574686f64912a90"),
        (invocation(None, "Target", b"\x90", &["__test_id__"]), "960180c0a65461726765749091ab5f5f746573745f69645f5f"),
        (item("xyz", b"\x2a"), "940280a378797a2a"),
        (item("xyz", &crate::hex("ca42280000")), "940280a378797aca42280000"),
        (item("xyz", b"\xc0"), "940280a378797ac0"),
        (
            HubMessage::Completion(Completion::error("xyz", "Error not found!")),
            "950380a378797a01b04572726f72206e6f7420666f756e6421",
        ),
        (HubMessage::Completion(Completion::error("xyz", "")), "950380a378797a01a0"),
        (HubMessage::Completion(Completion::void("xyz")), "940380a378797a02"),
        (result("xyz", b"\x2a"), "950380a378797a032a"),
        (result("xyz", b"\xc0"), "950380a378797a03c0"),
        (result("xyz", b"\xa3One"), "950380a378797a03a34f6e65"),
        (result("xyz", &crate::hex(custom)), &format!("950380a378797a03{custom}")),
        (stream_invocation("xyz", "method", b"\x90"), "960480a378797aa66d6574686f649090"),
        (cancel("xyz"), "930580a378797a"),
        (HubMessage::Ping, "9106"),
        (close(None, false), "9307c0c2"),
        (close(Some("Error!"), false), "9307a64572726f7221c2"),
        (close(None, true), "9307c0c3"),
        (close(Some("Error!"), true), "9307a64572726f7221c3"),
        (HubMessage::Ack(Ack { sequence_id: 42 }), "92082a"),
        (HubMessage::Sequence(Sequence { sequence_id: 146 }), "9209cc92"),
        (
            three_headers,
            "950383a3466f6fa3426172b24b6579576974680a4e65770d0a4c696e6573ab5374696c6c20576f726b73b156616c7565576974684e6577\
             4c696e6573b0416c736f0a576f726b730d0a46696e65a378797a01b04572726f72206e6f7420666f756e6421",
        ),
    ] {
        let body = crate::hex(digits);
        let written = HubProtocol::MessagePack.to_bytes(&message);
        assert_eq!(usize::from(written[0]), body.len(), "{digits}");
        assert_eq!(written[1..], body, "{digits}");
        assert_eq!(HubProtocol::MessagePack.read(&Bytes::from(body)), Ok(Incoming::Message(message)), "{digits}");
    }
}

#[test]
fn what_cannot_be_told_apart_is_written_as_the_reference_does() {
    let empty_error = HubMessage::Completion(Completion::error("x", ""));
    assert_eq!(HubProtocol::Json.to_bytes(&empty_error), &b"{\"type\":3,\"invocationId\":\"x\"}\x1e"[..]);
    assert_eq!(HubProtocol::MessagePack.to_bytes(&close(Some(""), false)), &b"\x04\x93\x07\xc0\xc2"[..]);
    let without_id = invocation(Some(""), "T", b"[]", &[]);
    assert_eq!(HubProtocol::Json.to_bytes(&without_id), &b"{\"type\":1,\"target\":\"T\",\"arguments\":[]}\x1e"[..]);
}

#[test]
fn javascript_clients_frames_are_read() {
    for (digits, message) in [
        ("95018 0a130a3416464920102".replace(' ', ""), invocation(Some("0"), "Add", b"\x92\x01\x02", &[])),
        ("9207c0".to_owned(), close(None, false)),
        ("950180a0a3416464920102".to_owned(), invocation(None, "Add", b"\x92\x01\x02", &[])),
        ("9706d3000000000000002a".to_owned(), HubMessage::Ping),
        ("9208d3000000000000002affff".to_owned(), HubMessage::Ack(Ack { sequence_id: 42 })),
    ] {
        assert_eq!(
            HubProtocol::MessagePack.read(&Bytes::from(crate::hex(&digits))),
            Ok(Incoming::Message(message)),
            "{digits}"
        );
    }
}

#[test]
fn names_and_formats() {
    for (protocol, name, format) in [
        (HubProtocol::Json, "json", TransferFormat::Text),
        (HubProtocol::MessagePack, "messagepack", TransferFormat::Binary),
    ] {
        assert_eq!((protocol.name(), protocol.transfer_format()), (name, format));
        assert_eq!(HubProtocol::from_name(&name.to_uppercase()), Some(protocol));
        assert_eq!(HubProtocol::from_name(&format!("{name} ")), None);
    }
}
