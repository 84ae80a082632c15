//! Tokens: what they look like, who takes them, how often, where (rules A1–A3, A6).

use hubgate_fixtures::HubServer;

use crate::support::hub::{self, ACCEPT, HANDSHAKE, SHAKEN, connect, invoke, upgrade};
use crate::support::{Backend, Frame, Front, Negotiated, Reply, Setup, negotiate, until, web_socket};

const KEYS: &str = "[token]\nkeys = [\"0123456789abcdef0123456789abcdef\"]";

fn is_unreserved(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[tokio::test]
async fn er_a1_tokens_are_short_and_unreserved() {
    let hub = HubServer::contract().await.unwrap();
    let front = Front::quick(&[hub.local_addr()]).await;
    let (first, second) = (negotiate(&front, "/contract").await, negotiate(&front, "/contract").await);
    for token in [&first.token, &second.token] {
        assert!(token.len() <= 300 && is_unreserved(token), "{token}");
    }
    assert_ne!(first.token, second.token);
    assert_ne!(first.id, first.token);
    let mut wire = web_socket(&front, &format!("/contract?id={}", first.token)).await.unwrap();
    wire.send_text(HANDSHAKE).await;
    assert_eq!(wire.frame().await, Frame::text(SHAKEN));
    assert_eq!(invoke(&mut wire, "ConnectionId", "").await, first.id.as_str());
}

#[tokio::test]
async fn er_a1_gateways_with_the_same_keys_take_each_others_web_sockets_and_nothing_else() {
    let (one, two) = (HubServer::contract().await.unwrap(), HubServer::contract().await.unwrap());
    let setup = Setup::new(&[one.local_addr(), two.local_addr()]).more(KEYS);
    let (here, there) = (setup.start().await, setup.start().await);
    for _ in 0..8 {
        let negotiated = negotiate(&here, "/contract").await;
        let mut wire = web_socket(&there, &format!("/contract?id={}", negotiated.token)).await.unwrap();
        wire.send_text(HANDSHAKE).await;
        assert_eq!(wire.frame().await, Frame::text(SHAKEN));
        assert_eq!(invoke(&mut wire, "ConnectionId", "").await, negotiated.id.as_str());
    }
    let target = format!("/contract?id={}", negotiate(&here, "/contract").await.token);
    for answer in [
        there.get(&target).await,
        there.event_stream(&target).await.0,
        there.post(&target, HANDSHAKE).await,
        there.delete(&target).await,
    ] {
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    assert!(web_socket(&there, &target).await.is_ok(), "refusals use nothing up");
}

#[tokio::test]
async fn er_a1_without_the_key_a_token_means_nothing() {
    let hub = Backend::hub().await;
    let (here, there) = (Front::quick(&[hub.address]).await, Front::quick(&[hub.address]).await);
    let negotiated = negotiate(&here, "/chat").await;
    let target = format!("/chat?id={}", negotiated.token);
    assert_eq!(there.get(&target).await.status, 404);
    assert_eq!(hub.last().target(), target, "the backend judges what is not ours");
}

#[tokio::test]
async fn er_a1_a_key_that_was_replaced_still_opens() {
    let hub = HubServer::contract().await.unwrap();
    let old = Setup::new(&[hub.local_addr()]).more(KEYS);
    let front = old.start().await;
    let before = negotiate(&front, "/contract").await;
    let (new, older) = ("fedcba9876543210fedcba9876543210", "0123456789abcdef0123456789abcdef");
    let rotated = Setup::new(&[hub.local_addr()]).more(&format!("[token]\nkeys = [\"{new}\", \"{older}\"]"));
    front.reload(&rotated).await;
    let after = negotiate(&front, "/contract").await;
    for negotiated in [before, after.clone()] {
        assert!(web_socket(&front, &format!("/contract?id={}", negotiated.token)).await.is_ok());
    }
    let behind = old.start().await;
    assert!(web_socket(&behind, &format!("/contract?id={}", after.token)).await.is_err(), "the first key seals");
}

#[tokio::test]
async fn er_a1_a_long_token_of_the_backend_stays_in_the_table() {
    let long = "x".repeat(500);
    let answer = hub::negotiate_answer("id", &long);
    let backend = Backend::hub_with(move |seen| (seen.method() == "POST").then(|| Reply::json(&answer))).await;
    let setup = Setup::new(&[backend.address]).more(KEYS);
    let (here, there) = (setup.start().await, setup.start().await);
    let negotiated = negotiate(&here, "/chat").await;
    assert!(negotiated.token.len() <= 300 && is_unreserved(&negotiated.token), "{}", negotiated.token);
    let target = format!("/chat?id={}", negotiated.token);
    let _judged_by_the_backend = web_socket(&there, &target).await;
    assert_eq!(backend.socket().await.0.target(), target, "no other gateway knows it");
    web_socket(&here, &target).await.unwrap();
    assert_eq!(backend.socket().await.0.query(), format!("id={}", "x".repeat(500)));
}

#[tokio::test]
async fn er_a2_a_token_attaches_once() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    let client = web_socket(&front, &target).await.unwrap();
    let (_, hub) = backend.socket().await;
    assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 409);
    let poll = front.get(&target).await;
    assert_eq!((poll.status, poll.text()), (400, "Cannot change transports mid-connection"));
    assert_eq!(front.event_stream(&target).await.0.status, 400);
    client.reset();
    drop(hub);
    until("the token to be spent", async || web_socket(&front, &target).await.unwrap_err().status == 404).await;
    for answer in [front.get(&target).await, front.post(&target, "x").await, front.delete(&target).await] {
        assert_eq!((answer.status, answer.text()), (404, "No Connection with that ID"));
    }
    assert_eq!(front.event_stream(&target).await.0.status, 404);
    assert_eq!(backend.seen().len(), 2, "the backend hears nothing of all this");
}

#[tokio::test]
async fn er_a2_what_was_deleted_answers_404_for_good() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    assert_eq!(front.delete(&target).await.status, 202);
    for answer in [
        front.get(&target).await,
        front.post(&target, "x").await,
        front.delete(&target).await,
        web_socket(&front, &target).await.unwrap_err(),
    ] {
        assert_eq!(answer.status, 404);
    }
}

#[tokio::test]
async fn er_a2_the_expiry_bounds_the_first_attach_only() {
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address]).more(&format!("{KEYS}\n[timeouts]\ndisconnect_timeout = \"1s\""));
    let (front, other) = (setup.start().await, setup.start().await);
    let (attached, unattached) = (negotiate(&front, "/chat").await, negotiate(&front, "/chat").await);
    let mut client = web_socket(&front, &format!("/chat?id={}", attached.token)).await.unwrap();
    let target = format!("/chat?id={}", unattached.token);
    until("the token to expire", async || front.post(&target, "").await.status == 404).await;
    for gateway in [&front, &other] {
        assert_eq!(web_socket(gateway, &target).await.unwrap_err().status, 404);
        assert_eq!(gateway.get(&target).await.status, 404);
    }
    let (_, mut hub) = backend.socket().await;
    client.send_text("still here").await;
    assert_eq!(hub.frame().await, Frame::text("still here"));
}

#[tokio::test]
async fn er_a2_who_no_longer_polls_is_reaped() {
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address]).more("[timeouts]\ndisconnect_timeout = \"1s\"");
    let front = setup.start().await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let (_, mut hub) = backend.socket().await;
    assert_eq!(hub.frame().await.opcode, Frame::CLOSE);
    until("the connection to be gone", async || front.post(&target, "x").await.status == 404).await;
    assert_eq!(front.get(&target).await.status, 404);
}

#[tokio::test]
async fn er_a3_a_token_is_good_on_its_own_hub_path_only() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    for (path, fits) in [("/chat", true), ("/CHAT", true), ("/chat/", true), ("/%63hat", true), ("/x/../chat", true)] {
        let token = negotiate(&front, "/chat").await.token;
        for elsewhere in ["/other", "/chat/more", "/"] {
            let target = format!("{elsewhere}?id={token}");
            for answer in [
                front.get(&target).await,
                front.event_stream(&target).await.0,
                front.post(&target, "x").await,
                front.delete(&target).await,
                web_socket(&front, &target).await.unwrap_err(),
            ] {
                assert!(matches!(answer.status, 404 | 405), "{elsewhere}: {answer:?}");
            }
        }
        assert_eq!(web_socket(&front, &format!("{path}?id={token}")).await.is_ok(), fits, "{path}");
    }
}

#[tokio::test]
async fn er_a6_version_0_clients_get_our_token_as_their_connection_id() {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).only_route("hub = \"/chat\"").start().await;
    for query in ["", "?negotiateVersion=0"] {
        let answer = front.post(&format!("/chat/negotiate{query}"), "").await;
        let json = answer.json();
        assert_eq!(json["negotiateVersion"], 0, "{json}");
        assert!(json.get("connectionToken").is_none(), "{json}");
        let asked = backend.last();
        assert_eq!(asked.query(), "negotiateVersion=1");
        let id = json["connectionId"].as_str().unwrap();
        web_socket(&front, &format!("/chat?id={id}")).await.unwrap();
        assert!(backend.socket().await.0.query().starts_with("id=token-"));
    }
}

#[tokio::test]
async fn er_a6_in_quick_use_an_unknown_path_is_asked_as_it_was_and_then_with_version_1() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let negotiated = Negotiated::of(front.post("/chat/negotiate?user=a", "").await);
    let queries: Vec<String> = backend.seen().iter().map(|seen| seen.query().to_owned()).collect();
    assert_eq!(queries, ["user=a", "user=a&negotiateVersion=1"]);
    web_socket(&front, &format!("/chat?id={}", negotiated.token)).await.unwrap();
    assert_eq!(backend.socket().await.0.query(), "id=token-1");
}

#[tokio::test]
async fn er_a6_a_hub_that_knows_version_0_only_is_answered_for_with_version_1() {
    let answer =
        r#"{"connectionId":"old","availableTransports":[{"transport":"WebSockets","transferFormats":["Text"]}]}"#;
    let backend = Backend::hub_with(move |seen| (seen.method() == "POST").then(|| Reply::json(answer))).await;
    let front = Front::quick(&[backend.address]).await;
    let negotiated = negotiate(&front, "/chat").await;
    assert_eq!(negotiated.answer.json()["negotiateVersion"], 1);
    assert_eq!(negotiated.id, "old");
    assert_ne!(negotiated.token, "old");
    let mut wire = front.connect().await;
    wire.send(upgrade(&format!("/chat?id={}", negotiated.token), "")).await;
    assert_eq!(wire.answer_head().await.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(backend.socket().await.0.query(), "id=old");
}

#[tokio::test]
async fn er_a6_skipped_negotiation_reaches_the_hub() {
    let hub = HubServer::contract().await.unwrap();
    let front = Front::quick(&[hub.local_addr()]).await;
    let mut wire = web_socket(&front, "/contract?user=someone").await.unwrap();
    wire.send_text(HANDSHAKE).await;
    assert_eq!(wire.frame().await, Frame::text(SHAKEN));
    assert_eq!(invoke(&mut wire, "User", "").await, "someone");
    let mut other = connect(&front, "/contract").await;
    assert_eq!(invoke(&mut other, "Add", "2, 3").await, 5);
}
