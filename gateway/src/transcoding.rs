//! A hub that speaks the other hub protocol than its client, presented to the rest of the gateway as if it spoke the
//! client's (rules I6, I7).
//!
//! Why so: relays, event streams, polls and stateful reconnect know a hub by a WebSocket in their client's protocol, and
//! need not change. The price, frames made and read in memory, falls only on routes with `backend_protocol`. A client
//! that speaks the hub's protocol already, or one that is neither JSON nor MessagePack, has its bytes copied.
//!
//! Invariant: messages keep their order in each direction, and none is cut across frames; pings, pongs and closes pass
//! in their places; what is lost on one side is lost on the other.

mod opening;
mod side;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::framing::{self, MessageSplitter, RECORD_SEPARATOR};
use hubgate_protocol::message::Close;
use hubgate_protocol::transcode::{self, Answer, Cause, Rules, Step, Transcoder};
use hubgate_protocol::websocket::{Incoming, Violation};
use hubgate_protocol::{HubMessage, HubProtocol};
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, copy, duplex, split};

use self::opening::{Opened, open};
use self::side::{Input, Output};
use crate::io::Stream;
use crate::metrics::{Direction, TranscodeCause, TranscodeMetrics};
use crate::visit::Visit;

/// Bytes that may lie between the two sides before one of them waits.
const BETWEEN_BYTES: usize = 64 * 1024;

/// What a route with `backend_protocol` keeps for its connections.
#[derive(Debug)]
pub(crate) struct Transcoding {
    /// What its hubs speak.
    pub(crate) hub: HubProtocol,
    /// Names and hints.
    pub(crate) rules: Arc<Rules>,
    /// What it counts into.
    pub(crate) metrics: TranscodeMetrics,
}

/// Bounds and waits.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    client_message_bytes_max: usize,
    hub_message_bytes_max: usize,
    close_timeout: Duration,
}

/// Puts the transcoder in front of a hub's WebSocket, if the route has one.
pub(crate) fn in_front_of(visit: &Visit, hub: (Stream, Bytes)) -> (Stream, Bytes) {
    let Some(transcoding) = &visit.route.transcoding else { return hub };
    let config = &visit.live.config;
    let bounds = Bounds {
        client_message_bytes_max: config.limits.client_message_bytes_max,
        hub_message_bytes_max: config.limits.hub_message_bytes_max,
        close_timeout: config.timeouts.close_timeout,
    };
    let (ours, theirs) = duplex(BETWEEN_BYTES);
    tokio::spawn(run(Arc::clone(transcoding), bounds, theirs, hub, visit.gate.chance()));
    (Stream::Memory(ours), Bytes::new())
}

async fn run(
    transcoding: Arc<Transcoding>,
    bounds: Bounds,
    client: DuplexStream,
    (hub, ahead): (Stream, Bytes),
    seed: u64,
) {
    let (client_reading, client_writing) = split(client);
    let (hub_reading, hub_writing) = split(hub);
    let mut from_client = Input::of_client(client_reading, bounds.client_message_bytes_max);
    let mut from_hub = Input::of_hub(hub_reading, ahead, bounds.hub_message_bytes_max);
    let mut to_client = Output::to_client(client_writing);
    let mut to_hub = Output::to_hub(hub_writing, seed);
    let end = match open(&mut from_client, &mut from_hub, &mut to_client, transcoding.hub).await {
        Opened::Transcode { client, request, rest, controls } => {
            to_client.speaks(client);
            to_hub.speaks(transcoding.hub);
            let limits = (bounds.client_message_bytes_max, bounds.hub_message_bytes_max);
            let transcoder = Transcoder::new(client, Arc::clone(&transcoding.rules), limits.0, limits.1);
            let between = Between {
                transcoding: &transcoding,
                client,
                transcoder: Mutex::new(transcoder),
                to_client: tokio::sync::Mutex::new(to_client),
                to_hub: tokio::sync::Mutex::new(to_hub),
            };
            let end = between.both(from_client, &mut from_hub, request, rest, controls, bounds).await;
            to_hub = between.to_hub.into_inner();
            end
        }
        Opened::Untouched { first } => {
            untouched(&first, from_client, &mut from_hub, to_client, &mut to_hub, bounds).await
        }
        Opened::Lost => End::Lost,
    };
    let hub = from_hub.into_reading().unsplit(to_hub.into_writing());
    if end == End::Lost {
        hub.reset_on_close();
    }
}

/// How it ended, as the hub is to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Closed, or the hub is gone anyway.
    Orderly,
    /// The client's side was lost.
    Lost,
}

/// Copies both ways, for a client that needs no transcoding.
async fn untouched(
    first: &[u8],
    from_client: Input<ReadHalf<DuplexStream>>,
    from_hub: &mut Input<ReadHalf<Stream>>,
    to_client: Output<WriteHalf<DuplexStream>>,
    to_hub: &mut Output<WriteHalf<Stream>>,
    bounds: Bounds,
) -> End {
    if to_hub.write_raw(first).await.is_err() {
        return End::Orderly;
    }
    let (mut from_client, mut to_client) = (from_client.into_reading(), to_client.into_writing());
    let upward = async {
        let _ended_either_way = copy(&mut from_client, to_hub.writing()).await;
        let _gone_already = to_hub.writing().shutdown().await;
    };
    let downward = async {
        let _ended_either_way = copy(from_hub.reading(), &mut to_client).await;
    };
    tokio::pin!(downward);
    tokio::select! {
        () = upward => drop(tokio::time::timeout(bounds.close_timeout, downward).await),
        () = &mut downward => {}
    }
    End::Orderly
}

/// Both directions of one connection.
struct Between<'a> {
    transcoding: &'a Transcoding,
    client: HubProtocol,
    transcoder: Mutex<Transcoder>,
    to_client: tokio::sync::Mutex<Output<WriteHalf<DuplexStream>>>,
    to_hub: tokio::sync::Mutex<Output<WriteHalf<Stream>>>,
}

/// Why a direction went no further.
enum Stopped {
    /// The client's side is gone.
    ClientGone,
    /// The hub is gone.
    HubGone,
    /// A close frame has passed.
    Closed,
    /// Both sides were told that it is over.
    Ended,
}

impl Between<'_> {
    async fn both(
        &self,
        from_client: Input<ReadHalf<DuplexStream>>,
        from_hub: &mut Input<ReadHalf<Stream>>,
        request: Bytes,
        rest: Bytes,
        controls: Vec<Incoming>,
        bounds: Bounds,
    ) -> End {
        let upward = self.upward(from_client, request, rest, controls, bounds);
        let downward = self.downward(from_hub, bounds);
        tokio::pin!(downward);
        tokio::select! {
            stopped = upward => match stopped {
                Stopped::ClientGone => End::Lost,
                // What the hub said last is still to come.
                Stopped::Closed | Stopped::HubGone => {
                    drop(tokio::time::timeout(bounds.close_timeout, downward).await);
                    End::Orderly
                }
                Stopped::Ended => End::Orderly,
            },
            stopped = &mut downward => match stopped {
                Stopped::ClientGone => End::Lost,
                Stopped::HubGone | Stopped::Closed | Stopped::Ended => End::Orderly,
            },
        }
    }

    /// Client → hub, until one of them ends.
    async fn upward(
        &self,
        from_client: Input<ReadHalf<DuplexStream>>,
        request: Bytes,
        rest: Bytes,
        controls: Vec<Incoming>,
        bounds: Bounds,
    ) -> Stopped {
        let mut way = Way::new(self.client.splitter(bounds.client_message_bytes_max));
        let stopped = self.pass_client(from_client, &mut way, request, rest, controls).await;
        stopped.err().unwrap_or(Stopped::ClientGone)
    }

    async fn pass_client(
        &self,
        mut from_client: Input<ReadHalf<DuplexStream>>,
        way: &mut Way,
        request: Bytes,
        rest: Bytes,
        controls: Vec<Incoming>,
    ) -> Result<(), Stopped> {
        for control in controls {
            self.hub_control(&control).await?;
        }
        self.tell_hub(&request).await?;
        self.client_bytes(way, &rest).await?;
        loop {
            match from_client.take().await {
                Ok(Some(Incoming::Text(bytes) | Incoming::Binary(bytes))) => self.client_bytes(way, &bytes).await?,
                Ok(Some(control)) => {
                    self.hub_control(&control).await?;
                    if matches!(control, Incoming::Close(_)) {
                        return Err(Stopped::Closed);
                    }
                }
                Ok(None) => return Err(Stopped::ClientGone),
                Err(error) => {
                    tracing::debug!(%error, "a client's frames cannot be transcoded");
                    return Err(self.broken(Direction::FromClient, cause_of(&error)).await);
                }
            }
        }
    }

    async fn client_bytes(&self, way: &mut Way, bytes: &[u8]) -> Result<(), Stopped> {
        let mut out = BytesMut::new();
        way.rest.extend_from_slice(bytes);
        let stopped = loop {
            let whole = match way.splitter.next(&mut way.rest) {
                Ok(Some(whole)) => whole,
                Ok(None) => break None,
                Err(error) => break Some(Err(cut_cause(&error))),
            };
            let step = self.transcoder().client_message(&whole.body());
            self.count(Direction::FromClient, whole.framed().len(), &step);
            match step {
                Step::Pass(framed) | Step::Refused { answer: Answer::Hub(framed), .. } => {
                    out.extend_from_slice(&framed)
                }
                Step::Refused { answer: Answer::Client(framed), .. } => {
                    self.tell_client(&framed).await?;
                }
                Step::Refused { answer: Answer::End(close), .. } => break Some(Ok(close)),
                Step::Refused { answer: Answer::None, .. } | Step::Ignore => {}
            }
        };
        if !out.is_empty() {
            self.tell_hub(&out).await?;
        }
        match stopped {
            None => Ok(()),
            Some(Ok(close)) => Err(self.end(&close).await),
            Some(Err(cause)) => Err(self.broken(Direction::FromClient, cause).await),
        }
    }

    /// Hub → client, until one of them ends.
    async fn downward(&self, from_hub: &mut Input<ReadHalf<Stream>>, bounds: Bounds) -> Stopped {
        let mut way = Way::new(self.transcoding.hub.splitter(bounds.hub_message_bytes_max));
        self.pass_hub(from_hub, &mut way).await.err().unwrap_or(Stopped::HubGone)
    }

    async fn pass_hub(&self, from_hub: &mut Input<ReadHalf<Stream>>, way: &mut Way) -> Result<(), Stopped> {
        loop {
            match from_hub.take().await {
                Ok(Some(Incoming::Text(bytes) | Incoming::Binary(bytes))) => self.hub_bytes(way, &bytes).await?,
                Ok(Some(control)) => self.client_control(&control).await?,
                // Without a close frame the client's side sees that the hub was lost.
                Ok(None) => return Err(Stopped::HubGone),
                Err(error) => {
                    tracing::debug!(%error, "a hub's frames cannot be transcoded");
                    return Err(self.broken(Direction::ToClient, cause_of(&error)).await);
                }
            }
        }
    }

    async fn hub_bytes(&self, way: &mut Way, bytes: &[u8]) -> Result<(), Stopped> {
        way.rest.extend_from_slice(bytes);
        if !way.shaken {
            // The handshake's answer is JSON in every protocol.
            let Some(end) = memchr::memchr(RECORD_SEPARATOR, &way.rest) else { return Ok(()) };
            let answer = way.rest.split_to(end + 1);
            way.shaken = true;
            self.tell_client(&answer).await?;
        }
        let mut out = BytesMut::new();
        let stopped = loop {
            let whole = match way.splitter.next(&mut way.rest) {
                Ok(Some(whole)) => whole,
                Ok(None) => break None,
                Err(error) => break Some(Err(cut_cause(&error))),
            };
            let step = self.transcoder().hub_message(&whole.body());
            self.count(Direction::ToClient, whole.framed().len(), &step);
            match step {
                Step::Pass(framed) | Step::Refused { answer: Answer::Client(framed), .. } => {
                    out.extend_from_slice(&framed);
                }
                Step::Refused { answer: Answer::Hub(framed), .. } => self.tell_hub(&framed).await?,
                Step::Refused { answer: Answer::End(close), .. } => break Some(Ok(close)),
                Step::Refused { answer: Answer::None, .. } | Step::Ignore => {}
            }
        };
        if !out.is_empty() {
            self.tell_client(&out).await?;
        }
        match stopped {
            None => Ok(()),
            Some(Ok(close)) => Err(self.end(&close).await),
            Some(Err(cause)) => Err(self.broken(Direction::ToClient, cause).await),
        }
    }

    async fn tell_hub(&self, messages: &[u8]) -> Result<(), Stopped> {
        self.to_hub.lock().await.message(messages).await.map_err(|_| Stopped::HubGone)
    }

    async fn tell_client(&self, messages: &[u8]) -> Result<(), Stopped> {
        self.to_client.lock().await.message(messages).await.map_err(|_| Stopped::ClientGone)
    }

    async fn hub_control(&self, control: &Incoming) -> Result<(), Stopped> {
        self.to_hub.lock().await.pass_control(control).await.map_err(|_| Stopped::HubGone)
    }

    async fn client_control(&self, control: &Incoming) -> Result<(), Stopped> {
        self.to_client.lock().await.pass_control(control).await.map_err(|_| Stopped::ClientGone)
    }

    fn transcoder(&self) -> std::sync::MutexGuard<'_, Transcoder> {
        self.transcoder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, direction: Direction, bytes: usize, step: &Step) {
        let metrics = &self.transcoding.metrics;
        match step {
            Step::Pass(_) => metrics.passed(direction, bytes),
            Step::Ignore => {}
            Step::Refused { error, answer } => {
                tracing::debug!(%error, %direction, answered = *answer != Answer::None, "a message cannot be transcoded");
                metrics.refused(direction, error.cause().into());
                if matches!(error, transcode::Error::TooLarge { .. }) {
                    metrics.too_long(direction);
                }
            }
        }
    }

    /// Ends the connection because of bytes that are no messages of their protocol, or too many.
    async fn broken(&self, direction: Direction, cause: TranscodeCause) -> Stopped {
        self.transcoding.metrics.refused(direction, cause);
        if cause == TranscodeCause::Limit {
            self.transcoding.metrics.too_long(direction);
        }
        let close = self.client.to_bytes(&HubMessage::Close(Close::with_error(None)));
        self.end(&close).await
    }

    /// Says the hub protocol's goodbye to the client, and closes both WebSockets.
    async fn end(&self, close: &[u8]) -> Stopped {
        let mut to_client = self.to_client.lock().await;
        if to_client.message(close).await.is_ok() {
            let _gone_already = to_client.close().await;
        }
        let _gone_already = self.to_hub.lock().await.close().await;
        Stopped::Ended
    }
}

const fn cause_of(violation: &Violation) -> TranscodeCause {
    match violation {
        Violation::MessageTooLong(_) => TranscodeCause::Limit,
        _ => TranscodeCause::Protocol,
    }
}

const fn cut_cause(error: &framing::Error) -> TranscodeCause {
    match error {
        framing::Error::MessageTooLarge { .. } => TranscodeCause::Limit,
        framing::Error::LengthPrefix => TranscodeCause::Protocol,
    }
}

/// One direction's bytes, cut into messages.
struct Way {
    splitter: MessageSplitter,
    rest: BytesMut,
    /// The hub has answered the handshake.
    shaken: bool,
}

impl Way {
    fn new(splitter: MessageSplitter) -> Self {
        Self { splitter, rest: BytesMut::new(), shaken: false }
    }
}

impl From<Cause> for TranscodeCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Protocol => Self::Protocol,
            Cause::Value => Self::Value,
            Cause::Hint => Self::Hint,
            Cause::Limit => Self::Limit,
        }
    }
}
