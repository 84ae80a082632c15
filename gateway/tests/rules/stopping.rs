//! Stopping in good order (rule F4, the second half of E4).

use std::time::{Duration, Instant};

use hubgate_fixtures::HubServer;

use crate::support::hub::{FAREWELL, HANDSHAKE, SHAKEN, connect};
use crate::support::{Backend, Ended, Frame, Front, Setup, Wire, negotiate, soon, web_socket};

/// A WebSocket client and its scripted hub, shaken hands.
async fn shaken(front: &Front, backend: &Backend) -> (Wire, Wire) {
    let mut client = web_socket(front, &format!("/chat?id={}", negotiate(front, "/chat").await.token)).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    client.send_text(HANDSHAKE).await;
    hub.frame().await;
    hub.send_text(SHAKEN).await;
    assert_eq!(client.frame().await, Frame::text(SHAKEN));
    (client, hub)
}

async fn event(stream: &mut Wire) -> String {
    let mut event = Vec::new();
    while !event.ends_with(b"\r\n\r\n") {
        event.extend(stream.chunk().await.unwrap());
    }
    String::from_utf8(event).unwrap()
}

#[tokio::test]
async fn er_f4_every_transport_is_told_within_five_seconds() {
    let hub = HubServer::contract().await.unwrap();
    let all = "transports = [\"WebSockets\", \"ServerSentEvents\", \"LongPolling\"]";
    let front = Setup::new(&[hub.local_addr()]).route(all).start().await;
    let mut client = connect(&front, "/contract").await;
    let mut opaque = web_socket(&front, "/ws/echo").await.unwrap();

    let target = format!("/contract?id={}", negotiate(&front, "/contract").await.token);
    let (_, mut stream) = front.event_stream(&target).await;
    assert_eq!(stream.chunk().await.unwrap(), b":\r\n");
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    assert_eq!(event(&mut stream).await, format!("data: {SHAKEN}\r\n\r\n"));

    let polled = format!("/contract?id={}", negotiate(&front, "/contract").await.token);
    assert_eq!(front.get(&polled).await.status, 200);
    assert_eq!(front.post(&polled, HANDSHAKE).await.status, 200);
    assert_eq!(front.get(&polled).await.text(), SHAKEN);
    let mut poll = front.connect().await;
    poll.send(format!("GET {polled} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;

    let started = Instant::now();
    let stopping = tokio::spawn(front.gateway.stop());
    assert_eq!(client.frame().await, Frame::text(FAREWELL));
    assert_eq!(client.frame().await, Frame::close(1000));
    client.send_frame(&Frame::close(1000)).await;
    client.ended_silently().await;
    assert_eq!(opaque.frame().await, Frame::close(1001));
    assert_eq!(event(&mut stream).await, format!("data: {FAREWELL}\r\n\r\n"));
    assert_eq!(stream.chunk().await, None, "the body ends properly");
    assert_eq!(poll.answer().await.text(), FAREWELL);
    assert_eq!(poll.request(&format!("GET {polled}"), "").await.status, 204, "polls are served meanwhile");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    soon("the gateway to stop", stopping).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(tokio::net::TcpStream::connect(front.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn er_f4_without_connections_a_stop_is_quick() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let started = Instant::now();
    soon("the gateway to stop", front.gateway.stop()).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn er_f4_listeners_accept_during_the_shutdown_delay() {
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address]).more("[timeouts]\nshutdown_delay = \"700ms\"");
    let front = setup.start().await;
    let (address, stopping) = (front.address, tokio::spawn(front.gateway.stop()));
    let mut wire = Wire::connect(address).await;
    assert_eq!(wire.request("GET /x", "").await.status, 404, "the backend's answer");
    soon("the gateway to stop", stopping).await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn er_e4_a_drain_waits_for_the_end_of_a_message() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (mut client, mut hub) = shaken(&front, &backend).await;
    hub.send_frame(&Frame { fin: false, ..Frame::text("{\"type\"") }).await;
    assert!(!client.frame().await.fin);
    let stopping = tokio::spawn(front.gateway.stop());
    hub.send_frame(&Frame { fin: true, opcode: 0, payload: b":6}\x1e".to_vec() }).await;
    assert_eq!(client.frame().await.payload, b":6}\x1e");
    assert_eq!(client.frame().await, Frame::text(FAREWELL));
    assert_eq!(client.frame().await, Frame::close(1000));
    assert_eq!(hub.frame().await, Frame::close(1001), "the hub is told too");
    client.send_frame(&Frame::close(1000)).await;
    soon("the gateway to stop", stopping).await.unwrap();
}

#[tokio::test]
async fn er_e4_a_drain_does_not_wait_for_ever() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let (mut torn, mut torn_hub) = shaken(&front, &backend).await;
    let (mut cut, mut cut_hub) = shaken(&front, &backend).await;
    torn_hub.send_frame(&Frame { fin: false, ..Frame::text("{\"type\"") }).await;
    cut_hub.send([0x81, 10, b'a']).await;
    assert!(!torn.frame().await.fin);
    assert_eq!(cut.bytes(3).await, [0x81, 10, b'a']);
    let started = Instant::now();
    let stopping = tokio::spawn(front.gateway.stop());
    assert_eq!(torn.frame().await, Frame::close(1001));
    assert_eq!(cut.ended_silently().await, Ended::Reset);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop((torn, torn_hub));
    soon("the gateway to stop", stopping).await.unwrap();
}

#[tokio::test]
async fn er_f4_readiness_ends_at_once_and_health_does_not() {
    let backend = Backend::hub().await;
    let tables = "[timeouts]\nshutdown_delay = \"1s\"\n[admin]\naddress = \"127.0.0.1:0\"";
    let front = Setup::new(&[backend.address]).more(tables).start().await;
    let (address, admin) = (front.address, front.gateway.admin_address().unwrap());
    let ask = async |path: &str| Wire::connect(admin).await.request(&format!("GET {path}"), "").await.status;
    assert_eq!((ask("/readyz").await, ask("/healthz").await), (200, 200));
    let stopping = tokio::spawn(front.gateway.stop());
    crate::support::until("readiness to end", async || ask("/readyz").await == 503).await;
    assert_eq!(ask("/healthz").await, 200);
    assert_eq!(Wire::connect(address).await.request("GET /x", "").await.status, 404, "clients are still served");
    soon("the gateway to stop", stopping).await.unwrap();
}

#[tokio::test]
async fn er_f4_a_crowd_is_told_at_a_measured_pace() {
    const CROWD: usize = 400;
    let hub = HubServer::contract().await.unwrap();
    let front = Setup::new(&[hub.local_addr()]).start().await;
    let (closed, mut closes) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..CROWD {
        let mut client = connect(&front, "/contract").await;
        let closed = closed.clone();
        tokio::spawn(async move {
            assert_eq!(client.frame().await, Frame::text(FAREWELL));
            closed.send(Instant::now()).unwrap();
            assert_eq!(client.frame().await, Frame::close(1000));
            client.send_frame(&Frame::close(1000)).await;
            client.ended_silently().await;
        });
    }
    let stopping = tokio::spawn(front.gateway.stop());
    let mut times = Vec::new();
    while times.len() < CROWD {
        times.push(soon("a Close", closes.recv()).await.unwrap());
    }
    times.sort_unstable();
    // Fifty at a time, 2 ms for each, half of that at the least: the eighth group comes after seven pauses.
    let spread = times[CROWD - 1] - times[0];
    assert!(spread >= Duration::from_millis(300), "{spread:?}");
    soon("the gateway to stop", stopping).await.unwrap();
}
