//! What a message is for stateful reconnect is what its reader says it is.

use hubgate_protocol::stateful::{Kind, classify};
use hubgate_protocol::{HubMessage, HubProtocol};
use proptest::prelude::*;

use crate::strategy;

fn kind_of(message: &HubMessage) -> Kind {
    match message {
        HubMessage::Ping => Kind::Ping,
        HubMessage::Close(_) => Kind::Close,
        HubMessage::Ack(ack) => Kind::Ack(ack.sequence_id),
        HubMessage::Sequence(sequence) => Kind::Sequence(sequence.sequence_id),
        counted => {
            assert!(counted.is_counted());
            Kind::Counted
        }
    }
}

/// The same object with its type behind the rest, as JavaScript writes it.
fn type_last(framed: &[u8]) -> Option<Vec<u8>> {
    let rest = framed.strip_prefix(b"{\"type\":")?;
    let (number, rest) = rest.split_first()?;
    let rest = rest.strip_prefix(b",")?.strip_suffix(b"}\x1e")?;
    Some([b"{", rest, b",\"type\":", &[*number], b"}\x1e"].concat())
}

proptest! {
    #[test]
    fn classify_agrees_with_the_reader((protocol, messages) in strategy::stream()) {
        for message in &messages {
            let framed = protocol.to_bytes(message);
            prop_assert_eq!(classify(protocol, &framed), Ok(kind_of(message)));
            if let Some(turned) = type_last(&framed).filter(|_| protocol == HubProtocol::Json) {
                prop_assert_eq!(classify(protocol, &turned), Ok(kind_of(message)));
            }
        }
    }
}
