//! Long polls whose answers are lost, and what stands between a client and the loss of its messages (`er_beyond_…`: the
//! part of the edge that no client knows of).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::hub::{HANDSHAKE, SHAKEN};
use crate::support::wire::request_bytes;
use crate::support::{Answer, Backend, Frame, Front, Setup, Wire, negotiate, soon, until};

/// A hub message of about `len` bytes.
fn message(number: usize, len: usize) -> String {
    format!("{{\"type\":1,\"target\":\"a\",\"arguments\":[{number},\"{}\"]}}\u{1e}", "x".repeat(len))
}

/// A long-polling client and its hub.
struct Rig {
    front: Front,
    _backend: Backend,
    hub: Wire,
    target: String,
    stamp: u128,
}

impl Rig {
    /// Polls to where the handshake is done.
    async fn new() -> Self {
        Self::of(|setup| setup).await
    }

    async fn of(settings: impl FnOnce(Setup) -> Setup) -> Self {
        let backend = Backend::hub().await;
        let front = settings(Setup::new(&[backend.address]).more("[admin]\naddress = \"127.0.0.1:0\"")).start().await;
        let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert_eq!(front.get(&format!("{target}&_={stamp}")).await.status, 200);
        let (_, mut hub) = backend.socket().await;
        assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
        assert_eq!(hub.frame().await, Frame::text(HANDSHAKE));
        hub.send_text(SHAKEN).await;
        let mut rig = Self { front, _backend: backend, hub, target, stamp };
        assert_eq!(rig.polled().await.text(), SHAKEN);
        rig
    }

    /// The URL of the next poll.
    fn next(&mut self) -> String {
        self.stamp += 1;
        format!("{}&_={}", self.target, self.stamp)
    }

    /// One more poll, on a connection of its own.
    async fn polled(&mut self) -> Answer {
        let target = self.next();
        self.front.get(&target).await
    }

    /// Sends a poll and does not read its answer; it is pending when this is done.
    async fn pending(&self, target: &str) -> Wire {
        let mut wire = self.front.connect().await;
        wire.send(request_bytes(&format!("GET {target}"), b"")).await;
        wire
    }

    /// A line of the metrics.
    async fn metric(&self, line: &str) -> usize {
        let mut admin = Wire::connect(self.front.gateway.admin_address().unwrap()).await;
        let text = admin.request("GET /metrics", "").await.text().to_owned();
        let found = text.lines().find_map(|other| other.strip_prefix(line));
        found.unwrap_or_else(|| panic!("{line}\n{text}")).trim().parse().unwrap()
    }

    async fn rescued(&self, how: &str) -> usize {
        self.metric(&format!("hubgate_polls_rescued_total{{route=\"app\",how=\"{how}\"}}")).await
    }
}

#[tokio::test]
async fn er_beyond_a_poll_that_was_cut_costs_nothing() {
    let mut rig = Rig::new().await;
    for round in 0..50 {
        let target = rig.next();
        let cut = rig.pending(&target).await;
        // At the very moment of the cut, the hub speaks.
        rig.hub.send_text(message(round, 10)).await;
        if round % 2 == 0 { cut.reset() } else { drop(cut) }
    }
    // What was written to a connection that had just been cut is asked for again by whoever cares, with the same URL. This
    // client does not; all else must be there in order, and once.
    let mut got = String::new();
    while !got.contains("[49,") {
        got += rig.polled().await.text();
    }
    let numbers: Vec<usize> = got
        .split_terminator('\u{1e}')
        .map(|message| serde_json::from_str::<serde_json::Value>(message).unwrap()["arguments"][0].as_u64().unwrap())
        .map(|number| usize::try_from(number).unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[tokio::test]
async fn er_beyond_an_answer_that_could_not_be_handed_over_waits_again_before_what_came_later() {
    let mut rig = Rig::of(|setup| setup.top("[limits]\nwaiting_bytes_max = \"64 KiB\"")).await;
    // More than any socket takes while its client does not read.
    let long = message(1, 12_000_000);
    let target = rig.next();
    let stuck = rig.pending(&target).await;
    rig.hub.send_text(&long).await;
    rig.hub.send_text(message(2, 10)).await;
    until("the answer to be on its way", async || stuck.tcp().peek(&mut [0; 64]).await.unwrap() > 0).await;
    // The next poll waits for what becomes of the last answer.
    let target = rig.next();
    let mut wire = rig.pending(&target).await;
    stuck.reset();
    let answer = wire.answer().await;
    let mut rest = answer.text().strip_prefix(&*long).unwrap().to_owned();
    while rest.is_empty() {
        rest = rig.polled().await.text().to_owned();
    }
    assert_eq!(rest, message(2, 10));
    assert_eq!((rig.rescued("returned").await, rig.rescued("repeated").await), (1, 0));
}

#[tokio::test]
async fn er_beyond_a_poll_that_comes_again_gets_the_same_answer_and_not_what_came_later() {
    for broken in [true, false] {
        let mut rig = Rig::new().await;
        let target = rig.next();
        let lost = rig.pending(&target).await;
        if !broken {
            // A client that has waited so long would have another stamp for another poll.
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
        rig.hub.send_text(message(1, 10)).await;
        until("the answer", async || lost.tcp().peek(&mut [0; 512]).await.unwrap() > 100).await;
        // A proxy may hold the connection and have lost its own client.
        let kept = if broken {
            lost.reset();
            None
        } else {
            Some(lost)
        };
        rig.hub.send_text(message(2, 10)).await;
        let again = rig.front.get(&target).await;
        assert_eq!((again.status, again.text()), (200, message(1, 10).as_str()), "{broken}");
        let again = if broken { None } else { Some(rig.front.get(&target).await) };
        assert!(again.is_none_or(|again| again.text() == message(1, 10)), "as often as it is lost");
        assert_eq!(rig.polled().await.text(), message(2, 10), "{broken}");
        assert_eq!((rig.rescued("returned").await, rig.rescued("repeated").await > 0), (0, true));
        drop(kept);
    }
}

#[tokio::test]
async fn er_beyond_what_a_client_can_have_read_is_not_repeated() {
    let mut rig = Rig::new().await;
    // A fast client's next poll bears the same time: on the same connection, on another one while the first is open, and
    // where each poll has a connection of its own that ends in good order.
    let target = rig.next();
    let mut one = rig.front.connect().await;
    rig.hub.send_text(message(1, 10)).await;
    assert_eq!(one.request(&format!("GET {target}"), "").await.text(), message(1, 10));
    rig.hub.send_text(message(2, 10)).await;
    assert_eq!(one.request(&format!("GET {target}"), "").await.text(), message(2, 10));
    rig.hub.send_text(message(3, 10)).await;
    assert_eq!(rig.front.get(&target).await.text(), message(3, 10));
    rig.hub.send_text(message(4, 10)).await;
    assert_eq!(rig.front.get(&target).await.text(), message(4, 10));
    // .NET sends no time: nothing tells its next poll from a repetition, broken connection or not.
    let plain = rig.target.clone();
    let mut net = rig.front.connect().await;
    rig.hub.send_text(message(5, 10)).await;
    assert_eq!(net.request(&format!("GET {plain}"), "").await.text(), message(5, 10));
    net.reset();
    rig.hub.send_text(message(6, 10)).await;
    assert_eq!(rig.front.get(&plain).await.text(), message(6, 10));
    assert_eq!((rig.rescued("returned").await, rig.rescued("repeated").await), (0, 0));
}

#[tokio::test]
async fn er_beyond_a_stamp_that_never_changes_says_nothing() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let target = format!("/chat?id={}&_=0", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let (_, mut hub) = backend.socket().await;
    assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
    assert_eq!(hub.frame().await, Frame::text(HANDSHAKE));
    hub.send_text(SHAKEN).await;
    assert_eq!(front.get(&target).await.text(), SHAKEN);
    for number in 0..3 {
        let mut wire = front.connect().await;
        wire.send(request_bytes(&format!("GET {target}"), b"")).await;
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        hub.send_text(message(number, 10)).await;
        assert_eq!(wire.answer().await.text(), message(number, 10));
        wire.reset();
    }
}

#[tokio::test]
async fn er_beyond_a_first_poll_that_comes_again_is_answered_at_once() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    for stamp in ["&_=1763736000000", ""] {
        let target = format!("/chat?id={}{stamp}", negotiate(&front, "/chat").await.token);
        let mut lost = front.connect().await;
        lost.send(request_bytes(&format!("GET {target}"), b"")).await;
        let (_, mut hub) = backend.socket().await;
        until("the answer", async || lost.tcp().peek(&mut [0; 64]).await.unwrap() > 0).await;
        lost.reset();
        // The next poll would wait for the hub, which waits for the handshake, which waits for this answer.
        let again = front.get(&target).await;
        assert_eq!((again.status, again.text()), (200, ""), "{stamp}");
        assert_eq!(again.header("content-type"), Some("application/octet-stream"), "not that of a time-out");
        assert_eq!(front.post(&target, HANDSHAKE).await.status, 200);
        assert_eq!(hub.frame().await, Frame::text(HANDSHAKE));
        hub.send_text(SHAKEN).await;
        assert_eq!(front.get(&target).await.text(), SHAKEN, "{stamp}");
    }
}

#[tokio::test]
async fn er_beyond_a_kept_answer_counts_and_goes_with_the_next_poll() {
    let mut rig = Rig::new().await;
    let buffered = "hubgate_buffered_bytes";
    rig.hub.send_text(message(1, 50_000)).await;
    assert_eq!(rig.polled().await.text(), message(1, 50_000));
    until("the kept answer to be counted", async || rig.metric(buffered).await >= 50_000).await;
    let target = rig.next();
    let pending = rig.pending(&target).await;
    until("it to be dropped", async || rig.metric(buffered).await == 0).await;
    drop(pending);
}

#[tokio::test]
async fn er_beyond_a_gap_between_polls_costs_nothing() {
    let mut rig = Rig::new().await;
    for number in 0..100 {
        rig.hub.send_text(message(number, 10)).await;
    }
    let expected: String = (0..100).map(|number| message(number, 10)).collect();
    let mut got = String::new();
    while got.len() < expected.len() {
        got += rig.polled().await.text();
    }
    assert_eq!(got, expected);
}

#[tokio::test]
async fn er_beyond_over_http2_a_stream_that_was_reset_gives_its_messages_back() {
    let mut rig = Rig::new().await;
    let tcp = tokio::net::TcpStream::connect(rig.front.address).await.unwrap();
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(1000).handshake::<_, bytes::Bytes>(tcp).await.unwrap();
    tokio::spawn(connection);
    let mut client = soon("HTTP/2", client.ready()).await.unwrap();
    let long = message(1, 200_000);
    rig.hub.send_text(&long).await;
    let mut poll = |target: String| {
        let request = http::Request::get(format!("http://app.test{target}")).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    // Its window takes the answer's first bytes only.
    let stalled = soon("an answer", poll(rig.next())).await.unwrap();
    assert_eq!(stalled.status(), 200);
    let next = poll(rig.next());
    drop(stalled);
    let mut body = soon("an answer", next).await.unwrap().into_body();
    let mut got = Vec::new();
    while let Some(data) = soon("data", body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        got.extend(data);
    }
    assert_eq!(got, long.as_bytes());
    rig.hub.send_text(message(2, 10)).await;
    let mut body = soon("an answer", poll(rig.next())).await.unwrap().into_body();
    assert_eq!(soon("data", body.data()).await.unwrap().unwrap(), message(2, 10));
    assert_eq!((rig.rescued("returned").await, rig.rescued("repeated").await), (1, 0));
}
