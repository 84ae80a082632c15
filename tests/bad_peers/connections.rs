//! Connections that are opened and then say nothing, too little, or nonsense; and peers that vanish.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::flood;
use crate::process::Process;
use crate::rig::{Rig, Settings};
use crate::wire::{END, WebSocket, connect, json_text, read_to_end, request};

/// Opens a connection, says `words`, and waits for the end that the gateway makes; what it said first.
async fn end_of(address: std::net::SocketAddr, words: &[u8]) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut stream = connect(address, None).await;
    stream.write_all(words).await.expect("sent");
    (read_to_end(&mut stream).await, began.elapsed())
}

#[tokio::test]
async fn er_f3_silent_connects_are_closed_after_the_first_byte_timeout() {
    let gateway = "timeouts.first_byte_timeout = '300 ms'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    flood(10_000, 1_000, |_| async move {
        let (said, after) = end_of(address, b"").await;
        assert_eq!(said, b"");
        assert!(after >= Duration::from_millis(290), "closed after {after:?}");
    })
    .await;
    rig.finish("silent TCP connects", 10_000).await;
}

#[tokio::test]
async fn er_f3_half_a_preface_is_closed_after_the_first_byte_timeout() {
    let gateway = "timeouts.first_byte_timeout = '300 ms'\ntimeouts.headers_timeout = '300 ms'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    flood(2_000, 250, |number| async move {
        let words: &[u8] = [b"P".as_slice(), b"PRI", b"PRI * HTTP/2.0\r\n", b"G"][number % 4];
        end_of(address, words).await;
    })
    .await;
    rig.finish("connections that begin and stop", 2_000).await;
}

#[tokio::test]
async fn er_f3_unfinished_tls_handshakes_are_closed_after_their_timeout() {
    let gateway = "timeouts.tls_handshake_timeout = '300 ms'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.secure;
    // The first 11 bytes of a ClientHello that says it is longer, silence, and what is no TLS at all.
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];
    flood(10_000, 900, |number| async move {
        let (said, after) = end_of(address, if number % 2 == 0 { &hello } else { b"" }).await;
        assert_eq!(said, b"");
        assert!(after >= Duration::from_millis(290), "closed after {after:?}");
    })
    .await;
    rig.finish("unfinished TLS handshakes", 10_000).await;
}

#[tokio::test]
async fn er_f1_tls_handshakes_over_the_limit_are_refused() {
    let gateway = "limits.tls_handshakes_max = 20\ntimeouts.tls_handshake_timeout = '2 s'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.secure;
    let refused = std::rc::Rc::new(std::cell::Cell::new(0));
    flood(200, 200, |_| {
        let refused = std::rc::Rc::clone(&refused);
        async move {
            let (_, after) = end_of(address, b"").await;
            if after < Duration::from_millis(1_500) {
                refused.set(refused.get() + 1);
            }
        }
    })
    .await;
    assert_eq!(refused.get(), 180, "all but limits.tls_handshakes_max are refused at once");
    rig.finish("TLS handshakes over the limit", 200).await;
}

#[tokio::test]
async fn what_is_no_http_gets_400() {
    let rig = Rig::start(Settings::NONE).await;
    let address = rig.address;
    flood(10_000, 100, |number| async move {
        let garbage: &[u8] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello over clear text\r\n\r\n".as_slice(),
            b"\x00\x01\x02\x03\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
            b"POST /contract HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"{\"protocol\":\"json\",\"version\":1}\x1e\r\n\r\n",
        ][number % 7];
        let (said, _) = end_of(address, garbage).await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 400 "), "{garbage:?} got {said}");
    })
    .await;
    rig.finish("garbage instead of HTTP", 10_000).await;
}

#[tokio::test]
async fn half_open_sockets_are_given_up_by_pings() {
    let gateway = "timeouts.websocket_ping_interval = '1 s'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    // Never reads, so never answers a Ping: as a machine that has vanished. The hub must be told.
    flood(200, 100, |_| async move {
        let (mut socket, id) = WebSocket::shaken_hub(address, "/contract", None).await;
        let (mut watcher, _) = WebSocket::shaken_hub(address, "/contract", None).await;
        socket.answers_pings = false;
        let call = format!(
            "{{\"type\":1,\"invocationId\":\"1\",\"target\":\"WaitForEvent\",\"arguments\":[\"{id}\",\"disconnected\",15000]}}\u{1e}"
        );
        watcher.text(&call).await;
        let frame = watcher.frame().await;
        assert!(frame.text().contains(r#""result":true"#), "the hub was not told: {frame:?}");
        let (said, code) = socket.to_close().await;
        assert_eq!((said.as_str(), code), ("", 1006), "no orderly end for a lost peer");
    })
    .await;
    rig.finish("half-open WebSockets", 200).await;
}

#[tokio::test]
async fn er_f1_connections_over_the_limit_are_refused_until_there_is_room() {
    // 40 connections at most: the 41st is refused at once, and there is room again when they go.
    let gateway = "limits.connections_max = 40\ntimeouts.first_byte_timeout = '1 s'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    flood(2_000, 400, |_| async move {
        let (said, _) = end_of(address, b"").await;
        assert_eq!(said, b"");
    })
    .await;
    let page = request(address, "GET", "/api/counts").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_ne!(json_text(&page.body, "instance"), "");
    rig.finish("connections over the limit", 2_000).await;
}

#[tokio::test]
async fn er_f1_accept_survives_a_want_of_descriptors_without_spinning() {
    let (_hub, straight) = Process::hub(&[]);
    let config = format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n[backend.app]\nservers = ['http://{straight}']\n\
         [[route]]\nname = 'all'\nhubs = '/'\nbackend = 'app'\nprotocol = 'any'\n[admin]\naddress = 'off'\n"
    );
    let (gateway, address) = Process::gateway_with_descriptors(&config, 100);
    let (mut kept, _) = WebSocket::shaken_hub(address, "/contract", None).await;
    // All of them connect, since the kernel answers; the gateway cannot take all.
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(connect(address, None).await);
    }
    gateway.until_said("cannot accept a connection").await;
    let (began, ticks) = (Instant::now(), gateway.processor_ticks());
    for number in 0..200 {
        kept.text(&format!(r#"{{"type":1,"invocationId":"{number}","target":"Echo","arguments":[{number}]}}{END}"#))
            .await;
        while !kept.frame().await.text().contains(&format!(r#""result":{number}"#)) {}
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A loop that tries at once again takes a whole processor.
    let (took, used) = (began.elapsed().as_secs_f64(), (gateway.processor_ticks() - ticks) as f64 / 100.0);
    println!("without descriptors: {used:.2} s of processor in {took:.2} s");
    assert!(used < took / 2.0, "{used} s of processor in {took} s");
    drop(crowd);
    let page = request(address, "GET", "/api/counts").await;
    assert_eq!(page.status, 200, "{page:?}");
}
