//! Requests as a reverse proxy must read and write them (rules B1–B4).

use hubgate_gateway::config::{Config, Environment};

use crate::support::hub::{ACCEPT, KEY, upgrade};
use crate::support::wire::request_bytes;
use crate::support::{Answer, Backend, Ended, Frame, Front, Reply, Setup, negotiate, web_socket};

/// A server that says 200 to everything and accepts every WebSocket.
async fn app() -> Backend {
    Backend::start(|seen| match seen.is_upgrade() {
        true => Reply::web_socket(),
        false => Reply::answer("200 OK\nContent-Type: text/plain", "fine"),
    })
    .await
}

#[tokio::test]
async fn er_b1_the_path_that_was_matched_is_the_path_that_is_forwarded() {
    let backend = app().await;
    let front = Front::quick(&[backend.address]).await;
    for (raw, forwarded) in [
        ("/Api/./x/../b%20c?q=%2F..%00", "/Api/b%20c?q=%2F..%00"),
        ("/%61pi/%7Euser", "/api/~user"),
        ("/a/%2E%2E/b/", "/b/"),
        ("/a//b", "/a//b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a/b/..", "/a/"),
    ] {
        assert_eq!(front.get(raw).await.status, 200);
        assert_eq!(backend.last().target(), forwarded, "{raw}");
    }
}

#[tokio::test]
async fn er_b1_two_readings_are_refused_where_one_is_a_hubs() {
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address])
        .only_route("hub = \"/app/chat\"")
        .more("[[route]]\nname = \"secret\"\nprefix = \"/secret\"\nrefuse = true")
        .more("[[route]]\nname = \"rest\"\nprefix = \"/\"\nbackend = \"app\"");
    let front = setup.start().await;
    for path in
        ["/app%2Fchat", "/app\\chat", "/app/chat%00", "/../app/chat", "/app/%2E%2E/%2e%2e/app/chat", "/secret%5Cx"]
    {
        for target in [path.to_owned(), format!("{path}/negotiate"), format!("{path}?id=1")] {
            let answer = front.get(&target).await;
            assert!(matches!(answer.status, 400 | 404), "{target}: {answer:?}");
        }
        assert_eq!(front.get(path).await.status, 400, "{path}");
    }
    assert_eq!(front.get("/Secret/./x").await.status, 404, "refused by its own name");
    assert_eq!(backend.seen().iter().filter(|seen| seen.path().contains("secret")).count(), 0);
    negotiate(&front, "/x/%2e%2E/APP/ch%61t").await;
    assert_eq!(backend.last().path(), "/APP/chat/negotiate", "one reading is as good as another");
}

#[tokio::test]
async fn er_b2_nothing_in_a_request_chooses_the_address_connected_to() {
    let (backend, other) = (app().await, app().await);
    let front = Front::quick(&[backend.address]).await;
    let elsewhere = other.address;
    let absolute = front.request(&format!("GET http://{elsewhere}/x?y\nHost: {elsewhere}"), "").await;
    assert_eq!(absolute.status, 200);
    assert_eq!(backend.last().target(), "/x?y", "the absolute form becomes a path");
    front.request(&format!("GET /x\nHost: {elsewhere}"), "").await;
    assert_eq!(backend.last().header("host"), Some(elsewhere.to_string()));
    let connect = front.request(&format!("CONNECT {elsewhere}"), "").await;
    assert_eq!(connect.status / 100, 4, "{connect:?}");
    assert_eq!((backend.seen().len(), other.accepted()), (2, 0));
}

#[tokio::test]
async fn er_b2_requests_with_two_meanings_are_refused() {
    let backend = app().await;
    let front = Front::quick(&[backend.address]).await;
    for request in [
        "GET /x HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3, 4\r\n\r\nabcd",
        "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: +3\r\n\r\nabc",
        "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        "GET /x y HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a.test\r\nBad Name: x\r\n\r\n",
    ] {
        let mut wire = front.connect().await;
        wire.send(request).await;
        let answer = wire.answer_head().await;
        assert_eq!(answer.status, 400, "{request:?}: {answer:?}");
    }
    assert_eq!(backend.seen().len(), 0);
}

/// The HTTP library takes the length away before anybody can see it: `docs/decisions/0008`.
#[tokio::test]
async fn er_b2_both_framings_at_once_smuggle_nothing() {
    let backend = app().await;
    let front = Front::quick(&[backend.address]).await;
    let mut wire = front.connect().await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";
    wire.send(format!(
        "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
    ))
    .await;
    let first = wire.answer().await;
    assert!(matches!(first.status, 200 | 400), "{first:?}");
    assert_eq!(wire.ended_silently().await, Ended::Orderly, "the connection ends with this answer");
    let seen = backend.seen();
    assert!(seen.iter().all(|seen| seen.path() == "/x" && seen.body.is_empty()), "{seen:#?}");
    for seen in seen {
        assert!(seen.header("content-length").is_none() || seen.header("transfer-encoding").is_none(), "{}", seen.head);
    }
}

#[tokio::test]
async fn er_b2_framing_towards_the_backend_is_written_anew() {
    let backend = app().await;
    let front = Front::quick(&[backend.address]).await;
    let mut wire = front.connect().await;
    wire.send("POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n").await;
    wire.send("003;name=value\r\nabc\r\n2\r\nde\r\n0\r\nX-Late: 1\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
    let seen = backend.only();
    assert_eq!(seen.body, b"abcde");
    assert_eq!(seen.all("transfer-encoding"), ["chunked"]);
    assert_eq!(seen.header("content-length"), None);
    assert_eq!(wire.request("PUT /y", "12345").await.status, 200);
    let seen = backend.last();
    assert_eq!((seen.all("content-length"), seen.header("transfer-encoding")), (vec!["5".to_owned()], None));
}

#[tokio::test]
async fn er_b3_headers_of_strangers_and_of_hops_do_not_go_on() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let headers = "Host: app.test:81\nConnection: x-once, keep-alive, X-Forwarded-For\nX-Once: 1\nKeep-Alive: timeout=9\n\
                   Proxy-Authorization: Basic x\nTE: trailers\nX-Forwarded-For: 6.6.6.6\nX-Forwarded-Host: evil.test\n\
                   X-Forwarded-Prefix: /evil\nForwarded: for=6.6.6.6\nX-Real-IP: 6.6.6.6\nX-Original-URL: /evil\nX-Mine: kept";
    let negotiated = front.request(&format!("POST /chat/negotiate?negotiateVersion=1\n{headers}"), "").await;
    let token = negotiated.json()["connectionToken"].as_str().unwrap().to_owned();
    let target = format!("/chat?id={token}");
    let poll = front.request(&format!("GET {target}\n{headers}"), "").await;
    assert_eq!(poll.status, 200);
    front.request(&format!("GET /page\n{headers}"), "").await;
    let seen = backend.seen();
    assert_eq!(seen.len(), 3, "negotiate, the hub's upgrade, a forwarded request");
    for seen in seen {
        for gone in
            ["x-once", "keep-alive", "proxy-authorization", "te", "x-forwarded-prefix", "forwarded", "x-real-ip"]
        {
            assert_eq!(seen.header(gone), None, "{}", seen.head);
        }
        assert_eq!(seen.header("x-original-url"), None);
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"], "{}", seen.head);
        assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
        assert_eq!(seen.all("x-forwarded-host"), ["app.test:81"]);
        assert_eq!(seen.all("host"), ["app.test:81"]);
        assert_eq!(seen.all("x-mine"), ["kept"]);
    }
}

#[tokio::test]
async fn er_b3_a_trusted_proxys_headers_are_continued() {
    let backend = app().await;
    let front = Setup::new(&[backend.address]).top("trusted_proxies = [\"127.0.0.0/8\"]").start().await;
    front.request("GET /x\nX-Forwarded-For: 9.9.9.9\nX-Forwarded-Proto: https\nX-Forwarded-Host: www.test", "").await;
    let seen = backend.only();
    assert_eq!(seen.all("x-forwarded-for"), ["9.9.9.9, 127.0.0.1"]);
    assert_eq!(
        (seen.all("x-forwarded-proto"), seen.all("x-forwarded-host")),
        (vec!["https".into()], vec!["www.test".into()])
    );
}

#[tokio::test]
async fn er_b3_the_host_can_be_the_backends_own() {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).pool("host = \"backend\"").start().await;
    let token = negotiate(&front, "/chat").await.token;
    web_socket(&front, &format!("/chat?id={token}")).await.unwrap();
    front.get("/page").await;
    for seen in backend.seen() {
        assert_eq!(seen.all("host"), [backend.address.to_string()], "{}", seen.head);
        assert_eq!(seen.all("x-forwarded-host"), ["front.test"]);
    }
}

#[tokio::test]
async fn er_b3_cookies_that_http2_splits_are_joined() {
    let backend = app().await;
    let front = Front::quick(&[backend.address]).await;
    let tcp = tokio::net::TcpStream::connect(front.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://app.test/x?y=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2; c=3")
        .body(())
        .unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    let seen = backend.only();
    assert_eq!(seen.all("cookie"), ["a=1; b=2; c=3"]);
    assert_eq!((seen.all("host"), seen.target()), (vec!["app.test".to_owned()], "/x?y=1"));
}

#[tokio::test]
async fn er_b4_other_upgrades_than_web_sockets_are_ordinary_requests() {
    let backend = app().await;
    let front = Front::quick(&[backend.address]).await;
    for upgrade in [
        "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\nUpgrade: TLS/1.0",
        "Connection: Upgrade\nUpgrade: websocket",
    ] {
        let answer = front.request(&format!("GET /x\n{upgrade}"), "").await;
        assert_eq!((answer.status, answer.text()), (200, "fine"), "{upgrade}");
        let seen = backend.last();
        for gone in ["upgrade", "http2-settings"] {
            assert_eq!(seen.header(gone), None, "{}", seen.head);
        }
    }
}

#[tokio::test]
async fn er_b4_no_byte_flows_before_a_right_101() {
    let backend = Backend::start(|_| Reply::HandOver).await;
    let front = Front::quick(&[backend.address]).await;
    let mut client = front.connect().await;
    let early = Frame::text("early").bytes(Some([1, 2, 3, 4]));
    client.send([upgrade("/ws", ""), early].concat()).await;
    let (_, mut server) = backend.socket().await;
    server.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer_head().await.status, 403);
    server.ended_silently().await;

    let mut client = front.connect().await;
    client.send([upgrade("/ws", ""), Frame::text("early").bytes(Some([1, 2, 3, 4]))].concat()).await;
    let (_, mut server) = backend.socket().await;
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket";
    let first = Frame::text("first").bytes(None);
    server.send([format!("{head}\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n").as_bytes(), &first].concat()).await;
    assert_eq!(server.frame().await, Frame::text("early"), "what came too early comes behind the 101");
    assert_eq!(client.answer_head().await.status, 101);
    assert_eq!(client.frame().await, Frame::text("first"));
}

#[tokio::test]
async fn er_b4_a_wrong_101_is_no_web_socket() {
    for wrong in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ] {
        let backend = Backend::start(move |_| Reply::Send([wrong.as_bytes(), b"\x81\x02hi"].concat())).await;
        let front = Front::quick(&[backend.address]).await;
        let answer = web_socket(&front, "/ws").await.unwrap_err();
        assert_eq!(answer.status, 502, "{wrong}");
        backend.wait_open(0).await;
    }
}

#[tokio::test]
async fn er_b4_another_answer_is_handed_on_and_that_connection_closed() {
    let refusal = || Reply::answer("426 Upgrade Required\nSec-WebSocket-Version: 8\nX-Own: 1", "not so");
    let backend =
        Backend::start(move |seen| if seen.is_upgrade() { refusal() } else { Reply::answer("200 OK", "") }).await;
    let front = Front::quick(&[backend.address]).await;
    let mut wire = front.connect().await;
    wire.send(upgrade("/ws", "")).await;
    let answer: Answer = wire.answer().await;
    assert_eq!((answer.status, answer.text(), answer.header("x-own")), (426, "not so", Some("1")));
    backend.wait_open(0).await;
    assert_eq!(wire.request("GET /page", "").await.status, 200, "the client's connection goes on");
    assert_eq!(backend.last().connection, 1);
}

#[tokio::test]
async fn er_b4_other_web_sockets_pass_with_all_that_is_theirs() {
    let backend =
        Backend::start(|_| Reply::WebSocket("Sec-WebSocket-Protocol: two\nSec-WebSocket-Extensions: x-own".into()))
            .await;
    let front = Front::quick(&[backend.address]).await;
    let mut client = front.connect().await;
    client
        .send(upgrade("/ws?id=mine", "Sec-WebSocket-Protocol: one, two\nSec-WebSocket-Extensions: x-own\nAccept: x/y"))
        .await;
    let answer = client.answer_head().await;
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("two")));
    assert_eq!(answer.header("sec-websocket-extensions"), Some("x-own"));
    let (seen, mut server) = backend.socket().await;
    assert_eq!((seen.target(), seen.header("sec-websocket-key").as_deref()), ("/ws?id=mine", Some(KEY)));
    assert_eq!(seen.all("sec-websocket-protocol"), ["one, two"]);
    assert_eq!((seen.all("sec-websocket-extensions"), seen.all("accept")), (vec!["x-own".into()], vec!["x/y".into()]));
    let reserved = Frame { fin: true, opcode: 0x40 | Frame::TEXT, payload: b"\x01\x02".to_vec() };
    client.send_frame(&reserved).await;
    assert_eq!(server.frame().await.payload, b"\x01\x02");
    server.send_frame(&Frame { fin: false, opcode: Frame::BINARY, payload: vec![0; 70_000] }).await;
    server.send_frame(&Frame { fin: true, opcode: 0, payload: Vec::new() }).await;
    assert_eq!(client.frame().await, Frame { fin: false, opcode: Frame::BINARY, payload: vec![0; 70_000] });
    assert_eq!(client.frame().await, Frame { fin: true, opcode: 0, payload: Vec::new() });
}

#[tokio::test]
async fn er_b4_pipelined_requests_behind_a_body_stay_requests() {
    let backend = app().await;
    let front = Front::quick(&[backend.address]).await;
    let mut wire = front.connect().await;
    let both = [request_bytes("POST /one", b"GET /no HTTP/1.1\r\n\r\n"), request_bytes("GET /two", b"")].concat();
    wire.send(both).await;
    assert_eq!((wire.answer().await.status, wire.answer().await.status), (200, 200));
    let paths: Vec<String> = backend.seen().iter().map(|seen| seen.path().to_owned()).collect();
    assert_eq!(paths, ["/one", "/two"]);
}

#[test]
fn er_b2_a_server_in_the_configuration_has_no_path_of_its_own() {
    let text = Setup::of_urls(vec!["http://127.0.0.1:1/base".to_owned()]).text();
    let error = Config::parse(&text, std::path::Path::new(""), &Environment::default()).unwrap_err().to_string();
    assert!(error.contains("servers"), "{error}");
}
