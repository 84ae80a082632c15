//! Sessions of either end: any input, cut anyhow, ends exactly once and last.
#![no_main]

use std::time::Duration;

use hubgate_protocol::HubProtocol;
use hubgate_protocol::session::{ClientConfig, Output, ServerConfig, Session};
use libfuzzer_sys::fuzz_target;

fn run(mut session: Session, data: &[u8]) {
    let mut now = Duration::ZERO;
    let mut ends = 0;
    let mut take = |session: &mut Session| {
        while let Some(output) = session.next_output() {
            assert_eq!(ends, 0, "{output:?} behind the end");
            ends += usize::from(matches!(output, Output::Ended(_)));
        }
        ends
    };
    for piece in data.chunks(5) {
        now += Duration::from_secs(u64::from(piece[0] % 4));
        session.receive(piece, now);
        take(&mut session);
        if session.deadline().is_some_and(|deadline| deadline <= now) {
            session.timer(now);
            take(&mut session);
        }
    }
    session.input_ended(now);
    assert_eq!(take(&mut session), 1);
}

fuzz_target!(|data: &[u8]| {
    run(Session::server(ServerConfig { message_bytes_max: 256, ..ServerConfig::default() }, Duration::ZERO), data);
    for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
        let config = ClientConfig { message_bytes_max: 256, ..ClientConfig::new(protocol) };
        run(Session::client(config, Duration::ZERO), data);
    }
});
