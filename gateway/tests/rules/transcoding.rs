//! Transcoding: clients and hubs of different hub protocols (rules I6, I7).

use crate::support::hub::{HANDSHAKE, Negotiated, SHAKEN, negotiate_answer};
use crate::support::{Backend, Ended, Frame, Front, Reply, Setup, Wire, negotiate, soon, web_socket};

const PING: &str = "{\"type\":6}\u{1e}";
const MESSAGEPACK: &str = "{\"protocol\":\"messagepack\",\"version\":1}\u{1e}";

/// Bytes of MessagePack with their length in front; `body` in hexadecimal digits.
fn packed(body: &str) -> Vec<u8> {
    let digits: Vec<u8> = body.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    let body: Vec<u8> = bytes.collect();
    assert!(body.len() < 128, "a length of one byte");
    [vec![u8::try_from(body.len()).unwrap()], body].concat()
}

fn binary(payload: impl AsRef<[u8]>) -> Frame {
    Frame::new(Frame::BINARY, payload)
}

/// A message in both protocols.
struct Message {
    json: &'static str,
    messagepack: &'static str,
}

impl Message {
    fn json(&self) -> Frame {
        Frame::text(format!("{}\u{1e}", self.json))
    }

    fn messagepack(&self) -> Frame {
        binary(packed(self.messagepack))
    }
}

/// All kinds of messages.
const MESSAGES: [Message; 12] = [
    Message {
        json: r#"{"type":1,"invocationId":"1","target":"Go","arguments":[1,"a",null]}"#,
        messagepack: "96 01 80 a131 a2476f 93 01 a161 c0 90",
    },
    Message {
        json: r#"{"type":1,"headers":{"a":"b"},"target":"Go","arguments":[],"streamIds":["7"]}"#,
        messagepack: "96 01 81 a161a162 c0 a2476f 90 91a137",
    },
    Message {
        json: r#"{"type":4,"invocationId":"2","target":"Go","arguments":[{"a":[true]}]}"#,
        messagepack: "96 04 80 a132 a2476f 91 81a16191c3 90",
    },
    Message { json: r#"{"type":2,"invocationId":"7","item":0.5}"#, messagepack: "94 02 80 a137 cb3fe0000000000000" },
    Message { json: r#"{"type":3,"invocationId":"7"}"#, messagepack: "94 03 80 a137 02" },
    Message { json: r#"{"type":3,"invocationId":"7","error":"no"}"#, messagepack: "95 03 80 a137 01 a26e6f" },
    Message { json: r#"{"type":3,"invocationId":"s1","result":null}"#, messagepack: "95 03 80 a27331 03 c0" },
    Message { json: r#"{"type":5,"invocationId":"2"}"#, messagepack: "93 05 80 a132" },
    Message { json: r#"{"type":6}"#, messagepack: "91 06" },
    Message { json: r#"{"type":8,"sequenceId":300}"#, messagepack: "92 08 cd012c" },
    Message { json: r#"{"type":9,"sequenceId":1}"#, messagepack: "92 09 01" },
    Message { json: r#"{"type":7,"error":"bye","allowReconnect":true}"#, messagepack: "93 07 a3627965 c3" },
];

/// A route whose hubs speak `protocol`; stateful reconnect is not in the way of Acks.
async fn start(protocol: &str, more: &str) -> (Backend, Front) {
    let backend = Backend::hub().await;
    let route = format!("backend_protocol = \"{protocol}\"\n{more}");
    let front = Setup::new(&[backend.address]).route(&route).more("[admin]\naddress = \"127.0.0.1:0\"").start().await;
    (backend, front)
}

/// Both sides behind a handshake: the client says `asked`, the hub gets `told`.
async fn connect(front: &Front, backend: &Backend, asked: &str, told: &str) -> (Wire, Wire) {
    let target = format!("/chat?id={}", negotiate(front, "/chat").await.token);
    let mut client = web_socket(front, &target).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    client.send_text(asked).await;
    let frame = hub.frame().await;
    assert_eq!((frame.payload.as_slice(), frame.fin), (told.as_bytes(), true));
    hub.send_frame(&binary(SHAKEN)).await;
    assert_eq!(client.frame().await.payload, SHAKEN.as_bytes());
    (client, hub)
}

/// A JSON client of a MessagePack hub.
async fn json_client() -> (Front, Wire, Wire) {
    let (backend, front) = start("messagepack", "").await;
    let (client, hub) = connect(&front, &backend, HANDSHAKE, MESSAGEPACK).await;
    (front, client, hub)
}

/// A MessagePack client of a JSON hub.
async fn messagepack_client() -> (Front, Wire, Wire) {
    let (backend, front) = start("json", "").await;
    let (client, hub) = connect(&front, &backend, MESSAGEPACK, HANDSHAKE).await;
    (front, client, hub)
}

/// Lines of the metrics that begin so.
async fn metrics(front: &Front, name: &str) -> Vec<String> {
    let admin = front.gateway.admin_address().unwrap();
    let answer = Wire::connect(admin).await.request("GET /metrics", "").await;
    answer.text().lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
}

#[tokio::test]
async fn er_i6_all_messages_pass_both_ways() {
    for json in [true, false] {
        let (front, mut client, mut hub) = if json { json_client().await } else { messagepack_client().await };
        for message in &MESSAGES {
            let (mut at_client, mut at_hub) = (message.json(), message.messagepack());
            if !json {
                std::mem::swap(&mut at_client, &mut at_hub);
            }
            client.send_frame(&at_client).await;
            assert_eq!(hub.frame().await, at_hub, "{}", message.json);
            hub.send_frame(&at_hub).await;
            assert_eq!(client.frame().await, at_client, "{}", message.json);
        }
        for direction in ["from_client", "to_client"] {
            let line = format!("hubgate_transcoded_messages_total{{route=\"app\",direction=\"{direction}\"}} 12");
            assert_eq!(metrics(&front, &line).await, [line]);
        }
    }
}

#[tokio::test]
async fn er_i6_a_call_that_cannot_be_transcoded_is_answered_and_the_hub_is_untouched() {
    let (front, mut client, mut hub) = messagepack_client().await;
    // NaN, first with an id, then without: nobody can be told of that.
    client.send_frame(&binary(packed("96 01 80 a131 a2476f 91 cb7ff8000000000000 90"))).await;
    let text = "The gateway cannot transcode the call to json: NaN and infinity have no form in JSON.";
    let answer = client.frame().await;
    assert_eq!((answer.opcode, &answer.payload[1..8]), (Frame::BINARY, &b"\x95\x03\x80\xa11\x01\xd9"[..]));
    assert!(answer.payload.ends_with(text.as_bytes()), "{answer:?}");
    client.send_frame(&binary(packed("96 01 80 c0 a2476f 91 cb7ff8000000000000 90"))).await;
    client.send_frame(&MESSAGES[0].messagepack()).await;
    assert_eq!(hub.frame().await, MESSAGES[0].json(), "the first that the hub gets");
    let errors = "hubgate_transcode_errors_total{route=\"app\",direction=\"from_client\",cause=\"value\"} 2";
    assert_eq!(metrics(&front, errors).await, [errors]);
}

#[tokio::test]
async fn er_i6_items_and_results_of_a_client_fail_at_the_hub() {
    let (_front, mut client, mut hub) = json_client().await;
    for record in [r#"{"type":2,"invocationId":"7","item":1e999}"#, r#"{"type":3,"invocationId":"7","result":1e999}"#] {
        client.send_text(format!("{record}\u{1e}")).await;
        let failed = hub.frame().await;
        assert_eq!(&failed.payload[1..8], b"\x95\x03\x80\xa17\x01\xd9", "{failed:?}");
        assert!(failed.payload.ends_with(b"to messagepack: a number is out of range."), "{failed:?}");
    }
}

#[tokio::test]
async fn er_i6_a_result_of_the_hub_becomes_an_error() {
    let (front, mut client, mut hub) = json_client().await;
    hub.send_frame(&binary(packed("95 03 80 a131 03 d40100"))).await;
    let text = "The gateway cannot transcode the result to json: extension type 1 has no form in JSON.";
    let error = format!("{{\"type\":3,\"invocationId\":\"1\",\"error\":\"{text}\"}}\u{1e}");
    assert_eq!(client.frame().await, Frame::text(error));
    let errors = "hubgate_transcode_errors_total{route=\"app\",direction=\"to_client\",cause=\"value\"} 1";
    assert_eq!(metrics(&front, errors).await, [errors]);
}

#[tokio::test]
async fn er_i6_calls_and_items_of_the_hub_end_the_connection_with_an_error() {
    for message in ["96 01 80 c0 a3476f74 91 d40100 90", "94 02 80 a131 d40100"] {
        let (_front, mut client, mut hub) = json_client().await;
        hub.send_frame(&MESSAGES[0].messagepack()).await;
        hub.send_frame(&binary(packed(message))).await;
        assert_eq!(client.frame().await, MESSAGES[0].json(), "what came before is delivered");
        let close = client.frame().await;
        let error = "\"error\":\"Connection closed with an error. The gateway cannot transcode the";
        assert!(close.as_text().starts_with(&format!("{{\"type\":7,{error}")), "{close:?}");
        assert_eq!(client.frame().await.close_code(), Some(1000));
        assert_eq!(hub.frame().await.close_code(), Some(1000));
    }
}

#[tokio::test]
async fn er_i6_what_is_no_message_ends_the_connection() {
    for (frames, cause) in [
        (vec![Frame::text("{\"type\":1}\u{1e}")], "protocol"),
        (vec![Frame::text("x".repeat(2000))], "limit"),
        (vec![Frame::text("x".repeat(600)), Frame::text("x".repeat(600))], "limit"),
    ] {
        let backend = Backend::hub().await;
        let front = Setup::new(&[backend.address]).route("backend_protocol = \"messagepack\"");
        let front = front.more("[limits]\nclient_message_bytes_max = \"1 KiB\"\n[admin]\naddress = \"127.0.0.1:0\"");
        let front = front.start().await;
        let (mut client, mut hub) = connect(&front, &backend, HANDSHAKE, MESSAGEPACK).await;
        for frame in &frames {
            client.send_frame(frame).await;
        }
        let close = "{\"type\":7,\"error\":\"Connection closed with an error.\",\"allowReconnect\":true}\u{1e}";
        assert_eq!(client.frame().await, Frame::text(close));
        assert_eq!(client.frame().await.close_code(), Some(1000));
        assert_eq!(hub.frame().await.close_code(), Some(1000), "{cause}");
        let line =
            format!("hubgate_transcode_errors_total{{route=\"app\",direction=\"from_client\",cause=\"{cause}\"}} 1");
        assert_eq!(metrics(&front, &line).await, [line]);
        let count = u8::from(cause == "limit");
        let line = format!("hubgate_limit_reached_total{{limit=\"client_message_bytes_max\"}} {count}");
        assert_eq!(metrics(&front, &line).await, [line]);
    }
}

#[tokio::test]
async fn er_i7_messages_in_any_frames_keep_their_bounds() {
    let (_front, mut client, mut hub) = messagepack_client().await;
    // A separator, quotes and bytes that are no UTF-8, as key, text and binary.
    let message = packed("96 01 80 c0 a2476f 93 a41e225cff c4031e1e22 81 a21e22 1e 90");
    let record = "{\"type\":1,\"target\":\"Go\",\"arguments\":[\"\\u001E\\\"\\\\\u{FFFD}\",\"Hh4i\",{\"\\u001E\\\"\":30}]}\u{1e}";
    let both = [message.clone(), packed("91 06")].concat();
    client.send_frame(&binary(&both)).await;
    assert_eq!(hub.frame().await, Frame::text(format!("{record}{PING}")), "a batch stays one");
    let (front_part, back_part) = message.split_at(9);
    client.send_frame(&binary(front_part)).await;
    client.send_frame(&Frame::new(Frame::PING, "in between")).await;
    assert_eq!(hub.frame().await, Frame::new(Frame::PING, "in between"));
    client.send_frame(&binary(back_part)).await;
    assert_eq!(hub.frame().await, Frame::text(record), "a message in two frames goes on as one");
    let (front_part, back_part) = record.split_at(20);
    hub.send_frame(&Frame::text(front_part)).await;
    hub.send_frame(&Frame::text(format!("{back_part}{PING}"))).await;
    let got = client.frame().await;
    assert_eq!((got.opcode, got.payload.ends_with(&packed("91 06"))), (Frame::BINARY, true), "{got:?}");
}

#[tokio::test]
async fn er_i7_nesting_ends_where_json_does() {
    let (_front, mut client, mut hub) = messagepack_client().await;
    let call = |containers: usize| format!("96 01 80 a131 a2476f 91 {} c0 90", "91".repeat(containers));
    client.send_frame(&binary(packed(&call(62)))).await;
    assert!(hub.frame().await.as_text().contains(&"[".repeat(63)));
    client.send_frame(&binary(packed(&call(63)))).await;
    assert!(client.frame().await.payload.ends_with(b"values are nested too deep."));
}

#[tokio::test]
async fn er_i6_who_speaks_the_hubs_protocol_or_none_passes_untouched() {
    for (protocol, first) in [
        ("json", HANDSHAKE),
        ("json", "{\"protocol\":\"blazorpack\",\"version\":1}\u{1e}"),
        ("messagepack", "no hub protocol"),
    ] {
        let (backend, front) = start(protocol, "").await;
        let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
        let mut client = web_socket(&front, &target).await.unwrap();
        let (_, mut hub) = backend.socket().await;
        let (front_part, back_part) = first.split_at(5);
        let fragment = Frame { fin: false, ..Frame::text(front_part) };
        let rest = Frame::new(0, back_part);
        let frames = [Frame::new(Frame::PING, "1"), fragment, rest, Frame::text("anything"), binary("at all")];
        for frame in &frames {
            client.send_frame(frame).await;
        }
        for frame in frames {
            assert_eq!(hub.frame().await, frame, "{first}");
            let answer = Frame { payload: b"back".to_vec(), ..frame };
            hub.send_frame(&answer).await;
            assert_eq!(client.frame().await, answer, "{first}");
        }
        client.send_frame(&Frame::close(4001)).await;
        assert_eq!(hub.frame().await, Frame::close(4001));
        hub.send_frame(&Frame::close(4001)).await;
        assert_eq!(client.frame().await, Frame::close(4001));
    }
}

#[tokio::test]
async fn er_i6_pings_and_closes_pass_and_losses_stay_losses() {
    let (_front, mut client, mut hub) = json_client().await;
    for (opcode, payload) in [(Frame::PING, "p"), (Frame::PONG, "q")] {
        let frame = Frame::new(opcode, payload);
        client.send_frame(&frame).await;
        assert_eq!(hub.frame().await, frame);
        hub.send_frame(&frame).await;
        assert_eq!(client.frame().await, frame);
    }
    let close = Frame::new(Frame::CLOSE, [&4321u16.to_be_bytes()[..], b"why"].concat());
    client.send_frame(&close).await;
    assert_eq!(hub.frame().await, close);
    hub.send_frame(&Frame::close(1000)).await;
    assert_eq!(client.frame().await, Frame::close(1000));
    drop(hub);
    assert_eq!(client.ended_silently().await, Ended::Orderly);

    let (_front, client, mut hub) = json_client().await;
    client.reset();
    assert_eq!(hub.ended_silently().await, Ended::Reset, "a client's loss is one to the hub");

    let (_front, mut client, hub) = json_client().await;
    hub.reset();
    let told = client.frame().await;
    assert_eq!(told, Frame::text("{\"type\":7,\"allowReconnect\":true}\u{1e}"), "as without transcoding (rule E4)");
}

#[tokio::test]
async fn er_i6_a_hub_that_refuses_the_handshake_is_heard() {
    let (backend, front) = start("messagepack", "").await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    let mut client = web_socket(&front, &target).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    let refusal = "{\"error\":\"Handshake was canceled.\"}\u{1e}";
    hub.send_text(refusal).await;
    hub.send_frame(&Frame::close(1000)).await;
    assert_eq!(client.frame().await, Frame::text(refusal), "before the client has said anything");
    assert_eq!(client.frame().await, Frame::close(1000));
}

#[tokio::test]
async fn er_i6_polls_and_event_streams_reach_a_hub_of_the_other_protocol() {
    let (backend, front) = start("messagepack", "").await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let (_, mut hub) = backend.socket().await;
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    assert_eq!(hub.frame().await.payload, MESSAGEPACK.as_bytes());
    hub.send_frame(&binary(SHAKEN)).await;
    assert_eq!(front.get(&target).await.text(), SHAKEN);
    assert_eq!(front.post(&target, MESSAGES[0].json().payload).await.status, 200);
    assert_eq!(hub.frame().await, MESSAGES[0].messagepack());
    hub.send_frame(&MESSAGES[0].messagepack()).await;
    assert_eq!(front.get(&target).await.text().as_bytes(), MESSAGES[0].json().payload);

    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    let (answer, mut stream) = front.event_stream(&target).await;
    assert_eq!(answer.status, 200);
    let (_, mut hub) = backend.socket().await;
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    hub.frame().await;
    hub.send_frame(&binary([SHAKEN.as_bytes(), &packed("91 06")].concat())).await;
    let mut text = String::new();
    soon("the ping in the stream", async {
        while !text.contains(PING) {
            text += std::str::from_utf8(&stream.chunk().await.unwrap()).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn er_i6_stateful_reconnect_counts_what_was_refused() {
    let (backend, front) = start("messagepack", "").await;
    let answer = front.post("/chat/negotiate?negotiateVersion=1&useStatefulReconnect=true", "").await;
    let target = format!("/chat?id={}", Negotiated::of(answer).token);
    let mut client = web_socket(&front, &target).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    client.send_text("{\"protocol\":\"json\",\"version\":2}\u{1e}").await;
    assert_eq!(hub.frame().await.payload, MESSAGEPACK.as_bytes());
    hub.send_frame(&binary(SHAKEN)).await;
    assert_eq!(client.frame().await, Frame::text(SHAKEN));
    client.send_text(PING).await;
    assert_eq!(hub.frame().await, binary(packed("91 06")));
    client.send_text("{\"type\":1,\"invocationId\":\"1\",\"target\":\"Go\",\"arguments\":[1e999]}\u{1e}").await;
    assert!(client.frame().await.as_text().contains("\"error\":\"The gateway cannot transcode"));
    client.send_text("{\"type\":1,\"target\":\"Go\",\"arguments\":[1]}\u{1e}").await;
    assert_eq!(hub.frame().await, binary(packed("96 01 80 c0 a2476f 91 01 90")));
    client.reset();
    let mut client = web_socket(&front, &target).await.unwrap();
    // The third message is the next: the refused one was the first.
    client.send_text("{\"type\":9,\"sequenceId\":3}\u{1e}").await;
    let sequence = client.frame().await;
    assert!(sequence.as_text().starts_with("{\"type\":9,"), "{sequence:?}");
    client.send_text("{\"type\":1,\"target\":\"Go\",\"arguments\":[2]}\u{1e}").await;
    assert_eq!(hub.frame().await, binary(packed("96 01 80 c0 a2476f 91 02 90")), "neither doubled nor lost");
}

#[tokio::test]
async fn er_i6_clients_without_negotiate_are_transcoded_too() {
    let (backend, front) = start("json", "").await;
    let mut client = web_socket(&front, "/chat").await.unwrap();
    let (_, mut hub) = backend.socket().await;
    client.send_frame(&binary([MESSAGEPACK.as_bytes(), &packed(MESSAGES[0].messagepack)].concat())).await;
    assert_eq!(hub.frame().await, Frame::text(HANDSHAKE));
    assert_eq!(hub.frame().await, MESSAGES[0].json(), "what follows the handshake in its frame");
}

#[tokio::test]
async fn er_i6_all_transports_carry_what_clients_speak() {
    let text_only = negotiate_answer("id", "token").replace(",\"Binary\"", "");
    let backend = Backend::start(move |_| Reply::json(&text_only)).await;
    let front = Setup::new(&[backend.address]).route("backend_protocol = \"json\"").start().await;
    let answer = front.post("/chat/negotiate?negotiateVersion=1", "").await.json();
    let formats = |at: usize| answer["availableTransports"][at]["transferFormats"].to_string();
    assert_eq!([formats(0), formats(1), formats(2)], ["[\"Text\",\"Binary\"]", "[\"Text\"]", "[\"Text\",\"Binary\"]"]);
}

#[tokio::test]
async fn er_i6_hints_and_names_of_the_route_hold() {
    let more = "property_names = \"camel-to-pascal\"\ndeclared_names = [\"ID\"]\n\
                hints = [{ target = \"Go\", values = { \"arguments.0\" = \"bytes\", \"result.when\" = \"date\" } }]";
    let (backend, front) = start("messagepack", more).await;
    let (mut client, mut hub) = connect(&front, &backend, HANDSHAKE, MESSAGEPACK).await;
    let call = r#"{"type":1,"invocationId":"1","target":"Go","arguments":["AQID",{"id":1,"ownName":2}]}"#;
    client.send_text(format!("{call}\u{1e}")).await;
    let told = packed("96 01 80 a131 a2476f 92 c403010203 82 a24944 01 a74f776e4e616d65 02 90");
    assert_eq!(hub.frame().await, binary(told));
    hub.send_frame(&binary(packed("95 03 80 a131 03 81 a45768656e d6ff00000000"))).await;
    let result = r#"{"type":3,"invocationId":"1","result":{"when":"1970-01-01T00:00:00Z"}}"#;
    assert_eq!(client.frame().await, Frame::text(format!("{result}\u{1e}")));
}
