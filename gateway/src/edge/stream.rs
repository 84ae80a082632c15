//! Event streams: whatever waits goes out as one event (signalr-wire §5.2).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::sse;
use tokio::sync::mpsc;

use super::{Edge, End, Taken};
use crate::body::{Body, BodyError};

/// Starts the stream of a connection; its body ends with the connection, the connection with its body.
pub(crate) fn event_stream(edge: Arc<Edge>) -> Body {
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(async move {
        let end = write(&edge, &pieces).await;
        edge.end(end, true);
        edge.over.cancel();
    });
    Body::Channel(body)
}

/// Counts the event that waits in the channel.
struct Waiting<'a>(&'a Edge, usize);

impl Waiting<'_> {
    fn is(&mut self, bytes: usize) {
        self.0.clock.buffered().change(std::mem::replace(&mut self.1, bytes), bytes);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.is(0);
    }
}

async fn write(edge: &Edge, pieces: &mpsc::Sender<Result<Bytes, BodyError>>) -> End {
    if pieces.send(Ok(Bytes::from_static(sse::PREAMBLE))).await.is_err() {
        return End::ClientClosed;
    }
    let mut waiting = Waiting(edge, 0);
    loop {
        let ready = edge.out_ready.notified();
        tokio::pin!(ready);
        ready.as_mut().enable();
        let taken = if edge.keeps_units() { edge.take_one() } else { edge.take() };
        match taken {
            Taken::Nothing => {
                tokio::select! {
                    () = ready => {}
                    () = pieces.closed() => return End::ClientClosed,
                }
            }
            Taken::Ended(end) => return end,
            Taken::Messages(messages) => {
                let mut event = BytesMut::with_capacity(messages.len() + 16);
                sse::write_event(&mut event, &messages);
                let room = tokio::time::timeout(edge.bounds.send_timeout, pieces.reserve()).await;
                match room {
                    Ok(Ok(permit)) => {
                        waiting.is(event.len());
                        permit.send(Ok(event.freeze()));
                    }
                    Ok(Err(_)) => return End::ClientClosed,
                    Err(_) => {
                        let _gone_already = pieces.try_send(Err(BodyError::GivenUp));
                        return End::ClientGone;
                    }
                }
            }
        }
    }
}
