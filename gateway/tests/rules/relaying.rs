//! What happens to bytes and messages between client and hub (rules E1–E5, D8's hub pings).

use hubgate_fixtures::HubServer;

use crate::support::hub::{self, FAREWELL, HANDSHAKE, SHAKEN};
use crate::support::{Answer, Backend, Ended, Frame, Front, Reply, Setup, Wire, negotiate, web_socket};

const PING: &str = "{\"type\":6}\u{1e}";

/// A hub message of about `len` bytes.
fn message(len: usize) -> String {
    format!("{{\"type\":1,\"target\":\"a\",\"arguments\":[\"{}\"]}}\u{1e}", "x".repeat(len))
}

/// Opens a connection over long polling and gives its target and the hub's side, both sides shaken hands.
async fn polling(front: &Front, backend: &Backend, handshake: &str) -> (String, Wire) {
    let target = format!("/chat?id={}", negotiate(front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let (_, mut hub) = backend.socket().await;
    assert_eq!(front.post(&target, handshake).await.status, 200);
    assert_eq!(hub.frame().await, Frame::text(handshake));
    hub.send_text(SHAKEN).await;
    assert_eq!(front.get(&target).await.text(), SHAKEN);
    (target, hub)
}

/// Opens an event stream: its target, the stream, the hub's side.
async fn streaming(front: &Front, backend: &Backend) -> (String, Wire, Wire) {
    let target = format!("/chat?id={}", negotiate(front, "/chat").await.token);
    let (answer, mut stream) = front.event_stream(&target).await;
    assert_eq!(answer.status, 200);
    assert_eq!(stream.chunk().await.unwrap(), b":\r\n");
    let (_, hub) = backend.socket().await;
    (target, stream, hub)
}

/// The next event of a stream.
async fn event(stream: &mut Wire) -> String {
    let mut event = Vec::new();
    while !event.ends_with(b"\r\n\r\n") {
        event.extend(stream.chunk().await.unwrap_or_else(|| panic!("the stream ended within {event:?}")));
    }
    let event = String::from_utf8(event).unwrap();
    event.strip_prefix("data: ").unwrap().strip_suffix("\r\n\r\n").unwrap().to_owned()
}

#[tokio::test]
async fn er_e1_web_sockets_pass_verbatim_masks_and_fragments_included() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let mut client = web_socket(&front, &format!("/chat?id={}", negotiate(&front, "/chat").await.token)).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    let part = |fin, opcode, payload: &str, mask| Frame { fin, opcode, payload: payload.into() }.bytes(Some(mask));
    let up = [
        part(true, Frame::TEXT, HANDSHAKE, [9, 8, 7, 6]),
        part(false, Frame::TEXT, "{\"type\"", [1, 2, 3, 4]),
        part(true, Frame::PING, "in between", [5, 5, 5, 5]),
        part(false, 0, "", [0, 0, 0, 0]),
        part(true, 0, ":6}\u{1e}", [4, 3, 2, 1]),
    ]
    .concat();
    for byte in up.chunks(7) {
        client.send(byte).await;
    }
    assert_eq!(hub.bytes(up.len()).await, up);
    let odd = Frame { fin: true, opcode: Frame::BINARY, payload: vec![3; 300] };
    let non_minimal = [&[0x81, 126, 0, 2][..], b"hi"].concat();
    let down = [odd.bytes(None), non_minimal, Frame::text(message(70_000)).bytes(None)].concat();
    hub.send(&down).await;
    assert_eq!(client.bytes(down.len()).await, down);
}

#[tokio::test]
async fn er_e1_posts_go_on_as_they_come_text_where_they_are_utf8() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (target, mut hub) = polling(&front, &backend, HANDSHAKE).await;
    let half = "{\"type\":1,\"tar";
    for (body, opcode) in [
        (half.as_bytes(), Frame::TEXT),
        ("get\":\"ä\"}\u{1e}{\"type\":6}\u{1e}".as_bytes(), Frame::TEXT),
        (&[0xC3][..], Frame::BINARY),
        (&[0xA4, 0x1E][..], Frame::BINARY),
    ] {
        assert_eq!(front.post(&target, body).await.status, 200);
        assert_eq!(hub.frame().await, Frame::new(opcode, body));
    }
    assert_eq!(front.post(&target, "").await.status, 200);
    assert_eq!(front.post(&target, "after").await.status, 200);
    assert_eq!(hub.frame().await, Frame::text("after"), "an empty body is no frame");
}

#[tokio::test]
async fn er_e1_posts_before_the_transport_come_first() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    for accept in ["*/*", "text/event-stream", "web socket"] {
        let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
        assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
        let _client = match accept {
            "web socket" => web_socket(&front, &target).await.unwrap(),
            "*/*" => {
                assert_eq!(front.get(&target).await.status, 200);
                front.connect().await
            }
            _ => front.event_stream(&target).await.1,
        };
        let (_, mut hub) = backend.socket().await;
        assert_eq!(hub.frame().await, Frame::text(HANDSHAKE), "{accept}");
    }
}

#[tokio::test]
async fn er_e1_hub_messages_reach_polls_and_streams_whole() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (one, two) = (message(10), message(100));
    let (before, after) = two.split_at(40);
    let torn = [Frame { fin: false, ..Frame::text(&one) }, Frame { fin: true, opcode: 0, payload: before.into() }];

    let (target, mut hub) = polling(&front, &backend, HANDSHAKE).await;
    for frame in &torn {
        hub.send_frame(frame).await;
    }
    assert_eq!(front.get(&target).await.text(), one, "only what is whole");
    hub.send_text(after).await;
    let poll = front.get(&target).await;
    assert_eq!((poll.text(), poll.header("content-type")), (two.as_str(), Some("application/octet-stream")));

    let (target, mut stream, mut hub) = streaming(&front, &backend).await;
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    hub.send_text(SHAKEN).await;
    assert_eq!(event(&mut stream).await, SHAKEN);
    for frame in &torn {
        hub.send_frame(frame).await;
    }
    assert_eq!(event(&mut stream).await, one);
    hub.send_text(after).await;
    assert_eq!(event(&mut stream).await, two);
}

#[tokio::test]
async fn er_e1_a_real_hub_answers_over_every_transport() {
    let hub = HubServer::contract().await.unwrap();
    let front = Setup::new(&[hub.local_addr()])
        .route("transports = [\"WebSockets\", \"ServerSentEvents\", \"LongPolling\"]")
        .start()
        .await;
    let call = |n: u32| format!("{{\"type\":1,\"invocationId\":\"1\",\"target\":\"Big\",\"arguments\":[{n}]}}\u{1e}");
    let done = |n: usize| format!("{{\"type\":3,\"invocationId\":\"1\",\"result\":\"{}\"}}\u{1e}", "x".repeat(n));

    let target = format!("/contract?id={}", negotiate(&front, "/contract").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    assert_eq!(front.get(&target).await.text(), SHAKEN);
    assert_eq!(front.post(&target, call(200_000)).await.status, 200);
    assert_eq!(front.get(&target).await.text(), done(200_000));
    assert_eq!(front.delete(&target).await.status, 202);

    let target = format!("/contract?id={}", negotiate(&front, "/contract").await.token);
    let (_, mut stream) = front.event_stream(&target).await;
    assert_eq!(stream.chunk().await.unwrap(), b":\r\n");
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    assert_eq!(event(&mut stream).await, SHAKEN);
    assert_eq!(front.post(&target, call(3)).await.status, 200);
    assert_eq!(event(&mut stream).await, done(3));
}

#[tokio::test]
async fn er_d8_hub_pings_pass_to_streams_and_are_dropped_towards_polls() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (target, mut hub) = polling(&front, &backend, HANDSHAKE).await;
    hub.send_text(format!("{PING}{}{PING}", message(1))).await;
    assert_eq!(front.get(&target).await.text(), message(1));
    hub.send_frame(&Frame::new(Frame::PING, "are you there")).await;
    assert_eq!(hub.frame().await, Frame::new(Frame::PONG, "are you there"), "we answer for clients without WebSocket");

    let (target, mut stream, mut hub) = streaming(&front, &backend).await;
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    hub.send_text(SHAKEN).await;
    assert_eq!(event(&mut stream).await, SHAKEN);
    hub.send_text(PING).await;
    assert_eq!(event(&mut stream).await, PING);
}

#[tokio::test]
async fn er_d8_a_silent_hub_of_polls_is_pinged_and_given_up_when_it_answers_nothing() {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).more("[timeouts]\nwebsocket_ping_interval = \"1s\"").start().await;
    let (target, mut hub) = polling(&front, &backend, HANDSHAKE).await;
    let ping = hub.frame().await;
    assert_eq!(ping.opcode, Frame::PING, "{ping:?}");
    hub.send_frame(&Frame::new(Frame::PONG, &ping.payload)).await;
    assert_eq!(hub.frame().await.opcode, Frame::PING, "it was heard, and is asked again");
    // No Pong any more: the client is told that its hub is lost.
    assert_eq!(front.get(&target).await.text(), FAREWELL);
    assert_eq!(front.get(&target).await.status, 204);
}

#[tokio::test]
async fn er_e2_behind_a_client_that_does_not_poll_the_hub_is_no_longer_read() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (target, hub) = polling(&front, &backend, HANDSHAKE).await;
    socket2::SockRef::from(hub.tcp()).set_send_buffer_size(64 * 1024).unwrap();
    let (total, size) = (64 << 20, 30_000);
    let writing = tokio::spawn(async move {
        let mut hub = hub;
        for _ in 0..total / size {
            hub.send_text(message(size)).await;
        }
        hub
    });
    let (mut got, mut polls) = (0, 0);
    while got < total / size {
        let poll = front.get(&target).await;
        assert_eq!(poll.status, 200, "{}", poll.text());
        assert!(poll.body.len() <= 64 * 1024 + 2 * size, "{} bytes waited", poll.body.len());
        got += poll.text().matches('\u{1e}').count();
        polls += 1;
        assert!(polls > 1 || !writing.is_finished(), "64 MiB have vanished behind one poll");
    }
    assert_eq!(got, total / size, "none is lost");
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn er_e2_a_message_over_the_limit_ends_the_connection_with_an_error() {
    for transport in ["long polling", "event stream"] {
        for cut in [false, true] {
            let backend = Backend::hub().await;
            let front =
                Setup::new(&[backend.address]).more("[limits]\nhub_message_bytes_max = \"100 KiB\"").start().await;
            let last;
            let big = message(150_000);
            let frames = match cut {
                false => vec![Frame::text(&big)],
                true => big.as_bytes().chunks(30_000).map(Frame::text).collect(),
            };
            let mut hub = match transport {
                "long polling" => {
                    let (target, mut hub) = polling(&front, &backend, HANDSHAKE).await;
                    hub.send_text(message(90_000)).await;
                    assert_eq!(front.get(&target).await.text(), message(90_000));
                    for frame in &frames {
                        hub.send_frame(frame).await;
                    }
                    last = front.get(&target).await.text().to_owned();
                    assert_eq!(front.get(&target).await.status, 204);
                    hub
                }
                _ => {
                    let (target, mut stream, mut hub) = streaming(&front, &backend).await;
                    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
                    hub.send_text(SHAKEN).await;
                    assert_eq!(event(&mut stream).await, SHAKEN);
                    for frame in &frames {
                        hub.send_frame(frame).await;
                    }
                    last = event(&mut stream).await;
                    assert_eq!(stream.chunk().await, None);
                    hub
                }
            };
            let close: serde_json::Value = serde_json::from_str(last.trim_end_matches('\u{1e}')).unwrap();
            assert_eq!(close["type"], 7, "{transport}, {cut}: {close}");
            assert!(close["error"].as_str().is_some_and(|error| !error.is_empty()), "{transport}, {cut}: {close}");
            hub.rest().await;
        }
    }
}

#[tokio::test]
async fn er_e3_raw_units_stay_units() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (target, mut stream, mut hub) = streaming(&front, &backend).await;
    hub.send_text("unasked").await;
    assert_eq!(event(&mut stream).await, "unasked");
    assert_eq!(front.post(&target, "raw bytes").await.status, 200);
    assert_eq!(hub.frame().await, Frame::text("raw bytes"));
    let two = [Frame::text("one").bytes(None), Frame::text("two").bytes(None)].concat();
    hub.send(two).await;
    assert_eq!((event(&mut stream).await, event(&mut stream).await), ("one".into(), "two".into()));

    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let (_, mut hub) = backend.socket().await;
    assert_eq!(front.post(&target, [0xFF, 0x00]).await.status, 200);
    assert_eq!(hub.frame().await, Frame::new(Frame::BINARY, [0xFF, 0x00]));
    hub.send_frame(&Frame::new(Frame::BINARY, [0x00, 0xFE, 0x1E])).await;
    assert_eq!(front.get(&target).await.body, [0x00, 0xFE, 0x1E]);
}

#[tokio::test]
async fn er_e3_binary_protocols_are_refused_on_event_streams() {
    for name in ["messagepack", "blazorpack"] {
        let backend = Backend::hub().await;
        let front = Front::quick(&[backend.address]).await;
        let (target, mut stream, _hub) = streaming(&front, &backend).await;
        let handshake = format!("{{\"protocol\":\"{name}\",\"version\":1}}\u{1e}");
        front.post(&target, handshake).await;
        let refusal = format!(
            "{{\"error\":\"Cannot use the '{name}' protocol on the current transport. \
             The transport does not support 'Binary' transfer format.\"}}\u{1e}"
        );
        let said = event(&mut stream).await;
        let decoded: serde_json::Value = serde_json::from_str(said.trim_end_matches('\u{1e}')).unwrap();
        let expected: serde_json::Value = serde_json::from_str(refusal.trim_end_matches('\u{1e}')).unwrap();
        assert_eq!(decoded, expected);
        assert_eq!(stream.chunk().await, None, "the body ends properly");
        assert_eq!(front.post(&target, "x").await.status, 404);
    }
}

#[tokio::test]
async fn er_e3_a_binary_frame_ends_an_event_stream() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (target, mut stream, mut hub) = streaming(&front, &backend).await;
    assert_eq!(front.post(&target, "{\"protocol\":\"own\",\"version\":1}\u{1e}").await.status, 200);
    hub.frame().await;
    hub.send_text("fine").await;
    assert_eq!(event(&mut stream).await, "fine");
    hub.send_frame(&Frame::new(Frame::BINARY, [1, 2, 3])).await;
    assert_eq!(stream.chunk().await, None);
    assert_eq!(hub.frame().await.opcode, Frame::CLOSE);
    assert_eq!(front.post(&target, "x").await.status, 404);
}

/// A WebSocket client and its hub, before any message.
async fn pair(front: &Front, backend: &Backend) -> (Wire, Wire) {
    let client = web_socket(front, &format!("/chat?id={}", negotiate(front, "/chat").await.token)).await.unwrap();
    (client, backend.socket().await.1)
}

/// The same after the handshake of a protocol.
async fn shaken(front: &Front, backend: &Backend, protocol: &str) -> (Wire, Wire) {
    let (mut client, mut hub) = pair(front, backend).await;
    client.send_text(format!("{{\"protocol\":\"{protocol}\",\"version\":1}}\u{1e}")).await;
    hub.frame().await;
    hub.send_text(SHAKEN).await;
    assert_eq!(client.frame().await, Frame::text(SHAKEN));
    (client, hub)
}

#[tokio::test]
async fn er_e4_a_lost_hub_at_a_boundary_is_told_in_the_protocols_words() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let packed = Frame::new(Frame::BINARY, [0x04, 0x93, 0x07, 0xC0, 0xC3]);
    for (protocol, farewell) in [("json", Frame::text(FAREWELL)), ("messagepack", packed)] {
        let (mut client, mut hub) = shaken(&front, &backend, protocol).await;
        hub.send_text(message(5)).await;
        assert_eq!(client.frame().await, Frame::text(message(5)));
        hub.reset();
        assert_eq!(client.frame().await, farewell);
        assert_eq!(client.frame().await, Frame::close(1000));
        client.send_frame(&Frame::close(1000)).await;
        assert_eq!(client.ended_silently().await, Ended::Orderly);
    }
}

#[tokio::test]
async fn er_e4_between_fragments_there_is_a_close_frame_only() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (mut client, mut hub) = shaken(&front, &backend, "json").await;
    let torn = Frame { fin: false, ..Frame::text("{\"type\"") };
    hub.send_frame(&torn).await;
    drop(hub);
    assert_eq!(client.frame().await, torn);
    assert_eq!(client.frame().await, Frame::close(1001));
}

#[tokio::test]
async fn er_e4_before_the_handshake_response_or_opaque_there_is_a_close_frame_only() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    for first in [None, Some(HANDSHAKE)] {
        let (mut client, mut hub) = pair(&front, &backend).await;
        if let Some(first) = first {
            client.send_text(first).await;
            hub.frame().await;
        }
        drop(hub);
        assert_eq!(client.frame().await, Frame::close(1001), "{first:?}");
    }
    let (mut client, hub) = shaken(&front, &backend, "blazorpack").await;
    drop(hub);
    assert_eq!(client.frame().await, Frame::close(1001), "a protocol that we do not speak");
}

#[tokio::test]
async fn er_e4_inside_a_frame_the_connection_is_cut() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (mut client, mut hub) = shaken(&front, &backend, "json").await;
    hub.send([0x81, 10, b'a', b'b']).await;
    drop(hub);
    assert_eq!(client.bytes(4).await, [0x81, 10, b'a', b'b']);
    assert_eq!(client.ended_silently().await, Ended::Reset);
}

#[tokio::test]
async fn er_e4_behind_the_hubs_own_close_there_is_no_second_one() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (mut client, mut hub) = shaken(&front, &backend, "json").await;
    let own = "{\"type\":7,\"error\":\"own words\"}\u{1e}";
    hub.send_text(own).await;
    drop(hub);
    assert_eq!(client.frame().await, Frame::text(own));
    assert_eq!(client.frame().await.opcode, Frame::CLOSE);
    let (mut client, mut hub) = shaken(&front, &backend, "json").await;
    hub.send_text(own).await;
    hub.send_frame(&Frame::close(1000)).await;
    assert_eq!(client.frame().await, Frame::text(own));
    assert_eq!(client.frame().await, Frame::close(1000));
    client.send_frame(&Frame::close(1000)).await;
    assert_eq!(hub.frame().await, Frame::close(1000), "a close frame stays a close frame");
}

#[tokio::test]
async fn er_e4_a_clients_loss_is_a_loss_and_its_close_a_close() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (client, mut hub) = shaken(&front, &backend, "json").await;
    client.reset();
    assert_eq!(hub.ended_silently().await, Ended::Reset);
    let (mut client, mut hub) = shaken(&front, &backend, "json").await;
    client.send_frame(&Frame::close(3000)).await;
    assert_eq!(hub.frame().await, Frame::close(3000));
    hub.send_frame(&Frame::close(3000)).await;
    assert_eq!(client.frame().await, Frame::close(3000));
}

#[tokio::test]
async fn er_e4_a_lost_hub_over_the_other_transports_is_a_close_too() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (target, hub) = polling(&front, &backend, HANDSHAKE).await;
    drop(hub);
    assert_eq!(front.get(&target).await.text(), FAREWELL);
    let statuses: [Answer; 2] = [front.get(&target).await, front.get(&target).await];
    assert_eq!(statuses.map(|answer| answer.status), [204, 404]);
    let (target, mut stream, mut hub) = streaming(&front, &backend).await;
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    hub.send_text(SHAKEN).await;
    assert_eq!(event(&mut stream).await, SHAKEN);
    drop(hub);
    assert_eq!(event(&mut stream).await, FAREWELL);
    assert_eq!(stream.chunk().await, None);
}

#[tokio::test]
async fn er_e5_where_it_is_off_stateful_reconnect_is_never_granted() {
    let backend = Backend::hub_with(|seen| {
        (seen.method() == "POST").then(|| {
            let grants = seen.query().to_ascii_lowercase().contains("usestatefulreconnect=true");
            let answer = hub::negotiate_answer("id", "token");
            let granted =
                answer.replace("\"negotiateVersion\":1", "\"negotiateVersion\":1,\"useStatefulReconnect\":true");
            Reply::json(if grants || seen.path() == "/eager/negotiate" { granted } else { answer })
        })
    })
    .await;
    let front = Setup::new(&[backend.address]).route("stateful_reconnect = \"off\"").start().await;
    for hub in ["/chat", "/eager"] {
        let answer = front.post(&format!("{hub}/negotiate?negotiateVersion=1&useStatefulReconnect=true"), "").await;
        assert_ne!(answer.json()["useStatefulReconnect"], true);
        assert_eq!(backend.last().query(), "negotiateVersion=1");
    }
    let (mut client, mut hub) = pair(&front, &backend).await;
    let second = "{\"protocol\":\"json\",\"version\":2}\u{1e}";
    client.send_text(second).await;
    assert_eq!(hub.frame().await, Frame::text(second), "a version 2 handshake is plain");
    let sequence = "{\"type\":9,\"sequenceId\":1}\u{1e}";
    client.send_text(sequence).await;
    assert_eq!(hub.frame().await, Frame::text(sequence));
}
