//! Rule A8: whatever happens, nothing that is written holds a secret.
//!
//! The test starts itself once more. That process runs connections of every kind, good and broken ones, with everything logged
//! (all crates at `trace`, the access log too) to its standard error, and names each secret it used on its standard output.
//! The first process reads both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::print_stdout, missing_docs, reason = "tests; the output is read by the other process")]

#[path = "support/support.rs"]
mod support;

use std::process::Command;
use std::time::Duration;

use hubgate_fixtures::certificates::{CertificateAuthority, ServerCertificate};
use hubgate_fixtures::{HubOptions, HubServer, jwt};

use crate::support::hub::{HANDSHAKE, upgrade};
use crate::support::wire::request_bytes;
use crate::support::{Backend, Front, Negotiated, Reply, Session, Setup, soon, web_socket};

/// Tells the second process that it is one.
const SECOND: &str = "HUBGATE_TEST_SECRETS_RUN";
/// The line that ends the second process' work.
const DONE: &str = "all was done";

const KEY: &str = "secret-of-the-token-key-0123456789abcdef";
const AUTHORIZATION: &str = "secret-in-authorization";
const BASIC: &str = "c2VjcmV0LWJhc2ljOnNlY3JldA==";
const COOKIE: &str = "secret-in-a-cookie";
const SET_COOKIE: &str = "secret-in-a-set-cookie";
const QUERY: &str = "secret-in-access-token";
const ENCODED: &str = "secret%2Din%2Daccess%2Dtoken";
const HUB_TOKEN: &str = "secret-token-of-the-hub";
const REDIRECT: &str = "secret-in-a-redirect";
const MESSAGE: &str = "secret-in-a-message";
const OWN: &str = "secret-of-an-application";

#[tokio::test]
async fn er_a8_nothing_written_holds_a_secret() {
    if std::env::var_os(SECOND).is_some() {
        return run().await;
    }
    let name = "er_a8_nothing_written_holds_a_secret";
    let mut second = Command::new(std::env::current_exe().unwrap());
    second.args(["--exact", name, "--nocapture"]).env(SECOND, "1").env("RUST_BACKTRACE", "0");
    let output = second.output().unwrap();
    let (said, written) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(DONE), "{said}\n{}", written.lines().last().unwrap_or_default());
    let mut secrets =
        vec![KEY, AUTHORIZATION, BASIC, COOKIE, SET_COOKIE, QUERY, ENCODED, HUB_TOKEN, REDIRECT, MESSAGE, OWN];
    secrets.extend(said.lines().filter_map(|line| line.strip_prefix("secret: ")));
    assert!(secrets.len() > 30, "{} secrets are known", secrets.len());
    for expected in ["hubgate_gateway", "DEBUG", "\"status\":200", "\"status\":403"] {
        assert!(written.contains(expected), "nothing is written of {expected:?}: {written}");
    }
    for line in written.lines() {
        let decoded = percent_decoded(line);
        for secret in &secrets {
            assert!(!line.contains(secret) && !decoded.contains(secret), "{secret:?} is in: {line}");
        }
    }
}

fn percent_decoded(line: &str) -> String {
    let (bytes, mut at, mut decoded) = (line.as_bytes(), 0, Vec::new());
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn tell(secret: &str) {
    println!("secret: {secret}");
}

/// What the second process does.
async fn run() {
    // The embedded hub and its WebSockets stand behind the gateway and may say what they like.
    // So is the WebTransport client of the test.
    let filter = "trace,hubgate_fixtures=off,tungstenite=off,tokio_tungstenite=off,web_transport_quinn=off";
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    for access in ["json", "text"] {
        let log = format!("[log]\naccess = \"{access}\"\n[token]\nkeys = [\"{KEY}\"]");
        real_hub(&log).await;
        scripted_hub(&log).await;
        nobody_there(&log).await;
    }
    over_tls().await;
    over_web_transport().await;
    println!("{DONE}");
}

/// Header lines with all that is secret.
fn credentials(user: &str) -> String {
    let token = jwt::token_for(user, Duration::from_secs(60));
    tell(&token);
    format!("Authorization: Bearer {token}\nCookie: own={COOKIE}; session={COOKIE}\nX-Api-Key: {OWN}")
}

async fn negotiate(front: &Front, hub: &str, headers: &str) -> Negotiated {
    let request = format!("POST {hub}/negotiate?negotiateVersion=1&access_token={ENCODED}&key={OWN}\n{headers}");
    let negotiated = Negotiated::of(front.request(&request, "").await);
    tell(&negotiated.token);
    negotiated
}

/// Every transport before a real hub, with another user's attempts between.
async fn real_hub(log: &str) {
    let hub = HubServer::contract().await.unwrap();
    let all = "transports = [\"WebSockets\", \"ServerSentEvents\", \"LongPolling\"]\naffinity = \"cookie\"";
    let front = Setup::new(&[hub.local_addr()]).route(all).more(log).start().await;
    let (alice, bob) = (credentials("alice"), credentials("bob"));
    let call = format!("{{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"{MESSAGE}\"]}}\u{1e}");
    for transport in ["*/*", "text/event-stream", "web socket"] {
        let negotiated = negotiate(&front, "/contract", &alice).await;
        let target = format!("/contract?user={OWN}&Access%5FToken={ENCODED}&ID={}", negotiated.token);
        let mut wire = front.connect().await;
        if transport == "web socket" {
            wire.send(upgrade(&target, &alice)).await;
            assert_eq!(wire.answer_head().await.status, 101);
            wire.send_text(HANDSHAKE).await;
            wire.send_text(&call).await;
            wire.frame().await;
            wire.frame().await;
            front.post(&target, HANDSHAKE).await;
            wire.reset();
            continue;
        }
        wire.send(request_bytes(&format!("GET {target}\nAccept: {transport}\n{alice}"), b"")).await;
        assert_eq!(wire.answer_head().await.status, 200);
        for message in [HANDSHAKE, &call] {
            let posted = front.request(&format!("POST {target}\n{alice}"), message).await;
            assert_eq!(posted.status, 200);
        }
        for method in ["GET", "POST", "DELETE"] {
            assert_eq!(front.request(&format!("{method} {target}\n{bob}"), "").await.status, 403);
        }
        front.request(&format!("POST {target}\nAuthorization: Basic {BASIC}"), "x").await;
        front.request(&format!("DELETE {target}\n{alice}"), "").await;
    }
    come_back(&front, &alice, &bob, &call).await;
    let chat = format!("POST /hubs/chat/negotiate?access_token={QUERY}\nAuthorization: Bearer {AUTHORIZATION}");
    assert_eq!(front.request(&chat, "").await.status, 401);
    front.request(&format!("GET /api/request?key={OWN}&token={OWN}&sig={OWN}\n{alice}"), "").await;
    front.request(&format!("GET /a%2F{}?password={OWN}", "b"), "").await;
    front.reload(&Setup::new(&[hub.local_addr()]).more(log)).await;
}

/// Stateful reconnect: a client that comes back, another user that tries to, numbers that are wrong.
async fn come_back(front: &Front, alice: &str, bob: &str, call: &str) {
    let request = format!("POST /contract/negotiate?negotiateVersion=1&useStatefulReconnect=true\n{alice}");
    let negotiated = Negotiated::of(front.request(&request, "").await);
    tell(&negotiated.token);
    let target = format!("/contract?access_token={ENCODED}&id={}", negotiated.token);
    let open = async |headers: &str, status: u16| {
        let mut wire = front.connect().await;
        wire.send(upgrade(&target, headers)).await;
        assert_eq!(wire.answer_head().await.status, status);
        wire
    };
    let mut wire = open(alice, 101).await;
    wire.send_text(HANDSHAKE.replace("\"version\":1", "\"version\":2")).await;
    wire.send_text(call).await;
    wire.frame().await;
    wire.frame().await;
    open(bob, 403).await;
    wire.reset();
    let mut wire = open(alice, 101).await;
    wire.send_text("{\"type\":9,\"sequenceId\":1}\u{1e}").await;
    wire.send_text(call).await;
    wire.frame().await;
    wire.send_text(format!("{{\"type\":9,\"sequenceId\":99,\"x\":\"{MESSAGE}\"}}\u{1e}")).await;
    wire.ended().await;
    open(alice, 404).await;
}

/// A hub that redirects, sets cookies, refuses, breaks off, talks nonsense.
async fn scripted_hub(log: &str) {
    let backend = Backend::hub_with(|seen| {
        let negotiate = seen.path().ends_with("/negotiate");
        Some(match (seen.path().split('/').nth(1).unwrap_or_default(), negotiate) {
            ("redirect", true) => Reply::json(format!(
                "{{\"url\":\"https://other.test/hub?asrs={REDIRECT}\",\"accessToken\":\"{REDIRECT}\"}}"
            )),
            (_, true) => {
                let head = format!("200 OK\nContent-Type: application/json\nSet-Cookie: stick={SET_COOKIE}; Path=/");
                Reply::answer(&head, support::hub::negotiate_answer("public-id", HUB_TOKEN))
            }
            ("refuses", _) => Reply::answer(&format!("403 Forbidden\nX-Why: {OWN}"), OWN),
            ("breaks", _) => Reply::Close(Vec::new()),
            ("garbage", _) => Reply::Close(format!("{OWN}\r\n\r\n").into_bytes()),
            ("wrong", _) => Reply::Send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec()),
            ("moves", _) => Reply::answer(&format!("302 Found\nLocation: https://other.test/?sig={REDIRECT}"), ""),
            _ if seen.is_upgrade() => Reply::web_socket(),
            _ => Reply::answer("400 Bad Request", "Connection ID required"),
        })
    })
    .await;
    let front = Setup::new(&[backend.address]).more(log).start().await;
    let alice = credentials("alice");
    front.request(&format!("POST /redirect/negotiate?negotiateVersion=1\n{alice}"), "").await;
    for hub in ["/refuses", "/breaks", "/garbage", "/wrong", "/moves"] {
        for transport in ["*/*", "text/event-stream", "web socket"] {
            let token = negotiate(&front, hub, &alice).await.token;
            let target = format!("{hub}?id={token}&access_token={QUERY}");
            let mut wire = front.connect().await;
            match transport {
                "web socket" => wire.send(upgrade(&target, &alice)).await,
                _ => wire.send(request_bytes(&format!("GET {target}\nAccept: {transport}\n{alice}"), b"")).await,
            }
            assert!(wire.answer_head().await.status >= 300);
            front.post(&target, MESSAGE).await;
        }
        front.request(&format!("GET {hub}/page?sas={OWN}\n{alice}"), "").await;
    }
    for nonsense in [MESSAGE.as_bytes(), &[0xC1, 0x05, 0x00]] {
        let token = negotiate(&front, "/chat", &alice).await.token;
        let client = web_socket(&front, &format!("/chat?id={token}")).await.unwrap();
        let (_, mut hub) = backend.socket().await;
        hub.send(nonsense).await;
        drop(hub);
        drop(client);
        let token = negotiate(&front, "/chat", &alice).await.token;
        let target = format!("/chat?id={token}");
        assert_eq!(front.get(&target).await.status, 200);
        let (_, mut hub) = backend.socket().await;
        hub.send(nonsense).await;
        drop(hub);
        front.get(&target).await;
    }
    let mut wire = front.connect().await;
    wire.send(format!(
        "POST /x?key={OWN} HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\nCookie: {COOKIE}\r\n\r\n"
    ))
    .await;
    wire.answer_head().await;
    soon("the gateway to stop", front.gateway.stop()).await;
}

/// Backends that cannot be reached.
async fn nobody_there(log: &str) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let front = Setup::new(&[address]).more(log).start().await;
    let alice = credentials("alice");
    for request in ["GET /page", "POST /chat/negotiate", "GET /chat"] {
        let target = format!("{request}?id=secret-id-of-nobody&access_token={QUERY}&key={OWN}\n{alice}");
        tell("secret-id-of-nobody");
        assert_eq!(front.request(&target, "").await.status, 502);
    }
}

/// TLS before and behind, HTTP/2 in front.
async fn over_tls() {
    let authority = CertificateAuthority::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let certificate = authority.issue(&["localhost"]).unwrap();
    let hub = HubServer::builder().contract_hubs(&HubOptions::default()).tls(certificate.server_config().unwrap());
    let hub = hub.bind("127.0.0.1:0").await.unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("{:?}", path.to_str().unwrap())
    };
    let (pem, key) = (write("pem", &certificate.certificate_pem), write("key", &certificate.key_pem));
    let ca = write("ca", authority.pem());
    let front = Setup::of_urls(vec![format!("https://localhost:{}", hub.local_addr().port())])
        .pool(&format!("ca_file = {ca}"))
        .listener(&format!("tls = {{ certificates = [{{ certificate_file = {pem}, key_file = {key} }}] }}"))
        .more("[log]\naccess = \"json\"")
        .start()
        .await;
    let connector = tokio_rustls::TlsConnector::from(authority.client_config(&["h2"]).unwrap());
    let tcp = tokio::net::TcpStream::connect(front.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let (mut client, connection) = h2::client::handshake(connector.connect(name, tcp).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    for path in ["/contract/negotiate?negotiateVersion=1", "/api/request?x=1"] {
        let request = http::Request::post(format!("https://localhost{path}&access_token={QUERY}&key={OWN}"))
            .header("authorization", format!("Bearer {AUTHORIZATION}"))
            .header("cookie", format!("own={COOKIE}"))
            .body(())
            .unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    }
}

/// Sessions, good and refused ones.
async fn over_web_transport() {
    let hub = HubServer::contract().await.unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let from = std::time::SystemTime::now();
    let certificate = ServerCertificate::self_signed(&["localhost"], from, Duration::from_secs(86_400)).unwrap();
    certificate.write_to(directory.path()).unwrap();
    let path = directory.path().display();
    let listener = format!(
        "web_transport = {{ certificates = [{{ certificate_file = \"{path}/certificate.pem\", key_file = \"{path}/key.pem\" }}] }}"
    );
    let log = format!("[log]\naccess = \"json\"\n[token]\nkeys = [\"{KEY}\"]");
    let front = Setup::new(&[hub.local_addr()]).listener(&listener).more(&log).start().await;
    let port = front.gateway.web_transport_addresses().next().unwrap().port();
    let request = format!("POST /contract/negotiate?negotiateVersion=1&webTransport=1\n{}", credentials("alice"));
    let negotiated = Negotiated::of(front.request(&request, "").await);
    tell(&negotiated.token);
    let target = format!("/contract?id={}&access_token={ENCODED}&key={OWN}", negotiated.token);
    let headers = [("cookie", COOKIE), ("x-api-key", OWN)];
    assert_eq!(Session::ask(port, &target, &[("origin", "https://other.test")]).await.err(), Some(403));
    let mut session = Session::open(port, &target, &headers).await;
    session.say(HANDSHAKE).await;
    session.hears("{}\u{1e}").await;
    session.say(format!("{{\"type\":1,\"target\":\"{MESSAGE}\",\"arguments\":[\"{MESSAGE}\"]}}\u{1e}")).await;
    session.session.close(4000, b"enough");
    assert_eq!(Session::ask(port, &format!("{target}x"), &headers).await.err(), Some(404));
    front.gateway.stop().await;
}
