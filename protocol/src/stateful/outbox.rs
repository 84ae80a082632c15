//! The sender's half: what was numbered, written, acknowledged, and what the next socket must repeat.
//!
//! Numbers are implicit: the front of the queue is `first`, the rest follow. Of the kept numbers
//! `first ..= sent`, those up to `acknowledged` stay for rule I2 only; those from `cursor` on are still to be
//! written on this socket.
//!
//! Invariant: `first <= cursor <= sent + 1`, `acknowledged <= written <= sent`, and `first` is never above the
//! lowest `next` that the peer can have, so a Sequence with it is never refused.

use std::collections::VecDeque;

use bytes::Bytes;

use super::config::Config;
use super::guards::{Guard, Guards};
use crate::message::HubProtocol;

#[derive(Debug)]
pub(super) struct Outbox {
    protocol: HubProtocol,
    unacknowledged_bytes_max: usize,
    held_bytes_max: usize,
    /// Number of the oldest kept message, or `sent + 1`.
    first: u64,
    /// How many of the oldest kept messages gave up their bytes; all of them are acknowledged.
    stubs: u64,
    /// The kept messages behind the stubs.
    held: VecDeque<Bytes>,
    /// Bytes of `held` and of the stubs in front of it.
    held_bytes: usize,
    /// Bytes of those above both `acknowledged` and `repeated_to`, less the waiting one.
    fresh_bytes: usize,
    /// Number of the last message taken in.
    sent: u64,
    /// Highest number ever written on any socket.
    written: u64,
    /// Number to be written next on this socket.
    cursor: u64,
    /// Highest number that the peer acknowledged.
    acknowledged: u64,
    /// Highest number written on earlier sockets: what this socket repeats.
    repeated_to: u64,
    /// The first message that waits for room, with all behind it; there is one at most unless the caller insists.
    waiting: Option<Waiting>,
    resent: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    from: u64,
    bytes: usize,
}

impl Outbox {
    pub(super) fn new(protocol: HubProtocol, config: &Config) -> Self {
        Self {
            protocol,
            unacknowledged_bytes_max: config.unacknowledged_bytes_max,
            held_bytes_max: config.held_bytes_max,
            first: 1,
            stubs: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            fresh_bytes: 0,
            sent: 0,
            written: 0,
            cursor: 1,
            acknowledged: 0,
            repeated_to: 0,
            waiting: None,
            resent: 0,
        }
    }

    /// Number of the last message taken in.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// The number that the next message written on this socket has.
    pub(super) const fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) const fn resent(&self) -> u64 {
        self.resent
    }

    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether another message would be written at once, as far as the limits go.
    fn has_room(&self, guards: Guards) -> bool {
        let kept = self.held_bytes.saturating_sub(self.waiting.map_or(0, |waiting| waiting.bytes));
        (self.fresh_bytes <= self.unacknowledged_bytes_max || !guards.holds(Guard::UnacknowledgedLimit))
            && (kept <= self.held_bytes_max || !guards.holds(Guard::HeldLimit))
    }

    /// Takes a counted message in; it may have to wait for room.
    pub(super) fn push(&mut self, framed: Bytes, guards: Guards) {
        self.shrink(guards);
        let len = framed.len();
        self.sent += 1;
        if self.waiting.is_none() && self.has_room(guards) {
            self.fresh_bytes += len;
        } else {
            self.waiting.get_or_insert(Waiting { from: self.sent, bytes: 0 }).bytes += len;
        }
        self.held_bytes += len;
        self.held.push_back(framed);
    }

    /// Lets the waiting message go, whatever the limits say.
    pub(super) fn release(&mut self) {
        self.fresh_bytes += self.waiting.take().map_or(0, |waiting| waiting.bytes);
    }

    /// Takes an Ack; tells whether the waiting message may now be written.
    pub(super) fn acknowledge(&mut self, number: i64, guards: Guards) -> bool {
        let Ok(number) = u64::try_from(number) else { return false };
        let known = if guards.holds(Guard::AckBeyondWritten) { self.written } else { u64::MAX };
        if number <= self.acknowledged || number > known {
            return false;
        }
        self.forget_fresh(number);
        self.acknowledged = number;
        if number > self.repeated_to || !guards.holds(Guard::RepetitionKept) {
            self.drop_to(number);
        }
        self.shrink(guards);
        self.let_in(guards)
    }

    /// A new socket: all that is kept is to be written again. Gives the number for the Sequence.
    pub(super) fn repeat(&mut self, guards: Guards) -> u64 {
        if guards.holds(Guard::RoomBehindRepetition) {
            self.forget_fresh(self.written);
        }
        self.repeated_to = self.written;
        if guards.holds(Guard::RepeatsFromOldest) {
            self.cursor = self.first;
        }
        self.let_in(guards);
        self.first
    }

    /// The next message to be written, which counts as written with that.
    pub(super) fn next_write(&mut self) -> Option<Bytes> {
        if !self.has_next() {
            return None;
        }
        let framed = match (self.cursor - self.first).checked_sub(self.stubs) {
            None => Bytes::from_static(stub(self.protocol)),
            Some(index) => self.held.get(usize::try_from(index).ok()?)?.clone(),
        };
        self.resent += u64::from(self.cursor <= self.written);
        self.written = self.written.max(self.cursor);
        self.cursor += 1;
        Some(framed)
    }

    /// Whether [`Outbox::next_write`] gives something.
    pub(super) fn has_next(&self) -> bool {
        self.cursor <= self.sent && self.waiting.is_none_or(|waiting| self.cursor < waiting.from)
    }

    fn let_in(&mut self, guards: Guards) -> bool {
        let released = self.waiting.is_some() && self.has_room(guards);
        if released {
            self.release();
        }
        released
    }

    /// Counts the bytes up to `number` as fresh no more.
    fn forget_fresh(&mut self, number: u64) {
        let from = self.acknowledged.max(self.repeated_to) + 1;
        let held_from = self.first + self.stubs;
        let skipped = usize::try_from(from.saturating_sub(held_from)).unwrap_or(usize::MAX);
        let end = usize::try_from((number + 1).saturating_sub(held_from)).unwrap_or(usize::MAX);
        let forgotten: usize = self.held.iter().take(end).skip(skipped).map(Bytes::len).sum();
        self.fresh_bytes = self.fresh_bytes.saturating_sub(forgotten);
    }

    fn drop_to(&mut self, number: u64) {
        while self.first <= number && self.first <= self.sent {
            if self.stubs > 0 {
                self.stubs -= 1;
                self.held_bytes -= stub(self.protocol).len();
            } else {
                self.held_bytes -= self.held.pop_front().map_or(0, |framed| framed.len());
            }
            self.first += 1;
        }
        self.cursor = self.cursor.max(self.first);
    }

    /// Takes the bytes of the oldest acknowledged messages away while there are too many: the peer, which has them,
    /// will count and drop whatever is written with their numbers.
    fn shrink(&mut self, guards: Guards) {
        let stub_len = stub(self.protocol).len();
        let to = if guards.holds(Guard::StubsOfAcknowledged) { self.acknowledged } else { self.written };
        while self.held_bytes > self.held_bytes_max && self.first + self.stubs <= to && guards.holds(Guard::HeldAsStubs)
        {
            let Some(framed) = self.held.pop_front() else { return };
            self.held_bytes = self.held_bytes - framed.len() + stub_len;
            self.stubs += 1;
        }
    }
}

/// A counted message without effect: the end of an invocation that nobody made.
pub(super) const fn stub(protocol: HubProtocol) -> &'static [u8] {
    match protocol {
        HubProtocol::Json => b"{\"type\":3,\"invocationId\":\"-\"}\x1e",
        HubProtocol::MessagePack => b"\x06\x94\x03\x80\xa1-\x02",
    }
}
