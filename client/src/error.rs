//! Why something did not work, in the words of the official clients where they have any.

use hubgate_protocol::negotiate::ResponseError;

use crate::http_client::HttpError;

/// An error of the client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not an absolute `http`, `https`, `ws` or `wss` one.
    #[error("not an absolute http(s) URL: {0}")]
    Url(String),
    /// A header or a token holds characters that no header may hold.
    #[error("not a header: {0}")]
    Header(String),
    /// No certificate authorities to trust.
    #[error("no trusted certificate authorities")]
    NoAuthorities,
    /// The negotiate request was answered with another status than 200.
    #[error("Failed to complete negotiation with the server: {body}: Status code '{status}'")]
    NegotiateStatus {
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        body: String,
    },
    /// The server refused in its negotiate answer.
    #[error("{0}")]
    NegotiateRefused(String),
    /// The negotiate answer cannot be used.
    #[error("Invalid negotiation response received. {0}")]
    NegotiateAnswer(#[from] ResponseError),
    /// More than 100 redirects.
    #[error("Negotiate redirection limit exceeded.")]
    Redirects,
    /// Negotiation is skipped, but other transports than WebSockets are allowed.
    #[error("Negotiation can only be skipped when using the WebSocket transport directly.")]
    SkipNegotiation,
    /// None of the server's transports is allowed here, or carries the protocol.
    #[error("None of the transports supported by the client are supported by the server.")]
    NoTransport,
    /// Every transport failed; what each said.
    #[error("Unable to connect to the server with any of the available transports. {0}")]
    Transports(String),
    /// A request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The transport failed.
    #[error("{0}")]
    Transport(String),
    /// The server refused the handshake.
    #[error("Server returned handshake error: {0}")]
    HandshakeRefused(String),
    /// The handshake did not come to an end.
    #[error("The underlying connection was closed before the hub handshake could complete.")]
    HandshakeLost,
    /// The connection is started already.
    #[error("Cannot start a HubConnection that is not in the 'Disconnected' state.")]
    NotDisconnected,
    /// Nothing can be sent now.
    #[error("Cannot send data if the connection is not in the 'Connected' State.")]
    NotConnected,
    /// The hub's own error text.
    #[error("{0}")]
    Invocation(String),
    /// The connection ended before the answer came.
    #[error("Invocation canceled due to the underlying connection being closed.")]
    Canceled,
    /// The server closed the connection with an error.
    #[error("Server returned an error on close: {0}")]
    ServerClosed(String),
    /// The server was silent for too long.
    #[error("Server timeout elapsed without receiving a message from the server.")]
    ServerTimeout,
    /// The server sent what is no hub message.
    #[error("the server violated the hub protocol: {0}")]
    Protocol(String),
    /// Arguments, an item or a result cannot be written.
    #[error("cannot serialize: {0}")]
    Serialize(String),
    /// A result or an item is of another type.
    #[error("cannot deserialize: {0}")]
    Deserialize(String),
}
