//! Stateful reconnect: one end of a connection that outlives its sockets (signalr-wire §12).
//!
//! Each direction numbers its messages; the sender keeps them until they are acknowledged and repeats them on a new
//! socket behind a Sequence; the receiver drops what it has. An [`Endpoint`] is either end, of a hub, a gateway or a
//! client; it sees whole messages only and holds no socket. `now` is the time since any fixed origin.
//!
//! Use: [`classify`] every whole message. What comes from the peer goes to [`Endpoint::receive`], what is for the peer
//! to [`Endpoint::send`] while [`Endpoint::has_room`]. After each call, and at the [`Endpoint::deadline`] after
//! [`Endpoint::timer`], take [`Endpoint::next_write`] as far as the socket accepts bytes. When a socket is lost the
//! caller drops the incomplete message at the end of its input (signalr-wire §12.9, torn message).
//!
//! Invariant: what is sent while the connection lives is delivered once, in order, whatever sockets are lost, unless
//! the end was told ([`Timed::Overflowed`], [`Timed::WindowOver`], [`Error`]). None of the reference's defects
//! (signalr-wire §12.9) is copied; docs/spec-notes/stateful-reconnect.md lists the differences.

mod config;
mod guards;
mod inbox;
mod outbox;
mod rate;
#[cfg(test)]
mod tests;

use core::time::Duration;

use bytes::Bytes;

use crate::error::ParseError;
use crate::framing;
use crate::message::{Ack, HubMessage, HubProtocol, Incoming, Sequence};
use crate::peek;

pub use config::Config;
#[cfg(any(test, feature = "mutants"))]
pub use guards::Guard;
#[cfg(not(any(test, feature = "mutants")))]
use guards::Guard;
use guards::Guards;
use inbox::Inbox;
use outbox::Outbox;
pub use rate::ResumeRate;

/// What a whole hub message is for stateful reconnect (signalr-wire §12.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Types 1 to 5: numbered, kept, repeated.
    Counted,
    /// Type 6.
    Ping,
    /// Type 7.
    Close,
    /// Type 8, with its number.
    Ack(i64),
    /// Type 9, with its number.
    Sequence(i64),
    /// A type that no version knows: neither counted nor kept, but passed on.
    Other,
}

/// Tells what a whole message, given with its framing, is. Of types 1 to 7 only the type is read: whoever needs the
/// rest well-formed reads it. Of a JSON message that names its type twice, the first may count here.
///
/// # Errors
/// When the message has no type, or is a malformed Ack or Sequence; fatal for the connection.
pub fn classify(protocol: HubProtocol, framed: &[u8]) -> Result<Kind, ParseError> {
    if protocol == HubProtocol::Json && is_plainly_counted(framed) {
        return Ok(Kind::Counted);
    }
    Ok(match peek::message_type(protocol, framed) {
        Some(1..=5) => Kind::Counted,
        Some(6) => Kind::Ping,
        Some(7) => Kind::Close,
        Some(8 | 9) | None => kind(&protocol.read(&body(protocol, framed))?),
        Some(_) => Kind::Other,
    })
}

/// Whether a JSON message is of types 1 to 5 at one look: .NET writes the type first, JavaScript last.
fn is_plainly_counted(framed: &[u8]) -> bool {
    matches!(
        framed,
        [b'{', b'"', b't', b'y', b'p', b'e', b'"', b':', b'1'..=b'5', b',', .., framing::RECORD_SEPARATOR]
            | [.., b',', b'"', b't', b'y', b'p', b'e', b'"', b':', b'1'..=b'5', b'}', framing::RECORD_SEPARATOR]
    )
}

fn kind(incoming: &Incoming) -> Kind {
    match incoming {
        Incoming::Message(HubMessage::Ping) => Kind::Ping,
        Incoming::Message(HubMessage::Close(_)) => Kind::Close,
        Incoming::Message(HubMessage::Ack(ack)) => Kind::Ack(ack.sequence_id),
        Incoming::Message(HubMessage::Sequence(sequence)) => Kind::Sequence(sequence.sequence_id),
        Incoming::Message(_) => Kind::Counted,
        Incoming::Unknown { .. } => Kind::Other,
    }
}

/// The body of a framed message; what is not well framed gives a body that no reader takes.
fn body(protocol: HubProtocol, framed: &[u8]) -> Bytes {
    let body = match protocol {
        HubProtocol::Json => framed.strip_suffix(&[framing::RECORD_SEPARATOR]),
        HubProtocol::MessagePack => {
            framing::read_length_prefix(framed).ok().flatten().and_then(|(_, body_start)| framed.get(body_start..))
        }
    };
    Bytes::copy_from_slice(body.unwrap_or_default())
}

/// What the caller does with a message that came from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Pass it on.
    Deliver,
    /// Drop it: it was passed on before.
    Duplicate,
    /// Drop it: it was for this end (Ack, Sequence), or came on a new socket before the Sequence without which it has
    /// no number, and will be repeated behind that.
    Consumed,
}

/// The peer broke the rules; fatal for the connection. The texts are the reference's where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A Sequence above `max(next, latest + 1)` (rule I2): messages between would be lost.
    #[error("Sequence ID greater than amount of messages we've received.")]
    SequenceTooHigh {
        /// The number that came.
        sequence_id: i64,
        /// The highest that is accepted.
        highest: u64,
    },
    /// A Sequence below 1, which the reference obeys (signalr-wire §12.9).
    #[error("Sequence ID is less than 1.")]
    SequenceTooLow {
        /// The number that came.
        sequence_id: i64,
    },
}

impl Error {
    /// The exception type and text that the reference shows with detailed errors.
    #[must_use]
    pub fn detail(&self) -> String {
        format!("InvalidOperationException: {self}")
    }
}

/// Why a resume is refused; the answer is 404 (rule A7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeRefused {
    /// More per second than are granted.
    #[error("too many resumes per second")]
    TooOften,
    /// The connection ended: a Close, an overflow, an error, or too long without a socket.
    #[error("the connection is over")]
    Over,
}

/// What the passing of time asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// Send the other side of the gateway a Ping: the peer, which is away, cannot (rule I4).
    PingOther,
    /// A message waited for room too long: send a Close with error, then end (rule I4).
    Overflowed,
    /// No socket came in time: end.
    WindowOver,
}

/// One end of a stateful connection.
#[derive(Debug)]
pub struct Endpoint {
    protocol: HubProtocol,
    config: Config,
    outbox: Outbox,
    inbox: Inbox,
    rate: ResumeRate,
    guards: Guards,
    /// When the socket was lost; `None` while one is attached.
    lost_at: Option<Duration>,
    /// The number of the Sequence that a new socket starts with, until it is written.
    sequence: Option<u64>,
    /// Until when counted messages wait for the peer's first message (rule I3).
    gate: Option<Duration>,
    peer_pinged: bool,
    /// When the other side is told the next Ping of the gap.
    ping_due: Option<Duration>,
    /// When the message that waits for room ends the connection.
    overflow_due: Option<Duration>,
    /// An uncounted message, and the number of the counted one that it follows. At most one Ping.
    uncounted: Option<(u64, Bytes)>,
    close: Close,
    /// Nothing resumes any more.
    over: bool,
}

/// The Close for the peer.
#[derive(Debug)]
enum Close {
    None,
    Queued(Bytes),
    Written,
}

impl Endpoint {
    /// Starts when the handshake has just been answered, with a socket attached.
    #[must_use]
    pub fn new(protocol: HubProtocol, config: Config, now: Duration) -> Self {
        let gate = (config.first_message_wait > Duration::ZERO).then(|| now.saturating_add(config.first_message_wait));
        Self {
            protocol,
            outbox: Outbox::new(protocol, &config),
            inbox: Inbox::new(&config),
            rate: ResumeRate::new(config.resumes_per_second_max),
            guards: Guards::default(),
            lost_at: None,
            sequence: None,
            gate,
            peer_pinged: false,
            ping_due: None,
            overflow_due: None,
            uncounted: None,
            close: Close::None,
            over: false,
            config,
        }
    }

    /// Takes a guard out, to show that its absence is noticed.
    #[cfg(any(test, feature = "mutants"))]
    #[must_use]
    pub fn without(mut self, guard: Guard) -> Self {
        self.guards.take_out(guard);
        if !self.guards.holds(Guard::FirstMessageWait) {
            self.gate = None;
        }
        self
    }

    /// Whether a socket is attached.
    #[must_use]
    pub const fn attached(&self) -> bool {
        self.lost_at.is_none()
    }

    /// Judges a resume before anything is touched (rule A7); granted, [`Endpoint::resumed`] may follow.
    ///
    /// # Errors
    /// [`ResumeRefused`]; then nothing has changed.
    pub fn judge_resume(&mut self, now: Duration) -> Result<(), ResumeRefused> {
        if (self.over && self.guards.holds(Guard::EndIsForGood)) || self.window_end().is_some_and(|end| end <= now) {
            return Err(ResumeRefused::Over);
        }
        if !self.rate.take(now) && self.guards.holds(Guard::ResumeRate) {
            return Err(ResumeRefused::TooOften);
        }
        Ok(())
    }

    /// Takes the loss of the socket without a close frame. The caller drops the incomplete end of its input.
    pub fn lost(&mut self, now: Duration) {
        if self.lost_at.is_some() {
            return;
        }
        self.lost_at = Some(now);
        self.sequence = None;
        let pinged = self.peer_pinged || !self.guards.holds(Guard::PingInGapIfPinged);
        self.ping_due = pinged.then(|| now.saturating_add(self.config.ping_in_gap));
        if self.guards.holds(Guard::PingDroppedInGap) {
            self.uncounted = None;
        }
    }

    /// Takes a new socket in place of the one before, which may be attached still: the caller drops that without a
    /// close handshake. The next writes are Sequence, the repetition, then what is new.
    pub fn resumed(&mut self, _now: Duration) {
        self.lost_at = None;
        self.ping_due = None;
        self.gate = None;
        if self.guards.holds(Guard::PingDroppedInGap) {
            self.uncounted = None;
        }
        self.sequence = Some(self.outbox.repeat(self.guards)).filter(|_| self.guards.holds(Guard::SequenceFirst));
        if !self.outbox.is_waiting() {
            self.overflow_due = None;
        }
        self.inbox.resumed();
    }

    /// Takes a whole message from the peer, of `len` bytes with its framing, and tells what to do with it.
    ///
    /// # Errors
    /// [`Error`]; the connection is over.
    pub fn receive(&mut self, kind: Kind, len: usize, now: Duration) -> Result<Received, Error> {
        self.gate = None;
        match kind {
            Kind::Counted => return Ok(self.inbox.counted(len, now, self.guards)),
            Kind::Ping => {
                self.peer_pinged = true;
                if !self.guards.holds(Guard::PingUncounted) {
                    return Ok(self.inbox.counted(len, now, self.guards));
                }
            }
            Kind::Close => self.end(),
            Kind::Other => {}
            Kind::Ack(number) => {
                if self.outbox.acknowledge(number, self.guards) {
                    self.overflow_due = None;
                }
                return Ok(Received::Consumed);
            }
            Kind::Sequence(number) => {
                let taken = self.inbox.sequence(number, self.guards);
                if taken.is_err() {
                    self.end();
                }
                return taken.map(|()| Received::Consumed);
            }
        }
        Ok(Received::Deliver)
    }

    /// Whether another counted message may be given to [`Endpoint::send`]; otherwise stop reading its source. False
    /// while a message waits for room, which then has [`Config::overflow_wait`] to get it.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        !self.outbox.is_waiting() && matches!(self.close, Close::None)
    }

    /// Takes a message for the peer, in order; `framed` is one whole message. It is shared, not copied: one that was cut
    /// from a larger buffer keeps all of that.
    ///
    /// Counted ones are kept until acknowledged. A Ping or unknown type is dropped in the gap, behind one that is
    /// still to be written, and while a message waits for room. A Close follows what was sent, without regard to the
    /// limits; after [`Timed::Overflowed`] or an [`Error`] it precedes what has not been written. Nothing follows a
    /// Close. An Ack or Sequence of the other side's is not the peer's and dropped.
    pub fn send(&mut self, kind: Kind, framed: Bytes, now: Duration) {
        if !matches!(self.close, Close::None) {
            return;
        }
        match kind {
            Kind::Counted => {
                self.outbox.push(framed, self.guards);
                if self.outbox.is_waiting() && self.overflow_due.is_none() && !self.over {
                    self.overflow_due = Some(now.saturating_add(self.config.overflow_wait));
                }
            }
            Kind::Ping | Kind::Other => {
                let writable = self.attached() || !self.guards.holds(Guard::PingDroppedInGap);
                if writable && self.uncounted.is_none() && !self.outbox.is_waiting() {
                    self.uncounted = Some((self.outbox.sent(), framed));
                }
            }
            Kind::Close => {
                self.close = Close::Queued(framed);
                self.outbox.release();
                self.gate = None;
                self.overflow_due = None;
            }
            Kind::Ack(_) | Kind::Sequence(_) => {
                if !self.guards.holds(Guard::ForeignAckDropped) {
                    self.uncounted = Some((self.outbox.sent(), framed));
                }
            }
        }
    }

    /// Gives the next whole message for the attached socket, an Ack that is due before others; it counts as written.
    /// `None` when nothing may be written now.
    pub fn next_write(&mut self, now: Duration) -> Option<Bytes> {
        if self.lost_at.is_some() || matches!(self.close, Close::Written) {
            return None;
        }
        if let Some(number) = self.sequence.take() {
            let sequence_id = i64::try_from(number).ok()?;
            return Some(self.protocol.to_bytes(&HubMessage::Sequence(Sequence { sequence_id })));
        }
        if let Some(sequence_id) = self.inbox.take_ack(now) {
            return Some(self.protocol.to_bytes(&HubMessage::Ack(Ack { sequence_id })));
        }
        let overtakes = self.over && self.guards.holds(Guard::CloseOfOverflowFirst);
        if matches!(self.close, Close::Queued(_)) && (overtakes || !self.guards.holds(Guard::CloseInOrder)) {
            return self.take_close();
        }
        if let Some((_, framed)) = self.uncounted.take_if(|(behind, _)| *behind < self.outbox.cursor()) {
            return Some(framed);
        }
        let ends = self.guards.holds(Guard::FirstMessageWaitEnds);
        if self.gate.is_some_and(|gate| gate > now || !ends) {
            return None;
        }
        self.outbox.next_write().or_else(|| self.take_close())
    }

    /// When [`Endpoint::timer`] is due, and [`Endpoint::next_write`] after it; `None` when time does not matter.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if self.over || matches!(self.close, Close::Written) {
            return None;
        }
        let socket = self.attached().then(|| [self.inbox.ack_due(), self.gate_end()]).into_iter().flatten();
        let times = [self.ping_due, self.overflow_due, self.window_end()];
        socket.chain(times).flatten().min()
    }

    /// Takes the passing of time; call it at the deadline until `None`.
    pub fn timer(&mut self, now: Duration) -> Option<Timed> {
        if self.over {
            return None;
        }
        self.inbox.timer(now);
        self.gate.take_if(|gate| *gate <= now && self.guards.holds(Guard::FirstMessageWaitEnds));
        if self.window_end().is_some_and(|end| end <= now) {
            self.end();
            return Some(Timed::WindowOver);
        }
        if self.overflow_due.is_some_and(|due| due <= now) && self.guards.holds(Guard::OverflowTold) {
            self.end();
            return Some(Timed::Overflowed);
        }
        if self.ping_due.is_some_and(|due| due <= now) {
            self.ping_due = Some(now.saturating_add(self.config.ping_in_gap));
            return Some(Timed::PingOther).filter(|_| self.guards.holds(Guard::PingInGap));
        }
        None
    }

    /// Whether something is still to be written on this socket, now or when its time has come.
    #[must_use]
    pub fn has_unwritten(&self) -> bool {
        self.uncounted.is_some() || self.outbox.has_next() || matches!(self.close, Close::Queued(_))
    }

    /// Bytes kept for the peer, framing included.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.outbox.held_bytes()
    }

    /// Messages written again so far.
    #[must_use]
    pub const fn resent(&self) -> u64 {
        self.outbox.resent()
    }

    /// Duplicates dropped so far.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.inbox.duplicates()
    }

    fn window_end(&self) -> Option<Duration> {
        let end = self.lost_at?.checked_add(self.config.window)?;
        self.guards.holds(Guard::Window).then_some(end)
    }

    /// When the messages that wait for the peer's first one go, if there are any.
    fn gate_end(&self) -> Option<Duration> {
        self.gate.filter(|_| self.outbox.has_next())
    }

    fn end(&mut self) {
        self.over = true;
        self.overflow_due = None;
        self.ping_due = None;
    }

    fn take_close(&mut self) -> Option<Bytes> {
        match core::mem::replace(&mut self.close, Close::Written) {
            Close::Queued(framed) => {
                self.end();
                Some(framed)
            }
            other => {
                self.close = other;
                None
            }
        }
    }
}
