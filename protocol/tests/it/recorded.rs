//! Traffic recorded from ASP.NET Core 10 and from the official clients: everything is read, and what a server wrote is
//! written back byte for byte.

use bytes::{Bytes, BytesMut};
use hubgate_protocol::{HubMessage, HubProtocol, Incoming};

fn read(protocol: HubProtocol, body: &Bytes) -> HubMessage {
    match protocol.read(body) {
        Ok(Incoming::Message(message)) => message,
        other => panic!("{other:?} for {}", body.escape_ascii()),
    }
}

#[test]
fn json_of_the_reference_is_written_back_byte_for_byte() {
    let mut records = 0;
    for record in include_str!("../vectors/server.json.txt").lines() {
        let message = read(HubProtocol::Json, &Bytes::from(record));
        let written = HubProtocol::Json.to_bytes(&message);
        let (text, separator) = written.split_at(written.len() - 1);
        assert_eq!(separator, b"\x1e");
        assert_eq!(text.escape_ascii().to_string(), record.as_bytes().escape_ascii().to_string());
        records += 1;
    }
    assert!(records > 300, "only {records} records");
}

#[test]
fn messagepack_of_the_reference_is_written_back_byte_for_byte() {
    let mut messages = 0;
    for digits in include_str!("../vectors/server.messagepack.hex").lines() {
        let recorded = crate::hex(digits);
        let mut buffer = BytesMut::from(&recorded[..]);
        let mut splitter = HubProtocol::MessagePack.splitter(usize::MAX);
        let mut written = BytesMut::new();
        while let Some(whole) = splitter.next(&mut buffer).unwrap() {
            HubProtocol::MessagePack.write(&read(HubProtocol::MessagePack, &whole.body()), &mut written);
            messages += 1;
        }
        assert!(buffer.is_empty(), "{digits}");
        assert_eq!(written, recorded, "{digits}");
    }
    assert!(messages > 150, "only {messages} messages");
}

#[test]
fn json_of_the_official_clients_is_read() {
    let mut records = 0;
    for record in include_str!("../vectors/client.json.txt").lines() {
        read(HubProtocol::Json, &Bytes::from(record));
        records += 1;
    }
    assert!(records > 60, "only {records} records");
}
