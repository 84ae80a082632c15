//! WebSocket frames: cut anyhow, the same messages and the same boundaries.
#![no_main]

use bytes::BytesMut;
use hubgate_protocol::websocket::{FrameTracker, Incoming, MessageDecoder, Sender, Tracked, Violation, parse_close};
use libfuzzer_sys::fuzz_target;

fn decode(sender: Sender, pieces: &[&[u8]]) -> (Vec<Incoming>, Option<Violation>) {
    let mut decoder = MessageDecoder::new(sender, 256);
    let mut input = BytesMut::new();
    let mut messages = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(violation) => return (messages, Some(violation)),
            }
        }
    }
    (messages, None)
}

/// Payload bytes and headers seen, and whether the end is a boundary.
fn track(pieces: &[&[u8]]) -> (usize, usize, Option<bool>) {
    let mut tracker = FrameTracker::new();
    let (mut payload, mut headers) = (0, 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match tracker.step(rest) {
                Ok((used, tracked)) => {
                    match tracked {
                        Tracked::Payload { .. } => payload += used,
                        Tracked::Header(_) => headers += 1,
                        Tracked::PartialHeader => {}
                    }
                    rest = &rest[used..];
                }
                Err(_) => return (payload, headers, None),
            }
        }
    }
    (payload, headers, Some(tracker.at_message_boundary()))
}

fuzz_target!(|data: &[u8]| {
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    for sender in [Sender::Client, Sender::Server] {
        let (messages, violation) = decode(sender, &[data]);
        let (slowly, slow_violation) = decode(sender, &bytes);
        assert_eq!(messages, slowly);
        assert_eq!(violation.is_some(), slow_violation.is_some());
    }
    assert_eq!(track(&[data]), track(&bytes));
    let _ = parse_close(data);
});
