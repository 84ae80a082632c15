//! What is a hub's and what is not (rules B5–B7), and the answers of a gateway whose backend fails (rules B8, B9).

use hubgate_fixtures::HubServer;

use crate::support::hub::{self, FAREWELL, HANDSHAKE, SHAKEN};
use crate::support::{Backend, Frame, Front, Reply, Setup, negotiate, web_socket};

#[tokio::test]
async fn er_b5_pages_and_apis_with_an_id_are_forwarded_untouched() {
    let hub = HubServer::contract().await.unwrap();
    let front = Front::quick(&[hub.local_addr()]).await;
    negotiate(&front, "/contract").await;
    let seen = front.request("PATCH /api/request?id=42&ID=7&negotiateVersion=9\nX-Own: a\nX-Own: b", "body").await;
    assert_eq!(seen.status, 200);
    let json = seen.json();
    assert_eq!(json["query"], "id=42&ID=7&negotiateVersion=9");
    assert_eq!((&json["method"], &json["headers"]["x-own"]), (&"PATCH".into(), &"a, b".into()));
    assert_eq!(front.get("/?id=42").await.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(front.get("/api/status/418?id=x").await.status, 418);
    let mut echo = web_socket(&front, "/ws/echo?id=42").await.unwrap();
    echo.send_text("not a hub").await;
    assert_eq!(echo.frame().await, Frame::text("not a hub"));
}

#[tokio::test]
async fn er_b5_an_applications_own_negotiate_passes_through() {
    let answers: [(&str, &str, String); 6] = [
        ("/html", "text/html", "<p>negotiate</p>".to_owned()),
        ("/json", "application/json", r#"{ "agreed" : true,  "price": 3 }"#.to_owned()),
        ("/list", "application/json", r#"[{"availableTransports":[]}]"#.to_owned()),
        ("/text", "text/plain", format!("agreed: {}", hub::negotiate_answer("a", "b"))),
        ("/broken", "application/json", r#"{"availableTransports":"#.to_owned()),
        ("/huge", "application/json", format!(r#"{{"pad":"{}","availableTransports":[]}}"#, "x".repeat(70_000))),
    ];
    let script = answers.clone();
    let backend = Backend::start(move |seen| {
        let found = script.iter().find(|(path, ..)| seen.path() == format!("{path}/negotiate"));
        let (_, media_type, body) = found.unwrap();
        Reply::answer(
            &format!("200 OK\nContent-Type: {media_type}\nX-Own: yes\nSet-Cookie: a=1\nSet-Cookie: b=2"),
            body,
        )
    })
    .await;
    let front = Front::quick(&[backend.address]).await;
    for (path, media_type, body) in &answers {
        let request = format!("POST {path}/negotiate?id=1&x=%20y\nContent-Type: application/json");
        let answer = front.request(&request, r#"{"offer":1}"#).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.text(), body, "{path}");
        assert_eq!((answer.header("content-type"), answer.header("x-own")), (Some(*media_type), Some("yes")));
        let cookies = answer.headers.iter().filter(|(name, _)| name == "set-cookie").count();
        assert_eq!(cookies, 2);
        let seen = backend.last();
        assert_eq!((seen.query(), seen.body.as_slice()), ("id=1&x=%20y", &br#"{"offer":1}"#[..]), "{path}");
    }
    assert_eq!(backend.seen().len(), answers.len(), "each was asked once");
}

#[tokio::test]
async fn er_b5_a_negotiate_answer_counts_by_what_it_says() {
    let answer = hub::negotiate_answer("public", "secret");
    let backend = Backend::start(move |_| Reply::answer("200 OK\nContent-Type: text/plain", &answer)).await;
    let front = Front::quick(&[backend.address]).await;
    let negotiated = negotiate(&front, "/chat").await;
    assert_eq!(negotiated.id, "public");
    assert!(!negotiated.answer.text().contains("secret"), "{}", negotiated.answer.text());
}

#[tokio::test]
async fn er_b5_bodies_stream_both_ways() {
    let backend = Backend::start(|seen| match seen.path() {
        "/down" => Reply::HandOver,
        _ => Reply::answer("200 OK", "done"),
    })
    .await;
    let front = Front::quick(&[backend.address]).await;
    let mut client = front.connect().await;
    client.send("GET /down HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let (_, mut server) = backend.socket().await;
    server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(client.answer_head().await.status, 200);
    for piece in ["one", "two", "three"] {
        server.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        assert_eq!(client.chunk().await.unwrap(), piece.as_bytes(), "each piece comes before the next is sent");
    }
    server.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);

    let backend = Backend::of_heads().await;
    let front = Front::quick(&[backend.address]).await;
    let mut client = front.connect().await;
    client.send("POST /up HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let (_, mut server) = backend.socket().await;
    for piece in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        assert_eq!(server.chunk().await.unwrap(), piece.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(server.chunk().await, None);
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
}

#[tokio::test]
async fn er_b5_a_broken_body_stays_broken() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let backend = Backend::start(move |_| Reply::Close(cut.into())).await;
    let front = Front::quick(&[backend.address]).await;
    let mut client = front.connect().await;
    client.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(client.answer_head().await.header("content-length"), Some("10"));
    assert_eq!(client.rest().await, b"half");
}

#[tokio::test]
async fn er_b5_a_web_socket_without_id_is_looked_into() {
    for (first, spoken) in [(HANDSHAKE, true), ("hello", false)] {
        let backend = Backend::hub().await;
        let front = Front::quick(&[backend.address]).await;
        let mut client = web_socket(&front, "/chat").await.unwrap();
        let (seen, mut server) = backend.socket().await;
        assert_eq!(seen.target(), "/chat");
        client.send_text(first).await;
        assert_eq!(server.frame().await, Frame::text(first));
        server.send_text(SHAKEN).await;
        assert_eq!(client.frame().await, Frame::text(SHAKEN));
        drop(server);
        let last = client.frame().await;
        match spoken {
            true => assert_eq!(last, Frame::text(FAREWELL), "a hub's client is told in its own words"),
            false => assert_eq!(last, Frame::close(1001), "others get a close frame only"),
        }
    }
}

#[tokio::test]
async fn er_b5_a_route_can_serve_hubs_alone() {
    let hub = HubServer::contract().await.unwrap();
    let front = Setup::new(&[hub.local_addr()]).route("forward = false").start().await;
    assert_eq!(front.get("/").await.status, 404);
    assert_eq!(front.get("/api/request?id=1").await.status, 404);
    let mut wire = hub::connect(&front, "/contract").await;
    assert_eq!(hub::invoke(&mut wire, "Add", "1, 1").await, 2);
    let unknown = front.post("/contract?id=nonsense", "x").await;
    assert_eq!((unknown.status, unknown.text()), (404, "No Connection with that ID"), "the hub's own words");
}

#[tokio::test]
async fn er_b6_hub_parameters_are_replaced_and_never_doubled() {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).only_route("hub = \"/chat\"").start().await;
    let negotiated = front.post("/chat/negotiate?x=1&UseStatefulReconnect=true&negotiateversion=0&y=2", "").await;
    assert_eq!(negotiated.json()["negotiateVersion"], 0);
    assert_eq!(backend.last().query(), "x=1&negotiateVersion=1&y=2");
    let token = negotiated.json()["connectionId"].as_str().unwrap().to_owned();
    for name in ["id", "ID", "%69d"] {
        let token = match name {
            "id" => token.clone(),
            _ => negotiate(&front, "/chat").await.token,
        };
        web_socket(&front, &format!("/chat?a=%31&{name}={token}&useStatefulReconnect=true&b")).await.unwrap();
        let query = backend.socket().await.0.query().to_owned();
        let (before, rest) = query.split_once("id=token-").unwrap();
        assert_eq!(before, "a=%31&", "{query}");
        assert!(rest.ends_with("&b") && !query.contains(&token) && query.matches("token").count() == 1, "{query}");
        assert!(!query.to_ascii_lowercase().contains("stateful"), "{query}");
    }
    let token = negotiate(&front, "/chat").await.token;
    let doubled = format!("id={token}&id=token-0");
    let _judged_by_the_backend = web_socket(&front, &format!("/chat?{doubled}")).await;
    assert_eq!(backend.last().query(), doubled, "two ids are one unknown id, which is not ours");
}

#[tokio::test]
async fn er_b7_redirects_pass_by_default() {
    let redirect = r#"{ "url" : "https://elsewhere.test/hub?x=1",  "accessToken":"secret" }"#;
    let backend = Backend::start(move |_| Reply::json(redirect)).await;
    let front = Front::quick(&[backend.address]).await;
    let answer = front.post("/chat/negotiate?negotiateVersion=1", "").await;
    assert_eq!((answer.status, answer.text()), (200, redirect), "byte for byte");
    let refusal = r#"{"error":"not today"}"#;
    let backend = Backend::start(move |_| Reply::json(refusal)).await;
    let front = Front::quick(&[backend.address]).await;
    assert_eq!(front.post("/chat/negotiate?negotiateVersion=1", "").await.text(), refusal);
    let backend =
        Backend::start(|_| Reply::answer("307 Temporary Redirect\nLocation: https://elsewhere.test/", "")).await;
    let front = Front::quick(&[backend.address]).await;
    let answer = front.post("/chat/negotiate?negotiateVersion=1", "").await;
    assert_eq!((answer.status, answer.header("location")), (307, Some("https://elsewhere.test/")));
}

/// An address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn er_b8_failures_name_the_route_and_nothing_else() {
    let address = nobody().await;
    let front = Front::quick(&[address]).await;
    let refused = web_socket(&front, "/ws").await.unwrap_err();
    assert_eq!(refused.status, 502);
    for answer in [front.get("/page").await, front.post("/chat/negotiate", "").await] {
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains("'app'"), "{}", answer.text());
        for secret in ["127.0.0.1", &address.port().to_string(), "refused", "os error"] {
            assert!(!answer.text().contains(secret), "{}", answer.text());
        }
    }
    let silent = Backend::start(|_| Reply::HandOver).await;
    let front = Setup::new(&[silent.address]).more("[timeouts]\nbackend_headers_timeout = \"200ms\"").start().await;
    for answer in [front.get("/page").await, front.post("/chat/negotiate", "").await] {
        assert_eq!(answer.status, 504);
        assert!(answer.text().contains("'app'"), "{}", answer.text());
    }
    let garbage = Backend::start(|_| Reply::Close(b"garbage\r\n\r\n".to_vec())).await;
    assert_eq!(Front::quick(&[garbage.address]).await.get("/page").await.status, 502);
}

#[tokio::test]
async fn er_b8_event_streams_and_first_polls_are_never_answered_5xx() {
    for reply in [
        Reply::answer("503 Service Unavailable", "down"),
        Reply::Close(Vec::new()),
        Reply::Close(b"garbage\r\n\r\n".to_vec()),
        Reply::answer("200 OK", "no upgrade"),
        Reply::answer("204 No Content", ""),
    ] {
        let script = reply.clone();
        let backend = Backend::hub_with(move |seen| seen.is_upgrade().then(|| script.clone())).await;
        let front = Front::quick(&[backend.address]).await;
        let token = negotiate(&front, "/chat").await.token;
        assert_eq!(front.event_stream(&format!("/chat?id={token}")).await.0.status, 404, "{reply:?}");
        let token = negotiate(&front, "/chat").await.token;
        assert_eq!(front.get(&format!("/chat?id={token}")).await.status, 404, "{reply:?}");
    }
    for status in [401, 403, 404, 410] {
        let backend =
            Backend::hub_with(move |seen| seen.is_upgrade().then(|| Reply::answer(&format!("{status} X"), "why")))
                .await;
        let front = Front::quick(&[backend.address]).await;
        let token = negotiate(&front, "/chat").await.token;
        assert_eq!(front.event_stream(&format!("/chat?id={token}")).await.0.status, status);
        let token = negotiate(&front, "/chat").await.token;
        let expected = if matches!(status, 401 | 403) { status } else { 404 };
        assert_eq!(front.get(&format!("/chat?id={token}")).await.status, expected);
    }
}

#[tokio::test]
async fn er_b8_a_backend_that_died_after_negotiate_is_404_to_event_streams() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let tokens = [negotiate(&front, "/chat").await.token, negotiate(&front, "/chat").await.token];
    drop(backend);
    let (answer, _) = front.event_stream(&format!("/chat?id={}", tokens[0])).await;
    assert_eq!(answer.status, 404);
    assert_eq!(front.get(&format!("/chat?id={}", tokens[1])).await.status, 404);
    let (unknown, _) = front.event_stream("/chat?id=unknown").await;
    assert_eq!(unknown.status, 404, "the id of a gateway before this one");
}

#[tokio::test]
async fn er_b9_headers_are_the_references() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (stream, _wire) = front.event_stream(&format!("/chat?id={}", negotiate(&front, "/chat").await.token)).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache,no-store"),
        ("content-encoding", "identity"),
        ("pragma", "no-cache"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.header(name), Some(value), "{name}");
    }
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    let first = front.get(&target).await;
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("cache-control", "no-cache, no-store"),
        ("pragma", "no-cache"),
        ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ] {
        assert_eq!(first.header(name), Some(value), "{name}");
    }
    assert!(first.body.is_empty());
    assert_eq!(front.post(&target, HANDSHAKE).await.header("content-type"), Some("text/plain"));
}
