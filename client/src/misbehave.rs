//! Doing what no client should: for tests of servers and gateways.

use bytes::Bytes;

use crate::connection::HubConnection;
use crate::error::ClientError;
use crate::task::Command;

/// A WebSocket frame, written as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A Text message in one frame; the payload need not be UTF-8.
    Text(Bytes),
    /// A Binary message in one frame.
    Binary(Bytes),
    /// A part of a message, in the frame type of the hub protocol.
    Fragment {
        /// Its bytes.
        payload: Bytes,
        /// Begins the message.
        first: bool,
        /// Ends the message.
        last: bool,
    },
    /// A ping, at most 125 bytes.
    Ping(Bytes),
    /// A pong, at most 125 bytes.
    Pong(Bytes),
    /// A close frame; nothing may follow.
    Close {
        /// Its code.
        code: u16,
        /// Its reason, at most 123 bytes.
        reason: String,
    },
}

impl Frame {
    /// What a transport without frames sends for it.
    pub(crate) fn into_payload(self) -> Bytes {
        match self {
            Self::Text(payload) | Self::Binary(payload) | Self::Fragment { payload, .. } => payload,
            Self::Ping(_) | Self::Pong(_) | Self::Close { .. } => Bytes::new(),
        }
    }
}

/// The misbehaviours of a connection; see [`HubConnection::misbehave`].
#[derive(Debug)]
pub struct Misbehave<'a>(pub(crate) &'a HubConnection);

impl Misbehave<'_> {
    /// Sends bytes of the hub stream as they are: broken messages, unknown types, half a record.
    ///
    /// # Errors
    /// [`ClientError::NotConnected`].
    pub async fn send_bytes(&self, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        self.0.command(Command::Bytes(bytes.into())).await
    }

    /// Sends a WebSocket frame as it is; on other transports its payload. A Close closes a WebTransport session with its
    /// code.
    ///
    /// # Errors
    /// [`ClientError::NotConnected`].
    pub async fn send_frame(&self, frame: Frame) -> Result<(), ClientError> {
        self.0.command(Command::Frame(frame)).await
    }

    /// Drops the transport without a word, a WebSocket by a TCP reset, a WebTransport session by a reset of its stream.
    /// Automatic reconnect follows, if it is on.
    ///
    /// # Errors
    /// [`ClientError::NotConnected`].
    pub async fn cut(&self) -> Result<(), ClientError> {
        self.0.command(Command::Cut).await
    }

    /// Stops or resumes reading from the server.
    ///
    /// # Errors
    /// [`ClientError::NotConnected`].
    pub async fn stop_reading(&self, stop: bool) -> Result<(), ClientError> {
        self.0.command(Command::StopReading(stop)).await
    }
}
