//! Bounds and waits (rules F1, F2).

use crate::support::hub::HANDSHAKE;
use crate::support::{Backend, Ended, Front, Setup, Wire, negotiate, until, web_socket};

async fn front(backend: &Backend, tables: &str) -> Front {
    Setup::new(&[backend.address]).more(tables).start().await
}

#[tokio::test]
async fn er_f1_connections_are_bounded_and_room_comes_back() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[limits]\nconnections_max = 2").await;
    let (mut one, mut two) = (front.connect().await, front.connect().await);
    assert_eq!((one.request("GET /x", "").await.status, two.request("GET /x", "").await.status), (404, 404));
    let mut third = front.connect().await;
    third.ended_silently().await;
    drop(one);
    until("room for another connection", async || {
        let mut wire = front.connect().await;
        wire.try_send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").await.is_ok() && wire.head().await.is_some()
    })
    .await;
}

#[tokio::test]
async fn er_f1_unattached_tokens_are_bounded() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[limits]\nunattached_tokens_max = 2").await;
    let first = negotiate(&front, "/chat").await;
    negotiate(&front, "/chat").await;
    let refused = front.post("/chat/negotiate?negotiateVersion=1", "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("'app'"), "{}", refused.text());
    assert_eq!(backend.seen().len(), 2, "the backend is not even asked");
    web_socket(&front, &format!("/chat?id={}", first.token)).await.unwrap();
    negotiate(&front, "/chat").await;
}

#[tokio::test]
async fn er_f1_header_floods_are_refused() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[limits]\nheader_bytes_max = \"8 KiB\"\nheaders_max = 20").await;
    let many = (0..30).fold("GET /x".to_owned(), |lines, n| format!("{lines}\nX-{n}: 1"));
    assert_eq!(front.request(&many, "").await.status, 431);
    let long = format!("GET /x\nX-Long: {}", "x".repeat(20_000));
    let mut wire = front.connect().await;
    wire.send(crate::support::wire::request_bytes(&long, b"")).await;
    assert_eq!(wire.answer_head().await.status, 431);
    assert_eq!(backend.seen().len(), 0);
    assert_eq!(front.get("/x").await.status, 404, "others are served");
}

#[tokio::test]
async fn er_f2_a_connection_that_says_nothing_is_closed() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[timeouts]\nfirst_byte_timeout = \"300ms\"").await;
    front.connect().await.ended_silently().await;
}

#[tokio::test]
async fn er_f2_headers_a_byte_at_a_time_have_their_time() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[timeouts]\nheaders_timeout = \"400ms\"").await;
    let mut wire = front.connect().await;
    let endless = "GET /x HTTP/1.1\r\nX-Slow: ".bytes().chain(std::iter::repeat(b'x'));
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
    let started = std::time::Instant::now();
    for byte in endless {
        if wire.try_send([byte]).await.is_err() {
            break;
        }
        pace.tick().await;
        assert!(started.elapsed() < crate::support::PATIENCE, "it goes on for ever");
    }
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test]
async fn er_f2_the_time_of_headers_is_not_that_of_answers_and_of_silence() {
    let backend = Backend::of_heads().await;
    let front = front(&backend, "[timeouts]\nheaders_timeout = \"200ms\"").await;
    let mut wire = front.connect().await;
    wire.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let (_, mut server) = backend.socket().await;
    server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(wire.answer_head().await.status, 200);
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(150));
    for _ in 0..4 {
        pace.tick().await;
        server.send("1\r\nx\r\n").await;
        assert_eq!(wire.chunk().await.unwrap(), b"x");
    }
    server.send("0\r\n\r\n").await;
    assert_eq!(wire.chunk().await, None);
    pace.tick().await;
    pace.tick().await;
    pace.tick().await;
    wire.send("GET /y HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    server.head().await.unwrap();
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 204, "a client may be silent between two requests");
}

#[tokio::test]
async fn er_f2_an_idle_connection_is_closed() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[timeouts]\nhttp_idle_timeout = \"300ms\"").await;
    let mut wire = front.connect().await;
    assert_eq!(wire.request("GET /x", "").await.status, 404);
    assert_eq!(wire.ended_silently().await, Ended::Orderly);
}

#[tokio::test]
async fn er_f2_a_body_that_comes_too_slowly_is_given_up() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[timeouts]\nbody_grace = \"300ms\"").await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let (_, mut hub) = backend.socket().await;
    let mut wire = front.connect().await;
    wire.send(format!("POST {target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nhalf")).await;
    let answer = wire.answer_head().await;
    assert_eq!(answer.status, 400);
    assert_eq!(hub.frame().await.as_text(), "half", "what came stays part of the stream");
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200, "the connection lives on");
}

#[tokio::test]
async fn er_f2_bodies_over_the_limit_are_refused() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[limits]\npost_bytes_max = \"1 KiB\"").await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let mut wire = front.connect().await;
    wire.send(format!("POST {target} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2000\r\n\r\n")).await;
    let answer = wire.answer_head().await;
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    let (_, mut hub) = backend.socket().await;
    let mut wire = front.connect().await;
    wire.send(format!("POST {target} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    wire.send(format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(2048))).await;
    assert_eq!(wire.answer_head().await.status, 400, "also where no length is announced");
    assert_eq!(front.post(&target, "next").await.status, 200);
    while hub.frame().await.as_text() != "next" {}
}

#[tokio::test]
async fn er_f2_a_poll_ends_empty_after_its_time() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[timeouts]\npoll_timeout = \"200ms\"").await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    for _ in 0..2 {
        let poll = front.get(&target).await;
        assert_eq!((poll.status, poll.header("content-type"), poll.body.len()), (200, Some("text/plain"), 0));
    }
}

#[tokio::test]
async fn er_f2_a_silent_tunnel_has_a_limit_only_where_one_is_set() {
    let backend = Backend::hub().await;
    let front = front(&backend, "[timeouts]\ntunnel_idle_timeout = \"1s\"").await;
    let mut client = web_socket(&front, "/ws").await.unwrap();
    client.send_text("not a hub's handshake").await;
    let (_, mut server) = backend.socket().await;
    server.frame().await;
    client.ended().await;
    server.rest().await;
}

#[tokio::test]
async fn er_f2_http2_pings_find_dead_clients_and_spare_living_ones() {
    let backend = Backend::hub().await;
    let waits = "[timeouts]\nhttp2_ping_interval = \"200ms\"\nhttp2_ping_timeout = \"300ms\"";
    let front = Setup::new(&[backend.address]).more(waits).start().await;
    let open = async || {
        let mut wire = front.connect().await;
        // The preface and empty SETTINGS.
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        wire
    };
    let (mut silent, mut living) = (open().await, open().await);
    // More rounds than the time-out has room for.
    for _ in 0..4 {
        let mut ping = ping(&mut living).await;
        ping[4] = 1;
        living.send(ping).await;
    }
    ping(&mut silent).await;
    silent.ended().await;
    ping(&mut living).await;
}

/// The next PING of an HTTP/2 server, as a frame; what comes before it is passed over.
async fn ping(wire: &mut Wire) -> Vec<u8> {
    loop {
        let mut frame = wire.bytes(9).await;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        frame.extend(wire.bytes(length as usize).await);
        if frame[3] == 6 && frame[4] == 0 {
            return frame;
        }
    }
}
