//! WebTransport at the gateway: who is told of it, what a session needs, how it ends, what bounds it (rules H1–H5, A8).

use std::time::{Duration, SystemTime};

use hubgate_fixtures::certificates::{CertificateAuthority, ServerCertificate};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use web_transport_quinn as wt;

use crate::support::hub::{FAREWELL, HANDSHAKE, Negotiated, SHAKEN};
use crate::support::session::{self, client_by_hash};
use crate::support::{Backend, Carrier, Frame, Front, Reply, Session, Setup, Wire, soon, until, web_socket};

const DAY: Duration = Duration::from_secs(86_400);
const NEGOTIATE: &str = "/chat/negotiate?negotiateVersion=1&webTransport=1";
const PAGE: &str = "https://page.test";

/// A gateway with WebTransport and what it needs on disk.
struct Rig {
    front: Front,
    backend: Backend,
    port: u16,
    setup: Setup,
    certificate: ServerCertificate,
    directory: TempDir,
}

fn certificate() -> ServerCertificate {
    ServerCertificate::self_signed(&["localhost", "127.0.0.1"], SystemTime::now(), DAY * 13).unwrap()
}

/// The listener's settings for the certificate in a directory.
fn listener(directory: &TempDir) -> String {
    let path = directory.path().display();
    format!(
        "web_transport = {{ certificates = [{{ certificate_file = \"{path}/certificate.pem\", key_file = \"{path}/key.pem\" }}] }}"
    )
}

impl Rig {
    async fn new(backend: Backend, more: &str) -> Self {
        let (directory, certificate) = (TempDir::new().unwrap(), certificate());
        certificate.write_to(directory.path()).unwrap();
        let setup = Setup::new(&[backend.address]).listener(&listener(&directory)).more(more);
        let front = setup.start().await;
        let port = front.gateway.web_transport_addresses().next().unwrap().port();
        Self { front, backend, port, setup, certificate, directory }
    }

    async fn start() -> Self {
        Self::new(Backend::hub().await, "").await
    }

    /// Goes over to a certificate of an authority.
    async fn takes_an_authority(&self) -> CertificateAuthority {
        let authority = CertificateAuthority::new().unwrap();
        authority.issue(&["localhost"]).unwrap().write_to(self.directory.path()).unwrap();
        self.front.reload(&self.setup).await;
        authority
    }

    /// Negotiates for WebTransport; the target of its session. `headers` follow `\n`.
    async fn ask(&self, headers: &str) -> String {
        let answer = self.front.request(&format!("POST {NEGOTIATE}{headers}"), "").await;
        assert_eq!(answer.json()["availableTransports"][0]["transport"], "WebTransport", "{answer:?}");
        format!("/chat?id={}", Negotiated::of(answer).token)
    }

    /// A session whose both sides have shaken hands.
    async fn connect(&self) -> (Session, Wire, String) {
        let target = self.ask("").await;
        let mut client = Session::open(self.port, &target, &[]).await;
        let (_, mut hub) = self.backend.socket().await;
        client.say(HANDSHAKE).await;
        assert_eq!(hub.frame().await, Frame::text(HANDSHAKE));
        hub.send_text(SHAKEN).await;
        client.hears(SHAKEN).await;
        (client, hub, target)
    }
}

/// Waits until a token is used up.
async fn is_over(rig: &Rig, target: &str) {
    until("the token to be used up", async || Session::ask(rig.port, target, &[]).await.is_err_and(|s| s == 404)).await;
}

#[tokio::test]
async fn er_h2_it_is_offered_to_those_alone_who_ask() {
    let rig = Rig::start().await;
    let asked = rig.front.post(NEGOTIATE, "").await.json();
    let first = &asked["availableTransports"][0];
    assert_eq!((&first["transport"], &first["port"]), (&"WebTransport".into(), &rig.port.into()));
    assert_eq!(first["transferFormats"], serde_json::json!(["Text", "Binary"]));
    assert_eq!(asked["availableTransports"][1]["transport"], "WebSockets", "the others stay");
    assert_eq!(rig.backend.last().query(), "negotiateVersion=1", "the hub is not told");
    let not_asked = rig.front.post("/chat/negotiate?negotiateVersion=1", "").await;
    assert!(!not_asked.text().contains("WebTransport"), "{not_asked:?}");
    let without = Front::quick(&[rig.backend.address]).await;
    assert!(!without.post(NEGOTIATE, "").await.text().contains("WebTransport"), "the listener has none");
    let setup = rig.setup.clone().route("transports = [\"LongPolling\"]");
    assert!(!setup.start().await.post(NEGOTIATE, "").await.text().contains("WebTransport"), "the route wants none");
    let setup = rig.setup.clone().route("transports = [\"LongPolling\", \"WebTransport\"]");
    let answer = setup.start().await.post(NEGOTIATE, "").await.json();
    assert_eq!(answer["availableTransports"].as_array().unwrap().len(), 2, "{answer}");
}

#[tokio::test]
async fn er_h2_a_hash_goes_with_a_self_signed_certificate_only() {
    use base64::Engine as _;
    let rig = Rig::start().await;
    let told = rig.front.post(NEGOTIATE, "").await.json()["availableTransports"][0]["serverCertificateHashes"].clone();
    assert_eq!(told[0]["algorithm"], "sha-256");
    let hash = base64::engine::general_purpose::STANDARD.decode(told[0]["value"].as_str().unwrap()).unwrap();
    assert_eq!(hash, rig.certificate.sha_256());
    let target = rig.ask("").await;
    soon("a session", client_by_hash(&hash).connect(session::request(rig.port, &target, &[]))).await.unwrap();
    let other = client_by_hash(&[0; 32]);
    let refused = soon("a refusal", other.connect(session::request(rig.port, &target, &[]))).await;
    assert!(refused.is_err(), "another certificate is not accepted");

    let issued = CertificateAuthority::new().unwrap().issue(&["127.0.0.1"]).unwrap();
    issued.write_to(rig.directory.path()).unwrap();
    let front = rig.setup.start().await;
    let answer = front.post(NEGOTIATE, "").await.json();
    assert_eq!(answer["availableTransports"][0].get("serverCertificateHashes"), None, "{answer}");
}

#[tokio::test]
async fn er_h4_what_negotiate_showed_goes_to_the_hub_with_the_session() {
    let rig = Rig::start().await;
    let headers = format!("\nOrigin: {PAGE}\nAuthorization: Bearer one\nCookie: a=1\nX-Other: 1");
    let target = rig.ask(&headers).await;
    let _session = Session::ask(rig.port, &target, &[("origin", PAGE)]).await.unwrap();
    let (upgrade, _hub) = rig.backend.socket().await;
    assert_eq!(upgrade.header("authorization").as_deref(), Some("Bearer one"));
    assert_eq!(upgrade.header("cookie").as_deref(), Some("a=1"));
    assert_eq!(upgrade.header("origin").as_deref(), Some(PAGE), "rule C2");
    assert_eq!(upgrade.header("x-other"), None, "nothing else is kept");
    assert_eq!(upgrade.header("x-forwarded-proto").as_deref(), Some("https"));
    assert!(!upgrade.query().contains("webTransport"), "{}", upgrade.query());

    let target = rig.ask("\nAuthorization: Bearer one").await;
    let _session = Session::ask(rig.port, &target, &[("authorization", "Bearer two")]).await.unwrap();
    let (upgrade, _hub) = rig.backend.socket().await;
    assert_eq!(upgrade.all("authorization"), ["Bearer two"], "what a client shows itself goes first");
}

#[tokio::test]
async fn er_b3_a_hub_is_told_the_address_of_a_sessions_client() {
    let rig = Rig::start().await;
    let both = listener(&rig.directory).replace("= {", "= { address = \"[::]:0\",");
    let front = rig.setup.clone().listener(&both).start().await;
    let port = front.gateway.web_transport_addresses().next().unwrap().port();
    let answer = front.post(NEGOTIATE, "").await;
    let target = format!("/chat?id={}", Negotiated::of(answer).token);
    let _session = Session::ask(port, &target, &[("x-forwarded-for", "10.9.9.9")]).await.unwrap();
    let (upgrade, _hub) = rig.backend.socket().await;
    assert_eq!(upgrade.header("x-forwarded-for").as_deref(), Some("127.0.0.1"), "as over TCP, and nobody else's word");
}

#[tokio::test]
async fn er_h4_a_session_of_another_origin_is_refused_and_uses_nothing_up() {
    let rig = Rig::start().await;
    let target = rig.ask(&format!("\nOrigin: {PAGE}")).await;
    for headers in [&[("origin", "https://other.test")][..], &[]] {
        assert_eq!(Session::ask(rig.port, &target, headers).await.err(), Some(403));
    }
    let _session = Session::ask(rig.port, &target, &[("origin", PAGE)]).await.unwrap();
    let without = rig.ask("").await;
    assert_eq!(Session::ask(rig.port, &without, &[("origin", PAGE)]).await.err(), Some(403));
}

#[tokio::test]
async fn er_h4_a_session_is_accepted_only_after_its_hub_accepted() {
    let backend = Backend::hub_with(|seen| match (seen.is_upgrade(), seen.query().contains("why=401")) {
        (true, true) => Some(Reply::answer("401 Unauthorized", "")),
        (true, false) => Some(Reply::answer("403 Forbidden", "")),
        _ => None,
    })
    .await;
    let rig = Rig::new(backend, "").await;
    for (more, expected) in [("&why=401", 401), ("", 403)] {
        let target = rig.ask("").await;
        assert_eq!(Session::ask(rig.port, &format!("{target}{more}"), &[]).await.err(), Some(expected));
        assert_eq!(Session::ask(rig.port, &target, &[]).await.err(), Some(404), "the token is used up");
    }
}

#[tokio::test]
async fn er_h4_whatever_is_no_waiting_connection_is_refused() {
    let rig = Rig::start().await;
    let target = rig.ask("").await;
    let elsewhere = target.replace("/chat", "/other");
    for (target, expected) in [("/chat", 404), ("/chat?id=forged", 404), (&*elsewhere, 404), ("/a%2Fb?id=x", 400)] {
        assert_eq!(Session::ask(rig.port, target, &[]).await.err(), Some(expected), "{target}");
    }
    let plain = Negotiated::of(rig.front.post("/chat/negotiate?negotiateVersion=1", "").await);
    let unasked = Session::ask(rig.port, &format!("/chat?id={}", plain.token), &[]).await;
    assert_eq!(unasked.err(), Some(404), "it was not negotiated for WebTransport");
    let session = Session::ask(rig.port, &target, &[]).await.unwrap();
    assert_eq!(Session::ask(rig.port, &target, &[]).await.err(), Some(409), "while the first one is open");
    assert_eq!(rig.front.post(&target, "x").await.status, 405);
    assert_eq!(rig.front.delete(&target).await.status, 400);
    session.close(0, b"");
    is_over(&rig, &target).await;
    let target = rig.ask("").await;
    let _socket = web_socket(&rig.front, &target).await.unwrap();
    assert_eq!(Session::ask(rig.port, &target, &[]).await.err(), Some(409), "a WebSocket has it");
}

#[tokio::test]
async fn er_h4_messages_pass_both_ways_in_order() {
    let rig = Rig::start().await;
    let (mut client, mut hub, _) = rig.connect().await;
    // Halves of messages, glued ones, and one over many datagrams: the hub's frames do not show.
    let long = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{}\"]}}\u{1e}", "ö".repeat(600_000));
    hub.send_text("{\"type\":1,\"tar").await;
    hub.send_text("get\":\"a\",\"arguments\":[]}\u{1e}{\"type\":6}\u{1e}").await;
    hub.send_text(&long).await;
    client.hears("{\"type\":1,\"target\":\"a\",\"arguments\":[]}\u{1e}{\"type\":6}\u{1e}").await;
    client.hears(&long).await;
    let expected = long.clone();
    let (_, said) = tokio::join!(client.say(&long), async {
        let mut said = String::new();
        let mut bytes = Vec::new();
        while said.len() < expected.len() {
            bytes.extend(hub.frame().await.payload);
            if let Ok(text) = std::str::from_utf8(&bytes) {
                said.push_str(text);
                bytes.clear();
            }
        }
        said
    });
    assert!(said == expected, "the client's bytes reach the hub");
}

#[tokio::test]
async fn er_e4_a_clients_close_is_a_close_frame_and_its_loss_a_loss() {
    let rig = Rig::start().await;
    for (code, reason, expected) in [(0, "", 1000), (1001, "away", 1001), (4001, "mine", 4001), (7, "odd", 1000)] {
        let (client, mut hub, target) = rig.connect().await;
        client.session.close(code, reason.as_bytes());
        let close = hub.frame().await;
        assert_eq!(close.close_code(), Some(expected), "{code}");
        assert_eq!(&close.payload[2..], reason.as_bytes());
        is_over(&rig, &target).await;
    }
    let (mut client, mut hub, _) = rig.connect().await;
    client.sending.finish().unwrap();
    assert_eq!(hub.frame().await.close_code(), Some(1000), "an end of its half is an end");
    assert_eq!(client.closed().await, Some((1000, String::new())));

    let (client, mut hub, _) = rig.connect().await;
    quinn::Connection::close(&client.session, 0x100_u32.into(), b"");
    assert_eq!(hub.frame().await.close_code(), Some(1001), "a page that was closed");

    let (mut client, mut hub, _) = rig.connect().await;
    client.sending.reset(3).unwrap();
    hub.ended_silently().await;
}

#[tokio::test]
async fn er_e4_a_busy_hub_gets_the_last_words_of_a_client_that_has_left() {
    let rig = Rig::start().await;
    let (mut client, mut hub, target) = rig.connect().await;
    let words = "{\"type\":6}\u{1e}".repeat(1_000);
    client.say(&words).await;
    client.sending.finish().unwrap();
    assert_eq!(client.closed().await, Some((1000, String::new())));
    // The hub has not read a byte yet, and writes meanwhile, which a closed connection would answer by a reset.
    is_over(&rig, &target).await;
    for _ in 0..3 {
        hub.send_text("{\"type\":6}\u{1e}").await;
    }
    let mut heard = Vec::new();
    let close = loop {
        let frame = hub.frame().await;
        if let Some(code) = frame.close_code() {
            break code;
        }
        heard.extend(frame.payload);
    };
    assert_eq!((heard.len(), close), (words.len(), 1000));
}

#[tokio::test]
async fn er_h5_a_client_that_falls_silent_is_lost_within_the_idle_time_out() {
    let rig = Rig::new(Backend::hub().await, "[timeouts]\nquic_idle_timeout = \"1 s\"").await;
    let carrier = Carrier::to(rig.port).await;
    let target = rig.ask("").await;
    let mut client = Session::open(carrier.address.port(), &target, &[]).await;
    let (_, mut hub) = rig.backend.socket().await;
    client.say(HANDSHAKE).await;
    assert_eq!(hub.frame().await, Frame::text(HANDSHAKE));
    let since = std::time::Instant::now();
    carrier.carry_only(0, 0);
    hub.ended_silently().await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(5), "the hub was told after {took:?}");
    is_over(&rig, &target).await;
}

#[tokio::test]
async fn er_e4_a_hubs_end_is_told_with_code_and_reason_after_its_last_message() {
    let rig = Rig::start().await;
    let (mut client, mut hub, target) = rig.connect().await;
    hub.send_text("{\"type\":7}\u{1e}").await;
    hub.send_frame(&Frame::new(Frame::CLOSE, [&4002_u16.to_be_bytes()[..], b"later"].concat())).await;
    assert_eq!(client.rest().await, b"{\"type\":7}\x1e", "the end of the stream comes behind the last message");
    client.sending.finish().unwrap();
    assert_eq!(client.closed().await, Some((4002, "later".to_owned())));
    is_over(&rig, &target).await;

    let (mut client, hub, _) = rig.connect().await;
    hub.reset();
    assert_eq!(client.rest().await, FAREWELL.as_bytes(), "a lost hub: clients may come back");
    client.sending.finish().unwrap();
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1006));
}

#[tokio::test]
async fn er_e4_a_client_that_does_not_end_its_half_is_told_all_the_same() {
    let rig = Rig::new(Backend::hub().await, "[timeouts]\nclose_timeout = \"1 s\"").await;
    let (client, mut hub, _) = rig.connect().await;
    hub.send_frame(&Frame::close(1000)).await;
    assert_eq!(client.closed().await, Some((1000, String::new())));
}

#[tokio::test]
async fn er_f4_a_stopping_gateway_says_goodbye() {
    let rig = Rig::start().await;
    let (mut client, mut hub, _) = rig.connect().await;
    let waiting = rig.ask("").await;
    let port = rig.port;
    let ends = async {
        assert_eq!(client.rest().await, FAREWELL.as_bytes());
        client.sending.finish().unwrap();
        assert_eq!(client.closed().await, Some((1000, String::new())));
        assert!(hub.frame().await.close_code().is_some());
    };
    tokio::join!(soon("the stop", rig.front.gateway.stop()), ends);
    let client = session::client();
    let late =
        tokio::time::timeout(Duration::from_secs(1), client.connect(session::request(port, &waiting, &[]))).await;
    assert!(!matches!(late, Ok(Ok(_))), "nobody is there any more");
}

#[tokio::test]
async fn er_h5_without_a_connect_or_a_stream_a_client_is_sent_away() {
    let timeouts = "[timeouts]\nheaders_timeout = \"300 ms\"\nfirst_byte_timeout = \"300 ms\"";
    let rig = Rig::new(Backend::hub().await, timeouts).await;
    let authority = rig.takes_an_authority().await;
    let (_endpoint, silent) = quic(rig.port, &authority).await;
    soon("the end of a connection without a CONNECT", silent.closed()).await;

    let target = rig.ask("").await;
    let session = Session::ask(rig.port, &target, &[]).await.unwrap();
    let (_, mut hub) = rig.backend.socket().await;
    let closed = soon("the end of a session without a stream", session.closed()).await;
    let wt::SessionError::WebTransportError(wt::WebTransportError::Closed(code, _)) = closed else {
        panic!("{closed}")
    };
    assert_eq!(code, 1008);
    hub.ended_silently().await;
}

/// A QUIC connection on which no HTTP is spoken.
async fn quic(port: u16, authority: &CertificateAuthority) -> (quinn::Endpoint, quinn::Connection) {
    let tls = (*authority.client_config(&["h3"]).unwrap()).clone();
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(std::sync::Arc::new(config)));
    let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let connection = soon("a QUIC connection", endpoint.connect(address, "localhost").unwrap()).await.unwrap();
    (endpoint, connection)
}

#[tokio::test]
async fn er_h5_a_client_that_changes_its_network_keeps_its_session() {
    let rig = Rig::start().await;
    let authority = rig.takes_an_authority().await;
    let (endpoint, connection) = quic(rig.port, &authority).await;
    let target = rig.ask("").await;
    let session = wt::Session::connect(connection, session::request(rig.port, &target, &[])).await.unwrap();
    let mut client = Session::of(session).await;
    let (_, mut hub) = rig.backend.socket().await;
    client.say(HANDSHAKE).await;
    assert_eq!(hub.frame().await, Frame::text(HANDSHAKE));
    let before = endpoint.local_addr().unwrap();
    endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    assert_ne!(endpoint.local_addr().unwrap(), before);
    client.say("{\"type\":6}\u{1e}").await;
    assert_eq!(hub.frame().await, Frame::text("{\"type\":6}\u{1e}"));
    hub.send_text(SHAKEN).await;
    client.hears(SHAKEN).await;
}

#[tokio::test]
async fn er_h1_the_port_answers_nothing_else() {
    let rig = Rig::start().await;
    let authority = rig.takes_an_authority().await;
    let (_endpoint, connection) = quic(rig.port, &authority).await;
    let mut settings = connection.open_uni().await.unwrap();
    // Control stream, SETTINGS with WebTransport and datagrams; then a GET, as small as QPACK's static table makes it.
    settings.write_all(&[0x00, 0x04, 0x04, 0x33, 0x01, 0x08, 0x01]).await.unwrap();
    let (mut request, _answer) = connection.open_bi().await.unwrap();
    request.write_all(&[0x01, 0x05, 0x00, 0x00, 0xD1, 0xD7, 0xC1]).await.unwrap();
    soon("the end of a connection with another request", connection.closed()).await;
    let answer = rig.front.post(NEGOTIATE, "").await;
    assert_eq!(answer.header("alt-svc"), None, "browsers are not sent here");
}

#[tokio::test]
async fn er_h5_a_connect_with_too_many_headers_is_refused() {
    let rig = Rig::start().await;
    let target = rig.ask("").await;
    let long = "x".repeat(20_000);
    let client = session::client();
    let refused = soon("a refusal", client.connect(session::request(rig.port, &target, &[("x-long", &long)]))).await;
    assert!(refused.is_err(), "over 16 KiB of headers");
    let fits = "x".repeat(8_000);
    Session::ask(rig.port, &target, &[("x-long", &fits)]).await.unwrap();
}

#[tokio::test]
async fn er_h5_handshakes_in_progress_are_bounded() {
    let more = "[limits]\nquic_handshakes_max = 1\n[timeouts]\ntls_handshake_timeout = \"2 s\"";
    let rig = Rig::new(Backend::hub().await, more).await;
    let carrier = Carrier::to(rig.port).await;
    // The server's answer never arrives, so that this handshake stays under way.
    carrier.carry_only(1, 0);
    let (stuck, silent) = (rig.ask("").await, session::client());
    let target = rig.ask("").await;
    let hanging = silent.connect(session::request(carrier.address.port(), &stuck, &[]));
    let others = async {
        carrier.has_carried_up(1).await;
        until("a refusal", async || {
            let client = session::client();
            let asked = client.connect(session::request(rig.port, "/chat?id=x", &[])).await;
            matches!(asked, Err(wt::ClientError::Connection(quinn::ConnectionError::ConnectionClosed(_))))
        })
        .await;
        until("room again", async || {
            let client = session::client();
            client.connect(session::request(rig.port, &target, &[])).await.is_ok()
        })
        .await;
    };
    tokio::select! {
        _ = hanging => panic!("nothing answers it"),
        () = others => {}
    }
}

#[tokio::test]
async fn settings_come_with_the_servers_half_of_the_handshake() {
    let rig = Rig::start().await;
    let authority = rig.takes_an_authority().await;
    let carrier = Carrier::to(rig.port).await;
    // What the client answers never arrives: all that it hears belongs to the first flight.
    carrier.carry_only(1, usize::MAX);
    let (_endpoint, connection) = quic(carrier.address.port(), &authority).await;
    let mut control = soon("the server's control stream", connection.accept_uni()).await.unwrap();
    let mut begin = [0; 2];
    soon("SETTINGS", control.read_exact(&mut begin)).await.unwrap();
    assert_eq!(begin, [0x00, 0x04], "a control stream, SETTINGS");
}

#[tokio::test]
async fn er_h5_newcomers_show_that_their_address_is_theirs() {
    for (retry_above, is_asked) in [(100, false), (0, true)] {
        let rig = Rig::new(Backend::hub().await, &format!("[limits]\nquic_retry_above = {retry_above}")).await;
        // A client's first datagram, caught on its way.
        let sink = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (caller, mut datagram) = (session::client(), [0; 2_048]);
        let calling = caller.connect(session::request(sink.local_addr().unwrap().port(), "/chat", &[]));
        let len = tokio::select! {
            _ = calling => panic!("nobody answers"),
            received = sink.recv(&mut datagram) => received.unwrap(),
        };
        sink.send_to(&datagram[..len], ("127.0.0.1", rig.port)).await.unwrap();
        soon("an answer", async {
            // The client may say more.
            while sink.recv_from(&mut datagram).await.unwrap().1.port() != rig.port {}
        })
        .await;
        assert_eq!(datagram[0] & 0xF0 == 0xF0, is_asked, "a Retry, or a handshake");
        let (client, mut hub, _) = rig.connect().await;
        client.session.close(0, b"");
        assert_eq!(hub.frame().await.close_code(), Some(1000), "who answers a Retry gets in");
    }
}

#[tokio::test]
async fn er_h5_a_client_that_does_not_read_is_given_up() {
    let rig = Rig::new(Backend::hub().await, "[timeouts]\nsend_timeout = \"1 s\"").await;
    let (client, mut hub, target) = rig.connect().await;
    let message = format!("{{\"type\":1,\"target\":\"m\",\"arguments\":[\"{}\"]}}\u{1e}", "x".repeat(60_000));
    let flood = async { while hub.try_send(Frame::text(&message).bytes(None)).await.is_ok() {} };
    soon("the hub to be cut off", flood).await;
    is_over(&rig, &target).await;
    drop(client);
}

#[tokio::test]
async fn er_g2_a_reload_changes_the_certificate_and_ends_no_session() {
    let rig = Rig::start().await;
    let (mut client, mut hub, _) = rig.connect().await;
    let renewed = certificate();
    renewed.write_to(rig.directory.path()).unwrap();
    rig.front.reload(&rig.setup).await;
    let told = rig.front.post(NEGOTIATE, "").await.json();
    use base64::Engine as _;
    let hash = base64::engine::general_purpose::STANDARD.encode(renewed.sha_256());
    assert_eq!(told["availableTransports"][0]["serverCertificateHashes"][0]["value"], hash);
    let target = rig.ask("").await;
    let by_hash = client_by_hash(&renewed.sha_256());
    soon("a session", by_hash.connect(session::request(rig.port, &target, &[]))).await.unwrap();
    hub.send_text("{\"type\":6}\u{1e}").await;
    client.hears("{\"type\":6}\u{1e}").await;
}

#[tokio::test]
async fn er_d5_a_hub_without_web_sockets_serves_sessions_too() {
    let hub = hubgate_fixtures::HubServer::builder()
        .contract_hubs(&hubgate_fixtures::HubOptions::default())
        .bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let (directory, certificate) = (TempDir::new().unwrap(), certificate());
    certificate.write_to(directory.path()).unwrap();
    let setup = Setup::new(&[hub.local_addr()]).listener(&listener(&directory));
    let front = setup.start().await;
    let port = front.gateway.web_transport_addresses().next().unwrap().port();
    let answer = front.post("/contract/negotiate?negotiateVersion=1&webTransport=1", "").await;
    let target = format!("/contract?id={}", Negotiated::of(answer).token);
    let mut client = Session::open(port, &target, &[]).await;
    client.say(HANDSHAKE).await;
    client.hears(SHAKEN).await;
    client.say("{\"type\":1,\"invocationId\":\"1\",\"target\":\"EchoText\",\"arguments\":[\"hi\"]}\u{1e}").await;
    client.hears("{\"type\":3,\"invocationId\":\"1\",\"result\":\"hi\"}\u{1e}").await;
    client.session.close(0, b"");
    front.gateway.stop().await;
    hub.shutdown().await;
}
