//! Connections whose client arrives over Server-Sent Events, long polling or WebTransport while the hub sees a WebSocket
//! (or the reverse: anything but a WebSocket pair).
//!
//! Client → hub stays a byte stream; hub → client is cut at whole messages (rule E1). An [`Edge`] is shared by the
//! requests of its client and by the task that reads its hub.
//!
//! Invariants: beyond `waiting_bytes_max` and one whole message the hub is not read (rule E2); POSTs go on one after the
//! other; what has ended answers 404.

mod boundary;
mod inward;
mod outbox;
mod poll;
mod stream;
mod upward;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use hubgate_protocol::message::Close;
use hubgate_protocol::{HubMessage, HubProtocol};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use self::inward::read_hub;
pub(crate) use self::outbox::{End, Outbox, Taken};
pub(crate) use self::poll::{Asked, Handover, Poll};
pub(crate) use self::stream::event_stream;
pub(crate) use self::upward::{Upward, UpwardError};

use crate::backend::Backend;
use crate::flow::Carrier;
use crate::identity::Admission;
use crate::link::Clock;
use crate::relay::{Spoken, Traffic};

/// How a client is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A WebSocket.
    WebSocket,
    /// Server-Sent Events and POSTs.
    EventStream,
    /// Polls and POSTs.
    LongPolling,
    /// A WebTransport session.
    WebTransport,
}

impl Kind {
    /// The name in texts, logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "WebSockets",
            Self::EventStream => "ServerSentEvents",
            Self::LongPolling => "LongPolling",
            Self::WebTransport => "WebTransport",
        }
    }
}

/// Bounds and waits of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of whole messages that may wait for the client.
    pub(crate) waiting_bytes_max: usize,
    /// Longest message of a hub.
    pub(crate) hub_message_bytes_max: usize,
    /// How long writing to the client may be stuck.
    pub(crate) send_timeout: std::time::Duration,
    /// How long a poll waits.
    pub(crate) poll_timeout: std::time::Duration,
    /// How long a hub's close frame is waited for.
    pub(crate) close_timeout: std::time::Duration,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Edge {
    /// How the client is attached.
    pub(crate) kind: Kind,
    /// Bounds and waits.
    pub(crate) bounds: Bounds,
    /// Messages for the client.
    outbox: Mutex<Outbox>,
    /// Something for the client, or the end.
    out_ready: Notify,
    /// The outbox was emptied.
    out_room: Notify,
    /// The way to the hub; its lock keeps POSTs in order.
    upward: tokio::sync::Mutex<Upward>,
    /// Control frames (Pongs) that wait for whoever writes next.
    control: Mutex<bytes::BytesMut>,
    /// What the client speaks.
    spoken: Mutex<Spoken>,
    /// Whose connection it is, fixed by the first transport request, and what its hub has admitted (rules A4, A5).
    admission: Mutex<Admission>,
    /// The backend to be asked about new credentials; `None` where the hub knows nothing of the client's.
    pub(crate) judge: Option<Arc<Backend>>,
    /// Cancelled when the connection is over for its client.
    pub(crate) over: CancellationToken,
    /// Cancelled when nothing more is to be written to the client.
    aborted: CancellationToken,
    /// Cancelled when the hub answers nothing any more.
    hub_dead: CancellationToken,
    /// Second of the last poll's end; `u32::MAX` while one is pending.
    last_poll: AtomicU32,
    /// Second in which the hub was last heard.
    hub_heard: AtomicU32,
    /// Second since which messages wait; `u32::MAX` while none do.
    waits_since: AtomicU32,
    /// The HTTP/1.1 connection of an event stream.
    carrier: OnceLock<Arc<Carrier>>,
    /// The route's counters.
    traffic: Arc<Traffic>,
    clock: Arc<Clock>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// The client's bytes so far end inside a message.
    torn: AtomicBool,
    /// The hub's close frame: code and reason.
    hub_close: OnceLock<Option<(u16, String)>>,
    /// How the client left, where that is for the hub to know: a close, or `None` for a loss.
    client_left: OnceLock<Option<(u16, String)>>,
}

impl Edge {
    /// A connection whose hub has just been reached.
    pub(crate) fn new(
        kind: Kind,
        bounds: Bounds,
        upward: Upward,
        admission: Admission,
        judge: Option<Arc<Backend>>,
        traffic: Arc<Traffic>,
        clock: Arc<Clock>,
    ) -> Arc<Self> {
        traffic.speaking(Spoken::Unknown, kind).inc();
        let last_poll = AtomicU32::new(clock.now());
        Arc::new(Self {
            kind,
            bounds,
            outbox: Mutex::default(),
            out_ready: Notify::new(),
            out_room: Notify::new(),
            upward: tokio::sync::Mutex::new(upward),
            control: Mutex::default(),
            spoken: Mutex::default(),
            admission: Mutex::new(admission),
            judge,
            over: CancellationToken::new(),
            aborted: CancellationToken::new(),
            hub_dead: CancellationToken::new(),
            last_poll,
            hub_heard: AtomicU32::new(clock.now()),
            waits_since: AtomicU32::new(u32::MAX),
            carrier: OnceLock::new(),
            traffic,
            clock,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            torn: AtomicBool::new(false),
            hub_close: OnceLock::new(),
            client_left: OnceLock::new(),
        })
    }

    /// What the client speaks, as far as is known.
    pub(crate) fn spoken(&self) -> Spoken {
        *self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_speaks(&self, spoken: Spoken) {
        let before = std::mem::replace(&mut *self.spoken.lock().unwrap_or_else(PoisonError::into_inner), spoken);
        self.traffic.speaking(before, self.kind).dec();
        self.traffic.speaking(spoken, self.kind).inc();
    }

    /// The hub protocol, where it is one whose messages we can tell apart.
    fn protocol(&self) -> Option<HubProtocol> {
        match self.spoken() {
            Spoken::Json => Some(HubProtocol::Json),
            Spoken::MessagePack => Some(HubProtocol::MessagePack),
            _ => None,
        }
    }

    /// Whose connection it is, locked.
    pub(crate) fn admission(&self) -> std::sync::MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self) -> std::sync::MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the outbox; what that adds or takes is counted among all waiting bytes (rule F1).
    fn with_outbox<R>(&self, change: impl FnOnce(&mut Outbox) -> R) -> R {
        let mut outbox = self.outbox();
        let (waited, held) = (outbox.len(), outbox.held());
        let result = change(&mut outbox);
        if outbox.len() == 0 {
            self.waits_since.store(u32::MAX, Relaxed);
        } else if waited == 0 {
            self.waits_since.store(self.clock.now(), Relaxed);
        }
        let holds = outbox.held();
        drop(outbox);
        self.clock.buffered().change(held, holds);
        result
    }

    /// Notes which HTTP/1.1 connection carries the event stream.
    pub(crate) fn carried_by(&self, carrier: Arc<Carrier>) {
        let _only_once = self.carrier.set(carrier);
    }

    /// Ends writing at once: resets the event stream's connection, so that what HTTP holds of it is freed.
    pub(crate) fn abort(&self) {
        self.aborted.cancel();
        if let Some(carrier) = self.carrier.get() {
            carrier.abort();
        }
    }

    /// Second since which messages wait for the client; `u32::MAX` while none do.
    pub(crate) fn waits_since(&self) -> u32 {
        self.waits_since.load(Relaxed)
    }

    /// Puts one whole message or unit into the outbox.
    pub(crate) fn deliver(&self, unit: &[u8]) {
        self.bytes_out.fetch_add(unit.len() as u64, Relaxed);
        self.traffic.hub_bytes.inc_by(unit.len() as u64);
        self.traffic.reframed_messages.inc();
        self.with_outbox(|outbox| outbox.push(unit));
        self.out_ready.notify_waiters();
    }

    /// Ends the connection for its client; what waits can still be fetched unless `discard`. The first end counts.
    pub(crate) fn end(&self, end: End, discard: bool) {
        self.with_outbox(|outbox| outbox.end(end, discard));
        self.out_ready.notify_waiters();
        self.out_room.notify_waiters();
    }

    /// Ends it from our side with a Close message where the client speaks a protocol of ours (rule E4).
    pub(crate) fn part(&self, end: End, discard: bool) {
        let farewell = match (self.protocol(), end) {
            (Some(protocol), End::Refused) => Some(error_close(protocol)),
            _ => self.spoken().farewell().map(|(_, message)| BytesMut::from(message)),
        };
        self.part_with(end, discard, farewell.as_deref());
    }

    fn part_with(&self, end: End, discard: bool, farewell: Option<&[u8]>) {
        self.with_outbox(|outbox| {
            if outbox.ended().is_none() {
                if discard {
                    outbox.clear();
                }
                if let (Some(message), true, false) = (farewell, outbox.handshaken, outbox.closed) {
                    outbox.push(message);
                }
                outbox.end(end, false);
            }
        });
        self.out_ready.notify_waiters();
        self.out_room.notify_waiters();
    }

    /// Ends it since its client is gone or does not read.
    pub(crate) fn give_up(&self) {
        self.end(End::ClientGone, true);
        self.over.cancel();
    }

    /// Ends it for a DELETE: a pending poll gets the Close message, with an error if the client left half a message
    /// behind (signalr-wire §11.4); what waited is lost.
    pub(crate) fn deleted(&self) {
        let torn = self.torn.load(Relaxed);
        match self.protocol() {
            Some(protocol) if torn => self.part_with(End::ClientClosed, true, Some(&error_close(protocol))),
            _ => self.part(End::ClientClosed, true),
        }
    }

    /// The client of a session has left: with a close, or by being lost (rule E4: a loss stays a loss).
    pub(crate) fn client_left(&self, close: Option<(u16, String)>) {
        let end = if close.is_some() { End::ClientClosed } else { End::ClientGone };
        let _first_counts = self.client_left.set(close);
        self.end(end, true);
        self.over.cancel();
    }

    /// The hub's close frame, once it has come: code and reason, if it had any.
    pub(crate) fn hub_close(&self) -> Option<(u16, String)> {
        self.hub_close.get().cloned().flatten()
    }

    /// Whether a Close message tells the client of the end: it was pushed, or the hub's has gone by.
    pub(crate) fn said_close(&self) -> bool {
        let outbox = self.outbox();
        outbox.closed || outbox.handshaken && self.spoken().farewell().is_some()
    }

    /// Counts bytes that were taken and are being written as waiting (rule F1).
    pub(crate) fn holding(&self, bytes: usize) -> Holding<'_> {
        self.clock.buffered().change(0, bytes);
        self.waits_since.store(self.clock.now(), Relaxed);
        Holding { edge: self, bytes }
    }

    /// Waits until the connection is given up for its client.
    pub(crate) async fn given_up(&self) {
        self.aborted.cancelled().await;
    }

    /// Waits for messages or the end.
    pub(crate) async fn next(&self) -> Taken {
        loop {
            let ready = self.out_ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            match self.take() {
                Taken::Nothing => ready.await,
                taken => return taken,
            }
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        self.outbox().ended()
    }

    /// Bytes that wait for the client.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outbox().len()
    }

    /// Bytes from and to the client so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Relaxed), self.bytes_out.load(Relaxed))
    }

    /// Seconds since the hub was last heard.
    pub(crate) fn hub_silence(&self) -> u32 {
        self.clock.now().saturating_sub(self.hub_heard.load(Relaxed))
    }

    /// Pings a hub that has been silent for `ping_after` seconds, and gives it up after `dead_after` (rule D8).
    pub(crate) async fn look_after_hub(&self, ping_after: u32, dead_after: u32) {
        let silence = self.hub_silence();
        if silence >= dead_after {
            self.part(End::HubLost, false);
            self.hub_dead.cancel();
        } else if silence > 0 && silence.is_multiple_of(ping_after.max(1)) {
            self.ping_hub();
            self.flush_control().await;
        }
    }

    /// Whether no poll has come for longer than `timeout_seconds`.
    pub(crate) fn abandoned(&self, now: u32, timeout_seconds: u32) -> bool {
        self.kind == Kind::LongPolling && {
            let last = self.last_poll.load(Relaxed);
            last != u32::MAX && now.saturating_sub(last) > timeout_seconds
        }
    }

    /// Takes all that waits, together with the end if nothing does.
    fn take(&self) -> Taken {
        let taken = self.with_outbox(Outbox::take);
        if matches!(taken, Taken::Messages(_)) {
            self.out_room.notify_waiters();
        }
        taken
    }

    /// Takes only the next unit.
    fn take_one(&self) -> Taken {
        let taken = self.with_outbox(Outbox::take_one);
        if matches!(taken, Taken::Messages(_)) {
            self.out_room.notify_waiters();
        }
        taken
    }

    /// Whether units must be kept apart on an event stream: raw endpoints and protocols we do not know (rule E3).
    fn keeps_units(&self) -> bool {
        self.protocol().is_none()
    }

    /// Adds bytes that came from the client to the counters.
    fn count_in(&self, bytes: &Bytes) {
        self.bytes_in.fetch_add(bytes.len() as u64, Relaxed);
        self.traffic.client_bytes.inc_by(bytes.len() as u64);
    }
}

/// Bytes that were taken out of the outbox and wait to be written.
#[derive(Debug)]
pub(crate) struct Holding<'a> {
    edge: &'a Edge,
    bytes: usize,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.edge.clock.buffered().change(self.bytes, 0);
        if self.edge.waiting_bytes() == 0 {
            self.edge.waits_since.store(u32::MAX, Relaxed);
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.clock.buffered().change(self.outbox().held(), 0);
        self.traffic.speaking(self.spoken(), self.kind).dec();
    }
}

/// The Close message of a connection that cannot go on (signalr-wire §11.4).
fn error_close(protocol: HubProtocol) -> BytesMut {
    let mut close = BytesMut::new();
    protocol.write(&HubMessage::Close(Close::with_error(None)), &mut close);
    close
}
