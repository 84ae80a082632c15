//! tokio-tungstenite as server and client of the codec: chosen and random messages, fragments, pings, close codes.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use hubgate_protocol::websocket::{Incoming, OpCode};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode as TheirOpCode};

use crate::ours::{self, Client};

/// Starts an echo server of theirs.
pub async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    let echoed = message.is_text() || message.is_binary();
                    // A close is answered by the library itself as it is read on.
                    if echoed && socket.send(message).await.is_err() {
                        return;
                    }
                    let _sent_with_the_next = socket.flush().await;
                }
            });
        }
    });
    address
}

/// Lets the codec, as a client, exchange messages of all sizes, fragments, pings and closes with an echo server.
pub async fn exercise(server: SocketAddr) {
    let mut client = Client::open(server).await;
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        for (opcode, payload) in [(OpCode::Text, vec![b'x'; length]), (OpCode::Binary, vec![0xFE; length])] {
            for piece in [payload.len().max(1), payload.len() / 3 + 1] {
                let pieces: Vec<&[u8]> = if payload.is_empty() { vec![b""] } else { payload.chunks(piece).collect() };
                client.send(opcode, &pieces).await;
                let (echo, pongs) = client.message().await;
                let expected = payload.clone().into();
                let expected =
                    if opcode == OpCode::Text { Incoming::Text(expected) } else { Incoming::Binary(expected) };
                assert!(echo == expected, "{length} bytes in {} pieces", pieces.len());
                // A peer may answer only the last of several pings (RFC 6455 §5.5.3).
                assert!(pongs.len() < pieces.len() || pieces.len() == 1);
            }
        }
    }
    for code in [None, Some(1000), Some(1001), Some(1003), Some(1011), Some(3000), Some(4999)] {
        let mut client = Client::open(server).await;
        client.close(code.map(|code| (code, "why"))).await;
        match client.message().await.0 {
            Incoming::Close(answer) => assert_eq!(answer.map(|(code, _)| code), code),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_codec_as_a_client_gets_everything_back_from_tungstenite() {
    exercise(serve().await).await;
}

#[derive(Debug, Clone)]
struct Sent {
    text: bool,
    payload: Vec<u8>,
    /// Where it is cut into frames, with a Ping in each gap.
    cuts: Vec<usize>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        (Just(true), any::<String>().prop_map(String::into_bytes)),
        (Just(false), (any::<[u8; 7]>(), 0_usize..10_000).prop_map(|(seven, times)| seven.repeat(times))),
        (Just(false), prop::collection::vec(any::<u8>(), 120..130)),
    ];
    (payload, prop::collection::vec(any::<prop::sample::Index>(), 0..4)).prop_map(|((text, payload), cuts)| {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(payload.len() + 1)).collect();
        cuts.sort_unstable();
        Sent { text, payload, cuts }
    })
}

fn pieces(sent: &Sent) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for cut in sent.cuts.iter().copied().chain([sent.payload.len()]) {
        pieces.push(&sent.payload[from..cut]);
        from = cut;
    }
    pieces
}

/// Their client against our server: random messages in random frames.
async fn theirs_to_ours(address: SocketAddr, messages: &[Sent]) {
    let stream = TcpStream::connect(address).await.expect("connects");
    let (mut socket, _) = tokio_tungstenite::client_async("ws://peer/echo", stream).await.expect("upgrades");
    for sent in messages {
        let pieces = pieces(sent);
        for (number, piece) in pieces.iter().enumerate() {
            let data = match (number, sent.text) {
                (0, true) => Data::Text,
                (0, false) => Data::Binary,
                _ => Data::Continue,
            };
            let frame = Frame::message(piece.to_vec(), TheirOpCode::Data(data), number + 1 == pieces.len());
            socket.send(Message::Frame(frame)).await.expect("sent");
            if number + 1 < pieces.len() {
                socket.send(Message::Ping(vec![number as u8].into())).await.expect("sent");
            }
        }
        let mut pongs = 0;
        let echo = loop {
            match socket.next().await.expect("open").expect("legal") {
                Message::Pong(payload) => {
                    assert_eq!(payload.as_ref(), [pongs as u8]);
                    pongs += 1;
                }
                other => break other,
            }
        };
        assert_eq!(pongs + 1, pieces.len(), "a Pong for each Ping");
        assert_eq!(echo.is_text(), sent.text);
        assert!(echo.into_data().as_ref() == sent.payload, "the payload comes back");
    }
    let close = CloseFrame { code: CloseCode::Away, reason: "why".into() };
    socket.close(Some(close.clone())).await.expect("sent");
    assert_eq!(socket.next().await.expect("an answer").expect("legal"), Message::Close(Some(close)));
}

/// Our client against their server.
async fn ours_to_theirs(address: SocketAddr, messages: &[Sent]) {
    let mut client = Client::open(address).await;
    for sent in messages {
        client.send(if sent.text { OpCode::Text } else { OpCode::Binary }, &pieces(sent)).await;
        let payload = sent.payload.clone().into();
        let expected = if sent.text { Incoming::Text(payload) } else { Incoming::Binary(payload) };
        assert!(client.message().await.0 == expected, "the payload comes back");
    }
}

#[test]
fn random_messages_in_random_frames_come_back_both_ways() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (ours, theirs) = runtime.block_on(async { (ours::serve().await, serve().await) });
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&prop::collection::vec(sent(), 1..6), |messages| {
        runtime.block_on(async {
            theirs_to_ours(ours, &messages).await;
            ours_to_theirs(theirs, &messages).await;
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
