//! However a byte stream is cut, the same messages come out; and what was written reads back.

use bytes::{Bytes, BytesMut};
use hubgate_protocol::framing::{self, WholeMessages, take_whole_messages};
use hubgate_protocol::{HubMessage, HubProtocol, Incoming, peek};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategy;

fn write_all(protocol: HubProtocol, messages: &[HubMessage]) -> Bytes {
    let mut out = BytesMut::new();
    for message in messages {
        protocol.write(message, &mut out);
    }
    out.freeze()
}

/// Cuts `stream` at the places that `cuts` names in per mille.
fn pieces(stream: &Bytes, cuts: &[usize]) -> Vec<Bytes> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut * stream.len() / 1000).collect();
    places.push(stream.len());
    places.sort_unstable();
    let mut from = 0;
    places.into_iter().map(|to| stream.slice(std::mem::replace(&mut from, to)..to)).collect()
}

fn read_all(protocol: HubProtocol, pieces: &[Bytes]) -> Vec<HubMessage> {
    let mut splitter = protocol.splitter(usize::MAX);
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(whole) = splitter.next(&mut buffer).unwrap() {
            match protocol.read(&whole.body()).unwrap() {
                Incoming::Message(message) => messages.push(message),
                Incoming::Unknown { message_type } => panic!("unknown type {message_type}"),
            }
        }
    }
    assert!(buffer.is_empty(), "{} bytes left", buffer.len());
    messages
}

proptest! {
    #[test]
    fn every_split_reads_the_same((protocol, messages) in strategy::stream(), cuts in vec(0..1000usize, 0..12)) {
        let stream = write_all(protocol, &messages);
        prop_assert_eq!(read_all(protocol, &pieces(&stream, &cuts)), messages);
    }

    #[test]
    fn a_byte_at_a_time_reads_the_same((protocol, messages) in strategy::stream()) {
        let stream = write_all(protocol, &messages);
        let bytes: Vec<Bytes> = (0..stream.len()).map(|at| stream.slice(at..=at)).collect();
        prop_assert_eq!(read_all(protocol, &bytes), messages);
    }

    #[test]
    fn forwarded_blocks_hold_whole_messages_and_every_byte(
        (protocol, messages) in strategy::stream(),
        cuts in vec(0..1000usize, 0..12),
    ) {
        let stream = write_all(protocol, &messages);
        let mut scan = WholeMessages::new(protocol, usize::MAX);
        let mut buffer = BytesMut::new();
        let mut blocks = Vec::new();
        for piece in pieces(&stream, &cuts) {
            buffer.extend_from_slice(&piece);
            while let Some(block) = take_whole_messages(&mut scan, &mut buffer).unwrap() {
                read_all(protocol, std::slice::from_ref(&block));
                blocks.push(block);
            }
        }
        prop_assert_eq!(blocks.concat(), stream.to_vec());
        prop_assert_eq!(scan.messages(), messages.len());
        prop_assert!(scan.is_at_boundary(buffer.len()));
    }

    #[test]
    fn peeking_says_what_reading_says((protocol, messages) in strategy::stream()) {
        for message in &messages {
            let framed = protocol.to_bytes(message);
            prop_assert_eq!(peek::message_type(protocol, &framed), Some(message.message_type()));
            prop_assert_eq!(peek::is_ping(protocol, &framed), matches!(message, HubMessage::Ping));
            prop_assert_eq!(peek::is_close(protocol, &framed), matches!(message, HubMessage::Close(_)));
        }
    }

    #[test]
    fn arguments_split_and_join(elements in vec(strategy::payload(HubProtocol::MessagePack), 0..20)) {
        let joined = HubProtocol::MessagePack.join_arguments(&elements);
        prop_assert_eq!(HubProtocol::MessagePack.split_arguments(&joined).unwrap(), elements);
    }

    #[test]
    fn json_arguments_split_and_join(elements in vec(strategy::payload(HubProtocol::Json), 0..20)) {
        let joined = HubProtocol::Json.join_arguments(&elements);
        prop_assert_eq!(HubProtocol::Json.split_arguments(&joined).unwrap(), elements);
    }
}

#[test]
fn white_space_around_json_arguments_is_not_theirs() {
    let split = HubProtocol::Json.split_arguments(&Bytes::from_static(b" [ 1 , {\"a\":[2]} ,\t\"x\"\n] ")).unwrap();
    assert_eq!(split, [&b"1"[..], b"{\"a\":[2]}", b"\"x\""]);
    for broken in ["", "[", "[1", "[1,]", "[,1]", "[1 2]", "{}", "[1]x", "[01]", "[\"\n\"]", "[nul]"] {
        assert!(HubProtocol::Json.split_arguments(&Bytes::from(broken)).is_err(), "{broken}");
    }
}

#[test]
fn the_limit_strikes_at_one_byte_more() {
    let too_large = Err(framing::Error::MessageTooLarge { bytes_max: 8 });
    for (protocol, fits, exceeds) in [
        (HubProtocol::Json, &b"1234567\x1e"[..], &b"12345678\x1e"[..]),
        (HubProtocol::MessagePack, b"\x071234567", b"\x0812345678"),
    ] {
        let mut splitter = protocol.splitter(8);
        let mut buffer = BytesMut::from(fits);
        buffer.extend_from_slice(exceeds);
        assert_eq!(splitter.next(&mut buffer).unwrap().unwrap().framed().as_ref(), fits);
        assert_eq!(splitter.next(&mut buffer), too_large);

        // A length that announces too much is waited for all the same, as the reference does.
        let mut splitter = protocol.splitter(8);
        let mut buffer = BytesMut::from(&exceeds[..8]);
        assert_eq!(splitter.next(&mut buffer), Ok(None));
        buffer.extend_from_slice(&exceeds[8..9]);
        assert_eq!(splitter.next(&mut buffer), too_large);
    }
}

#[test]
fn whole_messages_before_a_too_large_one_come_out_first() {
    let mut scan = WholeMessages::new(HubProtocol::Json, 4);
    let mut buffer = BytesMut::from(&b"a\x1eb\x1etoo long"[..]);
    assert_eq!(take_whole_messages(&mut scan, &mut buffer).unwrap().unwrap().as_ref(), b"a\x1eb\x1e");
    let too_large = Err(framing::Error::MessageTooLarge { bytes_max: 4 });
    assert_eq!(take_whole_messages(&mut scan, &mut buffer), too_large);
}

#[test]
fn length_prefixes_are_the_shortest_and_padded_ones_are_read() {
    for (len, digits) in
        [(0, "00"), (127, "7f"), (128, "8001"), (16_384, "808001"), (0x7FFF_FFFF, "ffffffff07"), (300, "ac02")]
    {
        let mut out = BytesMut::new();
        framing::write_length_prefix(len, &mut out).unwrap();
        assert_eq!(out, crate::hex(digits), "{len}");
        assert_eq!(framing::read_length_prefix(&out), Ok(Some((len, out.len()))));
        for cut in 0..out.len() {
            assert_eq!(framing::read_length_prefix(&out[..cut]), Ok(None));
        }
    }
    assert_eq!(framing::read_length_prefix(&[0x80, 0x00]), Ok(Some((0, 2))));
    for bad in ["ffffffff08", "8080808080", "ffffffffff01"] {
        assert_eq!(framing::read_length_prefix(&crate::hex(bad)), Err(framing::Error::LengthPrefix), "{bad}");
    }
    assert!(framing::write_length_prefix(0x8000_0000, &mut BytesMut::new()).is_err());
}
