//! The limits and times of one end of a stateful connection.

use core::time::Duration;

use crate::limits;

/// What an [`Endpoint`](super::Endpoint) is told at its start. `Duration::MAX` switches a time off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes of unacknowledged messages, framing included, behind which the next message still passes: a message
    /// behind more than these waits for an Ack (signalr-wire §12.5).
    pub unacknowledged_bytes_max: usize,
    /// The same for all bytes kept, the repetition that rule I2 keeps though acknowledged included.
    pub held_bytes_max: usize,
    /// Time for which a message may wait for room, in the gap too; then the connection is over (rule I4).
    pub overflow_wait: Duration,
    /// Time without a socket after which the connection is over (signalr-wire §12.6).
    pub window: Duration,
    /// Time from the first message since the last Ack, a duplicate too, to the next Ack (signalr-wire §12.4).
    pub ack_after: Duration,
    /// Bytes received since the last Ack at which the next one goes out at once, so that the peer's buffer, 100,000
    /// bytes by default, does not fill before the time.
    pub ack_after_bytes: usize,
    /// Time from the start for which counted messages wait for the peer's first message (rule I3). Zero: they do not.
    pub first_message_wait: Duration,
    /// Time between the Pings that the other side is told in the gap, if the peer ever pinged (rule I4).
    pub ping_in_gap: Duration,
    /// Resumes granted per second, twice as many at once after two quiet seconds (rule A7). Zero: none.
    pub resumes_per_second_max: u32,
}

impl Config {
    /// A hub's or gateway's end.
    #[must_use]
    pub const fn server() -> Self {
        Self {
            unacknowledged_bytes_max: limits::UNACKNOWLEDGED_BYTES_MAX_DEFAULT,
            held_bytes_max: limits::HELD_BYTES_MAX_DEFAULT,
            overflow_wait: limits::OVERFLOW_WAIT_DEFAULT,
            window: limits::RESUME_WINDOW_DEFAULT,
            ack_after: Duration::from_secs(1),
            ack_after_bytes: 32 * 1024,
            first_message_wait: Duration::from_secs(1),
            ping_in_gap: limits::KEEP_ALIVE_INTERVAL_DEFAULT,
            resumes_per_second_max: limits::RESUMES_PER_SECOND_MAX_DEFAULT,
        }
    }

    /// A client's end: as a server's, but nothing waits for the peer's first message, the other side (the
    /// application) needs no Pings, and resumes are its own.
    #[must_use]
    pub const fn client() -> Self {
        Self {
            first_message_wait: Duration::ZERO,
            ping_in_gap: Duration::MAX,
            resumes_per_second_max: u32::MAX,
            ..Self::server()
        }
    }
}
