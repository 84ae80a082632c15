//! WebSocket ⇄ WebSocket: frames go on verbatim, their boundaries are followed, nothing is unmasked.
//!
//! One future for both directions, hand-written for two reasons measured in `benches/`: an idle relay holds no buffer
//! (bytes are read into a buffer that the thread lends), and a message costs one read and one write.
//!
//! Invariants: what cannot be written stops the reading on the other side (nothing queues up beyond one read), and what
//! the gateway itself says ([`Farewell`]) goes out at a message boundary only (rule E4).

mod direction;
mod peek;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hubgate_protocol::websocket;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::AsyncWrite;

pub(crate) use self::peek::{Spoken, judge};

use self::direction::{Direction, Pumped, Stop};
use self::peek::Peek;
use crate::edge::Kind;
use crate::io::Stream;
use crate::link::{Clock, Link, Orders};

/// How long a peer has to finish its side after we have said farewell, in seconds (as the reference's `CloseTimeout`).
const LINGER_SECONDS: u32 = 5;

/// Counters of one route, shared by its relays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    /// WebSocket messages from clients.
    pub(crate) client_messages: Counter,
    /// Bytes from clients, framing included.
    pub(crate) client_bytes: Counter,
    /// WebSocket messages from hubs.
    pub(crate) hub_messages: Counter,
    /// Bytes from hubs, framing included.
    pub(crate) hub_bytes: Counter,
    /// Hub messages to clients where the gateway re-frames (rule E6).
    pub(crate) reframed_messages: Counter,
    /// Answers of polls that were lost behind us and given again.
    pub(crate) repeated_polls: Counter,
    /// Answers of polls that could not be handed over, so that their messages waited again.
    pub(crate) returned_polls: Counter,
    /// Messages written again to clients that came back.
    pub(crate) stateful_resent: Counter,
    /// Messages that clients repeated and their hubs had already.
    pub(crate) stateful_duplicates: Counter,
    /// Connections that ended because their buffer was full for too long.
    pub(crate) stateful_overflows: Counter,
    /// Bytes kept now until clients acknowledge them.
    pub(crate) stateful_bytes: Gauge,
    /// Live connections by transport (in the order of [`Kind::ALL`]) and by what they speak ([`Spoken::ALL`]).
    pub(crate) speaking: [[Gauge; 5]; 4],
}

impl Traffic {
    /// The gauge of connections that speak so.
    pub(crate) fn speaking(&self, spoken: Spoken, kind: Kind) -> &Gauge {
        let [web_sockets, event_streams, long_polling, web_transport] = &self.speaking;
        let [unknown, json, messagepack, other, opaque] = match kind {
            Kind::WebSocket => web_sockets,
            Kind::EventStream => event_streams,
            Kind::LongPolling => long_polling,
            Kind::WebTransport => web_transport,
        };
        match spoken {
            Spoken::Unknown => unknown,
            Spoken::Json => json,
            Spoken::MessagePack => messagepack,
            Spoken::Other => other,
            Spoken::Opaque => opaque,
        }
    }
}

/// Who ended a relay, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client's close frame, or its end of stream.
    ClientClosed,
    /// The client was lost without a close frame.
    ClientLost,
    /// The hub closed with a close frame.
    HubClosed,
    /// The hub was lost without a close frame.
    HubLost,
    /// The client did not read for the send time-out.
    ClientStuck,
    /// A side was silent, not even Pongs came.
    Silent,
    /// The gateway refused to go on.
    Refused,
    /// The gateway is stopping.
    Drained,
}

/// What a finished relay tells.
#[derive(Debug)]
pub(crate) struct Report {
    /// Who ended it.
    pub(crate) outcome: Outcome,
    /// What was spoken.
    pub(crate) spoken: Spoken,
    /// Bytes from client and hub.
    pub(crate) bytes: (u64, u64),
}

/// Both ends of a relay and the bytes already read from them.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The client's stream.
    pub(crate) client: Stream,
    /// Bytes read from the client behind its upgrade request.
    pub(crate) client_ahead: Bytes,
    /// The hub's stream.
    pub(crate) hub: Stream,
    /// Bytes read from the hub behind its 101.
    pub(crate) hub_ahead: Bytes,
    /// Frames for the hub before all else: what was posted early (signalr-wire §5.1).
    pub(crate) early: Bytes,
    /// A loss of the hub's connection becomes a loss of the client's: both ends know how to come back (rule I5).
    pub(crate) passes_losses: bool,
}

/// What the gateway shares with a relay.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// The sweep's side.
    pub(crate) link: Arc<Link>,
    /// The clock.
    pub(crate) clock: Arc<Clock>,
    /// The route's counters.
    pub(crate) traffic: Arc<Traffic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Both directions flow.
    Open,
    /// The client has been told; its stream is read to the end.
    Lingering(Outcome),
}

/// One relayed WebSocket; resolves when both sides are done.
#[derive(Debug)]
pub(crate) struct Relay {
    client: Stream,
    hub: Stream,
    up: Direction,
    down: Direction,
    around: Surroundings,
    peek: Option<Box<Peek>>,
    spoken: Spoken,
    phase: Phase,
    draining: bool,
    passes_losses: bool,
    /// The client's close frame came before the hub's.
    client_closed_first: bool,
    listening: bool,
    bytes: (u64, u64),
}

impl Relay {
    /// Joins two streams behind their upgrades.
    pub(crate) fn new(ends: Ends, around: Surroundings) -> Self {
        let now = around.clock.now();
        around.link.client_heard.store(now, Relaxed);
        around.link.hub_heard.store(now, Relaxed);
        let mut relay = Self {
            client: ends.client,
            hub: ends.hub,
            up: Direction::default(),
            down: Direction::default(),
            around,
            peek: Some(Box::default()),
            spoken: Spoken::Unknown,
            phase: Phase::Open,
            draining: false,
            passes_losses: ends.passes_losses,
            client_closed_first: false,
            listening: false,
            bytes: (0, 0),
        };
        relay.around.traffic.speaking(Spoken::Unknown, Kind::WebSocket).inc();
        relay.up.hold(&ends.early);
        if !ends.client_ahead.is_empty() {
            relay.take_from_client(&ends.client_ahead);
            relay.up.hold(&ends.client_ahead);
        }
        if !ends.hub_ahead.is_empty() {
            relay.take_from_hub(&ends.hub_ahead);
            relay.down.hold(&ends.hub_ahead);
        }
        relay
    }

    fn now_speaks(&mut self, spoken: Spoken) {
        self.around.traffic.speaking(self.spoken, Kind::WebSocket).dec();
        self.around.traffic.speaking(spoken, Kind::WebSocket).inc();
        self.spoken = spoken;
        if spoken != Spoken::Opaque {
            // Hubs end their silent clients themselves.
            self.around.link.idle_limit.store(0, Relaxed);
        }
    }

    fn talked(&self) {
        if self.around.link.idle_limit.load(Relaxed) != 0 {
            self.around.link.talked.store(self.around.clock.now(), Relaxed);
        }
    }

    /// Follows what came from the client, before it is written to the hub.
    fn take_from_client(&mut self, bytes: &[u8]) {
        self.bytes.0 += bytes.len() as u64;
        self.around.traffic.client_bytes.inc_by(bytes.len() as u64);
        let peek = &mut self.peek;
        let messages = self.up.track(bytes, |header, payload, offset| {
            if let Some(peek) = peek {
                peek.see(header, payload, offset);
            }
        });
        self.client_closed_first |= self.up.saw_close_frame && !self.down.saw_close_frame;
        if messages > 0 {
            self.around.traffic.client_messages.inc_by(messages);
            self.talked();
        }
        if let Some(spoken) = self.peek.as_ref().and_then(|peek| peek.verdict()) {
            self.now_speaks(spoken);
            self.peek = None;
        }
    }

    /// Follows what came from the hub, before it is written to the client.
    fn take_from_hub(&mut self, bytes: &[u8]) {
        self.bytes.1 += bytes.len() as u64;
        self.around.traffic.hub_bytes.inc_by(bytes.len() as u64);
        let messages = self.down.track(bytes, |_, _, _| {});
        if messages > 0 {
            self.around.traffic.hub_messages.inc_by(messages);
            self.talked();
        }
    }

    /// Moves bytes from the client to the hub until one side would block.
    fn pump_up(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            match self.up.pump(cx, &mut self.client, &mut self.hub) {
                Poll::Ready(Pumped::Read(bytes)) => {
                    self.around.link.client_heard.store(self.around.clock.now(), Relaxed);
                    self.take_from_client(&bytes);
                    self.up.write(cx, &mut self.hub, bytes);
                }
                Poll::Ready(Pumped::Stopped(stop)) => return Poll::Ready(stop),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether the client has closed and the hub's answer to that was the last it gets.
    fn client_is_done(&self) -> bool {
        self.client_closed_first
            && self.down.saw_close_frame
            && !self.up.is_blocked()
            && self.up.tracker.at_frame_boundary()
            && self.down.tracker.at_frame_boundary()
    }

    /// Ends the client's connection: after both close frames that is the server's part (RFC 6455 §7.1.1). The hub's own
    /// end is waited for, so that the port between us is not blocked at our side.
    fn close_client(&mut self) {
        self.client = Stream::Closed;
        self.around.link.deadline.store(self.around.clock.now() + LINGER_SECONDS + 1, Relaxed);
    }

    /// Moves bytes from the hub to the client until one side would block.
    fn pump_down(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            match self.down.pump(cx, &mut self.hub, &mut self.client) {
                Poll::Ready(Pumped::Read(bytes)) => {
                    self.around.link.hub_heard.store(self.around.clock.now(), Relaxed);
                    self.take_from_hub(&bytes);
                    let closes = self.client_is_done() && self.client.close_with_next_write();
                    self.down.write(cx, &mut self.client, bytes);
                    if closes && !self.down.is_blocked() {
                        self.close_client();
                    }
                    if self.draining && self.down.tracker.at_message_boundary() {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Pumped::Stopped(stop)) => return Poll::Ready(stop),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Carries out what the sweep has ordered; `Some` ends the relay.
    fn obey(&mut self, cx: &mut Context<'_>) -> Option<Outcome> {
        if !self.listening {
            self.around.link.listen(cx.waker());
            self.listening = true;
        }
        let mut orders = self.around.link.take_orders();
        if orders.0 == 0 {
            return None;
        }
        self.around.link.listen(cx.waker());
        orders.0 |= self.around.link.take_orders().0;
        if orders.has(Orders::STUCK | Orders::GIVE_UP) {
            self.client.reset_on_close();
            return Some(Outcome::ClientStuck);
        }
        if orders.has(Orders::DEAD) {
            return Some(Outcome::Silent);
        }
        if orders.has(Orders::DEADLINE) {
            // The client has not done its part of the closing.
            self.client.reset_on_close();
            return Some(match self.phase {
                Phase::Lingering(outcome) => outcome,
                Phase::Open if matches!(self.client, Stream::Closed) => Outcome::ClientClosed,
                Phase::Open => Outcome::Drained,
            });
        }
        if orders.has(Orders::PING) && self.phase == Phase::Open {
            // A Ping to the hub goes up, its Pong comes down, and the reverse.
            if self.down.can_expect_pong()
                && let Some(number) = self.up.ping(true)
            {
                self.down.expect_pong(number);
            }
            if self.up.can_expect_pong()
                && let Some(number) = self.down.ping(false)
            {
                self.up.expect_pong(number);
            }
        }
        if orders.has(Orders::DRAIN | Orders::DRAIN_NOW) && self.phase == Phase::Open {
            self.draining = true;
            if self.down.tracker.at_message_boundary() || orders.has(Orders::DRAIN_NOW) {
                self.part(Outcome::Drained);
            } else {
                self.around.link.deadline.store(0, Relaxed);
            }
        }
        None
    }

    /// Says farewell to the client as far as its stream allows (rule E4), and goes on to linger.
    fn part(&mut self, outcome: Outcome) {
        let mut farewell = BytesMut::new();
        let tracker = &self.down.tracker;
        if !tracker.at_frame_boundary() {
            self.client.reset_on_close();
            self.around.link.deadline.store(self.around.clock.now() + 1, Relaxed);
            self.phase = Phase::Lingering(outcome);
            self.down.cut = true;
            return;
        }
        if !self.down.saw_close_frame {
            let close = self
                .spoken
                .farewell()
                .filter(|_| tracker.at_message_boundary() && self.down.messages > 0 && !self.down.saw_hub_close);
            match close {
                Some((opcode, message)) => {
                    websocket::write_frame(&mut farewell, true, opcode, None, message);
                    websocket::write_close(&mut farewell, None, Some((1000, "")));
                }
                None => websocket::write_close(&mut farewell, None, Some((1001, ""))),
            }
        }
        self.down.hold(&farewell);
        if outcome == Outcome::Drained && self.up.tracker.at_frame_boundary() && !self.up.saw_close_frame {
            let mut towards_hub = BytesMut::new();
            websocket::write_close(&mut towards_hub, Some([0; 4]), Some((1001, "")));
            self.up.hold(&towards_hub);
        }
        self.around.link.deadline.store(self.around.clock.now() + LINGER_SECONDS + 1, Relaxed);
        self.phase = Phase::Lingering(outcome);
    }

    /// Writes what is held, then reads the client's stream to its end so that the farewell is not lost to a reset.
    fn linger(&mut self, cx: &mut Context<'_>, outcome: Outcome) -> Poll<Outcome> {
        if self.down.cut {
            return Poll::Ready(outcome);
        }
        let _best_effort = self.up.flush_held(cx, &mut self.hub);
        match self.down.flush_held(cx, &mut self.client) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(outcome),
            Poll::Ready(Ok(())) => {}
        }
        // A bare socket that is closed at once needs no shutting before.
        let closes_now = self.up.saw_close_frame && matches!(self.client, Stream::Tcp(_));
        if !self.down.shut && !closes_now {
            match Pin::new(&mut self.client).poll_shutdown(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => self.down.shut = true,
            }
        }
        if self.up.saw_close_frame {
            return Poll::Ready(outcome);
        }
        loop {
            match self.up.discard(cx, &mut self.client) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(bytes)) => {
                    self.up.track(&bytes, |_, _, _| {});
                    if self.up.saw_close_frame {
                        return Poll::Ready(outcome);
                    }
                }
                Poll::Ready(None) => return Poll::Ready(outcome),
            }
        }
    }

    /// How a relay ended whose client is no longer there.
    fn client_left(&self) -> Outcome {
        match (self.up.saw_close_frame, self.client_closed_first) {
            (false, _) => Outcome::ClientLost,
            (true, true) => Outcome::ClientClosed,
            (true, false) => Outcome::HubClosed,
        }
    }

    fn update_link(&mut self) {
        let link = &self.around.link;
        let held = self.up.held_len() + self.down.held_len();
        let before = link.held_bytes.load(Relaxed);
        if held as u64 != before {
            self.around.clock.buffered().change(usize::try_from(before).unwrap_or(0), held);
            link.held_bytes.store(held as u64, Relaxed);
        }
        let (blocked, since) = (self.down.is_blocked(), link.stuck_since.load(Relaxed));
        if !blocked && since != 0 {
            link.stuck_since.store(0, Relaxed);
        } else if blocked && (since == 0 || self.down.progressed) {
            link.stuck_since.store(self.around.clock.now() + 1, Relaxed);
        }
        self.down.progressed = false;
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let up = if matches!(self.client, Stream::Closed) { Poll::Pending } else { self.pump_up(cx) };
        match self.pump_down(cx) {
            Poll::Ready(Stop::SourceEnded { lost }) => {
                if self.down.saw_close_frame {
                    if lost && !self.up.saw_close_frame {
                        // The hub has given up waiting for the client's close frame.
                        self.client.reset_on_close();
                        return Poll::Ready(Outcome::HubClosed);
                    }
                    let first = self.client_closed_first;
                    self.part(if first { Outcome::ClientClosed } else { Outcome::HubClosed });
                } else {
                    tracing::debug!(lost, "the hub's connection ended without a close frame");
                    if self.passes_losses {
                        self.client.reset_on_close();
                        return Poll::Ready(Outcome::HubLost);
                    }
                    self.part(Outcome::HubLost);
                }
                return Poll::Pending;
            }
            Poll::Ready(Stop::SinkFailed) => return Poll::Ready(self.client_left()),
            Poll::Pending => {}
        }
        if self.draining && self.phase == Phase::Open && self.down.tracker.at_message_boundary() {
            self.part(Outcome::Drained);
            return Poll::Pending;
        }
        match up {
            Poll::Ready(Stop::SourceEnded { lost }) => {
                if lost && !self.up.saw_close_frame {
                    // An orderly end first would make this loss one that the hub takes for a client's leave.
                    self.hub.reset_on_close();
                } else {
                    let _best_effort = Pin::new(&mut self.hub).poll_shutdown(cx);
                }
                Poll::Ready(self.client_left())
            }
            // The hub may have said why before it stopped reading: its last bytes still come.
            Poll::Ready(Stop::SinkFailed) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Future for Relay {
    type Output = Report;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let this = self.get_mut();
        let mut outcome = this.obey(cx).map_or(Poll::Pending, Poll::Ready);
        if outcome.is_pending() && this.phase == Phase::Open {
            outcome = this.poll_open(cx);
        }
        if let (Poll::Pending, Phase::Lingering(why)) = (&outcome, this.phase) {
            outcome = this.linger(cx, why);
        }
        this.update_link();
        outcome.map(|outcome| Report { outcome, spoken: this.spoken, bytes: this.bytes })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let held = self.around.link.held_bytes.swap(0, Relaxed);
        self.around.clock.buffered().change(usize::try_from(held).unwrap_or(0), 0);
        self.around.traffic.speaking(self.spoken, Kind::WebSocket).dec();
    }
}

#[cfg(test)]
mod tests;
