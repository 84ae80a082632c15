//! The client against the embedded hub: calls, streams, client results, reconnect, misbehaviour; and through the gateway, which adds
//! the transports that the embedded hub has not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod calls;
mod lifecycle;
mod support;
mod through_gateway;
mod web_transport;
