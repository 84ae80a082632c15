//! Stateful reconnect: any calls in any order never panic, and what is kept, told and written stays within bounds.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use hubgate_protocol::HubProtocol;
use hubgate_protocol::stateful::{Config, Endpoint, Kind, Timed, classify};
use libfuzzer_sys::fuzz_target;

const MESSAGE_BYTES_MAX: usize = 300;

/// A signed number near an edge, or near nothing.
fn number(byte: u8) -> i64 {
    match byte % 8 {
        0 => i64::MIN,
        1 => i64::MAX,
        2 => -i64::from(byte),
        _ => i64::from(byte / 8),
    }
}

fn kind(choice: u8, byte: u8) -> Kind {
    match choice % 8 {
        0..=2 => Kind::Counted,
        3 => Kind::Ping,
        4 if byte < 8 => Kind::Close,
        5 => Kind::Sequence(number(byte)),
        6 => Kind::Ack(number(byte)),
        _ => Kind::Other,
    }
}

fn run(protocol: HubProtocol, config: Config, data: &[u8]) {
    let held_bytes_max = config.held_bytes_max;
    let mut now = Duration::ZERO;
    let mut endpoint = Endpoint::new(protocol, config, now);
    let mut ends = 0;
    for step in data.chunks_exact(2) {
        let (choice, byte) = (step[0] / 8, step[1]);
        match step[0] % 8 {
            0 | 1 => {
                let kind = kind(choice, byte);
                // The caller keeps to has_room(), as it must.
                if kind != Kind::Counted || endpoint.has_room() {
                    let framed = vec![b'x'; usize::from(byte) + 1];
                    endpoint.send(kind, Bytes::from(framed), now);
                }
            }
            2 | 3 => {
                let _ = endpoint.receive(kind(choice, byte), usize::from(byte), now);
            }
            4 => endpoint.lost(now),
            5 => {
                if endpoint.judge_resume(now).is_ok() {
                    endpoint.resumed(now);
                }
            }
            6 => {
                for _ in 0..byte {
                    let Some(framed) = endpoint.next_write(now) else { break };
                    assert!(endpoint.attached() && framed.len() <= MESSAGE_BYTES_MAX);
                }
            }
            _ => {
                now += Duration::from_millis(u64::from(byte) * 30);
                while let Some(timed) = endpoint.timer(now) {
                    ends += u32::from(timed != Timed::PingOther);
                }
                assert!(endpoint.deadline().is_none_or(|deadline| deadline > now));
            }
        }
        assert!(endpoint.buffered_bytes() <= held_bytes_max + 2 * MESSAGE_BYTES_MAX);
        assert!(ends <= 1, "two ends");
    }
}

fuzz_target!(|data: &[u8]| {
    for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
        let _ = classify(protocol, data);
        let small =
            Config { unacknowledged_bytes_max: 400, held_bytes_max: 1_000, ack_after_bytes: 500, ..Config::server() };
        run(protocol, small, data);
        run(protocol, Config { unacknowledged_bytes_max: 0, held_bytes_max: 0, ..Config::client() }, data);
    }
});
