//! The receiver's half: which number a message has, whether it is a duplicate, when an Ack is due.
//!
//! Invariant: `latest` only rises, by one; so every message is delivered once and in order, and an Ack never names
//! a message that was not received.

use core::time::Duration;

use super::config::Config;
use super::guards::{Guard, Guards};
use super::{Error, Received};

#[derive(Debug)]
pub(super) struct Inbox {
    ack_after: Duration,
    ack_after_bytes: usize,
    /// The number that the next counted message has.
    next: u64,
    /// Highest number delivered.
    latest: u64,
    /// A new socket's Sequence has not come yet.
    expects_sequence: bool,
    /// When the next Ack is due; zero: at once.
    ack_due: Option<Duration>,
    /// Bytes of counted messages since the last Ack.
    bytes: usize,
    /// The number last acknowledged.
    acknowledged: u64,
    duplicates: u64,
}

impl Inbox {
    pub(super) const fn new(config: &Config) -> Self {
        Self {
            ack_after: config.ack_after,
            ack_after_bytes: config.ack_after_bytes,
            next: 1,
            latest: 0,
            expects_sequence: false,
            ack_due: None,
            bytes: 0,
            acknowledged: 0,
            duplicates: 0,
        }
    }

    pub(super) const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// When an Ack will be due; `None` too when one is already.
    pub(super) fn ack_due(&self) -> Option<Duration> {
        self.ack_due.filter(|due| !due.is_zero())
    }

    /// Notes the time: an Ack that fell due stays so, whenever it can be written.
    pub(super) fn timer(&mut self, now: Duration) {
        if self.ack_due.is_some_and(|due| due <= now) {
            self.ack_due = Some(Duration::ZERO);
        }
    }

    /// A new socket: numbers are unknown until the peer's Sequence.
    pub(super) const fn resumed(&mut self) {
        self.expects_sequence = true;
    }

    pub(super) fn counted(&mut self, len: usize, now: Duration, guards: Guards) -> Received {
        if self.expects_sequence && guards.holds(Guard::NothingBeforeSequence) {
            return Received::Consumed;
        }
        let duplicate = self.next <= self.latest && guards.holds(Guard::DuplicateDropped);
        if duplicate {
            self.duplicates += 1;
            self.next += u64::from(guards.holds(Guard::DuplicateCounted));
        } else {
            self.latest = self.latest.max(self.next);
            self.next += 1;
        }
        self.bytes = self.bytes.saturating_add(len);
        if !duplicate || self.latest > self.acknowledged || guards.holds(Guard::DuplicateAcknowledged) {
            self.want_ack(now, guards);
        }
        if duplicate { Received::Duplicate } else { Received::Deliver }
    }

    pub(super) fn sequence(&mut self, sequence_id: i64, guards: Guards) -> Result<(), Error> {
        if sequence_id < 1 && guards.holds(Guard::SequenceBelowOne) {
            return Err(Error::SequenceTooLow { sequence_id });
        }
        let highest = match guards.holds(Guard::SequenceBeyondNext) {
            true => self.next.max(self.latest + 1),
            false => self.next,
        };
        let next = u64::try_from(sequence_id).unwrap_or_default();
        if next > highest && guards.holds(Guard::SequenceBounded) {
            return Err(Error::SequenceTooHigh { sequence_id, highest });
        }
        self.next = next;
        self.expects_sequence = false;
        Ok(())
    }

    /// The number of the Ack that is due.
    pub(super) fn take_ack(&mut self, now: Duration) -> Option<i64> {
        self.ack_due.filter(|due| *due <= now)?;
        self.ack_due = None;
        self.bytes = 0;
        self.acknowledged = self.latest;
        i64::try_from(self.latest).ok()
    }

    fn want_ack(&mut self, now: Duration, guards: Guards) {
        if self.bytes >= self.ack_after_bytes && guards.holds(Guard::AckAfterBytes) {
            self.ack_due = Some(Duration::ZERO);
        } else if self.ack_due.is_none() && guards.holds(Guard::AckInTime) {
            self.ack_due = Some(now.saturating_add(self.ack_after));
        }
    }
}
