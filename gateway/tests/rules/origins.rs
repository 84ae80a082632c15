//! Browsers of other origins (rules C1, C2).

use crate::support::hub::upgrade;
use crate::support::wire::request_bytes;
use crate::support::{Answer, Backend, Front, Negotiated, Reply, Seen, Setup};

const HERE: &str = "https://page.test";
const THERE: &str = "https://stranger.test";

/// A hub that permits one origin, as ASP.NET Core's CORS does, and refuses WebSockets of strangers.
async fn picky() -> Backend {
    Backend::hub_with(|seen| {
        let permitted = seen.header("origin").is_some_and(|origin| origin == HERE);
        let cors = match permitted {
            true => {
                format!("Access-Control-Allow-Origin: {HERE}\nAccess-Control-Allow-Credentials: true\nVary: Origin")
            }
            false => "X-None: 1".to_owned(),
        };
        match seen.method() {
            "OPTIONS" => Some(Reply::answer(&format!("204 No Content\n{cors}\nAccess-Control-Max-Age: 60"), "")),
            "POST" if seen.path().ends_with("/negotiate") => {
                let answer = crate::support::hub::negotiate_answer("id", "token");
                Some(Reply::answer(&format!("200 OK\nContent-Type: application/json\n{cors}"), answer))
            }
            _ if seen.is_upgrade() && seen.header("origin").is_some() && !permitted => {
                Some(Reply::answer("403 Forbidden\nX-Own: 1", "origin"))
            }
            _ => None,
        }
    })
    .await
}

fn from(request: &str, origin: &str) -> String {
    format!("{request}\nOrigin: {origin}")
}

async fn negotiate_from(front: &Front, origin: &str) -> Negotiated {
    let request = from("POST /chat/negotiate?negotiateVersion=1", origin);
    Negotiated::of(front.request(&request, "").await)
}

/// What an answer tells browsers.
fn permissions(answer: &Answer) -> Vec<(String, String)> {
    let is = |name: &str| name.starts_with("access-control-") || name == "vary";
    let mut found: Vec<_> = answer.headers.iter().filter(|(name, _)| is(name)).cloned().collect();
    found.sort();
    found
}

fn granted() -> Vec<(String, String)> {
    [("access-control-allow-credentials", "true"), ("access-control-allow-origin", HERE), ("vary", "Origin")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

#[tokio::test]
async fn er_c1_answers_of_the_gateway_say_what_the_backend_said_to_this_origin() {
    let backend = picky().await;
    let front = Front::quick(&[backend.address]).await;
    let negotiated = negotiate_from(&front, HERE).await;
    assert_eq!(permissions(&negotiated.answer), granted());
    let target = format!("/chat?id={}", negotiated.token);
    let delete = format!("DELETE {target}");
    let mut answers = Vec::new();
    for request in [format!("GET {target}"), format!("POST {target}"), delete.clone(), delete] {
        answers.push(front.request(&from(&request, HERE), "").await);
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 202, 404]);
    let stream = format!("GET /chat?id={}\nAccept: text/event-stream", negotiate_from(&front, HERE).await.token);
    let mut wire = front.connect().await;
    wire.send(request_bytes(&from(&stream, HERE), b"")).await;
    answers.push(wire.answer_head().await);
    for answer in &answers {
        assert_eq!(permissions(answer), granted(), "{answer:?}");
    }
}

#[tokio::test]
async fn er_c1_other_origins_are_told_nothing() {
    let backend = picky().await;
    let front = Front::quick(&[backend.address]).await;
    let negotiated = negotiate_from(&front, HERE).await;
    assert_eq!(permissions(&negotiate_from(&front, THERE).await.answer), []);
    let target = format!("/chat?id={}", negotiated.token);
    assert_eq!(front.request(&from(&format!("GET {target}"), HERE), "").await.status, 200);
    for origin in [THERE, "null", "HTTPS://PAGE.TEST", "https://page.test:444"] {
        let answer = front.request(&from(&format!("POST {target}"), origin), "").await;
        assert_eq!(permissions(&answer), [], "{origin}");
    }
    assert_eq!(permissions(&front.post(&target, "").await), [], "no origin, no permission");
}

#[tokio::test]
async fn er_c1_pre_flights_go_to_the_backend() {
    let backend = picky().await;
    let front = Front::quick(&[backend.address]).await;
    for path in ["/chat/negotiate?negotiateVersion=1", "/chat?id=x"] {
        let request =
            format!("OPTIONS {path}\nAccess-Control-Request-Method: POST\nAccess-Control-Request-Headers: x-a");
        let answer = front.request(&from(&request, HERE), "").await;
        assert_eq!((answer.status, answer.header("access-control-max-age")), (204, Some("60")));
        assert_eq!(answer.header("access-control-allow-origin"), Some(HERE));
        let seen = backend.last();
        assert_eq!((seen.method(), seen.target()), ("OPTIONS", path));
        assert_eq!(
            (seen.all("origin"), seen.all("access-control-request-headers")),
            (vec![HERE.into()], vec!["x-a".into()])
        );
        let answer = front.request(&from(&request, THERE), "").await;
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn er_c1_a_pre_flight_with_our_token_is_the_backends_too() {
    let backend = picky().await;
    let front = Front::quick(&[backend.address]).await;
    let token = negotiate_from(&front, HERE).await.token;
    let request = format!("OPTIONS /chat?id={token}\nAccess-Control-Request-Method: DELETE");
    assert_eq!(front.request(&from(&request, HERE), "").await.status, 204);
    assert_eq!(backend.last().method(), "OPTIONS");
    let poll = front.request(&from(&format!("GET /chat?id={token}"), HERE), "").await;
    assert_eq!(poll.status, 200, "and uses nothing up");
    let granted: Vec<String> = permissions(&poll).into_iter().map(|(name, _)| name).collect();
    assert!(granted.contains(&"access-control-allow-origin".to_owned()), "{poll:?}");
}

#[tokio::test]
async fn er_c1_a_route_may_answer_itself() {
    let backend = picky().await;
    let cors = format!("cors = {{ origins = [\"{THERE}\"] }}");
    let front = Setup::new(&[backend.address]).route(&cors).start().await;
    let request = "OPTIONS /chat/negotiate\nAccess-Control-Request-Method: POST";
    let answer = front.request(&from(request, THERE), "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(THERE)));
    assert_eq!(backend.seen().len(), 0);
    let negotiated = negotiate_from(&front, THERE).await;
    assert_eq!(negotiated.answer.header("access-control-allow-origin"), Some(THERE));
    let poll = front.request(&from(&format!("GET /chat?id={}", negotiated.token), THERE), "").await;
    assert_eq!(poll.header("access-control-allow-origin"), Some(THERE));
    let backends_own = negotiate_from(&front, HERE).await;
    assert_eq!(backends_own.answer.header("access-control-allow-origin"), None, "the route's word stands alone");
}

fn origins(seen: &[Seen]) -> Vec<Vec<String>> {
    seen.iter().map(|seen| seen.all("origin")).collect()
}

#[tokio::test]
async fn er_c2_the_origin_goes_unchanged_with_every_request_to_the_backend() {
    let backend = picky().await;
    let front = Front::quick(&[backend.address]).await;
    for transport in ["", "Accept: text/event-stream", "web socket"] {
        let target = format!("/chat?id={}", negotiate_from(&front, HERE).await.token);
        let mut wire = front.connect().await;
        let origin = format!("Origin: {HERE}");
        match transport {
            "web socket" => wire.send(upgrade(&target, &origin)).await,
            _ => wire.send(request_bytes(&format!("GET {target}\n{origin}\n{transport}"), b"")).await,
        }
        assert!(matches!(wire.answer_head().await.status, 101 | 200));
    }
    assert_eq!(origins(&backend.seen()), vec![vec![HERE.to_owned()]; 6]);
    let target = format!("/chat?id={}", crate::support::negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    assert_eq!(origins(&backend.seen()[6..]), vec![Vec::<String>::new(); 2], "none is made up");
}

#[tokio::test]
async fn er_c2_the_backends_403_is_the_clients() {
    let backend = picky().await;
    let front = Front::quick(&[backend.address]).await;
    for transport in ["", "Accept: text/event-stream", "web socket"] {
        let target = format!("/chat?id={}", negotiate_from(&front, THERE).await.token);
        let mut wire = front.connect().await;
        let origin = format!("Origin: {THERE}");
        match transport {
            "web socket" => wire.send(upgrade(&target, &origin)).await,
            _ => wire.send(request_bytes(&format!("GET {target}\n{origin}\n{transport}"), b"")).await,
        }
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.header("x-own"), answer.text()), (403, Some("1"), "origin"), "{transport}");
    }
}
