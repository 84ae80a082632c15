//! The transports behind one shape: bytes are queued, [`Transport::drive`] moves them and gives what arrives.
//!
//! Invariant: `drive` can be dropped at any time without losing a byte; queued bytes go out in order.

use bytes::Bytes;

use crate::misbehave::Frame;
use long_polling::LongPolling;
use server_sent_events::ServerSentEvents;
use web_sockets::WebSockets;
use web_transport::WebTransport;

pub(crate) mod long_polling;
mod poster;
pub(crate) mod server_sent_events;
pub(crate) mod web_sockets;
pub(crate) mod web_transport;

/// What a transport tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes from the server.
    Received(Bytes),
    /// The transport is over, with an error or without.
    Ended(Option<String>),
}

/// An open transport.
#[derive(Debug)]
#[allow(clippy::enum_variant_names, reason = "SignalR's own names")]
pub(crate) enum Transport {
    WebSockets(Box<WebSockets>),
    ServerSentEvents(Box<ServerSentEvents>),
    LongPolling(Box<LongPolling>),
    WebTransport(Box<WebTransport>),
}

impl Transport {
    /// Queues whole hub messages, to be sent together.
    pub(crate) fn queue(&mut self, messages: Bytes) {
        match self {
            Self::WebSockets(transport) => transport.queue(messages),
            Self::ServerSentEvents(transport) => transport.queue(&messages),
            Self::LongPolling(transport) => transport.queue(&messages),
            Self::WebTransport(transport) => transport.queue(messages),
        }
    }

    /// Queues a frame as it is; on other transports than WebSockets its payload, or the close of a WebTransport session.
    pub(crate) fn queue_frame(&mut self, frame: Frame) {
        match self {
            Self::WebSockets(transport) => transport.queue_frame(frame),
            Self::ServerSentEvents(transport) => transport.queue(&frame.into_payload()),
            Self::LongPolling(transport) => transport.queue(&frame.into_payload()),
            Self::WebTransport(transport) => transport.queue_frame(frame),
        }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn queued_bytes(&self) -> usize {
        match self {
            Self::WebSockets(transport) => transport.queued_bytes(),
            Self::ServerSentEvents(transport) => transport.queued_bytes(),
            Self::LongPolling(transport) => transport.queued_bytes(),
            Self::WebTransport(transport) => transport.queued_bytes(),
        }
    }

    /// Sends what is queued and waits for what comes. With `read` false nothing is taken from the server. Returns as well
    /// when the queue has become shorter, with `None`.
    pub(crate) async fn drive(&mut self, read: bool) -> Option<Event> {
        match self {
            Self::WebSockets(transport) => transport.drive(read).await,
            Self::ServerSentEvents(transport) => transport.drive(read).await,
            Self::LongPolling(transport) => transport.drive(read).await,
            Self::WebTransport(transport) => transport.drive(read).await,
        }
    }

    /// Sends what is queued, then ends in the transport's orderly way.
    pub(crate) async fn stop(self) {
        match self {
            Self::WebSockets(transport) => transport.stop().await,
            Self::ServerSentEvents(transport) => transport.stop().await,
            Self::LongPolling(transport) => transport.stop().await,
            Self::WebTransport(transport) => transport.stop().await,
        }
    }

    /// Ends without a word; a socket by a TCP reset, a session by a reset of its stream.
    pub(crate) fn cut(self) {
        match self {
            Self::WebSockets(transport) => transport.cut(),
            Self::WebTransport(transport) => transport.cut(),
            Self::ServerSentEvents(_) | Self::LongPolling(_) => {}
        }
    }
}
