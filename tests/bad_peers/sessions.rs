//! WebTransport: sessions that come and go in thousands, handshakes that nobody finishes, datagrams that mean nothing
//! (rule H5).

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::net::UdpSocket;
use web_transport_quinn as wt;

use crate::flood;
use crate::rig::{Rig, Settings};
use crate::wire::{handshake, json_text, request};

/// Sessions that come and go; `HUBGATE_SESSIONS` says otherwise.
const SESSIONS: usize = 1_000;
/// The gateway's answer to the handshake.
const SHAKEN: &[u8] = b"{}\x1e";

fn sessions() -> usize {
    std::env::var("HUBGATE_SESSIONS").ok().map_or(SESSIONS, |text| text.parse().expect("a number"))
}

fn client() -> Rc<wt::Client> {
    Rc::new(wt::ClientBuilder::new().dangerous().with_no_certificate_verification().expect("a client"))
}

/// Negotiates for WebTransport.
async fn target(address: SocketAddr) -> String {
    let answer = request(address, "POST", "/contract/negotiate?negotiateVersion=1&webTransport=1").await;
    format!("/contract?id={}", json_text(&answer.body, "connectionToken"))
}

fn connect(port: u16, target: &str) -> wt::proto::ConnectRequest {
    wt::proto::ConnectRequest::new(format!("https://127.0.0.1:{port}{target}").parse::<url::Url>().expect("a URL"))
}

/// A session that has shaken hands.
async fn shaken(client: &wt::Client, address: SocketAddr, port: u16) -> (wt::Session, wt::SendStream, wt::RecvStream) {
    let session = client.connect(connect(port, &target(address).await)).await.expect("a session");
    let (mut sending, mut receiving) = session.open_bi().await.expect("a stream");
    sending.write_all(handshake().as_bytes()).await.expect("room");
    let mut answer = [0; SHAKEN.len()];
    receiving.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, SHAKEN);
    (session, sending, receiving)
}

/// Connections that the hub has now, as it counts them itself.
async fn active(hub: SocketAddr) -> u64 {
    let counts = request(hub, "GET", "/api/counts").await;
    let text = counts.body;
    let number = text.split("\"active\":").nth(1).expect("a count");
    number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

#[tokio::test]
async fn er_h5_sessions_that_come_and_go_leave_nothing_behind() {
    let mut rig = Rig::start(Settings::NONE).await;
    let (address, port, straight) = (rig.address, rig.address.port(), rig.straight);
    let clients: Vec<_> = (0..8).map(|_| client()).collect();
    let sessions_of = |count: usize, clients: Vec<Rc<wt::Client>>| {
        flood(count, 50, move |number| {
            let client = Rc::clone(&clients[number % clients.len()]);
            async move {
                let (session, mut sending, _receiving) = shaken(&client, address, port).await;
                match number % 4 {
                    0 => session.close(0, b""),
                    1 => session.close(4001, b"enough"),
                    2 => sending.finish().expect("open"),
                    _ => sending.reset(1).expect("open"),
                }
                session.closed().await;
            }
        })
    };
    sessions_of(200, clients.clone()).await;
    rig.is_warm();
    sessions_of(sessions(), clients).await;
    // The hub is told of each end.
    let patience = tokio::time::timeout(crate::PATIENCE, async {
        while active(straight).await > 0 {
            tokio::task::yield_now().await;
        }
    });
    patience.await.expect("the hub keeps no connection");
    rig.finish("WebTransport sessions that come and go", sessions()).await;
}

#[tokio::test]
async fn er_h5_handshakes_that_nobody_finishes_are_bounded() {
    let gateway = "timeouts.tls_handshake_timeout = '1 s'\nlimits.quic_retry_above = 50";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let (address, port) = (rig.address, rig.address.port());
    // First datagrams of real clients, caught before anybody answered them, and sent from addresses that answer nothing.
    let caller = client();
    let answered = Rc::new(Cell::new(0));
    flood(2_000, 20, |number| {
        let (caller, answered) = (Rc::clone(&caller), Rc::clone(&answered));
        async move {
            let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
            let mut space = [0; 2_048];
            let calling = caller.connect(connect(sink.local_addr().expect("an address").port(), "/contract"));
            let len = tokio::select! {
                _ = calling => panic!("nobody answers"),
                received = sink.recv(&mut space) => received.expect("a datagram"),
            };
            let from = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
            for _ in 0..5 {
                from.send_to(&space[..len], (Ipv4Addr::LOCALHOST, port)).await.expect("sent");
            }
            if number % 100 == 0 {
                let mut answer = [0; 2_048];
                from.recv(&mut answer).await.expect("an answer");
                answered.set(answered.get() + 1);
            }
        }
    })
    .await;
    assert_eq!(answered.get(), 20, "each is answered: by a handshake or by a Retry");
    let others = client();
    shaken(&others, address, port).await;
    rig.finish("QUIC handshakes that nobody finishes", 10_000).await;
}

#[tokio::test]
async fn er_h5_datagrams_that_mean_nothing_cost_nothing() {
    let rig = Rig::start(Settings::NONE).await;
    let (address, port) = (rig.address, rig.address.port());
    let others = client();
    let (session, mut sending, mut receiving) = shaken(&others, address, port).await;
    let from = Rc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket"));
    flood(10_000, 100, |number| {
        let from = Rc::clone(&from);
        async move {
            // Short ones, long headers of no version we know, Initials of noise.
            let mut datagram = vec![number as u8; 40 + number % 1_300];
            datagram[0] = [0x40, 0xC0, 0xFF, 0x00][number % 4];
            datagram[1..5].copy_from_slice(&[[0, 0, 0, 1], [0, 0, 0, 0], [9, 9, 9, 9]][number % 3]);
            from.send_to(&datagram, (Ipv4Addr::LOCALHOST, port)).await.expect("sent");
        }
    })
    .await;
    sending
        .write_all(b"{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[1]}\x1e")
        .await
        .expect("room");
    let expected = b"{\"type\":3,\"invocationId\":\"1\",\"result\":1}\x1e";
    let mut answer = vec![0; expected.len()];
    receiving.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, expected, "the session beside it goes on");
    session.close(0, b"");
    rig.finish("datagrams that mean nothing", 10_000).await;
}

#[tokio::test]
async fn er_h5_sessions_that_say_nothing_are_ended() {
    let gateway = "timeouts.first_byte_timeout = '300 ms'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let (address, port) = (rig.address, rig.address.port());
    let caller = client();
    flood(500, 50, |_| {
        let caller = Rc::clone(&caller);
        async move {
            let session = caller.connect(connect(port, &target(address).await)).await.expect("a session");
            let end = session.closed().await;
            assert!(
                matches!(&end, wt::SessionError::WebTransportError(wt::WebTransportError::Closed(1008, _))),
                "{end:?}"
            );
        }
    })
    .await;
    rig.finish("WebTransport sessions that say nothing", 500).await;
}
