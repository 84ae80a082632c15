//! HTTP/2: rapid reset, CONTINUATION flood, zero window, a stalled stream beside others (rule F3).

use std::time::{Duration, Instant};

use crate::flood;
use crate::http2_frames::{
    CANCEL, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, RST_STREAM,
    WINDOW_UPDATE, connect_web_socket, field, frame, get,
};
use crate::rig::{Rig, Settings};
use crate::wire::{END, find, handshake, negotiate};

/// The window that a connection and its streams have at first.
const WINDOW: u32 = 65_535;

/// Waits until the gateway has let go of its connections to the hub.
async fn until_released(rig: &Rig, descriptors: usize) {
    let end = Instant::now() + crate::PATIENCE;
    while rig.gateway.descriptors() > descriptors {
        assert!(Instant::now() < end, "{} descriptors, {descriptors} allowed", rig.gateway.descriptors());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn er_f3_rapid_reset_ends_with_enhance_your_calm() {
    let rig = Rig::start(Settings::NONE).await;
    let address = rig.address;
    let descriptors = rig.gateway.descriptors();
    flood(20, 4, |_| async move {
        let mut connection = Connection::open(address, WINDOW).await;
        let block = get("/api/stream?n=1000&ms=1000");
        let mut bytes = Vec::new();
        for number in 0..500 {
            bytes.extend_from_slice(&frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, &block));
            bytes.extend_from_slice(&frame(RST_STREAM, 0, 1 + 2 * number, &CANCEL.to_be_bytes()));
        }
        connection.send(&bytes).await;
        assert_eq!(connection.to_go_away().await.unwrap_or(ENHANCE_YOUR_CALM), ENHANCE_YOUR_CALM);
    })
    .await;
    until_released(&rig, descriptors + 8).await;
    rig.finish("HTTP/2 rapid reset", 10_000).await;
}

#[tokio::test]
async fn er_f3_a_slower_rapid_reset_leaves_nothing_behind() {
    let rig = Rig::start(Settings::NONE).await;
    let address = rig.address;
    let descriptors = rig.gateway.descriptors();
    flood(10, 1, |_| async move {
        let mut connection = Connection::open(address, WINDOW).await;
        let block = get("/api/stream?n=1000&ms=1000");
        for turn in 0..20 {
            let mut bytes = Vec::new();
            for number in turn * 10..turn * 10 + 10 {
                bytes.extend_from_slice(&frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, &block));
            }
            bytes.extend_from_slice(&frame(PING, 0, 0, &[0; 8]));
            connection.send(&bytes).await;
            // Each request has reached the hub, whose answer begins.
            for _ in 0..10 {
                while connection.next().await.expect("an answer").kind != DATA {}
            }
            let mut bytes = Vec::new();
            for number in turn * 10..turn * 10 + 10 {
                bytes.extend_from_slice(&frame(RST_STREAM, 0, 1 + 2 * number, &CANCEL.to_be_bytes()));
            }
            connection.send(&bytes).await;
        }
    })
    .await;
    until_released(&rig, descriptors + 8).await;
    rig.finish("HTTP/2 resets after the answer began", 2_000).await;
}

#[tokio::test]
async fn er_f3_a_continuation_flood_ends_the_connection() {
    let rig = Rig::start(Settings::NONE).await;
    let address = rig.address;
    flood(20, 4, |number| async move {
        let mut connection = Connection::open(address, WINDOW).await;
        let lines = if number % 2 == 0 { field("x", &"y".repeat(100)).repeat(10) } else { field("x", "") };
        let mut refused = !connection.send(&frame(HEADERS, END_STREAM, 1, &get("/"))).await;
        for _ in 0..500 {
            refused = refused || !connection.send(&frame(CONTINUATION, 0, 1, &lines)).await;
        }
        let code = connection.to_go_away().await;
        assert!(refused || code.is_some(), "the connection ends: {code:?}");
    })
    .await;
    rig.finish("HTTP/2 CONTINUATION flood", 10_000).await;
}

#[tokio::test]
async fn er_f3_streams_without_window_are_reset_after_the_send_timeout() {
    let rig = Rig::start(Settings { gateway: "timeouts.send_timeout = '150 ms'", ..Settings::NONE }).await;
    let address = rig.address;
    let descriptors = rig.gateway.descriptors();
    flood(20, 1, |number| async move {
        // No window at all, or one byte of it.
        let mut connection = Connection::open(address, (number % 2) as u32).await;
        let block = get(if number % 4 < 2 { "/api/stream?n=1000&ms=1" } else { "/" });
        let mut bytes = Vec::new();
        for number in 0..100 {
            bytes.extend_from_slice(&frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * number, &block));
        }
        connection.send(&bytes).await;
        let mut reset = 0;
        while reset < 100 {
            let frame = connection.next().await.expect("the connection lives");
            assert!(frame.kind != DATA || frame.payload.len() <= 1, "{frame:?}");
            if frame.kind == RST_STREAM {
                assert_eq!(frame.error_code(), Some(CANCEL));
                reset += 1;
            }
        }
    })
    .await;
    until_released(&rig, descriptors + 80).await;
    rig.finish("HTTP/2 streams without window", 2_000).await;
}

#[tokio::test]
async fn er_f3_a_stalled_stream_does_not_hold_up_others_of_its_connection() {
    let rig = Rig::start(Settings { gateway: "timeouts.send_timeout = '1 s'", ..Settings::NONE }).await;
    let address = rig.address;
    flood(20, 4, |_| async move {
        let mut connection = Connection::open(address, 2_000).await;
        let enough = (1_u32 << 30).to_be_bytes();
        connection.send(&frame(WINDOW_UPDATE, 0, 0, &enough)).await;
        connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/api/stream?n=1000000&ms=0"))).await;
        let (mut received, mut reset, mut answered) = (0, false, 0);
        // The stalled stream gets its window and no more; the others are answered meanwhile, one after the other.
        while received < 2_000 {
            let frame = connection.next().await.expect("an answer");
            received += if frame.kind == DATA { frame.payload.len() } else { 0 };
        }
        let mut number = 3;
        while !reset || answered < 20 {
            connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, number, &get("/api/counts"))).await;
            loop {
                let came = connection.next().await.expect("an answer");
                assert!(came.stream != 1 || came.kind == RST_STREAM, "beyond its window: {came:?}");
                reset |= came.stream == 1 && came.kind == RST_STREAM;
                if came.stream == number && came.flags & END_STREAM != 0 && came.kind <= HEADERS {
                    break;
                }
            }
            answered += 1;
            number += 2;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    rig.finish("HTTP/2 stalled stream beside others", 20).await;
}

/// A handshake, then a call that makes the hub send 16 MiB.
fn flooded() -> String {
    let push = format!("{{\"type\":1,\"invocationId\":\"1\",\"target\":\"Push\",\"arguments\":[2000,8192]}}{END}");
    [handshake(), push].concat()
}

/// Waits for the headers of an answer.
async fn until_answered(connection: &mut Connection) {
    let head = loop {
        let came = connection.next().await.expect("an answer");
        if came.kind == HEADERS {
            break came;
        }
    };
    assert_eq!(head.flags & END_STREAM, 0, "the stream is open: {head:?}");
}

#[tokio::test]
async fn er_f3_stalled_event_streams_over_http2_are_reset() {
    let mut rig = Rig::start(Settings { gateway: "timeouts.send_timeout = '1 s'", ..Settings::NONE }).await;
    let address = rig.address;
    let offend = |_| async move {
        let (token, _) = negotiate(address, "/contract").await;
        let target = format!("/contract?id={token}");
        let mut connection = Connection::open(address, 1_000).await;
        let block = [long_path(get("/"), &target), field("accept", "text/event-stream")].concat();
        connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        until_answered(&mut connection).await;
        let body = flooded();
        let post = format!("POST {target} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut stream = crate::wire::connect(address, None).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, post.as_bytes()).await.expect("sent");
        let mut received = 0;
        loop {
            let came = connection.next().await.expect("the connection lives");
            if came.kind == RST_STREAM {
                break;
            }
            received += if came.kind == DATA { came.payload.len() } else { 0 };
        }
        assert!(received <= 1_000, "{received} bytes in a window of 1,000");
    };
    flood(5, 5, offend).await;
    rig.is_warm();
    flood(20, 5, offend).await;
    rig.finish("HTTP/2 stalled event streams", 20).await;
}

#[tokio::test]
async fn er_f3_stalled_websockets_over_http2_let_go_of_their_hub() {
    let rig = Rig::start(Settings { gateway: "timeouts.send_timeout = '1 s'", ..Settings::NONE }).await;
    let mut stalled = Vec::new();
    let descriptors = rig.gateway.descriptors();
    for _ in 0..20 {
        let (token, _) = negotiate(rig.address, "/contract").await;
        let mut connection = Connection::open(rig.address, 1_000).await;
        let block = long_path(connect_web_socket("/"), &format!("/contract?id={token}"));
        connection.send(&frame(HEADERS, END_HEADERS, 1, &block)).await;
        until_answered(&mut connection).await;
        let message = crate::wire::frame(0x81, flooded().as_bytes());
        connection.send(&frame(DATA, 0, 1, &message)).await;
        stalled.push(connection);
    }
    // Each held two descriptors; the client's connection stays, for its other streams.
    until_released(&rig, descriptors + stalled.len() + 4).await;
    rig.finish("HTTP/2 stalled WebSockets", 20).await;
}

/// Replaces the path `/` of a header block by one that may be long.
fn long_path(block: Vec<u8>, path: &str) -> Vec<u8> {
    let short = field(":path", "/");
    let at = find(&block, &short).expect("the path");
    let mut long = vec![0, 5];
    long.extend_from_slice(b":path");
    // A length of 127 and more: seven set bits, then the rest in groups of seven (RFC 7541 §5.1).
    let mut rest = path.len() - 127;
    long.push(127);
    while rest >= 128 {
        long.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    long.push(rest as u8);
    long.extend_from_slice(path.as_bytes());
    [&block[..at], &long, &block[at + short.len()..]].concat()
}
