//! What comes before the first hub message: whether this connection needs transcoding at all.
//!
//! The client's first message tells. Until then the hub's frames pass as they are: a hub that gives up waiting for the
//! handshake says so in JSON, whatever it speaks.
//!
//! Invariant: a connection that is left alone loses no byte and gains none.

use bytes::{Bytes, BytesMut};
use hubgate_protocol::websocket::{FrameTracker, Incoming};
use hubgate_protocol::{HubProtocol, handshake};
use tokio::io::{AsyncRead, AsyncWrite};

use super::side::{Input, Output};
use crate::relay::{Spoken, judge};

/// Bytes of a client in front of its handshake that are kept: pings, at most.
const FIRST_BYTES_MAX: usize = 64 * 1024;

/// What the client's first message said.
pub(super) enum Opened {
    /// It speaks the other protocol.
    Transcode {
        /// Its protocol.
        client: HubProtocol,
        /// The handshake request in the hub's words.
        request: Bytes,
        /// What followed in the same frame.
        rest: Bytes,
        /// Pings and pongs that came before.
        controls: Vec<Incoming>,
    },
    /// It needs no transcoding.
    Untouched {
        /// The frames that have come, as they came.
        first: Bytes,
    },
    /// One side is gone.
    Lost,
}

/// Waits for the client's first message.
pub(super) async fn open<A: AsyncRead + Unpin, B: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from_client: &mut Input<A>,
    from_hub: &mut Input<B>,
    to_client: &mut Output<W>,
    hub: HubProtocol,
) -> Opened {
    let (mut raw, mut first) = (BytesMut::new(), BytesMut::new());
    let (mut controls, mut tracker) = (Vec::new(), FrameTracker::new());
    let ahead = from_hub.take_raw();
    if follow(&mut tracker, &ahead).is_err() || to_client.write_raw(&ahead).await.is_err() {
        return Opened::Lost;
    }
    loop {
        tokio::select! {
            read = from_client.read() => {
                let Ok(read) = read else { return Opened::Lost };
                raw.extend_from_slice(from_client.newest(read));
                let judged = look(from_client, &mut first, &mut controls);
                let client = match judged {
                    None if raw.len() <= FIRST_BYTES_MAX => continue,
                    None | Some(Judged::Untouched) => None,
                    Some(Judged::Spoken(spoken)) => protocol_of(spoken).filter(|client| *client != hub),
                };
                return match client {
                    Some(_) if !tracker.at_message_boundary() => Opened::Lost,
                    Some(client) => transcode(client, hub, &first, controls).unwrap_or(Opened::Untouched { first: raw.freeze() }),
                    None => Opened::Untouched { first: raw.freeze() },
                };
            }
            read = from_hub.read() => {
                if read.is_err() {
                    return Opened::Lost;
                }
                let bytes = from_hub.take_raw();
                if follow(&mut tracker, &bytes).is_err() || to_client.write_raw(&bytes).await.is_err() {
                    return Opened::Lost;
                }
            }
        }
    }
}

enum Judged {
    Spoken(Spoken),
    Untouched,
}

/// Decodes what has come; tells once it is known what the client is.
fn look<R: AsyncRead + Unpin>(
    from_client: &mut Input<R>,
    first: &mut BytesMut,
    controls: &mut Vec<Incoming>,
) -> Option<Judged> {
    loop {
        match from_client.decode() {
            Ok(Some(Incoming::Text(bytes) | Incoming::Binary(bytes))) => {
                first.extend_from_slice(&bytes);
                if let Some(spoken) = judge(first) {
                    return Some(Judged::Spoken(spoken));
                }
            }
            Ok(Some(Incoming::Close(_))) | Err(_) => return Some(Judged::Untouched),
            Ok(Some(control)) => controls.push(control),
            Ok(None) => return None,
        }
    }
}

const fn protocol_of(spoken: Spoken) -> Option<HubProtocol> {
    match spoken {
        Spoken::Json => Some(HubProtocol::Json),
        Spoken::MessagePack => Some(HubProtocol::MessagePack),
        Spoken::Unknown | Spoken::Other | Spoken::Opaque => None,
    }
}

fn transcode(client: HubProtocol, hub: HubProtocol, first: &[u8], controls: Vec<Incoming>) -> Option<Opened> {
    let complete = handshake::parse_request(first, first.len()).ok()??;
    let mut request = BytesMut::new();
    handshake::write_request(hub.name(), complete.value.version, &mut request);
    let rest = Bytes::copy_from_slice(first.get(complete.consumed..).unwrap_or_default());
    Some(Opened::Transcode { client, request: request.freeze(), rest, controls })
}

/// Follows the hub's frames, so that decoding can begin between two of them.
fn follow(tracker: &mut FrameTracker, bytes: &[u8]) -> Result<(), hubgate_protocol::websocket::Violation> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (used, _) = tracker.step(rest)?;
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(())
}
