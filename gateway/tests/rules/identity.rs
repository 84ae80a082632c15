//! Whose connection it is, and which credentials the hub has seen (rules A4, A5).

use std::time::Duration;

use hubgate_fixtures::{HubServer, jwt};
use serde_json::{Map, json};

use crate::support::{Backend, Front, Negotiated, Reply, Seen, Setup, negotiate, web_socket};

fn token(user: &str, lifetime: u64) -> String {
    jwt::token_for(user, Duration::from_secs(lifetime))
}

/// A JWT that says `claims`, signed by nobody in particular.
fn token_with(claims: serde_json::Value) -> String {
    let claims: Map<_, _> = claims.as_object().unwrap().clone();
    jwt::sign(&claims, "some key")
}

fn with(request: &str, bearer: &str) -> String {
    format!("{request}\nAuthorization: Bearer {bearer}")
}

/// A connection over long polling, its first poll sent with a token.
async fn polling(front: &Front, bearer: &str) -> String {
    let target = format!("/chat?id={}", negotiate(front, "/chat").await.token);
    assert_eq!(front.request(&with(&format!("GET {target}"), bearer), "").await.status, 200);
    target
}

#[tokio::test]
async fn er_a4_the_subject_of_the_first_transport_request_owns_the_connection() {
    let hub = HubServer::contract().await.unwrap();
    let setup = Setup::new(&[hub.local_addr()]).route("transports = [\"WebSockets\", \"LongPolling\"]");
    for (bind, expected) in [(true, 403), (false, 200)] {
        let front = setup.clone().route(&format!("bind_identity = {bind}")).start().await;
        let request = with("POST /contract/negotiate?negotiateVersion=1", &token("negotiator", 60));
        let negotiated = Negotiated::of(front.request(&request, "").await);
        let target = format!("/contract?id={}", negotiated.token);
        let first = front.request(&with(&format!("GET {target}"), &token("alice", 60)), "").await;
        assert_eq!(first.status, 200, "negotiate's user does not count");
        let post = format!("POST {target}");
        assert_eq!(front.request(&with(&post, &token("alice", 60)), "").await.status, 200);
        assert_eq!(front.request(&with(&post, &token("alice", 120)), "").await.status, 200, "a fresh token passes");
        let answer = front.request(&with(&post, &token("bob", 60)), "").await;
        assert_eq!(answer.status, expected, "{answer:?}");
        if bind {
            assert_eq!(answer.text(), "The user associated with this connection changed.");
            let answer = front.request(&with(&format!("DELETE {target}"), &token("bob", 60)), "").await;
            assert_eq!(answer.status, 403);
        }
        assert_eq!(front.request(&with(&post, &token("alice", 60)), "").await.status, 200, "and changes nothing");
    }
}

#[tokio::test]
async fn er_a4_issuer_and_subject_count_and_nameid_stands_for_sub() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let target = polling(&front, &token_with(json!({"iss": "here", "sub": "7"}))).await;
    let post = format!("POST {target}");
    for (claims, expected) in [
        (json!({"iss": "here", "nameid": "7", "jti": "2"}), 200),
        (json!({"iss": "there", "sub": "7"}), 403),
        (json!({"iss": "here", "sub": "8"}), 403),
        (json!({"sub": "7"}), 403),
    ] {
        let answer = front.request(&with(&post, &token_with(claims.clone())), "").await;
        assert_eq!(answer.status, expected, "{claims}");
    }
    let answer = front.request(&with(&post, "opaque"), "").await;
    assert_eq!(answer.status, 200, "opaque tokens bind nobody");
}

/// A hub that admits some bearers only.
async fn choosy() -> Backend {
    Backend::hub_with(|seen| {
        let refused = seen.all("authorization").iter().any(|value| value.contains("refused"))
            || seen.query().contains("access_token=refused");
        refused.then(|| {
            Reply::answer("401 Unauthorized\nWWW-Authenticate: Bearer error=\"invalid_token\"\nX-Why: known", "no")
        })
    })
    .await
}

/// What the hub was asked beside negotiates and upgrades.
fn questions(backend: &Backend) -> Vec<Seen> {
    let is_question = |seen: &Seen| !seen.is_upgrade() && !seen.path().ends_with("/negotiate");
    backend.seen().into_iter().filter(is_question).collect()
}

#[tokio::test]
async fn er_a5_new_credentials_are_shown_to_the_hub_once() {
    let backend = choosy().await;
    let front = Front::quick(&[backend.address]).await;
    let target = polling(&front, "first").await;
    let post = format!("POST {target}");
    assert_eq!(front.request(&with(&post, "first"), "x").await.status, 200);
    assert_eq!(front.post(&format!("{target}&access_token=first"), "x").await.status, 200, "the same in other clothes");
    assert_eq!(questions(&backend).len(), 0, "the hub saw these at the connect");
    for _ in 0..3 {
        assert_eq!(front.request(&with(&post, "second"), "x").await.status, 200);
    }
    let asked = questions(&backend);
    assert_eq!(asked.len(), 1, "shown once and remembered");
    assert_eq!((asked[0].method(), asked[0].path(), asked[0].query()), ("POST", "/chat", ""));
    assert_eq!(asked[0].all("authorization"), ["Bearer second"]);
    assert!(asked[0].body.is_empty(), "nothing of the message");
    assert_eq!(front.request(&post, "x").await.status, 200);
    assert_eq!(questions(&backend).len(), 2, "none where there were some is new too");
}

#[tokio::test]
async fn er_a5_the_hubs_refusal_is_handed_on() {
    let backend = choosy().await;
    let front = Front::quick(&[backend.address]).await;
    let target = polling(&front, "first").await;
    for _ in 0..2 {
        for request in [format!("POST {target}"), format!("GET {target}"), format!("DELETE {target}")] {
            let answer = front.request(&with(&request, "refused"), "").await;
            assert_eq!((answer.status, answer.text()), (401, "no"), "{request}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
            assert_eq!(answer.header("x-why"), Some("known"));
        }
    }
    assert_eq!(questions(&backend).len(), 6, "a refusal is not remembered");
    assert_eq!(front.request(&with(&format!("POST {target}"), "first"), "x").await.status, 200, "the connection lives");
}

#[tokio::test]
async fn er_a5_a_jwt_past_its_exp_is_shown_again() {
    let backend = choosy().await;
    let front = Front::quick(&[backend.address]).await;
    let past = token_with(json!({"sub": "7", "exp": 1_000_000}));
    let target = polling(&front, &past).await;
    for count in 1..=2 {
        assert_eq!(front.request(&with(&format!("POST {target}"), &past), "x").await.status, 200);
        assert_eq!(questions(&backend).len(), count, "each time");
    }
}

#[tokio::test]
async fn er_a5_the_hub_authorises_every_connect() {
    let backend = choosy().await;
    let front = Front::quick(&[backend.address]).await;
    for _ in 0..2 {
        let target = format!("/chat?id={}&access_token=refused", negotiate(&front, "/chat").await.token);
        let answer = web_socket(&front, &target).await.unwrap_err();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("x-why"), Some("known"));
        assert_eq!(web_socket(&front, &target).await.unwrap_err().status, 404, "a refused connect uses the token up");
    }
}
