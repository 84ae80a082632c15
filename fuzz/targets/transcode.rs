//! Transcoding, with and without hints: any bytes as a message of either side, either way.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use hubgate_protocol::transcode::{Answer, DeclaredNames, PropertyNames, Rules, Step, Transcoder};
use hubgate_protocol::{HubProtocol, Incoming};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

static HINTED: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let mut rules = Rules { property_names: PropertyNames::CamelToPascal(DeclaredNames::default()), ..Rules::default() };
    let hints = [
        "bytes", "date", "date-offset", "day", "time", "timespan", "decimal", "float", "char", "enum(A, B)",
        "flags(A = 1, B)", "tuple(a, , b)", "pair", "dictionary", "integer-keys",
    ];
    for (index, hint) in hints.iter().enumerate() {
        rules.hints.add("t", &format!("arguments.{index}"), hint).unwrap();
    }
    rules.hints.add("t", "arguments.*.*", "date").unwrap();
    Arc::new(rules)
});

/// One whole message that its reader takes.
fn check(protocol: HubProtocol, framed: &Bytes) {
    let mut buffer = BytesMut::from(&framed[..]);
    let whole = protocol.splitter(usize::MAX).next(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    assert!(matches!(protocol.read(&whole.body()), Ok(Incoming::Message(_))), "{}", framed.escape_ascii());
}

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    for (client, hub) in
        [(HubProtocol::Json, HubProtocol::MessagePack), (HubProtocol::MessagePack, HubProtocol::Json)]
    {
        for rules in [Arc::default(), Arc::clone(&HINTED)] {
            let mut transcoder = Transcoder::new(client, rules, LIMIT, LIMIT);
            for to_hub in [true, false] {
                let step = if to_hub { transcoder.client_message(&body) } else { transcoder.hub_message(&body) };
                match step {
                    Step::Pass(framed) => {
                        assert!(framed.len() <= LIMIT);
                        check(if to_hub { hub } else { client }, &framed);
                    }
                    Step::Refused { answer: Answer::Client(framed) | Answer::End(framed), .. } => check(client, &framed),
                    Step::Refused { answer: Answer::Hub(framed), .. } => check(hub, &framed),
                    Step::Refused { answer: Answer::None, .. } | Step::Ignore => {}
                }
            }
        }
    }
});
