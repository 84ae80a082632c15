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
