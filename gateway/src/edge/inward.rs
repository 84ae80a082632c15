//! Hub → client: WebSocket messages, cut anew at whole hub messages (rule E1).

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::framing::{MessageSplitter, RECORD_SEPARATOR};
use hubgate_protocol::websocket::{Incoming, MessageDecoder, Sender, Violation};
use hubgate_protocol::{HubProtocol, peek};
use tokio::io::ReadHalf;
use tokio::time::timeout;

use super::{Edge, End, Kind};
use crate::io::{Stream, poll_read_onto};
use crate::relay::Spoken;

/// Why a message is refused that is longer than `limits.hub_message_bytes_max` (rule E2).
const TOO_LONG: &str = "message over hub_message_bytes_max";

/// What hub bytes are at the moment.
#[derive(Debug)]
enum Reading {
    /// Nothing but the client's handshake can tell.
    Undecided,
    /// The handshake response is under way.
    Response(HubProtocol, BytesMut),
    /// Hub messages.
    Messages(HubProtocol, MessageSplitter, BytesMut),
    /// One WebSocket message is one unit (rule E3).
    Units,
}

/// Why reading ends.
enum Stop {
    /// The hub's close frame.
    Closed,
    /// The stream broke, or a frame was illegal.
    Lost,
    /// What came must not go on to the client.
    Refused(&'static str),
}

/// Reads a hub until it or its client ends; `ahead` was read behind the 101.
pub(crate) async fn read_hub(edge: Arc<Edge>, mut hub: ReadHalf<Stream>, ahead: Bytes) {
    let mut decoder = MessageDecoder::new(Sender::Server, edge.bounds.hub_message_bytes_max);
    let mut input = BytesMut::from(&ahead[..]);
    let mut reading = Reading::Undecided;
    let stop = loop {
        match take_in(&edge, &mut decoder, &mut input, &mut reading).await {
            Ok(()) => {}
            Err(stop) => break stop,
        }
        if input.is_empty() {
            // An idle connection holds no buffer.
            input = BytesMut::new();
        }
        tokio::select! {
            biased;
            () = edge.over.cancelled() => break Stop::Closed,
            () = room(&edge) => {}
        }
        let read = tokio::select! {
            biased;
            () = edge.over.cancelled() => break Stop::Closed,
            () = edge.hub_dead.cancelled() => break Stop::Lost,
            read = poll_fn(|cx| poll_read_onto(cx, &mut hub, &mut input)) => read,
        };
        edge.hub_heard.store(edge.clock.now(), Relaxed);
        match read {
            Ok(1..) => {}
            Ok(0) | Err(_) => break Stop::Lost,
        }
    };
    if finish(&edge, stop).await {
        // By itself: for the client and its token the connection is over.
        tokio::spawn(async move {
            let _took_too_long = timeout(edge.bounds.close_timeout, hear_out(hub, decoder, input)).await;
            edge.shut_hub().await;
        });
    }
}

/// Reads and forgets what a hub says until its close frame answers ours. Were its connection ended before, even our half of it, a hub that
/// is still busy would count the client as gone, and lose what it has not read yet: the client's last messages.
async fn hear_out(mut hub: ReadHalf<Stream>, mut decoder: MessageDecoder, mut input: BytesMut) {
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(Incoming::Close(_))) | Err(_) => return,
            Ok(Some(_)) => continue,
            Ok(None) => {}
        }
        if !matches!(poll_fn(|cx| poll_read_onto(cx, &mut hub, &mut input)).await, Ok(1..)) {
            return;
        }
    }
}

/// Ends both sides; tells whether the hub has yet to answer our close frame.
async fn finish(edge: &Edge, stop: Stop) -> bool {
    let mut is_asked = false;
    match stop {
        Stop::Closed if edge.over.is_cancelled() => match edge.client_left.get() {
            // A loss: without a close frame.
            Some(None) => {}
            left => {
                // The client has left, which is an orderly end to the reference's hubs (signalr-wire §5.2, §5.4).
                let close = left.and_then(|close| close.as_ref()).map_or((1000, ""), |(code, reason)| (*code, reason));
                edge.close_hub(Some(close)).await;
                is_asked = true;
            }
        },
        Stop::Closed => {
            edge.end(End::HubClosed, false);
            edge.close_hub(None).await;
            edge.shut_hub().await;
        }
        Stop::Lost => edge.part(End::HubLost, false),
        Stop::Refused(why) => {
            tracing::warn!(transport = edge.kind.name(), why, "a hub's message cannot go on to its client");
            edge.part(End::Refused, false);
            edge.close_hub(Some((1003, why))).await;
            edge.shut_hub().await;
        }
    }
    // Polls fetch what is left; the sweep removes the connection when nobody does.
    if edge.kind != Kind::LongPolling {
        edge.over.cancel();
    }
    is_asked
}

/// Waits until the client has taken enough of what waits for it (rule E2).
async fn room(edge: &Edge) {
    loop {
        let emptied = edge.out_room.notified();
        tokio::pin!(emptied);
        emptied.as_mut().enable();
        if edge.waiting_bytes() <= edge.bounds.waiting_bytes_max || edge.ended().is_some() {
            return;
        }
        emptied.await;
    }
}

async fn take_in(
    edge: &Edge,
    decoder: &mut MessageDecoder,
    input: &mut BytesMut,
    reading: &mut Reading,
) -> Result<(), Stop> {
    loop {
        let decoded = decoder.decode(input).map_err(|violation| {
            tracing::debug!(%violation, "a hub broke the WebSocket protocol");
            match violation {
                Violation::MessageTooLong(_) => Stop::Refused(TOO_LONG),
                _ => Stop::Lost,
            }
        })?;
        match decoded {
            None => return Ok(()),
            Some(Incoming::Text(payload)) => receive(edge, reading, payload, false)?,
            Some(Incoming::Binary(payload)) => receive(edge, reading, payload, true)?,
            Some(Incoming::Ping(payload)) => {
                edge.pong(&payload);
                edge.flush_control().await;
            }
            Some(Incoming::Pong(_)) => {}
            Some(Incoming::Close(close)) => {
                let _first_counts = edge.hub_close.set(close);
                return Err(Stop::Closed);
            }
        }
    }
}

fn receive(edge: &Edge, reading: &mut Reading, payload: Bytes, binary: bool) -> Result<(), Stop> {
    if let Reading::Undecided = reading {
        *reading = match edge.spoken() {
            Spoken::Json => Reading::Response(HubProtocol::Json, BytesMut::new()),
            Spoken::MessagePack => Reading::Response(HubProtocol::MessagePack, BytesMut::new()),
            _ => Reading::Units,
        };
    }
    if let Reading::Response(protocol, gathered) = reading {
        gathered.extend_from_slice(&payload);
        let Some(end) = memchr::memchr(RECORD_SEPARATOR, gathered) else {
            return if gathered.len() > 65_536 { Err(Stop::Refused("endless handshake response")) } else { Ok(()) };
        };
        let response = gathered.split_to(end + 1);
        edge.deliver(&response);
        edge.outbox().handshaken = true;
        let rest = std::mem::take(gathered);
        let splitter = MessageSplitter::new(*protocol, edge.bounds.hub_message_bytes_max);
        *reading = Reading::Messages(*protocol, splitter, rest);
        return split(edge, reading, &[]);
    }
    if binary && edge.kind == Kind::EventStream && !matches!(reading, Reading::Messages(HubProtocol::Json, ..)) {
        return Err(Stop::Refused("binary data on Server-Sent Events"));
    }
    if let Reading::Units = reading {
        edge.deliver(&payload);
        return Ok(());
    }
    split(edge, reading, &payload)
}

/// Passes whole messages on and keeps the rest.
fn split(edge: &Edge, reading: &mut Reading, payload: &[u8]) -> Result<(), Stop> {
    let Reading::Messages(protocol, splitter, rest) = reading else { return Ok(()) };
    rest.extend_from_slice(payload);
    loop {
        match splitter.next(rest) {
            Ok(Some(message)) => {
                let framed = message.framed();
                if edge.kind == Kind::LongPolling && peek::is_ping(*protocol, framed) {
                    continue;
                }
                if peek::is_close(*protocol, framed) {
                    edge.outbox().closed = true;
                }
                edge.deliver(framed);
            }
            Ok(None) => {
                if rest.is_empty() {
                    *rest = BytesMut::new();
                }
                return Ok(());
            }
            Err(_) => return Err(Stop::Refused(TOO_LONG)),
        }
    }
}
