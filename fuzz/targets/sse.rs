//! Event streams: cut anyhow, the same events; what is written reads back.
#![no_main]

use bytes::{Bytes, BytesMut};
use hubgate_protocol::sse::{EventReader, write_event};
use libfuzzer_sys::fuzz_target;

fn read(pieces: &[&[u8]]) -> Option<Vec<Bytes>> {
    let mut reader = EventReader::new(1 << 20);
    let mut events = Vec::new();
    for piece in pieces {
        reader.feed(piece, &mut events).ok()?;
    }
    Some(events)
}

fuzz_target!(|data: &[u8]| {
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(read(&[data]), read(&bytes));
    let mut out = BytesMut::new();
    write_event(&mut out, data);
    let _ = read(&[&out]);
});
