//! The codec's own rules, category by category as Autobahn orders them, and properties over every split of a stream.

use super::*;
use proptest::prelude::*;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn frame(fin: bool, opcode: OpCode, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    write_frame(&mut out, fin, opcode, Some(KEY), payload);
    out
}

/// Feeds `wire` in pieces of `step` bytes and gathers everything.
fn decode_all(wire: &[u8], step: usize) -> Result<Vec<Incoming>, Violation> {
    let mut decoder = MessageDecoder::new(Sender::Client, 1 << 20);
    let mut input = BytesMut::new();
    let mut got = Vec::new();
    for piece in wire.chunks(step.max(1)) {
        input.extend_from_slice(piece);
        while let Some(message) = decoder.decode(&mut input)? {
            got.push(message);
        }
    }
    Ok(got)
}

fn both(wire: &[u8]) -> Result<Vec<Incoming>, Violation> {
    let whole = decode_all(wire, usize::MAX);
    assert_eq!(whole, decode_all(wire, 1), "byte by byte must read the same");
    whole
}

#[test]
fn category_1_framing_of_every_length_class() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let payload = vec![b'*'; len];
        let wire = frame(true, OpCode::Text, &payload);
        assert_eq!(decode_all(&wire, 997), Ok(vec![Incoming::Text(payload.clone().into())]));
        let wire = frame(true, OpCode::Binary, &payload);
        assert_eq!(decode_all(&wire, 997), Ok(vec![Incoming::Binary(payload.into())]));
    }
}

#[test]
fn category_2_pings_come_out_in_order_also_inside_a_message() {
    let mut wire = frame(false, OpCode::Text, b"ab");
    wire.extend_from_slice(&frame(true, OpCode::Ping, b""));
    wire.extend_from_slice(&frame(true, OpCode::Ping, &[7; 125]));
    wire.extend_from_slice(&frame(true, OpCode::Pong, b"unasked"));
    wire.extend_from_slice(&frame(true, OpCode::Continuation, b"cd"));
    assert_eq!(
        both(&wire),
        Ok(vec![
            Incoming::Ping(Bytes::new()),
            Incoming::Ping(Bytes::from_static(&[7; 125])),
            Incoming::Pong(Bytes::from_static(b"unasked")),
            Incoming::Text(Bytes::from_static(b"abcd")),
        ])
    );
    let mut long = BytesMut::new();
    FrameHeader::write(&mut long, true, OpCode::Ping, Some(KEY), 126);
    assert_eq!(both(&long), Err(Violation::LongControl(126)));
}

#[test]
fn category_3_reserved_bits_are_refused_at_the_second_byte() {
    for bit in [0x40, 0x20, 0x10] {
        assert_eq!(both(&[0x81 | bit, 0x80]), Err(Violation::ReservedBit));
    }
}

#[test]
fn category_4_reserved_opcodes_are_refused() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(both(&[0x80 | opcode, 0x80]), Err(Violation::ReservedOpCode(opcode)));
    }
}

#[test]
fn category_5_fragmentation() {
    let mut wire = frame(false, OpCode::Binary, b"");
    wire.extend_from_slice(&frame(false, OpCode::Continuation, b"x"));
    wire.extend_from_slice(&frame(true, OpCode::Continuation, b""));
    assert_eq!(both(&wire), Ok(vec![Incoming::Binary(Bytes::from_static(b"x"))]));

    assert_eq!(both(&frame(true, OpCode::Continuation, b"x")), Err(Violation::ContinuationWithoutStart));
    let mut wire = frame(false, OpCode::Text, b"a");
    wire.extend_from_slice(&frame(true, OpCode::Text, b"b"));
    assert_eq!(both(&wire), Err(Violation::MessageInsideMessage));
    assert_eq!(both(&frame(false, OpCode::Ping, b"")), Err(Violation::FragmentedControl));
}

#[test]
fn category_6_utf8_is_checked_over_fragments_and_fails_early() {
    let text = "κόσμε€😀".as_bytes();
    for cut in 0..=text.len() {
        let mut wire = frame(false, OpCode::Text, &text[..cut]);
        wire.extend_from_slice(&frame(true, OpCode::Continuation, &text[cut..]));
        assert_eq!(both(&wire), Ok(vec![Incoming::Text(Bytes::from_static(text))]), "cut at {cut}");
    }
    for bad in [&b"\xC0\xAF"[..], b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xFF", b"a\x80", b"\xE2\x82"] {
        assert_eq!(both(&frame(true, OpCode::Text, bad)), Err(Violation::InvalidUtf8), "{bad:x?}");
    }
    assert_eq!(both(&frame(false, OpCode::Text, b"ok\xFF")), Err(Violation::InvalidUtf8), "before the message ends");
    assert!(both(&frame(true, OpCode::Binary, b"\xFF")).is_ok());
}

#[test]
fn category_7_close_codes_reasons_and_silence_afterwards() {
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999] {
        let mut wire = BytesMut::new();
        write_close(&mut wire, Some(KEY), Some((code, "bye")));
        wire.extend_from_slice(&frame(true, OpCode::Text, b"late"));
        assert_eq!(both(&wire), Ok(vec![Incoming::Close(Some((code, "bye".to_owned())))]));
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        assert_eq!(both(&frame(true, OpCode::Close, &code.to_be_bytes())), Err(Violation::CloseCode(code)));
    }
    assert_eq!(both(&frame(true, OpCode::Close, b"\x03")), Err(Violation::ShortClose));
    assert_eq!(both(&frame(true, OpCode::Close, b"\x03\xE8\xFF")), Err(Violation::CloseReason));
    assert_eq!(both(&frame(true, OpCode::Close, b"")), Ok(vec![Incoming::Close(None)]));
    let mut long = BytesMut::new();
    write_close(&mut long, None, Some((1000, &"é".repeat(100))));
    assert_eq!(long.len(), 2 + 2 + 122, "a long reason is cut between characters");
}

#[test]
fn category_9_limits_refuse_by_declared_length_and_by_sum() {
    let mut decoder = MessageDecoder::new(Sender::Client, 10);
    let mut declared = BytesMut::new();
    FrameHeader::write(&mut declared, true, OpCode::Binary, Some(KEY), 11);
    assert_eq!(decoder.decode(&mut declared), Err(Violation::MessageTooLong(10)));

    let mut decoder = MessageDecoder::new(Sender::Client, 10);
    let mut input = frame(false, OpCode::Binary, &[0; 6]);
    input.extend_from_slice(&frame(true, OpCode::Continuation, &[0; 5]));
    assert_eq!(decoder.decode(&mut input), Err(Violation::MessageTooLong(10)));

    let top_bit = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(both(&top_bit), Err(Violation::LengthTopBit));
}

#[test]
fn masks_must_fit_the_sender() {
    let mut unmasked = BytesMut::new();
    write_frame(&mut unmasked, true, OpCode::Text, None, b"hi");
    assert_eq!(both(&unmasked), Err(Violation::NotMasked));
    let mut server = MessageDecoder::new(Sender::Server, 100);
    assert_eq!(server.decode(&mut frame(true, OpCode::Text, b"hi")), Err(Violation::Masked));
    assert_eq!(server.decode(&mut unmasked), Ok(Some(Incoming::Text(Bytes::from_static(b"hi")))));
}

#[test]
fn lengths_need_not_be_minimal() {
    let wire = [0x81, 0xFE, 0, 2, 0, 0, 0, 0, b'h', b'i'];
    assert_eq!(both(&wire), Ok(vec![Incoming::Text(Bytes::from_static(b"hi"))]));
}

#[test]
fn accept_key_is_that_of_the_rfc() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(!is_key(b"dGhlIHNhbXBsZSBub25jZQ="));
    assert!(!is_key(b"short"));
}

fn frames() -> impl Strategy<Value = Vec<(bool, u8, Vec<u8>)>> {
    let payload = prop_oneof![prop::collection::vec(any::<u8>(), 0..140), Just(vec![1; 126]), Just(vec![2; 65_536])];
    prop::collection::vec((any::<bool>(), prop::sample::select(vec![0_u8, 1, 2, 8, 9, 10]), payload), 1..8)
}

proptest! {
    #[test]
    fn the_tracker_finds_every_boundary_in_every_split(frames in frames(), cuts in prop::collection::vec(1_usize..200, 1..40)) {
        let mut wire = BytesMut::new();
        let mut ends = Vec::new();
        for (fin, opcode, payload) in &frames {
            write_frame(&mut wire, *fin, OpCode::from_bits(*opcode), Some(KEY), payload);
            ends.push(wire.len());
        }
        let (mut tracker, mut seen, mut at) = (FrameTracker::new(), Vec::new(), 0);
        let mut cuts = cuts.iter().cycle();
        while at < wire.len() {
            let upto = (at + cuts.next().copied().unwrap_or(1)).min(wire.len());
            while at < upto {
                let (used, _) = tracker.step(&wire[at..upto]).unwrap();
                at += used;
                if tracker.at_frame_boundary() {
                    seen.push(at);
                }
            }
        }
        prop_assert_eq!(seen, ends);
    }

    #[test]
    fn garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..400), step in 1_usize..9) {
        let whole = decode_all(&garbage, usize::MAX);
        let pieces = decode_all(&garbage, step);
        prop_assert_eq!(whole.is_err(), pieces.is_err());
        let mut tracker = FrameTracker::new();
        let mut rest = &garbage[..];
        while !rest.is_empty() {
            match tracker.step(rest) {
                Ok((used, _)) => rest = &rest[used..],
                Err(_) => break,
            }
        }
    }

    #[test]
    fn masking_twice_in_any_pieces_is_nothing(bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 0_usize..80, key: [u8; 4]) {
        let mut masked = bytes.clone();
        apply_mask(&mut masked, key, 0);
        let cut = cut.min(masked.len());
        let (head, tail) = masked.split_at_mut(cut);
        apply_mask(head, key, 0);
        apply_mask(tail, key, cut);
        prop_assert_eq!(masked, bytes);
    }
}
