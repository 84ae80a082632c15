//! SignalR's wire protocols as plain values: no I/O, no clock, no randomness.
//!
//! In reading order:
//!
//! * [`message`] — the nine hub messages, the two hub protocols, the transports. Payloads stay raw bytes.
//! * [`framing`] — where one message ends in a byte stream (0x1E records, VarInt lengths).
//! * [`json`], [`messagepack`] — envelopes to [`message::HubMessage`] and back; [`peek`] reads only the type.
//! * [`handshake`], [`negotiate`], [`query`] — what precedes hub messages.
//! * [`long_polling`] — the rules of polls, and the client's half as a state machine.
//! * [`websocket`], [`sse`] — the frames of these transports, as pure codecs.
//! * [`session`] — handshake, keep-alive, time-outs and close of one connection, in virtual time.
//! * [`stateful`] — what lets a connection outlive its sockets: numbers, Acks, repetition.
//! * [`transcode`] — messages of one hub protocol to the other.
//! * [`limits`] — the bound of every buffer; [`secret`] — text that never shows in logs.
//!
//! Invariant (architecture A1): nothing here does I/O, reads a clock, draws random numbers or spawns. State
//! machines take `(input, now)` and give outputs, where `now` is a [`core::time::Duration`] since any fixed origin.

pub mod error;
pub mod framing;
pub mod handshake;
pub mod json;
pub mod limits;
pub mod long_polling;
pub mod message;
pub mod messagepack;
pub mod negotiate;
pub mod peek;
pub mod query;
pub mod secret;
pub mod session;
pub mod sse;
pub mod stateful;
pub mod transcode;
pub mod transport;
pub mod websocket;

pub use error::ParseError;
pub use message::{HubMessage, HubProtocol, Incoming};
pub use secret::Secret;
pub use transport::{TransferFormat, Transport};
