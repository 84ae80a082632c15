//! What hubs answer to bad input, through the gateway to the letter (signalr-wire §5.1, §6.4, §8.4, §9.5, §10.9).

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use crate::flood;
use crate::rig::{Rig, Settings};
use crate::wire::{END, WebSocket, frame, handshake};

/// The Close message of a hub that cannot go on.
const CLOSED: &str = "{\"type\":7,\"error\":\"Connection closed with an error.\",\"allowReconnect\":true}\u{1e}";
const CANCELED: &str = "{\"error\":\"Handshake was canceled.\"}\u{1e}";
const UNEXPECTED: &str = "{\"error\":\"An unexpected error occurred during connection handshake.\"}\u{1e}";

/// What is sent, and what the hub must say before it closes with which code.
struct Offence {
    name: &'static str,
    sent: Vec<u8>,
    said: String,
    code: u16,
}

fn before_the_handshake() -> Vec<Offence> {
    let text = |text: &str| frame(0x81, text.as_bytes());
    let binary = |bytes: &[u8]| frame(0x82, bytes);
    let offence = |name, sent, said: &str, code| Offence { name, sent, said: said.to_owned(), code };
    vec![
        offence("garbage", binary(b"\x00\xff\xfe\x1e"), UNEXPECTED, 1000),
        offence("an array", text("[1]\u{1e}"), UNEXPECTED, 1000),
        offence("no protocol", text("{\"version\":1}\u{1e}"), UNEXPECTED, 1000),
        offence(
            "wrong protocol",
            text("{\"protocol\":\"xml\",\"version\":1}\u{1e}"),
            "{\"error\":\"The protocol 'xml' is not supported.\"}\u{1e}",
            1000,
        ),
        offence(
            "version too high",
            text("{\"protocol\":\"json\",\"version\":9}\u{1e}"),
            "{\"error\":\"The server does not support version 9 of the 'json' protocol.\"}\u{1e}",
            1000,
        ),
        offence("over the limit", text(&"x".repeat(32_769)), CANCELED, 1000),
        offence("bad UTF-8 in text", frame(0x81, b"\xC3\x28"), "", 1007),
        offence("reserved bit", frame(0xC1, b"{}"), "", 1002),
        offence("reserved opcode", frame(0x83, b"{}"), "", 1002),
        offence("not masked", b"\x81\x05hello".to_vec(), "", 1002),
        offence("continuation of nothing", frame(0x80, b"{}"), "", 1002),
        offence("fragmented ping", frame(0x09, b"x"), "", 1002),
        offence("long ping", frame(0x89, &[b'x'; 126]), "", 1002),
        offence("close of one byte", frame(0x88, b"x"), "", 1002),
    ]
}

fn behind_the_handshake() -> Vec<Offence> {
    let open = "{}\u{1e}";
    let json = |messages: &[u8], opcode| {
        let mut sent = frame(0x81, handshake().as_bytes());
        sent.extend_from_slice(&frame(opcode, messages));
        sent
    };
    let messagepack = |messages: &[u8]| {
        let mut sent = frame(0x81, format!("{{\"protocol\":\"messagepack\",\"version\":1}}{END}").as_bytes());
        sent.extend_from_slice(&frame(0x82, messages));
        sent
    };
    let closed = format!("{open}{CLOSED}");
    let mut packed = open.as_bytes().to_vec();
    packed.extend_from_slice(b"\x25\x93\x07\xd9\x20Connection closed with an error.\xc3");
    let packed = String::from_utf8_lossy(&packed).into_owned();
    let offence = |name, sent, said: &str, code| Offence { name, sent, said: said.to_owned(), code };
    let mut chunked = frame(0x81, handshake().as_bytes());
    for _ in 0..33 {
        chunked.extend_from_slice(&frame(0x81, &[b'x'; 1024]));
    }
    vec![
        offence("broken JSON", json(b"{\"type\":1,\x1e", 0x81), &closed, 1000),
        offence("oversize message", json(&[b'x'; 40_000], 0x81), &closed, 1000),
        offence("oversize message in pieces", chunked, &closed, 1000),
        offence("oversize frame", json(&[b'x'; 300_000], 0x82), &closed, 1000),
        offence("truncated MessagePack", messagepack(b"\x03\x96\x01\x80"), &packed, 1000),
        offence("length prefix without end", messagepack(b"\xff\xff\xff\xff\xff\xff"), &packed, 1000),
        offence(
            "oversize MessagePack",
            messagepack(&[b"\x81\x80\x02\x96".as_slice(), &[0; 33_000]].concat()),
            &packed,
            1000,
        ),
        offence("no array", messagepack(b"\x01\x06"), &packed, 1000),
    ]
}

/// Commits an offence on a new connection and compares what comes.
async fn commit(address: SocketAddr, offence: &Offence) {
    let (mut socket, _) = WebSocket::hub(address, "/contract", None).await;
    socket.raw(&offence.sent).await;
    let (said, code) = socket.to_close().await;
    // The reference seldom loses the close frame of a broken WebSocket protocol to its own reset (signalr-wire §5.1).
    let lost = code == 1006 && offence.code != 1000;
    assert!(said == offence.said && (code == offence.code || lost), "{}: {said:?}, {code}", offence.name);
}

#[tokio::test]
async fn bad_input_to_hubs_gets_its_text_and_close_code() {
    let rig = Rig::start(Settings::NONE).await;
    let offences: &'static Vec<Offence> =
        Box::leak(Box::new(before_the_handshake().into_iter().chain(behind_the_handshake()).collect()));
    for offence in offences {
        commit(rig.straight, offence).await;
    }
    let address = rig.address;
    flood(2_000, 4, |number| commit(address, &offences[number % offences.len()])).await;
    rig.finish("bad input to hubs", 2_000).await;
}

#[tokio::test]
async fn handshakes_that_never_end_are_cancelled() {
    let rig = Rig::start(Settings { hub: &["--handshake-timeout-ms", "1000"], ..Settings::NONE }).await;
    let address = rig.address;
    flood(500, 100, |number| async move {
        let (mut socket, _) = WebSocket::hub(address, "/contract", None).await;
        let request = handshake();
        if number % 20 > 0 {
            socket.raw(&frame(0x81, &request.as_bytes()[..number % 20])).await;
        }
        assert_eq!(socket.to_close().await, (CANCELED.to_owned(), 1000));
    })
    .await;
    rig.finish("handshakes that never end", 500).await;
}

#[tokio::test]
async fn frames_that_never_end_do_not_hold_memory() {
    let rig = Rig::start(Settings::NONE).await;
    let address = rig.address;
    let mut open = Vec::new();
    for _ in 0..300 {
        let (mut socket, _) = WebSocket::shaken_hub(address, "/contract", None).await;
        // A frame that says 30,000 bytes, of which two thirds come.
        socket.raw(b"\x82\xFE\x75\x30\0\0\0\0").await;
        socket.raw(&[b'x'; 20_000]).await;
        open.push(socket);
    }
    for mut socket in open {
        // A client that is lost inside a frame gets nothing more said.
        socket.stream.shutdown().await.expect("half closed");
        let (said, code) = socket.to_close().await;
        assert!(said.is_empty() && [1000, 1006].contains(&code), "{said}, {code}");
    }
    rig.finish("frames that never end", 300).await;
}
