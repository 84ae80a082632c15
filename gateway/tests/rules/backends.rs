//! Connections to backends: which, over what, with which headers (rules B10, D1–D8).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hubgate_fixtures::HubServer;
use hubgate_fixtures::certificates::CertificateAuthority;
use hubgate_gateway::Resolver;
use tokio::net::{TcpListener, TcpStream};

use crate::support::hub::{connect, invoke, upgrade};
use crate::support::{Backend, Frame, Front, Reply, Setup, negotiate, until, web_socket};

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn er_b10_who_cannot_be_reached_is_skipped() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[nobody().await, backend.address]).await;
    for _ in 0..8 {
        let token = negotiate(&front, "/chat").await.token;
        assert!(web_socket(&front, &format!("/chat?id={token}")).await.is_ok());
        assert_eq!(front.get("/page").await.status, 404, "the backend's own 404");
    }
}

#[tokio::test]
async fn er_b10_statuses_and_time_outs_do_not_count_against_a_backend() {
    let sick = Backend::start(|seen| match seen.path() {
        "/slow" => Reply::HandOver,
        _ => Reply::answer("503 Service Unavailable", "own words"),
    })
    .await;
    let front = Setup::new(&[sick.address]).more("[timeouts]\nbackend_headers_timeout = \"100ms\"").start().await;
    for _ in 0..4 {
        assert_eq!(front.get("/x").await.text(), "own words");
        assert_eq!(front.get("/slow").await.status, 504);
    }
    assert_eq!(sick.seen().len(), 8, "each was asked");
}

#[tokio::test]
async fn er_b10_a_request_that_was_sent_is_not_sent_again() {
    let counts = Arc::new(AtomicUsize::new(0));
    let mut backends = Vec::new();
    for _ in 0..2 {
        let counts = Arc::clone(&counts);
        backends.push(
            Backend::start(move |_| {
                counts.fetch_add(1, Ordering::Relaxed);
                Reply::Close(Vec::new())
            })
            .await,
        );
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let front = Front::quick(&addresses).await;
    assert_eq!(front.post("/pay", "100").await.status, 502);
    assert_eq!(counts.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn er_b10_a_kept_connection_that_went_stale_is_replaced() {
    let backend = Backend::start(|seen| match seen.path() {
        "/last" => Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        _ => Reply::answer("200 OK", "ok"),
    })
    .await;
    let front = Front::quick(&[backend.address]).await;
    for round in 0..10 {
        assert_eq!(front.get("/last").await.status, 200, "{round}");
        assert_eq!(front.post("/next", "x").await.status, 200, "{round}");
    }
}

#[tokio::test]
async fn er_b10_with_all_down_one_is_tried_anyway() {
    let address = nobody().await;
    let setup =
        Setup::new(&[address]).more("[timeouts]\nbackend_retry_delay = \"1h\"\nbackend_retry_delay_max = \"1h\"");
    let front = setup.start().await;
    assert_eq!(front.get("/x").await.status, 502);
    let _backend = Backend::start_at(address, |_| Reply::answer("200 OK", "back")).await;
    assert_eq!(front.get("/x").await.text(), "back");
}

#[tokio::test]
async fn er_d1_a_name_is_resolved_and_one_that_fails_stops_nobody() {
    let backend = Backend::hub().await;
    let port = backend.address.port();
    let urls = vec![format!("http://localhost:{port}"), format!("http://no-such-name.invalid:{port}")];
    let front = Setup::of_urls(urls).start().await;
    for _ in 0..4 {
        let token = negotiate(&front, "/chat").await.token;
        assert!(web_socket(&front, &format!("/chat?id={token}")).await.is_ok());
    }
    assert_eq!(backend.last().header("host").as_deref(), Some("front.test"));
}

/// Names that a test can give other addresses.
fn names(addresses: &Arc<Mutex<std::io::Result<Vec<SocketAddr>>>>) -> Resolver {
    let addresses = Arc::clone(addresses);
    Resolver::new(move |name, port| {
        assert_eq!(name, "hubs.test");
        let answer = match &*addresses.lock().unwrap() {
            Ok(addresses) => Ok(addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect()),
            Err(error) => Err(error.kind().into()),
        };
        async { answer }
    })
}

#[tokio::test]
async fn er_d1_all_addresses_of_a_name_are_backends_and_it_is_resolved_anew() {
    let first = Backend::hub().await;
    let port = first.address.port();
    let mut hubs = vec![first];
    for last in 2..4 {
        let script = |seen: &crate::support::Seen| match seen.is_upgrade() {
            true => Reply::web_socket(),
            false => Reply::json(crate::support::hub::negotiate_answer("id", "token-x")),
        };
        hubs.push(Backend::start_at(([127, 0, 0, last], port).into(), script).await);
    }
    let at = |of: &[usize]| of.iter().map(|hub| hubs[*hub].address).collect::<Vec<_>>();
    let addresses = Arc::new(Mutex::new(Ok(at(&[0, 1]))));
    let tables = "[timeouts]\nbackend_resolve_interval = \"1s\"\n[admin]\naddress = \"127.0.0.1:0\"";
    let setup = Setup::of_urls(vec![format!("http://hubs.test:{port}")]).more(tables);
    let front = setup.start_with(names(&addresses)).await;
    let admin = front.gateway.admin_address().unwrap();
    let metrics =
        async || crate::support::Wire::connect(admin).await.request("GET /metrics", "").await.text().to_owned();
    let up = async |hub: usize| metrics().await.contains(&format!("address=\"{}\"}} 1", hubs[hub].address));
    let negotiated = || hubs.iter().map(|hub| hub.seen().iter().filter(|seen| !seen.is_upgrade()).count());

    let mut tokens = Vec::new();
    for _ in 0..10 {
        tokens.push(negotiate(&front, "/chat").await.token);
    }
    assert_eq!(negotiated().collect::<Vec<_>>(), [5, 5, 0], "least connections, by address");
    let mut client = web_socket(&front, &format!("/chat?id={}", tokens.pop().unwrap())).await.unwrap();

    let living = hubs.iter().position(|hub| hub.seen().iter().any(crate::support::Seen::is_upgrade)).unwrap();
    let (_, mut hub) = hubs[living].socket().await;

    // Nobody can tell for a while: what was known stays.
    *addresses.lock().unwrap() = Err(std::io::ErrorKind::TimedOut.into());
    until("a failure to resolve", async || metrics().await.contains("resolve_failures_total{backend=\"app\"} 1")).await;
    assert!(up(0).await && up(1).await);

    // Both leave for a third one.
    *addresses.lock().unwrap() = Ok(at(&[2]));
    until("the new address", async || up(2).await && !up(0).await && !up(1).await).await;
    for _ in 0..4 {
        negotiate(&front, "/chat").await;
    }
    assert_eq!(negotiated().collect::<Vec<_>>(), [5, 5, 4]);
    // What was negotiated before still goes where it was, and what lives lives on.
    for token in tokens {
        web_socket(&front, &format!("/chat?id={token}")).await.unwrap();
    }
    assert!(!hubs[2].seen().iter().any(crate::support::Seen::is_upgrade));
    client.send_text("still here").await;
    assert_eq!(hub.frame().await, Frame::text("still here"));
}

#[tokio::test]
async fn er_d1_the_token_names_the_address_it_was_negotiated_at() {
    let mut backends = vec![Backend::hub().await];
    let port = backends[0].address.port();
    for last in 2..5 {
        let address = ([127, 0, 0, last], port).into();
        backends.push(
            Backend::start_at(address, |seen| match seen.is_upgrade() {
                true => Reply::web_socket(),
                false => Reply::json(crate::support::hub::negotiate_answer("id", "token-x")),
            })
            .await,
        );
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let setup = Setup::new(&addresses).more("[token]\nkeys = [\"0123456789abcdef0123456789abcdef\"]");
    let (here, there) = (setup.start().await, setup.start().await);
    for _ in 0..12 {
        let negotiates = |backend: &Backend| backend.seen().iter().filter(|seen| !seen.is_upgrade()).count();
        let before: Vec<usize> = backends.iter().map(negotiates).collect();
        let token = negotiate(&here, "/chat").await.token;
        let chosen = backends.iter().zip(before).position(|(backend, before)| negotiates(backend) > before).unwrap();
        let target = format!("/chat?id={token}");
        let _client = web_socket(&there, &target).await.unwrap();
        let upgrade = backends[chosen].last();
        assert!(upgrade.is_upgrade(), "{}", upgrade.head);
        backends[chosen].socket().await;
    }
}

#[tokio::test]
async fn er_d2_the_upgrade_goes_over_the_connection_of_its_negotiate() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let mut tokens = Vec::new();
    for n in 0..5 {
        tokens.push((n, negotiate(&front, "/chat").await.token));
    }
    assert_eq!(backend.accepted(), 5, "a held connection serves nobody else");
    for (n, token) in tokens.into_iter().rev() {
        let (_, transport) = [("", ""), ("GET", "text/event-stream"), ("GET", "*/*")][n % 3];
        let target = format!("/chat?id={token}");
        match transport {
            "" => drop(web_socket(&front, &target).await.unwrap()),
            accept => {
                let mut wire = front.connect().await;
                wire.send(crate::support::wire::request_bytes(&format!("GET {target}\nAccept: {accept}"), b"")).await;
                assert_eq!(wire.answer_head().await.status, 200);
            }
        }
        let (seen, _) = backend.socket().await;
        assert_eq!((seen.connection, seen.query()), (n, format!("id=token-{n}").as_str()));
    }
    assert_eq!(backend.accepted(), 5, "a connect costs one backend connection");
}

#[tokio::test]
async fn er_d2_a_tcp_balancer_in_front_of_several_hubs_works() {
    let (one, two) = (HubServer::contract().await.unwrap(), HubServer::contract().await.unwrap());
    let targets = [one.local_addr(), two.local_addr()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let balancer = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for target in targets.iter().cycle() {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(target).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let front = Front::quick(&[balancer]).await;
    for _ in 0..20 {
        let mut wire = connect(&front, "/contract").await;
        assert_eq!(invoke(&mut wire, "Add", "1, 2").await, 3);
    }
    let counts = [one.log().counts().0, two.log().counts().0];
    assert_eq!(counts, [10, 10], "the balancer sees one connection per connect");
}

#[tokio::test]
async fn er_d2_a_held_connection_goes_back_to_the_pool() {
    // Pages cost their connection, so that the negotiate's is the only one that can be kept.
    let backend = Backend::hub_with(|seen| {
        (seen.path() == "/page").then(|| Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()))
    })
    .await;
    let setup = Setup::new(&[backend.address]).more("[timeouts]\nnegotiate_hold = \"1s\"");
    let front = setup.start().await;
    let token = negotiate(&front, "/chat").await.token;
    crate::support::until("the connection to be used again", async || {
        front.get("/page").await;
        backend.last().connection == 0
    })
    .await;
    assert!(web_socket(&front, &format!("/chat?id={token}")).await.is_ok(), "the token stays good");
}

#[tokio::test]
async fn er_d2_held_connections_are_bounded() {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).more("[limits]\nheld_connections_max = 2").start().await;
    let mut tokens = Vec::new();
    for _ in 0..6 {
        tokens.push(negotiate(&front, "/chat").await.token);
    }
    assert!(backend.accepted() <= 4, "{} connections for 6 negotiates", backend.accepted());
    for token in tokens {
        assert!(web_socket(&front, &format!("/chat?id={token}")).await.is_ok());
    }
}

#[tokio::test]
async fn er_d2_cookies_of_the_hubs_negotiate_go_with_the_connect() {
    let backend = Backend::hub_with(|seen| {
        (seen.method() == "POST").then(|| {
            let answer = crate::support::hub::negotiate_answer("id", "token");
            Reply::answer(
                "200 OK\nContent-Type: application/json\nSet-Cookie: stick=7; Path=/; HttpOnly\nSet-Cookie: a=1",
                answer,
            )
        })
    })
    .await;
    let front = Front::quick(&[backend.address]).await;
    let negotiated = negotiate(&front, "/chat").await;
    let set: Vec<_> = negotiated.answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(set.len(), 2, "they reach the client too");
    let mut wire = front.connect().await;
    wire.send(upgrade(&format!("/chat?id={}", negotiated.token), "Cookie: a=own; b=2")).await;
    assert_eq!(wire.answer_head().await.status, 101);
    let cookies = backend.socket().await.0.all("cookie").join("; ");
    let mut pairs: Vec<&str> = cookies.split("; ").collect();
    pairs.sort_unstable();
    assert_eq!(pairs, ["a=own", "b=2", "stick=7"]);
}

#[tokio::test]
async fn er_d3_a_connection_that_authenticates_is_never_shared() {
    for challenge in ["NTLM", "Negotiate", "Basic realm=\"x\", Negotiate abc"] {
        let head = format!("401 Unauthorized\nWWW-Authenticate: {challenge}");
        let backend = Backend::start(move |_| Reply::answer(&head, "who")).await;
        let front = Front::quick(&[backend.address]).await;
        for target in ["GET /x", "POST /chat/negotiate?negotiateVersion=1"] {
            let answer = front.request(target, "").await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some(challenge)), "{target}");
        }
        backend.wait_open(0).await;
        assert_eq!(backend.accepted(), 2, "{challenge}");
    }
    let backend = Backend::start(|_| Reply::answer("401 Unauthorized\nWWW-Authenticate: Bearer", "who")).await;
    let front = Front::quick(&[backend.address]).await;
    front.get("/x").await;
    front.get("/x").await;
    assert_eq!(backend.accepted(), 1, "others are shared");
}

#[tokio::test]
async fn er_d4_the_upgrade_to_the_hub_is_our_own_request() {
    let backend = Backend::hub_with(|seen| {
        seen.is_upgrade().then(|| Reply::WebSocket("Sec-WebSocket-Protocol: mine".to_owned()))
    })
    .await;
    let front = Front::quick(&[backend.address]).await;
    let more =
        "Accept: text/html\nSec-WebSocket-Extensions: permessage-deflate\nSec-WebSocket-Protocol: mine\nX-Own: 1";
    let mut wire = front.connect().await;
    wire.send(upgrade(&format!("/chat?id={}", negotiate(&front, "/chat").await.token), more)).await;
    let answer = wire.answer_head().await;
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("mine")));
    let stream = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.event_stream(&stream).await.0.status, 200);
    let poll =
        format!("GET /chat?id={}\nAccept: */*\nContent-Type: text/plain", negotiate(&front, "/chat").await.token);
    assert_eq!(front.request(&poll, "").await.status, 200);
    for _ in 0..3 {
        let (seen, _) = backend.socket().await;
        assert_eq!((seen.method(), seen.header("sec-websocket-version").as_deref()), ("GET", Some("13")));
        assert_eq!(seen.all("connection").join(",").to_ascii_lowercase(), "upgrade");
        for gone in ["accept", "sec-websocket-extensions", "content-type", "content-length", "transfer-encoding"] {
            assert_eq!(seen.header(gone), None, "{}", seen.head);
        }
    }
}

#[tokio::test]
async fn er_d4_the_client_is_answered_only_after_the_hub() {
    let backend = Backend::hub_with(|seen| seen.is_upgrade().then_some(Reply::HandOver)).await;
    let front = Front::quick(&[backend.address]).await;
    for transport in ["*/*", "text/event-stream", "web socket"] {
        let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
        let mut wire = front.connect().await;
        match transport {
            "web socket" => wire.send(upgrade(&target, "")).await,
            _ => {
                wire.send(crate::support::wire::request_bytes(&format!("GET {target}\nAccept: {transport}"), b"")).await
            }
        }
        let (_, mut hub) = backend.socket().await;
        hub.send("HTTP/1.1 403 Forbidden\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nno").await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.header("x-own"), answer.text()), (403, Some("1"), "no"), "{transport}");
    }
}

#[tokio::test]
async fn er_d5_a_route_can_name_the_transports_it_offers() {
    let hub = HubServer::contract().await.unwrap();
    let front =
        Setup::new(&[hub.local_addr()]).route("transports = [\"ServerSentEvents\", \"LongPolling\"]").start().await;
    let offered = |answer: serde_json::Value| -> Vec<String> {
        let transports = answer["availableTransports"].as_array().unwrap().clone();
        transports.iter().map(|transport| transport["transport"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(offered(negotiate(&front, "/contract").await.answer.json()), ["ServerSentEvents", "LongPolling"]);
    let plain = Front::quick(&[hub.local_addr()]).await;
    assert_eq!(offered(negotiate(&plain, "/contract").await.answer.json()), ["WebSockets"], "else the hub's own");
}

/// Backends that say who they are and negotiate.
async fn named(count: usize) -> (Vec<Backend>, Vec<std::net::SocketAddr>) {
    let mut backends = Vec::new();
    for name in 0..count {
        backends.push(
            Backend::hub_with(move |seen| (seen.path() == "/who").then(|| Reply::answer("200 OK", name.to_string())))
                .await,
        );
    }
    let addresses = backends.iter().map(|backend| backend.address).collect();
    (backends, addresses)
}

fn negotiates(backend: &Backend) -> usize {
    backend.seen().iter().filter(|seen| seen.method() == "POST").count()
}

#[tokio::test]
async fn er_d6_the_cookie_brings_a_browser_back_to_its_backend() {
    let (backends, addresses) = named(3).await;
    let front = Setup::new(&addresses).route("affinity = \"cookie\"").start().await;
    for _ in 0..4 {
        let first = front.get("/who").await;
        let set = first.header("set-cookie").unwrap();
        assert!(set.contains("HttpOnly") && set.contains("Path=/") && !set.contains("127.0.0.1"), "{set}");
        let cookie = set.split(';').next().unwrap();
        let before = negotiates(&backends[first.text().parse::<usize>().unwrap()]);
        for round in 1..=6 {
            let again = front.request(&format!("GET /who\nCookie: own=1; {cookie}"), "").await;
            assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None));
            let request = format!("POST /chat/negotiate?negotiateVersion=1\nCookie: {cookie}; own=1");
            assert_eq!(front.request(&request, "").await.status, 200);
            let backend = &backends[first.text().parse::<usize>().unwrap()];
            assert_eq!(negotiates(backend), before + round);
            assert_eq!(backend.last().all("cookie"), ["own=1"], "backends never see it");
        }
    }
}

#[tokio::test]
async fn er_d6_a_dead_backends_cookie_leads_to_a_living_one() {
    let (mut backends, addresses) = named(2).await;
    let front = Setup::new(&addresses).route("affinity = \"cookie\"").start().await;
    let first = front.get("/who").await;
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    backends.remove(first.text().parse::<usize>().unwrap());
    let second = front.request(&format!("GET /who\nCookie: {cookie}"), "").await;
    assert_eq!(second.status, 200);
    assert_ne!(second.text(), first.text());
}

#[tokio::test]
async fn er_d6_without_affinity_there_is_no_cookie() {
    let (_backends, addresses) = named(2).await;
    let front = Front::quick(&addresses).await;
    assert_eq!(front.get("/who").await.header("set-cookie"), None);
    assert_eq!(negotiate(&front, "/chat").await.answer.header("set-cookie"), None);
}

#[tokio::test]
async fn er_d7_negotiated_tokens_count_as_load() {
    let (backends, addresses) = named(3).await;
    let front = Front::quick(&addresses).await;
    for _ in 0..30 {
        negotiate(&front, "/chat").await;
    }
    let counts: Vec<usize> = backends.iter().map(negotiates).collect();
    assert_eq!(counts, [10, 10, 10]);
}

#[tokio::test]
async fn er_d7_https_backends_are_verified() {
    let authority = CertificateAuthority::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let certificate = authority.issue(&["hubs.internal"]).unwrap();
    let builder = HubServer::builder().contract_hubs(&hubgate_fixtures::HubOptions::default());
    let hub = builder.tls(certificate.server_config().unwrap()).bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", hub.local_addr());
    let with = |pool: &str| Setup::of_urls(vec![url.clone()]).pool(pool);
    let trusted = format!("ca_file = {:?}", ca_file.to_str().unwrap());
    for (pool, works) in [
        (format!("{trusted}\nserver_name = \"hubs.internal\""), true),
        ("insecure_skip_verify = true".to_owned(), true),
        (trusted, false),
        ("server_name = \"hubs.internal\"".to_owned(), false),
    ] {
        let front = with(&pool).start().await;
        let answer = front.post("/contract/negotiate?negotiateVersion=1", "").await;
        assert_eq!(answer.status, if works { 200 } else { 502 }, "{pool}: {answer:?}");
        if works {
            let mut wire = connect(&front, "/contract").await;
            assert_eq!(invoke(&mut wire, "Add", "1, 2").await, 3);
        }
    }
}

#[tokio::test]
async fn er_d8_silent_web_sockets_are_pinged_and_our_pongs_swallowed() {
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address]).more("[timeouts]\nwebsocket_ping_interval = \"1s\"");
    let front = setup.start().await;
    let mut client = web_socket(&front, &format!("/chat?id={}", negotiate(&front, "/chat").await.token)).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    let (ping_of_hub, ping_of_client) = (hub.frame().await, client.frame().await);
    for ping in [&ping_of_hub, &ping_of_client] {
        assert_eq!((ping.opcode, ping.fin), (Frame::PING, true), "{ping:?}");
    }
    hub.send_frame(&Frame::new(Frame::PONG, &ping_of_hub.payload)).await;
    client.send_frame(&Frame::new(Frame::PONG, &ping_of_client.payload)).await;
    hub.send_frame(&Frame::new(Frame::PING, "the hub's own")).await;
    client.send_frame(&Frame::new(Frame::PONG, "the client's own")).await;
    client.send_text("data").await;
    hub.send_text("data").await;
    assert_eq!(client.frame().await, Frame::new(Frame::PING, "the hub's own"));
    assert_eq!(client.frame().await, Frame::text("data"));
    assert_eq!(hub.frame().await, Frame::new(Frame::PONG, "the client's own"));
    assert_eq!(hub.frame().await, Frame::text("data"));
}

#[tokio::test]
async fn er_d8_a_peer_that_answers_no_ping_is_given_up() {
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address]).more("[timeouts]\nwebsocket_ping_interval = \"1s\"");
    let front = setup.start().await;
    let mut client = web_socket(&front, &format!("/chat?id={}", negotiate(&front, "/chat").await.token)).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    let mut pings = 0;
    while let Some(frame) = client.frame_or_end().await {
        pings += u32::from(frame.opcode == Frame::PING);
        let _gone_meanwhile = client.try_send(Frame::new(Frame::PONG, &frame.payload).bytes(Some([0; 4]))).await;
    }
    assert!(pings >= 1, "this side was alive");
    hub.rest().await;
}
