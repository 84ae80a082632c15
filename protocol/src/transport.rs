//! The transports and what they can carry, by the names used in negotiate answers.
//!
//! Invariant: the order of [`Transport::ALL`] is the order in which a server offers them (signalr-wire §3.2).
//! [`Transport::WebTransport`] is not among them: it is offered to those alone who ask for it (rule H2).

use core::fmt;

/// What a transport carries or a hub protocol needs: text only, or any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferFormat {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

impl TransferFormat {
    /// The name in a negotiate answer.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::Binary => "Binary",
        }
    }

    /// Reads the name in a negotiate answer; letter case counts (signalr-wire §3.5).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Text, Self::Binary].into_iter().find(|format| format.name() == name)
    }
}

/// A transport of ASP.NET Core SignalR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// One WebSocket for both directions.
    WebSockets,
    /// An event stream to the client, POSTs to the server.
    ServerSentEvents,
    /// Polls to the client, POSTs to the server.
    LongPolling,
    /// One stream of a WebTransport session for both directions; no ASP.NET Core server has it, a gateway may.
    WebTransport,
}

impl Transport {
    /// Those of ASP.NET Core, in the order of a negotiate answer.
    pub const ALL: [Self; 3] = [Self::WebSockets, Self::ServerSentEvents, Self::LongPolling];

    /// The name in a negotiate answer.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSockets => "WebSockets",
            Self::ServerSentEvents => "ServerSentEvents",
            Self::LongPolling => "LongPolling",
            Self::WebTransport => "WebTransport",
        }
    }

    /// Reads the name in a negotiate answer; letter case counts (signalr-wire §3.5).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::WebTransport]).find(|transport| transport.name() == name)
    }

    /// What it carries, in the order of a negotiate answer.
    #[must_use]
    pub const fn transfer_formats(self) -> &'static [TransferFormat] {
        match self {
            Self::WebSockets | Self::LongPolling | Self::WebTransport => {
                &[TransferFormat::Text, TransferFormat::Binary]
            }
            Self::ServerSentEvents => &[TransferFormat::Text],
        }
    }

    /// Whether it carries `format`.
    #[must_use]
    pub fn carries(self, format: TransferFormat) -> bool {
        self.transfer_formats().contains(&format)
    }

    /// Whether the transport keeps itself alive, so that no hub Pings are sent on it (signalr-wire §5.4).
    #[must_use]
    pub const fn has_inherent_keep_alive(self) -> bool {
        matches!(self, Self::LongPolling)
    }
}

impl fmt::Display for TransferFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_with_letter_case() {
        for transport in Transport::ALL {
            assert_eq!(Transport::from_name(transport.name()), Some(transport));
        }
        assert_eq!(Transport::from_name("WebTransport"), Some(Transport::WebTransport));
        assert_eq!(Transport::from_name("websockets"), None);
        assert_eq!(TransferFormat::from_name("text"), None);
        assert!(!Transport::ServerSentEvents.carries(TransferFormat::Binary));
    }
}
