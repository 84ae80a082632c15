//! Start, stop, loss, reconnect; tokens, TLS, redirects; misbehaving.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hubgate_client::{ClientError, Frame, HubConnection, HubConnectionState, HubProtocol, Transport};
use hubgate_fixtures::certificates::CertificateAuthority;
use hubgate_fixtures::{FaultProxy, HubOptions, HubServer, jwt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::support::{PATIENCE, builder, connected, within};

fn closed(connection: &HubConnection) -> mpsc::UnboundedReceiver<Option<String>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    connection.on_closed(move |error| sender.send(error.map(str::to_owned)).unwrap());
    receiver
}

#[tokio::test]
async fn a_stop_is_seen_by_the_hub_as_an_orderly_end() {
    let server = HubServer::contract().await.unwrap();
    let connection = connected(builder(&server, "/contract")).await;
    let id = connection.connection_id().unwrap();
    let mut closed = closed(&connection);
    assert!(matches!(connection.start().await, Err(ClientError::NotDisconnected)));
    within(connection.stop()).await;
    assert_eq!(connection.state(), HubConnectionState::Disconnected);
    assert_eq!(within(closed.recv()).await, Some(None));
    assert!(server.log().wait(&id, "disconnected", PATIENCE).await);
    // It can be started again, under a new id.
    within(connection.start()).await.unwrap();
    assert_ne!(connection.connection_id(), Some(id));
}

#[tokio::test]
async fn a_connection_nobody_holds_ends() {
    let server = HubServer::contract().await.unwrap();
    let connection = connected(builder(&server, "/contract")).await;
    let id = connection.connection_id().unwrap();
    drop(connection.clone());
    assert_eq!(connection.invoke::<i32>("Add", (1, 1)).await.unwrap(), 2);
    drop(connection);
    assert!(server.log().wait(&id, "disconnected", PATIENCE).await);
}

#[tokio::test]
async fn a_lost_connection_comes_back_under_a_new_id() {
    let server = HubServer::contract().await.unwrap();
    let proxy = FaultProxy::bind(server.local_addr()).await.unwrap();
    let url = format!("http://{}/contract", proxy.local_addr());
    let delays = [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(1)];
    let connection = connected(HubConnection::builder(&url).reconnect_delays(&delays)).await;
    let (events, mut seen) = mpsc::unbounded_channel();
    let reconnecting = events.clone();
    connection.on_reconnecting(move |error| reconnecting.send(format!("lost {}", error.is_some())).unwrap());
    connection.on_reconnected(move |id| events.send(id.unwrap().to_owned()).unwrap());
    let id = connection.connection_id().unwrap();
    let pending = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.invoke::<()>("Block", ()).await })
    };
    assert!(server.log().wait(&id, "blocked", PATIENCE).await);
    proxy.reset_all();
    assert!(matches!(within(pending).await.unwrap(), Err(ClientError::Canceled)));
    assert_eq!(within(seen.recv()).await.unwrap(), "lost true");
    let again = within(seen.recv()).await.unwrap();
    assert_ne!(again, id);
    assert_eq!(connection.connection_id(), Some(again));
    assert_eq!(connection.invoke::<i32>("Add", (1, 1)).await.unwrap(), 2);
    // When every attempt fails it is given up, without error.
    let mut closed = closed(&connection);
    proxy.refuse_new(true);
    proxy.reset_all();
    assert_eq!(within(closed.recv()).await, Some(None));
    assert_eq!(connection.state(), HubConnectionState::Disconnected);
}

#[tokio::test]
async fn what_the_server_closes_for_good_is_not_tried_again() {
    let server = HubServer::contract().await.unwrap();
    let connection = connected(builder(&server, "/contract").automatic_reconnect()).await;
    let mut ended = closed(&connection);
    assert!(matches!(connection.invoke::<()>("Abort", ()).await, Err(ClientError::Canceled)));
    assert_eq!(within(ended.recv()).await, Some(None));
    // A Close that allows reconnecting, after a broken message.
    let (events, mut seen) = mpsc::unbounded_channel();
    let connection = connected(builder(&server, "/contract").automatic_reconnect()).await;
    connection.on_reconnecting(move |error| events.send(error.map(str::to_owned)).unwrap());
    connection.misbehave().send_bytes("oops\u{1e}").await.unwrap();
    let text = "Server returned an error on close: Connection closed with an error.";
    assert_eq!(within(seen.recv()).await.unwrap().as_deref(), Some(text));
    within(connection.wait_for(HubConnectionState::Connected)).await;
}

#[tokio::test]
async fn a_stop_ends_the_attempts_to_come_back() {
    let server = HubServer::contract().await.unwrap();
    let far = [Duration::from_secs(3600)];
    let connection = connected(builder(&server, "/contract").reconnect_delays(&far)).await;
    connection.misbehave().cut().await.unwrap();
    within(connection.wait_for(HubConnectionState::Reconnecting)).await;
    assert!(matches!(connection.send("Void", ()).await, Err(ClientError::NotConnected)));
    within(connection.stop()).await;
    assert_eq!(connection.state(), HubConnectionState::Disconnected);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = HubServer::contract().await.unwrap();
    let proxy = FaultProxy::bind(server.local_addr()).await.unwrap();
    let url = format!("http://{}/contract", proxy.local_addr());
    let connection = connected(HubConnection::builder(&url).server_timeout(Duration::from_millis(200))).await;
    let mut closed = closed(&connection);
    proxy.black_hole();
    let text = "Server timeout elapsed without receiving a message from the server.";
    assert_eq!(within(closed.recv()).await.unwrap().as_deref(), Some(text));
}

#[tokio::test]
async fn a_connection_stays_up_by_pings_alone() {
    let short = Duration::from_millis(300);
    let ping = Duration::from_millis(50);
    let options = HubOptions { client_timeout_interval: short, keep_alive_interval: ping, ..HubOptions::default() };
    let server = HubServer::builder().contract_hubs(&options).bind("127.0.0.1:0").await.unwrap();
    let quiet = connected(builder(&server, "/contract").keep_alive_interval(Duration::MAX)).await;
    let connection = connected(builder(&server, "/contract").keep_alive_interval(ping).server_timeout(short)).await;
    // The one that only pinged at its start is timed out; by then the other would be as well, if it did not ping.
    let mut ended = closed(&quiet);
    let text = within(ended.recv()).await.unwrap().unwrap();
    assert!(text.contains("Connection closed with an error."), "{text}");
    assert_eq!(connection.invoke::<i32>("Add", (1, 1)).await.unwrap(), 2);
    assert_eq!(connection.state(), HubConnectionState::Connected);
}

#[tokio::test]
async fn tokens_headers_and_old_negotiations_work() {
    let server = HubServer::contract().await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let factory = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Some(jwt::token_for("carol", Duration::from_secs(60))) }
    };
    let connection = connected(builder(&server, "/contract?x=1").access_token(factory).header("X-Test", "yes")).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(connection.invoke::<String>("User", ()).await.unwrap(), "carol");
    assert_eq!(connection.invoke::<String>("Query", ("x",)).await.unwrap(), "1");
    assert_eq!(connection.invoke::<String>("Header", ("x-test",)).await.unwrap(), "yes");
    let old = connected(builder(&server, "/contract").negotiate_version(0)).await;
    assert_eq!(old.invoke::<String>("ConnectionId", ()).await.ok(), old.connection_id());
    let direct = connected(builder(&server, "/contract?user=dave").skip_negotiation()).await;
    assert_eq!(direct.connection_id(), None);
    assert_eq!(direct.invoke::<String>("User", ()).await.unwrap(), "dave");
    let refused = builder(&server, "/hubs/chat").build().unwrap().start().await.unwrap_err();
    assert!(matches!(refused, ClientError::NegotiateStatus { status: 401, .. }), "{refused}");
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let server = HubServer::contract().await.unwrap();
    let missing = builder(&server, "/missing").build().unwrap();
    assert!(matches!(missing.start().await, Err(ClientError::NegotiateStatus { status: 404, .. })));
    assert_eq!(missing.state(), HubConnectionState::Disconnected);
    let only = HubConnection::builder(&server.url("/contract")).transport(Transport::LongPolling).build().unwrap();
    assert!(matches!(only.start().await, Err(ClientError::NoTransport)));
    let binary = HubConnection::builder(&server.url("/contract"))
        .transport(Transport::ServerSentEvents)
        .protocol(HubProtocol::MessagePack);
    assert!(matches!(binary.build().unwrap().start().await, Err(ClientError::NoTransport)));
    let version = builder(&server, "/contract?negotiateVersion=x").build().unwrap();
    let text = "The client requested a non-integer protocol version.";
    assert_eq!(version.start().await.unwrap_err().to_string(), text);
}

#[tokio::test]
async fn redirects_are_followed_to_their_limit() {
    let server = HubServer::contract().await.unwrap();
    let token = jwt::token_for("erin", Duration::from_secs(60));
    let connection = connected(builder(&server, &format!("/contract-redirect?token={token}"))).await;
    assert_eq!(connection.invoke::<String>("User", ()).await.unwrap(), "erin");
    let (url, asked) = endless_redirect().await;
    let circling = HubConnection::builder(&url).build().unwrap();
    assert!(matches!(within(circling.start()).await, Err(ClientError::Redirects)));
    assert_eq!(asked.load(Ordering::Relaxed), 100);
}

/// A server that answers every request with a redirect to itself.
async fn endless_redirect() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hub", listener.local_addr().unwrap());
    let body = format!(r#"{{"url":"{url}"}}"#);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while let Ok(byte) = socket.read_u8().await {
                head.push(byte);
                if head.ends_with(b"\r\n\r\n") {
                    head.clear();
                    counted.fetch_add(1, Ordering::Relaxed);
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        }
    });
    (url, asked)
}

#[tokio::test]
async fn tls_is_spoken_to_servers_that_are_trusted() {
    let authority = CertificateAuthority::new().unwrap();
    let certificate = authority.issue(&["localhost", "127.0.0.1"]).unwrap();
    let server = HubServer::builder()
        .contract_hubs(&HubOptions::default())
        .tls(certificate.server_config().unwrap())
        .bind("127.0.0.1:0")
        .await
        .unwrap();
    let url = format!("https://localhost:{}/contract", server.local_addr().port());
    let trusting = HubConnection::builder(&url).tls(authority.client_config(&["http/1.1"]).unwrap());
    let connection = connected(trusting).await;
    assert_eq!(connection.invoke::<i32>("Add", (1, 1)).await.unwrap(), 2);
    let other = CertificateAuthority::new().unwrap();
    let distrusting = HubConnection::builder(&url).tls(other.client_config(&["http/1.1"]).unwrap()).build().unwrap();
    assert!(matches!(distrusting.start().await, Err(ClientError::Http(_))));
}

#[tokio::test]
async fn frames_can_be_broken_on_purpose() {
    let server = HubServer::contract().await.unwrap();
    let connection = connected(builder(&server, "/contract")).await;
    let fragment = |payload: &'static str, first, last| Frame::Fragment { payload: payload.into(), first, last };
    connection.misbehave().send_frame(fragment("{\"type\":1,\"target\":\"Col", true, false)).await.unwrap();
    connection.misbehave().send_frame(Frame::Ping("p".into())).await.unwrap();
    connection.misbehave().send_frame(fragment("lect\",\"arguments\":[7]}\u{1e}", false, true)).await.unwrap();
    assert_eq!(connection.invoke::<(i64, i64)>("Collected", ()).await.unwrap(), (1, 0));
    let mut closed = closed(&connection);
    connection.misbehave().send_frame(Frame::Text(vec![0xff].into())).await.unwrap();
    let text = within(closed.recv()).await.unwrap().unwrap();
    assert_eq!(text, "WebSocket closed with status code: 1007 (no reason given).");
}
