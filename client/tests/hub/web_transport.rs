//! The WebTransport transport against a stand-in that does what a well-behaved gateway and hub cannot be made to do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hubgate_client::{Frame, HubConnection, HubConnectionBuilder, Transport};
use hubgate_fixtures::certificates::{CertificateAuthority, ServerCertificate};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;
use web_transport_quinn::quinn::crypto::rustls::QuicServerConfig;
use web_transport_quinn::quinn::{Endpoint, ServerConfig};
use web_transport_quinn::{
    ALPN, ReadError, ReadToEndError, RecvStream, SendStream, Server, Session, SessionError, WebTransportError, crypto,
    http::StatusCode,
};

use super::support::{connected, within};

/// Answers negotiate over clear text and sessions at a UDP port of its own.
struct StandIn {
    url: String,
    authority: CertificateAuthority,
    sessions: Server,
}

impl StandIn {
    /// With the right hash in its negotiate answers, another one, or none.
    async fn open(hash: Hash) -> Self {
        let authority = CertificateAuthority::new().unwrap();
        let certificate = authority.issue(&["localhost", "127.0.0.1"]).unwrap();
        let endpoint = Endpoint::server(quic_config(&certificate), "127.0.0.1:0".parse().unwrap()).unwrap();
        let port = endpoint.local_addr().unwrap().port();
        let der = CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes()).unwrap();
        let sha256 = crypto::sha256(&crypto::default_provider(), &der);
        let hashes = match hash {
            Hash::Right => hashes_field(sha256.as_ref()),
            Hash::Wrong => hashes_field(&[7; 32]),
            Hash::None => String::new(),
        };
        let url = negotiating(&format!("\"port\":{port}{hashes}")).await;
        Self { url, authority, sessions: Server::new(endpoint) }
    }

    fn builder(&self) -> HubConnectionBuilder {
        HubConnection::builder(&self.url).transport(Transport::WebTransport)
    }

    /// The next session, with its request's query; accepted, its stream's handshake done.
    async fn accept(&mut self) -> (Session, SendStream, RecvStream, String) {
        // What the client writes to the log is looked at, not what happens here.
        let request = within(self.sessions.accept().with_subscriber(Dispatch::none())).await.unwrap();
        let query = request.url.query().unwrap_or_default().to_owned();
        let session = request.ok().await.unwrap();
        let (mut send, mut receive) = within(session.accept_bi()).await.unwrap();
        let mut handshake = [0; 32];
        within(receive.read_exact(&mut handshake)).await.unwrap();
        assert_eq!(&handshake, b"{\"protocol\":\"json\",\"version\":1}\x1e");
        send.write_all(b"{}\x1e").await.unwrap();
        (session, send, receive, query)
    }
}

#[derive(Clone, Copy)]
enum Hash {
    Right,
    Wrong,
    None,
}

fn hashes_field(sha256: &[u8]) -> String {
    format!(",\"serverCertificateHashes\":[{{\"algorithm\":\"sha-256\",\"value\":\"{}\"}}]", STANDARD.encode(sha256))
}

fn quic_config(certificate: &ServerCertificate) -> ServerConfig {
    let mut tls = rustls::ServerConfig::clone(&certificate.server_config().unwrap());
    tls.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
    ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

/// A server that answers every request as a negotiate, and offers WebTransport alone, where it is asked for.
async fn negotiating(offer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/hub?kept=1", listener.local_addr().unwrap().port());
    let body = format!(
        "{{\"negotiateVersion\":1,\"connectionId\":\"public\",\"connectionToken\":\"se/cret\",\"availableTransports\":\
         [{{\"transport\":\"WebTransport\",\"transferFormats\":[\"Text\",\"Binary\"],{offer}}}]}}"
    );
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            let asked = head.starts_with(b"POST /hub/negotiate?kept=1&negotiateVersion=1&webTransport=1 HTTP/1.1\r\n");
            let status = if asked { "200 OK" } else { "400 Bad Request" };
            let answer =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

fn closed(connection: &HubConnection) -> mpsc::UnboundedReceiver<Option<String>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    connection.on_closed(move |error| sender.send(error.map(str::to_owned)).unwrap());
    receiver
}

#[tokio::test]
async fn what_was_sent_before_a_close_arrives_and_the_close_with_code_and_reason() {
    let mut server = StandIn::open(Hash::Right).await;
    let builder = server.builder();
    let (connection, (session, mut send, mut receive, query)) = tokio::join!(connected(builder), server.accept());
    assert_eq!((query.as_str(), connection.connection_id().as_deref()), ("kept=1&id=se/cret", Some("public")));
    assert_eq!(connection.transport(), Some(Transport::WebTransport));
    let (mut ended, (texts, mut received)) = (closed(&connection), mpsc::unbounded_channel());
    connection.on("Message", move |(text,): (String,)| texts.send(text.len()).unwrap());
    // A megabyte is under way when the stream ends.
    let text = "x".repeat(1 << 20);
    let message = format!("{{\"type\":1,\"target\":\"Message\",\"arguments\":[\"{text}\"]}}\x1e");
    send.write_all(message.as_bytes()).await.unwrap();
    send.finish().unwrap();
    let rest = within(receive.read_to_end(1024)).await.unwrap();
    assert_eq!(rest, b"{\"type\":6}\x1e", "a Ping, then the client's own end");
    session.close(1011, b"on purpose");
    assert_eq!(within(received.recv()).await, Some(1 << 20));
    let text = "WebTransport closed with status code: 1011 (on purpose).";
    assert_eq!(within(ended.recv()).await.unwrap().as_deref(), Some(text));
}

#[tokio::test]
async fn a_close_without_error_and_a_lost_connection_are_told_apart() {
    let mut server = StandIn::open(Hash::Right).await;
    for (code, expected) in [(0, None), (1000, None), (1001, Some("1001 (no reason given)."))] {
        let builder = server.builder();
        let (connection, (session, ..)) = tokio::join!(connected(builder), server.accept());
        let mut ended = closed(&connection);
        session.close(code, b"");
        let expected = expected.map(|text| format!("WebTransport closed with status code: {text}"));
        assert_eq!(within(ended.recv()).await.unwrap(), expected);
    }
    let builder = server.builder();
    let (connection, (session, ..)) = tokio::join!(connected(builder), server.accept());
    let mut ended = closed(&connection);
    web_transport_quinn::quinn::Connection::close(&session, 0x0102_u32.into(), b"");
    let text = within(ended.recv()).await.unwrap().unwrap();
    assert!(text.contains("lost") || text.contains("connection error"), "{text}");
}

#[tokio::test]
async fn a_stop_ends_the_stream_and_a_close_or_a_cut_the_session() {
    let mut server = StandIn::open(Hash::Right).await;
    let builder = server.builder();
    let (connection, (session, mut send, mut receive, _)) = tokio::join!(connected(builder), server.accept());
    let stopping = tokio::spawn(async move { connection.stop().await });
    let said = within(receive.read_to_end(1024)).await.unwrap();
    assert!(said.ends_with(b"{\"type\":7}\x1e"), "{}", String::from_utf8_lossy(&said));
    assert!(session.close_reason().is_none());
    send.finish().unwrap();
    session.close(1000, b"");
    within(stopping).await.unwrap();

    let builder = server.builder();
    let (connection, (session, ..)) = tokio::join!(connected(builder), server.accept());
    connection.misbehave().send_frame(Frame::Close { code: 3001, reason: "mine".to_owned() }).await.unwrap();
    let error = within(session.closed()).await;
    let SessionError::WebTransportError(WebTransportError::Closed(code, reason)) = error else { panic!("{error}") };
    assert_eq!((code, reason.as_str()), (3001, "mine"));

    let builder = server.builder();
    let (connection, (_session, _send, mut receive, _)) = tokio::join!(connected(builder), server.accept());
    connection.misbehave().cut().await.unwrap();
    let error = within(receive.read_to_end(1024)).await.unwrap_err();
    assert!(matches!(error, ReadToEndError::ReadError(ReadError::Reset(0))), "{error}");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_status() {
    let mut server = StandIn::open(Hash::Right).await;
    let connection = server.builder().build().unwrap();
    let refusing = async {
        let request = server.sessions.accept().await.unwrap();
        // Without it the connection would be gone before its answer.
        let connection = request.conn().clone();
        request.reject(StatusCode::NOT_FOUND).await.unwrap();
        connection
    };
    let (started, _connection) = within(async { tokio::join!(connection.start(), refusing) }).await;
    let text = "The server returned status code '404' when status code '200' was expected.";
    assert_eq!(started.unwrap_err().to_string(), text);
}

#[tokio::test]
async fn a_certificate_counts_by_its_hash_or_by_its_authority() {
    let mut wrong = StandIn::open(Hash::Wrong).await;
    let connection = wrong.builder().build().unwrap();
    let refused = async {
        tokio::select! {
            started = connection.start() => started.unwrap_err().to_string(),
            _ = wrong.sessions.accept() => "a session".to_owned(),
        }
    };
    let text = within(refused).await;
    assert!(text.contains("certificate"), "{text}");
    // Without a hash the authorities of the TLS configuration decide.
    let mut server = StandIn::open(Hash::None).await;
    let trusting = server.builder().tls(server.authority.client_config(&["http/1.1"]).unwrap());
    let (connection, _session) = tokio::join!(connected(trusting), server.accept());
    assert_eq!(connection.transport(), Some(Transport::WebTransport));
    let distrusting = server.builder().tls(wrong.authority.client_config(&[]).unwrap()).build().unwrap();
    let refused = async {
        tokio::select! {
            started = distrusting.start() => started.unwrap_err().to_string(),
            _ = server.sessions.accept() => "a session".to_owned(),
        }
    };
    let text = within(refused).await;
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test]
async fn the_token_is_in_no_log_and_its_silence_ends_with_the_connect() {
    let written = Written::default();
    let writer = written.clone();
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(log.finish());
    let mut server = StandIn::open(Hash::Right).await;
    let builder = server.builder().header("X-Key", "keep-out");
    let (connection, (session, ..)) = tokio::join!(connected(builder), server.accept());
    let mut ended = closed(&connection);
    session.close(1000, b"");
    within(ended.recv()).await.unwrap();
    tracing::debug!(target: "web_transport_quinn", "heard");
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("quinn") && text.contains("heard"), "{text}");
    assert!(!text.contains("se/cret") && !text.contains("keep-out"), "{text}");
}

/// What a log wrote.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn er_h6_a_port_that_says_nothing_is_given_up() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = negotiating(&format!("\"port\":{port}{}", hashes_field(&[7; 32]))).await;
    let connection = HubConnection::builder(&url).transport(Transport::WebTransport).build().unwrap();
    let error = tokio::time::timeout(Duration::from_secs(15), connection.start()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("no QUIC connection to UDP port {port} within 5 s"));
}
