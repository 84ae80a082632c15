//! What a session is told at its start. The defaults are ASP.NET Core's (signalr-wire §1.1).

use core::time::Duration;

use crate::limits;
use crate::message::HubProtocol;

/// A hub's end. `Duration::MAX` switches a time-out or the pings off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The protocols that the hub speaks.
    pub protocols: Vec<HubProtocol>,
    /// Whether the transport carries binary data: false for Server-Sent Events.
    pub carries_binary: bool,
    /// Whether the transport keeps itself alive, so that no Pings are sent: true for long polling.
    pub has_inherent_keep_alive: bool,
    /// Bound of one message, in bytes, framing included; also of the handshake request.
    pub message_bytes_max: usize,
    /// Whether error texts tell their cause.
    pub detailed_errors: bool,
    /// Time for the handshake request, from the transport's attaching.
    pub handshake_timeout: Duration,
    /// Time between Pings.
    pub keep_alive_interval: Duration,
    /// Silence after which the client is given up; runs only once it has pinged.
    pub client_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            protocols: vec![HubProtocol::Json, HubProtocol::MessagePack],
            carries_binary: true,
            has_inherent_keep_alive: false,
            message_bytes_max: limits::HUB_MESSAGE_BYTES_MAX_DEFAULT,
            detailed_errors: false,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT_DEFAULT,
            keep_alive_interval: limits::KEEP_ALIVE_INTERVAL_DEFAULT,
            client_timeout: limits::TIMEOUT_DEFAULT,
        }
    }
}

/// A client's end. `Duration::MAX` switches a time-out or the pings off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// The protocol to ask for.
    pub protocol: HubProtocol,
    /// Its version: 1, or 2 when negotiate granted stateful reconnect.
    pub version: i32,
    /// Whether the transport keeps itself alive: neither Pings nor a server time-out then.
    pub has_inherent_keep_alive: bool,
    /// Bound of one message, in bytes, framing included. The official clients have none.
    pub message_bytes_max: usize,
    /// Time for the handshake response.
    pub handshake_timeout: Duration,
    /// Time from the last sending to a Ping.
    pub keep_alive_interval: Duration,
    /// Silence after which the server is given up.
    pub server_timeout: Duration,
}

impl ClientConfig {
    /// A client of that protocol, version 1, with the official clients' times and messages up to 16 MiB.
    #[must_use]
    pub const fn new(protocol: HubProtocol) -> Self {
        Self {
            protocol,
            version: 1,
            has_inherent_keep_alive: false,
            message_bytes_max: 16 * 1024 * 1024,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT_DEFAULT,
            keep_alive_interval: limits::KEEP_ALIVE_INTERVAL_DEFAULT,
            server_timeout: limits::TIMEOUT_DEFAULT,
        }
    }
}
