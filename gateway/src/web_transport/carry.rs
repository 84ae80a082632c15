//! A session's one stream: the client's bytes on their way up, whole hub messages on their way down, and the end.
//!
//! Invariants: what the hub said before its end is written before the end is told, and the end is told only when the client has
//! taken it (it ends its half, or `close_timeout` passes), since browsers discard what is unread when a session closes.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::closing::{self, GOING_AWAY, NORMAL};
use super::session::{Left, Session, Streams};
use crate::config::Timeouts;
use crate::edge::{Edge, End, Taken};

/// Bytes taken from the client at once.
const READ_BYTES: usize = 64 * 1024;
/// What a client is told that opens no stream, or says nothing on it, in time.
const SILENT: (u32, &str) = (1008, "The stream's first byte did not come in time.");
/// A client that closes its session breaks its stream off, too: so long its word is waited for.
const LAST_WORD: Duration = Duration::from_millis(250);

/// The waits of one session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    first_byte: Duration,
    send: Duration,
    close: Duration,
}

impl Waits {
    /// Those that are configured now.
    pub(super) fn of(timeouts: &Timeouts) -> Self {
        Self { first_byte: timeouts.first_byte_timeout, send: timeouts.send_timeout, close: timeouts.close_timeout }
    }
}

/// Carries a session until it has ended on both sides.
pub(super) async fn carry(edge: &Edge, mut session: Session, waits: Waits) {
    let patience = waits.close;
    let streams = session.streams();
    let end = {
        let mut left = pin!(session.left());
        let first = tokio::select! {
            first = timeout(waits.first_byte, first_bytes(&streams)) => first,
            left = &mut left => Ok(Err(Broken::Session(left))),
            // The hub has ended it before the client said a word.
            () = edge.over.cancelled() => Ok(Ok(None)),
        };
        let written = match first {
            Ok(Ok(Some((sending, receiving, first)))) => {
                let mut up = pin!(upward(edge, receiving, first));
                let written = tokio::select! {
                    ended = &mut up => Err(Broken::Stream(ended)),
                    left = &mut left => Err(Broken::Session(left)),
                    written = downward(edge, sending, waits.send) => written,
                };
                if written.is_ok() {
                    // Where the end is ours, the hub is told at once.
                    edge.over.cancel();
                    let _took_too_long = timeout(patience, async {
                        tokio::select! {
                            _ = up => {}
                            _ = &mut left => {}
                        }
                    })
                    .await;
                }
                written
            }
            Ok(Ok(None)) => Ok(()),
            Ok(Err(broken)) => Err(broken),
            Err(_) => Err(Broken::Silent),
        };
        match written {
            Ok(()) => Ended::ByHub,
            Err(Broken::Stream(Left::Lost)) => Ended::ByClient(timeout(LAST_WORD, left).await.unwrap_or(Left::Lost)),
            Err(Broken::Stream(left) | Broken::Session(left)) => Ended::ByClient(left),
            Err(Broken::Silent) => Ended::Silent,
        }
    };
    Box::pin(finish(edge, session, end, patience)).await;
}

/// Why a session does not go on to its hub's end.
enum Broken {
    /// The stream has ended or broken; what became of the session may tell more.
    Stream(Left),
    /// The session has ended.
    Session(Left),
    /// The client opened no stream or said nothing.
    Silent,
}

/// Who ended a session.
enum Ended {
    ByClient(Left),
    ByHub,
    Silent,
}

/// Tells whoever did not end it.
async fn finish(edge: &Edge, session: Session, end: Ended, patience: Duration) {
    match end {
        Ended::ByHub => {
            let end = edge.ended().unwrap_or(End::HubLost);
            let (code, reason) = closing::to_client(end, edge.hub_close(), edge.said_close());
            session.close(code.into(), &reason, patience).await;
        }
        Ended::Silent => {
            edge.client_left(None);
            session.close(SILENT.0, SILENT.1, patience).await;
        }
        Ended::ByClient(left) => {
            edge.client_left(match &left {
                Left::Finished => Some((NORMAL, String::new())),
                Left::Closed(code, reason) => Some(closing::to_hub(*code, reason)),
                Left::Gone => Some((GOING_AWAY, String::new())),
                Left::Lost => None,
            });
            match left {
                Left::Finished => session.close(NORMAL.into(), "", patience).await,
                Left::Closed(..) | Left::Gone | Left::Lost => session.end(NORMAL.into(), ""),
            }
        }
    }
}

/// Waits for the stream and its first bytes; others than the first stream are never looked at.
async fn first_bytes(streams: &Streams) -> Result<Option<(SendStream, RecvStream, Bytes)>, Broken> {
    let (sending, mut receiving) = streams.next().await.map_err(Broken::Stream)?;
    match receiving.read_chunk(READ_BYTES, true).await {
        Ok(Some(chunk)) => Ok(Some((sending, receiving, chunk.bytes))),
        Ok(None) => Err(Broken::Stream(Left::Finished)),
        Err(error) => Err(Broken::Stream(error.into())),
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

/// Writes what the hub says, to its end.
async fn downward(edge: &Edge, mut sending: SendStream, send_timeout: Duration) -> Result<(), Broken> {
    loop {
        let messages = match edge.next().await {
            Taken::Messages(messages) => messages,
            Taken::Ended(End::ClientGone | End::ClientClosed) => return Err(Broken::Session(Left::Lost)),
            Taken::Ended(_) | Taken::Nothing => {
                let _stopped_already = sending.finish();
                return Ok(());
            }
        };
        let holding = edge.holding(messages.len());
        let mut rest = [messages];
        while rest.iter().any(|rest| !rest.is_empty()) {
            let written = tokio::select! {
                written = timeout(send_timeout, sending.write_chunks(&mut rest)) => written,
                () = edge.given_up() => return Err(Broken::Session(Left::Lost)),
            };
            match written {
                Ok(Ok(_)) => {}
                Ok(Err(quinn::WriteError::ConnectionLost(error))) => return Err(Broken::Session(error.into())),
                // It reads no more: the close of the session tells why, if there is one.
                Ok(Err(_)) => return Err(Broken::Stream(Left::Lost)),
                // It has taken nothing for too long.
                Err(_) => return Err(Broken::Session(Left::Lost)),
            }
        }
        drop(holding);
    }
}
