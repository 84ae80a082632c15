//! A session's one stream: the client's bytes on their way up, whole hub messages on their way down, and the end.
//!
//! Invariants: what the hub said before its end is written before the end is told, and the end is told only when the client has
//! taken it (it ends its half, or `close_timeout` passes), since browsers discard what is unread when a session closes.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use web_transport_quinn::{ReadError, RecvStream, SendStream, Session, SessionError, WebTransportError};

use super::closing::{self, GOING_AWAY, NORMAL};
use crate::config::Timeouts;
use crate::edge::{Edge, End, Taken};

/// Bytes taken from the client at once.
const READ_BYTES: usize = 64 * 1024;
/// What a client is told that opens no stream, or says nothing on it, in time.
const SILENT: (u32, &str) = (1008, "The stream's first byte did not come in time.");

/// Carries a session until it has ended on both sides.
pub(super) async fn carry(edge: &Edge, session: &Session, timeouts: &Timeouts) {
    let first = tokio::select! {
        first = timeout(timeouts.first_byte_timeout, first_bytes(session)) => first,
        // The hub has ended it before the client said a word.
        () = edge.over.cancelled() => return tell(edge, session),
    };
    let (sending, receiving, first) = match first {
        Ok(Ok(first)) => first,
        Ok(Err(left)) => return leave(edge, session, left),
        Err(_) => {
            edge.client_left(None);
            return session.close(SILENT.0, SILENT.1.as_bytes());
        }
    };
    let mut up = pin!(upward(edge, receiving, first));
    let down = pin!(downward(edge, sending, timeouts.send_timeout));
    let written = tokio::select! {
        left = &mut up => return leave(edge, session, left),
        written = down => written,
    };
    match written {
        Ok(()) => {
            // Where the end is ours, the hub is told at once.
            edge.over.cancel();
            let _took_too_long = timeout(timeouts.close_timeout, up).await;
            tell(edge, session);
        }
        Err(Stuck) => leave(edge, session, Left::Lost),
    }
}

/// How the client left.
#[derive(Debug)]
enum Left {
    /// It ended its half of the stream.
    Finished,
    /// It closed the session with a code and a reason.
    Closed(u32, String),
    /// It closed the session, or its page, without a word.
    Gone,
    /// It was lost.
    Lost,
}

impl From<SessionError> for Left {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => Self::Closed(code, reason),
            // So the library tells the end of the CONNECT's stream; browsers end it with the page.
            SessionError::ConnectionError(
                quinn::ConnectionError::LocallyClosed | quinn::ConnectionError::ApplicationClosed(_),
            ) => Self::Gone,
            _ => Self::Lost,
        }
    }
}

impl From<ReadError> for Left {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::SessionError(error) => error.into(),
            _ => Self::Lost,
        }
    }
}

/// Tells the hub that its client has left.
fn leave(edge: &Edge, session: &Session, left: Left) {
    edge.client_left(match left {
        Left::Finished => Some((NORMAL, String::new())),
        Left::Closed(code, reason) => Some(closing::to_hub(code, &reason)),
        Left::Gone => Some((GOING_AWAY, String::new())),
        Left::Lost => None,
    });
    session.close(NORMAL.into(), b"");
}

/// Tells the client that its connection has ended.
fn tell(edge: &Edge, session: &Session) {
    let end = edge.ended().unwrap_or(End::HubLost);
    let (code, reason) = closing::to_client(end, edge.hub_close(), edge.said_close());
    session.close(code.into(), reason.as_bytes());
}

/// Waits for the stream and its first bytes; others than the first stream are never looked at.
async fn first_bytes(session: &Session) -> Result<(SendStream, RecvStream, Bytes), Left> {
    let (sending, mut receiving) = session.accept_bi().await?;
    match receiving.read_chunk(READ_BYTES, true).await? {
        Some(chunk) => Ok((sending, receiving, chunk.bytes)),
        None => Err(Left::Finished),
    }
}

/// Passes the client's bytes on until it leaves. What comes after the hub's end is read and forgotten.
async fn upward(edge: &Edge, mut receiving: RecvStream, first: Bytes) -> Left {
    let mut bytes = first;
    let mut over = false;
    loop {
        if !over {
            over = match edge.sending().await {
                Ok(mut sending) => sending.pass(bytes).await.is_err(),
                Err(_) => true,
            };
        }
        bytes = match receiving.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) => return Left::Finished,
            Err(error) => return error.into(),
        };
    }
}

/// The client takes nothing any more, or was given up.
struct Stuck;

/// Writes what the hub says, to its end.
async fn downward(edge: &Edge, mut sending: SendStream, send_timeout: Duration) -> Result<(), Stuck> {
    loop {
        let messages = match edge.next().await {
            Taken::Messages(messages) => messages,
            Taken::Ended(End::ClientGone | End::ClientClosed) => return Err(Stuck),
            Taken::Ended(_) | Taken::Nothing => {
                let _stopped_already = sending.finish();
                return Ok(());
            }
        };
        let waiting = edge.holding(messages.len());
        let mut rest = [messages];
        while rest.iter().any(|rest| !rest.is_empty()) {
            tokio::select! {
                written = timeout(send_timeout, sending.write_chunks(&mut rest)) => {
                    written.map_err(|_| Stuck)?.map_err(|_| Stuck)?;
                }
                () = edge.given_up() => return Err(Stuck),
            }
        }
        drop(waiting);
    }
}
