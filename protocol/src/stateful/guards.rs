//! The rules that keep messages from being lost, doubled or shifted, each of which tests can take out.
//!
//! A rule whose absence no test notices is not tested. So the histories run with every guard taken out in turn and
//! must fail each time (docs/spec-notes/stateful-reconnect.md has the table).
//!
//! Invariant: without the feature `mutants`, which only this crate's own tests and examples switch on, every guard
//! holds and costs nothing.

/// One rule that can be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(
    not(any(test, feature = "mutants")),
    expect(dead_code, unreachable_pub, reason = "only tests name guards to take them out")
)]
pub enum Guard {
    /// An Ack beyond what was written changes nothing (signalr-wire §12.9).
    AckBeyondWritten,
    /// Repeated messages stay until a number beyond the repetition is acknowledged (rule I2, sender).
    RepetitionKept,
    /// Messages that were repeated do not count as unacknowledged: a peer that does not repeat a lost Ack (.NET)
    /// would else never be sent another message (signalr-wire §12.4).
    RoomBehindRepetition,
    /// Acknowledged messages that are kept for rule I2 give up their bytes when there are too many.
    HeldAsStubs,
    /// … but no others, which the peer may lack.
    StubsOfAcknowledged,
    /// A new socket starts with Sequence (signalr-wire §12.6).
    SequenceFirst,
    /// A new socket repeats from the oldest message (signalr-wire §12.6).
    RepeatsFromOldest,
    /// Counted messages wait for the peer's first message (rule I3).
    FirstMessageWait,
    /// … but a second at most: not every client pings (rule I3).
    FirstMessageWaitEnds,
    /// A message behind too many unacknowledged bytes waits (signalr-wire §12.5).
    UnacknowledgedLimit,
    /// A message behind too many kept bytes waits.
    HeldLimit,
    /// A message that waited too long ends the connection (rule I4).
    OverflowTold,
    /// Pings are not counted (signalr-wire §12.2).
    PingUncounted,
    /// Pings of the gap are not delivered later (signalr-wire §12.6).
    PingDroppedInGap,
    /// Ack and Sequence of the other side are not passed on: they would be taken for ours.
    ForeignAckDropped,
    /// A Close follows all that was sent.
    CloseInOrder,
    /// The Close of an overflow goes past what is buffered (signalr-wire §12.9).
    CloseOfOverflowFirst,
    /// After Close or an end nothing resumes (signalr-wire §12.9).
    EndIsForGood,
    /// The peer's Sequence is at most `max(next, latest + 1)` (rule I2, receiver): not unbounded.
    SequenceBounded,
    /// … nor bounded by `next` alone, as the reference does (signalr-wire §12.9).
    SequenceBeyondNext,
    /// Sequence below 1 is refused (signalr-wire §12.9).
    SequenceBelowOne,
    /// A number not above the latest is a duplicate and dropped (signalr-wire §12.4).
    DuplicateDropped,
    /// Duplicates are counted (signalr-wire §12.4).
    DuplicateCounted,
    /// Duplicates are acknowledged again: the Ack before may be lost (signalr-wire §12.4).
    DuplicateAcknowledged,
    /// On a new socket nothing is counted before the peer's Sequence.
    NothingBeforeSequence,
    /// An Ack goes out a second after the first message (signalr-wire §12.4).
    AckInTime,
    /// An Ack goes out at once after many bytes.
    AckAfterBytes,
    /// Resumes are bounded per second (rule A7).
    ResumeRate,
    /// The connection is over when no socket comes in time (signalr-wire §12.6).
    Window,
    /// The other side is kept alive in the gap (rule I4).
    PingInGap,
    /// … but not for a peer that never did so itself (rule I4).
    PingInGapIfPinged,
}

#[cfg(any(test, feature = "mutants"))]
impl Guard {
    /// Every guard.
    pub const ALL: [Self; 31] = [
        Self::AckBeyondWritten,
        Self::RepetitionKept,
        Self::RoomBehindRepetition,
        Self::HeldAsStubs,
        Self::StubsOfAcknowledged,
        Self::SequenceFirst,
        Self::RepeatsFromOldest,
        Self::FirstMessageWait,
        Self::FirstMessageWaitEnds,
        Self::UnacknowledgedLimit,
        Self::HeldLimit,
        Self::OverflowTold,
        Self::PingUncounted,
        Self::PingDroppedInGap,
        Self::ForeignAckDropped,
        Self::CloseInOrder,
        Self::CloseOfOverflowFirst,
        Self::EndIsForGood,
        Self::SequenceBounded,
        Self::SequenceBeyondNext,
        Self::SequenceBelowOne,
        Self::DuplicateDropped,
        Self::DuplicateCounted,
        Self::DuplicateAcknowledged,
        Self::NothingBeforeSequence,
        Self::AckInTime,
        Self::AckAfterBytes,
        Self::ResumeRate,
        Self::Window,
        Self::PingInGap,
        Self::PingInGapIfPinged,
    ];
}

/// Which guards were taken out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Guards {
    #[cfg(any(test, feature = "mutants"))]
    taken_out: u32,
}

impl Guards {
    #[cfg(any(test, feature = "mutants"))]
    pub(super) fn take_out(&mut self, guard: Guard) {
        self.taken_out |= 1 << guard as u8;
    }

    #[cfg(any(test, feature = "mutants"))]
    pub(super) const fn holds(self, guard: Guard) -> bool {
        self.taken_out & (1 << guard as u8) == 0
    }

    #[cfg(not(any(test, feature = "mutants")))]
    #[expect(clippy::unused_self, reason = "has no field in the shipped build")]
    pub(super) const fn holds(self, _: Guard) -> bool {
        true
    }
}
