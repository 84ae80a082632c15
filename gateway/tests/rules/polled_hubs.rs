//! Hubs without WebSockets, reached over long polling (rule D5, the last part of D8).

use crate::support::hub::{HANDSHAKE, SHAKEN};
use crate::support::{Backend, Frame, Front, Reply, Seen, Setup, Wire, negotiate, soon, web_socket};

const PING: &str = "{\"type\":6}\u{1e}";

/// A hub that offers long polling only: first polls are answered, later ones handed over, POSTs and DELETEs accepted.
async fn polled() -> Backend {
    let polls = std::sync::atomic::AtomicUsize::new(0);
    Backend::start(move |seen| match seen.method() {
        "POST" if seen.path().ends_with("/negotiate") => Reply::json(
            "{\"negotiateVersion\":1,\"connectionId\":\"id\",\"connectionToken\":\"token\",\"availableTransports\":\
             [{\"transport\":\"LongPolling\",\"transferFormats\":[\"Text\",\"Binary\"]}]}",
        ),
        "GET" if polls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => Reply::answer("200 OK", ""),
        "GET" => Reply::HandOver,
        "DELETE" => Reply::answer("202 Accepted", ""),
        _ => Reply::answer("200 OK", ""),
    })
    .await
}

/// Answers a pending poll.
async fn answer_poll(backend: &Backend, messages: &str) -> Seen {
    let (seen, mut poll) = backend.socket().await;
    let length = messages.len();
    poll.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{messages}")).await;
    seen
}

/// Waits for a POST with this body.
async fn posted(backend: &Backend, body: &str) {
    crate::support::until("a POST to the hub", async || {
        backend.seen().iter().any(|seen| seen.method() == "POST" && seen.body == body.as_bytes())
    })
    .await;
}

async fn attach(backend: &Backend, tables: &str, offered: &str) -> (Front, String) {
    let front = Setup::new(&[backend.address]).route(offered).more(tables).start().await;
    let token = negotiate(&front, "/chat").await.token;
    (front, format!("/chat?id={token}"))
}

const ALL: &str = "transports = [\"WebSockets\", \"ServerSentEvents\", \"LongPolling\"]";

async fn shaken(backend: &Backend, tables: &str) -> (Front, Wire) {
    let (front, target) = attach(backend, tables, ALL).await;
    let mut client = web_socket(&front, &target).await.unwrap();
    client.send_text(HANDSHAKE).await;
    posted(backend, HANDSHAKE).await;
    answer_poll(backend, SHAKEN).await;
    assert_eq!(client.frame().await, Frame::text(SHAKEN));
    (front, client)
}

#[tokio::test]
async fn er_d5_a_web_socket_client_reaches_a_hub_that_only_polls() {
    let backend = polled().await;
    let (_front, mut client) = shaken(&backend, "").await;
    let seen = answer_poll(&backend, "{\"type\":1,\"target\":\"a\",\"arguments\":[]}\u{1e}").await;
    assert_eq!((seen.query(), seen.header("upgrade")), ("id=token", None));
    assert_eq!(client.frame().await.as_text(), "{\"type\":1,\"target\":\"a\",\"arguments\":[]}\u{1e}");
    client.send_frame(&Frame::close(1000)).await;
    crate::support::until("the DELETE", async || backend.seen().iter().any(|seen| seen.method() == "DELETE")).await;
}

#[tokio::test]
async fn er_d5_a_hub_with_neither_is_refused_with_a_clear_error() {
    let answer = "{\"negotiateVersion\":1,\"connectionId\":\"id\",\"connectionToken\":\"token\",\"availableTransports\":\
                  [{\"transport\":\"ServerSentEvents\",\"transferFormats\":[\"Text\"]}]}";
    let backend = Backend::start(move |_| Reply::json(answer)).await;
    let front = Front::quick(&[backend.address]).await;
    let told = front.post("/chat/negotiate?negotiateVersion=1", "").await;
    assert!(told.json()["error"].as_str().is_some_and(|error| error.contains("WebSockets")), "{told:?}");
}

#[tokio::test]
async fn er_d8_pings_are_made_for_clients_of_a_hub_that_polls() {
    let backend = polled().await;
    let (_front, mut client) = shaken(&backend, "[timeouts]\nhub_ping_interval = \"300ms\"").await;
    for _ in 0..2 {
        assert_eq!(client.frame().await, Frame::text(PING));
    }

    let backend = polled().await;
    let (front, target) = attach(&backend, "[timeouts]\nhub_ping_interval = \"300ms\"", ALL).await;
    let (answer, mut stream) = front.event_stream(&target).await;
    assert_eq!(answer.status, 200);
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    answer_poll(&backend, SHAKEN).await;
    let mut text = String::new();
    soon("two pings", async {
        while text.matches(PING).count() < 2 {
            text += std::str::from_utf8(&stream.chunk().await.unwrap()).unwrap();
        }
    })
    .await;
}
