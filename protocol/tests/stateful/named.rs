//! The reference's defects (signalr-wire §12.9) and issues by name: histories that it fails and this must not.

use core::time::Duration;

use bytes::Bytes;
use hubgate_protocol::HubProtocol;
use hubgate_protocol::stateful::{Config, Endpoint, Error, Kind, Received, ResumeRefused, Timed, classify};

use super::history::{self, ClientKind, Op, Plan, Seen};

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn call(number: usize, len: usize) -> Bytes {
    Bytes::from(format!("{{\"type\":1,\"target\":\"{}\",\"arguments\":[{number}]}}\u{1e}", "x".repeat(len)))
}

fn sequence(number: u64) -> Bytes {
    Bytes::from(format!("{{\"type\":9,\"sequenceId\":{number}}}\u{1e}"))
}

fn endpoint(config: Config) -> Endpoint {
    let mut endpoint = Endpoint::new(HubProtocol::Json, config, at(0));
    endpoint.receive(Kind::Ping, 11, at(0)).unwrap();
    endpoint
}

fn server() -> Endpoint {
    endpoint(Config::server())
}

fn send(endpoint: &mut Endpoint, numbers: core::ops::RangeInclusive<usize>, len: usize) {
    for number in numbers {
        assert!(endpoint.has_room(), "no room for {number}");
        endpoint.send(Kind::Counted, call(number, len), at(0));
    }
}

fn calls(numbers: core::ops::RangeInclusive<usize>) -> Vec<Bytes> {
    numbers.map(|number| call(number, 1)).collect()
}

fn writes(endpoint: &mut Endpoint, now: Duration) -> Vec<Bytes> {
    core::iter::from_fn(|| endpoint.next_write(now)).collect()
}

/// What a new socket gets.
fn resume(endpoint: &mut Endpoint, now: Duration) -> Vec<Bytes> {
    endpoint.lost(now);
    endpoint.judge_resume(now).unwrap();
    endpoint.resumed(now);
    writes(endpoint, now)
}

fn receive_calls(endpoint: &mut Endpoint, count: usize) -> Vec<Received> {
    (0..count).map(|_| endpoint.receive(Kind::Counted, 50, at(0)).unwrap()).collect()
}

/// Carries steps out for each client, in both protocols.
fn history(ops: &[Op], change: impl Fn(&mut Plan)) -> Seen {
    let mut seen = Seen::default();
    for client in [ClientKind::Js, ClientKind::Net, ClientKind::Ours] {
        for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
            let mut plan = Plan { ops: ops.to_vec(), ..Plan::quiet(client, protocol) };
            change(&mut plan);
            if let Err(error) = history::run(&plan, None, &mut seen) {
                panic!("{client:?} {protocol:?}: {error}\n{}", history::trace(&plan, None).0.join("\n"));
            }
        }
    }
    seen
}

const LOSE: [Op; 4] = [Op::Cut, Op::ServerNotices, Op::ClientNotices, Op::Resume];

/// dotnet/aspnetcore#50409: what came right with the Sequence was dropped for ever.
#[test]
fn aspnetcore_50409_a_message_in_one_segment_with_the_sequence_is_delivered() {
    let mut endpoint = server();
    endpoint.lost(at(1));
    endpoint.resumed(at(2));
    assert_eq!(endpoint.receive(Kind::Sequence(1), 30, at(2)), Ok(Received::Consumed));
    assert_eq!(receive_calls(&mut endpoint, 1), [Received::Deliver]);
    assert_eq!(writes(&mut endpoint, at(2)), [sequence(1)]);

    let ops = [&[Op::Down(3), Op::HubSends(5)][..], &LOSE, &[Op::ClientSends(5), Op::Up(9_999), Op::Down(9_999)]];
    assert!(history(&ops.concat(), |_| ()).messages > 0);
}

/// dotnet/aspnetcore#55575: messages that came serialized from a back-plane were not counted.
#[test]
fn aspnetcore_55575_whoever_serialized_a_message_it_counts() {
    let json: [&[u8]; 7] = [
        b"{\"type\":1,\"target\":\"x\",\"arguments\":[]}\x1e",
        b"{\"arguments\":[],\"target\":\"x\",\"type\":1}\x1e",
        b" { \"item\" : 1 , \"invocationId\":\"1\", \"type\" : 2 }\x1e",
        b"{\"invocationId\":\"1\",\"type\":3,\"result\":{\"type\":6}}\x1e",
        b"{\"type\":4,\"target\":\"x\",\"arguments\":[],\"invocationId\":\"1\"}\x1e",
        b"{\"invocationId\":\"1\",\"type\":5}\x1e",
        b"{\"type\" :1,\"target\":\"x\",\"arguments\":[{\"a\":1,\"type\":6}]}\x1e",
    ];
    for framed in json {
        assert_eq!(classify(HubProtocol::Json, framed), Ok(Kind::Counted));
    }
    let message_pack: [&[u8]; 3] =
        [b"\x08\x95\x01\x80\xc0\xa1x\x90\x90", b"\x88\x00\x95\x01\x80\xc0\xa1x\x90\x90", b"\x06\x94\x03\x80\xa1-\x02"];
    for framed in message_pack {
        assert_eq!(classify(HubProtocol::MessagePack, framed), Ok(Kind::Counted));
    }
}

/// dotnet/aspnetcore#68301: an upload's call that is seen twice takes the place of its own stream.
#[test]
fn aspnetcore_68301_a_repeated_upload_call_reaches_the_hub_once() {
    let mut endpoint = server();
    // The call with its stream id, an item; lost; both again, another item, and the stream's end.
    assert_eq!(receive_calls(&mut endpoint, 2), [Received::Deliver; 2]);
    resume(&mut endpoint, at(1));
    endpoint.receive(Kind::Sequence(1), 30, at(2)).unwrap();
    let received = receive_calls(&mut endpoint, 4);
    assert_eq!(received, [Received::Duplicate, Received::Duplicate, Received::Deliver, Received::Deliver]);
}

/// dotnet/aspnetcore#69283, and signalr-wire §12.9: Sequence below 1.
#[test]
fn aspnetcore_69283_a_sequence_below_1_is_refused() {
    for sequence_id in [0, -1, -3, i64::MIN] {
        let mut endpoint = server();
        assert_eq!(receive_calls(&mut endpoint, 3), [Received::Deliver; 3]);
        let refused = endpoint.receive(Kind::Sequence(sequence_id), 30, at(1));
        assert_eq!(refused, Err(Error::SequenceTooLow { sequence_id }));
        assert_eq!(endpoint.judge_resume(at(1)), Err(ResumeRefused::Over));
    }
}

#[test]
fn defect_torn_message_is_dropped_at_the_loss() {
    for torn in [1, 20, 30, 100] {
        let ops = [&[Op::Down(3), Op::ClientSends(300), Op::HubSends(300), Op::Up(torn), Op::Down(torn)][..], &LOSE];
        assert!(history(&ops.concat(), |_| ()).torn_tails > 0);
    }
}

#[test]
fn defect_more_than_64_kib_in_the_gap_are_delivered_and_the_connection_goes_on() {
    let mut ops = vec![Op::Down(3), Op::Cut, Op::ServerNotices, Op::ClientNotices];
    ops.extend([Op::HubSends(550); 165]);
    ops.extend([Op::Resume, Op::HubSends(500), Op::Wait(1_500), Op::Down(1 << 20), Op::Wait(1_500), Op::HubSends(500)]);
    let seen = history(&ops, |_| ());
    assert!(seen.overflows == 0 && seen.messages >= 6 * 167, "{seen:?}");
}

#[test]
fn defect_an_ack_that_falls_due_behind_a_pending_write_breaks_nothing() {
    let mut ops = vec![Op::Down(3)];
    ops.extend([Op::HubSends(500); 60]);
    ops.extend([Op::ClientSends(5), Op::Up(999), Op::Wait(1_100), Op::Down(100), Op::Wait(3_000), Op::Down(700)]);
    ops.extend(LOSE);
    let seen = history(&ops, |plan| {
        plan.pipe_bytes = 1;
        plan.config.unacknowledged_bytes_max = 10 << 20;
    });
    assert!(seen.slow_sockets > 0 && seen.resent > 0, "{seen:?}");
}

#[test]
fn defect_a_loss_during_a_long_repetition_is_resumed() {
    let config = Config { unacknowledged_bytes_max: 64 << 20, held_bytes_max: 64 << 20, ..Config::server() };
    let mut endpoint = endpoint(config);
    send(&mut endpoint, 1..=40, 1 << 20);
    assert_eq!(writes(&mut endpoint, at(0)).len(), 40);
    for lost in 0..10 {
        endpoint.lost(at(lost));
        endpoint.resumed(at(lost));
        assert_eq!(endpoint.next_write(at(lost)), Some(sequence(1)));
        let written = (0..lost).filter(|_| endpoint.next_write(at(lost)).is_some()).count();
        assert_eq!(written as u64, lost);
    }
    endpoint.lost(at(11));
    endpoint.resumed(at(11));
    assert_eq!(writes(&mut endpoint, at(11)).len(), 41);
}

#[test]
fn defect_an_ack_behind_a_call_frees_the_buffer_at_once() {
    let mut endpoint = endpoint(Config { unacknowledged_bytes_max: 100, ..Config::server() });
    send(&mut endpoint, 1..=3, 20);
    assert!(!endpoint.has_room());
    assert_eq!(writes(&mut endpoint, at(1)).len(), 2);
    assert_eq!(receive_calls(&mut endpoint, 1), [Received::Deliver]);
    assert_eq!(endpoint.receive(Kind::Ack(2), 30, at(2)), Ok(Received::Consumed));
    assert!(endpoint.has_room());
    assert_eq!(writes(&mut endpoint, at(2)), [call(3, 20)]);
}

#[test]
fn defect_what_ended_in_the_gap_is_not_resumed() {
    let mut endpoint = endpoint(Config { unacknowledged_bytes_max: 10, ..Config::server() });
    endpoint.lost(at(0));
    send(&mut endpoint, 1..=2, 20);
    assert_eq!(endpoint.deadline(), Some(at(5_000)));
    assert_eq!(endpoint.timer(at(4_999)), None);
    assert_eq!(endpoint.timer(at(5_000)), Some(Timed::Overflowed));
    assert_eq!(endpoint.judge_resume(at(5_001)), Err(ResumeRefused::Over));

    let mut endpoint = server();
    endpoint.lost(at(0));
    assert_eq!(endpoint.timer(at(15_000)), Some(Timed::WindowOver));
    assert_eq!(endpoint.judge_resume(at(15_000)), Err(ResumeRefused::Over));
}

#[test]
fn defect_an_overflow_says_so_past_the_buffer() {
    let mut endpoint = endpoint(Config { unacknowledged_bytes_max: 10, ..Config::server() });
    send(&mut endpoint, 1..=2, 20);
    assert_eq!(writes(&mut endpoint, at(0)), [call(1, 20)]);
    assert_eq!(endpoint.timer(at(5_000)), Some(Timed::Overflowed));
    let close = Bytes::from_static(b"{\"type\":7,\"error\":\"full\"}\x1e");
    endpoint.send(Kind::Close, close.clone(), at(5_000));
    assert_eq!(writes(&mut endpoint, at(5_000)), [close]);
    assert_eq!((endpoint.deadline(), endpoint.timer(at(99_000))), (None, None));
}

#[test]
fn defect_an_old_socket_that_is_still_open_gives_way_at_once() {
    let mut endpoint = server();
    send(&mut endpoint, 1..=2, 1);
    assert_eq!(writes(&mut endpoint, at(0)), calls(1..=2));
    assert!(endpoint.attached());
    endpoint.judge_resume(at(1)).unwrap();
    endpoint.resumed(at(1));
    assert_eq!(writes(&mut endpoint, at(1)), [&[sequence(1)], &calls(1..=2)[..]].concat());
    assert_eq!(endpoint.receive(Kind::Ping, 11, at(1)), Ok(Received::Deliver));
}

/// signalr-wire §12.9: 5 calls, loss, Sequence 1 and two repeated, Ack 5, loss, Sequence 6.
#[test]
fn defect_next_is_not_the_bound_of_sequence() {
    let mut endpoint = server();
    assert_eq!(receive_calls(&mut endpoint, 5), [Received::Deliver; 5]);
    resume(&mut endpoint, at(1));
    endpoint.receive(Kind::Sequence(1), 30, at(1)).unwrap();
    assert_eq!(receive_calls(&mut endpoint, 2), [Received::Duplicate; 2]);
    resume(&mut endpoint, at(2));
    let too_high = endpoint.receive(Kind::Sequence(7), 30, at(2));
    assert_eq!(too_high, Err(Error::SequenceTooHigh { sequence_id: 7, highest: 6 }));
    assert_eq!(too_high.unwrap_err().to_string(), "Sequence ID greater than amount of messages we've received.");

    let mut endpoint = server();
    assert_eq!(receive_calls(&mut endpoint, 5), [Received::Deliver; 5]);
    resume(&mut endpoint, at(1));
    endpoint.receive(Kind::Sequence(1), 30, at(1)).unwrap();
    assert_eq!(receive_calls(&mut endpoint, 2), [Received::Duplicate; 2]);
    resume(&mut endpoint, at(2));
    assert_eq!(endpoint.receive(Kind::Sequence(6), 30, at(2)), Ok(Received::Consumed));
    assert_eq!(receive_calls(&mut endpoint, 1), [Received::Deliver]);
}

/// Rule I2, the sender's half: a client that is lost in our repetition has a `next` below what it acknowledged.
#[test]
fn i2_the_repetition_stays_until_a_number_beyond_it_is_acknowledged() {
    let mut endpoint = server();
    send(&mut endpoint, 1..=5, 1);
    assert_eq!(writes(&mut endpoint, at(0)), calls(1..=5));
    assert_eq!(resume(&mut endpoint, at(1)), [&[sequence(1)], &calls(1..=5)[..]].concat());
    endpoint.receive(Kind::Ack(5), 30, at(2)).unwrap();
    // The client read Sequence 1 and two of the five: its next is 3.
    assert_eq!(resume(&mut endpoint, at(3)), [&[sequence(1)], &calls(1..=5)[..]].concat());
    endpoint.receive(Kind::Ack(5), 30, at(4)).unwrap();
    send(&mut endpoint, 6..=6, 1);
    assert_eq!(writes(&mut endpoint, at(4)), calls(6..=6));
    endpoint.receive(Kind::Ack(6), 30, at(5)).unwrap();
    assert_eq!(endpoint.buffered_bytes(), 0);
    assert_eq!(resume(&mut endpoint, at(6)), [sequence(7)]);
}

/// The same as a history, where each client refuses a Sequence above its `next`.
#[test]
fn i2_each_client_survives_a_cut_in_the_repetition() {
    let start = [&[Op::Down(3)][..], &[Op::HubSends(5); 5], &[Op::Down(9_999)], &LOSE].concat();
    for down in (0..400).step_by(7) {
        let ops = [&start[..], &[Op::Down(down), Op::Wait(1_000), Op::Up(9_999)], &LOSE, &[Op::HubSends(5)]].concat();
        history(&ops, |_| ());
    }
}

#[test]
fn defect_an_ack_beyond_what_was_sent_changes_nothing() {
    for beyond in [4, 5, 9, 13, i64::MAX] {
        let mut endpoint = server();
        send(&mut endpoint, 1..=3, 1);
        writes(&mut endpoint, at(0));
        endpoint.receive(Kind::Ack(beyond), 30, at(1)).unwrap();
        send(&mut endpoint, 4..=7, 1);
        assert_eq!(resume(&mut endpoint, at(2)), [&[sequence(1)], &calls(1..=7)[..]].concat());
    }
}

#[test]
fn defect_an_ack_lower_than_an_earlier_one_changes_nothing() {
    for (earlier, lower) in [(3, 1), (12, 5), (3, 0), (3, -1), (3, i64::MIN)] {
        let mut endpoint = server();
        send(&mut endpoint, 1..=15, 1);
        writes(&mut endpoint, at(0));
        endpoint.receive(Kind::Ack(earlier), 30, at(1)).unwrap();
        endpoint.receive(Kind::Ack(lower), 30, at(2)).unwrap();
        let next = earlier as usize + 1;
        assert_eq!(resume(&mut endpoint, at(3)), [&[sequence(next as u64)], &calls(next..=15)[..]].concat());
    }
}

/// signalr-wire §12.7, .NET: items that do not bind were not counted. Here the type alone decides.
#[test]
fn defect_numbers_do_not_drift_with_what_becomes_of_a_message() {
    let unbound = b"{\"type\":2,\"invocationId\":\"no stream\",\"item\":{}}\x1e";
    assert_eq!(classify(HubProtocol::Json, unbound), Ok(Kind::Counted));
    for (framed, kind) in [
        (&b"{\"type\":6}\x1e"[..], Kind::Ping),
        (b"{\"type\":7}\x1e", Kind::Close),
        (b"{\"type\":8,\"sequenceId\":-7}\x1e", Kind::Ack(-7)),
        (b"{\"sequenceId\":9,\"type\":9}\x1e", Kind::Sequence(9)),
        (b"{\"type\":10}\x1e", Kind::Other),
        (b"{\"type\":10,\"x\":{\"a\":1,\"type\":1}}\x1e", Kind::Other),
        (b"{\"x\":[{\"type\":1,\"a\":1}],\"type\":12}\x1e", Kind::Other),
        (b"{\"x\":\",\\\"type\\\":1}\",\"type\":6}\x1e", Kind::Ping),
        (b"{\"type\":0}\x1e", Kind::Other),
    ] {
        assert_eq!(classify(HubProtocol::Json, framed), Ok(kind));
    }
    for malformed in
        [&b"{}\x1e"[..], b"{\"type\":8}\x1e", b"{\"type\":9,\"sequenceId\":\"1\"}\x1e", b"{\"type\":1", b""]
    {
        assert!(classify(HubProtocol::Json, malformed).is_err(), "{malformed:?}");
    }
    assert_eq!(classify(HubProtocol::MessagePack, b"\x03\x92\x08\x07"), Ok(Kind::Ack(7)));
    assert_eq!(classify(HubProtocol::MessagePack, b"\x03\x92\x09\x07"), Ok(Kind::Sequence(7)));
    assert!(classify(HubProtocol::MessagePack, b"\x02\x91\x08").is_err());
}

/// signalr-wire §12.5: exactly the limit lets another message pass, a byte more does not.
#[test]
fn a_message_waits_behind_more_than_the_limit() {
    let len = call(1, 1).len();
    for (limit, written) in [(len, 2), (len - 1, 1)] {
        let mut endpoint = endpoint(Config { unacknowledged_bytes_max: limit, ..Config::server() });
        send(&mut endpoint, 1..=2, 1);
        assert_eq!(writes(&mut endpoint, at(0)).len(), written);
        assert_eq!(endpoint.has_room(), written == 2);
    }
}

/// Rule I3.
#[test]
fn i3_counted_messages_wait_for_the_first_of_the_client_or_a_second() {
    let mut endpoint = Endpoint::new(HubProtocol::Json, Config::server(), at(0));
    send(&mut endpoint, 1..=1, 1);
    assert_eq!((writes(&mut endpoint, at(999)), endpoint.deadline()), (vec![], Some(at(1_000))));
    assert_eq!(writes(&mut endpoint, at(1_000)), calls(1..=1));

    let mut endpoint = Endpoint::new(HubProtocol::Json, Config::server(), at(0));
    send(&mut endpoint, 1..=1, 1);
    endpoint.receive(Kind::Ping, 11, at(10)).unwrap();
    assert_eq!(writes(&mut endpoint, at(10)), calls(1..=1));

    let mut client = Endpoint::new(HubProtocol::Json, Config::client(), at(0));
    send(&mut client, 1..=1, 1);
    assert_eq!(writes(&mut client, at(0)), calls(1..=1));
}

/// Rule I4: the hub does not notice the gap.
#[test]
fn i4_the_hub_is_pinged_in_the_gap_of_a_client_that_pinged() {
    let mut endpoint = endpoint(Config { window: Duration::from_secs(60), ..Config::server() });
    endpoint.lost(at(1_000));
    assert_eq!(endpoint.deadline(), Some(at(16_000)));
    assert_eq!((endpoint.timer(at(16_000)), endpoint.timer(at(16_000))), (Some(Timed::PingOther), None));
    assert_eq!(endpoint.deadline(), Some(at(31_000)));
    endpoint.resumed(at(20_000));
    assert_eq!((endpoint.deadline(), endpoint.timer(at(99_000))), (None, None));
}

/// Rule A7: the tight loops of both clients end, and a refused resume changes nothing.
#[test]
fn a7_resumes_are_bounded_per_second() {
    let mut endpoint = server();
    send(&mut endpoint, 1..=1, 1);
    let granted = (0..1_000).filter(|ms| endpoint.judge_resume(at(1_000 + ms)).is_ok()).count();
    assert_eq!(granted, 10 + 4);
    assert_eq!(endpoint.judge_resume(at(1_999)), Err(ResumeRefused::TooOften));
    assert_eq!(writes(&mut endpoint, at(1_999)), calls(1..=1));
}
