//! The bound of everything a peer can make grow.
//!
//! Defaults are ASP.NET Core's (signalr-wire §1.1); what ASP.NET bounds only through the message size has a
//! number here that no message of the default size can reach.

use core::time::Duration;

/// Largest message a hub accepts by default, in bytes, separator or length prefix included (signalr-wire §10.9).
pub const HUB_MESSAGE_BYTES_MAX_DEFAULT: usize = 32_768;

/// Largest handshake request, in bytes, separator included: the hub's message limit (signalr-wire §6.2).
pub const HANDSHAKE_BYTES_MAX: usize = 32_768;

/// Largest negotiate answer that is read, in bytes (edge-rules B5).
pub const NEGOTIATE_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Deepest JSON nesting, in containers, counted from the envelope (signalr-wire §8.3).
pub const NESTING_MAX: usize = 64;

/// Longest VarInt length prefix, in bytes (signalr-wire §9.1).
pub const VARINT_BYTES_MAX: usize = 5;

/// Longest body that a VarInt length prefix can announce, in bytes (signalr-wire §9.1).
pub const MESSAGEPACK_BODY_BYTES_MAX: usize = 0x7FFF_FFFF;

/// Most headers of one message: what fits into the default message size, at 4 bytes a pair.
pub const HEADERS_MAX: usize = 8_192;

/// Most stream ids of one message: what fits into the default message size, at 2 bytes each.
pub const STREAM_IDS_MAX: usize = 16_384;

/// Most transports of one negotiate answer, and most formats of one transport.
pub const TRANSPORTS_MAX: usize = 32;

/// Most negotiate requests that one start follows by redirects (signalr-wire §3.4).
pub const REDIRECTS_MAX: usize = 100;

/// Most bytes that a long-polling client queues for POSTs before it refuses more; as the reference's pipe.
pub const POST_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Time a hub waits for the handshake request, and a client for the response.
pub const HANDSHAKE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);

/// Time between two Pings of a hub or a client.
pub const KEEP_ALIVE_INTERVAL_DEFAULT: Duration = Duration::from_secs(15);

/// Silence after which a hub that was pinged gives its client up, and a client its server.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Time a poll waits for data before it is answered empty.
pub const POLL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(90);

/// Bytes of unacknowledged messages behind which a stateful connection's next message waits (signalr-wire §12.5).
pub const UNACKNOWLEDGED_BYTES_MAX_DEFAULT: usize = 100_000;

/// The same for all bytes that a stateful connection keeps, the acknowledged repetition of rule I2 included.
pub const HELD_BYTES_MAX_DEFAULT: usize = 4 * UNACKNOWLEDGED_BYTES_MAX_DEFAULT;

/// Time for which a message of a stateful connection may wait for room (signalr-wire §12.5, rule I4).
pub const OVERFLOW_WAIT_DEFAULT: Duration = Duration::from_secs(5);

/// Time for which a stateful connection without a socket is kept (signalr-wire §12.6).
pub const RESUME_WINDOW_DEFAULT: Duration = Duration::from_secs(15);

/// Resumes of one stateful connection per second (rule A7); the official clients come 17 to 1,400 times a second.
pub const RESUMES_PER_SECOND_MAX_DEFAULT: u32 = 5;
