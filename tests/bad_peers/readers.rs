//! Clients that stop reading, on every transport, and many at once (rules E2, F1, F3).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::flood;
use crate::rig::{Rig, Settings};
use crate::wire::{END, WebSocket, connect, frame, handshake, negotiate, request};

/// A receive buffer as small as the system allows, so that a client that does not read is full at once.
const SMALL: Option<u32> = Some(4096);

/// A call that makes the hub send `count` messages of `size` bytes.
fn push(count: usize, size: usize) -> String {
    format!("{{\"type\":1,\"invocationId\":\"1\",\"target\":\"Push\",\"arguments\":[{count},{size}]}}{END}")
}

/// Waits for the reset that the send time-out makes, without reading anything before it.
async fn until_reset(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let reset = timeout(crate::PATIENCE, async {
        // Without reading, a reset shows as an error event only.
        loop {
            stream.ready(tokio::io::Interest::ERROR).await.expect("readiness");
            if stream.take_error().expect("an error to take").is_some() {
                return;
            }
        }
    });
    reset.await.expect("the gateway gives the client up");
    began.elapsed()
}

#[tokio::test]
async fn a_websocket_client_that_never_reads_is_reset() {
    let rig = Rig::start(Settings { gateway: "timeouts.send_timeout = '1 s'", ..Settings::NONE }).await;
    let address = rig.address;
    flood(40, 20, |_| async move {
        let (mut socket, _) = WebSocket::shaken_hub(address, "/contract", SMALL).await;
        socket.text(&push(2_000, 8_192)).await;
        let after = until_reset(&mut socket.stream).await;
        assert!(after >= Duration::from_millis(900), "reset after {after:?}");
    })
    .await;
    rig.finish("WebSocket clients that never read", 40).await;
}

/// Opens an event stream with a small receive buffer and shakes hands by POST.
async fn event_stream(address: SocketAddr) -> (TcpStream, String) {
    let (token, _) = negotiate(address, "/contract").await;
    let target = format!("/contract?id={token}");
    let mut stream = connect(address, SMALL).await;
    let head = format!("GET {target} HTTP/1.1\r\nHost: hub\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut bytes = vec![0; 12];
    timeout(crate::PATIENCE, stream.read_exact(&mut bytes)).await.expect("in time").expect("an answer");
    assert_eq!(bytes, b"HTTP/1.1 200");
    post(address, &target, &handshake()).await;
    (stream, target)
}

async fn post(address: SocketAddr, target: &str, body: &str) {
    let mut stream = connect(address, None).await;
    let head = format!("POST {target} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = timeout(crate::PATIENCE, crate::wire::read_answer(&mut stream)).await.expect("in time");
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test]
async fn an_event_stream_that_is_never_read_is_reset() {
    let mut rig = Rig::start(Settings { gateway: "timeouts.send_timeout = '1 s'", ..Settings::NONE }).await;
    let address = rig.address;
    let offend = |_| async move {
        let (mut stream, target) = event_stream(address).await;
        post(address, &target, &push(2_000, 8_192)).await;
        until_reset(&mut stream).await;
        let end = Instant::now() + crate::PATIENCE;
        while request(address, "POST", &target).await.status != 404 {
            assert!(Instant::now() < end, "the connection outlives its stream");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    flood(20, 20, offend).await;
    rig.is_warm();
    flood(40, 20, offend).await;
    rig.finish("event streams never read", 40).await;
}

#[tokio::test]
async fn a_poll_that_is_never_read_or_repeated_is_reaped() {
    let gateway = "timeouts.send_timeout = '1 s'\ntimeouts.disconnect_timeout = '1 s'";
    let mut rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    let offend = |_| async move {
        let (token, _) = negotiate(address, "/contract").await;
        let target = format!("/contract?id={token}");
        assert_eq!(request(address, "GET", &target).await.status, 200, "the first poll");
        post(address, &target, &handshake()).await;
        post(address, &target, &push(200, 8_192)).await;
        let mut poll = connect(address, SMALL).await;
        let head = format!("GET {target} HTTP/1.1\r\nHost: hub\r\n\r\n");
        poll.write_all(head.as_bytes()).await.expect("sent");
        let end = Instant::now() + crate::PATIENCE;
        while request(address, "POST", &target).await.status != 404 {
            assert!(Instant::now() < end, "nobody reaps it");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    flood(50, 50, offend).await;
    rig.is_warm();
    flood(100, 50, offend).await;
    rig.finish("polls never read", 100).await;
}

/// How many readers stop: each makes the system buffer almost 3 MB before it is noticed, so there are 200 unless
/// `HUBGATE_STOPPED_READERS` says more.
fn readers() -> usize {
    std::env::var("HUBGATE_STOPPED_READERS").ok().and_then(|number| number.parse().ok()).unwrap_or(200)
}

#[tokio::test]
async fn er_f3_readers_that_stop_stay_within_buffered_bytes_max() {
    let gateway =
        "limits.buffered_bytes_max = '1 MiB'\nlimits.hub_message_bytes_max = '128 KiB'\ntimeouts.send_timeout = '30 s'";
    let mut rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    let stopped = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let offend = |number: usize| {
        let stopped = std::rc::Rc::clone(&stopped);
        async move {
            let stream = if number.is_multiple_of(4) {
                let (stream, target) = event_stream(address).await;
                post(address, &target, &push(400, 8_192)).await;
                stream
            } else {
                let (mut socket, _) = WebSocket::shaken_hub(address, "/contract", SMALL).await;
                socket.raw(&frame(0x81, push(400, 8_192).as_bytes())).await;
                socket.stream
            };
            stopped.borrow_mut().push(stream);
        }
    };
    flood(50, 50, offend).await;
    rig.is_warm();
    let readers = readers();
    flood(readers, 50, offend).await;
    rig.gateway.until_said("limits.buffered_bytes_max").await;
    rig.finish("readers that stop", readers).await;
}
