//! Sessions in virtual time: handshake, keep-alive, time-outs, close (signalr-wire §6, §11).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::message::{Close, Completion, Invocation};
use hubgate_protocol::session::{ClientConfig, End, NotConnected, Output, ServerConfig, Session};
use hubgate_protocol::{HubMessage, HubProtocol};
use proptest::prelude::*;

use crate::strategy;

const HANDSHAKE: &[u8] = b"{\"protocol\":\"json\",\"version\":1}\x1e";
const PING: &[u8] = b"{\"type\":6}\x1e";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn outputs(session: &mut Session) -> Vec<Output> {
    std::iter::from_fn(|| session.next_output()).collect()
}

/// What was written, as text, and the end if there is one.
fn written(session: &mut Session) -> (String, Option<End>) {
    let (mut text, mut end) = (BytesMut::new(), None);
    for output in outputs(session) {
        match output {
            Output::Write(bytes) => text.extend_from_slice(&bytes),
            Output::Ended(why) => end = Some(why),
            Output::Connected { .. } | Output::Message(_) => {}
        }
    }
    (String::from_utf8(text.to_vec()).unwrap().replace('\u{1e}', "|"), end)
}

fn server() -> Session {
    let mut session = Session::server(ServerConfig::default(), at(0));
    session.receive(HANDSHAKE, at(0));
    assert_eq!(
        outputs(&mut session),
        [Output::Write(Bytes::from_static(b"{}\x1e")), Output::Connected { protocol: HubProtocol::Json, version: 1 }]
    );
    session
}

fn client() -> Session {
    let mut session = Session::client(ClientConfig::new(HubProtocol::Json), at(0));
    assert_eq!(outputs(&mut session), [Output::Write(Bytes::from_static(HANDSHAKE))]);
    session.receive(b"{}\x1e", at(0));
    assert_eq!(
        outputs(&mut session),
        [Output::Connected { protocol: HubProtocol::Json, version: 1 }, Output::Write(Bytes::from_static(PING))]
    );
    session
}

fn call(target: &str) -> HubMessage {
    HubMessage::Invocation(Invocation {
        target: target.to_owned(),
        arguments: Bytes::from_static(b"[]"),
        ..Invocation::default()
    })
}

#[test]
fn handshake_and_messages_come_in_one_piece() {
    let mut session = Session::server(ServerConfig::default(), at(0));
    let piece = [HANDSHAKE, b"{\"type\":1,\"target\":\"A\",\"arguments\":[]}\x1e{\"type\":42}\x1e{\"ty"].concat();
    session.receive(&piece, at(1));
    assert_eq!(outputs(&mut session).last(), Some(&Output::Message(call("A"))));
    session.receive(b"pe\":1,\"target\":\"B\",\"arguments\":[]}\x1e", at(2));
    assert_eq!(outputs(&mut session), [Output::Message(call("B"))]);
}

#[test]
fn a_handshake_has_fifteen_seconds_from_the_attaching() {
    let mut session = Session::server(ServerConfig::default(), at(100));
    session.receive(b"{\"protocol\":", at(114));
    assert_eq!(session.deadline(), Some(at(115)));
    session.timer(at(114));
    assert!(!session.is_ended());
    session.timer(at(115));
    assert_eq!(
        written(&mut session),
        ("{\"error\":\"Handshake was canceled.\"}|".to_owned(), Some(End::HandshakeTimeout))
    );
    assert_eq!(session.deadline(), None);
}

#[test]
fn refused_handshakes_get_a_text_and_no_close() {
    let refuse = |config: ServerConfig, bytes: &[u8]| {
        let mut session = Session::server(config, at(0));
        session.receive(bytes, at(0));
        session.receive(PING, at(0));
        let (text, end) = written(&mut session);
        assert!(end.is_some());
        text
    };
    let unknown = b"{\"protocol\":\"blah\",\"version\":1}\x1e";
    assert_eq!(refuse(ServerConfig::default(), unknown), "{\"error\":\"The protocol 'blah' is not supported.\"}|");
    let sse = ServerConfig { carries_binary: false, ..ServerConfig::default() };
    assert_eq!(
        refuse(sse, b"{\"protocol\":\"messagepack\",\"version\":1}\x1e"),
        "{\"error\":\"Cannot use the 'messagepack' protocol on the current transport. The transport does not support \
         'Binary' transfer format.\"}|"
    );
    assert_eq!(
        refuse(ServerConfig::default(), b"[]\x1e"),
        "{\"error\":\"An unexpected error occurred during connection handshake.\"}|"
    );
    let small = ServerConfig { message_bytes_max: 10, ..ServerConfig::default() };
    assert_eq!(refuse(small, HANDSHAKE), "{\"error\":\"Handshake was canceled.\"}|");
}

#[test]
fn half_a_handshake_gets_no_answer() {
    let mut session = Session::server(ServerConfig::default(), at(0));
    session.receive(&HANDSHAKE[..10], at(0));
    session.input_ended(at(1));
    assert_eq!(outputs(&mut session), [Output::Ended(End::InputTruncated)]);
}

#[test]
fn a_hub_pings_from_its_last_ping_however_busy_it_is() {
    let mut session = server();
    session.send(&call("T"), at(14)).unwrap();
    outputs(&mut session);
    assert_eq!(session.deadline(), Some(at(15)));
    session.timer(at(16));
    assert_eq!(written(&mut session).0, "{\"type\":6}|");
    assert_eq!(session.deadline(), Some(at(31)));
}

#[test]
fn a_hub_times_a_client_out_only_after_its_first_ping() {
    let mut session = server();
    session.timer(at(1_000));
    assert!(!session.is_ended());
    session.receive(PING, at(1_000));
    session.receive(b"{\"type\":1,\"target\":\"A\",\"arguments\":[]}\x1e{\"half", at(1_010));
    session.receive(b" a message", at(1_030));
    outputs(&mut session);
    session.timer(at(1_039));
    assert!(!session.is_ended(), "the last whole message counts");
    session.timer(at(1_040));
    let (text, end) = written(&mut session);
    assert!(text.ends_with("{\"type\":7,\"error\":\"Connection closed with an error.\",\"allowReconnect\":true}|"));
    assert_eq!(end, Some(End::Timeout));
}

#[test]
fn a_transport_that_keeps_itself_alive_is_not_pinged() {
    let config = ServerConfig { has_inherent_keep_alive: true, ..ServerConfig::default() };
    let mut session = Session::server(config, at(0));
    session.receive(HANDSHAKE, at(0));
    assert_eq!(session.deadline(), None);
    let config = ClientConfig { has_inherent_keep_alive: true, ..ClientConfig::new(HubProtocol::MessagePack) };
    let mut session = Session::client(config, at(0));
    outputs(&mut session);
    session.receive(b"{}\x1e", at(0));
    assert_eq!(outputs(&mut session), [Output::Connected { protocol: HubProtocol::MessagePack, version: 1 }]);
    assert_eq!(session.deadline(), None);
}

#[test]
fn violations_end_with_the_error_close() {
    for (bytes, limit, detail) in [
        (&b"{}\x1e"[..], 32_768, "InvalidDataException: Missing required property 'type'."),
        (b"\x1e", 32_768, "InvalidDataException: Error reading JSON."),
        (
            &[b'x'; 41],
            40,
            "InvalidDataException: The maximum message size of 40B was exceeded. The message size can be configured in \
             AddHubOptions.",
        ),
    ] {
        for detailed_errors in [false, true] {
            let config = ServerConfig { message_bytes_max: limit, detailed_errors, ..ServerConfig::default() };
            let mut session = Session::server(config, at(0));
            session.receive(HANDSHAKE, at(0));
            outputs(&mut session);
            session.receive(&[PING, bytes, PING].concat(), at(0));
            let shown = if detailed_errors { format!(" {detail}") } else { String::new() };
            let close = format!(
                "{{\"type\":7,\"error\":\"Connection closed with an error.{shown}\",\"allowReconnect\":true}}|"
            );
            let (text, end) = written(&mut session);
            assert_eq!(text, close);
            assert_eq!(end.unwrap().detail().as_deref(), Some(detail));
        }
    }
}

#[test]
fn closes_are_answered_by_a_hub_and_not_by_a_client() {
    let close = b"{\"type\":7,\"error\":\"bye\",\"allowReconnect\":true}\x1e{\"type\":6}\x1e";
    let end = End::PeerClosed(Close { error: Some("bye".to_owned()), allow_reconnect: true });
    let mut session = server();
    session.receive(close, at(1));
    assert_eq!(written(&mut session), ("{\"type\":7}|".to_owned(), Some(end.clone())));
    let mut session = client();
    session.receive(close, at(1));
    assert_eq!(written(&mut session), (String::new(), Some(end)));
}

#[test]
fn the_end_of_input_makes_a_close_of_its_kind() {
    let mut session = server();
    session.input_ended(at(1));
    assert_eq!(written(&mut session), ("{\"type\":7,\"allowReconnect\":true}|".to_owned(), Some(End::InputEnded)));
    let mut session = server();
    session.receive(b"{\"type", at(1));
    session.input_ended(at(1));
    let (text, end) = written(&mut session);
    assert_eq!(text, "{\"type\":7,\"error\":\"Connection closed with an error.\",\"allowReconnect\":true}|");
    assert_eq!(end.unwrap().detail().unwrap(), "InvalidDataException: Connection terminated while reading a message.");
}

#[test]
fn a_client_pings_after_its_own_silence_and_gives_a_silent_server_up() {
    let mut session = client();
    session.send(&call("T"), at(10)).unwrap();
    outputs(&mut session);
    assert_eq!(session.deadline(), Some(at(25)));
    session.timer(at(25));
    assert_eq!(written(&mut session).0, "{\"type\":6}|");
    assert_eq!(session.deadline(), Some(at(30)));
    session.receive(PING, at(29));
    session.timer(at(30));
    assert!(!session.is_ended());
    session.timer(at(59));
    assert_eq!(written(&mut session), (String::new(), Some(End::Timeout)));
}

#[test]
fn a_client_is_refused_or_gives_up_the_handshake() {
    let mut session = Session::client(ClientConfig::new(HubProtocol::Json), at(0));
    outputs(&mut session);
    assert_eq!(session.send(&call("T"), at(0)), Err(NotConnected));
    session.receive(b"{\"error\":\"no\"}\x1e", at(1));
    assert_eq!(outputs(&mut session), [Output::Ended(End::HandshakeRefused("no".to_owned()))]);
    let mut session = Session::client(ClientConfig::new(HubProtocol::Json), at(0));
    outputs(&mut session);
    session.timer(at(15));
    assert_eq!(outputs(&mut session), [Output::Ended(End::HandshakeTimeout)]);
}

#[test]
fn closing_is_last_and_once() {
    let mut session = server();
    session.close(Close::reconnect());
    session.close(Close::default());
    session.receive(PING, at(1));
    session.input_ended(at(1));
    session.timer(at(99));
    assert_eq!(written(&mut session), ("{\"type\":7,\"allowReconnect\":true}|".to_owned(), Some(End::Closed)));
    assert_eq!(session.send(&HubMessage::Ping, at(1)), Err(NotConnected));
    assert!(outputs(&mut session).is_empty());
}

#[test]
fn time_outs_can_be_switched_off() {
    let config =
        ServerConfig { keep_alive_interval: Duration::MAX, client_timeout: Duration::MAX, ..ServerConfig::default() };
    let mut session = Session::server(config, at(1));
    session.receive(HANDSHAKE, at(1));
    session.receive(PING, at(1));
    assert_eq!(session.deadline(), None);
}

/// What one end writes, the other takes, in pieces of `size` bytes.
fn carry(from: &mut Session, to: &mut Session, size: usize, now: Duration) -> Vec<Output> {
    let mut others = Vec::new();
    while let Some(output) = from.next_output() {
        match output {
            Output::Write(bytes) => bytes.chunks(size).for_each(|piece| to.receive(piece, now)),
            other => others.push(other),
        }
    }
    others
}

proptest! {
    #[test]
    fn two_ends_understand_each_other((protocol, messages) in strategy::stream(), size in 1..40usize) {
        let mut hub = Session::server(ServerConfig { message_bytes_max: 1 << 20, ..ServerConfig::default() }, at(0));
        let mut peer = Session::client(ClientConfig::new(protocol), at(0));
        carry(&mut peer, &mut hub, size, at(0));
        let connected = Output::Connected { protocol, version: 1 };
        prop_assert_eq!(carry(&mut hub, &mut peer, size, at(0)), [connected]);
        let told: Vec<HubMessage> =
            messages.into_iter().filter(|m| !matches!(m, HubMessage::Ping | HubMessage::Close(_))).collect();
        for message in &told {
            peer.send(message, at(1)).unwrap();
            hub.send(message, at(1)).unwrap();
        }
        carry(&mut peer, &mut hub, size, at(1));
        let heard = |outputs: Vec<Output>| -> Vec<HubMessage> {
            outputs.into_iter().filter_map(|o| if let Output::Message(m) = o { Some(m) } else { None }).collect()
        };
        prop_assert_eq!(heard(carry(&mut hub, &mut peer, size, at(1))), told.clone());
        prop_assert_eq!(heard(carry(&mut peer, &mut hub, size, at(1))), told);
        hub.send(&HubMessage::Completion(Completion::void("1")), at(2)).unwrap();
        hub.close(Close::default());
        prop_assert_eq!(carry(&mut hub, &mut peer, size, at(2)), [Output::Ended(End::Closed)]);
        let last = carry(&mut peer, &mut hub, size, at(2)).pop();
        prop_assert_eq!(last, Some(Output::Ended(End::PeerClosed(Close::default()))));
    }
}
