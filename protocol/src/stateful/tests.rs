use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn call(name: &str) -> Bytes {
    Bytes::from(format!("{{\"type\":1,\"target\":\"{name}\",\"arguments\":[]}}\u{1e}"))
}

fn sequence(number: u64) -> Bytes {
    Bytes::from(format!("{{\"type\":9,\"sequenceId\":{number}}}\u{1e}"))
}

fn ack(number: u64) -> Bytes {
    Bytes::from(format!("{{\"type\":8,\"sequenceId\":{number}}}\u{1e}"))
}

fn server() -> Endpoint {
    Endpoint::new(HubProtocol::Json, Config::server(), at(0))
}

fn send(endpoint: &mut Endpoint, name: &str, now: Duration) {
    endpoint.send(Kind::Counted, call(name), now);
}

fn writes(endpoint: &mut Endpoint, now: Duration) -> Vec<Bytes> {
    core::iter::from_fn(|| endpoint.next_write(now)).collect()
}

/// The trace of signalr-wire §12.6, as the server.
#[test]
fn the_observed_trace_of_a_lost_socket() {
    let mut endpoint = server();
    assert_eq!(endpoint.receive(Kind::Ping, 11, at(5)), Ok(Received::Deliver));
    send(&mut endpoint, "x", at(10));
    assert_eq!(endpoint.receive(Kind::Counted, 50, at(10)), Ok(Received::Deliver));
    assert_eq!(writes(&mut endpoint, at(10)), [call("x")]);
    assert_eq!(endpoint.deadline(), Some(at(1_010)));
    assert_eq!(endpoint.receive(Kind::Counted, 50, at(20)), Ok(Received::Deliver));
    endpoint.lost(at(30));
    assert!(!endpoint.attached());
    send(&mut endpoint, "new", at(40));
    assert_eq!(endpoint.judge_resume(at(50)), Ok(()));
    endpoint.resumed(at(50));
    assert_eq!(writes(&mut endpoint, at(50)), [sequence(1), call("x"), call("new")]);
    assert_eq!(endpoint.receive(Kind::Sequence(1), 30, at(60)), Ok(Received::Consumed));
    assert_eq!(endpoint.receive(Kind::Counted, 50, at(60)), Ok(Received::Duplicate));
    assert_eq!(endpoint.receive(Kind::Counted, 50, at(60)), Ok(Received::Duplicate));
    assert_eq!(endpoint.receive(Kind::Counted, 50, at(60)), Ok(Received::Deliver));
    assert_eq!(endpoint.timer(at(1_010)), None);
    assert_eq!(writes(&mut endpoint, at(1_010)), [ack(3)]);
    assert_eq!((endpoint.resent(), endpoint.duplicates()), (1, 2));
}

/// What stands for an acknowledged message is well-formed and counted.
#[test]
fn a_stub_is_a_completion_of_nothing() {
    for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
        let completion = HubMessage::Completion(crate::message::Completion::void("-"));
        assert_eq!(outbox::stub(protocol), protocol.to_bytes(&completion));
    }
}

/// Rule I2 keeps acknowledged messages; beyond the limit only their numbers.
#[test]
fn i2_a_large_acknowledged_repetition_gives_up_its_bytes() {
    let config = Config { unacknowledged_bytes_max: 1_000, held_bytes_max: 1_000, ..Config::server() };
    let mut endpoint = Endpoint::new(HubProtocol::Json, config, at(0));
    endpoint.receive(Kind::Ping, 11, at(0)).unwrap();
    send(&mut endpoint, &"x".repeat(5_000), at(0));
    writes(&mut endpoint, at(0));
    endpoint.lost(at(1));
    endpoint.resumed(at(1));
    writes(&mut endpoint, at(1));
    endpoint.receive(Kind::Ack(1), 30, at(2)).unwrap();
    assert_eq!(endpoint.buffered_bytes(), outbox::stub(HubProtocol::Json).len());
    endpoint.lost(at(3));
    endpoint.resumed(at(3));
    send(&mut endpoint, "y", at(3));
    let stub = Bytes::from_static(outbox::stub(HubProtocol::Json));
    assert_eq!(writes(&mut endpoint, at(3)), [sequence(1), stub, call("y")]);
}

/// What was given in front of a Close precedes it, what waits for room or for the client's first message too.
#[test]
fn a_close_follows_all_that_was_sent_and_nothing_follows_it() {
    let config = Config { unacknowledged_bytes_max: 10, ..Config::server() };
    let mut endpoint = Endpoint::new(HubProtocol::Json, config, at(0));
    send(&mut endpoint, "x", at(0));
    send(&mut endpoint, "y", at(0));
    let close = Bytes::from_static(b"{\"type\":7}\x1e");
    endpoint.send(Kind::Close, close.clone(), at(0));
    send(&mut endpoint, "z", at(0));
    assert!(!endpoint.has_room());
    assert_eq!(writes(&mut endpoint, at(0)), [call("x"), call("y"), close]);
    assert_eq!(endpoint.judge_resume(at(0)), Err(ResumeRefused::Over));
}

/// Config::ack_after_bytes.
#[test]
fn an_ack_goes_at_once_after_many_bytes() {
    let mut endpoint = server();
    endpoint.receive(Kind::Counted, 32 * 1024 - 1, at(0)).unwrap();
    assert_eq!(writes(&mut endpoint, at(0)), [] as [Bytes; 0]);
    endpoint.receive(Kind::Counted, 1, at(0)).unwrap();
    assert_eq!(writes(&mut endpoint, at(0)), [ack(2)]);
}

/// A Ping that cannot be written is not written twice later, nor after the gap.
#[test]
fn pings_do_not_pile_up() {
    let mut endpoint = server();
    endpoint.receive(Kind::Ping, 11, at(0)).unwrap();
    let ping = Bytes::from_static(HubProtocol::Json.ping());
    for _ in 0..5 {
        endpoint.send(Kind::Ping, ping.clone(), at(0));
    }
    assert_eq!(writes(&mut endpoint, at(0)), core::slice::from_ref(&ping));
    endpoint.lost(at(1));
    endpoint.send(Kind::Ping, ping, at(2));
    endpoint.resumed(at(3));
    assert_eq!(writes(&mut endpoint, at(3)), [sequence(1)]);
}

/// A resume that comes before the timer was looked at.
#[test]
fn a_resume_at_the_end_of_the_window_is_refused() {
    let mut endpoint = server();
    endpoint.lost(at(0));
    assert_eq!(endpoint.judge_resume(at(14_999)), Ok(()));
    assert_eq!(endpoint.judge_resume(at(15_000)), Err(ResumeRefused::Over));
}
