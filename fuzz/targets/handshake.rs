//! Handshake records: a good one reads again after being written, whatever follows it.
#![no_main]

use bytes::BytesMut;
use hubgate_protocol::handshake::{RequestReader, parse_request, parse_response, write_request, write_response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let request = parse_request(data, 512);
    let mut reader = RequestReader::new(512);
    let step_by_step = (0..=data.len()).map(|len| reader.read(&data[..len])).find(|found| !matches!(found, Ok(None)));
    match (&request, step_by_step) {
        // A limit met on the way may strike earlier than a broken record at the end.
        (Ok(found), Some(Ok(step))) => assert_eq!(found.as_ref(), step.as_ref()),
        (Ok(None), None) | (Err(_), Some(Err(_))) => {}
        (whole, steps) => panic!("{whole:?} at once, {steps:?} step by step"),
    }
    if let Ok(Some(complete)) = request {
        assert_eq!(data[complete.consumed - 1], 0x1E);
        let mut out = BytesMut::new();
        write_request(&complete.value.protocol, complete.value.version, &mut out);
        assert_eq!(parse_request(&out, usize::MAX).unwrap().unwrap().value, complete.value);
    }
    if let Ok(Some(complete)) = parse_response(data, 512) {
        let mut out = BytesMut::new();
        write_response(&complete.value, &mut out);
        assert_eq!(parse_response(&out, usize::MAX).unwrap().unwrap().value, complete.value);
    }
});
