//! No input makes a parser panic, and what one of them accepts is consistent.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::negotiate::{NegotiateRequest, NegotiateResponse};
use hubgate_protocol::session::{Output, ServerConfig, Session};
use hubgate_protocol::{HubProtocol, Incoming, handshake, peek, query};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategy;

const PROTOCOLS: [HubProtocol; 2] = [HubProtocol::Json, HubProtocol::MessagePack];

/// Bytes that are nearly messages: random, or a good stream with a few bytes changed.
pub(crate) fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let spoiled =
        (strategy::stream(), vec((any::<usize>(), any::<u8>()), 1..4)).prop_map(|((protocol, messages), changes)| {
            let mut out = BytesMut::new();
            for message in &messages {
                protocol.write(message, &mut out);
            }
            let len = out.len();
            for (at, byte) in changes {
                if len > 0 {
                    out[at % len] = byte;
                }
            }
            out.to_vec()
        });
    prop_oneof![vec(any::<u8>(), 0..200), spoiled]
}

proptest! {
    #[test]
    fn parsers_take_anything(bytes in nearly()) {
        for protocol in PROTOCOLS {
            let body = Bytes::from(bytes.clone());
            if let Ok(Incoming::Message(message)) = protocol.read(&body) {
                // What was read can be written and read again, and then stays the same.
                let framed = protocol.to_bytes(&message);
                let whole = protocol.splitter(usize::MAX).next(&mut BytesMut::from(&framed[..])).unwrap();
                if let Some(whole) = whole
                    && let Ok(Incoming::Message(again)) = protocol.read(&whole.body())
                {
                    prop_assert_eq!(again.message_type(), message.message_type());
                }
            }
            let _ = protocol.split_arguments(&body);
            let _ = peek::message_type(protocol, &bytes);
            let mut splitter = protocol.splitter(64);
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = splitter.next(&mut buffer) {}
        }
        let _ = handshake::parse_request(&bytes, 100);
        let _ = handshake::parse_response(&bytes, 100);
        let _ = NegotiateResponse::from_json(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = NegotiateRequest::from_query(&text);
        let _ = query::without(&text, &["id"]);
    }

    #[test]
    fn a_session_takes_anything_and_ends_once(pieces in vec(nearly(), 0..5), handshaken: bool) {
        let mut session = Session::server(ServerConfig { detailed_errors: true, ..ServerConfig::default() }, Duration::ZERO);
        if handshaken {
            session.receive(b"{\"protocol\":\"messagepack\",\"version\":1}\x1e", Duration::ZERO);
        }
        for (at, piece) in pieces.iter().enumerate() {
            session.receive(piece, Duration::from_secs(u64::try_from(at).unwrap()));
        }
        session.input_ended(Duration::from_secs(9));
        let outputs: Vec<Output> = std::iter::from_fn(|| session.next_output()).collect();
        let ends = outputs.iter().filter(|output| matches!(output, Output::Ended(_))).count();
        prop_assert_eq!(ends, 1);
        prop_assert!(matches!(outputs.last(), Some(Output::Ended(_))));
    }
}

#[test]
fn a_lie_about_a_length_costs_nothing() {
    for digits in ["dfffffffff", "ddffffffff", "9501dfffffffff", "960180c0a161ddffffffff90", "c6ffffffff", "dbffffffff"]
    {
        let body = Bytes::from(crate::hex(digits));
        let _ = HubProtocol::MessagePack.read(&body);
        assert!(HubProtocol::MessagePack.split_arguments(&body).is_err(), "{digits}");
    }
}

#[test]
fn deep_nesting_is_bounded() {
    let array = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let call = |depth| format!("{{\"type\":1,\"target\":\"T\",\"arguments\":[{}]}}", array(depth));
    let other = |depth| format!("{{\"x\":{},\"type\":6}}", array(depth));
    let reads = |text: String| HubProtocol::Json.read(&Bytes::from(text)).is_ok();
    assert!(reads(call(62)) && !reads(call(63)));
    assert!(reads(other(63)) && !reads(other(64)));
    assert!(!reads(other(1_000_000)));
    // MessagePack has no such limit: nothing recurses.
    let mut deep = crate::hex("940280a130");
    deep.extend(std::iter::repeat_n(0x91, 1_000_000));
    deep.push(0xC0);
    assert!(HubProtocol::MessagePack.read(&Bytes::from(deep)).is_ok());
}
