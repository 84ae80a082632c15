//! Cases that decide whether a SignalR server speaks the protocol.
