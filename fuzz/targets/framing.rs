//! Splitting a stream: all at once, a byte at a time and as forwarded blocks give the same messages.
#![no_main]

use bytes::{Bytes, BytesMut};
use hubgate_protocol::HubProtocol;
use hubgate_protocol::framing::{WholeMessages, take_whole_messages};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 64;

fn split(protocol: HubProtocol, pieces: &[&[u8]]) -> (Vec<Bytes>, bool) {
    let mut splitter = protocol.splitter(LIMIT);
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match splitter.next(&mut buffer) {
                Ok(Some(message)) => {
                    assert!(message.framed().len() <= LIMIT && message.body().len() < message.framed().len());
                    messages.push(message.into_framed());
                }
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
        assert!(buffer.len() <= LIMIT);
    }
    (messages, false)
}

fuzz_target!(|data: &[u8]| {
    for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
        let at_once = split(protocol, &[data]);
        let bytes: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(at_once, split(protocol, &bytes));

        let mut scan = WholeMessages::new(protocol, LIMIT);
        let mut buffer = BytesMut::new();
        let mut blocks = Vec::new();
        'input: for piece in data.chunks(7) {
            buffer.extend_from_slice(piece);
            loop {
                match take_whole_messages(&mut scan, &mut buffer) {
                    Ok(Some(block)) => blocks.extend_from_slice(&block),
                    Ok(None) => break,
                    Err(_) => break 'input,
                }
            }
        }
        assert_eq!(blocks, at_once.0.concat());
        assert_eq!(scan.messages(), at_once.0.len());
    }
});
