//! One kept connection: the hub's WebSocket, the client's while there is one, and the numbers between them.
//!
//! Invariants: a message is written to the hub once, in order, whatever the client repeats (the endpoint drops
//! duplicates); a client that is away, or does not acknowledge, stops the reading of its hub and never the reading of its
//! own Acks; nothing is glued together over a loss (an incomplete message of the lost socket is dropped).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::HubProtocol;
use hubgate_protocol::framing::MessageSplitter;
use hubgate_protocol::stateful::{Config, Endpoint, Kind, Received, Timed, classify};
use hubgate_protocol::websocket::{Incoming, OpCode};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Kept;
use super::arrival::{Arrival, request_for_hub};
use super::closing::{Closing, Farewell, ToHub};
use super::hub_side::HubSide;
use super::socket::{Heard, Socket};
use crate::edge;
use crate::link::Orders;
use crate::relay::{Outcome, Report, Spoken, Surroundings};

/// Turns in one poll, so that a fast peer does not starve the others of its thread.
const TURNS: u8 = 16;
/// Bytes taken out of the endpoint for one write.
const WRITE_BYTES: usize = 32 * 1024;
/// Payload of our own WebSocket pings.
const PING_PAYLOAD: &[u8] = b"hubgate";

/// Bounds and waits of a kept connection.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Of the numbers and buffers.
    pub(crate) endpoint: Config,
    /// Longest message of a client.
    pub(crate) client_message_bytes_max: usize,
    /// Longest message of a hub.
    pub(crate) hub_message_bytes_max: usize,
    /// Makes masking keys differ.
    pub(crate) seed: u64,
}

/// The client's messages on their way to the hub.
#[derive(Debug)]
struct Upward {
    splitter: MessageSplitter,
    rest: BytesMut,
    /// All of `rest` came in Text frames.
    is_text: bool,
}

impl Upward {
    fn new(protocol: HubProtocol, terms: &Terms) -> Self {
        let splitter = MessageSplitter::new(protocol, terms.client_message_bytes_max);
        Self { splitter, rest: BytesMut::new(), is_text: true }
    }
}

/// A kept connection; resolves when it has ended for good.
#[derive(Debug)]
pub(crate) struct Pump {
    pub(super) kept: Arc<Kept>,
    pub(super) around: Surroundings,
    terms: Terms,
    protocol: HubProtocol,
    pub(super) client: Option<Socket>,
    pub(super) hub: HubSide,
    /// `None` until the hub has answered the handshake.
    pub(super) endpoint: Option<Endpoint>,
    upward: Upward,
    /// The handshake request is still to be taken off the client's bytes.
    expects_request: bool,
    pub(super) closing: Option<Closing>,
    started: Instant,
    timer: Pin<Box<Sleep>>,
    /// When `timer` rings, counted from `started`.
    armed: Option<Duration>,
    bytes: (u64, u64),
    told: Told,
    held: usize,
}

/// What the endpoint's counters said at the last look.
#[derive(Debug, Default)]
struct Told {
    resent: u64,
    duplicates: u64,
    kept_bytes: usize,
}

impl Pump {
    /// A connection whose client has shaken hands with version 2 of `protocol`.
    pub(super) fn new(
        kept: Arc<Kept>,
        around: Surroundings,
        terms: Terms,
        protocol: HubProtocol,
        ends: Arrival,
    ) -> Self {
        let now = around.clock.now();
        around.link.client_heard.store(now, Relaxed);
        around.link.hub_heard.store(now, Relaxed);
        around.link.idle_limit.store(0, Relaxed);
        around.traffic.speaking(spoken(protocol), edge::Kind::WebSocket).inc();
        let started = Instant::now();
        let client = Socket::of_client(ends.client, ends.client_seen, terms.client_message_bytes_max);
        Self {
            kept,
            around,
            protocol,
            client: Some(client),
            hub: HubSide::new(protocol, &terms, ends.hub, ends.hub_seen),
            endpoint: None,
            upward: Upward::new(protocol, &terms),
            terms,
            expects_request: true,
            closing: None,
            started,
            timer: Box::pin(sleep_until(started)),
            armed: None,
            bytes: (0, 0),
            told: Told::default(),
            held: 0,
        }
    }

    /// The time as the endpoint counts it.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The hub protocol of both sides.
    pub(super) fn protocol(&self) -> HubProtocol {
        self.protocol
    }

    /// Bounds and waits.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Has the connection polled again when the endpoint's next time comes.
    pub(super) fn wake_at_deadline(&mut self, cx: &mut Context<'_>) {
        if let Some(at) = self.endpoint.as_ref().and_then(Endpoint::deadline) {
            self.timer.as_mut().reset(self.started + at);
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Carries out what the sweep and the requests have ordered.
    fn obey(&mut self, cx: &mut Context<'_>) {
        self.around.link.listen(cx.waker());
        let orders = self.around.link.take_orders();
        if orders.0 == 0 {
            return;
        }
        if let Some(closing) = &mut self.closing {
            closing.hurry |= orders.has(Orders::DEADLINE | Orders::STUCK | Orders::DEAD | Orders::GIVE_UP);
            return;
        }
        if orders.has(Orders::GIVE_UP) {
            self.end(Outcome::ClientStuck, Farewell::Error, ToHub::Reset);
            return;
        }
        if orders.has(Orders::DRAIN | Orders::DRAIN_NOW) {
            self.end(Outcome::Drained, Farewell::ComeBack, ToHub::Close(Some((1001, String::new()))));
            return;
        }
        if orders.has(Orders::STUCK)
            && let Some(client) = &mut self.client
        {
            client.cut();
            self.lose_client(Outcome::ClientStuck);
        }
        if orders.has(Orders::DEAD) {
            let link = &self.around.link;
            if self.client.is_some() && link.client_heard.load(Relaxed) < link.hub_heard.load(Relaxed) {
                self.lose_client(Outcome::Silent);
            } else {
                self.end(Outcome::HubLost, Farewell::ComeBack, ToHub::Reset);
            }
        }
        if orders.has(Orders::PING) {
            self.hub.socket.put(OpCode::Ping, PING_PAYLOAD);
            if let Some(client) = &mut self.client {
                client.put(OpCode::Ping, PING_PAYLOAD);
            }
        }
        if orders.has(Orders::RESUME)
            && let Some((stream, ahead)) = self.kept.take()
        {
            self.take_newcomer(stream, &ahead);
        }
    }

    /// A client is back: what was there before is dropped without a close handshake.
    fn take_newcomer(&mut self, stream: crate::io::Stream, ahead: &Bytes) {
        let now = self.now();
        let Some(endpoint) = &mut self.endpoint else { return };
        if let Some(mut before) = self.client.take() {
            before.cut();
            endpoint.lost(now);
        }
        endpoint.resumed(now);
        self.upward = Upward::new(self.protocol, &self.terms);
        let socket = Socket::of_client(stream, BytesMut::from(&ahead[..]), self.terms.client_message_bytes_max);
        self.client = Some(socket);
        self.around.link.client_heard.store(self.around.clock.now(), Relaxed);
        self.around.link.stuck_since.store(0, Relaxed);
    }

    /// The client's socket is gone without a close frame.
    fn lose_client(&mut self, why: Outcome) {
        self.client = None;
        let now = self.now();
        let Some(endpoint) = &mut self.endpoint else {
            self.end(why, Farewell::Nothing, ToHub::Reset);
            return;
        };
        tracing::debug!("the client of a kept connection is away");
        endpoint.lost(now);
        // An incomplete message is not glued to what the next socket brings.
        self.upward = Upward::new(self.protocol, &self.terms);
        // Nobody is there to be asked whether he is.
        self.around.link.client_heard.store(u32::MAX, Relaxed);
        self.around.link.stuck_since.store(self.around.clock.now() + 1, Relaxed);
    }

    /// Ends the connection for good; the first end counts.
    pub(super) fn end(&mut self, outcome: Outcome, farewell: Farewell, to_hub: ToHub) {
        if self.closing.is_some() {
            return;
        }
        self.kept.end();
        let waits = u32::try_from(super::closing::LINGER.as_secs()).unwrap_or(u32::MAX);
        self.around.link.deadline.store(self.around.clock.now() + waits + 1, Relaxed);
        self.closing = Some(Closing::new(outcome, farewell, to_hub));
    }

    /// Takes what the client says until it would block or the hub takes no more; whether anything came.
    fn hear_client(&mut self, cx: &mut Context<'_>) -> bool {
        let mut came = false;
        loop {
            // Acks stand behind calls: the client is read on even while the hub is slow, within a bound.
            let room = self.terms.client_message_bytes_max;
            if self.hub.socket.waiting() > room || self.closing.is_some() {
                return came;
            }
            let Some(client) = &mut self.client else { return came };
            let heard = match client.hear(cx) {
                Poll::Pending => return came,
                Poll::Ready(heard) => heard,
            };
            came = true;
            self.around.link.client_heard.store(self.around.clock.now(), Relaxed);
            match heard {
                Heard::Frame(Incoming::Text(bytes)) => self.take_from_client(&bytes, true),
                Heard::Frame(Incoming::Binary(bytes)) => self.take_from_client(&bytes, false),
                Heard::Frame(Incoming::Ping(payload)) => client.put_pong(&payload),
                Heard::Frame(Incoming::Pong(_)) => {}
                Heard::Frame(Incoming::Close(close)) => {
                    self.end(Outcome::ClientClosed, Farewell::Close(close.clone()), ToHub::Close(close));
                }
                Heard::Lost => self.lose_client(Outcome::ClientLost),
                Heard::Violated(violation) => {
                    let close = Some((violation.close_code(), String::new()));
                    self.end(Outcome::Refused, Farewell::Close(close), ToHub::Reset);
                }
            }
        }
    }

    /// Passes whole messages of the client on to the hub.
    fn take_from_client(&mut self, bytes: &[u8], is_text: bool) {
        self.around.traffic.client_messages.inc();
        let upward = &mut self.upward;
        upward.is_text = is_text && (upward.is_text || upward.rest.is_empty());
        upward.rest.extend_from_slice(bytes);
        if self.expects_request {
            let Some(end) = memchr::memchr(hubgate_protocol::framing::RECORD_SEPARATOR, &upward.rest) else { return };
            drop(upward.rest.split_to(end + 1));
            self.expects_request = false;
            self.hub.socket.put(OpCode::Text, &request_for_hub(self.protocol));
        }
        if self.endpoint.is_some() {
            self.pass_up();
        } else if self.upward.rest.len() > self.terms.client_message_bytes_max {
            self.end(Outcome::Refused, Farewell::Close(Some((1009, String::new()))), ToHub::Reset);
        }
    }

    /// Numbers the client's whole messages and writes to the hub what is new, as one frame.
    pub(super) fn pass_up(&mut self) {
        let now = self.now();
        let mut batch = BytesMut::new();
        while let Some(endpoint) = &mut self.endpoint {
            let framed = match self.upward.splitter.next(&mut self.upward.rest) {
                Ok(Some(message)) => message.into_framed(),
                Ok(None) => break,
                Err(_) => {
                    self.end(Outcome::Refused, Farewell::Error, ToHub::Reset);
                    break;
                }
            };
            // What cannot be read goes on: the hub says what is wrong with it.
            let kind = classify(self.protocol, &framed).unwrap_or(Kind::Other);
            match endpoint.receive(kind, framed.len(), now) {
                Ok(Received::Deliver) => batch.extend_from_slice(&framed),
                Ok(Received::Duplicate | Received::Consumed) => {}
                Err(error) => {
                    tracing::debug!(%error, "a client's numbers are wrong");
                    self.end(Outcome::Refused, Farewell::Because(error.to_string()), ToHub::Reset);
                    break;
                }
            }
        }
        if self.upward.rest.is_empty() {
            self.upward.rest = BytesMut::new();
        }
        if !batch.is_empty() {
            let text =
                self.protocol == HubProtocol::Json && (self.upward.is_text || std::str::from_utf8(&batch).is_ok());
            self.hub.socket.put(if text { OpCode::Text } else { OpCode::Binary }, &batch);
        }
    }

    /// Rings that are due.
    fn ring(&mut self, cx: &mut Context<'_>) {
        let now = self.now();
        while self.closing.is_none() {
            let Some(timed) = self.endpoint.as_mut().and_then(|endpoint| endpoint.timer(now)) else { break };
            match timed {
                Timed::PingOther => self.hub.ping(self.protocol),
                Timed::Overflowed => {
                    tracing::debug!("a kept connection's buffer is full for too long");
                    self.around.traffic.stateful_overflows.inc();
                    self.end(Outcome::ClientStuck, Farewell::Because(OVERFLOWED.to_owned()), ToHub::Reset);
                }
                Timed::WindowOver => self.end(Outcome::ClientLost, Farewell::Nothing, ToHub::Reset),
            }
        }
        let next = self.endpoint.as_ref().and_then(Endpoint::deadline);
        if next != self.armed {
            self.armed = next;
            if let Some(at) = next {
                self.timer.as_mut().reset(self.started + at);
            }
        }
        if self.armed.is_some() && self.timer.as_mut().poll(cx).is_ready() {
            self.armed = None;
            cx.waker().wake_by_ref();
        }
    }

    /// Moves what the endpoint has for the client into its socket and writes; `false` when the socket is lost.
    pub(super) fn write_client(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let now = self.now();
        let opcode = opcode(self.protocol);
        let Some(client) = &mut self.client else { return Poll::Ready(true) };
        loop {
            while client.waiting() < WRITE_BYTES {
                let Some(message) = self.endpoint.as_mut().and_then(|endpoint| endpoint.next_write(now)) else { break };
                self.bytes.1 += message.len() as u64;
                self.around.traffic.hub_bytes.inc_by(message.len() as u64);
                self.around.traffic.reframed_messages.inc();
                client.put(opcode, &message);
            }
            if client.waiting() == 0 {
                return match client.flush(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(flushed) => Poll::Ready(flushed.is_ok()),
                };
            }
            match client.flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Tells link, account and counters how things stand.
    fn tell(&mut self) {
        let kept_bytes = self.endpoint.as_ref().map_or(0, Endpoint::buffered_bytes);
        let held = kept_bytes
            + self.hub.held_bytes()
            + self.upward.rest.len()
            + self.client.as_ref().map_or(0, Socket::waiting);
        if held != self.held {
            self.around.clock.buffered().change(self.held, held);
            self.around.link.held_bytes.store(held as u64, Relaxed);
            self.held = held;
        }
        let traffic = &self.around.traffic;
        if let Some(endpoint) = &self.endpoint {
            let (resent, duplicates) = (endpoint.resent(), endpoint.duplicates());
            traffic.stateful_resent.inc_by(resent - self.told.resent);
            traffic.stateful_duplicates.inc_by(duplicates - self.told.duplicates);
            (self.told.resent, self.told.duplicates) = (resent, duplicates);
        }
        if kept_bytes == 0 {
            self.around.link.unacknowledged_since.store(0, Relaxed);
        } else if kept_bytes < self.told.kept_bytes || self.told.kept_bytes == 0 {
            self.around.link.unacknowledged_since.store(self.around.clock.now() + 1, Relaxed);
        }
        if kept_bytes != self.told.kept_bytes {
            let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
            traffic.stateful_bytes.inc_by(signed(kept_bytes) - signed(self.told.kept_bytes));
            self.told.kept_bytes = kept_bytes;
        }
        if let Some(client) = &mut self.client {
            let read = client.take_bytes_read();
            self.bytes.0 += read;
            traffic.client_bytes.inc_by(read);
            let (blocked, progressed) = (client.waiting() > 0, client.progressed());
            let since = self.around.link.stuck_since.load(Relaxed);
            if !blocked && since != 0 {
                self.around.link.stuck_since.store(0, Relaxed);
            } else if blocked && (since == 0 || progressed) {
                self.around.link.stuck_since.store(self.around.clock.now() + 1, Relaxed);
            }
        }
    }

    /// One turn: reads both sides, writes both sides; whether anything moved.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = self.hear_client(cx);
        moved |= self.hear_hub(cx);
        self.ring(cx);
        if self.closing.is_some() {
            return true;
        }
        if let Poll::Ready(false) = self.write_client(cx) {
            // What the client still had to say comes before its loss.
            if !self.hear_client(cx) && self.client.is_some() {
                self.lose_client(Outcome::ClientLost);
            }
            moved = true;
        }
        if let Poll::Ready(Err(_)) = self.hub.socket.flush(cx) {
            self.end(Outcome::HubLost, Farewell::ComeBack, ToHub::Reset);
            return true;
        }
        moved
    }
}

/// What a client is told whose messages found no room.
const OVERFLOWED: &str = "The client has not acknowledged messages in time.";

impl Future for Pump {
    type Output = Report;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let this = self.get_mut();
        this.obey(cx);
        let mut turns = 0;
        while this.closing.is_none() && this.turn(cx) {
            turns += 1;
            if turns >= TURNS {
                cx.waker().wake_by_ref();
                break;
            }
        }
        let outcome = if this.closing.is_some() { this.close(cx) } else { Poll::Pending };
        this.tell();
        outcome.map(|outcome| Report { outcome, spoken: spoken(this.protocol), bytes: this.bytes })
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.kept.end();
        self.around.clock.buffered().change(self.held, 0);
        self.around.traffic.stateful_bytes.dec_by(i64::try_from(self.told.kept_bytes).unwrap_or(i64::MAX));
        self.around.traffic.speaking(spoken(self.protocol), edge::Kind::WebSocket).dec();
    }
}

/// The opcode that a protocol's messages travel in.
pub(super) fn opcode(protocol: HubProtocol) -> OpCode {
    match protocol {
        HubProtocol::Json => OpCode::Text,
        HubProtocol::MessagePack => OpCode::Binary,
    }
}

fn spoken(protocol: HubProtocol) -> Spoken {
    match protocol {
        HubProtocol::Json => Spoken::Json,
        HubProtocol::MessagePack => Spoken::MessagePack,
    }
}
