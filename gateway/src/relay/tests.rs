//! A relay between two in-memory streams: verbatim bytes, swallowed Pongs, farewells, bounded memory.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use hubgate_protocol::websocket::{OpCode, write_close, write_frame};

const KEY: Option<[u8; 4]> = Some([9, 8, 7, 6]);

struct Rig {
    client: DuplexStream,
    hub: DuplexStream,
    link: Arc<Link>,
    relay: JoinHandle<Report>,
}

fn rig(between: usize) -> Rig {
    let (client, ours) = duplex(between);
    let (hub, link, relay) = relay_for(Stream::Memory(ours), between);
    Rig { client, hub, link, relay }
}

/// A relay between a client's stream and a hub in memory.
fn relay_for(client: Stream, between: usize) -> (DuplexStream, Arc<Link>, JoinHandle<Report>) {
    let (hub, theirs) = duplex(between);
    let link = Arc::new(Link::default());
    let ends = Ends {
        client,
        client_ahead: Bytes::new(),
        hub: Stream::Memory(theirs),
        hub_ahead: Bytes::new(),
        early: Bytes::new(),
        passes_losses: false,
    };
    let around = Surroundings { link: Arc::clone(&link), clock: Arc::default(), traffic: Arc::default() };
    (hub, link, tokio::spawn(Relay::new(ends, around)))
}

fn frame(fin: bool, opcode: OpCode, mask: Option<[u8; 4]>, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    write_frame(&mut out, fin, opcode, mask, payload);
    out
}

async fn expect(stream: &mut DuplexStream, wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut got)).await.expect("in time").expect("bytes");
    assert_eq!(got, wanted);
}

async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
    let mut got = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut got))
        .await
        .expect("in time")
        .expect("an end");
    got
}

impl Rig {
    /// Shakes hands as a hub client does, so that the relay knows what is spoken.
    async fn shake_hands(&mut self) {
        let request = frame(true, OpCode::Text, KEY, b"{\"protocol\":\"json\",\"version\":1}\x1e");
        self.client.write_all(&request).await.expect("room");
        expect(&mut self.hub, &request).await;
        let response = frame(true, OpCode::Text, None, b"{}\x1e");
        self.hub.write_all(&response).await.expect("room");
        expect(&mut self.client, &response).await;
    }
}

fn close_1001() -> BytesMut {
    let mut out = BytesMut::new();
    write_close(&mut out, None, Some((1001, "")));
    out
}

#[tokio::test]
async fn er_e4_a_lost_hub_is_told_with_a_close_message_and_1000() {
    let mut rig = rig(4096);
    rig.shake_hands().await;
    drop(rig.hub);
    let mut wanted = frame(true, OpCode::Text, None, b"{\"type\":7,\"allowReconnect\":true}\x1e").to_vec();
    wanted.extend_from_slice(&[0x88, 2, 0x03, 0xE8]);
    assert_eq!(rest(&mut rig.client).await, wanted);
    drop(rig.client);
    let report = rig.relay.await.expect("a report");
    assert_eq!((report.outcome, report.spoken), (Outcome::HubLost, Spoken::Json));
}

#[tokio::test]
async fn er_e4_between_fragments_and_before_the_handshake_only_1001() {
    let mut before = rig(4096);
    drop(before.hub);
    assert_eq!(rest(&mut before.client).await, close_1001());

    let mut between = rig(4096);
    between.shake_hands().await;
    let first = frame(false, OpCode::Text, None, b"{\"type\"");
    between.hub.write_all(&first).await.expect("room");
    expect(&mut between.client, &first).await;
    drop(between.hub);
    assert_eq!(rest(&mut between.client).await, close_1001());
}

#[tokio::test]
async fn er_e4_inside_a_frame_nothing_is_said() {
    let mut rig = rig(4096);
    rig.shake_hands().await;
    let whole = frame(true, OpCode::Text, None, b"{\"type\":6}\x1e");
    rig.hub.write_all(&whole[..5]).await.expect("room");
    expect(&mut rig.client, &whole[..5]).await;
    drop(rig.hub);
    assert_eq!(rest(&mut rig.client).await, b"", "half a frame, then the cut");
    assert_eq!(rig.relay.await.expect("a report").outcome, Outcome::HubLost);
}

#[tokio::test]
async fn er_e4_no_second_close_behind_the_hubs_own() {
    let mut rig = rig(4096);
    rig.shake_hands().await;
    let close = frame(true, OpCode::Text, None, b"{\"type\":7,\"error\":\"x\"}\x1e");
    rig.hub.write_all(&close).await.expect("room");
    expect(&mut rig.client, &close).await;
    drop(rig.hub);
    assert_eq!(rest(&mut rig.client).await, close_1001());
}

#[tokio::test]
async fn er_e4_a_drain_waits_for_the_end_of_a_message() {
    let mut rig = rig(4096);
    rig.shake_hands().await;
    let whole = frame(true, OpCode::Text, None, b"{\"type\":6}\x1e");
    rig.hub.write_all(&whole[..5]).await.expect("room");
    expect(&mut rig.client, &whole[..5]).await;
    rig.link.order(Orders::DRAIN);
    rig.hub.write_all(&whole[5..]).await.expect("room");
    expect(&mut rig.client, &whole[5..]).await;
    let told = rest(&mut rig.client).await;
    assert!(told.ends_with(&[0x88, 2, 0x03, 0xE8]), "{told:?}");
    let towards_hub = rest(&mut rig.hub);
    drop(rig.client);
    assert_eq!(rig.relay.await.expect("a report").outcome, Outcome::Drained);
    assert_eq!(towards_hub.await.first(), Some(&0x88), "the hub gets a close frame");
}

#[tokio::test]
async fn a_close_frame_goes_through_and_is_answered_by_the_hub() {
    let mut rig = rig(4096);
    rig.shake_hands().await;
    let mut close = BytesMut::new();
    write_close(&mut close, KEY, None);
    rig.client.write_all(&close).await.expect("room");
    expect(&mut rig.hub, &close).await;
    let mut answer = BytesMut::new();
    write_close(&mut answer, None, Some((1000, "")));
    rig.hub.write_all(&answer).await.expect("room");
    drop(rig.hub);
    assert_eq!(rest(&mut rig.client).await, answer);
    assert_eq!(rig.relay.await.expect("a report").outcome, Outcome::ClientClosed);
}

/// A client over TCP that has closed and got the hub's close frame, while the hub's connection is still open.
async fn closed_by_the_client() -> (DuplexStream, Arc<Link>, JoinHandle<Report>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    let mut client = client.expect("a connection");
    let (mut hub, link, relay) = relay_for(Stream::Tcp(accepted.expect("a connection").0), 4096);
    let mut close = BytesMut::new();
    write_close(&mut close, KEY, None);
    client.write_all(&close).await.expect("room");
    expect(&mut hub, &close).await;
    let mut answer = BytesMut::new();
    write_close(&mut answer, None, Some((1000, "")));
    hub.write_all(&answer).await.expect("room");
    let mut got = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut got)).await;
    ended.expect("the hub is not waited for").expect("an end, not a reset");
    assert_eq!(got, answer);
    (hub, link, relay)
}

#[tokio::test]
async fn after_both_close_frames_the_client_is_closed_and_the_hub_waited_for() {
    let (hub, _link, relay) = closed_by_the_client().await;
    assert!(!relay.is_finished());
    drop(hub);
    assert_eq!(relay.await.expect("a report").outcome, Outcome::ClientClosed);
}

#[tokio::test]
async fn a_hub_that_does_not_end_after_both_close_frames_is_left_at_the_deadline() {
    let (_hub, link, relay) = closed_by_the_client().await;
    assert_eq!(link.deadline.load(Relaxed), LINGER_SECONDS + 1);
    link.order(Orders::DEADLINE);
    assert_eq!(relay.await.expect("a report").outcome, Outcome::ClientClosed);
}

#[tokio::test]
async fn er_d8_our_pings_go_out_and_their_pongs_are_swallowed() {
    let mut rig = rig(4096);
    rig.shake_hands().await;
    rig.link.order(Orders::PING);
    let mut ping = [0; 10];
    rig.client.read_exact(&mut ping).await.expect("a ping");
    assert_eq!(ping[..2], [0x89, 8]);
    let pong = frame(true, OpCode::Pong, KEY, &ping[2..]);
    let foreign = frame(true, OpCode::Pong, KEY, b"foreign!");
    let message = frame(true, OpCode::Text, KEY, b"x\x1e");
    for byte in [&foreign[..], &pong, &message].concat() {
        rig.client.write_all(&[byte]).await.expect("room");
    }
    let mut to_hub = vec![0; 14 + foreign.len() + message.len()];
    rig.hub.read_exact(&mut to_hub).await.expect("bytes");
    assert_eq!(to_hub[..2], [0x89, 0x88], "the hub's own ping, masked");
    assert_eq!(to_hub[14..], [&foreign[..], &message].concat(), "only our Pong is gone");
}

#[tokio::test]
async fn er_d8_the_pongs_of_several_pings_are_swallowed_too() {
    for answered in [&[0, 1][..], &[1]] {
        let mut rig = rig(4096);
        rig.shake_hands().await;
        let mut pings = Vec::new();
        for _ in 0..2 {
            rig.link.order(Orders::PING);
            let mut ping = [0; 10];
            rig.client.read_exact(&mut ping).await.expect("a ping");
            pings.push(ping);
        }
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for number in answered {
            let between = frame(true, OpCode::Text, KEY, b"between\x1e");
            bytes.extend([&between[..], &frame(true, OpCode::Pong, KEY, &pings[*number][2..])].concat());
            expected.extend(between);
        }
        // Behind the last one nobody looks into frames any more: this one is the client's own affair.
        let own = frame(true, OpCode::Pong, KEY, &pings[0][2..]);
        bytes.extend(&own);
        expected.extend(own);
        for byte in bytes {
            rig.client.write_all(&[byte]).await.expect("room");
        }
        let mut to_hub = vec![0; 2 * 14 + expected.len()];
        rig.hub.read_exact(&mut to_hub).await.expect("bytes");
        assert_eq!(to_hub[2 * 14..], expected, "{answered:?}");
    }
}

#[tokio::test]
async fn er_d8_no_ping_is_sent_whose_pong_could_not_be_told() {
    let mut rig = rig(4096);
    rig.shake_hands().await;
    // The client is inside a frame: what comes from it cannot be watched, so nobody is pinged.
    let message = frame(true, OpCode::Text, KEY, b"torn\x1e");
    let (head, tail) = message.split_at(8);
    rig.client.write_all(head).await.expect("room");
    let mut first = vec![0; head.len()];
    rig.hub.read_exact(&mut first).await.expect("bytes");
    rig.link.order(Orders::PING);
    rig.client.write_all(tail).await.expect("room");
    let mut rest = vec![0; tail.len()];
    rig.hub.read_exact(&mut rest).await.expect("bytes");
    assert_eq!([first, rest].concat(), message, "no Ping inside the client's frame either");
    let answer = frame(true, OpCode::Text, None, b"whole\x1e");
    rig.hub.write_all(&answer).await.expect("room");
    let mut got = vec![0; answer.len()];
    rig.client.read_exact(&mut got).await.expect("bytes");
    assert_eq!(got, answer, "and no Ping to the client");
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_other_side() {
    let mut rig = rig(1024);
    rig.shake_hands().await;
    let flood = frame(true, OpCode::Text, None, &vec![b'x'; 4 << 20]);
    let written = tokio::time::timeout(Duration::from_millis(200), rig.hub.write_all(&flood)).await;
    assert!(written.is_err(), "4 MiB found room though nobody reads");
    assert!(rig.link.held_bytes.load(Relaxed) <= 64 * 1024, "one read is held, not more");
    assert!(rig.link.stuck_since.load(Relaxed) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn bytes_pass_verbatim_in_every_split(
        up in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        down in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        step in 1_usize..64,
        between in 1_usize..512,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let Rig { client, hub, relay, .. } = rig(between);
            let wire = |messages: &[Vec<u8>], mask| {
                messages.iter().flat_map(|m| frame(true, OpCode::Binary, mask, m).to_vec()).collect::<Vec<u8>>()
            };
            let (up, down) = (wire(&up, KEY), wire(&down, None));
            let (mut client_reads, mut client_writes) = tokio::io::split(client);
            let (mut hub_reads, mut hub_writes) = tokio::io::split(hub);
            let (mut got_up, mut got_down) = (vec![0; up.len()], vec![0; down.len()]);
            let (_, _, a, b) = tokio::join!(
                async { for piece in up.chunks(step) { client_writes.write_all(piece).await.expect("room"); } },
                async { for piece in down.chunks(step) { hub_writes.write_all(piece).await.expect("room"); } },
                hub_reads.read_exact(&mut got_up),
                client_reads.read_exact(&mut got_down),
            );
            a.expect("all up");
            b.expect("all down");
            assert_eq!(got_up, up);
            assert_eq!(got_down, down);
            relay.abort();
        });
    }
}
