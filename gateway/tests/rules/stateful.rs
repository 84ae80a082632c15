//! Stateful reconnect at the gateway: who gets it, what a client that comes back finds, how it ends (rules A5, A7, I1–I5).

use std::time::Duration;

use hubgate_fixtures::jwt;

use crate::support::hub::{FAREWELL, HANDSHAKE, Negotiated, SHAKEN, negotiate_answer, upgrade};
use crate::support::{Answer, Backend, Ended, Frame, Front, Reply, Setup, Wire, negotiate, web_socket};

const VERSION_2: &str = "{\"protocol\":\"json\",\"version\":2}\u{1e}";
const PING: &str = "{\"type\":6}\u{1e}";

fn call(number: u32) -> String {
    format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[{number}]}}\u{1e}")
}

fn sequence(number: i64) -> String {
    format!("{{\"type\":9,\"sequenceId\":{number}}}\u{1e}")
}

fn ack(number: i64) -> String {
    format!("{{\"type\":8,\"sequenceId\":{number}}}\u{1e}")
}

/// Asks for stateful reconnect; the target of the WebSockets.
async fn ask(front: &Front) -> String {
    let answer = front.post("/chat/negotiate?negotiateVersion=1&useStatefulReconnect=true", "").await;
    assert_eq!(answer.json()["useStatefulReconnect"], true, "{answer:?}");
    format!("/chat?id={}", Negotiated::of(answer).token)
}

/// Both sides of a connection that has shaken hands; the client has pinged, so that it may be told anything.
struct Connected {
    target: String,
    client: Wire,
    hub: Wire,
}

async fn connect(front: &Front, backend: &Backend) -> Connected {
    let target = ask(front).await;
    let mut client = web_socket(front, &target).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    client.send_text(VERSION_2).await;
    assert_eq!(hub.frame().await, Frame::text(HANDSHAKE), "the hub is asked for version 1");
    hub.send_text(SHAKEN).await;
    assert_eq!(client.frame().await, Frame::text(SHAKEN));
    client.send_text(PING).await;
    assert_eq!(hub.frame().await, Frame::text(PING));
    Connected { target, client, hub }
}

/// The next hub message that is no Ack.
async fn said(wire: &mut Wire) -> String {
    loop {
        let frame = wire.frame().await;
        if frame.opcode == Frame::TEXT && !frame.as_text().starts_with("{\"type\":8") {
            return frame.as_text().to_owned();
        }
    }
}

/// Comes back: the new socket behind both Sequences.
async fn resume(front: &Front, target: &str, client_from: i64, hub_from: i64) -> Wire {
    let mut client = web_socket(front, target).await.unwrap();
    client.send_text(sequence(client_from)).await;
    assert_eq!(client.frame().await, Frame::text(sequence(hub_from)), "a Sequence comes first");
    client
}

async fn start(limits: &str) -> (Backend, Front) {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).more(limits).start().await;
    (backend, front)
}

#[tokio::test]
async fn er_i1_it_is_granted_only_to_those_who_ask_and_the_hub_is_not_told() {
    let (backend, front) = start("").await;
    let answer = front.post("/chat/negotiate?negotiateVersion=1", "").await;
    assert_eq!(answer.json().get("useStatefulReconnect"), None);
    ask(&front).await;
    assert_eq!(backend.last().query(), "negotiateVersion=1");
    let version_0 = front.post("/chat/negotiate?useStatefulReconnect=True", "").await;
    assert_eq!(version_0.json()["useStatefulReconnect"], true, "version 0 may have it too");
}

#[tokio::test]
async fn er_i1_off_and_a_hub_without_web_sockets_grant_nothing() {
    let backend = Backend::hub_with(|seen| {
        let only_polls = r#"{"negotiateVersion":1,"connectionId":"a","connectionToken":"b","availableTransports":[{"transport":"LongPolling","transferFormats":["Text","Binary"]}]}"#;
        seen.path().starts_with("/polls").then(|| Reply::json(only_polls))
    })
    .await;
    let off = Setup::new(&[backend.address]).route("stateful_reconnect = \"off\"").start().await;
    let query = "negotiateVersion=1&useStatefulReconnect=true";
    assert_eq!(off.post(&format!("/chat/negotiate?{query}"), "").await.json().get("useStatefulReconnect"), None);
    let edge = Front::quick(&[backend.address]).await;
    assert_eq!(edge.post(&format!("/polls/negotiate?{query}"), "").await.json().get("useStatefulReconnect"), None);
}

#[tokio::test]
async fn er_i1_neither_the_grant_nor_version_2_alone_is_enough() {
    let (backend, front) = start("").await;
    for (target, handshake) in
        [(ask(&front).await, HANDSHAKE), (format!("/chat?id={}", negotiate(&front, "/chat").await.token), VERSION_2)]
    {
        let mut client = web_socket(&front, &target).await.unwrap();
        let (_, mut hub) = backend.socket().await;
        client.send_text(handshake).await;
        assert_eq!(hub.frame().await, Frame::text(handshake), "it goes on as it came");
        hub.send_text(SHAKEN).await;
        assert_eq!(client.frame().await, Frame::text(SHAKEN));
        assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 409, "while the first one is open");
        client.reset();
        hub.ended().await;
        crate::support::until("the token to be used up", async || web_socket(&front, &target).await.is_err_and(is_404))
            .await;
    }
}

fn is_404(answer: Answer) -> bool {
    answer.status == 404
}

#[tokio::test]
async fn er_i1_a_client_comes_back_and_its_hub_never_notices() {
    let (backend, front) = start("").await;
    let Connected { target, mut client, mut hub } = connect(&front, &backend).await;
    client.send_text(call(1)).await;
    assert_eq!(hub.frame().await, Frame::text(call(1)));
    hub.send_text(call(101)).await;
    assert_eq!(said(&mut client).await, call(101));
    client.reset();
    hub.send_text(call(102)).await;
    hub.send_text(call(103)).await;
    let mut client = resume(&front, &target, 1, 1).await;
    for number in [101, 102, 103] {
        assert_eq!(said(&mut client).await, call(number));
    }
    client.send_text(call(1)).await;
    client.send_text(call(2)).await;
    assert_eq!(hub.frame().await, Frame::text(call(2)), "the repeated call is dropped");
    hub.send_text(call(104)).await;
    assert_eq!(said(&mut client).await, call(104));
    client.send_text(ack(4)).await;
    client.send_text(call(3)).await;
    assert_eq!(hub.frame().await, Frame::text(call(3)));
    client.reset();
    resume(&front, &target, 4, 5).await;
}

#[tokio::test]
async fn what_comes_with_the_upgrade_request_is_read() {
    let (backend, front) = start("").await;
    let Connected { target, client, mut hub } = connect(&front, &backend).await;
    client.reset();
    let mut again = front.connect().await;
    let frames = [sequence(1), call(1)].map(|text| Frame::text(text).bytes(Some([1, 2, 3, 4]))).concat();
    again.send([upgrade(&target, ""), frames].concat()).await;
    assert_eq!(again.answer_head().await.status, 101);
    assert_eq!(again.frame().await, Frame::text(sequence(1)));
    assert_eq!(hub.frame().await, Frame::text(call(1)));
    assert_eq!(ack(1), again.frame().await.as_text(), "at most a second late");
}

#[tokio::test]
async fn resumes_have_counters_of_their_own() {
    let (backend, front) = start("[admin]\naddress = \"127.0.0.1:0\"").await;
    let Connected { target, client, hub: _hub } = connect(&front, &backend).await;
    client.reset();
    resume(&front, &target, 1, 1).await;
    let admin = front.gateway.admin_address().unwrap();
    let metrics = Wire::connect(admin).await.request("GET /metrics", "").await;
    for line in [
        "hubgate_resumes_total{route=\"app\",outcome=\"ok\"} 1",
        "hubgate_connects_total{route=\"app\",transport=\"WebSockets\",outcome=\"ok\"} 1",
    ] {
        assert!(metrics.text().contains(line), "{line}\n{}", metrics.text());
    }
}

#[tokio::test]
async fn er_i2_what_was_torn_is_dropped_and_not_glued_to_the_sequence() {
    let (backend, front) = start("").await;
    let Connected { target, mut client, mut hub } = connect(&front, &backend).await;
    let whole = call(1);
    client.send_text(&whole.as_bytes()[..10]).await;
    // Half a frame behind half a message.
    client.send(&Frame::text(&whole.as_bytes()[10..]).bytes(Some([1, 2, 3, 4]))[..9]).await;
    client.reset();
    let mut client = resume(&front, &target, 1, 1).await;
    client.send_text(call(1)).await;
    assert_eq!(hub.frame().await, Frame::text(call(1)));
}

#[tokio::test]
async fn er_i2_a_sequence_out_of_bounds_ends_the_connection() {
    for wrong in [3, 0, -1, i64::MIN] {
        let (backend, front) = start("").await;
        let Connected { target, client, mut hub } = connect(&front, &backend).await;
        client.reset();
        let mut client = web_socket(&front, &target).await.unwrap();
        client.send_text(sequence(wrong)).await;
        assert_eq!(said(&mut client).await, sequence(1));
        let close = said(&mut client).await;
        assert!(close.starts_with("{\"type\":7,\"error\":\"Connection closed with an error."), "{wrong}: {close}");
        assert_eq!(client.frame().await.close_code(), Some(1000));
        assert_eq!(hub.ended().await, Ended::Reset, "{wrong}");
        assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 404);
    }
}

#[tokio::test]
async fn er_i3_nothing_is_counted_before_the_clients_first_word() {
    let (backend, front) = start("").await;
    let target = ask(&front).await;
    let mut client = web_socket(&front, &target).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    client.send_text(VERSION_2).await;
    hub.frame().await;
    hub.send_text(format!("{SHAKEN}{}", call(1))).await;
    assert_eq!(client.frame().await, Frame::text(SHAKEN), "in a frame of its own");
    client.send_frame(&Frame { fin: true, opcode: Frame::PING, payload: b"?".to_vec() }).await;
    assert_eq!(client.frame().await.payload, b"?", "a Pong and not the call, which is there already");
    client.send_text(PING).await;
    assert_eq!(client.frame().await, Frame::text(call(1)));
}

#[tokio::test]
async fn er_i4_a_full_buffer_ends_the_connection_with_an_error() {
    let more = "[limits]\nstateful_buffer_bytes_max = \"2 KiB\"\n[timeouts]\nstateful_buffer_timeout = \"200ms\"";
    let (backend, front) = start(more).await;
    let Connected { target, mut client, mut hub } = connect(&front, &backend).await;
    let long = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{}\"]}}\u{1e}", "x".repeat(1500));
    for _ in 0..3 {
        hub.send_text(&long).await;
    }
    assert_eq!(said(&mut client).await, long);
    assert_eq!(said(&mut client).await, long);
    let close = said(&mut client).await;
    assert!(close.contains("not acknowledged"), "past what waits comes: {close}");
    assert_eq!(client.frame().await.close_code(), Some(1000));
    hub.ended().await;
    assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn er_i4_an_overflow_in_the_gap_is_answered_404() {
    let more = "[limits]\nstateful_buffer_bytes_max = \"2 KiB\"\n[timeouts]\nstateful_buffer_timeout = \"200ms\"";
    let (backend, front) = start(more).await;
    let Connected { target, client, mut hub } = connect(&front, &backend).await;
    client.reset();
    let long = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{}\"]}}\u{1e}", "x".repeat(1500));
    for _ in 0..3 {
        hub.send_text(&long).await;
    }
    hub.ended().await;
    assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn er_f1_what_is_kept_for_all_clients_together_is_bounded() {
    // A message that is being written counts twice: as one that is kept, and as bytes that wait.
    let more = "[limits]\nbuffered_bytes_max = \"3 MiB\"\nhub_message_bytes_max = \"1 MiB\"\nstateful_buffer_bytes_max = \"4 MiB\"";
    let (backend, front) = start(more).await;
    let long = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{}\"]}}\u{1e}", "x".repeat(700_000));
    let mut first = connect(&front, &backend).await;
    for _ in 0..3 {
        first.hub.send_text(&long).await;
        assert_eq!(said(&mut first.client).await.len(), long.len());
    }
    let mut second = connect(&front, &backend).await;
    for _ in 0..2 {
        second.hub.send_text(&long).await;
    }
    let (first_ended, close) = {
        let mut first = std::pin::pin!(said(&mut first.client));
        loop {
            tokio::select! {
                close = &mut first => break (true, close),
                said = said(&mut second.client) => if said.len() < long.len() { break (false, said) },
            }
        }
    };
    let (mut ended, mut goes_on) = if first_ended { (first, second) } else { (second, first) };
    assert!(close.starts_with("{\"type\":7,\"error\""), "{close}");
    assert_eq!(ended.client.frame().await.close_code(), Some(1000));
    assert_eq!(ended.hub.ended().await, Ended::Reset);
    assert_eq!(web_socket(&front, &ended.target).await.unwrap_err().status, 404);
    goes_on.client.send_text(call(1)).await;
    assert_eq!(goes_on.hub.frame().await, Frame::text(call(1)));
}

#[tokio::test]
async fn a_gap_longer_than_the_window_ends_the_connection() {
    let (backend, front) = start("[timeouts]\nresume_window = \"300ms\"").await;
    let Connected { target, client, mut hub } = connect(&front, &backend).await;
    client.reset();
    assert_eq!(hub.ended_silently().await, Ended::Reset, "a loss for the hub");
    assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn a_hub_that_ends_in_the_gap_leaves_404_behind() {
    for orderly in [true, false] {
        let (backend, front) = start("").await;
        let Connected { target, client, mut hub } = connect(&front, &backend).await;
        client.reset();
        if orderly {
            hub.send_frame(&Frame::close(1000)).await;
            hub.ended().await;
        } else {
            hub.reset();
        }
        crate::support::until("404", async || web_socket(&front, &target).await.is_err_and(is_404)).await;
    }
}

#[tokio::test]
async fn a_lost_hub_is_told_by_a_close_that_lets_the_client_come_back() {
    let (backend, front) = start("").await;
    let Connected { target, mut client, hub } = connect(&front, &backend).await;
    hub.reset();
    assert_eq!(client.frame().await, Frame::text(FAREWELL));
    assert_eq!(client.frame().await.close_code(), Some(1000));
    assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 404, "a stray socket is answered calmly");
}

#[tokio::test]
async fn a_close_of_either_side_ends_it() {
    let (backend, front) = start("").await;
    let Connected { target, mut client, mut hub } = connect(&front, &backend).await;
    client.send_text(call(1)).await;
    client.send_frame(&Frame::close(1000)).await;
    assert_eq!(hub.frame().await, Frame::text(call(1)));
    assert_eq!(hub.frame().await.close_code(), Some(1000));
    assert_eq!(client.frame().await.close_code(), Some(1000));
    assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 404);

    let Connected { target, mut client, mut hub } = connect(&front, &backend).await;
    hub.send_text(call(1)).await;
    hub.send_text("{\"type\":7}\u{1e}").await;
    hub.send_frame(&Frame::close(1000)).await;
    assert_eq!(said(&mut client).await, call(1));
    assert_eq!(said(&mut client).await, "{\"type\":7}\u{1e}");
    assert_eq!(client.frame().await.close_code(), Some(1000));
    assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn the_newest_of_two_sockets_wins_at_once() {
    let (backend, front) = start("").await;
    let Connected { target, mut client, mut hub } = connect(&front, &backend).await;
    let mut second = resume(&front, &target, 1, 1).await;
    assert_eq!(client.ended_silently().await, Ended::Reset, "dropped without a close handshake");
    let mut third = resume(&front, &target, 1, 1).await;
    assert_eq!(second.ended_silently().await, Ended::Reset);
    third.send_text(call(1)).await;
    assert_eq!(hub.frame().await, Frame::text(call(1)));
    hub.send_text(call(2)).await;
    assert_eq!(said(&mut third).await, call(2));
}

#[tokio::test]
async fn er_a7_a_loop_of_resumes_is_stopped_by_404_and_harms_nothing() {
    let (backend, front) = start("[limits]\nresumes_per_second_max = 1").await;
    let Connected { target, mut client, mut hub } = connect(&front, &backend).await;
    let mut sockets = Vec::new();
    let refused = loop {
        match web_socket(&front, &target).await {
            Ok(socket) => sockets.push(socket),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.status, 404);
    client.ended().await;
    let mut last = sockets.pop().unwrap();
    assert_eq!(last.frame().await, Frame::text(sequence(1)));
    last.send_text(sequence(1)).await;
    last.send_text(call(1)).await;
    assert_eq!(hub.frame().await, Frame::text(call(1)), "the last one that was let in goes on");
}

fn with_bearer(target: &str, user: &str) -> Vec<u8> {
    let token = jwt::token_for(user, Duration::from_secs(600));
    upgrade(target, &format!("Authorization: Bearer {token}"))
}

async fn open_as(front: &Front, target: &str, user: &str) -> Result<Wire, Answer> {
    let mut wire = front.connect().await;
    wire.send(with_bearer(target, user)).await;
    let answer = wire.answer_head().await;
    if answer.status == 101 { Ok(wire) } else { Err(answer) }
}

/// Ann's first socket and its hub's side, shaken hands.
async fn shaken_as_ann(front: &Front, backend: &Backend, target: &str) -> (Wire, Wire) {
    let mut client = open_as(front, target, "ann").await.unwrap();
    let (_, mut hub) = backend.socket().await;
    client.send_text(VERSION_2).await;
    hub.frame().await;
    hub.send_text(SHAKEN).await;
    client.frame().await;
    (client, hub)
}

#[tokio::test]
async fn er_a7_another_users_resume_is_403_and_changes_nothing() {
    let (backend, front) = start("").await;
    let target = ask(&front).await;
    let (mut client, mut hub) = shaken_as_ann(&front, &backend, &target).await;
    assert_eq!(open_as(&front, &target, "bob").await.unwrap_err().status, 403);
    client.send_text(call(1)).await;
    assert_eq!(hub.frame().await, Frame::text(call(1)), "the first socket goes on");
    let mut again = open_as(&front, &target, "ann").await.unwrap();
    assert_eq!(again.frame().await, Frame::text(sequence(1)));
}

#[tokio::test]
async fn er_a5_new_credentials_of_a_resume_are_shown_to_the_hub_first() {
    let backend = Backend::hub_with(|seen| {
        let refused = seen.method() == "POST" && seen.path() == "/chat";
        refused.then(|| Reply::answer("401 Unauthorized\nWWW-Authenticate: Bearer", "no"))
    })
    .await;
    let front = Front::quick(&[backend.address]).await;
    let target = ask(&front).await;
    let (mut client, mut hub) = shaken_as_ann(&front, &backend, &target).await;
    // No credentials where there were some.
    assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 401);
    client.send_text(PING).await;
    assert_eq!(hub.frame().await, Frame::text(PING));
}

#[tokio::test]
async fn er_a3_a_token_comes_back_on_its_own_path_only() {
    let (backend, front) = start("").await;
    let Connected { target, client, hub: _hub } = connect(&front, &backend).await;
    client.reset();
    let elsewhere = target.replace("/chat", "/other");
    assert_eq!(web_socket(&front, &elsewhere).await.unwrap_err().status, 404);
    resume(&front, &target, 1, 1).await;
}

#[tokio::test]
async fn other_transports_do_not_touch_a_kept_connection() {
    let (backend, front) = start("").await;
    let Connected { target, client, hub: _hub } = connect(&front, &backend).await;
    for gap in [false, true] {
        assert_eq!(front.post(&target, "x").await.status, 405, "in the gap: {gap}");
        assert_eq!(front.get(&target).await.status, 400);
        assert_eq!(front.delete(&target).await.status, 400);
    }
    client.reset();
    assert_eq!(front.post(&target, "x").await.status, 405);
    resume(&front, &target, 1, 1).await;
}

#[tokio::test]
async fn er_f4_a_stop_ends_kept_connections_in_the_gap_too() {
    let (backend, front) = start("").await;
    let mut here = connect(&front, &backend).await;
    let mut away = connect(&front, &backend).await;
    away.client.reset();
    let stopping = tokio::spawn(front.gateway.stop());
    assert_eq!(here.client.frame().await, Frame::text(FAREWELL));
    assert_eq!(here.client.frame().await.close_code(), Some(1000));
    here.client.send_frame(&Frame::close(1000)).await;
    assert_eq!(here.hub.frame().await.close_code(), Some(1001));
    assert_eq!(away.hub.frame().await.close_code(), Some(1001));
    drop((here, away.hub));
    crate::support::soon("the gateway to stop", stopping).await.unwrap();
}

#[tokio::test]
async fn er_i5_backend_mode_passes_the_wish_and_every_socket_on() {
    let backend = Backend::hub_with(|seen| {
        let granted = negotiate_answer("id", "hub-token").replacen('{', "{\"useStatefulReconnect\":true,", 1);
        (seen.method() == "POST" && seen.path().ends_with("/negotiate")).then(|| Reply::json(granted))
    })
    .await;
    let front = Setup::new(&[backend.address]).route("stateful_reconnect = \"backend\"").start().await;
    let target = ask(&front).await;
    assert_eq!(backend.last().query(), "negotiateVersion=1&useStatefulReconnect=true");
    let mut client = web_socket(&front, &target).await.unwrap();
    let (first, mut hub) = backend.socket().await;
    client.send_text(VERSION_2).await;
    assert_eq!(hub.frame().await, Frame::text(VERSION_2), "as it came");
    client.reset();
    assert_eq!(hub.ended().await, Ended::Reset, "a loss stays a loss");
    let mut client = web_socket(&front, &target).await.unwrap();
    let (second, hub) = backend.socket().await;
    assert_eq!(first.query(), second.query(), "with the hub's own token");
    hub.reset();
    assert_eq!(client.ended_silently().await, Ended::Reset, "and the hub's loss one for the client");
}

#[tokio::test]
async fn er_i5_backend_mode_grants_what_the_hub_grants() {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).route("stateful_reconnect = \"backend\"").start().await;
    let answer = front.post("/chat/negotiate?negotiateVersion=1&useStatefulReconnect=true", "").await;
    assert_eq!(answer.json().get("useStatefulReconnect"), None);
}
